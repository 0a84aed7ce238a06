//! Probes over real sockets: one connection each, with as little work as it can be done with.
//!
//! A probe ends in a reset where the instance did not close first, so that frequent probes leave
//! no connection in TIME_WAIT on this node. What the instance still sends is read before, so that
//! it does not log a broken pipe.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time;

use crate::base::Clock;
use crate::fleet::order::{Lane, ProbeError, ProbeOrder, ProbeResult};
use crate::model::HealthCheck;
use crate::net::{dial, proxy_protocol};

/// A status line must fit in here.
const BUFFER: usize = 1024;
/// What is read at most of an answer, and for how long, after its status is known.
const REST: usize = 64 * 1024;
const REST_TIME: Duration = Duration::from_millis(100);
/// A time-out that fires later than this shows that this node was stalled, not the instance.
const STALL: Duration = Duration::from_millis(500);

/// Makes probes: a bounded number at a time in each [`Lane`].
#[derive(Clone, Debug)]
pub struct Prober {
    clock: Clock,
    lanes: [Arc<Semaphore>; Lane::ALL.len()],
}

impl Prober {
    /// A prober with nothing to do.
    pub fn new(clock: Clock) -> Self {
        Self { clock, lanes: Lane::ALL.map(|lane| Arc::new(Semaphore::new(lane.width()))) }
    }

    /// Makes the probe on a task of the current runtime, as soon as its lane has room, and hands
    /// back what came of it. Each order has exactly one result, unless nobody receives any more.
    pub fn start(&self, order: ProbeOrder, results: mpsc::Sender<ProbeResult>) {
        let clock = self.clock;
        let lane = Arc::clone(&self.lanes[order.lane as usize]);
        tokio::spawn(async move {
            let outcome = {
                // The lanes are never closed; if one were, its bound would be gone, not the probe.
                let _room = lane.acquire().await;
                probe(clock, &order).await
            };
            // At shutdown nobody receives it.
            let _ = results.send(ProbeResult { order, outcome }).await;
        });
    }
}

/// Asks the instance once. Returns how long its answer took.
///
/// # Errors
/// Says why the instance does not pass, or that this node could not ask.
pub async fn probe(clock: Clock, order: &ProbeOrder) -> Result<Duration, ProbeError> {
    let (start, timeout) = (clock.elapsed(), order.timeout);
    let asked = async {
        match &order.pool.health.check {
            HealthCheck::None => Ok(None),
            HealthCheck::Tcp => greet(order).await.map(Some),
            HealthCheck::Http { path } => get(order, path).await.map(Some),
        }
    };
    let answer = time::timeout(timeout, asked).await;
    let took = clock.elapsed().saturating_sub(start);
    let code = match answer {
        Ok(Ok(Some(answer))) => {
            let code = answer.code;
            hang_up(answer).await;
            code
        }
        Ok(Ok(None)) => None,
        Ok(Err(error)) => return Err(error),
        Err(_) if took > timeout + STALL => {
            return Err(ProbeError::Local(format!("it was stalled for {} ms", took.as_millis())));
        }
        Err(_) => return Err(ProbeError::Timeout(timeout)),
    };
    match code {
        None | Some(200..=399) => Ok(took),
        Some(code) => Err(ProbeError::Status(code)),
    }
}

/// What an instance answered.
struct Answer {
    stream: TcpStream,
    /// Where it was asked for one.
    code: Option<u16>,
    /// Whether nothing more is to come.
    whole: bool,
}

/// A connection like those of the pool's traffic, and what is to be sent on it first.
async fn connect(order: &ProbeOrder) -> Result<(TcpStream, Vec<u8>), ProbeError> {
    let upstream = &order.pool.upstream;
    let dialed = dial::connect(order.instance.address, upstream.source, &upstream.socket).await;
    let stream = dialed.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::CONNREFUSED) => ProbeError::Refused,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL) => {
            ProbeError::Local(error.to_string())
        }
        _ => ProbeError::Connect(error.kind()),
    })?;
    let mut first = Vec::new();
    if let Some(version) = upstream.proxy_protocol {
        proxy_protocol::write(version, None, &mut first);
    }
    Ok((stream, first))
}

fn broken(error: io::Error) -> ProbeError {
    ProbeError::Broken(error.kind())
}

/// A connection, and no more than it has to begin with.
async fn greet(order: &ProbeOrder) -> Result<Answer, ProbeError> {
    let (mut stream, first) = connect(order).await?;
    stream.write_all(&first).await.map_err(broken)?;
    Ok(Answer { stream, code: None, whole: true })
}

/// `GET path`, up to the status line of the answer.
async fn get(order: &ProbeOrder, path: &str) -> Result<Answer, ProbeError> {
    let (mut stream, mut first) = connect(order).await?;
    let host = order.instance.address;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidegate-probe\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    first.extend_from_slice(request.as_bytes());
    stream.write_all(&first).await.map_err(broken)?;
    let mut buffer = [0; BUFFER];
    let mut filled = 0;
    loop {
        let n = stream.read(&mut buffer[filled..]).await.map_err(broken)?;
        let seen = filled;
        filled += n;
        if let Some(end) = memchr::memchr(b'\n', &buffer[seen..filled]) {
            let code = status(&buffer[..=seen + end]).ok_or(ProbeError::NotHttp)?;
            let whole = is_whole(&buffer[..filled]);
            return Ok(Answer { stream, code: Some(code), whole });
        }
        match n {
            0 if filled == 0 => return Err(ProbeError::Closed),
            0 => return Err(ProbeError::NotHttp),
            _ if filled == BUFFER => return Err(ProbeError::NotHttp),
            _ => {}
        }
    }
}

/// The code in a status line.
fn status(line: &[u8]) -> Option<u16> {
    let mut response = httparse::Response::new(&mut []);
    response.parse(line).ok()?;
    response.code
}

/// Whether this is an answer of a stated length, to its last byte.
fn is_whole(bytes: &[u8]) -> bool {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(head)) = response.parse(bytes) else {
        return false;
    };
    let length =
        response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
    length.is_some_and(|length: usize| bytes.len() - head >= length)
}

/// Ends the connection: in peace if the instance closes it at once, else with a reset.
async fn hang_up(mut answer: Answer) {
    let stream = &mut answer.stream;
    let closed = !answer.whole && time::timeout(REST_TIME, drain(stream)).await == Ok(true);
    if !closed {
        // If it cannot be set, the connection is closed in the ordinary way.
        let _ = stream.set_zero_linger();
    }
}

/// Reads what is left of an answer; true if its end was seen.
async fn drain(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; BUFFER];
    let mut left = REST;
    while left > 0 {
        match stream.read(&mut buffer).await {
            Ok(0) => return true,
            Ok(n) => left = left.saturating_sub(n),
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests;
