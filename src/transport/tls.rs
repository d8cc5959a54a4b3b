//! Stage 1, TLS: what we show, what we ask for, and how a handshake ends.
//!
//! Takes:   certificates and keys as PEM or DER, trust, and a byte stream to shake hands on.
//! Gives:   [`ServerTls`] for a listener and [`ClientTls`] for what we dial, both replaceable while they serve;
//!          an encrypted stream with the peer's verified names.
//! Keeps:   the current configuration, swapped whole: a handshake sees the old one or the new one, never both.
//! Refuses: TLS below 1.2; suites that are not AEAD, compression, renegotiation and early data, none of which the
//!          library has; another protocol by ALPN; peers as `peer` says.
//!          Sessions are never resumed: a resumed one would skip the verifier, so a revoked or remapped peer
//!          would keep its evidence. Each connection proves anew whom it belongs to.
//! Sources: RFC 8446; RFC 5246; RFC 5922; RFC 7301 (`sip/2`); `TR-01`, `TR-02`, `CR-01` to `CR-04`, `V-46`, `V-48`.

use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

use super::peer::{ClientCertificate, PeerVerifier, Trust};
use super::standing::Standing;
use crate::authentication::tls_identity::CertificateNames;

const VERSIONS: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];
/// The name of SIP in the ALPN registry: whoever offers only other names speaks another protocol.
const ALPN: &[u8] = b"sip/2";
/// The name of what carries the opening handshake of WebSocket (RFC 6455 section 4.1, item 5).
const ALPN_HTTP: &[u8] = b"http/1.1";

/// Why TLS cannot be set up as asked. The text is for whoever wrote the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsProblem(String);

impl TlsProblem {
    pub(super) fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsProblem {}

/// A certificate chain and its private key.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Reads both from PEM: the chain with our own certificate first.
    ///
    /// # Errors
    ///
    /// What is missing or unreadable.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsProblem> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|why| TlsProblem::new(format!("no private key: {why}")))?;
        Ok(Self { chain, key })
    }

    /// Takes both as DER.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key }
    }

    /// The names in our own certificate.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn names(&self) -> Result<CertificateNames, TlsProblem> {
        let own = self.chain.first().ok_or_else(|| TlsProblem::new("no certificate"))?;
        CertificateNames::of(own).map_err(TlsProblem::new)
    }

    /// The chain, our own certificate first.
    #[cfg(any(feature = "openssl", feature = "webrtc-dtls"))]
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key.
    #[cfg(any(feature = "openssl", feature = "webrtc-dtls"))]
    pub(super) fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsProblem> {
        CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), provider)
            .map_err(|why| TlsProblem::new(format!("certificate and key: {why}")))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate(..)")
    }
}

/// The certificates in `pem`, at least one.
///
/// # Errors
///
/// If one is unreadable or there is none.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|why| TlsProblem::new(format!("no certificate: {why}")))?;
    if found.is_empty() {
        return Err(TlsProblem::new("no certificate in it"));
    }
    Ok(found)
}

/// Trust in the certificates of `anchors`, less what the lists in `lists` take back; both PEM, `lists` may be empty.
///
/// # Errors
///
/// What is unreadable; that there is no anchor.
pub fn trust(anchors: &[u8], lists: &[u8]) -> Result<Trust, TlsProblem> {
    let mut roots = RootCertStore::empty();
    for anchor in certificates(anchors)? {
        roots.add(anchor).map_err(|why| TlsProblem::new(format!("trust anchor: {why}")))?;
    }
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(lists).collect();
    let lists = lists.map_err(|why| TlsProblem::new(format!("revocation list: {why}")))?;
    lists
        .iter()
        .try_fold(Trust::new(roots), |trust, list| trust.with_list(list))
        .map_err(TlsProblem::new)
}

/// What a listener shows and asks for.
#[derive(Debug)]
pub struct ServerSpec {
    /// Certificates, chosen by the name that the client asks for; the first where none fits or none is asked for.
    pub certificates: Vec<Certificate>,
    /// Whether clients are asked for one.
    pub asks: ClientCertificate,
    /// Who may vouch for clients.
    pub trust: Trust,
}

/// The TLS of a listener: replaceable while it serves.
pub struct ServerTls {
    alpn: &'static [u8],
    config: ArcSwap<ServerConfig>,
    standing: Standing,
}

impl ServerTls {
    /// Sets it up.
    ///
    /// # Errors
    ///
    /// No certificate, a key of another certificate, clients to be asked with nobody to vouch for them.
    pub fn new(spec: &ServerSpec) -> Result<Self, TlsProblem> {
        Self::with_alpn(spec, ALPN)
    }

