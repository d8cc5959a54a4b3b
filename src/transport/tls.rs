//! Stage 1, TLS: what we show, what we ask for, and how a handshake ends.
//!
//! Takes:   certificates and keys as PEM or DER, trust, and a byte stream to shake hands on.
//! Gives:   [`ServerTls`] for a listener and [`ClientTls`] for what we dial, both replaceable while they serve;
//!          an encrypted stream with the peer's verified names.
//! Keeps:   the current configuration, swapped whole: a handshake sees the old one or the new one, never both. With it
//!          the keys that tickets are sealed with: each is used for 6 hours and opens for 12, and all of them go when
//!          the configuration is replaced.
//! Refuses: TLS below 1.2; suites that are not AEAD, compression, renegotiation and early data, none of which the
//!          library has; another protocol by ALPN; peers as `peer` says, and after the handshake as a responder says:
//!          until then nothing that the peer sends is read. A client that resumes a session skips the verifier; so what
//!          it showed then is judged as if it were shown now, and its user is who it is now. Under another server name
//!          it shakes hands in full. What we dial is never resumed.
//! Sources: RFC 8446; RFC 5246; RFC 5922; RFC 7301 (`sip/2`); `TR-01`, `TR-02`, `CR-01` to `CR-04`, `V-46`, `V-48`.

use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

use super::client_hello::ALPN_SIP;
use super::ocsp::StatusFault;
use super::ocsp::staple::{Staple, Unshown};
use super::peer::{ClientCertificate, PeerVerifier, Trust};
use super::standing::Standing;
use super::stream::Closed;
use crate::authentication::Caller;
use crate::authentication::tls_identity::CertificateNames;
use crate::clock;
use crate::instant::WallTime;
use crate::provision::TlsFloor;

const VERSIONS: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];
/// The name of what carries the opening handshake of WebSocket (RFC 6455 section 4.1, item 5).
pub(super) const ALPN_HTTP: &[u8] = b"http/1.1";

/// The name of HTTP/2 (RFC 9113 section 3.2).
const ALPN_HTTP2: &[u8] = b"h2";

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
    staple: Option<Staple>,
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
        Ok(Self::new(chain, key))
    }

    /// Takes both as DER.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key, staple: None }
    }

    /// With an answer about it, which is shown to clients that ask for one as long as it holds.
    ///
    /// # Errors
    ///
    /// Why it cannot be shown.
    pub fn stapled(mut self, answer: &[u8], now: WallTime) -> Result<Self, (Self, Unshown)> {
        match Staple::read(answer, &self.chain, now) {
            Ok(staple) => self.staple = Some(staple),
            Err(why) => return Err((self, why)),
        }
        Ok(self)
    }

    /// The answer that is shown with it.
    pub fn staple(&self) -> Option<&Staple> {
        self.staple.as_ref()
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

    fn shown(&self, provider: &CryptoProvider) -> Result<Shown, TlsProblem> {
        let key = CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), provider)
            .map_err(|why| TlsProblem::new(format!("certificate and key: {why}")))?;
        let stapled = self.staple.as_ref().map(|staple| {
            let ocsp = staple.octets().to_vec();
            (Arc::new(CertifiedKey { ocsp: Some(ocsp), ..key.clone() }), staple.until())
        });
        Ok(Shown { names: self.names()?.domains, key: Arc::new(key), stapled })
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
    /// Whether TLS 1.2 takes an extended master secret.
    bound: bool,
    config: ArcSwap<ServerConfig>,
    pub(super) standing: Standing,
}

impl ServerTls {
    /// Sets it up.
    ///
    /// # Errors
    ///
    /// No certificate, a key of another certificate, clients to be asked with nobody to vouch for them.
    pub fn new(spec: &ServerSpec) -> Result<Self, TlsProblem> {
        Self::with_alpn(spec, ALPN_SIP)
    }

    /// The same for WebSocket, which begins with HTTP.
    ///
    /// # Errors
    ///
    /// As [`ServerTls::new`].
    pub fn of_websocket(spec: &ServerSpec) -> Result<Self, TlsProblem> {
        Self::with_alpn(spec, ALPN_HTTP)
    }

    /// The same for a door of HTTP/2.
    ///
    /// # Errors
    ///
    /// As [`ServerTls::new`].
    pub fn of_http2(spec: &ServerSpec) -> Result<Self, TlsProblem> {
        Self::with_alpn(spec, ALPN_HTTP2)
    }

