//! Stage 4: what stands in credentials that are not good, who else they might be good for, and what their sender learns.

use std::sync::Arc;
use std::time::Duration;

use sipward::authentication::accounts::{Account, AccountUnfit, Accounts, Secret};
use sipward::authentication::{Caller, Kind};
use sipward::gate::Lookup;
use sipward::identity::{Btid, Impu, Principal, Proof};
use sipward::journey::Outcome;
use sipward::keys::{KeyAnswer, NafId, UaId};
use sipward::refusal::Refusal;
use sipward::testing::lab::{EDGE, UE1_BTID, UE1_PASSWORD, lab_key};
use sipward::testing::{Lab, LabSettings, Peer, Sent, Signer};
use zeroize::Zeroizing;

use crate::scene::{in_dialog, request, respond, status_to, to_core};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@example.net";
const METHODS: [&str; 14] = [
    "INVITE",
    "REGISTER",
    "OPTIONS",
    "SUBSCRIBE",
    "NOTIFY",
    "PUBLISH",
    "REFER",
    "MESSAGE",
    "INFO",
    "PRACK",
    "UPDATE",
    "BYE",
    "STRANGE",
    "invite",
];

/// Makes other octets of a request.
type Alter = Box<dyn Fn(String) -> String>;

fn account(password: &str, identity: &str) -> Account {
    Account {
        secret: Secret::Password(Zeroizing::new(password.into())),
        identities: [Impu::new(identity).expect("a URI")].into(),
        disabled: false,
        classes: None,
    }
}

/// Settings with alice, and with carol, who may not use the service now.
pub(crate) fn with_accounts() -> LabSettings {
    let mut settings = LabSettings::default();
    let carol = Account { disabled: true, ..account("opensesame", "sip:carol@example.net") };
    for (name, account) in
        [("alice", account("wonderland", "sip:alice@example.net")), ("carol", carol)]
    {
        settings.accounts.add("example.net", name, account).expect("room");
    }
    settings
}

/// Another signer with the nonce of `like`, of the realm of accounts.
fn of_account(like: &Signer, username: &str, password: &str) -> Signer {
    let mut signer = Signer::new(username, password, "example.net");
    signer.nonce = like.nonce.clone();
    signer
}

/// Nobody but the one who sent it heard of it.
fn nothing_went_on(sent: &[Sent], peer: &Peer, what: &str) {
    assert!(sent.iter().all(|sent| sent.to == peer.flow().remote), "{what}: {sent:?}");
}

