//! Section 13 of the edge's checklist: identity and privilege headers, row by row, in each direction. RFC 3325, 5876.

use sipward::forward::asserted::{Asserted, FromCheck, Passage, Settings, Trust};
use sipward::identity::Impu;
use sipward::refusal::{Answer, Refusal};
use sipward::wire::{Edits, Message, Name, split};

const OURS: Passage = Passage { from: Trust::Ours, to: Trust::Ours };

fn identities() -> Vec<Impu> {
    ["sip:alice@example.net", "tel:+12015550123", "sip:al@example.net"]
        .into_iter()
        .map(|text| Impu::new(text).expect("an identity"))
        .collect()
}

fn with(start: &str, from: &str, rows: &str) -> Message {
    let method = start.split(' ').next().unwrap_or_default();
    let method = if method == "SIP/2.0" { "INVITE" } else { method };
    let octets = format!(
        "{start}\r\n\
         Via: SIP/2.0/UDP ua.example;branch=z9hG4bK1\r\n\
         f: {from};tag=f\r\n\
         To: <sip:al@example.net>\r\n\
         Call-ID: c\r\n\
         CSeq: 1 {method}\r\n\
         {rows}\
         X-Last: 1\r\n\
         Content-Length: 4\r\n\r\nbody"
    );
    Message::from_datagram(octets.into()).expect("well formed")
}

fn request(rows: &str) -> Message {
    with("INVITE sip:bob@example.net SIP/2.0", "<sip:alice@example.net>", rows)
}

fn response(rows: &str) -> Message {
    with("SIP/2.0 200 OK", "<sip:alice@example.net>", rows)
}

/// What leaves, for a caller with those identities.
fn dressed(
    message: &Message,
    passage: Passage,
    settings: &Settings,
    identities: Option<&[Impu]>,
    service: Option<&str>,
) -> Result<Message, Refusal> {
    let is_own_realm = |realm: &[u8]| realm == b"example.net";
    let asserted = Asserted {
        settings,
        identities,
        service,
        is_own_realm: &is_own_realm,
        own_rows: None,
        sec_agree: false,
    };
    let mut edits = Edits::new();
    asserted.dress(message, passage, &mut edits)?;
    let octets = edits.apply(message).expect("printable");
    Ok(Message::from_datagram(octets.into()).expect("still a message"))
}

/// The rows that leave between CSeq and X-Last, and the row asserted behind Content-Length.
fn rows(message: &Message) -> (String, String) {
    let octets = message.octets();
    let at = |name: Name| message.rows(name).next().expect("there").line();
    let last = message
        .fields()
        .iter()
        .find(|field| field.name_span().of(octets) == b"X-Last")
        .expect("what came after is still there");
    let text = |from: usize, to: usize| String::from_utf8_lossy(&octets[from..to]).into_owned();
    assert!(octets.ends_with(b"\r\n\r\nbody"), "the body is as it came");
    (
        text(at(Name::CSeq).end(), last.line().start()),
        text(at(Name::ContentLength).end(), message.head_end()),
    )
}

fn kept(message: &Message, passage: Passage, settings: &Settings) -> String {
    let own = identities();
    rows(&dressed(message, passage, settings, Some(&own), None).expect("no refusal")).0
}

