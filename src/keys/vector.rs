//! Keys, vectors: what one challenge is made of, on the network's side and on the card's.
//!
//! Takes:   a subscriber's [`Algorithms`], a random challenge, a sequence number.
//! Gives:   [`Vector`] for the network; the parts of AUTN and AUTS opened, for whoever has to check them.
//! Keeps:   nothing.
//! Refuses: an AUTN or AUTS whose MAC is not right, compared in constant time; TUAK lengths that AKA cannot carry.
//! Sources: TS 33.102 clauses 6.3.2, 6.3.3 and 6.3.5; TS 33.220 clause 5.3.2 (AUTN* of GBA_U).

use std::fmt;

use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::milenage::Milenage;
use super::sqn::Sqn;
use super::tuak::Tuak;
use super::{Ks, Rand};

/// The authentication management field: flags that the operator sets.
pub type Amf = [u8; 2];

/// The AMF under which MAC-S is computed (TS 33.102 clause 6.3.3).
pub const AMF_RESYNC: Amf = [0, 0];

/// CK or IK.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionKey([u8; 16]);

/// RES or XRES: 4 to 16 octets.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Res(Vec<u8>);

/// The network's proof: (SQN xor AK) || AMF || MAC-A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Autn(pub [u8; 16]);

/// The card's proof of another sequence number: (SQN_MS xor AK*) || MAC-S.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Auts(pub [u8; 14]);

/// The MAC in an AUTN or AUTS is not right: not made with this subscriber's key, or altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacWrong;

/// TUAK with lengths that AKA does not carry: MAC must be 64 bits, RES 32 to 128, CK and IK 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthsUnfit;

/// A subscriber's functions, whichever set the operator chose, in the sizes that AKA carries.
#[derive(Debug)]
pub enum Algorithms {
    /// TS 35.206.
    Milenage(Milenage),
    /// TS 35.231; made by [`Algorithms::tuak`], which checks the lengths.
    Tuak(TuakForAka),
}

/// TUAK whose lengths fit into AKA.
#[derive(Debug)]
pub struct TuakForAka(Tuak);

/// What a challenge is answered with.
pub struct Answers {
    /// f2.
    pub res: Res,
    /// f3.
    pub ck: SessionKey,
    /// f4.
    pub ik: SessionKey,
    /// f5.
    ak: [u8; 6],
}

/// One authentication vector.
pub struct Vector {
    /// The challenge.
    pub rand: Rand,
    /// The network's proof.
    pub autn: Autn,
    /// What the right card answers.
    pub xres: Res,
    /// The cipher key.
    pub ck: SessionKey,
    /// The integrity key.
    pub ik: SessionKey,
}

