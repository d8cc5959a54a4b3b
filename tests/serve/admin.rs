//! The admin socket: the running edge is asked by `sipward status` and `sipward sa`, and by nobody else's user.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use sipward::client::ue::Ue;
use sipward::http::admin::views::{Dialogs, Explanation};
use sipward::keys::sqn::SqnWindow;
use sipward::keys::subscribers::file;
use sipward::keys::usim::Usim;
use sipward::transport::Transport;
use sipward::wire::{Message, Name};

use super::{Core, Edge, alice, sipward, ue_with};

fn ask(edge: &Edge, arguments: &[&str]) -> Output {
    let config = edge.folder.join("sipward.toml");
    sipward().args(arguments).arg("-c").arg(config).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What the socket answers to octets.
fn raw(edge: &Edge, request: &str) -> String {
    let mut socket = UnixStream::connect(edge.folder.join("sipward.sock")).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn status_and_associations_of_a_running_edge() {
    let core = Core::start();
    let edge = Edge::start_with("admin", |text| {
        let peer = format!("sip:{};transport=udp", core.address);
        let text = text.replace("sip:127.0.0.1:5070;transport=tcp", &peer);
        format!("{text}\n[aka]\nrealm = \"ims.example.net\"\nalgorithms = [\"AKAv2-SHA-256\"]\n")
    });
    let status = said(&ask(&edge, &["status"]));
    assert!(status.contains("load: normal"), "{status}");
    let row = status.lines().find(|row| row.starts_with("ue ")).expect(&status);
    assert!(row.contains(&edge.ue.to_string()) && row.ends_with("UDP TCP"), "{row}");
    assert!(status.contains("0 registrations, 0 keys, 0 dialogs of 250000"), "{status}");
    let none = said(&ask(&edge, &["sa", "list"]));
    assert!(none.starts_with("ID ") && none.lines().count() == 1, "{none}");

    let subscriber = file::load(&edge.folder.join("subscribers.toml")).unwrap().remove(0);
    let card = Usim::new(subscriber.algorithms.unwrap(), SqnWindow::default());
    let settings = ue_with(&Arc::new(Mutex::new(card)), &subscriber.impi, edge.ue);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ue = Ue::connect(settings).await.unwrap();
        ue.register(600).await.unwrap();
        assert_eq!(ue.call("sip:bob@example.net").await.unwrap().answer.status(), Some(200));
    });
    let status = said(&ask(&edge, &["status"]));
    assert!(status.contains("1 registrations"), "{status}");
    let list = said(&ask(&edge, &["sa", "list", "--json"]));
    let list: Dialogs = serde_json::from_str(&list).expect(&list);
    // Its INVITE is waited for still, since it may have forked.
    let dialog = list.dialogs.iter().find(|one| one.state == "bound").expect("a dialog");
    assert!(dialog.ue.owner.contains(subscriber.impi.as_str()), "{dialog:?}");
    assert_eq!((&*dialog.state, &*dialog.begun_by, dialog.invite), ("bound", "ue", true));
    let shown = said(&ask(&edge, &["sa", "show", &dialog.id.to_string()]));
    assert!(shown.contains("rule of the latest") && shown.contains(&dialog.ue.owner), "{shown}");
    for (owner, count) in [(subscriber.impi.as_str(), list.found), ("nobody", 0)] {
        let list = said(&ask(&edge, &["sa", "list", "--owner", owner]));
        assert_eq!(list.lines().count(), 1 + count, "{list}");
    }
    let unknown = ask(&edge, &["sa", "show", "4711"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&unknown.stderr), "no dialog has that number\n");
}

