//! Stage 5, association: does this request belong to the dialog it names?
//!
//! Takes:   [`Authenticated`]: a request and the evidence of its sender.
//! Gives:   [`Bound`]: with the dialog it is part of, and what is to be noted once it was forwarded.
//! Keeps:   one [`Association`] for each dialog, early ones and forks included, and one [`Origin`] for those of one
//!          request; see `table` for the bounds.
//! Refuses: by the numbered rules; inside a dialog the owner of the leg may speak, nobody else.
//! Sources: RFC 3261 sections 12.2, 9.2, 17.2.3 and 22.1; RFC 5057; RFC 6665; SEC_CF 1.1 AUTH-003, AUTH-004.

mod alias;
pub mod anchors;
pub mod bridge;
mod brought;
pub mod dialog;
mod ends;
pub mod errands;
mod forming;
pub mod judge;
pub mod named;
mod notified;
pub mod owner;
mod restore;
pub mod settings;
mod shown;
pub mod state;
pub mod table;
pub mod target;
pub mod token;
pub(crate) mod trial;
mod usages;

use std::sync::Arc;

pub use alias::Named;
pub use bridge::{Bridge, Seed};
pub use dialog::{Association, DialogKey, Origin};
pub use ends::End;
pub use errands::{Errand, Why};
pub use settings::{Groups, Settings};
pub use state::State;
pub use table::{Associations, Noted, Responder, Sent, Track};
pub use token::{RouteToken, RouteTokens};

use anchors::Moved;
use brought::Carried;
use owner::Shown;
use target::Way;

use crate::authentication::{Authenticated, Caller, Evidence};
use crate::enabler::Class;
use crate::refusal::Refusal;
use crate::transport::{Arrival, Flow};
use crate::wire::{Message, Method};

/// A request that may be part of its dialog: evidence of stages 3 to 5.
#[derive(Debug)]
pub struct Bound<'m> {
    authenticated: Authenticated<'m>,
    ruling: Ruling,
    would: Option<Refusal>,
}

/// What stage 5 found, and what stage 7 is to commit.
#[derive(Clone, Debug)]
pub enum Ruling {
    /// Outside any dialog, and makes none.
    Alone,
    /// Makes a dialog once it is forwarded.
    Forms(Proposal),
    /// Inside a dialog.
    Inside(Inside),
}

/// What a request that may form a dialog will make.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Its number, in traces and tokens.
    pub id: u64,
}

/// How a dialog is known.
#[derive(Clone, Copy, Debug)]
pub enum Known {
    /// It is in the table.
    Held,
    /// The NOTIFY itself makes it, of this entry (rule 25).
    Notified(DialogKey),
    /// The request brought our own token (rule 23).
    Told(RouteToken),
}

/// A request inside a dialog.
#[derive(Clone, Debug)]
pub struct Inside {
    /// The rule that let it pass: 1, 2, 15, 18, 23, 24 or 25; 0 if it would not have passed.
    pub rule: u8,
    /// The dialog.
    pub key: DialogKey,
    /// How the dialog is known.
    pub known: Known,
    /// What the dialog came of.
    pub origin: Arc<Origin>,
    /// The class that it had before this request.
    pub class: Class,
    /// Where it stood.
    pub state: State,
    /// How many keys its owner had shown before the one that it stood on.
    pub generation: u16,
    moved: Moved,
    /// Its two legs, where they have ids of their own.
    pub bridge: Option<Arc<Bridge>>,
    /// What its SUBSCRIBE or REFER left under, for a NOTIFY that makes such a dialog.
    pub seed: Option<Arc<Seed>>,
    /// The token that it brought.
    carried: Option<Carried>,
    /// The key that the owner of the UE's leg showed.
    shown: Option<Shown>,
    /// What a request from the UE has to name.
    way: Way,
    /// Whether the sender was proved, so that the request may move anchors and counts.
    pub verified: bool,
}

impl Inside {
    /// Flows that lead to the UE, the newest last.
    pub fn anchors(&self) -> &[Flow] {
        self.moved.anchors(&self.origin.flow)
    }

    /// Whether its dialog has two legs, or will have once the NOTIFY that this is makes it: it leaves to the target of the
    /// other one then, whatever it says.
    pub fn crosses(&self) -> bool {
        self.bridge.is_some() || self.seed.is_some()
    }
}

impl<'m> Bound<'m> {
    /// The message.
    pub fn message(&self) -> &'m Message {
        self.authenticated.admitted().message()
    }

    /// How it came.
    pub fn arrival(&self) -> &'m Arrival {
        self.authenticated.admitted().arrival()
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.authenticated.admitted().method()
    }

    /// Whether it is inside a dialog.
    pub fn in_dialog(&self) -> bool {
        matches!(self.ruling, Ruling::Inside(_))
    }

    /// The class: inside a dialog the dialog's, or what the request itself claims if that is stricter.
    pub fn class(&self) -> Class {
        let claimed = self.authenticated.admitted().class();
        match &self.ruling {
            Ruling::Inside(inside) => inside.class.stricter(claimed),
            Ruling::Alone | Ruling::Forms(_) => claimed,
        }
    }

    /// What the sender showed.
    pub fn evidence(&self) -> &Evidence {
        self.authenticated.evidence()
    }

    /// The caller that this request itself proves.
    pub fn caller(&self) -> Option<&Arc<Caller>> {
        self.authenticated.evidence().caller()
    }

    /// What stage 4 found.
    pub fn authenticated(&self) -> &Authenticated<'m> {
        &self.authenticated
    }

    /// What stage 5 found.
    pub fn ruling(&self) -> &Ruling {
        &self.ruling
    }

    /// The refusal that enforcing every rule would have given, where a rule is only observed.
    pub fn would(&self) -> Option<Refusal> {
        self.would
    }
}
