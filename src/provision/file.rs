//! Provisioning, files: documents as they lie on disk, who signs them, and the folder from which a client reads them.
//!
//! Takes:   octets of a document, TOML or a tree; keys as PEM.
//! Gives:   [`Signer`] and [`Verifier`]; [`Folder`], the documents in force of one client.
//! Keeps:   the folder, a file for each enabler, written whole or not at all.
//! Refuses: a signature that is not the signer's over these very words, keys it said nothing of, a document that may not take
//!          the place of the one there ([`succeed`]).
//! Sources: SEC_CF 1.1 B.8; RFC 5480, RFC 8410 (keys); RFC 5958.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs;
use rustls::sign::SigningKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};

use super::{
    Algorithms, Document, Lists, Signed, Step, TlsFloor, Unfollowed, enabler, succeed, tree,
};
use crate::config::problem::{Notes, Problem};
use crate::config::raw::{self, Lines, Section, Spot};
use crate::keys::subscribers::disk;
use crate::transport::ocsp::key_parts;

/// Longest file, in octets.
pub const OCTETS_MAX: u64 = 64 * 1024;
/// How documents are signed, by the kind of key.
const SCHEMES: [SignatureScheme; 2] =
    [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];

/// Who signs documents.
#[derive(Clone)]
pub struct Signer(Arc<dyn SigningKey>);

impl Signer {
    /// From a private key, PEM: ECDSA on P-256, or Ed25519. `None` if it is none.
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
        let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
        let key = aws_lc_rs::sign::any_supported_type(&key).ok()?;
        key.choose_scheme(&SCHEMES).is_some().then_some(Self(key))
    }

    /// Signs a document.
    ///
    /// # Errors
    ///
    /// If the library cannot, or the document has a [`Document::fault`].
    pub fn sign(&self, document: Document) -> io::Result<Signed> {
        if let Some(fault) = document.fault() {
            return Err(io::Error::other(fault));
        }
        let signer = self.0.choose_scheme(&SCHEMES);
        let signer = signer.ok_or_else(|| io::Error::other("no such key signs documents"))?;
        let signature = signer.sign(&document.signed_octets()).map_err(io::Error::other)?;
        Ok(Signed { document, signature })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(..)")
    }
}

/// Whose documents are taken.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier(Vec<u8>);

impl Verifier {
    /// From a public key, PEM. `None` if it is none.
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
        let info = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
        key_parts(&info)?;
        Some(Self(info.to_vec()))
    }

    /// The document, if it is signed.
    fn verify(&self, signed: Signed) -> Option<Document> {
        let (kind, key) = key_parts(&self.0)?;
        let known = aws_lc_rs::default_provider().signature_verification_algorithms.mapping;
        let of_scheme = known.iter().filter(|(scheme, _)| SCHEMES.contains(scheme));
        let mut fits = of_scheme
            .flat_map(|(_, algorithms)| *algorithms)
            .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == kind);
        let octets = signed.document.signed_octets();
        let good = fits
            .any(|algorithm| algorithm.verify_signature(key, &octets, &signed.signature).is_ok());
        good.then_some(signed.document)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}

/// A signed document as TOML.
pub fn print(signed: &Signed) -> String {
    let Signed { document, signature } = signed;
    format!(
        "# What a client trusts when it uses {}. Signed: whoever changes a word makes it void.\n\
         {document}[signature]\nvalue = \"{}\"\n",
        document.enabler,
        STANDARD.encode(signature)
    )
}

/// Reads a document of that name, TOML or a tree.
///
/// # Errors
///
/// Every problem.
pub fn read(name: &Path, octets: &[u8]) -> Result<Signed, Vec<Problem>> {
    let notes = Notes::new(&name.display().to_string());
    let signed = if octets.trim_ascii_start().starts_with(b"<") {
        tree::read(octets).map_err(|why| notes.say(0, why, "", "")).ok()
    } else {
        match std::str::from_utf8(octets) {
            Ok(text) => raw::parse(text, &notes).and_then(|table| {
                let lines = Lines::new(text);
                let document = raw::Document { text, lines, notes: &notes, secret: false };
                of_toml(Section::root(&document, table.get_ref()))
            }),
            Err(_) => {
                notes.say(0, "is not text".into(), "", "");
                None
            }
        }
    };
    if let Some(fault) = signed.as_ref().and_then(|signed| signed.document.fault()) {
        notes.say(0, fault, "", "");
    }
    let (problems, _) = notes.into_parts();
    signed.filter(|_| problems.is_empty()).ok_or(problems)
}

