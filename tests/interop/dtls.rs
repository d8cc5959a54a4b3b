//! SIP over DTLS, spoken by the command-line clients of OpenSSL and GnuTLS and by our own UE, to both engines.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

use crate::client::{Client, is_answer};
use crate::kamailio::Kamailio;
use crate::loopback;
use crate::peer::{Folder, Peer, find};

const SIPWARD: &str = env!("CARGO_BIN_EXE_sipward");
const NAME: &str = "edge.example.net";
const KEY: &str = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";
const IDENTITY: &str = "psk;carol@bsf.example.net";
const ENGINES: [&str; 2] = ["openssl", "webrtc"];

/// A core that answers every request with 200. Kamailio 5.6 is none for this: it drops requests with a Via that has a
/// transport it does not know, though RFC 3261 section 25.1 allows any token there.
struct Core {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Core {
    fn start() -> Self {
        let socket = UdpSocket::bind((loopback::address(), 5060)).expect("it can be bound");
        let address = socket.local_addr().expect("it is bound");
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut room = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut room) {
                let text = String::from_utf8_lossy(&room[..length]).into_owned();
                let copied = text.lines().filter(|line| {
                    let name = line.split(':').next().unwrap_or_default();
                    ["Via", "From", "To", "Call-ID", "CSeq", "Contact", "Path"].contains(&name)
                });
                let copied = copied.map(|line| match line.strip_prefix("To:") {
                    Some(to) => format!("To:{to};tag=core\r\n"),
                    None => format!("{line}\r\n"),
                });
                let answer = format!(
                    "SIP/2.0 200 OK\r\n{}Expires: 60\r\nContent-Length: 0\r\n\r\n",
                    copied.collect::<String>()
                );
                noted.lock().expect("nobody panics with it").push(text);
                let _sent = socket.send_to(answer.as_bytes(), from);
            }
        });
        Self { address, seen }
    }

    /// The request with that in it; it was answered, so it was seen.
    fn request(&self, with: &str) -> String {
        let seen = self.seen.lock().expect("nobody panics with it");
        seen.iter().find(|text| text.contains(with)).cloned().expect("it came")
    }
}

/// An edge with keys and certificates on one DTLS port.
struct Edge {
    ue: SocketAddr,
    peer: Peer,
    folder: Folder,
}

impl Edge {
    fn start(core: &Core, engine: &str) -> Self {
        Self::before(core.address, loopback::address(), engine)
    }

