//! Read buffers, borrowed from a pool per worker while bytes move and given back while a
//! connection idles.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use tokio::io::{AsyncRead, ReadBuf};

use crate::base::Stock;

/// The size of a buffer: most heads fit in one.
pub const BUFFER_BYTES: usize = 16 * 1024;

/// A worker's unused buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    unused: Stock<Box<[u8]>>,
}

/// Bytes that were read and not yet used.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    home: Rc<Buffers>,
}

impl Buffers {
    /// An empty buffer.
    pub fn borrow(self: &Rc<Self>) -> Buffer {
        let bytes = self.unused.take().unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        Buffer { bytes, start: 0, end: 0, home: Rc::clone(self) }
    }

    /// Lets go of some that nobody needs.
    pub fn sweep(&self) {
        self.unused.sweep();
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.len() == BUFFER_BYTES {
            self.home.unused.give(std::mem::take(&mut self.bytes));
        }
    }
}

impl Buffer {
    /// What was read and not consumed.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.end - self.start == self.bytes.len()
    }

    /// Makes a buffer that is full of the beginning of a message larger: such messages are rare, and
    /// their buffers are not kept.
    pub fn make_room(&mut self) {
        if self.is_full() {
            let mut larger = vec![0; 2 * self.bytes.len()].into_boxed_slice();
            let held = self.end - self.start;
            larger[..held].copy_from_slice(self.filled());
            (self.bytes, self.start, self.end) = (larger, 0, held);
        }
    }

    /// Drops the first `n` bytes.
    pub fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.end - self.start, "consumed more than there is");
        self.start += n;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads once into the free space; 0 means the end of the stream. The buffer must not be full.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn read_from(&mut self, mut stream: impl AsyncRead + Unpin) -> io::Result<usize> {
        if self.start > 0 && self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        debug_assert!(self.end < self.bytes.len(), "reading into a full buffer looks like the end");
        let space = &mut self.bytes[self.end..];
        let n = poll_fn(|cx| {
            let mut into = ReadBuf::new(space);
            Pin::new(&mut stream).poll_read(cx, &mut into).map_ok(|()| into.filled().len())
        })
        .await?;
        self.end += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_consumes_and_moves_what_is_left_to_the_front() {
        let buffers = Rc::new(Buffers::default());
        let mut buffer = buffers.borrow();
        let input = vec![7u8; BUFFER_BYTES];
        assert_eq!(buffer.read_from(&input[..]).await.expect("read"), BUFFER_BYTES);
        assert!(buffer.is_full());
        buffer.consume(BUFFER_BYTES - 3);
        assert_eq!(buffer.filled(), [7, 7, 7]);
        assert_eq!(buffer.read_from(&[1u8, 2][..]).await.expect("read"), 2);
        assert_eq!(buffer.filled(), [7, 7, 7, 1, 2]);
        buffer.consume(5);
        assert!(buffer.is_empty());
        drop(buffer);
        assert_eq!(buffers.unused.len(), 1, "given back");
    }
}
