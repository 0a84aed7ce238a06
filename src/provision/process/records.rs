//! The record file of a pool: which processes are its instances.
//!
//! It is written aside, synced and renamed, so that a reader finds the old or the new, never half
//! of one. A record is written before its process is started and completed after, so that a crash
//! in between leaves a name to look for, not an orphan.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::{InstanceId, ZoneId};
use crate::provision::{LaunchOrder, Machine, MachineState};

use super::proc::{Bearer, is_shortage};

/// The version of the format that this program writes, and the only one that it reads.
const VERSION: u32 = 1;

/// No instance has a higher number: there is always a next one.
const HIGHEST: u64 = 1 << 48;

/// The record file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Book {
    version: u32,
    /// The number of the next instance; only rises, so that no name is used twice.
    pub(super) next: u64,
    /// In the order in which they were launched.
    pub(super) instances: Vec<Record>,
}

/// One instance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) zone: String,
    pub(super) address: SocketAddr,
    pub(super) size: Option<String>,
    /// What its command line was, as [`super::model_of`] tells it; unknown of old records.
    #[serde(default)]
    pub(super) model: Option<String>,
    /// Of the order that it came from; unknown if the record had to be restored.
    pub(super) token: Option<String>,
    /// Unknown from before the start until after it.
    pub(super) process: Option<Mark>,
    pub(super) protected: bool,
    /// It was told to go.
    pub(super) stopping: bool,
    /// How it ended, if it did so by itself.
    pub(super) ended: Option<String>,
}

/// What tells a process from any other that ever had its number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) pid: u32,
    /// In clock ticks since the machine started.
    pub(super) start: u64,
    /// Which start of the machine that was.
    pub(super) boot: String,
}

/// Why a record file gave no records.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The daemon is short of something; the file may be fine.
    Now(io::Error),
    /// The file is of no use, and why.
    Corrupt(String),
}

impl Book {
    /// No instances.
    pub(super) fn new(next: u64, instances: Vec<Record>) -> Self {
        Self { version: VERSION, next, instances }
    }
}

impl Record {
    /// Of an instance that is not started yet.
    pub(super) fn ordered(id: String, order: &LaunchOrder, address: SocketAddr) -> Self {
        Self {
            id,
            zone: order.zone.as_str().to_owned(),
            address,
            size: order.size.clone(),
            model: None,
            token: Some(order.token.clone()),
            process: None,
            protected: false,
            stopping: false,
            ended: None,
        }
    }

    /// Of an instance that runs and has no record.
    pub(super) fn restored(found: Bearer) -> Self {
        Self {
            id: found.instance.id,
            zone: found.instance.zone,
            address: found.instance.address,
            size: found.instance.size,
            model: None,
            token: None,
            process: Some(found.mark),
            protected: false,
            stopping: false,
            ended: None,
        }
    }

    /// The number at the end of its name.
    pub(super) fn number(&self) -> Option<u64> {
        let number = u64::from_str_radix(self.id.rsplit('-').next()?, 16).ok()?;
        (number < HIGHEST).then_some(number)
    }

    /// As the agent knows it.
    pub(super) fn machine(&self) -> Machine {
        Machine {
            id: InstanceId::new(&self.id),
            zone: ZoneId::new(&self.zone),
            address: Some(self.address),
            state: match &self.ended {
                Some(why) => MachineState::Failed(why.clone()),
                None if self.stopping => MachineState::Stopping,
                None => MachineState::Running,
            },
            size: self.size.clone(),
            model: self.model.clone(),
            token: self.token.clone(),
            protected: self.protected,
        }
    }
}

#[derive(Deserialize)]
struct Header {
    version: u32,
}

/// Reads the file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Book>, Unreadable> {
    match fs::read(path) {
        Ok(bytes) => parse(&bytes).map(Some).map_err(Unreadable::Corrupt),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) if is_shortage(&err) => Err(Unreadable::Now(err)),
        Err(err) => Err(Unreadable::Corrupt(err.to_string())),
    }
}

fn parse(bytes: &[u8]) -> Result<Book, String> {
    let header: Header = serde_json::from_slice(bytes).map_err(|err| err.to_string())?;
    if header.version != VERSION {
        return Err(format!("it has version {}, and only {VERSION} is known", header.version));
    }
    let book: Book = serde_json::from_slice(bytes).map_err(|err| err.to_string())?;
    if book.next > HIGHEST {
        return Err(format!("the next number is {}, which cannot be", book.next));
    }
    Ok(book)
}

/// Replaces the file as one step that outlives a power cut. A folder that was lost is made again.
pub(super) fn write(path: &Path, book: &Book) -> io::Result<()> {
    let aside = with_suffix(path, ".new");
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut file = File::create(&aside)?;
    file.write_all(&serde_json::to_vec_pretty(book)?)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// `path` with `suffix` behind its last letter.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> Book {
        let record = Record {
            id: "web-a-1f".into(),
            zone: "a".into(),
            address: "127.0.1.7:8080".parse().expect("an address"),
            size: Some("d4".into()),
            model: Some("m".into()),
            token: Some("t1".into()),
            process: Some(Mark { pid: 4711, start: 99, boot: "b".into() }),
            protected: true,
            stopping: false,
            ended: Some("killed by signal 9".into()),
        };
        let bare = Record { process: None, size: None, token: None, ended: None, ..record.clone() };
        Book::new(32, vec![record, bare])
    }

    #[test]
    fn what_is_written_reads_back_and_nothing_lies_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lost/web.json");
        assert!(matches!(read(&path), Ok(None)));
        for next in [32, 33] {
            let book = Book { next, ..book() };
            write(&path, &book).expect("written");
            assert_eq!(read(&path).expect("readable"), Some(book));
        }
        assert_eq!(fs::read_dir(dir.path().join("lost")).expect("a directory").count(), 1);
    }

    #[test]
    fn what_is_not_a_record_file_is_named_corrupt() {
        let whole = serde_json::to_string(&book()).expect("JSON");
        for (text, hint) in [
            (String::new(), "EOF"),
            (whole[..whole.len() / 2].to_owned(), "EOF"),
            ("{}".to_owned(), "version"),
            (whole.replacen("\"version\":1", "\"version\":7", 1), "version 7"),
            (whole.replacen("\"next\":32", "\"next\":18446744073709551615", 1), "next number"),
            (whole.replacen("127.0.1.7:8080", "nowhere", 1), "address"),
        ] {
            let why = parse(text.as_bytes()).expect_err(&text);
            assert!(why.contains(hint), "{why:?} must tell of {hint:?}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        assert!(
            matches!(read(dir.path()), Err(Unreadable::Corrupt(_))),
            "a directory in its place"
        );
    }

    #[test]
    fn fields_of_a_later_program_are_let_be() {
        let text = serde_json::to_string(&book()).expect("JSON");
        let more = text.replacen("\"pid\"", "\"cgroup\":\"x\",\"pid\"", 1);
        assert_eq!(parse(more.as_bytes()), Ok(book()));
    }
}
