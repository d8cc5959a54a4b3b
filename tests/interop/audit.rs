//! `sipward audit` against Debian's Kamailio, with the configuration that the package brings: what fails there, and what does not.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use std::{fs, path::Path};

use serde_json::Value;

use crate::loopback;
use crate::peer::{Folder, Peer, find};

/// The configuration of the package.
const STOCK: &str = "/etc/kamailio/kamailio.cfg";

/// V-09, V-20, V-28, V-29, V-60, V-61, V-63 to V-66, V-70, V-131: it believes everybody, and lets strangers into calls; the report shows it.
#[test]
fn the_audit_shows_what_debians_kamailio_believes() {
    assert!(Path::new(STOCK).is_file(), "{STOCK} is missing: the package kamailio brings it");
    let address = SocketAddr::new(loopback::address(), 5060);
    let folder = Folder::new("kamailio-audited");
    let mut command = Command::new(find("kamailio", "kamailio"));
    command.args(["-f", STOCK, "-DD", "-E", "-m", "64", "-M", "8"]);
    command.arg("-l").arg(format!("udp:{address}")).arg("-l").arg(format!("tcp:{address}"));
    command.arg("-Y").arg(folder.path()).arg("-w").arg(folder.path());
    command.arg("-P").arg(folder.path().join("kamailio.pid"));
    let peer = Peer::start("kamailio", &mut command);
    let ready = peer.await_that(Duration::from_secs(30), |_| {
        ["udp", "tcp"].iter().all(|table| loopback::is_bound(table, address)).then_some(())
    });
    assert!(ready.is_some(), "kamailio does not listen on {address}:\n{}", peer.said());
    let accounts = folder.path().join("accounts.toml");
    let ip = address.ip();
    let account = |name: &str| {
        format!(
            "[[account]]\nusername = \"{name}\"\npassword = \"of {name}\"\nidentities = [\"sip:{name}@{ip}\"]\n"
        )
    };
    fs::write(&accounts, account("alice") + &account("bob")).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_sipward"))
        .args(["audit", &ip.to_string(), "--transport", "udp,tcp", "--rate", "200", "--json"])
        .args(["--patience", "500", "--accounts"])
        .arg(&accounts)
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(1), "{}", String::from_utf8_lossy(&run.stderr));
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    let results = report["results"].as_array().unwrap();
    let of = |name: &str| results.iter().find(|result| result["case"] == name).expect(name);
    for (name, verdict) in [
        ("register-without-credentials", "failed"),
        ("bindings-fetched", "failed"),
        ("register-another", "failed"),
        ("contacts-many", "failed"),
        ("cseq-negative", "failed"),
        ("relay-dialog", "failed"),
        ("path-forged", "failed"),
        ("record-route-forged", "failed"),
        ("amplify-invite", "failed"),
        ("call-without-credentials", "failed"),
        ("message-without-credentials", "failed"),
        ("asserted-forged", "failed"),
        ("privacy-forged", "failed"),
        ("from-foreign", "failed"),
        ("auto-answer", "failed"),
        ("bye-caller", "failed"),
        ("bye-callee", "failed"),
        ("reinvite", "failed"),
        ("refer", "failed"),
        ("cancel", "failed"),
        ("answer-forged", "failed"),
        ("replaces", "failed"),
        ("cancel-guessed", "passed"),
        ("relay-uri", "passed"),
        ("relay-route", "passed"),
        ("relay-preloaded", "passed"),
        ("hops-spent", "passed"),
        ("hops-absent", "passed"),
        ("segment-octets", "passed"),
        ("segment-two", "passed"),
        ("segment-ping", "passed"),
        ("star-with-expiry", "passed"),
        ("call-id-missing", "passed"),
        ("amplify-options", "passed"),
        // It asserts nobody, so there is nothing to hide.
        ("privacy-id", "passed"),
        // It speaks neither as it is configured, nor was it named as a target of WebSocket.
        ("tls-1-0", "not applicable"),
        ("dtls-cookie", "not applicable"),
        ("ws-unmasked", "not applicable"),
        // It challenges nobody, so there are no credentials to replay.
        ("replay", "not applicable"),
        ("nonce-own", "not applicable"),
    ] {
        assert_eq!(of(name)["verdict"], verdict, "{name}: {:#}", of(name));
    }
    let bye = of("bye-caller")["exchange"].as_array().unwrap();
    let heard = |who: &str, way: &str| {
        bye.iter().any(|step| {
            let text = step["text"].as_str().unwrap_or_default();
            step["who"] == who && step["way"] == way && text.starts_with("BYE ")
        })
    };
    assert!(heard("stranger", "sent") && heard("bob", "received"), "{bye:#?}");
}
