//! Stage 1, TCP: connections accepted and dialled, with TLS and WebSocket on top where they belong.
//!
//! Takes:   a listening socket of one worker; targets to dial.
//! Gives:   a task for each connection, which serves its stream and tells the receiver when it stands and ends.
//! Keeps:   for each connection its entry among the flows, and what its stream keeps.
//! Refuses: connections and handshakes over the limits, at once and without an octet; who says nothing for 30 s, which is no
//!          handshake yet; handshakes that take over 10 s; a dialled peer that does not stand within 5 s, or whose certificate is not its domain's.
//!          What was to be TLS is never sent in the clear. What stands on a shared key ends with the key.
//! Sources: RFC 3261 section 18; RFC 5922 sections 7.3 and 7.4; `TR-01`, `TR-08`, `TR-13`, `CR-01` to `CR-04`, `V-40`,
//!          `V-45`, `V-47`, `V-79`, `V-80`.

use std::future::{Future, poll_fn};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::flows::{Lease, Seat};
#[cfg(feature = "openssl")]
use super::greet::{self, Greeting, Ungreeted};
use super::held::Held;
use super::listen::BoundListener;
use super::socket::{self, Connection};
#[cfg(feature = "openssl")]
use super::stream::AFTER_KEY;
use super::stream::{Closed, DialError, Stream, StreamFacts};
use super::tls::{self, Greeted, ServerTls, TlsRefusal};
use super::transports::Shop;
use super::vouched::Vouched;
use super::ws::WsServer;
use super::{Side, Target, Transport};
use crate::authentication::tls_identity::CertificateNames;
use crate::clock;
#[cfg(feature = "openssl")]
use crate::keys::psk::PskProof;

/// Room for a usual ClientHello.
const FIRST_READ: usize = 2048;
/// A pause when no connection can be accepted, so that a lack of descriptors does not spin.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Silence after which the system asks whether the peer is still there, and how often it asks.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(120), Duration::from_secs(20), 4);

/// Accepts connections until the task is ended.
pub(super) async fn accept(
    listener: AsyncFd<TcpListener>,
    bound: Arc<BoundListener>,
    shop: Rc<Shop>,
) {
    let tally = shop.flows.tally();
    // What it accepts is like it.
    settle(listener.get_ref());
    // Due before any handshake that begins meanwhile. The runtime wakes itself, by a call of the system, for each timer
    // that becomes the first of all; so none of theirs does.
    let beat = shop.patience.handshake.checked_div(2).unwrap_or_default();
    let (mut timer, mut beats) = (pin!(sleep(beat)), false);
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = socket::accept(&listener) => accepted,
            () = &mut timer, if beats => {
                beats = false;
                continue;
            }
        };
        match accepted {
            Ok((tcp, remote)) => {
                // Over a limit, the connection is dropped here.
                let Some(seat) = shop.flows.seat(remote.ip()) else { continue };
                tally.accepted.add(1);
                if !beats {
                    timer.as_mut().reset(clock::deadline(clock::mono() + beat));
                    beats = true;
                }
                // One that cannot be watched is dropped too.
                let Ok(tcp) = Connection::new(tcp) else { continue };
                spawn_local(welcome(tcp, remote, seat, bound.clone(), shop.clone()));
            }
            Err(_) => {
                tally.accept_failed.add(1);
                sleep(AFTER_FAILURE).await;
            }
        }
    }
}

async fn welcome(
    mut tcp: Connection,
    remote: SocketAddr,
    seat: Seat,
    bound: Arc<BoundListener>,
    shop: Rc<Shop>,
) {
    let local = match bound.local.ip().is_unspecified() {
        true => tcp.local_addr().unwrap_or(bound.local),
        false => bound.local,
    };
    let place = Place { remote, local, seat };
    if bound.stream_transport() == Some(Transport::Tcp) {
        let greeted = Greeted { names: None, user: None, asked_for: None };
        return enter(tcp, place, greeted, None, &bound, &shop);
    }
    let Some(ahead) = first_octets(&mut tcp, &shop).await else { return };
    // Held until the handshake has ended, well or not.
    let Some(_door) = shop.flows.door(remote.ip()) else { return };
    // On the heap, so that nobody who says nothing has room for it.
    Box::pin(shake_hands(tcp, ahead, place, &bound, &shop)).await;
}

