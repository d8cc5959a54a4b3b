//! Stage 7, identity and privilege headers: what a message says of who sent it, put right at the border of trust.
//!
//! Takes:   a message, whence and whither it passes, the public identities that were proved, settings.
//! Gives:   removals and insertions in [`Edits`]; what is not named here is not touched.
//! Keeps:   nothing. Bound: two values of P-Preferred-Identity.
//! Refuses: [`Refusal::IdentityForeign`] for a P-Preferred-Identity that is not the caller's, and for such a From
//!          in MESSAGE and REGISTER. ACK, CANCEL and responses are never refused.
//! Sources: RFC 3325 sections 5 to 7 and 9; RFC 5876 section 4; RFC 3323; RFC 6050; RFC 7315 section 4.4; RFC 7044
//!          section 10.1; RFC 6809 section 4.2.1; RFC 3261 section 22; `ID`, `RG-08`.

mod names;

use std::sync::Arc;

use names::{
    ESSENTIAL, TOUCHED, begins_with, is_network_header, is_remote_party_id, is_strange,
    of_the_network,
};

use crate::association::Bound;
use crate::authentication::Caller;
use crate::authentication::sec_agree::TAG;
use crate::gate::Gate;
use crate::identity::Impu;
use crate::refusal::Refusal;
use crate::transport::{ListenerId, Side};
use crate::wire::auth;
use crate::wire::octets::contains;
use crate::wire::scan::{Field, is_space, trim};
use crate::wire::split;
use crate::wire::uri::{Scheme, decode};
use crate::wire::{Address, Edits, Message, Method, Name, Span, Text, Uri};

/// On which side of the border of trust a neighbour stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A core peer whose assertions are believed.
    Ours,
    /// The UE side, or a peer group with `trust = "none"`.
    Foreign,
}

/// Whence a message came and whither it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The neighbour it came from.
    pub from: Trust,
    /// The neighbour it goes to.
    pub to: Trust,
}

impl Passage {
    /// From the UE side to the core.
    pub const INWARD: Self = Self { from: Trust::Foreign, to: Trust::Ours };
    /// From the core to the UE side.
    pub const OUTWARD: Self = Self { from: Trust::Ours, to: Trust::Foreign };
}

/// Whose From is looked at. It is never rewritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FromCheck {
    /// That of MESSAGE and REGISTER; others are forwarded, since P-Asserted-Identity says who it is.
    #[default]
    MessageAndRegister,
    /// That of every request outside dialogs too. Inside one, From is what it was when the dialog began.
    Every,
}

/// What is configured of these headers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose From is looked at.
    pub from_check: FromCheck,
    /// Whether a From at `anonymous.invalid` passes for anyone's.
    pub anonymous: bool,
    /// Whether P-Asserted-Identity goes out where Privacy does not forbid it.
    pub pai_to_ue: bool,
    /// Whether History-Info and Diversion of a UE are kept.
    pub keep_history: bool,
    /// Of Alert-Info, Call-Info, Answer-Mode, Priv-Answer-Mode and Resource-Priority, those that UEs may send.
    pub allowed: Vec<Name>,
    /// Further names not taken from a UE nor given to one; a `*` at the end stands for anything. The names that
    /// a message cannot do without are never stripped.
    pub strip_from_ue: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            from_check: FromCheck::default(),
            anonymous: true,
            pai_to_ue: true,
            keep_history: false,
            allowed: Vec::new(),
            strip_from_ue: Vec::new(),
        }
    }
}

/// What is known of one message when it is dressed for the other side.
#[derive(Clone, Copy)]
pub struct Asserted<'a> {
    /// What is configured.
    pub settings: &'a Settings,
    /// The identities of the caller who was authenticated, the default one first. `None` for a sender who is no
    /// user, a foreign peer: then nothing is asserted and From is not judged.
    pub identities: Option<&'a [Impu]>,
    /// The service that was proved, to be asserted to the core.
    pub service: Option<&'a str>,
    /// Whether credentials for a realm are consumed here.
    pub is_own_realm: &'a dyn Fn(&[u8]) -> bool,
    /// The values of credentials that are consumed here, where stage 4 has searched for them.
    pub own_rows: Option<&'a [Span]>,
    /// Whether the listener for UEs makes security agreements: then the three headers of RFC 3329 are ours to consume
    /// and its option tag goes no further, else they pass.
    pub sec_agree: bool,
}

