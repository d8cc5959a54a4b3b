//! Stage 3, overload: what is let go first when there is more work than time.
//!
//! 1. Each worker samples its lag a few times a second, while it has work, and gives it to its [`Strain`].
//! 2. A lag over a level's threshold for [`RISES_AFTER`] raises that worker to the level.
//! 3. A lag under the level's lower threshold for its calm lets it fall, one level at a time.
//! 4. Who rises again soon after he fell is calm only after twice as long: shedding makes the lag go, not the load.
//! 5. The node's load is that of its worst worker: what a source sends to one worker it sends to no other.
//!
//! Takes:   the shell's word on how far behind each worker is: how late its own timer fired, or how long datagrams
//!          may have waited for it, whichever is more. The first grows with the number of connections that have
//!          something to say, the second with a queue of datagrams that is never found empty; neither costs a system
//!          call, and both are zero for a worker that keeps up, however busy it is.
//! Gives:   [`Load`], read once for each message.
//! Keeps:   two counts for the node, five words for each worker.
//! Refuses: first what proves nothing, silently on datagrams, by 503 on streams; then new dialogs and registrations,
//!          by 503 with Retry-After; never requests inside dialogs, nor CANCELs of what is under way.
//!          On a node that is about to end, whatever is outside a dialog and new, on both faces, by the same 503.
//! Sources: RFC 3261 section 21.5.4; V-92 and V-150.

use std::cmp::Ordering;
use std::sync::atomic::{self, AtomicBool, AtomicUsize};
use std::time::Duration;

use crate::instant::Instant;

/// A lag from which a worker is under high load: a fifth of T1, after which UEs begin to repeat themselves.
pub const HIGH_FROM: Duration = Duration::from_millis(100);
/// A lag under which high load may end.
pub const HIGH_UNTIL: Duration = Duration::from_millis(20);
/// A lag from which a worker is under severe load: answers come so late that UEs repeat nearly everything.
pub const SEVERE_FROM: Duration = Duration::from_millis(300);
/// A lag under which severe load may end.
pub const SEVERE_UNTIL: Duration = Duration::from_millis(100);
/// How long a lag must last to raise the load: a worker that the system did not run for once is not overloaded.
pub const RISES_AFTER: Duration = Duration::from_millis(300);
/// How long the lag must be gone for the load to fall by one level.
pub const CALM: Duration = Duration::from_secs(1);
/// The longest that this grows, for a load that comes back each time.
pub const CALM_MAX: Duration = Duration::from_secs(32);

/// How much there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// All of it can be done.
    #[default]
    Normal,
    /// Requests without credentials are dropped, or refused where they came on a stream.
    High,
    /// New dialogs and registrations are answered 503 too.
    Severe,
}

impl Load {
    /// The lag from which a worker rises to this load, and the one under which it may leave it.
    fn thresholds(self) -> (Duration, Duration) {
        match self {
            Self::Normal => (Duration::ZERO, Duration::ZERO),
            Self::High => (HIGH_FROM, HIGH_UNTIL),
            Self::Severe => (SEVERE_FROM, SEVERE_UNTIL),
        }
    }

    fn lower(self) -> Self {
        match self {
            Self::Normal | Self::High => Self::Normal,
            Self::Severe => Self::High,
        }
    }
}

/// The load of the node.
#[derive(Debug, Default)]
pub struct Overload {
    /// Workers under high load, and those under severe load.
    high: AtomicUsize,
    severe: AtomicUsize,
    draining: AtomicBool,
}

impl Overload {
    /// Notes that one worker's load is another than before; each begins as [`Load::Normal`].
    pub fn change(&self, from: Load, to: Load) {
        if let Some(count) = self.count(from) {
            count.fetch_sub(1, atomic::Ordering::Relaxed);
        }
        if let Some(count) = self.count(to) {
            count.fetch_add(1, atomic::Ordering::Relaxed);
        }
    }

    /// From now on nothing new is begun here: the node is about to end.
    pub fn drain(&self) {
        self.draining.store(true, atomic::Ordering::Relaxed);
    }

    /// Whether the node is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(atomic::Ordering::Relaxed)
    }

    /// The load now.
    pub fn load(&self) -> Load {
        let any = |count: &AtomicUsize| count.load(atomic::Ordering::Relaxed) > 0;
        match (any(&self.severe), any(&self.high)) {
            (true, _) => Load::Severe,
            (false, true) => Load::High,
            (false, false) => Load::Normal,
        }
    }

    fn count(&self, load: Load) -> Option<&AtomicUsize> {
        match load {
            Load::Normal => None,
            Load::High => Some(&self.high),
            Load::Severe => Some(&self.severe),
        }
    }
}

/// The load of one worker, from samples of its lag.
#[derive(Clone, Copy, Debug)]
pub struct Strain {
    load: Load,
    /// Which way samples point, and since when.
    trend: Option<(Ordering, Instant)>,
    /// How long the lag must be gone this time.
    calm: Duration,
    /// When the load fell to normal last.
    fell: Option<Instant>,
}

