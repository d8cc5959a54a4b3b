//! `sipward audit` as a process: against the edge no case fails, against a server without an edge some do, and the reports show it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use sipward::demo::server::SmallServer;

use super::{Core, Edge, sipward, websocket};

/// The password of the second account.
const SECOND: &str = "a-bridge-over-the-river";

fn json(run: &Output) -> Value {
    let text = String::from_utf8_lossy(&run.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|why| panic!("{why}: {text} {}", String::from_utf8_lossy(&run.stderr)))
}

/// The results, as `case over: verdict, seen`.
fn told(report: &Value) -> Vec<String> {
    let text = |result: &Value, name: &str| result[name].as_str().unwrap_or_default().to_owned();
    let line = |result: &Value| {
        let [case, over, verdict, seen] =
            ["case", "over", "verdict", "seen"].map(|n| text(result, n));
        format!("{case} {over}: {verdict}, {seen}")
    };
    report["results"].as_array().expect("results").iter().map(line).collect()
}

/// The small server of demonstrations; it ends with the process.
fn small_server() -> SocketAddr {
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let loopback = std::net::Ipv4Addr::LOCALHOST.into();
            let server = SmallServer::bind("127.0.0.1:0".parse().unwrap(), loopback).await.unwrap();
            told.send(server.address().unwrap()).unwrap();
            server.run().await;
        });
    });
    address.recv().unwrap()
}

/// An edge in front of `core` that knows two users, and will not be too busy for an audit.
fn audited(name: &str, core: SocketAddr) -> Edge {
    let second = format!(
        "\n[[account]]\nusername = \"bob\"\npassword = \"{SECOND}\"\nidentities = [\"sip:bob@example.net\"]\n"
    );
    Edge::start_with(name, |text| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("serve-{name}"));
        let accounts = folder.join("accounts.toml");
        let first = fs::read_to_string(&accounts).unwrap();
        fs::write(&accounts, format!("{first}{second}")).unwrap();
        let core = format!("sip:{core};transport=udp");
        text.replace("sip:127.0.0.1:5070;transport=tcp", &core)
            .replace("mode = \"observe\"", "mode = \"enforce\"")
            .replace("rate = \"6/min\"", "rate = \"600/min\"")
            .replace("[admission]", "[admission]\nanswer_rate = \"1000/s\"")
            .replace("transports = [\"tls\"]", "transports = [\"tls\", \"dtls\"]")
    })
}

/// What an audit of it says.
fn audit(edge: &Edge, more: &[&str]) -> Output {
    let tls = edge.tls.expect("a listener").port().to_string();
    let mut command = sipward();
    command.args(["audit", &edge.ue.to_string(), "--name", "edge.example.net", "--json"]);
    command.args(["--tls-port", &tls, "--rate", "400", "--patience", "250"]);
    command.arg("--ca").arg(edge.folder.join("lab-ca.pem"));
    command.arg("--accounts").arg(edge.folder.join("accounts.toml"));
    command.args(more).output().unwrap()
}

/// V-10, V-42, V-45, V-68: nor one that loads the edge.
#[test]
fn no_disruptive_case_fails_at_the_edge() {
    let edge = audited("audit-load", small_server());
    let cases = "opening-slow,flood-invite,connections-idle,connections-slow";
    let told = told(&json(&audit(&edge, &["--disruptive", "--case", cases])));
    let passed = |case: &str, over: &str| {
        let row = format!("{case} {over}: passed, ");
        assert!(told.iter().any(|line| line.starts_with(&row)), "{row} in {told:#?}");
    };
    passed("opening-slow", "TCP");
    passed("opening-slow", "TLS");
    cases.split(',').skip(1).for_each(|case| passed(case, "UDP"));
}

