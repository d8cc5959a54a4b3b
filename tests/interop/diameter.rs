//! Diameter against an independent stack: freeDiameter takes our capabilities and watchdogs, in the clear and over
//! TLS; tshark reads every message of ours, and knows each AVP in it.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sipward::identity::{Btid, Impi, Impu, Ptid};
use sipward::instant::{Instant, WallTime};
use sipward::keys::bootstrap::{Home, HomeAnswer, NafRefusal, NoPush};
use sipward::keys::diameter::ask::{Asker, Neighbour, Reply};
use sipward::keys::diameter::base::{Verdict, verdict};
use sipward::keys::diameter::codec::{Fault, Message, Printed, header};
use sipward::keys::diameter::link::{Input, Link, Output, Pace};
use sipward::keys::diameter::zn::ServiceForm;
use sipward::keys::diameter::{Local, dictionary, zh, zn, zpn};
use sipward::keys::milenage::Milenage;
use sipward::keys::push::{PushInfo, PushRequest};
use sipward::keys::sqn::Sqn;
use sipward::keys::subscribers::{Card, Guss};
use sipward::keys::vector::{Algorithms, Auts};
use sipward::keys::{KsNaf, NafId, NafKey, Rand, UaId};
use sipward::transport::tls::ClientTls;

use crate::loopback;
use crate::papers::{Authority, Paper};
use crate::peer::{Folder, Peer, find};

const PORT: u16 = 3868;
const SECURE_PORT: u16 = 5868;

/// A freeDiameter that knows `edge.example.net` and lets it in.
struct FreeDiameter {
    peer: Peer,
    address: SocketAddr,
    secure: SocketAddr,
    own: Paper,
    authority: Authority,
    _folder: Folder,
}

impl FreeDiameter {
    fn start() -> Self {
        let (folder, authority) = (Folder::new("freediameter"), Authority::new("diameter"));
        let papers = authority.issue(&["fd.example.net"]);
        let certificate = folder.write("fd.pem", &papers.certificate);
        let key = folder.write("fd.key", &papers.key);
        let ca = folder.write("ca.pem", &authority.pem());
        let ip = loopback::address();
        let program = find("freeDiameterd", "freediameter");
        // The list of those that may come: in the clear as well as over TLS.
        let list = folder.write("peers.conf", "ALLOW_IPSEC edge.example.net\n");
        let extension = "/usr/lib/freeDiameter/acl_wl.fdx";
        assert!(
            std::path::Path::new(extension).is_file(),
            "Debian package freediameter-extensions"
        );
        let config = format!(
            "Identity = \"fd.example.net\";\nRealm = \"example.net\";\nPort = {PORT};\n\
             SecPort = {SECURE_PORT};\nNo_SCTP;\nNo_IPv6;\nListenOn = \"{ip}\";\nTwTimer = 6;\n\
             TLS_Cred = \"{}\", \"{}\";\nTLS_CA = \"{}\";\nLoadExtension = \"{extension}\" : \"{}\";\n",
            certificate.display(),
            key.display(),
            ca.display(),
            list.display(),
        );
        let config = folder.write("fd.conf", &config);
        let mut command = Command::new("sh");
        // It tells everything on the standard output, and keeps it back unless told otherwise.
        command.args(["-c", "exec stdbuf -oL \"$0\" -c \"$1\" -dd >&2"]).arg(program).arg(config);
        let peer = Peer::start("freeDiameterd", &mut command);
        let (address, secure) = (SocketAddr::new(ip, PORT), SocketAddr::new(ip, SECURE_PORT));
        let ready = peer.await_that(Duration::from_secs(30), |_| {
            let bound = [address, secure].iter().all(|at| loopback::is_bound("tcp", *at));
            bound.then_some(())
        });
        assert!(ready.is_some(), "freeDiameterd does not listen on {address}:\n{}", peer.said());
        let own = authority.issue(&["edge.example.net"]);
        Self { peer, address, secure, own, authority, _folder: folder }
    }
}

fn local(host: &str) -> Arc<Local> {
    Arc::new(Local {
        host: host.into(),
        realm: "example.net".into(),
        product: "sipward".into(),
        applications: vec![dictionary::ZN, dictionary::ZPN, dictionary::ZH],
        state_id: 1_795_692_765,
    })
}

/// A connection of ours, in a time of its own.
struct Line {
    stream: TcpStream,
    link: Link,
    now: Instant,
    opened: bool,
    sent: Vec<u32>,
    /// Commands that came, and whether each was a request.
    heard: Vec<(u32, bool)>,
    ended: bool,
}

