//! Keys, NAF: the keys that a BSF gave us, until they end.
//!
//! Takes:   answers of key servers, as the shell gets them.
//! Gives:   [`KeySource`]: the key, a no that is still young, or that somebody has to be asked.
//! Keeps:   at most [`CacheBounds::keys`] keys, of which the one that ends first goes first, and at most
//!          [`CacheBounds::refusals`] noes, [`REFUSAL_LIFETIME`] each, likewise. All of one B-TID stand together. At most
//!          [`REVOKED_MAX`] B-TIDs that were taken back, [`REVOKED_FOR`] each.
//! Refuses: a key past its end, by either clock; a B-TID of a server that is not configured, as one unknown.
//! Sources: TS 33.220 clauses 4.4.11 and 4.5.3; TS 29.109 clause 5.2; threat V-93.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use smallvec::SmallVec;

use super::{Asking, GbaType, KeyAnswer, KeyServer, KeySource, NafId, NafKey};
use crate::authentication::principal_of;
use crate::hashing::{Seeded, seeded};
use crate::identity::{Btid, Principal};
use crate::instant::{Instant, Now};

/// How long a no is remembered.
pub const REFUSAL_LIFETIME: Duration = Duration::from_secs(60);

/// How long a B-TID that was taken back stays so: no bootstrapped key lives longer.
pub const REVOKED_FOR: Duration = Duration::from_secs(30 * 86_400);
/// How many B-TIDs that were taken back are remembered; the one of longest ago gives way to one more.
pub const REVOKED_MAX: usize = 65_536;

/// Bounds of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheBounds {
    /// Most keys.
    pub keys: usize,
    /// Most noes.
    pub refusals: usize,
}

impl Default for CacheBounds {
    fn default() -> Self {
        Self { keys: 1_000_000, refusals: 65_536 }
    }
}

/// The cache. All workers share it; reading takes one shard's lock for one look-up.
pub struct NafCache {
    bounds: CacheBounds,
    /// The servers that we know; lower case.
    servers: Vec<Arc<str>>,
    table: DashMap<Btid, OfBtid, Seeded>,
    order: Mutex<Order>,
    /// Until when a B-TID is refused whatever it is asked for.
    revoked: DashMap<Btid, Instant, Seeded>,
    /// Whether there was ever one of these: most look-ups end here.
    revokes: AtomicBool,
}

type Name = (Btid, NafId);
/// The entries of one B-TID: as many at most as there are names and protocols of ours.
type OfBtid = SmallVec<[(NafId, Entry); 1]>;

#[derive(Clone)]
enum Entry {
    Key { key: Arc<NafKey>, ends: Instant },
    No { forbidden: bool, ends: Instant },
}

/// Who goes first; locked by whoever writes, before the table's shard.
#[derive(Default)]
struct Order {
    keys: BTreeSet<(Instant, Name)>,
    refusals: BTreeSet<(Instant, Name)>,
}

impl Entry {
    fn ends(&self) -> Instant {
        let (Self::Key { ends, .. } | Self::No { ends, .. }) = self;
        *ends
    }

    /// Of which NAF there is a key, and until when.
    fn key_of(&self, naf: &NafId) -> Option<(NafId, Instant)> {
        match self {
            Self::Key { ends, .. } => Some((naf.clone(), *ends)),
            Self::No { .. } => None,
        }
    }
}

impl Order {
    /// Those of the kind of `entry`.
    fn of(&mut self, entry: &Entry) -> &mut BTreeSet<(Instant, Name)> {
        match entry {
            Entry::Key { .. } => &mut self.keys,
            Entry::No { .. } => &mut self.refusals,
        }
    }
}