/// The table: for each row what is left of it on the way in and on the way out, at default settings.
#[test]
fn the_table_row_by_row() {
    let settings = Settings::default();
    // header and value; from a UE; to a UE; both for requests and for responses
    for (row, inward, outward) in [
        ("P-Asserted-Identity: <sip:x@y>", false, true),
        ("Remote-Party-ID: <sip:x@y>;party=calling", false, true),
        ("P-Asserted-Service: urn:urn-7:3gpp-service.ims.icsi.mmtel", false, false),
        ("P-Preferred-Service: urn:urn-7:3gpp-service.ims.icsi.mmtel", true, false),
        ("Privacy: user", true, true),
        ("Identity: eyJ;info=<https://a.example/c>;alg=ES256", true, true),
        ("P-Access-Network-Info: 3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=1", true, false),
        ("P-Access-Network-Info: 3GPP-E-UTRAN-FDD; x=1;network-provided", false, false),
        ("P-Visited-Network-ID: \"x\"", false, false),
        ("P-Charging-Vector: icid-value=1", false, false),
        ("P-Charging-Function-Addresses: ccf=192.0.2.1", false, false),
        ("P-Charge-Info: <sip:x@y>", false, false),
        ("P-Served-User: <sip:x@y>", false, false),
        ("P-User-Database: <aaa://h>", false, false),
        ("P-Profile-Key: <sip:x@y>", false, false),
        ("P-Private-Network-Indication: x.example", false, false),
        ("P-Early-Media: supported", false, false),
        ("P-Refused-URI-List: sip:x@y", false, false),
        ("P-Associated-URI: <sip:x@y>", false, true),
        ("P-Called-Party-ID: <sip:x@y>", false, true),
        ("History-Info: <sip:x@y>;index=1", false, true),
        ("Diversion: <sip:x@y>;reason=unknown", false, true),
        ("Feature-Caps: *;+g.x", false, true),
        ("Security-Client: tls", true, true),
        ("Security-Verify: tls", true, true),
        ("Security-Server: tls", true, true),
        ("Authorization: Digest realm=\"example.net\"", false, false),
        ("Proxy-Authorization: Digest username=\"u\", realm=\"example.net\"", false, false),
        ("Authorization: Digest realm=\"other.example\"", true, true),
        ("Proxy-Authorization: Bearer abc", false, false),
        ("Alert-Info: <http://x.example/>", false, true),
        ("Call-Info: <http://x.example/>;answer-after=0", false, true),
        ("Answer-Mode: Auto", false, true),
        ("Priv-Answer-Mode: Auto", false, true),
        ("Resource-Priority: dsn.flash", false, true),
        ("X-3GPP-Asserted-Identity: \"x\"", false, false),
        ("x-3gpp-other: x", false, false),
        ("X-Mine: x", true, true),
        ("User-Agent: x", true, true),
        ("Contact: <sip:x@y>", true, true),
        ("Route: <sip:x@y;lr>", true, true),
        ("Record-Route: <sip:x@y;lr>", true, true),
    ] {
        let row = format!("{row}\r\n");
        for (message, kind) in [(request(&row), "request"), (response(&row), "response")] {
            for (passage, stays) in [(Passage::INWARD, inward), (Passage::OUTWARD, outward)] {
                let expected = if stays { row.as_str() } else { "" };
                let left = kept(&message, passage, &settings);
                assert_eq!(left, expected, "{kind} {passage:?}: {row}");
            }
        }
        let private = row.starts_with("P-Preferred")
            || ["realm=\"example.net\"", "Bearer"].iter().any(|own| row.contains(own));
        let expected = if private { "" } else { row.as_str() };
        assert_eq!(kept(&request(&row), OURS, &settings), expected, "between peers: {row}");
    }
}

/// Path and Service-Route: not in requests of a UE; in responses they stay (RG-07).
#[test]
fn path_and_service_route() {
    let settings = Settings::default();
    for row in ["Path: <sip:x@y;lr>\r\n", "Service-Route: <sip:x@y;lr>\r\n"] {
        assert_eq!(kept(&request(row), Passage::INWARD, &settings), "", "{row}");
        assert_eq!(kept(&request(row), Passage::OUTWARD, &settings), row, "{row}");
        assert_eq!(kept(&response(row), Passage::OUTWARD, &settings), row, "{row}");
    }
}

/// P-Preferred-Identity goes no further in either direction, nor in a response.
#[test]
fn preferred_identity_goes_no_further() {
    let row = "P-Preferred-Identity: <sip:al@example.net>\r\n";
    for passage in [Passage::INWARD, Passage::OUTWARD, OURS] {
        for message in [request(row), response(row)] {
            assert_eq!(kept(&message, passage, &Settings::default()), "", "{passage:?}");
        }
    }
}

