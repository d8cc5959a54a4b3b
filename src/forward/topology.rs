//! Stage 7, topology: what stands behind the edge, kept from who stands before it, where that is asked for.
//!
//! 1. On its way to a UE a message gets one value in place of all of Via below ours, and one in place of all Record-Route
//!    values that are not of its own side; its Contact becomes one of ours. Each holds what it stands for, sealed.
//! 2. On its way from the UE each gives that back, before anything else is looked at.
//!
//! Takes:   messages that leave to a UE, and messages as they come from one.
//! Gives:   the same with such values, and without them: for the same message the same octets each time.
//! Keeps:   one secret, and those before it until their overlap ends. It has no day: a route set is never told anew, so that a
//!          dialog ends with the overlap of the secret under which it was formed.
//! Refuses: a token that was altered, or is of another call, another message or another place; from a UE, one outside a
//!          dialog. One whose secret is not known here leads to no dialog, which is nobody's fault. More than 4 KiB in one
//!          place are not sent.
//! Sources: RFC 3261 sections 12.1 and 16.6 items 4 and 8; RFC 5393 section 4.2.4; `dialog-association` section 14; V-137;
//!          SEC_CF 1.1 SEC-003; RFC 8452 (a nonce that two texts share gives neither away).
//!
//! What is not hidden: Path, Service-Route, targets of redirections, and whatever else the core writes.

use std::sync::Arc;

use aes_gcm_siv::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use smallvec::SmallVec;

use super::{Listener, Settings};
use crate::instant::WallTime;
use crate::keys::generations::{BEFORE_MAX, Generations};
use crate::refusal::Refusal;
use crate::transport::ListenerId;
use crate::wire::uri::Scheme;
use crate::wire::{Address, Edits, Message, Method, Name, Span, Uri, Via};

/// Octets that one token may stand for, at most.
pub const PLAIN_MAX: usize = 4096;

/// Octets by which a token names its secret.
const NAME_OCTETS: usize = 2;
const NONCE_OCTETS: usize = 12;
/// What the user part, and what is behind the cookie of a branch, begins with.
const MARK: &[u8] = b"hid-";
const COOKIE: &[u8] = b"z9hG4bK";

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Contact,
    Routes,
    Vias,
}

/// Hides and restores.
pub struct Topology(ArcSwap<Ring>);

/// Its secrets, and what each seals and opens with.
struct Ring {
    secrets: Generations,
    /// Those before: each with the time from which on it opens nothing.
    before: SmallVec<[(Key, WallTime); BEFORE_MAX]>,
    current: Key,
}

struct Key {
    cipher: Aes256GcmSiv,
    name: [u8; NAME_OCTETS],
}

impl Key {
    fn of(secret: &[u8; 32]) -> Self {
        let cipher = Aes256GcmSiv::new(&mac(secret, b"sipward topology key 2", &[]).into());
        let [first, second, ..] = mac(secret, b"sipward topology key name", &[]);
        Self { cipher, name: [first, second] }
    }
}

impl Ring {
    fn of(secrets: Generations) -> Self {
        let before =
            secrets.all().filter_map(|(secret, until)| Some((Key::of(secret), until?))).collect();
        Self { before, current: Key::of(secrets.current()), secrets }
    }
}

impl std::fmt::Debug for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Topology(..)")
    }
}

