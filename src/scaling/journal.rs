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

/// The last thousand records of a pool. Written by its agent, read by the admin API.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(reason: &str) -> Record {
        Record {
            id: 0,
            t: 0.0,
            from: 3,
            to: 4,
            winner: "rate",
            terms: BTreeMap::from([("offered_10s", 280.0)]),
            clamps: Vec::new(),
            action: "launch",
            reason: reason.into(),
            outcome: String::new(),
        }
    }

    #[test]
    fn newest_first_with_ids_that_rise() {
        let journal = Journal::default();
        let ids: Vec<u64> = ["a", "b", "c"].map(|reason| journal.add(record(reason))).into();
        assert_eq!(ids, [1, 2, 3]);
        let newest: Vec<String> =
            journal.newest(2).into_iter().map(|record| record.reason).collect();
        assert_eq!(newest, ["c", "b"]);
    }

    #[test]
    fn the_oldest_make_room_and_ids_go_on() {
        let journal = Journal::default();
        for _ in 0..CAPACITY + 10 {
            journal.add(record("x"));
        }
        let all = journal.newest(usize::MAX);
        assert_eq!(all.len(), CAPACITY);
        assert_eq!(all[0].id, CAPACITY as u64 + 10);
        assert_eq!(all.last().map(|record| record.id), Some(11));
    }

    #[test]
    fn an_outcome_is_noted_for_as_long_as_the_record_is_kept() {
        let journal = Journal::default();
        let id = journal.add(record("x"));
        journal.settle(id, "accepted".into());
        journal.settle(99, "lost".into());
        assert_eq!(journal.newest(1)[0].outcome, "accepted");
    }

    #[test]
    fn a_record_in_json_has_the_names_of_the_api() {
        let json = serde_json::to_value(record("x")).expect("json");
        let fields = json.as_object().expect("an object");
        for field in
            ["id", "t", "from", "to", "winner", "terms", "clamps", "action", "reason", "outcome"]
        {
            assert!(fields.contains_key(field), "{field}");
        }
        assert_eq!(json["terms"]["offered_10s"], 280.0);
    }
}
