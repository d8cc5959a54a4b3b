//! Stage 1, DTLS by OpenSSL: the default engine.
//!
//! Takes:   certificates and suites, chosen by the hello.
//! Gives:   engines, each for one session. A certificate is judged by the verifier that TLS has.
//! Keeps:   a context for each certificate and for each suite with a shared key.
//! Refuses: versions below 1.2, suites without AEAD or forward secrecy where there are certificates, renegotiation,
//!          compression, tickets; the filter bounds what a client may send in a handshake.
//! Sources: RFC 6347; RFC 4279; RFC 5489; TS 33.222 clause 5.4; `DT-06` to `DT-09`, `TR-02`.

mod session;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use ::openssl::bn::BigNum;
use ::openssl::dh::Dh;
use ::openssl::error::ErrorStack;
use ::openssl::ex_data::Index;
use ::openssl::pkey::PKey;
use ::openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode,
    SslVersion,
};
use ::openssl::x509::{X509, X509StoreContext, X509StoreContextRef};
use rustls::server::danger::ClientCertVerifier as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use zeroize::Zeroizing;

pub use self::session::{HELD_MAX, REPEAT};

use self::session::Engine;
use super::engine::{DtlsEngine, Engines, Shown};
use super::hello::Hello;
use crate::authentication::tls_identity::CertificateNames;
use crate::transport::peer::{ClientCertificate, PeerVerifier};
use crate::transport::psk_tls;
use crate::transport::tls::{Certificate, ServerSpec, TlsProblem};

/// Suites with a shared key, the preferred one first, and what the library calls them.
///
/// Source: TS 33.222 clause 5.4; RFC 7905, RFC 5487.
const PSK_SUITES: [(u16, &str); 3] = [
    (0xCCAC, "ECDHE-PSK-CHACHA20-POLY1305"),
    (0x00AA, "DHE-PSK-AES128-GCM-SHA256"),
    (0x00A8, "PSK-AES128-GCM-SHA256"),
];
const SUITES: &str = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:\
                      ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
                      ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
const SIGNATURES: &str = "ECDSA+SHA256:ed25519:RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA384:\
                          RSA-PSS+SHA384:RSA+SHA384:ECDSA+SHA512:RSA-PSS+SHA512:RSA+SHA512";

/// A context, and the names of its certificate.
type Named = (Vec<Arc<str>>, SslContext);

/// Makes engines.
pub struct Openssl {
    certificates: Vec<Named>,
    shared_keys: Vec<(u16, SslContext)>,
    slot: Index<Ssl, Arc<Slot>>,
}

impl Openssl {
    /// Sets it up: with certificates, with shared keys, or with both.
    ///
    /// # Errors
    ///
    /// A key of another certificate; what the library lacks.
    pub fn new(certificates: Option<&ServerSpec>, shared_keys: bool) -> Result<Self, TlsProblem> {
        let slot = Ssl::new_ex_index().map_err(TlsProblem::new)?;
        let made = certificates.map(|spec| of_certificates(spec, slot)).transpose()?;
        let suites = PSK_SUITES.iter().filter(|_| shared_keys);
        let suites = suites.map(|(suite, name)| Ok((*suite, of_suite(name, slot)?)));
        Ok(Self {
            certificates: made.unwrap_or_default(),
            shared_keys: suites.collect::<Result<_, ErrorStack>>().map_err(TlsProblem::new)?,
            slot,
        })
    }

    /// Who answers: a shared key where one is offered, else the certificate of the name that is asked for.
    fn choose(&self, hello: &Hello<'_>) -> Option<(Option<u16>, &SslContext)> {
        let offered = |suite: u16| hello.suites().any(|it| it == suite);
        if let Some((suite, context)) = self.shared_keys.iter().find(|(suite, _)| offered(*suite)) {
            return Some((Some(*suite), context));
        }
        let asked = hello.server_name().unwrap_or_default();
        let fits = |(names, _): &&Named| names.iter().any(|name| name.eq_ignore_ascii_case(asked));
        let found = self.certificates.iter().find(fits).or(self.certificates.first());
        found.map(|(_, context)| (None, context))
    }
}

impl Engines for Openssl {
    fn begin(&self, hello: &Hello<'_>, _waker: Waker) -> Option<Box<dyn DtlsEngine>> {
        let (suite, context) = self.choose(hello)?;
        Engine::new(context, self.slot, suite, hello).ok().map(|engine| Box::new(engine) as _)
    }

    fn make_cookies(&self) -> bool {
        false
    }
}

impl std::fmt::Debug for Openssl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Openssl(..)")
    }
}

