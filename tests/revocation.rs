//! Certificates that end: taken back by lists in the configuration, in the handshake, and on connections that stand;
//! our own, by their time.

#![cfg(feature = "http")]

#[path = "conformance/authority.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod authority;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener as Claim, TcpStream as Plain};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustls::CertificateError;
use sipward::config::Config;
use sipward::config::reload::Reloader;
use sipward::transport::tls::{self, TlsRefusal};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::authority::{Authority, SERIAL, shake_hands, shows};

/// What `sipward init` writes, changed so that clients and peers show certificates of `ca.pem` and lists are read.
struct Lab(PathBuf);

impl Lab {
    fn new(name: &str, authority: &Authority) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("revocation-{name}"));
        let _ = fs::remove_dir_all(&folder);
        let made = Command::new(env!("CARGO_BIN_EXE_sipward")).arg("init").arg(&folder).output();
        assert!(made.unwrap().status.success());
        let lab = Self(folder);
        lab.write("ca.pem", &authority.pem());
        lab.write("crl.pem", &authority.list(&[], 2999).pem().unwrap());
        lab.edit(
            "key = \"edge.key\", psk = true }",
            "key = \"edge.key\", client_auth = \"require\", client_ca = \"ca.pem\", crl = \"crl.pem\" }",
        );
        lab.edit("sip:127.0.0.1:5070;transport=tcp", "sip:example.net:5070;transport=tls");
        lab.edit(
            "trust = \"address\"",
            "trust = \"certificate\"\nidentity = [\"example.net\"]\n\
             tls = { ca = \"ca.pem\", crl = \"crl.pem\" }",
        );
        lab
    }

    /// Moves what it listens on to free ports; gives the address of the metrics.
    fn on_free_ports(&self) -> SocketAddr {
        // An address of its own, so that nobody takes the port meanwhile.
        let metrics = Claim::bind("127.0.0.47:0").unwrap().local_addr().unwrap();
        let text = fs::read_to_string(self.config()).unwrap();
        let text = text
            .replace("0.0.0.0:506", "127.0.0.1:506")
            .replace("\"127.0.0.1:5060\"", "\"127.0.0.1:0\"")
            .replace("\"127.0.0.1:5061\"", "\"127.0.0.1:0\"")
            .replace("\"127.0.0.1:5080\"", "\"127.0.0.1:0\"")
            .replace("\"127.0.0.1:8080\"", "\"127.0.0.1:0\"")
            .replace("127.0.0.1:9090", &metrics.to_string());
        fs::write(self.config(), text).unwrap();
        metrics
    }

    fn config(&self) -> PathBuf {
        self.0.join("sipward.toml")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "no {from:?} in {text}");
        fs::write(self.config(), text.replacen(from, to, 1)).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How the handshakes of a configuration end: the server that it dials, and the client that it accepts.
async fn both_ways(config: &Config, authority: &Authority) -> [Option<TlsRefusal>; 2] {
    let shown = || authority.issue(&["sip:example.net"]);
    let dialling = config.dialling.as_ref().unwrap();
    let (client, _) =
        shake_hands(&shows(shown()), dialling.trust.clone(), None, "example.net").await;
    let listener = config.listeners.iter().find_map(|listener| listener.tls.as_ref()).unwrap();
    let edge =
        tls::trust(&fs::read(config.file.parent().unwrap().join("lab-ca.pem")).unwrap(), b"");
    let (_, server) =
        shake_hands(&listener.spec, edge.unwrap(), Some(&shown()), "edge.example.net").await;
    [client.err(), server.err()]
}

#[tokio::test]
async fn lists_of_the_configuration_are_heeded_in_both_directions() {
    let authority = Authority::new();
    let lab = Lab::new("heeded", &authority);
    let (config, _) = Config::load(&lab.config()).unwrap();
    assert_eq!(both_ways(&config, &authority).await, [None, None]);

    let reloader = Reloader::new(config, |_| Ok(()));
    lab.write("crl.pem", &authority.list(&[SERIAL], 2999).pem().unwrap());
    let report = reloader.reload().unwrap();
    assert_eq!(report.changed, ["certificates"]);
    let revoked = || Some(TlsRefusal::Certificate(CertificateError::Revoked));
    assert_eq!(both_ways(&reloader.current(), &authority).await, [revoked(), revoked()]);

    // A reload with a list that proves nothing leaves the one that does.
    lab.write("crl.pem", &authority.list(&[], 2021).pem().unwrap());
    reloader.reload().unwrap_err();
    assert_eq!(both_ways(&reloader.current(), &authority).await, [revoked(), revoked()]);
}

