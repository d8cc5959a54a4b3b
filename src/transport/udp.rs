//! Stage 1, UDP: one socket of one worker, read and written in batches.
//!
//! Takes:   datagrams as they come; datagrams to send, from this worker.
//! Gives:   what may be SIP to the [`Receiver`](super::stream::Receiver); answers to Binding requests; silence otherwise.
//! Keeps:   datagrams that the system would not take at once, at most 256 of them and 1 MiB.
//! Refuses: to send to multicast, to no address or to port 0, and more than 65 507 octets. What is over the queue's
//!          bound is dropped and counted: datagrams may be lost.
//! Sources: RFC 3261 sections 18.1.1 and 18.3; RFC 5626 section 8; `TR-09`, `TR-12`, `TR-14`, `TR-16`, `KA-02`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::demux::{self, Kind};
use super::flows::SendError;
use super::listen::Bound;
use super::transports::Shop;
use super::{Flow, Transport, stun};

/// Most datagrams that wait for the system to take them.
pub const WAITING_MAX: usize = 256;
/// Most octets that wait.
pub const WAITING_OCTETS: usize = 1024 * 1024;
/// Most octets of a datagram over IPv4.
pub const DATAGRAM_MAX: usize = 65_507;
/// Datagrams read before other tasks of the worker get their turn.
const BATCH: usize = 32;
/// From this size on a datagram is counted as oversize.
const OVERSIZE: usize = 1300;
/// A pause when the socket itself fails, so that a broken one does not spin.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// One socket.
#[derive(Debug)]
pub(super) struct Port {
    socket: UdpSocket,
    pub(super) bound: Arc<Bound>,
    waiting: RefCell<VecDeque<(SocketAddr, Bytes)>>,
    waiting_octets: Cell<usize>,
    woken: Notify,
}

impl Port {
    pub(super) fn new(socket: UdpSocket, bound: Arc<Bound>) -> Self {
        Self {
            socket,
            bound,
            waiting: RefCell::default(),
            waiting_octets: Cell::new(0),
            woken: Notify::new(),
        }
    }

    /// Sends one datagram, or queues it if the system takes none now.
    pub(super) fn send(&self, shop: &Shop, to: SocketAddr, octets: Bytes) -> Result<(), SendError> {
        let tally = shop.flows.tally();
        if octets.len() > DATAGRAM_MAX {
            tally.unsent.add(1);
            return Err(SendError::TooLong);
        }
        if !is_host(to) {
            tally.unsent.add(1);
            return Err(SendError::Unreachable);
        }
        if octets.len() > OVERSIZE {
            tally.oversize.add(1);
        }
        if self.waiting.borrow().is_empty() {
            match self.socket.try_send_to(&octets, to) {
                Ok(_) => return Ok(()),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    tally.unsent.add(1);
                    return Err(SendError::Unreachable);
                }
            }
        }
        self.queue(to, octets).inspect_err(|_| tally.unsent.add(1))
    }

    fn queue(&self, to: SocketAddr, octets: Bytes) -> Result<(), SendError> {
        let mut waiting = self.waiting.borrow_mut();
        let sum = self.waiting_octets.get().saturating_add(octets.len());
        if waiting.len() >= WAITING_MAX || sum > WAITING_OCTETS {
            return Err(SendError::Overflow);
        }
        self.waiting_octets.set(sum);
        waiting.push_back((to, octets));
        self.woken.notify_one();
        Ok(())
    }

    /// Writes what waits, as far as the system takes it.
    fn flush(&self, shop: &Shop) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some((to, octets)) = waiting.front() {
            match self.socket.try_send_to(octets, *to) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => shop.flows.tally().unsent.add(1),
                Ok(_) => {}
            }
            let left = self.waiting_octets.get().saturating_sub(octets.len());
            self.waiting_octets.set(left);
            waiting.pop_front();
        }
    }

    /// Serves the socket until its worker ends.
    pub(super) async fn serve(self: Rc<Self>, shop: Rc<Shop>) {
        let mut room = vec![0; 65_536];
        loop {
            let queued = !self.waiting.borrow().is_empty();
            tokio::select! {
                ready = self.socket.readable() => {
                    if ready.is_err() || self.receive(&shop, &mut room).is_err() {
                        tokio::time::sleep(AFTER_FAILURE).await;
                    }
                    tokio::task::yield_now().await;
                }
                _ = self.socket.writable(), if queued => self.flush(&shop),
                () = self.woken.notified() => {}
            }
        }
    }

    /// Reads one batch.
    fn receive(&self, shop: &Shop, room: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            let (length, from) = match self.socket.try_recv_from(room) {
                Ok(read) => read,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(why) => return Err(why),
            };
            let octets = room.get(..length).unwrap_or_default();
            let handled = catch_unwind(AssertUnwindSafe(|| self.handle(shop, octets, from)));
            if handled.is_err() {
                shop.flows.tally().panicked.add(1);
            }
        }
        Ok(())
    }

    fn handle(&self, shop: &Shop, octets: &[u8], from: SocketAddr) {
        let tally = shop.flows.tally();
        tally.datagrams.add(1);
        match demux::datagram(octets) {
            Kind::Sip => {
                let flow = Flow {
                    transport: Transport::Udp,
                    listener: self.bound.spec.id,
                    remote: from,
                    connection: None,
                };
                let octets = Bytes::copy_from_slice(octets);
                shop.receiver.datagram(flow, self.bound.local, octets);
            }
            Kind::Stun => match stun::answer(octets, from) {
                Some(answer) if shop.may_answer(from) => {
                    tally.stun_answered.add(1);
                    // Counted if it fails; whoever asked will ask again.
                    let _ = self.send(shop, from, answer);
                }
                _ => tally.stun_dropped.add(1),
            },
            Kind::Dtls | Kind::Drop(_) => tally.noise.add(1),
        }
    }
}

/// Whether a datagram may be sent there.
fn is_host(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_multicast() && !ip.is_unspecified() && !broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_are_sent_to() {
        for (address, host) in [
            ("192.0.2.1:5060", true),
            ("[2001:db8::1]:5060", true),
            ("192.0.2.1:0", false),
            ("0.0.0.0:5060", false),
            ("224.0.1.75:5060", false),
            ("255.255.255.255:5060", false),
            ("[ff02::1]:5060", false),
            ("[::]:5060", false),
            ("[::ffff:224.0.1.75]:5060", false),
        ] {
            assert_eq!(is_host(address.parse().unwrap()), host, "{address}");
        }
    }
}
