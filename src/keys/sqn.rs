//! Keys, sequence numbers: what keeps an old challenge from being used again.
//!
//! Takes:   sequence numbers of 48 bits, SEQ (43 bits) followed by IND (5 bits).
//! Gives:   [`SqnGenerator`] for the network, which never gives a number twice, and [`SqnWindow`] for the card.
//! Keeps:   the network one SEQ and one IND for each subscriber; the card 32 SEQ, one for each IND.
//! Refuses: on the card, a SEQ not above the one of its IND ([`SqnFault::Old`]), over [`DELTA`] above the highest
//!          ([`SqnFault::Jump`]), or further back than the limit L where the operator set one ([`SqnFault::Aged`]).
//! Sources: TS 33.102 annexes C.1.1.1, C.1.2, C.2.1, C.2.2 and C.3.1 (values of profile 1).

/// Bits of IND.
pub const IND_BITS: u32 = 5;
/// Places in the card's array: one for each IND.
pub const PLACES: usize = 1 << IND_BITS;
/// The highest SEQ.
pub const SEQ_MAX: u64 = (1 << (48 - IND_BITS)) - 1;
/// How far a card lets SEQ jump.
pub const DELTA: u64 = 1 << 28;

const IND_MASK: u64 = (1 << IND_BITS) - 1;

/// A sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sqn(u64);

impl Sqn {
    /// From its parts; what passes 43 and 5 bits is cut off.
    pub fn new(seq: u64, ind: u64) -> Self {
        Self(((seq & SEQ_MAX) << IND_BITS) | (ind & IND_MASK))
    }

    /// From the six octets of TS 33.102.
    pub fn from_octets(octets: &[u8; 6]) -> Self {
        Self(octets.iter().fold(0, |word, octet| (word << 8) | u64::from(*octet)))
    }

    /// The six octets.
    pub fn octets(self) -> [u8; 6] {
        self.0.to_be_bytes().last_chunk::<6>().copied().unwrap_or_default()
    }

    /// The part that counts.
    pub fn seq(self) -> u64 {
        self.0 >> IND_BITS
    }

    /// The part that chooses the place in the card's array.
    pub fn ind(self) -> u64 {
        self.0 & IND_MASK
    }
}

/// Why a card does not take a sequence number: it answers with AUTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqnFault {
    /// Seen before, or below what was seen at this IND.
    Old,
    /// More than [`DELTA`] above the highest.
    Jump,
    /// Further behind the highest than the operator's limit.
    Aged,
}

/// The network's side: one for each subscriber.
#[derive(Clone, Debug)]
pub struct SqnGenerator {
    last: Sqn,
}

impl SqnGenerator {
    /// `last` is the number of the last vector made; zero for a new subscriber.
    pub fn new(last: Sqn) -> Self {
        Self { last }
    }

    /// The last number given.
    pub fn last(&self) -> Sqn {
        self.last
    }

    /// The next number: SEQ one up, IND one on in its circle. `None` when 43 bits are used up.
    ///
    /// Source: TS 33.102 annexes C.1.1.1 and C.1.2.
    pub fn advance(&mut self) -> Option<Sqn> {
        if self.last.seq() >= SEQ_MAX {
            return None;
        }
        self.last = Sqn::new(self.last.seq().saturating_add(1), self.last.ind().wrapping_add(1));
        Some(self.last)
    }

    /// Takes over the card's highest number, from an AUTS that was verified. A card that is behind but would take
    /// our next number changes nothing, so nobody can turn the count back with an old AUTS.
    ///
    /// Source: TS 33.102 clause 6.3.5 step 3 and annex C.1.2.
    pub fn resync(&mut self, card: Sqn) {
        let ours = self.last.seq();
        let accepted_next = ours >= card.seq() && ours.saturating_sub(card.seq()) < DELTA;
        if !accepted_next {
            self.last = card;
        }
    }
}

/// The card's side: the highest SEQ seen for each IND.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqnWindow {
    seen: [u64; PLACES],
    age_limit: Option<u64>,
}

impl Default for SqnWindow {
    fn default() -> Self {
        Self { seen: [0; PLACES], age_limit: None }
    }
}

impl SqnWindow {
    /// A card that has seen nothing; `age_limit` is L of annex C.2.2, if the operator uses it.
    pub fn new(age_limit: Option<u64>) -> Self {
        Self { age_limit, ..Self::default() }
    }