/// Where a listener makes security agreements (RFC 3329 section 2.3.1), they end at the edge.
#[test]
fn agreements_are_between_a_ue_and_the_edge() {
    let (inward, outward) = (Passage::INWARD, Passage::OUTWARD);
    for (passage, row, left) in [
        (inward, "Security-Client: tls\r\n", ""),
        (inward, "Security-Verify: tls\r\n", ""),
        (inward, "Security-Server: tls\r\n", ""),
        (outward, "Security-Server: tls\r\n", ""),
        (inward, "Require: sec-agree\r\n", ""),
        (inward, "Require: 100rel, Sec-Agree, x\r\n", "Require: 100rel, x\r\n"),
        (inward, "Proxy-Require: sec-agree\r\nRequire: y\r\n", "Require: y\r\n"),
        (inward, "Supported: sec-agree\r\n", "Supported: sec-agree\r\n"),
        (outward, "Require: sec-agree\r\n", "Require: sec-agree\r\n"),
    ] {
        let asserted = Asserted {
            settings: &Settings::default(),
            identities: Some(&identities()),
            service: None,
            is_own_realm: &|_| false,
            own_rows: None,
            sec_agree: true,
        };
        let mut edits = Edits::new();
        let message = request(row);
        asserted.dress(&message, passage, &mut edits).expect("no refusal");
        let octets = edits.apply(&message).expect("printable");
        let after = Message::from_datagram(octets.into()).expect("still a message");
        assert_eq!(rows(&after).0, left, "{passage:?} {row}");
    }
}

/// What settings turn on or off.
#[test]
fn settings_change_their_rows_alone() {
    let quiet = Settings { pai_to_ue: false, ..Settings::default() };
    let history = Settings { keep_history: true, ..Settings::default() };
    let paged =
        Settings { allowed: vec![Name::AnswerMode, Name::ResourcePriority], ..Settings::default() };
    let strip = Settings {
        strip_from_ue: ["X-Secret", "P-Mine-*", "Subject", "Via", "*"].map(String::from).into(),
        ..Settings::default()
    };
    let (inward, outward) = (Passage::INWARD, Passage::OUTWARD);
    for (what, settings, passage, row, stays) in [
        ("pai_to_ue", &quiet, outward, "P-Asserted-Identity: <sip:x@y>", false),
        ("pai_to_ue", &quiet, outward, "Remote-Party-ID: <sip:x@y>", false),
        ("pai_to_ue", &quiet, OURS, "P-Asserted-Identity: <sip:x@y>", true),
        ("history", &history, inward, "History-Info: <sip:x@y>;index=1", true),
        ("history", &history, inward, "Diversion: <sip:x@y>", true),
        ("allowed", &paged, inward, "Answer-Mode: Auto", true),
        ("allowed", &paged, inward, "Resource-Priority: dsn.flash", true),
        ("allowed", &paged, inward, "Priv-Answer-Mode: Auto", false),
    ] {
        let row = format!("{row}\r\n");
        let left = kept(&request(&row), passage, settings);
        assert_eq!(left, if stays { row.as_str() } else { "" }, "{what} {passage:?}: {row}");
    }
    let own = identities();
    let subject =
        "x-secret: 1\r\ns: hello\r\nP-MINE-a : 1\r\nContact: <sip:a@b>\r\nMax-Breadth: 9\r\n";
    for passage in [inward, outward] {
        let octets = request(subject).octets().clone();
        let message = Message::from_datagram(octets).expect("well formed");
        let asserted = Asserted {
            settings: &strip,
            identities: Some(&own),
            service: None,
            is_own_realm: &|_| false,
            own_rows: None,
            sec_agree: false,
        };
        let mut edits = Edits::new();
        asserted.dress(&message, passage, &mut edits).expect("no refusal");
        let left = Message::from_datagram(edits.apply(&message).expect("printable").into());
        let left = left.expect("still a message");
        sipward::wire::check::check(&left).expect("nothing that a message needs was stripped");
        assert!(left.first(Name::Subject).is_none() && left.first(Name::Contact).is_some());
        let names = |message: &Message| message.fields().len();
        let asserted_row = usize::from(passage == inward);
        // Via, From, To, Call-ID, CSeq, Contact, Max-Breadth, Content-Length; `*` takes every name that is not needed
        assert_eq!(names(&left), 8 + asserted_row, "{passage:?}");
    }
}

