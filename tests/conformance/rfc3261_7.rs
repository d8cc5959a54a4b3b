//! RFC 3261 section 7: what a message is made of.

use sipward::wire::{Fault, Method, Name};

use crate::torture::read;

const REST: &str = "Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n\
                    Call-ID: c\r\nCSeq: 1 OPTIONS\r\n";

fn with(lines: &str) -> Vec<u8> {
    format!("OPTIONS sip:a@b SIP/2.0\r\n{REST}{lines}\r\n").into_bytes()
}

/// 7.1: one space between method, Request-URI and version, none elsewhere; V-87.
#[test]
fn a_request_line_has_two_spaces() {
    for line in [
        "OPTIONS  sip:a@b SIP/2.0",
        "OPTIONS sip:a@b  SIP/2.0",
        "OPTIONS sip:a@b SIP/2.0 ",
        " OPTIONS sip:a@b SIP/2.0",
        "OPTIONS\tsip:a@b SIP/2.0",
        "OPTIONS sip:a@b\tSIP/2.0",
        "OPTIONS sip:a @b SIP/2.0",
        "OPTIONS sip:a@b\t SIP/2.0",
        "OPTIONS SIP/2.0",
        "OPTIONS",
        "",
        "OP(IONS sip:a@b SIP/2.0",
        "\u{e9} sip:a@b SIP/2.0",
    ] {
        let found = read(format!("{line}\r\n{REST}\r\n").as_bytes());
        assert_eq!(found.err().map(|why| why.fault), Some(Fault::StartLine), "{line:?}");
    }
}

/// 7.2: three digits from 100 to 699, and a space even if no reason follows.
#[test]
fn a_status_line_has_three_digits() {
    for (line, status) in [
        ("SIP/2.0 200 OK", Some(200)),
        ("SIP/2.0 699 ", Some(699)),
        ("SIP/2.0 100 a  b\tc", Some(100)),
        ("SIP/2.0 099 x", None),
        ("SIP/2.0 700 x", None),
        ("SIP/2.0 20 x", None),
        ("SIP/2.0 2000 x", None),
        ("SIP/2.0 2 0 x", None),
        ("SIP/2.0  200 OK", None),
        ("SIP/2.0 200", None),
        ("SIP/2.0\t200 OK", None),
        ("SIP/2.0 -20 x", None),
    ] {
        let found = read(format!("{line}\r\n{REST}\r\n").as_bytes()).ok();
        assert_eq!(found.and_then(|message| message.status()), status, "{line:?}");
    }
}

/// 7.3.1: white space before the colon, around the value, folds; names without case.
#[test]
fn a_header_is_the_same_header_however_it_is_spelt() {
    for line in [
        "Subject: lunch",
        "Subject:lunch",
        "Subject      :      lunch",
        "Subject\t:\tlunch \t",
        "sUBJECT: lunch",
        "s: lunch",
        "S : lunch",
        "Subject:\r\n lunch",
        "Subject:\r\n\t\r\n lunch\r\n ",
    ] {
        let message = read(&with(&format!("{line}\r\n"))).expect("accepted");
        let values: Vec<_> = message.fields_named(Name::Subject).collect();
        assert_eq!(values, [b"lunch"], "{line:?}");
    }
}

/// 7.3.1: a name is a token; anything else before the colon is 400.
#[test]
fn a_header_name_is_a_token() {
    for line in [
        "Sub ject: x",
        "Subject",
        ": x",
        "Sub\0ject: x",
        "Sub\u{b}ject: x",
        "Subject\u{c}: x",
        "Subject\u{a0}: x",
        "Sub\u{ad}ject: x",
        "Süb: x",
        "Sub(ject): x",
        "\u{1}Subject: x",
        "\"Subject\": x",
    ] {
        let found = read(&with(&format!("{line}\r\n")));
        assert_eq!(found.err().map(|why| why.fault), Some(Fault::HeaderName), "{line:?}");
    }
    assert_eq!(Fault::HeaderName.status(), 400);
}

/// 7.3.1: rows of one name and commas in one row are the same list, and the order is kept.
#[test]
fn rows_and_commas_are_one_list() {
    for lines in [
        "Route: <sip:a@b>\r\nSubject: x\r\nRoute: <sip:b@b>\r\nRoute: <sip:c@b>\r\n",
        "Route: <sip:a@b>, <sip:b@b>\r\nRoute: <sip:c@b>\r\nSubject: x\r\n",
        "Subject: x\r\nRoute: <sip:a@b>,\r\n <sip:b@b>\t,<sip:c@b>\r\n",
    ] {
        let message = read(&with(lines)).expect("accepted");
        let values: Vec<_> = message.values(Name::Route).collect();
        assert_eq!(values, [b"<sip:a@b>", b"<sip:b@b>", b"<sip:c@b>"], "{lines:?}");
    }
}