impl SessionKey {
    /// Takes the octets; the caller's copy is not zeroed.
    pub fn new(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// The octets.
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

impl Res {
    /// Takes the octets of another's vector; `None` unless there are 4 to 16.
    pub fn new(octets: &[u8]) -> Option<Self> {
        (4..=16).contains(&octets.len()).then(|| Self(octets.to_vec()))
    }

    /// The octets.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Ks, the key of a bootstrapping run: CK || IK.
///
/// Source: TS 33.220 clause 4.5.2.
pub fn ks(ck: &SessionKey, ik: &SessionKey) -> Ks {
    let mut octets = Zeroizing::new([0; 32]);
    let both = ck.0.iter().chain(&ik.0);
    octets.iter_mut().zip(both).for_each(|(place, octet)| *place = *octet);
    Ks::new(*octets)
}

impl Algorithms {
    /// TUAK.
    ///
    /// # Errors
    ///
    /// [`LengthsUnfit`] if MAC is not 64 bits, RES over 128, CK or IK not 128.
    pub fn tuak(tuak: Tuak) -> Result<Self, LengthsUnfit> {
        let lengths = tuak.lengths();
        let fit = lengths.mac == 8 && lengths.res <= 16 && lengths.ck == 16 && lengths.ik == 16;
        if fit { Ok(Self::Tuak(TuakForAka(tuak))) } else { Err(LengthsUnfit) }
    }

    /// f1.
    pub fn mac_a(&self, rand: &Rand, sqn: Sqn, amf: Amf) -> [u8; 8] {
        match self {
            Self::Milenage(own) => own.f1(&rand.0, &sqn.octets(), &amf),
            Self::Tuak(own) => sized(&own.0.f1(&rand.0, &sqn.octets(), &amf)),
        }
    }

    /// f1*.
    pub fn mac_s(&self, rand: &Rand, sqn: Sqn, amf: Amf) -> [u8; 8] {
        match self {
            Self::Milenage(own) => own.f1_star(&rand.0, &sqn.octets(), &amf),
            Self::Tuak(own) => sized(&own.0.f1_star(&rand.0, &sqn.octets(), &amf)),
        }
    }

    /// f2, f3, f4 and f5.
    pub fn answers(&self, rand: &Rand) -> Answers {
        match self {
            Self::Milenage(own) => {
                let (res, ak) = own.f2_f5(&rand.0);
                let (ck, ik) = (own.f3(&rand.0), own.f4(&rand.0));
                Answers { res: Res(res.to_vec()), ck: SessionKey(ck), ik: SessionKey(ik), ak }
            }
            Self::Tuak(own) => {
                let out = own.0.f2345(&rand.0);
                Answers {
                    res: Res(out.res.to_vec()),
                    ck: SessionKey(sized(&out.ck)),
                    ik: SessionKey(sized(&out.ik)),
                    ak: out.ak,
                }
            }
        }
    }

    /// f5*.
    pub fn ak_star(&self, rand: &Rand) -> [u8; 6] {
        match self {
            Self::Milenage(own) => own.f5_star(&rand.0),
            Self::Tuak(own) => own.0.f5_star(&rand.0),
        }
    }

    /// Makes the vector whose challenge is `rand`.
    ///
    /// Source: TS 33.102 clause 6.3.2.
    pub fn vector(&self, rand: Rand, sqn: Sqn, amf: Amf) -> Vector {
        let Answers { res, ck, ik, ak } = self.answers(&rand);
        let mac = self.mac_a(&rand, sqn, amf);
        let autn = Autn(joined(&[&xored(&sqn.octets(), &ak), &amf, &mac]));
        Vector { rand, autn, xres: res, ck, ik }
    }

    /// Opens an AUTN: the card's first step.
    ///
    /// # Errors
    ///
    /// [`MacWrong`] if it was not made with this key for this challenge.
    ///
    /// Source: TS 33.102 clause 6.3.3.
    pub fn open_autn(&self, rand: &Rand, autn: &Autn) -> Result<(Sqn, Amf, Answers), MacWrong> {
        let answers = self.answers(rand);
        let (concealed, rest) = autn.0.split_first_chunk::<6>().ok_or(MacWrong)?;
        let (amf, mac) = rest.split_first_chunk::<2>().ok_or(MacWrong)?;
        let sqn = Sqn::from_octets(&xored(concealed, &answers.ak));
        let right: bool = self.mac_a(rand, sqn, *amf).ct_eq(mac).into();
        if right { Ok((sqn, *amf, answers)) } else { Err(MacWrong) }
    }

    /// Makes the AUTS that tells the network `highest`, the card's own sequence number.
    ///
    /// Source: TS 33.102 clause 6.3.3.
    pub fn make_auts(&self, rand: &Rand, highest: Sqn) -> Auts {
        let concealed = xored(&highest.octets(), &self.ak_star(rand));
        Auts(joined(&[&concealed, &self.mac_s(rand, highest, AMF_RESYNC)]))
    }

    /// Opens an AUTS: the card's sequence number.
    ///
    /// # Errors
    ///
    /// [`MacWrong`] if it was not made with this key for this challenge.
    ///
    /// Source: TS 33.102 clause 6.3.5.
    pub fn open_auts(&self, rand: &Rand, auts: &Auts) -> Result<Sqn, MacWrong> {
        let (concealed, mac) = auts.0.split_first_chunk::<6>().ok_or(MacWrong)?;
        let sqn = Sqn::from_octets(&xored(concealed, &self.ak_star(rand)));
        let right: bool = self.mac_s(rand, sqn, AMF_RESYNC).ct_eq(mac).into();
        if right { Ok(sqn) } else { Err(MacWrong) }
    }
}

impl Vector {
    /// The key of the bootstrapping run that this vector was made for.
    pub fn ks(&self) -> Ks {
        ks(&self.ck, &self.ik)
    }
}

impl Autn {
    /// The AUTN of GBA_U, whose MAC is masked with the first 64 bits of SHA-1(IK). Masking twice gives it back.
    ///
    /// Source: TS 33.220 clause 5.3.2.
    #[must_use]
    pub fn masked(&self, ik: &SessionKey) -> Self {
        let mask = Sha1::digest(ik.0);
        let mut octets = self.0;
        octets.iter_mut().skip(8).zip(mask).for_each(|(octet, mask)| *octet ^= mask);
        Self(octets)
    }
}

macro_rules! print_nothing {
    ($($type:ident),+) => {
        $(impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($type), "(..)"))
            }
        })+
    };
}

