//! What two honest subscribers do: register, call, speak inside the call, hand over, send texts, follow the news, hang
//! up. Each act is tried again when nothing or a refusal came of it, as a phone would, and must come to its end.
//!
//! When the edge begins anew, phones find their connections closed or their keep-alives unanswered: they register, and
//! speak up in the call that they have. Where the edge is a proxy the call and the subscription go on, by rule 23;
//! where it stands back to back, the legs were known to it alone, and both are told that they are over.

use std::collections::HashMap;
use std::time::Duration;

use sipward::client::agent::Event;
use sipward::client::draft::Draft;
use sipward::instant::{Instant, Now};
use sipward::wire::{Message, Method};

use crate::chance::Chance;
use crate::core::NEWS;
use crate::phone::Phone;

pub(crate) const ALICE: usize = 0;
pub(crate) const BOB: usize = 1;
const NAMES: [&str; 2] = ["alice", "bob"];
/// Says which call an INVITE is, whatever its Call-ID becomes on the way.
pub(crate) const CALL: &str = "X-Call";
/// How often an act is tried.
const TRIES_MAX: u32 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Register,
    Text,
    Call,
    Inside(&'static str),
    /// The first word in a call after the edge began anew: the other's leg may not be there yet.
    SpeakUp,
    HangUp,
    Watch,
    WatchOn,
    WatchNoMore,
}

impl Act {
    /// Whether it is done in a call that is up.
    fn is_in_call(self) -> bool {
        matches!(self, Self::Inside(_) | Self::SpeakUp)
    }

    /// Whether it comes to its end with a NOTIFY.
    fn is_told(self) -> bool {
        matches!(self, Self::Watch | Self::WatchOn | Self::Inside("REFER"))
    }

    /// Whether it may find that there is nothing to end any more.
    fn ends(self) -> bool {
        matches!(self, Self::HangUp | Self::WatchNoMore)
    }
}

pub(crate) struct Story {
    /// What is left to do, the next one last.
    left: Vec<(usize, Act)>,
    now: Option<(usize, Act)>,
    /// When the next act begins, or the present one is tried again.
    pub(crate) at: Option<Instant>,
    waiting: Option<u64>,
    tries: u32,
    /// The call that is up, as its caller calls it.
    call: Option<String>,
    calling: String,
    /// What who is called calls it, where the edge stands in between.
    names: HashMap<String, String>,
    /// The subscription that is held.
    watched: Option<String>,
    /// The Call-ID in which a NOTIFY is waited for, whether one came, and whether the request was answered well.
    news: (String, bool, bool),
    /// What is to be ended, but was lost with the edge that held it.
    orphans: Vec<Act>,
    /// Acts that came to their end.
    pub(crate) done: u32,
    /// Those of them that nobody answered.
    pub(crate) unheard: u32,
}