/// A request inside the dialog that `answer` made, without credentials.
fn inside_text(method: &str, answer: &Message, from: &str) -> String {
    let field = |name| String::from_utf8(answer.first(name).unwrap().to_vec()).unwrap();
    format!(
        "{method} sip:bob@example.net SIP/2.0\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{method};rport\n\
         Max-Forwards: 70\nFrom: {}\nTo: {}\nCall-ID: {}\nCSeq: 90 {method}\nContent-Length: 0\n\n",
        field(Name::From),
        field(Name::To),
        field(Name::CallId)
    )
}

/// What the edge says of a message.
fn explain(edge: &Edge, message: &str, arguments: &[&str]) -> Explanation {
    let file = edge.folder.join("captured.sip");
    std::fs::write(&file, message).unwrap();
    let output = ask(edge, &[&["explain", file.to_str().unwrap(), "--json"], arguments].concat());
    let found: Explanation =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {output:?}"));
    let refused = matches!(&*found.outcome, "refused" | "dropped");
    assert_eq!(output.status.code(), Some(i32::from(refused)), "{output:?}");
    found
}

fn summary(found: &Explanation) -> (&str, u8, Option<&str>, Option<u16>, &str) {
    (&found.outcome, found.rule, found.refusal.as_deref(), found.answer, &found.text)
}

