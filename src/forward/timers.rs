//! Stage 7, timers: the lettered timers of the documents.
//!
//! Takes:   T1, T2 and T4 from configuration.
//! Gives:   [`Timings`], how long each [`Timer`] runs.
//! Keeps:   nothing; a worker keeps them on a [`crate::wheel::Wheel`].
//! Refuses: a T1 of zero, a T2 below T1, values over an hour.
//! Sources: RFC 3261 section 17 and table 4; RFC 6026 section 7 (L, M); RFC 4320 section 4.1; `TX-01`, `PX-14`.

use std::time::Duration;

/// The timers of a transaction, by the letter that RFC 3261 and RFC 6026 give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// Retransmit INVITE.
    A,
    /// Give up an INVITE that nobody answers.
    B,
    /// Cancel an INVITE that rings too long.
    C,
    /// Absorb retransmitted final responses to INVITE.
    D,
    /// Retransmit a request that is not INVITE.
    E,
    /// Give up a request that is not INVITE.
    F,
    /// Retransmit final response to INVITE.
    G,
    /// Give up waiting for ACK.
    H,
    /// Absorb retransmitted ACKs.
    I,
    /// Absorb retransmissions of a request that is not INVITE.
    J,
    /// Absorb retransmitted responses to a request that is not INVITE.
    K,
    /// Absorb retransmissions of an accepted INVITE.
    L,
    /// Take further 2xx to an INVITE.
    M,
}

/// How long the timers run. Sixteen octets, so that each machine has its own copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    t1_millis: u32,
    t2_millis: u32,
    t4_millis: u32,
    c_millis: u32,
}

impl Default for Timings {
    /// T1 500 ms, T2 4 s, T4 5 s, C 185 s.
    fn default() -> Self {
        Self { t1_millis: 500, t2_millis: 4_000, t4_millis: 5_000, c_millis: 185_000 }
    }
}

impl Timings {
    /// Timer C is over this, as RFC 3261 section 16.6 item 11 asks.
    pub const C_OVER: Duration = Duration::from_secs(180);
    /// Timer D at least, on unreliable transports: the other side's T1 is not known.
    pub const D: Duration = Duration::from_secs(32);
    /// An INVITE is answered 100 after this, if nothing else was said.
    pub const TRYING: Duration = Duration::from_millis(200);

    /// Timings from the round-trip estimate, the longest retransmission interval, and the time that the
    /// network may hold a message. `None` if T1 is under 1 ms, T2 under T1, or one of them over an hour.
    pub fn new(t1: Duration, t2: Duration, t4: Duration) -> Option<Self> {
        let millis = |length: Duration| {
            u32::try_from(length.as_millis()).ok().filter(|millis| *millis <= HOUR_MILLIS)
        };
        let (t1_millis, t2_millis, t4_millis) = (millis(t1)?, millis(t2)?, millis(t4)?);
        let sound = t1_millis > 0 && t2_millis >= t1_millis;
        sound.then_some(Self { t1_millis, t2_millis, t4_millis, ..Self::default() })
    }

    /// The same with another timer C. `None` unless it is over [`Timings::C_OVER`] and at most an hour.
    pub fn with_c(self, c: Duration) -> Option<Self> {
        let millis = u32::try_from(c.as_millis()).ok().filter(|millis| *millis <= HOUR_MILLIS)?;
        (c > Self::C_OVER).then_some(Self { c_millis: millis, ..self })
    }

    /// Timer C, how long a proxied INVITE may ring.
    pub fn c(self) -> Duration {
        Duration::from_millis(self.c_millis.into())
    }

    /// T1, the estimate of a round trip.
    pub fn t1(self) -> Duration {
        Duration::from_millis(self.t1_millis.into())
    }

    /// T2, the longest interval between retransmissions of what is not INVITE.
    pub fn t2(self) -> Duration {
        Duration::from_millis(self.t2_millis.into())
    }

    /// T4, how long the network may hold a message.
    pub fn t4(self) -> Duration {
        Duration::from_millis(self.t4_millis.into())
    }

    /// 64*T1, the life of a transaction that goes wrong.
    pub fn life(self) -> Duration {
        self.t1().saturating_mul(64)
    }

