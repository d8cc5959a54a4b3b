//! Time as an argument: what a stage may know of the hour, and nothing that reads a clock.
//!
//! Takes:   readings made by the shell, or by a test.
//! Gives:   [`Instant`] for intervals, [`WallTime`] for what is written in keys and nonces, [`Now`] for both.
//! Keeps:   nothing.
//! Refuses: nothing; differences saturate, so a clock that jumps cannot make a panic.
//! Sources: none.

use std::time::Duration;

/// A reading of a clock that never goes back: microseconds since a start that only this process knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start itself.
    pub const START: Self = Self(0);

    /// The reading taken `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(length.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Seconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

impl WallTime {
    /// The time `seconds` after the Unix epoch.
    pub const fn from_unix(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since the Unix epoch.
    pub const fn as_unix(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for WallTime {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length.as_secs()))
    }
}

/// Both readings, taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For intervals and timers.
    pub mono: Instant,
    /// For lifetimes that other parties were told.
    pub wall: WallTime,
}

impl std::ops::Add<Duration> for Now {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self { mono: self.mono + length, wall: self.wall + length }
    }
}
