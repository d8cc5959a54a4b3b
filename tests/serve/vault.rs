//! Subscribers and keys in the store: changed by commands while the edge serves from it, and there after a crash.

use sipward::client::bootstrap::{Bootstrapped, UbPlan};
use sipward::client::bootstrap_http;
use sipward::keys::psk::{PskClient, PskKey, PskName, PskUse, Scheme};
use sipward::keys::{NafId, UaId};

use sipward::keys::subscribers::disk::replace;

use super::*;

/// The folder of an edge whose subscribers stand in a store, as `init` lists them.
fn start(name: &str, core: &Core) -> Edge {
    let peer = format!("sip:{};transport=udp", core.address);
    let key =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("serve-{name}")).join("state.key");
    Edge::start_with(name, |text| {
        replace(&key, b"00112233445566778899aabbccddeeff00112233\n").unwrap();
        let list = text.lines().find(|line| line.starts_with("subscribers = ")).unwrap();
        let text = text.replace(list, "").replace("sip:127.0.0.1:5070;transport=tcp", &peer);
        let aka = "[aka]\nrealm = \"ims.example.net\"\nalgorithms = [\"AKAv2-SHA-256\"]\n";
        format!("{text}\n{aka}\n[state]\nfile = \"state.redb\"\nkey_file = \"state.key\"\n")
    })
}

/// What a command on the edge's configuration says, and its exit code.
fn command(edge: &Edge, words: &[&str]) -> (Option<i32>, String) {
    let mut command = sipward();
    let (first, rest) = words.split_first().unwrap();
    command.arg(first).arg("--config").arg(edge.folder.join("sipward.toml")).args(rest);
    let done = command.current_dir(&edge.folder).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8(said).unwrap())
}

