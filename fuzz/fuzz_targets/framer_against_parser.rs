//! A stream shows the same messages whatever its segmentation, and each is what the parser reads from those octets.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use sipward::wire::{Fault, Framed, Framer, Message, Name, message::MESSAGE_MAX};

#[derive(Debug, PartialEq)]
enum Seen {
    Ping,
    Message(Bytes),
    Broken(Fault),
}

fn frames(octets: &[u8], step: usize) -> Vec<Seen> {
    let (mut framer, mut held, mut seen) = (Framer::new(), BytesMut::new(), Vec::new());
    for chunk in octets.chunks(step.max(1)) {
        held.extend_from_slice(chunk);
        loop {
            match framer.next(&mut held, MESSAGE_MAX) {
                Framed::More => break,
                Framed::Ping => seen.push(Seen::Ping),
                Framed::Message(message) => seen.push(Seen::Message(message.octets().clone())),
                Framed::Broken(why) => {
                    seen.push(Seen::Broken(why.fault));
                    return seen;
                }
            }
        }
    }
    seen
}

fuzz_target!(|octets: &[u8]| {
    let Some((step, octets)) = octets.split_first() else { return };
    let whole = frames(octets, octets.len());
    assert_eq!(whole, frames(octets, usize::from(*step)));
    for seen in &whole {
        if let Seen::Message(cut) = seen {
            let parsed = Message::from_datagram(cut.clone()).expect("one grammar");
            assert_eq!(parsed.octets(), cut);
        }
    }
    if let Ok(parsed) = Message::from_datagram(Bytes::copy_from_slice(octets))
        && parsed.rows(Name::ContentLength).count() == 1
    {
        assert_eq!(whole.first(), Some(&Seen::Message(parsed.octets().clone())));
    }
});
