//! The audit, users: a phone that does what it is told, step by step, and answers challenges.
//!
//! Takes:   a line, who speaks, drafts of requests.
//! Gives:   final responses; what came in meanwhile, when it is asked for.
//! Keeps:   at most [`INBOX_MAX`] messages that nobody asked for yet.
//! Refuses: a second challenge to credentials that were sent, unless the nonce was stale.
//! Sources: RFC 3261 sections 8.1, 8.2.6, 12, 13.2.2.4 and 17.1.1.3; RFC 7616.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::line::{Heard, Line};
use super::plan::{Account, Plan};
use crate::authentication::digest::Hash;
use crate::client::answer::Answerer;
use crate::client::draft::{Dialog, Draft, Voice};
use crate::clock;
use crate::transport::Transport;
use crate::wire::{Message, Method, Name, Reply};

/// Most messages that wait.
const INBOX_MAX: usize = 64;
/// The longest that a target may ask us to wait before the next try.
const RETRY_AFTER_MAX: u32 = 30;

/// A phone that does what it is told.
pub struct User {
    /// Its line.
    pub line: Line,
    /// Whom it speaks as.
    pub voice: Voice,
    /// The octets of the request that it sent last.
    pub sent: Rc<RefCell<Vec<u8>>>,
    answerer: Option<Answerer>,
    inbox: VecDeque<Message>,
    seen: VecDeque<Vec<u8>>,
    seed: String,
    next: u32,
    patience: Duration,
}

impl User {
    /// A phone of `account`, or of nobody the target knows.
    pub fn new(plan: &Plan, line: Line, account: Option<&Account>) -> Self {
        let transport = line.transport();
        let identity = account.map_or_else(
            || format!("sip:nobody@{}", plan.domain),
            |account| account.identity.clone(),
        );
        let user = account.map_or("nobody", |account| account.user());
        let parameter = match transport {
            Transport::Udp => String::new(),
            other => format!(";transport={}", other.uri_token()),
        };
        let host = line.local();
        let voice = Voice {
            identity,
            via: format!("SIP/2.0/{} {host}", transport.via_token()),
            contact: format!("sip:{user}@{host}{parameter}"),
            agent: format!("sipward-audit/{}", env!("CARGO_PKG_VERSION")),
        };
        let answerer = account.map(|account| {
            Answerer::new(vec![account.credential()], &plan.name, Hash::Md5, drawn())
        });
        let (inbox, seen, sent) = (VecDeque::new(), VecDeque::new(), Rc::default());
        let (seed, patience) = (drawn(), plan.patience);
        Self { line, voice, sent, answerer, inbox, seen, seed, next: 0, patience }
    }

    /// Text that nothing else has.
    pub fn fresh(&mut self) -> String {
        self.next = self.next.saturating_add(1);
        format!("{}{}", self.seed, self.next)
    }

    /// A request outside dialogs.
    pub fn draft(&mut self, method: &'static str, uri: &str) -> Draft {
        let (call_id, tag) = (self.fresh(), self.fresh());
        Draft::new(method, uri, call_id, tag)
    }

    /// A registration of `identity` for that long.
    pub fn registration(&mut self, identity: &str, expires: u32) -> Draft {
        let domain = identity.split_once('@').map_or("", |(_, domain)| domain).to_owned();
        let mut draft = self.draft("REGISTER", &format!("sip:{domain}"));
        identity.clone_into(&mut draft.to);
        draft.with("Expires", expires.to_string()).with("Supported", "path")
    }

    /// The octets of a request, unsigned, and their branch.
    pub fn print(&mut self, draft: &Draft) -> (Vec<u8>, String) {
        let branch = format!("z9hG4bK{}", self.fresh());
        let octets = draft.print(&self.voice, &branch, None).unwrap_or_default();
        (octets.to_vec(), branch)
    }

    /// Sends a request, answers challenges, and gives its final response; after an INVITE, ACK is sent.
    pub async fn ask(&mut self, mut draft: Draft) -> Option<Message> {
        let tries = self.answerer.as_ref().map_or(0, Answerer::challenges_max);
        for tried in 0..=tries {
            let branch = format!("z9hG4bK{}", self.fresh());
            let octets = draft.print(&self.voice, &branch, self.answerer.as_mut())?;
            *self.sent.borrow_mut() = octets.to_vec();
            let answer = self.exchange(&octets, &branch).await?;
            self.acknowledge(&draft, &branch, &answer).await;
            let status = answer.status().unwrap_or_default();
            let Some(answerer) = self.answerer.as_mut() else { return Some(answer) };
            if status < 300 {
                answerer.accepted();
            }
            let again = matches!(status, 401 | 407) && tried < tries;
            if !again || answerer.challenged(&answer).is_err() {
                return Some(answer);
            }
            draft.cseq = draft.cseq.saturating_add(1);
        }
        None
    }

    /// The same; a target that asks for some seconds of patience is asked once more after them.
    pub async fn ask_patiently(&mut self, draft: Draft) -> Option<Message> {
        let answer = self.ask(draft.clone()).await?;
        if !self.was_asked_to_wait(&answer).await {
            return Some(answer);
        }
        let (call_id, from_tag) = (self.fresh(), self.fresh());
        self.ask(Draft { call_id, from_tag, ..draft }).await
    }

