//! Kamailio as the edge, doing the same checks: `kamailio.cfg` beside this file, with one worker.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::digest::Algorithm;
use super::lab::{Anchor, Certificate, Folder, ONE, Plan, Transport, write_secret};
use super::population::{self, Credentials};
use super::{DOMAIN, EDGE_NAME};

const CONFIGURATION: &str = include_str!("kamailio.cfg");

/// Where Kamailio is; `None` if it is not installed.
pub(crate) fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    folders.map(|folder| folder.join("kamailio")).find(|file| file.is_file())
}

/// What it is, in its own words.
pub(crate) fn version() -> Option<String> {
    let run = Command::new(program()?).arg("-v").output().ok()?;
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    text.lines().next().map(|line| line.trim_start_matches("version: ").to_owned())
}

/// Starts it for `ues` UEs, whose credentials it gives.
pub(crate) fn start(
    plan: &Plan,
    algorithm: Algorithm,
    ues: usize,
    certificate: &Certificate,
    folder: &Folder,
) -> Result<(Anchor, Vec<(usize, Credentials)>), String> {
    let program = program().ok_or("kamailio is not installed")?;
    let folder = folder.inner("kamailio").map_err(|error| error.to_string())?;
    let fail = |error: std::io::Error| error.to_string();
    let credentials: Vec<_> = (0..ues).map(|number| (number, population::drawn(number))).collect();
    let tables = folder.join("db");
    fs::create_dir(&tables).map_err(fail)?;
    let realm = format!("3GPP-bootstrapping@{EDGE_NAME}");
    let head = "key_name(string) key_type(int) value_type(int) key_value(string) expires(int)\n";
    let (mut ha1, mut impu) = (head.to_owned(), head.to_owned());
    for (number, one) in &credentials {
        let parts =
            [one.username.as_bytes(), b":", realm.as_bytes(), b":", one.password.as_bytes()];
        let hash = algorithm.hex(&parts);
        let hash = String::from_utf8_lossy(&hash);
        let identity = population::identity(*number).replace(':', "\\:");
        let _never_fails = writeln!(ha1, "{}:0:0:{hash}:0", one.username);
        let _never_fails = writeln!(impu, "{}:0:0:{identity}:0", one.username);
    }
    write_secret(&tables.join("ha1"), &ha1).map_err(fail)?;
    write_secret(&tables.join("impu"), &impu).map_err(fail)?;
    let versions = "table_name(string) table_version(int)\nha1:2\nimpu:2\n";
    write_secret(&tables.join("version"), versions).map_err(fail)?;
    let tls = format!(
        "[server:default]\nmethod = TLSv1.2+\nverify_certificate = no\nrequire_certificate = no\n\
        certificate = {}\nprivate_key = {}\n",
        certificate.chain.display(),
        certificate.key.display()
    );
    write_secret(&folder.join("tls.cfg"), &tls).map_err(fail)?;
    let places = [
        ("@FOLDER@", folder.display().to_string()),
        ("@IP@", plan.ip.to_string()),
        ("@BACKEND_IP@", plan.backend.ip().to_string()),
        ("@BACKEND_PORT@", plan.backend.port().to_string()),
        ("@DOMAIN@", DOMAIN.to_owned()),
        ("@REALM@", realm),
        ("@ALGORITHM@", algorithm.as_str().to_owned()),
    ];
    let mut text = CONFIGURATION.to_owned();
    for (place, value) in places {
        text = text.replace(place, &value);
    }
    let file = folder.join("kamailio.cfg");
    write_secret(&file, &text).map_err(fail)?;
    let mut command = Command::new(program);
    command.arg("-f").arg(&file).args(["-DD", "-E", "-m", "6144", "-M", "32"]);
    // The allocator that costs least; Debian's default one costs about three times as much.
    command.args(["-x", "tlsf", "-X", "tlsf"]);
    command.arg("-Y").arg(&folder).arg("-w").arg(&folder);
    command.arg("-P").arg(folder.join("kamailio.pid"));
    if plan.transport != Transport::Udp {
        command.args(["-A", "WITH_TCP"]);
    }
    if plan.transport == Transport::Tls {
        command.args(["-A", "WITH_TLS"]);
    }
    let anchor = Anchor::start("kamailio", command, plan, &folder, ONE, Duration::from_secs(20))?;
    Ok((anchor, credentials))
}
