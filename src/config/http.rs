//! The kinds of values that are parts of HTTP messages: methods, header fields, statuses, locations.

use toml::de::DeValue;

use crate::config::read::Key;
use crate::config::scalar::{Printed, Scalar, Wrong, text, type_of, whole, wrong, wrong_but};
use crate::model::{Part, Template, TemplateError, Variable};

/// Whether this may be a method or the name of a header field (RFC 9110, "token").
pub fn is_token(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(allowed)
}

/// A method of HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Method(pub String);

impl Scalar for Method {
    const MAY_STAND_ALONE: bool = true;

    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let method = text(value, "a method such as \"GET\"")?;
        if !is_token(method) {
            return Err(wrong(format!("{method:?} is not a method")));
        }
        if method.contains(|c: char| c.is_ascii_lowercase()) {
            let hint = format!("did you mean {:?}?", method.to_ascii_uppercase());
            return Err(wrong_but(format!("{method:?} is not in upper case"), hint));
        }
        Ok(Self(method.to_owned()))
    }
}

impl Printed for Method {
    fn print(&self) -> String {
        self.0.print()
    }
}

/// Header fields that must be there, names in lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fields(pub Vec<(String, String)>);

impl Scalar for Fields {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let DeValue::Table(table) = value else {
            let problem = format!("must be a table, not {}", type_of(value));
            return Err(wrong_but(problem, "write it like { x-canary = \"1\" }"));
        };
        let mut fields: Vec<(String, String)> = Vec::new();
        for (name, value) in table {
            let name = name.get_ref();
            if !is_token(name) {
                return Err(wrong(format!("{name:?} is not the name of a header field")));
            }
            let Some(wanted) = value.get_ref().as_str() else {
                return Err(wrong(format!("the value of {name} must be a string")));
            };
            if wanted.chars().any(|c| c.is_control() || !c.is_ascii()) || wanted.trim() != wanted {
                return Err(wrong(format!("the value of {name} can never be in a request")));
            }
            let name = name.to_ascii_lowercase();
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(wrong(format!("{name} is there twice; case does not matter")));
            }
            fields.push((name, wanted.to_owned()));
        }
        Ok(Self(fields))
    }
}

impl Printed for Fields {
    fn print(&self) -> String {
        let fields: Vec<String> =
            self.0.iter().map(|(name, value)| format!("{name} = {}", value.print())).collect();
        format!("{{ {} }}", fields.join(", "))
    }
}

/// Fields that say how messages are framed and where they go: whoever changes them changes what the
/// next machine takes for a message.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether the field, named in lower case, says how messages are framed or where they go.
pub fn is_framing(name: &str) -> bool {
    FRAMING.contains(&name)
}

/// The name of a header field that may be changed, in lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldName(pub String);

impl FieldName {
    fn checked(text: &str) -> Result<Self, Wrong> {
        if !is_token(text) {
            return Err(wrong(format!("{text:?} is not the name of a header field")));
        }
        let name = text.to_ascii_lowercase();
        if is_framing(&name) {
            let problem = format!("{name} cannot be changed: framing and routing depend on it");
            return Err(wrong_but(problem, "tidegate writes it itself where it is needed"));
        }
        Ok(Self(name))
    }
}

impl Scalar for FieldName {
    const MAY_STAND_ALONE: bool = true;

    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        Self::checked(text(value, "the name of a header field")?)
    }
}

impl Key for FieldName {
    fn parse_key(text: &str) -> Result<Self, Wrong> {
        Self::checked(text)
    }
}

impl Printed for FieldName {
    fn print(&self) -> String {
        if self.0.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            self.0.clone()
        } else {
            self.0.print()
        }
    }
}

/// The name of a field that tidegate fills in itself, in lower case.
fn own_field(value: &DeValue<'_>, example: &str) -> Result<String, Wrong> {
    /// Fields that it writes with a meaning of their own.
    const TAKEN: [&str; 6] =
        ["forwarded", "host", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    let FieldName(name) = FieldName::parse(value)?;
    if TAKEN.contains(&name.as_str()) {
        let hint = format!("write a name of its own, such as {example:?}");
        return Err(wrong_but(format!("{name} says something else"), hint));
    }
    Ok(name)
}

/// The field that carries the request id, in lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestIdField(pub String);

impl Scalar for RequestIdField {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        own_field(value, "x-request-id").map(Self)
    }
}

impl Printed for RequestIdField {
    fn print(&self) -> String {
        self.0.print()
    }
}

