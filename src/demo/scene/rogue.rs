//! The demonstration's rogue: a subscriber like any other, who would rather be alice.
//!
//! Takes:   alice's UE and bob's, and what an eavesdropper saw.
//! Gives:   the scenes, each refusal by name.
//! Keeps:   nothing.
//! Refuses: to go on if anything else came of what he does.
//! Sources: SEC_CF 1.1 HLF-003; rules 3 and 4.

use std::io::Write;

use zeroize::Zeroizing;

use crate::client::answer::Credential;
use crate::client::ue::Ue;
use crate::demo::cast::{DOMAIN, MALLORY};
use crate::demo::stage::{expect, received};
use crate::demo::{Demo, Trouble};
use crate::refusal::Refusal;
use crate::transport::Transport;
use crate::wire::Method;

/// His own account.
pub(super) fn account() -> Credential {
    Credential::Account {
        username: "mallory".into(),
        password: Zeroizing::new(MALLORY.into()),
        realm: Some(DOMAIN.into()),
    }
}

impl Demo {
    pub(super) async fn rogue(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(out, "A rogue listens, replays what alice sent, and writes in her name")?;
        let rogue = self.ue("rogue", Transport::Udp, account()).await?;
        expect(
            "a MESSAGE of alice",
            &alice.message("sip:bob@example.net", "Pay 10 to Carol").await?,
            200,
        )?;
        let captured =
            self.ladder.captured("alice").ok_or(Trouble::Scene("nothing captured".into()))?;
        self.ladder.refusals();
        rogue.send_raw(captured).await?;
        self.wait_for("the replay", &[Refusal::NonceStale]).await?;
        let mut spoof = rogue.draft("MESSAGE", "sip:bob@example.net").await?;
        spoof.from = "sip:alice@example.net".into();
        expect(
            "the spoofed MESSAGE",
            &rogue.send(spoof.body("text/plain", "Pay Mallory")).await?,
            403,
        )?;
        self.show(out).await?;
        self.refused("spoofing", &[Refusal::CredentialsMissing, Refusal::IdentityForeign])?;
        self.proved(
            out,
            "a response is good once (NonceStale), and an account speaks for its own identities alone \
             (IdentityForeign).",
        )?;

        self.scene(out, "The rogue tries to end a call of alice and bob; alice ends it")?;
        let call = alice.call("sip:bob@example.net").await?;
        expect("alice's INVITE", &call.answer, 200)?;
        let mut bye = alice.inside(&call.call_id, "BYE").await?;
        bye.cseq = bye.cseq.saturating_add(100);
        self.ladder.refusals();
        expect("the rogue's BYE", &rogue.send(bye).await?, 403)?;
        self.ruled("hanging up for alice", Method::Bye, 4)?;
        self.refused("hanging up for alice", &[Refusal::AssociationMismatch])?;
        expect("alice's BYE", &alice.hang_up(&call.call_id).await?, 200)?;
        received("the text", bob, "MESSAGE", b"Pay 10 to Carol").await?;
        self.show(out).await?;
        self.proved(out, "a dialog belongs to the key that opened it; his is another (rule 4).")
    }
}
