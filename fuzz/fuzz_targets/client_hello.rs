//! A ClientHello is read the same however it is cut into pieces and into records.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipward::transport::client_hello::{Assembler, ClientHello, MESSAGE_MAX, psk_identity};

fuzz_target!(|input: (u8, u8, Vec<u8>)| {
    let (size, piece, body) = input;
    let (size, piece) = (usize::from(size).max(body.len() / 60 + 1), usize::from(piece).max(1));
    let _ = psk_identity(&body);
    // The octets as a connection would bring them.
    let mut bare = Assembler::hello();
    let mut whole = false;
    for part in body.chunks(piece) {
        let Ok(found) = bare.push(part) else { break };
        whole |= found.is_some();
    }
    assert!(!whole || body.len() >= 9);
    // The octets as the body of a message.
    if body.len() > MESSAGE_MAX {
        return;
    }
    let expected = ClientHello::read(&body);
    let length = u32::try_from(body.len()).expect("bounded").to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    let mut octets = Vec::new();
    for part in message.chunks(size) {
        let length = u16::try_from(part.len()).expect("bounded").to_be_bytes();
        octets.extend([22, 3, 3, length[0], length[1]]);
        octets.extend(part);
    }
    let mut assembler = Assembler::hello();
    let mut found = None;
    for part in octets.chunks(piece) {
        assert!(found.is_none(), "whole before its last octet");
        found = assembler.push(part).expect("well framed").map(ClientHello::read);
    }
    assert_eq!(found, Some(expected));
});
