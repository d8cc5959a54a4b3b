//! RFC 3310 and RFC 4169: Digest-AKA's nonce, passwords and AUTS.

use sipward::authentication::aka::{AkaAlgorithm, AkaNonce, parse_auts, print_auts};
use sipward::keys::Rand;
use sipward::keys::milenage::Milenage;
use sipward::keys::sqn::Sqn;
use sipward::keys::vector::{Algorithms, Vector};

use crate::vectors::{file, fixed, octets, rows, text};

/// The vector of the whole-run file: subscriber, challenge and sequence number of test set 1.
fn vector() -> (Algorithms, Sqn, Vector) {
    let flow = file("gba_flow");
    let own = Milenage::with_opc(&fixed(&flow, "k"), &fixed(&flow, "opc"));
    let own = Algorithms::Milenage(own);
    let sqn = Sqn::from_octets(&fixed(&flow, "sqn"));
    let vector = own.vector(Rand(fixed(&flow, "rand")), sqn, fixed(&flow, "amf"));
    (own, sqn, vector)
}

/// Section 3.2: nonce = base64(RAND || AUTN).
#[test]
fn section_3_2_nonce() {
    let (flow, (_, _, vector)) = (file("gba_flow"), vector());
    let nonce = AkaNonce::new(vector.rand, vector.autn);
    assert_eq!(nonce.print(), text(&flow, "nonce"));
    assert_eq!(AkaNonce::parse(text(&flow, "nonce").as_bytes()), Some(nonce));
}

/// Section 3.3 and RFC 4169 section 2.1: the password; section 2.2: the masked keys.
#[test]
fn section_3_3_passwords() {
    let (_, _, vector) = vector();
    let mut seen = 0;
    for case in rows(&file("digest"), "case") {
        let name = text(&case, "name");
        let Some(algorithm) = AkaAlgorithm::of(text(&case, "algorithm").as_bytes()) else {
            continue;
        };
        let res = match name {
            "aka-short-res-32bit" => &vector.xres.expose()[..4],
            "aka-resync-auts" => continue,
            _ => vector.xres.expose(),
        };
        let password = algorithm.password(res, &vector.ck, &vector.ik).expect("any length");
        assert_eq!(*password, octets(&case, "password"), "{name}");
        if case.contains_key("ck_masked") {
            let ck = algorithm.masked_ck(&vector.ck).expect("any length");
            let ik = algorithm.masked_ik(&vector.ik).expect("any length");
            assert_eq!(*ck, octets(&case, "ck_masked"), "{name}");
            assert_eq!(*ik, octets(&case, "ik_masked"), "{name}");
        }
        seen += 1;
    }
    assert_eq!(seen, 5, "AKA cases in the file");
}

/// Section 3.4: AUTS as a parameter.
#[test]
fn section_3_4_auts() {
    let (own, sqn, vector) = vector();
    let auts = own.make_auts(&vector.rand, sqn);
    let case = rows(&file("digest"), "case")
        .into_iter()
        .find(|case| text(case, "name") == "aka-resync-auts")
        .expect("in the file");
    assert_eq!(print_auts(&auts), text(&case, "auts"));
    assert_eq!(parse_auts(text(&case, "auts").as_bytes()), Some(auts));
    assert_eq!([&vector.rand.0[..], &auts.0].concat(), octets(&case, "rand_auts"));
}
