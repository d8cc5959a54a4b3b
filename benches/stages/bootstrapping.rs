//! Bootstrapping from a sealed store: what the server does for a whole run on Ub, among few subscribers and among as many
//! as there may be.
//!
//! A run is what a UE without a key does: a GET, its challenge, a GET with the response, the 200 with the B-TID; the
//! subscriber is looked up for both. Each run is another subscriber's. What the card does is not counted, nor is HTTP, TLS
//! or the writing of the session: they cost the same among few and among many.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use sipward::admission::rate::Rate;
use sipward::client::bootstrap::{Bootstrap, UbGet, UbNext, UbPlan, UbReply};
use sipward::instant::{Instant, Now, WallTime};
use sipward::keys::bootstrap::{Bsf, BsfConfig, Fresh, UbAnswer, UbOutcome, UbRequest};
use sipward::keys::milenage::Milenage;
use sipward::keys::sqn::SqnWindow;
use sipward::keys::usim::Usim;
use sipward::keys::vector::Algorithms;

use crate::meter::Meter;
use crate::store::{Folder, K, MANY, STEP, impi, opc};
use crate::{Bench, Run};

/// Runs in one count.
const RUNS: usize = 250;
const BSF: &str = "bsf.example.net";

pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "store/bootstrapping-among-1000",
        about: "what a whole run on Ub costs the server, a thousand subscribers being in the store",
        before: 4,
        runs: 2,
        start: || bootstrapping(1000),
    },
    Bench {
        name: "store/bootstrapping-among-1000000",
        about: "the same among a million, which is the most",
        before: 4,
        runs: 2,
        start: || bootstrapping(MANY),
    },
];

fn bootstrapping(many: usize) -> Run {
    let folder = Folder::new(many);
    // All runs come from one source.
    let source_rate = Rate { count: u32::MAX, period: Duration::from_secs(1), burst: u32::MAX };
    let config = BsfConfig { source_rate, ..BsfConfig::new(BSF) };
    let roll = Arc::new(folder.open());
    let bsf = Bsf::with_roll(config, roll, Vec::new(), [7; 32]).expect("a configuration");
    let mut server = Server { bsf, number: 0, seconds: 1_800_000_000 };
    Box::new(move |meter| {
        let _ = &folder;
        // Each name is challenged ten times a minute at most.
        server.seconds += 60;
        (0..RUNS).for_each(|_| server.bootstrap(many, meter));
        RUNS as u64
    })
}

struct Server {
    bsf: Bsf,
    /// Of the next run.
    number: usize,
    seconds: u64,
}

impl Server {
    fn now(&self) -> Now {
        Now {
            mono: Instant::START + Duration::from_secs(self.seconds),
            wall: WallTime::from_unix(self.seconds),
        }
    }

    /// A run by a card that knows no number yet.
    fn bootstrap(&mut self, many: usize, meter: &mut Meter) {
        let number = self.number * STEP % many;
        self.number += 1;
        let algorithms = Algorithms::Milenage(Milenage::with_opc(&K, &opc(number)));
        let mut card = Usim::new(algorithms, SqnWindow::default());
        let plan = UbPlan::new(impi(number), BSF);
        let mut run = Bootstrap::new(&plan, &mut card, None);
        let first = run.start();
        let challenge = self.answer(&first, meter);
        assert_eq!(challenge.outcome, UbOutcome::Challenged);
        let second = match run.handle(&reply(&challenge, &rows(&challenge)), [9; 16], self.now()) {
            Ok(UbNext::Get(second)) => second,
            other => panic!("a response, not {other:?}"),
        };
        let answer = self.answer(&second, meter);
        assert_eq!(answer.outcome, UbOutcome::Bootstrapped);
    }

    /// What is counted.
    fn answer(&mut self, get: &UbGet, meter: &mut Meter) -> UbAnswer {
        let mut fresh = Fresh { rand: [1; 16], opaque: [2; 16] };
        fresh.rand[..8].copy_from_slice(&self.number.to_be_bytes());
        // A challenge is drawn once; that of the second request is not used.
        let request = UbRequest {
            method: "GET",
            target: &get.target,
            authorization: &[get.authorization.as_bytes()],
            user_agent: Some(get.user_agent.as_bytes()),
            has_body: false,
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            exported: None,
        };
        let now = self.now();
        meter.count(|| self.bsf.answer(&request, &fresh, now))
    }
}

fn rows(answer: &UbAnswer) -> Vec<&[u8]> {
    let rows = answer.headers.iter().filter(|(name, _)| *name == "WWW-Authenticate");
    rows.map(|(_, value)| value.as_bytes()).collect()
}

fn reply<'a>(answer: &'a UbAnswer, challenges: &'a [&'a [u8]]) -> UbReply<'a> {
    UbReply {
        status: answer.status,
        challenges,
        authentication_info: answer.header("Authentication-Info").map(str::as_bytes),
        server: answer.header("Server").map(str::as_bytes),
        body: &answer.body,
    }
}