impl Line {
    fn drain(&mut self) {
        while let Some(output) = self.link.poll_output() {
            match output {
                Output::Send(octets) => {
                    let header = header(&octets).unwrap();
                    self.sent.push(header.command);
                    self.stream.write_all(&octets).unwrap();
                }
                Output::Open(of) => {
                    assert_eq!((&*of.host, &*of.realm), ("fd.example.net", "example.net"));
                    self.opened = true;
                }
                Output::Close(_) => self.ended = true,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads until `done`; time stands still.
    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let mut octets = [0; 4096];
        while !done(self) {
            let length = self.stream.read(&mut octets).expect("freeDiameter speaks");
            assert_ne!(length, 0, "freeDiameter closed the connection");
            let header = header(&octets[..length]).expect("a message");
            self.heard.push((header.command, header.is_request()));
            let _ended = self.link.handle(Input::Octets(&octets[..length]), self.now);
            self.drain();
        }
    }
}

/// CER and CEA, our watchdog and theirs, and a parting in order.
#[test]
fn freediameter_takes_our_capabilities_watchdogs_and_parting() {
    let fd = FreeDiameter::start();
    let stream = TcpStream::connect(fd.address).expect("freeDiameter listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let own = stream.local_addr().unwrap().ip();
    let (now, pace) = (Instant::START, Pace::default());
    let local = local("edge.example.net");
    let link = Link::dialled(local, own, "fd.example.net".into(), pace, (1, 1), now);
    let mut line =
        Line { stream, link, now, opened: false, sent: vec![], heard: vec![], ended: false };
    line.drain();
    line.until(|line| line.opened);

    // Our watchdog is answered: silent for as long again, the link asks again instead of giving up.
    for watchdogs in 1..=2 {
        let due = line.link.poll_timeout().expect("a watchdog comes");
        line.now = due;
        line.link.handle(Input::Tick, due).expect("it stands");
        line.drain();
        assert_eq!(line.sent.iter().filter(|sent| **sent == 280).count(), watchdogs);
        let answers = |line: &Line| line.heard.iter().filter(|it| **it == (280, false)).count();
        line.until(|line| answers(line) == watchdogs);
        assert!(line.link.is_open());
    }
    // Theirs, after six seconds of silence, is answered by DWA.
    line.until(|line| line.heard.contains(&(280, true)));
    assert_eq!(line.sent.iter().filter(|sent| **sent == 280).count(), 3);

    line.link.handle(Input::Stop, line.now).expect("a parting");
    line.drain();
    line.until(|line| line.ended);
    let said = fd.peer.await_that(Duration::from_secs(10), |lines| {
        let all = lines.join("\n");
        (all.contains("edge.example.net") && all.contains("OPEN")).then_some(all)
    });
    assert!(said.is_some(), "{}", fd.peer.said());
}

/// The same by the task that the program runs, in the clear and over TLS with certificates at both ends: a question is
/// answered, with freeDiameter's word that it knows nobody to pass it on to.
#[test]
fn freediameter_answers_what_our_task_asks_over_tcp_and_tls() {
    let fd = FreeDiameter::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let trust = fd.authority.trust();
    let tls = Arc::new(ClientTls::new(trust, Some(&fd.own.read())).unwrap());
    for (address, tls) in [(fd.address, None), (fd.secure, Some(tls))] {
        let secure = tls.is_some();
        let answer = runtime.block_on(async {
            let neighbour = Neighbour { host: "fd.example.net".into(), address, tls };
            let (stop, stopped) = tokio::sync::watch::channel(false);
            let pace = Pace { answer: Duration::from_secs(20), ..Pace::default() };
            let (asker, task) =
                Asker::start(local("edge.example.net"), vec![neighbour], pace, stopped);
            let question = question(asker.session());
            let (tell, told) = tokio::sync::oneshot::channel();
            let printed = question.print(asker.local(), asker.end());
            asker.ask(printed, Reply::to(move |answer| drop(tell.send(answer))));
            let answer = told.await.expect("told once");
            stop.send_replace(true);
            task.await.expect("it parts");
            answer
        });
        let answer = answer.unwrap_or_else(|| panic!("TLS: {secure}\n{}", fd.peer.said()));
        let message = Message::parse(&answer).expect("a message");
        let code = Verdict::Base(dictionary::UNABLE_TO_DELIVER);
        assert_eq!(verdict(&message), Ok(code), "TLS: {secure}");
    }
}

fn question(session: String) -> zn::Question {
    zn::Question {
        session,
        realm: "nowhere.example.org".into(),
        host: None,
        btid: Btid::new("I1U8vpY3qJ0hiuZNrke/NQ==@bsf.home1.net").unwrap(),
        naf: NafId::new("sip.naf1.home1.net", UaId::SIP_DIGEST),
        services: vec![0, 5],
        form: ServiceForm::Text,
    }
}

/// Every kind of message that we send, each with a name.
fn all() -> Vec<(&'static str, Printed)> {
    let (edge, bsf, hss) =
        (local("edge.example.net"), local("bsf.example.net"), local("hss.example.net"));
    let ip = loopback::address();
    let cer = edge.cer(ip, 1, 1);
    let cer_header = Message::parse(&cer).unwrap().header;
    let dwr = edge.dwr(2, 2);
    let dwr_header = Message::parse(&dwr).unwrap().header;
    let dpr = edge.dpr(3, 3);
    let dpr_header = Message::parse(&dpr).unwrap().header;
    let mut asked = question("edge.example.net;1;1".into());
    asked.realm = Arc::clone(&bsf.realm);
    asked.host = Some(Arc::clone(&bsf.host));
    let bir = asked.print(&edge, 4);
    let request = Message::parse(&bir).unwrap();
    let key = NafKey {
        key: KsNaf::new([7; 32]),
        impi: Impi::new("user1_private@home1.net"),
        identities: Arc::from([Impu::new("sip:user1@home1.net").unwrap()]),
        uss: Arc::from([]),
        expires: WallTime::from_unix(1_795_515_198),
        created: WallTime::from_unix(1_795_471_998),
        kind: Default::default(),
        ready: Default::default(),
    };
    let bia = zn::answer(&bsf, &request, &[0, 5], Ok(&key));
    let unknown = zn::answer(&bsf, &request, &[0, 5], Err(NafRefusal::UnknownBtid));
    let refused = bsf.refuse(
        &request.header,
        Some(&request),
        Fault::about(dictionary::MISSING_AVP, &dictionary::NAF_ID),
    );
    let impi = Impi::new("user1_private@home1.net").unwrap();
    let mut ask = zh::Question {
        session: "bsf.example.net;1;1".into(),
        realm: Arc::clone(&hss.realm),
        impi: impi.clone(),
        resync: None,
    };
    let mar = ask.print(&bsf, 5);
    ask.resync = Some((Rand([1; 16]), Auts([2; 14])));
    let resync = ask.print(&bsf, 6);
    let card = Algorithms::Milenage(Milenage::with_opc(&[5; 16], &[6; 16]));
    let vector = card.vector(Rand([3; 16]), Sqn::new(1, 1), [0x80, 0]);
    let guss = Guss {
        card: Card::Gba,
        key_lifetime: Some(Duration::from_secs(3600)),
        impus: Arc::from([Impu::new("sip:user1@home1.net").unwrap()]),
        uss: Arc::from([]),
    };
    let home = HomeAnswer::Known(Box::new(Home { vector, guss: Arc::new(guss) }));
    let request = Message::parse(&mar).unwrap();
    let maa = zh::answer(&hss, &request, &impi, &home);
    let nobody = zh::answer(&hss, &request, &impi, &HomeAnswer::Unknown);
    let wrong = zh::answer(&hss, &request, &impi, &HomeAnswer::AutsWrong);
    let mut messages = pushes(&edge, &bsf);
    messages.extend([
        ("CER", cer),
        ("CEA", bsf.cea(&cer_header, ip, dictionary::SUCCESS)),
        ("DWR", dwr),
        ("DWA", bsf.dwa(&dwr_header)),
        ("DPR", dpr),
        ("DPA", bsf.dpa(&dpr_header)),
        ("BIR", bir.clone()),
        ("BIA", bia),
        ("BIA 5403", unknown),
        ("BIA refused", refused),
        ("MAR", mar.clone()),
        ("MAR AUTS", resync),
        ("MAA", maa),
        ("MAA unknown", nobody),
        ("MAA AUTS", wrong),
    ]);
    messages
}

/// Those of Zpn.
fn pushes(push: &Local, bsf: &Local) -> Vec<(&'static str, Printed)> {
    let mut ask = zpn::Question {
        session: "edge.example.net;1;2".into(),
        realm: Arc::clone(&bsf.realm),
        host: Some(Arc::clone(&bsf.host)),
        request: PushRequest {
            impi: Impi::new("user1_private@home1.net").unwrap(),
            naf: NafId::new("push.home1.net", UaId::PUSH_LAYER),
            ptid: Ptid::new("p-0000000001").unwrap(),
            expires: WallTime::from_unix(1_795_515_198),
            resync: None,
        },
    };
    let gpr = ask.print(push, 7);
    ask.request.resync = Some((Rand([1; 16]), Auts([2; 14])));
    let resync = ask.print(push, 8);
    let info = PushInfo {
        rand: Rand([3; 16]),
        key: KsNaf::new([7; 32]),
        expires: WallTime::from_unix(1_795_515_198),
        gpi: vec![0x10; 93].into(),
    };
    let answer = |request: &Printed, found| {
        let request = Message::parse(request).unwrap();
        let asked = zpn::request(&request, bsf).unwrap();
        zpn::answer(bsf, &request, &asked, found, WallTime::from_unix(1_795_471_998))
    };
    let given = answer(&gpr, Ok(&info));
    let unknown = answer(&gpr, Err(NoPush::Unknown));
    let forbidden = answer(&gpr, Err(NoPush::NotAuthorised));
    let wrong = answer(&resync, Err(NoPush::AutsWrong));
    let paced = answer(&gpr, Err(NoPush::Paced(Duration::from_secs(1))));
    let unmade = Fault::about(dictionary::UNABLE_TO_COMPLY, &dictionary::UICC_ME);
    let whole = Message::parse(&gpr).unwrap();
    let refused = bsf.refuse(&whole.header, Some(&whole), unmade);
    vec![
        ("GPR", gpr.clone()),
        ("GPR AUTS", resync),
        ("GPA", given),
        ("GPA 5401", unknown),
        ("GPA 5402", forbidden),
        ("GPA AUTS", wrong),
        ("GPA too often", paced),
        ("GPA refused", refused),
    ]
}

/// A recording of these messages, one a packet, over TCP and IPv4, as `pcap` files are written.
fn recorded(messages: &[(&str, Printed)]) -> Vec<u8> {
    let mut file = Vec::new();
    // Magic, version 2.4, no zone, no accuracy, the longest packet, packets begin with IP.
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0]);
    for word in [0_u32, 0, 65_535, 101] {
        file.extend(word.to_le_bytes());
    }
    let mut at = [1_u32, 1];
    for ((_, message), second) in messages.iter().zip(0_u32..) {
        let request = message[4] & 0x80 != 0;
        let ports = if request { [40_000_u16, PORT] } else { [PORT, 40_000] };
        let hosts = if request {
            [[192, 0, 2, 1], [192, 0, 2, 2]]
        } else {
            [[192, 0, 2, 2], [192, 0, 2, 1]]
        };
        let (own, other) = if request { (0, 1) } else { (1, 0) };
        let length = u16::try_from(40 + message.len()).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        packet.extend(hosts.concat());
        ports.iter().for_each(|port| packet.extend(port.to_be_bytes()));
        packet.extend(at[own].to_be_bytes());
        packet.extend(at[other].to_be_bytes());
        // Five words of header, ACK and PSH, a window.
        packet.extend([0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend_from_slice(message);
        at[own] += u32::try_from(message.len()).unwrap();
        for word in [second, 0, u32::from(length), u32::from(length)] {
            file.extend(word.to_le_bytes());
        }
        file.extend(packet);
    }
    file
}

/// tshark's dictionary knows every AVP of every message, and finds nothing malformed.
#[test]
fn tshark_knows_every_avp_that_we_send() {
    let folder = Folder::new("tshark");
    let messages = all();
    let path = folder.path().join("diameter.pcap");
    std::fs::write(&path, recorded(&messages)).unwrap();
    let run = Command::new(find("tshark", "tshark"))
        .args([
            "-O",
            "diameter",
            "-n",
            "-o",
            "tcp.check_checksum:FALSE",
            "-o",
            "ip.check_checksum:FALSE",
            "-r",
        ])
        .arg(&path)
        .output()
        .expect("tshark runs");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let mut commands = String::new();
    for line in said.lines().filter(|line| line.contains("Command Code:")) {
        let _ = writeln!(commands, "{}", line.trim());
    }
    assert_eq!(commands.lines().count(), messages.len(), "{commands}");
    for (command, count) in [
        ("Capabilities-Exchange (257)", 2),
        ("Device-Watchdog (280)", 2),
        ("Disconnect-Peer (282)", 2),
        ("Boostrapping-Info (310)", 4),
        ("GBAPush-Info (312)", 8),
        ("Multimedia-Auth (303)", 5),
    ] {
        let found = commands.lines().filter(|line| line.contains(command)).count();
        assert_eq!(found, count, "{command}: {commands}");
    }
    for bad in
        ["Malformed", "Unknown", "unknown", "Expert Info (Error", "Expert Info (Warn", "not valid"]
    {
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(bad)).collect();
        assert!(lines.is_empty(), "{bad}: {lines:#?}");
    }
    let avps = said.lines().filter(|line| line.trim_start().starts_with("AVP: ")).count();
    assert!(avps > 200, "{avps} AVPs are told of");
    assert_eq!(
        said.lines().filter(|line| line.contains("ApplicationId: 3GPP Zpn (16777268)")).count(),
        8
    );
}
