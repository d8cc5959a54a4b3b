//! Configuration, cluster: `[cluster]`, what all nodes of a deployment share, and one node over its restarts.
//!
//! Takes:   the table as written, and the file of the secret.
//! Gives:   [`Cluster`]: the secret that route tokens are sealed under, and how long the one before it is taken.
//! Keeps:   nothing.
//! Refuses: a secret that is too short to be one, or that others can read.
//! Sources: rule 23; RFC 3261 section 16.6 item 4; SEC_CF 1.1 SEC-001, SEC-003.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::files::{Folder, Secrecy};
use super::raw::Section;

/// What nodes share.
#[derive(Clone)]
pub struct Cluster {
    /// What route tokens are sealed under; without one they are lost with the process, and dialogs with them.
    pub secret: Option<Zeroizing<[u8; 32]>>,
    /// How long tokens of a secret work once another took its place, and dialogs last that it hid the core of.
    pub overlap: Duration,
}

impl fmt::Debug for Cluster {
    /// Enough to see that it is another one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = self.secret.as_ref().map(|secret| Sha256::digest(**secret));
        let first = hash.and_then(|hash| hash.first_chunk::<8>().copied());
        write!(f, "Cluster({first:02x?})")
    }
}

/// Reads `[cluster]`.
pub(super) fn read(root: &mut Section<'_>, folder: &Folder) -> Cluster {
    let mut section = root.table("cluster");
    let notes = section.notes();
    let secret = section.maybe::<PathBuf>("secret").and_then(|spot| {
        let octets = folder.read_watched(&spot, Secrecy::Secret, LENGTH_MAX, notes)?;
        let trimmed = octets.trim_ascii();
        if trimmed.len() < LENGTH_MIN {
            let why = "whoever guesses it makes dialogs of his own";
            notes.problem(&spot.place, "is too short", why, "openssl rand -hex 32");
            return None;
        }
        let hash = Sha256::new().chain_update(b"sipward cluster").chain_update(trimmed).finalize();
        Some(Zeroizing::new(hash.into()))
    });
    let overlap = section.within("overlap", DAY, Duration::ZERO..=DAY * 2);
    section.finish();
    Cluster { secret, overlap }
}

/// The default of the overlap; no token opens longer than two of it.
const DAY: Duration = Duration::from_secs(86_400);
/// Fewest octets of a secret: 32 hexadecimal digits are 128 bits.
const LENGTH_MIN: usize = 32;
/// Most octets.
const LENGTH_MAX: u64 = 4096;
