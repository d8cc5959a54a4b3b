//! What is promised of a file, as checkers from its words to a list of problems, each `line: what`.

use crate::code::{Code, Token, lines_with, paths};

/// Files and folders that read no clock, no randomness, no socket and no file.
const PURE: &[&str] = &[
    "src/lib.rs",
    "src/gate.rs",
    "src/gate/",
    "src/refusal.rs",
    "src/expiry.rs",
    "src/hashing.rs",
    "src/identity.rs",
    "src/instant.rs",
    "src/layered.rs",
    "src/wheel.rs",
    "src/journey.rs",
    "src/journey/",
    "src/wire/",
    "src/admission/",
    "src/authentication/",
    "src/association/",
    "src/enabler/",
    "src/forward/",
    "src/keys/",
    "src/keys/diameter/",
    "src/state/",
    "src/keys/subscribers/mod.rs",
    "src/provision/",
    "src/client/mod.rs",
    "src/client/agent.rs",
    "src/client/agreement.rs",
    "src/client/answer.rs",
    "src/client/bootstrap.rs",
    "src/client/bootstrap_digest.rs",
    "src/client/info.rs",
    "src/client/draft.rs",
    "src/client/exchange.rs",
    "src/client/keeping.rs",
    "src/client/pushed.rs",
    "src/client/register.rs",
    "src/client/services.rs",
    "src/testing/",
    "src/transport/mod.rs",
    "src/transport/aliases.rs",
    "src/transport/client_hello.rs",
    "src/transport/demux.rs",
    "src/transport/doors.rs",
    "src/transport/stun.rs",
    "src/transport/users.rs",
    "src/transport/dtls/",
    "src/transport/ocsp/",
    "src/transport/ws/",
];

/// Files and folders that may: the shells. The longer entry of the two lists decides.
pub(crate) const SHELL: &[&str] = &[
    "src/main.rs",
    "src/assembly.rs",
    "src/assembly/",
    "src/audit/",
    "src/clock.rs",
    "src/edge.rs",
    "src/edge/",
    "src/cli/",
    "src/config/",
    "src/demo/",
    "src/http/",
    "src/telemetry/",
    "src/state/embedded.rs",
    "src/state/seal.rs",
    "src/authentication/certificate_users.rs",
    "src/authentication/tls_identity.rs",
    "src/keys/diameter/ask.rs",
    "src/keys/diameter/door.rs",
    "src/keys/diameter/source.rs",
    "src/keys/diameter/way.rs",
    "src/keys/nbsp/client.rs",
    "src/keys/nbsp/push_client.rs",
    "src/keys/nbsp/token_client.rs",
    "src/keys/subscribers/",
    "src/provision/file.rs",
    "src/cli/serve.rs",
    "src/client/bootstrap_http.rs",
    "src/cli/serve.rs",
    "src/client/bootstrap_http.rs",
    "src/client/store.rs",
    "src/client/ue.rs",
    "src/client/phone.rs",
    "src/client/flows.rs",
    "src/client/instance.rs",
    "src/client/dtls.rs",
    "src/client/ws.rs",
    "src/transport/dtls/openssl.rs",
    "src/transport/dtls/openssl/",
    "src/transport/dtls/port.rs",
    "src/transport/dtls/server.rs",
    "src/transport/dtls/vouched.rs",
    "src/transport/dtls/webrtc.rs",
    "src/transport/export.rs",
    "src/transport/flows.rs",
    "src/transport/greet.rs",
    "src/transport/held.rs",
    "src/transport/key_desk.rs",
    "src/transport/listen.rs",
    "src/transport/ocsp/answer.rs",
    "src/transport/ocsp/desk.rs",
    "src/transport/ocsp/staple.rs",
    "src/transport/peer.rs",
    "src/transport/peers.rs",
    "src/transport/psk_stream.rs",
    "src/transport/psk_tls.rs",
    "src/transport/psk_tls13.rs",
    "src/transport/resolve.rs",
    "src/transport/socket.rs",
    "src/transport/standing.rs",
    "src/transport/stream.rs",
    "src/transport/stream/",
    "src/transport/tally.rs",
    "src/transport/batch.rs",
    "src/transport/tcp.rs",
    "src/transport/tls.rs",
    "src/transport/transports.rs",
    "src/transport/udp.rs",
    "src/transport/vouched.rs",
    "src/transport/ws/door.rs",
];

