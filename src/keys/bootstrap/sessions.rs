//! Keys, bootstrap, sessions: the runs that ended well, until their keys end.
//!
//! Takes:   Ks, its challenge, whose it is and how long it lives.
//! Gives:   the session of a B-TID or of a TMPI.
//! Keeps:   which of them changed since they were written down, where they are; at most [`PER_IMPI`] sessions for each private identity and the bound given for all; past either, the
//!          one that began, or that ends, first goes.
//! Refuses: a session whose time is over, by the wall clock or by the steady one.
//! Sources: TS 33.220 clauses 4.4.11 and 4.5.2.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::identity::{Btid, Impi};
use crate::instant::{Instant, Now, WallTime};
use crate::keys::subscribers::Guss;
use crate::keys::{GbaType, Ks, Rand};
use crate::state::Value;

/// Most live sessions for one private identity.
pub const PER_IMPI: usize = 4;

/// What a session that is written down begins with: of a card, and of a password.
const VERSIONS: [(u8, GbaType); 2] = [(1, GbaType::Aka), (2, GbaType::Digest)];
/// Octets of a session that is written down, names left out.
const FIXED: usize = 69;

/// One run that ended well.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) impi: Impi,
    /// What it was made with.
    pub(super) kind: GbaType,
    /// The challenge, or what is in the nonce.
    pub(super) rand: Rand,
    pub(super) ks: Ks,
    pub(super) created: WallTime,
    pub(super) expires: WallTime,
    /// The same end on the clock that nobody sets.
    pub(super) ends: Instant,
    pub(super) tmpi: Option<Impi>,
    /// What the home told of the subscriber, if he is another's.
    pub(super) guss: Option<Arc<Guss>>,
}

impl Session {
    fn is_over(&self, now: Now) -> bool {
        now.wall >= self.expires || now.mono >= self.ends
    }

    /// As it is written down: the version, both times, RAND, Ks, then IMPI and TMPI, each after its length.
    fn octets(&self) -> Value {
        let tmpi = self.tmpi.as_ref().map_or("", Impi::as_str);
        let names = self.impi.as_str().len().saturating_add(tmpi.len());
        // Room for all of it at once: octets that moved would leave a copy behind.
        let length = names.saturating_add(FIXED);
        let mut octets = Zeroizing::new(Vec::with_capacity(length));
        let version = VERSIONS.iter().find(|(_, kind)| *kind == self.kind);
        octets.extend(version.map(|(version, _)| *version));
        octets.extend(self.created.as_unix().to_be_bytes());
        octets.extend(self.expires.as_unix().to_be_bytes());
        octets.extend(self.rand.0);
        octets.extend(self.ks.expose());
        for name in [self.impi.as_str(), tmpi] {
            octets.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
            octets.extend(name.as_bytes());
        }
        octets
    }

