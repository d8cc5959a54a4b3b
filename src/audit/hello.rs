//! The audit, ClientHello: the first message of TLS and of DTLS, spelt out, so that it may ask for what no library would; and what
//! a server says to it.
//!
//! Takes:   a version, the server's name.
//! Gives:   the octets of a record with the message in it; [`Said`] of what came.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: RFC 5246 sections 6.2.1, 7.2 and 7.4.1; RFC 6101; RFC 6347 sections 4.1, 4.2.1 and 4.2.2; RFC 6066 section 3; RFC 8422;
//!          RFC 5746 section 3.3; RFC 7627.

use std::fmt;
use std::net::IpAddr;

use crate::clock;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// SSL 3.0.
    Ssl3,
    /// TLS 1.0.
    Tls10,
    /// TLS 1.1.
    Tls11,
    /// TLS 1.2.
    Tls12,
    /// DTLS 1.2.
    Dtls12,
}

impl Version {
    /// As it stands in messages.
    fn octets(self) -> [u8; 2] {
        match self {
            Self::Ssl3 => [3, 0],
            Self::Tls10 => [3, 1],
            Self::Tls11 => [3, 2],
            Self::Tls12 => [3, 3],
            Self::Dtls12 => [0xfe, 0xfd],
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ssl3 => "SSL 3.0",
            Self::Tls10 => "TLS 1.0",
            Self::Tls11 => "TLS 1.1",
            Self::Tls12 => "TLS 1.2",
            Self::Dtls12 => "DTLS 1.2",
        })
    }
}

/// Suites that servers of any age have: with GCM and ChaCha20 first, then of CBC; at the end, that renegotiation is known.
const SUITES: &[u16] = &[
    0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0x009c, 0x009d, 0xc009, 0xc013, 0xc00a, 0xc014,
    0x002f, 0x0035, 0x000a, 0x00ff,
];
/// X25519, P-256, P-384.
const GROUPS: &[u16] = &[0x001d, 0x0017, 0x0018];
/// ECDSA, RSA-PSS, RSA with SHA-2; then SHA-1, which is all that old servers sign with.
const SIGNATURES: &[u16] =
    &[0x0403, 0x0503, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201];

/// A record with a ClientHello in it; over DTLS, without cookie.
pub(super) fn record(version: Version, name: &str) -> Vec<u8> {
    let datagrams = version == Version::Dtls12;
    let message = handshake(&body(version, name, b""), datagrams);
    let mut record = vec![HANDSHAKE];
    match version {
        // Epoch 0, number 0.
        Version::Dtls12 => record.extend([0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]),
        Version::Ssl3 => record.extend([3, 0]),
        _ => record.extend([3, 1]),
    }
    record.extend(with_length(&message));
    record
}

/// A ClientHello of TLS 1.2 as a message alone, with that `renegotiation_info`.
#[cfg(feature = "openssl")]
pub(super) fn again(name: &str, verified: &[u8]) -> Vec<u8> {
    handshake(&body(Version::Tls12, name, verified), false)
}

fn body(version: Version, name: &str, verified: &[u8]) -> Vec<u8> {
    let mut body = version.octets().to_vec();
    body.extend(clock::random::<32>());
    // No session.
    body.push(0);
    if version == Version::Dtls12 {
        // No cookie.
        body.push(0);
    }
    let scsv = verified.is_empty();
    let suites: Vec<u16> = SUITES.iter().copied().filter(|s| scsv || *s != 0x00ff).collect();
    body.extend(with_length(&numbers(&suites)));
    // No compression.
    body.extend([1, 0]);
    let mut extensions = Vec::new();
    if name.parse::<IpAddr>().is_err() {
        let host = [&[0][..], &with_length(name.as_bytes())].concat();
        extensions.extend(extension(0, &with_length(&host)));
    }
    extensions.extend(extension(10, &with_length(&numbers(GROUPS))));
    extensions.extend(extension(11, &[1, 0]));
    extensions.extend(extension(13, &with_length(&numbers(SIGNATURES))));
    extensions.extend(extension(23, b""));
    if !verified.is_empty() {
        let length = u8::try_from(verified.len()).unwrap_or(u8::MAX);
        extensions.extend(extension(0xff01, &[&[length][..], verified].concat()));
    }
    if version != Version::Ssl3 {
        body.extend(with_length(&extensions));
    }
    body
}

fn handshake(body: &[u8], datagrams: bool) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut message = vec![CLIENT_HELLO];
    message.extend(length);
    if datagrams {
        // The first message, from its beginning, whole.
        message.extend([0, 0, 0, 0, 0]);
        message.extend(length);
    }
    message.extend(body);
    message
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &with_length(content)].concat()
}

