//! Stage 1, DTLS records: what lies in a datagram, read without a key.
//!
//! Takes:   the octets of one datagram, or of one record of the handshake.
//! Gives:   [`Record`]s, and [`Fragment`]s of handshake messages, each a view of the octets.
//! Keeps:   nothing. Bounds: [`RECORDS_MAX`] records of a datagram are read.
//! Refuses: what is cut short or of another version: reading ends there, what stood before it counts.
//! Sources: RFC 6347 sections 4.1 and 4.2.2; RFC 5246 section 6.2.1.

/// Octets of a record's head.
pub const RECORD_HEAD: usize = 13;
/// Octets of a handshake fragment's head.
pub const FRAGMENT_HEAD: usize = 12;
/// Most records of one datagram that are read.
pub const RECORDS_MAX: usize = 32;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Keys change.
    ChangeCipherSpec,
    /// An alert.
    Alert,
    /// A part of the handshake.
    Handshake,
    /// Octets of the application.
    Application,
}

impl Content {
    fn of(octet: u8) -> Option<Self> {
        Some(match octet {
            20 => Self::ChangeCipherSpec,
            21 => Self::Alert,
            22 => Self::Handshake,
            23 => Self::Application,
            _ => return None,
        })
    }
}

/// A record as it lies in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it holds; `None` for a type that DTLS 1.2 does not have.
    pub content: Option<Content>,
    /// How often keys had changed: 0 in the clear.
    pub epoch: u16,
    /// Its number in the epoch, 48 bits.
    pub sequence: u64,
    /// What it holds, encrypted unless the epoch is 0.
    pub body: &'a [u8],
    /// All of it, head included.
    pub octets: &'a [u8],
}

/// The records of a datagram, as far as they are whole.
pub fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    let next = move || {
        let (record, after) = Record::split(rest)?;
        rest = after;
        Some(record)
    };
    std::iter::from_fn(next).take(RECORDS_MAX)
}

impl<'a> Record<'a> {
    /// The record at the front, and what stands behind it.
    fn split(octets: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, _) = octets.split_first_chunk::<RECORD_HEAD>()?;
        let [kind, major, minor, e1, e0, s5, s4, s3, s2, s1, s0, l1, l0] = *head;
        // 1.0 stands in hellos, and in our answers to them; everything else is of 1.2.
        if major != 254 || !matches!(minor, 253 | 255) {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([l1, l0]));
        let (whole, after) = octets.split_at_checked(RECORD_HEAD.checked_add(length)?)?;
        let record = Self {
            content: Content::of(kind),
            epoch: u16::from_be_bytes([e1, e0]),
            sequence: u64::from_be_bytes([0, 0, s5, s4, s3, s2, s1, s0]),
            body: whole.get(RECORD_HEAD..)?,
            octets: whole,
        };
        Some((record, after))
    }
}

/// A fragment of a handshake message: in the clear, so anybody may have written it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// The type of the message.
    pub kind: u8,
    /// Octets of the whole message.
    pub length: usize,
    /// Its place in the flights of its sender.
    pub message: u16,
    /// Where this part begins.
    pub offset: usize,
    /// This part.
    pub body: &'a [u8],
    /// All of it, head included.
    pub octets: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The fragment at the front of a handshake record's body, and what stands behind it.
    ///
    /// `None` if it is cut short, lies outside its message, or is an empty part of a message that is not empty.
    pub fn split(body: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, _) = body.split_first_chunk::<FRAGMENT_HEAD>()?;
        let [kind, t2, t1, t0, m1, m0, o2, o1, o0, f2, f1, f0] = *head;
        let (length, offset, part) = (three(t2, t1, t0), three(o2, o1, o0), three(f2, f1, f0));
        let (whole, after) = body.split_at_checked(FRAGMENT_HEAD.checked_add(part)?)?;
        let fits = offset.checked_add(part)? <= length && (part > 0 || length == 0);
        let fragment = Self {
            kind,
            length,
            message: u16::from_be_bytes([m1, m0]),
            offset,
            body: whole.get(FRAGMENT_HEAD..)?,
            octets: whole,
        };
        fits.then_some((fragment, after))
    }

    /// Whether it is the whole message.
    pub fn is_whole(&self) -> bool {
        self.body.len() == self.length
    }
}