fn of_toml(mut root: Section<'_>) -> Option<Signed> {
    let notes = root.notes();
    let mut table = root.table("document");
    let own = table.need::<String>("enabler", "it is for one", "\"push\"");
    let version = table.need::<u64>("version", "it never goes back", "1");
    let mut names = |key: &'static str| {
        let found = table.need::<Vec<String>>(key, "what is not listed is not trusted", "[]");
        found.map(|spot| spot.value)
    };
    let (servers, realms, initiators) = (names("servers"), names("realms"), names("initiators"));
    let anchors = names("anchors");
    let mut inner = table.table("algorithms");
    let choice = inner.need::<u32>("version", "it never goes back", "1");
    let digests = inner.need::<Vec<String>>("digests", "these are answered", "[\"SHA-256\"]");
    let tls = inner.need::<String>("tls", "the lowest version", "\"1.2\"");
    inner.finish();
    table.finish();
    let mut table = root.table("signature");
    let value = table.need::<String>("value", "it proves who wrote the document", "\"..\"");
    table.finish();
    root.finish();
    let judge = |Spot { value, place }: Spot<String>, good: Result<(), String>| {
        good.map_err(|why| notes.problem(&place, "cannot be", why, "")).ok().map(|()| value)
    };
    let is_known = |spot: &Spot<String>| {
        let known = enabler(&spot.value).is_some();
        known.then_some(()).ok_or_else(|| "no enabler is called so".to_owned())
    };
    let own = own.and_then(|spot| {
        let known = is_known(&spot);
        judge(spot, known)
    });
    let tls = tls.and_then(|spot| {
        let known = TlsFloor::read(&spot.value).map(|_| ()).ok_or("there is no such TLS".into());
        judge(spot, known)
    });
    let mut each = |why: String| notes.say(0, why, "", "");
    let anchors = anchors?.iter().map(|text| tree::anchor(text)).collect::<Result<Vec<_>, _>>();
    let anchors = anchors.map_err(&mut each).ok();
    let digests = digests?.value.iter().map(|text| tree::digest(text)).collect::<Result<_, _>>();
    let digests = digests.map_err(&mut each).ok();
    let signature = STANDARD.decode(value?.value).map_err(|_| each("no base64".into())).ok();
    let algorithms =
        Algorithms { version: choice?.value, digests: digests?, tls: TlsFloor::read(&tls?)? };
    let document = Document {
        enabler: enabler(&own?)?,
        version: version?.value,
        servers: servers?,
        realms: realms?,
        initiators: initiators?,
        anchors: anchors?,
        algorithms,
    };
    Some(Signed { document, signature: signature? })
}

/// Why a document is not in force.
#[derive(Debug)]
pub enum Refused {
    /// The file cannot be read, or written.
    File(PathBuf, io::Error),
    /// What is in it is no document.
    Unread(Vec<Problem>),
    /// The signature is not the signer's.
    Unsigned(PathBuf),
    /// It may not take the place of the one there.
    Unfollowed(Unfollowed),
    /// It is for another enabler than the one that is used.
    Elsewhere(PathBuf, &'static str),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, why) => write!(f, "{}: {why}", path.display()),
            Self::Unread(problems) => {
                let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
                f.write_str(&said.join("\n"))
            }
            Self::Unsigned(path) => {
                write!(f, "{}: the signature is not that of the signer", path.display())
            }
            Self::Unfollowed(why) => write!(f, "{why}; the one in force stays"),
            Self::Elsewhere(path, enabler) => {
                write!(f, "{} is not for {enabler}", path.display())
            }
        }
    }
}

impl std::error::Error for Refused {}

/// The signed document in a file.
///
/// # Errors
///
/// [`Refused`].
pub fn open(path: &Path, signer: &Verifier) -> Result<Signed, Refused> {
    let failed = |why| Refused::File(path.to_owned(), why);
    let facts = fs::metadata(path).map_err(failed)?;
    if !facts.is_file() || facts.len() > OCTETS_MAX {
        return Err(failed(io::Error::other("is no file of at most 64 KiB")));
    }
    let signed = read(path, &fs::read(path).map_err(failed)?).map_err(Refused::Unread)?;
    match signer.verify(signed.clone()) {
        Some(_) => Ok(signed),
        None => Err(Refused::Unsigned(path.to_owned())),
    }
}

/// The documents of one client.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    signer: Verifier,
}

impl Folder {
    /// At `path`: a folder with `push.toml` and so on, or the one file that an identity module has.
    pub fn new(path: &Path, signer: Verifier) -> Self {
        Self { path: path.to_owned(), signer }
    }

    fn place(&self, enabler: &str) -> PathBuf {
        self.path.join(enabler).with_extension("toml")
    }

