//! Certificates are renewed while devices shake hands and ask.

use std::sync::Condvar;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, SanType};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::*;

/// One device more shakes hands so often: a hundred a second, or as many as there is time for, later, if some were late.
const PACE: Duration = Duration::from_millis(10);
/// How many may be at it at once: an address has eight handshakes.
const AT_ONCE: usize = 4;
/// So many handshakes are waited for with each certificate.
const HANDSHAKES: usize = 200;
/// Calls on one connection: a phone keeps what is left of each for 32 s, and of 256 at most.
const CALLS: usize = 64;

/// The lab's authority, once more.
pub(super) struct Lab {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Lab {
    pub(super) fn new(folder: &Path) -> Self {
        let key = fs::read_to_string(folder.join("lab-ca.key")).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "sipward lab authority");
        let issuer = Issuer::new(params, KeyPair::from_pem(&key).unwrap());
        Self { issuer, folder: folder.to_owned() }
    }

    /// A pair for the edge: certificate, in DER and PEM, and key.
    pub(super) fn pair(&self) -> (Vec<u8>, String, String) {
        self.pair_of("sip:edge.example.net")
    }

    /// A pair for the owner of that name.
    pub(super) fn pair_of(&self, name: &str) -> (Vec<u8>, String, String) {
        let mut params = CertificateParams::default();
        let name = Ia5String::try_from(name).unwrap();
        params.subject_alt_names = vec![SanType::URI(name)];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().to_vec(), certificate.pem(), key.serialize_pem())
    }

    /// Puts a file in the place of another, whole.
    pub(super) fn replace(&self, name: &str, text: &str) {
        let new = self.folder.join("new");
        let place = self.folder.join(name);
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::metadata(&place).unwrap().permissions()).unwrap();
        fs::rename(&new, &place).unwrap();
    }
}

/// The certificate that the edge shows.
pub(super) async fn shown(edge: SocketAddr, trust: &Arc<ClientConfig>) -> Vec<u8> {
    let stream = TcpStream::connect(edge).await.expect("a connection");
    let (stream, _) =
        tls::connect(Arc::clone(trust), "edge.example.net", stream).await.expect("a handshake");
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// What the load saw: handshakes, and requests that were answered.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    counts: Mutex<[usize; 2]>,
    more: Condvar,
    /// The certificates that were put in place, in their order.
    placed: Mutex<Vec<Vec<u8>>>,
    /// Which of them is known to be in force: who begins now sees it, or a later one.
    in_force: AtomicUsize,
}

impl Load {
    fn count(&self, which: usize) {
        self.counts.lock().unwrap()[which] += 1;
        self.more.notify_all();
    }

    /// Has devices shake hands at their [`PACE`], however long the edge takes, until it is over; how many there were.
    async fn shake(self: Arc<Self>, edge: SocketAddr, trust: Arc<ClientConfig>) -> usize {
        let mut pace = tokio::time::interval(PACE);
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut devices = JoinSet::new();
        while !self.over.load(Ordering::Relaxed) {
            pace.tick().await;
            let (load, trust, room) = (Arc::clone(&self), Arc::clone(&trust), Arc::clone(&room));
            devices.spawn(async move {
                let _place = room.acquire().await.unwrap();
                load.shake_once(edge, &trust).await;
            });
        }
        devices.join_all().await.len()
    }

    async fn shake_once(&self, edge: SocketAddr, trust: &Arc<ClientConfig>) {
        let in_force = self.in_force.load(Ordering::SeqCst);
        let certificate = shown(edge, trust).await;
        let which = self.placed.lock().unwrap().iter().position(|placed| *placed == certificate);
        let which = which.expect("one that is in its place, with its key");
        assert!(which >= in_force, "certificate {which} is shown after {in_force}");
        self.count(0);
    }

    /// A certificate is about to be put in its place, with its key.
    fn places(&self, certificate: &[u8]) {
        self.placed.lock().unwrap().push(certificate.to_vec());
    }

    /// The last one that was placed is in force.
    fn is_in_force(&self) {
        self.in_force.store(self.placed.lock().unwrap().len() - 1, Ordering::SeqCst);
    }

    /// Registers over TLS, calls somebody behind the edge some times, and comes anew, until it is over.
    async fn call(&self, settings: UeSettings) {
        while !self.over.load(Ordering::Relaxed) {
            let ue = Ue::connect(settings.clone()).await.unwrap();
            assert_eq!(ue.register(600).await.unwrap().status(), Some(200));
            for _ in 0..CALLS {
                let call = ue.call("sip:bob@example.net").await.unwrap();
                assert_eq!(call.answer.status(), Some(200), "no call fails");
                let ended = ue.hang_up(&call.call_id).await.unwrap();
                assert_eq!(ended.status(), Some(200), "nor its end");
                self.count(1);
            }
        }
    }

