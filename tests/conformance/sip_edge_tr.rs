//! TR, transport and framing, as far as no socket is needed. TR-01, TR-02 and TR-08 on sockets are in `transport`;
//! TR-07, TR-08, TR-17 and KA-01 in paused time are beside the stream that they bind.

use bytes::{Bytes, BytesMut};
use sipward::transport::demux::{self, Kind, Noise, Opening};
use sipward::wire::{Fault, Framed, Framer, Message};

const BOUND: usize = 64 * 1024;

/// The first thing that a stream shows which brings `octets`.
fn framed(octets: impl AsRef<[u8]>) -> Framed {
    Framer::new().next(&mut BytesMut::from(octets.as_ref()), BOUND)
}

/// The fault of a stream which brings `octets`.
fn broken(octets: impl AsRef<[u8]>) -> Option<Fault> {
    match framed(octets) {
        Framed::Broken(malformed) => Some(malformed.fault),
        _ => None,
    }
}

#[test]
fn tr_03_a_datagram_has_the_body_that_it_says() {
    for (head, body, expected) in [
        ("Content-Length: 3\r\n", "abc", Ok("abc")),
        ("Content-Length: 3\r\n", "abcdef", Ok("abc")),
        ("Content-Length: 0\r\n", "abc", Ok("")),
        ("", "abc", Ok("abc")),
        ("Content-Length: 4\r\n", "abc", Err(Fault::BodyShort)),
    ] {
        for start in ["OPTIONS sip:a@b SIP/2.0", "SIP/2.0 200 OK"] {
            let octets = format!("{start}\r\n{head}\r\n{body}");
            let parsed = Message::from_datagram(Bytes::from(octets.clone()));
            let found = parsed.map(|it| it.body().to_vec()).map_err(|why| why.fault);
            assert_eq!(found, expected.map(|body| body.as_bytes().to_vec()), "{octets:?}");
        }
    }
}

#[test]
fn tr_04_a_stream_needs_one_content_length_that_is_a_number() {
    for lines in [
        "",
        "Content-Length:\r\n",
        "Content-Length: three\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 4294967296\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nl: 3\r\n",
        "Content-Length: 3\r\ncontent-length : 3\r\n",
    ] {
        let octets = format!("OPTIONS sip:a@b SIP/2.0\r\n{lines}\r\nabc");
        assert_eq!(broken(&octets), Some(Fault::ContentLength), "{lines:?}");
    }
    for lines in ["Content-Length: 3\r\n", "l:3\r\n", "content-LENGTH \t:\r\n 3\r\n"] {
        let octets = format!("OPTIONS sip:a@b SIP/2.0\r\n{lines}\r\nabc");
        assert!(matches!(framed(&octets), Framed::Message(_)), "{lines:?}");
    }
}

#[test]
fn tr_06_lines_end_in_crlf_and_in_nothing_else() {
    for (octets, fault) in [
        ("OPTIONS sip:a@b SIP/2.0\r\nA: b\nContent-Length: 0\r\n\r\n", Fault::BareLineEnd),
        ("OPTIONS sip:a@b SIP/2.0\r\nA: b\rContent-Length: 0\r\n\r\n", Fault::BareLineEnd),
        ("OPTIONS sip:a@b SIP/2.0\nContent-Length: 0\r\n\r\n", Fault::BareLineEnd),
    ] {
        assert_eq!(broken(octets), Some(fault), "{octets:?} on a stream");
        let datagram = Message::from_datagram(Bytes::from_static(octets.as_bytes()));
        assert_eq!(datagram.map(|_| ()).map_err(|why| why.fault), Err(fault), "{octets:?}");
    }
}

