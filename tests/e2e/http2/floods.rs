//! A client that writes its frames itself, and more of them than anybody needs.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::daemon::{Daemon, eventually};
use crate::http::{OK, front, proxy};
use crate::http2::{SOON, is_idle};
use crate::origin::Origin;

/// A connection on which frames are written by hand.
pub struct Raw {
    stream: TcpStream,
    authority: String,
}

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a GOAWAY.
    fn reason(&self) -> u32 {
        u32::from_be_bytes(self.payload[4..8].try_into().expect("four bytes"))
    }
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        stream.set_write_timeout(Some(SOON)).expect("a timeout");
        let mut raw = Self { stream, authority: address.to_string() };
        raw.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        raw.frame(4, 0, 0, b"");
        raw
    }

    /// Writes what is taken: the other side may have had enough.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.write(&frame(kind, flags, stream, payload));
    }

    /// A GET with these further fields, as they are.
    pub fn head(&mut self, stream: u32, fields: &[(&str, &str)]) {
        let block = self.block(0x82, fields);
        self.frame(1, 5, stream, &block);
    }

    /// The head of a POST.
    pub fn post(&mut self, stream: u32, fields: &[(&str, &str)]) {
        let block = self.block(0x83, fields);
        self.frame(1, 4, stream, &block);
    }

    /// A header block without compression (RFC 7541 §6.2.2).
    fn block(&self, method: u8, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = vec![method, 0x86, 0x84, 0x01];
        let text = |text: &str, block: &mut Vec<u8>| {
            assert!(text.len() < 127, "one byte tells the length");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        };
        text(&self.authority, &mut block);
        for (name, value) in fields {
            block.push(0);
            text(name, &mut block);
            text(value, &mut block);
        }
        block
    }

    /// Reads the next frame; `None` at the end of the connection, in order or not.
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing more comes, and no end")
            }
            Err(_) => return None,
        }
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; len as usize];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes(head[5..9].try_into().expect("four bytes"));
        Some(Frame { kind: head[3], stream, payload })
    }

    /// Reads up to the frame that is waited for.
    pub fn until(&mut self, mut is_it: impl FnMut(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.read().expect("not the end of the connection");
            if is_it(&frame) {
                return frame;
            }
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// How many floods a daemon has counted.
pub fn counted(daemon: &Daemon) -> f64 {
    let kinds = [
        "reset",
        "abusive_reset",
        "ping",
        "settings",
        "empty_data",
        "connection_window",
        "stream_window",
        "continuation",
        "glitch",
        "engine",
    ];
    kinds.iter().map(|kind| of_kind(daemon, kind)).sum()
}

fn of_kind(daemon: &Daemon, kind: &str) -> f64 {
    let labels = format!("listener=\"web\",kind=\"{kind}\"");
    daemon.metric("tidegate_http2_floods_total", &labels)
}

const ENHANCE_YOUR_CALM: u32 = 11;

#[test]
fn every_flood_is_told_to_calm_down_and_counted() {
    let origin = Origin::start(|peer| {
        peer.request();
        let _ = peer.stream.read(&mut [0]);
    });
    let (daemon, bind) = proxy(&[origin.address], "");
    for (kind, frames, many) in [
        ("ping", frame(6, 0, 0, &[7; 8]), 101),
        ("settings", frame(4, 0, 0, b""), 51),
        ("empty_data", frame(0, 0, 1, b""), 101),
        ("connection_window", frame(8, 0, 0, &[0, 0, 0, 1]), 110),
        ("stream_window", frame(8, 0, 1, &[0, 0, 0, 1]), 110),
        ("glitch", frame(2, 0, 1, &[0, 0, 0, 0, 7]), 110),
        ("glitch", frame(0xbe, 0, 0, b"what?"), 110),
    ] {
        let mut raw = Raw::connect(bind);
        raw.post(1, &[]);
        let before = of_kind(&daemon, kind);
        raw.write(&frames.repeat(many));
        let told = raw.until(|frame| frame.kind == 7);
        assert_eq!(told.reason(), ENHANCE_YOUR_CALM, "{kind}: {told:?}");
        while raw.read().is_some() {}
        assert_eq!(of_kind(&daemon, kind), before + 1.0, "{kind}");
    }
    // A head that never ends.
    let mut raw = Raw::connect(bind);
    let block = raw.block(0x82, &[]);
    raw.frame(1, 1, 1, &block);
    raw.write(&frame(9, 0, 1, b"\0\x01a\x01b").repeat(21));
    let told = raw.until(|frame| frame.kind == 7);
    assert_eq!((told.reason(), of_kind(&daemon, "continuation")), (ENHANCE_YOUR_CALM, 1.0));
    eventually("all are closed", SOON, || is_idle(&daemon).then_some(()));
}

#[test]
fn rapid_reset_ends_the_connection() {
    let origin = Origin::start(|peer| {
        peer.request();
        let _ = peer.stream.read(&mut [0]);
    });
    let (daemon, bind) = proxy(&[origin.address], "");
    let mut raw = Raw::connect(bind);
    // CVE-2023-44487: each stream is reset as soon as it is open, so their number stays within bounds.
    let block = raw.block(0x82, &[]);
    let mut burst = Vec::new();
    for stream in (1..2_000).step_by(2) {
        burst.extend_from_slice(&frame(1, 5, stream, &block));
        burst.extend_from_slice(&frame(3, 0, stream, &[0, 0, 0, 8]));
    }
    raw.write(&burst);
    let told = raw.until(|frame| frame.kind == 7);
    assert_eq!(told.reason(), ENHANCE_YOUR_CALM);
    eventually("it is counted and closed", SOON, || {
        (counted(&daemon) == 1.0 && is_idle(&daemon)).then_some(())
    });
    assert!(origin.text().matches("GET /").count() <= 100, "few have reached the instance");
}

#[test]
fn who_resets_one_request_after_the_other_unanswered_is_stopped() {
    let origin = Origin::start(|peer| while peer.request().is_some() {});
    let (daemon, bind) = proxy(&[origin.address], "");
    let mut raw = Raw::connect(bind);
    for (n, stream) in (1..200).step_by(2).enumerate() {
        raw.head(stream, &[]);
        // Slow enough for every other limit.
        eventually("it is with the instance", SOON, || {
            (origin.text().matches("GET /").count() > n || of_kind(&daemon, "abusive_reset") > 0.0)
                .then_some(())
        });
        raw.frame(3, 0, stream, &[0, 0, 0, 8]);
        if of_kind(&daemon, "abusive_reset") > 0.0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(12));
    }
    let told = raw.until(|frame| frame.kind == 7);
    assert_eq!(told.reason(), ENHANCE_YOUR_CALM);
    assert_eq!(of_kind(&daemon, "abusive_reset"), 1.0);
}

#[test]
fn resets_that_the_client_provokes_are_bounded() {
    let origin = Origin::answering(OK);
    let (daemon, bind) = proxy(&[origin.address], "");
    let mut raw = Raw::connect(bind);
    // CVE-2025-8671: what makes us reset the stream costs the client none of its own resets.
    let block = raw.block(0x82, &[("connection", "close")]);
    for stream in (1..2_000u32).step_by(2) {
        raw.frame(1, 5, stream, &block);
    }
    let told = raw.until(|frame| frame.kind == 7);
    assert_eq!(told.reason(), ENHANCE_YOUR_CALM);
    eventually("it is counted and closed", SOON, || {
        (of_kind(&daemon, "engine") == 1.0 && is_idle(&daemon)).then_some(())
    });
    assert_eq!(origin.text().len(), 0);
}

#[test]
fn many_well_behaved_frames_are_no_flood() {
    let body: &'static [u8] = Vec::leak(
        [&b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n"[..], &vec![7; 30_000_000]]
            .concat(),
    );
    let origin = Origin::answering(body);
    // It takes a while, in which the client may be held up for longer than a quick listener bears.
    let (daemon, bind) = front(&[origin.address], "", "");
    let mut raw = Raw::connect(bind);
    raw.head(1, &[]);
    let mut got = 0;
    // A client that acknowledges every frame at once, for stream and connection, and measures its path.
    while got < 30_000_000 {
        let frame = raw.until(|frame| frame.kind == 0);
        got += frame.payload.len();
        let more = (frame.payload.len() as u32).to_be_bytes();
        if !frame.payload.is_empty() {
            raw.frame(8, 0, 0, &more);
            raw.frame(8, 0, 1, &more);
            raw.frame(6, 0, 0, &[1; 8]);
        }
    }
    assert_eq!((got, counted(&daemon)), (30_000_000, 0.0));
}