#[test]
fn lists_that_cannot_do_their_work_are_refused_at_the_start() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let lab = Lab::new("unfit", &authority);
    for (text, why) in [
        (authority.list(&[], 2021).pem().unwrap(), "a revocation list has expired"),
        (stranger.list(&[], 2999).pem().unwrap(), "an authority has no revocation list"),
        (String::new(), "an authority has no revocation list"),
        (authority.pem(), "an authority has no revocation list"),
        ("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".into(), "revocation list: "),
    ] {
        lab.write("crl.pem", &text);
        let problems = Config::load(&lab.config()).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "the listener's and the peer's: {told:?}");
        assert!(told.iter().all(|problem| problem.contains(why)), "{why}: {told:?}");
    }
    fs::remove_file(lab.0.join("crl.pem")).unwrap();
    let problems = Config::load(&lab.config()).unwrap_err();
    assert!(problems.iter().all(|problem| problem.what.contains("cannot be read")), "{problems:?}");
    // One authority of two has none.
    lab.write("crl.pem", &authority.list(&[], 2999).pem().unwrap());
    lab.write("ca.pem", &format!("{}{}", authority.pem(), stranger.pem()));
    let problems = Config::load(&lab.config()).unwrap_err();
    assert!(problems.iter().all(|problem| problem.why.contains("no revocation list")));
}

/// A process that ends with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a page of metrics says.
fn page(address: SocketAddr) -> String {
    let mut stream = Plain::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn a_list_that_is_replaced_in_its_place_ends_the_connection_that_it_takes_back() {
    let authority = Authority::new();
    let lab = Lab::new("serving", &authority);
    let metrics = lab.on_free_ports();
    let checked =
        Command::new(env!("CARGO_BIN_EXE_sipward")).arg("check").arg(lab.config()).output();
    let checked = String::from_utf8(checked.unwrap().stdout).unwrap();
    assert!(checked.contains("required, with lists"), "{checked}");
    assert!(checked.contains("certificate, with lists"), "{checked}");

    let mut child = Command::new(env!("CARGO_BIN_EXE_sipward"));
    let child = child.arg("serve").arg("-c").arg(lab.config()).stdout(Stdio::piped()).spawn();
    let mut serving = Serving(child.unwrap());
    let mut said = BufReader::new(serving.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address =
        said.find_map(|line| line.strip_prefix("listening: ue-tls on ").map(str::to_owned));
    let address: SocketAddr = address.unwrap().parse().unwrap();

    let anchors = fs::read(lab.0.join("lab-ca.pem")).unwrap();
    let trust = tls::trust(&anchors, b"").unwrap();
    let shown = authority.issue(&["sip:peer.example"]);
    let client = tls::client_config(trust, Some(&shown)).unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    let (mut stream, _) = tls::connect(client.clone(), "edge.example.net", tcp).await.unwrap();
    // It stands: a ping is answered.
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 2]).await.unwrap();

    lab.write("new.pem", &authority.list(&[SERIAL], 2999).pem().unwrap());
    fs::rename(lab.0.join("new.pem"), lab.0.join("crl.pem")).unwrap();
    let mut octet = [0; 1];
    let ends = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut octet));
    assert_eq!(ends.await.expect("it ends").unwrap(), 0);
    let tcp = TcpStream::connect(address).await.unwrap();
    // A client of TLS 1.3 learns of it while it still shakes hands, or from the first thing read.
    let refused = match tls::connect(client, "edge.example.net", tcp).await {
        Ok((mut again, _)) => again.read(&mut [0; 1]).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    // What the other threads counted may be printed a moment later.
    let rows = ["certificates_over", "handshakes_failed"]
        .map(|event| format!("sipward_transport_total{{event=\"{event}\"}} 1\n"));
    let all = |text: &str| rows.iter().all(|row| text.contains(row));
    assert!((0..200).any(|_| all(&page(metrics))), "{}", page(metrics));
}

