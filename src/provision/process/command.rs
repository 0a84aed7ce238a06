//! The command line, environment and output of an instance.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::proc;
use super::records::Record;

/// A word of the command line with what it stands for.
pub(super) fn fill(word: &str, record: &Record) -> io::Result<String> {
    let mut filled = word.to_owned();
    if word.contains("{self}") {
        filled = filled.replace("{self}", &own_binary()?);
    }
    Ok(filled
        .replace("{address}", &record.address.to_string())
        .replace("{id}", &record.id)
        .replace("{zone}", &record.zone)
        .replace("{size}", record.size.as_deref().unwrap_or_default()))
}

/// The file of this program; the one now in its place if it was replaced by an upgrade.
fn own_binary() -> io::Result<String> {
    let path = std::env::current_exe()?.to_string_lossy().into_owned();
    Ok(match path.strip_suffix(" (deleted)") {
        Some(replaced) => replaced.to_owned(),
        None => path,
    })
}

/// Where instances write: both streams to the end of one file, or nowhere.
pub(super) fn log(path: &Path) -> Option<(File, File)> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    match file.and_then(|file| Ok((file.try_clone()?, file))) {
        Ok(streams) => Some(streams),
        Err(err) => {
            tracing::warn!(file = %path.display(), error = %err, "an instance starts without a log");
            None
        }
    }
}

/// The process of an instance, not yet started.
pub(super) fn prepare(
    program: &str,
    arguments: &[String],
    record: &Record,
    log: Option<(File, File)>,
) -> Command {
    let (stdout, stderr) = match log {
        Some((stdout, stderr)) => (stdout.into(), stderr.into()),
        None => (Stdio::null(), Stdio::null()),
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env(proc::ENV_ADDRESS, record.address.to_string())
        .env(proc::ENV_ID, &record.id)
        .env(proc::ENV_ZONE, &record.zone)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        // A Ctrl-C in the daemon's terminal must not reach it before the drain.
        .process_group(0);
    match &record.size {
        Some(size) => command.env(proc::ENV_SIZE, size),
        None => command.env_remove(proc::ENV_SIZE),
    };
    command
}
