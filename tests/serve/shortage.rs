//! V-150: too few files may be open. Who comes waits outside; who is inside, and what comes as datagrams, is served.

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
