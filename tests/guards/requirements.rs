//! Codes of requirements, such as `TR-01`: what they stand for is in `requirements.md`, which lists those that are named.

use std::collections::BTreeSet;

use crate::tree::File;

const LIST: &str = "tests/guards/requirements.md";
/// What codes begin with.
const KINDS: [&str; 13] =
    ["B2", "CR", "DNS", "DT", "KA", "OB", "PX", "RG", "RR", "SA", "TR", "TX", "VIA"];

/// Codes that are named and not listed, or listed and not named.
pub(crate) fn unlisted(files: &[File]) -> Vec<String> {
    let listed: BTreeSet<String> = files
        .iter()
        .filter(|file| file.path == LIST)
        .flat_map(|file| file.text.lines())
        .filter_map(|line| codes(line.strip_prefix("| ")?.split(' ').next()?).next())
        .collect();
    assert!(!listed.is_empty(), "{LIST} has no rows");
    let mut named = BTreeSet::new();
    let others = files.iter().filter(|file| !file.path.starts_with("tests/guards/"));
    others.for_each(|file| named.extend(codes(&file.text)));
    let missing = named.difference(&listed).map(|code| format!("{code} is not in {LIST}"));
    let idle = listed.difference(&named).map(|code| format!("{code} is named nowhere"));
    missing.chain(idle).collect()
}

/// The codes in a text.
fn codes(text: &str) -> impl Iterator<Item = String> + '_ {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    words.filter_map(|word| {
        let (kind, number) = word.split_once('-')?;
        let digits = number.len() == 2 && number.bytes().all(|digit| digit.is_ascii_digit());
        (digits && KINDS.contains(&kind)).then(|| word.to_owned())
    })
}

#[test]
fn codes_are_found_where_they_stand() {
    let text =
        "//! Sources: `TR-01`, `DT-06` to `DT-09`, (VIA-10); not TR-1, XTR-01, TR-011, V-42, B2-x";
    assert_eq!(codes(text).collect::<Vec<_>>(), ["TR-01", "DT-06", "DT-09", "VIA-10"]);
    let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
    let list = file(LIST, "| | what |\n|---|---|\n| TR-01 | see DT-06 |\n| TR-02 | x |\n");
    let found = unlisted(&[list, file("src/a.rs", text)]);
    assert_eq!(found.len(), 4, "{found:?}");
}
