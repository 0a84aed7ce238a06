//! The codecs against the corpus of `tests/fuzz` and against seeded mutations of it: what the fuzz
//! targets do, for a few seconds and the same each time.

#[path = "fuzz/bodies.rs"]
mod bodies;

use std::fs;
use std::path::Path;

use tidegate::base::Entropy;

/// Mutations of each target's corpus.
const ROUNDS: usize = 10_000;

/// What mutations put in, beside single bytes: whatever matters to somebody's parser.
const WORDS: [&[u8]; 46] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\r\n ",
    b"\r\n\t",
    b"\0",
    b"\t",
    b" ",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b":",
    b" :",
    b",",
    b";",
    b";a=\"b\"",
    b"\"",
    b"\\",
    b"=",
    b"0",
    b"0\r\n\r\n",
    b"1\r\na\r\n",
    b"ffffffffffffffff",
    b"_",
    b"-",
    b"%",
    b"[::1]",
    b"@",
    b"*",
    b"http://",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: upgrade, x\r\n",
    b"Upgrade: websocket\r\n",
    b"Host: a\r\n",
    b"Expect: 100-continue\r\n",
    b"HTTP/1.0",
    b"chunked",
    b"close",
    b"PROXY TCP4 1.2.3.4 ",
    b"::ffff:",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x03\0\x04",
    b"\x16\x03\x01\0\x01",
    b"\0\0\0\x06\0\x04\0\0\x01a",
];

/// Every file of a target's corpus, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("a corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a file")).collect()
}

fn run(target: &str, body: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(corpus.len() >= 5, "{target} has a corpus");
    for file in &corpus {
        body(file);
    }
    let mut entropy = Entropy::seeded(20_261_123);
    let mut below = |bound: usize| entropy.below(bound);
    for _ in 0..ROUNDS {
        let mut text = corpus[below(corpus.len())].clone();
        for _ in 0..=below(4) {
            let at = below(text.len() + 1);
            let to = (at + below(12)).min(text.len());
            match below(6) {
                0 => drop(text.drain(at..to)),
                1 => text.insert(at, below(256) as u8),
                2 => drop(text.splice(at..at, WORDS[below(WORDS.len())].iter().copied())),
                3 => drop(text.splice(at..to, WORDS[below(WORDS.len())].iter().copied())),
                4 => text.extend_from_within(at..to),
                _ => {
                    let other = &corpus[below(corpus.len())];
                    let from = below(other.len() + 1);
                    text.truncate(at);
                    text.extend_from_slice(&other[from..]);
                }
            }
        }
        let text = text;
        let result = std::panic::catch_unwind(|| body(&text));
        assert!(result.is_ok(), "on {:?}", text.escape_ascii().to_string());
    }
}

#[test]
fn request_heads() {
    run("request_head", bodies::request_head);
}

#[test]
fn response_heads() {
    run("response_head", bodies::response_head);
}

#[test]
fn chunked_bodies() {
    run("chunked", bodies::chunked);
}

#[test]
fn proxy_headers() {
    run("proxy_header", bodies::proxy_header);
}

#[test]
fn client_hellos() {
    run("client_hello", bodies::client_hello);
}

#[test]
fn streams() {
    run("stream", bodies::stream);
}
