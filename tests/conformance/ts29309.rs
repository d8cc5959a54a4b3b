//! TS 29.309: Nbsp_GBA, between a NAF and bootstrapping servers elsewhere, over real sockets with real certificates.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use serde_json::{Value, json};
use sipward::http::{Bounds, nbsp};
use sipward::identity::Btid;
use sipward::instant::Now;
use sipward::keys::bootstrap::{Bsf, BsfConfig, NafGrant, UaGrant};
use sipward::keys::nbsp::answer::{Asked, answer};
use sipward::keys::nbsp::client::{NbspClient, Server, Settings};
use sipward::keys::nbsp::{INFO_PATH, JSON, PROBLEM_JSON};
use sipward::keys::{KeyAnswer, KeyServer, NafId, Rand, UaId};
use sipward::transport::peer::ClientCertificate;
use sipward::transport::tls::{Certificate, ClientTls, ServerSpec, ServerTls};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::authority::Authority;
use crate::ts33220_ub::{IMPI, World, subscriber, world_with};

const NAF: &str = "sip.naf1.home1.net";
pub(crate) const HOST: &str = "edge.home1.net";

/// A server with one session; the NAF of [`HOST`] may have its keys.
fn bootstrapped() -> (World, Btid) {
    let mut world =
        world_with(BsfConfig::new("bsf.home1.net"), subscriber(Default::default()), grants());
    let btid = world.run(None).expect("it bootstraps").btid;
    (world, btid)
}

fn grants() -> Vec<NafGrant> {
    vec![NafGrant {
        host: HOST.into(),
        fqdns: vec![NAF.into()],
        protocols: vec![UaGrant::Exact(UaId::SIP_DIGEST)],
        sees_impi: true,
        sees_identities: true,
    }]
}

fn question(btid: &Btid) -> Value {
    json!({
        "btId": btid.as_str(),
        "nafId": { "nafFqdn": NAF, "uaSecProtId": "0300000003" },
        "gsIds": [0],
    })
}

fn ask(
    bsf: &Bsf,
    now: Now,
    change: impl FnOnce(&mut Value),
    asked: Asked<'_>,
    btid: &Btid,
) -> (u16, Value) {
    let mut question = question(btid);
    change(&mut question);
    let body = question.to_string();
    let body = asked.body.is_some().then_some(body.as_bytes());
    let told = answer(bsf, &[HOST.into()], &Asked { body, ..asked }, Rand([7; 16]), now);
    let kind = if told.status == 200 { JSON } else { PROBLEM_JSON };
    assert_eq!(told.content_type, kind);
    (told.status, serde_json::from_slice(&told.body).expect("JSON"))
}

const POST: Asked<'_> = Asked {
    method: "POST",
    path: INFO_PATH,
    content_type: Some(b"application/json"),
    body: Some(b""),
};

/// The properties of the answer, by name, type and pattern.
#[test]
fn clause_6_1_6_the_answer() {
    let (world, btid) = bootstrapped();
    let (status, answer) = ask(&world.bsf, world.now, |_| {}, POST, &btid);
    assert_eq!(status, 200);
    let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("{name}: {answer}"));
    let secret = text("meKeyMaterial");
    assert!(secret.len() == 64 && secret.bytes().all(|octet| octet.is_ascii_hexdigit()));
    let key = world.naf_key(&btid).expect("the key");
    let hex: String = key.iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!(secret, hex, "the key that the UE has");
    for name in ["keyExpiryTime", "bootstrappingInfoCreationTime"] {
        let time = text(name);
        assert!(time.len() == 20 && time.ends_with('Z') && time.contains('T'), "{name}: {time}");
    }
    assert_eq!((text("gbaType"), text("impi")), ("3G_GBA", IMPI));
    let uss = &answer["ussList"][0]["uss"];
    assert_eq!((&uss["gsId"], &uss["gsType"]), (&json!(0), &json!(0)));
    assert_eq!(uss["ueIds"], json!([{ "ueId": "sip:user1@home1.net" }]));
    let known = [
        "meKeyMaterial",
        "keyExpiryTime",
        "bootstrappingInfoCreationTime",
        "gbaType",
        "impi",
        "ussList",
    ];
    assert!(
        answer.as_object().expect("an object").keys().all(|name| known.contains(&name.as_str()))
    );
}

