//! Certificates that were taken back: lists in the configuration, in the handshake, and on connections that stand.

#![cfg(feature = "http")]

#[path = "conformance/authority.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod authority;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustls::CertificateError;
use sipward::config::Config;
use sipward::config::reload::Reloader;
use sipward::transport::tls::TlsRefusal;

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
    let edge = sipward::transport::tls::trust(
        &fs::read(config.file.parent().unwrap().join("lab-ca.pem")).unwrap(),
        b"",
    );
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
