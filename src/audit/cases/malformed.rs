//! The audit, malformed messages: a good OPTIONS with one thing wrong in it.
//!
//! Judged against the answer to the same request without the flaw: who answers both alike has not seen it. Silence and a closed
//! connection are refusals, as long as the target answers afterwards.
//!
//! Takes:   a door, and a [`Flaw`].
//! Gives:   whether it was seen.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: RFC 3261 sections 7, 8.1.1, 18.3, 20 and 25; RFC 4475; V-01 to V-06, V-87.

use super::super::case::{Case, Group, Judged, Over, Run, failed, not_applicable, passed};
use super::super::line::Heard;
use super::super::probe::Probe;

/// One thing that is wrong.
#[derive(Debug)]
pub struct Flaw {
    /// The line that is changed, by how it begins; a line is added in front of it if `with` says so.
    line: &'static str,
    /// What stands there instead: `{}` is the line as it was.
    with: &'static [u8],
    /// How often, for what is too much.
    times: usize,
    /// Whether it must be refused; else it is enough to survive it.
    refused: bool,
}

const fn flaw(line: &'static str, with: &'static [u8]) -> Flaw {
    Flaw { line, with, times: 1, refused: true }
}

const fn many(line: &'static str, with: &'static [u8], times: usize) -> Flaw {
    Flaw { line, with, times, refused: false }
}

/// A row: what all of them share is said once.
const fn row(
    name: &'static str,
    title: &'static str,
    threat: &'static [&'static str],
    clause: &'static str,
    why: &'static str,
    run: &'static Flaw,
) -> Case {
    Case {
        name,
        group: Group::Malformed,
        title,
        threats: threat,
        clause,
        why,
        remedy: "Check messages before anything is decided on them: sanity_check() of Kamailio, sipmsg_validate() of OpenSIPS; or put a gateway in front that does.",
        over: Over::Each,
        accounts: 0,
        disruptive: false,
        run: Run::Malformed(run),
    }
}

const TWO_READERS: &str = "Two programs that read one message differently are how requests are smuggled past the one that checks.";
const SMUGGLED: &str = "Who takes another length than the next hop reads a second message out of the first one's body, which nobody has checked.";
const NEEDED: &str = "Without this header a message belongs to no transaction or dialog; code that looks for it all the same has crashed many servers.";
const WRAPS: &str =
    "A number that does not fit wraps around, and what is compared with it is decided wrongly.";
const ROOM: &str = "Room that is not bounded is memory that anybody can take.";