impl Topology {
    /// Tokens under `secret`; whoever shares it reads them.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(ArcSwap::from_pointee(Ring::of(Generations::new(secret))))
    }

    /// Seals under `secret` from now on; what is sealed already is read until `until`.
    pub fn replace(&self, secret: &[u8; 32], until: WallTime) {
        self.0.rcu(|ring| {
            let replaced = ring.secrets.replaced(secret, until);
            replaced.map_or_else(|| Arc::clone(ring), |all| Arc::new(Ring::of(all)))
        });
    }

    /// Forgets secrets whose overlap is over.
    pub fn sweep(&self, wall: WallTime) {
        self.0.rcu(|ring| {
            let swept = ring.secrets.swept(wall);
            swept.map_or_else(|| Arc::clone(ring), |left| Arc::new(Ring::of(left)))
        });
    }

    /// The same tokens.
    pub(super) fn twin(&self) -> Self {
        Self(ArcSwap::new(self.0.load_full()))
    }

    /// A message as a UE may see it that is reached by way of `listener`; `None` if it cannot be hidden.
    pub fn hide(&self, octets: &Bytes, listener: ListenerId, settings: &Settings) -> Option<Bytes> {
        let message = Message::from_datagram(octets.clone()).ok()?;
        let listener = settings.listener(listener)?;
        let mut edits = Edits::new();
        let hider = Hider { topology: self, message: &message, listener, settings };
        let hidden =
            [hider.vias(&mut edits)?, hider.routes(&mut edits)?, hider.contact(&mut edits)?];
        if !hidden.contains(&true) {
            return Some(octets.clone());
        }
        edits.apply(&message).ok().map(Bytes::from)
    }

    /// A message of a UE with what its tokens stand for; `None` if it has none.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenForged`]; [`Refusal::DialogUnknown`] for one of a secret that is not known here, or no more.
    pub fn restore(
        &self,
        message: &Message,
        settings: &Settings,
        wall: WallTime,
    ) -> Result<Option<Message>, Refusal> {
        let mut edits = Edits::new();
        let mut found = false;
        if message.is_request() {
            if let Some(token) = message.uri().and_then(|uri| token_of(&uri, settings)) {
                let target = self.open(token, Kind::Contact, message, wall)?;
                edits.replace(message.request_uri_span(), |text| {
                    text.put(&target);
                });
                found = true;
            }
            found |= self.restore_routes(message, Name::Route, &mut edits, (settings, wall))?;
            if found && message.to_tag().is_empty() {
                return Err(Refusal::TokenForged);
            }
        } else {
            found |=
                self.restore_routes(message, Name::RecordRoute, &mut edits, (settings, wall))?;
            found |= self.restore_vias(message, &mut edits, (settings, wall))?;
        }
        if !found {
            return Ok(None);
        }
        let octets = edits.apply(message).map_err(|_| Refusal::TokenForged)?;
        Message::from_datagram(octets.into()).map(Some).map_err(|_| Refusal::TokenForged)
    }

    fn restore_routes(
        &self,
        message: &Message,
        name: Name,
        edits: &mut Edits,
        (settings, wall): (&Settings, WallTime),
    ) -> Result<bool, Refusal> {
        let mut found = false;
        for value in message.values(name) {
            let Some(route) = Address::parse(value) else { continue };
            let Some(token) = token_of(&route.uri(), settings) else { continue };
            let routes = self.open(token, Kind::Routes, message, wall)?;
            edits.replace(message.span_of(value), |text| {
                text.put(&routes);
            });
            found = true;
        }
        Ok(found)
    }

    fn restore_vias(
        &self,
        message: &Message,
        edits: &mut Edits,
        (settings, wall): (&Settings, WallTime),
    ) -> Result<bool, Refusal> {
        // The first one is ours, and of this pass.
        let Some(value) = message.values(Name::Via).nth(1) else { return Ok(false) };
        let Some(via) = Via::parse(value) else { return Ok(false) };
        let own = settings
            .listeners
            .iter()
            .any(|listener| via.host().eq_ignore_ascii_case(listener.name.as_bytes()));
        let token = via.branch().strip_prefix(COOKIE).and_then(|rest| rest.strip_prefix(MARK));
        let Some(token) = token.filter(|_| own) else { return Ok(false) };
        let vias = self.open(token, Kind::Vias, message, wall)?;
        edits.replace(message.span_of(value), |text| {
            text.put(&vias);
        });
        Ok(true)
    }

    /// Seals what stands for something in `message`. The nonce is made of what is sealed, so that a copy of a message is
    /// the same octets.
    fn seal(&self, plain: &[u8], kind: Kind, message: &Message) -> Option<String> {
        if plain.len() > PLAIN_MAX {
            return None;
        }
        let place = place(kind, message);
        let ring = self.0.load();
        let nonce = mac(ring.secrets.current(), &place, plain);
        let nonce: [u8; NONCE_OCTETS] = *nonce.first_chunk()?;
        let payload = Payload { msg: plain, aad: &place };
        let sealed = ring.current.cipher.encrypt(&Nonce::from(nonce), payload).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&ring.current.name[..], &nonce, &sealed].concat()))
    }

    fn open(
        &self,
        token: &[u8],
        kind: Kind,
        message: &Message,
        wall: WallTime,
    ) -> Result<Vec<u8>, Refusal> {
        let forged = || Refusal::TokenForged;
        let octets = URL_SAFE_NO_PAD.decode(token).map_err(|_| forged())?;
        let (name, octets) = octets.split_first_chunk::<NAME_OCTETS>().ok_or_else(forged)?;
        let (nonce, sealed) = octets.split_first_chunk::<NONCE_OCTETS>().ok_or_else(forged)?;
        let place = place(kind, message);
        let ring = self.0.load();
        let taken = ring.before.iter().filter(|(_, until)| wall < *until).map(|(own, _)| own);
        let keys = std::iter::once(&ring.current).chain(taken);
        let mut named = keys.filter(|key| key.name == *name).peekable();
        if named.peek().is_none() {
            return Err(Refusal::DialogUnknown);
        }
        named
            .find_map(|key| {
                let payload = Payload { msg: sealed, aad: &place };
                key.cipher.decrypt(&Nonce::from(*nonce), payload).ok()
            })
            .ok_or_else(forged)
    }
}

