//! The UE, flows: several ways to one device, each formed again when it fails.
//!
//! 1. Each edge gets a flow of its own, with a reg-id of its own, and a task that keeps it.
//! 2. A flow is connected and registered; while it stands, its pings go and it is registered anew before it lapses.
//! 3. A flow that is over after it has served is formed again at once; else after a while, the longer the more often it
//!    failed, and the shorter if no other flow is left.
//!
//! Takes:   settings for each flow, the name of the instance, for how long to register.
//! Gives:   [`News`] of each flow, and what came in on it.
//! Keeps:   a task for each flow, at most [`FLOWS_MAX`]; at most `QUEUE` news, of which the oldest wait for who reads.
//! Refuses: more flows than that.
//! Sources: RFC 5626 sections 4.2.1, 4.2.2 and 4.5; RFC 3261 section 10.2.4.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::keeping::Recovery;
use super::pushed::Pushed;
use super::ue::{Ue, UeError, UeSettings};
use crate::clock;
use crate::wire::{Message, Name};

/// Most flows of one device: RFC 5626 section 4.2.1 asks for two, and recommends to allow four.
pub const FLOWS_MAX: usize = 4;
const QUEUE: usize = 256;
/// How long the last REGISTER may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// What several flows are made of.
#[derive(Clone)]
pub struct Plan {
    /// What each is made of.
    pub ways: Vec<UeSettings>,
    /// The reg-id of the first; the others follow.
    pub first_id: u32,
    /// The instance, `urn:uuid:...`.
    pub instance: String,
    /// Seconds to register for.
    pub expires: u32,
}

/// Something happened to a flow.
#[derive(Debug)]
pub enum News {
    /// It was registered; whether the registrar applies outbound.
    Registered {
        /// Which flow.
        reg_id: u32,
        /// The status.
        status: u16,
        /// Whether the registrar keeps the flows of this device apart.
        outbound: bool,
    },
    /// It could not be formed, or is over before it has served: when it is tried again.
    Waits {
        /// Which flow.
        reg_id: u32,
        /// The status that refused it, if one did.
        status: Option<u16>,
        /// Why.
        why: String,
        /// How long.
        wait: Duration,
    },
    /// It is over, and formed again at once.
    Lost {
        /// Which flow.
        reg_id: u32,
    },
    /// A request came on it, and was answered.
    Incoming {
        /// Which flow.
        reg_id: u32,
        /// The request.
        message: Box<Message>,
    },
}

