//! The edge, lookups: one thread asks for keys and vectors, so that no worker waits. It does not wait either: a source
//! far away answers later, from a thread of its own.
//!
//! Takes:   questions of workers and of handshakes, by a bounded queue.
//! Gives:   each answer, where the one who asked looks for it, and word that it is there.
//! Keeps:   nothing.
//! Refuses: nothing; an answer for a worker whose queue is full is dropped, and counted.
//! Sources: none.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

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
            let (watch, spoken) = (Arc::clone(&spec.watch), lookup.clone());
            let worker = match &asker {
                Asker::Worker(number) => workers.get(usize::from(*number)).cloned(),
                Asker::Handshake(_) => None,
            };
            let done = move || {
                if let Asker::Handshake(done) = asker {
                    // It may have given up.
                    let _gone = done.send(());
                }
                if let Some(worker) = worker
                    && worker.try_send(Mail::Answered(spoken)).is_err()
                {
                    watch.fault(Fault::MailFull);
                }
            };
            look_up(&spec, &lookup, done);
        }
    };
    std::thread::Builder::new().name("edge-keys".into()).spawn(run)
}

/// Asks for one thing, and puts the answer where the resumed request looks for it, at once or once it comes; then it
/// is `done`.
fn look_up(spec: &EdgeSpec, lookup: &Lookup, done: impl FnOnce() + Send + 'static) {
    let now = clock::now();
    match lookup {
        Lookup::NafKey { btid, naf } => {
            let (keys, of) = (Arc::clone(&spec.keys), (btid.clone(), naf.clone()));
            let told = move |answer| {
                if !matches!(answer, KeyAnswer::Ask | KeyAnswer::Unavailable) {
                    keys.insert(&of.0, &of.1, answer, clock::now());
                }
                done();
            };
            spec.key_source.ask(btid, naf, now, Box::new(told));
        }
        Lookup::AkaVector { impi, resync, .. } => {
            let realm = spec.shared.gate.authentication.aka();
            if let (Some(source), Some(realm)) = (&spec.vectors, realm) {
                let rand = Rand(clock::random());
                realm.put(lookup.clone(), source.vector(impi, resync.as_ref(), rand, now), now);
            }
            done();
        }
    }
}
