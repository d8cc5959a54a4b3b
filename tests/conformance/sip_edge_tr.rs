//! Transport and framing, as far as octets decide: TR-03 to TR-07 and TR-15.

use bytes::{Bytes, BytesMut};
use sipward::wire::{Fault, Framed, Framer, Message, check, message, scan};

use crate::torture::read;

const HEAD: &str = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n\
                    To: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";

/// A request with these lines behind the ones it must have, and this body.
fn request(lines: &str, body: &str) -> Vec<u8> {
    format!("{HEAD}{lines}\r\n{body}").into_bytes()
}

fn response(lines: &str, body: &str) -> Vec<u8> {
    let head = HEAD.split_once("\r\n").expect("a start line").1;
    format!("SIP/2.0 200 OK\r\n{head}{lines}\r\n{body}").into_bytes()
}

fn fault(octets: &[u8]) -> Option<Fault> {
    read(octets).err().map(|why| why.fault)
}

/// The first thing on a stream that holds `octets`, in pieces of `step`.
fn first_on_stream(octets: &[u8], step: usize) -> Framed {
    let (mut framer, mut held) = (Framer::new(), BytesMut::new());
    for chunk in octets.chunks(step) {
        held.extend_from_slice(chunk);
        match framer.next(&mut held, message::MESSAGE_MAX) {
            Framed::More => {}
            other => return other,
        }
    }
    Framed::More
}

fn fault_on_stream(octets: &[u8]) -> Option<Fault> {
    let faults = [1, 3, octets.len()].map(|step| match first_on_stream(octets, step) {
        Framed::Broken(why) => Some(why.fault),
        _ => None,
    });
    assert!(faults.iter().all(|fault| *fault == faults[0]), "by segmentation: {faults:?}");
    faults[0]
}

/// TR-03: what is behind the body of a datagram is dropped; a body too short is 400 to a request and the end of a
/// response; without Content-Length the body runs to the end. RFC 3261 section 18.3.
#[test]
fn tr_03_a_datagram_ends_where_it_says() {
    for (why, lines, body, kept) in [
        ("longer", "Content-Length: 3\r\n", "abcdef", Some("abc")),
        ("exact", "Content-Length: 3\r\n", "abc", Some("abc")),
        ("compact", "l:3\r\n", "abc", Some("abc")),
        ("none", "", "abc", Some("abc")),
        ("none, empty", "", "", Some("")),
        ("zero", "Content-Length: 0\r\n", "abc", Some("")),
        ("shorter", "Content-Length: 4\r\n", "abc", None),
    ] {
        for octets in [request(lines, body), response(lines, body)] {
            match (read(&octets), kept) {
                (Ok(message), Some(kept)) => {
                    assert_eq!(message.body(), kept.as_bytes(), "{why}");
                    let end = message.octets().len() - kept.len();
                    assert_eq!(message.octets()[end..], *kept.as_bytes(), "{why}");
                }
                (Err(found), None) => {
                    assert_eq!(found.fault, Fault::BodyShort, "{why}");
                    assert_eq!(found.fault.status(), 400);
                    let request = found.rest.expect("a start line").is_request();
                    assert_eq!(request, octets.starts_with(b"OPTIONS"), "{why}");
                }
                (found, _) => panic!("{why}: {found:?}"),
            }
        }
    }
}

/// TR-04: a stream needs one Content-Length, a number below 2^32. RFC 3261 section 18.3.
#[test]
fn tr_04_a_stream_needs_one_content_length() {
    for lines in [
        "",
        "Content-Length:\r\n",
        "Content-Length: x\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 3 3\r\n",
        "Content-Length: 3,3\r\n",
        "Content-Length: 3;x\r\n",
        "Content-Length: \"3\"\r\n",
        "Content-Length: 4294967296\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nl: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
    ] {
        for octets in [request(lines, "abc"), response(lines, "abc")] {
            assert_eq!(fault_on_stream(&octets), Some(Fault::ContentLength), "{lines:?}");
        }
    }
    assert_eq!(Fault::ContentLength.status(), 400);
    for lines in
        ["Content-Length: 3\r\n", "l :\t3 \r\n", "CONTENT-LENGTH:\r\n 3\r\n", "l: 0003\r\n"]
    {
        let framed = first_on_stream(&request(lines, "abcOPTIONS"), 1);
        assert!(
            matches!(&framed, Framed::Message(found) if found.body() == b"abc"),
            "{lines:?}: {framed:?}"
        );
    }
    // 2^32-1 is a number, and too much.
    let most = request("Content-Length: 4294967295\r\n", "");
    assert_eq!(fault_on_stream(&most), Some(Fault::MessageTooLong));
}

