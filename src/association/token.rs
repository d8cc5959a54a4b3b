//! Stage 5, tokens: what the Record-Route values of a dialog say to us alone.
//!
//! 1. What leaves with the request that forms a dialog is bound to the call and to one end: the other has no tag yet.
//! 2. What a UE that calls is told by the answer is bound to both ends: it is of that dialog, and of no other of the call.
//!
//! Takes:   what is known of a dialog when its first request leaves, and when it is answered; random octets to seal it with.
//! Gives:   text for the user part of a URI; and what it says, to whoever brings it back in the same call.
//! Keeps:   one secret, and those before it until their overlap ends; of each, each UTC day has a key of its own, derived from
//!          it, of which today's and yesterday's are held.
//! Refuses: a token of a known key that was altered, cut, or put into another call, or another's dialog of one: rule 10. One of an unknown key is
//!          as good as none.
//! Sources: RFC 3261 section 16.6 item 4 (valid for one dialog, encoded so that others are rejected); rules 10 and 23;
//!          SEC_CF 1.1 SEC-003; RFC 8452 (a nonce that is drawn twice shows no more than whether one text was sealed twice).
//!
//! Octets: key id 6 (one for each kind of binding), nonce 12, sealed (version 1, side 1, flags 1, class 1, level 1, number 8, owner of the UE's leg
//! 8, of the core's leg 8, issue time 8), tag 16; base64url without padding.

use std::sync::Arc;

use aes_gcm_siv::aead::inout::InOutBuf;
use aes_gcm_siv::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm_siv::{Aes256GcmSiv, Nonce, Tag};
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

use super::dialog::put_folded;
use crate::enabler::Class;
use crate::enabler::class::{NAMED, OWN_MAX};
use crate::identity::{Principal, Proof};
use crate::instant::WallTime;
use crate::keys::generations::{BEFORE_MAX, Generations};
use crate::transport::Side;

/// Octets of randomness that one seal needs.
pub const NONCE_OCTETS: usize = 12;

const VERSION: u8 = 1;
const DAY: u64 = 86_400;
/// Before the length of a second tag.
const BOTH: u64 = 1 << 63;
const LABEL: &[u8] = b"sipward route token 2";
const KEY_ID_OCTETS: usize = 6;
const PLAIN_OCTETS: usize = 37;
const TAG_OCTETS: usize = 16;
const OCTETS: usize = KEY_ID_OCTETS + NONCE_OCTETS + PLAIN_OCTETS + TAG_OCTETS;
/// Characters of a token.
pub(super) const TEXT_OCTETS: usize = (OCTETS * 4).div_ceil(3);
const FLAG_SECURE: u8 = 1;
const FLAG_INVITE: u8 = 2;
const FLAG_CORE_CALLS: u8 = 4;

/// What a token says of a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteToken {
    /// The side that the value faces.
    pub facing: Side,
    /// The number of what the dialog came of.
    pub id: u64,
    /// Who owns the UE's leg: [`mark`] of the principal.
    pub ue: u64,
    /// Who owns the core's leg: [`group_mark`] of the peer group.
    pub core: u64,
    /// The class.
    pub class: Class,
    /// Least level of evidence for requests from the UE.
    pub level: u8,
    /// Whether requests from the UE must come on secure flows.
    pub secure: bool,
    /// Whether an INVITE formed it.
    pub invite: bool,
    /// The side that sent the forming request.
    pub caller: Side,
    /// When it was made.
    pub issued: WallTime,
    /// Whether it is bound to both ends of one dialog.
    pub whole: bool,
}

/// The tags that a token is bound to.
#[derive(Clone, Copy, Debug)]
pub enum Ends<'t> {
    /// Of who formed the dialog: the other end has none yet.
    Caller(&'t [u8]),
    /// Of who formed it, and of who answered.
    Both(&'t [u8], &'t [u8]),
}

/// Which end of a request likely is that of who formed its dialog: what a token is bound to says it for sure, but not before
/// it is open, and to try the right end first spares half of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// Its sender.
    From,
    /// The other one.
    To,
}

/// What became of a token that somebody brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It says this.
    Token(RouteToken),
    /// No key of ours made it, or one that is too old to be known.
    Unknown,
    /// A known key does not open it for this call.
    Forged,
}

