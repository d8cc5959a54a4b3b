//! Stage 5: keys that end, flows that are lost, and what is taken back, while a call is up.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sipward::association::State;
use sipward::identity::{Btid, Principal, Proof};
use sipward::journey::Outcome;
use sipward::keys::{KeyAnswer, NafId, UaId};
use sipward::refusal::Refusal;
use sipward::testing::lab::{EDGE, UE1_BTID, lab_key};
use sipward::testing::{Lab, LabSettings, Peer, Signer};

use crate::scene::{call, from_bob, in_dialog, register, request, respond, status_to, to_core};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@203.0.113.20:5060";
const NEW_BTID: &str = "c2Vjb25kIGJvb3RzdHJhcA==@bsf.example.net";
const NEW_PASSWORD: &str = "/////////////////////////////////////////w8=";
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// The B-TID that alice's UE bootstraps next.
pub(crate) fn bootstrapped(lab: &Lab) -> Signer {
    let identities = ["sip:alice@example.net"];
    let key = lab_key(NEW_PASSWORD, "ue1@ims.example.net", &identities, lab.now + HOUR);
    let (btid, naf) = (Btid::new(NEW_BTID).expect("a B-TID"), NafId::new(EDGE, UaId::SIP_DIGEST));
    lab.keys.put(btid, naf, KeyAnswer::Known(std::sync::Arc::new(key)));
    lab.signer(NEW_BTID, NEW_PASSWORD)
}

pub(crate) fn info(number: u32, signer: Option<&mut Signer>) -> String {
    in_dialog("INFO", BOB, "alice", "b", "call", number, signer, "")
}

pub(crate) fn bye(number: u32, signer: Option<&mut Signer>) -> String {
    in_dialog("BYE", BOB, "alice", "b", "call", number, signer, "")
}

pub(crate) fn state(lab: &Lab) -> State {
    let confirmed = |one: &sipward::association::Association| one.state != State::Forming;
    let all = lab.shared.gate.associations.snapshot();
    all.iter().find(|one| confirmed(one)).expect("a dialog").state
}

pub(crate) fn rule(lab: &Lab) -> u8 {
    lab.decisions.last().expect("something was decided").rule
}

#[test]
fn a_new_key_in_good_time_leaves_the_old_one_thirty_seconds() {
    let mut lab = Lab::default();
    let (alice, mut old) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut old);
    let mut new = bootstrapped(&lab);
    to_core(&lab.receive(&alice, &info(2, Some(&mut new))));
    assert_eq!(rule(&lab), 18);
    lab.advance(Duration::from_secs(29));
    to_core(&lab.receive(&alice, &info(3, Some(&mut old))));
    assert_eq!(rule(&lab), 1, "it was under way");
    lab.advance(Duration::from_secs(1));
    assert_eq!(status_to(&lab.receive(&alice, &info(4, Some(&mut old))), &alice), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::KeyExpired), "rule 17");
    to_core(&lab.receive(&alice, &info(5, Some(&mut new))));
    assert_eq!(rule(&lab), 1);
}

/// V-112, `dialog-association` section 2.1: a key that names nobody is followed by no other, as `sipward check` warns.
#[test]
fn a_key_without_names_is_followed_by_no_other() {
    let mut lab = Lab::default();
    let alice = Peer::udp(ALICE);
    let nameless = |lab: &Lab, btid: &str, password: &str, identities: &[&str]| {
        let mut key = lab_key(password, "ue1@ims.example.net", identities, lab.now + HOUR);
        key.impi = None;
        let naf = NafId::new(EDGE, UaId::SIP_DIGEST);
        let btid_of = Btid::new(btid).expect("a B-TID");
        lab.keys.put(btid_of, naf, KeyAnswer::Known(std::sync::Arc::new(key)));
        lab.signer(btid, password)
    };
    let [first, second] = ["Zmlyc3Q=@bsf.example.net", NEW_BTID];
    let mut old = nameless(&lab, first, sipward::testing::lab::UE1_PASSWORD, &[]);
    let mut new = nameless(&lab, second, NEW_PASSWORD, &[]);
    let anonymous = |text: String| {
        text.replace("From: <sip:alice@example.net>", "From: <sip:anonymous@anonymous.invalid>")
    };
    let invite = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut old));
    let invite = to_core(&lab.receive(&alice, &anonymous(invite))).clone();
    assert!(!invite.text().contains("P-Asserted-Identity"), "{}", invite.text());
    lab.receive(&Peer::core(), &respond(&invite, 200, "b", &format!("Contact: <{BOB}>\n")));
    assert_eq!(status_to(&lab.receive(&alice, &info(2, Some(&mut new))), &alice), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::AssociationMismatch), "rule 4");
    to_core(&lab.receive(&alice, &info(3, Some(&mut old))));
    assert_eq!(rule(&lab), 1, "the call is unharmed");
}

