//! What each fuzz target does with its input. `tests/codecs.rs` runs the same on the corpus and on
//! seeded mutations of it.
//!
//! Each holds a codec to three things: it reads the same however its input is cut; it agrees with the
//! naive readers (`oracle.rs`, `proxy_oracle.rs`, `hello_oracle.rs`) on what is a message and where it ends; and what is sent on of a message
//! reads as the same message.

mod hello_oracle;
mod oracle;
mod proxy_oracle;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use oracle::{Body, Chunks};
use proxy_oracle::Told;
use tidegate::model::{
    ConnectMethod, ForwardedStyle, Listener, ListenerLimits, ListenerTimeouts, Priority, Protocol,
    ProxyHeader, ProxyVersion, SocketOptions,
};
use tidegate::proxy::rewrite::{Facts, UNCHANGED};
use tidegate::proxy::wire::chunked::{Decoded, Decoder, LAST, write_chunk_line};
use tidegate::proxy::wire::client_hello;
use tidegate::proxy::wire::head::Fields;
use tidegate::proxy::wire::http1::{
    HeadError, HeadLimits, Onward, parse_request, parse_response, write_request, write_response,
};
use tidegate::proxy::wire::proxy_protocol::{self, Ends, HEADER_MAX, Header, is_header};
use tidegate::proxy::wire::{BodyLength, Method, RequestHead, ResponseHead};

const METHODS: [(Method, &str); 3] =
    [(Method::Get, "GET"), (Method::Head, "HEAD"), (Method::Connect, "CONNECT")];

/// Fields that the head of a request may have by default, and that of a response.
const REQUEST_FIELDS: usize = 100;
const RESPONSE_FIELDS: usize = 256;
/// What is sent on may have as many more, which are ours.
const OURS_MOST: usize = 8;

type Found<E = HeadError> = Result<Option<usize>, E>;

/// The head of a request.
pub fn request_head(data: &[u8]) {
    let mut head = RequestHead::default();
    let found = parse_request(data, &HeadLimits::default(), &mut head);
    for cut in cuts(data.len()) {
        let mut early = RequestHead::default();
        let at_cut = parse_request(&data[..cut], &HeadLimits::default(), &mut early);
        check_cut(&found, &at_cut, cut);
        assert!(!matches!(at_cut, Ok(Some(_))) || early == head, "another head at {cut}");
    }
    let limits = HeadLimits { allow_connect: true, ..HeadLimits::default() };
    let mut connect = RequestHead::default();
    let allowed = parse_request(data, &limits, &mut connect);
    if connect.method != Method::Connect || allowed.is_err() {
        assert!(found == allowed || matches!(found, Err(HeadError::Unsupported(_))));
    }
    let naive = oracle::request(data, REQUEST_FIELDS);
    let Ok(Some(len)) = found else {
        assert!(naive.is_none(), "{found:?}, but it is {naive:?}");
        return;
    };
    let (naive, target) = naive.expect("what is accepted is a request");
    assert_eq!((len, body(head.body)), (naive.len, naive.body));
    check_fields(&head.fields, &naive.fields);
    assert_eq!(head.fields.get(head.path), target.path.as_bytes());
    assert_eq!(head.fields.get(head.authority), target.authority.as_bytes());
    if let Some(upgrade) = head.upgrade {
        let protocol = String::from_utf8_lossy(head.fields.get(upgrade)).to_ascii_lowercase();
        let name = protocol.split('/').next().expect("a name");
        assert!(!["h2c", "h2", "http"].contains(&name), "{protocol} is offered on");
        assert!(matches!(head.body, BodyLength::None | BodyLength::Exactly(0)));
    }
    if target.authority.is_empty() {
        // HTTP/1.0 may name no host, and what is sent on then names none either.
        return;
    }
    let sent = sent_on(&head);
    let (again, to) =
        oracle::request(&sent, REQUEST_FIELDS + OURS_MOST).expect("what is sent on is a request");
    assert_eq!((again.len, again.body, to), (sent.len(), naive.body, target));
    check_sent(&head.fields, &again.fields);
}

