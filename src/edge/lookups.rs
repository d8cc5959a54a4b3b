//! The edge, lookups: one thread asks for keys and vectors, so that no worker waits.
//!
//! Takes:   questions of workers and of handshakes, by a bounded queue.
//! Gives:   each answer, where the one who asked looks for it, and word that it is there.
//! Keeps:   nothing.
//! Refuses: nothing; an answer for a worker whose queue is full is dropped, and counted.
//! Sources: none.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{EdgeSpec, Fault, Mail};
use crate::clock;
use crate::gate::Lookup;
use crate::keys::{KeyAnswer, Rand};
use crate::transport::key_desk::{Asker, Question};

/// The one thread that asks for keys and vectors.
pub(super) fn start(
    spec: &Arc<EdgeSpec>,
    mut questions: mpsc::Receiver<Option<Question>>,
    workers: Vec<mpsc::Sender<Mail>>,
) -> io::Result<JoinHandle<()>> {
    let spec = Arc::clone(spec);
    let run = move || {
        while let Some(Some(Question { lookup, asker })) = questions.blocking_recv() {
            look_up(&spec, &lookup);
            let worker = match asker {
                Asker::Worker(number) => workers.get(usize::from(number)),
                // It may have given up.
                Asker::Handshake(done) => done.send(()).err().and(None),
            };
            let Some(worker) = worker else { continue };
            if worker.try_send(Mail::Answered(lookup)).is_err() {
                spec.watch.fault(Fault::MailFull);
            }
        }
    };
    std::thread::Builder::new().name("edge-keys".into()).spawn(run)
}

/// Asks for one thing, and puts the answer where the resumed request looks for it.
fn look_up(spec: &EdgeSpec, lookup: &Lookup) {
    let now = clock::now();
    match lookup {
        Lookup::NafKey { btid, naf } => {
            let answer = spec.key_source.naf_key(btid, naf, now);
            if !matches!(answer, KeyAnswer::Ask | KeyAnswer::Unavailable) {
                spec.keys.insert(btid, naf, answer, now);
            }
        }
        Lookup::AkaVector { impi, resync, .. } => {
            let realm = spec.shared.gate.authentication.aka();
            if let (Some(source), Some(realm)) = (&spec.vectors, realm) {
                let rand = Rand(clock::random());
                realm.put(lookup.clone(), source.vector(impi, resync.as_ref(), rand, now), now);
            }
        }
        Lookup::NonceCount(asked) => {
            let life = asked.until.since(now.wall).saturating_add(Duration::from_secs(2));
            let first = spec.counts.as_ref().map(|store| store.spend(asked.count, life, now.wall));
            let first = first.and_then(Result::ok);
            spec.shared.gate.authentication.nonces().put(*asked, first, now);
        }
    }
}
