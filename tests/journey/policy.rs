//! What an operator may change while calls are up, and what too much work does to whom.

use std::sync::Arc;

use sipward::admission::{self, Rate};
use sipward::association;
use sipward::enabler::{Policies, reg::Reg, sip::Sip};
use sipward::journey::Outcome;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, Peer};

use crate::scene::{call, in_dialog, request, status_to, to_core};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@203.0.113.20:5060";

#[test]
fn other_settings_take_hold_at_once_and_the_call_goes_on() {
    let mut lab = Lab::default();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    call(&mut lab, &alice, &mut key);
    let before = format!("{:?}", lab.shared.gate.associations.snapshot());

    let one = association::Settings { max_per_caller: 1, ..association::Settings::default() };
    lab.shared.gate.associations.replace_settings(one);
    let another = request("INVITE", "sip:bob@example.net", "alice", "more", 1, Some(&mut key));
    assert_eq!(status_to(&lab.receive(&alice, &another), &alice), Some(503));
    assert_eq!(lab.last(), Outcome::Refused(Refusal::TableFull), "association.max_per_caller");
    assert_eq!(format!("{:?}", lab.shared.gate.associations.snapshot()), before, "dialogs stay");

    let (rogue, mut own) = (Peer::udp("192.0.2.66:5060"), lab.ue2());
    let mut hang_up = |lab: &mut Lab, cseq| {
        let bye = in_dialog("BYE", BOB, "alice", "b", "call", cseq, Some(&mut own), "");
        lab.receive(&rogue, &bye);
        lab.last()
    };
    assert_eq!(hang_up(&mut lab, 9), Outcome::Refused(Refusal::AssociationMismatch));
    let observe = association::Settings { observe: true, ..association::Settings::default() };
    lab.shared.gate.associations.replace_settings(observe);
    assert_eq!(hang_up(&mut lab, 10), Outcome::Forwarded, "association.mode = \"observe\"");

    let mut sip = Sip::default();
    sip.demands.secure = true;
    let policies = Policies { reg: Arc::new(Reg::default()), sip: Arc::new(sip) };
    lab.shared.gate.enablers.replace_policies(policies);
    let text = request("MESSAGE", "sip:bob@example.net", "alice", "m", 1, Some(&mut key));
    lab.receive(&alice, &text);
    assert_eq!(lab.last(), Outcome::Refused(Refusal::LevelTooLow), "enabler.sip.secure");

    let slow = admission::Settings { flow_rate: Rate::per_minute(1), ..Default::default() };
    lab.shared.gate.admission.replace_settings(slow);
    lab.receive(&alice, &text);
    assert_eq!(lab.last(), Outcome::Dropped(Refusal::SourceLimited), "admission.flow_rate");
    lab.shared.gate.admission.replace_settings(admission::Settings::default());
    let late = in_dialog("INFO", BOB, "alice", "b", "call", 11, Some(&mut key), "");
    to_core(&lab.receive(&alice, &late));
}
