//! Stage 5: the proofs of `dialog-association` section 18, each row a test of its name.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sipward::association::State;
use sipward::authentication::{Caller, Kind};
use sipward::identity::{Btid, Principal, Proof};
use sipward::journey::Outcome;
use sipward::keys::{KeyAnswer, NafId, UaId};
use sipward::refusal::Refusal;
use sipward::testing::lab::{EDGE, GBA_REALM, UE1_BTID, lab_key};
use sipward::testing::{Lab, LabSettings, Peer, Signer};

use crate::keys::{HOUR, bootstrapped, bye, info, rule, state};
use crate::scene::{
    call, called, from_bob, in_dialog, register, request, respond, route_of, status_to, to_core,
};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@203.0.113.20:5060";

#[test]
fn ue_over_tls_with_gba_digest_calls_hangs_up_on_the_same_connection_without_credentials() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::tls("192.0.2.10:40000", 1), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 2, None, "");
    to_core(&lab.receive(&alice, &bye));
    assert_eq!(lab.decisions.last().map(|d| d.rule), Some(1));
}

#[test]
fn same_over_udp() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);

    let ack = in_dialog("ACK", BOB, "alice", "b", "call", 1, None, "");
    to_core(&lab.receive(&alice, &ack));

    let bare = in_dialog("BYE", BOB, "alice", "b", "call", 2, None, "");
    assert_eq!(status_to(&lab.receive(&alice, &bare), &alice), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::CredentialsMissing));

    let signed = in_dialog("BYE", BOB, "alice", "b", "call", 3, Some(&mut key), "");
    let sent = lab.receive(&alice, &signed);
    let bye = to_core(&sent).clone();
    assert_eq!(lab.decisions.last().map(|d| d.rule), Some(1));
    let back = lab.receive(&Peer::core(), &respond(&bye, 200, "b", ""));
    assert_eq!(status_to(&back, &alice), Some(200));

    let late = in_dialog("INFO", BOB, "alice", "b", "call", 4, Some(&mut key), "");
    assert_eq!(status_to(&lab.receive(&alice, &late), &alice), Some(481));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogEnded), "rule 31");
}

/// V-60, V-110: who knows the ids of a call has nothing.
#[test]
fn stranger_with_valid_account_sends_bye_with_right_call_id_and_tags() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let before = lab.shared.gate.associations.snapshot();

    let (rogue, mut own) = (Peer::udp("192.0.2.66:5060"), lab.ue2());
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 9, Some(&mut own), "");
    assert_eq!(status_to(&lab.receive(&rogue, &bye), &rogue), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::AssociationMismatch), "rule 4");

    let on_tls = Peer::tls("192.0.2.66:40000", 6);
    let text = request("MESSAGE", "sip:bob@example.net", "bob", "own", 1, Some(&mut own));
    to_core(&lab.receive(&on_tls, &text));
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 10, None, "");
    assert_eq!(status_to(&lab.receive(&on_tls, &bye), &on_tls), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::FlowMismatch), "rule 5");

    let after = lab.shared.gate.associations.snapshot();
    assert_eq!(format!("{before:?}"), format!("{after:?}"), "nothing changed");
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 2, Some(&mut key), "");
    to_core(&lab.receive(&alice, &bye));
}

#[test]
fn same_stranger_on_his_own_mtls_flow_no_credentials() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let before = format!("{:?}", lab.shared.gate.associations.snapshot());
    let mallory = Caller {
        rights: Default::default(),
        principal: Principal::new(Proof::UserCertificate, "sip:mallory@example.net"),
        renewal: Default::default(),
        identities: Arc::from([]),
        key_name: "sip:mallory@example.net".into(),
        expires: None,
        strongest: Default::default(),
    };
    let rogue = Peer::tls("192.0.2.66:40000", 6).proved(Arc::new(mallory));
    assert_eq!(status_to(&lab.receive(&rogue, &bye(9, None)), &rogue), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::FlowMismatch), "rule 5");
    assert_eq!(before, format!("{:?}", lab.shared.gate.associations.snapshot()));
    to_core(&lab.receive(&alice, &bye(2, Some(&mut key))));
}

