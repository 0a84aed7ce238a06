//! Who is asked for what: the request target and Host (RFC 9112 §3.2, RFC 9110 §7.1 and §7.2).

use std::net::Ipv6Addr;

use crate::proxy::wire::head::{Fields, Span};
use crate::proxy::wire::http1::HeadError;
use crate::proxy::wire::{Method, RequestHead, Version};

const BAD_TARGET: HeadError = HeadError::Malformed("invalid request target");
const BAD_HOST: HeadError = HeadError::Malformed("invalid Host");

/// Finds path and authority of a request whose target is visible ASCII.
///
/// # Errors
/// If the target has none of the four forms, or the host is missing or invalid.
pub fn read(
    head: &mut RequestHead,
    target: Span,
    host: Option<Span>,
    allow_connect: bool,
) -> Result<(), HeadError> {
    if head.method == Method::Connect && !allow_connect {
        return Err(HeadError::Unsupported("CONNECT is not served here"));
    }
    match host {
        // An http URI has a host (RFC 9110 §4.2.1), so an empty one is as good as none.
        Some(host) => check_authority(head.fields.get(host), false)?,
        None if head.version == Version::Http11 => return Err(HeadError::Malformed("no Host")),
        None => {}
    }
    head.authority = host.unwrap_or_default();
    let text = head.fields.get(target);
    if head.method == Method::Connect {
        check_authority(text, true)?;
        head.authority = target;
        head.path = Span::default();
    } else if text.starts_with(b"/") || (text == b"*" && head.method == Method::Options) {
        head.path = target;
    } else {
        let scheme = scheme_len(text).ok_or(BAD_TARGET)?;
        let rest = &text[scheme..];
        let end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        check_authority(&rest[..end], false).map_err(|_| BAD_TARGET)?;
        let start = target.start + scheme as u32;
        // RFC 9112 §3.2.2: the target's authority replaces whatever Host says.
        head.authority = Span { start, len: end as u32 };
        let path = Span { start: start + end as u32, len: (rest.len() - end) as u32 };
        head.path = origin_form(&mut head.fields, path, head.method);
    }
    Ok(())
}

/// What follows the authority of an absolute target, as it is sent on: an empty path is `/`, and
/// `*` where OPTIONS asks for nothing more (RFC 9112 §3.2.1 and §3.2.4).
fn origin_form(fields: &mut Fields, path: Span, method: Method) -> Span {
    let text = fields.get(path);
    if text.starts_with(b"/") {
        return path;
    }
    let first = if text.is_empty() && method == Method::Options { b'*' } else { b'/' };
    let start = fields.bytes.len() as u32;
    fields.bytes.push(first);
    let query = path.start as usize..(path.start + path.len) as usize;
    fields.bytes.extend_from_within(query);
    Span { start, len: path.len + 1 }
}

fn scheme_len(target: &[u8]) -> Option<usize> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(scheme.len())
    })
}

/// RFC 3986 §3.2.2: a registered name, an IPv4 address or an IPv6 literal, and a port. No user
/// information, no spaces, no slashes; and no comma, which RFC 3986 would let stand in a name, but
/// with which two Host fields are joined.
///
/// # Errors
/// If it is anything else.
pub fn check_authority(authority: &[u8], needs_port: bool) -> Result<(), HeadError> {
    let (host_ok, port) = if authority.starts_with(b"[") {
        let end = memchr::memchr(b']', authority).ok_or(BAD_HOST)?;
        let literal = std::str::from_utf8(&authority[1..end]).map_err(|_| BAD_HOST)?;
        (literal.parse::<Ipv6Addr>().is_ok(), &authority[end + 1..])
    } else {
        let colon = memchr::memchr(b':', authority).unwrap_or(authority.len());
        let (host, port) = authority.split_at(colon);
        (is_name(host), port)
    };
    let port_ok = match port {
        [] | [b':'] => !needs_port,
        [b':', digits @ ..] => is_port(digits),
        _ => false,
    };
    if host_ok && port_ok { Ok(()) } else { Err(BAD_HOST) }
}

/// `1*( unreserved / pct-encoded / sub-delims )`.
fn is_name(host: &[u8]) -> bool {
    const PLAIN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            table[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let others = b"-._~!$&'()*+;=";
        let mut at = 0;
        while at < others.len() {
            table[others[at] as usize] = true;
            at += 1;
        }
        table
    };
    let mut rest = host;
    loop {
        rest = match rest {
            [] => return !host.is_empty(),
            [b'%', a, b, rest @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if PLAIN[usize::from(*byte)] => rest,
            _ => return false,
        };
    }
}

fn is_port(digits: &[u8]) -> bool {
    let value = |digits: &[u8]| digits.iter().fold(0, |sum, d| sum * 10 + u32::from(d - b'0'));
    digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) && value(digits) <= 65_535
}
