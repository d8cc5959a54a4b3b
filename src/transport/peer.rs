//! Stage 1, peer: whether the certificate at the other end may be believed, and for which name.
//!
//! Takes:   a chain as the TLS handshake brought it, the wall time, and for a server the domain that was dialled.
//! Gives:   the handshake's assertion that the chain is good; [`PeerVerifier`] is both ends' verifier. After the handshake,
//!          what a responder says of the peer's own certificate, and the user whom it proves.
//! Keeps:   trust anchors and revocation lists as they were loaded, whom to ask and who is whose. Bounds: those of
//!          `tls_identity`.
//! Refuses: chains over the bounds, before any signature; unknown issuers, wrong validity, wrong key usage, revoked
//!          certificates; where lists are given, certificates that no list covers and lists that ran out; a server
//!          that is not of the domain, or whose certificate came with an answer of OCSP that does not call it good, or
//!          without one though it promises one. No address is read out of a certificate: no AIA, no list by URL, and
//!          the configured responder is asked only about chains that were verified.
//! Sources: RFC 5922 sections 7.1 to 7.4; RFC 5924 section 4 (key usage); `CR-01` to `CR-04`, `V-40`, `V-78`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationOptionsBuilder, VerifiedPath,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::ocsp::desk::StatusDesk;
use super::ocsp::{CertId, Issuer, Status, staple};
use super::tls::TlsRefusal;
use crate::authentication::Caller;
use crate::authentication::certificate_users::CertificateUsers;
use crate::authentication::tls_identity::{CertificateNames, OverBounds, within_bounds};
use crate::clock;
use crate::instant::WallTime;

/// `id-kp-sipDomain` (RFC 5924), beside which the usages of TLS clients and servers are accepted.
const SIP_DOMAIN: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x14];

/// Whom we trust to name others: anchors, and lists of what they took back.
///
/// Where there are lists, each certificate of a chain must be covered by one that is in date.
#[derive(Clone)]
pub struct Trust {
    roots: RootCertStore,
    lists: Vec<Arc<CertRevocationList<'static>>>,
    /// The last second of the list that ends first.
    lists_end: Option<WallTime>,
    /// Who is asked about each peer's own certificate.
    status: Option<Arc<StatusDesk>>,
    /// Which certificate is whose, beside those that say so themselves.
    users: Arc<CertificateUsers>,
}

/// A chain that was found good.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    /// The peer's own certificate.
    pub(super) id: CertId,
    /// The last second of what ends first: a certificate of the chain, or a list.
    pub(super) until: WallTime,
}

/// Why lists of what was taken back cannot stand for what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListGap {
    /// An authority that is trusted has none.
    Missing,
    /// One has run out.
    Expired,
}

impl fmt::Display for ListGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "an authority has no revocation list in it",
            Self::Expired => "a revocation list has expired",
        })
    }
}

impl std::error::Error for ListGap {}

impl Trust {
    /// Trust in `roots`, without lists.
    pub fn new(roots: RootCertStore) -> Self {
        Self { roots, lists: Vec::new(), lists_end: None, status: None, users: Arc::default() }
    }

    /// Asks at `desk` about the own certificate of each peer.
    pub fn asking(mut self, desk: Arc<StatusDesk>) -> Self {
        self.status = Some(desk);
        self
    }

    /// Knows that certificates are those of `users`.
    pub fn knowing(mut self, users: Arc<CertificateUsers>) -> Self {
        self.users = users;
        self
    }

    /// Who is asked about certificates.
    pub fn status(&self) -> Option<&Arc<StatusDesk>> {
        self.status.as_ref()
    }

    /// Takes over what `before` was told, if the same one is asked in the same way.
    pub(super) fn remembering(mut self, before: &Self) -> Self {
        if let (Some(own), Some(before)) = (&mut self.status, &before.status)
            && own.settings() == before.settings()
        {
            *own = Arc::clone(before);
        }
        self
    }

    /// The user whom a client's own certificate proves, until it ends.
    ///
    /// Source: RFC 5922 section 7.1 (a URI with a user part is no domain identity).
    pub fn user_of(&self, own: &CertificateDer<'_>) -> Option<Arc<Caller>> {
        self.users.caller_of(own)
    }

    /// Trust in nobody: for a listener that asks for no certificates.
    pub fn nobody() -> Self {
        Self::new(RootCertStore::empty())
    }

