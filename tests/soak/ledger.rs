//! What each phone did, when, what it came to, and what was away meanwhile.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a phone does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Bootstrap,
    Register,
    Again,
    Message,
    Subscribe,
    Unsubscribe,
    Call,
    HangUp,
    /// To somebody who is registered on another transport.
    MateMessage,
    MateCall,
    Leave,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Bootstrap,
        Self::Register,
        Self::Again,
        Self::Message,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Call,
        Self::HangUp,
        Self::MateMessage,
        Self::MateCall,
        Self::Leave,
    ];

    fn is_for_mate(self) -> bool {
        matches!(self, Self::MateMessage | Self::MateCall)
    }
}

/// What has to be there for an act to end well, and since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// The bootstrapping server: a key is made, or not known to the edge yet.
    pub(crate) bsf: bool,
    pub(crate) core: bool,
    /// When what it rests on began, if that was before the act itself: the key, or that somebody else registered.
    pub(crate) since: Option<Duration>,
}

impl Needs {
    pub(crate) const CORE: Self = Self { bsf: false, core: true, since: None };
}

/// How an act went wrong.
#[derive(Clone, Debug)]
pub(crate) enum Wrong {
    Status(u16),
    /// No usable answer.
    Silence(String),
}

struct Act {
    way: &'static str,
    kind: Kind,
    needs: Needs,
    from: Duration,
    until: Duration,
    wrong: Option<Wrong>,
}

/// What happens to the world. Only an absence explains anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Reloaded,
    Renewed,
    BsfAway,
    CoreAway,
}

/// When.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) event: Event,
    from: Duration,
    /// Not yet, while there is none.
    until: Option<Duration>,
}

impl Window {
    fn overlaps(&self, act: &Act) -> bool {
        let from = act.needs.since.map_or(act.from, |since| since.min(act.from));
        from <= self.until.unwrap_or(Duration::MAX) && act.until >= self.from
    }

    /// Whether an act that overlaps it may have gone wrong so.
    fn explains(&self, act: &Act, wrong: &Wrong) -> bool {
        match (self.event, wrong) {
            (Event::Reloaded | Event::Renewed, _) => false,
            (Event::BsfAway, _) if act.kind == Kind::Bootstrap => true,
            // A session that was lost with the server is unknown afterwards.
            (Event::BsfAway, Wrong::Status(status)) => act.needs.bsf && matches!(status, 407 | 503),
            (Event::BsfAway, Wrong::Silence(_)) => act.needs.bsf,
            (Event::CoreAway, Wrong::Status(404)) => act.needs.core && act.kind.is_for_mate(),
            (Event::CoreAway, Wrong::Status(status)) => {
                act.needs.core && matches!(status, 408 | 500..=599)
            }
            (Event::CoreAway, Wrong::Silence(why)) => act.needs.core && why == "no answer",
        }
    }
}

/// All of it.
pub(crate) struct Ledger {
    began: Instant,
    acts: Mutex<Vec<Act>>,
    windows: Mutex<Vec<Window>>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), acts: Mutex::default(), windows: Mutex::default() }
    }

    /// Since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Does something, and writes down what it came to.
    pub(crate) async fn act<T>(
        &self,
        way: &'static str,
        kind: Kind,
        needs: Needs,
        doing: impl Future<Output = Result<T, Wrong>>,
    ) -> Option<T> {
        let from = self.now();
        let (done, wrong) = match doing.await {
            Ok(done) => (Some(done), None),
            Err(wrong) => (None, Some(wrong)),
        };
        let act = Act { way, kind, needs, from, until: self.now(), wrong };
        self.acts.lock().unwrap().push(act);
        done
    }

    /// Something goes, or happens; the number is for [`Ledger::ends`].
    pub(crate) fn begins(&self, event: Event) -> usize {
        let mut windows = self.windows.lock().unwrap();
        windows.push(Window { event, from: self.now(), until: None });
        windows.len() - 1
    }

    /// It is there again, or has happened.
    pub(crate) fn ends(&self, number: usize) {
        self.windows.lock().unwrap()[number].until = Some(self.now());
    }

    pub(crate) fn windows(&self) -> Vec<Window> {
        self.windows.lock().unwrap().clone()
    }

    /// Failures that nothing explains.
    pub(crate) fn unexplained(&self) -> Vec<String> {
        let (acts, windows) = (self.acts.lock().unwrap(), self.windows());
        let explained = |act: &Act, wrong: &Wrong| {
            windows.iter().any(|window| window.overlaps(act) && window.explains(act, wrong))
        };
        let strange = acts.iter().filter_map(|act| {
            let wrong = act.wrong.as_ref().filter(|wrong| !explained(act, wrong))?;
            let (from, until) = (act.from, act.until);
            Some(format!("{:?} over {} from {from:?} to {until:?}: {wrong:?}", act.kind, act.way))
        });
        strange.collect()
    }

    /// What has to have gone well somewhere, and never did: each kind of act on each transport, and with a key that the
    /// edge knows while the bootstrapping server is away.
    pub(crate) fn missing(&self) -> Vec<String> {
        let (acts, windows) = (self.acts.lock().unwrap(), self.windows());
        let good = || acts.iter().filter(|act| act.wrong.is_none());
        let ways = acts.iter().map(|act| act.way).collect::<std::collections::BTreeSet<_>>();
        let mut missing = Vec::new();
        for kind in Kind::ALL {
            for way in &ways {
                // Who has a password makes no key.
                let made = kind != Kind::Bootstrap || *way != "password";
                if made && !good().any(|act| act.kind == kind && act.way == *way) {
                    missing.push(format!("no {kind:?} over {way} went well"));
                }
            }
        }
        let away = |act: &Act| {
            let away = |window: &&Window| window.event == Event::BsfAway;
            windows.iter().filter(away).any(|window| window.overlaps(act))
        };
        for kind in [Kind::Register, Kind::Call, Kind::MateCall] {
            if !good().any(|act| act.kind == kind && !act.needs.bsf && away(act)) {
                missing.push(format!("no {kind:?} by a known key without its server"));
            }
        }
        missing
    }

    /// The whole as a table: good and failed for each kind and transport.
    pub(crate) fn table(&self) -> Vec<String> {
        let acts = self.acts.lock().unwrap();
        let mut rows: BTreeMap<Kind, BTreeMap<&str, (usize, usize)>> = BTreeMap::new();
        for act in acts.iter() {
            let cell = rows.entry(act.kind).or_default().entry(act.way).or_default();
            *(if act.wrong.is_none() { &mut cell.0 } else { &mut cell.1 }) += 1;
        }
        let ways: Vec<&str> = acts
            .iter()
            .map(|act| act.way)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        let cells = |of: &dyn Fn(&str) -> String| {
            ways.iter().map(|way| format!("{:>12}", of(way))).collect::<String>()
        };
        let mut lines = vec![format!("{:<12}{}", "GOOD/FAILED", cells(&|way| way.to_owned()))];
        for (kind, row) in &rows {
            let shown = |way: &str| {
                let (good, failed) = row.get(way).copied().unwrap_or_default();
                format!("{good}/{failed}")
            };
            lines.push(format!("{:<12}{}", format!("{kind:?}"), cells(&shown)));
        }
        for window in self.windows() {
            let until = window.until.map_or("the end".to_owned(), |until| format!("{until:.1?}"));
            lines.push(format!("{:?} from {:.1?} to {until}", window.event, window.from));
        }
        lines
    }
}
