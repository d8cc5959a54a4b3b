//! Stage 6, CPM: messages, chats and files.
//!
//! 1. The headers of a conversation: `check::conversation`.
//! 2. A message by itself: its length, its types, its sender: `check::cpim_from`.
//! 3. A session: its types, and its media: `check::msrp`.
//! 4. Lists of recipients, in either: `check::list`.
//!
//! Takes:   requests of the seven classes of CPM.
//! Gives:   the right to have them forwarded.
//! Keeps:   nothing.
//! Refuses: each check its own, and types that CPM does not have. From the core only length and lists are looked at:
//!          who it is from is the core's word.
//! Sources: OMA CPM as its identifiers are registered; RFC 3428 sections 8 and 11; RFC 3862; RFC 4975; RFC 5365;
//!          RFC 5438 (disposition notifications); V-120, V-121, V-123, V-124, V-127.

use super::body::{self, Leaf, cpim};
use super::check::{conversation, cpim_from, list, msrp};
use super::{Class, Demands, EnablerPolicy, Family, Integrity, Meter, Toll, Tolls, speaker};
use crate::admission::Rate;
use crate::association::{Bound, Ruling};
use crate::refusal::Refusal;
use crate::transport::Side;
use crate::wire::octets::contains;
use crate::wire::{Message, Method};

/// The policy of CPM.
#[derive(Clone, Debug)]
pub struct Cpm {
    /// Demands of each class, in the order of [`Class`].
    pub demands: [Demands; 7],
    /// Longest request of a message by itself on datagrams, and on streams, in octets.
    pub pager_whole: (usize, usize),
    /// Most recipients of a message by itself.
    pub pager_list_max: usize,
    /// Most recipients of a session.
    pub group_list_max: usize,
    /// Disposition notifications of one caller.
    pub disposition_rate: Rate,
    /// Whether MSRP must be over TLS.
    pub msrp_tls: bool,
    /// Whether CPIM From must be the caller.
    pub cpim_from: bool,
    /// Whether it may be anonymous.
    pub cpim_anonymous: bool,
    /// Whether a request must belong to a conversation.
    pub conversation_required: bool,
    /// What may be wrapped, if that is limited: `type/subtype`.
    pub inner_types: Option<Vec<String>>,
}

impl Default for Cpm {
    fn default() -> Self {
        let pager = Demands {
            integrity: Integrity::Cleartext,
            ..Demands::new(Rate { burst: 10, ..Rate::per_minute(30) }, 1300)
        };
        let session = Demands {
            secure: true,
            dialogs: Some(Rate::per_minute(10)),
            open_max: Some(20),
            ..Demands::new(Rate::per_minute(60), 64 * 1024)
        };
        Self {
            demands: [pager, pager, session, session, session, session, session],
            pager_whole: (1300, 4096),
            pager_list_max: 20,
            group_list_max: 100,
            disposition_rate: Rate::per_minute(60),
            msrp_tls: false,
            cpim_from: true,
            cpim_anonymous: true,
            conversation_required: false,
            inner_types: None,
        }
    }
}

/// What a message by itself may be.
const PAGER_TYPES: [&str; 4] =
    ["message/cpim", "text/plain", "application/im-iscomposing+xml", "application/vnd.3gpp.sms"];
const PAGER_ACCEPT: &str = "message/cpim, text/plain, multipart/mixed, application/im-iscomposing+xml, application/vnd.3gpp.sms";
/// What begins a session.
const SESSION_TYPES: [&str; 2] = ["application/sdp", "message/cpim"];
const SESSION_ACCEPT: &str = "application/sdp, multipart/mixed";
/// The subtype of a disposition notification.
const NOTIFICATION: &str = "imdn+xml";
const LIST_TYPE: &str = "application/resource-lists+xml";

impl Cpm {
    /// The place of a class among the demands.
    pub fn place(class: Class) -> usize {
        match class {
            Class::CpmSystem => 1,
            Class::CpmSession => 2,
            Class::CpmLarge => 3,
            Class::CpmFile => 4,
            Class::CpmDeferred => 5,
            Class::CpmGroup => 6,
            _ => 0,
        }
    }

    /// Line 2.
    fn check_pager(&self, bound: &Bound<'_>) -> Result<(), Refusal> {
        let message = bound.message();
        let (datagram, stream) = self.pager_whole;
        let reliable = bound.arrival().flow.transport.is_reliable();
        if message.octets().len() > if reliable { stream } else { datagram } {
            return Err(Refusal::BodyTooLarge);
        }
        // What is wrapped with a list needs no option tag if it stands alone, so only parts are lists.
        self.check_bodies(bound, &PAGER_TYPES, PAGER_ACCEPT, self.pager_list_max).map(|_| ())
    }

    /// Line 3.
    fn check_session(&self, bound: &Bound<'_>) -> Result<(), Refusal> {
        let begins = !bound.in_dialog() && bound.method() == Method::Invite;
        let described =
            self.check_bodies(bound, &SESSION_TYPES, SESSION_ACCEPT, self.group_list_max)?;
        if begins && !described { Err(Refusal::MsrpRefused) } else { Ok(()) }
    }

