//! Keys, servers: who has the key of a B-TID, by the domain in it; who makes push info, by the realm of the subscriber.
//!
//! Takes:   key servers, each with the domains that it makes B-TIDs for; servers of push info, each with the realms of
//!          its subscribers' private identities.
//! Gives:   [`Servers`] and [`PushServers`], which ask the right one.
//! Keeps:   nothing.
//! Refuses: a domain or realm that nobody serves, as one unknown: nobody is asked whom a peer names.
//! Sources: TS 33.220 clause 4.5.2 (B-TID); TS 23.003 clause 13.3 (private identity); threat V-93.

use std::fmt;
use std::sync::Arc;

use super::push::{AskingPush, PushAnswer, PushRequest, PushServer};
use super::{Asking, KeyAnswer, KeyServer, NafId, Rand};
use crate::identity::Btid;
use crate::instant::Now;

/// Key servers by the domain of their B-TIDs.
#[derive(Clone)]
pub struct Servers(Vec<(Arc<str>, Arc<dyn KeyServer>)>);

impl Servers {
    /// These; `None` if there is none.
    pub fn new(domains: Vec<(Arc<str>, Arc<dyn KeyServer>)>) -> Option<Self> {
        (!domains.is_empty()).then_some(Self(domains))
    }
}

impl KeyServer for Servers {
    fn ask<'a>(&'a self, btid: &'a Btid, naf: &'a NafId, now: Now) -> Asking<'a> {
        let serves = |(domain, _): &&(Arc<str>, _)| domain.eq_ignore_ascii_case(btid.bsf());
        match self.0.iter().find(serves) {
            Some((_, server)) => server.ask(btid, naf, now),
            None => Box::pin(std::future::ready(KeyAnswer::Unknown)),
        }
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(domain, _)| domain)).finish()
    }
}

/// Servers of push info by the realm of the subscriber.
#[derive(Clone, Default)]
pub struct PushServers {
    realms: Vec<(Arc<str>, Arc<dyn PushServer>)>,
    /// Of all other realms.
    own: Option<Arc<dyn PushServer>>,
}

impl PushServers {
    /// These, and for all other realms `own`; `None` if there is none.
    pub fn new(
        realms: Vec<(Arc<str>, Arc<dyn PushServer>)>,
        own: Option<Arc<dyn PushServer>>,
    ) -> Option<Self> {
        (own.is_some() || !realms.is_empty()).then_some(Self { realms, own })
    }
}

impl PushServer for PushServers {
    fn ask_push<'a>(&'a self, asked: &'a PushRequest, rand: Rand, now: Now) -> AskingPush<'a> {
        let realm = asked.impi.as_str().rsplit_once('@').map(|(_, realm)| realm);
        let serves =
            |(own, _): &&(Arc<str>, _)| realm.is_some_and(|realm| own.eq_ignore_ascii_case(realm));
        let named = self.realms.iter().find(serves).map(|(_, server)| server);
        match named.or(self.own.as_ref()) {
            Some(server) => server.ask_push(asked, rand, now),
            None => Box::pin(std::future::ready(PushAnswer::Unknown)),
        }
    }
}

impl fmt::Debug for PushServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.realms.iter().map(|(realm, _)| realm)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::UaId;
    use super::super::push::PushSource;
    use super::*;
    use crate::identity::{Impi, Ptid};
    use crate::instant::{Instant, WallTime};

    /// One that answers always the same.
    struct Says(PushAnswer);

    impl PushSource for Says {
        fn push_info(&self, _: &PushRequest, _: Rand, _: Now) -> PushAnswer {
            self.0.clone()
        }
    }

    /// What becomes of a question for that subscriber.
    fn said(servers: &PushServers, impi: &str) -> &'static str {
        let now = Now { mono: Instant::from_micros(0), wall: WallTime::from_unix(0) };
        let asked = PushRequest {
            impi: Impi::new(impi).unwrap(),
            naf: NafId::new("naf.example.net", UaId::PUSH_LAYER),
            ptid: Ptid::new("p").unwrap(),
            expires: now.wall,
            resync: None,
        };
        let mut asking = servers.ask_push(&asked, Rand([0; 16]), now);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match asking.as_mut().poll(&mut context) {
            std::task::Poll::Ready(PushAnswer::Forbidden) => "of the realm",
            std::task::Poll::Ready(PushAnswer::AutsWrong) => "our own",
            std::task::Poll::Ready(PushAnswer::Unknown) => "nobody",
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_server_of_the_realm_is_asked_and_no_other() {
        let there: Vec<(Arc<str>, Arc<dyn PushServer>)> =
            vec![("ims.home.example".into(), Arc::new(Says(PushAnswer::Forbidden)))];
        let own = || Some(Arc::new(Says(PushAnswer::AutsWrong)) as Arc<dyn PushServer>);
        let (alone, both) = (PushServers::new(there.clone(), None), PushServers::new(there, own()));
        for (impi, of_alone, of_both) in [
            ("alice@ims.home.example", "of the realm", "of the realm"),
            ("alice@IMS.Home.example", "of the realm", "of the realm"),
            ("ims.home.example@ims.example.net", "nobody", "our own"),
            ("alice@sub.ims.home.example", "nobody", "our own"),
            ("alice", "nobody", "our own"),
        ] {
            assert_eq!(said(alone.as_ref().unwrap(), impi), of_alone, "{impi}");
            assert_eq!(said(both.as_ref().unwrap(), impi), of_both, "{impi}");
        }
        assert!(PushServers::new(Vec::new(), None).is_none());
    }
}