print_nothing!(SessionKey, Res, Answers, Vector);

fn xored(left: &[u8; 6], right: &[u8; 6]) -> [u8; 6] {
    let mut out = *left;
    out.iter_mut().zip(right).for_each(|(octet, other)| *octet ^= other);
    out
}

/// Octets of a length that was checked when the functions were made.
fn sized<const N: usize>(octets: &[u8]) -> [u8; N] {
    octets.first_chunk::<N>().copied().unwrap_or([0; N])
}

fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    let octets = parts.iter().flat_map(|part| part.iter());
    out.iter_mut().zip(octets).for_each(|(place, octet)| *place = *octet);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tuak::Lengths;

    fn both() -> [Algorithms; 2] {
        let tuak = Tuak::with_top(&[3; 32], &[4; 32], 1, Lengths::default()).expect("fits");
        [
            Algorithms::Milenage(Milenage::with_op(&[1; 16], &[2; 16])),
            Algorithms::tuak(tuak).expect("fits AKA"),
        ]
    }

    #[test]
    fn proofs_open_only_as_made() {
        let (rand, sqn) = (Rand([9; 16]), Sqn::new(77, 3));
        for algorithms in both() {
            let vector = algorithms.vector(rand, sqn, [0x80, 0]);
            let (opened, amf, answers) =
                algorithms.open_autn(&rand, &vector.autn).expect("as made");
            assert_eq!((opened, amf), (sqn, [0x80, 0]), "{algorithms:?}");
            assert_eq!(answers.res.expose(), vector.xres.expose());
            assert_eq!(answers.ck.expose(), vector.ck.expose());
            let auts = algorithms.make_auts(&rand, sqn);
            assert_eq!(algorithms.open_auts(&rand, &auts), Ok(sqn));
            for bit in 0..128 {
                let mut autn = vector.autn;
                autn.0[bit / 8] ^= 1 << (bit % 8);
                assert!(algorithms.open_autn(&rand, &autn).is_err(), "AUTN bit {bit}");
            }
            for bit in 0..112 {
                let mut altered = auts;
                altered.0[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(algorithms.open_auts(&rand, &altered), Err(MacWrong), "AUTS bit {bit}");
            }
            assert_eq!(algorithms.open_auts(&Rand([8; 16]), &auts), Err(MacWrong));
        }
    }

    #[test]
    fn long_tuak_does_not_fit_aka() {
        let lengths = Lengths::default();
        for unfit in [
            Lengths { mac: 16, ..lengths },
            Lengths { res: 32, ..lengths },
            Lengths { ck: 32, ..lengths },
            Lengths { ik: 32, ..lengths },
        ] {
            let tuak = Tuak::with_top(&[3; 16], &[4; 32], 1, unfit).expect("a length of TUAK");
            assert_eq!(Algorithms::tuak(tuak).err(), Some(LengthsUnfit), "{unfit:?}");
        }
    }
}
