//! A connection under TLS: a [`Session`] and its socket.
//!
//! Invariants: of what is written, only that is said to be written which the kernel has taken as a whole
//! (what it has taken a part of is remembered, and the same bytes are to be offered again); nothing
//! overtakes what is encrypted; a connection that ends without a `close_notify` gives an error and not an
//! end, because it may have been cut by whoever likes; while nothing moves no buffer is held.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::Shutdown;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error, ServerConfig};
use tokio::net::TcpStream;

use crate::net::half::{poll_recv, poll_send, try_recv, try_send};
use crate::net::tls::session::{Ended, Session};

/// A connection under TLS.
pub struct TlsStream {
    socket: TcpStream,
    state: RefCell<State>,
}

struct State {
    session: Session,
    /// Plaintext that is encrypted, and that its writer has not been told is written.
    owed: usize,
    /// What is to be closed with a reset says no last word.
    is_cut: bool,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl TlsStream {
    /// The server's end of what comes on `socket`; the handshake is still to be made.
    ///
    /// # Errors
    /// If the config cannot serve.
    pub fn server(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self::new(socket, Session::server(config)?))
    }

    /// The client's end of a connection to `name`; the handshake is still to be made.
    ///
    /// # Errors
    /// If the config cannot ask for that name.
    pub fn client(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        Ok(Self::new(socket, Session::client(config, name)?))
    }

    fn new(socket: TcpStream, session: Session) -> Self {
        Self { socket, state: RefCell::new(State { session, owed: 0, is_cut: false }) }
    }

    /// What is under it.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// What was agreed on.
    pub fn session(&self) -> RefMut<'_, Session> {
        RefMut::map(self.state.borrow_mut(), |state| &mut state.session)
    }

    /// Makes the handshake. Who waits for it sets its limit.
    ///
    /// # Errors
    /// If the peer leaves, or one of us refuses the other; the peer has been told why then, as far as it
    /// takes it without waiting.
    pub async fn handshake(&self) -> Result<(), HandshakeError> {
        poll_fn(|cx| self.poll_handshake(cx)).await
    }

    /// The same, for who polls.
    ///
    /// # Errors
    /// As [`TlsStream::handshake`].
    pub fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        let state = &mut *self.state.borrow_mut();
        loop {
            let readable = state.session.look();
            match state.session.ended() {
                Some(Ended::Broken(error)) => {
                    let error = error.clone();
                    state.try_send(&self.socket);
                    return Poll::Ready(Err(HandshakeError::Broken(error)));
                }
                Some(_) if state.session.is_handshaking() => {
                    return Poll::Ready(Err(HandshakeError::Left));
                }
                _ => {}
            }
            let is_done = readable || !state.session.is_handshaking();
            if !is_done || !state.session.may_hold_back() {
                ready!(state.poll_send(&self.socket, cx)).map_err(HandshakeError::Socket)?;
            }
            if is_done {
                return Poll::Ready(Ok(()));
            }
            ready!(state.poll_receive(&self.socket, cx)).map_err(HandshakeError::Socket)?;
        }
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// `UnexpectedEof` if the connection has ended without a word; `InvalidData` if the protocol was
    /// broken; else what the socket says.
    pub fn poll_read(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        loop {
            if let Some(read) = state.read(&self.socket, space) {
                return Poll::Ready(read);
            }
            ready!(state.poll_receive(&self.socket, cx))?;
        }
    }

    /// Ready as soon as there is data to be read, or an end or an error to be told. What TLS says to
    /// itself is neither.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.state.borrow_mut();
        while !state.session.look() {
            ready!(state.poll_receive(&self.socket, cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what is there without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is; else as [`Self::poll_read`].
    pub fn try_read(&self, space: &mut [u8]) -> io::Result<usize> {
        let state = &mut *self.state.borrow_mut();
        loop {
            if let Some(read) = state.read(&self.socket, space) {
                return read;
            }
            state.try_receive(&self.socket)?;
        }
    }

    /// Whether there is neither data nor an end.
    pub fn is_quiet(&self) -> bool {
        !self.state.borrow_mut().is_readable(&self.socket)
    }

    /// Whether the peer has ended or broken the connection and nothing is left to be read.
    pub fn has_ended(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        state.is_readable(&self.socket) && !state.session.has_data()
    }

    /// Writes the first of these bytes. Before it is ready the same bytes are to be offered again.
    ///
    /// # Errors
    /// `InvalidData` if the protocol was broken; else what the socket says.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    /// The same, of several pieces.
    ///
    /// # Errors
    /// As [`Self::poll_write`].
    pub fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        if state.owed == 0 {
            state.owed = state.session.write(pieces).map_err(broken)?;
        }
        debug_assert!(
            state.owed <= pieces.iter().map(|piece| piece.len()).sum(),
            "other bytes are offered than before"
        );
        ready!(state.poll_send(&self.socket, cx))?;
        Poll::Ready(Ok(std::mem::take(&mut state.owed)))
    }

    /// Takes what can be encrypted and sends as much of it as the socket takes; the rest goes before
    /// whatever is written next.
    ///
    /// # Errors
    /// `WouldBlock` if what was written before is still to be sent; else as [`Self::poll_write`].
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let state = &mut *self.state.borrow_mut();
        if state.owed > 0 || !state.try_send(&self.socket) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let written = state.session.write(&[IoSlice::new(bytes)]).map_err(broken)?;
        state.try_send(&self.socket);
        Ok(written)
    }

    /// Sends what is encrypted.
    ///
    /// # Errors
    /// What the socket says.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state.borrow_mut().poll_send(&self.socket, cx)
    }

    /// Tells the peer that nothing more comes.
    ///
    /// # Errors
    /// What the socket says.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.state.borrow_mut();
        state.session.close();
        ready!(state.poll_send(&self.socket, cx))?;
        Poll::Ready(Ok(rustix::net::shutdown(&self.socket, Shutdown::Write)?))
    }

    /// Tells the peer that all is said, if it takes that without waiting: to be called before a
    /// connection is dropped that has come to its end.
    pub fn say_goodbye(&self) {
        let state = &mut *self.state.borrow_mut();
        if !state.is_cut && state.owed == 0 {
            state.session.close();
            state.try_send(&self.socket);
        }
    }

    /// Closed with a reset when it is dropped.
    pub fn cut(&self) {
        self.state.borrow_mut().is_cut = true;
        // If it cannot be set, the connection is gone already.
        let _ = self.socket.set_zero_linger();
    }
}

