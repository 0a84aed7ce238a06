//! HTTP/2 heads and trailers (RFC 9113 §8): what its codec has decoded, read as strictly as an HTTP/1.1
//! head; and field lines made into the maps that it encodes.
//!
//! What is changed in heads on their way is written once, as lines, by
//! [`http1`](crate::proxy::wire::http1). A head that came over HTTP/2 is laid out in memory as such lines
//! too, so from there on nothing tells the two apart.

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method as HttpMethod, request, response};

use crate::proxy::wire::chunked::{ChunkError, TRAILER_FIELDS_MAX, TRAILERS_MAX, may_trail};
use crate::proxy::wire::head::{Field, Fields, Known, Span};
use crate::proxy::wire::http1::{
    FIELDS_MAX, Framing, HeadError, HeadLimits, check_authority, is_target, write_field,
};
use crate::proxy::wire::line::{self, Line};
use crate::proxy::wire::{BodyLength, Method, RequestHead, ResponseHead, Version, websocket};

/// The only protocol that a stream may become (RFC 8441).
pub const WEBSOCKET: &str = "websocket";

/// Reads the head of a request. `ends` says that nothing follows it. `websocket_key` is what the client
/// of an extended CONNECT (RFC 8441) would have sent over HTTP/1.1, which is how such a request reads
/// then: a GET that asks to upgrade.
///
/// # Errors
/// If it may not be forwarded.
pub fn read_request(
    parts: &request::Parts,
    ends: bool,
    limits: &HeadLimits,
    websocket_key: impl FnOnce() -> [u8; 24],
    head: &mut RequestHead,
) -> Result<(), HeadError> {
    let fields = &mut head.fields;
    fields.clear();
    let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
    let method = match (protocol, &parts.method) {
        (None, method) => method,
        (Some(WEBSOCKET), &HttpMethod::CONNECT) => &HttpMethod::GET,
        (Some(_), _) => return Err(HeadError::Unsupported("this protocol is not served here")),
    };
    head.method_name = put(method.as_str().as_bytes(), fields);
    head.method = Method::from_bytes(method.as_str().as_bytes());
    if parts.uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(HeadError::Malformed("neither http nor https"));
    }
    let target = parts.uri.path_and_query().map_or("", |path| path.as_str()).as_bytes();
    check_target(target, head.method, limits)?;
    head.path = put(target, fields);
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let authority = authority.map(|authority| put(authority, fields));
    lay_out(&parts.headers, limits.fields, fields)?;
    let framing = Framing::of(fields, Version::Http2)?;
    head.authority = agree(fields, authority, framing.host, head.method)?;
    head.version = Version::Http2;
    framing.settle_request(head)?;
    head.body = length(head.body, ends, head.method == Method::Connect || protocol.is_some())?;
    head.expects_continue &= !ends;
    head.keep_alive = true;
    head.upgrade = None;
    if let Some(protocol) = protocol {
        if head.body != BodyLength::None {
            return Err(HeadError::Ambiguous("a length beside a protocol"));
        }
        add_line(b"sec-websocket-key", &websocket_key(), &mut head.fields);
        head.upgrade = Some(put(protocol.as_bytes(), &mut head.fields));
    }
    Ok(())
}

/// Reads the head of a response, as the answer to `method`. `ends` says that nothing follows it.
///
/// # Errors
/// If it may not be forwarded.
pub fn read_response(
    parts: &response::Parts,
    ends: bool,
    method: Method,
    head: &mut ResponseHead,
) -> Result<(), HeadError> {
    let status = parts.status.as_u16();
    if !(100..600).contains(&status) {
        return Err(HeadError::Malformed("status code out of range"));
    }
    if status == 101 {
        return Err(HeadError::Malformed("a switch of protocols in HTTP/2"));
    }
    head.status = status;
    head.fields.clear();
    let reason = parts.status.canonical_reason().unwrap_or_default();
    head.reason = put(reason.as_bytes(), &mut head.fields);
    lay_out(&parts.headers, FIELDS_MAX, &mut head.fields)?;
    let framing = Framing::of(&mut head.fields, Version::Http2)?;
    framing.settle_response(head, method, Version::Http2)?;
    head.body = match (head.body, ends) {
        (BodyLength::None, _) | (BodyLength::UntilClose, true) => BodyLength::None,
        (BodyLength::Exactly(length), true) if length > 0 => {
            return Err(HeadError::Ambiguous("a body shorter than its length"));
        }
        (BodyLength::Exactly(length), _) => BodyLength::Exactly(length),
        (_, _) => BodyLength::Chunked,
    };
    head.keep_alive = true;
    Ok(())
}