/// One message on its way to a UE. Each part says whether it changed anything; `None` if it cannot be hidden.
struct Hider<'h> {
    topology: &'h Topology,
    message: &'h Message,
    listener: &'h Listener,
    settings: &'h Settings,
}

impl Hider<'_> {
    /// Via below ours, in requests: in responses they are those of the UE's side.
    fn vias(&self, edits: &mut Edits) -> Option<bool> {
        let values: SmallVec<[&[u8]; 8]> = self.message.values(Name::Via).collect();
        let Some((_, below)) = values.split_first().filter(|_| self.message.is_request()) else {
            return Some(false);
        };
        if below.is_empty() {
            return Some(false);
        }
        let token = self.topology.seal(&joined(below), Kind::Vias, self.message)?;
        self.replace(Name::Via, below, edits, |text| {
            text.put("SIP/2.0/UDP ").put(&self.listener.name).put(":");
            text.put_number(self.listener.address.port().into());
            text.put(";branch=").put(COOKIE).put(MARK).put(&token);
        });
        Some(true)
    }

    /// Record-Route values of the core: below our two in a request, above them in a response.
    fn routes(&self, edits: &mut Edits) -> Option<bool> {
        let values: SmallVec<[&[u8]; 8]> = self.message.values(Name::RecordRoute).collect();
        let own = |value: &&[u8]| {
            Address::parse(value).is_some_and(|route| self.settings.is_own(&route.uri()))
        };
        let foreign = match self.message.is_request() {
            true => values.get(values.iter().take_while(|value| own(value)).count()..)?,
            false => values.get(..values.iter().take_while(|value| !own(value)).count())?,
        };
        let Some(first) = foreign.first().and_then(|value| Address::parse(value)) else {
            return Some(false);
        };
        // As they stand in Route: a caller reads them from below (RFC 3261 section 12.1.2).
        let mut ordered: SmallVec<[&[u8]; 8]> = foreign.into();
        if !self.message.is_request() {
            ordered.reverse();
        }
        let token = self.topology.seal(&joined(&ordered), Kind::Routes, self.message)?;
        self.replace(Name::RecordRoute, foreign, edits, |text| {
            text.put("<");
            self.put_uri(text, &first.uri(), &token);
            text.put(";lr>");
        });
        Some(true)
    }

    /// The target of a dialog. That of a redirection is for who asked, and a registrar's are the UE's own.
    fn contact(&self, edits: &mut Edits) -> Option<bool> {
        let forms = match self.message.status() {
            None => true,
            Some(101..=299) => self.message.cseq_method() != Method::Register,
            Some(_) => false,
        };
        let contact = self.message.values(Name::Contact).next().filter(|_| forms);
        let Some(contact) = contact.and_then(Address::parse) else { return Some(false) };
        let uri = contact.uri();
        if self.settings.is_own(&uri) {
            return Some(false);
        }
        let token = self.topology.seal(uri.octets(), Kind::Contact, self.message)?;
        let span = self.message.span_of(uri.octets());
        edits.replace(span, |text| self.put_uri(text, &uri, &token));
        Some(true)
    }

    fn put_uri(&self, text: &mut crate::wire::Text, of: &Uri<'_>, token: &str) {
        text.put(if of.scheme() == Scheme::Sips { "sips:" } else { "sip:" });
        text.put(MARK).put(token).put("@").put(&self.listener.name).put(":");
        text.put_number(self.listener.address.port().into());
    }

    /// Puts one value in the place of several, which follow each other.
    fn replace(
        &self,
        name: Name,
        values: &[&[u8]],
        edits: &mut Edits,
        put: impl FnOnce(&mut crate::wire::Text),
    ) {
        let mut put = Some(put);
        let spans: SmallVec<[Span; 8]> =
            values.iter().map(|value| self.message.span_of(value)).collect();
        for row in self.message.rows(name) {
            let inside = |span: &&Span| {
                span.start() >= row.value().start() && span.end() <= row.value().end()
            };
            let mut here = spans.iter().filter(inside);
            let (Some(first), all) = (here.next(), row.value()) else { continue };
            let last = here.next_back().unwrap_or(first);
            let whole = Span::new(first.start(), last.end());
            let alone = self.message.octets().get(all.start()..first.start());
            match put.take() {
                Some(put) => edits.replace(whole, put),
                // What is left of it would be nothing.
                None if alone.is_some_and(|before| before.iter().all(u8::is_ascii_whitespace))
                    && all.end() == last.end() =>
                {
                    edits.remove(row.line());
                }
                None => edits
                    .replace(Span::new(whole.start(), follows(self.message, whole.end())), |_| {}),
            }
        }
    }
}

