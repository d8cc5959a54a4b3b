//! A configuration is good, or each of its problems is told with its place, and the same text is told the same.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sipward::config::Config;

/// Problems that are told of one file, and a last one that there are more.
const TOLD_MAX: usize = 1001;

fuzz_target!(|text: &str| {
    // Files of this machine are nobody's business: names stay inside a folder that is not there.
    if text.contains("\"/") || text.contains("'/") || text.contains("..") {
        return;
    }
    let path = Path::new("/nonexistent/sipward.toml");
    let told = |text: &str| match Config::parse(path, text) {
        Ok((_, warnings)) => (true, warnings.iter().map(ToString::to_string).collect::<Vec<_>>()),
        Err(problems) => (false, problems.iter().map(ToString::to_string).collect()),
    };
    let (good, lines) = told(text);
    assert!(good || !lines.is_empty(), "a no without a reason");
    assert!(lines.len() <= TOLD_MAX);
    for line in &lines {
        assert!(line.contains("sipward.toml"), "{line}");
    }
    assert_eq!(told(text), (good, lines));
});