/// Waits for the first octets: who says nothing shakes no hands, and has no room to say it in.
async fn first_octets(tcp: &mut Connection, shop: &Shop) -> Option<BytesMut> {
    let read = poll_fn(|context| {
        let mut room = [0; FIRST_READ];
        let mut room = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut *tcp).poll_read(context, &mut room))?;
        Poll::Ready(std::io::Result::Ok(BytesMut::from(room.filled())))
    });
    let Ok(read) = timeout(shop.patience.first_octet, read).await else {
        shop.flows.tally().slow.add(1);
        return None;
    };
    read.ok().filter(|octets| !octets.is_empty())
}

/// Shakes hands on a connection to a listener for TLS or WebSocket, and enters it.
async fn shake_hands(
    tcp: Connection,
    ahead: BytesMut,
    place: Place,
    bound: &BoundListener,
    shop: &Rc<Shop>,
) {
    if let Some(ws) = &bound.spec.ws {
        let tcp = Held::open(ahead.freeze(), tcp);
        return Box::pin(open_websocket(tcp, place, ws, bound, shop)).await;
    }
    let Some(tls) = &bound.spec.tls else { return };
    #[cfg(feature = "openssl")]
    if let (Some(shared), Some(desk)) = (&bound.spec.psk, &shop.desk) {
        let greeting = async {
            let greeting = greet::greet(tls, shared, desk, ahead, tcp).await;
            greeting.inspect_err(|why| {
                if let Ungreeted::Certificate(why) = why {
                    shop.flows.tally().refused(why);
                }
            })
        };
        let greeting = in_time(greeting, shop).await;
        return match greeting {
            Some(Greeting::Certificate(stream, greeted)) => {
                let vouched = Vouched::client(tls, &stream, &greeted);
                enter(stream, place, greeted, vouched, bound, shop);
            }
            Some(Greeting::Shared(stream, proof, asked_for)) => {
                let greeted = Greeted { names: None, user: None, asked_for };
                enter_shared(stream, place, greeted, proof, bound, shop);
            }
            None => {}
        };
    }
    let tcp = Held::open(ahead.freeze(), tcp);
    if let Some((stream, greeted)) = in_time(accept_tls(tls, tcp, shop), shop).await {
        let vouched = Vouched::client(tls, &stream, &greeted);
        enter(Box::new(stream), place, greeted, vouched, bound, shop);
    }
}

/// Shakes hands over TLS; what is wrong with a client's certificate is counted by name.
async fn accept_tls(
    tls: &ServerTls,
    tcp: Held<Connection>,
    shop: &Shop,
) -> Result<(tokio_rustls::server::TlsStream<Held<Connection>>, Greeted), TlsRefusal> {
    let accepted = tls::accept(tls, tcp).await;
    accepted.inspect_err(|why| shop.flows.tally().refused(why))
}

/// The same where WebSocket is spoken: TLS if it is to be under it, then the opening handshake, both in one time.
async fn open_websocket(
    tcp: Held<Connection>,
    place: Place,
    ws: &WsServer,
    bound: &BoundListener,
    shop: &Rc<Shop>,
) {
    if bound.speaks(Transport::Ws) {
        if let Some(io) = in_time(ws.open(tcp), shop).await {
            let greeted = Greeted { names: None, user: None, asked_for: None };
            enter(io, place, greeted, None, bound, shop);
        }
        return;
    }
    let Some(tls) = &bound.spec.tls else { return };
    let handshakes = async {
        let accepted = accept_tls(tls, tcp, shop).await;
        let (stream, greeted) = accepted.map_err(|why| why.to_string())?;
        let vouched = Vouched::client(tls, &stream, &greeted);
        let opened = ws.open(Box::new(stream)).await;
        let io = opened.map_err(|why| why.to_string())?;
        Ok::<_, String>((io, greeted, vouched))
    };
    if let Some((io, greeted, vouched)) = in_time(handshakes, shop).await {
        enter(io, place, greeted, vouched, bound, shop);
    }
}

/// Where a connection was accepted, before it is one.
struct Place {
    remote: SocketAddr,
    local: SocketAddr,
    seat: Seat,
}

