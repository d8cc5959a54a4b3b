//! `sipward ue visit`: a key of home's for the part of a service in another network.
//!
//! Takes:   the door of home and its name, bootstrapped keys, the name of the part.
//! Gives:   the key in a file, and the name that it is known by there: for `--psk-identity` and `--psk-file`.
//! Keeps:   the file, for its owner alone.
//! Refuses: a home that does not have the bootstrapped key; an answer that is no key for that part.
//! Sources: SEC_CF 1.1 B.6.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args as Clap;
use hyper::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Fault, GOOD, NO};
use crate::client::bootstrap::Bootstrapped;
use crate::client::phone::shared;
use crate::client::store::{Lock, Store};
use crate::clock;
use crate::config::psk::hex;
use crate::http::ask::ask;
use crate::identity::Impi;
use crate::keys::psk::{PskClient, PskKey, PskName, PskUse, VISITED};
use crate::keys::subscribers::disk;
use crate::keys::{NafId, UaId};
use crate::wire::respond::reason;

/// Where it is asked for.
const PATH: &str = "/.well-known/sipward/visited-key";

/// What is asked for.
#[derive(Clone, Debug, Clap)]
pub(super) struct VisitArgs {
    /// The name of the part in the other network
    server: String,
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
    let store = Store::open(&args.keys, &Lock::beside(&args.keys))?;
    let entry = match args.impi.as_deref().and_then(Impi::new) {
        Some(impi) => store.get(&impi),
        None => store.only(),
    };
    let keys = entry.map(|entry| &entry.keys).filter(|keys| keys.expires > clock::now().wall);
    let psk =
        psk_of(keys.ok_or("no such keys, or they have expired: sipward ue bootstrap")?, args)?;
    let stream = shared(&psk, &args.name, TcpStream::connect(args.home).await?).await?;
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
    let (status, body) = ask(stream, method, (&args.name, &path), body).await?;
    if status != 200 {
        return Err(format!("{} says {status} {}", args.name, reason(status)).into());
    }
    let told: Value = serde_json::from_slice(&body)?;
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

/// The bootstrapped key for TLS 1.3 with home.
fn psk_of(keys: &Bootstrapped, args: &VisitArgs) -> Result<PskClient, Fault> {
    let key = keys.naf_key(&NafId::new(&args.name, UaId::SHARED_KEY_TLS13))?;
    let key = PskKey::new(key.expose()).ok_or("the key has no octets")?;
    Ok(PskClient { identity: PskName::identity_of(&keys.btid), key, of: PskUse::Tls13 })
}
