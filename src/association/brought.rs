//! Stage 5, brought: the token that a request inside a dialog brings in its topmost Route.
//!
//! 1. A token is opened once. What that proves, that it was made for this Call-ID and these ends and faces this side, is as
//!    true the next time: a record is found by the same Call-ID and tags. So the record keeps a mark of one, from the
//!    request that brought it and was let pass, or from when it was made for the answer to an INVITE. One side sends most
//!    of what is sent in a dialog: the marks of both would serve little more.
//! 2. Whoever brings the very same token, octet for octet, spares us the opening. Its key must still be one that opens
//!    something: one that was replaced, or is of the day before yesterday, is unknown here as it is there.
//! 3. That it is the dialog's proves nothing of its sender: he is judged as if he had brought none.
//!
//! Takes:   a request that names a dialog, and the dialog, if it is known.
//! Gives:   [`Brought`].
//! Keeps:   [`Proved`], 8 octets of a dialog.
//! Refuses: a token that does not open for this call, that faces the other side: rule 10.
//! Sources: RFC 3261 sections 12.2.1.1 and 16.6 item 4; RFC 6665 section 4.1.3; rule 10; V-104.

use subtle::ConstantTimeEq as _;

use super::dialog::Association;
use super::table::Associations;
use super::token::{Former, Opened, RouteToken, TEXT_OCTETS};
use crate::instant::Now;
use crate::refusal::Refusal;
use crate::transport::Side;
use crate::wire::{Message, Method, Name, Span};

/// The mark of the token that a dialog is known by: of the one that was made or brought last. It is a keyed hash of the whole
/// text and of the side that brings it: without the key, which this process drew, a text of the same mark is found by no
/// less than 2^64 requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proved(u64);

impl Proved {
    /// None is known.
    pub(super) const NONE: Self = Self(0);

    /// It is that of this mark.
    pub(super) fn by(mark: u64) -> Self {
        Self(mark)
    }

    /// Whether there is none.
    fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Whether it is that of this mark.
    pub(super) fn is(self, mark: u64) -> bool {
        !self.is_none() && bool::from(self.0.ct_eq(&mark))
    }
}

/// A token that is of the dialog which its request is inside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    /// Its mark.
    pub(super) mark: u64,
    /// Where it stands in the request.
    pub(super) at: Span,
}

/// What the topmost Route of a request brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Brought {
    /// Nothing of ours, or of a key that is not known any more.
    Nothing,
    /// The token that its dialog is known by.
    Same(Carried),
    /// Another one, which says this: of which dialog of the call is not asked yet.
    Opened(RouteToken, Carried),
}

impl Brought {
    /// What it says, if it had to be opened.
    pub(super) fn opened(&self) -> Option<&RouteToken> {
        match self {
            Self::Opened(token, _) => Some(token),
            Self::Nothing | Self::Same(_) => None,
        }
    }

    /// The token itself.
    pub(super) fn carried(&self) -> Option<Carried> {
        match self {
            Self::Opened(_, carried) | Self::Same(carried) => Some(*carried),
            Self::Nothing => None,
        }
    }
}

impl Associations {
    /// What the topmost Route of a request from `side` brings; `known` is the dialog that the request is inside of.
    ///
    /// # Errors
    ///
    /// [`Refusal::TokenForged`]: rule 10.
    pub(super) fn brought(
        &self,
        message: &Message,
        side: Side,
        known: Option<&Association>,
        now: Now,
    ) -> Result<Brought, Refusal> {
        let top = message.addresses(Name::Route).next().flatten();
        let Some(user) = top.as_ref().and_then(|top| top.uri().user()) else {
            return Ok(Brought::Nothing);
        };
        let carried = |mark| Carried { mark, at: message.span_of(user) };
        if let Some(known) = known.filter(|known| !known.proved.is_none())
            && user.len() == TEXT_OCTETS
        {
            let mark = self.keyer.token(side, user);
            if known.proved.is(mark) {
                let named = self.tokens.is_named(user, now.wall);
                return Ok(if named { Brought::Same(carried(mark)) } else { Brought::Nothing });
            }
        }
        let tags = [message.from_tag(), message.to_tag()];
        let likely = former(message, side, known);
        match self.tokens.open(user, message.call_id(), tags, likely, now.wall) {
            Opened::Token(token) if token.facing == side => {
                Ok(Brought::Opened(token, carried(self.keyer.token(side, user))))
            }
            Opened::Token(_) | Opened::Forged => Err(Refusal::TokenForged),
            Opened::Unknown => Ok(Brought::Nothing),
        }
    }
}

