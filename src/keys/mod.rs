//! Keys: where they come from, and the types that keep them from being printed.
//!
//! Takes:   subscriber keys, random challenges, names.
//! Gives:   [`Ks`], [`KsNaf`] and what a NAF learns with it ([`NafKey`]); the seams [`KeySource`], [`KeyServer`] and
//!          [`VectorSource`].
//! Keeps:   see `naf` (cache) and `bootstrap` (sessions).
//! Refuses: see each file.
//! Sources: TS 33.220 clauses 4.4, 4.5 and annex B.

pub mod bootstrap;
pub mod calendar;
pub mod derivation;
#[cfg(feature = "diameter")]
pub mod diameter;
pub mod generations;
pub mod milenage;
pub mod naf;
#[cfg(feature = "http")]
pub mod nbsp;
pub mod psk;
pub mod push;
pub mod servers;
pub mod sqn;
pub mod subscribers;
pub mod tuak;
pub mod usim;
pub mod vector;
pub mod visited;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::authentication::{Ready, Uss};
use crate::identity::{Btid, Impi, Impu};
use crate::instant::{Now, WallTime};

macro_rules! secret {
    ($(#[$about:meta])* $type:ident, $length:literal) => {
        $(#[$about])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $type([u8; $length]);

        impl $type {
            /// Takes the octets; the caller's copy is not zeroed.
            pub fn new(octets: [u8; $length]) -> Self {
                Self(octets)
            }

            /// The octets, for the derivation or comparison that needs them.
            pub fn expose(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($type), "(..)"))
            }
        }
    };
}

secret! {
    /// The bootstrapped key, CK || IK. It never leaves BSF and UE.
    Ks, 32
}
secret! {
    /// The key shared by one UE and one NAF for one protocol.
    KsNaf, 32
}
secret! {
    /// What a TLS connection exports for bootstrapping by password: `TLS_MK_Extr`. Both ends of one connection have it,
    /// and nobody else.
    TlsExport, 48
}

/// What a key was bootstrapped with. It decides how NAF keys come of it, and what a NAF may make of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GbaType {
    /// A card, with AKA.
    #[default]
    Aka,
    /// A password of SIP Digest, over TLS (GBA_Digest).
    Digest,
}

/// The random challenge of one bootstrapping run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rand(pub [u8; 16]);

/// FQDN and Ua security protocol identifier: for whom and for what a NAF key is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NafId {
    fqdn: Arc<str>,
    ua: UaId,
}

/// A Ua security protocol identifier: one octet for the organisation, four for its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UaId(pub [u8; 5]);

impl UaId {
    /// OMA: SIP Digest, registered for SEC_CF 1.1.
    pub const SIP_DIGEST: Self = Self([3, 0, 0, 0, 3]);
    /// OMA: LOCSIP 1.0.
    pub const LOCSIP: Self = Self([3, 0, 0, 0, 2]);
    /// 3GPP: HTTP Digest, TS 24.109.
    pub const HTTP_DIGEST: Self = Self([1, 0, 0, 0, 2]);
    /// 3GPP: TMPI generation, TS 33.220 annex B.4.
    pub const TMPI: Self = Self([1, 0, 0, 1, 0]);
    /// 3GPP: TLS 1.3 with a shared key, TS 33.222 clause 5.4.0.2.
    pub const SHARED_KEY_TLS13: Self = Self([1, 0, 0, 0, 7]);
    /// 3GPP: Generic Push Layer, TS 33.224.
    pub const PUSH_LAYER: Self = Self([1, 0, 0, 0, 5]);
    /// Private: what protects the push info of profile P1. No NAF's.
    pub const PUSH_INFO_P1: Self = Self([0xFF, 0, 0, 0, 1]);

    /// 3GPP: TLS up to 1.2 with that cipher suite, with a shared key or with Digest inside.
    pub const fn tls(suite: u16) -> Self {
        let [yy, zz] = suite.to_be_bytes();
        Self([1, 0, 1, yy, zz])
    }

    /// OMA: the same.
    pub const fn oma_tls(suite: u16) -> Self {
        let [yy, zz] = suite.to_be_bytes();
        Self([3, 0, 1, yy, zz])
    }
}

impl NafId {
    /// `fqdn` is folded to lower case and loses what dots it ends in, as both sides must (TS 33.220 annex B.3): what was
    /// folded once does not change again.
    pub fn new(fqdn: &str, ua: UaId) -> Self {
        let fqdn = fqdn.trim_end_matches('.').to_ascii_lowercase();
        Self { fqdn: fqdn.into(), ua }
    }

    /// From [`Self::octets`]; `None` if what precedes the identifier is no name in small letters.
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        let (fqdn, ua) = octets.split_last_chunk::<5>()?;
        let naf = Self::new(std::str::from_utf8(fqdn).ok()?, UaId(*ua));
        (!fqdn.is_empty() && naf.fqdn.as_bytes() == fqdn).then_some(naf)
    }

    /// The name that the UE dialled.
    pub fn fqdn(&self) -> &str {
        &self.fqdn
    }

    /// The protocol.
    pub fn ua(&self) -> UaId {
        self.ua
    }

    /// FQDN octets followed by the five octets of the identifier: what goes into the derivation.
    pub fn octets(&self) -> Vec<u8> {
        [self.fqdn.as_bytes(), &self.ua.0].concat()
    }
}

