//! `sipward ue`: the UE's side, for laboratories and for credentials that SIPp can use.
//!
//! Takes:   addresses, names, files with secrets in them.
//! Gives:   what the edge answered; 0 for a 2xx, else 1.
//! Keeps:   bootstrapped keys, sealed, in the file that `--keys` names.
//! Refuses: secrets on the command line; an edge that does not prove its name.
//! Sources: SEC_CF 1.1 HLF-003, AUTH-002, AUTH-006.

pub(super) mod carried;
mod keys;
mod lists;
mod pushes;
mod stay;
mod visit;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args as Clap, Subcommand, ValueEnum};
use zeroize::Zeroizing;

use self::lists::{ImportArgs, ListArgs, Told};
use self::pushes::PushArgs;
use self::stay::FlowArgs;
use super::{GOOD, NO};
use crate::authentication::digest::Hash;
use crate::client::agreement::Protection;
use crate::client::answer::Credential;
use crate::client::bootstrap::Bootstrapped;
use crate::client::store::{Lock, Store};
use crate::client::ue::{Ue, UeSettings};
use crate::clock;
use crate::identity::Impi;
use crate::keys::psk::{PskClient, PskKey, PskName, PskUse, Scheme};
use crate::keys::{GbaType, NafId, UaId};
use crate::transport::tls::Certificate;
use crate::transport::ws::Offer;
use crate::transport::{Transport, tls};
use crate::wire::Message;
use crate::wire::respond::reason;

