//! Real peers: Debian's SIPp, Kamailio and others, started on loopback addresses that only this run uses.
//!
//! A peer that is not installed is a failure that says its name; `tests/run` installs them all.

mod audit;
mod client;
#[cfg(feature = "diameter")]
mod diameter;
mod dtls;
mod edge;
mod kamailio;
mod loopback;
#[cfg(feature = "http")]
mod nbsp;
#[allow(dead_code, reason = "it serves other tests too")]
#[path = "../dtls/papers.rs"]
mod papers;
mod peer;
#[cfg(feature = "openssl")]
mod psk;
mod sipp;
mod spoof;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use edge::Edge;
use kamailio::Kamailio;
use sipp::{Carrier, Sipp};

/// SIPp against itself: the driver counts what went well.
#[test]
fn sipp_calls_sipp_over_udp_and_tcp() {
    for carrier in [Carrier::Udp, Carrier::Tcp] {
        let callee = SocketAddr::new(loopback::address(), 5060);
        let answering = Sipp::builtin("uas").from(callee).carrier(carrier).listen();
        let calling = Sipp::builtin("uac").to(callee).carrier(carrier).calls(20).rate(50);
        let report = calling.traced().within(Duration::from_secs(30)).run();
        report.assert_all_good(20);
        assert_eq!(report.messages.matches("\nBYE sip:").count(), 20, "{carrier:?}");
        let answered = answering.stop();
        if carrier == Carrier::Udp {
            // Over TCP, SIPp gives up a call that lingers when the caller's connection ends.
            assert_eq!((answered.good, answered.failed), (20, 0), "{answered:?}");
        }
    }
}

/// Two SIPp processes wait for each other where the scenario says so.
#[test]
fn a_scenario_for_two_meets_its_other_half() {
    let core = Kamailio::start(loopback::address());
    let meeting_point = loopback::meeting_point();
    let uri = format!("OPTIONS sip:{} SIP/2.0", core.address);
    let to = format!("To: <sip:{}>", core.address);
    let request = request(&uri, &[&to]);
    let tell = "<sendCmd><![CDATA[\nCall-ID: [call_id]\n\n]]></sendCmd>";
    let pair = |name: &str, before: &str, after: &str| {
        let xml = format!("<scenario name=\"{name}\">{before}{request}{after}</scenario>");
        Sipp::inline(name, &xml).to(core.address).calls(1)
    };
    let second = pair("second", "<recvCmd/>", tell).from(SocketAddr::new(core.edge, 5062));
    let second = second.listen_for_third_party(meeting_point);
    let first = pair("first", "", &format!("{tell}<recvCmd/>"));
    let first = first.from(SocketAddr::new(core.edge, 5063)).with_third_party(meeting_point);
    first.run().assert_all_good(1);
    second.finish().assert_all_good(1);
    let seen = core.requests();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(seen[0].call_id, seen[1].call_id, "the second half speaks of the first's call");
}

/// SIPp against nobody: the driver counts what went wrong, and is not taken in by an early end.
#[test]
fn a_failed_call_is_reported() {
    let nobody = SocketAddr::new(loopback::address(), 5060);
    // A bound socket that never answers, so that no other error comes first.
    let _silent = UdpSocket::bind(nobody).expect("a loopback address can be bound");
    let report = Sipp::builtin("uac").to(nobody).calls(1).option("-max_retrans", "1").run();
    assert_eq!((report.good, report.failed, report.exit), (0, 1, Some(1)), "{report:?}");
}

/// The scenarios of `sip-fixtures/sipp` are well formed and stop at what is not a challenge.
#[test]
fn a_scenario_of_ours_reads_its_credentials_and_expects_a_challenge() {
    let core = Kamailio::start(loopback::address());
    let ue = SocketAddr::new(core.edge, 5062);
    let csv = "SEQUENTIAL\nue1;B+/TID==@bsf.example.net;pass+/word==;ims.example\n";
    for scenario in ["register", "message", "call", "reinvite", "subscribe_notify"] {
        let run = Sipp::new(scenario).from(ue).to(core.address).csv_text(csv).service("ue2");
        let report = run.calls(1).run();
        assert_eq!((report.good, report.failed), (0, 1), "{scenario}: {report:?}");
        assert!(report.errors.contains("received 'SIP/2.0 "), "{scenario}: {report:?}");
    }
}

