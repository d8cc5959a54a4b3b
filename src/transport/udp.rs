//! Stage 1, UDP: one socket of one worker, read and written in batches.
//!
//! Takes:   datagrams as they come; datagrams to send, from this worker.
//! Gives:   what may be SIP to the [`Receiver`](super::stream::Receiver); answers to Binding requests; silence otherwise.
//! Keeps:   what was read and what is to be written, in `batch`.
//! Refuses: to send to multicast, to no address or to port 0, and more than 65 507 octets. What is over the queue's
//!          bound is dropped and counted: datagrams may be lost.
//! Sources: RFC 3261 sections 18.1.1 and 18.3; RFC 5626 section 8; `TR-09`, `TR-12`, `TR-14`, `TR-16`, `KA-02`.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::sync::Notify;

pub use super::batch::{WAITING_MAX, WAITING_OCTETS};

use super::batch::{BATCH, Inbox, Outbox};
use super::demux::{self, Kind};
use super::flows::SendError;
use super::listen::BoundListener;
use super::socket::has_room;
use super::transports::Shop;
use super::{Flow, Transport, stun};
use crate::clock;
use crate::instant::Instant;

/// Most octets of a datagram over IPv4.
pub const DATAGRAM_MAX: usize = 65_507;
/// From this size on a datagram is counted as oversize.
const OVERSIZE: usize = 1300;
/// A pause when the socket itself fails, so that a broken one does not spin.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// One socket.
pub(super) struct Port {
    socket: AsyncFd<UdpSocket>,
    pub(super) bound: Arc<BoundListener>,
    outbox: RefCell<Outbox>,
    /// The system took less than there was.
    held_up: Notify,
    /// When this worker had read the first of the full batches between which the socket was not found empty.
    pub(super) behind_since: Cell<Option<Instant>>,
}

impl Port {
    pub(super) fn new(socket: AsyncFd<UdpSocket>, bound: Arc<BoundListener>) -> Self {
        Self {
            socket,
            bound,
            outbox: RefCell::new(Outbox::new()),
            held_up: Notify::new(),
            behind_since: Cell::new(None),
        }
    }

    /// Queues one datagram, which goes out with the next [`Port::flush`].
    pub(super) fn send(&self, shop: &Shop, to: SocketAddr, octets: Bytes) -> Result<(), SendError> {
        let tally = shop.flows.tally();
        let sent = if octets.len() > DATAGRAM_MAX {
            Err(SendError::TooLong)
        } else if !is_host(to) {
            Err(SendError::Unreachable)
        } else {
            if octets.len() > OVERSIZE {
                tally.oversize.add(1);
            }
            if self.outbox.borrow_mut().push(to, octets) {
                return Ok(());
            }
            Err(SendError::Overflow)
        };
        tally.unsent.add(1);
        sent
    }

    /// Whether so much waits that it should go out before more is handled.
    pub(super) fn is_full(&self) -> bool {
        self.outbox.borrow().len() >= FLUSH_AT
    }

    /// Writes what waits, as far as the system takes it; `failed` is told of each flow on which nothing goes.
    pub(super) fn flush(&self, shop: &Shop, mut failed: impl FnMut(Flow)) {
        let mut outbox = self.outbox.borrow_mut();
        outbox.flush(self.socket.get_ref(), |to| {
            shop.flows.tally().unsent.add(1);
            failed(self.flow(to));
        });
        if outbox.len() > 0 {
            self.held_up.notify_one();
        }
    }

    fn flow(&self, remote: SocketAddr) -> Flow {
        let listener = self.bound.spec.id;
        Flow { transport: Transport::Udp, listener, remote, connection: None }
    }

    /// Serves the socket until its worker ends.
    pub(super) async fn serve(self: Rc<Self>, shop: Rc<Shop>) {
        let mut inbox = Inbox::new();
        let mut held_up = false;
        loop {
            tokio::select! {
                told = self.socket.readable() => {
                    let read = told.and_then(|told| self.receive(&shop, &mut inbox, told));
                    if read.is_err_and(|why| why.kind() != io::ErrorKind::WouldBlock) {
                        tokio::time::sleep(AFTER_FAILURE).await;
                    }
                    if self.behind_since.get().is_some() {
                        // There is more: others first. Else the runtime waits for what comes, and to yield would have it
                        // ask the system once for nothing.
                        tokio::task::yield_now().await;
                    }
                }
                () = has_room(&self.socket), if held_up => {
                    held_up = false;
                    shop.receiver.turn();
                }
                () = self.held_up.notified() => held_up = true,
            }
        }
    }

    /// Reads one batch.
    fn receive(
        &self,
        shop: &Shop,
        inbox: &mut Inbox,
        mut told: AsyncFdReadyGuard<'_, UdpSocket>,
    ) -> io::Result<()> {
        let read = inbox.read(&mut told, |octets, from| {
            let handled = catch_unwind(AssertUnwindSafe(|| self.handle(shop, octets, from)));
            if handled.is_err() {
                shop.flows.tally().panicked.add(1);
            }
        });
        let full = matches!(read, Ok(BATCH));
        self.behind_since.set(full.then(|| self.behind_since.get().unwrap_or_else(clock::mono)));
        let count = read?;
        shop.flows.tally().datagrams.add(count as u64);
        shop.receiver.turn();
        Ok(())
    }

    fn handle(&self, shop: &Shop, octets: &[u8], from: SocketAddr) {
        let tally = shop.flows.tally();
        if !is_host(from) {
            // Nobody whom an answer could reach.
            return tally.noise.add(1);
        }
        match demux::datagram(octets) {
            Kind::Sip => {
                let octets = Bytes::copy_from_slice(octets);
                shop.receiver.datagram(self.flow(from), self.bound.local, octets);
            }
            Kind::Stun => match stun::answer(octets, from) {
                Some(answer) if shop.may_answer(from) => {
                    tally.stun_answered.add(1);
                    // Counted if it fails; whoever asked will ask again.
                    let _ = self.send(shop, from, answer);
                    shop.receiver.pinged(&self.flow(from));
                }
                _ => tally.stun_dropped.add(1),
            },
            Kind::Dtls | Kind::Drop(_) => tally.noise.add(1),
        }
    }
}

/// Datagrams that may wait for the end of a turn.
const FLUSH_AT: usize = WAITING_MAX / 2;

/// Whether a datagram may be sent there.
pub(super) fn is_host(address: SocketAddr) -> bool {
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
