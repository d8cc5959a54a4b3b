//! Stage 1, PSK-TLS: handshakes with a shared key, as a server and as a UE.
//!
//! 1. Whoever read the ClientHello chose the version, and up to 1.2 the one suite: the key depends on it.
//! 2. TLS 1.3: the hello names the key, so it is fetched before `psk_tls13` begins the handshake.
//! 3. TLS 1.2, by OpenSSL: the ClientKeyExchange names it, in the clear. It is held back until the key is here.
//! 4. A handshake with a key that nobody has goes the same way, and cannot end well.
//!
//! Takes:   a connection, what was read of it, and a [`KeyDesk`]; as a UE, an identity with its key.
//! Gives:   an encrypted stream, and what its key proved.
//! Keeps:   a context for each suite; of a handshake, what [`Held`] does.
//! Refuses: other versions and suites than were chosen, keys without Diffie-Hellman in TLS 1.3, early data, renegotiation,
//!          compression, another protocol by ALPN. There are no tickets and no sessions: nothing outlives its key.
//! Sources: RFC 4279; RFC 5487; RFC 5489; RFC 7905; RFC 8446 section 4.2.11; TS 33.222 clause 5.4; `TR-02`, V-47, V-48.

use std::ffi::{CString, c_char, c_int};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use openssl::bn::BigNum;
use openssl::dh::Dh;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    AlpnError, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslRef,
    SslSessionCacheMode, SslVersion, select_next_proto,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_openssl::SslStream;

use super::client_hello::{Choice, ClientHello};
use super::held::Held;
use super::key_desk::KeyDesk;
use super::psk_stream::PskStream;
use super::psk_tls13::Psk13Server;
use crate::admission::Rate;
use crate::admission::rate::Bucket;
use crate::clock;
use crate::keys::psk::{HINT, Psk, PskClient, PskKey, PskProof, PskUse};

/// How many clients are told in all that their identity is unknown, where any are.
pub const TOLD: Rate = Rate::per_second(10);

/// A suite of TLS 1.2 with a shared key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// Its number.
    pub number: u16,
    /// What OpenSSL calls it.
    pub name: &'static str,
    /// Whether it is one of CBC, which has to be asked for.
    pub is_cbc: bool,
}

/// The suites that there are, the preferred one first.
pub const SUITES: [Suite; 5] = [
    Suite { number: 0xCCAC, name: "ECDHE-PSK-CHACHA20-POLY1305", is_cbc: false },
    Suite { number: 0x00AA, name: "DHE-PSK-AES128-GCM-SHA256", is_cbc: false },
    Suite { number: 0x00A8, name: "PSK-AES128-GCM-SHA256", is_cbc: false },
    Suite { number: 0xC037, name: "ECDHE-PSK-AES128-CBC-SHA256", is_cbc: true },
    Suite { number: 0x008C, name: "PSK-AES128-CBC-SHA", is_cbc: true },
];
/// What UEs offer: a shared key goes with the hash of its suite, and none of ours has another.
const SUITES_13: &str = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
/// As RFC 7301 writes lists of names.
const ALPN: &[u8] = b"\x05sip/2";

/// Handshakes with shared keys, as a server.
pub struct PskServer {
    numbers: Vec<u16>,
    contexts: Vec<SslContext>,
    tls13: Psk13Server,
    /// Where clients are told that their identity is unknown: when the next may be.
    tells: Option<Mutex<Bucket>>,
}

impl PskServer {
    /// With the suites of CBC, if `cbc`.
    ///
    /// # Errors
    ///
    /// What a library says: it lacks a suite, or its own policy forbids one.
    pub fn new(cbc: bool) -> Result<Self, PskRefusal> {
        let suites = || SUITES.iter().filter(|suite| cbc || !suite.is_cbc);
        let contexts = suites().map(server_12).collect::<Result<_, _>>()?;
        let numbers = suites().map(|suite| suite.number).collect();
        Ok(Self { numbers, contexts, tls13: Psk13Server::new()?, tells: None })
    }

    /// Tells clients of TLS 1.2 that their identity is unknown, at most [`TOLD`]; others see what a wrong key sees.
    ///
    /// Source: RFC 4279 section 2 (`unknown_psk_identity`).
    pub fn telling_unknown(self) -> Self {
        Self { tells: Some(Mutex::default()), ..self }
    }

    /// Whether this client is told.
    fn tells(&self, psk: &Psk) -> bool {
        let Some(bucket) = self.tells.as_ref().filter(|_| psk.proof.is_none()) else {
            return false;
        };
        bucket.lock().unwrap_or_else(PoisonError::into_inner).take(TOLD, clock::mono())
    }

    /// The suites of TLS 1.2, the preferred one first: for [`ClientHello::choose`].
    pub fn suites(&self) -> &[u16] {
        &self.numbers
    }