/// 7.3.1: rows of credentials are never joined or split at commas.
#[test]
fn credentials_are_one_in_a_row() {
    let message = read(&with(
        "Authorization: Digest username=\"a\", realm=\"one\"\r\nAuthorization: Digest username=\"b\", realm=\"two\"\r\n",
    ))
    .expect("accepted");
    let realms: Vec<_> = message
        .credentials(Name::Authorization)
        .map(|row| row.expect("well formed").realm().to_vec())
        .collect();
    assert_eq!(realms, [b"one", b"two"]);
}

/// 7.3.1: a quoted comma parts nothing, nor does one in angle brackets.
#[test]
fn commas_in_quotes_and_brackets_part_nothing() {
    let message = read(&with("Contact: \"a, \\\", <b\" <sip:a,b@c>;x=\"1,2\", <sip:d@e>\r\n"))
        .expect("accepted");
    let contacts: Vec<_> = message
        .addresses(Name::Contact)
        .map(|contact| contact.expect("an address").uri().octets())
        .collect();
    assert_eq!(contacts, [&b"sip:a,b@c"[..], b"sip:d@e"]);
}

/// 7.3.1, 20: headers that have one value are there once.
#[test]
fn single_headers_twice_are_refused() {
    for (first, second) in [
        ("Max-Forwards: 70", "max-forwards: 70"),
        ("Subject-To: x", "To: <sip:c@d>"),
        ("Q: y", "t: <sip:c@d>"),
        ("Q: y", "f: <sip:c@d>"),
        ("Q: y", "i: d"),
        ("Q: y", "CSeq: 2 OPTIONS"),
        ("Content-Type: a/b", "c: a/b"),
        ("Event: reg", "o: reg"),
        ("Expires: 5", "Expires: 5"),
        ("Refer-To: <sip:a@b>", "r : <sip:a@b>"),
        ("Session-Expires: 90", "x: 90"),
        ("Replaces: a;to-tag=b;from-tag=c", "Replaces: a;to-tag=b;from-tag=c"),
    ] {
        let found = read(&with(&format!("{first}\r\n{second}\r\n")));
        assert_eq!(found.err().map(|why| why.fault), Some(Fault::HeaderTwice), "{second}");
    }
    assert!(read(&with("Subject: a\r\nWarning: 1\r\nWarning: 2\r\nQ: 1\r\nQ: 2\r\n")).is_ok());
}

/// 8.1.1: Via, From, To, Call-ID and CSeq are there and whole.
#[test]
fn mandatory_headers_are_there_and_whole() {
    for (name, bad) in [
        (
            "Via",
            &[
                "SIP/2.0/UDP",
                "SIP/2.0 h",
                ",SIP/2.0/UDP h",
                "SIP/2.0/UDP h,",
                "SIP/2.0/UDP h,,SIP/2.0/UDP h",
            ][..],
        ),
        (
            "From",
            &["", "x", "<sip:a@b", "<sip:a@b>;tag=1;tag=2", "<sip:a@b>, <sip:c@d>", "sip:a@b?x=y"]
                [..],
        ),
        ("To", &["", "\"x <sip:a@b>", "<sip:a b@c>", "< sip:a@b>", "x, y <sip:a@b>"][..]),
        ("Call-ID", &["", "a b", "a\tb", "a\u{1}", "\u{e9}"][..]),
        (
            "CSeq",
            &[
                "",
                "1",
                "OPTIONS",
                "x OPTIONS",
                "-1 OPTIONS",
                "4294967296 OPTIONS",
                "1 OPT(IONS",
                "1 OPTIONS x",
            ][..],
        ),
    ] {
        let without: String = REST
            .split_inclusive("\r\n")
            .filter(|line| !line.starts_with(&format!("{name}:")))
            .collect();
        let missing = format!("OPTIONS sip:a@b SIP/2.0\r\n{without}\r\n");
        let found = read(missing.as_bytes()).err().map(|why| why.fault);
        assert_eq!(found, Some(Fault::HeaderMissing), "{name}");
        for value in bad {
            let broken = format!("OPTIONS sip:a@b SIP/2.0\r\n{name}: {value}\r\n{without}\r\n");
            let found = read(broken.as_bytes()).err().map(|why| why.fault);
            // A list without a value in it is no list.
            assert_eq!(found, Some(Fault::HeaderMalformed), "{name}: {value:?}");
        }
    }
}

/// 7.1: methods are compared with case.
#[test]
fn methods_have_case() {
    let text = format!("options sip:a@b SIP/2.0\r\n{}\r\n", REST.replace("OPTIONS", "options"));
    let message = read(text.as_bytes()).expect("accepted");
    assert_eq!(message.method(), Some(Method::Other));
    assert_eq!(message.method_octets(), b"options");
}
