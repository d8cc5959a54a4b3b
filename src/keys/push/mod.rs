//! Keys, push: an association that the server makes and the UE did not ask for (GBA Push).
//!
//! 1. The NAF asks the bootstrapping server for push info ([`PushServer`]): one key, and a GPI, from a Ks that is thrown away.
//! 2. The GPI goes to the UE, which checks it with its card and derives the same key (`ue`).
//! 3. Both ends hold an association; messages between them are wrapped (GPL), each under the next number (`gpl`).
//! 4. The NAF's side is pending until the first wrapping of the UE opens, confirmed until its end (`naf`).
//!
//! Takes:   vectors, names, octets that came.
//! Gives:   [`Profile`], how both are written down; the two ends of an association.
//! Keeps:   see each file.
//! Refuses: see each file.
//! Sources: TS 33.223; TS 33.224 (the layer's counters and checks); TS 24.109 clause 4A and annex J. The octets are a profile of
//!          our own, since the standard's layout was not at hand: it is spoken between components of this crate alone.

pub mod gpl;
pub mod naf;
pub mod p1;
pub mod ue;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::derivation::{DeriveError, derive_ks_naf};
use super::vector::{Autn, Auts};
use super::{Ks, KsNaf, NafId, Rand};
use crate::identity::{Impi, Ptid};
use crate::instant::{Now, WallTime};
use crate::wire::Message;

/// The type of a message that carries a GPI.
pub const GPI_TYPE: &str = "application/vnd.3gpp.gba.gpi";
/// The type of a message that is wrapped. Of our own tree, since the octets are a profile of our own.
pub const GPL_TYPE: &str = "application/vnd.sipward.gpl";
/// The header field of a UE's answer: `auts="..."` to a GPI that found its card out of step, `gpl="..."` to a message that
/// it opened.
pub const ANSWER_FIELD: &str = "Gba-Push";
/// What a UE answers to a GPI or to a wrapped message that it cannot open: 493 Undecipherable (RFC 3261 section 21.4.27).
pub const UNDECIPHERABLE: u16 = 493;

/// Which application of the card the challenge is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CardApplication {
    /// The USIM.
    #[default]
    Usim,
    /// The ISIM.
    Isim,
}

/// Push info, as it is before it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpi {
    /// What stands in the clear.
    pub head: GpiHead,
    /// What only the UE reads.
    pub body: GpiBody,
}

/// What stands in the clear: what a card has to be asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpiHead {
    /// Whether the card is one of GBA_U: AUTN is AUTN* then.
    pub on_card: bool,
    /// Which application of it.
    pub application: CardApplication,
    /// The challenge.
    pub rand: Rand,
    /// The network's proof.
    pub autn: Autn,
}

/// What only the UE reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpiBody {
    /// The association's name on the way up.
    pub ptid: Ptid,
    /// For whom the key is.
    pub naf: NafId,
    /// When it ends.
    pub expires: WallTime,
}

/// The way of a wrapped message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the UE.
    Down,
    /// From it.
    Up,
}

/// What stands in the clear before a wrapped message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'o> {
    /// Its way.
    pub direction: Direction,
    /// The name of the association on that way.
    pub id: &'o [u8],
    /// Its number.
    pub number: u32,
}

/// A key of the layer, for one direction.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct LayerKey([u8; 16]);

impl LayerKey {
    /// Takes the octets; the caller's copy is not zeroed.
    pub fn new(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// The octets.
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LayerKey(..)")
    }
}

/// Why octets are no GPI, or no wrapped message of that key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Not the octets of this profile.
    Malformed,
    /// An application of the card that the profile does not know.
    ApplicationUnknown,
    /// The MAC or tag is not right: another key, or altered.
    MacWrong,
    /// Longer than the profile can say.
    TooLong,
}

