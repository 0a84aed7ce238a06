//! The one place that invents a status, and the one place that writes answers of our own: failures,
//! redirects, and what routes say in an instance's stead.
//!
//! Who is to blame decides the class of a failure: 4xx for the client, 502 and 504 for an instance,
//! 503 for a lack of capacity. Answers are small, and never cacheable by accident: an error is
//! `no-store`, whoever asked for it. Of other answers nothing is said: a redirect's status tells how long
//! it holds (301 and 308 for good, as with any server), and an operator who wants it otherwise sets
//! `cache-control` among the response fields of the route.

mod grpc;

use std::time::Duration;

use crate::model::{Page, Part, Redirect, Respond, Template, Variable};
use crate::observe::{FailReason, RefuseReason};
use crate::proxy::rewrite::{Edits, Facts, UNCHANGED};
use crate::proxy::wire::Method;
use crate::proxy::wire::http1::{
    HeadError, write_connection, write_edit, write_field, write_number,
};

/// An answer that tidegate makes itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// What it says besides.
    pub says: Says<'a>,
}

/// What an [`Answer`] says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Says<'a> {
    /// Something is wrong. The listener may have a page for this status.
    Wrong {
        /// One line for whoever reads it; says nothing about the inside.
        text: &'static str,
        /// After so many seconds, trying again may help.
        retry_after: Option<u64>,
    },
    /// What is asked for is elsewhere.
    Elsewhere(&'a Template),
    /// What a route has to say; `None` is nothing.
    Page(Option<&'a Page>),
}

const fn answer(status: u16, text: &'static str) -> Answer<'static> {
    Answer { status, says: Says::Wrong { text, retry_after: None } }
}

const fn later(text: &'static str, retry_after: u64) -> Answer<'static> {
    Answer { status: 503, says: Says::Wrong { text, retry_after: Some(retry_after) } }
}

/// The answer of a route that sends clients elsewhere.
pub fn redirect<'a>(redirect: &'a Redirect, facts: &Facts<'_>) -> Answer<'a> {
    let names_host = redirect.to.parts.contains(&Part::Variable(Variable::Host));
    if names_host && facts.head.host().is_empty() {
        return answer(400, "the request names no host");
    }
    Answer { status: redirect.status, says: Says::Elsewhere(&redirect.to) }
}

/// The answer of a route that answers by itself.
pub fn fixed(respond: &Respond) -> Answer<'_> {
    Answer { status: respond.status, says: Says::Page(respond.page.as_ref()) }
}

/// The answer to a request that could not be served; `None` where nobody is left to be answered. What
/// is shed may try again when nobody waits any more who waits now: that is after `queue_timeout`.
pub fn for_failure(reason: FailReason, queue_timeout: Duration) -> Option<Answer<'static>> {
    let turn = (queue_timeout.as_millis().div_ceil(1_000) as u64).max(1);
    Some(match reason {
        FailReason::NoInstance => later("no instance is available", turn),
        FailReason::QueueFull | FailReason::QueueTimeout => later("all instances are busy", turn),
        FailReason::Connect => answer(502, "no instance could be reached"),
        FailReason::Tls => answer(502, "no instance agreed to TLS"),
        FailReason::ConnectTimeout => answer(504, "no instance could be reached in time"),
        FailReason::Shortage => later("no connection can be made", 1),
        FailReason::Reset => answer(502, "the instance closed the connection"),
        FailReason::Unsendable => answer(502, "the instance does not speak what is asked for"),
        FailReason::BadResponse => answer(502, "the instance sent an invalid response"),
        FailReason::ResponseTimeout => answer(504, "the instance did not answer in time"),
        FailReason::ClientTimeout => answer(408, "the request did not arrive in time"),
        FailReason::BadBody => answer(400, "the request body is broken"),
        FailReason::ClientTooSlow => answer(408, "the request arrived too slowly"),
        FailReason::BodyTooLarge => answer(413, "the request body is too large"),
        FailReason::TotalTimeout => OVERDUE,
        FailReason::CutResponse
        | FailReason::StalledResponse
        | FailReason::ClientGone
        | FailReason::CutTunnel
        | FailReason::TunnelTimeout => return None,
    })
}

/// What the client is told behind the part of a response that it has, as lines of a trailer section;
/// `None` where trailers tell nothing, and if the client is the one that has left.
pub fn last_words(reason: FailReason, facts: &Facts<'_>) -> Option<Vec<u8>> {
    let answer = match reason {
        FailReason::CutResponse => answer(502, "the instance broke its response off"),
        FailReason::StalledResponse => answer(502, "the instance stopped in its response"),
        FailReason::TotalTimeout => OVERDUE,
        _ => return None,
    };
    let mut lines = Vec::new();
    grpc::failure(answer, facts)?.write(&mut lines);
    Some(lines)
}

/// The answer to a request that may not be forwarded once more (RFC 9110 §7.6.2): to OPTIONS it is ours,
/// and a TRACE would show nobody but us.
pub fn for_last_hop(method: Method) -> Answer<'static> {
    match method {
        Method::Options => Answer { status: 200, says: Says::Page(None) },
        _ => answer(501, "this request may go no further"),
    }
}

