//! B.9, provisioning of keys, with ADM-001: a key is drawn for alice at the edge, carried to her phone as a file, and good for
//! a handshake; a name that is another by one character is nobody's; a short key is not taken over; what is taken back ends
//! the connection that stands on it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use crate::home::{ALICE, Home};
use crate::programs::{PATIENCE, Program, ask};

const NAME: &str = "psk;alice@edge.example.net";

#[test]
fn b_9_provisioning_of_keys() {
    let home = Home::new("b-9");
    let (good, said) =
        home.command(&["key", "issue", "alice", "--impu", ALICE, "--out", "alice.key"]);
    assert!(good && said.starts_with(&format!("{NAME} proves {ALICE}")), "{said}");
    let digits = fs::read_to_string(home.folder.path("alice.key")).unwrap();
    let key = ["--psk-file", "alice.key", "--psk-identity"];
    let asks = |identity: &str| ask(home.phone(&key).arg(identity));

    // The edge looks at its store again and again.
    let deadline = Instant::now() + PATIENCE;
    let becomes = |taken: bool| loop {
        let (good, said) = asks(NAME);
        if good == taken {
            break said;
        }
        assert!(Instant::now() < deadline, "never {taken}: {said}");
    };
    becomes(true);
    let register = home.registrar.heard().pop().unwrap();
    assert!(register.contains("P-Asserted-Identity: <sip:alice@example.net>"), "{register}");

    // One character of the name is another: as with a wrong key.
    let (good, unknown) = asks("psk;alicf@edge.example.net");
    assert!(!good, "{unknown}");
    let other = if digits.starts_with('0') { "1" } else { "0" };
    home.folder.write("wrong.key", [other, &digits[1..]].concat());
    let (good, wrong) =
        ask(home.phone(&["--psk-file", "wrong.key", "--psk-identity", NAME]).args::<_, &str>([]));
    assert!(!good && wrong == unknown, "{wrong}\n{unknown}");
    // A key that others may read is no key.
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(home.folder.path("wrong.key"), open).unwrap();
    let (good, said) = ask(&mut home.phone(&["--psk-file", "wrong.key", "--psk-identity", NAME]));
    assert!(!good && said.contains("chmod 600"), "{said}");

    // Under 128 bits.
    let row = format!(
        "[[key]]\nidentity = \"psk;bob@edge.example.net\"\nkey = \"{}\"\nidentities = [\"{ALICE}\"]\n",
        &digits[..30]
    );
    home.folder.write("short.toml", row);
    let (good, said) = home.command(&["key", "import", "short.toml"]);
    assert!(!good && said.contains("key.key is none"), "{said}");

    // Taken back: the phone that stays is put out, and no handshake is made any more.
    let stays = ["--json", "--reg-id", "1", "--stay", "600", "--instance", "phone.instance"];
    let mut phone = Program::start(home.phone(&key).arg(NAME).args(stays));
    phone.until("\"status\":200");
    let (good, said) = home.command(&["key", "revoke", NAME]);
    assert!(good, "{said}");
    phone.until("lost");
    assert_eq!(becomes(false), unknown);
    let before = home.registrar.heard().len();
    assert!(!asks(NAME).0);
    assert_eq!(home.registrar.heard().len(), before);

    for (name, tap) in [("TLS", &home.secure.tap), ("Nbsp_GBA", &home.link.tap)] {
        assert!(!tap.has(digits.trim()), "{name}");
    }
}
