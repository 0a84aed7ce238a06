//! The floor: a relay that pairs each client connection with one to an instance and looks at nothing,
//! what any proxy in user space has to pay at least. It copies, or splices where that is cheaper.
//!
//! It exists to be measured against: the end of one side is the end of both.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use slab::Slab;

use crate::events::{Event, Events};

/// The token of the listener; others are twice the pair, plus the side.
const LISTENER: u64 = u64::MAX;
const PIPE: usize = 1 << 20;
const BUFFER: usize = 1 << 16;

/// Relays until it is killed.
///
/// # Errors
/// If it cannot listen.
pub fn run(splices: bool, listen: SocketAddr, instances: &[SocketAddr]) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let mut events = Events::new()?;
    events.watch_listener(&listener, LISTENER)?;
    let mut pairs: Slab<[Side; 2]> = Slab::new();
    let mut buffer = vec![0; BUFFER];
    let mut turn = instances.iter().cycle();
    loop {
        for Event { token, writable, ended } in events.wait(None)? {
            if token == LISTENER {
                while let (Ok((client, _)), Some(instance)) = (listener.accept(), turn.next()) {
                    let Ok(instance) = TcpStream::connect(instance) else { continue };
                    let slot = pairs.vacant_entry();
                    let first = 2 * slot.key() as u64;
                    events.watch(&client, first)?;
                    events.watch(&instance, first + 1)?;
                    slot.insert([Side::new(client, splices)?, Side::new(instance, splices)?]);
                }
                continue;
            }
            let (key, side) = ((token / 2) as usize, (token % 2) as usize);
            let Some([client, instance]) = pairs.get_mut(key) else { continue };
            let (this, other) = if side == 0 { (client, instance) } else { (instance, client) };
            let mut over = this.pump(other, &mut buffer, ended).is_err();
            // What the other side has sent may have waited for room on this one.
            if writable && other.waits() {
                over |= other.pump(this, &mut buffer, false).is_err();
            }
            if over {
                pairs.remove(key);
            }
        }
    }
}

/// One of two sockets, with what was read from it and not yet taken by the other.
struct Side {
    socket: TcpStream,
    pipe: Option<(OwnedFd, OwnedFd)>,
    in_pipe: usize,
    copied: Vec<u8>,
    ended: bool,
}

impl Side {
    fn new(socket: TcpStream, splices: bool) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let pipe = if splices {
            let ends = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            // Refused without privileges: the default size serves, only slower.
            let _ = fcntl_setpipe_size(&ends.1, PIPE);
            Some(ends)
        } else {
            None
        };
        Ok(Self { socket, pipe, in_pipe: 0, copied: Vec::new(), ended: false })
    }

    fn waits(&self) -> bool {
        self.in_pipe > 0 || !self.copied.is_empty() || self.ended
    }

    /// Moves what can be moved to `other`; an error is the end of both.
    fn pump(&mut self, other: &mut Self, buffer: &mut [u8], ended: bool) -> io::Result<()> {
        let moved = if self.pipe.is_some() {
            self.splice(&other.socket)
        } else {
            self.copy(&mut other.socket, buffer, ended)
        };
        match moved {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    fn copy(&mut self, into: &mut TcpStream, buffer: &mut [u8], ended: bool) -> io::Result<()> {
        loop {
            while !self.copied.is_empty() {
                let written = into.write(&self.copied)?;
                self.copied.drain(..written);
            }
            if self.ended {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let read = self.socket.read(buffer)?;
            self.ended = read == 0;
            let written = match into.write(&buffer[..read]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                written => written?,
            };
            self.copied.extend_from_slice(&buffer[written..read]);
            // A read that came back short left nothing behind.
            if !ended && self.copied.is_empty() && 0 < read && read < buffer.len() {
                return Ok(());
            }
        }
    }

    fn splice(&mut self, into: &TcpStream) -> io::Result<()> {
        let Some((from_pipe, into_pipe)) = &self.pipe else { return Ok(()) };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            while self.in_pipe > 0 {
                self.in_pipe -= splice(from_pipe, None, into, None, self.in_pipe, flags)?;
            }
            if self.ended {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let read = splice(&self.socket, None, into_pipe, None, PIPE, flags)?;
            self.ended = read == 0;
            self.in_pipe = read;
        }
    }
}
