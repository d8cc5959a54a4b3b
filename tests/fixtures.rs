//! Walks `sip-fixtures/gate` and `sip-fixtures/enabler`: a `.sip` file and the `.toml` beside it are a test.
//!
//! The octets are sent to a laboratory edge in virtual time. A few words in them stand for what only the run can
//! know: `@ue1`, `@ue2` and `@ue1-next` in place of credentials (`@ue1 nc=1 password=wrong nonce=foreign realm=...
//! hash=MD5` vary them; `nonce=new` is one of now), `@vias` in place of the Via values of the request that the core saw
//! last (`@vias-ue` of the one that alice saw), `@path` in place of the Path it saw last, `@recorded` in place of its Record-Route, `@route` in place of the Route that a UE takes from the
//! Record-Route seen last (`-altered` and `-swapped` vary it), `@asked` and `@answered` in place of what stands under that name in the request that the core
//! and the response that a UE saw last, `@asked-from` for the From of that request,
//! `@length` in place of the length of the body. `Security-Verify: @agreed ue1` mirrors the list of
//! an agreement and is followed by the credentials that protect it (`list=...` and `ver=...` vary them, a space in the
//! list being written `_`); `over=altered` signs another body than is sent.

#[path = "fixtures/enabler.rs"]
mod enabler;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use sipward::admission::Load;
use sipward::authentication::digest::Hash;
use sipward::authentication::sec_agree::Mode;
use sipward::cli;
use sipward::gate::Lookup;
use sipward::http::admin::views::Explanation;
use sipward::identity::{Btid, Proof};
use sipward::journey::{Account, Decision, Outcome, RULES};
use sipward::keys::{KeyAnswer, NafId, UaId};
use sipward::refusal::Refusal;
use sipward::state::{Memory, Store};
use sipward::testing::lab::{EDGE, UE1_BTID, UE1_PASSWORD, lab_key};
use sipward::testing::{AwayStore, Lab, LabSettings, Peer, Sent, Signer, UE1_LOCSIP_PASSWORD};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    source: String,
    arrival: Arrival,
    #[serde(default)]
    given: Given,
    /// Rules that it would earn if one thing were otherwise; `guards` sees to it that each has one.
    #[serde(default)]
    neighbour: Vec<u8>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arrival {
    transport: String,
    from: String,
    /// Seconds after the start of the run.
    #[serde(default)]
    at: String,
    #[serde(default)]
    copies: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Given {
    /// Fixtures that are sent first, in order.
    #[serde(default)]
    before: Vec<String>,
    /// Dialogs that fit into the table.
    dialogs_max: Option<usize>,
    /// Transactions that fit into the table.
    transactions_max: Option<usize>,
    /// What the key server says of keys that nobody has: "forbidden", "ask", "unavailable".
    keys: Option<String>,
    /// Nodes share their nonces, and their store of counts is "there" or "away".
    counts: Option<String>,
    /// Request-URI domains without a route are refused.
    #[serde(default)]
    no_default_route: bool,
    /// A UE must list `path`.
    #[serde(default)]
    path_strict: bool,
    /// Who asks for outbound must be the hop before.
    #[serde(default)]
    outbound_required: bool,
    /// Requests a second of one flow.
    flow_rate: Option<u32>,
    /// Beginnings of numbers that nobody may dial.
    #[serde(default)]
    deny: Vec<String>,
    /// Attempts at them in an hour that raise no alarm.
    tolls: Option<u32>,
    /// "high" or "severe".
    load: Option<String>,
    /// Least level of class sip.
    level: Option<u8>,
    /// The edge is another process since.
    #[serde(default)]
    restarted: bool,
    /// What listeners for UEs do about security agreements: "accept" or "require".
    sec_agree: Option<String>,
    /// Listeners for UEs stand back to back with the core.
    #[serde(default)]
    b2bua: bool,
    /// Flows that are closed before, by the address of the peer.
    #[serde(default)]
    closed: Vec<String>,
    /// Of the classes of enablers.
    #[serde(default)]
    classes: enabler::Classes,
    /// Whose keys are taken back before.
    #[serde(default)]
    revoked: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// "forward", "answer", "drop", "absorb" or "wait".
    stop: String,
    status: Option<u16>,
    stale: Option<bool>,
    refusal: Option<String>,
    rule: Option<u8>,
    /// How the line begins that decides, as an account shows it.
    line: Option<String>,
    /// Lines that the forwarded message must have.
    #[serde(default)]
    has: Vec<String>,
    /// Text that it must not have.
    #[serde(default)]
    lacks: Vec<String>,
}

/// What the UE of alice bootstraps next.
const NEXT_BTID: &str = "bmV4dCBib290c3RyYXAgcnVu@bsf.example.net";
/// What a listener for UEs can do.
const LIST: &str = "tls;q=0.5, digest;d-alg=MD5;d-qop=auth-int;q=0.1";

struct Run {
    lab: Lab,
    start: Duration,
    signers: BTreeMap<String, Signer>,
    last_core: Option<Sent>,
    last_ue: Option<Sent>,
    answered: Option<Sent>,
    path: Option<String>,
    route: Option<String>,
}

fn signers(lab: &Lab) -> BTreeMap<String, Signer> {
    BTreeMap::from([
        ("ue1".to_owned(), lab.ue1()),
        ("ue2".to_owned(), lab.ue2()),
        ("ue1-locsip".to_owned(), lab.signer(UE1_BTID, UE1_LOCSIP_PASSWORD)),
        ("ue1-next".to_owned(), lab.signer(NEXT_BTID, UE1_PASSWORD)),
        ("nobody".to_owned(), lab.signer("AAAAAAAAAAAAAAAAAAAAAA==@bsf.example.net", "x")),
    ])
}

fn folders() -> [PathBuf; 2] {
    ["gate", "enabler"]
        .map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-fixtures").join(name))
}

fn case(name: &str) -> (Case, String) {
    let mut files = folders().into_iter().map(|folder| folder.join(name));
    let file = files.find(|file| file.exists()).unwrap_or_else(|| panic!("no fixture {name}"));
    let read = |file: &Path| {
        fs::read_to_string(file).unwrap_or_else(|why| panic!("{}: {why}", file.display()))
    };
    let toml = read(&file.with_extension("toml"));
    let case = toml::from_str(&toml).unwrap_or_else(|why| panic!("{name}: {why}"));
    (case, read(&file.with_extension("sip")))
}

fn seconds(text: &str) -> Duration {
    let digits = text.strip_suffix('s').unwrap_or("0");
    Duration::from_secs(digits.parse().unwrap_or_else(|_| panic!("{text:?} is no time")))
}

fn peer(arrival: &Arrival) -> Peer {
    let slot = arrival.from.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    match arrival.transport.as_str() {
        "udp" => Peer::udp(&arrival.from),
        "tcp" => Peer::tcp(&arrival.from, slot),
        "tls" => Peer::tls(&arrival.from, slot),
        "core" => Peer::core(),
        "location" => Peer::location(),
        "slp" => Peer::slp(),
        "stray" => Peer::stray(&arrival.from),
        other => panic!("no transport {other:?}"),
    }
}

impl Run {
    fn new(given: &Given) -> Self {
        let lab = Lab::new(Self::settings(given));
        let signers = signers(&lab);
        let mut run = Self {
            lab,
            start: Duration::ZERO,
            signers,
            last_core: None,
            last_ue: None,
            answered: None,
            path: None,
            route: None,
        };
        run.arrange(given);
        run
    }

    /// Another process, with the same secrets.
    fn restart(&mut self, given: &Given) {
        self.lab.restart(Self::settings(given));
        self.signers = signers(&self.lab);
        self.arrange(given);
    }

    fn settings(given: &Given) -> LabSettings {
        let mut settings = LabSettings::default();
        if let Some(max) = given.dialogs_max {
            settings.association.max = max;
        }
        if let Some(max) = given.transactions_max {
            settings.forward.transactions_max = max;
        }
        if given.no_default_route {
            settings.forward.default_route = None;
        }
        settings.counts = given.counts.as_ref().map(|counts| -> Arc<dyn Store> {
            match counts.as_str() {
                "there" => Arc::new(Memory::new()),
                "away" => Arc::new(AwayStore),
                other => panic!("no store {other:?}"),
            }
        });
        settings.forward.path_strict = given.path_strict;
        for listener in &mut settings.forward.listeners {
            listener.outbound_required = given.outbound_required;
        }
        if let Some(count) = given.flow_rate {
            settings.admission.flow_rate = sipward::admission::Rate::per_second(count);
        }
        let deny = given.deny.iter().map(|prefix| prefix.as_str().into());
        settings.numbers.usual.deny = deny.collect();
        if let Some(count) = given.tolls {
            settings.numbers.tolls.count = count;
        }
        if let Some(level) = given.level {
            settings.sip.demands.level = level;
        }
        if let Some(mode) = &given.sec_agree {
            settings = settings.agreeing(match mode.as_str() {
                "accept" => Mode::Accept,
                "require" => Mode::Require,
                other => panic!("no mode {other:?}"),
            });
        }
        given.classes.configure(&mut settings);
        if given.b2bua {
            settings = settings.bridging();
        }
        settings
    }

    fn arrange(&mut self, given: &Given) {
        let lab = &mut self.lab;
        given.classes.furnish(lab);
        if let Some(answer) = &given.keys {
            lab.keys.otherwise(match answer.as_str() {
                "forbidden" => KeyAnswer::Forbidden,
                "ask" => KeyAnswer::Ask,
                "unavailable" => KeyAnswer::Unavailable,
                other => panic!("no answer {other:?}"),
            });
        }
        let identities = ["sip:alice@example.net"];
        let ends = lab.now + Duration::from_secs(7200);
        let next = lab_key(UE1_PASSWORD, "ue1@ims.example.net", &identities, ends);
        let (btid, naf) = (Btid::new(NEXT_BTID), NafId::new(EDGE, UaId::SIP_DIGEST));
        lab.keys.put(btid.expect("a B-TID"), naf, KeyAnswer::Known(Arc::new(next)));
        if let Some(load) = &given.load {
            let load = match load.as_str() {
                "high" => Load::High,
                "severe" => Load::Severe,
                other => panic!("no load {other:?}"),
            };
            lab.shared.gate.admission.overload().change(Load::Normal, load);
        }
    }

    fn send(&mut self, case: &Case, text: &str) -> Vec<Sent> {
        self.send_and_look(case, text, |_, _| ())
    }

    /// `look` is shown the edge and the octets before the last copy of them.
    fn send_and_look(
        &mut self,
        case: &Case,
        text: &str,
        mut look: impl FnMut(&Lab, &[u8]),
    ) -> Vec<Sent> {
        let due = seconds(&case.arrival.at);
        if due > self.start {
            self.lab.advance(due - self.start);
            self.start = due;
        }
        let mut sent = Vec::new();
        let octets = self.fill(text);
        let copies = case.arrival.copies.unwrap_or(1);
        for copy in 1..=copies {
            if copy == copies {
                look(&self.lab, &octets);
            }
            sent = self.lab.receive_octets(&peer(&case.arrival), octets.clone());
            for message in sent.iter().filter(|sent| sent.to.to_string().starts_with("203.0.113."))
            {
                let text = message.text();
                let path = text.lines().find_map(|line| line.strip_prefix("Path: "));
                self.path = path.map(str::to_owned).or(self.path.take());
                self.route = route_of(&text).or(self.route.take());
                self.last_core = Some(message.clone());
            }
            let to_ue = |sent: &&Sent| sent.to.to_string() == "192.0.2.10:5060";
            let request = sent.iter().find(|sent| to_ue(sent) && sent.message.is_request());
            self.last_ue = request.cloned().or(self.last_ue.take());
            let answer = sent.iter().rfind(|sent| to_ue(sent) && !sent.message.is_request());
            self.answered = answer.cloned().or(self.answered.take());
            self.route = answer.and_then(|sent| route_of(&sent.text())).or(self.route.take());
        }
        sent
    }

    /// Puts what the run knows in the place of the words that stand for it.
    fn fill(&mut self, text: &str) -> Vec<u8> {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let mut lines: Vec<String> = Vec::new();
        for line in head.split("\r\n") {
            match line.split_once(": @") {
                Some((name, word)) => lines.extend(self.word(name, word, head, body)),
                None => lines.push(line.to_owned()),
            }
        }
        format!("{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes()
    }

    fn word(&mut self, name: &str, word: &str, head: &str, body: &str) -> Vec<String> {
        match word {
            "length" => return vec![format!("{name}: {}", body.len())],
            "path" => return vec![format!("{name}: {}", self.path.as_deref().expect("a Path"))],
            "path-altered" => {
                let path = self.path.as_deref().expect("a Path");
                let at = path.find('@').expect("a host") - 4;
                let flipped = if path[at..].starts_with('A') { "B" } else { "A" };
                return vec![format!("{name}: {}{flipped}{}", &path[..at], &path[at + 1..])];
            }
            "recorded" => {
                let text = self.last_core.as_ref().expect("a request").text();
                return recorded(&text).iter().map(|value| format!("{name}: {value}")).collect();
            }
            "asked" => return vec![line_of(self.last_core.as_ref(), name, name)],
            "asked-from" => return vec![line_of(self.last_core.as_ref(), "From", name)],
            "answered" => return vec![line_of(self.answered.as_ref(), name, name)],
            "route" | "route-altered" | "route-swapped" => {
                let route = self.route.as_deref().expect("a Record-Route");
                let (first, second) = route.split_once(", ").expect("a pair");
                let changed = match word {
                    "route-altered" => {
                        let at = route.find('@').expect("a token") - 4;
                        let flipped = if route[at..].starts_with('A') { "B" } else { "A" };
                        format!("{}{flipped}{}", &route[..at], &route[at + 1..])
                    }
                    "route-swapped" => format!("{second}, {first}"),
                    _ => route.to_owned(),
                };
                return vec![format!("{name}: {changed}")];
            }
            "vias" | "vias-ue" => {
                let last = if word == "vias" { &self.last_core } else { &self.last_ue };
                let text = last.as_ref().expect("a request before").text();
                let vias = text.lines().filter(|line| line.starts_with("Via: "));
                return vias.map(str::to_owned).collect();
            }
            _ => {}
        }
        let (agreed, word) = match word.strip_prefix("agreed ") {
            Some(word) => (true, word),
            None => (false, word),
        };
        let mut words = word.split(' ');
        let who = words.next().expect("a name");
        let mut signer =
            self.signers.get(who).unwrap_or_else(|| panic!("no signer {who:?}")).clone();
        let (mut count, mut list, mut verifier) = (None, LIST.to_owned(), None);
        let mut altered = false;
        if agreed {
            (signer.hash, signer.auth_int) = (Hash::Md5, true);
        }
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "nc" => count = value.parse::<u32>().ok(),
                "password" => signer.password = value.into(),
                "nonce" if value == "new" => signer.nonce = self.lab.ue1().nonce,
                "nonce" => signer.nonce = "Zm9yZWlnbi1ub25jZS1mb3JlaWduLW5vbmNlLWZvcmVp".into(),
                "realm" => signer.realm = value.into(),
                "hash" => signer.hash = Hash::of(value.as_bytes()).expect("a hash").0,
                "list" => list = value.replace('_', " "),
                "ver" => verifier = Some(value.to_owned()),
                "qop" => signer.auth_int = value == "auth-int",
                "over" => altered = value == "altered",
                other => panic!("no word {other:?}"),
            }
        }
        let mut start = head.split("\r\n").next().unwrap_or_default().split(' ');
        let (method, uri) = (start.next().unwrap_or_default(), start.next().unwrap_or_default());
        let count = count.unwrap_or_else(|| {
            let signer = self.signers.get_mut(who).expect("known");
            signer.count += 1;
            signer.count
        });
        // As if somebody on the way had taken its last octet.
        let signed = if altered { format!("{body}!") } else { body.to_owned() };
        let credentials = signer.credentials_with(method, uri, signed.as_bytes(), count);
        if !agreed {
            return vec![format!("{name}: {credentials}")];
        }
        let own = || signer.verifier(method, uri, body.as_bytes(), count, LIST);
        let verifier = verifier.unwrap_or_else(own);
        let verifier = match verifier.as_str() {
            "none" => String::new(),
            digits => format!(";d-ver=\"{digits}\""),
        };
        vec![format!("{name}: {list}{verifier}"), format!("Proxy-Authorization: {credentials}")]
    }
}

