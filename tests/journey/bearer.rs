//! V-97: no listener takes bearer tokens. Whatever is in one, it proves nobody, nothing that it names is asked for, and it goes
//! no further than to the edge.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer};

use crate::scene::{call, in_dialog, request, status_to, to_core};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@example.net";

/// A token of that header that says who its bearer is.
fn token(header: &str, issuer: &str, expires: u64, signature: &str) -> String {
    let claims = format!(
        r#"{{"iss":"{issuer}","aud":"edge.example.net","sub":"sip:alice@example.net","exp":{expires}}}"#
    );
    let [header, claims] = [header, &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}.{signature}")
}

/// Each kind of token, by what is wrong with it.
fn tokens() -> Vec<(&'static str, String)> {
    let (own, later) = ("https://id.example.net", 4_000_000_000);
    vec![
        ("alg none", token(r#"{"alg":"none"}"#, own, later, "")),
        ("HS256", token(r#"{"alg":"HS256"}"#, own, later, &"A".repeat(43))),
        ("RS256", token(r#"{"alg":"RS256"}"#, own, later, &"A".repeat(342))),
        ("foreign issuer", token(r#"{"alg":"RS256"}"#, "https://evil.example", later, "AAAA")),
        ("expired", token(r#"{"alg":"RS256"}"#, own, 1, "AAAA")),
        ("jku", token(r#"{"alg":"RS256","jku":"http://evil.example/k"}"#, own, later, "AAAA")),
        ("x5u", token(r#"{"alg":"RS256","x5u":"http://evil.example/c"}"#, own, later, "AAAA")),
        ("kid path", token(r#"{"alg":"HS256","kid":"../../dev/null"}"#, own, later, "AAAA")),
        ("opaque", "mF_9.B5f-4.1JqM".into()),
        ("nothing", String::new()),
    ]
}

/// Over UDP and over TLS, in either header, for any method: the usual challenge, and nothing else happens.
#[test]
fn v_97_a_bearer_token_is_no_evidence() {
    let mut lab = Lab::default();
    let before = format!("{:?}", lab.shared.gate.associations.snapshot());
    let mut number = 0;
    for (kind, token) in tokens() {
        for name in ["Authorization", "Proxy-Authorization"] {
            for scheme in ["Bearer", "bearer", "BEARER "] {
                number += 1;
                // A network of its own each, so that no rate is met.
                let udp = Peer::udp(&format!("198.51.{number}.9:5060"));
                let tls = Peer::tls("192.0.2.77:49152", number);
                for peer in [udp, tls] {
                    for method in ["MESSAGE", "REGISTER", "INVITE"] {
                        let more = format!("{name}: {scheme} {token}\n");
                        let id = format!("t{number}");
                        let text = in_dialog(method, BOB, "alice", "", &id, 1, None, &more);
                        let sent = lab.receive(&peer, &text);
                        let what = format!("{kind}, {name}, {scheme}, {method}");
                        assert_eq!(status_to(&sent, &peer), Some(407), "{what}");
                        assert_eq!(sent.len(), 1, "{what}: nobody else hears of it");
                        assert!(!sent[0].text().contains("Bearer"), "{what}: nor is one asked for");
                        let outcome = Outcome::Refused(Refusal::CredentialsMissing);
                        assert_eq!(lab.last(), outcome, "{what}");
                    }
                }
            }
        }
    }
    assert!(lab.asked.is_empty(), "nothing was looked up: {:?}", lab.asked);
    assert_eq!(before, format!("{:?}", lab.shared.gate.associations.snapshot()));
}

/// A megabyte is too much for a header, and is nothing but that.
#[test]
fn v_97_a_token_of_a_megabyte_is_turned_away() {
    let mut lab = Lab::default();
    let tls = Peer::tls("192.0.2.77:49152", 1);
    let more = format!("Authorization: Bearer {}\n", "A".repeat(1 << 20));
    let sent = lab.receive(&tls, &in_dialog("MESSAGE", BOB, "alice", "", "m", 1, None, &more));
    assert!(sent.iter().all(|sent| sent.to == tls.flow().remote), "{}", sent.len());
    assert!(sent.iter().all(|sent| sent.message.octets().len() < 4096), "it does not come back");
    assert!(!matches!(lab.last(), Outcome::Forwarded), "{:?}", lab.last());
}

/// Beside credentials that are good, in the request that begins a dialog and inside of it, through a proxy and back to
/// back: the core sees no token.
#[test]
fn v_97_a_token_beside_good_credentials_is_not_forwarded() {
    for settings in [LabSettings::default(), LabSettings::default().bridging()] {
        let mut lab = Lab::new(settings);
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        for (number, (kind, token)) in tokens().into_iter().enumerate() {
            for name in ["Authorization", "Proxy-Authorization"] {
                let more = format!("{name}: Bearer {token}\nX-Kept: yes\n");
                let id = format!("m{number}{name}");
                let text = in_dialog("MESSAGE", BOB, "alice", "", &id, 1, Some(&mut key), &more);
                let seen = to_core(&lab.receive(&alice, &text)).text();
                let leaks = seen.to_ascii_lowercase().contains("bearer")
                    || !token.is_empty() && seen.contains(&token);
                assert!(!leaks, "{kind}, {name}: {seen}");
            }
        }
    }
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let more = "Authorization: Bearer mF_9.B5f-4.1JqM\n";
    let to = "sip:bob@203.0.113.20:5060";
    let info = in_dialog("INFO", to, "alice", "b", "call", 2, Some(&mut key), more);
    let seen = to_core(&lab.receive(&alice, &info)).text();
    assert!(!seen.contains("mF_9"), "{seen}");
    let bare = request("MESSAGE", BOB, "alice", "x", 1, Some(&mut key));
    assert!(!to_core(&lab.receive(&alice, &bare)).text().contains("Authorization"));
}
