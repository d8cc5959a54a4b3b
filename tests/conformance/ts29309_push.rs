//! TS 29.309 clause 5.2.2.3: push info of a bootstrapping server elsewhere, over real sockets with certificates at both ends. It
//! is the same that a server in the same process gives; of one that lies, or is not there, comes nothing.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sipward::clock;
use sipward::identity::{Impi, Ptid};
use sipward::keys::bootstrap::{BsfConfig, LocalNaf, NafGrant, PUSHES_PER_MINUTE, UaGrant};
use sipward::keys::nbsp::answer::{Asked, answer};
use sipward::keys::nbsp::push_client::NbspPushClient;
use sipward::keys::nbsp::{JSON, PUSH_PATH};
use sipward::keys::push::gpl::Sender;
use sipward::keys::push::p1::P1;
use sipward::keys::push::ue::{Associations, Discard, Subscription};
use sipward::keys::push::{
    CardApplication, Direction, PushAnswer, PushInfo, PushRequest, PushServer, downlink_id,
};
use sipward::keys::sqn::{PLACES, Sqn, SqnWindow};
use sipward::keys::usim::Usim;
use sipward::keys::vector::Auts;
use sipward::keys::{NafId, Rand, UaId};
use sipward::transport::peer::ClientCertificate;
use sipward::transport::tls::{self, ServerSpec, ServerTls};
use tokio::net::TcpListener;

use crate::authority::Authority;
use crate::ts29309::{Door, HOST, client, door};
use crate::ts33220_ub::{IMPI, World, subscriber, world_with};

const BSF: &str = "bsf.home1.net";
const NAF: &str = "push.home1.net";

/// A server with one subscriber; the NAF of [`HOST`] may push to him.
fn world() -> World {
    let grant = NafGrant {
        host: HOST.into(),
        fqdns: vec![NAF.into()],
        protocols: vec![UaGrant::Exact(UaId::PUSH_LAYER)],
        sees_impi: true,
        sees_identities: true,
    };
    world_with(BsfConfig::new(BSF), subscriber(Sqn::default()), vec![grant])
}

fn request() -> PushRequest {
    PushRequest {
        impi: Impi::new(IMPI).expect("a name"),
        naf: NafId::new(NAF, UaId::PUSH_LAYER),
        ptid: Ptid::new("p-0000000001").expect("a name"),
        expires: clock::now().wall + Duration::from_secs(600),
        resync: None,
    }
}

fn asking(authority: &Authority, ports: &[u16]) -> NbspPushClient {
    let own = authority.issue(&[HOST]);
    NbspPushClient::new(Arc::new(client(authority, Some(&own), ports)), Arc::new(P1))
}

/// A word for an answer; for all that name a subscriber, what was given.
fn word(answer: &PushAnswer) -> &'static str {
    match answer {
        PushAnswer::Known(_) => "known",
        PushAnswer::Unknown => "unknown",
        PushAnswer::Forbidden => "forbidden",
        PushAnswer::AutsWrong => "auts wrong",
        PushAnswer::Unavailable => "unavailable",
    }
}

async fn ask(server: &dyn PushServer, asked: &PushRequest, drawn: u8) -> PushAnswer {
    server.ask_push(asked, Rand([drawn; 16]), clock::now()).await
}

async fn known(server: &dyn PushServer, asked: &PushRequest) -> PushInfo {
    match ask(server, asked, 7).await {
        PushAnswer::Known(info) => *info,
        other => panic!("{other:?}"),
    }
}

/// A phone, and its card, which has seen the numbers before `seen`.
fn phone(seen: u64) -> (Associations, Usim) {
    let subscription = Subscription {
        impi: Impi::new(IMPI).expect("a name"),
        bsf: BSF.into(),
        application: CardApplication::Usim,
        nafs: vec![NafId::new(NAF, UaId::PUSH_LAYER)],
    };
    let window = SqnWindow::default().with_seen([seen; PLACES]);
    let card = Usim::new(subscriber(Sqn::default()).algorithms.unwrap(), window);
    (Associations::new(subscription, Arc::new(P1)), card)
}

