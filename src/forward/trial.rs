//! Stage 7, trial: what a worker's stage 7 would do, without effect.
//!
//! Takes:   a worker's proxy, and the message that is to be tried.
//! Gives:   a [`Proxy`] with copies of the transactions that the message can be about; all others only count.
//! Keeps:   those copies.
//! Refuses: nothing.
//! Sources: `dialog-association` section 17 (`explain`).

use std::sync::Arc;

use super::Shared;
use super::proxy::{OTHERS, Place, Proxy};
use super::transaction::ServerKey;
use crate::association::trial::Twins;
use crate::transport::Arrival;
use crate::wire::{Message, Method};

impl Proxy {
    /// This proxy over `shared`, for one message.
    pub(crate) fn trial(
        &self,
        shared: Arc<Shared>,
        twins: &Twins,
        message: Option<&Message>,
        arrival: &Arrival,
    ) -> Self {
        let mut trial = Self::new(shared, self.worker, [0; 32], self.loop_key);
        trial.settings.clone_from(&self.settings);
        trial.keys = self.keys.clone();
        trial.rng = self.rng.clone();
        trial.flow_hash = self.flow_hash.clone();
        trial.next = self.next;
        let flow = arrival.flow;
        if let Some(held) = self.unanswered.get(&flow) {
            trial.unanswered.insert(flow, *held);
        }
        if let Some(message) = message {
            self.copy_those_of(message, arrival, &mut trial, twins);
        }
        trial.beside = self.footprint().saturating_sub(trial.footprint());
        trial
    }

    /// Whether there are transactions here.
    pub(crate) fn holds(&self) -> bool {
        self.footprint() > self.beside
    }

    fn copy_those_of(&self, message: &Message, arrival: &Arrival, trial: &mut Self, twins: &Twins) {
        let client = self.keys.client_of(message).filter(|_| !message.is_request());
        let places = self.server_keys(message, arrival).into_iter();
        let places = places.filter_map(|key| self.servers.get(&key).copied());
        let places = places.chain(client.and_then(|key| self.clients.get(&key).copied()));
        for place in places {
            match place {
                Place::Live(id) => self.copy_live(id, trial, twins),
                Place::Lingering(number) => self.copy_lingering(number, trial, message),
            }
        }
    }

    /// The keys of server transactions that a message may be about.
    fn server_keys(&self, message: &Message, arrival: &Arrival) -> Vec<ServerKey> {
        if !message.is_request() {
            return Vec::new();
        }
        let mut keys: Vec<ServerKey> = self.key_of(message, arrival).into_iter().collect();
        if message.method() == Some(Method::Cancel) {
            let methods = OTHERS.iter().chain([&"INVITE"]);
            let of = |method: &&str| self.key_to(message, method.as_bytes(), &arrival.flow);
            keys.extend(methods.filter_map(of));
        }
        keys
    }

    fn copy_live(&self, id: u64, trial: &mut Self, twins: &Twins) {
        let Some(context) = self.contexts.get(&id) else { return };
        let twin = context.twin(twins, &trial.shared.ongoing);
        trial.servers.insert(twin.server_key, Place::Live(id));
        for branch in &twin.clients {
            trial.clients.insert(branch.key, Place::Live(id));
        }
        trial.contexts.insert(id, Box::new(twin));
    }

    fn copy_lingering(&self, number: u64, trial: &mut Self, message: &Message) {
        let Some(copy) = self.lingering.copy_into(number, &mut trial.lingering) else { return };
        let Some(key) = trial.lingering.key_at(copy) else { return };
        trial.servers.insert(key, Place::Lingering(copy));
        if let Some(client) = self.keys.client_of(message).filter(|_| !message.is_request()) {
            trial.clients.insert(client, Place::Lingering(copy));
        }
    }
}
