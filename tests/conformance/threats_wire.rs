//! Attacks on the wire: V-01 to V-06, V-83, V-84 and V-87, as far as octets decide.

use bytes::{Bytes, BytesMut};
use sipward::wire::{
    Address, Credentials, Edits, Fault, Framed, Framer, Message, Method, Name, Uri, check, message,
    scan,
};

use crate::torture::read;

const REST: &str = "Via: SIP/2.0/TCP h;branch=z9hG4bKx\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";
const FROM: &str = "From: <sip:a@b>;tag=1\r\n";
const TO: &str = "To: <sip:a@b>\r\n";

fn request(lines: &str) -> Vec<u8> {
    format!("OPTIONS sip:a@b SIP/2.0\r\n{REST}{lines}\r\n").into_bytes()
}

fn fault(octets: &[u8]) -> Option<Fault> {
    read(octets).err().map(|why| why.fault)
}

fn on_stream(octets: &[u8]) -> Framed {
    Framer::new().next(&mut BytesMut::from(octets), message::MESSAGE_MAX)
}

/// V-01. A line end that only some readers see hides no second Content-Length.
#[test]
fn v_01_bare_line_ends_hide_nothing() {
    for hidden in [
        "Subject: x\nContent-Length: 4\r\n",
        "Subject: x\rContent-Length: 4\r\n",
        "Subject: x\r\rContent-Length: 4\r\n",
        "Subject: x\n\nContent-Length: 4\r\n",
        "Subject: x\r\n\nContent-Length: 4\r\n",
        "Subject: x\n\r\nContent-Length: 4\r\n",
        "Subject: x\r\n \rContent-Length: 4\r\n",
    ] {
        let octets = request(&format!("{FROM}{TO}Content-Length: 0\r\n{hidden}"));
        assert_eq!(fault(&octets), Some(Fault::BareLineEnd), "{hidden:?}");
        let framed = on_stream(&octets);
        assert!(
            matches!(&framed, Framed::Broken(why) if why.fault == Fault::BareLineEnd),
            "{hidden:?}: {framed:?}"
        );
    }
    assert_eq!(Fault::BareLineEnd.status(), 400);
}

/// V-02. One Content-Length, and one reading of it; the same for responses.
#[test]
fn v_02_content_length_has_one_reading() {
    for (lines, length) in [
        ("Content-Length:  4\t\r\n", Some(4)),
        ("l: 4\r\n", Some(4)),
        ("Content-Length: 00000000000000000000000000000000000004\r\n", Some(4)),
        ("Content-Length: 4\r\nContent-Length: 4\r\n", None),
        ("Content-Length: 4\r\nContent-Length: 0\r\n", None),
        ("l: 4\r\nContent-Length: 4\r\n", None),
        ("Content-Length : 4\r\nL\t: 4\r\n", None),
        ("Content-Length: +4\r\n", None),
        ("Content-Length: -1\r\n", None),
        ("Content-Length: 0x4\r\n", None),
        ("Content-Length: 4 4\r\n", None),
        ("Content-Length: 4,4\r\n", None),
        ("Content-Length: 4;\r\n", None),
        ("Content-Length: 4.0\r\n", None),
        ("Content-Length: 4e0\r\n", None),
        ("Content-Length: \u{664}\r\n", None),
        ("Content-Length: 4294967296\r\n", None),
        ("Content-Length: 4294967300\r\n", None),
        ("Content-Length: 18446744073709551616\r\n", None),
        ("Content-Length: 18446744073709551620\r\n", None),
        ("Content-Length:\r\n", None),
        ("Content-Length: \r\n 4\r\n 4\r\n", None),
    ] {
        let asked = [request(&format!("{FROM}{TO}{lines}")), b"abcd".to_vec()].concat();
        let line = b"OPTIONS sip:a@b SIP/2.0".len();
        let answer = [b"SIP/2.0 200 OK", &asked[line..]].concat();
        for octets in [asked, answer] {
            let found = read(&octets);
            assert_eq!(found.as_ref().ok().map(|found| found.body().len()), length, "{lines:?}");
            let expected = length.is_none().then_some(Fault::ContentLength);
            assert_eq!(found.err().map(|why| why.fault), expected, "{lines:?}");
            match on_stream(&octets) {
                Framed::Message(found) => assert_eq!(Some(found.body().len()), length, "{lines:?}"),
                Framed::Broken(why) => assert_eq!(Some(why.fault), expected, "{lines:?}"),
                other => panic!("{lines:?}: {other:?}"),
            }
        }
    }
    let missing = request(&format!("{FROM}{TO}"));
    assert!(
        matches!(on_stream(&missing), Framed::Broken(why) if why.fault == Fault::ContentLength)
    );
}

