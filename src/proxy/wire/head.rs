//! Heads of requests and responses, whatever version of HTTP they came in.
//!
//! A head owns a copy of its bytes and refers to them by [`Span`]s. Both vectors are kept from one
//! message to the next, so a connection in steady state allocates nothing for its heads.

use std::time::Duration;

use crate::proxy::wire::line::members;

/// A part of a head's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

/// The methods of RFC 9110 and RFC 5789; any other is passed on as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "named by the RFC")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Patch,
    Connect,
    Other,
}

impl Method {
    /// Which of the known methods this is.
    pub fn from_bytes(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// Whether doing it twice is the same as doing it once (RFC 9110 §9.2.2), so that it may be
    /// sent again when nobody knows whether the first was heard.
    pub fn is_idempotent(self) -> bool {
        matches!(
            self,
            Self::Get | Self::Head | Self::Options | Self::Trace | Self::Put | Self::Delete
        )
    }
}

/// The versions that matter to framing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Version {
    /// HTTP/1.0: no chunks, closes unless asked to stay.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2: bodies have frames of their own, and nothing in a head speaks of the connection.
    Http2,
}

/// How long a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BodyLength {
    /// There is none.
    #[default]
    None,
    /// This many bytes; may be 0.
    Exactly(u64),
    /// Until its own end mark.
    Chunked,
    /// Until the connection is closed (responses only).
    UntilClose,
}

/// Fields that tidegate itself acts upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "named by their RFCs")]
pub enum Known {
    Connection,
    ContentLength,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    MaxForwards,
    ProxyConnection,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    /// Any other.
    Other,
}

impl Known {
    /// Which field `name` is, in whatever case.
    pub fn from_name(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Self::Te,
            4 if is("host") => Self::Host,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            7 if is("trailer") => Self::Trailer,
            9 if is("forwarded") => Self::Forwarded,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::KeepAlive,
            12 if is("max-forwards") => Self::MaxForwards,
            14 if is("content-length") => Self::ContentLength,
            14 if is("http2-settings") => Self::Http2Settings,
            15 if is("x-forwarded-for") => Self::XForwardedFor,
            16 if is("proxy-connection") => Self::ProxyConnection,
            16 if is("x-forwarded-host") => Self::XForwardedHost,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            17 if is("x-forwarded-proto") => Self::XForwardedProto,
            _ => Self::Other,
        }
    }

    /// Whether `name` is a known name with underscores for dashes. CGI and what came after it cannot
    /// tell the two apart, so such a field could pass for ours behind our back.
    pub fn is_imitated_by(name: &[u8]) -> bool {
        let mut dashed = [0; 17];
        // The lengths of the names above that have a dash.
        if !matches!(name.len(), 10 | 12 | 14..=17) || !name.contains(&b'_') {
            return false;
        }
        let dashed = &mut dashed[..name.len()];
        for (to, from) in dashed.iter_mut().zip(name) {
            *to = if *from == b'_' { b'-' } else { *from };
        }
        Self::from_name(dashed) != Self::Other
    }

    /// Speaks to the next hop only, or is rebuilt from what was understood: never copied
    /// (RFC 9110 §7.6.1).
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::ContentLength
                | Self::Http2Settings
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::Trailer
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }
}

/// One field line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name as it came.
    pub name: Span,
    /// Its value, without white space around it.
    pub value: Span,
    /// Which known field it is.
    pub known: Known,
    /// It stays on this hop: `Connection` names it, or it imitates a known field
    /// ([`Known::is_imitated_by`]).
    pub nominated: bool,
}

/// The bytes and field lines that both kinds of head have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fields {
    /// The head as it came, and behind it what had to be spelt out; spans point into it.
    pub bytes: Vec<u8>,
    /// In the order they came.
    pub lines: Vec<Field>,
}

impl Fields {
    /// The bytes of a span.
    pub fn get(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..(span.start + span.len) as usize]
    }

    /// The value of the first field called `name` (in lower case).
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.lines
            .iter()
            .find(|line| self.get(line.name).eq_ignore_ascii_case(name.as_bytes()))
            .map(|line| self.get(line.value))
    }

    /// Where `part`, which [`Fields::get`] gave, lies.
    pub fn span_of(&self, part: &[u8]) -> Span {
        let start = (part.as_ptr() as usize).wrapping_sub(self.bytes.as_ptr() as usize);
        debug_assert!(start + part.len() <= self.bytes.len(), "a part lies within its head");
        Span { start: start as u32, len: part.len() as u32 }
    }

    /// Whether a `Connection` field names `name`: neither header nor trailer fields of this name go
    /// further (RFC 9110 §7.6.1).
    pub fn nominates(&self, name: &[u8]) -> bool {
        self.lines.iter().filter(|line| line.known == Known::Connection).any(|line| {
            members(self.get(line.value)).any(|option| option.eq_ignore_ascii_case(name))
        })
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lines.clear();
    }
}

