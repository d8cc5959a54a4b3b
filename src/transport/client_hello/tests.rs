use super::*;

const IDENTITY: &[u8] = b"3GPP-bootstrapping;AAAAAAAAAAAAAAAAAAAAAA==@bsf.example.net";
const OURS: [u16; 3] = [0xccac, 0x00aa, 0x00a8];

fn list(octets: &[u8]) -> Vec<u8> {
    [&u16::try_from(octets.len()).unwrap().to_be_bytes()[..], octets].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &list(content)].concat()
}

fn sni(name: &str) -> Vec<u8> {
    extension(0, &list(&[&[0][..], &list(name.as_bytes())].concat()))
}

fn versions(numbers: &[u16]) -> Vec<u8> {
    let octets: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    extension(43, &[&[u8::try_from(octets.len()).unwrap()][..], &octets].concat())
}

fn protocols(names: &[&[u8]]) -> Vec<u8> {
    let one = |name: &&[u8]| [&[u8::try_from(name.len()).unwrap()][..], name].concat();
    extension(16, &list(&names.iter().flat_map(one).collect::<Vec<u8>>()))
}

fn shared(identities: &[&[u8]]) -> Vec<u8> {
    let one = |identity: &&[u8]| [&list(identity)[..], &[0; 4]].concat();
    let all: Vec<u8> = identities.iter().flat_map(one).collect();
    let binders: Vec<u8> = identities.iter().flat_map(|_| [&[32][..], &[7; 32]].concat()).collect();
    extension(41, &[list(&all), list(&binders)].concat())
}

fn body(suites: &[u16], extensions: &[Vec<u8>]) -> Vec<u8> {
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let head = [&[3, 3][..], &[5; 32], &[0], &list(&suites), &[1, 0]].concat();
    if extensions.is_empty() { head } else { [head, list(&extensions.concat())].concat() }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind][..], &length[1..], body].concat()
}

/// The message in records of `size` octets.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &list(part)].concat()).collect()
}

fn read(octets: &[u8]) -> Result<Option<ClientHello>, HelloFault> {
    Assembler::hello().push(octets)?.map(ClientHello::read).transpose()
}

#[test]
fn the_one_who_answers_is_chosen_by_what_is_offered() {
    let (both, only_12, only_13) =
        (versions(&[0x0304, 0x0303]), versions(&[0x0303]), versions(&[0x0304]));
    let ticket: &[u8] = &[0xd5; 180];
    for (name, suites, extensions, expected) in [
        ("certificates, 1.2", &[0xc02b, 0xc02f][..], vec![], Choice::Certificate),
        ("certificates, 1.3", &[0x1301], vec![both.clone()], Choice::Certificate),
        ("our order", &[0x00a8, 0xc02b, 0x00aa], vec![], Choice::Psk12(0x00aa)),
        ("suites of ours and certificates", &[0xc02b, 0x00a8], vec![], Choice::Psk12(0x00a8)),
        ("with 1.2 by extension", &[0x00a8], vec![only_12.clone()], Choice::Psk12(0x00a8)),
        ("without 1.2", &[0x00a8, 0x1301], vec![only_13.clone()], Choice::Certificate),
        ("another suite with a shared key", &[0x00a9], vec![], Choice::Certificate),
        ("CBC, which is off", &[0x008c], vec![], Choice::Certificate),
        ("a key of ours", &[0x1301], vec![only_13.clone(), shared(&[IDENTITY])], Choice::Psk13),
        ("both kinds", &[0x1301, 0x00a8], vec![both.clone(), shared(&[IDENTITY])], Choice::Psk13),
        ("a session", &[0x1301], vec![both.clone(), shared(&[ticket])], Choice::Certificate),
        (
            "a session and a key",
            &[0x1301],
            vec![both.clone(), shared(&[ticket, IDENTITY])],
            Choice::Psk13,
        ),
        ("a key of ours, without 1.3", &[0xc02b], vec![shared(&[IDENTITY])], Choice::Certificate),
    ] {
        let hello = ClientHello::read(&body(suites, &extensions)).expect(name);
        assert_eq!(hello.choose(&OURS), expected, "{name}");
    }
    let old = [&[3, 2][..], &body(&[0x00a8], &[])[2..]].concat();
    let hello = ClientHello::read(&old).expect("well formed");
    assert_eq!(hello.choose(&OURS), Choice::Certificate, "1.1 has no suite of ours");
}

#[test]
fn what_is_asked_for_is_read() {
    let extensions =
        [extension(0x0a0a, b"grease"), sni("edge.example.net"), shared(&[IDENTITY; 9])];
    let hello = ClientHello::read(&body(&[0x1301], &extensions)).expect("well formed");
    assert_eq!(hello.server_name.as_deref(), Some("edge.example.net"));
    assert_eq!(hello.identities.len(), IDENTITIES_MAX);
    assert_eq!(&*hello.identities[0], IDENTITY);
}

#[test]
fn only_who_names_other_protocols_speaks_no_sip() {
    for (name, extensions, expected) in [
        ("none named", vec![], false),
        ("SIP", vec![protocols(&[b"sip/2"])], false),
        ("SIP last", vec![protocols(&[b"h2", b"sip/2"])], false),
        ("others", vec![protocols(&[b"h2", b"http/1.1"])], true),
        ("a longer name", vec![protocols(&[b"sip/22"])], true),
    ] {
        let hello = ClientHello::read(&body(&[0x1301], &extensions)).expect(name);
        assert_eq!(hello.is_no_sip, expected, "{name}");
    }
}

