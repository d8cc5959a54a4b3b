//! The actors: the edge with its bootstrapping server, phones that stay, whoever asks once, and the registrar of the core.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::SanType;
use rcgen::string::Ia5String;

use crate::authority::Authority;

/// How long anything may take before it counts as not coming.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn sipward() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sipward"))
}

/// A folder of files for one run; it goes with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("proofs-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, octets: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, octets).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A certificate of that name, for SIP and for HTTP, and its key: `NAME.pem` and `NAME.key`.
    pub(crate) fn certify(&self, authority: &Authority, name: &str, host: &str) {
        let (own, key) = authority.issue_alone(|params| {
            let uri = Ia5String::try_from(format!("sip:{host}")).unwrap();
            let dns = Ia5String::try_from(host).unwrap();
            params.subject_alt_names = vec![SanType::URI(uri), SanType::DnsName(dns)];
        });
        self.write(&format!("{name}.pem"), pem(&own));
        self.write(&format!("{name}.key"), key.serialize_pem());
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate as it stands in a file.
pub(crate) fn pem(der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A process that says things, line by line, on either of its outputs; it ends with the test.
pub(crate) struct Program {
    child: Child,
    said: Receiver<String>,
    heard: Vec<String>,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let errors = child.stderr.take().unwrap();
        Self::of(child, vec![Box::new(errors)])
    }

    /// One whose errors go where `command` says.
    pub(crate) fn start_logged(command: &mut Command) -> Self {
        Self::of(command.stdout(Stdio::piped()).spawn().unwrap(), Vec::new())
    }

    fn of(mut child: Child, mut sides: Vec<Box<dyn Read + Send>>) -> Self {
        sides.push(Box::new(child.stdout.take().unwrap()));
        let (tell, said) = channel();
        for side in sides {
            let (tell, lines) = (tell.clone(), BufReader::new(side).lines());
            thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        }
        Self { child, said, heard: Vec::new() }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it a signal, by the shell's own command: not every machine has the program.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(&mut self) {
        self.signal("TERM");
        self.child.wait().unwrap();
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many lines it has said until now.
    pub(crate) fn so_far(&mut self) -> usize {
        self.heard.extend(self.said.try_iter());
        self.heard.len()
    }

    /// All that it has said, once it has ended.
    pub(crate) fn last_words(&mut self) -> Vec<String> {
        self.heard.extend(self.said.iter());
        std::mem::take(&mut self.heard)
    }

    /// The next line that `wanted` is in.
    pub(crate) fn until(&mut self, wanted: &str) -> String {
        let before = self.heard.len();
        while let Ok(line) = self.said.recv_timeout(PATIENCE) {
            self.heard.push(line.clone());
            if line.contains(wanted) {
                return line;
            }
        }
        panic!("it did not say {wanted:?}: {:?}", &self.heard[before..]);
    }

    /// The address in the next line that begins so.
    pub(crate) fn address(&mut self, of: &str) -> SocketAddr {
        let begins = format!("listening: {of} on ");
        let line = self.until(&begins);
        line.strip_prefix(&begins).unwrap().parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command that asks once said, and whether it was content.
pub(crate) fn ask(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    (output.status.success(), format!("{}{errors}", said.trim()))
}

/// What the page of metrics says now.
pub(crate) fn metrics(page: SocketAddr) -> String {
    let mut stream = TcpStream::connect(page).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// What it says of `row`.
pub(crate) fn metric(page: SocketAddr, row: &str) -> u64 {
    let text = metrics(page);
    let value = text.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {row}: {text}")).parse().unwrap()
}

pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"))
}

/// A secret as it may be written.
pub(crate) fn written(name: &str, octets: &[u8]) -> Vec<(String, Vec<u8>)> {
    let hex = hex(octets);
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, octets);
    let base64 = base64.trim_end_matches('=').to_owned();
    vec![
        (name.to_owned(), octets.to_vec()),
        (format!("{name}, in capitals"), hex.to_uppercase().into()),
        (format!("{name}, in hex"), hex.into()),
        (format!("{name}, in base64"), base64.into()),
    ]
}

/// The core's registrar, on UDP: it grants all, and says by which Path; who calls it is answered.
pub(crate) struct Registrar {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    paths: Receiver<String>,
}

impl Registrar {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (tell, paths) = channel();
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let own = Self { address, heard: Arc::clone(&heard), paths };
        // It ends with the process.
        thread::spawn(move || {
            let mut octets = [0; 8192];
            while let Ok((length, from)) = socket.recv_from(&mut octets) {
                let text = String::from_utf8(octets[..length].to_vec()).unwrap();
                heard.lock().unwrap().push(text.clone());
                let Some(answer) = granted(&text, address) else { continue };
                socket.send_to(answer.as_bytes(), from).unwrap();
                let path = text.split("\r\n").find(|line| line.starts_with("Path: "));
                if let Some(path) = path {
                    let _ = tell.send(path["Path: ".len()..].trim_matches(['<', '>']).to_owned());
                }
            }
        });
        own
    }

    /// What it was asked until now.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// The Path of the next registration.
    pub(crate) fn path(&self) -> String {
        self.paths.recv_timeout(PATIENCE).expect("a REGISTER")
    }
}

/// The answer of a server at that address that grants all; none to an ACK.
pub(crate) fn granted(text: &str, address: SocketAddr) -> Option<String> {
    if text.starts_with("ACK ") {
        return None;
    }
    let line = |name| text.split("\r\n").find(|line| line.starts_with(name));
    let own = format!("Contact: <sip:core@{address}>");
    let forms = text.starts_with("INVITE ") || text.starts_with("SUBSCRIBE ");
    let copied: String = ["Via:", "Record-Route:", "From:", "Call-ID:", "CSeq:"]
        .iter()
        .flat_map(|name| text.split("\r\n").filter(move |line| line.starts_with(name)))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let contact = forms.then_some(own.as_str()).or(line("Contact:")).unwrap_or("X: y");
    let to = line("To:").unwrap();
    let tag = if to.contains(";tag=") { "" } else { ";tag=r" };
    Some(format!(
        "SIP/2.0 200 OK\r\n{copied}{to}{tag}\r\n{contact};expires=600\r\n{EXPIRES}Content-Length: 0\r\n\r\n"
    ))
}

/// What a subscription is granted, and everything else does not mind.
const EXPIRES: &str = "Expires: 600\r\n";
