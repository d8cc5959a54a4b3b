//! The server behind the anchors: it answers everything with good, sends NOTIFYs, and counts what should not
//! have reached it.

use std::io;
use std::net::SocketAddrV4;

use memchr::memmem;

use super::net::{BATCH, Inbox, Port};
use super::wire::{self, join, put};

/// NOTIFYs of one subscription.
pub(crate) const NOTIFIES: u8 = 3;

/// The backend of one anchor.
pub(crate) struct Backend {
    pub(crate) port: Port,
    contact: String,
    notifiers: Vec<Notifier>,
    tags: u64,
    pub(crate) seen: Seen,
}

/// What reached it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Requests.
    pub(crate) requests: u64,
    /// Of these, with credentials of ours.
    pub(crate) with_credentials: u64,
    /// Of these, outside a dialog, other than REGISTER, without P-Asserted-Identity.
    pub(crate) without_identity: u64,
    /// With rows missing, or of a method that nobody sends here.
    pub(crate) malformed: u64,
    /// NOTIFYs that were refused.
    pub(crate) notify_refused: u64,
}

/// A subscription as its notifier knows it.
#[derive(Default)]
struct Notifier {
    to: Option<SocketAddrV4>,
    sent: u8,
    target: Vec<u8>,
    routes: Vec<u8>,
    local: Vec<u8>,
    remote: Vec<u8>,
    call_id: Vec<u8>,
}

/// The rows of a request that an answer needs.
#[derive(Default)]
struct Request<'a> {
    method: &'a [u8],
    vias: Vec<&'a [u8]>,
    record_routes: Vec<&'a [u8]>,
    from: &'a [u8],
    to: &'a [u8],
    call_id: &'a [u8],
    cseq: &'a [u8],
    contact: &'a [u8],
    credentials: bool,
    asserted: bool,
}

const ANSWER: &[u8] = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
m=audio 40000 RTP/AVP 96 97\r\na=rtpmap:96 AMR-WB/16000\r\na=rtpmap:97 telephone-event/16000\r\na=sendrecv\r\n";

const PRESENCE: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:gp=\"urn:ietf:params:xml:ns:pidf:geopriv10\" \
xmlns:gml=\"http://www.opengis.net/gml\" entity=\"sip:target@ims.example\"><tuple id=\"loc1\"><status><basic>open\
</basic><gp:geopriv><gp:location-info><gml:Point srsName=\"urn:ogc:def:crs:EPSG::4326\"><gml:pos>46.9480 7.4474\
</gml:pos></gml:Point></gp:location-info><gp:usage-rules><gp:retransmission-allowed>no</gp:retransmission-allowed>\
</gp:usage-rules></gp:geopriv></status><timestamp>2026-01-01T00:00:00Z</timestamp></tuple></presence>\r\n";

impl Backend {
    /// One at `address`, which knows the users `t0` to `t<ues - 1>`.
    pub(crate) fn bind(address: SocketAddrV4, ues: usize) -> io::Result<Self> {
        let notifiers = (0..ues).map(|_| Notifier::default()).collect();
        let port = Port::bind(address)?;
        Ok(Self { port, contact: address.to_string(), notifiers, tags: 0, seen: Seen::default() })
    }

    /// Reads and answers all that is there.
    pub(crate) fn serve(&mut self, inbox: &mut Inbox) {
        loop {
            let received = inbox.fill(&self.port);
            for index in 0..received {
                let (message, from, _) = inbox.get(index);
                match wire::status(message) {
                    Some(status) => self.response(message, status),
                    None => self.request(message, from),
                }
            }
            self.port.flush();
            if received < BATCH {
                return;
            }
        }
    }

    /// Sends the next NOTIFY to that UE.
    pub(crate) fn notify(&mut self, ue: usize) {
        let Some(notifier) = self.notifiers.get_mut(ue) else { return };
        let Some(to) = notifier.to else { return };
        notifier.sent += 1;
        let sent = u64::from(notifier.sent);
        let contact = self.contact.as_bytes();
        let call = notifier.call_id.split(|octet| *octet == b'@').next().unwrap_or_default();
        let out = self.port.next(to, None);
        join(out, &[b"NOTIFY ", &notifier.target, b" SIP/2.0\r\nVia: SIP/2.0/UDP ", contact]);
        out.extend_from_slice(b";branch=z9hG4bK-n");
        put(out, ue as u64);
        out.push(b'-');
        put(out, sent);
        join(out, &[b".", call, b"\r\nMax-Forwards: 70\r\n", &notifier.routes]);
        join(out, &[b"From: ", &notifier.local, b"\r\nTo: ", &notifier.remote]);
        join(out, &[b"\r\nCall-ID: ", &notifier.call_id, b"\r\nCSeq: "]);
        put(out, sent);
        out.extend_from_slice(b" NOTIFY\r\nContact: <sip:t");
        put(out, ue as u64);
        let state: &[u8] = match notifier.sent {
            NOTIFIES => b"terminated;reason=timeout",
            _ => b"active;expires=3600",
        };
        join(out, &[b"@", contact, b">\r\nEvent: presence\r\nSubscription-State: ", state]);
        out.extend_from_slice(b"\r\nContent-Type: application/pidf+xml\r\nContent-Length: ");
        put(out, PRESENCE.len() as u64);
        join(out, &[b"\r\n\r\n", PRESENCE]);
    }