#[test]
fn it_is_put_together_from_any_pieces() {
    let message = message(1, &body(&[0x00a8], &[sni("edge.example.net"), versions(&[0x0303])]));
    let expected = read(&records(&message, 1 << 14)).expect("well formed").expect("whole");
    for size in [2, 3, 4, 5, 50, message.len() - 1, message.len()] {
        let octets = records(&message, size);
        for piece in [1, 2, 7, octets.len()] {
            let mut assembler = Assembler::hello();
            let mut found = None;
            for (at, part) in octets.chunks(piece).enumerate() {
                let whole = assembler.push(part).expect("well formed").map(ClientHello::read);
                let is_last = (at + 1) * piece >= octets.len();
                assert_eq!(whole.is_some(), is_last, "{size} {piece} {at}");
                found = whole;
            }
            assert_eq!(found, Some(Ok(expected.clone())), "records of {size}, pieces of {piece}");
        }
    }
}

#[test]
fn bounds_hold() {
    let small = message(1, &body(&[0x1301], &[]));
    let grown = |octets: usize| {
        let padding = extension(21, &vec![0; octets - body(&[0x1301], &[]).len() - 6]);
        records(&message(1, &body(&[0x1301], &[padding])), 1 << 14)
    };
    assert!(matches!(read(&grown(MESSAGE_MAX)), Ok(Some(_))));
    assert_eq!(read(&grown(MESSAGE_MAX + 1)), Err(HelloFault::TooLong));
    let long = message(1, &body(&[0x1301; 40], &[]));
    assert_eq!(read(&records(&long, 1)), Err(HelloFault::TooLong), "a record for each octet");
    for (name, octets, expected) in [
        ("a record over 2^14", b"\x16\x03\x01\x40\x01".to_vec(), HelloFault::TooLong),
        ("an empty record", b"\x16\x03\x01\0\0".to_vec(), HelloFault::Malformed),
        ("an alert", b"\x15\x03\x01\0\x02\x01\0".to_vec(), HelloFault::Other),
        ("SIP", b"REGISTER sip:example.net SIP/2.0\r\n".to_vec(), HelloFault::Other),
        ("SSL 2", b"\x80\x2e\x01\x03\x01".to_vec(), HelloFault::Other),
        ("another version", b"\x16\x02".to_vec(), HelloFault::Other),
        ("another message", records(&message(2, b"x"), 9), HelloFault::Other),
    ] {
        assert_eq!(read(&octets), Err(expected), "{name}");
    }
    let whole = records(&small, 99);
    for end in 0..whole.len() {
        assert_eq!(read(&whole[..end]), Ok(None), "the first {end} octets");
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let good =
        body(&[0x00a8], &[sni("edge.example.net"), shared(&[IDENTITY]), versions(&[0x0304])]);
    assert!(ClientHello::read(&good).is_ok());
    let bare = body(&[0x00a8], &[]).len();
    for end in (0..good.len()).filter(|end| *end != bare) {
        assert_eq!(ClientHello::read(&good[..end]), Err(HelloFault::Malformed), "cut at {end}");
    }
    for (name, extensions) in [
        ("a name twice", vec![sni("a"), sni("b")]),
        ("keys twice", vec![shared(&[IDENTITY]), shared(&[IDENTITY])]),
        ("versions twice", vec![versions(&[0x0304]), versions(&[0x0304])]),
        ("protocols twice", vec![protocols(&[b"h2"]), protocols(&[b"sip/2"])]),
        ("half a protocol", vec![extension(16, &list(b"\x05sip"))]),
        ("no name", vec![sni("")]),
        ("a name too long", vec![sni(&"a".repeat(256))]),
        ("two names", vec![extension(0, &list(&[&sni("a")[6..], &sni("b")[6..]].concat()))]),
        ("no binders", vec![extension(41, &list(&[&list(IDENTITY)[..], &[0; 4]].concat()))]),
        ("half a version", vec![extension(43, &[1, 3])]),
    ] {
        let hello = ClientHello::read(&body(&[0x00a8], &extensions));
        assert_eq!(hello, Err(HelloFault::Malformed), "{name}");
    }
}

#[test]
fn the_identity_of_a_key_exchange_is_read() {
    for (name, body) in [
        ("PSK", list(IDENTITY)),
        ("DHE_PSK", [list(IDENTITY), list(&[9; 256])].concat()),
        ("ECDHE_PSK", [&list(IDENTITY)[..], &[32], &[9; 32]].concat()),
    ] {
        let octets =
            [records(&message(16, &body), 20), b"\x14\x03\x03\0\x01\x01".to_vec()].concat();
        let mut assembler = Assembler::key_exchange();
        let found = assembler.push(&octets).expect(name).map(psk_identity);
        assert_eq!(found, Some(Ok(IDENTITY)), "{name}");
        assert!(!assembler.has_more(), "{name}");
    }
    assert_eq!(psk_identity(&[0, 9, 1]), Err(HelloFault::Malformed));
    assert_eq!(psk_identity(&[0]), Err(HelloFault::Malformed));
    let certificate = records(&message(11, b"..."), 20);
    assert_eq!(Assembler::key_exchange().push(&certificate), Err(HelloFault::Other));
}

#[test]
fn suites_are_told_apart() {
    for suite in [0x008c, 0x00a8, 0x00aa, 0xc037, 0xccab, 0xccac, 0xd001, 0x002c] {
        assert!(is_psk_suite(suite), "{suite:04x}");
    }
    for suite in [0x002f, 0x1301, 0xc02b, 0xc02f, 0xcca8, 0xcca9, 0x00ff, 0x5600, 0xc0ac] {
        assert!(!is_psk_suite(suite), "{suite:04x}");
    }
}