/// Makes the agreement to a WebSocket in a stream (RFC 8441 §5) the one that HTTP/1.1 has (RFC 6455 §4.2.2),
/// for a client that sent `key`.
pub fn make_upgrade(key: &[u8], head: &mut ResponseHead) {
    head.status = 101;
    head.reason = put(b"Switching Protocols", &mut head.fields);
    add_line(b"sec-websocket-accept", &websocket::accept(key), &mut head.fields);
    head.upgrade = Some(put(WEBSOCKET.as_bytes(), &mut head.fields));
}

/// The fields that stand in `name: value CRLF` lines, as [`http1`](crate::proxy::wire::http1) writes them.
pub fn field_map(lines: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(memchr::memchr_iter(b'\n', lines).count());
    // Values share one copy of the lines.
    let shared = Bytes::copy_from_slice(lines);
    let mut at = 0;
    while let Ok(Some(Line::Field(field))) = line::read(&lines[at..]) {
        let name = HeaderName::from_bytes(&lines[at..at + field.name]);
        let value = shared.slice(at + field.value..at + field.value_end);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(value)) {
            map.append(name, value);
        }
        at += field.len;
    }
    map
}

/// The trailers that may go on, as `name: value CRLF` lines. Those that decide about the message may not
/// (RFC 9110 §6.5.1).
///
/// # Errors
/// If there are more than may be.
pub fn trailer_lines(map: &HeaderMap) -> Result<Vec<u8>, ChunkError> {
    if map.len() > TRAILER_FIELDS_MAX {
        return Err(ChunkError("too many trailer fields"));
    }
    let mut lines = Vec::new();
    for (name, value) in map {
        let name = name.as_str().as_bytes();
        if may_trail(name) {
            write_field(name, value.as_bytes(), &mut lines);
        }
    }
    if lines.len() > TRAILERS_MAX {
        return Err(ChunkError("trailers too large"));
    }
    Ok(lines)
}

/// RFC 9113 §8.3.1: a path, or `*` for OPTIONS; nothing for CONNECT.
fn check_target(target: &[u8], method: Method, limits: &HeadLimits) -> Result<(), HeadError> {
    if method == Method::Connect && !limits.allow_connect {
        return Err(HeadError::Unsupported("CONNECT is not served here"));
    }
    if target.len() > limits.target {
        return Err(HeadError::TargetTooLong);
    }
    let has_form = match method {
        Method::Connect => target.is_empty(),
        Method::Options => target == b"*" || target.starts_with(b"/"),
        _ => target.starts_with(b"/"),
    };
    if !has_form || !target.iter().all(|byte| is_target(*byte)) {
        return Err(HeadError::Malformed("invalid request target"));
    }
    Ok(())
}

/// Whom a request asks for: there must be one authority, and Host may only say the same (RFC 9113
/// §8.3.1).
fn agree(
    fields: &Fields,
    authority: Option<Span>,
    host: Option<Span>,
    method: Method,
) -> Result<Span, HeadError> {
    if let (Some(authority), Some(host)) = (authority, host)
        && !fields.get(authority).eq_ignore_ascii_case(fields.get(host))
    {
        return Err(HeadError::Ambiguous("Host is not :authority"));
    }
    let span = authority.or(host).ok_or(HeadError::Malformed("neither :authority nor Host"))?;
    check_authority(fields.get(span), method == Method::Connect)?;
    Ok(span)
}

