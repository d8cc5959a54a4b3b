//! Stage 1, PSK-TLS 1.3: handshakes with a shared key that the hello names, by s2n-tls, as a server.
//!
//! Takes:   a connection whose ClientHello was read, and a [`KeyDesk`].
//! Gives:   an encrypted stream, and what its key proved.
//! Keeps:   what the library is set to.
//! Refuses: TLS 1.2, keys without Diffie-Hellman, early data, other protocols than SIP, an identity whose key is not
//!          known, by a key that nobody has. There are no tickets.
//! Sources: RFC 8446 sections 4.2.9, 4.2.11, 5 and 6.2; RFC 7301 section 3.2; RFC 9257 section 6; V-47, V-48.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use s2n_tls::config::{Builder, Config};
use s2n_tls::connection::{Connection, ModifiedBuilder};
use s2n_tls::enums::{PskHmac, Version};
use s2n_tls::error::Error;
use s2n_tls::psk::Psk as Shared;
use s2n_tls::security::Policy;
use s2n_tls_tokio::{TlsAcceptor, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::client_hello::{ALPN_SIP, ClientHello};
use super::held::Held;
use super::key_desk::KeyDesk;
use super::psk_stream::PskStream;
use super::psk_tls::PskRefusal;
use crate::keys::psk::{Psk, PskProof, PskUse};

/// Suites and groups, by a number whose meaning stays: AES-GCM and ChaCha20; X25519 and the curves of NIST.
const POLICY: &str = "20240503";
/// The type of a record that holds one.
const ALERT: u8 = 21;
/// Level and number of a good-bye.
const CLOSE_NOTIFY: [u8; 2] = [1, 0];
/// Alerts for a hello that cannot be answered.
const HANDSHAKE_FAILURE: u8 = 40;
const DECRYPT_ERROR: u8 = 51;
const NO_APPLICATION_PROTOCOL: u8 = 120;
/// Octets of an answer that are gathered; a usual one has 225.
const SAID_MAX: usize = 4096;
/// What the library calls an identity whose key is another.
const OTHER_KEY: &str = "S2N_ERR_BAD_PSK_BINDER";

/// Handshakes of TLS 1.3 with shared keys, as a server.
pub(super) struct Psk13Server(Config);

impl Psk13Server {
    /// # Errors
    ///
    /// What the library says.
    pub(super) fn new() -> Result<Self, PskRefusal> {
        let mut config = Builder::new();
        config.set_security_policy(&Policy::from_version(POLICY)?)?;
        config.set_application_protocol_preference([ALPN_SIP])?;
        // The pause after an error hides how long a padding of CBC took; TLS 1.3 has none.
        config.set_max_blinding_delay(0)?;
        Ok(Self(config.build()?))
    }

    /// Shakes hands with a client that said `hello`, which `held` has yet to give.
    ///
    /// # Errors
    ///
    /// [`PskRefusal`]; the alert was sent where one is due.
    pub(super) async fn accept<S>(
        &self,
        hello: &ClientHello,
        mut held: Held<S>,
        desk: &KeyDesk,
    ) -> Result<(PskStream<S>, PskProof), PskRefusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if hello.is_no_sip {
            // The library would go on without a protocol.
            alert(&mut held, NO_APPLICATION_PROTOCOL).await;
            return Err(PskRefusal::Failed("another protocol by ALPN".into()));
        }
        let (identity, psk) = known_of(hello, desk).await.ok_or(PskRefusal::NotChosen)?;
        let shared = shared(identity, &psk)?;
        let builder = ModifiedBuilder::new(self.0.clone(), |connection: &mut Connection| {
            connection.append_psk(&shared)?;
            // One read for what came, in place of one for each header and one for each body.
            connection.set_receive_buffering(true)
        });
        let mut shaking = Shaking::over(&mut held);
        let shaken = TlsAcceptor::new(builder).accept(&mut shaking).await;
        let shaken = shaken.map(|stream| stream.into_parts().0);
        // Whoever is gone misses it.
        let _ = shaking.flush().await;
        let is_answered = shaking.is_answered;
        let connection = match shaken {
            Ok(connection) => connection,
            Err(why) => {
                // The library says good-bye, and not why.
                if !is_answered {
                    let is_other_key = why.name() == OTHER_KEY;
                    let said = if is_other_key { DECRYPT_ERROR } else { HANDSHAKE_FAILURE };
                    alert(&mut held, said).await;
                }
                return Err(why.into());
            }
        };
        let proof = psk.proof.ok_or(PskRefusal::Nobody)?;
        if !is_as_chosen(&connection, identity)? {
            return Err(PskRefusal::NotChosen);
        }
        Ok((PskStream::Tls13(Box::new(TlsStream::from_parts(connection, held))), proof))
    }
}