/// Which end formed the dialog: the record says it; else who notifies likely did not.
fn former(message: &Message, side: Side, known: Option<&Association>) -> Former {
    let by_sender = match known {
        Some(association) => association.origin.caller_side == side,
        None => message.method() != Some(Method::Notify),
    };
    if by_sender { Former::From } else { Former::To }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::association::dialog::Keyer;
    use crate::testing::{Lab, LabSettings, Peer, Sent, lab::octets_of};

    const KINDS: [&str; 4] = ["nothing", "same", "opened", "forged"];

    fn alice() -> Peer {
        Peer::udp("192.0.2.10:5060")
    }

    /// Alice's call of that Call-ID, answered by an end of that tag; the Record-Route of the INVITE as the core saw it, and of its 200
    /// as she did.
    fn called(lab: &mut Lab, call: &str, tag: &str) -> [Vec<String>; 2] {
        let (uri, mut key) = ("sip:bob@example.net", lab.ue1());
        let invite = format!(
            "INVITE {uri} SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{call};rport
Max-Forwards: 70
From: <sip:alice@example.net>;tag=alice
To: <{uri}>
Call-ID: {call}
CSeq: 1 INVITE
Contact: <sip:alice@192.0.2.10:5060>
Proxy-Authorization: {}
Content-Length: 0
",
            key.credentials("INVITE", uri, b"")
        );
        let recorded = |sent: &Sent| -> Vec<String> {
            let values = sent.message.values(Name::RecordRoute);
            values.map(|value| String::from_utf8_lossy(value).into_owned()).collect()
        };
        let sent = lab.receive(&alice(), &invite);
        let seen = sent.iter().find(|sent| sent.message.is_request()).expect("to the core");
        let text = seen.text().replacen("INVITE sip:bob@example.net SIP/2.0", "SIP/2.0 200 OK", 1);
        let text =
            text.replace("<sip:bob@example.net>", &format!("<sip:bob@example.net>;tag={tag}"));
        let answer = lab.receive_octets(&Peer::core(), text);
        let answer = answer.iter().find(|sent| sent.message.status() == Some(200)).expect("200");
        [recorded(seen), recorded(answer)]
    }

    fn inside(call: &str, tags: [&str; 2], route: &str) -> Message {
        let text = format!(
            "BYE sip:bob@203.0.113.20 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKbye
From: <sip:alice@example.net>;tag={}
To: <sip:bob@example.net>;tag={}
Call-ID: {call}
CSeq: 2 BYE
Route: {route}
Content-Length: 0
",
            tags[0], tags[1]
        );
        Message::from_datagram(octets_of(&text)).expect("well formed")
    }

    /// How `message` is taken by the record `known`.
    fn taken(lab: &Lab, message: &Message, known: Option<&Association>, now: Now) -> &'static str {
        let side = if message.from_tag() == b"alice" { Side::Ue } else { Side::Core };
        let associations = &lab.shared.gate.associations;
        let place = match associations.brought(message, side, known, now) {
            Ok(Brought::Nothing) => 0,
            Ok(Brought::Same(_)) => 1,
            Ok(Brought::Opened(..)) => 2,
            Err(_) => 3,
        };
        KINDS[place]
    }

    fn held(lab: &Lab, message: &Message) -> Association {
        lab.shared.gate.associations.held(message, Side::Ue).expect("it is known")
    }

    /// V-104: what is not octet for octet the dialog's token is opened, and refused.
    #[test]
    fn the_very_same_token_alone_is_not_opened_again() {
        let mut lab = Lab::new(LabSettings::default());
        let [_, answer] = called(&mut lab, "call", "b");
        let own = answer.last().expect("ours").clone();
        let bye = inside("call", ["alice", "b"], &own);
        let known = held(&lab, &bye);
        let now = lab.now;
        assert_eq!(taken(&lab, &bye, Some(&known), now), "same", "it was made for the answer");
        assert_eq!(taken(&lab, &bye, None, now), "opened");
        let mut unmarked = known.clone();
        unmarked.proved = Proved::NONE;
        assert_eq!(taken(&lab, &bye, Some(&unmarked), now), "opened");
        // A mark of which one bit is another's.
        for bit in 0..64 {
            let mut other = known.clone();
            other.proved = Proved(known.proved.0 ^ 1 << bit);
            assert_eq!(taken(&lab, &bye, Some(&other), now), "opened", "bit {bit}");
        }
        // One character altered: the key's name is known for the first eight, and all behind it is refused.
        let start = own.find(':').expect("a URI") + 1;
        for place in start..start + TEXT_OCTETS {
            let mut altered = own.clone().into_bytes();
            altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).expect("ASCII");
            let message = inside("call", ["alice", "b"], &altered);
            let expected = if place < start + 8 { "nothing" } else { "forged" };
            assert_eq!(taken(&lab, &message, Some(&known), now), expected, "at {place}");
        }
    }

    /// Of another dialog, of another end, of a secret that the process which restarted does not have.
    #[test]
    fn a_token_of_elsewhere_is_opened_and_refused() {
        let mut lab = Lab::new(LabSettings::default());
        let [left, answer] = called(&mut lab, "call", "b");
        let [_, others] = called(&mut lab, "call2", "b");
        let (own, of_core) = (answer.last().expect("ours"), left.first().expect("ours"));
        let bye = inside("call", ["alice", "b"], own);
        let (known, now) = (held(&lab, &bye), lab.now);
        let foreign = inside("call", ["alice", "b"], others.last().expect("ours"));
        assert_eq!(taken(&lab, &foreign, Some(&known), now), "forged", "of another call");
        let core_facing = inside("call", ["alice", "b"], of_core);
        assert_eq!(taken(&lab, &core_facing, Some(&known), now), "forged", "it faces the core");
        // The core's own is opened once, and brought back by it alone.
        let back = inside("call", ["b", "alice"], of_core);
        assert_eq!(taken(&lab, &back, Some(&known), now), "opened");
        let mark = lab.shared.gate.associations.keyer.token(
            Side::Core,
            back.addresses(Name::Route)
                .flatten()
                .next()
                .expect("a Route")
                .uri()
                .user()
                .expect("it"),
        );
        let mut proved = known.clone();
        proved.proved = Proved::by(mark);
        assert_eq!(taken(&lab, &back, Some(&proved), now), "same");
        assert_eq!(taken(&lab, &core_facing, Some(&proved), now), "forged", "from the UE still");
        let stolen = inside("call", ["b", "alice"], own);
        assert_eq!(taken(&lab, &stolen, Some(&proved), now), "forged", "the UE's, by the core");
        // After a restart nothing is known of it but what it says.
        lab.restart(LabSettings::default());
        assert!(lab.shared.gate.associations.held(&bye, Side::Ue).is_none());
        assert_eq!(taken(&lab, &bye, None, now), "opened");
        let keyers = [[1; 16], [2; 16]].map(|key| Keyer::new(key).token(Side::Ue, own.as_bytes()));
        assert_ne!(keyers[0], keyers[1], "a mark of one process is none of the next");
    }

    /// SEC-003: a token whose key is not taken any more is as good as none, whether it was seen before or not.
    #[test]
    fn the_mark_of_a_token_does_not_outlive_its_key() {
        let mut lab = Lab::new(LabSettings::default());
        let [_, answer] = called(&mut lab, "call", "b");
        let bye = inside("call", ["alice", "b"], answer.last().expect("ours"));
        let known = held(&lab, &bye);
        let at = |seconds: u64| lab.now + Duration::from_secs(seconds);
        assert_eq!(taken(&lab, &bye, Some(&known), at(86_400)), "same");
        assert_eq!(taken(&lab, &bye, Some(&known), at(2 * 86_400)), "nothing", "its day is over");
        let until = at(60).wall;
        assert!(lab.shared.gate.associations.replace_secret(&[9; 32], until));
        for (seconds, expected) in [(0, "same"), (59, "same"), (60, "nothing"), (61, "nothing")] {
            assert_eq!(taken(&lab, &bye, Some(&known), at(seconds)), expected, "{seconds} s");
        }
        let [_, answer] = called(&mut lab, "call2", "b");
        let bye = inside("call2", ["alice", "b"], answer.last().expect("ours"));
        let known = held(&lab, &bye);
        assert_eq!(taken(&lab, &bye, Some(&known), lab.now + Duration::from_secs(61)), "same");
    }
}
