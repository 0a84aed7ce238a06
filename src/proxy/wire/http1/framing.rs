//! What the fields of a head say about its body and its connection (RFC 9112 §6 and §9).

use crate::proxy::wire::head::{Fields, Known, Span};
use crate::proxy::wire::http1::HeadError;
use crate::proxy::wire::line;
use crate::proxy::wire::{BodyLength, Method, RequestHead, ResponseHead, Version};

/// More options than this in `Connection` are refused: each is compared with the name of every field.
const OPTIONS_MAX: usize = 64;

/// What the fields of a head say.
#[derive(Default)]
pub struct Framing {
    chunked: bool,
    length: Option<u64>,
    /// Content-Length has zeros in front.
    padded: bool,
    /// The value of Host.
    pub host: Option<Span>,
    hosts: usize,
    options: usize,
    close: bool,
    stay: bool,
    /// `Connection` says `upgrade`.
    upgrade: bool,
    /// There is an Upgrade field.
    offers: bool,
    expects_continue: bool,
    expects_other: bool,
}

impl Framing {
    /// Reads the fields that matter, and marks those that `Connection` nominates.
    ///
    /// # Errors
    /// If the framing is invalid or could be understood in two ways.
    pub fn of(fields: &mut Fields, version: Version) -> Result<Self, HeadError> {
        let mut framing = Self::default();
        let mut nominates = false;
        for line in &fields.lines {
            let value = fields.get(line.value);
            match line.known {
                Known::ContentLength => framing.read_length(value)?,
                Known::TransferEncoding => framing.read_coding(value, version)?,
                Known::Host => {
                    framing.host = Some(line.value);
                    framing.hosts += 1;
                }
                Known::Connection => nominates |= framing.read_connection(value)?,
                Known::Upgrade => framing.offers = true,
                Known::Expect if value.eq_ignore_ascii_case(b"100-continue") => {
                    framing.expects_continue = true;
                }
                Known::Expect => framing.expects_other = true,
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

    fn read_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.length.is_some() {
            return Err(HeadError::Ambiguous("more than one Content-Length"));
        }
        self.length = Some(content_length(value)?);
        self.padded = value.len() > 1 && value[0] == b'0';
        Ok(())
    }

    fn read_coding(&mut self, value: &[u8], version: Version) -> Result<(), HeadError> {
        if version == Version::Http10 {
            return Err(HeadError::Ambiguous("Transfer-Encoding in HTTP/1.0"));
        }
        if self.chunked {
            return Err(HeadError::Ambiguous("more than one Transfer-Encoding"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(wrong_coding(value));
        }
        self.chunked = true;
        Ok(())
    }

    /// Reads one Connection field; says whether it names anything besides `close` and
    /// `keep-alive`.
    fn read_connection(&mut self, value: &[u8]) -> Result<bool, HeadError> {
        let mut names = false;
        for option in line::members(value) {
            self.options += 1;
            if self.options > OPTIONS_MAX {
                return Err(HeadError::Malformed("too many connection options"));
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.stay = true;
            } else {
                self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                names = true;
            }
        }
        Ok(names)
    }

    fn stays(&self, version: Version) -> bool {
        !self.close && (version >= Version::Http11 || self.stay)
    }

    fn body(&self) -> Option<BodyLength> {
        match self.length {
            _ if self.chunked => Some(BodyLength::Chunked),
            Some(length) => Some(BodyLength::Exactly(length)),
            None => None,
        }
    }

    fn has_body(&self) -> bool {
        self.chunked || self.length.is_some_and(|length| length > 0)
    }

    /// Fills in what a request's framing decides.
    ///
    /// # Errors
    /// If it is ambiguous for a request, or expects what nobody knows.
    pub fn settle_request(&self, head: &mut RequestHead) -> Result<(), HeadError> {
        if self.hosts > 1 {
            return Err(HeadError::Ambiguous("more than one Host"));
        }
        if self.padded {
            // Whoever takes it for octal reads another length.
            return Err(HeadError::Ambiguous("Content-Length with leading zeros"));
        }
        if self.has_body() && matches!(head.method, Method::Connect | Method::Trace) {
            return Err(HeadError::Ambiguous("a body where the method has none"));
        }
        if self.expects_other {
            return Err(HeadError::Expectation);
        }
        // RFC 9110 §10.1.1: an expectation in HTTP/1.0 is ignored.
        head.expects_continue = self.expects_continue && head.version >= Version::Http11;
        head.body = self.body().unwrap_or(BodyLength::None);
        head.keep_alive = self.stays(head.version);
        let may_switch = self.may_switch(head.version) && head.method != Method::Connect;
        head.upgrade = if may_switch { offered(&head.fields, head.method) } else { None };
        Ok(())
    }

    /// RFC 9110 §7.8: Upgrade counts only where Connection names it, not in HTTP/1.0, and here not
    /// beside a body: that would have to be through before the connection could switch.
    fn may_switch(&self, version: Version) -> bool {
        self.upgrade && self.offers && version == Version::Http11 && !self.has_body()
    }

    /// Fills in what a response's framing decides: RFC 9112 §6.3, in its order.
    ///
    /// # Errors
    /// If an interim response announces a body.
    pub fn settle_response(
        &self,
        head: &mut ResponseHead,
        method: Method,
        version: Version,
    ) -> Result<(), HeadError> {
        let interim = head.status < 200;
        let tunnel = method == Method::Connect && (200..300).contains(&head.status);
        if interim && self.has_body() {
            return Err(HeadError::Ambiguous("an interim response with a body"));
        }
        let empty = interim || tunnel || head.status == 204;
        head.body = if empty || method == Method::Head || head.status == 304 {
            BodyLength::None
        } else {
            self.body().unwrap_or(BodyLength::UntilClose)
        };
        // An instance that announces a body where none can be may well send it.
        let misled = empty && self.has_body();
        let ends = tunnel || misled || head.body == BodyLength::UntilClose;
        head.keep_alive = self.stays(version) && !ends;
        if empty && (self.chunked || self.length.is_some()) {
            // It tells of nothing (RFC 9110 §8.6 and §9.3.6).
            let framing = [Known::ContentLength, Known::TransferEncoding];
            head.fields.lines.retain(|line| !framing.contains(&line.known));
        }
        let switches = head.status == 101 && self.may_switch(version);
        head.upgrade = if switches { switched_to(&head.fields) } else { None };
        Ok(())
    }
}

/// Marks the fields that `Connection` names. Framing fields and Host are ours to decide, whoever
/// nominates them: they are rebuilt anyway.
fn nominate(fields: &mut Fields) {
    for at in 0..fields.lines.len() {
        let named = fields.nominates(fields.get(fields.lines[at].name));
        fields.lines[at].nominated |= named;
    }
}

/// RFC 9110 §8.6: digits and nothing else. A list of equal values is legal to collapse, and refused
/// here, because another parser may take only one of them.
fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Ambiguous("invalid Content-Length"));
    }
    Ok(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// What is wrong with a Transfer-Encoding that is not `chunked`: codings that nobody here knows are
/// one thing (501), a body whose end nobody can tell is another (400; RFC 9112 §6.1 and §6.3).
#[cold]
fn wrong_coding(value: &[u8]) -> HeadError {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if !line::members(value).all(line::is_token) {
        return HeadError::Ambiguous("invalid Transfer-Encoding");
    }
    let times = line::members(value).filter(|coding| is_chunked(coding)).count();
    let last = line::members(value).last().is_some_and(is_chunked);
    if times > 1 || (times == 1 && !last) {
        return HeadError::Ambiguous("chunked is not the last transfer coding");
    }
    HeadError::Unsupported("only the chunked transfer coding")
}

/// The first protocol that the client offers and that may be offered on. HTTP/2 is none, nor is TLS:
/// behind a switch to those come requests that nobody has looked at.
fn offered(fields: &Fields, method: Method) -> Option<Span> {
    let may = |protocol: &[u8]| {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
        let barred = ["h2c", "h2", "h3", "http", "tls"];
        is_protocol(protocol)
            && !barred.iter().any(|barred| name.eq_ignore_ascii_case(barred.as_bytes()))
            // RFC 6455 §4.1.
            && (method == Method::Get || !name.eq_ignore_ascii_case(b"websocket"))
    };
    protocols(fields).find(|protocol| may(fields.get(*protocol)))
}

/// The protocol that a 101 has switched to, if it names exactly one.
fn switched_to(fields: &Fields) -> Option<Span> {
    let mut named = protocols(fields);
    let protocol = named.next()?;
    (named.next().is_none() && is_protocol(fields.get(protocol))).then_some(protocol)
}

/// The members of all Upgrade fields.
fn protocols(fields: &Fields) -> impl Iterator<Item = Span> {
    let upgrades = fields.lines.iter().filter(|line| line.known == Known::Upgrade);
    upgrades
        .flat_map(|line| line::members(fields.get(line.value)).map(|member| fields.span_of(member)))
}

/// `token ["/" token]` (RFC 9110 §7.8).
fn is_protocol(text: &[u8]) -> bool {
    match memchr::memchr(b'/', text) {
        Some(slash) => line::is_token(&text[..slash]) && line::is_token(&text[slash + 1..]),
        None => line::is_token(text),
    }
}
