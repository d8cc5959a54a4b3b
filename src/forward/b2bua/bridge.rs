//! Stage 7, a bridge: two legs, and the numbers that their requests go out under.
//!
//! Takes:   method and CSeq number of each request that crosses, the final answers to INVITEs, ACKs.
//! Gives:   the CSeq number on the other leg; names of the dialog as the other leg knows it.
//! Keeps:   the last number sent on each leg, and the latest INVITE.
//! Refuses: [`Clash`]; an ACK or a PRACK that fits no INVITE.
//! Sources: RFC 3261 sections 12.2.1.1, 13.2.2.4, 14.1 and 14.2; RFC 3262 section 7.2; RFC 3891 section 6.1.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::transport::Side;
use crate::wire::{DialogRef, Method};

/// One dialog between us and a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Its Call-ID.
    pub call_id: Box<[u8]>,
    /// Our tag.
    pub own_tag: Box<[u8]>,
    /// The peer's tag.
    pub far_tag: Box<[u8]>,
}

/// Why an INVITE cannot cross now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    /// One of the same side is under way: 500 with Retry-After.
    UnderWay,
    /// One of the other side is: 491.
    Glare,
}

/// Two legs, one on each side.
#[derive(Debug)]
pub struct Bridge {
    ue: Leg,
    core: Leg,
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    /// Last sent to the UE, and to the core.
    sent: [u32; 2],
    invite: Option<Invite>,
}

/// The latest INVITE.
#[derive(Clone, Copy, Debug)]
struct Invite {
    from: Side,
    came: u32,
    left: u32,
    under_way: bool,
}

impl Bridge {
    /// A bridge over these legs, before anything crossed.
    pub fn new(ue: Leg, core: Leg) -> Self {
        Self { ue, core, numbers: Mutex::default() }
    }

    /// The leg on `side`.
    pub fn leg(&self, side: Side) -> &Leg {
        match side {
            Side::Ue => &self.ue,
            Side::Core => &self.core,
        }
    }

    /// The number under which a request that came from `from` as `came` leaves on the other leg; `None` if that leg's
    /// numbers are spent. ACK and CANCEL are not asked about here, since they repeat their INVITE's.
    ///
    /// # Errors
    ///
    /// [`Clash`], for an INVITE while another is under way.
    pub fn cross(&self, from: Side, method: Method, came: u32) -> Result<Option<u32>, Clash> {
        let mut numbers = self.numbers();
        let under_way = numbers.invite.filter(|invite| invite.under_way);
        if let Some(open) = under_way.filter(|_| method == Method::Invite) {
            return Err(if open.from == from { Clash::UnderWay } else { Clash::Glare });
        }
        let [to_ue, to_core] = &mut numbers.sent;
        let sent = if from == Side::Ue { to_core } else { to_ue };
        let next = sent.checked_add(1).filter(|number| *number <= NUMBER_MAX);
        let Some(left) = next else { return Ok(None) };
        *sent = left;
        if method == Method::Invite {
            numbers.invite = Some(Invite { from, came, left, under_way: true });
        }
        Ok(Some(left))
    }

    /// The latest INVITE was refused, or cancelled: another may follow.
    pub fn refused(&self) {
        if let Some(invite) = &mut self.numbers().invite {
            invite.under_way = false;
        }
    }

    /// The number under which an ACK leaves that came from `from` as `came`, and another INVITE may follow; `None` if
    /// it does not fit the latest INVITE. One that comes again gets the same number.
    pub fn acknowledge(&self, from: Side, came: u32) -> Option<u32> {
        let mut numbers = self.numbers();
        let invite = numbers.invite.as_mut()?;
        if invite.from != from || invite.came != came {
            return None;
        }
        invite.under_way = false;
        Some(invite.left)
    }

    /// The number by which the other leg knows the INVITE that a PRACK from `from` names; `None` if it is not the
    /// latest.
    pub fn named_by_prack(&self, from: Side, came: u32) -> Option<u32> {
        let invite = self.numbers().invite?;
        (invite.from == from && invite.came == came).then_some(invite.left)
    }

