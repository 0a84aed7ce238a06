//! Instances as child processes on loopback addresses: zone k, slot n is `127.0.k.n`.
//!
//! - The record file is read at the start of every call and is the memory of all of them, so a
//!   provisioner that is built anew (a reload, a restart) goes on where the last one stopped. Where
//!   the file is lost or corrupt, it is restored from the environment of the processes themselves.
//! - A process is taken for an instance by number, start time and boot together. Nothing is ever
//!   signalled by its number alone.
//! - The instance is the first process of its group. When that one ends, what is left of its
//!   descendants is killed: a slot that is free in the list is free in truth.
//! - There is no task of its own: [`Provisioner::list`] and [`Provisioner::terminate`] reap, and
//!   kill what outstays the grace. The agent calls them each second.
//!
//! Calls block for as long as a few small files take to read and one to write.

mod command;
mod proc;
mod records;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::base::clock::wall_seconds;
use crate::base::entropy::stable_hash;
use crate::base::{Clock, InstanceId, Ms, PoolId, ZoneId};
use crate::model::{ProcessSettings, StopPolicy};
use crate::provision::{Call, Capabilities, Failure, LaunchOrder, Machine, Provisioner, Resize};

use proc::Bearer;
use records::{Book, Record, Unreadable};

/// From TERM to KILL.
const GRACE: Duration = Duration::from_secs(5);

/// Slots 1 to this in each zone.
const SLOTS: u8 = 254;

/// Bounds the time that one call takes.
const MAX_BATCH: u32 = 32;

/// The provisioner of one pool.
#[derive(Debug)]
pub struct Process {
    pool: PoolId,
    settings: ProcessSettings,
    /// Canonical: two spellings of one directory are one daemon's state.
    state_dir: PathBuf,
    boot: String,
    clock: Clock,
    memory: Mutex<Memory>,
}

/// What is not in the record file.
#[derive(Debug, Default)]
struct Memory {
    /// The least number for the next instance, should the file be lost while the daemon runs.
    next: u64,
    /// When each instance was told to go, by the clock of this provisioner.
    told_to_go: HashMap<String, Ms>,
}

impl Process {
    /// Finds again what exists for the pool, and makes the directory for its records.
    ///
    /// # Errors
    /// If the state directory cannot be used, or the kernel does not show processes.
    pub fn open(
        pool: &PoolId,
        settings: ProcessSettings,
        state_dir: &Path,
    ) -> Result<Self, Failure> {
        let dir = state_dir.join("instances");
        let unusable = |err| unwritable(&dir, &err);
        fs::create_dir_all(&dir).map_err(unusable)?;
        let process = Self {
            pool: pool.clone(),
            settings,
            state_dir: fs::canonicalize(state_dir).map_err(unusable)?,
            boot: proc::boot_id().map_err(|err| unreadable(&err))?,
            clock: Clock::start(),
            memory: Mutex::default(),
        };
        process.with_book(|book, _| process.save(book))?;
        Ok(process)
    }

    /// One call: reads the records, brings them up to date, and lets `act` work on them.
    fn with_book<T>(
        &self,
        act: impl FnOnce(&mut Book, &mut Memory) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut memory: MutexGuard<'_, Memory> =
            self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut book = self.load(memory.next)?;
        memory.next = book.next;
        self.update(&mut book, &mut memory)?;
        act(&mut book, &mut memory)
    }

    /// The records, each with its process. What has none was never started, or the daemon crashed
    /// just then.
    fn load(&self, least_next: u64) -> Result<Book, Failure> {
        let path = self.book_path();
        let mut book = match records::read(&path) {
            Ok(Some(book)) => book,
            Ok(None) => self.restored(self.leaders()?, 1),
            Err(Unreadable::Now(err)) => return Err(unreadable(&err)),
            Err(Unreadable::Corrupt(why)) => {
                // First what may fail for a moment: the file stays until it can be replaced.
                let leaders = self.leaders()?;
                let aside = records::with_suffix(&path, ".corrupt");
                fs::rename(&path, &aside).map_err(|err| unwritable(&aside, &err))?;
                tracing::error!(
                    pool = %self.pool, file = %path.display(), kept = %aside.display(), why,
                    "the record file is corrupt: restored from the processes that run"
                );
                // Numbers that were lost with the file are not used again: this one is higher
                // than one launch a second since 1970 would have come to.
                self.restored(leaders, wall_seconds() as u64)
            }
        };
        book.next = book.next.max(least_next);
        if book.instances.iter().any(|record| record.process.is_none()) {
            let leaders = self.leaders()?;
            for record in book.instances.iter_mut().filter(|record| record.process.is_none()) {
                record.process = leaders.get(&record.id).map(|found| found.mark.clone());
            }
            book.instances.retain(|record| record.process.is_some());
            self.save_or_tell(&book);
        }
        Ok(book)
    }

