//! Stage 4, tls_identity: the SIP names that a certificate carries.
//!
//! Takes:   the certificates of one chain, whose signatures somebody else verifies.
//! Gives:   [`CertificateNames`]: domains, users, and when it ends; [`within_bounds`] before any signature is checked.
//! Keeps:   nothing. Bounds: 5 certificates in a chain, 16 KiB each, RSA keys of 8192 bits, 64 names.
//! Refuses: what is over a bound; as an identity a `sips:` name, a wildcard, a common name.
//! Sources: RFC 5922 sections 7.1 and 7.2; RFC 5280 section 4.2.1.6; `CR-01`, `CR-02`, `V-40`, `V-78`.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::identity::Impu;
use crate::instant::WallTime;
use crate::wire::Uri;
use crate::wire::uri::Scheme;

/// Most certificates in a chain, the peer's own included.
pub const CHAIN_MAX: usize = 5;
/// Largest certificate, in octets.
pub const CERTIFICATE_MAX: usize = 16 * 1024;
/// Longest RSA key, in bits.
pub const RSA_BITS_MAX: usize = 8192;
/// Most names in a certificate.
pub const NAMES_MAX: usize = 64;

/// Why a certificate is not even looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OverBounds {
    /// More than [`CHAIN_MAX`] certificates.
    Chain,
    /// One is over [`CERTIFICATE_MAX`] octets.
    Size,
    /// One has an RSA key over [`RSA_BITS_MAX`] bits.
    Key,
    /// More than [`NAMES_MAX`] names.
    Names,
    /// Not a certificate.
    Malformed,
}

impl fmt::Display for OverBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chain => "more than 5 certificates in the chain",
            Self::Size => "a certificate over 16 KiB",
            Self::Key => "an RSA key over 8192 bits",
            Self::Names => "more than 64 names in the certificate",
            Self::Malformed => "not a certificate",
        })
    }
}

impl std::error::Error for OverBounds {}

/// The names in a certificate that mean something to SIP. They are evidence only after the chain was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateNames {
    /// SIP domains, in lower case: the hosts of `sip:` URIs without a user; the DNS names if there is no such URI.
    pub domains: Vec<Arc<str>>,
    /// Users: `sip:` and `sips:` URIs with a user part.
    pub users: Vec<Impu>,
    /// The last second of its validity.
    pub not_after: WallTime,
}

impl CertificateNames {
    /// Reads the names of `certificate`.
    ///
    /// # Errors
    ///
    /// [`OverBounds`] if it is no certificate, or has too many names.
    ///
    /// Source: RFC 5922 section 7.1. The common name is never read: that clause permits it, and nothing needs it.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, OverBounds> {
        let parsed = parse(certificate)?;
        let names = parsed.subject_alternative_name().map_err(|_| OverBounds::Malformed)?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        if names.len() > NAMES_MAX {
            return Err(OverBounds::Names);
        }
        let uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Uri::parse(uri.as_bytes()),
            _ => None,
        });
        let mut domains: Vec<Arc<str>> = uris
            .clone()
            .filter(|uri| uri.scheme() == Scheme::Sip && uri.user().is_none())
            .filter_map(|uri| domain(std::str::from_utf8(uri.host()).ok()?))
            .collect();
        let other = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => domain(name),
            _ => None,
        });
        if domains.is_empty() {
            domains = other.collect();
        }
        let users = uris
            .filter(|uri| matches!(uri.scheme(), Scheme::Sip | Scheme::Sips))
            .filter(|uri| uri.user().is_some_and(|user| !user.is_empty()))
            .filter_map(|uri| Impu::new(std::str::from_utf8(uri.octets()).ok()?))
            .collect();
        let not_after = parsed.validity().not_after.timestamp();
        let not_after = WallTime::from_unix(u64::try_from(not_after).unwrap_or_default());
        Ok(Self { domains, users, not_after })
    }

    /// Whether it is a certificate of `wanted`: equal in whole, without regard to case.
    ///
    /// Source: RFC 5922 section 7.2.
    pub fn covers(&self, wanted: &str) -> bool {
        self.domains.iter().any(|have| have.eq_ignore_ascii_case(wanted))
    }
}