/// V-03. Whatever is legal as P-Asserted-Identity is found and goes; what is not legal as a name is 400.
#[test]
fn v_03_an_identity_header_is_found_in_every_spelling() {
    let good = "Subject: kept\r\n";
    for lines in [
        "P-Asserted-Identity: <sip:evil@b>\r\n",
        "P-Asserted-Identity : <sip:evil@b>\r\n",
        "P-Asserted-Identity\t \t:<sip:evil@b>\r\n",
        "p-aSSERTED-iDENTITY: <sip:evil@b>\r\n",
        "P-Asserted-Identity:\r\n <sip:evil@b>\r\n",
        "P-Asserted-Identity: <sip:evil@b>,\r\n\t<tel:+1>\r\n",
        "P-Asserted-Identity: <sip:evil@b>\r\nP-ASSERTED-IDENTITY: <tel:+1>\r\n",
        "P-Asserted-Identity:\r\n",
        "P-Asserted-Identity: \"unclosed <sip:evil@b>\r\n",
    ] {
        let octets = request(&format!("{FROM}{lines}{good}{lines}{TO}"));
        let message = read(&octets).unwrap_or_else(|why| panic!("{lines:?}: {:?}", why.fault));
        let mut edits = Edits::new();
        edits.remove_all(&message, Name::PAssertedIdentity);
        edits.insert(message.head_end(), |text| {
            text.field("P-Asserted-Identity", |value| {
                value.put("<sip:true@b>");
            });
        });
        let out = edits.apply(&message).expect("printable");
        let seen = read(&out).expect("well formed");
        let values: Vec<_> = seen.values(Name::PAssertedIdentity).collect();
        assert_eq!(values, [b"<sip:true@b>"], "{lines:?}");
        let text = String::from_utf8(out).expect("ASCII").to_lowercase();
        assert_eq!(text.matches("asserted").count(), 1, "{lines:?}");
        assert!(!text.contains("evil") && text.contains("subject: kept\r\n"), "{lines:?}");
    }
    for name in [
        "P-Asserted-Identity\0",
        "\0P-Asserted-Identity",
        "P-Asserted\0-Identity",
        "P-Asserted-Identity\u{b}",
        "P-Asserted-Identity\u{c}",
        "P-Asserted-Identity\u{a0}",
        "P-Asserted\u{ad}-Identity",
        "P-Asserted-Identit\u{443}",
        "P-Asserted Identity",
        "P-Asserted-Identity;x",
        "(c) P-Asserted-Identity",
    ] {
        let octets = request(&format!("{FROM}{TO}{name}: <sip:evil@b>\r\n"));
        assert_eq!(fault(&octets), Some(Fault::HeaderName), "{name:?}");
    }
    let latin = [
        request(&format!("{FROM}{TO}"))[..].strip_suffix(b"\r\n").expect("a blank line"),
        b"P-Asserted-Identity\xa0: x\r\n\r\n",
    ]
    .concat();
    assert_eq!(fault(&latin), Some(Fault::HeaderName), "an octet of no character set");
}

