//! The edge, lookups: one thread asks for keys, vectors and push info, so that no worker waits.
//!
//! Takes:   questions of workers and of handshakes, by a bounded queue.
//! Gives:   each answer, where the one who asked looks for it, and word that it is there.
//! Keeps:   at most [`UNDER_WAY`] questions to bootstrapping servers and the store; who else waits for the same key is told with the first.
//! Refuses: nothing; past the bound the queue holds the questions. An answer for a worker whose queue is full is
//!          dropped, and counted. A source that panics counts as one that does not answer.
//! Sources: TS 33.220 clause 4.5.3; threat V-94.

use std::collections::HashMap;
use std::collections::hash_map;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};

use super::{EdgeSpec, Fault, Mail};
use crate::authentication::nonce::Use;
use crate::clock;
use crate::gate::Lookup;
use crate::identity::Btid;
use crate::keys::push::{PushAnswer, PushRequest};
use crate::keys::{KeyAnswer, NafId, Rand};
use crate::transport::key_desk::{Asker, Question};

/// Most questions to bootstrapping servers and to the store of counts at once.
const UNDER_WAY: usize = 256;
/// How long counts outlive their nonce: clocks of nodes differ.
const AFTER: Duration = Duration::from_secs(2);

/// The one thread that asks for keys and vectors.
pub(super) fn start(
    spec: &Arc<EdgeSpec>,
    mut questions: mpsc::Receiver<Option<Question>>,
    workers: Vec<mpsc::Sender<Mail>>,
) -> io::Result<JoinHandle<()>> {
    let desk = Arc::new(Desk { spec: Arc::clone(spec), workers, waiting: Waiting::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || {
        runtime.block_on(async move {
            let places = Arc::new(Semaphore::new(UNDER_WAY));
            while let Some(Some(Question { lookup, asker })) = questions.recv().await {
                let (btid, naf) = match lookup {
                    Lookup::NafKey { btid, naf } => (btid, naf),
                    Lookup::NonceCount(asked) => {
                        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
                        let desk = Arc::clone(&desk);
                        tokio::spawn(async move {
                            desk.count(asked).await;
                            desk.tell(asker, Lookup::NonceCount(asked));
                            drop(place);
                        });
                        continue;
                    }
                    Lookup::PushKey { asked, asker: number } => {
                        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
                        let desk = Arc::clone(&desk);
                        tokio::spawn(async move {
                            desk.push(&asked, number).await;
                            desk.tell(asker, Lookup::PushKey { asked, asker: number });
                            drop(place);
                        });
                        continue;
                    }
                    lookup @ Lookup::AkaVector { .. } => {
                        if catch_unwind(AssertUnwindSafe(|| desk.vector(&lookup))).is_err() {
                            desk.spec.watch.fault(Fault::Panicked);
                        }
                        desk.tell(asker, lookup);
                        continue;
                    }
                };
                if !desk.waiting.is_first(&btid, &naf, asker) {
                    continue;
                }
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    desk.key(btid, naf).await;
                    drop(place);
                });
            }
        });
        // A name that is being looked up is not waited for.
        runtime.shutdown_background();
    };
    std::thread::Builder::new().name("edge-keys".into()).spawn(run)
}

/// Who asks, and who waits for what.
struct Desk {
    spec: Arc<EdgeSpec>,
    workers: Vec<mpsc::Sender<Mail>>,
    waiting: Waiting,
}

/// Those who wait for a key that somebody was asked for.
#[derive(Default)]
struct Waiting(Mutex<HashMap<(Btid, NafId), Vec<Asker>>>);

impl Waiting {
    /// Writes down that `asker` waits; whether nobody did so far.
    fn is_first(&self, btid: &Btid, naf: &NafId, asker: Asker) -> bool {
        match self.lock().entry((btid.clone(), naf.clone())) {
            hash_map::Entry::Occupied(mut others) => {
                let others = others.get_mut();
                // Whoever begins handshakes and gives them up takes no more room than those that are under way.
                if others.len() == others.capacity() {
                    others.retain(Asker::is_waiting);
                }
                others.push(asker);
                false
            }
            hash_map::Entry::Vacant(place) => {
                place.insert(vec![asker]);
                true
            }
        }
    }