    /// How the other leg names this dialog, which a message from `from` names; the order of its tags is kept: our tag
    /// here stands for the peer there, the peer here for our tag there. `None` if it names another.
    pub fn rename(&self, from: Side, named: &DialogRef<'_>) -> Option<DialogRef<'_>> {
        let (here, there) = match from {
            Side::Ue => (&self.ue, &self.core),
            Side::Core => (&self.core, &self.ue),
        };
        let is = |tag: &[u8], known: &[u8]| tag.eq_ignore_ascii_case(known);
        let (local, remote) = (named.local_tag, named.remote_tag);
        let (local_tag, remote_tag): (&[u8], &[u8]) = if *named.call_id != *here.call_id {
            return None;
        } else if is(local, &here.own_tag) && is(remote, &here.far_tag) {
            (&there.far_tag, &there.own_tag)
        } else if is(local, &here.far_tag) && is(remote, &here.own_tag) {
            (&there.own_tag, &there.far_tag)
        } else {
            return None;
        };
        let early_only = named.early_only;
        Some(DialogRef { call_id: &there.call_id, local_tag, remote_tag, early_only })
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 3261 section 8.1.1.5: numbers stay under 2^31.
const NUMBER_MAX: u32 = i32::MAX as u32;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::wire::Name;

    pub(in crate::forward::b2bua) fn leg(call_id: &str, own: &str, far: &str) -> Leg {
        let octets = |text: &str| text.as_bytes().into();
        Leg { call_id: octets(call_id), own_tag: octets(own), far_tag: octets(far) }
    }

    fn bridge() -> Bridge {
        Bridge::new(leg("near", "we-1", "alice"), leg("far", "we-2", "bob"))
    }

    #[test]
    fn each_leg_counts_for_itself() {
        let bridge = bridge();
        for (from, method, came, left) in [
            (Side::Ue, Method::Invite, 4711, 1),
            (Side::Ue, Method::Prack, 4712, 2),
            (Side::Core, Method::Update, 1, 1),
            (Side::Ue, Method::Update, 5000, 3),
            (Side::Core, Method::Bye, 9, 2),
        ] {
            assert_eq!(bridge.cross(from, method, came), Ok(Some(left)), "{method:?} {came}");
        }
    }

    #[test]
    fn numbers_end_before_2_to_the_31() {
        let bridge = bridge();
        bridge.numbers().sent = [0, NUMBER_MAX];
        assert_eq!(bridge.cross(Side::Ue, Method::Info, 5), Ok(None));
        assert_eq!(bridge.cross(Side::Core, Method::Info, 5), Ok(Some(1)));
    }

    /// RFC 3261 section 14.2; `B2-05`.
    #[test]
    fn one_invite_at_a_time_until_it_is_refused_or_acknowledged() {
        let bridge = bridge();
        assert_eq!(bridge.cross(Side::Ue, Method::Invite, 7), Ok(Some(1)));
        assert_eq!(bridge.cross(Side::Ue, Method::Invite, 8), Err(Clash::UnderWay));
        assert_eq!(bridge.cross(Side::Core, Method::Invite, 1), Err(Clash::Glare));
        assert_eq!(bridge.cross(Side::Core, Method::Info, 1), Ok(Some(1)), "others cross");
        assert_eq!(bridge.acknowledge(Side::Ue, 8), None, "another number");
        assert_eq!(bridge.acknowledge(Side::Core, 7), None, "the other side");
        assert_eq!(bridge.acknowledge(Side::Ue, 7), Some(1));
        assert_eq!(bridge.acknowledge(Side::Ue, 7), Some(1), "a copy");
        assert_eq!(bridge.cross(Side::Core, Method::Invite, 2), Ok(Some(2)));
        bridge.refused();
        assert_eq!(bridge.cross(Side::Ue, Method::Invite, 9), Ok(Some(2)));
    }

    /// RFC 3262 section 7.2.
    #[test]
    fn a_prack_names_the_invite_as_the_other_leg_knows_it() {
        let bridge = bridge();
        assert_eq!(bridge.cross(Side::Ue, Method::Invite, 7), Ok(Some(1)));
        assert_eq!(bridge.named_by_prack(Side::Ue, 7), Some(1));
        assert_eq!(bridge.named_by_prack(Side::Ue, 6), None);
        assert_eq!(bridge.named_by_prack(Side::Core, 7), None);
    }

    /// V-136.
    #[test]
    fn a_dialog_is_renamed_from_either_end_and_nothing_of_the_other_leg_is_left() {
        let bridge = bridge();
        for (from, named, renamed) in [
            (Side::Ue, "near;to-tag=we-1;from-tag=alice", Some(("far", "bob", "we-2"))),
            (Side::Ue, "near;to-tag=ALICE;from-tag=we-1", Some(("far", "we-2", "bob"))),
            (Side::Core, "far;to-tag=we-2;from-tag=bob", Some(("near", "alice", "we-1"))),
            (Side::Core, "near;to-tag=we-1;from-tag=alice", None),
            (Side::Ue, "NEAR;to-tag=we-1;from-tag=alice", None),
            (Side::Ue, "near;to-tag=we-1;from-tag=bob", None),
            (Side::Ue, "near;to-tag=we-1;from-tag=we-1", None),
        ] {
            let parsed = DialogRef::parse(Name::Replaces, named.as_bytes()).expect("a dialog");
            let found = bridge.rename(from, &parsed);
            let found = found.map(|found| (found.call_id, found.local_tag, found.remote_tag));
            let expected = renamed.map(|(call_id, local, remote): (&str, &str, &str)| {
                (call_id.as_bytes(), local.as_bytes(), remote.as_bytes())
            });
            assert_eq!(found, expected, "{from:?}: {named}");
        }
    }
}
