//! Keys and words of features that are not built yet: known, and refused with a sentence that says
//! so. Whoever builds a feature takes its lines out of [`LATER`].

/// What of a key is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refused {
    /// The key, whatever its value.
    Key,
    /// This word; other values of the key are read as usual.
    Word(&'static str),
}

use Refused::{Key, Word};

/// Path of the key without names, what of it is refused, and what it comes with.
const LATER: &[(&str, Refused, &str)] = &[
    ("node.zone", Word("auto"), "the cloud's metadata service"),
    ("admin.tls", Key, "TLS"),
    ("listener.protocol", Word("udp"), "UDP"),
    ("pool.provisioner.kind", Word("exec"), "the exec provisioner"),
    ("pool.provisioner.kind", Word("webhook"), "the webhook provisioner"),
    ("pool.provisioner.kind", Word("azure-vmss"), "the Azure provisioner"),
    ("pool.provisioner.kind", Word("aws-asg"), "the AWS provisioner"),
    ("pool.provisioner.kind", Word("docker"), "the Docker provisioner"),
];

/// "not available in this version yet (comes with FEATURE)".
pub fn sentence(feature: &str) -> String {
    format!("not available in this version yet (comes with {feature})")
}

/// What is to be said of a key that no reader asked for.
#[derive(PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The key is refused, with this problem.
    Refused(String),
    /// It is a table of which only keys are known; look at those.
    Table,
    /// Nobody knows the key.
    Unknown,
}

/// Judges a key that no reader asked for.
pub fn judge_key(schema: &str) -> Verdict {
    match LATER.iter().find(|(key, ..)| *key == schema) {
        Some((_, Key, feature)) => Verdict::Refused(sentence(feature)),
        Some((_, Word(_), _)) => Verdict::Unknown,
        None if keys_in(schema).next().is_some() => Verdict::Table,
        None => Verdict::Unknown,
    }
}

/// The problem with `word` as the value of a key, if it is a word for later.
pub fn judge_word(schema: &str, word: &str) -> Option<String> {
    let is_it = |what: &Refused| matches!(what, Word(refused) if *refused == word);
    let refused = LATER.iter().find(|(key, what, _)| *key == schema && is_it(what));
    refused.map(|(_, _, feature)| format!("{word:?} is {}", sentence(feature)))
}

/// The words of a key that are for later.
pub fn words_of(schema: &str) -> impl Iterator<Item = &'static str> {
    LATER.iter().filter(move |(key, ..)| *key == schema).filter_map(|(_, what, _)| match what {
        Word(word) => Some(*word),
        Key => None,
    })
}

/// The names of keys for later that stand in the table `schema`, or lead into it.
pub fn keys_in(schema: &str) -> impl Iterator<Item = &'static str> {
    LATER.iter().filter_map(move |(key, ..)| {
        let inside = key.strip_prefix(schema)?.strip_prefix('.')?;
        inside.split('.').next()
    })
}

/// Every key and word for later with its sentence, for the test that each is refused.
#[cfg(test)]
pub fn all() -> impl Iterator<Item = (&'static str, Option<&'static str>, String)> {
    LATER.iter().map(|(key, what, feature)| {
        let word = match what {
            Word(word) => Some(*word),
            Key => None,
        };
        (*key, word, sentence(feature))
    })
}