    /// Those who wait for that key: none from now on.
    fn leave(&self, name: &(Btid, NafId)) -> Vec<Asker> {
        self.lock().remove(name).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Btid, NafId), Vec<Asker>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    /// Asks for a key, puts the answer where resumed requests look for it, and tells all who wait.
    async fn key(&self, btid: Btid, naf: NafId) {
        let (spec, whose, whom) = (Arc::clone(&self.spec), btid.clone(), naf.clone());
        let asking = async move { spec.key_source.ask(&whose, &whom, clock::now()).await };
        // A task of its own: if it panics, those who wait are told all the same.
        let answer = tokio::spawn(asking).await.unwrap_or_else(|_| {
            self.spec.watch.fault(Fault::Panicked);
            KeyAnswer::Unavailable
        });
        if !matches!(answer, KeyAnswer::Ask | KeyAnswer::Unavailable) {
            self.spec.keys.insert(&btid, &naf, answer, clock::now());
        }
        let name = (btid, naf);
        let waited = self.waiting.leave(&name);
        let (btid, naf) = name;
        for asker in waited {
            self.tell(asker, Lookup::NafKey { btid: btid.clone(), naf: naf.clone() });
        }
    }

    /// Asks the store for a count, on a thread that may wait for it.
    async fn count(&self, asked: Use) {
        let now = clock::now();
        let life = asked.until.since(now.wall).saturating_add(AFTER);
        let first = match self.spec.counts.clone() {
            Some(store) => {
                let spend = move || store.spend(asked.count, life, now.wall);
                tokio::task::spawn_blocking(spend).await.ok().and_then(Result::ok)
            }
            None => None,
        };
        self.spec.shared.gate.authentication.nonces().put(asked, first, clock::now());
    }

    /// Asks for push info, and puts it where who waits for it looks.
    async fn push(&self, asked: &PushRequest, number: u64) {
        let (Some(server), Some(pushes)) = (&self.spec.push_infos, &self.spec.shared.pushes) else {
            return;
        };
        let (server, whose, rand) = (Arc::clone(server), asked.clone(), Rand(clock::random()));
        let asking = async move { server.ask_push(&whose, rand, clock::now()).await };
        // A task of its own, as for keys.
        let answer = tokio::spawn(asking).await.unwrap_or_else(|_| {
            self.spec.watch.fault(Fault::Panicked);
            PushAnswer::Unavailable
        });
        pushes.keys.put(number, answer, clock::now());
    }

    /// Makes a vector, and puts it where who waits for it looks.
    fn vector(&self, lookup: &Lookup) {
        let Lookup::AkaVector { impi, resync, .. } = lookup else { return };
        let (now, rand) = (clock::now(), Rand(clock::random()));
        let realm = self.spec.shared.gate.authentication.aka();
        if let (Some(source), Some(realm)) = (&self.spec.vectors, realm) {
            realm.put(lookup.clone(), source.vector(impi, resync.as_ref(), rand, now), now);
        }
    }

    /// Tells who waited that the answer is there.
    fn tell(&self, asker: Asker, lookup: Lookup) {
        let worker = match asker {
            Asker::Worker(number) => self.workers.get(usize::from(number)),
            // It may have given up.
            Asker::Handshake(done) => done.send(()).err().and(None),
        };
        let Some(worker) = worker else { return };
        if worker.try_send(Mail::Answered(lookup)).is_err() {
            self.spec.watch.fault(Fault::MailFull);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::keys::UaId;

    #[test]
    fn who_gave_up_takes_no_room_among_those_who_wait() {
        let waiting = Waiting::default();
        let btid = Btid::new("cmFuZA==@bsf.example.net").unwrap();
        let naf = NafId::new("naf.example.net", UaId::SIP_DIGEST);
        let (asker, _waits) = oneshot::channel();
        assert!(waiting.is_first(&btid, &naf, Asker::Handshake(asker)));
        for _ in 0..10_000 {
            let (asker, _) = oneshot::channel();
            assert!(!waiting.is_first(&btid, &naf, Asker::Handshake(asker)));
        }
        assert!(!waiting.is_first(&btid, &naf, Asker::Worker(3)));
        let all = waiting.leave(&(btid.clone(), naf.clone()));
        assert!(all.len() < 10 && all.iter().filter(|asker| asker.is_waiting()).count() == 2);
        assert!(waiting.is_first(&btid, &naf, Asker::Worker(3)), "and the next is the first again");
    }
}
