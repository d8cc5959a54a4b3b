//! Keys, Nbsp_GBA, tokens, client: what a NAF shows beside its certificate, given to it or fetched.
//!
//! 1. A token that was given is shown as it is.
//! 2. One that is fetched is asked for at an authorization server, by the client's credentials, when it is first needed.
//! 3. It is held until shortly before its end, or until a server of keys does not take it.
//!
//! Takes:   [`Shown`], the time.
//! Gives:   [`Bearer`].
//! Keeps:   one token, one connection to the authorization server; when asking it failed last.
//! Refuses: an authorization server that is not the one its certificate should name; an answer that is none, names another
//!          kind of token, lets it go unsaid how long it lasts, or leaves the service out of its scope. Nobody asks again for
//!          [`PAUSE`] then, and no server of keys is asked without a token.
//! Sources: RFC 6749 sections 2.3.1, 4.4 and 5.1; TS 29.510 clause 5.4.2.2 (`AccessTokenReq`, `AccessTokenRsp`); RFC 8705
//!          section 2.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde_json::Value;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::JSON;
use super::bearer::{Bearer, Scope};
use super::client::{Line, Server, Silence, exchange, sensitive};
use super::message::{Kept, Malformed, may, need, object};
use crate::instant::{Instant, Now};
use crate::transport::tls::ClientTls;
use crate::wire::octets::hex_digits;

/// How long nobody asks for a token after that failed.
pub const PAUSE: Duration = Duration::from_secs(2);
/// Longest time that a token is held.
pub const LIFE_MAX: Duration = Duration::from_secs(86_400);
/// How long before its end a token is no longer shown, at most; of a short life it is a tenth.
const MARGIN: Duration = Duration::from_secs(30);

/// What is shown beside the certificate.
#[derive(Clone, Debug)]
pub enum Shown {
    /// A token.
    Given(Bearer),
    /// One that is fetched.
    Fetched(Endpoint),
}

/// An authorization server, and who we are there.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it is; our certificate is shown there too.
    pub at: Server,
    /// The path.
    pub path: Arc<str>,
    /// Who asks.
    pub client: Client,
}

/// Who asks for a token.
#[derive(Clone, Debug)]
pub enum Client {
    /// A client of OAuth 2.0, with its secret where the certificate does not prove it.
    Named(Arc<str>, Option<Bearer>),
    /// An instance of a network function, at an NRF.
    Instance(Arc<str>),
}

impl Shown {
    /// Whether they differ in what is secret alone.
    pub fn is_like(&self, other: &Self) -> bool {
        // Printed forms hold everything but that.
        format!("{self:?}") == format!("{other:?}")
    }
}

impl Endpoint {
    /// What it is asked.
    fn form(&self) -> String {
        let form = format!("grant_type=client_credentials&scope={}", Scope::Service.name());
        match &self.client {
            Client::Named(_, Some(_)) => form,
            Client::Named(name, None) => format!("{form}&client_id={name}"),
            Client::Instance(id) => {
                format!("{form}&nfInstanceId={id}&nfType=AF&targetNfType=GBA_BSF")
            }
        }
    }

    /// The value of `Authorization`, where there is a secret.
    fn credentials(&self) -> Option<Zeroizing<String>> {
        let Client::Named(name, Some(secret)) = &self.client else { return None };
        let pair = Zeroizing::new(format!("{name}:{}", encoded(secret.text()).as_str()));
        let pair = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        Some(Zeroizing::new(format!("Basic {}", pair.as_str())))
    }
}

/// A secret as a form has it.
///
/// Source: RFC 6749 section 2.3.1 and appendix B.
fn encoded(text: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(text.len().saturating_mul(3)));
    for octet in text.bytes() {
        match octet {
            b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(octet)),
            octet if octet.is_ascii_alphanumeric() => encoded.push(char::from(octet)),
            octet => {
                encoded.push('%');
                encoded
                    .extend(hex_digits(octet).map(|digit| char::from(digit).to_ascii_uppercase()));
            }
        }
    }
    encoded
}

