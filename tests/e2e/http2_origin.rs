//! Instances that speak HTTP/2 by prior knowledge: each path asks for another behaviour.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::sync::watch;

/// What an instance has seen.
#[derive(Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    pub open: AtomicUsize,
    pub requests: AtomicUsize,
    /// The most streams at the same time on one connection.
    pub peak: AtomicUsize,
    /// Streams that the other side has reset, with its reasons.
    pub resets: Mutex<Vec<Reason>>,
    /// How often each path was asked for.
    pub paths: Mutex<HashMap<String, usize>>,
}

impl Seen {
    pub fn count(&self, path: &str) -> usize {
        self.paths.lock().expect("whole").get(path).copied().unwrap_or(0)
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Order {
    Serve,
    /// GOAWAY on every connection; new ones are still accepted.
    Leave(usize),
    /// Everything ends at once.
    Die,
}

/// A server on a thread of its own.
pub struct Http2Origin {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    orders: watch::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// How it is set up.
#[derive(Clone, Copy)]
pub struct Setup {
    /// Streams that a connection may have at the same time.
    pub streams: u32,
    /// Every connection gets a GOAWAY after so many requests; 0 for never.
    pub goaway_after: usize,
    /// Whether another protocol may be spoken in a stream.
    pub connects: bool,
    /// Every gRPC call fails at once: UNAVAILABLE.
    pub unavailable: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { streams: 1_000, goaway_after: 0, connects: false, unavailable: false }
    }
}

impl Http2Origin {
    pub fn start() -> Self {
        Self::set_up(Setup::default())
    }

    pub fn set_up(setup: Setup) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").expect("a port"), setup)
    }

    pub fn start_on(listener: TcpListener, setup: Setup) -> Self {
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("set");
        let seen = Arc::<Seen>::default();
        let (orders, listening) = watch::channel(Order::Serve);
        let to_see = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one");
            runtime.block_on(serve(listener, setup, to_see, listening));
        });
        Self { address, seen, orders, thread: Some(thread) }
    }

    /// Sends GOAWAY on all connections, as an instance does that restarts: what runs is finished.
    pub fn leave(&self) {
        self.orders.send_modify(|order| {
            *order = match order {
                Order::Leave(times) => Order::Leave(*times + 1),
                _ => Order::Leave(1),
            }
        });
    }

    /// Ends all at once, connections included.
    pub fn kill(&mut self) {
        self.orders.send_replace(Order::Die);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it ends");
        }
    }
}

impl Drop for Http2Origin {
    fn drop(&mut self) {
        self.orders.send_replace(Order::Die);
    }
}

async fn serve(
    listener: TcpListener,
    setup: Setup,
    seen: Arc<Seen>,
    mut orders: watch::Receiver<Order>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = orders.wait_for(|order| *order == Order::Die) => return,
        };
        let Ok((socket, _)) = accepted else { return };
        seen.connections.fetch_add(1, SeqCst);
        tokio::spawn(connection(socket, setup, Arc::clone(&seen), orders.clone()));
    }
}

async fn connection(
    socket: tokio::net::TcpStream,
    setup: Setup,
    seen: Arc<Seen>,
    mut orders: watch::Receiver<Order>,
) {
    let _ = socket.set_nodelay(true);
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(setup.streams).initial_window_size(1 << 20);
    if setup.connects {
        builder.enable_connect_protocol();
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else { return };
    seen.open.fetch_add(1, SeqCst);
    orders.borrow_and_update();
    let (mut requests, streams) = (0, Arc::<AtomicUsize>::default());
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            Ok(()) = orders.changed() => {
                connection.graceful_shutdown();
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else { break };
        requests += 1;
        if requests == setup.goaway_after {
            connection.graceful_shutdown();
        }
        let (seen, streams) = (Arc::clone(&seen), Arc::clone(&streams));
        seen.requests.fetch_add(1, SeqCst);
        let now = streams.fetch_add(1, SeqCst) + 1;
        seen.peak.fetch_max(now, SeqCst);
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            let times = {
                let mut paths = seen.paths.lock().expect("whole");
                let times = paths.entry(path).or_default();
                *times += 1;
                *times
            };
            if let Err(error) = answer(request, respond, times, setup).await
                && let Some(reason) = error.reason()
            {
                seen.resets.lock().expect("whole").push(reason);
            }
            streams.fetch_sub(1, SeqCst);
        });
    }
    seen.open.fetch_sub(1, SeqCst);
}

/// Bytes that any part of can be told from any other.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A sum that also tells the order.
pub fn sum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

