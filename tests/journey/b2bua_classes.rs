//! Calls of some classes back to back, those of others through the same edge as through a proxy.

use sipward::enabler::{Class, ClassSet};
use sipward::testing::{Lab, LabSettings, Peer, Sent};

use crate::apart::{Apart, End, at_core};
use crate::b2bua::{ALICE, ALICE_VIA, BOB, CORE_VIA, OFFER, SDP, alice, from_alice, line};
use crate::scene::request;

const CHAT: &str = "Accept-Contact: *;+g.oma.sip-im\n";
const MSRP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=message 7394 TCP/MSRP *\r\na=path:msrp://192.0.2.10:7394/x;tcp\r\n";

/// Chats are bridged, on listeners that are proxies.
fn lab() -> Lab {
    let classes = ClassSet::named("cpm.session").expect("a class");
    Lab::new(LabSettings::default().bridging_classes(classes))
}

fn status(sent: &[Sent]) -> Option<u16> {
    sent.last().and_then(|sent| sent.message.status())
}

#[test]
fn a_chat_is_bridged_and_a_call_beside_it_is_proxied() {
    let mut world = Apart::new(lab(), Peer::tls("192.0.2.10:40000", 1).proved(alice()));
    let chat = from_alice("INVITE", 1, &format!("{CHAT}{SDP}"), MSRP);
    let sent = world.by_ue(&chat);
    let invite = at_core(&sent).clone();
    assert_ne!(invite.message.call_id(), b"alice-call-1");
    let mut bob = End::called(&invite, "bob-tag", BOB, CORE_VIA);
    let sent = world.by_core(&bob.answer(&invite, 200, "", OFFER));
    let mut alice = End::caller(world.at_ue(&sent), ALICE, ALICE_VIA);
    world.by_ue(&alice.numbered("ACK", 1, "", ""));
    // Nothing but the dialog says of what class they are.
    let sent = world.by_core(&bob.request("INFO", "", ""));
    let info = world.at_ue(&sent).clone();
    assert!(info.text().starts_with(&format!("INFO {ALICE} SIP/2.0\r\n")), "{}", info.text());
    world.by_ue(&alice.answer(&info, 200, "", ""));
    let sent = world.by_ue(&alice.request("BYE", "", ""));
    let bye = at_core(&sent).clone();
    assert!(bye.text().starts_with(&format!("BYE {BOB} SIP/2.0\r\n")), "{}", bye.text());
    let class = world.lab.decisions.last().and_then(|decision| decision.class);
    assert_eq!(class, Some(Class::CpmSession));

    let peer = world.ue.clone();
    let sent = world.lab.receive(&peer, &from_alice("INVITE", 2, SDP, OFFER));
    let invite = at_core(&sent);
    assert_eq!(invite.message.call_id(), b"alice-call-2");
    assert_eq!(invite.text().matches("\r\nVia:").count(), 2, "{}", invite.text());
}

/// `AU`: who is a user agent for a class challenges as one, also inside its dialogs.
#[test]
fn a_class_that_is_bridged_is_challenged_with_401() {
    let mut lab = lab();
    let bare = Peer::tls("192.0.2.10:40000", 1);
    let call = request("INVITE", "sip:bob@example.net", "alice", "c", 1, None);
    assert_eq!(status(&lab.receive(&bare, &call)), Some(407));
    let chat = call.replace("Max-Forwards", &format!("{CHAT}Max-Forwards"));
    assert_eq!(status(&lab.receive(&bare, &chat)), Some(401));
    let register = request("REGISTER", "sip:example.net", "alice", "r", 1, None);
    assert_eq!(status(&lab.receive(&bare, &register)), Some(407), "registration is proxied");

    let mut key = lab.ue1();
    let chat = request("INVITE", "sip:bob@example.net", "alice", "d", 2, Some(&mut key));
    let chat = chat.replace("Max-Forwards", &format!("{CHAT}{SDP}Max-Forwards"));
    let chat = chat.replace("Content-Length: 0", &format!("Content-Length: @\n\n{MSRP}"));
    let sent = lab.receive(&bare, &chat);
    let invite = at_core(&sent).clone();
    let bob = End::called(&invite, "bob-tag", BOB, CORE_VIA);
    let sent = lab.receive(&Peer::core(), &bob.answer(&invite, 200, "", ""));
    let accepted = sent.last().expect("an answer");
    assert!(line(&accepted.text(), "Authentication-Info: ").contains("rspauth"));
    let mut alice = End::caller(accepted, ALICE, ALICE_VIA);
    let other = Peer::tls("192.0.2.10:40001", 2);
    assert_eq!(status(&lab.receive(&other, &alice.request("BYE", "", ""))), Some(401));
}
