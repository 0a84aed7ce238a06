//! The two directions of a connection, read and written with one system call each.
//!
//! Tokio's own halves make the same calls through the C library, whose `recv` and `send` are points of
//! cancellation and pay for that in every program with more than one thread: 3 % of a small request.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// What comes on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a>(&'a TcpStream);

/// What goes out on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a>(&'a TcpStream);

/// Both directions of a connection.
pub fn halves(stream: &mut TcpStream) -> (Incoming<'_>, Outgoing<'_>) {
    let stream = &*stream;
    (Incoming(stream), Outgoing(stream))
}

impl<'a> Incoming<'a> {
    /// The connection.
    pub fn stream(&self) -> &'a TcpStream {
        self.0
    }
}

impl<'a> Outgoing<'a> {
    /// The connection.
    pub fn stream(&self) -> &'a TcpStream {
        self.0
    }

    /// Writes what is taken without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is; else what the socket says.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    /// Our end of the connection.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl AsyncRead for Incoming<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let space = into.initialize_unfilled();
        let (stream, len) = (self.0, space.len());
        let ready = TcpStream::poll_read_ready;
        let n = ready!(poll(stream, cx, (Interest::READABLE, ready), len, || {
            Ok(recv(stream, &mut *space, RecvFlags::empty())?.0)
        }))?;
        into.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Outgoing<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.0;
        poll(stream, cx, WRITE, bytes.len(), || Ok(send(stream, bytes, SendFlags::NOSIGNAL)?))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.0;
        let len = pieces.iter().map(|piece| piece.len()).sum();
        poll(stream, cx, WRITE, len, || {
            let mut nothing = SendAncillaryBuffer::default();
            Ok(sendmsg(stream, pieces, &mut nothing, SendFlags::NOSIGNAL)?)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(rustix::net::shutdown(self.0, Shutdown::Write)?))
    }
}

/// What to wait for, and how.
type Readiness = (Interest, fn(&TcpStream, &mut Context<'_>) -> Poll<io::Result<()>>);

const WRITE: Readiness = (Interest::WRITABLE, TcpStream::poll_write_ready);

/// Makes a call that moves up to `len` bytes as soon as the socket is ready for it. A call that moved
/// less has moved all there is: the next one waits for an event, and not in vain for an error.
fn poll(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    (interest, poll_ready): Readiness,
    len: usize,
    mut call: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        let mut partly = None;
        let tried = stream.try_io(interest, || {
            let moved = call()?;
            if 0 < moved && moved < len {
                partly = Some(moved);
                // To the runtime this is the same: the socket is not ready any more.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(moved)
        });
        match (tried, partly) {
            (_, Some(moved)) | (Ok(moved), None) => return Poll::Ready(Ok(moved)),
            (Err(error), None) if error.kind() == io::ErrorKind::WouldBlock => {
                ready!(poll_ready(stream, cx))?;
            }
            (Err(error), None) => return Poll::Ready(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).await.expect("connected");
        (client, listener.accept().await.expect("accepted").0)
    }

    #[tokio::test]
    async fn what_is_written_is_read_to_its_end() {
        let (mut one, mut other) = pair().await;
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let (writes, reads) = (halves(&mut one).1, halves(&mut other).0);
        let (mut writes, mut reads) = (writes, reads);
        let write = async {
            let (head, tail) = sent.split_at(7);
            let pieces = [IoSlice::new(head), IoSlice::new(tail)];
            let moved = writes.write_vectored(&pieces).await.expect("written");
            writes.write_all(&sent[moved..]).await.expect("written");
            writes.shutdown().await.expect("ended");
        };
        let mut got = Vec::new();
        let (read, ()) = tokio::join!(reads.read_to_end(&mut got), write);
        read.expect("read");
        assert!(got == expected, "{} bytes came", got.len());
    }

    #[tokio::test]
    async fn a_read_of_all_there_is_waits_for_an_event_and_an_end_is_told() {
        let (mut one, mut other) = pair().await;
        one.write_all(b"hello").await.expect("sent");
        let (mut reads, _) = halves(&mut other);
        let mut space = [0; 9];
        assert_eq!(reads.read(&mut space).await.expect("read"), 5);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(
            reads.stream().poll_read_ready(&mut cx).is_pending(),
            "nothing is said to be there"
        );
        let more = tokio::time::timeout(Duration::from_millis(20), reads.read(&mut space));
        assert!(more.await.is_err(), "nothing comes");
        one.write_all(b"x").await.expect("sent");
        assert_eq!(reads.read(&mut space).await.expect("read"), 1);
        drop(one);
        assert_eq!(reads.read(&mut space).await.expect("the end"), 0);
    }
}
