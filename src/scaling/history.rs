//! What outlives the daemon: the journals, and what is learnt, in `history.redb`.
//!
//! Everything is read at the start and lives in memory; [`History::write`] brings what is new into
//! the file and blocks meanwhile, so it has a thread to itself. Nobody else ever waits for a disk.
//! A file that makes no sense is set aside, one that cannot be written is tried again later; both
//! are told once, and neither stops anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::PoolId;
use crate::scaling::journal::{self, Journal, Record};

/// Records by pool and id, as JSON.
const JOURNAL: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("journal");
/// What is learnt, by pool and key.
const LEARNT: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("learnt");
/// About the file itself.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// How the tables are laid out.
const VERSION: u64 = 1;
/// The most that one key may hold.
const VALUE_MAX: usize = 1024 * 1024;
/// Calls to [`History::write`] until a file that could not be used is tried again.
const PAUSE: u32 = 60;
/// Of the file, in memory.
const CACHE: usize = 1024 * 1024;

/// Told each time that the file cannot be used; the daemon counts.
pub type OnError = Box<dyn Fn() + Send + Sync>;

/// The memory of all pools.
pub struct History {
    on_error: OnError,
    kept: Mutex<Kept>,
    /// Locked while the disk is waited for.
    file: Mutex<Store>,
}

/// What is in memory.
#[derive(Debug, Default)]
struct Kept {
    journals: BTreeMap<PoolId, Arc<Journal>>,
    learnt: BTreeMap<(PoolId, String), Learnt>,
    /// Pools that are to leave the file.
    forgotten: BTreeSet<PoolId>,
}

#[derive(Debug)]
struct Learnt {
    bytes: Vec<u8>,
    /// Whether it is not to wait for the minute.
    soon: bool,
    saved: bool,
}

/// The file.
struct Store {
    /// None: nothing is to outlive this.
    path: Option<PathBuf>,
    database: Option<Database>,
    /// Calls until it is tried again.
    pause: u32,
    /// Whether the log was told that it cannot be used.
    told: bool,
}

/// What is to be written at once.
#[derive(Default)]
struct Batch {
    forgotten: BTreeSet<PoolId>,
    /// New or changed records of a pool, and the id of the oldest that is kept.
    records: Vec<(PoolId, Vec<Record>, u64)>,
    learnt: Vec<((PoolId, String), Vec<u8>)>,
}

impl History {
    /// Reads the file at `path`; without one, or one that makes sense, the memory is empty.
    pub fn open(path: &Path, on_error: OnError) -> Self {
        let file = Store { path: Some(path.to_owned()), database: None, pause: 0, told: false };
        let history = Self { on_error, kept: Mutex::default(), file: Mutex::new(file) };
        let mut file = lock(&history.file);
        if history.ready(&mut file)
            && let Some(database) = &file.database
        {
            match read(database) {
                Ok(kept) => *lock(&history.kept) = kept,
                Err(why) => history.fail(&mut file, &why),
            }
        }
        drop(file);
        history
    }

    /// Nothing outlives this one.
    pub fn in_memory() -> Self {
        let file = Store { path: None, database: None, pause: 0, told: false };
        Self { on_error: Box::new(|| ()), kept: Mutex::default(), file: Mutex::new(file) }
    }

    /// The journal of the pool, with what it held before the restart.
    pub fn journal(&self, pool: &PoolId) -> Arc<Journal> {
        Arc::clone(lock(&self.kept).journals.entry(pool.clone()).or_default())
    }

    /// What was saved for `pool` under `key`, if it makes sense. A change of its layout is a change of the
    /// key (`profile/1`, `profile/2`).
    pub fn recall<T: DeserializeOwned>(&self, pool: &PoolId, key: &str) -> Option<T> {
        serde_json::from_slice(&self.load(pool, key)?).ok()
    }

    /// The same as bytes.
    pub fn load(&self, pool: &PoolId, key: &str) -> Option<Vec<u8>> {
        let kept = lock(&self.kept);
        kept.learnt.get(&(pool.clone(), key.to_owned())).map(|learnt| learnt.bytes.clone())
    }

