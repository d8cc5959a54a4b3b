//! Ten thousand who say nothing, and a few who say it too slowly: nobody else waits for them, and they are sent away.

use std::net::Ipv4Addr;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use super::*;

/// Who say nothing, and from how many addresses.
const CROWD: usize = 10_000;
const ADDRESSES: usize = 250;
/// How many of them shake hands first, over TLS. All have to stand before the first of them has to go.
const SHAKEN: usize = 5000;
/// What one of the others may cost the edge, in octets.
const EACH_MAX: usize = 4096;
/// How long the connection of a stranger may be idle (TR-08).
const IDLE: Duration = Duration::from_secs(60);
/// How long a head or a handshake may take from its first octet (TR-08), and what a busy machine may add.
const WHOLE: Duration = Duration::from_secs(10);
const BUSY: Duration = Duration::from_secs(2);
/// From one octet to the next of those who dribble.
const PAUSE: Duration = Duration::from_millis(100);
/// Files that a test holds open beside them.
const OTHER_FILES: u64 = 256;

const LOAD: &str = "sipward_load";
const HELD: &str = "sipward_connections_unauthenticated";
const SLOW: &str = "sipward_transport_total{event=\"slow\"}";
const HANDSHAKES_SLOW: &str = "sipward_transport_total{event=\"handshakes_slow\"}";
const HANDSHAKES_FAILED: &str = "sipward_transport_total{event=\"handshakes_failed\"}";
const HANDSHAKES_CROWDED: &str = "sipward_transport_total{event=\"handshakes_crowded\"}";

/// An edge that bounds nothing but what it does by itself.
fn edge(name: &str, core: &Core) -> Edge {
    edge_with(name, core, |text| text)
}

/// The same, with a configuration that is not quite that one.
pub(super) fn edge_with(name: &str, core: &Core, change: impl FnOnce(String) -> String) -> Edge {
    Edge::start_with(name, |text| {
        let peer = format!("sip:{};transport=udp", core.address);
        change(text.replace("sip:127.0.0.1:5070;transport=tcp", &peer))
    })
}

/// The connection of that number: [`ADDRESSES`] take turns.
fn connect(number: usize, edge: SocketAddr) -> TcpStream {
    let [.., high, low] = u32::try_from(number % ADDRESSES).unwrap().to_be_bytes();
    let from = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&edge.into()).unwrap();
    socket.into()
}

/// Octets of the edge that are in memory.
pub(super) fn resident(edge: &Edge) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", edge.child.id())).unwrap();
    let row = status.lines().find_map(|row| row.strip_prefix("VmRSS:")).expect(&status);
    row.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

pub(super) fn register(edge: &Edge, transport: Transport) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let ue = Ue::connect(alice(edge, transport)).await.unwrap();
        ue.register(600).await.unwrap()
    });
    assert_eq!(answer.status(), Some(200), "{transport:?}");
}

/// A client that trusts the edge's certificate.
fn client(edge: &Edge) -> ClientConnection {
    let trust = alice(edge, Transport::Tls).tls.unwrap();
    let name = ServerName::try_from("edge.example.net").unwrap();
    ClientConnection::new(trust, name).unwrap()
}

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// A connection whose handshake has ended well, and on which nothing more is said.
fn shaken(number: usize, edge: &Edge) -> Secured {
    let mut stream = StreamOwned::new(client(edge), connect(number, edge.tls.unwrap()));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream
}

/// Waits until the edge has closed a connection; whether it had said something.
fn closed(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(count) => count > 0,
        Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset => false,
        Err(why) => panic!("it is not closed: {why}"),
    }
}

/// Waits until the edge has ended a session of TLS by its alert, without a word of SIP.
fn ended(mut stream: Secured) {
    stream.sock.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
    assert_eq!(stream.read(&mut [0; 64]).expect("it is told that this is the end"), 0);
}

/// Lets this process hold them all.
fn allow_files() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let needed = u64::try_from(CROWD).unwrap() + OTHER_FILES;
    assert!(hard >= needed, "this needs {needed} open files; the system gives {hard} (ulimit -Hn)");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// Waits until so many are held, before the first of them has to go.
fn until_held(edge: &Edge, count: usize) {
    loop {
        let [held, slow] = edge.metrics([HELD, SLOW]);
        assert_eq!(slow, 0, "they are not all there before the first has to go");
        if held >= count as u64 {
            break;
        }
    }
}

/// Waits until the edge holds none of them, and looks why it closed them.
fn until_gone(edge: &Edge) {
    loop {
        // So many ends at once may have taken its breath; until it has it again, strangers are put off.
        let [held, slow, load] = edge.metrics([HELD, SLOW, LOAD]);
        if held == 0 && load == 0 {
            assert_eq!(slow, CROWD as u64, "each for its silence");
            break;
        }
    }
    let handshakes = [HANDSHAKES_SLOW, HANDSHAKES_FAILED, HANDSHAKES_CROWDED];
    assert_eq!(edge.metrics(handshakes), [0; 3], "each is whole or not begun");
}

