//! Stage 1, DTLS channels: what is left of a session once its library has shaken hands.
//!
//! 1. The secrets of the handshake make a key for each direction, and the library is let go with all that it holds.
//! 2. Numbers, and what GCM's nonces count, go on where the library stopped: nothing is used twice.
//! 3. A record's number is looked up in the window; then it is opened; only then is the number noted.
//! 4. A Finished that comes again shows that ours was lost: it is sent again, under a new number, until the peer is
//!    heard to go on.
//!
//! Takes:   the records that the library sent under its keys, then those of the peer; messages.
//! Gives:   datagrams of one record each, and [`Event`]s.
//! Keeps:   two keys, the window, two numbers, our Finished: constant, whatever comes.
//! Refuses: silently, what does not authenticate and what came before; a new handshake within the session, by an
//!          alert; to write beyond number 2^48 - 1, for which an alert is kept back.
//! Sources: RFC 6347 sections 4.1, 4.1.2.6, 4.1.2.7 and 4.2.4; RFC 5246 sections 7.2.1 and 7.2.2; RFC 5288 section 3;
//!          `DT-09`, `V-42`, `V-44`.

use std::collections::VecDeque;

use bytes::Bytes;

use super::engine::{Ended, Event, MESSAGE_MAX, Unsent};
use super::keys::{Aead, Half, Secrets};
use super::record::{self, Content, Record, records};

/// The highest number of a record.
///
/// Source: RFC 6347 section 4.1.
const NUMBER_MAX: u64 = (1 << 48) - 1;
/// Most octets of our Finished: its head and 12 octets.
const FINISHED_MAX: usize = 24;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION: u8 = 23;

const CLIENT_HELLO: u8 = 1;
const FINISHED: u8 = 20;

const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const NO_RENEGOTIATION: u8 = 100;

/// The server's end of a session that stands.
#[derive(Debug)]
pub(super) struct Channel {
    theirs: Half,
    ours: Half,
    heard: Window,
    /// The number of the next record that we write.
    next: u64,
    /// What stands in the record with number 0 of its nonce; it counts with the numbers.
    base: u64,
    /// The number of the next record in the clear.
    clear: u64,
    /// Our Finished, until the peer is known to have it.
    finished: Option<Box<[u8]>>,
    /// Longest message that the peer takes.
    longest: usize,
}

impl Channel {
    /// Takes a session over, right after the handshake.
    ///
    /// `sent` are the datagrams of our last flight: the records of epoch 1 in it say where the library stopped, and
    /// whether these are its keys. `clear` is the next number in the clear, `longest` the longest message that the peer
    /// takes.
    pub(super) fn new(
        aead: Aead,
        secrets: &Secrets<'_>,
        sent: &[Vec<u8>],
        clear: u64,
        longest: usize,
    ) -> Option<Self> {
        let (theirs, ours) = Half::both(aead, secrets)?;
        let (mut next, mut base, mut finished) = (0, 0, None);
        let written = sent.iter().flat_map(|datagram| records(datagram));
        for record in written.filter(|record| record.epoch == 1) {
            let message = ours.open(&record)?;
            next = record.sequence.checked_add(1).filter(|after| *after > next)?;
            base = ours.explicit(&record).wrapping_sub(record.sequence);
            if message.first() == Some(&FINISHED) && message.len() <= FINISHED_MAX {
                finished = Some(message.into_boxed_slice());
            }
        }
        let finished = Some(finished?);
        let longest = longest.min(MESSAGE_MAX);
        Some(Self { theirs, ours, heard: Window::default(), next, base, clear, finished, longest })
    }

    /// Notes a record that the library was given: if it is the peer's own, it came.
    pub(super) fn note(&mut self, record: &Record<'_>) {
        if self.authentic(record).is_some() {
            self.heard.note(record.sequence);
        }
    }