/// Seals and opens route tokens.
pub struct RouteTokens(ArcSwap<Keys>);

/// The keys of one day and of the day before.
struct Keys {
    secrets: Generations,
    day: u64,
    /// The first one seals.
    days: SmallVec<[DayKey; 2 * (1 + BEFORE_MAX)]>,
}

struct DayKey {
    /// From when on it opens nothing, if its secret was replaced.
    until: Option<WallTime>,
    /// Its name on what is bound to one end.
    id: [u8; KEY_ID_OCTETS],
    /// Its name on what is bound to both.
    whole: [u8; KEY_ID_OCTETS],
    cipher: Aes256GcmSiv,
}

impl std::fmt::Debug for RouteTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RouteTokens(..)")
    }
}

impl RouteTokens {
    /// The same tokens.
    pub(super) fn twin(&self) -> Self {
        Self(ArcSwap::new(self.0.load_full()))
    }

    /// Tokens under `secret`, which all nodes of a deployment share.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(ArcSwap::from_pointee(Keys::of(Generations::new(secret), 1)))
    }

    /// Seals under `secret` from now on; what is sealed already opens until `until`, or until its day is over. Whether
    /// that is another secret than before.
    pub fn replace(&self, secret: &[u8; 32], until: WallTime) -> bool {
        let old = self.0.rcu(|keys| {
            let replaced = keys.secrets.replaced(secret, until);
            replaced.map_or_else(|| Arc::clone(keys), |all| Arc::new(Keys::of(all, keys.day)))
        });
        old.secrets.replaced(secret, until).is_some()
    }

    /// Forgets secrets whose overlap is over.
    pub fn sweep(&self, wall: WallTime) {
        self.0.rcu(|keys| {
            let swept = keys.secrets.swept(wall);
            swept.map_or_else(|| Arc::clone(keys), |left| Arc::new(Keys::of(left, keys.day)))
        });
    }

    /// Seals `token` for these ends of the call of `call_id`, `whole` if they are both; `nonce` must be random.
    pub fn seal(
        &self,
        token: &RouteToken,
        call_id: &[u8],
        ends: Ends<'_>,
        nonce: &[u8; NONCE_OCTETS],
    ) -> Option<String> {
        let flag = |holds, flag| if holds { flag } else { 0 };
        let flags = flag(token.secure, FLAG_SECURE)
            | flag(token.invite, FLAG_INVITE)
            | flag(token.caller == Side::Core, FLAG_CORE_CALLS);
        let head = [VERSION, side_code(token.facing), flags, class_code(token.class), token.level];
        let mut plain: SmallVec<[u8; PLAIN_OCTETS]> = SmallVec::from_slice(&head);
        for number in [token.id, token.ue, token.core, token.issued.as_unix()] {
            plain.extend_from_slice(&number.to_be_bytes());
        }
        let keys = self.keys(token.issued);
        let today = keys.days.first()?;
        let id = match ends {
            Ends::Caller(_) => &today.id,
            Ends::Both(..) => &today.whole,
        };
        let aad = bound_to(call_id, ends);
        let (nonce, text) = (Nonce::from(*nonce), InOutBuf::from(&mut plain[..]));
        let tag = today.cipher.encrypt_inout_detached(&nonce, &aad, text).ok()?;
        let mut octets: SmallVec<[u8; OCTETS]> = SmallVec::new();
        for part in [&id[..], &nonce, &plain, &tag] {
            octets.extend_from_slice(part);
        }
        Some(URL_SAFE_NO_PAD.encode(octets))
    }

    /// Whether a key of ours has the name that the user part of a URI begins with.
    pub fn is_named(&self, user: &[u8], now: WallTime) -> bool {
        let name = name_of(user);
        self.keys(now).taken(now).any(|key| name == Some(key.id) || name == Some(key.whole))
    }

    /// Of a token that the key of the day made, which is to seal `now`: whether it is bound to both ends.
    pub(super) fn is_of_today(&self, user: &[u8], now: WallTime) -> Option<bool> {
        let (name, keys) = (name_of(user)?, self.keys(now));
        let today = keys.days.first()?;
        (name == today.id || name == today.whole).then_some(name == today.whole)
    }

    /// Opens what stands in the user part of a URI of a request of the call of `call_id`. Of its `tags`, From and To,
    /// that of the end which formed the dialog must be the one that the token was made for, and the other too if it was
    /// made for both. `likely` says which one is tried first, and nothing else: what opens is the same.
    pub fn open(
        &self,
        user: &[u8],
        call_id: &[u8],
        tags: [&[u8]; 2],
        likely: Former,
        now: WallTime,
    ) -> Opened {
        // The key's name is read first, so that what is cut or altered behind it is known for what it is.
        let Some(name) = name_of(user) else { return Opened::Unknown };
        let keys = self.keys(now);
        let known = keys.taken(now).find(|key| key.id == name || key.whole == name);
        let Some(key) = known else { return Opened::Unknown };
        let whole = key.whole == name;
        let Some(Sealed { nonce, text, tag }) = Sealed::read(user) else { return Opened::Forged };
        let [from, to] = tags;
        let mut tries = [(from, to, true), (to, from, false)];
        if likely == Former::To {
            tries.reverse();
        }
        for (end, other, by_caller) in tries {
            let ends = if whole { Ends::Both(end, other) } else { Ends::Caller(end) };
            let (aad, mut plain) = (bound_to(call_id, ends), text);
            let octets = InOutBuf::from(&mut plain[..]);
            if key.cipher.decrypt_inout_detached(&nonce, &aad, octets, &tag).is_ok() {
                let Some(token) = read(&plain, whole) else { return Opened::Unknown };
                if by_caller == (token.caller == token.facing) {
                    return Opened::Token(token);
                }
            }
        }
        Opened::Forged
    }

    /// The keys of the day of `wall` and of the day before.
    fn keys(&self, wall: WallTime) -> arc_swap::Guard<Arc<Keys>> {
        let day = wall.as_unix() / DAY;
        let keys = self.0.load();
        if keys.day == day {
            return keys;
        }
        drop(keys);
        self.0.rcu(|keys| Keys::of(keys.secrets.clone(), day));
        self.0.load()
    }
}

