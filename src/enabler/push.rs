//! Stage 6, OMA Push: what servers send to UEs unasked, and no UE sends.
//!
//! Takes:   requests from the core side.
//! Gives:   the right to have them forwarded as they are on secure flows; a single message wrapped to a UE without one, if
//!          that is configured. The key of an association protects itself, and goes anywhere.
//! Keeps:   nothing; which push was here before is remembered by the stage.
//! Refuses: everything from the UE side; servers that are not listed for the application; lists; other bodies; sessions, and
//!          with `protect = "transport"` everything, for UEs that no secure flow leads to: 480.
//! Sources: SEC_CF 1.1 CONF-002, CONF-003, INTE-002; OMA Push over SIP as its identifiers are registered; V-122, V-129.

use sha2::{Digest as _, Sha256};

use super::body::{self, Leaf};
use super::hint::PUSH_TYPES;
use super::{Class, Demands, EnablerPolicy};
use crate::admission::Rate;
use crate::association::Bound;
use crate::keys::push::GPI_TYPE;
use crate::refusal::Refusal;
use crate::transport::{Flow, GroupId, Side};
use crate::wire::features::Claim;
use crate::wire::{Message, Method, Name};

/// The policy of class `push`.
#[derive(Clone, Debug)]
pub struct Push {
    /// Its demands.
    pub demands: Demands,
    /// Pushes to one UE.
    pub rate: Rate,
    /// Longest body of one that is no session, in octets.
    pub single_max: usize,
    /// Which peer groups push for which application; `*` for all that are not named.
    pub servers: Vec<(String, Vec<GroupId>)>,
    /// Whether a message to a UE without a secure flow may go wrapped.
    pub wraps: bool,
}

impl Default for Push {
    fn default() -> Self {
        let demands = Demands { core_level: 3, ..Demands::new(Rate::per_minute(60), 64 * 1024) };
        Self {
            demands,
            rate: Rate::per_minute(30),
            single_max: 1300,
            servers: Vec::new(),
            wraps: true,
        }
    }
}

const TAG: &str = "+g.oma.pusheventapp";
const ACCEPT: &str =
    "application/vnd.oma.push, application/vnd.omaloc-supl-init, application/vnd.3gpp.gba.gpi";

impl Push {
    /// Whether `group` may push for `application`.
    fn serves(&self, application: &str, group: GroupId) -> bool {
        let named = |name: &str| {
            let is = |(own, _): &&(String, Vec<GroupId>)| own.eq_ignore_ascii_case(name);
            self.servers.iter().find(is)
        };
        named(application).or_else(|| named("*")).is_some_and(|(_, groups)| groups.contains(&group))
    }
}

fn is_push(leaf: &Leaf<'_>) -> bool {
    PUSH_TYPES.iter().any(|kind| leaf.is(kind))
}

/// The applications that a push is for; one of none is for `*`.
fn applications(message: &Message) -> Vec<String> {
    let features = message.features(Name::AcceptContact).flatten();
    let claims = features.flat_map(|features| features.claims(TAG));
    let mut found: Vec<String> = claims
        .map(|claim| match claim {
            Claim::Item(item) => String::from_utf8_lossy(&item).into_owned(),
            Claim::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Claim::True => "*".into(),
        })
        .collect();
    if found.is_empty() {
        let location = message.content_type();
        let location =
            location.is_some_and(|media| media.is("application", "vnd.omaloc-supl-init"));
        found.push(if location { "ulp.ua".into() } else { "*".into() });
    }
    found
}

impl EnablerPolicy for Push {
    fn demands(&self, _class: Class) -> &Demands {
        &self.demands
    }

    fn allows_direction(&self, side: Side, _in_dialog: bool) -> bool {
        side == Side::Core
    }

    fn check(&self, bound: &Bound<'_>) -> Result<(), Refusal> {
        let message = bound.message();
        let brings_one = bound.authenticated().admitted().claimed() == Class::Push;
        if bound.in_dialog() && !brings_one {
            // Whatever else goes on in a session that began with one, from the server that began it.
            return Ok(());
        }
        let group = bound.evidence().peer.map(|peer| peer.id);
        let listed = group.is_some_and(|group| {
            applications(message).iter().all(|application| self.serves(application, group))
        });
        if !listed {
            return Err(Refusal::PushServerUnknown);
        }
        let single = bound.method() != Method::Invite;
        if single && message.body().len() > self.single_max {
            return Err(Refusal::BodyTooLarge);
        }
        let mut fits = message.body().is_empty() && !single;
        body::leaves(message, &mut |leaf| {
            fits |= is_push(leaf) || !single && leaf.is("application/sdp");
            if leaf.is_recipient_list() { Err(Refusal::ListRefused) } else { Ok(()) }
        })?;
        if fits { Ok(()) } else { Err(Refusal::BodyTypeForbidden(ACCEPT)) }
    }

    fn once(&self, bound: &Bound<'_>) -> Option<Box<[u8]>> {
        let message = bound.message();
        let mut hash = Sha256::new();
        let number = message.cseq().map(|cseq| cseq.number.to_be_bytes()).unwrap_or_default();
        hash.update(number);
        hash.update(applications(message).join(",").to_ascii_lowercase());
        hash.update([0]);
        hash.update(message.call_id());
        Some(hash.finalize().as_slice().into())
    }

    fn deliver(&self, bound: &Bound<'_>, flow: &Flow) -> Result<(), Refusal> {
        let key = bound.message().content_type();
        // It protects itself, so that it may go in the clear.
        let key = key.is_some_and(|media| body::is(&media, GPI_TYPE));
        if key || flow.transport.is_secure() { Ok(()) } else { Err(Refusal::Unreachable) }
    }

    fn wraps(&self, bound: &Bound<'_>) -> bool {
        self.wraps && bound.method() == Method::Message && !bound.in_dialog()
    }

    fn delivery_rate(&self) -> Option<Rate> {
        Some(self.rate)
    }
}
