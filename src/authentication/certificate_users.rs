//! Stage 4, certificate users: whom a client's certificate proves.
//!
//! Takes:   a client's own certificate, out of a chain that somebody else verified.
//! Gives:   the [`Caller`] that it proves: by what was configured for its fingerprint, for one of its names or for its
//!          subject, in this order; else by its own `sip:` or `sips:` URI with a user part, the first one.
//! Keeps:   what was configured; at most [`USERS_MAX`] marks.
//! Refuses: certificates that have neither: they prove nobody. A subject with a part of several values has no mark, and
//!          names are compared in whole.
//! Sources: RFC 5922 section 7.1; RFC 5280 sections 4.1.2.6 and 4.2.1.6; RFC 4514; SEC_CF 1.1 use case B.5.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::tls_identity::{CertificateNames, NAMES_MAX};
use super::{Caller, Renewal};
use crate::identity::{Impu, Principal, Proof};
use crate::wire::Uri;

/// Most marks that are known.
pub const USERS_MAX: usize = 1_000_000;

/// What a certificate is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// The SHA-256 of all of it.
    Fingerprint([u8; 32]),
    /// A URI among its names: in the form in which identities are compared, or octet for octet if it is no SIP URI.
    Uri(Box<[u8]>),
    /// A DNS name among its names, in lower case.
    Dns(Box<str>),
    /// A mail address among its names; the host in lower case.
    Mail(Box<str>),
    /// Its subject: type and value of each part, the outermost first.
    Subject(Vec<(Box<[u8]>, Box<str>)>),
}

/// Why a text is no subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoSubject {
    /// It does not consist of `TYPE=value` with commas between them.
    Form,
    /// It has a type that is not known here.
    Type,
    /// A part has several values.
    Several,
}

/// Types that a subject is written with.
const TYPES: [(&str, &[u8]); 9] = [
    ("CN", &[0x55, 4, 3]),
    ("serialNumber", &[0x55, 4, 5]),
    ("C", &[0x55, 4, 6]),
    ("L", &[0x55, 4, 7]),
    ("ST", &[0x55, 4, 8]),
    ("O", &[0x55, 4, 10]),
    ("OU", &[0x55, 4, 11]),
    ("UID", &[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 1]),
    ("DC", &[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 25]),
];

impl Mark {
    /// The mark of a name: a URI if it has a scheme, a mail address if it has an `@`, else a DNS name.
    pub fn name(text: &str) -> Self {
        match (text.contains(':'), text.contains('@')) {
            (true, _) => Self::uri(text),
            (false, true) => Self::mail(text),
            (false, false) => Self::Dns(text.to_ascii_lowercase().into()),
        }
    }

    fn uri(text: &str) -> Self {
        let uri = Uri::parse(text.as_bytes());
        Self::Uri(uri.map_or_else(|| text.as_bytes().into(), |uri| uri.identity().into()))
    }

    fn mail(text: &str) -> Self {
        let (user, host) = text.rsplit_once('@').unwrap_or((text, ""));
        Self::Mail(format!("{user}@{}", host.to_ascii_lowercase()).into())
    }

    /// The mark of a subject, as RFC 4514 writes it: the innermost part first.
    ///
    /// # Errors
    ///
    /// [`NoSubject`].
    pub fn subject(text: &str) -> Result<Self, NoSubject> {
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (kind, value) = rest.split_once('=').ok_or(NoSubject::Form)?;
            let kind = kind.trim();
            let known = TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind));
            let (_, oid) = known.ok_or(NoSubject::Type)?;
            let (value, next) = value_of(value)?;
            parts.push(((*oid).into(), value.into()));
            match next {
                Some(next) => rest = next,
                None => break,
            }
        }
        parts.reverse();
        Ok(Self::Subject(parts))
    }

    /// The mark of a certificate's subject, if it has one.
    fn subject_of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let part = |rdn: &x509_parser::x509::RelativeDistinguishedName<'_>| {
            let mut values = rdn.iter();
            let (value, more) = (values.next()?, values.next());
            let text = value.as_str().ok().filter(|_| more.is_none())?;
            Some((value.attr_type().as_bytes().into(), text.into()))
        };
        let parts: Vec<_> = certificate.subject().iter_rdn().map(part).collect::<Option<_>>()?;
        (!parts.is_empty()).then_some(Self::Subject(parts))
    }
}

