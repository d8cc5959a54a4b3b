//! Stage 5, judgement: the rules, in the order in which they are asked.
//!
//! Takes:   a request with its evidence, and the dialog it names.
//! Gives:   [`Passed`]: the rule that lets it pass, and the key it showed.
//! Keeps:   nothing.
//! Refuses: rules 3 to 7, 12, 14, 15, 17, 19, 26, 30 and 31, each by its refusal.
//! Sources: RFC 3261 sections 12.2.2 (481, 500), 9.2 and 22.1 (CANCEL, ACK), 8.2.7; RFC 5057 section 5.1.
//!
//! For a request with a To tag:
//!
//! 1. CANCEL is judged by the INVITE it cancels, ACK by its dialog's anchors: rule 15.
//! 2. The dialog is looked up by Call-ID, tags and side: rules 6, 26 and 31; rule 25 for a first NOTIFY.
//! 3. What the listener and its first hop agreed on: rule 12.
//! 4. A dialog that is broken is only torn down: rules 19 and 24, from the core rule 31.
//! 5. Evidence: of the owner, rules 1 and 2, with another key rule 18; of somebody else, rules 4 and 5; of nobody,
//!    rule 3, and where the owner's key has ended rule 17, but for a BYE rule 24; of the owner but on too weak a
//!    flow, rule 14. On the core side the peer group must be the leg's: rule 26.
//! 6. CSeq: rule 7.
//! 7. The method against the dialog's usages: rule 30.

use super::dialog::{Association, Keyer, NEVER};
use super::owner::Shown;
use super::state::State;
use crate::authentication::{Authenticated, Caller, Evidence, Kind};
use crate::instant::Now;
use crate::refusal::Refusal;
use crate::transport::{Flow, Side};
use crate::wire::{Message, Method, Name};

/// What let a request pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The number of the rule.
    pub rule: u8,
    /// The key that the owner of the UE's leg showed.
    pub shown: Option<Shown>,
    /// Whether the sender was proved, so that the request may move anchors and counts.
    pub verified: bool,
}

impl Passed {
    fn by(rule: u8) -> Self {
        Self { rule, shown: None, verified: true }
    }

    /// The last of a dialog whose owner cannot prove himself any more.
    fn torn_down() -> Self {
        Self { verified: false, ..Self::by(24) }
    }

    /// One that is only observed: it passes and moves nothing.
    pub(super) fn unproved() -> Self {
        Self { verified: false, ..Self::by(0) }
    }
}

/// What a request is judged with, beside its dialog and its evidence.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// Its event package, by keyed hash.
    pub event: u64,
    /// Makes keyed hashes.
    pub keyer: &'q Keyer,
    /// Whether a BYE needs no more than the flow that the owner registered from.
    pub lenient: bool,
    /// Whether the owner has to be on the instance that the dialog was made with.
    pub same_instance: bool,
    /// The time.
    pub now: Now,
}

impl Keyer {
    /// A key as a caller shows it.
    pub(super) fn shown(&self, caller: &Caller, now: Now) -> Shown {
        let ends = caller.expires.map_or(NEVER, |ends| now.mono + ends.since(now.wall));
        Shown { mark: self.mark(caller.key_name.as_bytes()), ends }
    }

    /// The credentials of a message that came on a secure flow; 0 if there are none.
    pub(super) fn credentials(&self, message: &Message, flow: &Flow) -> u64 {
        let rows = message
            .fields_named(Name::ProxyAuthorization)
            .chain(message.fields_named(Name::Authorization));
        let rows: Vec<&[u8]> = rows.collect();
        if rows.is_empty() || !flow.transport.is_secure() {
            return 0;
        }
        self.mark(&rows.join(&b'\n'))
    }
}

/// Judges a request inside `association`, lines 3 to 7.
///
/// # Errors
///
/// The refusal of the rule that does not let it pass.
pub fn judge(
    association: &Association,
    found: &Authenticated<'_>,
    question: Question<'_>,
) -> Result<Passed, Refusal> {
    let admitted = found.admitted();
    let (arrival, method) = (admitted.arrival(), admitted.method());
    if method == Method::Ack {
        return judge_ack(association, found, question.keyer);
    }
    if let Some(refusal) = found.disagreement() {
        return Err(refusal);
    }
    let passed = match arrival.side {
        Side::Ue if association.state == State::Broken => judge_broken(association, found)?,
        Side::Ue => judge_evidence(association, found, question)?,
        Side::Core => judge_peer(association, found)?,
    };
    let number = admitted.message().cseq().map(|cseq| cseq.number);
    if number < association.counts(arrival.side).cseq {
        return Err(Refusal::SequenceLow);
    }
    if !association.fits(method, question.event, arrival.side) {
        return Err(Refusal::MethodUnfit);
    }
    Ok(passed)
}

