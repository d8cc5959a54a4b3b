//! Stage 6, enabler: what the class of a request demands of its caller.
//!
//! Takes:   [`Bound`], and the class that stage 3 read from the headers.
//! Gives:   [`Permitted`], the only thing that stage 7 forwards.
//! Keeps:   one bucket for each caller and class, bounded.
//! Refuses: a level under the class's, a direction it does not have, too much of it, too long a body.
//! Sources: SEC_CF 1.1 (OMA-RD-SEC_CF) section 5; RFC 3261 section 16.3 item 6.

pub mod reg;
pub mod sip;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::admission::{Bucket, Rate, Recent};
use crate::association::Bound;
use crate::gate::Halt;
use crate::identity::Principal;
use crate::instant::Now;
use crate::refusal::Refusal;
use crate::transport::Side;
use crate::wire::{Message, Method};

/// The kind of service that a request is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Registration.
    Reg,
    /// Any other SIP.
    Sip,
}

impl Class {
    /// The class that the headers of a request claim.
    pub fn hint(message: &Message, _side: Side) -> Self {
        if message.method() == Some(Method::Register) { Self::Reg } else { Self::Sip }
    }

    /// Its name in configuration, counters and spans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reg => "reg",
            Self::Sip => "sip",
        }
    }
}

/// What a class demands.
#[derive(Clone, Copy, Debug)]
pub struct Demands {
    /// Least level of evidence on the UE side.
    pub level: u8,
    /// Whether the UE's flow must be secure.
    pub secure: bool,
    /// Requests of one caller.
    pub rate: Rate,
    /// Longest body from the UE side, in octets.
    pub body_max: usize,
}

/// The policy of one class.
///
/// What an attacker gains if an implementation errs: a request of a class that its caller may not use, or
/// without the protection that its content needs; never an identity, since stages 4 and 5 stand before it.
pub trait EnablerPolicy: Send + Sync {
    /// What it demands of every request of its class.
    fn demands(&self) -> Demands;

    /// Whether requests of the class may come from `side`.
    fn allows_direction(&self, side: Side) -> bool;

    /// Looks at one request from the UE side beyond the demands.
    ///
    /// # Errors
    ///
    /// The refusal that the request earns.
    fn check(&self, bound: &Bound<'_>) -> Result<(), Refusal>;
}

/// Stage 6.
pub struct Enablers {
    policies: ArcSwap<Policies>,
    callers: Recent<(Principal, Class), Bucket>,
}

/// The policy of each class.
#[derive(Clone)]
pub struct Policies {
    /// Of registration.
    pub reg: Arc<dyn EnablerPolicy>,
    /// Of any other SIP.
    pub sip: Arc<dyn EnablerPolicy>,
}

impl Policies {
    /// The policy of a class.
    pub fn of(&self, class: Class) -> &dyn EnablerPolicy {
        match class {
            Class::Reg => &*self.reg,
            Class::Sip => &*self.sip,
        }
    }
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Enablers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enablers").field("callers", &self.callers.len()).finish()
    }
}

/// A request that may be forwarded: evidence of stages 3 to 6.
#[derive(Debug)]
pub struct Permitted<'m> {
    bound: Bound<'m>,
}

impl<'m> Permitted<'m> {
    /// What stage 5 found.
    pub fn bound(&self) -> &Bound<'m> {
        &self.bound
    }

    /// Gives up the evidence for what stage 5 found.
    pub fn into_bound(self) -> Bound<'m> {
        self.bound
    }
}

impl Enablers {
    /// Stage 6 with these policies; at most `max` callers are remembered for their rates.
    pub fn new(reg: Arc<dyn EnablerPolicy>, sip: Arc<dyn EnablerPolicy>, max: usize) -> Self {
        let policies = ArcSwap::from_pointee(Policies { reg, sip });
        Self { policies, callers: Recent::new(max, Duration::from_secs(120)) }
    }

    /// Puts other policies in the place of the present ones; how much each caller has sent stays counted.
    pub fn replace_policies(&self, policies: Policies) {
        self.policies.store(Arc::new(policies));
    }

    /// Permits one request.
    ///
    /// # Errors
    ///
    /// [`Refusal::DirectionForbidden`], [`Refusal::LevelTooLow`], [`Refusal::BodyTooLarge`],
    /// [`Refusal::RateExceeded`], and what the policy's own check says.
    pub fn permit<'m>(&self, bound: Bound<'m>, now: Now) -> Result<Permitted<'m>, Halt> {
        let (class, side) = (bound.class(), bound.arrival().side);
        let policies = self.policies.load();
        let policy = policies.of(class);
        if !policy.allows_direction(side) {
            return Err(Refusal::DirectionForbidden.into());
        }
        if side == Side::Core || matches!(bound.method(), Method::Ack | Method::Cancel) {
            return Ok(Permitted { bound });
        }
        let demands = policy.demands();
        if !bound.in_dialog() {
            if bound.evidence().level() < demands.level {
                return Err(Refusal::LevelTooLow.into());
            }
            if demands.secure && !bound.arrival().flow.transport.is_secure() {
                return Err(Refusal::LevelTooLow.into());
            }
        }
        if bound.message().body().len() > demands.body_max {
            return Err(Refusal::BodyTooLarge.into());
        }
        policy.check(&bound)?;
        if let Some(caller) = bound.caller() {
            let key = (caller.principal.clone(), class);
            if !self.callers.with(key, now.mono, |bucket, _| bucket.take(demands.rate, now.mono)) {
                return Err(Refusal::RateExceeded.into());
            }
        }
        Ok(Permitted { bound })
    }

    /// Callers remembered.
    pub fn footprint(&self) -> usize {
        self.callers.len()
    }
}
