//! The audit, Digest: a good registration is accepted, then comes one with something wrong in its credentials.
//!
//! The good one is the control: where it is not accepted, nothing follows from what happens to the other.
//!
//! Takes:   an account, and a [`Forgery`].
//! Gives:   whether the second was accepted.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: RFC 3261 section 22; RFC 7616 sections 3.3, 3.4 and 5; RFC 8760 section 2; V-21 to V-26, V-98, V-102.

use super::super::case::{Case, Finding, Group, Judged, Over, Run, failed, not_applicable, passed};
use super::super::plan::Account;
use super::super::probe::Probe;
use super::super::user::{User, drawn};
use crate::authentication::digest::{Ha1, Hash, Inputs, Qop, Response};
use crate::transport::Transport;
use crate::wire::{Challenge, Message, Name};

/// What is wrong with the second one's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// They are the first one's, on the same connection.
    Replayed,
    /// They are the first one's, from another address.
    ReplayedElsewhere,
    /// They are the first one's, over another transport.
    ReplayedOverOther,
    /// The nonce was made up here.
    NonceOwn,
    /// One octet of the nonce is another.
    NonceAltered,
    /// They have no qop, though it was offered.
    WithoutQop,
    /// They are made with MD5, though SHA-256 is on offer.
    Weaker,
    /// They name another realm.
    Realm,
    /// They are for a URI of another domain.
    Uri,
    /// They are for another method.
    Method,
    /// They are signed over another body (auth-int).
    Body,
    /// The response is empty.
    Empty,
}

const fn row(
    name: &'static str,
    title: &'static str,
    threats: &'static [&'static str],
    clause: &'static str,
    why: &'static str,
    forgery: &'static Forgery,
) -> Case {
    Case {
        name,
        group: Group::Digest,
        title,
        threats,
        clause,
        why,
        remedy: "Check every parameter that the response covers, and spend each nonce count once; nonces must be ones that this server made.",
        over: Over::First,
        accounts: 1,
        disruptive: false,
        run: Run::Credentials(forgery),
    }
}

const REPLAY: &str = "Who reads one request, in a trace or on the way, can register, call or write in its sender's name as long as the nonce lives.";
const SPENDS: &str = "Spend each nonce count once: nonce_count of Kamailio's auth module, one nonce for one use in Asterisk; or a gateway that does.";

/// How often good credentials are tried, if the target asks for patience.
const CONTROLS: usize = 3;

/// The table.
pub const CASES: &[Case] = &[
    Case {
        remedy: SPENDS,
        ..row(
            "replay",
            "Credentials that were used are refused",
            &["V-23"],
            "RFC 7616 3.3, 5.5",
            REPLAY,
            &Forgery::Replayed,
        )
    },
    Case {
        remedy: SPENDS,
        ..row(
            "replay-elsewhere",
            "Credentials that were used are refused from another address",
            &["V-23"],
            "RFC 7616 5.5",
            REPLAY,
            &Forgery::ReplayedElsewhere,
        )
    },
    Case {
        remedy: SPENDS,
        ..row(
            "replay-other-transport",
            "Credentials that were used are refused over another transport",
            &["V-23", "V-111"],
            "RFC 7616 5.5",
            REPLAY,
            &Forgery::ReplayedOverOther,
        )
    },
    row(
        "nonce-own",
        "A nonce that the client made up is refused",
        &["V-22"],
        "RFC 7616 3.3, 5.4",
        "Who may choose the nonce may compute responses long before, or replay them for ever.",
        &Forgery::NonceOwn,
    ),
    row(
        "nonce-altered",
        "A nonce with one octet changed is refused",
        &["V-22"],
        "RFC 7616 3.3",
        "A nonce that the server cannot recognise has no age.",
        &Forgery::NonceAltered,
    ),
    row(
        "qop-missing",
        "Credentials without qop are refused where it was offered",
        &["V-21"],
        "RFC 7616 3.4; RFC 3261 22.4",
        "Without qop there is no nonce count: nothing tells a replay from a request.",
        &Forgery::WithoutQop,
    ),
    row(
        "md5-taken",
        "MD5 is not taken where SHA-256 is on offer",
        &["V-98"],
        "RFC 8760 2.4; RFC 7616 5.8",
        "Who is on the way strikes SHA-256 from the challenge, and has an MD5 response to guess passwords from.",
        &Forgery::Weaker,
    ),
    row(
        "realm-other",
        "Credentials for another realm are refused",
        &["V-21", "V-25"],
        "RFC 7616 3.4.2",
        "One server's response would open another's door.",
        &Forgery::Realm,
    ),
    row(
        "uri-other",
        "Credentials for a URI of another domain are refused",
        &["V-102"],
        "RFC 7616 3.4.6; RFC 3261 22.4",
        "The response is meant for one request; who reads it may put it on another that costs money.",
        &Forgery::Uri,
    ),
    row(
        "method-other",
        "Credentials for another method are refused",
        &["V-25"],
        "RFC 7616 3.4.3",
        "A harmless OPTIONS would sign a registration.",
        &Forgery::Method,
    ),
    row(
        "body-other",
        "Credentials over another body (auth-int) are refused",
        &["V-25", "V-127"],
        "RFC 7616 3.4.3",
        "The body is what the user said: who can change it speaks for him.",
        &Forgery::Body,
    ),
    row(
        "response-empty",
        "An empty response is refused",
        &["V-21"],
        "RFC 7616 3.4.1",
        "A comparison over no digits is true of every password.",
        &Forgery::Empty,
    ),
    Case {
        run: Run::Script(|probe| Box::pin(weak_offer(probe))),
        remedy: "Offer SHA-256 first, and MD5 only for as long as a client needs it.",
        ..row(
            "sha256-offered",
            "The challenge offers better than MD5",
            &["V-98"],
            "RFC 8760 2; RFC 7616 5.8",
            "A password can be guessed from an MD5 response billions of times a second.",
            &Forgery::Weaker,
        )
    },
    Case {
        run: Run::Script(|probe| Box::pin(unknown_user(probe))),
        remedy: "Challenge and refuse unknown users as if their password were wrong: always_auth_reject in Asterisk, the same reply in the failure branch elsewhere.",
        ..row(
            "user-unknown",
            "An unknown user is answered like a wrong password",
            &["V-26"],
            "RFC 7616 5.3; RFC 3261 22.4",
            "Who learns which names exist needs to guess passwords for those alone.",
            &Forgery::Empty,
        )
    },
];

