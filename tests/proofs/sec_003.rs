//! SEC-003: who is entitled to can change secrets safely. While phones call without a pause, the certificate of the edge, a
//! key that was carried to it, the key of dialog tokens, and the key that its store is sealed under are replaced: no call
//! fails, new handshakes are made with what is new alone, tokens of the key before work until its overlap ends, and what
//! cannot be used changes nothing. Who lacks the key of the store changes nothing. The log says who changed what, and holds
//! no secret.
//!
//! A process that knows a dialog needs no token of it. So the tokens are shown to another edge of the same deployment, which
//! knows nothing but the key.

use std::fmt::Display;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sipward::client::answer::Credential;
use sipward::client::ue::{Trace, Ue, UeError, UeSettings};
use sipward::transport::{Transport, tls};
use tokio::net::TcpStream;

use crate::home::{ALICE, EDGE, Home, PASSWORD, serve, wait};
use crate::programs::{PATIENCE, Program, ask, metrics};

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

/// What a phone sent and was told since its call began, line by line: a failure shows it.
#[derive(Clone)]
struct Ladder {
    began: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Ladder {
    fn note(&self, line: impl Display) {
        let at = self.began.elapsed().as_secs_f64();
        self.lines.lock().unwrap().push(format!("{at:9.3} s {line}"));
    }

    fn clear(&self) {
        self.lines.lock().unwrap().clear();
    }

    /// Of the phone of these settings.
    fn of(&self, settings: UeSettings) -> UeSettings {
        let own = self.clone();
        let trace: Trace = Arc::new(move |sent, octets| {
            let text = String::from_utf8_lossy(octets);
            let mut lines = text.split("\r\n");
            let first = lines.next().unwrap_or_default();
            let told = ["CSeq:", "Retry-After:", "Reason:", "Warning:", "Call-ID:"];
            let told = lines.filter(|line| told.iter().any(|name| line.starts_with(name)));
            let told: Vec<&str> = told.collect();
            own.note(format!("{} {first} | {}", if sent { "->" } else { "<-" }, told.join(" | ")));
        });
        UeSettings { trace: Some(trace), ..settings }
    }

    /// What failed, and all that led there.
    fn failed(&self, what: &str, why: impl Display) -> String {
        self.note(format!("{what}: {why}"));
        format!("{what}: {why}\n{}", self.lines.lock().unwrap().join("\n"))
    }
}

/// Calls and hangs up, again and again, over one connection or over a new one each time; what failed, if anything.
async fn call(
    settings: UeSettings,
    anew: bool,
    ends: &AtomicBool,
    done: &AtomicUsize,
    ladder: Ladder,
) -> Result<(), String> {
    let settings = ladder.of(settings);
    let failed = |what, why: UeError| ladder.failed(what, why);
    let mut ue = Ue::connect(settings.clone()).await.map_err(|why| failed("connecting", why))?;
    while !ends.load(Ordering::Relaxed) {
        ladder.clear();
        if anew {
            ladder.note("connecting");
            ue = Ue::connect(settings.clone()).await.map_err(|why| failed("connecting", why))?;
        }
        ladder.note("calling");
        let call = ue.call("sip:core@example.net").await.map_err(|why| failed("INVITE", why))?;
        let status = call.answer.status();
        if status != Some(200) {
            return Err(ladder.failed("INVITE", format!("{status:?}")));
        }
        let ended = ue.hang_up(&call.call_id).await.map_err(|why| failed("BYE", why))?;
        if ended.status() != Some(200) {
            return Err(ladder.failed("BYE", format!("{:?}", ended.status())));
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// How many phones call at once, if `SEC_003_PHONES` does not say: programs that are not optimized have time for few. 24 make
/// more than the 200 calls a second of the proof where they are.
const PHONES: usize = 6;

/// Phones that call.
struct Load {
    phones: Vec<JoinHandle<Result<(), String>>>,
    ends: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    began: Instant,
    page: SocketAddr,
}

impl Load {
    fn start(home: &Home) -> Self {
        let (ends, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let began = Instant::now();
        let phones = std::env::var("SEC_003_PHONES").ok().and_then(|phones| phones.parse().ok());
        // One of six opens a connection for each call.
        let phones = (0..phones.unwrap_or(PHONES)).map(|phone| phone % 6 == 5).map(|anew| {
            let settings = secure(home);
            let (ends, done) = (Arc::clone(&ends), Arc::clone(&done));
            let ladder = Ladder { began, lines: Arc::default() };
            thread::spawn(move || wait(call(settings, anew, &ends, &done, ladder)))
        });
        Self { phones: phones.collect(), ends, done, began, page: home.page }
    }

    /// Until there were more calls.
    fn go_on(&self) {
        let before = self.done.load(Ordering::Relaxed);
        until("more calls", || {
            self.phones.iter().any(|phone| phone.is_finished())
                || self.done.load(Ordering::Relaxed) > before + 30
        });
    }

    /// Each of them succeeded. How many there were a second is printed, for who asks.
    #[allow(clippy::print_stdout, reason = "a figure that no test may judge")]
    fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        let done = self.done.load(Ordering::Relaxed);
        let time = self.began.elapsed();
        let ended = self.phones.into_iter().map(|phone| phone.join().unwrap());
        let failures: Vec<String> = ended.filter_map(Result::err).collect();
        let refusals = metrics(self.page);
        let refusals = refusals
            .lines()
            .filter(|row| row.starts_with("sipward_refusals_total{") && !row.ends_with(" 0"));
        assert!(
            failures.is_empty(),
            "after {done} calls in {time:?}, {} phones failed:\n{}\nthe edge refused:\n{}",
            failures.len(),
            failures.join("\n"),
            refusals.collect::<Vec<_>>().join("\n"),
        );
        println!("{done} calls, {:.0} a second", done as f64 / time.as_secs_f64());
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

/// A call that was begun at the first edge, and how it would be hung up.
struct Began {
    bye: sipward::client::draft::Draft,
}

impl Began {
    fn at(home: &Home) -> Self {
        wait(async {
            let settings = home.settings("sip:carol@example.net", carol());
            let ue = Ue::connect(settings).await.unwrap();
            let call = ue.call("sip:core@example.net").await.unwrap();
            assert_eq!(call.answer.status(), Some(200));
            Self { bye: ue.inside(&call.call_id, "BYE").await.unwrap() }
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
    let beside = Beside::start(&home);
    let load = Load::start(&home);
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

    tokens(&home, &beside, &load);

    // The key of the store: who has neither changes nothing.
    home.folder.write("stranger.state", "00".repeat(32));
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
fn tokens(home: &Home, beside: &Beside, load: &Load) {
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
    let [one, two, three] = [(); 3].map(|()| Began::at(home));
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
    let [four, five] = [(); 2].map(|()| Began::at(home));
    assert_eq!(hang_up(&three), Some(200), "sealed under the key before");
    assert_eq!(hang_up(&four), Some(200), "sealed under the new one");

    // A third, and the second is taken for two seconds more.
    for name in ["edge.toml", "beside.toml"] {
        home.folder.write(name, read(name).replace("overlap = \"24h\"", "overlap = \"2s\""));
    }
    home.folder.write("token.key", TOKENS[2]);
    for edge in [&home.edge, &beside.edge] {
        edge.signal("HUP");
    }
    until("a third key of tokens", || audited("signal", "done", "cluster.secret") == [2, 1]);
    let over = Instant::now() + Duration::from_secs(3);
    until("the end of the overlap", || Instant::now() > over);
    assert_eq!(hang_up(&five), Some(481), "its overlap is over");
    assert_eq!(hang_up(&Began::at(home)), Some(200), "sealed under the third");
    load.go_on();
}
