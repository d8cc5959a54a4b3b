//! The journey, requests that wait: for a key, a vector or a count that somebody else is asked for.
//!
//! Takes:   what the gate could not decide yet, and which lookup would decide it; answers; CANCELs.
//! Gives:   the request anew, to be judged with the answer; or, if its sender gave it up, both answers to that.
//! Keeps:   at most [`WAITING_MAX`] requests, [`LOOKUP_LIMIT`] each.
//! Refuses: one too many.
//! Sources: RFC 3261 section 9.2; rule 20.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Action, Journey, Outcome, decision};
use crate::forward::proxy::is_about;
use crate::forward::{Destination, Output, Ticket};
use crate::gate::{Lookup, Paused, Stop};
use crate::instant::{Instant, Now};
use crate::transport::Arrival;
use crate::wire::{Message, Method, Reply};

/// Most requests that wait for a lookup.
pub const WAITING_MAX: usize = 10_000;
/// How long one waits.
pub const LOOKUP_LIMIT: Duration = Duration::from_secs(2);

/// What waits for one lookup.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) until: Instant,
    pub(super) waiting: Vec<Waiting>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) paused: Box<Paused>,
    pub(super) ticket: Ticket,
}

impl Journey {
    /// Has a request wait for a lookup; an INVITE is told that it does.
    pub(super) fn wait(&mut self, waiting: Waiting, lookup: Lookup, now: Now) {
        let (message, arrival) = (&waiting.paused.message, &waiting.paused.arrival);
        if self.waiting_keys.len() >= WAITING_MAX {
            let (message, arrival) = (message.clone(), arrival.clone());
            let refusal = self.shared.gate.unanswered(&lookup, now);
            return self.refuse(&message, &arrival, refusal, now);
        }
        if message.method() == Some(Method::Invite) {
            let trying = Reply::to(message, 100).seen_from(arrival.flow.source_to_tell()).octets();
            if let Some(octets) = trying.map(Bytes::from) {
                let to = Destination::Flow(arrival.flow);
                self.actions.push_back(Action::Send(Output { to, octets }));
            }
        }
        self.actions.push_back(Action::Decided(decision(
            Some(message),
            arrival,
            Outcome::Waits,
            0,
        )));
        self.waiting_keys.insert(waiting.ticket.key);
        if let Some(asked) = self.waiting.get_mut(&lookup) {
            return asked.waiting.push(waiting);
        }
        let until = now.mono + LOOKUP_LIMIT;
        self.waiting.insert(lookup.clone(), Asked { until, waiting: vec![waiting] });
        self.deadlines.push_back((until, lookup.clone()));
        self.actions.push_back(Action::Ask(lookup));
    }

    /// A lookup was answered, or has failed: what waited for it goes on.
    pub fn answered(&mut self, lookup: &Lookup, now: Now) {
        let shared = Arc::clone(&self.shared);
        let waiting = self.waiting.remove(lookup).map(|asked| asked.waiting);
        let waiting = waiting.unwrap_or_default();
        // All of them first: a panic over one keeps no other from being sent again.
        for Waiting { ticket, .. } in &waiting {
            self.waiting_keys.remove(&ticket.key);
        }
        for Waiting { paused, ticket } in waiting {
            let Paused { message, arrival, .. } = &*paused;
            match shared.gate.resume(&paused, now) {
                Ok(permitted) => self.forward(permitted, &ticket, now),
                Err(Stop::Wait(paused, lookup)) => {
                    self.wait(Waiting { paused, ticket }, lookup, now);
                }
                Err(stop) => self.stop_for_now(stop, message, arrival, &ticket, now),
            }
        }
        if let Lookup::PushKey { asker, .. } = lookup {
            self.proxy.push_answered(*asker, now);
        }
        self.drain();
    }

    /// The INVITE that a CANCEL is about, if it waits: it does not any more.
    pub(super) fn withdraw(&mut self, cancel: &Message, arrival: &Arrival) -> Option<Waiting> {
        if self.waiting_keys.is_empty() || cancel.method() != Some(Method::Cancel) {
            return None;
        }
        let key = self.proxy.key_to(cancel, b"INVITE", &arrival.flow)?;
        if !self.waiting_keys.contains(&key) {
            return None;
        }
        let fits = |waiting: &Waiting| {
            waiting.ticket.key == key && is_about(cancel, &waiting.paused.message)
        };
        let invite = self.waiting.values_mut().find_map(|asked| {
            let place = asked.waiting.iter().position(fits)?;
            Some(asked.waiting.swap_remove(place))
        })?;
        self.waiting_keys.remove(&key);
        Some(invite)
    }

    /// Both are answered, and copies of both. The credentials of the INVITE were not judged, and are not taken later: nor
    /// are others under its nonce, which cost their sender a challenge.
    ///
    /// Source: RFC 3261 section 9.2.
    pub(super) fn cancelled(
        &mut self,
        cancel: &Message,
        arrival: &Arrival,
        ticket: &Ticket,
        invite: &Waiting,
        now: Now,
    ) {
        let shared = Arc::clone(&self.shared);
        shared.gate.authentication.set_aside(&invite.paused.message, now);
        for (message, arrival, ticket, status) in [
            (cancel, arrival, ticket, 200),
            (&invite.paused.message, &invite.paused.arrival, &invite.ticket, 487),
        ] {
            let Some(octets) = shared.gate.reply(message, arrival, status, |reply| reply) else {
                continue;
            };
            self.decide(Some(message), arrival, Outcome::Answered, 0);
            self.proxy.refused(message, arrival, ticket, &octets, now);
            let to = self.back(message, arrival);
            self.actions.push_back(Action::Send(Output { to, octets }));
        }
    }
}
