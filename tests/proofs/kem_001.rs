//! KEM-001: keys are agreed upon securely before they are used, and are good for that host, that protocol and that long.
//!
//! Both ways of using one: Digest, and a handshake with (EC)DHE. What is not good is challenged anew or fails, without
//! `stale`, and nothing of it reaches the core. A carried key that runs out ends at the edge by itself. That a bootstrapped
//! key ends to the second, in a call and out of it (rules 17, 18 and 20), is shown under virtual time, by tests/journey and
//! tests/simulation: none ends sooner than after a minute.

use std::time::{Duration, Instant};

use sipward::client::answer::Credential;
use sipward::client::bootstrap::Bootstrapped;
use sipward::keys::psk::PskName;
use sipward::keys::{NafId, UaId};

use sipward::keys::calendar::print_xml;

use crate::home::{ALICE, Home, for_sip, for_tls};
use crate::programs::{PATIENCE, Program, ask};

/// The key as an account's password, under a name that may be another's.
fn posing(keys: &Bootstrapped, btid: &str, host: &str, ua: UaId) -> Credential {
    Credential::Account {
        username: btid.to_owned(),
        password: keys.naf_password(&NafId::new(host, ua)).unwrap(),
        realm: Some("3GPP-bootstrapping@edge.example.net".into()),
    }
}

#[test]
fn kem_001_keys_are_agreed_upon_before_use() {
    let mut home = Home::new("kem-001");
    let keys = home.bootstrap(0);
    let own = keys.btid.as_str();
    assert_eq!(home.register(ALICE, for_sip(&keys)), Ok(200));
    let good = posing(&keys, own, "edge.example.net", UaId::SIP_DIGEST);
    assert_eq!(home.register(ALICE, good), Ok(200), "as it is meant");
    assert_eq!(home.registrar.heard().len(), 2);

    let unknown = own.replacen('@', "x@", 1);
    for (what, btid, host, ua) in [
        ("of another host", own, "other.example.net", UaId::SIP_DIGEST),
        ("of another protocol", own, "edge.example.net", UaId::HTTP_DIGEST),
        ("of another name", unknown.as_str(), "edge.example.net", UaId::SIP_DIGEST),
    ] {
        let said = home.register(ALICE, posing(&keys, btid, host, ua)).unwrap_err();
        assert!(said.contains("the credentials were refused"), "{what}: {said}");
    }
    assert_eq!(home.registrar.heard().len(), 2, "nothing of it was forwarded");
    let challenges = String::from_utf8_lossy(&home.wire.tap.octets()).into_owned();
    let challenges: Vec<_> =
        challenges.lines().filter(|line| line.starts_with("Proxy-Authenticate:")).collect();
    assert!(challenges.len() >= 6, "{challenges:?}");
    assert!(challenges.iter().all(|line| !line.contains("stale=true")), "{challenges:?}");

    // The same in a handshake, of TLS 1.3 and of 1.2, where the suite is part of the key.
    let name = PskName::identity_of(&keys.btid);
    let stranger = name.replacen(own, &unknown, 1);
    let (tls13, tls12) = (UaId::SHARED_KEY_TLS13, UaId::tls(0xCCAC));
    let suite = ["--psk-suite", "ECDHE-PSK-CHACHA20-POLY1305"];
    let mut refusals = Vec::new();
    for (identity, host, ua, more, good) in [
        (&name, "edge.example.net", tls13, &[][..], true),
        (&name, "edge.example.net", tls12, &suite, true),
        (&name, "edge.example.net", tls13, &suite, false),
        (&name, "edge.example.net", UaId::SIP_DIGEST, &[], false),
        (&name, "other.example.net", tls13, &[], false),
        (&stranger, "edge.example.net", tls13, &[], false),
    ] {
        home.folder.write("key.hex", for_tls(&keys, host, ua));
        let words = ["--psk-identity", identity, "--psk-file", "key.hex"];
        let (done, said) = ask(home.phone(&words).args(more));
        assert_eq!(done, good, "{identity}, {host}, {ua:?}: {said}");
        refusals.extend((!done && more.is_empty()).then_some(said));
    }
    assert!(refusals.windows(2).all(|two| two[0] == two[1]), "told apart: {refusals:?}");
    assert_eq!(home.registrar.heard().len(), 4);

    // Without the server, keys that are here are good until their own end, and others are not made up.
    let later = home.bootstrap(100);
    home.bsf.kill();
    assert_eq!(home.register(ALICE, for_sip(&later)), Ok(503));
    assert_eq!(home.register(ALICE, for_sip(&keys)), Ok(200));
    assert_eq!(home.registrar.heard().len(), 5);
}

/// Nobody takes it back: its time comes. The phone that stays is put out, and a new handshake ends as with an unknown name.
#[test]
fn kem_001_a_key_that_ran_out_is_not_used() {
    const NAME: &str = "psk;alice@edge.example.net";
    let home = Home::new("kem-001-end");
    let ends = print_xml(sipward::clock::now().wall + Duration::from_secs(20));
    let words = ["key", "issue", "alice", "--impu", ALICE, "--out", "alice.key", "--expires"];
    let (good, said) = home.command(&[&words[..], &[&ends]].concat());
    assert!(good, "{said}");
    let key = ["--psk-file", "alice.key", "--psk-identity"];
    let deadline = Instant::now() + PATIENCE;
    let becomes = |taken: bool| loop {
        let (good, said) = ask(home.phone(&key).arg(NAME));
        if good == taken {
            break said;
        }
        assert!(Instant::now() < deadline, "never {taken}: {said}");
    };
    becomes(true);
    let stays = ["--json", "--reg-id", "1", "--stay", "600", "--instance", "phone.instance"];
    let mut phone = Program::start(home.phone(&key).arg(NAME).args(stays));
    phone.until("\"status\":200");
    phone.until("lost");
    let refused = becomes(false);
    let before = home.registrar.heard().len();
    let unknown = ask(home.phone(&key).arg("psk;alicf@edge.example.net"));
    assert_eq!((false, refused), unknown);
    assert!(!ask(home.phone(&key).arg(NAME)).0);
    assert_eq!(home.registrar.heard().len(), before, "nothing of it was forwarded");
}
