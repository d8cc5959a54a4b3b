//! The gate, answers: what a refused request is told, by one table.
//!
//! Takes:   a request, its arrival, why it is refused.
//! Gives:   a response, [`Stop::Answer`]; or silence, [`Stop::Drop`].
//! Keeps:   nothing. Over UDP an answer is at most [`ANSWER_FACTOR`] times as long as what it answers.
//! Refuses: to answer an ACK, a source over its rate, and what has no room for the answer.
//! Sources: RFC 3261 sections 8.2.6, 8.2.7, 22 and 26.3.2.4; RFC 3329 section 2.3; V-66.

use std::hash::Hasher as _;

use bytes::Bytes;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::{Gate, Stop};
use crate::authentication::Challenge;
use crate::authentication::aka::AkaNonce;
use crate::authentication::sec_agree::TAG;
use crate::enabler::Class;
use crate::forward::b2bua;
use crate::forward::session::LEAST;
use crate::instant::Now;
use crate::refusal::{Answer, Refusal};
use crate::transport::{Arrival, Side, Transport};
use crate::wire::{Message, Method, Name, Reply};

/// Most octets of an answer over UDP, as a multiple of what it answers. A request of [`ALWAYS_ASKED`] octets is always
/// asked for credentials by one row at least; a shorter one may have no room for that, and then nothing is said.
pub const ANSWER_FACTOR: usize = 2;

/// Beside what it repeats of a request, a challenge of one row has at most 43 octets of a start line, 61 of the source,
/// 21 of a tag, 21 of its end, 15 for names that were short, and 155 and the realm's own for the row; this is that sum
/// for a realm of 84 octets. What it repeats is less than the request.
pub const ALWAYS_ASKED: usize = 400;

impl Gate {
    /// The answer that a refusal earns; stages 1, 2 and 7 refuse through here too.
    ///
    /// It is stateless: nothing is kept, nothing is repeated. Over UDP it is at most [`ANSWER_FACTOR`] times as long as
    /// what it answers, and an unverified source gets at most so many a second.
    pub fn refuse(&self, message: &Message, arrival: &Arrival, refusal: Refusal, now: Now) -> Stop {
        self.refuse_with(message, arrival, refusal, None, 0, now)
    }

    /// The same, for a challenge with a vector if one is there; `told` is how often an INVITE was told 100.
    pub(super) fn refuse_with(
        &self,
        message: &Message,
        arrival: &Arrival,
        refusal: Refusal,
        aka: Option<&AkaNonce>,
        told: usize,
        now: Now,
    ) -> Stop {
        let refusal = self.note(message, arrival, refusal, now);
        let is_answered = message.is_request() && message.method() != Some(Method::Ack);
        if !is_answered
            || arrival.side == Side::Ue && !self.admission.may_answer(&arrival.flow, now)
        {
            return Stop::Drop(refusal);
        }
        let most = self.room(message, arrival, told);
        let octets = match refusal.answer() {
            Answer::Silence => None,
            Answer::Last(status) => {
                let closes = arrival.flow.connection.is_some();
                let last = || self.reply(message, arrival, status, |reply| reply);
                closes.then(last).flatten()
            }
            Answer::Status(status) => self.reply(message, arrival, status, |reply| {
                self.explain(message, arrival, refusal, reply)
            }),
            Answer::Later(status) => self.put_off(message, arrival, status, 5),
            Answer::Soon(status) => self.put_off(message, arrival, status, 0),
            Answer::Agreement(status) => self.agreement(message, arrival, status, most, now),
            Answer::Challenge { stale } => {
                let challenge = self.challenge(message, arrival, refusal, aka, stale, now);
                if challenge.rows.is_empty() {
                    // Who has no certificate or key of ours can be asked for nothing (RFC 3261 section 22.3).
                    self.reply(message, arrival, 403, |reply| reply)
                } else {
                    fitted(message, most, challenge, |rows| self.ask(message, arrival, rows))
                }
            }
        };
        match octets.filter(|octets| octets.len() <= most) {
            Some(octets) => Stop::Answer(refusal, octets),
            None => Stop::Drop(refusal),
        }
    }

