//! The responder of OpenSSL, as a process, with the index of an authority.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose;
use sipward::transport::ocsp::desk::StatusDesk;
use sipward::transport::ocsp::{CertId, Status, StatusFault};

use crate::authority::Authority;
use crate::programs::pem;
use crate::responder::{delegate, settings};
use crate::status::about;

/// A running `openssl ocsp`; it ends with the test.
pub(crate) struct Real {
    child: Child,
    folder: PathBuf,
    pub(crate) url: String,
}

impl Real {
    /// With an index of certificates: `V` or `R`, and the serial number.
    pub(crate) fn start(name: &str, authority: &Authority, index: &[(char, &str)]) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("ocsp-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        let rows = index.iter().map(|(state, serial)| {
            let taken_back = if *state == 'R' { "200101000000Z" } else { "" };
            format!("{state}\t400101000000Z\t{taken_back}\t{serial}\tunknown\t/CN={serial}\n")
        });
        write("index.txt", &rows.collect::<String>());
        write("ca.pem", &authority.pem());
        let (signer, key) = delegate(authority);
        write("signer.pem", &pem(&signer));
        write("signer.key", &key.serialize_pem());
        let mut child = Command::new("openssl")
            .current_dir(&folder)
            .args(["ocsp", "-port", "0", "-index", "index.txt", "-CA", "ca.pem"])
            .args(["-rsigner", "signer.pem", "-rkey", "signer.key", "-nmin", "5"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is there: tests/run installs it");
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = said.map_while(Result::ok).find_map(|line| {
            let line = line.strip_prefix("ACCEPT ")?.split(' ').next()?.to_owned();
            line.rsplit_once(':').map(|(_, port)| port.to_owned())
        });
        let url = format!("http://127.0.0.1:{}/", port.expect("it says where it listens"));
        Self { child, folder, url }
    }

    fn desk(&self, nonce: bool) -> StatusDesk {
        let mut settings = settings(&self.url);
        settings.nonce = nonce;
        StatusDesk::new(settings)
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn the_responder_of_openssl_is_understood() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let real = Real::start("understood", &authority, &[('V', "5150"), ('R', "5151")]);
    for nonce in [false, true] {
        let desk = real.desk(nonce);
        let of = |serial: [u8; 2]| CertId { serial: serial.into(), ..about(&authority) };
        let good = desk.status(&of([0x51, 0x50])).await;
        assert!(matches!(good, Ok(Status::Good(Some(_)))), "{good:?}, nonce: {nonce}");
        assert_eq!(desk.status(&of([0x51, 0x51])).await, Ok(Status::Revoked), "nonce: {nonce}");
        assert_eq!(desk.status(&of([0x51, 0x52])).await, Ok(Status::Unknown), "nonce: {nonce}");
        // It says of other authorities that it knows nothing, and signs that with a certificate that is not theirs.
        let other = desk.status(&about(&stranger)).await;
        assert_eq!(other, Err(StatusFault::Unauthorised), "nonce: {nonce}");
    }
}

#[tokio::test]
async fn one_who_is_no_delegate_is_not_believed() {
    let authority = Authority::new();
    let (signer, key) = authority.issue_alone(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let real = Real::start("undelegated", &authority, &[('V', "5150")]);
    // The same folder, another signer: a second process.
    fs::write(real.folder.join("signer.pem"), pem(&signer)).unwrap();
    fs::write(real.folder.join("signer.key"), key.serialize_pem()).unwrap();
    let mut child = Command::new("openssl");
    child.current_dir(&real.folder);
    child.args(["ocsp", "-port", "0", "-index", "index.txt", "-CA", "ca.pem"]);
    child.args(["-rsigner", "signer.pem", "-rkey", "signer.key", "-nmin", "5"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = said.find(|line| line.starts_with("ACCEPT ")).unwrap();
    let port = line.split(' ').nth(1).unwrap().rsplit_once(':').unwrap().1;
    let desk = Arc::new(StatusDesk::new(settings(&format!("http://127.0.0.1:{port}/"))));
    let found = desk.status(&about(&authority)).await;
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(found, Err(StatusFault::Unauthorised));
}