/// Every answer is the one that the same server gives in the same process, and the phone has the key.
#[tokio::test]
async fn clause_5_2_2_3_as_in_the_same_process() {
    let authority = Authority::new();
    let (there, here) = (world(), world());
    let door = door(&there, &authority, authority.issue(&["localhost"])).await;
    let far = asking(&authority, &[door.address.port()]);
    let near = LocalNaf::new(Arc::clone(&here.bsf), HOST);

    let asked = request();
    let info = known(&far, &asked).await;
    assert_eq!(info.expires, asked.expires);
    let (mut own, mut card) = phone(0);
    own.take(&info.gpi, &mut card, clock::now().wall).expect("for this card");
    let id = downlink_id(&info.rand);
    let profile = Arc::new(P1) as Arc<dyn sipward::keys::push::Profile>;
    let mut sender = Sender::new(&profile, &info.key, Direction::Down, &id).expect("short");
    let (_, wrapped) = sender.wrap(b"mail").expect("the first");
    let opened = own.unwrap(&wrapped, clock::now().wall).expect("under the same key");
    assert_eq!((opened.plain.as_slice(), opened.naf), (&b"mail"[..], asked.naf.clone()));
    known(&near, &asked).await;

    let nobody = PushRequest { impi: Impi::new("nobody@home1.net").unwrap(), ..asked.clone() };
    let naf = NafId::new("other.home1.net", UaId::PUSH_LAYER);
    let other = PushRequest { naf, ..asked.clone() };
    let resync = Some((Rand([1; 16]), Auts([0; 14])));
    let auts = PushRequest { resync, ..asked.clone() };
    let mut table = vec![(nobody, "unknown"), (other, "forbidden"), (auts, "auts wrong")];
    table.resize(table.len() + PUSHES_PER_MINUTE - 1, (asked.clone(), "known"));
    table.push((asked, "unavailable"));
    for (asked, expected) in table {
        let (far, near) = (ask(&far, &asked, 2).await, ask(&near, &asked, 2).await);
        assert_eq!((word(&far), word(&near)), (expected, expected), "{asked:?}");
    }
    door.task.abort();
    let _ = door.task.await;
    assert_eq!(word(&ask(&far, &request(), 2).await), "unavailable", "it is not there");
}

/// TS 33.102 clause 6.3.5: a card that is out of step is taken over from, and the next push info is good.
#[tokio::test]
async fn clause_5_2_2_3_with_auts() {
    let authority = Authority::new();
    let there = world();
    let door = door(&there, &authority, authority.issue(&["localhost"])).await;
    let far = asking(&authority, &[door.address.port()]);
    let (mut own, mut card) = phone(5000);
    let info = known(&far, &request()).await;
    let refused = own.take(&info.gpi, &mut card, clock::now().wall);
    let Err(Discard::OutOfStep(auts)) = refused else { panic!("{refused:?}") };
    let again = PushRequest { resync: Some((info.rand, auts)), ..request() };
    let info = known(&far, &again).await;
    own.take(&info.gpi, &mut card, clock::now().wall).expect("in step");
    assert_eq!(word(&ask(&far, &again, 2).await), "auts wrong", "it is used once");
    door.task.abort();
}

/// What a liar makes of a true answer: status and body.
type Lie = Arc<dyn Fn(u16, Value) -> (u16, Vec<u8>) + Send + Sync>;

/// What a server of the tests' own answers to a request and its body: status and body.
pub(crate) type Answering = Arc<dyn Fn(&Parts, &[u8]) -> (u16, Vec<u8>) + Send + Sync>;

/// One that speaks HTTP/2 with the right certificate, and answers so.
pub(crate) async fn answering(authority: &Authority, answer: Answering) -> Door {
    let spec = ServerSpec {
        certificates: vec![authority.issue(&["localhost"])],
        asks: ClientCertificate::Required,
        trust: authority.trust(),
    };
    let tls = Arc::new(ServerTls::of_http2(&spec).expect("good"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = async move {
        loop {
            let (stream, _) = listener.accept().await?;
            let Ok((stream, _)) = tls::accept(&tls, stream).await else { continue };
            let answer = Arc::clone(&answer);
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = Arc::clone(&answer);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.expect("a question").to_bytes();
                    let (status, body) = answer(&head, &body);
                    let mut response = Response::new(Full::new(Bytes::from(body)));
                    *response.status_mut() = status.try_into().expect("a status");
                    Ok::<_, Infallible>(response)
                }
            });
            let connection = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    };
    Door { address, task: tokio::spawn(serve) }
}

/// A bootstrapping server that says what `lie` makes of the truth.
async fn liar(authority: &Authority, lie: Lie) -> Door {
    let bsf = world().bsf;
    let answer: Answering = Arc::new(move |_, body| {
        let asked = Asked {
            method: "POST",
            path: PUSH_PATH,
            content_type: Some(JSON.as_bytes()),
            body: Some(body),
        };
        let told = answer(&bsf, &[HOST.into()], &asked, Rand([5; 16]), clock::now());
        lie(told.status, serde_json::from_slice(&told.body).expect("JSON"))
    });
    answering(authority, answer).await
}

/// The true answer, with one property changed.
fn with(name: &'static str, value: Value) -> Lie {
    Arc::new(move |status, mut told| {
        told[name] = value.clone();
        (status, told.to_string().into_bytes())
    })
}

fn without(name: &'static str) -> Lie {
    Arc::new(move |status, mut told| {
        assert!(told.as_object_mut().expect("an object").remove(name).is_some(), "{name}");
        (status, told.to_string().into_bytes())
    })
}

fn truth() -> Lie {
    Arc::new(|status, told| (status, told.to_string().into_bytes()))
}

fn flat(status: u16, body: &'static [u8]) -> Lie {
    Arc::new(move |_, _| (status, body.to_vec()))
}

