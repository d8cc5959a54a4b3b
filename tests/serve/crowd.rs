//! Ten thousand who say nothing, and a few who say it too slowly: nobody else waits for them, and they are sent away.

use std::net::Ipv4Addr;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use socket2::{Domain, Socket, Type};

use super::*;

/// Who say nothing, and from how many addresses.
const SILENT: usize = 10_000;
const ADDRESSES: usize = 250;
/// What one of them may cost the edge, in octets.
const EACH_MAX: usize = 4096;
/// Files that a test holds open beside them.
const OTHER_FILES: u64 = 256;

const LOAD: &str = "sipward_load";
const HELD: &str = "sipward_connections_unauthenticated";
const SLOW: &str = "sipward_transport_total{event=\"slow\"}";
const HANDSHAKES_SLOW: &str = "sipward_transport_total{event=\"handshakes_slow\"}";
const HANDSHAKES_CROWDED: &str = "sipward_transport_total{event=\"handshakes_crowded\"}";

/// An edge that bounds nothing but what it does by itself.
fn edge(name: &str, core: &Core) -> Edge {
    Edge::start_with(name, |text| {
        let peer = format!("sip:{};transport=udp", core.address);
        text.replace("sip:127.0.0.1:5070;transport=tcp", &peer)
    })
}

/// A connection from the address of that number.
fn connect(number: usize, edge: SocketAddr) -> TcpStream {
    let [.., high, low] = u32::try_from(number).unwrap().to_be_bytes();
    let from = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&edge.into()).unwrap();
    socket.into()
}

/// Octets of the edge that are in memory.
fn resident(edge: &Edge) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", edge.child.id())).unwrap();
    let row = status.lines().find_map(|row| row.strip_prefix("VmRSS:")).expect(&status);
    row.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

fn register(edge: &Edge, transport: Transport) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let ue = Ue::connect(alice(edge, transport)).await.unwrap();
        ue.register(600).await.unwrap()
    });
    assert_eq!(answer.status(), Some(200), "{transport:?}");
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

/// V-45, TR-08: as many as one edge may meet, of each of whom it has seen no more than an address.
fn v_45(name: &str, transport: Transport) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let needed = u64::try_from(SILENT).unwrap() + OTHER_FILES;
    assert!(hard >= needed, "this needs {needed} open files; the system gives {hard} (ulimit -Hn)");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let core = Core::start();
    let edge = edge(name, &core);
    register(&edge, transport);
    let before = resident(&edge);
    let address = if transport == Transport::Tls { edge.tls.unwrap() } else { edge.ue };
    let silent: Vec<_> = (0..SILENT).map(|number| connect(number % ADDRESSES, address)).collect();
    loop {
        let [held, slow] = edge.metrics([HELD, SLOW]);
        assert_eq!(slow, 0, "they are not all there before the first has to go");
        if held >= SILENT as u64 {
            break;
        }
    }
    register(&edge, transport);
    let [held] = edge.metrics([HELD]);
    assert!(held >= SILENT as u64, "{held} are held while somebody registers");
    let more = resident(&edge).saturating_sub(before);
    say(&format!("{name}: {SILENT} silent connections cost the edge {} kB", more / 1024));
    assert!(more <= SILENT * EACH_MAX, "{} octets for each", more / SILENT);
    for stream in silent {
        assert!(!closed(stream), "it is told something");
    }
    loop {
        // So many ends at once may have taken its breath; until it has it again, strangers are put off.
        let [held, slow, crowded, load] = edge.metrics([HELD, SLOW, HANDSHAKES_CROWDED, LOAD]);
        if held == 0 && load == 0 {
            assert_eq!((slow, crowded), (SILENT as u64, 0), "each for its silence");
            break;
        }
    }
    register(&edge, transport);
}

#[test]
fn v_45_ten_thousand_silent_connections_over_tcp() {
    v_45("crowd-tcp", Transport::Tcp);
}

#[test]
fn v_45_ten_thousand_silent_connections_over_tls() {
    v_45("crowd-tls", Transport::Tls);
}

/// A whole ClientHello.
fn hello(edge: &Edge) -> Vec<u8> {
    let trust = alice(edge, Transport::Tls).tls.unwrap();
    let name = ServerName::try_from("edge.example.net").unwrap();
    let mut octets = Vec::new();
    ClientConnection::new(trust, name).unwrap().write_tls(&mut octets).unwrap();
    octets
}

/// Sends one octet after the other, in pauses of a tenth of a second, until the edge closes. How many it took.
fn dribble(mut stream: TcpStream, octets: &[u8]) -> usize {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
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
        scope.spawn(|| dribble(connect(1, tls), &hello));
        scope.spawn(|| dribble(connect(2, edge.ue), MESSAGE.as_bytes()));
        scope.spawn(|| dribble(connect(3, ws.tls.unwrap()), opening.as_bytes()));
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