/// The spoof in ten spellings and more (V-03): each one is gone, and the header that leaves is there once, ours.
#[test]
fn ten_spellings_of_a_spoofed_identity() {
    for spoof in [
        "P-Asserted-Identity: <sip:mallory@example.net>\r\n",
        "P-Asserted-Identity : <sip:mallory@example.net>\r\n",
        "P-Asserted-Identity\t : <sip:mallory@example.net>\r\n",
        "p-asserted-identity:<sip:mallory@example.net>\r\n",
        "P-ASSERTED-IDENTITY: \"Alice\" <sip:mallory@example.net>\r\n",
        "p-AsSeRtEd-IdEnTiTy: tel:+19005550199\r\n",
        "P-Asserted-Identity:\r\n <sip:mallory@example.net>\r\n",
        "P-Asserted-Identity: \"a\r\n\tb\"\r\n <sip:mallory@example.net>\r\n",
        "P-Asserted-Identity: <sip:mallory@example.net>, <tel:+19005550199>\r\n",
        "P-Asserted-Identity: <sip:mallory@example.net>\r\nP-Asserted-Identity: <sip:m@x>\r\n",
        "Subject: a\r\nP-Asserted-Identity: <sip:mallory@example.net>\r\nSupported: b\r\n",
        "P-Asserted-Identity:\r\n",
        "P-Asserted-Identity: <sip:alice@example.net>\r\n",
        "P-Asserted-Identity: <sip:mallory\r\n",
        "Remote-Party-ID : <sip:mallory@example.net>\r\n",
    ] {
        let own = identities();
        for from in ["<sip:alice@example.net>", "<sip:mallory@example.net>"] {
            let message = with("INVITE sip:bob@example.net SIP/2.0", from, spoof);
            let left = dressed(&message, Passage::INWARD, &Settings::default(), Some(&own), None)
                .expect("no refusal");
            let text = String::from_utf8_lossy(left.octets()).to_ascii_lowercase();
            assert_eq!(text.matches("p-asserted-identity").count(), 1, "{spoof:?}");
            assert_eq!(
                text.matches("mallory").count(),
                from.matches("mallory").count(),
                "From alone is never rewritten: {spoof:?}"
            );
            let values: Vec<_> = left.values(Name::PAssertedIdentity).collect();
            assert_eq!(values, [b"<sip:alice@example.net>"], "{spoof:?}");
        }
    }
}

/// Names with an octet that no name may have never come so far: they are refused as no SIP.
#[test]
fn illegal_names_are_no_spelling() {
    for name in [
        &b"P-Asserted-Identity\0"[..],
        b"P-Asserted-Identity\x0b",
        b"P-Asserted-Identity\x0c",
        b"P-Asserted-Identity\xc2\xa0",
        b"P-Asserted-Identity\xc2\xad",
        b"P-Asserted\xe2\x80\x91Identity",
        b"P-Asserted-Identity\xa0",
        b"\xefP-Asserted-Identity",
        b"P-Asserted-Identity\x08",
    ] {
        let octets = [b"INVITE sip:b SIP/2.0\r\n", name, b": <sip:m@x>\r\n\r\n"].concat();
        assert!(Message::from_datagram(octets.into()).is_err(), "{name:?}");
    }
}

