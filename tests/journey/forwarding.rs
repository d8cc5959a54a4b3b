//! Stage 7: what a request looks like on the other side, and where it goes.

use std::time::Duration;

use sipward::forward::Destination;
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer, Sent};
use sipward::transport::{Flow, ListenerId};

use crate::scene::{
    call, in_dialog, lines, register, request, respond, status_to, to_core, without_token,
};

const ALICE: &str = "192.0.2.10:5060";

fn options(more: &str, hops: &str) -> String {
    format!(
        "OPTIONS sip:bob@example.net SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKo{};rport
{hops}From: <sip:alice@example.net>;tag=alice
To: <sip:bob@example.net>
Call-ID: o
CSeq: 1 OPTIONS
{more}Content-Length: 0
",
        more.len() * 100 + hops.len()
    )
}

#[test]
fn double_record_route_faces_both_ways() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let invite = call(&mut lab, &alice, &mut key).text();
    let routes = lines(&invite, "Record-Route: ");
    assert_ne!(routes[0], routes[1], "each has a token of its own");
    assert_eq!(
        routes.into_iter().map(without_token).collect::<Vec<_>>(),
        ["<sip:edge.example.net:5060;lr>", "<sip:edge.example.net:5060;lr>"],
        "RR-01"
    );
    let vias = lines(&invite, "Via: ");
    assert!(vias[0].starts_with("SIP/2.0/UDP edge.example.net:5060;branch=z9hG4bK00"), "{vias:?}");
    assert!(vias[1].ends_with(";received=192.0.2.10;rport=5060"), "VIA-02: {vias:?}");
}

/// V-65.
#[test]
fn received_and_rport_of_the_sender_are_overwritten() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("MESSAGE", "sip:bob@example.net", "alice", "m", 1, Some(&mut key))
        .replace(";rport", ";rport=9;received=203.0.113.66;maddr=203.0.113.67");
    let sent = lab.receive(&alice, &text);
    let vias = to_core(&sent).text();
    let vias = lines(&vias, "Via: ");
    assert!(vias[1].contains(";received=192.0.2.10;rport=5060"), "VIA-01: {vias:?}");
    assert!(!vias[1].contains("203.0.113.66"), "{vias:?}");
    let seen = to_core(&sent).clone();
    let back = lab.receive(&Peer::core(), &respond(&seen, 200, "b", ""));
    assert_eq!(back[0].to, alice.flow().remote, "VIA-05: never to maddr");
}

#[test]
fn hops_are_counted_and_spent_ones_refused() {
    let mut lab = Lab::default();
    let alice = Peer::udp(ALICE);
    let text = request("MESSAGE", "sip:bob@example.net", "alice", "m", 1, None);
    let spent = text.replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert_eq!(status_to(&lab.receive(&alice, &spent), &alice), Some(483), "PX-04");
    let over = text.replace("Max-Forwards: 70", "Max-Forwards: 256");
    assert_eq!(status_to(&lab.receive(&alice, &over), &alice), Some(400));
    let here = lab.receive(&alice, &options("", "Max-Forwards: 0\n"));
    assert_eq!(
        status_to(&here, &alice),
        Some(200),
        "OPTIONS is answered as by its final recipient"
    );
    let mut key = lab.ue1();
    let absent = request("MESSAGE", "sip:bob@example.net", "alice", "n", 1, Some(&mut key))
        .replace("Max-Forwards: 70\n", "");
    assert!(to_core(&lab.receive(&alice, &absent)).text().contains("Max-Forwards: 70\r\n"));
}

/// V-66.
#[test]
fn options_for_the_edge_itself_are_answered_here() {
    let mut lab = Lab::default();
    let alice = Peer::udp(ALICE);
    let text =
        options("", "Max-Forwards: 70\n").replace("sip:bob@example.net SIP", "sip:example.net SIP");
    let sent = lab.receive(&alice, &text);
    assert_eq!(status_to(&sent, &alice), Some(200));
    assert!(sent[0].message.octets().len() <= 2 * text.len(), "V-66");
    assert_eq!(lab.last(), Outcome::Answered);
}