#[test]
fn nobody_has_a_new_key_and_the_dialog_can_only_be_torn_down() {
    let mut settings = LabSettings::default();
    settings.association.rekey_deadline = Duration::from_secs(100);
    let mut lab = Lab::new(settings);
    let (alice, mut key) = (Peer::tls("192.0.2.10:40000", 1), lab.ue1());
    call(&mut lab, &alice, &mut key);
    lab.advance(HOUR);
    assert_eq!(state(&lab), State::Rekeying);
    lab.advance(Duration::from_secs(99));
    assert_eq!(state(&lab), State::Rekeying);
    lab.advance(Duration::from_secs(1));
    assert_eq!(state(&lab), State::Broken);
    assert_eq!(lab.shared.gate.associations.noted().not_rekeyed.load(Ordering::Relaxed), 1);

    let mut new = bootstrapped(&lab);
    assert_eq!(status_to(&lab.receive(&alice, &info(2, Some(&mut new))), &alice), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::Revoked), "rule 19");
    let core = Peer::core();
    assert_eq!(status_to(&lab.receive(&core, &from_bob("INFO", 1)), &core), Some(481));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogEnded), "rule 31");
    let elsewhere = Peer::tls("192.0.2.66:40000", 2);
    assert_eq!(status_to(&lab.receive(&elsewhere, &bye(3, None)), &elsewhere), Some(403));
    let sent = lab.receive(&alice, &bye(4, None));
    let sent = to_core(&sent).clone();
    assert_eq!(rule(&lab), 24);
    lab.receive(&core, &respond(&sent, 200, "b", ""));
    assert_eq!(state(&lab), State::Released);
}

#[test]
fn the_far_end_may_end_a_broken_call_and_after_half_an_hour_it_is_gone() {
    for (what, ends) in [("bob hangs up", true), ("nobody does", false)] {
        let mut settings = LabSettings::default();
        settings.association.rekey_deadline = Duration::from_secs(1);
        let mut lab = Lab::new(settings);
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        call(&mut lab, &alice, &mut key);
        lab.advance(HOUR + Duration::from_secs(1));
        assert_eq!(state(&lab), State::Broken, "{what}");
        if ends {
            let sent = lab.receive(&Peer::core(), &from_bob("BYE", 1));
            assert_eq!(sent[0].to, alice.flow().remote);
            lab.receive(&alice, &respond(&sent[0].clone(), 200, "", ""));
        } else {
            lab.advance(Duration::from_secs(1799));
            assert_eq!(state(&lab), State::Broken);
            lab.advance(Duration::from_secs(1));
        }
        assert_eq!(state(&lab), State::Released, "{what}");
    }
}

/// An expired key tears a call down from its secure anchor, never from an address that anybody can write.
#[test]
fn a_bye_after_the_key_ended_passes_on_the_anchor_that_nobody_can_forge() {
    for (peer, expected) in
        [(Peer::tls("192.0.2.10:40000", 1), Ok(24)), (Peer::udp(ALICE), Err(17))]
    {
        let mut lab = Lab::default();
        let mut key = lab.ue1();
        call(&mut lab, &peer, &mut key);
        lab.advance(HOUR);
        let sent = lab.receive(&peer, &bye(2, None));
        match expected {
            Ok(24) => drop(to_core(&sent)),
            _ => assert_eq!(lab.last(), Outcome::Refused(Refusal::KeyExpired)),
        }
        assert_eq!(rule(&lab), expected.unwrap_or_else(|rule| rule));
    }
}

