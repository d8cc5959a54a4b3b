//! Stage 1, keys of handshakes: how one waits for its key, and learns that it ended.
//!
//! Takes:   identities out of handshakes, with what they asked for.
//! Gives:   the [`Psk`], once it is known; word when a key may have been taken back.
//! Keeps:   nothing; what is under way is bounded by the queue of look-ups and by the handshakes themselves.
//! Refuses: nothing: where nobody can be asked, the key is one that nobody has.
//! Sources: TS 33.222 clause 5.4; V-47.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock;
use crate::gate::Lookup;
use crate::keys::psk::{Found, Psk, PskKeys, PskProof, PskUse};

/// Something to look up, and who waits for it.
#[derive(Debug)]
pub struct Question {
    /// What.
    pub lookup: Lookup,
    /// Who.
    pub asker: Asker,
}

/// Who waits for a look-up.
#[derive(Debug)]
pub enum Asker {
    /// A request, at this worker.
    Worker(u8),
    /// A handshake. The answer is in the cache when this is sent, or dropped.
    Handshake(oneshot::Sender<()>),
}

impl Asker {
    /// Whether an answer is still of use.
    pub fn is_waiting(&self) -> bool {
        match self {
            Self::Worker(_) => true,
            Self::Handshake(done) => !done.is_closed(),
        }
    }
}

/// Where handshakes get their keys. A clone asks the same servers.
#[derive(Clone, Debug)]
pub struct KeyDesk {
    keys: Arc<PskKeys>,
    /// To the one who asks; `None` ends him.
    ask: mpsc::Sender<Option<Question>>,
    taken_back: watch::Receiver<()>,
}

impl KeyDesk {
    /// A desk over `keys`; `ask` leads to who looks up, `taken_back` changes when a key was taken back.
    pub fn new(
        keys: Arc<PskKeys>,
        ask: mpsc::Sender<Option<Question>>,
        taken_back: watch::Receiver<()>,
    ) -> Self {
        Self { keys, ask, taken_back }
    }

    /// The key for a handshake, waiting for a server if need be; see [`PskKeys::find`].
    ///
    /// The handshake's own patience bounds how long.
    pub async fn psk(&self, identity: &[u8], asked_for: Option<&str>, of: PskUse) -> Psk {
        let lookup = match self.keys.find(identity, asked_for, of, clock::now()) {
            Found::Key(psk) => return psk,
            Found::Ask(lookup) => lookup,
        };
        let (done, answered) = oneshot::channel();
        let question = Question { lookup, asker: Asker::Handshake(done) };
        if self.ask.try_send(Some(question)).is_ok() {
            // Dropped or sent: what is known is in the cache.
            let _ = answered.await;
        }
        self.keys.settle(identity, asked_for, of, clock::now())
    }

    /// Every key there is.
    pub fn keys(&self) -> &PskKeys {
        &self.keys
    }

    /// Changes when a key was taken back.
    pub fn taken_back(&self) -> watch::Receiver<()> {
        self.taken_back.clone()
    }

    /// Returns when what `proof` says holds no longer: its key has ended, or was taken back.
    pub async fn until_over(&self, proof: &PskProof) {
        let mut taken_back = self.taken_back.clone();
        loop {
            let now = clock::now();
            if !self.keys.holds(proof, now) {
                return;
            }
            let left = proof.caller.expires.map(|expires| expires.since(now.wall));
            let ended = async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            let changed = async {
                if taken_back.changed().await.is_err() {
                    // Nobody is left who could take one back.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = ended => {}
                () = changed => {}
            }
        }
    }
}
