//! The UE, instance: the one name of a device, whatever network it is in.
//!
//! Takes:   the file it is in.
//! Gives:   `urn:uuid:...`, the same each time.
//! Keeps:   that file; it is made when it is not there.
//! Refuses: a file that holds something else.
//! Sources: RFC 5626 section 4.1; RFC 9562 section 5.4 (a UUID of random octets).

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use crate::clock;
use crate::keys::subscribers::disk;

/// Most octets of the file.
const FILE_MAX: usize = 128;
const PREFIX: &str = "urn:uuid:";

/// The file that belongs to a store of keys: the same name with `.instance` behind it.
pub fn beside(store: &Path) -> PathBuf {
    disk::beside(store, "instance")
}

/// The name in the file at `path`, which is made if it is not there.
///
/// # Errors
///
/// Those of the file system; [`io::ErrorKind::InvalidData`] if the file holds no such name.
pub fn at(path: &Path) -> io::Result<String> {
    match std::fs::read(path) {
        Ok(octets) => {
            let text = octets.get(..octets.len().min(FILE_MAX)).map(String::from_utf8_lossy);
            let name = text.unwrap_or_default().trim().to_ascii_lowercase();
            let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it holds no urn:uuid");
            is_uuid(&name).then_some(name).ok_or_else(wrong)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = made_of(clock::random());
            disk::replace(path, format!("{name}\n").as_bytes())?;
            Ok(name)
        }
        Err(error) => Err(error),
    }
}

fn made_of(mut octets: [u8; 16]) -> String {
    octets[6] = octets[6] & 0x0F | 0x40;
    octets[8] = octets[8] & 0x3F | 0x80;
    let mut name = String::from(PREFIX);
    for (at, octet) in octets.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            name.push('-');
        }
        // A String takes whatever is written.
        let _ = write!(name, "{octet:02x}");
    }
    name
}

fn is_uuid(name: &str) -> bool {
    let digits = name.strip_prefix(PREFIX).unwrap_or_default();
    digits.len() == 36
        && digits.bytes().enumerate().all(|(at, octet)| match at {
            8 | 13 | 18 | 23 => octet == b'-',
            _ => octet.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_once_and_read_ever_after() {
        let folder = std::env::temp_dir().join(format!("sipward-instance-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = beside(&folder.join("ue.keys"));
        let name = at(&path).unwrap();
        assert!(is_uuid(&name), "{name}");
        assert_eq!(at(&path).unwrap(), name);
        std::fs::write(&path, name.to_ascii_uppercase()).unwrap();
        assert_eq!(at(&path).unwrap(), name, "a UUID has no case");
        for wrong in ["", "urn:uuid:", "urn:uuid:x\r\nRoute: <sip:evil>", &name[..40]] {
            std::fs::write(&path, wrong).unwrap();
            assert_eq!(at(&path).unwrap_err().kind(), io::ErrorKind::InvalidData, "{wrong:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn its_octets_say_that_they_are_random() {
        assert_eq!(made_of([0xFF; 16]), "urn:uuid:ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_ne!(made_of(clock::random()), made_of(clock::random()));
    }
}
