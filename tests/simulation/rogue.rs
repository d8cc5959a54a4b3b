//! Mallory: a subscriber with a key of her own, who reads whatever was delivered, on any transport, and sends what she
//! likes. From her own flows and as a stranger of the core side she sends anything; with another's source address she
//! sends requests over UDP. CANCEL, ACK and responses from a spoofed source are left out: over cleartext UDP SIP gives
//! them nothing but the address and the branch to be known by (RFC 3261 sections 9.2, 17.1.3 and 22.1).

use bytes::Bytes;
use sipward::testing::{Peer, Signer};

use crate::chance::Chance;
use crate::sheet::{Sheet, tag_of};

pub(crate) const UDP: &str = "192.0.2.66:5060";
pub(crate) const TLS: &str = "192.0.2.66:40000";
const STRAY: &str = "203.0.113.66:5060";
/// How much she remembers.
const HEARD_MAX: usize = 400;

const METHODS: [&str; 14] = [
    "BYE",
    "INVITE",
    "UPDATE",
    "INFO",
    "CANCEL",
    "ACK",
    "PRACK",
    "REFER",
    "NOTIFY",
    "SUBSCRIBE",
    "MESSAGE",
    "REGISTER",
    "OPTIONS",
    "PUBLISH",
];
const STATUSES: [u16; 9] = [180, 183, 200, 202, 302, 401, 407, 481, 603];

pub(crate) struct Rogue {
    heard: Vec<Bytes>,
    pub(crate) signer: Signer,
    own: [Peer; 3],
    /// Peers on UDP whose address she may use.
    spoofed: Vec<Peer>,
    number: u64,
}

impl Rogue {
    pub(crate) fn new(signer: Signer, spoofed: Vec<Peer>) -> Self {
        let own = [Peer::udp(UDP), Peer::tls(TLS, 66), Peer::stray(STRAY)];
        Self { heard: Vec::new(), signer, own, spoofed, number: 0 }
    }

    /// What was delivered to somebody.
    pub(crate) fn hear(&mut self, octets: &Bytes) {
        if self.heard.len() >= HEARD_MAX {
            self.heard.drain(..HEARD_MAX / 2);
        }
        self.heard.push(octets.clone());
    }

    /// What the edge sent to her.
    pub(crate) fn receive(&mut self, octets: &Bytes) {
        if let Ok(message) = sipward::wire::Message::from_datagram(octets.clone()) {
            self.signer.challenged(&message);
        }
        self.hear(octets);
    }

    /// One forged message and whence it comes; `None` while she has heard nothing.
    pub(crate) fn forge(&mut self, chance: &mut Chance) -> Option<(Peer, Bytes)> {
        if self.heard.is_empty() {
            return None;
        }
        let heard = chance.pick(&self.heard).clone();
        let sheet = Sheet::read(&heard);
        self.number += 1;
        match chance.below(10) {
            0 => Some((chance.pick(&self.own).clone(), heard)),
            1 => {
                let end = chance.below(heard.len() as u64);
                let end = usize::try_from(end).expect("a length");
                Some((chance.pick(&self.own).clone(), heard.slice(..end)))
            }
            2 | 3 => Some((chance.pick(&self.own).clone(), self.response(&sheet, chance))),
            _ => Some(self.request(&sheet, chance)),
        }
    }

    fn response(&self, heard: &Sheet, chance: &mut Chance) -> Bytes {
        let tag = match chance.percent(50) {
            true => format!("rogue{}", self.number),
            false => String::new(),
        };
        let mut answer = heard.answer(*chance.pick(&STATUSES), &tag);
        answer.set("Contact", format!("<sip:mallory@{UDP}>"));
        answer.print()
    }

    fn request(&mut self, heard: &Sheet, chance: &mut Chance) -> (Peer, Bytes) {
        let method = *chance.pick(&METHODS);
        let spoofs =
            !self.spoofed.is_empty() && !matches!(method, "CANCEL" | "ACK") && chance.percent(40);
        let peer = match spoofs {
            true => chance.pick(&self.spoofed).clone(),
            false => chance.pick(&self.own).clone(),
        };
        let contact = heard.first("Contact").trim_matches(['<', '>']).to_owned();
        let known =
            ["sip:alice@example.net", "sip:bob@example.net", "sip:example.net", contact.as_str()];
        let uri = match heard.is_request() && chance.percent(50) {
            true => heard.uri().to_owned(),
            false => (*chance.pick(&known)).to_owned(),
        };
        let uri = if uri.is_empty() { known[0].to_owned() } else { uri };
        let (mut from, mut to) = (heard.first("From").to_owned(), heard.first("To").to_owned());
        if chance.percent(40) {
            std::mem::swap(&mut from, &mut to);
        }
        if chance.percent(20) {
            from = format!("<sip:mallory@example.net>;tag={}", tag_of(&from));
        }
        let mut sheet = Sheet {
            start: format!("{method} {uri} SIP/2.0"),
            fields: Vec::new(),
            body: String::new(),
        };
        let own = format!("SIP/2.0/UDP {UDP};branch=z9hG4bKrogue{};rport", self.number);
        // With the very branch of another's request, but not from where that one came.
        let via = if !spoofs && chance.percent(30) { heard.first("Via").to_owned() } else { own };
        sheet.fields.push(("Via".into(), via));
        let routes = if chance.percent(50) { "Record-Route" } else { "Route" };
        let mut routes: Vec<&str> = heard.all(routes).collect();
        if chance.percent(50) {
            routes.reverse();
        }
        sheet.fields.extend(routes.iter().map(|route| ("Route".to_owned(), (*route).to_owned())));
        let number: u32 =
            heard.first("CSeq").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(1);
        let further = u32::try_from(chance.below(50)).expect("a small number");
        for (name, value) in [
            ("Max-Forwards", "70".to_owned()),
            ("From", from),
            ("To", to),
            ("Call-ID", heard.first("Call-ID").to_owned()),
            ("CSeq", format!("{} {method}", number.saturating_add(further))),
            ("Contact", format!("<sip:mallory@{UDP}>")),
        ] {
            sheet.fields.push((name.to_owned(), value));
        }
        if matches!(method, "SUBSCRIBE" | "NOTIFY") {
            sheet.set("Event", "presence");
            sheet.set("Subscription-State", "terminated");
        }
        if method == "INVITE" && chance.percent(30) {
            let dialog = format!(
                "{};to-tag={};from-tag={}",
                heard.first("Call-ID"),
                tag_of(heard.first("To")),
                tag_of(heard.first("From"))
            );
            sheet.set("Replaces", dialog);
        }
        match chance.below(3) {
            0 => {}
            1 => {
                for name in ["Authorization", "Proxy-Authorization"] {
                    heard.all(name).for_each(|value| sheet.set(name, value));
                }
            }
            _ => sheet.set("Proxy-Authorization", self.signer.credentials(method, &uri, b"")),
        }
        (peer, sheet.print())
    }
}
