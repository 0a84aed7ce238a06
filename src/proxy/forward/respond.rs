//! The one place that turns a failure into a status.
//!
//! Answers are small, plain, and never cacheable by accident. Who is to blame decides the class:
//! 4xx for the client, 502 and 504 for an instance, 503 for a lack of capacity.

use crate::observe::{FailReason, RefuseReason};
use crate::proxy::wire::http1::{HeadError, write_number};

/// An answer that tidegate makes itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// One line for whoever reads it; says nothing about the inside.
    pub text: &'static str,
    /// Trying again later may help.
    pub retry_after: bool,
}

const fn answer(status: u16, text: &'static str) -> Answer {
    Answer { status, text, retry_after: false }
}

/// The answer to a request that could not be served; `None` where nobody is left to be answered.
pub fn for_failure(reason: FailReason) -> Option<Answer> {
    Some(match reason {
        FailReason::NoInstance => {
            Answer { status: 503, text: "no instance is available", retry_after: true }
        }
        FailReason::QueueFull | FailReason::QueueTimeout => {
            Answer { status: 503, text: "all instances are busy", retry_after: true }
        }
        FailReason::Connect => answer(502, "no instance could be reached"),
        FailReason::Reset => answer(502, "the instance closed the connection"),
        FailReason::BadResponse => answer(502, "the instance sent an invalid response"),
        FailReason::ResponseTimeout => answer(504, "the instance did not answer in time"),
        FailReason::ClientTimeout => answer(408, "the request did not arrive in time"),
        FailReason::BadBody => answer(400, "the request body is broken"),
        FailReason::ClientTooSlow => answer(408, "the request arrived too slowly"),
        FailReason::BodyTooLarge => answer(413, "the request body is too large"),
        FailReason::TotalTimeout => answer(504, "the exchange took too long"),
        FailReason::CutResponse | FailReason::ClientGone => return None,
    })
}

/// The answer to a head that is not forwarded, and how it is counted.
pub fn for_head(error: HeadError) -> (Answer, RefuseReason) {
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

/// The head did not arrive in time.
pub const HEAD_TIMEOUT: Answer = answer(408, "the request head did not arrive in time");
/// The request line alone is larger than a buffer.
pub const TARGET_TOO_LONG: Answer = answer(414, "the request target is too long");
/// The head is larger than a buffer.
pub const HEAD_TOO_LARGE: Answer = answer(431, "the request head is too large");
/// No route, and no pool of the listener's own.
pub const NO_ROUTE: Answer = answer(404, "no route matches this request");

/// Writes an answer as HTTP/1.1. The answer to a HEAD request has no body.
pub fn write(answer: Answer, keep_alive: bool, to_head: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(u64::from(answer.status), out);
    out.push(b' ');
    out.extend_from_slice(phrase(answer.status).as_bytes());
    out.extend_from_slice(b"\r\ncontent-type: text/plain\r\ncache-control: no-store\r\n");
    if answer.retry_after {
        out.extend_from_slice(b"retry-after: 1\r\n");
    }
    if !keep_alive {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"content-length: ");
    write_number(answer.text.len() as u64 + 1, out);
    out.extend_from_slice(b"\r\n\r\n");
    if !to_head {
        out.extend_from_slice(answer.text.as_bytes());
        out.push(b'\n');
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::wire::http1::parse_response;
    use crate::proxy::wire::{BodyLength, Method, ResponseHead};

    #[test]
    fn every_answer_is_a_valid_response() {
        let failures = FailReason::ALL.into_iter().filter_map(for_failure);
        let heads = [HeadError::TooManyFields, HeadError::Version, HeadError::Malformed("x")];
        let others = [HEAD_TIMEOUT, TARGET_TOO_LONG, HEAD_TOO_LARGE, NO_ROUTE];
        for answer in failures.chain(heads.map(|e| for_head(e).0)).chain(others) {
            let mut out = Vec::new();
            write(answer, false, false, &mut out);
            let mut head = ResponseHead::default();
            let len = parse_response(&out, Method::Get, &mut head).expect("valid").expect("whole");
            assert_eq!(head.status, answer.status);
            assert_ne!(phrase(answer.status), "Error", "{answer:?}");
            assert_eq!(head.body, BodyLength::Exactly((out.len() - len) as u64));
            assert!(!head.keep_alive);
            assert_eq!(head.fields.value("retry-after").is_some(), answer.retry_after);
        }
    }
}
