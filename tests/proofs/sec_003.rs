//! SEC-003: who is entitled to can change secrets safely. While phones call without a pause, the certificate of the edge, a
//! key that was carried to it, the key of dialog tokens, and the key that its store is sealed under are replaced: no call
//! fails (one that the edge puts off for want of time is made again, and succeeds), new handshakes are made with what is
//! new alone, tokens of the key before work until its overlap ends, and what cannot be used changes nothing. Who lacks the
//! key of the store changes nothing. The log says who changed what, and holds no secret.
//!
//! A process that knows a dialog needs no token of it. So the tokens are shown to another edge of the same deployment, which
//! knows nothing but the key.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use sipward::client::answer::Credential;
use sipward::client::draft::Draft;
use sipward::client::ue::{Ue, UeSettings};
use sipward::transport::{Transport, tls};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::callers::{Load, put_off};
use crate::home::{ALICE, EDGE, Home, PASSWORD, serve, wait};
use crate::programs::{PATIENCE, Program, ask};

const NAME: &str = "psk;alice@edge.example.net";
/// Keys of dialog tokens, one after the other.
const TOKENS: [&str; 3] = [
    "2f8ad1c5b09e7364a1f0c2d4e6b8091a",
    "7c41e09d3ba85f62c7d9e1f3a5b70c28",
    "b5d80f17a29c4e63d8eaf2041638597b",
];
/// What phones that call without a pause need, and a log that can be read again and again.
const MORE: &str = r#"
[enabler.sip]
rate = "60000/min"
dialog_rate = "1000/s"
[association]
max_per_caller = 10000
[cluster]
secret = "token.key"
overlap = "24h"
"#;

fn carol() -> Credential {
    Credential::Account {
        username: "carol".into(),
        password: PASSWORD.to_owned().into(),
        realm: None,
    }
}

/// Of carol's phone, on TLS.
fn secure(home: &Home) -> UeSettings {
    UeSettings {
        edge: home.secure.address,
        transport: Transport::Tls,
        tls: Some(tls::client_config(home.authority.trust(), None).unwrap()),
        ..home.settings("sip:carol@example.net", carol())
    }
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

/// Another edge of the same deployment.
struct Beside {
    edge: Program,
    /// Where devices are, and the core.
    ue: SocketAddr,
    core: SocketAddr,
}

impl Beside {
    fn start(home: &Home) -> Self {
        let config = fs::read_to_string(home.folder.path("edge.toml")).unwrap();
        home.folder.write("beside.toml", config.replace("edge.redb", "beside.redb"));
        let mut edge = Program::start_logged(&mut serve(&home.folder, "beside"));
        let [ue, _, core] = ["ue", "ue-tls", "core"].map(|name| edge.address(name));
        Self { edge, ue, core }
    }

    /// Carol hangs up here what she began at the other edge: what she is told.
    fn hangs_up(&self, home: &Home, call: &Began) -> Option<u16> {
        let settings =
            UeSettings { edge: self.ue, ..home.settings("sip:carol@example.net", carol()) };
        wait(async {
            let ue = Ue::connect(settings).await.unwrap();
            let mut bye = ue.draft("BYE", &call.bye.uri).await.unwrap();
            bye.routes.clone_from(&call.bye.routes);
            for (route, own) in bye.routes.iter_mut().zip([self.ue, self.core]) {
                let (before, rest) = route.rsplit_once(':').expect("a port");
                let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                *route = format!("{before}:{}{rest}", own.port());
            }
            (bye.call_id, bye.cseq) = (call.bye.call_id.clone(), call.bye.cseq);
            (bye.from_tag, bye.to_tag) = (call.bye.from_tag.clone(), call.bye.to_tag.clone());
            bye.to.clone_from(&call.bye.to);
            ue.send(bye).await.unwrap().status()
        })
    }
}

/// A phone on UDP that has proved who it is before there is any load: what proves nothing is the first to go.
struct Caller {
    runtime: Runtime,
    ue: Ue,
}

/// A call that was begun at the first edge, and how it would be hung up.
struct Began {
    bye: Draft,
}

impl Caller {
    fn new(home: &Home) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = home.settings("sip:carol@example.net", carol());
        let ue = runtime.block_on(Ue::connect(settings)).unwrap();
        let own = Self { runtime, ue };
        own.begins();
        own
    }

    fn begins(&self) -> Began {
        self.runtime.block_on(async {
            let mut call = self.ue.call("sip:core@example.net").await.unwrap();
            while let Some(wait) = put_off(&call.answer) {
                let _ = self.ue.incoming(wait).await;
                call = self.ue.call("sip:core@example.net").await.unwrap();
            }
            assert_eq!(call.answer.status(), Some(200));
            Began { bye: self.ue.inside(&call.call_id, "BYE").await.unwrap() }
        })
    }
}

