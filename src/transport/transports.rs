//! Stage 1, one worker's transports: every socket it has, behind one way to send and one to be told.
//!
//! Takes:   the worker's sockets, the shared table of flows, and a [`Receiver`].
//! Gives:   what arrives, to the receiver; [`Transports::send`] and [`Transports::connect`] for what leaves.
//! Keeps:   the connections this worker dialled, each under the peer it was dialled for: at most 1024.
//! Refuses: to use a connection for any other peer than that: address, port, transport, domain and group must all
//!          be the same, so a certificate is never taken for a name that was not verified on that connection. What
//!          peers dialled is used as `aliases` says.
//! Sources: RFC 5923 sections 8.1, 9.1 and 9.3; `CR-05`, `CR-06`, `CR-08`, `V-41`.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::unix::AsyncFd;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::Instant as Clock;

use super::dtls::port::DtlsPort;
use super::flows::{Flows, SendError};
use super::key_desk::KeyDesk;
use super::listen::{BoundListener, Sockets};
use super::socket::watch;
use super::stream::{Patience, Receiver};
use super::stun::Pace;
use super::tcp;
use super::tls::ClientTls;
use super::udp::Port;
use super::{Flow, ListenerId, Side, Target, Transport};
use crate::instant::Instant;

/// Most connections that one worker dials.
const DIALLED_MAX: usize = 1024;

/// What the tasks of a worker share.
pub(super) struct Shop {
    pub(super) flows: Arc<Flows>,
    pub(super) receiver: Rc<dyn Receiver>,
    pub(super) patience: Patience,
    pub(super) client_tls: Option<Arc<ClientTls>>,
    pub(super) desk: Option<KeyDesk>,
    pace: RefCell<Pace>,
    started: Clock,
}

impl Shop {
    /// Whether one more Binding request of `source` may be answered.
    pub(super) fn may_answer(&self, source: SocketAddr) -> bool {
        let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.pace.borrow_mut().allow(source, Instant::from_micros(micros))
    }
}

/// What a worker's transports are made of.
#[derive(Debug)]
pub struct Parts {
    /// Its sockets.
    pub sockets: Sockets,
    /// The table that all workers share.
    pub flows: Arc<Flows>,
    /// How long connections may take for what.
    pub patience: Patience,
    /// For what it dials; without it, no TLS is dialled.
    pub client_tls: Option<Arc<ClientTls>>,
    /// Where handshakes with shared keys get them; without it, there are none.
    pub desk: Option<KeyDesk>,
    /// Random octets: they scatter the counts of STUN answers.
    pub seed: [u8; 16],
}

/// One worker's transports. They live on its thread, inside its `LocalSet`.
pub struct Transports {
    shop: OnceCell<Rc<Shop>>,
    flows: Arc<Flows>,
    listeners: Vec<Arc<BoundListener>>,
    ports: Vec<Rc<Port>>,
    secured: Vec<Rc<DtlsPort>>,
    doors: RefCell<Vec<(AsyncFd<TcpListener>, Arc<BoundListener>)>>,
    accepting: RefCell<Vec<AbortHandle>>,
    dialled: RefCell<HashMap<Peer, Flow>>,
    kit: RefCell<Option<Kit>>,
}

/// What [`Transports::start`] needs, until it is called.
struct Kit {
    patience: Patience,
    client_tls: Option<Arc<ClientTls>>,
    desk: Option<KeyDesk>,
    seed: [u8; 16],
}

/// Whom a connection was dialled for.
type Peer = (ListenerId, Target);

impl Transports {
    /// Takes the sockets into this thread's runtime. Nothing is read before [`Transports::start`].
    ///
    /// # Errors
    ///
    /// If the runtime cannot watch a socket.
    pub fn new(parts: Parts) -> io::Result<Rc<Self>> {
        let Parts { sockets, flows, patience, client_tls, desk, seed } = parts;
        let (mut listeners, mut ports, mut doors) = (Vec::new(), Vec::new(), Vec::new());
        let mut secured = Vec::new();
        for set in sockets.listeners {
            if let Some(udp) = set.udp {
                let socket = watch(udp)?;
                match &set.bound.spec.dtls {
                    Some(server) if set.bound.speaks(Transport::Dtls) => {
                        let server = Arc::clone(server);
                        secured.push(Rc::new(DtlsPort::new(socket, set.bound.clone(), server)));
                    }
                    _ => ports.push(Rc::new(Port::new(socket, set.bound.clone()))),
                }
            }
            if let Some(tcp) = set.tcp {
                doors.push((watch(tcp)?, set.bound.clone()));
            }
            listeners.push(set.bound);
        }
        Ok(Rc::new(Self {
            shop: OnceCell::new(),
            flows,
            listeners,
            ports,
            secured,
            doors: RefCell::new(doors),
            accepting: RefCell::default(),
            dialled: RefCell::default(),
            kit: RefCell::new(Some(Kit { patience, client_tls, desk, seed })),
        }))
    }

