//! RFC 5389 and RFC 8489, STUN, as far as RFC 5626 section 8 asks a SIP port to speak it.

use std::time::Duration;

use sipward::instant::Instant;
use sipward::transport::demux::{self, Kind};
use sipward::transport::stun::{self, Pace};

/// A Binding request of `length` octets of attributes, which are all zero.
fn request(attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    let head = [&[0, 1][..], &length, &[0x21, 0x12, 0xA4, 0x42], b"transaction1"].concat();
    [&head, attributes].concat()
}

/// Section 6 and 15.2: success, the same transaction, the address the request came from.
#[test]
fn section_15_2_xor_mapped_address_gives_back_the_source() {
    for source in ["192.0.2.1:5060", "[2001:db8::1]:40000", "203.0.113.255:65535"] {
        let source: std::net::SocketAddr = source.parse().unwrap();
        let asked = request(b"");
        let answer = stun::answer(&asked, source).unwrap();
        assert_eq!((&answer[..2], &answer[4..20]), (&[1, 1][..], &asked[4..20]), "{source}");
        let port = u16::from_be_bytes([answer[26], answer[27]]) ^ 0x2112;
        let address: Vec<u8> =
            answer[28..].iter().zip(&answer[4..20]).map(|(octet, mask)| octet ^ mask).collect();
        let expected = match source.ip() {
            std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
            std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        assert_eq!((port, address), (source.port(), expected), "{source}");
        assert_eq!(demux::datagram(&asked), Kind::Stun, "{source}");
    }
}

/// Section 7.3.1: attributes below 0x8000 that are unknown end it, those above do not. KA-02 makes the end silent.
#[test]
fn section_7_3_1_unknown_attributes() {
    let source = "192.0.2.1:5060".parse().unwrap();
    for (kind, answered) in [
        (0x0006_u16, true), // USERNAME
        (0x0008, true),     // MESSAGE-INTEGRITY
        (0x8022, true),     // SOFTWARE
        (0x8028, true),     // FINGERPRINT
        (0xFFFF, true),
        (0x0002, false), // RESPONSE-ADDRESS of RFC 3489: it would send the answer elsewhere
        (0x0003, false), // CHANGE-REQUEST of RFC 5780
        (0x7FFF, false),
    ] {
        let attribute = [&kind.to_be_bytes()[..], &[0, 4, 0, 0, 0, 0]].concat();
        let answer = stun::answer(&request(&attribute), source);
        assert_eq!(answer.is_some(), answered, "attribute {kind:#06x}");
    }
}

/// V-81: a flood of requests under one name gets two answers a second.
#[test]
fn v_81_two_answers_a_second_to_a_source() {
    let source = "192.0.2.1:5060".parse().unwrap();
    let mut pace = Pace::new([1; 16]);
    let mut answers = 0;
    for request in 0..100_000_u64 {
        let now = Instant::START + Duration::from_micros(request * 50);
        answers += u32::from(pace.allow(source, now));
    }
    assert_eq!(answers, 10, "five seconds");
}