/// The files that start tasks or threads: none of them does so for a transaction.
pub(crate) const SPAWNS: &[&str] = &[
    "src/cli/diameter.rs",
    "src/cli/keeping.rs",
    "src/cli/serve.rs",
    "src/cli/serve/page.rs",
    "src/client/bootstrap_http.rs",
    "src/client/flows.rs",
    "src/client/phone.rs",
    "src/client/ue.rs",
    "src/demo/stage.rs",
    "src/edge.rs",
    "src/edge/lookups.rs",
    "src/http/admin/mod.rs",
    "src/http/mod.rs",
    "src/keys/diameter/ask.rs",
    "src/keys/diameter/door.rs",
    "src/keys/nbsp/client.rs",
    "src/transport/dtls/vouched.rs",
    "src/transport/tcp.rs",
    "src/transport/transports.rs",
];

/// The files with `unsafe`, each for a C library without a binding.
pub(crate) const UNSAFE: &[&str] = &["src/transport/psk_tls.rs"];

/// Folders whose code may be started by nobody: stages and machines are called, and return.
const CALLED_ONLY: &[&str] = &[
    "src/gate.rs",
    "src/gate/",
    "src/wire/",
    "src/admission/",
    "src/authentication/",
    "src/association/",
    "src/enabler/",
    "src/forward/",
];

/// Names of queues and channels without a bound.
const BOUNDLESS: &[&str] =
    &["unbounded", "unbounded_channel", "UnboundedSender", "UnboundedReceiver", "SegQueue"];

const LINES_MAX: usize = 600;
const HEADER: [&str; 5] = ["Takes:", "Gives:", "Keeps:", "Refuses:", "Sources:"];

/// Whether `path` is promised to be pure.
pub(crate) fn is_pure(path: &str) -> bool {
    longest(PURE, path) > longest(SHELL, path)
}

/// Whether `path` is a shell.
pub(crate) fn is_shell(path: &str) -> bool {
    longest(SHELL, path) > longest(PURE, path)
}

fn longest(list: &[&str], path: &str) -> usize {
    let covers = |entry: &&&str| {
        if entry.ends_with('/') { path.starts_with(**entry) } else { path == **entry }
    };
    list.iter().filter(covers).map(|entry| entry.len()).max().unwrap_or(0)
}

/// Paths that lead out of the pure core.
pub(crate) fn impure(shipped: &[Token]) -> Vec<String> {
    let named = paths(shipped).into_iter().filter(|(_, path)| leads_outside(path));
    named.map(|(line, path)| format!("{line}: {path}")).collect()
}

fn leads_outside(path: &str) -> bool {
    const ADDRESSES: [&str; 7] = [
        "SocketAddr",
        "SocketAddrV4",
        "SocketAddrV6",
        "IpAddr",
        "Ipv4Addr",
        "Ipv6Addr",
        "AddrParseError",
    ];
    let steps: Vec<&str> = path.split("::").collect();
    match steps.as_slice() {
        ["tokio" | "mio" | "socket2" | "rustls" | "tokio_rustls" | "hyper" | "axum", ..] => true,
        ["rand" | "getrandom" | "libc", ..] => true,
        ["std", "thread" | "env" | "fs" | "process" | "os", ..] => true,
        ["std", "net", rest @ ..] => !rest.first().is_some_and(|name| ADDRESSES.contains(name)),
        ["std", "time", rest @ ..] => rest.first() != Some(&"Duration"),
        ["std"] | ["std", "*"] => true,
        ["crate" | "super", "clock" | "edge", ..] => true,
        [.., "OsRng" | "SystemTime" | "SysRng"] | [.., "OsRng" | "SystemTime" | "SysRng", _] => {
            true
        }
        _ => false,
    }
}