/// Enters a connection that stands, and serves it in a task of its own: what it took to get there is gone then.
fn enter<S>(
    io: S,
    place: Place,
    greeted: Greeted,
    vouched: Option<Vouched>,
    bound: &BoundListener,
    shop: &Rc<Shop>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let Some((lease, facts)) = take_seat(place, greeted, bound, shop) else { return };
    match vouched {
        None => drop(spawn_local(serve(io, lease, Arc::new(facts), shop.clone()))),
        Some(vouched) => {
            drop(spawn_local(serve_vouched(io, lease, Arc::new(facts), vouched, shop.clone())));
        }
    }
}

/// The same for a connection that stands on a shared key: it ends with the key.
#[cfg(feature = "openssl")]
fn enter_shared<S>(
    io: S,
    place: Place,
    greeted: Greeted,
    proof: PskProof,
    bound: &BoundListener,
    shop: &Rc<Shop>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    if let Some((lease, mut facts)) = take_seat(place, greeted, bound, shop) {
        facts.channel = Some(Arc::clone(&proof.caller));
        spawn_local(serve_with_key(io, lease, Arc::new(facts), proof, shop.clone()));
    }
}

/// Its entry among the flows, and what is known about it.
fn take_seat(
    place: Place,
    greeted: Greeted,
    bound: &BoundListener,
    shop: &Shop,
) -> Option<(Lease, StreamFacts)> {
    let Place { remote, local, seat } = place;
    let transport = bound.stream_transport()?;
    let lease = shop.flows.open(transport, bound.spec.id, remote, Some(seat)).ok()?;
    let facts = StreamFacts {
        flow: lease.flow(),
        side: bound.spec.side,
        local,
        names: greeted.names,
        // Users are at the other face: here a certificate proves a server, or nobody.
        channel: greeted.user.filter(|_| bound.spec.side == Side::Ue),
        asked_for: greeted.asked_for,
        target: None,
    };
    Some((lease, facts))
}

/// Shakes hands, if it does not take too long.
async fn in_time<T, E: std::fmt::Display>(
    handshake: impl Future<Output = Result<T, E>>,
    shop: &Shop,
) -> Option<T> {
    let tally = shop.flows.tally();
    match timeout(shop.patience.handshake, handshake).await {
        Ok(Ok(greeted)) => Some(greeted),
        Ok(Err(why)) => {
            tally.handshakes_failed.add(1);
            tracing::debug!(%why, "handshake refused");
            None
        }
        Err(_) => {
            tally.handshakes_slow.add(1);
            None
        }
    }
}

/// Dials `target` and serves the connection.
pub(super) async fn dial(lease: Lease, target: Target, bound: Arc<BoundListener>, shop: Rc<Shop>) {
    let flow = lease.flow();
    shop.flows.tally().dialled.add(1);
    let dialled = timeout(shop.patience.dial, Box::pin(reach(&target, &bound, &shop))).await;
    let (io, names, local) = match dialled.unwrap_or(Err(DialError::Slow)) {
        Ok(reached) => reached,
        Err(why) => {
            drop(lease);
            shop.flows.tally().dial_failed.add(1);
            if let DialError::Tls(why) = &why {
                shop.flows.tally().refused(why);
            }
            tracing::debug!(%why, address = %target.address, domain = %target.domain, "not reached");
            shop.receiver.dial_failed(&flow, &target, why);
            return;
        }
    };
    lease.pipe().authenticate();
    let side = bound.spec.side;
    let facts = StreamFacts {
        flow,
        side,
        local,
        names,
        channel: None,
        asked_for: None,
        target: Some(target),
    };
    let facts = Arc::new(facts);
    match io {
        Reached::Clear(tcp) => drop(spawn_local(serve(tcp, lease, facts, shop))),
        Reached::Tls(stream) => {
            let vouched = shop.client_tls.as_ref().and_then(|tls| Vouched::server(tls, &stream));
            match vouched {
                None => drop(spawn_local(serve(stream, lease, facts, shop))),
                Some(vouched) => {
                    drop(spawn_local(serve_vouched(stream, lease, facts, vouched, shop)));
                }
            }
        }
    }
}