    /// Counts a refusal where refusals are counted; which one it is by that.
    fn note(&self, message: &Message, arrival: &Arrival, refusal: Refusal, now: Now) -> Refusal {
        self.admission.note_refusal(&arrival.flow, refusal, now);
        if matches!(refusal, Refusal::KeySourceUnavailable | Refusal::StoreUnavailable) {
            self.authentication.set_aside(message, now);
        }
        if refusal == Refusal::NonceStale && !self.admission.note_stale(&arrival.flow, now) {
            return Refusal::StaleAgain;
        }
        refusal
    }

    /// The challenge that a refusal earns.
    fn challenge(
        &self,
        message: &Message,
        arrival: &Arrival,
        refusal: Refusal,
        aka: Option<&AkaNonce>,
        stale: bool,
        now: Now,
    ) -> Challenge {
        let class = self.class_of(message, arrival);
        let challenge = match aka {
            Some(nonce) => self.authentication.challenge_aka(message, arrival, class, nonce),
            None => self.authentication.challenge(message, arrival, class, stale, now),
        };
        let another = refusal.asks_for_another_key();
        let challenge = if another { challenge.for_another_key() } else { challenge };
        let integral = refusal == Refusal::IntegrityRequired
            || self.enablers.policies().wants_integrity(message, arrival);
        if integral { challenge.integral() } else { challenge }
    }

    /// The list of mechanisms, with a challenge where Digest is among them.
    fn agreement(
        &self,
        message: &Message,
        arrival: &Arrival,
        status: u16,
        most: usize,
        now: Now,
    ) -> Option<Bytes> {
        let class = self.class_of(message, arrival);
        match self.authentication.challenge_agreed(message, arrival, class, now) {
            Some(begins) => fitted(message, most, begins, |begins| {
                self.agree(message, arrival, status, Some(begins))
            }),
            None => self.agree(message, arrival, status, None),
        }
    }

    /// Most octets of an answer to a request that shows nobody: over UDP anybody may have sent it in another's name, also
    /// in that of an address from which evidence came before. What an INVITE was told before counts.
    fn room(&self, message: &Message, arrival: &Arrival, told: usize) -> usize {
        if arrival.side != Side::Ue || arrival.flow.transport != Transport::Udp {
            return usize::MAX;
        }
        let most = message.octets().len().saturating_mul(ANSWER_FACTOR);
        if message.method() != Some(Method::Invite) || told == 0 {
            return most;
        }
        let trying = Reply::to(message, 100).seen_from(arrival.flow.source_to_tell()).octets();
        most.saturating_sub(trying.map_or(0, |trying| trying.len()).saturating_mul(told))
    }

    /// The class of a request, where its challenge depends on it.
    fn class_of(&self, message: &Message, arrival: &Arrival) -> Class {
        if !self.authentication.asks_by_class() {
            return Class::Sip;
        }
        let inside =
            if message.to_tag().is_empty() { None } else { self.associations.class_of(message) };
        inside.unwrap_or_else(|| {
            let policies = self.enablers.policies();
            policies.recognisers.hint(message, arrival).unwrap_or_else(|unfit| unfit.class)
        })
    }

