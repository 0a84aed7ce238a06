//! The Prometheus text format, written straight into one string: a scrape of a thousand instances
//! is thousands of lines, and building a tree of them first costs more than the lines.

use std::fmt::{Display, Write};

/// What a family is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Name and value of each label.
pub(super) type Labels<'a> = [(&'a str, &'a str)];

/// A text that grows family by family; all samples of a family follow its head.
#[derive(Default)]
pub(super) struct Text {
    out: String,
    family: &'static str,
}

/// What every name starts with.
pub(super) const PREFIX: &str = "tidegate_";

impl Text {
    /// Starts the next family; `name` goes without the prefix, `help` has no line break.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        self.family = name;
        for part in ["# HELP ", PREFIX, name, " ", help, "\n# TYPE ", PREFIX, name, " "] {
            self.out.push_str(part);
        }
        self.out.push_str(kind.word());
        self.out.push('\n');
    }

    /// One line of the family.
    pub(super) fn sample(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// Where text that is finished already may be appended.
    pub(super) fn raw(&mut self) -> &mut String {
        &mut self.out
    }

    /// All of it.
    pub(super) fn finish(self) -> String {
        self.out
    }

    /// One line of the family with a `suffix` to its name and, for a bucket, its `bound`.
    pub(super) fn line(
        &mut self,
        suffix: &str,
        labels: &Labels<'_>,
        bound: Option<&str>,
        value: impl Display,
    ) {
        for part in [PREFIX, self.family, suffix] {
            self.out.push_str(part);
        }
        let mut before = '{';
        for (name, text) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            self.out.push(before);
            self.out.push_str(name);
            self.out.push_str("=\"");
            push_escaped(&mut self.out, text);
            self.out.push('"');
            before = ',';
        }
        if before == ',' {
            self.out.push('}');
        }
        // Writing into a string cannot fail.
        let _ = writeln!(self.out, " {value}");
    }
}

/// A label's value: only these three are special in the format.
fn push_escaped(out: &mut String, text: &str) {
    for piece in text.split_inclusive(['\\', '"', '\n']) {
        let mut chars = piece.chars();
        match chars.next_back() {
            Some('\\') => {
                out.push_str(chars.as_str());
                out.push_str("\\\\");
            }
            Some('"') => {
                out.push_str(chars.as_str());
                out.push_str("\\\"");
            }
            Some('\n') => {
                out.push_str(chars.as_str());
                out.push_str("\\n");
            }
            _ => out.push_str(piece),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        for (value, written) in [
            ("plain", "plain"),
            ("", ""),
            (r"a\b", r"a\\b"),
            ("say \"hi\"", r#"say \"hi\""#),
            ("two\nlines", r"two\nlines"),
            ("\\\"\n", r#"\\\"\n"#),
            ("zürich", "zürich"),
        ] {
            let mut out = String::new();
            push_escaped(&mut out, value);
            assert_eq!(out, written, "{value:?}");
        }
    }

    #[test]
    fn a_family_is_its_head_and_its_lines() {
        let mut text = Text::default();
        text.family("things", Kind::Gauge, "How many things there are.");
        text.sample(&[], 3);
        text.sample(&[("pool", "a"), ("zone", "1")], 0.5);
        text.line("_bucket", &[("pool", "a")], Some("+Inf"), 7);
        let expected = "# HELP tidegate_things How many things there are.\n\
                        # TYPE tidegate_things gauge\n\
                        tidegate_things 3\n\
                        tidegate_things{pool=\"a\",zone=\"1\"} 0.5\n\
                        tidegate_things_bucket{pool=\"a\",le=\"+Inf\"} 7\n";
        assert_eq!(text.finish(), expected);
    }

    proptest::proptest! {
        #[test]
        fn an_escaped_value_stays_on_its_line_and_reads_back(value in ".{0,40}|[\\\\\"\n]{0,10}") {
            let mut out = String::new();
            push_escaped(&mut out, &value);
            proptest::prop_assert!(!out.contains('\n'));
            let (mut back, mut chars) = (String::new(), out.chars());
            while let Some(c) = chars.next() {
                match c {
                    '\\' => match chars.next() {
                        Some('n') => back.push('\n'),
                        Some(other) => back.push(other),
                        None => proptest::prop_assert!(false, "ends in a lone backslash"),
                    },
                    '"' => proptest::prop_assert!(false, "a bare quote ends the value"),
                    other => back.push(other),
                }
            }
            proptest::prop_assert_eq!(back, value);
        }
    }
}
