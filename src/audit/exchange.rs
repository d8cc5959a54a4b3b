//! The audit, the exchange behind a verdict: what was sent and what came, in order.
//!
//! Takes:   octets as they went over the wire, and remarks.
//! Gives:   [`Step`]s, and their text: what cannot be printed as `\x00`, responses of Digest blotted out, since a password can
//!          be guessed from them at leisure.
//! Keeps:   [`STEPS_MAX`] steps of a case, [`OCTETS_MAX`] octets of each; how many were left out is said.
//! Refuses: nothing.
//! Sources: V-49.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::instant::Instant;

/// Most steps that are kept of one case.
pub const STEPS_MAX: usize = 100;
/// Most octets that are kept of one step.
pub const OCTETS_MAX: usize = 4096;

/// Which way a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the target.
    Sent,
    /// From the target.
    Received,
    /// Neither: a remark.
    Remark,
}

impl Way {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Remark => "remark",
        }
    }
}

/// Something went, came or was noted.
#[derive(Clone, Debug)]
pub struct Step {
    /// How long after the case began.
    pub after: Duration,
    /// Which of our ends: `alice`, `stranger`.
    pub who: String,
    /// Which way.
    pub way: Way,
    /// How many octets.
    pub length: usize,
    /// Their text.
    pub text: String,
}

/// Where all ends of a case write.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Page>>);

#[derive(Debug, Default)]
struct Page {
    began: Instant,
    steps: Vec<Step>,
    left_out: usize,
}

impl Log {
    /// Begins anew, and gives what was written before.
    pub fn take(&self) -> Vec<Step> {
        let mut page = self.page();
        let mut steps = std::mem::take(&mut page.steps);
        if page.left_out > 0 {
            let after = steps.last().map_or(Duration::ZERO, |step| step.after);
            let text = format!("{} more steps are left out", page.left_out);
            steps.push(Step { after, who: String::new(), way: Way::Remark, length: 0, text });
        }
        *page = Page { began: clock::mono(), ..Page::default() };
        steps
    }

    /// Octets went or came.
    pub fn octets(&self, who: &str, way: Way, octets: &[u8]) {
        self.write(who, way, octets.len(), || shown(octets));
    }

    /// Something is worth knowing.
    pub fn remark(&self, who: &str, text: &str) {
        self.write(who, Way::Remark, 0, || text.to_owned());
    }

    fn write(&self, who: &str, way: Way, length: usize, text: impl FnOnce() -> String) {
        let mut page = self.page();
        if page.steps.len() >= STEPS_MAX {
            page.left_out = page.left_out.saturating_add(1);
            return;
        }
        let after = clock::mono().since(page.began);
        page.steps.push(Step { after, who: who.to_owned(), way, length, text: text() });
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Octets as text.
pub fn shown(octets: &[u8]) -> String {
    let kept = octets.get(..OCTETS_MAX).unwrap_or(octets);
    let binary = kept.iter().filter(|octet| !is_text(**octet)).count() > kept.len() / 4;
    let mut text = String::new();
    // A string takes whatever is written to it.
    if binary {
        for line in kept.chunks(16) {
            for octet in line {
                let _ = write!(text, "{octet:02x} ");
            }
            text.push('\n');
        }
    } else {
        for octet in kept {
            match octet {
                b'\r' => {}
                b'\n' => text.push('\n'),
                octet if is_text(*octet) => text.push(char::from(*octet)),
                octet => {
                    let _ = write!(text, "\\x{octet:02x}");
                }
            }
        }
        text = blotted(&text);
    }
    let more = octets.len().saturating_sub(kept.len());
    if more > 0 {
        let _ = write!(text, "\n[{more} more octets]");
    }
    text
}

fn is_text(octet: u8) -> bool {
    matches!(octet, b'\r' | b'\n' | b'\t' | b' '..=b'~')
}

/// The text without the digits of `response`, of which a hash of the password could be checked.
fn blotted(text: &str) -> String {
    const MARK: &str = "response=\"";
    let mut parts = text.split(MARK);
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (value, rest) = part.split_once('"').unwrap_or((part, ""));
        let _ = write!(clean, "{MARK}[{} digits]\"{rest}", value.chars().count());
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_printed_is_spelt_and_what_is_no_text_is_hex() {
        for (octets, expected) in [
            (&b"OPTIONS sip:a\x00b\r\n\x1b[31m"[..], "OPTIONS sip:a\\x00b\n\\x1b[31m"),
            (&[0x16, 3, 1, 0], "16 03 01 00 \n"),
            (b"\xc3\xa4 is an umlaut", "\\xc3\\xa4 is an umlaut"),
            (b"", ""),
        ] {
            assert_eq!(shown(octets), expected);
        }
        let long = shown(&[b'a'; OCTETS_MAX + 3]);
        assert!(long.ends_with("a\n[3 more octets]"), "{long}");
    }

    /// What could be tried against a list of passwords is in no report.
    #[test]
    fn digests_are_blotted_out() {
        let row = b"Authorization: Digest username=\"a\", response=\"0123abcd\", nc=1, response=\"ef\"\r\n";
        let text = shown(row);
        assert!(text.contains("response=\"[8 digits]\", nc=1, response=\"[2 digits]\""), "{text}");
        assert!(!text.contains("0123abcd"), "{text}");
    }

    #[test]
    fn a_page_is_bounded() {
        let log = Log::default();
        (0..STEPS_MAX + 2).for_each(|_| log.octets("a", Way::Sent, b"x"));
        let steps = log.take();
        assert_eq!(steps.len(), STEPS_MAX + 1);
        assert_eq!(steps[STEPS_MAX].text, "2 more steps are left out");
        assert!(log.take().is_empty());
    }
}
