//! The UE, keeping a flow: when to ping, when it has failed, and how long to wait before it is formed again.
//!
//! 1. A 2xx to REGISTER says whether pings are wanted: outbound in Require, or `keep` with a value in our Via. The next
//!    one that does not say so ends them.
//! 2. The next ping goes after 80 to 100 % of the time that was named. A connection is pinged with a double CRLF and has
//!    failed if no CRLF comes in 10 s; datagrams with STUN, seven times at most, and the address they tell must stay.
//! 3. A flow that failed is formed again at once if it had served, else after a while that doubles each time.
//!
//! Takes:   responses, pongs, datagrams that are STUN, the time; a seed for its dice.
//! Gives:   octets to send, whether the flow has failed; drain both after each call, then arm one timer.
//! Keeps:   one ping under way.
//! Refuses: an answer to another ping than that.
//! Sources: RFC 5626 sections 4.2.1, 4.4 and 4.5; RFC 6223 sections 4.2.2, 4.3 and 5; RFC 8489 section 6.2.1.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::instant::Instant;
use crate::transport::Transport;
use crate::transport::stun::{self, Told};
use crate::wire::{Message, Method, Name, split};

/// How a flow is pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// A double CRLF, which a CRLF answers.
    Crlf,
    /// A Binding request.
    Stun,
    /// A CRLF inside a session of datagrams, which nothing answers.
    Unanswered,
}

/// The pings of one flow.
#[derive(Debug)]
pub struct KeepAlive {
    means: Means,
    /// The longest time between two, while pings are wanted.
    every: Option<Duration>,
    next: Option<Instant>,
    under_way: Option<Ping>,
    /// The address that the edge sees.
    mapped: Option<SocketAddr>,
    answered: bool,
    failed: bool,
    dice: ChaCha12Rng,
    outputs: VecDeque<Bytes>,
}

#[derive(Clone, Copy, Debug)]
struct Ping {
    /// Of STUN.
    transaction: [u8; 12],
    sent: u32,
    until: Instant,
}

impl KeepAlive {
    /// None are wanted yet.
    pub fn new(transport: Transport, seed: [u8; 32]) -> Self {
        let means = match transport {
            Transport::Udp => Means::Stun,
            Transport::Dtls => Means::Unanswered,
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => Means::Crlf,
        };
        Self {
            means,
            every: None,
            next: None,
            under_way: None,
            mapped: None,
            answered: false,
            failed: false,
            dice: ChaCha12Rng::from_seed(seed),
            outputs: VecDeque::new(),
        }
    }

    /// Takes what a response to REGISTER says of pings; other responses say nothing.
    pub fn told(&mut self, response: &Message, now: Instant) {
        let good = response.status().is_some_and(|status| matches!(status, 200..=299));
        if !good || response.cseq_method() != Method::Register {
            return;
        }
        self.every = self.wanted(response);
        self.next = None;
        match self.every {
            Some(_) if self.under_way.is_none() => self.plan(now),
            Some(_) => {}
            None => self.under_way = None,
        }
    }

    /// The longest time between two pings that a response asks for.
    fn wanted(&self, response: &Message) -> Option<Duration> {
        let usual = if self.means == Means::Crlf { USUAL_STREAM } else { USUAL_DATAGRAM };
        let seconds =
            |value: &[u8]| split::number(value).filter(|it| *it > 0).map(|it| it.min(DAY));
        if response.has_option(Name::Require, "outbound") {
            let named = response.first(Name::FlowTimer).and_then(seconds);
            return Some(named.map_or(usual, Duration::from_secs));
        }
        let via = response.top_via()?;
        let keep = via.param("keep").filter(|value| !value.is_empty())?;
        Some(seconds(keep).map_or(usual, Duration::from_secs))
    }

    fn plan(&mut self, now: Instant) {
        let Some(every) = self.every else { return };
        self.next = Some(now + between(&mut self.dice, every.mul_f64(0.8), every));
    }

    /// Lets time pass.
    pub fn expire(&mut self, now: Instant) {
        if let Some(ping) = self.under_way.filter(|ping| ping.until <= now) {
            if self.means == Means::Stun && ping.sent < STUN_TIMES {
                return self.ask(ping.transaction, ping.sent.saturating_add(1), now);
            }
            self.failed = true;
            (self.under_way, self.next) = (None, None);
        }
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        self.next = None;
        match self.means {
            Means::Stun => {
                let mut transaction = [0; 12];
                self.dice.fill_bytes(&mut transaction);
                self.ask(transaction, 1, now);
            }
            Means::Crlf => {
                self.outputs.push_back(Bytes::from_static(PING));
                self.under_way = Some(Ping { transaction: [0; 12], sent: 1, until: now + PONG });
            }
            Means::Unanswered => {
                self.outputs.push_back(Bytes::from_static(PING));
                self.plan(now);
            }
        }
    }