/// V-45, TR-08: as many as one edge may meet. The first `shaken_count` have shaken hands; of each of the others it has
/// seen no more than an address.
fn v_45(name: &str, transport: Transport, shaken_count: usize) {
    allow_files();
    let core = Core::start();
    let edge = edge(name, &core);
    register(&edge, transport);
    let address = if transport == Transport::Tls { edge.tls.unwrap() } else { edge.ue };
    let (began, alone) = (Instant::now(), resident(&edge));
    let secured: Vec<_> = (0..shaken_count).map(|number| shaken(number, &edge)).collect();
    until_held(&edge, shaken_count);
    let before = resident(&edge);
    let cost = before.saturating_sub(alone) / 1024;
    say(&format!("{name}: {shaken_count} handshakes, {:?}, {cost} kB", began.elapsed()));
    let silent: Vec<_> = (shaken_count..CROWD).map(|number| connect(number, address)).collect();
    until_held(&edge, CROWD);
    let stood = Instant::now();
    register(&edge, transport);
    let [held] = edge.metrics([HELD]);
    assert!(held >= CROWD as u64, "{held} are held while somebody registers");
    let more = resident(&edge).saturating_sub(before);
    say(&format!("{name}: {} silent connections cost the edge {} kB", silent.len(), more / 1024));
    assert!(more <= silent.len() * EACH_MAX, "{} octets for each", more / silent.len());
    secured.into_iter().for_each(ended);
    for stream in silent {
        assert!(!closed(stream), "it is told something");
    }
    let lasted = stood.elapsed();
    say(&format!("{name}: all are gone after {lasted:?}"));
    assert!(lasted <= IDLE, "the last of them idled for {lasted:?}");
    until_gone(&edge);
    register(&edge, transport);
}

#[test]
fn v_45_ten_thousand_silent_connections_over_tcp() {
    v_45("crowd-tcp", Transport::Tcp, 0);
}

#[test]
fn v_45_ten_thousand_silent_connections_over_tls() {
    v_45("crowd-tls", Transport::Tls, SHAKEN);
}

/// A whole ClientHello.
fn hello(edge: &Edge) -> Vec<u8> {
    let mut octets = Vec::new();
    client(edge).write_tls(&mut octets).unwrap();
    octets
}

/// Sends one octet after the other, with pauses, until the edge closes. How many it took.
fn dribble(mut stream: TcpStream, octets: &[u8]) -> usize {
    stream.set_read_timeout(Some(PAUSE)).unwrap();
    for (count, octet) in octets.iter().enumerate() {
        if stream.write_all(std::slice::from_ref(octet)).is_err() {
            return count;
        }
        match stream.read(&mut [0; 64]) {
            Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return count,
            Ok(read) => panic!("{read} octets were an answer to {count}"),
        }
    }
    panic!("it took all {} octets", octets.len());
}

/// It is sent away in time: no pause is shorter than [`PAUSE`], so it got no further than this.
fn dribbles_in_vain(stream: TcpStream, octets: &[u8]) {
    let most = (WHOLE + BUSY).as_millis() / PAUSE.as_millis();
    let count = dribble(stream, octets);
    assert!(count as u128 <= most, "it took {count} octets; {most} in its time");
    say(&format!("{count} of {} octets, one by one", octets.len()));
}

/// TR-08, V-42: a head and a handshake have to be whole in their time, whether something still comes or not.
#[test]
fn who_dribbles_and_who_stops_half_way_is_sent_away() {
    let core = Core::start();
    let edge = edge("dribble", &core);
    let (ws, opening) = websocket::dribbled("dribble-ws", &core);
    let (tls, hello) = (edge.tls.unwrap(), hello(&edge));
    assert!(hello.len() > 200 && opening.len() > 200 && MESSAGE.len() > 200, "some 20 s");
    let (half, rest) = hello.split_at(hello.len() / 2);
    assert!(!rest.is_empty());
    std::thread::scope(|scope| {
        scope.spawn(|| dribbles_in_vain(connect(1, tls), &hello));
        scope.spawn(|| dribbles_in_vain(connect(2, edge.ue), MESSAGE.as_bytes()));
        scope.spawn(|| dribbles_in_vain(connect(3, ws.tls.unwrap()), opening.as_bytes()));
        scope.spawn(|| {
            let mut stream = connect(4, tls);
            stream.write_all(half).unwrap();
            assert!(!closed(stream), "half a hello is answered");
        });
    });
    for (edge, expected) in [(&edge, [2, 1, 0]), (&ws, [1, 0, 0])] {
        assert_eq!(edge.metrics([HANDSHAKES_SLOW, SLOW, HELD]), expected);
    }
    assert!(core.heard.lock().unwrap().is_empty());
    register(&edge, Transport::Tls);
}
