//! Stage 1, standing: connections whose certificate is no longer believed.
//!
//! Takes:   the chain that a connection was opened with; what is trusted now, at each reload.
//! Gives:   word when the chain is no longer good, or its user is another one; the same word for one that is resumed.
//! Keeps:   the trust in force, one for all connections of a listener, or of all that we dial.
//! Refuses: a chain that a handshake would refuse now: after a reload, when a certificate or a list of it ends, and
//!          each time that a responder is to be asked again. Names are not judged again: they stand in the same
//!          certificate.
//! Sources: RFC 5922 section 7.1; RFC 5280 section 6.3; RFC 6960; V-47; SEC_CF 1.1 use case B.5.

use std::fmt;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::time::sleep;
use webpki::KeyUsage;

use super::peer::Trust;
use super::tls::TlsRefusal;
use crate::authentication::Caller;
use crate::clock;

/// The least pause between two looks at one chain.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: timers need an end.
const PAUSE_MAX: Duration = Duration::from_secs(86_400);

/// Whom one end trusts now.
pub(super) struct Standing {
    trust: watch::Sender<Trust>,
    usage: fn() -> KeyUsage,
}

impl Standing {
    /// For connections that clients open.
    pub(super) fn of_clients(trust: Trust) -> Self {
        Self { trust: watch::Sender::new(trust), usage: KeyUsage::client_auth }
    }

    /// For connections to servers.
    pub(super) fn of_servers(trust: Trust) -> Self {
        Self { trust: watch::Sender::new(trust), usage: KeyUsage::server_auth }
    }

    /// Trusts `trust` from now on; all who wait judge again.
    pub(super) fn replace(&self, trust: Trust) {
        let trust = trust.remembering(&self.trust.borrow());
        self.trust.send_replace(trust);
    }

    /// Whom it trusts now.
    pub(super) fn trust(&self) -> Trust {
        self.trust.borrow().clone()
    }

    /// Whether a responder is asked about peers before they are admitted.
    pub(super) fn asks(&self) -> bool {
        self.trust.borrow().status().is_some()
    }

    /// Changes at each reload.
    pub(super) fn news(&self) -> watch::Receiver<Trust> {
        self.trust.subscribe()
    }

    /// Asks about a chain that a handshake just found good.
    ///
    /// # Errors
    ///
    /// That it is not good after all, or what leaves that open.
    pub(super) async fn admit(&self, chain: &[CertificateDer<'_>]) -> Result<(), TlsRefusal> {
        self.trust().ask(chain, (self.usage)()).await
    }

    /// Judges a chain that an earlier handshake found good, as a handshake would now.
    ///
    /// # Errors
    ///
    /// Why it is not good any more, or what leaves that open.
    pub(super) async fn readmit(&self, chain: &[CertificateDer<'_>]) -> Result<(), TlsRefusal> {
        let trust = self.trust();
        let judged = trust.judge(chain, clock::now().wall, (self.usage)());
        trust.ask_of(&judged.map_err(TlsRefusal::of_tls)?).await
    }

    /// Judges a chain that stands, and its user; says after how long to do so again, if nothing changes.
    ///
    /// # Errors
    ///
    /// Why it is no longer good.
    pub(super) async fn look(
        &self,
        trust: &Trust,
        chain: &[CertificateDer<'_>],
        user: Option<&Caller>,
    ) -> Result<Duration, TlsRefusal> {
        let now = clock::now().wall;
        let judged = trust.judge(chain, now, (self.usage)()).map_err(TlsRefusal::of_tls)?;
        if let (Some(user), Some(own)) = (user, chain.first()) {
            let same =
                |now: &Caller| now.principal == user.principal && now.identities == user.identities;
            if !trust.user_of(own).is_some_and(|now| same(&now)) {
                return Err(TlsRefusal::OtherUser);
            }
        }
        trust.ask_of(&judged).await?;
        let pause = judged.until.since(now).saturating_add(PAUSE);
        let interval = trust.status().map(|desk| desk.settings().interval);
        Ok(interval.map_or(pause, |interval| pause.min(interval)).clamp(PAUSE, PAUSE_MAX))
    }

    /// Waits until `chain`, a peer's own certificate first, is not good, or proves another than `user`; gives the reason.
    pub(super) async fn until_refused(
        &self,
        chain: &[CertificateDer<'_>],
        user: Option<&Caller>,
    ) -> TlsRefusal {
        let mut news = self.news();
        loop {
            let trust = news.borrow_and_update().clone();
            let pause = match self.look(&trust, chain, user).await {
                Ok(pause) => pause,
                Err(why) => return why,
            };
            drop(trust);
            tokio::select! {
                () = sleep(pause) => {}
                // The sender is ours, so it is there.
                changed = news.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Standing({:?})", *self.trust.borrow())
    }
}
