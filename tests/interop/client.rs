//! A command-line client that speaks for us: what is typed into it, and what it prints.

use std::io::{Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A client that runs until it is dropped.
pub(crate) struct Client {
    child: Child,
    pieces: mpsc::Receiver<Vec<u8>>,
    heard: Vec<u8>,
}

impl Client {
    pub(crate) fn start(mut command: Command) -> Self {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().expect("it starts");
        let (tell, pieces) = mpsc::sync_channel(1024);
        let out = child.stdout.take().expect("piped");
        let errors = child.stderr.take().expect("piped");
        let copy = tell.clone();
        std::thread::spawn(move || pass_on(out, &tell));
        std::thread::spawn(move || pass_on(errors, &copy));
        Self { child, pieces, heard: Vec::new() }
    }

    /// Says `text`, in one piece; it goes out when the handshake is over.
    pub(crate) fn say(&mut self, text: &str) {
        // A client whose handshake failed has gone.
        let _ = self.child.stdin.as_mut().expect("piped").write_all(text.as_bytes());
    }

    /// All that it printed, up to where `enough` holds, or to its end, or to a silence of so long.
    pub(crate) fn hear(&mut self, silence: Duration, enough: impl Fn(&str) -> bool) -> String {
        loop {
            let heard = String::from_utf8_lossy(&self.heard).into_owned();
            if enough(&heard) {
                return heard;
            }
            match self.pieces.recv_timeout(silence) {
                Ok(piece) => self.heard.extend(piece),
                Err(_) => return heard,
            }
        }
    }

    /// Forgets what it printed so far.
    pub(crate) fn forget(&mut self) {
        self.heard.clear();
    }
}

/// Whether a whole answer of SIP was heard, body aside.
pub(crate) fn is_answer(heard: &str) -> bool {
    heard.split_once("SIP/2.0 ").is_some_and(|(_, rest)| rest.contains("\r\n\r\n"))
}

fn pass_on(mut from: impl Read, tell: &mpsc::SyncSender<Vec<u8>>) {
    let mut room = [0; 4096];
    while let Ok(length) = from.read(&mut room)
        && length > 0
        && tell.send(room[..length].to_vec()).is_ok()
    {}
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}
