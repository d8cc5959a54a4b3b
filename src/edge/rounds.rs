//! The edge, rounds: what a worker does over and over, and what becomes of it when a step panics.
//!
//! 1. A round is a letter, a timer or a look at its own lateness; then the turn ends.
//! 2. A round that panics ends alone: it is counted, the flow that its letter came on is closed; what else the
//!    journey had ready is still done.
//! 3. After that, timers rest for a [`PULSE`]: one that stays due and panics each time does not take the whole worker.
//!
//! Takes:   letters of the other workers, deadlines.
//! Gives:   the worker's whole life, up to its farewell.
//! Keeps:   the flow of the letter in hand; until when timers rest.
//! Refuses: nothing.
//! Sources: `V-74`.

use std::cell::Cell;
use std::pin::pin;

use tokio::sync::mpsc;

use super::{Fault, Mail, PULSE, Worker};
use crate::clock;
use crate::instant::Instant;
use crate::journey::Journey;
use crate::transport::{Closed, Flow, Receiver as _, guarded};

/// Letters taken before the worker looks at its sockets again.
const MAIL_OF_A_TURN: usize = 64;

/// What a panic leaves behind.
#[derive(Debug, Default)]
pub(super) struct Mishaps {
    /// What the letter in hand came on.
    in_hand: Cell<Option<Flow>>,
    /// Until when no timer goes off.
    rest: Cell<Option<Instant>>,
}

impl Worker {
    pub(super) async fn run(&self, mut mail: mpsc::Receiver<Mail>) {
        while guarded(pin!(self.rounds(&mut mail))).await.is_none() {
            self.recover();
        }
        self.guests.see_off(self.transports.flows()).await;
    }

    async fn rounds(&self, mail: &mut mpsc::Receiver<Mail>) {
        // What a round that panicked had not come to; each thing is taken once, so this ends.
        self.with(|_, _| {});
        self.turn();
        loop {
            let rest = self.mishaps.rest.get();
            let deadline = self.journey.borrow().poll_timeout();
            let deadline = deadline.map(|at| rest.map_or(at, |rest| at.max(rest)));
            self.armed.set(deadline);
            tokio::select! {
                letter = mail.recv() => self.open(letter, mail),
                () = sleep_until(deadline) => self.with(Journey::expire),
                () = sleep_until(self.pulse.get()) => self.feel(),
                () = self.rearm.notified() => {}
            }
            self.turn();
            let unanswered = self.journey.borrow().proxy().unanswered();
            if self.seat.parting.may_go(self.seat.number, unanswered, || self.wake_others()) {
                break;
            }
        }
    }

    /// What a round that panicked leaves: the next one reads the clock and arms its timers anew.
    fn recover(&self) {
        self.seat.spec.watch.fault(Fault::Panicked);
        self.now.set(None);
        self.armed.set(None);
        self.pulse.set(None);
        self.mishaps.rest.set(Some(clock::mono() + PULSE));
        if let Some(flow) = self.mishaps.in_hand.take() {
            self.transports.flows().close_for(&flow, Closed::Panicked);
        }
    }

    fn wake_others(&self) {
        self.seat.others.iter().for_each(|other| drop(other.try_send(Mail::Wake)));
    }

    /// Takes a letter, and those that lie behind it, as far as one turn goes.
    fn open(&self, first: Option<Mail>, mail: &mut mpsc::Receiver<Mail>) {
        let following = std::iter::from_fn(|| mail.try_recv().ok()).take(MAIL_OF_A_TURN);
        for letter in first.into_iter().chain(following) {
            match letter {
                Mail::Message(letter) => {
                    let (message, arrival) = *letter;
                    self.mishaps.in_hand.set(Some(arrival.flow));
                    self.with(|journey, now| journey.message(message, arrival, now));
                    self.mishaps.in_hand.set(None);
                }
                Mail::Answered(lookup) => self.with(|journey, now| journey.answered(&lookup, now)),
                Mail::Gone(gone) => {
                    self.with(|journey, now| journey.unreachable(&gone, now));
                }
                Mail::Try(trial) => self.try_out(*trial),
                Mail::Wake => {}
            }
        }
    }
}

/// Sleeps until `deadline`; for ever if there is none.
async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => {
            let left = deadline.since(clock::now().mono);
            tokio::time::sleep(left).await;
        }
        None => std::future::pending().await,
    }
}
