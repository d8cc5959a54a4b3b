//! Honest phones, one or more of each transport: callers who come and go, and mates who stay and are called.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sipward::client::bootstrap::{Bootstrapped, UbPlan};
use sipward::client::bootstrap_http;
use sipward::client::ue::{Ue, UeError};
use sipward::keys::sqn::SqnWindow;
use sipward::keys::subscribers::{Subscriber, file};
use sipward::keys::usim::Usim;
use sipward::wire::Message;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::ledger::{Kind, Needs, Wrong};
use crate::mob::Overheard;
use crate::world::{BSF, World, address, list};

/// How a phone reaches the edge, and what it proves itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Udp,
    Tcp,
    Tls,
    PskTls,
    Dtls,
    /// A password in the place of a bootstrapped key, over UDP.
    Password,
}

pub(crate) const WAYS: &[Way] =
    &[Way::Udp, Way::Tcp, Way::Tls, Way::PskTls, Way::Dtls, Way::Password];
/// How often something is tried that has to end well some time.
const TRIES: usize = 100;

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::PskTls => "psk-tls",
            Self::Dtls => "dtls",
            Self::Password => "password",
        }
    }
}

/// All of them.
pub(crate) struct Crowd {
    callers: Vec<JoinHandle<()>>,
    mates: Vec<JoinHandle<()>>,
    world: Arc<World>,
}

/// When each mate's latest registration began.
type Mates = Arc<Vec<Mutex<Option<Duration>>>>;

impl Crowd {
    /// A caller and a mate of each of `ways`; the former do something every `each.0`, the latter every `each.1`.
    pub(crate) fn gather(
        runtime: &Runtime,
        world: &Arc<World>,
        ways: &'static [Way],
        each: (Duration, Duration),
    ) -> Self {
        let _inside = runtime.enter();
        let mates: Mates = Arc::new(ways.iter().map(|_| Mutex::default()).collect());
        let phone = |number, way, each| Phone::new(world, number, way, each);
        let own = Arc::clone(&mates);
        let staying = ways.iter().enumerate().map(move |(place, way)| {
            let (phone, own) = (phone(ways.len() + place, *way, each.1), Arc::clone(&own));
            tokio::spawn(phone.stay(own, place))
        });
        let staying: Vec<_> = staying.collect();
        let settled = async {
            let mut pace = interval(Duration::from_millis(20));
            while mates.iter().any(|mate| mate.lock().unwrap().is_none()) {
                assert!(!staying.iter().any(JoinHandle::is_finished), "a mate is gone");
                pace.tick().await;
            }
        };
        runtime.block_on(settled);
        let callers = ways.iter().enumerate().map(|(place, way)| {
            let (phone, mates) = (phone(place, *way, each.0), Arc::clone(&mates));
            tokio::spawn(phone.live(mates, place))
        });
        Self { callers: callers.collect(), mates: staying, world: Arc::clone(world) }
    }

    /// They end what they do, and go: mates last, for somebody may be calling them.
    pub(crate) fn leave(self, runtime: &Runtime) {
        runtime.block_on(async {
            for caller in self.callers {
                caller.await.expect("a caller ended well");
            }
            self.world.nobody_calls.store(true, Ordering::Relaxed);
            for mate in self.mates {
                mate.await.expect("a mate ended well");
            }
        });
    }
}

struct Phone {
    world: Arc<World>,
    number: usize,
    way: Way,
    card: Usim,
    keys: Option<Held>,
    /// The key before: it is still good if nothing comes of the one that was made.
    before: Option<Held>,
    pace: Interval,
}

/// A key, when it was asked for, and whether the edge has it.
#[derive(Clone)]
struct Held {
    keys: Arc<Bootstrapped>,
    since: Duration,
    known: bool,
}

/// What stands, and has to be ended.
enum Open {
    Call(String),
    Subscription(String),
}

