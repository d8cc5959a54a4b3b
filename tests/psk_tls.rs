//! Handshakes with shared keys in one process, over pipes that a test can make narrow or slow.

#![cfg(feature = "openssl")]

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVersion};
use sipward::clock;
use sipward::gate::Lookup;
use sipward::identity::{Btid, Impi, Impu};
use sipward::instant::WallTime;
use sipward::keys::naf::{CacheBounds, NafCache};
use sipward::keys::psk::{
    Provisioned, ProvisionedKeys, PskClient, PskKey, PskKeys, PskName, PskProof, PskSettings,
    PskUse, Scheme,
};
use sipward::keys::{KeyAnswer, KeySource, KsNaf, NafId, NafKey};
use sipward::transport::KeyDesk;
use sipward::transport::client_hello::{Assembler, ClientHello};
use sipward::transport::key_desk::{Asker, Question};
use sipward::transport::psk_tls::{PskRefusal, PskServer, SUITES, connect};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_openssl::SslStream;

const EDGE: &str = "edge.example.net";
const CAROL: &str = "psk;carol@bsf.example.net";

/// What a server has: its keys, who is asked for others, and word of those taken back.
struct Lab {
    server: PskServer,
    cache: Arc<NafCache>,
    keys: Arc<PskKeys>,
    desk: KeyDesk,
    questions: mpsc::Receiver<Option<Question>>,
    taken_back: watch::Sender<()>,
}

impl Lab {
    fn new() -> Self {
        let cache = Arc::new(NafCache::new(CacheBounds::default(), ["bsf.example.net"]));
        let settings = PskSettings {
            server_name: EDGE.into(),
            scheme: Scheme::ThreeGpp,
            keys: Some(Arc::<NafCache>::clone(&cache) as Arc<dyn KeySource>),
            decoy: [9; 32],
        };
        let keys = Arc::new(PskKeys::new(settings, carried([3; 32])));
        let (ask, questions) = mpsc::channel(4);
        let (taken_back, word) = watch::channel(());
        let desk = KeyDesk::new(Arc::clone(&keys), ask, word);
        let server = PskServer::new(true).expect("the library has all suites");
        Self { server, cache, keys, desk, questions, taken_back }
    }

    /// Answers the next question; the one who asked goes on then.
    async fn answer(&mut self, answer: KeyAnswer) -> Lookup {
        let Some(Some(Question { lookup, asker })) = self.questions.recv().await else {
            panic!("nobody asks");
        };
        let Lookup::NafKey { btid, naf } = &lookup else { panic!("{lookup:?}") };
        self.cache.insert(btid, naf, answer, clock::now());
        let Asker::Handshake(done) = asker else { panic!("a worker asks") };
        done.send(()).expect("it waits");
        lookup
    }
}

fn carried(key: [u8; 32]) -> ProvisionedKeys {
    let one = Provisioned {
        key: PskKey::new(&key).expect("it fits"),
        identities: [Impu::new("sip:carol@example.net").expect("a URI")].into(),
        expires: None,
    };
    [(CAROL.into(), Arc::new(one))].into()
}

fn client(identity: &str, key: [u8; 32], of: PskUse) -> PskClient {
    PskClient { identity: identity.to_owned(), key: PskKey::new(&key).expect("it fits"), of }
}

fn btid() -> Btid {
    Btid::new("AAAAAAAAAAAAAAAAAAAAAA==@bsf.example.net").expect("a name")
}

/// A key that lives for a minute.
fn bootstrapped(key: [u8; 32]) -> KeyAnswer {
    let now = clock::now().wall;
    KeyAnswer::Known(Arc::new(NafKey {
        key: KsNaf::new(key),
        impi: Impi::new("ue1@example.net"),
        identities: [Impu::new("sip:ue1@example.net").expect("a URI")].into(),
        expires: WallTime::from_unix(now.as_unix() + 60),
        uss: Arc::from([]),
        created: now,
        kind: Default::default(),
        ready: Default::default(),
    }))
}

fn uses() -> impl Iterator<Item = PskUse> {
    SUITES.iter().map(|suite| PskUse::Suite(suite.number)).chain([PskUse::Tls13])
}

/// Reads the hello as the listener does, and goes on from there; one answer then shows that octets go both ways.
async fn serve(lab: &Lab, mut io: DuplexStream) -> Result<PskProof, PskRefusal> {
    let (mut assembler, mut ahead) = (Assembler::hello(), BytesMut::new());
    let hello = loop {
        let before = ahead.len();
        assert_ne!(io.read_buf(&mut ahead).await.expect("a pipe"), 0);
        if let Some(body) = assembler.push(&ahead[before..]).expect("a hello") {
            break ClientHello::read(body).expect("well formed");
        }
    };
    let (mut stream, proof) = lab.server.accept(&hello, ahead.freeze(), io, &lab.desk).await?;
    let mut word = [0; 5];
    stream.read_exact(&mut word).await.expect("a word");
    stream.write_all(&word).await.expect("sent");
    stream.shutdown().await.expect("closed");
    Ok(proof)
}

