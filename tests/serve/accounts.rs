//! Accounts in the store: given, changed and taken back by commands while the edge serves from it.

use sipward::authentication::digest::Ha1;
use sipward::keys::subscribers::disk::replace;
use sipward::state::embedded::Embedded;
use sipward::state::seal::KeyKey;
use sipward::state::{Store as _, Table};
use zeroize::Zeroizing;

use super::*;

/// An edge whose accounts stand in a store, and alice in a file beside it.
fn start(name: &str, core: &Core) -> Edge {
    let peer = format!("sip:{};transport=udp", core.address);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("serve-{name}"));
    Edge::start_with(name, |text| {
        replace(&folder.join("state.key"), b"00112233445566778899aabbccddeeff00112233\n").unwrap();
        let list = text.lines().find(|line| line.starts_with("subscribers = ")).unwrap();
        let text = text.replace(list, "").replace("sip:127.0.0.1:5070;transport=tcp", &peer);
        let text = text.replace("# accounts_in_state = false", "accounts_in_state = true");
        // It is asked again and again until a change is in force, and told no as often.
        let text = text.replace("rate = \"6/min\"", "rate = \"6000/min\"");
        let failures = "failures = { flow = \"6000/min\", address = \"60000/min\", ban = \"1s\" }";
        let text = text.replace("[admission]\n", &format!("[admission]\n{failures}\n"));
        format!("{text}\n[state]\nfile = \"state.redb\"\nkey_file = \"state.key\"\n")
    })
}

