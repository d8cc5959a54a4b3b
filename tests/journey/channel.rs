//! Stage 4: a flow whose handshake proved who is there.

use std::sync::Arc;
use std::time::Duration;

use sipward::authentication::{Caller, Kind};
use sipward::identity::{Impu, Principal, Proof};
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::lab::UE1_BTID;
use sipward::testing::{Lab, Peer};

use crate::scene::{in_dialog, request, respond, status_to, to_core};

const BOB: &str = "sip:bob@203.0.113.20:5060";
const LIFE: Duration = Duration::from_secs(60);

/// What a handshake with alice's key proves, for a minute.
fn alice(lab: &Lab) -> Arc<Caller> {
    Arc::new(Caller {
        principal: Principal::new(Proof::Gba, "ue1@ims.example.net"),
        renewal: Default::default(),
        identities: [Impu::new("sip:alice@example.net").expect("a URI")].into(),
        key_name: UE1_BTID.into(),
        expires: Some((lab.now + LIFE).wall),
        strongest: Default::default(),
        rights: Default::default(),
    })
}

fn shared(lab: &Lab) -> Peer {
    Peer::tls("192.0.2.10:40000", 1).proved(alice(lab))
}

/// The evidence of the last decision about what a UE sent.
fn evidence(lab: &Lab) -> Option<Kind> {
    lab.decisions.last().map(|decision| decision.evidence)
}

/// Calls bob without any credentials.
fn call(lab: &mut Lab, peer: &Peer) {
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, None);
    let invite = to_core(&lab.receive(peer, &text)).clone();
    let contact = "Contact: <sip:bob@203.0.113.20:5060>\n";
    let back = lab.receive(&Peer::core(), &respond(&invite, 200, "b", contact));
    assert_eq!(status_to(&back, peer), Some(200));
}

#[test]
fn a_ue_with_a_shared_key_registers_and_calls_without_digest() {
    let mut lab = Lab::default();
    let peer = shared(&lab);
    let text = request("REGISTER", "sip:example.net", "alice", "reg", 1, None);
    let seen = to_core(&lab.receive(&peer, &text)).text();
    assert!(seen.contains("P-Asserted-Identity: <sip:alice@example.net>\r\n"), "{seen}");
    assert!(seen.contains("\r\nPath: <sip:"), "{seen}");
    assert_eq!(evidence(&lab), Some(Kind::Channel));
    call(&mut lab, &peer);
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 2, None, "");
    to_core(&lab.receive(&peer, &bye));
    assert_eq!(evidence(&lab), Some(Kind::Channel));
}

#[test]
fn a_shared_key_speaks_for_its_owner_alone() {
    let mut lab = Lab::default();
    let peer = shared(&lab);
    for (method, uri) in [("MESSAGE", "sip:bob@example.net"), ("REGISTER", "sip:example.net")] {
        let text = request(method, uri, "bob", &format!("as-bob-{method}"), 1, None);
        assert_eq!(status_to(&lab.receive(&peer, &text), &peer), Some(403), "{method}");
    }
    // Credentials of another one in the request: they are the caller's (evidence rule 5).
    let mut key = lab.ue2();
    let bare = request("MESSAGE", "sip:alice@example.net", "bob", "ask", 1, None);
    let other = Peer::udp("192.0.2.11:5060");
    let challenge = lab.receive(&other, &bare);
    assert_eq!(key.challenged(&challenge[0].message), Some(false));
    let text = request("MESSAGE", "sip:alice@example.net", "bob", "by-bob", 1, Some(&mut key));
    let seen = to_core(&lab.receive(&peer, &text)).text();
    assert!(seen.contains("P-Asserted-Identity: <sip:bob@example.net>\r\n"), "{seen}");
    assert_eq!(evidence(&lab), Some(Kind::Digest));
}

/// Rule 14: what began on a shared key does not go on with less.
/// V-111.
#[test]
fn a_call_on_a_shared_key_is_not_ended_by_digest_elsewhere() {
    let mut lab = Lab::default();
    let peer = shared(&lab);
    call(&mut lab, &peer);
    let mut key = lab.ue1();
    let other = Peer::tls("192.0.2.10:40001", 2);
    let bare = in_dialog("BYE", BOB, "alice", "b", "call", 2, None, "");
    let challenge = lab.receive(&other, &bare);
    assert_eq!(status_to(&challenge, &other), Some(407));
    assert_eq!(key.challenged(&challenge[0].message), Some(false));
    let signed = in_dialog("BYE", BOB, "alice", "b", "call", 3, Some(&mut key), "");
    assert_eq!(status_to(&lab.receive(&other, &signed), &other), Some(403));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::LevelTooLow));
    let bye = in_dialog("BYE", BOB, "alice", "b", "call", 4, None, "");
    to_core(&lab.receive(&peer, &bye));
}

/// A key proves until it ends, and not a second longer; the flow is closed a little later.
#[test]
fn a_shared_key_that_has_ended_proves_nothing() {
    let mut lab = Lab::default();
    let peer = shared(&lab);
    let message = |call: &str| request("MESSAGE", "sip:bob@example.net", "alice", call, 1, None);
    lab.advance(LIFE - Duration::from_secs(1));
    to_core(&lab.receive(&peer, &message("in-time")));
    lab.advance(Duration::from_secs(1));
    assert_eq!(status_to(&lab.receive(&peer, &message("late")), &peer), Some(407));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::CredentialsMissing));
}