/// An answer without what differs between any two requests: To tag, nonces, and what is echoed.
fn bare(answer: &Sent) -> String {
    let text = answer.text();
    let kept = text.lines().filter(|line| {
        !["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name))
    });
    let without_nonce = |line: &str| match line.split_once("nonce=\"") {
        Some((before, rest)) => {
            let (nonce, after) = rest.split_once('"').expect("it ends");
            format!("{before}{} octets{after}", nonce.len())
        }
        None => line.to_owned(),
    };
    kept.map(without_nonce).collect::<Vec<_>>().join("\n")
}

/// V-20: only ACK, CANCEL, and what comes on a channel that proved somebody need no credentials.
#[test]
fn v_20_no_method_is_exempt_on_any_transport() {
    for (name, peer) in [
        ("udp", Peer::udp(ALICE)),
        ("tcp", Peer::tcp(ALICE, 1)),
        ("tls", Peer::tls(ALICE, 2)),
        ("dtls", Peer::dtls(ALICE, 3)),
        ("wss", Peer::wss(ALICE, 4)),
    ] {
        for method in METHODS {
            let mut lab = Lab::default();
            let text = request(method, BOB, "alice", "m", 1, None);
            let sent = lab.receive(&peer, &text);
            assert_eq!(status_to(&sent, &peer), Some(407), "{method} over {name}");
            nothing_went_on(&sent, &peer, method);
            let text = in_dialog(method, BOB, "alice", "t", "n", 1, None, "");
            let sent = lab.receive(&peer, &text);
            assert_eq!(status_to(&sent, &peer), Some(481), "{method} with a tag over {name}");
            nothing_went_on(&sent, &peer, method);
            assert_eq!(lab.transactions(), 0, "{method} over {name}");
        }
        let mut lab = Lab::default();
        let ack = request("ACK", BOB, "alice", "a", 1, None);
        assert!(lab.receive(&peer, &ack).is_empty(), "an ACK is not answered, {name}");
        let cancel = request("CANCEL", BOB, "alice", "c", 1, None);
        assert_eq!(status_to(&lab.receive(&peer, &cancel), &peer), Some(481), "{name}");
    }
    let mut lab = Lab::default();
    let alice = Caller {
        principal: Principal::new(Proof::UserCertificate, "sip:alice@example.net"),
        renewal: Default::default(),
        identities: [Impu::new("sip:alice@example.net").expect("a URI")].into(),
        key_name: "certificate".into(),
        expires: None,
        strongest: Default::default(),
        rights: Default::default(),
    };
    let proved = Peer::tls(ALICE, 9).proved(Arc::new(alice));
    to_core(&lab.receive(&proved, &request("MESSAGE", BOB, "alice", "p", 1, None)));
    assert_eq!(lab.decisions.last().map(|made| made.evidence), Some(Kind::Channel));
}

/// V-21: each a wrong response, told apart by nobody outside.
#[test]
fn v_21_a_response_that_nearly_fits_does_not_fit() {
    let mut lab = Lab::new(with_accounts());
    let key = lab.ue1();
    let alice = of_account(&key, "alice", "wonderland");
    let swap = |of: &'static str, with: &'static str| move |text: String| text.replace(of, with);
    let cut = |text: String| {
        let (before, response) = text.split_once("response=\"").expect("a response");
        format!("{before}response=\"{}", &response[1..])
    };
    let lengthened = |text: String| text.replacen("response=\"", "response=\"0", 1);
    let shouted = |text: String| {
        let (before, response) = text.split_once("response=\"").expect("a response");
        let (digits, after) = response.split_once('"').expect("it ends");
        format!("{before}response=\"{}\"{after}", digits.to_ascii_uppercase())
    };
    let alter: [(&str, Alter); 11] = [
        ("qop left out though offered", Box::new(swap(", qop=auth, nc=", ", nc="))),
        ("no nc", Box::new(swap("nc=00000001, ", ""))),
        ("no cnonce", Box::new(swap(", cnonce=\"0a4f113b\"", ""))),
        ("an empty cnonce", Box::new(swap("cnonce=\"0a4f113b\"", "cnonce=\"\""))),
        ("a qop that nobody offers", Box::new(swap("qop=auth,", "qop=auth-conf,"))),
        ("a method that nobody offers", Box::new(swap("SHA-256,", "SHA-512-256,"))),
        ("another computation", Box::new(swap("SHA-256,", "SHA-256-sess,"))),
        ("another case of the name", Box::new(swap("username=\"alice\"", "username=\"Alice\""))),
        ("a response too short", Box::new(cut)),
        ("one too long", Box::new(lengthened)),
        ("one in upper case", Box::new(shouted)),
    ];
    for (number, (what, alter)) in alter.into_iter().enumerate() {
        // The failures of one flow are bounded.
        let peer = Peer::udp(&format!("192.0.2.{}:5060", 20 + number));
        let text = request("MESSAGE", BOB, "alice", what, 1, Some(&mut alice.clone()))
            .replace(&format!("{what}MESSAGE"), "x")
            .replace(&format!("Call-ID: {what}"), "Call-ID: x");
        let sent = lab.receive(&peer, &alter(text));
        assert_eq!(status_to(&sent, &peer), Some(407), "{what}");
        assert_eq!(lab.last(), Outcome::Refused(Refusal::BadCredentials), "{what}");
        assert!(!sent[0].text().contains("stale=true"), "{what}");
    }
    let mut empty = of_account(&key, "alice", "");
    let peer = Peer::udp("192.0.2.40:5060");
    let text = request("MESSAGE", BOB, "alice", "e", 1, Some(&mut empty));
    assert_eq!(status_to(&lab.receive(&peer, &text), &peer), Some(407), "an empty password");
    let mut elsewhere = Signer { realm: "example.org".into(), ..alice.clone() };
    let text = request("MESSAGE", BOB, "alice", "r", 1, Some(&mut elsewhere));
    assert_eq!(status_to(&lab.receive(&peer, &text), &peer), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::CredentialsMissing), "another realm is none");
    to_core(
        &lab.receive(&peer, &request("MESSAGE", BOB, "alice", "g", 1, Some(&mut alice.clone()))),
    );
}