/// How push info and wrapped messages are written down.
///
/// What an attacker gains if an implementation errs: one that lets altered octets open makes a UE show what nobody sent, or
/// hold a key for another server; one that uses a number twice shows what was wrapped. Never a subscriber's key, nor that of
/// another association, since those are derived before it is asked.
pub trait Profile: fmt::Debug + Send + Sync {
    /// Its name in configuration.
    fn name(&self) -> &'static str;

    /// For whom the key is that protects push info, of that bootstrapping server.
    fn protection(&self, bsf: &str) -> NafId;

    /// Writes push info down, under the key of [`Self::protection`].
    ///
    /// # Errors
    ///
    /// [`Unfit::TooLong`].
    fn seal_gpi(&self, gpi: &Gpi, key: &KsNaf) -> Result<Vec<u8>, Unfit>;

    /// Reads what stands in the clear; nothing of it is proved.
    ///
    /// # Errors
    ///
    /// [`Unfit::Malformed`], [`Unfit::ApplicationUnknown`].
    fn gpi_head(&self, octets: &[u8]) -> Result<GpiHead, Unfit>;

    /// Checks push info as a whole, then reads the rest.
    ///
    /// # Errors
    ///
    /// [`Unfit`]: the MAC is looked at before anything that it covers.
    fn open_gpi(&self, octets: &[u8], key: &KsNaf) -> Result<GpiBody, Unfit>;

    /// The key of one direction of an association.
    ///
    /// # Errors
    ///
    /// [`DeriveError`] never, in practice.
    fn layer_key(&self, key: &KsNaf, direction: Direction) -> Result<LayerKey, DeriveError>;

    /// Wraps a message. A number is used once for each key: see [`gpl::Sender`].
    ///
    /// # Errors
    ///
    /// [`Unfit::TooLong`].
    fn wrap(&self, key: &LayerKey, frame: &Frame<'_>, plain: &[u8]) -> Result<Vec<u8>, Unfit>;

    /// Reads what stands in the clear; nothing of it is proved.
    ///
    /// # Errors
    ///
    /// [`Unfit::Malformed`].
    fn frame<'o>(&self, octets: &'o [u8]) -> Result<Frame<'o>, Unfit>;

    /// Unwraps a message.
    ///
    /// # Errors
    ///
    /// [`Unfit::Malformed`], [`Unfit::MacWrong`].
    fn unwrap(&self, key: &LayerKey, octets: &[u8]) -> Result<Vec<u8>, Unfit>;
}

/// The profile of that name in configuration.
pub fn profile(name: &str) -> Option<Arc<dyn Profile>> {
    let known: [Arc<dyn Profile>; 1] = [Arc::new(p1::P1)];
    known.into_iter().find(|profile| profile.name() == name)
}

/// A Ks of which one association comes and nothing else: it is thrown away with it.
///
/// Source: TS 33.223 clause 3.1 (disposable-Ks).
#[derive(Debug)]
pub struct DisposableKs {
    ks: Ks,
    rand: Rand,
    impi: Impi,
}

impl DisposableKs {
    /// That of a vector, on either side.
    pub fn new(ks: Ks, rand: Rand, impi: Impi) -> Self {
        Self { ks, rand, impi }
    }

    /// The key that protects push info; `of` is what the profile says.
    ///
    /// # Errors
    ///
    /// As [`derive_ks_naf`].
    pub fn protection(&self, of: &NafId) -> Result<KsNaf, DeriveError> {
        derive_ks_naf(&self.ks, &self.rand, &self.impi, of)
    }

    /// The one key that comes of it.
    ///
    /// # Errors
    ///
    /// As [`derive_ks_naf`].
    pub fn into_key(self, naf: &NafId) -> Result<KsNaf, DeriveError> {
        derive_ks_naf(&self.ks, &self.rand, &self.impi, naf)
    }
}

/// The name of an association on the way down: `base64(RAND)@naf`.
///
/// Source: TS 24.109 clause 4A.1.
pub fn downlink_id(rand: &Rand) -> Box<[u8]> {
    format!("{}@naf", BASE64.encode(rand.0)).into_bytes().into()
}