    /// Waits for so many more handshakes, and calls.
    fn wait(&self) {
        let counts = self.counts.lock().unwrap();
        let wanted = [counts[0] + HANDSHAKES, counts[1] + CALLS];
        let short = |now: &mut [usize; 2]| now[0] < wanted[0] || now[1] < wanted[1];
        let (_counts, late) =
            self.more.wait_timeout_while(counts, Duration::from_secs(60), short).unwrap();
        assert!(!late.timed_out(), "the load came to a halt");
    }
}

#[test]
fn a_renewed_certificate_is_shown_and_a_broken_pair_is_not_and_no_call_fails() {
    let core = Core::start();
    let mut edge = Edge::start_with("renewal", |text| {
        let peer = format!("sip:{};transport=udp", core.address);
        text.replace("sip:127.0.0.1:5070;transport=tcp", &peer)
            .replace("rate = \"60/min\"\n", "rate = \"60000/min\"\ndialog_rate = \"1000/s\"\n")
            .replace("rate = \"6/min\"", "rate = \"6000/min\"")
    });
    let lab = Lab::new(&edge.folder);
    let anchors = fs::read(edge.folder.join("lab-ca.pem")).unwrap();
    let trust = tls::client_config(tls::trust(&anchors, b"").unwrap(), None).unwrap();
    let address = edge.tls.expect("a TLS listener");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let load = Arc::new(Load::default());
    load.places(&runtime.block_on(shown(address, &trust)));
    let (caller, settings) = (Arc::clone(&load), alice(&edge, Transport::Tls));
    let standing = runtime.block_on(async {
        let ue = Ue::connect(settings.clone()).await.unwrap();
        let call = ue.call("sip:bob@example.net").await.unwrap();
        assert_eq!(call.answer.status(), Some(200));
        (ue, call.call_id)
    });
    let began = std::time::Instant::now();
    let shaking = runtime.spawn(Arc::clone(&load).shake(address, Arc::clone(&trust)));
    let calling = runtime.spawn(async move { caller.call(settings).await });
    load.wait();

    // In their places, and nothing else is said.
    let (second, certificate, key) = lab.pair();
    load.places(&second);
    lab.replace("edge.pem", &certificate);
    lab.replace("edge.key", &key);
    let heard = edge.until("reloaded: ");
    assert!(heard.ends_with("\nreloaded: certificates\n") || heard == "reloaded: certificates\n");
    assert_eq!(runtime.block_on(shown(address, &trust)), second);
    load.is_in_force();
    load.wait();

    // A certificate without its key: the old pair stays.
    let (third, certificate, key) = lab.pair();
    lab.replace("edge.pem", &certificate);
    let heard = edge.until("not reloaded: the old configuration stays in force");
    assert!(heard.contains("keys may not be consistent"), "{heard}");
    assert_eq!(runtime.block_on(shown(address, &trust)), second);
    load.wait();

    // What is changed besides is not put in force by the key that follows.
    edge.edit("sipward.toml", "foreign = \"core\"", "foreign = \"refuse\"");
    load.places(&third);
    lab.replace("edge.key", &key);
    let heard = edge.until("reloaded: ");
    assert!(heard.ends_with("reloaded: certificates\n"), "{heard}");
    assert_eq!(runtime.block_on(shown(address, &trust)), third);
    load.is_in_force();
    load.wait();
    edge.signal("-HUP");
    let heard = edge.until("reloaded: ");
    assert!(heard.ends_with("reloaded: routes\n"), "{heard}");

    load.wait();
    load.over.store(true, Ordering::Relaxed);
    let time = began.elapsed();
    runtime.block_on(async {
        let began = shaking.await.expect("no handshake fails");
        calling.await.expect("no call fails");
        let [handshakes, calls] = *load.counts.lock().unwrap();
        say(&format!("renewal: {handshakes} handshakes and {calls} calls, begun in {time:.1?}"));
        assert!(began as f64 >= 50.0 * time.as_secs_f64(), "{began} handshakes in {time:?}");
        assert_eq!(handshakes, began, "each ended well");
        assert!(handshakes >= 5 * HANDSHAKES && calls >= 5 * CALLS);
        let (ue, call) = standing;
        let ended = ue.hang_up(&call).await.unwrap();
        assert_eq!(ended.status(), Some(200), "nor one that stood before");
    });
}