#[test]
fn tr_07_bounds_hold_to_the_octet() {
    let with = |line: String| format!("OPTIONS sip:a@b SIP/2.0\r\n{line}Content-Length: 0\r\n\r\n");
    let field = |length: usize| with(format!("A: {}\r\n", "x".repeat(length - 5)));
    let fields = |count: usize| with("A: b\r\n".repeat(count - 1));
    let start = |length: usize| {
        let uri = "x".repeat(length - "OPTIONS sip: SIP/2.0".len());
        format!("OPTIONS sip:{uri} SIP/2.0\r\nContent-Length: 0\r\n\r\n")
    };
    let body = |length: usize| {
        let head = "OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 00000\r\n\r\n".len();
        let octets = length - head;
        format!(
            "OPTIONS sip:a@b SIP/2.0\r\nContent-Length: {octets:05}\r\n\r\n{}",
            "x".repeat(octets)
        )
    };
    for (name, within, over, fault) in [
        ("field of 8 KiB", field(8192), field(8193), Fault::LineTooLong),
        ("start line of 8 KiB", start(8192), start(8193), Fault::LineTooLong),
        ("256 fields", fields(256), fields(257), Fault::TooManyFields),
        ("message of 64 KiB", body(65_536), body(65_537), Fault::MessageTooLong),
    ] {
        assert!(matches!(framed(&within), Framed::Message(_)), "{name}: {:?}", broken(&within));
        assert_eq!(broken(&over), Some(fault), "{name}");
    }
}

/// V-76.
#[test]
fn tr_09_the_first_octet_decides() {
    for first in 0..=255_u8 {
        let kind = demux::datagram(&[first, b' ']);
        let expected = match first {
            0..=3 => Kind::Stun,
            20..=31 => Kind::Dtls,
            b'A'..=b'Z' | b'a'..=b'z' => Kind::Sip,
            b'\r' | b'\n' => Kind::Drop(Noise::LineEnd),
            // Tokens may begin with these, and RFC 4475 section 3.1.1.2 has a method that does.
            b'0'..=b'9' | b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~' => {
                Kind::Sip
            }
            248..=255 => Kind::Drop(Noise::Compressed),
            _ => Kind::Drop(Noise::Unknown),
        };
        assert_eq!(kind, expected, "first octet {first}");
        assert_eq!(demux::datagram(&[first]), expected, "and nothing else");
        // Whatever follows, but for a first line of HTTP.
        for second in 0..=255_u8 {
            assert_eq!(demux::datagram(&[first, second]), expected, "{first} {second}");
        }
        let tail = [&[first][..], b" sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n"].concat();
        assert_eq!(demux::datagram(&tail), expected, "{first} and a tail of SIP");
        // STUN with such a tail is no question that anybody answers.
        let from = "192.0.2.10:5060".parse().expect("an address");
        assert!(sipward::transport::stun::answer(&tail, from).is_none(), "{first}");
    }
    assert_eq!(demux::datagram(b""), Kind::Drop(Noise::Empty));
}

#[test]
fn tr_10_http_is_closed_without_an_answer() {
    for octets in ["GET / HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\n"] {
        assert_eq!(demux::opening(octets.as_bytes()), Opening::Close(Noise::Http), "{octets:?}");
        assert_eq!(demux::datagram(octets.as_bytes()), Kind::Drop(Noise::Http), "{octets:?}");
    }
    // A message that only speaks of HTTP is one of SIP.
    let octets = b"MESSAGE sip:a@b SIP/2.0\r\nContent-Length: 16\r\n\r\nGET / HTTP/1.1\r\n";
    assert_eq!(demux::opening(octets), Opening::Sip);
}

#[test]
fn tr_15_the_version_is_compared_without_case() {
    let request = |version| format!("OPTIONS sip:a@b {version}\r\nContent-Length: 0\r\n\r\n");
    for (version, fault) in [
        ("SIP/2.0", None),
        ("sip/2.0", None),
        ("SIP/3.0", Some(Fault::Version)),
        ("SIP/2.00", Some(Fault::Version)),
        ("SIP/1.0", Some(Fault::Version)),
    ] {
        assert_eq!(broken(request(version)), fault, "{version}");
    }
    assert_eq!(Fault::Version.status(), 505);
}

#[test]
fn tr_16_sigcomp_is_dropped() {
    for first in 0xF8..=0xFF_u8 {
        let octets = [&[first][..], b"OPTIONS sip:a@b SIP/2.0\r\n"].concat();
        assert_eq!(demux::datagram(&octets), Kind::Drop(Noise::Compressed));
        assert_eq!(demux::opening(&octets), Opening::Close(Noise::Compressed));
    }
}
