//! The clients: requests that come when they come, whatever became of those before, on connections
//! that are kept. They are the same sequence for each peer.
//!
//! They are told what to do in one line of JSON ([`Order`]), say `counting` when they begin, and then,
//! in one line of JSON, what became of each request.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::time::Duration;

use memchr::memmem;
use serde::{Deserialize, Serialize};
use tidegate::base::{Clock, Entropy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long a client waits for its answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// What is asked for; no probe asks for this.
pub const REQUEST: &[u8] = b"GET /b/100 HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: load\r\n\r\n";
/// The longest head of a response.
const HEAD: usize = 8192;

/// What to do.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// Whom to load.
    pub address: SocketAddr,
    /// Requests a second on average; they come by chance (Poisson).
    pub rate: f64,
    /// Chooses the sequence.
    pub seed: u64,
    /// For how long requests come.
    pub length: Duration,
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Fate {
    /// A whole response of this status.
    Answered(u16),
    /// The connection was refused, or broke before the response was whole.
    Broken,
    /// There was no response within [`PATIENCE`].
    Late,
}

/// One request.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Record {
    /// When it was due, in seconds from the beginning.
    pub due: f64,
    /// How long its client waited from then on, in seconds.
    pub took: f64,
    /// What became of it.
    pub fate: Fate,
}

/// Loads as ordered.
///
/// # Errors
/// If there is no runtime, or nobody listens to the results.
pub fn run(order: Order) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("counting");
    io::stdout().flush()?;
    let records = runtime.block_on(load(order));
    println!("{}", serde_json::to_string(&records)?);
    Ok(())
}

async fn load(order: Order) -> Vec<Record> {
    let (clock, mut entropy) = (Clock::start(), Entropy::seeded(order.seed));
    let (mut records, mut requests) = (Vec::new(), JoinSet::new());
    let mut idle: Vec<TcpStream> = Vec::new();
    let mut due = Duration::ZERO;
    let mut keep = |ended: Result<(Record, Option<TcpStream>), _>, idle: &mut Vec<_>| {
        if let Ok((record, socket)) = ended {
            records.push(record);
            idle.extend(socket);
        }
    };
    while due < order.length {
        tokio::select! {
            Some(ended) = requests.join_next() => keep(ended, &mut idle),
            () = tokio::time::sleep(due.saturating_sub(clock.elapsed())) => {
                while due <= clock.elapsed() && due < order.length {
                    requests.spawn(one(order.address, idle.pop(), clock, due));
                    due += Duration::from_secs_f64(-(1.0 - entropy.unit()).ln() / order.rate);
                }
            }
        }
    }
    while let Some(ended) = requests.join_next().await {
        keep(ended, &mut idle);
    }
    records
}

/// One request; what came of it, and its connection if that can be used again.
async fn one(
    address: SocketAddr,
    socket: Option<TcpStream>,
    clock: Clock,
    due: Duration,
) -> (Record, Option<TcpStream>) {
    let (fate, socket) = match tokio::time::timeout(PATIENCE, ask(address, socket)).await {
        Ok(Ok((200, socket))) => (Fate::Answered(200), Some(socket)),
        // Who sends an error may close after it.
        Ok(Ok((status, _))) => (Fate::Answered(status), None),
        Ok(Err(_)) => (Fate::Broken, None),
        Err(_) => (Fate::Late, None),
    };
    let took = clock.elapsed().saturating_sub(due).as_secs_f64();
    (Record { due: due.as_secs_f64(), took, fate }, socket)
}

async fn ask(address: SocketAddr, socket: Option<TcpStream>) -> io::Result<(u16, TcpStream)> {
    let mut socket = match socket {
        Some(socket) => socket,
        None => TcpStream::connect(address).await?,
    };
    socket.set_nodelay(true)?;
    socket.write_all(REQUEST).await?;
    let mut input = Vec::with_capacity(HEAD);
    let head = loop {
        if input.len() >= HEAD || socket.read_buf(&mut input).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = memmem::find(&input, b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&input[..head]).to_ascii_lowercase();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status: u16 = status.ok_or(ErrorKind::InvalidData)?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => {
            while input.len() < head + length {
                if socket.read_buf(&mut input).await? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
        }
        // HAProxy's own answers have no length: they end with the connection.
        None if status != 200 => while socket.read_buf(&mut input).await? > 0 {},
        None => return Err(ErrorKind::InvalidData.into()),
    }
    Ok((status, socket))
}
