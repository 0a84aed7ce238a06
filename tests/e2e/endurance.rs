//! Gigabytes in flat memory, and clients of a byte a second beside full load. The sizes here suit
//! every run; `TIDEGATE_ENDURANCE=1` makes the transfers ten times as long.

mod slow;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::daemon::{BINARY, Daemon, eventually, free_address};
use crate::load::Load;
use crate::origin::Origin;
use crate::tools::{Ended, tell};

use slow::{HalfHeads, Slow};

const MIB: u64 = 1 << 20;

/// These tests measure, so they do not run beside each other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A daemon with one HTTP listener before one instance.
fn daemon(instance: SocketAddr, listener: &str) -> (Daemon, SocketAddr) {
    let bind = free_address();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"{bind}\"\npool = \"web\"\n{listener}\n\
         [pool.web]\nmax_in_flight = 2000\ninstances = [{{ address = \"{instance}\" }}]\n\
         [pool.web.health]\ntype = \"none\"\n"
    ));
    (daemon, bind)
}

/// How the end of a body is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    Length,
    Chunked,
}

const BLOCK: usize = 64 * 1024;
const CHUNK_LINE: &[u8] = b"10000\r\n";

/// A block as a chunk: its line, its number, bytes that repeat at no power of two, the line's end.
fn first_chunk() -> Vec<u8> {
    let content = (0..BLOCK as u32).map(|n| (n % 251) as u8);
    CHUNK_LINE.iter().copied().chain(content).chain(*b"\r\n").collect()
}

/// The field that tells the framing of `len` bytes.
fn field(framing: Framing, len: u64) -> String {
    match framing {
        Framing::Length => format!("Content-Length: {len}"),
        Framing::Chunked => "Transfer-Encoding: chunked".into(),
    }
}

/// Sends a body of `len` bytes, whole blocks.
fn send(stream: &mut TcpStream, framing: Framing, len: u64) -> io::Result<()> {
    let mut chunk = first_chunk();
    let content = CHUNK_LINE.len()..CHUNK_LINE.len() + BLOCK;
    for number in 0..len / BLOCK as u64 {
        chunk[content.start..][..8].copy_from_slice(&number.to_le_bytes());
        match framing {
            Framing::Length => stream.write_all(&chunk[content.clone()])?,
            Framing::Chunked => stream.write_all(&chunk)?,
        }
    }
    if framing == Framing::Chunked { stream.write_all(b"0\r\n\r\n") } else { Ok(()) }
}

/// Reads a body of `len` bytes and compares every one of them.
fn receive(reader: &mut impl BufRead, framing: Framing, len: u64) -> io::Result<()> {
    let wrong = |what: &str, number| io::Error::other(format!("{what} at block {number}"));
    let expected = first_chunk();
    let expected = &expected[CHUNK_LINE.len()..][..BLOCK];
    let mut block = vec![0; BLOCK];
    let mut body = Body { reader, framing, left: 0 };
    for number in 0..len / BLOCK as u64 {
        body.read_exact(&mut block)?;
        if block[..8] != number.to_le_bytes() || block[8..] != expected[8..] {
            return Err(wrong("other bytes", number));
        }
    }
    if framing == Framing::Chunked && body.read(&mut [0])? != 0 {
        return Err(wrong("more than was sent", len / BLOCK as u64));
    }
    Ok(())
}

/// The bytes of a body without their framing.
struct Body<'a, R> {
    reader: &'a mut R,
    framing: Framing,
    /// Of the current chunk.
    left: usize,
}

impl<R: BufRead> Read for Body<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.framing == Framing::Length {
            return self.reader.read(into);
        }
        if self.left == 0 {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
            self.left = size;
            if size == 0 {
                self.end_of_chunk()?;
                return Ok(0);
            }
        }
        let most = into.len().min(self.left);
        let n = self.reader.read(&mut into[..most])?;
        self.left -= n;
        if self.left == 0 {
            self.end_of_chunk()?;
        }
        Ok(n)
    }
}

impl<R: BufRead> Body<'_, R> {
    fn end_of_chunk(&mut self) -> io::Result<()> {
        let mut end = [0; 2];
        self.reader.read_exact(&mut end)?;
        if end == *b"\r\n" { Ok(()) } else { Err(io::Error::other("no end of a chunk")) }
    }
}