/// The core behind the edge hears the edge alone, and says what it saw.
#[test]
fn kamailio_hears_the_edge_alone() {
    let core = Kamailio::start(loopback::address());
    let options = |from: &str| {
        format!(
            "OPTIONS sip:{} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-1;rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:ue1@ims.example>;tag=1\r\nTo: <sip:{}>\r\n\
             Call-ID: {from}\r\nCSeq: 1 OPTIONS\r\nProxy-Authorization: Digest a=\"b\"\r\n\
             P-Asserted-Identity: <sip:ue1@ims.example>\r\nContent-Length: 0\r\n\r\n",
            core.address, core.address
        )
    };
    for (about, from, status) in
        [("the edge", core.edge, "200"), ("a stranger", loopback::address(), "403")]
    {
        let socket = UdpSocket::bind((from, 5060)).expect("a loopback address can be bound");
        let limit = Some(Duration::from_secs(10));
        socket.set_read_timeout(limit).expect("ten seconds is a time");
        socket.send_to(options(&from.to_string()).as_bytes(), core.address).expect("sent");
        let mut answer = [0; 2048];
        let length = socket.recv(&mut answer).expect("an answer comes");
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(answer.starts_with(&format!("SIP/2.0 {status} ")), "{about}: {answer}");
        let seen = core.await_request(|seen| seen.call_id == from.to_string());
        assert_eq!(seen.method, "OPTIONS", "{about}");
        assert_eq!(seen.asserted.as_deref(), Some("sip:ue1@ims.example"), "{about}");
        assert_eq!((seen.asserted_count, seen.credentials), (1, true), "{about}");
    }
}

/// A registration with a Path is what requests to that user follow.
#[test]
fn kamailio_sends_requests_back_through_the_path() {
    let core = Kamailio::start(loopback::address());
    let edge = SocketAddr::new(core.edge, 5060);
    // The edge's part is played by two SIPp scenarios, written here since only this test needs them.
    let path = format!("Path: <sip:TOKEN@{edge};lr;ob>");
    let register = scenario(
        "REGISTER sip:ims.example SIP/2.0",
        &["To: <sip:ue1@ims.example>", "Contact: <sip:ue1@192.0.2.1:5060>", "Expires: 60", &path],
    );
    let registered = Sipp::inline("path_register", &register).from(edge).to(core.address);
    registered.calls(1).run().assert_all_good(1);
    let back = format!(
        "<scenario name=\"back\"><recv request=\"MESSAGE\"><action><ereg regexp=\"TOKEN@{edge}\" \
         search_in=\"hdr\" header=\"Route:\" check_it=\"true\" assign_to=\"route\"/></action></recv>\
         <Reference variables=\"route\"/><send><![CDATA[\nSIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n\
         [last_To:];tag=1\n[last_Call-ID:]\n[last_CSeq:]\nContent-Length: 0\n\n]]></send></scenario>"
    );
    let answering = Sipp::inline("path_back", &back).from(edge).calls(1).listen();
    let message = scenario("MESSAGE sip:ue1@ims.example SIP/2.0", &["To: <sip:ue1@ims.example>"]);
    let sender = SocketAddr::new(core.edge, 5070);
    let sent = Sipp::inline("path_message", &message).from(sender).to(core.address).calls(1).run();
    sent.assert_all_good(1);
    answering.finish().assert_all_good(1);
    let methods: Vec<String> = core.requests().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["REGISTER", "MESSAGE"]);
}

/// One request that is answered 200, as a SIPp scenario.
fn scenario(start_line: &str, headers: &[&str]) -> String {
    format!("<scenario name=\"one\">{}</scenario>", request(start_line, headers))
}

/// The steps of one request that is answered 200.
fn request(start_line: &str, headers: &[&str]) -> String {
    let method = start_line.split(' ').next().unwrap_or_default();
    format!(
        "<send retrans=\"500\"><![CDATA[\n{start_line}\n\
         Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\nMax-Forwards: 70\n\
         From: <sip:ue2@ims.example>;tag=[call_number]\nCall-ID: [call_id]\nCSeq: 1 {method}\n{}\n\
         Content-Length: 0\n\n]]></send><recv response=\"100\" optional=\"true\"/>\
         <recv response=\"200\"/>",
        headers.join("\n")
    )
}

/// A thousand UEs with bootstrapped keys register, write and call through the edge, over UDP and over TCP.
#[test]
fn a_thousand_ues_of_sipp_register_write_and_call_through_the_edge() {
    register_write_and_call(1000, "proxy", 407);
}

/// A hundred do where the edge stands back to back with Kamailio.
#[test]
fn a_hundred_ues_of_sipp_register_write_and_call_through_a_bridge() {
    register_write_and_call(100, "b2bua", 401);
}

