//! Stage 4: whose credentials are good, and for what.

use std::sync::Arc;
use std::time::Duration;

use sipward::authentication::digest::Hash;
use sipward::gate::Lookup;
use sipward::identity::Btid;
use sipward::journey::Outcome;
use sipward::keys::{KeyAnswer, NafId, UaId};
use sipward::refusal::Refusal;
use sipward::testing::lab::{EDGE, UE1_BTID, UE1_PASSWORD, UE2_BTID, UE2_PASSWORD, lab_key};
use sipward::testing::{Lab, LabSettings, Peer, Signer};

use crate::scene::{register, request, respond, status_to, to_core};

const ALICE: &str = "192.0.2.10:5060";

fn message(lab: &mut Lab, call: &str, signer: Option<&mut Signer>) -> Option<u16> {
    let text = request("MESSAGE", "sip:bob@example.net", "alice", call, 1, signer);
    let alice = Peer::udp(ALICE);
    status_to(&lab.receive(&alice, &text), &alice)
}

#[test]
fn a_ue_registers_with_its_bootstrapped_key_and_is_asserted() {
    let mut lab = Lab::default();
    let alice = Peer::udp(ALICE);
    let bare = request("REGISTER", "sip:example.net", "alice", "reg", 1, None);
    let sent = lab.receive(&alice, &bare);
    assert_eq!(sent[0].message.status(), Some(407));
    let mut key = lab.ue1();
    assert_eq!(key.challenged(&sent[0].message), Some(false));
    let seen = register(&mut lab, &alice, "alice", &mut key).text();
    assert!(!seen.contains("Proxy-Authorization"), "{seen}");
    assert!(seen.contains("P-Asserted-Identity: <sip:alice@example.net>\r\n"), "{seen}");
    assert!(seen.contains("\r\nPath: <sip:"), "{seen}");
    assert!(seen.contains("Max-Forwards: 69\r\n"), "{seen}");
}

#[test]
fn the_core_reaches_the_ue_by_the_token_in_its_path() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp("192.0.2.10:61234"), lab.ue1());
    let seen = register(&mut lab, &alice, "alice", &mut key).text();
    let path = seen.lines().find_map(|line| line.strip_prefix("Path: ")).expect("a Path");
    let text = |route: &str| {
        format!(
            "MESSAGE sip:alice@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bK{}
Max-Forwards: 70
From: <sip:bob@example.net>;tag=b
To: <sip:alice@example.net>
Call-ID: down
CSeq: 1 MESSAGE
Route: {route}
Content-Length: 0
",
            route.bytes().map(u32::from).sum::<u32>()
        )
    };
    let sent = lab.receive(&Peer::core(), &text(path));
    assert_eq!(sent[0].to, alice.flow().remote);
    assert!(!sent[0].text().contains("Route:"), "{}", sent[0].text());

    let altered = path.replacen("<sip:", "<sip:AAAA", 1);
    let core = Peer::core();
    assert_eq!(status_to(&lab.receive(&core, &text(&altered)), &core), Some(430), "an unknown key");
    let at = path.find('@').expect("a host") - 3;
    let flipped = if path[at..].starts_with('A') { "B" } else { "A" };
    let altered = format!("{}{flipped}{}", &path[..at], &path[at + 1..]);
    assert_eq!(status_to(&lab.receive(&core, &text(&altered)), &core), Some(403), "rule 10");
    assert_eq!(lab.last(), Outcome::Refused(Refusal::TokenForged));
    lab.close(&alice);
    let again = text(path).replace("z9hG4bK", "z9hG4bKx");
    assert_eq!(status_to(&lab.receive(&core, &again), &core), Some(430), "rule 11");
}