/// V-04. Only a real tag makes a request belong to a dialog.
#[test]
fn v_04_only_a_real_tag_is_a_tag() {
    for (to, tag) in [
        ("<sip:a@b>;tag=x", Some("x")),
        ("<sip:a@b>;Tag=x", Some("x")),
        ("<sip:a@b> ; TAG = x", Some("x")),
        ("<sip:a@b>\r\n ;tag=x", Some("x")),
        ("sip:a@b;tag=x", Some("x")),
        ("<sip:a@b>;tag", Some("")),
        ("<sip:a@b>;tag=", Some("")),
        ("<sip:a@b>;tag= ", Some("")),
        ("\"tag=x\" <sip:a@b>", Some("")),
        ("\";tag=x\" <sip:a@b>", Some("")),
        ("tag <sip:a@b>", Some("")),
        ("<sip:a@b;tag=x>", Some("")),
        ("<sip:a@b?tag=x>", Some("")),
        ("<sip:tag=x@b>", Some("")),
        ("<sip:a@b>;x=\";tag=x\"", Some("")),
        ("<sip:a@b>;tag=\"x\"", Some("")),
        ("<sip:a@b>;xtag=x", Some("")),
        ("<sip:a@b>;tag-x=x", Some("")),
        ("<sip:a@b>;t%61g=x", Some("")),
        ("<sip:a@b> (;tag=x)", None),
        ("<sip:a@b>;x=(;tag=x)", None),
        ("<sip:a@b>;\u{1}tag=x", None),
        ("<sip:a@b>;tag=\u{1}x", None),
        ("<sip:a@b>;;tag=x", None),
        ("<sip:a@b>,;tag=x", None),
        ("<sip:a@b>tag=x", None),
        ("<sip:a@b>;tag=x;tag=y", None),
        ("<sip:a@b>;tag;tag=y", None),
    ] {
        let found = read(&request(&format!("{FROM}To: {to}\r\n")));
        match tag {
            Some(tag) => {
                let message = found.unwrap_or_else(|why| panic!("{to:?}: {:?}", why.fault));
                assert_eq!(message.to_tag(), tag.as_bytes(), "{to:?}");
            }
            None => {
                assert_eq!(found.err().map(|why| why.fault), Some(Fault::HeaderMalformed), "{to:?}")
            }
        }
    }
    for second in ["To: <sip:a@b>;tag=x\r\n", "t: <sip:a@b>;tag=x\r\n", "tO\t: <sip:a@b>\r\n"] {
        let octets = request(&format!("{FROM}{TO}{second}"));
        assert_eq!(fault(&octets), Some(Fault::HeaderTwice), "{second:?}");
    }
}

/// V-05, with V-08. At the bound accepted, one over it 400.
#[test]
fn v_05_values_at_their_bounds() {
    let (call_id, via) = ("Call-ID: c\r\n", "Via: SIP/2.0/UDP h\r\n");
    for (before, after, rest) in [
        ("From: <sip:a@b>;tag=", "", format!("{TO}{call_id}{via}")),
        ("From: \"", "\" <sip:a@b>;tag=1", format!("{TO}{call_id}{via}")),
        ("To: <sip:", "@b>", format!("{FROM}{call_id}{via}")),
        ("Call-ID: ", "", format!("{FROM}{TO}{via}")),
        ("Via: SIP/2.0/UDP h;branch=z9hG4bK", "", format!("{FROM}{TO}{call_id}")),
    ] {
        for (length, expected) in
            [(scan::LINE_MAX, None), (scan::LINE_MAX + 1, Some(Fault::LineTooLong))]
        {
            let filler = "x".repeat(length - before.len() - after.len() - 2);
            let octets = format!(
                "OPTIONS sip:a@b SIP/2.0\r\nCSeq: 1 OPTIONS\r\n{rest}{before}{filler}{after}\r\n\r\n"
            );
            assert_eq!(fault(octets.as_bytes()), expected, "{before}: {length}");
        }
    }
    assert_eq!(Fault::LineTooLong.status(), 400);
    for (fields, expected) in
        [(scan::FIELDS_MAX, None), (scan::FIELDS_MAX + 1, Some(Fault::TooManyFields))]
    {
        let lines = "Q: 1\r\n".repeat(fields - 5);
        assert_eq!(fault(&request(&format!("{FROM}{TO}{lines}"))), expected, "{fields} fields");
    }
    for (vias, expected) in
        [(check::VIA_MAX, None), (check::VIA_MAX + 1, Some(Fault::TooManyValues))]
    {
        let lines = "v: SIP/2.0/UDP h\r\n".repeat(vias - 1);
        assert_eq!(fault(&request(&format!("{FROM}{TO}{lines}"))), expected, "{vias} Vias");
    }
    for (routes, expected) in
        [(check::ROUTE_MAX, None), (check::ROUTE_MAX + 1, Some(Fault::TooManyValues))]
    {
        let lines = "Route: <sip:a@b;lr>\r\n".repeat(routes);
        assert_eq!(fault(&request(&format!("{FROM}{TO}{lines}"))), expected, "{routes} Routes");
    }
    for second in ["From: <sip:c@d>;tag=2\r\n", "f: <sip:a@b>;tag=1\r\n", "F : <sip:a@b>\r\n"] {
        assert_eq!(
            fault(&request(&format!("{FROM}{second}{TO}"))),
            Some(Fault::HeaderTwice),
            "{second:?}"
        );
    }
    for (number, accepted) in [
        ("0", true),
        ("2147483647", true),
        ("2147483648", true),
        ("4294967295", true),
        ("4294967296", false),
        ("18446744073709551615", false),
        ("18446744073709551616", false),
        ("-1", false),
        ("+1", false),
        ("1.0", false),
    ] {
        let octets = request(&format!("{FROM}{TO}")).to_vec();
        let text = String::from_utf8(octets)
            .expect("ASCII")
            .replace("CSeq: 1 ", &format!("CSeq: {number} "));
        let found =
            read(text.as_bytes()).ok().and_then(|message| message.cseq().map(|cseq| cseq.number));
        assert_eq!(
            found.map(|number| number.to_string()).as_deref(),
            accepted.then_some(number),
            "CSeq {number}"
        );
    }
}

