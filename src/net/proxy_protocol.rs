//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): what a proxy says, ahead of
//! the first byte of a connection, about the client on whose behalf it connects.
//!
//! Whether a header is believed, or looked for at all, is decided elsewhere. Here it is either
//! understood to the last byte or an error: a header that two programs read differently would let a
//! client choose its address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::model::ProxyVersion;

/// The longest header that is read. Version 1 ends after 107 bytes (§2.1); version 2 could announce
/// 64 KiB, but knows no extension that comes near this.
pub const HEADER_MAX: usize = 4096;

/// The longest line of version 1, with its end (§2.1).
const LINE_MAX: usize = 107;

const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length (§2.2).
const FIXED_LEN: usize = 16;

/// The extension that carries a CRC32C of the whole header (§2.2.3).
const TYPE_CRC32C: u8 = 0x03;

/// What is wrong with a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ProxyHeaderError(pub &'static str);

/// The two ends of a client's connection to the proxy that it reached first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// A header that was understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// `None` if the connection is the proxy's own (a health check), or it says nothing about the
    /// client that means anything here (`UNKNOWN`, `AF_UNSPEC`, `AF_UNIX`): the ends of the socket
    /// count then.
    pub ends: Option<Ends>,
}

/// Whether these first bytes of a connection begin a header; `None` while there are so few that they
/// may or may not.
pub fn is_header(input: &[u8]) -> Option<bool> {
    for start in [LINE_START, SIGNATURE] {
        let seen = input.len().min(start.len());
        if input[..seen] == start[..seen] {
            return (seen == start.len()).then_some(true);
        }
    }
    Some(false)
}

/// Reads the header that `input` begins with; it and its length, or `None` if more bytes are needed
/// (never more than [`HEADER_MAX`]).
///
/// # Errors
/// If there is no header, or a broken one.
pub fn parse(input: &[u8]) -> Result<Option<(Header, usize)>, ProxyHeaderError> {
    match is_header(input) {
        None => Ok(None),
        Some(false) => Err(ProxyHeaderError("the connection does not begin with a header")),
        Some(true) if input.starts_with(LINE_START) => parse_v1(input),
        Some(true) => parse_v2(input),
    }
}

fn parse_v1(input: &[u8]) -> Result<Option<(Header, usize)>, ProxyHeaderError> {
    let seen = &input[..input.len().min(LINE_MAX)];
    let line = match seen.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(end) if seen[end..].starts_with(b"\r\n") => &seen[..end],
        // The line feed may still come.
        Some(end) if seen[end] == b'\r' && end + 1 == seen.len() && seen.len() < LINE_MAX => {
            return Ok(None);
        }
        Some(_) => return Err(ProxyHeaderError("the line does not end in CR LF")),
        None if seen.len() < LINE_MAX => return Ok(None),
        None => return Err(ProxyHeaderError("the line is too long")),
    };
    let len = line.len() + 2;
    let mut words = line[LINE_START.len()..].split(|byte| *byte == b' ');
    let ends = match words.next() {
        // Whatever else such a line says is to be ignored (§2.1).
        Some(b"UNKNOWN") => None,
        Some(b"TCP4") => Some(ends_v1::<Ipv4Addr>(words)?),
        Some(b"TCP6") => Some(ends_v1::<Ipv6Addr>(words)?),
        _ => return Err(ProxyHeaderError("unknown protocol")),
    };
    Ok(Some((Header { ends }, len)))
}

