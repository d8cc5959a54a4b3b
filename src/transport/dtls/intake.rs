//! Stage 1, DTLS intake: what of a handshake `webrtc-dtls` may be shown.
//!
//! The library keeps every fragment that it is shown, those that come again too, and counts nothing of them but the octets
//! of their messages. It puts a message together by a call within a call for each part, follows parts that have no octets,
//! and takes a part to end where its message would. So whoever could write to it as he likes could take all memory, and
//! end the process when the stack is full.
//!
//! Takes:   the datagrams of a handshake under way, and their records.
//! Gives:   whether the library may have each.
//! Keeps:   a [`Filter`], and how many encrypted parts there were. Bounds: [`PIECES_MAX`] fragments and other records, of
//!          them [`ENCRYPTED_MAX`] encrypted parts of two fragments; of one message [`FRAGMENTS_MAX`] places in the clear.
//! Refuses: what the filter refuses; a part of a message with anything behind it in its record, which the library would
//!          read as another fragment than we do; a hello beside anything else, or from a server, or with the name of a
//!          session, whose octets the library would read as what comes behind them. The alert by which a server refuses is
//!          let through: whoever forges it ends no more than the handshake.
//! Sources: RFC 6347 sections 4.2.2 and 4.2.3; `DT-11`, `V-42`.
//!
//! [`PIECES_MAX`]: super::filter::PIECES_MAX
//! [`FRAGMENTS_MAX`]: super::filter::FRAGMENTS_MAX

use super::filter::Filter;
use super::hello::{CLIENT_HELLO, Hello};
use super::record::{Content, Fragment, Record, fragments};

/// Most encrypted parts of a handshake: a Finished, repeated with its flight for as long as a handshake may take.
pub(super) const ENCRYPTED_MAX: usize = 64;

/// Whose records they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// It says hello.
    Client,
    /// It may refuse.
    Server,
}

/// What one handshake was shown so far.
#[derive(Debug)]
pub(super) struct Intake {
    peer: Peer,
    filter: Filter,
    encrypted: usize,
}

impl Intake {
    /// Nothing was shown yet.
    pub(super) fn new(peer: Peer) -> Self {
        Self { peer, filter: Filter::default(), encrypted: 0 }
    }

    /// Counts a datagram; whether there is room for another one, and one so long.
    pub(super) fn has_room(&mut self, datagram: &[u8]) -> bool {
        self.filter.has_room(datagram)
    }

    /// Whether the library may have a record; it is counted if so.
    pub(super) fn takes(&mut self, record: &Record<'_>) -> bool {
        match (record.epoch, record.content) {
            (0, Some(Content::Handshake)) if record.body.first() == Some(&CLIENT_HELLO) => {
                let read = Hello::read(record.octets).is_ok_and(|hello| !hello.resumes());
                self.peer == Peer::Client && read && self.filter.takes_one()
            }
            (0, Some(Content::Handshake)) => {
                reads_the_same(record.body) && self.filter.takes(record)
            }
            (0, Some(Content::Alert)) => {
                let whole = self.peer == Peer::Server && record.body.len() == 2;
                whole && self.filter.takes_one()
            }
            (1, Some(Content::Handshake)) => {
                self.encrypted = self.encrypted.saturating_add(1);
                self.encrypted <= ENCRYPTED_MAX && self.filter.takes(record)
            }
            _ => self.filter.takes(record),
        }
    }
}

