//! Keys, Diameter, sources: key servers and homes of others, in the places where ours stand.
//!
//! Takes:   the questions of a NAF and of a bootstrapping server; requests of those that ask us.
//! Gives:   [`ZnSource`], a [`KeyServer`]; [`ZhSource`]; [`Desk`], which answers both.
//! Keeps:   nothing.
//! Refuses: from others, what their entry does not grant.
//! Sources: TS 33.220 clauses 4.5.2 and 4.5.3; TS 29.109 clauses 4 and 5; threats V-31, V-93.

use std::collections::HashMap;
use std::sync::Arc;

use super::ask::{Asker, Reply};
use super::base::Local;
use super::codec::{Fault, Message, Printed};
use super::dictionary as known;
use super::door::Serve;
use super::zn::ServiceForm;
use super::{zh, zn};
use crate::clock;
use crate::identity::Btid;
use crate::instant::Now;
use crate::keys::bootstrap::{Bsf, HomeAnswer, HomeQuestion, NafRefusal};
use crate::keys::{Asking, KeyAnswer, KeyServer, NafId};

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
        let (tell, told) = tokio::sync::oneshot::channel();
        let printed = question.print(self.asker.local(), self.asker.end());
        // Whoever asked may be gone.
        let reply = move |answer| drop(tell.send(answer));
        self.asker.ask(printed, Reply::to(reply));
        match told.await {
            Ok(Some(octets)) => question.answer(&octets, clock::now().wall),
            Ok(None) | Err(_) => KeyAnswer::Unavailable,
        }
    }
}

impl KeyServer for ZnSource {
    fn ask<'a>(&'a self, btid: &'a Btid, naf: &'a NafId, _: Now) -> Asking<'a> {
        Box::pin(self.key(btid, naf))
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
        let (tell, told) = tokio::sync::oneshot::channel();
        let printed = question.print(self.asker.local(), self.asker.end());
        // Whoever asked may be gone.
        let reply = move |answer| drop(tell.send(answer));
        self.asker.ask(printed, Reply::to(reply));
        match told.await {
            Ok(Some(octets)) => question.answer(&octets),
            Ok(None) | Err(_) => HomeAnswer::Unavailable,
        }
    }
}

/// What a peer may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asks {
    /// Keys, as a NAF.
    Zn,
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
    pub peers: HashMap<Arc<str>, Asks>,
}

impl Serve for Desk {
    fn answer(&self, peer: &str, request: &Message<'_>, now: Now) -> Printed {
        let header = &request.header;
        let asked = match (header.application, header.command) {
            (known::ZN, known::BOOTSTRAPPING_INFO) => Ok(Asks::Zn),
            (known::ZH, known::MULTIMEDIA_AUTH) => Ok(Asks::Zh),
            _ => Err(Fault::plain(known::COMMAND_UNSUPPORTED)),
        };
        let answered = asked.and_then(|asked| match asked {
            _ if self.peers.get(peer) != Some(&asked) => {
                Err(Fault::plain(known::AUTHORIZATION_REJECTED))
            }
            Asks::Zn => self.key(peer, request, now),
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

    fn vector(&self, message: &Message<'_>, now: Now) -> Result<Printed, Fault> {
        let zh::VectorRequest { impi, resync } = zh::request(message, &self.local)?;
        let found = self.bsf.home(&impi, resync.as_ref(), clock::random(), now);
        Ok(zh::answer(&self.local, message, &impi, &found))
    }
}