/// V-113.
#[test]
fn spoofed_source_no_credentials_1000_byes() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let before = format!("{:?}", lab.shared.gate.associations.snapshot());
    let rogue = Peer::udp("198.18.0.66:5060");
    let mut answers = 0;
    for cseq in 0..1000 {
        let bye = in_dialog("BYE", BOB, "alice", "b", "call", 1000 + cseq, None, "");
        let sent = lab.receive(&rogue, &bye);
        for answer in &sent {
            assert_eq!((answer.to, answer.message.status()), (rogue.flow().remote, Some(407)));
            let asked = sipward::testing::lab::octets_of(&bye).len();
            assert!(answer.message.octets().len() <= 2 * asked, "V-66");
        }
        answers += sent.len();
    }
    assert_eq!(answers, 20, "and then silence");
    assert_eq!(lab.last(), Outcome::Dropped(Refusal::CredentialsMissing));
    assert_eq!(before, format!("{:?}", lab.shared.gate.associations.snapshot()));
}

/// V-63.
#[test]
fn forged_200_to_invite_from_another_port() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
    let sent = lab.receive(&alice, &text);
    let invite = to_core(&sent).clone();
    let forged = respond(&invite, 200, "evil", "Contact: <sip:evil@192.0.2.66>\n");
    for rogue in [Peer::stray("203.0.113.66:5060"), Peer::udp("192.0.2.66:5060")] {
        assert!(lab.receive(&rogue, &forged).is_empty());
        assert_eq!(lab.last(), Outcome::Dropped(Refusal::ResponseAstray), "rule 16");
    }
    let guessed = forged.replacen("branch=z9hG4bK00", "branch=z9hG4bK0000", 1);
    assert!(lab.receive(&Peer::core(), &guessed).is_empty(), "a guessed branch");
    assert_eq!(lab.last(), Outcome::Dropped(Refusal::ResponseAstray));
    let branch = invite.message.top_via().expect("ours").branch().to_vec();
    assert!(branch.len() >= "z9hG4bK".len() + 32, "128 bits: {}", branch.escape_ascii());
    let back = lab
        .receive(&Peer::core(), &respond(&invite, 200, "b", "Contact: <sip:bob@203.0.113.20>\n"));
    assert_eq!(status_to(&back, &alice), Some(200));

    // The same of an INVITE that went to a UE: another port of his address is another flow.
    let mut lab = Lab::default();
    let mut key = lab.ue1();
    let seen = register(&mut lab, &alice, "alice", &mut key).text();
    let path = seen.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path");
    let text = from_bob("INVITE", 1)
        .replace(";tag=alice", "")
        .replace("<sip:edge.example.net:5060;lr>", path)
        .replace("Content-Length", "Contact: <sip:bob@203.0.113.20:5060>\nContent-Length");
    let core = Peer::core();
    let sent = lab.receive(&core, &text);
    let rings = sent.iter().find(|sent| sent.to == alice.flow().remote).expect("on").clone();
    let answer = "Contact: <sip:alice@192.0.2.66>\nContent-Type: application/sdp\n";
    for rogue in ["192.0.2.10:5061", "192.0.2.66:5060"].map(Peer::udp) {
        assert!(lab.receive(&rogue, &respond(&rings, 200, "evil", answer)).is_empty());
        assert_eq!(lab.last(), Outcome::Dropped(Refusal::ResponseAstray), "rule 16");
    }
    let busy = respond(&rings, 486, "alice", "");
    assert_eq!(status_to(&lab.receive(&alice, &busy), &core), Some(486));
    lab.advance(Duration::from_secs(40));
    assert!(lab.receive(&alice, &busy).is_empty(), "that transaction is over: RFC 6026");
    assert_eq!(lab.last(), Outcome::Dropped(Refusal::ResponseAstray));
}

