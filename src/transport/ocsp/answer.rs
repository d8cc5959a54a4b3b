//! Stage 1, OCSP, answers: whether one may be believed, and what it says.
//!
//! 1. It is whole, and no error.
//! 2. Its signer is the issuer of the certificate, or holds a certificate for OCSP that the issuer signed itself.
//! 3. The signature is right, over the octets as they came.
//! 4. One of its statements is about our certificate, and holds now.
//!
//! Takes:   the octets of an `OCSPResponse`, the certificate it should be about, the time.
//! Gives:   [`Status`].
//! Keeps:   nothing. Bounds: [`ANSWER_MAX`] octets, [`STATEMENTS_MAX`] statements, [`SIGNERS_MAX`] certificates.
//! Refuses: each by its [`StatusFault`]. The revocation of a delegated signer is not asked for in turn: the issuer
//!          signs him a short life (`id-pkix-ocsp-nocheck`), and that is checked.
//! Sources: RFC 6960 sections 3.2, 4.2.1, 4.2.2.1 and 4.2.2.2; RFC 5019 section 4.

use std::time::Duration;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sha2::Sha256;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use super::der::{
    BITS, BOOLEAN, ENUMERATED, Element, INTEGER, OCTETS, OID, Reader, SEQUENCE, around, instead,
};
use super::question::NONCE;
use super::{CertId, Status, StatusFault, key_parts, sha1};
use crate::instant::WallTime;

/// Longest answer, in octets.
pub const ANSWER_MAX: usize = 64 * 1024;
/// Most statements in an answer.
pub const STATEMENTS_MAX: usize = 64;
/// Most certificates in an answer.
pub const SIGNERS_MAX: usize = 4;
/// By how much the responder's clock may be ahead of ours.
pub const SKEW: Duration = Duration::from_secs(300);

/// `id-pkix-ocsp-basic`.
const BASIC: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// `id-kp-OCSPSigning`.
const OCSP_SIGNING: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09];
/// `id-sha1` and `id-sha256`: hashes that a statement may know its certificate by.
const ID_SHA1: &[u8] = &[0x2B, 0x0E, 0x03, 0x02, 0x1A];
const ID_SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

/// What an answer must fit.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The certificate.
    pub about: &'a CertId,
    /// The nonce that was sent; it must come back.
    pub nonce: Option<&'a [u8]>,
    /// How old an answer may be that states no end.
    pub age_max: Duration,
    /// The time.
    pub now: WallTime,
}

/// Judges `octets`.
///
/// # Errors
///
/// The first [`StatusFault`], in the order of the list above.
pub fn judge(octets: &[u8], asked: &Asked<'_>) -> Result<Status, StatusFault> {
    if octets.len() > ANSWER_MAX {
        return Err(StatusFault::TooLong);
    }
    let basic = basic(octets)?;
    let answer = Answer::read(basic).ok_or(StatusFault::Malformed)?;
    answer.verify(asked)?;
    let extensions = answer.data.extensions;
    if let Some(sent) = asked.nonce
        && nonce(extensions)? != Some(sent)
    {
        return Err(StatusFault::Nonce);
    }
    no_critical(extensions)?;
    let statement = answer.data.statements.iter().find(|it| it.is_about(asked.about));
    statement.ok_or(StatusFault::OtherCertificate)?.judge(asked)
}

/// The `BasicOCSPResponse` in an `OCSPResponse`.
fn basic(octets: &[u8]) -> Result<Reader<'_>, StatusFault> {
    let read = || {
        let mut outer = Reader::inside(octets, SEQUENCE)?;
        let &[status] = outer.take(ENUMERATED)?.content else { return None };
        Some((status, outer))
    };
    let (status, mut outer) = read().ok_or(StatusFault::Malformed)?;
    if status != 0 {
        return Err(StatusFault::Declined(status));
    }
    let mut inner = || {
        let mut bytes = outer.enter(around(0))?.enter(SEQUENCE)?;
        let kind = bytes.take(OID)?.content;
        let basic = Reader::inside(bytes.take(OCTETS)?.content, SEQUENCE)?;
        (kind == BASIC && bytes.is_empty() && outer.is_empty()).then_some(basic)
    };
    inner().ok_or(StatusFault::Malformed)
}

/// A `BasicOCSPResponse`.
struct Answer<'a> {
    /// What is signed, as it came.
    signed: &'a [u8],
    data: Data<'a>,
    /// What is in the `AlgorithmIdentifier`.
    algorithm: &'a [u8],
    signature: &'a [u8],
    signers: Vec<&'a [u8]>,
}

/// A `ResponseData`.
struct Data<'a> {
    responder: Responder<'a>,
    statements: Vec<Statement<'a>>,
    extensions: Option<Reader<'a>>,
}