/// Queues without a bound.
pub(crate) fn unbounded(shipped: &[Token]) -> Vec<String> {
    let named = shipped.iter().filter(|token| BOUNDLESS.contains(&token.text.as_str()));
    let mut problems: Vec<String> =
        named.map(|token| format!("{}: {}", token.line, token.text)).collect();
    let std_queue = |path: &str| {
        ["std::sync::mpsc", "std::sync::mpsc::channel", "std::sync::mpsc::*"].contains(&path)
    };
    let queues = paths(shipped).into_iter().filter(|(_, path)| std_queue(path));
    problems.extend(queues.map(|(line, path)| format!("{line}: {path}")));
    problems
}

/// Tasks and threads started.
pub(crate) fn starts_tasks(shipped: &[Token]) -> Vec<String> {
    let starts = |token: &&Token| token.text.starts_with("spawn") || token.text == "JoinSet";
    shipped.iter().filter(starts).map(|token| format!("{}: {}", token.line, token.text)).collect()
}

/// What was left for later.
pub(crate) fn marks(tokens: &[Token]) -> Vec<String> {
    let mut problems = Vec::new();
    for words in [&["todo", "!"][..], &["unimplemented", "!"], &["#", "[", "ignore"]] {
        let lines = lines_with(tokens, words).into_iter();
        problems.extend(lines.map(|line| format!("{line}: {}", words.concat())));
    }
    problems
}

/// Waits by the clock.
pub(crate) fn sleeps(tests: &[Token]) -> Vec<String> {
    let waits = |token: &&Token| ["sleep", "sleep_ms", "sleep_until"].contains(&&*token.text);
    tests.iter().filter(waits).map(|token| format!("{}: {}", token.line, token.text)).collect()
}

/// Places of `unsafe`.
pub(crate) fn unsafe_lines(shipped: &[Token]) -> Vec<String> {
    lines_with(shipped, &["unsafe"]).into_iter().map(|line| format!("{line}: unsafe")).collect()
}

/// A header that lacks one of the five words or has them in another order. The two files that
/// open the crate tell its story instead, and a file that declares nothing has nothing to tell.
pub(crate) fn headerless(path: &str, text: &str) -> Vec<String> {
    if ["src/lib.rs", "src/main.rs"].contains(&path) || !Code::read(text).says_something() {
        return Vec::new();
    }
    let header = text.lines().map_while(|line| line.strip_prefix("//!"));
    let first_words = header.filter_map(|line| line.split_whitespace().next());
    let found: Vec<&str> = first_words.filter(|word| HEADER.contains(word)).collect();
    if found == HEADER { Vec::new() } else { vec![format!("1: {found:?} instead of {HEADER:?}")] }
}

/// A file past the length that is read at one sitting, its tests not counted.
pub(crate) fn overlong(text: &str) -> Vec<String> {
    let lines = Code::read(text).shipped_lines;
    if lines > LINES_MAX { vec![format!("1: {lines} lines without tests")] } else { Vec::new() }
}

/// Refusals that no fixture names, and fixtures that name no refusal.
pub(crate) fn unfixtured(names: &[&str], fixtures: &[String]) -> Vec<String> {
    let named = fixtures.iter().flat_map(|text| refusals_in(text)).collect::<Vec<_>>();
    let without = names.iter().filter(|name| !named.contains(name));
    let unknown = named.iter().filter(|name| !names.contains(name));
    let without = without.map(|name| format!("{name} has no fixture"));
    without.chain(unknown.map(|name| format!("{name} is no refusal"))).collect()
}

/// The values of `refusal = "Name"`, on a line of its own or inside a table.
fn refusals_in(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| {
        let (before, after) = line.split_once("refusal")?;
        let opens = before.is_empty() || before.ends_with([' ', '{', ',', '\t']);
        let value = after.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?;
        opens.then(|| value.split('"').next().unwrap_or_default())
    })
}