impl std::fmt::Debug for Asserted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asserted").field("identities", &self.identities).finish_non_exhaustive()
    }
}

/// What a request loses and gains when it goes to the other side; `service` is what is asserted of it, `ue` the
/// listener for UEs on its way.
///
/// # Errors
///
/// [`Refusal::IdentityForeign`], as [`Asserted::dress`].
pub fn edit_request(
    bound: &Bound<'_>,
    gate: &Gate,
    settings: &Settings,
    service: Option<&str>,
    ue: Option<ListenerId>,
) -> Result<Edits, Refusal> {
    let message = bound.message();
    let identities = speaker(bound).map(|caller| &*caller.identities).unwrap_or_default();
    let mut edits = Edits::new();
    let asserted = Asserted {
        settings,
        identities: Some(identities),
        service,
        is_own_realm: &|realm| gate.authentication.is_own_realm(realm),
        own_rows: bound.authenticated().own_rows(),
        sec_agree: ue.is_some_and(|listener| gate.authentication.agrees(listener)),
    };
    asserted.dress(message, Passage::from(bound.arrival().side), &mut edits)?;
    Ok(edits)
}

/// What a response loses when it goes back to side `to`; `ue` is the listener for UEs on its way.
pub fn edit_response(
    response: &Message,
    to: Side,
    gate: &Gate,
    settings: &Settings,
    ue: ListenerId,
) -> Edits {
    let passage = match to {
        Side::Ue => Passage::OUTWARD,
        Side::Core => Passage::INWARD,
    };
    let is_own_realm = |realm: &[u8]| gate.authentication.is_own_realm(realm);
    let mut edits = Edits::new();
    let asserted = Asserted {
        settings,
        identities: None,
        service: None,
        is_own_realm: &is_own_realm,
        own_rows: None,
        sec_agree: gate.authentication.agrees(ue),
    };
    // Only requests are refused; one that came here as a response would lose the same headers.
    let _ = asserted.dress(response, passage, &mut edits);
    edits
}

impl From<Side> for Passage {
    /// From that side to the other.
    fn from(side: Side) -> Self {
        match side {
            Side::Ue => Self::INWARD,
            Side::Core => Self::OUTWARD,
        }
    }
}

/// Whose request it is: proved by itself, or inside a dialog by what was proved on its flow. Of several there,
/// the one who owns From; nobody if it cannot be told.
fn speaker<'b>(bound: &'b Bound<'_>) -> Option<&'b Arc<Caller>> {
    let evidence = bound.evidence();
    if let Some(caller) = evidence.caller() {
        return Some(caller);
    }
    let from = bound.message().from().map(|from| from.uri().identity()).unwrap_or_default();
    let known = evidence.secure_flow.iter().chain(&evidence.registered);
    let (mut first, mut alone) = (None::<&Arc<Caller>>, true);
    for caller in known.filter(|_| bound.in_dialog()) {
        if caller.owns(&from) {
            return Some(caller);
        }
        alone &= first.is_none_or(|first| first.principal == caller.principal);
        first = first.or(Some(caller));
    }
    first.filter(|_| alone)
}

/// What becomes of one row.
enum Fate {
    Keep,
    Remove,
    /// Only the values for which this holds are kept.
    Pick(fn(&[u8]) -> bool),
}

