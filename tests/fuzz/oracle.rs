//! A second reader of HTTP/1.1, written to be obvious and not to be fast: it has the whole message
//! before it, splits it into lines and takes them apart with the standard library. It shares no code
//! with the codec, and the two must agree on what is a message and where it ends.

/// How long a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    None,
    Exactly(u64),
    Chunked,
    UntilClose,
}

/// A head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    pub start: Vec<u8>,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Body,
    pub len: usize,
}

/// What is asked for, as it is to be sent on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub authority: String,
    pub path: String,
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

fn trim(value: &[u8]) -> &[u8] {
    let white = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let start = value.iter().position(|b| !white(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !white(b)).map_or(start, |at| at + 1);
    &value[start..end]
}

/// The lines up to the empty one, and where it ends.
fn lines(text: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let (mut lines, mut at) = (Vec::new(), 0);
    loop {
        let end = at + find(&text[at..], b"\r\n")?;
        let line = &text[at..end];
        at = end + 2;
        if line.is_empty() {
            return Some((lines, at));
        }
        if line.iter().any(|b| (*b < 32 && *b != b'\t') || *b == 127) {
            return None;
        }
        lines.push(line);
    }
}

fn fields(lines: &[&[u8]]) -> Option<Vec<(String, Vec<u8>)>> {
    lines
        .iter()
        .map(|line| {
            let colon = line.iter().position(|b| *b == b':')?;
            let name = std::str::from_utf8(&line[..colon]).ok().filter(|name| is_token(name))?;
            Some((name.to_ascii_lowercase(), trim(&line[colon + 1..]).to_vec()))
        })
        .collect()
}

fn values<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|(n, _)| n == name).map(|(_, value)| &value[..]).collect()
}

fn lower(value: &[u8]) -> String {
    String::from_utf8_lossy(value).to_ascii_lowercase()
}

/// The body that the fields announce, if they announce one; `None` if that is not clear.
fn framing(fields: &[(String, Vec<u8>)], old: bool) -> Option<Option<Body>> {
    let lengths = values(fields, "content-length");
    let codings = values(fields, "transfer-encoding");
    let options: usize =
        values(fields, "connection").iter().map(|v| lower(v).split(',').count()).sum();
    if options > 64 {
        return None;
    }
    match (&lengths[..], &codings[..]) {
        ([], []) => Some(None),
        ([], [coding]) if lower(coding) == "chunked" && !old => Some(Some(Body::Chunked)),
        ([length], []) if !length.is_empty() && length.len() <= 18 => {
            let digits = length.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(length).ok()?.parse().ok();
            length.filter(|_| digits).map(|length| Some(Body::Exactly(length)))
        }
        _ => None,
    }
}

/// Reads a request with at most so many fields, and otherwise within the default limits.
pub fn request(input: &[u8], most: usize) -> Option<(Head, Target)> {
    let skipped = if input.starts_with(b"\r\n") { 2 } else { 0 };
    let (lines, len) = lines(&input[skipped..])?;
    let (start, rest) = lines.split_first()?;
    let words: Vec<&str> = std::str::from_utf8(start).ok()?.split(' ').collect();
    let [method, target, version] = words[..] else { return None };
    let old = version == "HTTP/1.0";
    let printable = target.chars().all(|c| c.is_ascii_graphic() && c != '#');
    if !is_token(method)
        || method.len() > 64
        || target.is_empty()
        || target.len() > 8192
        || !printable
        || !(old || version == "HTTP/1.1")
        || rest.len() > most
    {
        return None;
    }
    let fields = fields(rest)?;
    let body = framing(&fields, old)?;
    let padded = values(&fields, "content-length").iter().any(|v| v.len() > 1 && v[0] == b'0');
    let expects = values(&fields, "expect");
    let no_body = matches!(method, "TRACE" | "CONNECT");
    if padded
        || expects.iter().any(|value| lower(value) != "100-continue")
        || (no_body && !matches!(body, None | Some(Body::Exactly(0))))
    {
        return None;
    }
    let host = match values(&fields, "host")[..] {
        [] if old => None,
        [host] => Some(std::str::from_utf8(host).ok().filter(|host| is_authority(host))?),
        _ => return None,
    };
    let target = where_to(method, target, host)?;
    let body = body.unwrap_or(Body::None);
    Some((Head { start: start.to_vec(), fields, body, len: skipped + len }, target))
}

fn where_to(method: &str, target: &str, host: Option<&str>) -> Option<Target> {
    let made = |authority: &str, path: &str| {
        Some(Target { authority: authority.to_owned(), path: path.to_owned() })
    };
    if method == "CONNECT" {
        return None;
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return made(host.unwrap_or_default(), target);
    }
    let (scheme, rest) = target.split_once("://")?;
    if !["http", "https"].contains(&&scheme.to_ascii_lowercase()[..]) {
        return None;
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !is_authority(authority) {
        return None;
    }
    match path {
        "" if method == "OPTIONS" => made(authority, "*"),
        path if path.starts_with('/') => made(authority, path),
        path => made(authority, &format!("/{path}")),
    }
}

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], &text[colon + 1..]),
        _ => (text, ""),
    };
    let port_ok = port.is_empty()
        || (port.len() <= 5
            && port.chars().all(|c| c.is_ascii_digit())
            && port.parse::<u32>().is_ok_and(|port| port < 65_536));
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_ok = match literal {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    port_ok && host_ok
}

