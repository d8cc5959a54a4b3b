//! Rust source as the guards read it: words and marks without comments and literals, with what
//! only tests see kept apart, and the paths that the code names.

/// One word or mark, and the line on which it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// A source file, taken apart.
pub(crate) struct Code {
    /// What is compiled into the crate.
    pub(crate) shipped: Vec<Token>,
    /// What stands under `#[cfg(test)]`.
    pub(crate) tests: Vec<Token>,
    /// Lines of the file that are not under `#[cfg(test)]`.
    pub(crate) shipped_lines: usize,
}

impl Code {
    /// Takes one source text apart.
    pub(crate) fn read(text: &str) -> Self {
        let all = tokens(text);
        let (mut shipped, mut tests, mut test_lines) = (Vec::new(), Vec::new(), 0);
        let mut at = 0;
        while at < all.len() {
            if is_test_attribute(&all[at..]) {
                let end = end_of_item(&all, at);
                test_lines += all[end - 1].line - all[at].line + 1;
                tests.extend_from_slice(&all[at..end]);
                at = end;
            } else {
                shipped.push(all[at].clone());
                at += 1;
            }
        }
        let lines = text.lines().count();
        Self { shipped, tests, shipped_lines: lines.saturating_sub(test_lines) }
    }

    /// A file of tests as a whole.
    pub(crate) fn read_tests(text: &str) -> Self {
        Self { shipped: Vec::new(), tests: tokens(text), shipped_lines: 0 }
    }

    /// Whether anything is declared here besides the names of other modules.
    pub(crate) fn says_something(&self) -> bool {
        self.shipped.iter().any(|token| {
            ["fn", "struct", "enum", "trait", "impl", "type", "const", "static", "macro_rules"]
                .contains(&token.text.as_str())
        })
    }
}

/// The lines on which `words` stand one after the other.
pub(crate) fn lines_with(tokens: &[Token], words: &[&str]) -> Vec<usize> {
    tokens
        .windows(words.len())
        .filter(|window| window.iter().map(|token| token.text.as_str()).eq(words.iter().copied()))
        .map(|window| window[0].line)
        .collect()
}

/// Every path the code names, groups of a `use` spread out, with its line: `std::time::Instant`.
pub(crate) fn paths(tokens: &[Token]) -> Vec<(usize, String)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(token) = tokens.get(at) {
        let before = at.checked_sub(1).map_or("", |before| tokens[before].text.as_str());
        let goes_on = tokens.get(at + 1).is_some_and(|next| next.text == "::");
        let opens = is_word(&token.text) && before != "." && (goes_on || before == "use");
        let mut leaves = Vec::new();
        let end = if opens { spread(tokens, at, String::new(), &mut leaves) } else { at };
        found.extend(leaves.into_iter().map(|leaf| (token.line, leaf)));
        at = end.max(at + 1);
    }
    found
}