/// V-61.
#[test]
fn cancel_from_another_flow_with_the_right_branch_from_the_right_flow() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
    let sent = lab.receive(&alice, &text);
    let invite = to_core(&sent).clone();
    lab.receive(&Peer::core(), &respond(&invite, 180, "b", ""));

    let cancel = request("CANCEL", "sip:bob@example.net", "alice", "call", 1, None)
        .replace("z9hG4bKcallCANCEL1", "z9hG4bKcallINVITE1");
    for (what, text, peer) in [
        ("another branch", cancel.replace("INVITE1;rport", "INVITE2;rport"), &alice),
        ("another Call-ID", cancel.replace("Call-ID: call", "Call-ID: other"), &alice),
        ("another From tag", cancel.replace(";tag=alice", ";tag=other"), &alice),
        ("another CSeq", cancel.replace("CSeq: 1 ", "CSeq: 2 "), &alice),
        ("another flow", cancel.clone(), &Peer::udp("192.0.2.66:5060")),
    ] {
        assert_eq!(status_to(&lab.receive(peer, &text), peer), Some(481), "{what}");
        assert_eq!(lab.last(), Outcome::Refused(Refusal::CancelUnmatched), "{what}: rule 15");
    }

    let sent = lab.receive(&alice, &cancel);
    assert_eq!(status_to(&sent, &alice), Some(200));
    let down = to_core(&sent).clone();
    assert!(down.text().starts_with("CANCEL "));
    assert!(
        lab.receive(&alice, &cancel).iter().all(|sent| sent.message.status() == Some(200)),
        "again"
    );
    lab.receive(&Peer::core(), &respond(&down, 200, "b", ""));
    let back = lab.receive(&Peer::core(), &respond(&invite, 487, "b", ""));
    assert_eq!(status_to(&back, &alice), Some(487));
    assert!(lab.shared.gate.associations.snapshot().iter().all(|a| a.state.as_str() == "released"));
}

/// V-71.
#[test]
fn three_forks_prack_with_the_tags_of_another_fork_update_on_a_lost_fork_after_2xx_and_64_t1() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
    let invite = to_core(&lab.receive(&alice, &text)).clone();
    let at = |tag: &str| format!("RSeq: 1\nContact: <sip:bob@203.0.113.20:5060>;fork={tag}\n");
    for tag in ["b1", "b2", "b3"] {
        lab.receive(&Peer::core(), &respond(&invite, 183, tag, &at(tag)));
    }
    let inside = |method: &str, tag: &str, number: u32, key: &mut Signer| {
        in_dialog(method, BOB, "alice", tag, "call", number, Some(key), "RAck: 1 1 INVITE\n")
    };
    let prack = inside("PRACK", "b2", 2, &mut key);
    to_core(&lab.receive(&alice, &prack));
    let prack = inside("PRACK", "b4", 3, &mut key);
    assert_eq!(status_to(&lab.receive(&alice, &prack), &alice), Some(481), "no such fork");
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogUnknown));
    // Bob's end of the third fork may end itself; the others ring on.
    lab.receive(&Peer::core(), &respond(&invite, 199, "b3", ""));
    let update = inside("UPDATE", "b3", 4, &mut key);
    assert_eq!(status_to(&lab.receive(&alice, &update), &alice), Some(481));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogEnded), "rule 31, by 199");
    // What acknowledges one fork under the tag of one that is over reaches neither.
    let prack = inside("PRACK", "b3", 5, &mut key);
    assert_eq!(status_to(&lab.receive(&alice, &prack), &alice), Some(481));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogEnded), "rule 31");
    let prack = inside("PRACK", "b1", 6, &mut key);
    to_core(&lab.receive(&alice, &prack));

    lab.receive(&Peer::core(), &respond(&invite, 200, "b2", &at("b2")));
    let other_tags = from_bob("BYE", 1).replace("tag=b", "tag=b1");
    assert_eq!(status_to(&lab.receive(&Peer::core(), &other_tags), &Peer::core()), Some(481));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::MethodUnfit), "rule 30: the callee, early");
    lab.advance(Duration::from_secs(32));
    let update = inside("UPDATE", "b1", 7, &mut key);
    assert_eq!(status_to(&lab.receive(&alice, &update), &alice), Some(481), "a lost fork");
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogEnded), "rule 31");
    let update = inside("UPDATE", "b2", 8, &mut key);
    to_core(&lab.receive(&alice, &update));
}

