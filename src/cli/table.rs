//! Tables for people: columns as wide as their widest cell, and words in colour where there is colour.

use std::io::{IsTerminal, stdout};

/// How a word is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ink {
    Plain,
    Strong,
    Good,
    Odd,
    Bad,
}

impl Ink {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Odd => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }

    /// `text` in this ink, if there is colour at all.
    pub(super) fn on(self, text: &str, colour: bool) -> String {
        if colour && self != Self::Plain {
            format!("{}{text}\x1b[0m", self.code())
        } else {
            text.to_owned()
        }
    }

    /// For what probes say.
    pub(super) fn of_health(health: &str) -> Self {
        match health {
            "up" => Self::Good,
            "pending" => Self::Odd,
            _ => Self::Bad,
        }
    }
}

/// A word and how it is shown.
pub(super) type Cell = (String, Ink);

/// A cell that does not stand out.
pub(super) fn plain(text: impl ToString) -> Cell {
    (text.to_string(), Ink::Plain)
}

/// A cell that stands out unless it is as usual.
pub(super) fn unless(usual: &str, text: &str) -> Cell {
    (text.to_owned(), if text == usual { Ink::Plain } else { Ink::Odd })
}

/// Whether whoever reads this sees colours, and wants them.
pub(super) fn wants_colour() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A column's name, and whether its cells are numbers, which stand to the right.
pub(super) type Column = (&'static str, bool);

/// Rows under the names of their columns; padded before they are coloured.
pub(super) fn table<const N: usize>(
    columns: [Column; N],
    rows: Vec<[Cell; N]>,
    colour: bool,
) -> String {
    let head = columns.map(|(name, _)| (name.to_owned(), Ink::Strong));
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].0.chars().count()).max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in rows {
        for (column, (cell, ink)) in row.into_iter().enumerate() {
            let padding = " ".repeat(widths[column] - cell.chars().count());
            let cell = ink.on(&cell, colour);
            text.push_str("  ");
            match columns[column].1 {
                true => text.extend([padding, cell]),
                false if column + 1 == N => text.push_str(&cell),
                false => text.extend([cell, padding]),
            }
        }
        text.push('\n');
    }
    text
}