/// What is asserted: P-Preferred-Identity chooses, else From, else the default; our spelling of it, never theirs.
#[test]
fn the_asserted_identity_is_chosen() {
    let own = identities();
    for (what, from, preferred, expected) in [
        ("From", "<sip:alice@example.net>", "", "<sip:alice@example.net>"),
        (
            "From, spelt otherwise",
            "\"Bob\" <sips:%61lice@EXAMPLE.net.:5061;x=y>",
            "",
            "<sip:alice@example.net>",
        ),
        ("From, second identity", "sip:al@example.net", "", "<sip:al@example.net>"),
        ("From, tel", "<tel:+1-201-555-0123>", "", "<tel:+12015550123>"),
        (
            "From, the number as SIP",
            "<sip:+12015550123@gw.example;user=phone>",
            "",
            "<tel:+12015550123>",
        ),
        ("foreign From: default", "<sip:bob@example.net>", "", "<sip:alice@example.net>"),
        (
            "anonymous: default",
            "\"Anonymous\" <sip:anonymous@anonymous.invalid>",
            "",
            "<sip:alice@example.net>",
        ),
        ("preferred", "<sip:alice@example.net>", "<sip:al@example.net>", "<sip:al@example.net>"),
        (
            "preferred, with display name",
            "<sip:alice@example.net>",
            "\"Your Bank\" <sip:al@example.net>",
            "<sip:al@example.net>",
        ),
        ("preferred tel", "<sip:alice@example.net>", "tel:+12015550123", "<tel:+12015550123>"),
        (
            "both",
            "<sip:bob@example.net>",
            "<tel:+12015550123>, <sip:al@example.net>",
            "<sip:al@example.net>, <tel:+12015550123>",
        ),
        (
            "two of one kind: the first",
            "<sip:alice@example.net>",
            "<sip:al@example.net>, <sip:alice@example.net>",
            "<sip:al@example.net>",
        ),
    ] {
        let row = if preferred.is_empty() {
            String::new()
        } else {
            format!("P-Preferred-Identity: {preferred}\r\n")
        };
        let message = with("INVITE sip:bob@example.net SIP/2.0", from, &row);
        let left =
            dressed(&message, Passage::INWARD, &Settings::default(), Some(&own), None).expect(what);
        let expected = format!("P-Asserted-Identity: {expected}\r\n");
        assert_eq!(rows(&left), (String::new(), expected), "{what}");
    }
}

/// RFC 5876: any request but ACK and CANCEL is asserted; responses are not.
#[test]
fn every_request_but_ack_and_cancel() {
    let own = identities();
    for (method, asserted) in [
        ("INVITE", true),
        ("BYE", true),
        ("OPTIONS", true),
        ("SUBSCRIBE", true),
        ("NOTIFY", true),
        ("PUBLISH", true),
        ("REFER", true),
        ("UPDATE", true),
        ("PRACK", true),
        ("INFO", true),
        ("MESSAGE", true),
        ("REGISTER", true),
        ("NEWLY", true),
        ("ACK", false),
        ("CANCEL", false),
    ] {
        let start = format!("{method} sip:b@example.net SIP/2.0");
        let spoof =
            "P-Asserted-Identity: <sip:m@x>\r\nP-Preferred-Identity: <sip:al@example.net>\r\n";
        let message = with(&start, "<sip:alice@example.net>", spoof);
        let left = dressed(&message, Passage::INWARD, &Settings::default(), Some(&own), None)
            .expect(method);
        let expected = if asserted { "P-Asserted-Identity: <sip:al@example.net>\r\n" } else { "" };
        assert_eq!(rows(&left), (String::new(), expected.to_owned()), "{method}");
    }
    for passage in [Passage::OUTWARD, OURS] {
        let left = dressed(&request(""), passage, &Settings::default(), Some(&own), None);
        assert_eq!(rows(&left.expect("no refusal")).1, "", "{passage:?}");
    }
}

/// RG-08: REGISTER is asserted as the identity that it registers.
#[test]
fn register_is_asserted_as_what_it_registers() {
    let own = identities();
    let register = |from: &str| with("REGISTER sip:example.net SIP/2.0", from, "");
    let left = dressed(
        &register("<sip:al@example.net>"),
        Passage::INWARD,
        &Settings::default(),
        Some(&own),
        None,
    );
    let left = left.expect("no refusal");
    assert_eq!(left.first(Name::PAssertedIdentity), Some(&b"<sip:al@example.net>"[..]));
}

