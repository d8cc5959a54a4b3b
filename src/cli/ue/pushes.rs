//! `sipward ue`, pushes: the card that they are taken with, what is said of them, and the server's side for laboratories.
//!
//! Takes:   the list that the card is in, the name of its bootstrapping server; of a push its type, application and octets.
//! Gives:   [`Pushes`] for a phone that stays, a line for each notice; `sipward ue push`.
//! Keeps:   the card's window, in the sealed file of `--keys`, before anything is answered.
//! Refuses: a card without a place for its window; bodies over [`BODY_MAX`] octets.
//! Sources: SEC_CF 1.1 SEC-004, AUTH-007; OMA Push over SIP as its identifiers are registered.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args as Clap;
use serde_json::json;
use tokio::sync::mpsc;

use super::Fault;
use super::lists::ListArgs;
use crate::client::pushed::{Keep, Notice, Pushed};
use crate::client::store::{Entry, Lock, Store};
use crate::client::ue::Ue;
use crate::identity::Impi;
use crate::keys::push::ue::{Associations, Subscription};
use crate::keys::push::{CardApplication, profile};
use crate::keys::subscribers::file;
use crate::keys::usim::Usim;
use crate::keys::{NafId, UaId};
use crate::wire::Message;

/// Longest body of a push, in octets.
const BODY_MAX: u64 = 64 * 1024;
/// Most notices that wait to be said.
const NOTICES_MAX: usize = 256;

/// The card that pushes are taken with.
#[derive(Clone, Debug, Clap)]
pub(super) struct CardArgs {
    /// Take what is pushed, with the card in this list of subscribers: whose, says --impi, or the only entry of --keys
    #[arg(long, value_name = "FILE", requires = "stay", requires = "keys")]
    card: Option<PathBuf>,
    /// Its bootstrapping server
    #[arg(long, value_name = "FQDN", default_value = "bsf.example.net")]
    bsf_name: String,
    /// How push info is written down, as the edge has it
    #[arg(long, value_name = "NAME", default_value = "p1")]
    push_profile: String,
}

/// What a phone that stays takes pushes with, and what it says of them.
pub(super) struct Pushes {
    pub(super) pushed: Option<Arc<Pushed>>,
    pub(super) notices: mpsc::Receiver<Notice>,
}

impl CardArgs {
    /// For pushes of the edge of that name.
    pub(super) fn pushes(
        &self,
        edge: &str,
        keys: Option<&Path>,
        impi: Option<&str>,
        told: &ListArgs,
    ) -> Result<Pushes, Fault> {
        let (tell, notices) = mpsc::channel(NOTICES_MAX);
        let (Some(list), Some(keys)) = (&self.card, keys) else {
            return Ok(Pushes { pushed: None, notices });
        };
        let store = Store::open(keys, &Lock::beside(keys))?;
        let entry = match impi.and_then(Impi::new) {
            Some(impi) => store.get(&impi),
            None => store.only(),
        };
        let entry = entry.cloned().ok_or("no such keys: sipward ue bootstrap")?;
        let impi = entry.keys.impi.clone();
        let said = |problems: Vec<_>| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let mut subscribers = file::load(list).map_err(said)?;
        subscribers.retain(|subscriber| subscriber.impi == impi);
        let none = || format!("{impi} is not in {}", list.display());
        let subscriber = subscribers.pop().ok_or_else(none)?;
        let functions = subscriber.algorithms.ok_or("this subscriber has no card")?;
        let card = Usim::new(functions, entry.window).with_card(subscriber.card);
        let subscription = Subscription {
            impi: impi.clone(),
            bsf: self.bsf_name.to_ascii_lowercase().into(),
            application: CardApplication::Usim,
            nafs: vec![NafId::new(edge, UaId::PUSH_LAYER)],
        };
        let profile = profile(&self.push_profile)
            .ok_or_else(|| format!("{:?} is no profile: p1", self.push_profile))?;
        let store = Mutex::new(store);
        let keep: Keep = Arc::new(move |window| {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(keys) = store.get(&impi).map(|entry| entry.keys.clone()) else { return false };
            store.put([Entry { keys, window: window.clone() }]).is_ok()
        });
        let associations = Associations::new(subscription, profile);
        // Who does not look at what was pushed loses it when the queue is full.
        let tell = Arc::new(move |notice| drop(tell.try_send(notice)));
        let mut pushed = Pushed::new(Arc::new(Mutex::new(card)), associations, keep, tell);
        if let Some(told) = told.told("push")? {
            pushed = pushed.trusting(told.lists, edge);
        }
        Ok(Pushes { pushed: Some(Arc::new(pushed)), notices })
    }
}

/// Says what was pushed.
pub(super) fn say(notice: &Notice, json: bool, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let (text, value) = match notice {
        Notice::Made(made) => (
            format!("key of {} came by push", made.naf.fqdn()),
            json!({ "push": "key", "naf": made.naf.fqdn(), "expires": made.expires.as_unix() }),
        ),
        Notice::Shown { naf, kind, content } => {
            let content = String::from_utf8_lossy(content);
            let of = naf.as_ref().map(|naf| naf.fqdn());
            let by = of.map_or("on a secure flow".to_owned(), |naf| format!("wrapped by {naf}"));
            (
                // Whoever pushed it moves no cursor.
                format!("push {by}: {kind}: {}", content.escape_debug()),
                json!({ "push": "shown", "naf": of, "type": kind, "content": content }),
            )
        }
        Notice::Discarded(why) => (
            format!("push discarded: {}", why.name()),
            json!({ "push": "discarded", "why": why.name() }),
        ),
    };
    if json {
        writeln!(out, "{value}")?
    } else {
        writeln!(out, "{text}")?
    }
    out.flush()
}

/// A push to be sent.
#[derive(Clone, Debug, Clap)]
pub(super) struct PushArgs {
    /// Its type
    #[arg(long = "type", value_name = "TYPE", default_value = "application/vnd.oma.push")]
    kind: String,
    /// The application that it is for
    #[arg(long, value_name = "NAME")]
    application: Option<String>,
    /// The file with its octets
    #[arg(long, value_name = "FILE")]
    body: PathBuf,
    /// The way to the device, as its registration says it in Path
    #[arg(long, value_name = "URI")]
    route: Option<String>,
}

impl PushArgs {
    /// Sends it.
    pub(super) async fn send(&self, ue: &Ue, uri: &str) -> Result<Message, Fault> {
        let mut octets = Vec::new();
        File::open(&self.body)?.take(BODY_MAX.saturating_add(1)).read_to_end(&mut octets)?;
        if octets.len() as u64 > BODY_MAX {
            return Err(format!("{} is over {BODY_MAX} octets", self.body.display()).into());
        }
        let mut draft = ue.draft("MESSAGE", uri).await?.body(&self.kind, octets);
        if let Some(application) = &self.application {
            draft =
                draft.with("Accept-Contact", format!("*;+g.oma.pusheventapp=\"{application}\""));
        }
        draft.routes.extend(self.route.iter().map(|route| format!("<{route}>")));
        Ok(ue.send(draft).await?)
    }
}