    /// Adds a revocation list.
    ///
    /// # Errors
    ///
    /// The reason why it is no list.
    pub fn with_list(mut self, list: &CertificateRevocationListDer<'_>) -> Result<Self, Error> {
        let unread = |why: &dyn fmt::Display| Error::General(format!("revocation list: {why}"));
        let (_, facts) = x509_parser::revocation_list::CertificateRevocationList::from_der(list)
            .map_err(|why| unread(&why))?;
        // A list without an end is none that RFC 5280 section 5.1.2.5 knows.
        let end = facts.next_update().map_or(0, |end| end.timestamp());
        let end = WallTime::from_unix(u64::try_from(end).unwrap_or_default());
        let list = OwnedCertRevocationList::from_der(list).map_err(|why| unread(&why))?;
        self.lists_end = Some(self.lists_end.map_or(end, |first| first.min(end)));
        self.lists.push(Arc::new(list.into()));
        Ok(self)
    }

    /// Whether its lists can do their work at `now`: each anchor has one, and all are in date.
    ///
    /// # Errors
    ///
    /// [`ListGap`]; handshakes would refuse everybody of that authority.
    pub fn judge_lists(&self, now: WallTime) -> Result<(), ListGap> {
        let covered = |subject: &[u8]| self.lists.iter().any(|list| list.issuer() == subject);
        if !self.roots.roots.iter().all(|anchor| covered(&anchor.subject)) {
            return Err(ListGap::Missing);
        }
        if self.lists_end.is_some_and(|end| end < now) {
            return Err(ListGap::Expired);
        }
        Ok(())
    }

    /// Whether it heeds lists.
    pub fn has_lists(&self) -> bool {
        !self.lists.is_empty()
    }

    /// Whether it trusts nobody.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Whether a client that shows `chain` at `now` would be accepted, but for what a responder may say.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn judge_client(
        &self,
        chain: &[CertificateDer<'_>],
        now: WallTime,
    ) -> Result<(), TlsRefusal> {
        let judged = self.judge(chain, now, KeyUsage::client_auth());
        judged.map(|_| ()).map_err(TlsRefusal::of_tls)
    }

    /// Asks about the own certificate of a peer whose `chain` was found good just now, if anybody is to be asked.
    ///
    /// # Errors
    ///
    /// That it is not good, or what leaves that open.
    pub(super) async fn ask(
        &self,
        chain: &[CertificateDer<'_>],
        usage: KeyUsage,
    ) -> Result<(), TlsRefusal> {
        if self.status.is_none() {
            return Ok(());
        }
        let judged = self.judge(chain, clock::now().wall, usage).map_err(TlsRefusal::of_tls)?;
        self.ask_of(&judged).await
    }

    /// The same for a chain that was judged.
    ///
    /// # Errors
    ///
    /// As [`Trust::ask`].
    pub(super) async fn ask_of(&self, judged: &Judged) -> Result<(), TlsRefusal> {
        let Some(desk) = &self.status else { return Ok(()) };
        match desk.status(&judged.id).await {
            Ok(Status::Good(_)) => Ok(()),
            Ok(Status::Revoked) => Err(TlsRefusal::Certificate(CertificateError::Revoked)),
            Ok(Status::Unknown) => {
                Err(TlsRefusal::Certificate(CertificateError::UnknownRevocationStatus))
            }
            Err(fault) => Err(TlsRefusal::Status(fault)),
        }
    }

    /// Whether `chain`, a peer's own certificate first, would be accepted at `now` for `usage`.
    ///
    /// # Errors
    ///
    /// What a handshake would end with.
    pub(super) fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        now: WallTime,
        usage: KeyUsage,
    ) -> Result<Judged, Error> {
        let Some((own, issuers)) = chain.split_first() else {
            return Err(Error::NoCertificatesPresented);
        };
        let algorithms =
            rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_unix()));
        let (key, ends) = self.verify_chain(own, issuers, now, usage, &algorithms, |path| {
            let above = path.intermediate_certificates();
            let key: Box<[u8]> = (*path.issuer_spki()).into();
            (key, above.filter_map(|cert| end_of(&cert.der())).min())
        })?;
        let malformed = || over_bounds(OverBounds::Malformed);
        let (_, parsed) = X509Certificate::from_der(own).map_err(|_| malformed())?;
        let issuer = Issuer { name: parsed.issuer().as_raw().into(), key };
        let id = CertId { issuer: Arc::new(issuer), serial: parsed.raw_serial().into() };
        let own_end = end_of(own).ok_or_else(malformed)?;
        let until = [ends, self.lists_end].into_iter().flatten().fold(own_end, WallTime::min);
        Ok(Judged { id, until })
    }

    fn verify_chain<T>(
        &self,
        own: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
        algorithms: &WebPkiSupportedAlgorithms,
        found: impl Fn(&VerifiedPath<'_>) -> T,
    ) -> Result<T, Error> {
        within_bounds(own, issuers).map_err(over_bounds)?;
        let certificate = EndEntityCert::try_from(own).map_err(refused)?;
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().map(|list| &**list).collect();
        let verify = |usage: KeyUsage| {
            let revocation = RevocationOptionsBuilder::new(&lists)
                .ok()
                .map(|options| options.with_expiration_policy(ExpirationPolicy::Enforce).build());
            let anchors = &self.roots.roots;
            let all = algorithms.all;
            let path =
                certificate.verify_for_usage(all, anchors, issuers, now, usage, revocation, None);
            path.map(|path| found(&path))
        };
        verify(usage)
            .or_else(|why| match why {
                webpki::Error::RequiredEkuNotFoundContext(_) => {
                    verify(KeyUsage::required(SIP_DOMAIN)).map_err(|_| why)
                }
                _ => Err(why),
            })
            .map_err(refused)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (anchors, lists) = (self.roots.len(), self.lists.len());
        write!(f, "Trust({anchors} anchors, {lists} lists, {:?})", self.status)
    }
}

