//! A stranger of SIPp reaches into calls of others, in both modes, with Kamailio behind: each attempt is refused by the
//! rule that is due to it, counted by the edge itself, and the call goes on.

use std::net::SocketAddr;

use crate::edge::Edge;
use crate::kamailio::Kamailio;
use crate::loopback;
use crate::sipp::{Running, Sipp};

/// An edge with a core behind it, and three subscribers: the victim, the stranger, and whom the victim calls.
struct Lab {
    _core: Kamailio,
    edge: Edge,
    credentials: String,
    challenge: u16,
}

const VICTIM: usize = 1;
const STRANGER: usize = 2;
const CALLEE: usize = 3;
/// Both modes of a listener, with the code of its challenges.
const MODES: [(&str, u16); 2] = [("proxy", 407), ("b2bua", 401)];

impl Lab {
    fn start(mode: &str, challenge: u16) -> Self {
        let core = Kamailio::start(loopback::address());
        let edge = Edge::start_with(&core, 3, "debug", mode);
        let credentials = std::fs::read_to_string(edge.credentials(3)).expect("credentials");
        Self { _core: core, edge, credentials, challenge }
    }

    /// A scenario with the credentials of one subscriber, at an address of its own.
    fn ue(&self, scenario: &str, who: usize) -> Sipp {
        let from = SocketAddr::new(loopback::address(), 5060);
        self.ue_at(scenario, who, from)
    }

    fn ue_at(&self, scenario: &str, who: usize, from: SocketAddr) -> Sipp {
        let row = self.credentials.lines().nth(who).expect("a subscriber");
        let sipp = Sipp::new(scenario);
        // REGISTER is challenged with 407 in either mode.
        let sipp = if scenario == "register" { sipp } else { sipp.challenged(self.challenge) };
        sipp.from(from).to(self.edge.ue).csv_text(&format!("SEQUENTIAL\n{row}\n"))
    }

    /// The callee, registered where `scenario` answers.
    fn callee(&self, scenario: &str) -> Sipp {
        let there = SocketAddr::new(loopback::address(), 5060);
        self.ue_at("register", CALLEE, there).calls(1).run().assert_all_good(1);
        self.ue_at(scenario, CALLEE, there)
    }

    /// Both halves of a scenario for two, each of which must go as it says.
    fn meet(&self, stranger: &str, victim: &str) {
        let meeting_point = loopback::meeting_point();
        let stranger = self.stranger(stranger, meeting_point);
        let victim = self.ue(victim, VICTIM).calls(1).service("ue0003");
        let report = victim.with_third_party(meeting_point).run();
        assert_eq!((report.good, report.failed), (1, 0), "{report:#?}\n{}", self.edge.said());
        stranger.finish().assert_all_good(1);
    }

    fn stranger(&self, scenario: &str, meeting_point: SocketAddr) -> Running {
        self.ue(scenario, STRANGER).calls(1).listen_for_third_party(meeting_point)
    }
}

#[test]
fn byes_reinvites_and_infos_of_a_stranger_are_refused_by_rules_3_and_4() {
    for (mode, challenge) in MODES {
        let lab = Lab::start(mode, challenge);
        for (scenario, method) in
            [("spoof_bye", "BYE"), ("spoof_reinvite", "INVITE"), ("spoof_info", "INFO")]
        {
            let answering = lab.callee("uas").listen();
            lab.meet(scenario, "spoof_victim");
            assert_eq!(answering.stop().failed, 0, "{mode} {scenario}");
            // Without credentials, then with those of another.
            lab.edge.assert_ruled(4, method, 1);
        }
        lab.edge.assert_ruled(3, "BYE", 1);
        lab.edge.assert_ruled(3, "INFO", 1);
        // The victim's own, each on the nonce of its INVITE.
        lab.edge.assert_ruled(1, "BYE", 3);
    }
}

#[test]
fn a_cancel_of_a_stranger_is_refused_by_rule_15_and_the_callers_own_is_not() {
    for (mode, challenge) in MODES {
        let lab = Lab::start(mode, challenge);
        let answering = lab.callee("uas_ringing").listen();
        lab.meet("spoof_cancel", "spoof_cancel_victim");
        let answered = answering.stop();
        assert_eq!((answered.good, answered.failed), (1, 0), "{mode}: {answered:?}");
        lab.edge.assert_ruled(15, "CANCEL", 1);
        lab.edge.await_log(&["refused", "assoc.rule=15", "refusal=\"CancelUnmatched\""]);
    }
}

#[test]
fn a_200_that_a_stranger_forged_is_dropped_by_rule_16() {
    for (mode, challenge) in MODES {
        let lab = Lab::start(mode, challenge);
        let meeting_point = loopback::meeting_point();
        let stranger = lab.stranger("forged_200", meeting_point);
        let answering = lab.callee("forged_200_callee").calls(1);
        let answering = answering.with_third_party(meeting_point).listen();
        let calling = lab.ue("call", VICTIM).calls(1).service("ue0003").traced().run();
        assert_eq!((calling.good, calling.failed), (1, 0), "{calling:#?}\n{}", lab.edge.said());
        stranger.finish().assert_all_good(1);
        answering.finish().assert_all_good(1);
        assert!(!calling.messages.contains("stranger"), "{mode}: {}", calling.messages);
        assert!(!calling.messages.contains("tag=forged"), "{mode}: {}", calling.messages);
        lab.edge.await_log(&["dropped", "assoc.rule=16", "refusal=\"ResponseAstray\""]);
        lab.edge.assert_counted("sipward_refusals_total{refusal=\"ResponseAstray\"}", 1);
        lab.edge.assert_ruled(1, "BYE", 1);
    }
}
