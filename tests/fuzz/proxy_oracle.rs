//! A second reader of the PROXY protocol, written to be obvious: it waits for the whole header and
//! takes it apart with the standard library. It shares no code with the codec.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What came of the first bytes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// The ends that it names, if it names any, and its length.
    Whole(Option<(SocketAddr, SocketAddr)>, usize),
    Broken,
    /// Cut off; what is there may be right or not.
    Cut,
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads a header of either version.
pub fn header(input: &[u8]) -> Told {
    let starts = |start: &[u8]| input.iter().zip(start).all(|(one, other)| one == other);
    match (starts(b"PROXY "), starts(SIGNATURE)) {
        (true, _) => line(input),
        (_, true) => binary(input),
        _ => Told::Broken,
    }
}

fn line(input: &[u8]) -> Told {
    let seen = &input[..input.len().min(107)];
    let Some(end) = seen.windows(2).position(|two| two == b"\r\n") else {
        return if seen.len() == 107 { Told::Broken } else { Told::Cut };
    };
    let line = &seen[..end];
    if line.contains(&b'\r') || line.contains(&b'\n') {
        return Told::Broken;
    }
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    if words[1] == b"UNKNOWN" {
        return Told::Whole(None, end + 2);
    }
    let Ok(words) =
        words.iter().map(|word| std::str::from_utf8(word)).collect::<Result<Vec<_>, _>>()
    else {
        return Told::Broken;
    };
    let [_, family, source, destination, from, to] = words[..] else { return Told::Broken };
    let ip = |text: &str| match family {
        "TCP4" => v4(text),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    match (ip(source), ip(destination), number(from, 65_535), number(to, 65_535)) {
        (Some(source), Some(destination), Some(from), Some(to)) => {
            let ends = (SocketAddr::new(source, from), SocketAddr::new(destination, to));
            Told::Whole(Some(ends), end + 2)
        }
        _ => Told::Broken,
    }
}

/// A number as it is printed, and no other way to write it.
fn number(text: &str, most: u16) -> Option<u16> {
    let number: u16 = text.parse().ok()?;
    (number.to_string() == text && number <= most).then_some(number)
}

fn v4(text: &str) -> Option<IpAddr> {
    let bytes: Option<Vec<u8>> =
        text.split('.').map(|part| number(part, 255).map(|byte| byte as u8)).collect();
    <[u8; 4]>::try_from(bytes?).ok().map(IpAddr::from)
}

fn binary(input: &[u8]) -> Told {
    if input.len() < 16 {
        return Told::Cut;
    }
    let len = 16 + 256 * usize::from(input[14]) + usize::from(input[15]);
    if !matches!(input[12], 0x20 | 0x21) || len > 4096 {
        return Told::Broken;
    }
    if input.len() < len {
        return Told::Cut;
    }
    if input[12] == 0x20 {
        return Told::Whole(None, len);
    }
    let said = &input[16..len];
    let pair = |size: usize, ip: fn(&[u8]) -> IpAddr| {
        let port = |at: usize| 256 * u16::from(said[at]) + u16::from(said[at + 1]);
        let (from, to) = (port(2 * size), port(2 * size + 2));
        (SocketAddr::new(ip(&said[..size]), from), SocketAddr::new(ip(&said[size..2 * size]), to))
    };
    let ipv4 = |bytes: &[u8]| IpAddr::from(<[u8; 4]>::try_from(bytes).expect("four"));
    let ipv6 = |bytes: &[u8]| IpAddr::from(<[u8; 16]>::try_from(bytes).expect("sixteen"));
    let addresses = match input[13] {
        // Nothing is said about the client, and nothing that follows is looked at.
        0x00..=0x02 | 0x10 | 0x20 | 0x30 => return Told::Whole(None, len),
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Told::Broken,
    };
    if said.len() < addresses || !extensions_fit(&input[..len], 16 + addresses) {
        return Told::Broken;
    }
    let ends = match addresses {
        12 => Some(pair(4, ipv4)),
        36 => Some(pair(16, ipv6)),
        _ => None,
    };
    Told::Whole(ends, len)
}

/// Whether extensions fill the rest, and a checksum among them (at most one) is right.
fn extensions_fit(header: &[u8], start: usize) -> bool {
    let mut rest = &header[start..];
    let mut zeroed = header.to_vec();
    let mut stated = Vec::new();
    while !rest.is_empty() {
        if rest.len() < 3 {
            return false;
        }
        let len = 3 + 256 * usize::from(rest[1]) + usize::from(rest[2]);
        if rest.len() < len {
            return false;
        }
        if rest[0] == 3 {
            let at = header.len() - rest.len() + 3;
            stated.push(rest[3..len].to_vec());
            zeroed[at..at + len - 3].fill(0);
        }
        rest = &rest[len..];
    }
    match &stated[..] {
        [] => true,
        [sum] => sum[..] == crc32c(&zeroed).to_be_bytes(),
        _ => false,
    }
}

/// As the textbook divides: bit by bit from the front, each byte and the rest turned around.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut rest = u32::MAX;
    for byte in bytes {
        rest ^= u32::from(byte.reverse_bits()) << 24;
        for _ in 0..8 {
            let carry = rest >> 31 == 1;
            rest <<= 1;
            if carry {
                rest ^= 0x1EDC_6F41;
            }
        }
    }
    !rest.reverse_bits()
}
