//! Errors as RFC 9457 problem details.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::ControlError;
use crate::admin::guard::Refusal;
use crate::admin::route::Missed;

/// The media type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What a client is told when it does not get what it asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The status of the response.
    pub status: StatusCode,
    /// What happened and what to do, for a person.
    pub detail: String,
    /// For 405: the methods that are allowed.
    pub allow: Option<&'static str>,
    /// For a config that was refused: each fault.
    pub faults: Vec<String>,
}

/// A problem as it is written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Details {
    /// Always `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status as a number.
    pub status: u16,
    /// What happened and what to do.
    pub detail: String,
    /// Each fault of a config that was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

impl Problem {
    /// A problem without extras.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), allow: None, faults: Vec::new() }
    }

    /// A config that was refused; the old one stays.
    fn config(faults: Vec<String>) -> Self {
        let detail = format!(
            "the config has {} fault{} and was not taken over; the old one stays",
            faults.len(),
            if faults.len() == 1 { "" } else { "s" }
        );
        Self { faults, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// As it is written.
    pub fn details(&self) -> Details {
        Details {
            kind: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or("Error").into(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            faults: self.faults.clone(),
        }
    }
}

impl From<Missed> for Problem {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Path => Self::new(StatusCode::NOT_FOUND, "there is nothing at this path"),
            Missed::Method { allow } => Self {
                allow: Some(allow),
                ..Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path allows {allow}"))
            },
            Missed::Query(what) => Self::new(StatusCode::BAD_REQUEST, what),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Host => Self::new(
                StatusCode::MISDIRECTED_REQUEST,
                "the Host field is not a name of this API: call it by the address it is bound to",
            ),
            Refusal::Origin => {
                Self::new(StatusCode::FORBIDDEN, "pages of other origins may not change anything")
            }
            Refusal::Token => Self::new(
                StatusCode::UNAUTHORIZED,
                "send \"Authorization: Bearer TOKEN\" with the content of admin.token_file",
            ),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Unknown(what) => Self::new(StatusCode::NOT_FOUND, what),
            ControlError::Impossible(why) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, why),
            ControlError::Conflict(why) => Self::new(StatusCode::CONFLICT, why),
            ControlError::Refused(faults) => Self::config(faults),
            ControlError::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        }
    }
}