/// A head's lines; `None` at the end of the stream.
fn head(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some(lines);
        }
        lines.push(line.trim_end().to_ascii_lowercase());
    }
}

/// Sends as much as is asked for (`GET /Chunked/LEN`), and checks what is sent to it (`POST`).
fn gigabytes() -> Origin {
    Origin::start(|peer| {
        let mut reader =
            BufReader::with_capacity(4 * BLOCK, peer.stream.try_clone().expect("cloned"));
        while let Some(lines) = head(&mut reader) {
            let mut words = lines[0].split([' ', '/']).filter(|word| !word.is_empty());
            let method = words.next().expect("a method").to_owned();
            let framing = match words.next() {
                Some("chunked") => Framing::Chunked,
                _ => Framing::Length,
            };
            let len = words.next().and_then(|len| len.parse().ok()).expect("a length");
            let done = if method == "get" {
                let head = format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", field(framing, len));
                let sent = peer.stream.write_all(head.as_bytes());
                sent.and_then(|()| send(&mut peer.stream, framing, len))
            } else {
                let verdict = match receive(&mut reader, framing, len) {
                    Ok(()) => "whole".into(),
                    Err(err) => err.to_string(),
                };
                let len = verdict.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{verdict}");
                peer.stream.write_all(answer.as_bytes())
            };
            if done.is_err() {
                return;
            }
        }
    })
}

