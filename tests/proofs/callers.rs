//! Phones that call without a pause, and whose every call has to succeed. A call that the edge puts off because it has no time
//! is made again after as long as the edge says; however slow a machine is, nothing else may be said to it.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sipward::client::ue::{Trace, Ue, UeError, UeSettings};
use sipward::wire::Message;

use crate::home::wait;
use crate::programs::{metric, metrics};

/// How many phones call at once, if `SEC_003_PHONES` does not say: programs that are not optimized have time for few. 24 make
/// more than the 200 calls a second of the proof where they are.
const PHONES: usize = 6;
/// How often in a row one call may be put off while nobody gets through.
const PUT_OFF_MAX: usize = 8;
/// For what else the edge says 503.
const OTHERS: [&str; 3] = ["KeySourceUnavailable", "TableFull", "TransactionsFull"];

/// For how long the edge puts off what it answers so, if it does (RFC 3261 section 21.5.4).
pub(crate) fn put_off(answer: &Message) -> Option<Duration> {
    let seconds = answer.retry_after().filter(|_| answer.status() == Some(503))?;
    Some(Duration::from_secs(seconds.into()))
}

/// What a phone sent and was told since its call began, line by line: a failure shows it.
#[derive(Clone)]
struct Ladder {
    began: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Ladder {
    fn note(&self, line: impl Display) {
        let at = self.began.elapsed().as_secs_f64();
        self.lines.lock().unwrap().push(format!("{at:9.3} s {line}"));
    }

    fn clear(&self) {
        self.lines.lock().unwrap().clear();
    }

    /// Of the phone of these settings.
    fn of(&self, settings: UeSettings) -> UeSettings {
        let own = self.clone();
        let trace: Trace = Arc::new(move |sent, octets| {
            let text = String::from_utf8_lossy(octets);
            let mut lines = text.split("\r\n");
            let first = lines.next().unwrap_or_default();
            let told = ["Call-ID:", "CSeq:", "Retry-After:", "Reason:", "Warning:"];
            let told = lines.filter(|line| told.iter().any(|name| line.starts_with(name)));
            let told: Vec<&str> = told.collect();
            own.note(format!("{} {first} | {}", if sent { "->" } else { "<-" }, told.join(" | ")));
        });
        UeSettings { trace: Some(trace), ..settings }
    }

    /// What failed, and all that led there.
    fn failed(&self, what: &str, why: impl Display) -> String {
        self.note(format!("{what}: {why}"));
        format!("{what}: {why}\n{}", self.lines.lock().unwrap().join("\n"))
    }
}

/// What all phones have done.
#[derive(Default)]
struct Tally {
    ends: AtomicBool,
    done: AtomicUsize,
    put_off: AtomicUsize,
}

/// Calls and hangs up, again and again, over one connection or over a new one each time; what failed, if anything.
async fn call(
    settings: UeSettings,
    anew: bool,
    tally: &Tally,
    news: &Sender<bool>,
    ladder: Ladder,
) -> Result<(), String> {
    let settings = ladder.of(settings);
    let failed = |what, why: UeError| ladder.failed(what, why);
    let mut ue = Ue::connect(settings.clone()).await.map_err(|why| failed("connecting", why))?;
    // How often the call was put off, and how many had succeeded when it was last.
    let mut waits = (0, 0);
    while waits.0 > 0 || !tally.ends.load(Ordering::Relaxed) {
        if waits.0 == 0 {
            ladder.clear();
        }
        if anew {
            ladder.note("connecting");
            ue = Ue::connect(settings.clone()).await.map_err(|why| failed("connecting", why))?;
        }
        ladder.note("calling");
        let call = ue.call("sip:core@example.net").await.map_err(|why| failed("INVITE", why))?;
        if let Some(wait) = put_off(&call.answer) {
            let done = tally.done.load(Ordering::Relaxed);
            waits = (if done > waits.1 { 1 } else { waits.0 + 1 }, done);
            if waits.0 > PUT_OFF_MAX {
                return Err(ladder.failed("INVITE", "put off, and nobody gets through"));
            }
            tally.put_off.fetch_add(1, Ordering::Relaxed);
            let _ = ue.incoming(wait).await;
            continue;
        }
        let status = call.answer.status();
        if status != Some(200) {
            return Err(ladder.failed("INVITE", format!("{status:?}")));
        }
        let ended = ue.hang_up(&call.call_id).await.map_err(|why| failed("BYE", why))?;
        if ended.status() != Some(200) {
            return Err(ladder.failed("BYE", format!("{:?}", ended.status())));
        }
        tally.done.fetch_add(1, Ordering::Relaxed);
        let _ = news.send(true);
        waits = (0, 0);
    }
    Ok(())
}

/// Phones that call.
pub(crate) struct Load {
    phones: Vec<JoinHandle<Result<(), String>>>,
    tally: Arc<Tally>,
    /// Of each call that succeeded, and of each phone that failed.
    news: Receiver<bool>,
    began: Instant,
    page: SocketAddr,
}

impl Load {
    /// Phones of these settings begin; `page` is where the edge tells what it refused.
    pub(crate) fn start(settings: UeSettings, page: SocketAddr) -> Self {
        let (tally, began) = (Arc::<Tally>::default(), Instant::now());
        let (tell, news) = channel();
        let phones = std::env::var("SEC_003_PHONES").ok().and_then(|phones| phones.parse().ok());
        // One of six opens a connection for each call.
        let phones = (0..phones.unwrap_or(PHONES)).map(|phone| phone % 6 == 5).map(|anew| {
            let (settings, tally, tell) = (settings.clone(), Arc::clone(&tally), tell.clone());
            let ladder = Ladder { began, lines: Arc::default() };
            thread::spawn(move || {
                let done = wait(call(settings, anew, &tally, &tell, ladder));
                done.inspect_err(|_| {
                    let _ = tell.send(false);
                })
            })
        });
        Self { phones: phones.collect(), tally, news, began, page }
    }

