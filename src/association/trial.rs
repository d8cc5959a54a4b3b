//! Stage 5, trial: what stage 5 would rule, without effect.
//!
//! Takes:   the gate whose dialogs they are.
//! Gives:   [`Associations`] that read the dialogs of that one, and change none.
//! Keeps:   copies of what it was asked for: dialogs with origins, tallies and bridges of their own.
//! Refuses: nothing.
//! Sources: `dialog-association` section 17 (`explain`).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::alias::Aliases;
use super::bridge::{Bridge, Seed};
use super::dialog::{Association, DialogKey, Forming, Origin, Tally};
use super::ends::Ends;
use super::named::Grants;
use super::notified::Forks;
use super::table::Associations;
use crate::expiry::Timer;
use crate::gate::Gate;
use crate::hashing::{Hashed, seeded};
use crate::identity::Principal;
use crate::layered::Layered;

/// Copies of what several records have in common, so that they have it in common again.
#[derive(Debug)]
pub(crate) struct Twins {
    of: Arc<Gate>,
    tallies: Mutex<Vec<(Principal, Arc<Tally>)>>,
    bridges: Mutex<Vec<(Arc<Bridge>, Arc<Bridge>)>>,
}

impl Twins {
    /// None yet.
    pub(crate) fn new(of: &Arc<Gate>) -> Arc<Self> {
        let (tallies, bridges) = (Mutex::default(), Mutex::default());
        Arc::new(Self { of: Arc::clone(of), tallies, bridges })
    }

    /// The twin of a bridge.
    pub(crate) fn bridge(&self, bridge: &Arc<Bridge>) -> Arc<Bridge> {
        let mut known = self.bridges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, twin)) = known.iter().find(|(of, _)| Arc::ptr_eq(of, bridge)) {
            return Arc::clone(twin);
        }
        let twin = Arc::new(bridge.twin());
        known.push((Arc::clone(bridge), Arc::clone(&twin)));
        twin
    }

    /// The twin of the tally of a caller, if he has one.
    fn tally(&self, owner: &Principal) -> Option<Arc<Tally>> {
        let mut known = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, twin)) = known.iter().find(|(of, _)| of == owner) {
            return Some(Arc::clone(twin));
        }
        let twin = Arc::new(self.of.associations.of_caller.get(owner)?.twin());
        known.push((owner.clone(), Arc::clone(&twin)));
        Some(twin)
    }

    fn origin(&self, origin: &Origin) -> Arc<Origin> {
        let tally = self.tally(&origin.owner).unwrap_or_default();
        Arc::new(Origin { tally, ..origin.clone() })
    }

    fn dialog(&self, key: DialogKey) -> Option<Box<Association>> {
        let known = self.of.associations.dialogs.get(&key)?;
        Some(Box::new(Association {
            origin: self.origin(&known.origin),
            bridge: known.bridge.as_ref().map(|bridge| self.bridge(bridge)),
            timer: Timer::default(),
            ..Association::clone(&known)
        }))
    }

    fn forming(&self, key: DialogKey) -> Option<Forming> {
        let known = self.of.associations.forming.get(&key)?;
        Some(Forming {
            origin: self.origin(&known.origin),
            seed: known.seed.as_deref().map(Seed::twin).map(Arc::new),
            credentials: known.credentials,
            children: known.children.clone(),
            deadline: known.deadline,
            timer: Timer::default(),
        })
    }
}

impl Associations {
    /// Stage 5 over that of `twins`.
    pub(crate) fn trial(twins: &Arc<Twins>) -> Self {
        let of = &twins.of.associations;
        let [one, two, three, four] = [(); 4].map(|()| Arc::clone(twins));
        let aliases = Aliases {
            keys: Layered::over(Hashed::default(), move |key| {
                one.of.associations.aliases.keys.get(key).map(|alias| *alias)
            }),
        };
        Self {
            settings: ArcSwap::new(of.settings.load_full()),
            keyer: of.keyer.clone(),
            tokens: of.tokens.twin(),
            forming: Layered::over(Hashed::default(), move |key| two.forming(*key)),
            dialogs: Layered::over(Hashed::default(), move |key| three.dialog(*key)),
            held: AtomicUsize::new(of.footprint()),
            of_caller: Layered::over(seeded(), move |owner| four.tally(owner)),
            aliases: Arc::new(aliases),
            anchored: Default::default(),
            errands: Default::default(),
            grants: Grants::trial(&twins.of),
            ends: Ends::trial(&twins.of),
            forks: Forks::trial(&twins.of),
            noted: Default::default(),
            expiry: Default::default(),
            first_id: of.first_id,
            next_id: AtomicU64::new(of.next_id.load(Ordering::Relaxed)),
        }
    }
}
