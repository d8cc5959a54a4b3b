//! Stage 4, its arithmetic: digests, and the nonces that are sealed and opened again.

use std::hint::black_box;
use std::time::Duration;

use sipward::authentication::digest::{Ha1, Hash, Inputs, Qop, Response};
use sipward::authentication::nonce::{Nonces, Settings, Spent};
use sipward::instant::{Instant, Now, WallTime};
use sipward::testing::lab::{GBA_REALM, UE1_BTID, UE1_PASSWORD};

use crate::{BATCH, Bench, Run};

pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "digest/sha-256",
        about: "what a SHA-256 response costs, from the password on",
        before: 4,
        runs: 20,
        start: || digest(Hash::Sha256),
    },
    Bench {
        name: "digest/md5",
        about: "what an MD5 response costs, from the password on",
        before: 4,
        runs: 20,
        start: || digest(Hash::Md5),
    },
    Bench {
        name: "nonce/seal",
        about: "what a new nonce costs",
        before: 4,
        runs: 20,
        start: || {
            let (nonces, now) = nonces();
            Box::new(move |meter| {
                meter.count(|| {
                    for _ in 0..BATCH {
                        black_box(nonces.issue(black_box(b"7f2b91d0c4e84a3c@192.0.2.10"), now));
                    }
                });
                BATCH
            })
        },
    },
    Bench {
        name: "nonce/open-and-spend",
        about: "what the next count of a nonce costs, thousand nonces being in use",
        before: 40,
        runs: 40,
        start: || {
            let (nonces, now) = nonces();
            let issued: Vec<String> = (0..1000).map(|_| nonces.issue(b"", now)).collect();
            let mut done = 0;
            Box::new(move |meter| {
                meter.count(|| {
                    for _ in 0..BATCH {
                        let nonce = &issued[done % issued.len()];
                        let count = u32::try_from(done / issued.len() + 1).expect("few");
                        let seal = nonces.open(nonce.as_bytes(), now).expect("ours");
                        assert_eq!(nonces.spend(&seal, count, b"", 0, now), Spent::Fresh);
                        done += 1;
                    }
                });
                BATCH
            })
        },
    },
    Bench {
        name: "nonce/open-foreign",
        about: "what a nonce costs that looks like ours and is not",
        before: 4,
        runs: 20,
        start: || {
            let (nonces, now) = nonces();
            let theirs = Nonces::new(Settings::default(), &[9; 32], 1, now);
            let foreign = theirs.issue(b"", now);
            Box::new(move |meter| {
                meter.count(|| {
                    for _ in 0..BATCH {
                        assert!(nonces.open(black_box(foreign.as_bytes()), now).is_none());
                    }
                });
                BATCH
            })
        },
    },
];

fn nonces() -> (Nonces, Now) {
    let start = Now { mono: Instant::START, wall: WallTime::from_unix(1_790_000_000) };
    let now = start + Duration::from_secs(1000);
    (Nonces::new(Settings::default(), &[1; 32], 1, now), now)
}

fn digest(hash: Hash) -> Run {
    let inputs = Inputs {
        hash,
        session: false,
        method: b"MESSAGE",
        uri: b"sip:bob@example.net",
        nonce: b"AQAAAABqsUfoAAAAAAAAAAEAAAAAm1Zk0c8x2v7hQwPq3TnY",
        cnonce: b"0a4f113b",
        nc: b"0000002a",
        qop: Qop::Auth,
    };
    let (username, realm) = (UE1_BTID.as_bytes(), GBA_REALM.as_bytes());
    let ha1 = Ha1::new(hash, username, realm, UE1_PASSWORD.as_bytes());
    let claimed = Response::compute(&ha1, &inputs).as_hex().to_vec();
    Box::new(move |meter| {
        meter.count(|| {
            for _ in 0..BATCH {
                let password = black_box(UE1_PASSWORD.as_bytes());
                let ha1 = Ha1::new(hash, username, realm, password);
                assert!(Response::compute(&ha1, black_box(&inputs)).verify(&claimed));
            }
        });
        BATCH
    })
}