impl Asserted<'_> {
    /// Puts into `edits` what `message` has to lose and to gain on this passage.
    ///
    /// # Errors
    ///
    /// [`Refusal::IdentityForeign`]: a request from a foreign neighbour names an identity that is not its
    /// caller's. `edits` is then of no use.
    pub fn dress(
        &self,
        message: &Message,
        passage: Passage,
        edits: &mut Edits,
    ) -> Result<(), Refusal> {
        let asserting = message
            .method()
            .filter(|method| !matches!(method, Method::Ack | Method::Cancel))
            .filter(|_| passage.from == Trust::Foreign);
        let identity = match (asserting, self.identities) {
            (Some(method), Some(identities)) => self.judge(message, method, identities)?,
            _ => Choice::default(),
        };
        let privacy = Privacy::of(message);
        // With names of the operator's own, any header may have to go.
        let any = !self.settings.strip_from_ue.is_empty();
        let looked_at =
            |field: &&Field| any || TOUCHED & field.name.bit() != 0 || is_strange(message, field);
        for field in message.fields().iter().filter(looked_at) {
            let foreign = match passage.from {
                Trust::Foreign => self.fate_from_foreign(message, field),
                Trust::Ours => self.fate_from_ours(message, field),
            };
            take_away(message, field, foreign, edits);
            if passage.to == Trust::Foreign {
                take_away(message, field, self.fate_to_foreign(message, field, privacy), edits);
            }
        }
        if asserting.is_some() && passage.to == Trust::Ours {
            identity.put(message, edits);
            if let Some(service) = self.service {
                put_field(message, edits, Name::PAssertedService, |text| {
                    text.put(service);
                });
            }
        }
        Ok(())
    }

    /// The identities to assert: what P-Preferred-Identity names, else the registered one or From, else the
    /// default.
    fn judge<'i>(
        &self,
        message: &Message,
        method: Method,
        identities: &'i [Impu],
    ) -> Result<Choice<'i>, Refusal> {
        let mut choice = Choice::default();
        for (number, value) in message.values(Name::PPreferredIdentity).enumerate() {
            let own = Address::parse(value).and_then(|it| find_own(identities, it.uri()));
            match own.filter(|_| number < 2) {
                Some(own) => choice.add(own),
                None => return Err(Refusal::IdentityForeign),
            }
        }
        let from = message.from().map(|from| from.uri());
        let own_from = from.and_then(|from| find_own(identities, from));
        let anonymous = self.settings.anonymous && from.is_some_and(|from| is_anonymous(&from));
        let judged = matches!(method, Method::Message | Method::Register)
            || self.settings.from_check == FromCheck::Every && message.to_tag().is_empty();
        if judged && own_from.is_none() && !anonymous {
            return Err(Refusal::IdentityForeign);
        }
        if choice.is_empty() {
            let registered = message.to().filter(|_| method == Method::Register);
            let registered = registered.and_then(|to| find_own(identities, to.uri()));
            if let Some(own) = registered.or(own_from).or(identities.first()) {
                choice.add(own);
            }
        }
        Ok(choice)
    }

    fn fate_from_foreign(&self, message: &Message, field: &Field) -> Fate {
        let gone = match field.name {
            Name::PAssertedIdentity
            | Name::PPreferredIdentity
            | Name::PAssertedService
            | Name::PAssociatedUri
            | Name::PCalledPartyId
            | Name::FeatureCaps => true,
            Name::PPreferredService => self.service.is_some(),
            Name::PAccessNetworkInfo => return Fate::Pick(is_of_the_ue),
            Name::HistoryInfo | Name::Diversion => !self.settings.keep_history,
            Name::Require | Name::ProxyRequire if self.sec_agree => {
                return Fate::Pick(is_no_agreement);
            }
            Name::Path | Name::ServiceRoute => message.is_request(),
            Name::AlertInfo
            | Name::CallInfo
            | Name::AnswerMode
            | Name::PrivAnswerMode
            | Name::ResourcePriority => !self.settings.allowed.contains(&field.name),
            name => {
                is_network_header(name)
                    || self.is_consumed(message, field)
                    || self.is_stripped(message, field)
            }
        };
        if gone { Fate::Remove } else { Fate::Keep }
    }

    fn fate_from_ours(&self, message: &Message, field: &Field) -> Fate {
        let preferred = matches!(field.name, Name::PPreferredIdentity | Name::PPreferredService);
        if preferred || self.is_consumed(message, field) { Fate::Remove } else { Fate::Keep }
    }

    fn fate_to_foreign(&self, message: &Message, field: &Field, privacy: Privacy) -> Fate {
        let identity = || privacy.id || !self.settings.pai_to_ue;
        let gone = match field.name {
            Name::PAssertedIdentity => identity(),
            Name::PAssertedService | Name::PAccessNetworkInfo => true,
            Name::HistoryInfo if !privacy.history => return Fate::Pick(is_public_entry),
            Name::Diversion if !privacy.history => return Fate::Pick(is_public_diversion),
            Name::HistoryInfo | Name::Diversion => true,
            Name::Other if is_remote_party_id(message, field) => identity(),
            name => is_network_header(name) || self.is_stripped(message, field),
        };
        if gone { Fate::Remove } else { Fate::Keep }
    }

    /// What is between a neighbour and us, and goes no further in either direction.
    fn is_consumed(&self, message: &Message, field: &Field) -> bool {
        match field.name {
            Name::Authorization | Name::ProxyAuthorization => {
                let row = field.value().of(message.octets());
                let own = self.own_rows.map(|own| own.contains(&field.value()));
                auth::is_bearer(row) || own.unwrap_or_else(|| self.is_own_row(row))
            }
            Name::SecurityClient | Name::SecurityVerify | Name::SecurityServer => self.sec_agree,
            _ => false,
        }
    }

    /// Whether a row of credentials is for one of our realms. A Digest row that does not parse is nobody's, and
    /// is taken for ours. So is one with a second set of credentials behind a comma, if either is.
    fn is_own_row(&self, row: &[u8]) -> bool {
        let gap = row.iter().position(|octet| is_space(*octet)).unwrap_or(row.len());
        let (scheme, list) = row.split_at_checked(gap).unwrap_or_default();
        if !scheme.eq_ignore_ascii_case(b"Digest") {
            return false;
        }
        let Ok(params) = auth::pairs(trim(list)) else { return true };
        params.iter().any(|(name, value)| {
            let word = name.rsplit(|octet| is_space(*octet)).next().unwrap_or_default();
            word.eq_ignore_ascii_case(b"realm") && (self.is_own_realm)(value)
        })
    }

    /// Whether a header belongs to those of [`Settings::strip_from_ue`], or is a network's own extension.
    fn is_stripped(&self, message: &Message, field: &Field) -> bool {
        let name = field.name_span().of(message.octets());
        if ESSENTIAL.contains(&field.name) {
            return false;
        }
        is_remote_party_id(message, field)
            || begins_with(name, b"X-3GPP-")
            || of_the_network(name)
            || self.settings.strip_from_ue.iter().any(|strip| match strip.strip_suffix('*') {
                Some(prefix) => begins_with(name, prefix.as_bytes()),
                None => {
                    name.eq_ignore_ascii_case(strip.as_bytes())
                        || field.name != Name::Other && field.name == Name::of(strip.as_bytes())
                }
            })
    }
}

