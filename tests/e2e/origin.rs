//! Instances that a test scripts byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

/// A server that hands each connection to a script, on a thread of its own.
pub struct Origin {
    pub address: SocketAddr,
    /// Everything that was received on all connections.
    pub seen: Arc<Mutex<Vec<u8>>>,
    /// How many connections were made.
    pub connections: Arc<Mutex<usize>>,
}

/// A connection, with what is received on it recorded.
pub struct Peer {
    pub stream: TcpStream,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Origin {
    /// Listens and runs `script` for each connection.
    pub fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (seen, connections) =
            (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<usize>>::default());
        let script = Arc::new(script);
        let (to_see, to_count) = (Arc::clone(&seen), Arc::clone(&connections));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *to_count.lock().expect("whole") += 1;
                let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
                let mut peer = Peer { stream, seen: Arc::clone(&to_see) };
                let script = Arc::clone(&script);
                std::thread::spawn(move || script(&mut peer));
            }
        });
        Self { address, seen, connections }
    }

    /// Answers every request of every connection with these bytes, once its head (and a body of
    /// the announced length) is there.
    pub fn answering(response: &'static [u8]) -> Self {
        Self::start(move |peer| {
            while peer.request().is_some() {
                if peer.stream.write_all(response).is_err() {
                    return;
                }
            }
        })
    }

    /// What was received so far, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("whole")).into_owned()
    }
}

impl Peer {
    /// Reads one request with its body; `None` at the end of the connection.
    pub fn request(&mut self) -> Option<Vec<u8>> {
        let mut request = Vec::new();
        loop {
            let end = request.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
            if let Some(end) = end {
                let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
                let value = |name: &str| {
                    let line = head.lines().find_map(|line| line.strip_prefix(name));
                    line.map(|value| value.trim().to_owned())
                };
                let length: usize =
                    value("content-length:").and_then(|v| v.parse().ok()).unwrap_or(0);
                let chunked = value("transfer-encoding:").is_some();
                let whole = if chunked {
                    let body = &request[end - 2..];
                    let last = body.windows(5).any(|five| five == b"\r\n0\r\n");
                    last && body.ends_with(b"\r\n\r\n")
                } else {
                    request.len() >= end + length
                };
                if whole {
                    return Some(request);
                }
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(n) if n > 0 => {
                    request.extend_from_slice(&piece[..n]);
                    self.seen.lock().expect("whole").extend_from_slice(&piece[..n]);
                }
                _ => return None,
            }
        }
    }
}
