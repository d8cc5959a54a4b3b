//! One stream in paused time: no socket, no waiting.

use std::cell::RefCell;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use tokio::time::sleep;

use super::super::flows::{Flows, Lease, Limits, SendError};
use super::super::ws::{CloseCode, Opcode, frame};
use super::super::{ListenerId, Transport};
use super::*;

const REQUEST: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 3\r\n\r\nabc";
const ANSWER: &[u8] = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Answers each request, and notes what happened.
struct Desk {
    flows: Arc<Flows>,
    seen: RefCell<Vec<Vec<u8>>>,
    faults: RefCell<Vec<u16>>,
}

impl Receiver for Desk {
    fn turn(&self) {}

    fn datagram(&self, _: Flow, _: SocketAddr, _: Bytes) {}

    fn message(&self, stream: &Arc<StreamFacts>, message: Message) {
        self.seen.borrow_mut().push(message.octets().to_vec());
        self.flows.send(&stream.flow, Bytes::from_static(ANSWER)).unwrap();
    }

    fn broken(&self, stream: &Arc<StreamFacts>, malformed: Malformed) {
        let status = malformed.fault.status();
        self.faults.borrow_mut().push(status);
        self.flows.send(&stream.flow, format!("SIP/2.0 {status} No\r\n\r\n").into()).unwrap();
    }

    fn closed(&self, _: &Arc<StreamFacts>, _: Closed) {}

    fn dial_failed(&self, _: &Flow, _: &Target, _: DialError) {}
}

/// One connection with its desk.
struct Rig {
    desk: Desk,
    lease: Lease,
    facts: Arc<StreamFacts>,
}

impl Rig {
    fn new() -> Self {
        Self::over(Transport::Tcp)
    }

    fn over(transport: Transport) -> Self {
        let flows = Flows::new(Limits::default(), 0);
        let remote: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let seat = flows.seat(remote.ip());
        let lease = flows.open(transport, ListenerId(0), remote, seat).unwrap();
        let facts = StreamFacts {
            flow: lease.flow(),
            side: Side::Ue,
            local: "192.0.2.9:5060".parse().unwrap(),
            names: None,
            channel: None,
            asked_for: None,
            target: None,
        };
        let desk = Desk { flows, seen: RefCell::default(), faults: RefCell::default() };
        Self { desk, lease, facts: Arc::new(facts) }
    }

    /// Serves `io`; says why it ended, and after how many seconds.
    async fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin) -> (Closed, u64) {
        let begun = Instant::now();
        let stream = Stream {
            pipe: self.lease.pipe(),
            facts: &self.facts,
            receiver: &self.desk,
            patience: &Patience::default(),
            tally: self.desk.flows.tally(),
        };
        (stream.serve(io).await, begun.elapsed().as_secs())
    }
}

/// Writes `octets` in pieces of `step`, then ends its side, and reads meanwhile whatever comes back.
async fn talk(io: DuplexStream, octets: &[u8], step: usize) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(io);
    let writing = async {
        for piece in octets.chunks(step) {
            if writer.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        writer.shutdown().await.unwrap();
    };
    let mut answers = Vec::new();
    let ((), read) = tokio::join!(writing, reader.read_to_end(&mut answers));
    read.unwrap();
    answers
}

