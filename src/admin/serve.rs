//! The shell: sockets, connections and deadlines around the pure parts.
//!
//! A connection carries one request, so one deadline bounds everything that a client can hold up.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::admin::Admin;
use crate::admin::answer::Answer;
use crate::admin::guard::{self, Home};
use crate::admin::problem::Problem;
use crate::admin::route::route;
use crate::config::{AdminBind, AdminSettings};
use crate::net::bind::listen_alone;
use crate::net::http::Peer;
use crate::net::unix;

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// For the request head, for the request body, and for what is asked: each on its own.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// For all of that and for the client to take the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(40);
/// After an accept that failed: descriptors are most likely used up, and asking again at once would
/// only burn a CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest request body; what is asked needs a line at most.
const MAX_BODY: usize = 64 * 1024;
/// How much of a body that is too long is read before it is refused: a client that is still sending
/// when the connection closes may never see the answer.
const MAX_DISCARDED: usize = 1024 * 1024;

/// Where the API is served.
#[derive(Debug)]
pub enum AdminListener {
    /// At an address.
    Tcp(TcpListener),
    /// At a socket in the file system.
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Binds what the settings say; must be called within a runtime.
///
/// # Errors
/// If the address cannot be had; says what to do.
pub fn bind(settings: &AdminSettings) -> Result<AdminListener, String> {
    let failed = |why: io::Error| {
        let hint = match why.kind() {
            ErrorKind::AddrInUse => "another process listens there, or it is no socket",
            _ => "check admin.bind",
        };
        format!("cannot listen on {}: {why}; {hint}", Peer::from(&settings.bind))
    };
    match &settings.bind {
        AdminBind::Tcp(address) => {
            let listener = listen_alone(*address).map_err(|why| why.to_string())?;
            TcpListener::from_std(listener).map(AdminListener::Tcp).map_err(failed)
        }
        AdminBind::Unix(path) => unix::listen(path)
            .and_then(UnixListener::from_std)
            .map(AdminListener::Unix)
            .map_err(failed),
    }
}

impl AdminListener {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }

    fn home(&self) -> io::Result<Home> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Home::Tcp),
            Self::Unix(_) => Ok(Home::Unix),
        }
    }
}

/// Serves for ever. Dropping the future closes the socket and every connection.
pub async fn serve(listener: AdminListener, admin: Arc<Admin>) {
    let home = match listener.home() {
        Ok(home) => home,
        Err(why) => {
            tracing::error!(%why, "the admin API's socket has no address; it is not served");
            return;
        }
    };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
        };
        let admin = Arc::clone(&admin);
        match accepted {
            Ok(Stream::Tcp(stream)) => {
                connections.spawn(connection(stream, admin, home));
            }
            Ok(Stream::Unix(stream)) => {
                connections.spawn(connection(stream, admin, home));
            }
            Err(why) => {
                tracing::warn!(%why, "the admin API could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<S>(stream: S, admin: Arc<Admin>, home: Home)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(respond(&admin, home, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(STEP_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::debug!(%why, "an admin connection broke"),
        Err(_) => tracing::debug!("an admin connection took too long"),
    }
}

async fn respond(admin: &Admin, home: Home, request: Request<Incoming>) -> Answer {
    match attempt(admin, home, request).await {
        Ok(answer) => answer,
        Err(problem) => problem.answer(),
    }
}

async fn attempt(admin: &Admin, home: Home, request: Request<Incoming>) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    let body = timeout(STEP_TIMEOUT, whole(body)).await.unwrap_or_else(|_| {
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the request's body did not come in time"))
    })?;
    guard::check(home, admin.token.as_ref(), &head)?;
    let action = route(&head.method, head.uri.path(), head.uri.query())?;
    timeout(STEP_TIMEOUT, admin.answer(action, &body)).await.unwrap_or_else(|_| {
        Err(Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "the daemon did not do it in time; it may still happen",
        ))
    })
}

/// Reads the body to its end, also where nobody looks at it, since an answer before that may get
/// lost.
async fn whole(mut body: Incoming) -> Result<Vec<u8>, Problem> {
    let mut kept = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|why| {
            Problem::new(StatusCode::BAD_REQUEST, format!("the request's body is broken: {why}"))
        })?;
        let Some(data) = frame.data_ref() else { continue };
        length += data.len();
        if length <= MAX_BODY {
            kept.extend_from_slice(data);
        }
        if length > MAX_DISCARDED {
            break;
        }
    }
    if length > MAX_BODY {
        let detail = format!("a request's body may have {MAX_BODY} bytes at most");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    Ok(kept)
}
