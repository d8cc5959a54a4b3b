//! `sipward serve`, keeping: what is done again and again for what outlives the process.
//!
//! 1. Sessions and sequence numbers are written down: every second in a store, every ten beside a list.
//! 2. Keys that were carried to both ends by hand are read again once a command changed them, and connections that stand
//!    on one that is gone are closed; a line of audit says who did it, and what became of how many.
//!
//! Takes:   the bootstrapping server, the store, and the running edge.
//! Gives:   [`Keeper`].
//! Keeps:   the last change of the keys that are in force.
//! Refuses: nothing; what cannot be written or read is told once, and tried again.
//! Sources: SEC_CF 1.1 B.9, SEC-003; dialog-association section 15.

use std::io::{self, Write};
use std::sync::Arc;

use super::auc::Books;
use super::vault::{Changed, Vault};
use crate::assembly::{Plan, Running};
use crate::config::Config;
use crate::keys::bootstrap::Bsf;

/// Beats between two writings beside a list.
const BEATS: u64 = 10;

/// What is done each second.
pub(super) struct Keeper {
    bsf: Option<(Arc<Bsf>, Books)>,
    vault: Option<Arc<Vault>>,
    /// Of the keys in force.
    change: Option<Changed>,
    beat: u64,
    /// Whether the last beat went well.
    well: bool,
}

/// Puts the keys of the store beside those of the configuration.
///
/// # Errors
///
/// A store that does not answer, a key in it that is none.
pub(super) fn add_keys(plan: &mut Plan, vault: Option<&Vault>) -> io::Result<()> {
    if let (Some(psk), Some(vault)) = (&mut plan.psk, vault) {
        psk.provisioned.extend(vault.keys()?);
    }
    Ok(())
}

impl Keeper {
    /// From the start of the service on.
    pub(super) fn new(bsf: Option<(Arc<Bsf>, Books)>, vault: Option<Arc<Vault>>) -> Self {
        let change = vault.as_ref().and_then(|vault| vault.last_change().ok().flatten());
        Self { bsf, vault, change, beat: 0, well: true }
    }

    /// One beat.
    ///
    /// # Errors
    ///
    /// Those of writing to `errors`.
    pub(super) async fn tick(
        &mut self,
        running: Option<&Running>,
        config: &Config,
        errors: &mut dyn Write,
    ) -> io::Result<()> {
        let done = match self.write().await {
            Ok(()) => self.read_keys(running, config),
            Err(why) => Err(why),
        };
        let was_well = std::mem::replace(&mut self.well, done.is_ok());
        match done {
            Err(why) if was_well => {
                writeln!(errors, "what has to outlive a restart cannot be kept: {why}")
            }
            Ok(()) if !was_well => writeln!(errors, "what has to outlive a restart is kept again"),
            _ => Ok(()),
        }
    }

    /// The last writing.
    ///
    /// # Errors
    ///
    /// What could not be written.
    pub(super) fn end(&self) -> io::Result<()> {
        self.bsf.as_ref().map_or(Ok(()), |(bsf, books)| books.keep(bsf))
    }

    /// Step 1, on a thread that may wait for a disk.
    async fn write(&mut self) -> io::Result<()> {
        let Some((bsf, books)) = self.bsf.clone() else { return Ok(()) };
        self.beat = self.beat.wrapping_add(1);
        if !books.is_hasty() && !self.beat.is_multiple_of(BEATS) {
            return Ok(());
        }
        let kept = tokio::task::spawn_blocking(move || books.keep(&bsf)).await;
        kept.unwrap_or_else(|why| Err(io::Error::other(why)))
    }

    /// Step 2.
    fn read_keys(&mut self, running: Option<&Running>, config: &Config) -> io::Result<()> {
        let (Some(vault), Some(running)) = (&self.vault, running) else { return Ok(()) };
        let change = vault.last_change()?;
        if change == self.change {
            return Ok(());
        }
        if let Some(psk) = &running.psk {
            let mut keys = (*config.psk.keys).clone();
            keys.extend(vault.keys()?);
            let names: Vec<Box<str>> = keys.keys().cloned().collect();
            let before = psk.replace(keys);
            running.edge.keys_taken_back();
            let given = names.iter().filter(|name| !before.contains_key(*name)).count();
            let gone = before.len().saturating_add(given).saturating_sub(names.len());
            let (uid, pid) = change.map_or((0, 0), Changed::asker);
            tracing::info!(target: "audit", uid, pid, act = "keys", given, gone, held = names.len());
        }
        self.change = change;
        Ok(())
    }
}
