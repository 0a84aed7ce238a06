//! Reading HTTP/1.1 heads, strictly.
//!
//! A head is read once, from left to right; [`framing`] and [`target`] then say what it means. A head
//! that could mean two things to two parsers is refused, because the instance behind us may be the
//! other parser.
//!
//! [`framing`]: crate::proxy::wire::http1::framing
//! [`target`]: crate::proxy::wire::http1::target

use crate::proxy::wire::head::{Field, Fields, Known, Span};
use crate::proxy::wire::http1::framing::Framing;
use crate::proxy::wire::http1::target;
use crate::proxy::wire::line::{self, Line};
use crate::proxy::wire::{Method, RequestHead, ResponseHead, Version};

/// No head has more field lines than this, whatever its limits say.
pub const FIELDS_MAX: usize = 256;

/// Longest name of a method; the longest in the registry has 17.
const METHOD_MAX: usize = 64;

/// What a request head may hold. How long it may be as a whole is up to whoever reads it from the
/// socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadLimits {
    /// Field lines; at most [`FIELDS_MAX`].
    pub fields: usize,
    /// Bytes of the request target.
    pub target: usize,
    /// CONNECT is read and not refused: its target is the authority, its path is empty.
    pub allow_connect: bool,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { fields: 100, target: 8 * 1024, allow_connect: false }
    }
}

/// What is wrong with a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeadError {
    /// It breaks the grammar.
    #[error("{0}")]
    Malformed(&'static str),
    /// Its framing or its host could be understood in two ways.
    #[error("{0}")]
    Ambiguous(&'static str),
    /// More field lines than its limits allow.
    #[error("too many header fields")]
    TooManyFields,
    /// A longer target than its limits allow.
    #[error("the request target is too long")]
    TargetTooLong,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("HTTP version not supported")]
    Version,
    /// An expectation other than `100-continue`.
    #[error("unknown expectation")]
    Expectation,
    /// Well-formed, and not served here.
    #[error("{0}")]
    Unsupported(&'static str),
}

impl From<&'static str> for HeadError {
    fn from(text: &'static str) -> Self {
        Self::Malformed(text)
    }
}

