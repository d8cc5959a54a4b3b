//! A key that is taken back while a handshake with it is under way opens nothing.

use std::task::Waker;

use sipward::clock;
use sipward::keys::subscribers::disk::replace;
use sipward::transport::dtls::engine::{DtlsEngine, Event};
use sipward::transport::dtls::record::{Content, records};
use sipward::transport::dtls::webrtc::{self, ClientProof};
use tokio::time::timeout;

use super::*;

const IDENTITY: &str = "psk;alice@bsf.example.net";
const ANOTHER: &str = "psk;bob@bsf.example.net";
const KEY: [u8; 32] = [0x5a; 32];
/// How long nothing has to come until it is taken for nothing.
const QUIET: Duration = Duration::from_millis(300);

/// A device that holds back what ends its handshake.
struct Device {
    socket: tokio::net::UdpSocket,
    engine: Box<dyn DtlsEngine>,
    held: Option<Vec<u8>>,
}

impl Device {
    async fn new(edge: SocketAddr) -> Self {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(edge).await.unwrap();
        let proof = ClientProof::Psk {
            identity: IDENTITY.into(),
            key: KEY.to_vec().into(),
            name: "edge.example.net".into(),
        };
        let engine = webrtc::client(proof, Waker::noop().clone()).unwrap();
        Self { socket, engine, held: Some(Vec::new()) }
    }

    /// Lets it go on until nothing comes any more; what happened to it.
    async fn go_on(&mut self) -> Vec<Event> {
        let mut room = [0; 4096];
        let mut events = Vec::new();
        loop {
            for _ in 0..8 {
                self.engine.turn(clock::mono());
                tokio::task::yield_now().await;
            }
            while let Some(datagram) = self.engine.poll_transmit() {
                self.send(&datagram).await;
            }
            events.extend(std::iter::from_fn(|| self.engine.poll_event()));
            match timeout(QUIET, self.socket.recv(&mut room)).await {
                Ok(length) => self.engine.input(&room[..length.unwrap()], clock::mono()),
                Err(_) => return events,
            }
        }
    }

    async fn send(&mut self, datagram: &[u8]) {
        for record in records(datagram) {
            let ends = record.epoch > 0 || record.content == Some(Content::ChangeCipherSpec);
            match &mut self.held {
                Some(held) if ends => held.extend_from_slice(record.octets),
                _ => drop(self.socket.send(record.octets).await.unwrap()),
            }
        }
    }

    /// Sends what it held back.
    async fn end(&mut self) {
        let held = self.held.take().filter(|held| !held.is_empty());
        self.socket.send(&held.expect("its Finished is held back")).await.unwrap();
    }
}

/// The keys of an edge, but for one.
fn keys(names: &[&str]) -> String {
    let digits: String = KEY.iter().map(|octet| format!("{octet:02x}")).collect();
    let one = |name: &&str| {
        format!(
            "[[key]]\nidentity = \"{name}\"\nkey = \"{digits}\"\n\
             identities = [\"sip:alice@example.net\"]\n"
        )
    };
    names.iter().map(one).collect()
}

/// V-47, by both engines: it is asked for in the handshake, and looked at once more when that is over.
#[test]
fn v_47_a_key_taken_back_during_a_handshake_over_dtls_opens_nothing() {
    for engine in ["openssl", "webrtc"] {
        let core = Core::start();
        let name = format!("late-{engine}");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("serve-{name}"));
        let mut edge = Edge::start_with(&name, |text| {
            replace(&folder.join("psk.toml"), keys(&[IDENTITY, ANOTHER]).as_bytes()).unwrap();
            let peer = format!("sip:{};transport=udp", core.address);
            let dtls =
                format!("transports = [\"tls\", \"dtls\"]\ndtls = {{ engine = \"{engine}\" }}");
            let text = text
                .replace("sip:127.0.0.1:5070;transport=tcp", &peer)
                .replace("transports = [\"tls\"]", &dtls);
            format!("{text}\n[psk]\nkeys = \"psk.toml\"\n")
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let address = edge.tls.expect("a secure listener");
            let (mut first, mut late) = (Device::new(address).await, Device::new(address).await);
            assert_eq!((first.go_on().await, late.go_on().await), (vec![], vec![]), "{engine}");
            first.end().await;
            let events = first.go_on().await;
            assert!(matches!(events[..], [Event::Established(_)]), "{engine}: {events:?}");

            replace(&edge.folder.join("psk.toml"), keys(&[ANOTHER]).as_bytes()).unwrap();
            edge.signal("-HUP");
            edge.until("reloaded: ");
            let closed = |events: &[Event]| matches!(events.last(), Some(Event::Closed(_)));
            let events = first.go_on().await;
            assert!(closed(&events), "{engine}: what stood on it is over: {events:?}");
            late.end().await;
            let events = late.go_on().await;
            assert!(closed(&events), "{engine}: nothing stands on it: {events:?}");
        });
    }
}
