//! RFC 7616: digest responses, published and computed, and those of RFC 8760 and Digest-AKA.

use sipward::authentication::aka::AkaAlgorithm;
use sipward::authentication::digest::{Ha1, Hash, Inputs, Qop, Response};
use toml::Table;

use crate::vectors::{file, octets, rows, text};

/// Section 3.4: response; section 3.5: rspauth. Also from HA1 as a file of accounts would keep it.
#[test]
fn section_3_4_responses() {
    for case in rows(&file("digest"), "case") {
        let name = text(&case, "name");
        let algorithm = text(&case, "algorithm").as_bytes();
        let (hash, session) = Hash::of(algorithm)
            .or_else(|| AkaAlgorithm::of(algorithm).map(|aka| (aka.hash, aka.session)))
            .unwrap_or_else(|| panic!("{name}: unknown algorithm"));
        let ha1 = Ha1::new(
            hash,
            text(&case, "username").as_bytes(),
            text(&case, "realm").as_bytes(),
            &octets(&case, "password"),
        );
        let body = octets(&case, "body");
        let inputs = inputs(&case, hash, session, text(&case, "method"), &body);
        let response = Response::compute(&ha1, &inputs);
        let expected = text(&case, "response").as_bytes();
        assert_eq!(response.as_hex(), expected, "{name}");
        assert!(response.verify(expected), "{name}");
        assert!(!response.verify(&expected[1..]), "{name}");
        assert!(!response.verify(text(&case, "ha1").as_bytes()), "{name}");

        let kept = Ha1::from_hex(hash, text(&case, "ha1").as_bytes()).expect("lower-case hex");
        let again = Response::compute(&kept, &Inputs { session: false, ..inputs });
        assert_eq!(again.as_hex(), expected, "{name}: from the HA1 that the row states");

        if case.contains_key("rspauth") {
            let body = octets(&case, "response_body");
            let inputs = self::inputs(&case, hash, session, "", &body);
            let rspauth = Response::compute(&ha1, &inputs);
            assert_eq!(rspauth.as_hex(), text(&case, "rspauth").as_bytes(), "{name}: rspauth");
        }
    }
}

/// Section 3.9.2: the printed response is that of SHA-512 cut short; ours is that of FIPS 180-4.
#[test]
fn section_3_9_2_is_not_followed() {
    for case in rows(&file("digest"), "truncated") {
        let ha1 = Ha1::new(
            Hash::Sha512_256,
            &octets(&case, "username"),
            text(&case, "realm").as_bytes(),
            text(&case, "password").as_bytes(),
        );
        let inputs = inputs(&case, Hash::Sha512_256, false, text(&case, "method"), b"");
        let response = Response::compute(&ha1, &inputs);
        assert_eq!(response.as_hex(), text(&case, "response").as_bytes());
        assert_ne!(response.as_hex(), text(&case, "printed").as_bytes());
        let username = octets(&case, "username");
        let userhash = Hash::Sha512_256.hex(&[&username, b":", text(&case, "realm").as_bytes()]);
        assert_eq!(&userhash[..], text(&case, "userhash").as_bytes());
    }
}

/// Section 3.4.4: userhash.
#[test]
fn section_3_4_4_userhash() {
    for case in rows(&file("digest"), "userhash") {
        let (hash, _) = Hash::of(text(&case, "algorithm").as_bytes()).expect("known");
        let (username, realm) = (text(&case, "username"), text(&case, "realm"));
        let userhash = hash.hex(&[username.as_bytes(), b":", realm.as_bytes()]);
        assert_eq!(&userhash[..], text(&case, "userhash").as_bytes(), "{hash:?}");
    }
}

fn inputs<'a>(
    case: &'a Table,
    hash: Hash,
    session: bool,
    method: &'a str,
    body: &'a [u8],
) -> Inputs<'a> {
    let optional = |name| case.get(name).and_then(toml::Value::as_str).unwrap_or_default();
    Inputs {
        hash,
        session,
        method: method.as_bytes(),
        uri: text(case, "uri").as_bytes(),
        nonce: text(case, "nonce").as_bytes(),
        cnonce: optional("cnonce").as_bytes(),
        nc: optional("nc").as_bytes(),
        qop: match optional("qop") {
            "" => Qop::None,
            "auth" => Qop::Auth,
            "auth-int" => Qop::AuthInt(body),
            other => panic!("qop {other}"),
        },
    }
}
