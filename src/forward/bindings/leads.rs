//! Stage 7, bindings: over which flows a UE is reached.
//!
//! Takes:   a flow token, or a dialog whose own flows are closed.
//! Gives:   [`Lead`]: flows in the order in which they are to be tried, and whose they are.
//! Keeps:   nothing but that a silent flow was tried.
//! Refuses: flows that are closed, over, or of another address of record or instance.
//! Sources: RFC 5626 sections 5.3.1 and 7; `OB-04`, `KA-03`.

use std::sync::Arc;

use super::{Binding, Bindings, Flows, Key, Owner, Standing};
use crate::authentication::Caller;
use crate::forward::token::Plain;
use crate::identity::Principal;
use crate::instant::Now;
use crate::transport::Flow;
use crate::wire::device::Device;

/// Where a token leads.
#[derive(Clone, Debug)]
pub struct Lead {
    /// Over which flows; there is at least one.
    pub flows: Flows,
    /// To whom.
    pub caller: Arc<Caller>,
    /// Whether that flow is in doubt, and this is its one try.
    pub doubtful: bool,
}

impl Bindings {
    /// Where a token leads: its own flow, then the one that took its place, then the others of the same address of
    /// record and instance, the newest first. `None` if there is none of them.
    pub fn lead(&self, plain: Plain, now: Now, open: impl Fn(&Flow) -> bool) -> Option<Lead> {
        let found = self.get(plain.binding, now, |of| {
            let owner = (Arc::clone(&of.caller), Arc::clone(&of.aor), of.device);
            (of.mark == plain.caller).then_some(owner)
        });
        let (caller, aor, device) = found.flatten()?;
        let owner = Owner { principal: &caller.principal, aor: &aor };
        let (flows, doubtful) = self.lead_from(plain.binding, owner, device, now, open)?;
        Some(Lead { flows, caller, doubtful })
    }

    /// Where a dialog of `principal` leads whose own flows are closed: over other flows of the instances that had those.
    pub fn lead_beside(
        &self,
        gone: &[Flow],
        principal: &Principal,
        now: Now,
        open: impl Fn(&Flow) -> bool,
    ) -> Option<Lead> {
        gone.iter().rev().find_map(|flow| {
            self.numbers(&Key::Flow(flow)).into_iter().rev().find_map(|number| {
                let is = |of: &Binding| of.flow == *flow && of.caller.principal == *principal;
                let found = self.get(number, now, |of| {
                    is(of).then(|| (Arc::clone(&of.caller), of.aor.clone(), of.device))
                });
                let (caller, aor, device) = found.flatten()?;
                let owner = Owner { principal, aor: &aor };
                let (flows, doubtful) = self.lead_from(number, owner, device, now, &open)?;
                Some(Lead { flows, caller, doubtful })
            })
        })
    }

    fn lead_from(
        &self,
        first: u64,
        owner: Owner<'_>,
        device: Option<Device>,
        now: Now,
        open: impl Fn(&Flow) -> bool,
    ) -> Option<(Flows, bool)> {
        let beside = device.map(|device| self.numbers(&Key::Instance(owner, device.instance)));
        let others = beside.into_iter().flatten().rev().filter(|number| *number != first);
        let instance = device.map(|device| device.instance);
        let heir = device.filter(|device| device.reg_id.is_some());
        let (mut sound, mut silent) = (Flows::new(), None);
        let mut own = 0;
        for number in std::iter::once(first).chain(others) {
            let serves = |of: &Binding| match of.standing {
                Standing::Asked => number == first,
                Standing::Confirmed => {
                    of.owner() == owner && of.device.map(|it| it.instance) == instance
                }
                Standing::Over => false,
            };
            let look = |of: &Binding| {
                let silent = of.is_silent(now);
                let near = number == first || heir.is_some() && of.device == heir;
                serves(of).then_some((of.flow, silent || of.lost, silent && of.tried, near))
            };
            match self.get(number, now, look).flatten().filter(|(flow, ..)| open(flow)) {
                Some((flow, false, _, near)) if !sound.contains(&flow) => {
                    sound.insert(if near { own } else { sound.len() }, flow);
                    own = own.saturating_add(usize::from(near));
                }
                Some((flow, true, false, _)) => silent = silent.or(Some((flow, number))),
                _ => {}
            }
        }
        let Some((flow, number)) = silent.filter(|_| sound.is_empty()) else {
            return (!sound.is_empty()).then_some((sound, false));
        };
        self.by_number.get_mut(&number)?.tried = true;
        sound.push(flow);
        Some((sound, true))
    }
}