/// The identities chosen: one SIP or SIPS URI and one tel URI at most.
#[derive(Debug, Default)]
struct Choice<'i> {
    sip: Option<&'i Impu>,
    tel: Option<&'i Impu>,
}

impl<'i> Choice<'i> {
    fn is_empty(&self) -> bool {
        self.sip.is_none() && self.tel.is_none()
    }

    /// Takes `own` if it can be printed and its place is free.
    fn add(&mut self, own: &'i Impu) {
        match own.scheme() {
            Some(Scheme::Sip | Scheme::Sips) => self.sip = self.sip.or(Some(own)),
            Some(Scheme::Tel) => self.tel = self.tel.or(Some(own)),
            Some(Scheme::Other) | None => {}
        }
    }

    fn put(&self, message: &Message, edits: &mut Edits) {
        if self.is_empty() {
            return;
        }
        put_field(message, edits, Name::PAssertedIdentity, |text| {
            for (number, own) in self.sip.into_iter().chain(self.tel).enumerate() {
                text.put(if number == 0 { "<" } else { ", <" }).put(own.as_str()).put(">");
            }
        });
    }
}

/// What the sender asks to be kept from those who are not trusted.
#[derive(Clone, Copy, Debug)]
struct Privacy {
    id: bool,
    history: bool,
}

