//! Keys made with a password (GBA_Digest), by configuration and by the programs alone: made under TLS, taken by an edge that
//! is told to take them, and by no other.

use sipward::client::bootstrap::{Bootstrapped, UbPlan};
use sipward::client::bootstrap_digest::UbPassword;
use sipward::client::bootstrap_http::bootstrap_by_password;
use sipward::client::ue::UeError;
use sipward::keys::{NafId, UaId};
use sipward::transport::export;
use zeroize::Zeroizing;

use super::papers::{Authority, Paper};
use super::*;

const IMPI: &str = "paula@example.net";
const IDENTITY: &str = "sip:paula@example.net";

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn put(folder: &Path, paper: &Paper) {
    fs::write(folder.join("bsf.pem"), &paper.certificate).unwrap();
    secret(&folder.join("bsf.key"), &paper.key);
}

/// An edge with a bootstrapping server that knows a subscriber without a card; `takes` says whether the edge takes his keys.
fn start(name: &str, core: &Core, authority: &Authority, takes: bool) -> Edge {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("serve-{name}"));
    let paper = authority.issue(&["bsf.example.net"]);
    let peer = format!("sip:{};transport=udp", core.address);
    Edge::start_with(name, |text| {
        put(&folder, &paper);
        fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        secret(&folder.join("password"), "of paula\n");
        secret(&folder.join("guess"), "of peter\n");
        // As `sipward subscriber add` writes it, and nothing of a card.
        secret(&folder.join("secrets"), "digest_password = \"of paula\"\n");
        let mut add = sipward();
        add.current_dir(&folder).args(["subscriber", "add", IMPI, "--impu", IDENTITY]);
        assert!(
            add.args(["--secrets", "secrets"]).stdout(Stdio::null()).status().unwrap().success()
        );
        let text = text.replace("sip:127.0.0.1:5070;transport=tcp", &peer);
        let text = text.replace("rate = \"6/min\"", "rate = \"600/min\"");
        let text = match takes {
            true => text.replace("[naf] ", "[naf]\ngba_digest = true\n#"),
            false => text,
        };
        text.replace(
            "name = \"bsf.example.net\"\n",
            "name = \"bsf.example.net\"\ngba_digest = { realm = \"example.net\" }\n\
             tls = { listen = \"127.0.0.1:0\", certificate = \"bsf.pem\", key = \"bsf.key\" }\n",
        )
    })
}

/// What `sipward ue` says, and its exit code.
fn ue(edge: &Edge, words: &[&str]) -> (Option<i32>, String) {
    let done = sipward().current_dir(&edge.folder).arg("ue").args(words).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8(said).unwrap())
}

fn bootstrap(edge: &Edge, more: &[&str]) -> (Option<i32>, String) {
    let at = edge.ub_tls.expect("a door under TLS").to_string();
    let words = ["bootstrap", "--bsf", &at, "--ca", "ca.pem"];
    ue(edge, &[&words, more].concat())
}

/// The keys of a run, without the program.
fn keys(edge: &Edge, authority: &Authority) -> Arc<Bootstrapped> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let plan = UbPlan::new(Impi::new(IMPI).unwrap(), "bsf.example.net");
    let user = UbPassword::new(Zeroizing::new("of paula".to_owned()));
    let client = export::client(authority.trust()).unwrap();
    let at = edge.ub_tls.unwrap();
    Arc::new(runtime.block_on(bootstrap_by_password(&plan, at, &client, &user)).unwrap())
}

/// The status of a registration by that credential, or why there is none.
fn register(edge: &Edge, credential: Credential) -> Result<u16, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let settings = UeSettings {
            credentials: vec![credential],
            identity: IDENTITY.into(),
            floor: Hash::Md5,
            ..alice(edge, Transport::Udp)
        };
        let told = |why: UeError| why.to_string();
        let ue = Ue::connect(settings).await.map_err(told)?;
        Ok(ue.register(600).await.map_err(told)?.status().unwrap())
    })
}