/// What a BSF tells a NAF about one B-TID.
#[derive(Clone, Debug)]
pub struct NafKey {
    /// Ks_NAF (GBA_ME) or Ks_ext_NAF (GBA_U).
    pub key: KsNaf,
    /// The private identity, if the BSF's policy lets this NAF see it.
    pub impi: Option<Impi>,
    /// Public identities of the subscriber, the default one first.
    pub identities: Arc<[Impu]>,
    /// What the subscriber may use, of the services that this NAF asked about.
    pub uss: Arc<[Uss]>,
    /// When the key ends.
    pub expires: WallTime,
    /// When the bootstrapping run was.
    pub created: WallTime,
    /// What it was made with.
    pub kind: GbaType,
    /// What stage 4 checks credentials with.
    pub ready: Ready,
}

impl NafKey {
    /// The digest password: base64 of the key, standard alphabet, padded (TS 24.109 clause 5.2.2).
    pub fn password(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.key.expose()))
    }
}

/// The answer to the question for a NAF key.
#[derive(Clone, Debug)]
pub enum KeyAnswer {
    /// The key.
    Known(Arc<NafKey>),
    /// No such B-TID, or it has expired: the UE has to bootstrap (Diameter 5403).
    Unknown,
    /// This NAF may not have it (Diameter 5402): 403, no challenge.
    Forbidden,
    /// Not known here; somebody has to be asked.
    Ask,
    /// The source cannot be reached.
    Unavailable,
}

/// Where NAF keys are looked up without waiting: a cache that the shell fills.
///
/// An implementation that errs lets an attacker in as the subscriber whose key it gives out, for as long as it
/// gives it; one that answers `Unknown` wrongly sends UEs to bootstrap again.
pub trait KeySource: Send + Sync {
    /// The key for `btid` and `naf`, or that it has to be asked for.
    fn naf_key(&self, btid: &Btid, naf: &NafId, now: Now) -> KeyAnswer;
}

/// Whom the shell asks for NAF keys that no [`KeySource`] knows, however long it takes; never asked by a stage.
///
/// An implementation that errs lets an attacker in as the subscriber whose key it gives out; so must it be sure who
/// answers, and that nobody else can read the answer.
pub trait KeyServer: Send + Sync {
    /// The key for `btid` and `naf`; [`KeyAnswer::Unavailable`] if nobody could say. Never [`KeyAnswer::Ask`].
    fn ask<'a>(&'a self, btid: &'a Btid, naf: &'a NafId, now: Now) -> Asking<'a>;
}

/// An answer that is under way.
pub type Asking<'a> = Pin<Box<dyn Future<Output = KeyAnswer> + Send + 'a>>;

/// What is known without waiting can be asked for, too.
impl<T: KeySource> KeyServer for T {
    fn ask<'a>(&'a self, btid: &'a Btid, naf: &'a NafId, now: Now) -> Asking<'a> {
        Box::pin(std::future::ready(self.naf_key(btid, naf, now)))
    }
}

/// A vector for one challenge, and whom it is for.
#[derive(Debug)]
pub struct AkaVector {
    /// The vector.
    pub vector: vector::Vector,
    /// Public identities of the subscriber, the default one first; `None` if the name is nobody's.
    pub identities: Option<Arc<[Impu]>>,
}

/// The answer to the question for a vector.
#[derive(Debug)]
pub enum VectorAnswer {
    /// A vector that was never given before; of a name that is nobody's, one that nobody can answer.
    Known(Box<AkaVector>),
    /// The AUTS is not the card's.
    AutsWrong,
    /// Too often for this name, or the source cannot be reached.
    Unavailable,
}

/// Where AKA vectors come from; asked by the shell, never by a stage.
///
/// An implementation that errs lets an attacker in as any subscriber for whom it gives a vector that the attacker
/// can answer: one given twice, or one of another's card. One that takes an AUTS without checking its MAC lets
/// him turn sequence numbers, and so shut the card out. One that answers otherwise for names that are nobody's
/// tells him who is a subscriber.
pub trait VectorSource: Send + Sync {
    /// The next vector of `impi`. `rand` is random, and used once. With `resync`, the card's sequence number is
    /// taken over first; its challenge was given for this name and not answered before.
    fn vector(
        &self,
        impi: &Impi,
        resync: Option<&(Rand, vector::Auts)>,
        rand: Rand,
        now: Now,
    ) -> VectorAnswer;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_folded_stays_as_it_is() {
        for name in ["naf.example.net", "NAF.Example.net.", "naf.example.net.."] {
            let once = NafId::new(name, UaId::SIP_DIGEST);
            assert_eq!(once.fqdn(), "naf.example.net", "{name}");
            assert_eq!(NafId::new(once.fqdn(), once.ua()), once);
            assert_eq!(NafId::from_octets(&once.octets()), Some(once));
        }
        assert_eq!(NafId::from_octets(b"naf.\x03\0\0\0\x03"), None, "as nobody writes it");
    }
}