/// The parts of credentials, as they are to be written.
struct Signing<'a> {
    account: &'a Account,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    hash: Hash,
    /// The name of the header they go into.
    name: &'static str,
    method: &'static str,
    uri: String,
    qop: Option<Qop<'static>>,
    empty: bool,
}

impl<'a> Signing<'a> {
    /// Good ones, in answer to a challenge, for a request to `uri`.
    fn answering(account: &'a Account, answer: &Message, uri: &str) -> Option<Self> {
        let (proxy, rows) = match answer.status() {
            Some(407) => (true, answer.challenges(Name::ProxyAuthenticate)),
            _ => (false, answer.challenges(Name::WwwAuthenticate)),
        };
        let (hash, challenge) = rows.filter_map(Result::ok).find_map(|challenge| {
            let bootstrapped = challenge.realm().starts_with(b"3GPP-bootstrapping");
            hash_of(&challenge).filter(|_| !bootstrapped).map(|hash| (hash, challenge))
        })?;
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let offered = challenge.param("qop").is_some();
        Some(Self {
            account,
            realm: text(challenge.realm()),
            nonce: text(challenge.nonce()),
            opaque: challenge.param("opaque").map(text),
            hash,
            name: if proxy { "Proxy-Authorization" } else { "Authorization" },
            method: "REGISTER",
            uri: uri.to_owned(),
            qop: offered.then_some(Qop::Auth),
            empty: false,
        })
    }

    /// The value of the header.
    fn value(&self) -> String {
        let Self { account, realm, nonce, hash, uri, .. } = self;
        let (user, password) = (account.username.as_bytes(), account.password.as_bytes());
        let ha1 = Ha1::new(*hash, user, realm.as_bytes(), password);
        let cnonce = drawn();
        let response = Response::compute(
            &ha1,
            &Inputs {
                hash: *hash,
                session: false,
                method: self.method.as_bytes(),
                uri: uri.as_bytes(),
                nonce: nonce.as_bytes(),
                cnonce: cnonce.as_bytes(),
                nc: b"00000001",
                qop: self.qop.unwrap_or(Qop::None),
            },
        );
        let digits = String::from_utf8_lossy(response.as_hex()).into_owned();
        let digits = if self.empty { String::new() } else { digits };
        let qop = match self.qop {
            None | Some(Qop::None) => String::new(),
            Some(Qop::Auth) => format!(", qop=auth, nc=00000001, cnonce=\"{cnonce}\""),
            Some(Qop::AuthInt(_)) => format!(", qop=auth-int, nc=00000001, cnonce=\"{cnonce}\""),
        };
        let opaque = self.opaque.as_ref().map(|opaque| format!(", opaque=\"{opaque}\""));
        format!(
            "Digest username=\"{}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm={}, \
             response=\"{digits}\"{qop}{}",
            account.username,
            hash.as_str(),
            opaque.unwrap_or_default(),
        )
    }
}

