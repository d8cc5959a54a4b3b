//! One UE: who it is, what it is in the middle of, and the requests that it writes.
//!
//! Bodies are what the services really send: a text of CPM in its CPIM wrapping (1000 octets), an offer for a call,
//! a subscription to presence.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use super::DOMAIN;
use super::digest::Login;
use super::wire::{self, join, put};

/// The methods that UEs begin transactions with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Options,
    Register,
    Message,
    Invite,
    Bye,
    Subscribe,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
            Self::Message => "MESSAGE",
            Self::Invite => "INVITE",
            Self::Bye => "BYE",
            Self::Subscribe => "SUBSCRIBE",
        }
    }
}

/// A UE.
pub(crate) struct Ue {
    /// Its place in the population; the user `t<number>` is whom it asks for.
    pub(crate) number: usize,
    /// The address that it speaks from.
    pub(crate) address: Ipv4Addr,
    pub(crate) login: Login,
    identity: Vec<u8>,
    text: Vec<u8>,
    transport: &'static str,
    sent_by: Vec<u8>,
    contact: Vec<u8>,
    /// What it is in the middle of.
    pub(crate) busy: Option<Busy>,
    dialogs: u64,
    dialog: Dialog,
    /// The last request, for another copy of it.
    pub(crate) request: Vec<u8>,
}

/// A transaction of the workload, from the first request to the last answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy {
    pub(crate) method: Method,
    /// The mark in the branch of the request that an answer is awaited for.
    pub(crate) branch: u64,
    /// When it was due to begin.
    pub(crate) due: Instant,
    /// Whether it began in the time that counts.
    pub(crate) counts: bool,
    pub(crate) sent_again: bool,
    pub(crate) provisional: bool,
    pub(crate) challenges: u8,
    pub(crate) subscribed: bool,
    pub(crate) notified: u8,
}

/// What is remembered of the dialog that is open.
#[derive(Default)]
struct Dialog {
    cseq: u64,
    to_tag: Vec<u8>,
    target: Vec<u8>,
    routes: Vec<u8>,
}

const OFFER: &[u8] = b"v=0\r\no=- 20 20 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
m=audio 49152 RTP/AVP 96 97 0\r\na=rtpmap:96 AMR-WB/16000\r\na=fmtp:96 mode-change-capability=2;max-red=0\r\n\
a=rtpmap:97 telephone-event/16000\r\na=ptime:20\r\na=maxptime:240\r\na=sendrecv\r\n";

impl Ue {
    /// A UE with that identity (a SIP URI), which speaks from `address`.
    pub(crate) fn new(number: usize, address: Ipv4Addr, identity: &str, login: Login) -> Self {
        Self {
            number,
            address,
            login,
            identity: identity.into(),
            text: cpim(identity, number),
            transport: "UDP",
            sent_by: Vec::new(),
            contact: Vec::new(),
            busy: None,
            dialogs: 0,
            dialog: Dialog::default(),
            request: Vec::with_capacity(2048),
        }
    }

    /// Where answers and requests find it from now on.
    pub(crate) fn is_at(&mut self, local: SocketAddrV4, transport: &'static str) {
        self.transport = transport;
        self.sent_by = local.to_string().into_bytes();
        let number = self.number;
        let parameter = match transport {
            "UDP" => String::new(),
            other => format!(";transport={}", other.to_ascii_lowercase()),
        };
        self.contact = format!("<sip:u{number}@{local}{parameter}>").into_bytes();
    }

    /// The next request begins a new Call-ID.
    pub(crate) fn new_call(&mut self) {
        self.dialogs += 1;
        self.dialog = Dialog::default();
    }

    /// Whether a Call-ID of this bench is that of the dialog under way.
    pub(crate) fn is_call(&self, call: u64) -> bool {
        self.dialogs == call
    }

    /// Writes a request with that branch into [`Ue::request`].
    pub(crate) fn write(&mut self, method: Method, branch: u64) {
        let mut uri = Vec::with_capacity(64);
        match method {
            Method::Bye => uri.extend_from_slice(&self.dialog.target),
            Method::Register | Method::Options => join(&mut uri, &[b"sip:", DOMAIN.as_bytes()]),
            _ => self.put_callee(&mut uri),
        }
        let mut out = std::mem::take(&mut self.request);
        out.clear();
        self.dialog.cseq += 1;
        self.put_head(&mut out, method.as_str(), &uri, branch, method == Method::Bye);
        if method != Method::Options {
            let body = (method == Method::Message).then_some(&*self.text);
            self.login.put_credentials(&mut out, method.as_str(), &uri, body);
        }
        let body: &[u8] = match method {
            Method::Message => {
                self.put_preferred(&mut out);
                out.extend_from_slice(
                    b"P-Preferred-Service: urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg\r\n\
                    Accept-Contact: *;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\";require;explicit\r\n\
                    Conversation-ID: f81d4fae-7dec-11d0-a765-00a0c91e6bf6\r\n\
                    Contribution-ID: abcdef-1234-5678-90ab-cdef01234567\r\n\
                    User-Agent: CPM-client/OMA2.2 bench/1\r\nContent-Type: message/cpim\r\n",
                );
                &self.text
            }
            Method::Invite => {
                join(&mut out, &[b"Contact: ", &self.contact, b"\r\n"]);
                self.put_preferred(&mut out);
                out.extend_from_slice(
                    b"Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY\r\nSupported: timer\r\n\
                    User-Agent: bench/1\r\nContent-Type: application/sdp\r\n",
                );
                OFFER
            }
            Method::Subscribe => {
                join(&mut out, &[b"Contact: ", &self.contact, b"\r\n"]);
                self.put_preferred(&mut out);
                out.extend_from_slice(
                    b"Event: presence\r\nAccept: application/pidf+xml\r\nExpires: 3600\r\n\
                    User-Agent: LOC-client/OMA1.0 bench/1\r\n",
                );
                b""
            }
            Method::Register => {
                join(&mut out, &[b"Contact: ", &self.contact]);
                out.extend_from_slice(
                    b";+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"\r\n\
                    Expires: 3600\r\nSupported: path\r\nUser-Agent: bench/1\r\n",
                );
                b""
            }
            Method::Options => {
                out.extend_from_slice(b"Accept: application/sdp\r\nUser-Agent: bench/1\r\n");
                b""
            }
            Method::Bye => b"",
        };
        out.extend_from_slice(b"Content-Length: ");
        put(&mut out, body.len() as u64);
        join(&mut out, &[b"\r\n\r\n", body]);
        self.request = out;
    }