    fn of_octets(octets: &[u8], now: Now) -> Option<Self> {
        let (version, rest) = octets.split_first()?;
        let (created, rest) = rest.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (rand, rest) = rest.split_first_chunk()?;
        let (ks, mut rest) = rest.split_first_chunk()?;
        let mut name = || {
            let (length, tail) = rest.split_first_chunk()?;
            let (name, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            rest = tail;
            std::str::from_utf8(name).ok()
        };
        let (impi, tmpi) = (Impi::new(name()?)?, name()?);
        let tmpi = if tmpi.is_empty() { None } else { Some(Impi::new(tmpi)?) };
        let expires = WallTime::from_unix(u64::from_be_bytes(*expires));
        let (_, kind) = VERSIONS.iter().find(|(known, _)| known == version)?;
        rest.is_empty().then(|| Self {
            impi,
            kind: *kind,
            rand: Rand(*rand),
            ks: Ks::new(*ks),
            created: WallTime::from_unix(u64::from_be_bytes(*created)),
            expires,
            ends: now.mono + expires.since(now.wall),
            tmpi,
            guss: None,
        })
    }
}

#[derive(Debug)]
pub(super) struct Sessions {
    max: usize,
    live: HashMap<Btid, Session>,
    of_impi: HashMap<Impi, VecDeque<Btid>>,
    of_tmpi: HashMap<Impi, Btid>,
    by_end: BTreeSet<(Instant, Btid)>,
    /// Those that began or ended since they were written down, if they are; twice `max` at most.
    changed: Option<HashSet<Btid>>,
}

impl Sessions {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            live: HashMap::new(),
            of_impi: HashMap::new(),
            of_tmpi: HashMap::new(),
            by_end: BTreeSet::new(),
            changed: None,
        }
    }

    /// From now on, notes which sessions change.
    pub(super) fn note_changes(&mut self) {
        self.changed = Some(HashSet::new());
    }

    /// Notes that a session changed.
    pub(super) fn note(&mut self, btid: &Btid) {
        let most = self.max.saturating_mul(2);
        if let Some(changed) = self.changed.as_mut().filter(|changed| changed.len() < most) {
            changed.insert(btid.clone());
        }
    }

    /// The sessions that changed, as they are written down; without octets those that ended.
    pub(super) fn take_changes(&mut self) -> Vec<(Btid, Option<Value>)> {
        let changed = self.changed.as_mut().map(std::mem::take).unwrap_or_default();
        let row = |btid: Btid| {
            // What a home told is the home's to keep.
            let own = self.live.get(&btid).filter(|session| session.guss.is_none());
            let octets = own.map(Session::octets);
            (btid, octets)
        };
        changed.into_iter().map(row).collect()
    }

    /// Takes over a session that was written down, unless it is over; `None` if its octets are none.
    pub(super) fn restore(&mut self, btid: Btid, octets: &[u8], now: Now) -> Option<()> {
        let session = Session::of_octets(octets, now)?;
        match session.is_over(now) {
            true => self.note(&btid),
            false => self.add(btid, session, now),
        }
        Some(())
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Adds a session, after making room for it.
    pub(super) fn add(&mut self, btid: Btid, session: Session, now: Now) {
        self.purge(now);
        self.remove(&btid);
        let own = self.of_impi.get(&session.impi);
        if let Some(oldest) = own.filter(|own| own.len() >= PER_IMPI).and_then(|own| own.front()) {
            self.remove(&oldest.clone());
        }
        while self.live.len() >= self.max
            && let Some((_, first)) = self.by_end.first().cloned()
        {
            self.remove(&first);
        }
        self.of_impi.entry(session.impi.clone()).or_default().push_back(btid.clone());
        if let Some(tmpi) = &session.tmpi {
            self.of_tmpi.insert(tmpi.clone(), btid.clone());
        }
        self.by_end.insert((session.ends, btid.clone()));
        self.note(&btid);
        self.live.insert(btid, session);
    }

    /// The live session of that B-TID.
    pub(super) fn get(&self, btid: &Btid, now: Now) -> Option<&Session> {
        self.live.get(btid).filter(|session| !session.is_over(now))
    }

    /// Whose TMPI this is, while its session lives.
    pub(super) fn impi_of(&self, tmpi: &Impi, now: Now) -> Option<&Impi> {
        self.of_tmpi.get(tmpi).and_then(|btid| self.get(btid, now)).map(|session| &session.impi)
    }

    /// Drops what is over.
    pub(super) fn purge(&mut self, now: Now) {
        while let Some((_, first)) = self.by_end.first().cloned()
            && self.live.get(&first).is_none_or(|session| session.is_over(now))
        {
            self.remove(&first);
        }
    }

    /// Drops one.
    pub(super) fn remove(&mut self, btid: &Btid) -> bool {
        let Some(session) = self.live.remove(btid) else { return false };
        self.by_end.remove(&(session.ends, btid.clone()));
        self.note(btid);
        if let Some(own) = self.of_impi.get_mut(&session.impi) {
            own.retain(|known| known != btid);
            if own.is_empty() {
                self.of_impi.remove(&session.impi);
            }
        }
        if let Some(tmpi) = &session.tmpi {
            self.of_tmpi.remove(tmpi);
        }
        true
    }

    /// Drops all of those for whom `keep` says no.
    pub(super) fn retain(&mut self, keep: impl Fn(&Impi) -> bool) {
        let gone: Vec<Btid> = self
            .of_impi
            .iter()
            .filter(|(impi, _)| !keep(impi))
            .flat_map(|(_, own)| own.iter().cloned())
            .collect();
        gone.iter().for_each(|btid| {
            self.remove(btid);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Now {
        Now::default() + Duration::from_secs(seconds)
    }

    fn add(sessions: &mut Sessions, impi: &str, number: u8, now: Now, life: u64) -> Btid {
        let btid = Btid::new(&format!("{number}@bsf")).unwrap();
        let end = now + Duration::from_secs(life);
        let session = Session {
            impi: Impi::new(impi).unwrap(),
            kind: GbaType::Aka,
            rand: Rand([number; 16]),
            ks: Ks::new([number; 32]),
            created: now.wall,
            expires: end.wall,
            ends: end.mono,
            tmpi: Impi::new(&format!("t{number}")),
            guss: None,
        };
        sessions.add(btid.clone(), session, now);
        btid
    }

    #[test]
    fn what_is_written_down_is_read_back_with_its_kind() {
        for kind in [GbaType::Aka, GbaType::Digest] {
            let mut sessions = Sessions::new(1);
            let btid = add(&mut sessions, "a", 1, at(0), 100);
            sessions.live.get_mut(&btid).expect("there").kind = kind;
            let octets = sessions.live[&btid].octets();
            let read = Session::of_octets(&octets, at(5)).expect("whole");
            assert_eq!((read.kind, read.impi.as_str(), read.rand), (kind, "a", Rand([1; 16])));
            let mut other = octets.clone();
            other[0] = 3;
            assert!(Session::of_octets(&other, at(5)).is_none(), "a version to come");
            assert!(Session::of_octets(&octets[1..], at(5)).is_none());
        }
    }

    #[test]
    fn bounds_and_ends() {
        let mut sessions = Sessions::new(6);
        let own: Vec<Btid> =
            (0..5).map(|n| add(&mut sessions, "a", n, at(u64::from(n)), 100)).collect();
        assert!(sessions.get(&own[0], at(5)).is_none(), "the fifth puts out the first");
        assert_eq!(sessions.impi_of(&Impi::new("t0").unwrap(), at(5)), None);
        assert!(own[1..].iter().all(|btid| sessions.get(btid, at(5)).is_some()));

        add(&mut sessions, "b", 10, at(5), 10);
        add(&mut sessions, "b", 11, at(5), 500);
        add(&mut sessions, "c", 12, at(5), 500);
        assert_eq!(sessions.len(), 6);
        assert_eq!(sessions.impi_of(&Impi::new("t10").unwrap(), at(5)), None, "ended first");

        let wall_only = Now { mono: at(5).mono, wall: at(1000).wall };
        assert!(sessions.get(&own[1], wall_only).is_none(), "either clock ends it");
        sessions.purge(at(103));
        assert_eq!(sessions.len(), 3, "4, 11 and 12");
        sessions.retain(|impi| impi.as_str() == "c");
        assert_eq!(sessions.len(), 1);
        sessions.purge(at(1000));
        assert_eq!((sessions.len(), sessions.of_impi.len(), sessions.of_tmpi.len()), (0, 0, 0));
        assert!(sessions.by_end.is_empty());
    }
}
