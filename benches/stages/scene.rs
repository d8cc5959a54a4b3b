//! An edge with sixteen UEs and a core, and the messages they send: all of it made outside the count.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sipward::admission::Rate;
use sipward::identity::Btid;
use sipward::instant::Now;
use sipward::journey::{Action, Outcome};
use sipward::keys::naf::{CacheBounds, NafCache};
use sipward::keys::{KeyAnswer, NafId, UaId};
use sipward::refusal::Refusal;
use sipward::testing::lab::{EDGE, UE1_PASSWORD, lab_key, octets_of};
use sipward::testing::{Lab, LabSettings, Peer, Signer};
use sipward::transport::Arrival;
use sipward::wire::Message;

use crate::meter::Meter;
use crate::text::{self, Callee};

/// Time between two transactions. What lingers for 32 s is then 640 transactions.
pub(crate) const STEP: Duration = Duration::from_millis(50);
/// Transactions until as many end as begin.
pub(crate) const STEADY: u32 = 700;
const UES: usize = 16;
/// A nonce lives 300 s.
const NONCE_USE: Duration = Duration::from_secs(200);

/// The edge, its clock in our hand.
pub(crate) struct Edge {
    pub(crate) lab: Lab,
    ues: Vec<Ue>,
    core: Peer,
    /// Transactions begun.
    begun: usize,
    actions: Vec<Action>,
}

/// One device with its key.
#[derive(Debug)]
pub(crate) struct Ue {
    pub(crate) name: String,
    /// Address and port.
    pub(crate) address: String,
    pub(crate) peer: Peer,
    btid: String,
    signer: Signer,
    since: Now,
}

impl Ue {
    /// The value of Proxy-Authorization, with the next count.
    pub(crate) fn sign(&mut self, method: &str, uri: &str) -> String {
        self.signer.credentials(method, uri, b"")
    }

    /// The same, its body covered.
    pub(crate) fn sign_whole(&mut self, method: &str, uri: &str, body: &str) -> String {
        self.signer.auth_int = true;
        let credentials = self.signer.credentials(method, uri, body.as_bytes());
        self.signer.auth_int = false;
        credentials
    }

    /// Takes the nonce out of a 407.
    pub(crate) fn challenged(&mut self, response: &Message) {
        self.signer.challenged(response).expect("a row for our realm and algorithm");
    }

    /// From now on its responses are wrong.
    pub(crate) fn forget(&mut self) {
        self.signer.password = "wrong".into();
    }

    /// From now on it sends from another address, one for each `number`.
    pub(crate) fn moves(&mut self, number: usize) {
        let [.., high, middle, low] = number.to_be_bytes();
        self.address = format!("10.{high}.{middle}.{low}:5060");
        self.peer = Peer::udp(&self.address);
    }
}

impl Edge {
    /// The laboratory's edge without its limits, since one bench sends what many callers would.
    pub(crate) fn new() -> Self {
        Self::with(LabSettings::default())
    }

    /// The same back to back with the core, in place of a proxy.
    pub(crate) fn bridging() -> Self {
        Self::with(LabSettings::default().bridging())
    }

    fn with(mut settings: LabSettings) -> Self {
        let boundless = Rate { count: 1_000_000, period: Duration::from_secs(1), burst: u32::MAX };
        settings.admission.flow_rate = boundless;
        settings.admission.answer_rate = boundless;
        settings.admission.failures.flow = boundless;
        settings.admission.failures.address = boundless;
        settings.reg.demands.rate = boundless;
        (settings.sip.demands.rate, settings.sip.demands.dialogs) = (boundless, None);
        for demands in &mut settings.cpm.demands {
            (demands.rate, demands.body_max) = (boundless, 8192);
        }
        // Longer than a message by itself may be on UDP, as it always was here.
        settings.cpm.pager_whole = (8192, 8192);
        settings.association.max_per_caller = u32::MAX;
        settings.forward.transactions_max = 1_000_000;
        settings.forward.transactions_of_flow_max = 1_000_000;
        let keys = Arc::new(NafCache::new(CacheBounds::default(), ["bsf.example.net"]));
        let lab = Lab::with_source(settings, Arc::<NafCache>::clone(&keys) as _);
        let ues: Vec<Ue> = (0..UES).map(|number| ue(&lab, number)).collect();
        for Ue { name, btid, .. } in &ues {
            let end = lab.now + Duration::from_secs(30 * 24 * 3600);
            let identities = [format!("sip:{name}@example.net")];
            let identities = identities.each_ref().map(String::as_str);
            let key = lab_key(UE1_PASSWORD, &format!("{name}@ims.example.net"), &identities, end);
            let naf = NafId::new(EDGE, UaId::SIP_DIGEST);
            let btid = Btid::new(btid).expect("a B-TID");
            keys.insert(&btid, &naf, KeyAnswer::Known(Arc::new(key)), lab.now);
        }
        Self { lab, ues, core: Peer::core(), begun: 0, actions: Vec::with_capacity(64) }
    }

    /// The number of the next transaction, and whose it is. It is time for it now, and what was due until then
    /// is done, which belongs to the count.
    pub(crate) fn begin(&mut self, meter: &mut Meter) -> (usize, usize) {
        self.lab.now = self.lab.now + STEP;
        let now = self.lab.now;
        let Self { lab, actions, .. } = self;
        meter.count(|| {
            actions.clear();
            if lab.journey().poll_timeout().is_some_and(|at| at <= now.mono) {
                lab.journey().expire(now);
                drain(lab, actions);
            }
        });
        self.next()
    }