/// V-06. Broken Digest credentials are 400; another scheme is no credential; no value of two wins.
#[test]
fn v_06_credentials_have_one_reading() {
    let many = |count: usize| {
        let params: Vec<_> = (0..count).map(|at| format!("p{at}=1")).collect();
        format!("Digest {}", params.join(","))
    };
    for (row, expected) in [
        ("Digest username=\"a\", realm=\"r\", nc=00000001".to_owned(), Ok(true)),
        ("digest\r\n username=\"a\"".to_owned(), Ok(true)),
        ("Digest username=\"a\\\"b\\\\\"".to_owned(), Ok(true)),
        ("Digest username=\"\", realm=\"\"".to_owned(), Ok(true)),
        ("Digest username=, realm=\"r\"".to_owned(), Ok(true)),
        ("Digest".to_owned(), Ok(true)),
        (many(64), Ok(true)),
        ("Basic YTpi".to_owned(), Ok(false)),
        ("NTLM TlRMTVNTUAAB".to_owned(), Ok(false)),
        ("Bearer x".to_owned(), Ok(false)),
        ("Digestx username=\"a\"".to_owned(), Ok(false)),
        ("NoOneKnowsThisScheme opaque-data=here".to_owned(), Ok(false)),
        ("\"Digest\" username=\"a\"".to_owned(), Ok(false)),
        (String::new(), Ok(false)),
        (many(65), Err(Fault::CredentialsMalformed)),
        (many(10_000), Err(Fault::CredentialsMalformed)),
        ("Digest username=\"a".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest username=\"a, realm=\"r\"".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest username=a\"".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest username=\"a\\\"".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest username=\"a\"b".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest username".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest =\"a\"".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest user name=\"a\"".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest response=\"a\", response=\"a\"".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest response=\"a\", RESPONSE=b".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest username=\"a\", username*=UTF-8''a".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest nc=0000001".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest nc=000000001".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest nc=0000000g".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest nc=+0000001".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest nc=".to_owned(), Err(Fault::CredentialsMalformed)),
        ("Digest realm=\"a\", Digest realm=\"b\"".to_owned(), Err(Fault::CredentialsMalformed)),
    ] {
        let found = Credentials::parse(row.as_bytes()).map(|found| found.is_some());
        assert_eq!(found, expected, "{}", row.get(..80).unwrap_or(&row));
    }
    assert_eq!(Fault::CredentialsMalformed.status(), 400);
    let escaped =
        Credentials::parse(br#"Digest username="a\"b\\c""#).expect("well formed").expect("Digest");
    assert_eq!(escaped.param("username"), Some(&br#"a"b\c"#[..]));
}

/// V-83. Every spelling of one identity is that identity, and nothing else is.
#[test]
fn v_83_identities_are_compared_decoded() {
    let identity = |uri: &str| Uri::parse(uri.as_bytes()).map(|uri| uri.identity());
    let alice = identity("sip:alice@example.net");
    for same in [
        "sip:%61lice@example.net",
        "sip:%61%6c%69%63%65@example.net",
        "sip:alice@EXAMPLE.net.",
        "sip:alice@example.net:5060;x",
        "sips:alice@example.net",
        "sip:alice@example.net?From=sip:bob%40example.net",
    ] {
        assert_eq!(identity(same), alice, "{same}");
    }
    for other in [
        "sip:alice%00@example.net",
        "sip:alice%00x@example.net",
        "sip:Alice@example.net",
        "sip:al%C0%A1ice@example.net",
        "sip:alice%20@example.net",
        "sip:alice@example.net.evil.example",
        "sip:alice@xn--exmple-cua.net",
        "sip:alice%40example.net@evil.example",
        "sip:alice:@example.net",
        "tel:alice",
    ] {
        assert_ne!(identity(other), alice, "{other}");
    }
    // A name outside ASCII has one form on the wire, the one with xn--.
    assert_eq!(identity("sip:alice@ex\u{e4}mple.net"), None);
    assert_eq!(identity("sip:alice@ex%C3%A4mple.net"), None);
    let display =
        Address::parse(b"\"sip:alice@example.net\" <sip:bob@example.net>").expect("an address");
    assert_eq!(Some(display.uri().identity()), identity("sip:bob@example.net"));
}

/// V-84. What is printed after an edit is read as it was before, but for the edit.
#[test]
fn v_84_a_printed_message_reads_as_before() {
    let octets = request(&format!(
        "{FROM}{TO}Subject :  a\r\n  b\r\ns2: \u{e9}\r\nContact:<sip:a@b> , <sip:c@d>\r\nMax-Forwards: 70\r\n"
    ));
    let message = read(&octets).expect("accepted");
    let mut edits = Edits::new();
    let hops = message.rows(Name::MaxForwards).next().expect("a row").value();
    edits.replace(hops, |text| {
        text.put_number(69);
    });
    let out = Bytes::from(edits.apply(&message).expect("printable"));
    let again = Message::from_datagram(out).expect("well formed");
    assert_eq!(again.max_forwards(), Some(69));
    for (before, after) in message.fields().iter().zip(again.fields()) {
        assert_eq!(before.name, after.name);
        if before.name != Name::MaxForwards {
            let (before, after) =
                (before.line().of(message.octets()), after.line().of(again.octets()));
            assert_eq!(before, after, "octet for octet");
        }
    }
}

/// V-87. A method is what it is, octet for octet.
#[test]
fn v_87_methods_and_versions_in_odd_spellings() {
    let long = "X".repeat(100);
    for (method, known) in [
        ("INVITE", Method::Invite),
        ("invite", Method::Other),
        ("Invite", Method::Other),
        ("IN%56ITE", Method::Other),
        ("INVITE.", Method::Other),
        ("INVIT", Method::Other),
        (&long, Method::Other),
    ] {
        let text = format!("{method} sip:a@b sIP/2.0\r\n{REST}{FROM}{TO}\r\n")
            .replace("1 OPTIONS", &format!("1 {method}"));
        let message = read(text.as_bytes()).expect("accepted");
        assert_eq!(message.method(), Some(known), "{method}");
        assert_eq!(message.method_octets(), method.as_bytes());
        let odd = text.replace(&format!("1 {method}"), "1 INVITE");
        let expected = match (method, known) {
            ("INVITE", _) => None,
            (_, Method::Other) => Some(Fault::MethodUnknown),
            _ => Some(Fault::MethodMismatch),
        };
        assert_eq!(fault(odd.as_bytes()), expected, "{method} with CSeq INVITE");
    }
    for line in
        ["INVITE  sip:a@b SIP/2.0", "INVITE sip:a@b  SIP/2.0", "INV\u{0}ITE sip:a@b SIP/2.0"]
    {
        let text = format!("{line}\r\n{REST}{FROM}{TO}\r\n");
        assert_eq!(fault(text.as_bytes()), Some(Fault::StartLine), "{line:?}");
    }
}