    /// Records made from the processes that bear the marks of the pool; the orders that they came
    /// from are not known any more.
    fn restored(&self, leaders: HashMap<String, Bearer>, least_next: u64) -> Book {
        let mut instances: Vec<Record> = leaders.into_values().map(Record::restored).collect();
        instances.sort_by_key(Record::number);
        let highest = instances.last().and_then(Record::number);
        let book = Book::new(least_next.max(highest.map_or(1, |number| number + 1)), instances);
        if !book.instances.is_empty() {
            tracing::warn!(
                pool = %self.pool, instances = book.instances.len(),
                "instances run that had no record: they are taken over"
            );
        }
        self.save_or_tell(&book);
        book
    }

    /// The first process of each instance that runs, by its id.
    fn leaders(&self) -> Result<HashMap<String, Bearer>, Failure> {
        self.bearers().map(proc::leaders).map_err(|err| unreadable(&err))
    }

    fn bearers(&self) -> io::Result<Vec<Bearer>> {
        proc::bearers(self.pool.as_str(), &self.state_dir, &self.boot)
    }

    /// Notes what has ended, and kills what outstays its grace.
    fn update(&self, book: &mut Book, memory: &mut Memory) -> Result<(), Failure> {
        let before = book.clone();
        let mut ended: Vec<String> = Vec::new();
        for record in book.instances.iter_mut().filter(|record| record.ended.is_none()) {
            let Some(mark) = &record.process else { continue };
            record.stopping |= memory.told_to_go.contains_key(&record.id);
            match proc::fate(mark, &self.boot).map_err(|err| unreadable(&err))? {
                Some(why) => {
                    ended.push(record.id.clone());
                    if !record.stopping {
                        tracing::warn!(
                            pool = %self.pool, instance = record.id, why,
                            output = %self.path("log").display(), "an instance ended by itself"
                        );
                    }
                    record.ended = Some(why);
                }
                None if record.stopping => self.press(record, memory),
                None => {}
            }
        }
        if !ended.is_empty() {
            self.sweep(&ended);
        }
        book.instances.retain(|record| !(record.stopping && record.ended.is_some()));
        if *book == before || self.save_or_tell(book) {
            memory.told_to_go.retain(|id, _| book.instances.iter().any(|record| record.id == *id));
        }
        Ok(())
    }

    /// What a stopping instance gets now: KILL after the grace; TERM once more if it was told by a
    /// daemon before this one, which may have crashed before it did.
    fn press(&self, record: &Record, memory: &mut Memory) {
        let now = self.clock.now();
        let done = match memory.told_to_go.get(&record.id) {
            None => {
                memory.told_to_go.insert(record.id.clone(), now);
                self.tell_to_go(record)
            }
            Some(since) if now.since(*since) >= GRACE => self.signal(record, Signal::KILL),
            Some(_) => Ok(()),
        };
        if let Err(failure) = done {
            tracing::error!(pool = %self.pool, instance = record.id, %failure, "does not stop");
        }
    }

    /// Kills what is left of the descendants of instances that ended. Where that fails they are
    /// reported, and their address stays in use until someone ends them.
    fn sweep(&self, ended: &[String]) {
        let swept = self.bearers().and_then(|bearers| {
            bearers
                .iter()
                .filter(|bearer| ended.contains(&bearer.instance.id))
                .try_for_each(proc::kill)
        });
        if let Err(err) = swept {
            tracing::error!(
                pool = %self.pool, instances = ?ended, error = %err,
                "cannot end the descendants of instances that ended"
            );
        }
    }

    /// A stopped process (SIGSTOP) acts on TERM only once it goes on.
    fn tell_to_go(&self, record: &Record) -> Result<(), Failure> {
        self.signal(record, Signal::TERM)?;
        self.signal(record, Signal::CONT)
    }

    fn signal(&self, record: &Record, signal: Signal) -> Result<(), Failure> {
        let Some(mark) = &record.process else { return Ok(()) };
        proc::signal_group(mark, signal).map_err(|err| {
            Failure::Denied(format!(
                "cannot signal process {} of instance {}: {}; run tidegate as the user that \
                 instances run as",
                mark.pid,
                record.id,
                plain(&err)
            ))
        })
    }

    fn list_now(&self) -> Result<Vec<Machine>, Failure> {
        self.with_book(|book, _| Ok(book.instances.iter().map(Record::machine).collect()))
    }