/// V-108.
#[test]
fn notify_before_200_notify_from_a_second_notifier_notify_33_s_later() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let event = "Event: presence\nExpires: 600\n";
    let uri = "sip:bob@example.net";
    let text = in_dialog("SUBSCRIBE", uri, "alice", "", "call", 1, Some(&mut key), event);
    let subscribe = to_core(&lab.receive(&alice, &text)).clone();
    // A notifier's route set is the Record-Route of the SUBSCRIBE, tokens and all.
    let recorded = subscribe.text();
    let route = recorded.lines().filter_map(|line| line.strip_prefix("Record-"));
    let route: String = route.map(|line| format!("{line}\n")).collect();
    let notify = |tag: &str| {
        let rows = "Event: presence\nSubscription-State: active;expires=600\nContent-Length";
        let text = from_bob("NOTIFY", 1).replace("Content-Length", &format!("{route}{rows}"));
        text.replace("tag=b", &format!("tag={tag}")).replace("bKcore", &format!("bK{tag}"))
    };
    for tag in ["n1", "n2"] {
        let sent = lab.receive(&Peer::core(), &notify(tag));
        assert_eq!(sent.last().map(|sent| sent.to), Some(alice.flow().remote), "{tag}");
        assert_eq!(rule(&lab), 25, "{tag}");
    }
    lab.receive(&Peer::core(), &respond(&subscribe, 200, "n1", "Expires: 600\n"));
    lab.advance(Duration::from_secs(33));
    let core = Peer::core();
    assert_eq!(status_to(&lab.receive(&core, &notify("n3")), &core), Some(481));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogUnknown));
    let again = notify("n2").replace("CSeq: 1", "CSeq: 2").replace("bKn2", "bKn2b");
    lab.receive(&core, &again);
    assert_eq!((lab.last(), rule(&lab)), (Outcome::Forwarded, 1), "who was in time goes on");
}

/// V-104.
#[test]
fn route_token_of_call_a_put_into_call_b() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let invite = call(&mut lab, &alice, &mut key);
    let text = request("INVITE", "sip:bob@example.net", "alice", "second", 1, Some(&mut key));
    let second = to_core(&lab.receive(&alice, &text)).clone();
    lab.receive(&Peer::core(), &respond(&second, 200, "b", "Contact: <sip:bob@203.0.113.20>\n"));
    let route = route_of(&invite);
    let bye = in_dialog("BYE", BOB, "alice", "b", "second", 2, Some(&mut key), &route);
    assert_eq!(status_to(&lab.receive(&alice, &bye), &alice), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::TokenForged), "rule 10");
    let ack = in_dialog("ACK", BOB, "alice", "b", "second", 1, None, &route);
    assert!(lab.receive(&alice, &ack).is_empty(), "never answered");
    let bye = in_dialog("BYE", BOB, "alice", "b", "second", 3, Some(&mut key), &route_of(&second));
    to_core(&lab.receive(&alice, &bye));
}

/// V-112.
#[test]
fn ks_naf_expires_in_a_call_ue_makes_a_new_b_tid_another_ue_with_its_own_b_tid_tries() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    lab.advance(Duration::from_secs(2599));
    let mut key = lab.ue1();
    to_core(&lab.receive(&alice, &info(2, Some(&mut key))));
    lab.advance(Duration::from_secs(1020));

    let mut old = lab.ue1();
    let sent = lab.receive(&alice, &info(3, Some(&mut old)));
    assert_eq!(status_to(&sent, &alice), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::KeyExpired), "rule 17");
    let challenge = sent[0].text();
    assert!(!challenge.contains("stale"), "{challenge}");
    assert!(!challenge.contains("realm=\"example.net\""), "bootstrapping alone: {challenge}");
    assert_eq!(state(&lab), State::Rekeying);

    let (rogue, mut others) = (Peer::udp("192.0.2.66:5060"), lab.ue2());
    let other = lab_key(
        sipward::testing::lab::UE2_PASSWORD,
        "ue2@ims.example.net",
        &["sip:bob@example.net"],
        lab.now + HOUR,
    );
    let btid = Btid::new(sipward::testing::lab::UE2_BTID).expect("a B-TID");
    let naf = NafId::new(EDGE, UaId::SIP_DIGEST);
    lab.keys.put(btid, naf, KeyAnswer::Known(Arc::new(other)));
    assert_eq!(status_to(&lab.receive(&rogue, &bye(4, Some(&mut others))), &rogue), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::AssociationMismatch), "rule 4");
    assert_eq!(state(&lab), State::Rekeying, "nothing moved");
    let sent = lab.receive(&Peer::core(), &from_bob("INFO", 1));
    assert_eq!(sent[0].to, alice.flow().remote, "the far end goes on meanwhile");

    let mut new = bootstrapped(&lab);
    to_core(&lab.receive(&alice, &info(5, Some(&mut new))));
    assert_eq!((rule(&lab), state(&lab)), (18, State::Bound));
    assert_eq!(lab.shared.gate.associations.noted().rekeyed.load(Ordering::Relaxed), 1);
    to_core(&lab.receive(&alice, &bye(6, Some(&mut new))));
    assert_eq!(rule(&lab), 1);
}

