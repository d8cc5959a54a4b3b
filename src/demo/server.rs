//! The small SIP server behind the edge in demonstrations and tests: registrar, router, echo.
//!
//! 1. REGISTER is answered 200; Contact and Path are kept for the address of record.
//! 2. A request for a registered address goes there, by its Path; this server record-routes INVITE and SUBSCRIBE.
//! 3. `echo@` answers calls itself, answers a MESSAGE and sends the text back, answers SUBSCRIBE with a NOTIFY.
//! 4. A request inside a dialog follows its Route.
//!
//! Takes:   UDP datagrams from the edge, which it trusts for P-Asserted-Identity, and from nobody else.
//! Gives:   a laboratory's core; counts of what arrived, for people and tests.
//! Keeps:   at most 10 000 registrations; a seen request for 32 s; no transactions, so it is no product.
//! Refuses: addresses of record that nobody registered (404); whatever does not come from the edge.
//! Sources: RFC 3261 sections 10.3 and 16; RFC 3327 section 5.3; RFC 3428; RFC 6665.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;

use crate::admission::Recent;
use crate::clock;
use crate::wire::{Address, Edits, Message, Method, Name, Reply, Uri, check, split, uri};

const REGISTRATIONS_MAX: usize = 10_000;

/// What arrived, counted.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests.
    pub requests: AtomicU64,
    /// Requests with credentials in them: the edge should have consumed them.
    pub with_credentials: AtomicU64,
    /// Requests but ACK and CANCEL that did not have exactly one P-Asserted-Identity.
    pub not_one_identity: AtomicU64,
    /// Datagrams from elsewhere than the edge.
    pub strangers: AtomicU64,
    registrations: Mutex<HashMap<Vec<u8>, Registration>>,
}

/// Where a registered address is to be found.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Its Contact.
    pub contact: String,
    /// The way there, as Route values.
    pub path: Vec<String>,
}

impl Seen {
    /// Where an address of record is to be found: what servers that the core trusts would ask it.
    pub fn registration(&self, aor: &str) -> Option<Registration> {
        let aor = Uri::parse(aor.as_bytes())?.identity();
        self.registrations().get(&aor).cloned()
    }