/// Whatever is explained has no effect: neither counters nor tables move by it.
#[test]
fn a_message_is_explained_and_nothing_comes_of_it() {
    let core = Core::start();
    let edge = Edge::start_with("admin-explain", |text| {
        let peer = format!("sip:{};transport=udp", core.address);
        text.replace("sip:127.0.0.1:5070;transport=tcp", &peer)
    });
    let names = [
        r#"sipward_requests_total{method="MESSAGE",side="ue"}"#,
        r#"sipward_refusals_total{refusal="CredentialsMissing"}"#,
        r#"sipward_outcomes_total{outcome="refused"}"#,
        r#"sipward_outcomes_total{outcome="forwarded"}"#,
        r#"sipward_association_evidence_total{evidence="none"}"#,
    ];
    assert_eq!(edge.metrics(names), [0; 5]);
    let from_core = ["--core", "--from", "127.0.0.1:5070"];
    let trusted = super::MESSAGE.replace("127.0.0.1:9", "127.0.0.1:5070");
    for (message, arguments, expected) in [
        (super::MESSAGE, &[][..], ("refused", 3, Some("CredentialsMissing"), Some(407))),
        (
            &*super::MESSAGE.replace("Forwards: 70", "Forwards: 0"),
            &[],
            ("refused", 0, Some("HopsSpent"), Some(483)),
        ),
        (
            &*super::MESSAGE.replace("CSeq: 1 MESSAGE", "CSeq: 1 BYE"),
            &[],
            ("refused", 0, Some("Malformed"), Some(400)),
        ),
        (
            &*super::MESSAGE.replace("bob@example.net>\r", "bob@example.net>;tag=2\r"),
            &[],
            ("refused", 6, Some("DialogUnknown"), Some(481)),
        ),
        (
            &*super::MESSAGE.replace("MESSAGE", "ACK"),
            &[],
            ("dropped", 15, Some("AckUnmatched"), None),
        ),
        (
            &*super::MESSAGE.replace("UDP 127", "TLS 127"),
            &["--transport", "tls"],
            ("refused", 3, Some("CredentialsMissing"), Some(407)),
        ),
        (
            &*trusted,
            &["--core", "--from", "203.0.113.99:5060"],
            ("refused", 26, Some("PeerUnknown"), Some(403)),
        ),
        (&*trusted, &from_core, ("refused", 0, Some("NoRoute"), Some(404))),
        ("nothing of the kind", &[], ("dropped", 0, Some("Malformed"), None)),
    ] {
        let found = explain(&edge, message, arguments);
        let (outcome, rule, refusal, answer, _) = summary(&found);
        assert_eq!((outcome, rule, refusal, answer), expected, "{found:?}");
        let alone = explain(&edge, message, &[arguments, &["--offline"]].concat());
        assert_eq!(format!("{alone:?}"), format!("{found:?}"), "an edge that has just begun");
    }
    let file = edge.folder.join("captured.sip");
    std::fs::write(&file, super::MESSAGE).unwrap();
    let file = file.to_str().unwrap();
    let shown = ask(&edge, &["explain", file]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.status.code(), Some(1), "{text}");
    for part in [
        "STAGE",
        "admission",
        "no Proxy-Authorization",
        "3, evidence missing",
        "CredentialsMissing: ",
        "407",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for (arguments, code) in [
        (&["explain", "/nonexistent"][..], 2),
        (&["explain", file, "--listener", "nobody"], 1),
        (&["explain", file, "--transport", "sctp"], 1),
        (&["explain", file, "--transport", "ws"], 1),
        (&["explain", file, "--core", "--peer", "nobody"], 1),
    ] {
        let output = ask(&edge, arguments);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(edge.metrics(names), [0; 5], "nothing was counted");
    assert!(core.heard.lock().unwrap().is_empty(), "nothing was sent");
    let status = said(&ask(&edge, &["status"]));
    assert!(status.contains("0 registrations, 0 keys, 0 dialogs"), "{status}");
    assert!(edge.ask(super::MESSAGE).starts_with("SIP/2.0 407 "), "as it was said");
}

/// Nothing runs, and nothing has to: the file alone says what an edge by it would do.
#[test]
fn a_message_is_explained_where_no_edge_runs() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("explain-offline");
    let _ = std::fs::remove_dir_all(&folder);
    let made = sipward().arg("init").arg(&folder).stdout(Stdio::null()).status().unwrap();
    assert!(made.success());
    let (config, message) = (folder.join("sipward.toml"), folder.join("captured.sip"));
    std::fs::write(&message, super::MESSAGE).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = sipward();
        command.arg("explain").arg(&message).arg("-c").arg(&config).args(arguments);
        let output = command.output().unwrap();
        let said = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        (output.status.code(), said(&output.stdout), said(&output.stderr))
    };
    let (code, out, errors) = run(&["--offline"]);
    assert_eq!((code, errors.as_str()), (Some(1), ""), "{out}");
    let row = |name: &str| {
        let row = out.lines().find_map(|row| row.strip_prefix(name)).map(str::trim);
        row.unwrap_or_else(|| panic!("{name}: {out}"))
    };
    assert_eq!(row("OUTCOME"), "refused");
    assert_eq!(row("evidence"), "none so far");
    assert_eq!(row("decided by"), "no Proxy-Authorization, no Authorization");
    assert_eq!(row("rule"), "3, evidence missing or too weak");
    assert_eq!(row("answer"), "407");
    for (arguments, code, why) in [
        (&[][..], 1, "no edge answers"),
        (&["--offline", "--listener", "nobody"], 1, "no listener has that name"),
        (&["--offline", "--transport", "sctp"], 1, "no such transport"),
        (&["--offline", "--core", "--peer", "nobody"], 1, "no peer has that name"),
        (&["--offline", "--socket", "x"], 2, "cannot be used with"),
    ] {
        let (found, out, errors) = run(arguments);
        assert_eq!((found, out.as_str()), (Some(code), ""), "{arguments:?}: {errors}");
        assert!(errors.contains(why), "{arguments:?}: {errors}");
    }
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("mode = \"observe\"", "mode = \"watch\"")).unwrap();
    let (code, out, errors) = run(&["--offline"]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{errors}");
    assert!(errors.contains("sipward.toml:"), "{errors}");
}