#[test]
fn a_proxy_require_is_420_and_names_what_is_not_supported() {
    let mut lab = Lab::default();
    let alice = Peer::udp(ALICE);
    let sent = lab.receive(&alice, &options("Proxy-Require: foo, bar\n", "Max-Forwards: 70\n"));
    assert_eq!(status_to(&sent, &alice), Some(420), "PX-02");
    assert_eq!(lines(&sent[0].text(), "Unsupported: "), ["foo", "bar"]);
}

#[test]
fn a_request_that_comes_round_again_is_482() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("MESSAGE", "sip:bob@example.net", "alice", "m", 1, Some(&mut key));
    let sent = lab.receive(&alice, &text);
    let again = to_core(&sent).text();
    assert_eq!(status_to(&lab.receive(&alice, &again), &alice), Some(482), "PX-05");
    assert_eq!(lab.last(), Outcome::Refused(Refusal::LoopDetected));
}

/// V-64.
#[test]
fn a_route_that_leads_past_the_core_is_refused() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    for (n, route) in ["<sip:127.0.0.1;lr>", "<sip:edge.example.net;lr>, <sip:evil.example;lr>"]
        .iter()
        .enumerate()
    {
        let text = in_dialog(
            "MESSAGE",
            "sip:bob@example.net",
            "alice",
            "",
            &format!("m{n}"),
            1,
            Some(&mut key),
            &format!("Route: {route}\n"),
        );
        assert_eq!(status_to(&lab.receive(&alice, &text), &alice), Some(403), "PX-09: {route}");
        assert_eq!(lab.last(), Outcome::Refused(Refusal::RouteForeign));
    }
    let text = request(
        "MESSAGE",
        "sip:bob@example.net;maddr=203.0.113.66",
        "alice",
        "x",
        1,
        Some(&mut key),
    );
    assert_eq!(status_to(&lab.receive(&alice, &text), &alice), Some(403), "PX-10");
    let text = in_dialog(
        "MESSAGE",
        "sip:bob@example.net",
        "alice",
        "",
        "own",
        1,
        Some(&mut key),
        "Route: <sip:edge.example.net:5060;lr>\n",
    );
    assert!(!to_core(&lab.receive(&alice, &text)).text().contains("\r\nRoute:"));
}

#[test]
fn the_service_route_of_the_registrar_is_accepted_from_its_caller() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("REGISTER", "sip:example.net", "alice", "reg", 1, Some(&mut key));
    let sent = lab.receive(&alice, &text);
    let seen = to_core(&sent).clone();
    let more = "Contact: <sip:alice@192.0.2.10:5060>;expires=600\nService-Route: <sip:core.example.net;lr>\n";
    lab.receive(&Peer::core(), &respond(&seen, 200, "r", more));
    let text = in_dialog(
        "MESSAGE",
        "sip:bob@example.net",
        "alice",
        "",
        "m",
        1,
        Some(&mut key),
        "Route: <sip:edge.example.net:5060;lr>, <sip:core.example.net;lr>\n",
    );
    let seen = to_core(&lab.receive(&alice, &text)).text();
    assert_eq!(lines(&seen, "Route: "), ["<sip:core.example.net;lr>"]);
}

#[test]
fn a_server_that_is_not_ready_becomes_500_and_silence_408() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = request("INVITE", "sip:bob@example.net", "alice", "c1", 1, Some(&mut key));
    let sent = lab.receive(&alice, &text);
    let invite = to_core(&sent).clone();
    let back = lab.receive(&Peer::core(), &respond(&invite, 503, "b", ""));
    assert_eq!(status_to(&back, &alice), Some(500), "PX-12, DNS-03");
    assert!(
        back.iter().any(|sent: &Sent| sent.text().starts_with("ACK ")),
        "a 503 is acknowledged too"
    );

    let text = request("INVITE", "sip:bob@example.net", "alice", "c2", 1, Some(&mut key));
    lab.receive(&alice, &text);
    let sent = lab.advance(Duration::from_secs(33));
    assert_eq!(status_to(&sent, &alice), Some(408));

    let text = request("MESSAGE", "sip:bob@example.net", "alice", "c3", 1, Some(&mut key));
    lab.receive(&alice, &text);
    let sent = lab.advance(Duration::from_secs(33));
    let of_the_message = sent.iter().filter(|sent| sent.text().contains("CSeq: 1 MESSAGE"));
    assert!(
        of_the_message.clone().count() > 10,
        "it is repeated, beside the 408 to the INVITE that nobody acknowledges"
    );
    assert!(
        of_the_message.clone().all(|sent| sent.message.status() != Some(408)),
        "TX-05: no 408 but to INVITE"
    );
}

