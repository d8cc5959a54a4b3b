//! V-150: too few files may be open, and who comes waits outside; a disk is full; and what is under way when the edge is told to stop.

use super::*;

/// Files that the edge may open.
const FILES: usize = 64;
const ACCEPT_FAILED: &str = "sipward_transport_total{event=\"accept_failed\"}";
/// Failures of a listener that pauses after each, however slow the machine is; one that spins has more in a second.
const FAILED_MAX: u64 = 10_000;

#[test]
fn v_150_without_files_to_open_the_edge_pauses_and_goes_on_when_there_are_some() {
    let mut command = Command::new("sh");
    let few = format!("ulimit -n {FILES}; exec \"$0\" \"$@\"");
    command.args(["-c", &few, env!("CARGO_BIN_EXE_sipward")]);
    let edge = Edge::start_by(command, "shortage", |text| text);
    let open = || fs::read_dir(format!("/proc/{}/fd", edge.child.id())).unwrap().count();
    // The system takes them on the edge's behalf, whether it accepts them or not.
    let crowd: Vec<TcpStream> =
        (0..2 * FILES).map(|_| TcpStream::connect(edge.ue).unwrap()).collect();
    while open() < FILES {
        std::thread::yield_now();
    }
    for _ in 0..3 {
        assert!(edge.ask(MESSAGE).starts_with("SIP/2.0 407 "), "datagrams need no files");
    }
    drop(crowd);
    let [failed] = edge.metrics([ACCEPT_FAILED]);
    assert!((1..FAILED_MAX).contains(&failed), "{failed} failures");
    let mut late = TcpStream::connect(edge.ue).unwrap();
    late.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    late.write_all(MESSAGE.replace("SIP/2.0/UDP", "SIP/2.0/TCP").as_bytes()).unwrap();
    let mut answer = [0; 4096];
    let length = late.read(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b"SIP/2.0 407 "), "it accepts again");
}

/// A log that cannot be written stops nothing, from the first line to the last.
#[test]
fn v_150_a_log_on_a_full_disk_stops_nothing() {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>/dev/full", env!("CARGO_BIN_EXE_sipward")]);
    let mut edge = Edge::start_by(command, "full-log", |text| {
        text.replace("log = \"info\"", "log = \"debug\"")
    });
    for word in ["-HUP", "-HUP"] {
        assert!(edge.ask(MESSAGE).starts_with("SIP/2.0 407 "));
        edge.signal(word);
    }
    assert!(edge.ask(MESSAGE).starts_with("SIP/2.0 407 "));
    assert_eq!(edge.metrics([PANICKED]), [0]);
    edge.signal("-TERM");
    assert_eq!(edge.child.wait().unwrap().code(), Some(0));
}

const PANICKED: &str = "sipward_transport_total{event=\"panicked\"}";

/// What a call that is up has to do with the end of its edge.
enum Then {
    /// It is over.
    HangsUp,
    /// It goes on, and the bound of the stop is short.
    GoesOn,
    /// It goes on, and the edge is told to stop once more.
    IsNotWaitedFor,
}

/// While a call is up, its flows are kept and what belongs to it goes through; nothing begins any more. The edge ends with
/// the call, with `edge.drain`, or at the second SIGTERM, whichever comes first.
#[test]
fn v_150_a_stop_keeps_the_flows_of_calls_and_waits_no_longer_than_its_bound() {
    for (name, drain, then) in [
        ("hangs-up", "1h", Then::HangsUp),
        ("goes-on", "5s", Then::GoesOn),
        ("told-again", "1h", Then::IsNotWaitedFor),
    ] {
        let core = Core::start();
        let mut edge = Edge::start_with(&format!("stop-{name}"), |text| {
            let peer = format!("sip:{};transport=udp", core.address);
            text.replace("sip:127.0.0.1:5070;transport=tcp", &peer)
                .replace("# drain = \"32s\"", &format!("drain = \"{drain}\""))
        });
        let settings = alice(&edge, Transport::Tcp);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ue = Ue::connect(settings).await.unwrap();
            let call = ue.call("sip:bob@example.net").await.unwrap();
            assert_eq!(call.answer.status(), Some(200), "{name}");
            let id = String::from_utf8(call.answer.call_id().to_vec()).unwrap();
            edge.signal("-TERM");
            // Over its rate it is told 500 until then.
            while ue.options("sip:bob@example.net").await.unwrap().status() != Some(503) {}
            match then {
                Then::HangsUp => {
                    let info = ue.inside(&id, "INFO").await.unwrap();
                    assert_eq!(ue.send(info).await.unwrap().status(), Some(200), "{name}");
                    assert_eq!(ue.hang_up(&id).await.unwrap().status(), Some(200), "{name}");
                }
                Then::GoesOn => {}
                Then::IsNotWaitedFor => edge.signal("-TERM"),
            }
            let ended = tokio::task::spawn_blocking(move || edge.child.wait().unwrap().code());
            assert_eq!(ended.await.unwrap(), Some(0), "{name}");
        });
    }
}
