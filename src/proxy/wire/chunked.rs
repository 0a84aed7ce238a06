//! The chunked transfer coding (RFC 9112 §7.1): a decoder that is fed whatever arrives, and the
//! few bytes that encoding takes.
//!
//! Chunks are never passed on as they came: data goes out in chunks of our own, extensions are
//! read by their grammar and dropped, so a chunk line that another parser would read differently
//! cannot get through.

use crate::proxy::wire::head::{Fields, Known};
use crate::proxy::wire::line::{self, Line};

/// Longest chunk line: 15 hex digits and extensions.
const LINE_MAX: usize = 256;

/// How many bytes extensions may be ahead of the data: they carry nothing, and cost as much.
const EXTENSIONS_MAX: u64 = 8 * 1024;

/// Longest trailer section.
pub const TRAILERS_MAX: usize = 8 * 1024;

/// Most trailer fields.
pub const TRAILER_FIELDS_MAX: usize = 32;

/// What is wrong with a chunked body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ChunkError(pub &'static str);

/// Reads a chunked body.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    state: State,
    /// The size of the current chunk, as far as it is known; then what is left of it.
    size: u64,
    /// Hex digits of the size so far.
    digits: u32,
    /// Bytes seen of the current line.
    line: usize,
    /// How many bytes extensions are ahead of the data.
    extensions: u64,
    trailers: Trailers,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// The size of a chunk.
    #[default]
    Size,
    /// A chunk extension, dropped.
    Extension(Extension),
    /// After the CR of a chunk line.
    SizeLf,
    /// Inside a chunk.
    Data,
    /// After a chunk.
    DataCr,
    /// After the CR after a chunk.
    DataLf,
    /// The trailer section.
    Trailers,
    /// All of it was read.
    Done,
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 §7.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extension {
    /// White space before a semicolon.
    Before,
    /// After a semicolon.
    Semicolon,
    /// In a name.
    Name,
    /// White space after a name.
    AfterName,
    /// After an equals sign.
    Equals,
    /// In an unquoted value.
    Token,
    /// In a quoted value.
    Quoted,
    /// After a backslash in a quoted value.
    Escaped,
    /// After the closing quote.
    AfterQuoted,
}

/// The trailer section, as far as it was read.
#[derive(Clone, Debug, Default)]
struct Trailers {
    /// Lines that are kept.
    kept: Vec<u8>,
    /// What is here of a line that is not.
    partial: Vec<u8>,
    fields: usize,
    bytes: usize,
}

/// What [`Decoder::decode`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// After `skip` bytes of framing come `len` bytes of data: consume both, then decode on.
    Data {
        /// Bytes of framing before the data.
        skip: usize,
        /// Bytes of data.
        len: usize,
    },
    /// All `skip` bytes were framing; more is needed.
    More {
        /// Bytes to consume.
        skip: usize,
    },
    /// The body ends after `skip` bytes.
    End {
        /// Bytes to consume.
        skip: usize,
    },
}

