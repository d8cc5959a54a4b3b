//! TS 35.206, Milenage, by the test sets of TS 35.208; and what TS 33.102 makes of its outputs.

use sipward::keys::Rand;
use sipward::keys::milenage::Milenage;
use sipward::keys::sqn::Sqn;
use sipward::keys::vector::{Algorithms, Auts};

use crate::vectors::{file, fixed, octets, rows, text};

/// Clause 4: OPc and all seven functions.
#[test]
fn clause_4_functions() {
    for set in rows(&file("milenage"), "aka") {
        let name = text(&set, "name");
        let (rand, sqn, amf) = (fixed(&set, "rand"), fixed(&set, "sqn"), fixed(&set, "amf"));
        let own = Milenage::with_op(&fixed(&set, "k"), &fixed(&set, "op"));
        assert_eq!(own.opc()[..], octets(&set, "opc"), "{name}: OPc");
        let own = Milenage::with_opc(&fixed(&set, "k"), &fixed(&set, "opc"));
        let (res, ak) = own.f2_f5(&rand);
        for (function, output) in [
            ("f1", &own.f1(&rand, &sqn, &amf)[..]),
            ("f1star", &own.f1_star(&rand, &sqn, &amf)),
            ("f2", &res),
            ("f3", &own.f3(&rand)),
            ("f4", &own.f4(&rand)),
            ("f5", &ak),
            ("f5star", &own.f5_star(&rand)),
        ] {
            assert_eq!(output, octets(&set, function), "{name}: {function}");
        }
    }
}

/// TS 33.102 clauses 6.3.2 and 6.3.5, TS 33.220 clauses 4.5.2 and 5.3.2: AUTN, AUTS, Ks and AUTN*.
#[test]
fn vectors_made_of_them() {
    for set in rows(&file("milenage"), "aka") {
        let name = text(&set, "name");
        let own = Milenage::with_opc(&fixed(&set, "k"), &fixed(&set, "opc"));
        let own = Algorithms::Milenage(own);
        let (rand, sqn) = (Rand(fixed(&set, "rand")), Sqn::from_octets(&fixed(&set, "sqn")));
        let vector = own.vector(rand, sqn, fixed(&set, "amf"));
        let masked = vector.autn.masked(&vector.ik);
        let auts = own.make_auts(&rand, sqn);
        for (what, output) in [
            ("autn", &vector.autn.0[..]),
            ("f2", vector.xres.expose()),
            ("ks", vector.ks().expose()),
            ("autn_gba_u", &masked.0),
            ("auts", &auts.0),
            ("mac_s", &own.mac_s(&rand, sqn, [0, 0])),
        ] {
            assert_eq!(output, octets(&set, what), "{name}: {what}");
        }
        assert_eq!(masked.masked(&vector.ik), vector.autn, "{name}");
        assert_eq!(own.open_auts(&rand, &Auts(fixed(&set, "auts"))), Ok(sqn), "{name}");
    }
}

/// TS 55.205: GSM answers are f2, f3 and f4 folded, so these sets test those once more.
#[test]
fn gsm_sets_fold_out_of_f2_f3_f4() {
    for set in rows(&file("milenage"), "gsm") {
        let name = text(&set, "name");
        let own = Milenage::with_opc(&fixed(&set, "k"), &fixed(&set, "opc"));
        let rand = fixed(&set, "rand");
        let (res, _) = own.f2_f5(&rand);
        let folded: Vec<u8> = (0..4).map(|at| res[at] ^ res[at + 4]).collect();
        let (ck, ik) = (own.f3(&rand), own.f4(&rand));
        let kc: Vec<u8> = (0..8).map(|at| ck[at] ^ ck[at + 8] ^ ik[at] ^ ik[at + 8]).collect();
        assert_eq!(folded, octets(&set, "sres_folded"), "{name}");
        assert_eq!(res[..4], octets(&set, "sres_cut"), "{name}");
        assert_eq!(kc, octets(&set, "kc"), "{name}");
    }
}
