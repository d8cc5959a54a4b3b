//! Stage 2, framing: messages out of a stream of octets, by the parser's own grammar.
//!
//! Takes:   the octets read from one stream so far.
//! Gives:   [`Framed`]: a message, a keep-alive to answer, or the wish for more.
//! Keeps:   how far it has looked for the blank line and how long the message is, so that dribbled octets
//!          cost linear time.
//! Refuses: what the parser refuses; a head over 64 KiB; a body over the bound of the flow; a message without
//!          Content-Length. Framing is lost then: the flow is to be closed after the answer.
//! Sources: RFC 3261 sections 7.5 and 18.3; RFC 5626 section 4.4.1; `TR-04` to `TR-07`.

use bytes::Buf;
use memchr::memmem;

use super::message::{Malformed, Message};
use super::{Fault, scan, steps};

/// What lies at the front of a stream.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is matched at once, never stored")]
pub enum Framed {
    /// Not enough octets yet.
    More,
    /// A double CRLF between messages: answer with one CRLF (RFC 5626 section 4.4.1).
    Ping,
    /// A whole message.
    Message(Message),
    /// Not a message: answer if it can be answered, then close.
    Broken(Malformed),
}

/// The state of one stream's framing.
#[derive(Debug, Default)]
pub struct Framer {
    /// Octets in which the blank line was looked for in vain.
    searched: usize,
    /// Length of the message whose head was seen whole; zero before.
    whole: usize,
}

impl Framer {
    /// A framer for a stream that has shown nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the head of the message under way was seen whole.
    pub fn awaits_body(&self) -> bool {
        self.whole > 0
    }

    /// Whether a message has begun.
    pub fn is_under_way(&self) -> bool {
        self.searched > 0 || self.whole > 0
    }

    /// Takes the next item off the front of `octets`, whose first chunk must be all of them; `message_max` is the flow's
    /// bound in octets. What is taken shares the memory of a [`bytes::BytesMut`], and is copied from a slice.
    pub fn next(&mut self, octets: &mut impl Buf, message_max: usize) -> Framed {
        if octets.remaining() < self.whole {
            return Framed::More;
        }
        if self.searched == 0 {
            if octets.chunk().starts_with(b"\r\n\r\n") {
                octets.advance(4);
                return Framed::Ping;
            }
            // One CRLF is skipped, unless it may be the first half of a ping.
            if b"\r\n\r\n".starts_with(octets.chunk()) {
                return Framed::More;
            }
            if octets.chunk().starts_with(b"\r\n") {
                octets.advance(2);
            }
        }
        let from = self.searched.saturating_sub(3);
        let looked_at = octets.chunk().get(from..).unwrap_or_default();
        steps::count(looked_at.len());
        let Some(blank) = memmem::find(looked_at, b"\r\n\r\n") else {
            self.searched = octets.remaining();
            if octets.remaining() > scan::HEAD_MAX {
                return self.broken(octets, Fault::HeadTooLong);
            }
            return Framed::More;
        };
        let head = from.saturating_add(blank).saturating_add(4);
        if head > scan::HEAD_MAX {
            return self.broken(octets, Fault::HeadTooLong);
        }
        let found = scan::scan(octets.chunk().get(..head).unwrap_or_default());
        if let Some(fault) = found.fault {
            return self.broken(octets, fault);
        }
        let Ok(Some(length)) = found.content_length(octets.chunk()) else {
            return self.broken(octets, Fault::ContentLength);
        };
        let whole = head.saturating_add(length);
        if whole > message_max {
            return self.broken(octets, Fault::MessageTooLong);
        }
        if octets.remaining() < whole {
            (self.searched, self.whole) = (head.saturating_sub(4), whole);
            return Framed::More;
        }
        (self.searched, self.whole) = (0, 0);
        let octets = octets.copy_to_bytes(whole);
        match Message::index(octets, found) {
            Some(message) => Framed::Message(message),
            None => Framed::Broken(Malformed { fault: Fault::StartLine, rest: None }),
        }
    }

    /// Gives up the stream: its octets are gone, what of them can be answered is in the result.
    fn broken(&mut self, octets: &mut impl Buf, fault: Fault) -> Framed {
        (self.searched, self.whole) = (0, 0);
        let octets = octets.copy_to_bytes(octets.remaining());
        let found = scan::scan(octets.get(..scan::HEAD_MAX).unwrap_or(&octets));
        Framed::Broken(Malformed { fault, rest: Message::index(octets, found).map(Box::new) })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    const REQUEST: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 3\r\n\r\nabc";

    #[test]
    fn segmentation_changes_nothing() {
        let mut stream = Vec::new();
        for part in [&b"\r\n\r\n"[..], REQUEST, b"\r\n", REQUEST, b"\r\n\r\n"] {
            stream.extend_from_slice(part);
        }
        for step in [1, 2, 7, stream.len()] {
            let (mut framer, mut held) = (Framer::new(), BytesMut::new());
            let (mut pings, mut messages) = (0, 0);
            for chunk in stream.chunks(step) {
                held.extend_from_slice(chunk);
                loop {
                    match framer.next(&mut held, 65536) {
                        Framed::More => break,
                        Framed::Ping => pings += 1,
                        Framed::Message(message) => {
                            assert_eq!(message.octets().as_ref(), REQUEST);
                            messages += 1;
                        }
                        Framed::Broken(why) => panic!("{:?} at step {step}", why.fault),
                    }
                }
            }
            assert_eq!((pings, messages), (2, 2), "step {step}");
        }
    }

    #[test]
    fn a_length_that_cannot_be_trusted_breaks_the_stream() {
        for value in ["", "x", "-1", "+3", "3, 3", "4294967296", "3\r\nl: 3"] {
            let text = format!("OPTIONS sip:a@b SIP/2.0\r\nContent-Length: {value}\r\n\r\nabc");
            let mut held = BytesMut::from(text.as_bytes());
            let framed = Framer::new().next(&mut held, 65536);
            assert!(
                matches!(&framed, Framed::Broken(why) if why.fault == Fault::ContentLength),
                "{value:?}: {framed:?}"
            );
        }
    }
}
