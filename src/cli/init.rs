//! `sipward init`: a configuration to begin with, and all files that it names.
//!
//! Takes:   a folder.
//! Gives:   `sipward.toml` with comments, a lab CA, the edge's certificate, one account and two subscribers, whose
//!          secrets are drawn here: no two labs have the same (V-73).
//! Keeps:   nothing.
//! Refuses: to write over any file; what is secret is for the owner alone, mode 0600.
//! Sources: RFC 5922 section 7.1 (names in the certificate); V-73.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use zeroize::Zeroizing;

use super::{GOOD, NO, USAGE};
use crate::clock;
use crate::config::Config;
use crate::instant::WallTime;
use crate::keys::calendar::print_xml;

const CONFIG: &str = include_str!("init.toml");
const EDGE: &str = "edge.example.net";
const DAY: Duration = Duration::from_secs(86_400);

/// The arguments of `sipward init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder; it is made if it is not there
    #[arg(default_value = ".")]
    pub folder: PathBuf,
}

/// A file to write.
struct Draft {
    name: &'static str,
    about: &'static str,
    secret: bool,
    text: Zeroizing<String>,
}

/// Runs the command; the exit code: 0 done, 1 if a file is there already, 2 if what was written is not good.
///
/// # Errors
///
/// Those of writing.
pub fn run(args: &Args, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<u8> {
    let drafts = drafts(clock::now().wall).map_err(io::Error::other)?;
    let taken = drafts.iter().map(|draft| args.folder.join(draft.name)).filter(|path| exists(path));
    let taken: Vec<PathBuf> = taken.collect();
    if !taken.is_empty() {
        for path in taken {
            writeln!(errors, "{} is there already, and stays as it is", path.display())?;
        }
        writeln!(errors, "nothing was written")?;
        return Ok(NO);
    }
    fs::create_dir_all(&args.folder)?;
    for draft in &drafts {
        let path = args.folder.join(draft.name);
        write(&path, draft).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        writeln!(out, "{:28}  {}", path.display().to_string(), draft.about)?;
    }
    let config = args.folder.join("sipward.toml");
    match Config::load(&config) {
        Ok(_) => {
            let config = config.display();
            writeln!(out, "\nnext: sipward check {config}, then sipward serve -c {config}")?;
            Ok(GOOD)
        }
        Err(problems) => {
            for problem in problems {
                writeln!(errors, "{problem}")?;
            }
            Ok(USAGE)
        }
    }
}

/// Whether something of that name is there, a dangling link included.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn write(path: &Path, draft: &Draft) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if draft.secret { 0o600 } else { 0o644 });
    let mut file = options.open(path)?;
    file.write_all(draft.text.as_bytes())?;
    file.sync_all()
}

fn drafts(now: WallTime) -> Result<Vec<Draft>, rcgen::Error> {
    let shared = if cfg!(feature = "openssl") { ", psk = true" } else { "" };
    let config = CONFIG
        .replace("@PSK@", shared)
        .replace("@TODAY@", &date(now))
        .replace("@LATER@", &date(now + DAY * 30));
    let lab = lab(now)?;
    let password = drawn::<15>();
    let accounts = format!(
        "# Users with a password, for a lab. Whoever reads this file can be any of them.\n\
         # Instead of a password: ha1 = {{ SHA-256 = \"..\", MD5 = \"..\" }}, of username:realm:password.\n\n\
         [[account]]\nusername = \"alice\"\npassword = \"{}\"\n\
         identities = [\"sip:alice@example.net\"]\n",
        *password
    );
    let mut subscribers = Zeroizing::new(
        "# Subscribers of a lab, whose keys were drawn for it: no SIM has them.\n\
         # Whoever reads this file can be any of them. `sipward subscriber -h` keeps the list.\n"
            .to_owned(),
    );
    for name in ["ue1", "ue2"] {
        let (k, opc) = (drawn::<16>(), drawn::<16>());
        subscribers.push_str(&format!(
            "\n[[subscriber]]\nimpi = \"{name}@example.net\"\nk = \"{}\"\nopc = \"{}\"\n\
             impus = [\"sip:{name}@example.net\"]\n",
            *k, *opc
        ));
    }
    let draft = |name, about, secret, text: Zeroizing<String>| Draft { name, about, secret, text };
    Ok(vec![
        draft(
            "lab-ca.pem",
            "the authority of this lab; give it to UEs",
            false,
            lab.authority.into(),
        ),
        draft("lab-ca.key", "its key, to sign more certificates", true, lab.authority_key),
        draft("edge.pem", "the edge's certificate", false, lab.edge.into()),
        draft("edge.key", "its key", true, lab.edge_key),
        draft("accounts.toml", "one user with a password", true, accounts.into()),
        draft("subscribers.toml", "two subscribers with SIM keys", true, subscribers),
        draft("sipward.toml", "the configuration", false, config.into()),
    ])
}

/// `N` random octets as hex digits.
fn drawn<const N: usize>() -> Zeroizing<String> {
    let octets = Zeroizing::new(clock::random::<N>());
    Zeroizing::new(octets.iter().map(|octet| format!("{octet:02x}")).collect())
}

fn date(at: WallTime) -> String {
    print_xml(at).chars().take(10).collect()
}

/// Certificates of a lab, as PEM.
struct Lab {
    authority: String,
    authority_key: Zeroizing<String>,
    edge: String,
    edge_key: Zeroizing<String>,
}

fn lab(now: WallTime) -> Result<Lab, rcgen::Error> {
    let mut authority = params("sipward lab authority", now, 3650);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let mut edge = params(EDGE, now, 397);
    edge.subject_alt_names = vec![
        SanType::URI(Ia5String::try_from(format!("sip:{EDGE}"))?),
        SanType::DnsName(Ia5String::try_from(EDGE)?),
    ];
    edge.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    edge.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    edge.use_authority_key_identifier_extension = true;
    let edge_key = KeyPair::generate()?;
    let authority_pem = authority_certificate.pem();
    let authority_key_pem = Zeroizing::new(authority_key.serialize_pem());
    let issuer = Issuer::new(authority, authority_key);
    Ok(Lab {
        authority: authority_pem,
        authority_key: authority_key_pem,
        edge: edge.signed_by(&edge_key, &issuer)?.pem(),
        edge_key: Zeroizing::new(edge_key.serialize_pem()),
    })
}

/// A certificate of that name, from yesterday on, for so many days.
fn params(name: &str, now: WallTime, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let yesterday = WallTime::from_unix(now.as_unix().saturating_sub(DAY.as_secs()));
    let (year, month, first) = day(yesterday);
    params.not_before = date_time_ymd(year, month, first);
    let (year, month, last) = day(now + DAY * days);
    params.not_after = date_time_ymd(year, month, last);
    params
}

/// Year, month and day.
fn day(at: WallTime) -> (i32, u8, u8) {
    let text = date(at);
    let mut parts = text.split('-').map(|part| part.parse::<u16>().unwrap_or(1));
    let mut next = || parts.next().unwrap_or(1);
    let (year, month, day) = (next(), next(), next());
    let small = |part: u16| u8::try_from(part).unwrap_or(1);
    (i32::from(year), small(month), small(day))
}