/// V-23.
#[test]
fn a_replay_is_stale_and_has_no_effect() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("MESSAGE", "sip:bob@example.net", "alice", "m", 1, Some(&mut key));
    let sent = lab.receive(&alice, &text);
    let seen = to_core(&sent).clone();
    lab.receive(&Peer::core(), &respond(&seen, 200, "b", ""));
    let again = lab.receive(&alice, &text);
    assert_eq!(status_to(&again, &alice), Some(200), "inside its transaction: the same answer");
    let rogue = Peer::udp("192.0.2.66:5060");
    let again = lab.receive(&rogue, &text);
    assert_eq!(lab.last(), Outcome::Refused(Refusal::NonceStale));
    assert!(again[0].text().contains("stale=true"), "{}", again[0].text());
    lab.advance(Duration::from_secs(40));
    let late = lab.receive(&alice, &text);
    assert_eq!(lab.last(), Outcome::Refused(Refusal::NonceStale));
    assert!(late.iter().all(|sent| sent.to == alice.flow().remote), "nothing went to the core");
}

/// V-24.
#[test]
fn a_bad_response_cannot_poison_the_count() {
    let mut lab = Lab::default();
    let mut key = lab.ue1();
    assert_eq!(message(&mut lab, "m1", Some(&mut key)), None, "forwarded");
    let mut forged = key.clone();
    (forged.password, forged.count) = ("wrong".into(), u32::MAX - 1);
    assert_eq!(message(&mut lab, "m2", Some(&mut forged)), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::BadCredentials));
    assert_eq!(message(&mut lab, "m3", Some(&mut key)), None, "the next count of the owner passes");
}

/// V-22.
#[test]
fn stale_exactly_when_right_but_old() {
    let mut lab = Lab::default();
    let mut key = lab.ue1();
    lab.advance(Duration::from_secs(301));
    let mut wrong = key.clone();
    wrong.password = "wrong".into();
    assert_eq!(message(&mut lab, "m1", Some(&mut key)), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::NonceStale));
    assert_eq!(message(&mut lab, "m2", Some(&mut wrong)), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::BadCredentials));
    key.nonce = "c2lwd2FyZC1leGFtcGxlLW5vbmNlLTE=".into();
    assert_eq!(message(&mut lab, "m3", Some(&mut key)), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::NonceUnknown));
}

/// V-30, V-95.
#[test]
fn keys_of_another_naf_or_protocol_do_not_open() {
    let mut lab = Lab::default();
    let btid = Btid::new(UE1_BTID).expect("a B-TID");
    let end = lab.now + Duration::from_secs(600);
    let other = "mGvVRti/TrzchgK9KB/e0dNucPe4qN4aP+7WgMOwnqU=";
    let key = lab_key(other, "ue1@ims.example.net", &["sip:alice@example.net"], end);
    lab.keys.put(btid.clone(), NafId::new(EDGE, UaId::LOCSIP), KeyAnswer::Known(Arc::new(key)));
    let mut locsip = lab.signer(UE1_BTID, other);
    assert_eq!(
        message(&mut lab, "m1", Some(&mut locsip)),
        Some(407),
        "the LOCSIP key of the same B-TID"
    );
    let mut realm = lab.ue1();
    realm.realm = "3GPP-bootstrapping@evil.example.net".into();
    assert_eq!(message(&mut lab, "m2", Some(&mut realm)), Some(407), "another NAF's realm");
    assert_eq!(lab.last(), Outcome::Refused(Refusal::CredentialsMissing), "no credential of ours");
    let mut listed = lab.ue1();
    listed.realm = format!("{};3GPP-bootstrapping@evil.example", listed.realm);
    assert_eq!(message(&mut lab, "m3", Some(&mut listed)), Some(407), "a realm list extended");
    let mut foreign = lab.signer("x@bsf.evil.example", UE1_PASSWORD);
    assert_eq!(message(&mut lab, "m4", Some(&mut foreign)), Some(407), "another operator's B-TID");
    assert!(lab.asked.is_empty(), "nobody was asked");
}

