//! Nbsp_GBA against an independent client: curl asks over HTTP/2 with a certificate of its own, and each answer is held
//! against the names, types and patterns of TS 29.309's schemas, of errors against those of problem details.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, slice};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sipward::client::bootstrap::{Bootstrapped, UbPlan};
use sipward::client::bootstrap_http;
use sipward::clock;
use sipward::identity::Impi;
use sipward::keys::push::gpl::Sender;
use sipward::keys::push::p1::P1;
use sipward::keys::push::ue::{Associations, Subscription};
use sipward::keys::push::{CardApplication, Direction, Profile, downlink_id};
use sipward::keys::sqn::{PLACES, SqnWindow};
use sipward::keys::subscribers::file;
use sipward::keys::usim::Usim;
use sipward::keys::{KsNaf, NafId, UaId};

use crate::loopback;
use crate::papers::Authority;
use crate::peer::{Folder, Peer, find};

const IMPI: &str = "alice@ims.example.net";
const NAF: &str = "naf.example.net";
const INFO: &str = "/nbsp-gba/v1/bootstrapping-info-retrieval";
const PUSH: &str = "/nbsp-gba/v1/push-info-retrieval";

/// What a property holds.
#[derive(Clone, Copy)]
enum Kind {
    /// So many hexadecimal digits.
    Hex(usize),
    /// Octets, at least one, two digits each.
    Octets,
    /// `date-time` of RFC 3339.
    Time,
    Text,
    Uint32,
    Word(&'static [&'static str]),
    /// At least one.
    List(&'static Kind),
    Object(&'static [Property]),
}

/// Name, whether it has to be there, and what it holds.
type Property = (&'static str, bool, Kind);

const GBA_TYPE: Kind = Kind::Word(&["3G_GBA", "2G_GBA", "GBA_DIGEST"]);
const USS_LIST: Kind = Kind::List(&Kind::Object(&[("uss", true, Kind::Object(USS))]));
const USS: &[Property] = &[
    ("gsId", true, Kind::Uint32),
    ("gsType", true, Kind::Uint32),
    ("ueIds", true, Kind::List(&Kind::Object(&[("ueId", true, Kind::Text)]))),
    ("nafGroup", false, Kind::Text),
    ("flags", false, Kind::List(&Kind::Object(&[("flag", true, Kind::Uint32)]))),
    ("keyChoice", false, Kind::Word(&["ME_BASED_KEY", "UICC_BASED_KEY", "ME_UICC_BASED_KEYS"])),
];
/// `BootstrappingInfoResponse`.
const INFO_RESPONSE: &[Property] = &[
    ("meKeyMaterial", true, Kind::Hex(64)),
    ("uiccKeyMaterial", false, Kind::Hex(64)),
    ("keyExpiryTime", false, Kind::Time),
    ("bootstrappingInfoCreationTime", false, Kind::Time),
    ("ussList", false, USS_LIST),
    ("gbaType", false, GBA_TYPE),
    ("impi", false, Kind::Text),
];
/// `PushInfoResponse`.
const PUSH_RESPONSE: &[Property] = &[
    ("meKeyMaterial", true, Kind::Hex(64)),
    ("gbaPushInfo", true, Kind::Octets),
    ("uiccKeyMaterial", false, Kind::Hex(64)),
    ("keyExpiryTime", false, Kind::Time),
    ("bootstrappingInfoCreationTime", false, Kind::Time),
    ("ussList", false, USS_LIST),
    ("gbaType", false, GBA_TYPE),
    ("impi", false, Kind::Text),
    ("securityFeaturesResponse", false, Kind::List(&Kind::Word(&["GPL_U"]))),
];
/// `ProblemDetails` of TS 29.571; ours always say a status and a cause.
const PROBLEM: &[Property] = &[
    ("type", false, Kind::Text),
    ("title", false, Kind::Text),
    ("status", true, Kind::Uint32),
    ("detail", false, Kind::Text),
    ("instance", false, Kind::Text),
    ("cause", true, Kind::Text),
    (
        "invalidParams",
        false,
        Kind::List(&Kind::Object(&[("param", true, Kind::Text), ("reason", false, Kind::Text)])),
    ),
];

/// What differs from the schema, by the path to it.
fn faults(kind: Kind, at: &str, value: &Value) -> Vec<String> {
    let text = value.as_str();
    let hex = |text: &str| text.bytes().all(|octet| octet.is_ascii_hexdigit());
    let good = match kind {
        Kind::Hex(digits) => text.is_some_and(|text| text.len() == digits && hex(text)),
        Kind::Octets => text.is_some_and(|text| text.len() > 1 && text.len() % 2 == 0 && hex(text)),
        Kind::Time => text.is_some_and(is_time),
        Kind::Text => text.is_some(),
        Kind::Uint32 => value.as_u64().is_some_and(|number| u32::try_from(number).is_ok()),
        Kind::Word(words) => text.is_some_and(|text| words.contains(&text)),
        Kind::List(of) => {
            let Some(members @ [_, ..]) = value.as_array().map(Vec::as_slice) else {
                return vec![format!("{at} is no list")];
            };
            return members.iter().flat_map(|one| faults(*of, &format!("{at}/*"), one)).collect();
        }
        Kind::Object(properties) => {
            let Some(object) = value.as_object() else { return vec![format!("{at} is no object")] };
            let known = |name: &String| properties.iter().any(|(own, ..)| own == name);
            let mut found: Vec<_> = object
                .keys()
                .filter(|name| !known(name))
                .map(|name| format!("{at}/{name} is not known"))
                .collect();
            for (name, needed, kind) in properties {
                match object.get(*name) {
                    Some(value) => found.extend(faults(*kind, &format!("{at}/{name}"), value)),
                    None if *needed => found.push(format!("{at}/{name} is missing")),
                    None => {}
                }
            }
            return found;
        }
    };
    if good { Vec::new() } else { vec![format!("{at} = {value}")] }
}

fn is_time(text: &str) -> bool {
    let shape = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(own, of)| match of {
                b'0' => own.is_ascii_digit(),
                of => own == of,
            })
    };
    let Some((moment, zone)) = text.split_at_checked(19) else { return false };
    let zone = zone.trim_start_matches(|octet: char| octet == '.' || octet.is_ascii_digit());
    shape(moment, "0000-00-00T00:00:00")
        && (zone == "Z" || shape(zone, "+00:00") || shape(zone, "-00:00"))
}