/// How long the body of a request is. What follows the head of a CONNECT is no body.
fn length(announced: BodyLength, ends: bool, connects: bool) -> Result<BodyLength, HeadError> {
    match announced {
        BodyLength::Exactly(length) if ends && length > 0 => {
            Err(HeadError::Ambiguous("a body shorter than its length"))
        }
        BodyLength::None if !ends && !connects => Ok(BodyLength::Chunked),
        announced => Ok(announced),
    }
}

/// Lays fields out as lines. Crumbs of a cookie, which are counted one by one, become one line
/// (RFC 9113 §8.2.3).
fn lay_out(map: &HeaderMap, most: usize, fields: &mut Fields) -> Result<(), HeadError> {
    if map.len() > most.min(FIELDS_MAX) {
        return Err(HeadError::TooManyFields);
    }
    for name in map.keys() {
        if name == header::COOKIE {
            let start = fields.bytes.len();
            fields.bytes.extend_from_slice(b"cookie: ");
            let mut between: &[u8] = b"";
            for crumb in map.get_all(name).iter().map(HeaderValue::as_bytes) {
                check_value(crumb)?;
                if !crumb.is_empty() {
                    fields.bytes.extend_from_slice(between);
                    fields.bytes.extend_from_slice(crumb);
                    between = b"; ";
                }
            }
            end_line(start, name.as_str().len(), Known::Other, false, fields);
            continue;
        }
        let text = name.as_str().as_bytes();
        let known = Known::from_name(text);
        for value in map.get_all(name) {
            check_value(value.as_bytes())?;
            check_hop(known, value.as_bytes())?;
            add_line_of(text, value.as_bytes(), known, fields);
        }
    }
    Ok(())
}

/// RFC 9113 §8.2.1: white space around a value is not taken off, but refused; that it has no control
/// characters was seen to when it was decoded.
fn check_value(value: &[u8]) -> Result<(), HeadError> {
    if matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']) {
        return Err(HeadError::Malformed("white space around a field value"));
    }
    if line::text_len(value) < value.len() {
        return Err(HeadError::Malformed("a control character"));
    }
    Ok(())
}

/// RFC 9113 §8.2.2: nothing speaks of the connection.
fn check_hop(known: Known, value: &[u8]) -> Result<(), HeadError> {
    let allowed = match known {
        Known::Connection
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::TransferEncoding
        | Known::Upgrade => false,
        Known::Te => value.eq_ignore_ascii_case(b"trailers"),
        _ => true,
    };
    if allowed { Ok(()) } else { Err(HeadError::Malformed("a field of HTTP/1.1 connections")) }
}

fn put(text: &[u8], fields: &mut Fields) -> Span {
    let start = fields.bytes.len() as u32;
    fields.bytes.extend_from_slice(text);
    Span { start, len: text.len() as u32 }
}

fn add_line(name: &[u8], value: &[u8], fields: &mut Fields) {
    add_line_of(name, value, Known::from_name(name), fields);
}

fn add_line_of(name: &[u8], value: &[u8], known: Known, fields: &mut Fields) {
    let start = fields.bytes.len();
    fields.bytes.extend_from_slice(name);
    fields.bytes.extend_from_slice(b": ");
    fields.bytes.extend_from_slice(value);
    let nominated = known == Known::Other && Known::is_imitated_by(name);
    end_line(start, name.len(), known, nominated, fields);
}

/// Ends the line that begins at `start`.
fn end_line(start: usize, name: usize, known: Known, nominated: bool, fields: &mut Fields) {
    let value = start + name + 2;
    let len = fields.bytes.len() - value;
    fields.bytes.extend_from_slice(b"\r\n");
    fields.lines.push(Field {
        name: Span { start: start as u32, len: name as u32 },
        value: Span { start: value as u32, len: len as u32 },
        known,
        nominated,
    });
}

#[cfg(test)]
mod tests;