impl Keys {
    /// Those that open something at `now`.
    fn taken(&self, now: WallTime) -> impl Iterator<Item = &DayKey> {
        self.days.iter().filter(move |key| key.until.is_none_or(|until| now < until))
    }

    fn of(secrets: Generations, day: u64) -> Self {
        let of_days = |(secret, until)| {
            [day, day.saturating_sub(1)].map(|day| DayKey { until, ..day_key(secret, day) })
        };
        let days = secrets.all().flat_map(of_days).collect();
        Self { secrets, day, days }
    }
}

/// What stands behind the name of a key.
struct Sealed {
    nonce: Nonce,
    text: [u8; PLAIN_OCTETS],
    tag: Tag,
}

impl Sealed {
    fn read(user: &[u8]) -> Option<Self> {
        let mut octets = [0_u8; OCTETS];
        let length = URL_SAFE_NO_PAD.decode_slice(user, &mut octets).ok()?;
        let (_, sealed) = octets.get(..length)?.split_first_chunk::<KEY_ID_OCTETS>()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_OCTETS>()?;
        let (text, tag) = sealed.split_first_chunk::<PLAIN_OCTETS>()?;
        let tag: [u8; TAG_OCTETS] = tag.try_into().ok()?;
        Some(Self { nonce: Nonce::from(*nonce), text: *text, tag: Tag::from(tag) })
    }
}

/// The name of a key at the head of a token.
fn name_of(user: &[u8]) -> Option<[u8; KEY_ID_OCTETS]> {
    let head = user.get(..user.len().min(8))?;
    let mut id = [0_u8; KEY_ID_OCTETS];
    (URL_SAFE_NO_PAD.decode_slice(head, &mut id) == Ok(KEY_ID_OCTETS)).then_some(id)
}