/// The head of a response.
pub fn response_head(data: &[u8]) {
    for (method, name) in METHODS {
        let mut head = ResponseHead::default();
        let found = parse_response(data, method, &mut head);
        for cut in cuts(data.len()) {
            let mut early = ResponseHead::default();
            let at_cut = parse_response(&data[..cut], method, &mut early);
            check_cut(&found, &at_cut, cut);
            assert!(!matches!(at_cut, Ok(Some(_))) || early == head, "another head at {cut}");
        }
        let naive = oracle::response(data, name, RESPONSE_FIELDS);
        let Ok(Some(len)) = found else {
            assert!(naive.is_none(), "{found:?}, but it is {naive:?}");
            continue;
        };
        let (naive, status) = naive.expect("what is accepted is a response");
        assert_eq!((len, body(head.body), head.status), (naive.len, naive.body, status));
        assert!(!(head.keep_alive && head.body == BodyLength::UntilClose));
        let mut sent = Vec::new();
        let (request, listener) = (RequestHead::default(), listener());
        let facts = facts(&request, &listener);
        write_response(&head, head.body, head.keep_alive, &facts, &UNCHANGED, &mut sent);
        let (again, to) = oracle::response(&sent, name, RESPONSE_FIELDS + OURS_MOST)
            .expect("what is sent on is a response");
        assert_eq!((again.len, again.body, to), (sent.len(), naive.body, status));
        let mut fields = again.fields;
        if head.fields.value("date").is_none() {
            // Whoever passes on a response that has no date adds one (RFC 9110 §6.6.1).
            fields.retain(|(name, _)| name != "date");
        }
        check_sent(&head.fields, &fields);
    }
}

/// A chunked body.
pub fn chunked(data: &[u8]) {
    let whole = decode(data, |left| left);
    let seed = data.iter().fold(1, |sum: usize, byte| sum * 31 % 1_000_003 + usize::from(*byte));
    let (mut state, mut steps) = (seed, Vec::new());
    for _ in 0..16 {
        state = state * 48_271 % 2_147_483_647;
        steps.push(state % 40 + 1);
    }
    let mut turn = 0;
    let cut = decode(data, |_| {
        turn += 1;
        steps[turn % steps.len()]
    });
    for other in [cut, decode(data, |_| 1)] {
        match (&whole, &other) {
            (Err(_), Err(_)) => {}
            _ => assert_eq!(whole, other, "it matters how it is cut"),
        }
    }
    match (&whole, oracle::chunked(data)) {
        (Ok(Some((data, kept, used))), Chunks::Whole { data: naive, trailers, len }) => {
            assert_eq!((data, *used), (&naive, len));
            check_trailers(kept, &trailers);
        }
        (Ok(None), Chunks::Cut) | (Err(_), Chunks::Broken | Chunks::Cut) => {}
        (ours, naive) => panic!("{ours:?}, but it is {naive:?}"),
    }
}

/// The header of the PROXY protocol.
pub fn proxy_header(data: &[u8]) {
    let found = proxy_protocol::parse(data);
    let len = |found: Result<Option<(Header, usize)>, _>| found.map(|it| it.map(|(_, len)| len));
    for cut in cuts(data.len()) {
        let at_cut = proxy_protocol::parse(&data[..cut]);
        check_cut(&len(found), &len(at_cut), cut);
        assert!(!matches!(at_cut, Ok(Some(_))) || at_cut == found, "other ends at {cut}");
    }
    match is_header(data) {
        None => assert_eq!(found, Ok(None)),
        Some(begins) => assert!(begins || found.is_err()),
    }
    assert!(found != Ok(None) || data.len() < HEADER_MAX, "no header is longer");
    let ends = match (found, proxy_oracle::header(data)) {
        (Ok(Some((header, len))), Told::Whole(ends, naive_len)) => {
            let ours = header.ends.map(|Ends { source, destination }| (source, destination));
            assert_eq!((ours, len), (ends, naive_len));
            header.ends
        }
        (Ok(None), Told::Cut) | (Err(_), Told::Broken | Told::Cut) => return,
        (ours, naive) => panic!("{ours:?}, but it is {naive:?}"),
    };
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut sent = Vec::new();
        proxy_protocol::write(version, ends, &mut sent);
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let Told::Whole(again, len) = proxy_oracle::header(&sent) else {
            panic!("what is written is no header: {}", sent.escape_ascii());
        };
        assert_eq!(len, sent.len());
        let expected = ends.map(|ends| (plain(ends.source), plain(ends.destination)));
        assert_eq!(again.map(|(from, to)| (plain(from), plain(to))), expected);
        let read = proxy_protocol::parse(&sent).expect("a header").expect("all of it").0;
        assert_eq!(read.ends.map(|ends| (ends.source, ends.destination)), again);
    }
}

/// Messages one behind the other, as requests and as responses.
pub fn stream(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let step = usize::from(first >> 1) + 1;
    let responses = first & 1 == 1;
    let whole = messages(data, data.len().max(1), responses, REQUEST_FIELDS);
    assert_eq!(
        whole,
        messages(data, step, responses, REQUEST_FIELDS),
        "steps of {step} see something else"
    );
    if responses {
        return;
    }
    let mut sent = Vec::new();
    for message in &whole.0 {
        sent.extend_from_slice(&message.sent_on());
    }
    let (again, end) = messages(&sent, sent.len().max(1), false, REQUEST_FIELDS + OURS_MOST);
    let told = |all: &[Message]| all.iter().map(Message::told).collect::<Vec<_>>();
    let hosted =
        whole.0.iter().all(|message| !message.head.fields.get(message.head.authority).is_empty());
    if hosted {
        assert_eq!((told(&again), end), (told(&whole.0), End::Open), "what is sent on differs");
    }
}