/// Reads a request head from the start of `input` into `head`. `Ok(None)` asks for more bytes;
/// `Ok(Some(n))` says that the head took the first `n`. Without that, `head` holds nothing of use.
///
/// # Errors
/// If what is there can never become a head that may be forwarded.
pub fn parse_request(
    input: &[u8],
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<Option<usize>, HeadError> {
    // Clients may send an empty line before a request (RFC 9112 §2.2); one is skipped.
    let skipped = match input.first() {
        Some(b'\r') => match line::end_at(input, 0)? {
            Some(skipped) => skipped,
            None => return Ok(None),
        },
        _ => 0,
    };
    let text = &input[skipped..];
    let Some(line) = request_line(text, limits)? else { return Ok(None) };
    let most = limits.fields.min(FIELDS_MAX);
    let Some(len) = read_fields(text, line.len, most, &mut head.fields)? else { return Ok(None) };
    head.method = Method::from_bytes(&text[..line.method]);
    head.method_name = Span { start: 0, len: line.method as u32 };
    head.version = line.version;
    let framing = Framing::of(&mut head.fields, line.version)?;
    framing.settle_request(head)?;
    target::read(head, line.target, framing.host, limits.allow_connect)?;
    Ok(Some(skipped + len))
}

/// Reads a response head from the start of `input` into `head`, as the answer to `method`.
/// `Ok(None)` asks for more bytes; `Ok(Some(n))` says that the head took the first `n`. Without
/// that, `head` holds nothing of use.
///
/// # Errors
/// If what is there can never become a head that may be forwarded.
pub fn parse_response(
    input: &[u8],
    method: Method,
    head: &mut ResponseHead,
) -> Result<Option<usize>, HeadError> {
    let Some(line) = status_line(input)? else { return Ok(None) };
    let Some(len) = read_fields(input, line.len, FIELDS_MAX, &mut head.fields)? else {
        return Ok(None);
    };
    head.status = line.status;
    head.reason = line.reason;
    let framing = Framing::of(&mut head.fields, line.version)?;
    framing.settle_response(head, method, line.version)?;
    Ok(Some(len))
}

struct RequestLine {
    method: usize,
    target: Span,
    version: Version,
    len: usize,
}

/// `method SP request-target SP HTTP-version CRLF` (RFC 9112 §3).
fn request_line(text: &[u8], limits: &HeadLimits) -> Result<Option<RequestLine>, HeadError> {
    let method = line::token_len(text);
    if method > METHOD_MAX {
        return Err(HeadError::Unsupported("no method has such a long name"));
    }
    match text.get(method) {
        Some(b' ') if method > 0 => {}
        Some(_) => return Err(HeadError::Malformed("invalid request line")),
        None => return Ok(None),
    }
    let start = method + 1;
    let after = &text[start..];
    let target = after.iter().position(|byte| !is_target(*byte)).unwrap_or(after.len());
    if target > limits.target {
        return Err(HeadError::TargetTooLong);
    }
    match after.get(target) {
        Some(b' ') if target > 0 => {}
        Some(b'\r' | b'\n') => return Err(HeadError::Malformed("a request line without version")),
        Some(_) => return Err(HeadError::Malformed("invalid request target")),
        None => return Ok(None),
    }
    let at = start + target + 1;
    let Some(version) = version(&text[at..])? else { return Ok(None) };
    let Some(len) = line::end_at(text, at + VERSION_LEN)? else { return Ok(None) };
    let target = Span { start: start as u32, len: target as u32 };
    Ok(Some(RequestLine { method, target, version, len }))
}

/// Visible ASCII but `#`: a fragment is never sent (RFC 9110 §7.1).
pub fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

struct StatusLine {
    version: Version,
    status: u16,
    reason: Span,
    len: usize,
}

/// `HTTP-version SP status-code SP [reason-phrase] CRLF` (RFC 9112 §4). Some servers leave out the
/// second space with the reason; nothing else could be meant.
fn status_line(text: &[u8]) -> Result<Option<StatusLine>, HeadError> {
    const BAD: HeadError = HeadError::Malformed("invalid status line");
    let Some(version) = version(text)? else { return Ok(None) };
    let after = &text[VERSION_LEN..];
    let right = |(at, byte): (usize, &u8)| match at {
        0 => *byte == b' ',
        1..=3 => byte.is_ascii_digit(),
        _ => matches!(byte, b' ' | b'\r'),
    };
    if !after.iter().take(5).enumerate().all(right) {
        return Err(BAD);
    }
    let &[_, a, b, c, behind, ..] = after else { return Ok(None) };
    let digit = |byte: u8| u16::from(byte - b'0');
    let status = digit(a) * 100 + digit(b) * 10 + digit(c);
    if !(100..600).contains(&status) {
        return Err(HeadError::Malformed("status code out of range"));
    }
    let start = VERSION_LEN + if behind == b' ' { 5 } else { 4 };
    let end = start + line::text_len(&text[start..]);
    let Some(len) = line::end_at(text, end)? else { return Ok(None) };
    let reason = Span { start: start as u32, len: (end - start) as u32 };
    Ok(Some(StatusLine { version, status, reason, len }))
}

const VERSION_LEN: usize = 8;

/// `HTTP/1.1` or `HTTP/1.0` (RFC 9112 §2.3); `None` asks for more bytes.
fn version(text: &[u8]) -> Result<Option<Version>, HeadError> {
    match text.first_chunk::<VERSION_LEN>() {
        Some(b"HTTP/1.1") => Ok(Some(Version::Http11)),
        Some(b"HTTP/1.0") => Ok(Some(Version::Http10)),
        other => {
            let fits = |(byte, shape): (&u8, &u8)| match shape {
                b'0' => byte.is_ascii_digit(),
                exact => byte == exact,
            };
            if !text.iter().zip(b"HTTP/0.0").all(fits) {
                return Err(HeadError::Malformed("invalid HTTP version"));
            }
            if other.is_some() { Err(HeadError::Version) } else { Ok(None) }
        }
    }
}

/// Reads field lines from `at` to the end of the head, and copies the head; says how long it is.
fn read_fields(
    text: &[u8],
    mut at: usize,
    most: usize,
    fields: &mut Fields,
) -> Result<Option<usize>, HeadError> {
    fields.clear();
    loop {
        match line::read(&text[at..])? {
            Some(Line::Field(_)) if fields.lines.len() == most => {
                return Err(HeadError::TooManyFields);
            }
            Some(Line::Field(field)) => {
                let name = &text[at..at + field.name];
                let known = Known::from_name(name);
                fields.lines.push(Field {
                    name: Span { start: at as u32, len: field.name as u32 },
                    value: Span {
                        start: (at + field.value) as u32,
                        len: (field.value_end - field.value) as u32,
                    },
                    known,
                    nominated: known == Known::Other && Known::is_imitated_by(name),
                });
                at += field.len;
            }
            Some(Line::End(len)) => {
                fields.bytes.extend_from_slice(&text[..at + len]);
                return Ok(Some(at + len));
            }
            None => return Ok(None),
        }
    }
}
