//! SIPp: a scenario, credentials, a number of calls; and what became of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::loopback;
use crate::peer::{Folder, Peer, find};

/// What SIPp speaks over: one socket for all calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Udp,
    Tcp,
}

/// A run that is being prepared.
pub(crate) struct Sipp {
    name: String,
    folder: Folder,
    source: [String; 2],
    remote: Option<SocketAddr>,
    local: SocketAddr,
    carrier: Carrier,
    limit: Duration,
    options: Vec<String>,
}

/// A run that goes on beside the test.
pub(crate) struct Running {
    peer: Peer,
    folder: Folder,
    limit: Duration,
}

/// What became of the calls.
#[derive(Debug)]
#[expect(dead_code, reason = "the unread fields are what a failed assertion prints")]
pub(crate) struct Report {
    /// Calls that went as the scenario says.
    pub(crate) good: u64,
    /// Calls that did not.
    pub(crate) failed: u64,
    /// The exit code, if it ended by itself.
    pub(crate) exit: Option<i32>,
    /// What SIPp wrote about unexpected messages.
    pub(crate) errors: String,
    /// Every message sent and received, if [`Sipp::traced`].
    pub(crate) messages: String,
    /// Standard error.
    pub(crate) said: String,
}

impl Sipp {
    /// A scenario of `sip-fixtures/sipp`, by its name without `.xml`.
    pub(crate) fn new(scenario: &str) -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = top.join(format!("sip-fixtures/sipp/{scenario}.xml"));
        assert!(file.is_file(), "there is no scenario {}", file.display());
        Self::prepare(scenario, "-sf", file)
    }

    /// The same, if it is challenged with another code than 407.
    pub(crate) fn challenged(mut self, status: u16) -> Self {
        let text = std::fs::read_to_string(&self.source[1]).expect("a scenario");
        let text = text.replace("response=\"407\"", &format!("response=\"{status}\""));
        self.source[1] = self.folder.write("challenged.xml", &text).display().to_string();
        self
    }

    /// One of SIPp's own: `uac`, `uas`.
    pub(crate) fn builtin(name: &str) -> Self {
        Self::prepare(name, "-sn", name.into())
    }

    /// A scenario that stands in the test itself.
    pub(crate) fn inline(name: &str, xml: &str) -> Self {
        let mut run = Self::prepare(name, "-sf", PathBuf::new());
        let head = "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n";
        let file = run.folder.write("scenario.xml", &format!("{head}{xml}\n"));
        run.source[1] = file.display().to_string();
        run
    }

    fn prepare(name: &str, option: &str, file: PathBuf) -> Self {
        Self {
            name: format!("sipp {name}"),
            folder: Folder::new(&format!("sipp-{name}")),
            source: [option.to_owned(), file.display().to_string()],
            remote: None,
            local: SocketAddr::new(loopback::address(), 5060),
            carrier: Carrier::Udp,
            limit: Duration::from_secs(90),
            options: Vec::new(),
        }
    }

    /// Where its requests go.
    pub(crate) fn to(mut self, remote: SocketAddr) -> Self {
        self.remote = Some(remote);
        self
    }

    /// Where it speaks from; otherwise an address of its own.
    pub(crate) fn from(mut self, local: SocketAddr) -> Self {
        self.local = local;
        self
    }

    /// UDP unless told.
    pub(crate) fn carrier(mut self, carrier: Carrier) -> Self {
        self.carrier = carrier;
        self
    }

    /// How many calls; without it the scenario goes on until it is stopped.
    pub(crate) fn calls(self, calls: u32) -> Self {
        self.option("-m", &calls.to_string())
    }

    /// Calls begun in a second.
    pub(crate) fn rate(self, rate: u32) -> Self {
        self.option("-r", &rate.to_string())
    }

    /// The user that is called: `[service]`.
    pub(crate) fn service(self, user: &str) -> Self {
        self.option("-s", user)
    }

    /// Credentials: the file that `sipward ue bootstrap --sipp-csv` writes.
    pub(crate) fn csv(self, file: &Path) -> Self {
        self.option("-inf", &file.display().to_string())
    }

    /// Credentials that stand in the test.
    pub(crate) fn csv_text(self, text: &str) -> Self {
        let file = self.folder.write("credentials.csv", text);
        self.csv(&file)
    }

    /// The other process of a scenario for two; see `spoof_bye.xml`.
    pub(crate) fn with_third_party(self, meeting_point: SocketAddr) -> Self {
        self.option("-3pcc", &meeting_point.to_string())
    }

    /// Keeps every message for [`Report::messages`].
    pub(crate) fn traced(mut self) -> Self {
        self.options.push("-trace_msg".into());
        self.option("-message_file", "messages.log")
    }

    /// The most that the whole run may take; 90 s unless told.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Any other option with its value.
    pub(crate) fn option(mut self, option: &str, value: &str) -> Self {
        self.options.extend([option.to_owned(), value.to_owned()]);
        self
    }

    /// Runs to the end.
    pub(crate) fn run(self) -> Report {
        self.start().finish()
    }

    /// Starts, for a scenario that begins by waiting, and gives it back when its port is bound.
    pub(crate) fn listen(self) -> Running {
        let table = if self.carrier == Carrier::Udp { "udp" } else { "tcp" };
        let (local, name) = (self.local, self.name.clone());
        let running = self.start();
        running.await_bound(&name, table, local);
        running
    }

    /// The same for the first of a pair: it waits at the meeting point for the other.
    pub(crate) fn listen_for_third_party(self, meeting_point: SocketAddr) -> Running {
        let name = self.name.clone();
        let running = self.with_third_party(meeting_point).start();
        running.await_bound(&name, "tcp", meeting_point);
        running
    }

    /// Starts and returns at once.
    pub(crate) fn start(self) -> Running {
        let mut command = Command::new(find("sipp", "sip-tester"));
        command.current_dir(self.folder.path()).args(&self.source).args(&self.options);
        command.args(["-i", &self.local.ip().to_string(), "-p", &self.local.port().to_string()]);
        command.args(["-t", if self.carrier == Carrier::Udp { "u1" } else { "t1" }]);
        command.args(["-nostdin", "-trace_err", "-error_file", "errors.log"]);
        command.args(["-trace_stat", "-stf", "statistics.csv", "-fd", "600"]);
        if let Some(remote) = self.remote {
            command.arg(remote.to_string());
        }
        let peer = Peer::start(&self.name, &mut command);
        Running { peer, folder: self.folder, limit: self.limit }
    }
}