/// The proofs of `dialog-association` section 18, one row after the other. The last one, interleavings of verified and
/// forged messages, is a program of its own.
pub(crate) const PROOFS: &[&str] = &[
    "ue_over_tls_with_gba_digest_calls_hangs_up_on_the_same_connection_without_credentials",
    "same_over_udp",
    "stranger_with_valid_account_sends_bye_with_right_call_id_and_tags",
    "same_stranger_on_his_own_mtls_flow_no_credentials",
    "spoofed_source_no_credentials_1000_byes",
    "forged_200_to_invite_from_another_port",
    "cancel_from_another_flow_with_the_right_branch_from_the_right_flow",
    "three_forks_prack_with_the_tags_of_another_fork_update_on_a_lost_fork_after_2xx_and_64_t1",
    "notify_before_200_notify_from_a_second_notifier_notify_33_s_later",
    "route_token_of_call_a_put_into_call_b",
    "ks_naf_expires_in_a_call_ue_makes_a_new_b_tid_another_ue_with_its_own_b_tid_tries",
    "bsf_away_during_the_call_then_key_expires",
    "kill_and_restart_without_store_bye_by_owner_by_stranger",
    "attended_transfer_with_refer_and_replaces_replaces_by_an_outsider",
    "callee_answers_bye_with_407_for_our_realm",
    "table_full",
];

/// Requirements and use cases of SEC_CF about secrets, pushes, keys and provisioning. Each has its proof run: a test whose name
/// begins so, in `tests/proofs`.
pub(crate) const REQUIREMENTS: &[&str] = &[
    "sec_001", "sec_002", "sec_003", "sec_004", "auth_007", "inte_002", "inte_003", "conf_002",
    "conf_003", "kem_001", "adm_001", "adm_002", "b_1", "b_6", "b_7", "b_8", "b_9",
];

/// Those of `required` that no test in `proofs` begins with.
pub(crate) fn unproved(required: &[&str], proofs: &[&str]) -> Vec<String> {
    let names = proofs.iter().flat_map(|text| text.split("#[test]\nfn ").skip(1));
    let names: Vec<&str> = names.filter_map(|rest| rest.split('(').next()).collect();
    let is_proved = |one: &&&str| {
        names.iter().any(|name| name.strip_prefix(**one).is_some_and(|rest| rest.starts_with('_')))
    };
    required.iter().filter(|one| !is_proved(one)).map(|one| (*one).to_owned()).collect()
}

/// The rules of stage 5.
const RULES: std::ops::RangeInclusive<u8> = 1..=32;

/// Rules that no fixture earns, or that no neighbour comes near to without earning them; `refused` are the rules that
/// refusals belong to.
pub(crate) fn unearned(refused: &[u8], fixtures: &[String]) -> Vec<String> {
    let tables: Vec<toml::Table> = fixtures
        .iter()
        .map(|text| toml::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}")))
        .collect();
    let earns = |table: &toml::Table, rule: u8| {
        let Some(expect) = table.get("expect").and_then(toml::Value::as_table) else {
            return false;
        };
        let decided = expect.get("rule").and_then(toml::Value::as_integer) == Some(rule.into());
        decided && expect.contains_key("refusal") == refused.contains(&rule)
    };
    let is_near = |table: &toml::Table, rule: u8| {
        let near = table.get("neighbour").and_then(toml::Value::as_array);
        let rule = toml::Value::Integer(rule.into());
        near.is_some_and(|near| near.contains(&rule))
    };
    let mut problems = Vec::new();
    for rule in RULES {
        let earned = tables.iter().any(|table| earns(table, rule));
        let mut near = tables.iter().filter(|table| is_near(table, rule)).peekable();
        if !earned {
            problems.push(format!("rule {rule} is earned by no fixture"));
        }
        if near.peek().is_none() {
            problems.push(format!("rule {rule} has no neighbour"));
        }
        if near.any(|table| earns(table, rule)) {
            problems.push(format!("rule {rule} is earned by its neighbour"));
        }
    }
    problems
}

/// Folders that only one machine or one person has.
pub(crate) fn machine_paths(text: &str) -> Vec<String> {
    // Written in two parts, so that this file does not find itself.
    let folders = [
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("/tmp/", "wt/"),
        concat!("../sha", "red"),
    ];
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let found = folders.iter().filter(|folder| line.contains(*folder));
        problems.extend(found.map(|folder| format!("{number}: {folder}")));
    }
    problems
}

