//! TS 35.231, TUAK, by the test data of TS 35.232.

use sipward::keys::tuak::{Lengths, Tuak};
use toml::Table;

use crate::vectors::{count, file, fixed, octets, rows, text};

fn tuaks(row: &Table, lengths: Lengths) -> [Tuak; 2] {
    let (k, iterations) = (octets(row, "k"), u8::try_from(count(row, "iterations")).expect("few"));
    let from_top = Tuak::with_top(&k, &fixed(row, "top"), iterations, lengths).expect("fits");
    assert_eq!(from_top.topc()[..], octets(row, "topc"), "{}: TOPc", text(row, "name"));
    let from_topc = Tuak::with_topc(&k, &fixed(row, "topc"), iterations, lengths).expect("fits");
    [from_top, from_topc]
}

/// Clauses 6.1 to 6.3: TOPc, f1 and f1*, with 64, 128 and 256 bits.
#[test]
fn clause_6_macs() {
    for row in rows(&file("tuak"), "mac") {
        let name = text(&row, "name");
        let (rand, sqn, amf) = (fixed(&row, "rand"), fixed(&row, "sqn"), fixed(&row, "amf"));
        for own in tuaks(&row, Lengths { mac: count(&row, "mac"), ..Lengths::default() }) {
            assert_eq!(*own.f1(&rand, &sqn, &amf), octets(&row, "f1"), "{name}");
            assert_eq!(*own.f1_star(&rand, &sqn, &amf), octets(&row, "f1star"), "{name}");
        }
    }
}

/// Clauses 6.4 and 6.5: f2 to f5 and f5*, with every length of RES, CK and IK in the data.
#[test]
fn clause_6_answers() {
    for row in rows(&file("tuak"), "answer") {
        let name = text(&row, "name");
        let lengths = Lengths {
            res: count(&row, "res"),
            ck: count(&row, "ck"),
            ik: count(&row, "ik"),
            ..Lengths::default()
        };
        let rand = fixed(&row, "rand");
        for own in tuaks(&row, lengths) {
            let out = own.f2345(&rand);
            assert_eq!(*out.res, octets(&row, "f2"), "{name}");
            assert_eq!(*out.ck, octets(&row, "f3"), "{name}");
            assert_eq!(*out.ik, octets(&row, "f4"), "{name}");
            assert_eq!(out.ak[..], octets(&row, "f5"), "{name}");
            assert_eq!(own.f5_star(&rand)[..], octets(&row, "f5star"), "{name}");
        }
    }
}
