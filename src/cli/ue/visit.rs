//! `sipward ue visit` and `verify`: a key of home's for the part of a service in another network; whether a push is genuine.
//!
//! Takes:   the door of home and its name, bootstrapped keys, the name of the part.
//! Gives:   the key in a file, and the name that it is known by there: for `--psk-identity` and `--psk-file`.
//! Keeps:   the file, for its owner alone.
//! Refuses: a home that does not have the bootstrapped key; an answer that is no key for that part.
//! Sources: SEC_CF 1.1 B.6, B.7.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args as Clap;
use hyper::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;

use super::{Fault, GOOD, NO};
use crate::client::phone::shared;
use crate::client::store::{Lock, Store};
use crate::clock;
use crate::config::psk::hex;
use crate::http::ask::ask;
use crate::identity::Impi;
use crate::keys::psk::{PskClient, PskKey, PskName, PskUse, VISITED};
use crate::keys::subscribers::disk;
use crate::keys::{NafId, UaId};
use crate::provision;
use crate::wire::respond::reason;

/// Where it is asked for.
const PATH: &str = "/.well-known/sipward/visited-key";
/// Where pushes are verified.
const VERIFY: &str = "/.well-known/sipward/verify-push";

/// The door of home, and who asks there.
#[derive(Clone, Debug, Clap)]
struct HomeArgs {
    /// The door of home
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8444")]
    home: SocketAddr,
    /// Its name
    #[arg(long, value_name = "FQDN", default_value = "edge.example.net")]
    name: String,
    /// Sealed file with bootstrapped keys
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Whose keys, if the file holds those of several
    #[arg(long)]
    impi: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug, Clap)]
pub(super) struct VisitArgs {
    /// The name of the part in the other network
    server: String,
    #[command(flatten)]
    home: HomeArgs,
    /// The same key again, of that name
    #[arg(long, value_name = "visited;ID@HOME")]
    again: Option<String>,
    /// Where the key goes
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
}

/// A key that home gave.
struct Given {
    identity: String,
    expires: String,
}

/// Runs it.
///
/// # Errors
///
/// What writing gave.
pub(super) async fn run(
    args: &VisitArgs,
    json: bool,
    out: &mut (dyn Write + Send),
    errors: &mut dyn Write,
) -> io::Result<u8> {
    match ask_home(args).await {
        Ok(Given { identity, expires }) => {
            if json {
                let server = &args.server;
                writeln!(
                    out,
                    "{}",
                    json!({ "identity": identity, "server": server, "expires": expires })
                )?;
            } else {
                writeln!(out, "{identity} until {expires}, for {}", args.server)?;
            }
            Ok(GOOD)
        }
        Err(why) => {
            writeln!(errors, "sipward ue: {why}")?;
            Ok(NO)
        }
    }
}

async fn ask_home(args: &VisitArgs) -> Result<Given, Fault> {
    let (method, path, body) = match &args.again {
        None => {
            let body = json!({ "server": args.server }).to_string();
            (Method::POST, PATH.to_owned(), body.into_bytes())
        }
        Some(name) => {
            let id = name.strip_prefix(VISITED).and_then(|rest| rest.split('@').next());
            let digits = |id: &&str| id.bytes().all(|octet| octet.is_ascii_hexdigit());
            let id = id.filter(digits).ok_or("that is no name of such a key")?;
            (Method::GET, format!("{PATH}/{id}"), Vec::new())
        }
    };
    let told = args.home.ask(method, &path, body).await?;
    let text = |key: &str| told.get(key).and_then(Value::as_str).unwrap_or_default();
    let fits = text("server").eq_ignore_ascii_case(&args.server)
        && text("identity").starts_with(VISITED)
        && hex(text("key")).is_some_and(|key| key.len() == 32);
    if !fits {
        return Err("the answer is no key for that part".into());
    }
    disk::replace(&args.key_file, text("key").as_bytes())?;
    Ok(Given { identity: text("identity").to_owned(), expires: text("expires").to_owned() })
}

impl HomeArgs {
    /// Asks, as who has the bootstrapped key.
    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Value, Fault> {
        let store = Store::open(&self.keys, &Lock::beside(&self.keys))?;
        let entry = match self.impi.as_deref().and_then(Impi::new) {
            Some(impi) => store.get(&impi),
            None => store.only(),
        };
        let keys = entry.map(|entry| &entry.keys).filter(|keys| keys.expires > clock::now().wall);
        let keys = keys.ok_or("no such keys, or they have expired: sipward ue bootstrap")?;
        let key = keys.naf_key(&NafId::new(&self.name, UaId::SHARED_KEY_TLS13))?;
        let key = PskKey::new(key.expose()).ok_or("the key has no octets")?;
        let psk = PskClient { identity: PskName::identity_of(&keys.btid), key, of: PskUse::Tls13 };
        let stream = TcpStream::connect(self.home).await?;
        let stream = shared(&psk, &self.name, stream).await?;
        let (status, body) = ask(stream, method, (&self.name, path), body).await?;
        if status != 200 {
            return Err(format!("{} says {status} {}", self.name, reason(status)).into());
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

/// What was pushed, and is to be acted on.
#[derive(Clone, Debug, Clap)]
pub(super) struct VerifyArgs {
    /// The file with its octets
    body: PathBuf,
    #[command(flatten)]
    home: HomeArgs,
}

/// Runs `sipward ue verify`: 0 if home says that it is genuine, else 1, and then nothing is to be done.
///
/// # Errors
///
/// What writing gave.
pub(super) async fn verify(
    args: &VerifyArgs,
    json: bool,
    out: &mut (dyn Write + Send),
    errors: &mut dyn Write,
) -> io::Result<u8> {
    let asked = async {
        let hash = Sha256::digest(std::fs::read(&args.body)?);
        let body = json!({ "body": provision::hex(&hash) }).to_string();
        let told = args.home.ask(Method::POST, VERIFY, body.into_bytes()).await?;
        told.get("genuine").and_then(Value::as_bool).ok_or_else(|| Fault::from("no answer"))
    };
    match asked.await {
        Ok(genuine) => {
            match json {
                true => writeln!(out, "{}", json!({ "genuine": genuine }))?,
                false => writeln!(out, "{}", if genuine { "genuine" } else { "not genuine" })?,
            }
            Ok(if genuine { GOOD } else { NO })
        }
        Err(why) => {
            writeln!(errors, "sipward ue: {why}")?;
            Ok(NO)
        }
    }
}