async fn speak(client: PskClient, io: DuplexStream) -> Result<(), String> {
    let mut stream = connect(&client, EDGE, io).await.map_err(|why| why.to_string())?;
    stream.write_all(b"hello").await.map_err(|why| why.to_string())?;
    let mut word = Vec::new();
    stream.read_to_end(&mut word).await.map_err(|why| why.to_string())?;
    assert_eq!(word, b"hello");
    Ok(())
}

/// Runs what must not take for ever.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .expect("a runtime")
        .block_on(async { timeout(Duration::from_secs(30), future).await.expect("it ends") })
}

#[test]
fn octets_may_come_one_by_one() {
    run(async {
        let lab = Lab::new();
        for of in uses() {
            let (near, far) = duplex(1);
            let (served, spoken) =
                tokio::join!(serve(&lab, far), speak(client(CAROL, [3; 32], of), near));
            assert_eq!(spoken, Ok(()), "{of:?}");
            let proof = served.unwrap_or_else(|why| panic!("{of:?}: {why}"));
            assert_eq!(&*proof.caller.key_name, CAROL);
            assert_eq!(proof.caller.identities[0].as_str(), "sip:carol@example.net");
        }
    });
}

/// A pipe that counts how often something was read out of it.
struct Counted {
    pipe: DuplexStream,
    reads: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.pipe).poll_read(context, buffer);
        self.reads.fetch_add(usize::from(read.is_ready()), Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(context)
    }
}

/// Right behind the handshake, some with its last flight; the system is asked once for all that lies there.
#[test]
fn records_that_lie_there_are_read_at_once() {
    run(async {
        let lab = Lab::new();
        let words: Vec<[u8; 1000]> = (1..=3).map(|octet| [octet; 1000]).collect();
        for of in uses() {
            let (near, mut pipe) = duplex(64 * 1024);
            let told = async {
                let mut stream =
                    connect(&client(CAROL, [3; 32], of), EDGE, near).await.expect("greeted");
                for word in &words {
                    stream.write_all(word).await.expect("sent");
                }
                stream
            };
            let heard = async {
                let mut ahead = BytesMut::with_capacity(4096);
                assert_ne!(pipe.read_buf(&mut ahead).await.expect("a pipe"), 0);
                let mut hello = Assembler::hello();
                let body = hello.push(&ahead).expect("a hello").expect("a whole one");
                let hello = ClientHello::read(body).expect("well formed");
                let reads = Arc::new(AtomicUsize::new(0));
                let counted = Counted { pipe, reads: Arc::clone(&reads) };
                let accepted = lab.server.accept(&hello, ahead.freeze(), counted, &lab.desk);
                (accepted.await.expect("greeted").0, reads)
            };
            let (_client, (mut stream, reads)) = tokio::join!(told, heard);
            let before = reads.load(Ordering::Relaxed);
            let mut heard = vec![0; 3000];
            stream.read_exact(&mut heard).await.expect("all of it");
            assert_eq!(heard, words.concat(), "{of:?}");
            let more = reads.load(Ordering::Relaxed) - before;
            assert!(more <= 1, "{of:?}: {more} reads");
        }
    });
}

#[test]
fn a_handshake_waits_for_its_key_and_others_do_not_wait_for_it() {
    run(async {
        for of in uses() {
            let mut lab = Lab::new();
            let identity = PskName::identity_of(&btid());
            let (near, far) = duplex(4096);
            let spoken = tokio::spawn(speak(client(&identity, [5; 32], of), near));
            // The question is held until another handshake has ended.
            let (ask, mut held) = mpsc::channel(4);
            let (_keep, word) = watch::channel(());
            let waiting =
                Lab { desk: KeyDesk::new(Arc::clone(&lab.keys), ask, word), ..Lab::new() };
            let mut served = Box::pin(serve(&waiting, far));
            let question = tokio::select! {
                question = held.recv() => question,
                _ = &mut served => panic!("{of:?}: it ended without its key"),
            };
            let (other, end) = duplex(4096);
            let (first, second) =
                tokio::join!(serve(&lab, end), speak(client(CAROL, [3; 32], of), other));
            assert!(first.is_ok() && second.is_ok(), "{of:?}: {second:?}");
            assert!(!spoken.is_finished(), "{of:?}");

            let Some(Some(Question { lookup: Lookup::NafKey { btid, naf }, asker })) = question
            else {
                panic!("{of:?}: nobody asks");
            };
            assert_eq!((naf.fqdn(), naf.ua()), (EDGE, of.ua(Scheme::ThreeGpp)));
            lab.cache.insert(&btid, &naf, bootstrapped([5; 32]), clock::now());
            let Asker::Handshake(done) = asker else { panic!("a worker asks") };
            done.send(()).expect("it waits");
            let proof = served.await.unwrap_or_else(|why| panic!("{of:?}: {why}"));
            assert_eq!(spoken.await.expect("no panic"), Ok(()), "{of:?}");
            assert_eq!(&*proof.caller.principal.name, "ue1@example.net");
            lab.questions.close();
        }
    });
}