/// V-25: credentials are good for the request that they were made for.
#[test]
fn v_25_credentials_of_one_request_are_no_good_on_another() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let good = request("MESSAGE", BOB, "alice", "m", 1, Some(&mut key));
    let before = lab.all_held();
    let line = good.lines().find(|line| line.starts_with("Proxy-Auth")).expect("credentials");
    let onto = |method: &str, uri: &str, call: &str| {
        let more = format!("{line}\n");
        in_dialog(method, uri, "alice", "", call, 2, None, &more)
    };
    for (what, text, refusal, stale) in [
        ("another method", onto("INVITE", BOB, "m"), Refusal::BadCredentials, false),
        ("REGISTER", onto("REGISTER", "sip:example.net", "m"), Refusal::BadCredentials, false),
        (
            "a body that they do not cover",
            good.replace("qop=auth,", "qop=auth-int,"),
            Refusal::BadCredentials,
            false,
        ),
        (
            "another realm",
            good.replace("realm=\"3GPP-bootstrapping@edge", "realm=\"3GPP-bootstrapping@evil"),
            Refusal::CredentialsMissing,
            false,
        ),
    ] {
        let sent = lab.receive(&alice, &text);
        assert_eq!(status_to(&sent, &alice), Some(407), "{what}");
        nothing_went_on(&sent, &alice, what);
        assert_eq!(lab.last(), Outcome::Refused(refusal), "{what}");
        assert_eq!(sent[0].text().contains("stale=true"), stale, "{what}");
    }
    assert_eq!(lab.transactions(), 0, "no effect");
    assert_ne!(before, lab.all_held(), "but for counters");

    to_core(&lab.receive(&alice, &good));
    let sent = lab.receive(&alice, &onto("MESSAGE", BOB, "other"));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::NonceStale), "another call");
    assert!(sent[0].text().contains("stale=true"), "{}", sent[0].text());

    // What was given out in a 401 may be answered to a 407: it is one realm, and one edge.
    let text = request("MESSAGE", BOB, "alice", "again", 1, Some(&mut key));
    to_core(&lab.receive(&alice, &text.replace("Proxy-Authorization", "Authorization")));
}

/// V-25: a body that was signed over is the body that arrives.
#[test]
fn v_25_another_body_under_a_response_that_covers_it() {
    let mut lab = Lab::default();
    let alice = Peer::udp(ALICE);
    let mut key = Signer { auth_int: true, ..lab.ue1() };
    let credentials = key.credentials("MESSAGE", BOB, b"pay 10");
    let text = |call: &str, body: &str| {
        let head = request("MESSAGE", BOB, "alice", call, 1, None);
        let more = format!("Proxy-Authorization: {credentials}\nContent-Type: text/plain\n");
        head.replace("Content-Length: 0\n", &format!("{more}Content-Length: @\n\n{body}"))
    };
    assert_eq!(status_to(&lab.receive(&alice, &text("m", "pay 99")), &alice), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::BadCredentials));
    to_core(&lab.receive(&alice, &text("m", "pay 10")));
}

