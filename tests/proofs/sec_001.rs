//! SEC-001: secrets at rest are out of reach of the unauthorised. After traffic with every kind of secret, each of them is
//! looked for, in every spelling, in all that the servers left behind: logs that tell everything, metrics, stores, and
//! whatever else stands in their folder. A key file that others may read starts nothing.
//!
//! The process's own memory, where keys that are in use have to be, is left out, as the requirement leaves it out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use memchr::memmem;
use sipward::client::answer::Credential;

use crate::home::{ALICE, Home, PASSWORD, for_sip, forms, serve, written};
use crate::programs::{PATIENCE, ask, metrics};

/// Files that the operator wrote, and that are secrets themselves.
const SECRETS: [&str; 6] =
    ["accounts.toml", "bsf.state", "edge.state", "bsf.key", "edge.key", "carol.key"];

#[test]
fn sec_001_secrets_at_rest() {
    let home = Home::new("sec-001");
    let keys = home.bootstrap(0);
    assert_eq!(home.register(ALICE, for_sip(&keys)), Ok(200));
    let carol = Credential::Account {
        username: "carol".into(),
        password: PASSWORD.to_owned().into(),
        realm: None,
    };
    assert_eq!(home.register("sip:carol@example.net", carol), Ok(200));
    let issue = ["key", "issue", "carol", "--impu", "sip:carol@example.net", "--out", "carol.key"];
    let (good, said) = home.command(&issue);
    assert!(good, "{said}");

    // Sessions are written down every second: that of this key is there, and sealed.
    let deadline = Instant::now() + PATIENCE;
    let store = || fs::read(home.folder.path("bsf.redb")).unwrap();
    while memmem::find(&store(), keys.btid.as_str().as_bytes()).is_none() {
        assert!(Instant::now() < deadline, "no session");
    }

    let mut secrets = forms(&keys);
    secrets.extend(written("the password", PASSWORD.as_bytes()));
    let read = |name: &str| fs::read_to_string(home.folder.path(name)).unwrap();
    let digits = read("carol.key");
    secrets.push(("the carried key".into(), digits.trim().into()));
    let octets: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&digits[2 * at..][..2], 16).unwrap()).collect();
    secrets.extend(written("the carried key", &octets));
    for name in ["bsf.state", "edge.state"] {
        secrets.push((format!("the key of {name}"), read(name).into()));
    }
    // Responses, and with them who could be guessed at.
    let wire = String::from_utf8_lossy(&home.wire.tap.octets()).into_owned();
    let responses: Vec<&str> =
        wire.split("response=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(responses.len() >= 2, "{wire}");
    secrets.extend(responses.iter().map(|text| ("a response".to_owned(), text.as_bytes().into())));

    let page = metrics(home.page);
    let mut places = vec![
        ("the page of metrics".to_owned(), page.into_bytes()),
        ("what a command said".into(), said.into()),
    ];
    for entry in fs::read_dir(home.folder.path("")).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        let name = name.into_string().unwrap();
        if !SECRETS.contains(&name.as_str()) {
            places.push((name, fs::read(path).unwrap()));
        }
    }
    let names: Vec<&str> = places.iter().map(|(name, _)| name.as_str()).collect();
    for wanted in ["bsf.redb", "edge.redb", "bsf.log", "edge.log"] {
        let found = places.iter().find(|(name, _)| name == wanted);
        assert!(found.is_some_and(|(_, octets)| octets.len() > 1000), "{wanted} in {names:?}");
    }
    for (place, octets) in &places {
        for (secret, form) in &secrets {
            assert!(memmem::find(octets, form).is_none(), "{secret} stands in {place}");
        }
    }
    for (file, config) in [("edge.state", "edge"), ("accounts.toml", "edge"), ("bsf.state", "bsf")]
    {
        let path = home.folder.path(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(home.folder.path(&format!("{config}.log")), "").unwrap();
        let (good, _) = ask(&mut serve(&home.folder, config));
        let said = read(&format!("{config}.log"));
        assert!(!good && said.contains(&format!("chmod 600 {file}")), "{file}: {said}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}
