//! The command line: what the operator types, and what the process answers with.
//!
//! [`main`] is the whole program less the allocator. Each verb is a file with a `run` that returns
//! what went wrong as a `Failure`: what to print and which exit code. Verbs that talk to a running
//! daemon do so through `client`.

mod args;
mod check;
mod client;
mod config_file;
mod drain;
mod explain;
mod healthcheck;
mod protect;
mod reload;
mod scale;
mod simulate;
mod status;
mod table;
pub mod whoami;
mod zone;

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::args::{Args, ConfigArgs, Verb};
use crate::daemon::{self, RunError};

/// How the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The operator's input is wrong: a config with faults, a pool that does not exist.
    Input = 1,
    /// The command line itself is wrong.
    Usage = 2,
    /// The daemon could not be reached.
    Unreachable = 3,
    /// It failed at run time.
    Failed = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A verb that did not do what it was for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Failure {
    exit: Exit,
    /// For stderr; may be several lines.
    message: String,
}

impl Failure {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

/// Does what the command line says; the first argument is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(why) => {
            let _ = why.print();
            return if why.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    match dispatch(args) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{}", failure.message);
            failure.exit
        }
    }
}

fn dispatch(args: Args) -> Result<(), Failure> {
    match args.verb.unwrap_or(Verb::Run(args.run)) {
        Verb::Run(args) => run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Drain(args) => drain::run(&args),
        Verb::Zone(args) => zone::run(&args),
        Verb::Scale(args) => scale::run(&args),
        Verb::Protect(args) => protect::run(&args),
        Verb::Reload(args) => reload::run(&args),
        Verb::Healthcheck(args) => healthcheck::run(&args),
        Verb::Simulate(args) => simulate::run(&args),
        Verb::Whoami(args) => whoami::run(args).map_err(|why| Failure::new(Exit::Failed, why)),
    }
}

fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let path = config_file::find(args.config.as_deref())?;
    daemon::run(&path).map_err(|why| match why {
        RunError::Input(faults) => Failure::new(Exit::Input, faults.to_string()),
        RunError::Failed(lines) => Failure::new(Exit::Failed, lines.join("\n")),
    })
}

/// Writes to stdout. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(why) if why.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("cannot write to stdout: {why}")))
        }
        _ => Ok(()),
    }
}