/// V-26: whoever is not let in learns nothing from how he is not.
#[test]
fn v_26_one_answer_for_all_who_are_not_let_in() {
    let mut lab = Lab::new(with_accounts());
    let key = lab.ue1();
    let (btid, naf) = ("RVhQSVJFREVYUElSRUQ=@bsf.example.net", NafId::new(EDGE, UaId::SIP_DIGEST));
    let over = lab_key(UE1_PASSWORD, "ue9@ims.example.net", &["sip:alice@example.net"], lab.now);
    let expired = Btid::new(btid).expect("a B-TID");
    lab.keys.put(expired, naf, KeyAnswer::Known(Arc::new(over)));
    let signer = |username: &str, password: &str| Signer {
        username: username.into(),
        password: password.into(),
        ..key.clone()
    };
    let mut answers = Vec::new();
    for (number, (what, mut signer)) in [
        ("an unknown user", of_account(&key, "dave", "x")),
        ("a wrong password", of_account(&key, "alice", "x")),
        ("a user who is disabled", of_account(&key, "carol", "opensesame")),
        ("the same, and a wrong password", of_account(&key, "carol", "x")),
        ("an unknown B-TID", signer("AAAAAAAAAAAAAAAAAAAAAA==@bsf.example.net", UE1_PASSWORD)),
        ("an expired one", signer(btid, UE1_PASSWORD)),
        ("a wrong key", signer(UE1_BTID, "x")),
        ("a B-TID of elsewhere", signer("x@attacker.example", UE1_PASSWORD)),
        ("no B-TID", signer("nobody", UE1_PASSWORD)),
    ]
    .into_iter()
    .enumerate()
    {
        let peer = Peer::udp(&format!("192.0.2.{}:5060", 20 + number));
        for (method, to) in [("MESSAGE", "sip:nobody@nowhere.example"), ("REGISTER", BOB)] {
            let text = request(method, to, "alice", "m", 1, Some(&mut signer));
            let sent = lab.receive(&peer, &text);
            nothing_went_on(&sent, &peer, what);
            assert_eq!(lab.last(), Outcome::Refused(Refusal::BadCredentials), "{what}");
            answers.push((what, bare(&sent[0])));
        }
    }
    let (_, first) = answers[0].clone();
    assert!(first.starts_with("SIP/2.0 407 ") && !first.contains("stale=true"), "{first}");
    for (what, answer) in answers {
        assert_eq!(answer, first, "{what}");
    }
    assert!(lab.asked.is_empty(), "nobody was asked");
}

/// V-96: what would make A1 ambiguous is no account, and none is computed over text that was not checked.
#[test]
fn v_96_names_that_would_be_two_names() {
    let mut accounts = Accounts::default();
    let long = "x".repeat(4096);
    for name in ["a:b", ":", "a\"b", "a\\b", "a\u{0}b", "a\nb", "", &long] {
        let refused = accounts.add("example.net", name, account("x", "sip:alice@example.net"));
        assert_eq!(refused, Err(AccountUnfit::Username), "{name:?}");
    }
    // user "alice:x", password "y" and user "alice", password "x:y" have one A1.
    let mut settings = LabSettings::default();
    let alice = account("example.net:wonderland", "sip:alice@example.net");
    settings.accounts.add("example.net", "alice", alice).expect("room");
    let mut lab = Lab::new(settings);
    let key = lab.ue1();
    for (number, name) in
        ["alice:example.net", "alice\\\"", "alice\u{0}", "\u{ff}alice", &long].iter().enumerate()
    {
        let peer = Peer::udp(&format!("192.0.2.{}:5060", 20 + number));
        let text = request(
            "MESSAGE",
            BOB,
            "alice",
            "m",
            1,
            Some(&mut of_account(&key, name, "wonderland")),
        );
        let sent = lab.receive(&peer, &text);
        nothing_went_on(&sent, &peer, name);
        assert!(
            matches!(lab.last(), Outcome::Refused(Refusal::BadCredentials | Refusal::Malformed(_))),
            "{name:?}: {:?}",
            lab.last()
        );
    }
}

