//! Stage 5, judgement: the rules, in the order in which they are asked.
//!
//! Takes:   a request with its evidence, and the dialog it names.
//! Gives:   the rule that lets it pass.
//! Keeps:   nothing.
//! Refuses: rules 3 to 7, 12, 15, 26, 30 and 31, each by its refusal.
//! Sources: RFC 3261 sections 12.2.2 (481, 500), 9.2 and 22.1 (CANCEL, ACK), 8.2.7; RFC 5057 section 5.1.
//!
//! For a request with a To tag:
//!
//! 1. CANCEL is judged by the INVITE it cancels, ACK by its dialog's anchors: rule 15.
//! 2. The dialog is looked up by Call-ID, tags and side: rules 6, 26 and 31; rule 25 for a first NOTIFY.
//! 3. What the listener and its first hop agreed on: rule 12.
//! 4. Evidence: of the owner, rules 1 and 2; of somebody else, rules 4 and 5; of nobody, rule 3; of the owner
//!    but on too weak a flow, rule 14. On the core side the peer group must be the leg's: rule 26.
//! 5. CSeq: rule 7.
//! 6. The method against the dialog's usages: rule 30.

use super::dialog::Association;
use crate::authentication::{Authenticated, Kind};
use crate::refusal::Refusal;
use crate::transport::Side;
use crate::wire::Method;

/// Judges a request inside `association`, lines 3 to 6: the number of the rule that lets it pass.
///
/// # Errors
///
/// The refusal of the rule that does not.
pub fn judge(
    association: &Association,
    found: &Authenticated<'_>,
    event: u64,
) -> Result<u8, Refusal> {
    let admitted = found.admitted();
    let (arrival, method) = (admitted.arrival(), admitted.method());
    if method == Method::Ack {
        return judge_ack(association, found);
    }
    if let Some(refusal) = found.disagreement() {
        return Err(refusal);
    }
    let rule = match arrival.side {
        Side::Ue => judge_evidence(association, found)?,
        Side::Core => judge_peer(association, found)?,
    };
    let number = admitted.message().cseq().map(|cseq| cseq.number);
    if number < association.counts(arrival.side).cseq {
        return Err(Refusal::SequenceLow);
    }
    if !association.fits(method, event, arrival.side) {
        return Err(Refusal::MethodUnfit);
    }
    Ok(rule)
}

/// Rules 1 to 5 and 14.
fn judge_evidence(association: &Association, found: &Authenticated<'_>) -> Result<u8, Refusal> {
    let origin = &*association.origin;
    let owner = &origin.owner;
    let evidence = found.evidence();
    let flow = &found.admitted().arrival().flow;
    if evidence.digest.as_ref().is_some_and(|digest| digest.principal != *owner) {
        return Err(Refusal::AssociationMismatch);
    }
    let anchored = association.anchors().contains(flow);
    let (kind, level) = evidence.of(owner);
    let proved = match kind {
        Kind::Digest | Kind::Channel => true,
        Kind::SecureFlow => anchored,
        Kind::Registered | Kind::Peer | Kind::None => false,
    };
    if !proved {
        let somebody_else = kind != Kind::SecureFlow
            && (evidence.channel.is_some() || !evidence.secure_flow.is_empty());
        if somebody_else && found.failure().is_none() {
            return Err(Refusal::FlowMismatch);
        }
        return Err(found.failure().unwrap_or(Refusal::CredentialsMissing));
    }
    if level < origin.level || origin.secure && !flow.transport.is_secure() {
        return Err(Refusal::LevelTooLow);
    }
    Ok(if anchored { 1 } else { 2 })
}

/// Rule 26 on the core side.
fn judge_peer(association: &Association, found: &Authenticated<'_>) -> Result<u8, Refusal> {
    match found.evidence().peer {
        Some(peer) if peer.id == association.origin.group => Ok(1),
        _ => Err(Refusal::WrongSide),
    }
}

/// Rule 15 for an ACK to a 2xx: its INVITE's number, and a flow of the owner.
fn judge_ack(association: &Association, found: &Authenticated<'_>) -> Result<u8, Refusal> {
    let (admitted, evidence) = (found.admitted(), found.evidence());
    let (origin, arrival) = (&*association.origin, admitted.arrival());
    let number = admitted.message().cseq().map(|cseq| cseq.number);
    let expected = association.counts(arrival.side).invite;
    let fits_invite = association.invite && number.is_some() && number == expected;
    let fits_flow = match arrival.side {
        Side::Ue => {
            association.anchors().contains(&arrival.flow)
                || evidence.of(&origin.owner).0 == Kind::Channel
        }
        Side::Core => evidence.peer.is_some_and(|peer| peer.id == origin.group),
    };
    if fits_invite && fits_flow { Ok(15) } else { Err(Refusal::AckUnmatched) }
}
