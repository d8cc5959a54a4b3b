//! The demonstration's scene of push: who may send unasked, and to whom.
//!
//! Takes:   bob's UE, on a secure flow; alice, on none.
//! Gives:   the scene.
//! Keeps:   nothing.
//! Refuses: to go on if anything was delivered but what the listed server sent to a UE on a secure flow.
//! Sources: SEC_CF 1.1 B.1, CONF-003; OMA Push over SIP.

use std::io::Write;

use super::rogue;
use crate::client::draft::Draft;
use crate::client::ue::Ue;
use crate::demo::cast::{ADS, APPLICATION, PUSH};
use crate::demo::stage::{expect, received};
use crate::demo::{Demo, Trouble};
use crate::refusal::Refusal;
use crate::transport::Transport;

const ALICE: &str = "sip:alice@example.net";
const BOB: &str = "sip:bob@example.net";

impl Demo {
    pub(super) async fn push(&self, out: &mut (dyn Write + Send), bob: &Ue) -> Result<(), Trouble> {
        self.scene(
            out,
            "A server that is listed for it pushes to bob; a partner that is not tries, and a UE",
        )?;
        let listed = self.server("push", PUSH).await?;
        let unlisted = self.server("ads", ADS).await?;
        let draft = self.pushed(&listed, PUSH, BOB, "1 new message").await?;
        expect("the push to bob", &listed.send(draft).await?, 200)?;
        received("the push", bob, "MESSAGE", b"1 new message").await?;
        self.refused("pushing", &[])?;
        let draft = self.pushed(&unlisted, ADS, BOB, "Buy now").await?;
        expect("the partner's push", &unlisted.send(draft).await?, 403)?;
        self.refused("pushing unlisted", &[Refusal::PushServerUnknown])?;
        let rogue = self.ue("rogue", Transport::Tls, rogue::account()).await?;
        let draft = notice(rogue.draft("MESSAGE", BOB).await?, "Pay Mallory");
        expect("the rogue's push", &rogue.send(draft).await?, 403)?;
        let refused = [Refusal::CredentialsMissing, Refusal::DirectionForbidden];
        self.refused("pushing from a UE", &refused)?;
        let draft = self.pushed(&listed, PUSH, ALICE, "1 new message").await?;
        expect("the push to alice", &listed.send(draft).await?, 480)?;
        self.show(out).await?;
        self.refused("pushing to a bare flow", &[Refusal::Unreachable])?;
        self.proved(
            out,
            "bob's UE gets what the listed server sent and nothing else (PushServerUnknown, DirectionForbidden); \
             nothing is pushed in the clear (Unreachable).",
        )
    }

    /// A push of that server, by the way that the core knows.
    async fn pushed(
        &self,
        server: &Ue,
        name: &str,
        aor: &str,
        text: &str,
    ) -> Result<Draft, Trouble> {
        let way =
            self.seen.registration(aor).ok_or(Trouble::Scene(format!("{aor} is not there")))?;
        let mut draft = notice(server.draft("MESSAGE", &way.contact).await?, text);
        draft.to = aor.into();
        draft.routes = way.path;
        Ok(draft.with("P-Asserted-Identity", format!("<sip:{name}>")))
    }
}

fn notice(draft: Draft, text: &str) -> Draft {
    let tag = format!("*;+g.oma.pusheventapp=\"{APPLICATION}\"");
    draft.with("Accept-Contact", tag).body("application/vnd.oma.push", text)
}