/// Arguments.
#[derive(Clone, Debug, Clap)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Make keys with a bootstrapping server, for one subscriber or for many
    Bootstrap(keys::Bootstrap),
    /// Take in a signed document that tells this client what to trust, or a key that was carried here
    Import(ImportArgs),
    /// Ask home for a key with which to prove oneself to a part in another network
    Visit(visit::VisitArgs),
    /// Ask home whether what was pushed is genuine, before acting on it
    Verify(visit::VerifyArgs),
    /// Register with the edge; with --stay, be there to answer calls and texts
    Register {
        #[command(flatten)]
        who: Who,
        /// Seconds; 0 ends the registration
        #[arg(long, value_name = "SECONDS", default_value_t = 600)]
        expires: u32,
        #[command(flatten)]
        flows: FlowArgs,
    },
    /// Ask what somebody can do
    Options {
        #[command(flatten)]
        who: Who,
        /// Whom
        uri: String,
    },
    /// Send a text
    Message {
        #[command(flatten)]
        who: Who,
        /// To whom
        uri: String,
        /// The text
        text: String,
        /// As OMA CPM has it: wrapped, and protected by the response where the transport does not
        #[arg(long)]
        cpm: bool,
    },
    /// Subscribe to an event package, and wait for its first NOTIFY
    Subscribe {
        #[command(flatten)]
        who: Who,
        /// To whose
        uri: String,
        /// Event package
        #[arg(long, default_value = "presence")]
        event: String,
        /// Ask where somebody is (OMA LOCSIP), with the key that is for that alone
        #[arg(long, conflicts_with = "event")]
        location: bool,
    },
    /// Call, and hang up after a while
    Call {
        #[command(flatten)]
        who: Who,
        /// Whom
        uri: String,
        /// Seconds until we hang up
        #[arg(long, value_name = "SECONDS", default_value_t = 1)]
        hold: u64,
        /// A chat of OMA CPM in the place of a call: MSRP over TLS at this host
        #[arg(long, value_name = "HOST")]
        chat: Option<String>,
    },
    /// Push: what a server of the core does, and no device may
    Push {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        push: PushArgs,
        /// To whom
        uri: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Carrier {
    Udp,
    Tcp,
    Tls,
    PskTls,
    Dtls,
    DtlsPsk,
    Ws,
    Wss,
}

#[derive(Clone, Debug, Clap)]
struct Who {
    /// Address of the edge
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5060")]
    edge: SocketAddr,
    /// Its name: in its certificate, and in its bootstrapping realm
    #[arg(long, value_name = "FQDN", default_value = "edge.example.net")]
    name: String,
    /// How to speak to it
    #[arg(long, value_enum, default_value = "udp")]
    transport: Carrier,
    /// Certificates of the authorities that the edge's is checked with
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// For tls, dtls and wss: the certificate of this device, or server, shown where one is asked for
    #[arg(long, value_name = "FILE", requires_all = ["certificate_key", "ca"])]
    certificate: Option<PathBuf>,
    /// File with its private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    certificate_key: Option<PathBuf>,
    /// For ws and wss: the origin that the edge lists, as a browser would name its page's
    #[arg(long, value_name = "https://HOST")]
    origin: Option<String>,
    /// For ws and wss: the path at the edge
    #[arg(long, value_name = "PATH", default_value = "/")]
    ws_path: String,
    /// For psk-tls: TLS 1.2 with this suite alone, such as PSK-AES128-GCM-SHA256; TLS 1.3 if left out
    #[arg(long, value_name = "SUITE")]
    psk_suite: Option<String>,
    /// For psk-tls and dtls-psk: the identity of a key that was carried here, or that home handed over, instead of a
    /// bootstrapped one
    #[arg(long, value_name = "psk;ID@BSF", requires = "psk_file")]
    psk_identity: Option<String>,
    /// File with that key, in hex, for its owner alone
    #[arg(long, value_name = "FILE")]
    psk_file: Option<PathBuf>,
    /// The name of this device, for a file that is for one device alone
    #[arg(long, value_name = "NAME", value_parser = carried::device, requires = "psk_file")]
    device: Option<String>,
    /// Public identity
    #[arg(long, value_name = "URI")]
    identity: String,
    /// Sealed file with bootstrapped keys
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Whose keys, if the file holds those of several
    #[arg(long)]
    impi: Option<String>,
    /// Username of a plain account
    #[arg(long, requires = "password_file")]
    account: Option<String>,
    /// File with the password of the account
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Refuse to answer MD5
    #[arg(long)]
    no_md5: bool,
    #[command(flatten)]
    told: ListArgs,
    /// Agree with the edge on what protects the requests (RFC 3329), and say on what
    #[arg(long)]
    sec_agree: bool,
}

/// Runs it.
///
/// # Errors
///
/// What writing gave.
pub fn run(args: &Args, out: &mut (dyn Write + Send), errors: &mut dyn Write) -> io::Result<u8> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let done = match &args.command {
            Command::Bootstrap(bootstrap) => {
                return keys::make(bootstrap, args.json, out, errors).await;
            }
            Command::Import(import) if import.device.is_some() => {
                return carried::import(import, args.json, out, errors);
            }
            Command::Import(import) => return lists::import(import, args.json, out, errors),
            Command::Visit(visit) => return visit::run(visit, args.json, out, errors).await,
            Command::Verify(verify) => return visit::verify(verify, args.json, out, errors).await,
            Command::Register { who, expires, flows } if flows.are_asked() => {
                let more = (*expires, who.keys.as_deref(), args.json);
                let done = match settings_of(who, "sip") {
                    Ok(settings) => stay::run(settings, flows, more, who, out).await,
                    Err(why) => Err(why),
                };
                return done.or_else(|why| writeln!(errors, "sipward ue: {why}").map(|()| NO));
            }
            command => ask(command).await,
        };
        match done {
            Ok((response, agreed)) => {
                let status = response.status().unwrap_or(0);
                let agreed = agreed.map(Protection::as_str);
                if args.json {
                    let mut told =
                        serde_json::json!({ "status": status, "reason": reason(status) });
                    if let Some(agreed) = agreed {
                        told["agreement"] = agreed.into();
                    }
                    writeln!(out, "{told}")?;
                } else {
                    writeln!(out, "{status} {}", reason(status))?;
                    if let Some(agreed) = agreed {
                        writeln!(out, "agreed on {agreed}")?;
                    }
                }
                Ok(if (200..300).contains(&status) { GOOD } else { NO })
            }
            Err(why) => {
                writeln!(errors, "sipward ue: {why}")?;
                Ok(NO)
            }
        }
    })
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The answer to what was asked, and what was agreed on with the edge.
async fn ask(command: &Command) -> Result<(Message, Option<Protection>), Fault> {
    let who = match command {
        Command::Bootstrap(_) | Command::Import(_) | Command::Visit(_) | Command::Verify(_) => {
            return Err("nothing to ask".into());
        }
        Command::Register { who, .. }
        | Command::Options { who, .. }
        | Command::Message { who, .. }
        | Command::Subscribe { who, .. }
        | Command::Call { who, .. } => who,
        Command::Push { who, push, uri } => {
            let ue = Ue::connect(settings_of(who, "push")?).await?;
            return Ok((push.send(&ue, uri).await?, None));
        }
    };
    let mut settings = settings_of(who, enabler_of(command))?;
    if matches!(command, Command::Subscribe { location: true, .. }) {
        for credential in &mut settings.credentials {
            if let Credential::Gba { ua, .. } = credential {
                *ua = UaId::LOCSIP;
            }
        }
    }
    let ue = Ue::connect(settings).await?;
    let answer = ask_of(&ue, command).await?;
    Ok((answer, ue.agreed_on().await?))
}

