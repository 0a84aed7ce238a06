//! The load generator: one thread, many connections, and a check of every response. It speaks HTTP/1.1
//! here, plain or under TLS ([`crate::wire`]), and HTTP/2 in [`crate::h2_load`].
//!
//! It is told what to do in one line of JSON ([`Order`]) and says `counting` when the counted time
//! begins, then, in one line of JSON, what came of it ([`Outcome`]).

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use tidegate::base::Clock;

use crate::events::{Event, Events};
use crate::h2_load;
use crate::histogram::Histogram;
use crate::scenario::{Client, Exchange};
use crate::tls;
use crate::wire::Wire;

/// What to do.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// Whom to load.
    pub address: SocketAddr,
    /// What to speak.
    pub client: Client,
    /// With TLS: the certificate that whoever is loaded has to show.
    pub certificate: PathBuf,
    /// What one request is.
    pub exchange: Exchange,
    /// How many connections.
    pub connections: usize,
    /// Time before anything is counted.
    pub warmup: Duration,
    /// Counted time.
    pub window: Duration,
    /// How to load.
    pub pace: Pace,
}

/// How to load.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Pace {
    /// A request is sent when the one before is answered.
    Flood,
    /// So many requests a second, each at its time; latency counts from there, so that one that had
    /// to wait for a slow one counts as slow too.
    Constant(f64),
    /// One request on each connection, which is then held until standard input ends.
    Hold,
}

/// What came of it.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Whole responses; connections, if they were held.
    pub requests: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Counted time.
    pub seconds: f64,
    /// Wrong or broken responses, and requests without an answer for two seconds.
    pub errors: u64,
    /// Microseconds within which half of the requests were answered.
    pub p50: f64,
    /// The same for 99 %.
    pub p99: f64,
    /// The same for 99.9 %.
    pub p999: f64,
}

impl Outcome {
    /// Takes the latencies over.
    pub fn take_latency(&mut self, latency: &Histogram) {
        [self.p50, self.p99, self.p999] = [0.5, 0.99, 0.999].map(|share| latency.within(share));
    }
}

/// How long a request may go without an answer before it is an error.
pub fn patience(exchange: Exchange) -> Duration {
    Duration::from_secs(2) + Duration::from_nanos((exchange.download + exchange.upload) * 100)
}

/// The longest response head.
const HEAD: usize = 8192;
/// What is read away at once.
const PIECE: usize = 1 << 20;
/// A run with more errors than this shows nothing and is given up.
pub const ERRORS_MAX: u64 = 10_000;
/// How long connections that are to be held may take to be there.
const HOLD_LIMIT: Duration = Duration::from_secs(60);
/// Of those, so many are made at the same time.
const HOLD_AT_ONCE: usize = 100;

/// Loads as ordered.
///
/// # Errors
/// If the machine has no more sockets, or too much went wrong.
pub fn run(order: Order) -> io::Result<()> {
    // Timers of a constant rate are to be as exact as they can be.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let outcome = match order.client {
        Client::Http1 => Generator::new(order, None)?.run()?,
        Client::Https1 => {
            let tls = tls::client(&order.certificate)?;
            Generator::new(order, Some(tls))?.run()?
        }
        Client::H2 { streams } => h2_load::run(order, streams)?,
    };
    let line = serde_json::to_string(&outcome)?;
    println!("{line}");
    Ok(())
}

enum State {
    Idle,
    Sending,
    Head,
    Body(u64),
}

struct Connection {
    wire: Wire,
    state: State,
    /// When the request was to be sent.
    began: Duration,
    sent: usize,
    /// Whether something may have come while the request could not be sent at once.
    blocked: bool,
    head: Vec<u8>,
    have: usize,
    /// Whether the peer has said that this response is the last here.
    last: bool,
}

struct Generator {
    order: Order,
    tls: Option<Arc<ClientConfig>>,
    clock: Clock,
    events: Events,
    head: Vec<u8>,
    body: Vec<u8>,
    sink: Vec<u8>,
    connections: Vec<Connection>,
    /// With a constant rate: connections without a request.
    idle: Vec<usize>,
    /// Requests that have been given a connection, of those that a constant rate makes due.
    given: u64,
    opened: u32,
    answered: usize,
    counting: bool,
    outcome: Outcome,
    latency: Histogram,
}

