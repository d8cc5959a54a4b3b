//! Configurations good and bad, through the real binary: every problem at once, word for word.
//!
//! `sip-fixtures/config/bad/NAME.toml` is refused with exactly what stands in `NAME.txt`; `good/NAME.toml` is
//! taken, and `check` prints `NAME.txt`. Both are checked beside the files that `sipward init` writes.

#![cfg(feature = "http")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sipward::authentication::Accounts;
use sipward::authentication::digest::Hash;
use sipward::config::reload::{Reloader, diff};
use sipward::config::{Config, accounts};
use sipward::enabler::Class;
use sipward::identity::Realm;
use sipward::keys::nbsp::token_client::{Client, Shown};

/// A folder with what `sipward init` writes, gone when the test ends.
struct Lab(PathBuf);

impl Lab {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("config-{name}"));
        let _ = fs::remove_dir_all(&folder);
        let lab = Self(folder);
        let (code, out, errors) = sipward(Path::new("."), &["init", lab.0.to_str().unwrap()]);
        assert_eq!((code, errors.as_str()), (0, ""), "{out}");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// `sipward.toml` with `from` changed to `to`.
    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        self.write(name, &text.replacen(from, to, 1));
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        sipward(&self.0, arguments)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Exit code, standard output and standard error of the binary.
fn sipward(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let run =
        Command::new(env!("CARGO_BIN_EXE_sipward")).current_dir(folder).args(arguments).output();
    let run = run.expect("the binary runs");
    let text = |octets: Vec<u8>| String::from_utf8(octets).expect("UTF-8");
    (run.status.code().expect("it ends by itself"), text(run.stdout), text(run.stderr))
}

/// The fixtures of a folder: name, TOML, and what must come of it.
fn fixtures(folder: &str) -> Vec<(String, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures/config").join(folder);
    let mut found: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let read =
                |path: &Path| fs::read_to_string(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
            (name, read(&path), read(&path.with_extension("txt")))
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{folder:?} holds no fixtures");
    found
}

#[test]
fn what_is_wrong_is_told_all_at_once() {
    let lab = Lab::new("bad");
    for (name, text, expected) in fixtures("bad") {
        let file = format!("{name}.toml");
        lab.write(&file, &text);
        let (code, out, errors) = lab.run(&["check", &file]);
        assert_eq!((code, out.as_str()), (2, ""), "{name}");
        assert_eq!(errors, expected, "{name}");
    }
}

/// V-151.
#[test]
fn what_is_good_is_told_in_a_table_with_its_warnings() {
    let lab = Lab::new("good");
    for (name, text, expected) in fixtures("good") {
        let file = format!("{name}.toml");
        lab.write(&file, &text);
        let (code, out, errors) = lab.run(&["check", &file]);
        assert_eq!((code, errors.as_str()), (0, ""), "{name}");
        assert_eq!(out, expected, "{name}");
    }
}

#[test]
fn what_init_writes_is_good_and_never_written_over() {
    let lab = Lab::new("init");
    let (code, out, errors) = lab.run(&["check", "sipward.toml"]);
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    assert_eq!(out.matches("warning: ").count(), 4, "{out}");
    let before = fs::read(lab.path("edge.key")).unwrap();
    fs::remove_file(lab.path("sipward.toml")).unwrap();
    let (code, out, errors) = lab.run(&["init"]);
    assert_eq!((code, out.as_str()), (1, ""), "{errors}");
    assert!(errors.contains("edge.key is there already"), "{errors}");
    assert_eq!(fs::read(lab.path("edge.key")).unwrap(), before);
    assert!(!lab.path("sipward.toml").exists(), "all or nothing");
}

#[test]
fn every_key_in_a_comment_of_init_is_one() {
    let lab = Lab::new("comments");
    let text = fs::read_to_string(lab.path("sipward.toml")).unwrap();
    // A comment that is a line of configuration begins with one blank and a key.
    let uncommented: Vec<String> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key)
                if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[')
                    && (key.contains(" = ") || key.starts_with('['))
                    && !key.contains(" faces ")
                    && !key.contains(" is what ")
                    && !key.contains("client_auth") =>
            {
                key.to_owned()
            }
            _ => line.to_owned(),
        })
        .collect();
    let taken = uncommented.iter().zip(text.lines()).filter(|(new, old)| new != old).count();
    assert!(taken > 35, "{taken} keys stand in comments");
    lab.write("all.toml", &uncommented.join("\n"));
    let (code, _, errors) = lab.run(&["check", "all.toml"]);
    assert_eq!((code, errors.as_str()), (0, ""));
}

