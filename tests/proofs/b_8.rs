//! B.8, provisioning of security parameters: the operator's signed lists of servers, realms, initiators, authorities and
//! algorithms reach the client by device management, which fetches them from the edge, certificates at both ends; and the
//! client applies them at each use.

use std::fs;
use std::path::{Path, PathBuf};

use hyper::Method;
use sipward::http::ask::ask as ask_over;
use sipward::http::documents::PATH;
use sipward::transport::tls;
use tokio::net::TcpStream;

use crate::home::wait;
use crate::programs::{Program, ask, sipward};
use crate::pushes::{ALICE, EDGE, World};
use crate::wires::Connections;

const ACCOUNTS: &str = r#"
[authentication]
accounts = "accounts.toml"
[provision]
version = 1
key = "provision.key"
anchors = ["ca.pem"]
[https]
listen = "127.0.0.1:0"
tls = { certificate = "edge.pem", key = "edge.key", ca = "ca.pem" }
managers = ["dm.example.net"]
"#;

/// Asks the edge for a document as the server that has that certificate: the status and what was told.
fn asks(
    world: &World,
    door: &Connections,
    who: &str,
    method: Method,
    name: &str,
) -> (u16, Vec<u8>) {
    let read = |ending: &str| fs::read(world.file(who).with_extension(ending)).unwrap();
    let shown = tls::Certificate::from_pem(&read("pem"), &read("key")).unwrap();
    let config = tls::client_config(world.authority.trust(), Some(&shown)).unwrap();
    wait(async {
        let tcp = TcpStream::connect(door.address).await.unwrap();
        let (stream, _) = tls::connect(config, EDGE, tcp).await.unwrap();
        let path = format!("{PATH}{name}");
        let (status, body) = ask_over(stream, method, (EDGE, &path), Vec::new()).await.unwrap();
        (status, body.to_vec())
    })
}

/// Device management fetches a document: the file that it has it in then.
fn fetches(world: &World, door: &Connections, name: &str) -> PathBuf {
    let (status, document) = asks(world, door, "dm", Method::GET, name);
    assert_eq!(status, 200, "{name}");
    world.folder.write(name, document)
}

/// The documents of a configuration with some words changed, in a folder; what the command said.
fn written(world: &World, first: &str, to: &str, changes: &[(&str, &str)]) -> (bool, String) {
    let mut text = first.to_owned();
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
    let mut world = World::start("b-8", ACCOUNTS, |folder| {
        make_key(&folder.path(""), "provision");
        folder.write("password", "correct horse");
        folder.write(
            "accounts.toml",
            "[[account]]\nusername = \"alice\"\npassword = \"correct horse\"\nidentities = [\"sip:alice@example.net\"]\n",
        );
    });
    world.folder.write("mail", "two new mails");
    let door = Connections::to(world.https.expect("a door"));
    let config = fs::read_to_string(world.file("sipward.toml")).unwrap();
    let accepted = |enabler: &str, version: u64| {
        let told = format!("\"enabler\":\"{enabler}\",\"new\":true,\"version\":{version}");
        (true, format!("{{\"alarm\":null,{told}}}"))
    };

    // Without a document nothing is trusted.
    let (good, said) = registers(&world, "lists");
    assert!(!good && said.contains("lists"), "{said}");
    assert!(world.wire.tap.seen().is_empty());

    // Device management fetches the first documents, that of push as a tree, that of sip as TOML; nobody else does.
    for (who, method, name, expected) in [
        ("other", Method::GET, "push.xml", 403),
        ("dm", Method::PUT, "push.xml", 405),
        ("dm", Method::GET, "pull.xml", 404),
        ("dm", Method::GET, "push.json", 404),
    ] {
        assert_eq!(asks(&world, &door, who, method, name), (expected, Vec::new()), "{who}: {name}");
    }
    assert_eq!(session(&world, &fetches(&world, &door, "push.xml")), accepted("push", 1));
    assert_eq!(session(&world, &fetches(&world, &door, "sip.toml")), accepted("sip", 1));
    assert!(!door.tap.has("mail.example.net"), "it went over no wire in the clear");
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

    // The list changes on the edge; the phone follows after the next session, and not before.
    let other =
        [("version = 1", "version = 2"), ("\"mms.ua\" = [\"mail\"]", "\"mms.ua\" = [\"other\"]")];
    let changed = other.iter().fold(config.clone(), |text, (from, to)| text.replacen(from, to, 1));
    world.folder.write("sipward.toml", changed);
    world.edge.signal("HUP");
    let said = world.edge.until("reloaded: ");
    assert!(said.contains("provision") && said.contains("enabler.push"), "{said}");
    assert_eq!(world.push("mail", &path), (false, "403 Forbidden".into()));
    assert_eq!(world.refused("PushServerUnknown"), 1, "by the edge");
    let discarded = |world: &World, phone: &mut Program, name: &str| {
        assert_eq!(world.push(name, &path), (false, "403 Forbidden".into()));
        let said = phone.until("\"push\":");
        assert!(said.contains("discarded") && said.contains("ServerUnknown"), "{said}");
    };
    discarded(&world, &mut phone, "other");
    assert_eq!(session(&world, &fetches(&world, &door, "push.toml")), accepted("push", 2));
    let shown = |world: &World, phone: &mut Program| {
        assert_eq!(world.push("other", &path), (true, "200 OK".into()));
        phone.until("\"push\":\"shown\"");
    };
    shown(&world, &mut phone);

    // A document whose signature is broken, one of another signer, and an older one: the list in force stays.
    let good = fs::read_to_string(world.file("push.toml")).unwrap();
    let broken =
        good.replace("version = 2", "version = 3").replace("other.example.net", "mail.example.net");
    let broken = world.folder.write("broken.toml", broken);
    make_key(&world.file(""), "stranger");
    let stranger = [("version = 1", "version = 9"), ("\"provision.key\"", "\"stranger.key\"")];
    assert!(written(&world, &config, "strangers", &stranger).0);
    assert!(written(&world, &config, "older", &[]).0);
    for (document, why) in [
        (broken, "the signature is not that of the signer"),
        (world.file("strangers/push.xml"), "the signature is not that of the signer"),
        (world.file("older/push.xml"), "it is older than the one in force"),
    ] {
        let (good, said) = session(&world, &document);
        assert!(!good && said.contains(why), "{document:?}: {said}");
    }
    shown(&world, &mut phone);
    assert!(written(&world, &config, "own", &other).0);
    let (good, said) = written(&world, &config, "own", &[]);
    assert!(
        !good && said.contains("older"),
        "the operator's own folder keeps the later one: {said}"
    );

    // A challenge whose realm is not listed is not answered; a server that is not listed is not even dialled.
    let realm =
        [("domains = [\"example.net\"]", "domains = [\"example.net\"]\nrealm = \"example.org\"")];
    assert!(written(&world, &config, "realm", &[realm[0], ("version = 1", "version = 2")]).0);
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
