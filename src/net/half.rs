//! The two directions of a connection, read and written with one system call each.
//! Under TLS what is read and written is what it protects.
//!
//! Tokio's own halves make the same calls through the C library, whose `recv` and `send` are points of
//! cancellation and pay for that in every program with more than one thread: 3 % of a small request.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::net::stream::Stream;

/// What comes on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a>(&'a Stream);

/// What goes out on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a>(&'a Stream);

/// Both directions of a connection.
pub fn halves(stream: &mut Stream) -> (Incoming<'_>, Outgoing<'_>) {
    let stream = &*stream;
    (Incoming(stream), Outgoing(stream))
}

impl<'a> Incoming<'a> {
    /// The connection.
    pub fn stream(&self) -> &'a Stream {
        self.0
    }
}

impl<'a> Outgoing<'a> {
    /// The connection.
    pub fn stream(&self) -> &'a Stream {
        self.0
    }

    /// Writes what is taken without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is; else what the socket says.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.0 {
            Stream::Plain(socket) => socket.try_write(bytes),
            Stream::Tls(tls) => tls.try_write(bytes),
        }
    }
}

impl AsyncRead for Incoming<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let space = into.initialize_unfilled();
        let n = match self.0 {
            Stream::Plain(socket) => ready!(poll_recv(socket, cx, space))?,
            Stream::Tls(tls) => ready!(tls.poll_read(cx, space))?,
        };
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
        match self.0 {
            Stream::Plain(socket) => poll_send(socket, cx, bytes),
            Stream::Tls(tls) => tls.poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.0 {
            Stream::Plain(socket) => poll_send_pieces(socket, cx, pieces),
            Stream::Tls(tls) => tls.poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(tls) => tls.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {
            Stream::Plain(socket) => {
                Poll::Ready(Ok(rustix::net::shutdown(socket, Shutdown::Write)?))
            }
            Stream::Tls(tls) => tls.poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut Incoming(&self)).poll_read(cx, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut Outgoing(&self)).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut Outgoing(&self)).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut Outgoing(&self)).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut Outgoing(&self)).poll_shutdown(cx)
    }
}

/// Reads what is there with one call.
pub(super) fn poll_recv(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    space: &mut [u8],
) -> Poll<io::Result<usize>> {
    let len = space.len();
    poll(socket, cx, READ, len, || Ok(recv(socket, &mut *space, RecvFlags::empty())?.0))
}

/// The same, without waiting.
pub(super) fn try_recv(socket: &TcpStream, space: &mut [u8]) -> io::Result<usize> {
    let len = space.len();
    attempt(socket, READ.0, len, || Ok(recv(socket, &mut *space, RecvFlags::empty())?.0))
}

/// Writes what is taken with one call.
pub(super) fn poll_send(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    poll(socket, cx, WRITE, bytes.len(), || Ok(send(socket, bytes, SendFlags::NOSIGNAL)?))
}

/// The same, without waiting.
pub(super) fn try_send(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    attempt(socket, WRITE.0, bytes.len(), || Ok(send(socket, bytes, SendFlags::NOSIGNAL)?))
}

fn poll_send_pieces(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let len = pieces.iter().map(|piece| piece.len()).sum();
    poll(socket, cx, WRITE, len, || {
        let mut nothing = SendAncillaryBuffer::default();
        Ok(sendmsg(socket, pieces, &mut nothing, SendFlags::NOSIGNAL)?)
    })
}

/// What to wait for, and how.
type Readiness = (Interest, fn(&TcpStream, &mut Context<'_>) -> Poll<io::Result<()>>);

const READ: Readiness = (Interest::READABLE, TcpStream::poll_read_ready);

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
        match attempt(stream, interest, len, &mut call) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready!(poll_ready(stream, cx))?;
            }
            done => return Poll::Ready(done),
        }
    }
}

/// The same, without waiting.
fn attempt(
    stream: &TcpStream,
    interest: Interest,
    len: usize,
    mut call: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
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
    partly.map_or(tried, Ok)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Stream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).await.expect("connected");
        (client.into(), listener.accept().await.expect("accepted").0.into())
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
        halves(&mut one).1.write_all(b"hello").await.expect("sent");
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
        halves(&mut one).1.write_all(b"x").await.expect("sent");
        assert_eq!(reads.read(&mut space).await.expect("read"), 1);
        drop(one);
        assert_eq!(reads.read(&mut space).await.expect("the end"), 0);
    }
}
