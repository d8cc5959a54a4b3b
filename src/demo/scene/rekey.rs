//! The demonstration's scene of a key that is made anew while a call is up.
//!
//! Takes:   alice's UE and bob's.
//! Gives:   the scene; alice's key is another one afterwards.
//! Keeps:   nothing.
//! Refuses: to go on if the dialog did not move to the new key, or moved to anybody else's.
//! Sources: rules 3, 4 and 18; TS 33.220 clause 4.5.3 (a UE may bootstrap anew at any time).

use std::io::Write;

use super::rogue;
use crate::association::State;
use crate::client::ue::Ue;
use crate::demo::stage::{expect, gba, in_call, received};
use crate::demo::{Demo, Trouble, cast};
use crate::refusal::Refusal;
use crate::wire::Method;

impl Demo {
    pub(super) async fn rekey(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(out, "Alice makes a new key while she is in a call, and goes on with it")?;
        let call = alice.call("sip:bob@example.net").await?;
        expect("alice's INVITE", &call.answer, 200)?;
        in_call("the call", bob, "INVITE", &call.call_id).await?;
        in_call("the ACK", bob, "ACK", &call.call_id).await?;
        let before = self.generation("alice")?;
        self.forget().await;
        self.refused("calling", &[])?;
        let keys = self.bootstrap("alice").await?;
        writeln!(
            out,
            "    The call is up. {} bootstraps again, and has {}\n",
            keys.impi, keys.btid
        )?;
        alice.renew(vec![gba(keys)]).await?;
        let stranger = self.ue("rogue", crate::transport::Transport::Udp, rogue::account()).await?;
        let mut info = alice.inside(&call.call_id, "INFO").await?;
        info.cseq = info.cseq.saturating_add(100);
        expect("the rogue's INFO", &stranger.send(info).await?, 403)?;
        let info = alice.inside(&call.call_id, "INFO").await?;
        expect("alice's INFO", &alice.send(info).await?, 200)?;
        received("the INFO", bob, "INFO", b"").await?;
        self.ruled("the new key", Method::Info, 18)?;
        let after = self.generation("alice")?;
        expect("alice's BYE", &alice.hang_up(&call.call_id).await?, 200)?;
        self.show(out).await?;
        let refused = [
            Refusal::CredentialsMissing,
            Refusal::AssociationMismatch,
            Refusal::CredentialsMissing,
        ];
        self.refused("rekeying", &refused)?;
        if after != before.saturating_add(1) {
            return Err(Trouble::Scene(format!("from generation {before} to {after}")));
        }
        self.proved(
            out,
            &format!(
                "the call moved from key {before} to key {after} of alice by rule 18; a key of somebody else moves \
                 nothing (rule 4)."
            ),
        )
    }

    /// How many keys the owner of the one call that is up has had.
    fn generation(&self, user: &str) -> Result<u16, Trouble> {
        let dialogs = self.running.shared.gate.associations.snapshot();
        let mut calls = dialogs.iter().filter(|dialog| {
            dialog.invite
                && dialog.state == State::Bound
                && *dialog.origin.owner.name == *cast::impi(user)
        });
        match (calls.next(), calls.next()) {
            (Some(call), None) => Ok(call.key.generation),
            _ => Err(Trouble::Scene(format!("{user} has not exactly one call"))),
        }
    }
}
