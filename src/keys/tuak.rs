//! Keys, TUAK: f1 to f5 and f1*, f5* on Keccak-f(1600).
//!
//! Takes:   K of 128 or 256 bits, TOP or TOPc, the lengths that the operator chose, and a challenge.
//! Gives:   MACs, RES, CK, IK and the anonymity keys, by [`Tuak`].
//! Keeps:   K and TOPc, zeroed on drop.
//! Refuses: a length that TS 35.231 does not list, and zero iterations ([`TuakUnfit`]).
//! Sources: TS 35.231 clauses 6 and 7 (order of the 1600 bits, INSTANCE); TS 35.232 for its test data.

use std::fmt;

use keccak::Keccak;
use zeroize::{Zeroize as _, Zeroizing};

/// Most iterations of the permutation that an operator may ask for.
pub const ITERATIONS_MAX: u8 = 16;

const STATE_OCTETS: usize = 200;
const ALGORITHM_NAME: &[u8; 7] = b"TUAK1.0";

/// A parameter that TUAK cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TuakUnfit {
    /// K is neither 16 nor 32 octets.
    Key,
    /// A length that TS 35.231 clause 5 does not list.
    Length,
    /// No iterations, or more than [`ITERATIONS_MAX`].
    Iterations,
}

/// The lengths that an operator chooses, in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// MAC: 8, 16 or 32.
    pub mac: usize,
    /// RES: 4, 8, 16 or 32.
    pub res: usize,
    /// CK: 16 or 32.
    pub ck: usize,
    /// IK: 16 or 32.
    pub ik: usize,
}

impl Default for Lengths {
    /// What 3G and later AKA carries: MAC and RES of 64 bits, CK and IK of 128.
    fn default() -> Self {
        Self { mac: 8, res: 8, ck: 16, ik: 16 }
    }
}

/// RES, CK, IK and AK of one challenge.
pub struct Outputs {
    /// f2.
    pub res: Zeroizing<Vec<u8>>,
    /// f3.
    pub ck: Zeroizing<Vec<u8>>,
    /// f4.
    pub ik: Zeroizing<Vec<u8>>,
    /// f5.
    pub ak: [u8; 6],
}

/// One subscriber's TUAK.
pub struct Tuak {
    k: Zeroizing<Vec<u8>>,
    topc: Zeroizing<[u8; 32]>,
    iterations: u8,
    lengths: Lengths,
}

impl Tuak {
    /// From K and the operator's TOP.
    ///
    /// # Errors
    ///
    /// [`TuakUnfit`], by the parameter that does not fit.
    pub fn with_top(
        k: &[u8],
        top: &[u8; 32],
        iterations: u8,
        lengths: Lengths,
    ) -> Result<Self, TuakUnfit> {
        let mut own = Self::with_topc(k, top, iterations, lengths)?;
        let state = own.run(own.key_bit(), &[]);
        own.topc.copy_from_slice(&pull(&state, 0, 32));
        Ok(own)
    }

    /// From K and TOPc, which is TOP already bound to K.
    ///
    /// # Errors
    ///
    /// [`TuakUnfit`], by the parameter that does not fit.
    pub fn with_topc(
        k: &[u8],
        topc: &[u8; 32],
        iterations: u8,
        lengths: Lengths,
    ) -> Result<Self, TuakUnfit> {
        if !matches!(k.len(), 16 | 32) {
            return Err(TuakUnfit::Key);
        }
        let Lengths { mac, res, ck, ik } = lengths;
        let listed = matches!(mac, 8 | 16 | 32)
            && matches!(res, 4 | 8 | 16 | 32)
            && matches!(ck, 16 | 32)
            && matches!(ik, 16 | 32);
        if !listed {
            return Err(TuakUnfit::Length);
        }
        if !(1..=ITERATIONS_MAX).contains(&iterations) {
            return Err(TuakUnfit::Iterations);
        }
        Ok(Self { k: Zeroizing::new(k.to_vec()), topc: Zeroizing::new(*topc), iterations, lengths })
    }

    /// TOPc, for a test or for whoever writes it back in place of TOP.
    pub fn topc(&self) -> &[u8; 32] {
        &self.topc
    }

    /// The lengths chosen.
    pub fn lengths(&self) -> Lengths {
        self.lengths
    }

    /// MAC-A, which proves the network to the UE; as long as the operator chose.
    pub fn f1(&self, rand: &[u8; 16], sqn: &[u8; 6], amf: &[u8; 2]) -> Zeroizing<Vec<u8>> {
        self.mac(0x00, rand, sqn, amf)
    }

    /// MAC-S, which proves the UE's sequence number to the network.
    pub fn f1_star(&self, rand: &[u8; 16], sqn: &[u8; 6], amf: &[u8; 2]) -> Zeroizing<Vec<u8>> {
        self.mac(0x80, rand, sqn, amf)
    }

