//! `sipward serve`, keeping: what is done again and again for what outlives the process.
//!
//! 1. Sessions and sequence numbers are written down: every second in a store, every ten beside a list.
//! 2. Keys that were carried to both ends by hand are read again once a command changed them, and connections that stand
//!    on one that is gone are closed; a line of audit says who did it, and what became of how many.
//! 3. So are accounts, on a thread of their own: a million take some seconds. What came of a configuration that is no
//!    longer in force is read once more.
//!
//! Takes:   the bootstrapping server, the store, and the running edge.
//! Gives:   [`Keeper`].
//! Keeps:   the last change of the keys and of the accounts that are in force; while they are replaced, accounts twice.
//! Refuses: a start and a reload with an account that cannot be, or that stands in the store and in the file. Of a change
//!          in the store such accounts alone are left out, and told of. What cannot be written or read is told once, and
//!          tried again.
//! Sources: SEC_CF 1.1 B.9, SEC-003; dialog-association section 15.

use std::io::{self, Write};
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};

use super::auc::Books;
use super::vault::{Changed, Part, Vault};
use crate::assembly::{Plan, Running};
use crate::authentication::Accounts;
use crate::authentication::accounts::AccountUnfit;
use crate::config::Config;
use crate::keys::bootstrap::Bsf;

/// Beats between two writings beside a list.
const BEATS: u64 = 10;
/// Most accounts of which it is told one by one why they cannot be.
const TOLD_MAX: usize = 100;

/// What is done each second.
pub(super) struct Keeper {
    bsf: Option<(Arc<Bsf>, Books)>,
    vault: Option<Arc<Vault>>,
    /// Of what is in force.
    marks: Marks,
    /// Accounts that are being read.
    reading: Option<Reading>,
    beat: u64,
    /// Whether the last beat went well.
    well: bool,
    /// Whether accounts were read when that was tried last.
    well_read: bool,
}

/// The last changes of what a server holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    keys: Option<Changed>,
    accounts: Option<Changed>,
    subscribers: Option<Changed>,
}

/// Accounts that are being read: since which change, for which configuration.
struct Reading {
    mark: Option<Changed>,
    config: Arc<Config>,
    done: JoinHandle<io::Result<Found>>,
}

/// Accounts, and why some of them were left out.
type Found = (Arc<Accounts>, Vec<String>);

impl Marks {
    /// As they are before the store is read.
    ///
    /// # Errors
    ///
    /// A store that does not answer.
    pub(super) fn of(vault: Option<&Vault>) -> io::Result<Self> {
        let of = |part| vault.map_or(Ok(None), |vault| vault.last_change(part));
        let (keys, accounts) = (of(Part::Keys)?, of(Part::Accounts)?);
        Ok(Self { keys, accounts, subscribers: of(Part::Subscribers)? })
    }
}

/// Puts keys and accounts of the store beside those of the configuration.
///
/// # Errors
///
/// A store that does not answer, a key in it that is none, accounts that cannot be or stand in both.
pub(super) fn add_stored(
    plan: &mut Plan,
    vault: Option<&Vault>,
    config: &Config,
) -> io::Result<()> {
    let Some(vault) = vault else { return Ok(()) };
    if let Some(psk) = &mut plan.psk {
        psk.provisioned.extend(vault.keys()?);
    }
    if let Some((_, accounts)) = &mut plan.accounts
        && config.authentication.accounts_in_state
    {
        let (found, wrong) = all_accounts(vault, config)?;
        if !wrong.is_empty() {
            return Err(io::Error::other(told(&wrong)));
        }
        *accounts = found;
    }
    Ok(())
}

/// The accounts of the store and of the file. Who stands in both is let in by neither.
fn all_accounts(vault: &Vault, config: &Config) -> io::Result<Found> {
    let (mut accounts, mut wrong) = vault.accounts(config)?;
    let proofs = &config.authentication;
    let file = proofs.accounts_file.as_ref().map(|path| path.display().to_string());
    let file = file.unwrap_or_default();
    for (realm, username, why) in accounts.join(&proofs.accounts) {
        let who = format!("account {username:?} of realm {realm:?}");
        wrong.push(match why {
            AccountUnfit::Full => {
                format!("{who} is one too many\n    a million is the most, in {file} and in the store")
            }
            AccountUnfit::Username | AccountUnfit::Twice => format!(
                "{who} stands in {file} and in the store\n    which of them counts could not be told, so neither does\n    fix: without it in {file}, or sipward account remove"
            ),
        });
    }
    Ok((Arc::new(accounts), wrong))
}

