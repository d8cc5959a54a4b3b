//! Stages 3 to 6 for one request, on one screen: start here.
//!
//! Takes:   a checked request, the facts of its arrival, the time.
//! Gives:   [`Permitted`], which stage 7 forwards; or [`Stop`], which says what to do instead.
//! Keeps:   what its stages keep, each within its bound; see [`Gate::footprint`].
//! Refuses: through its stages, by [`Refusal`]; `answer` says what each is told.
//! Sources: OMA-RD-SEC_CF-V1_1 section 5; RFC 3261 sections 8.2.6, 8.2.7, 16.3 and 26.3.2.4.

mod answer;

use std::sync::Arc;

use bytes::Bytes;

pub use answer::{ALWAYS_ASKED, ANSWER_FACTOR};

use crate::admission::{Admission, Admitted};
use crate::association::trial::Twins;
use crate::association::{Associations, Bound};
use crate::authentication::aka::AkaNonce;
use crate::authentication::aka_realm::Resync;
use crate::authentication::nonce::Use;
use crate::authentication::{Authenticated, Authentication};
use crate::enabler::{Enablers, Permitted, Policies};
use crate::identity::{Btid, Impi};
use crate::instant::Now;
use crate::keys::NafId;
use crate::keys::push::PushRequest;
use crate::refusal::Refusal;
use crate::transport::{Arrival, Side};
use crate::wire::{Message, Name};

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

impl Gate {
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
            .map_err(|halt| self.stop(message, arrival, halt, 0, now))
    }

    /// Stage 3; whoever failed too often goes on only if he was here before, and hears nothing unless he proves himself.
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

    /// Stages 4 to 6: who asks, in which dialog, and whether the class of the request permits it.
    fn judge_admitted<'m>(
        &self,
        witness: &mut impl Witness,
        mut admitted: Admitted<'m>,
        policies: &Policies,
        now: Now,
    ) -> Result<Permitted<'m>, Halt> {
        let (message, arrival) = (admitted.message(), admitted.arrival());
        if brings_credentials(message) && arrival.side == Side::Ue && admitted.in_dialog() {
            // Which key a Digest response is checked with depends on the class, and that is the dialog's.
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
                self.refuse_with(message, arrival, refusal, None, told, now)
            }
            halt => self.stop(message, arrival, halt, told, now),
        })
    }

    /// What is refused for a lookup that was not answered in time, or cannot be asked.
    pub fn unanswered(&self, lookup: &Lookup, now: Now) -> Refusal {
        if matches!(lookup, Lookup::NonceCount(_)) {
            self.authentication.nonces().store_is_away(now);
        }
        lookup.unanswered()
    }

    /// Turns a halt into what is to be done; `told` is how often an INVITE was told 100.
    fn stop(
        &self,
        message: &Message,
        arrival: &Arrival,
        halt: Halt,
        told: usize,
        now: Now,
    ) -> Stop {
        match halt {
            Halt::Refuse(refusal) => self.refuse_with(message, arrival, refusal, None, told, now),
            Halt::Ignore(refusal) => Stop::Drop(refusal),
            Halt::Challenge(nonce) => {
                let refusal = Refusal::CredentialsMissing;
                self.refuse_with(message, arrival, refusal, Some(&nonce), told, now)
            }
            Halt::Wait(Lookup::NafKey { .. })
                if !self.admission.may_look_up(&arrival.flow, now) =>
            {
                let refusal = Refusal::KeySourceUnavailable;
                self.refuse_with(message, arrival, refusal, None, told, now)
            }
            Halt::Wait(lookup) => {
                let last = matches!(lookup, Lookup::NonceCount(_));
                let paused = Paused { message: message.clone(), arrival: arrival.clone(), last };
                Stop::Wait(Box::new(paused), lookup)
            }
        }
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
}

fn brings_credentials(message: &Message) -> bool {
    message.has(Name::ProxyAuthorization) || message.has(Name::Authorization)
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