impl State {
    /// What there is to be read without receiving anything; `None` if nothing is.
    fn read(&mut self, socket: &TcpStream, space: &mut [u8]) -> Option<io::Result<usize>> {
        let bytes = self.session.read(space);
        if bytes > 0 || space.is_empty() {
            return Some(Ok(bytes));
        }
        let read = match self.session.ended()? {
            Ended::Closed => Ok(0),
            Ended::Truncated => Err(io::ErrorKind::UnexpectedEof.into()),
            Ended::Broken(error) => Err(broken(error.clone())),
        };
        // An alert may be on its way.
        self.try_send(socket);
        Some(read)
    }

    /// Whether data, or an end or an error, is there to be read.
    fn is_readable(&mut self, socket: &TcpStream) -> bool {
        while !self.session.look() {
            if let Err(error) = self.try_receive(socket) {
                return error.kind() != io::ErrorKind::WouldBlock;
            }
        }
        true
    }

    fn poll_receive(&mut self, socket: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(room) = self.session.room() else { return Poll::Ready(Err(too_much())) };
        let Poll::Ready(received) = poll_recv(socket, cx, room) else {
            // What could have gone with an answer goes now: nobody is about to write one.
            self.try_send(socket);
            self.session.rest();
            return Poll::Pending;
        };
        self.session.received(received?);
        Poll::Ready(Ok(()))
    }

    fn try_receive(&mut self, socket: &TcpStream) -> io::Result<()> {
        let room = self.session.room().ok_or_else(too_much)?;
        let received = try_recv(socket, room);
        if received.is_err() {
            self.session.rest();
        }
        self.session.received(received?);
        Ok(())
    }

    /// Sends everything that is encrypted.
    fn poll_send(&mut self, socket: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.outgoing().is_empty() {
            let len = self.session.outgoing().len();
            let Poll::Ready(sent) = poll_send(socket, cx, self.session.outgoing()) else {
                self.session.sent(0, false);
                return Poll::Pending;
            };
            match sent? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.session.sent(sent, sent == len),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what the socket takes; whether that is all.
    fn try_send(&mut self, socket: &TcpStream) -> bool {
        while !self.session.outgoing().is_empty() {
            match try_send(socket, self.session.outgoing()) {
                Ok(sent) if sent > 0 => self.session.sent(sent, true),
                _ => return false,
            }
        }
        true
    }
}

fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn too_much() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message is too large")
}

/// Why a handshake has failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer has left.
    #[error("the connection was closed in the handshake")]
    Left,
    /// The connection broke.
    #[error("the connection broke in the handshake: {0}")]
    Socket(io::Error),
    /// One of us has refused the other.
    #[error("TLS: {0}")]
    Broken(Error),
}

#[cfg(test)]
mod tests;
