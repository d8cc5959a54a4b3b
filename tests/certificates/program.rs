//! SEC_CF use case B.5 by the program itself: `sipward serve` with a responder, a server behind it.

use std::net::SocketAddr;
use std::time::Duration;

use sipward::transport::tls::{self, Certificate, TlsRefusal};
use tokio::net::TcpStream;

use crate::authority::Authority;
use crate::gateway::{ALICE, Line, Server, lines, ok, request};
use crate::programs::{Folder, Program, metric, sipward};
use crate::responder::{Answer, Reply, Says, Server as Responder};

/// A running edge; its folder goes with it.
struct Edge {
    _running: Program,
    _folder: Folder,
    ue: SocketAddr,
    page: SocketAddr,
}

impl Edge {
    fn start(authority: &Authority, responder: &Responder, server: SocketAddr) -> Self {
        let folder = Folder::new("certificates");
        folder.certify(authority, "edge", "edge.example.net");
        folder.write("ca.pem", authority.pem());
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
metrics = "127.0.0.1:0"
"#,
            responder.url
        );
        let file = folder.write("sipward.toml", text);
        let mut running = Program::start(sipward().arg("serve").arg("-c").arg(file));
        let (ue, page) = (running.address("ue"), running.address("page of metrics"));
        Self { _running: running, _folder: folder, ue, page }
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
        metric(self.page, &format!("sipward_transport_total{{event=\"{event}\"}}"))
    }
}

#[tokio::test]
async fn a_device_without_a_password_is_served_until_its_certificate_is_taken_back() {
    let authority = Authority::new();
    let responder = Responder::start([Reply::Body(Answer::good(&authority).der())]).await;
    let server = Server::new(authority.issue(&["core.example.net"]), Some(&authority)).await;
    let edge = Edge::start(&authority, &responder, server.address());
    let own = authority.issue(&["device.example.net"]);
    let mut device = edge.meet(&authority, &own).await.unwrap();
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
    let again = match edge.meet(&authority, &own).await {
        Ok(mut line) => line.next().await,
        Err(_) => None,
    };
    assert_eq!(again, None, "nor is it let in again");
    for event in ["certificates_over", "certificates_revoked", "handshakes_failed"] {
        // What the other threads counted may be printed a moment later.
        assert!((0..200).any(|_| edge.count(event) == 1), "{event}");
    }
}
