//! Shared keys over TLS, spoken by the command-line clients of OpenSSL and GnuTLS.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use sipward::client::bootstrap::{Bootstrapped, UbPlan};
use sipward::client::bootstrap_http::bootstrap;
use sipward::keys::NafId;
use sipward::keys::psk::{PskName, PskUse, Scheme};
use sipward::keys::sqn::SqnWindow;
use sipward::keys::subscribers::file;
use sipward::keys::usim::Usim;

use crate::client::{Client, is_answer};
use crate::kamailio::Kamailio;
use crate::loopback;
use crate::peer::{Folder, Peer, find};

const SIPWARD: &str = env!("CARGO_BIN_EXE_sipward");
const NAF: &str = "edge.example.net";
const MINUTE: Duration = Duration::from_secs(60);
/// A key that was carried by hand, in hex.
const CARRIED: &str = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";

/// An edge with certificates and shared keys on one port.
struct Edge {
    tls: SocketAddr,
    bsf: SocketAddr,
    peer: Peer,
    folder: Folder,
    nameless: OnceLock<PathBuf>,
}

impl Edge {
    /// `tls` and `more` are added to the listener's TLS, and to the end of the configuration.
    fn start(core: &Kamailio, tls: &str, more: &str) -> Self {
        let folder = Folder::new("psk");
        let lab = folder.path().join("lab");
        let init = Command::new(SIPWARD).arg("init").arg(&lab).stdout(Stdio::null()).status();
        assert!(init.expect("sipward runs").success());
        let own = |port| SocketAddr::new(core.edge, port);
        let (ue, bsf) = (SocketAddr::new(loopback::address(), 5061), own(8080));
        let text = format!(
            "[edge]\ndomains = [\"ims.example\"]\nworkers = 1\n\
             [[listen]]\nname = \"ue\"\nside = \"ue\"\naddress = \"{ue}\"\ntransports = [\"tls\"]\n\
             identity = \"{NAF}\"\ntls = {{ certificate = \"edge.pem\", key = \"edge.key\", psk = true{tls} }}\n\
             [[listen]]\nname = \"core\"\nside = \"core\"\naddress = \"{}\"\n\
             transports = [\"udp\", \"tcp\"]\nidentity = \"{}\"\n\
             [[peer]]\nname = \"core\"\nmembers = [\"sip:{};transport=udp\"]\ntrust = \"address\"\n\
             [naf]\nfqdn = \"{NAF}\"\n\
             [bsf]\nname = \"bsf.example.net\"\nlisten = \"{bsf}\"\nsubscribers = \"cards.toml\"\n\
             key_lifetime = \"60s\"\n[psk]\nkeys = \"psk.toml\"\n[enabler.reg]\nrate = \"1000/min\"\n\
             [telemetry]\nlog = \"debug\"\n{more}",
            own(5060),
            core.edge,
            core.address
        );
        let secret = |name: &str, text: &str| {
            fs::write(lab.join(name), text).expect("written");
            fs::set_permissions(lab.join(name), fs::Permissions::from_mode(0o600)).expect("ours");
        };
        secret(
            "cards.toml",
            "[[subscriber]]\nimpi = \"ue1@ims.example\"\nk = \"465b5ce8b199b49faa5f0a2ee238a6bc\"\n\
             opc = \"cd63cb71954a9f4e48a5994e37a02baf\"\nimpus = [\"sip:ue1@ims.example\"]\n",
        );
        secret("psk.toml", &carried(CARRIED));
        fs::write(lab.join("sipward.toml"), text).expect("written");
        let config = lab.join("sipward.toml");
        let peer = Peer::start("sipward", Command::new(SIPWARD).arg("serve").arg("-c").arg(config));
        let ready = peer.await_that(Duration::from_secs(30), |_| {
            let bound = loopback::is_bound("tcp", ue) && loopback::is_bound("tcp", bsf);
            bound.then_some(())
        });
        assert!(ready.is_some(), "sipward does not listen on {ue}:\n{}", peer.said());
        Self { tls: ue, bsf, peer, folder, nameless: OnceLock::new() }
    }

