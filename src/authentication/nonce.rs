//! Stage 4, nonces: the ones we hand out, and the counts we accept on them.
//!
//! Takes:   a nonce and its count as they stood in the credentials, and the time.
//! Gives:   a new nonce; or [`Seal`], what an old one says of itself, and then whether its count is unspent.
//! Keeps:   a window of 64 counts for each nonce answered at least once, at most `max_windows`; an unanswered
//!          challenge costs no memory, since a nonce carries its birth time and our MAC. Where nodes share their nonces,
//!          at most [`READY_MAX`] answers of the store that nobody has taken yet.
//! Refuses: a MAC that is not ours; then, as stale, a nonce past its lifetime, from before our start, of
//!          another Call-ID where that is its scope, and a count seen before.
//! Sources: RFC 7616 sections 3.3 (nonce, stale) and 3.4 (nc); RFC 8760 section 2.
//!
//! Nodes that share nonces make them under a common key, and every count of such a nonce is spent in their store, by
//! whichever node it comes to; so each passes once in all. While the store does not answer, none passes, and nonces are
//! made that this node alone takes: rule 21 asks for another response with one of those.
//!
//! Octets: version 1, issue time (Unix seconds) 7, number 8, scope 4, MAC 16; base64url without padding.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::admission::Recent;
use crate::gate::Gate;
use crate::instant::{Now, WallTime};
use crate::state::Count;

/// Length of a nonce as text.
pub const NONCE_LENGTH: usize = 48;
/// Most answers of the store that wait to be taken.
pub const READY_MAX: usize = 65_536;
/// Of nonces that this node alone takes.
const VERSION: u8 = 1;
/// Of those that every node takes.
const SHARED: u8 = 2;
const SEALED: usize = 20;
/// A request waits for at most two seconds.
const READY_LIFETIME: Duration = Duration::from_secs(4);
/// How long the store is not asked after it did not answer.
const AWAY: Duration = Duration::from_secs(5);

/// How nonces live.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long one is good.
    pub lifetime: Duration,
    /// Most windows kept.
    pub max_windows: usize,
    /// Whether one is good for the Call-ID it was made for alone.
    pub per_dialog: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { lifetime: Duration::from_secs(300), max_windows: 1_000_000, per_dialog: false }
    }
}

/// Makes nonces and opens them again.
pub struct Nonces {
    terms: ArcSwap<Terms>,
    mac: Hmac<Sha256>,
    next: AtomicU64,
    windows: Recent<u64, Window>,
    shared: Option<Shared>,
}

/// What nodes that share nonces need.
struct Shared {
    mac: Hmac<Sha256>,
    /// Answers of the store, each for one use in one request.
    ready: Recent<Use, Option<bool>>,
    /// Until when the store is not asked, in microseconds of the steady clock.
    away_until: AtomicU64,
}

impl Shared {
    fn new(mac: Hmac<Sha256>, away_until: u64) -> Self {
        let ready = Recent::new(READY_MAX, READY_LIFETIME);
        Self { mac, ready, away_until: AtomicU64::new(away_until) }
    }

    fn trial(&self) -> Self {
        Self::new(self.mac.clone(), self.away_until.load(Ordering::Relaxed))
    }
}

/// One use of a nonce: what the store is asked, and which request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Use {
    /// The count.
    pub count: Count,
    /// Until when its nonce is good.
    pub until: WallTime,
    /// The same for each copy of a request.
    pub request: u64,
}

/// What became of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// It was not spent before.
    Fresh,
    /// The nonce or the count is stale.
    Stale,
    /// The store has to be asked: then [`Nonces::put`], and again.
    Ask(Use),
    /// The store does not answer.
    Away,
}

#[derive(Clone, Copy, Debug)]
struct Terms {
    settings: Settings,
    /// A nonce issued before this is stale: nothing is known of its counts any more.
    since: WallTime,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nonces").field("terms", &self.terms).finish_non_exhaustive()
    }
}

/// A nonce whose MAC is ours, opened.
#[derive(Clone, Copy, Debug)]
pub struct Seal {
    issued: WallTime,
    number: u64,
    scope: u32,
    /// Whether other nodes take it too.
    shared: bool,
}