/// The schema tells what is no answer: else it would show nothing of what is one.
#[test]
fn the_schema_of_ts_29_309_tells_what_is_none() {
    let good = json!({
        "meKeyMaterial": "aB".repeat(32), "gbaPushInfo": "10FF", "keyExpiryTime": "2027-01-01T00:00:00Z",
        "bootstrappingInfoCreationTime": "2026-01-01T00:00:00.5+01:00", "gbaType": "3G_GBA", "impi": "a@b",
        "uiccKeyMaterial": "00".repeat(32), "securityFeaturesResponse": ["GPL_U"],
        "ussList": [{ "uss": {
            "gsId": 7, "gsType": 0, "ueIds": [{ "ueId": "sip:a@b" }], "flags": [{ "flag": 1 }],
            "nafGroup": "a", "keyChoice": "ME_BASED_KEY",
        } }],
    });
    let response = Kind::Object(PUSH_RESPONSE);
    assert_eq!(faults(response, "", &good), [""; 0]);
    for (path, value) in [
        ("/meKeyMaterial", json!("ab".repeat(31))),
        ("/meKeyMaterial", json!("zz".repeat(32))),
        ("/gbaPushInfo", json!("abc")),
        ("/gbaPushInfo", json!("")),
        ("/keyExpiryTime", json!("2027-01-01 00:00:00Z")),
        ("/keyExpiryTime", json!("2027-01-01T00:00:00")),
        ("/keyExpiryTime", json!(1_800_000_000)),
        ("/gbaType", json!("4G_GBA")),
        ("/impi", json!(1)),
        ("/ussList", json!([])),
        ("/ussList/0/uss/gsId", json!("7")),
        ("/ussList/0/uss/ueIds/0", json!({ "ueID": "sip:a@b" })),
        ("/ussList/0/uss/flags", json!([1])),
        ("/ussList/0/uss/keyChoice", json!("ME")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        assert!(!faults(response, "", &bad).is_empty(), "{path}");
    }
    let mut more = good;
    more["meKeymaterial"] = json!("");
    assert_eq!(faults(response, "", &more), ["/meKeymaterial is not known"]);
    let none = faults(Kind::Object(INFO_RESPONSE), "", &json!({}));
    assert_eq!(none, ["/meKeyMaterial is missing"]);
}

/// The bootstrapping server, as a process of its own, and who asks it.
struct Server {
    ub: SocketAddr,
    at: SocketAddr,
    own: Vec<String>,
    curl: PathBuf,
    authority: Authority,
    folder: Folder,
    peer: Peer,
}

/// What curl got.
#[derive(Debug)]
struct Got {
    version: String,
    status: u16,
    head: String,
    body: Value,
}

const SUBSCRIBERS: &str = r#"
[[subscriber]]
impi = "alice@ims.example.net"
k = "465b5ce8b199b49faa5f0a2ee238a6bc"
opc = "cd63cb71954a9f4e48a5994e37a02baf"
impus = ["sip:alice@example.net", "tel:+15550100"]
uss = [{ gsid = 7, flags = [1, 2] }, { gsid = 8 }]
"#;

impl Server {
    fn start() -> Self {
        Self::start_with("", |_| {})
    }

    /// With `more` in `[nbsp]`; `before` writes files that are named there.
    fn start_with(more: &str, before: impl FnOnce(&Folder)) -> Self {
        let (folder, authority) = (Folder::new("nbsp"), Authority::new("nbsp"));
        let curl = find("curl", "curl");
        let ip = loopback::address();
        let (ub, at) = (SocketAddr::new(ip, 8080), SocketAddr::new(ip, 8443));
        folder.write("ca.pem", &authority.pem());
        secret(&folder, "subscribers.toml", SUBSCRIBERS);
        before(&folder);
        let paper = authority.issue(&["bsf.example.net"]);
        folder.write("bsf.pem", &paper.certificate);
        secret(&folder, "bsf.key", &paper.key);
        let text = format!(
            r#"
[bsf]
name = "bsf.example.net"
listen = "{ub}"
subscribers = "subscribers.toml"
[nbsp]
listen = "{at}"
tls = {{ certificate = "bsf.pem", key = "bsf.key", ca = "ca.pem" }}
{more}
[[nbsp.naf]]
host = "{NAF}"
fqdns = ["{NAF}"]
ua_ids = ["0300000003", "0100000005"]
sees_impi = true
[[nbsp.naf]]
host = "other.example.net"
fqdns = ["other.example.net"]
[telemetry]
log = "trace"
"#
        );
        let config = folder.write("sipward.toml", &text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sipward"));
        let peer = Peer::start("sipward", command.arg("serve").arg("-c").arg(config));
        let ready = peer.await_that(Duration::from_secs(30), |_| {
            [ub, at].iter().all(|at| loopback::is_bound("tcp", *at)).then_some(())
        });
        assert!(ready.is_some(), "it does not listen on {at}:\n{}", peer.said());
        let mut server = Self { ub, at, own: Vec::new(), curl, authority, folder, peer };
        server.own = server.certified("naf", NAF);
        server
    }

    /// The words that make curl show a certificate of that host.
    fn certified(&self, name: &str, host: &str) -> Vec<String> {
        let paper = self.authority.issue(&[host]);
        let pem = self.folder.write(&format!("{name}.pem"), &paper.certificate);
        let key = secret(&self.folder, &format!("{name}.key"), &paper.key);
        ["--cert", pem.to_str().unwrap(), "--key", key.to_str().unwrap()].map(str::to_owned).into()
    }

    /// A key of alice's, made at Ub.
    fn bootstrap(&self) -> Arc<Bootstrapped> {
        let mut card = card(0);
        let plan = UbPlan::new(Impi::new(IMPI).unwrap(), "bsf.example.net");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let done = runtime.block_on(bootstrap_http::bootstrap(&plan, self.ub, &mut card, None));
        Arc::new(done.unwrap_or_else(|why| panic!("{why}")))
    }

    /// Has curl ask, with the words in `more` as well; its complaint if it got no answer.
    fn run(&self, more: &[&str], path: &str, body: &str) -> Result<Got, String> {
        let (head, told) = (self.folder.path().join("head"), self.folder.path().join("told"));
        for file in [&head, &told] {
            let _ = fs::remove_file(file);
        }
        let mut command = Command::new(&self.curl);
        command
            // No file of the user's own, no proxy.
            .args(["--disable", "--silent", "--show-error", "--noproxy", "*", "--max-time", "30"])
            .args(["--resolve", &format!("bsf.example.net:8443:{}", self.at.ip())])
            .arg("--cacert")
            .arg(self.folder.path().join("ca.pem"))
            .args(["--write-out", "%{http_version} %{response_code}", "--dump-header"])
            .arg(&head)
            .arg("--output")
            .arg(&told)
            .args(["--data-binary", "@-"])
            .args(more)
            .arg(format!("https://bsf.example.net:8443{path}"));
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8(output.stderr).unwrap());
        }
        let said = String::from_utf8(output.stdout).unwrap();
        let (version, status) = said.split_once(' ').unwrap();
        let body = fs::read(&told).unwrap();
        Ok(Got {
            version: version.to_owned(),
            status: status.parse().unwrap(),
            head: fs::read_to_string(&head).unwrap().to_ascii_lowercase(),
            body: serde_json::from_slice(&body).unwrap(),
        })
    }

    /// Asks with our certificate, over HTTP/2.
    fn ask(&self, more: &[&str], path: &str, body: &str) -> Got {
        let mut words: Vec<&str> = self.own.iter().map(String::as_str).collect();
        words.push("--http2");
        words.extend(more);
        let got = self.run(&words, path, body).unwrap_or_else(|why| panic!("{path}: {why}"));
        assert_eq!(got.version, "2", "{got:?}");
        let (kind, schema) = match got.status {
            200 if path == PUSH => ("application/json", PUSH_RESPONSE),
            200 => ("application/json", INFO_RESPONSE),
            _ => ("application/problem+json", PROBLEM),
        };
        assert!(got.head.contains(&format!("\r\ncontent-type: {kind}\r\n")), "{got:?}");
        assert_eq!(faults(Kind::Object(schema), "", &got.body), [""; 0], "{got:?}");
        if got.status != 200 {
            assert_eq!(got.body["status"], got.status, "{got:?}");
        }
        got
    }

    fn post(&self, path: &str, body: &Value) -> Got {
        self.ask(&[AS_JSON[0], AS_JSON[1]], path, &body.to_string())
    }
}

