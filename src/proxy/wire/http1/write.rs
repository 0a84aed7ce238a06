//! Writing HTTP/1.1 heads, fresh: framing, Host and what instances are told of the client are ours;
//! nothing that speaks to one hop passes to the next.

use crate::proxy::wire::head::{Field, Fields, Known};
use crate::proxy::wire::{BodyLength, RequestHead, ResponseHead, Version};

/// What we tell the instance about the client.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded<'a> {
    /// The client's address, as text.
    pub client: &'a str,
    /// What the client spoke with us: `http` or `https`.
    pub scheme: &'a str,
}

/// Writes the request that goes to the instance. Host, framing and `X-Forwarded-*` are ours; fields
/// that speak to this hop stay here.
pub fn write_request(head: &RequestHead, forwarded: Forwarded<'_>, out: &mut Vec<u8>) {
    let fields = &head.fields;
    out.extend_from_slice(fields.get(head.method_name));
    out.push(b' ');
    out.extend_from_slice(fields.get(head.path));
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(fields.get(head.authority));
    out.extend_from_slice(b"\r\n");
    for line in &fields.lines {
        let ours = matches!(
            line.known,
            Known::Host
                | Known::Expect
                | Known::Forwarded
                | Known::XForwardedFor
                | Known::XForwardedHost
                | Known::XForwardedProto
        );
        if !(ours || line.nominated || line.known.is_hop_by_hop()) {
            write_line(fields, line, out);
        }
    }
    for (name, value) in [
        ("x-forwarded-for: ", forwarded.client.as_bytes()),
        ("x-forwarded-proto: ", forwarded.scheme.as_bytes()),
        ("x-forwarded-host: ", fields.get(head.authority)),
    ] {
        if !value.is_empty() {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }
    write_length(head.body, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes the response that goes to the client; `body` is how its body will be framed there, and
/// `keep_alive` whether the connection stays.
pub fn write_response(
    head: &ResponseHead,
    body: BodyLength,
    keep_alive: bool,
    client: Version,
    out: &mut Vec<u8>,
) {
    let fields = &head.fields;
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(u64::from(head.status), out);
    out.push(b' ');
    out.extend_from_slice(fields.get(head.reason));
    out.extend_from_slice(b"\r\n");
    for line in &fields.lines {
        // Without a body of its own (HEAD, 304), Content-Length tells of the body that would be; a
        // 204 has none that could be (RFC 9110 §8.6).
        let describes =
            body == BodyLength::None && head.status != 204 && line.known == Known::ContentLength;
        if describes || !(line.nominated || line.known.is_hop_by_hop()) {
            write_line(fields, line, out);
        }
    }
    write_length(body, out);
    match (keep_alive, client) {
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, Version::Http11) => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn write_line(fields: &Fields, line: &Field, out: &mut Vec<u8>) {
    out.extend_from_slice(fields.get(line.name));
    out.extend_from_slice(b": ");
    out.extend_from_slice(fields.get(line.value));
    out.extend_from_slice(b"\r\n");
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
