//! TS 29.309 clause 6.1.8, TS 29.510 clause 5.4.2.2: a NAF fetches a token by its credentials, shows it to a bootstrapping
//! server that demands one, and holds it until its end; of an authorization server that lies comes no question at all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sipward::instant::{Now, WallTime};
use sipward::keys::nbsp::bearer::{Bearer, Scope, Token, Tokens};
use sipward::keys::nbsp::client::{NbspClient, Server};
use sipward::keys::nbsp::token_client::{Client, Endpoint, PAUSE, Shown};
use tokio::net::TcpListener;

use crate::authority::Authority;
use crate::ts29309::{Door, HOST, bootstrapped, client, demanding, naf, of_today, said};
use crate::ts29309_push::{Answering, answering};

const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.e30.c2ln";

fn tokens() -> Tokens {
    let token = Token {
        hash: Sha256::digest(TOKEN).into(),
        host: HOST.into(),
        scopes: vec![Scope::Service],
        expires: WallTime::from_unix(4_000_000_000),
    };
    Tokens::new(vec![token]).expect("one")
}

fn issued() -> Value {
    json!({ "access_token": TOKEN, "token_type": "Bearer", "expires_in": 100, "scope": "nbsp-gba" })
}

/// An authorization server: what it was asked, and what it answers.
struct Issuer {
    door: Door,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Issuer {
    async fn start(
        authority: &Authority,
        answer: impl Fn(usize) -> (u16, Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let notes = Arc::clone(&asked);
        let answer: Answering = Arc::new(move |head, body| {
            let field = |name: &str| {
                head.headers.get(name).map_or("-", |value| value.to_str().expect("text")).to_owned()
            };
            let body = String::from_utf8_lossy(body);
            let (kind, credentials) = (field("content-type"), field("authorization"));
            let line = format!("{} {} {kind} {credentials} {body}", head.method, head.uri.path());
            let mut notes = notes.lock().unwrap();
            notes.push(line);
            answer(notes.len())
        });
        Self { door: answering(authority, answer).await, asked }
    }

    async fn good(authority: &Authority) -> Self {
        Self::start(authority, |_| (200, issued().to_string().into_bytes())).await
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn shown(port: u16, client: Client) -> Option<Shown> {
    let at = Server { host: "localhost".into(), port };
    Some(Shown::Fetched(Endpoint { at, path: "/oauth2/token".into(), client }))
}

fn named() -> Client {
    Client::Named("edge-7".into(), None)
}

fn asking(authority: &Authority, port: u16, shows: Option<Shown>) -> NbspClient {
    let client = client(authority, Some(&authority.issue(&[HOST])), &[port]);
    client.show(shows);
    client
}

/// RFC 6749 section 4.4.2, as each kind of client says who it is.
#[tokio::test]
async fn a_token_is_asked_for_by_the_credentials_of_the_client() {
    let (authority, mut world) = (Authority::new(), bootstrapped().0);
    let (btid, now) = (of_today(&mut world), sipward::clock::now());
    let door = demanding(&world, &authority, tokens()).await;
    let port = door.address.port();
    let instance = "4947a69a-f61b-4bc1-b9da-47c9c5d14b64";
    let secret = Bearer::read(b"a+b/c=").expect("a secret");
    let basic = format!("Basic {}", STANDARD.encode("edge-7:a%2Bb%2Fc%3D"));
    let form = "grant_type=client_credentials&scope=nbsp-gba";
    for (client, expected) in [
        (named(), format!("- {form}&client_id=edge-7")),
        (Client::Named("edge-7".into(), Some(secret)), format!("{basic} {form}")),
        (
            Client::Instance(instance.into()),
            format!("- {form}&nfInstanceId={instance}&nfType=AF&targetNfType=GBA_BSF"),
        ),
    ] {
        let issuer = Issuer::good(&authority).await;
        let shows = shown(issuer.door.address.port(), client);
        assert!(!format!("{shows:?}").contains("a+b"), "{shows:?}");
        let naf_client = asking(&authority, port, shows);
        for _ in 0..3 {
            assert_eq!(said(&naf_client, &btid, &naf(), now).await, "known");
        }
        let kind = "application/x-www-form-urlencoded";
        let once = [format!("POST /oauth2/token {kind} {expected}")];
        assert_eq!(issuer.asked(), once, "it is held");
    }
    let given = Shown::Given(Bearer::read(TOKEN.as_bytes()).expect("a token"));
    for (shows, expected) in [(None, "unavailable"), (Some(given), "known")] {
        let naf_client = asking(&authority, port, shows);
        assert_eq!(said(&naf_client, &btid, &naf(), now).await, expected);
    }
}

/// It is held until a little before its end, and no longer than a server of keys takes it.
#[tokio::test]
async fn a_token_is_fetched_anew_when_it_is_over_or_refused() {
    let (authority, mut world) = (Authority::new(), bootstrapped().0);
    let (btid, now) = (of_today(&mut world), sipward::clock::now());
    let door = demanding(&world, &authority, tokens()).await;
    let issuer = Issuer::good(&authority).await;
    let shows = shown(issuer.door.address.port(), named());
    let naf_client = asking(&authority, door.address.port(), shows);
    for (second, fetched) in [(0, 1), (89, 1), (90, 2), (179, 2), (181, 3)] {
        let now = now + Duration::from_secs(second);
        assert_eq!(said(&naf_client, &btid, &naf(), now).await, "known", "{second}");
        assert_eq!(issuer.asked().len(), fetched, "{second}");
    }

    // The first that it issues is taken by nobody.
    let issuer = Issuer::start(&authority, |count| {
        let mut told = issued();
        if count == 1 {
            told["access_token"] = json!("taken-back");
        }
        (200, told.to_string().into_bytes())
    });
    let issuer = issuer.await;
    let shows = shown(issuer.door.address.port(), named());
    let naf_client = asking(&authority, door.address.port(), shows);
    assert_eq!(said(&naf_client, &btid, &naf(), now).await, "unavailable");
    assert_eq!(said(&naf_client, &btid, &naf(), now).await, "known");
    assert_eq!(issuer.asked().len(), 2);
}

/// Without a token nobody is asked for a key, and not again and again for a token.
#[tokio::test]
async fn an_authorization_server_that_lies_or_is_away_gives_no_token() {
    let authority = Authority::new();
    let btid = bootstrapped().1;
    let keys = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&keys);
    let counting: Answering = Arc::new(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        (500, Vec::new())
    });
    let port = answering(&authority, counting).await.address.port();
    let now = sipward::clock::now();
    let with = |name: &str, value: Value| {
        let mut told = issued();
        told[name] = value;
        (200, told.to_string())
    };
    let without = |name: &str| {
        let mut told = issued();
        told.as_object_mut().unwrap().remove(name);
        (200, told.to_string())
    };
    for (status, body) in [
        (400, json!({ "error": "invalid_client" }).to_string()),
        (401, String::new()),
        (201, issued().to_string()),
        (200, String::new()),
        (200, "[]".into()),
        without("access_token"),
        without("token_type"),
        without("expires_in"),
        with("access_token", json!("two words")),
        with("access_token", json!("")),
        with("access_token", json!(7)),
        with("access_token", json!("a".repeat(4097))),
        with("token_type", json!("mac")),
        with("expires_in", json!(0)),
        with("expires_in", json!(-1)),
        with("expires_in", json!("3600")),
        with("scope", json!("nnrf-disc")),
        with("scope", json!("nbsp-gba:push-info-retrieval:invoke")),
        with("more", json!("a".repeat(40_000))),
    ] {
        let told = body.clone();
        let issuer = Issuer::start(&authority, move |_| (status, told.clone().into_bytes())).await;
        let shows = shown(issuer.door.address.port(), named());
        let naf_client = asking(&authority, port, shows);
        let ask = async |now: Now| said(&naf_client, &btid, &naf(), now).await;
        assert_eq!((ask(now).await, ask(now).await), ("unavailable", "unavailable"), "{body}");
        assert_eq!(issuer.asked().len(), 1, "{body}");
        assert_eq!(ask(now + PAUSE).await, "unavailable");
        assert_eq!(issuer.asked().len(), 2, "{body}");
    }

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = gone.local_addr().unwrap().port();
    drop(gone);
    let stranger = Issuer::good(&Authority::new()).await;
    for issuer in [nobody, stranger.door.address.port()] {
        let naf_client = asking(&authority, port, shown(issuer, named()));
        assert_eq!(said(&naf_client, &btid, &naf(), now).await, "unavailable");
    }
    assert!(stranger.asked().is_empty());
    assert_eq!(keys.load(Ordering::Relaxed), 0, "nobody is asked without a token");

    // With one, the server that counts is asked.
    let issuer = Issuer::good(&authority).await;
    let naf_client = asking(&authority, port, shown(issuer.door.address.port(), named()));
    assert_eq!(said(&naf_client, &btid, &naf(), now).await, "unavailable");
    assert_eq!(keys.load(Ordering::Relaxed), 1);
}