/// `name` as an identity: lower case, no wildcard, nothing that no host has.
fn domain(name: &str) -> Option<Arc<str>> {
    let fits = !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(|octet| {
            octet.is_ascii_alphanumeric()
                || matches!(octet, b'-' | b'.' | b'_' | b'[' | b']' | b':')
        });
    fits.then(|| name.to_ascii_lowercase().into())
}

/// Checks what can be checked of a chain before any signature: its length, the size of each, their keys.
///
/// # Errors
///
/// The first [`OverBounds`].
pub fn within_bounds(
    own: &CertificateDer<'_>,
    issuers: &[CertificateDer<'_>],
) -> Result<(), OverBounds> {
    if issuers.len() >= CHAIN_MAX {
        return Err(OverBounds::Chain);
    }
    for certificate in std::iter::once(own).chain(issuers) {
        let parsed = parse(certificate)?;
        match parsed.public_key().parsed() {
            Ok(PublicKey::RSA(key)) if key.key_size() > RSA_BITS_MAX => {
                return Err(OverBounds::Key);
            }
            _ => {}
        }
    }
    Ok(())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, OverBounds> {
    if certificate.len() > CERTIFICATE_MAX {
        return Err(OverBounds::Size);
    }
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(OverBounds::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "example.net");
        let name = |text: &str| Ia5String::try_from(text).unwrap();
        params.subject_alt_names = names
            .iter()
            .map(|text| match text.split_once(':') {
                Some(_) => SanType::URI(name(text)),
                None => SanType::DnsName(name(text)),
            })
            .collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn domains_are_found_as_rfc_5922_section_7_1_says() {
        for (names, domains) in [
            (&["sip:example.net"][..], &["example.net"][..]),
            (&["SIP:Example.NET"], &["example.net"]),
            (&["sip:example.net:5061;transport=tls"], &["example.net"]),
            (&["example.net", "example.org"], &["example.net", "example.org"]),
            (&["sip:example.net", "example.org"], &["example.net"]),
            (&["sips:example.net"], &[]),
            (&["sips:example.net", "example.org"], &["example.org"]),
            (&["sip:user@example.net"], &[]),
            (&["sip:user@example.net", "example.org"], &["example.org"]),
            (&["*.example.net"], &[]),
            (&["https://example.net"], &[]),
            (&[], &[]),
        ] {
            let found = CertificateNames::of(&certificate(names)).unwrap();
            let found: Vec<&str> = found.domains.iter().map(|name| &**name).collect();
            assert_eq!(found, domains, "{names:?}");
        }
    }

    #[test]
    fn names_are_compared_in_whole_and_without_case() {
        let names = CertificateNames::of(&certificate(&["sip:example.net"])).unwrap();
        for (wanted, covered) in [
            ("example.net", true),
            ("EXAMPLE.net", true),
            ("sip.example.net", false),
            ("net", false),
            ("example.net.", false),
            ("", false),
        ] {
            assert_eq!(names.covers(wanted), covered, "{wanted}");
        }
    }

    #[test]
    fn users_are_uris_with_a_user_part() {
        let names =
            ["sip:alice@example.net", "sips:alice@example.org", "sip:example.net", "mailto:a@b"];
        let found = CertificateNames::of(&certificate(&names)).unwrap();
        let found: Vec<&str> = found.users.iter().map(Impu::as_str).collect();
        assert_eq!(found, ["sip:alice@example.net", "sips:alice@example.org"]);
    }

    #[test]
    fn bounds_hold_before_any_signature() {
        let one = certificate(&["sip:example.net"]);
        let chain = |length| vec![one.clone(); length];
        assert_eq!(within_bounds(&one, &chain(4)), Ok(()));
        assert_eq!(within_bounds(&one, &chain(5)), Err(OverBounds::Chain));
        assert_eq!(within_bounds(&one, &chain(99)), Err(OverBounds::Chain));
        let fat = CertificateDer::from(vec![0x30; CERTIFICATE_MAX + 1]);
        assert_eq!(within_bounds(&fat, &[]), Err(OverBounds::Size));
        let noise = CertificateDer::from(vec![0x30, 0x82]);
        assert_eq!(within_bounds(&noise, &[]), Err(OverBounds::Malformed));
        let many: Vec<String> = (0..65).map(|n| format!("sip:a{n}.example.net")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(CertificateNames::of(&certificate(&many)), Err(OverBounds::Names));
    }
}