fn register_write_and_call(count: u32, mode: &str, challenge: u16) {
    let core = Kamailio::start(loopback::address());
    let all = usize::try_from(count).expect("a count") + 1;
    let edge = Edge::start_with(&core, all, "info", mode);
    let csv = edge.credentials(all);
    let text = std::fs::read_to_string(&csv).expect("credentials");
    let (callers, callee) = text.trim_end().rsplit_once('\n').expect("the last one answers");
    let user = callee.split(';').next().expect("a user");
    let own = format!("SEQUENTIAL\n{callee}\n");
    for carrier in [Carrier::Udp, Carrier::Tcp] {
        let run = |scenario: &str| {
            let from = SocketAddr::new(loopback::address(), 5060);
            let sipp = Sipp::new(scenario).from(from).to(edge.ue).carrier(carrier);
            let sipp = if scenario == "register" { sipp } else { sipp.challenged(challenge) };
            let sipp = sipp.csv_text(callers).service(user).calls(count).rate(60);
            let report = sipp.within(Duration::from_secs(60)).run();
            assert_eq!(report.failed, 0, "{scenario} {carrier:?}: {report:?}\n{}", edge.said());
            report.assert_all_good(count.into());
        };
        run("register");
        for (scenario, answering) in [("message", "uas_message"), ("call", "uas")] {
            let there = SocketAddr::new(loopback::address(), 5060);
            let register = Sipp::new("register").from(there).to(edge.ue).csv_text(&own).calls(1);
            register.run().assert_all_good(1);
            let listening = Sipp::new(answering).from(there).to(edge.ue).listen();
            run(scenario);
            let answered = listening.stop();
            // An ACK lost on UDP comes again with the next 200; SIPp takes a BYE before it for a failure.
            assert!(answering == "uas" || answered.failed == 0, "{answering}: {answered:?}");
        }
    }
    for seen in core.requests() {
        assert!(!seen.credentials, "credentials of ours reached the core: {seen:?}");
        let bare = matches!(seen.method.as_str(), "ACK" | "CANCEL");
        assert!(bare || seen.asserted_count == 1, "not one asserted identity: {seen:?}");
    }
}

/// The UE of this crate, the edge, Kamailio, and back through the edge to a UE.
#[test]
fn our_ue_and_kamailio_meet_through_the_edge() {
    our_ue("proxy");
}

/// The same where the edge stands back to back with Kamailio.
#[test]
fn our_ue_and_kamailio_meet_through_a_bridge() {
    our_ue("b2bua");
}

fn our_ue(mode: &str) {
    let core = Kamailio::start(loopback::address());
    let edge = Edge::start_with(&core, 2, "info", mode);
    let csv = edge.credentials(2);
    let text = std::fs::read_to_string(csv).expect("credentials");
    let callee = format!("SEQUENTIAL\n{}\n", text.lines().nth(2).expect("the second subscriber"));
    let there = SocketAddr::new(loopback::address(), 5060);
    Sipp::new("register")
        .from(there)
        .to(edge.ue)
        .csv_text(&callee)
        .calls(1)
        .run()
        .assert_all_good(1);
    let listening = Sipp::new("uas").from(there).to(edge.ue).listen();
    let (code, said) = edge.ue(&["register"]);
    assert_eq!((code, said.trim()), (Some(0), "200 OK"));
    let (code, said) = edge.ue(&["call", "sip:ue0002@ims.example", "--hold", "0"]);
    assert_eq!((code, said.trim()), (Some(0), "200 OK"), "{}", edge.said());
    assert_eq!(listening.stop().failed, 0);
    let (code, said) = edge.ue(&["message", "sip:nobody@ims.example", "hello"]);
    assert_eq!((code, said.trim()), (Some(1), "480 Temporarily Unavailable"));
    services(&edge, there, &callee);
    let seen = core.await_request(|seen| seen.method == "BYE");
    assert_eq!(seen.asserted.as_deref(), Some("sip:ue0001@ims.example"));
    for seen in core.requests() {
        assert!(!seen.credentials, "{seen:?}");
        assert!(seen.method == "ACK" || seen.asserted_count == 1, "{seen:?}");
    }
}

