//! What the agent decided and why, newest first, bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use serde::Serialize;

/// One decision: also one that changed nothing, where that is worth telling.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Record {
    /// Rises by one with each record of the pool.
    pub id: u64,
    /// Wall-clock seconds since 1970.
    pub t: f64,
    /// Size before: what exists and is not leaving.
    pub from: u32,
    /// Size wanted after it.
    pub to: u32,
    /// Which term decided the size.
    pub winner: &'static str,
    /// Every input and term with its value: rates in requests per second, sizes in instances.
    pub terms: BTreeMap<&'static str, f64>,
    /// Each bound that was applied, with what it changed: `max 14→12`.
    pub clamps: Vec<String>,
    /// What is done: `launch`, `drain`, `revive`, `terminate`, `replace`, `hold`, `failure`.
    pub action: &'static str,
    /// One line for an operator: `+6 (3→9): 840 rps at 70 rps each; zones a+2 b+2 c+2`.
    pub reason: String,
    /// What became of it: `accepted`, `failed: …`, or empty while it is open.
    pub outcome: String,
}

/// The last [`CAPACITY`] records of a pool. Written by its agent, read by the admin API.
#[derive(Debug, Default)]
pub struct Journal {
    records: Mutex<VecDeque<Record>>,
}

/// How many records are kept: a week at one every ten minutes.
const CAPACITY: usize = 1_000;

impl Journal {
    /// Adds a record and gives it its id, which it returns.
    pub fn add(&self, mut record: Record) -> u64 {
        let mut records = self.lock();
        record.id = records.back().map_or(1, |last| last.id + 1);
        let id = record.id;
        if records.len() == CAPACITY {
            records.pop_front();
        }
        records.push_back(record);
        id
    }

    /// Notes what became of record `id`, if it is still kept.
    pub fn settle(&self, id: u64, outcome: String) {
        if let Some(record) = self.lock().iter_mut().find(|record| record.id == id) {
            record.outcome = outcome;
        }
    }

    /// The newest `limit` records, newest first.
    pub fn newest(&self, limit: usize) -> Vec<Record> {
        self.lock().iter().rev().take(limit).cloned().collect()
    }

    /// A poisoned lock only means that a reader panicked: the records are whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Record>> {
        self.records.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