/// The enabler that is used, as documents name it.
fn enabler_of(command: &Command) -> &'static str {
    match command {
        Command::Message { cpm: true, .. } | Command::Call { chat: Some(_), .. } => "cpm",
        Command::Subscribe { location: true, .. } => "locsip",
        Command::Push { .. } => "push",
        _ => "sip",
    }
}

async fn ask_of(ue: &Ue, command: &Command) -> Result<Message, Fault> {
    match command {
        Command::Bootstrap(_)
        | Command::Import(_)
        | Command::Visit(_)
        | Command::Verify(_)
        | Command::Push { .. } => Err("nothing to ask".into()),
        Command::Register { expires, .. } => Ok(ue.register(*expires).await?),
        Command::Options { uri, .. } => Ok(ue.options(uri).await?),
        Command::Message { uri, text, cpm: false, .. } => Ok(ue.message(uri, text).await?),
        Command::Message { who, uri, text, cpm: true } => {
            let draft = ue.draft("MESSAGE", uri).await?;
            Ok(ue.send(draft.pager(&who.identity, text)).await?)
        }
        Command::Subscribe { uri, event, location, .. } => {
            let answer = if *location {
                let draft = ue.draft("SUBSCRIBE", uri).await?;
                ue.send(draft.location()).await?
            } else {
                ue.subscribe(uri, event, 600).await?
            };
            if answer.status().is_some_and(|status| status < 300) {
                ue.incoming(Duration::from_secs(10)).await.ok_or("no NOTIFY came within 10 s")?;
            }
            Ok(answer)
        }
        Command::Call { uri, hold, chat, .. } => {
            let mut draft = ue.draft("INVITE", uri).await?;
            if let Some(host) = chat {
                let session: [u8; 8] = clock::random();
                draft = draft.chat(host, &format!("{:016x}", u64::from_be_bytes(session)));
            }
            let call = ue.invite(draft).await?;
            if call.answer.status().is_none_or(|status| status >= 300) {
                return Ok(call.answer);
            }
            tokio::time::sleep(Duration::from_secs(*hold)).await;
            Ok(ue.hang_up(&call.call_id).await?)
        }
    }
}

