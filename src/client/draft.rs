//! The UE, drafts: requests before they are signed, and the dialogs that further ones are made in.
//!
//! Takes:   what the user wants to say, and to whom.
//! Gives:   a [`Draft`], printed once for each try; a [`Dialog`] from the answer to one.
//! Keeps:   nothing.
//! Refuses: nothing; text that would end a line is not printed.
//! Sources: RFC 3261 sections 8.1.1, 12.1.2, 12.2.1 and 13.2.1; RFC 3327; RFC 3428; RFC 5626 section 4.2; RFC 6223
//!          section 4.3; RFC 6665.

use bytes::Bytes;

use super::answer::Answerer;
use crate::wire::{Address, Message, Name, Text};

/// Whom a UE speaks as, and from where.
#[derive(Clone, Debug)]
pub struct Voice {
    /// Its public identity, `sip:alice@example.net`.
    pub identity: String,
    /// `SIP/2.0/UDP 192.0.2.10:5060` without branch.
    pub via: String,
    /// The URI it can be reached at, in Contact; `*` for all that there are.
    pub contact: String,
    /// User-Agent.
    pub agent: String,
}

/// A request that has not been signed yet.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Method.
    pub method: &'static str,
    /// Request-URI.
    pub uri: String,
    /// The URI in To.
    pub to: String,
    /// The tag in To, inside a dialog.
    pub to_tag: String,
    /// The URI in From; the voice's identity if empty.
    pub from: String,
    /// The tag in From.
    pub from_tag: String,
    /// Call-ID.
    pub call_id: String,
    /// CSeq.
    pub cseq: u32,
    /// Max-Forwards; there is none if `None`.
    pub hops: Option<u8>,
    /// Route values, in order.
    pub routes: Vec<String>,
    /// Further header fields.
    pub fields: Vec<(&'static str, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// What stands behind the URI in Contact.
    pub contact_params: String,
    /// Whether it offers to send keep-alives (RFC 6223).
    pub keep: bool,
}

impl Draft {
    /// A request outside dialogs.
    pub fn new(method: &'static str, uri: &str, call_id: String, from_tag: String) -> Self {
        Self {
            method,
            uri: uri.into(),
            to: uri.into(),
            to_tag: String::new(),
            from: String::new(),
            from_tag,
            call_id,
            cseq: 1,
            hops: Some(HOPS),
            routes: Vec::new(),
            fields: Vec::new(),
            body: Vec::new(),
            contact_params: String::new(),
            keep: false,
        }
    }

    /// With one more header field.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// With a body.
    pub fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.with("Content-Type", kind)
    }

    /// The octets, with credentials for every realm that has asked; `None` if a value would end a line.
    pub fn print(
        &self,
        voice: &Voice,
        branch: &str,
        answerer: Option<&mut Answerer>,
    ) -> Option<Bytes> {
        let mut text = Text::new();
        text.put(self.method).put(" ").put(&self.uri).put(" SIP/2.0").end_line();
        text.field("Via", |value| {
            value.put(&voice.via).put(";branch=").put(branch).put(";rport");
            if self.keep {
                value.put(";keep");
            }
        });
        for route in &self.routes {
            text.field("Route", |value| {
                value.put(route);
            });
        }
        let from = if self.from.is_empty() { &voice.identity } else { &self.from };
        if let Some(hops) = self.hops {
            text.field("Max-Forwards", |value| {
                value.put_number(u64::from(hops));
            });
        }
        text.field("From", |value| {
            value.put("<").put(from).put(">;tag=").put(&self.from_tag);
        });
        text.field("To", |value| {
            value.put("<").put(&self.to).put(">");
            if !self.to_tag.is_empty() {
                value.put(";tag=").put(&self.to_tag);
            }
        });
        text.field("Call-ID", |value| {
            value.put(&self.call_id);
        });
        text.field("CSeq", |value| {
            value.put_number(u64::from(self.cseq)).put(" ").put(self.method);
        });
        if !matches!(self.method, "MESSAGE" | "OPTIONS" | "BYE" | "CANCEL") {
            text.field("Contact", |value| match voice.contact.as_str() {
                // All that there are (RFC 3261 section 10.2.2).
                "*" => {
                    value.put("*").put(&self.contact_params);
                }
                uri => {
                    value.put("<").put(uri).put(">").put(&self.contact_params);
                }
            });
        }
        text.field("User-Agent", |value| {
            value.put(&voice.agent);
        });
        for (name, value) in &self.fields {
            text.field(name, |text| {
                text.put(value);
            });
        }
        if let Some(answerer) = answerer {
            answerer.authorize(&mut text, self.method, &self.uri, &self.body);
        }
        text.field("Content-Length", |value| {
            value.put_number(self.body.len() as u64);
        });
        text.end_line().put_body(&self.body);
        text.finish().ok().map(Bytes::from)
    }
}

/// One dialog, from the UE's end.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// The other end's tag.
    pub remote_tag: String,
    /// The other end's URI, for To.
    pub remote: String,
    /// Where the other end can be reached.
    pub target: String,
    /// Routes, in the order in which they are to be visited.
    pub routes: Vec<String>,
    /// The number used last.
    pub cseq: u32,
}

impl Dialog {
    /// The dialog that a 2xx to our `draft` makes.
    pub fn called(draft: &Draft, response: &Message) -> Self {
        let mut routes = texts(response, Name::RecordRoute);
        routes.reverse();
        Self {
            call_id: draft.call_id.clone(),
            local_tag: draft.from_tag.clone(),
            remote_tag: lossy(response.to_tag()),
            remote: draft.to.clone(),
            target: contact(response).unwrap_or_else(|| draft.uri.clone()),
            routes,
            cseq: draft.cseq,
        }
    }

    /// The dialog that our 2xx to `request` makes, with our tag.
    pub fn answered(request: &Message, local_tag: &str) -> Self {
        let uri = |address: Option<Address<'_>>| {
            address.map(|address| lossy(address.uri().octets())).unwrap_or_default()
        };
        Self {
            call_id: lossy(request.call_id()),
            local_tag: local_tag.into(),
            remote_tag: lossy(request.from_tag()),
            remote: uri(request.from()),
            target: contact(request).unwrap_or_else(|| uri(request.from())),
            routes: texts(request, Name::RecordRoute),
            cseq: 0,
        }
    }

    /// A request inside the dialog.
    pub fn draft(&mut self, method: &'static str) -> Draft {
        if method != "ACK" {
            self.cseq = self.cseq.saturating_add(1);
        }
        Draft {
            to: self.remote.clone(),
            to_tag: self.remote_tag.clone(),
            cseq: self.cseq,
            routes: self.routes.clone(),
            ..Draft::new(method, &self.target, self.call_id.clone(), self.local_tag.clone())
        }
    }
}

fn contact(message: &Message) -> Option<String> {
    let address = message.values(Name::Contact).next().and_then(Address::parse)?;
    Some(lossy(address.uri().octets()))
}

fn texts(message: &Message, name: Name) -> Vec<String> {
    message.values(name).map(lossy).collect()
}

fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// What Max-Forwards begins with (RFC 3261 section 8.1.1.6).
const HOPS: u8 = 70;