/// The head as it goes to an instance.
fn sent_on(head: &RequestHead) -> Vec<u8> {
    let mut out = Vec::new();
    let address = ([127, 0, 0, 1], 80).into();
    let onward = Onward { pool: &UNCHANGED, address, expect: false };
    write_request(&facts(head, &listener()), &onward, &mut out);
    out
}

/// A listener with nothing special, which makes no request ids.
fn listener() -> Listener {
    let second = Duration::from_secs(1);
    Listener {
        id: "front".into(),
        bind: Vec::new(),
        protocol: Protocol::Http,
        tls: None,
        pool: None,
        timeouts: ListenerTimeouts { head: second, idle: second, body: second },
        limits: ListenerLimits::default(),
        trusted: Vec::new(),
        proxy_protocol: ProxyHeader::default(),
        forwarded: ForwardedStyle::default(),
        request_id: None,
        client_subjects: Arc::default(),
        connect: ConnectMethod::default(),
        socket: SocketOptions::default(),
        errors: Arc::default(),
    }
}

/// A request that nobody trusts.
fn facts<'a>(head: &'a RequestHead, listener: &'a Listener) -> Facts<'a> {
    Facts {
        head,
        listener,
        client: "192.0.2.7",
        scheme: "http",
        client_subject: None,
        trusted: false,
        request_id: None,
        date: *b"Sun, 06 Nov 1994 08:49:37 GMT",
        route: &UNCHANGED,
        priority: Priority::Normal,
    }
}

/// A request, or a response in the clothes of one, with its body.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Message {
    head: RequestHead,
    response: ResponseHead,
    data: Vec<u8>,
    trailers: Vec<u8>,
}

/// How a stream ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// Behind a message.
    Open,
    /// Within one.
    Cut,
    /// With what is none.
    Broken,
}

impl Message {
    fn told(&self) -> [Vec<u8>; 5] {
        let get = |span| self.head.fields.get(span).to_vec();
        let head = &self.head;
        let (data, trailers) = (self.data.clone(), self.trailers.clone());
        [get(head.method_name), get(head.authority), get(head.path), data, trailers]
    }

    fn sent_on(&self) -> Vec<u8> {
        let mut out = sent_on(&self.head);
        if self.head.body == BodyLength::Chunked {
            for piece in self.data.chunks(7) {
                write_chunk_line(piece.len(), &mut out);
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(LAST);
            out.extend_from_slice(&self.trailers);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(&self.data);
        }
        out
    }
}

/// Reads message after message, of so many fields at most, from a stream that arrives in steps.
fn messages(data: &[u8], step: usize, responses: bool, fields: usize) -> (Vec<Message>, End) {
    let limits = HeadLimits { fields, ..HeadLimits::default() };
    let (mut found, mut at, mut here) = (Vec::new(), 0, 0);
    'message: while at < data.len() {
        let (mut head, mut response) = (RequestHead::default(), ResponseHead::default());
        let len = loop {
            let text = &data[at..here];
            let len = if responses {
                parse_response(text, Method::Get, &mut response)
            } else {
                parse_request(text, &limits, &mut head)
            };
            match len {
                Ok(Some(len)) => break len,
                Ok(None) if here == data.len() => return (found, End::Cut),
                Ok(None) => here = (here + step).min(data.len()),
                Err(_) => return (found, End::Broken),
            }
        };
        at += len;
        let length = if responses { response.body } else { head.body };
        let mut message = Message { head, response, data: Vec::new(), trailers: Vec::new() };
        let fields =
            if responses { message.response.fields.clone() } else { message.head.fields.clone() };
        let mut left = match length {
            BodyLength::None => 0,
            BodyLength::Exactly(length) => length,
            BodyLength::UntilClose => (data.len() - at) as u64,
            BodyLength::Chunked => {
                let mut decoder = Decoder::default();
                loop {
                    match decoder.decode(&data[at..here]) {
                        Ok(Decoded::Data { skip, len }) => {
                            message.data.extend_from_slice(&data[at + skip..at + skip + len]);
                            at += skip + len;
                        }
                        Ok(Decoded::More { skip }) => {
                            at += skip;
                            if here == data.len() {
                                return (found, End::Cut);
                            }
                            here = (here + step).min(data.len());
                        }
                        Ok(Decoded::End { skip }) => {
                            at += skip;
                            message.trailers = decoder.into_trailers(&fields);
                            found.push(message);
                            continue 'message;
                        }
                        Err(_) => return (found, End::Broken),
                    }
                }
            }
        };
        while left > 0 {
            if at == here {
                if here == data.len() {
                    return (found, End::Cut);
                }
                here = (here + step).min(data.len());
            }
            let len = (here - at).min(usize::try_from(left).unwrap_or(usize::MAX));
            message.data.extend_from_slice(&data[at..at + len]);
            at += len;
            left -= len as u64;
        }
        found.push(message);
    }
    (found, End::Open)
}