/// Each status with its cause.
#[test]
fn clause_6_1_7_the_noes() {
    let (world, btid) = bootstrapped();
    let ask = |change: fn(&mut Value), asked| ask(&world.bsf, world.now, change, asked, &btid);
    let same: fn(&mut Value) = |_| {};
    for (asked, change, status, cause) in [
        (
            Asked { path: "/nbsp-gba/v1/other", ..POST },
            same,
            404,
            "RESOURCE_URI_STRUCTURE_NOT_FOUND",
        ),
        (Asked { method: "GET", ..POST }, same, 405, "METHOD_NOT_ALLOWED"),
        (Asked { content_type: None, ..POST }, same, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (Asked { content_type: Some(b"text/xml"), ..POST }, same, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (Asked { body: None, ..POST }, same, 413, "PAYLOAD_TOO_LARGE"),
        (POST, |asked| *asked = json!([]), 400, "INVALID_MSG_FORMAT"),
        (POST, |asked| asked["btId"] = json!(1), 400, "MANDATORY_IE_INCORRECT"),
        (POST, |asked| asked["nafId"] = json!({}), 400, "MANDATORY_IE_MISSING"),
        (
            POST,
            |asked| asked["nafId"]["nafFqdn"] = json!("other.home1.net"),
            403,
            "NAF_NOT_AUTHORIZED",
        ),
        (
            POST,
            |asked| asked["nafId"]["uaSecProtId"] = json!("0100000002"),
            403,
            "NAF_NOT_AUTHORIZED",
        ),
        (POST, |asked| asked["btId"] = json!("x@bsf.home1.net"), 404, "CONTEXT_NOT_FOUND"),
    ] {
        let (got, problem) = ask(change, asked);
        assert_eq!((got, problem["cause"].as_str()), (status, Some(cause)), "{problem}");
        assert_eq!(problem["status"], json!(status));
    }
    let charset = Asked { content_type: Some(b"Application/JSON; charset=utf-8"), ..POST };
    assert_eq!(ask(same, charset).0, 200);
    let mut late = world.now;
    late.wall = late.wall + Duration::from_secs(365 * 86_400);
    let told = answer(
        &world.bsf,
        &[HOST.into()],
        &Asked { body: Some(question(&btid).to_string().as_bytes()), ..POST },
        Rand([7; 16]),
        late,
    );
    assert_eq!(told.status, 404, "its time is over");
    let stranger: [Arc<str>; 1] = ["rogue.home1.net".into()];
    for body in [question(&btid), question(&Btid::new("x@y").expect("a name"))] {
        let body = body.to_string();
        let told = answer(
            &world.bsf,
            &stranger,
            &Asked { body: Some(body.as_bytes()), ..POST },
            Rand([7; 16]),
            late,
        );
        assert_eq!(told.status, 403, "who may have nothing learns of no B-TID whether it is known");
    }
}

pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) task: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// The server at a port of its own.
pub(crate) async fn door(world: &World, authority: &Authority, shown: Certificate) -> Door {
    door_at((Ipv4Addr::LOCALHOST, 0).into(), world, authority, shown).await
}

async fn door_at(
    address: SocketAddr,
    world: &World,
    authority: &Authority,
    shown: Certificate,
) -> Door {
    let spec = ServerSpec {
        certificates: vec![shown],
        asks: ClientCertificate::Required,
        trust: authority.trust(),
    };
    let tls = Arc::new(ServerTls::of_http2(&spec).expect("good"));
    let listener = TcpListener::bind(address).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let bounds = Bounds { head_time: Duration::from_secs(2), ..Bounds::default() };
    let own = nbsp::Door { tls, tokens: Arc::default(), bsf: Arc::clone(&world.bsf) };
    let serve = nbsp::serve(listener, own, bounds, std::future::pending());
    Door { address, task: tokio::spawn(serve) }
}

pub(crate) fn client(
    authority: &Authority,
    shown: Option<&Certificate>,
    ports: &[u16],
) -> NbspClient {
    let servers = ports.iter().map(|port| Server { host: "localhost".into(), port: *port });
    let settings =
        Settings { servers: servers.collect(), timeout: Duration::from_secs(2), gsids: vec![0] };
    let tls = ClientTls::of_http2(authority.trust(), shown).expect("good");
    NbspClient::new(settings, Arc::new(tls))
}

fn naf() -> NafId {
    NafId::new(NAF, UaId::SIP_DIGEST)
}

/// A word for an answer.
async fn said(client: &NbspClient, btid: &Btid, naf: &NafId, now: Now) -> &'static str {
    match client.ask(btid, naf, now).await {
        KeyAnswer::Known(_) => "known",
        KeyAnswer::Unknown => "unknown",
        KeyAnswer::Forbidden => "forbidden",
        KeyAnswer::Ask => "ask",
        KeyAnswer::Unavailable => "unavailable",
    }
}

/// The world's hour is not that of the door, which reads the clock: its sessions must stand now.
fn of_today(world: &mut World) -> Btid {
    world.now.wall = sipward::clock::now().wall;
    world.now.mono = sipward::clock::now().mono;
    world.run(None).expect("it bootstraps").btid
}

