//! What a client's bytes pass: a socket, or TLS on it. Both kinds of sockets will do: with one that does
//! not block, all here is `WouldBlock` until it can go on, and is to be tried again then.

use std::io::{self, BufReader, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::net::RecvFlags;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::tls::NAME;

/// What is taken from a socket at a time: a few records.
const INPUT: usize = 64 << 10;

/// A client's connection.
pub enum Wire {
    /// Bytes as they are.
    Plain(TcpStream),
    /// Bytes under TLS.
    Tls(Box<Tls>),
}

/// TLS on a socket.
pub struct Tls {
    session: ClientConnection,
    socket: BufReader<TcpStream>,
}

impl Wire {
    /// On a socket, which need not be connected yet; the handshake is made when something is written.
    ///
    /// # Errors
    /// If the settings are of no use.
    pub fn new(socket: TcpStream, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let Some(settings) = tls else { return Ok(Self::Plain(socket)) };
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let session =
            ClientConnection::new(Arc::clone(settings), name).map_err(io::Error::other)?;
        let socket = BufReader::with_capacity(INPUT, socket);
        Ok(Self::Tls(Box::new(Tls { session, socket })))
    }

    /// Looks whether anything is there, be it the end. What TLS says to itself is nothing.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is; else what is wrong.
    pub fn look(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.peek(&mut [0]).map(drop),
            Self::Tls(tls) => tls.read(&mut [0]).map(drop),
        }
    }

    /// Reads what nobody wants to see; `sink` is left with anything in it.
    ///
    /// # Errors
    /// As for reading.
    pub fn discard(&mut self, sink: &mut [u8]) -> io::Result<usize> {
        match self {
            // TRUNC: thrown away in the kernel, without a copy.
            Self::Plain(socket) => Ok(rustix::net::recv(&*socket, sink, RecvFlags::TRUNC)?.1),
            Self::Tls(tls) => tls.read(sink),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(socket) => socket.as_fd(),
            Self::Tls(tls) => tls.socket.get_ref().as_fd(),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(tls) => tls.read(into),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write_vectored(pieces),
            Self::Tls(tls) => tls.write(pieces),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(tls) => tls.send(),
        }
    }
}

impl Tls {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.send_some()?;
            self.receive()?;
        }
    }

    /// Takes bytes to be sent, as soon as the handshake is made. The last of it goes with them.
    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        while self.session.is_handshaking() {
            self.send()?;
            if self.receive()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let taken = self.session.writer().write_vectored(pieces)?;
        // What cannot be sent now is sent with what comes next, or before it is waited for an answer.
        if taken > 0 {
            self.send_some()?
        } else {
            self.send()?
        }
        Ok(taken)
    }

    fn send(&mut self) -> io::Result<()> {
        let mut socket = self.socket.get_ref();
        while self.session.wants_write() {
            self.session.write_tls(&mut socket)?;
        }
        Ok(())
    }

    /// Sends what can be sent now.
    fn send_some(&mut self) -> io::Result<()> {
        match self.send() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            sent => sent,
        }
    }

    /// Takes what is there from the socket; nothing at its end.
    fn receive(&mut self) -> io::Result<usize> {
        let read = self.session.read_tls(&mut self.socket)?;
        let state = self.session.process_new_packets();
        state.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(read)
    }
}
