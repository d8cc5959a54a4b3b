//! What is parsed prints as it came, and what the check lets pass can be answered with a message that passes too.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sipward::wire::{Edits, Message, Method, Name, Reply, check};

fuzz_target!(|octets: &[u8]| {
    let message = match Message::from_datagram(Bytes::copy_from_slice(octets)) {
        Ok(message) => message,
        Err(why) => {
            // What cannot be accepted may still be answered, and the answer is a message.
            let reply = why.rest.and_then(|rest| Reply::to(&rest, why.fault.status()).octets());
            if let Some(reply) = reply {
                Message::from_datagram(Bytes::from(reply)).expect("an answer is well formed");
            }
            return;
        }
    };
    assert!(octets.starts_with(message.octets()));
    let printed = Edits::new().apply(&message).expect("no new text");
    assert_eq!(&printed, message.octets());
    let mut edits = Edits::new();
    edits.retain(&message, Name::Route, |value| value.len() % 2 == 0);
    let edited = edits.apply(&message).expect("values of a message are printable");
    let edited = Message::from_datagram(Bytes::from(edited)).expect("well formed");
    assert_eq!(edited.body(), message.body());
    let kept = message.values(Name::Route).filter(|value| value.len() % 2 == 0).count();
    assert_eq!(edited.values(Name::Route).count(), kept);
    if check::check(&message).is_err()
        || message.method().is_none_or(|method| method == Method::Ack)
    {
        return;
    }
    let source = "192.0.2.1:5".parse().expect("an address");
    let reply =
        Reply::to(&message, 200).to_tag(b"ours").source(source).octets().expect("answerable");
    let reply = Message::from_datagram(Bytes::from(reply)).expect("an answer is well formed");
    assert_eq!(check::check(&reply), Ok(()));
    assert_eq!(reply.call_id(), message.call_id());
    assert_eq!(reply.cseq(), message.cseq());
    assert_eq!(reply.from_tag(), message.from_tag());
    assert!(!reply.to_tag().is_empty());
});