impl Running {
    fn await_bound(&self, name: &str, table: &str, address: SocketAddr) {
        let bound = self.peer.await_that(Duration::from_secs(10), |_| {
            loopback::is_bound(table, address).then_some(())
        });
        assert!(bound.is_some(), "{name} does not listen on {address}: {}", self.peer.said());
    }

    /// Waits for the end and reads what became of the calls.
    pub(crate) fn finish(mut self) -> Report {
        let exit = self.peer.await_end(self.limit).code();
        let statistics = self.folder.read("statistics.csv");
        Report {
            good: figure(&statistics, "SuccessfulCall(C)"),
            failed: figure(&statistics, "FailedCall(C)"),
            exit,
            errors: self.folder.read("errors.log"),
            messages: self.folder.read("messages.log"),
            said: self.peer.said(),
        }
    }

    /// Tells an answering scenario to take no more calls, and waits for its end.
    pub(crate) fn stop(self) -> Report {
        self.peer.signal("USR1");
        self.finish()
    }
}

impl Report {
    /// Fails with all that SIPp told, unless all of `calls` calls went well.
    #[track_caller]
    pub(crate) fn assert_all_good(&self, calls: u64) {
        assert!(self.good == calls && self.failed == 0, "{calls} calls expected: {self:#?}");
    }
}

/// A column of the last line of SIPp's statistics.
fn figure(statistics: &str, column: &str) -> u64 {
    let mut lines = statistics.lines();
    let place = lines.next().and_then(|head| head.split(';').position(|name| name == column));
    let last = lines.next_back().and_then(|line| line.split(';').nth(place?));
    last.and_then(|value| value.parse().ok()).unwrap_or_else(|| {
        panic!("SIPp's statistics have no {column}: {statistics}");
    })
}

#[test]
fn figures_come_from_the_last_line() {
    let statistics = "A;FailedCall(C);B;\n1;2;3;\n4;5;6;\n";
    assert_eq!(figure(statistics, "FailedCall(C)"), 5);
}
