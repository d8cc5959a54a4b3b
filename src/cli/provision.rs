//! `sipward provision`: the documents that tell clients what to trust, and the key that signs them.
//!
//! Takes:   a configuration with `[provision]`, a folder.
//! Gives:   for each enabler one document, as TOML and as a tree for device management; a key and its public half.
//! Keeps:   nothing.
//! Refuses: to write over a key; to write a document over one that it may not follow, as clients would.
//! Sources: SEC_CF 1.1 B.8, ADM-002.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args as Clap, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use super::{GOOD, NO, USAGE};
use crate::config::{Config, provision};
use crate::keys::subscribers::disk;
use crate::provision::{ENABLERS, file, succeed, tree};

/// Arguments.
#[derive(Clone, Debug, Clap)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Make the key that signs documents
    Key {
        /// Where the key goes: [provision] names it
        #[arg(long, value_name = "FILE", default_value = "provision.key")]
        key: PathBuf,
        /// Where its public half goes: clients are given it
        #[arg(long, value_name = "FILE", default_value = "provision.pub")]
        public: PathBuf,
    },
    /// Write the signed documents of a configuration: for each enabler a .toml, and the same as a tree, .xml
    Write {
        /// The configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Into this folder
        #[arg(long, value_name = "DIR", default_value = ".")]
        to: PathBuf,
        /// Print JSON: a line for each document
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command; the exit code: 0 done, 1 if something is there that stays, 2 for a configuration that cannot be.
///
/// # Errors
///
/// Those of writing.
pub fn run(args: &Args, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<u8> {
    match &args.command {
        Command::Key { key, public } => make_key(key, public, out, errors),
        Command::Write { config, to, json } => write(config, to, *json, out, errors),
    }
}

fn make_key(
    key: &Path,
    public: &Path,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<u8> {
    let pair = rcgen::KeyPair::generate().map_err(io::Error::other)?;
    let secret = Zeroizing::new(pair.serialize_pem());
    for (path, text, mode) in [(key, &*secret, 0o600), (public, &pair.public_key_pem(), 0o644)] {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        let written = options.open(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        if let Err(why) = written {
            writeln!(errors, "{}: {why}", path.display())?;
            return Ok(NO);
        }
    }
    writeln!(out, "{} signs documents; clients are given {}", key.display(), public.display())?;
    Ok(GOOD)
}

fn write(
    config: &Path,
    to: &Path,
    json: bool,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<u8> {
    let config = match Config::load(config) {
        Ok((config, _)) => config,
        Err(problems) => {
            for problem in problems {
                writeln!(errors, "{problem}")?;
            }
            return Ok(USAGE);
        }
    };
    let Some(own) = &config.provision else {
        writeln!(errors, "{} has no [provision]", config.file.display())?;
        return Ok(USAGE);
    };
    fs::create_dir_all(to)?;
    for document in ENABLERS.iter().filter_map(|enabler| provision::document(&config, enabler)) {
        let (enabler, version) = (document.enabler, document.version);
        let place = to.join(enabler);
        let path = place.with_extension("toml");
        if let Ok(octets) = fs::read(&path)
            && let Ok(before) = file::read(&path, &octets)
            && let Err(why) = succeed(&before.document, &document)
        {
            writeln!(errors, "{}: {why}; it stays", path.display())?;
            return Ok(NO);
        }
        let signed = own.signer.sign(document)?;
        disk::replace(&path, file::print(&signed).as_bytes())?;
        disk::replace(&place.with_extension("xml"), tree::print(&signed).as_bytes())?;
        if json {
            writeln!(out, "{}", json!({ "enabler": enabler, "version": version }))?;
        } else {
            writeln!(out, "{enabler}: version {version} in {}", path.display())?;
        }
    }
    Ok(GOOD)
}
