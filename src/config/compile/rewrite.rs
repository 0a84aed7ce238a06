//! What a route or a pool changes in heads.

use crate::config::http::{FieldName, FieldValue};
use crate::config::raw;
use crate::config::read::{Given, List, Map};
use crate::model::{FieldEdits, Part, Rewrite, Template, Variable};

use super::Compiler;

/// `set` or `add`.
type Values = Given<Map<FieldName, List<FieldValue>>>;

/// Routing depends on it, so it is replaced or stays.
const HOST: &str = "host";

impl Compiler<'_> {
    pub(super) fn rewrite(&mut self, raw: &raw::Edits) -> Rewrite {
        self.no_host(&raw.remove_request_header, &raw.add_request_header, "only be set");
        self.no_host(&raw.remove_response_header, &raw.add_response_header, "not be in a response");
        self.no_host_among(&raw.set_response_header, "not be in a response");
        self.set_host(&raw.set_request_header);
        Rewrite {
            request: self.edits(
                &raw.remove_request_header,
                &raw.set_request_header,
                &raw.add_request_header,
            ),
            response: self.edits(
                &raw.remove_response_header,
                &raw.set_response_header,
                &raw.add_response_header,
            ),
        }
    }

    /// The edits of one head. A field that is set to several values is set to the first, and the
    /// others are added.
    fn edits(&mut self, remove: &Given<List<FieldName>>, set: &Values, add: &Values) -> FieldEdits {
        let mut edits = FieldEdits::default();
        for name in self.choose(remove, None, None).into_iter().flat_map(|it| it.value.0) {
            if edits.remove.contains(&name.value.0) {
                self.fault(name.place, &remove.key, format!("{} is there twice", name.value.0), "");
            }
            edits.remove.push(name.value.0);
        }
        for entry in self.choose(set, None, None).into_iter().flat_map(|it| it.value.0) {
            let name = entry.key.0;
            if edits.remove.contains(&name) {
                let problem = format!("{name} is both set and removed");
                self.fault(
                    entry.key_place,
                    &entry.path,
                    problem,
                    "setting it removes what was there",
                );
            }
            let mut values = templates(&name, entry.value);
            edits.set.extend(values.next());
            edits.add.extend(values);
        }
        for entry in self.choose(add, None, None).into_iter().flat_map(|it| it.value.0) {
            edits.add.extend(templates(&entry.key.0, entry.value));
        }
        edits
    }

    /// Notes a fault where `host` is removed or added.
    fn no_host(&self, remove: &Given<List<FieldName>>, add: &Values, may: &str) {
        for name in remove.value().into_iter().flat_map(|names| &names.0) {
            if name.value.0 == HOST {
                self.fault(name.place, &remove.key, format!("host can {may}"), "");
            }
        }
        self.no_host_among(add, may);
    }

    /// Checks that `host` is set to what can be one host.
    fn set_host(&self, set: &Values) {
        let is_host_text = |text: &String| {
            text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
        };
        let is_host = |template: &Template| {
            !template.parts.is_empty()
                && template.parts.iter().all(|part| match part {
                    Part::Text(text) => is_host_text(text),
                    Part::Variable(variable) => *variable == Variable::Host,
                })
        };
        for entry in set.value().into_iter().flat_map(|map| &map.0) {
            let [value, others @ ..] = entry.value.0.as_slice() else { continue };
            if entry.key.0 == HOST && (!others.is_empty() || !is_host(&value.value.0)) {
                let problem = "is not one host";
                let hint = "write it like host = \"api.example.com\"; {host} is its only variable";
                self.fault(value.place, &entry.path, problem, hint);
            }
        }
    }

    fn no_host_among(&self, values: &Values, may: &str) {
        for entry in values.value().into_iter().flat_map(|map| &map.0) {
            if entry.key.0 == HOST {
                self.fault(entry.key_place, &entry.path, format!("host can {may}"), "");
            }
        }
    }
}

/// The name with each of its values.
fn templates(name: &str, values: List<FieldValue>) -> impl Iterator<Item = (String, Template)> {
    values.0.into_iter().map(move |value| (name.to_owned(), value.value.0))
}