/// The answer to a head that is not forwarded, and how it is counted.
pub fn for_head(error: HeadError) -> (Answer<'static>, RefuseReason) {
    match error {
        HeadError::Malformed(text) | HeadError::Ambiguous(text) => {
            (answer(400, text), RefuseReason::Malformed)
        }
        HeadError::TooManyFields => {
            (answer(431, "too many header fields"), RefuseReason::HeadTooLarge)
        }
        HeadError::TargetTooLong => (TARGET_TOO_LONG, RefuseReason::TargetTooLong),
        HeadError::Version => {
            (answer(505, "HTTP version not supported"), RefuseReason::Unsupported)
        }
        HeadError::Expectation => (answer(417, "unknown expectation"), RefuseReason::Unsupported),
        HeadError::Unsupported(text) => (answer(501, text), RefuseReason::Unsupported),
    }
}

/// The exchange as a whole took too long.
const OVERDUE: Answer<'_> = answer(504, "the exchange took too long");
/// The head did not arrive in time.
pub const HEAD_TIMEOUT: Answer<'_> = answer(408, "the request head did not arrive in time");
/// The request line alone is larger than a buffer.
pub const TARGET_TOO_LONG: Answer<'_> = answer(414, "the request target is too long");
/// The head is larger than a buffer.
pub const HEAD_TOO_LARGE: Answer<'_> = answer(431, "the request head is too large");
/// The body is announced to be larger than it may be.
pub const BODY_TOO_LARGE: Answer<'_> = answer(413, "the request body is too large");
/// No route, and no pool of the listener's own.
pub const NO_ROUTE: Answer<'_> = answer(404, "no route matches this request");

