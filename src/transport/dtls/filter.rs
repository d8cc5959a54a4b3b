//! Stage 1, DTLS filter: which records may reach an engine at all.
//!
//! Takes:   a datagram from an address that has a session.
//! Gives:   those of its records that mean something there, as a datagram.
//! Keeps:   of each message of a handshake, which fragments came: at most [`FRAGMENTS_MAX`] of [`MESSAGES_MAX`]
//!          messages; how much was let through so far.
//! Refuses: silently: alerts and octets of the application in the clear, types of nobody, hellos, fragments over the
//!          bounds; over [`DATAGRAMS_MAX`] datagrams, [`OCTETS_MAX`] octets or [`PIECES_MAX`] pieces, everything. In an
//!          established session whatever is in the clear: anybody may have sent it.
//! Sources: RFC 6347 sections 4.1.2.7 and 4.2.3; `DT-09`, `DT-11`, `V-42`, `V-44`.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::hello::CLIENT_HELLO;
use super::record::{Content, Record, fragments, records};

/// Most fragments of one message.
pub const FRAGMENTS_MAX: usize = 32;
/// Longest message.
pub const MESSAGE_MAX: usize = 16 * 1024;
/// Most messages of a client in one handshake.
pub const MESSAGES_MAX: u16 = 16;
/// Most datagrams that one handshake takes.
pub const DATAGRAMS_MAX: usize = 256;
/// Most octets that one handshake takes.
pub const OCTETS_MAX: usize = 128 * 1024;
/// Most fragments and other records that one handshake takes, those that come again included: an engine may keep each.
pub const PIECES_MAX: usize = 512;

/// What one handshake has shown so far.
#[derive(Debug, Default)]
pub struct Filter {
    fragments: SmallVec<[(u16, usize); 8]>,
    datagrams: usize,
    octets: usize,
    pieces: usize,
}

impl Filter {
    /// What of `datagram` may reach the engine while it shakes hands; `None` if nothing may.
    pub fn shaking_hands<'a>(&mut self, datagram: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        if !self.has_room(datagram) {
            return None;
        }
        keep(datagram, |record| self.takes(record))
    }

    /// Counts a datagram; whether the handshake takes another one, and one so long.
    pub fn has_room(&mut self, datagram: &[u8]) -> bool {
        self.datagrams = self.datagrams.saturating_add(1);
        self.octets = self.octets.saturating_add(datagram.len());
        self.datagrams <= DATAGRAMS_MAX && self.octets <= OCTETS_MAX
    }

    /// Whether a record may reach the engine.
    pub fn takes(&mut self, record: &Record<'_>) -> bool {
        match (record.epoch, record.content) {
            (0, Some(Content::Handshake)) => self.takes_fragments(record.body),
            (0, Some(Content::ChangeCipherSpec)) => record.body == [1] && self.takes_one(),
            (1, Some(Content::Handshake | Content::Alert | Content::Application)) => {
                self.takes_one()
            }
            _ => false,
        }
    }

    /// Counts a piece; whether the handshake takes another one.
    pub fn takes_one(&mut self) -> bool {
        self.pieces = self.pieces.saturating_add(1);
        self.pieces <= PIECES_MAX
    }

    /// Whether the fragments in a record are ones that a handshake has.
    fn takes_fragments(&mut self, body: &[u8]) -> bool {
        let Some(found) = fragments(body) else { return false };
        for fragment in found {
            let known = self.fragments.contains(&(fragment.message, fragment.offset));
            let of_message =
                self.fragments.iter().filter(|(message, _)| *message == fragment.message);
            let fits = fragment.kind != CLIENT_HELLO
                && fragment.message < MESSAGES_MAX
                && fragment.length <= MESSAGE_MAX
                && (known || of_message.count() < FRAGMENTS_MAX)
                && self.takes_one();
            if !fits {
                return false;
            }
            if !known {
                self.fragments.push((fragment.message, fragment.offset));
            }
        }
        true
    }
}

/// What of `datagram` may reach the engine of an established session; `None` if nothing may.
pub fn established(datagram: &[u8]) -> Option<Cow<'_, [u8]>> {
    keep(datagram, |record| record.epoch == 1 && record.content.is_some())
}

/// What of `datagram` is a part of a handshake, encrypted or not.
pub fn of_handshake(datagram: &[u8]) -> Option<Cow<'_, [u8]>> {
    keep(datagram, |record| record.epoch == 0 || record.content == Some(Content::Handshake))
}

/// What of `datagram` is in the clear or has at least so many octets in a record: what its cipher adds to each.
pub fn at_least(datagram: &[u8], octets: usize) -> Option<Cow<'_, [u8]>> {
    keep(datagram, |record| record.epoch == 0 || record.body.len() >= octets)
}

/// Whether `datagram` has a part of a handshake in the clear: the client may not have seen the end of it.
pub fn repeats(datagram: &[u8]) -> bool {
    let is_key_exchange = |record: Record<'_>| {
        record.epoch == 0
            && record.content == Some(Content::Handshake)
            && record.body.first() != Some(&CLIENT_HELLO)
    };
    records(datagram).any(is_key_exchange)
}