/// The SEQ of the first subscriber, as the store vouches for it.
fn seq(edge: &Edge) -> u64 {
    let (_, json) = command(edge, &["subscriber", "list", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    json[0]["seq"].as_u64().unwrap()
}

/// The subscribers are taken over from their list, and each command counts at the next request; after SIGKILL the same
/// store serves on, and no sequence number is given twice.
#[test]
fn subscribers_stand_in_a_store_that_outlives_a_crash() {
    let core = Core::start();
    let mut edge = start("vault", &core);
    let list = edge.folder.join("subscribers.toml");
    let subscriber = file::load(&list).unwrap().remove(0);
    let impi = subscriber.impi.clone();
    let card =
        Arc::new(Mutex::new(Usim::new(subscriber.algorithms.unwrap(), SqnWindow::default())));
    let stranger = register_with(&card, &impi, edge.ue).unwrap_err();
    assert!(stranger.contains("the card does not take the challenge"), "{stranger}");

    let (code, said) = command(&edge, &["subscriber", "import", "subscribers.toml"]);
    assert_eq!((code, said.contains("2 subscribers added")), (Some(0), true), "{said}");
    assert_eq!(register_with(&card, &impi, edge.ue), Ok(200));
    for (word, registers) in [("lock", false), ("unlock", true)] {
        let (code, said) = command(&edge, &["subscriber", word, impi.as_str()]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(register_with(&card, &impi, edge.ue).is_ok(), registers, "{word}");
    }
    let (code, said) = command(&edge, &["subscriber", "import", "subscribers.toml"]);
    assert_eq!(
        (code, said.contains("is in the store with another row")),
        (Some(2), true),
        "{said}"
    );

    let before = seq(&edge);
    edge.child.kill().unwrap();
    edge.child.wait().unwrap();
    let folder = std::mem::take(&mut edge.folder);
    drop(edge);
    let mut edge = Edge::serve(sipward(), folder);
    assert!(seq(&edge) > before, "a stretch further");
    assert_eq!(register_with(&card, &impi, edge.ue), Ok(200));
    let second =
        sipward().arg("serve").arg("-c").arg(edge.folder.join("sipward.toml")).output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(
        (second.status.code(), said.contains("another process has it open")),
        (Some(1), true),
        "{said}"
    );
    edge.signal("-TERM");
    assert_eq!(edge.child.wait().unwrap().code(), Some(0));
}

/// B.9: a key is issued while the edge serves, the device registers with it, and once it is taken back no handshake is
/// made with it.
#[cfg(feature = "openssl")]
#[test]
fn a_key_is_issued_used_and_taken_back_while_the_edge_serves() {
    let core = Core::start();
    let edge = start("vault-key", &core);
    let issue = ["key", "issue", "alice", "--impu", "sip:alice@example.net", "--out", "alice.key"];
    let (code, said) = command(&edge, &issue);
    assert_eq!(code, Some(0), "{said}");
    let identity = "psk;alice@bsf.example.net";
    assert!(said.starts_with(identity), "{said}");
    let digits = fs::read_to_string(edge.folder.join("alice.key")).unwrap();
    let octets: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect();
    let register = |identity: &str| {
        let settings = UeSettings {
            psk: Some(PskClient {
                identity: identity.to_owned(),
                key: PskKey::new(&octets).unwrap(),
                of: PskUse::Tls13,
            }),
            credentials: Vec::new(),
            ..alice(&edge, Transport::Tls)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ue = Ue::connect(settings).await.map_err(|why| why.to_string())?;
            let answer = ue.register(600).await.map_err(|why| why.to_string())?;
            Ok::<u16, String>(answer.status().unwrap())
        })
    };
    // The edge looks at the store again and again.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let becomes = |taken: bool| {
        while register(identity).is_ok() != taken {
            assert!(std::time::Instant::now() < deadline, "never {taken}");
        }
    };
    becomes(true);
    assert_eq!(register(identity), Ok(200));
    assert!(register("psk;alicf@bsf.example.net").is_err(), "one character is another");
    let (code, said) = command(&edge, &["key", "revoke", identity]);
    assert_eq!(code, Some(0), "{said}");
    becomes(false);
}

/// Bootstraps at the edge's own server, with a card that saw numbers up to `seen`.
fn bootstrapped(edge: &Edge, seen: u64) -> Arc<Bootstrapped> {
    let subscriber = file::load(&edge.folder.join("subscribers.toml")).unwrap().remove(0);
    let mut card =
        Usim::new(subscriber.algorithms.unwrap(), SqnWindow::default().with_seen([seen; 32]));
    let plan = UbPlan::new(subscriber.impi, "bsf.example.net");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let at = edge.ub.expect("a bootstrapping server");
    Arc::new(runtime.block_on(bootstrap_http::bootstrap(&plan, at, &mut card, None)).unwrap())
}

/// Registers with a bootstrapped key.
fn register_by(edge: &Edge, keys: &Arc<Bootstrapped>) -> u16 {
    let credentials = vec![Credential::Gba { keys: Arc::clone(keys), ua: UaId::SIP_DIGEST }];
    let identity = "sip:ue1@example.net".into();
    let settings = UeSettings { credentials, identity, ..alice(edge, Transport::Udp) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ue = Ue::connect(settings).await.unwrap();
        ue.register(600).await.unwrap().status().unwrap()
    })
}

/// How long a file may be that the edge writes, from now on.
fn longest_file(edge: &Edge, octets: &str) {
    let (of, most) = (edge.child.id().to_string(), format!("--fsize={octets}:"));
    let done = Command::new("prlimit").args(["--pid", &of, &most]).status();
    assert!(done.expect("prlimit, of util-linux").success());
}

