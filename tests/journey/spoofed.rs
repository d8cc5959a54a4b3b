//! V-66: who is asked for credentials over UDP may be somebody else, and is sent no more than twice what came in his name.

use sipward::gate::{ALWAYS_ASKED, ANSWER_FACTOR, Lookup};
use sipward::identity::Btid;
use sipward::journey::Outcome;
use sipward::keys::{KeyAnswer, NafId, UaId};
use sipward::refusal::Refusal;
use sipward::testing::lab::{EDGE, GBA_REALM, UE1_PASSWORD, octets_of};
use sipward::testing::{Lab, Peer, Sent};

use crate::impostors::with_accounts;
use crate::scene::{in_dialog, register, request, status_to};

const ALICE: &str = "192.0.2.10:5060";

/// A REGISTER of a stranger, filled up to `length` octets where it is shorter.
fn bare(length: usize, number: u32, more: &str) -> String {
    let short = |cseq: u32| {
        format!(
            "REGISTER sip:example.net SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bK{cseq}\nMax-Forwards: 70\n\
             f: <sip:a@example.net>;tag={cseq}\nt: <sip:a@example.net>\ni: {cseq}\nCSeq: {cseq} REGISTER\n{more}"
        )
    };
    let text = short(number);
    let room = length.saturating_sub(octets_of(&format!("{text}\n")).len());
    match room.checked_sub("X: \r\n".len()) {
        Some(room) => format!("{text}X: {}\n", "x".repeat(room)),
        None => text,
    }
}

/// Realms and algorithms asked for, in order.
fn rows(sent: &Sent) -> Vec<(String, String)> {
    let text = sent.text();
    let part = |row: &str, name: &str| {
        let rest = row.split_once(&format!("{name}="))?.1;
        Some(rest.trim_start_matches('"').split(['"', ',']).next()?.to_owned())
    };
    let row = |line: &str| Some((part(line, "realm")?, part(line, "algorithm")?));
    text.lines().filter(|line| line.starts_with("Proxy-Authenticate:")).filter_map(row).collect()
}

/// A laboratory that asks for keys and passwords, whose address of `ALICE` proved something.
fn lab() -> Lab {
    let mut lab = Lab::new(with_accounts());
    let mut key = lab.ue1();
    register(&mut lab, &Peer::udp(ALICE), "alice", &mut key);
    lab
}

/// Whatever the length, and whether or not evidence came from that address before.
#[test]
fn v_66_no_answer_is_longer_than_twice_the_request_and_400_octets_are_always_asked() {
    let mut lab = lab();
    let mut seen = Vec::new();
    for (at, length) in (0..1500).step_by(7).enumerate() {
        let number = u32::try_from(at).expect("few");
        // A network of its own each, so that no rate is met.
        let stranger = format!("198.51.{at}.9:5060");
        for (from, number) in [(stranger.as_str(), number), ("192.0.2.10:6666", 1000 + number)] {
            let text = bare(length, number, "");
            let asked = octets_of(&text).len();
            let sent = lab.receive(&Peer::udp(from), &text);
            assert!(sent.len() <= 1, "one answer");
            let told = sent.first().map_or(0, |sent| sent.message.octets().len());
            assert!(told <= ANSWER_FACTOR * asked, "{told} for {asked}");
            assert!(told > 0 || asked < ALWAYS_ASKED, "{asked} octets are not answered");
            seen.extend(sent.first().map(|sent| rows(sent).len()));
        }
    }
    assert!(seen.contains(&1) && seen.contains(&4), "few rows and all: {seen:?}");
    let tcp = lab.receive(&Peer::tcp("198.51.100.99:5060", 9), &bare(0, 5000, ""));
    assert_eq!(rows(&tcp[0]).len(), 4, "a connection has shown its address");
}

/// Who can answer one of the rows alone is asked by that one; the best algorithm goes last.
#[test]
fn v_66_the_rows_that_are_left_are_those_that_their_sender_can_answer() {
    let named = "Authorization: Digest username=\"a\", realm=\"3GPP-bootstrapping@edge.example.net\", nonce=\"\", uri=\"sip:example.net\", response=\"\"\n";
    let account = "Authorization: Digest username=\"a\", realm=\"example.net\", nonce=\"\", uri=\"sip:example.net\", response=\"\"\n";
    let (of_account, gba) = ("example.net".to_owned(), GBA_REALM.to_owned());
    let [best, md5] = ["SHA-256", "MD5"].map(str::to_owned);
    for (number, more, realm) in [
        (1, account, &of_account),
        (2, "User-Agent: phone/1 3gpp-gba\n", &gba),
        (3, "User-Agent: phone 3gpp-gba-uicc\n", &gba),
        (4, named, &gba),
    ] {
        // Wrong credentials count as failures: each kind is an address of its own.
        let (mut lab, mut few) = (lab(), Vec::new());
        for length in (300..600).step_by(20) {
            let text = bare(length, 1000 * number + u32::try_from(length).expect("small"), more);
            few.extend(lab.receive(&Peer::udp("192.0.2.10:6666"), &text).first().map(rows));
        }
        let one = vec![(realm.clone(), best.clone())];
        let two = vec![(realm.clone(), best.clone()), (realm.clone(), md5.clone())];
        assert!(few.contains(&two), "{more}: {few:?}");
        assert!(
            few.iter().all(|rows| *rows == one || rows.starts_with(&two) || rows.ends_with(&two)),
            "{more}: {few:?}"
        );
    }
}

/// A UE with a bootstrapped key gets in by the one row that its short request has room for.
#[test]
fn v_66_a_ue_with_a_bootstrapped_key_still_gets_in() {
    let mut lab = Lab::new(with_accounts());
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    key.nonce.clear();
    let agent = "User-Agent: UE 3gpp-gba\n";
    let text = in_dialog("MESSAGE", "sip:bob@example.net", "alice", "", "m", 1, None, agent);
    let sent = lab.receive(&alice, &text);
    assert!(rows(&sent[0]).len() < 4, "{}", sent[0].text());
    assert_eq!(key.challenged(&sent[0].message), Some(false), "{}", sent[0].text());
    register(&mut lab, &alice, "alice", &mut key);
}

/// While a key is asked for, an INVITE is told so; both answers count.
#[test]
fn v_66_what_was_told_while_a_key_was_asked_for_counts() {
    let mut lab = Lab::new(with_accounts());
    lab.keys.otherwise(KeyAnswer::Ask);
    let btid = Btid::new("AAAAAAAAAAAAAAAAAAAAAA==@bsf.example.net").expect("a B-TID");
    let mut signer = lab.signer(btid.as_str(), UE1_PASSWORD);
    let mallory = Peer::udp("198.51.100.66:5060");
    let text = request("INVITE", "sip:bob@example.net", "x", "c", 1, Some(&mut signer));
    let mut told = lab.receive(&mallory, &text);
    assert_eq!((lab.last(), status_to(&told, &mallory)), (Outcome::Waits, Some(100)));
    lab.keys.otherwise(KeyAnswer::Unknown);
    let naf = NafId::new(EDGE, UaId::SIP_DIGEST);
    told.extend(lab.answered(&Lookup::NafKey { btid, naf }));
    assert_eq!(status_to(&told, &mallory), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::BadCredentials));
    let octets: usize = told.iter().map(|sent| sent.message.octets().len()).sum();
    assert!(octets <= ANSWER_FACTOR * octets_of(&text).len(), "{octets}");
}