#[test]
fn in_the_last_fifth_of_a_key_refreshes_are_challenged_once() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    lab.advance(Duration::from_secs(2879));
    let mut key = lab.ue1();
    let update = |number, key: &mut Signer| {
        in_dialog("UPDATE", BOB, "alice", "b", "call", number, Some(key), "")
    };
    to_core(&lab.receive(&alice, &update(2, &mut key)));
    lab.advance(Duration::from_secs(1));
    to_core(&lab.receive(&alice, &info(3, Some(&mut key))));
    let sent = lab.receive(&alice, &update(4, &mut key));
    assert_eq!(status_to(&sent, &alice), Some(407));
    assert!(!sent[0].text().contains("stale"));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::KeyAgeing));
    to_core(&lab.receive(&alice, &update(5, &mut key)));
    assert_eq!(rule(&lab), 1, "the old key still holds");
    let text = request("REGISTER", "sip:example.net", "alice", "reg", 1, Some(&mut key));
    to_core(&lab.receive(&alice, &text));
    let mut new = bootstrapped(&lab);
    to_core(&lab.receive(&alice, &update(6, &mut new)));
    assert_eq!(rule(&lab), 18);

    let mut lab = Lab::default();
    lab.advance(Duration::from_secs(2880));
    let mut key = lab.ue1();
    let register = |number, key: &mut Signer| {
        request("REGISTER", "sip:example.net", "alice", "reg", number, Some(key))
    };
    let text = register(1, &mut key);
    assert_eq!(status_to(&lab.receive(&alice, &text), &alice), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::KeyAgeing));
    let text = register(2, &mut key);
    to_core(&lab.receive(&alice, &text));
}

#[test]
fn a_lost_flow_leaves_the_owner_thirty_two_seconds() {
    let (first, second) = (Peer::tls("192.0.2.10:40000", 1), Peer::tls("192.0.2.10:41000", 2));
    for (what, back_after) in [("in time", Some(31)), ("too late", None)] {
        let mut lab = Lab::default();
        let mut key = lab.ue1();
        call(&mut lab, &first, &mut key);
        lab.close(&Peer::tls("192.0.2.77:40000", 7));
        assert_eq!(state(&lab), State::Bound, "that was another's");
        lab.close(&first);
        assert_eq!(state(&lab), State::Suspect, "{what}");
        let core = Peer::core();
        assert_eq!(status_to(&lab.receive(&core, &from_bob("INFO", 1)), &core), Some(430));
        assert_eq!(status_to(&lab.receive(&second, &info(2, None)), &second), Some(407));
        assert_eq!(state(&lab), State::Suspect, "what proves nothing moves nothing");
        lab.advance(Duration::from_secs(back_after.unwrap_or(32)));
        let sent = lab.receive(&second, &info(3, Some(&mut key)));
        if back_after.is_some() {
            to_core(&sent);
            assert_eq!((rule(&lab), state(&lab)), (2, State::Bound), "{what}");
            let sent = lab.receive(&core, &from_bob("INFO", 2));
            assert_eq!(sent[0].to, second.flow().remote);
        } else {
            assert_eq!(status_to(&sent, &second), Some(403), "{what}");
            assert_eq!(lab.last(), Outcome::Refused(Refusal::Revoked), "rule 19");
        }
    }
}

#[test]
fn a_flow_that_is_lost_while_it_rings_leads_to_nobody_when_it_is_answered() {
    for early in [true, false] {
        let mut lab = Lab::default();
        let (peer, mut key) = (Peer::tls("192.0.2.10:40000", 1), lab.ue1());
        let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
        let invite = to_core(&lab.receive(&peer, &text)).clone();
        if early {
            lab.receive(&Peer::core(), &respond(&invite, 180, "b", ""));
        }
        lab.close(&peer);
        lab.receive(
            &Peer::core(),
            &respond(&invite, 200, "b", "Contact: <sip:bob@203.0.113.20>\n"),
        );
        assert_eq!(state(&lab), State::Suspect, "early {early}");
    }
}

#[test]
fn one_of_two_flows_may_go() {
    let mut lab = Lab::default();
    let (first, second) = (Peer::tls("192.0.2.10:40000", 1), Peer::tls("192.0.2.10:41000", 2));
    let mut key = lab.ue1();
    call(&mut lab, &first, &mut key);
    to_core(&lab.receive(&second, &info(2, Some(&mut key))));
    lab.close(&first);
    assert_eq!(state(&lab), State::Bound);
    lab.close(&second);
    assert_eq!(state(&lab), State::Suspect);
    let third = Peer::tls("192.0.2.10:42000", 3);
    to_core(&lab.receive(&third, &info(3, Some(&mut key))));
    lab.close(&third);
    assert_eq!(state(&lab), State::Suspect, "those before were gone already");
    lab.advance(Duration::from_secs(32));
    assert_eq!(state(&lab), State::Broken);
    lab.advance(Duration::from_secs(1832));
    assert_eq!(lab.shared.gate.associations.kept(), (0, 0), "nothing leads to what is over");
}