impl NafCache {
    /// A cache for keys of `servers`, the names that stand behind the `@` of a B-TID.
    pub fn new<'a>(bounds: CacheBounds, servers: impl IntoIterator<Item = &'a str>) -> Self {
        let servers = servers.into_iter().map(|name| name.to_ascii_lowercase().into()).collect();
        let (table, revoked) = (DashMap::with_hasher(seeded()), DashMap::with_hasher(seeded()));
        Self {
            bounds,
            servers,
            table,
            order: Mutex::default(),
            revoked,
            revokes: AtomicBool::new(false),
        }
    }

    /// Takes in the answer of a key server; what the waiting request gets to see.
    ///
    /// `Ask` and `Unavailable` are not kept: the next request asks again.
    pub fn insert(&self, btid: &Btid, naf: &NafId, answer: KeyAnswer, now: Now) -> KeyAnswer {
        if self.is_revoked(btid, now) {
            return KeyAnswer::Unknown;
        }
        let entry = match &answer {
            KeyAnswer::Known(key) => {
                let life = key.expires.since(now.wall);
                if life.is_zero() {
                    return self.insert(btid, naf, KeyAnswer::Unknown, now);
                }
                Entry::Key { key: key.clone(), ends: now.mono + life }
            }
            KeyAnswer::Unknown | KeyAnswer::Forbidden => Entry::No {
                forbidden: matches!(answer, KeyAnswer::Forbidden),
                ends: now.mono + REFUSAL_LIFETIME,
            },
            KeyAnswer::Ask | KeyAnswer::Unavailable => return answer,
        };
        self.put((btid.clone(), naf.clone()), entry, now);
        answer
    }

    /// Takes back every key of a B-TID, those that are asked for at this moment and other protocols' too. How many keys
    /// there were.
    pub fn revoke(&self, btid: &Btid, now: Now) -> usize {
        while self.revoked.len() >= REVOKED_MAX {
            let first = self.revoked.iter().min_by_key(|of| *of.value()).map(|of| of.key().clone());
            if first.and_then(|first| self.revoked.remove(&first)).is_none() {
                break;
            }
        }
        self.revoked.insert(btid.clone(), now.mono + REVOKED_FOR);
        self.revokes.store(true, Ordering::Release);
        let held: SmallVec<[(NafId, Instant); 2]> = match self.table.get(btid) {
            Some(entries) => entries.iter().filter_map(|(naf, entry)| entry.key_of(naf)).collect(),
            None => SmallVec::new(),
        };
        for (naf, ends) in &held {
            let ends = (*ends).max(now.mono + REFUSAL_LIFETIME);
            self.put((btid.clone(), naf.clone()), Entry::No { forbidden: false, ends }, now);
        }
        held.len()
    }

    fn is_revoked(&self, btid: &Btid, now: Now) -> bool {
        self.revokes.load(Ordering::Acquire)
            && self.revoked.get(btid).is_some_and(|until| *until > now.mono)
    }

    /// The B-TIDs whose keys prove somebody of whom `is` holds. Looks at every key.
    pub fn btids_of(&self, is: impl Fn(&Btid, &Principal) -> bool) -> Vec<Btid> {
        let proves = |btid: &Btid, entry: &Entry| match entry {
            Entry::Key { key, .. } => is(btid, &principal_of(btid, key)),
            Entry::No { .. } => false,
        };
        let has = |btid: &Btid, all: &OfBtid| all.iter().any(|(_, entry)| proves(btid, entry));
        let found = self.table.iter().filter(|of| has(of.key(), of.value()));
        found.map(|of| of.key().clone()).collect()
    }

    /// Drops what is over.
    pub fn sweep(&self, now: Now) {
        self.revoked.retain(|_, until| *until > now.mono);
        self.drop_ended(&mut self.order(), now);
    }

    /// How many entries there are, keys and noes.
    pub fn len(&self) -> usize {
        let order = self.order();
        order.keys.len().saturating_add(order.refusals.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn put(&self, name: Name, entry: Entry, now: Now) {
        let mut order = self.order();
        self.drop_ended(&mut order, now);
        if let Some(before) = self.take(&name) {
            order.of(&before).remove(&(before.ends(), name.clone()));
        }
        let most = match entry {
            Entry::Key { .. } => self.bounds.keys.max(1),
            Entry::No { .. } => self.bounds.refusals.max(1),
        };
        let same = order.of(&entry);
        while same.len() >= most
            && let Some((_, first)) = same.pop_first()
        {
            self.take(&first);
        }
        same.insert((entry.ends(), name.clone()));
        let (btid, naf) = name;
        self.table.entry(btid).or_default().push((naf, entry));
    }

    fn take(&self, (btid, naf): &Name) -> Option<Entry> {
        let mut taken = None;
        self.table.remove_if_mut(btid, |_, entries| {
            let place = entries.iter().position(|(of, _)| of == naf);
            taken = place.map(|place| entries.swap_remove(place).1);
            entries.is_empty()
        });
        taken
    }

    fn drop_ended(&self, order: &mut Order, now: Now) {
        for same in [&mut order.keys, &mut order.refusals] {
            while same.first().is_some_and(|(ends, _)| *ends <= now.mono)
                && let Some((_, name)) = same.pop_first()
            {
                self.take(&name);
            }
        }
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeySource for NafCache {
    fn naf_key(&self, btid: &Btid, naf: &NafId, now: Now) -> KeyAnswer {
        if !self.servers.iter().any(|name| name.eq_ignore_ascii_case(btid.bsf())) {
            return KeyAnswer::Unknown;
        }
        if self.is_revoked(btid, now) {
            return KeyAnswer::Unknown;
        }
        let entries = self.table.get(btid);
        let entry = entries.as_ref().and_then(|entries| entries.iter().find(|(of, _)| of == naf));
        let entry = entry.map(|(_, entry)| entry.clone());
        drop(entries);
        match entry {
            Some(Entry::Key { key, ends }) if ends > now.mono && key.expires > now.wall => {
                KeyAnswer::Known(key)
            }
            Some(Entry::No { forbidden, ends }) if ends > now.mono => {
                if forbidden {
                    KeyAnswer::Forbidden
                } else {
                    KeyAnswer::Unknown
                }
            }
            Some(_) | None => KeyAnswer::Ask,
        }
    }
}

impl fmt::Debug for NafCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NafCache({} entries, {:?})", self.len(), self.bounds)
    }
}

/// Gives the keys of another source an end of our own, where theirs comes later.
///
/// Source: `naf.association_lifetime`; TS 33.220 clause 4.5.3 lets a NAF end a key sooner than the server does.
#[derive(Clone)]
pub struct Shortened {
    /// Who has the keys.
    pub source: Arc<dyn KeyServer>,
    /// How long a key lives, from the bootstrapping run on.
    pub lifetime: Duration,
}

impl fmt::Debug for Shortened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shortened({:?})", self.lifetime)
    }
}