    fn ask(&mut self, transaction: [u8; 12], sent: u32, now: Instant) {
        self.outputs.push_back(stun::request(&transaction));
        let times = 1_u32.checked_shl(sent.saturating_sub(1)).unwrap_or(u32::MAX);
        let wait = RTO.saturating_mul(if sent < STUN_TIMES { times } else { 16 });
        self.under_way = Some(Ping { transaction, sent, until: now + wait });
    }

    /// Whether a CRLF is waited for.
    pub fn waits_for_pong(&self) -> bool {
        self.means == Means::Crlf && self.under_way.is_some()
    }

    /// The CRLF came.
    pub fn pong(&mut self, now: Instant) {
        if self.waits_for_pong() {
            self.answered(now);
        }
    }

    /// A datagram came that is STUN.
    pub fn stun(&mut self, octets: &[u8], now: Instant) {
        let Some(ping) = self.under_way.filter(|_| self.means == Means::Stun) else { return };
        match stun::told(octets, &ping.transaction) {
            Some(Told::Mapped(address)) => {
                self.failed |= self.mapped.is_some_and(|known| known != address);
                self.mapped = Some(address);
                self.answered(now);
            }
            Some(Told::Error) => self.failed = true,
            None => {}
        }
    }

    fn answered(&mut self, now: Instant) {
        (self.under_way, self.answered) = (None, true);
        self.plan(now);
    }

    /// Whether the flow has failed: nothing should be sent on it any more.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// How often the flow is pinged at least, if it is.
    pub fn every(&self) -> Option<Duration> {
        self.every
    }

    /// Whether it has served: nothing is asked of it, or a ping was answered.
    pub fn has_served(&self) -> bool {
        self.answered || self.every.is_none() || self.means == Means::Unanswered
    }

    /// What to send next.
    pub fn poll_output(&mut self) -> Option<Bytes> {
        self.outputs.pop_front()
    }

    /// When [`KeepAlive::expire`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.next, self.under_way.map(|ping| ping.until)].into_iter().flatten().min()
    }
}

/// What is known of a flow's pings when it is over.
#[derive(Debug, Default)]
pub struct Kept(AtomicBool);

impl Kept {
    /// Notes how they stand.
    pub fn note(&self, pings: &KeepAlive) {
        self.0.store(pings.has_served(), Ordering::Relaxed);
    }

    /// Whether the flow has served.
    pub fn has_served(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long to wait before a flow is formed again.
#[derive(Debug)]
pub struct Recovery {
    failures: u32,
    dice: ChaCha12Rng,
}

impl Recovery {
    /// No failure yet.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { failures: 0, dice: ChaCha12Rng::from_seed(seed) }
    }

    /// The flow has served.
    pub fn served(&mut self) {
        self.failures = 0;
    }

    /// The flow could not be formed, or was over before it had served: how long to wait. `others` says whether other
    /// flows serve meanwhile.
    ///
    /// Source: RFC 5626 section 4.5: W = min(1800 s, base * 2^failures), of which 50 to 100 %.
    pub fn failed(&mut self, others: bool) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let base = if others { BASE_SOME } else { BASE_NONE };
        let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let most = base.saturating_mul(doubled).min(LONGEST);
        between(&mut self.dice, most.mul_f64(0.5), most)
    }
}

/// A time between two others, each as likely.
fn between(dice: &mut ChaCha12Rng, least: Duration, most: Duration) -> Duration {
    let part = f64::from(dice.next_u32()) / f64::from(u32::MAX);
    least.saturating_add(most.saturating_sub(least).mul_f64(part))
}