/// V-101: what the UE says of itself, or somebody on the way took out of that, changes nothing of what it is asked for.
#[test]
fn v_101_who_has_to_bootstrap_is_offered_nothing_else() {
    let mut settings = with_accounts();
    settings.authentication.offer.realms.retain(|realm| realm.starts_with("3GPP-bootstrapping"));
    settings.authentication.account_realm = None;
    let mut lab = Lab::new(settings);
    let key = lab.ue1();
    let mut challenges = Vec::new();
    for (number, agent) in
        ["", "User-Agent: phone\n", "User-Agent: phone 3gpp-gba\n", "User-Agent: 3gpp-gba-uicc\n"]
            .iter()
            .enumerate()
    {
        let peer = Peer::tcp(ALICE, u32::try_from(number).expect("few"));
        let text = in_dialog("MESSAGE", BOB, "alice", "", "m", 1, None, agent);
        let sent = lab.receive(&peer, &text);
        assert_eq!(status_to(&sent, &peer), Some(407), "{agent}");
        challenges.push(bare(&sent[0]));
    }
    assert!(challenges.iter().all(|one| *one == challenges[0]), "{challenges:?}");
    assert!(!challenges[0].contains("realm=\"example.net\""), "{}", challenges[0]);
    let alice = Peer::udp(ALICE);
    let mut account = of_account(&key, "alice", "wonderland");
    let text = request("MESSAGE", BOB, "alice", "a", 1, Some(&mut account));
    assert_eq!(status_to(&lab.receive(&alice, &text), &alice), Some(407), "nor taken");
}

/// V-102: the digest-uri leads here, or the response is for somebody else.
#[test]
fn v_102_a_digest_uri_of_elsewhere() {
    for (uri, served, strict) in [
        (BOB, true, true),
        ("sip:example.net", true, false),
        ("sip:EXAMPLE.net.", true, false),
        ("sips:edge.example.net", true, false),
        ("sip:bob@example.org", false, false),
        ("sip:example.net.evil.example", false, false),
        ("http://example.net/", false, false),
        ("sip:x@evil.example;maddr=example.net", false, false),
        ("tel:+12015550102", false, false),
        ("*", false, false),
        ("", false, false),
        ("/", false, false),
    ] {
        for (uri_strict, expected) in [(false, served), (true, strict)] {
            let mut settings = LabSettings::default();
            settings.authentication.uri_strict = uri_strict;
            let mut lab = Lab::new(settings);
            let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
            let credentials = key.credentials("MESSAGE", uri, b"");
            let more = format!("Proxy-Authorization: {credentials}\n");
            let sent =
                lab.receive(&alice, &in_dialog("MESSAGE", BOB, "alice", "", "m", 1, None, &more));
            let passed = lab.last() == Outcome::Forwarded;
            assert_eq!(passed, expected, "{uri:?}, strict: {uri_strict}, {:?}", lab.last());
            if !expected {
                assert_eq!(status_to(&sent, &alice), Some(407), "{uri:?}");
                assert_eq!(lab.last(), Outcome::Refused(Refusal::BadCredentials), "{uri:?}");
            }
        }
    }
}

/// V-103: a client that never takes the new nonce is told so, and nobody else on its flow suffers by it.
#[test]
fn v_103_a_client_that_loops_is_told_to_stop() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let spent = request("MESSAGE", BOB, "alice", "m", 1, Some(&mut key));
    let seen = to_core(&lab.receive(&alice, &spent)).clone();
    lab.receive(&Peer::core(), &respond(&seen, 200, "b", ""));
    let again = |lab: &mut Lab, number: u32| {
        let text = spent.replace("z9hG4bKm", &format!("z9hG4bK{number}m"));
        status_to(&lab.receive(&alice, &text), &alice)
    };
    for number in 0..19 {
        assert_eq!(again(&mut lab, number), Some(407), "{number}");
    }
    let good = request("MESSAGE", BOB, "alice", "between", 1, Some(&mut key));
    to_core(&lab.receive(&alice, &good));
    for number in 20..40 {
        assert_eq!(again(&mut lab, number), Some(407), "{number}: in a row since the good one");
    }
    for number in 40..60 {
        assert_eq!(again(&mut lab, number), Some(403), "{number}");
        assert_eq!(lab.last(), Outcome::Refused(Refusal::StaleAgain));
    }
    let good = request("MESSAGE", BOB, "alice", "after", 1, Some(&mut key));
    to_core(&lab.receive(&alice, &good));
    lab.advance(Duration::from_secs(59));
    assert_eq!(again(&mut lab, 60), Some(403));
    lab.advance(Duration::from_secs(2));
    assert_eq!(again(&mut lab, 61), Some(407), "a minute later it may try again");
}