impl Privacy {
    fn of(message: &Message) -> Self {
        let asks = |token: &[u8]| {
            let rows = message.fields_named(Name::Privacy);
            rows.flat_map(split::semicolons)
                .flat_map(split::commas)
                .any(|asked| asked.eq_ignore_ascii_case(token))
        };
        Self { id: asks(b"id"), history: asks(b"history") || asks(b"header") }
    }
}

/// The caller's own identity that `uri` spells; of two that compare alike the one of the same scheme.
fn find_own<'i>(identities: &'i [Impu], uri: Uri<'_>) -> Option<&'i Impu> {
    // Spelt as it is written down, as it mostly is.
    if let Some(own) = identities.iter().find(|own| own.as_str().as_bytes() == uri.octets()) {
        return Some(own);
    }
    let key = uri.identity();
    let is_tel = |text: &[u8]| begins_with(text, b"tel:");
    let mut own = identities.iter().filter(|own| own.key() == key);
    let first = own.clone().next()?;
    let same = |own: &&Impu| is_tel(own.as_str().as_bytes()) == is_tel(uri.octets());
    Some(own.find(same).unwrap_or(first))
}

/// Whether a URI names nobody.
///
/// Source: RFC 3323 section 4.1.1.3.
fn is_anonymous(uri: &Uri<'_>) -> bool {
    let host = uri.host().strip_suffix(b".").unwrap_or(uri.host());
    host.eq_ignore_ascii_case(b"anonymous.invalid")
}

/// Whether a P-Access-Network-Info value may come from a UE. The words of the network may not, quoted or not.
///
/// Source: RFC 7315 section 4.4.
fn is_of_the_ue(value: &[u8]) -> bool {
    !contains(value, "network-provided")
}

/// Whether a History-Info entry asks for no privacy of its own.
fn is_public_entry(value: &[u8]) -> bool {
    !contains(&decode(value), "privacy=")
}

/// Whether a Diversion entry asks for no privacy of its own.
fn is_public_diversion(value: &[u8]) -> bool {
    !split::semicolons(value).map(split::name_value).any(|(name, value)| {
        let asked = value.unwrap_or_default();
        name.eq_ignore_ascii_case(b"privacy")
            && !auth::unquote(asked).is_some_and(|asked| asked.eq_ignore_ascii_case(b"off"))
    })
}

/// Whether an option tag is not that of RFC 3329: its section 2.3.1 has the proxy that agreed take it away.
fn is_no_agreement(tag: &[u8]) -> bool {
    !tag.eq_ignore_ascii_case(TAG.as_bytes())
}

fn take_away(message: &Message, field: &Field, fate: Fate, edits: &mut Edits) {
    let wanted = match fate {
        Fate::Keep => return,
        Fate::Remove => return edits.remove(field.line()),
        Fate::Pick(wanted) => wanted,
    };
    let value = field.value().of(message.octets());
    if split::commas(value).all(wanted) {
        return;
    }
    let mut kept = split::commas(value).filter(|value| wanted(value)).peekable();
    if kept.peek().is_none() {
        return edits.remove(field.line());
    }
    edits.replace(field.value(), |text| {
        for (number, value) in kept.enumerate() {
            text.put(if number == 0 { "" } else { ", " }).put_unfolded(value);
        }
    });
}

fn put_field(message: &Message, edits: &mut Edits, name: Name, value: impl FnOnce(&mut Text)) {
    edits.insert(message.head_end(), |text| {
        text.field(name.as_str(), value);
    });
}
