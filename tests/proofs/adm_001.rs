//! ADM-001, first keys: a key is drawn for alice at the edge and carried to her phone as a file; edge and phone start, and she
//! registers over PSK-TLS with it. The file belongs to the first device that takes it in, or to the one it was made for:
//! another is refused, when it takes it in and when it uses the copy, unless somebody insists.

use std::fs;

use crate::home::{ALICE, Home, serve};
use crate::programs::{Program, ask, sipward};

const NAME: &str = "psk;alice@edge.example.net";

#[test]
fn adm_001_first_keys_are_carried_to_both_ends() {
    let mut home = Home::new("adm-001");
    home.edge.kill();
    let issue = |id: &str, file: &str, more: &[&str]| {
        let words = ["key", "issue", id, "--impu", ALICE, "--out", file];
        let (good, said) = home.command(&[&words[..], more].concat());
        assert!(good, "{said}");
    };
    issue("alice", "alice.key", &[]);
    issue("bob", "bob.key", &["--device", "ue1"]);
    let digits = fs::read_to_string(home.folder.path("alice.key")).unwrap();

    // Each process is a device, with a name and a copy of its own.
    let import = |file: &str, device: &str, own: &str, more: &[&str]| {
        let mut command = sipward();
        command.current_dir(home.folder.path("")).args(["ue", "import", file]);
        command.args(["--device", device, "--psk-file", own]).args(more);
        ask(&mut command)
    };
    let (good, said) = import("alice.key", "ue1", "ue1.key", &[]);
    assert!(good && said.contains("ue1.key holds the key of ue1"), "{said}");
    assert!(!said.contains(digits.trim()));
    let refused = |file: &str| {
        let (good, said) = import(file, "ue2", "ue2.key", &[]);
        assert!(!good && said.contains("is for the device ue1 alone"), "{said}");
        assert!(!home.folder.path("ue2.key").exists(), "{file} left something behind");
    };
    refused("alice.key");
    refused("bob.key");
    let (good, said) = import("bob.key", "ue1", "ue1.key", &[]);
    assert!(!good && said.contains("ue1.key is there already"), "{said}");

    // The edge starts with what was issued while it was down.
    let mut edge = Program::start_logged(&mut serve(&home.folder, "edge"));
    let [_, address] = ["ue", "ue-tls"].map(|name| edge.address(name).to_string());
    let register = |device: &[&str]| {
        let mut command = sipward();
        command.current_dir(home.folder.path("")).args(["ue", "register", "--identity", ALICE]);
        command.args(["--transport", "psk-tls", "--edge", &address, "--psk-identity", NAME]);
        ask(command.args(["--psk-file", "ue1.key"]).args(device))
    };
    let (good, said) = register(&["--device", "ue1"]);
    assert!(good, "{said}");
    let heard = home.registrar.heard();
    let asserted = "P-Asserted-Identity: <sip:alice@example.net>";
    assert!(heard.len() == 1 && heard[0].contains(asserted), "{heard:?}");
    // The copy on another device, or on one that does not say which it is.
    for device in [&["--device", "ue2"][..], &[]] {
        let (good, said) = register(device);
        assert!(!good && said.contains("is for the device ue1 alone"), "{said}");
    }
    assert_eq!(home.registrar.heard().len(), 1, "nothing was sent");

    // Somebody insists: the file is the other device's then.
    let (good, said) = import("alice.key", "ue2", "ue2.key", &["--force"]);
    assert!(good, "{said}");
    assert!(!import("alice.key", "ue1", "again.key", &[]).0);
}
