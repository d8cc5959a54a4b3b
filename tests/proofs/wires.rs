//! Wires with an observer on them: relays that note every octet, and can send again what they saw.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// What went over a wire, in either direction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tap(Arc<Mutex<Vec<Seen>>>);

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Whether it went to whoever dialled.
    pub(crate) down: bool,
    pub(crate) octets: Vec<u8>,
}

impl Tap {
    fn note(&self, down: bool, octets: &[u8]) {
        self.0.lock().unwrap().push(Seen { down, octets: octets.to_vec() });
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    /// Whether those octets went over it in the clear.
    pub(crate) fn has(&self, part: impl AsRef<[u8]>) -> bool {
        memchr::memmem::find(&self.octets(), part.as_ref()).is_some()
    }

    /// All of them, in the order in which they were seen.
    pub(crate) fn octets(&self) -> Vec<u8> {
        self.seen().into_iter().flat_map(|seen| seen.octets).collect()
    }

    /// The first datagram to the phone with that text in it.
    pub(crate) fn down_with(&self, part: &str) -> Vec<u8> {
        let holds = |seen: &&Seen| {
            seen.down && seen.octets.windows(part.len()).any(|window| window == part.as_bytes())
        };
        self.seen().iter().find(holds).unwrap_or_else(|| panic!("no {part}")).octets.clone()
    }
}

/// What is held back, and for whom.
type Held = (&'static str, Sender<Vec<u8>>);

/// A wire for datagrams, between one phone and the edge.
pub(crate) struct Datagrams {
    pub(crate) tap: Tap,
    /// Where the phone is to send to.
    pub(crate) address: SocketAddr,
    near: UdpSocket,
    phone: Arc<Mutex<Option<SocketAddr>>>,
    /// Datagrams to the phone with that text in them go no further, but to whoever holds them back.
    held: Arc<Mutex<Option<Held>>>,
}

impl Datagrams {
    pub(crate) fn to(edge: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        far.connect(edge).unwrap();
        let own = Self {
            tap: Tap::default(),
            address: near.local_addr().unwrap(),
            near: near.try_clone().unwrap(),
            phone: Arc::default(),
            held: Arc::default(),
        };
        // Both end with the process.
        let (tap, phone, (up, back)) = (
            own.tap.clone(),
            Arc::clone(&own.phone),
            (far.try_clone().unwrap(), near.try_clone().unwrap()),
        );
        thread::spawn(move || {
            let mut octets = [0; 65_536];
            while let Ok((length, from)) = near.recv_from(&mut octets) {
                *phone.lock().unwrap() = Some(from);
                tap.note(false, &octets[..length]);
                up.send(&octets[..length]).unwrap();
            }
        });
        let (tap, phone, held) = (own.tap.clone(), Arc::clone(&own.phone), Arc::clone(&own.held));
        thread::spawn(move || {
            let mut octets = [0; 65_536];
            while let Ok(length) = far.recv(&mut octets) {
                tap.note(true, &octets[..length]);
                if let Some((part, tell)) = &*held.lock().unwrap()
                    && octets[..length].windows(part.len()).any(|text| text == part.as_bytes())
                {
                    let _ = tell.send(octets[..length].to_vec());
                    continue;
                }
                let to = phone.lock().unwrap().expect("the phone spoke first");
                back.send_to(&octets[..length], to).unwrap();
            }
        });
        own
    }

    /// Holds back from now on what has that text in it.
    pub(crate) fn hold(&self, part: &'static str) -> Receiver<Vec<u8>> {
        let (tell, held) = channel();
        *self.held.lock().unwrap() = Some((part, tell));
        held
    }

    /// Holds nothing back any more; what comes again comes through.
    pub(crate) fn release(&self) {
        *self.held.lock().unwrap() = None;
    }

    /// Sends to the phone, as if the edge had.
    pub(crate) fn forge(&self, octets: &[u8]) {
        let phone = self.phone.lock().unwrap().expect("the phone spoke first");
        self.near.send_to(octets, phone).unwrap();
    }
}

/// A wire for connections.
pub(crate) struct Connections {
    pub(crate) tap: Tap,
    pub(crate) address: SocketAddr,
}

impl Connections {
    pub(crate) fn to(edge: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = Self { tap: Tap::default(), address: listener.local_addr().unwrap() };
        let tap = own.tap.clone();
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // Who is not there is seen through the wire.
                let Ok(far) = TcpStream::connect(edge) else { continue };
                let (back, up) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                for (down, from, to) in [(false, near, up), (true, far, back)] {
                    let tap = tap.clone();
                    thread::spawn(move || carry(down, from, to, &tap));
                }
            }
        });
        own
    }
}

fn carry(down: bool, mut from: TcpStream, mut to: TcpStream, tap: &Tap) {
    let mut octets = [0; 16_384];
    while let Ok(length @ 1..) = from.read(&mut octets) {
        tap.note(down, &octets[..length]);
        if to.write_all(&octets[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
