//! The demonstration's scenes of every day: registering, writing, subscribing, calling.
//!
//! Takes:   alice's UE and bob's.
//! Gives:   the scenes.
//! Keeps:   nothing.
//! Refuses: to go on if one went wrong.
//! Sources: SEC_CF 1.1 HLF-001, AUTH-001, AUTH-002.

use std::io::Write;

use crate::client::ue::Ue;
use crate::demo::stage::{expect, in_call, received};
use crate::demo::{Demo, Trouble};
use crate::refusal::Refusal;
use crate::wire::Method;

impl Demo {
    pub(super) async fn registrations(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(out, "Alice registers over UDP, bob over TLS")?;
        expect("alice's REGISTER", &alice.register(600).await?, 200)?;
        expect("bob's REGISTER", &bob.register(600).await?, 200)?;
        self.show(out).await?;
        self.refused("registering", &[Refusal::CredentialsMissing, Refusal::CredentialsMissing])?;
        self.proved(out, "the edge asked the bootstrapping server for each key once, and no key was sent by SIP.")
    }

    pub(super) async fn texts(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(out, "Alice writes to bob, and to the echo")?;
        expect("MESSAGE to bob", &alice.message("sip:bob@example.net", "Hello Bob").await?, 200)?;
        received("the text", bob, "MESSAGE", b"Hello Bob").await?;
        expect(
            "MESSAGE to echo",
            &alice.message("sip:echo@example.net", "Is anybody there?").await?,
            200,
        )?;
        received("the echo", alice, "MESSAGE", b"Is anybody there?").await?;
        self.show(out).await?;
        self.refused("writing", &[])?;
        self.proved(out, "credentials end at the edge; the core is told who it is.")
    }

    pub(super) async fn subscription(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(out, "Alice subscribes; the NOTIFY finds her")?;
        let answer = alice.subscribe("sip:echo@example.net", "presence", 600).await?;
        expect("SUBSCRIBE", &answer, 200)?;
        received("the NOTIFY", alice, "NOTIFY", b"online").await?;
        self.ruled("the NOTIFY", Method::Notify, 1)?;
        self.show(out).await?;
        self.refused("subscribing", &[])?;
        self.proved(
            out,
            "the NOTIFY is of her dialog, from the group that it was made with (rule 1).",
        )
    }

    pub(super) async fn call(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        bob: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(out, "Alice calls bob and hangs up; then bob calls alice and hangs up")?;
        let call = alice.call("sip:bob@example.net").await?;
        expect("alice's INVITE", &call.answer, 200)?;
        in_call("the call", bob, "INVITE", &call.call_id).await?;
        in_call("the ACK", bob, "ACK", &call.call_id).await?;
        expect("alice's BYE", &alice.hang_up(&call.call_id).await?, 200)?;
        let call = bob.call("sip:alice@example.net").await?;
        expect("bob's INVITE", &call.answer, 200)?;
        in_call("the call", alice, "INVITE", &call.call_id).await?;
        expect("bob's BYE", &bob.hang_up(&call.call_id).await?, 200)?;
        self.ruled("hanging up", Method::Bye, 1)?;
        self.show(out).await?;
        self.refused("calling", &[])?;
        self.proved(
            out,
            "each hangs up by the key of the call: alice by Digest, bob on his TLS connection (rule 1); ACKs are of \
             their INVITEs (rule 15).",
        )
    }
}
