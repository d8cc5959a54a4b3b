//! Every threat has a test: the numbers of the attacks that this project must survive, and who carries them.
//!
//! A test carries a number if it has `V-nn` in its name, in its documentation, or in that of the file of tests in which
//! it stands; a fixture, if its `about` or `source` says so. What code says of itself elsewhere counts for nothing.

use crate::tree::File;

/// Threats by number. Numbers are never given twice; the gaps are of those that were folded into others.
#[rustfmt::skip]
pub(crate) const THREATS: [(u32, &str); 126] = [
    (1, "bare line ends"),
    (2, "lengths of bodies"),
    (3, "spoofed identity headers"),
    (4, "tags that are none"),
    (5, "values past their bounds"),
    (6, "broken credentials"),
    (7, "bodies in parts"),
    (9, "pieces and pings"),
    (10, "bodies dribbled"),
    (11, "text for logs"),
    (12, "lines that cost time"),
    (13, "WebSocket frames"),
    (20, "methods without a challenge"),
    (21, "responses that nearly fit"),
    (22, "nonces altered or old"),
    (23, "requests replayed"),
    (24, "poisoned counts"),
    (25, "credentials of another request"),
    (26, "answers that tell who exists"),
    (27, "lures for credentials"),
    (28, "registrations for others"),
    (29, "headers that assert"),
    (30, "keys of other services"),
    (31, "a key server that is away or lies"),
    (40, "certificates of servers"),
    (41, "one address, two domains"),
    (42, "live handshakes disturbed"),
    (43, "floods of hellos"),
    (44, "DTLS records"),
    (45, "idle connections"),
    (46, "tickets of another"),
    (47, "pre-shared keys"),
    (48, "old versions and suites"),
    (49, "secrets in what is told"),
    (60, "strangers inside a dialog"),
    (61, "CANCELs that do not fit"),
    (62, "ACKs that do not fit"),
    (63, "responses that do not fit"),
    (64, "routes of one's own"),
    (65, "hops and Vias"),
    (66, "answers that amplify"),
    (67, "breadth of forks"),
    (68, "floods without credentials"),
    (69, "after a restart"),
    (70, "dialogs named by others"),
    (71, "forks of a call"),
    (72, "dependencies that fail"),
    (73, "a fresh installation"),
    (74, "arbitrary octets"),
    (75, "another protocol on the port"),
    (76, "odd datagrams"),
    (77, "a peer that does not read"),
    (78, "URLs in certificates"),
    (79, "origins of web pages"),
    (80, "a way that lost its security"),
    (81, "STUN"),
    (82, "a port used again"),
    (83, "spellings of one identity"),
    (84, "printed as parsed"),
    (85, "bodies that two parsers read differently"),
    (86, "XML that reaches out"),
    (87, "odd methods"),
    (88, "one among many behind one address"),
    (89, "bans by spoofed sources"),
    (90, "colliding keys"),
    (91, "clocks that jump"),
    (92, "overload"),
    (93, "a B-TID that names a host"),
    (94, "random B-TIDs"),
    (95, "lists of realms"),
    (96, "odd user names"),
    (97, "bearer tokens"),
    (98, "algorithms talked down"),
    (99, "agreements altered"),
    (100, "AKA digits"),
    (101, "bootstrapping talked away"),
    (102, "a digest-uri of elsewhere"),
    (103, "clients that loop"),
    (104, "tokens moved"),
    (105, "slots used again"),
    (106, "both passes of one call"),
    (107, "a callee of many tags"),
    (108, "NOTIFYs that nobody asked for"),
    (109, "tags and Call-IDs in another case"),
    (110, "ids learnt by subscription"),
    (111, "a lower level"),
    (112, "keys that end in a call"),
    (113, "a new source"),
    (114, "targets and timers of the owner"),
    (115, "a full table"),
    (116, "observing"),
    (117, "any interleaving"),
    (118, "signs of location hidden"),
    (119, "two families"),
    (120, "senders in CPIM"),
    (121, "lists"),
    (122, "pushes of UEs"),
    (123, "reports"),
    (124, "MSRP paths"),
    (125, "filters"),
    (126, "orders to a phone"),
    (127, "bodies that no digest covers"),
    (128, "subscriptions without end"),
    (129, "pushes of others"),
    (130, "names that lead inside"),
    (131, "Contacts"),
    (132, "redirections"),
    (133, "REFER"),
    (134, "toll fraud"),
    (135, "a peer gone bad"),
    (136, "ids across a bridge"),
    (137, "tokens of topology"),
    (138, "SIPS over cleartext"),
    (139, "vectors drawn"),
    (140, "Ub altered"),
    (141, "HTTP requests smuggled"),
    (142, "asserted identities over HTTP"),
    (143, "an identity provider"),
    (144, "keys of visited networks"),
    (145, "push associations"),
    (146, "servers that lie to a UE"),
    (147, "reloads"),
    (148, "a store written by others"),
    (149, "labels without end"),
    (150, "signals and shortage"),
    (151, "dangerous settings"),
];

/// Numbers whose part is not built, or not tested under its number yet, and why. The list may only get shorter: what
/// has a test must not stand here.
pub(crate) const WITHOUT_TEST: &[(u32, &str)] = &[
    (141, "there is no authentication proxy"),
    (142, "there is no authentication proxy"),
    (143, "there is no identity provider"),
];