#[test]
fn a_certificate_of_ours_that_ends_soon_is_told_of() {
    let authority = Authority::new();
    let lab = Lab::new("ending", &authority);
    let metrics = lab.on_free_ports();
    let mut params = rcgen::CertificateParams::new(vec!["edge.example.net".into()]).unwrap();
    let days = |days: u64| Duration::from_secs(days * 86_400);
    params.not_before = (std::time::SystemTime::now() - days(1)).into();
    params.not_after = (std::time::SystemTime::now() + days(10) + days(1) / 2).into();
    let key = rcgen::KeyPair::generate().unwrap();
    lab.write("edge.pem", &params.self_signed(&key).unwrap().pem());
    lab.write("edge.key", &key.serialize_pem());

    let checked =
        Command::new(env!("CARGO_BIN_EXE_sipward")).arg("check").arg(lab.config()).output();
    let checked = String::from_utf8(checked.unwrap().stdout).unwrap();
    assert!(checked.contains("ends in 10 days"), "{checked}");

    let mut child = Command::new(env!("CARGO_BIN_EXE_sipward"));
    child.arg("serve").arg("-c").arg(lab.config());
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let _serving = Serving(child);
    let told = said.find(|line| line.contains("a certificate of ours ends soon")).unwrap();
    assert!(told.contains("ue-tls") && told.contains("days=10"), "{told}");
    let page = page(metrics);
    let row = page.lines().find(|row| row.starts_with("sipward_certificate_seconds_left{"));
    let (labels, left) = row.unwrap_or_else(|| panic!("{page}")).rsplit_once(' ').unwrap();
    assert!(labels.contains("shown_by=\"ue-tls\"") && labels.contains("at=\"0\""), "{labels}");
    assert_eq!(left.parse::<u64>().unwrap() / 86_400, 10, "{left}");
}

#[test]
fn the_metric_follows_certificates_that_a_reload_adds_or_drops() {
    let authority = Authority::new();
    let lab = Lab::new("rows", &authority);
    let metrics = lab.on_free_ports();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sipward"));
    child.arg("serve").arg("-c").arg(lab.config());
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut serving = Serving(child);
    let out = BufReader::new(serving.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    out.take_while(|line| !line.starts_with("listening: core")).for_each(drop);
    let said = BufReader::new(serving.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut reloaded = said.filter(|line| line.contains("reloaded"));
    let rows = || -> Vec<String> {
        let page = page(metrics);
        let rows =
            page.lines().filter_map(|row| row.strip_prefix("sipward_certificate_seconds_left"));
        rows.map(|row| row.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    let first = "{shown_by=\"ue-tls\",at=\"0\"}";
    assert_eq!(rows(), [first]);

    let more = ", certificates = [{ certificate = \"edge.pem\", key = \"edge.key\" }]";
    let shown = "key = \"edge.key\", client_auth";
    let to_peers = "tls = { ca = \"ca.pem\", crl = \"crl.pem\" }";
    let shown_to_peers = "tls = { ca = \"ca.pem\", crl = \"crl.pem\", certificate = \"edge.pem\", key = \"edge.key\" }";
    lab.edit(shown, &format!("key = \"edge.key\"{more}, client_auth"));
    lab.edit(to_peers, shown_to_peers);
    let pid = serving.0.id().to_string();
    let mut reload = || {
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        reloaded.next().unwrap()
    };
    let told = reload();
    let second = "{shown_by=\"ue-tls\",at=\"1\"}";
    assert_eq!(rows(), [first, second, "{shown_by=\"peers\",at=\"0\"}"], "{told}");
    lab.edit(more, "");
    lab.edit(shown_to_peers, to_peers);
    let told = reload();
    assert_eq!(rows(), [first], "{told}");
}