/// SEC_CF 1.1 SEC-002: both ends prove who they are, and what a NAF may have depends on it.
#[tokio::test]
async fn clause_6_1_with_certificates_on_both_sides() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut world = bootstrapped().0;
    let (btid, now) = (of_today(&mut world), sipward::clock::now());
    let good = door(&world, &authority, authority.issue(&["localhost"])).await;
    let misnamed = door(&world, &authority, authority.issue(&["bsf.home1.net"])).await;
    let own = authority.issue(&[HOST]);
    let ports = [good.address.port()];
    let known = client(&authority, Some(&own), &ports);
    let KeyAnswer::Known(key) = known.ask(&btid, &naf(), now).await else { panic!("no key") };
    assert_eq!(key.key.expose(), &world.naf_key(&btid).expect("the key"));
    assert_eq!(key.identities[0].as_str(), "sip:user1@home1.net");
    assert_eq!(said(&known, &Btid::new("x@y").expect("a name"), &naf(), now).await, "unknown");
    let other = NafId::new(NAF, UaId::LOCSIP);
    assert_eq!(said(&known, &btid, &other, now).await, "forbidden");
    for (what, client, expected) in [
        (
            "another NAF",
            client(&authority, Some(&authority.issue(&["rogue.home1.net"])), &ports),
            "forbidden",
        ),
        ("no certificate", client(&authority, None, &ports), "unavailable"),
        ("a stranger's", client(&authority, Some(&stranger.issue(&[HOST])), &ports), "unavailable"),
        ("a server nobody vouches for", client(&stranger, Some(&own), &ports), "unavailable"),
        (
            "a server of another name",
            client(&authority, Some(&own), &[misnamed.address.port()]),
            "unavailable",
        ),
    ] {
        assert_eq!(said(&client, &btid, &naf(), now).await, expected, "{what}");
    }
    for door in [good, misnamed] {
        door.task.abort();
    }
}

/// What a server that is out of reach, slow or no server of ours costs: a question to the next one, never a key.
#[tokio::test]
async fn clause_5_2_2_2_the_next_server_is_asked() {
    let authority = Authority::new();
    let mut world = bootstrapped().0;
    let (btid, now) = (of_today(&mut world), sipward::clock::now());
    let good = door(&world, &authority, authority.issue(&["localhost"])).await;
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let gone = nobody.local_addr().expect("an address").port();
    drop(nobody);
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let babbler = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let (quiet, loud) = (silent.local_addr().unwrap().port(), babbler.local_addr().unwrap().port());
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    let babbling = tokio::spawn(async move {
        while let Ok((mut stream, _)) = babbler.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{}").await;
        }
    });
    let own = authority.issue(&[HOST]);
    for first in [gone, quiet, loud] {
        let both = client(&authority, Some(&own), &[first, good.address.port()]);
        assert_eq!(said(&both, &btid, &naf(), now).await, "known", "{first}");
        let alone = client(&authority, Some(&own), &[first]);
        assert_eq!(said(&alone, &btid, &naf(), now).await, "unavailable", "{first}");
    }
    let both = client(&authority, Some(&own), &[loud, good.address.port()]);
    let before = heard.load(Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(said(&both, &btid, &naf(), now).await, "known");
    }
    assert_eq!(heard.load(Ordering::Relaxed), before + 1, "who was out of reach is asked last");
    let later = now + Duration::from_secs(6);
    assert_eq!(said(&both, &btid, &naf(), later).await, "known");
    assert_eq!(heard.load(Ordering::Relaxed), before + 2, "but not for ever");
    good.task.abort();
    babbling.abort();
}

/// A server that comes back is found without a restart, and questions side by side share a connection.
#[tokio::test]
async fn a_server_that_was_away_is_found_again() {
    let authority = Authority::new();
    let mut world = bootstrapped().0;
    let (btid, now) = (of_today(&mut world), sipward::clock::now());
    let first = door(&world, &authority, authority.issue(&["localhost"])).await;
    let address = first.address;
    let client = client(&authority, Some(&authority.issue(&[HOST])), &[address.port()]);
    let naf = naf();
    let asked = (0..32).map(|_| said(&client, &btid, &naf, now));
    for answer in futures_of(asked).await {
        assert_eq!(answer, "known");
    }
    first.task.abort();
    let _ = first.task.await;
    assert_eq!(said(&client, &btid, &naf, now).await, "unavailable");
    let again = door_at(address, &world, &authority, authority.issue(&["localhost"])).await;
    assert_eq!(said(&client, &btid, &naf, now).await, "known", "it is not shunned for good");
    again.task.abort();
}

/// All of them, side by side.
async fn futures_of<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    poll_fn(|context| {
        for (one, done) in &mut waiting {
            if done.is_none()
                && let Poll::Ready(answer) = one.as_mut().poll(context)
            {
                *done = Some(answer);
            }
        }
        let all = waiting.iter().all(|(_, done)| done.is_some());
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}
