//! Keys, PSK: from the identity in a handshake to the key that it has to know, and whom that key proves.
//!
//! Takes:   an identity as a peer sent it, the server name it asked for, and the handshake that the key is for.
//! Gives:   [`Psk`], or what has to be looked up first; later, whether what a key proved still holds.
//! Keeps:   provisioned keys, at most [`PROVISIONED_MAX`].
//! Refuses: no one: an identity that is not known, is over [`IDENTITY_MAX`] octets or asks for another server gets a
//!          key that nobody has, at the same cost, so that its handshake ends as with a wrong key.
//! Sources: TS 33.222 clause 5.4; TS 33.220 annexes B.3 and H; RFC 4279 sections 2 and 5.3; RFC 8446 section E.6; V-47.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::visited::Guests;
use super::{GbaType, KeyAnswer, KeySource, NafId, UaId};
use crate::authentication::{Caller, Renewal, bootstrapped};
use crate::gate::Lookup;
use crate::identity::{Btid, Impu, Principal, Proof};
use crate::instant::{Now, WallTime};

/// Longest identity that may be known, in octets.
pub const IDENTITY_MAX: usize = 128;
/// Longest key, in octets.
pub const KEY_MAX: usize = 64;
/// Shortest provisioned key, in octets.
pub const KEY_MIN: usize = 16;
/// Most provisioned keys.
pub const PROVISIONED_MAX: usize = 100_000;

/// What the server hints at, and what the identity of a bootstrapped key begins with.
pub const HINT: &str = "3GPP-bootstrapping";
/// Names of keys that never leave a card, or come from a password: no server of ours gives those.
const OTHER_KEYS: [&str; 2] = ["3GPP-bootstrapping-uicc", "3GPP-bootstrapping-digest"];
/// What the identity of a provisioned key begins with.
pub const PROVISIONED: &str = "psk;";
/// What the identity of a key begins with that another network handed over.
pub const VISITED: &str = "visited;";

/// A pre-shared key: 1 to [`KEY_MAX`] octets.
#[derive(Clone)]
pub struct PskKey(Zeroizing<Vec<u8>>);

impl PskKey {
    /// Takes `octets`; the caller's copy is not zeroed. `None` if there are none, or over [`KEY_MAX`].
    pub fn new(octets: &[u8]) -> Option<Self> {
        let fits = !octets.is_empty() && octets.len() <= KEY_MAX;
        fits.then(|| Self(Zeroizing::new(octets.to_vec())))
    }

    /// The octets, for the handshake.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PskKey(..)")
    }
}

/// The handshake that a key is for: bootstrapped keys differ with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PskUse {
    /// TLS or DTLS up to 1.2, with this cipher suite.
    Suite(u16),
    /// TLS 1.3, whichever suite.
    Tls13,
}

/// Whose number a bootstrapped key for TLS up to 1.2 is made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// 01 00 01 yy zz.
    #[default]
    ThreeGpp,
    /// 03 00 01 yy zz.
    Oma,
}

impl PskUse {
    /// The Ua security protocol identifier.
    ///
    /// Source: TS 33.220 annex H.3; the registry of OMA.
    pub fn ua(self, scheme: Scheme) -> UaId {
        match (self, scheme) {
            (Self::Tls13, _) => UaId::SHARED_KEY_TLS13,
            (Self::Suite(suite), Scheme::ThreeGpp) => UaId::tls(suite),
            (Self::Suite(suite), Scheme::Oma) => UaId::oma_tls(suite),
        }
    }
}

/// What an identity names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PskName {
    /// A bootstrapped key, of this B-TID.
    Bootstrapped(Btid),
    /// A provisioned key, by its whole identity.
    Provisioned(Box<str>),
    /// A key that another network handed over, by its whole identity.
    Visited(Box<str>),
}

impl PskName {
    /// Reads an identity; `None` if it names no key that we could have.
    ///
    /// Between prefix and B-TID stand `;`, `.` or nothing: documents and stacks differ.
    ///
    /// Source: TS 24.109 annexes F.3 and K.3; TS 36.508 clause 4.7H.
    pub fn read(identity: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(identity).ok().filter(|text| text.len() <= IDENTITY_MAX)?;
        if text.strip_prefix(PROVISIONED).is_some_and(|rest| rest.contains('@')) {
            return Some(Self::Provisioned(text.into()));
        }
        if text.strip_prefix(VISITED).is_some_and(|rest| rest.contains('@')) {
            return Some(Self::Visited(text.into()));
        }
        if OTHER_KEYS.iter().any(|prefix| text.starts_with(prefix)) {
            return None;
        }
        let rest = text.strip_prefix(HINT)?;
        let name = rest.strip_prefix([';', '.']).unwrap_or(rest);
        let (rand, server) = name.split_once('@')?;
        let is_base64 = |octet: u8| octet.is_ascii_alphanumeric() || b"+/=".contains(&octet);
        let fits = !rand.is_empty() && rand.bytes().all(is_base64) && !server.is_empty();
        Btid::new(name).filter(|_| fits).map(Self::Bootstrapped)
    }