/// V-73.
#[test]
fn the_socket_is_for_our_own_user_and_says_nothing_to_what_stands_in_no_row() {
    let mut edge = Edge::start("admin-closed");
    let mode = std::fs::metadata(edge.folder.join("sipward.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (request, status) in [
        ("GET / HTTP/1.1", "404"),
        ("GET /associations/x HTTP/1.1", "404"),
        ("DELETE /status HTTP/1.1", "405"),
        ("POST /associations/1 HTTP/1.1", "405"),
        ("DELETE /associations HTTP/1.1", "400"),
        ("DELETE /associations/1 HTTP/1.1", "404"),
        ("GET /associations?limit=0 HTTP/1.1", "400"),
        ("GET /associations?call HTTP/1.1", "400"),
        ("GET /status HTTP/1.1", "200"),
        ("sipward", "400"),
    ] {
        let answer = raw(&edge, &format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    let heard = edge.until("outcome=\"nothing\"");
    let audit: Vec<&str> = heard.lines().filter(|line| line.contains(" audit: ")).collect();
    assert_eq!(audit.len(), 4, "what only looks is not there: {heard}");
    let refused = audit.iter().filter(|line| line.contains("outcome=\"refused\"")).count();
    assert_eq!(refused, 3, "{heard}");
    let uid = format!("uid={}", nix::unistd::geteuid());
    assert!(audit.iter().all(|line| line.contains(&uid) && line.contains("pid=")), "{heard}");
}

/// Rule 19, on a running edge: the owner may end what was taken back, and nothing else; what he begins anew is his.
#[test]
fn what_is_taken_back_of_a_call_that_is_up() {
    let core = Core::start();
    let mut edge = Edge::start_with("admin-revoke", |text| {
        let peer = format!("sip:{};transport=udp", core.address);
        text.replace("sip:127.0.0.1:5070;transport=tcp", &peer)
            .replace("\"observe\"", "\"enforce\"")
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = alice(&edge, Transport::Udp);
    let (ue, first, second, answer) = runtime.block_on(async {
        let ue = Ue::connect(settings).await.unwrap();
        ue.register(600).await.unwrap();
        let first = ue.call("sip:bob@example.net").await.unwrap();
        let second = ue.call("sip:carol@example.net").await.unwrap();
        (ue, first.call_id, second.call_id, first.answer)
    });
    let inside = |call_id: &str, method| {
        runtime.block_on(async {
            let draft = ue.inside(call_id, method).await.unwrap();
            ue.send(draft).await.unwrap().status().unwrap()
        })
    };
    assert_eq!(inside(&first, "INFO"), 200, "the call is up");
    let found = |call_id: &str| {
        let list = said(&ask(&edge, &["dialog", "show", call_id, "--json"]));
        let list: Dialogs = serde_json::from_str(&list).expect(&list);
        list.dialogs.into_iter().find(|one| one.state != "forming").expect("a dialog")
    };
    let dialog = found(&first);
    assert_eq!((&*dialog.state, dialog.last_rule), ("bound", 1), "{dialog:?}");
    assert_eq!((&*dialog.ue.role, &*dialog.core.role), ("caller", "callee"), "{dialog:?}");
    assert!(dialog.core.target.is_some() && dialog.ue.anchors.len() == 1, "{dialog:?}");
    let told = format!("{dialog:?}");
    assert!(!told.contains(&first) && !told.contains("sip:"), "V-49: {told}");
    let shown = said(&ask(&edge, &["dialog", "show", &first]));
    assert!(shown.contains("remote target") && shown.contains("LEG"), "{shown}");
    for wrong in
        [vec!["dialog", "show", "nobody"], vec!["dialog", "show", &first, "--tags", "a", "b"]]
    {
        assert_eq!(ask(&edge, &wrong).status.code(), Some(1), "{wrong:?}");
    }
    let info = inside_text("INFO", &answer, &ue.local().to_string());
    let explained = explain(&edge, &info, &["--from", &ue.local().to_string()]);
    let expected = (
        "refused",
        3,
        Some("CredentialsMissing"),
        Some(407),
        "no Proxy-Authorization, no Authorization",
    );
    assert_eq!(summary(&explained), expected, "{explained:?}");
    assert_eq!(explained.dialog.as_ref().map(|found| found.id), Some(dialog.id));
    let without = ask(&edge, &["sa", "revoke"]);
    assert_eq!(without.status.code(), Some(2), "V-73: {without:?}");

    let revoked = said(&ask(&edge, &["sa", "revoke", &dialog.id.to_string()]));
    assert!(revoked.starts_with("taken back: 0 keys, "), "{revoked}");
    assert_eq!(found(&first).state, "broken");
    let explained = explain(&edge, &info, &["--from", &ue.local().to_string()]);
    let call_id = format!("Call-ID: {first}");
    let expected = ("refused", 19, Some("Revoked"), Some(403), &*call_id);
    assert_eq!(summary(&explained), expected, "{explained:?}");
    assert_eq!(inside(&first, "INFO"), 403);
    let rule =
        r#"sipward_association_rules_total{rule="19",mode="enforced",method="INFO",side="ue"}"#;
    let refusals = r#"sipward_refusals_total{refusal="Revoked"}"#;
    assert_eq!(edge.metrics([rule, refusals]), [1, 1]);
    let states = [("bound", 1), ("broken", 1)].map(|(state, count)| {
        (format!("sipward_associations{{state=\"{state}\",class=\"sip\"}}"), count)
    });
    for (name, count) in &states {
        assert_eq!(edge.metrics([name.as_str()]), [*count], "{name}");
    }
    assert_eq!(inside(&second, "INFO"), 200, "another call of his");
    let status = said(&ask(&edge, &["status"]));
    assert!(status.contains("1 bound") && status.contains("1 broken"), "{status}");

    let revoked = said(&ask(&edge, &["sa", "revoke", "--owner", "alice@example.net"]));
    assert!(revoked.starts_with("taken back: 0 keys, "), "{revoked}");
    assert_eq!(inside(&second, "INFO"), 403);
    for call_id in [&first, &second] {
        assert_eq!(inside(call_id, "BYE"), 200, "rule 24");
    }
    let again = runtime.block_on(ue.call("sip:dave@example.net")).unwrap();
    assert_eq!(again.answer.status(), Some(200), "his account is still there");
    let nobody = ask(&edge, &["sa", "revoke", "--owner", "nobody@example.net"]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");

    let heard = edge.until("outcome=\"nothing\"");
    let audit: Vec<&str> = heard.lines().filter(|line| line.contains(" audit: ")).collect();
    let [first, second, third] = &audit[..] else { panic!("{heard}") };
    let id = format!("what=\"dialog\" of=\"{}\" outcome=\"done\"", dialog.id);
    assert!(first.contains("act=\"revoke\"") && first.contains(&id), "{first}");
    assert!(second.contains("what=\"caller\"") && second.contains("outcome=\"done\""), "{second}");
    assert!(third.contains("what=\"caller\""), "{third}");
    assert!(audit.iter().all(|line| !line.contains("alice")), "V-49: {audit:?}");
}

#[test]
fn a_socket_that_was_left_behind_is_taken_over_and_another_edges_is_not() {
    let edge = Edge::start("admin-taken");
    let config = edge.folder.join("sipward.toml");
    let second = sipward().arg("serve").arg("-c").arg(&config).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let why = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(why.contains("somebody answers there"), "{why}");
    edge.signal("-KILL");
    let mut edge = edge;
    edge.child.wait().unwrap();
    let left = edge.folder.join("sipward.sock");
    assert!(left.exists() && UnixStream::connect(&left).is_err(), "it was killed");
    let mut third = sipward();
    third.arg("serve").arg("-c").arg(&config).stdout(Stdio::null());
    let mut third = third.spawn().unwrap();
    // Whoever reached it was let in: it took the socket over.
    while UnixStream::connect(&left).is_err() {
        assert!(third.try_wait().unwrap().is_none(), "it ended");
        std::thread::yield_now();
    }
    third.kill().unwrap();
    third.wait().unwrap();
}