    fn request(&mut self, message: &[u8], from: SocketAddrV4) {
        self.seen.requests += 1;
        let request = Request::read(message);
        self.seen.with_credentials += u64::from(request.credentials);
        if request.method == b"ACK" {
            return;
        }
        if !request.is_whole() {
            self.seen.malformed += 1;
            return;
        }
        let inside = !wire::tag(request.to).is_empty();
        let asserts = inside || request.asserted || request.method == b"REGISTER";
        self.seen.without_identity += u64::from(!asserts);
        self.tags += 1;
        let callee =
            memmem::find(message, b":t").map_or(0, |at| wire::number(&message[at + 2..]).0);
        if request.method == b"SUBSCRIBE" && !inside {
            self.subscribe(&request, callee as usize, from);
        }
        match request.method {
            b"INVITE" => {
                self.answer(&request, b"180 Ringing", callee, from);
                self.answer(&request, b"200 OK", callee, from);
            }
            b"OPTIONS" | b"REGISTER" | b"MESSAGE" | b"SUBSCRIBE" | b"BYE" => {
                self.answer(&request, b"200 OK", callee, from);
            }
            _ => self.seen.malformed += 1,
        }
    }

    fn subscribe(&mut self, request: &Request<'_>, ue: usize, from: SocketAddrV4) {
        let tag = self.tags;
        let Some(notifier) = self.notifiers.get_mut(ue) else { return };
        notifier.to = Some(from);
        notifier.sent = 0;
        notifier.target = wire::uri(request.contact).to_vec();
        notifier.routes.clear();
        for route in &request.record_routes {
            join(&mut notifier.routes, &[b"Route: ", route, b"\r\n"]);
        }
        notifier.remote = request.from.to_vec();
        notifier.local = request.to.to_vec();
        notifier.local.extend_from_slice(b";tag=b");
        put(&mut notifier.local, tag);
        notifier.call_id = request.call_id.to_vec();
    }

    fn answer(&mut self, request: &Request<'_>, line: &[u8], callee: u64, to: SocketAddrV4) {
        let out = self.port.next(to, None);
        join(out, &[b"SIP/2.0 ", line]);
        for via in &request.vias {
            join(out, &[b"\r\nVia: ", via]);
        }
        for route in &request.record_routes {
            join(out, &[b"\r\nRecord-Route: ", route]);
        }
        join(out, &[b"\r\nFrom: ", request.from, b"\r\nCall-ID: ", request.call_id]);
        join(out, &[b"\r\nCSeq: ", request.cseq, b"\r\nTo: ", request.to]);
        if wire::tag(request.to).is_empty() {
            out.extend_from_slice(b";tag=b");
            put(out, self.tags);
        }
        let mut body: &[u8] = b"";
        match request.method {
            b"INVITE" | b"SUBSCRIBE" => {
                out.extend_from_slice(b"\r\nContact: <sip:t");
                put(out, callee);
                join(out, &[b"@", self.contact.as_bytes(), b">"]);
                let calls = request.method == b"INVITE";
                if calls && line.starts_with(b"2") {
                    out.extend_from_slice(b"\r\nContent-Type: application/sdp");
                    body = ANSWER;
                }
                let row: &[u8] = match calls {
                    true => b"\r\nAllow: INVITE, ACK, BYE, CANCEL",
                    false => b"\r\nExpires: 3600",
                };
                out.extend_from_slice(row);
            }
            b"REGISTER" => {
                join(out, &[b"\r\nContact: ", request.contact, b";expires=3600"]);
            }
            _ => {}
        }
        out.extend_from_slice(b"\r\nContent-Length: ");
        put(out, body.len() as u64);
        join(out, &[b"\r\n\r\n", body]);
    }

    /// Of a NOTIFY: the next one goes out when the one before was taken.
    fn response(&mut self, message: &[u8], status: u16) {
        let Some((ue, sent)) = wire::marked(message, b"z9hG4bK-n") else { return };
        match status {
            0..200 => {}
            200..300 => {
                let next = |notifier: &Notifier| u64::from(notifier.sent) == sent;
                if self.notifiers.get(ue).is_some_and(next) && sent < u64::from(NOTIFIES) {
                    self.notify(ue);
                }
            }
            _ => self.seen.notify_refused += 1,
        }
    }
}

impl<'a> Request<'a> {
    fn read(message: &'a [u8]) -> Self {
        let method = message.split(|octet| *octet == b' ').next().unwrap_or_default();
        let mut request = Self { method, ..Self::default() };
        for (name, value) in wire::rows(message) {
            let is = |long, short: Option<u8>| wire::is(name, long, short);
            match name.first().map(u8::to_ascii_lowercase) {
                Some(b'v') if is("Via", Some(b'v')) => request.vias.push(value),
                Some(b'f') if is("From", Some(b'f')) => request.from = value,
                Some(b't') if is("To", Some(b't')) => request.to = value,
                Some(b'i' | b'c') if is("Call-ID", Some(b'i')) => request.call_id = value,
                Some(b'c') if is("CSeq", None) => request.cseq = value,
                Some(b'c' | b'm') if is("Contact", Some(b'm')) => request.contact = value,
                Some(b'r') if is("Record-Route", None) => request.record_routes.push(value),
                Some(b'a') if is("Authorization", None) => request.credentials = true,
                Some(b'p') if is("Proxy-Authorization", None) => request.credentials = true,
                Some(b'p') if is("P-Asserted-Identity", None) => request.asserted = true,
                _ => {}
            }
        }
        request
    }

    fn is_whole(&self) -> bool {
        let rows = [self.from, self.to, self.call_id, self.cseq];
        !self.vias.is_empty() && rows.iter().all(|row| !row.is_empty())
    }
}