/// Why accounts are left out, a line for each.
fn told(wrong: &[String]) -> String {
    let mut lines: Vec<&str> = wrong.iter().take(TOLD_MAX).map(String::as_str).collect();
    let more = wrong.len().saturating_sub(TOLD_MAX);
    let rest = format!("and {more} more accounts");
    lines.extend((more > 0).then_some(rest.as_str()));
    lines.join("\n")
}

impl Keeper {
    /// From the start of the service on; `marks` are those from before the store was read.
    pub(super) fn new(
        bsf: Option<(Arc<Bsf>, Books)>,
        vault: Option<Arc<Vault>>,
        marks: Marks,
    ) -> Self {
        Self { bsf, vault, marks, reading: None, beat: 0, well: true, well_read: true }
    }

    /// One beat.
    ///
    /// # Errors
    ///
    /// Those of writing to `errors`.
    pub(super) async fn tick(
        &mut self,
        running: Option<&Running>,
        config: &Arc<Config>,
        errors: &mut dyn Write,
    ) -> io::Result<()> {
        // Whatever cannot be written, what others took back is taken back.
        let (kept, read) = (self.write().await, self.read_keys(running, config));
        let done = kept.and(read).and(self.look_at_subscribers(running));
        self.read_accounts(running, config, errors).await?;
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
        let kept = spawn_blocking(move || books.keep(&bsf)).await;
        kept.unwrap_or_else(|why| Err(io::Error::other(why)))
    }

    /// Step 2.
    fn read_keys(&mut self, running: Option<&Running>, config: &Config) -> io::Result<()> {
        let (Some(vault), Some(running)) = (&self.vault, running) else { return Ok(()) };
        let change = vault.last_change(Part::Keys)?;
        if change == self.marks.keys {
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
        self.marks.keys = change;
        Ok(())
    }

    /// Whoever was barred or removed has no key any more.
    fn look_at_subscribers(&mut self, running: Option<&Running>) -> io::Result<()> {
        let (Some(vault), Some(running)) = (&self.vault, running) else { return Ok(()) };
        let change = vault.last_change(Part::Subscribers)?;
        if change != self.marks.subscribers {
            running.revoke_barred();
            self.marks.subscribers = change;
        }
        Ok(())
    }

    /// Step 3: begins, or looks whether it is done.
    async fn read_accounts(
        &mut self,
        running: Option<&Running>,
        config: &Arc<Config>,
        errors: &mut dyn Write,
    ) -> io::Result<()> {
        let (Some(vault), Some(running)) = (&self.vault, running) else { return Ok(()) };
        let proofs = &config.authentication;
        if !(proofs.digest && proofs.accounts_in_state) {
            return Ok(());
        }
        if self.reading.is_none() {
            // A store that does not answer is told of by the step before.
            let Ok(mark) = vault.last_change(Part::Accounts) else { return Ok(()) };
            if mark != self.marks.accounts {
                let (vault, of) = (Arc::clone(vault), Arc::clone(config));
                let done = spawn_blocking(move || all_accounts(&vault, &of));
                self.reading = Some(Reading { mark, config: Arc::clone(config), done });
            }
            return Ok(());
        }
        let Some(reading) = self.reading.take_if(|reading| reading.done.is_finished()) else {
            return Ok(());
        };
        let found = reading.done.await.unwrap_or_else(|why| Err(io::Error::other(why)));
        let was_well = std::mem::replace(&mut self.well_read, found.is_ok());
        match found {
            Err(why) if was_well => writeln!(
                errors,
                "accounts in the store cannot be read, and stay as they are: {why}"
            ),
            Err(_) => Ok(()),
            Ok(_) if !Arc::ptr_eq(&reading.config, config) => Ok(()),
            Ok((accounts, wrong)) => {
                self.marks.accounts = reading.mark;
                let before = running.replace_accounts(&accounts);
                let (given, gone) = (accounts.beyond(&before), before.beyond(&accounts));
                let (uid, pid) = reading.mark.map_or((0, 0), Changed::asker);
                let (held, left_out) = (accounts.len(), wrong.len());
                tracing::info!(
                    target: "audit", uid, pid, act = "accounts", given, gone, held, left_out
                );
                if wrong.is_empty() {
                    return Ok(());
                }
                writeln!(errors, "left out until they can be told apart or read:\n{}", told(&wrong))
            }
        }
    }
}
