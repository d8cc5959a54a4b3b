//! RFC 3329: a phone and the edge agree on what protects their requests, and notice who talks them down.

use sipward::authentication::sec_agree::Mode;
use sipward::client::agent::Failure;
use sipward::client::agreement::Protection;
use sipward::client::answer::Unanswerable;
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer};

use crate::phone::{Phone, with_account};
use crate::scene::lines;

const LIST: &str = "tls;q=0.5, digest;d-alg=MD5;d-qop=auth-int;q=0.1";
const CONTACT: &str = "Contact: <sip:alice@192.0.2.10:5060>;expires=600\n";

fn edge(mode: Mode) -> Lab {
    Lab::new(with_account(LabSettings::default()).agreeing(mode))
}

fn unaltered(text: String) -> String {
    text
}

#[test]
fn a_phone_agrees_with_its_first_hop_over_udp_and_over_tls() {
    for mode in [Mode::Accept, Mode::Require] {
        for (peer, agreed) in [
            (Peer::udp("192.0.2.10:5060"), "digest"),
            (Peer::tcp("192.0.2.10:40000", 1), "digest"),
            (Peer::tls("192.0.2.10:40000", 1), "tls"),
        ] {
            let mut lab = edge(mode);
            let mut phone = Phone::new(peer, true, "a");
            for (method, status) in [("REGISTER", 200), ("MESSAGE", 200), ("OPTIONS", 200)] {
                let draft = phone.draft(method);
                let answer = phone.ask(&mut lab, draft, CONTACT, unaltered).expect("an answer");
                assert_eq!(answer.status(), Some(status), "{method} {mode:?} {agreed}");
            }
            let made = phone.agent.answerer().agreed_on();
            assert_eq!(made.map(Protection::as_str), Some(agreed), "{mode:?}");
            let (first, others) = phone.sent.split_first().expect("it sent something");
            assert_eq!(lines(first, "Security-Client: ").len(), 1, "{first}");
            for text in others {
                assert_eq!(lines(text, "Security-Client: "), [""; 0], "{text}");
                let [shown] = lines(text, "Security-Verify: ")[..] else { panic!("{text}") };
                let covered = shown.strip_prefix(LIST).expect("the list, as it was given");
                assert_eq!(covered.starts_with(";d-ver=\""), agreed == "digest", "{text}");
            }
            for text in &phone.sent {
                assert_eq!(lines(text, "Require: "), ["sec-agree"], "{text}");
                assert_eq!(lines(text, "Proxy-Require: "), ["sec-agree"], "{text}");
            }
        }
    }
}

#[test]
fn who_alters_the_list_on_the_way_gains_nothing() {
    for (what, from, to) in [
        ("the better one is taken away", "tls;q=0.5, digest", "digest"),
        ("preferences are changed", "q=0.5", "q=0.05"),
        ("a weak one is put in", "tls;q=0.5", "tls;q=0.5, ipsec-man;q=0.01"),
        ("the body is left out", "d-qop=auth-int", "d-qop=auth"),
    ] {
        let mut lab = edge(Mode::Require);
        let mut phone = Phone::new(Peer::udp("192.0.2.10:5060"), true, "a");
        let draft = phone.draft("REGISTER");
        let answer = phone.ask(&mut lab, draft, CONTACT, |text| match text.contains(LIST) {
            true => text.replace(LIST, &LIST.replace(from, to)),
            false => text,
        });
        let altered = Failure::Challenge(Unanswerable::Altered);
        assert_eq!(answer.err(), Some(altered), "{what}");
        assert_eq!(lab.last(), Outcome::Refused(Refusal::AgreementMismatch), "{what}: rule 12");
        assert_eq!(phone.sent.len(), 2, "{what}: it is not tried again");
        assert!(lab.shared.bindings.is_empty(), "{what}");
    }
}

#[test]
fn who_hides_the_agreement_from_the_edge_gains_nothing() {
    let mut lab = edge(Mode::Require);
    let mut phone = Phone::new(Peer::udp("192.0.2.10:5060"), false, "a");
    let draft = phone.draft("REGISTER");
    let answer = phone.ask(&mut lab, draft, CONTACT, unaltered).expect("an answer");
    assert_eq!(answer.status(), Some(421), "SA-03");
    assert_eq!(lines(&String::from_utf8_lossy(answer.octets()), "Security-Server: "), [LIST]);
}

#[test]
fn a_call_under_an_agreement_is_held_to_it_to_its_end() {
    let mut lab = edge(Mode::Require);
    let mut phone = Phone::new(Peer::udp("192.0.2.10:5060"), true, "a");
    let bob = "Contact: <sip:bob@203.0.113.20:5060>\n";
    let draft = phone.draft("INVITE");
    let call_id = draft.call_id.clone();
    let answer = phone.ask(&mut lab, draft, bob, unaltered).expect("an answer");
    assert_eq!(answer.status(), Some(200));
    let ack = phone.agent.poll_output().expect("an ACK");
    let text = String::from_utf8_lossy(&ack).into_owned();
    assert!(!text.contains("Security-"), "section 2.6: {text}");
    assert_eq!(lab.receive_octets(&phone.peer, ack).len(), 1, "SA-06: it goes on");
    let bye = phone.agent.draft_in(&call_id, "BYE").expect("a dialog");
    let bare = bye.print(phone.agent.voice(), "z9hG4bKbare", None).expect("printable");
    let sent = lab.receive_octets(&phone.peer, bare);
    assert_eq!(sent[0].message.status(), Some(494), "rule 12 comes before rule 3");
    let unknown = phone.agent.draft("BYE", "sip:bob@203.0.113.20:5060");
    let mut unknown = unknown.with("Proxy-Require", "sec-agree");
    unknown.to_tag = "nobody".into();
    let bare = unknown.print(phone.agent.voice(), "z9hG4bKother", None).expect("printable");
    let sent = lab.receive_octets(&phone.peer, bare);
    assert_eq!(sent[0].message.status(), Some(481), "and after rule 6");
    let answer = phone.ask(&mut lab, bye, bob, unaltered).expect("an answer");
    assert_eq!(answer.status(), Some(200));
}