/// A `ResponderID`.
enum Responder<'a> {
    Name(&'a [u8]),
    Key(&'a [u8]),
}

impl Responder<'_> {
    /// Whether it is he who has that name and that key.
    fn is(&self, name: &[u8], key: &[u8]) -> bool {
        match self {
            Self::Name(own) => *own == name,
            Self::Key(hash) => *hash == sha1(key),
        }
    }
}

impl<'a> Answer<'a> {
    fn read(mut basic: Reader<'a>) -> Option<Self> {
        let signed = basic.take(SEQUENCE)?;
        let algorithm = basic.take(SEQUENCE)?.content;
        let (unused, signature) = basic.take(BITS)?.content.split_first()?;
        let mut signers = Vec::new();
        if let Some(element) = basic.maybe(around(0)).ok()? {
            let mut list = Reader::inside(element.content, SEQUENCE)?;
            while !list.is_empty() {
                if signers.len() == SIGNERS_MAX {
                    return None;
                }
                signers.push(list.take(SEQUENCE)?.whole);
            }
        }
        let whole = *unused == 0 && basic.is_empty();
        let data = Data::read(Reader::new(signed.content)).filter(|_| whole)?;
        Some(Self { signed: signed.whole, data, algorithm, signature, signers })
    }

    /// Whether somebody signed it who may.
    fn verify(&self, asked: &Asked<'_>) -> Result<(), StatusFault> {
        let algorithms =
            rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let issuer = &asked.about.issuer;
        let (_, key) = issuer.key_parts().ok_or(StatusFault::NoIssuer)?;
        if self.data.responder.is(&issuer.name, key) {
            return self.is_signed_with(&issuer.key, &algorithms);
        }
        for signer in &self.signers {
            let Ok(([], parsed)) = X509Certificate::from_der(signer) else {
                return Err(StatusFault::Malformed);
            };
            let info = parsed.public_key().raw;
            let (_, key) = key_parts(info).ok_or(StatusFault::Malformed)?;
            if self.data.responder.is(parsed.subject().as_raw(), key) {
                is_delegated(signer, asked, &algorithms)?;
                return self.is_signed_with(info, &algorithms);
            }
        }
        Err(StatusFault::Unauthorised)
    }

    fn is_signed_with(
        &self,
        key_info: &[u8],
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), StatusFault> {
        let (kind, key) = key_parts(key_info).ok_or(StatusFault::Malformed)?;
        let fits = algorithms.all.iter().filter(|algorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm
                && algorithm.public_key_alg_id().as_ref() == kind
        });
        for algorithm in fits {
            if algorithm.verify_signature(key, self.signed, self.signature).is_ok() {
                return Ok(());
            }
        }
        Err(StatusFault::Signature)
    }
}

/// Whether the issuer itself made `signer` one of its responders, and that holds now.
///
/// Source: RFC 6960 section 4.2.2.2: directly, and for `id-kp-OCSPSigning` by name.
fn is_delegated(
    signer: &[u8],
    asked: &Asked<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), StatusFault> {
    let content = |octets| Some(Reader::new(octets).take(SEQUENCE)?.content);
    let issuer = &asked.about.issuer;
    let (Some(subject), Some(key)) = (content(&issuer.name), content(&issuer.key)) else {
        return Err(StatusFault::NoIssuer);
    };
    let anchor = TrustAnchor {
        subject: subject.into(),
        subject_public_key_info: key.into(),
        name_constraints: None,
    };
    let signer = CertificateDer::from(signer);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(asked.now.as_unix()));
    let verified = EndEntityCert::try_from(&signer).and_then(|signer| {
        let (usage, anchors) = (KeyUsage::required(OCSP_SIGNING), [anchor]);
        signer.verify_for_usage(algorithms.all, &anchors, &[], now, usage, None, None).map(|_| ())
    });
    verified.map_err(|_| StatusFault::Unauthorised)
}

impl<'a> Data<'a> {
    fn read(mut data: Reader<'a>) -> Option<Self> {
        // Version 1 is the default, and the only one there is.
        if data.maybe(around(0)).ok()?.is_some_and(|it| it.content != [INTEGER, 1, 0]) {
            return None;
        }
        let responder = data.next()?;
        let responder = match responder.tag {
            tag if tag == around(1) => Responder::Name(only(responder.content, SEQUENCE)?.whole),
            tag if tag == around(2) => Responder::Key(only(responder.content, OCTETS)?.content),
            _ => return None,
        };
        // When it was made: what counts is when it holds.
        time(data.next()?)?;
        let mut list = data.enter(SEQUENCE)?;
        let mut statements = Vec::new();
        while !list.is_empty() {
            if statements.len() == STATEMENTS_MAX {
                return None;
            }
            statements.push(Statement::read(list.enter(SEQUENCE)?)?);
        }
        let extensions = extensions(&mut data)?;
        data.is_empty().then_some(Self { responder, statements, extensions })
    }
}