impl Seal {
    /// The number of the nonce.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether its counts are spent in a store.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// How old it is, in whole seconds.
    pub(super) fn age(&self, now: Now) -> Duration {
        now.wall.since(self.issued)
    }
}

/// Counts accepted on one nonce: the highest, and which of the 64 up to it.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    highest: u32,
    seen: u64,
}

impl Nonces {
    /// Nonces sealed with `key`. Those issued before now are stale: their windows were lost with the process
    /// that kept them. `start` is where numbering begins, different in each process.
    pub fn new(settings: Settings, key: &[u8; 32], start: u64, now: Now) -> Self {
        let windows = Recent::new(settings.max_windows, window_life(&settings));
        #[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mac = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        let terms = ArcSwap::from_pointee(Terms { settings, since: now.wall });
        Self { terms, mac, next: AtomicU64::new(start), windows, shared: None }
    }

    /// The same, shared with every node that has `key`. Their counts are spent in a store, which the shell asks.
    #[must_use]
    pub fn shared_under(self, key: &[u8; 32]) -> Self {
        #[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mac = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        Self { shared: Some(Shared::new(mac, 0)), ..self }
    }

    /// What the store said to a use: whether it was the first; `None` if it does not answer.
    pub fn put(&self, asked: Use, first: Option<bool>, now: Now) {
        let Some(shared) = &self.shared else { return };
        match first {
            Some(first) => shared.ready.with(asked, now.mono, |place, _| *place = Some(first)),
            None => self.store_is_away(now),
        }
    }

    /// The store did not answer in time: it is not asked again for a while, and nonces are this node's own meanwhile.
    pub fn store_is_away(&self, now: Now) {
        if let Some(shared) = &self.shared {
            let until = (now.mono + AWAY).as_micros();
            shared.away_until.fetch_max(until, Ordering::Relaxed);
        }
    }

    /// The shared part, while the store is asked.
    fn sharing(&self, now: Now) -> Option<&Shared> {
        let asked =
            |shared: &&Shared| shared.away_until.load(Ordering::Relaxed) <= now.mono.as_micros();
        self.shared.as_ref().filter(asked)
    }

    /// Nonces over those of `of`: none of their counts is spent by it.
    pub(super) fn trial(of: &Arc<Gate>) -> Self {
        let Self { terms, mac, next, windows, shared } = &of.authentication.nonces;
        let beneath = Arc::clone(of);
        Self {
            terms: ArcSwap::new(terms.load_full()),
            mac: mac.clone(),
            next: AtomicU64::new(next.load(Ordering::Relaxed)),
            windows: Recent::over(windows, move |key, now| {
                beneath.authentication.nonces.windows.peek(key, now)
            }),
            // A store is not asked for the sake of an explanation: what it would be asked is said.
            shared: shared.as_ref().map(Shared::trial),
        }
    }

    /// Puts other settings in the place of the present ones; nonces and their windows stay. A longer lifetime does
    /// not bring back what has lapsed: its windows may be gone, and then its counts would pass twice.
    pub fn replace_settings(&self, settings: Settings, now: Now) {
        let Terms { settings: old, since } = **self.terms.load();
        let ago = now.wall.as_unix().saturating_sub(old.lifetime.as_secs());
        let since = since.max(WallTime::from_unix(ago));
        // No window goes before its nonce is refused, in between either.
        let shorter = settings.lifetime < old.lifetime;
        if !shorter {
            self.windows.set_period(window_life(&settings));
        }
        self.terms.store(Arc::new(Terms { settings, since }));
        if shorter {
            self.windows.set_period(window_life(&settings));
        }
    }