#[test]
fn bsf_away_during_the_call_then_key_expires() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::tls("192.0.2.10:40000", 1), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let naf = NafId::new(EDGE, UaId::SIP_DIGEST);
    let btid = Btid::new(UE1_BTID).expect("a B-TID");
    lab.keys.put(btid, naf, KeyAnswer::Unavailable);
    lab.advance(Duration::from_secs(3599));
    to_core(&lab.receive(&alice, &info(2, None)));
    assert_eq!(lab.decisions.last().map(|one| one.evidence), Some(Kind::SecureFlow));
    lab.advance(Duration::from_secs(1));
    assert_eq!(status_to(&lab.receive(&alice, &info(3, None)), &alice), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::KeyExpired), "rule 17");
    assert_eq!(status_to(&lab.receive(&alice, &info(4, Some(&mut key))), &alice), Some(503));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::KeySourceUnavailable), "rule 20");
}

/// V-69: a restart of the edge, with its secret and without a store.
#[test]
fn kill_and_restart_without_store_bye_by_owner_by_stranger() {
    // BYE is the first that the new process sees of the call.
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let [_, answer] = called(&mut lab, &alice, &mut key);
    let route = route_of(&answer);
    lab.restart(LabSettings::default());
    let (mut key, mut other) = (lab.ue1(), lab.ue2());
    let bye = |number, key: Option<&mut Signer>| {
        in_dialog("BYE", BOB, "alice", "b", "call", number, key, &route)
    };
    let rogue = Peer::udp("192.0.2.66:5060");
    assert_eq!(status_to(&lab.receive(&rogue, &bye(9, Some(&mut other))), &rogue), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::AssociationMismatch), "rule 4");
    assert_eq!(status_to(&lab.receive(&alice, &bye(2, None)), &alice), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::AssociationLost), "rule 23");
    to_core(&lab.receive(&alice, &bye(3, Some(&mut key))));
    assert_eq!(rule(&lab), 23);

    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let [_, answer] = called(&mut lab, &alice, &mut key);
    let route = route_of(&answer);
    lab.restart(LabSettings::default());
    let (mut key, mut other) = (lab.ue1(), lab.ue2());

    let bare = in_dialog("INFO", BOB, "alice", "b", "call", 2, None, &route);
    assert_eq!(status_to(&lab.receive(&alice, &bare), &alice), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::AssociationLost), "rule 23");
    let rogue = Peer::udp("192.0.2.66:5060");
    let foreign = in_dialog("BYE", BOB, "alice", "b", "call", 3, Some(&mut other), &route);
    assert_eq!(status_to(&lab.receive(&rogue, &foreign), &rogue), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::AssociationMismatch), "rule 4");
    assert_eq!(lab.shared.gate.associations.footprint(), 0, "neither changed anything");

    let info = in_dialog("INFO", BOB, "alice", "b", "call", 4, Some(&mut key), &route);
    to_core(&lab.receive(&alice, &info));
    assert_eq!(rule(&lab), 23);
    let low = in_dialog("INFO", BOB, "alice", "b", "call", 3, Some(&mut key), &route);
    assert_eq!(status_to(&lab.receive(&alice, &low), &alice), Some(500), "counts start again");
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 5, Some(&mut key), &route);
    let sent = lab.receive(&alice, &bye);
    let bye = to_core(&sent).clone();
    assert_eq!(rule(&lab), 1, "it is in the table again");
    lab.receive(&Peer::core(), &respond(&bye, 200, "b", ""));
    let states = lab.shared.gate.associations.snapshot();
    assert!(states.iter().all(|one| one.state.as_str() == "released"), "{states:?}");
    lab.advance(Duration::from_secs(33));
    assert_eq!(lab.shared.gate.associations.footprint(), 0);
    assert_eq!(lab.shared.gate.associations.callers(), 0, "and its caller has none");
}

