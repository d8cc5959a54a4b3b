//! Stage 2, spans: places in a message.
//!
//! Takes:   offsets that the scanner found.
//! Gives:   [`Span`], a pair of offsets that is read back through [`Span::of`].
//! Keeps:   nothing.
//! Refuses: nothing; a span outside the octets reads as empty.
//! Sources: none.

/// A range of octets of one message. 32 bits are enough: a message is at most 256 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The octets from `start` up to and without `end`.
    pub fn new(start: usize, end: usize) -> Self {
        let cut = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: cut(start), end: cut(end) }
    }

    /// First octet.
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// One past the last octet.
    pub fn end(self) -> usize {
        self.end as usize
    }

    /// Whether nothing lies in it.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The octets themselves.
    pub fn of(self, octets: &[u8]) -> &[u8] {
        octets.get(self.start()..self.end()).unwrap_or_default()
    }

    /// The span of `part`, which must have been borrowed out of `whole`.
    ///
    /// A `part` from elsewhere gives an empty span at the start.
    pub fn within(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        match start.checked_add(part.len()) {
            Some(end) if end <= whole.len() => Self::new(start, end),
            _ => Self::default(),
        }
    }
}