impl Default for Strain {
    fn default() -> Self {
        Self { load: Load::Normal, trend: None, calm: CALM, fell: None }
    }
}

impl Strain {
    /// Takes one sample, and tells `node` if the load of this worker changes by it.
    pub fn sample(&mut self, lag: Duration, now: Instant, node: &Overload) -> Load {
        let before = self.load;
        let wanted = self.wanted(lag);
        let trend = wanted.cmp(&before);
        let since = match self.trend {
            Some((same, since)) if same == trend => since,
            _ => now,
        };
        self.trend = Some((trend, since));
        let lasted = now.since(since);
        match trend {
            Ordering::Greater if lasted >= RISES_AFTER => self.rise(wanted, now),
            Ordering::Less if lasted >= self.calm => self.fall(now),
            _ => return before,
        }
        self.trend = None;
        node.change(before, self.load);
        self.load
    }

    /// The load that this lag stands for, seen from the present one.
    fn wanted(&self, lag: Duration) -> Load {
        let stands_for = |load: &Load| {
            let (from, until) = load.thresholds();
            lag >= if *load > self.load { from } else { until }
        };
        [Load::Severe, Load::High].into_iter().find(stands_for).unwrap_or_default()
    }

    fn rise(&mut self, to: Load, now: Instant) {
        if self.load == Load::Normal {
            let relapse = self.fell.is_some_and(|fell| now.since(fell) < self.calm);
            let longer = self.calm.saturating_mul(2).min(CALM_MAX);
            self.calm = if relapse { longer } else { CALM };
        }
        self.load = to;
    }

    fn fall(&mut self, now: Instant) {
        self.load = self.load.lower();
        if self.load == Load::Normal {
            self.fell = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of one lag, every 100 ms for so long; the load at the end.
    fn feel(strain: &mut Strain, node: &Overload, clock: &mut u64, lag: u64, millis: u64) -> Load {
        let end = *clock + millis;
        let mut load = strain.load;
        while *clock < end {
            *clock += 100;
            let now = Instant::from_micros(*clock * 1000);
            load = strain.sample(Duration::from_millis(lag), now, node);
        }
        load
    }

    #[test]
    fn rises_when_a_lag_lasts_and_falls_one_level_at_a_time() {
        let (mut strain, node, mut clock) = (Strain::default(), Overload::default(), 0);
        for (fact, lag, millis, expected) in [
            ("a worker that keeps up", 0, 5000, Load::Normal),
            ("under the threshold, for however long", 99, 5000, Load::Normal),
            ("not run for once", 900, 300, Load::Normal),
            ("and then at ease again", 0, 100, Load::Normal),
            ("behind, but not for long enough", 150, 300, Load::Normal),
            ("behind for long enough", 150, 100, Load::High),
            ("between the thresholds it stays", 50, 5000, Load::High),
            ("far behind", 300, 400, Load::Severe),
            ("a little better is not enough", 150, 5000, Load::Severe),
            ("better, but not for long", 50, 900, Load::Severe),
            ("better for long enough: one level", 50, 200, Load::High),
            ("no further, without being calm", 50, 5000, Load::High),
            ("calm, but not for long", 0, 900, Load::High),
            ("interrupted", 50, 100, Load::High),
            ("begins again", 0, 1000, Load::High),
            ("and ends", 0, 100, Load::Normal),
            ("straight to severe", 2000, 400, Load::Severe),
        ] {
            assert_eq!(feel(&mut strain, &node, &mut clock, lag, millis), expected, "{fact}");
            assert_eq!(node.load(), expected, "{fact}");
        }
    }

    #[test]
    fn a_load_that_comes_back_at_once_is_waited_out_longer_each_time() {
        let (mut strain, node, mut clock) = (Strain::default(), Overload::default(), 0);
        for calm in [1, 2, 4, 8, 16, 32, 32] {
            assert_eq!(feel(&mut strain, &node, &mut clock, 150, 400), Load::High, "{calm} s");
            let short = calm * 1000;
            assert_eq!(feel(&mut strain, &node, &mut clock, 0, short), Load::High, "{calm} s");
            assert_eq!(feel(&mut strain, &node, &mut clock, 0, 100), Load::Normal, "{calm} s");
        }
        feel(&mut strain, &node, &mut clock, 0, 60_000);
        feel(&mut strain, &node, &mut clock, 150, 400);
        let calm = feel(&mut strain, &node, &mut clock, 0, 1100);
        assert_eq!(calm, Load::Normal, "one that stayed away is forgiven");
    }

    #[test]
    fn the_worst_worker_counts() {
        use Load::{High, Normal, Severe};
        let node = Overload::default();
        for (from, to, expected) in [
            (Normal, High, High),
            (Normal, Severe, Severe),
            (High, Normal, Severe),
            (Normal, High, Severe),
            (Severe, High, High),
            (High, Normal, High),
            (High, Normal, Normal),
        ] {
            node.change(from, to);
            assert_eq!(node.load(), expected, "{from:?} to {to:?}");
        }
    }
}