/// Alice has bob on one line and carol on another, and lets bob, a UE of this edge too, take her place with carol.
#[test]
fn attended_transfer_with_refer_and_replaces_replaces_by_an_outsider() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let (bob, mut bobs) = (Peer::udp("192.0.2.20:5060"), lab.ue2());
    call(&mut lab, &alice, &mut key);
    let text = request("INVITE", "sip:carol@example.net", "alice", "second", 1, Some(&mut key));
    let invite = to_core(&lab.receive(&alice, &text)).clone();
    let contact = "Contact: <sip:carol@203.0.113.30:5060>\n";
    lab.receive(&Peer::core(), &respond(&invite, 200, "c", contact));

    let replaces = "Replaces: second;to-tag=c;from-tag=alice\n";
    let take_over = |number: u32, key: &mut Signer, from: &str| {
        let call = format!("third{number}");
        in_dialog("INVITE", "sip:carol@example.net", from, "", &call, 1, Some(key), replaces)
    };
    let outsider = take_over(1, &mut bobs, "bob");
    assert_eq!(status_to(&lab.receive(&bob, &outsider), &bob), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::ForeignDialogNamed), "rule 29");

    let embedded =
        "Refer-To: <sip:carol@203.0.113.30?Replaces=second%3Bto-tag%3Dc%3Bfrom-tag%3Dalice>\n";
    // Nor may he ask the core to ask him.
    for (number, name) in [(1, "Replaces"), (2, "Join"), (3, "Target-Dialog")] {
        let mut embedded = embedded.replace("Replaces", name);
        if name == "Target-Dialog" {
            embedded = embedded.replace("to-tag", "local-tag").replace("from-tag", "remote-tag");
        }
        let asks = in_dialog("REFER", BOB, "bob", "", "asks", number, Some(&mut bobs), &embedded);
        assert_eq!(status_to(&lab.receive(&bob, &asks), &bob), Some(403), "{name}");
        assert_eq!(lab.last(), Outcome::Refused(Refusal::ForeignDialogNamed), "rule 29, {name}");
    }
    // Nor in a form that others may read and we do not.
    let bare = embedded.replace(['<', '>'], "");
    let behind = embedded.replace("?Replaces", &format!("?{}Replaces", "a=b&".repeat(16)));
    let doubled = embedded.replace("to-tag%3Dc", "to-tag%3Dc%3Bto-tag%3Dx");
    for (number, refer_to) in [(5, bare), (6, behind), (7, doubled)] {
        let asks = in_dialog("REFER", BOB, "bob", "", "asks", number, Some(&mut bobs), &refer_to);
        assert_eq!(status_to(&lab.receive(&bob, &asks), &bob), Some(400), "{refer_to}");
    }
    let elsewhere = embedded.replace("second", "not-here");
    let asks = in_dialog("REFER", BOB, "bob", "", "asks", 4, Some(&mut bobs), &elsewhere);
    to_core(&lab.receive(&bob, &asks));

    let refer = in_dialog("REFER", BOB, "alice", "b", "call", 2, Some(&mut key), embedded);
    let refer = to_core(&lab.receive(&alice, &refer)).clone();
    // The core brings it to bob, who is registered here: as a REFER outside of dialogs.
    let path = register(&mut lab, &bob, "bob", &mut bobs).text();
    let path =
        path.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path").to_owned();
    let on = format!(
        "REFER sip:bob@192.0.2.20:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKrefer
Max-Forwards: 70
Route: {path}
From: <sip:alice@example.net>;tag=x
To: <sip:bob@example.net>
Call-ID: refer
CSeq: 1 REFER
{embedded}Content-Length: 0
"
    );
    let sent = lab.receive(&Peer::core(), &on);
    assert!(sent.iter().any(|sent| sent.to == bob.flow().remote));
    lab.receive(&Peer::core(), &respond(&refer, 202, "b", ""));

    let (mallory, mut nobodys) = (Peer::udp(ALICE), lab.ue1());
    let own = take_over(2, &mut nobodys, "alice");
    to_core(&lab.receive(&mallory, &own));
    let granted = take_over(3, &mut bobs, "bob");
    let third = to_core(&lab.receive(&bob, &granted)).clone();
    // A failure has not used it, an answer has.
    lab.receive(&Peer::core(), &respond(&third, 407, "c", ""));
    let granted = take_over(4, &mut bobs, "bob");
    let third = to_core(&lab.receive(&bob, &granted)).clone();
    lab.receive(&Peer::core(), &respond(&third, 200, "c", contact));
    let twice = take_over(5, &mut bobs, "bob");
    assert_eq!(status_to(&lab.receive(&bob, &twice), &bob), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::ForeignDialogNamed), "V-70: once");

    lab.receive(&Peer::core(), &on.replace("refer\n", "later\n").replace("bKrefer", "bKlater"));
    lab.advance(Duration::from_secs(180));
    let late = take_over(6, &mut lab.ue2(), "bob");
    assert_eq!(status_to(&lab.receive(&bob, &late), &bob), Some(403), "V-70: within 180 s");
}