fn read(plain: &[u8], whole: bool) -> Option<RouteToken> {
    let (head, numbers) = plain.split_first_chunk::<5>()?;
    let [version, facing, flags, class, level] = *head;
    let mut numbers = numbers.chunks_exact(8).map(|eight| eight.try_into().map(u64::from_be_bytes));
    let mut number = || numbers.next()?.ok();
    (version == VERSION).then_some(())?;
    Some(RouteToken {
        facing: if facing == side_code(Side::Ue) { Side::Ue } else { Side::Core },
        id: number()?,
        ue: number()?,
        core: number()?,
        class: class_of(class)?,
        level,
        secure: flags & FLAG_SECURE != 0,
        invite: flags & FLAG_INVITE != 0,
        caller: if flags & FLAG_CORE_CALLS == 0 { Side::Ue } else { Side::Core },
        issued: WallTime::from_unix(number()?),
        whole,
    })
}

fn day_key(secret: &[u8; 32], day: u64) -> DayKey {
    let derive = |what: &[u8]| {
        #[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        mac.update(LABEL);
        mac.update(what);
        mac.update(&day.to_be_bytes());
        mac.finalize().into_bytes()
    };
    let name = |of| derive(of).first_chunk::<KEY_ID_OCTETS>().copied().unwrap_or_default();
    let (id, whole) = (name(b"name"), name(b"name of dialogs"));
    DayKey { until: None, id, whole, cipher: Aes256GcmSiv::new(&derive(b"key")) }
}

/// What a token is sealed for: a Call-ID and tags, which are compared without case, each after its length. What is
/// bound to both ends can not be read as bound to one: its octets begin with the length of a tag whose first bit is
/// set, which no Call-ID's is.
fn bound_to(call_id: &[u8], ends: Ends<'_>) -> SmallVec<[u8; 256]> {
    let length = |of: &[u8]| u64::try_from(of.len()).unwrap_or(BOTH) & !BOTH;
    let mut octets = SmallVec::new();
    let caller = match ends {
        Ends::Caller(caller) => caller,
        Ends::Both(caller, other) => {
            octets.extend_from_slice(&(length(other) | BOTH).to_be_bytes());
            put_folded(&mut octets, other);
            caller
        }
    };
    octets.extend_from_slice(&length(call_id).to_be_bytes());
    octets.extend_from_slice(call_id);
    put_folded(&mut octets, caller);
    octets
}

/// What a token says of the owner of a UE's leg: eight octets of a hash of kind and name.
pub fn mark(principal: &Principal) -> u64 {
    mark_of(proof_code(principal.proof), &principal.name)
}

/// What a token says of the owner of a core's leg.
pub fn group_mark(name: &str) -> u64 {
    mark_of(proof_code(Proof::PeerCertificate), name)
}

fn mark_of(kind: u8, name: &str) -> u64 {
    let hash = Sha256::new().chain_update([kind]).chain_update(name.as_bytes()).finalize();
    u64::from_be_bytes(hash.first_chunk::<8>().copied().unwrap_or_default())
}

/// Codes never change: a token may be older than the process that reads it.
fn proof_code(proof: Proof) -> u8 {
    match proof {
        Proof::Gba => 1,
        Proof::ProvisionedKey => 2,
        Proof::Account => 3,
        Proof::Aka => 4,
        Proof::UserCertificate => 5,
        Proof::PeerCertificate => 6,
        Proof::Address => 7,
    }
}

fn side_code(side: Side) -> u8 {
    match side {
        Side::Ue => 1,
        Side::Core => 2,
    }
}

fn class_code(class: Class) -> u8 {
    match class {
        Class::Reg => 1,
        Class::Sip => 2,
        Class::CpmPager => 3,
        Class::CpmSystem => 4,
        Class::CpmSession => 5,
        Class::CpmLarge => 6,
        Class::CpmFile => 7,
        Class::CpmDeferred => 8,
        Class::CpmGroup => 9,
        Class::Locsip => 10,
        Class::Push => 11,
        Class::Own(place) => place.saturating_add(OWN),
    }
}

/// Where the codes of the operator's own classes begin.
const OWN: u8 = 32;