    /// Shakes hands with a client whose `hello` was read out of `ahead`, all that came so far.
    ///
    /// # Errors
    ///
    /// [`PskRefusal`]; the alert was sent where one is due.
    pub async fn accept<S>(
        &self,
        hello: &ClientHello,
        ahead: Bytes,
        io: S,
        desk: &KeyDesk,
    ) -> Result<(PskStream<S>, PskProof), PskRefusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match hello.choose(&self.numbers) {
            Choice::Certificate => Err(PskRefusal::NotChosen),
            Choice::Psk13 => self.tls13.accept(hello, Held::open(ahead, io), desk).await,
            Choice::Psk12(suite) => {
                let held = Held::shut(ahead, io).ok_or(PskRefusal::TooEager)?;
                self.accept_12(suite, hello.server_name.as_deref(), held, desk).await
            }
        }
    }

    async fn accept_12<S>(
        &self,
        suite: u16,
        asked_for: Option<&str>,
        held: Held<S>,
        desk: &KeyDesk,
    ) -> Result<(PskStream<S>, PskProof), PskRefusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut both = self.numbers.iter().zip(&self.contexts);
        let found = both.find(|(number, _)| **number == suite);
        let (_, context) = found.ok_or(PskRefusal::NotChosen)?;
        let given = Given::default();
        let mut ssl = Ssl::new(context)?;
        ssl.set_ex_data(index()?, given.clone());
        let mut stream = Box::pin(SslStream::new(ssl, held)?);
        while let Some(identity) = shake(&mut stream).await? {
            let psk = desk.psk(&identity, asked_for, PskUse::Suite(suite)).await;
            // Without a key, OpenSSL says that it knows of none.
            if !self.tells(&psk) {
                // The first one counts.
                let _ = given.0.set(psk);
            }
            stream.as_mut().get_pin_mut().release();
        }
        let proof = given.0.get().and_then(|psk| psk.proof.clone()).ok_or(PskRefusal::Nobody)?;
        if !is_as_chosen(stream.ssl(), Choice::Psk12(suite)) {
            return Err(PskRefusal::NotChosen);
        }
        Ok((PskStream::Tls12(stream), proof))
    }
}

impl fmt::Debug for PskServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PskServer({:04x?})", self.numbers)
    }
}

/// Goes on until the handshake is over, or until its key has to be fetched: the identity then.
async fn shake<S>(
    stream: &mut Pin<Box<SslStream<Held<S>>>>,
) -> Result<Option<Vec<u8>>, openssl::ssl::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    std::future::poll_fn(|context| match stream.as_mut().poll_accept(context) {
        Poll::Ready(done) => Poll::Ready(done.map(|()| None)),
        Poll::Pending => match stream.as_mut().get_pin_mut().asks() {
            Some(identity) => Poll::Ready(Ok(Some(identity))),
            None => Poll::Pending,
        },
    })
    .await
}

/// Whether what was negotiated is what the key was made for.
fn is_as_chosen(ssl: &SslRef, choice: Choice) -> bool {
    let suite = ssl.current_cipher().map(|cipher| u16::from_be_bytes(cipher.protocol_id()));
    match choice {
        Choice::Certificate => false,
        // To OpenSSL a session and a key from outside are one.
        Choice::Psk13 => ssl.version2() == Some(SslVersion::TLS1_3) && ssl.session_reused(),
        Choice::Psk12(chosen) => {
            ssl.version2() == Some(SslVersion::TLS1_2) && suite == Some(chosen)
        }
    }
}

/// The key of one handshake, as soon as it is known.
#[derive(Clone, Debug, Default)]
struct Given(Arc<OnceLock<Psk>>);

/// Where a handshake keeps its key.
fn index() -> Result<Index<Ssl, Given>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Given>> = OnceLock::new();
    match INDEX.get() {
        Some(index) => Ok(*index),
        None => {
            let index = Ssl::new_ex_index()?;
            Ok(*INDEX.get_or_init(|| index))
        }
    }
}

/// Gives OpenSSL the key.
fn give(ssl: &mut SslRef, _: Option<&[u8]>, out: &mut [u8]) -> Result<usize, ErrorStack> {
    let given = ssl.ex_data(index()?).and_then(|given| given.0.get());
    Ok(given.map_or(0, |psk| put(&psk.key, out)))
}

fn put(key: &PskKey, out: &mut [u8]) -> usize {
    let key = key.expose();
    let Some(out) = out.get_mut(..key.len()) else { return 0 };
    out.copy_from_slice(key);
    key.len()
}

/// What servers and UEs have in common: one version, nothing that outlives a connection.
fn bare(method: SslMethod, version: SslVersion) -> Result<SslContextBuilder, ErrorStack> {
    let mut context = SslContext::builder(method)?;
    context.set_min_proto_version(Some(version))?;
    context.set_max_proto_version(Some(version))?;
    context.set_options(
        SslOptions::NO_COMPRESSION | SslOptions::NO_RENEGOTIATION | SslOptions::NO_TICKET,
    );
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    // One read for what came, in place of one for each header, one for each body and one that finds nothing.
    context.set_read_ahead(true);
    context.set_mode(
        SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::RELEASE_BUFFERS,
    );
    Ok(context)
}