/// Decodes a chunked body in steps: data, trailers and length; `None` if it is not all here.
#[expect(clippy::type_complexity, reason = "of one use")]
fn decode(
    input: &[u8],
    mut step: impl FnMut(usize) -> usize,
) -> Result<Option<(Vec<u8>, Vec<u8>, usize)>, String> {
    let mut decoder = Decoder::default();
    let (mut data, mut at, mut here) = (Vec::new(), 0, 0);
    loop {
        match decoder.decode(&input[at..here]).map_err(|error| error.to_string())? {
            Decoded::Data { skip, len } => {
                data.extend_from_slice(&input[at + skip..at + skip + len]);
                at += skip + len;
            }
            Decoded::More { skip } => {
                at += skip;
                assert_eq!(at, here, "framing is used up");
                if here == input.len() {
                    return Ok(None);
                }
                here = (here + step(input.len() - here)).min(input.len());
            }
            Decoded::End { skip } => {
                return Ok(Some((data, decoder.into_trailers(&Fields::default()), at + skip)));
            }
        }
    }
}

/// The first message of a TLS connection.
pub fn client_hello(data: &[u8]) {
    let found = client_hello::parse(data);
    for cut in cuts(data.len()) {
        let at_cut = client_hello::parse(&data[..cut]);
        assert!(at_cut == Ok(None) || at_cut == found, "{at_cut:?} at {cut} of {found:?}");
    }
    let naive = hello_oracle::server_name(data);
    if let Ok(Some(hello)) = found {
        assert_eq!(Some(hello.server_name.map(String::from)), naive);
    }
}

/// Where an input is cut: everywhere if it is short, and at places all over it if it is not.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    let stride = len / 100 + 1;
    (0..len).step_by(stride).chain(len.saturating_sub(3)..len)
}

/// Less of the same input says the same, or that more is needed.
fn check_cut<E: PartialEq + Debug>(whole: &Found<E>, at_cut: &Found<E>, cut: usize) {
    match (whole, at_cut) {
        (Ok(Some(len)), _) if cut >= *len => assert_eq!(whole, at_cut, "cut at {cut}"),
        (Ok(_), _) => assert_eq!(*at_cut, Ok(None), "cut at {cut} of {whole:?}"),
        (Err(_), Ok(None)) => {}
        (Err(_), _) => assert_eq!(whole, at_cut, "cut at {cut}"),
    }
}

fn body(length: BodyLength) -> Body {
    match length {
        BodyLength::None => Body::None,
        BodyLength::Exactly(length) => Body::Exactly(length),
        BodyLength::Chunked => Body::Chunked,
        BodyLength::UntilClose => Body::UntilClose,
    }
}

fn check_fields(ours: &Fields, naive: &[(String, Vec<u8>)]) {
    let ours: Vec<(String, Vec<u8>)> = ours
        .lines
        .iter()
        .map(|line| {
            let name = String::from_utf8_lossy(ours.get(line.name)).to_ascii_lowercase();
            (name, ours.get(line.value).to_vec())
        })
        .collect();
    assert_eq!(ours, naive);
}

/// What is sent on holds nothing that is not ours or the sender's, and nothing that stays here.
fn check_sent(came: &Fields, sent: &[(String, Vec<u8>)]) {
    const OURS: [&str; 11] = [
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    for (name, value) in sent.iter().filter(|(name, _)| !OURS.contains(&&name[..])) {
        let same = |line: &&tidegate::proxy::wire::Field| {
            came.get(line.name).eq_ignore_ascii_case(name.as_bytes())
                && came.get(line.value) == &value[..]
                && !line.nominated
        };
        assert!(came.lines.iter().find(same).is_some(), "{name} was made up, or stays here");
        assert!(
            !["te", "keep-alive", "proxy-connection", "trailer"].contains(&&name[..]),
            "{name}"
        );
    }
}

fn check_trailers(kept: &[u8], came: &[(String, Vec<u8>)]) {
    let text = String::from_utf8_lossy(kept).to_ascii_lowercase();
    for line in text.split_terminator("\r\n") {
        let (name, _) = line.split_once(": ").expect("a field line");
        assert!(came.iter().any(|(other, _)| other == name), "{name} was made up");
        assert!(!["host", "content-length", "transfer-encoding", "connection"].contains(&name));
    }
}
