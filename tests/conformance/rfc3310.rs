//! RFC 3310 and RFC 4169: Digest-AKA's nonce, passwords and AUTS.

use std::sync::Arc;
use std::time::Duration;

use sipward::authentication::aka::{AkaAlgorithm, AkaNonce, parse_auts, print_auts};
use sipward::identity::{Impi, Impu};
use sipward::instant::Now;
use sipward::keys::Rand;
use sipward::keys::bootstrap::{Bsf, BsfConfig, NoVector};
use sipward::keys::milenage::Milenage;
use sipward::keys::sqn::{Sqn, SqnGenerator, SqnWindow};
use sipward::keys::subscribers::{Card, Subscriber};
use sipward::keys::usim::{CardAnswer, Usim};
use sipward::keys::vector::{Algorithms, Auts, Vector};

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

/// Section 3.4 for whoever challenges over SIP: one subscriber, one sequence number, one pace (V-100).
#[test]
fn section_3_4_vectors_for_sip() {
    let impi = Impi::new("user1_private@home1.net").expect("a name");
    let flow = file("gba_flow");
    let functions =
        || Algorithms::Milenage(Milenage::with_opc(&fixed(&flow, "k"), &fixed(&flow, "opc")));
    let subscriber = |barred| Subscriber {
        impi: impi.clone(),
        algorithms: Some(functions()),
        digest: None,
        amf: [0x80, 0],
        sqn: SqnGenerator::new(Sqn::default()),
        impus: Arc::from([Impu::new("sip:user1@home1.net").expect("a URI")]),
        key_lifetime: None,
        barred,
        card: Card::Gba,
        uss: Arc::from([]),
    };
    let config = BsfConfig::new("bsf.home1.net");
    let auc = Bsf::new(config, vec![subscriber(false)], vec![], [0; 32]).expect("fit");
    let mut card = Usim::new(functions(), SqnWindow::default().with_seen([500; 32]));
    let now = Now::default();

    let (vector, impus) = auc.vector(&impi, [1; 16], now).expect("a subscriber");
    assert_eq!(impus[0].as_str(), "sip:user1@home1.net");
    let Ok(CardAnswer::OutOfStep(auts)) = card.authenticate(&vector.rand, &vector.autn) else {
        panic!("the card is ahead")
    };
    let altered = Auts(auts.0.map(|octet| octet ^ 1));
    assert!(!auc.resynchronise_card(&impi, &vector.rand, &altered));
    assert!(!auc.resynchronise_card(&impi, &Rand([2; 16]), &auts), "of another challenge");
    let stranger = Impi::new("user9@home1.net").expect("a name");
    assert!(!auc.resynchronise_card(&stranger, &vector.rand, &auts));
    assert!(auc.resynchronise_card(&impi, &vector.rand, &auts));
    let (vector, _) = auc.vector(&impi, [3; 16], now).expect("a subscriber");
    let Ok(CardAnswer::Good(answers)) = card.authenticate(&vector.rand, &vector.autn) else {
        panic!("in step")
    };
    assert_eq!(answers.res.expose(), vector.xres.expose());
    assert!(
        matches!(card.authenticate(&vector.rand, &vector.autn), Ok(CardAnswer::OutOfStep(_))),
        "the same challenge twice"
    );

    let paced = (0..20).filter(|_| auc.vector(&impi, [4; 16], now).is_err()).count();
    assert_eq!(paced, 12, "two and eight more, then none within the minute");
    let late = now + Duration::from_secs(60);
    assert!(auc.vector(&impi, [5; 16], late).is_ok());
    assert_eq!(auc.vector(&stranger, [6; 16], late).err(), Some(NoVector::Unknown));
    auc.replace_subscribers(vec![subscriber(true)]);
    assert_eq!(auc.vector(&impi, [7; 16], late).err(), Some(NoVector::Unknown));
}