    /// The identity that a UE sends for a bootstrapped key.
    pub fn identity_of(btid: &Btid) -> String {
        format!("{HINT};{btid}")
    }
}

/// A key that was carried to both ends by hand.
#[derive(Clone, Debug)]
pub struct Provisioned {
    /// The key.
    pub key: PskKey,
    /// Public identities of whoever has it, the default one first.
    pub identities: Arc<[Impu]>,
    /// When it ends, if it does.
    pub expires: Option<WallTime>,
}

/// Provisioned keys by their whole identity.
pub type ProvisionedKeys = HashMap<Box<str>, Arc<Provisioned>>;

/// A key for one handshake.
#[derive(Clone, Debug)]
pub struct Psk {
    /// The key.
    pub key: PskKey,
    /// What it proves; nothing, if nobody has it. A handshake must not end well then.
    pub proof: Option<PskProof>,
}

/// What a handshake with a key proved.
#[derive(Clone, Debug)]
pub struct PskProof {
    /// Who the peer is.
    pub caller: Arc<Caller>,
    origin: Origin,
}

#[derive(Clone, Debug)]
enum Origin {
    Source(Btid, NafId),
    Provisioned(Box<str>, Arc<Provisioned>),
}

/// The answer to one identity.
#[derive(Debug)]
pub enum Found {
    /// The key.
    Key(Psk),
    /// This must be looked up; then [`PskKeys::settle`].
    Ask(Lookup),
}

/// A shared key as a UE uses it.
#[derive(Clone, Debug)]
pub struct PskClient {
    /// What the server knows it by.
    pub identity: String,
    /// The key.
    pub key: PskKey,
    /// What it was made for: the version, and up to 1.2 the one suite that is offered.
    pub of: PskUse,
}

/// What [`PskKeys`] are made of.
pub struct PskSettings {
    /// The name that clients dial: that of the NAF.
    pub server_name: Arc<str>,
    /// How bootstrapped keys for TLS up to 1.2 are made.
    pub scheme: Scheme,
    /// Where bootstrapped keys are, if any are taken.
    pub keys: Option<Arc<dyn KeySource>>,
    /// Random octets, from which the keys are made that nobody has.
    pub decoy: [u8; 32],
}

/// Every key that a handshake may be made with.
pub struct PskKeys {
    settings: PskSettings,
    provisioned: ArcSwap<ProvisionedKeys>,
    guests: Guests,
}

impl PskKeys {
    /// Keys of that source, and those of `provisioned`.
    pub fn new(settings: PskSettings, provisioned: ProvisionedKeys) -> Self {
        Self {
            settings,
            provisioned: ArcSwap::from_pointee(provisioned),
            guests: Guests::default(),
        }
    }

    /// Keys that other networks handed over.
    pub fn guests(&self) -> &Guests {
        &self.guests
    }

    /// The key that was proved in a handshake, if it still holds.
    pub fn key_of(&self, proof: &PskProof, now: Now) -> Option<PskKey> {
        if !self.holds(proof, now) {
            return None;
        }
        match (&proof.origin, &self.settings.keys) {
            (Origin::Source(btid, naf), Some(keys)) => match keys.naf_key(btid, naf, now) {
                KeyAnswer::Known(key) => PskKey::new(key.key.expose()),
                _ => None,
            },
            (Origin::Source(..), None) => None,
            (Origin::Provisioned(_, known), _) => Some(known.key.clone()),
        }
    }

    /// Puts other provisioned keys in the place of the present ones, and gives those back.
    pub fn replace(&self, provisioned: ProvisionedKeys) -> Arc<ProvisionedKeys> {
        self.provisioned.swap(Arc::new(provisioned))
    }

    /// The key for a handshake in which a client sent `identity`, having asked for the server `asked_for`.
    ///
    /// A client that asked for no server is known by its key, which is made for our name.
    pub fn find(&self, identity: &[u8], asked_for: Option<&str>, of: PskUse, now: Now) -> Found {
        // Made for known identities too: they cost the same.
        let decoy = self.decoy(identity);
        let is_ours = asked_for.is_none_or(|name| self.is_server_name(name));
        let found = match PskName::read(identity) {
            Some(PskName::Bootstrapped(btid)) => match self.bootstrapped(btid, of, now) {
                Ok(found) => found,
                Err(lookup) if is_ours => return Found::Ask(lookup),
                Err(_) => None,
            },
            Some(PskName::Provisioned(name)) => {
                let known = self.provisioned.load().get(&name).map(Arc::clone);
                known.and_then(|known| carried(name, known, now))
            }
            // Such a key is made for this one use.
            Some(PskName::Visited(name)) if of == PskUse::Tls13 => {
                let known = self.guests.get(&name);
                known.and_then(|known| carried(name, known, now))
            }
            Some(PskName::Visited(_)) => None,
            None => None,
        };
        Found::Key(found.filter(|_| is_ours).unwrap_or(decoy))
    }

