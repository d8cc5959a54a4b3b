//! The audit, a call: the first account calls the second through the target, so that others can meddle with it.
//!
//! 1. The caller sends INVITE; the callee's phone rings, picks up, and has its ACK.
//! 2. A request of the caller inside the dialog arrives: what a stranger sends there later could have arrived, too.
//! 3. At the end the caller hangs up, and says whether that arrived.
//!
//! Takes:   two users that are registered.
//! Gives:   [`Call`].
//! Keeps:   nothing; both users stay registered for the next case.
//! Refuses: a call that does not come about: the case is not applicable.
//! Sources: RFC 3261 sections 12, 13 and 15.

use std::net::SocketAddr;

use super::case::{Finding, not_applicable};
use super::probe::Probe;
use super::user::User;
use crate::client::draft::{Dialog, Draft};
use crate::wire::{Message, Method};

/// A call that stands.
pub(super) struct Call {
    /// Who called.
    pub(super) alice: User,
    /// Who was called.
    pub(super) bob: User,
    /// The dialog from the caller's end.
    pub(super) of_alice: Dialog,
    /// The dialog from the callee's end.
    pub(super) of_bob: Dialog,
}

/// What a phone offers to hear.
pub(super) fn sdp(at: SocketAddr) -> String {
    let family = if at.is_ipv4() { "IP4" } else { "IP6" };
    let ip = at.ip();
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio 40000 RTP/AVP 0\r\n"
    )
}

impl Probe {
    /// Both users, and the INVITE of one to the other.
    ///
    /// # Errors
    ///
    /// As [`Probe::user`].
    pub(super) async fn pair(&self) -> Result<(User, User, Draft), Finding> {
        let mut alice = self.user(0).await?;
        let bob = self.user(1).await?;
        let local = alice.line.local();
        let draft = alice.draft("INVITE", &self.account(1)?.identity);
        Ok((alice, bob, draft.body("application/sdp", sdp(local))))
    }

    /// A call that stands.
    ///
    /// # Errors
    ///
    /// None came about, or nothing arrives inside it.
    pub(super) async fn call(&self) -> Result<Call, Finding> {
        let (mut alice, mut bob, draft) = self.pair().await?;
        let within = self.patience().saturating_mul(4);
        let picks_up = async {
            let invite = bob.hears(Method::Invite, within).await?;
            let tag = bob.fresh();
            bob.answer(&invite, 180, &tag).await;
            bob.answer(&invite, 200, &tag).await;
            Some((invite, tag))
        };
        let (answer, taken) = tokio::join!(alice.ask(draft.clone()), picks_up);
        let status = answer.as_ref().and_then(Message::status);
        let (Some(answer), Some((invite, tag)), Some(200..=299)) = (answer, taken, status) else {
            let what = status.map_or("nothing".to_owned(), |status| status.to_string());
            return Err(not_applicable(format!("no call between the accounts: {what}")));
        };
        let mut call = Call::made(alice, bob, &draft, &answer, &invite, &tag);
        match call.tells("OPTIONS", Method::Options, self).await {
            true => Ok(call),
            false => Err(not_applicable("the caller's own OPTIONS does not arrive in the call")),
        }
    }
}

impl Call {
    /// The one that an answer made.
    pub(super) fn made(
        alice: User,
        bob: User,
        draft: &Draft,
        answer: &Message,
        invite: &Message,
        tag: &str,
    ) -> Self {
        let mut of_alice = Dialog::called(draft, answer);
        of_alice.cseq = answer.cseq().map_or(draft.cseq, |cseq| cseq.number);
        Self { alice, bob, of_alice, of_bob: Dialog::answered(invite, tag) }
    }

    /// Whether a request of the caller arrives.
    async fn tells(&mut self, name: &'static str, method: Method, probe: &Probe) -> bool {
        let Self { alice, bob, of_alice, .. } = self;
        let within = probe.patience().saturating_mul(3);
        let hears = async {
            let request = bob.hears(method, within).await?;
            bob.answer(&request, 200, "").await;
            Some(())
        };
        let draft = of_alice.draft(name);
        let (answer, heard) = tokio::join!(alice.ask(draft), hears);
        if let Some(cseq) = answer.as_ref().and_then(Message::cseq) {
            of_alice.cseq = of_alice.cseq.max(cseq.number);
        }
        heard.is_some()
    }

    /// The caller hangs up; whether that arrived. Both stay registered.
    pub(super) async fn end(mut self, probe: &Probe) -> bool {
        let arrived = self.tells("BYE", Method::Bye, probe).await;
        probe.keep(0, self.alice).await;
        probe.keep(1, self.bob).await;
        arrived
    }
}
