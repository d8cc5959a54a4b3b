//! `sipward ue` with a certificate of its own: over each transport that carries one, it is who the certificate says.

use super::renewal::Lab;
use super::*;

const TLS: &str = "tls = { certificate = \"edge.pem\", key = \"edge.key\", psk = true }";
const ASKS: &str = "tls = { certificate = \"edge.pem\", key = \"edge.key\", client_auth = \"require\", \
                    client_ca = \"lab-ca.pem\" }";
const MAPPED: &str = "[[ue_certificate]]\nsan = \"sip:alice@example.net\"\n\
                      identities = [\"sip:alice@example.net\"]\n";

/// An edge whose secure listener speaks those transports, and asks for certificates.
fn edge(core: &Core, transports: &str, more: &str) -> Edge {
    Edge::start_with(&format!("shown-{}", &transports[1..4]), |text| {
        assert!(text.contains(TLS) && text.contains("transports = [\"tls\"]"), "{text}");
        let peer = format!("sip:{};transport=udp", core.address);
        let text = text
            .replace("sip:127.0.0.1:5070;transport=tcp", &peer)
            .replace("transports = [\"tls\"]", &format!("transports = [{transports}]"))
            .replacen(TLS, &format!("{ASKS}\n{more}"), 1);
        format!("{text}\n{MAPPED}")
    })
}

/// Registers `user` by the command; whether it was let in, and what it said.
fn register(edge: &Edge, transport: &str, user: &str, shows: &[&str]) -> (bool, String) {
    let done = sipward()
        .current_dir(&edge.folder)
        .args(["ue", "register", "--identity", &format!("sip:{user}@example.net")])
        .args(["--transport", transport, "--edge", &edge.tls.unwrap().to_string()])
        .args(["--ca", "lab-ca.pem", "--origin", websocket::ORIGIN])
        .args(shows)
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(said).unwrap())
}

/// SEC_CF 1.1 B.5: no password, no key, and no challenge that could be answered.
#[test]
fn a_ue_registers_by_its_certificate_over_tls_and_dtls_and_wss() {
    let rules = format!("ws = {{ origins = [\"{}\"] }}", websocket::ORIGIN);
    for (transports, more, each) in
        [("\"tls\", \"dtls\"", "", &["tls", "dtls"][..]), ("\"wss\"", rules.as_str(), &["wss"])]
    {
        let core = Core::start();
        let edge = edge(&core, transports, more);
        let (_, certificate, key) = Lab::new(&edge.folder).pair_of("sip:alice@example.net");
        fs::write(edge.folder.join("alice.pem"), certificate).unwrap();
        fs::write(edge.folder.join("alice.key"), key).unwrap();
        let shows = ["--certificate", "alice.pem", "--certificate-key", "alice.key"];
        for transport in each {
            let (done, said) = register(&edge, transport, "alice", &shows);
            assert!(done && said.contains("200"), "{transport}: {said}");
            let (done, said) = register(&edge, transport, "bob", &shows);
            assert!(!done, "{transport}, who is not bob: {said}");
            let (done, said) = register(&edge, transport, "alice", &[]);
            assert!(!done, "{transport}, who shows nothing: {said}");
        }
        let heard = core.heard.lock().unwrap().clone();
        assert_eq!(heard.len(), each.len(), "one over each: {heard:?}");
        for request in heard {
            assert!(request.starts_with("REGISTER "), "{request}");
            assert!(request.contains("P-Asserted-Identity: <sip:alice@example.net>"), "{request}");
        }
    }
}

#[test]
fn a_certificate_needs_its_key_and_authorities() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (more, missing) in [
        (&["--certificate", "alice.pem"][..], "--certificate-key"),
        (&["--certificate-key", "alice.key"], "--certificate"),
        (&["--certificate", "alice.pem", "--certificate-key", "alice.key"], "--ca"),
    ] {
        let mut command = sipward();
        command.current_dir(folder).args(["ue", "register", "--identity", "sip:a@example.net"]);
        let done = command.args(more).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(2) && said.contains(missing), "{said}");
    }
}