    /// How long `timer` runs when it is first set; `None` if it is not set at all on such a transport.
    ///
    /// Source: RFC 3261 table 4; RFC 6026 section 8.11.
    pub fn first(self, timer: Timer, reliable: bool) -> Option<Duration> {
        match timer {
            Timer::A | Timer::E | Timer::G => (!reliable).then_some(self.t1()),
            Timer::B | Timer::F | Timer::H | Timer::L | Timer::M => Some(self.life()),
            Timer::C => Some(self.c()),
            Timer::D if !reliable => Some(self.life().max(Self::D)),
            Timer::I | Timer::K if !reliable => Some(self.t4()),
            Timer::J if !reliable => Some(self.life()),
            Timer::D | Timer::I | Timer::J | Timer::K => Some(Duration::ZERO),
        }
    }

    /// How long `timer` runs after it ran for `last`: A doubles, E and G double up to T2.
    pub fn again(self, timer: Timer, last: Duration) -> Duration {
        let doubled = last.saturating_mul(2);
        if timer == Timer::A { doubled } else { doubled.min(self.t2()) }
    }

    /// When a request that is not INVITE is answered 100, if nothing else was said: as long as the other
    /// side's Timer E takes to be set to T2. 3.5 s with the default values.
    ///
    /// Source: RFC 4320 section 4.1.
    pub fn trying_not_invite(self) -> Duration {
        let (mut total, mut last) = (self.t1(), self.t1());
        loop {
            last = self.again(Timer::E, last);
            if last >= self.t2() {
                return total;
            }
            total = total.saturating_add(last);
        }
    }
}

const HOUR_MILLIS: u32 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn timers_run_as_table_4_says() {
        let timings = Timings::default();
        for (timer, unreliable, reliable) in [
            (Timer::A, Some(500), None),
            (Timer::B, Some(32_000), Some(32_000)),
            (Timer::C, Some(185_000), Some(185_000)),
            (Timer::D, Some(32_000), Some(0)),
            (Timer::E, Some(500), None),
            (Timer::F, Some(32_000), Some(32_000)),
            (Timer::G, Some(500), None),
            (Timer::H, Some(32_000), Some(32_000)),
            (Timer::I, Some(5_000), Some(0)),
            (Timer::J, Some(32_000), Some(0)),
            (Timer::K, Some(5_000), Some(0)),
            (Timer::L, Some(32_000), Some(32_000)),
            (Timer::M, Some(32_000), Some(32_000)),
        ] {
            let millis = |reliable| timings.first(timer, reliable).map(|length| length.as_millis());
            assert_eq!(millis(false), unreliable, "{timer:?}, unreliable");
            assert_eq!(millis(true), reliable, "{timer:?}, reliable");
        }
    }

    #[test]
    fn timer_d_is_never_under_32_s() {
        let short = Timings::new(10 * MILLI, 100 * MILLI, 100 * MILLI).expect("sound");
        assert_eq!(short.first(Timer::D, false), Some(Timings::D));
        let long = Timings::new(1000 * MILLI, 4000 * MILLI, 5000 * MILLI).expect("sound");
        assert_eq!(long.first(Timer::D, false), Some(64_000 * MILLI));
    }

    #[test]
    fn a_100_is_due_when_timer_e_reaches_t2() {
        for (t1, t2, due) in [(500, 4000, 3500), (500, 500, 500), (500, 600, 500), (1, 4000, 4095)]
        {
            let timings = Timings::new(t1 * MILLI, t2 * MILLI, MILLI).expect("sound");
            assert_eq!(timings.trying_not_invite(), due * MILLI, "T1 {t1}, T2 {t2}");
        }
    }

    #[test]
    fn timings_that_cannot_be_are_refused() {
        let hour = Duration::from_secs(3600);
        for (t1, t2, t4) in [
            (Duration::ZERO, hour, hour),
            (Duration::from_micros(999), hour, hour),
            (2 * MILLI, MILLI, hour),
            (MILLI, hour + MILLI, hour),
            (MILLI, hour, Duration::MAX),
        ] {
            assert_eq!(Timings::new(t1, t2, t4), None, "{t1:?} {t2:?} {t4:?}");
        }
    }
}
