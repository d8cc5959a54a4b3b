//! Stage 1, DTLS engines: the seam between sessions and the libraries that speak DTLS.
//!
//! Takes:   one datagram, one key, one message or the time at a call.
//! Gives:   datagrams to send, when to call again, [`Event`]s: to be polled after each call until there is no more.
//! Keeps:   what one library keeps for one handshake and its session.
//! Refuses: by [`Ended`]; whatever cannot be authenticated is dropped without a word.
//! Sources: RFC 6347; style of machines as everywhere in this crate.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;

use super::hello::Hello;
use crate::authentication::tls_identity::CertificateNames;
use crate::instant::Instant;

/// Longest message that fits one record, in octets.
pub const MESSAGE_MAX: usize = 16_384;
/// Octets of a datagram that a handshake keeps to (`DT-06`).
pub const MTU: usize = 1200;

/// One end of one session, from its first hello on.
///
/// An implementation that errs says that a peer is somebody whom it did not prove to be; or lets a datagram that
/// anybody can forge end the session.
pub trait DtlsEngine: Send {
    /// A datagram that came from the peer's address.
    fn input(&mut self, datagram: &[u8], now: Instant);

    /// Time has passed, or the waker was called that the engine was made with.
    fn turn(&mut self, now: Instant);

    /// When [`DtlsEngine::turn`] is due.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The next datagram to send.
    fn poll_transmit(&mut self) -> Option<Bytes>;

    /// The next thing that happened.
    fn poll_event(&mut self) -> Option<Event>;

    /// The peer repeated a part of its handshake, though that is over here: it may have missed the end.
    fn repeat(&mut self, now: Instant);

    /// The key that [`Event::WantsKey`] asked for. For an identity that nobody has, one that nobody knows.
    fn key(&mut self, key: &[u8], now: Instant);

    /// Sends a message: one record in one datagram.
    ///
    /// # Errors
    ///
    /// [`Unsent`].
    fn send(&mut self, message: &[u8], now: Instant) -> Result<(), Unsent>;

    /// Says good-bye to the peer; whether it is said. If not, it is once the engine is called by its waker, and then
    /// [`Event::Closed`] comes.
    fn close(&mut self, now: Instant) -> bool;
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake waits for a key.
    WantsKey {
        /// The identity that the peer named, as it stands in the handshake.
        identity: Bytes,
        /// The suite that the key is for.
        suite: u16,
    },
    /// The handshake is over.
    Established(Proof),
    /// A message came.
    Data(Bytes),
    /// It is over.
    Closed(Ended),
}

/// What a handshake proved of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: it showed no certificate.
    Nothing,
    /// That it has the key of this identity.
    Psk(Bytes),
    /// That it has the key of a certificate that we trust.
    Certificate(Box<Shown>),
}

/// A chain that a peer showed, found good, and that it has the key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The names in the peer's own certificate.
    pub names: CertificateNames,
    /// The chain, the peer's own certificate first.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The peer said good-bye.
    Peer,
    /// The handshake failed.
    Failed,
    /// So many records were sent or received that the next ones might not be safe.
    Worn,
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unsent {
    /// There is no session, or none any more.
    Gone,
    /// Over [`MESSAGE_MAX`].
    TooLong,
    /// Too many messages wait.
    Full,
}

/// Who makes engines for clients of one listener.
pub trait Engines: Send + Sync {
    /// An engine for the client that said `hello`; `None` if nothing that it offers is taken here.
    ///
    /// `waker` is to be called when there is something to poll though nothing was called.
    fn begin(&self, hello: &Hello<'_>, waker: Waker) -> Option<Box<dyn DtlsEngine>>;

    /// Whether engines send cookies themselves, so that one has to be made for a hello without a cookie.
    fn make_cookies(&self) -> bool;
}
