//! SEC_CF use case B.5 by the program itself: `sipward serve` with a responder, a server behind it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream as Plain};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::SanType;
use rcgen::string::Ia5String;
use sipward::transport::tls::{self, Certificate, TlsRefusal};
use tokio::net::TcpStream;

use crate::authority::Authority;
use crate::gateway::{ALICE, Line, Server, lines, ok, request};
use crate::real::pem;
use crate::responder::{Answer, Reply, Says, Server as Responder};

/// A running program, and its folder; both end with the test.
struct Program {
    child: Child,
    folder: PathBuf,
    ue: SocketAddr,
    metrics: SocketAddr,
}

impl Program {
    fn start(authority: &Authority, responder: &Responder, server: SocketAddr) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("certificates-program");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| {
            fs::write(folder.join(name), text).unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        };
        let (own, key) = authority.issue_alone(|params| {
            let name = Ia5String::try_from("sip:edge.example.net").unwrap();
            params.subject_alt_names = vec![SanType::URI(name)];
        });
        write("edge.pem", &pem(&own));
        write("edge.key", &key.serialize_pem());
        write("ca.pem", &authority.pem());
        // An address of its own, so that nobody takes the port meanwhile.
        let metrics = TcpListener::bind("127.0.0.48:0").unwrap().local_addr().unwrap();
        let pair = "certificate = \"edge.pem\", key = \"edge.key\"";
        let text = format!(
            r#"
[edge]
domains = ["example.net"]
[[listen]]
name = "ue"
side = "ue"
address = "127.0.0.1:0"
transports = ["tls"]
identity = "edge.example.net"
tls = {{ {pair}, client_auth = "require", client_ca = "ca.pem", ocsp = {{ responder = "{}", interval = "1s" }} }}
[[listen]]
name = "core"
side = "core"
address = "127.0.0.49:0"
transports = ["tls"]
identity = "edge.example.net"
tls = {{ {pair}, client_auth = "require", client_ca = "ca.pem" }}
[[peer]]
name = "core"
members = ["sip:{server};transport=tls"]
trust = "certificate"
identity = ["core.example.net"]
tls = {{ ca = "ca.pem", {pair} }}
[[ue_certificate]]
san = "device.example.net"
identities = ["{ALICE}"]
[telemetry]
metrics = "{metrics}"
"#,
            responder.url
        );
        write("sipward.toml", &text);
        let mut child = Command::new(env!("CARGO_BIN_EXE_sipward"))
            .arg("serve")
            .arg("-c")
            .arg(folder.join("sipward.toml"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let ue = said.find_map(|line| line.strip_prefix("listening: ue on ")?.parse().ok());
        Self { child, folder, ue: ue.expect("it listens"), metrics }
    }

    async fn meet(
        &self,
        authority: &Authority,
        shown: &Certificate,
    ) -> Result<Line<tokio_rustls::client::TlsStream<TcpStream>>, TlsRefusal> {
        let config = tls::client_config(authority.trust(), Some(shown)).unwrap();
        let tcp = TcpStream::connect(self.ue).await.unwrap();
        tls::connect(config, "edge.example.net", tcp).await.map(|(stream, _)| Line(stream))
    }

    /// How often something happened below the messages, as the page of metrics says it.
    fn count(&self, event: &str) -> u64 {
        let mut stream = Plain::connect(self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let row = format!("sipward_transport_total{{event=\"{event}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&row)).unwrap().parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn a_device_without_a_password_is_served_until_its_certificate_is_taken_back() {
    let authority = Authority::new();
    let responder = Responder::start([Reply::Body(Answer::good(&authority).der())]).await;
    let server = Server::new(authority.issue(&["core.example.net"]), Some(&authority)).await;
    let program = Program::start(&authority, &responder, server.address());
    let own = authority.issue(&["device.example.net"]);
    let mut device = program.meet(&authority, &own).await.unwrap();
    device.send(&request("MESSAGE", "sip:bob@example.net", "192.0.2.10", ALICE)).await;
    let mut line = server.accept().await.unwrap();
    let asked = line.next().await.unwrap();
    assert_eq!(lines(&asked, "P-Asserted-Identity: "), [format!("<{ALICE}>")], "{asked}");
    // CR-07: the server knows us by our certificate, and is known by its own.
    assert!(lines(&asked, "Via: ")[0].ends_with(";alias"), "{asked}");
    line.send(&ok(&asked)).await;
    assert!(device.answer().await.unwrap().starts_with("SIP/2.0 200 "));

    let revoked = Answer { says: Says::Revoked, ..Answer::good(&authority) }.der();
    responder.says(Reply::Body(revoked));
    let ended = tokio::time::timeout(Duration::from_secs(60), device.next()).await;
    assert_eq!(ended.expect("it ends"), None);
    let again = match program.meet(&authority, &own).await {
        Ok(mut line) => line.next().await,
        Err(_) => None,
    };
    assert_eq!(again, None, "nor is it let in again");
    for event in ["certificates_over", "certificates_revoked", "handshakes_failed"] {
        // What the other threads counted may be printed a moment later.
        assert!((0..200).any(|_| program.count(event) == 1), "{event}");
    }
}
