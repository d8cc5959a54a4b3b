//! A WebSocket shows the same opening and the same messages however its octets are cut, and holds no more than its bound.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use sipward::transport::ws::opening::{HEAD_MAX, judge};
use sipward::transport::ws::{Item, Reader, Role, Rules, Verdict};
use sipward::wire::Message;

/// Longest message, and longest thing that waits to be whole: a control frame.
const BOUND: usize = 4096;
const HELD_MAX: usize = 131;

/// The verdict on what begins the connection, once there is one.
fn opening(octets: &[u8], step: usize) -> Verdict {
    let rules = Rules { origins: vec!["https://a.b".into()], path: "/".into() };
    let mut read = 0;
    while read < octets.len() {
        read = read.saturating_add(step).min(octets.len());
        let verdict = judge(&octets[..read], &rules);
        if verdict != Verdict::More {
            return verdict;
        }
        assert!(read < HEAD_MAX, "it is not waited for more");
    }
    Verdict::More
}

fn items(octets: &[u8], step: usize, role: Role) -> Vec<Item> {
    let (mut reader, mut held, mut items) = (Reader::new(role), BytesMut::new(), Vec::new());
    for chunk in octets.chunks(step) {
        held.extend_from_slice(chunk);
        loop {
            match reader.next(&mut held, BOUND) {
                Item::More => break,
                last @ (Item::Close(_) | Item::Fail(_)) => {
                    items.push(last);
                    return items;
                }
                item => items.push(item),
            }
        }
        assert!(held.len() <= HELD_MAX, "{} octets wait", held.len());
    }
    items
}

fuzz_target!(|octets: &[u8]| {
    let Some((step, octets)) = octets.split_first() else { return };
    let (step, whole) = (usize::from(*step).max(1), octets.len().max(1));
    assert_eq!(opening(octets, whole), opening(octets, step));
    for role in [Role::Server, Role::Client] {
        let all = items(octets, whole, role);
        assert_eq!(all, items(octets, step, role));
        for item in all {
            let Item::Message(message) = item else { continue };
            assert!(message.len() <= BOUND);
            if let Ok(parsed) = Message::from_websocket(message.clone()) {
                assert_eq!(parsed.octets(), &message);
                assert_eq!(
                    Message::from_datagram(Bytes::clone(&message)).expect("one grammar").octets(),
                    &message
                );
            }
        }
    }
});
