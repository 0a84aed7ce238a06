//! What is changed in heads on their way through: header fields that are removed, set and added, and
//! the small templates that their values, and the locations of redirects, are written in.

use std::fmt;

/// What a `{name}` in a [`Template`] stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variable {
    /// The host that the client asked for, without a port.
    Host,
    /// The path, without the query.
    Path,
    /// The query with its question mark; empty without one.
    Query,
    /// What the client speaks with us: `http` or `https`.
    Scheme,
    /// The client's address.
    Client,
    /// The request id.
    RequestId,
}

impl Variable {
    /// All of them, in the order in which they are documented.
    pub const ALL: [Self; 6] =
        [Self::Host, Self::Path, Self::Query, Self::Scheme, Self::Client, Self::RequestId];

    /// As it is written between the braces.
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Path => "path",
            Self::Query => "query",
            Self::Scheme => "scheme",
            Self::Client => "client",
            Self::RequestId => "request_id",
        }
    }
}

/// A part of a [`Template`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// These characters.
    Text(String),
    /// What this stands for in the request at hand.
    Variable(Variable),
}

/// Text with variables in braces, like `https://{host}{path}{query}`. A brace itself is written twice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Template {
    /// Its parts, in their order.
    pub parts: Vec<Part>,
}

/// Why a text is no template.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner.
    #[error("has a single brace; a brace that is meant as one is written twice")]
    Brace,
    /// No such variable.
    #[error("has {{{0}}} in it, which is no variable")]
    Unknown(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// If a brace has no partner, or what is between two is no variable.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let Some((name, after)) = rest.split_once('}').filter(|_| brace == "{") else {
                return Err(TemplateError::Brace);
            };
            let Some(variable) = Variable::ALL.into_iter().find(|known| known.word() == name)
            else {
                return Err(TemplateError::Unknown(name.to_owned()));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Variable(variable));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    f.write_str(&text.replace('{', "{{").replace('}', "}}"))?;
                }
                Part::Variable(variable) => write!(f, "{{{}}}", variable.word())?,
            }
        }
        Ok(())
    }
}

/// Changes to the fields of one head; removed first, then set, then added.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FieldEdits {
    /// Fields of these names (in lower case) are taken out.
    pub remove: Vec<String>,
    /// Fields of these names (in lower case) are replaced by one with this value.
    pub set: Vec<(String, Template)>,
    /// These are added behind those that are there.
    pub add: Vec<(String, Template)>,
}

impl FieldEdits {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// Changes to both heads of an exchange.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rewrite {
    /// To the request's.
    pub request: FieldEdits,
    /// To the response's.
    pub response: FieldEdits,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read_and_written() {
        let template = Template::parse("https://{host}{path}{query}").expect("a template");
        assert_eq!(template.parts.len(), 4);
        assert_eq!(template.parts[1], Part::Variable(Variable::Host));
        for text in ["", "plain", "{client}", "a{{b}}c{scheme}d", "{request_id}{request_id}"] {
            assert_eq!(Template::parse(text).expect(text).to_string(), text);
        }
        for text in ["{", "}", "{host", "a}b", "{}", "{Host}", "{nobody}"] {
            assert!(Template::parse(text).is_err(), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(text in "([a-z{}]|\\{host\\}){0,12}") {
            if let Ok(template) = Template::parse(&text) {
                proptest::prop_assert_eq!(Template::parse(&template.to_string()), Ok(template));
            }
        }
    }
}
