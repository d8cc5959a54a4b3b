//! The admin socket: the running edge is asked by `sipward status` and `sipward sa`, and by nobody else's user.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Output;
use std::sync::{Arc, Mutex};

use sipward::client::ue::Ue;
use sipward::http::admin::views::Dialogs;
use sipward::keys::sqn::SqnWindow;
use sipward::keys::subscribers::file;
use sipward::keys::usim::Usim;

use super::{Core, Edge, sipward, ue_with};

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
    assert!(status.contains("0 registrations, 0 dialogs"), "{status}");
    let none = said(&ask(&edge, &["sa", "list"]));
    assert!(none.starts_with("ID ") && none.lines().count() == 1, "{none}");

    let subscriber = file::load(&edge.folder.join("subscribers.toml")).unwrap().remove(0);
    let card = Usim::new(subscriber.algorithms, SqnWindow::default());
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
    assert!(dialog.owner.contains(subscriber.impi.as_str()), "{dialog:?}");
    assert_eq!((&*dialog.state, &*dialog.begun_by, dialog.invite), ("bound", "ue", true));
    let shown = said(&ask(&edge, &["sa", "show", &dialog.id.to_string()]));
    assert!(shown.contains("owner on the UE side") && shown.contains(&dialog.owner), "{shown}");
    for (owner, count) in [(subscriber.impi.as_str(), list.found), ("nobody", 0)] {
        let list = said(&ask(&edge, &["sa", "list", "--owner", owner]));
        assert_eq!(list.lines().count(), 1 + count, "{list}");
    }
    let unknown = ask(&edge, &["sa", "show", "4711"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&unknown.stderr), "no dialog has that number\n");
}

/// V-73.
#[test]
fn the_socket_is_for_our_own_user_and_says_nothing_to_what_stands_in_no_row() {
    let edge = Edge::start("admin-closed");
    let mode = std::fs::metadata(edge.folder.join("sipward.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (request, status) in [
        ("GET / HTTP/1.1", "404"),
        ("GET /associations/x HTTP/1.1", "404"),
        ("DELETE /status HTTP/1.1", "405"),
        ("POST /associations/1 HTTP/1.1", "405"),
        ("GET /associations?limit=0 HTTP/1.1", "400"),
        ("GET /associations?call HTTP/1.1", "400"),
        ("GET /status HTTP/1.1", "200"),
        ("sipward", "400"),
    ] {
        let answer = raw(&edge, &format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
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
    third.arg("serve").arg("-c").arg(&config).stdout(std::process::Stdio::null());
    let mut third = third.spawn().unwrap();
    // Whoever reached it was let in: it took the socket over.
    while UnixStream::connect(&left).is_err() {
        assert!(third.try_wait().unwrap().is_none(), "it ended");
        std::thread::yield_now();
    }
    third.kill().unwrap();
    third.wait().unwrap();
}
