//! The instances: one server on every loopback address at once, which answers from memory.
//!
//! `GET /b/N` is answered with N bytes, and everything else, once its body is read, with 100.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use memchr::memmem;
use rustix::net::RecvFlags;
use slab::Slab;

use crate::events::{Event, Events};

/// The token of the listener; connections count from zero.
const LISTENER: u64 = u64::MAX;
/// The longest head.
const HEAD: usize = 4096;
/// What bodies are sent from, and what is read away at once.
const PIECE: usize = 1 << 20;
/// Of responses whose length the request does not name.
const DEFAULT_LENGTH: u64 = 100;

/// Serves until it is killed.
///
/// # Errors
/// If it cannot listen.
pub fn run(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    // A backlog for all peers that connect at the same time.
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let mut events = Events::new()?;
    events.watch_listener(&listener, LISTENER)?;
    let mut connections = Slab::new();
    let (body, mut sink) = (vec![b'x'; PIECE], vec![0; PIECE]);
    loop {
        for Event { token, ended, .. } in events.wait(None)? {
            if token == LISTENER {
                while let Ok((socket, client)) = listener.accept() {
                    // The wildcard has other addresses too: nobody but this machine is served.
                    if client.ip().is_loopback() {
                        socket.set_nonblocking(true)?;
                        socket.set_nodelay(true)?;
                        let slot = connections.vacant_entry();
                        events.watch(&socket, slot.key() as u64)?;
                        slot.insert(Connection::new(socket));
                    }
                }
            } else if let Some(connection) = connections.get_mut(token as usize)
                && connection.advance(&body, &mut sink, ended).is_err()
            {
                connections.remove(token as usize);
            }
        }
    }
}

struct Connection {
    socket: TcpStream,
    input: Vec<u8>,
    have: usize,
    /// What is still to be read of a request body, after which it is answered.
    drain: Option<u64>,
    head: Vec<u8>,
    head_sent: usize,
    body_left: u64,
    /// Whether the request said that it is the last.
    last: bool,
}

impl Connection {
    fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            input: vec![0; HEAD],
            have: 0,
            drain: None,
            head: Vec::with_capacity(256),
            head_sent: 0,
            body_left: 0,
            last: false,
        }
    }

    /// Does what can be done now; an error is the end of the connection.
    fn advance(&mut self, body: &[u8], sink: &mut [u8], ended: bool) -> io::Result<()> {
        match self.run(body, sink, ended) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    fn run(&mut self, body: &[u8], sink: &mut [u8], ended: bool) -> io::Result<()> {
        // A read that came back short left nothing behind: what comes later is told of again.
        let mut empty = false;
        loop {
            self.send(body)?;
            if let Some(left) = &mut self.drain {
                let here = (self.have as u64).min(*left) as usize;
                self.input.copy_within(here..self.have, 0);
                self.have -= here;
                *left -= here as u64;
                while *left > 0 {
                    let piece = (*left).min(sink.len() as u64) as usize;
                    // TRUNC: thrown away in the kernel, without a copy.
                    let (_, read) =
                        rustix::net::recv(&self.socket, &mut sink[..piece], RecvFlags::TRUNC)?;
                    if read == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    *left -= read as u64;
                }
                self.drain = None;
                self.answer(DEFAULT_LENGTH)?;
                continue;
            }
            if let Some(end) = memmem::find(&self.input[..self.have], b"\r\n\r\n") {
                self.request(end + 4)?;
                continue;
            }
            if empty {
                return Ok(());
            }
            let room = self.input.len() - self.have;
            let read = self.socket.read(&mut self.input[self.have..])?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.have += read;
            empty = read < room && !ended;
        }
    }

    /// Takes the head of `length` bytes off the input.
    fn request(&mut self, length: usize) -> io::Result<()> {
        let head = String::from_utf8_lossy(&self.input[..length]).to_ascii_lowercase();
        let value =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        self.last = value("connection:") == Some("close");
        let asked = head.strip_prefix("get /b/").and_then(|rest| rest.split(' ').next());
        let asked = asked.and_then(|number| number.parse().ok()).unwrap_or(DEFAULT_LENGTH);
        let upload = value("content-length:").and_then(|number| number.parse().ok());
        // A body of unknown length would be read as the next request: nobody here sends one.
        if value("transfer-encoding:").is_some() {
            return Err(ErrorKind::Unsupported.into());
        }
        self.input.copy_within(length..self.have, 0);
        self.have -= length;
        match upload {
            Some(bytes) => self.drain = Some(bytes),
            None => self.answer(asked)?,
        }
        Ok(())
    }

    fn answer(&mut self, length: u64) -> io::Result<()> {
        self.head.clear();
        self.head_sent = 0;
        self.body_left = length;
        let connection = if self.last { "Connection: close\r\n" } else { "" };
        write!(
            self.head,
            "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 26 Nov 2026 12:00:00 GMT\r\n\
             Content-Type: text/plain\r\nContent-Length: {length}\r\n{connection}\r\n"
        )
    }

    fn send(&mut self, body: &[u8]) -> io::Result<()> {
        if self.head_sent == self.head.len() && self.body_left == 0 {
            return Ok(());
        }
        while self.head_sent < self.head.len() || self.body_left > 0 {
            let head = &self.head[self.head_sent..];
            let piece = self.body_left.min(body.len() as u64) as usize;
            let sent =
                self.socket.write_vectored(&[IoSlice::new(head), IoSlice::new(&body[..piece])])?;
            let of_head = sent.min(head.len());
            self.head_sent += of_head;
            self.body_left -= (sent - of_head) as u64;
        }
        if self.last { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}