/// Whether the line that decides begins like that.
fn begins(account: &Account, line: &str) -> bool {
    account.clue.as_ref().is_some_and(|clue| clue.text.starts_with(line))
}

/// Whether the account that was given before said what then came.
fn explains(
    name: &str,
    account: &Account,
    decision: &Decision,
    status: Option<u16>,
) -> Result<(), String> {
    let onward = |status: u16| {
        let begins = format!("SIP/2.0 {status} ");
        account.onward.iter().any(|(_, line)| line.starts_with(&begins))
    };
    let status = status.filter(|status| *status != 100);
    let answers = match decision.status {
        0 => account.answer == status,
        // A response goes on, or another one in its place.
        _ => status.is_none_or(onward),
    };
    let refused = matches!(decision.outcome, Outcome::Refused(_) | Outcome::Dropped(_));
    let waits = decision.outcome == Outcome::Waits;
    let forwarded = decision.outcome == Outcome::Forwarded && decision.status == 0;
    let facts = [
        ("decision", account.decision == Some(*decision)),
        ("evidence", !forwarded || account.evidence == Some(decision.evidence)),
        ("answer", answers),
        ("deciding line", account.clue.as_ref().is_some_and(|clue| !clue.text.is_empty())),
        ("refusal", refused <= account.refusal().is_some()),
        ("lookup", waits == account.lookup.is_some()),
        ("stages", !account.steps.is_empty() || refused),
    ];
    match facts.iter().find(|(_, holds)| !holds) {
        None => Ok(()),
        Some((fact, _)) => {
            Err(format!("{name}: {fact} of its account: {account:#?}\n{decision:?} {status:?}"))
        }
    }
}

