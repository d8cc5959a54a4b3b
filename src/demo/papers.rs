//! The demonstration's certificates: an authority for this run alone, and what it signs.
//!
//! Takes:   names.
//! Gives:   what the edge shows to UEs and to servers, whom each of them trusts, and a certificate for each server.
//! Keeps:   the authority's key, in memory, as long as the demonstration lasts.
//! Refuses: nothing.
//! Sources: RFC 5922 section 7.1 (a SIP domain identity is a URI in subjectAltName).

use std::sync::Arc;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ClientConfig;

use super::Trouble;
use super::cast::EDGE;
use crate::transport::peer::{ClientCertificate, Trust};
use crate::transport::tls::{self, Certificate, ClientTls, ServerSpec, ServerTls};

/// An authority, and what it signed.
pub(super) struct Papers {
    authority: Issuer<'static, KeyPair>,
    /// What the edge shows to UEs.
    pub(super) spec: Arc<ServerSpec>,
    /// Whom everybody trusts.
    pub(super) trust: Trust,
    /// How UEs speak TLS.
    pub(super) client: Arc<ClientConfig>,
    /// The authority's certificate as PEM.
    pub(super) pem: String,
}

impl Papers {
    pub(super) fn new() -> Result<Self, Trouble> {
        let mut params = named("demonstration authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(scene)?;
        let pem = params.self_signed(&key).map_err(scene)?.pem();
        let authority = Issuer::new(params, key);
        let trust = tls::trust(pem.as_bytes(), b"").map_err(scene)?;
        let client = tls::client_config(trust.clone(), None).map_err(scene)?;
        let spec = Arc::new(ServerSpec {
            certificates: vec![signed(&authority, EDGE)?],
            asks: ClientCertificate::None,
            trust: Trust::nobody(),
        });
        Ok(Self { authority, spec, trust, client, pem })
    }

    /// The TLS of a server of that name, which serves none but those that show a certificate.
    pub(super) fn server(&self, name: &str) -> Result<Arc<ServerTls>, Trouble> {
        let spec = ServerSpec {
            certificates: vec![signed(&self.authority, name)?],
            asks: ClientCertificate::Required,
            trust: self.trust.clone(),
        };
        Ok(Arc::new(ServerTls::new(&spec).map_err(scene)?))
    }

    /// How the edge speaks to servers.
    pub(super) fn dialling(&self) -> Result<Arc<ClientTls>, Trouble> {
        let shows = signed(&self.authority, EDGE)?;
        Ok(Arc::new(ClientTls::new(self.trust.clone(), Some(&shows)).map_err(scene)?))
    }

    /// How a server of that name speaks to the edge.
    pub(super) fn client_of(&self, name: &str) -> Result<Arc<ClientConfig>, Trouble> {
        let shows = signed(&self.authority, name)?;
        tls::client_config(self.trust.clone(), Some(&shows)).map_err(scene)
    }
}

fn signed(authority: &Issuer<'_, KeyPair>, name: &str) -> Result<Certificate, Trouble> {
    let mut params = named(name);
    params.subject_alt_names = vec![
        SanType::URI(Ia5String::try_from(format!("sip:{name}")).map_err(scene)?),
        SanType::DnsName(Ia5String::try_from(name).map_err(scene)?),
    ];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(scene)?;
    let pem = params.signed_by(&key, authority).map_err(scene)?.pem();
    Certificate::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes()).map_err(scene)
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn scene(why: impl std::fmt::Display) -> Trouble {
    Trouble::Scene(format!("certificate: {why}"))
}
