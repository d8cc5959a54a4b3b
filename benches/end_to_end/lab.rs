//! The laboratory: addresses, certificates, a folder for the files of a run, and the processes that are measured.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SanType};

use super::measure::Meter;
use super::net;
use super::{DOMAIN, EDGE_NAME};

/// The core of what is measured, and that of generator and backend.
/// The cores of an anchor.
pub(crate) const ONE: &[usize] = &[0];
/// Of one with two workers.
pub(crate) const BOTH: &[usize] = &[0, 1];
const GENERATOR: &[usize] = &[1];

/// What UEs speak over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Transport {
    Udp,
    Tcp,
    Tls,
    /// TLS with a shared key
    PskTls,
    /// DTLS with a shared key
    Dtls,
}

impl Transport {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::PskTls => "PSK-TLS",
            Self::Dtls => "DTLS",
        }
    }

    /// As it stands in a Via.
    pub(crate) fn via(self) -> &'static str {
        match self {
            Self::PskTls => "TLS",
            Self::Dtls => "DTLS-UDP",
            other => other.as_str(),
        }
    }

    /// Whether both ends have a key.
    pub(crate) fn has_keys(self) -> bool {
        matches!(self, Self::PskTls | Self::Dtls)
    }

    /// Whether requests have to be sent again.
    pub(crate) fn loses(self) -> bool {
        matches!(self, Self::Udp | Self::Dtls)
    }
}

/// Where one anchor stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) transport: Transport,
    /// The anchor's own address.
    pub(crate) ip: Ipv4Addr,
    /// Of the server behind it.
    pub(crate) backend: SocketAddrV4,
}

impl Plan {
    /// Addresses that nothing before it had, so that nothing lingers there.
    pub(crate) fn new(transport: Transport) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let net = ((std::process::id() * 7 + count) % 250) as u8;
        let backend = SocketAddrV4::new(Ipv4Addr::new(127, 88, net, 2), 5060);
        Self { transport, ip: Ipv4Addr::new(127, 88, net, 1), backend }
    }

    /// Where UEs knock.
    pub(crate) fn door(&self) -> SocketAddrV4 {
        match self.transport {
            Transport::Udp | Transport::Tcp => self.at(5060),
            Transport::Tls | Transport::PskTls | Transport::Dtls => self.at(5061),
        }
    }

    /// One of the anchor's ports.
    pub(crate) fn at(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.ip, port)
    }
}

/// The address of a UE: each has a network of its own, as UEs have.
pub(crate) fn ue_address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 10 + (number / 250 % 70) as u8, (number % 250) as u8, 1)
}

/// The kind of key in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Ecdsa,
    Rsa,
}

impl KeyKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ecdsa => "ECDSA P-256",
            Self::Rsa => "RSA-2048",
        }
    }
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// The files of a run, gone when it ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> io::Result<Self> {
        const NAME: &str = "sipward-bench-";
        for entry in fs::read_dir(std::env::temp_dir())?.flatten() {
            // What a run that was killed left behind.
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix(NAME)?.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                let _not_ours = fs::remove_dir_all(entry.path());
            }
        }
        let path = std::env::temp_dir().join(format!("{NAME}{}", std::process::id()));
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(Self(path))
    }

    /// A new folder in it.
    pub(crate) fn inner(&self, name: &str) -> io::Result<PathBuf> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.0.join(format!("{name}-{count}"));
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// A certificate that carries the edge's name, signed by itself.
    pub(crate) fn certificate(&self, kind: KeyKind) -> Result<Certificate, String> {
        let name = match kind {
            KeyKind::Ecdsa => "ecdsa",
            KeyKind::Rsa => "rsa",
        };
        let certificate = Certificate {
            chain: self.0.join(format!("{name}.pem")),
            key: self.0.join(format!("{name}.key")),
        };
        if certificate.key.exists() {
            return Ok(certificate);
        }
        let key = match kind {
            KeyKind::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            KeyKind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
        };
        let key = key.map_err(|error| error.to_string())?;
        let mut params = CertificateParams::new([EDGE_NAME.to_owned(), DOMAIN.to_owned()])
            .map_err(|error| error.to_string())?;
        let uri = format!("sip:{EDGE_NAME}").try_into();
        params.subject_alt_names.push(SanType::URI(uri.map_err(|_| "a name is ASCII")?));
        let signed = params.self_signed(&key).map_err(|error| error.to_string())?;
        write_secret(&certificate.chain, &signed.pem()).map_err(|error| error.to_string())?;
        write_secret(&certificate.key, &key.serialize_pem()).map_err(|error| error.to_string())?;
        Ok(certificate)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

/// Writes a file that only its owner reads.
pub(crate) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    File::create(path)?.set_permissions(fs::Permissions::from_mode(0o600))?;
    fs::write(path, text)
}