    /// Makes keys with the card of ue1.
    fn keys(&self) -> Bootstrapped {
        let list = self.folder.path().join("lab/cards.toml");
        let subscriber = file::load(&list).expect("a list").remove(0);
        let seen = SqnWindow::default();
        let mut card = Usim::new(subscriber.algorithms.unwrap(), seen).with_card(subscriber.card);
        let plan = UbPlan::new(subscriber.impi, "bsf.example.net");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let run = bootstrap(&plan, self.bsf, &mut card, None);
        runtime.expect("a runtime").block_on(run).expect("a bootstrapping run")
    }

    /// After an exchange with Diffie-Hellman, gnutls-cli 3.7 asks its library for a user name that clients do not
    /// have, and the library reads where nothing was written. This one says that there is none.
    fn nameless(&self) -> &PathBuf {
        self.nameless.get_or_init(|| {
            let text = "const char *gnutls_psk_server_get_username(void *session) { return 0; }\n";
            let source = self.folder.write("nameless.c", text);
            let library = self.folder.path().join("nameless.so");
            let mut command = Command::new(find("cc", "gcc"));
            let made = command.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
            assert!(made.expect("cc runs").success());
            library
        })
    }

    /// Writes the file of carried keys anew, and has it read.
    fn carry(&self, text: &str) {
        fs::write(self.folder.path().join("lab/psk.toml"), text).expect("written");
        let count = |line: &str| line.matches("reloaded: psk.keys").count();
        let before = count(&self.peer.said());
        self.peer.signal("HUP");
        let heard = self.peer.await_that(Duration::from_secs(10), |lines| {
            (lines.iter().map(|line| count(line)).sum::<usize>() > before).then_some(())
        });
        assert!(heard.is_some(), "{}", self.peer.said());
    }
}

fn carried(key: &str) -> String {
    format!(
        "[[key]]\nidentity = \"psk;carol@bsf.example.net\"\nkey = \"{key}\"\n\
         identities = [\"sip:carol@ims.example\"]\n"
    )
}

/// A key in hex, and the identity that goes with it.
fn shared(keys: &Bootstrapped, of: PskUse) -> (String, String) {
    let key = keys.naf_key(&NafId::new(NAF, of.ua(Scheme::ThreeGpp))).expect("derived");
    let hex = key.expose().iter().map(|octet| format!("{octet:02x}")).collect();
    (PskName::identity_of(&keys.btid), hex)
}

fn register(user: &str, call: &str) -> String {
    format!(
        "REGISTER sip:ims.example SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bK{call};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@ims.example>;tag=1\r\nTo: <sip:{user}@ims.example>\r\n\
         Call-ID: {call}\r\nCSeq: 1 REGISTER\r\nSupported: path\r\n\
         Contact: <sip:{user}@127.0.0.1:9;transport=tls>\r\nExpires: 60\r\nContent-Length: 0\r\n\r\n"
    )
}

/// One of the two clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    OpenSsl,
    GnuTls,
}

/// A handshake, as either client is told of it.
struct Handshake {
    name: &'static str,
    of: PskUse,
    openssl: &'static [&'static str],
    gnutls: &'static str,
}

