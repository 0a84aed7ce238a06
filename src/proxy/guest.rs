//! Whom a connection is for: its peer, or a client on whose behalf a trusted peer says it connects (the
//! PROXY protocol).
//!
//! Only trusted peers are listened to; what others send is never looked at for a header. Of a header
//! not one byte more is read than it has, so whoever serves the connection finds its own first byte.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::model::{Listener, ProxyHeader};
use crate::net::proxy_protocol::{self, Ends, HEADER_MAX, Header, ProxyHeaderError};
use crate::proxy::timer::Timer;

/// Who is at the other end of a client's connection.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Who is connected to us.
    pub peer: SocketAddr,
    /// What the other end says about clients is believed. That is the peer until it has said for whom it
    /// connects, and then that client: the peer passes on what its client writes, unread.
    pub trusted: bool,
    /// The ends of the client's connection, if the peer has named them.
    said: Option<Box<Ends>>,
}

/// Why a connection is not served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unmet {
    /// It is refused.
    Refused,
    /// The peer left without a word.
    Left,
}

impl Guest {
    /// Who connects to this listener, as far as the socket tells.
    pub fn new(peer: SocketAddr, listener: &Listener) -> Self {
        Self { peer, trusted: listener.trusts(peer.ip()), said: None }
    }

    /// The client: the socket's peer, unless that speaks for another.
    pub fn client(&self) -> SocketAddr {
        self.said.as_ref().map_or(self.peer, |ends| ends.source)
    }

    /// Both ends of the client's connection. `local` is our end of the socket, asked for only where
    /// it counts.
    pub fn ends(&self, local: impl FnOnce() -> io::Result<SocketAddr>) -> Option<Ends> {
        match &self.said {
            Some(ends) => Some(**ends),
            None => Some(Ends { source: self.peer, destination: local().ok()? }),
        }
    }

    /// Reads the header that a trusted peer's connection begins with. A connection that need not have
    /// one may be silent: it is taken as it is when the time is up.
    ///
    /// # Errors
    /// If the connection is not to be served.
    pub async fn introduce(
        &mut self,
        stream: &TcpStream,
        listener: &Listener,
        timer: &Timer,
    ) -> Result<(), Unmet> {
        let mut begun = false;
        let first = first_bytes(stream, &mut begun);
        let Ok(first) = timer.within(listener.timeouts.head, first).await else {
            let silent = !begun && listener.proxy_protocol == ProxyHeader::Accept;
            return if silent { Ok(()) } else { Err(Unmet::Refused) };
        };
        match (first.map_err(|_| Unmet::Left)?, listener.proxy_protocol) {
            (First::Header(header), _) => {
                self.said = header.ends.map(Box::new);
                self.trusted = listener.trusts(self.client().ip());
                Ok(())
            }
            (First::Broken(error), _) => {
                tracing::debug!(peer = %self.peer, %error, "broken PROXY protocol header");
                Err(Unmet::Refused)
            }
            (First::Other | First::End, ProxyHeader::Accept) => Ok(()),
            (First::End, _) => Err(Unmet::Left),
            (First::Other, _) => Err(Unmet::Refused),
        }
    }
}

/// What a connection begins with.
enum First {
    /// A header, which has been read.
    Header(Header),
    /// A header that makes no sense, or that ends too early.
    Broken(ProxyHeaderError),
    /// Something else.
    Other,
    /// Its end.
    End,
}

