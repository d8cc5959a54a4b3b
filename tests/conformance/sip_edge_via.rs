//! Via, as far as octets decide: the grammar of RFC 3261 section 25.1, VIA-01, VIA-02, VIA-10 and VIA-11.

use std::net::IpAddr;

use sipward::wire::{Name, Reply, Via};

use crate::torture::read;

fn request(vias: &str) -> Vec<u8> {
    format!(
        "OPTIONS sip:a@b SIP/2.0\r\n{vias}From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n"
    )
    .into_bytes()
}

/// RFC 3261 section 25.1: white space around every separator, parameters with and without value, both families.
#[test]
fn via_is_read_as_the_grammar_has_it() {
    for (value, transport, host, port, branch) in [
        ("SIP/2.0/UDP h", "UDP", "h", None, ""),
        ("sip/2.0/udp h:5060;branch=z9hG4bKa", "udp", "h", Some(5060), "z9hG4bKa"),
        ("SIP / 2.0 / TLS\t h : 5061 ; branch = z9hG4bKa", "TLS", "h", Some(5061), "z9hG4bKa"),
        (
            "SIP/2.0/DTLS-UDP [2001:db8::1]:5061;BRANCH=b;rport",
            "DTLS-UDP",
            "[2001:db8::1]",
            Some(5061),
            "b",
        ),
        ("SIP/2.0/WSS df7jal23ls0d.invalid;branch=b", "WSS", "df7jal23ls0d.invalid", None, "b"),
        ("SIP/2.0/X!y 192.0.2.1;x=\"a;branch=no\";branch=b;keep", "X!y", "192.0.2.1", None, "b"),
        ("SIP/2.0/UDP\r\n h;\r\n branch=b", "UDP", "h", None, "b"),
    ] {
        let via = Via::parse(value.as_bytes()).unwrap_or_else(|| panic!("{value}"));
        assert_eq!(via.transport(), transport.as_bytes(), "{value}");
        assert_eq!(via.host(), host.as_bytes(), "{value}");
        assert_eq!(via.port(), port, "{value}");
        assert_eq!(via.branch(), branch.as_bytes(), "{value}");
    }
}

/// RFC 3261 section 8.1.1.7: a branch is the cookie and more.
#[test]
fn a_branch_identifies_if_there_is_something_behind_the_cookie() {
    for (branch, identifies) in [
        (";branch=z9hG4bKx", true),
        (";branch=z9hG4bK-", true),
        (";branch=z9hG4bK", false),
        (";branch=Z9HG4BKx", false),
        (";branch=xz9hG4bKx", false),
        (";branch=", false),
        (";branch", false),
        ("", false),
    ] {
        let message = read(&request(&format!("Via: SIP/2.0/UDP h{branch}\r\n"))).expect("accepted");
        let found = sipward::wire::check::branch(&message);
        assert_eq!(found.is_ok(), identifies, "{branch}");
        assert!(found.err().is_none_or(|fault| fault.status() == 400));
    }
}

/// VIA-01, VIA-02: received and rport say where the request came from, whatever its sender wrote there; VIA-10: none
/// if no source is given.
#[test]
fn via_01_02_10_the_topmost_via_tells_the_source() {
    let lie = "Via: SIP/2.0/UDP h;received=10.0.0.1;rport=1;branch=z9hG4bKx\r\n";
    let message = read(&request(lie)).expect("accepted");
    let answer = |source: Option<&str>| {
        let reply = Reply::to(&message, 480);
        let reply = match source {
            Some(source) => reply.source(source.parse().expect("an address")),
            None => reply,
        };
        read(&reply.octets().expect("answerable")).expect("well formed")
    };
    for source in ["192.0.2.7:1234", "[2001:db8::7]:1234"] {
        let reply = answer(Some(source));
        let via = reply.top_via().expect("a Via");
        let address: std::net::SocketAddr = source.parse().expect("an address");
        assert_eq!((via.received(), via.rport()), (Some(address.ip()), Some(1234)), "{source}");
        let named =
            |name: &str| via.params().filter(|(found, _)| *found == name.as_bytes()).count();
        assert_eq!((named("received"), named("rport")), (1, 1), "{source}");
    }
    let unchanged = answer(None);
    let claimed: IpAddr = "10.0.0.1".parse().expect("an address");
    assert_eq!(unchanged.top_via().and_then(|via| via.received()), Some(claimed));
}

/// VIA-11: what other hops wrote is carried unread, and goes back in its order.
#[test]
fn via_11_other_hops_are_carried() {
    let vias = "Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\nVia: SIP/9/odd \"x,y\" , SIP/2.0/NEW [bad;;p=<1,2>\r\n";
    let message = read(&request(vias)).expect("accepted");
    let reply = read(&Reply::to(&message, 480).octets().expect("answerable")).expect("well formed");
    let values: Vec<_> = reply.values(Name::Via).skip(1).collect();
    assert_eq!(values, [&b"SIP/9/odd \"x,y\""[..], b"SIP/2.0/NEW [bad;;p=<1,2>"]);
}