/// One process that is measured, with all that it started.
pub(crate) struct Anchor {
    pub(crate) meter: Meter,
    child: Child,
    log: PathBuf,
}

impl Anchor {
    /// Starts `command` on `cores`, and waits until it answers at its door.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        plan: &Plan,
        folder: &Path,
        cores: &[usize],
        patience: Duration,
    ) -> Result<Self, String> {
        let log = folder.join("log");
        let file = File::create(&log).map_err(|error| error.to_string())?;
        let errors = file.try_clone().map_err(|error| error.to_string())?;
        command.current_dir(folder).stdin(Stdio::null()).stdout(file).stderr(errors);
        net::tie(&mut command);
        net::pin(cores);
        let started = command.spawn();
        pin_generator();
        let child = started.map_err(|error| format!("{name} does not start: {error}"))?;
        let meter = Meter::of(child.id());
        let mut anchor = Self { meter, child, log };
        let began = Instant::now();
        while !answers(plan) {
            let ended = matches!(anchor.child.try_wait(), Ok(Some(_)));
            if ended || began.elapsed() > patience {
                return Err(format!("{name} does not answer:\n{}", anchor.said()));
            }
            pause(Duration::from_millis(20));
        }
        anchor.settle();
        Ok(anchor)
    }

    /// Looks once more which processes belong to it: a door may open before all have started.
    pub(crate) fn settle(&mut self) {
        self.meter = Meter::of(self.child.id());
    }

    /// The end of what it has said.
    pub(crate) fn said(&self) -> String {
        let octets = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&octets);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        let all = Meter::of(self.child.id());
        net::signal(self.child.id(), libc::SIGTERM);
        let began = Instant::now();
        while !matches!(self.child.try_wait(), Ok(Some(_))) {
            if began.elapsed() > Duration::from_secs(5) {
                all.pids().for_each(|pid| net::signal(pid, libc::SIGKILL));
                let _status = self.child.wait();
                return;
            }
            pause(Duration::from_millis(20));
        }
    }
}

/// Keeps this process to the generator's core.
pub(crate) fn pin_generator() -> bool {
    net::pin(GENERATOR)
}

/// Lets time pass.
pub(crate) fn pause(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|t| !t.is_zero()) {
        thread::park_timeout(left);
    }
}

/// Whether OPTIONS is answered at the door; over streams, whether it opens.
fn answers(plan: &Plan) -> bool {
    let door = plan.door();
    if plan.transport != Transport::Udp {
        return TcpStream::connect_timeout(&door.into(), Duration::from_millis(300)).is_ok();
    }
    let ask = || -> io::Result<bool> {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 88, 250, 1), 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let from = socket.local_addr()?;
        let request = format!(
            "OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {from};rport;branch=z9hG4bKprobe{}\r\n\
            Max-Forwards: 70\r\nFrom: <sip:p@{DOMAIN}>;tag=1\r\nTo: <sip:{DOMAIN}>\r\nCall-ID: p{}\r\n\
            CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
            from.port(),
            from.port(),
        );
        socket.send_to(request.as_bytes(), door)?;
        let mut answer = [0; 2048];
        let length = socket.recv(&mut answer)?;
        Ok(answer[..length].starts_with(b"SIP/2.0 "))
    };
    ask().unwrap_or(false)
}
