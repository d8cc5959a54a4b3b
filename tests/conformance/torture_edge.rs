//! The messages of `sip-fixtures/torture` through a whole edge. Each one's `edge` is what comes of it, and `by` says
//! who sends it:
//!
//! - `nobody`: a UE without credentials; the message is as it was printed.
//! - `caller`: first as by nobody, which is challenged; then with credentials of somebody whom To and From name.
//!
//! Beside it, `rfc2543` is what comes of it from a peer group that may speak as RFC 2543 did, with a Route to a UE
//! on top; and `answer` what comes of a response whose Via, From, To, Call-ID and CSeq are those of an INVITE of
//! ours. `forward` is octets at the other side, with the body as it was; `taken` is a response that ends here; other
//! words are no answer and a challenge; a number is the status of the answer.

use std::time::Duration;

use sipward::identity::Btid;
use sipward::journey::Outcome;
use sipward::keys::{KeyAnswer, NafId, UaId};
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer, Sent, lab};
use sipward::transport::GroupId;
use sipward::wire::{Address, Fault, Message, Name};

use crate::torture::{Case, cases, read};

const UE: &str = "192.0.2.10:5060";

/// RFC 4475 section 3, RFC 5118 section 4: each message, and what a whole edge makes of it.
#[test]
fn all_61_messages_come_through_the_edge_as_they_should() {
    let cases: Vec<Case> = ["rfc4475", "rfc5118"].into_iter().flat_map(cases).collect();
    assert_eq!(cases.len(), 61);
    for case in &cases {
        match case.text("by") {
            None | Some("nobody") => {
                assert_eq!(by_nobody(case), case.verdict("edge"), "{}", case.name)
            }
            Some("caller") => {
                assert_eq!(by_nobody(case), "challenge", "{}", case.name);
                assert_eq!(by_caller(case), case.verdict("edge"), "{}", case.name);
            }
            Some(other) => panic!("{}: by {other}", case.name),
        }
    }
}

/// TX-08, RFC 3261 section 17.2.3: branches without cookie, from peers that may send them.
#[test]
fn tx_08_old_branches_of_peers_that_may_send_them() {
    let cases = cases("rfc4475");
    let old = cases.iter().filter(|case| case.has("rfc2543")).map(|case| {
        assert_eq!(from_core(case, false), "400", "{}", case.name);
        assert_eq!(from_core(case, true), case.verdict("rfc2543"), "{}", case.name);
    });
    assert_eq!(old.count(), 3);
}

/// RFC 4475 sections 3.1.1.13, 3.1.2.19 and 3.3.10: responses, where they answer something.
#[test]
fn responses_that_answer_something() {
    let cases = cases("rfc4475");
    let responses = cases.iter().filter(|case| case.has("answer")).map(|case| {
        assert_eq!(answering(case), case.verdict("answer"), "{}", case.name);
    });
    assert_eq!(responses.count(), 3);
}

fn edge(rfc2543: bool) -> Lab {
    let mut settings = LabSettings::default();
    // Routes past the core are another matter; these messages are full of them.
    settings.forward.route_check = false;
    settings.forward.rfc2543.extend(rfc2543.then_some(GroupId(0)));
    Lab::new(settings)
}

fn by_nobody(case: &Case) -> String {
    let mut lab = edge(false);
    let sent = lab.receive_octets(&Peer::udp(UE), case.octets.clone());
    verdict(case, &lab, &sent)
}

fn by_caller(case: &Case) -> String {
    let mut lab = edge(false);
    let message = read(&case.octets).expect("what is signed was read");
    let named = [Name::From, Name::To].map(|name| {
        let uri = message.first(name).and_then(Address::parse).expect("an address").uri();
        String::from_utf8_lossy(uri.octets()).into_owned()
    });
    let identities = named.iter().map(String::as_str).collect::<Vec<_>>();
    let until = lab.now + Duration::from_secs(3600);
    let key = lab::lab_key(lab::UE1_PASSWORD, "ue1@ims.example.net", &identities, until);
    let btid = Btid::new(lab::UE1_BTID).expect("a B-TID");
    let naf = NafId::new(lab::EDGE, UaId::SIP_DIGEST);
    lab.keys.put(btid, naf, KeyAnswer::Known(std::sync::Arc::new(key)));
    let method = String::from_utf8_lossy(message.method_octets()).into_owned();
    let uri = String::from_utf8_lossy(message.request_uri()).into_owned();
    let row = format!("Proxy-Authorization: {}", lab.ue1().credentials(&method, &uri, b""));
    let sent = lab.receive_octets(&Peer::udp(UE), with_row(&message, &row));
    verdict(case, &lab, &sent)
}