/// A connection in the handshake: what the library says in one go is sent in one. Where a hello cannot be answered, its
/// good-bye is left out, and the connection stays open for the alert.
struct Shaking<'a, S> {
    io: &'a mut Held<S>,
    /// What has yet to be sent, not much more than [`SAID_MAX`].
    said: Vec<u8>,
    /// Whether there was an answer.
    is_answered: bool,
}

impl<'a, S: AsyncWrite + Unpin> Shaking<'a, S> {
    fn over(io: &'a mut Held<S>) -> Self {
        Self { io, said: Vec::new(), is_answered: false }
    }

    /// Sends what was said.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.said.is_empty() {
            match ready!(Pin::new(&mut *self.io).poll_write(context, &self.said))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => drop(self.said.drain(..sent)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Shaking<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever waits for an answer has said all.
        ready!(self.poll_send(context))?;
        Pin::new(&mut *self.io).poll_read(context, room)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Shaking<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_answered && octets.first() == Some(&ALERT) && octets.ends_with(&CLOSE_NOTIFY) {
            return Poll::Ready(Ok(octets.len()));
        }
        self.is_answered = true;
        if self.said.len() >= SAID_MAX {
            ready!(self.poll_send(context))?;
        }
        self.said.extend_from_slice(octets);
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut *self.io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Says why a hello is not answered, in the clear. Source: RFC 8446 section 6.2.
async fn alert(io: &mut (impl AsyncWrite + Unpin), said: u8) {
    // Whoever is gone misses it.
    let _ = io.write_all(&[ALERT, 3, 3, 0, 2, 2, said]).await;
}

/// The first identity that somebody has, else the first.
async fn known_of<'a>(hello: &'a ClientHello, desk: &KeyDesk) -> Option<(&'a [u8], Psk)> {
    let mut first = None;
    for identity in &hello.identities {
        let psk = desk.psk(identity, hello.server_name.as_deref(), PskUse::Tls13).await;
        let is_known = psk.proof.is_some();
        let found = (&**identity, psk);
        if is_known {
            return Some(found);
        }
        first.get_or_insert(found);
    }
    first
}

/// A shared key goes with the hash of its suite, and none of ours has another.
fn shared(identity: &[u8], psk: &Psk) -> Result<Shared, Error> {
    let mut shared = Shared::builder()?;
    shared.set_identity(identity)?;
    shared.set_secret(psk.key.expose())?;
    shared.set_hmac(PskHmac::SHA256)?;
    shared.build()
}

/// Whether the handshake was made with that key.
fn is_as_chosen(connection: &Connection, identity: &[u8]) -> Result<bool, Error> {
    let mut by = vec![0; connection.negotiated_psk_identity_length()?];
    connection.negotiated_psk_identity(&mut by)?;
    Ok(by == identity && connection.actual_protocol_version()? == Version::TLS13)
}

impl From<Error> for PskRefusal {
    fn from(why: Error) -> Self {
        Self::Failed(why.to_string())
    }
}
