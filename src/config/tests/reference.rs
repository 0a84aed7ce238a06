//! The reference for operators, `config/reference.toml`: it has every key, and tells the truth about
//! defaults.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::{compiled, good};

const REFERENCE: &str = include_str!("../../../config/reference.toml");

/// The tables of `raw.rs`, by name: their keys, each with the kind of its value.
type Tables = BTreeMap<&'static str, Vec<(&'static str, &'static str)>>;

fn tables() -> Tables {
    let (_, listed) = include_str!("../raw.rs").split_once("\ntables! {\n").expect("the list");
    let (listed, _) = listed.split_once("\n}\n").expect("its end");
    let (mut tables, mut table) = (Tables::new(), "");
    for line in listed.lines().map(str::trim) {
        if let Some(name) = line.strip_suffix(" {") {
            table = name;
        } else if let Some((field, kind)) = line.trim_end_matches(',').split_once(": ")
            && !line.starts_with("///")
            && kind != "Whole"
        {
            let key = field.split_once(" = ").map_or(field, |(_, key)| key.trim_matches('"'));
            tables.entry(table).or_default().push((key, kind));
        }
    }
    tables
}

/// Whether values of this kind are tables of that name: one, the same one, or several.
fn holds(kind: &str, table: &str) -> bool {
    kind == table
        || kind == format!("Among<{table}>")
        || kind == format!("Given<Vec<{table}>>")
        || kind == format!("Vec<(At<String>, {table})>")
}

/// The keys of `table`, and of those in it, that none of `nodes` has.
fn missing(tables: &Tables, table: &str, nodes: &[&DeTable<'_>], path: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for (key, kind) in &tables[table] {
        let inner = tables.keys().copied().find(|inner| holds(kind, inner));
        if let Some(inner) = inner.filter(|_| kind.starts_with("Among<")) {
            missing.extend(self::missing(tables, inner, nodes, path));
            continue;
        }
        let path = format!("{path}.{key}");
        let found: Vec<_> =
            nodes.iter().filter_map(|node| node.get(*key)).map(|value| value.get_ref()).collect();
        match inner {
            _ if found.is_empty() => missing.push(path),
            Some(inner) => {
                let within = found.into_iter().flat_map(|value| match value {
                    DeValue::Array(items) => items.iter().map(|item| item.get_ref()).collect(),
                    DeValue::Table(named) if kind.starts_with("Vec<") => {
                        named.values().map(|value| value.get_ref()).collect()
                    }
                    one => vec![one],
                });
                let within: Vec<&DeTable<'_>> = within.filter_map(DeValue::as_table).collect();
                missing.extend(self::missing(tables, inner, &within, &path));
            }
            None => {}
        }
    }
    missing
}

/// The key of a line that sets one.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(" = ")?;
    key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b)).then_some(key)
}

/// The reference with what is commented out in it.
fn with_examples() -> String {
    let example = |line: &'static str| {
        let rest = line.strip_prefix("# ")?;
        (rest.starts_with("[[") || key_of(rest).is_some()).then_some(rest)
    };
    REFERENCE.lines().map(|line| example(line).unwrap_or(line).to_owned() + "\n").collect()
}

#[test]
fn it_has_every_key() {
    let text = with_examples();
    let root = DeTable::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let tables = tables();
    assert!(tables.len() > 20 && tables["Limits"].len() == 9, "{tables:?}");
    let missing = missing(&tables, "File", &[root.get_ref()], "");
    assert!(missing.is_empty(), "config/reference.toml lacks {missing:?}");
}

#[test]
fn it_is_right_with_and_without_its_examples() {
    good(REFERENCE);
    let config = good(&with_examples()).config;
    assert_eq!((config.listeners.len(), config.pools.len()), (3, 3));
    assert!(config.listeners[0].errors.contains_key(&503), "it has the examples");
}

#[test]
fn what_it_sets_is_what_holds_without_it() {
    let values = |text: &str| -> Option<Vec<(String, String)>> {
        let settings = compiled(text).ok()?.explanation;
        Some(settings.into_iter().map(|setting| (setting.key, setting.value)).collect())
    };
    let all = values(REFERENCE);
    let lines: Vec<&str> = REFERENCE.lines().collect();
    for (number, line) in (1..).zip(&lines) {
        if key_of(line).is_none() || line.contains("(example)") {
            continue;
        }
        let others = (1..).zip(&lines).filter(|(other, _)| *other != number);
        let without: String = others.map(|(_, other)| format!("{other}\n")).collect();
        let expected = if line.contains("(required)") { &None } else { &all };
        assert_eq!(values(&without), *expected, "without line {number}, {line}");
    }
}
