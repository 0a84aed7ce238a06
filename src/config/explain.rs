//! Where each effective value comes from, for `check --explain`.

use std::fmt;

/// One effective value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The path of the key, such as `pool.web.timeouts.connect`.
    pub key: String,
    /// The value as it would be written in the file.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The file, at the key itself.
    File {
        /// The line.
        line: usize,
    },
    /// `[defaults]` in the file.
    Defaults {
        /// The line.
        line: usize,
    },
    /// The program.
    BuiltIn,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { line } => write!(f, "line {line}"),
            Self::Defaults { line } => write!(f, "[defaults], line {line}"),
            Self::BuiltIn => f.write_str("built in"),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<46} = {:<22} # {}", self.key, self.value, self.origin)
    }
}