const HANDSHAKES: [Handshake; 7] = [
    Handshake {
        name: "PSK-AES128-GCM-SHA256",
        of: PskUse::Suite(0x00a8),
        openssl: &["-tls1_2", "-cipher", "PSK-AES128-GCM-SHA256"],
        gnutls: "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+PSK:-CIPHER-ALL:+AES-128-GCM",
    },
    Handshake {
        name: "PSK-AES128-CBC-SHA",
        of: PskUse::Suite(0x008c),
        openssl: &["-tls1_2", "-cipher", "PSK-AES128-CBC-SHA"],
        gnutls: "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+PSK:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA1",
    },
    Handshake {
        name: "ECDHE-PSK-AES128-CBC-SHA256",
        of: PskUse::Suite(0xc037),
        openssl: &["-tls1_2", "-cipher", "ECDHE-PSK-AES128-CBC-SHA256"],
        gnutls: "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-PSK:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA256",
    },
    Handshake {
        name: "DHE-PSK-AES128-GCM-SHA256",
        of: PskUse::Suite(0x00aa),
        openssl: &["-tls1_2", "-cipher", "DHE-PSK-AES128-GCM-SHA256"],
        gnutls: "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+DHE-PSK:-CIPHER-ALL:+AES-128-GCM",
    },
    Handshake {
        name: "ECDHE-PSK-CHACHA20-POLY1305",
        of: PskUse::Suite(0xccac),
        openssl: &["-tls1_2", "-cipher", "ECDHE-PSK-CHACHA20-POLY1305"],
        gnutls: "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-PSK:-CIPHER-ALL:+CHACHA20-POLY1305",
    },
    Handshake {
        name: "TLS 1.3",
        of: PskUse::Tls13,
        openssl: &["-tls1_3"],
        gnutls: "NORMAL:-VERS-ALL:+VERS-TLS1.3:+ECDHE-PSK:+DHE-PSK",
    },
    Handshake {
        name: "all that the client has, certificates too",
        of: PskUse::Tls13,
        openssl: &[],
        gnutls: "NORMAL:+PSK:+ECDHE-PSK:+DHE-PSK",
    },
];

/// How a client was told to knock.
struct Knock<'a> {
    program: Program,
    handshake: &'a Handshake,
    identity: &'a str,
    key: &'a str,
    asked_for: &'a str,
}

impl Knock<'_> {
    fn command(&self, edge: &Edge) -> Command {
        let to = edge.tls;
        let Self { handshake, identity, key, asked_for, .. } = self;
        match self.program {
            Program::OpenSsl => {
                let mut command = Command::new(find("openssl", "openssl"));
                command.arg("s_client").arg("-connect").arg(to.to_string());
                command.args(["-quiet", "-msg", "-psk_identity", identity, "-psk", key]);
                command.args(["-servername", asked_for]).args(handshake.openssl);
                command
            }
            Program::GnuTls => {
                let mut command = Command::new(find("gnutls-cli", "gnutls-bin"));
                command.env("LD_PRELOAD", edge.nameless());
                command.arg("--port").arg(to.port().to_string()).arg(to.ip().to_string());
                command.args(["--pskusername", identity, "--pskkey", key]);
                command.args(["--sni-hostname", asked_for, "--priority", handshake.gnutls]);
                command
            }
        }
    }

    /// Knocks, says `text`, and hears what it is answered: all that the client printed, up to an answer of SIP or to
    /// its end.
    fn say(&self, edge: &Edge, text: &str) -> String {
        let mut client = Client::start(self.command(edge));
        client.say(text);
        client.hear(MINUTE, is_answer)
    }
}

/// Each handshake carries a REGISTER that is accepted without Digest, with the identity that the key proves.
#[test]
fn openssl_and_gnutls_register_with_bootstrapped_keys() {
    let core = Kamailio::start(loopback::address());
    let edge = Edge::start(&core, ", psk_cbc = true", "");
    let keys = edge.keys();
    for program in [Program::OpenSsl, Program::GnuTls] {
        for handshake in &HANDSHAKES {
            let (identity, key) = shared(&keys, handshake.of);
            let (identity, key) = (identity.as_str(), key.as_str());
            let knock = Knock { program, handshake, identity, key, asked_for: NAF };
            let call = format!("{}-{program:?}", handshake.name.replace([' ', ','], ""));
            let heard = knock.say(&edge, &register("ue1", &call));
            let said = edge.peer.said();
            assert!(heard.contains("SIP/2.0 200 "), "{call}: {heard}\n{said}");
            let seen = core.await_request(|seen| seen.call_id == call);
            assert_eq!(seen.asserted.as_deref(), Some("sip:ue1@ims.example"), "{call}");
            assert!(!seen.credentials, "{call}");
        }
    }
    // The separators that documents and stacks disagree on.
    for (handshake, separator) in HANDSHAKES.iter().flat_map(|it| [(it, "."), (it, "")]) {
        let (_, key) = shared(&keys, handshake.of);
        let (identity, key) = (&format!("3GPP-bootstrapping{separator}{}", keys.btid), &*key);
        let knock = Knock { program: Program::OpenSsl, handshake, identity, key, asked_for: NAF };
        let heard = knock.say(&edge, &register("ue1", "separator"));
        assert!(heard.contains("SIP/2.0 200 "), "{identity}, {}: {heard}", handshake.name);
    }
}

