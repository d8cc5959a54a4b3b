//! Stage 2, sameness: when two spellings of a URI are one.
//!
//! Takes:   parsed URIs.
//! Gives:   [`Uri::identity`], a key that is equal for every spelling of one user, and [`Uri::equivalent`].
//! Keeps:   nothing. Bounds: 64 parameters and 64 headers of a URI are compared; more are never equivalent.
//! Refuses: nothing.
//! Sources: RFC 3261 sections 19.1.4 and 19.1.6; RFC 3966 section 4; RFC 5118 section 4; `V-83`.

use std::net::IpAddr;

use super::host::host_address;
use super::octets::position;
use super::uri::{Scheme, Uri};

/// Most parameters, and most headers, of a URI that is compared.
const COMPARED_MAX: usize = 64;

impl Uri<'_> {
    /// User and host as identities are compared: one key for all spellings of one user.
    ///
    /// `%HH` of a character that needs no escape is that character, any other escape keeps its `%` and gets
    /// upper-case digits, so that NUL stays `%00`; the host is folded and loses a trailing dot, an address is written in
    /// one way. Scheme (sip and sips name the same user), port, parameters and headers do not count.
    /// `tel:+1-201-555-0123` gives `+12015550123`, and so does `sip:+12015550123@host;user=phone`; a number
    /// that is not global keeps its host or phone-context, without which it means nothing.
    ///
    /// Source: RFC 3261 section 19.1.4; RFC 3966 section 4.
    pub fn identity(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.octets().len());
        let user = self.user().unwrap_or_default();
        let phone = self.scheme() == Scheme::Tel
            || self.param("user").is_some_and(|kind| kind.eq_ignore_ascii_case(b"phone"));
        if phone && put_global_number(&mut key, user) {
            return key;
        }
        match self.scheme() {
            Scheme::Tel => {
                let digits = user.iter().filter(|octet| !is_separator(**octet));
                key.extend(digits.map(u8::to_ascii_lowercase));
                key.extend_from_slice(b";phone-context=");
                let context = self.param("phone-context").unwrap_or_default();
                key.extend(canonical(context).map(|octet| octet.to_ascii_lowercase()));
            }
            Scheme::Other => key.extend_from_slice(self.octets()),
            Scheme::Sip | Scheme::Sips => {
                if self.user().is_some() {
                    key.extend(canonical_user(user));
                    key.push(b'@');
                }
                put_host(&mut key, self.host());
            }
        }
        key
    }

    /// Where it leads, in a form to be compared: user, host and port, however each is spelt, the port of its scheme
    /// being as good as none. Scheme and parameters are left out; of other schemes all is kept.
    pub fn place(&self) -> Vec<u8> {
        let mut place = Vec::with_capacity(self.octets().len());
        if !matches!(self.scheme(), Scheme::Sip | Scheme::Sips) {
            return self.identity();
        }
        if let Some(user) = self.user() {
            place.extend(canonical_user(user));
            place.push(b'@');
        }
        put_host(&mut place, self.host());
        if let Some(port) = self.port().filter(|port| !matches!(port, 5060 | 5061)) {
            place.extend(format!(":{port}").into_bytes());
        }
        place
    }

    /// Whether the two are equivalent: the comparison of RFC 3261, which is not transitive.
    ///
    /// Source: RFC 3261 section 19.1.4; for tel RFC 3966 section 4. Other schemes: octet for octet.
    pub fn equivalent(&self, other: &Uri<'_>) -> bool {
        if self.scheme() != other.scheme() {
            return false;
        }
        match self.scheme() {
            Scheme::Other => self.octets() == other.octets(),
            Scheme::Tel => {
                let params = |uri: &Uri<'_>| uri.each_param().count();
                self.identity() == other.identity()
                    && params(self) == params(other)
                    && params_agree(self, other, |_| true)
            }
            Scheme::Sip | Scheme::Sips => {
                let never_ignored = |name: &[u8]| {
                    ["user", "ttl", "method", "maddr", "transport"]
                        .iter()
                        .any(|known| same_name(name, known))
                };
                let user =
                    |uri: &Uri<'_>| uri.user().map(|user| canonical_user(user).collect::<Vec<_>>());
                user(self) == user(other)
                    && same_host(self.host(), other.host())
                    && self.port() == other.port()
                    && params_agree(self, other, never_ignored)
                    && params_agree(other, self, never_ignored)
                    && headers_agree(self.headers(), other.headers())
            }
        }
    }
}

