//! Reads the tables of a parsed file key by key. A reader never stops at a fault: it notes it, gives
//! [`State::Wrong`] for the value, and goes on.
//!
//! Which keys are known is not listed anywhere: a key is known if some reader asked for it. When all
//! reading is done, [`Ledger::close`] goes through the tables that were opened and judges the rest.

use std::cell::RefCell;
use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::fault::{Place, Sink, closest, did_you_mean};
use crate::config::later::{self, Verdict};
use crate::config::scalar::{Printed, Scalar, Wrong, type_of};

/// What the file says for one key.
#[derive(Clone, Debug)]
pub struct Given<T> {
    /// The path of the key, as faults and explanations name it.
    pub key: String,
    /// Where the value stands; for an absent one, where its table does.
    pub place: Place,
    /// The value.
    pub state: State<T>,
}

/// Whether there is a value.
#[derive(Clone, Debug)]
pub enum State<T> {
    /// The file does not say.
    Absent,
    /// It says something that was noted as a fault; whoever misses the value need not complain.
    Wrong,
    /// It says this.
    Is(T),
}

impl<T> Given<T> {
    /// Whether the file says anything, right or wrong.
    pub fn is_present(&self) -> bool {
        !matches!(self.state, State::Absent)
    }

    /// The value, if there is a right one.
    pub fn value(&self) -> Option<&T> {
        match &self.state {
            State::Is(value) => Some(value),
            State::Absent | State::Wrong => None,
        }
    }

    /// Where the file says something, right or wrong, and for which key.
    pub fn written(&self) -> Option<(Place, &str)> {
        self.is_present().then_some((self.place, self.key.as_str()))
    }

    /// The same with the value made into another.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Given<U> {
        let state = match self.state {
            State::Absent => State::Absent,
            State::Wrong => State::Wrong,
            State::Is(value) => State::Is(change(value)),
        };
        Given { key: self.key, place: self.place, state }
    }
}

impl<T> Given<Vec<T>> {
    /// The elements; none if there is no right list.
    pub fn items(&self) -> &[T] {
        self.value().map_or(&[], Vec::as_slice)
    }
}

/// One element of a list, with its place.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The element.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

/// A list of scalars.
#[derive(Clone, Debug)]
pub struct List<T>(pub Vec<At<T>>);

impl<T: Printed> Printed for List<T> {
    fn print(&self) -> String {
        let items: Vec<String> = self.0.iter().map(|item| item.value.print()).collect();
        format!("[{}]", items.join(", "))
    }
}

/// A table whose keys the operator chooses, in their order in the file.
#[derive(Clone, Debug)]
pub struct Map<K, V>(pub Vec<Entry<K, V>>);

/// One key of a [`Map`].
#[derive(Clone, Debug)]
pub struct Entry<K, V> {
    /// What the key means.
    pub key: K,
    /// Its value.
    pub value: V,
    /// The path of the key, as faults name it.
    pub path: String,
    /// Where the key stands.
    pub key_place: Place,
    /// Where the value stands.
    pub place: Place,
}

impl<K: Printed, V: Printed> Printed for Map<K, V> {
    fn print(&self) -> String {
        let entry = |it: &Entry<K, V>| format!("{} = {}", it.key.print(), it.value.print());
        let entries: Vec<String> = self.0.iter().map(entry).collect();
        format!("{{ {} }}", entries.join(", "))
    }
}

/// A key of a [`Map`].
pub trait Key: Printed + PartialEq + Sized {
    /// Reads the key.
    ///
    /// # Errors
    /// Says what is wrong with it.
    fn parse_key(text: &str) -> Result<Self, Wrong>;
}

