//! SEC-003: who is entitled to can change secrets safely. While phones register without a pause, the certificate of the edge, a
//! key that was carried to it, and the key that its store is sealed under are replaced: no registration fails, new handshakes
//! are made with what is new alone, and what cannot be used changes nothing. Who lacks the key of the store changes nothing.
//!
//! The key of dialog tokens waits for a restart, which `sipward serve` says when it is asked to reload, and is not part of
//! this run.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use sipward::client::answer::Credential;
use sipward::client::ue::{Ue, UeSettings};
use sipward::transport::{Transport, tls};
use tokio::net::TcpStream;

use crate::home::{ALICE, EDGE, Home, PASSWORD, wait};
use crate::programs::{PATIENCE, ask};

const NAME: &str = "psk;alice@edge.example.net";

fn settings(home: &Home) -> UeSettings {
    let carol = Credential::Account {
        username: "carol".into(),
        password: PASSWORD.to_owned().into(),
        realm: None,
    };
    UeSettings {
        edge: home.secure.address,
        transport: Transport::Tls,
        tls: Some(tls::client_config(home.authority.trust(), None).unwrap()),
        ..home.settings("sip:carol@example.net", carol)
    }
}

/// Registers again and again, over one connection or over a new one each time; what failed, and how often it did not.
async fn register(
    settings: UeSettings,
    anew: bool,
    ends: &AtomicBool,
    done: &AtomicUsize,
) -> Result<(), String> {
    let mut ue = Ue::connect(settings.clone()).await.map_err(|why| why.to_string())?;
    while !ends.load(Ordering::Relaxed) {
        if anew {
            ue = Ue::connect(settings.clone()).await.map_err(|why| why.to_string())?;
        }
        let answer = ue.register(600).await.map_err(|why| why.to_string())?;
        if answer.status() != Some(200) {
            return Err(format!("{:?}", answer.status()));
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The certificate that a new handshake shows.
fn shown(home: &Home) -> Vec<u8> {
    let config = tls::client_config(home.authority.trust(), None).unwrap();
    wait(async {
        let tcp = TcpStream::connect(home.secure.address).await.unwrap();
        let (stream, _) = tls::connect(config, EDGE, tcp).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    })
}

/// Waits for something, not for ever.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::yield_now();
    }
}

#[test]
fn sec_003_secrets_are_changed_safely() {
    let home = Home::new("sec-003");
    let read = |name: &str| fs::read_to_string(home.folder.path(name)).unwrap();
    let (ends, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let phones = [false, false, true].map(|anew| {
        let (settings, ends, done) = (settings(&home), Arc::clone(&ends), Arc::clone(&done));
        thread::spawn(move || wait(register(settings, anew, &ends, &done)))
    });
    let go_on = || {
        let before = done.load(Ordering::Relaxed);
        until("more registrations", || {
            phones.iter().any(|phone| phone.is_finished())
                || done.load(Ordering::Relaxed) > before + 30
        });
    };
    go_on();

    // The certificate.
    let old = shown(&home);
    home.folder.certify(&home.authority, "edge", EDGE);
    home.edge.signal("HUP");
    until("another certificate", || shown(&home) != old);
    let new = shown(&home);
    go_on();
    // A key that does not fit it: the old pair stays.
    let key = read("edge.key");
    home.folder.certify(&home.authority, "other", EDGE);
    home.folder.write("edge.key", read("other.key"));
    home.edge.signal("HUP");
    until("a refusal", || read("edge.log").contains("not reloaded"));
    assert_eq!(shown(&home), new);
    home.folder.write("edge.key", key);
    go_on();

    // A key that was carried here: another takes its place under the same name.
    let phone = |file: &str| ask(&mut home.phone(&["--psk-identity", NAME, "--psk-file", file])).0;
    let issue =
        |file: &str| home.command(&["key", "issue", "alice", "--impu", ALICE, "--out", file]);
    let mut said = vec![issue("first.key").1];
    until("the first key", || phone("first.key"));
    said.push(home.command(&["key", "revoke", NAME]).1);
    said.push(issue("second.key").1);
    until("the second key", || phone("second.key"));
    assert!(!phone("first.key"));
    go_on();

    // The key of the store: who has neither changes nothing.
    home.folder.write("stranger.state", "00".repeat(32));
    let config = read("edge.toml");
    home.folder.write("edge.toml", config.replace("edge.state", "stranger.state"));
    let (good, refused) = home.command(&["key", "revoke", NAME]);
    assert!(!good && refused.contains("does not open it"), "{refused}");
    home.folder.write("edge.toml", &config);
    assert!(phone("second.key"));
    let (good, rotated) = home.command(&["key", "rotate", "--to", "new.state"]);
    assert!(good, "{rotated}");
    home.folder.write("edge.toml", config.replace("edge.state", "new.state"));
    let (good, list) = home.command(&["key", "list"]);
    assert!(good && list.contains(NAME), "{list}");
    home.folder.write("edge.toml", &config);
    assert!(!home.command(&["key", "list"]).0, "the one before opens it no more");
    assert!(phone("second.key"), "who serves has it open");
    go_on();

    ends.store(true, Ordering::Relaxed);
    for phone in phones {
        assert_eq!(phone.join().unwrap(), Ok(()), "{} registrations", done.load(Ordering::Relaxed));
    }
    assert!(
        said[0].contains(NAME) && said[1].contains(NAME),
        "what was changed is named: {said:?}"
    );
    said.extend([refused, rotated, list, read("edge.log")]);
    for file in ["first.key", "second.key", "edge.state", "new.state"] {
        let secret = read(file);
        assert!(said.iter().all(|text| !text.contains(secret.trim())), "{file}");
    }
}
