//! Credentials that are accepted, printed anew with every value quoted, are read as the same credentials.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipward::wire::auth::{AuthenticationInfo, pairs};
use sipward::wire::{Challenge, Credentials};

fuzz_target!(|octets: &[u8]| {
    let _ = (Challenge::parse(octets), AuthenticationInfo::parse(octets));
    let Ok(Some(credentials)) = Credentials::parse(octets) else { return };
    assert!(credentials.nonce_count().is_some() == credentials.param("nc").is_some());
    let list = &octets[b"Digest".len()..];
    let params = pairs(list.trim_ascii()).expect("a list of parameters");
    let mut text = b"Digest ".to_vec();
    for (at, (name, value)) in params.iter().enumerate() {
        assert_eq!(
            credentials.param(std::str::from_utf8(name).expect("a token")),
            Some(&value[..])
        );
        text.extend_from_slice(if at == 0 { b"" } else { b", " });
        text.extend_from_slice(name);
        text.extend_from_slice(b"=\"");
        for octet in value.iter() {
            if matches!(octet, b'"' | b'\\' | b'\r') {
                text.push(b'\\');
            }
            text.push(*octet);
        }
        text.push(b'"');
    }
    let again = Credentials::parse(&text).expect("well formed").expect("Digest");
    for (name, value) in &params {
        let name = std::str::from_utf8(name).expect("a token");
        assert_eq!(again.param(name), Some(&value[..]), "{name}");
    }
});