    /// The same for WebSocket, which begins with HTTP.
    ///
    /// # Errors
    ///
    /// As [`ServerTls::new`].
    pub fn of_websocket(spec: &ServerSpec) -> Result<Self, TlsProblem> {
        Self::with_alpn(spec, ALPN_HTTP)
    }

    fn with_alpn(spec: &ServerSpec, alpn: &'static [u8]) -> Result<Self, TlsProblem> {
        let config = ArcSwap::from(server_config(spec, alpn)?);
        Ok(Self { alpn, config, standing: Standing::of_clients(spec.trust.clone()) })
    }

    /// Replaces it for handshakes that begin from now on. Established connections stay as they are, but for those
    /// whose client is no longer believed: they end.
    ///
    /// # Errors
    ///
    /// As [`ServerTls::new`]; the old one stays in force.
    pub fn replace(&self, spec: &ServerSpec) -> Result<(), TlsProblem> {
        self.config.store(server_config(spec, self.alpn)?);
        self.standing.replace(spec.trust.clone());
        Ok(())
    }
}

/// Whom a connection's certificate must satisfy for as long as it stands.
#[derive(Clone, Debug)]
pub(super) enum Vouched {
    /// A client's, at a listener.
    Client(Arc<ServerTls>, Chain),
    /// A server's, that we dialled.
    Server(Arc<ClientTls>, Chain),
}

/// A chain as the handshake brought it, the peer's own certificate first.
pub(super) type Chain = Arc<[CertificateDer<'static>]>;

impl Vouched {
    /// A client's, if it showed a certificate.
    pub(super) fn client<S>(tls: &Arc<ServerTls>, stream: &server::TlsStream<S>) -> Option<Self> {
        let chain = stream.get_ref().1.peer_certificates()?;
        Some(Self::Client(Arc::clone(tls), chain.into()))
    }

    /// A server's.
    pub(super) fn server<S>(tls: &Arc<ClientTls>, stream: &client::TlsStream<S>) -> Option<Self> {
        let chain = stream.get_ref().1.peer_certificates()?;
        Some(Self::Server(Arc::clone(tls), chain.into()))
    }

    /// Waits until it is no longer good; gives the reason.
    pub(super) async fn until_refused(&self) -> rustls::Error {
        match self {
            Self::Client(tls, chain) => tls.standing.until_refused(chain).await,
            Self::Server(tls, chain) => tls.standing.until_refused(chain).await,
        }
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(..)")
    }
}

fn server_config(spec: &ServerSpec, alpn: &'static [u8]) -> Result<Arc<ServerConfig>, TlsProblem> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    if spec.certificates.is_empty() {
        return Err(TlsProblem::new("a TLS listener needs a certificate"));
    }
    if spec.asks != ClientCertificate::None && spec.trust.is_empty() {
        return Err(TlsProblem::new("client certificates are asked for, but nobody is trusted"));
    }
    let shown = spec
        .certificates
        .iter()
        .map(|certificate| {
            let names = certificate.names()?.domains;
            Ok((names, Arc::new(certificate.certified(&provider)?)))
        })
        .collect::<Result<_, TlsProblem>>()?;
    let verifier = Arc::new(PeerVerifier::new(spec.trust.clone(), spec.asks));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(TlsProblem::new)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(BySni(shown)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

/// Certificates with their names, in the order of the configuration.
#[derive(Debug)]
struct BySni(Vec<(Vec<Arc<str>>, Arc<CertifiedKey>)>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().unwrap_or_default();
        let fits = |(names, _): &&(Vec<Arc<str>>, _)| {
            names.iter().any(|name| name.eq_ignore_ascii_case(asked))
        };
        self.0.iter().find(fits).or(self.0.first()).map(|(_, key)| key.clone())
    }
}

/// The TLS of what we dial: replaceable while it serves.
pub struct ClientTls {
    config: ArcSwap<ClientConfig>,
    standing: Standing,
}

impl ClientTls {
    /// Sets it up: whom to trust, and what to show to servers that ask.
    ///
    /// # Errors
    ///
    /// A key of another certificate.
    pub fn new(trust: Trust, shows: Option<&Certificate>) -> Result<Self, TlsProblem> {
        let config = ArcSwap::from(client_config(trust.clone(), shows)?);
        Ok(Self { config, standing: Standing::of_servers(trust) })
    }

    /// Replaces it for handshakes that begin from now on. Established connections to whom it no longer believes end.
    ///
    /// # Errors
    ///
    /// As [`ClientTls::new`]; the old one stays in force.
    pub fn replace(&self, trust: Trust, shows: Option<&Certificate>) -> Result<(), TlsProblem> {
        self.config.store(client_config(trust.clone(), shows)?);
        self.standing.replace(trust);
        Ok(())
    }

    /// Shakes hands on `io` with a server that must prove to be `domain`.
    ///
    /// In TLS 1.3 a server judges our certificate after this has returned: its refusal is the first thing read.
    ///
    /// # Errors
    ///
    /// [`TlsRefusal`]; `io` is closed then, and must not be used in the clear.
    pub async fn connect<S>(
        &self,
        domain: &str,
        io: S,
    ) -> Result<(client::TlsStream<S>, CertificateNames), TlsRefusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        connect(self.config.load_full(), domain, io).await
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls(..)")
    }
}

