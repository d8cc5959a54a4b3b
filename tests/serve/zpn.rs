//! Push info over Zpn by configuration alone: the bootstrapping server in a process of its own, push servers over TLS with
//! certificates at both ends, a phone that has the key; each gets what its entry grants.

use sipward::identity::{Impi, Ptid};
use sipward::keys::diameter::ask::{Asker, Neighbour, Reply};
use sipward::keys::diameter::base::{Verdict, verdict};
use sipward::keys::diameter::codec::{Message, Printed};
use sipward::keys::diameter::dictionary::{self, ZN, ZPN};
use sipward::keys::diameter::link::Pace;
use sipward::keys::diameter::source::ZpnSource;
use sipward::keys::diameter::{Local, zpn};
use sipward::keys::push::gpl::Sender;
use sipward::keys::push::p1::P1;
use sipward::keys::push::ue::{Associations, Discard, Subscription};
use sipward::keys::push::{
    CardApplication, Direction, Profile, PushAnswer, PushInfo, PushRequest, downlink_id,
};
use sipward::keys::{NafId, UaId};
use sipward::transport::tls::ClientTls;
use tokio::sync::watch;

use super::nbsp::papers;
use super::papers::Authority;
use super::zn::{heard, list};
use super::*;

const IMPI: &str = "001010000000001@ims.mnc001.mcc001.3gppnetwork.org";
const PUSH: &str = "push.example.net";

/// The bootstrapping server, and who may come to it.
struct Bsf {
    child: Child,
    folder: PathBuf,
    zpn: SocketAddr,
    authority: Authority,
    list: PathBuf,
}

impl Bsf {
    fn start(name: &str) -> Self {
        let (authority, list) = (Authority::new(name), list());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("serve-{name}"));
        let tls = papers(&folder, &authority.issue(&["bsf.example.net"]), &authority);
        let text = format!(
            r#"
[bsf]
name = "bsf.example.net"
listen = "127.0.0.1:0"
subscribers = "{}"
[diameter]
identity = "bsf.example.net"
realm = "home.example.net"
listen = "127.0.0.1:0"
{tls}
[[diameter.peer]]
host = "{PUSH}"
asks = "zpn"
fqdns = ["{PUSH}"]
[[diameter.peer]]
host = "both.example.net"
asks = ["zn", "zpn"]
fqdns = ["both.example.net"]
[[diameter.peer]]
host = "naf.example.net"
asks = "zn"
fqdns = ["naf.example.net"]
ua_ids = ["0100000005"]
"#,
            list.display(),
        );
        fs::write(folder.join("sipward.toml"), text).unwrap();
        let mut command = sipward();
        command.arg("serve").arg("-c").arg(folder.join("sipward.toml"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let [zpn] = heard(child.stdout.take().unwrap(), ["Diameter"]);
        Self { child, folder, zpn, authority, list }
    }

    /// The push server of that name, before whose server stand neighbours at `before`. It speaks `applications`.
    fn server(&self, name: &str, before: &[SocketAddr], applications: &[u32]) -> Server {
        let own = self.authority.issue(&[name]);
        let tls = ClientTls::new(self.authority.trust(), Some(&own.read())).unwrap();
        let tls = Some(Arc::new(tls));
        let local = Local {
            host: name.into(),
            realm: "example.net".into(),
            product: "sipward".into(),
            applications: applications.to_vec(),
            state_id: 1,
        };
        let neighbour = |address: &SocketAddr| Neighbour {
            host: "bsf.example.net".into(),
            address: *address,
            tls: tls.clone(),
        };
        let neighbours = before.iter().chain([&self.zpn]).map(neighbour).collect();
        let pace = Pace { answer: Duration::from_secs(20), ..Pace::default() };
        let (stop, stopped) = watch::channel(false);
        let (asker, _) = Asker::start(Arc::new(local), neighbours, pace, stopped);
        let realm = "home.example.net".into();
        Server { source: ZpnSource { realm, asker, profile: Arc::new(P1) }, _stop: stop }
    }

    /// A phone, and its card, which has seen the numbers before `seen`.
    fn phone(&self, naf: &NafId, seen: u64) -> (Associations, Usim) {
        let subscriber = file::load(&self.list).unwrap().remove(0);
        let subscription = Subscription {
            impi: subscriber.impi,
            bsf: "bsf.example.net".into(),
            application: CardApplication::Usim,
            nafs: vec![naf.clone()],
        };
        let card =
            Usim::new(subscriber.algorithms.unwrap(), SqnWindow::default().with_seen([seen; 32]));
        (Associations::new(subscription, Arc::new(P1)), card)
    }
}

impl Drop for Bsf {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A push server, while it is held.
struct Server {
    source: ZpnSource,
    _stop: watch::Sender<bool>,
}

impl Server {
    async fn ask(&self, asked: &PushRequest) -> &'static str {
        match self.source.push_info(asked).await {
            PushAnswer::Known(_) => "known",
            PushAnswer::Unknown => "unknown",
            PushAnswer::Forbidden => "forbidden",
            PushAnswer::AutsWrong => "auts wrong",
            PushAnswer::Unavailable => "unavailable",
        }
    }

    async fn known(&self, asked: &PushRequest) -> PushInfo {
        match self.source.push_info(asked).await {
            PushAnswer::Known(info) => *info,
            other => panic!("{other:?}"),
        }
    }

