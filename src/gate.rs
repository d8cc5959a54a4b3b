//! Stages 3 to 6 for one request, on one screen: start here.
//!
//! Takes:   a checked request, the facts of its arrival, the time.
//! Gives:   [`Permitted`], which stage 7 forwards; or [`Stop`], which says what to do instead.
//! Keeps:   what its stages keep, each within its bound; see [`Gate::footprint`].
//! Refuses: through its stages, by [`Refusal`]; here refusals become answers.
//! Sources: OMA-RD-SEC_CF-V1_1 section 5; RFC 3261 sections 8.2.6, 8.2.7, 16.3 and 26.3.2.4.

use std::hash::Hasher as _;
use std::sync::Arc;

use bytes::Bytes;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::admission::{Admission, Admitted};
use crate::association::trial::Twins;
use crate::association::{Associations, Bound};
use crate::authentication::aka::AkaNonce;
use crate::authentication::aka_realm::Resync;
use crate::authentication::nonce::Use;
use crate::authentication::sec_agree::TAG;
use crate::authentication::{Authenticated, Authentication, Challenge};
use crate::enabler::{Class, Enablers, Permitted, Policies};
use crate::forward::b2bua;
use crate::forward::session::LEAST;
use crate::identity::{Btid, Impi};
use crate::instant::Now;
use crate::keys::NafId;
use crate::keys::push::PushRequest;
use crate::refusal::{Answer, Refusal};
use crate::transport::{Arrival, Side, Transport};
use crate::wire::{Message, Method, Name, Reply};

/// The security of SIP requests, without sockets, clock or runtime.
#[derive(Debug)]
pub struct Gate {
    /// Stage 3.
    pub admission: Admission,
    /// Stage 4.
    pub authentication: Authentication,
    /// Stage 5; stage 7 tells it what became of requests.
    pub associations: Arc<Associations>,
    /// Stage 6.
    pub enablers: Enablers,
    /// Key of the To tags that stateless answers carry.
    pub tag_key: [u8; 16],
}

