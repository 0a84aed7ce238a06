//! Keys of features that are not built yet are known, and refused in words.

use super::{LISTENER, POOL, faults_of};
use crate::config::later;

#[test]
fn every_key_for_later_is_refused() {
    for (key, word, sentence) in later::all() {
        let (table, name) = key.rsplit_once('.').expect("every key is in a table");
        // Where a file would have the key, and how faults name it.
        let (header, path) = match table.split_once('.') {
            _ if table == "listener" => (
                "[[listener]]\nbind = \"127.0.0.1:81\"\npool = \"web\"".into(),
                "listener[2]".into(),
            ),
            _ if table == "pool" => {
                ("[pool.x]\ninstances = [{ address = \"10.0.0.1:80\" }]".into(), "pool.x".into())
            }
            Some(("pool", rest)) => (format!("[pool.web.{rest}]"), format!("pool.web.{rest}")),
            _ => (format!("[{table}]"), table.to_owned()),
        };
        let value = word.unwrap_or("something");
        let text = format!("{LISTENER}{POOL}{header}\n{name} = \"{value}\"\n");
        let line = text.lines().count();
        let wanted = format!(" {path}.{name}: ");
        let found = faults_of(&text);
        assert!(
            found.iter().any(|fault| fault.starts_with(&format!("{line}:"))
                && fault.contains(&wanted)
                && fault.contains(&sentence)),
            "{key} {word:?}: {found:?}"
        );
        // As a default too.
        if let Some(inherited) = key.strip_prefix("pool.").or_else(|| key.strip_prefix("listener."))
        {
            let found = faults_of(&format!("defaults.{inherited} = \"{value}\"\n{LISTENER}{POOL}"));
            let wanted = format!(" defaults.{inherited}: ");
            assert!(
                found.iter().any(|fault| fault.contains(&wanted) && fault.contains(&sentence)),
                "default of {key} {word:?}: {found:?}"
            );
        }
    }
}
