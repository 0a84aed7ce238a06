//! `tidegate whoami`: a tiny instance to try things with. It tells who it is and what request it
//! saw, and it can be told to be slow, to fail, or to be sick, while it runs.

mod dials;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::base::entropy::stable_hash;
use crate::base::unit::parse_duration;
use crate::base::{Clock, Entropy, Share};

use dials::{Cold, Dials, Pace, Wish};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// How long requests may take to finish once it is told to stop.
const LINGER: Duration = Duration::from_secs(5);

/// A tiny instance to try things with: it tells who it is and what it was asked.
///
/// A request may say `?delay=300ms`, `?status=503` or `?bytes=100000`; and
/// `POST /whoami?rate=50&delay=1s&fail=20%25&healthy=false` changes the instance while it runs.
#[derive(Clone, PartialEq, Debug, Args)]
pub struct WhoamiArgs {
    /// Where to listen, such as 127.0.0.1:8081
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Serve at most this many requests per second; others wait, none is refused
    #[arg(long, value_name = "N", value_parser = dials::parse_rate)]
    pub rate: Option<f64>,
    /// Take this much longer for each request
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub delay: Option<Duration>,
    /// Answer this share of requests with 500, such as 10%
    #[arg(long, value_name = "SHARE", value_parser = dials::parse_fail)]
    pub fail: Option<Share>,
    /// Wait this long before listening
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub boot: Option<Duration>,
    /// Answer 500 at first, to probes as well, for this long after it listens
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub cold_fail: Option<Duration>,
    /// After that make --delay ten times as long for this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub cold_slow: Option<Duration>,
    /// Its name; default: $TIDEGATE_INSTANCE_ID, else its address
    #[arg(long)]
    pub id: Option<String>,
    /// Where it stands; default: $TIDEGATE_ZONE
    #[arg(long)]
    pub zone: Option<String>,
}

/// Serves until TERM or INT.
///
/// # Errors
/// If it cannot listen, with the reason for the operator.
pub fn run(args: WhoamiArgs) -> Result<(), String> {
    raise_file_limit();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| format!("cannot start: {err}"))?
        .block_on(boot_and_serve(args))
}

async fn boot_and_serve(args: WhoamiArgs) -> Result<(), String> {
    let mut stop = pin!(told_to_stop()?);
    if let Some(boot) = args.boot {
        tokio::select! {
            () = tokio::time::sleep(boot) => {}
            () = &mut stop => return Ok(()),
        }
    }
    let address = args.listen;
    let listener = listen(address).map_err(|err| format!("cannot listen on {address}: {err}"))?;
    let whoami = Whoami::new(args);
    eprintln!("{} listens on {address}", whoami.id);
    serve(listener, Arc::new(whoami), stop).await;
    Ok(())
}

