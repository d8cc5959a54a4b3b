//! Stage 1, greeting: one port for certificates and for shared keys.
//!
//! Takes:   a connection on which the client speaks first, and what the port has to answer with.
//! Gives:   an encrypted stream, by whichever of the two the ClientHello asks for.
//! Keeps:   the ClientHello, until it has been answered: at most `client_hello`'s bounds and one read more.
//! Refuses: nothing by itself: what is no ClientHello is left to the TLS with certificates, which knows the alert.
//! Sources: RFC 8446 section 4.1.2; RFC 4279 section 2; V-47.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_rustls::server::TlsStream;

use super::client_hello::{Assembler, Choice, ClientHello};
use super::held::Held;
use super::key_desk::KeyDesk;
use super::psk_stream::PskStream;
use super::psk_tls::{PskRefusal, PskServer};
use super::tls::{self, Greeted, ServerTls, TlsRefusal};
use crate::keys::psk::PskProof;

/// A client that was greeted.
pub(crate) enum Greeting<S: AsyncRead + AsyncWrite + Unpin> {
    /// With a certificate.
    Certificate(Box<TlsStream<Held<S>>>, Greeted),
    /// With a shared key, which proved this; and the server name that it asked for.
    Shared(PskStream<S>, PskProof, Option<Arc<str>>),
}

/// Why a client was not.
#[derive(Debug)]
pub(crate) enum Ungreeted {
    Lost(io::ErrorKind),
    Certificate(TlsRefusal),
    Shared(PskRefusal),
}

impl fmt::Display for Ungreeted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(kind) => write!(f, "the connection ended in the handshake: {kind}"),
            Self::Certificate(why) => why.fmt(f),
            Self::Shared(why) => why.fmt(f),
        }
    }
}

/// Reads a client's hello, of which `ahead` came first, and answers it.
///
/// # Errors
///
/// Why the handshake did not end well; the alert was sent where one is due.
pub(crate) async fn greet<S>(
    tls: &ServerTls,
    shared: &PskServer,
    desk: &KeyDesk,
    mut ahead: BytesMut,
    mut io: S,
) -> Result<Greeting<S>, Ungreeted>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut assembler, mut before) = (Assembler::hello(), 0);
    let hello = loop {
        match assembler.push(ahead.get(before..).unwrap_or_default()) {
            Ok(None) => {}
            Ok(Some(body)) => break ClientHello::read(body).ok(),
            Err(_) => break None,
        }
        before = ahead.len();
        ahead.reserve(MORE);
        let read = io.read_buf(&mut ahead).await.map_err(|why| Ungreeted::Lost(why.kind()))?;
        if read == 0 {
            return Err(Ungreeted::Lost(io::ErrorKind::UnexpectedEof));
        }
    };
    let ahead = ahead.freeze();
    let wanted = hello.filter(|hello| hello.choose(shared.suites()) != Choice::Certificate);
    let Some(hello) = wanted else {
        // On the heap: it needs kilooctets, which a handshake with a shared key would carry around.
        let accepted = Box::pin(tls::accept(tls, Held::open(ahead, io))).await;
        let (stream, greeted) = accepted.map_err(Ungreeted::Certificate)?;
        return Ok(Greeting::Certificate(Box::new(stream), greeted));
    };
    let (stream, proof) =
        shared.accept(&hello, ahead, io, desk).await.map_err(Ungreeted::Shared)?;
    Ok(Greeting::Shared(stream, proof, hello.server_name.map(Arc::from)))
}

/// Room for the rest of an unusual hello.
const MORE: usize = 2048;
