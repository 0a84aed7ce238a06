//! A second reader of TLS' first message, written to be obvious: it puts the whole message together
//! first, and then looks for the name. It shares no code with the codec.

/// The name that is asked for, if this begins with a whole hello.
pub fn server_name(input: &[u8]) -> Option<Option<String>> {
    let mut message = Vec::new();
    let mut at = 0;
    let len = loop {
        if *input.get(at)? != 22 || *input.get(at + 1)? != 3 {
            return None;
        }
        let len = two(input, at + 3)?;
        if len == 0 || len > 16_384 {
            return None;
        }
        message.extend_from_slice(input.get(at + 5..at + 5 + len)?);
        at += 5 + len;
        if message.len() >= 4 {
            let len = 65_536 * usize::from(message[1]) + two(&message, 2)?;
            if message.len() >= 4 + len {
                break len;
            }
        }
    };
    if message[0] != 1 || message.len() != 4 + len || message[4] != 3 {
        return None;
    }
    let session = 4 + 34;
    let suites = session + 1 + usize::from(message.get(session).copied().filter(|n| *n <= 32)?);
    let suites_len = two(&message, suites)?;
    let compression = suites + 2 + suites_len;
    let compression_len = usize::from(*message.get(compression)?);
    let extensions = compression + 1 + compression_len;
    if suites_len == 0 || suites_len % 2 != 0 || compression_len == 0 {
        return None;
    }
    if extensions == message.len() {
        return Some(None);
    }
    if extensions + 2 + two(&message, extensions)? != message.len() {
        return None;
    }
    let (mut at, mut names) = (extensions + 2, Vec::new());
    while at < message.len() {
        let (kind, len) = (two(&message, at)?, two(&message, at + 2)?);
        let body = message.get(at + 4..at + 4 + len)?;
        if kind == 0 {
            names.push(body.to_vec());
        }
        at += 4 + len;
    }
    match &names[..] {
        [] => Some(None),
        [body] => {
            let name = body.get(5..)?;
            let right = two(body, 0)? == name.len() + 3 && body[2] == 0;
            let name = std::str::from_utf8(name).ok().filter(|_| right)?;
            if two(body, 3)? != name.len() {
                return None;
            }
            if name.parse::<std::net::IpAddr>().is_ok() {
                return Some(None);
            }
            Some(Some(name.strip_suffix('.').unwrap_or(name).to_lowercase()))
        }
        _ => None,
    }
}

fn two(bytes: &[u8], at: usize) -> Option<usize> {
    Some(256 * usize::from(*bytes.get(at)?) + usize::from(*bytes.get(at + 1)?))
}
