//! What an operator may change while calls are up, and what too much work does to whom.

use std::sync::Arc;
use std::time::Duration;

use sipward::admission::{self, Load, Rate, Strain};
use sipward::association;
use sipward::enabler::{Policies, sip::Sip};
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, Peer};

use crate::scene::{call, in_dialog, request, status_to, to_core};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@203.0.113.20:5060";

#[test]
fn other_settings_take_hold_at_once_and_the_call_goes_on() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let before = format!("{:?}", lab.shared.gate.associations.snapshot());

    let one = association::Settings { max_per_caller: 1, ..association::Settings::default() };
    lab.shared.gate.associations.replace_settings(one);
    let another = request("INVITE", "sip:bob@example.net", "alice", "more", 1, Some(&mut key));
    assert_eq!(status_to(&lab.receive(&alice, &another), &alice), Some(503));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::TableFull), "association.max_per_caller");
    assert_eq!(format!("{:?}", lab.shared.gate.associations.snapshot()), before, "dialogs stay");

    let (rogue, mut own) = (Peer::udp("192.0.2.66:5060"), lab.ue2());
    let mut hang_up = |lab: &mut Lab, cseq| {
        let bye = in_dialog("BYE", BOB, "alice", "b", "call", cseq, Some(&mut own), "");
        lab.receive(&rogue, &bye);
        lab.last()
    };
    assert_eq!(hang_up(&mut lab, 9), Outcome::Refused(Refusal::AssociationMismatch));
    let observe = association::Settings { observe: true, ..association::Settings::default() };
    lab.shared.gate.associations.replace_settings(observe);
    assert_eq!(hang_up(&mut lab, 10), Outcome::Forwarded, "association.mode = \"observe\"");

    let mut sip = Sip::default();
    sip.demands.secure = true;
    let policies = Policies { sip: Arc::new(sip), ..Policies::default() };
    lab.shared.gate.enablers.replace_policies(policies);
    let text = request("MESSAGE", "sip:bob@example.net", "alice", "m", 1, Some(&mut key));
    lab.receive(&alice, &text);
    assert_eq!(lab.last(), Outcome::Refused(Refusal::SecureRequired), "enabler.sip.secure");

    let slow = admission::Settings { flow_rate: Rate::per_minute(1), ..Default::default() };
    lab.shared.gate.admission.replace_settings(slow);
    lab.receive(&alice, &text);
    assert_eq!(lab.last(), Outcome::Dropped(Refusal::SourceLimited), "admission.flow_rate");
    lab.shared.gate.admission.replace_settings(admission::Settings::default());
    let late = in_dialog("INFO", BOB, "alice", "b", "call", 11, Some(&mut key), "");
    to_core(&lab.receive(&alice, &late));
}

#[test]
fn v_92_over_capacity_strangers_go_first_then_new_dialogs_and_calls_stay() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let mut strain = Strain::default();
    // One worker, so far behind for so many samples.
    let mut lags = |lab: &mut Lab, millis, samples| {
        for _ in 0..samples {
            lab.advance(Duration::from_millis(100));
            let node = lab.shared.gate.admission.overload();
            strain.sample(Duration::from_millis(millis), lab.now.mono, node);
        }
        lab.shared.gate.admission.overload().load()
    };
    let stranger = Peer::udp("192.0.2.66:5060");
    let bare = |call: &str| request("MESSAGE", "sip:bob@example.net", "bob", call, 1, None);

    assert_eq!(lags(&mut lab, 0, 10), Load::Normal);
    assert_eq!(status_to(&lab.receive(&stranger, &bare("s1")), &stranger), Some(407));

    assert_eq!(lags(&mut lab, 150, 4), Load::High);
    assert!(lab.receive(&stranger, &bare("s2")).is_empty(), "V-92: what proves nothing goes first");
    assert_eq!(lab.last(), Outcome::Dropped(Refusal::Overloaded));
    let stream = Peer::tcp("192.0.2.66:40000", 7);
    let told = lab.receive(&stream, &bare("s5").replace("SIP/2.0/UDP", "SIP/2.0/TCP"));
    assert_eq!(status_to(&told, &stream), Some(503), "nobody sends it again on a stream");
    assert_eq!(lab.last(), Outcome::Refused(Refusal::NoTime));
    let invite = request("INVITE", "sip:bob@example.net", "alice", "c2", 1, Some(&mut key));
    to_core(&lab.receive(&alice, &invite));

    assert_eq!(lags(&mut lab, 400, 4), Load::Severe);
    assert!(lab.receive(&stranger, &bare("s3")).is_empty());
    for (method, uri) in [("INVITE", "sip:bob@example.net"), ("REGISTER", "sip:example.net")] {
        let text = request(method, uri, "alice", method, 1, Some(&mut key));
        let sent = lab.receive(&alice, &text);
        assert_eq!(status_to(&sent, &alice), Some(503), "V-92: then {method}");
        assert!(sent[0].text().contains("\r\nRetry-After: "), "{}", sent[0].text());
        assert_eq!(lab.last(), Outcome::Refused(Refusal::NoTime));
    }
    let cancel = invite.replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL");
    assert_eq!(status_to(&lab.receive(&alice, &cancel), &alice), Some(200), "V-92: no more work");
    for (cseq, method) in [(2, "INFO"), (3, "BYE")] {
        let text = in_dialog(method, BOB, "alice", "b", "call", cseq, Some(&mut key), "");
        to_core(&lab.receive(&alice, &text));
        assert_eq!(lab.last(), Outcome::Forwarded, "V-92: {method} inside a dialog is served");
    }

    assert_eq!(lags(&mut lab, 0, 11), Load::High, "one level at a time");
    assert_eq!(lags(&mut lab, 0, 11), Load::Normal);
    assert_eq!(status_to(&lab.receive(&stranger, &bare("s4")), &stranger), Some(407));
    let again = request("INVITE", "sip:bob@example.net", "alice", "c3", 1, Some(&mut key));
    to_core(&lab.receive(&alice, &again));
}

#[test]
fn v_150_a_node_about_to_end_begins_nothing_and_goes_on_with_what_is_under_way() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let pending = request("INVITE", "sip:bob@example.net", "alice", "c2", 1, Some(&mut key));
    to_core(&lab.receive(&alice, &pending));
    lab.shared.gate.admission.overload().drain();
    for (method, uri) in [
        ("INVITE", "sip:bob@example.net"),
        ("MESSAGE", "sip:bob@example.net"),
        ("REGISTER", "sip:example.net"),
    ] {
        let text = request(method, uri, "alice", method, 1, Some(&mut key));
        let sent = lab.receive(&alice, &text);
        assert_eq!(status_to(&sent, &alice), Some(503), "{method}");
        assert!(sent[0].text().contains("\r\nRetry-After: "), "{}", sent[0].text());
        assert_eq!(lab.last(), Outcome::Refused(Refusal::NoTime));
    }
    let cancel = pending.replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL");
    assert_eq!(status_to(&lab.receive(&alice, &cancel), &alice), Some(200));
    for (cseq, method) in [(2, "INFO"), (3, "BYE")] {
        let text = in_dialog(method, BOB, "alice", "b", "call", cseq, Some(&mut key), "");
        to_core(&lab.receive(&alice, &text));
        assert_eq!(lab.last(), Outcome::Forwarded, "{method} inside a dialog is served");
    }
}