/// The table.
pub const CASES: &[Case] = &[
    row("content-length-twice", "Two Content-Length fields that differ are refused", &["V-02"], "RFC 3261 7.3.1, 20.14", SMUGGLED,
        &flaw("Content-Length:", b"Content-Length: 0\r\nContent-Length: 4\r\n")),
    row("content-length-short-form", "Content-Length in both forms, which differ, is refused", &["V-02"], "RFC 3261 7.3.3, 20.14", SMUGGLED,
        &flaw("Content-Length:", b"l: 4\r\nContent-Length: 0\r\n")),
    row("content-length-negative", "A negative Content-Length is refused", &["V-02"], "RFC 3261 20.14; RFC 4475 3.1.2.2", SMUGGLED,
        &flaw("Content-Length:", b"Content-Length: -1\r\n")),
    row("content-length-signed", "A Content-Length with a plus sign is refused", &["V-02"], "RFC 3261 25.1", SMUGGLED,
        &flaw("Content-Length:", b"Content-Length: +0\r\n")),
    row("content-length-wraps", "A Content-Length of 2 to the power of 32 is refused", &["V-02", "V-10"], "RFC 3261 18.3, 20.14", WRAPS,
        &flaw("Content-Length:", b"Content-Length: 4294967296\r\n")),
    Case { over: Over::Udp, ..row("content-length-beyond", "A datagram that ends before its body does is refused", &["V-02"], "RFC 3261 18.3; RFC 4475 3.1.2.2", SMUGGLED,
        &flaw("Content-Length:", b"Content-Length: 400\r\n")) },
    row("line-end-bare", "A header that hides behind a bare LF is refused", &["V-01"], "RFC 3261 7, 25.1", TWO_READERS,
        &flaw("User-Agent:", b"User-Agent: a\nContent-Length: 4\r\n")),
    row("header-name-space", "A header name with a NUL octet in it is refused", &["V-03"], "RFC 3261 25.1", TWO_READERS,
        &flaw("User-Agent:", b"User-Agent\x00: a\r\n")),
    row("nul-in-uri", "A NUL octet in the Request-URI is refused", &["V-83"], "RFC 3261 25.1", "A string that ends at NUL in one program and goes on in the next names two users.",
        &flaw("OPTIONS ", b"OPTIONS sip:a\x00b@example.net SIP/2.0\r\n")),
    row("from-missing", "A request without From is refused", &["V-05"], "RFC 3261 8.1.1; RFC 4475 3.3.1", NEEDED, &flaw("From:", b"")),
    row("to-missing", "A request without To is refused", &["V-05"], "RFC 3261 8.1.1; RFC 4475 3.3.1", NEEDED, &flaw("To:", b"")),
    row("call-id-missing", "A request without Call-ID is refused", &["V-05"], "RFC 3261 8.1.1; RFC 4475 3.3.1", NEEDED, &flaw("Call-ID:", b"")),
    row("cseq-missing", "A request without CSeq is refused", &["V-05"], "RFC 3261 8.1.1; RFC 4475 3.3.1", NEEDED, &flaw("CSeq:", b"")),
    row("via-missing", "A request without Via is refused", &["V-05"], "RFC 3261 8.1.1, 18.2.2", NEEDED, &flaw("Via:", b"")),
    row("from-twice", "Two From fields are refused", &["V-05"], "RFC 3261 7.3.1; RFC 4475 3.3.8", TWO_READERS,
        &flaw("From:", b"{}f: <sip:other@example.net>;tag=2\r\n")),
    row("to-twice", "Two To fields are refused", &["V-04"], "RFC 3261 7.3.1; RFC 4475 3.3.8", TWO_READERS,
        &flaw("To:", b"{}t: <sip:other@example.net>;tag=2\r\n")),
    row("call-id-twice", "Two Call-ID fields are refused", &["V-05"], "RFC 3261 7.3.1; RFC 4475 3.3.8", TWO_READERS,
        &flaw("Call-ID:", b"{}i: another\r\n")),
    row("cseq-negative", "A negative CSeq is refused", &["V-05"], "RFC 3261 8.1.1.5, 20.16", WRAPS, &flaw("CSeq:", b"CSeq: -1 OPTIONS\r\n")),
    row("cseq-wraps", "A CSeq of 2 to the power of 32 is refused", &["V-05"], "RFC 3261 8.1.1.5; RFC 4475 3.1.2.4", WRAPS,
        &flaw("CSeq:", b"CSeq: 4294967297 OPTIONS\r\n")),
    row("cseq-other-method", "A CSeq of another method is refused", &["V-05"], "RFC 3261 8.1.1.5; RFC 4475 3.1.2.17",
        "The answer to one method is matched with the transaction of another.", &flaw("CSeq:", b"CSeq: 1 INVITE\r\n")),
    row("hops-malformed", "Max-Forwards that is no number is refused", &["V-65"], "RFC 3261 8.1.1.6, 20.22", "What stops loops must be a number that is counted down.",
        &flaw("Max-Forwards:", b"Max-Forwards: many\r\n")),
    row("version-other", "A request of another version of SIP is refused", &["V-87"], "RFC 3261 7.1, 21.5.6; RFC 4475 3.1.2.16", TWO_READERS,
        &flaw("OPTIONS ", b"OPTIONS sip:example.net SIP/7.0\r\n")),
    row("request-line-spaces", "A request line with two spaces is refused", &["V-87"], "RFC 3261 7.1, 25.1; RFC 4475 3.1.2.9", TWO_READERS,
        &flaw("OPTIONS ", b"OPTIONS  sip:example.net  SIP/2.0\r\n")),
    row("quote-open", "A From whose quote is never closed is refused", &["V-12"], "RFC 3261 25.1; RFC 4475 3.1.2.6", TWO_READERS,
        &flaw("From:", b"From: \"nobody <sip:nobody@example.net>;tag=1\r\n")),
    row("credentials-broken", "Credentials with an open quote are survived", &["V-06"], "RFC 3261 25.1; RFC 7616 3.4", "Parsers of credentials see what strangers send; each fault in one has been a way in.",
        &many("User-Agent:", b"Authorization: Digest username=\"a, realm=\"b\", nonce=\"c\", uri=\"d\", response=\"e\r\n", 1)),
    row("via-many", "A request with 300 Via values is survived", &["V-05"], "RFC 3261 20.42", ROOM,
        &many("Via:", b"{}", 300)),
    row("headers-many", "A request with 2000 headers is survived", &["V-05"], "RFC 3261 7.3", ROOM, &many("User-Agent:", b"X-A: b\r\n", 2000)),
    row("header-long", "A header of 16 KiB is survived", &["V-05"], "RFC 3261 7.3; RFC 4475 3.1.1.7", ROOM,
        &Flaw { line: "User-Agent:", with: b"User-Agent: {16k}\r\n", times: 1, refused: false }),
    row("message-large", "A message of 60 KiB is survived", &["V-10"], "RFC 3261 18.1.1, 21.5.7", ROOM, &many("User-Agent:", b"X-Padding: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", 960)),
];