/// The value at the front of `text`, and what follows its comma.
fn value_of(text: &str) -> Result<(String, Option<&str>), NoSubject> {
    let text = text.trim_start();
    let (mut value, mut kept) = (Vec::new(), 0);
    let mut octets = text.bytes().enumerate();
    let mut next = None;
    while let Some((at, octet)) = octets.next() {
        match octet {
            b',' => {
                next = Some(text.get(at.saturating_add(1)..).ok_or(NoSubject::Form)?);
                break;
            }
            b'+' => return Err(NoSubject::Several),
            b'#' if value.is_empty() => return Err(NoSubject::Form),
            b'"' | b';' | b'<' | b'>' => return Err(NoSubject::Form),
            b'\\' => {
                let (_, first) = octets.next().ok_or(NoSubject::Form)?;
                value.push(match char::from(first).to_digit(16) {
                    Some(high) => {
                        let (_, second) = octets.next().ok_or(NoSubject::Form)?;
                        let low = char::from(second).to_digit(16).ok_or(NoSubject::Form)?;
                        u8::try_from(high << 4 | low).map_err(|_| NoSubject::Form)?
                    }
                    None => first,
                });
                kept = value.len();
            }
            b' ' => value.push(octet),
            _ => {
                value.push(octet);
                kept = value.len();
            }
        }
    }
    // Blanks at the end belong to it only if they are escaped.
    value.truncate(kept);
    let value = String::from_utf8(value).map_err(|_| NoSubject::Form)?;
    if value.is_empty() { Err(NoSubject::Form) } else { Ok((value, next)) }
}

/// Whom a certificate proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateUser {
    /// The name of the principal: the private identity, or the default public one.
    pub name: Arc<str>,
    /// Public identities, the default one first; at least one.
    pub identities: Arc<[Impu]>,
}

/// Which certificate is whose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateUsers(HashMap<Mark, CertificateUser>);

