//! Stage 4 and 6: what somebody without a key does to those who have one, and what a user does with a number that is denied.

use std::sync::Arc;
use std::time::Duration;

use sipward::authentication::accounts::{Account, Accounts, Secret};
use sipward::identity::Impu;
use sipward::journey::Outcome;
use sipward::keys::KeyAnswer;
use sipward::refusal::Refusal;
use sipward::testing::{Lab, LabSettings, Peer, Signer};
use sipward::wire::Fault;
use zeroize::Zeroizing;

use crate::scene::{called, in_dialog, request, route_of, status_to};

const ALICE: &str = "192.0.2.10:5060";
const MALLORY: &str = "203.0.113.66:5060";
const BOB: &str = "sip:bob@example.net";

fn account(password: &str) -> Account {
    Account {
        secret: Secret::Password(Zeroizing::new(password.into())),
        identities: [Impu::new("sip:alice@example.net").expect("a URI")].into(),
        disabled: false,
        classes: None,
    }
}

/// Alice has a password, others have cards, and the bootstrapping server is asked for their keys.
struct World {
    lab: Lab,
    alice: Peer,
    user: Signer,
    card: Signer,
    number: u32,
}

impl World {
    fn new() -> Self {
        let mut settings = LabSettings::default();
        settings.accounts.add("example.net", "alice", account("wonderland")).expect("room");
        let mut lab = Lab::new(settings);
        lab.keys.otherwise(KeyAnswer::Ask);
        let alice = Peer::tls(ALICE, 7);
        let mut user = Signer::new("alice", "wonderland", "example.net");
        let challenge = lab.receive(&alice, &request("MESSAGE", BOB, "alice", "a0", 1, None));
        user.challenged(&challenge[0].message).expect("a challenge");
        let card = lab.ue1();
        Self { lab, alice, user, card, number: 1 }
    }

    /// Mallory shows a B-TID that nobody has, with a nonce of ours, and more.
    fn unknown(&mut self, more: &str) {
        self.number += 1;
        let of = format!("{:022}==@bsf.example.net", self.number);
        let mut signer = Signer { username: of, ..self.card.clone() };
        let call = format!("m{}", self.number);
        let text = in_dialog("MESSAGE", BOB, "x", "", &call, 1, Some(&mut signer), more);
        self.lab.receive(&Peer::udp(MALLORY), &text);
    }

    /// So often that the questions which he may ask are used up.
    fn used_up(&mut self) {
        (0..101).for_each(|_| self.unknown(""));
        assert_eq!(self.lab.last(), Outcome::Refused(Refusal::KeySourceUnavailable));
    }

    /// Alice writes, with the nonce that she has.
    fn writes(&mut self) -> Outcome {
        self.number += 1;
        let call = format!("a{}", self.number);
        let text = request("MESSAGE", BOB, "alice", &call, self.number, Some(&mut self.user));
        let sent = self.lab.receive(&self.alice, &text);
        if status_to(&sent, &self.alice) == Some(407) {
            self.user.challenged(&sent[0].message);
        }
        self.lab.last()
    }
}

/// Rule 20: what a stranger cannot be asked about touches no user whose password is known here, however much he sends.
#[test]
fn who_asks_in_vain_spoils_no_nonce_of_an_account() {
    let mut world = World::new();
    world.used_up();
    let before = world.lab.shared.gate.footprint();
    for many in [15, 16, 240] {
        let rows: String = (0..many)
            .map(|row| {
                let Signer { realm, nonce, .. } = &world.card;
                format!(
                    "Authorization: Digest realm=\"{realm}\",nonce=\"{nonce}\",username=\"{row}\",algorithm=a{row}\n"
                )
            })
            .collect();
        world.unknown(&rows);
        let refused = match many {
            15 => Refusal::KeySourceUnavailable,
            _ => Refusal::Malformed(Fault::CredentialsMalformed),
        };
        assert_eq!(world.lab.last(), Outcome::Refused(refused), "{many} rows");
    }
    // However often a nonce is shown, and as whose, it is one.
    assert!(world.lab.shared.gate.footprint() <= before + 1);
    assert_eq!(world.writes(), Outcome::Forwarded);
}

/// Whoever sees a nonce on the way does not make it stale for a user with an account.
#[test]
fn who_shows_the_nonce_of_an_account_spoils_nothing() {
    let mut world = World::new();
    world.used_up();
    for turn in 0..22 {
        let nonce = &world.user.nonce;
        let row = format!(
            "Authorization: Digest realm=\"example.net\",nonce=\"{nonce}\",username=\"alice\"\n"
        );
        world.unknown(&row);
        assert_eq!(world.writes(), Outcome::Forwarded, "turn {turn}");
    }
}

