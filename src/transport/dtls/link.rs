//! Stage 1, DTLS link: the connection without a socket that `webrtc-dtls` runs on.
//!
//! Takes:   datagrams, messages and keys, from the engine; datagrams and events, from the library.
//! Gives:   each to the other, and a call of the session's waker when the library has something.
//! Keeps:   [`QUEUE`] datagrams and messages each way; what the handshake proved, until it is asked for.
//! Refuses: what is over the bound, as a network would; a certificate that the verifier does not find good.
//! Sources: none.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use webrtc_util::Conn;
use zeroize::Zeroizing;

use super::engine::Event;
use super::keys::Half;

/// Most datagrams and most messages that wait, each way.
pub(super) const QUEUE: usize = 64;

/// A connection without a socket.
pub(super) struct Link {
    state: Mutex<Queues>,
    /// The session's own.
    pub(super) waker: Waker,
}

/// What waits on either side of it.
#[derive(Default)]
pub(super) struct Queues {
    pub(super) inbound: VecDeque<Vec<u8>>,
    pub(super) outbound: VecDeque<Bytes>,
    pub(super) events: VecDeque<Event>,
    pub(super) to_send: VecDeque<Bytes>,
    pub(super) closing: bool,
    pub(super) key: Option<Zeroizing<Vec<u8>>>,
    pub(super) guard: Option<Half>,
    /// The suite that the server chose, for a client.
    pub(super) suite: Option<u16>,
    /// The peer's chain, once it was found good.
    pub(super) judged: Option<Vec<CertificateDer<'static>>>,
    /// The library's reader, and the one who waits for something to do.
    pub(super) reader: Option<Waker>,
    worker: Option<Waker>,
}

impl Link {
    pub(super) fn new(waker: Waker) -> Self {
        Self { state: Mutex::default(), waker }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queues> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, event: Event) {
        let mut state = self.lock();
        if state.events.len() < QUEUE || !matches!(event, Event::Data(_)) {
            state.events.push_back(event);
        }
        drop(state);
        self.waker.wake_by_ref();
    }

    /// Remembers `chain`, if it is good.
    pub(super) fn judge(
        &self,
        chain: &[Vec<u8>],
        is_good: impl FnOnce(&CertificateDer<'_>, &[CertificateDer<'_>]) -> bool,
    ) -> Result<(), webrtc_dtls::Error> {
        let chain: Vec<CertificateDer<'static>> =
            chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        if !chain.split_first().is_some_and(|(own, issuers)| is_good(own, issuers)) {
            return Err(webrtc_dtls::Error::Other("the certificate is not good".into()));
        }
        self.lock().judged = Some(chain);
        Ok(())
    }

    pub(super) async fn key_for(&self, identity: Bytes, suite: u16) -> Vec<u8> {
        self.tell(Event::WantsKey { identity, suite });
        self.until(|state| state.key.take()).await.to_vec()
    }

    /// Waits until there is something to take.
    pub(super) async fn until<T>(&self, mut take: impl FnMut(&mut Queues) -> Option<T>) -> T {
        poll_fn(|context| {
            let mut state = self.lock();
            match take(&mut state) {
                Some(taken) => Poll::Ready(taken),
                None => {
                    state.worker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    pub(super) fn wake_worker(&self, mut state: MutexGuard<'_, Queues>) {
        let worker = state.worker.take();
        drop(state);
        if let Some(worker) = worker {
            worker.wake();
        }
    }
}

type Outcome<T> = Result<T, webrtc_util::Error>;

#[async_trait]
impl Conn for Link {
    async fn connect(&self, _: SocketAddr) -> Outcome<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported).into())
    }

    async fn recv(&self, room: &mut [u8]) -> Outcome<usize> {
        let datagram = poll_fn(|context| {
            let mut state = self.lock();
            match state.inbound.pop_front() {
                Some(datagram) => Poll::Ready(datagram),
                None => {
                    state.reader = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        let length = datagram.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..length), datagram.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }

    async fn recv_from(&self, room: &mut [u8]) -> Outcome<(usize, SocketAddr)> {
        Ok((self.recv(room).await?, nowhere()))
    }

    async fn send(&self, octets: &[u8]) -> Outcome<usize> {
        let mut state = self.lock();
        if state.outbound.len() < QUEUE {
            state.outbound.push_back(Bytes::copy_from_slice(octets));
        }
        drop(state);
        self.waker.wake_by_ref();
        Ok(octets.len())
    }

    async fn send_to(&self, octets: &[u8], _: SocketAddr) -> Outcome<usize> {
        self.send(octets).await
    }

    fn local_addr(&self) -> Outcome<SocketAddr> {
        Ok(nowhere())
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        Some(nowhere())
    }

    async fn close(&self) -> Outcome<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

fn nowhere() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}