/// Documents named `*.md` that are not in the tree.
pub(crate) fn dangling_documents(names: &[&str], text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words = line.split(|c: char| !(c.is_alphanumeric() || "-_./".contains(c)));
        let documents = words
            .map(|word| word.trim_matches(['.', '/']))
            .filter(|word| word.len() > ".md".len() && word.ends_with(concat!(".", "md")));
        let exists = |word: &str| {
            let last = word.rsplit('/').next().unwrap_or(word);
            names.iter().any(|name| name.rsplit('/').next() == Some(last))
        };
        let gone = documents.filter(|word| !exists(word));
        problems.extend(gone.map(|word| format!("{number}: {word}")));
    }
    problems
}

/// Stages and machines stay out of [`SPAWNS`].
pub(crate) fn spawning_stages() -> Vec<String> {
    let called = |path: &&&str| CALLED_ONLY.iter().any(|entry| path.starts_with(entry));
    SPAWNS.iter().filter(called).map(|path| (*path).to_owned()).collect()
}

mod tests {
    use super::*;

    fn shipped(text: &str) -> Vec<Token> {
        Code::read(text).shipped
    }

    #[test]
    fn an_impure_line_is_found() {
        for (bad, expected) in [
            ("use std::time::Instant;", "1: std::time::Instant"),
            ("\nuse std::{time::{Duration, SystemTime}};", "2: std::time::SystemTime"),
            ("use std::time;", "1: std::time"),
            ("fn f() { std::thread::yield_now() }", "1: std::thread::yield_now"),
            ("use std::net::{IpAddr, UdpSocket};", "1: std::net::UdpSocket"),
            ("let a = std::fs::read(b);", "1: std::fs::read"),
            ("std::env::var(a)", "1: std::env::var"),
            ("use tokio::time::Instant;", "1: tokio::time::Instant"),
            ("rand::random()", "1: rand::random"),
            ("getrandom::fill(a)", "1: getrandom::fill"),
            ("use crate::clock;", "1: crate::clock"),
            ("let a = SystemTime::now();", "1: SystemTime::now"),
            ("#[cfg(feature = \"x\")] use tokio as t;", "1: tokio"),
        ] {
            assert_eq!(impure(&shipped(bad)), [expected], "{bad}");
        }
    }

    #[test]
    fn a_pure_line_is_not() {
        for good in [
            "use std::time::Duration; use std::net::{IpAddr, SocketAddr};",
            "let rand = ks.rand(); // tokio::spawn",
            "use crate::instant::{Instant, Now}; Instant::from_micros(1)",
            "#[cfg(test)] mod tests { use std::fs; }",
            "use rand_core::Rng; let text = \"std::fs\";",
        ] {
            assert_eq!(impure(&shipped(good)), [""; 0], "{good}");
        }
    }

    #[test]
    fn the_longer_entry_decides_between_pure_and_shell() {
        for (path, pure, shell) in [
            ("src/wire/new.rs", true, false),
            ("src/authentication/tls_identity.rs", false, true),
            ("src/authentication/digest.rs", true, false),
            ("src/transport/new.rs", false, false),
            ("src/gate.rs.rs", false, false),
        ] {
            assert_eq!((is_pure(path), is_shell(path)), (pure, shell), "{path}");
        }
    }

    #[test]
    fn a_queue_without_bound_is_found() {
        for (bad, count) in [
            ("let (a, b) = mpsc::unbounded_channel();", 1),
            ("use std::sync::mpsc::channel;", 1),
            ("use std::sync::mpsc;", 1),
            ("use std::sync::mpsc::sync_channel;", 0),
            ("tokio::sync::mpsc::channel(8)", 0),
        ] {
            assert_eq!(unbounded(&shipped(bad)).len(), count, "{bad}");
        }
    }

    #[test]
    fn a_started_task_is_found() {
        for bad in ["tokio::spawn(a)", "std::thread::spawn(a)", "spawn_local(a)", "JoinSet::new()"]
        {
            assert_eq!(starts_tasks(&shipped(bad)).len(), 1, "{bad}");
        }
        assert_eq!(starts_tasks(&shipped("// spawn\nlet a = \"spawn\";")), [""; 0]);
        assert_eq!(spawning_stages(), [""; 0]);
    }