/// V-150: a store on a disk that takes nothing. That is told once and ends nothing; what is known is served; once there
/// is room, the store goes on without a restart, and holds what was made meanwhile.
#[test]
fn v_150_a_store_on_a_full_disk_goes_on_once_there_is_room() {
    let core = Core::start();
    let mut edge = start("vault-full", &core);
    let (code, said) = command(&edge, &["subscriber", "import", "subscribers.toml"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(register_by(&edge, &bootstrapped(&edge, 0)), 200);

    longest_file(&edge, "4096");
    let keys = bootstrapped(&edge, 0);
    let told = edge.until("what has to outlive a restart cannot be kept");
    assert!(told.contains("state.redb") || told.contains("File too large"), "{told}");
    assert_eq!(register_by(&edge, &keys), 200, "it is known here");
    longest_file(&edge, "unlimited");
    let told = edge.until("is kept again");
    assert_eq!(told.matches("cannot be kept").count(), 0, "once: {told}");

    edge.child.kill().unwrap();
    edge.child.wait().unwrap();
    let folder = std::mem::take(&mut edge.folder);
    drop(edge);
    let edge = Edge::serve(sipward(), folder);
    assert_eq!(register_by(&edge, &keys), 200, "it outlived the process");
}

/// Registers with a bootstrapped key: by Digest, or over PSK-TLS without it.
fn tries(edge: &Edge, keys: &Arc<Bootstrapped>, transport: Transport) -> Result<u16, String> {
    let (mut credentials, mut psk) = (Vec::new(), None);
    if transport == Transport::Tls {
        let (identity, of) = (PskName::identity_of(&keys.btid), PskUse::Tls13);
        let naf = NafId::new("edge.example.net", of.ua(Scheme::ThreeGpp));
        let key = keys.naf_key(&naf).unwrap();
        psk = Some(PskClient { identity, key: PskKey::new(key.expose()).unwrap(), of });
    } else {
        credentials.push(Credential::Gba { keys: Arc::clone(keys), ua: UaId::SIP_DIGEST });
    }
    let identity = "sip:ue1@example.net".into();
    let settings = UeSettings { credentials, psk, identity, ..alice(edge, transport) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ue = Ue::connect(settings).await.map_err(|why| why.to_string())?;
        let answer = ue.register(600).await.map_err(|why| why.to_string())?;
        Ok(answer.status().unwrap())
    })
}

/// V-73: a B-TID that was taken back is no more, by Digest, by a handshake that nobody made before, and after a crash; nor
/// is that of a subscriber who is locked, though his key is in the cache.
#[cfg(feature = "openssl")]
#[test]
fn v_73_a_bootstrapped_key_that_was_taken_back_is_no_more() {
    let core = Core::start();
    let mut edge = start("vault-revoked", &core);
    let (code, said) = command(&edge, &["subscriber", "import", "subscribers.toml"]);
    assert_eq!(code, Some(0), "{said}");
    let first = bootstrapped(&edge, 0);
    assert_eq!(tries(&edge, &first, Transport::Udp), Ok(200));
    let (code, said) = command(&edge, &["sa", "revoke", "--btid", first.btid.as_str()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 keys, 1 sessions"), "{said}");
    for transport in [Transport::Udp, Transport::Tls] {
        assert!(tries(&edge, &first, transport).is_err(), "{transport:?}");
    }
    edge.child.kill().unwrap();
    edge.child.wait().unwrap();
    let folder = std::mem::take(&mut edge.folder);
    drop(edge);
    let edge = Edge::serve(sipward(), folder);
    for transport in [Transport::Udp, Transport::Tls] {
        assert!(tries(&edge, &first, transport).is_err(), "{transport:?}, after a crash");
    }

    let second = bootstrapped(&edge, 0);
    for transport in [Transport::Udp, Transport::Tls] {
        assert_eq!(tries(&edge, &second, transport), Ok(200), "{transport:?}");
    }
    let (code, said) = command(&edge, &["subscriber", "lock", "ue1@example.net"]);
    assert_eq!(code, Some(0), "{said}");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while tries(&edge, &second, Transport::Udp).is_ok() {
        assert!(std::time::Instant::now() < deadline, "he is locked and registers");
    }
    assert!(tries(&edge, &second, Transport::Tls).is_err());
}