/// V-94: a stranger makes us ask for nothing without a nonce of ours, and with one for no more than ten keys a second.
#[test]
fn v_94_random_names_do_not_make_us_ask() {
    let mut lab = Lab::default();
    lab.keys.otherwise(KeyAnswer::Ask);
    let key = lab.ue1();
    let of = |number: u32| format!("{number:022}==@bsf.example.net");
    let send = |lab: &mut Lab, number: u32, nonce: &str| {
        let peer = Peer::udp(&format!("192.0.2.66:{}", 1024 + number));
        let mut signer = Signer { username: of(number), nonce: nonce.into(), ..key.clone() };
        lab.receive(
            &peer,
            &request("MESSAGE", BOB, "x", &format!("c{number}"), 1, Some(&mut signer)),
        );
    };
    for number in 0..2000 {
        send(&mut lab, number, "c2lwd2FyZC1leGFtcGxlLW5vbmNlLTE=");
    }
    assert!(lab.asked.is_empty(), "no nonce of ours, no question");
    // The address has shown nobody so far: from here on the rates of questions are what is looked at.
    lab.advance(Duration::from_secs(1300));
    let key = lab.ue1();
    let send = |lab: &mut Lab, number: u32| {
        let peer = Peer::udp(&format!("192.0.2.66:{}", 1024 + number));
        let mut signer = Signer { username: of(number), ..key.clone() };
        let text = request("MESSAGE", BOB, "x", &format!("d{number}"), 1, Some(&mut signer));
        lab.receive(&peer, &text);
    };
    for number in 0..2000 {
        send(&mut lab, number);
    }
    assert_eq!(lab.asked.len(), 100, "so many at once");
    let last = lab.last();
    let late = Refusal::KeySourceUnavailable;
    assert!(last == Outcome::Refused(late) || last == Outcome::Dropped(late), "{last:?}");
    for second in 0..10 {
        lab.advance(Duration::from_secs(1));
        for number in 0..100 {
            send(&mut lab, 2000 + second * 100 + number);
        }
    }
    assert_eq!(lab.asked.len(), 200, "and ten a second");

    // Another address is not held to it, nor is one whose keys are found.
    let (cgn, naf) = (Peer::udp("198.51.100.66:5060"), NafId::new(EDGE, UaId::SIP_DIGEST));
    for number in 0..500_u32 {
        let btid = Btid::new(&format!("{number:021}A==@bsf.example.net")).expect("a B-TID");
        let mut signer = lab.signer(btid.as_str(), UE1_PASSWORD);
        let text = request("MESSAGE", BOB, "alice", &format!("e{number}"), 1, Some(&mut signer));
        lab.receive(&cgn, &text);
        assert_eq!(lab.last(), Outcome::Waits, "{number}");
        let end = lab.now + Duration::from_secs(600);
        let impi = format!("ue{number}@ims.example.net");
        let known = lab_key(UE1_PASSWORD, &impi, &["sip:alice@example.net"], end);
        lab.keys.put(btid.clone(), naf.clone(), KeyAnswer::Known(Arc::new(known)));
        to_core(&lab.answered(&Lookup::NafKey { btid, naf: naf.clone() }));
    }
}
