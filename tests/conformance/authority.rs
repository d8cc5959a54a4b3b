//! A certificate authority of the tests' own, and a handshake without sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationList,
    CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sipward::authentication::tls_identity::CertificateNames;
use sipward::transport::peer::{ClientCertificate, Trust};
use sipward::transport::tls::{self, Certificate, Greeted, ServerSpec, ServerTls, TlsRefusal};

/// The serial number of what [`Authority::issue_with`] issues, unless it is changed.
pub(crate) const SERIAL: &[u8] = &[0x51, 0x50];

/// Who vouches for others.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Those above it, next first; the root is not among them.
    above: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
}

impl Authority {
    /// A root, with a name that no other has.
    pub(crate) fn new() -> Self {
        static ROOTS: AtomicUsize = AtomicUsize::new(0);
        let name = format!("root {}", ROOTS.fetch_add(1, Ordering::Relaxed));
        let issuer = CertifiedIssuer::self_signed(Self::params(&name), key()).unwrap();
        let root = issuer.der().clone();
        Self { issuer, above: Vec::new(), root }
    }

    /// One below it.
    pub(crate) fn intermediate(&self) -> Self {
        let params = Self::params("one below");
        let issuer = CertifiedIssuer::signed_by(params, key(), &self.issuer).unwrap();
        let above = std::iter::once(issuer.der().clone()).chain(self.above.clone()).collect();
        Self { issuer, above, root: self.root.clone() }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// A certificate for `names`: URIs where there is a colon, else DNS names. Its common name is `example.net`.
    pub(crate) fn issue(&self, names: &[&str]) -> Certificate {
        self.issue_with(names, |_| {})
    }

    /// The same, but for what `change` does.
    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "example.net");
        params.serial_number = Some(SerialNumber::from_slice(SERIAL));
        params.subject_alt_names = names
            .iter()
            .map(|text| {
                let name = Ia5String::try_from(*text).unwrap();
                if text.contains(':') { SanType::URI(name) } else { SanType::DnsName(name) }
            })
            .collect();
        change(&mut params);
        let key = key();
        let own = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let chain = std::iter::once(own).chain(self.above.clone()).collect();
        Certificate::new(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// Its own certificate, as PEM.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Its own certificate.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        self.issuer.der()
    }

    /// Its key.
    pub(crate) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// A certificate for what `change` makes of it, and its key; the chain is left out.
    pub(crate) fn issue_alone(
        &self,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, KeyPair) {
        let (mut params, key) = (CertificateParams::default(), key());
        change(&mut params);
        let own = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (own, key)
    }

    /// Trust in its root.
    pub(crate) fn trust(&self) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        Trust::new(roots)
    }

    /// Trust in its root, with a list of its own that takes `serials` back and holds until `year`.
    pub(crate) fn trust_less(&self, serials: &[&[u8]], year: i32) -> Trust {
        self.trust().with_list(self.list(serials, year).der()).unwrap()
    }

    /// That list.
    pub(crate) fn list(&self, serials: &[&[u8]], year: i32) -> CertificateRevocationList {
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap()
    }
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A listener that shows `certificate` and asks for none.
pub(crate) fn shows(certificate: Certificate) -> ServerSpec {
    ServerSpec {
        certificates: vec![certificate],
        asks: ClientCertificate::None,
        trust: Trust::nobody(),
    }
}

/// What each end says of a handshake: the client that dialled `domain`, and the server.
pub(crate) type Outcome = (Result<CertificateNames, TlsRefusal>, Result<Greeted, TlsRefusal>);

/// Lets a client and a server shake hands.
pub(crate) async fn shake_hands(
    server: &ServerSpec,
    trust: Trust,
    shown: Option<&Certificate>,
    domain: &str,
) -> Outcome {
    let server = ServerTls::new(server).unwrap();
    let client = tls::client_config(trust, shown).unwrap();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    // Neither end goes away before the other is done: a server sends more than the client waits for.
    let connecting = tls::connect(client, domain, theirs);
    let (client, server) = tokio::join!(connecting, tls::accept(&server, ours));
    (client.map(|(_, names)| names), server.map(|(_, greeted)| greeted))
}

/// The domains among verified names.
pub(crate) fn domains(names: &CertificateNames) -> Vec<&str> {
    names.domains.iter().map(Arc::as_ref).collect()
}