/// Every connection costs a descriptor, and the usual soft limit is 1,024. Where it cannot be
/// raised, the instance serves as many as it can.
fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn told_to_stop() -> Result<impl Future<Output = ()>, String> {
    let hook = |kind| signal(kind).map_err(|err| format!("cannot wait for signals: {err}"));
    let (mut term, mut int) = (hook(SignalKind::terminate())?, hook(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop`; then what runs may finish.
async fn serve(listener: TcpListener, whoami: Arc<Whoami>, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let (leave, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let whoami = Arc::clone(&whoami);
                    connections.spawn(converse(stream, whoami, leave.subscribe()));
                }
                // Out of descriptors, most likely: connections that end give some back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
    drop(listener);
    leave.send_replace(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LINGER, ended).await;
}

/// One connection, to its end. What breaks it is the client's affair.
async fn converse(stream: TcpStream, whoami: Arc<Whoami>, mut leave: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let whoami = Arc::clone(&whoami);
        async move { whoami.answer(request).await }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        _ = leave.wait_for(|leave| *leave) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

type Answer = Response<Either<Full<Bytes>, Filler>>;

/// The instance.
#[derive(Debug)]
struct Whoami {
    id: String,
    zone: String,
    address: SocketAddr,
    /// Started when it began to listen.
    clock: Clock,
    cold: Cold,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    dials: Dials,
    pace: Pace,
    entropy: Entropy,
    served: u64,
}

impl Whoami {
    fn new(args: WhoamiArgs) -> Self {
        let known = |given: Option<String>, name| given.or_else(|| std::env::var(name).ok());
        let id = known(args.id, "TIDEGATE_INSTANCE_ID").unwrap_or_else(|| args.listen.to_string());
        let dials = Dials {
            rate: args.rate,
            delay: args.delay.unwrap_or_default(),
            fail: args.fail.unwrap_or(Share(0.0)),
            healthy: true,
        };
        let entropy = Entropy::seeded(stable_hash(id.as_bytes()));
        Self {
            id,
            zone: known(args.zone, "TIDEGATE_ZONE").unwrap_or_else(|| "none".into()),
            address: args.listen,
            clock: Clock::start(),
            cold: Cold {
                fail: args.cold_fail.unwrap_or_default(),
                slow: args.cold_slow.unwrap_or_default(),
            },
            state: Mutex::new(State { dials, pace: Pace::default(), entropy, served: 0 }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let (head, mut body) = request.into_parts();
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
        }
        Ok(match head.uri.path() {
            _ if self.cold.fails(self.clock.elapsed()) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, "cold\n")
            }
            "/healthz" if self.state().dials.healthy => text(StatusCode::OK, "ok\n"),
            "/healthz" => text(StatusCode::SERVICE_UNAVAILABLE, "told to be sick\n"),
            "/whoami" => self.turn(&head),
            _ => self.tell(&head, length).await,
        })
    }

    /// `/whoami`: the dials, turned first if it is a POST.
    fn turn(&self, head: &request::Parts) -> Answer {
        let mut state = self.state();
        if head.method == Method::POST {
            match state.dials.turned(head.uri.query().unwrap_or_default()) {
                Ok(dials) if dials.rate != state.dials.rate => {
                    state.dials = dials;
                    // Who comes now does not wait behind those that the old rate holds up.
                    state.pace = Pace::default();
                }
                Ok(dials) => state.dials = dials,
                Err(why) => return text(StatusCode::BAD_REQUEST, format!("{why}\n")),
            }
        }
        match wants_json(head) {
            true => json(StatusCode::OK, &state.dials.json()),
            false => text(StatusCode::OK, state.dials.to_string()),
        }
    }

    /// Any other path: who it is and what it saw, in its own time.
    async fn tell(&self, head: &request::Parts, length: usize) -> Answer {
        let wish = match Wish::parse(head.uri.query().unwrap_or_default()) {
            Ok(wish) => wish,
            Err(why) => return text(StatusCode::BAD_REQUEST, format!("{why}\n")),
        };
        let wait = {
            let mut state = self.state();
            let (now, rate) = (self.clock.elapsed(), state.dials.rate);
            let start = state.pace.reserve(now, rate);
            let delay = self.cold.delayed(now, state.dials.delay);
            start.saturating_sub(now).saturating_add(delay).saturating_add(wish.delay)
        };
        if wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
        let (served, fails) = {
            let mut state = self.state();
            state.served += 1;
            (state.served, state.entropy.unit() < state.dials.fail.0)
        };
        let asked = wish.status.and_then(|status| StatusCode::from_u16(status).ok());
        let status = match (asked, fails) {
            (Some(status), _) => status,
            (None, true) => StatusCode::INTERNAL_SERVER_ERROR,
            (None, false) => StatusCode::OK,
        };
        if let Some(bytes) = wish.bytes {
            return answer(status, "text/plain", Either::Right(Filler { left: bytes }));
        }
        match wants_json(head) {
            true => json(status, &self.as_json(head, length, served)),
            false => text(status, self.as_text(head, length, served)),
        }
    }

    fn as_text(&self, head: &request::Parts, length: usize, served: u64) -> String {
        let mut text = format!(
            "id: {}\nzone: {}\naddress: {}\nserved: {served}\nbody: {length} bytes\n\n{} {} {:?}\n",
            self.id, self.zone, self.address, head.method, head.uri, head.version
        );
        for (name, value) in &head.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}: {value}");
        }
        text
    }

    fn as_json(&self, head: &request::Parts, length: usize, served: u64) -> serde_json::Value {
        let fields: Vec<_> = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
            .collect();
        json!({
            "id": self.id,
            "zone": self.zone,
            "address": self.address,
            "served": served,
            "body": length,
            "method": head.method.as_str(),
            "target": head.uri.to_string(),
            "version": format!("{:?}", head.version),
            "fields": fields,
        })
    }
}

fn wants_json(head: &request::Parts) -> bool {
    let accept = head.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("application/json"))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", Either::Left(Full::new(body.into())))
}

fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    let body = Full::new(format!("{body}\n").into());
    answer(status, "application/json", Either::Left(body))
}

fn answer(status: StatusCode, kind: &'static str, body: Either<Full<Bytes>, Filler>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// A body of that many bytes, made as it is sent.
#[derive(Debug)]
struct Filler {
    left: u64,
}

static PIECE: [u8; 65_536] = [b'.'; 65_536];

impl Body for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE.len());
        self.left -= length as u64;
        let piece = Bytes::from_static(&PIECE[..length]);
        Poll::Ready((length > 0).then_some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