    /// A new nonce for a request with that Call-ID.
    pub fn issue(&self, call_id: &[u8], now: Now) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut octets = [0_u8; 36];
        let (version, mac) =
            self.sharing(now).map_or((VERSION, &self.mac), |shared| (SHARED, &shared.mac));
        let issued = now.wall.as_unix().to_be_bytes();
        let scope = self.scope(call_id).to_be_bytes();
        let sealed =
            [&[version][..], issued.get(1..).unwrap_or_default(), &number.to_be_bytes(), &scope];
        for (slot, octet) in octets.iter_mut().zip(sealed.into_iter().flatten()) {
            *slot = *octet;
        }
        let (sealed, tag) = octets.split_at_mut(SEALED);
        tag.copy_from_slice(&tag_of(mac, sealed));
        URL_SAFE_NO_PAD.encode(octets)
    }

    /// Opens a nonce; `None` if its MAC is not ours or it comes from the future.
    pub fn open(&self, nonce: &[u8], now: Now) -> Option<Seal> {
        if nonce.len() != NONCE_LENGTH {
            return None;
        }
        let mut octets = [0_u8; 36];
        let length = URL_SAFE_NO_PAD.decode_slice(nonce, &mut octets).ok()?;
        let (sealed, mac) = octets.get(..length)?.split_at_checked(SEALED)?;
        let shared = sealed.first() == Some(&SHARED);
        let key = if shared { &self.shared.as_ref()?.mac } else { &self.mac };
        let mut check = key.clone();
        check.update(sealed);
        check.verify_truncated_left(mac).ok()?;
        let (head, scope) = sealed.split_at_checked(16)?;
        let (head, number) = head.split_at_checked(8)?;
        let mut issued: [u8; 8] = head.try_into().ok()?;
        let version = std::mem::take(issued.first_mut()?);
        let issued = WallTime::from_unix(u64::from_be_bytes(issued));
        let ahead = issued.since(now.wall) > Duration::from_secs(1);
        let known = if shared { SHARED } else { VERSION };
        (version == known && !ahead).then_some(Seal {
            issued,
            shared,
            number: u64::from_be_bytes(number.try_into().ok()?),
            scope: u32::from_be_bytes(scope.try_into().ok()?),
        })
    }

    /// Spends one count of a nonce. To be asked only when the response was right, so that nobody else can spend it.
    /// `request` is the same for each copy of a request.
    pub fn spend(&self, seal: &Seal, count: u32, call_id: &[u8], request: u64, now: Now) -> Spent {
        let age = now.wall.since(seal.issued);
        let terms = self.terms.load();
        let elsewhere = seal.scope != 0 && seal.scope != self.scope(call_id);
        // The store remembers what was spent before this process began.
        let before = !seal.shared && seal.issued < terms.since;
        if age > terms.settings.lifetime || before || elsewhere {
            return Spent::Stale;
        }
        if seal.shared {
            let until = seal.issued + terms.settings.lifetime;
            return self.spend_shared(seal, count, until, request, now);
        }
        let fresh = self.spend_own(seal, count, age, now);
        if fresh { Spent::Fresh } else { Spent::Stale }
    }

    fn spend_shared(
        &self,
        seal: &Seal,
        count: u32,
        until: WallTime,
        request: u64,
        now: Now,
    ) -> Spent {
        let Some(shared) = &self.shared else { return Spent::Stale };
        let asked = Use { count: Count { nonce: seal.number, count }, until, request };
        match shared.ready.remove(&asked, now.mono).flatten() {
            Some(true) => Spent::Fresh,
            Some(false) => Spent::Stale,
            None if self.sharing(now).is_some() => Spent::Ask(asked),
            None => Spent::Away,
        }
    }

    fn spend_own(&self, seal: &Seal, count: u32, age: Duration, now: Now) -> bool {
        self.windows.with(seal.number, now.mono, |window, floor| {
            // Its window may have been dropped to make room: then nothing is known of its counts.
            let issued = Duration::from_micros(now.mono.as_micros()).saturating_sub(age);
            let floor = Duration::from_micros(floor.as_micros());
            let forgotten =
                window.seen == 0 && !floor.is_zero() && issued <= floor.saturating_add(SECOND);
            !forgotten && window.spend(count)
        })
    }

    /// Whether a nonce has passed half its life, so that a new one should go out with the answer.
    pub fn is_ageing(&self, seal: &Seal, now: Now) -> bool {
        now.wall.since(seal.issued).saturating_mul(2) > self.terms.load().settings.lifetime
    }

    /// How long a nonce is good.
    pub(super) fn lifetime(&self) -> Duration {
        window_life(&self.terms.load().settings)
    }

    /// Windows and answers held.
    pub fn footprint(&self) -> usize {
        let ready = self.shared.as_ref().map_or(0, |shared| shared.ready.len());
        self.windows.len().saturating_add(ready)
    }

    fn scope(&self, call_id: &[u8]) -> u32 {
        if !self.terms.load().settings.per_dialog {
            return 0;
        }
        let hash = Sha256::digest(call_id);
        let four = hash.first_chunk::<4>().copied().unwrap_or_default();
        u32::from_be_bytes(four).max(1)
    }
}