#[test]
fn a_datagram_that_fails_counts_for_a_server_on_its_own_side_alone() {
    for (listener, failed) in [(0, false), (2, true)] {
        let mut lab = Lab::default();
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        let text = request("INVITE", "sip:bob@example.net", "alice", "c1", 1, Some(&mut key));
        lab.receive(&alice, &text);
        // The address of the core's server, as a UE socket or a core socket would have it.
        let flow = Flow { listener: ListenerId(listener), ..Peer::core().flow() };
        let now = lab.now;
        lab.journey().unreachable(&Destination::Flow(flow), now);
        let sent = lab.advance(Duration::ZERO);
        assert_eq!(status_to(&sent, &alice), failed.then_some(500), "from listener {listener}");
    }
}

#[test]
fn a_subscription_is_opened_by_its_notify_and_by_the_group_that_was_asked() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let text = in_dialog(
        "SUBSCRIBE",
        "sip:bob@example.net",
        "alice",
        "",
        "s",
        1,
        Some(&mut key),
        "Event: presence\nExpires: 600\n",
    );
    let sent = lab.receive(&alice, &text);
    let subscribe = to_core(&sent).clone();
    let notify = |branch: &str, tag: &str, event: &str, state: &str| {
        format!(
            "NOTIFY sip:alice@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKn{branch};rport
Max-Forwards: 70
From: <sip:bob@example.net>;tag={tag}
To: <sip:alice@example.net>;tag=alice
Call-ID: s
CSeq: {} NOTIFY
Route: <sip:edge.example.net:5060;lr>, <sip:edge.example.net:5060;lr>
Event: {event}
Subscription-State: {state}
Content-Length: 0
",
            branch.len()
        )
    };
    let core = Peer::core();
    let early = lab.receive(&core, &notify("1", "b", "presence", "active"));
    assert_eq!(early[0].to, alice.flow().remote, "rule 25, before the 200");
    assert_eq!(lab.decisions.last().map(|d| d.rule), Some(25));
    assert_eq!(early[0].text().matches("Record-Route:").count(), 2, "RR-06");
    lab.receive(&core, &respond(&subscribe, 200, "b", "Expires: 600\n"));
    let second = lab.receive(&core, &notify("22", "b", "presence", "active"));
    assert_eq!(second[0].to, alice.flow().remote);
    let other = lab.receive(&core, &notify("333", "b", "dialog", "active"));
    assert_eq!(status_to(&other, &core), Some(481), "another event");
    let wrong = Peer::udp("192.0.2.66:5060");
    assert_eq!(
        status_to(&lab.receive(&wrong, &notify("4444", "b", "presence", "active")), &wrong),
        Some(403)
    );
    lab.receive(&core, &notify("55555", "b", "presence", "terminated;reason=timeout"));
    let late = lab.receive(&core, &notify("666666", "b", "presence", "active"));
    assert_eq!(status_to(&late, &core), Some(481), "rule 31");
}

#[test]
fn what_is_not_touched_leaves_octet_for_octet() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    let odd = "X-Odd :  a ,\n  b\nSubject: Grüße \"x\ns: compact\nUser-Agent: UE 3gpp-gba\n";
    let text =
        in_dialog("MESSAGE", "sip:bob@example.net", "alice", "", "m", 1, Some(&mut key), odd);
    let seen = to_core(&lab.receive(&alice, &text)).text();
    for part in odd.split_inclusive('\n') {
        assert!(seen.contains(part.trim_end()), "{part:?} in {seen}");
    }
}

#[test]
fn a_ue_on_tcp_is_reached_on_its_own_connection() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::tcp("192.0.2.10:40000", 4), lab.ue1());
    let seen = register(&mut lab, &alice, "alice", &mut key).text();
    assert!(lines(&seen, "Path: ")[0].ends_with("@edge.example.net:5060;lr;ob>"), "RG-03: {seen}");
}