/// Whether what `sipward explain` prints of it tells the deciding line, the rule, the evidence and the answer.
fn prints(name: &str, account: Account, octets: &[u8], lab: &Lab) -> Result<(), String> {
    let found = Explanation::of(account, lab.now);
    let mut text = Vec::new();
    cli::admin::explain::print(&found, &mut text).map_err(|why| format!("{name}: {why}"))?;
    let text = String::from_utf8(text).map_err(|why| format!("{name}: {why}"))?;
    let row = |title: &str| {
        text.lines().find_map(|line| line.strip_prefix(title)).map(str::trim).unwrap_or_default()
    };
    // That line of the octets, but for what proves in credentials.
    let line = found.line.and_then(|line| octets.split(|octet| *octet == b'\n').nth(line - 1));
    let start = found.text.split(':').next().unwrap_or_default();
    let begins = |line: &[u8]| String::from_utf8_lossy(line).starts_with(start);
    let stands = found.line.is_none() || line.is_some_and(begins) || start.starts_with("the body");
    let rule = match found.rule {
        0 => RULES[0].to_owned(),
        rule => format!("{rule}, {}", RULES[usize::from(rule)]),
    };
    let answer = match (found.answer, &*found.outcome) {
        (Some(status), _) => status.to_string(),
        (None, "refused" | "dropped") => "nothing".to_owned(),
        (None, _) => "none of ours yet".to_owned(),
    };
    let decided = row("decided by");
    let facts = [
        ("outcome", row("OUTCOME") == found.outcome),
        ("deciding line", stands && !found.text.is_empty() && decided.contains(&*found.text)),
        ("its number", found.line.is_none_or(|at| decided.starts_with(&format!("line {at}: ")))),
        ("rule", row("rule") == rule),
        ("evidence", row("evidence") == found.evidence.as_deref().unwrap_or("none so far")),
        ("answer", row("answer") == answer),
    ];
    match facts.iter().find(|(_, holds)| !holds) {
        None => Ok(()),
        Some((fact, _)) => Err(format!("{name}: {fact} is not printed: {found:?}\n{text}")),
    }
}

