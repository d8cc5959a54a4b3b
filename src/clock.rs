//! The one place that reads a clock or draws randomness.
//!
//! Takes:   the system's monotonic clock, its wall clock once, and its entropy.
//! Gives:   [`now`], whose two readings never part: wall time is the one anchored at start plus what the
//!          monotonic clock has run since, so setting the wall clock moves no timer and revives no key;
//!          [`random`], octets that nobody can guess.
//! Keeps:   the two readings taken at start.
//! Refuses: a start with a wall clock from before this crate existed ([`sane`]); to go on without entropy.
//! Sources: none.

use std::fmt;
use std::io::Write as _;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::instant::{Instant, Now, WallTime};

/// No machine that can build this crate has seen an earlier day: 1 April 2026.
const NOT_BEFORE: WallTime = WallTime::from_unix(1_775_001_600);

static START: LazyLock<Start> = LazyLock::new(|| Start {
    mono: std::time::Instant::now(),
    wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
});

struct Start {
    mono: std::time::Instant,
    wall: Duration,
}

impl Start {
    /// Both readings, `elapsed` after the start.
    fn after(&self, elapsed: Duration) -> Now {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let wall = self.wall.saturating_add(elapsed).as_secs();
        Now { mono: Instant::from_micros(micros), wall: WallTime::from_unix(wall) }
    }
}

/// Both readings of the hour: microseconds since the first call in this process, and seconds UTC.
pub fn now() -> Now {
    START.after(START.mono.elapsed())
}

/// The monotonic reading alone: what timers need.
pub fn mono() -> Instant {
    now().mono
}

/// The moment `at` on the clock that tokio's timers read; now, if it has passed.
pub fn deadline(at: Instant) -> tokio::time::Instant {
    tokio::time::Instant::now() + at.since(mono())
}

/// The wall clock stands before this crate was written: certificates and keys would be judged by a wrong day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insane {
    /// What the clock says.
    pub reads: WallTime,
}

impl fmt::Display for Insane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the clock reads {} s after 1970, which is before this program was built: set the clock first",
            self.reads.as_unix()
        )
    }
}

impl std::error::Error for Insane {}

/// Checks the wall clock once, before anything is served.
///
/// # Errors
///
/// [`Insane`] if it stands before this crate was written.
pub fn sane() -> Result<(), Insane> {
    judge(now().wall)
}

fn judge(reads: WallTime) -> Result<(), Insane> {
    if reads < NOT_BEFORE { Err(Insane { reads }) } else { Ok(()) }
}

/// `N` octets of the system's entropy.
///
/// Without entropy no nonce, branch or key can be made, so the process ends here, saying so.
pub fn random<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    if let Err(error) = getrandom::fill(&mut octets) {
        // Nothing else may run: not even an unwinding that a task could survive.
        let _ = writeln!(std::io::stderr(), "sipward: the system gives no randomness: {error}");
        std::process::abort();
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V-91: the two readings never part, so a wall clock that is set moves nothing.
    #[test]
    fn wall_time_is_the_start_plus_what_the_monotonic_clock_has_run() {
        let start = Start { mono: std::time::Instant::now(), wall: Duration::from_millis(5_900) };
        for (elapsed, mono, wall) in [
            (Duration::ZERO, 0, 5),
            (Duration::from_millis(100), 100_000, 6),
            (Duration::from_secs(3600), 3_600_000_000, 3605),
        ] {
            let now = start.after(elapsed);
            assert_eq!((now.mono.as_micros(), now.wall.as_unix()), (mono, wall), "{elapsed:?}");
        }
    }

    #[test]
    fn readings_never_go_back() {
        let readings: Vec<Now> = (0..1000).map(|_| now()).collect();
        assert!(readings.is_sorted_by_key(|now| (now.mono, now.wall)));
    }

    /// V-91.
    #[test]
    fn a_clock_from_before_the_crate_is_refused() {
        let before = WallTime::from_unix(NOT_BEFORE.as_unix() - 1);
        assert_eq!(judge(before), Err(Insane { reads: before }), "V-91");
        assert_eq!(judge(WallTime::default()), Err(Insane { reads: WallTime::default() }));
        assert_eq!(judge(NOT_BEFORE), Ok(()));
        assert_eq!(sane(), Ok(()), "the machine that runs the tests");
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(random::<16>(), random::<16>());
        assert_eq!(random::<0>(), [0_u8; 0]);
    }
}