impl CertificateUsers {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; whether it is new, and there is room.
    pub fn insert(&mut self, mark: Mark, user: CertificateUser) -> bool {
        if self.0.len() >= USERS_MAX || self.0.contains_key(&mark) {
            return false;
        }
        self.0.insert(mark, user);
        true
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The caller that `certificate` proves, until it ends.
    pub fn caller_of(&self, certificate: &CertificateDer<'_>) -> Option<Arc<Caller>> {
        let names = CertificateNames::of(certificate).ok()?;
        let fingerprint: [u8; 32] = Sha256::digest(certificate).into();
        let user = match self.configured(certificate, fingerprint) {
            Some(found) => found.clone(),
            None => CertificateUser {
                name: names.users.first()?.as_str().into(),
                identities: names.users.clone().into(),
            },
        };
        // Another certificate of the same user is another key.
        let key_name: String = fingerprint.iter().map(|octet| format!("{octet:02x}")).collect();
        Some(Arc::new(Caller {
            principal: Principal::new(Proof::UserCertificate, user.name),
            renewal: Renewal::default(),
            identities: user.identities,
            key_name: key_name.into(),
            expires: Some(names.not_after),
            strongest: AtomicU8::new(0),
            rights: Default::default(),
        }))
    }

    /// The user who is configured for `certificate`.
    fn configured(
        &self,
        certificate: &CertificateDer<'_>,
        fingerprint: [u8; 32],
    ) -> Option<&CertificateUser> {
        if self.is_empty() {
            return None;
        }
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let found = self.0.get(&Mark::Fingerprint(fingerprint));
        let found = found.or_else(|| self.by_names(&parsed));
        found.or_else(|| self.0.get(&Mark::subject_of(&parsed)?))
    }

    fn by_names(&self, certificate: &X509Certificate<'_>) -> Option<&CertificateUser> {
        let names = certificate.subject_alternative_name().ok().flatten()?;
        let mark = |name: &GeneralName<'_>| match name {
            GeneralName::URI(uri) => Some(Mark::uri(uri)),
            GeneralName::DNSName(name) => Some(Mark::Dns(name.to_ascii_lowercase().into())),
            GeneralName::RFC822Name(mail) => Some(Mark::mail(mail)),
            _ => None,
        };
        let names = names.value.general_names.iter().take(NAMES_MAX);
        names.filter_map(mark).find_map(|mark| self.0.get(&mark))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[SanType], subject: &[(DnType, &str)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn user(name: &str) -> CertificateUser {
        let identities = [Impu::new(&format!("sip:{name}@example.net")).unwrap()].into();
        CertificateUser { name: name.into(), identities }
    }

    fn ia5(text: &str) -> Ia5String {
        Ia5String::try_from(text).unwrap()
    }

    #[test]
    fn the_first_mark_that_is_known_decides() {
        let subject =
            [(DnType::OrganizationName, "Example, Inc."), (DnType::CommonName, "device 17")];
        let names = [
            SanType::DnsName(ia5("Device-17.example.net")),
            SanType::Rfc822Name(ia5("Seventeen@Mail.example.net")),
            SanType::URI(ia5("urn:uuid:f81d4fae")),
            SanType::URI(ia5("sip:seventeen@example.net")),
        ];
        let whole = certificate(&names, &subject);
        let fingerprint = Mark::Fingerprint(Sha256::digest(&whole).into());
        let in_order = [
            ("fingerprint", fingerprint),
            ("dns", Mark::name("device-17.EXAMPLE.net")),
            ("mail", Mark::name("Seventeen@mail.example.net")),
            ("urn", Mark::name("urn:uuid:f81d4fae")),
            ("uri", Mark::name("sip:seventeen@EXAMPLE.net")),
            ("subject", Mark::subject(r"cn=device 17, O=Example\, Inc.").unwrap()),
        ];
        for at in 0..in_order.len() {
            let mut users = CertificateUsers::new();
            for (name, mark) in in_order.get(at..).unwrap() {
                assert!(users.insert(mark.clone(), user(name)), "{name}");
            }
            let (name, _) = &in_order[at];
            let caller = users.caller_of(&whole).unwrap();
            assert_eq!(&*caller.principal.name, *name);
            assert_eq!(caller.identities[0].as_str(), format!("sip:{name}@example.net"));
            assert!(caller.expires.is_some() && caller.key_name.len() == 64, "{name}");
        }
        let caller = CertificateUsers::new().caller_of(&whole).unwrap();
        assert_eq!(&*caller.principal.name, "sip:seventeen@example.net", "its own name");
        assert_eq!(caller.key_name.len(), 64, "and a key of its own");
    }

    #[test]
    fn who_has_no_mark_is_nobody() {
        let mut users = CertificateUsers::new();
        for mark in [
            Mark::name("example.net"),
            Mark::name("Device@example.net"),
            Mark::name("sip:device@example.net"),
            Mark::subject("CN=device,O=Example").unwrap(),
        ] {
            assert!(users.insert(mark.clone(), user("somebody")));
            assert!(!users.insert(mark, user("another")), "a mark is one user's");
        }
        for (about, names, subject) in [
            ("nothing", vec![], vec![]),
            ("a domain below", vec![SanType::DnsName(ia5("a.example.net"))], vec![]),
            (
                "mail is compared with case",
                vec![SanType::Rfc822Name(ia5("device@example.net"))],
                vec![],
            ),
            ("a domain as URI", vec![SanType::URI(ia5("sip:example.net"))], vec![]),
            ("a part of the subject", vec![], vec![(DnType::CommonName, "device")]),
            (
                "another order",
                vec![],
                vec![(DnType::CommonName, "device"), (DnType::OrganizationName, "Example")],
            ),
            (
                "one value that looks like two",
                vec![],
                vec![(DnType::CommonName, "device,O=Example")],
            ),
        ] {
            assert!(users.caller_of(&certificate(&names, &subject)).is_none(), "{about}");
        }
    }

    #[test]
    fn subjects_are_read_as_rfc_4514_writes_them() {
        let value = |text| match Mark::subject(text) {
            Ok(Mark::Subject(parts)) => {
                Ok(parts.into_iter().map(|(_, value)| value.into_string()).collect::<Vec<_>>())
            }
            Ok(other) => panic!("{other:?}"),
            Err(why) => Err(why),
        };
        for (text, expected) in [
            ("CN=a", Ok(vec!["a"])),
            ("CN=a b ,  O=c", Ok(vec!["c", "a b"])),
            (r"CN=a\2Cb\ ,DC=x", Ok(vec!["x", "a,b "])),
            (r"CN=L\C4\8Di", Ok(vec!["Lči"])),
            ("CN=a,", Err(NoSubject::Form)),
            ("CN=", Err(NoSubject::Form)),
            ("a", Err(NoSubject::Form)),
            ("CN=a\"b", Err(NoSubject::Form)),
            ("CN=#04", Err(NoSubject::Form)),
            (r"CN=\C4", Err(NoSubject::Form)),
            ("X=a", Err(NoSubject::Type)),
            ("CN=a+O=b", Err(NoSubject::Several)),
        ] {
            let expected = expected.map(|it| it.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(value(text), expected, "{text}");
        }
    }
}