/// V-02, V-05, V-09, V-20 to V-23, V-28, V-29, V-42 to V-44, V-48, V-60, V-61, V-63 to V-65, V-70, V-98, V-126, V-131: no attack comes to anything at the edge, over any transport.
#[test]
fn no_case_fails_at_the_edge() {
    let edge = audited("audit", small_server());
    let both = fs::read_to_string(edge.folder.join("accounts.toml")).unwrap();
    let page = edge.folder.join("audit.html");
    let run = audit(&edge, &["--html", page.to_str().unwrap()]);
    let report = json(&run);
    let told = told(&report);
    // WebSocket is a target of its own.
    let bad: Vec<_> = told
        .iter()
        .filter(|line| !line.contains(": passed, ") && !line.starts_with("ws-"))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(run.status.code(), Some(0), "{told:#?}");
    for over in ["UDP", "TCP", "TLS", "DTLS"] {
        let row = format!("content-length-twice {over}: passed, refused with 400");
        assert!(told.contains(&row), "{row} in {told:#?}");
    }
    for row in [
        "replay UDP: passed, challenged again: 407",
        "cancel UDP: passed, refused: 481",
        "answer-forged UDP: passed, the caller was given the callee's answer alone",
        "segment-octets TCP: passed, 1 of 1 got an answer, and one each",
        "segment-two TLS: passed, 2 of 2 got an answer, and one each",
        "tls-1-0 TLS: passed, refused: protocol_version",
        "tls-renegotiation TLS: passed, refused: no_renegotiation",
        "dtls-alert DTLS: passed, the session carries requests as before",
        "dtls-hello DTLS: passed, the session carries requests as before",
        "hops-spent UDP: passed, refused: 483",
        "hops-absent UDP: passed, the call rang, with Max-Forwards: 69",
        "path-forged UDP: passed, registered, and the call came without the detour",
        "privacy-id UDP: passed, the call rang, without the name that another call is given",
        "asserted-forged UDP: passed, the call rang, without what the caller claimed",
    ] {
        assert!(told.contains(&row.into()), "{row} in {told:#?}");
    }
    assert!(told.iter().any(|line| line.starts_with("bye-caller UDP: passed")), "{told:#?}");
    let page = fs::read_to_string(page).unwrap();
    let password = both.lines().find_map(|line| line.strip_prefix("password = ")).unwrap();
    for text in [page.as_str(), &String::from_utf8_lossy(&run.stdout)] {
        assert!(!text.contains(SECOND) && !text.contains(password.trim_matches('"')), "a password");
        assert!(
            text.contains("response=") && text.contains("[64 digits]"),
            "exchanges, blotted out"
        );
    }
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("No attack came to anything"));
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("http://"));
}

/// V-02, V-10, V-13, V-79: nor over WebSocket, in the clear and under TLS.
#[test]
fn no_case_fails_at_an_edge_of_websocket() {
    for (scheme, secure, over) in [("ws", false, "WS"), ("wss", true, "WSS")] {
        let core = Core::start();
        let (edge, address) = websocket::edge(&format!("audit-{scheme}"), secure, &core);
        let run = sipward()
            .args(["audit", &format!("{scheme}://{address}/"), "--name", "edge.example.net"])
            .args(["--domain", "example.net", "--origin", websocket::ORIGIN, "--json"])
            .args(["--group", "malformed,transport", "--rate", "400", "--patience", "250"])
            .arg("--ca")
            .arg(edge.folder.join("lab-ca.pem"))
            .output()
            .unwrap();
        let told = told(&json(&run));
        assert_eq!(run.status.code(), Some(0), "{told:#?}");
        assert!(!told.iter().any(|line| line.contains(": failed, ")), "{told:#?}");
        for row in [
            "content-length-twice {}: passed, refused with 400",
            "ws-protocol {}: passed, refused: 400",
            "ws-origin {}: passed, refused: 403",
            "ws-unmasked {}: passed, refused with 1002",
            "ws-oversized {}: passed, refused with 1009",
        ] {
            let row = row.replace("{}", over);
            assert!(told.contains(&row), "{row} in {told:#?}");
        }
        let version = "tls-1-1 WSS: passed, refused: protocol_version".to_owned();
        assert_eq!(told.contains(&version), secure, "{told:#?}");
    }
}

