//! RFC 5118: torture tests for IPv6 in SIP.

use std::net::IpAddr;

use sipward::wire::uri::host_address;
use sipward::wire::{Name, Text, Via, respond};

use crate::torture::{cases, read};

/// 4: each message, by name.
#[test]
fn all_12_messages_come_out_as_they_should() {
    let cases = cases("rfc5118");
    assert_eq!(cases.len(), 12);
    for case in &cases {
        case.run();
    }
}

fn octets(name: &str) -> Vec<u8> {
    let cases = cases("rfc5118");
    cases.into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("{name}")).octets
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

/// 4.3, 4.4: the port is what stands behind the bracket.
#[test]
fn a_port_stands_behind_the_bracket() {
    for (name, host, port) in [
        ("port-ambiguous", "2001:db8::10:5070", None),
        ("port-unambiguous", "2001:db8::10", Some(5070)),
    ] {
        let message = read(&octets(name)).expect("accepted");
        let uri = message.uri().expect("a URI");
        assert_eq!((host_address(uri.host()), uri.port()), (address(host), port), "{name}");
    }
}

/// 4.5: received is read with and without brackets, and written without.
#[test]
fn received_is_read_both_ways_and_written_one_way() {
    for name in ["via-received-param-with-delim", "via-received-param-no-delim"] {
        let message = read(&octets(name)).expect("accepted");
        let via = message.top_via().expect("a Via");
        assert_eq!(via.received(), address("2001:db8::9:255"), "{name}");
        let mut text = Text::new();
        let source = "[2001:db8::9:255]:5060".parse().expect("an address");
        let value = message.values(Name::Via).next().expect("a value");
        respond::put_top_via(&mut text, value, Via::parse(value).as_ref(), Some(source));
        let printed = text.finish().expect("printable");
        let printed = String::from_utf8(printed).expect("ASCII");
        assert!(printed.ends_with(";received=2001:db8::9:255"), "{name}: {printed}");
    }
}

/// 4.9: mapped addresses, and the port behind one.
#[test]
fn mapped_addresses_are_addresses() {
    let message = read(&octets("ipv4-mapped-ipv6")).expect("accepted");
    let vias: Vec<_> =
        message.values(Name::Via).map(|via| Via::parse(via).expect("a Via")).collect();
    assert_eq!(host_address(vias[0].host()), address("::ffff:192.0.2.10"));
    assert_eq!((vias[0].port(), vias[1].port()), (Some(19823), None));
}

/// 4.10: the colon too many is passed over.
#[test]
fn three_colons_are_two() {
    for name in ["ipv6-bug-abnf-3-colons", "ipv6-correct-abnf-2-colons"] {
        let message = read(&octets(name)).expect("accepted");
        let uri = message.uri().expect("a URI");
        assert_eq!(host_address(uri.host()), address("2001:db8::192.0.2.1"), "{name}");
    }
}