/// The configuration of a client that trusts `trust`; the name it checks is the one it dials.
///
/// # Errors
///
/// A key of another certificate.
///
/// Source: RFC 5922 section 7.3.
pub fn client_config(
    trust: Trust,
    shows: Option<&Certificate>,
) -> Result<Arc<ClientConfig>, TlsProblem> {
    let verifier = Arc::new(PeerVerifier::new(trust, ClientCertificate::None));
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(VERSIONS)
        .map_err(TlsProblem::new)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match shows {
        None => builder.with_no_client_auth(),
        Some(shown) => builder
            .with_client_auth_cert(shown.chain.clone(), shown.key.clone_key())
            .map_err(|why| TlsProblem::new(format!("certificate and key: {why}")))?,
    };
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// Shakes hands on `io` with a server that must prove to be `domain`.
///
/// # Errors
///
/// As [`ClientTls::connect`].
pub async fn connect<S>(
    config: Arc<ClientConfig>,
    domain: &str,
    io: S,
) -> Result<(client::TlsStream<S>, CertificateNames), TlsRefusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let bare = domain.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(domain);
    let name = ServerName::try_from(bare).map_err(|_| TlsRefusal::NoName)?.to_owned();
    let stream = TlsConnector::from(config).connect(name, io).await.map_err(TlsRefusal::of)?;
    let names = peer_names(stream.get_ref().1.peer_certificates()).ok_or(TlsRefusal::NoName)?;
    Ok((stream, names))
}

/// What a server knows about a client once they have shaken hands.
#[derive(Clone, Debug)]
pub struct Greeted {
    /// The names in its certificate, verified; `None` if it showed none.
    pub names: Option<CertificateNames>,
    /// The server name it asked for.
    pub asked_for: Option<Arc<str>>,
}

/// Shakes hands with a client on `io`.
///
/// # Errors
///
/// [`TlsRefusal`]; the alert was sent where one is due.
pub async fn accept<S>(
    tls: &ServerTls,
    io: S,
) -> Result<(server::TlsStream<S>, Greeted), TlsRefusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), io).await.map_err(TlsRefusal::of)?;
    let asked_for = start.client_hello().server_name().map(Arc::from);
    let stream = start.into_stream(tls.config.load_full()).await.map_err(TlsRefusal::of)?;
    let names = peer_names(stream.get_ref().1.peer_certificates());
    Ok((stream, Greeted { names, asked_for }))
}

fn peer_names(chain: Option<&[CertificateDer<'_>]>) -> Option<CertificateNames> {
    CertificateNames::of(chain?.first()?).ok()
}

/// Why a handshake did not end well.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsRefusal {
    /// The peer's certificate is good, but of these domains, none of them the one dialled.
    WrongName(Vec<String>),
    /// The peer's certificate is not good.
    Certificate(rustls::CertificateError),
    /// The peer ended the handshake with this alert.
    Alert(rustls::AlertDescription),
    /// It was not TLS as we speak it.
    Protocol(String),
    /// What was to be dialled is no name that a certificate could carry.
    NoName,
    /// The connection ended.
    Lost(io::ErrorKind),
}

impl TlsRefusal {
    fn of(why: io::Error) -> Self {
        let tls = why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(
                rustls::CertificateError::NotValidForNameContext { presented, .. },
            )) => Self::WrongName(presented.clone()),
            Some(rustls::Error::InvalidCertificate(why)) => Self::Certificate(why.clone()),
            Some(rustls::Error::AlertReceived(alert)) => Self::Alert(*alert),
            Some(other) => Self::Protocol(other.to_string()),
            None => Self::Lost(why.kind()),
        }
    }
}

impl fmt::Display for TlsRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongName(seen) if seen.is_empty() => {
                f.write_str("its certificate names no SIP domain")
            }
            Self::WrongName(seen) => write!(f, "its certificate is for {}", seen.join(", ")),
            Self::Certificate(why) => write!(f, "its certificate is not good: {why:?}"),
            Self::Alert(alert) => write!(f, "it refused us with the alert {alert:?}"),
            Self::Protocol(why) => write!(f, "no TLS as we speak it: {why}"),
            Self::NoName => f.write_str("the name dialled is none that a certificate could carry"),
            Self::Lost(kind) => write!(f, "the connection ended in the handshake: {kind}"),
        }
    }
}

impl std::error::Error for TlsRefusal {}