/// What `sipward account` says on the edge's configuration, and its exit code.
fn account(edge: &Edge, words: &[&str]) -> (Option<i32>, String) {
    let mut command = sipward();
    command.args(["account", "--config", "sipward.toml"]).args(words);
    let done = command.current_dir(&edge.folder).output().unwrap();
    (done.status.code(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

fn good(edge: &Edge, words: &[&str]) -> String {
    let (code, said) = account(edge, words);
    assert_eq!(code, Some(0), "{words:?}: {said}");
    said
}

/// Registers over UDP; what came of it.
fn register(edge: &Edge, username: &str, password: &str) -> Result<u16, String> {
    let password: Zeroizing<String> = password.to_owned().into();
    let settings = UeSettings {
        identity: format!("sip:{username}@example.net"),
        credentials: vec![Credential::Account { username: username.into(), password, realm: None }],
        ..alice(edge, Transport::Udp)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ue = Ue::connect(settings).await.map_err(|why| why.to_string())?;
        let answer = ue.register(600).await.map_err(|why| why.to_string())?;
        Ok(answer.status().unwrap())
    })
}

/// The edge looks at the store once a second: waits until a registration comes to that.
fn becomes(edge: &Edge, username: &str, password: &str, taken: bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while (register(edge, username, password) == Ok(200)) != taken {
        assert!(std::time::Instant::now() < deadline, "{username} never {taken}");
    }
}

/// SEC-001: an account that stands in the store alone registers by Digest, and by no other password; whoever has another
/// password, is barred or removed is out of it within a beat or two, and what the file of the store shows is his name.
#[test]
fn accounts_stand_in_the_store_and_change_while_the_edge_serves() {
    let core = Core::start();
    let mut edge = start("accounts", &core);
    assert_ne!(register(&edge, "bob", "by the sea"), Ok(200), "nobody knows him");
    let rows = "username,password,md5,identities\nbob,by the sea,,\n\
        carol,,0123456789abcdef0123456789abcdef,sip:carol@example.net tel:+1\n";
    replace(&edge.folder.join("accounts.csv"), rows.as_bytes()).unwrap();
    let said = good(&edge, &["import", "accounts.csv"]);
    assert!(said.starts_with("2 accounts added to "), "{said}");
    becomes(&edge, "bob", "by the sea", true);
    assert_ne!(register(&edge, "bob", "by the see"), Ok(200), "another password");
    let own = alice(&edge, Transport::Udp);
    let Credential::Account { password, .. } = &own.credentials[0] else { panic!("an account") };
    assert_eq!(register(&edge, "alice", password), Ok(200), "the file counts as before");

    let again = good(&edge, &["import", "accounts.csv"]);
    assert!(again.ends_with("2 were there already\n"), "{again}");
    replace(&edge.folder.join("other"), b"on the hill\n").unwrap();
    good(&edge, &["set", "bob", "--password-file", "other"]);
    becomes(&edge, "bob", "on the hill", true);
    assert_ne!(register(&edge, "bob", "by the sea"), Ok(200), "the old password");
    for (word, taken) in [("lock", false), ("unlock", true), ("remove", false)] {
        good(&edge, &[word, "bob"]);
        becomes(&edge, "bob", "on the hill", taken);
    }
    assert_eq!(account(&edge, &["remove", "bob"]).0, Some(1), "once");
    good(&edge, &["set", "bob", "--password-file", "other"]);
    becomes(&edge, "bob", "on the hill", true);
    // An import gives him another password, and lifts no bar.
    good(&edge, &["lock", "bob"]);
    becomes(&edge, "bob", "on the hill", false);
    good(&edge, &["import", "accounts.csv", "--replace"]);
    good(&edge, &["set", "dora", "--password-file", "other"]);
    becomes(&edge, "dora", "on the hill", true);
    assert_ne!(register(&edge, "bob", "by the sea"), Ok(200), "he is barred");
    good(&edge, &["unlock", "bob"]);
    becomes(&edge, "bob", "by the sea", true);
    good(&edge, &["set", "bob", "--password-file", "other"]);
    becomes(&edge, "bob", "on the hill", true);
    let listed = good(&edge, &["list"]);
    assert!(listed.contains("bob") && listed.contains("sip:carol@example.net tel:+1"), "{listed}");

    // A crash forgets none of it.
    edge.child.kill().unwrap();
    edge.child.wait().unwrap();
    let folder = std::mem::take(&mut edge.folder);
    drop(edge);
    let edge = Edge::serve(sipward(), folder);
    assert_eq!(register(&edge, "bob", "on the hill"), Ok(200));

    let octets = fs::read(edge.folder.join("state.redb")).unwrap();
    let shows = |text: &str| octets.windows(text.len()).any(|part| part == text.as_bytes());
    for hash in [Hash::Md5, Hash::Sha256, Hash::Sha512_256] {
        for password in ["on the hill", "by the sea"] {
            let ha1 = Ha1::new(hash, b"bob", b"example.net", password.as_bytes());
            assert!(!shows(ha1.expose()) && !shows(password), "{hash:?}");
            assert!(![&said, &again, &listed].iter().any(|text| text.contains(ha1.expose())));
        }
    }
    assert!(!shows("0123456789abcdef0123456789abcdef") && !shows("sip:carol@"), "sealed");
    assert!(shows("example.net\tcarol"), "names are in the clear, as those of subscribers are");
}

/// Every bad line is told of, and nothing is written; a name that the file of accounts has is none for the store, and
/// whoever comes to stand in both is let in by neither.
#[test]
fn one_name_is_one_account() {
    let core = Core::start();
    let mut edge = start("accounts-twice", &core);
    let rows = "username,password,md5\nbob,secret-of-bob,\nbob,twice,\nalice,mine,\na:b,x,\ncarol,,12\n\
        dave,both,0123456789abcdef0123456789abcdef\nerin,x\n";
    replace(&edge.folder.join("bad.csv"), rows.as_bytes()).unwrap();
    let (code, said) = account(&edge, &["import", "bad.csv"]);
    assert_eq!(code, Some(2), "{said}");
    for line in 3..=8 {
        assert!(said.contains(&format!("bad.csv:{line}: ")), "{line}: {said}");
    }
    assert!(said.contains("nothing was written: 6 problems, 1 accounts without"), "{said}");
    assert!(said.contains("account \"alice\" stands in "), "{said}");
    assert!(!said.contains("secret-of-bob"), "{said}");
    assert_eq!(good(&edge, &["list"]).lines().count(), 1, "a heading");
    let (code, said) = account(&edge, &["import", "bad.csv", "--good-lines"]);
    assert_eq!((code, said.contains("1 accounts added to ")), (Some(1), true), "{said}");
    replace(&edge.folder.join("secret"), b"mine\n").unwrap();
    let (code, said) = account(&edge, &["set", "alice", "--password-file", "secret"]);
    assert_eq!((code, said.contains("stands in ")), (Some(1), true), "{said}");
    becomes(&edge, "bob", "secret-of-bob", true);

    // Given by a command whose configuration knows nothing of the file.
    let config = fs::read_to_string(edge.folder.join("sipward.toml")).unwrap();
    let alone = config.replace("accounts = \"accounts.toml\"", "");
    fs::write(edge.folder.join("alone.toml"), alone).unwrap();
    let set = ["--config", "alone.toml", "set", "alice", "--password-file", "secret"];
    let mut command = sipward();
    let done = command.arg("account").args(set).current_dir(&edge.folder).status().unwrap();
    assert!(done.success());
    let told = edge.until("so neither does");
    assert!(told.contains("account \"alice\" of realm \"example.net\" stands in "), "{told}");
    let own = alice(&edge, Transport::Udp);
    let Credential::Account { password, .. } = &own.credentials[0] else { panic!("an account") };
    assert_ne!(register(&edge, "alice", password), Ok(200), "neither by the file");
    assert_ne!(register(&edge, "alice", "mine"), Ok(200), "nor by the store");
    assert_eq!(register(&edge, "bob", "secret-of-bob"), Ok(200), "whom that does not concern");
    edge.signal("-HUP");
    edge.until("not reloaded");
    let second = sipward().arg("check").arg(edge.folder.join("sipward.toml")).status().unwrap();
    assert!(second.success(), "the configuration is good");
    edge.child.kill().unwrap();
    edge.child.wait().unwrap();
    let config = edge.folder.join("sipward.toml");
    let refused = sipward().arg("serve").arg("-c").arg(&config).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(
        (refused.status.code(), said.contains("so neither does")),
        (Some(1), true),
        "{said}"
    );
    let key = KeyKey::of_file(&edge.folder.join("state.key")).unwrap();
    let store = Embedded::open(&edge.folder.join("state.redb"), &key, false).unwrap();
    assert_eq!(store.count(Table::Accounts), Ok(2));
}