/// V-47: a server of keys that says no, has no answer, or has one for another key.
#[test]
fn a_handshake_without_its_key_ends_like_one_with_a_wrong_key() {
    run(async {
        let identity = PskName::identity_of(&btid());
        for of in uses() {
            let mut seen = Vec::new();
            for answer in [
                bootstrapped([6; 32]),
                KeyAnswer::Unknown,
                KeyAnswer::Forbidden,
                KeyAnswer::Unavailable,
            ] {
                let mut lab = Lab::new();
                let (near, far) = duplex(4096);
                let spoken = tokio::spawn(speak(client(&identity, [5; 32], of), near));
                let questions = std::mem::replace(&mut lab.questions, mpsc::channel(1).1);
                let mut asked = Lab { questions, cache: Arc::clone(&lab.cache), ..Lab::new() };
                let (served, _) = tokio::join!(serve(&lab, far), asked.answer(answer));
                let refused = served.expect_err("refused");
                assert!(matches!(refused, PskRefusal::Failed(_)), "{of:?}: {refused}");
                seen.push((refused.to_string(), spoken.await.expect("no panic")));
            }
            assert!(seen[0].1.is_err() && seen.iter().all(|other| *other == seen[0]), "{seen:#?}");
        }
    });
}

/// RFC 4279 section 2: where strangers are told, it is by the alert for it, and only so many.
#[test]
fn strangers_are_told_where_it_is_wished_and_not_too_often() {
    run(async {
        let mut lab = Lab::new();
        lab.server = lab.server.telling_unknown();
        let knock = async |identity: &str, of| {
            let (near, far) = duplex(4096);
            let (_, spoken) =
                tokio::join!(serve(&lab, far), speak(client(identity, [5; 32], of), near));
            spoken.expect_err("refused")
        };
        for suite in &SUITES {
            let of = PskUse::Suite(suite.number);
            let wrong = knock(CAROL, of).await;
            let told = knock("psk;nobody@bsf.example.net", of).await;
            assert!(told.contains("unknown psk identity") && told != wrong, "{told}, {wrong}");
        }
        let of = PskUse::Suite(0x00a8);
        let (mut told, began) = (0, clock::mono());
        for _ in 0..200 {
            let said = knock("psk;nobody@bsf.example.net", of).await;
            told += u64::from(said.contains("unknown psk identity"));
        }
        let most = 11 + 10 * (clock::mono().since(began).as_secs() + 1);
        assert!(told <= most, "{told} of 200, {most} may be");
    });
}

/// V-75: with a shared key too, whoever offers other protocols alone is told so.
#[test]
fn alpn_of_another_protocol_is_refused() {
    run(async {
        let lab = Lab::new();
        for (offered, is_sip) in
            [(&b"\x02h2"[..], false), (b"\x05sip/3\x08http/1.1", false), (b"\x02h2\x05sip/2", true)]
        {
            for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
                let mut context = SslContext::builder(SslMethod::tls_client()).expect("a context");
                context.set_min_proto_version(Some(version)).expect("a version");
                context.set_max_proto_version(Some(version)).expect("a version");
                context.set_cipher_list("PSK-AES128-GCM-SHA256").expect("a suite");
                context.set_alpn_protos(offered).expect("names");
                context.set_psk_client_callback(|_, _, name, key| {
                    name[..CAROL.len()].copy_from_slice(CAROL.as_bytes());
                    name[CAROL.len()] = 0;
                    key[..32].copy_from_slice(&[3; 32]);
                    Ok(32)
                });
                let (near, far) = duplex(4096);
                let ssl = Ssl::new(&context.build()).expect("a client");
                let mut stream = Box::pin(SslStream::new(ssl, near).expect("a stream"));
                let spoken = async {
                    let greeted = stream.as_mut().connect().await;
                    // So that the one who serves has something to read.
                    let _ = stream.write_all(b"hello").await;
                    greeted.map_err(|why| why.to_string())
                };
                let (served, spoken) = tokio::join!(serve(&lab, far), spoken);
                assert_eq!(served.is_ok(), is_sip, "{offered:?}, {version:?}");
                match spoken {
                    Ok(()) => {
                        assert_eq!(stream.ssl().selected_alpn_protocol(), Some(&b"sip/2"[..]))
                    }
                    Err(why) => {
                        assert!(!is_sip && why.contains("no application protocol"), "{why}")
                    }
                }
            }
        }
    });
}