/// A message of CPM passes, wrapped and under the name of its service; a chat and a location are more than a flow in the clear
/// is good for, whatever key they come with.
fn services(edge: &Edge, there: SocketAddr, callee: &str) {
    let register = Sipp::new("register").from(there).to(edge.ue).csv_text(callee).calls(1);
    register.run().assert_all_good(1);
    let listening = Sipp::new("uas_message").from(there).to(edge.ue).calls(1).traced().listen();
    let (code, said) = edge.ue(&["message", "--cpm", "sip:ue0002@ims.example", "wrapped"]);
    assert_eq!((code, said.trim()), (Some(0), "200 OK"), "{}", edge.said());
    let heard = listening.finish().messages;
    for part in ["Content-Type: message/cpim", "From: <sip:ue0001@ims.example>", "wrapped"] {
        assert!(heard.contains(part), "{part} in {heard}");
    }
    let service = "*;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"";
    assert!(heard.contains(&format!("Accept-Contact: {service}")), "{heard}");
    for (count, arguments) in [
        (1, &["call", "--chat", "chat.ims.example", "sip:ue0002@ims.example"][..]),
        // With the key of SIP it would be no answer but another challenge.
        (2, &["subscribe", "--location", "sip:van@ims.example"]),
    ] {
        let (code, said) = edge.ue(arguments);
        assert_eq!((code, said.trim()), (Some(1), "403 Forbidden"), "{}", edge.said());
        edge.assert_counted("sipward_refusals_total{refusal=\"SecureRequired\"}", count);
    }
}

/// A re-INVITE in a call, and a subscription with its NOTIFY, pass.
#[test]
fn reinvites_and_notifies_of_sipp_pass() {
    reinvite_and_notify("proxy", 407);
}

/// The same where the edge stands back to back with Kamailio.
#[test]
fn reinvites_and_notifies_of_sipp_are_bridged() {
    reinvite_and_notify("b2bua", 401);
}

fn reinvite_and_notify(mode: &str, challenge: u16) {
    let core = Kamailio::start(loopback::address());
    let edge = Edge::start_with(&core, 2, "info", mode);
    let text = std::fs::read_to_string(edge.credentials(2)).expect("credentials");
    let row = |n: usize| format!("SEQUENTIAL\n{}\n", text.lines().nth(n).expect("a subscriber"));
    for (scenario, answering) in [("reinvite", "uas"), ("subscribe_notify", "notifier")] {
        let there = SocketAddr::new(loopback::address(), 5060);
        let register = Sipp::new("register").from(there).to(edge.ue).csv_text(&row(2)).calls(1);
        register.run().assert_all_good(1);
        let listening = Sipp::new(answering).challenged(challenge).from(there).to(edge.ue);
        let listening = listening.csv_text(&row(2)).listen();
        let from = SocketAddr::new(loopback::address(), 5060);
        let asking = Sipp::new(scenario).challenged(challenge).from(from).to(edge.ue);
        let asking = asking.csv_text(&row(1)).calls(1);
        let report = asking.service("ue0002").run();
        assert_eq!((report.good, report.failed), (1, 0), "{report:?}\n{}", edge.said());
        assert_eq!(listening.stop().failed, 0, "{answering}");
    }
    // A re-INVITE and the BYE of the caller, the NOTIFY of the notifier: each by its owner.
    for method in ["INVITE", "BYE", "NOTIFY"] {
        edge.assert_ruled(1, method, 1);
    }
}

/// Whatever is logged, at the chattiest setting, and whatever the page of counters shows: no key is in it.
#[test]
fn no_key_is_told_in_logs_or_counters() {
    let core = Kamailio::start(loopback::address());
    let edge = Edge::start_with(&core, 2, "trace", "proxy");
    let csv = std::fs::read_to_string(edge.credentials(2)).expect("credentials");
    for arguments in [&["register"][..], &["message", "sip:nobody@ims.example", "a secret text"]] {
        edge.ue(arguments);
    }
    let counters = edge.counters();
    assert!(counters.contains("sipward_requests_total"), "{counters}");
    let told = format!("{}\n{counters}", edge.said());
    assert!(told.contains("CredentialsMissing"), "the log tells of refusals:\n{told}");
    let mut secrets = vec!["465b5ce8b199b49faa5f0a2ee238".to_owned(), "a secret text".to_owned()];
    for row in csv.lines().skip(1) {
        let password = row.split(';').nth(2).expect("a password");
        let octets = sipward::testing::lab::decode(password);
        secrets.push(octets.iter().map(|octet| format!("{octet:02x}")).collect());
        secrets.push(String::from_utf8_lossy(&octets).into_owned());
        secrets.push(password.to_owned());
    }
    for secret in secrets {
        assert!(!told.contains(&secret), "{secret} is told");
    }
}