fn hash_of(challenge: &Challenge<'_>) -> Option<Hash> {
    match challenge.param("algorithm") {
        None => Some(Hash::Md5),
        Some(name) => Hash::of(name).filter(|(_, session)| !session).map(|(hash, _)| hash),
    }
}

/// Somebody who signs by hand, and a REGISTER that was challenged.
async fn challenged<'a>(
    probe: &Probe,
    account: &'a Account,
    user: &mut User,
) -> Result<(Signing<'a>, Message), Finding> {
    account.identity.clone_into(&mut user.voice.identity);
    let draft = user.registration(&account.identity, 60);
    let uri = draft.uri.clone();
    match user.ask_patiently(draft).await {
        Some(answer) if matches!(answer.status(), Some(401 | 407)) => {
            let signing = Signing::answering(account, &answer, &uri);
            let none = || not_applicable("the challenge is none of Digest that is known here");
            Ok((signing.ok_or_else(none)?, answer))
        }
        Some(answer) => {
            let status = answer.status().unwrap_or_default();
            let door = probe.door.transport.uri_token();
            Err(not_applicable(format!(
                "REGISTER over {door} is answered {status}, not challenged"
            )))
        }
        None => Err(not_applicable("REGISTER is not answered")),
    }
}

/// The answer to a REGISTER with these credentials, which are good for one request.
async fn register(
    user: &mut User,
    account: &Account,
    name: &'static str,
    value: &str,
) -> Option<Message> {
    let draft = user.registration(&account.identity, 60).with(name, value);
    user.ask(draft).await
}

/// Good credentials that were accepted, and the challenge they answer. A target that asks for patience is asked again.
async fn control<'a>(
    probe: &Probe,
    account: &'a Account,
    user: &mut User,
) -> Result<(Signing<'a>, Message, String), Finding> {
    for _ in 0..CONTROLS {
        let (good, offer) = challenged(probe, account, user).await?;
        let value = good.value();
        let Some(answer) = register(user, account, good.name, &value).await else {
            return Err(not_applicable("good credentials are not answered"));
        };
        let status = answer.status().unwrap_or_default();
        if matches!(status, 200..=299) {
            return Ok((good, offer, value));
        }
        if !user.was_asked_to_wait(&answer).await {
            let wait = answer.retry_after();
            let wait = wait.map(|wait| format!(", to be tried again in {wait} s: it bounds rates"));
            let wait = wait.unwrap_or_default();
            return Err(not_applicable(format!("good credentials are answered {status}{wait}")));
        }
    }
    Err(not_applicable("the target takes no registration for now: it asks to wait"))
}

/// Sends the good one and the other one.
pub(in super::super) async fn run(probe: &Probe, forgery: Forgery) -> Judged {
    let account = probe.account(0)?;
    let mut user = probe.stranger().await?;
    let (good, _, value) = control(probe, account, &mut user).await?;
    let (mut other, value) = match forgery {
        Forgery::Replayed => (user, value),
        Forgery::ReplayedElsewhere => (probe.stranger().await?, value),
        Forgery::ReplayedOverOther => {
            let fits =
                |transport| transport != probe.door.transport && transport != Transport::Dtls;
            let door = probe.plan().doors.iter().find(|door| {
                fits(door.transport)
                    && (door.transport != Transport::Tls || probe.plan().trust.is_some())
            });
            let none = || not_applicable("the target speaks over no other transport");
            let line = probe.line_to(*door.ok_or_else(none)?, "stranger").await?;
            (User::new(probe.plan(), line, None), value)
        }
        forgery => {
            let (mut forged, fresh) = challenged(probe, account, &mut user).await?;
            forged.forge(forgery, &fresh)?;
            (user, forged.value())
        }
    };
    account.identity.clone_into(&mut other.voice.identity);
    let answer = register(&mut other, account, good.name, &value).await;
    Ok(match answer.and_then(|answer| answer.status()) {
        Some(status @ 200..=299) => failed(format!("accepted: {status}")),
        Some(status @ (401 | 407)) => passed(format!("challenged again: {status}")),
        Some(status @ (429 | 500 | 503)) => {
            not_applicable(format!("answered {status}: that says nothing of the credentials"))
        }
        Some(status) => passed(format!("refused: {status}")),
        None => passed("not answered"),
    })
}