impl Decoder {
    /// Reads on. The caller consumes what the answer says before it calls again.
    ///
    /// # Errors
    /// If the coding is broken; the connection is of no further use then.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, ChunkError> {
        let mut at = 0;
        while at < input.len() {
            match self.state {
                State::Data => {
                    let left = usize::try_from(self.size).unwrap_or(usize::MAX);
                    let len = left.min(input.len() - at);
                    self.size -= len as u64;
                    if self.size == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Decoded::Data { skip: at, len });
                }
                State::Trailers => {
                    let (used, done) = self.trailers.read(&input[at..])?;
                    at += used;
                    if done {
                        self.state = State::Done;
                        return Ok(Decoded::End { skip: at });
                    }
                }
                State::Done => return Ok(Decoded::End { skip: at }),
                _ => {
                    self.read_framing(input[at])?;
                    at += 1;
                }
            }
        }
        Ok(Decoded::More { skip: at })
    }

    /// Whether `input` holds data, the end of the body or an error, and not only framing after which
    /// more is needed.
    pub fn has_more_than_framing(&self, input: &[u8]) -> bool {
        !input.is_empty() && !matches!(self.clone().decode(input), Ok(Decoded::More { .. }))
    }

    /// The trailer section as `name: value CRLF` lines, once the end was found. Fields that decide
    /// about the message are not among them (RFC 9110 §6.5.1), nor are those that `Connection` in
    /// `head` nominates.
    pub fn into_trailers(self, head: &Fields) -> Vec<u8> {
        let mut kept = self.trailers.kept;
        let mut at = 0;
        while let Ok(Some(Line::Field(field))) = line::read(&kept[at..]) {
            if head.nominates(&kept[at..at + field.name]) {
                kept.drain(at..at + field.len);
            } else {
                at += field.len;
            }
        }
        kept
    }

    fn read_framing(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.line += 1;
        if self.line > LINE_MAX {
            return Err(ChunkError("chunk line too long"));
        }
        self.state = match (self.state, byte) {
            (State::Size, digit) if digit.is_ascii_hexdigit() => {
                if self.digits >= 15 {
                    return Err(ChunkError("chunk size too large"));
                }
                let digit = (digit as char).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
                self.digits += 1;
                State::Size
            }
            (State::Size, _) if self.digits == 0 => return Err(ChunkError("no chunk size")),
            (State::Size, b'\r') => State::SizeLf,
            (State::Size, b';') => State::Extension(Extension::Semicolon),
            (State::Size, b' ' | b'\t') => State::Extension(Extension::Before),
            (State::Extension(at), byte) => {
                self.extensions += 1;
                if self.extensions > EXTENSIONS_MAX {
                    return Err(ChunkError("too many chunk extensions"));
                }
                match (at, byte) {
                    (Extension::Name | Extension::Token | Extension::AfterQuoted, b'\r') => {
                        State::SizeLf
                    }
                    _ => State::Extension(at.after(byte)?),
                }
            }
            (State::SizeLf, b'\n') => {
                (self.line, self.digits) = (0, 0);
                self.extensions = self.extensions.saturating_sub(self.size);
                if self.size == 0 { State::Trailers } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line = 0;
                State::Size
            }
            _ => return Err(ChunkError("invalid chunk framing")),
        };
        Ok(())
    }
}

impl Extension {
    fn after(self, byte: u8) -> Result<Self, ChunkError> {
        let white = matches!(byte, b' ' | b'\t');
        Ok(match (self, byte) {
            (Self::Quoted, b'"') => Self::AfterQuoted,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, text) if line::is_text(text) => Self::Quoted,
            (Self::Before | Self::Semicolon | Self::AfterName | Self::Equals, _) if white => self,
            (Self::Name, _) if white => Self::AfterName,
            (Self::Token | Self::AfterQuoted, _) if white => Self::Before,
            (Self::Semicolon | Self::Name, name) if line::is_tchar(name) => Self::Name,
            (Self::Equals | Self::Token, value) if line::is_tchar(value) => Self::Token,
            (Self::Equals, b'"') => Self::Quoted,
            (Self::Name | Self::AfterName, b'=') => Self::Equals,
            (
                Self::Before | Self::Name | Self::AfterName | Self::Token | Self::AfterQuoted,
                b';',
            ) => Self::Semicolon,
            _ => return Err(ChunkError("invalid chunk extension")),
        })
    }
}

impl Trailers {
    /// Reads up to the empty line; says how much it used and whether that was all.
    fn read(&mut self, input: &[u8]) -> Result<(usize, bool), ChunkError> {
        let mut used = 0;
        while used < input.len() {
            let here = &input[used..];
            // What was cut is put together first; mostly nothing was.
            let (text, before) = if self.partial.is_empty() {
                (here, 0)
            } else {
                let end = memchr::memchr(b'\n', here).map_or(here.len(), |at| at + 1);
                let before = self.partial.len();
                self.partial.extend_from_slice(&here[..end]);
                (&self.partial[..], before)
            };
            let found = line::read(text).map_err(ChunkError)?;
            let len = match found {
                Some(Line::Field(field)) => field.len,
                Some(Line::End(len)) => len,
                None => text.len(),
            };
            self.bytes += len - before;
            used += len - before;
            if self.bytes > TRAILERS_MAX {
                return Err(ChunkError("trailers too large"));
            }
            match found {
                Some(Line::End(_)) => return Ok((used, true)),
                Some(Line::Field(field)) => {
                    self.fields += 1;
                    if self.fields > TRAILER_FIELDS_MAX {
                        return Err(ChunkError("too many trailer fields"));
                    }
                    let name = &text[..field.name];
                    if may_trail(name) {
                        for part in [name, b": ", &text[field.value..field.value_end], b"\r\n"] {
                            self.kept.extend_from_slice(part);
                        }
                    }
                    self.partial.clear();
                }
                None if before == 0 => self.partial.extend_from_slice(here),
                None => {}
            }
        }
        Ok((used, false))
    }
}

