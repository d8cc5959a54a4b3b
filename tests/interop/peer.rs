//! One program beside the test: found or named as missing, heard while it runs, ended with the test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A program that runs until it ends or is dropped.
pub(crate) struct Peer {
    name: String,
    child: Child,
    heard: Arc<Heard>,
}

/// What it wrote to standard error, line by line.
#[derive(Default)]
struct Heard {
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

/// How long a peer that was asked to end may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Peer {
    /// Starts `command`, which is called `name` in failures.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let pipes = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap_or_else(|error| panic!("{name} starts: {error}"));
        let errors = child.stderr.take().expect("standard error is piped");
        let heard = Arc::new(Heard::default());
        let listener = Arc::clone(&heard);
        thread::spawn(move || listen(errors, &listener));
        Self { name: name.to_owned(), child, heard }
    }

    /// Waits until `condition` holds of what was said so far, or of the world; at most `limit`.
    pub(crate) fn await_that<T>(
        &self,
        limit: Duration,
        mut condition: impl FnMut(&[String]) -> Option<T>,
    ) -> Option<T> {
        let started = Instant::now();
        let mut said = self.heard.said.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = condition(&said.lines) {
                return Some(found);
            }
            if said.ended || started.elapsed() >= limit {
                return None;
            }
            let look_again = Duration::from_millis(20);
            let waited = self.heard.changed.wait_timeout(said, look_again);
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All it has said.
    pub(crate) fn said(&self) -> String {
        self.heard.said.lock().unwrap_or_else(PoisonError::into_inner).lines.join("\n")
    }

    /// Waits until it, and all it started, has ended.
    pub(crate) fn await_end(&mut self, limit: Duration) -> ExitStatus {
        // Its descendants hold the same pipe, so the end of the pipe is the end of them all.
        let mut said = self.heard.said.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        while !said.ended {
            let left = limit.saturating_sub(started.elapsed());
            assert!(!left.is_zero(), "{} still runs after {limit:?}", self.name);
            let waited = self.heard.changed.wait_timeout(said, left);
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(said);
        self.child.wait().expect("an ended child can be waited for")
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        let _ended_already = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if thread::panicking() {
            let said = self.said();
            let last = said.lines().rev().take(20).collect::<Vec<_>>();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("\n  ");
            report(&format!("{} said last:\n  {last}", self.name));
        }
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.signal("TERM");
            if self.await_that(PATIENCE, |_| None::<()>).is_none() {
                // A no-op for one that has ended.
                let _ended = self.child.kill();
            }
            let _status = self.child.wait();
        }
    }
}

fn listen(errors: impl Read, heard: &Heard) {
    for line in BufReader::new(errors).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        heard.said.lock().unwrap_or_else(PoisonError::into_inner).lines.push(line);
        heard.changed.notify_all();
    }
    heard.said.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
    heard.changed.notify_all();
}

/// The one place that writes what a failed test may need.
#[expect(clippy::print_stderr, reason = "the test runner shows it beside the failure")]
fn report(text: &str) {
    eprintln!("{text}");
}

/// Where `program` is, or the end of the test, with the name of the package that brings it.
pub(crate) fn find(program: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    let mut places = folders.map(|folder| folder.join(program));
    places.find(|place| place.is_file()).unwrap_or_else(|| {
        panic!("{program} is missing: tests/run installs it (Debian package {package})")
    })
}

/// A folder for one run: gone afterwards, unless the test failed.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A new, empty one.
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sipward-{name}-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder can be made");
        Self(folder)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it, as text; empty if there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        let octets = fs::read(self.0.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// Writes a file and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if thread::panicking() {
            report(&format!("its files are in {}", self.0.display()));
        } else {
            let _left_behind = fs::remove_dir_all(&self.0);
        }
    }
}
