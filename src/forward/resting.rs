//! Stage 7, resting: servers that asked to be left alone for a while.
//!
//! Takes:   the target of a request that was answered 503, and its Retry-After.
//! Gives:   whether a target rests, so that others are tried before it.
//! Keeps:   one time for each target that rests, `RESTING_MAX` at most, for `REST_MAX` at most; beyond that a
//!          server is tried as if it had said nothing.
//! Refuses: nothing; where all rest, they are tried all the same.
//! Sources: RFC 3261 section 21.5.4; RFC 3263 section 4.3; `DNS-03`, `PX-12`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::Destination;
use crate::instant::Instant;
use crate::transport::{GroupId, Target, Transport};

/// Most targets that rest.
pub const RESTING_MAX: usize = 1024;
/// How long one rests at most, whatever it says: a server that errs is back within a minute.
pub const REST_MAX: Duration = Duration::from_secs(60);

/// One address of one peer: a pause is for it, whatever its domain is called.
type Member = (GroupId, Transport, SocketAddr);

/// Targets that rest.
#[derive(Debug, Default)]
pub struct Resting {
    until: RwLock<HashMap<Member, Instant>>,
    /// When the last of them is back, in microseconds: who asks while nobody rests takes no lock.
    latest: AtomicU64,
}

impl Resting {
    /// The same, to go its own way.
    pub(super) fn twin(&self) -> Self {
        let until = self.until.read().unwrap_or_else(PoisonError::into_inner).clone();
        let latest = AtomicU64::new(self.latest.load(Ordering::Relaxed));
        Self { until: RwLock::new(until), latest }
    }

    /// Lets a target rest for so many seconds.
    pub fn rest(&self, target: &Target, seconds: u32, now: Instant) {
        let length = Duration::from_secs(seconds.into()).min(REST_MAX);
        if length.is_zero() {
            return;
        }
        let until = now + length;
        let mut resting = self.until.write().unwrap_or_else(PoisonError::into_inner);
        if resting.len() >= RESTING_MAX {
            resting.retain(|_, until| *until > now);
        }
        if resting.len() < RESTING_MAX {
            resting.insert(member(target), until);
            self.latest.fetch_max(until.as_micros(), Ordering::Relaxed);
        }
    }

    /// Whether a destination rests; flows never do.
    pub fn rests(&self, to: &Destination, now: Instant) -> bool {
        let Destination::Target(target) = to else { return false };
        if self.latest.load(Ordering::Relaxed) <= now.as_micros() {
            return false;
        }
        let resting = self.until.read().unwrap_or_else(PoisonError::into_inner);
        resting.get(&member(target)).is_some_and(|until| *until > now)
    }
}

fn member(target: &Target) -> Member {
    (target.group, target.transport, target.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(port: u16) -> Target {
        let address = ([203, 0, 113, 10], port).into();
        let (transport, domain, group) = (Transport::Udp, "core.example".into(), GroupId(0));
        Target { transport, address, domain, group }
    }

    #[test]
    fn a_pause_has_a_most_and_so_has_the_table() {
        let (resting, now) = (Resting::default(), Instant::START + Duration::from_secs(5));
        let rests = |port, seconds| {
            let to = Destination::Target(target(port));
            resting.rests(&to, now + Duration::from_secs(seconds))
        };
        resting.rest(&target(0), 0, now);
        assert!(!rests(0, 0));
        resting.rest(&target(1), 3600, now);
        assert!(rests(1, 59) && !rests(1, 60) && !rests(2, 0));
        for port in 2..2000 {
            resting.rest(&target(port), 30, now);
        }
        let held = |resting: &Resting| resting.until.read().expect("no panic").len();
        assert_eq!(held(&resting), RESTING_MAX);
        assert!(rests(1024, 29) && !rests(1025, 29), "who finds no room is tried");
        resting.rest(&target(3000), 30, now + Duration::from_secs(60));
        assert_eq!(held(&resting), 1, "what has lapsed makes room");
    }
}
