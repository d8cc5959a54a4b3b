//! Stage 1, stun: the one STUN request that a SIP port answers, so that a device can keep its mapping open.
//!
//! Takes:   a datagram that the demux called STUN, the address it came from, and the time.
//! Gives:   a Binding success with XOR-MAPPED-ADDRESS, 32 octets for IPv4 and 44 for IPv6; for a UE, the request, and what
//!          such an answer says.
//! Keeps:   [`Pace`]: a fixed table of 16 384 buckets, 128 KiB; sources that share a bucket share its allowance.
//! Refuses: other methods and classes, a wrong cookie, a length that is not the datagram's, attributes that must be
//!          understood and are not, the third request of a source within a second. All of it in silence.
//! Sources: RFC 5626 sections 4.4.2 and 8; RFC 8489 sections 5, 6.3 and 14.2; `KA-02`.

use std::hash::Hasher as _;
use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut as _, Bytes, BytesMut};
use siphasher::sip::SipHasher13;

use crate::instant::Instant;

/// Answers that one source gets in a second.
pub const PER_SECOND: u8 = 2;

const HEADER: usize = 20;
const COOKIE: u32 = 0x2112_A442;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// Attributes below 0x8000 that RFC 8489 defines for a Binding request. They are credentials, which this server asks
/// of nobody.
const UNDERSTOOD: [u16; 8] = [0x0006, 0x0008, 0x0014, 0x0015, 0x001C, 0x001D, 0x001E, 0x0020];

/// The answer to `request`, which came from `source`; `None` if it earns none.
pub fn answer(request: &[u8], source: SocketAddr) -> Option<Bytes> {
    let (header, attributes) = request.split_at_checked(HEADER)?;
    let transaction = header.get(8..)?;
    let length = usize::from(number(header, 2)?);
    let cookie = header.get(4..8)? == COOKIE.to_be_bytes();
    if number(header, 0)? != BINDING_REQUEST || !cookie || length != attributes.len() {
        return None;
    }
    understood(attributes)?;
    let mut answer = BytesMut::with_capacity(HEADER.saturating_add(24));
    let value = if source.ip().to_canonical().is_ipv4() { 8_u16 } else { 20 };
    answer.put_u16(BINDING_SUCCESS);
    answer.put_u16(value.saturating_add(4));
    answer.put_u32(COOKIE);
    answer.put_slice(transaction);
    answer.put_u16(XOR_MAPPED_ADDRESS);
    answer.put_u16(value);
    put_mapped(&mut answer, source, transaction);
    Some(answer.freeze())
}

/// A Binding request of that transaction: what a UE pings with.
pub fn request(transaction: &[u8; 12]) -> Bytes {
    let mut request = BytesMut::with_capacity(HEADER);
    request.put_u16(BINDING_REQUEST);
    request.put_u16(0);
    request.put_u32(COOKIE);
    request.put_slice(transaction);
    request.freeze()
}

/// What the answer to a request of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The address the request came from.
    Mapped(SocketAddr),
    /// That it was refused.
    Error,
}

/// Reads the answer to the request of that transaction; `None` if it is none.
pub fn told(answer: &[u8], transaction: &[u8; 12]) -> Option<Told> {
    let (header, mut attributes) = answer.split_at_checked(HEADER)?;
    let fits = header.get(4..8)? == COOKIE.to_be_bytes() && header.get(8..)? == transaction;
    if !fits || usize::from(number(header, 2)?) != attributes.len() {
        return None;
    }
    match number(header, 0)? {
        BINDING_SUCCESS => {}
        BINDING_ERROR => return Some(Told::Error),
        _ => return None,
    }
    while !attributes.is_empty() {
        let (kind, length) = (number(attributes, 0)?, usize::from(number(attributes, 2)?));
        if kind == XOR_MAPPED_ADDRESS {
            let value = attributes.get(4..)?.get(..length)?;
            return mapped(value, transaction).map(Told::Mapped);
        }
        attributes = attributes.get(length.checked_next_multiple_of(4)?.checked_add(4)?..)?;
    }
    None
}

