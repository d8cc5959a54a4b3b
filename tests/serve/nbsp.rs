//! Keys over Nbsp_GBA by configuration alone: a bootstrapping server in one process, the edge in another, with real
//! sockets and certificates at both ends; then the server away, and back again.

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
    let mut command = sipward();
    command.arg("serve").arg("-c").arg(folder.join("sipward.toml"));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let at = heard(child.stdout.take().unwrap(), ["bootstrapping server", "Nbsp_GBA"]);
    (child, at)
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
    let edge = Edge::start_with("nbsp-edge", |text| {
        let peer = format!("sip:{};transport=udp", core.address);
        let text = text.replace("sip:127.0.0.1:5070;transport=tcp", &peer);
        let text = text.replace("rate = \"6/min\"", "rate = \"600/min\"");
        let (before, rest) = text.split_once("\n[bsf]").unwrap();
        let (_, after) = rest.split_once("\n[register]").unwrap();
        format!(
            "{before}\n[nbsp]\n{of_edge}\n[[nbsp.server]]\nbsf = [\"bsf.example.net\"]\n\
             hosts = [\"localhost:{}\"]\n[register]{after}",
            at[1].port()
        )
    });
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