#[test]
fn a_password_makes_a_key_that_registers() {
    let (core, authority) = (Core::start(), Authority::new("ub"));
    let mut edge = start("passwords", &core, &authority, true);
    let at = edge.ue.to_string();
    let of_paula = ["--impi", IMPI, "--password-file", "password", "--keys", "paula.keys"];
    let (code, said) = bootstrap(&edge, &of_paula);
    assert_eq!((code, said.starts_with("paula@example.net has ")), (Some(0), true), "{said}");
    let register_words =
        ["register", "--edge", &at, "--identity", IDENTITY, "--keys", "paula.keys"];
    let (code, said) = ue(&edge, &register_words);
    assert_eq!((code, said.as_str()), (Some(0), "200 OK\n"));
    let heard = core.heard.lock().unwrap().clone();
    assert!(heard[0].contains("P-Asserted-Identity: <sip:paula@example.net>"), "{heard:?}");
    assert!(heard[0].contains("3gpp-gba-digest"), "{heard:?}");

    // Their realm is offered to who says that he has such keys.
    for (agent, offered) in [("GBA_Digest", true), ("3gpp-gba-digest", true), ("3gpp-gba", false)] {
        let request = format!(
            "REGISTER sip:example.net SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bK{agent}\r\n\
             From: <{IDENTITY}>;tag=1\r\nTo: <{IDENTITY}>\r\nCall-ID: {agent}\r\nCSeq: 1 REGISTER\r\n\
             Max-Forwards: 70\r\nUser-Agent: phone/1 {agent}\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = edge.ask(&request);
        let realms = ["", "-digest"].map(|of| {
            answer.contains(&format!("realm=\"3GPP-bootstrapping{of}@edge.example.net\""))
        });
        // An answer to an address that nobody vouches for is short: what serves its sender goes last.
        assert_eq!(realms, [!offered, offered], "{answer}");
    }

    // What is not right, and what is not to be had in the clear.
    let (code, said) = bootstrap(&edge, &["--impi", IMPI, "--password-file", "guess"]);
    let refused = "paula@example.net: the server refused with 401\n";
    assert_eq!((code, said.as_str()), (Some(1), refused));
    let (code, said) = bootstrap(
        &edge,
        &["--impi", IMPI, "--password-file", "password", "--bsf-name", "x.example.net"],
    );
    assert_eq!(
        (code, said.contains("its certificate is for bsf.example.net")),
        (Some(1), true),
        "{said}"
    );
    let plain = edge.ub.unwrap().to_string();
    let words = ["bootstrap", "--bsf", &plain, "--impi", IMPI, "--password-file", "password"];
    let (code, said) = ue(&edge, &words);
    assert_eq!((code, said.contains("--ca <FILE>")), (Some(2), true), "{said}");
    let (code, said) = ue(&edge, &[&words[..], &["--ca", "ca.pem"]].concat());
    assert_eq!((code, said.contains("no TLS as we speak it")), (Some(1), true), "{said}");
    let psk = ["--transport", "psk-tls", "--name", "edge.example.net"];
    let (code, said) = ue(&edge, &[&register_words[..], &psk].concat());
    assert_eq!((code, said.contains("for digest alone")), (Some(1), true), "{said}");

    // A card bootstraps at the same door, and its realm and that of passwords are apart.
    let (code, said) = bootstrap(&edge, &["--count", "1"]);
    assert_eq!(code, Some(0), "{said}");
    let keys = keys(&edge, &authority);
    let posing = |realm: &str| Credential::Account {
        username: keys.btid.to_string(),
        password: keys.naf_password(&NafId::new("edge.example.net", UaId::SIP_DIGEST)).unwrap(),
        realm: Some(realm.into()),
    };
    let before = core.heard.lock().unwrap().len();
    let said = register(&edge, posing("3GPP-bootstrapping@edge.example.net")).unwrap_err();
    assert!(said.contains("the credentials were refused"), "{said}");
    assert_eq!(core.heard.lock().unwrap().len(), before);
    let gba = Credential::Gba { keys: Arc::clone(&keys), ua: UaId::SIP_DIGEST };
    assert_eq!(register(&edge, gba), Ok(200));

    // The door's certificate is renewed while it serves.
    let other = Authority::new("ub, later");
    put(&edge.folder, &other.issue(&["bsf.example.net"]));
    fs::write(edge.folder.join("ca.pem"), other.pem()).unwrap();
    edge.signal("-HUP");
    edge.until("reloaded: certificates");
    let (code, said) = bootstrap(&edge, &of_paula);
    assert_eq!(code, Some(0), "{said}");
}

/// Unless it is told to, an edge offers no realm for such keys, and has no such key whatever the realm: 403.
#[test]
fn an_edge_that_takes_keys_of_cards_alone_refuses_those_of_passwords() {
    let (core, authority) = (Core::start(), Authority::new("ub"));
    let edge = start("passwords-untaken", &core, &authority, false);
    let keys = keys(&edge, &authority);
    let gba = Credential::Gba { keys: Arc::clone(&keys), ua: UaId::SIP_DIGEST };
    let said = register(&edge, gba).unwrap_err();
    assert!(said.contains("no credentials for any realm"), "{said}");
    let posing = Credential::Account {
        username: keys.btid.to_string(),
        password: keys.naf_password(&NafId::new("edge.example.net", UaId::SIP_DIGEST)).unwrap(),
        realm: Some("3GPP-bootstrapping@edge.example.net".into()),
    };
    assert_eq!(register(&edge, posing), Ok(403));
    assert!(core.heard.lock().unwrap().is_empty());
}