    fn launch_now(&self, order: &LaunchOrder) -> Result<(), Failure> {
        let zones = &self.settings.zones;
        let octet = zones.iter().position(|zone| *zone == order.zone);
        let Some(octet) = octet.and_then(|index| u8::try_from(index + 1).ok()) else {
            let known: Vec<&str> = zones.iter().map(ZoneId::as_str).collect();
            return Err(Failure::Rejected(format!(
                "there is no zone {}; pool.{}.provisioner.zones has {}",
                order.zone,
                self.pool,
                known.join(", ")
            )));
        };
        if order.count > MAX_BATCH {
            return Err(Failure::Rejected(format!(
                "{} instances in one order; at most {MAX_BATCH}",
                order.count
            )));
        }
        self.with_book(|book, memory| {
            let first = book.instances.len();
            let exist = book.instances.iter().filter(|r| r.token.as_ref() == Some(&order.token));
            let missing = (order.count as usize).saturating_sub(exist.count());
            let full = self.enter(book, order, octet, missing);
            if book.instances.len() > first {
                self.save(book)?;
                memory.next = book.next;
                let started = self.start(book, first);
                self.save_or_tell(book);
                started?;
            }
            full
        })
    }

    /// Writes `missing` new records, as far as there are free slots.
    fn enter(
        &self,
        book: &mut Book,
        order: &LaunchOrder,
        octet: u8,
        missing: usize,
    ) -> Result<(), Failure> {
        let mut left = missing;
        let mut foreign = 0;
        for slot in 1..=SLOTS {
            if left == 0 {
                break;
            }
            let address =
                SocketAddr::from((Ipv4Addr::new(127, 0, octet, slot), self.settings.port));
            if book.instances.iter().any(|record| record.address == address) {
                continue;
            }
            if is_in_use(address) {
                foreign += 1;
                continue;
            }
            let id = format!("{}-{}-{:x}", self.pool, order.zone, book.next);
            book.next += 1;
            left -= 1;
            let model = Some(model_of(&self.settings.command));
            book.instances.push(Record { model, ..Record::ordered(id, order, address) });
        }
        if left == 0 {
            return Ok(());
        }
        Err(Failure::NoCapacity {
            zone: order.zone.clone(),
            why: format!(
                "none of 127.0.{octet}.1 to 127.0.{octet}.{SLOTS} is free; port {} of {foreign} \
                 of them is used by other programs",
                self.settings.port
            ),
        })
    }