/// The field that tells of a client whose certificate was verified, in lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubjectField(pub String);

impl Scalar for SubjectField {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        own_field(value, "x-client-subject").map(Self)
    }
}

impl Printed for SubjectField {
    fn print(&self) -> String {
        self.0.print()
    }
}

/// Reads a template.
fn template(text: &str) -> Result<Template, Wrong> {
    Template::parse(text).map_err(|why| {
        let hint = match why {
            TemplateError::Brace => "write {{ or }}".to_owned(),
            TemplateError::Unknown(_) => {
                let known = Variable::ALL.map(|variable| format!("{{{}}}", variable.word()));
                format!("there are {}", known.join(" "))
            }
        };
        wrong_but(format!("{text:?} {why}"), hint)
    })
}

/// The value of a header field, with variables in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldValue(pub Template);

impl Scalar for FieldValue {
    const MAY_STAND_ALONE: bool = true;

    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value, "a string or a list of strings")?;
        if let Some(bad) = text.chars().find(|c| c.is_control()) {
            return Err(wrong(format!("{bad:?} must not be in the value of a header field")));
        }
        if text.trim_ascii() != text {
            return Err(wrong("white space at its ends is no part of the value of a header field"));
        }
        template(text).map(Self)
    }
}

impl Printed for FieldValue {
    fn print(&self) -> String {
        self.0.to_string().print()
    }
}

/// Where a redirect leads, with variables in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Location(pub Template);

impl Scalar for Location {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        const HINT: &str = "write it like \"https://{host}{path}{query}\"";
        let text = text(value, "a location such as \"https://{host}{path}{query}\"")?;
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || "\"<>\\^`|".contains(*c))
        {
            let hint = "write it percent-encoded";
            return Err(wrong_but(format!("{bad:?} must not be in a location"), hint));
        }
        let to = template(text)?;
        let starts = match to.parts.as_slice() {
            // What starts with two slashes names a host, and these may start with one.
            [Part::Text(slash), Part::Variable(Variable::Path | Variable::RequestId), ..]
                if slash == "/" =>
            {
                false
            }
            [Part::Text(start), ..] => {
                let scheme = start.starts_with("http://") || start.starts_with("https://");
                scheme || start.starts_with('/') && !start.starts_with("//")
            }
            [Part::Variable(Variable::Scheme), Part::Text(rest), ..] => rest.starts_with("://"),
            _ => false,
        };
        if !starts {
            let problem = format!(
                "{text:?} starts neither with http://, https:// or {{scheme}}:// nor with one slash"
            );
            return Err(wrong_but(problem, HINT));
        }
        Ok(Self(to))
    }
}

impl Printed for Location {
    fn print(&self) -> String {
        self.0.to_string().print()
    }
}

/// The media type of a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaType(pub String);

impl Scalar for MediaType {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value, "a media type such as \"text/plain\"")?;
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        let parts = essence.trim_ascii_end().split_once('/');
        let is_type = parts.is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
        let is_printable = parameters.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if !is_type || !is_printable || text.trim_ascii() != text {
            let hint = "write it like \"text/plain; charset=utf-8\"";
            return Err(wrong_but(format!("{text:?} is not a media type"), hint));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Printed for MediaType {
    fn print(&self) -> String {
        self.0.print()
    }
}

/// The status of an error that tidegate answers itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorStatus(pub u16);

impl Key for ErrorStatus {
    fn parse_key(text: &str) -> Result<Self, Wrong> {
        let status = text.parse().ok().filter(|status| (400..=599).contains(status));
        // "0503" and "+503" are numbers as well.
        match status.filter(|_| text.len() == 3) {
            Some(status) => Ok(Self(status)),
            None => Err(wrong_but(
                format!("{text:?} is not the status of an error"),
                "write one from 400 to 599, like { 503 = \"busy.html\" }",
            )),
        }
    }
}

impl Printed for ErrorStatus {
    fn print(&self) -> String {
        self.0.to_string()
    }
}

/// The status of a redirect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RedirectStatus(pub u16);

impl Scalar for RedirectStatus {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match whole(value, 0, u32::MAX)? {
            status @ (301 | 302 | 303 | 307 | 308) => Ok(Self(status as u16)),
            other => {
                let problem = format!("{other} is not one of 301, 302, 303, 307, 308");
                Err(wrong_but(problem, "308 and 307 keep the method; 308 and 301 are for good"))
            }
        }
    }
}

impl Printed for RedirectStatus {
    fn print(&self) -> String {
        self.0.to_string()
    }
}