/// What the library's calls into ours find.
#[derive(Default)]
struct Slot {
    cookie: Vec<u8>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// The identity that a key was looked up for, and the key.
    key: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// Whether the library was given that key.
    key_used: bool,
    /// What the client showed, once it was found good.
    shown: Option<Shown>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A context with what every session has.
fn context(slot: Index<Ssl, Arc<Slot>>) -> Result<SslContextBuilder, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::dtls_server())?;
    context.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
    context.set_security_level(2);
    context.set_options(
        SslOptions::COOKIE_EXCHANGE
            | SslOptions::NO_QUERY_MTU
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_TICKET
            | SslOptions::NO_COMPRESSION
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_groups_list("X25519:P-256:P-384")?;
    context.set_cookie_generate_cb(move |ssl, room| {
        let Some(slot) = ssl.ex_data(slot) else { return Err(ErrorStack::get()) };
        let room = room.get_mut(..slot.cookie.len()).ok_or_else(ErrorStack::get)?;
        room.copy_from_slice(&slot.cookie);
        Ok(slot.cookie.len())
    });
    context.set_cookie_verify_cb(move |ssl, cookie| {
        ssl.ex_data(slot).is_some_and(|slot| slot.cookie == cookie)
    });
    Ok(context)
}

fn of_certificates(
    spec: &ServerSpec,
    slot: Index<Ssl, Arc<Slot>>,
) -> Result<Vec<Named>, TlsProblem> {
    if spec.asks != ClientCertificate::None && spec.trust.is_empty() {
        return Err(TlsProblem::new("client certificates are asked for, but nobody is trusted"));
    }
    let made = spec.certificates.iter().map(|certificate| {
        let names = certificate.names()?.domains;
        let context = of_certificate(certificate, spec, slot);
        let context = context.map_err(|why| TlsProblem::new(format!("certificate and key: {why}")));
        Ok((names, context?))
    });
    made.collect()
}

fn of_certificate(
    certificate: &Certificate,
    spec: &ServerSpec,
    slot: Index<Ssl, Arc<Slot>>,
) -> Result<SslContext, ErrorStack> {
    let mut context = context(slot)?;
    context.set_cipher_list(SUITES)?;
    context.set_sigalgs_list(SIGNATURES)?;
    let mut chain = certificate.chain().iter();
    if let Some(own) = chain.next() {
        context.set_certificate(X509::from_der(own)?.as_ref())?;
    }
    for issuer in chain {
        context.add_extra_chain_cert(X509::from_der(issuer)?)?;
    }
    context
        .set_private_key(PKey::private_key_from_der(certificate.key().secret_der())?.as_ref())?;
    context.check_private_key()?;
    let mode = match spec.asks {
        ClientCertificate::None => SslVerifyMode::NONE,
        ClientCertificate::Optional => SslVerifyMode::PEER,
        ClientCertificate::Required => SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
    };
    let verifier = PeerVerifier::new(spec.trust.clone(), spec.asks);
    context.set_verify_callback(mode, move |_, store| judge(store, &verifier, slot));
    Ok(context.build())
}

/// Judges a client's chain by our own verifier; what the library thinks of it does not count.
fn judge(
    store: &mut X509StoreContextRef,
    verifier: &PeerVerifier,
    slot: Index<Ssl, Arc<Slot>>,
) -> bool {
    // The client's own certificate is judged with all that it sent above it.
    if store.error_depth() != 0 {
        return true;
    }
    let chain: Vec<CertificateDer<'static>> = store
        .chain()
        .into_iter()
        .flatten()
        .filter_map(|certificate| certificate.to_der().ok().map(CertificateDer::from))
        .collect();
    let names = chain.split_first().and_then(|(own, issuers)| {
        let judged = verifier.verify_client_cert(own, issuers, UnixTime::now());
        judged.inspect_err(|why| tracing::debug!(%why, "handshake refused")).ok()?;
        CertificateNames::of(own).ok()
    });
    let shown = names.map(|names| Shown { names, chain: chain.into() });
    let ssl = X509StoreContext::ssl_idx().ok().and_then(|index| store.ex_data(index));
    match (shown, ssl.and_then(|ssl| ssl.ex_data(slot))) {
        (Some(shown), Some(slot)) => {
            slot.lock().shown = Some(shown);
            true
        }
        _ => false,
    }
}

fn of_suite(name: &str, slot: Index<Ssl, Arc<Slot>>) -> Result<SslContext, ErrorStack> {
    let mut context = context(slot)?;
    context.set_cipher_list(name)?;
    context.set_psk_server_callback(move |ssl, identity, room| {
        let slot = ssl.ex_data(slot).map(Arc::clone);
        // No key: the library refuses. It is only asked when there is one.
        Ok(slot.and_then(|slot| slot.give(identity?, room)).unwrap_or(0))
    });
    // The group that the library would choose by itself may be a small one.
    let group = Dh::from_pqg(BigNum::get_rfc3526_prime_2048()?, None, BigNum::from_u32(2)?)?;
    context.set_tmp_dh(&group)?;
    psk_tls::hint(&mut context)?;
    Ok(context.build())
}

impl Slot {
    fn give(&self, identity: &[u8], room: &mut [u8]) -> Option<usize> {
        let mut found = self.lock();
        let (_, key) = found.key.as_ref().filter(|(of, _)| of == identity)?;
        room.get_mut(..key.len())?.copy_from_slice(key);
        let length = key.len();
        found.key_used = true;
        Some(length)
    }
}
