//! A phone that is referred, and one whose call is taken over: RFC 3515, RFC 3891 section 3.

use bytes::Bytes;
use sipward::testing::{Lab, Peer};
use sipward::wire::Message;

use crate::phone::Phone;

/// What the phone sends when this comes.
fn hears(phone: &mut Phone, lab: &Lab, text: &str) -> Vec<Message> {
    let octets = Bytes::from(format!("{}\r\n", text.replace('\n', "\r\n")));
    let message = Message::from_datagram(octets).expect("well formed");
    phone.agent.receive(message, &phone.peer.flow(), lab.now);
    let sent = std::iter::from_fn(|| phone.agent.poll_output());
    sent.map(|octets| Message::from_datagram(octets).expect("well formed")).collect()
}

fn comes(method: &str, call: &str, tags: (&str, &str), more: &str) -> String {
    let (from, to) = tags;
    let to = if to.is_empty() { String::new() } else { format!(";tag={to}") };
    let branch = format!("{call}{method}{}", more.len());
    format!(
        "{method} sip:alice@192.0.2.10 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{branch}
From: <sip:bob@example.net>;tag={from}
To: <sip:alice@example.net>{to}
Call-ID: {call}
CSeq: 1 {method}
Contact: <sip:bob@192.0.2.1>
{more}Content-Length: 0
"
    )
}

/// Alice in a call with bob, and the tag that is hers.
fn in_call(lab: &Lab) -> (Phone, String) {
    let mut phone = Phone::new(Peer::udp("192.0.2.10:5060"), false, "a");
    let sent = hears(&mut phone, lab, &comes("INVITE", "first", ("b", ""), ""));
    let statuses: Vec<_> = sent.iter().map(Message::status).collect();
    assert_eq!(statuses, [Some(180), Some(200)]);
    let tag = String::from_utf8_lossy(sent[1].to_tag()).into_owned();
    (phone, tag)
}

#[test]
fn an_invite_with_replaces_takes_the_place_of_the_call_that_it_names() {
    let lab = Lab::default();
    let (mut phone, tag) = in_call(&lab);
    for (what, named) in [
        ("no call", format!("other;to-tag={tag};from-tag=b")),
        ("another end of it", "first;to-tag=x;from-tag=b".to_owned()),
        ("another caller of it", format!("first;to-tag={tag};from-tag=xyz")),
        ("the ends changed round", format!("first;to-tag=b;from-tag={tag}")),
        ("no tags", "first".to_owned()),
    ] {
        let invite = comes("INVITE", "second", ("c", ""), &format!("Replaces: {named}\n"));
        let sent = hears(&mut phone, &lab, &invite);
        let statuses: Vec<_> = sent.iter().map(Message::status).collect();
        assert_eq!(statuses, [Some(481)], "{what}");
    }
    assert!(phone.agent.dialog("first").is_some(), "the call is unharmed");
    let named = format!("Replaces: first;to-tag={};from-tag=B\n", tag.to_uppercase());
    let sent = hears(&mut phone, &lab, &comes("INVITE", "third", ("c", ""), &named));
    let [ringing, taken, bye] = &sent[..] else { panic!("{} messages", sent.len()) };
    assert_eq!((ringing.status(), taken.status()), (Some(180), Some(200)));
    assert_eq!((bye.method_octets(), bye.call_id()), (&b"BYE"[..], &b"first"[..]));
    assert_eq!((bye.from_tag(), bye.to_tag()), (tag.as_bytes(), &b"b"[..]));
    assert!(phone.agent.dialog("first").is_none() && phone.agent.dialog("third").is_some());
}

#[test]
fn a_refer_is_taken_in_a_call_alone_and_leads_somewhere() {
    let lab = Lab::default();
    let (mut phone, tag) = in_call(&lab);
    let carol = "Refer-To: <sip:carol@example.net?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2>\n";
    for (what, call, more, status) in [
        ("outside of calls", "none", carol, 405),
        ("with a dialog that is none", "first", "Refer-To: <sip:carol@x?Replaces=x>\n", 400),
        ("to nobody", "first", "", 400),
        ("to carol", "first", carol, 202),
    ] {
        let sent = hears(&mut phone, &lab, &comes("REFER", call, ("b", &tag), more));
        let statuses: Vec<_> = sent.iter().map(Message::status).collect();
        assert_eq!(statuses, [Some(status)], "{what}");
    }
}