    /// The same for bootstrapping (Ub), where a key may be bound to the connection: without an extended master secret, a
    /// handshake of TLS 1.2 fails (RFC 7627 section 1).
    ///
    /// # Errors
    ///
    /// As [`ServerTls::new`].
    pub fn of_bootstrapping(spec: &ServerSpec) -> Result<Self, TlsProblem> {
        Self::made(spec, ALPN_HTTP, true)
    }

    /// The same for Diameter, which has no name in that registry.
    ///
    /// # Errors
    ///
    /// As [`ServerTls::new`].
    pub fn of_diameter(spec: &ServerSpec) -> Result<Self, TlsProblem> {
        Self::with_alpn(spec, b"")
    }

    fn with_alpn(spec: &ServerSpec, alpn: &'static [u8]) -> Result<Self, TlsProblem> {
        Self::made(spec, alpn, false)
    }

    fn made(spec: &ServerSpec, alpn: &'static [u8], bound: bool) -> Result<Self, TlsProblem> {
        let config = ArcSwap::from(server_config(spec, alpn, bound)?);
        Ok(Self { alpn, bound, config, standing: Standing::of_clients(spec.trust.clone()) })
    }

    /// Replaces it for handshakes that begin from now on. Established connections stay as they are, but for those
    /// whose client is no longer believed: they end.
    ///
    /// # Errors
    ///
    /// As [`ServerTls::new`]; the old one stays in force.
    pub fn replace(&self, spec: &ServerSpec) -> Result<(), TlsProblem> {
        self.config.store(server_config(spec, self.alpn, self.bound)?);
        self.standing.replace(spec.trust.clone());
        Ok(())
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(..)")
    }
}

fn server_config(
    spec: &ServerSpec,
    alpn: &'static [u8],
    bound: bool,
) -> Result<Arc<ServerConfig>, TlsProblem> {
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
        .map(|certificate| certificate.shown(&provider))
        .collect::<Result<_, TlsProblem>>()?;
    let verifier = Arc::new(PeerVerifier::new(spec.trust.clone(), spec.asks));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(TlsProblem::new)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(BySni(shown)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsProblem::new)?;
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    config.require_ems = bound;
    config.alpn_protocols = (!alpn.is_empty()).then(|| alpn.to_vec()).into_iter().collect();
    Ok(Arc::new(config))
}

/// Certificates with their names, in the order of the configuration.
#[derive(Debug)]
struct BySni(Vec<Shown>);

/// A certificate with its names; and the same with an answer about it, until then.
#[derive(Debug)]
struct Shown {
    names: Vec<Arc<str>>,
    key: Arc<CertifiedKey>,
    stapled: Option<(Arc<CertifiedKey>, WallTime)>,
}

impl Shown {
    fn at(&self, now: WallTime) -> Arc<CertifiedKey> {
        let stapled = self.stapled.as_ref().filter(|(_, until)| now <= *until);
        Arc::clone(stapled.map_or(&self.key, |(key, _)| key))
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().unwrap_or_default();
        let fits = |shown: &&Shown| shown.names.iter().any(|name| name.eq_ignore_ascii_case(asked));
        let shown = self.0.iter().find(fits).or(self.0.first());
        shown.map(|shown| shown.at(clock::now().wall))
    }
}

/// The TLS of what we dial: replaceable while it serves.
pub struct ClientTls {
    /// What is asked for in the handshake; nothing, as SIP over TLS never did.
    alpn: Option<&'static [u8]>,
    config: ArcSwap<ClientConfig>,
    pub(super) standing: Standing,
}

impl ClientTls {
    /// Sets it up: whom to trust, and what to show to servers that ask.
    ///
    /// # Errors
    ///
    /// A key of another certificate.
    pub fn new(trust: Trust, shows: Option<&Certificate>) -> Result<Self, TlsProblem> {
        Self::with_alpn(trust, shows, None)
    }

    /// The same for HTTP/2.
    ///
    /// # Errors
    ///
    /// As [`ClientTls::new`].
    pub fn of_http2(trust: Trust, shows: Option<&Certificate>) -> Result<Self, TlsProblem> {
        Self::with_alpn(trust, shows, Some(ALPN_HTTP2))
    }

    fn with_alpn(
        trust: Trust,
        shows: Option<&Certificate>,
        alpn: Option<&'static [u8]>,
    ) -> Result<Self, TlsProblem> {
        let config = ArcSwap::from(asking(client_config(trust.clone(), shows)?, alpn));
        Ok(Self { alpn, config, standing: Standing::of_servers(trust) })
    }

