//! Keys, Diameter, sources: key servers and homes of others, in the places where ours stand.
//!
//! Takes:   the questions of a NAF and of a bootstrapping server; requests of those that ask us.
//! Gives:   [`ZnSource`], a [`KeyServer`]; [`ZpnSource`], a [`PushServer`]; [`ZhSource`]; [`Desk`], which answers them all.
//! Keeps:   nothing.
//! Refuses: from others, what their entry does not grant.
//! Sources: TS 33.220 clauses 4.5.2 and 4.5.3; TS 33.223; TS 29.109 clauses 4 and 5; threats V-31, V-93, V-139.

use std::collections::HashMap;
use std::sync::Arc;

use super::ask::{Asker, Reply};
use super::base::Local;
use super::codec::{Fault, Message, Printed};
use super::dictionary as known;
use super::door::Serve;
use super::zn::ServiceForm;
use super::{zh, zn, zpn};
use crate::clock;
use crate::identity::Btid;
use crate::instant::Now;
use crate::keys::bootstrap::{Bsf, HomeAnswer, HomeQuestion, NafRefusal, NoPush};
use crate::keys::push::{AskingPush, Profile, PushAnswer, PushRequest, PushServer};
use crate::keys::{Asking, KeyAnswer, KeyServer, NafId, Rand};

/// Asks, and waits for the answer; `None` if there is none.
async fn told(asker: &Asker, question: Printed) -> Option<Printed> {
    let (tell, told) = tokio::sync::oneshot::channel();
    // Whoever asked may be gone.
    asker.ask(question, Reply::to(move |answer| drop(tell.send(answer))));
    told.await.ok().flatten()
}

/// A realm that is asked for keys.
#[derive(Clone, Debug)]
pub struct ZnSource {
    /// Its name.
    pub realm: Arc<str>,
    /// Who asks there.
    pub asker: Asker,
    /// Services whose settings are asked for.
    pub services: Vec<u32>,
}

impl ZnSource {
    async fn key(&self, btid: &Btid, naf: &NafId) -> KeyAnswer {
        let question = zn::Question {
            session: self.asker.session(),
            realm: Arc::clone(&self.realm),
            host: None,
            btid: btid.clone(),
            naf: naf.clone(),
            services: self.services.clone(),
            form: ServiceForm::Text,
        };
        let printed = question.print(self.asker.local(), self.asker.end());
        match told(&self.asker, printed).await {
            Some(octets) => question.answer(&octets, clock::now().wall),
            None => KeyAnswer::Unavailable,
        }
    }
}

impl KeyServer for ZnSource {
    fn ask<'a>(&'a self, btid: &'a Btid, naf: &'a NafId, _: Now) -> Asking<'a> {
        Box::pin(self.key(btid, naf))
    }
}

/// A realm that is asked for push info.
#[derive(Clone, Debug)]
pub struct ZpnSource {
    /// Its name.
    pub realm: Arc<str>,
    /// Who asks there.
    pub asker: Asker,
    /// How push info is written down there.
    pub profile: Arc<dyn Profile>,
}

impl ZpnSource {
    /// Asks for a key of an association, and what goes to the UE. The challenge is the server's.
    pub async fn push_info(&self, asked: &PushRequest) -> PushAnswer {
        let question = zpn::Question {
            session: self.asker.session(),
            realm: Arc::clone(&self.realm),
            host: None,
            request: asked.clone(),
        };
        let printed = question.print(self.asker.local(), self.asker.end());
        match told(&self.asker, printed).await {
            Some(octets) => question.answer(&octets, &*self.profile, clock::now().wall),
            None => PushAnswer::Unavailable,
        }
    }
}

impl PushServer for ZpnSource {
    fn ask_push<'a>(&'a self, asked: &'a PushRequest, _: Rand, _: Now) -> AskingPush<'a> {
        Box::pin(self.push_info(asked))
    }
}

/// The home that is asked for vectors.
#[derive(Clone, Debug)]
pub struct ZhSource {
    /// Its realm.
    pub realm: Arc<str>,
    /// Who asks there.
    pub asker: Asker,
}

impl ZhSource {
    /// Asks for a vector.
    pub async fn vector(&self, question: &HomeQuestion) -> HomeAnswer {
        let question = zh::Question {
            session: self.asker.session(),
            realm: Arc::clone(&self.realm),
            impi: question.impi().clone(),
            resync: question.resync,
        };
        let printed = question.print(self.asker.local(), self.asker.end());
        match told(&self.asker, printed).await {
            Some(octets) => question.answer(&octets),
            None => HomeAnswer::Unavailable,
        }
    }
}

/// What a peer may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asks {
    /// Keys, as a NAF.
    Zn,
    /// Push info, as a NAF.
    Zpn,
    /// Vectors, as a bootstrapping server.
    Zh,
}

/// Who answers those that ask us.
#[derive(Debug)]
pub struct Desk {
    /// Who we are.
    pub local: Arc<Local>,
    /// The sessions and subscribers.
    pub bsf: Arc<Bsf>,
    /// What each peer may ask.
    pub peers: HashMap<Arc<str>, Vec<Asks>>,
}