/// The fragments in the body of one handshake record; `None` if one of them is not well formed, or there is none.
pub fn fragments(body: &[u8]) -> Option<impl Iterator<Item = Fragment<'_>>> {
    let mut rest = body;
    let mut count = 0_usize;
    while !rest.is_empty() {
        rest = Fragment::split(rest)?.1;
        count = count.saturating_add(1);
    }
    let mut rest = body;
    let next = move || {
        let (fragment, after) = Fragment::split(rest)?;
        rest = after;
        Some(fragment)
    };
    (count > 0).then(|| std::iter::from_fn(next))
}

/// A number of three octets.
fn three(high: u8, middle: u8, low: u8) -> usize {
    (usize::from(high) << 16) | (usize::from(middle) << 8) | usize::from(low)
}

/// The last three octets of a number.
pub(super) fn to_three(number: usize) -> [u8; 3] {
    let [.., high, middle, low] = number.to_be_bytes();
    [high, middle, low]
}

/// The head of a record in the clear.
pub(super) fn head(kind: u8, version: [u8; 2], sequence: u64, length: usize) -> [u8; RECORD_HEAD] {
    let [_, _, s5, s4, s3, s2, s1, s0] = sequence.to_be_bytes();
    let [.., l1, l0] = length.to_be_bytes();
    [kind, version[0], version[1], 0, 0, s5, s4, s3, s2, s1, s0, l1, l0]
}

/// A fatal alert in the clear.
///
/// Source: RFC 5246 section 7.2.
pub fn fatal_alert(description: u8, sequence: u64) -> Vec<u8> {
    [&head(21, [254, 253], sequence, 2)[..], &[2, description]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of that type and epoch.
    fn record(kind: u8, version: [u8; 2], epoch: u16, body: &[u8]) -> Vec<u8> {
        let mut octets = head(kind, version, 7, body.len()).to_vec();
        octets[3..5].copy_from_slice(&epoch.to_be_bytes());
        octets.extend_from_slice(body);
        octets
    }

    #[test]
    fn records_are_read_as_far_as_they_are_whole() {
        let one = record(22, [254, 253], 0, b"abc");
        let two = record(23, [254, 253], 1, b"de");
        let odd = record(99, [254, 253], 0, b"");
        for (about, datagram, found) in [
            ("two", [&one[..], &two].concat(), 2),
            ("a type of nobody", [&one[..], &odd, &two].concat(), 3),
            ("cut short", [&one[..], &two[..two.len() - 1]].concat(), 1),
            ("another version", [&one[..], &record(22, [3, 3], 0, b"x"), &two].concat(), 1),
            ("a head cut short", one[..12].to_vec(), 0),
            ("none", Vec::new(), 0),
            ("many", one.repeat(RECORDS_MAX + 1), RECORDS_MAX),
        ] {
            let all: Vec<Record<'_>> = records(&datagram).collect();
            assert_eq!(all.len(), found, "{about}");
            let Some(first) = all.first() else { continue };
            assert_eq!((first.sequence, first.epoch, first.body), (7, 0, &b"abc"[..]), "{about}");
            assert_eq!(first.content, Some(Content::Handshake), "{about}");
        }
    }

    #[test]
    fn a_fragment_lies_inside_its_message() {
        let fragment = |length: usize, offset: usize, part: usize, body: &[u8]| {
            let numbers = [to_three(length), to_three(offset), to_three(part)];
            [&[1][..], &numbers[0], &[0, 5], &numbers[1], &numbers[2], body].concat()
        };
        for (about, octets, whole) in [
            ("whole", fragment(3, 0, 3, b"abc"), Some(true)),
            ("a part", fragment(9, 3, 3, b"abc"), Some(false)),
            ("an empty message", fragment(0, 0, 0, b""), Some(true)),
            ("an empty part", fragment(9, 3, 0, b""), None),
            ("beyond the end", fragment(5, 3, 3, b"abc"), None),
            ("cut short", fragment(3, 0, 3, b"ab"), None),
            ("2^24 - 1 octets", fragment(0xFF_FFFF, 0, 3, b"abc"), Some(false)),
        ] {
            let found = Fragment::split(&octets).map(|(fragment, _)| fragment.is_whole());
            assert_eq!(found, whole, "{about}");
            let two = [&octets[..], &octets].concat();
            let count = fragments(&two).map(Iterator::count);
            assert_eq!(count, whole.map(|_| 2), "{about}, twice");
        }
        assert!(fragments(b"").is_none());
    }
}
