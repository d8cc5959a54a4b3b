//! The messages that journeys are made of.

use sipward::testing::{Lab, Peer, Sent, Signer};

/// A request of a UE outside any dialog, signed.
pub(crate) fn request(
    method: &str,
    uri: &str,
    from: &str,
    call: &str,
    cseq: u32,
    signer: Option<&mut Signer>,
) -> String {
    in_dialog(method, uri, from, "", call, cseq, signer, "")
}

/// A request of a UE, signed, with a To tag and further header lines.
#[allow(
    clippy::too_many_arguments,
    reason = "each is a part of the message that some journey varies"
)]
pub(crate) fn in_dialog(
    method: &str,
    uri: &str,
    from: &str,
    to_tag: &str,
    call: &str,
    cseq: u32,
    signer: Option<&mut Signer>,
    more: &str,
) -> String {
    let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    let to = if method == "REGISTER" { format!("sip:{from}@example.net") } else { uri.into() };
    let credentials = match signer {
        Some(signer) => format!("Proxy-Authorization: {}\n", signer.credentials(method, uri, b"")),
        None => String::new(),
    };
    format!(
        "{method} {uri} SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{call}{method}{cseq};rport
Max-Forwards: 70
From: <sip:{from}@example.net>;tag={from}
To: <{to}>{to_tag}
Call-ID: {call}
CSeq: {cseq} {method}
Contact: <sip:{from}@192.0.2.10:5060>
{credentials}{more}Content-Length: 0
"
    )
}

/// A response of the core, or of a UE, to a request that the edge sent.
pub(crate) fn respond(to: &Sent, status: u16, tag: &str, more: &str) -> String {
    let text = to.text();
    let line = |name: &str| {
        text.lines()
            .filter(|line| line.starts_with(name))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let mut to_line = line("To:");
    if !to_line.contains(";tag=") && !tag.is_empty() {
        to_line = format!("{};tag={tag}\n", to_line.trim_end());
    }
    format!(
        "SIP/2.0 {status} X
{}{}{to_line}{}{}{}{more}Content-Length: 0
",
        line("Via:"),
        line("From:"),
        line("Call-ID:"),
        line("CSeq:"),
        line("Record-Route:"),
    )
}

/// The values of the fields of that name, written as `Name: `.
pub(crate) fn lines<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    text.lines().filter_map(|line| line.strip_prefix(name)).collect()
}

/// The only message sent to the core.
pub(crate) fn to_core(sent: &[Sent]) -> &Sent {
    let mut found = sent.iter().filter(|sent| sent.to.to_string() == "203.0.113.10:5060");
    let first = found.next().unwrap_or_else(|| panic!("nothing went to the core: {sent:?}"));
    assert!(found.next().is_none(), "more than one message went to the core");
    first
}

/// The status of the only message sent to `peer`.
pub(crate) fn status_to(sent: &[Sent], peer: &Peer) -> Option<u16> {
    let mut found = sent.iter().filter(|sent| sent.to == peer.flow().remote);
    found.next_back().and_then(|sent| sent.message.status())
}

/// Registers `from` on `peer`; gives the REGISTER as the core saw it.
pub(crate) fn register(lab: &mut Lab, peer: &Peer, from: &str, signer: &mut Signer) -> Sent {
    let text =
        request("REGISTER", "sip:example.net", from, &format!("reg-{from}"), 1, Some(signer));
    let sent = lab.receive(peer, &text);
    let register = to_core(&sent).clone();
    let granted = format!("Contact: <sip:{from}@192.0.2.10:5060>;expires=600\n");
    let back = lab.receive(&Peer::core(), &respond(&register, 200, "reg", &granted));
    assert_eq!(status_to(&back, peer), Some(200));
    register
}

/// Alice calls bob through the edge and he answers; gives the INVITE as the core saw it.
pub(crate) fn call(lab: &mut Lab, peer: &Peer, signer: &mut Signer) -> Sent {
    let [invite, _] = called(lab, peer, signer);
    invite
}

/// The same: the INVITE as the core saw it, and its 200 as the UE did.
pub(crate) fn called(lab: &mut Lab, peer: &Peer, signer: &mut Signer) -> [Sent; 2] {
    let text = request("INVITE", "sip:bob@example.net", "alice", "call", 1, Some(signer));
    let sent = lab.receive(peer, &text);
    assert_eq!(status_to(&sent, peer), Some(100));
    let invite = to_core(&sent).clone();
    let [_, accepted] = [180, 200].map(|status| {
        let contact = "Contact: <sip:bob@203.0.113.20:5060>\n";
        let back = lab.receive(&Peer::core(), &respond(&invite, status, "b", contact));
        assert_eq!(status_to(&back, peer), Some(status));
        let mut back = back.into_iter();
        back.find(|sent| sent.message.status() == Some(status)).expect("it went back")
    });
    [invite, accepted]
}

/// The Route that the caller's UE takes from the Record-Route of the answer that it sees.
pub(crate) fn route_of(answer: &Sent) -> String {
    let text = answer.text();
    let recorded = text.lines().filter_map(|line| line.strip_prefix("Record-Route: "));
    let reversed: Vec<&str> = recorded.collect::<Vec<_>>().into_iter().rev().collect();
    format!("Route: {}\n", reversed.join(", "))
}

/// A Record-Route value without the token in it.
pub(crate) fn without_token(value: &str) -> String {
    let (before, rest) = value.split_once(':').expect("a scheme");
    let host = rest.split_once('@').map_or(rest, |(_, host)| host);
    format!("{before}:{host}")
}

/// A request of bob's, inside the call, as the core sends it.
pub(crate) fn from_bob(method: &str, number: u32) -> String {
    format!(
        "{method} sip:alice@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKcore{number}
Max-Forwards: 70
From: <sip:bob@example.net>;tag=b
To: <sip:alice@example.net>;tag=alice
Call-ID: call
CSeq: {number} {method}
Route: <sip:edge.example.net:5060;lr>
Content-Length: 0
"
    )
}