/// Who is shown what each stage let pass, while a request is judged.
pub trait Witness {
    /// Stage 3 did.
    fn admitted(&mut self, _admitted: &Admitted<'_>) {}

    /// Stage 4 did.
    fn identified(&mut self, _found: &Authenticated<'_>) {}

    /// Stage 5 did.
    fn bound(&mut self, _bound: &Bound<'_>) {}
}

/// Nobody looks.
struct Unseen;

impl Witness for Unseen {}

/// Why a stage went no further.
#[derive(Clone, Debug)]
pub enum Halt {
    /// The request is refused.
    Refuse(Refusal),
    /// The same, and nothing is said to whoever sent it.
    Ignore(Refusal),
    /// Something must be looked up first.
    Wait(Lookup),
    /// The vector is there: the request is challenged with it.
    Challenge(AkaNonce),
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

/// What has to be looked up before a request can be judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// The key of a B-TID, at the bootstrapping server that made it.
    NafKey {
        /// Which.
        btid: Btid,
        /// For whom and for what.
        naf: NafId,
    },
    /// A vector for one challenge of one subscriber.
    AkaVector {
        /// Whom the credentials name.
        impi: Impi,
        /// What the card's sequence number is to be taken over from first.
        resync: Option<Resync>,
        /// Which request waits: each is challenged with a vector of its own.
        request: u64,
    },
    /// A key of an association that is pushed to a UE: no request waits for it in the gate, stage 7 does.
    PushKey {
        /// Whose, for whom, and until when.
        asked: Box<PushRequest>,
        /// Which of those that ask: each gets an answer of its own.
        asker: u64,
    },
    /// Whether a count of a nonce that nodes share was spent before.
    NonceCount(Use),
}

impl Lookup {
    /// What is refused if it is not answered in time.
    pub fn unanswered(&self) -> Refusal {
        match self {
            Self::NafKey { .. } | Self::AkaVector { .. } | Self::PushKey { .. } => {
                Refusal::KeySourceUnavailable
            }
            Self::NonceCount(_) => Refusal::StoreUnavailable,
        }
    }
}

/// A request that waits for a lookup. The caller holds it and resumes it with [`Gate::resume`].
#[derive(Clone, Debug)]
pub struct Paused {
    /// The request.
    pub message: Message,
    /// How it came.
    pub arrival: Arrival,
    /// Whether it waits for a count, and so for the last time.
    pub last: bool,
}

/// What to do with a request that is not permitted.
#[derive(Debug)]
pub enum Stop {
    /// Send this response on the flow of the request; keep nothing.
    Answer(Refusal, Bytes),
    /// Say nothing.
    Drop(Refusal),
    /// Look this up, then resume.
    Wait(Box<Paused>, Lookup),
}

impl Gate {
    /// A gate that knows what the one of `twins` knows, and judges without effect on it.
    pub(crate) fn trial(of: &Arc<Self>, twins: &Arc<Twins>) -> Self {
        Self {
            admission: Admission::trial(of),
            authentication: Authentication::trial(of),
            associations: Arc::new(Associations::trial(twins)),
            enablers: Enablers::trial(of),
            tag_key: of.tag_key,
        }
    }

    /// Judges one request that [`crate::wire::check`] let pass.
    ///
    /// # Errors
    ///
    /// [`Stop`]: an answer, silence, or a pause.
    pub fn inspect<'m>(
        &self,
        message: &'m Message,
        arrival: &'m Arrival,
        now: Now,
    ) -> Result<Permitted<'m>, Stop> {
        self.inspect_before(&mut Unseen, message, arrival, now)
    }

    /// The same before a witness.
    ///
    /// # Errors
    ///
    /// As [`Gate::inspect`].
    pub fn inspect_before<'m>(
        &self,
        witness: &mut impl Witness,
        message: &'m Message,
        arrival: &'m Arrival,
        now: Now,
    ) -> Result<Permitted<'m>, Stop> {
        self.judge(witness, message, arrival, now)
            .map_err(|halt| self.stop(message, arrival, halt, (0, now)))
    }

    /// Judges a request whose lookup has been answered, or has failed.
    ///
    /// # Errors
    ///
    /// As [`Gate::inspect`]; what still is not known is refused, never waited for a second time. After its key, a
    /// request may wait for the count of its nonce.
    pub fn resume<'m>(&self, paused: &'m Paused, now: Now) -> Result<Permitted<'m>, Stop> {
        let Paused { message, arrival, last } = paused;
        let judged = self.judge(&mut Unseen, message, arrival, now);
        // While it waited for a key, and for a count after that.
        let told = if *last { 2 } else { 1 };
        let found = matches!(judged, Ok(_) | Err(Halt::Wait(Lookup::NonceCount(_))));
        if found && !last {
            self.admission.note_found(&arrival.flow, now);
        }
        judged.map_err(|halt| match halt {
            Halt::Wait(lookup) if *last || !matches!(lookup, Lookup::NonceCount(_)) => {
                let refusal = self.unanswered(&lookup, now);
                self.refuse_with(message, arrival, refusal, None, (told, now))
            }
            halt => self.stop(message, arrival, halt, (told, now)),
        })
    }

    /// What is refused for a lookup that was not answered in time, or cannot be asked.
    pub fn unanswered(&self, lookup: &Lookup, now: Now) -> Refusal {
        if matches!(lookup, Lookup::NonceCount(_)) {
            self.authentication.nonces().store_is_away(now);
        }
        lookup.unanswered()
    }

    fn judge<'m>(
        &self,
        witness: &mut impl Witness,
        message: &'m Message,
        arrival: &'m Arrival,
        now: Now,
    ) -> Result<Permitted<'m>, Halt> {
        #[cfg(feature = "testing")]
        crate::testing::trap::pass("admission", message);
        let policies = &**self.enablers.policies();
        let admitted = self.admission.admit(message, arrival, policies, now)?;
        if admitted.is_banned() && !self.authentication.was_here(&admitted, now) {
            return Err(Refusal::TooManyFailures.into());
        }
        self.judge_admitted(witness, admitted, policies, now).map_err(|halt| match halt {
            Halt::Challenge(_) if admitted.is_doubtful() => Halt::Ignore(Refusal::TooManyFailures),
            Halt::Refuse(refusal) if admitted.is_doubtful() && refusal.shows_nobody() => {
                Halt::Ignore(Refusal::TooManyFailures)
            }
            halt => halt,
        })
    }

    fn judge_admitted<'m>(
        &self,
        witness: &mut impl Witness,
        mut admitted: Admitted<'m>,
        policies: &Policies,
        now: Now,
    ) -> Result<Permitted<'m>, Halt> {
        let (message, arrival) = (admitted.message(), admitted.arrival());
        if brings_credentials(message) && arrival.side == Side::Ue && admitted.in_dialog() {
            // Whose key a response is judged by depends on the class, and that is the dialog's.
            let class = self.associations.class_of(message);
            admitted = class.map_or(admitted, |class| admitted.inside(class));
        }
        witness.admitted(&admitted);
        #[cfg(feature = "testing")]
        crate::testing::trap::pass("authentication", message);
        let caller = self.authentication.identify(admitted, now)?;
        witness.identified(&caller);
        #[cfg(feature = "testing")]
        crate::testing::trap::pass("association", message);
        let bound = self.associations.bind(caller, now)?;
        witness.bound(&bound);
        if bound.caller().is_some() {
            self.admission.note_verified(bound.authenticated().admitted(), now);
        }
        #[cfg(feature = "testing")]
        crate::testing::trap::pass("enabler", message);
        self.enablers.permit(bound, policies, &self.associations, now)
    }

    /// Turns a halt into what is to be done; `told` is how often an INVITE was told 100.
    fn stop(
        &self,
        message: &Message,
        arrival: &Arrival,
        halt: Halt,
        (told, now): (usize, Now),
    ) -> Stop {
        match halt {
            Halt::Refuse(refusal) => self.refuse_with(message, arrival, refusal, None, (told, now)),
            Halt::Ignore(refusal) => Stop::Drop(refusal),
            Halt::Challenge(nonce) => {
                let refusal = Refusal::CredentialsMissing;
                self.refuse_with(message, arrival, refusal, Some(&nonce), (told, now))
            }
            Halt::Wait(Lookup::NafKey { .. })
                if !self.admission.may_look_up(&arrival.flow, now) =>
            {
                let refusal = Refusal::KeySourceUnavailable;
                self.refuse_with(message, arrival, refusal, None, (told, now))
            }
            Halt::Wait(lookup) => {
                let last = matches!(lookup, Lookup::NonceCount(_));
                let paused = Paused { message: message.clone(), arrival: arrival.clone(), last };
                Stop::Wait(Box::new(paused), lookup)
            }
        }
    }

    /// The answer that a refusal earns; stages 1, 2 and 7 refuse through here too.
    ///
    /// It is stateless: nothing is kept, nothing is repeated. Over UDP it is at most [`ANSWER_FACTOR`] times as long as
    /// what it answers, and an unverified source gets at most so many a second.
    pub fn refuse(&self, message: &Message, arrival: &Arrival, refusal: Refusal, now: Now) -> Stop {
        self.refuse_with(message, arrival, refusal, None, (0, now))
    }

    fn refuse_with(
        &self,
        message: &Message,
        arrival: &Arrival,
        refusal: Refusal,
        aka: Option<&AkaNonce>,
        (told, now): (usize, Now),
    ) -> Stop {
        self.admission.note_refusal(&arrival.flow, refusal, now);
        if matches!(refusal, Refusal::KeySourceUnavailable | Refusal::StoreUnavailable) {
            self.authentication.set_aside(message, now);
        }
        let tries_on =
            refusal != Refusal::NonceStale || self.admission.note_stale(&arrival.flow, now);
        let refusal = if tries_on { refusal } else { Refusal::StaleAgain };
        let silent = || Stop::Drop(refusal);
        if message.method() == Some(Method::Ack) || !message.is_request() {
            return silent();
        }
        let from_ue = arrival.side == Side::Ue;
        if from_ue && !self.admission.may_answer(&arrival.flow, now) {
            return silent();
        }
        let most = self.room(message, arrival, told);
        let octets = match refusal.answer() {
            Answer::Silence
                if refusal == Refusal::TooManyFailures && arrival.flow.connection.is_some() =>
            {
                self.reply(message, arrival, 403, |reply| reply)
            }
            Answer::Silence => None,
            Answer::Status(status) => self.reply(message, arrival, status, |reply| {
                self.explain(message, arrival, refusal, reply)
            }),
            Answer::Later(status) => self.put_off(message, arrival, status, 5),
            Answer::Soon(status) => self.put_off(message, arrival, status, 0),
            Answer::Agreement(status) => {
                let class = self.class_of(message, arrival);
                match self.authentication.challenge_agreed(message, arrival, class, now) {
                    Some(begins) => fitted(message, most, begins, |begins| {
                        self.agree(message, arrival, status, Some(begins))
                    }),
                    None => self.agree(message, arrival, status, None),
                }
            }
            Answer::Challenge { stale } => {
                let class = self.class_of(message, arrival);
                let challenge = match aka {
                    Some(nonce) => {
                        self.authentication.challenge_aka(message, arrival, class, nonce)
                    }
                    None => self.authentication.challenge(message, arrival, class, stale, now),
                };
                let another = refusal.asks_for_another_key();
                let challenge = if another { challenge.for_another_key() } else { challenge };
                let integral = refusal == Refusal::IntegrityRequired
                    || self.enablers.policies().wants_integrity(message, arrival);
                let challenge = if integral { challenge.integral() } else { challenge };
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
            None => silent(),
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

    /// Entries held by all stages: what an embedder compares with the bounds it set.
    pub fn footprint(&self) -> usize {
        let parts = [
            self.admission.footprint(),
            self.authentication.footprint(),
            self.associations.footprint(),
            self.enablers.footprint(),
        ];
        parts.iter().sum()
    }
}

/// Most octets of an answer over UDP, as a multiple of what it answers. A request of [`ALWAYS_ASKED`] octets is always
/// asked for credentials by one row at least; a shorter one may have no room for that, and then nothing is said.
pub const ANSWER_FACTOR: usize = 2;

/// Beside what it repeats of a request, a challenge of one row has at most 43 octets of a start line, 61 of the source,
/// 21 of a tag, 21 of its end, 15 for names that were short, and 155 and the realm's own for the row; this is that sum
/// for a realm of 84 octets. What it repeats is less than the request.
pub const ALWAYS_ASKED: usize = 400;

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

fn brings_credentials(message: &Message) -> bool {
    message.has(Name::ProxyAuthorization) || message.has(Name::Authorization)
}