/// Writes a number that begins with `+`, without visual separators; `false` if it is none.
fn put_global_number(key: &mut Vec<u8>, user: &[u8]) -> bool {
    let subscriber = user.split(|octet| *octet == b';').next().unwrap_or_default();
    let mut digits = canonical_user(subscriber).filter(|octet| !is_separator(*octet));
    if digits.next() != Some(b'+') {
        return false;
    }
    key.push(b'+');
    key.extend(digits);
    let global = key.len() > 1 && key.iter().skip(1).all(u8::is_ascii_digit);
    if !global {
        key.clear();
    }
    global
}

/// Visual separators of a telephone number (RFC 3966 section 5.1.1).
fn is_separator(octet: u8) -> bool {
    matches!(octet, b'-' | b'.' | b'(' | b')')
}

fn put_host(key: &mut Vec<u8>, host: &[u8]) {
    match host_address(host) {
        // There is one way to spell these, out of brackets.
        Some(IpAddr::V4(_)) if !host.starts_with(b"[") => key.extend_from_slice(host),
        Some(address) => key.extend_from_slice(address.to_string().as_bytes()),
        None => {
            let host = host.strip_suffix(b".").unwrap_or(host);
            key.extend(host.iter().map(u8::to_ascii_lowercase));
        }
    }
}

/// Whether two host parts name the same: addresses by value, names without case and trailing dot.
pub fn same_host(one: &[u8], other: &[u8]) -> bool {
    match (host_address(one), host_address(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => {
            let name = |host: &'_ [u8]| host.strip_suffix(b".").map_or(host.len(), <[u8]>::len);
            let (one, other) = (one.get(..name(one)), other.get(..name(other)));
            one.zip(other).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other))
        }
        _ => false,
    }
}

/// Whether each parameter of `one` is in `other` with the same value, or absent there and ignored when absent.
fn params_agree(one: &Uri<'_>, other: &Uri<'_>, never_ignored: impl Fn(&[u8]) -> bool) -> bool {
    let few = |uri: &Uri<'_>| {
        uri.each_param().take(COMPARED_MAX.saturating_add(1)).count() <= COMPARED_MAX
    };
    few(one)
        && few(other)
        && one.each_param().all(|(name, value)| {
            let found = other.each_param().find(|(theirs, _)| same_text(name, theirs));
            match found {
                Some((_, theirs)) => {
                    same_text(value.unwrap_or_default(), theirs.unwrap_or_default())
                }
                None => !never_ignored(name),
            }
        })
}

/// Whether the headers are the same in any order: names without case, values with it.
fn headers_agree(one: &[u8], other: &[u8]) -> bool {
    let split = |headers| <[u8]>::split(headers, |octet: &u8| *octet == b'&');
    let count = split(one).take(COMPARED_MAX.saturating_add(1)).count();
    let value = |header: &[u8], theirs: &[u8]| {
        let mut ours = header.splitn(2, |octet| *octet == b'=');
        let mut theirs = theirs.splitn(2, |octet| *octet == b'=');
        let name = same_text(ours.next().unwrap_or_default(), theirs.next().unwrap_or_default());
        let canonical_rest =
            |rest: Option<&[u8]>| canonical(rest.unwrap_or_default()).collect::<Vec<_>>();
        name && canonical_rest(ours.next()) == canonical_rest(theirs.next())
    };
    count <= COMPARED_MAX
        && split(other).take(COMPARED_MAX.saturating_add(1)).count() == count
        && split(one).all(|header| split(other).any(|theirs| value(header, theirs)))
        && split(other).all(|header| split(one).any(|theirs| value(header, theirs)))
}