/// What a client saw of a handshake that the server refused: every message it was sent, by kind and length, and the alert.
fn refusal(heard: &str, program: Program) -> Vec<String> {
    let mark = match program {
        Program::OpenSsl => "<<< ",
        Program::GnuTls => "Received alert",
    };
    let lines = heard.lines().filter(|line| line.contains(mark));
    lines.map(|line| line.trim().to_owned()).collect()
}

/// V-47: whatever is wrong with the identity, the handshake ends as with a wrong key, and nothing reaches the core.
#[test]
fn who_is_not_known_sees_what_a_wrong_key_sees() {
    let core = Kamailio::start(loopback::address());
    let edge = Edge::start(&core, ", psk_cbc = true", "");
    let late = "psk;late@bsf.example.net";
    edge.carry(&format!(
        "{}[[key]]\nidentity = \"{late}\"\nkey = \"{CARRIED}\"\n\
         identities = [\"sip:late@ims.example\"]\nexpires = \"2026-01-01T00:00:00Z\"\n",
        carried(CARRIED)
    ));
    let keys = edge.keys();
    let btid = keys.btid.as_str();
    let (rand, server) = btid.split_once('@').expect("a B-TID");
    let stranger = format!("3GPP-bootstrapping;{}@{server}", "A".repeat(rand.len()));
    let elsewhere = format!("3GPP-bootstrapping;{rand}@bsf.elsewhere.example");
    let card = format!("3GPP-bootstrapping-uicc;{btid}");
    let carol = "psk;carol@bsf.example.net";
    let long = format!("3GPP-bootstrapping;{rand}@{}", "b".repeat(85));
    assert_eq!(long.len(), 129);
    for handshake in &HANDSHAKES {
        let (identity, key) = shared(&keys, handshake.of);
        let wrong = "00".repeat(32);
        let is_13 = handshake.of == PskUse::Tls13;
        let cases = [
            ("a wrong key", identity.as_str(), wrong.as_str(), NAF),
            ("no such B-TID", &stranger, &key, NAF),
            ("a B-TID of another server", &elsewhere, &key, NAF),
            ("another name dialled", &identity, &key, "other.example.net"),
            ("a carried key, elsewhere", carol, CARRIED, "other.example.net"),
            ("a carried key that has ended", late, CARRIED, NAF),
            ("no such carried key", "psk;nobody@bsf.example.net", CARRIED, NAF),
            // In TLS 1.3 these are no identities of ours, so certificates answer.
            ("the key of the card itself", &card, &key, NAF),
            ("a B-TID alone", btid, &key, NAF),
            ("an identity over 128 octets", &long, &key, NAF),
        ];
        for program in [Program::OpenSsl, Program::GnuTls] {
            let mut expected = None;
            for (name, identity, key, asked_for) in cases {
                let is_long = name == "an identity over 128 octets";
                let of_others =
                    is_long || matches!(name, "the key of the card itself" | "a B-TID alone");
                // GnuTLS sends no identity that is so long.
                if is_13 && of_others || is_long && program == Program::GnuTls {
                    continue;
                }
                let knock = Knock { program, handshake, identity, key, asked_for };
                let heard = knock.say(&edge, &register("ue1", "refused"));
                assert!(!heard.contains("SIP/2.0 "), "{name}, {}: {heard}", handshake.name);
                let seen = refusal(&heard, program);
                assert!(!seen.is_empty(), "{name}, {}: {heard}", handshake.name);
                let first = expected.get_or_insert_with(|| seen.clone());
                assert_eq!(seen, *first, "{name}, {}, {program:?}", handshake.name);
            }
            // With the right key, after all that.
            let (identity, key) = (identity.as_str(), key.as_str());
            let knock = Knock { program, handshake, identity, key, asked_for: NAF };
            let heard = knock.say(&edge, &register("ue1", "right"));
            assert!(heard.contains("SIP/2.0 200 "), "{}: {heard}", handshake.name);
        }
    }
    assert!(core.requests().iter().all(|seen| seen.call_id == "right"));
    let said = edge.peer.said();
    assert!(said.contains("handshake refused"), "{said}");
    for secret in [CARRIED, rand] {
        assert!(!said.contains(secret), "SEC-001: {secret} in the log");
    }
}