    /// What a refusal says beside its code: what would do.
    fn explain<'r>(
        &self,
        message: &Message,
        arrival: &Arrival,
        refusal: Refusal,
        reply: Reply<'r>,
    ) -> Reply<'r> {
        let agrees = self.authentication.agrees(arrival.flow.listener);
        let unknown = |tag: &&[u8]| !agrees || !tag.eq_ignore_ascii_case(TAG.as_bytes());
        let unsupported = |reply: Reply<'r>, tag: &[u8]| {
            reply.field("Unsupported", |value| {
                value.put_unfolded(tag);
            })
        };
        match refusal {
            Refusal::ExtensionUnsupported => {
                message.values(Name::ProxyRequire).filter(unknown).fold(reply, unsupported)
            }
            Refusal::ExtensionNotBridged => {
                let crosses = |tag: &&[u8]| !b2bua::crosses(tag);
                message.values(Name::Require).filter(crosses).fold(reply, unsupported)
            }
            Refusal::SessionTooShort => reply.field("Min-SE", |value| {
                value.put_number(u64::from(LEAST));
            }),
            Refusal::MethodNotBridged => reply.field("Allow", |value| {
                value.put(b2bua::ALLOW);
            }),
            Refusal::SecureRequired => reply.field("Warning", |value| {
                value.put("399 sipward \"secure transport required\"");
            }),
            Refusal::BodyTypeForbidden(types) => reply.field("Accept", |value| {
                value.put(types);
            }),
            Refusal::EncodingForbidden => reply.field("Accept-Encoding", |value| {
                value.put("identity");
            }),
            _ => reply,
        }
    }

    /// An answer with Retry-After: `least` seconds, and up to 10 more.
    fn put_off(
        &self,
        message: &Message,
        arrival: &Arrival,
        status: u16,
        least: u64,
    ) -> Option<Bytes> {
        self.reply(message, arrival, status, |reply| {
            let spread = u64::from(self.tag(message).first().copied().unwrap_or_default() % 11);
            reply.field("Retry-After", |value| {
                value.put_number(spread.saturating_add(least));
            })
        })
    }

    fn ask(&self, message: &Message, arrival: &Arrival, challenge: &Challenge) -> Option<Bytes> {
        self.reply(message, arrival, challenge.status, |reply| {
            reply.fields(|text| challenge.put(text))
        })
    }

    /// Tells the list of mechanisms, and begins Digest where that is among them.
    ///
    /// Source: RFC 3329 sections 2.3.1 and 2.3.2.
    fn agree(
        &self,
        message: &Message,
        arrival: &Arrival,
        status: u16,
        begins: Option<&Challenge>,
    ) -> Option<Bytes> {
        let list = self.authentication.security_server(arrival.flow.listener)?;
        self.reply(message, arrival, status, |reply| {
            let reply = reply.field("Require", |value| {
                value.put(TAG);
            });
            let reply = reply.field("Security-Server", |value| {
                value.put(&list);
            });
            reply.fields(|text| {
                if let Some(challenge) = begins {
                    challenge.put(text);
                }
            })
        })
    }

    /// A stateless response to `message`, with what `add` adds; `None` if it cannot be answered.
    pub fn reply(
        &self,
        message: &Message,
        arrival: &Arrival,
        status: u16,
        add: impl for<'r> FnOnce(Reply<'r>) -> Reply<'r>,
    ) -> Option<Bytes> {
        let tag = self.tag(message);
        let reply =
            Reply::to(message, status).to_tag(&tag).seen_from(arrival.flow.source_to_tell());
        add(reply).octets().map(Bytes::from)
    }

    /// The To tag of stateless answers: the same for each copy of a request, of no use to anyone else.
    ///
    /// Source: RFC 3261 section 8.2.7.
    fn tag(&self, message: &Message) -> [u8; 16] {
        let mut hasher = SipHasher13::new_with_key(&self.tag_key);
        for part in [message.call_id(), message.from_tag(), message.branch()] {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        let hash = hasher.finish128().h1;
        let digit = |place: u32| {
            let nibble = u8::try_from(hash >> place.saturating_mul(4) & 15).unwrap_or(0);
            nibble.saturating_add(if nibble < 10 { b'0' } else { b'a'.saturating_sub(10) })
        };
        let mut tag = [0; 16];
        for (slot, place) in tag.iter_mut().zip(0_u32..) {
            *slot = digit(place);
        }
        tag
    }
}

/// What `print` makes of a challenge, with as many of its rows as `most` octets have room for.
fn fitted(
    message: &Message,
    most: usize,
    challenge: Challenge,
    print: impl Fn(&Challenge) -> Option<Bytes>,
) -> Option<Bytes> {
    let whole = print(&challenge)?;
    match whole.len().checked_sub(most) {
        None | Some(0) => Some(whole),
        Some(over) => print(&challenge.shorter(message, over)?),
    }
}