/// V-98.
#[test]
fn a_bootstrapped_key_is_held_to_its_best_algorithm_even_if_it_was_asked_for_again() {
    let mut lab = Lab::default();
    let (mut strong, mut weak) = (lab.ue1(), lab.ue1());
    weak.hash = Hash::Md5;
    let first = lab.signer(UE2_BTID, UE2_PASSWORD);
    let mut first = Signer { hash: Hash::Md5, ..first };
    let text = request("OPTIONS", "sip:bob@example.net", "bob", "m0", 1, Some(&mut first));
    to_core(&lab.receive(&Peer::udp("192.0.2.20:5060"), &text));
    assert_eq!(message(&mut lab, "m1", Some(&mut strong)), None);
    let (btid, naf) = (Btid::new(UE1_BTID).expect("a B-TID"), NafId::new(EDGE, UaId::SIP_DIGEST));
    let end = lab.now + Duration::from_secs(600);
    let again = lab_key(UE1_PASSWORD, "ue1@ims.example.net", &["sip:alice@example.net"], end);
    lab.keys.put(btid, naf, KeyAnswer::Known(Arc::new(again)));
    assert_eq!(message(&mut lab, "m2", Some(&mut weak)), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::AlgorithmDowngrade));
    assert_eq!(message(&mut lab, "m3", Some(&mut strong)), None);
}

#[test]
fn a_key_that_is_not_here_is_asked_for_once_and_the_request_goes_on() {
    let mut lab = Lab::default();
    let (alice, naf) = (Peer::udp(ALICE), NafId::new(EDGE, UaId::SIP_DIGEST));
    let fresh = "QUJDREVGR0hJSktMTU5PUA==@bsf.example.net";
    lab.keys.otherwise(KeyAnswer::Ask);
    let mut key = lab.signer(fresh, UE1_PASSWORD);
    let text = request("INVITE", "sip:bob@example.net", "alice", "c", 1, Some(&mut key));
    assert_eq!(
        status_to(&lab.receive(&alice, &text), &alice),
        Some(100),
        "INVITE hears 100 meanwhile"
    );
    assert!(lab.receive(&alice, &text).is_empty(), "its repetition is absorbed");
    let lookup = Lookup::NafKey { btid: Btid::new(fresh).expect("a B-TID"), naf: naf.clone() };
    assert_eq!(lab.asked, std::slice::from_ref(&lookup));
    let end = lab.now + Duration::from_secs(600);
    let known = lab_key(UE1_PASSWORD, "ue1@ims.example.net", &["sip:alice@example.net"], end);
    lab.keys.put(Btid::new(fresh).expect("a B-TID"), naf, KeyAnswer::Known(Arc::new(known)));
    to_core(&lab.answered(&lookup));
}

/// RFC 3261 section 9.2: whoever hangs up while the key is looked up rings nobody, and hears it, as often as he asks.
#[test]
fn an_invite_that_waits_for_its_key_is_cancelled() {
    let mut lab = Lab::default();
    let (alice, naf) = (Peer::udp(ALICE), NafId::new(EDGE, UaId::SIP_DIGEST));
    let btid = Btid::new("QUJDREVGR0hJSktMTU5PUA==@bsf.example.net").expect("a B-TID");
    lab.keys.put(btid.clone(), naf.clone(), KeyAnswer::Ask);
    let mut key = lab.signer(btid.as_str(), UE1_PASSWORD);
    let invite = request("INVITE", "sip:bob@example.net", "alice", "c", 1, Some(&mut key));
    assert_eq!(status_to(&lab.receive(&alice, &invite), &alice), Some(100));
    let unsigned = |line: &&str| !line.starts_with("Proxy-Authorization:");
    let cancel: Vec<&str> = invite.lines().filter(unsigned).collect();
    let cancel = (cancel.join("\n") + "\n")
        .replace("INVITE sip:", "CANCEL sip:")
        .replace("1 INVITE", "1 CANCEL");

    // Neither another flow nor another call.
    let rogue = Peer::udp("192.0.2.66:5060");
    let other = cancel.replace("Call-ID: c", "Call-ID: d");
    for (peer, text) in [(&rogue, &cancel), (&alice, &other)] {
        assert_eq!(status_to(&lab.receive(peer, text), peer), Some(481));
    }
    let sent = lab.receive(&alice, &cancel);
    let heard: Vec<_> = sent
        .iter()
        .map(|sent| (sent.message.status(), sent.message.cseq().map(|it| it.method.to_vec())))
        .collect();
    let of = |status, method: &[u8]| (Some(status), Some(method.to_vec()));
    assert_eq!(heard, [of(200, b"CANCEL"), of(487, b"INVITE")]);
    assert!(sent.iter().all(|sent| sent.to == alice.flow().remote));
    // Copies hear the same, and the answer of the server nothing any more.
    assert_eq!(status_to(&lab.receive(&alice, &cancel), &alice), Some(200));
    assert_eq!(status_to(&lab.receive(&alice, &invite), &alice), Some(487));
    let end = lab.now + Duration::from_secs(600);
    let known = lab_key(UE1_PASSWORD, "ue1@ims.example.net", &["sip:alice@example.net"], end);
    lab.keys.put(btid, naf, KeyAnswer::Known(Arc::new(known)));
    let lookup = lab.asked[0].clone();
    assert!(lab.answered(&lookup).is_empty(), "nobody rings");
    assert!(lab.advance(Duration::from_secs(2)).is_empty());
    // Whoever kept the INVITE cannot bring it again, from wherever.
    let again = invite.replace("Via: SIP/2.0/UDP 192.0.2.10", "Via: SIP/2.0/UDP 192.0.2.66");
    assert_eq!(status_to(&lab.receive(&rogue, &again), &rogue), Some(407));
}