    #[test]
    fn what_is_left_for_later_is_found() {
        let bad = concat!("fn a() { to", "do!() }\n#[test]\n#[ign", "ore = \"slow\"]\nfn b() {}");
        assert_eq!(marks(&shipped(bad)), [concat!("1: to", "do!"), concat!("3: #[ign", "ore")]);
    }

    #[test]
    fn a_sleeping_test_is_found() {
        let bad =
            "fn a() { sleep() }\n#[cfg(test)]\nmod tests { fn b() { std::thread::sleep(c) } }";
        assert_eq!(sleeps(&Code::read(bad).tests), ["3: sleep"]);
    }

    #[test]
    fn an_unlisted_unsafe_is_found() {
        assert_eq!(unsafe_lines(&shipped("\nfn a() { unsafe { b() } }")), ["2: unsafe"]);
    }

    #[test]
    fn a_header_without_its_words_is_found() {
        let good = "//! A.\n//!\n//! Takes: a.\n//! Gives: b.\n//! Keeps: c.\n//! Refuses: d.\n//! Sources: e.\n\nfn f() {}";
        assert_eq!(headerless("src/a.rs", good), [""; 0]);
        for bad in [
            "//! A.\nfn f() {}".to_owned(),
            good.replace("//! Keeps: c.\n", ""),
            good.replace("Gives", "Keeps").replacen("Keeps: c", "Gives: c", 1),
        ] {
            assert_eq!(headerless("src/a.rs", &bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_are_not_counted() {
        let long = "fn a() {}\n".repeat(LINES_MAX + 1);
        assert_eq!(overlong(&long).len(), 1);
        let tests = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(overlong(&tests), [""; 0]);
    }

    #[test]
    fn a_refusal_without_fixture_is_found() {
        let fixtures = [
            "expect = { status = 407, refusal = \"NonceStale\" }".to_owned(),
            "refusal = \"Gone\"\n# refusal = \"Commented\"".to_owned(),
        ];
        let found = unfixtured(&["NonceStale", "Commented"], &fixtures);
        assert_eq!(found, ["Commented has no fixture", "Gone is no refusal"]);
    }

    #[test]
    fn a_rule_without_fixture_or_neighbour_is_found() {
        let others = |rule: &u8| !matches!(rule, 2..=4);
        let all: Vec<u8> = RULES.filter(others).collect();
        let mut fixtures: Vec<String> =
            all.iter().map(|rule| format!("expect = {{ rule = {rule} }}")).collect();
        fixtures.push(format!("neighbour = {all:?}\nexpect = {{}}"));
        fixtures.push("neighbour = [2]\nexpect = { rule = 2 }".into());
        fixtures.push("expect = { rule = 3, refusal = \"A\" }\n".into());
        let found = unearned(&[3, 4], &fixtures);
        let expected = [
            "rule 2 is earned by its neighbour",
            "rule 3 has no neighbour",
            "rule 4 is earned by no fixture",
            "rule 4 has no neighbour",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_requirement_without_proof_is_found() {
        let text = "#[test]\nfn b_1_a() {}\nfn sec_001_a() {}\n#[test]\nfn b_60() {}";
        let required = ["b_1", "b_6", "sec_001"];
        assert_eq!(unproved(&required, &[text]), ["b_6", "sec_001"]);
    }

    #[test]
    fn a_path_of_a_machine_is_found() {
        assert_eq!(machine_paths(concat!("a\nsee /ho", "me/me/x")), [concat!("2: /ho", "me/")]);
        assert_eq!(machine_paths("/etc/sipward /usr/bin"), [""; 0]);
    }

    #[test]
    fn a_document_that_is_not_here_is_found() {
        let line = concat!("see README.", "md and notes/gone.", "md.");
        assert_eq!(dangling_documents(&["README.md"], line), [concat!("1: notes/gone.", "md")]);
    }
}
