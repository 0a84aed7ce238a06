//! Reading HTTP/1.1 heads, strictly.
//!
//! `httparse` finds the parts; what it lets pass and we do not (a bare LF as line end, odd targets,
//! every framing question) is checked here. A head that could mean two things to two parsers is
//! refused, because the instance behind us may be the other parser.

use std::mem::MaybeUninit;

use crate::proxy::wire::head::{Field, Fields, Known, Span};
use crate::proxy::wire::{BodyLength, Method, RequestHead, ResponseHead, Version};

/// More field lines than this are refused (431 for a client).
pub const FIELDS_MAX: usize = 100;

/// What is wrong with a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeadError {
    /// It breaks the grammar.
    #[error("{0}")]
    Malformed(&'static str),
    /// Its framing or its host could be understood in two ways.
    #[error("{0}")]
    Ambiguous(&'static str),
    /// Too many field lines.
    #[error("more than {FIELDS_MAX} header fields")]
    TooManyFields,
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

/// Reads a request head from the start of `input` into `head`. `Ok(None)` asks for more bytes;
/// `Ok(Some(n))` says that the head took the first `n`.
///
/// # Errors
/// If what is there can never become a head that may be forwarded.
pub fn parse_request(input: &[u8], head: &mut RequestHead) -> Result<Option<usize>, HeadError> {
    let skipped = leading_blank_line(input);
    let text = &input[skipped..];
    let mut lines = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let len = match parsed.parse_with_uninit_headers(text, &mut lines) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(explain(error)),
    };
    let text = &text[..len];
    check_line_ends(text)?;
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(HeadError::Malformed("incomplete request line"));
    };
    head.version = version(minor);
    head.method = Method::from_bytes(method.as_bytes());
    head.method_name = span(text, method.as_bytes());
    fill(&mut head.fields, text, parsed.headers);
    let framing = Framing::of(&mut head.fields, head.version)?;
    head.body = framing.request_body();
    head.keep_alive = framing.keep_alive(head.version);
    head.expects_continue = framing.expects_continue;
    read_target(head, text, target.as_bytes(), framing.host)?;
    Ok(Some(skipped + len))
}

/// Reads a response head from the start of `input` into `head`, as the answer to `method`.
///
/// # Errors
/// If what is there can never become a head that may be forwarded.
pub fn parse_response(
    input: &[u8],
    method: Method,
    head: &mut ResponseHead,
) -> Result<Option<usize>, HeadError> {
    let mut lines = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let len = match config.parse_response_with_uninit_headers(&mut parsed, input, &mut lines) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(explain(error)),
    };
    let text = &input[..len];
    check_line_ends(text)?;
    let (Some(status), Some(reason), Some(minor)) = (parsed.code, parsed.reason, parsed.version)
    else {
        return Err(HeadError::Malformed("incomplete status line"));
    };
    if !(100..600).contains(&status) {
        return Err(HeadError::Malformed("status code out of range"));
    }
    let version = version(minor);
    head.status = status;
    head.reason = if reason.is_empty() { Span::default() } else { span(text, reason.as_bytes()) };
    fill(&mut head.fields, text, parsed.headers);
    let framing = Framing::of(&mut head.fields, version)?;
    head.body = framing.response_body(status, method);
    head.keep_alive = framing.keep_alive(version) && head.body != BodyLength::UntilClose;
    Ok(Some(len))
}

/// Clients may send an empty line before a request (RFC 9112 §2.2); one is skipped.
fn leading_blank_line(input: &[u8]) -> usize {
    if input.starts_with(b"\r\n") { 2 } else { 0 }
}

fn explain(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Version => HeadError::Version,
        httparse::Error::HeaderName => HeadError::Malformed("invalid header field name"),
        httparse::Error::HeaderValue => HeadError::Malformed("invalid header field value"),
        httparse::Error::NewLine => HeadError::Malformed("invalid line end"),
        httparse::Error::Status => HeadError::Malformed("invalid status line"),
        httparse::Error::Token => HeadError::Malformed("invalid request line"),
    }
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::Http10 } else { Version::Http11 }
}

/// httparse accepts a bare LF as line end. Another parser may not, and would see other lines.
fn check_line_ends(text: &[u8]) -> Result<(), HeadError> {
    for at in memchr::memchr_iter(b'\n', text) {
        if at == 0 || text[at - 1] != b'\r' {
            return Err(HeadError::Malformed("line feed without carriage return"));
        }
    }
    Ok(())
}

/// Where `part`, which was cut out of `text`, lies in it.
fn span(text: &[u8], part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    debug_assert!(start + part.len() <= text.len(), "a part lies within its text");
    // Heads fit in a buffer of 16 KiB.
    Span { start: start as u32, len: part.len() as u32 }
}