    /// The document for an enabler: its own, else that of `sip`, which all of them are.
    ///
    /// # Errors
    ///
    /// [`Refused`]: nothing is trusted then.
    pub fn current(&self, enabler: &'static str) -> Result<Document, Refused> {
        let own = if self.path.is_dir() {
            let own = self.place(enabler);
            if own.exists() { own } else { self.place("sip") }
        } else {
            self.path.clone()
        };
        let document = open(&own, &self.signer)?.document;
        if document.enabler != enabler && document.enabler != "sip" {
            return Err(Refused::Elsewhere(own, enabler));
        }
        Ok(document)
    }

    /// The same, read at each use.
    pub fn lists(&self, enabler: &'static str) -> Lists {
        let own = self.clone();
        Lists::new(move || own.current(enabler).ok().map(Arc::new))
    }

    /// Takes the document in a file in the place of the one there.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the one there stays.
    pub fn import(&self, from: &Path) -> Result<(Document, Step), Refused> {
        let signed = open(from, &self.signer)?;
        let place = self.place(signed.document.enabler);
        let step = match place.exists() {
            false => Step::Later,
            true => succeed(&open(&place, &self.signer)?.document, &signed.document)
                .map_err(Refused::Unfollowed)?,
        };
        let failed = |why| Refused::File(self.path.clone(), why);
        fs::create_dir_all(&self.path).map_err(failed)?;
        disk::replace(&place, print(&signed).as_bytes()).map_err(failed)?;
        Ok((signed.document, step))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::document;
    use super::*;

    fn keys() -> (Signer, Verifier) {
        let key = rcgen::KeyPair::generate().unwrap();
        let signer = Signer::from_pem(key.serialize_pem().as_bytes()).unwrap();
        (signer, Verifier::from_pem(key.public_key_pem().as_bytes()).unwrap())
    }

    fn read(octets: &str) -> Result<Signed, Vec<Problem>> {
        super::read(Path::new("push.toml"), octets.as_bytes())
    }

    /// B.8: both forms carry the one signature, and no word can be changed.
    #[test]
    fn a_document_is_read_as_it_was_signed_in_either_form() {
        let (signer, verifier) = keys();
        let signed = signer.sign(document()).unwrap();
        let text = print(&signed);
        for form in [text.clone(), tree::print(&signed)] {
            let found = read(&form).unwrap();
            assert_eq!(found, signed, "{form}");
            assert_eq!(verifier.verify(found), Some(document()));
        }
        for (from, to) in [
            ("version = 7", "version = 8"),
            ("mail.example.net", "evil.example.net"),
            ("\"SHA-256\"", "\"SHA-256\", \"MD5\""),
            ("tls = \"1.2\"", "tls = \"1.3\""),
            ("5a5a", "5a5b"),
            ("enabler = \"push\"", "enabler = \"sip\""),
        ] {
            let altered = read(&text.replacen(from, to, 1)).unwrap();
            assert_ne!(altered, signed, "{from}");
            assert_eq!(verifier.verify(altered), None, "{from}");
        }
        assert_eq!(keys().1.verify(signed), None, "another signer");
    }

    #[test]
    fn both_kinds_of_key_sign() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let signer = Signer::from_pem(key.serialize_pem().as_bytes()).unwrap();
            let verifier = Verifier::from_pem(key.public_key_pem().as_bytes()).unwrap();
            let signed = signer.sign(document()).unwrap();
            assert!(verifier.verify(signed).is_some(), "{algorithm:?}");
        }
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(Signer::from_pem(other.serialize_pem().as_bytes()).is_none());
        assert!(Signer::from_pem(b"no key").is_none() && Verifier::from_pem(b"no key").is_none());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let (signer, _) = keys();
        let text = print(&signer.sign(document()).unwrap());
        for (from, to, expected) in [
            ("enabler = \"push\"", "enabler = \"pull\"", "push.toml:3: document.enabler"),
            ("realms = ", "# realms = ", "push.toml:2: document.realms is missing"),
            ("servers", "server", "document.server"),
            ("tls = \"1.2\"", "tls = \"1.0\"", "there is no such TLS"),
            ("[\"SHA-256\"]", "[]", "algorithms.digests is empty"),
            ("[\"SHA-256\"]", "[\"SHA-1\"]", "no algorithm is called"),
            ("\"example.net\"]", "\"ex\\\"ample\"]", "which is no name or realm"),
        ] {
            let problems = read(&text.replacen(from, to, 1)).unwrap_err();
            let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert!(said.join("\n").contains(expected), "{from} to {to}: {said:?}");
        }
        assert!(super::read(Path::new("a"), &[0xFF]).is_err());
    }
}