const PING: &[u8] = b"\r\n\r\n";
/// RFC 5626 section 4.4.1.
const PONG: Duration = Duration::from_secs(10);
/// The longest time between two pings.
const DAY: u64 = 86_400;
const USUAL_STREAM: Duration = Duration::from_secs(120);
/// RFC 5626 section 4.4.2.
const USUAL_DATAGRAM: Duration = Duration::from_secs(29);
/// RFC 8489 section 6.2.1: how long the first answer may take, and how often is asked.
const RTO: Duration = Duration::from_millis(500);
const STUN_TIMES: u32 = 7;
/// RFC 5626 section 4.5.
const LONGEST: Duration = Duration::from_secs(1800);
const BASE_NONE: Duration = Duration::from_secs(30);
const BASE_SOME: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    fn registered(fields: &str) -> Message {
        let text = format!("SIP/2.0 200 OK\r\nCSeq: 1 REGISTER\r\n{fields}\r\n");
        Message::from_datagram(Bytes::from(text)).expect("well formed")
    }

    /// The first ping, and when it went.
    fn ping(keep: &mut KeepAlive) -> (Bytes, Instant) {
        let due = keep.poll_timeout().expect("a ping is planned");
        keep.expire(due);
        (keep.poll_output().expect("a ping"), due)
    }

    #[test]
    fn pings_begin_when_they_are_wanted_and_end_when_they_are_not() {
        for (transport, fields, expected) in [
            (Transport::Tcp, "Require: outbound\r\nFlow-Timer: 60\r\n", Some(60)),
            (Transport::Tcp, "Require: outbound\r\n", Some(120)),
            (Transport::Udp, "Require: outbound\r\n", Some(29)),
            (Transport::Udp, "Via: SIP/2.0/UDP h;keep=30\r\n", Some(30)),
            (Transport::Udp, "Via: SIP/2.0/UDP h;keep=0\r\n", Some(29)),
            (Transport::Udp, "Via: SIP/2.0/UDP h;keep\r\n", None),
            (Transport::Tcp, "Via: SIP/2.0/TCP h\r\nFlow-Timer: 60\r\n", None),
        ] {
            let mut keep = KeepAlive::new(transport, [1; 32]);
            keep.told(&registered(fields), at(0));
            assert_eq!(keep.every().map(|every| every.as_secs()), expected, "{fields}");
            assert_eq!(keep.poll_timeout().is_some(), expected.is_some(), "{fields}");
            keep.told(&registered("Via: SIP/2.0/UDP h\r\n"), at(0));
            assert_eq!((keep.every(), keep.poll_timeout()), (None, None), "not said again");
        }
    }

    #[test]
    fn each_interval_is_between_eighty_and_a_hundred_per_cent() {
        let mut keep = KeepAlive::new(Transport::Tcp, [2; 32]);
        keep.told(&registered("Require: outbound\r\nFlow-Timer: 100\r\n"), at(0));
        let (mut before, mut seen) = (at(0), std::collections::HashSet::new());
        for _ in 0..200 {
            let (octets, due) = ping(&mut keep);
            let waited = due.since(before);
            assert!((80..=100).contains(&waited.as_secs()), "{waited:?}");
            seen.insert(waited.as_millis());
            assert_eq!(&octets[..], b"\r\n\r\n");
            assert!(keep.waits_for_pong());
            keep.pong(due);
            before = due;
        }
        assert!(seen.len() > 150, "each ping by its own dice");
        assert!(keep.has_served() && !keep.has_failed());
    }

    #[test]
    fn a_pong_that_does_not_come_in_ten_seconds_is_a_failure() {
        let mut keep = KeepAlive::new(Transport::Tls, [3; 32]);
        keep.told(&registered("Require: outbound\r\n"), at(0));
        let (_, sent) = ping(&mut keep);
        keep.expire(sent + Duration::from_millis(9_999));
        assert!(!keep.has_failed());
        keep.expire(sent + Duration::from_secs(10));
        assert!(keep.has_failed() && !keep.has_served());
    }

    #[test]
    fn stun_is_asked_seven_times_and_the_address_must_stay() {
        let mut keep = KeepAlive::new(Transport::Udp, [4; 32]);
        keep.told(&registered("Require: outbound\r\n"), at(0));
        let (first, sent) = ping(&mut keep);
        let here = "192.0.2.1:5060".parse().expect("an address");
        keep.stun(&stun::answer(&stun::request(&[7; 12]), here).expect("an answer"), sent);
        assert!(!keep.has_served(), "the answer to another request");
        keep.stun(&stun::answer(&first, here).expect("an answer"), sent);
        assert!(keep.has_served());
        let (second, sent) = ping(&mut keep);
        assert_ne!(first, second, "each has a transaction of its own");
        let mut times = vec![sent];
        while !keep.has_failed() {
            let due = keep.poll_timeout().expect("an end");
            keep.expire(due);
            if let Some(again) = keep.poll_output() {
                assert_eq!(again, second, "asked again with the same octets");
                times.push(due);
            } else {
                assert_eq!(due.since(sent), Duration::from_millis(39_500));
            }
        }
        assert_eq!(times.len(), 7);
        let elsewhere = "192.0.2.1:5061".parse().expect("an address");
        let mut moved = KeepAlive::new(Transport::Udp, [5; 32]);
        moved.told(&registered("Require: outbound\r\n"), at(0));
        for (address, failed) in [(here, false), (here, false), (elsewhere, true)] {
            let (asked, sent) = ping(&mut moved);
            moved.stun(&stun::answer(&asked, address).expect("an answer"), sent);
            assert_eq!(moved.has_failed(), failed, "{address}");
        }
    }

    /// The numbers of RFC 5626 section 4.5.
    #[test]
    fn the_wait_doubles_up_to_half_an_hour() {
        for (others, bounds) in [
            (false, [(30, 60), (60, 120), (120, 240), (240, 480), (480, 960), (900, 1800)]),
            (true, [(90, 180), (180, 360), (360, 720), (720, 1440), (900, 1800), (900, 1800)]),
        ] {
            let mut recovery = Recovery::new([6; 32]);
            for (least, most) in bounds {
                let wait = recovery.failed(others).as_secs();
                assert!((least..=most).contains(&wait), "{wait} is not in {least} to {most}");
            }
            for _ in 0..100 {
                assert!((900..=1800).contains(&recovery.failed(others).as_secs()));
            }
            recovery.served();
            assert!(recovery.failed(others).as_secs() <= bounds[0].1);
        }
    }
}