    /// Until there were more calls, however long they take; or one has failed, which [`Load::end`] tells.
    pub(crate) fn go_on(&self) {
        self.news.try_iter().for_each(drop);
        let has_failed = || self.phones.iter().any(JoinHandle::is_finished);
        let mut more = 0;
        while more <= 30 && !has_failed() && self.news.recv() == Ok(true) {
            more += 1;
        }
    }

    /// Each of them succeeded, and what was put off was so for want of time alone. How many there were a second is printed, for
    /// who asks.
    #[allow(clippy::print_stdout, reason = "a figure that no test may judge")]
    pub(crate) fn end(self) {
        self.tally.ends.store(true, Ordering::Relaxed);
        let done = self.tally.done.load(Ordering::Relaxed);
        let time = self.began.elapsed();
        let ended = self.phones.into_iter().map(|phone| phone.join().unwrap());
        let failures: Vec<String> = ended.filter_map(Result::err).collect();
        let refused = metrics(self.page);
        let refused = refused.lines().filter(|row| row.starts_with("sipward_refusals_total{"));
        let refused: Vec<&str> = refused.filter(|row| !row.ends_with(" 0")).collect();
        assert!(
            failures.is_empty(),
            "after {done} calls in {time:?}, {} phones failed:\n{}\nthe edge refused:\n{}",
            failures.len(),
            failures.join("\n"),
            refused.join("\n"),
        );
        for other in OTHERS {
            let row = format!("sipward_refusals_total{{refusal=\"{other}\"}}");
            assert_eq!(metric(self.page, &row), 0, "the edge refused:\n{}", refused.join("\n"));
        }
        let put_off = self.tally.put_off.load(Ordering::Relaxed);
        let rate = done as f64 / time.as_secs_f64();
        println!("{done} calls, {rate:.0} a second; {put_off} were put off for a while");
    }
}
