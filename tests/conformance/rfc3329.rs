//! RFC 3329: what an edge that agrees owes, clause by clause. Each outcome has fixtures beside this in
//! `sip-fixtures/gate`, `agreement-*`.

use sipward::authentication::sec_agree::Mode;
use sipward::testing::{Lab, LabSettings, Peer, Sent, Signer};

const LIST: &str = "tls;q=0.5, digest;d-alg=MD5;d-qop=auth-int;q=0.1";

fn edge(mode: Mode) -> Lab {
    Lab::new(LabSettings::default().agreeing(mode))
}

fn alice() -> Peer {
    Peer::udp("192.0.2.10:5060")
}

fn request(method: &str, number: u32, more: &str) -> String {
    format!(
        "{method} sip:bob@example.net SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{method}{number};rport
Max-Forwards: 70
From: <sip:alice@example.net>;tag=a
To: <sip:bob@example.net>
Call-ID: {method}{number}
CSeq: {number} {method}
Contact: <sip:alice@192.0.2.10:5060>
{more}Content-Length: 0
"
    )
}

fn status(sent: &[Sent]) -> Option<u16> {
    sent.last().and_then(|sent| sent.message.status())
}

/// The credentials of a request with the list that they cover.
fn covered(key: &mut Signer, method: &str) -> String {
    let uri = "sip:bob@example.net";
    (key.hash, key.auth_int) = (sipward::authentication::digest::Hash::Md5, true);
    let credentials = key.credentials(method, uri, b"");
    let digits = key.verifier(method, uri, b"", key.count, LIST);
    format!(
        "Require: sec-agree\nProxy-Require: sec-agree\nSecurity-Verify: {LIST};d-ver=\"{digits}\"\n\
         Proxy-Authorization: {credentials}\n"
    )
}

/// Section 2.3.1: the list does not depend on what the client says it can do.
#[test]
fn section_2_3_1_the_list_is_static() {
    for client in ["ipsec-3gpp", "digest", "tls, digest;d-alg=SHA-256;q=1", "\"", ""] {
        let mut lab = edge(Mode::Accept);
        let more = format!("Require: sec-agree\nSecurity-Client: {client}\n");
        let sent = lab.receive(&alice(), &request("OPTIONS", 1, &more));
        assert_eq!(status(&sent), Some(494), "{client}");
        let text = sent[0].text();
        assert!(text.contains(&format!("\r\nSecurity-Server: {LIST}\r\n")), "{client}: {text}");
        let begins = "algorithm=MD5, qop=\"auth-int\"\r\n";
        assert!(
            text.contains("\r\nProxy-Authenticate: Digest ") && text.contains(begins),
            "{text}"
        );
        assert!(!text.contains("SHA-256") && !text.contains("ipsec"), "{text}");
    }
}

/// Section 2.3.1: on a match the tag leaves Require and Proxy-Require, other tags stay, and an empty field goes.
#[test]
fn section_2_3_1_the_tag_goes_no_further() {
    let mut lab = edge(Mode::Accept);
    let mut key = lab.ue1();
    let more = covered(&mut key, "MESSAGE")
        .replace("Require: sec-agree\nP", "Require: 100rel, sec-agree\nP");
    let sent = lab.receive(&alice(), &request("MESSAGE", 1, &more));
    let text = sent[0].text();
    assert!(text.contains("\r\nRequire: 100rel\r\n"), "{text}");
    for gone in ["sec-agree", "Proxy-Require", "Security-"] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
}

/// Section 2.3.1: every request is held to the list, the second as the first.
#[test]
fn section_2_3_1_every_request_shows_the_list() {
    let mut lab = edge(Mode::Require);
    let mut key = lab.ue1();
    for number in 1..4 {
        let more = covered(&mut key, "MESSAGE");
        let sent = lab.receive(&alice(), &request("MESSAGE", number, &more));
        assert_eq!(sent[0].to.to_string(), "203.0.113.10:5060");
        let plain = format!(
            "Proxy-Authorization: {}\n",
            key.credentials("MESSAGE", "sip:bob@example.net", b"")
        );
        let sent = lab.receive(&alice(), &request("MESSAGE", number + 10, &plain));
        assert_eq!(status(&sent), Some(421));
    }
}

/// Section 2.2: `d-ver` covers method, digest-uri, body and list, white space made one space.
#[test]
fn section_2_2_digits_cover_the_list() {
    let mut lab = edge(Mode::Accept);
    let mut key = lab.ue1();
    let folded = covered(&mut key, "MESSAGE").replace("q=0.5, digest", "q=0.5 ,\n    digest");
    let sent = lab.receive(&alice(), &request("MESSAGE", 1, &folded));
    assert_eq!(sent[0].to.to_string(), "203.0.113.10:5060", "the same list, folded");
    let other = covered(&mut key, "OPTIONS").replace("OPTIONS", "MESSAGE");
    let sent = lab.receive(&alice(), &request("MESSAGE", 2, &other));
    assert_eq!(status(&sent), Some(407), "digits and response of another method");
}

/// Section 2.6 and gba: ACK, CANCEL and PRACK carry no Security-Verify, and are not refused for it.
#[test]
fn section_2_6_methods_that_carry_none() {
    let mut lab = edge(Mode::Require);
    let mut key = lab.ue1();
    let more = covered(&mut key, "INVITE");
    let sent = lab.receive(&alice(), &request("INVITE", 1, &more));
    assert_eq!(sent.len(), 2, "100, and on it goes");
    let cancel = request("CANCEL", 1, "").replace("bKCANCEL1", "bKINVITE1");
    let cancel = cancel.replace("Call-ID: CANCEL1", "Call-ID: INVITE1");
    assert_eq!(status(&lab.receive(&alice(), &cancel)), Some(200));
    let prack = request("PRACK", 2, "RAck: 1 1 INVITE\n").replace("PRACK2", "INVITE1");
    let prack = prack.replace("bKINVITE1", "bKPRACK2").replace("net>\nCall", "net>;tag=x\nCall");
    let answer = status(&lab.receive(&alice(), &prack));
    assert_eq!(answer, Some(481), "no such dialog: that, not 421 or 494");
    let ack = request("ACK", 1, "Security-Verify: tls\n");
    assert!(lab.receive(&alice(), &ack).is_empty());
}

/// V-99: what is refused has no effect: the count is not spent, and the same credentials are good with the right list.
#[test]
fn v_99_no_effect() {
    let mut lab = edge(Mode::Require);
    let mut key = lab.ue1();
    let right = covered(&mut key, "MESSAGE");
    let altered = right.replace("tls;q=0.5, ", "");
    let sent = lab.receive(&alice(), &request("MESSAGE", 1, &altered));
    assert_eq!(status(&sent), Some(494));
    let wrong = right.replace("d-ver=\"", "d-ver=\"0").replace("0\"\nProxy-Auth", "\"\nProxy-Auth");
    let sent = lab.receive(&alice(), &request("MESSAGE", 2, &wrong));
    assert_eq!(status(&sent), Some(494));
    assert_eq!(lab.transactions(), 0);
    let sent = lab.receive(&alice(), &request("MESSAGE", 3, &right));
    assert_eq!(sent[0].to.to_string(), "203.0.113.10:5060");
}
