//! Hashing: how tables find their entries.
//!
//! Takes:   keys that a peer may have chosen, or keys that are keyed hashes already.
//! Gives:   [`Seeded`] for the first, [`Hashed`] for the second.
//! Keeps:   a seed for each table, which nobody outside learns: the standard library draws it from the system.
//! Refuses: nothing.
//! Sources: V-90.

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

#[cfg(test)]
mod tests {
    use super::*;

    /// V-90: names that meet in one bucket of one table are spread over all buckets of another, so that nobody can
    /// prepare them.
    #[test]
    fn names_that_collide_in_one_table_do_not_in_the_next() {
        const BUCKETS: usize = 256;
        let bucket = |of: &Seeded, name: &str| {
            of.hash_one(name).to_be_bytes().last().copied().map_or(0, usize::from)
        };
        let (known, other) = (seeded(), seeded());
        let crafted: Vec<String> = (0..200_000_u32)
            .map(|number| format!("{number}@192.0.2.66"))
            .filter(|name| bucket(&known, name) == 0)
            .collect();
        assert!(crafted.len() > 500, "{} names in one bucket", crafted.len());
        let mut filled = [0_usize; BUCKETS];
        for name in &crafted {
            filled[bucket(&other, name)] += 1;
        }
        let most = filled.iter().max().copied().unwrap_or_default();
        assert!(most < 20, "{most} of {} in one bucket", crafted.len());
    }
}