impl Serve for Desk {
    fn answer(&self, peer: &str, request: &Message<'_>, now: Now) -> Printed {
        let header = &request.header;
        let asked = match (header.application, header.command) {
            (known::ZN, known::BOOTSTRAPPING_INFO) => Ok(Asks::Zn),
            // Some dictionaries have it in the application of Zn.
            (known::ZPN | known::ZN, known::GBAPUSH_INFO) => Ok(Asks::Zpn),
            (known::ZH, known::MULTIMEDIA_AUTH) => Ok(Asks::Zh),
            _ => Err(Fault::plain(known::COMMAND_UNSUPPORTED)),
        };
        let answered = asked.and_then(|asked| match asked {
            _ if !self.peers.get(peer).is_some_and(|may| may.contains(&asked)) => {
                Err(Fault::plain(known::AUTHORIZATION_REJECTED))
            }
            Asks::Zn => self.key(peer, request, now),
            Asks::Zpn => self.push_info(peer, request, now),
            Asks::Zh => self.vector(request, now),
        });
        answered.unwrap_or_else(|fault| self.local.refuse(header, Some(request), fault))
    }
}

impl Desk {
    fn key(&self, peer: &str, message: &Message<'_>, now: Now) -> Result<Printed, Fault> {
        let request = zn::request(message, &self.local)?;
        // We know no agents: who asks is who is at the other end.
        let found = match request.btid {
            _ if !request.host.eq_ignore_ascii_case(peer) => Err(NafRefusal::NotAuthorised),
            Some(btid) => self.bsf.naf_key(peer, &btid, &request.naf, now),
            None => Err(NafRefusal::UnknownBtid),
        };
        let found = found.as_ref().map_err(|refusal| *refusal);
        Ok(zn::answer(&self.local, message, &request.services, found))
    }

    fn push_info(&self, peer: &str, message: &Message<'_>, now: Now) -> Result<Printed, Fault> {
        let asked = zpn::request(message, &self.local)?;
        let found = if asked.host.eq_ignore_ascii_case(peer) {
            self.bsf.push_info(peer, &asked.request, Rand(clock::random()), now)
        } else {
            Err(NoPush::NotAuthorised)
        };
        let found = found.as_ref().map_err(|refusal| *refusal);
        Ok(zpn::answer(&self.local, message, &asked, found, now.wall))
    }

