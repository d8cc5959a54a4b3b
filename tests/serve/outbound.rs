//! SIP outbound through the whole program: our UE with several flows, a registrar that applies outbound, and peers that
//! fall silent.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use sipward::authentication::digest::Hash;
use sipward::client::answer::Credential;
use sipward::client::flows::{Flows, News, Plan};
use sipward::client::ue::{Ue, UeSettings};
use sipward::testing::Signer;
use sipward::transport::Transport;
use sipward::wire::{Message, Name};

use super::{Edge, sipward};

const INSTANCE: &str = "urn:uuid:00000000-0000-4000-8000-000000000001";
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A registrar that applies outbound and asks for a ping each second, and a proxy beside it.
struct Registrar {
    socket: UdpSocket,
    /// REGISTER requests as they came.
    registers: Receiver<String>,
    /// Final responses to what the proxy sent.
    answers: Receiver<u16>,
}

impl Registrar {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ears = socket.try_clone().unwrap();
        let (tell_register, registers) = channel();
        let (tell_answer, answers) = channel();
        // It ends with the process.
        std::thread::spawn(move || {
            let mut octets = [0; 8192];
            while let Ok((length, from)) = ears.recv_from(&mut octets) {
                let text = String::from_utf8(octets[..length].to_vec()).unwrap();
                if let Some(status) = text.strip_prefix("SIP/2.0 ") {
                    let status: u16 = status[..3].parse().unwrap();
                    if status >= 200 {
                        let _ = tell_answer.send(status);
                    }
                    continue;
                }
                let copied: String = text
                    .split("\r\n")
                    .filter(|line| {
                        let names = ["Via:", "From:", "Call-ID:", "CSeq:"];
                        names.iter().any(|name| line.starts_with(name))
                    })
                    .map(|line| format!("{line}\r\n"))
                    .collect();
                let line = |name| text.split("\r\n").find(|line| line.starts_with(name)).unwrap();
                let (to, contact) = (line("To:"), line("Contact:"));
                let zero = line("Expires:").ends_with(" 0");
                let contact =
                    if zero { String::new() } else { format!("{contact};expires=600\r\n") };
                let answer = format!(
                    "SIP/2.0 200 OK\r\n{copied}{to};tag=r\r\n{contact}Require: outbound\r\n\
                     Flow-Timer: 1\r\nContent-Length: 0\r\n\r\n"
                );
                ears.send_to(answer.as_bytes(), from).unwrap();
                let _ = tell_register.send(text);
            }
        });
        Self { socket, registers, answers }
    }

    /// The next REGISTER: its Contact, and its Path without brackets.
    fn registered(&self) -> (String, String) {
        let text = self.registers.recv_timeout(PATIENCE).expect("a REGISTER");
        let line = |name| text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let path = line("Path: ").trim_matches(['<', '>']);
        (line("Contact: ").to_owned(), path.to_owned())
    }

    /// Sends a MESSAGE by a Path, and gives the final answer.
    fn message(&self, path: &str, call: &str) -> u16 {
        let (_, host) = path.split_once('@').unwrap();
        let edge: SocketAddr = host.split(';').next().unwrap().parse().unwrap();
        let request = format!(
            "MESSAGE sip:alice@127.0.0.1 SIP/2.0\r\n\
             Via: SIP/2.0/UDP {};branch=z9hG4bK{call}\r\nMax-Forwards: 70\r\nRoute: <{path}>\r\n\
             From: <sip:bob@example.net>;tag=b\r\nTo: <sip:alice@example.net>\r\nCall-ID: {call}\r\n\
             CSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n",
            self.socket.local_addr().unwrap()
        );
        self.socket.send_to(request.as_bytes(), edge).unwrap();
        self.answers.recv_timeout(PATIENCE).expect("a final answer")
    }
}

fn edge(name: &str, registrar: &Registrar) -> Edge {
    let address = registrar.socket.local_addr().unwrap();
    Edge::start_with(name, |text| {
        text.replace("sip:127.0.0.1:5070;transport=tcp", &format!("sip:{address};transport=udp"))
            .replace("rate = \"6/min\"", "rate = \"100/min\"")
    })
}

fn password(folder: &Path) -> String {
    let accounts = fs::read_to_string(folder.join("accounts.toml")).unwrap();
    let password = accounts.lines().find_map(|line| line.strip_prefix("password = ")).unwrap();
    password.trim_matches('"').to_owned()
}