fn from_core(case: &Case, rfc2543: bool) -> String {
    let mut lab = edge(rfc2543);
    let ue = Peer::udp(UE);
    let credentials = lab.ue1().credentials("REGISTER", "sip:example.net", b"");
    let register = format!(
        "REGISTER sip:example.net SIP/2.0
Via: SIP/2.0/UDP {UE};branch=z9hG4bKregister
From: <sip:alice@example.net>;tag=1
To: <sip:alice@example.net>
Call-ID: register
CSeq: 1 REGISTER
Contact: <sip:alice@{UE}>
Proxy-Authorization: {credentials}
Content-Length: 0
"
    );
    let sent = lab.receive(&ue, &register);
    let path = sent.first().and_then(|sent| sent.message.first(Name::Path)).expect("a Path");
    let row = format!("Route: {}", String::from_utf8_lossy(path));
    let message = read(&case.octets).expect("what is routed was read");
    let octets = with_row(&message, &row);
    let sent = lab.receive_octets(&Peer::core(), octets.clone());
    let first = verdict(case, &lab, &sent);
    if first == "forward" {
        let again = lab.receive_octets(&Peer::core(), octets);
        assert_eq!(lab.last(), Outcome::Absorbed, "{}: the same again", case.name);
        assert!(again.iter().all(|sent| sent.message.status() == Some(100)), "{}", case.name);
    }
    first
}

fn answering(case: &Case) -> String {
    let mut lab = edge(false);
    let credentials = lab.ue1().credentials("INVITE", "sip:bob@example.net", b"");
    let invite = format!(
        "INVITE sip:bob@example.net SIP/2.0
Via: SIP/2.0/UDP {UE};branch=z9hG4bKinvite
From: <sip:alice@example.net>;tag=1
To: <sip:bob@example.net>
Call-ID: invite
CSeq: 1 INVITE
Contact: <sip:alice@{UE}>
Proxy-Authorization: {credentials}
Content-Length: 0
"
    );
    let sent = lab.receive(&Peer::udp(UE), &invite);
    let invite = sent.iter().find(|sent| sent.message.is_request()).expect("it went to the core");
    let ours = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let is_ours = |line: &&str| ours.iter().any(|name| line.starts_with(name));
    let asked = invite.text();
    let asked: Vec<&str> = asked.lines().filter(is_ours).collect();
    let head = case.octets.windows(4).position(|four| four == b"\r\n\r\n").expect("a blank line");
    let (head, body) = case.octets.split_at(head);
    let head = std::str::from_utf8(head).expect("UTF-8");
    let (start, rows) = head.split_once("\r\n").expect("rows");
    let kept: Vec<&str> = rows.lines().filter(|line| !is_ours(line)).collect();
    let head = [&[start], &asked[..], &kept[..]].concat().join("\r\n");
    let octets = [
        head.replace("To: <sip:bob@example.net>", "To: <sip:bob@example.net>;tag=b").as_bytes(),
        body,
    ]
    .concat();
    let sent = lab.receive_octets(&Peer::core(), octets);
    assert_eq!(lab.last(), Outcome::Forwarded, "{}", case.name);
    let Some(sent) = sent.first() else { return "taken".into() };
    assert!(sent.message.octets().starts_with(start.as_bytes()), "{}: its first line", case.name);
    assert!(sent.message.octets().ends_with(body), "{}: its body", case.name);
    "forward".into()
}

/// The message with one more row, on top.
fn with_row(message: &Message, row: &str) -> Vec<u8> {
    let (start, rest) = message.octets().split_at(message.head_start());
    [start, row.as_bytes(), b"\r\n", rest].concat()
}

