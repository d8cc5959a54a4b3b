//! The demonstration's scenes of messaging as OMA CPM has it: a message by itself, and a chat.
//!
//! Takes:   the UEs of alice, bob and carol.
//! Gives:   the scenes.
//! Keeps:   nothing.
//! Refuses: to go on if a text was not protected, or went out in another's name.
//! Sources: OMA CPM; RFC 3428 section 11; RFC 3862; RFC 4975.

use std::io::Write;

use super::rogue;
use crate::client::ue::Ue;
use crate::demo::stage::{expect, received};
use crate::demo::{Demo, Trouble};
use crate::refusal::Refusal;
use crate::transport::Transport;

const BOB: &str = "sip:bob@example.net";
const CAROL: &str = "sip:carol@example.net";
/// Where bob's UE would take up a chat, and the session there.
const CHAT: (&str, &str) = ("bob.example.net", "9di4eae923wzd");

impl Demo {
    pub(super) async fn pager(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(
            out,
            "Alice sends bob a message as CPM has it, over UDP: her response covers the text",
        )?;
        let draft = alice.draft("MESSAGE", BOB).await?;
        let draft = draft.pager("sip:alice@example.net", "Hello Bob, in an envelope");
        expect("alice's MESSAGE", &alice.send(draft).await?, 200)?;
        received("the message", bob, "MESSAGE", b"in an envelope").await?;
        self.refused("writing by CPM", &[Refusal::IntegrityRequired])?;
        let rogue = self.ue("rogue", Transport::Udp, rogue::account()).await?;
        let draft = rogue.draft("MESSAGE", BOB).await?;
        let draft = draft.pager("sip:alice@example.net", "Pay Mallory");
        expect("the rogue's MESSAGE", &rogue.send(draft).await?, 403)?;
        self.show(out).await?;
        let refused = [Refusal::CredentialsMissing, Refusal::CpimFromMismatch];
        self.refused("writing in her envelope", &refused)?;
        self.proved(
            out,
            "without TLS a text passes only under auth-int; the name on the envelope has to be the sender's \
             (CpimFromMismatch).",
        )
    }

    pub(super) async fn chat(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
        carol: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(out, "Bob invites carol to a chat (MSRP over TLS); alice, over UDP, may not")?;
        let draft = bob.draft("INVITE", CAROL).await?.chat(CHAT.0, CHAT.1);
        let call = bob.invite(draft).await?;
        expect("bob's INVITE", &call.answer, 200)?;
        received("the invitation", carol, "INVITE", b"TCP/TLS/MSRP").await?;
        expect("bob's BYE", &bob.hang_up(&call.call_id).await?, 200)?;
        self.refused("chatting", &[])?;
        let draft = alice.draft("INVITE", CAROL).await?.chat("alice.example.net", CHAT.1);
        expect("alice's INVITE", &alice.invite(draft).await?.answer, 403)?;
        self.show(out).await?;
        self.refused("chatting over UDP", &[Refusal::SecureRequired])?;
        self.proved(out, "a session of messages begins on a secure flow alone (SecureRequired).")
    }
}