/// Several flows that stay.
#[derive(Debug)]
pub struct Flows {
    news: mpsc::Receiver<News>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Flows {
    /// Forms them, each in a task of its own.
    ///
    /// # Errors
    ///
    /// A text, if there are none, or more than [`FLOWS_MAX`].
    pub fn start(plan: Plan) -> Result<Self, String> {
        Self::start_with(plan, None)
    }

    /// The same; what is pushed on any of them is taken with `pushed`.
    ///
    /// # Errors
    ///
    /// As [`Flows::start`].
    pub fn start_with(plan: Plan, pushed: Option<Arc<Pushed>>) -> Result<Self, String> {
        if plan.ways.is_empty() || plan.ways.len() > FLOWS_MAX {
            return Err(format!("a device has 1 to {FLOWS_MAX} flows"));
        }
        let (tell, news) = mpsc::channel(QUEUE);
        let (stop, stopped) = watch::channel(false);
        let standing = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for (reg_id, settings) in (plan.first_id..).zip(plan.ways) {
            let flow = FlowTask {
                settings,
                instance: plan.instance.clone(),
                reg_id,
                expires: plan.expires,
                tell: tell.clone(),
                standing: Arc::clone(&standing),
                pushed: pushed.clone(),
            };
            tasks.spawn(flow.run(stopped.clone()));
        }
        Ok(Self { news, stop, tasks })
    }

    /// What happens next; `None` once all of them have ended.
    pub async fn news(&mut self) -> Option<News> {
        self.news.recv().await
    }

    /// Takes all registrations away, and ends the flows.
    pub async fn stop(mut self) {
        // Whoever does not look any more has ended already.
        let _ = self.stop.send(true);
        self.news.close();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// One flow.
struct FlowTask {
    settings: UeSettings,
    instance: String,
    reg_id: u32,
    expires: u32,
    tell: mpsc::Sender<News>,
    /// How many flows stand.
    standing: Arc<AtomicUsize>,
    pushed: Option<Arc<Pushed>>,
}

/// How a flow ended.
enum End {
    /// It is to.
    Stopped,
    /// It was lost, and had served or not.
    Lost(bool),
    /// It was not formed.
    Failed { status: Option<u16>, why: String, at_least: Duration },
}

impl FlowTask {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut recovery = Recovery::new(clock::random());
        let reg_id = self.reg_id;
        loop {
            let (status, why, at_least) = match self.once(&mut stopped).await {
                End::Stopped => return,
                End::Lost(true) => {
                    recovery.served();
                    self.say(News::Lost { reg_id }).await;
                    continue;
                }
                End::Lost(false) => {
                    (None, "it was lost before it had served".into(), Duration::ZERO)
                }
                End::Failed { status, why, at_least } => (status, why, at_least),
            };
            let others = self.standing.load(Ordering::Relaxed) > 0;
            let wait = recovery.failed(others).max(at_least);
            self.say(News::Waits { reg_id, status, why, wait }).await;
            tokio::select! {
                () = sleep(wait) => {}
                () = asked(&mut stopped) => return,
            }
        }
    }

    /// Forms the flow, and keeps it until it ends.
    async fn once(&self, stopped: &mut watch::Receiver<bool>) -> End {
        let formed = tokio::select! {
            formed = self.form() => formed,
            () = asked(stopped) => return End::Stopped,
        };
        let (ue, granted) = match formed {
            Ok(formed) => formed,
            Err(end) => return end,
        };
        self.standing.fetch_add(1, Ordering::Relaxed);
        let end = tokio::select! {
            end = self.keep(&ue, granted) => end,
            () = asked(stopped) => {
                // Whether it is heard or not, the flow ends.
                let last = ue.register_flow(&self.instance, self.reg_id, 0);
                let _ = timeout(FAREWELL, last).await;
                End::Stopped
            }
        };
        self.standing.fetch_sub(1, Ordering::Relaxed);
        end
    }

    async fn form(&self) -> Result<(Ue, Duration), End> {
        let ue = Ue::connect_with(self.settings.clone(), self.pushed.clone()).await;
        let ue = ue.map_err(|why| failed(&why))?;
        let granted = self.register(&ue).await?;
        Ok((ue, granted))
    }

    /// Registers; gives how long that holds.
    async fn register(&self, ue: &Ue) -> Result<Duration, End> {
        let answer = ue.register_flow(&self.instance, self.reg_id, self.expires).await;
        let answer = answer.map_err(|why| failed(&why))?;
        let status = answer.status().unwrap_or(0);
        if !(200..300).contains(&status) {
            let why = format!("{status} {}", crate::wire::respond::reason(status));
            let at_least = Duration::from_secs(u64::from(answer.retry_after().unwrap_or(0)));
            return Err(End::Failed { status: Some(status), why, at_least });
        }
        let outbound = answer.has_option(Name::Require, "outbound");
        self.say(News::Registered { reg_id: self.reg_id, status, outbound }).await;
        Ok(self.granted(&answer))
    }

    /// How long the registration of this flow holds.
    fn granted(&self, answer: &Message) -> Duration {
        let contact = format!(
            "Contact: <sip:x>;reg-id={};+sip.instance=\"<{}>\"",
            self.reg_id, self.instance
        );
        let text = format!("REGISTER sip:x SIP/2.0\r\n{contact}\r\n\r\n");
        let granted = Message::from_datagram(text.into())
            .map(|register| crate::wire::device::granted(answer, &register));
        granted.ok().filter(|it| !it.is_zero()).unwrap_or(Duration::from_secs(self.expires.into()))
    }

    /// Registers anew before it lapses, and tells what comes in, until the flow is over.
    async fn keep(&self, ue: &Ue, mut granted: Duration) -> End {
        loop {
            let again = Instant::now().checked_add(granted.mul_f64(REFRESH_AT));
            let again = again.unwrap_or_else(Instant::now);
            loop {
                tokio::select! {
                    () = ue.over() => return End::Lost(ue.has_served()),
                    () = sleep_until(again) => break,
                    Some(message) = ue.incoming(granted) => {
                        let message = Box::new(message);
                        self.say(News::Incoming { reg_id: self.reg_id, message }).await;
                    }
                }
            }
            match self.register(ue).await {
                Ok(anew) => granted = anew,
                // RFC 5626 section 4.2.2: what may pass does not tear the flow down.
                Err(End::Failed { status: Some(503 | 500 | 408 | 480), at_least, .. }) => {
                    granted = at_least.max(RETRY);
                }
                Err(end) => return end,
            }
        }
    }

    async fn say(&self, news: News) {
        // Nobody has to listen.
        let _ = self.tell.send(news).await;
    }
}

/// Waits until it is asked to stop, or nobody can ask any more.
async fn asked(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The part of the time granted after which it is asked for again.
const REFRESH_AT: f64 = 0.8;
/// How soon it is asked again for what was refused for the moment.
const RETRY: Duration = Duration::from_secs(10);

fn failed(why: &UeError) -> End {
    End::Failed { status: None, why: why.to_string(), at_least: Duration::ZERO }
}
