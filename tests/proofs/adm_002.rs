//! ADM-002, algorithms are changed securely in servers and clients: versions of that choice, and who takes the better one
//! away on the way. Whoever speaks the better one notices nothing, while the weaker is given up beside him.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use crate::programs::{PATIENCE, ask, metric, sipward};
use crate::pushes::World;

const OWN: &str = r#"
[authentication]
accounts = "accounts.toml"
[enabler.reg]
rate = "6000/min"
"#;

/// A wire for clients, one after the other, on which each answer is altered so.
fn altering(edge: SocketAddr, how: fn(&str) -> String) -> SocketAddr {
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    let far = UdpSocket::bind("127.0.0.1:0").unwrap();
    far.connect(edge).unwrap();
    let address = near.local_addr().unwrap();
    let (up, back) = (far.try_clone().unwrap(), near.try_clone().unwrap());
    let (tell, client) = channel();
    // Both end with the process.
    thread::spawn(move || {
        let mut octets = [0; 65_536];
        while let Ok((length, from)) = near.recv_from(&mut octets) {
            let _ = tell.send(from);
            up.send(&octets[..length]).unwrap();
        }
    });
    thread::spawn(move || {
        let mut octets = [0; 65_536];
        let mut to = None;
        while let Ok(length) = far.recv(&mut octets) {
            let text = String::from_utf8(octets[..length].to_vec()).unwrap();
            to = client.try_iter().last().or(to);
            back.send_to(how(&text).as_bytes(), to.expect("it spoke first")).unwrap();
        }
    });
    address
}

/// Who knows no agreement has used SHA-256, and the agreement has MD5 alone: it is another user's.
fn registers(world: &World, edge: SocketAddr, more: &[&str]) -> (bool, String) {
    registers_with(world.file("password"), edge, more)
}

fn registers_with(password: PathBuf, edge: SocketAddr, more: &[&str]) -> (bool, String) {
    let user = if more == ["--sec-agree"] { "bob" } else { "alice" };
    let mut command = sipward();
    command
        .args([
            "ue",
            "register",
            "--identity",
            &format!("sip:{user}@example.net"),
            "--account",
            user,
        ])
        .args(["--edge", &edge.to_string()])
        .args(more)
        .arg("--password-file")
        .arg(password);
    ask(&mut command)
}

/// Another choice of algorithms is put in force, or is not.
fn reloads(world: &mut World, version: u32, algorithms: &str) -> String {
    let text = fs::read_to_string(world.file("sipward.toml")).unwrap();
    let start = text.find("[digest]").unwrap();
    let end = start + text[start..].find("[naf]").unwrap();
    let digest = format!("[digest]\nversion = {version}\nalgorithms = [{algorithms}]\n");
    world.folder.write("sipward.toml", format!("{}{digest}{}", &text[..start], &text[end..]));
    world.edge.signal("HUP");
    world.edge.until("reloaded: ")
}

#[test]
fn adm_002_algorithms_are_changed_securely() {
    let mut world = World::start("adm-002", OWN, |folder| {
        folder.write("password", "correct horse");
        let account = |name| {
            format!(
                "[[account]]
username = \"{name}\"
password = \"correct horse\"
identities = [\"sip:{name}@example.net\"]
"
            )
        };
        folder.write("accounts.toml", ["alice", "bob"].map(account).concat());
    });
    let alarms = |page| metric(page, "sipward_alarms_total{alarm=\"algorithm_downgrade\"}");

    // What is weaker needs a version of its own.
    let both = "\"SHA-256\", \"MD5\"";
    assert!(reloads(&mut world, 1, both).starts_with("not reloaded"));
    assert!(reloads(&mut world, 2, both).starts_with("reloaded: "));

    // A client that has used SHA-256; then somebody writes MD5 into the challenge: it answers that, and is refused.
    let good = (true, "200 OK".to_owned());
    assert_eq!(registers(&world, world.wire.address, &[]), good);
    assert!(world.wire.tap.has("algorithm=SHA-256"));
    let altered =
        altering(world.wire.address, |text| text.replace("algorithm=SHA-256", "algorithm=MD5"));
    assert_eq!(alarms(world.page), 0);
    let before = world.wire.tap.seen().len();
    let (refused, said) = registers(&world, altered, &[]);
    assert!(!refused, "{said}");
    let answers: Vec<String> = world.wire.tap.seen()[before..]
        .iter()
        .filter(|seen| !seen.down)
        .map(|seen| String::from_utf8_lossy(&seen.octets).into_owned())
        .collect();
    assert!(answers.iter().any(|text| text.contains("algorithm=MD5")), "{answers:?}");
    assert_eq!(alarms(world.page), 1);
    assert_eq!(world.refused("AlgorithmDowngrade"), 1);
    let (refused, said) = registers(&world, altered, &["--no-md5"]);
    assert!(!refused && said.contains("weaker than accepted"), "{said}");
    assert_eq!(alarms(world.page), 1, "such a client answers nothing");

    // Where client and edge agree on what protects them, it is the list of that which is altered, and nothing comes of it.
    assert!(registers(&world, world.agree, &["--sec-agree"]).1.ends_with("agreed on digest"));
    let altered = altering(world.agree, |text| text.replace("d-qop=auth-int", "d-qop=auth"));
    let (refused, said) = registers(&world, altered, &["--sec-agree"]);
    assert!(!refused && said.contains("altered on the way"), "{said}");
    // Each is told the list by a 494; the altered one gets another.
    assert_eq!(world.refused("AgreementMismatch"), 3);

    // The weaker one is given up: the better clients notice nothing, the others are asked for the better one alone.
    let (ends, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let (password, edge) = (world.file("password"), world.rogues.address);
    let (until, count) = (Arc::clone(&ends), Arc::clone(&done));
    let load = thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            let said = registers_with(password.clone(), edge, &["--no-md5"]);
            if said != (true, "200 OK".to_owned()) {
                return Some(said);
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
        None
    });
    let go_on = || {
        let (before, deadline) = (done.load(Ordering::Relaxed), Instant::now() + PATIENCE);
        while !load.is_finished() && done.load(Ordering::Relaxed) < before + 5 {
            assert!(Instant::now() < deadline, "no more registrations");
            thread::yield_now();
        }
    };
    go_on();
    assert!(reloads(&mut world, 3, "\"SHA-256\"").starts_with("reloaded: "));
    go_on();
    ends.store(true, Ordering::Relaxed);
    assert_eq!(load.join().unwrap(), None, "a client that speaks SHA-256 noticed it");
    assert_eq!(registers(&world, world.wire.address, &[]), good);
    let before = world.wire.tap.seen().len();
    assert_eq!(registers(&world, world.wire.address, &["--no-md5"]), good);
    let rows = world.wire.tap.seen()[before..]
        .iter()
        .map(|seen| String::from_utf8_lossy(&seen.octets).into_owned())
        .find(|text| text.starts_with("SIP/2.0 407"))
        .expect("a challenge");
    assert!(rows.contains("algorithm=SHA-256") && !rows.contains("MD5"), "{rows}");

    // The file of before, put back: the choice never goes back.
    assert!(reloads(&mut world, 2, both).starts_with("not reloaded"));
}
