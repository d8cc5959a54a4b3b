//! Stage 5, settings: what an operator may change, also while calls are up.
//!
//! Takes:   nothing.
//! Gives:   [`Settings`], each with its default; [`Groups`], whose hashes are made once.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: rules 17, 23, 25 to 28 and 30; `dialog-association` sections 8.5, 10 and 11.

use std::sync::Arc;
use std::time::Duration;

use super::token::group_mark;
use crate::transport::GroupId;

/// What tokens call peer groups, by their places: a hash of the name, or of the place where there is none.
#[derive(Clone, Debug)]
pub struct Groups(Arc<[u64]>);

impl Groups {
    /// What tokens call a group.
    pub(super) fn mark(&self, group: GroupId) -> u64 {
        let place = usize::from(group.0);
        self.0.get(place).copied().unwrap_or_else(|| unnamed_mark(place))
    }

    /// The group that tokens call so.
    pub(super) fn of_mark(&self, mark: u64) -> Option<GroupId> {
        let place = self.0.iter().position(|known| *known == mark)?;
        u16::try_from(place).ok().map(GroupId)
    }
}

impl FromIterator<Arc<str>> for Groups {
    /// Groups of these names, each in its place, and some without one behind them.
    fn from_iter<N: IntoIterator<Item = Arc<str>>>(names: N) -> Self {
        let mut marks: Vec<u64> = names.into_iter().map(|name| group_mark(&name)).collect();
        marks.extend((marks.len()..GROUPS_UNNAMED).map(unnamed_mark));
        Self(marks.into())
    }
}

impl Default for Groups {
    fn default() -> Self {
        Self::from_iter([])
    }
}

fn unnamed_mark(place: usize) -> u64 {
    group_mark(&format!("group {place}"))
}

/// Groups without a name that are looked for, at most.
const GROUPS_UNNAMED: usize = 64;

/// What stage 5 is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most dialogs, ended ones included.
    pub max: usize,
    /// Most dialogs of one caller.
    pub max_per_caller: u32,
    /// Most early dialogs of one INVITE.
    pub early_max: usize,
    /// A dialog without a verified request for so long is over.
    pub max_idle: Duration,
    /// The longest subscription to a location: longer ones end by then.
    pub location_max: Duration,
    /// Whether no location is told of while its watcher's key has to be made anew.
    pub location_strict: bool,
    /// How long an owner to whom no flow leads may be away.
    pub grace: Duration,
    /// How long before its end a key is asked to be made anew, at least.
    pub rekey_window: Duration,
    /// How long a dialog waits for a new key of its owner, at most.
    pub rekey_deadline: Duration,
    /// Event packages that the core may notify of without a subscription, in small letters.
    pub unsolicited: Vec<String>,
    /// Accounts, and beginnings of User-Agent, whose BYE needs no more than the flow that they registered from.
    pub bye_at_level_1: Vec<String>,
    /// Whether the owner of a UE's leg is his principal and his instance, and not the principal alone.
    pub same_instance: bool,
    /// Whether rules are only counted (`observe`) but for those without which there is no dialog.
    pub observe: bool,
    /// Rules that are enforced although others are observed.
    pub enforce: Vec<u8>,
    /// Names of peer groups, by place: what tokens know them by.
    pub groups: Groups,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max: 250_000,
            max_per_caller: 64,
            early_max: 16,
            max_idle: Duration::from_secs(12 * 3600),
            location_max: Duration::from_secs(24 * 3600),
            location_strict: true,
            grace: Duration::from_secs(32),
            rekey_window: Duration::from_secs(60),
            rekey_deadline: Duration::from_secs(1800),
            unsolicited: vec!["message-summary".into()],
            bye_at_level_1: Vec::new(),
            same_instance: false,
            observe: false,
            enforce: Vec::new(),
            groups: Groups::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_known_by_its_name_or_else_by_its_place() {
        let groups: Groups = [Arc::from("edge"), Arc::from("group 7")].into_iter().collect();
        for (place, name) in [(0, "edge"), (1, "group 7"), (2, "group 2"), (63, "group 63")] {
            assert_eq!(groups.mark(GroupId(place)), group_mark(name), "{place}");
            assert_eq!(groups.of_mark(group_mark(name)), Some(GroupId(place)), "{place}");
        }
        assert_eq!(groups.mark(GroupId(64)), group_mark("group 64"));
        assert_eq!(groups.of_mark(group_mark("group 0")), None, "it has a name");
        assert_eq!(Groups::default().of_mark(group_mark("group 0")), Some(GroupId(0)));
    }
}