/// P-Preferred-Identity that is not the caller's, not readable, or more than two values: 403 (V-29).
#[test]
fn a_foreign_preferred_identity_is_refused() {
    let own = identities();
    for preferred in [
        "P-Preferred-Identity: <sip:bob@example.net>\r\n",
        "p-preferred-identity : <sip:bob@example.net>\r\n",
        "P-Preferred-Identity: <sip:alice@example.net>, <sip:bob@example.net>\r\n",
        "P-Preferred-Identity: <sip:alice@example.net>\r\nP-Preferred-Identity: <sip:bob@x>\r\n",
        "P-Preferred-Identity: <sip:alice@example.org>\r\n",
        "P-Preferred-Identity: <sip:Alice@example.net>\r\n",
        "P-Preferred-Identity: <sip:alice%00@example.net>\r\n",
        "P-Preferred-Identity: <sip:alice@example.net\r\n",
        "P-Preferred-Identity: <tel:+12015550124>\r\n",
        "P-Preferred-Identity: <sip:al@example.net>, <sip:al@example.net>, <sip:al@example.net>\r\n",
    ] {
        let inward = |identities| {
            dressed(&request(preferred), Passage::INWARD, &Settings::default(), identities, None)
        };
        assert_eq!(inward(Some(&own)).err(), Some(Refusal::IdentityForeign), "{preferred:?}");
        let peer = inward(None).expect("a peer that is no user is not judged");
        assert_eq!(rows(&peer), (String::new(), String::new()), "{preferred:?}");
    }
    assert_eq!(Refusal::IdentityForeign.answer(), Answer::Status(403));
}

/// From: 403 for MESSAGE and REGISTER when it is neither the caller's nor anonymous, forwarded for others.
#[test]
fn from_is_judged_and_never_rewritten() {
    let own = identities();
    let every = Settings { from_check: FromCheck::Every, ..Settings::default() };
    let named = Settings { anonymous: false, ..Settings::default() };
    let normal = Settings::default();
    let (bob, nobody) = ("<sip:bob@example.net>", "<sip:anonymous@Anonymous.Invalid>");
    for (what, settings, method, from, passes) in [
        ("own", &normal, "MESSAGE", "<sip:alice@example.net>", true),
        ("own, spelt otherwise", &normal, "MESSAGE", "sip:%61lice@EXAMPLE.NET", true),
        ("own tel", &normal, "MESSAGE", "<tel:+12015550123>", true),
        ("bob's", &normal, "MESSAGE", bob, false),
        ("bob's", &normal, "REGISTER", bob, false),
        (
            "bob's, alice as display name",
            &normal,
            "MESSAGE",
            "\"<sip:alice@example.net>\" <sip:bob@example.net>",
            false,
        ),
        ("bob's", &normal, "INVITE", bob, true),
        ("bob's", &normal, "SUBSCRIBE", bob, true),
        ("bob's", &every, "INVITE", bob, false),
        ("bob's", &every, "SUBSCRIBE", bob, false),
        ("bob's", &every, "CANCEL", bob, true),
        ("bob's", &every, "ACK", bob, true),
        ("anonymous", &normal, "MESSAGE", nobody, true),
        ("anonymous", &every, "INVITE", nobody, true),
        ("anonymous", &named, "MESSAGE", nobody, false),
        ("anonymous", &named, "INVITE", nobody, true),
        ("somewhere near", &normal, "MESSAGE", "<sip:a@notanonymous.invalid>", false),
        ("host alone", &normal, "MESSAGE", "<sip:example.net>", false),
    ] {
        let message = with(&format!("{method} sip:b@example.net SIP/2.0"), from, "");
        let result = dressed(&message, Passage::INWARD, settings, Some(&own), None);
        assert_eq!(result.is_ok(), passes, "{what}: {method} {from}");
        if let Ok(left) = result {
            assert_eq!(left.first(Name::From), message.first(Name::From), "{what}");
        }
        let outward = dressed(&message, Passage::OUTWARD, settings, Some(&own), None);
        assert!(outward.is_ok(), "the core's From is kept: {what}");
    }
    let left = dressed(&request(""), Passage::INWARD, &normal, Some(&[]), None);
    assert_eq!(rows(&left.expect("no refusal")).1, "", "who has no identity is not asserted");
    let message = with("MESSAGE sip:b SIP/2.0", "<sip:alice@example.net>", "");
    let nobodys = dressed(&message, Passage::INWARD, &normal, Some(&[]), None);
    assert_eq!(nobodys.err(), Some(Refusal::IdentityForeign));
}