    /// The ACK of a 2xx, inside the dialog.
    pub(crate) fn ack(&self, branch: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        self.put_head(&mut out, "ACK", &self.dialog.target, branch, true);
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        out
    }

    /// The ACK of any other final answer to the INVITE with that branch.
    pub(crate) fn ack_refusal(&mut self, branch: u64, response: &[u8]) -> Vec<u8> {
        let mut uri = Vec::new();
        self.put_callee(&mut uri);
        let tag = wire::row(response, "To", Some(b't')).map(wire::tag).unwrap_or_default();
        self.dialog.to_tag = tag.to_vec();
        let mut out = Vec::with_capacity(1024);
        self.put_head(&mut out, "ACK", &uri, branch, false);
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        self.dialog.to_tag.clear();
        out
    }

    /// Takes tag, target and routes from the answer that opens a dialog.
    pub(crate) fn open_dialog(&mut self, response: &[u8]) {
        let mut routes: Vec<&[u8]> = Vec::with_capacity(4);
        for (name, value) in wire::rows(response) {
            if wire::is(name, "To", Some(b't')) {
                self.dialog.to_tag = wire::tag(value).to_vec();
            } else if wire::is(name, "Contact", Some(b'm')) {
                self.dialog.target = wire::uri(value).to_vec();
            } else if wire::is(name, "Record-Route", None) {
                routes.extend(wire::routes(value));
            }
        }
        for route in routes.into_iter().rev() {
            join(&mut self.dialog.routes, &[b"Route: ", route, b"\r\n"]);
        }
    }

    fn put_callee(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"sip:t");
        put(out, self.number as u64);
        join(out, &[b"@", DOMAIN.as_bytes()]);
    }

    fn put_preferred(&self, out: &mut Vec<u8>) {
        join(out, &[b"P-Preferred-Identity: <", &self.identity, b">\r\n"]);
    }

    /// The request line and the rows that every request has, Content-Length left out.
    fn put_head(&self, out: &mut Vec<u8>, method: &str, uri: &[u8], branch: u64, inside: bool) {
        let number = self.number as u64;
        let method_octets = method.as_bytes();
        join(out, &[method_octets, b" ", uri, b" SIP/2.0\r\nVia: SIP/2.0/"]);
        join(out, &[self.transport.as_bytes(), b" ", &self.sent_by, b";rport;branch=z9hG4bK-u"]);
        put(out, number);
        out.push(b'-');
        put(out, branch);
        out.extend_from_slice(b"\r\nMax-Forwards: 70\r\n");
        if inside {
            out.extend_from_slice(&self.dialog.routes);
        }
        join(out, &[b"From: <", &self.identity, b">;tag=f"]);
        put(out, self.dialogs);
        out.extend_from_slice(b"\r\nTo: <");
        match method {
            "REGISTER" => out.extend_from_slice(&self.identity),
            "OPTIONS" => out.extend_from_slice(uri),
            _ => self.put_callee(out),
        }
        out.push(b'>');
        if !self.dialog.to_tag.is_empty() {
            join(out, &[b";tag=", &self.dialog.to_tag]);
        }
        out.extend_from_slice(b"\r\nCall-ID: u");
        put(out, number);
        out.push(b'-');
        put(out, self.dialogs);
        join(out, &[b"@", &self.sent_by, b"\r\nCSeq: "]);
        put(out, self.dialog.cseq);
        join(out, &[b" ", method_octets, b"\r\n"]);
    }
}

/// A text of CPM, 1000 octets with its wrapping.
fn cpim(identity: &str, number: usize) -> Vec<u8> {
    const LENGTH: usize = 1000;
    let mut text = Vec::with_capacity(LENGTH);
    let _never_fails = write!(
        text,
        "From: <{identity}>\r\nTo: <sip:t{number}@{DOMAIN}>\r\nDateTime: 2026-01-01T12:00:00.000Z\r\n\
        NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: m{number:08}x\r\n\
        imdn.Disposition-Notification: positive-delivery, display\r\n\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\r\n"
    );
    let rest = LENGTH.saturating_sub(text.len());
    text.extend(b"The quick brown fox jumps over the lazy dog. ".iter().cycle().take(rest));
    text
}
