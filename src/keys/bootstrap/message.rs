//! Keys, bootstrap, messages: what the server reads on Ub and what it prints.
//!
//! Takes:   the parts of an HTTP request that matter, from whatever carried it.
//! Gives:   [`UbAnswer`], headers and body ready for any HTTP server; [`UbOutcome`] for the counters.
//! Keeps:   nothing.
//! Refuses: nothing; the machine judged before.
//! Sources: TS 24.109 annexes A.3, C.1 and I.2; RFC 3310 sections 3.1 and 3.5; RFC 7616 sections 3.3 and 3.5.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::identity::Btid;
use crate::instant::WallTime;
use crate::keys::TlsExport;
use crate::keys::calendar::{print_http, print_xml};

/// The product token by which either side says that it knows temporary identities.
pub const TMPI_TOKEN: &str = "3gpp-gba-tmpi";
/// The product tokens by which a UE asks for a run by password: TS 24.109 annex I.2 has the first, products the second.
pub const DIGEST_TOKENS: [&str; 2] = ["GBA_Digest", "3gpp-gba-digest"];
/// The type of the answer's body.
pub const BODY_TYPE: &str = "application/vnd.3gpp.bsf+xml";

/// One request as it came.
#[derive(Clone, Copy, Debug)]
pub struct UbRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The request-target.
    pub target: &'a str,
    /// Every `Authorization` value.
    pub authorization: &'a [&'a [u8]],
    /// The `User-Agent` value.
    pub user_agent: Option<&'a [u8]>,
    /// Whether there is a body; a bootstrapping GET has none.
    pub has_body: bool,
    /// Who sent it.
    pub source: IpAddr,
    /// What the TLS connection exports for runs by password; `None` in the clear, and where they are switched off.
    pub exported: Option<&'a TlsExport>,
}

/// How one request ended, for counters and logs: the peer is told less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UbOutcome {
    /// A subscriber was challenged.
    Challenged,
    /// A name that is nobody's was challenged all the same.
    StrangerChallenged,
    /// A TMPI that is not known: the UE is to come back with its IMPI.
    TmpiUnknown,
    /// An AUTS was right; a new challenge follows the card's number.
    Resynchronised,
    /// The response was right and a session began.
    Bootstrapped,
    /// The response was right and the subscriber is barred.
    Barred,
    /// The response, the AUTS or the nonce was not right; challenged anew.
    Refused,
    /// Not a request of Ub.
    Malformed,
    /// Too often.
    Paced,
    /// The server could not: no sequence number left, or a challenge drawn twice.
    Unable,
    /// The store of subscribers does not answer.
    StoreUnavailable,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct UbAnswer {
    /// The status code.
    pub status: u16,
    /// Names and values, without Content-Length and Date.
    pub headers: Vec<(&'static str, String)>,
    /// The body, octet for octet as `rspauth` covers it.
    pub body: Vec<u8>,
    /// What happened.
    pub outcome: UbOutcome,
}

impl UbOutcome {
    /// A name for counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Challenged => "challenged",
            Self::StrangerChallenged => "stranger_challenged",
            Self::TmpiUnknown => "tmpi_unknown",
            Self::Resynchronised => "resynchronised",
            Self::Bootstrapped => "bootstrapped",
            Self::Barred => "barred",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Paced => "paced",
            Self::Unable => "unable",
            Self::StoreUnavailable => "store_unavailable",
        }
    }
}

impl UbAnswer {
    /// A header's value; the first, if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// An answer that ends the attempt, with a line for whoever reads it.
    pub(super) fn plain(status: u16, outcome: UbOutcome, why: &str) -> Self {
        let headers = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
        Self { status, headers, body: format!("{why}\n").into_bytes(), outcome }
    }

    /// The answer while the store of subscribers does not answer: nobody is let pass, and nobody told that he is unknown.
    pub(super) fn store_unavailable() -> Self {
        let why = "the server cannot look anybody up now";
        let mut answer = Self::plain(503, UbOutcome::StoreUnavailable, why);
        answer.headers.push(("Retry-After", "10".to_owned()));
        answer
    }

    /// The answer to a barred subscriber, once it has proved itself.
    pub(super) fn barred() -> Self {
        Self::plain(403, UbOutcome::Barred, "this subscription is barred")
    }

    /// An answer that asks for patience.
    pub(super) fn later(outcome: UbOutcome, wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add(1);
        let mut answer = Self::plain(503, outcome, "too many attempts");
        answer.headers.push(("Retry-After", seconds.to_string()));
        answer
    }
}

/// The value of `WWW-Authenticate`.
pub(super) fn challenge(
    realm: &str,
    nonce: &str,
    algorithm: impl fmt::Display,
    opaque: &str,
) -> String {
    format!(
        "Digest realm=\"{realm}\",nonce=\"{nonce}\",algorithm={algorithm},qop=\"auth-int\",\
         opaque=\"{opaque}\""
    )
}

/// The value of `Authentication-Info`. `cnonce` has been checked to hold neither quotes nor control characters.
pub(super) fn authentication_info(qop: &str, rspauth: &str, cnonce: &str, nc: &str) -> String {
    format!("qop={qop},rspauth=\"{rspauth}\",cnonce=\"{cnonce}\",nc={nc}")
}

/// The body of the 200: `BootstrappingInfo`, `lifetime` being the moment at which the key ends.
///
/// Source: TS 24.109 annex C.1.
pub(super) fn body(btid: &Btid, expires: WallTime, current: Option<WallTime>) -> Vec<u8> {
    let extension = current.map_or_else(String::new, |at| {
        format!("<Extension><currenttime>{}</currenttime></Extension>\r\n", print_xml(at))
    });
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
         <BootstrappingInfo xmlns=\"uri:3gpp-gba\">\r\n\
         <btid>{}</btid>\r\n<lifetime>{}</lifetime>\r\n{extension}</BootstrappingInfo>\r\n",
        escaped(btid.as_str()),
        print_xml(expires),
    )
    .into_bytes()
}

/// The value of `Expires`.
pub(super) fn expires(at: WallTime) -> String {
    print_http(at)
}

/// Whether a product list holds the token of temporary identities.
pub fn has_tmpi_token(products: &[u8]) -> bool {
    has_token(products, TMPI_TOKEN)
}

/// Whether a product list asks for a run by password.
pub fn has_digest_token(products: &[u8]) -> bool {
    DIGEST_TOKENS.iter().any(|token| has_token(products, token))
}

fn has_token(products: &[u8], token: &str) -> bool {
    products
        .split(|octet| matches!(octet, b' ' | b'\t'))
        .any(|product| product.eq_ignore_ascii_case(token.as_bytes()))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