    /// Replaces it for handshakes that begin from now on. Established connections to whom it no longer believes end.
    ///
    /// # Errors
    ///
    /// As [`ClientTls::new`]; the old one stays in force.
    pub fn replace(&self, trust: Trust, shows: Option<&Certificate>) -> Result<(), TlsProblem> {
        self.config.store(asking(client_config(trust.clone(), shows)?, self.alpn));
        self.standing.replace(trust);
        Ok(())
    }

    /// Shakes hands on `io` with a server that must prove to be `domain`.
    ///
    /// In TLS 1.3 a server judges our certificate after this has returned: its refusal is the first thing read.
    /// Where a responder is to be asked about the server's, it has been.
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
        let (stream, names) = connect(self.config.load_full(), domain, io).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        self.standing.admit(chain).await?;
        Ok((stream, names))
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls(..)")
    }
}

/// The same, with `alpn` asked for in the handshake.
fn asking(config: Arc<ClientConfig>, alpn: Option<&[u8]>) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&config);
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    Arc::new(config)
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
    client_config_from(TlsFloor::Tls12, trust, shows)
}

/// The same, with a lowest version.
///
/// # Errors
///
/// As [`client_config`].
pub fn client_config_from(
    floor: TlsFloor,
    trust: Trust,
    shows: Option<&Certificate>,
) -> Result<Arc<ClientConfig>, TlsProblem> {
    let versions: &[_] = match floor {
        TlsFloor::Tls12 => VERSIONS,
        TlsFloor::Tls13 => &[&rustls::version::TLS13],
    };
    let verifier = Arc::new(PeerVerifier::new(trust, ClientCertificate::None));
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
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
    /// The user whom its certificate proves.
    pub user: Option<Arc<Caller>>,
    /// The server name it asked for.
    pub asked_for: Option<Arc<str>>,
}

/// Shakes hands with a client on `io`. Where a responder is to be asked about its certificate, it has been; a chain out
/// of a ticket has been judged anew.
///
/// Source: `V-46`; RFC 8446 section 4.6.1 (a ticket carries what was verified; the server may refuse it).
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
    let Some(chain) = stream.get_ref().1.peer_certificates() else {
        return Ok((stream, Greeted { names: None, user: None, asked_for }));
    };
    match stream.get_ref().1.handshake_kind() {
        Some(HandshakeKind::Resumed) => tls.standing.readmit(chain).await?,
        _ => tls.standing.admit(chain).await?,
    }
    let (names, own) = (peer_names(Some(chain)), chain.first());
    let user = own.and_then(|own| tls.standing.trust().user_of(own));
    Ok((stream, Greeted { names, user, asked_for }))
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
    /// Whether the peer's certificate was taken back could not be learnt.
    Status(StatusFault),
    /// The peer's certificate proves another user than it did.
    OtherUser,
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
        tls.map_or_else(|| Self::Lost(why.kind()), |tls| Self::of_tls(tls.clone()))
    }

    /// How a connection ends that stood on a certificate of which this is true now.
    pub(super) fn closes(&self) -> Closed {
        match self {
            Self::OtherUser
            | Self::Certificate(
                rustls::CertificateError::Revoked | rustls::CertificateError::UnknownIssuer,
            ) => Closed::CertificateRevoked,
            _ => Closed::CertificateOver,
        }
    }

    pub(super) fn of_tls(why: rustls::Error) -> Self {
        match why {
            rustls::Error::InvalidCertificate(
                rustls::CertificateError::NotValidForNameContext { presented, .. },
            ) => Self::WrongName(presented),
            rustls::Error::InvalidCertificate(why) => Self::Certificate(why),
            rustls::Error::AlertReceived(alert) => Self::Alert(alert),
            other => Self::Protocol(other.to_string()),
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
            Self::Status(why) => write!(f, "whether its certificate was taken back is open: {why}"),
            Self::OtherUser => f.write_str("its certificate proves another user than it did"),
            Self::Alert(alert) => write!(f, "it refused us with the alert {alert:?}"),
            Self::Protocol(why) => write!(f, "no TLS as we speak it: {why}"),
            Self::NoName => f.write_str("the name dialled is none that a certificate could carry"),
            Self::Lost(kind) => write!(f, "the connection ended in the handshake: {kind}"),
        }
    }
}

impl std::error::Error for TlsRefusal {}
