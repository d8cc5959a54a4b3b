//! RFC 4475: the torture tests for SIP parsers, all 49.

use sipward::wire::{Address, Fault, Method, Name};

use crate::torture::{cases, read};

/// 3: each message of the archive, by name.
#[test]
fn all_49_messages_come_out_as_they_should() {
    let cases = cases("rfc4475");
    assert_eq!(cases.len(), 49);
    for case in &cases {
        case.run();
    }
}

fn octets(name: &str) -> Vec<u8> {
    let cases = cases("rfc4475");
    cases.into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("{name}")).octets
}

/// 3.1.1.1: what a reader finds in the short tortuous INVITE.
#[test]
fn the_tortuous_invite_is_read_through_its_folds() {
    let message = read(&octets("wsinv")).expect("accepted");
    assert_eq!(message.max_forwards(), Some(68));
    assert_eq!(message.to_tag(), b"1918181833n");
    assert_eq!(message.from_tag(), b"98asjd8");
    assert_eq!(message.cseq().map(|cseq| (cseq.number, cseq.method)), Some((9, &b"INVITE"[..])));
    assert_eq!(message.body().len(), 150);
    let vias: Vec<_> = message
        .values(Name::Via)
        .map(|via| sipward::wire::Via::parse(via).expect("a Via"))
        .map(|via| (via.transport(), via.host(), via.branch()))
        .collect();
    assert_eq!(
        vias,
        [
            (&b"UDP"[..], &b"192.0.2.2"[..], &b"390skdjuw"[..]),
            (b"TCP", b"spindle.example.com", b"z9hG4bK9ikj8"),
            (b"UDP", b"192.168.255.111", b"z9hG4bK30239"),
        ]
    );
    let contact = message.addresses(Name::Contact).next().flatten().expect("a Contact");
    assert_eq!(contact.display(), br#""Quoted string \"\"""#);
    assert_eq!(contact.param("newparam"), Some(&b"newvalue"[..]));
    assert_eq!(contact.param("q"), Some(&b"0.33"[..]));
}

/// 3.1.1.3, 3.1.1.4: escapes are characters in URIs, and a NUL ends nothing.
#[test]
fn escapes_in_uris_are_characters() {
    let message = read(&octets("esc01")).expect("accepted");
    let user = sipward::wire::Uri::parse(b"sip:user@example.com").expect("a URI");
    assert_eq!(message.to().expect("To").uri().identity(), user.identity());
    let contact = message.addresses(Name::Contact).next().flatten().expect("a Contact");
    assert_eq!(contact.uri().param("lr"), Some(&b""[..]));
    let message = read(&octets("escnull")).expect("accepted");
    let contacts: Vec<_> = message
        .addresses(Name::Contact)
        .map(|address| address.expect("an address").uri().identity())
        .collect();
    assert_eq!(contacts.len(), 2);
    assert_ne!(contacts[0], contacts[1], "two users");
}

/// 3.1.1.5: a percent sign elsewhere is itself.
#[test]
fn no_escapes_elsewhere() {
    let message = read(&octets("esc02")).expect("accepted");
    assert_eq!(message.method(), Some(Method::Other));
    assert_eq!(message.values(Name::Contact).count(), 2);
    assert_eq!(message.fields_called("C%6Fntact").count(), 1);
}

/// 3.1.1.7: eighteen spellings of Via are one header.
#[test]
fn a_long_request_has_34_vias() {
    let message = read(&octets("longreq")).expect("accepted");
    assert_eq!(message.values(Name::Via).count(), 34);
}

/// 3.1.1.9: what is before the at sign is the user part.
#[test]
fn semicolons_of_a_user_part() {
    let message = read(&octets("semiuri")).expect("accepted");
    let uri = message.uri().expect("a URI");
    assert_eq!(uri.user(), Some(&b"user;par=u%40example.net"[..]));
    assert_eq!(uri.params(), b"");
}

/// 3.3.12, 3.3.13: whose parameter it is.
#[test]
fn parameters_of_contact_and_of_its_uri() {
    for (name, of_contact, of_uri) in [("cparam01", true, false), ("cparam02", false, true)] {
        let message = read(&octets(name)).expect("accepted");
        let contact: Address<'_> = message.addresses(Name::Contact).next().flatten().expect("one");
        assert_eq!(contact.param("unknownparam").is_some(), of_contact, "{name}");
        assert_eq!(contact.uri().param("unknownparam").is_some(), of_uri, "{name}");
    }
}

/// 3.1.2.15: with the blank line that its octets lack, the display name is what is wrong.
#[test]
fn a_display_name_with_a_comma_needs_quotes() {
    let whole = [octets("baddn"), b"\r\n".to_vec()].concat();
    assert_eq!(read(&whole).expect_err("refused").fault, Fault::HeaderMalformed);
}