fn fill(fields: &mut Fields, text: &[u8], lines: &[httparse::Header<'_>]) {
    fields.clear();
    fields.bytes.extend_from_slice(text);
    fields.lines.extend(lines.iter().map(|line| Field {
        name: span(text, line.name.as_bytes()),
        value: if line.value.is_empty() { Span::default() } else { span(text, line.value) },
        known: Known::from_name(line.name.as_bytes()),
        nominated: false,
    }));
}

/// What the fields say about framing and the connection.
#[derive(Default)]
struct Framing {
    chunked: bool,
    length: Option<u64>,
    host: Option<Span>,
    close: bool,
    stay: bool,
    expects_continue: bool,
}

impl Framing {
    fn of(fields: &mut Fields, version: Version) -> Result<Self, HeadError> {
        let mut framing = Self::default();
        let mut nominates = false;
        for line in &fields.lines {
            let value = fields.get(line.value);
            match line.known {
                Known::ContentLength => {
                    if framing.length.is_some() {
                        return Err(HeadError::Ambiguous("more than one Content-Length"));
                    }
                    framing.length = Some(content_length(value)?);
                }
                Known::TransferEncoding => {
                    if framing.chunked {
                        return Err(HeadError::Ambiguous("more than one Transfer-Encoding"));
                    }
                    if !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(HeadError::Unsupported("only the chunked transfer coding"));
                    }
                    if version == Version::Http10 {
                        return Err(HeadError::Ambiguous("Transfer-Encoding in HTTP/1.0"));
                    }
                    framing.chunked = true;
                }
                Known::Host if framing.host.is_some() => {
                    return Err(HeadError::Ambiguous("more than one Host"));
                }
                Known::Host => framing.host = Some(line.value),
                Known::Connection => nominates |= framing.read_connection(value),
                Known::Expect => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(HeadError::Expectation);
                    }
                    // RFC 9110 §10.1.1: an expectation in HTTP/1.0 is ignored.
                    framing.expects_continue = version == Version::Http11;
                }
                _ => {}
            }
        }
        if framing.chunked && framing.length.is_some() {
            return Err(HeadError::Ambiguous("Content-Length beside Transfer-Encoding"));
        }
        if nominates {
            nominate(fields);
        }
        Ok(framing)
    }

    /// Reads one Connection field; says whether it names anything besides `close` and
    /// `keep-alive`.
    fn read_connection(&mut self, value: &[u8]) -> bool {
        let mut names = false;
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.stay = true;
            } else {
                names = true;
            }
        }
        names
    }

    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.stay)
    }

    fn request_body(&self) -> BodyLength {
        match (self.chunked, self.length) {
            (true, _) => BodyLength::Chunked,
            (false, Some(length)) => BodyLength::Exactly(length),
            (false, None) => BodyLength::None,
        }
    }

    /// RFC 9112 §6.3, in its order.
    fn response_body(&self, status: u16, method: Method) -> BodyLength {
        if method == Method::Head || status < 200 || status == 204 || status == 304 {
            return BodyLength::None;
        }
        match (self.chunked, self.length) {
            (true, _) => BodyLength::Chunked,
            (false, Some(length)) => BodyLength::Exactly(length),
            (false, None) => BodyLength::UntilClose,
        }
    }
}

/// Marks the fields that `Connection` names. Framing fields and Host are ours to decide, whoever
/// nominates them: they are rebuilt anyway.
fn nominate(fields: &mut Fields) {
    let Fields { bytes, lines } = fields;
    let get = |span: Span| &bytes[span.start as usize..(span.start + span.len) as usize];
    let marked: Vec<bool> = lines
        .iter()
        .map(|line| {
            lines.iter().filter(|other| other.known == Known::Connection).any(|connection| {
                tokens(get(connection.value)).any(|name| name.eq_ignore_ascii_case(get(line.name)))
            })
        })
        .collect();
    for (line, marked) in lines.iter_mut().zip(marked) {
        line.nominated = marked;
    }
}

/// The members of a comma-separated list.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// RFC 9110 §8.6: digits and nothing else. A list of equal values is legal to collapse, and refused
/// here, because another parser may take only one of them.
fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Ambiguous("invalid Content-Length"));
    }
    Ok(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Finds path and authority (RFC 9112 §3.2).
fn read_target(
    head: &mut RequestHead,
    text: &[u8],
    target: &[u8],
    host: Option<Span>,
) -> Result<(), HeadError> {
    if head.method == Method::Connect {
        return Err(HeadError::Unsupported("CONNECT is not served here"));
    }
    if target.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
        return Err(HeadError::Malformed("invalid request target"));
    }
    if host.is_none() && head.version == Version::Http11 {
        return Err(HeadError::Malformed("no Host"));
    }
    head.authority = host.unwrap_or_default();
    if target.starts_with(b"/") || (target == b"*" && head.method == Method::Options) {
        head.path = span(text, target);
    } else if let Some(rest) = strip_scheme(target) {
        let end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() || !path.starts_with(b"/") {
            return Err(HeadError::Malformed("invalid absolute request target"));
        }
        // RFC 9112 §3.2.2: the target's authority replaces whatever Host says.
        head.authority = span(text, authority);
        head.path = span(text, path);
    } else {
        return Err(HeadError::Malformed("invalid request target"));
    }
    check_host(head.fields.get(head.authority))
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// RFC 3986 §3.2.2: a registered name, an IPv4 address or an IPv6 literal, and a port. No user
/// information, no spaces, no slashes.
fn check_host(authority: &[u8]) -> Result<(), HeadError> {
    const BAD: HeadError = HeadError::Malformed("invalid Host");
    let (host, port) = if authority.starts_with(b"[") {
        let end = memchr::memchr(b']', authority).ok_or(BAD)?;
        let literal = &authority[1..end];
        if literal.is_empty()
            || !literal.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
        {
            return Err(BAD);
        }
        (&b""[..], &authority[end + 1..])
    } else {
        let colon = memchr::memchr(b':', authority).unwrap_or(authority.len());
        authority.split_at(colon)
    };
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(b);
    let port_ok = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if host.iter().all(is_name) && port_ok { Ok(()) } else { Err(BAD) }
}