fn server_12(suite: &Suite) -> Result<SslContext, ErrorStack> {
    let mut context = bare(SslMethod::tls_server(), SslVersion::TLS1_2)?;
    context.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
    context.set_psk_server_callback(give);
    context.set_alpn_select_callback(|_, offered| {
        let chosen = select_next_proto(ALPN, offered).filter(|name| *name == b"sip/2");
        chosen.ok_or(AlpnError::ALERT_FATAL)
    });
    only(&mut context, suite)?;
    // The one that OpenSSL would choose by itself has 1024 bits.
    let group = Dh::from_pqg(BigNum::get_rfc3526_prime_2048()?, None, BigNum::from_u32(2)?)?;
    context.set_tmp_dh(&group)?;
    hint(&mut context)?;
    Ok(context.build())
}

/// Has clients hinted which of their keys is meant.
pub(super) fn hint(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    let hint = CString::new(HINT).unwrap_or_default();
    // SAFETY: the context lives, and the library copies the text.
    let done = unsafe { SSL_CTX_use_psk_identity_hint(context.as_ptr(), hint.as_ptr()) };
    if done == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// Leaves one suite. SHA-1 of a suite of CBC authenticates records, which newer builds put below their usual level.
pub(super) fn only(context: &mut SslContextBuilder, suite: &Suite) -> Result<(), ErrorStack> {
    if suite.is_cbc {
        context.set_security_level(0);
    }
    context.set_cipher_list(suite.name)
}

unsafe extern "C" {
    /// The `openssl` crate has no binding for it.
    fn SSL_CTX_use_psk_identity_hint(
        context: *mut openssl_sys::SSL_CTX,
        hint: *const c_char,
    ) -> c_int;
}

/// Why a handshake with a shared key did not end well.
#[derive(Debug)]
pub enum PskRefusal {
    /// The client sent more than it may before it is answered.
    TooEager,
    /// No key of ours is asked for, or something else came of it than was chosen.
    NotChosen,
    /// It ended well, with a key that nobody has.
    Nobody,
    /// What the library says: a wrong key, no common suite, a lost connection.
    Failed(String),
}

impl From<openssl::ssl::Error> for PskRefusal {
    fn from(why: openssl::ssl::Error) -> Self {
        Self::Failed(why.to_string())
    }
}

impl From<ErrorStack> for PskRefusal {
    fn from(why: ErrorStack) -> Self {
        Self::Failed(why.to_string())
    }
}

impl fmt::Display for PskRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooEager => f.write_str("the client did not wait for an answer"),
            Self::NotChosen => f.write_str("no handshake with a key of ours"),
            Self::Nobody => f.write_str("a key that nobody has"),
            Self::Failed(why) => write!(f, "PSK: {why}"),
        }
    }
}

impl std::error::Error for PskRefusal {}

/// Shakes hands on `io` with a server that must have the key, having asked for `server_name`.
///
/// # Errors
///
/// [`PskRefusal`]: a key that the server does not know any more looks like a wrong one.
pub async fn connect<S>(
    client: &PskClient,
    server_name: &str,
    io: S,
) -> Result<Pin<Box<SslStream<S>>>, PskRefusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut context = match client.of {
        PskUse::Tls13 => {
            let mut context = bare(SslMethod::tls_client(), SslVersion::TLS1_3)?;
            context.set_ciphersuites(SUITES_13)?;
            context
        }
        PskUse::Suite(number) => {
            let mut context = bare(SslMethod::tls_client(), SslVersion::TLS1_2)?;
            let suite = SUITES.iter().find(|suite| suite.number == number);
            only(&mut context, suite.ok_or(PskRefusal::NotChosen)?)?;
            context
        }
    };
    let own = client.clone();
    context.set_psk_client_callback(move |_, _hint, identity, key| {
        let name = own.identity.as_bytes();
        let Some((place, end)) = identity.split_at_mut_checked(name.len()) else { return Ok(0) };
        let Some(end) = end.first_mut() else { return Ok(0) };
        place.copy_from_slice(name);
        *end = 0;
        Ok(put(&own.key, key))
    });
    let mut ssl = Ssl::new(&context.build())?;
    if server_name.parse::<std::net::IpAddr>().is_err() {
        ssl.set_hostname(server_name)?;
    }
    let mut stream = Box::pin(SslStream::new(ssl, io)?);
    stream.as_mut().connect().await?;
    let choice = match client.of {
        PskUse::Tls13 => Choice::Psk13,
        PskUse::Suite(suite) => Choice::Psk12(suite),
    };
    if is_as_chosen(stream.ssl(), choice) { Ok(stream) } else { Err(PskRefusal::NotChosen) }
}
