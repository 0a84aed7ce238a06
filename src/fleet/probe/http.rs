//! The check by HTTP/1.1: what is asked, and what an answer is worth. Pure.
//!
//! An answer is judged by what matters to the check alone. How it is framed only decides whether its
//! connection can be used again, so whatever is unusual about it costs no more than that.

use std::borrow::Cow;
use std::net::SocketAddr;

use memchr::memmem;

use crate::fleet::order::ProbeError;
use crate::model::HttpCheck;

/// What of an answer is read at most: its head, and as much of its body as is looked at.
pub(super) const ANSWER_MOST: usize = 64 * 1024;

/// The bytes of the request; `last` says that its connection is not used again.
pub(super) fn request(check: &HttpCheck, address: SocketAddr, last: bool) -> Vec<u8> {
    let HttpCheck { method, path, host, headers, .. } = check;
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: ");
    match host {
        Some(host) => text.push_str(host),
        None => text.push_str(&address.to_string()),
    }
    text.push_str("\r\n");
    let mut field = |name: &str, value: &str| {
        text.extend([name, ": ", value, "\r\n"]);
    };
    let is_set = |name: &str| headers.iter().any(|(set, _)| set.eq_ignore_ascii_case(name));
    for (name, value) in [("User-Agent", "tidegate-probe"), ("Accept", "*/*")] {
        if !is_set(name) {
            field(name, value);
        }
    }
    for (name, value) in headers {
        field(name, value);
    }
    if last {
        field("Connection", "close");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// How the end of a body is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    Length(usize),
    Chunked,
    /// By the end of the connection, or in a way that is not worth knowing.
    Close,
}

/// The head of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    status: u16,
    framing: Framing,
    /// Where the body begins.
    body_at: usize,
    /// Whether the instance keeps the connection.
    keeps: bool,
}

/// The final head in `bytes`, if it is there: interim ones are passed over.
pub(super) fn head(bytes: &[u8], is_head: bool) -> Result<Option<Head>, ProbeError> {
    let mut at = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(&bytes[at..]);
        let Some(status) = response.code else {
            return if parsed.is_err() { Err(ProbeError::NotHttp) } else { Ok(None) };
        };
        match parsed {
            Ok(httparse::Status::Complete(length)) if (100..=199).contains(&status) => at += length,
            Ok(httparse::Status::Complete(length)) => {
                let (framing, keeps) = frame(&response, status, is_head);
                return Ok(Some(Head { status, framing, body_at: at + length, keeps }));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            // It says its status, and that is enough.
            Err(_) => {
                let body_at = bytes.len();
                return Ok(Some(Head { status, framing: Framing::Close, body_at, keeps: false }));
            }
        }
    }
}

/// How its body is framed, and whether another answer may follow it.
fn frame(response: &httparse::Response<'_, '_>, status: u16, is_head: bool) -> (Framing, bool) {
    let (mut length, mut coding) = (None, None);
    let mut keeps = response.version == Some(1);
    for field in response.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            let digits = std::str::from_utf8(field.value).ok();
            let digits = digits.filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            keeps &= length.is_none();
            length = Some(digits.and_then(|text| text.parse().ok()));
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            keeps &= coding.is_none();
            coding = Some(field.value.eq_ignore_ascii_case(b"chunked"));
        } else if field.name.eq_ignore_ascii_case("connection") {
            let close = field.value.to_ascii_lowercase();
            keeps &= memmem::find(&close, b"close").is_none();
        }
    }
    match (coding, length) {
        _ if is_head || matches!(status, 204 | 304) => (Framing::Length(0), keeps),
        (Some(true), None) => (Framing::Chunked, keeps),
        (None, Some(Some(length))) => (Framing::Length(length), keeps),
        _ => (Framing::Close, false),
    }
}

/// What of a body has come.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Body<'b> {
    content: Cow<'b, [u8]>,
    /// Whether that is all of it.
    pub whole: bool,
    /// Whether nothing came after it.
    exact: bool,
}

impl Head {
    /// What of the body is in `bytes`, which begin where the answer does. `ended` says that the
    /// connection has.
    pub(super) fn body<'b>(&self, bytes: &'b [u8], ended: bool) -> Body<'b> {
        let rest = &bytes[self.body_at.min(bytes.len())..];
        match self.framing {
            Framing::Length(length) => {
                let content = &rest[..length.min(rest.len())];
                let whole = content.len() == length;
                Body { content: content.into(), whole, exact: rest.len() == length }
            }
            Framing::Close => Body { content: rest.into(), whole: ended, exact: false },
            Framing::Chunked => unchunk(rest),
        }
    }

    /// Whether the connection can be used for another request once the body is whole.
    pub(super) fn can_follow(&self, body: &Body<'_>) -> bool {
        self.keeps && body.whole && body.exact
    }

    /// What the check says of the answer; `None` as long as more of it has to come.
    pub(super) fn judge(
        &self,
        check: &HttpCheck,
        body: &Body<'_>,
    ) -> Option<Result<(), ProbeError>> {
        if !check.status.iter().any(|range| range.contains(&self.status)) {
            return Some(Err(ProbeError::Status(self.status)));
        }
        match &check.body {
            Some(text) if memmem::find(&body.content, text.as_bytes()).is_none() => {
                body.whole.then_some(Err(ProbeError::Body))
            }
            _ => Some(Ok(())),
        }
    }
}

/// The content of chunks.
fn unchunk(mut rest: &[u8]) -> Body<'_> {
    let mut content = Vec::new();
    let mut trouble = false;
    let whole = loop {
        match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete((line, 0))) => {
                // Trailers are read over: they end with an empty line.
                let after = &rest[line..];
                let end = if after.starts_with(b"\r\n") {
                    Some(2)
                } else {
                    memmem::find(after, b"\r\n\r\n").map(|at| at + 4)
                };
                rest = &after[end.unwrap_or(0)..];
                break end.is_some();
            }
            Ok(httparse::Status::Complete((line, size))) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                let chunk = &rest[line..];
                content.extend_from_slice(&chunk[..size.min(chunk.len())]);
                match chunk.get(size..).and_then(|after| after.get(..2)) {
                    Some(b"\r\n") => rest = &chunk[size + 2..],
                    end => {
                        trouble = end.is_some();
                        break false;
                    }
                }
            }
            Ok(httparse::Status::Partial) => break false,
            Err(_) => {
                trouble = true;
                break false;
            }
        }
    };
    let exact = whole && rest.is_empty();
    // Nothing that makes sense is to come after nonsense.
    Body { content: content.into(), whole: whole || trouble, exact }
}

#[cfg(test)]
mod tests;
