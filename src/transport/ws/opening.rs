//! Stage 1, WebSocket opening: the one HTTP request on such a connection, and the answer to it.
//!
//! Takes:   the octets read so far, and the listener's [`Rules`]; at the other end, an [`Offer`].
//! Gives:   [`Verdict`]; the request of a client, and whether an answer accepts it.
//! Keeps:   nothing. Bounds: 8 KiB and 64 header fields.
//! Refuses: what is no HTTP, without an answer; by status 400 what is malformed, or asks for no `sip`; 403 an Origin that is
//!          missing, `null` or not listed; 404 another path; 405 another method; 426 what is no upgrade, or to another
//!          version; 431 a head over the bounds. No answer holds anything of the request but the hash of its key.
//! Sources: RFC 6455 sections 4.1, 4.2, 10.2; RFC 7118 section 4.1; RFC 9110 sections 7.8 and 15.5; `V-75`, `V-79`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::{memchr, memmem};
use sha1::{Digest as _, Sha1};

use crate::wire::octets::is_token_octet;

/// Longest head, in octets.
pub const HEAD_MAX: usize = 8 * 1024;
/// Most header fields.
const FIELDS_MAX: usize = 64;
/// What the key is hashed with (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The subprotocol of RFC 7118.
const SIP: &[u8] = b"sip";

/// Whom a listener lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Origins as browsers write them, in lower case; whoever names another one, or none, is refused.
    pub origins: Vec<String>,
    /// The path that is asked for.
    pub path: String,
}

/// What comes of the octets read so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The head is not whole.
    More,
    /// It is no HTTP: to be closed without an answer.
    Stranger,
    /// To be answered so, and closed.
    Refuse(u16),
    /// To be answered so; frames follow behind this many octets.
    Accept {
        /// Octets of the request.
        head: usize,
        /// The answer.
        answer: String,
    },
}

/// Judges a request by what was read of it.
pub fn judge(octets: &[u8], rules: &Rules) -> Verdict {
    let front = octets.get(..HEAD_MAX).unwrap_or(octets);
    if is_strange(front) {
        return Verdict::Stranger;
    }
    let Some(blank) = memmem::find(front, b"\r\n\r\n") else {
        return if octets.len() < HEAD_MAX { Verdict::More } else { Verdict::Refuse(431) };
    };
    let head = blank.saturating_add(4);
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(front.get(..head).unwrap_or_default()) {
        Ok(httparse::Status::Complete(length)) if length == head => {}
        Err(httparse::Error::TooManyHeaders) => return Verdict::Refuse(431),
        _ => return Verdict::Refuse(400),
    }
    match accept(&request, rules) {
        Ok(answer) => Verdict::Accept { head, answer },
        Err(status) => Verdict::Refuse(status),
    }
}

/// Whether this is no HTTP: by its first octet, or by its first line once that is whole.
fn is_strange(octets: &[u8]) -> bool {
    let Some(end) = memchr(b'\n', octets) else {
        return octets.first().is_some_and(|octet| !is_token_octet(*octet));
    };
    let line = octets.get(..end).unwrap_or_default().trim_ascii_end();
    let version = line.rsplit(|octet| *octet == b' ').next().unwrap_or_default();
    !version.starts_with(b"HTTP/") || !line.first().is_some_and(|octet| is_token_octet(*octet))
}

/// The answer that accepts; else a status.
fn accept(request: &httparse::Request<'_, '_>, rules: &Rules) -> Result<String, u16> {
    let field = |name: &str| only(request.headers, name);
    if request.method != Some("GET") {
        return Err(405);
    }
    let has_body = field("Content-Length")?.is_some_and(|length| length != b"0");
    let proper = request.version == Some(1) && field("Host")?.is_some_and(|host| !host.is_empty());
    if !proper || has_body || field("Transfer-Encoding")?.is_some() {
        return Err(400);
    }
    let path = request.path.unwrap_or_default();
    if path.split('?').next() != Some(&*rules.path) {
        return Err(404);
    }
    if !lists(request.headers, "Upgrade", b"websocket")
        || !lists(request.headers, "Connection", b"upgrade")
        || field("Sec-WebSocket-Version")? != Some(b"13")
    {
        return Err(426);
    }
    let key = field("Sec-WebSocket-Key")?.ok_or(400_u16)?;
    if STANDARD.decode(key).map_or(true, |key| key.len() != 16) {
        return Err(400);
    }
    let origin = field("Origin")?.ok_or(403_u16)?;
    let listed = |known: &String| origin.eq_ignore_ascii_case(known.as_bytes());
    if origin == b"null" || !rules.origins.iter().any(listed) {
        return Err(403);
    }
    if !lists(request.headers, "Sec-WebSocket-Protocol", SIP) {
        return Err(400);
    }
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: sip\r\n\r\n",
        accepting(key)
    ))
}

