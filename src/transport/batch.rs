//! Stage 1, batches: many datagrams for one call of the system.
//!
//! Takes:   a socket that is ready; datagrams to send.
//! Gives:   each datagram with its sender, in the order of arrival; which ones could not be sent.
//! Keeps:   room for [`BATCH`] datagrams of the longest kind, of which the system maps only what was used;
//!          datagrams on their way out, at most [`WAITING_MAX`] and [`WAITING_OCTETS`].
//! Refuses: to queue beyond these bounds.
//! Sources: `TR-14`, `TR-17`.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use bytes::Bytes;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use smallvec::SmallVec;
use tokio::io::unix::AsyncFdReadyGuard;

/// Datagrams of one call.
pub(super) const BATCH: usize = 64;
/// Most datagrams that wait for the system to take them.
pub const WAITING_MAX: usize = 256;
/// Most octets that wait.
pub const WAITING_OCTETS: usize = 1024 * 1024;
/// The longest datagram there can be, and a little: rooms of a power of two would all fall into the same lines of
/// the processor's cache.
const ROOM: usize = 65_536 + 19 * 64;

/// Where datagrams are read to.
pub(super) struct Inbox {
    rooms: Vec<u8>,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { rooms: vec![0; BATCH * ROOM], headers: MultiHeaders::preallocate(BATCH, None) }
    }

    /// Reads what is there, one batch at most, and hands each datagram to `each`; how many there were.
    pub(super) fn read(
        &mut self,
        told: &mut AsyncFdReadyGuard<'_, UdpSocket>,
        mut each: impl FnMut(&[u8], SocketAddr),
    ) -> io::Result<usize> {
        let Self { rooms, headers } = self;
        let mut rooms = rooms.chunks_mut(ROOM);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
        let mut count = 0_usize;
        let read = told.try_io(|socket| {
            let (descriptor, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
            for datagram in recvmmsg(descriptor, headers, slices.iter_mut(), flags, None)? {
                count = count.saturating_add(1);
                let octets = datagram.iovs().next().unwrap_or_default();
                if let Some(from) = datagram.address.and_then(address) {
                    each(octets, from);
                }
            }
            // Less than a batch: there was no more, and what comes next makes the socket ready again.
            if count < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        read.unwrap_or(Ok(())).map(|()| count)
    }
}

/// Datagrams on their way out.
pub(super) struct Outbox {
    waiting: VecDeque<(SocketAddr, Bytes)>,
    octets: usize,
    headers: MultiHeaders<SockaddrStorage>,
    /// Where those of the last call went: kept for its room, since it is eight kilooctets.
    to: Vec<Option<SockaddrStorage>>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        let headers = MultiHeaders::preallocate(BATCH, None);
        let (waiting, to) = (VecDeque::with_capacity(BATCH), Vec::with_capacity(BATCH));
        Self { waiting, octets: 0, headers, to }
    }

    /// Queues a datagram; `false` if there is no room.
    pub(super) fn push(&mut self, to: SocketAddr, octets: Bytes) -> bool {
        let sum = self.octets.saturating_add(octets.len());
        if self.waiting.len() >= WAITING_MAX || sum > WAITING_OCTETS {
            return false;
        }
        self.octets = sum;
        self.waiting.push_back((to, octets));
        true
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Sends what waits, as far as the system takes it; `failed` is told whom nothing can be sent to.
    pub(super) fn flush(&mut self, socket: &UdpSocket, mut failed: impl FnMut(SocketAddr)) {
        while !self.waiting.is_empty() {
            match self.send(socket) {
                Ok(sent) => (0..sent).for_each(|_| self.forget_first()),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    if let Some((to, _)) = self.waiting.front() {
                        failed(*to);
                    }
                    self.forget_first();
                }
            }
        }
    }

    /// One call; how many datagrams the system took. An error is that of the first one.
    fn send(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let Self { waiting, headers, to, .. } = self;
        let batch = waiting.iter().take(BATCH);
        let slices: SmallVec<[[IoSlice<'_>; 1]; BATCH]> =
            batch.clone().map(|(_, octets)| [IoSlice::new(octets)]).collect();
        to.clear();
        to.extend(batch.map(|(to, _)| Some(SockaddrStorage::from(*to))));
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = sendmmsg(socket.as_raw_fd(), headers, slices.iter(), &*to, [], flags);
        sent.map(Iterator::count).map_err(io::Error::from)
    }

    fn forget_first(&mut self) {
        if let Some((_, octets)) = self.waiting.pop_front() {
            self.octets = self.octets.saturating_sub(octets.len());
        }
    }
}

fn address(of: SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = of.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    of.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()))
}
