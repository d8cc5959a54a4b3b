//! Stage 6, registration: who may register what.
//!
//! Takes:   REGISTER from the UE side.
//! Gives:   the right to have it forwarded.
//! Keeps:   nothing.
//! Refuses: a To that is no SIP or SIPS URI; an address of record that is not the caller's (From too, unless third
//!          parties may register); more than 8 Contacts, `*` in other company than its own Expires: 0, a reg-id beside
//!          another Contact that is to stay, a reg-id or instance twice.
//! Sources: RFC 3261 section 10.3; RFC 5626 section 6; `RG-02`, `RG-05`, `V-131`.

use super::{Class, Demands, EnablerPolicy};
use crate::admission::Rate;
use crate::association::Bound;
use crate::refusal::Refusal;
use crate::transport::Side;
use crate::wire::uri::Scheme;
use crate::wire::{Fault, Name, device};

/// Most Contacts in one REGISTER.
pub const CONTACTS_MAX: usize = 8;

/// The policy of class `reg`.
#[derive(Clone, Copy, Debug)]
pub struct Reg {
    /// Its demands.
    pub demands: Demands,
    /// Whether From may name somebody else than To.
    pub third_party: bool,
}

impl Default for Reg {
    fn default() -> Self {
        let rate = Rate { burst: 6, ..Rate::per_minute(6) };
        Self { demands: Demands::new(rate, 8 * 1024), third_party: false }
    }
}

impl EnablerPolicy for Reg {
    fn demands(&self, _class: Class) -> &Demands {
        &self.demands
    }

    fn allows_direction(&self, side: Side, _in_dialog: bool) -> bool {
        side == Side::Ue
    }

    fn check(&self, bound: &Bound<'_>) -> Result<(), Refusal> {
        let message = bound.message();
        let to = message.to().map(|to| to.uri().identity()).unwrap_or_default();
        let from = message.from().map(|from| from.uri().identity()).unwrap_or_default();
        let addresses = message.to().is_some_and(|to| match to.uri().scheme() {
            Scheme::Sip | Scheme::Sips => true,
            Scheme::Tel | Scheme::Other => false,
        });
        if !addresses {
            return Err(Refusal::Malformed(Fault::AddressMalformed));
        }
        let owns = bound.caller().is_some_and(|caller| caller.owns(&to));
        if !owns || (from != to && !self.third_party) {
            return Err(Refusal::IdentityForeign);
        }
        let contacts = message.values(Name::Contact).count();
        let star = message.values(Name::Contact).any(|contact| contact == b"*");
        if contacts > CONTACTS_MAX || star && (contacts != 1 || message.expires() != Some(0)) {
            return Err(Refusal::ContactsRefused);
        }
        if device::contradicts(message) {
            return Err(Refusal::ContactsRefused);
        }
        Ok(())
    }
}