    /// Looks at every part; whether one of them describes a session.
    fn check_bodies(
        &self,
        bound: &Bound<'_>,
        types: &[&str],
        accept: &'static str,
        list_max: usize,
    ) -> Result<bool, Refusal> {
        let message = bound.message();
        let whole = message.content_type().filter(|_| !message.body().is_empty());
        let multipart = whole.filter(|media| media.kind().eq_ignore_ascii_case(b"multipart"));
        if multipart.is_some_and(|media| !body::is(&media, "multipart/mixed")) {
            return Err(Refusal::BodyTypeForbidden(accept));
        }
        let (mut recipients, mut described) = (0_usize, false);
        body::leaves(message, &mut |leaf| {
            let listed = leaf.is_recipient_list() || leaf.is(LIST_TYPE);
            let known = types.iter().any(|kind| leaf.is(kind));
            if !(known || listed && multipart.is_some()) {
                return Err(Refusal::BodyTypeForbidden(accept));
            }
            if listed {
                let count = list::count(message, bound.method(), leaf, list_max)?;
                recipients = recipients.saturating_add(count);
            } else if leaf.is("message/cpim") {
                recipients = recipients.saturating_add(self.check_cpim(bound, leaf)?);
            } else if leaf.is("application/sdp") {
                if described {
                    return Err(Refusal::MsrpRefused);
                }
                described = true;
                msrp::check(leaf.read()?, bound.class(), !bound.in_dialog(), self.msrp_tls)?;
            }
            Ok(())
        })?;
        if recipients > list_max { Err(Refusal::ListTooLong) } else { Ok(described) }
    }

    /// A wrapped message: how many it adds to the recipients.
    fn check_cpim(&self, bound: &Bound<'_>, leaf: &Leaf<'_>) -> Result<usize, Refusal> {
        let found = cpim::read(leaf.read()?)?;
        if self.cpim_from {
            let caller = speaker(bound).map(|caller| &**caller);
            // Nobody reports on a message in another's name, nor in none.
            let anonymous = || self.cpim_anonymous && !is_disposition(&found);
            cpim_from::check(&found.from, caller, anonymous)?;
        }
        if let Some(types) = &self.inner_types {
            let fits =
                found.media().is_some_and(|media| types.iter().any(|own| body::is(&media, own)));
            if !fits {
                return Err(Refusal::BodyTypeForbidden("message/cpim"));
            }
        }
        Ok(if found.recipients > 1 { found.recipients } else { 0 })
    }

    /// Lists in what the core sends.
    fn check_core(&self, bound: &Bound<'_>) -> Result<(), Refusal> {
        let max = match bound.method() {
            Method::Message => self.pager_list_max,
            _ => self.group_list_max,
        };
        list::check_any(bound.message(), bound.method(), max)
    }
}

impl EnablerPolicy for Cpm {
    fn demands(&self, class: Class) -> &Demands {
        let [first, ..] = &self.demands;
        self.demands.get(Self::place(class)).unwrap_or(first)
    }

    fn allows_direction(&self, _side: Side, _in_dialog: bool) -> bool {
        true
    }

    /// Of a message, which nothing else covers. A session is on a secure flow.
    fn integrity(&self, class: Class, method: Method) -> Integrity {
        match method {
            Method::Message => self.demands(class).integrity,
            _ if class.is_session() => Integrity::Never,
            _ => self.demands(class).integrity,
        }
    }

    fn check(&self, bound: &Bound<'_>) -> Result<(), Refusal> {
        if bound.arrival().side == Side::Core {
            return self.check_core(bound);
        }
        conversation::check(bound.message(), self.conversation_required && !bound.in_dialog())?;
        match bound.method() {
            Method::Message => self.check_pager(bound),
            Method::Invite | Method::Update => self.check_session(bound),
            method => list::check_any(bound.message(), method, self.group_list_max),
        }
    }

    fn tolls(&self, bound: &Bound<'_>) -> Tolls {
        let class = bound.class();
        let mut tolls = Tolls::new();
        if bound.arrival().side == Side::Core {
            return tolls;
        }
        if bound.method() == Method::Message && reports(bound.message()) {
            tolls.push(Toll { meter: Meter::Dispositions, rate: self.disposition_rate });
            return tolls;
        }
        let demands = self.demands(class);
        let shared = if class.is_session() { Class::CpmSession } else { Class::CpmPager };
        tolls.push(Toll { meter: Meter::Requests(shared), rate: demands.rate });
        if let (Ruling::Forms(_), Some(rate)) = (bound.ruling(), demands.dialogs) {
            tolls.push(Toll { meter: Meter::Dialogs(Family::Cpm), rate });
        }
        tolls
    }
}

/// Whether a request wraps a disposition notification.
fn reports(message: &Message) -> bool {
    let body = message.body();
    // Hardly any text has a plus sign, and to look for one octet costs little.
    if memchr::memchr(b'+', body).is_none() || !contains(body, NOTIFICATION) {
        return false;
    }
    let mut found = false;
    let _ = body::leaves(message, &mut |leaf| {
        if leaf.is("message/cpim") {
            found |= leaf.read().and_then(cpim::read).is_ok_and(|cpim| is_disposition(&cpim));
        }
        Ok(())
    });
    found
}

fn is_disposition(cpim: &cpim::Cpim<'_>) -> bool {
    cpim.media().is_some_and(|media| media.is("message", NOTIFICATION))
}