/// RFC 3325 section 7: Privacy with `id` keeps the asserted identity from who is not trusted, however it is spelt.
#[test]
fn privacy_of_the_asserted_identity() {
    let pai = "P-Asserted-Identity: <sip:x@y>\r\nRemote-Party-ID: <sip:x@y>\r\n";
    for (privacy, hidden) in [
        ("", false),
        ("Privacy: none\r\n", false),
        ("Privacy: user;header\r\n", false),
        ("Privacy: idle\r\n", false),
        ("Privacy: id\r\n", true),
        ("privacy : ID\r\n", true),
        ("Privacy: user; id;critical\r\n", true),
        ("Privacy: user,id\r\n", true),
        ("Privacy: user\r\nPrivacy: id\r\n", true),
        ("Privacy: none;id\r\n", true),
        ("Privacy:\r\n id\r\n", true),
    ] {
        for message in [request(&format!("{privacy}{pai}")), response(&format!("{privacy}{pai}"))] {
            let expected = format!("{privacy}{}", if hidden { "" } else { pai });
            let settings = Settings::default();
            assert_eq!(kept(&message, Passage::OUTWARD, &settings), expected, "{privacy:?}");
            let all = format!("{privacy}{pai}");
            assert_eq!(kept(&message, OURS, &settings), all, "the core knows all the same");
        }
    }
}

/// RFC 7044 section 10.1, and the like for Diversion: an entry goes if it asks for privacy, all go if the message does.
#[test]
fn privacy_of_history() {
    let outward = |rows: &str| kept(&request(rows), Passage::OUTWARD, &Settings::default());
    for (rows, left) in [
        (
            "History-Info: <sip:a@b>;index=1, <sip:c@d>;index=1.1\r\n",
            "History-Info: <sip:a@b>;index=1, <sip:c@d>;index=1.1\r\n",
        ),
        (
            "History-Info: <sip:a@b?Privacy=history>;index=1, <sip:c@d>;index=1.1\r\n",
            "History-Info: <sip:c@d>;index=1.1\r\n",
        ),
        ("History-Info: <sip:a@b?%50rivacy=history>;index=1\r\n", ""),
        (
            "Privacy: history\r\nHistory-Info: <sip:a@b>;index=1\r\nDiversion: <sip:a@b>\r\n",
            "Privacy: history\r\n",
        ),
        ("Privacy: header\r\nHistory-Info: <sip:a@b>;index=1\r\n", "Privacy: header\r\n"),
        (
            "Diversion: <sip:a@b>;privacy=full, <sip:c@d>;privacy=\"off\"\r\n",
            "Diversion: <sip:c@d>;privacy=\"off\"\r\n",
        ),
        ("Diversion: <sip:a@b>;privacy=\"full\"\r\n", ""),
    ] {
        assert_eq!(outward(rows), left, "{rows:?}");
    }
}

/// RFC 7315 section 4.4: what a UE says of its own access stays; what only the network may say goes, list or quoted.
#[test]
fn access_network_info() {
    let inward = |rows: &str| kept(&request(rows), Passage::INWARD, &Settings::default());
    for (rows, left) in [
        ("P-Access-Network-Info: IEEE-802.11\r\n", "P-Access-Network-Info: IEEE-802.11\r\n"),
        (
            "P-Access-Network-Info: IEEE-802.11, 3GPP-GERAN;Network-Provided,\r\n DSL;x=1\r\n",
            "P-Access-Network-Info: IEEE-802.11, DSL;x=1\r\n",
        ),
        ("P-Access-Network-Info: x;a=\"open;network-provided\r\n", ""),
        ("P-ACCESS-NETWORK-INFO :\r\n x ; network-provided\r\n", ""),
    ] {
        assert_eq!(inward(rows), left, "{rows:?}");
    }
}