/// V-48: what is old, weak or without Diffie-Hellman in TLS 1.3 is refused with a fatal alert.
#[test]
fn what_is_switched_off_or_weak_is_refused() {
    let core = Kamailio::start(loopback::address());
    let edge = Edge::start(&core, "", "");
    let identity = "psk;carol@bsf.example.net";
    let one = |name, openssl, gnutls| Handshake { name, of: PskUse::Tls13, openssl, gnutls };
    for handshake in [
        one(
            "CBC",
            &["-tls1_2", "-cipher", "PSK-AES128-CBC-SHA"],
            "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+PSK:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA1",
        ),
        one(
            "CBC with Diffie-Hellman",
            &["-tls1_2", "-cipher", "ECDHE-PSK-AES128-CBC-SHA256"],
            "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-PSK:-CIPHER-ALL:+AES-128-CBC:-MAC-ALL:+SHA256",
        ),
        one(
            "NULL",
            &["-tls1_2", "-cipher", "PSK-NULL-SHA256@SECLEVEL=0"],
            "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+PSK:-CIPHER-ALL:+NULL:-MAC-ALL:+SHA256",
        ),
        one(
            "TLS 1.1",
            &["-tls1_1", "-cipher", "PSK-AES128-CBC-SHA@SECLEVEL=0"],
            "NORMAL:-VERS-ALL:+VERS-TLS1.1:-KX-ALL:+PSK:+AES-128-CBC:+SHA1",
        ),
        one("TLS 1.3 without Diffie-Hellman", &[], "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+PSK"),
        one(
            "TLS 1.3 with SHA-384 alone",
            &["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"],
            "",
        ),
    ] {
        for program in [Program::OpenSsl, Program::GnuTls] {
            let told = match program {
                Program::OpenSsl => !handshake.openssl.is_empty(),
                Program::GnuTls => !handshake.gnutls.is_empty(),
            };
            if !told {
                continue;
            }
            let handshake = &handshake;
            let knock = Knock { program, handshake, identity, key: CARRIED, asked_for: NAF };
            let heard = knock.say(&edge, &register("carol", "refused"));
            let alert = heard.to_ascii_lowercase();
            let fatal = alert.contains("alert") && alert.contains("fatal");
            assert!(
                fatal && !heard.contains("SIP/2.0 "),
                "{} {program:?}: {heard}",
                handshake.name
            );
        }
    }
    assert_eq!(core.requests(), []);
}

/// SEC-003: a key that is taken back ends what stands on it; the one in its place is taken at once.
#[test]
fn a_key_that_is_taken_back_ends_its_connection() {
    let core = Kamailio::start(loopback::address());
    let edge = Edge::start(&core, "", "");
    let identity = "psk;carol@bsf.example.net";
    for handshake in HANDSHAKES.iter().filter(|handshake| !handshake.name.contains("CBC")) {
        edge.carry(&format!("{}# {}\n", carried(CARRIED), handshake.name));
        let program = Program::OpenSsl;
        let knock = |key| Knock { program, handshake, identity, key, asked_for: NAF };
        let mut client = Client::start(knock(CARRIED).command(&edge));
        client.say(&register("carol", "first"));
        let heard = client.hear(MINUTE, is_answer);
        assert!(heard.contains("SIP/2.0 200 "), "{heard}");
        let seen = core.await_request(|seen| seen.call_id == "first");
        assert_eq!(seen.asserted.as_deref(), Some("sip:carol@ims.example"));

        let other = "55".repeat(32);
        edge.carry(&format!("{}# {}\n", carried(&other), handshake.name));
        let heard = client.hear(MINUTE, |_| false);
        assert!(heard.contains("close_notify"), "closed, and said so: {heard}");
        let heard = knock(CARRIED).say(&edge, &register("carol", "old"));
        assert!(!heard.contains("SIP/2.0 "), "{heard}");
        let heard = knock(&other).say(&edge, &register("carol", "new"));
        assert!(heard.contains("SIP/2.0 200 "), "{heard}");
    }
}