/// The records of `datagram` that are `wanted`, in their order.
fn keep<'a>(
    datagram: &'a [u8],
    mut wanted: impl FnMut(&Record<'a>) -> bool,
) -> Option<Cow<'a, [u8]>> {
    let kept: SmallVec<[&[u8]; 8]> =
        records(datagram).filter(|record| wanted(record)).map(|record| record.octets).collect();
    match kept.as_slice() {
        [] => None,
        [only] => Some(Cow::Borrowed(*only)),
        all if all.iter().map(|part| part.len()).sum::<usize>() == datagram.len() => {
            Some(Cow::Borrowed(datagram))
        }
        all => Some(Cow::Owned(all.concat())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::hello::tests::hello;
    use super::super::record::{fatal_alert, head, to_three};
    use super::*;

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let mut octets = head(kind, [254, 253], 3, body.len()).to_vec();
        octets[4] = epoch;
        octets.extend_from_slice(body);
        octets
    }

    fn fragment(message: u8, length: usize, offset: usize, part: usize) -> Vec<u8> {
        let numbers = [to_three(length), to_three(offset), to_three(part)];
        let head = [&[16][..], &numbers[0], &[0, message], &numbers[1], &numbers[2]].concat();
        record(22, 0, &[head, vec![0; part]].concat())
    }

    #[test]
    fn only_what_belongs_there_gets_through() {
        for (about, datagram, in_handshake, when_established) in [
            ("alert in the clear", fatal_alert(40, 3), false, false),
            ("application data in the clear", record(23, 0, b"x"), false, false),
            ("a type of nobody", record(99, 1, b"x"), false, false),
            ("a type of nobody in the clear", record(99, 0, b"x"), false, false),
            ("another epoch", record(23, 2, b"x"), false, false),
            ("a hello", hello(7, b"", &[0xA8]), false, false),
            ("a key exchange", fragment(2, 9, 0, 9), true, false),
            ("a part of it", fragment(2, 9, 3, 3), true, false),
            ("a message of a hundred KiB", fragment(2, 100_000, 0, 3), false, false),
            ("the 17th message", fragment(16, 9, 0, 9), false, false),
            ("a cut fragment", record(22, 0, b"abc"), false, false),
            ("keys change", record(20, 0, &[1]), true, false),
            ("keys change oddly", record(20, 0, &[2]), false, false),
            ("encrypted", record(23, 1, b"x"), true, true),
            ("garbage", b"\x16\xfe\xfd garbage".to_vec(), false, false),
        ] {
            let mut filter = Filter::default();
            assert_eq!(filter.shaking_hands(&datagram).is_some(), in_handshake, "{about}");
            assert_eq!(established(&datagram).is_some(), when_established, "{about}");
            let mixed = [&datagram[..], &record(23, 1, b"good")].concat();
            if !about.starts_with("garbage") {
                let kept = established(&mixed).expect("the good one is kept");
                assert!(kept.ends_with(b"good"), "{about}");
            }
        }
    }

    #[test]
    fn a_handshake_has_bounds() {
        let mut filter = Filter::default();
        let counts = |filter: &mut Filter, offsets: std::ops::Range<usize>| {
            let parts = offsets.map(|offset| fragment(2, 2000, offset, 1));
            parts.filter(|part| filter.shaking_hands(part).is_some()).count()
        };
        assert_eq!(counts(&mut filter, 0..40), FRAGMENTS_MAX, "32 fragments of one message");
        assert_eq!(counts(&mut filter, 0..40), FRAGMENTS_MAX, "which may come again");
        let mut filter = Filter::default();
        let all = (0..300).filter(|_| filter.shaking_hands(&fragment(2, 9, 0, 9)).is_some());
        assert_eq!(all.count(), DATAGRAMS_MAX);
        let mut filter = Filter::default();
        let long = fragment(2, MESSAGE_MAX, 0, 16_000);
        let all = (0..300).filter(|_| filter.shaking_hands(&long).is_some()).count();
        assert_eq!(all, OCTETS_MAX / long.len());
        let mut filter = Filter::default();
        let empty = [16, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
        let heads = record(22, 0, &empty.repeat(64));
        let all = (0..300).filter(|_| filter.shaking_hands(&heads).is_some()).count();
        assert_eq!(all, PIECES_MAX / 64, "messages without octets are counted one by one");
        let mut filter = Filter::default();
        let keys = record(20, 0, &[1]).repeat(32);
        let kept = (0..DATAGRAMS_MAX).filter_map(|_| filter.shaking_hands(&keys));
        let kept: usize = kept.map(|kept| records(&kept).count()).sum();
        assert_eq!(kept, PIECES_MAX, "and so are records");
    }

    #[test]
    fn what_is_no_handshake_is_kept_apart() {
        let (keys, finished) = (record(20, 0, &[1]), record(22, 1, &[1; 40]));
        let (data, alert) = (record(23, 1, &[1; 40]), record(21, 1, &[1; 26]));
        let mixed = [&keys[..], &data, &finished, &alert].concat();
        let kept = [&keys[..], &finished].concat();
        assert_eq!(of_handshake(&mixed).as_deref(), Some(&kept[..]));
        assert_eq!(of_handshake(&[&data[..], &alert].concat()), None);
    }

    #[test]
    fn short_records_are_kept_apart() {
        let (long, short) = (record(23, 1, &[1; 24]), record(23, 1, &[1; 23]));
        assert_eq!(at_least(&long, 24).as_deref(), Some(&long[..]));
        assert_eq!(at_least(&short, 24), None);
        assert_eq!(at_least(&[&short[..], &long].concat(), 24).as_deref(), Some(&long[..]));
        assert!(at_least(&fragment(2, 9, 0, 9), 24).is_some(), "in the clear, there is no cipher");
    }

    #[test]
    fn a_repeated_key_exchange_is_known() {
        assert!(repeats(&fragment(2, 9, 0, 9)));
        assert!(!repeats(&hello(7, b"", &[0xA8])));
        assert!(!repeats(&record(22, 1, b"x")));
    }
}
