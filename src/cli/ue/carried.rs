//! `sipward ue`, carried keys: the file that a key was carried here in, and the one device that may use it.
//!
//! Takes:   the file of `sipward key issue`: the key in hex, and below it `device NAME` once it belongs to one.
//! Gives:   `sipward ue import --device`; the octets of a key.
//! Keeps:   this device's own copy, with its name in it, and the name in the file that was carried.
//! Refuses: a file that names another device: when it is taken in, unless that is forced, and at each use; one that others may
//!          read, that is over [`FILE_MAX`] octets, or is no such file; a key under 128 bits; to write over a file.
//! Sources: SEC_CF 1.1 ADM-001, B.9; RFC 4279 section 5.3.
//!
//! The name keeps one key out of two devices by mistake. It is no lock: whoever reads the file has the key.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;

use zeroize::Zeroizing;

use super::lists::ImportArgs;
use super::{Fault, GOOD, NO};
use crate::config::psk::hex;
use crate::keys::subscribers::disk::replace;
use crate::keys::subscribers::file::others_may_read;

/// Longest file, in octets: a key of 64 octets and a name.
const FILE_MAX: u64 = 512;
/// Longest name of a device, in octets.
const NAME_MAX: usize = 64;
/// Shortest key that is taken in, in octets.
const KEY_MIN: usize = 16;
/// What stands before the name.
const DEVICE: &str = "device ";

/// The name of a device: letters, digits and signs, without spaces.
pub(in crate::cli) fn device(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= NAME_MAX;
    if fits && text.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(format!("a device has 1 to {NAME_MAX} letters, digits and signs, without spaces"))
}

/// The file of a key, for that device or for the first that takes it in.
pub(in crate::cli) fn print(digits: &str, device: Option<&str>) -> Zeroizing<String> {
    let named = device.map(|name| format!("{DEVICE}{name}\n")).unwrap_or_default();
    Zeroizing::new(format!("{digits}\n{named}"))
}

/// A file that was read.
struct Carried {
    digits: Zeroizing<String>,
    octets: Zeroizing<Vec<u8>>,
    device: Option<String>,
}

/// The key in `path`, which `this` device is to use.
pub(super) fn key(path: &Path, this: Option<&str>) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let carried = read(path)?;
    match &carried.device {
        Some(of) if Some(&**of) != this => {
            let path = path.display();
            Err(format!("{path} is for the device {of} alone: where this is it, --device {of}")
                .into())
        }
        _ => Ok(carried.octets),
    }
}

fn read(path: &Path) -> Result<Carried, Fault> {
    let shown = path.display();
    let unread = |why: io::Error| format!("{shown}: {why}");
    let file = File::open(path).map_err(unread)?;
    if others_may_read(&file.metadata().map_err(unread)?) {
        return Err(format!("{shown} can be read by others: chmod 600 {shown}").into());
    }
    let mut text = Zeroizing::new(String::new());
    let length = file.take(FILE_MAX.saturating_add(1)).read_to_string(&mut text);
    if length.map_err(unread)? as u64 > FILE_MAX {
        return Err(format!("{shown} is over {FILE_MAX} octets").into());
    }
    parse(&text).map_err(|why| format!("{shown}: {why}").into())
}

fn parse(text: &str) -> Result<Carried, &'static str> {
    let mut lines = text.trim().lines();
    let digits = Zeroizing::new(lines.next().unwrap_or_default().trim().to_owned());
    let octets = hex(&digits).filter(|octets| !octets.is_empty()).ok_or("the key is not hex")?;
    let named =
        lines.next().map(|line| line.strip_prefix(DEVICE).and_then(|name| device(name).ok()));
    match (named, lines.next()) {
        (None, None) => Ok(Carried { digits, octets, device: None }),
        (Some(Some(name)), None) => Ok(Carried { digits, octets, device: Some(name) }),
        _ => Err("below the key stands what is no name of a device"),
    }
}

/// Runs `sipward ue import --device`.
pub(super) fn import(
    args: &ImportArgs,
    json: bool,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<u8> {
    let (Some(device), Some(own)) = (&args.device, &args.psk_file) else { return Ok(NO) };
    if let Err(why) = take(&args.document, device, own, args.force) {
        writeln!(errors, "sipward ue: {why}")?;
        return Ok(NO);
    }
    if json {
        writeln!(out, "{}", serde_json::json!({ "device": device, "file": own }))?;
    } else {
        writeln!(out, "{} holds the key of {device}", own.display())?;
    }
    Ok(GOOD)
}

fn take(from: &Path, device: &str, own: &Path, force: bool) -> Result<(), Fault> {
    let carried = read(from)?;
    let of = carried.device.as_deref().filter(|of| *of != device && !force);
    if let Some(of) = of {
        let from = from.display();
        return Err(format!(
            "{from} is for the device {of} alone: a key of its own (sipward key issue), or --force"
        )
        .into());
    }
    if carried.octets.len() < KEY_MIN {
        return Err(format!("{} has a key under 128 bits", from.display()).into());
    }
    if own.exists() {
        return Err(format!("{} is there already", own.display()).into());
    }
    let text = print(&carried.digits, Some(device));
    let unwritten = |path: &Path, why: io::Error| format!("{}: {why}", path.display());
    // The name first: if all ends here, this device may take the file in again, and no other may.
    replace(from, text.as_bytes()).map_err(|why| unwritten(from, why))?;
    Ok(replace(own, text.as_bytes()).map_err(|why| unwritten(own, why))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_one_device_or_none() {
        let read =
            |text: &str| parse(text).map(|carried| (carried.octets.to_vec(), carried.device));
        let key = vec![0xab, 0xcd];
        assert_eq!(read("abcd\n"), Ok((key.clone(), None)));
        assert_eq!(read(&print("abcd", Some("ue1"))), Ok((key, Some("ue1".to_owned()))));
        for text in ["", "xy\n", "abcd\nue1\n", "abcd\ndevice \n", "abcd\ndevice a b\n"] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(read("abcd\ndevice a\ndevice b\n").is_err());
        assert!(device(&"n".repeat(65)).is_err() && device("n\u{e9}").is_err());
    }
}