    /// Keeps `bytes` for `pool` under `key`; they reach the file within a minute. At most a
    /// mebibyte: more is not kept, and counted as an error.
    pub fn save(&self, pool: &PoolId, key: &str, bytes: Vec<u8>) {
        if bytes.len() > VALUE_MAX {
            tracing::error!(%pool, key, bytes = bytes.len(), "too much to be kept");
            (self.on_error)();
            return;
        }
        self.keep(pool, key, Learnt { bytes, soon: false, saved: false });
    }

    /// Keeps `value` for `pool` under `key` as [`Self::save`] does, and it reaches the file within a
    /// second. The same again writes nothing.
    pub fn save_soon(&self, pool: &PoolId, key: &str, value: &impl Serialize) {
        let Ok(bytes) = serde_json::to_vec(value) else { return };
        if self.load(pool, key).is_none_or(|before| before != bytes) {
            self.keep(pool, key, Learnt { bytes, soon: true, saved: false });
        }
    }

    fn keep(&self, pool: &PoolId, key: &str, learnt: Learnt) {
        lock(&self.kept).learnt.insert((pool.clone(), key.to_owned()), learnt);
    }

    /// The pool is gone for good.
    pub fn forget(&self, pool: &PoolId) {
        let mut kept = lock(&self.kept);
        kept.journals.remove(pool);
        kept.learnt.retain(|(of, _), _| of != pool);
        kept.forgotten.insert(pool.clone());
    }

    /// Forgets all pools but these.
    pub fn keep_only(&self, pools: &[PoolId]) {
        let known: BTreeSet<PoolId> = {
            let kept = lock(&self.kept);
            let learnt = kept.learnt.keys().map(|(pool, _)| pool);
            kept.journals.keys().chain(learnt).cloned().collect()
        };
        for pool in known.iter().filter(|pool| !pools.contains(pool)) {
            self.forget(pool);
        }
    }

    /// Writes what is new or changed, what may wait for the minute only if `learnt`, and waits until the
    /// disk has it.
    pub fn write(&self, learnt: bool) {
        let mut file = lock(&self.file);
        if !self.ready(&mut file) {
            return;
        }
        let Some(database) = &file.database else { return };
        let batch = lock(&self.kept).take(learnt);
        if batch.is_empty() {
            return;
        }
        match commit(database, &batch) {
            Ok(()) if std::mem::replace(&mut file.told, false) => {
                tracing::info!("the history is written again");
            }
            Ok(()) => {}
            Err(why) => self.fail(&mut file, &why),
        }
    }

    /// Whether the file can be used, opened if need be.
    fn ready(&self, file: &mut Store) -> bool {
        if file.database.is_some() {
            return true;
        }
        let Some(path) = file.path.clone() else { return false };
        if file.pause > 0 {
            file.pause -= 1;
            return false;
        }
        match open(&path) {
            Ok(database) => file.database = Some(database),
            Err(why) => self.fail(file, &why),
        }
        file.database.is_some()
    }

