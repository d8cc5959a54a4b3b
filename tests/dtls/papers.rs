//! Certificates of the tests' own, as PEM, so that every library can read them.

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use sipward::transport::peer::{ClientCertificate, Trust};
use sipward::transport::tls::{self, Certificate, ServerSpec};

/// Who vouches for others.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Paper {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for `names`: URIs where there is a colon, else DNS names.
    pub(crate) fn issue(&self, names: &[&str]) -> Paper {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a test");
        let name = |text: &&str| {
            let name = Ia5String::try_from(*text).unwrap();
            if text.contains(':') { SanType::URI(name) } else { SanType::DnsName(name) }
        };
        params.subject_alt_names = names.iter().map(name).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Paper { certificate, key: key.serialize_pem() }
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn trust(&self) -> Trust {
        tls::trust(self.pem().as_bytes(), b"").unwrap()
    }

    /// What a server shows: one certificate for `edge.example.net`; clients are asked for one as `asks` says.
    pub(crate) fn server(&self, asks: ClientCertificate) -> ServerSpec {
        let certificates = vec![self.issue(&["edge.example.net"]).read()];
        ServerSpec { certificates, asks, trust: self.trust() }
    }
}

impl Paper {
    pub(crate) fn read(&self) -> Certificate {
        Certificate::from_pem(self.certificate.as_bytes(), self.key.as_bytes()).unwrap()
    }
}
