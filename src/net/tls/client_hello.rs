//! What a TLS connection begins with (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2): read for the name that the
//! client asks for (SNI, RFC 6066 §3), without being a party to the handshake.
//!
//! Strict where two readers could see two names: whoever decides here where a connection goes, and
//! whoever ends its TLS, must have read the same. What only the other has to understand is skipped.

use std::borrow::Cow;
use std::net::IpAddr;

/// The longest hello that is read, its records included. Those of browsers with the keys of today's
/// hybrid exchanges have 2 KiB.
pub const HELLO_MAX: usize = 16 * 1024;

/// What is wrong with a hello.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct HelloError(pub &'static str);

/// A hello, as far as it is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientHello {
    /// The name that the client asks for, in lower case, without the dot that may end it; `None` if it
    /// asks for none. An IP address is none (RFC 6066 §3).
    pub server_name: Option<Box<str>>,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u16 = 0;

/// Plaintext in a record (RFC 8446 §5.1).
const RECORD_MAX: usize = 16 * 1024;

/// Reads the hello that `input` begins with; `None` if more bytes are needed (never more than
/// [`HELLO_MAX`]).
///
/// # Errors
/// If it is no TLS, broken, or too long.
pub fn parse(input: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    let message = match message(input)? {
        Some(message) => message,
        None if input.len() >= HELLO_MAX => return Err(HelloError("the hello is too long")),
        None => return Ok(None),
    };
    let mut rest = Bytes(&message);
    let version = rest.number(2)?;
    if version >> 8 != 3 {
        return Err(HelloError("an unknown version"));
    }
    rest.take(32)?;
    if rest.vector(1)?.0.len() > 32 {
        return Err(HelloError("the session's name is too long"));
    }
    let suites = rest.vector(2)?.0.len();
    if suites == 0 || suites % 2 == 1 {
        return Err(HelloError("the list of suites is broken"));
    }
    if rest.vector(1)?.0.is_empty() {
        return Err(HelloError("no way of compression is offered"));
    }
    let mut server_name = None;
    // Before TLS 1.2 there need not be extensions.
    if !rest.0.is_empty() {
        let mut extensions = rest.vector(2)?;
        let mut seen = false;
        while !extensions.0.is_empty() {
            let kind = extensions.number(2)?;
            let body = extensions.vector(2)?;
            if kind == SERVER_NAME {
                if std::mem::replace(&mut seen, true) {
                    return Err(HelloError("it asks for a name twice"));
                }
                server_name = name(body)?;
            }
        }
    }
    rest.end()?;
    Ok(Some(ClientHello { server_name }))
}

/// The body of the first handshake message, which may be split over records in any way.
fn message(input: &[u8]) -> Result<Option<Cow<'_, [u8]>>, HelloError> {
    let mut message = Cow::Borrowed(&[][..]);
    let mut rest = input;
    loop {
        let Some(fragment) = fragment(&mut rest)? else { return Ok(None) };
        if message.is_empty() {
            message = Cow::Borrowed(fragment);
        } else {
            message.to_mut().extend_from_slice(fragment);
        }
        let (len, body) = match &*message {
            [CLIENT_HELLO, a, b, c, ..] => (u32::from_be_bytes([0, *a, *b, *c]) as usize, 4),
            [CLIENT_HELLO, ..] => continue,
            _ => return Err(HelloError("it does not begin with a hello")),
        };
        if len > HELLO_MAX {
            return Err(HelloError("the hello is too long"));
        }
        match message.len() - body {
            here if here == len => {
                return Ok(Some(match message {
                    Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[body..]),
                    Cow::Owned(mut bytes) => {
                        bytes.drain(..body);
                        Cow::Owned(bytes)
                    }
                }));
            }
            // A client has nothing more to say before it was answered.
            here if here > len => return Err(HelloError("something follows the hello")),
            _ => {}
        }
    }
}

/// Takes the next record off; `None` if it is not whole. What can be told by its first bytes is told by
/// them.
fn fragment<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, HelloError> {
    if rest.first().is_some_and(|kind| *kind != HANDSHAKE) || rest.get(1).is_some_and(|it| *it != 3)
    {
        return Err(HelloError("this is not TLS"));
    }
    let [_, _, _, high, low, behind @ ..] = *rest else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    if len == 0 || len > RECORD_MAX {
        return Err(HelloError("a record is empty or too long"));
    }
    let Some((fragment, behind)) = behind.split_at_checked(len) else { return Ok(None) };
    *rest = behind;
    Ok(Some(fragment))
}

/// Reads the extension that asks for a name.
fn name(mut body: Bytes<'_>) -> Result<Option<Box<str>>, HelloError> {
    let mut names = body.vector(2)?;
    body.end()?;
    // There has never been another kind, and no list of more than one could be read alike by all.
    if names.number(1)? != HOST_NAME {
        return Err(HelloError("it asks for something that is no host"));
    }
    let name = names.vector(2)?.0;
    names.end()?;
    let Ok(name) = std::str::from_utf8(name) else {
        return Err(HelloError("the name is no text"));
    };
    if name.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(fits)
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(HelloError("the name is no host's"));
    }
    Ok(Some(name.to_ascii_lowercase().into()))
}

/// Bytes that are taken off from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) =
            self.0.split_at_checked(len).ok_or(HelloError("a length in it is wrong"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of one or two bytes.
    fn number(&mut self, bytes: usize) -> Result<u16, HelloError> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u16::from(*byte)))
    }

    /// What stands behind a length of one or two bytes.
    fn vector(&mut self, bytes: usize) -> Result<Self, HelloError> {
        let len = self.number(bytes)?;
        self.take(usize::from(len)).map(Self)
    }

    fn end(&self) -> Result<(), HelloError> {
        if self.0.is_empty() { Ok(()) } else { Err(HelloError("a length in it is wrong")) }
    }
}

#[cfg(test)]
mod tests;
