//! Configuration, problems: what is wrong, where, why, and a line that would do.
//!
//! Takes:   findings of the readers, in any order.
//! Gives:   [`Problem`]s and [`Warning`]s in the order of the file, each printed as three lines at most.
//! Keeps:   at most [`PROBLEMS_MAX`] of each; beyond that only how many more there were.
//! Refuses: nothing. Values that may be secret are never quoted: whoever reads those leaves `written` empty.
//! Sources: none.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// Most problems told of one load; a file of a million accounts could have as many.
pub const PROBLEMS_MAX: usize = 1000;

/// Something that must be put right before anything starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line, from 1; 0 if the trouble is with the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// Why that cannot be.
    pub why: Cow<'static, str>,
    /// A line that would do, or what to do; may be empty.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Plain(&self.file))?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", Plain(&self.what))?;
        if !self.why.is_empty() {
            write!(f, "\n    {}", Plain(&self.why))?;
        }
        if !self.fix.is_empty() {
            write!(f, "\n    fix: {}", Plain(&self.fix))?;
        }
        Ok(())
    }
}

/// Text of a file on its way to a terminal: control characters are escaped (V-11).
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        self.0.chars().try_for_each(|c| match c {
            c if c.is_control() => write!(f, "{}", c.escape_default()),
            c => f.write_char(c),
        })
    }
}

/// Something that works but should be known: security is less than it could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub Problem);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a value stands, and what its key is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The key with its tables: `naf.fqdn`.
    pub path: String,
    /// The value as written; empty if it is long, has several lines, or is a secret.
    pub written: String,
}

impl Place {
    /// The key without its tables.
    pub fn key(&self) -> &str {
        let start = match self.path.strip_suffix('"') {
            Some(path) => path.rfind('"'),
            None => self.path.rfind('.').map(|at| at + 1),
        };
        start.and_then(|at| self.path.get(at..)).unwrap_or(&self.path)
    }

    /// `naf.fqdn = "192.0.2.7"`, or the path alone.
    pub(super) fn subject(&self) -> String {
        if self.written.is_empty() {
            self.path.clone()
        } else {
            format!("{} = {}", self.path, self.written)
        }
    }
}

/// Collects findings about one file.
#[derive(Debug)]
pub struct Notes {
    file: Arc<str>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Warning>>,
    more: RefCell<usize>,
    most: usize,
}

impl Notes {
    /// No findings yet about `file`.
    pub fn new(file: &str) -> Self {
        Self::with_room(file, PROBLEMS_MAX)
    }

    /// The same, of which `most` problems are kept in place of [`PROBLEMS_MAX`].
    pub fn with_room(file: &str, most: usize) -> Self {
        Self {
            most,
            file: file.into(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
            more: RefCell::default(),
        }
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// A problem with the value at `place`: `what` follows the value, `fix` is the value that would do.
    pub fn problem(
        &self,
        place: &Place,
        what: &str,
        why: impl Into<Cow<'static, str>>,
        value: &str,
    ) {
        let fix =
            if value.is_empty() { String::new() } else { format!("{} = {value}", place.key()) };
        self.say(place.line, format!("{} {what}", place.subject()), why, fix);
    }

    /// A problem in other words.
    pub fn say(
        &self,
        line: usize,
        what: String,
        why: impl Into<Cow<'static, str>>,
        fix: impl Into<String>,
    ) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() >= self.most {
            *self.more.borrow_mut() += 1;
            return;
        }
        let (why, fix) = (why.into(), fix.into());
        problems.push(Problem { file: Arc::clone(&self.file), line, what, why, fix });
    }

    /// A warning about the value at `place`.
    pub fn warn(&self, place: &Place, what: &str, why: impl Into<Cow<'static, str>>, fix: &str) {
        let what = format!("{} {what}", place.subject());
        let (why, fix) = (why.into(), fix.into());
        let line = place.line;
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < PROBLEMS_MAX {
            let problem = Problem { file: Arc::clone(&self.file), line, what, why, fix };
            warnings.push(Warning(problem));
        }
    }

    /// Takes over what was found in another file.
    pub fn adopt(&self, other: Self) {
        self.problems.borrow_mut().extend(other.problems.into_inner());
        self.warnings.borrow_mut().extend(other.warnings.into_inner());
        *self.more.borrow_mut() += other.more.into_inner();
    }

    /// Whether there are problems.
    pub fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// How many problems there are, kept or not.
    pub fn count(&self) -> usize {
        self.problems.borrow().len().saturating_add(*self.more.borrow())
    }

    /// Everything found, in the order of lines; those of this file before those of others.
    pub fn into_parts(self) -> (Vec<Problem>, Vec<Warning>) {
        let Self { file, problems, warnings, more, .. } = self;
        let (mut problems, mut warnings) = (problems.into_inner(), warnings.into_inner());
        let order =
            |problem: &Problem| (problem.file != file, Arc::clone(&problem.file), problem.line);
        problems.sort_by_key(order);
        warnings.sort_by_key(|warning| order(&warning.0));
        let more = more.into_inner();
        if more > 0 {
            let what = format!("and {more} more problems");
            problems.push(Problem { file, line: 0, what, why: "".into(), fix: String::new() });
        }
        (problems, warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_three_lines() {
        let notes = Notes::new("sipward.toml");
        let place = Place { line: 14, path: "naf.fqdn".into(), written: "\"192.0.2.7\"".into() };
        notes.problem(&place, "is an address", "no UE would match", "\"naf.example.com\"");
        notes.say(0, "cannot be read".into(), "", "");
        let (problems, warnings) = notes.into_parts();
        assert_eq!(warnings, []);
        let [whole, first] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!(whole.to_string(), "sipward.toml: cannot be read");
        assert_eq!(
            first.to_string(),
            "sipward.toml:14: naf.fqdn = \"192.0.2.7\" is an address\n    no UE would match\n    \
             fix: fqdn = \"naf.example.com\""
        );
    }

    #[test]
    fn what_a_file_holds_cannot_move_the_cursor() {
        let notes = Notes::new("a\u{1b}[2J");
        notes.say(1, "x\r\ny\u{0}".into(), "", "");
        let shown = notes.into_parts().0[0].to_string();
        assert_eq!(shown, "a\\u{1b}[2J:1: x\\r\\ny\\u{0}", "V-11");
    }

    #[test]
    fn a_million_problems_are_told_as_a_thousand_and_a_number() {
        let notes = Notes::new("accounts.csv");
        (1..=PROBLEMS_MAX + 7).for_each(|line| notes.say(line, "bad".into(), "", ""));
        let problems = notes.into_parts().0;
        assert_eq!(problems.len(), PROBLEMS_MAX + 1);
        assert_eq!(problems[PROBLEMS_MAX].to_string(), "accounts.csv: and 7 more problems");
    }
}