#[cfg(unix)]
#[test]
fn secrets_are_for_the_owner_alone_and_no_two_labs_share_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let (one, two) = (Lab::new("secrets-1"), Lab::new("secrets-2"));
    for name in ["edge.key", "lab-ca.key", "accounts.toml", "subscribers.toml"] {
        let mode = fs::metadata(one.path(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{name}");
        let read = |lab: &Lab| fs::read_to_string(lab.path(name)).unwrap();
        assert_ne!(read(&one), read(&two), "V-73: {name}");
    }
    for (name, key) in [
        ("edge.key", "listen.tls.key"),
        ("accounts.toml", "authentication.accounts"),
        ("subscribers.toml", "bsf.subscribers"),
    ] {
        fs::set_permissions(one.path(name), fs::Permissions::from_mode(0o644)).unwrap();
        let (code, _, errors) = one.run(&["check", "sipward.toml"]);
        assert_eq!(code, 2, "SEC-001: {name}");
        let head = format!("{key} = \"{name}\" can be read by others (mode 0644)");
        assert!(errors.contains(&head), "{errors}");
        assert!(errors.contains(&format!("fix: chmod 600 {name}")), "{errors}");
        fs::set_permissions(one.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn check_speaks_json() {
    let lab = Lab::new("json");
    let (code, out, errors) = lab.run(&["check", "--json", "sipward.toml"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let value: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(value["good"], true);
    assert_eq!(value["listeners"][1]["transports"][0], "tls");
    assert_eq!(value["routes"][0]["peer"], "core");
    assert_eq!(value["schemes"], serde_json::json!(["gba", "digest", "psk"]));
    assert_eq!(value["warnings"].as_array().unwrap().len(), 4);
    lab.edit("sipward.toml", "fqdn = \"edge.example.net\"", "fqdn = \"192.0.2.7\"");
    let (code, out, errors) = lab.run(&["check", "--json", "sipward.toml"]);
    assert_eq!((code, errors.as_str()), (2, ""));
    let value: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(value["good"], false);
    assert_eq!(value["problems"][0]["what"], "naf.fqdn = \"192.0.2.7\" is an address");
    assert_eq!(value["problems"][0]["fix"], "fqdn = \"naf.example.com\"");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let lab = Lab::new("files");
    fs::write(lab.path("latin.toml"), b"[edge]\nrealm = \"\xe9\"\n").unwrap();
    lab.write("long.toml", &"#".repeat(1024 * 1024 + 1));
    for (file, what) in [
        (
            "missing.toml",
            "cannot be read: No such file or directory (os error 2)\n    \
             fix: -c FILE names another; sipward init writes one\n",
        ),
        (".", "is not a file\n"),
        ("latin.toml", "cannot be read: stream did not contain valid UTF-8\n"),
        ("long.toml", "is too long\n    1 MiB is the most\n"),
    ] {
        let (code, out, errors) = lab.run(&["check", file]);
        assert_eq!((code, out.as_str(), errors), (2, "", format!("{file}: {what}")));
    }
}

/// V-11.
#[test]
fn what_a_file_holds_reaches_no_terminal() {
    let lab = Lab::new("terminal");
    lab.write("hostile.toml", "[edge]\nrealm = \"\"\n\"\\u001B[2J\\r\\n\" = 1\n");
    let (code, out, errors) = lab.run(&["check", "hostile.toml"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(errors.contains("edge.\\u{1b}[2J\\r\\n is not a key"), "{errors}");
    assert!(errors.chars().all(|c| c == '\n' || !c.is_control()), "V-11: {errors:?}");
}

/// Accounts of a fixture, and the problems as they are printed.
fn read_accounts(file: &str, octets: &[u8]) -> (Accounts, Vec<String>) {
    let realm = Realm::new("lab").unwrap();
    let home = accounts::Home { realm: &realm, domain: "example.net", own: &[] };
    let (accounts, notes) = accounts::read(Path::new(file), octets, home);
    let (problems, warnings) = notes.into_parts();
    assert_eq!(warnings, []);
    (accounts, problems.iter().map(ToString::to_string).collect())
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures/config/accounts");
    fs::read(folder.join(name)).unwrap()
}

#[test]
fn accounts_in_csv_are_quoted_as_rfc_4180_says() {
    let (accounts, problems) = read_accounts("good.csv", &fixture("good.csv"));
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(accounts.len(), 4);
    let alice = accounts.identities("lab", "alice").expect("alice");
    assert_eq!(
        alice.iter().map(|impu| impu.as_str()).collect::<Vec<_>>(),
        ["sip:alice@example.net", "tel:+15550100"]
    );
    let mufasa = "http-auth@example.org";
    assert!(accounts.user(mufasa, "Mufasa", Hash::Md5).is_some());
    assert!(
        accounts.user(mufasa, "Mufasa", Hash::Sha256).is_some(),
        "digits in upper case are folded"
    );
    assert!(accounts.user(mufasa, "Mufasa", Hash::Sha512_256).is_none());
    assert!(accounts.user("lab", "mallory", Hash::Md5).is_none(), "disabled");
    let gina = accounts.identities("lab", "gina").expect("gina");
    assert_eq!(gina[0].as_str(), "sip:gina@example.net", "the domain, not the realm");
    assert!(accounts.has_passwords());
    let held = |name| accounts.user("lab", name, Hash::Md5).expect("a user").0.rights.classes;
    let gina = held("gina").expect("a list");
    assert!(gina.has(Class::CpmPager) && gina.has(Class::Locsip) && !gina.has(Class::CpmGroup));
    assert_eq!(held("alice"), None, "held to no list");
}

#[test]
fn accounts_that_cannot_be_are_told_all_at_once_and_without_their_secrets() {
    for (name, expected) in [
        ("bad.toml", include_str!("../sip-fixtures/config/accounts/bad.toml.txt")),
        ("bad.csv", include_str!("../sip-fixtures/config/accounts/bad.csv.txt")),
        ("columns.csv", include_str!("../sip-fixtures/config/accounts/columns.csv.txt")),
    ] {
        let (_, problems) = read_accounts(name, &fixture(name));
        assert_eq!(problems.join("\n") + "\n", expected, "{name}");
        assert!(!expected.contains("wonderland") && !expected.contains("12345"), "{name}");
    }
    let (accounts, problems) = read_accounts("nothing.csv", &fixture("nothing.csv"));
    assert!(accounts.is_empty() && problems.is_empty(), "an empty file is one without accounts");
    let (_, problems) = read_accounts("binary.csv", b"username,password\n\xff,x\n");
    assert_eq!(problems, ["binary.csv: is not UTF-8 text"]);
    let long = format!("username,password\na,{}\n", "x".repeat(accounts::LINE_MAX));
    let (_, problems) = read_accounts("long.csv", long.as_bytes());
    assert_eq!(problems, ["long.csv:2: the line is too long\n    16 KiB is the most"]);
}

#[test]
fn problems_of_accounts_stand_beside_those_of_the_configuration() {
    let lab = Lab::new("accounts");
    lab.edit("accounts.toml", "username = \"alice\"", "username = \"a:b\"");
    lab.edit("subscribers.toml", "k = \"", "k = \"xyz");
    lab.edit("sipward.toml", "key_lifetime = \"12h\"", "key_lifetime = 12");
    let (code, _, errors) = lab.run(&["check", "sipward.toml"]);
    assert_eq!(code, 2);
    let heads: Vec<&str> = errors.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(heads.len(), 3, "{errors}");
    assert!(
        heads[0].starts_with("sipward.toml:")
            && heads[0].ends_with("key_lifetime = 12 has no unit")
    );
    assert!(heads[1].starts_with("accounts.toml:4: account \"a:b\""), "{errors}");
    assert!(heads[2].starts_with("subscribers.toml:"), "{errors}");
}

/// SEC-003: shared keys are read, judged and replaced; their secrets are told nowhere.
#[cfg(feature = "openssl")]
#[test]
fn shared_keys_are_read_and_what_is_wrong_is_told() {
    let lab = Lab::new("shared");
    let secret = "00112233445566778899aabbccddeeff";
    let key = |identity: &str, key: &str, more: &str| {
        format!("[[key]]\nidentity = {identity:?}\nkey = {key:?}\n{more}\n")
    };
    let alice = "identities = [\"sip:alice@example.net\"]";
    let good = key("psk;alice@bsf.example.net", secret, alice);
    let write = |text: &str| {
        lab.write("psk.toml", text);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(lab.path("psk.toml"), mode).unwrap();
    };
    write(&good);
    lab.edit("sipward.toml", "[register]", "[psk]\nkeys = \"psk.toml\"\n[register]");
    let (code, out, errors) = lab.run(&["check", "sipward.toml"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let row = "on ue-tls, edge.example.net (Ua 010001yyzz, 0100000007), 1 provisioned";
    assert!(out.lines().any(|line| line.starts_with("psk ") && line.ends_with(row)), "{out}");

    let (config, _) = Config::load(&lab.path("sipward.toml")).expect("good");
    assert!(!format!("{config:?}").contains("[0, 17, 34"), "SEC-001");
    let reloader = Reloader::new(config, |_| Ok(()));
    write(&good.replace("alice@", "bob@"));
    let report = reloader.reload().expect("good");
    assert_eq!((report.changed, report.restart), (vec!["psk.keys".to_owned()], vec![]));
    let now = reloader.current();
    let keys = &now.psk.keys;
    assert!(keys.contains_key("psk;bob@bsf.example.net") && keys.len() == 1);

    let bad = [
        key("alice@bsf.example.net", secret, alice),
        key("psk;b@bsf.example.net", "0011", alice),
        key("psk;c@bsf.example.net", &format!("{secret}zz"), alice),
        key("psk;d@bsf.example.net", &secret.repeat(5), alice),
        key("psk;e@bsf.example.net", secret, "identities = [\"sip:example.net\"]"),
        key("psk;f@bsf.example.net", secret, "identities = []"),
        key("psk;g@bsf.example.net", secret, &format!("{alice}\nexpires = \"tomorrow\"")),
        good.repeat(2),
    ];
    write(&bad.concat());
    let (code, _, errors) = lab.run(&["check", "sipward.toml"]);
    let heads: Vec<&str> =
        errors.lines().filter_map(|line| line.trim_start().strip_prefix("psk.toml:")).collect();
    assert_eq!(code, 2);
    let expected = [
        "1: key.identity is none",
        "5: key.key is none",
        "9: key.key is none",
        "13: key.key is none",
        "17: key.identities names nobody",
        "21: key.identities names nobody",
        "25: key.expires is no moment",
        "34: key.identity is there twice",
    ];
    assert_eq!(heads, expected, "{errors}");
    assert!(!errors.contains(&secret[..8]), "SEC-001: {errors}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(lab.path("psk.toml"), mode).unwrap();
    let (code, _, errors) = lab.run(&["check", "sipward.toml"]);
    assert!(code == 2 && errors.contains("can be read by others (mode 0644)"), "{errors}");
}

/// SEC-001, SEC-003: tokens of Nbsp_GBA are read, judged and replaced, and told nowhere.
#[test]
fn tokens_are_read_and_what_is_wrong_is_told() {
    let lab = Lab::new("tokens");
    let secret = |name: &str, text: &str| {
        lab.write(name, text);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(lab.path(name), mode).unwrap();
    };
    let hash = "00112233".repeat(8);
    let token = |hash: &str, host: &str, scopes: &str, expires: &str| {
        format!(
            "[[token]]\nsha256 = {hash:?}\nhost = {host:?}\nscopes = [{scopes}]\nexpires = {expires:?}\n"
        )
    };
    let (host, all, end) = ("naf7.example.net", "\"nbsp-gba\"", "2099-01-01T00:00:00Z");
    secret("tokens.toml", &token(&hash, "NAF7.example.net", all, end));
    secret("naf.token", "mF_9.B5f-4.1JqM\n");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures/config/good/nbsp.toml");
    let text = fs::read_to_string(folder).unwrap();
    let text = text.replace("answer = ", "tokens = \"tokens.toml\"\nanswer = ");
    let (text, fetched) = text.split_once("token_from = ").expect("it is the last line");
    let text = format!("{text}token_file = \"naf.token\"\n");
    lab.write("sipward.toml", &text);
    let (code, out, errors) = lab.run(&["check", "sipward.toml"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    for row in ["tls, both certificates, a token of each NAF", "has keys, by a token"] {
        assert!(out.contains(row), "{row}: {out}");
    }
    let (code, out, _) = lab.run(&["check", "sipward.toml", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &value["nbsp"]["tokens"]), (0, &serde_json::json!(1)), "{value}");
    assert_eq!(value["nbsp"]["servers"][0]["token"], true);

    let (config, _) = Config::load(&lab.path("sipward.toml")).expect("good");
    let printed = format!("{config:?}");
    assert!(!printed.contains("mF_9") && !printed.contains("[0, 17, 34"), "SEC-001");
    let reloader = Reloader::new(config, |_| Ok(()));
    for (shown, put) in
        [("other", Reloader::renew as fn(&Reloader) -> _), ("another", Reloader::reload)]
    {
        secret("naf.token", shown);
        let report = put(&reloader).expect("good");
        assert_eq!((report.changed, report.restart), (list_of(&["tokens"]), vec![]));
        let report = put(&reloader).expect("good");
        assert_eq!((report.changed, report.restart), (vec![], vec![]));
    }
    let now = reloader.current();
    let Some(Shown::Given(held)) = &now.nbsp.as_ref().unwrap().servers[0].token else {
        panic!("{:?}", now.nbsp);
    };
    assert_eq!(held.credentials().as_str(), "Bearer another");

    // Where it comes from waits for a restart; of what is fetched, the secret is taken over.
    let from = format!("token_from = {fetched}");
    lab.write("sipward.toml", &text.replace("token_file = \"naf.token\"\n", &from));
    let report = reloader.reload().expect("good");
    assert_eq!((report.changed, report.restart), (list_of(&["tokens"]), list_of(&["nbsp.server"])));
    let from = "token_from = { at = \"nrf.example.net:8443\", client = \"edge\", secret_file = \"naf.token\" }";
    lab.write("sipward.toml", &text.replace("token_file = \"naf.token\"", from));
    let (config, _) = Config::load(&lab.path("sipward.toml")).expect("good");
    assert!(!format!("{config:?}").contains("another"), "SEC-001");
    let other = Reloader::new(config, |_| Ok(()));
    secret("naf.token", "a-third");
    let report = other.renew().expect("good");
    assert_eq!((report.changed, report.restart), (list_of(&["tokens"]), vec![]));
    let now = other.current();
    let Some(Shown::Fetched(endpoint)) = &now.nbsp.as_ref().unwrap().servers[0].token else {
        panic!("{:?}", now.nbsp);
    };
    assert_eq!(
        (&*endpoint.at.host, endpoint.at.port, &*endpoint.path),
        ("nrf.example.net", 8443, "/oauth2/token")
    );
    let Client::Named(name, Some(held)) = &endpoint.client else { panic!("{endpoint:?}") };
    assert_eq!((&**name, held.credentials().as_str()), ("edge", "Bearer a-third"));
    secret("naf.token", "another");
    lab.write("sipward.toml", &text);

    // Whether any are demanded or shown at all is no matter of renewal.
    lab.write("sipward.toml", &text.replace("tokens = \"tokens.toml\"\n", ""));
    let report = reloader.reload().expect("good");
    assert_eq!((report.changed, report.restart), (list_of(&["tokens"]), list_of(&["nbsp.tokens"])));
    assert!(reloader.current().nbsp.as_ref().unwrap().tokens.is_some(), "still demanded");
    lab.write("sipward.toml", &text);

    let bad = [
        token("0011", host, all, end),
        token(&"zz".repeat(32), host, all, end),
        token(&hash, "naf9.example.net", all, end),
        token(&hash, host, "\"nbsp-gba:push-info-retrieval:invoke\"", end),
        token(&hash, host, "\"nbsp-gba\", \"all\"", end),
        token(&hash, host, "", end),
        token(&hash, host, all, "tomorrow"),
        token(&hash, host, all, end).repeat(2),
        "[[token]]\nhash = 1\n".to_owned(),
    ];
    secret("tokens.toml", &bad.concat());
    secret("naf.token", "two words");
    let (code, _, errors) = lab.run(&["check", "sipward.toml"]);
    assert_eq!(code, 2);
    let heads: Vec<&str> =
        errors.lines().filter_map(|line| line.strip_prefix("tokens.toml:")).collect();
    let expected = [
        "1: token.sha256 is none",
        "6: token.sha256 is none",
        "11: token.host = \"naf9.example.net\" is nobody",
        "16: token.scopes reach nothing",
        "21: token.scopes reach nothing",
        "26: token.scopes reach nothing",
        "31: token.expires is no moment",
        "41: token.sha256 is there twice",
        "46: token.sha256 is missing",
        "46: token.host is missing",
        "46: token.scopes is missing",
        "46: token.expires is missing",
        "47: token.hash is not a key",
    ];
    assert_eq!(heads, expected, "{errors}");
    assert!(errors.contains("nbsp.server.token_file = \"naf.token\" holds no token"), "{errors}");
    assert!(!errors.contains("two words") && !errors.contains(&hash[..16]), "{errors}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(lab.path("naf.token"), mode).unwrap();
    let (code, _, errors) = lab.run(&["check", "sipward.toml"]);
    assert!(code == 2 && errors.contains("can be read by others (mode 0644)"), "{errors}");
}

fn list_of(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_peer_speaks_as_rfc_2543_did_only_where_it_is_said() {
    let lab = Lab::new("rfc2543");
    for expected in [false, true] {
        let (config, _) = Config::load(&lab.path("sipward.toml")).expect("good");
        assert_eq!(config.peers[0].rfc2543, expected, "TX-08");
        lab.edit("sipward.toml", "[[peer]]\n", "[[peer]]\nrfc2543 = true\n");
    }
}

#[test]
fn nothing_secret_is_in_the_debug_form() {
    let lab = Lab::new("debug");
    let (config, _) = Config::load(&lab.path("sipward.toml")).expect("good");
    let shown = format!("{config:#?}");
    let secrets = ["accounts.toml", "subscribers.toml", "edge.key"]
        .map(|name| fs::read_to_string(lab.path(name)).unwrap());
    let drawn = secrets.iter().flat_map(|text| text.split(['"', '\n'])).filter(|word| {
        word.len() >= 30
            && word.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"+/=".contains(&octet))
    });
    let drawn: Vec<&str> = drawn.collect();
    assert!(drawn.len() >= 7, "a password, four keys, and the lines of one more: {}", drawn.len());
    assert!(drawn.iter().all(|secret| !shown.contains(secret)), "SEC-001");
}

#[test]
fn a_reload_takes_what_may_change_and_tells_what_may_not() {
    let lab = Lab::new("reload");
    let (config, _) = Config::load(&lab.path("sipward.toml")).expect("good");
    let applied = std::sync::Arc::new(std::sync::Mutex::new(0));
    let count = applied.clone();
    let reloader = Reloader::new(config, move |_| {
        *count.lock().unwrap() += 1;
        Ok(())
    });
    let before = reloader.current();
    let report = reloader.reload().expect("good");
    assert_eq!((report.changed.as_slice(), report.restart.as_slice()), (&[][..], &[][..]));

    lab.edit("accounts.toml", "username = \"alice\"", "username = \"bob\"");
    let renewed = Lab::new("reload-renewed");
    for name in ["edge.pem", "edge.key"] {
        let text = fs::read_to_string(renewed.path(name)).unwrap();
        lab.write(name, &text);
    }
    lab.edit("sipward.toml", "foreign = \"core\"", "foreign = \"refuse\"");
    lab.edit("sipward.toml", "0.0.0.0:5060", "0.0.0.0:5062");
    lab.edit("sipward.toml", "mode = \"observe\"", "mode = \"enforce\"");
    let report = reloader.reload().expect("good");
    assert_eq!(report.changed, ["certificates", "accounts", "routes", "association.mode"]);
    assert_eq!(report.restart, ["listen[0].address"]);
    let now = reloader.current();
    assert!(now.authentication.accounts.identities("example.net", "bob").is_some());
    assert!(
        before.authentication.accounts.identities("example.net", "bob").is_none(),
        "a snapshot stays"
    );
    assert_eq!(now.routes.default, None);
    assert_eq!(now.listeners[0].address.port(), 5060, "sockets wait for a restart");
    assert!(!now.association.observe);
    assert_eq!(*applied.lock().unwrap(), 2);

    lab.edit("sipward.toml", "foreign = \"refuse\"", "foreign = \"nobody\"");
    fs::remove_file(lab.path("accounts.toml")).unwrap();
    let problems = reloader.reload().expect_err("V-147");
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(std::sync::Arc::ptr_eq(&now, &reloader.current()), "V-147: the old one stays");
    assert_eq!(*applied.lock().unwrap(), 2);
}

/// Which library speaks DTLS is told of, and waits.
#[test]
fn another_library_for_dtls_waits_for_a_restart() {
    let lab = Lab::new("reload-dtls");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures/config/good/dtls.toml");
    let text = fs::read_to_string(folder).unwrap();
    let load = |text: &str| Config::parse(&lab.path("dtls.toml"), text).expect("good").0;
    let named = |engine: &str| load(&text.replace("\"webrtc\"", &format!("{engine:?}")));
    let found = diff(&named("openssl"), &named("webrtc"));
    assert_eq!(found.live, Vec::<String>::new());
    assert!(found.restart.iter().any(|key| key.ends_with("].dtls.engine")), "{found:?}");
    assert_eq!(diff(&named("webrtc"), &named("webrtc")), Default::default());
}

/// What the door for HTTPS shows is taken over by a renewal as by a reload; where it is and whom it knows waits.
#[test]
fn certificates_of_the_door_for_https_are_renewed_and_told_of() {
    let lab = Lab::new("reload-https");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures/config/good/https.toml");
    let text = fs::read_to_string(folder).unwrap();
    for name in ["edge.pem", "edge.key"] {
        fs::copy(lab.path(name), lab.path(&format!("door-{name}"))).unwrap();
    }
    let own = text.replace(
        "{ certificate = \"edge.pem\", key = \"edge.key\", ca",
        "{ certificate = \"door-edge.pem\", key = \"door-edge.key\", ca",
    );
    lab.write("sipward.toml", &own);
    let (config, _) = Config::load(&lab.path("sipward.toml")).expect("good");
    let reloader = Reloader::new(config, |_| Ok(()));
    for (name, put) in
        [("renewed", Reloader::renew as fn(&Reloader) -> _), ("again", Reloader::reload)]
    {
        let before = reloader.current().https.as_ref().unwrap().fingerprint;
        let renewed = Lab::new(&format!("reload-https-{name}"));
        for name in ["edge.pem", "edge.key"] {
            fs::copy(renewed.path(name), lab.path(&format!("door-{name}"))).unwrap();
        }
        let report = put(&reloader).expect("good");
        assert_eq!((report.changed, report.restart), (list_of(&["certificates"]), vec![]));
        assert!(reloader.current().https.as_ref().unwrap().fingerprint != before, "in force");
        let report = put(&reloader).expect("good");
        assert_eq!((report.changed, report.restart), (vec![], vec![]));
    }
    lab.edit("sipward.toml", "DM.example.net", "dm2.example.net");
    let report = reloader.reload().expect("good");
    assert_eq!((report.changed, report.restart), (vec![], list_of(&["https"])));
}

/// SEC-001: the secret of a cluster is for its owner alone, long enough, and told nowhere.
#[test]
fn the_secret_of_a_cluster_is_read_and_what_is_wrong_with_it_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new("cluster");
    let old = Config::load(&lab.path("sipward.toml")).expect("good").0;
    let text = fs::read_to_string(lab.path("sipward.toml")).unwrap();
    lab.write("sipward.toml", &format!("{text}\n[cluster]\nsecret = \"cluster.key\"\n"));
    let write = |octets: &str, mode| {
        lab.write("cluster.key", octets);
        fs::set_permissions(lab.path("cluster.key"), fs::Permissions::from_mode(mode)).unwrap();
    };
    let secret = "00112233445566778899aabbccddeeff";
    for (octets, mode, expected) in [
        (secret, 0o644, "can be read by others"),
        (&secret[1..], 0o600, "cluster.secret = \"cluster.key\" is too short"),
        ("", 0o600, "is too short"),
    ] {
        write(octets, mode);
        let (code, _, errors) = lab.run(&["check", "sipward.toml"]);
        assert!(code == 2 && errors.contains(expected), "{octets}: {errors}");
        assert!(octets.is_empty() || !errors.contains(octets), "{errors}");
    }
    write(&format!("{secret}\n"), 0o600);
    let load = || Config::load(&lab.path("sipward.toml")).expect("good").0;
    let new = load();
    assert_eq!(diff(&old, &new).live, ["cluster.secret"], "SEC-003");
    assert_eq!(diff(&new, &old).restart, ["cluster.secret"], "what was drawn at the start is gone");
    assert!(!format!("{new:?}").contains("0011") && new.cluster.secret.is_some());
    write(secret, 0o600);
    assert_eq!(diff(&new, &load()), Default::default(), "a line end is no part of it");
    write(&secret.replace('0', "1"), 0o600);
    assert_eq!(diff(&new, &load()).live, ["cluster.secret"], "SEC-003");
    lab.write("sipward.toml", &format!("{text}\n[cluster]\noverlap = \"3d\"\n"));
    let (code, _, errors) = lab.run(&["check", "sipward.toml"]);
    assert!(code == 2 && errors.contains("cluster.overlap = \"3d\""), "{errors}");
}

#[test]
fn a_reload_that_cannot_be_applied_leaves_the_old_one() {
    let lab = Lab::new("reload-unapplied");
    let (config, _) = Config::load(&lab.path("sipward.toml")).expect("good");
    let reloader = Reloader::new(config, |_| Err("the listener is gone".into()));
    let before = reloader.current();
    let problems = reloader.reload().expect_err("not applied");
    assert!(problems[0].to_string().contains("the listener is gone"));
    assert!(std::sync::Arc::ptr_eq(&before, &reloader.current()));
}

#[test]
fn every_part_is_compared() {
    let lab = Lab::new("diff");
    let load = || Config::load(&lab.path("sipward.toml")).expect("good").0;
    let old = load();
    assert_eq!(diff(&old, &load()), Default::default());
    for (from, to, live, restart) in [
        (
            "domains = [\"example.net\"]",
            "domains = [\"example.net\", \"example.org\"]",
            &["routes", "edge.domains"][..],
            None,
        ),
        ("identity = \"127.0.0.1\"", "identity = \"127.0.0.2\"", &[], Some("listen[2].identity")),
        ("0.0.0.0:5061", "0.0.0.0:5062", &[], Some("listen[1].address")),
        (
            "identity = \"127.0.0.1\"",
            "identity = \"127.0.0.1\"\nforce_rport = false",
            &["listen[2].force_rport"],
            None,
        ),
        (
            "identity = \"edge.example.net\"",
            "identity = \"edge.example.net\"\nsec_agree = \"accept\"",
            &["listen[0].sec_agree"],
            None,
        ),
        (
            "identity = \"edge.example.net\"",
            "identity = \"edge.example.net\"\noutbound = \"required\"",
            &["listen[0].outbound"],
            None,
        ),
        (
            "identity = \"edge.example.net\"",
            "identity = \"edge.example.net\"\nmode = \"b2bua\"",
            &["listen[0].mode"],
            None,
        ),
        ("[[peer]]", "[b2bua]\nclasses = [\"cpm\"]\n\n[[peer]]", &["b2bua"], None),
        (":5070;", ":5071;", &[], Some("peer[0].members")),
        ("[[peer]]", "[[peer]]\nrfc2543 = true", &["peer[0].rfc2543"], None),
        ("challenge = \"407\"", "challenge = \"401\"", &["register.challenge"], None),
        ("key_lifetime = \"12h\"", "key_lifetime = \"1h\"", &[], Some("bsf.key_lifetime")),
        ("rate = \"6/min\"", "rate = \"7/min\"", &["enabler.reg"], None),
        ("mode = \"observe\"", "mode = \"enforce\"", &["association.mode"], None),
        ("# max_per_caller = 64", "max_per_caller = 2", &["association.max_per_caller"], None),
        ("key\", psk = true", "key\"", &[], Some("listen[1].tls.psk")),
        ("[naf] ", "[psk]\nua = \"oma\"\n[naf] ", &[], Some("psk.ua")),
        ("# workers = 4", "workers = 128", &[], Some("edge.workers")),
        ("[admission]", "[admission]\nmax = 1000", &[], Some("admission.max")),
        ("[admission]", "[admission]\nflows_of_user = 7", &[], Some("admission.flows_of_user")),
        ("[naf] ", "[enabler.push]\nlifetime = \"2h\"\n[naf] ", &[], Some("enabler.push.lifetime")),
        ("log = \"info\"", "log = \"debug\"", &["telemetry.log"], None),
        ("json = false", "json = true", &[], Some("telemetry.json")),
        ("[admission]", "[admission]\nflow_rate = \"5/s\"", &["admission.flow_rate"], None),
        ("[forward]", "[forward]\nt1 = \"100ms\"", &["forward"], None),
        ("[digest]", "[digest]\nlock = false", &["digest.lock"], None),
        (
            "[naf] ",
            "[danger]\nbsf_accepts_auth = true\n[naf] ",
            &[],
            Some("danger.bsf_accepts_auth"),
        ),
        ("[naf] ", "[path]\nstrict = true\n[naf] ", &["path.strict"], None),
        (
            "accounts = \"accounts.toml\"",
            "accounts = \"accounts.toml\"\nnonce_lifetime = \"60s\"",
            &["authentication.nonce_lifetime"],
            None,
        ),
        (
            "fqdn = \"edge",
            "association_lifetime = \"1h\"\nfqdn = \"edge",
            &[],
            Some("naf.association_lifetime"),
        ),
    ] {
        let text = fs::read_to_string(lab.path("sipward.toml")).unwrap();
        lab.edit("sipward.toml", from, to);
        let found = diff(&old, &load());
        assert_eq!(found.live, live, "{to}");
        assert_eq!(found.restart, restart.into_iter().collect::<Vec<_>>(), "{to}");
        lab.write("sipward.toml", &text);
    }
    lab.edit("sipward.toml", "# [aka] ", "[aka] ");
    let found = diff(&old, &load());
    assert_eq!(found.live, Vec::<String>::new());
    assert_eq!(found.restart, ["authentication.schemes", "aka"], "a part is told of as a whole");
    lab.edit("sipward.toml", "[aka] ", "# [aka] ");
    lab.edit("subscribers.toml", "impus = [\"sip:ue2@", "impus = [\"sip:ue3@");
    assert_eq!(diff(&old, &load()).live, ["subscribers"]);
}

#[test]
fn a_class_of_ones_own_is_one_table_and_accounts_are_held_to_it_by_its_name() {
    let lab = Lab::new("own-class");
    let text = fs::read_to_string(lab.path("sipward.toml")).unwrap();
    let class = "\n[[enabler.class]]\nname = \"example\"\nmethod = \"INVITE\"\nfeature = \"+g.example.service\"\nlevel = 2\nsecure = true\n";
    lab.write("own.toml", &(text + class));
    lab.edit(
        "accounts.toml",
        "username = \"alice\"",
        "classes = [\"example\"]\nusername = \"alice\"",
    );
    let (config, _) = Config::load(&lab.path("own.toml")).expect("USAB-002: one table, no code");
    let [own] = config.enablers.own.as_slice() else { panic!("{:?}", config.enablers.own) };
    assert!(own.policy.demands.secure && own.policy.demands.level == 2);
    let (alice, _) =
        config.authentication.accounts.user("example.net", "alice", Hash::Sha256).expect("alice");
    let classes = alice.rights.classes.expect("a list");
    assert!(classes.has(Class::Own(0)) && !classes.has(Class::CpmPager));
    let (code, _, errors) = lab.run(&["check", "sipward.toml"]);
    assert_eq!(code, 2, "without the class its name is none");
    assert!(errors.contains("is held to \"example\", which is no class"), "{errors}");
}

#[test]
fn classes_may_change_while_the_edge_serves_but_not_with_the_list_of_peers() {
    let lab = Lab::new("reload-classes");
    let text = fs::read_to_string(lab.path("sipward.toml")).unwrap();
    let parse = |more: &str| {
        Config::parse(&lab.path("sipward.toml"), &format!("{text}{more}")).expect(more).0
    };
    let class = "\n[[enabler.class]]\nname = \"example\"\ndomain = \"a.example.net\"\n";
    let cpm = "\n[enabler.cpm]\nmsrp = \"tls\"\n[enabler.locsip]\nmin_moved = \"20 m\"\n";
    let found = diff(&parse(""), &parse(&format!("{class}{cpm}")));
    assert_eq!(found.live, ["enabler.locsip", "enabler.class", "enabler.cpm"]);
    assert_eq!(found.restart, Vec::<String>::new());
    let ids = "\n[enabler.locsip]\nua_ids = [\"0300000002\", \"0300000003\"]\n";
    assert_eq!(diff(&parse(""), &parse(ids)).restart, ["enabler.locsip.ua_ids"]);
    let peer =
        "\n[[peer]]\nname = \"b\"\nmembers = [\"sip:127.0.0.1:5099\"]\ntrust = \"address\"\n";
    let found = diff(&parse(""), &parse(&format!("{class}{peer}")));
    assert!(found.restart.contains(&"enabler.class".to_owned()), "{found:?}");
    assert!(!found.restart.contains(&"accounts".to_owned()), "they are as they were: {found:?}");

    // Accounts are held to classes by their places: they stay with the classes in force, and nothing else is told.
    let old = parse("");
    lab.edit("accounts.toml", "username = \"alice\"", "username = \"bob\"");
    let found = diff(&old, &parse(&format!("{class}{peer}")));
    assert!(found.restart.contains(&"accounts".to_owned()), "{found:?}");
    assert!(!found.live.contains(&"accounts".to_owned()), "{found:?}");
    assert_eq!(diff(&old, &parse(class)).live, ["accounts", "enabler.class"]);
}

/// SEC_CF ADM-002: a choice of algorithms never goes back, and a weaker one says so by its version.
#[test]
fn algorithms_never_go_back_and_weaker_ones_have_a_version_of_their_own() {
    let lab = Lab::new("algorithms");
    let write = |version: u32, offered: &str, of_listener: &str| {
        let lab = Lab::new("algorithms-draft");
        let both = "algorithms = [\"SHA-256\", \"MD5\"]";
        let digest = format!("version = {version}\nalgorithms = [{offered}]");
        lab.edit("sipward.toml", both, &digest);
        let own = format!("identity = \"edge.example.net\"\ndigest.algorithms = [{of_listener}]");
        lab.edit("sipward.toml", "identity = \"edge.example.net\"", &own);
        fs::read_to_string(lab.path("sipward.toml")).unwrap()
    };
    const BOTH: &str = "\"SHA-256\", \"MD5\"";
    const STRONG: &str = "\"SHA-256\"";
    lab.write("sipward.toml", &write(3, STRONG, STRONG));
    let (config, _) = Config::load(&lab.path("sipward.toml")).expect("good");
    let reloader = Reloader::new(config, |_| Ok(()));
    for (version, offered, of_listener, expected) in [
        (2, STRONG, STRONG, "digest.version = 2 is lower than 3, which is in force"),
        (3, BOTH, STRONG, "MD5 is allowed, where SHA-256 was the weakest"),
        (3, STRONG, BOTH, "MD5 is allowed, where SHA-256 was the weakest"),
    ] {
        lab.write("sipward.toml", &write(version, offered, of_listener));
        let problems = reloader.reload().expect_err("refused");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].what, expected);
        let fix = &problems[0].fix;
        assert!(fix.contains("version = 4"), "{fix}");
        assert_eq!(reloader.current().digest.version, 3);
    }
    lab.write("sipward.toml", &write(4, BOTH, STRONG));
    let report = reloader.reload().expect("with a version of its own");
    assert_eq!(report.changed, ["digest.algorithms", "digest.version"]);
    let told = report.warnings.iter().filter(|warning| warning.0.what.contains("was the weakest"));
    assert_eq!(told.count(), 1, "{:?}", report.warnings);
    lab.write("sipward.toml", &write(4, STRONG, STRONG));
    reloader.reload().expect("what is stronger needs none");
}