/// What a UE is made of that uses an enabler.
fn settings_of(who: &Who, enabler: &'static str) -> Result<UeSettings, Fault> {
    let told = who.told.told(enabler)?;
    if let Some(told) = &told {
        told.judge(who)?;
    }
    let mut credentials = Vec::new();
    let mut bootstrapped = None;
    if let Some(file) = &who.keys {
        let store = Store::open(file, &Lock::beside(file))?;
        let entry = match who.impi.as_deref().and_then(Impi::new) {
            Some(impi) => store.get(&impi),
            None => store.only(),
        };
        let keys = entry.map(|entry| entry.keys.clone());
        let keys = keys.filter(|keys| keys.expires > clock::now().wall);
        let keys = keys.ok_or("no such keys, or they have expired: sipward ue bootstrap")?;
        let keys = Arc::new(keys);
        bootstrapped = Some(Arc::clone(&keys));
        credentials.push(Credential::Gba { keys, ua: UaId::SIP_DIGEST });
    }
    if let (Some(username), Some(file)) = (&who.account, &who.password_file) {
        let password = password_in(file)?;
        credentials.push(Credential::Account { username: username.clone(), password, realm: None });
    }
    let trust = match &who.ca {
        Some(file) => {
            let pem = std::fs::read(file)?;
            Some(match &told {
                Some(told) => told.trust(&pem)?,
                None => tls::trust(&pem, b"")?,
            })
        }
        None => None,
    };
    let floor = told.as_ref().map(Told::tls).unwrap_or_default();
    let shows = shown(who)?;
    let tls = trust
        .clone()
        .map(|trust| tls::client_config_from(floor, trust, shows.as_deref()))
        .transpose()?;
    let psk = match who.transport {
        Carrier::PskTls => Some(shared_key(who, use_of(who)?, bootstrapped.as_deref())?),
        Carrier::DtlsPsk => {
            Some(shared_key(who, PskUse::Suite(DTLS_SUITE), bootstrapped.as_deref())?)
        }
        Carrier::Udp | Carrier::Tcp | Carrier::Tls | Carrier::Dtls | Carrier::Ws | Carrier::Wss => {
            None
        }
    };
    Ok(UeSettings {
        edge: who.edge,
        edge_name: who.name.clone(),
        transport: match who.transport {
            Carrier::Udp => Transport::Udp,
            Carrier::Tcp => Transport::Tcp,
            Carrier::Tls | Carrier::PskTls => Transport::Tls,
            Carrier::Dtls | Carrier::DtlsPsk => Transport::Dtls,
            Carrier::Ws => Transport::Ws,
            Carrier::Wss => Transport::Wss,
        },
        identity: who.identity.clone(),
        credentials,
        floor: if who.no_md5 { Hash::Sha256 } else { Hash::Md5 },
        tls,
        psk,
        trust,
        shows,
        ws: Offer { origin: who.origin.clone(), path: who.ws_path.clone() },
        sec_agree: who.sec_agree,
        lists: told.map(|told| told.lists),
        local: None,
        trace: None,
    })
}

/// The certificate of its own that it was given.
fn shown(who: &Who) -> Result<Option<Arc<Certificate>>, Fault> {
    let (Some(chain), Some(key)) = (&who.certificate, &who.certificate_key) else {
        return Ok(None);
    };
    let key = Zeroizing::new(std::fs::read(key)?);
    Ok(Some(Arc::new(Certificate::from_pem(&std::fs::read(chain)?, &key)?)))
}

/// The password in a file, whose last line may have an end.
fn password_in(file: &Path) -> io::Result<Zeroizing<String>> {
    let text = Zeroizing::new(std::fs::read_to_string(file)?);
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The one suite that our end of DTLS has for shared keys: PSK-AES128-GCM-SHA256.
const DTLS_SUITE: u16 = 0x00A8;

/// What the key of a TLS handshake is made for.
fn use_of(who: &Who) -> Result<PskUse, Fault> {
    Ok(match &who.psk_suite {
        Some(name) => PskUse::Suite(suite(name)?),
        None => PskUse::Tls13,
    })
}

/// The key for a handshake: one that was carried here, else a bootstrapped one.
fn shared_key(
    who: &Who,
    of: PskUse,
    bootstrapped: Option<&Bootstrapped>,
) -> Result<PskClient, Fault> {
    if let (Some(identity), Some(file)) = (&who.psk_identity, &who.psk_file) {
        let octets = carried::key(file, who.device.as_deref())?;
        let key = PskKey::new(&octets).ok_or("the key has no octets, or over 64")?;
        return Ok(PskClient { identity: identity.clone(), key, of });
    }
    let keys =
        bootstrapped.ok_or("a shared key needs --keys, or --psk-identity with --psk-file")?;
    if keys.kind() != GbaType::Aka {
        return Err("a key that was made with a password is for digest alone".into());
    }
    let key = keys.naf_key(&NafId::new(&who.name, of.ua(Scheme::ThreeGpp)))?;
    let key = PskKey::new(key.expose()).ok_or("the key has no octets")?;
    Ok(PskClient { identity: PskName::identity_of(&keys.btid), key, of })
}

#[cfg(feature = "openssl")]
fn suite(name: &str) -> Result<u16, Fault> {
    use crate::transport::psk_tls::SUITES;
    let found = SUITES.iter().find(|suite| suite.name.eq_ignore_ascii_case(name));
    let known = || SUITES.map(|suite| suite.name).join(", ");
    Ok(found.ok_or_else(|| format!("{name} is not offered; what is: {}", known()))?.number)
}

#[cfg(not(feature = "openssl"))]
fn suite(_: &str) -> Result<u16, Fault> {
    Err("this program was built without the feature openssl".into())
}
