//! Keys, subscribers, state: sequence numbers that a restart does not turn back.
//!
//! Takes:   the subscribers as the file has them, and what a [`Bsf`] has given out since.
//! Gives:   subscribers whose next number is above every one that was used before.
//! Keeps:   a file beside the list, `LIST.sqn`: a line for each subscriber, the SEQ in decimal, a space, the IMPI.
//!          Who left the list keeps his line, since he may come back with the same card.
//!          The SEQ written is [`SQN_STRIDE`] ahead of the used one; a start takes it as used. So a crash loses
//!          nothing and costs at most a stride, of which a card takes over two hundred thousand at once.
//! Refuses: a line that it cannot read, since a number turned back would need an AUTS from each card.
//! Sources: TS 33.102 annexes C.1.1.1 and C.2.1.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::Subscriber;
use super::disk::{beside, replace};
use crate::identity::Impi;
use crate::keys::bootstrap::{Bsf, SQN_STRIDE};
use crate::keys::sqn::{SEQ_MAX, Sqn, SqnGenerator};

/// The file of sequence numbers that belongs to a list of subscribers.
#[derive(Clone, Debug)]
pub struct SqnState {
    path: PathBuf,
}

impl SqnState {
    /// The file beside `list`.
    pub fn beside(list: &Path) -> Self {
        Self { path: beside(list, "sqn") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was written: for each name the SEQ up to which numbers may have been used. Nothing without a file.
    ///
    /// # Errors
    ///
    /// Those of the file system; `InvalidData` with the line that cannot be read.
    pub fn numbers(&self) -> io::Result<HashMap<Impi, u64>> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
            Err(error) => return Err(error),
        };
        let mut written = HashMap::new();
        for (line, number) in text.lines().zip(1_usize..) {
            let row = line.split_once(' ').and_then(|(seq, impi)| {
                let seq: u64 = seq.parse().ok().filter(|seq| *seq <= SEQ_MAX)?;
                Some((Impi::new(impi)?, seq))
            });
            let Some((impi, seq)) = row else {
                let what = format!("{}:{number}: not a SEQ and an IMPI", self.path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            };
            written.insert(impi, seq);
        }
        Ok(written)
    }

    /// Lifts the numbers of `subscribers` to what was written; without a file, nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::numbers`].
    pub fn lift(&self, subscribers: &mut [Subscriber]) -> io::Result<()> {
        let written = self.numbers()?;
        for subscriber in subscribers {
            let seq = written.get(&subscriber.impi).copied().unwrap_or_default();
            if seq > subscriber.sqn.last().seq() {
                subscriber.sqn = SqnGenerator::new(Sqn::new(seq, 0));
            }
        }
        Ok(())
    }

    /// Writes down what `bsf` may use next, if that is due; whether it was. Call it before serving, and every few
    /// seconds while serving.
    ///
    /// # Errors
    ///
    /// Those of the file system; nothing is vouched for then, and the next call tries again.
    pub fn keep(&self, bsf: &Bsf) -> io::Result<bool> {
        if !bsf.sqn_due() {
            return Ok(false);
        }
        let reserved = bsf.sqn_reserve();
        self.write(&reserved)?;
        bsf.sqn_reserved(&reserved);
        Ok(true)
    }

    /// Gives `bsf` the subscribers of `list` in the place of its own, once what it may use of their numbers is written.
    ///
    /// # Errors
    ///
    /// Those of the file system; `bsf` has the subscribers that it had then.
    pub fn put(&self, bsf: &Bsf, list: Vec<Subscriber>) -> io::Result<()> {
        let mut reserved: HashMap<Impi, u64> = bsf.sqn_reserve().into_iter().collect();
        for subscriber in &list {
            let seq = subscriber.sqn.last().seq().saturating_add(SQN_STRIDE);
            let ahead = reserved.entry(subscriber.impi.clone()).or_default();
            *ahead = seq.max(*ahead);
        }
        let reserved: Vec<_> = reserved.into_iter().collect();
        self.write(&reserved)?;
        bsf.replace_subscribers(list);
        bsf.sqn_reserved(&reserved);
        Ok(())
    }

    /// Who left the list keeps his line.
    fn write(&self, reserved: &[(Impi, u64)]) -> io::Result<()> {
        let mut lines = self.numbers()?;
        lines.extend(reserved.iter().cloned());
        let mut text = String::new();
        for (impi, seq) in &lines {
            let _ = writeln!(text, "{seq} {impi}");
        }
        replace(&self.path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::bootstrap::BsfConfig;
    use crate::keys::subscribers::file::parse;

    const LIST: &str = "[[subscriber]]\nimpi = \"ue1@example.net\"\n\
        k = \"465b5ce8b199b49faa5f0a2ee238a6bc\"\nopc = \"cd63cb71954a9f4e48a5994e37a02baf\"\n";

    fn bsf(state: &SqnState) -> (Bsf, u64) {
        let mut list = parse("list", LIST).expect("good");
        state.lift(&mut list).expect("readable");
        let seq = list[0].sqn.last().seq();
        (Bsf::new(BsfConfig::new("bsf"), list, vec![], [0; 32]).expect("fit"), seq)
    }

    #[test]
    fn a_list_counts_once_its_numbers_are_written() {
        let folder = std::env::temp_dir().join(format!("sipward-put-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let state = SqnState::beside(&folder.join("list.toml"));
        let (bsf, _) = bsf(&state);
        let names = |bsf: &Bsf| bsf.sqn_reserve().into_iter().map(|(impi, _)| impi.to_string());
        let other = LIST.replace("ue1@", "ue2@");
        let other = || parse("list", &other).expect("good");
        let nowhere = SqnState::beside(&folder.join("nowhere").join("list.toml"));
        nowhere.put(&bsf, other()).expect_err("there is no such folder");
        assert_eq!(names(&bsf).collect::<Vec<_>>(), ["ue1@example.net"], "the old list");
        state.put(&bsf, other()).expect("written");
        assert_eq!(names(&bsf).collect::<Vec<_>>(), ["ue2@example.net"], "the new one");
        assert!(!bsf.sqn_due(), "it is vouched for");
        assert_eq!(state.numbers().expect("readable").len(), 2);
        std::fs::remove_dir_all(&folder).expect("ours");
    }

    #[test]
    fn who_leaves_the_list_keeps_his_number() {
        let folder = std::env::temp_dir().join(format!("sipward-left-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let state = SqnState::beside(&folder.join("list.toml"));
        std::fs::write(state.path(), "5000000 ue1@example.net\n").expect("written");
        let other = parse("list", &LIST.replace("ue1", "ue2")).expect("good");
        let of_other = Bsf::new(BsfConfig::new("bsf"), other, vec![], [0; 32]).expect("fit");
        assert!(state.keep(&of_other).expect("written"));
        let written = state.numbers().expect("readable");
        assert_eq!(written.len(), 2);
        let (_, seq) = bsf(&state);
        assert_eq!(seq, 5_000_000, "he comes back where he left");
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn each_start_is_a_stride_ahead() {
        let folder = std::env::temp_dir().join(format!("sipward-sqn-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let state = SqnState::beside(&folder.join("list.toml"));
        assert!(state.path().ends_with("list.toml.sqn"));
        for start in 0..3 {
            let (bsf, seq) = bsf(&state);
            assert_eq!(seq, start * SQN_STRIDE);
            assert!(state.keep(&bsf).expect("written"), "due before the first request");
            assert!(!state.keep(&bsf).expect("nothing to do"));
        }
        std::fs::write(state.path(), "12 ue1@example.net\nx\n").expect("written");
        let mut list = parse("list", LIST).expect("good");
        let error = state.lift(&mut list).expect_err("broken").to_string();
        assert!(error.ends_with("list.toml.sqn:2: not a SEQ and an IMPI"), "{error}");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