#[test]
fn callee_answers_bye_with_407_for_our_realm() {
    let ours = |scheme: &str| format!("{scheme} realm=\"{GBA_REALM}\", nonce=\"lure\"\n");
    let theirs = "Proxy-Authenticate: Digest realm=\"elsewhere\", nonce=\"n\"\n";
    for (what, more, status, passed) in [
        ("ours", format!("Proxy-Authenticate: {}", ours("Digest")), 403, ""),
        ("ours, as a server", format!("WWW-Authenticate: {}", ours("Digest")), 403, ""),
        ("ours, in the clear", format!("Proxy-Authenticate: {}", ours("Basic")), 403, ""),
        (
            "our domain",
            "Proxy-Authenticate: Digest realm=\"example.net\", nonce=\"lure\"\n".into(),
            403,
            "",
        ),
        ("theirs", theirs.into(), 407, "elsewhere"),
        ("both", format!("{theirs}Proxy-Authenticate: {}", ours("Digest")), 407, "elsewhere"),
    ] {
        let mut lab = Lab::default();
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        call(&mut lab, &alice, &mut key);
        let sent = lab.receive(&Peer::core(), &from_bob("BYE", 1));
        let bye = sent[0].clone();
        let back = lab.receive(&alice, &respond(&bye, 407, "", &more));
        assert_eq!(status_to(&back, &Peer::core()), Some(status), "{what}");
        let text = back.last().expect("an answer").text();
        assert!(!text.contains("lure") && text.contains(passed), "{what}: {text}");
        let refused = lab.last() == Outcome::Refused(Refusal::ChallengeReflected);
        assert_eq!(refused, what != "theirs", "{what}: rule 32");
    }
}

/// V-115: one account fills no more than its own quota; many fill the table, and nothing that stands makes room.
#[test]
fn table_full() {
    let mut settings = LabSettings::default();
    (settings.association.max_per_caller, settings.association.max) = (3, 5);
    let mut lab = Lab::new(settings);
    let (rogue, mut own) = (Peer::udp("192.0.2.66:5060"), lab.ue2());
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let invite = |lab: &mut Lab, from: &Peer, who: &str, id: &str, key: &mut Signer| {
        let text = request("INVITE", "sip:carol@example.net", who, id, 1, Some(key));
        lab.receive(from, &text)
    };
    for number in 0..64 {
        invite(&mut lab, &rogue, "bob", &format!("rogue{number}"), &mut own);
        let expected =
            if number < 3 { Outcome::Forwarded } else { Outcome::Refused(Refusal::TableFull) };
        assert_eq!(lab.last(), expected, "{number}: rule 28, for him alone");
    }
    let invite_of_alice = invite(&mut lab, &alice, "alice", "call", &mut key);
    let invite_of_alice = to_core(&invite_of_alice).clone();
    let contact = format!("Contact: <{BOB}>\n");
    lab.receive(&Peer::core(), &respond(&invite_of_alice, 200, "b", &contact));
    let held = lab.all_held();
    let sent = invite(&mut lab, &alice, "alice", "another", &mut key);
    assert_eq!(status_to(&sent, &alice), Some(503));
    assert!(sent[0].text().contains("\r\nRetry-After: "), "{}", sent[0].text());
    assert_eq!(lab.last(), Outcome::Refused(Refusal::TableFull), "rule 28, for everybody");
    let dialogs = |held: &str| held.matches("Bound").count();
    assert_eq!(dialogs(&held), dialogs(&lab.all_held()), "what stands is not put out");
    to_core(&lab.receive(&alice, &bye(2, Some(&mut key))));

    let mut settings = LabSettings::default();
    settings.association.max = 2;
    let mut lab = Lab::new(settings);
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let text = request("INVITE", "sip:bob@example.net", "alice", "second", 1, Some(&mut key));
    assert_eq!(status_to(&lab.receive(&alice, &text), &alice), Some(503));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::TableFull), "rule 28");
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 2, Some(&mut key), "");
    to_core(&lab.receive(&alice, &bye));
}