    /// The same after the look-up: what is not known now is not known.
    pub fn settle(&self, identity: &[u8], asked_for: Option<&str>, of: PskUse, now: Now) -> Psk {
        match self.find(identity, asked_for, of, now) {
            Found::Key(psk) => psk,
            Found::Ask(_) => self.decoy(identity),
        }
    }

    /// Whether what a handshake proved still holds: the key has neither ended nor been taken back.
    pub fn holds(&self, proof: &PskProof, now: Now) -> bool {
        if proof.caller.has_expired(now.wall) {
            return false;
        }
        match (&proof.origin, &self.settings.keys) {
            (Origin::Source(btid, naf), Some(keys)) => {
                !matches!(keys.naf_key(btid, naf, now), KeyAnswer::Unknown | KeyAnswer::Forbidden)
            }
            (Origin::Source(..), None) => false,
            (Origin::Provisioned(name, then), _) => {
                let known = match name.starts_with(VISITED) {
                    true => self.guests.get(name),
                    false => self.provisioned.load().get(name).map(Arc::clone),
                };
                known.is_some_and(|known| known.is_same(then))
            }
        }
    }

    /// The name that clients dial.
    pub fn server_name(&self) -> &str {
        &self.settings.server_name
    }

    /// Whether `name` is the one that clients dial.
    fn is_server_name(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        name.eq_ignore_ascii_case(&self.settings.server_name)
    }

    fn bootstrapped(&self, btid: Btid, of: PskUse, now: Now) -> Result<Option<Psk>, Lookup> {
        let Some(keys) = &self.settings.keys else { return Ok(None) };
        let naf = NafId::new(&self.settings.server_name, of.ua(self.settings.scheme));
        match keys.naf_key(&btid, &naf, now) {
            // What a password made proves nobody in a handshake: its realm is of Digest alone.
            KeyAnswer::Known(key) if key.kind != GbaType::Aka => Ok(None),
            KeyAnswer::Known(key) if key.expires > now.wall => Ok(PskKey::new(key.key.expose())
                .map(|psk| Psk {
                    key: psk,
                    proof: Some(PskProof {
                        caller: key.ready.caller(|| bootstrapped(&btid, &key)),
                        origin: Origin::Source(btid, naf),
                    }),
                })),
            KeyAnswer::Ask => Err(Lookup::NafKey { btid, naf }),
            KeyAnswer::Known(_)
            | KeyAnswer::Unknown
            | KeyAnswer::Forbidden
            | KeyAnswer::Unavailable => Ok(None),
        }
    }

    /// A key that nobody has: the same for the same identity, as a real one would be.
    fn decoy(&self, identity: &[u8]) -> Psk {
        let mut octets = Zeroizing::new(self.settings.decoy);
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.settings.decoy) {
            mac.update(identity);
            let mut made = mac.finalize().into_bytes();
            octets.copy_from_slice(&made);
            made.as_mut_slice().zeroize();
        }
        Psk { key: PskKey(Zeroizing::new(octets.to_vec())), proof: None }
    }
}

/// A key that was carried here, unless its time is over.
fn carried(name: Box<str>, known: Arc<Provisioned>, now: Now) -> Option<Psk> {
    if known.expires.is_some_and(|expires| expires <= now.wall) {
        return None;
    }
    let caller = Caller {
        principal: Principal::new(Proof::ProvisionedKey, &*name),
        renewal: Renewal::default(),
        identities: Arc::clone(&known.identities),
        key_name: (&*name).into(),
        expires: known.expires,
        strongest: AtomicU8::new(0),
        rights: Default::default(),
    };
    let proof = PskProof {
        caller: Arc::new(caller),
        origin: Origin::Provisioned(name, Arc::clone(&known)),
    };
    Some(Psk { key: known.key.clone(), proof: Some(proof) })
}

impl Provisioned {
    /// Whether both are the same key of the same user.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same_key = bool::from(self.key.expose().ct_eq(other.key.expose()));
        same_key && self.identities == other.identities && self.expires == other.expires
    }
}

impl fmt::Debug for PskKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PskKeys({}, {} provisioned)", self.server_name(), self.provisioned.load().len())
    }
}

#[cfg(test)]
mod tests;