/// The head of a request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestHead {
    /// Bytes and field lines.
    pub fields: Fields,
    /// Which method.
    pub method: Method,
    /// The method's name.
    pub method_name: Span,
    /// Path and query: starts with a slash, or is `*`; empty for CONNECT, which asks for its
    /// authority alone.
    pub path: Span,
    /// Host and port that the client asked for; empty if it did not say (HTTP/1.0).
    pub authority: Span,
    /// What the client speaks.
    pub version: Version,
    /// How long the body is.
    pub body: BodyLength,
    /// Whether the client wants the connection to stay.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends its body.
    pub expects_continue: bool,
    /// The client asks to switch to this protocol (RFC 9110 §7.8), the first of its offers that may
    /// be offered on: never HTTP/2, and never beside a body.
    pub upgrade: Option<Span>,
}

impl RequestHead {
    /// The path without its query.
    pub fn path_only(&self) -> &[u8] {
        let path = self.fields.get(self.path);
        match memchr::memchr(b'?', path) {
            Some(query) => &path[..query],
            None => path,
        }
    }

    /// The value of the first cookie of this name (RFC 6265 §5.4), as it came.
    pub fn cookie(&self, name: &str) -> Option<&[u8]> {
        let is_cookie = |name: &[u8]| name.eq_ignore_ascii_case(b"cookie");
        let lines = self.fields.lines.iter().filter(|line| is_cookie(self.fields.get(line.name)));
        let mut pairs = lines.flat_map(|line| self.fields.get(line.value).split(|b| *b == b';'));
        pairs.find_map(|pair| {
            let (own, value) = pair.split_at(memchr::memchr(b'=', pair)?);
            (own.trim_ascii() == name.as_bytes()).then(|| value[1..].trim_ascii())
        })
    }

    /// How many more hops the request may take (RFC 9110 §7.6.2), this one included; only of TRACE and
    /// OPTIONS, and only if it says so in digits.
    pub fn max_forwards(&self) -> Option<u64> {
        if !matches!(self.method, Method::Trace | Method::Options) {
            return None;
        }
        let line = self.fields.lines.iter().find(|line| line.known == Known::MaxForwards)?;
        let digits = self.fields.get(line.value);
        let digits = str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
        digits?.parse().ok()
    }

    /// Whether it is a gRPC call.
    pub fn is_grpc(&self) -> bool {
        const GRPC: &[u8] = b"application/grpc";
        // Calls are POSTs: others need not be looked through.
        self.method == Method::Post
            && self.fields.value("content-type").is_some_and(|value| {
                let (kind, rest) = value.split_at(value.len().min(GRPC.len()));
                kind.eq_ignore_ascii_case(GRPC) && matches!(rest, [] | [b'+' | b';' | b' ', ..])
            })
    }

    /// How long the client of a gRPC call waits for its end, if it says so: at most eight digits and a
    /// unit.
    pub fn grpc_timeout(&self) -> Option<Duration> {
        if !self.is_grpc() {
            return None;
        }
        let (unit, digits) = self.fields.value("grpc-timeout")?.split_last()?;
        if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        Some(match unit {
            b'H' => Duration::from_secs(number * 3_600),
            b'M' => Duration::from_secs(number * 60),
            b'S' => Duration::from_secs(number),
            b'm' => Duration::from_millis(number),
            b'u' => Duration::from_micros(number),
            b'n' => Duration::from_nanos(number),
            _ => return None,
        })
    }

    /// The host without its port, as it came.
    pub fn host(&self) -> &[u8] {
        let authority = self.fields.get(self.authority);
        match memchr::memrchr(b':', authority) {
            // The last colon of an IPv6 literal is inside the brackets.
            Some(colon) if !authority[colon..].contains(&b']') => &authority[..colon],
            _ => authority,
        }
    }
}

/// The head of a response.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ResponseHead {
    /// Bytes and field lines.
    pub fields: Fields,
    /// The status code, 100 to 599.
    pub status: u16,
    /// The reason phrase.
    pub reason: Span,
    /// How long the body is.
    pub body: BodyLength,
    /// Whether the instance lets the connection stay.
    pub keep_alive: bool,
    /// The protocol that a 101 has switched to; `None` if it does not say so properly.
    pub upgrade: Option<Span>,
}
