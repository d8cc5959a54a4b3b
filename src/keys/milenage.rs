//! Keys, Milenage: f1 to f5 and f1*, f5* on AES-128.
//!
//! Takes:   K, OP or OPc, and a challenge.
//! Gives:   MACs, RES, CK, IK and the anonymity keys, by [`Milenage`].
//! Keeps:   the expanded key and OPc, zeroed on drop.
//! Refuses: nothing; every length is fixed. Operators may bring constants of their own.
//! Sources: TS 35.206 clause 4 (c1 to c5, r1 to r5 of clause 4.1); TS 35.208 for its test sets.

use std::fmt;

use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt as _, KeyInit as _};
use zeroize::{Zeroize as _, Zeroizing};

/// The constants that an operator may choose: five 128-bit words and five rotations, in bits to the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constants {
    /// c1 to c5.
    pub c: [u128; 5],
    /// r1 to r5, each below 128.
    pub r: [u32; 5],
}

impl Default for Constants {
    /// Those of TS 35.206 clause 4.1.
    fn default() -> Self {
        Self { c: [0, 1, 2, 4, 8], r: [64, 0, 32, 64, 96] }
    }
}

/// One subscriber's Milenage.
pub struct Milenage {
    /// Boxed, so that moving a subscriber leaves no copy of its key behind.
    cipher: Box<Aes128>,
    opc: Zeroizing<[u8; 16]>,
    constants: Constants,
}

impl Milenage {
    /// From K and the operator's OP.
    pub fn with_op(k: &[u8; 16], op: &[u8; 16]) -> Self {
        let mut own = Self::with_opc(k, &[0; 16]);
        let op = u128::from_be_bytes(*op);
        *own.opc = (own.encrypt(op) ^ op).to_be_bytes();
        own
    }

    /// From K and OPc, which is OP already bound to K.
    pub fn with_opc(k: &[u8; 16], opc: &[u8; 16]) -> Self {
        let cipher = Box::new(Aes128::new(&Array::from(*k)));
        Self { cipher, opc: Zeroizing::new(*opc), constants: Constants::default() }
    }

    /// The same with an operator's constants.
    #[must_use]
    pub fn with_constants(self, constants: Constants) -> Self {
        Self { constants, ..self }
    }

    /// OPc, for a test or for whoever writes it back in place of OP.
    pub fn opc(&self) -> &[u8; 16] {
        &self.opc
    }

    /// MAC-A, which proves the network to the UE.
    pub fn f1(&self, rand: &[u8; 16], sqn: &[u8; 6], amf: &[u8; 2]) -> [u8; 8] {
        top(self.out1(rand, sqn, amf))
    }

    /// MAC-S, which proves the UE's sequence number to the network.
    pub fn f1_star(&self, rand: &[u8; 16], sqn: &[u8; 6], amf: &[u8; 2]) -> [u8; 8] {
        low(self.out1(rand, sqn, amf))
    }

    /// RES and the anonymity key AK.
    pub fn f2_f5(&self, rand: &[u8; 16]) -> ([u8; 8], [u8; 6]) {
        let out = self.out(rand, 1);
        (low(out), top(out))
    }

    /// CK.
    pub fn f3(&self, rand: &[u8; 16]) -> [u8; 16] {
        self.out(rand, 2).to_be_bytes()
    }

    /// IK.
    pub fn f4(&self, rand: &[u8; 16]) -> [u8; 16] {
        self.out(rand, 3).to_be_bytes()
    }

    /// The anonymity key of resynchronisation.
    pub fn f5_star(&self, rand: &[u8; 16]) -> [u8; 6] {
        top(self.out(rand, 4))
    }

    /// OUT1: the block that both MACs are cut from.
    fn out1(&self, rand: &[u8; 16], sqn: &[u8; 6], amf: &[u8; 2]) -> u128 {
        let half = sqn.iter().chain(amf);
        let in1 = half.clone().chain(half).fold(0, |word, octet| (word << 8) | u128::from(*octet));
        let (opc, [c1, ..], [r1, ..]) = (self.opc_word(), self.constants.c, self.constants.r);
        self.encrypt(self.temp(rand) ^ (in1 ^ opc).rotate_left(r1) ^ c1) ^ opc
    }

    /// OUT2 to OUT5: `index` 1 to 4 chooses constant and rotation.
    fn out(&self, rand: &[u8; 16], index: usize) -> u128 {
        let c = self.constants.c.get(index).copied().unwrap_or_default();
        let r = self.constants.r.get(index).copied().unwrap_or_default();
        let opc = self.opc_word();
        self.encrypt((self.temp(rand) ^ opc).rotate_left(r) ^ c) ^ opc
    }

    fn temp(&self, rand: &[u8; 16]) -> u128 {
        self.encrypt(u128::from_be_bytes(*rand) ^ self.opc_word())
    }

    fn opc_word(&self) -> u128 {
        u128::from_be_bytes(*self.opc)
    }

    fn encrypt(&self, word: u128) -> u128 {
        let mut block = Array::from(word.to_be_bytes());
        self.cipher.encrypt_block(&mut block);
        let out = u128::from_be_bytes(block.into());
        block.as_mut_slice().zeroize();
        out
    }
}

impl fmt::Debug for Milenage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Milenage(..)")
    }
}

/// The most significant `N` octets.
fn top<const N: usize>(word: u128) -> [u8; N] {
    word.to_be_bytes().first_chunk::<N>().copied().unwrap_or([0; N])
}

/// The least significant `N` octets.
fn low<const N: usize>(word: u128) -> [u8; N] {
    word.to_be_bytes().last_chunk::<N>().copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operator's own constants give other outputs, and the default ones are those of the standard.
    #[test]
    fn constants_are_the_operators() {
        let standard = Milenage::with_op(&[7; 16], &[9; 16]);
        let same = Milenage::with_opc(&[7; 16], standard.opc());
        assert_eq!(standard.f3(&[1; 16]), same.f3(&[1; 16]));
        let constants = Constants { c: [0, 1, 2, 4, 16], ..Constants::default() };
        let other = same.with_constants(constants);
        assert_eq!(standard.f4(&[1; 16]), other.f4(&[1; 16]));
        assert_ne!(standard.f5_star(&[1; 16]), other.f5_star(&[1; 16]));
    }

    #[test]
    fn prints_no_key() {
        assert_eq!(format!("{:?}", Milenage::with_op(&[7; 16], &[9; 16])), "Milenage(..)");
    }
}
