//! Stage 4, trial: what stage 4 would find, without effect.
//!
//! Takes:   the gate whose knowledge it is.
//! Gives:   an [`Authentication`] that reads the windows, flows, keys and accounts of that one, and changes none.
//! Keeps:   copies of what it was asked for. Callers are twins: what is noted of them is not noted of the true ones.
//! Refuses: nothing.
//! Sources: `dialog-association` section 17 (`explain`).

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::unproved::Unproved;
use super::{AkaRealm, Authentication, Nonces, ProvedFlows};
use crate::admission::Recent;
use crate::gate::Gate;
use crate::identity::Btid;
use crate::instant::Now;
use crate::keys::{KeyAnswer, KeySource, NafId, NafKey};

impl Authentication {
    /// Stage 4 over that of `of`.
    pub fn trial(of: &Arc<Gate>) -> Self {
        let Self { settings, accounts, keys, best, decoy, .. } = &of.authentication;
        let beneath = Arc::clone(of);
        Self {
            settings: ArcSwap::new(settings.load_full()),
            accounts: ArcSwap::new(accounts.load_full()),
            keys: Arc::new(Aside(Arc::clone(keys))),
            nonces: Nonces::trial(of),
            aka: AkaRealm::trial(of),
            flows: ProvedFlows::trial(of),
            best: Recent::over(best, move |key, now| beneath.authentication.best.peek(key, now)),
            unproved: Unproved::trial(of),
            aside: true,
            decoy: *decoy,
        }
    }
}

/// Keys of another source, each with marks of its own.
struct Aside(Arc<dyn KeySource>);

impl KeySource for Aside {
    fn naf_key(&self, btid: &Btid, naf: &NafId, now: Now) -> KeyAnswer {
        match self.0.naf_key(btid, naf, now) {
            KeyAnswer::Known(key) => {
                let ready = key.ready.twin();
                KeyAnswer::Known(Arc::new(NafKey { ready, ..NafKey::clone(&key) }))
            }
            answer => answer,
        }
    }
}
