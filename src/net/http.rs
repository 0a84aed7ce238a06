//! The HTTP client off the hot path: one request, one connection, one deadline, a bounded answer.
//!
//! Dropping the future drops the connection; nothing goes on in the background.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::AdminBind;

/// Whom to ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    /// An address.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<&AdminBind> for Peer {
    fn from(bind: &AdminBind) -> Self {
        match bind {
            AdminBind::Tcp(address) => Self::Tcp(*address),
            AdminBind::Unix(path) => Self::Unix(path.clone()),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection: nothing was sent.
    #[error("cannot connect to {peer}: {why}")]
    Connect {
        /// Who was asked.
        peer: Peer,
        /// What the system said.
        why: std::io::Error,
    },
    /// Not done in time.
    #[error("{peer} did not answer within {after:?}")]
    Timeout {
        /// Who was asked.
        peer: Peer,
        /// The deadline.
        after: Duration,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("{peer} broke off: {why}")]
    Broken {
        /// Who was asked.
        peer: Peer,
        /// What went wrong.
        why: String,
    },
    /// The body of the answer is longer than allowed.
    #[error("{peer} answered with more than {limit} bytes")]
    TooLarge {
        /// Who was asked.
        peer: Peer,
        /// How many bytes are read at most.
        limit: usize,
    },
}

/// Sends `request` and returns the whole answer, whatever its status. The request's URI is a path;
/// `Host` is filled in where it is missing.
///
/// # Errors
/// If there is no whole answer of at most `max_body` bytes within `timeout`.
pub async fn request(
    peer: &Peer,
    request: Request<Full<Bytes>>,
    timeout: Duration,
    max_body: usize,
) -> Result<Response<Bytes>, HttpError> {
    let connected = |why| HttpError::Connect { peer: peer.clone(), why };
    let whole = async {
        match peer {
            Peer::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(connected)?;
                exchange(peer, stream, request, max_body).await
            }
            Peer::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(connected)?;
                exchange(peer, stream, request, max_body).await
            }
        }
    };
    match tokio::time::timeout(timeout, whole).await {
        Ok(answer) => answer,
        Err(_) => Err(HttpError::Timeout { peer: peer.clone(), after: timeout }),
    }
}

async fn exchange<S>(
    peer: &Peer,
    stream: S,
    mut request: Request<Full<Bytes>>,
    max_body: usize,
) -> Result<Response<Bytes>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |why: String| HttpError::Broken { peer: peer.clone(), why };
    request.headers_mut().entry(HOST).or_insert_with(|| host_of(peer));
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|why| broken(why.to_string()))?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(|why| broken(why.to_string()))?;
        let (head, body) = response.into_parts();
        match Limited::new(body, max_body).collect().await {
            Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
            Err(why) if why.is::<LengthLimitError>() => {
                Err(HttpError::TooLarge { peer: peer.clone(), limit: max_body })
            }
            Err(why) => Err(broken(why.to_string())),
        }
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        // The connection may end first, with the rest of the answer already read from it. If it
        // ends in failure, the answer says so as well.
        _ = &mut connection => answer.await,
    }
}

fn host_of(peer: &Peer) -> HeaderValue {
    match peer {
        Peer::Tcp(address) => HeaderValue::from_str(&address.to_string())
            .expect("an address is made of digits, letters, dots, colons and brackets"),
        Peer::Unix(_) => HeaderValue::from_static("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn get(path: &str) -> Request<Full<Bytes>> {
        Request::get(path).body(Full::default()).expect("a request")
    }

    /// Answers one connection with `answer` and returns what it was asked; keeps the connection
    /// open until the client closes it if `hold`.
    async fn answer_once(listener: TcpListener, answer: String, hold: bool) -> String {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        serve_once(&mut stream, &answer, hold).await
    }

    async fn serve_once<S>(stream: &mut S, answer: &str, hold: bool) -> String
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut asked = vec![0; 4096];
        let n = stream.read(&mut asked).await.expect("a request");
        stream.write_all(answer.as_bytes()).await.expect("written");
        if hold {
            let _ = stream.read(&mut [0; 1]).await;
        }
        String::from_utf8_lossy(&asked[..n]).into_owned()
    }

    async fn ask_server(
        answer: &str,
        hold: bool,
        timeout: Duration,
    ) -> (Result<Response<Bytes>, HttpError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let peer = Peer::Tcp(listener.local_addr().expect("bound"));
        let server = tokio::spawn(answer_once(listener, answer.to_owned(), hold));
        let got = request(&peer, get("/x?y=1"), timeout, 10).await;
        (got, server.await.expect("no panic"))
    }

    #[tokio::test]
    async fn answers_come_whole_by_length_and_by_close() {
        for answer in [
            "HTTP/1.1 404 Not Found\r\ncontent-length: 10\r\n\r\n0123456789",
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n0123456789",
        ] {
            let (got, asked) = ask_server(answer, false, SOON).await;
            let got = got.expect("an answer");
            assert_eq!(got.status(), 404);
            assert_eq!(got.body().as_ref(), b"0123456789");
            assert!(asked.starts_with("GET /x?y=1 HTTP/1.1\r\n"), "{asked}");
            assert!(asked.contains("host: 127.0.0.1:"), "{asked}");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n01234567890";
        let (got, _) = ask_server(answer, false, SOON).await;
        assert!(matches!(got, Err(HttpError::TooLarge { limit: 10, .. })), "{got:?}");
    }

    #[tokio::test]
    async fn silence_ends_at_the_deadline() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n01";
        let (got, _) = ask_server(answer, true, Duration::from_millis(100)).await;
        assert!(matches!(got, Err(HttpError::Timeout { .. })), "{got:?}");
    }

    #[tokio::test]
    async fn what_is_cut_or_not_http_is_broken() {
        for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n01", "SSH-2.0-x\r\n", ""] {
            let (got, _) = ask_server(answer, false, SOON).await;
            assert!(matches!(got, Err(HttpError::Broken { .. })), "{answer:?}: {got:?}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_cannot_be_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let peer = Peer::Tcp(listener.local_addr().expect("bound"));
        drop(listener);
        let got = request(&peer, get("/"), SOON, 10).await;
        assert!(matches!(got, Err(HttpError::Connect { .. })), "{got:?}");
    }

    #[tokio::test]
    async fn a_unix_socket_is_a_peer_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).expect("a socket");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            serve_once(&mut stream, "HTTP/1.1 204 No Content\r\n\r\n", false).await
        });
        let got = request(&Peer::Unix(path), get("/"), SOON, 10).await.expect("an answer");
        assert_eq!(got.status(), 204);
        assert!(server.await.expect("no panic").contains("host: localhost\r\n"));
    }
}