    /// A card as it was when [`Self::seen`] was written down.
    #[must_use]
    pub fn with_seen(self, seen: [u64; PLACES]) -> Self {
        Self { seen, ..self }
    }

    /// The highest SEQ for each IND, to be written down.
    pub fn seen(&self) -> &[u64; PLACES] {
        &self.seen
    }

    /// The highest number accepted so far: what an AUTS tells.
    pub fn highest(&self) -> Sqn {
        let places = self.seen.iter().zip(0_u64..);
        places.map(|(seq, ind)| Sqn::new(*seq, ind)).max().unwrap_or_default()
    }

    /// Accepts a number and remembers it.
    ///
    /// # Errors
    ///
    /// [`SqnFault`], and nothing is remembered.
    ///
    /// Source: TS 33.102 annexes C.2.1 and C.2.2.
    pub fn accept(&mut self, sqn: Sqn) -> Result<(), SqnFault> {
        let (seq, highest) = (sqn.seq(), self.highest().seq());
        if seq.saturating_sub(highest) > DELTA {
            return Err(SqnFault::Jump);
        }
        if self.age_limit.is_some_and(|limit| highest.saturating_sub(seq) >= limit) {
            return Err(SqnFault::Aged);
        }
        let index = usize::try_from(sqn.ind()).unwrap_or_default();
        let place = self.seen.get_mut(index).ok_or(SqnFault::Old)?;
        if seq <= *place {
            return Err(SqnFault::Old);
        }
        *place = seq;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_there_and_back() {
        let sqn = Sqn::from_octets(&[0xff, 0x9b, 0xb4, 0xd0, 0xb6, 0x07]);
        assert_eq!((sqn.seq(), sqn.ind()), (0x07fc_dda6_85b0, 7));
        assert_eq!(sqn.octets(), [0xff, 0x9b, 0xb4, 0xd0, 0xb6, 0x07]);
        assert_eq!(Sqn::new(sqn.seq(), sqn.ind()), sqn);
    }

    #[test]
    fn network_never_repeats_and_ends_closed() {
        let mut network = SqnGenerator::new(Sqn::default());
        let mut card = SqnWindow::default();
        let mut before = Sqn::default();
        for _ in 0..100 {
            let next = network.advance().expect("far from the end");
            assert!(next > before);
            assert_eq!(next.ind(), (before.ind() + 1) % 32);
            assert_eq!(card.accept(next), Ok(()));
            before = next;
        }
        let mut spent = SqnGenerator::new(Sqn::new(SEQ_MAX, 0));
        assert_eq!(spent.advance(), None);
    }

    #[test]
    fn card_table() {
        let mut card = SqnWindow::new(Some(20));
        for (source, sqn, expected) in [
            ("first", Sqn::new(100, 1), Ok(())),
            ("same again", Sqn::new(100, 1), Err(SqnFault::Old)),
            ("lower, other place, within L", Sqn::new(90, 2), Ok(())),
            ("lower, other place, L behind", Sqn::new(80, 3), Err(SqnFault::Aged)),
            ("lower, same place", Sqn::new(89, 2), Err(SqnFault::Old)),
            ("delta above", Sqn::new(100 + DELTA, 4), Ok(())),
            ("delta and one above", Sqn::new(101 + DELTA + DELTA, 4), Err(SqnFault::Jump)),
        ] {
            assert_eq!(card.accept(sqn), expected, "{source}");
        }
        assert_eq!(card.highest(), Sqn::new(100 + DELTA, 4));
        assert_eq!(SqnWindow::new(Some(20)).with_seen(*card.seen()), card);
    }

    #[test]
    fn resync_table() {
        for (source, ours, card, after) in [
            ("card ahead", Sqn::new(5, 5), Sqn::new(900, 4), Sqn::new(900, 4)),
            ("card behind, next would do", Sqn::new(50, 18), Sqn::new(20, 1), Sqn::new(50, 18)),
            ("equal", Sqn::new(50, 18), Sqn::new(50, 18), Sqn::new(50, 18)),
            ("card too far behind", Sqn::new(DELTA + 9, 0), Sqn::new(9, 9), Sqn::new(9, 9)),
        ] {
            let mut network = SqnGenerator::new(ours);
            network.resync(card);
            assert_eq!(network.last(), after, "{source}");
            let next = network.advance().expect("far from the end");
            assert_eq!(
                SqnWindow::default().with_seen([card.seq(); PLACES]).accept(next),
                Ok(()),
                "{source}"
            );
        }
    }
}