/// V-68.
#[test]
fn a_flood_without_credentials_makes_no_transaction_and_is_bounded() {
    let mut lab = Lab::new(LabSettings::default());
    for n in 0..5000_u32 {
        let rogue = Peer::udp(&format!("198.18.{}.{}:5060", n / 250, n % 250 + 1));
        let method = ["INVITE", "SUBSCRIBE", "REFER", "MESSAGE", "STRANGE"][n as usize % 5];
        lab.receive(
            &rogue,
            &request(method, "sip:bob@example.net", "alice", &format!("f{n}"), 1, None),
        );
    }
    assert_eq!(lab.transactions(), 0, "V-68");
    assert!(lab.shared.gate.associations.snapshot().is_empty());
    assert!(lab.shared.gate.footprint() < 20_000, "{}", lab.shared.gate.footprint());
}

/// Alice writes to bob, and a server answers; gives the servers that were asked, in order, and what alice heard.
fn asked(
    lab: &mut Lab,
    number: u32,
    answer: impl Fn(&str) -> (u16, &'static str),
) -> (Vec<String>, Option<u16>) {
    let alice = Peer::udp("192.0.2.10:5060");
    let mut key = lab.ue1();
    let call = format!("m{number}");
    let text = request("MESSAGE", "sip:bob@example.net", "alice", &call, 1, Some(&mut key));
    let (mut sent, mut asked) = (lab.receive(&alice, &text), Vec::new());
    while let Some(to_core) = sent.iter().find(|sent| sent.message.is_request()).cloned() {
        let server = to_core.to.to_string();
        let (status, more) = answer(&server);
        sent = lab.receive(&Peer::core_at(&server), &respond(&to_core, status, "b", more));
        asked.push(server);
    }
    (asked, status_to(&sent, &alice))
}

/// V-135.
#[test]
fn a_server_that_asks_for_a_pause_gets_it_unless_it_is_the_only_one() {
    const FIRST: &str = "203.0.113.10:5060";
    const SECOND: &str = "203.0.113.11:5060";
    let edge = || {
        let core = vec![FIRST, SECOND];
        Lab::new(LabSettings { core, ..LabSettings::default() })
    };
    let first_is_busy = |retry: &'static str| {
        move |server: &str| if server == FIRST { (503, retry) } else { (200, "") }
    };
    let well = |_: &str| (200, "");
    for (retry, pause) in [
        ("Retry-After: 20 (in a while)\n", 20),
        ("Retry-After: 86400\n", 60),
        ("Retry-After: 1000000000\n", 60),
        ("Retry-After: 0\n", 0),
        ("", 0),
    ] {
        let mut lab = edge();
        let (servers, heard) = asked(&mut lab, 1, first_is_busy(retry));
        assert_eq!((servers, heard), (vec![FIRST.into(), SECOND.into()], Some(200)), "{retry}");
        if pause > 0 {
            lab.advance(Duration::from_secs(pause - 1));
            let (servers, heard) = asked(&mut lab, 2, well);
            assert_eq!((servers, heard), (vec![SECOND.into()], Some(200)), "{retry}");
            lab.advance(Duration::from_secs(1));
        }
        let (servers, _) = asked(&mut lab, 3, well);
        assert_eq!(servers, [FIRST], "{retry}: it is back");
    }

    let mut lab = edge();
    let busy = |_: &str| (503, "Retry-After: 30\n");
    let (servers, heard) = asked(&mut lab, 1, busy);
    assert_eq!((servers, heard), (vec![FIRST.into(), SECOND.into()], Some(500)), "PX-12");
    let (servers, heard) = asked(&mut lab, 2, well);
    assert_eq!((servers, heard), (vec![FIRST.into()], Some(200)), "no other is left");

    let mut lab = edge();
    asked(&mut lab, 1, first_is_busy("Retry-After: 30\n"));
    let second_is_busy = |server: &str| if server == SECOND { (503, "") } else { (200, "") };
    let (servers, heard) = asked(&mut lab, 2, second_is_busy);
    assert_eq!((servers, heard), (vec![SECOND.into(), FIRST.into()], Some(200)), "the last resort");
}