impl Story {
    pub(crate) fn new(chance: &mut Chance, now: Now) -> Self {
        let mut acts = vec![(ALICE, Act::Register), (BOB, Act::Register)];
        for _ in 0..=chance.below(2) {
            let watcher = chance.percent(40).then(|| *chance.pick(&[ALICE, BOB]));
            acts.extend(watcher.map(|who| (who, Act::Watch)));
            let caller = *chance.pick(&[ALICE, BOB]);
            acts.push((caller, Act::Call));
            for _ in 0..chance.below(4) {
                let who = *chance.pick(&[ALICE, BOB]);
                let inside = ["INFO", "INVITE", "MESSAGE", "UPDATE", "REFER"].map(Act::Inside);
                let text = [Act::Text];
                acts.push((who, *chance.pick(&[&inside[..], &text[..]].concat())));
                if let Some(who) = watcher.filter(|_| chance.percent(30)) {
                    acts.push((who, Act::WatchOn));
                }
            }
            acts.push((*chance.pick(&[ALICE, BOB]), Act::HangUp));
            acts.extend(watcher.map(|who| (who, Act::WatchNoMore)));
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
            names: HashMap::new(),
            watched: None,
            news: Default::default(),
            orphans: Vec::new(),
            done: 0,
            unheard: 0,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left.is_empty() && self.now.is_none()
    }

    /// Whether both have registered.
    pub(crate) fn is_under_way(&self) -> bool {
        self.done >= 2
    }

    /// The edge began anew. `bridges` says that it stands back to back.
    pub(crate) fn begun_anew(&mut self, bridges: bool, phones: &mut [Phone; 2], now: Now) {
        if let Some((who, act)) = self.now.take() {
            if act == Act::Call {
                let id = self.waiting.unwrap_or_default();
                phones[who].agent.cancel(id, now);
            }
            match act {
                // Whoever has hung up does not ask what became of it.
                Act::HangUp => self.call = None,
                Act::WatchNoMore => self.watched = None,
                act => self.left.push((who, act)),
            }
        }
        self.waiting = None;
        if bridges {
            self.orphan();
        } else if self.call.is_some() {
            // The first finds his own leg again; with the second's there is a way between them.
            self.left.extend([(BOB, Act::Inside("INFO")), (ALICE, Act::SpeakUp)]);
        }
        self.left.extend([(BOB, Act::Register), (ALICE, Act::Register)]);
        self.at = Some(now.mono + Duration::from_secs(1));
    }

    /// Of a call and a subscription that are over nothing is left but to hear so.
    fn orphan(&mut self) {
        if self.call.is_some() {
            self.skip_until(Act::HangUp, Act::is_in_call);
        }
        if self.watched.is_some() {
            self.skip_until(Act::WatchNoMore, |act| act == Act::WatchOn);
        }
    }

    /// Leaves out what would come before `end`.
    fn skip_until(&mut self, end: Act, skipped: impl Fn(Act) -> bool) {
        let place = self.left.iter().rposition(|(_, act)| *act == end).unwrap_or(0);
        let rest = self.left.split_off(place);
        self.left.extend(rest.into_iter().filter(|(_, act)| !skipped(*act)));
        self.orphans.push(end);
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
        let draft = self.draft(&mut phones[who], who, act);
        self.news = (draft.call_id.clone(), false, false);
        self.waiting = Some(phones[who].agent.send(draft, now));
    }

    fn draft(&mut self, phone: &mut Phone, who: usize, act: Act) -> Draft {
        let agent = &mut phone.agent;
        let other = format!("sip:{}@example.net", NAMES[1 - who]);
        let call = self.call.clone().unwrap_or_default();
        let call = match self.names.get(&call).filter(|_| agent.dialog(&call).is_none()) {
            Some(name) => name.clone(),
            None => call,
        };
        let watch =
            |draft: Draft, seconds| draft.with("Event", "conference").with("Expires", seconds);
        let watched = self.watched.clone().unwrap_or_default();
        match act {
            Act::Register => phone.registration(),
            Act::Text => agent.draft("MESSAGE", &other).body("text/plain", "hello"),
            Act::Call => {
                let draft = agent.draft("INVITE", &other);
                self.calling.clone_from(&draft.call_id);
                draft.with(CALL, &self.calling)
            }
            Act::Inside(method) => {
                let draft = agent.draft_in(&call, method).expect("a call that is up");
                match method {
                    "REFER" => draft.with("Refer-To", "<sip:carol@example.net>"),
                    _ => draft,
                }
            }
            Act::SpeakUp => agent.draft_in(&call, "INFO").expect("a call that is up"),
            Act::HangUp => agent.draft_in(&call, "BYE").expect("a call that is up"),
            Act::Watch => {
                let draft = agent.draft("SUBSCRIBE", &format!("sip:{NEWS}@example.net"));
                watch(draft, "3000")
            }
            Act::WatchOn => watch(agent.draft_in(&watched, "SUBSCRIBE").expect("held"), "3000"),
            Act::WatchNoMore => watch(agent.draft_in(&watched, "SUBSCRIBE").expect("held"), "0"),
        }
    }

    /// Somebody is called.
    pub(crate) fn called(&mut self, call: &str, name: &str) {
        self.names.insert(call.to_owned(), name.to_owned());
    }

    /// Something came of what a phone did.
    pub(crate) fn note(&mut self, who: usize, event: &Event, chance: &mut Chance, now: Now) {
        let Some((_, act)) = self.now.filter(|(of, _)| *of == who) else { return };
        let good = match event {
            Event::Incoming(request) => {
                if !act.is_told() || !self.is_news(request) {
                    return;
                }
                self.news.1 = true;
                if !self.news.2 {
                    return;
                }
                true
            }
            Event::Final { id, response } if Some(*id) == self.waiting => {
                self.is_good(act, response.status().unwrap_or(0))
            }
            // Whoever hung up and hears nothing has hung up (RFC 3261 section 15.1.1).
            Event::Failed { id, .. } if Some(*id) == self.waiting => {
                self.unheard += u32::from(act == Act::HangUp);
                act == Act::HangUp
            }
            _ => return,
        };
        self.waiting = None;
        if !good {
            self.at = Some(now.mono + Duration::from_secs(10));
            return;
        }
        if act.is_told() {
            self.news.2 = true;
            if !self.news.1 {
                // It is tried again if no news comes.
                self.at = Some(now.mono + Duration::from_secs(40));
                return;
            }
        }
        self.finish(act, chance, now);
    }

    fn is_news(&self, request: &Message) -> bool {
        request.method() == Some(Method::Notify) && request.call_id() == self.news.0.as_bytes()
    }

    fn is_good(&self, act: Act, status: u16) -> bool {
        match status {
            200..=299 => true,
            // What ends a thing finds nothing the second time, if the first answer was lost.
            481 => act.ends() && (self.tries > 1 || self.orphans.contains(&act)),
            480 => act == Act::SpeakUp,
            _ => false,
        }
    }

    fn finish(&mut self, act: Act, chance: &mut Chance, now: Now) {
        match act {
            Act::Call => self.call = Some(self.calling.clone()),
            Act::Watch => self.watched = Some(self.news.0.clone()),
            Act::HangUp => self.call = None,
            Act::WatchNoMore => self.watched = None,
            Act::Register | Act::Text | Act::Inside(_) | Act::SpeakUp | Act::WatchOn => {}
        }
        self.orphans.retain(|orphan| *orphan != act);
        self.done += 1;
        self.now = None;
        // A caller's ACK may be under way still when the next act begins.
        self.at = Some(now.mono + Duration::from_millis(chance.below(20_000)));
    }
}