enum Reached {
    Clear(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn reach(
    target: &Target,
    bound: &BoundListener,
    shop: &Shop,
) -> Result<(Reached, Option<CertificateNames>, SocketAddr), DialError> {
    let lost = |why: std::io::Error| DialError::Lost(why.kind());
    let socket = match target.address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(lost)?;
    let from = bound.local.ip();
    if !from.is_unspecified() && from.is_ipv4() == target.address.is_ipv4() {
        // Peers that know us by address see the listener's.
        socket.bind(SocketAddr::new(from, 0)).map_err(lost)?;
    }
    let tcp = socket.connect(target.address).await.map_err(lost)?;
    settle(&tcp);
    let local = tcp.local_addr().map_err(lost)?;
    match target.transport {
        Transport::Tls => {
            let tls = shop.client_tls.as_ref().ok_or(DialError::NoTls)?;
            let (stream, names) = tls.connect(&target.domain, tcp).await.map_err(DialError::Tls)?;
            Ok((Reached::Tls(Box::new(stream)), Some(names), local))
        }
        // Others are not dialled: `Transports::connect` sees to it.
        _ => Ok((Reached::Clear(tcp), None, local)),
    }
}

/// Serves a connection that stands. Whatever happens in it, a panic of ours included, ends it alone.
async fn serve<S>(io: S, lease: Lease, facts: Arc<StreamFacts>, shop: Rc<Shop>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pipe = lease.pipe().clone();
    // Set once: a lease has one connection.
    let _ = pipe.facts.set(facts.clone());
    let stream = Stream {
        pipe: &pipe,
        facts: &facts,
        receiver: &*shop.receiver,
        patience: &shop.patience,
        tally: shop.flows.tally(),
    };
    let serving = pin!(async {
        shop.receiver.opened(&facts);
        stream.serve(io).await
    });
    let why = guarded(serving).await.unwrap_or_else(|| {
        shop.flows.tally().panicked.add(1);
        Closed::Panicked
    });
    drop(lease);
    if guarded(pin!(async { shop.receiver.closed(&facts, why) })).await.is_none() {
        shop.flows.tally().panicked.add(1);
    }
}

/// Serves a connection that stands on a shared key, and closes it when that is over: at once if it was taken back,
/// else after the transactions that were under way.
///
/// Source: dialogs that outlive their key are anchored anew by the next handshake (TS 33.220 clause 4.5.3).
#[cfg(feature = "openssl")]
async fn serve_with_key<S>(
    io: S,
    lease: Lease,
    facts: Arc<StreamFacts>,
    proof: PskProof,
    shop: Rc<Shop>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (pipe, desk) = (lease.pipe().clone(), shop.desk.clone());
    let over = async {
        let Some(desk) = desk else { return };
        desk.until_over(&proof).await;
        if proof.caller.has_expired(clock::now().wall) {
            sleep(AFTER_KEY).await;
        }
    };
    let mut serving = pin!(serve(io, lease, facts, shop));
    tokio::select! {
        () = &mut serving => return,
        () = over => pipe.end(Closed::KeyOver),
    }
    serving.await;
}

/// Serves a connection whose peer showed a certificate, and closes it when that is no longer good.
async fn serve_vouched<S>(
    io: S,
    lease: Lease,
    facts: Arc<StreamFacts>,
    vouched: Vouched,
    shop: Rc<Shop>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (pipe, flow, flows) = (lease.pipe().clone(), lease.flow(), shop.flows.clone());
    let mut serving = pin!(serve(io, lease, facts, shop));
    let why = tokio::select! {
        () = &mut serving => return,
        why = vouched.until_refused() => why,
    };
    flows.tally().certificates_over.add(1);
    tracing::warn!(%why, peer = %flow.remote, "connection closed: its certificate is not good any more");
    pipe.end(why.closes());
    serving.await;
}

/// Runs `future` to its end, or to its panic.
pub(crate) async fn guarded<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// Small messages leave at once; a peer that is gone is noticed.
fn settle(socket: &impl AsFd) {
    let (after, every, times) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(after).with_interval(every).with_retries(times);
    // A socket that cannot do this still works.
    let socket = SockRef::from(socket);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
}