/// A server that is authenticated may still say anything: no key is made of what is no answer to the question.
#[tokio::test]
async fn clause_5_2_2_3_what_a_server_says_is_checked() {
    let authority = Authority::new();
    let honest = liar(&authority, truth()).await;
    let info = known(&asking(&authority, &[honest.address.port()]), &request()).await;
    let gpi = |change: fn(&mut Vec<u8>)| {
        let mut octets = info.gpi.to_vec();
        change(&mut octets);
        json!(octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>())
    };
    let long = "ab".repeat(20_000);
    for (what, lie) in [
        ("no key", without("meKeyMaterial")),
        ("a short key", with("meKeyMaterial", json!("ab".repeat(31)))),
        ("a long key", with("meKeyMaterial", json!("ab".repeat(33)))),
        ("no digits", with("meKeyMaterial", json!("zz".repeat(32)))),
        ("a number", with("meKeyMaterial", json!(7))),
        ("half a key of the card", with("uiccKeyMaterial", json!("ab"))),
        ("no GPI", without("gbaPushInfo")),
        ("an empty GPI", with("gbaPushInfo", json!(""))),
        ("half an octet", with("gbaPushInfo", json!("abc"))),
        ("a GPI of another version", with("gbaPushInfo", gpi(|octets| octets[0] = 0x20))),
        ("a GPI for the ISIM", with("gbaPushInfo", gpi(|octets| octets[1] = 1))),
        ("a GPI that is cut off", with("gbaPushInfo", gpi(|octets| octets.truncate(80)))),
        ("a GPI that goes on", with("gbaPushInfo", gpi(|octets| octets.push(0)))),
        ("a GPI over its bound", with("gbaPushInfo", json!("ab".repeat(1200)))),
        ("a body over its bound", with("more", json!(long))),
        ("no end", without("keyExpiryTime")),
        ("an end that is no time", with("keyExpiryTime", json!("soon"))),
        ("an end that is past", with("keyExpiryTime", json!("2020-01-01T00:00:00Z"))),
        ("an end beyond what was asked", with("keyExpiryTime", json!("2099-01-01T00:00:00Z"))),
        ("a beginning that is no time", with("bootstrappingInfoCreationTime", json!(1))),
        ("another subscriber", with("impi", json!("user2_private@home1.net"))),
        ("no name", with("impi", json!(null))),
        ("a key of a card of 2G", with("gbaType", json!("2G_GBA"))),
        ("a key of a password", with("gbaType", json!("GBA_DIGEST"))),
        ("settings that are none", with("ussList", json!({}))),
        ("nothing", flat(200, b"")),
        ("a list", flat(200, b"[]")),
        ("no JSON", flat(200, b"<html>")),
        ("another place", flat(307, b"")),
        ("a fault", flat(500, b"{}")),
        ("no content", flat(204, b"")),
        ("a fault of ours that is none", flat(400, b"{}")),
    ] {
        let door = liar(&authority, lie).await;
        let alone = asking(&authority, &[door.address.port()]);
        assert_eq!(word(&ask(&alone, &request(), 2).await), "unavailable", "{what}");
        door.task.abort();
    }

    // A card that was out of step is asked for anew, not with the same challenge.
    let resync = Some((Rand([5; 16]), Auts([0; 14])));
    let again = PushRequest { resync, ..request() };
    let same = with("gbaPushInfo", gpi(|_| {}));
    let repeats: Lie = Arc::new(move |_, _| {
        let true_one =
            json!({ "meKeyMaterial": "ab".repeat(32), "keyExpiryTime": "2099-01-01T00:00:00Z" });
        same(200, true_one)
    });
    let far = clock::now().wall + Duration::from_secs(100 * 365 * 86_400);
    let door = liar(&authority, repeats).await;
    let alone = asking(&authority, &[door.address.port()]);
    let fresh = PushRequest { resync: None, expires: far, ..again.clone() };
    assert_eq!(word(&ask(&alone, &fresh, 2).await), "known");
    let again = PushRequest { expires: far, ..again };
    assert_eq!(word(&ask(&alone, &again, 2).await), "unavailable");
}

/// Who lies, or is out of reach, costs a question to the next one; who says no, or that it is too often, is believed.
#[tokio::test]
async fn clause_5_2_2_3_the_next_server_is_asked() {
    let authority = Authority::new();
    let honest = liar(&authority, truth()).await;
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let nobody = gone.local_addr().expect("an address").port();
    drop(gone);
    for (lie, expected) in [
        (flat(500, b""), "known"),
        (without("meKeyMaterial"), "known"),
        (flat(403, b""), "forbidden"),
        (flat(404, b""), "unknown"),
        (flat(429, b""), "unavailable"),
    ] {
        let first = liar(&authority, lie).await;
        let ports = [nobody, first.address.port(), honest.address.port()];
        let both = asking(&authority, &ports);
        assert_eq!(word(&ask(&both, &request(), 2).await), expected);
        first.task.abort();
    }
    // A stranger's word is not asked for.
    let stranger = Authority::new();
    let rogue = liar(&stranger, truth()).await;
    let alone = asking(&authority, &[rogue.address.port()]);
    assert_eq!(word(&ask(&alone, &request(), 2).await), "unavailable");
}
