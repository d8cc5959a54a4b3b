//! Keys over Nbsp_GBA by configuration alone: a bootstrapping server in one process, the edge in another, with real
//! sockets and certificates at both ends; then the server away, and back again.

use std::io::BufRead;

use sha2::{Digest as _, Sha256};

use super::papers::{Authority, Paper};
use super::zn::{bootstrapped, heard, list, register};
use super::*;

/// Puts a certificate and whom to trust into a folder; the table that names them.
pub(super) fn papers(folder: &Path, paper: &Paper, authority: &Authority) -> String {
    fs::create_dir_all(folder).unwrap();
    for (name, text) in
        [("own.pem", &paper.certificate), ("own.key", &paper.key), ("ca.pem", &authority.pem())]
    {
        fs::write(folder.join(name), text).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let at = folder.display();
    format!(
        "tls = {{ certificate = \"{at}/own.pem\", key = \"{at}/own.key\", ca = \"{at}/ca.pem\" }}"
    )
}

/// The bootstrapping server; its subscribers are those of `list`.
fn server(folder: &Path, tls: &str, at: [SocketAddr; 2], list: &Path) -> (Child, [SocketAddr; 2]) {
    server_by(sipward(), folder, tls, at, list)
}

fn server_by(
    mut command: Command,
    folder: &Path,
    tls: &str,
    at: [SocketAddr; 2],
    list: &Path,
) -> (Child, [SocketAddr; 2]) {
    let text = format!(
        r#"
[bsf]
name = "bsf.example.net"
listen = "{}"
subscribers = "{}"
[nbsp]
listen = "{}"
{tls}
[[nbsp.naf]]
host = "edge.example.net"
fqdns = ["edge.example.net"]
sees_impi = true
"#,
        at[0],
        list.display(),
        at[1]
    );
    fs::write(folder.join("sipward.toml"), text).unwrap();
    command.arg("serve").arg("-c").arg(folder.join("sipward.toml"));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let at = heard(child.stdout.take().unwrap(), ["bootstrapping server", "Nbsp_GBA"]);
    (child, at)
}

/// An edge whose keys come from the server at `at`; `more` stands with it.
fn edge(name: &str, core: &Core, tls: &str, at: SocketAddr, more: &str) -> Edge {
    Edge::start_with(name, |text| {
        let peer = format!("sip:{};transport=udp", core.address);
        let text = text.replace("sip:127.0.0.1:5070;transport=tcp", &peer);
        let text = text.replace("rate = \"6/min\"", "rate = \"600/min\"");
        let (before, rest) = text.split_once("\n[bsf]").unwrap();
        let (_, after) = rest.split_once("\n[register]").unwrap();
        format!(
            "{before}\n[nbsp]\n{tls}\n[[nbsp.server]]\nbsf = [\"bsf.example.net\"]\n\
             hosts = [\"localhost:{}\"]\n{more}\n[register]{after}",
            at.port()
        )
    })
}

/// The acceptance of Nbsp_GBA: a registration with keys of another process; none while it is away, with the refusal that
/// says so; and again once it is back, without a restart of the edge.
#[test]
fn registers_with_keys_asked_for_over_http_2_and_recovers() {
    let (core, list, authority) = (Core::start(), list(), Authority::new("nbsp"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve-nbsp");
    let of_server = papers(&folder.join("bsf"), &authority.issue(&["localhost"]), &authority);
    let of_edge = papers(&folder.join("edge"), &authority.issue(&["edge.example.net"]), &authority);
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let (mut child, at) = server(&folder.join("bsf"), &of_server, [any, any], &list);
    let edge = edge("nbsp-edge", &core, &of_edge, at[1], "");
    let keys = bootstrapped(at[0], &list, 0).unwrap();
    assert_eq!(register(&edge, &keys), Ok(200));
    let seen = core.heard.lock().unwrap().clone();
    assert!(seen[0].contains("P-Asserted-Identity: <sip:ue1@example.net>"), "{seen:?}");

    // A second key, which the edge does not have yet; then the server goes.
    let later = bootstrapped(at[0], &list, 100).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(register(&edge, &later), Ok(503), "V-31, down");
    assert_eq!(register(&edge, &keys), Ok(200), "a key that is here is good until its own end");

    // It comes back, without its sessions: the UE is to bootstrap again, and then all is well.
    let (mut child, at) = server(&folder.join("bsf"), &of_server, at, &list);
    let again = bootstrapped(at[0], &list, 5000).unwrap();
    assert_eq!(register(&edge, &again), Ok(200), "recovered");
    let gone = register(&edge, &later);
    assert!(gone.is_err() || gone == Ok(407), "404 is a challenge: {gone:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = fs::remove_dir_all(&folder);
}

/// Writes a file that is its owner's alone, whole.
fn secret(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&next, path).unwrap();
}

/// The list with one token, of the edge.
fn listed(token: &str) -> String {
    let hash: [u8; 32] = Sha256::digest(token).into();
    let digits: String = hash.iter().map(|octet| format!("{octet:02x}")).collect();
    format!(
        "[[token]]\nsha256 = \"{digits}\"\nhost = \"edge.example.net\"\nscopes = [\"nbsp-gba\"]\n\
         expires = \"2099-01-01T00:00:00Z\"\n"
    )
}

/// What a process says on its standard error, up to a line with `mark`.
fn until(errors: &mut impl BufRead, mark: &str) -> String {
    let mut heard = String::new();
    while !heard.contains(mark) {
        assert_ne!(errors.read_line(&mut heard).unwrap(), 0, "no {mark:?}: {heard}");
    }
    heard
}

/// TS 29.309 clause 6.1.8: the edge shows its token; with one that is not good it has no key, and says so to UEs as when the
/// server is away; either end takes over a file that changed without being told. No token is ever printed.
#[test]
fn registers_with_a_token_and_follows_its_renewal() {
    let (core, list, authority) = (Core::start(), list(), Authority::new("tokens"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve-tokens");
    let of_server = papers(&folder.join("bsf"), &authority.issue(&["localhost"]), &authority);
    let of_edge = papers(&folder.join("edge"), &authority.issue(&["edge.example.net"]), &authority);
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let (good, own) = (folder.join("bsf/tokens.toml"), folder.join("edge/token"));
    let (first, second) = ("first-0a1b2c3d4e5f", "second-5f4e3d2c1b0a");
    secret(&good, &listed(first));
    secret(&own, &format!("{first}\n"));
    let mut command = sipward();
    command.stderr(Stdio::piped());
    let demanding = format!("{of_server}\ntokens = \"tokens.toml\"");
    let (mut child, at) = server_by(command, &folder.join("bsf"), &demanding, [any, any], &list);
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let shows = format!("token_file = \"{}\"", own.display());
    let mut edge = edge("tokens-edge", &core, &of_edge, at[1], &shows);
    let keys = |seen| bootstrapped(at[0], &list, seen).unwrap();
    assert_eq!(register(&edge, &keys(0)), Ok(200));

    let mut said = String::new();
    secret(&good, &listed(second));
    said += &until(&mut errors, "reloaded: tokens");
    assert_eq!(register(&edge, &keys(100)), Ok(503), "the server takes no other than the new one");
    secret(&own, second);
    said += &edge.until("reloaded: tokens");
    assert_eq!(register(&edge, &keys(200)), Ok(200), "the edge shows the new one");

    // What is no token does not take its place.
    secret(&own, "no token");
    said += &edge.until("not reloaded");
    assert!(said.contains("holds no token"), "{said}");
    assert_eq!(register(&edge, &keys(300)), Ok(200));
    for token in [first, second, "no token\""] {
        assert!(!said.contains(token), "{said}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = fs::remove_dir_all(&folder);
}