/// A `SingleResponse`.
struct Statement<'a> {
    hash: &'a [u8],
    name_hash: &'a [u8],
    key_hash: &'a [u8],
    serial: &'a [u8],
    status: u8,
    since: WallTime,
    until: Option<WallTime>,
    extensions: Option<Reader<'a>>,
}

const GOOD: u8 = instead(0);
const REVOKED: u8 = around(1);
const UNKNOWN: u8 = instead(2);

impl<'a> Statement<'a> {
    fn read(mut statement: Reader<'a>) -> Option<Self> {
        let mut id = statement.enter(SEQUENCE)?;
        let hash = id.enter(SEQUENCE)?.take(OID)?.content;
        let (name_hash, key_hash) = (id.take(OCTETS)?.content, id.take(OCTETS)?.content);
        let serial = id.take(INTEGER)?.content;
        let status = statement.next()?.tag;
        let since = time(statement.next()?)?;
        let until = match statement.maybe(around(0)).ok()? {
            Some(element) => Some(time(Reader::new(element.content).next()?)?),
            None => None,
        };
        let extensions = extensions(&mut statement)?;
        let whole = id.is_empty() && statement.is_empty();
        let statement =
            Self { hash, name_hash, key_hash, serial, status, since, until, extensions };
        whole.then_some(statement)
    }

    fn is_about(&self, wanted: &CertId) -> bool {
        use sha2::Digest as _;
        let Some((_, key)) = wanted.issuer.key_parts() else { return false };
        let same = match self.hash {
            ID_SHA1 => *self.name_hash == sha1(&wanted.issuer.name) && *self.key_hash == sha1(key),
            ID_SHA256 => {
                *self.name_hash == *Sha256::digest(&wanted.issuer.name)
                    && *self.key_hash == *Sha256::digest(key)
            }
            _ => false,
        };
        same && *self.serial == *wanted.serial
    }

    fn judge(&self, asked: &Asked<'_>) -> Result<Status, StatusFault> {
        let now = asked.now;
        no_critical(self.extensions)?;
        if self.since > now + SKEW {
            return Err(StatusFault::Future);
        }
        // Without an end there is always news: then it must be of today.
        let until = self.until.unwrap_or(self.since + asked.age_max);
        if until < now || self.until.is_some_and(|until| until < self.since) {
            return Err(StatusFault::Expired);
        }
        match self.status {
            GOOD => Ok(Status::Good(self.until)),
            REVOKED => Ok(Status::Revoked),
            UNKNOWN => Ok(Status::Unknown),
            _ => Err(StatusFault::Malformed),
        }
    }
}

/// The one element in `octets`, with that tag.
fn only(octets: &[u8], tag: u8) -> Option<Element<'_>> {
    let mut reader = Reader::new(octets);
    let element = reader.take(tag)?;
    reader.is_empty().then_some(element)
}

fn time(element: Element<'_>) -> Option<WallTime> {
    let (rest, time) = ASN1Time::from_der(element.whole).ok()?;
    let seconds = u64::try_from(time.timestamp()).ok()?;
    rest.is_empty().then_some(WallTime::from_unix(seconds))
}

/// The extensions at the end, if there are any.
fn extensions<'a>(reader: &mut Reader<'a>) -> Option<Option<Reader<'a>>> {
    match reader.maybe(around(1)).ok()? {
        Some(element) => Some(Some(Reader::inside(element.content, SEQUENCE)?)),
        None => Some(None),
    }
}

/// One extension: its name, whether it is critical, its value.
fn extension<'a>(list: &mut Reader<'a>) -> Option<(&'a [u8], bool, &'a [u8])> {
    let mut one = list.enter(SEQUENCE)?;
    let name = one.take(OID)?.content;
    let critical = one.maybe(BOOLEAN).ok()?.is_some_and(|element| element.content != [0]);
    Some((name, critical, one.take(OCTETS)?.content))
}

fn no_critical(list: Option<Reader<'_>>) -> Result<(), StatusFault> {
    let Some(mut list) = list else { return Ok(()) };
    while !list.is_empty() {
        let (name, critical, _) = extension(&mut list).ok_or(StatusFault::Malformed)?;
        if critical && name != NONCE {
            return Err(StatusFault::Extension);
        }
    }
    Ok(())
}

fn nonce(list: Option<Reader<'_>>) -> Result<Option<&[u8]>, StatusFault> {
    let Some(mut list) = list else { return Ok(None) };
    while !list.is_empty() {
        let (name, _, value) = extension(&mut list).ok_or(StatusFault::Malformed)?;
        if name == NONCE {
            return Ok(only(value, OCTETS).map(|element| element.content));
        }
    }
    Ok(None)
}