fn is_name(host: &str) -> bool {
    // What follows each percent sign must start with two hex digits.
    let escapes_ok = host.split('%').skip(1).all(|after| {
        after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
    });
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+;=%".contains(c);
    !host.is_empty() && escapes_ok && host.chars().all(plain)
}

/// Reads a response to `method` with at most so many fields.
pub fn response(input: &[u8], method: &str, most: usize) -> Option<(Head, u16)> {
    let (lines, len) = lines(input)?;
    let (start, rest) = lines.split_first()?;
    let version = std::str::from_utf8(start.get(..8)?).ok()?;
    if !["HTTP/1.0", "HTTP/1.1"].contains(&version) || rest.len() > most {
        return None;
    }
    let after = &start[8..];
    let digits = std::str::from_utf8(after.get(1..4)?).ok()?;
    let status: u16 = digits.parse().ok().filter(|_| digits.chars().all(|c| c.is_ascii_digit()))?;
    let behind = after.get(4);
    if after[0] != b' ' || behind.is_some_and(|b| *b != b' ') || !(100..600).contains(&status) {
        return None;
    }
    let fields = fields(rest)?;
    let announced = framing(&fields, version == "HTTP/1.0")?;
    let tunnel = method == "CONNECT" && status / 100 == 2;
    if status < 200 && !matches!(announced, None | Some(Body::Exactly(0))) {
        return None;
    }
    let body = if status < 200 || [204, 304].contains(&status) || method == "HEAD" || tunnel {
        Body::None
    } else {
        announced.unwrap_or(Body::UntilClose)
    };
    Some((Head { start: start.to_vec(), fields, body, len }, status))
}

/// What came of a chunked body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Chunks {
    Whole {
        data: Vec<u8>,
        trailers: Vec<(String, Vec<u8>)>,
        len: usize,
    },
    Broken,
    /// Cut off; what is there may be right or not.
    Cut,
}

/// Reads a chunked body.
pub fn chunked(input: &[u8]) -> Chunks {
    let (mut data, mut at, mut extensions) = (Vec::new(), 0, 0);
    loop {
        let Some(end) = find(&input[at..], b"\r\n") else { return Chunks::Cut };
        let line = &input[at..at + end];
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        extensions += line.len() - digits;
        if digits == 0
            || digits > 15
            || line.len() + 2 > 256
            || extensions > 8192
            || !is_extension(&line[digits..])
        {
            return Chunks::Broken;
        }
        let size = std::str::from_utf8(&line[..digits]).expect("hex");
        let size = usize::from_str_radix(size, 16).expect("15 digits");
        at += end + 2;
        extensions = extensions.saturating_sub(size);
        if size == 0 {
            break;
        }
        if input.len() - at < size.saturating_add(2) {
            return Chunks::Cut;
        }
        data.extend_from_slice(&input[at..at + size]);
        if &input[at + size..at + size + 2] != b"\r\n" {
            return Chunks::Broken;
        }
        at += size + 2;
    }
    let section = &input[at..];
    if find(section, b"\r\n\r\n").is_none() && !section.starts_with(b"\r\n") {
        return Chunks::Cut;
    }
    let Some((lines, len)) = lines(section) else { return Chunks::Broken };
    match fields(&lines) {
        Some(trailers) if lines.len() <= 32 && len <= 8192 => {
            Chunks::Whole { data, trailers, len: at + len }
        }
        _ => Chunks::Broken,
    }
}

/// Whether this is `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`.
fn is_extension(text: &[u8]) -> bool {
    let token =
        |text: &[u8]| text.iter().take_while(|b| is_token(&char::from(**b).to_string())).count();
    let bws = |text: &[u8]| text.iter().take_while(|b| b" \t".contains(b)).count();
    let mut rest = text;
    while !rest.is_empty() {
        rest = &rest[bws(rest)..];
        let Some(after) = rest.strip_prefix(b";") else { return false };
        rest = &after[bws(after)..];
        let name = token(rest);
        if name == 0 {
            return false;
        }
        rest = &rest[name..];
        let Some(value) = rest[bws(rest)..].strip_prefix(b"=") else { continue };
        rest = &value[bws(value)..];
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            let mut at = 0;
            loop {
                match quoted.get(at) {
                    Some(b'"') => break,
                    Some(b'\\') => at += 1,
                    Some(_) => {}
                    None => return false,
                }
                // A control character, or the character after a backslash.
                match quoted.get(at) {
                    Some(byte) if *byte == b'\t' || (*byte >= 32 && *byte != 127) => at += 1,
                    _ => return false,
                }
            }
            rest = &quoted[at + 1..];
        } else {
            let len = token(rest);
            if len == 0 {
                return false;
            }
            rest = &rest[len..];
        }
    }
    true
}