/// A client without a shared key gets the certificate on the same port, and is asked for credentials.
#[test]
fn certificates_are_shown_on_the_same_port() {
    let core = Kamailio::start(loopback::address());
    let edge = Edge::start(&core, "", "");
    let authority = edge.folder.path().join("lab/lab-ca.pem");
    for version in ["-tls1_2", "-tls1_3"] {
        let mut command = Command::new(find("openssl", "openssl"));
        command.arg("s_client").arg("-connect").arg(edge.tls.to_string());
        command.args(["-quiet", "-verify_return_error", "-verify_hostname", NAF, version]);
        command.arg("-CAfile").arg(&authority);
        let mut client = Client::start(command);
        client.say(&register("ue1", "certificate"));
        let heard = client.hear(MINUTE, is_answer);
        assert!(heard.contains("SIP/2.0 407 "), "{version}: {heard}");
        assert!(heard.contains("realm=\"3GPP-bootstrapping@edge.example.net\""), "{heard}");
    }
    assert_eq!(core.requests(), []);
}

/// Our own UE registers with either kind of key, and says what to do when the edge does not take it.
#[test]
fn our_ue_registers_with_shared_keys() {
    let core = Kamailio::start(loopback::address());
    let edge = Edge::start(&core, "", "");
    let lab = edge.folder.path().join("lab");
    let (keys, carried_key) = (lab.join("keys"), lab.join("carried"));
    fs::write(&carried_key, format!("{CARRIED}\n")).expect("written");
    fs::set_permissions(&carried_key, fs::Permissions::from_mode(0o600)).expect("ours");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(SIPWARD);
        let run = command.arg("ue").args(arguments).output().expect("sipward runs");
        let said = [run.stdout, run.stderr].concat();
        (run.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let path = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
    let (keys, carried_key, list) =
        (path(&keys), path(&carried_key), path(&lab.join("cards.toml")));
    let bsf = edge.bsf.to_string();
    let made = run(&["bootstrap", "--bsf", &bsf, "--subscribers", &list, "--keys", &keys]);
    assert_eq!(made.0, Some(0), "{}", made.1);
    let tls = edge.tls.to_string();
    let common = ["register", "--edge", &tls, "--transport", "psk-tls"];
    let ue1: &[&str] = &["--identity", "sip:ue1@ims.example", "--keys", &keys];
    let carol: &[&str] = &[
        "--identity",
        "sip:carol@ims.example",
        "--psk-identity",
        "psk;carol@bsf.example.net",
        "--psk-file",
        &carried_key,
    ];
    for who in [ue1, carol] {
        for suite in [
            &[][..],
            &["--psk-suite", "PSK-AES128-GCM-SHA256"],
            &["--psk-suite", "dhe-psk-aes128-gcm-sha256"],
            &["--psk-suite", "ECDHE-PSK-CHACHA20-POLY1305"],
        ] {
            let (code, said) = run(&[&common, who, suite].concat());
            assert_eq!((code, said.trim()), (Some(0), "200 OK"), "{suite:?}\n{}", edge.peer.said());
        }
        let seen = core.requests();
        let asserted = seen.last().and_then(|seen| seen.asserted.as_deref());
        assert_eq!(asserted, Some(who[1]));
        assert!(seen.iter().all(|seen| !seen.credentials), "{seen:?}");
    }
    for (name, more, expected) in [
        ("CBC is off", ["--psk-suite", "PSK-AES128-CBC-SHA"], "make another"),
        ("no such suite", ["--psk-suite", "PSK-NULL-SHA"], "is not offered; what is: ECDHE-PSK-"),
        ("another name", ["--name", "other.example.net"], "make another"),
    ] {
        let (code, said) = run(&[&common, ue1, &more[..]].concat());
        assert!(code == Some(1) && said.contains(expected), "{name}: {said}");
    }
}

/// V-42: no session is taken up again, and none is negotiated anew.
#[test]
fn nothing_is_resumed_or_renegotiated() {
    let core = Kamailio::start(loopback::address());
    let edge = Edge::start(&core, "", "");
    let s_client = |arguments: &[&str]| {
        let mut command = Command::new(find("openssl", "openssl"));
        command.arg("s_client").arg("-connect").arg(edge.tls.to_string());
        command.args(["-psk_identity", "psk;carol@bsf.example.net", "-psk", CARRIED]);
        command.args(["-servername", NAF]).args(arguments);
        Client::start(command)
    };
    let mut again = s_client(&["-tls1_2", "-cipher", "PSK-AES128-GCM-SHA256", "-reconnect"]);
    let heard = again.hear(MINUTE, |heard| heard.matches("Cipher is").count() == 6);
    assert_eq!(
        heard.matches("New, TLSv1.2, Cipher is PSK-AES128-GCM-SHA256").count(),
        6,
        "{heard}"
    );
    assert!(!heard.contains("Reused") && !heard.contains("session ticket:"), "{heard}");

    let mut once = s_client(&["-tls1_3", "-ign_eof", "-msg", "-nocommands"]);
    once.say(&register("carol", "once"));
    let heard = once.hear(MINUTE, is_answer);
    assert!(heard.contains("SIP/2.0 200 ") && !heard.contains("NewSessionTicket"), "{heard}");

    let mut anew = s_client(&["-tls1_2", "-cipher", "PSK-AES128-GCM-SHA256", "-msg"]);
    anew.hear(MINUTE, |heard| heard.contains("Verify return code"));
    anew.say("R\n");
    let heard = anew.hear(MINUTE, |heard| heard.contains("no_renegotiation"));
    assert!(
        heard.contains("<<< TLS 1.2, Alert [length 0002], warning no_renegotiation"),
        "{heard}"
    );
    assert_eq!(core.requests().len(), 1);
}

/// A TLS 1.3 client that offers its first group in vain is asked for another, and one that changes its keys is answered with
/// ours changed.
///
/// Source: RFC 8446 sections 4.1.4 and 4.6.3.
#[test]
fn another_group_and_new_keys_are_taken_in() {
    let core = Kamailio::start(loopback::address());
    let edge = Edge::start(&core, "", "");
    let s_client = |arguments: &[&str]| {
        let mut command = Command::new(find("openssl", "openssl"));
        command.arg("s_client").arg("-connect").arg(edge.tls.to_string());
        command.args(["-tls1_3", "-msg", "-psk_identity", "psk;carol@bsf.example.net"]);
        command.args(["-psk", CARRIED, "-servername", NAF]).args(arguments);
        Client::start(command)
    };
    let mut twice = s_client(&["-nocommands", "-groups", "X448:P-256"]);
    twice.say(&register("carol", "group"));
    let heard = twice.hear(MINUTE, is_answer);
    assert!(heard.contains("SIP/2.0 200 "), "{heard}");
    assert_eq!(heard.matches(", ClientHello").count(), 2, "{heard}");

    let mut anew = s_client(&[]);
    anew.hear(MINUTE, |heard| heard.contains("Verify return code"));
    anew.forget();
    anew.say("K\n");
    let heard = anew.hear(MINUTE, |heard| heard.contains("KEYUPDATE"));
    assert!(heard.contains("KEYUPDATE"), "{heard}");
    // The client would take an R that comes first for an order.
    anew.say(&format!("\r\n{}", register("carol", "keys")));
    let heard = anew.hear(MINUTE, is_answer);
    assert!(heard.contains("SIP/2.0 200 "), "{heard}");
    let of_server = heard.lines().filter(|line| line.starts_with("<<< TLS 1.3, Handshake"));
    assert_eq!(of_server.filter(|line| line.contains("KeyUpdate")).count(), 1, "{heard}");
}