/// TR-05: CRLF before a start line is passed over on streams, CRLFCRLF is a ping. RFC 3261 section 7.5.
#[test]
fn tr_05_line_ends_between_messages() {
    let message = request("Content-Length: 0\r\n", "");
    for (before, pings) in
        [("", 0), ("\r\n", 0), ("\r\n\r\n", 1), ("\r\n\r\n\r\n", 1), ("\r\n\r\n\r\n\r\n", 2)]
    {
        let octets = [before.as_bytes(), &message, before.as_bytes(), &message].concat();
        for step in [1, 2, 3, octets.len()] {
            let (mut framer, mut held, mut found) = (Framer::new(), BytesMut::new(), (0, 0));
            for chunk in octets.chunks(step) {
                held.extend_from_slice(chunk);
                loop {
                    match framer.next(&mut held, message::MESSAGE_MAX) {
                        Framed::More => break,
                        Framed::Ping => found.0 += 1,
                        Framed::Message(cut) => {
                            assert_eq!(cut.octets(), &message);
                            found.1 += 1;
                        }
                        Framed::Broken(why) => panic!("{before:?}, {step}: {:?}", why.fault),
                    }
                }
            }
            assert_eq!(found, (2 * pings, 2), "{before:?} in steps of {step}");
            assert!(held.is_empty());
        }
    }
}

/// TR-06: lines end in CRLF, for the parser and for the framer.
#[test]
fn tr_06_one_grammar_for_line_ends() {
    for lines in [
        "X: a\rY: b\r\n",
        "X: a\nY: b\r\n",
        "X: a\n\r\n",
        "X: a\r\r\n",
        "X: a\n Y\r\n",
        "X\n: a\r\n",
        "X: a\r\n\n",
    ] {
        let octets = request(&format!("{lines}Content-Length: 0\r\n"), "");
        assert_eq!(fault(&octets), Some(Fault::BareLineEnd), "{lines:?}");
        assert_eq!(fault_on_stream(&octets), Some(Fault::BareLineEnd), "{lines:?}");
    }
    for start in ["OPTIONS sip:a@b\r SIP/2.0\r\n", "OPTIONS sip:a@b SIP/2.0\n"] {
        let octets = format!("{start}Content-Length: 0\r\n\r\n").into_bytes();
        assert_eq!(fault(&octets), Some(Fault::BareLineEnd), "{start:?}");
        assert_eq!(fault_on_stream(&octets), Some(Fault::BareLineEnd), "{start:?}");
    }
    // A body may hold what it likes.
    assert_eq!(fault(&request("Content-Length: 4\r\n", "\r\n\n\r")), None);
}

/// A line of `length` octets, CRLF included.
fn line_of(length: usize) -> String {
    format!("Q: {}\r\n", "a".repeat(length - 5))
}

/// TR-07: bounds of lines and of the header block: at them accepted, over them refused.
#[test]
fn tr_07_lines_and_header_blocks_are_bounded() {
    let end = "Content-Length: 0\r\n";
    for (why, octets, expected) in [
        ("field at the bound", request(&(line_of(scan::LINE_MAX) + end), ""), None),
        (
            "field over it",
            request(&(line_of(scan::LINE_MAX + 1) + end), ""),
            Some(Fault::LineTooLong),
        ),
        (
            "folded field over it",
            request(
                &format!(
                    "{}{end}",
                    line_of(scan::LINE_MAX / 2).repeat(3).replace("\r\nQ", "\r\n Q")
                ),
                "",
            ),
            Some(Fault::LineTooLong),
        ),
        ("256 fields", request(&("Q: a\r\n".repeat(256 - 6) + end), ""), None),
        (
            "257 fields",
            request(&("Q: a\r\n".repeat(257 - 6) + end), ""),
            Some(Fault::TooManyFields),
        ),
    ] {
        assert_eq!(fault(&octets), expected, "{why}");
        assert_eq!(fault_on_stream(&octets), expected, "{why}");
    }
    let start = |length: usize| {
        let uri = "a".repeat(length - "OPTIONS sip: SIP/2.0".len());
        let rest = HEAD.split_once("\r\n").expect("a start line").1;
        format!("OPTIONS sip:{uri} SIP/2.0\r\n{rest}{end}\r\n").into_bytes()
    };
    // Such a host is none: what is tested is that the scanner lets it pass.
    assert_eq!(scan::scan(&start(scan::LINE_MAX)).fault, None);
    assert_eq!(scan::scan(&start(scan::LINE_MAX + 1)).fault, Some(Fault::LineTooLong));
    for (over, expected) in [(0, None), (1, Some(Fault::HeadTooLong))] {
        let rest = HEAD.len() + end.len() + 2;
        let mut lines = line_of(8000).repeat(8);
        lines += &line_of(scan::HEAD_MAX - rest - lines.len() + over);
        let octets = request(&(lines + end), "");
        assert_eq!(octets.len(), scan::HEAD_MAX + over);
        assert_eq!(fault(&octets), expected, "{over} over");
        assert_eq!(fault_on_stream(&octets), expected, "{over} over");
    }
    assert_eq!(Fault::HeadTooLong.status(), 513);
    let endless = [HEAD.as_bytes(), line_of(8000).repeat(9).as_bytes()].concat();
    assert_eq!(fault_on_stream(&endless), Some(Fault::HeadTooLong), "no blank line in sight");
}

