//! How a line of the access log looks. Pure.
//!
//! Nothing that a client wrote can end a line, a field of it, or steer a terminal. In JSON what is no
//! UTF-8 becomes U+FFFD, and control characters are escaped, also those that JSON would allow. In the
//! combined format all but printable ASCII is `\xHH`, as nginx has it.

use std::io::Write;

use jiff::Timestamp;
use jiff::tz::Offset;

use crate::observe::access::Account;

/// Which format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// One JSON object.
    Json,
    /// The combined log format of Apache and nginx: the common one, and the fields `Referer` and
    /// `User-Agent`.
    Combined,
}

/// What a client asked for over HTTP, as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a [u8],
    /// Host and port; empty if it did not say.
    pub host: &'a [u8],
    /// Path and query; empty for CONNECT.
    pub target: &'a [u8],
    /// The value of `Referer`.
    pub referer: Option<&'a [u8]>,
    /// The value of `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
}

/// What a line tells.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// The listener.
    pub listener: &'a str,
    /// The client's address.
    pub client: &'a str,
    /// What the client speaks: `HTTP/1.1`, `tcp`.
    pub protocol: &'static str,
    /// What it asked for; `None` of what asks for nothing, and of a head that could not be read.
    pub request: Option<Request<'a>>,
    /// What became of it.
    pub account: &'a Account,
}

/// The second that was written last: most lines are of the same one.
#[derive(Debug, Default)]
pub struct Stamp {
    second: Option<u64>,
    text: String,
}

impl Stamp {
    /// The second in this style, up to the end of the year 9999.
    fn of(&mut self, second: u64, style: Style) -> &str {
        if self.second != Some(second) {
            let format = match style {
                Style::Json => "%Y-%m-%dT%H:%M:%S",
                Style::Combined => "%d/%b/%Y:%H:%M:%S +0000",
            };
            let at = i64::try_from(second).ok().and_then(|at| Timestamp::from_second(at).ok());
            let at = Offset::UTC.to_datetime(at.unwrap_or(Timestamp::MAX));
            self.text = at.strftime(format).to_string();
            self.second = Some(second);
        }
        &self.text
    }
}

/// Writes a line with its end. A stamp stays with one style.
pub fn write(line: &Line<'_>, style: Style, stamp: &mut Stamp, out: &mut Vec<u8>) {
    match style {
        Style::Json => write_json(line, stamp, out),
        Style::Combined => write_combined(line, stamp, out),
    }
    out.push(b'\n');
}

fn write_json(line: &Line<'_>, stamp: &mut Stamp, out: &mut Vec<u8>) {
    let Line { account, request, .. } = line;
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(stamp.of(line.began_ms / 1000, Style::Json).as_bytes());
    // Writing to memory cannot fail, here and below.
    let _ = write!(out, ".{:03}Z\"", line.began_ms % 1000);
    text("listener", line.listener.as_bytes(), out);
    text("client", line.client.as_bytes(), out);
    if let Some(request) = request {
        text("method", request.method, out);
        text("host", request.host, out);
        text("path", request.target, out);
    }
    text("protocol", line.protocol.as_bytes(), out);
    if account.status != 0 {
        number("status", account.status.into(), out);
    }
    number("bytes_in", account.bytes_in, out);
    number("bytes_out", account.bytes_out, out);
    milliseconds("duration_ms", line.took_us, out);
    if !account.route.is_empty() {
        text("route", account.route.as_bytes(), out);
    }
    if let Some(pool) = &account.pool {
        text("pool", pool.as_str().as_bytes(), out);
        number("attempts", account.attempts.into(), out);
        milliseconds("wait_ms", micros(account.waited), out);
    }
    if let Some(instance) = &account.instance {
        text("instance", instance.id.as_str().as_bytes(), out);
        text("zone", instance.zone.as_str().as_bytes(), out);
        out.extend_from_slice(if account.reused {
            b",\"reused\":true"
        } else {
            b",\"reused\":false"
        });
    }
    text("pick", account.pick.as_bytes(), out);
    if let Some(failure) = account.failure {
        text("failure", failure.as_bytes(), out);
    }
    if !account.request_id.is_empty() {
        text("request_id", &account.request_id, out);
    }
    if let Some(request) = request {
        for (name, value) in [("user_agent", request.user_agent), ("referer", request.referer)] {
            if let Some(value) = value {
                text(name, value, out);
            }
        }
    }
    out.push(b'}');
}

/// `client - - [time] "METHOD target PROTOCOL" status body-bytes "referer" "user agent"`. Of a TCP
/// connection the request is `CONNECT pool TCP`, and the status what nginx' stream module has: 200, or
/// 502 if it failed.
fn write_combined(line: &Line<'_>, stamp: &mut Stamp, out: &mut Vec<u8>) {
    let Line { account, request, .. } = line;
    out.extend_from_slice(line.client.as_bytes());
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(stamp.of(line.began_ms / 1000, Style::Combined).as_bytes());
    out.extend_from_slice(b"] \"");
    let mut status = account.status;
    match (request, &account.pool) {
        (Some(request), _) => {
            hexed(request.method, out);
            out.push(b' ');
            hexed(if request.target.is_empty() { request.host } else { request.target }, out);
            out.push(b' ');
            out.extend_from_slice(line.protocol.as_bytes());
        }
        (None, Some(pool)) => {
            out.extend_from_slice(b"CONNECT ");
            hexed(pool.as_str().as_bytes(), out);
            out.extend_from_slice(b" TCP");
            status = if account.failure.is_some() { 502 } else { 200 };
        }
        (None, None) => out.push(b'-'),
    }
    let _ = write!(out, "\" {status:03} {} \"", account.body_out);
    let fields = request.map_or([None; 2], |request| [request.referer, request.user_agent]);
    for (field, end) in fields.into_iter().zip(["\" \"", "\""]) {
        hexed(field.unwrap_or(b"-"), out);
        out.extend_from_slice(end.as_bytes());
    }
}

/// In whole microseconds.
pub fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn name(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(key: &str, value: u64, out: &mut Vec<u8>) {
    name(key, out);
    let _ = write!(out, "{value}");
}

fn milliseconds(key: &str, us: u64, out: &mut Vec<u8>) {
    name(key, out);
    let _ = write!(out, "{}", us / 1000);
    if !us.is_multiple_of(1000) {
        let _ = write!(out, ".{:03}", us % 1000);
    }
}

fn text(key: &str, value: &[u8], out: &mut Vec<u8>) {
    name(key, out);
    out.push(b'"');
    if value.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        out.extend_from_slice(value);
    } else {
        escaped(value, out);
    }
    out.push(b'"');
}

/// What stands in a JSON string.
fn escaped(value: &[u8], out: &mut Vec<u8>) {
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                // Some readers end lines at the last two, and terminals obey the second half of the
                // control characters too.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// What stands in a quoted part of a combined line.
fn hexed(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'"' | b'\\' | 0..b' ' | 0x7f.. => {
                let _ = write!(out, "\\x{byte:02X}");
            }
            plain => out.push(*plain),
        }
    }
}