fn class_of(code: u8) -> Option<Class> {
    let own = code.checked_sub(OWN).filter(|place| usize::from(*place) < OWN_MAX).map(Class::Own);
    let mut known = [Class::Reg, Class::Sip, Class::Push].into_iter().chain(NAMED);
    own.or_else(|| known.find(|class| class_code(*class) == code))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: WallTime = WallTime::from_unix(1_790_000_000);

    fn token() -> RouteToken {
        RouteToken {
            facing: Side::Core,
            id: 77,
            ue: 5,
            core: u64::MAX,
            class: Class::Sip,
            level: 3,
            secure: true,
            invite: true,
            caller: Side::Core,
            issued: NOON,
            whole: false,
        }
    }

    /// Whichever end is tried first.
    fn open(
        at: &RouteTokens,
        text: impl AsRef<[u8]>,
        call: &[u8],
        tags: [&[u8]; 2],
        wall: WallTime,
    ) -> Opened {
        let [one, other] = [Former::From, Former::To]
            .map(|likely| at.open(text.as_ref(), call, tags, likely, wall));
        assert_eq!(one, other, "{tags:?}");
        one
    }

    fn later(days: u64) -> WallTime {
        WallTime::from_unix(NOON.as_unix() + days * DAY)
    }

    #[test]
    fn opens_in_its_own_call_today_and_tomorrow_and_is_unknown_after() {
        let tokens = RouteTokens::new([3; 32]);
        let text = tokens
            .seal(&token(), b"call", Ends::Caller(b"Tag"), &[9; NONCE_OCTETS])
            .expect("sealed");
        assert_eq!(text.len(), TEXT_OCTETS);
        for (days, call, tags, expected) in [
            (0, &b"call"[..], [&b"Tag"[..], b"b"], Opened::Token(token())),
            (1, b"call", [b"tAG", b"b"], Opened::Token(token())),
            (0, b"Call", [b"Tag", b"b"], Opened::Forged),
            (1, b"other", [b"Tag", b"b"], Opened::Forged),
            (0, b"call", [b"other", b"b"], Opened::Forged),
            (0, b"call", [b"b", b"Tag"], Opened::Forged),
            (0, b"callTag", [b"", b""], Opened::Forged),
            (2, b"call", [b"Tag", b"b"], Opened::Unknown),
            (0, b"call", [b"Tag", b"Tag"], Opened::Token(token())),
        ] {
            assert_eq!(
                open(&tokens, &text, call, tags, later(days)),
                expected,
                "{days} {call:?} {tags:?}"
            );
        }
        // What faces who was called opens for the tag that he has in To.
        let other = RouteToken { facing: Side::Ue, ..token() };
        let back =
            tokens.seal(&other, b"call", Ends::Caller(b"Tag"), &[9; NONCE_OCTETS]).expect("sealed");
        for (tags, expected) in [
            ([&b"b"[..], b"tag"], Opened::Token(other)),
            ([b"Tag", b"b"], Opened::Forged),
            ([b"b", b"c"], Opened::Forged),
        ] {
            assert_eq!(open(&tokens, &back, b"call", tags, NOON), expected, "{tags:?}");
        }
        let tags = [&b"tag"[..], b"b"];
        let same = RouteTokens::new([3; 32]);
        assert_eq!(open(&same, &text, b"call", tags, NOON), Opened::Token(token()), "restarted");
        let other = RouteTokens::new([4; 32]);
        assert_eq!(open(&other, &text, b"call", tags, NOON), Opened::Unknown, "another secret");
    }

    /// SEC-003: what the secret before sealed opens until the overlap ends, and nothing is sealed under it any more.
    #[test]
    fn a_replaced_secret_opens_until_its_overlap_ends() {
        let tokens = RouteTokens::new([3; 32]);
        let seal = |at: &RouteTokens| {
            at.seal(&token(), b"call", Ends::Caller(b"Tag"), &[9; NONCE_OCTETS]).expect("sealed")
        };
        let open =
            |at: &RouteTokens, text: &str, wall| open(at, text, b"call", [b"Tag", b"b"], wall);
        let old = seal(&tokens);
        let end = later(1);
        assert!(!tokens.replace(&[3; 32], end), "it is in force");
        assert!(tokens.replace(&[4; 32], end));
        let new = seal(&tokens);
        let (before, after) = (RouteTokens::new([3; 32]), RouteTokens::new([4; 32]));
        assert_eq!(open(&before, &new, NOON), Opened::Unknown);
        assert_eq!(open(&after, &new, NOON), Opened::Token(token()));
        let last = WallTime::from_unix(end.as_unix() - 1);
        for wall in [NOON, last] {
            assert_eq!(open(&tokens, &old, wall), Opened::Token(token()));
            assert_eq!(open(&tokens.twin(), &old, wall), Opened::Token(token()));
        }
        // Altered, it is forged as long as its key is known.
        let altered = [&old[..old.len() - 4], "AAAA"].concat();
        assert_eq!(open(&tokens, &altered, NOON), Opened::Forged);
        assert_eq!(open(&tokens, &old, end), Opened::Unknown, "the overlap is over");
        assert_eq!(open(&tokens, &new, end), Opened::Token(token()));
        tokens.sweep(last);
        assert_eq!(open(&tokens, &old, last), Opened::Token(token()));
        tokens.sweep(end);
        assert_eq!(open(&tokens, &old, last), Opened::Unknown, "it is forgotten");
        assert_eq!(open(&tokens, &new, last), Opened::Token(token()));
    }

    /// V-104: of two dialogs of one call, whose callers have one tag, what is bound to both ends of one is not of the other.
    #[test]
    fn what_is_bound_to_both_ends_opens_in_that_dialog_alone() {
        let tokens = RouteTokens::new([3; 32]);
        let nonce = [9; NONCE_OCTETS];
        let (called, calls) = (Ends::Both(b"Tag", b"b"), RouteToken { whole: true, ..token() });
        let text = tokens.seal(&calls, b"call", called, &nonce).expect("sealed");
        assert_eq!(text.len(), TEXT_OCTETS);
        assert!(tokens.is_named(text.as_bytes(), NOON) && !tokens.is_named(b"alice", NOON));
        for (call, tags, expected) in [
            (&b"call"[..], [&b"tAG"[..], b"B"], Opened::Token(calls)),
            (b"call", [b"Tag", b"c"], Opened::Forged),
            (b"call", [b"Tag", b""], Opened::Forged),
            (b"call", [b"b", b"Tag"], Opened::Forged),
            (b"calls", [b"Tag", b"b"], Opened::Forged),
        ] {
            assert_eq!(open(&tokens, &text, call, tags, NOON), expected, "{call:?} {tags:?}");
        }
        // The name of its key says how it is bound, and nothing opens under the other name.
        let one = tokens.seal(&token(), b"call", Ends::Caller(b"Tag"), &nonce).expect("sealed");
        for [name, rest] in [[&text, &one], [&one, &text]] {
            let mixed = [&name.as_bytes()[..8], &rest.as_bytes()[8..]].concat();
            for tags in [[&b"Tag"[..], b"b"], [b"b", b"Tag"], [b"Tag", b""], [b"", b"Tag"]] {
                assert_eq!(open(&tokens, &mixed, b"call", tags, NOON), Opened::Forged, "{tags:?}");
            }
        }
    }

    /// V-104: one bit turned, or an end cut off.
    #[test]
    fn whatever_is_altered_does_not_open() {
        let tokens = RouteTokens::new([3; 32]);
        let text = tokens
            .seal(&token(), b"call", Ends::Caller(b"Tag"), &[9; NONCE_OCTETS])
            .expect("sealed");
        for place in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
            let opened = open(&tokens, &altered, b"call", [b"Tag", b""], NOON);
            let expected = if place < 8 { Opened::Unknown } else { Opened::Forged };
            assert_eq!(opened, expected, "altered at {place}");
        }
        for cut in 8..text.len() {
            assert_eq!(open(&tokens, &text[..cut], b"call", [b"Tag", b""], NOON), Opened::Forged);
        }
        let long = [text.as_bytes(), &[b'A'; 500]].concat();
        assert_eq!(open(&tokens, &long, b"call", [b"Tag", b""], NOON), Opened::Forged);
        for foreign in [&b""[..], b"alice", b"+12015550101", &[0xFF; 200]] {
            assert_eq!(open(&tokens, foreign, b"call", [b"Tag", b""], NOON), Opened::Unknown);
        }
    }

    #[test]
    fn owners_of_one_name_and_different_proof_have_different_marks() {
        let of = |proof| mark(&Principal::new(proof, "alice"));
        assert_ne!(of(Proof::Gba), of(Proof::Account));
        assert_ne!(of(Proof::PeerCertificate), group_mark("bob"));
    }
}
