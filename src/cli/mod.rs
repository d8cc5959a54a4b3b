//! The command line: arguments, exit codes, and the one place that prints.
//!
//! Takes:   the arguments of the process.
//! Gives:   an exit code: 0 good, 1 the answer was no, 2 usage or configuration.
//! Keeps:   nothing.
//! Refuses: what `clap` does not know. A reader that went away ends a command quietly: nobody is left to be told.
//! Sources: none.

pub mod account;
pub mod admin;
mod auc;
pub mod audit;
pub mod check;
pub mod demo;
#[cfg(feature = "diameter")]
mod diameter;
/// Nothing: the configuration was refused if it asked for any.
#[cfg(not(feature = "diameter"))]
mod diameter {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::Arc;

    use crate::config::Config;
    use crate::http::ub::AskHome;
    use crate::keys::KeyServer;
    use crate::keys::bootstrap::Bsf;
    use crate::keys::push::PushServer;
    use crate::telemetry::Metrics;

    pub(super) enum Node {}

    #[derive(Clone, Default)]
    pub(super) struct Tls;

    impl Tls {
        pub(super) fn replace(&self, _: &Config) -> Result<(), String> {
            Ok(())
        }
    }

    impl Node {
        pub(super) async fn start(_: &Config, _: Option<Arc<Bsf>>) -> io::Result<Option<Self>> {
            Ok(None)
        }

        pub(super) fn keys(&self) -> Vec<(Arc<str>, Arc<dyn KeyServer>)> {
            match *self {}
        }

        pub(super) fn pushes(&self) -> Vec<(Arc<str>, Arc<dyn PushServer>)> {
            match *self {}
        }

        pub(super) fn home(&self) -> Option<Arc<AskHome>> {
            match *self {}
        }

        pub(super) fn tls(&self) -> Tls {
            match *self {}
        }

        pub(super) fn address(&self) -> Option<SocketAddr> {
            match *self {}
        }

        pub(super) fn show(&self, _: &Metrics) {
            match *self {}
        }

        pub(super) async fn stop(self) {
            match self {}
        }
    }
}
mod endings;
#[cfg(feature = "openssl")]
mod https;
/// Nothing: the configuration was refused if it asked for any.
#[cfg(not(feature = "openssl"))]
mod https {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::Arc;

    use arc_swap::ArcSwap;

    use crate::assembly::Running;
    use crate::config::Config;

    pub(super) enum Node {}

    pub(super) enum Shown {}

    impl Shown {
        pub(super) fn replace(&self, _: &Config) -> Result<(), std::convert::Infallible> {
            match *self {}
        }
    }

    impl Node {
        pub(super) async fn start(_: &Config, _: Option<&Running>) -> io::Result<Option<Self>> {
            Ok(None)
        }

        pub(super) fn address(&self) -> Option<SocketAddr> {
            match *self {}
        }

        pub(super) fn shown(&self) -> Shown {
            match *self {}
        }

        pub(super) async fn serve(self, _: Arc<ArcSwap<Config>>) -> io::Result<()> {
            match self {}
        }
    }
}
pub mod init;
mod keeping;
pub mod key;
mod listen;
mod nbsp;
mod plan;
mod progress;
pub mod provision;
mod pushed;
pub mod serve;
mod stop;
pub mod subscriber;
mod ub;
pub mod ue;
mod vault;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code: done.
pub const GOOD: u8 = 0;
/// Exit code: the answer was no.
pub const NO: u8 = 1;
/// Exit code: usage or configuration.
pub const USAGE: u8 = 2;

/// A security gateway for SIP.
///
/// It stands between devices and a SIP server, proves who is asking (with keys bootstrapped from a SIM, accounts or
/// certificates), holds every dialog to the key that opened it, and passes on clean SIP with an asserted identity.
#[derive(Debug, Parser)]
#[command(name = "sipward", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 good, 1 the answer was no, 2 usage or configuration.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything on loopback, no configuration: BSF, edge, a small SIP server, two UEs and a rogue
    Demo(demo::Args),
    /// The edge, the bootstrapping server, or both, as the file says
    Serve(serve::Args),
    /// Write a commented sipward.toml, with certificates, accounts and subscribers for a lab
    Init(init::Args),
    /// Check a configuration and all files it names: every problem at once
    Check(check::Args),
    /// The UE's side: bootstrap, register, write, subscribe, call
    Ue(Box<ue::Args>),
    /// What clients are told to trust: signed documents, and the key that signs them
    Provision(provision::Args),
    /// Keep the list of those who may bootstrap
    Subscriber(subscriber::Args),
    /// Accounts in the store: users who prove themselves with a password
    Account(account::Args),
    /// Keys that are carried to both ends by hand, and the one that the store is sealed under
    Key(key::Args),
    /// How the running edge stands
    Status(admin::Edge),
    /// Dialogs of the running edge: who owns them, and on which flows
    Sa(admin::Associations),
    /// One dialog of the running edge, found by its Call-ID
    Dialog(admin::DialogArgs),
    /// What the running edge, or one by this configuration, would do with a message, and why; nothing comes of it
    Explain(admin::explain::Args),
    /// Attack a SIP server of one's own, and report what came of it
    Audit(Box<audit::Args>),
}