/// Whether the library finds the fragments in a record that we find: only the last one is a part of its message.
fn reads_the_same(body: &[u8]) -> bool {
    let Some(found) = fragments(body) else { return false };
    found.skip_while(Fragment::is_whole).nth(1).is_none()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::filter::{FRAGMENTS_MAX, PIECES_MAX};
    use super::super::hello::tests::hello;
    use super::super::record::{fatal_alert, head, records, to_three};
    use super::*;

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let mut octets = head(kind, [254, 253], 3, body.len()).to_vec();
        octets[4] = epoch;
        octets.extend_from_slice(body);
        octets
    }

    /// The head of a fragment and so many octets behind it, whatever the head says.
    fn part(message: u16, length: usize, offset: usize, part: usize, octets: usize) -> Vec<u8> {
        let numbers = [to_three(length), to_three(offset), to_three(part)];
        let message = message.to_be_bytes();
        let head = [&[16][..], &numbers[0], &message, &numbers[1], &numbers[2]].concat();
        [head, vec![0; octets]].concat()
    }

    /// A hello with the name of a session.
    fn resuming() -> Vec<u8> {
        let good = hello(7, b"", &[0xA8]);
        let (head, rest) = good.split_at(13 + 12 + 2 + 32);
        let mut hello = [head, &[4], b"name", &rest[1..]].concat();
        for at in [12, 16, 24] {
            hello[at] += 4;
        }
        assert!(Hello::read(&hello).unwrap().resumes());
        hello
    }

    fn takes(intake: &mut Intake, datagram: &[u8]) -> bool {
        records(datagram).all(|record| intake.takes(&record))
    }

    /// What the library keeps: of each message its parts, as offset and length, and how long it takes the message for.
    #[derive(Default)]
    struct Kept(HashMap<u16, Vec<(usize, usize, usize)>>);

    impl Kept {
        /// As in its `FragmentBuffer::push`.
        fn push(&mut self, mut body: &[u8]) {
            let three = |at: usize, body: &[u8]| {
                body[at..at + 3].iter().fold(0, |sum, octet| (sum << 8) | usize::from(*octet))
            };
            while body.len() >= 12 {
                let message = u16::from_be_bytes([body[4], body[5]]);
                let found = (three(6, body), three(9, body), three(1, body));
                self.0.entry(message).or_default().push(found);
                body = &body[(12 + found.2).min(body.len())..];
            }
        }

        fn count(&self) -> usize {
            self.0.values().map(Vec::len).sum()
        }

        /// How deep its `append_message` goes for a message.
        fn depth(&self, message: u16) -> usize {
            let (mut offset, mut depth) = (0, 0);
            while let Some(found) = self.0[&message].iter().find(|(at, ..)| *at == offset) {
                depth += 1;
                if offset + found.1 == found.2 || found.1 == 0 {
                    break;
                }
                offset += found.1;
            }
            depth
        }
    }

    #[test]
    fn either_end_is_shown_what_belongs_to_a_handshake() {
        let whole = part(2, 3, 0, 3, 3);
        let alert = fatal_alert(115, 3);
        for (about, datagram, of_client, of_server) in [
            ("a hello", hello(7, b"", &[0xA8]), true, false),
            ("a hello with a cookie", hello(7, b"a cookie", &[0xA8]), true, false),
            ("a hello that resumes", resuming(), false, false),
            ("a part of a hello", hello(7, b"", &[0xA8])[..40].to_vec(), false, false),
            ("a message", record(22, 0, &whole), true, true),
            ("two messages", record(22, 0, &whole.repeat(2)), true, true),
            (
                "a message and a part",
                record(22, 0, &[whole.clone(), part(3, 9, 0, 3, 3)].concat()),
                true,
                true,
            ),
            (
                "a part and a message",
                record(22, 0, &[part(3, 9, 0, 3, 3), whole].concat()),
                false,
                false,
            ),
            ("no octets", record(22, 0, &part(2, 0, 0, 0, 0)), true, true),
            ("no octets, but a place", record(22, 0, &part(2, 0, 4, 1, 0)), false, false),
            ("an empty part", record(22, 0, &part(2, 9, 4, 0, 0)), false, false),
            ("beyond the end", record(22, 0, &part(2, 3, 2, 3, 3)), false, false),
            ("far ahead", record(22, 0, &part(40_000, 3, 0, 3, 3)), false, false),
            ("keys change", record(20, 0, &[1]), true, true),
            ("an alert", alert, false, true),
            ("half an alert", record(21, 0, &[2]), false, false),
            ("application data", record(23, 0, b"x"), false, false),
            ("a type of nobody", record(99, 0, b"x"), false, false),
            ("encrypted", record(23, 1, b"x"), true, true),
            ("another epoch", record(22, 2, b"x"), false, false),
        ] {
            for (peer, taken) in [(Peer::Client, of_client), (Peer::Server, of_server)] {
                let any = records(&datagram).count() > 0;
                let found = any && takes(&mut Intake::new(peer), &datagram);
                assert_eq!(found, taken, "{about}, {peer:?}");
            }
        }
    }

    /// The body of a record with that number.
    type Shape = fn(u16) -> Vec<u8>;

    /// Heads of parts that follow one another in a message without octets.
    fn chain(number: u16) -> Vec<u8> {
        let from = 8 * usize::from(number);
        (from..from + 8).flat_map(|at| part(2, 0, at, 1, 0)).collect()
    }

    /// A chain that we find inside a message, and the library behind a part.
    fn hidden(number: u16) -> Vec<u8> {
        let heads = chain(number);
        [part(2, 13, 0, 1, 1), part(3, heads.len(), 0, heads.len(), 0), heads].concat()
    }

    /// Whatever comes, the library keeps so many fragments, and a message has so many places.
    #[test]
    fn what_the_library_keeps_has_bounds() {
        let shapes: [(&str, Shape); 7] = [
            ("a chain of heads", chain),
            ("one behind a part", hidden),
            ("parts of one octet", |number| part(2, 2000, usize::from(number) % 2000, 1, 1)),
            ("parts of two lengths", |number| {
                part(2, 40 + usize::from(number) % 2, usize::from(number) % 40, 1, 1)
            }),
            ("messages without octets", |number| part(number % 20, 0, 0, 0, 0).repeat(8)),
            ("every message there can be", |number| part(number, 1, 0, 1, 1)),
            ("a message again and again", |_| part(2, 1, 0, 1, 1)),
        ];
        for (about, shape) in shapes {
            let (mut intake, mut kept) = (Intake::new(Peer::Client), Kept::default());
            for number in 0..=u16::MAX {
                let octets = record(22, 0, &shape(number));
                if takes(&mut intake, &octets) {
                    kept.push(&octets[13..]);
                }
            }
            assert!(kept.count() <= PIECES_MAX, "{about}: {}", kept.count());
            for message in kept.0.keys() {
                assert!(kept.depth(*message) <= FRAGMENTS_MAX, "{about}: {message}");
            }
        }
    }

    /// What is encrypted cannot be read here, so there is little of it.
    #[test]
    fn encrypted_parts_are_few() {
        let mut intake = Intake::new(Peer::Client);
        let finished = record(22, 1, &[0x5a; 48]);
        let taken = (0..1000).filter(|_| takes(&mut intake, &finished)).count();
        assert_eq!(taken, ENCRYPTED_MAX);
        assert!(takes(&mut intake, &record(22, 0, &part(2, 3, 0, 3, 3))), "others are not counted");
    }
}