const AS_JSON: [&str; 2] = ["--header", "Content-Type: application/json"];

fn secret(folder: &Folder, name: &str, text: &str) -> PathBuf {
    let path = folder.write(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Alice's card, which has seen the numbers before `seen`.
fn card(seen: u64) -> Usim {
    let subscriber = file::parse("card", SUBSCRIBERS).unwrap().remove(0);
    Usim::new(subscriber.algorithms.unwrap(), SqnWindow::default().with_seen([seen; PLACES]))
}

fn info_question(btid: &str) -> Value {
    json!({
        "btId": btid,
        "nafId": { "nafFqdn": NAF, "uaSecProtId": "0300000003" },
        "gbaUAware": false,
        "gsIds": [0, 7],
    })
}

fn push_question() -> Value {
    json!({
        "ueId": IMPI, "ueIdType": "PRIVATE", "uiccAppLabel": "USIM",
        "nafId": { "nafFqdn": NAF, "uaSecProtId": "0100000005" },
        "ptId": "p-0000000001", "uiccOrMe": "GBA_ME", "requestedLifeTime": "2099-01-01T00:00:00Z",
        "privateIdRequest": true,
    })
}

/// Whether all of those properties are there.
fn has(got: &Got, names: &[&str]) -> bool {
    names.iter().all(|name| got.body.get(*name).is_some())
}

fn octets(got: &Got, name: &str) -> Vec<u8> {
    let digits = got.body[name].as_str().unwrap();
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// TS 29.309 clause 5.2.2.2: the key that curl is told is the one that the UE has.
#[test]
fn curl_is_told_the_key_of_a_b_tid() {
    let server = Server::start();
    let keys = server.bootstrap();
    let got = server.post(INFO, &info_question(keys.btid.as_str()));
    assert_eq!(got.status, 200, "{got:?}");
    let all = ["keyExpiryTime", "bootstrappingInfoCreationTime", "ussList", "gbaType", "impi"];
    assert!(has(&got, &all), "{got:?}");
    let own = keys.naf_key(&NafId::new(NAF, UaId::SIP_DIGEST)).unwrap();
    assert_eq!(octets(&got, "meKeyMaterial"), own.expose());
    assert_eq!((&got.body["impi"], &got.body["gbaType"]), (&json!(IMPI), &json!("3G_GBA")));
    let time = |name: &str| got.body[name].as_str().unwrap();
    assert!(time("bootstrappingInfoCreationTime") < time("keyExpiryTime"));
    let ids = json!([{ "ueId": "sip:alice@example.net" }, { "ueId": "tel:+15550100" }]);
    let seven =
        json!({ "gsId": 7, "gsType": 0, "ueIds": ids, "flags": [{ "flag": 1 }, { "flag": 2 }] });
    let nobodys = json!({ "gsId": 0, "gsType": 0, "ueIds": ids });
    assert_eq!(got.body["ussList"], json!([{ "uss": seven }, { "uss": nobodys }]));
    // Without what may be left out.
    let least = json!({
        "btId": keys.btid.as_str(), "nafId": { "nafFqdn": NAF, "uaSecProtId": "0300000003" },
    });
    assert_eq!(server.post(INFO, &least).body["meKeyMaterial"], got.body["meKeyMaterial"]);
}

/// TS 29.309 clause 5.2.2.3: of the push info that curl is told, the card makes the key that curl is told.
#[test]
fn curl_is_told_push_info() {
    let server = Server::start();
    let got = server.post(PUSH, &push_question());
    assert_eq!(got.status, 200, "{got:?}");
    let all = ["keyExpiryTime", "bootstrappingInfoCreationTime", "gbaType", "impi"];
    assert!(has(&got, &all), "{got:?}");
    assert_eq!(got.body["impi"], IMPI);
    let subscription = Subscription {
        impi: Impi::new(IMPI).unwrap(),
        bsf: "bsf.example.net".into(),
        application: CardApplication::Usim,
        nafs: vec![NafId::new(NAF, UaId::PUSH_LAYER)],
    };
    let profile: Arc<dyn Profile> = Arc::new(P1);
    let (mut own, now) = (Associations::new(subscription, Arc::clone(&profile)), clock::now().wall);
    let gpi = octets(&got, "gbaPushInfo");
    let rand = profile.gpi_head(&gpi).unwrap().rand;
    own.take(&gpi, &mut card(0), now).expect("for this card");
    let key = KsNaf::new(octets(&got, "meKeyMaterial").try_into().unwrap());
    let mut sender =
        Sender::new(&profile, &key, Direction::Down, &downlink_id(&rand)).expect("short");
    let (_, wrapped) = sender.wrap(b"mail").unwrap();
    assert_eq!(own.unwrap(&wrapped, now).expect("under the same key").plain, b"mail");

    // The pace of a subscriber: each moves his card's number.
    let statuses: Vec<u16> = (0..3).map(|_| server.post(PUSH, &push_question()).status).collect();
    assert_eq!(statuses, [200, 200, 429]);
}

/// TS 29.309 clause 6.1.7, TS 29.500 clause 5.2.7.2: each no is problem details with a status and a cause.
#[test]
fn curl_is_told_what_is_wrong() {
    let server = Server::start();
    let keys = server.bootstrap();
    let (info, push) = (info_question(keys.btid.as_str()), push_question());
    let with = |question: &Value, path: &str, value: Value| {
        let mut question = question.clone();
        *question.pointer_mut(path).unwrap() = value;
        question.to_string()
    };
    let without = |question: &Value, name: &str| {
        let mut question = question.clone();
        question.as_object_mut().unwrap().remove(name);
        question.to_string()
    };
    let auts = || {
        let mut question = push.clone();
        question["auts"] = json!("00".repeat(14));
        question["rand"] = json!("01".repeat(16));
        question.to_string()
    };
    let (json, none): (&[&str], &[&str]) = (&AS_JSON, &["--header", "Content-Type:"]);
    let long = format!("\"{}\"", "a".repeat(40_000));
    for (path, words, body, status, cause, param) in [
        (INFO, json, "{".into(), 400, "INVALID_MSG_FORMAT", None),
        (INFO, json, "[]".into(), 400, "INVALID_MSG_FORMAT", None),
        (INFO, json, String::new(), 400, "INVALID_MSG_FORMAT", None),
        (INFO, json, without(&info, "btId"), 400, "MANDATORY_IE_MISSING", Some("btId")),
        (INFO, json, without(&info, "nafId"), 400, "MANDATORY_IE_MISSING", Some("nafId")),
        (
            INFO,
            json,
            with(&info, "/nafId/uaSecProtId", json!("03")),
            400,
            "MANDATORY_IE_INCORRECT",
            Some("uaSecProtId"),
        ),
        (
            INFO,
            json,
            with(&info, "/nafId/nafFqdn", json!("other.example.net")),
            403,
            "NAF_NOT_AUTHORIZED",
            None,
        ),
        (
            INFO,
            json,
            with(&info, "/btId", json!("x@bsf.example.net")),
            404,
            "CONTEXT_NOT_FOUND",
            None,
        ),
        ("/", json, info.to_string(), 404, "RESOURCE_URI_STRUCTURE_NOT_FOUND", None),
        (
            "/nbsp-gba/v2/push-info-retrieval",
            json,
            push.to_string(),
            404,
            "RESOURCE_URI_STRUCTURE_NOT_FOUND",
            None,
        ),
        (INFO, json, long.clone(), 413, "PAYLOAD_TOO_LARGE", None),
        // What curl says of itself.
        (INFO, &[], info.to_string(), 415, "UNSUPPORTED_MEDIA_TYPE", None),
        (INFO, none, info.to_string(), 415, "UNSUPPORTED_MEDIA_TYPE", None),
        (PUSH, json, "{".into(), 400, "INVALID_MSG_FORMAT", None),
        (PUSH, json, without(&push, "ptId"), 400, "MANDATORY_IE_MISSING", Some("ptId")),
        (
            PUSH,
            json,
            with(&push, "/uiccOrMe", json!("ME")),
            400,
            "MANDATORY_IE_INCORRECT",
            Some("uiccOrMe"),
        ),
        (PUSH, json, auts(), 400, "OPTIONAL_IE_INCORRECT", Some("auts")),
        (
            PUSH,
            json,
            with(&push, "/nafId/uaSecProtId", json!("0100000002")),
            403,
            "NAF_NOT_AUTHORIZED",
            None,
        ),
        (
            PUSH,
            json,
            with(&push, "/ueId", json!("nobody@ims.example.net")),
            404,
            "USER_NOT_FOUND",
            None,
        ),
        (PUSH, json, long, 413, "PAYLOAD_TOO_LARGE", None),
        (PUSH, &[], push.to_string(), 415, "UNSUPPORTED_MEDIA_TYPE", None),
        (
            PUSH,
            json,
            with(&push, "/uiccOrMe", json!("GBA_U")),
            501,
            "NOT_IMPLEMENTED",
            Some("uiccOrMe"),
        ),
    ] {
        let got = server.ask(words, path, &body);
        assert_eq!((got.status, &got.body["cause"]), (status, &json!(cause)), "{path} {body}");
        let params = param.map(|name| json!([{ "param": name }]));
        assert_eq!(got.body.get("invalidParams"), params.as_ref(), "{path} {body}");
    }
    let got = server.ask(&["--request", "DELETE", AS_JSON[0], AS_JSON[1]], INFO, "{}");
    assert_eq!((got.status, &got.body["cause"]), (405, &json!("METHOD_NOT_ALLOWED")));
    assert!(got.head.contains("\r\nallow: post\r\n"), "{got:?}");
}

/// Clause 6.1 and SEC_CF 1.1 SEC-002: without a certificate, or with a stranger's, or over HTTP/1.1 there is no answer at all; with
/// another NAF's there is no key.
#[test]
fn curl_is_told_nothing_without_its_certificate() {
    let server = Server::start();
    let question = info_question(server.bootstrap().btid.as_str()).to_string();
    let own: Vec<&str> = server.own.iter().map(String::as_str).collect();
    let stranger = Authority::new("stranger").issue(&[NAF]);
    let pem = server.folder.write("stranger.pem", &stranger.certificate);
    let key = secret(&server.folder, "stranger.key", &stranger.key);
    let strangers = ["--cert", pem.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let [kind, json] = AS_JSON;
    for (what, words) in [
        ("none", vec!["--http2"]),
        ("a stranger's", [&strangers[..], &["--http2"]].concat()),
        ("HTTP/1.1", [&own[..], &["--http1.1"]].concat()),
    ] {
        let words = [&words[..], slice::from_ref(&kind), slice::from_ref(&json)].concat();
        let got = server.run(&words, INFO, &question);
        assert!(got.is_err(), "{what}: {got:?}");
    }
    let other = server.certified("other", "other.example.net");
    let words: Vec<&str> = other.iter().map(String::as_str).chain(AS_JSON).collect();
    let got = server.run(&words, INFO, &question).unwrap();
    assert_eq!((got.status, &got.body["cause"]), (403, &json!("NAF_NOT_AUTHORIZED")));
}

/// A token, and what the list says of it.
fn token(text: &str, host: &str, scopes: &str, expires: &str) -> String {
    let hash: [u8; 32] = Sha256::digest(text).into();
    let digits: String = hash.iter().map(|octet| format!("{octet:02x}")).collect();
    format!(
        "[[token]]\nsha256 = \"{digits}\"\nhost = \"{host}\"\nscopes = [{scopes}]\nexpires = \"{expires}\"\n"
    )
}

/// TS 29.309 clause 6.1.8, RFC 6750 section 3.1: where tokens are demanded, each lack is told; and a token is nothing without
/// the certificate of whom it was given to.
#[test]
fn curl_is_told_nothing_without_its_token() {
    const LATER: &str = "2099-01-01T00:00:00Z";
    let (all, info) =
        ("\"nbsp-gba\"", "\"nbsp-gba\", \"nbsp-gba:bootstrapping-info-retrieval:invoke\"");
    let list = [
        token("whole-1f0c5ad6", NAF, all, LATER),
        token("info-77ab09de", NAF, info, LATER),
        token("over-52d3e8b1", NAF, all, "2020-01-01T00:00:00Z"),
        token("other-cc1e3f70", "other.example.net", all, LATER),
    ];
    let server = Server::start_with("tokens = \"tokens.toml\"", |folder| {
        secret(folder, "tokens.toml", &list.concat());
    });
    let info = info_question(server.bootstrap().btid.as_str()).to_string();
    let push = push_question().to_string();
    let [kind, json] = AS_JSON;
    let ask = |words: &[&str], path: &str, body: &str| {
        server.ask(&[&[kind, json], words].concat(), path, body)
    };
    let realm = "bearer realm=\"nbsp-gba\"";
    let (invalid, short) = (
        format!("{realm}, error=\"invalid_token\""),
        format!(
            "{realm}, error=\"insufficient_scope\", scope=\"nbsp-gba nbsp-gba:push-info-retrieval:invoke\""
        ),
    );
    for (path, shown, status, cause, challenge) in [
        (INFO, None, 401, "TOKEN_MISSING", realm),
        (PUSH, None, 401, "TOKEN_MISSING", realm),
        (INFO, Some("whole-1f0c5ad7"), 401, "TOKEN_INVALID", &invalid),
        (INFO, Some("over-52d3e8b1"), 401, "TOKEN_INVALID", &invalid),
        (INFO, Some("other-cc1e3f70"), 401, "TOKEN_INVALID", &invalid),
        (PUSH, Some("info-77ab09de"), 403, "TOKEN_SCOPE", &short),
    ] {
        let words: Vec<&str> = shown.iter().flat_map(|token| ["--oauth2-bearer", token]).collect();
        // What is asked, and whether it is well formed, is looked at later.
        for body in [if path == INFO { &info } else { &push }, "{"] {
            let got = ask(&words, path, body);
            assert_eq!((got.status, &got.body["cause"]), (status, &json!(cause)), "{shown:?}");
            let line = format!("\r\nwww-authenticate: {challenge}\r\n");
            assert!(got.head.contains(&line), "{shown:?} {got:?}");
        }
    }
    let basic = ask(&["--user", "naf:whole-1f0c5ad6"], INFO, &info);
    assert_eq!((basic.status, &basic.body["cause"]), (401, &json!("TOKEN_MISSING")));
    assert_eq!(ask(&[], "/other", "{}").status, 404);
    for (path, body, shown) in [
        (INFO, &info, "whole-1f0c5ad6"),
        (INFO, &info, "info-77ab09de"),
        (PUSH, &push, "whole-1f0c5ad6"),
    ] {
        let got = ask(&["--oauth2-bearer", shown], path, body);
        assert_eq!(got.status, 200, "{got:?}");
        assert!(!got.head.contains("www-authenticate"), "{got:?}");
    }

    let words = ["--http2", kind, json, "--oauth2-bearer", "whole-1f0c5ad6"];
    let got = server.run(&words, INFO, &info);
    assert!(got.is_err(), "no certificate: {got:?}");
    let said = server.peer.said();
    assert!(said.contains(" DEBUG ") || said.contains(" TRACE "), "{said}");
    for part in ["1f0c5ad6", "77ab09de", "52d3e8b1", "cc1e3f70"] {
        assert!(!said.contains(part), "a token is in the log: {said}");
    }
}