fn tag_of(mac: &Hmac<Sha256>, sealed: &[u8]) -> [u8; 16] {
    let mut mac = mac.clone();
    mac.update(sealed);
    mac.finalize().into_bytes().first_chunk::<16>().copied().unwrap_or_default()
}

impl Window {
    fn spend(&mut self, count: u32) -> bool {
        if self.seen == 0 || count > self.highest {
            let shift = count.saturating_sub(self.highest);
            let moved = if self.seen == 0 { 0 } else { self.seen.checked_shl(shift).unwrap_or(0) };
            (self.highest, self.seen) = (count, moved | 1);
            return true;
        }
        let behind = self.highest.saturating_sub(count);
        let Some(bit) = 1_u64.checked_shl(behind) else { return false };
        let unseen = self.seen & bit == 0;
        self.seen |= bit;
        unseen
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// How long a window is kept: a nonce's age is counted in whole seconds, a window's in parts of one.
fn window_life(settings: &Settings) -> Duration {
    settings.lifetime.saturating_add(Duration::from_secs(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instant::Instant;

    fn at(seconds: u64) -> Now {
        Now {
            mono: Instant::from_micros(seconds * 1_000_000),
            wall: WallTime::from_unix(1_790_000_000 + seconds),
        }
    }

    fn passes(nonces: &Nonces, seal: &Seal, count: u32, call_id: &[u8], now: Now) -> bool {
        nonces.spend(seal, count, call_id, 1, now) == Spent::Fresh
    }

    #[test]
    fn other_settings_keep_what_was_spent_and_bring_back_nothing_that_lapsed() {
        let minute = Settings { lifetime: Duration::from_secs(60), ..Settings::default() };
        let nonces = nonces(minute);
        let [lapsed, good] = [1, 100].map(|time| {
            let nonce = nonces.issue(b"c", at(time));
            let seal = nonces.open(nonce.as_bytes(), at(time)).expect("ours");
            assert!(passes(&nonces, &seal, 1, b"c", at(time)));
            seal
        });
        nonces.replace_settings(Settings::default(), at(150));
        assert!(!passes(&nonces, &good, 1, b"c", at(200)), "its count was seen before");
        assert!(passes(&nonces, &good, 2, b"c", at(200)), "it lives on, and longer than before");
        assert!(!passes(&nonces, &lapsed, 2, b"c", at(200)), "its window may be gone");
    }

    fn nonces(settings: Settings) -> Nonces {
        Nonces::new(settings, &[7; 32], 1, at(0))
    }

    #[test]
    fn counts_pass_once_in_any_order_within_the_window() {
        let nonces = nonces(Settings::default());
        let nonce = nonces.issue(b"c", at(1));
        let seal = nonces.open(nonce.as_bytes(), at(2)).expect("ours");
        let spend = |count| passes(&nonces, &seal, count, b"c", at(2));
        for (count, passes) in [
            (5, true),
            (5, false),
            (3, true),
            (3, false),
            (69, true),
            (5, false),
            (6, true),
            (4, false),
            (u32::MAX, true),
            (70, false),
        ] {
            assert_eq!(spend(count), passes, "count {count}");
        }
    }

    #[test]
    fn altered_foreign_and_future_nonces_do_not_open() {
        let ours = nonces(Settings::default());
        let nonce = ours.issue(b"c", at(100));
        assert!(ours.open(nonce.as_bytes(), at(98)).is_none(), "from the future");
        let other = Nonces::new(Settings::default(), &[8; 32], 1, at(0));
        assert!(other.open(nonce.as_bytes(), at(100)).is_none(), "another key");
        for place in 0..nonce.len() {
            let mut altered = nonce.clone().into_bytes();
            altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
            assert!(ours.open(&altered, at(100)).is_none(), "altered at {place}");
        }
    }

    #[test]
    fn stale_by_age_by_restart_and_by_scope() {
        let nonces = nonces(Settings { per_dialog: true, ..Settings::default() });
        let nonce = nonces.issue(b"c", at(1));
        let seal = nonces.open(nonce.as_bytes(), at(2)).expect("ours");
        assert!(!passes(&nonces, &seal, 1, b"other", at(2)), "another Call-ID");
        assert!(!passes(&nonces, &seal, 1, b"c", at(302)), "too old");
        let restarted = Nonces::new(Settings::default(), &[7; 32], 1, at(10));
        let seal = restarted.open(nonce.as_bytes(), at(11)).expect("same key");
        assert!(!passes(&restarted, &seal, 1, b"c", at(11)), "from before the start");
    }

    #[test]
    fn a_window_lost_to_the_bound_makes_its_nonce_stale() {
        let nonces = nonces(Settings { max_windows: 128, ..Settings::default() });
        let victim = nonces.issue(b"c", at(1));
        let seal = nonces.open(victim.as_bytes(), at(2)).expect("ours");
        assert!(passes(&nonces, &seal, 1, b"c", at(2)));
        for round in 0..2000 {
            let nonce = nonces.issue(b"c", at(3 + round / 100));
            let seal = nonces.open(nonce.as_bytes(), at(30)).expect("ours");
            passes(&nonces, &seal, 1, b"c", at(30));
        }
        assert!(!passes(&nonces, &seal, 1, b"c", at(31)), "replay after the window was dropped");
        assert!(nonces.footprint() <= 128);
    }

    /// Two nodes and a store: a count passes once in all, whichever node it comes to first; without the store none of
    /// them passes, and what is made then is taken here alone.
    #[test]
    fn shared_nonces_pass_once_in_all_and_never_unasked() {
        let node = |start| {
            Nonces::new(Settings::default(), &[start; 32], start.into(), at(0))
                .shared_under(&[9; 32])
        };
        let (one, other) = (node(1), node(2));
        let nonce = one.issue(b"c", at(1));
        let [here, there] =
            [&one, &other].map(|node| node.open(nonce.as_bytes(), at(2)).expect("common"));
        let Spent::Ask(asked) = other.spend(&there, 1, b"c", 7, at(2)) else { panic!("asked") };
        assert_eq!(other.spend(&there, 1, b"c", 7, at(2)), Spent::Ask(asked), "still not known");
        other.put(asked, Some(true), at(2));
        assert_eq!(
            other.spend(&there, 1, b"c", 8, at(2)),
            Spent::Ask(Use { request: 8, ..asked }),
            "not its answer"
        );
        assert_eq!(other.spend(&there, 1, b"c", 7, at(2)), Spent::Fresh);
        assert_eq!(
            other.spend(&there, 1, b"c", 7, at(2)),
            Spent::Ask(asked),
            "an answer is taken once"
        );
        let Spent::Ask(again) = one.spend(&here, 1, b"c", 9, at(3)) else { panic!("asked") };
        one.put(again, Some(false), at(3));
        assert_eq!(one.spend(&here, 1, b"c", 9, at(3)), Spent::Stale, "the other node had it");

        one.put(again, None, at(4));
        assert_eq!(one.spend(&here, 2, b"c", 10, at(4)), Spent::Away);
        let own = one.issue(b"c", at(4));
        assert!(other.open(own.as_bytes(), at(5)).is_none(), "this node's own");
        let own = one.open(own.as_bytes(), at(5)).expect("ours");
        assert_eq!(one.spend(&own, 1, b"c", 11, at(5)), Spent::Fresh, "by our own window");
        assert_eq!(one.spend(&own, 1, b"c", 11, at(5)), Spent::Stale);
        assert_eq!(one.spend(&own, 2, b"c", 12, at(20)), Spent::Fresh, "to its end");
        assert!(matches!(one.spend(&here, 2, b"c", 10, at(20)), Spent::Ask(_)), "asked again");
        let late = one.issue(b"c", at(20));
        assert!(other.open(late.as_bytes(), at(20)).is_some(), "shared again");
    }
}