/// What a UE says of a push in its answer: the octets of that part of [`ANSWER_FIELD`].
pub fn answer_part(response: &Message, part: &str) -> Option<Vec<u8>> {
    let mut values = response.fields_called(ANSWER_FIELD);
    let value = values.next().filter(|value| value.len() <= ANSWER_MAX)?;
    let (name, quoted) = std::str::from_utf8(value).ok()?.split_once('=')?;
    let encoded = quoted.trim().strip_prefix('"')?.strip_suffix('"')?;
    let alone = values.next().is_none() && name.trim().eq_ignore_ascii_case(part);
    alone.then(|| BASE64.decode(encoded).ok())?
}

/// The value of [`ANSWER_FIELD`] that says that.
pub fn print_answer(part: &str, octets: &[u8]) -> String {
    format!("{part}=\"{}\"", BASE64.encode(octets))
}

/// Longest value of [`ANSWER_FIELD`], in octets.
const ANSWER_MAX: usize = 512;

/// What a NAF asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PushRequest {
    /// Whose association.
    pub impi: Impi,
    /// For whom and for what the key is.
    pub naf: NafId,
    /// Its name on the way up.
    pub ptid: Ptid,
    /// When it is to end, at the latest.
    pub expires: WallTime,
    /// The challenge that the card found out of step, and what it said to it.
    pub resync: Option<(Rand, Auts)>,
}

/// What a NAF is given.
#[derive(Clone, Debug)]
pub struct PushInfo {
    /// The challenge, which names the association on the way down.
    pub rand: Rand,
    /// The key.
    pub key: KsNaf,
    /// When it ends.
    pub expires: WallTime,
    /// What goes to the UE.
    pub gpi: Box<[u8]>,
}

/// The answer to the question for push info.
#[derive(Clone, Debug)]
pub enum PushAnswer {
    /// The key, and what goes to the UE.
    Known(Box<PushInfo>),
    /// No such subscriber, or a barred one.
    Unknown,
    /// This NAF may not have it (Diameter 5402): the UE is not to be contacted.
    Forbidden,
    /// The AUTS is not the card's, or its challenge was not the last that was pushed.
    AutsWrong,
    /// Too often for this subscriber, or the source cannot be reached.
    Unavailable,
}

/// Where push info comes from without waiting; asked by the shell, never by a stage.
///
/// An implementation that errs lets whoever it gives a key to speak to a subscriber as the server of that name; one that
/// does not count lets a push server move a card's sequence number without end.
pub trait PushSource: Send + Sync {
    /// A key for that subscriber and that NAF. `rand` is random, and used once.
    fn push_info(&self, asked: &PushRequest, rand: Rand, now: Now) -> PushAnswer;
}

/// Whom the shell asks for push info, however long it takes; never asked by a stage.
///
/// An implementation that errs lets whoever it gives a key to speak to a subscriber as the server of that name; so must it
/// be sure who answers, and that nobody else can read the answer.
pub trait PushServer: Send + Sync {
    /// A key for that subscriber and that NAF; [`PushAnswer::Unavailable`] if nobody could say. `rand` is random, and used
    /// once: a server elsewhere draws its own.
    fn ask_push<'a>(&'a self, asked: &'a PushRequest, rand: Rand, now: Now) -> AskingPush<'a>;
}

/// An answer that is under way.
pub type AskingPush<'a> = Pin<Box<dyn Future<Output = PushAnswer> + Send + 'a>>;

/// What is made without waiting can be asked for, too.
impl<T: PushSource> PushServer for T {
    fn ask_push<'a>(&'a self, asked: &'a PushRequest, rand: Rand, now: Now) -> AskingPush<'a> {
        Box::pin(std::future::ready(self.push_info(asked, rand, now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_have_names() {
        assert_eq!(profile("p1").map(|profile| profile.name()), Some("p1"));
        assert!(profile("3gpp").is_none());
    }

    #[test]
    fn keys_are_not_printed() {
        assert_eq!(format!("{:?}", LayerKey::new([7; 16])), "LayerKey(..)");
    }
}