impl KeyServer for Shortened {
    fn ask<'a>(&'a self, btid: &'a Btid, naf: &'a NafId, now: Now) -> Asking<'a> {
        Box::pin(async move { self.shorten(self.source.ask(btid, naf, now).await, now) })
    }
}

impl Shortened {
    fn shorten(&self, answer: KeyAnswer, now: Now) -> KeyAnswer {
        let KeyAnswer::Known(key) = &answer else { return answer };
        let ends = key.created + self.lifetime;
        if ends >= key.expires {
            return answer;
        }
        if ends <= now.wall {
            return KeyAnswer::Unknown;
        }
        KeyAnswer::Known(Arc::new(NafKey { expires: ends, ..NafKey::clone(key) }))
    }
}

/// Takes of another source what was made with cards alone: a key of a password is none that this NAF may have.
///
/// Source: `naf.gba_digest`; TS 33.220 clause 4.5.3 leaves to a NAF which keys it takes.
#[derive(Clone)]
pub struct OfCards(pub Arc<dyn KeyServer>);

impl fmt::Debug for OfCards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfCards(..)")
    }
}

impl KeyServer for OfCards {
    fn ask<'a>(&'a self, btid: &'a Btid, naf: &'a NafId, now: Now) -> Asking<'a> {
        Box::pin(async move {
            match self.0.ask(btid, naf, now).await {
                KeyAnswer::Known(key) if key.kind != GbaType::Aka => KeyAnswer::Forbidden,
                answer => answer,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instant::WallTime;
    use crate::keys::{KsNaf, UaId};

    fn at(seconds: u64) -> Now {
        Now { mono: Instant::from_micros(seconds * 1_000_000), wall: WallTime::from_unix(seconds) }
    }

    fn name(text: &str) -> Btid {
        Btid::new(&format!("{text}@BSF.example.net")).expect("a name")
    }

    fn naf(ua: UaId) -> NafId {
        NafId::new("naf.example.net", ua)
    }

    fn key(expires: u64) -> KeyAnswer {
        KeyAnswer::Known(Arc::new(NafKey {
            key: KsNaf::new([1; 32]),
            impi: None,
            identities: Arc::from([]),
            expires: WallTime::from_unix(expires),
            uss: Arc::from([]),
            created: WallTime::from_unix(0),
            kind: GbaType::Aka,
            ready: Default::default(),
        }))
    }

    fn cache(keys: usize, refusals: usize) -> NafCache {
        NafCache::new(CacheBounds { keys, refusals }, ["bsf.example.net"])
    }

    fn said(cache: &NafCache, btid: &str, now: u64) -> &'static str {
        match cache.naf_key(&name(btid), &naf(UaId::SIP_DIGEST), at(now)) {
            KeyAnswer::Known(_) => "known",
            KeyAnswer::Unknown => "unknown",
            KeyAnswer::Forbidden => "forbidden",
            KeyAnswer::Ask => "ask",
            KeyAnswer::Unavailable => "unavailable",
        }
    }

    #[test]
    fn a_key_of_a_password_is_kept_out() {
        struct Source(GbaType);
        impl KeySource for Source {
            fn naf_key(&self, _: &Btid, _: &NafId, _: Now) -> KeyAnswer {
                let KeyAnswer::Known(key) = key(1000) else { return KeyAnswer::Unknown };
                KeyAnswer::Known(Arc::new(NafKey { kind: self.0, ..NafKey::clone(&key) }))
            }
        }
        for (kind, known) in [(GbaType::Aka, true), (GbaType::Digest, false)] {
            let server = OfCards(Arc::new(Source(kind)));
            let (btid, naf) = (name("x"), naf(UaId::SIP_DIGEST));
            let mut asking = server.ask(&btid, &naf, at(1));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let std::task::Poll::Ready(answer) = asking.as_mut().poll(&mut context) else {
                panic!("it is here");
            };
            assert_eq!(matches!(answer, KeyAnswer::Known(_)), known, "{kind:?}");
            assert_eq!(matches!(answer, KeyAnswer::Forbidden), !known, "{kind:?}");
        }
    }

    #[test]
    fn an_end_of_our_own_comes_first_or_not_at_all() {
        struct Source;
        impl KeySource for Source {
            fn naf_key(&self, _: &Btid, _: &NafId, _: Now) -> KeyAnswer {
                key(1000)
            }
        }
        for (lifetime, now, ends) in [
            (60, 0, Some(60)),
            (60, 59, Some(60)),
            (60, 60, None),
            (1000, 0, Some(1000)),
            (5000, 0, Some(1000)),
        ] {
            let lifetime = Duration::from_secs(lifetime);
            let source = Shortened { source: Arc::new(Source), lifetime };
            let answer = Source.naf_key(&name("x"), &naf(UaId::SIP_DIGEST), at(now));
            let found = match source.shorten(answer, at(now)) {
                KeyAnswer::Known(key) => Some(key.expires.as_unix()),
                KeyAnswer::Unknown => None,
                other => panic!("{other:?}"),
            };
            assert_eq!(found, ends, "{lifetime:?} at {now}");
        }
    }

    #[test]
    fn answers_until_they_end() {
        let cache = cache(10, 10);
        let own = naf(UaId::SIP_DIGEST);
        assert_eq!(said(&cache, "a", 0), "ask");
        cache.insert(&name("a"), &own, key(100), at(0));
        cache.insert(&name("b"), &own, KeyAnswer::Unknown, at(0));
        cache.insert(&name("c"), &own, KeyAnswer::Forbidden, at(0));
        cache.insert(&name("d"), &own, KeyAnswer::Unavailable, at(0));
        let late = cache.insert(&name("e"), &own, key(5), at(5));
        assert!(matches!(late, KeyAnswer::Unknown), "a key that is over is none");
        for (btid, now, expected) in [
            ("a", 99, "known"),
            ("a", 100, "ask"),
            ("b", 59, "unknown"),
            ("b", 60, "ask"),
            ("c", 59, "forbidden"),
            ("c", 60, "ask"),
            ("d", 0, "ask"),
            ("e", 6, "unknown"),
        ] {
            assert_eq!(said(&cache, btid, now), expected, "{btid} at {now}");
        }
        let other = cache.naf_key(&name("a"), &naf(UaId::LOCSIP), at(1));
        assert!(matches!(other, KeyAnswer::Ask), "another protocol is another key");
        let skewed = Now { mono: at(1).mono, wall: WallTime::from_unix(100) };
        let answer = cache.naf_key(&name("a"), &own, skewed);
        assert!(matches!(answer, KeyAnswer::Ask), "the wall clock ends it too");
        cache.sweep(at(1000));
        assert!(cache.is_empty() && cache.table.is_empty());
    }

    /// V-93: nobody is asked on the word of a stranger.
    #[test]
    fn only_our_servers_are_asked() {
        let cache = cache(10, 10);
        for stranger in ["x@attacker.example", "x@127.0.0.1", "x@bsf.example.net.evil.org", "x"] {
            let btid = Btid::new(stranger).expect("a name");
            let answer = cache.naf_key(&btid, &naf(UaId::SIP_DIGEST), at(0));
            assert!(matches!(answer, KeyAnswer::Unknown), "{stranger}");
        }
        assert!(cache.is_empty());
    }

    #[test]
    fn keys_are_found_by_whom_they_prove() {
        let cache = cache(3, 2);
        for btid in ["a", "b"] {
            cache.insert(&name(btid), &naf(UaId::SIP_DIGEST), key(50), at(0));
        }
        cache.insert(&name("c"), &naf(UaId::SIP_DIGEST), KeyAnswer::Unknown, at(0));
        // They have no other names.
        let is = |_: &Btid, principal: &Principal| *principal.name == *name("a").as_str();
        assert_eq!(cache.btids_of(is), [name("a")]);
        assert_eq!(cache.btids_of(|_, _| true).len(), 2);
        assert!(cache.btids_of(|_, _| false).is_empty());
    }

    #[test]
    fn bounds_hold() {
        let cache = cache(3, 2);
        let own = naf(UaId::SIP_DIGEST);
        for (btid, ends) in [("a", 50), ("b", 40), ("c", 60), ("d", 70)] {
            cache.insert(&name(btid), &own, key(ends), at(0));
        }
        assert_eq!(said(&cache, "b", 1), "ask", "ends first, goes first");
        assert_eq!(said(&cache, "a", 1), "known");
        for btid in ["e", "f", "g"] {
            cache.insert(&name(btid), &own, KeyAnswer::Unknown, at(1));
        }
        assert_eq!(said(&cache, "e", 2), "ask");
        assert_eq!(said(&cache, "g", 2), "unknown");
        assert_eq!(cache.len(), 5);
        // The same name again, first a no and then a key, is one entry.
        cache.insert(&name("g"), &own, key(80), at(2));
        assert_eq!((said(&cache, "g", 70), cache.len()), ("known", 4));
    }

    #[test]
    fn revoked_stays_revoked() {
        let cache = cache(10, 10);
        for ua in [UaId::SIP_DIGEST, UaId::LOCSIP] {
            cache.insert(&name("a"), &naf(ua), key(500), at(0));
        }
        assert_eq!(cache.revoke(&name("a"), at(1)), 2);
        assert_eq!((cache.len(), cache.table.len()), (2, 1), "found together, by one look-up");
        assert_eq!(cache.revoke(&name("a"), at(1)), 0, "there is no key left");
        let end = REVOKED_FOR.as_secs() + 1;
        for (second, expected) in
            [(1, "unknown"), (500, "unknown"), (end - 1, "unknown"), (end, "ask")]
        {
            assert_eq!(said(&cache, "a", second), expected, "{second}");
        }
        // Neither for a protocol that nobody asked for so far, nor by an answer that was on its way.
        let other = naf(UaId::LOCSIP);
        assert!(matches!(cache.naf_key(&name("a"), &other, at(500)), KeyAnswer::Unknown));
        assert_eq!(cache.revoke(&name("b"), at(1)), 0, "it is not known");
        let late = cache.insert(&name("b"), &naf(UaId::SIP_DIGEST), key(500), at(2));
        assert!(matches!(late, KeyAnswer::Unknown));
        assert_eq!((said(&cache, "b", 3), said(&cache, "c", 3)), ("unknown", "ask"));
        cache.sweep(at(end + 1));
        assert!(cache.revoked.is_empty());
    }

    #[test]
    fn the_list_of_the_revoked_is_bounded() {
        let cache = cache(10, 10);
        for number in 0..REVOKED_MAX as u64 + 3 {
            cache.revoke(&name(&format!("n{number}")), at(number));
        }
        assert_eq!(cache.revoked.len(), REVOKED_MAX);
        assert_eq!(said(&cache, "n0", 70_000), "ask", "the one of longest ago gave way");
        assert_eq!(said(&cache, "n3", 70_000), "unknown");
    }
}