/// Whether `octets`, decoded and folded, spell `name`.
pub(super) fn same_name(octets: &[u8], name: &str) -> bool {
    if position(b'%', octets).is_none() {
        return octets.eq_ignore_ascii_case(name.as_bytes());
    }
    decoded(octets)
        .map(|octet| octet.to_ascii_lowercase())
        .eq(name.bytes().map(|octet| octet.to_ascii_lowercase()))
}

/// Whether the two are the same after decoding, without case.
fn same_text(one: &[u8], other: &[u8]) -> bool {
    let fold = |octet: u8| octet.to_ascii_lowercase();
    canonical(one).map(fold).eq(canonical(other).map(fold))
}

/// Each octet with `%HH` decoded, as an iterator.
pub(super) fn decoded(octets: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = octets;
    std::iter::from_fn(move || {
        let (octet, tail) = escape(rest)?;
        rest = tail;
        Some(octet.unwrap_or_else(|raw| raw))
    })
}

/// The next octet: `Ok` if it was escaped, `Err` if it stands for itself; and what follows.
#[allow(clippy::type_complexity, reason = "one caller reads it on the spot")]
fn escape(octets: &[u8]) -> Option<(Result<u8, u8>, &[u8])> {
    let hex = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if let [b'%', high, low, tail @ ..] = octets
        && let (Some(high), Some(low)) = (hex(*high), hex(*low))
    {
        return Some((Ok(high << 4 | low), tail));
    }
    octets.split_first().map(|(octet, tail)| (Err(*octet), tail))
}

/// One spelling for each text: unreserved characters bare, all else as it was, escapes in upper case.
fn canonical(octets: &[u8]) -> impl Iterator<Item = u8> + '_ {
    one_spelling(octets, is_unreserved)
}

/// [`canonical`] for user and password, where more characters need no escape (RFC 3261 section 25.1).
fn canonical_user(octets: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let colon = position(b':', octets).unwrap_or(octets.len());
    let (user, password) = octets.split_at_checked(colon).unwrap_or((octets, b""));
    let user = one_spelling(user, |octet| is_unreserved(octet) || b"&=+$,;?/".contains(&octet));
    user.chain(one_spelling(password, |octet| is_unreserved(octet) || b"&=+$,".contains(&octet)))
}

fn one_spelling(octets: &[u8], needs_no_escape: impl Fn(u8) -> bool) -> impl Iterator<Item = u8> {
    let mut rest = octets;
    let mut pending = [None, None];
    std::iter::from_fn(move || {
        if let Some(digit) = pending.first_mut().and_then(Option::take) {
            return Some(digit);
        }
        if let Some(digit) = pending.last_mut().and_then(Option::take) {
            return Some(digit);
        }
        let (octet, tail) = escape(rest)?;
        rest = tail;
        match octet {
            Ok(octet) if !needs_no_escape(octet) => {
                pending = [Some(hex_digit(octet >> 4)), Some(hex_digit(octet & 15))];
                Some(b'%')
            }
            Ok(octet) | Err(octet) => Some(octet),
        }
    })
}

fn hex_digit(value: u8) -> u8 {
    let digit = char::from_digit(u32::from(value), 16).unwrap_or('0');
    u8::try_from(digit.to_ascii_uppercase()).unwrap_or(b'0')
}

/// Characters that mean the same escaped and bare (RFC 3261 section 25.1, unreserved).
fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&octet)
}