/// Whether a field may stand in a trailer section: not if it decides about framing, routing,
/// authentication, the request as a whole, or how the content is to be understood (RFC 9110 §6.5.1).
/// A recipient that merges it into the head would act on what nobody has checked.
pub fn may_trail(name: &[u8]) -> bool {
    const NOT: [&str; 36] = [
        "age",
        "authorization",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-location",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expires",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "last-modified",
        "location",
        "max-forwards",
        "origin",
        "pragma",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "range",
        "referer",
        "retry-after",
        "set-cookie",
        "set-cookie2",
        "vary",
        "via",
        "warning",
        "www-authenticate",
        "x-real-ip",
        "x-request-id",
    ];
    Known::from_name(name) == Known::Other
        && !Known::is_imitated_by(name)
        && !NOT.iter().any(|not| name.eq_ignore_ascii_case(not.as_bytes()))
}

/// Writes the line that starts a chunk of `len` bytes. After the data comes `CRLF`, after the last
/// chunk [`LAST`], trailers, and another `CRLF`.
pub fn write_chunk_line(len: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(len >> (place * 4)) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The last chunk.
pub const LAST: &[u8] = b"0\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::wire::Field;

    /// Decodes `input` in steps of at most `step` bytes; what it carried and what was left.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, usize), ChunkError> {
        let mut decoder = Decoder::default();
        let (mut data, mut at) = (Vec::new(), 0);
        loop {
            let end = (at + step).min(input.len());
            match decoder.decode(&input[at..end])? {
                Decoded::Data { skip, len } => {
                    data.extend_from_slice(&input[at + skip..at + skip + len]);
                    at += skip + len;
                }
                Decoded::More { skip } => {
                    at += skip;
                    if at == input.len() {
                        return Err(ChunkError("incomplete"));
                    }
                }
                Decoded::End { skip } => {
                    return Ok((
                        data,
                        decoder.into_trailers(&Fields::default()),
                        input.len() - at - skip,
                    ));
                }
            }
        }
    }

    #[test]
    fn bodies_are_read_however_they_are_cut() {
        let cases: [(&[u8], &[u8], &[u8]); 4] = [
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
            (b"3\r\nabc\r\n00002;x=\"y\"\r\nde\r\n0\r\n\r\n", b"abcde", b""),
            (
                b"A\r\n0123456789\r\n0\r\nx-sum: 1\r\nHost: evil\r\n\r\n",
                b"0123456789",
                b"x-sum: 1\r\n",
            ),
            (b"0\r\n\r\n", b"", b""),
        ];
        for (input, data, trailers) in cases {
            for step in 1..=input.len() {
                let expected = Ok((data.to_vec(), trailers.to_vec(), 0));
                assert_eq!(decode(input, step), expected, "{:?}", String::from_utf8_lossy(input));
            }
        }
    }

    #[test]
    fn what_follows_the_body_is_left_alone() {
        assert_eq!(decode(b"0\r\n\r\nGET /", 64), Ok((vec![], vec![], 5)));
    }

    #[test]
    fn broken_framing_is_refused() {
        for input in [
            &b"\r\n"[..],
            b"g\r\n",
            b"5\nhello",
            b"5 \r\nhello",
            b"-5\r\n",
            b"+5\r\n",
            b"0x5\r\n",
            b"5\r\nhelloX",
            b"5\r\nhello\n",
            b"5;a=\nb\r\n",
            b"5;\x01\r\n",
            b"10000000000000000\r\n",
            b"0\r\nbad trailer\r\n\r\n",
            b"0\r\na: b\n\r\n",
            b"0\r\n\n",
        ] {
            for step in [1, 64] {
                let result = decode(input, step);
                assert!(
                    result.as_ref().is_err_and(|error| error.0 != "incomplete"),
                    "{:?} gave {result:?}",
                    String::from_utf8_lossy(input)
                );
            }
        }
    }

    #[test]
    fn extensions_follow_their_grammar() {
        for (extension, right) in [
            (";a", true),
            (";a=b", true),
            (" ;\ta = \"b\\\"\t;\" ; c", true),
            (";a=\"\"", true),
            (";a=\"\u{e9}\"", true),
            (";", false),
            (";a;", false),
            (";=b", false),
            (";a=", false),
            (";a b", false),
            (";a ", false),
            (" ", false),
            (";a=\"b", false),
            (";a=\"b\"c", false),
            (";a=\"\\\"", false),
            (";\u{e9}", false),
        ] {
            let wire = format!("1{extension}\r\nx\r\n0{extension}\r\n\r\n");
            let decoded = decode(wire.as_bytes(), 3);
            assert_eq!(decoded.is_ok(), right, "{extension:?}: {decoded:?}");
        }
    }

    #[test]
    fn a_body_is_not_all_extensions() {
        let chunk =
            |size: usize| format!("{size:x};{}\r\n{}\r\n", "a".repeat(200), "x".repeat(size));
        let many = |size| chunk(size).repeat(100) + "0\r\n\r\n";
        assert_eq!(decode(many(1).as_bytes(), 64), Err(ChunkError("too many chunk extensions")));
        assert!(decode(many(200).as_bytes(), 64).is_ok());
        let long = format!("1;{}\r\nx\r\n", "a".repeat(255));
        assert_eq!(decode(long.as_bytes(), 64), Err(ChunkError("chunk line too long")));
    }

    #[test]
    fn trailers_that_decide_about_the_message_are_dropped() {
        let mut head = Fields::default();
        let field = |name: &str| format!("0\r\n{name}: 1\r\nx-kept:\t2 \r\n\r\n");
        for name in ["Host", "te", "CONTENT-LENGTH", "Cookie", "If-Match", "X_Forwarded_For", "Via"]
        {
            let expected = Ok((vec![], b"x-kept: 2\r\n".to_vec(), 0));
            assert_eq!(decode(field(name).as_bytes(), 4), expected, "{name}");
        }
        let mut decoder = Decoder::default();
        decoder.decode(field("x-hop").as_bytes()).expect("valid");
        head.bytes = b"close, X-Hop".to_vec();
        let value = crate::proxy::wire::head::Span { start: 0, len: 12 };
        let name = Default::default();
        head.lines = vec![Field { name, value, known: Known::Connection, nominated: false }];
        assert_eq!(decoder.clone().into_trailers(&Fields::default()).len(), 21);
        assert_eq!(decoder.into_trailers(&head), b"x-kept: 2\r\n");
        let many = format!("0\r\n{}\r\n", "a: b\r\n".repeat(33));
        assert_eq!(decode(many.as_bytes(), 9), Err(ChunkError("too many trailer fields")));
        let large = format!("0\r\na: {}\r\n\r\n", "b".repeat(8192));
        assert_eq!(decode(large.as_bytes(), 99), Err(ChunkError("trailers too large")));
    }

    #[test]
    fn chunk_lines() {
        for (len, line) in [(1, "1\r\n"), (16, "10\r\n"), (0xabc, "abc\r\n"), (16_384, "4000\r\n")]
        {
            let mut out = Vec::new();
            write_chunk_line(len, &mut out);
            assert_eq!(out, line.as_bytes());
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_encoded_decodes_to_itself(
            chunks in proptest::collection::vec(
                proptest::collection::vec(proptest::num::u8::ANY, 1..300), 0..6),
            step in 1usize..700,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                write_chunk_line(chunk.len(), &mut wire);
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(LAST);
            wire.extend_from_slice(b"\r\n");
            proptest::prop_assert_eq!(decode(&wire, step), Ok((chunks.concat(), vec![], 0)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            input in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        ) {
            let _ = decode(&input, 7);
        }
    }
}
