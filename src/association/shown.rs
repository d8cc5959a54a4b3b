//! Stage 5, shown: dialogs, for people who look and for gauges.
//!
//! Takes:   a Call-ID, with the tags of a dialog or without.
//! Gives:   copies of the records that have it on either leg; how many dialogs there are of each state and class.
//! Keeps:   nothing. What it gives holds ids, targets and routes as keyed hashes alone, but for those of a bridge.
//! Refuses: nothing. Without tags it looks at every dialog.
//! Sources: `dialog-association` section 17.

use std::collections::HashMap;
use std::sync::Arc;

use super::bridge::{Bridge, other};
use super::dialog::Association;
use super::state::State;
use super::table::Associations;
use crate::enabler::Class;
use crate::transport::Side;
use crate::wire::Message;

impl Association {
    /// Its two legs, where they have ids of their own.
    pub fn bridge(&self) -> Option<&Arc<Bridge>> {
        self.bridge.as_ref()
    }

    fn has_call(&self, call_id: &[u8], mark: u64) -> bool {
        let on = |bridge: &Bridge, side| *bridge.leg(side).call_id == *call_id;
        self.origin.call == mark
            || self.bridge().is_some_and(|bridge| on(bridge, Side::Ue) || on(bridge, Side::Core))
    }
}

impl Associations {
    /// Dialogs of that Call-ID; the one of these two tags, in either order, if they are given.
    pub fn called(&self, call_id: &[u8], tags: Option<[&[u8]; 2]>) -> Vec<Association> {
        let Some([one, other]) = tags else {
            let mark = self.keyer.mark(call_id);
            let all = self.snapshot().into_iter();
            return all.filter(|entry| entry.has_call(call_id, mark)).collect();
        };
        let keys = [(one, other), (other, one)];
        let keys = keys.map(|(ue, core)| self.keyer.dialog(call_id, ue, core));
        let led =
            keys.into_iter().flat_map(|key| [Side::Ue, Side::Core].map(|of| self.lead(key, of)));
        let mut found: Vec<_> = led.collect();
        found.sort_unstable();
        found.dedup();
        found
            .iter()
            .filter_map(|key| self.dialogs.get(key).map(|entry| Association::clone(&entry)))
            .collect()
    }

    /// The dialog that a request from `side` claims to be inside of, or a response to one.
    pub fn held(&self, message: &Message, side: Side) -> Option<Association> {
        let sender = if message.is_request() { side } else { other(side) };
        let key = self.lead(self.keyer.of(message, sender), sender);
        self.dialogs.get(&key).map(|entry| Association::clone(&entry))
    }

    /// How many dialogs there are of each state and class, those that may come to be included. Looks at every one.
    pub fn counts(&self) -> HashMap<(State, Class), u64> {
        let mut counts = HashMap::new();
        let mut one_more = |state, class| {
            let count: &mut u64 = counts.entry((state, class)).or_default();
            *count = count.saturating_add(1);
        };
        for entry in self.forming.iter() {
            one_more(State::Forming, entry.origin.class);
        }
        for entry in self.dialogs.iter() {
            one_more(entry.state, entry.class);
        }
        counts
    }
}
