//! Field lines and line ends: the grammar that heads and trailers share (RFC 9110 §5, RFC 9112 §5).
//!
//! Everything is read from left to right and judged at the first byte that cannot be right, so what
//! is found never depends on how the bytes arrived. A line ends with CR LF and with nothing else.

/// What stands at the start of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// A field line.
    Field(FieldLine),
    /// The empty line that ends a section, of this many bytes.
    End(usize),
}

/// Where the parts of a field line lie; its name starts at 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldLine {
    /// Length of the name.
    pub name: usize,
    /// Where the value starts, without the white space before it.
    pub value: usize,
    /// Where the value ends, without the white space behind it.
    pub value_end: usize,
    /// Length of the line, its end included.
    pub len: usize,
}

/// Reads the line at the start of `input`; `None` asks for more bytes.
///
/// # Errors
/// What is wrong with it, in words.
#[inline]
pub fn read(input: &[u8]) -> Result<Option<Line>, &'static str> {
    let name = token_len(input);
    match input.get(name) {
        Some(b':') if name > 0 => {}
        Some(b'\r') if name == 0 => return Ok(end_at(input, 0)?.map(Line::End)),
        Some(byte) => return Err(misnamed(name, *byte)),
        None => return Ok(None),
    }
    let mut value = name + 1;
    while matches!(input.get(value), Some(b' ' | b'\t')) {
        value += 1;
    }
    let mut value_end = value + text_len(&input[value..]);
    let Some(len) = end_at(input, value_end)? else { return Ok(None) };
    while value_end > value && matches!(input[value_end - 1], b' ' | b'\t') {
        value_end -= 1;
    }
    Ok(Some(Line::Field(FieldLine { name, value, value_end, len })))
}

/// What is wrong with a line whose name is followed by `byte`.
#[cold]
fn misnamed(name: usize, byte: u8) -> &'static str {
    match (name, byte) {
        (0, b' ' | b'\t') => "a folded line",
        (0, b':') => "a field without a name",
        (_, b' ' | b'\t') => "white space before a colon",
        (_, b'\r' | b'\n') => "a line without a colon",
        _ => "invalid header field name",
    }
}

/// Where the line goes on behind the CR LF that must stand at `at`; `None` asks for more bytes.
///
/// # Errors
/// If something else stands there.
#[inline]
pub fn end_at(input: &[u8], at: usize) -> Result<Option<usize>, &'static str> {
    match input.get(at..) {
        Some([b'\r', b'\n', ..]) => Ok(Some(at + 2)),
        Some([b'\r'] | []) | None => Ok(None),
        Some([b'\r', ..]) => Err("carriage return without line feed"),
        Some([b'\n', ..]) => Err("line feed without carriage return"),
        Some(_) => Err("a control character"),
    }
}

/// How many bytes of a token (RFC 9110 §5.6.2) `input` starts with.
#[inline]
pub fn token_len(input: &[u8]) -> usize {
    input.iter().position(|byte| !is_tchar(*byte)).unwrap_or(input.len())
}

/// Whether all of it is a token, and it is not empty.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && token_len(text) == text.len()
}

/// Whether a token may hold this byte.
#[inline]
pub fn is_tchar(byte: u8) -> bool {
    const TCHAR: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            table[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let others = b"!#$%&'*+-.^_`|~";
        let mut at = 0;
        while at < others.len() {
            table[others[at] as usize] = true;
            at += 1;
        }
        table
    };
    TCHAR[usize::from(byte)]
}

/// Whether a field value, a reason phrase or a quoted string may hold this byte: no control
/// character but TAB (RFC 9110 §5.5).
#[inline]
pub fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// How many bytes at the start of `input` are text, eight at a time.
#[inline]
pub fn text_len(input: &[u8]) -> usize {
    let mut at = 0;
    loop {
        while let Some(eight) = input[at..].first_chunk() {
            let plain = before_control(u64::from_le_bytes(*eight));
            at += plain;
            if plain < 8 {
                break;
            }
        }
        match input.get(at) {
            Some(byte) if is_text(*byte) => at += 1,
            _ => return at,
        }
    }
}

/// How many of the eight bytes come before the first below 32, or 127. Each of the two tests may
/// err only on bytes above one that it got right, so the lowest is right.
#[inline]
fn before_control(bytes: u64) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    let below = bytes.wrapping_sub(ONES * 0x20) & !bytes;
    let delete = bytes ^ (ONES * 0x7f);
    let delete = delete.wrapping_sub(ONES) & !delete;
    (((below | delete) & HIGH).trailing_zeros() / 8) as usize
}

/// The members of a comma-separated list, without the white space around them (RFC 9110 §5.6.1);
/// empty ones too.
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_its_first_control_character_wherever_that_stands() {
        for byte in 0..=255u8 {
            for before in 0..20 {
                let mut text = vec![0xfe; before];
                text.push(byte);
                text.extend_from_slice(b"behind it, more");
                let expected = if is_text(byte) { text.len() } else { before };
                assert_eq!(text_len(&text), expected, "byte {byte} behind {before}");
            }
        }
    }

    #[test]
    fn lines() {
        let field = |name, value, value_end, len| {
            Ok(Some(Line::Field(FieldLine { name, value, value_end, len })))
        };
        let cases: [(&[u8], _); 14] = [
            (b"a: b\r\nc", field(1, 3, 4, 6)),
            (b"a:\t b c \t\r\n", field(1, 4, 7, 11)),
            (b"a:\r\n", field(1, 2, 2, 4)),
            (b"a: \x80\xff\r\n", field(1, 3, 5, 7)),
            (b"\r\nx", Ok(Some(Line::End(2)))),
            (b"a: b\r", Ok(None)),
            (b"", Ok(None)),
            (b"a: b\n", Err("line feed without carriage return")),
            (b"a: b\rc", Err("carriage return without line feed")),
            (b"a: \0\r\n", Err("a control character")),
            (b" a: b\r\n", Err("a folded line")),
            (b"a : b\r\n", Err("white space before a colon")),
            (b": b\r\n", Err("a field without a name")),
            (b"a\r\n", Err("a line without a colon")),
        ];
        for (input, expected) in cases {
            assert_eq!(read(input), expected, "{:?}", String::from_utf8_lossy(input));
        }
    }
}