/// TR-07: how many values, and how long a message: at the bound accepted, over it refused.
#[test]
fn tr_07_counts_and_messages_are_bounded() {
    let value = "<sip:a@b>";
    for (name, one, max, there) in [
        ("Via", "SIP/2.0/UDP h", check::VIA_MAX, 1),
        ("Route", value, check::ROUTE_MAX, 0),
        ("Contact", value, check::CONTACT_MAX, 0),
    ] {
        for (count, expected) in [(max, None), (max + 1, Some(Fault::TooManyValues))] {
            let values = vec![one; count - there];
            let one_row = format!("{name}: {}\r\n", values.join(","));
            let rows: String = values.iter().map(|value| format!("{name}: {value}\r\n")).collect();
            for lines in [one_row, rows] {
                assert_eq!(fault(&request(&lines, "")), expected, "{count} {name}");
            }
        }
    }
    assert_eq!(Fault::TooManyValues.status(), 400);
    for (max, over) in [
        (message::MESSAGE_MAX, 0),
        (message::MESSAGE_MAX, 1),
        (message::MESSAGE_MAX_KNOWN, 0),
        (message::MESSAGE_MAX_KNOWN, 1),
    ] {
        let head = request("Content-Length: 000000\r\n", "").len();
        let lines = format!("Content-Length: {:06}\r\n", max + over - head);
        let octets = request(&lines, &"x".repeat(max + over - head));
        let mut held = BytesMut::from(&octets[..]);
        match (Framer::new().next(&mut held, max), over) {
            (Framed::Message(found), 0) => assert_eq!(found.octets().len(), max),
            (Framed::Broken(why), 1) => assert_eq!(why.fault, Fault::MessageTooLong),
            (found, _) => panic!("{max} and {over}: {found:?}"),
        }
        if max == message::MESSAGE_MAX_KNOWN {
            let found = Message::from_datagram(Bytes::from(octets)).map_err(|why| why.fault);
            assert_eq!(found.err(), (over > 0).then_some(Fault::MessageTooLong));
        }
    }
    // The bound is known before the body is there.
    let announced = request("Content-Length: 4000000000\r\n", "");
    assert_eq!(fault_on_stream(&announced), Some(Fault::MessageTooLong));
    assert_eq!(Fault::MessageTooLong.status(), 513);
}

/// TR-15: the version is compared without case; another is 505 to a request, and ends a response. RFC 3261 section 7.1.
#[test]
fn tr_15_versions() {
    for (version, expected) in [
        ("SIP/2.0", None),
        ("sip/2.0", None),
        ("sIp/2.0", None),
        ("SIP/1.0", Some(Fault::Version)),
        ("SIP/2.1", Some(Fault::Version)),
        ("SIP/2.00", Some(Fault::Version)),
        ("SIP/02.0", Some(Fault::Version)),
        ("SIP/20.0", Some(Fault::Version)),
        ("SIP/2", Some(Fault::StartLine)),
        ("SIP/2.", Some(Fault::StartLine)),
        ("SIP/2.0.0", Some(Fault::StartLine)),
        ("SIPS/2.0", Some(Fault::StartLine)),
        ("HTTP/1.1", Some(Fault::StartLine)),
    ] {
        let put = |octets: Vec<u8>, version: &str| {
            let text = String::from_utf8(octets).expect("ASCII").replacen("SIP/2.0", version, 1);
            text.into_bytes()
        };
        let found = read(&put(request("", ""), version));
        assert_eq!(found.as_ref().err().map(|why| why.fault), expected, "{version}");
        if expected == Some(Fault::Version) {
            let rest = found.expect_err("refused").rest.expect("a start line");
            assert!(rest.is_request(), "{version}: can be answered");
            let response = read(&put(response("", ""), version)).expect_err("refused");
            assert_eq!(response.fault, Fault::Version, "{version}");
            assert!(!response.rest.expect("a start line").is_request(), "{version}: is dropped");
        }
    }
    assert_eq!(Fault::Version.status(), 505);
}