/// Follows one path or `use` tree from `at`; gives the place after it.
fn spread(tokens: &[Token], at: usize, prefix: String, leaves: &mut Vec<String>) -> usize {
    let Some(token) = tokens.get(at) else { return at };
    if token.text == "{" {
        let mut inner = at + 1;
        while let Some(next) = tokens.get(inner) {
            match next.text.as_str() {
                "}" => return inner + 1,
                "," => inner += 1,
                "as" => inner += 2,
                _ => inner = spread(tokens, inner, prefix.clone(), leaves).max(inner + 1),
            }
        }
        return inner;
    }
    if !is_word(&token.text) && token.text != "*" {
        leaves.push(prefix);
        return at;
    }
    let path =
        if prefix.is_empty() { token.text.clone() } else { format!("{prefix}::{}", token.text) };
    if tokens.get(at + 1).is_some_and(|next| next.text == "::") {
        return spread(tokens, at + 2, path, leaves);
    }
    leaves.push(path);
    at + 1
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// `#[cfg(test)]` or `#[cfg(all(test, ...))]`. What a feature can switch on is no test.
fn is_test_attribute(tokens: &[Token]) -> bool {
    let starts = |words: &[&str]| {
        tokens.len() >= words.len()
            && tokens.iter().zip(words).all(|(token, word)| token.text == *word)
    };
    starts(&["#", "[", "cfg", "(", "test", ")", "]"])
        || starts(&["#", "[", "cfg", "(", "all", "(", "test", ","])
}

/// The place after the item that starts at `at`, its attributes included.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|token| token.text == "#") {
        at = end_of_group(tokens, at + 1);
    }
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            ";" => return at + 1,
            "{" => return end_of_group(tokens, at),
            "(" | "[" => at = end_of_group(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// The place after the bracket that closes the one at `at`.
fn end_of_group(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Words and marks of `text`; a literal of any kind is one token `""`, a comment is none.
fn tokens(text: &str) -> Vec<Token> {
    let source: Vec<char> = text.chars().collect();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < source.len() {
        let (end, kind) = next_token(&source, at);
        if let Some(kind) = kind {
            let text = match kind {
                Kind::Literal => "\"\"".to_owned(),
                Kind::Text => source[at..end].iter().collect(),
            };
            found.push(Token { line, text });
        }
        line += source[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    found
}

enum Kind {
    Literal,
    Text,
}

/// Where the token at `at` ends, and what it is, unless it is white space or a comment.
fn next_token(source: &[char], at: usize) -> (usize, Option<Kind>) {
    let here = source[at];
    let next = source.get(at + 1).copied().unwrap_or(' ');
    if here == '/' && next == '/' {
        let end = source[at..].iter().position(|c| *c == '\n').map_or(source.len(), |n| at + n);
        return (end, None);
    }
    if here == '/' && next == '*' {
        return (end_of_comment(source, at), None);
    }
    if here == '"' {
        return (end_of_quoted(source, at, '"'), Some(Kind::Literal));
    }
    if here == '\'' {
        let is_char = next == '\\' || source.get(at + 2) == Some(&'\'');
        let end =
            if is_char { end_of_quoted(source, at, '\'') } else { end_of_word(source, at + 1) };
        return (end, Some(Kind::Literal));
    }
    if here.is_alphanumeric() || here == '_' {
        let end = end_of_word(source, at);
        let word: String = source[at..end].iter().collect();
        let after = source.get(end).copied().unwrap_or(' ');
        if ["r", "br", "cr"].contains(&word.as_str())
            && (after == '"' || after == '#')
            && let Some(end) = end_of_raw(source, end)
        {
            return (end, Some(Kind::Literal));
        }
        if ["b", "c"].contains(&word.as_str()) && (after == '"' || after == '\'') {
            return (end_of_quoted(source, end, after), Some(Kind::Literal));
        }
        return (end, Some(Kind::Text));
    }
    if here == ':' && next == ':' {
        return (at + 2, Some(Kind::Text));
    }
    (at + 1, (!here.is_whitespace()).then_some(Kind::Text))
}

fn end_of_word(source: &[char], at: usize) -> usize {
    let length = source[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
    at + length
}

fn end_of_quoted(source: &[char], open: usize, quote: char) -> usize {
    let mut at = open + 1;
    while at < source.len() && source[at] != quote {
        at += if source[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(source.len())
}

/// The end of a raw string whose `#` or quote stands at `at`; none for a raw identifier.
fn end_of_raw(source: &[char], at: usize) -> Option<usize> {
    let hashes = source[at..].iter().take_while(|c| **c == '#').count();
    if source.get(at + hashes) != Some(&'"') {
        return None;
    }
    let mut end = at + hashes + 1;
    while end < source.len() {
        let closes = source[end] == '"'
            && source[end + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        if closes {
            return Some(end + 1 + hashes);
        }
        end += 1;
    }
    Some(end)
}

fn end_of_comment(source: &[char], open: usize) -> usize {
    let (mut at, mut depth) = (open, 0_usize);
    while at < source.len() {
        let pair = (source[at], source.get(at + 1).copied().unwrap_or(' '));
        match pair {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(source.len())
}

mod tests {
    use super::*;

    fn shipped(text: &str) -> Vec<String> {
        Code::read(text).shipped.into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        for (about, text, expected) in [
            ("line comment", "a // unsafe\nb", &["a", "b"][..]),
            ("nested comment", "a /* x /* y */ unsafe */ b", &["a", "b"]),
            ("string", r#"a "un\"safe" b"#, &["a", "\"\"", "b"]),
            ("raw string", "a r#\"un\"safe\"# b", &["a", "\"\"", "b"]),
            ("octet string", r#"b"x" b'\'' 'c' a"#, &["\"\"", "\"\"", "\"\"", "a"]),
            ("lifetime", "&'a b", &["&", "\"\"", "b"]),
            ("raw identifier", "r#type", &["r", "#", "type"]),
        ] {
            assert_eq!(shipped(text), expected, "{about}");
        }
    }

    #[test]
    fn what_only_tests_see_is_kept_apart() {
        let code =
            Code::read("a\n#[cfg(test)]\nuse x::{y};\n#[cfg(test)]\nmod tests {\n  z {}\n}\nb\n");
        let words = |tokens: &[Token]| {
            tokens.iter().filter(|token| is_word(&token.text)).map(|t| t.text.clone()).collect()
        };
        let (shipped, tests): (Vec<_>, Vec<_>) = (words(&code.shipped), words(&code.tests));
        assert_eq!(shipped, ["a", "b"]);
        assert!(tests.contains(&"z".to_owned()) && tests.contains(&"y".to_owned()));
        assert_eq!(code.shipped_lines, 2);
        assert_eq!(Code::read("#[cfg(any(test, feature = \"testing\"))]\nmod a;").tests, []);
    }

    #[test]
    fn paths_are_spread_out() {
        for (text, expected) in [
            ("use std::time::Instant;", &["std::time::Instant"][..]),
            (
                "use std::{net::{IpAddr, TcpStream as T}, time};",
                &["std::net::IpAddr", "std::net::TcpStream", "std::time"],
            ),
            ("let a = std::env::var(x);", &["std::env::var"]),
            ("use tokio;", &["tokio"]),
            ("use std::fs::*;", &["std::fs::*"]),
            ("a.b::<C>()", &[]),
            ("Vec::<u8>::new()", &["Vec"]),
        ] {
            let tokens = Code::read(text).shipped;
            let found: Vec<String> = paths(&tokens).into_iter().map(|(_, path)| path).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
