//! Mallory: a subscriber with a key of her own, who reads whatever was delivered, on any transport, and sends what she
//! likes: what she heard, as it was, cut, or with single octets changed; responses and lures for credentials; requests
//! of any method in any dialog, with tokens of this call or another, whole or not, with the dialogs of others in
//! Replaces, Join and Target-Dialog, and with credentials of hers, heard, or bent. From her own flows, one of which
//! proved her certificate, and as a stranger of the core side she sends anything; with another's source address she
//! sends requests over UDP. CANCEL, ACK and responses from a spoofed source are left out: over cleartext UDP SIP gives
//! them nothing but the address and the branch to be known by (RFC 3261 sections 9.2, 17.1.3 and 22.1).

use std::sync::Arc;

use bytes::Bytes;
use sipward::authentication::Caller;
use sipward::identity::{Impu, Principal, Proof};
use sipward::testing::lab::GBA_REALM;
use sipward::testing::{Peer, Signer};

use crate::chance::Chance;
use crate::sheet::{Sheet, tag_of};

pub(crate) const UDP: &str = "192.0.2.66:5060";
pub(crate) const TLS: &str = "192.0.2.66:40000";
const MUTUAL_TLS: &str = "192.0.2.66:40001";
const STRAY: &str = "203.0.113.66:5060";
/// How much she remembers.
const HEARD_MAX: usize = 400;

const METHODS: [&str; 15] = [
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
    "FROB",
];
const EVENTS: [&str; 4] = ["conference", "refer", "presence", "message-summary"];
const STATUSES: [u16; 9] = [180, 183, 200, 202, 302, 401, 407, 481, 603];

pub(crate) struct Rogue {
    heard: Vec<Bytes>,
    pub(crate) signer: Signer,
    own: Vec<Peer>,
    /// Peers on UDP whose address she may use.
    spoofed: Vec<Peer>,
    number: u64,
}

impl Rogue {
    pub(crate) fn new(signer: Signer, spoofed: Vec<Peer>) -> Self {
        let proved = Caller {
            rights: Default::default(),
            principal: Principal::new(Proof::UserCertificate, "sip:mallory@example.net"),
            renewal: Default::default(),
            identities: Impu::new("sip:mallory@example.net").into_iter().collect(),
            key_name: "sip:mallory@example.net".into(),
            expires: None,
            strongest: Default::default(),
        };
        let own = vec![
            Peer::udp(UDP),
            Peer::tls(TLS, 66),
            Peer::tls(MUTUAL_TLS, 67).proved(Arc::new(proved)),
            Peer::stray(STRAY),
        ];
        Self { heard: Vec::new(), signer, own, spoofed, number: 0 }
    }

    /// The edge closed her connections, and she opened others.
    pub(crate) fn reconnect(&mut self) {
        for peer in &mut self.own {
            *peer = peer.clone().again();
        }
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
        match chance.below(11) {
            10 => {
                let mut octets = heard.to_vec();
                for _ in 0..=chance.below(3) {
                    let place = chance.below(octets.len() as u64);
                    let place = usize::try_from(place).expect("a length");
                    octets[place] = chance.octets::<1>()[0];
                }
                Some((chance.pick(&self.own).clone(), octets.into()))
            }
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
        if answer.start.contains(" 40") {
            let lure = format!("Digest realm=\"{GBA_REALM}\", nonce=\"n\", qop=\"auth\"");
            answer.set("Proxy-Authenticate", lure);
        }
        answer.print()
    }

    /// What may stand in a Route of ours: tokens of this call or of another, whole, cut, or with one character changed.
    fn routes(&self, heard: &Sheet, chance: &mut Chance) -> Vec<String> {
        let other = Sheet::read(&chance.pick(&self.heard).clone());
        let sheet = if chance.percent(20) { &other } else { heard };
        let name = if chance.percent(50) { "Record-Route" } else { "Route" };
        let mut routes: Vec<String> = sheet.all(name).map(str::to_owned).collect();
        if chance.percent(50) {
            routes.reverse();
        }
        if chance.percent(20) && !routes.is_empty() {
            let place = usize::try_from(chance.below(routes.len() as u64)).expect("a place");
            let route = &mut routes[place];
            // What was broken before may hold characters of several octets.
            let middle = route.find('@').map_or(0, |end| end / 2);
            let (at, old) = route.char_indices().rfind(|(at, _)| *at <= middle).unwrap_or_default();
            let old = at..route.len().min(at + old.len_utf8());
            match chance.below(3) {
                0 => drop(routes.remove(place)),
                1 => route.replace_range(old, "-"),
                _ => route.replace_range(old, ""),
            }
        }
        routes
    }

    /// Credentials that were heard, as they were or bent.
    fn heard_credentials(heard: &Sheet, chance: &mut Chance) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for name in ["Authorization", "Proxy-Authorization"] {
            for value in heard.all(name) {
                let value = match chance.below(4) {
                    0 => value.replace("nc=0000", "nc=ffff"),
                    1 => value.replace("response=\"", "response=\"0"),
                    2 => value.replace("nonce=\"", "nonce=\"A"),
                    _ => value.to_owned(),
                };
                found.push((name.to_owned(), value));
            }
        }
        found
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
        let routes = self.routes(heard, chance);
        sheet.fields.extend(routes.into_iter().map(|route| ("Route".to_owned(), route)));
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
            sheet.set("Event", *chance.pick(&EVENTS));
            sheet.set("Subscription-State", "terminated");
        }
        let named = format!(
            "{};to-tag={};from-tag={}",
            heard.first("Call-ID"),
            tag_of(heard.first("To")),
            tag_of(heard.first("From"))
        );
        if method == "REFER" {
            let named = named.replace(';', "%3B").replace('=', "%3D");
            sheet.set("Refer-To", format!("<sip:mallory@example.net?Replaces={named}>"));
        }
        if chance.percent(20) {
            let name = *chance.pick(&["Replaces", "Join", "Target-Dialog"]);
            let many = 1 + chance.below(2);
            sheet.fields.extend((0..many).map(|_| (name.to_owned(), named.clone())));
            if chance.percent(50) {
                // Outside dialogs, where such names are meant to stand.
                sheet.set("Call-ID", format!("rogue{}", self.number));
                let to = sheet.first("To").split(";tag=").next().unwrap_or_default().to_owned();
                sheet.set("To", to);
            }
        }
        match chance.below(3) {
            0 => {}
            1 => sheet.fields.extend(Self::heard_credentials(heard, chance)),
            _ => sheet.set("Proxy-Authorization", self.signer.credentials(method, &uri, b"")),
        }
        (peer, sheet.print())
    }
}