/// Makes a key for a subscriber whose card was never used.
pub(crate) async fn key(world: &World, number: usize) -> Result<Arc<Bootstrapped>, Wrong> {
    make(world, number, &mut card(number)).await
}

fn card(number: usize) -> Usim {
    Usim::new(subscriber(number).algorithms.expect("a card"), SqnWindow::default())
}

fn subscriber(number: usize) -> Subscriber {
    file::parse("list", &list()).unwrap().remove(number)
}

async fn make(world: &World, number: usize, card: &mut Usim) -> Result<Arc<Bootstrapped>, Wrong> {
    let plan = UbPlan::new(subscriber(number).impi, BSF);
    let made = bootstrap_http::bootstrap(&plan, world.ub, card, None).await;
    let keys = made.map_err(|why| Wrong::Silence(why.to_string()))?;
    world.made(&keys);
    Ok(Arc::new(keys))
}

/// The answer, if it is one of success.
pub(crate) fn good(answer: Result<Message, UeError>) -> Result<Message, Wrong> {
    let answer = answer.map_err(|why| Wrong::Silence(why.to_string()))?;
    match answer.status() {
        Some(200..=299) => Ok(answer),
        status => Err(Wrong::Status(status.unwrap_or(0))),
    }
}

impl Phone {
    fn new(world: &Arc<World>, number: usize, way: Way, each: Duration) -> Self {
        let mut pace = interval(each);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            world: Arc::clone(world),
            number,
            way,
            card: card(number),
            keys: None,
            before: None,
            pace,
        }
    }

    /// Does one thing at its time.
    async fn act<T>(
        &mut self,
        kind: Kind,
        needs: Needs,
        doing: impl Future<Output = Result<T, Wrong>>,
    ) -> Option<T> {
        self.pace.tick().await;
        self.world.ledger.act(self.way.name(), kind, needs, doing).await
    }

    /// Makes a key.
    async fn bootstrap(&mut self) {
        self.pace.tick().await;
        let since = self.world.ledger.now();
        let doing = make(&self.world, self.number, &mut self.card);
        let needs = Needs { bsf: true, core: false, since: None };
        let made = self.world.ledger.act(self.way.name(), Kind::Bootstrap, needs, doing).await;
        let Some(keys) = made else { return };
        let before = self.keys.replace(Held { keys, since, known: false });
        self.before = before.filter(|held| held.known).or(self.before.take());
    }

    /// Connects, and registers.
    async fn register(&mut self) -> Option<Ue> {
        let held = self.keys.clone();
        let settings =
            self.world.settings(self.number, self.way, held.as_ref().map(|held| &held.keys));
        let fresh = held.as_ref().filter(|held| !held.known);
        let needs = Needs { bsf: fresh.is_some(), core: true, since: fresh.map(|held| held.since) };
        let doing = async {
            let ue = Ue::connect(settings).await.map_err(|why| Wrong::Silence(why.to_string()))?;
            good(ue.register(600).await)?;
            Ok(ue)
        };
        let done = self.act(Kind::Register, needs, doing).await;
        match (&done, &mut self.keys) {
            (Some(_), Some(held)) => held.known = true,
            (None, Some(held)) if !held.known => {
                self.keys = self.before.take().or(Some(held.clone()))
            }
            _ => {}
        }
        done
    }

    /// A key, if one is needed: now and then another.
    async fn prepare(&mut self, round: usize) -> bool {
        if self.way != Way::Password && (self.keys.is_none() || round.is_multiple_of(2)) {
            self.bootstrap().await;
        }
        self.way == Way::Password || self.keys.is_some()
    }

    /// Comes and goes until it is over.
    async fn live(mut self, mates: Mates, place: usize) {
        let mut round = 0;
        while !self.world.over.load(Ordering::Relaxed) {
            if self.prepare(round).await
                && let Some(ue) = self.register().await
            {
                let mate = (place + 1 + round) % mates.len();
                self.talk(&ue, &mates, mate).await;
            }
            round += 1;
        }
    }

    /// One round: what a phone does between coming and going.
    async fn talk(&mut self, ue: &Ue, mates: &Mates, mate: usize) {
        let core = Needs::CORE;
        let echo = "sip:echo@example.net";
        let friend = address(mates.len() + mate);
        let mut open = Vec::new();
        let text = async { good(ue.message(echo, "one two three").await) };
        self.act(Kind::Message, core, text).await;
        let call = async {
            let call = ue.call(echo).await.map_err(|why| Wrong::Silence(why.to_string()))?;
            good(Ok(call.answer)).map(|answer| (call.call_id, answer))
        };
        if let Some((call, answer)) = self.act(Kind::Call, core, call).await {
            *self.world.overheard.lock().unwrap() = Some(Overheard::of(&answer));
            open.push(Open::Call(call));
        }
        let subscription = async { good(ue.subscribe(echo, "presence", 600).await) };
        if let Some(answer) = self.act(Kind::Subscribe, core, subscription).await {
            let call = String::from_utf8_lossy(answer.call_id()).into_owned();
            open.push(Open::Subscription(call));
        }
        let again = async { good(ue.register(600).await) };
        self.act(Kind::Again, core, again).await;
        let since = *mates[mate].lock().unwrap();
        let for_mate = Needs { since, ..core };
        let text = async { good(ue.message(&friend, "four five six").await) };
        self.act(Kind::MateMessage, for_mate, text).await;
        let since = *mates[mate].lock().unwrap();
        let call = async {
            let call = ue.call(&friend).await.map_err(|why| Wrong::Silence(why.to_string()))?;
            good(Ok(call.answer)).map(|_| call.call_id)
        };
        let call = self.act(Kind::MateCall, Needs { since, ..core }, call).await;
        open.extend(call.map(Open::Call));
        for one in open {
            self.end(ue, &one).await;
        }
        self.leave(ue).await;
    }

    /// Ends a call or a subscription, however often it has to be tried.
    async fn end(&mut self, ue: &Ue, open: &Open) {
        let ended = |draft: Result<_, UeError>| async {
            match draft {
                Ok(draft) => good(ue.send(draft).await),
                Err(why) => Err(Wrong::Silence(why.to_string())),
            }
        };
        for _ in 0..TRIES {
            let done = match open {
                Open::Call(call) => {
                    let doing = async { ended(ue.inside(call, "BYE").await).await };
                    self.act(Kind::HangUp, Needs::CORE, doing).await
                }
                Open::Subscription(call) => {
                    let doing = async {
                        let draft = ue.inside(call, "SUBSCRIBE").await;
                        let draft =
                            draft.map(|it| it.with("Event", "presence").with("Expires", "0"));
                        ended(draft).await
                    };
                    self.act(Kind::Unsubscribe, Needs::CORE, doing).await
                }
            };
            if done.is_some() {
                return;
            }
        }
    }

    /// Takes its registration back.
    async fn leave(&mut self, ue: &Ue) {
        for _ in 0..TRIES {
            let doing = async { good(ue.register(0).await) };
            if self.act(Kind::Leave, Needs::CORE, doing).await.is_some() {
                return;
            }
        }
    }

    /// Stays registered until nobody calls any more.
    async fn stay(mut self, mates: Mates, place: usize) {
        let mut round = 0;
        while !self.world.nobody_calls.load(Ordering::Relaxed) {
            let from = self.world.ledger.now();
            let here = self.prepare(round).await;
            round += 1;
            let Some(ue) = (if here { self.register().await } else { None }) else { continue };
            *mates[place].lock().unwrap() = Some(from);
            while !self.world.nobody_calls.load(Ordering::Relaxed) {
                let from = self.world.ledger.now();
                let again = async { good(ue.register(600).await) };
                if self.act(Kind::Again, Needs::CORE, again).await.is_some() {
                    *mates[place].lock().unwrap() = Some(from);
                }
            }
            self.leave(&ue).await;
        }
    }
}
