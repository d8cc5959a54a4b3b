//! Whoever lacks the key makes a phone hold and show nothing, whatever he sends; and what is read of push info is written down
//! as the octets that it was read from.
//!
//! It begins with the push info and the wrapped messages of `gba_push.toml`, with what is encrypted in them, and with the heads
//! of both.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use sipward::identity::Impi;
use sipward::instant::WallTime;
use sipward::keys::milenage::Milenage;
use sipward::keys::push::p1::{P1, print_body, read_body};
use sipward::keys::push::ue::{Associations, Subscription};
use sipward::keys::push::{CardApplication, Direction, LayerKey, Profile};
use sipward::keys::sqn::SqnWindow;
use sipward::keys::usim::Usim;
use sipward::keys::vector::Algorithms;
use sipward::keys::{KsNaf, NafId, UaId};

fuzz_target!(|octets: &[u8]| {
    let mut card = Usim::new(
        Algorithms::Milenage(Milenage::with_opc(&[1; 16], &[2; 16])),
        SqnWindow::default(),
    );
    let subscription = Subscription {
        impi: Impi::new("user1_private@home1.net").expect("a name"),
        bsf: "bsf.home1.net".into(),
        application: CardApplication::Usim,
        nafs: vec![NafId::new("push.home1.net", UaId::PUSH_LAYER)],
    };
    let profile = sipward::keys::push::profile("p1").expect("known");
    let mut phone = Associations::new(subscription, profile);
    let now = WallTime::from_unix(1_795_000_000);
    assert!(phone.take(octets, &mut card, now).is_err() && phone.is_empty());
    assert!(phone.unwrap(octets, now).is_err());
    assert_eq!(*card.window(), SqnWindow::default(), "nor does its card move");
    assert!(P1.open_gpi(octets, &KsNaf::new([7; 32])).is_err());
    let key = LayerKey::new([7; 16]);
    assert!(P1.unwrap(&key, octets).is_err());
    if let Ok(frame) = P1.frame(octets) {
        // Of another's octets the head is right: under a key of its own it is a message.
        let own = P1.wrap(&key, &frame, octets).expect("the name fits");
        assert_eq!(P1.frame(&own), Ok(frame));
        assert_eq!(P1.unwrap(&key, &own).as_deref(), Ok(octets));
        assert!(matches!(frame.direction, Direction::Down | Direction::Up));
    }
    if let Some(body) = read_body(octets) {
        assert_eq!(print_body(&body).expect("names fit")[..], *octets);
    }
});

// An empty input becomes one of the vectors; others are altered as usual.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let chosen = seed as usize % SEEDS.len();
    match (size, SEEDS.get(chosen)) {
        (0..=1, Some(seed)) if seed.len() <= max_size => {
            data[..seed.len()].copy_from_slice(seed);
            seed.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});

/// All octets in hex of the vectors, and what is encrypted in the GPI.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let text = include_str!("../../sip-fixtures/vectors/gba_push.toml");
    let values = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(" = ")?;
        (name.starts_with("octets") || name == "plain").then(|| value.trim_matches('"'))
    });
    let octets = |digits: &str| {
        (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hex"))
            .collect()
    };
    values.map(octets).collect()
});