    /// A record that came; what is to be sent for it goes to `out`.
    pub(super) fn take(&mut self, record: &Record<'_>, out: &mut VecDeque<Bytes>) -> Option<Event> {
        let message = self.authentic(record)?;
        self.heard.note(record.sequence);
        match record.content? {
            Content::Application => {
                self.finished = None;
                (!message.is_empty()).then(|| Event::Data(message.into()))
            }
            Content::Alert => match *message {
                [_, CLOSE_NOTIFY] => {
                    self.alert(CLOSE_NOTIFY, out);
                    Some(Event::Closed(Ended::Peer))
                }
                [FATAL, _] => Some(Event::Closed(Ended::Failed)),
                _ => None,
            },
            Content::Handshake => {
                match message.first() {
                    Some(&FINISHED) => self.repeat(out),
                    Some(&CLIENT_HELLO) => self.alert(NO_RENEGOTIATION, out),
                    _ => {}
                }
                None
            }
            Content::ChangeCipherSpec => None,
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// [`Unsent::TooLong`]; [`Unsent::Gone`] if all numbers were used: the session is over.
    pub(super) fn send(&mut self, message: &[u8], out: &mut VecDeque<Bytes>) -> Result<(), Unsent> {
        if message.len() > self.longest {
            return Err(Unsent::TooLong);
        }
        // The last number is for the good-bye.
        if self.next >= NUMBER_MAX {
            return Err(Unsent::Gone);
        }
        let record = self.seal(APPLICATION, message).ok_or(Unsent::Gone)?;
        out.push_back(record.into());
        Ok(())
    }

    /// Says good-bye.
    pub(super) fn close(&mut self, out: &mut VecDeque<Bytes>) {
        self.alert(CLOSE_NOTIFY, out);
    }

    /// What the peer wrote, if it wrote it and it did not come before.
    ///
    /// Source: RFC 6347 section 4.1.2.6: the window moves for authentic records alone; 4.1.2.7: the others are dropped.
    fn authentic(&self, record: &Record<'_>) -> Option<Vec<u8>> {
        if record.epoch != 1 || !self.heard.lacks(record.sequence) {
            return None;
        }
        self.theirs.open(record).filter(|message| message.len() <= MESSAGE_MAX)
    }

    /// Our last flight once more, in one datagram.
    ///
    /// Source: RFC 6347 section 4.2.4.
    fn repeat(&mut self, out: &mut VecDeque<Bytes>) {
        let Some(finished) = self.finished.take() else { return };
        let head = record::head(CHANGE_CIPHER_SPEC, [254, 253], self.clear, 1);
        self.clear = self.clear.wrapping_add(1);
        if let Some(record) = self.seal(HANDSHAKE, &finished) {
            out.push_back([&head[..], &[1], &record].concat().into());
        }
        self.finished = Some(finished);
    }

    fn alert(&mut self, description: u8, out: &mut VecDeque<Bytes>) {
        let record = self.seal(ALERT, &[WARNING, description]);
        out.extend(record.map(Bytes::from));
    }

    /// A record with the next number; `None` once there is none.
    fn seal(&mut self, kind: u8, message: &[u8]) -> Option<Vec<u8>> {
        let number = self.next;
        if number > NUMBER_MAX {
            return None;
        }
        self.next = number.checked_add(1)?;
        self.ours.seal(kind, number, self.base.wrapping_add(number), message)
    }
}

/// Which numbers came, of the last 64 up to the highest.
///
/// Source: RFC 6347 section 4.1.2.6, where 64 is the size that should be used.
#[derive(Debug, Default)]
struct Window {
    /// One above the highest that came.
    end: u64,
    /// The highest is bit 0.
    came: u64,
}

impl Window {
    /// Whether a number is not too old, and did not come.
    fn lacks(&self, number: u64) -> bool {
        match self.age(number) {
            None => true,
            Some(age) => age < u64::BITS && self.came & bit(age) == 0,
        }
    }

    fn note(&mut self, number: u64) {
        match self.age(number) {
            None => {
                let more = number.saturating_sub(self.end).saturating_add(1);
                let more = u32::try_from(more).unwrap_or(u32::MAX);
                self.came = self.came.checked_shl(more).unwrap_or(0) | 1;
                self.end = number.saturating_add(1);
            }
            Some(age) => self.came |= bit(age),
        }
    }

    /// How far it lies below the highest that came; `None` above that.
    fn age(&self, number: u64) -> Option<u32> {
        let below = self.end.checked_sub(number)?.checked_sub(1)?;
        Some(u32::try_from(below).unwrap_or(u32::MAX))
    }
}

/// None for an age beyond the window.
fn bit(age: u32) -> u64 {
    1_u64.checked_shl(age).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::keys::tests::SECRETS;
    use super::*;

    /// Both ends of a session, as if the library had sent its Finished with that number, and 40 in the nonce.
    struct Ends {
        channel: Channel,
        client: Half,
        server: Half,
        out: VecDeque<Bytes>,
    }

    fn finished() -> Vec<u8> {
        [&[FINISHED, 0, 0, 12, 0, 5, 0, 0, 0, 0, 0, 12][..], &[9; 12]].concat()
    }

    fn ends(aead: Aead, number: u64) -> Ends {
        let (client, server) = Half::both(aead, &SECRETS).unwrap();
        let sent = [
            [&record::head(CHANGE_CIPHER_SPEC, [254, 253], 6, 1)[..], &[1]].concat(),
            server.seal(HANDSHAKE, number, 40, &finished()).unwrap(),
        ];
        let channel = Channel::new(aead, &SECRETS, &sent, 7, MESSAGE_MAX).unwrap();
        Ends { channel, client, server, out: VecDeque::new() }
    }

    impl Ends {
        /// Puts a record of the client before the channel.
        fn came(&mut self, kind: u8, number: u64, message: &[u8]) -> Option<Event> {
            let octets = self.client.seal(kind, number, number, message).unwrap();
            self.channel.take(&records(&octets).next().unwrap(), &mut self.out)
        }

        /// What was sent: of each record epoch, number, what stands in it of the nonce, and the message.
        fn sent(&mut self) -> Vec<(u16, u64, u64, Vec<u8>)> {
            let sent = std::mem::take(&mut self.out);
            let all = sent.iter().flat_map(|datagram| records(datagram));
            all.map(|it| {
                let message = if it.epoch == 0 {
                    it.body.to_vec()
                } else {
                    self.server.open(&it).expect("it is ours")
                };
                let explicit = if it.epoch == 0 { 0 } else { self.server.explicit(&it) };
                (it.epoch, it.sequence, explicit, message)
            })
            .collect()
        }
    }

    const ALL: [Aead; 3] = [Aead::Gcm, Aead::Gcm256, Aead::ChaCha];

    /// RFC 6347 section 4.1: numbers go on above what the library wrote, and so does what GCM's nonces count.
    #[test]
    fn numbers_go_on_where_the_library_stopped() {
        for aead in ALL {
            for first in [0, 5] {
                let mut ends = ends(aead, first);
                for message in [b"one", b"two"] {
                    ends.channel.send(message, &mut ends.out).unwrap();
                }
                let explicit = |more: u64| if aead == Aead::ChaCha { 0 } else { 40 + more };
                let expected = [
                    (1, first + 1, explicit(1), b"one".to_vec()),
                    (1, first + 2, explicit(2), b"two".to_vec()),
                ];
                assert_eq!(ends.sent(), expected, "{aead:?} from {first}");
            }
        }
    }

    /// Other keys than the library's, or a flight without a Finished, are no session.
    #[test]
    fn a_session_is_taken_over_only_with_its_keys() {
        let (client, server) = Half::both(Aead::Gcm, &SECRETS).unwrap();
        let good = server.seal(HANDSHAKE, 0, 40, &finished()).unwrap();
        let again = server.seal(HANDSHAKE, 0, 41, &finished()).unwrap();
        for (about, sent, stands) in [
            ("ours", vec![good.clone()], true),
            ("another's", vec![client.seal(HANDSHAKE, 0, 40, &finished()).unwrap()], false),
            ("no Finished", vec![server.seal(HANDSHAKE, 0, 40, &[14, 0]).unwrap()], false),
            ("nothing", vec![], false),
            ("a number twice", vec![good, again], false),
        ] {
            let channel = Channel::new(Aead::Gcm, &SECRETS, &sent, 7, MESSAGE_MAX);
            assert_eq!(channel.is_some(), stands, "{about}");
        }
    }

    /// RFC 6347 section 4.1.2.6: within 64 of the highest, each number is heard once.
    #[test]
    fn a_number_is_heard_once_and_within_the_window() {
        let mut ends = ends(Aead::ChaCha, 0);
        for (number, heard) in [
            (1, true),
            (1, false),
            (0, true),
            (70, true),
            (7, true),
            (7, false),
            (6, false),
            (70, false),
            (69, true),
            (200, true),
            (137, true),
            (136, false),
            (NUMBER_MAX, true),
            (NUMBER_MAX - 63, true),
            (NUMBER_MAX - 64, false),
            (0, false),
        ] {
            let event = ends.came(APPLICATION, number, b"x");
            assert_eq!(event.is_some(), heard, "{number}");
        }
    }

    /// RFC 6347 sections 4.1.2.6 and 4.1.2.7: a forged number moves nothing, however high it is.
    #[test]
    fn nobody_else_moves_the_window() {
        let mut ends = ends(Aead::Gcm, 0);
        assert!(ends.came(APPLICATION, 3, b"x").is_some());
        for number in [4, 1000, NUMBER_MAX] {
            let mut forged = ends.client.seal(APPLICATION, number, 1, b"x").unwrap();
            *forged.last_mut().unwrap() ^= 1;
            let event = ends.channel.take(&records(&forged).next().unwrap(), &mut ends.out);
            assert_eq!(event, None, "{number}");
        }
        assert!(ends.came(APPLICATION, 4, b"x").is_some());
        assert!(ends.sent().is_empty());
    }

    /// RFC 6347 section 4.2.4: a repeated Finished is answered with the last flight, under new numbers, until the peer
    /// goes on; the one that the library had is not answered.
    #[test]
    fn a_repeated_finished_is_answered_until_the_peer_goes_on() {
        let mut ends = ends(Aead::Gcm, 0);
        let theirs = ends.client.seal(HANDSHAKE, 0, 0, &finished()).unwrap();
        ends.channel.note(&records(&theirs).next().unwrap());
        assert_eq!(ends.came(HANDSHAKE, 0, &finished()), None);
        assert!(ends.sent().is_empty(), "that one was answered by the library");
        for (theirs, clear, number) in [(1, 7, 1), (2, 8, 2)] {
            assert_eq!(ends.came(HANDSHAKE, theirs, &finished()), None);
            let expected = [(0, clear, 0, vec![1]), (1, number, 40 + number, finished())];
            assert_eq!(ends.sent(), expected, "time {theirs}");
        }
        assert!(ends.came(APPLICATION, 3, b"x").is_some());
        assert_eq!(ends.came(HANDSHAKE, 4, &finished()), None);
        assert!(ends.sent().is_empty(), "it has ours");
    }

    /// RFC 5246 sections 7.2.1 and 7.2.2: a good-bye is answered and ends the session, as does what is fatal; other
    /// warnings do not; a new handshake within the session is refused.
    #[test]
    fn alerts_and_handshakes_within_a_session() {
        let closed = |why| Some(Event::Closed(why));
        for (about, kind, message, event, answer) in [
            ("good-bye", ALERT, &[1, 0][..], closed(Ended::Peer), Some(&[1, 0][..])),
            ("fatal", ALERT, &[2, 40], closed(Ended::Failed), None),
            ("a warning", ALERT, &[1, 90], None, None),
            ("half an alert", ALERT, &[2], None, None),
            ("an alert too long", ALERT, &[2, 40, 0], None, None),
            ("a hello", HANDSHAKE, &[1, 0, 0, 0], None, Some(&[1, 100])),
            ("a hello request", HANDSHAKE, &[0, 0, 0, 0], None, None),
            ("nothing of a handshake", HANDSHAKE, &[], None, None),
            ("keys change", CHANGE_CIPHER_SPEC, &[1], None, None),
            ("a type of nobody", 99, &[1], None, None),
            ("nothing to say", APPLICATION, &[], None, None),
        ] {
            let mut ends = ends(Aead::Gcm256, 0);
            assert_eq!(ends.came(kind, 1, message), event, "{about}");
            let sent: Vec<Vec<u8>> = ends.sent().into_iter().map(|(.., sent)| sent).collect();
            assert_eq!(sent.first().map(|it| &it[..]), answer, "{about}");
        }
    }

    /// RFC 6347 section 4.1: no number comes twice; the last one says good-bye.
    #[test]
    fn a_session_ends_before_its_numbers_do() {
        let mut ends = ends(Aead::ChaCha, NUMBER_MAX - 2);
        assert_eq!(ends.channel.send(b"x", &mut ends.out), Ok(()));
        assert_eq!(ends.channel.send(b"x", &mut ends.out), Err(Unsent::Gone));
        ends.channel.close(&mut ends.out);
        ends.channel.close(&mut ends.out);
        let numbers: Vec<u64> = ends.sent().into_iter().map(|(_, number, ..)| number).collect();
        assert_eq!(numbers, [NUMBER_MAX - 1, NUMBER_MAX]);
    }

    /// RFC 5246 section 6.2.1, RFC 6066 section 4: a message fits one record, or the one that the peer has room for.
    #[test]
    fn a_message_fits_one_record() {
        let mut ends = ends(Aead::Gcm, 0);
        assert_eq!(ends.channel.send(&[1; MESSAGE_MAX + 1], &mut ends.out), Err(Unsent::TooLong));
        assert_eq!(ends.channel.send(&[1; MESSAGE_MAX], &mut ends.out), Ok(()));
        ends.channel.longest = 512;
        assert_eq!(ends.channel.send(&[1; 513], &mut ends.out), Err(Unsent::TooLong));
        let long = vec![1; MESSAGE_MAX + 1];
        assert_eq!(ends.came(APPLICATION, 1, &long), None, "theirs neither");
        assert_eq!(
            ends.came(APPLICATION, 2, &long[..MESSAGE_MAX]),
            Some(Event::Data(vec![1; MESSAGE_MAX].into()))
        );
    }
}
