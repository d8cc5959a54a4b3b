//! The demonstration's scene of a call through the edge as back-to-back user agent.
//!
//! Takes:   alice's keys and bob's UE.
//! Gives:   the scene; beside each message the Call-ID that it has there.
//! Keeps:   nothing.
//! Refuses: to go on if one end sees anything that names the call at the other.
//! Sources: RFC 3261 sections 6 (back-to-back user agent) and 12; `dialog-association` 13.

use std::collections::BTreeSet;
use std::io::Write;

use super::rogue;
use crate::client::answer::Credential;
use crate::client::ue::{Ue, UeSettings};
use crate::demo::cast::place;
use crate::demo::stage::{expect, received};
use crate::demo::{Demo, EDGE, Trouble};
use crate::refusal::Refusal;
use crate::transport::Transport;
use crate::wire::Method;

/// A call has at least its Call-ID, two tags, a branch for each of three requests and two addresses.
const NAMES_MIN: usize = 8;

impl Demo {
    pub(super) async fn bridge(
        &self,
        out: &mut (dyn Write + Send),
        alice: Credential,
        bob: &Ue,
    ) -> Result<(), Trouble> {
        self.scene(out, "Alice calls bob through a listener in B2BUA mode: two calls that know nothing of each other")?;
        let edge = self.listener(place::BRIDGE);
        let settings =
            UeSettings { edge, credentials: vec![alice], ..self.settings("alice", Transport::Udp) };
        let alice = self.connect("alice", settings).await?;
        expect("alice's REGISTER", &alice.register(600).await?, 200)?;
        self.forget().await;
        self.refused("registering", &[Refusal::CredentialsMissing])?;
        let call = alice.call("sip:bob@example.net").await?;
        expect("alice's INVITE", &call.answer, 200)?;
        let invite = received("the call", bob, "INVITE", b"").await?;
        received("the ACK", bob, "ACK", b"").await?;
        let settings = UeSettings {
            edge,
            credentials: vec![rogue::account()],
            ..self.settings("rogue", Transport::Udp)
        };
        let rogue = self.connect("rogue", settings).await?;
        let mut bye = alice.inside(&call.call_id, "BYE").await?;
        bye.cseq = bye.cseq.saturating_add(100);
        expect("the rogue's BYE", &rogue.send(bye).await?, 403)?;
        self.ruled("hanging up for alice", Method::Bye, 4)?;
        expect("alice's BYE", &alice.hang_up(&call.call_id).await?, 200)?;
        let (near, far) = (self.names(&["alice", "rogue"]), self.names(&["core", "bob"]));
        let told =
            near.iter().find(|name| ["core", "bob"].iter().any(|it| self.ladder.shows(it, name)));
        let told = told.or_else(|| {
            far.iter().find(|name| ["alice", "rogue"].iter().any(|it| self.ladder.shows(it, name)))
        });
        if let Some(name) = told {
            return Err(Trouble::Scene(format!("{name} is seen at both ends of a bridged call")));
        }
        if near.len() < NAMES_MIN
            || far.len() < NAMES_MIN
            || invite.call_id() == call.call_id.as_bytes()
        {
            return Err(Trouble::Scene(format!("too few names to tell: {near:?}, {far:?}")));
        }
        self.ladder.show_calls();
        self.show(out).await?;
        let refused = [Refusal::CredentialsMissing, Refusal::AssociationMismatch];
        self.refused("calling through a bridge", &refused)?;
        self.proved(
            out,
            &format!(
                "of {} Call-IDs, tags, branches, tokens and addresses on alice's side and {} on the other, none is \
                 seen on both; a stranger ends neither (rule 4).",
                near.len(),
                far.len()
            ),
        )
    }

    /// What names the call there; the edge's own name is the same everywhere, and so is an address of two of its
    /// listeners, where UDP and TCP were given ports of one number.
    fn names(&self, columns: &[&str]) -> BTreeSet<String> {
        let names = columns.iter().flat_map(|column| self.ladder.names(column));
        let listeners = self.running.edge.addresses();
        let is_twice = |name: &str| {
            let mut named = listeners.iter().filter(|it| it.to_string() == name);
            named.nth(1).is_some()
        };
        names.filter(|name| name != EDGE && !is_twice(name)).collect()
    }
}