/// A client's half of a transfer.
fn transfer(bind: SocketAddr, method: &str, framing: Framing, len: u64) {
    let mut stream = TcpStream::connect(bind).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    let mut reader = BufReader::with_capacity(4 * BLOCK, stream.try_clone().expect("cloned"));
    let line = format!("{method} /{framing:?}/{len} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
    stream.write_all(line.as_bytes()).expect("sent");
    if method == "POST" {
        stream.write_all(format!("{}\r\n\r\n", field(framing, len)).as_bytes()).expect("sent");
        send(&mut stream, framing, len).expect("sent");
    } else {
        stream.write_all(b"\r\n").expect("sent");
    }
    let lines = head(&mut reader).expect("an answer");
    assert_eq!(lines[0], "http/1.1 200 ok", "{lines:?}");
    if method == "POST" {
        let mut verdict = String::new();
        reader.read_to_string(&mut verdict).expect("an answer");
        assert_eq!(verdict, "whole");
    } else {
        assert!(lines.contains(&field(framing, len).to_ascii_lowercase()), "{lines:?}");
        receive(&mut reader, framing, len).expect("whole");
        assert_eq!(reader.read(&mut [0]).expect("an end"), 0);
    }
}

#[test]
fn gigabytes_pass_in_flat_memory() {
    let _alone = alone();
    let long = std::env::var_os("TIDEGATE_ENDURANCE").is_some();
    let len = if long { 5 << 30 } else { 512 * MIB };
    let origin = gigabytes();
    let (daemon, bind) = daemon(origin.address, "");
    let kinds = [
        ("GET", Framing::Length),
        ("POST", Framing::Length),
        ("GET", Framing::Chunked),
        ("POST", Framing::Chunked),
    ];
    for (method, framing) in kinds {
        transfer(bind, method, framing, 16 * MIB);
    }
    let before = daemon.memory().now;
    for (method, framing) in kinds {
        daemon.forget_peak();
        let began = Instant::now();
        transfer(bind, method, framing, len);
        let (took, memory) = (began.elapsed(), daemon.memory());
        tell(&format!(
            "{method} of {} MiB, {framing:?}: {:.1} s; KiB resident: {} before, {} after, {} at most",
            len / MIB,
            took.as_secs_f64(),
            before / 1024,
            memory.now / 1024,
            memory.peak / 1024
        ));
        assert!(memory.peak < before + 16 * MIB, "{method} {framing:?}");
    }
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

/// Whoami, which sends and takes as much as it is told, and a daemon before it.
fn before_whoami(listener: &str) -> (Ended, Daemon, SocketAddr) {
    // Each slow client is a socket here, and the daemon inherits the limit.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).expect("its own limit");
    let address = free_address();
    let mut command = Command::new(BINARY);
    command.args(["whoami", "--listen", &address.to_string()]).stderr(Stdio::null());
    let whoami = Ended(command.spawn().expect("it starts"));
    eventually("whoami listens", Duration::from_secs(10), || TcpStream::connect(address).ok());
    let (daemon, bind) = daemon(address, listener);
    (whoami, daemon, bind)
}

const READERS: usize = 200;
const WRITERS: usize = 200;

/// As much as sixteen connections can ask for, for three seconds; the time within which 99 of 100
/// requests were answered.
fn full_load(bind: SocketAddr) -> Duration {
    let load = Load::start(bind, 16, 1_000_000);
    std::thread::sleep(Duration::from_secs(3));
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    tell(&format!(
        "{} requests, 99.9 {:?}, the slowest took {:?}",
        tally.ok,
        tally.within(0.999),
        tally.slowest
    ));
    tally.within(0.99)
}

/// Waits until nobody is connected any more.
fn all_have_left(daemon: &Daemon) {
    eventually("all connections are closed", Duration::from_secs(15), || {
        (daemon.metric("tidegate_connections_active", "") == 0.0).then_some(())
    });
}

#[test]
fn slow_clients_by_the_hundred_do_not_slow_the_others_down() {
    let _alone = alone();
    let (_whoami, daemon, bind) =
        before_whoami("timeouts = { head = \"60s\", idle = \"60s\", body = \"60s\" }");
    let in_flight = || daemon.instances("web")[0]["in_flight"].as_u64().expect("a number") as usize;
    full_load(bind);
    all_have_left(&daemon);
    let before = daemon.memory().now;
    let mut peaks = Vec::new();
    let mut fair = false;
    // Suffering that comes from slow clients comes every time; that of a busy machine does not.
    while peaks.len() < 8 {
        daemon.forget_peak();
        let alone = full_load(bind);
        let slow = Slow::start(bind, READERS, WRITERS);
        eventually("all slow requests are under way", Duration::from_secs(15), || {
            (in_flight() == READERS + WRITERS).then_some(())
        });
        let beside = full_load(bind);
        // Of the others, the last have their answers a moment before their places are free.
        eventually("nobody gave up, nobody was let down", Duration::from_secs(5), || {
            (in_flight() == READERS + WRITERS).then_some(())
        });
        let lost = slow.finish();
        assert!(lost.is_empty(), "{lost:?}");
        all_have_left(&daemon);
        fair |= beside < Duration::from_millis(500).min(5 * alone + Duration::from_millis(50));
        let memory = daemon.memory();
        tell(&format!(
            "99 of 100 within {alone:?} alone, within {beside:?} beside {} slow clients; \
             KiB resident: {} before, {} after, {} at most",
            READERS + WRITERS,
            before / 1024,
            memory.now / 1024,
            memory.peak / 1024
        ));
        assert!(memory.peak < before + 64 * MIB);
        peaks.push(memory.peak);
    }
    assert!(fair, "others suffered in {} rounds", peaks.len());
    // The first two rounds show what is needed; from then on that is used again.
    assert!(peaks[7] < peaks[1] + 8 * MIB, "it adds up: {peaks:?}");
}

#[test]
fn half_heads_are_closed_in_time_however_they_dribble() {
    const COUNT: usize = 300;
    let _alone = alone();
    let (_whoami, daemon, bind) = before_whoami("timeouts = { head = \"2s\" }");
    for round in 1..=2 {
        let ended = HalfHeads::run(bind, COUNT);
        let first = ended.iter().map(|end| end.after).min().expect("some");
        let last = ended.iter().map(|end| end.after).max().expect("some");
        tell(&format!("{COUNT} half heads ended after {first:?} to {last:?}"));
        let wrong: Vec<_> =
            ended.iter().filter(|end| !end.answer.starts_with("HTTP/1.1 408 ")).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        // The daemon's clock for this is as coarse as the worker is busy.
        assert!(first > Duration::from_secs(1) && last < Duration::from_secs(10));
        all_have_left(&daemon);
        let refused = daemon.metric("tidegate_refused_total", "reason=\"head_timeout\"");
        assert_eq!(refused, (round * COUNT) as f64);
    }
}