#[tokio::test(start_paused = true)]
async fn v_09_segmentation_makes_no_difference() {
    let thrice = REQUEST.repeat(3);
    let pinged = [REQUEST, b"\r\n\r\n", REQUEST, b"\r\n\r\n\r\n\r\n", REQUEST].concat();
    let answered = [ANSWER, b"\r\n", ANSWER, b"\r\n\r\n", ANSWER].concat();
    for (name, octets, expected) in
        [("three", thrice, ANSWER.repeat(3)), ("three and pings", pinged, answered)]
    {
        for step in [1, 7, octets.len()] {
            let (rig, (ours, theirs)) = (Rig::new(), duplex(4096));
            let ((why, _), answers) = tokio::join!(rig.serve(ours), talk(theirs, &octets, step));
            assert_eq!(rig.desk.seen.borrow().len(), 3, "{name}, {step} at a time");
            assert!(rig.desk.seen.borrow().iter().all(|seen| seen == REQUEST), "{name}, {step}");
            assert_eq!(answers, expected, "{name}, {step} at a time");
            assert_eq!(why, Closed::Peer, "{name}, {step} at a time");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ka_01_a_ping_is_answered_by_one_crlf_outside_any_message() {
    let (rig, (ours, mut theirs)) = (Rig::new(), duplex(4096));
    let peer = async {
        let mut answer = [0; 2];
        for _ in 0..3 {
            theirs.write_all(b"\r\n\r\n").await.unwrap();
            theirs.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"\r\n");
        }
        drop(theirs);
    };
    let ((why, _), ()) = tokio::join!(rig.serve(ours), peer);
    assert_eq!((why, rig.desk.flows.tally().pings.get()), (Closed::Peer, 3));
    assert!(rig.desk.seen.borrow().is_empty());
}

/// Writes one octet each second, over and over, for as long as somebody reads.
async fn dribble(io: &mut DuplexStream, octet: u8) {
    while io.write_all(&[octet]).await.is_ok() {
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn tr_08_patience_has_an_end() {
    let head = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 1000\r\n\r\n";
    for (name, first, again, known, expected) in [
        ("nothing at all", &b""[..], None, false, (Closed::Slow, 30)),
        ("a head that never ends", b"OPTIONS ", Some(b'a'), false, (Closed::Slow, 10)),
        ("the same of a known peer", b"OPTIONS ", Some(b'a'), true, (Closed::Slow, 10)),
        ("a head begun and left", b"OPTIONS ", None, false, (Closed::Slow, 10)),
        ("a body that comes too slowly", head, Some(b'a'), false, (Closed::Slow, 60)),
        ("a message, then silence", REQUEST, None, false, (Closed::Idle, 60)),
        ("pings, and never a message", b"", Some(b'\r'), false, (Closed::Idle, 60)),
        ("half a ping", b"\r\n", None, false, (Closed::Idle, 60)),
    ] {
        let (rig, (ours, mut theirs)) = (Rig::new(), duplex(4096));
        if known {
            rig.desk.flows.mark_authenticated(&rig.facts.flow);
        }
        let peer = async {
            theirs.write_all(first).await.unwrap();
            match again {
                Some(b'\r') => {
                    while theirs.write_all(b"\r\n\r\n").await.is_ok() {
                        sleep(Duration::from_secs(20)).await;
                    }
                }
                Some(octet) => dribble(&mut theirs, octet).await,
                None => {
                    let mut answers = Vec::new();
                    theirs.read_to_end(&mut answers).await.unwrap();
                }
            }
        };
        let (ended, ()) = tokio::join!(rig.serve(ours), peer);
        assert_eq!(ended, expected, "{name}");
    }
}

/// KA-03: half as long again as it was told, any octet being as good as a ping; and only while that holds.
#[tokio::test(start_paused = true)]
async fn a_peer_that_was_to_ping_is_closed_when_it_is_silent() {
    for (name, lasts, freed, expected) in [
        ("held", 3600, false, (Closed::Silent, 400 + 180)),
        ("its registration lapsed", 450, false, (Closed::Asked, 400 + 1000)),
        ("set free", 3600, true, (Closed::Asked, 400 + 1000)),
    ] {
        let (rig, (ours, mut theirs)) = (Rig::new(), duplex(4096));
        let flow = &rig.facts.flow;
        rig.desk.flows.mark_authenticated(flow);
        let hold = |most: Option<u64>| {
            let silence = most.map(|most| {
                let until = crate::instant::Instant::START + Duration::from_secs(lasts);
                (Duration::from_secs(most), until)
            });
            rig.desk.flows.hold(flow, silence, crate::instant::Instant::START);
        };
        let peer = async {
            theirs.write_all(REQUEST).await.unwrap();
            let mut answer = vec![0; ANSWER.len()];
            theirs.read_exact(&mut answer).await.unwrap();
            hold(Some(180));
            for octets in [&b"\r\n\r\n"[..], b"\r\n", REQUEST, b"\r\n\r\n"] {
                sleep(Duration::from_secs(100)).await;
                theirs.write_all(octets).await.unwrap();
            }
            if freed {
                hold(None);
            }
            sleep(Duration::from_secs(1000)).await;
            rig.desk.flows.close(flow);
        };
        let (ended, ()) = tokio::join!(rig.serve(ours), peer);
        assert_eq!(ended, expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_known_peer_may_be_silent() {
    let (rig, (ours, mut theirs)) = (Rig::new(), duplex(4096));
    let peer = async {
        theirs.write_all(REQUEST).await.unwrap();
        let mut answer = vec![0; ANSWER.len()];
        theirs.read_exact(&mut answer).await.unwrap();
        rig.desk.flows.mark_authenticated(&rig.facts.flow);
        sleep(Duration::from_secs(24 * 3600)).await;
        theirs.write_all(REQUEST).await.unwrap();
        theirs.read_exact(&mut answer).await.unwrap();
        rig.desk.flows.close(&rig.facts.flow);
        assert_eq!(theirs.read(&mut answer).await.unwrap(), 0);
    };
    let (ended, ()) = tokio::join!(rig.serve(ours), peer);
    assert_eq!(ended, (Closed::Asked, 24 * 3600));
}

#[tokio::test(start_paused = true)]
async fn v_10_what_is_over_a_bound_is_answered_and_closed_and_never_read_whole() {
    let huge = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 4000000000\r\n\r\n".to_vec();
    let endless = [b"OPTIONS sip:a@b SIP/2.0\r\n".to_vec(), b"A: b\r\n".repeat(20_000)].concat();
    let missing = b"OPTIONS sip:a@b SIP/2.0\r\nFrom: a\r\n\r\n".to_vec();
    let bare = b"OPTIONS sip:a@b SIP/2.0\r\nA: b\nContent-Length: 0\r\n\r\n".to_vec();
    for (name, octets, status) in [
        ("a body of 4 GB", huge, 513),
        ("a head without end", endless, 513),
        ("no Content-Length", missing, 400),
        ("a bare line feed", bare, 400),
    ] {
        let (rig, (ours, mut theirs)) = (Rig::new(), duplex(1024));
        let peer = async {
            let (mut reader, mut writer) = tokio::io::split(&mut theirs);
            let writing = async {
                let mut written = 0_usize;
                for piece in octets.chunks(100).chain(std::iter::repeat_n(&[b'x'; 100][..], 9000)) {
                    let Ok(length) = writer.write(piece).await else { break };
                    written += length;
                }
                written
            };
            let mut answer = Vec::new();
            let (written, read) = tokio::join!(writing, reader.read_to_end(&mut answer));
            read.unwrap();
            (written, answer)
        };
        let ((why, _), (written, answer)) = tokio::join!(rig.serve(ours), peer);
        assert_eq!(why, Closed::Broken, "{name}");
        assert_eq!(*rig.desk.faults.borrow(), [status], "{name}");
        assert!(answer.starts_with(format!("SIP/2.0 {status}").as_bytes()), "{name}");
        let bound = crate::wire::scan::HEAD_MAX + 8 * 1024;
        assert!(written <= bound, "{name}: {written} octets were taken");
        assert!(rig.desk.seen.borrow().is_empty(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn tr_07_a_known_peer_may_send_longer_messages() {
    let body = vec![b'x'; 100 * 1024];
    let head = format!("MESSAGE sip:a@b SIP/2.0\r\nContent-Length: {}\r\n\r\n", body.len());
    let octets = [head.as_bytes(), &body].concat();
    for (known, seen, faults) in [(true, 1, 0), (false, 0, 1)] {
        let (rig, (ours, theirs)) = (Rig::new(), duplex(4096));
        if known {
            rig.desk.flows.mark_authenticated(&rig.facts.flow);
        }
        tokio::join!(rig.serve(ours), talk(theirs, &octets, 1000));
        assert_eq!(rig.desk.seen.borrow().len(), seen, "known: {known}");
        assert_eq!(rig.desk.faults.borrow().len(), faults, "known: {known}");
    }
}

#[tokio::test(start_paused = true)]
async fn tr_10_another_protocol_gets_no_answer() {
    for octets in [
        &b"GET /sip HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\nOPTIONS sip:a@b SIP/2.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\xF8\x00\x01",
        b"\x00\x01\x00\x00\x21\x12\xA4\x42",
    ] {
        let (rig, (ours, theirs)) = (Rig::new(), duplex(4096));
        let ((why, _), answers) = tokio::join!(rig.serve(ours), talk(theirs, octets, 5));
        assert_eq!(why, Closed::Stranger, "{}", octets.escape_ascii());
        assert_eq!(answers, b"", "{}", octets.escape_ascii());
        assert!(rig.desk.seen.borrow().is_empty() && rig.desk.faults.borrow().is_empty());
    }
}

/// A peer that has a ping for every read, and takes every answer.
struct Pinging;

impl AsyncRead for Pinging {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        room.put_slice(b"\r\n\r\n");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pinging {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn v_75_pings_without_a_pause_buy_no_time() {
    let rig = Rig::new();
    let clock = async {
        for _ in 0..120 {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    };
    let ((why, after), ()) = tokio::join!(rig.serve(Pinging), clock);
    assert_eq!(why, Closed::Idle);
    assert!((60..=62).contains(&after), "{after}");
}

#[tokio::test(start_paused = true)]
async fn what_came_whole_before_the_end_is_handled_however_slow_the_answers_go() {
    let rig = Rig::new();
    let (theirs_in, mut requests) = tokio::io::simplex(64 * 1024);
    let (mut answers, theirs_out) = tokio::io::simplex(512);
    let peer = async {
        requests.write_all(&REQUEST.repeat(1000)).await.unwrap();
        requests.shutdown().await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let mut read = Vec::new();
        answers.read_to_end(&mut read).await.unwrap();
        read
    };
    let ((why, _), read) = tokio::join!(rig.serve(tokio::io::join(theirs_in, theirs_out)), peer);
    assert_eq!(why, Closed::Peer);
    assert_eq!(rig.desk.seen.borrow().len(), 1000);
    assert_eq!(read, ANSWER.repeat(1000));
}

#[tokio::test(start_paused = true)]
async fn v_77_who_takes_no_octets_is_closed_and_blocks_nobody() {
    let (slow, busy) = (Rig::new(), Rig::new());
    let ((slow_io, slow_peer), (busy_io, busy_peer)) = (duplex(1024), duplex(1024));
    let others = async {
        let message = Bytes::from(vec![b'x'; 500]);
        let mut refused = 0;
        for _ in 0..10_000 {
            let sent = slow.desk.flows.send(&slow.facts.flow, message.clone());
            refused += usize::from(sent.is_err());
            tokio::task::yield_now().await;
        }
        assert!(refused > 9_900, "{refused} of 10 000 were refused");
        let gone = slow.desk.flows.send(&slow.facts.flow, message);
        assert_eq!(gone, Err(SendError::Gone));
    };
    let octets = REQUEST.repeat(1000);
    let talking = talk(busy_peer, &octets, 500);
    let busy_side = async { tokio::join!(busy.serve(busy_io), talking) };
    let (slow_ended, ((busy_ended, _), answers), ()) =
        tokio::join!(slow.serve(slow_io), busy_side, others);
    assert_eq!(slow_ended, (Closed::Overflow, 0));
    assert_eq!(busy_ended, Closed::Peer);
    assert_eq!(answers, ANSWER.repeat(1000));
    assert_eq!(slow.desk.flows.tally().overflowed.get(), 1);
    drop(slow_peer);
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_octet_for_half_a_minute_is_closed() {
    let (rig, (ours, theirs)) = (Rig::new(), duplex(64));
    rig.desk.flows.mark_authenticated(&rig.facts.flow);
    rig.desk.flows.send(&rig.facts.flow, Bytes::from(vec![b'x'; 500])).unwrap();
    assert_eq!(rig.serve(ours).await, (Closed::Stalled, 30));
    drop(theirs);
}

/// One frame of a client, masked.
fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put(&mut out, opcode, payload, Some([0x37, 0xfa, 0x21, 0x3d]));
    out.to_vec()
}

/// One frame of ours.
fn ours(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put(&mut out, opcode, payload, None);
    out.to_vec()
}

fn over(code: CloseCode) -> Vec<u8> {
    ours(Opcode::Close, &code.number().to_be_bytes())
}

/// V-09, V-13, KA-01, KA-05: messages, pings of both kinds and pieces, however they are cut.
#[tokio::test(start_paused = true)]
async fn websocket_messages_and_pings_whatever_the_segmentation() {
    let mut piece = masked(Opcode::Text, &REQUEST[..7]);
    piece[0] &= 0x7F;
    let octets = [
        masked(Opcode::Text, REQUEST),
        masked(Opcode::Text, b"\r\n\r\n"),
        masked(Opcode::Ping, b"there?"),
        masked(Opcode::Binary, b"OPTIONS sip:a@b SIP/2.0\r\n\r\nno length"),
        piece,
        masked(Opcode::Pong, b""),
        masked(Opcode::Continuation, &REQUEST[7..]),
        masked(Opcode::Text, b"\r\n"),
        masked(Opcode::Close, &[0x03, 0xE9]),
    ]
    .concat();
    let expected = [
        ours(Opcode::Text, ANSWER),
        ours(Opcode::Text, b"\r\n"),
        ours(Opcode::Pong, b"there?"),
        ours(Opcode::Text, ANSWER),
        ours(Opcode::Text, ANSWER),
        over(CloseCode::GOING_AWAY),
    ]
    .concat();
    for step in [1, 7, octets.len()] {
        let (rig, (near, far)) = (Rig::over(Transport::Wss), duplex(4096));
        let ((why, _), answers) = tokio::join!(rig.serve(near), talk(far, &octets, step));
        assert_eq!(rig.desk.seen.borrow().len(), 3, "{step} at a time");
        assert_eq!(answers, expected, "{step} at a time");
        assert_eq!(why, Closed::Peer, "{step} at a time");
    }
}

/// V-13: the length is that of the WebSocket message, and what is wrong ends the connection.
#[tokio::test(start_paused = true)]
async fn what_is_not_one_sip_message_in_one_websocket_message_is_refused() {
    let long = |length| [REQUEST.to_vec(), vec![b'x'; length]].concat();
    let told = |status| {
        let answer = ours(Opcode::Text, format!("SIP/2.0 {status} No\r\n\r\n").as_bytes());
        [answer, over(CloseCode::PAYLOAD)].concat()
    };
    let mut announced = vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0xA0, 0, 0];
    announced.extend_from_slice(&[0; 4]);
    for (about, octets, expected, why) in [
        ("two in one", masked(Opcode::Text, &REQUEST.repeat(2)), told(400), Closed::Broken),
        ("the first half of one", masked(Opcode::Text, &REQUEST[..40]), told(400), Closed::Broken),
        (
            "its body cut off",
            masked(Opcode::Text, &REQUEST[..REQUEST.len() - 1]),
            told(400),
            Closed::Broken,
        ),
        ("a body too long", masked(Opcode::Text, &long(1)), told(400), Closed::Broken),
        ("10 MiB announced", announced, over(CloseCode::TOO_BIG), Closed::Broken),
        (
            "64 KiB and more",
            masked(Opcode::Text, &long(65_536)),
            over(CloseCode::TOO_BIG),
            Closed::Broken,
        ),
        ("without a mask", ours(Opcode::Text, REQUEST), over(CloseCode::PROTOCOL), Closed::Broken),
        ("SIP without frames", REQUEST.to_vec(), over(CloseCode::PROTOCOL), Closed::Broken),
        (
            "text that is none",
            masked(Opcode::Text, b"\xFF"),
            over(CloseCode::PAYLOAD),
            Closed::Broken,
        ),
        (
            "HTTP (V-75)",
            masked(Opcode::Text, b"GET / HTTP/1.1\r\n\r\n"),
            Vec::new(),
            Closed::Stranger,
        ),
        ("SigComp", masked(Opcode::Binary, b"\xF8abc"), Vec::new(), Closed::Stranger),
    ] {
        let (rig, (near, far)) = (Rig::over(Transport::Ws), duplex(256 * 1024));
        let ((ended, _), answers) = tokio::join!(rig.serve(near), talk(far, &octets, 100_000));
        assert_eq!(answers, expected, "{about}: {}", answers.escape_ascii());
        assert_eq!((ended, rig.desk.seen.borrow().len()), (why, 0), "{about}");
    }
}

/// KA-05.
#[tokio::test(start_paused = true)]
async fn an_idle_websocket_is_pinged_each_thirty_seconds() {
    let (rig, (near, mut far)) = (Rig::over(Transport::Wss), duplex(4096));
    rig.desk.flows.mark_authenticated(&rig.facts.flow);
    let peer = async {
        let begun = Instant::now();
        let mut heard = Vec::new();
        for round in 0..3 {
            let mut ping = [0; 2];
            far.read_exact(&mut ping).await.unwrap();
            assert_eq!(&ping[..], ours(Opcode::Ping, b""), "round {round}");
            heard.push(begun.elapsed().as_secs());
            far.write_all(&masked(Opcode::Pong, b"")).await.unwrap();
        }
        drop(far);
        heard
    };
    let ((why, _), heard) = tokio::join!(rig.serve(near), peer);
    assert_eq!((why, heard), (Closed::Peer, vec![30, 60, 90]));
}

/// TR-08: whoever shows too little in time, or nothing and has not authenticated, is closed; a ping is no message.
#[tokio::test(start_paused = true)]
async fn patience_is_that_of_any_stream() {
    let mut begun = masked(Opcode::Text, &REQUEST[..30]);
    begun[0] &= 0x7F;
    let mut headed = masked(Opcode::Text, &REQUEST[..REQUEST.len() - 1]);
    headed[0] &= 0x7F;
    let idle = masked(Opcode::Ping, b"");
    for (about, octets, why, seconds) in [
        ("nothing", Vec::new(), Closed::Slow, 30),
        ("half a frame's header", vec![0x81], Closed::Slow, 10),
        ("half a head", begun, Closed::Slow, 10),
        ("a head and half a body", headed, Closed::Slow, 60),
        ("a ping alone", idle, Closed::Idle, 60),
    ] {
        let (rig, (near, mut far)) = (Rig::over(Transport::Wss), duplex(4096));
        far.write_all(&octets).await.unwrap();
        let mut answers = Vec::new();
        let (ended, read) = tokio::join!(rig.serve(near), far.read_to_end(&mut answers));
        read.unwrap();
        assert_eq!(ended, (why, seconds), "{about}");
        assert!(answers.ends_with(&over(CloseCode::POLICY)), "{about}: {}", answers.escape_ascii());
    }
}