/// Rules 1 to 5, 14, 17, 18 and 24.
fn judge_evidence(
    association: &Association,
    found: &Authenticated<'_>,
    question: Question<'_>,
) -> Result<Passed, Refusal> {
    let Question { keyer, lenient, same_instance, now, .. } = question;
    let origin = &*association.origin;
    let owner = &origin.owner;
    let evidence = found.evidence();
    let flow = &found.admitted().arrival().flow;
    if evidence.digest.as_ref().is_some_and(|digest| digest.principal != *owner) {
        return Err(Refusal::AssociationMismatch);
    }
    let anchored = association.anchors().contains(flow);
    let key = &association.key;
    let counts = |caller: &Caller| key.counts(keyer.mark(caller.key_name.as_bytes()), now.mono);
    let (kind, level, caller) = evidence.shown(owner, counts);
    let proved = match kind {
        Kind::Digest | Kind::Channel => true,
        Kind::SecureFlow => anchored,
        Kind::Registered | Kind::Peer | Kind::None => false,
    };
    let Some(caller) = caller.filter(|_| proved) else {
        let rekeying = association.state == State::Rekeying;
        if rekeying && tears_down(association, found) {
            return Ok(Passed::torn_down());
        }
        let bye = found.admitted().method() == Method::Bye;
        if lenient && bye && anchored && kind == Kind::Registered && found.failure().is_none() {
            return Ok(Passed { verified: false, ..Passed::by(1) });
        }
        let (failure, foreign) = (found.failure(), shows_another(association, evidence));
        let missing = matches!(failure, None | Some(Refusal::CredentialsMissing));
        if foreign && failure.is_none() {
            return Err(Refusal::FlowMismatch);
        }
        // The owner showed a key whose time is over, or cannot show it any more.
        let ended = rekeying || kind == Kind::None && evidence.of(owner).0 != Kind::None;
        if ended && (missing || failure == Some(Refusal::BadCredentials)) {
            return Err(Refusal::KeyExpired);
        }
        return Err(failure.unwrap_or(Refusal::CredentialsMissing));
    };
    if same_instance && is_elsewhere(association, found, keyer) {
        return Err(Refusal::AssociationMismatch);
    }
    if level < origin.level || origin.secure && !flow.transport.is_secure() {
        return Err(Refusal::LevelTooLow);
    }
    let shown = keyer.shown(caller, now);
    let rule = match (key.is_new(shown.mark), anchored) {
        (true, _) => 18,
        (false, true) => 1,
        (false, false) => 2,
    };
    Ok(Passed { shown: Some(shown), ..Passed::by(rule) })
}

/// Whether the owner speaks from another instance than the dialog was made with. A request that names none is taken on
/// his anchors alone.
fn is_elsewhere(association: &Association, found: &Authenticated<'_>, keyer: &Keyer) -> bool {
    let admitted = found.admitted();
    let named = keyer.instance(admitted.message());
    let anchored = || association.anchors().contains(&admitted.arrival().flow);
    let same = named == association.instance || named == 0 && anchored();
    association.instance != 0 && !same
}

/// Rules 19 and 24.
fn judge_broken(association: &Association, found: &Authenticated<'_>) -> Result<Passed, Refusal> {
    if tears_down(association, found) { Ok(Passed::torn_down()) } else { Err(Refusal::Revoked) }
}

/// Whether this is a BYE that the owner sends on one of his anchors: a secure flow that nobody else speaks on, or any
/// with his credentials.
fn tears_down(association: &Association, found: &Authenticated<'_>) -> bool {
    let (admitted, evidence) = (found.admitted(), found.evidence());
    let flow = &admitted.arrival().flow;
    let anchored = association.anchors().contains(flow);
    let shown = evidence.of(&association.origin.owner).0;
    let his = matches!(shown, Kind::Digest | Kind::Channel) || flow.transport.is_secure();
    let his = his && !shows_another(association, evidence);
    admitted.method() == Method::Bye && anchored && his
}

/// Whether somebody else than the owner of the UE's leg speaks.
fn shows_another(association: &Association, evidence: &Evidence) -> bool {
    let owner = &association.origin.owner;
    let of_owner = evidence.of(owner).0;
    let others = evidence.digest.iter().chain(&evidence.channel).chain(&evidence.secure_flow);
    of_owner != Kind::SecureFlow && others.into_iter().any(|caller| caller.principal != *owner)
}

/// Rules 26 and 31 on the core side.
fn judge_peer(association: &Association, found: &Authenticated<'_>) -> Result<Passed, Refusal> {
    match found.evidence().peer {
        Some(peer) if peer.id == association.origin.group => {}
        _ => return Err(Refusal::WrongSide),
    }
    let bye = found.admitted().method() == Method::Bye;
    if association.state == State::Broken && !bye {
        return Err(Refusal::DialogEnded);
    }
    Ok(Passed::by(1))
}

/// Rule 15 for an ACK to a 2xx: the number of an INVITE that got one, and a flow of the owner, or his INVITE's credentials on another
/// secure flow: on such they were never seen by anybody else.
fn judge_ack(
    association: &Association,
    found: &Authenticated<'_>,
    keyer: &Keyer,
) -> Result<Passed, Refusal> {
    let (admitted, evidence) = (found.admitted(), found.evidence());
    let (origin, arrival) = (&*association.origin, admitted.arrival());
    let number = admitted.message().cseq().map(|cseq| cseq.number);
    let accepted = number.is_some_and(|number| association.counts(arrival.side).accepts(number));
    let fits_invite = association.invite && accepted;
    let repeats = || {
        let credentials = keyer.credentials(admitted.message(), &arrival.flow);
        credentials != 0 && credentials == association.credentials
    };
    let fits_flow = match arrival.side {
        Side::Ue => {
            association.anchors().contains(&arrival.flow)
                || evidence.of(&origin.owner).0 == Kind::Channel
                || repeats()
        }
        Side::Core => evidence.peer.is_some_and(|peer| peer.id == origin.group),
    };
    if fits_invite && fits_flow { Ok(Passed::by(15)) } else { Err(Refusal::AckUnmatched) }
}
