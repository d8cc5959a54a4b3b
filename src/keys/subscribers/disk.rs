//! Keys, subscribers, disk: files that are whole, old or new, and that only their owner may read.
//!
//! Takes:   a path and octets.
//! Gives:   [`replace`].
//! Keeps:   nothing.
//! Refuses: to leave half a file behind: a crash shows the old one.
//! Sources: none.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Writes a file beside `path`, mode 0600, and puts it in the place of `path` once it is on the disk.
///
/// # Errors
///
/// Those of the file system; `path` is as it was then.
pub fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    let beside = beside(path, &format!("new-{}", std::process::id()));
    let written = write(&beside, octets).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// `path` with another ending behind its own.
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn write(path: &Path, octets: &[u8]) -> io::Result<()> {
    let _ = std::fs::remove_file(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(octets)?;
    file.sync_all()
}