/// Looks at the first bytes until they tell, and reads a header, and nothing else. `begun` is set as
/// soon as a header has begun.
async fn first_bytes(stream: &TcpStream, begun: &mut bool) -> io::Result<First> {
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let looked = stream.try_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); HEADER_MAX];
            let ((seen, _), _) = recv(stream, &mut space[..], RecvFlags::PEEK)?;
            *begun = proxy_protocol::is_header(seen) == Some(true);
            let is_all = seen.is_empty() || ready.is_read_closed();
            let seen_len = seen.len();
            // To the runtime that is the same as nothing: it waits for more than was seen.
            let (first, len) = judge(seen, is_all).ok_or(io::ErrorKind::WouldBlock)?;
            if len > 0 && recv(stream, &mut space[..len], RecvFlags::empty())?.1 < len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok((first, len == seen_len))
        });
        match looked {
            Ok((first, all_read)) => {
                if all_read {
                    // The socket is empty: who waits for what comes next need not look first.
                    let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                    let _ = stream.try_io(Interest::READABLE, nothing);
                }
                return Ok(first);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// What these bytes are, if they tell already, and how many of them are to be read; `is_all` if no more
/// will come.
fn judge(seen: &[u8], is_all: bool) -> Option<(First, usize)> {
    let begun = proxy_protocol::is_header(seen);
    let other = match proxy_protocol::parse(seen) {
        Ok(Some((header, len))) => return Some((First::Header(header), len)),
        Ok(None) if !is_all => return None,
        Ok(None) if seen.is_empty() => First::End,
        Ok(None) if begun == Some(true) => {
            First::Broken(ProxyHeaderError("the connection ends in it"))
        }
        Err(error) if begun == Some(true) => First::Broken(error),
        _ => First::Other,
    };
    Some((other, 0))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::base::Clock;
    use crate::proxy::fixture;
    use crate::proxy::timer::Timers;

    const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 1000 443\r\n";

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).await.expect("connected");
        client.set_nodelay(true).expect("an option");
        (client, listener.accept().await.expect("accepted").0)
    }

    fn timers() -> Rc<Timers> {
        let timers = Timers::new(Clock::start());
        let ticking = Rc::clone(&timers);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                ticking.tick();
            }
        });
        timers
    }

    /// What becomes of a connection on which the client does `say`: the client's address, and the
    /// bytes that are left for whoever serves it.
    async fn meet<F: Future<Output = TcpStream>>(
        mode: ProxyHeader,
        say: impl FnOnce(TcpStream) -> F,
    ) -> Result<(String, Vec<u8>), Unmet> {
        let mut listener = fixture::listener();
        listener.timeouts.head = Duration::from_millis(300);
        listener.proxy_protocol = mode;
        listener.trusted = vec!["127.0.0.0/8".parse().expect("a network")];
        let (client, mut stream) = pair().await;
        let mut guest = Guest::new(stream.peer_addr().expect("an address"), &listener);
        assert!(guest.trusted);
        let timer = timers().timer();
        let introduced = guest.introduce(&stream, &listener, &timer);
        let (introduced, client) = tokio::join!(introduced, say(client));
        introduced?;
        assert_eq!(guest.peer, client.local_addr().expect("an address"));
        assert_eq!(guest.trusted, guest.client() == guest.peer, "who speaks now is somebody else");
        drop(client);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("the rest");
        let own = guest.client() == guest.peer;
        Ok((if own { "itself".into() } else { guest.client().to_string() }, rest))
    }

    async fn say(bytes: &[u8], mode: ProxyHeader) -> Result<(String, Vec<u8>), Unmet> {
        meet(mode, async |mut client| {
            client.write_all(bytes).await.expect("sent");
            client.shutdown().await.expect("ended");
            client
        })
        .await
    }

    fn local<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(Default::default())
            .expect("a runtime");
        runtime.block_on(test)
    }

    #[test]
    fn the_first_bytes_decide() {
        let line = |more: &[u8]| [LINE, more].concat();
        let v2 = |more: &[u8]| {
            let mut out = Vec::new();
            let end = |text: &str| text.parse().expect("an address");
            let ends = Ends { source: end("[2001:db8::7]:7"), destination: end("[::1]:8") };
            proxy_protocol::write(crate::model::ProxyVersion::V2, Some(ends), &mut out);
            out.extend_from_slice(more);
            out
        };
        let served = |client: &str, rest: &[u8]| Ok((client.to_owned(), rest.to_vec()));
        let big = vec![7; 100_000];
        local(async {
            for (bytes, accept, require) in [
                (line(b""), served("192.0.2.1:1000", b""), None),
                (line(b"GET /"), served("192.0.2.1:1000", b"GET /"), None),
                (line(LINE), served("192.0.2.1:1000", LINE), None),
                (line(&v2(b"x")), served("192.0.2.1:1000", &v2(b"x")), None),
                (v2(b""), served("[2001:db8::7]:7", b""), None),
                (v2(&big), served("[2001:db8::7]:7", &big), None),
                (b"PROXY UNKNOWN\r\nx".to_vec(), served("itself", b"x"), None),
                (b"".to_vec(), served("itself", b""), Some(Unmet::Left)),
                (b"GET /".to_vec(), served("itself", b"GET /"), Some(Unmet::Refused)),
                (b"PRO".to_vec(), served("itself", b"PRO"), Some(Unmet::Refused)),
                (b"PROXY TCP4 1".to_vec(), Err(Unmet::Refused), Some(Unmet::Refused)),
                (b"PROXY TCP9 \r\n".to_vec(), Err(Unmet::Refused), Some(Unmet::Refused)),
                (v2(b"")[..20].to_vec(), Err(Unmet::Refused), Some(Unmet::Refused)),
            ] {
                let name = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
                assert_eq!(say(&bytes, ProxyHeader::Accept).await, accept, "{name:?}");
                let require = require.map_or(accept, Err);
                assert_eq!(say(&bytes, ProxyHeader::Require).await, require, "{name:?}");
            }
        });
    }

    #[test]
    fn a_header_may_come_in_pieces_and_leaves_no_mark_of_more() {
        local(async {
            let met = meet(ProxyHeader::Require, async |mut client| {
                for byte in LINE {
                    client.write_all(&[*byte]).await.expect("sent");
                    tokio::task::yield_now().await;
                }
                client
            });
            assert_eq!(met.await, Ok(("192.0.2.1:1000".into(), Vec::new())));

            let listener = Listener { proxy_protocol: ProxyHeader::Require, ..fixture::listener() };
            let (mut client, stream) = pair().await;
            let mut guest = Guest::new(client.local_addr().expect("an address"), &listener);
            client.write_all(LINE).await.expect("sent");
            guest.introduce(&stream, &listener, &timers().timer()).await.expect("met");
            let readable = tokio::time::timeout(Duration::from_millis(50), stream.readable());
            assert!(readable.await.is_err(), "an idle connection is idle");
            client.write_all(b"x").await.expect("sent");
            stream.readable().await.expect("woken by what comes next");
            assert_eq!(stream.try_read(&mut [0; 9]).expect("read"), 1);
        });
    }

    #[test]
    fn silence_and_slowness_end() {
        local(async {
            for (bytes, accept) in
                [(&b""[..], Ok(())), (b"PROX", Ok(())), (&LINE[..20], Err(Unmet::Refused))]
            {
                let quiet = async |mut client: TcpStream| {
                    client.write_all(bytes).await.expect("sent");
                    tokio::time::sleep(Duration::from_millis(600)).await;
                    client
                };
                let met = meet(ProxyHeader::Accept, quiet).await;
                assert_eq!(met.map(|(_, rest)| assert_eq!(rest, bytes)), accept);
                assert_eq!(meet(ProxyHeader::Require, quiet).await, Err(Unmet::Refused));
            }
        });
    }
}