fn ok() -> Response<()> {
    Response::new(())
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    times: usize,
    setup: Setup,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let (verb, rest) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    let number: usize = rest.parse().unwrap_or(0);
    match verb {
        // All there is of the request's head.
        "head" => {
            let mut text = format!("{} {}\n", head.method, head.uri);
            for (name, value) in &head.headers {
                text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
            }
            let response = Response::builder().header("content-length", text.len());
            let response = response.body(()).expect("a head");
            respond.send_response(response, false)?.send_data(text.into(), true)
        }
        "empty" => respond.send_response(ok(), true).map(drop),
        "status" => {
            let response = Response::builder().status(number as u16).body(()).expect("a head");
            respond.send_response(response, true).map(drop)
        }
        "grpc" => {
            let response = Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", if setup.unavailable { 14 } else { 0 });
            respond.send_response(response.body(()).expect("a head"), true).map(drop)
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number as u64)).await;
            respond.send_response(ok(), false)?.send_data("slow".into(), true)
        }
        // What is said in a stream that speaks another protocol, back to who said it.
        "switch" => {
            let protocol = head.extensions.get::<h2::ext::Protocol>().map(|it| it.as_str());
            assert_eq!((head.method.as_str(), protocol), ("CONNECT", Some("websocket")));
            assert!(head.headers.get("sec-websocket-key").is_none());
            assert_eq!(head.headers["sec-websocket-version"], "13");
            let response = Response::builder().header("sec-websocket-protocol", "chat");
            let mut stream = respond.send_response(response.body(()).expect("a head"), false)?;
            while let Some(data) = body.data().await.transpose()? {
                body.flow_control().release_capacity(data.len())?;
                send(&mut stream, data).await?;
            }
            stream.send_data("bye".into(), true)
        }
        // Never anything.
        "silent" => {
            let reason = poll_fn(|cx| respond.poll_reset(cx)).await?;
            Err(reason.into())
        }
        "big" => {
            let mut stream = respond.send_response(ok(), false)?;
            send(&mut stream, pattern(number).into()).await?;
            stream.send_data(Bytes::new(), true)
        }
        // As much as the other side takes, of nothing in particular.
        "flood" => {
            let mut stream = respond.send_response(ok(), false)?;
            for _ in 0..number {
                send(&mut stream, Bytes::from_static(&[7; 1 << 16])).await?;
            }
            stream.send_data(Bytes::new(), true)
        }
        // How long the body was, and its sum.
        "sum" => {
            let (bytes, trailers) = read(&mut body).await?;
            let text = format!("{} {:x} {:?}", bytes.len(), sum(&bytes), trailers.get("x-end"));
            respond.send_response(ok(), false)?.send_data(text.into(), true)
        }
        // The response begins at once, and gives back what comes, with trailers.
        "echo" => {
            let mut stream = respond.send_response(ok(), false)?;
            while let Some(data) = body.data().await.transpose()? {
                body.flow_control().release_capacity(data.len())?;
                send(&mut stream, data).await?;
            }
            let mut trailers = body.trailers().await?.unwrap_or_default();
            trailers.insert("x-echo", "done".parse().expect("a value"));
            stream.send_trailers(trailers)
        }
        // The response is whole before the body is read.
        "first" => {
            respond.send_response(ok(), false)?.send_data("first".into(), true)?;
            read(&mut body).await.map(drop)
        }
        // The first so many times nothing is looked at.
        "refuse" if times <= number => {
            respond.send_reset(Reason::REFUSED_STREAM);
            Ok(())
        }
        "drop" => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        // Breaks off in the middle of its body.
        "cut" => {
            let mut stream = respond.send_response(ok(), false)?;
            stream.send_data("half".into(), false)?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        "interim" => {
            let hints = Response::builder().status(103).header("link", "</a.css>; rel=preload");
            respond.send_informational(hints.body(()).expect("a head"))?;
            respond.send_response(ok(), false)?.send_data("after".into(), true)
        }
        _ => respond.send_response(ok(), false)?.send_data("hello".into(), true),
    }
}

/// Reads a body to its end.
async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await.transpose()? {
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, body.trailers().await?.unwrap_or_default()))
}

/// Sends as fast as the other side takes.
pub async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len().min(64 * 1024));
        match poll_fn(|cx| stream.poll_capacity(cx)).await.transpose()? {
            Some(capacity) => stream.send_data(data.split_to(capacity.min(data.len())), false)?,
            None => return Err(poll_fn(|cx| stream.poll_reset(cx)).await?.into()),
        }
    }
    Ok(())
}
