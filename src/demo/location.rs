//! The demonstration's location service: whoever may ask is told where the van is.
//!
//! 1. A connection of the edge is served, one after the other; its certificate has to be the edge's.
//! 2. SUBSCRIBE is answered 200, and followed by a NOTIFY on the same connection.
//!
//! Takes:   TLS connections with certificates on both ends.
//! Gives:   a location, the same each time.
//! Keeps:   nothing.
//! Refuses: other certificates than the edge's; requests that are no SUBSCRIBE (405).
//! Sources: RFC 3856; RFC 5139 (a civic address in PIDF-LO); RFC 5922 section 7.4; RFC 6665 section 4.2.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::cast::{EDGE, LOCATION, LOOPBACK};
use crate::client::draft::{Dialog, Voice};
use crate::clock;
use crate::transport::tls::{self, ServerTls};
use crate::wire::frame::{Framed, Framer};
use crate::wire::message::MESSAGE_MAX;
use crate::wire::{Message, Method, Name, Reply};

/// Where the van is.
const WHEREABOUTS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
    <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:gp=\"urn:ietf:params:xml:ns:pidf:geopriv10\" \
    xmlns:ca=\"urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr\" entity=\"pres:van7@location.example.net\">\
    <tuple id=\"v\"><status><gp:geopriv><gp:location-info><ca:civicAddress><ca:A3>Harbour</ca:A3>\
    </ca:civicAddress></gp:location-info><gp:usage-rules/></gp:geopriv></status></tuple></presence>\r\n";

/// The service; it runs until its task is dropped.
pub(super) struct LocationService {
    listener: TcpListener,
    tls: Arc<ServerTls>,
    address: SocketAddr,
}

impl LocationService {
    pub(super) async fn bind(tls: Arc<ServerTls>) -> io::Result<Self> {
        let listener = TcpListener::bind((LOOPBACK, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, tls, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn run(self) {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else { continue };
            self.serve(stream).await;
        }
    }

    /// Until the connection ends; what is wrong ends it.
    async fn serve(&self, stream: TcpStream) {
        let Ok((mut stream, greeted)) = tls::accept(&self.tls, stream).await else { return };
        if !greeted.names.is_some_and(|names| names.covers(EDGE)) {
            return;
        }
        let (mut held, mut framer) = (BytesMut::with_capacity(16 * 1024), Framer::new());
        while matches!(stream.read_buf(&mut held).await, Ok(1..)) {
            loop {
                match framer.next(&mut held, MESSAGE_MAX) {
                    Framed::Message(message) if message.is_request() => {
                        if self.answer(&message, &mut stream).await.is_none() {
                            return;
                        }
                    }
                    Framed::Message(_) | Framed::Ping => {}
                    Framed::More => break,
                    Framed::Broken(_) => return,
                }
            }
        }
    }

    async fn answer<S>(&self, message: &Message, stream: &mut S) -> Option<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let status = match message.method() {
            Some(Method::Ack) => return Some(()),
            Some(Method::Subscribe) => 200,
            _ => 405,
        };
        let tag = format!("v{:016x}", u64::from_be_bytes(clock::random()));
        let expires = message.expires().unwrap_or(600);
        let mut reply = Reply::to(message, status).to_tag(tag.as_bytes());
        for route in message.values(Name::RecordRoute) {
            reply = reply.field("Record-Route", |value| {
                value.put_unfolded(route);
            });
        }
        let contact = self.contact();
        let reply = reply
            .field("Contact", |value| {
                value.put("<").put(&contact).put(">");
            })
            .field("Expires", |value| {
                value.put_number(u64::from(expires));
            });
        stream.write_all(&reply.octets()?).await.ok()?;
        if status == 200 {
            stream.write_all(&self.news(message, &tag, expires)?).await.ok()?;
        }
        stream.flush().await.ok()
    }

    /// The NOTIFY that a SUBSCRIBE is due.
    fn news(&self, subscribe: &Message, tag: &str, expires: u32) -> Option<bytes::Bytes> {
        let state = match expires {
            0 => "terminated;reason=timeout".to_owned(),
            _ => format!("active;expires={expires}"),
        };
        let draft = Dialog::answered(subscribe, tag)
            .draft("NOTIFY")
            .with("Event", "presence")
            .with("Subscription-State", state)
            .body("application/pidf+xml", WHEREABOUTS);
        let to = subscribe.to().map(|to| to.uri().octets().to_vec()).unwrap_or_default();
        let voice = Voice {
            identity: String::from_utf8_lossy(&to).into_owned(),
            via: format!("SIP/2.0/TLS {}", self.address),
            contact: self.contact(),
            agent: "location".into(),
        };
        let branch = format!("z9hG4bK{:032x}", u128::from_be_bytes(clock::random()));
        draft.print(&voice, &branch, None)
    }

    fn contact(&self) -> String {
        format!("sip:{LOCATION}:{};transport=tls", self.address.port())
    }
}