/// Whether a listener asks its clients for certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientCertificate {
    /// It does not.
    #[default]
    None,
    /// It does, and serves those that have none; a bad one still ends the handshake.
    Optional,
    /// It does, and serves no others.
    Required,
}

/// The verifier of both ends.
///
/// An implementation that errs lets whoever holds any certificate speak for any domain.
pub struct PeerVerifier {
    trust: Trust,
    asks: ClientCertificate,
    subjects: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    /// A verifier with that trust; `asks` matters to listeners alone.
    pub fn new(trust: Trust, asks: ClientCertificate) -> Self {
        let subjects = trust.roots.subjects();
        let algorithms =
            rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        Self { trust, asks, subjects, algorithms }
    }
}

impl PeerVerifier {
    /// Whether a server that shows this chain is of `domain`; gives the key of who issued its own certificate. What may
    /// have come with it is left out: on DTLS nothing is asked for.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(super) fn verify_server(
        &self,
        own: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        domain: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<Box<[u8]>, Error> {
        let usage = KeyUsage::server_auth();
        let key = |path: &VerifiedPath<'_>| -> Box<[u8]> { (*path.issuer_spki()).into() };
        let key = self.trust.verify_chain(own, issuers, now, usage, &self.algorithms, key)?;
        let names = CertificateNames::of(own).map_err(over_bounds)?;
        if names.covers(&host_of(domain)) {
            return Ok(key);
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected: domain.to_owned(),
            presented: names.domains.iter().map(|name| name.to_string()).collect(),
        }))
    }
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerVerifier({:?}, {:?})", self.trust, self.asks)
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        domain: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = self.verify_server(own, issuers, domain, now)?;
        let now = WallTime::from_unix(now.as_secs());
        match staple::judge_shown(own, key, ocsp, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(Status::Revoked) => Err(Error::InvalidCertificate(CertificateError::Revoked)),
            Err(_) => Err(Error::InvalidCertificate(CertificateError::InvalidOcspResponse)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn offer_client_auth(&self) -> bool {
        self.asks != ClientCertificate::None
    }

    fn client_auth_mandatory(&self) -> bool {
        self.asks == ClientCertificate::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let usage = KeyUsage::client_auth();
        self.trust.verify_chain(own, issuers, now, usage, &self.algorithms, |_| ())?;
        CertificateNames::of(own).map_err(over_bounds)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A dialled name as a certificate would spell it: an IPv6 address stands in brackets in a URI.
fn host_of(domain: &ServerName<'_>) -> String {
    match domain {
        ServerName::IpAddress(rustls_pki_types::IpAddr::V6(address)) => {
            format!("[{}]", std::net::Ipv6Addr::from(*address))
        }
        other => other.to_str().into_owned(),
    }
}

/// The last second of a certificate.
fn end_of(certificate: &CertificateDer<'_>) -> Option<WallTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let end = u64::try_from(parsed.validity().not_after.timestamp());
    Some(WallTime::from_unix(end.unwrap_or_default()))
}

fn over_bounds(why: OverBounds) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// The library's reason as the handshake's, so that the peer gets the alert that fits.
fn refused(why: webpki::Error) -> Error {
    Error::InvalidCertificate(match why {
        webpki::Error::BadDer | webpki::Error::BadDerTime => CertificateError::BadEncoding,
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        webpki::Error::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}
