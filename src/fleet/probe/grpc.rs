//! The check by gRPC (`grpc.health.v1.Health/Check`): what is asked, and what an answer is worth. Pure.
//!
//! Two messages with one field each do not need a compiler for their format (protocol buffers: a key is
//! the number of a field and how it is written, numbers are in base 128).

use std::str;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, Uri, Version, header};

use crate::fleet::order::ProbeError;

/// What of an answer is read at most: it has one small message.
pub(super) const ANSWER_MOST: usize = 4 * 1024;

const PATH: &str = "/grpc.health.v1.Health/Check";

/// Field 1, text: the service of a `HealthCheckRequest`.
const SERVICE: u8 = 0x0a;
/// Field 1, a number: the status of a `HealthCheckResponse`.
const STATUS: u8 = 0x08;

/// The head of the call to whoever is at `authority`; `None` if that cannot be one.
pub(super) fn head(scheme: &str, authority: &str) -> Option<Request<()>> {
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(PATH);
    Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(uri.build().ok()?)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "tidegate-probe")
        .body(())
        .ok()
}

/// The call's only message: which service is asked for; nothing for the server as a whole.
pub(super) fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(SERVICE);
        let mut len = service.len();
        while len >= 0x80 {
            message.push(len as u8 | 0x80);
            len >>= 7;
        }
        message.push(len as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(5 + message.len());
    // It is not compressed.
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    frame.freeze()
}

/// Whether what begins with this head can be an answer.
///
/// # Errors
/// If it is none, or no call was made.
pub(super) fn judge_head<T>(response: &Response<T>) -> Result<(), ProbeError> {
    if response.status() != 200 {
        return Err(ProbeError::Status(response.status().as_u16()));
    }
    let kind = response.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    match kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        true => Ok(()),
        false => Err(ProbeError::NotGrpc),
    }
}

/// What the answer says. `ends` are the fields that it ends with: its trailers or, if there was nothing
/// but a head, those of the head.
///
/// # Errors
/// Unless it says that the service serves.
pub(super) fn judge(body: &[u8], ends: &HeaderMap) -> Result<(), ProbeError> {
    let status = ends.get("grpc-status").and_then(|status| str::from_utf8(status.as_bytes()).ok());
    match status.and_then(|status| status.parse().ok()) {
        Some(0) => {}
        Some(status) => return Err(ProbeError::Grpc(status)),
        None => return Err(ProbeError::NotGrpc),
    }
    match serving_status(body).ok_or(ProbeError::NotGrpc)? {
        1 => Ok(()),
        2 => Err(ProbeError::NotServing("NOT_SERVING")),
        3 => Err(ProbeError::NotServing("SERVICE_UNKNOWN")),
        _ => Err(ProbeError::NotServing("UNKNOWN")),
    }
}

/// The status in a frame with a `HealthCheckResponse`; 0 if it says none, as the format has it.
fn serving_status(frame: &[u8]) -> Option<u64> {
    let ([compressed, len @ ..], mut message) = frame.split_first_chunk::<5>()?;
    if *compressed != 0 || u32::from_be_bytes(*len) as usize != message.len() {
        return None;
    }
    let mut status = 0;
    while let Some((key, rest)) = message.split_first() {
        // Nothing else is in such a message today; what is added one day is not looked at.
        if *key != STATUS {
            break;
        }
        (status, message) = number(rest)?;
    }
    Some(status)
}

/// A number in base 128, the smallest digit first, and what follows it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(status: &str) -> HeaderMap {
        let mut ends = HeaderMap::new();
        ends.insert("grpc-status", status.parse().expect("a value"));
        ends
    }

    #[test]
    fn a_question_is_a_frame_with_the_service() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("a.B")[..], b"\0\0\0\0\x05\x0a\x03a.B");
        let long = question(&"x".repeat(300));
        assert_eq!(&long[..9], b"\0\0\0\x01\x2f\x0a\xac\x02x");
    }

    #[test]
    fn only_serving_passes() {
        let not = |word| Err(ProbeError::NotServing(word));
        for (body, status, verdict) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], "0", Ok(())),
            (b"\0\0\0\0\x02\x08\x02", "0", not("NOT_SERVING")),
            (b"\0\0\0\0\x02\x08\x03", "0", not("SERVICE_UNKNOWN")),
            (b"\0\0\0\0\0", "0", not("UNKNOWN")),
            (b"\0\0\0\0\x02\x08\x07", "0", not("UNKNOWN")),
            (b"\0\0\0\0\x04\x08\x02\x08\x01", "0", Ok(())),
            (b"\0\0\0\0\x05\x08\x01\x12\x01x", "0", Ok(())),
            (b"", "0", Err(ProbeError::NotGrpc)),
            (b"\x01\0\0\0\x02\x08\x01", "0", Err(ProbeError::NotGrpc)),
            (b"\0\0\0\0\x03\x08\x01", "0", Err(ProbeError::NotGrpc)),
            (b"\0\0\0\0\x02\x08\x81", "0", Err(ProbeError::NotGrpc)),
            (b"\0\0\0\0\x02\x08\x01", "12", Err(ProbeError::Grpc(12))),
            (b"", "5", Err(ProbeError::Grpc(5))),
            (b"\0\0\0\0\x02\x08\x01", "fine", Err(ProbeError::NotGrpc)),
        ] {
            assert_eq!(judge(body, &ends(status)), verdict, "{body:?} {status}");
        }
        let silent = judge(b"\0\0\0\0\x02\x08\x01", &HeaderMap::new());
        assert_eq!(silent, Err(ProbeError::NotGrpc));
    }

    #[test]
    fn a_head_is_that_of_a_call() {
        let head = head("http", "[::1]:50051").expect("a head");
        assert_eq!(head.uri(), "http://[::1]:50051/grpc.health.v1.Health/Check");
        assert_eq!(head.headers()["te"], "trailers");
        for (status, kind, verdict) in [
            (200, "application/grpc", Ok(())),
            (200, "application/grpc+proto", Ok(())),
            (200, "text/html", Err(ProbeError::NotGrpc)),
            (503, "application/grpc", Err(ProbeError::Status(503))),
        ] {
            let response = Response::builder().status(status).header("content-type", kind);
            let response = response.body(()).expect("a response");
            assert_eq!(judge_head(&response), verdict, "{status} {kind}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_judged(body: Vec<u8>, status: u32) {
            let _ = judge(&body, &ends(&status.to_string()));
        }
    }
}
