//! No key, no permit: whatever the octets are, who has no key is answered, waits or is dropped, and nothing is held for
//! him (V-74).
//!
//! Inputs are whole messages: `cargo fuzz run gate fuzz/corpus/gate sip-fixtures/gate` begins with the fixtures.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use sipward::testing::{Lab, Peer};
use sipward::wire::{Message, check};

/// Requests that one edge judges before another takes its place.
const EACH: u32 = 1000;

thread_local! {
    static EDGE: RefCell<(Lab, u32)> = RefCell::new((Lab::default(), 0));
}

fuzz_target!(|octets: &[u8]| {
    let Ok(message) = Message::from_datagram(octets.to_vec().into()) else { return };
    if check::check(&message).is_err() || !message.is_request() {
        return;
    }
    EDGE.with_borrow_mut(|(lab, count)| {
        *count += 1;
        if *count >= EACH {
            (*lab, *count) = (Lab::default(), 0);
        }
        for peer in [
            Peer::udp("192.0.2.66:5060"),
            Peer::tcp("192.0.2.66:5060", 1),
            Peer::tls("192.0.2.66:5061", 2),
            Peer::wss("192.0.2.66:443", 3),
            Peer::stray("192.0.2.66:5060"),
        ] {
            let arrival = peer.arrival();
            let judged = lab.shared.gate.inspect(&message, &arrival, lab.now);
            assert!(judged.is_err(), "{peer:?}");
        }
        assert_eq!(lab.shared.gate.associations.footprint(), 0);
        assert_eq!(lab.shared.gate.authentication.flows().len(), 0);
    });
});