/// What can stand for a key: a value, a list, or a table.
pub trait Field: Sized {
    /// Reads the key `key` of `table`; an absent table reads as one in which every key is absent.
    fn read(table: &Table<'_, '_>, key: &'static str) -> Self;
}

impl<T: Value> Field for Given<T> {
    fn read(table: &Table<'_, '_>, key: &'static str) -> Self {
        table.given(key, |value, path, schema| T::read_value(table, value, path, schema))
    }
}

/// A value of the file, alone or with others in it. Its faults are noted where it is read.
pub trait Value: Sized {
    /// Reads `value`, which stands in `table` at `path`; `None` if it has a fault.
    fn read_value(
        table: &Table<'_, '_>,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        schema: &str,
    ) -> Option<Self>;
}

impl<T: Scalar> Value for T {
    fn read_value(
        table: &Table<'_, '_>,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        schema: &str,
    ) -> Option<Self> {
        table.scalar(value, path, schema)
    }
}

impl<T: Scalar> Value for List<T> {
    fn read_value(
        table: &Table<'_, '_>,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        schema: &str,
    ) -> Option<Self> {
        table.list(value, path, schema)
    }
}

impl<K: Key, V: Value> Value for Map<K, V> {
    fn read_value(
        table: &Table<'_, '_>,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        schema: &str,
    ) -> Option<Self> {
        table.map(value, path, schema)
    }
}

/// Which keys were asked for in an opened table.
#[derive(Debug)]
struct Opened<'d> {
    entries: &'d DeTable<'d>,
    path: String,
    schemas: Vec<String>,
    asked: Vec<&'static str>,
    forgiven: bool,
}

/// Remembers the tables that were opened and what was asked for in them.
#[derive(Debug)]
pub struct Ledger<'d> {
    sink: &'d Sink<'d>,
    opened: RefCell<BTreeMap<usize, Opened<'d>>>,
}

impl<'d> Ledger<'d> {
    /// An empty ledger that notes faults in `sink`.
    pub fn new(sink: &'d Sink<'d>) -> Self {
        Self { sink, opened: RefCell::default() }
    }

    /// Judges every key that nobody asked for.
    pub fn close(self) {
        for opened in self.opened.into_inner().into_values() {
            if !opened.forgiven {
                let schemas: Vec<&str> = opened.schemas.iter().map(String::as_str).collect();
                judge(self.sink, opened.entries, &opened.path, &schemas, &opened.asked);
            }
        }
    }
}