fn mapped(value: &[u8], transaction: &[u8; 12]) -> Option<SocketAddr> {
    let cookie = COOKIE.to_be_bytes();
    let [high, low, ..] = cookie;
    let port = number(value, 2)? ^ u16::from_be_bytes([high, low]);
    let mask = cookie.iter().chain(transaction);
    let octets: Vec<u8> =
        value.get(4..)?.iter().zip(mask).map(|(one, other)| one ^ other).collect();
    let address: IpAddr = match *value.get(1)? {
        1 => <[u8; 4]>::try_from(octets).ok()?.into(),
        2 => <[u8; 16]>::try_from(octets).ok()?.into(),
        _ => return None,
    };
    Some((address, port).into())
}

/// Walks the attributes; `None` if one is cut off, or must be understood and is not.
fn understood(mut attributes: &[u8]) -> Option<()> {
    while !attributes.is_empty() {
        let (kind, length) = (number(attributes, 0)?, number(attributes, 2)?);
        if kind < 0x8000 && !UNDERSTOOD.contains(&kind) {
            return None;
        }
        let padded = usize::from(length).checked_next_multiple_of(4)?;
        attributes = attributes.get(padded.checked_add(4)?..)?;
    }
    Some(())
}

fn put_mapped(answer: &mut BytesMut, source: SocketAddr, transaction: &[u8]) {
    let cookie = COOKIE.to_be_bytes();
    let [high, low, ..] = cookie;
    let port = source.port() ^ u16::from_be_bytes([high, low]);
    let put = |answer: &mut BytesMut, family: u8, address: &[u8]| {
        answer.put_slice(&[0, family]);
        answer.put_u16(port);
        let mask = cookie.iter().chain(transaction);
        answer.extend(address.iter().zip(mask).map(|(octet, mask)| octet ^ mask));
    };
    match source.ip().to_canonical() {
        IpAddr::V4(address) => put(answer, 1, &address.octets()),
        IpAddr::V6(address) => put(answer, 2, &address.octets()),
    }
}

fn number(octets: &[u8], at: usize) -> Option<u16> {
    let two = octets.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*two))
}

/// How many answers each source had in this second.
#[derive(Debug)]
pub struct Pace {
    key: [u8; 16],
    buckets: Box<[Bucket]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    second: u32,
    answers: u8,
}

const BUCKETS: usize = 16_384;