    fn registrations(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Registration>> {
        self.registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server; it runs until its task is dropped.
pub struct SmallServer {
    socket: UdpSocket,
    edge: IpAddr,
    answered: Recent<Vec<u8>, Bytes>,
    tags: u64,
    seen: Arc<Seen>,
}

impl std::fmt::Debug for SmallServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmallServer").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl SmallServer {
    /// Binds the server at `address`; it listens to `edge` alone.
    ///
    /// # Errors
    ///
    /// What binding gave.
    pub async fn bind(address: SocketAddr, edge: IpAddr) -> io::Result<Self> {
        Ok(Self {
            socket: UdpSocket::bind(address).await?,
            edge,
            answered: Recent::new(100_000, Duration::from_secs(32)),
            tags: 0,
            seen: Arc::default(),
        })
    }

    /// Its address.
    ///
    /// # Errors
    ///
    /// What the socket gave.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The counts; they go on while it runs.
    pub fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    /// Serves.
    pub async fn run(mut self) {
        let mut buffer = vec![0; 65_536];
        loop {
            let Ok((length, from)) = self.socket.recv_from(&mut buffer).await else { continue };
            if from.ip() != self.edge {
                self.seen.strangers.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let octets = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
            let Ok(message) = Message::from_datagram(octets) else { continue };
            if check::check(&message).is_err() {
                continue;
            }
            if message.is_request() {
                self.count(&message);
                self.request(&message, from).await;
            } else {
                self.response(&message).await;
            }
        }
    }

    fn count(&self, message: &Message) {
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        add(&self.seen.requests);
        let credentials = [Name::Authorization, Name::ProxyAuthorization];
        if credentials.into_iter().any(|name| message.first(name).is_some()) {
            add(&self.seen.with_credentials);
        }
        let unasserted = matches!(message.method(), Some(Method::Ack | Method::Cancel));
        if !unasserted && message.fields_named(Name::PAssertedIdentity).count() != 1 {
            add(&self.seen.not_one_identity);
        }
    }

    async fn request(&mut self, message: &Message, from: SocketAddr) {
        let key = transaction(message);
        let before = self.answered.get(&key, clock::mono(), |octets| octets.clone());
        if let Some(octets) = before.filter(|_| message.method() != Some(Method::Ack)) {
            self.send(&octets, from).await;
            return;
        }
        match message.method() {
            Some(Method::Register) => self.register(message, from).await,
            Some(Method::Options) if message.uri().is_none_or(|uri| uri.user().is_none()) => {
                self.answer(message, from, 200, &[]).await;
            }
            _ if self.is_echo(message) => self.echo(message, from).await,
            Some(Method::Cancel) => {
                self.answer(message, from, 200, &[]).await;
                self.route(message, from).await;
            }
            _ => self.route(message, from).await,
        }
    }

    async fn register(&mut self, message: &Message, from: SocketAddr) {
        let Some(to) = message.to() else { return };
        let aor = to.uri().identity();
        let contact = message.values(Name::Contact).next().and_then(Address::parse);
        let expires = message.expires().unwrap_or(3600);
        let room = self.seen.registrations().len() < REGISTRATIONS_MAX;
        let Some(contact) = contact.filter(|_| room) else {
            return self.answer(message, from, 400, &[]).await;
        };
        let contact = lossy(contact.uri().octets());
        let listed = format!("<{contact}>;expires={expires}");
        if expires == 0 {
            self.seen.registrations().remove(&aor);
            return self.answer(message, from, 200, &[]).await;
        }
        let path: Vec<String> = message.values(Name::Path).map(lossy).collect();
        let mut fields = vec![("Contact", listed)];
        fields.extend(path.iter().map(|path| ("Path", path.clone())));
        self.seen.registrations().insert(aor, Registration { contact, path });
        self.answer(message, from, 200, &fields).await;
    }

    /// Whether the request is for the echo user, or inside a dialog with it.
    fn is_echo(&self, message: &Message) -> bool {
        let user = message.uri().and_then(|uri| uri.user());
        user == Some(b"echo") && !next_hops(message).any(|hop| self.socket_named(&hop).is_none())
    }

    async fn echo(&mut self, message: &Message, from: SocketAddr) {
        let Ok(local) = self.socket.local_addr() else { return };
        let contact = ("Contact", format!("<sip:echo@{local}>"));
        let mut fields: Vec<(&str, String)> =
            message.values(Name::RecordRoute).map(|route| ("Record-Route", lossy(route))).collect();
        fields.push(contact);
        match message.method() {
            Some(Method::Invite) => {
                self.answer(message, from, 180, &fields).await;
                self.answer(message, from, 200, &fields).await;
            }
            Some(Method::Subscribe) => {
                fields.push(("Expires", message.expires().unwrap_or(600).to_string()));
                self.answer(message, from, 200, &fields).await;
                self.notify(message, from).await;
            }
            Some(Method::Message) => {
                self.answer(message, from, 200, &[]).await;
                self.send_back(message).await;
            }
            Some(Method::Ack) => {}
            _ => self.answer(message, from, 200, &[]).await,
        }
    }

    /// The NOTIFY that every SUBSCRIBE is due, by the dialog's route set.
    async fn notify(&mut self, subscribe: &Message, edge: SocketAddr) {
        let Ok(local) = self.socket.local_addr() else { return };
        let target = subscribe.values(Name::Contact).next().and_then(Address::parse);
        let Some(target) = target.map(|contact| lossy(contact.uri().octets())) else { return };
        let routes: String = subscribe
            .values(Name::RecordRoute)
            .map(|route| format!("Route: {}\r\n", lossy(route)))
            .collect();
        let tag = match subscribe.to_tag() {
            b"" => format!(";tag={}", self.tag_for(subscribe)),
            _ => String::new(),
        };
        let number = subscribe.cseq().map_or(1, |cseq| cseq.number);
        let (event, branch) = (lossy(subscribe.event()), self.fresh());
        let over = subscribe.expires() == Some(0);
        let state = if over { "terminated;reason=timeout" } else { "active;expires=600" };
        let body = "online";
        let text = format!(
            "NOTIFY {target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{branch};rport\r\n{routes}\
             Max-Forwards: 70\r\nFrom: {}{tag}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} NOTIFY\r\n\
             Contact: <sip:echo@{local}>\r\nEvent: {event}\r\nSubscription-State: {state}\r\n\
             Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            lossy(subscribe.first(Name::To).unwrap_or_default()),
            lossy(subscribe.first(Name::From).unwrap_or_default()),
            lossy(subscribe.call_id()),
            body.len(),
        );
        self.send(text.as_bytes(), edge).await;
    }

    /// The text of a MESSAGE, back to the one who sent it.
    async fn send_back(&mut self, message: &Message) {
        let Ok(local) = self.socket.local_addr() else { return };
        let Some(from) = message.from() else { return };
        let aor = lossy(from.uri().octets());
        let branch = self.fresh();
        let body = lossy(message.body());
        let text = format!(
            "MESSAGE {aor} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{branch};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:echo@{local}>;tag=e{branch}\r\nTo: <{aor}>\r\nCall-ID: echo-{branch}\r\nCSeq: 1 MESSAGE\r\n\
             Content-Type: text/plain;charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len(),
        );
        if let Ok(own) = Message::from_datagram(Bytes::from(text)) {
            self.route(&own, local).await;
        }
    }

    /// Sends a request on: by its Route, or to the address of record it names.
    async fn route(&mut self, message: &Message, from: SocketAddr) {
        let Ok(local) = self.socket.local_addr() else { return };
        let mut edits = Edits::new();
        let (mut hops, mut skipped) = (Vec::new(), 0);
        for hop in next_hops(message) {
            if hops.is_empty() && self.socket_named(&hop).is_some() {
                skipped += 1;
            } else {
                hops.push(hop);
            }
        }
        for row in message.rows(Name::Route).take(skipped) {
            edits.remove(row.line());
        }
        if hops.is_empty() {
            let aor = message.uri().map(|uri| uri.identity()).unwrap_or_default();
            let found = self.seen.registrations().get(&aor).cloned();
            let Some(found) = found else {
                if message.method() != Some(Method::Ack) {
                    self.answer(message, from, 404, &[]).await;
                }
                return;
            };
            hops.clone_from(&found.path);
            let Registration { contact, path } = found;
            edits.replace(message.request_uri_span(), |text| {
                text.put(contact);
            });
            edits.insert(message.head_start(), |text| {
                for hop in &path {
                    text.field("Route", |value| {
                        value.put(hop);
                    });
                }
            });
        }
        let Some(to) = hops.first().and_then(|hop| address_of(hop)) else { return };
        let loops = lossy(message.top_via().map(|via| via.branch()).unwrap_or_default());
        if from != local {
            let branch =
                format!("z9hG4bK{}", crc(&format!("{loops}{}", lossy(message.method_octets()))));
            edits.insert(message.head_start(), |text| {
                text.field("Via", |value| {
                    value.put(format!("SIP/2.0/UDP {local};branch={branch};rport"));
                });
            });
        }
        if matches!(message.method(), Some(Method::Invite | Method::Subscribe)) {
            edits.insert(message.head_start(), |text| {
                text.field("Record-Route", |value| {
                    value.put(format!("<sip:{local};lr>"));
                });
            });
        }
        if let Ok(octets) = edits.apply(message) {
            self.send(&octets, to).await;
        }
    }

    /// A response goes to the next Via.
    async fn response(&mut self, message: &Message) {
        let mut rows = message.rows(Name::Via);
        let Some(top) = rows.next() else { return };
        let mut edits = Edits::new();
        edits.remove(top.line());
        let Some(next) = message.values(Name::Via).nth(1).and_then(crate::wire::Via::parse) else {
            return;
        };
        let host = next.param("received").unwrap_or(next.host());
        let port = next.param("rport").and_then(split::number).and_then(|p| u16::try_from(p).ok());
        let address = uri::host_address(host);
        let Some(ip) = address else { return };
        let to = SocketAddr::new(ip, port.or(next.port()).unwrap_or(5060));
        if let Ok(octets) = edits.apply(message) {
            self.send(&octets, to).await;
        }
    }

    async fn answer(
        &mut self,
        message: &Message,
        from: SocketAddr,
        status: u16,
        fields: &[(&str, String)],
    ) {
        let tag = self.tag_for(message);
        let mut reply = Reply::to(message, status).to_tag(tag.as_bytes()).source(from);
        for (name, value) in fields {
            reply = reply.field(name, |text| {
                text.put(value);
            });
        }
        let Some(octets) = reply.octets().map(Bytes::from) else { return };
        if status >= 200 {
            self.answered
                .with(transaction(message), clock::mono(), |held, _| *held = octets.clone());
        }
        self.send(&octets, from).await;
    }

    async fn send(&self, octets: &[u8], to: SocketAddr) {
        // UDP: whoever waits for it repeats.
        drop(self.socket.send_to(octets, to).await);
    }

    fn socket_named(&self, hop: &str) -> Option<()> {
        (address_of(hop) == self.socket.local_addr().ok()).then_some(())
    }

    fn fresh(&mut self) -> String {
        self.tags += 1;
        format!("{:x}n{}", u32::from_be_bytes(clock::random()), self.tags)
    }

    /// One tag for each Call-ID, so that a NOTIFY has the tag of its 200.
    fn tag_for(&self, message: &Message) -> String {
        format!("s{}", crc(&lossy(message.call_id())))
    }
}

fn next_hops(message: &Message) -> impl Iterator<Item = String> {
    message.values(Name::Route).map(lossy)
}

/// The address that a Route value names literally; laboratory names are not resolved.
fn address_of(hop: &str) -> Option<SocketAddr> {
    let address = Address::parse(hop.as_bytes())?;
    let uri: Uri<'_> = address.uri();
    Some(SocketAddr::new(uri::host_address(uri.host())?, uri.port().unwrap_or(5060)))
}

fn transaction(message: &Message) -> Vec<u8> {
    let branch = message.top_via().map(|via| via.branch()).unwrap_or_default();
    [branch, b" ", message.method_octets()].concat()
}

/// A short name for a text: the same text, the same name.
fn crc(text: &str) -> String {
    use std::hash::{Hash as _, Hasher as _};
    let mut hasher = siphasher::sip::SipHasher13::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