/// Credentials of our realms are consumed in either direction, and bearer tokens, which name none (V-97); others pass octet for
/// octet (RFC 3261 section 22.3).
#[test]
fn credentials_of_our_realms() {
    for (row, own) in [
        ("Digest username=\"u\", realm=\"example.net\", nonce=\"n\"", true),
        ("DIGEST  REALM=example.net", true),
        ("Digest\r\n realm=\"example.net\"", true),
        ("Digest realm = \"example\\.net\"", true),
        ("Digest realm=\"other\", nonce=\"a,b\",  opaque=\"\"", false),
        ("Digest nonce=\"realm=example.net\", realm=\"other\"", false),
        ("Basic realm=\"example.net\"", false),
        ("Bearer example.net", true),
        // Two in one row, which RFC 3261 section 7.3.1 forbids, and rows that do not parse
        ("Digest realm=\"other\", Digest realm=\"example.net\"", true),
        ("Digest realm=\"other\", realm=\"example.net\"", true),
        ("Digest realm=\"open", true),
    ] {
        for name in
            ["Authorization", "authorization ", "Proxy-Authorization", "PROXY-authorization"]
        {
            let row = format!("{name}: {row}\r\n");
            for start in ["INVITE sip:b SIP/2.0", "ACK sip:b SIP/2.0", "CANCEL sip:b SIP/2.0"] {
                let message = with(start, "<sip:alice@example.net>", &row);
                for passage in [Passage::INWARD, Passage::OUTWARD, OURS] {
                    let left = kept(&message, passage, &Settings::default());
                    assert_eq!(left, if own { "" } else { row.as_str() }, "{passage:?} {row:?}");
                }
            }
        }
    }
}

/// RFC 6050: a proved service is asserted to the core, and then the preferred one goes.
#[test]
fn a_proved_service_is_asserted() {
    let own = identities();
    let rows_in = "P-Preferred-Service: urn:x\r\nP-Asserted-Service: urn:y\r\n";
    let inward = |service| {
        let settings = Settings::default();
        let left = dressed(&request(rows_in), Passage::INWARD, &settings, Some(&own), service);
        rows(&left.expect("no refusal"))
    };
    let pai = "P-Asserted-Identity: <sip:alice@example.net>\r\n";
    assert_eq!(inward(None), ("P-Preferred-Service: urn:x\r\n".into(), pai.into()));
    let both = format!("{pai}P-Asserted-Service: urn:z\r\n");
    assert_eq!(inward(Some("urn:z")), (String::new(), both));
}

/// From one foreign neighbour to another: what either column takes away is gone, and nothing is asserted.
#[test]
fn between_strangers() {
    let passage = Passage { from: Trust::Foreign, to: Trust::Foreign };
    let message = request("P-Asserted-Identity: <sip:x@y>\r\nP-Access-Network-Info: x\r\n");
    let own = identities();
    let left = dressed(&message, passage, &Settings::default(), Some(&own), Some("urn:x"));
    assert_eq!(rows(&left.expect("no refusal")), (String::new(), String::new()));
}

/// A message that has nothing to lose goes from peer to peer octet for octet.
#[test]
fn nothing_else_is_touched() {
    let message = request("x-ODD :  a , b;c=\"\\\"\"\r\n\tfolded\r\nPrivacy: none\r\n");
    let left = dressed(&message, OURS, &Settings::default(), None, None).expect("no refusal");
    assert_eq!(left.octets(), message.octets());
    assert_eq!(split::commas(left.first(Name::Privacy).unwrap_or_default()).count(), 1);
}
