//! Stage 3, failure limits: who fails too often is not listened to for a while.
//!
//! Takes:   failures that later stages report, by flow and by address.
//! Gives:   [`Standing`], before anything dear is done for a message.
//! Keeps:   one bucket for each failing flow and address, bounded, forgotten when a ban would end.
//! Refuses: a flow over 10 failures in 60 s; an address over 100 loses what proves nothing.
//!          Limits never count against the name that was claimed, so nobody can lock a victim out.
//! Sources: rule 22; RFC 3261 section 26.3.2.4.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::rate::{Bucket, Rate};
use super::recent::Recent;
use crate::gate::Gate;
use crate::instant::Instant;
use crate::transport::Flow;

/// The limits, and how much is remembered.
#[derive(Clone, Copy, Debug)]
pub struct FailureLimits {
    /// Failures that one flow may have.
    pub flow: Rate,
    /// Failures that one address (IPv6: /64) may have.
    pub address: Rate,
    /// How long a flow over its limit is not listened to.
    pub ban: Duration,
    /// Most flows and addresses remembered.
    pub max: usize,
}

impl Default for FailureLimits {
    fn default() -> Self {
        Self {
            flow: Rate::per_minute(10),
            address: Rate::per_minute(100),
            ban: Duration::from_secs(600),
            max: 100_000,
        }
    }
}

/// How a source stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Listen.
    Good,
    /// Serve what has valid evidence, drop the rest.
    Doubtful,
    /// Do not listen.
    Banned,
}

#[derive(Clone, Debug, Default)]
struct Failing {
    bucket: Bucket,
    banned_until: Instant,
}

/// Failures by flow and by address.
#[derive(Debug)]
pub struct Failures {
    flows: Recent<Flow, Failing>,
    addresses: Recent<IpAddr, Failing>,
}

impl Failures {
    /// No failures yet.
    pub fn new(limits: FailureLimits) -> Self {
        let table_max = limits.max;
        Self {
            flows: Recent::new(table_max, limits.ban),
            addresses: Recent::new(table_max, limits.ban),
        }
    }

    /// Failures over those of `of`, which stay as they are.
    pub(super) fn trial(of: &Arc<Gate>) -> Self {
        let Self { flows, addresses } = &of.admission.failures;
        let (one, other) = (Arc::clone(of), Arc::clone(of));
        Self {
            flows: Recent::over(flows, move |key, now| one.admission.failures.flows.peek(key, now)),
            addresses: Recent::over(addresses, move |key, now| {
                other.admission.failures.addresses.peek(key, now)
            }),
        }
    }

    /// Remembers failures for as long as a ban lasts by these limits.
    pub fn set_ban(&self, ban: Duration) {
        self.flows.set_period(ban);
        self.addresses.set_period(ban);
    }

    /// Notes that `flow` failed.
    pub fn note(&self, limits: &FailureLimits, flow: &Flow, now: Instant) {
        let FailureLimits { flow: each, address, ban, .. } = *limits;
        self.flows.with(*flow, now, |failing, _| failing.note(each, ban, now));
        let place = network(flow.remote.ip());
        self.addresses.with(place, now, |failing, _| failing.note(address, ban, now));
    }

    /// How the sender on `flow` stands.
    pub fn standing(&self, flow: &Flow, now: Instant) -> Standing {
        let over = |failing: &mut Failing| failing.banned_until > now;
        if self.flows.get(flow, now, over) == Some(true) {
            return Standing::Banned;
        }
        match self.addresses.get(&network(flow.remote.ip()), now, over) {
            Some(true) => Standing::Doubtful,
            _ => Standing::Good,
        }
    }

    /// How many flows and addresses are remembered.
    pub fn len(&self) -> usize {
        self.flows.len().saturating_add(self.addresses.len())
    }

    /// Whether nobody has failed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Failing {
    fn note(&mut self, rate: Rate, ban: Duration, now: Instant) {
        if !self.bucket.take(rate, now) {
            self.banned_until = now + ban;
        }
    }
}

/// The address that limits count: an IPv6 host is its /64.
pub fn network(address: IpAddr) -> IpAddr {
    prefix(address, 32, 64)
}

/// The network that unverified answers are counted by: /24 or /48.
pub fn wide_network(address: IpAddr) -> IpAddr {
    prefix(address, 24, 48)
}

fn prefix(address: IpAddr, v4: u32, v6: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(v4)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(v6)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}
