//! HTTP, Ub: the bootstrapping server's door.
//!
//! Takes:   GETs over plain HTTP/1.1, as TS 24.109 has it: Digest-AKA proves both ends, and nothing secret travels; and over
//!          TLS, where alone passwords prove anybody, bound to the connection.
//! Gives:   what [`Bsf::step`] says, once the home was asked if it says so; `UbOutcome` to whoever counts.
//! Keeps:   connections, within the bounds of [`super::Bounds`].
//! Refuses: a body, by the machine's word; it is not read. A handshake that takes longer than a head may.
//! Sources: TS 24.109 clause 4 and annex I.2; RFC 9112; RFC 5705.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Answer, Bounds};
use crate::clock;
use crate::keys::TlsExport;
use crate::keys::bootstrap::{
    Bsf, Fresh, HomeAnswer, HomeQuestion, UbAnswer, UbOutcome, UbRequest, UbStep,
};
use crate::transport::export;
use crate::transport::tls::{self, ServerTls};

/// How the home of subscribers is asked (Zh).
pub type AskHome =
    dyn Fn(HomeQuestion) -> Pin<Box<dyn Future<Output = HomeAnswer> + Send>> + Send + Sync;

/// What is behind either door.
#[derive(Clone)]
pub struct Desk {
    /// The server.
    pub bsf: Arc<Bsf>,
    /// Who has the subscribers, if they are another's.
    pub home: Option<Arc<AskHome>>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("bsf", &self.bsf).finish_non_exhaustive()
    }
}

/// Serves Ub on `listener`, in the clear, until `shutdown` ends. `count` is told how each request ended.
///
/// # Errors
///
/// As [`super::serve`].
pub async fn serve(
    listener: TcpListener,
    desk: Desk,
    bounds: Bounds,
    count: impl Fn(UbOutcome) + Clone + Send + Sync + 'static,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let handler = move |request: Request<Incoming>, source: SocketAddr| {
        desk.answer(request, source, None, count.clone())
    };
    super::serve(listener, bounds, handler, shutdown).await
}

/// The same over TLS; `tls` was made by [`ServerTls::of_bootstrapping`].
///
/// # Errors
///
/// As [`super::serve`].
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    desk: Desk,
    bounds: Bounds,
    count: impl Fn(UbOutcome) + Clone + Send + Sync + 'static,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let talk = move |stream, source, stopped| {
        converse(stream, source, (Arc::clone(&tls), desk.clone(), count.clone()), bounds, stopped)
    };
    super::accept(listener, bounds, talk, shutdown).await
}

/// One connection under TLS, until it ends, its time is over, or the listener ends.
async fn converse<C>(
    stream: TcpStream,
    source: SocketAddr,
    (tls, desk, count): (Arc<ServerTls>, Desk, C),
    bounds: Bounds,
    stopped: watch::Receiver<()>,
) where
    C: Fn(UbOutcome) + Clone + Send + Sync + 'static,
{
    let handshake = tokio::time::timeout(bounds.head_time, tls::accept(&tls, stream));
    let Ok(Ok((stream, _))) = handshake.await else { return };
    let of = desk.bsf.config().digest.as_ref();
    let exported = of.and_then(|of| export::of(stream.get_ref().1, &of.exporter));
    let handler = |request: Request<Incoming>, source: SocketAddr| {
        desk.answer(request, source, exported.as_ref(), count.clone())
    };
    super::converse(stream, source, bounds, handler, stopped).await;
}

impl Desk {
    /// Answers one request; the machine's part of it before this returns.
    fn answer<C: Fn(UbOutcome) + Send + 'static>(
        &self,
        request: Request<Incoming>,
        source: SocketAddr,
        exported: Option<&TlsExport>,
        count: C,
    ) -> impl Future<Output = Answer> + Send + use<C> {
        let fresh = Fresh { rand: clock::random(), opaque: clock::random() };
        let step = step(&self.bsf, &request, source, exported, &fresh);
        let Self { bsf, home } = self.clone();
        async move {
            let answer = match step {
                UbStep::Answer(answer) => answer,
                UbStep::Ask(question) => {
                    let told = match home {
                        Some(home) => home(question.clone()).await,
                        None => HomeAnswer::Unavailable,
                    };
                    bsf.homed(question, told, &fresh, clock::now())
                }
            };
            count(answer.outcome);
            response(answer)
        }
    }
}

