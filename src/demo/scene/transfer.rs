//! The demonstration's scene of a call that is handed over: REFER with Replaces.
//!
//! Takes:   alice's UE and bob's.
//! Gives:   the scene, and carol's UE.
//! Keeps:   nothing.
//! Refuses: to go on if anybody but bob may take the call over, or bob may not.
//! Sources: RFC 3515; RFC 3891; RFC 5589 section 7; rules 1, 15 and 29 (`dialog-association` 8.6).

use std::io::Write;

use super::rogue;
use crate::client::ue::Ue;
use crate::demo::stage::{expect, gba, in_call, received};
use crate::demo::{Demo, Trouble};
use crate::refusal::Refusal;
use crate::transport::Transport;
use crate::wire::Method;

impl Demo {
    /// Carol comes, over TLS.
    pub(super) async fn carol(&self) -> Result<Ue, Trouble> {
        let keys = self.bootstrap("carol").await?;
        let carol = self.ue("carol", Transport::Tls, gba(keys)).await?;
        expect("carol's REGISTER", &carol.register(600).await?, 200)?;
        Ok(carol)
    }

    pub(super) async fn transfer(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
        carol: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(out, "Alice calls bob, then carol, and connects the two: bob takes her place")?;
        let with_bob = alice.call("sip:bob@example.net").await?;
        expect("alice's INVITE to bob", &with_bob.answer, 200)?;
        let with_carol = alice.call("sip:carol@example.net").await?;
        expect("alice's INVITE to carol", &with_carol.answer, 200)?;
        in_call("the ACK", bob, "ACK", &with_bob.call_id).await?;
        in_call("the ACK", carol, "ACK", &with_carol.call_id).await?;
        self.forget().await;
        self.ladder.refusals();
        writeln!(
            out,
            "    Both calls are up. A rogue tries to take carol's call over, knowing all its ids:\n"
        )?;
        self.take_over(alice, &with_carol.call_id).await?;
        self.show(out).await?;
        self.ruled("taking over", Method::Invite, 29)?;
        self.refused("taking over", &[Refusal::CredentialsMissing, Refusal::ForeignDialogNamed])?;

        writeln!(out, "\n    Alice asks bob to do the same:\n")?;
        let answer = alice.transfer(&with_bob.call_id, &with_carol.call_id).await?;
        expect("alice's REFER", &answer, 202)?;
        let refer = received("the REFER", bob, "REFER", b"").await?;
        let call = bob.follow(&refer).await?;
        expect("bob's INVITE with Replaces", &call.answer, 200)?;
        received("the end of her call with carol", alice, "BYE", b"").await?;
        received("word of how it went", alice, "NOTIFY", b"SIP/2.0 200").await?;
        self.ruled("asking for it", Method::Refer, 1)?;
        expect("alice's BYE to bob", &alice.hang_up(&with_bob.call_id).await?, 200)?;
        expect("bob's BYE to carol", &bob.hang_up(&call.call_id).await?, 200)?;
        self.show(out).await?;
        self.refused("handing over", &[])?;
        self.proved(
            out,
            "alice's REFER, hers by rule 1, gave bob leave to name her call with carol; to everybody else it is not \
             theirs to name (rule 29).",
        )
    }

    /// An INVITE of the rogue to carol that names her call with alice in Replaces.
    async fn take_over(&self, alice: &Ue, call_id: &str) -> Result<(), Trouble> {
        let known = alice.inside(call_id, "OPTIONS").await?;
        let replaces = format!("{call_id};to-tag={};from-tag={}", known.to_tag, known.from_tag);
        let rogue = self.ue("rogue", Transport::Tls, rogue::account()).await?;
        let draft = rogue.draft("INVITE", "sip:carol@example.net").await?;
        let call = rogue.invite(draft.with("Replaces", replaces)).await?;
        expect("the rogue's INVITE", &call.answer, 403)
    }
}