/// Numbers that went into another: V-05 has the counts of V-08.
const FOLDED: [u32; 1] = [8];

/// Every number that a test or fixture of these files carries.
pub(crate) fn carried(files: &[File]) -> Vec<u32> {
    let mut found: Vec<u32> = files.iter().flat_map(of_file).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn of_file(file: &File) -> Vec<u32> {
    if file.path.starts_with("sip-fixtures/") {
        let says = |line: &&str| line.starts_with("about") || line.starts_with("source");
        return file.text.lines().filter(says).flat_map(numbers).collect();
    }
    let whole = file.path.starts_with("tests/") || file.path.starts_with("fuzz/fuzz_targets/");
    if !file.path.ends_with(".rs") || file.path.starts_with("tests/guards/") {
        return Vec::new();
    }
    let alone = whole || file.path.ends_with("/tests.rs") || file.path.contains("/tests/");
    let start = if alone { Some(0) } else { file.text.find("#[cfg(test)]\nmod tests {") };
    start.and_then(|start| file.text.get(start..)).map(of_tests).unwrap_or_default()
}

/// What the tests in `text` carry.
fn of_tests(text: &str) -> Vec<u32> {
    let (mut found, mut above, mut header) = (Vec::new(), Vec::new(), Vec::new());
    let (mut is_test, mut any) = (false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("//!") {
            header.extend(numbers(line));
        } else if line.starts_with("///") {
            above.extend(numbers(line));
        } else if line.starts_with("#[") {
            is_test |= line.contains("test") && !line.contains("cfg");
        } else if line.starts_with("fuzz_target!") {
            any = true;
        } else if let Some(name) = line.trim_start_matches("async ").strip_prefix("fn ") {
            let name = name.split('(').next().unwrap_or_default();
            if is_test {
                any = true;
                found.append(&mut above);
                found.extend(numbers(&format!("_{name}").replace("_v_", " V-")));
            }
            (is_test, above) = (false, Vec::new());
        } else if !line.is_empty() && !is_test {
            above.clear();
        }
    }
    found.extend(header.into_iter().filter(|_| any));
    found
}

/// The numbers that a line names; a range names its ends alone.
fn numbers(line: &str) -> Vec<u32> {
    let after = line.split("V-").skip(1);
    let digits = after.map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        &rest[..end]
    });
    digits.filter_map(|digits| digits.parse().ok()).collect()
}

/// What is wrong with the lists, given what is carried.
pub(crate) fn uncarried(carried: &[u32]) -> Vec<String> {
    let known =
        |number: &u32| FOLDED.contains(number) || THREATS.iter().any(|(of, _)| of == number);
    let strange = carried.iter().filter(|number| !known(number));
    let strange = strange.map(|number| format!("V-{number:02} is no threat that is known"));
    let judge = |(number, title): &(u32, &str)| {
        let excused = WITHOUT_TEST.iter().any(|(of, _)| of == number);
        match (carried.contains(number), excused) {
            (false, false) => Some(format!("V-{number:02}, {title}: no test")),
            (true, true) => {
                Some(format!("V-{number:02}, {title}: has a test, and is listed as without"))
            }
            _ => None,
        }
    };
    strange.chain(THREATS.iter().filter_map(judge)).collect()
}

mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    #[test]
    fn tests_and_fixtures_carry_and_prose_does_not() {
        for (path, text, expected) in [
            ("tests/a.rs", "/// V-07: x.\n#[test]\nfn a() {}\n", &[7][..]),
            ("tests/a.rs", "#[tokio::test]\nasync fn v_08_a() {}\n", &[8]),
            ("tests/a.rs", "//! V-09.\n\n#[test]\nfn a() {}\n", &[9]),
            ("tests/a.rs", "//! V-09.\n\nfn a() {}\n", &[]),
            ("tests/a.rs", "/// V-07.\nfn helper() {}\n#[test]\nfn a() { /* V-10 */ }\n", &[]),
            ("src/a.rs", "//! Sources: V-11.\n/// V-12.\nfn a() {}\n", &[]),
            (
                "src/a.rs",
                "//! V-11.\n#[cfg(test)]\nmod tests {\n  /// V-13.\n  #[test]\n  fn a() {}\n}",
                &[13],
            ),
            (
                "sip-fixtures/gate/a.toml",
                "about = \"V-14\"\nsource = \"V-15\"\n# V-16\n",
                &[14, 15],
            ),
            ("README.md", "V-17", &[]),
        ] {
            assert_eq!(carried(&[file(path, text)]), expected, "{path}: {text}");
        }
    }

    #[test]
    fn a_number_is_carried_or_listed_and_never_both() {
        let all: Vec<u32> = THREATS.iter().map(|(number, _)| *number).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "in order, each once");
        let right: Vec<u32> = all
            .iter()
            .copied()
            .filter(|number| !WITHOUT_TEST.iter().any(|(of, _)| of == number))
            .collect();
        assert!(uncarried(&right).is_empty());
        assert_eq!(uncarried(&right[1..]).len(), 1, "one less");
        assert_eq!(uncarried(&all).len(), WITHOUT_TEST.len(), "listed in vain");
        assert_eq!(uncarried(&[&right[..], &[999]].concat()).len(), 1, "nobody knows it");
    }
}
