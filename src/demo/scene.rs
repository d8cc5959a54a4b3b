//! The demonstration's scenes, in their order.
//!
//! Takes:   a place to write to.
//! Gives:   the scenes, one after the other; [`Trouble`] at the first that goes wrong.
//! Keeps:   nothing.
//! Refuses: to go on after a scene that went wrong.
//! Sources: SEC_CF 1.1 B.1 and B.3 (both flows).

mod bridge;
mod everyday;
mod location;
mod messaging;
mod push;
mod rekey;
mod rogue;
pub(super) mod shared_key;
mod transfer;
mod transports;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::stage::gba;
use super::{Demo, Trouble};
use crate::client::bootstrap::Bootstrapped;
use crate::client::ue::Ue;
use crate::transport::Transport;

impl Demo {
    /// Plays all scenes, and writes the ladder.
    ///
    /// # Errors
    ///
    /// The first scene that went wrong.
    pub async fn play(&self, out: &mut (dyn Write + Send)) -> Result<(), Trouble> {
        self.scene(
            out,
            "Alice and bob bootstrap: Digest-AKA with the server, and a key for the edge",
        )?;
        let alice = self.bootstrap("alice").await?;
        let bob = self.bootstrap("bob").await?;
        for keys in [&alice, &bob] {
            writeln!(out, "    {} has {}", keys.impi, keys.btid)?;
        }
        let alice = self.ue("alice", Transport::Udp, gba(alice)).await?;
        let keys = bob.clone();
        let bob = self.ue("bob", Transport::Tls, gba(bob)).await?;
        let played = self.scenes(out, &alice, &bob, &keys).await;
        if played.is_err() {
            self.show(out).await?;
        }
        played
    }

    async fn scenes(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
        keys: &Bootstrapped,
    ) -> Result<(), Trouble> {
        self.registrations(out, alice, bob).await?;
        self.texts(out, alice, bob).await?;
        self.subscription(out, alice).await?;
        self.call(out, alice, bob).await?;
        self.rogue(out, alice, bob).await?;
        self.rekey(out, alice, bob).await?;
        let carol = self.carol().await?;
        self.forget().await;
        self.ladder.refusals();
        self.transfer(out, alice, bob, &carol).await?;
        self.location(out, bob, keys).await?;
        self.pager(out, alice, bob).await?;
        self.chat(out, alice, bob, &carol).await?;
        self.push(out, bob).await?;
        self.bridge(out, gba(self.bootstrap("alice").await?), bob).await?;
        self.shared_key(out, keys).await?;
        self.datagrams(out, alice, keys).await?;
        self.transports(out, alice, keys).await?;
        self.counts(out)
    }

    fn counts(&self, out: &mut (dyn Write + Send)) -> Result<(), Trouble> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (requests, credentials) =
            (count(&self.seen.requests), count(&self.seen.with_credentials));
        let unasserted = count(&self.seen.not_one_identity);
        self.scene(out, "What the core saw")?;
        writeln!(
            out,
            "    {requests} requests, {credentials} with credentials in them, {unasserted} without exactly one \
             asserted identity"
        )?;
        if credentials != 0 || unasserted != 0 || requests == 0 {
            return Err(Trouble::Scene("the core saw what it must not see".into()));
        }
        Ok(())
    }
}
