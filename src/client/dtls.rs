//! The UE, DTLS: one session over a socket that knows one peer.
//!
//! Takes:   a connected socket, and what the UE proves itself with.
//! Gives:   [`Line`]: messages out, messages in.
//! Keeps:   one engine.
//! Refuses: a server that does not prove its name, or does not have the key; one that does not answer in 10 s.
//! Sources: RFC 6347; RFC 5922 section 7.3; `DT-06`.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::ue::{UeError, UeSettings};
use crate::clock;
use crate::transport::dtls::engine::{DtlsEngine, Event};
use crate::transport::dtls::webrtc::{self, ClientProof};
use crate::transport::peer::Trust;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the good-bye may take.
const FAREWELL: Duration = Duration::from_millis(200);

/// A session that stands.
pub(crate) struct Line {
    socket: UdpSocket,
    engine: Box<dyn DtlsEngine>,
    bell: Arc<Bell>,
    room: Vec<u8>,
}

/// The library has something to say.
#[derive(Default)]
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

impl Line {
    /// Shakes hands.
    pub(crate) async fn connect(socket: UdpSocket, settings: &UeSettings) -> Result<Self, UeError> {
        let name = settings.edge_name.clone();
        let proof = match (&settings.psk, &settings.trust) {
            (Some(psk), _) => ClientProof::Psk {
                identity: psk.identity.clone(),
                key: psk.key.expose().to_vec().into(),
                name,
            },
            (None, Some(trust)) => ClientProof::Certificate {
                trust: trust.clone(),
                name,
                shows: settings.shows.clone(),
            },
            (None, None) => return Err(UeError::Tls("no trust anchors are given".into())),
        };
        Self::shake(socket, proof).await
    }

    /// Shakes hands with a server that must prove to be `name`.
    pub(crate) async fn with_certificate(
        socket: UdpSocket,
        trust: Trust,
        name: &str,
    ) -> Result<Self, UeError> {
        let proof = ClientProof::Certificate { trust, name: name.to_owned(), shows: None };
        Self::shake(socket, proof).await
    }

    async fn shake(socket: UdpSocket, proof: ClientProof) -> Result<Self, UeError> {
        let bell = Arc::new(Bell::default());
        let engine = webrtc::client(proof, Waker::from(Arc::clone(&bell)));
        let engine = engine.map_err(|why| UeError::Tls(why.to_string()))?;
        let mut line = Self { socket, engine, bell, room: vec![0; 65_536] };
        line.engine.turn(clock::mono());
        let shaken = tokio::time::timeout(HANDSHAKE, line.event()).await;
        match shaken.map_err(|_| UeError::Tls("no handshake in 10 s".into()))? {
            Event::Established(_) => Ok(line),
            _ => Err(UeError::Tls("the handshake failed".into())),
        }
    }

    /// Sends a message; it may be lost, as datagrams may.
    pub(crate) fn send(&mut self, message: &[u8]) {
        let _ = self.engine.send(message, clock::mono());
        self.transmit();
    }

    /// Sends a datagram beside the session, as whoever forges our address would.
    pub(crate) fn inject(&self, datagram: &[u8]) {
        // A full socket loses it, as the way would.
        let _ = self.socket.try_send(datagram);
    }

    /// The next message; `None` once the session is over. It may be asked again after it was not waited for.
    pub(crate) async fn recv(&mut self) -> Option<Bytes> {
        loop {
            match self.event().await {
                Event::Data(octets) => return Some(octets),
                Event::Closed(_) => return None,
                Event::Established(_) | Event::WantsKey { .. } => {}
            }
        }
    }

    /// Says good-bye.
    pub(crate) async fn close(mut self) {
        // Said or not: it is over when the library says so.
        let _ = self.engine.close(clock::mono());
        let over = async { while self.recv().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, over).await;
    }

    async fn event(&mut self) -> Event {
        loop {
            self.transmit();
            if let Some(event) = self.engine.poll_event() {
                return event;
            }
            tokio::select! {
                read = self.socket.recv(&mut self.room) => if let Ok(length) = read {
                    let datagram = self.room.get(..length).unwrap_or_default();
                    self.engine.input(datagram, clock::mono());
                },
                () = self.bell.0.notified() => self.engine.turn(clock::mono()),
            }
        }
    }

    fn transmit(&mut self) {
        while let Some(datagram) = self.engine.poll_transmit() {
            // A full socket loses it, as the way would.
            let _ = self.socket.try_send(&datagram);
        }
    }
}