/// The value of a field that may stand there once.
fn only<'h>(fields: &[httparse::Header<'h>], name: &str) -> Result<Option<&'h [u8]>, u16> {
    let mut found = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    let first = found.next().map(|field| field.value.trim_ascii());
    if found.next().is_some() { Err(400) } else { Ok(first) }
}

/// Whether a list that may stand in several rows holds `word`.
fn lists(fields: &[httparse::Header<'_>], name: &str, word: &[u8]) -> bool {
    fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case(name))
        .flat_map(|field| field.value.split(|octet| *octet == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(word))
}

/// What proves that the key was read.
fn accepting(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// The answer that refuses.
pub fn refusal(status: u16) -> String {
    let (reason, fields) = match status {
        403 => ("Forbidden", ""),
        404 => ("Not Found", ""),
        405 => ("Method Not Allowed", "Allow: GET\r\n"),
        426 => ("Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
        431 => ("Request Header Fields Too Large", ""),
        _ => ("Bad Request", ""),
    };
    let connection = if status == 426 { "Upgrade, close" } else { "close" };
    format!(
        "HTTP/1.1 {status} {reason}\r\n{fields}Connection: {connection}\r\nContent-Length: 0\r\n\r\n"
    )
}

/// What a client asks with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Whose page it would be; none is sent if `None`.
    pub origin: Option<String>,
    /// The path at the server.
    pub path: String,
}

impl Default for Offer {
    fn default() -> Self {
        Self { origin: None, path: "/".into() }
    }
}

impl Offer {
    /// The request to `host`, and the key in it; `seed` is random. `None` if something in it would end a line.
    pub fn request(&self, host: &str, seed: [u8; 16]) -> Option<(String, String)> {
        let key = STANDARD.encode(seed);
        let origin = self.origin.as_deref();
        let clean = |text: &str| text.bytes().all(|octet| octet.is_ascii_graphic());
        if !clean(host) || !clean(&self.path) || !origin.is_none_or(clean) {
            return None;
        }
        let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\n{origin}Sec-WebSocket-Protocol: sip\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n",
            self.path
        );
        Some((request, key))
    }
}

/// Whether an answer accepts the request with that key: the octets of its head if it does; `None` if more is to be read.
///
/// # Errors
///
/// What is wrong with it.
pub fn accepted(octets: &[u8], key: &str) -> Result<Option<usize>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let head = match response.parse(octets.get(..HEAD_MAX).unwrap_or(octets)) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if octets.len() < HEAD_MAX => return Ok(None),
        _ => return Err("no answer of a WebSocket server".into()),
    };
    let status = response.code.unwrap_or(0);
    if status != 101 {
        return Err(format!("the WebSocket handshake was answered {status}"));
    }
    let field = |name| only(response.headers, name).ok().flatten();
    let proper = lists(response.headers, "Upgrade", b"websocket")
        && lists(response.headers, "Connection", b"upgrade")
        && field("Sec-WebSocket-Accept") == Some(accepting(key.as_bytes()).as_bytes())
        && field("Sec-WebSocket-Protocol") == Some(SIP)
        && field("Sec-WebSocket-Extensions").is_none();
    if proper { Ok(Some(head)) } else { Err("no SIP over WebSocket was agreed".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules { origins: vec!["http://www.example.com".into()], path: "/".into() }
    }

    /// RFC 7118 section 4.1.
    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: sip-ws.example.com\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Origin: http://www.example.com\r\nSec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n";
    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
        Sec-WebSocket-Protocol: sip\r\n\r\n";

    #[test]
    fn the_example_of_the_document_is_accepted_and_not_before_it_is_whole() {
        let accepted = Verdict::Accept { head: REQUEST.len(), answer: ANSWER.into() };
        assert_eq!(judge(REQUEST.as_bytes(), &rules()), accepted);
        let followed = [REQUEST.as_bytes(), &[0x81, 0x80]].concat();
        assert_eq!(judge(&followed, &rules()), accepted, "frames behind it are not its own");
        for cut in 0..REQUEST.len() {
            assert_eq!(judge(&REQUEST.as_bytes()[..cut], &rules()), Verdict::More, "{cut} octets");
        }
    }

    /// V-79, and the rest of what a handshake may lack.
    #[test]
    fn each_request_that_is_not_right_has_its_status() {
        let listed = "Origin: http://www.example.com\r\n";
        for (about, from, to, status) in [
            ("no Origin, from a script", listed, "", 403),
            ("a foreign Origin", "www.example.com\r\nSec", "evil.example.com\r\nSec", 403),
            (
                "one that only begins like it",
                "www.example.com\r\nSec",
                "www.example.com.evil\r\nSec",
                403,
            ),
            ("another scheme", "Origin: http:", "Origin: https:", 403),
            ("null", "http://www.example.com\r\n", "null\r\n", 403),
            ("two Origins", listed, "Origin: http://www.example.com\r\nOrigin: null\r\n", 400),
            ("no subprotocol", "Sec-WebSocket-Protocol: sip\r\n", "", 400),
            ("another subprotocol", "Protocol: sip", "Protocol: xmpp, sips", 400),
            ("no Host", "Host: sip-ws.example.com\r\n", "", 400),
            ("HTTP/1.0", "HTTP/1.1", "HTTP/1.0", 400),
            ("a key that is short", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", 400),
            ("a body", "Host:", "Content-Length: 5\r\nHost:", 400),
            ("a bare line end", "\r\nUpgrade", "\nUpgrade: x\n\nUpgrade", 400),
            ("another path", "GET / ", "GET /x ", 404),
            ("another method", "GET / ", "POST / ", 405),
            ("no upgrade", "Upgrade: websocket\r\n", "", 426),
            ("an upgrade to something else", "Upgrade: websocket", "Upgrade: h2c", 426),
            ("another version", "Version: 13", "Version: 8", 426),
        ] {
            assert!(REQUEST.contains(from), "{about}");
            let request = REQUEST.replacen(from, to, 1);
            assert_eq!(judge(request.as_bytes(), &rules()), Verdict::Refuse(status), "{about}");
        }
        let nobody = Rules { origins: Vec::new(), ..rules() };
        assert_eq!(judge(REQUEST.as_bytes(), &nobody), Verdict::Refuse(403), "an empty list");
        let null = Rules { origins: vec!["null".into()], ..rules() };
        let request = REQUEST.replace("http://www.example.com", "null");
        assert_eq!(judge(request.as_bytes(), &null), Verdict::Refuse(403), "null is nobody's");
    }

    #[test]
    fn spellings_that_browsers_use_are_accepted() {
        for (from, to) in [
            ("Connection: Upgrade", "connection: keep-alive, upgrade"),
            ("Upgrade: websocket", "upgrade: WebSocket"),
            ("Protocol: sip", "Protocol: xmpp, sip"),
            ("GET / ", "GET /?room=1 "),
            ("Host:", "Cookie: a=b\r\nSec-WebSocket-Extensions: permessage-deflate\r\nHost:"),
        ] {
            let request = REQUEST.replacen(from, to, 1);
            assert!(matches!(judge(request.as_bytes(), &rules()), Verdict::Accept { .. }), "{to}");
        }
    }

    /// V-75.
    #[test]
    fn what_is_no_http_gets_no_answer() {
        for octets in [
            &b"REGISTER sip:example.net SIP/2.0\r\n"[..],
            b"\r\n\r\nREGISTER sip:example.net SIP/2.0\r\n\r\n",
            b"SIP/2.0 200 OK\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
            b"\x81\x85",
            b"\n",
        ] {
            assert_eq!(judge(octets, &rules()), Verdict::Stranger, "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn a_head_has_bounds() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(HEAD_MAX));
        assert_eq!(judge(long.as_bytes(), &rules()), Verdict::Refuse(431));
        let many = REQUEST.replacen("Host:", &format!("{}Host:", "X: y\r\n".repeat(FIELDS_MAX)), 1);
        assert_eq!(judge(many.as_bytes(), &rules()), Verdict::Refuse(431));
    }

    #[test]
    fn a_client_believes_the_right_answer_alone() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        assert_eq!(accepted(ANSWER.as_bytes(), key), Ok(Some(ANSWER.len())));
        assert_eq!(accepted(&ANSWER.as_bytes()[..40], key), Ok(None));
        for (from, to) in [
            ("s3pP", "S3pP"),
            ("Protocol: sip", "Protocol: xmpp"),
            ("Upgrade: websocket\r\n", ""),
            ("101 Switching", "200 Fine"),
            ("Connection:", "Sec-WebSocket-Extensions: x\r\nConnection:"),
        ] {
            assert!(accepted(ANSWER.replacen(from, to, 1).as_bytes(), key).is_err(), "{to:?}");
        }
        let offer = Offer { origin: Some("http://www.example.com".into()), ..Offer::default() };
        let (request, _) = offer.request("sip-ws.example.com", *b"the sample nonce").unwrap();
        assert_eq!(request, REQUEST);
        let split = Offer { origin: Some("http://a\r\nX: y".into()), ..Offer::default() };
        assert_eq!(split.request("b", [0; 16]), None);
    }
}
