//! The audit, its cases: a table for each group.
//!
//! Takes:   nothing.
//! Gives:   every [`Case`], in the order in which they run.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: none; each case names its own.

mod amplification;
pub mod dialog;
pub mod digest;
mod forwarded;
pub mod identity;
mod load;
pub mod malformed;
mod registration;
pub mod routing;
mod transport;

use super::case::Case;

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Case> {
    let [streams, tls, dtls, websocket] = transport::CASES;
    [
        malformed::CASES,
        streams,
        tls,
        dtls,
        websocket,
        routing::CASES,
        forwarded::CASES,
        amplification::CASES,
        digest::CASES,
        registration::CASES,
        identity::CASES,
        dialog::CASES,
        load::CASES,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_case_has_one_name_and_says_why_it_is_there() {
        let mut names = HashSet::new();
        for case in all() {
            assert!(names.insert(case.name), "{} is there twice", case.name);
            let clean = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(case.name.chars().all(clean), "{}", case.name);
            for text in [case.title, case.why, case.remedy, case.clause] {
                assert!(!text.is_empty() && !text.contains("  "), "{}: {text:?}", case.name);
            }
            assert!(case.why.ends_with('.') && case.remedy.ends_with('.'), "{}", case.name);
            assert!(case.threats.iter().all(|threat| threat.starts_with("V-")), "{}", case.name);
        }
        let groups: Vec<_> = all().map(|case| case.group).collect();
        assert!(groups.is_sorted(), "{groups:?}");
    }
}