/// How it is come by.
pub(super) enum Source {
    Given(Bearer),
    Fetched(Box<Fetcher>),
}

impl Source {
    pub(super) fn new(shown: Shown) -> Self {
        match shown {
            Shown::Given(token) => Self::Given(token),
            Shown::Fetched(endpoint) => {
                let (line, held) = (Line::default(), Mutex::default());
                Self::Fetched(Box::new(Fetcher { endpoint, line, held }))
            }
        }
    }

    /// The token that is to be shown now.
    pub(super) async fn token(&self, tls: &ClientTls, now: Now) -> Result<Bearer, Silence> {
        match self {
            Self::Given(token) => Ok(token.clone()),
            Self::Fetched(fetcher) => fetcher.token(tls, now).await,
        }
    }

    /// A server of keys did not take that token: another is fetched when it is needed.
    pub(super) async fn refused(&self, token: &Bearer) {
        let Self::Fetched(fetcher) = self else { return };
        let mut held = fetcher.held.lock().await;
        if held.token.as_ref().is_some_and(|(own, _)| own.is(token)) {
            held.token = None;
        }
    }
}

/// Fetches tokens.
pub(super) struct Fetcher {
    endpoint: Endpoint,
    line: Line,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// With the time from which it is not shown any more.
    token: Option<(Bearer, Instant)>,
    /// Before that time nobody asks.
    pause: Option<Instant>,
}

impl Fetcher {
    /// Steps 2 and 3. Whoever comes meanwhile waits for the first.
    async fn token(&self, tls: &ClientTls, now: Now) -> Result<Bearer, Silence> {
        let mut held = self.held.lock().await;
        if let Some((token, until)) = &held.token
            && *until > now.mono
        {
            return Ok(token.clone());
        }
        if held.pause.is_some_and(|until| until > now.mono) {
            return Err(Silence::Unfit);
        }
        // First of all: who asks may be dropped.
        (held.token, held.pause) = (None, Some(now.mono + PAUSE));
        // What is wrong here is no fault of the server of keys.
        let (token, life) = self.fetch(tls).await.map_err(|_| Silence::Unfit)?;
        let shown = life.saturating_sub(MARGIN.min(life.checked_div(10).unwrap_or_default()));
        (held.token, held.pause) = (Some((token.clone(), now.mono + shown)), None);
        Ok(token)
    }

    async fn fetch(&self, tls: &ClientTls) -> Result<(Bearer, Duration), Silence> {
        let Endpoint { at, path, .. } = &self.endpoint;
        let sender = self.line.connection(at, tls).await?;
        let mut request = Request::post(format!("https://{at}{path}"))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
            .header(ACCEPT, HeaderValue::from_static(JSON));
        if let Some(credentials) = self.endpoint.credentials() {
            request = request.header(AUTHORIZATION, sensitive(&credentials)?);
        }
        let request = request.body(Full::new(Bytes::from(self.endpoint.form())));
        let (status, body) = exchange(sender, request.map_err(|_| Silence::Unfit)?).await?;
        let issued = (status == 200).then(|| issued(&body)).ok_or(Silence::Unfit)?;
        issued.map_err(|_| Silence::Unfit)
    }
}

/// Reads `AccessTokenRsp`: the token, and how long it lasts.
fn issued(octets: &[u8]) -> Result<(Bearer, Duration), Malformed> {
    let object = Kept(object(octets)?);
    let token = need(&object.0, "access_token", |value| Bearer::read(value.as_str()?.as_bytes()))?;
    let bearer = |value: &Value| value.as_str()?.eq_ignore_ascii_case("Bearer").then_some(());
    need(&object.0, "token_type", bearer)?;
    let life = need(&object.0, "expires_in", |value| value.as_u64().filter(|life| *life > 0))?;
    let service = |value: &Value| {
        let mut scopes = value.as_str()?.split(' ');
        scopes.any(|scope| scope == Scope::Service.name()).then_some(())
    };
    may(&object.0, "scope", service)?;
    Ok((token, Duration::from_secs(life).min(LIFE_MAX)))
}