    /// The same without the passing of time.
    pub(crate) fn next(&mut self) -> (usize, usize) {
        self.begun += 1;
        let whose = self.begun % self.ues.len();
        let ue = &mut self.ues[whose];
        if self.lab.now.wall.since(ue.since.wall) > NONCE_USE {
            (ue.signer, ue.since) = (self.lab.signer(&ue.btid, UE1_PASSWORD), self.lab.now);
        }
        (self.begun, whose)
    }

    /// A UE; the one after the last is the first.
    pub(crate) fn ue(&mut self, whose: usize) -> &mut Ue {
        let many = self.ues.len();
        &mut self.ues[whose % many]
    }

    /// The facts about what it sends.
    pub(crate) fn arrival(&self, whose: usize) -> Arrival {
        self.ues[whose % self.ues.len()].peer.arrival()
    }

    /// A UE sends.
    pub(crate) fn ue_sends(&mut self, meter: &mut Meter, whose: usize, text: &str) {
        let arrival = self.arrival(whose);
        self.receive(meter, arrival, octets_of(text));
    }

    /// The core sends.
    pub(crate) fn core_sends(&mut self, meter: &mut Meter, text: &str) {
        let arrival = self.core.arrival();
        self.receive(meter, arrival, octets_of(text));
    }

    /// One datagram in, everything that comes of it out; counted from the octets to the next deadline.
    pub(crate) fn receive(&mut self, meter: &mut Meter, arrival: Arrival, octets: Bytes) {
        let octets = Bytes::copy_from_slice(&octets); // as the socket's side makes them
        let now = self.lab.now;
        let Self { lab, actions, .. } = self;
        meter.count(|| {
            actions.clear();
            lab.journey().datagram(octets, arrival, now);
            drain(lab, actions);
        });
    }

    /// A call up to its ACK: INVITE, 180, 200. What the UE learnt of the callee.
    pub(crate) fn answered_call(
        &mut self,
        meter: &mut Meter,
        number: usize,
        whose: usize,
    ) -> Callee {
        let request = text::invite(self.ue(whose), number);
        self.ue_sends(meter, whose, &request);
        let seen = self.forwarded();
        for status in [180, 200] {
            self.core_sends(meter, &text::response(&seen, status, &text::callee(status)));
            self.forwarded();
        }
        let callee = text::learnt(&self.forwarded());
        let ack = text::inside(self.ue(whose), "ACK", number, &callee);
        self.ue_sends(meter, whose, &ack);
        self.forwarded();
        callee
    }

    /// The latest message that the latest step sent, which was let through.
    pub(crate) fn forwarded(&self) -> String {
        assert_eq!(self.outcome(), Outcome::Forwarded, "{:?}", self.actions);
        String::from_utf8_lossy(self.sent().octets()).into_owned()
    }

    /// The answer that the latest step sent, with its status.
    pub(crate) fn answered(&self, status: u16) -> Message {
        let message = self.sent();
        assert_eq!(message.status(), Some(status), "{:?}", self.actions);
        message
    }

    /// Nothing was said to that.
    pub(crate) fn dropped(&self) {
        assert!(matches!(self.outcome(), Outcome::Dropped(_)), "{:?}", self.actions);
    }

    /// It was refused like that.
    pub(crate) fn refused(&self, refusal: Refusal) {
        assert_eq!(self.outcome(), Outcome::Refused(refusal), "{:?}", self.actions);
    }

    fn sent(&self) -> Message {
        let sent = self.actions.iter().rev().find_map(|action| match action {
            Action::Send(output) => Some(output.octets.clone()),
            _ => None,
        });
        Message::from_datagram(sent.expect("something was sent")).expect("we send messages")
    }

    fn outcome(&self) -> Outcome {
        let decided = self.actions.iter().find_map(|action| match action {
            Action::Decided(decision) => Some(decision.outcome),
            _ => None,
        });
        decided.expect("something was decided")
    }

    /// Lets time pass until nothing but what is to last is left.
    pub(crate) fn settle(&mut self, length: Duration) {
        self.actions.clear();
        self.lab.advance(length);
        self.lab.decisions.clear();
    }
}

fn drain(lab: &mut Lab, actions: &mut Vec<Action>) {
    let journey = lab.journey();
    while let Some(action) = journey.poll_action() {
        actions.push(action);
    }
    std::hint::black_box(journey.poll_timeout());
}

fn ue(lab: &Lab, number: usize) -> Ue {
    let btid = format!("I1U8vpY3qJ0hiuZNrke/{number:02}==@bsf.example.net");
    let address = format!("192.0.2.{}:5060", 10 + number);
    Ue {
        name: format!("ue{number:02}"),
        peer: Peer::udp(&address),
        signer: lab.signer(&btid, UE1_PASSWORD),
        since: lab.now,
        address,
        btid,
    }
}

/// A request of a UE and its 200 from the core; gives the request as the core saw it.
pub(crate) fn round(edge: &mut Edge, meter: &mut Meter, whose: usize, request: &str) -> String {
    edge.ue_sends(meter, whose, request);
    let seen = edge.forwarded();
    edge.core_sends(meter, &text::response(&seen, 200, ""));
    edge.forwarded();
    seen
}