/// The field `of` of a message, under another name.
fn recorded(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("Record-Route: ")).collect()
}

/// The Route that a caller takes from the Record-Route of a message, if it has any.
fn route_of(text: &str) -> Option<String> {
    let reversed = recorded(text).into_iter().rev().collect::<Vec<_>>().join(", ");
    Some(reversed).filter(|route| !route.is_empty())
}

fn line_of(sent: Option<&Sent>, of: &str, name: &str) -> String {
    let text = sent.expect("it was seen").text();
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{of}: ")));
    format!("{name}: {}", value.expect("it is there"))
}

#[test]
fn every_fixture_gets_what_stands_beside_it() {
    let mut names: Vec<String> = folders()
        .into_iter()
        .flat_map(|folder| fs::read_dir(folder).expect("the folder of fixtures"))
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".sip"))
        .collect();
    names.sort();
    assert!(names.len() > 30, "only {} fixtures", names.len());
    let wrong: Vec<String> = names.iter().filter_map(|name| check(name).err()).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), names.len(), wrong.join("\n"));
}

fn check(name: &str) -> Result<(), String> {
    let (case, text) = case(name);
    assert!(!case.about.is_empty() && !case.source.is_empty(), "{name}: about and source");
    let mut run = Run::new(&case.given);
    for before in &case.given.before {
        let (case, text) = self::case(before);
        run.send(&case, &text);
    }
    if case.given.restarted {
        run.restart(&case.given);
    }
    for address in &case.given.closed {
        run.lab.close(&enabler::closed(address));
    }
    for who in &case.given.revoked {
        let name = &run.signers[who].username;
        let (associations, now) = (&run.lab.shared.gate.associations, run.lab.now);
        assert_eq!(associations.revoke_key(Proof::Gba, name, now), 2, "the call and its entry");
    }
    let (mut account, mut printed) = (None, Ok(()));
    let sent = run.send_and_look(&case, &text, |lab, octets| {
        let held = lab.all_held();
        let explain = || lab.explain(&peer(&case.arrival), octets.to_vec());
        // Twice: the first would have spent what the second has to find.
        explain();
        account = Some(explain());
        printed = prints(name, explain(), octets, lab);
        assert_eq!(lab.all_held(), held, "{name}: an account has an effect");
    });
    let account = account.expect("one copy at least");
    printed?;
    let decision = run.lab.decisions.last().ok_or(format!("{name}: nothing was decided"))?;
    let (stop, refusal) = match decision.outcome {
        Outcome::Forwarded => ("forward", None),
        Outcome::Absorbed => ("absorb", None),
        Outcome::Answered => ("answer", None),
        Outcome::Refused(refusal) => ("answer", Some(refusal)),
        Outcome::Dropped(refusal) => ("drop", Some(refusal)),
        Outcome::Waits => ("wait", None),
    };
    let expect = &case.expect;
    let back = sent.iter().rev().find(|sent| sent.message.status().is_some());
    let status = back.and_then(|sent| sent.message.status());
    let stale = back.is_some_and(|sent| sent.text().contains("stale=true"));
    let text: String = sent.iter().map(Sent::text).collect();
    // What refused it; or what let it pass, unless that is what it is to show.
    let passed = expect.rule.is_none().then_some(decision.rule);
    let earned = refusal.and_then(Refusal::rule).or(passed);
    let facts = [
        ("stop", stop == expect.stop),
        ("refusal", refusal.map(Refusal::name) == expect.refusal.as_deref()),
        ("status", expect.status.is_none_or(|expected| status == Some(expected))),
        ("stale", expect.stale.is_none_or(|expected| stale == expected)),
        ("rule", expect.rule.is_none_or(|expected| decision.rule == expected)),
        ("line", expect.line.as_ref().is_none_or(|line| begins(&account, line))),
        ("line of its rule", expect.rule.is_none() || expect.line.is_some()),
        ("neighbour", earned.is_none_or(|rule| !case.neighbour.contains(&rule))),
        ("has", expect.has.iter().all(|line| text.split("\r\n").any(|l| l == line))),
        ("lacks", expect.lacks.iter().all(|part| !text.contains(part.as_str()))),
    ];
    match facts.iter().find(|(_, holds)| !holds) {
        // What a store would say is not asked for the sake of an account: it says what would be asked.
        None if case.given.counts.is_some() => match account.lookup {
            Some(Lookup::NonceCount(_)) => Ok(()),
            other => Err(format!("{name}: an account looks up {other:?}")),
        },
        None => explains(name, &account, decision, status),
        Some((fact, _)) => Err(format!(
            "{name}: {fact} differs: {stop} {refusal:?} status {status:?} stale {stale} rule {}\n{text}",
            decision.rule
        )),
    }
}