#[test]
fn what_is_taken_back_can_only_be_torn_down() {
    type Take = fn(&Lab) -> usize;
    let takes: [(&str, Take, bool); 7] = [
        (
            "the key",
            |lab| lab.shared.gate.associations.revoke_key(Proof::Gba, UE1_BTID, lab.now),
            true,
        ),
        (
            "the owner",
            |lab| {
                let owner = Principal::new(Proof::Gba, "ue1@ims.example.net");
                lab.shared.gate.associations.revoke_owner(&owner, lab.now)
            },
            true,
        ),
        (
            "the key, on her flow",
            |lab| {
                let (flow, now) = (Peer::udp(ALICE).flow(), lab.now);
                lab.shared.gate.associations.revoke_on(&flow, Proof::Gba, UE1_BTID, now)
            },
            true,
        ),
        (
            "the key, on another flow",
            |lab| {
                let (flow, now) = (Peer::udp("192.0.2.99:5060").flow(), lab.now);
                lab.shared.gate.associations.revoke_on(&flow, Proof::Gba, UE1_BTID, now)
            },
            false,
        ),
        (
            "another proof, on her flow",
            |lab| {
                let (flow, now) = (Peer::udp(ALICE).flow(), lab.now);
                let proof = Proof::UserCertificate;
                lab.shared.gate.associations.revoke_on(&flow, proof, UE1_BTID, now)
            },
            false,
        ),
        (
            "another key",
            |lab| lab.shared.gate.associations.revoke_key(Proof::Gba, NEW_BTID, lab.now),
            false,
        ),
        (
            "another owner",
            |lab| {
                let owner = Principal::new(Proof::Account, "ue1@ims.example.net");
                lab.shared.gate.associations.revoke_owner(&owner, lab.now)
            },
            false,
        ),
    ];
    for (what, take, his) in takes {
        let mut lab = Lab::default();
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        call(&mut lab, &alice, &mut key);
        lab.advance(Duration::from_secs(33));
        assert_eq!(take(&lab), usize::from(his), "{what}");
        let sent = lab.receive(&alice, &info(2, Some(&mut key)));
        if !his {
            to_core(&sent);
            continue;
        }
        assert_eq!(lab.last(), Outcome::Refused(Refusal::Revoked), "{what}: rule 19");
        assert_eq!(status_to(&sent, &alice), Some(403));
        to_core(&lab.receive(&alice, &bye(3, Some(&mut key))));
        assert_eq!(rule(&lab), 24, "{what}");
    }
}

#[test]
fn what_was_not_yet_answered_is_taken_back_too() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(&mut key));
    let invite = to_core(&lab.receive(&alice, &text)).clone();
    lab.receive(&Peer::core(), &respond(&invite, 180, "b", ""));
    assert_eq!(lab.shared.gate.associations.revoke_key(Proof::Gba, UE1_BTID, lab.now), 1);
    lab.receive(&Peer::core(), &respond(&invite, 200, "b", "Contact: <sip:bob@203.0.113.20>\n"));
    lab.receive(&alice, &info(2, Some(&mut key)));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::DialogEnded));
}

/// `danger.bye_at_level_1`: for those alone that are written down, and from the address that they registered from.
#[test]
fn a_phone_that_answers_no_challenge_hangs_up_from_where_it_registered() {
    let agent = "User-Agent: OldPhone/1.2 (x)\n";
    for (what, listed, method, from, passes) in [
        ("as it should", &["OldPhone/1"][..], "BYE", ALICE, true),
        ("not written down", &["NewPhone"], "BYE", ALICE, false),
        ("nothing else than BYE", &["OldPhone/1"], "INFO", ALICE, false),
        ("from elsewhere", &["OldPhone/1"], "BYE", "192.0.2.10:5062", false),
    ] {
        let mut settings = LabSettings::default();
        let names = listed.iter().map(|name| (*name).to_owned());
        settings.association.bye_at_level_1 = names.collect();
        let mut lab = Lab::new(settings);
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        register(&mut lab, &alice, "alice", &mut key);
        call(&mut lab, &alice, &mut key);
        let text = in_dialog(method, BOB, "alice", "b", "call", 2, None, agent);
        let peer = Peer::udp(from);
        let sent = lab.receive(&peer, &text);
        if passes {
            let sent = to_core(&sent).clone();
            lab.receive(&Peer::core(), &respond(&sent, 200, "b", ""));
            assert_eq!(state(&lab), State::Released, "{what}");
        } else {
            assert_eq!(status_to(&sent, &peer), Some(407), "{what}");
        }
    }
}
