//! The load generator for HTTP/2 over TLS: one thread, each connection with so many requests at a time,
//! and a check of every response. The client is tidegate's own way to instances.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::{Request, StatusCode, Version};
use tidegate::base::Clock;
use tidegate::model::{PoolTls, TlsVersion, UpstreamVersion};
use tidegate::net::stream::Stream;
use tidegate::net::tls::{ClientTls, TlsStream};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::sleep;

use crate::histogram::Histogram;
use crate::load::{ERRORS_MAX, Order, Outcome, Pace, patience, say};
use crate::tls::NAME;

/// Loads as ordered, with so many requests at a time on each connection.
///
/// # Errors
/// If the order asks for more than a flood of requests without bodies, or too much went wrong.
pub fn run(order: Order, streams: usize) -> io::Result<Outcome> {
    if order.pace != Pace::Flood || order.exchange.upload > 0 || order.exchange.close {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let load = Rc::new(Load::new(order, streams)?);
    LocalSet::new().block_on(&runtime, load.run())
}

struct Load {
    order: Order,
    streams: usize,
    tls: ClientTls,
    request: Request<()>,
    clock: Clock,
    counting: Cell<bool>,
    outcome: RefCell<Outcome>,
    latency: RefCell<Histogram>,
    /// When the request of each stream was sent.
    began: RefCell<Vec<Duration>>,
}

impl Load {
    fn new(order: Order, streams: usize) -> io::Result<Self> {
        let tls = ClientTls::load(&PoolTls {
            ca: Some(order.certificate.clone()),
            server_name: Some(NAME.to_owned()),
            certificate: None,
            verify: true,
            min_version: TlsVersion::Tls13,
        });
        let tls = tls.map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            io::Error::other(faults.join("; "))
        })?;
        let request = Request::get(format!("https://{NAME}/b/{}", order.exchange.download))
            .version(Version::HTTP_2)
            .header("user-agent", "load")
            .header("accept", "*/*")
            .body(())
            .map_err(io::Error::other)?;
        let began = RefCell::new(vec![Duration::ZERO; order.connections * streams]);
        Ok(Self {
            order,
            streams,
            tls,
            request,
            clock: Clock::start(),
            counting: Cell::new(false),
            outcome: RefCell::default(),
            latency: RefCell::new(Histogram::new()),
            began,
        })
    }

    async fn run(self: Rc<Self>) -> io::Result<Outcome> {
        for number in 0..self.order.connections {
            spawn_local(Rc::clone(&self).connection(number));
        }
        sleep(self.order.warmup).await;
        self.counting.set(true);
        let began = self.clock.elapsed();
        say("counting")?;
        sleep(self.order.window).await;
        let now = self.clock.elapsed();
        let mut outcome = self.outcome.take();
        if outcome.errors > ERRORS_MAX {
            return Err(io::Error::other("too many errors"));
        }
        outcome.seconds = (now - began).as_secs_f64();
        let patience = patience(self.order.exchange);
        let late = self.began.borrow().iter().filter(|began| now > **began + patience).count();
        outcome.errors += late as u64;
        outcome.take_latency(&self.latency.borrow());
        Ok(outcome)
    }

    /// Keeps a connection busy, and replaces it when it is gone.
    async fn connection(self: Rc<Self>, number: usize) {
        while !self.is_lost() {
            let Ok(requests) = self.open().await else {
                self.count_error();
                continue;
            };
            let mut streams = JoinSet::new();
            for stream in 0..self.streams {
                let stream = number * self.streams + stream;
                streams.spawn_local(Rc::clone(&self).stream(requests.clone(), stream));
            }
            streams.join_all().await;
        }
    }

    async fn open(&self) -> io::Result<SendRequest<Bytes>> {
        let address = self.order.address;
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let version = Some(UpstreamVersion::H2);
        let tls = TlsStream::to_instance(socket, &self.tls, address.ip(), version)
            .map_err(io::Error::other)?;
        tls.handshake().await.map_err(io::Error::other)?;
        let handshake = client::handshake(Stream::from(tls)).await;
        let (requests, connection) = handshake.map_err(io::Error::other)?;
        // Its errors are those of its requests.
        spawn_local(async { drop(connection.await) });
        Ok(requests)
    }

    /// Sends one request after the other, as long as there is the connection.
    async fn stream(self: Rc<Self>, requests: SendRequest<Bytes>, stream: usize) {
        while !self.is_lost() {
            let Ok(mut requests) = requests.clone().ready().await else { return };
            let began = self.clock.elapsed();
            self.began.borrow_mut()[stream] = began;
            match self.exchange(&mut requests).await {
                Ok(()) => self.count(began),
                Err(_) => self.count_error(),
            }
        }
    }

    async fn exchange(&self, requests: &mut SendRequest<Bytes>) -> Result<(), h2::Error> {
        let (response, _) = requests.send_request(self.request.clone(), true)?;
        let response = response.await?;
        let is_right = response.status() == StatusCode::OK;
        let (mut body, mut length) = (response.into_body(), 0);
        while let Some(data) = body.data().await.transpose()? {
            body.flow_control().release_capacity(data.len())?;
            length += data.len() as u64;
        }
        if is_right && length == self.order.exchange.download {
            Ok(())
        } else {
            Err(h2::Reason::PROTOCOL_ERROR.into())
        }
    }

    fn count(&self, began: Duration) {
        if self.counting.get() {
            let mut outcome = self.outcome.borrow_mut();
            outcome.requests += 1;
            outcome.bytes += self.order.exchange.download;
            let took = self.clock.elapsed().saturating_sub(began).as_nanos();
            self.latency.borrow_mut().record(u64::try_from(took).unwrap_or(u64::MAX));
        }
    }

    fn count_error(&self) {
        self.outcome.borrow_mut().errors += 1;
    }

    fn is_lost(&self) -> bool {
        self.outcome.borrow().errors > ERRORS_MAX
    }
}