/// `octets` with each `%HH` replaced by its octet.
pub fn decode(octets: &[u8]) -> Vec<u8> {
    // No longer than what it is made of.
    let mut text = Vec::with_capacity(octets.len());
    text.extend(decoded(octets));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a URI"))
    }

    #[test]
    fn a_place_is_user_host_and_port() {
        let place = |text| uri(text).place();
        for (one, other, same) in [
            ("sip:bob@example.net", "sips:bob@EXAMPLE.net.:5061;transport=tls", true),
            ("sip:bob@192.0.2.1:5060", "sip:b%6fb@192.0.2.1", true),
            ("sip:bob@[2001:db8::1]", "sip:bob@[2001:DB8:0::1]:5060", true),
            ("sip:bob@example.net", "sip:Bob@example.net", false),
            ("sip:bob@example.net", "sip:example.net", false),
            ("sip:bob@example.net:5070", "sip:bob@example.net", false),
            ("sip:+15551@a.example;user=phone", "sip:+15551@b.example;user=phone", false),
        ] {
            assert_eq!(place(one) == place(other), same, "{one} {other}");
        }
    }

    fn key(text: &str) -> String {
        String::from_utf8(uri(text).identity()).expect("ASCII")
    }

    #[test]
    fn one_identity_has_many_spellings() {
        for (one, others) in [
            (
                "sip:alice@example.net",
                &[
                    "sip:%61lice@example.net",
                    "sip:%61%6C%69%63%65@example.net",
                    "SIP:alice@EXAMPLE.net.",
                    "sips:alice@example.net:5061;x=y",
                    "sip:alice@example.net?From=sip:bob%40example.net",
                ][..],
            ),
            ("sip:a%3bb@c.example", &["sip:a;b@C.example", "sip:a%3Bb@c.example"][..]),
            ("sip:a:b+%3b@c.example", &["sip:a:b%2b%3B@c.example"][..]),
            ("sip:a@[2001:db8::1]", &["sip:a@[2001:DB8:0:0::1]"][..]),
            (
                "tel:+12015550123",
                &[
                    "tel:+1-201-555-0123",
                    "TEL:+1(201)555.0123;ext=1",
                    "sip:+12015550123@gw.example;user=phone",
                    "sip:%2B12015550123@gw.example;user=PHONE",
                    "sip:+1-201-555-0123;x=y@gw.example;user=phone",
                ][..],
            ),
            ("tel:7042;phone-context=Example.net", &["tel:70-42;phone-context=example.NET"][..]),
        ] {
            for other in others {
                assert_eq!(key(one), key(other), "{one} and {other}");
            }
        }
    }

    #[test]
    fn other_identities_stay_apart() {
        let all = [
            "sip:alice@example.net",
            "sip:Alice@example.net",
            "sip:alice%00@example.net",
            "sip:alice:pw@example.net",
            "sip:alice%3Apw@example.net",
            "sip:alice:p%3Bw@example.net",
            "sip:alice:p%2Bw@example.net",
            "sip:alice@sub.example.net",
            "sip:alice%40example.net@example.net",
            "sip:example.net",
            "sip:al%c0%afice@example.net",
            "sip:al%25%32%46ice@example.net",
            "sip:al/ice@example.net",
            "tel:7042;phone-context=example.net",
            "tel:7042;phone-context=example.org",
            "sip:7042@example.net;user=phone",
            "sip:7042@example.org;user=phone",
            "tel:+7042",
            "isbn:7042",
        ];
        for (at, one) in all.iter().enumerate() {
            for other in all.iter().skip(at + 1) {
                assert_ne!(key(one), key(other), "{one} and {other}");
            }
        }
        assert!(!key("sip:alice%00@example.net").contains('\0'));
    }

    /// The sets of RFC 3261 section 19.1.4, in its order.
    #[test]
    fn equivalence_is_that_of_rfc_3261() {
        for (one, other, same) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp", true),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5", true),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on", true),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
                true,
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
                true,
            ),
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP", false),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060", false),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp", false),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp", false),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting", false),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4", false),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off", false),
            ("sip:a@b", "sips:a@b", false),
            ("sip:a@b", "sip:b", false),
            ("sip:a@b;maddr=1.2.3.4", "sip:a@b", false),
            ("tel:+1-201", "tel:+1.201", true),
            ("tel:+1201", "tel:+1201;ext=1", false),
            ("urn:x:y", "urn:x:y", true),
        ] {
            assert_eq!(uri(one).equivalent(&uri(other)), same, "{one} and {other}");
            assert_eq!(uri(other).equivalent(&uri(one)), same, "{other} and {one}");
        }
    }
}
