//! A connection as those see it who read from it and write to it, whatever lies between them and its
//! socket.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::net::tls::TlsStream;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Bytes as they are.
    Plain(TcpStream),
    /// Bytes under TLS. Boxed, because that is large.
    Tls(Box<TlsStream>),
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Self {
        Self::Plain(socket)
    }
}

impl From<TlsStream> for Stream {
    fn from(tls: TlsStream) -> Self {
        Self::Tls(Box::new(tls))
    }
}

impl Stream {
    /// Its socket.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket(),
        }
    }

    /// Its socket, if what is read from and written to it is what the connection carries: only then may
    /// bytes be spliced.
    pub fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(_) => None,
        }
    }

    /// Ready as soon as there is something to be read, or an end or an error to be told.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_read_ready(cx),
            Self::Tls(tls) => tls.poll_read_ready(cx),
        }
    }

    /// Whether there is nothing to read and no end, as far as the kernel has told the runtime: no system
    /// call unless the last read filled its buffer to the brim.
    pub fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(socket) => {
                let mut cx = Context::from_waker(Waker::noop());
                socket.poll_read_ready(&mut cx).is_pending()
                    || matches!(
                        socket.try_read(&mut [0]),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock
                    )
            }
            Self::Tls(tls) => tls.is_quiet(),
        }
    }

    /// Whether there is nothing to read and no end, as far as the kernel knows: a system call.
    pub fn is_open(&self) -> bool {
        let looked = recv(self.socket(), &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(looked, Err(Errno::AGAIN))
    }

    /// Reads what is there without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is; else what the connection says.
    pub fn try_read(&self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read(space),
            Self::Tls(tls) => tls.try_read(space),
        }
    }

    /// Whether the other side has ended or broken it and nothing is left to be read. Costs a system call
    /// only if something has happened on it.
    pub fn has_ended(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        match self {
            Self::Plain(socket) => match socket.poll_peek(&mut cx, &mut ReadBuf::new(&mut [0])) {
                Poll::Ready(Ok(bytes)) => bytes == 0,
                Poll::Ready(Err(_)) => true,
                Poll::Pending => false,
            },
            Self::Tls(tls) => tls.has_ended(),
        }
    }

    /// A body that was spliced, or filled the buffer to the brim, leaves the mark of more to come. Only a
    /// look at the socket takes it off; without the mark that costs no system call.
    pub fn forget_stale_readiness(&self) {
        let _ = self.has_ended();
    }

    /// Closed with a reset when it is dropped: what was cut must not look whole.
    pub fn cut(&self) {
        match self {
            // If it cannot be set, the connection is gone already.
            Self::Plain(socket) => drop(socket.set_zero_linger()),
            Self::Tls(tls) => tls.cut(),
        }
    }

    /// To be called before a connection is dropped that has come to its end: where the end of the socket
    /// does not tell that all was said, the peer is told, if it takes that without waiting.
    pub fn say_goodbye(&self) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(tls) => tls.say_goodbye(),
        }
    }

    /// Our end of it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()
    }
}