fn with_length(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], content].concat()
}

fn numbers(of: &[u16]) -> Vec<u8> {
    of.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// What a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// No, by an alert.
    Alert(Alert),
    /// Yes, in that version.
    Hello([u8; 2]),
    /// Show that you receive what is sent to you.
    Verify,
    /// Something else.
    Other,
}

impl Said {
    /// What a stream began with.
    pub(super) fn over_tls(octets: &[u8]) -> Self {
        match octets {
            [ALERT, 3, _, _, _, _, alert, ..] => Self::Alert(Alert(*alert)),
            [HANDSHAKE, 3, _, _, _, SERVER_HELLO, _, _, _, major, minor, ..] => {
                Self::Hello([*major, *minor])
            }
            _ => Self::Other,
        }
    }

    /// What a datagram began with.
    pub(super) fn over_dtls(octets: &[u8]) -> Self {
        let Some((head, content)) = octets.split_at_checked(13) else { return Self::Other };
        match (head, content) {
            ([ALERT, 0xfe, ..], [_, alert, ..]) => Self::Alert(Alert(*alert)),
            ([HANDSHAKE, 0xfe, ..], [HELLO_VERIFY_REQUEST, ..]) => Self::Verify,
            ([HANDSHAKE, 0xfe, ..], [SERVER_HELLO, rest @ ..]) => match rest.get(11..13) {
                Some([major, minor]) => Self::Hello([*major, *minor]),
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }

    /// Whether it is the answer in that version.
    pub(super) fn is_hello(self, version: Version) -> bool {
        self == Self::Hello(version.octets())
    }
}

/// Why a server ends a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alert(pub(super) u8);

impl Alert {
    /// What was sent cannot be read: it was not sealed right.
    pub(super) const BAD_RECORD_MAC: Self = Self(20);
    /// The version is known, and not spoken.
    pub(super) const PROTOCOL_VERSION: Self = Self(70);
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            40 => "handshake_failure",
            47 => "illegal_parameter",
            50 => "decode_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            100 => "no_renegotiation",
            109 => "missing_extension",
            112 => "unrecognized_name",
            other => return write!(f, "alert {other}"),
        };
        f.write_str(name)
    }
}

/// Types of records, and of messages in them.
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;

#[cfg(test)]
mod tests {
    use rustls::server::Acceptor;

    use super::*;

    /// A library that is not ours reads every one, and finds the name.
    #[test]
    fn hellos_are_well_formed() {
        for version in [Version::Tls10, Version::Tls11, Version::Tls12] {
            let octets = record(version, "edge.example.net");
            let mut acceptor = Acceptor::default();
            acceptor.read_tls(&mut &octets[..]).unwrap();
            let accepted = acceptor.accept().unwrap_or_else(|(why, _)| panic!("{version}: {why}"));
            let accepted = accepted.expect("a whole message");
            assert_eq!(accepted.client_hello().server_name(), Some("edge.example.net"));
        }
        let octets = record(Version::Dtls12, "edge.example.net");
        assert_eq!(octets.len(), 13 + usize::from(u16::from_be_bytes([octets[11], octets[12]])));
        assert!(octets.len() < 300, "one datagram on any way");
        assert!(!record(Version::Tls12, "192.0.2.1").windows(9).any(|part| part == b"192.0.2.1"));
    }

    #[test]
    fn what_servers_say_is_told_apart() {
        for (octets, expected) in [
            (&[21, 3, 1, 0, 2, 2, 70][..], Said::Alert(Alert::PROTOCOL_VERSION)),
            (&[22, 3, 1, 0, 60, 2, 0, 0, 56, 3, 1, 9], Said::Hello([3, 1])),
            (&[22, 3, 1, 0, 60, 2, 0], Said::Other),
            (b"HTTP/1.1 400", Said::Other),
            (b"", Said::Other),
        ] {
            assert_eq!(Said::over_tls(octets), expected, "{octets:?}");
        }
        let mut verify = [0; 28];
        verify[..3].copy_from_slice(&[22, 0xfe, 0xff]);
        verify[13] = 3;
        assert_eq!(Said::over_dtls(&verify), Said::Verify);
        verify[13] = 2;
        (verify[25], verify[26]) = (0xfe, 0xfd);
        assert!(Said::over_dtls(&verify).is_hello(Version::Dtls12));
        assert_eq!(Said::over_dtls(&verify[..20]), Said::Other);
    }
}