#[test]
fn an_old_deadline_does_not_end_a_younger_wait_for_the_same_key() {
    let mut lab = Lab::default();
    let (alice, naf) = (Peer::udp(ALICE), NafId::new(EDGE, UaId::SIP_DIGEST));
    let btid = Btid::new("QUJDREVGR0hJSktMTU5PUA==@bsf.example.net").expect("a B-TID");
    lab.keys.put(btid.clone(), naf.clone(), KeyAnswer::Ask);
    let mut key = lab.signer(btid.as_str(), UE1_PASSWORD);
    let mut send = |lab: &mut Lab, call: &str| {
        let text = request("MESSAGE", "sip:bob@example.net", "alice", call, 1, Some(&mut key));
        lab.receive(&alice, &text)
    };
    assert!(send(&mut lab, "first").is_empty());
    let lookup = lab.asked[0].clone();
    let end = lab.now + Duration::from_secs(600);
    let known = lab_key(UE1_PASSWORD, "ue1@ims.example.net", &["sip:alice@example.net"], end);
    lab.keys.put(btid.clone(), naf.clone(), KeyAnswer::Known(Arc::new(known)));
    let first = to_core(&lab.answered(&lookup)).clone();
    lab.receive(&Peer::core(), &respond(&first, 200, "b", ""));
    lab.advance(Duration::from_millis(1500));
    // The cache has let go of it meanwhile.
    lab.keys.put(btid, naf, KeyAnswer::Ask);
    assert!(send(&mut lab, "second").is_empty());
    let sent = lab.advance(Duration::from_millis(1900));
    assert_eq!(status_to(&sent, &alice), None, "its own two seconds are not over");
    let sent = lab.advance(Duration::from_millis(200));
    assert_eq!(status_to(&sent, &alice), Some(503), "rule 20");
}

