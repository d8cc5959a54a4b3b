//! The audit, what a case has in hand: the target's door, users of it, and strangers.
//!
//! Takes:   the plan, and which door a case is tried at.
//! Gives:   [`Probe`]: lines, registered users, whether the target still answers.
//! Keeps:   users that are registered, for [`STAYS`], so that a target's limit of registrations is not met by the audit itself.
//! Refuses: a case that needs more than there is: it is not applicable, and says why.
//! Sources: none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::case::{Finding, not_applicable};
use super::exchange::Log;
use super::line::{Line, Pace};
use super::plan::{Account, Door, Plan};
use super::user::User;
use crate::transport::Transport;

/// How long a registered user is used again.
const STAYS: Duration = Duration::from_secs(240);
/// For how long users register, in seconds.
const EXPIRES: u32 = 600;
/// How many times the usual patience a target is given to show that it is still there.
const ALIVE: u32 = 5;

/// A user that stays registered.
struct Resting {
    transport: Transport,
    index: usize,
    until: Instant,
    user: User,
}

/// What all cases share.
pub struct Stage {
    /// What is to be done.
    pub plan: Plan,
    /// Where the case under way writes.
    pub log: Log,
    pace: Arc<Pace>,
    resting: Mutex<Vec<Resting>>,
}

impl Stage {
    /// For a plan.
    pub fn new(plan: Plan) -> Self {
        let pace = Arc::new(Pace::new(plan.rate));
        Self { plan, log: Log::default(), pace, resting: Mutex::default() }
    }
}

/// What a case has in hand.
pub struct Probe {
    /// What all cases share.
    pub stage: Rc<Stage>,
    /// Where it is tried.
    pub door: Door,
    /// What the target answers to a good OPTIONS there.
    pub usual: Option<u16>,
}

impl Probe {
    /// What is to be done.
    pub fn plan(&self) -> &Plan {
        &self.stage.plan
    }

    /// How long an answer is waited for.
    pub fn patience(&self) -> Duration {
        self.stage.plan.patience
    }

    /// A line to the door, played by `who`.
    ///
    /// # Errors
    ///
    /// There is no connection: the case cannot be tried.
    pub async fn line(&self, who: &str) -> Result<Line, Finding> {
        self.line_to(self.door, who).await
    }

    /// A line to another door.
    ///
    /// # Errors
    ///
    /// As [`Probe::line`].
    pub async fn line_to(&self, door: Door, who: &str) -> Result<Line, Finding> {
        self.line_from(door, None, who).await
    }

    /// A second address of ours, which the target can tell from the usual one; a loopback alone has more than one for sure.
    pub fn elsewhere(&self) -> Option<IpAddr> {
        const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 7, 7));
        let ip = self.door.address.ip();
        (ip.is_loopback() && ip.is_ipv4()).then_some(OTHER)
    }

    /// The same, from an address of ours, for UDP and TCP.
    ///
    /// # Errors
    ///
    /// As [`Probe::line`].
    pub async fn line_from(
        &self,
        door: Door,
        from: Option<SocketAddr>,
        who: &str,
    ) -> Result<Line, Finding> {
        let Stage { plan, log, pace, .. } = &*self.stage;
        Line::open(plan, door, from, who, log, pace).await.map_err(|why| {
            not_applicable(format!("no connection over {}: {why}", door.transport.uri_token()))
        })
    }

    /// Somebody whom the target does not know, on a line of his own.
    ///
    /// # Errors
    ///
    /// As [`Probe::line`].
    pub async fn stranger(&self) -> Result<User, Finding> {
        Ok(User::new(self.plan(), self.line("stranger").await?, None))
    }

    /// An account.
    ///
    /// # Errors
    ///
    /// There are not so many.
    pub fn account(&self, index: usize) -> Result<&Account, Finding> {
        self.plan().accounts.get(index).ok_or_else(|| not_applicable("no such account was given"))
    }

    /// A user with an account, registered; [`Probe::keep`] makes it one for the cases to come.
    ///
    /// # Errors
    ///
    /// It could not be registered: the case cannot be tried.
    pub async fn user(&self, index: usize) -> Result<User, Finding> {
        let account = self.account(index)?;
        let transport = self.door.transport;
        let mut resting = self.stage.resting.lock().await;
        resting.retain(|rests| rests.until > Instant::now());
        let place = resting.iter().position(|r| r.transport == transport && r.index == index);
        if let Some(rests) = place.map(|place| resting.swap_remove(place)) {
            return Ok(rests.user);
        }
        drop(resting);
        let mut user = User::new(self.plan(), self.line(account.user()).await?, Some(account));
        let draft = user.registration(&account.identity, EXPIRES);
        match user.ask_patiently(draft).await.and_then(|answer| answer.status()) {
            Some(200..=299) => Ok(user),
            Some(status) => {
                let who = account.user();
                Err(not_applicable(format!("{who} cannot register: {status}")))
            }
            None => Err(not_applicable(format!("{} got no answer to REGISTER", account.user()))),
        }
    }

    /// The user stays registered for the next case that needs one.
    pub async fn keep(&self, index: usize, mut user: User) {
        user.forget();
        let (transport, until) = (self.door.transport, Instant::now() + STAYS);
        self.stage.resting.lock().await.push(Resting { transport, index, until, user });
    }

    /// Nobody who rests is used again: where they are to be found may have been changed.
    pub async fn unsettle(&self) {
        self.stage.resting.lock().await.clear();
    }

    /// Whether the target answers a good request at this door.
    pub async fn answers(&self) -> Option<u16> {
        let mut stranger = self.stranger().await.ok()?;
        let uri = format!("sip:{}", self.plan().domain);
        let draft = stranger.draft("OPTIONS", &uri);
        let (octets, branch) = stranger.print(&draft);
        for _ in 0..ALIVE {
            if let Some(answer) = stranger.exchange(&octets, &branch).await {
                return answer.status();
            }
        }
        None
    }
}
