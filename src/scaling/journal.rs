//! What the agent decided and why, newest first, bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::scaling::tally::Tally;

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
    /// What is done: `launch`, `drain`, `revive`, `terminate`, `recommend`, `override`, `hold`,
    /// `failure`.
    pub action: &'static str,
    /// One line for an operator: `+6 (3→9): 840 rps at 70 rps each; zones a+2 b+2 c+2`.
    pub reason: String,
    /// What became of it: `accepted`, `failed: …`, or empty while it is open; of a launch also what
    /// was measured: `accepted; 2 of 2 up after 1 to 3 s`.
    pub outcome: String,
}

/// The last thousand records of a pool. Written by its agent, read by the admin API.
#[derive(Debug, Default)]
pub struct Journal {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    records: VecDeque<Record>,
    /// Ids of those that the history does not have as they are.
    unsaved: BTreeSet<u64>,
    /// What recommendations add up to, while the agent only recommends.
    tally: Option<Tally>,
}

/// How many records are kept: a week at one every ten minutes.
pub(super) const CAPACITY: usize = 1_000;

impl Journal {
    /// A journal that goes on after `records`, which are in the order of their ids.
    pub fn resume(records: Vec<Record>) -> Self {
        let surplus = records.len().saturating_sub(CAPACITY);
        let mut kept = Kept::default();
        kept.records.extend(records.into_iter().skip(surplus));
        for record in &mut kept.records {
            if record.outcome.is_empty() && matches!(record.action, "launch" | "terminate") {
                record.outcome = "not known: the daemon was restarted meanwhile".into();
            }
        }
        Self { kept: Mutex::new(kept) }
    }

    /// Adds a record and gives it its id, which it returns.
    pub fn add(&self, mut record: Record) -> u64 {
        let mut kept = self.lock();
        record.id = kept.records.back().map_or(1, |last| last.id + 1);
        let id = record.id;
        if kept.records.len() == CAPACITY
            && let Some(oldest) = kept.records.pop_front()
        {
            kept.unsaved.remove(&oldest.id);
        }
        kept.records.push_back(record);
        kept.unsaved.insert(id);
        id
    }

    /// Notes what became of the calls of record `id`, if it is still kept.
    pub fn settle(&self, id: u64, outcome: String) {
        self.note(id, |record| {
            record.outcome = match record.outcome.as_str() {
                "" => outcome,
                measured => format!("{outcome}; {measured}"),
            };
        });
    }

    /// Notes what became of the instances of record `id`, if it is still kept.
    pub fn measure(&self, id: u64, measured: &str) {
        self.note(id, |record| {
            if !record.outcome.is_empty() {
                record.outcome.push_str("; ");
            }
            record.outcome.push_str(measured);
        });
    }

    fn note(&self, id: u64, change: impl FnOnce(&mut Record)) {
        let mut kept = self.lock();
        if let Some(record) = kept.records.iter_mut().find(|record| record.id == id) {
            change(record);
            kept.unsaved.insert(id);
        }
    }

    /// The newest `limit` records, newest first.
    pub fn newest(&self, limit: usize) -> Vec<Record> {
        self.lock().records.iter().rev().take(limit).cloned().collect()
    }

    /// What the recommendations add up to; `None` while they are carried out.
    pub fn set_tally(&self, tally: Option<Tally>) {
        self.lock().tally = tally;
    }

    /// As it was set.
    pub fn tally(&self) -> Option<Tally> {
        self.lock().tally
    }

    /// The records that were not taken since they were added or changed, and the id of the oldest
    /// that is kept.
    pub(super) fn take_unsaved(&self) -> (Vec<Record>, u64) {
        let mut kept = self.lock();
        let unsaved = std::mem::take(&mut kept.unsaved);
        let records = kept.records.iter().filter(|record| unsaved.contains(&record.id));
        (records.cloned().collect(), kept.records.front().map_or(0, |oldest| oldest.id))
    }

    /// All are to be taken again.
    pub(super) fn mark_unsaved(&self) {
        let mut kept = self.lock();
        kept.unsaved = kept.records.iter().map(|record| record.id).collect();
    }

    /// A poisoned lock only means that a reader panicked: the records are whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Reads records back. Their words are few and live as long as the program: each is made once.
#[derive(Debug, Default)]
pub(super) struct Words {
    known: BTreeSet<&'static str>,
}

/// A record as it was written.
#[derive(Deserialize)]
struct Written {
    id: u64,
    t: f64,
    from: u32,
    to: u32,
    winner: String,
    /// What is not a number is written as nothing.
    terms: BTreeMap<String, Option<f64>>,
    clamps: Vec<String>,
    action: String,
    reason: String,
    outcome: String,
}

/// Far more than this program has; a file with more was not written by it.
const WORDS_MAX: usize = 1_000;

impl Words {
    /// The record that was written as `json`.
    pub(super) fn read(&mut self, json: &[u8]) -> Result<Record, String> {
        let written: Written = serde_json::from_slice(json).map_err(|why| why.to_string())?;
        let Written { id, t, from, to, clamps, reason, outcome, .. } = written;
        let mut terms = BTreeMap::new();
        for (name, value) in &written.terms {
            terms.insert(self.word(name)?, value.unwrap_or(f64::NAN));
        }
        let (winner, action) = (self.word(&written.winner)?, self.word(&written.action)?);
        Ok(Record { id, t, from, to, winner, terms, clamps, action, reason, outcome })
    }

    fn word(&mut self, word: &str) -> Result<&'static str, String> {
        if let Some(known) = self.known.get(word) {
            return Ok(known);
        }
        if self.known.len() == WORDS_MAX || word.len() > 64 {
            return Err(format!("\"{word}\" is none of our words"));
        }
        let word: &'static str = Box::leak(word.into());
        self.known.insert(word);
        Ok(word)
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
        journal.measure(id, "1 of 1 up after 2 s");
        assert_eq!(journal.newest(1)[0].outcome, "accepted; 1 of 1 up after 2 s");
        let id = journal.add(record("y"));
        journal.measure(id, "0 of 1 up");
        journal.settle(id, "failed: x".into());
        assert_eq!(journal.newest(1)[0].outcome, "failed: x; 0 of 1 up", "in whichever order");
    }

    #[test]
    fn what_is_new_or_changed_is_taken_once() {
        let journal = Journal::default();
        let ids: Vec<u64> = ["a", "b", "c"].map(|reason| journal.add(record(reason))).into();
        let taken = |journal: &Journal| -> Vec<u64> {
            journal.take_unsaved().0.iter().map(|record| record.id).collect()
        };
        assert_eq!(taken(&journal), ids);
        assert!(taken(&journal).is_empty());
        journal.settle(2, "accepted".into());
        assert_eq!(taken(&journal), [2]);
        journal.mark_unsaved();
        assert_eq!(taken(&journal), ids);
        for _ in 0..CAPACITY + 5 {
            journal.add(record("x"));
        }
        let (records, oldest) = journal.take_unsaved();
        assert_eq!((records.len(), oldest), (CAPACITY, 9), "those that are gone are gone");
    }

    #[test]
    fn a_record_reads_back() {
        let mut words = Words::default();
        let before = Record { id: 7, clamps: vec!["max 14→12".into()], ..record("x") };
        let json = serde_json::to_vec(&before).expect("json");
        assert_eq!(words.read(&json), Ok(before));
        assert!(words.read(b"{}").is_err() && words.read(b"\xff").is_err());
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
