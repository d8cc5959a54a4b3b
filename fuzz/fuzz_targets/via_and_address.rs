//! A Via or an address that is accepted has parts that, printed anew, are read as the same parts.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use sipward::wire::{Address, Event, Features, MediaType, Text, Via, respond, split};

fuzz_target!(|octets: &[u8]| {
    // A value of a message: no line end that is not a fold.
    if octets.iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
        return;
    }
    let _ = (Event::parse(octets), MediaType::parse(octets));
    if let Some(features) = Features::parse(octets) {
        let _ = features.claims("+g.3gpp.icsi-ref").count();
    }
    if let Some(via) = Via::parse(octets) {
        let source = SocketAddr::from(([192, 0, 2, 1], 5060));
        let mut text = Text::new();
        respond::put_top_via(&mut text, octets, Some(&via), Some(source));
        let text = text.finish().expect("printable");
        assert_eq!(split::commas(&text).count(), 1, "one value stays one value");
        let again = Via::parse(&text).expect("a Via");
        assert_eq!(again.transport(), via.transport());
        assert_eq!((again.host(), again.port()), (via.host(), via.port()));
        assert_eq!(again.branch(), via.branch());
        if via.param("rport").is_some() {
            assert_eq!((again.received(), again.rport()), (Some(source.ip()), Some(5060)));
        }
    }
    if let Some(address) = Address::parse(octets) {
        let mut text = Text::new();
        text.put_unfolded(address.display()).put("<").put(address.uri().octets()).put(">");
        for (name, value) in address.params().iter() {
            text.put(";").put(name);
            if let Some(value) = value {
                text.put("=").put_unfolded(value);
            }
        }
        let text = text.finish().expect("printable");
        assert_eq!(split::commas(&text).count(), 1, "one value stays one value");
        let again = Address::parse(&text).expect("an address");
        assert_eq!(again.tag(), address.tag());
        assert_eq!(again.display(), address.display());
        assert_eq!(again.uri().octets(), address.uri().octets());
        assert!(again.in_brackets());
    }
});
