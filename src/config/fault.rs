//! Faults: what is wrong in a configuration, where, and what to do about it.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

/// One fault of a configuration file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fault {
    /// The file as it was named to us.
    pub file: PathBuf,
    /// The line, from 1; 0 if the fault is not at a place in the file.
    pub line: usize,
    /// The column in characters, from 1; 0 if only the line is known, or nothing.
    pub column: usize,
    /// The path of the key, such as `pool.web.timeouts.connect`; empty for faults of syntax.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it, where that can be said.
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        for number in [self.line, self.column] {
            if number > 0 {
                write!(f, "{number}:")?;
            }
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.problem)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// All faults of a file, sorted by place; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// A fault of the file as a whole.
    pub(super) fn of_file(file: &Path, problem: String, hint: &str) -> Self {
        Self(vec![Fault {
            file: file.to_path_buf(),
            line: 0,
            column: 0,
            key: String::new(),
            problem,
            hint: Some(hint.into()),
        }])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            writeln!(f, "{fault}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 fault"),
            count => write!(f, "{count} faults"),
        }
    }
}

impl std::error::Error for Faults {}

/// A place in a text: its byte offset.
pub type Place = usize;

/// Where the lines of a text start, so that a place can be told as line and column.
#[derive(Debug)]
pub struct Lines<'t> {
    text: &'t str,
    starts: Vec<Place>,
}

impl<'t> Lines<'t> {
    /// Finds the lines of `text`.
    pub fn of(text: &'t str) -> Self {
        let after_breaks =
            text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        Self { text, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// Line and column of `place`, both from 1; the column counts characters.
    pub fn position(&self, place: Place) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= place);
        let start = self.starts[line - 1];
        let column = self.text.get(start..place).map_or(place - start, |text| text.chars().count());
        (line, column + 1)
    }
}

/// Where every pass over a file drops the faults that it finds.
#[derive(Debug)]
pub struct Sink<'t> {
    file: &'t Path,
    lines: Lines<'t>,
    found: RefCell<Vec<Fault>>,
}

impl<'t> Sink<'t> {
    /// A sink for the faults of `text`, which is the content of `file`.
    pub fn new(text: &'t str, file: &'t Path) -> Self {
        Self { file, lines: Lines::of(text), found: RefCell::default() }
    }

    /// The line of `place`.
    pub fn line(&self, place: Place) -> usize {
        self.lines.position(place).0
    }

    /// Notes a fault.
    pub fn add(&self, place: Place, key: &str, problem: impl Into<String>, hint: Option<String>) {
        let (line, column) = self.lines.position(place);
        self.found.borrow_mut().push(Fault {
            file: self.file.to_path_buf(),
            line,
            column,
            key: key.to_owned(),
            problem: problem.into(),
            hint,
        });
    }

    /// All that was found, if anything was. The same fault is told once, although a key of
    /// `[defaults]` is looked at for every pool that inherits it. A line with broken syntax is told
    /// once and for its syntax only: what else seems wrong there is what the parser made of the rest.
    pub fn take_faults(&self) -> Option<Faults> {
        let mut found = self.found.take();
        found.sort();
        found.dedup_by(|b, a| {
            *a == *b || (a.key.is_empty() && b.key.is_empty() && a.line == b.line)
        });
        let broken: Vec<usize> =
            found.iter().filter(|fault| fault.key.is_empty()).map(|fault| fault.line).collect();
        found.retain(|fault| fault.key.is_empty() || !broken.contains(&fault.line));
        (!found.is_empty()).then_some(Faults(found))
    }
}

/// The candidate that `word` was probably meant to be.
pub fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    /// Longer words are no typing mistakes, and comparing costs the product of the lengths.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// `did you mean "WORD"?`, if there is a candidate close enough.
pub fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    closest(word, candidates).map(|candidate| format!("did you mean {candidate:?}?"))
}
