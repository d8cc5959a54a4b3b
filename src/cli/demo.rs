//! `sipward demo`: the demonstration, and a laboratory that stays if it is asked to.
//!
//! Takes:   `--stay`.
//! Gives:   the ladder; 0 if every scene ended as it must, else 1.
//! Keeps:   with `--stay`: a folder with a certificate, keys and credentials for SIPp, as long as it stays.
//! Refuses: nothing.
//! Sources: none.

use std::io::{self, Write};

use clap::Args as Clap;

use super::{GOOD, NO};
use crate::client::store::{Entry, Lock, Store};
use crate::demo::Demo;
use crate::keys::sqn::SqnWindow;
use crate::keys::{NafId, UaId};

/// Arguments.
#[derive(Clone, Debug, Clap)]
pub struct Args {
    /// Keep everything running afterwards, and print addresses, credentials and commands to try
    #[arg(long)]
    stay: bool,
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
        let demo = match Demo::start().await {
            Ok(demo) => demo,
            Err(why) => {
                writeln!(errors, "the demonstration cannot start: {why}")?;
                return Ok(NO);
            }
        };
        if let Err(why) = demo.play(out).await {
            writeln!(errors, "\nthe demonstration went wrong: {why}")?;
            return Ok(NO);
        }
        writeln!(out, "\nEvery scene ended as it must.")?;
        if args.stay {
            stay(&demo, out).await?;
        }
        demo.stop();
        Ok(GOOD)
    })
}

async fn stay(demo: &Demo, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let folder = std::env::temp_dir().join(format!("sipward-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (certificate, csv) = (folder.join("authority.pem"), folder.join("credentials.csv"));
    std::fs::write(&certificate, demo.certificate())?;
    let sealed = folder.join("keys");
    let mut store = Store::open(&sealed, &Lock::beside(&sealed)).map_err(io::Error::other)?;
    let mut lines = String::from("SEQUENTIAL\n");
    for user in ["alice", "bob"] {
        let keys = demo.bootstrap(user).await.map_err(io::Error::other)?;
        let naf = NafId::new(crate::demo::EDGE, UaId::SIP_DIGEST);
        let password = keys.naf_password(&naf).map_err(io::Error::other)?;
        lines.push_str(&format!("{user};{};{};example.net\n", keys.btid, *password));
        let entry = Entry { keys, window: SqnWindow::default() };
        store.put([entry]).map_err(io::Error::other)?;
    }
    crate::keys::subscribers::disk::replace(&csv, lines.as_bytes())?;
    writeln!(out, "\nEverything stays up until you press Ctrl-C.\n")?;
    demo.addresses(out)?;
    writeln!(out, "    {:<20} {}", "authority for TLS", certificate.display())?;
    writeln!(out, "    {:<20} {} (user;B-TID;Ks_NAF;domain)", "credentials", csv.display())?;
    let edge = demo.edge();
    writeln!(
        out,
        "\nTry:\n\n    sipp -sf sip-fixtures/sipp/register.xml -inf {} -m 2 -i 127.0.0.1 {edge}",
        csv.display()
    )?;
    writeln!(out, "    curl -s -D - -o /dev/null http://{}/", demo.bsf())?;
    let phone = |user: &str| {
        format!(
            "--identity sip:{user}@example.net --impi {user}@ims.example.net --keys {}",
            sealed.display()
        )
    };
    writeln!(
        out,
        "    sipward ue message --cpm --edge {edge} {} sip:echo@example.net Hello",
        phone("alice")
    )?;
    writeln!(
        out,
        "    sipward ue subscribe --location --transport tls --ca {} --edge {} {} {}",
        certificate.display(),
        demo.edge_tls(),
        phone("bob"),
        crate::demo::VAN
    )?;
    tokio::signal::ctrl_c().await?;
    std::fs::remove_dir_all(&folder)
}