    /// The file cannot be used: one that makes no sense makes room for a new one, any other is
    /// tried again later. All that is in memory is then to be written.
    fn fail(&self, file: &mut Store, why: &redb::Error) {
        (self.on_error)();
        file.database = None;
        file.pause = PAUSE;
        let Some(path) = &file.path else { return };
        let aside = path.with_extension("redb.corrupt");
        let set_aside = makes_no_sense(why) && fs::rename(path, &aside).is_ok();
        if !std::mem::replace(&mut file.told, true) {
            let path = path.display();
            let told = if set_aside {
                "the history makes no sense and is set aside as .corrupt; a new one begins"
            } else {
                "the history cannot be written; the journals are in memory until it can"
            };
            tracing::error!(%path, %why, "{told}");
        }
        lock(&self.kept).mark_unsaved();
        if set_aside {
            file.pause = 0;
            match open(path) {
                Ok(database) => (file.database, file.told) = (Some(database), false),
                Err(_) => file.pause = PAUSE,
            }
        }
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl Kept {
    fn take(&mut self, learnt: bool) -> Batch {
        let mut batch =
            Batch { forgotten: std::mem::take(&mut self.forgotten), ..Batch::default() };
        for (pool, journal) in &self.journals {
            let (records, oldest) = journal.take_unsaved();
            if !records.is_empty() {
                batch.records.push((pool.clone(), records, oldest));
            }
        }
        let unsaved =
            self.learnt.iter_mut().filter(|(_, value)| (learnt || value.soon) && !value.saved);
        for (key, value) in unsaved {
            value.saved = true;
            batch.learnt.push((key.clone(), value.bytes.clone()));
        }
        batch
    }

    fn mark_unsaved(&mut self) {
        self.journals.values().for_each(|journal| journal.mark_unsaved());
        self.learnt.values_mut().for_each(|learnt| learnt.saved = false);
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.forgotten.is_empty() && self.records.is_empty() && self.learnt.is_empty()
    }
}

/// The file at `path`, made if there is none, with all its checksums looked at.
fn open(path: &Path) -> Result<Database, redb::Error> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    let database = Database::builder()
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(true)
        .create_with_backend(FileBackend::new(file)?)?;
    let transaction = database.begin_write()?;
    let version = {
        let mut meta = transaction.open_table(META)?;
        let version = meta.get("version")?.map(|version| version.value());
        if version.is_none() {
            meta.insert("version", VERSION)?;
        }
        transaction.open_table(JOURNAL)?;
        transaction.open_table(LEARNT)?;
        version.unwrap_or(VERSION)
    };
    if version != VERSION {
        return Err(corrupt(format!("version {version} wrote it")));
    }
    transaction.commit()?;
    Ok(database)
}

fn read(database: &Database) -> Result<Kept, redb::Error> {
    let transaction = database.begin_read()?;
    let mut kept = Kept::default();
    let mut records = BTreeMap::<PoolId, Vec<Record>>::new();
    let mut words = journal::Words::default();
    for entry in transaction.open_table(JOURNAL)?.iter()? {
        let (key, value) = entry?;
        let (pool, id) = key.value();
        let record = words.read(value.value());
        let record = record.map_err(|why| corrupt(format!("record {id} of {pool}: {why}")))?;
        records.entry(PoolId::new(pool)).or_default().push(record);
    }
    for (pool, records) in records {
        kept.journals.insert(pool, Arc::new(Journal::resume(records)));
    }
    for entry in transaction.open_table(LEARNT)?.iter()? {
        let (key, value) = entry?;
        let (pool, key) = key.value();
        let learnt = Learnt { bytes: value.value().to_owned(), soon: false, saved: true };
        kept.learnt.insert((PoolId::new(pool), key.to_owned()), learnt);
    }
    Ok(kept)
}

fn commit(database: &Database, batch: &Batch) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut journal = transaction.open_table(JOURNAL)?;
        let mut learnt = transaction.open_table(LEARNT)?;
        for pool in &batch.forgotten {
            journal.retain(|(of, _), _| of != pool.as_str())?;
            learnt.retain(|(of, _), _| of != pool.as_str())?;
        }
        for (pool, records, oldest) in &batch.records {
            journal.retain(|(of, id), _| of != pool.as_str() || id >= *oldest)?;
            for record in records {
                let json = serde_json::to_vec(record).map_err(io::Error::from)?;
                journal.insert((pool.as_str(), record.id), json.as_slice())?;
            }
        }
        for ((pool, key), bytes) in &batch.learnt {
            learnt.insert((pool.as_str(), key.as_str()), bytes.as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn corrupt(why: String) -> redb::Error {
    redb::Error::Corrupted(why)
}

/// Whether the file is at fault, and not the disk or a permission.
fn makes_no_sense(why: &redb::Error) -> bool {
    match why {
        redb::Error::Io(why) => {
            matches!(why.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        redb::Error::DatabaseAlreadyOpen | redb::Error::PreviousIo => false,
        _ => true,
    }
}

/// A poisoned lock only means that somebody panicked in between two whole states.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