/// Judges the keys of a table but those in `asked`; goes into tables that are only for later.
fn judge(
    sink: &Sink<'_>,
    entries: &DeTable<'_>,
    path: &str,
    schemas: &[&str],
    asked: &[&'static str],
) {
    for (key, value) in entries {
        let name: &str = key.get_ref();
        if asked.contains(&name) {
            continue;
        }
        let path = join(path, name);
        let children: Vec<String> = schemas.iter().map(|schema| join(schema, name)).collect();
        let mut verdicts = children.iter().map(|child| later::judge_key(child));
        match verdicts.find(|verdict| *verdict != Verdict::Unknown) {
            Some(Verdict::Refused(problem)) => sink.add(key.span().start, &path, problem, None),
            Some(Verdict::Table) => {
                let children: Vec<&str> = children.iter().map(String::as_str).collect();
                match value.get_ref() {
                    DeValue::Table(inner) => judge(sink, inner, &path, &children, &[]),
                    other => sink.add(value.span().start, &path, not_a_table(other), None),
                }
            }
            Some(Verdict::Unknown) | None => {
                let for_later = schemas.iter().flat_map(|schema| later::keys_in(schema));
                let hint = did_you_mean(name, asked.iter().copied().chain(for_later));
                sink.add(key.span().start, &path, "unknown key", hint);
            }
        }
    }
}

/// A table that is being read.
#[derive(Clone, Debug)]
pub struct Table<'d, 'l> {
    entries: Option<&'d DeTable<'d>>,
    /// Something stands in its place that is no table; that was noted as a fault.
    broken: bool,
    /// Where it starts; for an absent one, where its parent does.
    pub place: Place,
    /// Its path, as faults name it.
    pub path: String,
    /// Its path without names: `pool.health` for `[pool.web.health]`.
    schema: String,
    /// Keys that are not to be seen here.
    refused: &'static [(&'static str, &'static str)],
    ledger: &'l Ledger<'d>,
}

impl<'d, 'l> Table<'d, 'l> {
    /// The table of the whole file.
    pub fn root(entries: &'d DeTable<'d>, ledger: &'l Ledger<'d>) -> Self {
        Self::open(ledger, Some(entries), 0, String::new(), String::new())
    }

    fn open(
        ledger: &'l Ledger<'d>,
        entries: Option<&'d DeTable<'d>>,
        place: Place,
        path: String,
        schema: String,
    ) -> Self {
        if let Some(entries) = entries {
            let mut opened = ledger.opened.borrow_mut();
            let entry = opened.entry(address(entries)).or_insert_with(|| Opened {
                entries,
                path: path.clone(),
                schemas: Vec::new(),
                asked: Vec::new(),
                forgiven: false,
            });
            entry.schemas.push(schema.clone());
        }
        Self { entries, broken: false, place, path, schema, refused: &[], ledger }
    }

    /// Whether the table is in the file, right or wrong.
    pub fn is_present(&self) -> bool {
        self.entries.is_some() || self.broken
    }

    /// The same table, read as what `schema` names.
    pub fn read_as(&self, schema: &str) -> Self {
        let same =
            Self::open(self.ledger, self.entries, self.place, self.path.clone(), schema.into());
        Self { broken: self.broken, refused: self.refused, ..same }
    }

    /// Lets every key of this table pass: it could not be told what it is for.
    pub fn forgive_unknown_keys(&self) {
        if let Some(entries) = self.entries
            && let Some(opened) = self.ledger.opened.borrow_mut().get_mut(&address(entries))
        {
            opened.forgiven = true;
        }
    }

    /// Notes a fault at a key of this table.
    fn fault(&self, place: Place, key: &str, problem: &str, hint: Option<String>) {
        self.ledger.sink.add(place, &join(&self.path, key), problem, hint);
    }

    /// The same table as if these keys were not in it; each that is there is a fault, with a hint.
    pub fn refusing(
        mut self,
        keys: &'static [(&'static str, &'static str)],
        problem: &str,
    ) -> Self {
        for (key, hint) in keys {
            if let Some((_, value)) = self.entry(key) {
                self.fault(value.span().start, key, problem, Some((*hint).into()));
            }
        }
        self.refused = keys;
        self
    }

    /// The place of a key and its value. Asking for a key makes it known.
    fn entry(&self, key: &'static str) -> Option<(Place, &'d Spanned<DeValue<'d>>)> {
        let entries = self.entries?;
        if self.refused.iter().any(|(refused, _)| *refused == key) {
            return None;
        }
        if let Some(opened) = self.ledger.opened.borrow_mut().get_mut(&address(entries)) {
            opened.asked.push(key);
        }
        entries.get_key_value(key).map(|(key, value)| (key.span().start, value))
    }

    /// The table of that key.
    pub fn child(&self, key: &'static str) -> Self {
        let (path, schema) = (join(&self.path, key), join(&self.schema, key));
        match self.entry(key) {
            Some((place, value)) => self.table(place, value, path, schema),
            None => Self::open(self.ledger, None, self.place, path, schema),
        }
    }

    /// `value` as a table.
    fn table(
        &self,
        place: Place,
        value: &'d Spanned<DeValue<'d>>,
        path: String,
        schema: String,
    ) -> Self {
        if let DeValue::Table(entries) = value.get_ref() {
            return Self::open(self.ledger, Some(entries), place, path, schema);
        }
        if !is_placeholder(value) {
            let hint = Some("a table is written { key = value }".into());
            self.ledger.sink.add(value.span().start, &path, not_a_table(value.get_ref()), hint);
        }
        let ledger = self.ledger;
        Self { entries: None, broken: true, place, path, schema, refused: &[], ledger }
    }

    /// The tables of an array. Their paths have the name in them where they have one, else their
    /// number from 1.
    pub fn children(&self, key: &'static str) -> Given<Vec<Self>> {
        self.given(key, |value, path, schema| self.elements(value, path, schema))
    }

    fn elements(
        &self,
        value: &'d Spanned<DeValue<'d>>,
        path: &str,
        schema: &str,
    ) -> Option<Vec<Self>> {
        let DeValue::Array(items) = value.get_ref() else {
            let problem = format!("must be a list of tables, not {}", type_of(value.get_ref()));
            let hint = self.path.is_empty().then(|| format!("write [[{path}]]"));
            self.ledger.sink.add(value.span().start, path, problem, hint);
            return None;
        };
        let element = |(number, item): (usize, &'d Spanned<DeValue<'d>>)| {
            let name = item.get_ref().get("name").and_then(|name| name.get_ref().as_str());
            let path = name.map_or_else(|| format!("{path}[{number}]"), |name| join(path, name));
            self.table(item.span().start, item, path, schema.to_owned())
        };
        Some((1..).zip(items.iter()).map(element).collect())
    }

    /// The named tables within a table, by name.
    pub fn named(&self, key: &'static str) -> Vec<(At<String>, Self)> {
        let parent = self.child(key);
        parent.forgive_unknown_keys();
        let entries = parent.entries.into_iter().flatten();
        let named = entries.map(|(name, value)| {
            let (name, place) = (name.get_ref().to_string(), name.span().start);
            let path = join(&parent.path, &name);
            let table = parent.table(place, value, path, parent.schema.clone());
            (At { value: name, place }, table)
        });
        named.collect()
    }

    /// Reads a key by `read`, which notes its own faults.
    fn given<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&'d Spanned<DeValue<'d>>, &str, &str) -> Option<T>,
    ) -> Given<T> {
        let path = join(&self.path, key);
        let Some((key_place, value)) = self.entry(key) else {
            let state = if self.broken { State::Wrong } else { State::Absent };
            return Given { key: path, place: self.place, state };
        };
        if is_placeholder(value) {
            return Given { key: path, place: key_place, state: State::Wrong };
        }
        let state = match read(value, &path, &join(&self.schema, key)) {
            Some(value) => State::Is(value),
            None => State::Wrong,
        };
        Given { key: path, place: value.span().start, state }
    }

    fn scalar<T: Scalar>(
        &self,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        schema: &str,
    ) -> Option<T> {
        let word = value.get_ref().as_str();
        let place = value.span().start;
        if let Some(problem) = word.and_then(|word| later::judge_word(schema, word)) {
            self.ledger.sink.add(place, path, problem, None);
        } else {
            let Wrong { problem, hint } = match T::parse(value.get_ref()) {
                Ok(value) => return Some(value),
                Err(wrong) => wrong,
            };
            let for_later = word.and_then(|word| closest(word, later::words_of(schema)));
            let hint = match (hint, for_later) {
                (None, Some(word)) if T::IS_WORD => Some(format!("did you mean {word:?}?")),
                (hint, _) => hint,
            };
            self.ledger.sink.add(place, path, problem, hint);
        }
        if T::DECIDES_KEYS {
            self.forgive_unknown_keys();
        }
        None
    }

    fn list<T: Scalar>(
        &self,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        schema: &str,
    ) -> Option<List<T>> {
        let DeValue::Array(items) = value.get_ref() else {
            if T::MAY_STAND_ALONE {
                let place = value.span().start;
                return Some(List(vec![At { value: self.scalar(value, path, schema)?, place }]));
            }
            let problem = format!("must be a list, not {}", type_of(value.get_ref()));
            self.ledger.sink.add(value.span().start, path, problem, None);
            return None;
        };
        if items.is_empty() && !T::LIST_MAY_BE_EMPTY {
            self.ledger.sink.add(value.span().start, path, "is an empty list", None);
            return None;
        }
        let mut list = Vec::with_capacity(items.len());
        for (number, item) in (1..).zip(items.iter()) {
            if !is_placeholder(item)
                && let Some(value) = self.scalar(item, &format!("{path}[{number}]"), schema)
            {
                list.push(At { value, place: item.span().start });
            }
        }
        (list.len() == items.len()).then_some(List(list))
    }

    fn map<K: Key, V: Value>(
        &self,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        schema: &str,
    ) -> Option<Map<K, V>> {
        let sink = self.ledger.sink;
        let DeValue::Table(entries) = value.get_ref() else {
            let hint = Some("a table is written { key = value }".into());
            sink.add(value.span().start, path, not_a_table(value.get_ref()), hint);
            return None;
        };
        let mut map: Vec<Entry<K, V>> = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            let key_place = name.span().start;
            let path = join(path, name.get_ref());
            let key = match K::parse_key(name.get_ref()) {
                Ok(key) if map.iter().all(|before| before.key != key) => Some(key),
                Ok(_) => {
                    sink.add(key_place, &path, "is there twice; case does not matter", None);
                    None
                }
                Err(Wrong { problem, hint }) => {
                    sink.add(key_place, &path, problem, hint);
                    None
                }
            };
            let place = value.span().start;
            let read = if is_placeholder(value) {
                None
            } else {
                V::read_value(self, value, &path, schema)
            };
            if let (Some(key), Some(value)) = (key, read) {
                map.push(Entry { key, value, path, key_place, place });
            }
        }
        (map.len() == entries.len()).then_some(Map(map))
    }
}

/// The identity of a table: where it is in memory.
fn address(entries: &DeTable<'_>) -> usize {
    std::ptr::from_ref(entries).addr()
}

/// The parser puts an empty value where it could not read one, and reports that itself.
fn is_placeholder(value: &Spanned<DeValue<'_>>) -> bool {
    value.span().is_empty()
}

fn not_a_table(value: &DeValue<'_>) -> String {
    format!("must be a table, not {}", type_of(value))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
