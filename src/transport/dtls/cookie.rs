//! Stage 1, DTLS cookies: a client shows that it receives at its address, before anything is kept for it.
//!
//! Takes:   a key, a hello, where it came from, the time.
//! Gives:   a [`Cookie`], and the HelloVerifyRequest that carries it; whether one that came back is ours.
//! Keeps:   the key. What it signs with is another key for each [`PERIOD`].
//! Refuses: cookies over [`LIFETIME`] old, of another address, another hello or another key.
//! Sources: RFC 6347 section 4.2.1; RFC 9147 section 5.1; `DT-07`, `V-43`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::hello::Hello;
use super::record::{self, FRAGMENT_HEAD};
use crate::instant::Instant;

/// How long a cookie is good.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// How long one key signs.
pub const PERIOD: Duration = Duration::from_secs(600);
/// Octets of a cookie: four of its time of birth in seconds, and the front of a MAC.
pub const COOKIE: usize = 20;

const HELLO_VERIFY_REQUEST: u8 = 3;
const BIRTH: usize = 4;

/// A cookie of ours.
pub type Cookie = [u8; COOKIE];

/// The maker of cookies; all workers of a listener have the same.
pub struct Cookies(Zeroizing<[u8; 32]>);

impl Cookies {
    /// Cookies under `key`, which is random.
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// The cookie for `hello` from `from`.
    pub fn make(&self, from: SocketAddr, hello: &Hello<'_>, now: Instant) -> Cookie {
        self.at(from, hello, seconds(now))
    }

    /// Whether the cookie in `hello` is the one that was made for it.
    pub fn verify(&self, from: SocketAddr, hello: &Hello<'_>, now: Instant) -> bool {
        let Some((birth, _)) = hello.cookie.split_first_chunk::<BIRTH>() else { return false };
        let birth = u32::from_be_bytes(*birth);
        let age = seconds(now).checked_sub(birth);
        let young = age.is_some_and(|age| Duration::from_secs(age.into()) <= LIFETIME);
        young && bool::from(self.at(from, hello, birth).ct_eq(hello.cookie))
    }

    fn at(&self, from: SocketAddr, hello: &Hello<'_>, birth: u32) -> Cookie {
        let period = u64::from(birth).checked_div(PERIOD.as_secs()).unwrap_or_default();
        let key = Zeroizing::new(mac(&*self.0, &[&period.to_be_bytes()]));
        let host = match from.ip() {
            IpAddr::V4(host) => host.to_ipv6_mapped().octets(),
            IpAddr::V6(host) => host.octets(),
        };
        let birth = birth.to_be_bytes();
        let [before, after] = hello.constant();
        let signed = mac(&*key, &[&birth, &host, &from.port().to_be_bytes(), before, after]);
        let mut cookie = [0; COOKIE];
        for (to, from) in cookie.iter_mut().zip(birth.iter().chain(&signed)) {
            *to = *from;
        }
        cookie
    }
}

impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookies(..)")
    }
}

fn seconds(now: Instant) -> u32 {
    u32::try_from(now.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        unreachable!("HMAC takes keys of any length")
    };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// The answer to a hello without a good cookie: shorter than any hello.
///
/// Its record has the number of the hello's, so that nothing needs to be remembered.
///
/// Source: RFC 6347 section 4.2.1.
pub fn hello_verify_request(hello: &Hello<'_>, cookie: &Cookie) -> Vec<u8> {
    const BODY: usize = 3 + COOKIE;
    let mut octets = record::head(22, [254, 255], hello.record, FRAGMENT_HEAD + BODY).to_vec();
    octets.push(HELLO_VERIFY_REQUEST);
    octets.extend_from_slice(&record::to_three(BODY));
    octets.extend_from_slice(&[0; 5]);
    octets.extend_from_slice(&record::to_three(BODY));
    octets.extend_from_slice(&[254, 255, 20]);
    octets.extend_from_slice(cookie);
    octets
}

#[cfg(test)]
mod tests {
    use super::super::hello::tests::hello;
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    /// V-43: a cookie is good for its hello, its address, its key, and for a minute.
    #[test]
    fn a_cookie_is_good_for_what_it_was_made_for() {
        let from: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let (ours, others) = (Cookies::new([1; 32]), Cookies::new([2; 32]));
        let first = hello(7, b"", &[0x00A8]);
        let cookie = ours.make(from, &Hello::read(&first).unwrap(), at(1000));
        let mut altered = cookie;
        altered[COOKIE - 1] ^= 1;
        let mut older = cookie;
        older[BIRTH - 1] ^= 1;
        for (about, cookies, address, random, cookie, now, good) in [
            ("as made", &ours, "192.0.2.1:4000", 7, &cookie[..], 1000, true),
            ("a minute old", &ours, "192.0.2.1:4000", 7, &cookie, 1060, true),
            ("older", &ours, "192.0.2.1:4000", 7, &cookie, 1061, false),
            ("not yet made", &ours, "192.0.2.1:4000", 7, &cookie, 999, false),
            ("another port", &ours, "192.0.2.1:4001", 7, &cookie, 1000, false),
            ("another host", &ours, "192.0.2.2:4000", 7, &cookie, 1000, false),
            ("another hello", &ours, "192.0.2.1:4000", 8, &cookie, 1000, false),
            ("another key", &others, "192.0.2.1:4000", 7, &cookie, 1000, false),
            ("altered", &ours, "192.0.2.1:4000", 7, &altered, 1000, false),
            ("another birth", &ours, "192.0.2.1:4000", 7, &older, 1000, false),
            ("cut", &ours, "192.0.2.1:4000", 7, &cookie[..COOKIE - 1], 1000, false),
            ("none", &ours, "192.0.2.1:4000", 7, b"", 1000, false),
        ] {
            let second = hello(random, cookie, &[0x00A8]);
            let second = Hello::read(&second).unwrap();
            let address = address.parse().unwrap();
            assert_eq!(cookies.verify(address, &second, at(now)), good, "{about}");
        }
        let request = hello_verify_request(&Hello::read(&first).unwrap(), &cookie);
        assert!(request.len() < first.len(), "no amplification");
        assert_eq!(&request[request.len() - COOKIE..], cookie);
    }

    #[test]
    fn keys_change_with_the_period() {
        let from = "192.0.2.1:4000".parse().unwrap();
        let cookies = Cookies::new([1; 32]);
        let first = hello(7, b"", &[0x00A8]);
        let hello = Hello::read(&first).unwrap();
        let period = |number: u64| {
            let key = mac(&[1; 32], &[&number.to_be_bytes()]);
            Cookies::new(key)
        };
        let made = |second| cookies.make(from, &hello, at(second));
        assert_ne!(made(599), made(600));
        assert_ne!(*period(0).0, *period(1).0);
    }
}
