//! A class of one's own, judged by one's own code: tickets of a turnstile, MESSAGEs that open it for as many people as
//! they say. `cargo run --example enabler`; `cargo test --example enabler`.
//!
//! What needs no code is one table of the configuration, `[[enabler.class]]`.

use std::io::{self, Write as _};
use std::sync::Arc;

use sipward::admission::Rate;
use sipward::association::Bound;
use sipward::enabler::own::Line;
use sipward::enabler::{Class, Demands, EnablerPolicy, Integrity, Policies};
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer};
use sipward::transport::Side;
use sipward::wire::Method;

/// The policy of tickets.
struct Turnstile {
    demands: Demands,
    people_max: u32,
}

impl EnablerPolicy for Turnstile {
    /// So many in a minute, so long, and covered by their response where nothing else covers them.
    fn demands(&self, _class: Class) -> &Demands {
        &self.demands
    }

    /// Turnstiles send no tickets.
    fn allows_direction(&self, side: Side, _in_dialog: bool) -> bool {
        side == Side::Ue
    }

    /// A ticket says for how many it is.
    fn check(&self, bound: &Bound<'_>) -> Result<(), Refusal> {
        let text = std::str::from_utf8(bound.message().body()).ok();
        let people = text.and_then(|text| text.trim().parse::<u32>().ok());
        match people {
            Some(people) if people <= self.people_max => Ok(()),
            Some(_) => Err(Refusal::ListTooLong),
            None => Err(Refusal::BodyMalformed),
        }
    }
}

/// Adds the class: MESSAGEs to the turnstiles' domain.
fn with_turnstiles(policies: &mut Policies) -> bool {
    let demands =
        Demands { integrity: Integrity::Cleartext, ..Demands::new(Rate::per_minute(6), 8) };
    let to = Line {
        method: Some(Method::Message),
        domain: Some("gates.example.net".into()),
        ..Line::default()
    };
    policies.add(vec![to], Arc::new(Turnstile { demands, people_max: 4 }))
}

/// Sends a ticket to a laboratory edge, and tells what is answered: `None` if it went on.
fn ticket(lab: &mut Lab, covered: bool, number: u32, people: &str) -> Option<u16> {
    let (alice, mut key) = (Peer::udp("192.0.2.10:5060"), lab.ue1());
    key.auth_int = covered;
    let uri = "sip:north@gates.example.net";
    let credentials = key.credentials("MESSAGE", uri, people.as_bytes());
    let sent = lab.receive(
        &alice,
        &format!(
            "MESSAGE {uri} SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKt{number};rport
Max-Forwards: 70
From: <sip:alice@example.net>;tag=a
To: <{uri}>
Call-ID: t{number}
CSeq: 1 MESSAGE
Proxy-Authorization: {credentials}
Content-Type: text/plain
Content-Length: @

{people}"
        ),
    );
    let back = sent.iter().find(|sent| sent.to == alice.flow().remote);
    back.and_then(|sent| sent.message.status())
}

fn main() -> io::Result<()> {
    let settings = LabSettings::default();
    let mut policies = settings.policies();
    assert!(with_turnstiles(&mut policies), "there is room for eight");
    let mut lab = Lab::new(settings);
    lab.shared.gate.enablers.replace_policies(policies);
    let mut out = io::stdout().lock();
    for (number, (covered, people)) in (1..).zip([(true, "2"), (false, "2"), (true, "5")]) {
        let answer = ticket(&mut lab, covered, number, people);
        let answer = answer.map_or("goes on".to_owned(), |status| format!("is answered {status}"));
        let how = if covered { "covered by its response" } else { "with its body open" };
        writeln!(out, "a ticket for {people}, {how}, {answer}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usab_002_a_policy_of_ones_own_holds_its_class_and_nothing_else() {
        let settings = LabSettings::default();
        let mut policies = settings.policies();
        assert!(with_turnstiles(&mut policies));
        let mut lab = Lab::new(settings);
        assert_eq!(ticket(&mut lab, false, 1, "x"), None, "without the class it is any text");
        lab.shared.gate.enablers.replace_policies(policies);
        assert_eq!(ticket(&mut lab, true, 2, "2"), None);
        assert_eq!(ticket(&mut lab, false, 3, "2"), Some(407));
        assert_eq!(ticket(&mut lab, true, 4, "5"), Some(413));
        assert_eq!(ticket(&mut lab, true, 5, "all"), Some(400));
        assert_eq!(ticket(&mut lab, true, 6, "123456789"), Some(413), "longer than a number");
        for number in 7..12 {
            assert_eq!(ticket(&mut lab, true, number, "1"), None, "{number}");
        }
        assert_eq!(ticket(&mut lab, true, 12, "1"), Some(500), "the seventh of a minute");
    }
}