impl Pace {
    /// A table whose buckets nobody outside can aim at, since `key` is secret.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key, buckets: vec![Bucket::default(); BUCKETS].into() }
    }

    /// Whether `source` may have one more answer at `now`; counts it if so.
    pub fn allow(&mut self, source: SocketAddr, now: Instant) -> bool {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        match source.ip().to_canonical() {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        }
        hasher.write_u16(source.port());
        let place = usize::try_from(hasher.finish() % 16_384).unwrap_or_default();
        let Some(bucket) = self.buckets.get_mut(place) else { return false };
        let second = now.since(Instant::START).as_secs().saturating_add(1);
        let second = u32::try_from(second).unwrap_or(u32::MAX);
        if bucket.second != second {
            *bucket = Bucket { second, answers: 0 };
        }
        let allowed = bucket.answers < PER_SECOND;
        bucket.answers = bucket.answers.saturating_add(u8::from(allowed));
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TRANSACTION: [u8; 12] =
        [0xB7, 0xE7, 0xA7, 0x01, 0xBC, 0x34, 0xD6, 0x86, 0xFA, 0x87, 0xDF, 0xAE];

    fn request(kind: u16, cookie: u32, attributes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap();
        let mut octets = [kind.to_be_bytes(), length.to_be_bytes()].concat();
        octets.extend(cookie.to_be_bytes());
        octets.extend(TRANSACTION);
        octets.extend(attributes);
        octets
    }

    #[test]
    fn mapped_address_is_that_of_the_vectors() {
        // RFC 5769 sections 2.2 and 2.3: the attribute's value for these sources and this transaction.
        for (source, expected) in [
            ("192.0.2.1:32853", &[0x00, 0x01, 0xA1, 0x47, 0xE1, 0x12, 0xA6, 0x43][..]),
            (
                "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
                &[
                    0x00, 0x02, 0xA1, 0x47, 0x01, 0x13, 0xA9, 0xFA, 0xA5, 0xD3, 0xF1, 0x79, 0xBC,
                    0x25, 0xF4, 0xB5, 0xBE, 0xD2, 0xB9, 0xD9,
                ],
            ),
            ("[::ffff:192.0.2.1]:32853", &[0x00, 0x01, 0xA1, 0x47, 0xE1, 0x12, 0xA6, 0x43]),
        ] {
            let answer = answer(&request(1, COOKIE, b""), source.parse().unwrap()).unwrap();
            assert_eq!(&answer[24..], expected, "{source}");
            assert_eq!(&answer[..2], [0x01, 0x01], "{source}: a Binding success");
            assert_eq!(usize::from(number(&answer, 2).unwrap()), answer.len() - 20, "{source}");
            assert_eq!(&answer[8..20], TRANSACTION, "{source}");
        }
    }

    #[test]
    fn an_answer_is_read_as_it_was_made() {
        for source in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"] {
            let source = source.parse().unwrap();
            let answer = answer(&super::request(&TRANSACTION), source).unwrap();
            assert_eq!(told(&answer, &TRANSACTION), Some(Told::Mapped(source)));
            assert_eq!(told(&answer, &[0; 12]), None, "another transaction");
            for cut in 0..answer.len() {
                assert_eq!(told(&answer[..cut], &TRANSACTION), None, "cut at {cut}");
            }
        }
        let error = request(BINDING_ERROR, COOKIE, &[0, 9, 0, 4, 0, 0, 4, 0]);
        assert_eq!(told(&error, &TRANSACTION), Some(Told::Error));
        for (name, octets) in [
            ("a request", request(BINDING_REQUEST, COOKIE, b"")),
            ("no address", request(BINDING_SUCCESS, COOKIE, b"")),
            (
                "a family that is none",
                request(BINDING_SUCCESS, COOKIE, &[0, 32, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0]),
            ),
            ("an address too short", request(BINDING_SUCCESS, COOKIE, &[0, 32, 0, 4, 0, 1, 0, 0])),
        ] {
            assert_eq!(told(&octets, &TRANSACTION), None, "{name}");
        }
    }

    #[test]
    fn whatever_else_is_dropped() {
        let source = "192.0.2.1:5060".parse().unwrap();
        let mut tail = request(1, COOKIE, b"");
        tail.extend(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n");
        let mut huge = request(1, COOKIE, &[0; 65_500]);
        huge[20..24].copy_from_slice(&[0x80, 0x22, 0xFF, 0xFF]);
        for (name, octets) in [
            ("indication", request(0x0011, COOKIE, b"")),
            ("allocate", request(0x0003, COOKIE, b"")),
            ("a response", request(BINDING_SUCCESS, COOKIE, b"")),
            ("RFC 3489, no cookie", request(1, 0x0102_0304, b"")),
            ("unknown attribute", request(1, COOKIE, &[0x00, 0x03, 0, 4, 0, 0, 0, 6])),
            ("attribute cut off", request(1, COOKIE, &[0x80, 0x22, 0, 9, 0, 0, 0, 6])),
            ("SIP behind it", tail),
            ("length past the end", request(1, COOKIE, &[0; 8])[..24].to_vec()),
            ("64 KiB", huge),
            ("one octet", vec![0]),
            ("two octets", vec![0, 1]),
        ] {
            assert_eq!(answer(&octets, source), None, "{name}");
        }
        let software = request(1, COOKIE, &[0x80, 0x22, 0, 3, b'u', b'a', b'1', 0]);
        assert!(answer(&software, source).is_some(), "an attribute that need not be understood");
    }

    #[test]
    fn two_a_second_for_a_source() {
        let mut pace = Pace::new([7; 16]);
        let (one, other) = ("192.0.2.1:5060".parse().unwrap(), "192.0.2.2:5060".parse().unwrap());
        let at = |millis| Instant::START + Duration::from_millis(millis);
        let answers = (0..100_000).filter(|_| pace.allow(one, at(100))).count();
        assert_eq!(answers, 2, "one second, one source");
        assert!(pace.allow(other, at(100)), "another source");
        assert!(pace.allow(one, at(1000)), "the next second");
    }

    #[test]
    fn an_answer_is_less_than_twice_the_request_on_the_wire() {
        for (source, headers) in [("192.0.2.1:1", 28), ("[2001:db8::1]:1", 48)] {
            let request = request(1, COOKIE, b"");
            let answer = answer(&request, source.parse().unwrap()).unwrap();
            assert!(answer.len() + headers < 2 * (request.len() + headers), "{source}");
        }
    }
}
