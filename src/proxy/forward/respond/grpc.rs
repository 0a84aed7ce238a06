//! Failures of gRPC calls as their clients understand them: a response that consists of fields alone, with
//! a status of gRPC's own (the "Trailers-Only" of its protocol over HTTP/2), or by trailers where it has
//! begun.

use crate::proxy::forward::respond::{Answer, Says};
use crate::proxy::rewrite::Facts;
use crate::proxy::wire::http1::{write_field, write_number};

/// What such a response says that it is.
pub const CONTENT_TYPE: &[u8] = b"application/grpc";

/// A failure of a call.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    code: u8,
    message: &'static str,
}

/// What the client of a call is told in the place of an answer that says what is wrong; `None` if it is
/// no call.
pub fn failure(answer: Answer<'_>, facts: &Facts<'_>) -> Option<Failure> {
    match answer.says {
        Says::Wrong { text, .. } if facts.head.is_grpc() => {
            Some(Failure { code: code(answer.status), message: text })
        }
        _ => None,
    }
}

/// gRPC's own mapping (`http-grpc-status-mapping.md`), but for what we know better than it can: that time
/// was up, and that a message was too large.
fn code(status: u16) -> u8 {
    const UNKNOWN: u8 = 2;
    const DEADLINE_EXCEEDED: u8 = 4;
    const PERMISSION_DENIED: u8 = 7;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    const UNAUTHENTICATED: u8 = 16;
    match status {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        408 | 504 => DEADLINE_EXCEEDED,
        413 | 431 => RESOURCE_EXHAUSTED,
        429 | 502 | 503 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

impl Failure {
    /// Writes the fields that say it. Our own words need no percent-encoding: they are printable ASCII
    /// without a percent sign.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"grpc-status: ");
        write_number(u64::from(self.code), out);
        out.extend_from_slice(b"\r\n");
        debug_assert!(self.message.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'%'));
        write_field(b"grpc-message", self.message.as_bytes(), out);
    }
}
