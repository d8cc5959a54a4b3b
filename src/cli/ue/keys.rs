//! `sipward ue bootstrap`: keys of a bootstrapping server, with the cards of a list or with a password.
//!
//! Takes:   the server's address and name, the list or a file with the password; for TLS, whom to trust.
//! Gives:   the keys, in a sealed file, for SIPp or told of; 0 if every one was made.
//! Keeps:   what `--keys` names; of a run that fails, what the card has seen since the keys that are there.
//! Refuses: a password in the clear; a server that does not prove its name under TLS.
//! Sources: TS 24.109 clause 4 and annex I.2; SEC_CF 1.1 HLF-003.

use std::io::{self, IsTerminal as _, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args as Clap;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustls::ClientConfig;
use zeroize::Zeroizing;

use super::super::{GOOD, NO, USAGE};
use super::{Fault, password_in};
use crate::authentication::digest::Hash;
use crate::client::bootstrap::{Bootstrapped, UbPlan};
use crate::client::bootstrap_digest::UbPassword;
use crate::client::bootstrap_http::{
    UbFault, bootstrap, bootstrap_by_password, bootstrap_over_tls,
};
use crate::client::store::{Entry, Lock, Store};
use crate::identity::Impi;
use crate::keys::bootstrap::EXPORTER_LABEL;
use crate::keys::sqn::SqnWindow;
use crate::keys::subscribers::{Subscriber, disk, file};
use crate::keys::usim::Usim;
use crate::keys::{NafId, UaId};
use crate::transport::{export, tls};

#[derive(Clone, Debug, Clap)]
pub(super) struct Bootstrap {
    /// Address of the bootstrapping server
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    bsf: SocketAddr,
    /// Its name
    #[arg(long, value_name = "FQDN", default_value = "bsf.example.net")]
    bsf_name: String,
    /// The name of the edge that the keys are for
    #[arg(long, value_name = "FQDN", default_value = "edge.example.net")]
    naf: String,
    /// The subscriber list that the cards are taken from
    #[arg(long, value_name = "FILE", default_value = "subscribers.toml")]
    subscribers: PathBuf,
    /// Bootstrap the first N subscribers of the list
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: usize,
    /// Bootstrap this subscriber alone
    #[arg(long, conflicts_with = "count")]
    impi: Option<String>,
    /// Over TLS: certificates of the authorities that the server's is checked with
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// File with the password of --impi, in the place of a card (GBA_Digest); over TLS alone
    #[arg(long, value_name = "FILE", requires = "ca", requires = "impi")]
    password_file: Option<PathBuf>,
    /// Refuse to answer MD5 with that password
    #[arg(long, requires = "password_file")]
    no_md5: bool,
    /// The label of TLS that a key made with a password is bound under
    #[arg(long, value_name = "LABEL", requires = "password_file", default_value = EXPORTER_LABEL)]
    exporter: String,
    /// Write credentials for SIPp: user;B-TID;Ks_NAF;domain
    #[arg(long, value_name = "FILE")]
    sipp_csv: Option<PathBuf>,
    /// Keep the keys in this sealed file
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
}

/// Bootstraps one subscriber, or many with a bar that shows how far it is.
pub(super) async fn make(
    args: &Bootstrap,
    json: bool,
    out: &mut (dyn Write + Send),
    errors: &mut dyn Write,
) -> io::Result<u8> {
    let tls = match args.tls() {
        Ok(tls) => tls,
        Err(why) => {
            writeln!(errors, "sipward ue: {why}")?;
            return Ok(USAGE);
        }
    };
    let mut made = Made::new(args, json)?;
    if let (Some(tls), Some(file), Some(name)) = (&tls, &args.password_file, &args.impi) {
        let Some(impi) = Impi::new(name) else {
            writeln!(errors, "{name} is no private identity")?;
            return Ok(USAGE);
        };
        return by_password(args, tls, (file, impi), made, out, errors).await;
    }
    let subscribers = match args.subscribers() {
        Ok(subscribers) => subscribers,
        Err(why) => {
            writeln!(errors, "{why}")?;
            return Ok(USAGE);
        }
    };
    let bar = bar(subscribers.len() as u64);
    let alone = subscribers.len() == 1;
    let wanted = subscribers.len();
    for subscriber in subscribers {
        let identity = subscriber.impus.first().map_or("", |impu| impu.as_str());
        let address = identity.split_once(':').map_or("", |(_, rest)| rest).to_owned();
        let Some(functions) = subscriber.algorithms else {
            bar.abandon();
            writeln!(errors, "{}: has no card; --password-file", subscriber.impi)?;
            return Ok(NO);
        };
        let window = made.window(&subscriber.impi);
        let mut card = Usim::new(functions, window).with_card(subscriber.card);
        let plan = UbPlan::new(subscriber.impi.clone(), &args.bsf_name);
        let run = match &tls {
            Some(tls) => bootstrap_over_tls(&plan, args.bsf, tls, &mut card, None).await,
            None => bootstrap(&plan, args.bsf, &mut card, None).await,
        };
        match run {
            Ok(keys) => made.take(keys, card.window().clone(), &address, alone, out)?,
            Err(why) => {
                bar.abandon();
                writeln!(errors, "{}: {why}", subscriber.impi)?;
                made.seen(&subscriber.impi, card.window())?;
                return Ok(NO);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    made.write()?;
    if wanted > 1 && !json {
        writeln!(out, "{wanted} subscribers have keys")?;
    }
    Ok(GOOD)
}

/// The same for one with a password.
async fn by_password(
    args: &Bootstrap,
    tls: &Arc<ClientConfig>,
    (file, impi): (&PathBuf, Impi),
    mut made: Made,
    out: &mut (dyn Write + Send),
    errors: &mut dyn Write,
) -> io::Result<u8> {
    let mut user = UbPassword::new(password_in(file)?);
    user.exporter = args.exporter.as_str().into();
    if args.no_md5 {
        user.algorithms.retain(|hash| *hash != Hash::Md5);
    }
    let plan = UbPlan::new(impi.clone(), &args.bsf_name);
    let run: Result<_, UbFault> = bootstrap_by_password(&plan, args.bsf, tls, &user).await;
    match run {
        Ok(keys) => {
            let window = made.window(&impi);
            made.take(keys, window, impi.as_str(), true, out)?;
            made.write()?;
            Ok(GOOD)
        }
        Err(why) => {
            writeln!(errors, "{impi}: {why}")?;
            Ok(NO)
        }
    }
}

impl Bootstrap {
    /// What the server is to show, if it is asked under TLS.
    fn tls(&self) -> Result<Option<Arc<ClientConfig>>, Fault> {
        let Some(file) = &self.ca else { return Ok(None) };
        let pem = std::fs::read(file).map_err(|why| format!("{}: {why}", file.display()))?;
        Ok(Some(export::client(tls::trust(&pem, b"")?)?))
    }

    /// Those of the list that are to bootstrap.
    fn subscribers(&self) -> Result<Vec<Subscriber>, String> {
        let told = |problems: Vec<file::Problem>| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let mut subscribers = file::load(&self.subscribers).map_err(told)?;
        match &self.impi {
            Some(impi) => subscribers.retain(|subscriber| subscriber.impi.as_str() == impi),
            None => subscribers.truncate(self.count),
        }
        let wanted = if self.impi.is_some() { 1 } else { self.count };
        let (list, there) = (self.subscribers.display(), subscribers.len());
        match there < wanted {
            true => Err(format!("{list} has {there} of {wanted} subscribers")),
            false => Ok(subscribers),
        }
    }
}

/// What was made so far.
struct Made {
    naf: NafId,
    json: bool,
    csv: Zeroizing<String>,
    csv_file: Option<PathBuf>,
    store: Option<Store>,
}

impl Made {
    fn new(args: &Bootstrap, json: bool) -> io::Result<Self> {
        let open =
            |file: &PathBuf| Store::open(file, &Lock::beside(file)).map_err(io::Error::other);
        Ok(Self {
            naf: NafId::new(&args.naf, UaId::SIP_DIGEST),
            json,
            csv: Zeroizing::new(String::from("SEQUENTIAL\n")),
            csv_file: args.sipp_csv.clone(),
            store: args.keys.as_ref().map(open).transpose()?,
        })
    }

    /// What the card has seen.
    fn window(&self, impi: &Impi) -> SqnWindow {
        let known = self.store.as_ref().and_then(|store| store.get(impi));
        known.map_or_else(SqnWindow::default, |entry| entry.window.clone())
    }

    /// Writes down what the card saw in a run that failed, lest its challenge be taken again. Without keys of an
    /// earlier run there is no place for it.
    fn seen(&mut self, impi: &Impi, window: &SqnWindow) -> io::Result<()> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let Some(Entry { keys, .. }) = store.get(impi).cloned() else { return Ok(()) };
        store.put([Entry { keys, window: window.clone() }]).map_err(io::Error::other)
    }

    /// Takes one in; `alone`, it is told of.
    fn take(
        &mut self,
        keys: Bootstrapped,
        window: SqnWindow,
        address: &str,
        alone: bool,
        out: &mut (dyn Write + Send),
    ) -> io::Result<()> {
        let (user, domain) = address.split_once('@').unwrap_or((address, ""));
        let password = keys.naf_password(&self.naf).map_err(io::Error::other)?;
        self.csv.push_str(&format!("{user};{};{};{domain}\n", keys.btid, *password));
        if self.json {
            let told = serde_json::json!({
                "impi": keys.impi.as_str(), "btid": keys.btid.as_str(), "expires": keys.expires.as_unix(),
            });
            writeln!(out, "{told}")?;
        } else if alone {
            writeln!(out, "{} has {}", keys.impi, keys.btid)?;
        }
        match &mut self.store {
            Some(store) => store.put([Entry { keys, window }]).map_err(io::Error::other),
            None => Ok(()),
        }
    }

    /// Writes what SIPp is to read.
    fn write(&self) -> io::Result<()> {
        match &self.csv_file {
            Some(file) => disk::replace(file, self.csv.as_bytes()),
            None => Ok(()),
        }
    }
}

fn bar(length: u64) -> ProgressBar {
    let visible = length > 1 && io::stderr().is_terminal();
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("bootstrapping {bar:40} {pos}/{len}");
    let bar = ProgressBar::with_draw_target(Some(length), target);
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio::net::TcpListener;

    use super::*;
    use crate::http::Bounds;
    use crate::http::ub::{Desk, serve};
    use crate::keys::bootstrap::{Bsf, BsfConfig};
    use crate::keys::subscribers::disk::replace;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Bootstrap,
    }

    const LIST: &str = "[[subscriber]]\nimpi = \"ue1@example.net\"\n\
        k = \"465b5ce8b199b49faa5f0a2ee238a6bc\"\nopc = \"cd63cb71954a9f4e48a5994e37a02baf\"\n";

    /// The card answers the challenge of one who is barred, and is told of it after: its number is used.
    #[tokio::test]
    async fn a_run_that_fails_leaves_what_the_card_has_seen() {
        let folder = std::env::temp_dir().join(format!("sipward-seen-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (list, store) = (folder.join("list.toml"), folder.join("ue.keys"));
        replace(&list, LIST.as_bytes()).expect("written");
        let subscribers = || file::load(&list).expect("good");
        let config = BsfConfig::new("bsf.example.net");
        let bsf = Arc::new(Bsf::new(config, subscribers(), vec![], [0; 32]).expect("fit"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address").to_string();
        let desk = Desk { bsf: Arc::clone(&bsf), home: None };
        let ends = std::future::pending();
        let serving = tokio::spawn(serve(listener, desk, Bounds::default(), |_| {}, ends));
        let words = ["ue", "--bsf", &address, "--subscribers"].map(std::ffi::OsStr::new);
        let files = [list.as_os_str(), "--keys".as_ref(), store.as_os_str()];
        let line = Line::parse_from(words.into_iter().chain(files));
        let impi = Impi::new("ue1@example.net").expect("a name");
        let mut seen = Vec::new();
        for (barred, code) in [(false, GOOD), (true, NO)] {
            let mut subscribers = subscribers();
            subscribers.iter_mut().for_each(|subscriber| subscriber.barred = barred);
            bsf.replace_subscribers(subscribers);
            let (mut out, mut errors) = (Vec::new(), Vec::new());
            let came = make(&line.args, false, &mut out, &mut errors).await.expect("told");
            assert_eq!(came, code, "{}", String::from_utf8_lossy(&errors));
            let store = Store::open(&store, &Lock::beside(&store)).expect("open");
            seen.push(store.get(&impi).expect("kept").window.highest());
        }
        assert!(seen[1] > seen[0], "{seen:?}");
        serving.abort();
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