    /// One before that core, which knows it by the address `own`.
    fn before(core: SocketAddr, own: IpAddr, engine: &str) -> Self {
        let folder = Folder::new("dtls");
        let ue = SocketAddr::new(loopback::address(), 5061);
        let own = SocketAddr::new(own, 5060);
        papers(&folder);
        let text = format!(
            "[edge]\ndomains = [\"ims.example\"]\nworkers = 2\n\
             [[listen]]\nname = \"ue\"\nside = \"ue\"\naddress = \"{ue}\"\ntransports = [\"dtls\"]\n\
             identity = \"{NAME}\"\ndtls = {{ engine = \"{engine}\" }}\n\
             tls = {{ certificate = \"edge.pem\", key = \"edge.key\", psk = true, client_auth = \"optional\", \
             client_ca = \"ca.pem\" }}\n\
             [[listen]]\nname = \"core\"\nside = \"core\"\naddress = \"{own}\"\n\
             transports = [\"udp\", \"tcp\"]\nidentity = \"{}\"\n\
             [[peer]]\nname = \"core\"\nmembers = [\"sip:{};transport=udp\"]\ntrust = \"address\"\n\
             [authentication]\naccounts = \"accounts.toml\"\n\
             [psk]\nkeys = \"psk.toml\"\n[enabler.reg]\nrate = \"1000/min\"\n[telemetry]\nlog = \"debug\"\n",
            own.ip(),
            core
        );
        secret(
            &folder,
            "accounts.toml",
            "[[account]]\nusername = \"dave\"\npassword = \"secret\"\n",
        );
        secret(&folder, "password", "secret\n");
        secret(&folder, "key.hex", KEY);
        secret(
            &folder,
            "psk.toml",
            &format!(
                "[[key]]\nidentity = \"{IDENTITY}\"\nkey = \"{KEY}\"\n\
                 identities = [\"sip:carol@ims.example\"]\n"
            ),
        );
        let config = folder.write("sipward.toml", &text);
        let peer = Peer::start("sipward", Command::new(SIPWARD).arg("serve").arg("-c").arg(config));
        let ready = peer
            .await_that(Duration::from_secs(30), |_| loopback::is_bound("udp", ue).then_some(()));
        assert!(ready.is_some(), "sipward does not listen on {ue}:\n{}", peer.said());
        Self { ue, peer, folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A command of OpenSSL's client, with `more` behind it.
    fn openssl(&self, more: &[&str]) -> Command {
        let mut command = Command::new(find("openssl", "openssl"));
        command.args(["s_client", "-dtls1_2", "-quiet", "-connect", &self.ue.to_string()]);
        command.args(["-servername", NAME]).args(more);
        command
    }

    /// A command of GnuTLS's client.
    fn gnutls(&self, more: &[&str]) -> Command {
        let mut command = Command::new(find("gnutls-cli", "gnutls-bin"));
        command.args(["--udp", "--port", &self.ue.port().to_string(), &self.ue.ip().to_string()]);
        command.args(["--sni-hostname", NAME]).args(more);
        command
    }
}

fn secret(folder: &Folder, name: &str, text: &str) {
    let path = folder.write(name, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("it is ours");
}

/// An authority, the edge's certificate, and one of a user.
fn papers(folder: &Folder) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority");
    let key = || KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key()).expect("an authority");
    folder.write("ca.pem", &authority.pem());
    for (file, name) in [
        ("edge", SanType::DnsName(Ia5String::try_from(NAME).expect("a name"))),
        ("alice", SanType::URI(Ia5String::try_from("sip:alice@ims.example").expect("a URI"))),
    ] {
        let (mut params, key) = (CertificateParams::default(), key());
        params.subject_alt_names = vec![name];
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        folder.write(&format!("{file}.pem"), &certificate.pem());
        secret(folder, &format!("{file}.key"), &key.serialize_pem());
    }
}

fn register(user: &str, call: &str, token: &str) -> String {
    format!(
        "REGISTER sip:ims.example SIP/2.0\r\nVia: SIP/2.0/{token} 127.0.0.1:9;branch=z9hG4bK{call};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@ims.example>;tag=1\r\nTo: <sip:{user}@ims.example>\r\n\
         Call-ID: {call}\r\nCSeq: 1 REGISTER\r\nSupported: path\r\n\
         Contact: <sip:{user}@127.0.0.1:9;transport=dtls-udp>\r\nExpires: 60\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The core is told who it is, and sees no credentials.
fn proves(request: &str, user: &str) {
    let asserted = format!("P-Asserted-Identity: <sip:{user}@ims.example>\r\n");
    assert!(request.contains(&asserted) && !request.contains("uthorization:"), "{request}");
}

const PATIENCE: Duration = Duration::from_secs(30);
const PSK_OF_GNUTLS: &str = "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:+PSK:-CIPHER-ALL:+AES-128-GCM";
const CERTIFICATES_OF_GNUTLS: &str = "NORMAL:-VERS-ALL:+VERS-DTLS1.2";

/// Each carries a REGISTER that is accepted without Digest, with the identity that the key or the certificate proves.
#[test]
fn openssl_and_gnutls_register_over_dtls() {
    for engine in ENGINES {
        let core = Core::start();
        let edge = Edge::start(&core, engine);
        let (alice, key, ca) =
            (edge.file("alice.pem"), edge.file("alice.key"), edge.file("ca.pem"));
        let certificate = ["-cert", &alice, "-key", &key, "-CAfile", &ca, "-verify_return_error"];
        let small = [&certificate[..], &["-mtu", "400"]].concat();
        for (name, command, user, token) in [
            (
                "openssl-psk",
                edge.openssl(&[
                    "-psk_identity",
                    IDENTITY,
                    "-psk",
                    KEY,
                    "-cipher",
                    "PSK-AES128-GCM-SHA256",
                ]),
                "carol",
                "DTLS-UDP",
            ),
            (
                "gnutls-psk",
                edge.gnutls(&[
                    "--pskusername",
                    IDENTITY,
                    "--pskkey",
                    KEY,
                    "--priority",
                    PSK_OF_GNUTLS,
                ]),
                "carol",
                "DTLS",
            ),
            ("openssl-certificate", edge.openssl(&certificate), "alice", "dtls-udp"),
            ("openssl-small", edge.openssl(&small), "alice", "TLS-UDP"),
            (
                "gnutls-certificate",
                edge.gnutls(&[
                    "--x509certfile",
                    &alice,
                    "--x509keyfile",
                    &key,
                    "--x509cafile",
                    &ca,
                    "--verify-hostname",
                    NAME,
                    "--priority",
                    CERTIFICATES_OF_GNUTLS,
                ]),
                "alice",
                "DTLS",
            ),
        ] {
            let call = format!("{name}-{engine}");
            let mut client = Client::start(command);
            client.say(&register(user, &call, token));
            let heard = client.hear(PATIENCE, is_answer);
            assert!(heard.contains("SIP/2.0 200 "), "{call}: {heard}\n{}", edge.peer.said());
            let via = format!("SIP/2.0/{token} 127.0.0.1:9;");
            assert!(heard.contains(&via), "{call}: the Via comes back as it was: {heard}");
            proves(&core.request(&format!("Call-ID: {call}\r\n")), user);
        }
    }
}

/// Kamailio as the core takes the same where the Via names a transport that it knows.
#[test]
fn kamailio_takes_a_registration_that_came_over_dtls() {
    let core = Kamailio::start(loopback::address());
    let edge = Edge::before(core.address, core.edge, "openssl");
    let suite = "PSK-AES128-GCM-SHA256";
    let command = edge.openssl(&["-psk_identity", IDENTITY, "-psk", KEY, "-cipher", suite]);
    let mut client = Client::start(command);
    client.say(&register("carol", "kamailio", "TLS"));
    let heard = client.hear(PATIENCE, is_answer);
    assert!(heard.contains("SIP/2.0 200 "), "{heard}\n{}", edge.peer.said());
    let seen = core.await_request(|seen| seen.call_id == "kamailio");
    assert_eq!(seen.asserted.as_deref(), Some("sip:carol@ims.example"));
    assert!(!seen.credentials);
}

/// Wrong keys, unknown identities and certificates of strangers never lead to an answer of SIP.
#[test]
fn what_proves_nothing_carries_nothing_over_dtls() {
    for engine in ENGINES {
        let core = Core::start();
        let edge = Edge::start(&core, engine);
        let stranger = Folder::new("stranger");
        papers(&stranger);
        let path = |name: &str| stranger.path().join(name).display().to_string();
        let (other, other_key) = (path("alice.pem"), path("alice.key"));
        let psk = |identity, key| {
            let suite = "PSK-AES128-GCM-SHA256";
            edge.openssl(&["-psk_identity", identity, "-psk", key, "-cipher", suite])
        };
        for (name, command) in [
            ("wrong key", psk(IDENTITY, &KEY.replace('2', "3"))),
            ("unknown identity", psk("psk;nobody@bsf.example.net", KEY)),
            ("another's certificate", edge.openssl(&["-cert", &other, "-key", &other_key])),
        ] {
            let mut client = Client::start(command);
            client.say(&register("carol", &format!("none-{engine}"), "DTLS-UDP"));
            let heard = client.hear(Duration::from_secs(7), is_answer);
            assert!(!heard.contains("SIP/2.0 "), "{name}, {engine}: {heard}");
        }
    }
}

/// What stands on a key ends with it: the key is taken back by a reload, and the session answers no more.
#[test]
fn a_session_ends_with_the_key_that_it_stands_on() {
    for engine in ENGINES {
        let core = Core::start();
        let edge = Edge::start(&core, engine);
        let suite = "PSK-AES128-GCM-SHA256";
        let command = edge.openssl(&["-psk_identity", IDENTITY, "-psk", KEY, "-cipher", suite]);
        let mut client = Client::start(command);
        client.say(&register("carol", &format!("before-{engine}"), "DTLS-UDP"));
        let heard = client.hear(PATIENCE, is_answer);
        assert!(heard.contains("SIP/2.0 200 "), "{engine}: {heard}");
        client.forget();
        let text = fs::read_to_string(edge.folder.path().join("psk.toml")).expect("it is there");
        secret(&edge.folder, "psk.toml", &text.replace(KEY, &KEY.replace('2', "3")));
        edge.peer.signal("HUP");
        let reloaded = edge.peer.await_that(Duration::from_secs(10), |lines| {
            lines.iter().any(|line| line.contains("reloaded: psk.keys")).then_some(())
        });
        assert!(reloaded.is_some(), "{engine}: {}", edge.peer.said());
        client.say(&register("carol", &format!("after-{engine}"), "DTLS-UDP"));
        let heard = client.hear(Duration::from_secs(3), is_answer);
        assert!(!heard.contains("SIP/2.0 "), "{engine}: {heard}");
        let seen = core.seen.lock().expect("nobody panics with it");
        assert!(!seen.iter().any(|text| text.contains("after-")), "{engine}");
    }
}

/// Our UE, whose DTLS is not OpenSSL's.
#[test]
fn our_ue_registers_over_dtls() {
    for engine in ENGINES {
        let core = Core::start();
        let edge = Edge::start(&core, engine);
        let run = |more: &[&str]| {
            let mut command = Command::new(SIPWARD);
            command.args(["ue", "register", "--edge", &edge.ue.to_string()]);
            let run = command.args(more).output().expect("sipward runs");
            let said = [run.stdout, run.stderr].concat();
            (run.status.code(), String::from_utf8_lossy(&said).into_owned())
        };
        let (ca, key, password) =
            (edge.file("ca.pem"), edge.file("key.hex"), edge.file("password"));
        let psk = ["--psk-identity", IDENTITY, "--psk-file", &key, "--transport", "dtls-psk"];
        let digest = ["--account", "dave", "--password-file", &password];
        let carol = ["--identity", "sip:carol@ims.example"];
        let dave = ["--identity", "sip:dave@ims.example", "--transport", "dtls", "--ca", &ca];
        let named = ["--name", NAME];
        let (code, said) = run(&[&psk[..], &carol, &named].concat());
        assert_eq!(code, Some(0), "{engine}: {said}\n{}", edge.peer.said());
        proves(&core.request("From: <sip:carol@"), "carol");
        let (code, said) = run(&[&dave[..], &digest, &named].concat());
        assert_eq!(code, Some(0), "{engine}: {said}\n{}", edge.peer.said());
        proves(&core.request("From: <sip:dave@"), "dave");
        let wrong = ["--name", "other.example.net"];
        let (code, said) = run(&[&dave[..], &digest, &wrong].concat());
        assert!(code != Some(0) && said.contains("handshake"), "{engine}: {said}");
    }
}
