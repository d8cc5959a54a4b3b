//! One worker's transports on loopback, under DTLS: what was let in, and what was turned away.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sipward::transport::dtls::server::DtlsServer;
use sipward::transport::{
    Closed, DialError, Flow, Flows, Limits, ListenSpec, ListenerId, Parts, Patience, Receiver,
    Side, StreamFacts, Target, Transport, Transports, bind,
};
use sipward::wire::{Malformed, Message};
use tokio::sync::Notify;
use tokio::task::LocalSet;

pub(crate) const REQUEST: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n";
pub(crate) const ANSWER: &[u8] = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What a worker was told.
#[derive(Debug)]
pub(crate) enum Told {
    Opened(Arc<StreamFacts>),
    Message(Flow, Bytes),
    Closed(Flow, Closed),
}

/// Notes what it is told.
#[derive(Default)]
struct Desk {
    told: RefCell<VecDeque<Told>>,
    news: Notify,
    transports: OnceCell<Weak<Transports>>,
    /// The next call of that name panics.
    startled: Cell<Option<&'static str>>,
}

impl Desk {
    fn note(&self, told: Told) {
        self.told.borrow_mut().push_back(told);
        self.news.notify_one();
    }

    fn pass(&self, call: &str) {
        if self.startled.get() == Some(call) {
            self.startled.set(None);
            panic!("a fault of ours, on purpose: {call}");
        }
    }
}

impl Receiver for Desk {
    fn turn(&self) {
        self.pass("turn");
        if let Some(transports) = self.transports.get().and_then(Weak::upgrade) {
            transports.flush(|_| {});
        }
    }

    fn datagram(&self, _: Flow, _: SocketAddr, _: Bytes) {}

    fn opened(&self, stream: &Arc<StreamFacts>) {
        self.pass("opened");
        self.note(Told::Opened(Arc::clone(stream)));
    }

    fn message(&self, stream: &Arc<StreamFacts>, message: Message) {
        self.note(Told::Message(stream.flow, message.octets().clone()));
    }

    fn broken(&self, _: &Arc<StreamFacts>, malformed: Malformed) {
        panic!("{malformed:?}");
    }

    fn closed(&self, stream: &Arc<StreamFacts>, why: Closed) {
        self.pass("closed");
        self.note(Told::Closed(stream.flow, why));
    }

    fn dial_failed(&self, _: &Flow, _: &Target, why: DialError) {
        panic!("nothing is dialled, but {why}");
    }
}

/// One worker on loopback. Listener 0 faces devices, listener 1 servers: both speak DTLS.
pub(crate) struct Edge {
    pub(crate) transports: Rc<Transports>,
    desk: Rc<Desk>,
}

impl Edge {
    pub(crate) fn new(dtls: &Arc<DtlsServer>) -> Self {
        let spec = |id, side| {
            let (id, address) = (ListenerId(id), ([127, 0, 0, 1], 0).into());
            let spec = ListenSpec::plain(id, side, address, &[Transport::Dtls], "edge.example.net");
            ListenSpec { dtls: Some(Arc::clone(dtls)), ..spec }
        };
        let specs = vec![spec(0, Side::Ue), spec(1, Side::Core)];
        let parts = Parts {
            sockets: bind(specs, NonZeroUsize::MIN).unwrap().remove(0),
            flows: Flows::new(Limits::default(), 7),
            patience: Patience::default(),
            client_tls: None,
            desk: None,
            seed: [3; 16],
        };
        let (transports, desk) = (Transports::new(parts).unwrap(), Rc::new(Desk::default()));
        desk.transports.set(Rc::downgrade(&transports)).unwrap();
        transports.start(desk.clone());
        Self { transports, desk }
    }

    /// The next time that its worker is told this, it panics.
    pub(crate) fn startle(&self, call: &'static str) {
        self.desk.startled.set(Some(call));
    }

    pub(crate) fn address(&self, listener: u16) -> SocketAddr {
        self.transports.listener(ListenerId(listener)).unwrap().local
    }

    /// How often something happened below the messages.
    pub(crate) fn count(&self, event: &str) -> u64 {
        let mut counts = self.transports.flows().tally().each();
        counts.find(|(name, _)| *name == event).unwrap_or_else(|| panic!("no {event}")).1
    }

    /// What it is told next.
    pub(crate) async fn told(&self) -> Told {
        loop {
            let told = self.desk.told.borrow_mut().pop_front();
            match told {
                Some(told) => return told,
                None => self.desk.news.notified().await,
            }
        }
    }

    pub(crate) async fn opened(&self) -> Arc<StreamFacts> {
        match self.told().await {
            Told::Opened(facts) => facts,
            other => panic!("not opened, but {other:?}"),
        }
    }

    pub(crate) async fn message(&self) -> (Flow, Bytes) {
        match self.told().await {
            Told::Message(flow, octets) => (flow, octets),
            other => panic!("no message, but {other:?}"),
        }
    }

    pub(crate) async fn closed(&self) -> (Flow, Closed) {
        match self.told().await {
            Told::Closed(flow, why) => (flow, why),
            other => panic!("not closed, but {other:?}"),
        }
    }

    /// Waits until something has happened so often: a refusal of the handshake reaches no receiver.
    pub(crate) async fn until(&self, event: &str, times: u64) {
        while self.count(event) < times {
            tokio::task::yield_now().await;
        }
    }
}

/// Runs `test` as a worker would run, and ends it if it hangs.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(Duration::from_secs(60), test).await };
    LocalSet::new().block_on(&runtime, bounded).expect("the test hangs");
}