impl Generator {
    fn new(order: Order, tls: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        let Exchange { download, upload, close } = order.exchange;
        let last = if close { "Connection: close\r\n" } else { "" };
        let first = match upload {
            0 => format!("GET /b/{download} HTTP/1.1\r\n"),
            _ => format!("POST /upload HTTP/1.1\r\nContent-Length: {upload}\r\n"),
        };
        let head =
            format!("{first}Host: bench.test\r\nUser-Agent: load\r\nAccept: */*\r\n{last}\r\n");
        Ok(Self {
            order,
            tls,
            clock: Clock::start(),
            events: Events::new()?,
            head: head.into_bytes(),
            body: vec![b'y'; upload as usize],
            sink: vec![0; PIECE],
            connections: Vec::new(),
            idle: Vec::new(),
            given: 0,
            opened: 0,
            answered: 0,
            counting: false,
            outcome: Outcome::default(),
            latency: Histogram::new(),
        })
    }

    fn run(mut self) -> io::Result<Outcome> {
        if self.order.pace == Pace::Hold {
            self.hold()?
        } else {
            self.load()?
        }
        Ok(self.outcome)
    }

    fn load(&mut self) -> io::Result<()> {
        for _ in 0..self.order.connections {
            self.open()?;
        }
        let mut began = self.order.warmup;
        loop {
            let mut now = self.clock.elapsed();
            if !self.counting && now >= self.order.warmup {
                (self.counting, began) = (true, now);
                say("counting")?;
            }
            let end = began + self.order.window;
            if self.counting && now >= end {
                break;
            }
            let mut wake = if self.counting { end } else { began };
            if let Pace::Constant(rate) = self.order.pace {
                let mut due = self.due(rate);
                while due <= now
                    && let Some(at) = self.idle.pop()
                {
                    self.begin(at, due);
                    self.advance(at)?;
                    now = self.clock.elapsed();
                    due = self.due(rate);
                }
                if !self.idle.is_empty() {
                    wake = wake.min(due);
                }
            }
            self.turn(wake.saturating_sub(now))?;
        }
        let now = self.clock.elapsed();
        self.outcome.seconds = (now - began).as_secs_f64();
        let patience = patience(self.order.exchange);
        let late = |connection: &&Connection| {
            !matches!(connection.state, State::Idle) && now > connection.began + patience
        };
        self.outcome.errors += self.connections.iter().filter(late).count() as u64;
        self.outcome.take_latency(&self.latency);
        Ok(())
    }

    fn hold(&mut self) -> io::Result<()> {
        let wanted = self.order.connections;
        while self.answered < wanted && self.clock.elapsed() < HOLD_LIMIT {
            while self.connections.len() < wanted.min(self.answered + HOLD_AT_ONCE) {
                self.open()?;
            }
            self.turn(Duration::from_millis(100))?;
        }
        say("counting")?;
        io::copy(&mut io::stdin(), &mut io::sink())?;
        for connection in &mut self.connections {
            let here = connection.wire.look();
            let open = matches!(&here, Err(error) if error.kind() == ErrorKind::WouldBlock);
            self.outcome.errors += u64::from(!open);
        }
        self.outcome.errors += (wanted - self.answered) as u64;
        self.outcome.requests = self.answered as u64;
        Ok(())
    }

    /// When the next request of a constant rate is due.
    fn due(&self, rate: f64) -> Duration {
        Duration::from_millis(100) + Duration::from_secs_f64(self.given as f64 / rate)
    }