    /// The answer itself, to what `change` makes of a question.
    async fn raw(&self, asked: &PushRequest, change: impl FnOnce(&mut Printed)) -> Printed {
        let asker = &self.source.asker;
        let (session, realm) = (asker.session(), Arc::clone(&self.source.realm));
        let question = zpn::Question { session, realm, host: None, request: asked.clone() };
        let mut printed = question.print(asker.local(), asker.end());
        change(&mut printed);
        let (tell, told) = tokio::sync::oneshot::channel();
        asker.ask(printed, Reply::to(move |answer| drop(tell.send(answer))));
        told.await.expect("told once").expect("an answer")
    }
}

fn request(naf: &str) -> PushRequest {
    PushRequest {
        impi: Impi::new(IMPI).unwrap(),
        naf: NafId::new(naf, UaId::PUSH_LAYER),
        ptid: Ptid::new("p-0000000001").unwrap(),
        expires: sipward::clock::now().wall + Duration::from_secs(600),
        resync: None,
    }
}

fn said(answer: &Printed) -> (u32, Verdict) {
    let message = Message::parse(answer).unwrap();
    (message.header.application, verdict(&message).unwrap())
}

/// The acceptance of Zpn: the phone opens what is wrapped under the key that the push server was told; a card out of step
/// is met again; whoever has no grant, or asks too often, gets a no that says which.
#[tokio::test]
async fn push_info_comes_over_zpn_and_the_phone_has_the_key() {
    let bsf = Bsf::start("zpn");
    let push = bsf.server(PUSH, &[], &[ZPN]);
    let asked = request(PUSH);
    let (mut own, mut card) = bsf.phone(&asked.naf, 0);
    let info = push.known(&asked).await;
    assert_eq!(info.expires, asked.expires);
    let made = own.take(&info.gpi, &mut card, sipward::clock::now().wall).expect("for this card");
    assert_eq!((made.ptid, made.naf), (asked.ptid.clone(), asked.naf.clone()));
    let profile: Arc<dyn Profile> = Arc::new(P1);
    let id = downlink_id(&info.rand);
    let mut sender = Sender::new(&profile, &info.key, Direction::Down, &id).expect("short");
    let (_, wrapped) = sender.wrap(b"mail").expect("the first");
    let opened = own.unwrap(&wrapped, sipward::clock::now().wall).expect("under the same key");
    assert_eq!(opened.plain, b"mail");

    // TS 33.102 clause 6.3.5: a card that is ahead says so, and the next push info is for it; the AUTS is used once.
    let (mut own, mut card) = bsf.phone(&asked.naf, 1_000_000);
    let info = push.known(&asked).await;
    let refused = own.take(&info.gpi, &mut card, sipward::clock::now().wall);
    let Err(Discard::OutOfStep(auts)) = refused else { panic!("{refused:?}") };
    let again = PushRequest { resync: Some((info.rand, auts)), ..asked.clone() };
    let info = push.known(&again).await;
    own.take(&info.gpi, &mut card, sipward::clock::now().wall).expect("in step");
    assert_eq!(push.ask(&again).await, "auts wrong", "4001");

    let nobody = PushRequest { impi: Impi::new("nobody@example.net").unwrap(), ..asked.clone() };
    let naf = NafId::new(PUSH, UaId::SIP_DIGEST);
    let digest = PushRequest { naf, ..asked.clone() };
    assert_eq!(push.ask(&nobody).await, "unknown", "5401");
    assert_eq!(push.ask(&request("both.example.net")).await, "forbidden", "5402, another's name");
    assert_eq!(push.ask(&digest).await, "forbidden", "5402, another protocol");

    // The third of this minute, in the application of Zn by one that speaks no other; then it is too often.
    let both = bsf.server("both.example.net", &[], &[ZN]);
    let of_zn = |octets: &mut Printed| octets[8..12].copy_from_slice(&ZN.to_be_bytes());
    let answer = both.raw(&request("both.example.net"), of_zn).await;
    assert_eq!(said(&answer), (ZN, Verdict::Base(dictionary::SUCCESS)));
    assert_eq!(push.ask(&asked).await, "unavailable", "V-139");
    let answer = push.raw(&asked, |_| {}).await;
    assert_eq!(said(&answer), (ZPN, Verdict::Base(dictionary::UNABLE_TO_COMPLY)));
    let why = Message::parse(&answer).unwrap().avps().one(&dictionary::ERROR_MESSAGE).unwrap();
    assert_eq!(why.unwrap().text(), Ok("too often for this subscriber"));

    // A NAF of keys moves nobody's card, though its grant names the protocol.
    let keys = bsf.server("naf.example.net", &[], &[ZN]);
    let answer = keys.raw(&request("naf.example.net"), of_zn).await;
    assert_eq!(said(&answer), (ZN, Verdict::Base(dictionary::AUTHORIZATION_REJECTED)));
}

/// As on Zn, the second neighbour stands in for the first; and whoever shows another's certificate is not let in.
#[tokio::test]
async fn the_second_neighbour_is_asked_and_a_stranger_is_not_answered() {
    let bsf = Bsf::start("zpn-second");
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = gone.local_addr().unwrap();
    drop(gone);
    let push = bsf.server(PUSH, &[away], &[ZPN]);
    assert_eq!(push.ask(&request(PUSH)).await, "known");

    // It has the authority's word for its own name alone.
    let stranger = bsf.server("stranger.example.net", &[], &[ZPN]);
    assert_eq!(stranger.ask(&request(PUSH)).await, "unavailable");
}