/// Writes an answer as HTTP/1.1, with what its route changes. The answer to a HEAD request has no body.
/// Gives back where the head ends in `out`.
pub fn write(answer: Answer<'_>, keep_alive: bool, facts: &Facts<'_>, out: &mut Vec<u8>) -> usize {
    let status = status(answer, facts);
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(u64::from(status), out);
    out.push(b' ');
    out.extend_from_slice(phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    let body = write_fields(answer, facts, out);
    write_connection(keep_alive, facts.head.version, out);
    out.extend_from_slice(b"\r\n");
    let head = out.len();
    for part in body {
        out.extend_from_slice(part);
    }
    head
}

/// The status that an answer has for the client of a request: failures of gRPC calls are told in fields.
pub fn status(answer: Answer<'_>, facts: &Facts<'_>) -> u16 {
    if grpc::failure(answer, facts).is_some() { 200 } else { answer.status }
}

/// Writes the field lines of an answer, whatever version of HTTP the client speaks; gives back its body,
/// in two parts, of which that to a HEAD request has none.
pub fn write_fields<'a>(answer: Answer<'a>, facts: &Facts<'a>, out: &mut Vec<u8>) -> [&'a [u8]; 2] {
    let edits = Edits::new(&facts.route.response, &UNCHANGED.response);
    let is_wrong = matches!(answer.says, Says::Wrong { .. });
    let is_ours = |name: &str| is_wrong && belongs_to_failures(name);
    let grpc = grpc::failure(answer, facts);
    let body = if grpc.is_some() { None } else { body(answer, facts) };
    let content_type = match (grpc, body) {
        (Some(_), _) => Some(grpc::CONTENT_TYPE),
        (None, body) => body.map(|(content_type, _)| content_type.as_bytes()),
    };
    let forbidden = (answer.status >= 400).then_some(&b"no-store"[..]);
    let retry_after = match answer.says {
        Says::Wrong { retry_after: Some(seconds), .. } => Some(seconds.to_string()),
        _ => None,
    };
    for (name, value) in [
        ("date", Some(&facts.date[..])),
        ("content-type", content_type),
        ("cache-control", forbidden),
        ("retry-after", retry_after.as_ref().map(String::as_bytes)),
    ] {
        if let Some(value) = value
            && (is_ours(name) || !edits.drops(name.as_bytes()))
        {
            write_field(name.as_bytes(), value, out);
        }
    }
    if let Says::Elsewhere(to) = answer.says
        && !edits.drops(b"location")
    {
        write_location(to, facts, out);
    }
    for (name, template) in edits.added().filter(|(name, _)| !is_ours(name)) {
        write_edit(facts, name, template, out);
    }
    if let Some(failure) = grpc {
        failure.write(out);
    }
    let (text, end) = body.map_or((&b""[..], ""), |(_, text)| text);
    // These never have a body, and so no length (RFC 9110 §8.6).
    if !matches!(answer.status, 204 | 304) {
        out.extend_from_slice(b"content-length: ");
        write_number((text.len() + end.len()) as u64, out);
        out.extend_from_slice(b"\r\n");
    }
    if facts.head.method == Method::Head { [b"", b""] } else { [text, end.as_bytes()] }
}

/// The type of a body, and its bytes in two parts.
type Body<'a> = (&'a str, (&'a [u8], &'a str));

fn body<'a>(answer: Answer<'a>, facts: &Facts<'a>) -> Option<Body<'a>> {
    let of_page = |page: &'a Page| (page.content_type.as_str(), (page.body.as_slice(), ""));
    match answer.says {
        Says::Wrong { text, .. } => Some(match facts.listener.errors.get(&answer.status) {
            Some(page) => of_page(page),
            None => ("text/plain", (text.as_bytes(), "\n")),
        }),
        Says::Page(page) if !matches!(answer.status, 204 | 205 | 304) => page.map(of_page),
        Says::Page(_) | Says::Elsewhere(_) => None,
    }
}

/// What no route changes in the answer to a failure: its body is ours, and whatever is said of the
/// instances' responses must not let a cache keep it.
fn belongs_to_failures(name: &str) -> bool {
    matches!(name, "content-type" | "retry-after" | "surrogate-control")
        || name.ends_with("cache-control")
}

/// Writes where the client is sent. A reference that begins with two slashes leads to another host (RFC
/// 3986 §4.2), and browsers take a backslash for a slash: a path that a client made up stays with us.
fn write_location(to: &Template, facts: &Facts<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"location: ");
    let begins_with_path = to.parts.first() == Some(&Part::Variable(Variable::Path));
    if begins_with_path && matches!(facts.head.path_only().get(1), Some(b'/' | b'\\')) {
        out.extend_from_slice(b"/.");
    }
    facts.render(to, out);
    out.extend_from_slice(b"\r\n");
}

fn phrase(status: u16) -> &'static str {
    let known = http::StatusCode::from_u16(status).ok();
    known.and_then(|status| status.canonical_reason()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
