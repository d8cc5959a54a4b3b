//! Connections for their own sake: full TLS handshakes one after the other, and flows that stay and say nothing.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::DOMAIN;
use super::backend::Seen;
use super::lab::{self, Plan};
use super::load::{Course, Outcome, Tally};
use super::measure::Meter;
use super::net::Epoll;
use super::stream::{self, Conn, Line as _, Stage};
use super::wire;

/// Visitors at the door of one anchor.
pub(crate) struct Visitors {
    door: SocketAddrV4,
    tls: Arc<ClientConfig>,
    epoll: Epoll,
    visits: Vec<Option<Visit>>,
    count: u64,
    message: Vec<u8>,
    request: Vec<u8>,
    lost: u64,
}

struct Visit {
    conn: Conn,
    began: Instant,
}

/// How long a visit may take.
const PATIENCE: Duration = Duration::from_secs(120);

impl Visitors {
    pub(crate) fn new(plan: &Plan) -> std::io::Result<Self> {
        let (tls, epoll) = (stream::client(), Epoll::new()?);
        let (visits, message, request) = (Vec::new(), Vec::new(), Vec::new());
        let door = plan.door();
        Ok(Self { door, tls, epoll, visits, count: 0, message, request, lost: 0 })
    }

    /// `at_once` visitors come, shake hands, have OPTIONS answered, go, and come again.
    pub(crate) fn shake_hands(&mut self, at_once: usize, course: Course, meter: &Meter) -> Outcome {
        let began = Instant::now();
        let mut started = None;
        let mut tally = Tally::default();
        self.visits.resize_with(at_once, || None);
        loop {
            let elapsed = began.elapsed();
            if started.is_none() && elapsed >= course.warm {
                started = Some(meter.read());
                (tally, self.lost) = (Tally::default(), 0);
            }
            if elapsed >= course.warm + course.time {
                break;
            }
            for place in 0..at_once {
                if self.visits[place].is_none() {
                    self.come(place);
                }
            }
            for place in self.served(Duration::from_millis(5)) {
                if let Some(mut visit) = self.visits[place].take() {
                    tally.good += 1;
                    tally.at_once += 1;
                    tally.latencies.add(visit.began.elapsed());
                    visit.conn.close();
                }
            }
        }
        let after = meter.read();
        let before = started.unwrap_or(after);
        self.visits.clear();
        tally.failed = self.lost;
        Outcome { before, after, tally, seen: Seen::default(), junk: 0 }
    }

    /// Opens flows until there are `wanted`; each has its handshake and one OPTIONS behind it, and stays.
    pub(crate) fn stay(&mut self, wanted: usize) -> Result<(), String> {
        let began = Instant::now();
        let (mut come, mut settled) = (self.visits.len(), self.visits.len());
        self.visits.resize_with(wanted, || None);
        while settled < wanted {
            while come < wanted && come - settled < 16 {
                self.come(come);
                come += 1;
            }
            settled += self.served(Duration::from_millis(20)).len();
            if self.lost > 0 {
                return Err(format!("{} flows were closed", self.lost));
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("{settled} of {wanted} flows opened"));
            }
        }
        Ok(())
    }

    /// Watches the flows for a while; how many the anchor closed.
    pub(crate) fn linger(&mut self, time: Duration) -> u64 {
        lab::pause(time);
        self.served(Duration::ZERO);
        self.lost
    }

    fn come(&mut self, place: usize) {
        self.count += 1;
        let octet = |value: u64| (value % 250) as u8;
        let (high, low) = (octet(self.count / 250), octet(self.count) + 1);
        let from = Ipv4Addr::new(127, 110 + (self.count / 62_500 % 100) as u8, high, low);
        let tls = Some(&self.tls);
        match Conn::connect(from, self.door, tls, &self.epoll, place as u64) {
            Ok(conn) => self.visits[place] = Some(Visit { conn, began: Instant::now() }),
            Err(_) => self.lost += 1,
        }
    }

    /// Waits for events; the places whose OPTIONS was answered.
    fn served(&mut self, wait: Duration) -> Vec<usize> {
        let mut served = Vec::new();
        for index in 0..self.epoll.wait(wait) {
            let (tag, event) = self.epoll.event(index);
            let place = tag as usize;
            let Some(visit) = &mut self.visits[place] else { continue };
            let before = visit.conn.stage();
            let mut alive = visit.conn.handle(event, &self.epoll);
            if before != Stage::Open && visit.conn.stage() == Stage::Open {
                self.request.clear();
                if let Some(local) = visit.conn.local() {
                    put_options(&mut self.request, local, self.count);
                }
                alive &= visit.conn.send(&self.request, &self.epoll);
            }
            if visit.conn.take_message(&mut self.message)
                && wire::status(&self.message) == Some(200)
            {
                served.push(place);
            } else if !alive {
                self.lost += 1;
                self.visits[place] = None;
            }
        }
        served
    }
}

fn put_options(out: &mut Vec<u8>, local: SocketAddrV4, count: u64) {
    let _never_fails = write!(
        out,
        "OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/TLS {local};rport;branch=z9hG4bK-v{count}\r\n\
        Max-Forwards: 70\r\nFrom: <sip:v{count}@{DOMAIN}>;tag=v{count}\r\nTo: <sip:{DOMAIN}>\r\n\
        Call-ID: v{count}@{local}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
}
