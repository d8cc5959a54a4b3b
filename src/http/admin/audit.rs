//! Admin, audit: who changed what, and who was turned away.
//!
//! Takes:   each change that was asked for, with who asked and what came of it; callers who were not let in.
//! Gives:   a line in the log under the target `audit`, which no filter leaves out; its time is the line's own.
//! Keeps:   one bucket, and how many lines it left out.
//! Refuses: nothing. Changes are always written; refusals [`REFUSALS`] a minute, so that nobody can flood the log: the
//!          next line says how many are missing. Identities appear as [`Redacted`] alone.
//! Sources: V-11, V-49, V-73; `dialog-association` section 17.

use std::sync::{Mutex, PoisonError};

use super::Asker;
use super::question::Whom;
use crate::admission::{Bucket, Rate};
use crate::assembly::revocation::Revoked;
use crate::clock;
use crate::instant::Instant;
use crate::telemetry::Redacted;

/// Refusals that are written in a minute.
pub const REFUSALS: Rate = Rate::per_minute(10);

/// The audit of one socket.
#[derive(Debug, Default)]
pub struct Audit(Mutex<Refused>);

#[derive(Debug, Default)]
struct Refused {
    bucket: Bucket,
    left_out: u64,
}

impl Refused {
    /// Whether a line fits, and how many did not since the last one.
    fn line(&mut self, now: Instant) -> Option<u64> {
        if self.bucket.take(REFUSALS, now) {
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out = self.left_out.saturating_add(1);
        None
    }
}

impl Audit {
    /// Something was taken back, or was not there.
    pub(super) fn revoked(&self, asker: Asker, whom: &Whom, revoked: &Revoked) {
        let (uid, pid) = (asker.uid, asker.pid.unwrap_or(0));
        let of = match whom {
            Whom::Dialog(id) => id.to_string(),
            Whom::Caller(name) => Redacted(name).to_string(),
            Whom::Key(btid) => Redacted(btid.as_str()).to_string(),
        };
        let Revoked { keys, sessions, dialogs } = *revoked;
        let (what, outcome) =
            (whom.as_str(), if revoked.is_nothing() { "nothing" } else { "done" });
        tracing::info!(target: "audit", uid, pid, act = "revoke", what, of, outcome, keys, sessions, dialogs);
    }

    /// A change that could not be asked for like that.
    pub(super) fn refused(&self, asker: Asker, status: u16) {
        if let Some(left_out) = self.line() {
            let (uid, pid) = (asker.uid, asker.pid.unwrap_or(0));
            tracing::warn!(target: "audit", uid, pid, outcome = "refused", status, left_out);
        }
    }

    /// Another user came; `None` if the system does not say who.
    pub(super) fn turned_away(&self, uid: Option<u32>) {
        if let Some(left_out) = self.line() {
            let uid = uid.map_or_else(|| "unknown".to_owned(), |uid| uid.to_string());
            tracing::warn!(target: "audit", uid, outcome = "turned away", left_out);
        }
    }

    fn line(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).line(clock::mono())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// V-11.
    #[test]
    fn a_flood_of_refusals_is_ten_lines_and_a_number() {
        let (mut refused, now) = (Refused::default(), Instant::START + Duration::from_secs(100));
        let lines = (0..1000).filter_map(|_| refused.line(now)).collect::<Vec<_>>();
        assert_eq!(lines, [0; 10]);
        assert_eq!(refused.line(now + Duration::from_secs(6)), Some(990));
        assert_eq!(refused.line(now + Duration::from_secs(6)), None);
    }
}