    /// Begins to read and to accept: a task for each socket. Once; again does nothing.
    pub fn start(&self, receiver: Rc<dyn Receiver>) {
        let kit = self.kit.borrow_mut().take();
        let Some(Kit { patience, client_tls, desk, seed }) = kit else { return };
        let shop = Rc::new(Shop {
            flows: self.flows.clone(),
            receiver,
            patience,
            client_tls,
            desk,
            pace: RefCell::new(Pace::new(seed)),
            started: Clock::now(),
        });
        for port in &self.ports {
            spawn_local(port.clone().serve(shop.clone()));
        }
        for port in &self.secured {
            spawn_local(port.clone().serve(shop.clone()));
        }
        for (listener, bound) in self.doors.borrow_mut().drain(..) {
            let task = spawn_local(tcp::accept(listener, bound, shop.clone()));
            self.accepting.borrow_mut().push(task.abort_handle());
        }
        // It was empty, since the kit was there.
        let _ = self.shop.set(shop);
    }

    /// Accepts no more connections; those that stand go on.
    pub fn stop_accepting(&self) {
        for task in self.accepting.borrow_mut().drain(..) {
            task.abort();
        }
    }

    /// Sends `octets` on `flow`: one message. A datagram goes out with the next [`Transports::flush`].
    ///
    /// # Errors
    ///
    /// Why they did not go out, as far as it is known at once.
    pub fn send(&self, flow: &Flow, octets: Bytes) -> Result<(), SendError> {
        if flow.connection.is_some() {
            return self.flows.send(flow, octets);
        }
        let shop = self.shop.get().ok_or(SendError::NoListener)?;
        let port = self.ports.iter().find(|port| port.bound.spec.id == flow.listener);
        let port = port.ok_or(SendError::NoListener)?;
        port.send(shop, flow.remote, octets)
    }

    /// Whether so many datagrams wait that they should go out before more is handled.
    pub fn is_full(&self) -> bool {
        self.ports.iter().any(|port| port.is_full())
    }

    /// Hands the datagrams that [`Transports::send`] queued to the system, many with one call; `failed` is told of
    /// each flow on which nothing can be sent. To be called when a turn of the worker ends.
    pub fn flush(&self, mut failed: impl FnMut(Flow)) {
        let Some(shop) = self.shop.get() else { return };
        for port in &self.ports {
            port.flush(shop, &mut failed);
        }
    }

    /// How long a datagram that is read now may have waited: since when some socket was not found empty.
    pub fn behind(&self, now: Instant) -> Duration {
        let since = self.ports.iter().filter_map(|port| port.behind_since.get());
        let since =
            since.chain(self.secured.iter().filter_map(|port| port.behind_since.get())).min();
        since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// The flow to `target`: the connection that was dialled for it if that is still open, or one that its server
    /// dialled and lets us use; else a new one, on which messages may be sent at once and wait until it stands. For UDP, the pair of addresses.
    ///
    /// # Errors
    ///
    /// [`SendError::NoListener`] if no listener of the core side could be named as ours, or none has UDP;
    /// [`SendError::Crowded`] at the limit.
    pub fn connect(&self, target: &Target) -> Result<Flow, SendError> {
        let bound = self.outlet(target).ok_or(SendError::NoListener)?;
        let listener = bound.spec.id;
        if target.transport == Transport::Dtls || target.transport.is_websocket() {
            return Err(SendError::NoListener);
        }
        if target.transport == Transport::Udp {
            let remote = target.address;
            return Ok(Flow { transport: Transport::Udp, listener, remote, connection: None });
        }
        let peer = (listener, target.clone());
        let mut dialled = self.dialled.borrow_mut();
        if let Some(flow) = dialled.get(&peer).filter(|flow| self.flows.is_open(flow)) {
            return Ok(*flow);
        }
        let open = |flow: &Flow| self.flows.is_open(flow);
        if let Some(flow) = self.flows.aliases().find(listener, target, open) {
            return Ok(flow);
        }
        if dialled.len() >= DIALLED_MAX {
            dialled.retain(|_, flow| self.flows.is_open(flow));
        }
        if dialled.len() >= DIALLED_MAX {
            return Err(SendError::Crowded);
        }
        let shop = self.shop.get().ok_or(SendError::NoListener)?;
        let lease = self.flows.open(target.transport, listener, target.address, None)?;
        let flow = lease.flow();
        dialled.insert(peer, flow);
        spawn_local(tcp::dial(lease, target.clone(), bound.clone(), shop.clone()));
        Ok(flow)
    }

    /// The listeners, in the order of the configuration.
    pub fn listeners(&self) -> &[Arc<BoundListener>] {
        &self.listeners
    }

    /// One listener.
    pub fn listener(&self, id: ListenerId) -> Option<&Arc<BoundListener>> {
        self.listeners.iter().find(|bound| bound.spec.id == id)
    }

    /// The table of connections that all workers share.
    pub fn flows(&self) -> &Arc<Flows> {
        &self.flows
    }

    /// The listener by which `target` is reached: of the core side and, first the one that fits best, of the same
    /// transport and the same family of addresses.
    pub fn outlet(&self, target: &Target) -> Option<&Arc<BoundListener>> {
        let same_family = |bound: &BoundListener| bound.local.is_ipv4() == target.address.is_ipv4();
        let core = self.listeners.iter().filter(|bound| bound.spec.side == Side::Core);
        let fit = |bound: &&Arc<BoundListener>| {
            (u8::from(bound.speaks(target.transport)) << 1) | u8::from(same_family(bound))
        };
        let usable = |bound: &&Arc<BoundListener>| {
            target.transport != Transport::Udp
                || (bound.speaks(Transport::Udp) && same_family(bound))
        };
        // The first of equals, not the last.
        core.filter(usable).rev().max_by_key(fit)
    }
}

impl std::fmt::Debug for Transports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transports({} listeners)", self.listeners.len())
    }
}