/// Runs the command that the process was given.
pub fn main() -> ExitCode {
    ExitCode::from(run(std::env::args_os(), &mut Console::system()))
}

/// Runs the command in `arguments`, the first of which is the program's name; the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>, console: &mut Console<'_>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(usage) => return console.usage(&usage),
    };
    let Console { out, errors } = console;
    let result = match &cli.command {
        Command::Demo(args) => demo::run(args, out, errors),
        Command::Serve(args) => serve::run(args, out, errors),
        Command::Init(args) => init::run(args, out, errors),
        Command::Check(args) => check::run(args, out, errors),
        Command::Ue(args) => ue::run(args, out, errors),
        Command::Provision(args) => provision::run(args, out, errors),
        Command::Subscriber(args) => subscriber::run(args, out, errors),
        Command::Account(args) => account::run(args, out, errors),
        Command::Key(args) => key::run(args, out, errors),
        Command::Status(edge) => admin::status(edge, out, errors),
        Command::Sa(args) => admin::associations(args, out, errors),
        Command::Dialog(args) => admin::dialog(args, out, errors),
        Command::Explain(args) => admin::explain::run(args, out, errors),
        Command::Audit(args) => audit::run(args, out, errors),
    };
    console.ended(result)
}

/// Where a command prints.
pub struct Console<'c> {
    /// What was asked for.
    pub out: Box<dyn Write + Send + 'c>,
    /// What went wrong.
    pub errors: Box<dyn Write + Send + 'c>,
}

impl std::fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Console(..)")
    }
}

impl Console<'static> {
    /// The standard output and the standard error of the process.
    pub fn system() -> Self {
        Self { out: Box::new(io::stdout()), errors: Box::new(io::stderr()) }
    }
}

impl Console<'_> {
    /// Prints what `clap` has to say: help and version are answers, all else is wrong usage.
    fn usage(&mut self, usage: &clap::Error) -> u8 {
        let wrong = usage.use_stderr();
        let to = if wrong { &mut self.errors } else { &mut self.out };
        // Nobody can be told that this cannot be printed.
        let _ = write!(to, "{}", usage.render());
        if wrong { USAGE } else { GOOD }
    }

    /// The exit code of a command that came to its end, or could not print.
    fn ended(&mut self, result: io::Result<u8>) -> u8 {
        match result.and_then(|code| self.out.flush().map(|()| code)) {
            Ok(code) => code,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => GOOD,
            Err(error) => {
                let _ = writeln!(self.errors, "sipward: {error}");
                USAGE
            }
        }
    }
}

/// A table for people: columns as wide as their widest cell, two blanks apart.
#[derive(Debug, Default)]
pub struct Table(Vec<Vec<String>>);

impl Table {
    /// With these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self(vec![headings.iter().map(|heading| (*heading).to_owned()).collect()])
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.into());
    }

    /// Prints it.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.0 {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.0 {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    struct Gone(io::ErrorKind);

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(arguments: &[&str]) -> (u8, String, String) {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let mut console = Console { out: Box::new(&mut out), errors: Box::new(&mut errors) };
        let arguments = ["sipward"].iter().chain(arguments).map(OsString::from);
        let code = run(arguments, &mut console);
        drop(console);
        (code, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
    }

    #[test]
    fn the_commands_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_is_an_answer_and_wrong_usage_is_none() {
        let (code, out, errors) = said(&["--help"]);
        assert_eq!((code, errors.as_str()), (GOOD, ""));
        assert!(out.contains("check") && out.contains("Exit codes"), "{out}");
        for wrong in
            [&["chekc"][..], &[], &["serve", "a"], &["check", "a", "b"], &["init", "--force"]]
        {
            let (code, out, errors) = said(wrong);
            assert_eq!((code, out.as_str()), (USAGE, ""), "{wrong:?}");
            assert!(errors.contains("Usage: sipward"), "{wrong:?}: {errors}");
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        for (kind, code) in [(io::ErrorKind::BrokenPipe, GOOD), (io::ErrorKind::StorageFull, USAGE)]
        {
            let mut console = Console { out: Box::new(Gone(kind)), errors: Box::new(Vec::new()) };
            let arguments =
                ["sipward", "subscriber", "--file", "/nonexistent/x", "list"].map(OsString::from);
            assert_eq!(run(arguments, &mut console), USAGE, "errors go elsewhere");
            assert_eq!(console.ended(Err(kind.into())), code, "{kind:?}");
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["A", "LONG"]);
        table.row(["wider".into(), "x".into()]);
        table.row(["ä".into(), String::new()]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "A      LONG\nwider  x\nä\n");
    }
}