/// A server without an edge in front believes everybody: the report says where, and shows it.
#[test]
fn a_server_without_an_edge_fails_and_the_report_shows_where() {
    let address = small_server();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("audit-small");
    fs::create_dir_all(&folder).unwrap();
    let accounts = folder.join("accounts.toml");
    fs::write(&accounts, "[[account]]\nusername = \"alice\"\npassword = \"x\"\nidentities = [\"sip:alice@example.net\"]\n").unwrap();
    let audit = |more: &[&str]| {
        let mut command = sipward();
        command.args(["audit", &address.to_string(), "--transport", "udp", "--rate", "400"]);
        command.args(["--patience", "250", "--accounts"]).arg(&accounts).args(more);
        command.output().unwrap()
    };
    let run = audit(&["--json"]);
    assert_eq!(run.status.code(), Some(1));
    let report = json(&run);
    let results = report["results"].as_array().unwrap();
    let of = |name: &str| results.iter().find(|result| result["case"] == name).expect(name);
    let fails = of("register-without-credentials");
    assert_eq!((&fails["verdict"], &fails["seen"]), (&"failed".into(), &"granted: 200".into()));
    let [asked, answered] = fails["exchange"].as_array().unwrap().as_slice() else {
        panic!("{fails:#}");
    };
    assert_eq!((&asked["way"], &answered["way"]), (&"sent".into(), &"received".into()));
    assert!(asked["text"].as_str().unwrap().starts_with("REGISTER sip:example.net SIP/2.0\n"));
    assert!(answered["text"].as_str().unwrap().starts_with("SIP/2.0 200 OK\n"));
    let replay = of("replay");
    assert_eq!(replay["verdict"], "not applicable");
    assert_eq!(replay["seen"], "REGISTER over udp is answered 200, not challenged");
    let mut names: Vec<&str> = fails.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let shape = [
        "accounts",
        "case",
        "clause",
        "disruptive",
        "exchange",
        "group",
        "over",
        "remedy",
        "seen",
        "threats",
        "title",
        "verdict",
        "why",
    ];
    assert_eq!((names.as_slice(), &report["shape"]), (&shape[..], &1.into()));

    let run = audit(&["--group", "registration"]);
    let text = String::from_utf8(run.stdout).unwrap();
    let row = text.lines().find(|line| line.contains("register-without-credentials")).unwrap();
    assert!(row.starts_with("FAILED") && row.ends_with("granted: 200"), "{row}");
    assert!(text.contains("Whoever registers in somebody's name gets his calls."), "{text}");
    assert!(text.contains(" failed, ") && !text.contains("content-length"), "{text}");
    let _ = fs::remove_dir_all(&folder);
}

/// What answers nowhere is no server that is well.
#[test]
fn nothing_is_said_of_a_target_that_does_not_answer() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let run = sipward()
        .args([
            "audit",
            &address,
            "--transport",
            "udp",
            "--patience",
            "50",
            "--rate",
            "1000",
            "--json",
        ])
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(1));
    let report = json(&run);
    assert_eq!(report["summary"]["failed"], 0);
    assert_eq!(report["summary"]["passed"], 0);
    assert_eq!(report["doors"][0]["answer"], Value::Null);
}

#[test]
fn a_target_of_others_is_refused_and_cases_are_listed_without_one() {
    for (arguments, expected) in [
        (
            &["audit", "192.0.2.1"][..],
            "192.0.2.1 is neither loopback nor private: say --i-own-this-target",
        ),
        (&["audit", "127.0.0.1", "--group", "nonsense"], "no such group"),
        (&["audit", "127.0.0.1", "--case", "nonsense"], "no case is called \"nonsense\""),
        (&["audit", "127.0.0.1", "--accounts", "/nonexistent/x"], "/nonexistent/x: "),
        (&["audit"], "Usage: sipward audit"),
    ] {
        let run = sipward().args(arguments).output().unwrap();
        let errors = String::from_utf8(run.stderr).unwrap();
        assert_eq!((run.status.code(), run.stdout.len()), (Some(2), 0), "{arguments:?}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
    let run = sipward().args(["audit", "--list"]).output().unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert_eq!(run.status.code(), Some(0));
    let row = text.lines().find(|line| line.contains(" replay ")).unwrap();
    assert!(row.starts_with("digest") && row.contains("1 account"), "{row}");
    let run = sipward().args(["audit", "--list", "--json"]).output().unwrap();
    let listed = json(&run);
    assert_eq!(listed.as_array().unwrap().len(), text.lines().count() - 1);
}