/// What was decided last, and seen by whoever it was meant for.
fn verdict(case: &Case, lab: &Lab, sent: &[Sent]) -> String {
    let name = &case.name;
    let status = sent.first().and_then(|sent| sent.message.status());
    match lab.last() {
        Outcome::Forwarded => {
            let there = sent.iter().find(|sent| sent.message.is_request());
            let there = &there.unwrap_or_else(|| panic!("{name}: nothing went on")).message;
            let came = read(&case.octets).expect("what goes on was read");
            assert_eq!(there.body(), came.body(), "{name}: its body");
            assert_eq!(there.request_uri(), came.request_uri(), "{name}: its Request-URI");
            assert!(read(there.octets()).is_ok(), "{name}: what goes on is a message");
            "forward".into()
        }
        Outcome::Refused(Refusal::CredentialsMissing) => {
            assert_eq!(status, Some(407), "{name}");
            "challenge".into()
        }
        Outcome::Refused(refusal) => {
            let unsupported =
                sent.first().map_or(0, |s| s.message.values(Name::Unsupported).count());
            assert_eq!(unsupported > 0, refusal == Refusal::ExtensionUnsupported, "{name}");
            status.unwrap_or_else(|| panic!("{name}: {refusal:?} without an answer")).to_string()
        }
        Outcome::Answered => status.expect("an answer").to_string(),
        Outcome::Dropped(Refusal::Malformed(fault)) if !case.flag("answered", true) => {
            assert!(sent.is_empty(), "{name}");
            fault.status().to_string()
        }
        Outcome::Dropped(_) => {
            assert!(sent.is_empty(), "{name}");
            "drop".into()
        }
        other => panic!("{name}: {other:?}"),
    }
}

/// TX-08: the second procedure of RFC 3261 section 17.2.3 through a whole edge: what comes again is absorbed, a
/// CANCEL and an ACK find their INVITE, and an ACK with another To tag does not.
#[test]
fn tx_08_the_second_procedure_finds_invite_cancel_and_ack() {
    let mut lab = edge(true);
    let (ue, core) = (Peer::udp(UE), Peer::core());
    let credentials = lab.ue1().credentials("REGISTER", "sip:example.net", b"");
    let text = |method: &str, number: u32, to_tag: &str, more: &str| {
        format!(
            "{method} sip:alice@{UE} SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060
From: <sip:old@example.net>
To: <sip:alice@example.net>{to_tag}
Call-ID: old
CSeq: {number} {method}
{more}Content-Length: 0
"
        )
    };
    let register = text("REGISTER", 1, "", &format!("Proxy-Authorization: {credentials}\n"))
        .replace(&format!("sip:alice@{UE} "), "sip:example.net ")
        .replace("UDP 203.0.113.10:5060", "UDP 192.0.2.10:5060;branch=z9hG4bKregister")
        .replace("<sip:old@example.net>", "<sip:alice@example.net>;tag=1");
    let sent = lab.receive(&ue, &register);
    let path = sent.first().and_then(|sent| sent.message.first(Name::Path)).expect("a Path");
    let route = format!("Route: {}\n", String::from_utf8_lossy(path));

    let sent = lab.receive(&core, &text("INVITE", 1, "", &route));
    let [trying, invite] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(trying.message.status(), Some(100));
    assert_eq!(invite.to, ue.flow().remote);
    lab.receive(&core, &text("INVITE", 1, "", &route));
    assert_eq!(lab.last(), Outcome::Absorbed);

    let answer = |status: u16, of: &Sent| {
        let text = of.text();
        let rows = text.lines().filter(|line| {
            ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"]
                .iter()
                .any(|n| line.starts_with(n))
        });
        let rows = rows.collect::<Vec<_>>().join("\n");
        format!(
            "SIP/2.0 {status} X\n{rows}\nTo: <sip:alice@example.net>;tag=a\nContent-Length: 0\n"
        )
    };
    lab.receive(&ue, &answer(180, invite));
    let sent = lab.receive(&core, &text("CANCEL", 1, "", &route));
    let cancel = sent.iter().find(|sent| sent.message.is_request()).expect("it was cancelled");
    assert!(cancel.text().starts_with("CANCEL "));
    let sent = lab.receive(&ue, &answer(487, invite));
    assert!(
        sent.iter().any(|sent| sent.message.status() == Some(487) && sent.to == core.flow().remote)
    );

    let repeated = |lab: &mut Lab| {
        let sent = lab.advance(Duration::from_secs(4));
        sent.iter().any(|sent| sent.message.status() == Some(487))
    };
    lab.receive(&core, &text("ACK", 1, ";tag=other", &route));
    assert_eq!(lab.last(), Outcome::Dropped(Refusal::AckUnmatched), "another To tag");
    assert!(repeated(&mut lab), "the 487 is repeated");
    lab.receive(&core, &text("ACK", 1, ";tag=a", &route));
    assert_eq!(lab.last(), Outcome::Absorbed);
    assert!(!repeated(&mut lab), "the 487 was acknowledged");

    let stray = lab.receive(&ue, &text("OPTIONS", 7, "", ""));
    assert_eq!(stray[0].message.status(), Some(400), "a UE is in no such group");
    assert_eq!(lab.last(), Outcome::Refused(Refusal::Malformed(Fault::BranchOld)));
}
