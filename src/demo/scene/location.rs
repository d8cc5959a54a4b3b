//! The demonstration's scene of a location: a service with a key of its own.
//!
//! Takes:   bob's UE and his bootstrapped keys.
//! Gives:   the scene.
//! Keeps:   nothing.
//! Refuses: to go on if another key opened it, or a flow that is not secure.
//! Sources: OMA LOCSIP; TS 33.220 annexes B.3 and H (Ua security protocol identifier 03 00 00 00 02).

use std::io::Write;
use std::sync::Arc;

use crate::client::agent::Failure;
use crate::client::answer::{Credential, Unanswerable};
use crate::client::bootstrap::Bootstrapped;
use crate::client::ue::{Ue, UeError};
use crate::demo::stage::{expect, received};
use crate::demo::{Demo, Trouble, VAN};
use crate::keys::UaId;
use crate::refusal::Refusal;
use crate::transport::Transport;
use crate::wire::Message;

impl Demo {
    pub(super) async fn location(
        &self,
        out: &mut (dyn Write + Send),
        bob: &Ue,
        keys: &Bootstrapped,
    ) -> Result<(), Trouble> {
        self.scene(out, "Bob asks where the van is: the service has a key of its own")?;
        let with_key_of_sip = ask(bob).await;
        let refused = Failure::Challenge(Unanswerable::Refused);
        match with_key_of_sip {
            Err(UeError::Failed(why)) if why == refused => {}
            other => return Err(Trouble::Scene(format!("the key of SIP: {other:?}"))),
        }
        self.refused("asking with the key of SIP", &[Refusal::BadCredentials])?;
        let own = || Credential::Gba { keys: Arc::new(keys.clone()), ua: UaId::LOCSIP };
        let watcher = self.ue("bob", Transport::Tls, own()).await?;
        expect("SUBSCRIBE with the key of LOCSIP", &ask(&watcher).await?, 200)?;
        received("the location", &watcher, "NOTIFY", b"Harbour").await?;
        self.refused("asking with the key of LOCSIP", &[Refusal::CredentialsMissing])?;
        let bare = self.ue("bob", Transport::Udp, own()).await?;
        expect("SUBSCRIBE over UDP", &ask(&bare).await?, 403)?;
        self.show(out).await?;
        let refused = [Refusal::CredentialsMissing, Refusal::SecureRequired];
        self.refused("asking over UDP", &refused)?;
        self.proved(
            out,
            "one bootstrapping run and one realm, two keys: that of SIP (Ua 03 00 00 00 03) does not open location, \
             that of LOCSIP (03 00 00 00 02) does, and on a secure flow alone.",
        )
    }
}

async fn ask(ue: &Ue) -> Result<Message, UeError> {
    let draft = ue.draft("SUBSCRIBE", VAN).await?;
    ue.send(draft.location()).await
}
