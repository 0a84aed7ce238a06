//! Moving bytes from socket to socket through a pipe, without copying them to user space
//! (`splice(2)`).

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::base::Stock;

/// Asked of the kernel for each pipe: few large moves are what makes splicing cheap. A user without
/// privileges may have 64 of these; beyond, the kernel refuses and the pipe keeps its 64 KiB.
const PIPE_BYTES: usize = 1 << 20;

/// At most this many are in use at once per worker: each is two file descriptors and holds up to a MiB
/// of kernel memory for as long as a slow peer takes. What finds none copies.
const IN_USE_MAX: usize = 64;

/// A worker's pipes.
#[derive(Debug, Default)]
pub struct Pipes {
    unused: Stock<(OwnedFd, OwnedFd)>,
    in_use: Cell<usize>,
}

/// A pipe, borrowed while bytes move. One that is dropped with bytes in it is not used again.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<(OwnedFd, OwnedFd)>,
    held: usize,
    home: Rc<Pipes>,
}

impl Pipes {
    /// An empty pipe.
    ///
    /// # Errors
    /// If there are no file descriptors left, or too many pipes in use.
    pub fn borrow(self: &Rc<Self>) -> io::Result<Pipe> {
        if self.in_use.get() >= IN_USE_MAX {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let ends = match self.unused.take() {
            Some(ends) => ends,
            None => {
                let ends = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
                // Refused without privileges: the default size serves, only slower.
                let _ = fcntl_setpipe_size(&ends.1, PIPE_BYTES);
                ends
            }
        };
        self.in_use.set(self.in_use.get() + 1);
        Ok(Pipe { ends: Some(ends), held: 0, home: Rc::clone(self) })
    }

    /// Lets go of some that nobody needs.
    pub fn sweep(&self) {
        self.unused.sweep();
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.home.in_use.set(self.home.in_use.get() - 1);
        if let Some(ends) = self.ends.take().filter(|_| self.held == 0) {
            self.home.unused.give(ends);
        }
    }
}

impl Pipe {
    /// Bytes that are in the pipe.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `len` bytes from `socket` into the empty pipe; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there to read; else what the socket says.
    pub fn fill(&mut self, socket: &TcpStream, len: usize) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0, "a full pipe and an empty socket would look alike");
        let Some((_, into)) = &self.ends else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let moved = socket.try_io(Interest::READABLE, || {
            Ok(splice(socket, None, into, None, len.min(PIPE_BYTES), FLAGS)?)
        })?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves what the pipe holds on to `socket`, as much as it takes.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing now; else what the socket says.
    pub fn empty(&mut self, socket: &TcpStream) -> io::Result<usize> {
        let Some((from, _)) = &self.ends else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let moved = socket.try_io(Interest::WRITABLE, || {
            Ok(splice(from, None, socket, None, self.held, FLAGS)?)
        })?;
        self.held -= moved;
        Ok(moved)
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// How much to take from a source at a time: as much as its sink takes in one go. What a slow sink leaves
/// waits in a pipe, in the kernel's memory.
#[derive(Clone, Copy, Debug)]
pub struct Draught(usize);

/// Splicing less at a time is hardly cheaper than copying.
const DRAUGHT_MIN: usize = 64 * 1024;

impl Default for Draught {
    fn default() -> Self {
        Self(DRAUGHT_MIN)
    }
}

impl Draught {
    /// The most to fill a pipe with.
    pub fn most(self) -> usize {
        self.0
    }

    /// The sink took so much of it in one go, and so much was left.
    pub fn passed(&mut self, taken: usize, left: usize) {
        self.0 = if left == 0 { 2 * self.0 } else { taken }.clamp(DRAUGHT_MIN, PIPE_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_follows_what_is_passed_on() {
        let mut draught = Draught::default();
        for (taken, left, most) in [
            (64, 0, 128),
            (128, 0, 256),
            (200, 0, 512),
            (512, 0, 1024),
            (1024, 0, 1024),
            (600, 424, 600),
            (10, 590, 64),
            (10, 0, 128),
        ] {
            draught.passed(taken * 1024, left * 1024);
            assert_eq!(draught.most(), most * 1024, "{taken} and {left}");
        }
    }
}
