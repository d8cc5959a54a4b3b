//! Hashing: how tables find their entries.
//!
//! Takes:   keys that a peer may have chosen, or keys that are keyed hashes already.
//! Gives:   [`Seeded`] for the first, [`Hashed`] for the second.
//! Keeps:   a seed for each table, which nobody outside learns: the standard library draws it from the system.
//! Refuses: nothing.
//! Sources: V-13 of the conformance tests.

use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

/// Hashing under a seed of 64 bits: for addresses, names and whatever else a peer may choose.
pub type Seeded = SeedableRandomState;

/// [`Seeded`] with a seed of its own.
pub fn seeded() -> Seeded {
    SeedableRandomState::with_seed(RandomState::new().hash_one(0_u8), SharedSeed::global_random())
}

/// For keys that are keyed hashes themselves, or numbers that we give out: nothing is left to hash.
pub type Hashed = BuildHasherDefault<Through>;

/// Lets a number through; octets of any other kind are folded, which no key of [`Hashed`] needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Through(u64);

impl Hasher for Through {
    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.write_u64(u64::from(*octet));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Spread upwards: tables look at the highest bits first.
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    #[allow(clippy::cast_possible_truncation, reason = "one half is enough")]
    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}
