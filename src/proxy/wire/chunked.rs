//! The chunked transfer coding (RFC 9112 §7.1): a decoder that is fed whatever arrives, and the
//! few bytes that encoding takes.
//!
//! Chunks are never passed on as they came: data goes out in chunks of our own, extensions are
//! dropped, so a chunk line that another parser would read differently cannot get through.

use crate::proxy::wire::head::Known;

/// Longest chunk line: 16 hex digits and extensions.
const LINE_MAX: usize = 256;

/// Longest trailer section.
const TRAILERS_MAX: usize = 8 * 1024;

/// Most trailer fields.
const TRAILER_FIELDS_MAX: usize = 32;

/// What is wrong with a chunked body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ChunkError(pub &'static str);

/// Reads a chunked body.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    state: State,
    /// Bytes seen of the current line.
    line: usize,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Hex digits of a size; `digits` so far.
    Size { size: u64, digits: u32 },
    /// A chunk extension, dropped.
    Extension { size: u64 },
    /// After the CR of a chunk line.
    SizeLf { size: u64 },
    /// Inside a chunk.
    Data { left: u64 },
    /// After a chunk.
    DataCr,
    /// After the CR after a chunk.
    DataLf,
    /// The trailer section.
    Trailers,
    /// All of it was read.
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
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
                State::Data { left } => {
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(input.len() - at);
                    let left = left - len as u64;
                    self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                    return Ok(Decoded::Data { skip: at, len });
                }
                State::Trailers => {
                    let (used, done) = self.read_trailers(&input[at..])?;
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

    /// The trailer section as `name: value CRLF` lines, once the end was found; framing and routing
    /// fields are not among them (RFC 9110 §6.5.1).
    pub fn into_trailers(self) -> Vec<u8> {
        self.trailers
    }

    fn read_framing(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.line += 1;
        if self.line > LINE_MAX {
            return Err(ChunkError("chunk line too long"));
        }
        self.state = match (self.state, byte) {
            (State::Size { size, digits }, digit) if digit.is_ascii_hexdigit() => {
                if digits >= 15 {
                    return Err(ChunkError("chunk size too large"));
                }
                let digit = (digit as char).to_digit(16).unwrap_or_default();
                State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(ChunkError("no chunk size")),
            (State::Size { size, .. } | State::Extension { size }, b'\r') => State::SizeLf { size },
            (State::Size { size, .. }, b';') => State::Extension { size },
            (State::Extension { size }, byte) if byte == b'\t' || (b' '..0x7f).contains(&byte) => {
                State::Extension { size }
            }
            (State::SizeLf { size }, b'\n') => {
                self.line = 0;
                if size == 0 { State::Trailers } else { State::Data { left: size } }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line = 0;
                State::default()
            }
            _ => return Err(ChunkError("invalid chunk framing")),
        };
        Ok(())
    }

    /// Collects lines up to the empty one; says how much it used and whether that was all.
    fn read_trailers(&mut self, input: &[u8]) -> Result<(usize, bool), ChunkError> {
        let end = memchr::memchr(b'\n', input).map_or(input.len(), |at| at + 1);
        self.trailers.extend_from_slice(&input[..end]);
        if self.trailers.len() > TRAILERS_MAX {
            return Err(ChunkError("trailers too large"));
        }
        let done = self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n");
        if self.trailers.ends_with(b"\n") && !self.trailers.ends_with(b"\r\n") {
            return Err(ChunkError("line feed without carriage return in trailers"));
        }
        if done {
            self.trailers = clean_trailers(&self.trailers)?;
        }
        Ok((end, done))
    }
}

/// Checks the grammar of a trailer section and drops what must not be in one.
fn clean_trailers(section: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let mut lines = [httparse::EMPTY_HEADER; TRAILER_FIELDS_MAX];
    let Ok(httparse::Status::Complete((_, lines))) = httparse::parse_headers(section, &mut lines)
    else {
        return Err(ChunkError("invalid trailers"));
    };
    let mut kept = Vec::new();
    for line in lines {
        if Known::from_name(line.name.as_bytes()) == Known::Other {
            kept.extend_from_slice(line.name.as_bytes());
            kept.extend_from_slice(b": ");
            kept.extend_from_slice(line.value);
            kept.extend_from_slice(b"\r\n");
        }
    }
    Ok(kept)
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
                    return Ok((data, decoder.into_trailers(), input.len() - at - skip));
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