fn step(
    bsf: &Bsf,
    request: &Request<Incoming>,
    source: SocketAddr,
    exported: Option<&TlsExport>,
    fresh: &Fresh,
) -> UbStep {
    let headers = request.headers();
    let authorization: Vec<&[u8]> =
        headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect();
    let target = request.uri().to_string();
    let request = UbRequest {
        method: request.method().as_str(),
        target: &target,
        authorization: &authorization,
        user_agent: headers.get(USER_AGENT).map(HeaderValue::as_bytes),
        has_body: !request.body().is_end_stream(),
        source: source.ip(),
        exported,
    };
    bsf.step(&request, fresh, clock::now())
}

fn response(answer: UbAnswer) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;
    use crate::client::bootstrap::{UbFailure, UbPlan};
    use crate::client::bootstrap_http::{UbFault, bootstrap};
    use crate::identity::{Impi, Impu};
    use crate::keys::NafId;
    use crate::keys::UaId;
    use crate::keys::bootstrap::{BsfConfig, NafGrant, UaGrant};
    use crate::keys::milenage::Milenage;
    use crate::keys::sqn::{Sqn, SqnGenerator, SqnWindow};
    use crate::keys::subscribers::{Card, Subscriber};
    use crate::keys::usim::Usim;
    use crate::keys::vector::Algorithms;

    fn algorithms() -> Algorithms {
        Algorithms::Milenage(Milenage::with_opc(&[5; 16], &[6; 16]))
    }

    fn bsf() -> Arc<Bsf> {
        let subscriber = Subscriber {
            impi: Impi::new("ue1@example.net").unwrap(),
            algorithms: Some(algorithms()),
            digest: None,
            amf: [0x80, 0],
            sqn: SqnGenerator::new(Sqn::default()),
            impus: Arc::from([Impu::new("sip:ue1@example.net").unwrap()]),
            key_lifetime: None,
            barred: false,
            card: Card::Gba,
            uss: Arc::from([]),
        };
        let grant = NafGrant {
            host: "edge".into(),
            fqdns: vec!["naf.example.net".into()],
            protocols: vec![UaGrant::Exact(UaId::SIP_DIGEST)],
            sees_impi: true,
            sees_identities: true,
        };
        let config = BsfConfig::new("bsf.example.net");
        Arc::new(Bsf::new(config, vec![subscriber], vec![grant], [1; 32]).unwrap())
    }

    struct Door {
        address: SocketAddr,
        bsf: Arc<Bsf>,
        seen: Arc<Mutex<Vec<UbOutcome>>>,
        stop: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<io::Result<()>>,
    }

    async fn door(bounds: Bounds) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (bsf, seen) = (bsf(), Arc::new(Mutex::new(Vec::new())));
        let (stop, stopped) = oneshot::channel::<()>();
        let (server, counted) = (bsf.clone(), seen.clone());
        let task = tokio::spawn(serve(
            listener,
            Desk { bsf: server, home: None },
            bounds,
            move |outcome| counted.lock().unwrap().push(outcome),
            async {
                let _ = stopped.await;
            },
        ));
        Door { address, bsf, seen, stop, task }
    }

    async fn raw(address: SocketAddr, octets: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(octets).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn bootstraps_over_sockets() {
        let door = door(Bounds::default()).await;
        let plan = UbPlan::new(Impi::new("ue1@example.net").unwrap(), "bsf.example.net");
        let mut card = Usim::new(algorithms(), SqnWindow::default());
        let done = bootstrap(&plan, door.address, &mut card, None).await.unwrap();
        let naf = NafId::new("naf.example.net", UaId::SIP_DIGEST);
        let key = door.bsf.naf_key("edge", &done.btid, &naf, clock::now()).unwrap();
        assert_eq!(key.key.expose(), done.naf_key(&naf).unwrap().expose());
        assert_eq!(key.expires, done.expires);

        let again = bootstrap(&plan, door.address, &mut card, done.tmpi.clone()).await.unwrap();
        assert_ne!(again.btid, done.btid);

        let mut stranger = Usim::new(
            Algorithms::Milenage(Milenage::with_opc(&[1; 16], &[1; 16])),
            SqnWindow::default(),
        );
        let failure = bootstrap(&plan, door.address, &mut stranger, None).await.unwrap_err();
        assert!(matches!(failure, UbFault::Run(UbFailure::NetworkNotOurs)), "{failure}");
        door.stop.send(()).unwrap();
        door.task.await.unwrap().unwrap();
        use UbOutcome::{Bootstrapped, Challenged};
        assert_eq!(
            *door.seen.lock().unwrap(),
            [Challenged, Bootstrapped, Challenged, Bootstrapped, Challenged]
        );
        let refused = bootstrap(&plan, door.address, &mut card, None).await.unwrap_err();
        assert!(matches!(refused, UbFault::Unreachable(_)), "{refused}");
    }

    #[tokio::test]
    async fn odd_requests_get_their_answers() {
        let door = door(Bounds::default()).await;
        let first = "Authorization: Digest username=\"ue1@example.net\",realm=\"\",nonce=\"\",\
                     uri=\"/\",response=\"\"\r\n";
        for (request, expected) in [
            (format!("GET / HTTP/1.1\r\nHost: b:80\r\nConnection: close\r\n{first}\r\n"), "401"),
            (
                format!("GET http://b/ HTTP/1.1\r\nHost: b\r\nConnection: close\r\n{first}\r\n"),
                "401",
            ),
            (format!("GET / HTTP/1.0\r\n{first}\r\n"), "401"),
            ("GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n".to_owned(), "400"),
            (
                format!(
                    "GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Length: 1\r\n{first}\r\nx"
                ),
                "400",
            ),
            (format!("GET /x HTTP/1.1\r\nHost: b\r\nConnection: close\r\n{first}\r\n"), "404"),
            (format!("POST / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n{first}\r\n"), "405"),
            ("GET / HTTP/1.1\r\nbroken\r\n\r\n".to_owned(), "400"),
            (format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(20_000)), "431"),
        ] {
            let answer = raw(door.address, request.as_bytes()).await;
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert_eq!(status, expected, "{request:?}: {answer}");
        }
        door.stop.send(()).unwrap();
        door.task.await.unwrap().unwrap();
    }

    /// A head that never ends is closed, in paused time.
    #[tokio::test(start_paused = true)]
    async fn slow_heads_are_closed() {
        let door = door(Bounds::default()).await;
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: b\r\n").await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(door.seen.lock().unwrap().is_empty());
        door.stop.send(()).unwrap();
        door.task.await.unwrap().unwrap();
    }

    /// The connection past an address's bound is closed, and the others go on.
    #[tokio::test]
    async fn one_address_has_its_places() {
        let door = door(Bounds { per_source: 1, ..Bounds::default() }).await;
        let request = b"GET / HTTP/1.1\r\nHost: b\r\n\r\n";
        let mut first = TcpStream::connect(door.address).await.unwrap();
        let mut head = [0; 12];
        first.write_all(request).await.unwrap();
        first.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 400");
        let mut second = TcpStream::connect(door.address).await.unwrap();
        let mut rest = Vec::new();
        let end = second.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "closed without a word: {end:?}");
        first.write_all(request).await.unwrap();
        let mut more = [0; 64];
        assert!(first.read(&mut more).await.unwrap() > 0);
        drop(first);
        door.stop.send(()).unwrap();
        door.task.await.unwrap().unwrap();
    }
}