/// SEC-003: another password ends what the old one proved on a connection.
#[test]
fn another_password_ends_what_the_old_one_proved() {
    for (password, known) in [("wonderland", true), ("looking-glass", false)] {
        let mut world = World::new();
        assert_eq!(world.writes(), Outcome::Forwarded);
        let mut others = Accounts::default();
        others.add("example.net", "alice", account(password)).expect("room");
        let others = Arc::new(others);
        let authentication = &world.lab.shared.gate.authentication;
        let before = authentication.replace_accounts(Arc::clone(&others));
        authentication.flows().take_back(|caller| !others.still_has(caller, &before));
        world.lab.advance(Duration::from_secs(1));
        let flows = world.lab.shared.gate.authentication.flows();
        assert_eq!(flows.len(), usize::from(known), "{password}");
        let wanted = match known {
            true => Outcome::Forwarded,
            false => Outcome::Refused(Refusal::BadCredentials),
        };
        assert_eq!(world.writes(), wanted, "{password}");
    }
}

/// V-134: a REFER whose target nobody here can read is not let pass where numbers are denied.
#[test]
fn v_134_a_refer_to_that_nobody_can_read_leads_nowhere() {
    let unread = Refusal::Malformed(Fault::HeaderMalformed);
    for (to, refusal) in [
        ("<sip:+88212345@example.net>", Refusal::NumberForbidden),
        ("<sip:+88212345p1@example.net;user=phone>", Refusal::NumberForbidden),
        ("sip:+88212345@example.net?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc", unread),
        ("<sip:+88212345@example.net> x", unread),
        ("<sip:carol@example.net>, <sip:+88212345@example.net>", unread),
    ] {
        let mut settings = LabSettings::default();
        settings.numbers.usual.deny = vec!["+882".into()];
        let mut lab = Lab::new(settings);
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        let more = format!("Refer-To: {to}\n");
        let text = in_dialog("REFER", BOB, "alice", "", "r", 1, Some(&mut key), &more);
        lab.receive(&alice, &text);
        assert_eq!(lab.last(), Outcome::Refused(refusal), "{to}");
    }
}

/// V-134: where any Route is taken, the number that a strict router moved there is looked at.
#[test]
fn v_134_a_number_behind_a_strict_router_is_denied_too() {
    let edge = "sip:198.51.100.1:5060;lr";
    for (to, is_denied) in [
        ("<sip:+88212345@example.net>", true),
        ("<tel:+882-12345>", true),
        ("<sip:203.0.113.9;lr>, <sip:+88212345@example.net>", true),
        ("<sip:+4912345@example.net>", false),
        ("<sip:+88212345@example.net;lr>, <sip:bob@example.net>", false),
    ] {
        let mut settings = LabSettings::default();
        settings.numbers.usual.deny = vec!["+882".into()];
        settings.forward.route_check = false;
        let mut lab = Lab::new(settings);
        let (alice, mut key) = (Peer::udp(ALICE), lab.ue1());
        let more = format!("Route: {to}\n");
        let text = in_dialog("INVITE", edge, "alice", "", "s", 1, Some(&mut key), &more);
        lab.receive(&alice, &text);
        let refused = lab.last() == Outcome::Refused(Refusal::NumberForbidden);
        assert_eq!(refused, is_denied, "{to}: {:?}", lab.last());
    }
}

/// V-134: after a restart nobody knows where a call led, so that what it is led to is looked at; its end passes all the same.
#[test]
fn v_134_a_call_that_a_restart_lies_in_leads_to_no_denied_number() {
    let settings = || {
        let mut settings = LabSettings::default();
        settings.numbers.usual.deny = vec!["+882".into()];
        settings
    };
    let mut lab = Lab::new(settings());
    let (alice, mut key) = (Peer::tls("192.0.2.10:40000", 1), lab.ue1());
    let [_, answer] = called(&mut lab, &alice, &mut key);
    let route = route_of(&answer);
    lab.restart(settings());
    let mut key = lab.ue1();
    let alice = Peer::tls("192.0.2.10:41000", 2);
    let elsewhere = "sip:+88212345@203.0.113.20:5060";
    for (number, method, to, passes) in [
        (2, "INVITE", elsewhere, false),
        (3, "INVITE", "sip:bob@203.0.113.20:5060", true),
        (4, "MESSAGE", elsewhere, false),
        (5, "BYE", elsewhere, true),
    ] {
        let text = in_dialog(method, to, "alice", "b", "call", number, Some(&mut key), &route);
        lab.receive(&alice, &text);
        let refused = lab.last() == Outcome::Refused(Refusal::NumberForbidden);
        assert_eq!(refused, !passes, "{method} {to}: {:?}", lab.last());
    }
}