/// Sends the flawed request.
pub(in super::super) async fn run(probe: &Probe, flaw: &Flaw) -> Judged {
    let mut stranger = probe.stranger().await?;
    let draft = stranger.draft("OPTIONS", &format!("sip:{}", probe.plan().domain));
    let (good, _) = stranger.print(&draft);
    stranger.line.send(&flaw.put(&good, &probe.plan().domain)).await;
    let usual = probe.usual.unwrap_or_default();
    Ok(match stranger.line.hear(probe.patience()).await {
        Heard::Message(answer) => match answer.status().unwrap_or_default() {
            status if !flaw.refused => passed(format!("answered {status}")),
            400 if usual == 400 => {
                not_applicable("a request without the flaw is answered 400, too")
            }
            status if status == usual => {
                failed(format!("answered {status}, like the same request without the flaw"))
            }
            401 | 407 => failed("asked for credentials, as if the message were good".to_owned()),
            status @ 400..=699 => passed(format!("refused with {status}")),
            status => failed(format!("answered {status}")),
        },
        Heard::Closed => passed("the connection was closed"),
        Heard::Nothing => passed("not answered"),
        Heard::Octets(octets) if !flaw.refused && octets.starts_with(b"SIP/2.0 ") => {
            passed("answered, with more than is read here")
        }
        Heard::Octets(_) => not_applicable("something came that is no SIP message"),
    })
}

impl Flaw {
    /// A good message with the flaw in it; `example.net` in the table stands for the target's domain.
    fn put(&self, good: &[u8], domain: &str) -> Vec<u8> {
        let mut bad = Vec::with_capacity(good.len());
        for line in good.split_inclusive(|octet| *octet == b'\n') {
            if !line.starts_with(self.line.as_bytes()) {
                bad.extend_from_slice(line);
                continue;
            }
            for _ in 0..self.times {
                let long = b"a".repeat(16_384);
                let text = replaced(self.with, b"example.net", domain.as_bytes());
                let text = replaced(&text, b"{}", line);
                bad.extend(replaced(&text, b"{16k}", &long));
            }
        }
        bad
    }
}

fn replaced(text: &[u8], mark: &[u8], by: &[u8]) -> Vec<u8> {
    match memchr::memmem::find(text, mark) {
        Some(at) => {
            let (before, rest) = text.split_at(at);
            [before, by, rest.get(mark.len()..).unwrap_or_default()].concat()
        }
        None => text.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::{Message, check};

    const GOOD: &str = "OPTIONS sip:example.net SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK1;rport\r\n\
        Max-Forwards: 70\r\nFrom: <sip:nobody@example.net>;tag=1\r\nTo: <sip:example.net>\r\nCall-ID: 1\r\n\
        CSeq: 1 OPTIONS\r\nUser-Agent: a\r\nContent-Length: 0\r\n\r\n";

    /// Whether this program's own parser takes a datagram.
    fn is_good(octets: Vec<u8>) -> bool {
        let message = Message::from_datagram(Bytes::from(octets));
        message.is_ok_and(|message| {
            check::check(&message).is_ok()
                && message.credentials(crate::wire::Name::Authorization).all(|row| row.is_ok())
        })
    }

    /// V-01, V-02, V-05, V-06, V-87.
    #[test]
    fn each_flaw_is_one_and_the_request_without_it_is_good() {
        assert!(is_good(GOOD.into()));
        for case in CASES {
            let Run::Malformed(flaw) = &case.run else { panic!("{}", case.name) };
            let bad = flaw.put(GOOD.as_bytes(), "example.net");
            assert_ne!(bad, GOOD.as_bytes(), "{}", case.name);
            assert!(bad.len() < 65_000, "{}: fits into a datagram", case.name);
            if flaw.refused {
                assert!(!is_good(bad), "{}: our own parser sees nothing wrong", case.name);
            }
        }
    }
}