fn ends_v1<'a, A: FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a [u8]>,
) -> Result<Ends, ProxyHeaderError> {
    let mut next = || words.next().and_then(|word| std::str::from_utf8(word).ok());
    let mut address = || {
        let address = next().and_then(|word| word.parse::<A>().ok());
        address.map(Into::into).ok_or(ProxyHeaderError("invalid address"))
    };
    let (source, destination): (IpAddr, IpAddr) = (address()?, address()?);
    let mut port = || next().and_then(parse_port).ok_or(ProxyHeaderError("invalid port"));
    let (source_port, destination_port) = (port()?, port()?);
    if words.next().is_some() {
        return Err(ProxyHeaderError("words behind the ports"));
    }
    Ok(Ends {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// Decimal digits without leading zeros: some would read those as octal (§2.1).
fn parse_port(word: &str) -> Option<u16> {
    let canonical =
        word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if canonical { word.parse().ok() } else { None }
}

fn parse_v2(input: &[u8]) -> Result<Option<(Header, usize)>, ProxyHeaderError> {
    let Some(&[version_command, family_transport, high, low]) =
        input.get(SIGNATURE.len()..FIXED_LEN)
    else {
        return Ok(None);
    };
    if version_command >> 4 != 2 {
        return Err(ProxyHeaderError("unknown version"));
    }
    let local = match version_command & 0xF {
        0 => true,
        1 => false,
        _ => return Err(ProxyHeaderError("unknown command")),
    };
    let len = FIXED_LEN + usize::from(u16::from_be_bytes([high, low]));
    if len > HEADER_MAX {
        return Err(ProxyHeaderError("the header is too long"));
    }
    let Some(header) = input.get(..len) else { return Ok(None) };
    // The family of a connection of the proxy's own is to be ignored, and all that depends on it.
    let ends = if local { None } else { ends_v2(header, family_transport)? };
    Ok(Some((Header { ends }, len)))
}

fn ends_v2(header: &[u8], family_transport: u8) -> Result<Option<Ends>, ProxyHeaderError> {
    let (family, transport) = (family_transport >> 4, family_transport & 0xF);
    if family > 3 || transport > 2 {
        return Err(ProxyHeaderError("unknown address family or transport"));
    }
    let said = &header[FIXED_LEN..];
    let read = match family {
        _ if family == 0 || transport == 0 => return Ok(None),
        1 => take_ends::<4>(said).map(|(ends, rest)| (Some(ends), rest)),
        2 => take_ends::<16>(said).map(|(ends, rest)| (Some(ends), rest)),
        // Two paths of 108 bytes.
        _ => said.get(216..).map(|rest| (None, rest)),
    };
    let Some((ends, extensions)) = read else {
        return Err(ProxyHeaderError("the header is shorter than its addresses"));
    };
    check_extensions(header, header.len() - extensions.len())?;
    Ok(ends)
}

/// Source and destination, then their ports, in network order; and what follows.
fn take_ends<const N: usize>(said: &[u8]) -> Option<(Ends, &[u8])>
where
    [u8; N]: Into<IpAddr>,
{
    let (source, rest) = said.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (&[a, b, c, d], rest) = rest.split_first_chunk()?;
    let end = |ip: [u8; N], port| SocketAddr::new(ip.into(), u16::from_be_bytes(port));
    Some((Ends { source: end(*source, [a, b]), destination: end(*destination, [c, d]) }, rest))
}

/// Extensions (type, length, value) fill the rest of the header exactly; a checksum among them holds.
fn check_extensions(header: &[u8], start: usize) -> Result<(), ProxyHeaderError> {
    let mut at = start;
    let mut checksum_at = None;
    while at < header.len() {
        let Some(&[kind, high, low]) = header.get(at..at + 3) else { return Err(OVERRUN) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        at += 3;
        if at + len > header.len() {
            return Err(OVERRUN);
        }
        if kind == TYPE_CRC32C && (len != 4 || checksum_at.replace(at).is_some()) {
            return Err(ProxyHeaderError("malformed checksum"));
        }
        at += len;
    }
    match checksum_at {
        Some(at) if !checksum_holds(header, at) => Err(ProxyHeaderError("wrong checksum")),
        _ => Ok(()),
    }
}

const OVERRUN: ProxyHeaderError = ProxyHeaderError("an extension runs over the end of the header");

/// The checksum is made with its own four bytes taken for zero (§2.2.3).
fn checksum_holds(header: &[u8], at: usize) -> bool {
    let (before, rest) = header.split_at(at);
    let (stated, after) = rest.split_at(4);
    crc32c([before, &[0; 4], after]).to_be_bytes() == stated
}

/// CRC32C (Castagnoli; RFC 9260 appendix A), bit by bit: headers are short and rarely carry one.
fn crc32c(parts: [&[u8]; 3]) -> u32 {
    let bytes = parts.into_iter().flatten();
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 }
        })
    })
}

/// Writes the header for a connection between these ends, or for one whose ends are unknown.
pub fn write(version: ProxyVersion, ends: Option<Ends>, out: &mut Vec<u8>) {
    let ends = ends.map(|Ends { source, destination }| {
        let ports = (source.port(), destination.port());
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => (Pair::V4(source, destination), ports),
            // There is no header for two families: the older is written as the newer (RFC 4291 §2.5.5.2).
            (source, destination) => (Pair::V6(as_v6(source), as_v6(destination)), ports),
        }
    });
    match version {
        ProxyVersion::V1 => write_v1(ends, out),
        ProxyVersion::V2 => write_v2(ends, out),
    }
}

/// Two addresses of one family.
enum Pair {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

type Ports = (u16, u16);

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn write_v1(ends: Option<(Pair, Ports)>, out: &mut Vec<u8>) {
    let line = match ends {
        None => "PROXY UNKNOWN\r\n".to_owned(),
        Some((Pair::V4(source, destination), (from, to))) => {
            format!("PROXY TCP4 {source} {destination} {from} {to}\r\n")
        }
        Some((Pair::V6(source, destination), (from, to))) => {
            format!("PROXY TCP6 {source} {destination} {from} {to}\r\n")
        }
    };
    out.extend_from_slice(line.as_bytes());
}

fn write_v2(ends: Option<(Pair, Ports)>, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    let ports = match ends {
        None => {
            // LOCAL, of no family.
            out.extend_from_slice(&[0x20, 0x00, 0, 0]);
            return;
        }
        Some((Pair::V4(source, destination), ports)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
            ports
        }
        Some((Pair::V6(source, destination), ports)) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
            ports
        }
    };
    out.extend_from_slice(&ports.0.to_be_bytes());
    out.extend_from_slice(&ports.1.to_be_bytes());
}

#[cfg(test)]
mod tests;
