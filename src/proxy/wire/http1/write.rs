//! Writing HTTP/1.1 heads, fresh: framing, Host and what instances are told of the client are ours;
//! nothing that speaks to one hop passes to the next. What route and pool edit comes last, and may
//! touch everything but framing.

use std::io::Write;
use std::net::SocketAddr;
use std::ops::Range;

use crate::model::{ForwardedStyle, Rewrite, Template};
use crate::proxy::rewrite::{Edits, Facts, RequestId, poses_as_verified};
use crate::proxy::wire::head::{Field, Fields, Known};
use crate::proxy::wire::{BodyLength, ResponseHead, Version};

/// Where a request goes on to.
#[derive(Clone, Copy, Debug)]
pub struct Onward<'a> {
    /// What the pool changes in it.
    pub pool: &'a Rewrite,
    /// Where the instance listens: the host of a request that names none (HTTP/1.0).
    pub address: SocketAddr,
    /// The client waits for the instance's `100 Continue`.
    pub expect: bool,
}

impl Onward<'_> {
    /// What is changed in the request.
    pub fn edits<'e>(&'e self, facts: &Facts<'e>) -> Edits<'e> {
        Edits::new(&facts.route.request, &self.pool.request)
    }
}

/// Writes the request that goes to an instance.
pub fn write_request(facts: &Facts<'_>, onward: &Onward<'_>, out: &mut Vec<u8>) {
    let head = facts.head;
    let fields = &head.fields;
    let edits = onward.edits(facts);
    out.extend_from_slice(fields.get(head.method_name));
    out.push(b' ');
    // CONNECT asks for an authority and has no path.
    let target = if head.path.len == 0 { head.authority } else { head.path };
    out.extend_from_slice(fields.get(target));
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    write_authority(facts, onward, &edits, out);
    out.extend_from_slice(b"\r\n");
    write_request_fields(facts, onward, &edits, head.body, out);
    if let Some(protocol) = head.upgrade {
        write_switch(fields.get(protocol), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes whom the instance is asked for: the value of Host, or `:authority`.
pub fn write_authority(
    facts: &Facts<'_>,
    onward: &Onward<'_>,
    edits: &Edits<'_>,
    out: &mut Vec<u8>,
) {
    let authority = facts.head.authority;
    // There is exactly one Host (RFC 9112 §3.2), whatever is edited.
    match edits.added().filter(|(name, _)| *name == "host").last() {
        Some((_, template)) => facts.render(template, out),
        None if authority.len == 0 => {
            // Writing to memory cannot fail.
            let _ = write!(out, "{}", onward.address);
        }
        None => out.extend_from_slice(facts.head.fields.get(authority)),
    }
}

/// Writes the field lines of a request, whatever version of HTTP it goes on in: all but Host and what
/// speaks of the connection. `body` is how the body will be framed.
pub fn write_request_fields(
    facts: &Facts<'_>,
    onward: &Onward<'_>,
    edits: &Edits<'_>,
    body: BodyLength,
    out: &mut Vec<u8>,
) {
    let head = facts.head;
    let fields = &head.fields;
    let made_id = match (facts.request_id, &facts.listener.request_id) {
        (Some(RequestId::Made(_)), Some(name)) => name.as_bytes(),
        _ => b"",
    };
    let told = facts.trusted && speaks_x(facts.listener.forwarded);
    let hops = head.max_forwards();
    copy_lines(fields, out, |line| {
        let name = fields.get(line.name);
        let counted = line.known == Known::MaxForwards && hops.is_some();
        let stays = !line.nominated && !counted && passes(line.known, told);
        stays
            && !edits.drops(name)
            && !name.eq_ignore_ascii_case(made_id)
            && !poses_as_verified(facts.listener, name)
    });
    write_told(facts, edits, out);
    for (name, template) in edits.added().filter(|(name, _)| *name != "host") {
        write_edit(facts, name, template, out);
    }
    if let Some(hops) = hops {
        out.extend_from_slice(b"max-forwards: ");
        write_number(hops.saturating_sub(1), out);
        out.extend_from_slice(b"\r\n");
    }
    if onward.expect {
        write_field(b"expect", b"100-continue", out);
    }
    write_length(body, out);
}

/// Offers another protocol, or agrees to one (RFC 9110 §7.8).
fn write_switch(protocol: &[u8], out: &mut Vec<u8>) {
    write_field(b"connection", b"upgrade", out);
    write_field(b"upgrade", protocol, out);
}

/// Whether a field of a request passes to the instance as it is. `told` says whether a trusted peer
/// tells of the client in `X-Forwarded-Proto` and `-Host`: it knows better than we do.
fn passes(known: Known, told: bool) -> bool {
    match known {
        Known::Other => true,
        Known::XForwardedHost | Known::XForwardedProto => told,
        Known::Host | Known::Expect | Known::Forwarded | Known::XForwardedFor => false,
        other => !other.is_hop_by_hop(),
    }
}

fn speaks_x(style: ForwardedStyle) -> bool {
    matches!(style, ForwardedStyle::XForwarded | ForwardedStyle::Both)
}

/// What instances are told of the client, and of the way that the request has come.
fn write_told(facts: &Facts<'_>, edits: &Edits<'_>, out: &mut Vec<u8>) {
    let Facts { head, listener, .. } = facts;
    let fields = &head.fields;
    let style = listener.forwarded;
    if speaks_x(style) {
        let came = |known| facts.trusted && lines_of(fields, known).next().is_some();
        if !edits.drops(b"x-forwarded-for") {
            out.extend_from_slice(b"x-forwarded-for: ");
            write_list_that_came(facts, Known::XForwardedFor, out);
            out.extend_from_slice(facts.client.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if !edits.drops(b"x-forwarded-proto") && !came(Known::XForwardedProto) {
            write_field(b"x-forwarded-proto", facts.scheme.as_bytes(), out);
        }
        let host = fields.get(head.authority);
        if !edits.drops(b"x-forwarded-host") && !came(Known::XForwardedHost) && !host.is_empty() {
            write_field(b"x-forwarded-host", host, out);
        }
    }
    if matches!(style, ForwardedStyle::Rfc7239 | ForwardedStyle::Both) && !edits.drops(b"forwarded")
    {
        write_forwarded(facts, out);
    }
    let verified =
        facts.client_subject.zip(listener.tls.as_ref().and_then(|it| it.subject_field()));
    if let Some((subject, name)) = verified.filter(|(_, name)| !edits.drops(name.as_bytes())) {
        write_field(name.as_bytes(), subject.as_bytes(), out);
    }
    // A member of a list may have a line of its own (RFC 9110 §5.3): it comes behind those that came.
    if !edits.drops(b"via") {
        out.extend_from_slice(match head.version {
            Version::Http2 => b"via: 2.0 tidegate\r\n",
            Version::Http11 => b"via: 1.1 tidegate\r\n",
            Version::Http10 => b"via: 1.0 tidegate\r\n",
        });
    }
    if let (Some(id @ RequestId::Made(_)), Some(name)) = (&facts.request_id, &listener.request_id)
        && !edits.drops(name.as_bytes())
    {
        write_field(name.as_bytes(), id.as_bytes(), out);
    }
}

/// `Forwarded` (RFC 7239 §4): what a trusted peer has told, and the client as we see it.
fn write_forwarded(facts: &Facts<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"forwarded: ");
    let start = out.len();
    write_list_that_came(facts, Known::Forwarded, out);
    if ends_in_quotes(&out[start..]) {
        // What we have to say would be part of somebody's quoted string.
        out.truncate(start);
    }
    out.extend_from_slice(b"for=");
    if facts.client.contains(':') {
        // RFC 7239 §6: an IPv6 address is in brackets, and so in quotes.
        out.extend_from_slice(b"\"[");
        out.extend_from_slice(facts.client.as_bytes());
        out.extend_from_slice(b"]\"");
    } else {
        out.extend_from_slice(facts.client.as_bytes());
    }
    let host = facts.head.fields.get(facts.head.authority);
    if !host.is_empty() {
        out.extend_from_slice(b";host=");
        write_token_or_quoted(host, out);
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(facts.scheme.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The values of a list that a trusted peer has sent, each with a comma behind it.
fn write_list_that_came(facts: &Facts<'_>, known: Known, out: &mut Vec<u8>) {
    if !facts.trusted {
        return;
    }
    let fields = &facts.head.fields;
    for line in lines_of(fields, known).filter(|line| line.value.len > 0) {
        out.extend_from_slice(fields.get(line.value));
        out.extend_from_slice(b", ");
    }
}

fn lines_of(fields: &Fields, known: Known) -> impl Iterator<Item = &Field> {
    fields.lines.iter().filter(move |line| line.known == known && !line.nominated)
}

/// Whether a quoted string (RFC 9110 §5.6.4) is still open at the end.
fn ends_in_quotes(list: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for byte in list {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    quoted
}

fn write_token_or_quoted(value: &[u8], out: &mut Vec<u8>) {
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if value.iter().all(in_token) {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Writes the response that goes to the client; `body` is how its body will be framed there, and
/// `keep_alive` whether the connection stays.
pub fn write_response(
    head: &ResponseHead,
    body: BodyLength,
    keep_alive: bool,
    facts: &Facts<'_>,
    pool: &Rewrite,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(u64::from(head.status), out);
    out.push(b' ');
    out.extend_from_slice(head.fields.get(head.reason));
    out.extend_from_slice(b"\r\n");
    write_response_fields(head, body, facts, pool, out);
    match head.upgrade {
        Some(protocol) => write_switch(head.fields.get(protocol), out),
        None => write_connection(keep_alive, facts.head.version, out),
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the field lines of a response, whatever version of HTTP the client speaks: all but what speaks
/// of the connection. `body` is how its body will be framed.
pub fn write_response_fields(
    head: &ResponseHead,
    body: BodyLength,
    facts: &Facts<'_>,
    pool: &Rewrite,
    out: &mut Vec<u8>,
) {
    let fields = &head.fields;
    let edits = Edits::new(&facts.route.response, &pool.response);
    let mut dated = head.status < 200;
    copy_lines(fields, out, |line| {
        let name = fields.get(line.name);
        // Without a body of its own (HEAD, 304), Content-Length tells of the body that would be; a
        // 204 has none that could be (RFC 9110 §8.6).
        let describes =
            body == BodyLength::None && head.status != 204 && line.known == Known::ContentLength;
        dated |= name.eq_ignore_ascii_case(b"date");
        describes || !(line.nominated || line.known.is_hop_by_hop() || edits.drops(name))
    });
    if !dated && !edits.drops(b"date") {
        // Whoever passes on a response without a date adds the time that it came (RFC 9110 §6.6.1).
        write_field(b"date", &facts.date, out);
    }
    for (name, template) in edits.added() {
        write_edit(facts, name, template, out);
    }
    write_length(body, out);
}

/// Writes the lines that stay. Neighbours that came as we would write them are copied in one go.
fn copy_lines(fields: &Fields, out: &mut Vec<u8>, mut stays: impl FnMut(&Field) -> bool) {
    let mut run = 0..0;
    for line in &fields.lines {
        if !stays(line) {
            continue;
        }
        let whole = whole_line(fields, line);
        match &whole {
            Some(whole) if whole.start == run.end => run.end = whole.end,
            _ => {
                out.extend_from_slice(&fields.bytes[run]);
                run = whole.clone().unwrap_or(0..0);
            }
        }
        if whole.is_none() {
            write_field(fields.get(line.name), fields.get(line.value), out);
        }
    }
    out.extend_from_slice(&fields.bytes[run]);
}

/// Where `name: value CRLF` stands in the head as it came, if it stands there just so.
fn whole_line(fields: &Fields, line: &Field) -> Option<Range<usize>> {
    let colon = (line.name.start + line.name.len) as usize;
    let value = line.value.start as usize;
    let end = value + line.value.len as usize;
    let just_so = value == colon + 2
        && fields.bytes[colon..].starts_with(b": ")
        && fields.bytes[end..].starts_with(b"\r\n");
    just_so.then_some(line.name.start as usize..end + 2)
}

/// Writes a field that route or pool add.
pub fn write_edit(facts: &Facts<'_>, name: &str, template: &Template, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    facts.render(template, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes one field line.
pub fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Says whether the connection stays, where the client's version does not say so already. What is said of
/// it in HTTP/2 is no field.
pub fn write_connection(keep_alive: bool, client: Version, out: &mut Vec<u8>) {
    match (keep_alive, client) {
        (_, Version::Http2) | (true, Version::Http11) => {}
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
    }
}

fn write_length(body: BodyLength, out: &mut Vec<u8>) {
    match body {
        BodyLength::Exactly(length) => {
            out.extend_from_slice(b"content-length: ");
            write_number(length, out);
            out.extend_from_slice(b"\r\n");
        }
        BodyLength::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        BodyLength::None | BodyLength::UntilClose => {}
    }
}

/// Writes a decimal number without the detour over a formatter.
pub fn write_number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests;