    fn vector(&self, message: &Message<'_>, now: Now) -> Result<Printed, Fault> {
        let zh::VectorRequest { impi, resync } = zh::request(message, &self.local)?;
        let found = self.bsf.home(&impi, resync.as_ref(), clock::random(), now);
        Ok(zh::answer(&self.local, message, &impi, &found))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::{Impi, Impu, Ptid};
    use crate::instant::WallTime;
    use crate::keys::UaId;
    use crate::keys::bootstrap::{BsfConfig, NafGrant, UaGrant};
    use crate::keys::diameter::base::{Verdict, verdict};
    use crate::keys::milenage::Milenage;
    use crate::keys::sqn::{Sqn, SqnGenerator};
    use crate::keys::subscribers::{Card, Subscriber};
    use crate::keys::vector::Algorithms;

    fn local(host: &str) -> Arc<Local> {
        Arc::new(Local {
            host: host.into(),
            realm: "example.net".into(),
            product: "sipward".into(),
            applications: vec![known::ZN, known::ZPN, known::ZH],
            state_id: 1,
        })
    }

    fn desk() -> Desk {
        let subscriber = Subscriber {
            impi: Impi::new("ue1@example.net").unwrap(),
            algorithms: Some(Algorithms::Milenage(Milenage::with_opc(&[5; 16], &[6; 16]))),
            digest: None,
            amf: [0x80, 0],
            sqn: SqnGenerator::new(Sqn::default()),
            impus: Arc::from([Impu::new("sip:ue1@example.net").unwrap()]),
            key_lifetime: None,
            barred: false,
            card: Card::Gba,
            uss: Arc::from([]),
        };
        let grant = NafGrant {
            host: "naf1.example.net".into(),
            fqdns: vec!["naf1.example.net".into()],
            protocols: vec![UaGrant::Exact(UaId::SIP_DIGEST)],
            sees_impi: false,
            sees_identities: true,
        };
        let push = NafGrant {
            host: "push.example.net".into(),
            fqdns: vec!["push.example.net".into()],
            protocols: vec![UaGrant::Exact(UaId::PUSH_LAYER)],
            ..grant.clone()
        };
        let config = BsfConfig::new("bsf.example.net");
        let bsf = Bsf::new(config, vec![subscriber], vec![grant, push], [7; 32]).unwrap();
        let peers = [
            ("naf1.example.net", vec![Asks::Zn]),
            ("push.example.net", vec![Asks::Zpn]),
            ("bsf9.example.net", vec![Asks::Zh]),
        ];
        let peers = peers.into_iter().map(|(host, asks)| (host.into(), asks)).collect();
        Desk { local: local("bsf.example.net"), bsf: Arc::new(bsf), peers }
    }

    fn key_of(host: &str, naf: &str, ua: UaId) -> Printed {
        let question = zn::Question {
            session: "s;1;1".into(),
            realm: "example.net".into(),
            host: None,
            btid: Btid::new("x@bsf.example.net").unwrap(),
            naf: NafId::new(naf, ua),
            services: vec![],
            form: ServiceForm::Text,
        };
        question.print(&local(host), 1)
    }

    fn push_of(host: &str, naf: &str, ua: UaId, impi: &str) -> Printed {
        let question = zpn::Question {
            session: "s;1;1".into(),
            realm: "example.net".into(),
            host: None,
            request: PushRequest {
                impi: Impi::new(impi).unwrap(),
                naf: NafId::new(naf, ua),
                ptid: Ptid::new("p-1").unwrap(),
                expires: WallTime::from_unix(1_795_480_000),
                resync: None,
            },
        };
        question.print(&local(host), 1)
    }

    fn vector_of(impi: &str) -> Printed {
        let question = zh::Question {
            session: "s;1;1".into(),
            realm: "example.net".into(),
            impi: Impi::new(impi).unwrap(),
            resync: None,
        };
        question.print(&local("bsf9.example.net"), 1)
    }

    /// TS 33.220 clause 4.5.3: whose names and protocols a NAF may ask for is written down, and who it is was proved.
    #[test]
    fn each_peer_gets_what_its_entry_grants() {
        use Verdict::{Base, Experimental};
        let (desk, own, now) = (desk(), "naf1.example.net", Now::default());
        let (digest, layer) = (UaId::SIP_DIGEST, UaId::PUSH_LAYER);
        let (push, ue) = ("push.example.net", "ue1@example.net");
        for (what, peer, request, expected) in [
            ("its own", own, key_of(own, own, digest), Experimental(known::BTID_INVALID)),
            (
                "another name",
                own,
                key_of(own, "naf2.example.net", digest),
                Experimental(known::NOT_AUTHORIZED),
            ),
            (
                "another protocol",
                own,
                key_of(own, own, UaId::LOCSIP),
                Experimental(known::NOT_AUTHORIZED),
            ),
            ("TMPI", own, key_of(own, own, UaId::TMPI), Experimental(known::NOT_AUTHORIZED)),
            (
                "in another's name",
                own,
                key_of("naf2.example.net", own, digest),
                Experimental(known::NOT_AUTHORIZED),
            ),
            (
                "a BSF for keys",
                "bsf9.example.net",
                key_of("bsf9.example.net", own, digest),
                Base(known::AUTHORIZATION_REJECTED),
            ),
            (
                "a NAF for vectors",
                own,
                vector_of("ue1@example.net"),
                Base(known::AUTHORIZATION_REJECTED),
            ),
            ("push info", push, push_of(push, push, layer, ue), Base(known::SUCCESS)),
            (
                "nobody's push info",
                push,
                push_of(push, push, layer, "ue2@example.net"),
                Experimental(known::IDENTITY_UNKNOWN),
            ),
            (
                "push info for another name",
                push,
                push_of(push, own, layer, ue),
                Experimental(known::NOT_AUTHORIZED),
            ),
            (
                "push info for another protocol",
                push,
                push_of(push, push, digest, ue),
                Experimental(known::NOT_AUTHORIZED),
            ),
            (
                "push info in another's name",
                push,
                push_of(own, push, layer, ue),
                Experimental(known::NOT_AUTHORIZED),
            ),
            (
                "a NAF of keys for push info, which its grant would cover",
                own,
                push_of(own, own, digest, ue),
                Base(known::AUTHORIZATION_REJECTED),
            ),
            (
                "a NAF of push info for keys",
                push,
                key_of(push, push, layer),
                Base(known::AUTHORIZATION_REJECTED),
            ),
            ("a vector", "bsf9.example.net", vector_of(ue), Base(known::SUCCESS)),
            (
                "nobody's vector",
                "bsf9.example.net",
                vector_of("ue2@example.net"),
                Experimental(known::IDENTITY_UNKNOWN),
            ),
        ] {
            let message = Message::parse(&request).unwrap();
            let answer = desk.answer(peer, &message, now);
            let answer = Message::parse(&answer).unwrap();
            assert_eq!(verdict(&answer), Ok(expected), "{what}");
            assert_eq!((answer.header.hop, answer.header.end), (0, 1), "{what}");
        }
        // V-139: ten vectors of a name in a minute, then a pause.
        let request = vector_of("ue1@example.net");
        let message = Message::parse(&request).unwrap();
        let ask = |now| {
            let printed = desk.answer("bsf9.example.net", &message, now);
            verdict(&Message::parse(&printed).unwrap())
        };
        let given = (0..12).filter(|_| ask(now) == Ok(Base(known::SUCCESS))).count();
        assert_eq!(given, 8, "one was given before, and one pushed");
        assert_eq!(ask(now + Duration::from_secs(60)), Ok(Base(known::SUCCESS)));
    }
}