impl Signing<'_> {
    /// Makes them wrong.
    fn forge(&mut self, forgery: Forgery, offer: &Message) -> Result<(), Finding> {
        match forgery {
            Forgery::Replayed | Forgery::ReplayedElsewhere | Forgery::ReplayedOverOther => {}
            Forgery::NonceOwn => self.nonce = drawn(),
            Forgery::NonceAltered => {
                let altered = self.nonce.pop().map(|last| if last == 'A' { 'B' } else { 'A' });
                self.nonce.extend(altered);
            }
            Forgery::WithoutQop if self.qop.is_none() => {
                return Err(failed("the challenge offers no qop at all: replays cannot be told"));
            }
            Forgery::WithoutQop => self.qop = None,
            Forgery::Weaker if self.hash == Hash::Md5 => {
                return Err(not_applicable("nothing better than MD5 is offered"));
            }
            Forgery::Weaker => {
                // In its own realm and nonce, had it been offered; else in those of the better one.
                let rows = [Name::WwwAuthenticate, Name::ProxyAuthenticate];
                let both =
                    rows.iter().flat_map(|name| offer.challenges(*name)).filter_map(Result::ok);
                let md5 = both.filter(|challenge| hash_of(challenge) == Some(Hash::Md5)).last();
                if let Some(challenge) = md5.filter(|c| !c.realm().starts_with(b"3GPP")) {
                    self.nonce = String::from_utf8_lossy(challenge.nonce()).into_owned();
                }
                self.hash = Hash::Md5;
            }
            Forgery::Realm => self.realm = format!("other.{}", self.realm),
            Forgery::Uri => self.uri = "sip:elsewhere.invalid".into(),
            Forgery::Method => self.method = "OPTIONS",
            Forgery::Body => self.qop = Some(Qop::AuthInt(b"another body")),
            Forgery::Empty => self.empty = true,
        }
        Ok(())
    }
}

/// What the first challenge offers.
async fn weak_offer(probe: &Probe) -> Judged {
    let account = probe.account(0)?;
    let mut user = probe.stranger().await?;
    let (_, offer) = challenged(probe, account, &mut user).await?;
    let rows = [Name::WwwAuthenticate, Name::ProxyAuthenticate];
    let offered = rows.iter().flat_map(|name| offer.challenges(*name)).filter_map(Result::ok);
    let hashes: Vec<Hash> = offered.filter_map(|challenge| hash_of(&challenge)).collect();
    let names: Vec<&str> = hashes.iter().map(|hash| hash.as_str()).collect();
    let names = names.join(", ");
    Ok(match hashes.iter().any(|hash| *hash > Hash::Md5) {
        true => passed(format!("offered: {names}")),
        false => failed(format!("offered: {names} alone")),
    })
}

/// What tells an unknown user from a wrong password.
async fn unknown_user(probe: &Probe) -> Judged {
    let known = probe.account(0)?;
    let domain = &probe.plan().domain;
    let nobody = Account {
        identity: format!("sip:nobody-{}@{domain}", drawn()),
        username: format!("nobody-{}", drawn()),
        password: drawn().into(),
    };
    let wrong = Account { password: drawn().into(), ..known.clone() };
    let mut shapes = Vec::new();
    for account in [&wrong, &nobody] {
        let mut user = probe.stranger().await?;
        let (signing, first) = challenged(probe, account, &mut user).await?;
        let answer = register(&mut user, account, signing.name, &signing.value()).await;
        shapes.push((shape(&first), answer.as_ref().map(shape)));
    }
    Ok(match shapes.as_slice() {
        [known, unknown] if known == unknown => {
            let status = known.1.as_ref().map_or("not".to_owned(), |shape| shape.0.to_string());
            passed(format!("both are answered {status}, with the same headers"))
        }
        [known, unknown] => {
            let told = |shape: &Option<Shape>| {
                shape.as_ref().map_or("nothing".to_owned(), |(status, names)| {
                    format!("{status} ({})", names.join(", "))
                })
            };
            let first = known.0.0 != unknown.0.0 || known.0.1 != unknown.0.1;
            let what = if first { "challenged differently" } else { "refused differently" };
            failed(format!(
                "{what}: a wrong password {}, an unknown user {}",
                told(&known.1),
                told(&unknown.1)
            ))
        }
        _ => not_applicable("no two answers"),
    })
}

/// Status, and the names of the headers in order.
type Shape = (u16, Vec<String>);

fn shape(answer: &Message) -> Shape {
    let octets = answer.octets();
    let head = octets.get(..answer.head_end()).unwrap_or_default();
    let names = head.split(|octet| *octet == b'\n').skip(1).filter_map(|line| {
        let name = line.split(|octet| *octet == b':').next()?;
        (name.len() > 1).then(|| String::from_utf8_lossy(name).trim().to_owned())
    });
    (answer.status().unwrap_or_default(), names.collect())
}
