//! SEC-002: secrets in transit are out of reach of the unauthorised. A phone makes a key, registers with it by Digest and by
//! a handshake, and the edge asks for it; none of it is seen on any wire. A link that would show it is refused.

use sipward::keys::UaId;
use sipward::keys::psk::PskName;

use crate::home::{ALICE, EDGE, Home, for_sip, for_tls, forms, serve};
use crate::programs::ask;

#[test]
fn sec_002_secrets_in_transit() {
    let home = Home::new("sec-002");
    let keys = home.bootstrap(0);
    assert_eq!(home.register(ALICE, for_sip(&keys)), Ok(200));
    home.folder.write("tls.key", for_tls(&keys, EDGE, UaId::SHARED_KEY_TLS13));
    let name = PskName::identity_of(&keys.btid);
    let (good, said) = ask(&mut home.phone(&["--psk-identity", &name, "--psk-file", "tls.key"]));
    assert!(good, "{said}");
    for (name, tap, holds) in [
        ("Ub", &home.ub.tap, Some("<btid>")),
        ("Nbsp_GBA", &home.link.tap, None),
        ("Ua, TLS", &home.secure.tap, Some(&*name)),
        ("Ua", &home.wire.tap, Some("3GPP-bootstrapping@edge.example.net")),
    ] {
        assert!(!tap.seen().is_empty(), "nothing went over {name}");
        // What is in the clear is seen, so that what is not seen was not sent.
        assert!(holds.is_none_or(|text| tap.has(text)), "{name}");
        for (what, octets) in forms(&keys) {
            assert!(!tap.has(&octets), "{what} went over {name}");
        }
    }
    assert!(!home.link.tap.has("edge.example.net/") && !home.link.tap.has(keys.btid.as_str()));

    // The link in the clear: over HTTP, and over Diameter.
    let text = std::fs::read_to_string(home.folder.path("edge.toml")).unwrap();
    let port = home.link.address.port();
    let clear = text.replace(&format!("localhost:{port}"), &format!("http://localhost:{port}"));
    assert_ne!(clear, text);
    home.folder.write("clear.toml", clear);
    let (good, _) = ask(&mut serve(&home.folder, "clear"));
    let said = std::fs::read_to_string(home.folder.path("clear.log")).unwrap();
    assert!(!good && said.contains("nbsp.server.hosts = [\"http://localhost"), "{said}");
    let (before, rest) = text.split_once("[nbsp]").unwrap();
    let (_, after) = rest.split_once("[state]").unwrap();
    let peer = "[diameter]\nidentity = \"edge.example.net\"\nrealm = \"example.net\"\n[[diameter.peer]]\n\
                host = \"bsf.example.net\"\nrealm = \"example.net\"\nserves = \"zn\"\naddress = \"127.0.0.1:3868\"\ntls = false\n";
    home.folder.write("zn.toml", format!("{before}{peer}[state]{after}"));
    let (good, _) = ask(&mut serve(&home.folder, "zn"));
    let said = std::fs::read_to_string(home.folder.path("zn.log")).unwrap();
    assert!(!good && said.contains("diameter_in_clear"), "{said}");
}
