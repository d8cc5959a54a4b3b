//! B.8, provisioning of security parameters: the operator's signed lists of servers, realms, initiators, authorities and
//! algorithms reach the client by device management, and the client applies them at each use.

use std::fs;
use std::path::Path;

use crate::programs::{Program, ask, sipward};
use crate::pushes::{ALICE, World};

const ACCOUNTS: &str = r#"
[authentication]
accounts = "accounts.toml"
[provision]
version = 1
key = "provision.key"
anchors = ["ca.pem"]
"#;

/// The documents of the configuration with some words changed, in a folder; what the command said.
fn written(world: &World, to: &str, changes: &[(&str, &str)]) -> (bool, String) {
    let mut text = fs::read_to_string(world.file("sipward.toml")).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let config = world.folder.write("changed.toml", text);
    let mut command = sipward();
    command.args(["provision", "write", "-c"]).arg(config).arg("--to").arg(world.file(to));
    ask(&mut command)
}

/// A session of device management: the document of that file is given to alice's client.
fn session(world: &World, document: &Path) -> (bool, String) {
    let mut command = sipward();
    command.args(["ue", "import", "--json"]).arg(document);
    command.arg("--lists").arg(world.file("lists"));
    command.arg("--signer").arg(world.file("provision.pub"));
    ask(&mut command)
}

/// Alice registers with her password, over UDP, with what lies there as her lists.
fn registers(world: &World, lists: &str) -> (bool, String) {
    let mut command = sipward();
    command
        .args(["ue", "register", "--identity", ALICE, "--account", "alice"])
        .args(["--edge", &world.wire.address.to_string()])
        .arg("--password-file")
        .arg(world.file("password"))
        .arg("--lists")
        .arg(world.file(lists))
        .arg("--signer")
        .arg(world.file("provision.pub"));
    ask(&mut command)
}

fn make_key(world: &Path, name: &str) {
    let path = |ending: &str| world.join(name).with_extension(ending);
    let mut command = sipward();
    command.args(["provision", "key", "--key"]).arg(path("key"));
    let (good, said) = ask(command.arg("--public").arg(path("pub")));
    assert!(good, "{said}");
}

/// V-146: what a server pushes that is not listed is not taken, and the phone says so in one line.
#[test]
fn b_8_provisioning_of_security_parameters() {
    let world = World::start("b-8", ACCOUNTS, |folder| {
        make_key(&folder.path(""), "provision");
        folder.write("password", "correct horse");
        folder.write(
            "accounts.toml",
            "[[account]]\nusername = \"alice\"\npassword = \"correct horse\"\nidentities = [\"sip:alice@example.net\"]\n",
        );
    });
    world.folder.write("mail", "two new mails");
    let accepted = |enabler: &str, version: u64| {
        let told = format!("\"enabler\":\"{enabler}\",\"new\":true,\"version\":{version}");
        (true, format!("{{\"alarm\":null,{told}}}"))
    };

    // Without a document nothing is trusted.
    let (good, said) = registers(&world, "lists");
    assert!(!good && said.contains("lists"), "{said}");
    assert!(world.wire.tap.seen().is_empty());

    // The first documents: that of push as a tree, that of sip as TOML.
    assert!(written(&world, "dm", &[]).0);
    assert_eq!(session(&world, &world.file("dm/push.xml")), accepted("push", 1));
    assert_eq!(session(&world, &world.file("dm/sip.toml")), accepted("sip", 1));
    assert_eq!(registers(&world, "lists"), (true, "200 OK".into()));
    world.registrar.path();

    // A phone on TLS, whose authority is pinned, shows what the listed server pushes.
    let mut phone = world.phone("tls");
    phone.arg("--lists").arg(world.file("lists"));
    phone.arg("--signer").arg(world.file("provision.pub"));
    let mut phone = Program::start(&mut phone);
    phone.until("\"status\":200");
    let path = world.registrar.path();
    assert_eq!(world.push("mail", &path), (true, "200 OK".into()));
    phone.until("\"push\":\"shown\"");

    // The list changes; after the session the phone follows, although the edge it is on still lets that server push.
    let other =
        [("version = 1", "version = 2"), ("\"mms.ua\" = [\"mail\"]", "\"mms.ua\" = [\"other\"]")];
    assert!(written(&world, "dm", &other).0);
    assert_eq!(session(&world, &world.file("dm/push.toml")), accepted("push", 2));
    assert_eq!(world.push("mail", &path), (false, "403 Forbidden".into()));
    let said = phone.until("\"push\":");
    assert!(said.contains("discarded") && said.contains("ServerUnknown"), "{said}");

    // A document whose signature is broken, one of another signer, and an older one: the list in force stays.
    let good = fs::read_to_string(world.file("dm/push.toml")).unwrap();
    let broken =
        good.replace("version = 2", "version = 3").replace("other.example.net", "mail.example.net");
    let broken = world.folder.write("broken.toml", broken);
    make_key(&world.file(""), "stranger");
    let stranger = [("version = 1", "version = 9"), ("\"provision.key\"", "\"stranger.key\"")];
    assert!(written(&world, "strangers", &stranger).0);
    assert!(written(&world, "older", &[]).0);
    for (document, why) in [
        (broken, "the signature is not that of the signer"),
        (world.file("strangers/push.xml"), "the signature is not that of the signer"),
        (world.file("older/push.xml"), "it is older than the one in force"),
    ] {
        let (good, said) = session(&world, &document);
        assert!(!good && said.contains(why), "{document:?}: {said}");
    }
    assert_eq!(world.push("mail", &path), (false, "403 Forbidden".into()));
    phone.until("ServerUnknown");
    let (good, said) = written(&world, "dm", &[]);
    assert!(
        !good && said.contains("older"),
        "the operator's own folder keeps the later one: {said}"
    );

    // A challenge whose realm is not listed is not answered; a server that is not listed is not even dialled.
    let realm =
        [("domains = [\"example.net\"]", "domains = [\"example.net\"]\nrealm = \"example.org\"")];
    assert!(written(&world, "realm", &[realm[0], ("version = 1", "version = 2")]).0);
    assert_eq!(session(&world, &world.file("realm/sip.xml")), accepted("sip", 2));
    let before = world.wire.tap.seen().len();
    let (good, said) = registers(&world, "lists");
    assert!(!good && said.contains("realm example.net is not listed"), "{said}");
    let seen = world.wire.tap.seen().split_off(before);
    let texts: Vec<String> =
        seen.iter().map(|seen| String::from_utf8_lossy(&seen.octets).into_owned()).collect();
    assert!(texts.iter().any(|text| text.starts_with("SIP/2.0 407")), "{texts:?}");
    assert!(!texts.iter().any(|text| text.contains("Proxy-Authorization:")), "{texts:?}");
    let before = world.wire.tap.seen().len();
    let mut foreign = sipward();
    foreign
        .args(["ue", "register", "--identity", ALICE, "--name", "edge2.example.net"])
        .args(["--edge", &world.wire.address.to_string()])
        .arg("--keys")
        .arg(world.file("alice.keys"))
        .arg("--lists")
        .arg(world.file("lists"))
        .arg("--signer")
        .arg(world.file("provision.pub"));
    let (good, said) = ask(&mut foreign);
    assert!(!good && said.contains("edge2.example.net is not among"), "{said}");
    assert_eq!(world.wire.tap.seen().len(), before, "nothing was sent");

    // The same document from the one file of an identity module.
    fs::copy(world.file("older/sip.xml"), world.file("module.xml")).unwrap();
    assert_eq!(registers(&world, "module.xml"), (true, "200 OK".into()));
}