    /// Starts the processes of the records from `first` on. Records from the first that fails on
    /// are taken back.
    fn start(&self, book: &mut Book, first: usize) -> Result<(), Failure> {
        for index in first..book.instances.len() {
            let record = &mut book.instances[index];
            match self.spawn(record) {
                // Without its marks the process is found again by its environment.
                Ok(pid) => record.process = proc::mark(pid, &self.boot).ok().flatten(),
                Err(failure) => {
                    book.instances.truncate(index);
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    /// Starts an instance. It is reaped by its number, by whichever call sees its end.
    fn spawn(&self, record: &Record) -> Result<u32, Failure> {
        let Some((program, arguments)) = self.settings.command.split_first() else {
            return Err(Failure::Rejected(format!(
                "pool.{}.provisioner.command is empty",
                self.pool
            )));
        };
        let filled: io::Result<Vec<String>> =
            arguments.iter().map(|word| command::fill(word, record)).collect();
        let started = command::fill(program, record).and_then(|program| {
            let log = command::log(&self.path("log"));
            command::prepare(&program, &filled?, record, log)
                .env(proc::ENV_POOL, self.pool.as_str())
                .env(proc::ENV_STATE_DIR, &self.state_dir)
                .spawn()
        });
        match started {
            Ok(child) => Ok(child.id()),
            Err(err) if proc::is_shortage(&err) => Err(Failure::NoCapacity {
                zone: ZoneId::new(&record.zone),
                why: format!("cannot start {program}: {}", plain(&err)),
            }),
            Err(err) => Err(Failure::Rejected(format!(
                "cannot start {program}: {}; check pool.{}.provisioner.command",
                plain(&err),
                self.pool
            ))),
        }
    }

    fn terminate_now(&self, ids: &[InstanceId]) -> Result<(), Failure> {
        self.with_book(|book, memory| {
            let named = |record: &Record| ids.iter().any(|id| id.as_str() == record.id);
            book.instances.retain(|record| !(named(record) && record.ended.is_some()));
            let now = self.clock.now();
            let mut told = Ok(());
            for record in book.instances.iter_mut().filter(|r| named(r) && !r.stopping) {
                record.stopping = true;
                memory.told_to_go.insert(record.id.clone(), now);
                told = self.tell_to_go(record).and(told);
            }
            // A disk that is full must not keep instances from going.
            self.save_or_tell(book);
            told
        })
    }

    fn protect_now(&self, ids: &[InstanceId], on: bool) -> Result<(), Failure> {
        self.with_book(|book, _| {
            let mut missing: Vec<&str> = Vec::new();
            for id in ids {
                match book.instances.iter_mut().find(|record| record.id == id.as_str()) {
                    Some(record) => record.protected = on,
                    None => missing.push(id.as_str()),
                }
            }
            self.save(book)?;
            if missing.is_empty() {
                return Ok(());
            }
            Err(Failure::Conflict(format!("no longer there: {}", missing.join(", "))))
        })
    }

    fn save(&self, book: &Book) -> Result<(), Failure> {
        let path = self.book_path();
        records::write(&path, book).map_err(|err| unwritable(&path, &err))
    }

    /// Where nothing is lost for good by a file that stays old: the next call finds the same again.
    fn save_or_tell(&self, book: &Book) -> bool {
        match self.save(book) {
            Ok(()) => true,
            Err(failure) => {
                tracing::error!(pool = %self.pool, %failure, "the record file is out of date");
                false
            }
        }
    }

    fn book_path(&self) -> PathBuf {
        self.path("json")
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.state_dir.join("instances").join(format!("{}.{extension}", self.pool))
    }
}

impl Provisioner for Process {
    fn capabilities(&self) -> Capabilities {
        let zones = u32::try_from(self.settings.zones.len()).unwrap_or(u32::MAX);
        Capabilities {
            zones: self.settings.zones.clone(),
            max_instances: Some(zones.saturating_mul(u32::from(SLOTS))),
            max_batch: MAX_BATCH,
            resize: Resize::Never,
            protect: true,
            idempotent: true,
            model: Some(model_of(&self.settings.command)),
        }
    }

    fn list(&self) -> Call<'_, Vec<Machine>> {
        Box::pin(async { self.list_now() })
    }

    fn launch<'a>(&'a self, order: &'a LaunchOrder) -> Call<'a, ()> {
        Box::pin(async { self.launch_now(order) })
    }

    fn terminate<'a>(&'a self, ids: &'a [InstanceId]) -> Call<'a, ()> {
        Box::pin(async { self.terminate_now(ids) })
    }

    fn protect<'a>(&'a self, ids: &'a [InstanceId], on: bool) -> Call<'a, ()> {
        Box::pin(async move { self.protect_now(ids, on) })
    }

    fn resize<'a>(&'a self, _ids: &'a [InstanceId], _size: &'a str) -> Call<'a, ()> {
        Box::pin(async { Err(Failure::Unsupported("a process has no size that can change")) })
    }
}

/// Pools that there are records of and that are not among `known`. Their provisioners launch
/// nothing: there is no command.
pub(super) fn forgotten(known: &[PoolId], state_dir: &Path) -> Vec<(PoolId, Arc<dyn Provisioner>)> {
    let mut found: Vec<(PoolId, Arc<dyn Provisioner>)> = Vec::new();
    for entry in fs::read_dir(state_dir.join("instances")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pool) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
            continue;
        };
        let pool = PoolId::new(pool);
        if known.contains(&pool) {
            continue;
        }
        let (command, zones) = (Vec::new(), Vec::new());
        let settings = ProcessSettings { command, zones, port: 0, stop: StopPolicy::Terminate };
        match Process::open(&pool, settings, state_dir) {
            Ok(process) => found.push((pool, Arc::new(process))),
            Err(failure) => {
                tracing::error!(%pool, %failure, "cannot see what an earlier daemon left behind");
            }
        }
    }
    found
}

/// A short name for a command, the same in every run.
fn model_of(command: &[String]) -> String {
    format!("{:016x}", stable_hash(command.join("\0").as_bytes()))
}

/// Whether some program already listens there. What else keeps a program from listening, it will
/// find out and tell by itself.
fn is_in_use(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|err| err.kind() == io::ErrorKind::AddrInUse)
}

fn unwritable(path: &Path, err: &io::Error) -> Failure {
    Failure::Rejected(format!(
        "cannot write {}: {}; check node.state_dir",
        path.display(),
        plain(err)
    ))
}

fn unreadable(err: &io::Error) -> Failure {
    Failure::Unreachable(format!("cannot see the processes that run: {}", plain(err)))
}

/// An error of the operating system in its words alone, without the number.
fn plain(err: &io::Error) -> String {
    let text = err.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