    /// Waits as long as a refusal asks for, and says whether it asked.
    pub async fn was_asked_to_wait(&mut self, answer: &Message) -> bool {
        let wait = answer.retry_after().filter(|_| answer.status() >= Some(400));
        let Some(wait) = wait.filter(|wait| *wait <= RETRY_AFTER_MAX) else { return false };
        self.line.log().remark(self.line.who(), &format!("waits {wait} s, as it was asked to"));
        tokio::time::sleep(Duration::from_secs(wait.into())).await;
        true
    }

    /// Sends octets whose branch is known, again if they may have been lost; the final response.
    pub async fn exchange(&mut self, octets: &[u8], branch: &str) -> Option<Message> {
        self.line.send(octets).await;
        // An answer that takes long for a reason, an INVITE's, is announced.
        let mut long = self.patience;
        for again in [true, false] {
            let heard = self.hear_until(long, |message| {
                !message.is_request() && branch_of(message) == branch.as_bytes()
            });
            match heard.await {
                Some(answer) if answer.status().is_some_and(|status| status >= 200) => {
                    return Some(answer);
                }
                Some(_) => long = long.saturating_mul(4),
                None if again && self.line.transport() == Transport::Udp => {
                    self.line.send(octets).await;
                }
                None => return None,
            }
        }
        self.hear_until(long, |message| {
            let is_final = message.status().is_some_and(|status| status >= 200);
            is_final && branch_of(message) == branch.as_bytes()
        })
        .await
    }

    async fn acknowledge(&mut self, draft: &Draft, branch: &str, answer: &Message) {
        if draft.method != "INVITE" {
            return;
        }
        let (ack, branch) = if answer.status().is_some_and(|status| status < 300) {
            let mut ack = Dialog::called(draft, answer).draft("ACK");
            ack.cseq = draft.cseq;
            (ack, format!("z9hG4bK{}", self.fresh()))
        } else {
            let to_tag = String::from_utf8_lossy(answer.to_tag()).into_owned();
            let (fields, body) = (Vec::new(), Vec::new());
            (Draft { method: "ACK", to_tag, fields, body, ..draft.clone() }, branch.to_owned())
        };
        if let Some(octets) = ack.print(&self.voice, &branch, None) {
            self.line.send(&octets).await;
        }
    }

    /// The first request of that method, past or to come in that time.
    pub async fn hears(&mut self, method: Method, within: Duration) -> Option<Message> {
        self.hear_until(within, |message| message.method() == Some(method)).await
    }

    /// The octets of an answer; `tag` is for a request that has none yet.
    pub fn print_answer(&self, request: &Message, status: u16, tag: &str) -> Vec<u8> {
        let contact = format!("<{}>", self.voice.contact);
        let mut reply = Reply::to(request, status);
        if !tag.is_empty() {
            reply = reply.to_tag(tag.as_bytes());
        }
        if request.method() == Some(Method::Invite) && status < 300 {
            for route in request.values(Name::RecordRoute) {
                reply = reply.field("Record-Route", |value| {
                    value.put_unfolded(route);
                });
            }
            reply = reply.field("Contact", |value| {
                value.put(&contact);
            });
        }
        reply.octets().unwrap_or_default()
    }

    /// Answers a request.
    pub async fn answer(&mut self, request: &Message, status: u16, tag: &str) {
        let octets = self.print_answer(request, status, tag);
        self.line.send(&octets).await;
    }

    /// The first message of which `is_it` holds, past or to come in that time.
    pub async fn hear_until(
        &mut self,
        within: Duration,
        is_it: impl Fn(&Message) -> bool,
    ) -> Option<Message> {
        if let Some(place) = self.inbox.iter().position(&is_it) {
            return self.inbox.remove(place);
        }
        let end = Instant::now() + within;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.line.hear(left).await {
                Heard::Message(message) if self.is_repeated(&message) => {}
                Heard::Message(message) if is_it(&message) => return Some(message),
                Heard::Message(message) if self.inbox.len() < INBOX_MAX => {
                    self.inbox.push_back(message);
                }
                Heard::Message(_) | Heard::Octets(_) => {}
                Heard::Closed | Heard::Nothing => return None,
            }
        }
    }

    /// Whether that request came before: its sender was in a hurry.
    fn is_repeated(&mut self, message: &Message) -> bool {
        if !message.is_request() || message.method() == Some(Method::Ack) {
            return false;
        }
        let key = [branch_of(message), message.method_octets()].concat();
        let repeated = self.seen.contains(&key);
        if !repeated {
            self.seen.push_back(key);
        }
        if self.seen.len() > INBOX_MAX {
            self.seen.pop_front();
        }
        repeated
    }

    /// What came and was not asked for.
    pub fn forget(&mut self) {
        self.inbox.clear();
    }
}

/// The branch of the topmost Via.
pub(super) fn branch_of(message: &Message) -> &[u8] {
    message.top_via().map_or(&[], |via| via.branch())
}

/// Text that nobody can guess.
pub(super) fn drawn() -> String {
    format!("{:016x}", u64::from_be_bytes(clock::random()))
}