#[test]
fn sec_003_secrets_are_changed_safely() {
    let home = Home::new("sec-003");
    let read = |name: &str| fs::read_to_string(home.folder.path(name)).unwrap();
    let times = |log: &str, what: &str| read(log).matches(what).count();
    home.folder.write("token.key", TOKENS[0]);
    let config = read("edge.toml").replace("\"trace\"", "\"info\"") + MORE;
    home.folder.write("edge.toml", &config);
    home.edge.signal("HUP");
    until("the key of tokens", || times("edge.log", "reloaded: ") == 1);
    let (beside, caller) = (Beside::start(&home), Caller::new(&home));
    let load = Load::start(secure(&home), home.page);
    load.go_on();

    // The certificate.
    let old = shown(&home);
    home.folder.certify(&home.authority, "edge", EDGE);
    home.edge.signal("HUP");
    until("another certificate", || shown(&home) != old);
    let new = shown(&home);
    load.go_on();
    // A key that does not fit it: the old pair stays.
    let key = read("edge.key");
    home.folder.certify(&home.authority, "other", EDGE);
    home.folder.write("edge.key", read("other.key"));
    home.edge.signal("HUP");
    until("a refusal", || read("edge.log").contains("not reloaded"));
    assert_eq!(shown(&home), new);
    home.folder.write("edge.key", key);
    load.go_on();

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
    load.go_on();

    tokens(&home, &beside, &caller, &load);

    // The key of the store: who has neither changes nothing.
    home.folder.write("stranger.state", "00".repeat(32));
    home.folder.write("edge.toml", config.replace("edge.state", "stranger.state"));
    let (good, refused) = home.command(&["key", "revoke", NAME]);
    assert!(!good && refused.contains("does not open it"), "{refused}");
    home.folder.write("edge.toml", &config);
    until("the second key, as before", || phone("second.key"));
    let (good, rotated) = home.command(&["key", "rotate", "--to", "new.state"]);
    assert!(good, "{rotated}");
    home.folder.write("edge.toml", config.replace("edge.state", "new.state"));
    let (good, list) = home.command(&["key", "list"]);
    assert!(good && list.contains(NAME), "{list}");
    home.folder.write("edge.toml", &config);
    assert!(!home.command(&["key", "list"]).0, "the one before opens it no more");
    until("the second key, of who has the store open", || phone("second.key"));
    load.go_on();
    load.end();

    assert!(
        said[0].contains(NAME) && said[1].contains(NAME),
        "what was changed is named: {said:?}"
    );
    said.extend([refused, rotated, list, read("edge.log"), read("beside.log")]);
    for file in ["first.key", "second.key", "edge.state", "new.state"] {
        let secret = read(file);
        assert!(said.iter().all(|text| !text.contains(secret.trim())), "{file}");
    }
    for secret in TOKENS {
        assert!(said.iter().all(|text| !text.contains(secret)), "a key of tokens");
    }
}

/// The key of dialog tokens, of both edges.
fn tokens(home: &Home, beside: &Beside, caller: &Caller, load: &Load) {
    let read = |name: &str| fs::read_to_string(home.folder.path(name)).unwrap();
    let logs = ["edge.log", "beside.log"];
    let uid = nix::unistd::geteuid();
    let audited = |by: &str, outcome: &str, what: &str| {
        let [uid, by, outcome] =
            [format!("uid={uid}"), format!("by=\"{by}\""), format!("outcome=\"{outcome}\"")];
        logs.map(|log| {
            let log = read(log);
            let lines = log.lines().filter(|line| line.contains("act=\"reload\""));
            lines
                .filter(|line| {
                    [&uid, &by, &outcome].iter().all(|part| line.contains(*part))
                        && line.contains(what)
                })
                .count()
        })
    };
    let hang_up = |call: &Began| beside.hangs_up(home, call);
    let [one, two, three] = [(); 3].map(|()| caller.begins());
    assert_eq!(hang_up(&one), Some(200), "an edge that shares the key finds the call again");

    // What is no key, and one that others may read, are refused: the one in force stays.
    for (octets, mode, why) in
        [(&TOKENS[1][..31], 0o600, "is too short"), (TOKENS[1], 0o644, "can be read by others")]
    {
        let path = home.folder.write("token.key", octets);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let before = audited("signal", "refused", "");
        for edge in [&home.edge, &beside.edge] {
            edge.signal("HUP");
        }
        until("a refusal", || {
            audited("signal", "refused", "").iter().zip(before).all(|(now, before)| *now > before)
        });
        until(why, || logs.iter().all(|log| read(log).contains(why)));
    }
    assert_eq!(hang_up(&two), Some(200), "the old key stays");
    load.go_on();

    // Another one, which both see in its place by themselves: tokens of the one before work.
    home.folder.write("token.key", TOKENS[1]);
    until("another key of tokens", || audited("file", "done", "cluster.secret") == [1, 1]);
    load.go_on();
    let [four, five] = [(); 2].map(|()| caller.begins());
    assert_eq!(hang_up(&three), Some(200), "sealed under the key before");
    assert_eq!(hang_up(&four), Some(200), "sealed under the new one");

    // A third, and the second is taken for two seconds more. The signal may find that they saw it by themselves.
    for name in ["edge.toml", "beside.toml"] {
        home.folder.write(name, read(name).replace("overlap = \"24h\"", "overlap = \"2s\""));
    }
    let signal = || [&home.edge, &beside.edge].map(|edge| edge.signal("HUP"));
    signal();
    until("another overlap", || audited("signal", "done", "cluster.overlap") == [1, 1]);
    home.folder.write("token.key", TOKENS[2]);
    signal();
    until("a third key of tokens", || {
        let [by_signal, by_file] =
            ["signal", "file"].map(|by| audited(by, "done", "cluster.secret"));
        [0, 1].map(|edge| by_signal[edge] + by_file[edge]) == [3, 2]
    });
    let over = Instant::now() + Duration::from_secs(3);
    until("the end of the overlap", || Instant::now() > over);
    assert_eq!(hang_up(&five), Some(481), "its overlap is over");
    assert_eq!(hang_up(&caller.begins()), Some(200), "sealed under the third");
    load.go_on();
}