fn alice(edge: SocketAddr, password: &str, transport: Transport) -> UeSettings {
    let password = password.to_owned().into();
    UeSettings {
        edge,
        edge_name: "edge.example.net".into(),
        transport,
        identity: "sip:alice@example.net".into(),
        credentials: vec![Credential::Account { username: "alice".into(), password, realm: None }],
        floor: Hash::Sha256,
        tls: None,
        psk: None,
        trust: None,
        shows: None,
        sec_agree: false,
        lists: None,
        ws: Default::default(),
        local: None,
        trace: None,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// RFC 5626 sections 5.3.1 and 7, 10.5: the token's flow, then the other one, then 430; V-105 on real sockets.
#[test]
fn two_flows_of_one_device_over_tcp_and_udp() {
    let registrar = Registrar::start();
    let edge = edge("outbound", &registrar);
    let password = password(&edge.folder);
    let runtime = runtime();
    let connect = |transport, id| {
        let settings = alice(edge.ue, &password, transport);
        let ue = runtime.block_on(Ue::connect(settings)).unwrap();
        let answer = runtime.block_on(ue.register_flow(INSTANCE, id, 600)).unwrap();
        assert_eq!(answer.status(), Some(200));
        let keep = answer.top_via().unwrap().param("keep").map(<[u8]>::to_vec);
        assert_eq!(keep.as_deref(), Some(&b"1"[..]), "RFC 6223 section 5: as Flow-Timer");
        let (contact, path) = registrar.registered();
        let device = format!(";reg-id={id};+sip.instance=\"<{INSTANCE}>\"");
        assert!(contact.ends_with(&device), "{contact}");
        assert!(path.ends_with(";ob"), "{path}");
        (ue, path)
    };
    let came = |ue: &Ue| runtime.block_on(ue.incoming(PATIENCE)).expect("a MESSAGE");
    let (first, by_first) = connect(Transport::Tcp, 1);
    let (second, by_second) = connect(Transport::Udp, 2);
    let (third, by_third) = connect(Transport::Tcp, 3);
    for (ue, path, call) in
        [(&first, &by_first, "one"), (&second, &by_second, "two"), (&third, &by_third, "three")]
    {
        assert_eq!(registrar.message(path, call), 200, "{call}");
        assert_eq!(came(ue).call_id(), call.as_bytes());
    }
    drop(third);
    // What another connection gets may be the place that this one had.
    let stranger = TcpStream::connect(edge.ue).unwrap();
    // The phone that is gone may have answered yet: asked again until one comes here.
    let moved_to = |path: &str, name: &str, ues: [&Ue; 2]| {
        for round in 0.. {
            let call = format!("{name}{round}");
            assert_eq!(registrar.message(path, &call), 200, "{call}");
            let at_once = Duration::from_millis(100);
            let heard = ues.iter().find_map(|ue| runtime.block_on(ue.incoming(at_once)));
            if let Some(message) = heard {
                return assert_eq!(message.call_id(), call.as_bytes());
            }
        }
    };
    moved_to(&by_third, "four", [&first, &second]);
    drop(first);
    moved_to(&by_first, "five", [&second, &second]);
    let ended = runtime.block_on(second.register_flow(INSTANCE, 2, 0)).unwrap();
    assert_eq!(ended.status(), Some(200));
    registrar.registered();
    for (path, call) in [(&by_first, "six"), (&by_second, "seven"), (&by_third, "eight")] {
        assert_eq!(registrar.message(path, call), 430, "{call}: all are gone");
    }
    stranger.set_nonblocking(true).unwrap();
    assert!((&stranger).read(&mut [0; 64]).is_err(), "nothing ever reached the stranger");
}

/// KA-01, KA-03: who pings as it was told stays, who does not is closed.
#[test]
fn a_connection_that_does_not_ping_is_closed_and_one_that_does_stays() {
    let registrar = Registrar::start();
    let edge = edge("silent", &registrar);
    let password = password(&edge.folder);
    let runtime = runtime();
    let ue = runtime.block_on(Ue::connect(alice(edge.ue, &password, Transport::Tcp))).unwrap();
    runtime.block_on(ue.register_flow(INSTANCE, 1, 600)).unwrap();
    let (_, path) = registrar.registered();

    let mut silent = TcpStream::connect(edge.ue).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut signer = Signer::new("alice", &password, "example.net");
    let mut credentials = String::new();
    for cseq in 1.. {
        let register = format!(
            "REGISTER sip:example.net SIP/2.0\r\n\
             Via: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKs{cseq}\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@example.net>;tag=s\r\nTo: <sip:alice@example.net>\r\nCall-ID: s\r\n\
             CSeq: {cseq} REGISTER\r\nSupported: path, outbound\r\nExpires: 600\r\n\
             Contact: <sip:alice@127.0.0.1:9;transport=tcp>;reg-id=2;+sip.instance=\"<{INSTANCE}>\"\r\n\
             {credentials}Content-Length: 0\r\n\r\n"
        );
        silent.write_all(register.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut octets = [0; 4096];
            let length = silent.read(&mut octets).unwrap();
            assert_ne!(length, 0, "closed too early");
            answer.extend_from_slice(&octets[..length]);
        }
        let answer = Message::from_datagram(answer.into()).unwrap();
        if answer.status() == Some(200) {
            assert_eq!(answer.first(Name::FlowTimer), Some(&b"1"[..]));
            break;
        }
        assert_eq!((answer.status(), cseq), (Some(407), 1));
        signer.challenged(&answer);
        let signed = signer.credentials("REGISTER", "sip:example.net", b"");
        credentials = format!("Proxy-Authorization: {signed}\r\n");
    }
    registrar.registered();
    assert_eq!(silent.read(&mut [0; 64]).unwrap(), 0, "silent for 1.5 times what it was told");
    assert_eq!(registrar.message(&path, "still"), 200, "the other one has pinged meanwhile");
    assert!(ue.has_served(), "and was answered");
}

/// RFC 5626 section 4.5: a flow whose ping is not answered is formed again, with the same name and number.
#[test]
fn a_flow_that_fails_is_formed_again() {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = door.local_addr().unwrap();
    // An edge that answers one ping, and then none.
    let peer = std::thread::spawn(move || {
        let mut contacts = Vec::new();
        for round in 0..2 {
            let (mut stream, _) = door.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut heard = Vec::new();
            let mut more = |heard: &mut Vec<u8>| {
                let mut octets = [0; 4096];
                let length = stream.read(&mut octets).unwrap();
                heard.extend_from_slice(&octets[..length]);
                length
            };
            while !heard.ends_with(b"Content-Length: 0\r\n\r\n") {
                assert_ne!(more(&mut heard), 0, "no REGISTER");
            }
            let text = String::from_utf8(std::mem::take(&mut heard)).unwrap();
            let lines = ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Contact:"];
            let copied: String = text
                .split_inclusive("\r\n")
                .filter(|line| lines.iter().any(|name| line.starts_with(name)))
                .collect();
            contacts.extend(
                text.lines().filter(|line| line.starts_with("Contact:")).map(str::to_owned),
            );
            let answer = format!(
                "SIP/2.0 200 OK\r\n{copied}Require: outbound\r\nFlow-Timer: 1\r\nContent-Length: 0\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).unwrap();
            let mut octets = [0; 64];
            let length = stream.read(&mut octets).unwrap();
            assert_eq!(&octets[..length], b"\r\n\r\n", "a ping, round {round}");
            stream.write_all(b"\r\n").unwrap();
            let length = stream.read(&mut octets).unwrap();
            assert_eq!(&octets[..length], b"\r\n\r\n", "the next");
            // Closed in the first round; in the second the test is over.
        }
        contacts
    });
    let told: Vec<String> = runtime().block_on(async {
        let mut flows = Flows::start(Plan {
            ways: vec![alice(address, "x", Transport::Tcp)],
            first_id: 7,
            instance: INSTANCE.into(),
            expires: 600,
        })
        .unwrap();
        let mut told = Vec::new();
        while told.len() < 3 {
            let news = tokio::time::timeout(PATIENCE, flows.news()).await.expect("news");
            told.push(match news.expect("it goes on") {
                News::Registered { reg_id, outbound, .. } => format!("{reg_id} {outbound}"),
                News::Lost { reg_id } => format!("{reg_id} lost"),
                other => format!("{other:?}"),
            });
        }
        tokio::task::spawn_blocking(move || peer.join().unwrap())
            .await
            .map(|contacts| {
                assert_eq!(contacts.len(), 2);
                for contact in contacts {
                    let device = format!(";reg-id=7;+sip.instance=\"<{INSTANCE}>\"");
                    assert!(contact.ends_with(&device), "{contact}");
                }
            })
            .unwrap();
        told
    });
    assert_eq!(told, ["7 true", "7 lost", "7 true"]);
}

/// `sipward ue register --reg-id`: both flows, one name for the device in each run.
#[test]
fn the_command_registers_flows_of_one_device() {
    let registrar = Registrar::start();
    let edge = edge("outbound-ue", &registrar);
    let secret = edge.folder.join("password");
    fs::write(&secret, password(&edge.folder)).unwrap();
    let address = edge.ue.to_string();
    let run = |more: &[&str]| {
        let run = sipward()
            .args(["ue", "register", "--edge", &address, "--identity", "sip:alice@example.net"])
            .args(["--account", "alice", "--password-file", secret.to_str().unwrap()])
            .args(["--reg-id", "1", "--transport", "tcp"])
            .args(more)
            .output()
            .unwrap();
        let said = String::from_utf8(run.stdout).unwrap();
        (run.status.code(), said, String::from_utf8(run.stderr).unwrap())
    };
    let (code, _, errors) = run(&[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("--instance"), "{errors}");
    let name = edge.folder.join("device");
    let named = ["--instance", name.to_str().unwrap(), "--also", &address];
    let mut seen = Vec::new();
    for more in [&[][..], &["--stay", "1"], &["--json"]] {
        let (code, said, errors) = run(&[&named, more].concat());
        assert_eq!(code, Some(0), "{said}{errors}");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        if more == ["--json"] {
            assert_eq!(lines[1], r#"{"flow":2,"outbound":true,"reason":"OK","status":200}"#);
        } else {
            assert!(
                said.contains("flow 1: 200 OK\n") && said.contains("flow 2: 200 OK\n"),
                "{said}"
            );
        }
        let stays = more.first() == Some(&"--stay");
        for _ in 0..if stays { 4 } else { 2 } {
            let (contact, _) = registrar.registered();
            seen.push(contact.split_once("+sip.instance=").unwrap().1.to_owned());
        }
    }
    seen.dedup();
    let device = fs::read_to_string(name).unwrap();
    assert_eq!(seen, [format!("\"<{}>\"", device.trim())]);
}
