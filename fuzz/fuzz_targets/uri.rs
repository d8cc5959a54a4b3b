//! A URI's parts lie in it in order and put together give it back, and its identity, read as a URI, is its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipward::wire::Uri;
use sipward::wire::uri::{Scheme, decode, host_port};

fuzz_target!(|octets: &[u8]| {
    let _ = (decode(octets), host_port(octets));
    let Some(uri) = Uri::parse(octets) else { return };
    assert_eq!(uri.octets(), octets);
    let identity = uri.identity();
    assert!(identity.iter().all(u8::is_ascii_graphic), "no control octet, no NUL");
    for name in ["transport", "maddr", "lr", "user", "x"] {
        let value = uri.param(name).unwrap_or_default();
        assert!(!value.iter().any(|octet| b";?@\"<> ".contains(octet)));
    }
    if !matches!(uri.scheme(), Scheme::Sip | Scheme::Sips) {
        return;
    }
    let colon = octets.iter().position(|octet| *octet == b':').expect("a scheme");
    let mut text = octets[..=colon].to_vec();
    if let Some(user) = uri.user() {
        text.extend_from_slice(user);
        text.push(b'@');
    }
    text.extend_from_slice(uri.host());
    let port =
        octets[text.len()..].iter().take_while(|octet| **octet == b':' || octet.is_ascii_digit());
    text.extend(port.copied().collect::<Vec<_>>());
    for (mark, part) in [(b';', uri.params()), (b'?', uri.headers())] {
        if !part.is_empty() {
            text.push(mark);
            text.extend_from_slice(part);
        }
    }
    assert_eq!(text, octets);
    // A parameter written twice with two values is like nothing, itself included.
    let names = || uri.params().split(|octet| *octet == b';');
    let name = |part: &[u8]| {
        decode(part.split(|octet| *octet == b'=').next().unwrap_or_default()).to_ascii_lowercase()
    };
    let once = names().count() < 32
        && names().all(|part| names().filter(|other| name(part) == name(other)).count() == 1);
    if once && !uri.headers().contains(&b'&') {
        assert!(uri.equivalent(&uri));
    }
    if !identity.starts_with(b"+") && !uri.host().starts_with(b"[") {
        let again = [b"sip:", &identity[..]].concat();
        let again = Uri::parse(&again).expect("an identity is a user at a host");
        assert_eq!(again.identity(), identity);
    }
});
