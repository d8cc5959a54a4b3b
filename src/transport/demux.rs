//! Stage 1, demux: what a datagram or a first line is, by its first octets alone.
//!
//! Takes:   the octets of one datagram, or the front of a stream where a message is to begin.
//! Gives:   [`Kind`] for a datagram, [`Opening`] for a stream.
//! Keeps:   nothing. Bounds: it looks at the first octet, and for HTTP at one line of 8 KiB at most.
//! Refuses: what is none of ours, by name and without an answer.
//! Sources: RFC 7983 section 7; RFC 5626 section 8; RFC 4475 section 3.1.1.2; `TR-09`, `TR-10`, `TR-16`.

use memchr::memchr;

use crate::wire::scan::{LINE_MAX, is_token_octet};

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// To be parsed as SIP.
    Sip,
    /// A STUN message.
    Stun,
    /// A DTLS record: for a listener that speaks it.
    Dtls,
    /// Nothing that earns an answer.
    Drop(Noise),
}

/// Octets that are dropped before anybody parses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Noise {
    /// No octets at all.
    Empty,
    /// CR or LF: a keep-alive that datagrams do not answer (RFC 5626 section 4.4.1).
    LineEnd,
    /// SigComp: the first five bits are set.
    Compressed,
    /// A request or an answer of HTTP.
    Http,
    /// None of the protocols that share this port.
    Unknown,
}

/// What a stream shows where a message is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opening {
    /// For the framer: SIP, white lines, or too little to say.
    Sip,
    /// Close without an answer.
    Close(Noise),
}

/// Classifies a datagram.
///
/// RFC 7983 gives 20 to 63 to DTLS. The versions of DTLS that exist here use 20 to 31 alone, and a SIP method may
/// begin with a digit or with `!`, `%`, `'`, `*`, `+`, `-` or `.`, which lie above: those are SIP.
pub fn datagram(octets: &[u8]) -> Kind {
    let Some(first) = octets.first() else { return Kind::Drop(Noise::Empty) };
    match first {
        0..=3 => Kind::Stun,
        b'\r' | b'\n' => Kind::Drop(Noise::LineEnd),
        20..=31 => Kind::Dtls,
        0xF8.. => Kind::Drop(Noise::Compressed),
        octet if is_token_octet(*octet) => {
            if is_http(octets) {
                Kind::Drop(Noise::Http)
            } else {
                Kind::Sip
            }
        }
        _ => Kind::Drop(Noise::Unknown),
    }
}

/// Classifies the front of a stream, where a message is to begin.
pub fn opening(octets: &[u8]) -> Opening {
    let mut rest = octets;
    while let Some((b'\r' | b'\n', after)) = rest.split_first() {
        rest = after;
    }
    match rest.first() {
        None => Opening::Sip,
        Some(0xF8..) => Opening::Close(Noise::Compressed),
        Some(octet) if !is_token_octet(*octet) => Opening::Close(Noise::Unknown),
        Some(_) if is_http(rest) => Opening::Close(Noise::Http),
        Some(_) => Opening::Sip,
    }
}

/// Whether the first line, once it is whole, is one of HTTP.
fn is_http(octets: &[u8]) -> bool {
    let Some(end) = memchr(b'\n', octets.get(..LINE_MAX).unwrap_or(octets)) else { return false };
    let line = octets.get(..end).unwrap_or_default().trim_ascii_end();
    let last = line.rsplit(|octet| *octet == b' ').next().unwrap_or_default();
    line.starts_with(b"HTTP/") || last.get(..5).is_some_and(|it| it.eq_ignore_ascii_case(b"HTTP/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_octet_has_one_kind() {
        for first in 0..=255_u8 {
            let expected = match first {
                0..=3 => Kind::Stun,
                10 | 13 => Kind::Drop(Noise::LineEnd),
                20..=31 => Kind::Dtls,
                248..=255 => Kind::Drop(Noise::Compressed),
                octet if is_token_octet(octet) => Kind::Sip,
                _ => Kind::Drop(Noise::Unknown),
            };
            for tail in [&b""[..], b"x", b"OPTIONS sip:a@b SIP/2.0\r\n\r\n"] {
                let octets = [&[first], tail].concat();
                assert_eq!(datagram(&octets), expected, "octet {first} and {} more", tail.len());
            }
        }
        assert_eq!(datagram(b""), Kind::Drop(Noise::Empty));
    }

    #[test]
    fn http_is_known_by_its_first_line() {
        for (octets, expected) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Opening::Close(Noise::Http)),
            (b"\r\nPOST /x http/1.0\n", Opening::Close(Noise::Http)),
            (b"HTTP/1.1 200 OK\r\n", Opening::Close(Noise::Http)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Opening::Close(Noise::Http)),
            (b"GET / HTTP/1.1", Opening::Sip),
            (b"INVITE sip:a@b SIP/2.0\r\nX: GET / HTTP/1.1\r\n", Opening::Sip),
            (b"\r\n\r\n", Opening::Sip),
            (b"", Opening::Sip),
            (b"\x16\x03\x01\x02", Opening::Close(Noise::Unknown)),
            (b"\xF9\x00", Opening::Close(Noise::Compressed)),
            (b"!interesting-Method0123456789_*+`.%indeed'~ sip:a SIP/2.0\r\n", Opening::Sip),
        ] {
            assert_eq!(opening(octets), expected, "{}", octets.escape_ascii());
        }
    }
}
