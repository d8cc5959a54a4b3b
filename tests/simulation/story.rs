//! What two honest subscribers do: register, call, speak inside the call, send texts, hang up. Each act is tried again
//! when nothing or a refusal came of it, as a phone would, and must come to its end.

use std::time::Duration;

use sipward::client::agent::Event;
use sipward::instant::{Instant, Now};

use crate::chance::Chance;
use crate::phone::Phone;

pub(crate) const ALICE: usize = 0;
pub(crate) const BOB: usize = 1;
const NAMES: [&str; 2] = ["alice", "bob"];
/// How often an act is tried.
const TRIES_MAX: u32 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Register,
    Text,
    Call,
    Inside(&'static str),
    HangUp,
}

pub(crate) struct Story {
    /// What is left to do, the next one last.
    left: Vec<(usize, Act)>,
    now: Option<(usize, Act)>,
    /// When the next act begins, or the present one is tried again.
    pub(crate) at: Option<Instant>,
    waiting: Option<u64>,
    tries: u32,
    /// The call that is up.
    call: Option<String>,
    calling: String,
    /// Acts that came to their end.
    pub(crate) done: u32,
}

impl Story {
    pub(crate) fn new(chance: &mut Chance, now: Now) -> Self {
        let mut acts = vec![(ALICE, Act::Register), (BOB, Act::Register)];
        for _ in 0..=chance.below(2) {
            let caller = *chance.pick(&[ALICE, BOB]);
            acts.push((caller, Act::Call));
            for _ in 0..chance.below(4) {
                let who = *chance.pick(&[ALICE, BOB]);
                let [info, again, text] = ["INFO", "INVITE", "MESSAGE"].map(Act::Inside);
                acts.push((who, *chance.pick(&[info, again, text, Act::Text])));
            }
            acts.push((*chance.pick(&[ALICE, BOB]), Act::HangUp));
        }
        acts.reverse();
        Self {
            left: acts,
            now: None,
            at: Some(now.mono),
            waiting: None,
            tries: 0,
            call: None,
            calling: String::new(),
            done: 0,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left.is_empty() && self.now.is_none()
    }

    /// Begins the next act, or tries the present one again, if it is time.
    pub(crate) fn go_on(&mut self, phones: &mut [Phone; 2], now: Now) {
        if self.at.is_none_or(|at| at > now.mono) {
            return;
        }
        self.at = None;
        if self.now.is_none() {
            self.now = self.left.pop();
            self.tries = 0;
        }
        let Some((who, act)) = self.now else { return };
        self.tries += 1;
        assert!(self.tries <= TRIES_MAX, "{} never came to an end with {act:?}", NAMES[who]);
        let agent = &mut phones[who].agent;
        let other = format!("sip:{}@example.net", NAMES[1 - who]);
        let call = self.call.clone().unwrap_or_default();
        let draft = match act {
            Act::Register => phones[who].registration(),
            Act::Text => agent.draft("MESSAGE", &other).body("text/plain", "hello"),
            Act::Call => {
                let draft = agent.draft("INVITE", &other);
                self.calling.clone_from(&draft.call_id);
                draft
            }
            Act::Inside(method) => agent.draft_in(&call, method).expect("a call that is up"),
            Act::HangUp => agent.draft_in(&call, "BYE").expect("a call that is up"),
        };
        self.waiting = Some(phones[who].agent.send(draft, now));
    }

    /// Something came of what a phone did.
    pub(crate) fn note(&mut self, who: usize, event: &Event, chance: &mut Chance, now: Now) {
        let Some((_, act)) = self.now.filter(|(of, _)| *of == who) else { return };
        let good = match event {
            Event::Final { id, response } if Some(*id) == self.waiting => {
                let status = response.status().unwrap_or(0);
                // A BYE whose answer was lost finds nothing the second time.
                matches!(status, 200..=299)
                    || (act == Act::HangUp && self.tries > 1 && status == 481)
            }
            Event::Failed { id, .. } if Some(*id) == self.waiting => false,
            _ => return,
        };
        self.waiting = None;
        if !good {
            self.at = Some(now.mono + Duration::from_secs(10));
            return;
        }
        match act {
            Act::Call => self.call = Some(self.calling.clone()),
            Act::HangUp => self.call = None,
            Act::Register | Act::Text | Act::Inside(_) => {}
        }
        self.done += 1;
        self.now = None;
        // A caller's ACK may be under way still when the next act begins.
        self.at = Some(now.mono + Duration::from_millis(chance.below(20_000)));
    }
}