/// V-31. A copy that the network kept hears the same when the server is there again: who sent it took that answer, and would
/// acknowledge no other (RFC 3261 17.2.1).
#[test]
fn a_key_server_that_is_silent_ends_in_503_not_in_a_pass() {
    let mut lab = Lab::default();
    let alice = Peer::udp(ALICE);
    lab.keys.otherwise(KeyAnswer::Ask);
    let btid = Btid::new("QUJDREVGR0hJSktMTU5PUA==@bsf.example.net").expect("a B-TID");
    let mut key = lab.signer(btid.as_str(), UE1_PASSWORD);
    let text = request("MESSAGE", "sip:bob@example.net", "alice", "c", 1, Some(&mut key));
    assert!(lab.receive(&alice, &text).is_empty());
    let sent = lab.advance(Duration::from_secs(3));
    assert_eq!(status_to(&sent, &alice), Some(503));
    assert!(sent[0].text().contains("Retry-After: "), "{}", sent[0].text());
    assert_eq!(lab.last(), Outcome::Refused(Refusal::KeySourceUnavailable), "rule 20");
    let end = lab.now + Duration::from_secs(600);
    let known = lab_key(UE1_PASSWORD, "ue1@ims.example.net", &["sip:alice@example.net"], end);
    lab.keys.otherwise(KeyAnswer::Known(Arc::new(known)));
    let copy = lab.receive(&alice, &text);
    assert_eq!(copy.len(), 1, "nothing is forwarded: {copy:?}");
    assert_eq!((lab.last(), copy[0].text()), (Outcome::Absorbed, sent[0].text()));
    // Nor does it pass from where somebody sits who saw it: its count was never spent.
    let mallory = Peer::udp("192.0.2.66:5060");
    assert_eq!(status_to(&lab.receive(&mallory, &text), &mallory), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::NonceStale));
    let other = request("MESSAGE", "sip:bob@example.net", "alice", "d", 2, Some(&mut key));
    let stale = lab.receive(&alice, &other);
    assert!(stale[0].text().contains("stale=true"), "{}", stale[0].text());
    key.challenged(&stale[0].message);
    let other = request("MESSAGE", "sip:bob@example.net", "alice", "e", 3, Some(&mut key));
    to_core(&lab.receive(&alice, &other));
}

#[test]
fn a_message_in_anothers_name_is_refused() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    for method in ["MESSAGE", "REGISTER"] {
        let text = request(method, "sip:bob@example.net", "bob", method, 1, Some(&mut key));
        assert_eq!(status_to(&lab.receive(&alice, &text), &alice), Some(403), "{method}");
        assert_eq!(lab.last(), Outcome::Refused(Refusal::IdentityForeign), "{method}");
    }
}

#[test]
fn in_the_registrars_place_the_edge_proves_itself_too() {
    let mut settings = LabSettings::default();
    settings.authentication.offer.register_with_401 = true;
    let mut lab = Lab::new(settings);
    let alice = Peer::udp(ALICE);
    let bare = request("REGISTER", "sip:example.net", "alice", "reg", 1, None);
    let challenge = lab.receive(&alice, &bare)[0].message.clone();
    assert_eq!(challenge.status(), Some(401));
    let mut key = lab.ue1();
    key.challenged(&challenge).expect("a row for this realm");
    lab.advance(Duration::from_secs(200));
    let text = request("REGISTER", "sip:example.net", "alice", "reg", 2, Some(&mut key));
    let sent = lab.receive(&alice, &text);
    let seen = to_core(&sent).clone();
    let granted = "Contact: <sip:alice@192.0.2.10:5060>;expires=600\n";
    let answer = lab.receive(&Peer::core(), &respond(&seen, 200, "r", granted))[0].text();
    let info = answer.lines().find_map(|l| l.strip_prefix("Authentication-Info: ")).expect("proof");
    assert!(
        info.contains(&format!("rspauth=\"{}\"", key.expected_rspauth("sip:example.net"))),
        "{info}"
    );
    assert!(info.contains("nextnonce=\""), "the nonce is past half its life: {info}");
}

/// RFC 3261 section 22.3: a 407 has a challenge; where nothing but the channel proves, there is none to be made.
#[test]
fn an_edge_without_digest_asks_nobody_for_it() {
    let mut settings = LabSettings::default();
    settings.authentication.offer.realms = Vec::new();
    let mut lab = Lab::new(settings);
    let alice = Peer::udp(ALICE);
    let text = request("MESSAGE", "sip:bob@example.net", "alice", "bare", 1, None);
    let sent = lab.receive(&alice, &text);
    assert_eq!(sent.len(), 1, "the core hears nothing");
    assert_eq!(sent[0].message.status(), Some(403));
    assert!(!sent[0].text().contains("-Authenticate:"), "{}", sent[0].text());
}
