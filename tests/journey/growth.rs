//! What comes and goes leaves nothing behind, however much of it there was.

use std::time::Duration;

use sipward::testing::{Lab, LabSettings, Peer, Signer};

use crate::scene::{in_dialog, request, respond, to_core};

const ALICE: &str = "192.0.2.10:5060";
const BOB: &str = "sip:bob@203.0.113.20:5060";

/// Without the limits that one caller would meet.
fn boundless() -> Lab {
    let rate = sipward::admission::Rate {
        count: 1_000_000,
        period: Duration::from_secs(1),
        burst: u32::MAX,
    };
    let mut settings = LabSettings::default();
    settings.admission.flow_rate = rate;
    settings.reg.demands.rate = rate;
    (settings.sip.demands.rate, settings.sip.demands.dialogs) = (rate, None);
    settings.association.max_per_caller = u32::MAX;
    Lab::new(settings)
}

/// A call is made, answered and ended.
fn called(lab: &mut Lab, alice: &Peer, key: &mut Signer, id: &str) {
    let text = request("INVITE", "sip:bob@example.net", "alice", id, 1, Some(key));
    let invite = to_core(&lab.receive(alice, &text)).clone();
    lab.receive(&Peer::core(), &respond(&invite, 180, "b", ""));
    lab.receive(&Peer::core(), &respond(&invite, 200, "b", ""));
    let ack = in_dialog("ACK", BOB, "alice", "b", id, 1, None, "");
    to_core(&lab.receive(alice, &ack));
    let bye = in_dialog("BYE", BOB, "alice", "b", id, 2, Some(key), "");
    let bye = to_core(&lab.receive(alice, &bye)).clone();
    lab.receive(&Peer::core(), &respond(&bye, 200, "b", ""));
}

#[test]
fn calls_that_ended_leave_nothing_behind() {
    let mut lab = boundless();
    let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
    for round in 0..CALLS {
        if round % 1000 == 0 {
            (key, lab.decisions) = (lab.ue1(), Vec::new());
        }
        called(&mut lab, &alice, &mut key, &format!("c{round}"));
        lab.advance(Duration::from_millis(50));
        let held = lab.shared.gate.associations.footprint();
        assert_eq!(lab.shared.gate.associations.timers(), held, "one timer each, call {round}");
        assert!(held <= 2 * 33 * 20 + 2, "{held} after call {round}: those of 32 s, no more");
    }
    assert_eq!(lab.shared.gate.associations.callers(), 1);
    lab.advance(Duration::from_secs(33));
    let dialogs = &lab.shared.gate.associations;
    let left = (dialogs.footprint(), dialogs.timers(), dialogs.callers(), dialogs.next_expiry());
    assert_eq!(left, (0, 0, 0, None));
    assert_eq!(lab.transactions(), 0);
}

/// All calls are one caller's, so that the workers meet at his tally too.
#[test]
fn workers_that_share_the_tables_wait_for_nobody_and_lose_nothing() {
    let lab = boundless();
    std::thread::scope(|scope| {
        for worker in 1..=4_u8 {
            let (mut lab, mut key) = (lab.beside(worker), lab.ue1());
            scope.spawn(move || {
                let alice = Peer::udp(&format!("192.0.2.{worker}:5060"));
                for round in 0..500 {
                    called(&mut lab, &alice, &mut key, &format!("w{worker}-{round}"));
                    lab.advance(Duration::from_millis(100));
                }
            });
        }
    });
    let mut lab = lab.beside(5);
    let dialogs = &lab.shared.clone().gate.associations;
    assert_eq!((dialogs.callers(), dialogs.timers()), (1, dialogs.footprint()));
    lab.advance(Duration::from_secs(50 + 33));
    let left = (dialogs.footprint(), dialogs.timers(), dialogs.callers(), dialogs.next_expiry());
    assert_eq!(left, (0, 0, 0, None));
}

/// On UDP, where no end of a connection tells.
#[test]
fn registrations_that_lapsed_leave_nothing_behind() {
    let mut lab = boundless();
    let mut key = lab.ue1();
    for round in 0..CALLS {
        if round % 1000 == 0 {
            (key, lab.decisions) = (lab.ue1(), Vec::new());
        }
        let [_, a, b, c] = u32::try_from(round).expect("not that many").to_be_bytes();
        let alice = Peer::udp(&format!("192.0.{a}.{b}:{}", 1024 + u16::from(c)));
        let call = format!("r{round}");
        let text = request("REGISTER", "sip:example.net", "alice", &call, 1, Some(&mut key));
        let register = to_core(&lab.receive(&alice, &text)).clone();
        let granted = "Contact: <sip:alice@192.0.2.10:5060>;expires=60\n";
        lab.receive(&Peer::core(), &respond(&register, 200, "r", granted));
        lab.advance(Duration::from_millis(50));
        let (flows, bindings) = (lab.shared.gate.authentication.flows(), &lab.shared.bindings);
        assert!(flows.len() <= 20 * 91, "{} flows after {round}", flows.len());
        assert!(bindings.len() <= 20 * 91, "{} bindings after {round}", bindings.len());
    }
    lab.advance(Duration::from_secs(91));
    let (flows, bindings) = (lab.shared.gate.authentication.flows(), &lab.shared.bindings);
    flows.sweep(lab.now);
    bindings.sweep(lab.now);
    assert_eq!((flows.len(), flows.timers()), (0, 0));
    assert_eq!((bindings.len(), bindings.kept()), (0, (0, 0)));
}

/// A debug build takes a while for each.
const CALLS: usize = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