    fn turn(&mut self, limit: Duration) -> io::Result<()> {
        for Event { token, .. } in self.events.wait(Some(limit))? {
            self.advance(token as usize)?;
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        let (at, wire) = (self.connections.len(), self.connect()?);
        self.events.watch(&wire, at as u64)?;
        self.connections.push(Connection {
            wire,
            state: State::Idle,
            began: Duration::ZERO,
            sent: 0,
            blocked: false,
            head: vec![0; HEAD],
            have: 0,
            last: false,
        });
        match self.order.pace {
            Pace::Constant(_) => self.idle.push(at),
            Pace::Flood | Pace::Hold => self.begin(at, self.clock.elapsed()),
        }
        Ok(())
    }

    /// A connection that is being made. The client has sixteen addresses, so that ports never run out.
    fn connect(&mut self) -> io::Result<Wire> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        let no_port = nix::sys::socket::sockopt::IpBindAddressNoPort;
        nix::sys::socket::setsockopt(&socket, no_port, &true)?;
        let from = Ipv4Addr::new(127, 2, 0, 1 + (self.opened % 16) as u8);
        self.opened += 1;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        match socket.connect(&self.order.address.into()) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
            _ => Wire::new(TcpStream::from(socket), self.tls.as_ref()),
        }
    }

    fn begin(&mut self, at: usize, began: Duration) {
        let connection = &mut self.connections[at];
        connection.state = State::Sending;
        connection.began = began;
        connection.sent = 0;
        connection.have = 0;
        connection.last = false;
        self.given += 1;
    }

    /// Replaces a connection, and leaves what it does as it was.
    fn reopen(&mut self, at: usize) -> io::Result<()> {
        let wire = self.connect()?;
        self.events.watch(&wire, at as u64)?;
        let connection = &mut self.connections[at];
        connection.wire = wire;
        connection.blocked = false;
        Ok(())
    }

    /// Does what can be done on a connection now.
    fn advance(&mut self, at: usize) -> io::Result<()> {
        loop {
            match self.step(at) {
                Ok(true) if self.answered(at)? => {}
                Ok(true) => return Ok(()),
                Ok(false) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    self.outcome.errors += 1;
                    if self.outcome.errors > ERRORS_MAX {
                        return Err(error);
                    }
                    self.reopen(at)?;
                    // The same request again, on the new connection, once it is there.
                    let connection = &mut self.connections[at];
                    if !matches!(connection.state, State::Idle) {
                        (connection.sent, connection.have) = (0, 0);
                        connection.state = State::Sending;
                    }
                    return Ok(());
                }
            }
        }
    }

    /// After a whole response: what the connection does next, and whether it can do it at once.
    fn answered(&mut self, at: usize) -> io::Result<bool> {
        let now = self.clock.elapsed();
        self.answered += 1;
        if self.counting {
            self.outcome.requests += 1;
            let took = now.saturating_sub(self.connections[at].began);
            self.latency.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
        let anew = self.order.pace != Pace::Hold
            && (self.order.exchange.close || self.connections[at].last);
        if anew {
            self.reopen(at)?;
        }
        let due = match self.order.pace {
            Pace::Flood => Some(now),
            Pace::Constant(rate) => Some(self.due(rate)).filter(|due| *due <= now),
            Pace::Hold => None,
        };
        match due {
            Some(due) => self.begin(at, due),
            None => {
                self.connections[at].state = State::Idle;
                self.idle.push(at);
            }
        }
        Ok(due.is_some() && !anew)
    }

    /// Sends or reads until it has to wait; true at the end of a response.
    fn step(&mut self, at: usize) -> io::Result<bool> {
        let Connection { wire, state, sent, blocked, head, have, last, .. } =
            &mut self.connections[at];
        let Exchange { download, upload, close } = self.order.exchange;
        let expected = if upload > 0 { 100 } else { download };
        loop {
            match state {
                State::Idle => {
                    // Nothing is owed: whatever comes is an error, and the end is one too.
                    wire.look()?;
                    return Err(ErrorKind::InvalidData.into());
                }
                State::Sending => {
                    while *sent < self.head.len() + self.body.len() {
                        let of_head = (*sent).min(self.head.len());
                        let pieces = [
                            IoSlice::new(&self.head[of_head..]),
                            IoSlice::new(&self.body[*sent - of_head..]),
                        ];
                        let written = wire.write_vectored(&pieces);
                        *blocked |= written.is_err();
                        let written = written?;
                        *sent += written;
                        if self.counting && upload > 0 {
                            self.outcome.bytes += written as u64;
                        }
                    }
                    *state = State::Head;
                    if !std::mem::take(blocked) {
                        return Ok(false);
                    }
                }
                State::Head => {
                    let read = wire.read(&mut head[*have..])?;
                    if read == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    *have += read;
                    let Some(end) = memmem::find(&head[..*have], b"\r\n\r\n") else { continue };
                    let text = String::from_utf8_lossy(&head[..end]);
                    *last = check(&text, expected)? && !close;
                    let here = (*have - end - 4) as u64;
                    if here > expected {
                        return Err(ErrorKind::InvalidData.into());
                    }
                    if self.counting && upload == 0 {
                        self.outcome.bytes += here;
                    }
                    *state = State::Body(expected - here);
                }
                State::Body(0) => return Ok(true),
                State::Body(left) => {
                    let piece = (*left).min(self.sink.len() as u64) as usize;
                    let read = wire.discard(&mut self.sink[..piece])?;
                    if read == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    *left -= read as u64;
                    if self.counting && upload == 0 {
                        self.outcome.bytes += read as u64;
                    }
                }
            }
        }
    }
}

/// Whether a response head is the expected one; if so, whether it says that the connection ends.
fn check(head: &str, expected: u64) -> io::Result<bool> {
    let mut lines = head.split("\r\n");
    let right = lines.next().is_some_and(|first| first.starts_with("HTTP/1.1 200"));
    let (mut length, mut last) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            last = value.trim().eq_ignore_ascii_case("close");
        }
    }
    if right && length == Some(expected) { Ok(last) } else { Err(ErrorKind::InvalidData.into()) }
}

/// Says a word to whoever ordered this.
///
/// # Errors
/// If nobody hears it.
pub fn say(word: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{word}")?;
    out.flush()
}