/// What a client says first: the octets, and the hello in them.
async fn first_flight() -> (Vec<u8>, Vec<u8>) {
    let (near, mut far) = duplex(64 * 1024);
    let spoken = tokio::spawn(speak(client(CAROL, [3; 32], PskUse::Suite(0x00a8)), near));
    let mut octets = vec![0; 4096];
    let length = far.read(&mut octets).await.expect("a hello");
    octets.truncate(length);
    let body = Assembler::hello().push(&octets).expect("a hello").expect("whole").to_vec();
    drop(far);
    assert!(spoken.await.expect("no panic").is_err());
    (octets, body)
}

/// A client that sends on before it is answered would have its key exchange read before there is a suite.
#[test]
fn who_does_not_wait_for_an_answer_is_refused() {
    run(async {
        let lab = Lab::new();
        let (octets, body) = first_flight().await;
        let hello = ClientHello::read(&body).expect("well formed");
        for more in [&b"\x16"[..], b"\x16\x03\x03\0\x04\x10\0\0\0"] {
            let ahead = Bytes::from([&octets, more].concat());
            let (_near, end) = duplex(64 * 1024);
            let refused = lab.server.accept(&hello, ahead, end, &lab.desk).await.err();
            assert!(matches!(refused, Some(PskRefusal::TooEager)), "{refused:?}");
        }
    });
}

/// A key exchange that does not end, or is none, is not held back for ever, and not kept.
#[test]
fn what_is_held_back_has_a_bound() {
    run(async {
        let lab = Lab::new();
        let (octets, body) = first_flight().await;
        let hello = ClientHello::read(&body).expect("well formed");
        for (name, record) in [
            ("another message", &b"\x16\x03\x03\0\x05\x0b\0\0\x01\0"[..]),
            ("too long", b"\x16\x03\x03\0\x05\x10\xff\xff\xff\0"),
            ("an alert", b"\x15\x03\x03\0\x02\x02\x28"),
            ("no identity in it", b"\x16\x03\x03\0\x06\x10\0\0\x02\xff\xff"),
            ("SIP", b"REGISTER sip:example.net SIP/2.0\r\n\r\n"),
        ] {
            let (mut near, end) = duplex(256 * 1024);
            near.write_all(record).await.expect("room");
            let ahead = Bytes::from(octets.clone());
            let refused = lab.server.accept(&hello, ahead, end, &lab.desk).await.err();
            assert!(matches!(refused, Some(PskRefusal::Failed(_))), "{name}: {refused:?}");
        }
    });
}

#[test]
fn word_of_a_key_that_was_taken_back_arrives() {
    run(async {
        let lab = Lab::new();
        let of = PskUse::Tls13;
        let (near, far) = duplex(4096);
        let (served, spoken) =
            tokio::join!(serve(&lab, far), speak(client(CAROL, [3; 32], of), near));
        assert_eq!(spoken, Ok(()));
        let proof = served.unwrap_or_else(|why| panic!("{why}"));
        let mut over = Box::pin(lab.desk.until_over(&proof));
        // The same keys read again are no other keys.
        lab.keys.replace(carried([3; 32]));
        lab.taken_back.send_replace(());
        for _ in 0..10 {
            tokio::select! {
                biased;
                () = &mut over => panic!("the key was not taken back"),
                () = tokio::task::yield_now() => {}
            }
        }
        lab.keys.replace(carried([4; 32]));
        lab.taken_back.send_replace(());
        over.await;

        let identity = PskName::identity_of(&btid());
        let naf = NafId::new(EDGE, of.ua(Scheme::ThreeGpp));
        lab.cache.insert(&btid(), &naf, bootstrapped([5; 32]), clock::now());
        let (near, far) = duplex(4096);
        let (served, spoken) =
            tokio::join!(serve(&lab, far), speak(client(&identity, [5; 32], of), near));
        assert_eq!(spoken, Ok(()));
        let proof = served.unwrap_or_else(|why| panic!("{why}"));
        let over = lab.desk.until_over(&proof);
        assert_eq!(lab.cache.revoke(&btid(), clock::now()), 1);
        lab.taken_back.send_replace(());
        over.await;
    });
}