/// The place of the value that follows in the same row: behind the comma and white space.
fn follows(message: &Message, end: usize) -> usize {
    let rest = message.octets().get(end..).unwrap_or_default();
    let between = |octet: &&u8| matches!(**octet, b',' | b' ' | b'\t');
    end.saturating_add(rest.iter().take_while(between).count())
}

/// Values as one.
fn joined(values: &[&[u8]]) -> Vec<u8> {
    values.join(&b", "[..])
}

/// The token in a URI of ours.
fn token_of<'u>(uri: &Uri<'u>, settings: &Settings) -> Option<&'u [u8]> {
    let token = uri.user()?.strip_prefix(MARK)?;
    settings.is_own(uri).then_some(token)
}

/// What a token is tied to: its kind and its call; that of Via to its message, too.
fn place(kind: Kind, message: &Message) -> Vec<u8> {
    let mut place = vec![kind as u8];
    place.extend_from_slice(message.call_id());
    if kind == Kind::Vias {
        let number = message.cseq().map_or(0, |cseq| cseq.number);
        place.push(0);
        place.extend_from_slice(&number.to_be_bytes());
        place.extend_from_slice(message.cseq_method().as_str().as_bytes());
        place.extend_from_slice(message.from_tag());
    }
    place
}

fn mac(secret: &[u8; 32], place: &[u8], text: &[u8]) -> [u8; 32] {
    #[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(&(place.len() as u64).to_be_bytes());
    mac.update(place);
    mac.update(text);
    mac.finalize().into_bytes().into()
}