    /// RES, CK, IK and AK.
    pub fn f2345(&self, rand: &[u8; 16]) -> Outputs {
        let Lengths { res, ck, ik, .. } = self.lengths;
        let instance = 0x40
            | length_bits(res)
            | if ck == 32 { 0x04 } else { 0 }
            | if ik == 32 { 0x02 } else { 0 }
            | self.key_bit();
        let state = self.run(instance, &[(40, rand)]);
        Outputs {
            res: pull(&state, 0, res),
            ck: pull(&state, 32, ck),
            ik: pull(&state, 64, ik),
            ak: anonymity_key(&state),
        }
    }

    /// The anonymity key of resynchronisation.
    pub fn f5_star(&self, rand: &[u8; 16]) -> [u8; 6] {
        anonymity_key(&self.run(0xc0 | self.key_bit(), &[(40, rand)]))
    }

    fn mac(&self, star: u8, rand: &[u8; 16], sqn: &[u8; 6], amf: &[u8; 2]) -> Zeroizing<Vec<u8>> {
        let instance = star | length_bits(self.lengths.mac) | self.key_bit();
        let state = self.run(instance, &[(40, rand), (56, amf), (58, sqn)]);
        pull(&state, 0, self.lengths.mac)
    }

    fn key_bit(&self) -> u8 {
        u8::from(self.k.len() == 32)
    }

    /// Fills the state, parts at their octet offsets, and permutes it.
    fn run(&self, instance: u8, parts: &[(usize, &[u8])]) -> Zeroizing<[u8; STATE_OCTETS]> {
        let mut state = Zeroizing::new([0; STATE_OCTETS]);
        push(&mut state, 0, self.topc.as_slice());
        push(&mut state, 32, &[instance]);
        push(&mut state, 33, ALGORITHM_NAME);
        push(&mut state, 64, &self.k);
        push(&mut state, 96, &[0x1f]);
        push(&mut state, 135, &[0x80]);
        for (offset, part) in parts {
            push(&mut state, *offset, part);
        }
        let mut lanes = [0; 25];
        for (lane, octets) in lanes.iter_mut().zip(state.as_chunks::<8>().0) {
            *lane = u64::from_le_bytes(*octets);
        }
        Keccak::new().with_f1600(|permute| {
            for _ in 0..self.iterations {
                permute(&mut lanes);
            }
        });
        for (lane, octets) in lanes.iter().zip(state.as_chunks_mut::<8>().0) {
            *octets = lane.to_le_bytes();
        }
        lanes.zeroize();
        state
    }
}

impl fmt::Debug for Tuak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tuak(..)")
    }
}

/// The three bits of INSTANCE that tell the length of MAC or RES.
fn length_bits(octets: usize) -> u8 {
    match octets {
        32 => 0x20,
        16 => 0x10,
        8 => 0x08,
        _ => 0,
    }
}

/// Writes a value into the state; the standard numbers its bits from the other end, so octets turn round.
fn push(state: &mut [u8; STATE_OCTETS], offset: usize, value: &[u8]) {
    let places = state.iter_mut().skip(offset).take(value.len());
    places.zip(value.iter().rev()).for_each(|(place, octet)| *place = *octet);
}

/// Reads a value of `length` octets from the state; see [`push`].
fn pull(state: &[u8; STATE_OCTETS], offset: usize, length: usize) -> Zeroizing<Vec<u8>> {
    let mut value: Vec<u8> = state.iter().skip(offset).take(length).copied().collect();
    value.reverse();
    Zeroizing::new(value)
}

fn anonymity_key(state: &[u8; STATE_OCTETS]) -> [u8; 6] {
    let mut key = [0; 6];
    key.copy_from_slice(&pull(state, 96, 6));
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_listed() {
        let lengths = Lengths::default();
        let make = |k: &[u8], iterations, lengths| {
            Tuak::with_top(k, &[0; 32], iterations, lengths).map(|_| ())
        };
        assert_eq!(make(&[0; 16], 1, lengths), Ok(()));
        assert_eq!(make(&[0; 24], 1, lengths), Err(TuakUnfit::Key));
        assert_eq!(make(&[0; 32], 0, lengths), Err(TuakUnfit::Iterations));
        assert_eq!(make(&[0; 32], 17, lengths), Err(TuakUnfit::Iterations));
        for bad in [
            Lengths { mac: 4, ..lengths },
            Lengths { res: 6, ..lengths },
            Lengths { ck: 24, ..lengths },
            Lengths { ik: 0, ..lengths },
        ] {
            assert_eq!(make(&[0; 16], 1, bad), Err(TuakUnfit::Length), "{bad:?}");
        }
    }
}
