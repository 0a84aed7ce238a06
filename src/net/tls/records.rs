//! Memory for records on their way from and to a socket, borrowed from a stock per thread while there
//! is something in it: a connection that idles holds none.

use crate::base::Stock;

/// The largest record on the wire (RFC 8446 §5.2, RFC 5246 §6.2.3).
pub const RECORD_MAX: usize = 5 + 16 * 1024 + 256;

/// What is received or sent with one call at most.
pub const RECORDS_BYTES: usize = 4 * RECORD_MAX;

/// What is left of this much is copied aside while more is waited for, so that a slow sender holds what
/// it has sent and not a whole buffer.
const ASIDE_UP_TO: usize = 4 * 1024;

thread_local! {
    static UNUSED: Stock<Box<[u8]>> = Stock::default();
}

/// Lets go of some of this thread's memory that nobody needs.
pub fn sweep() {
    UNUSED.with(Stock::sweep);
}

/// Records, or the beginning of one, in a piece.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Records {
    /// What is in it.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The same, to be changed in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// How many bytes are in it.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops the first `n` bytes.
    pub fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.len(), "consumed more than there is");
        self.start += n;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// At least `len` bytes of room behind what is in it.
    pub fn room(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < len {
            self.make_room(len);
        }
        &mut self.bytes[self.end..]
    }

    /// Counts the first `n` bytes of the room as filled.
    pub fn fill(&mut self, n: usize) {
        debug_assert!(n <= self.bytes.len() - self.end, "filled more than there is room");
        self.end += n;
    }

    /// Puts `bytes` behind what is in it.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.fill(bytes.len());
    }

    fn make_room(&mut self, len: usize) {
        let held = self.len();
        let needed = held + len;
        if self.bytes.len() >= needed.max(RECORDS_BYTES) {
            self.bytes.copy_within(self.start..self.end, 0);
        } else {
            // More than the usual at once is rare, and not kept.
            let mut larger = if needed <= RECORDS_BYTES {
                UNUSED.with(Stock::take).unwrap_or_else(|| vec![0; RECORDS_BYTES].into())
            } else {
                vec![0; needed.next_power_of_two()].into()
            };
            larger[..held].copy_from_slice(self.filled());
            give_back(std::mem::replace(&mut self.bytes, larger));
        }
        (self.start, self.end) = (0, held);
    }

    /// Gives memory back before a wait: all of it if nothing is in it, and else as much as pays, or
    /// all but what is needed if `all`.
    pub fn shrink(&mut self, all: bool) {
        let held = self.len();
        if self.bytes.len() <= held || held > ASIDE_UP_TO && !all {
            return;
        }
        let aside: Box<[u8]> = self.filled().into();
        give_back(std::mem::replace(&mut self.bytes, aside));
        (self.start, self.end) = (0, held);
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.bytes));
    }
}

fn give_back(bytes: Box<[u8]>) {
    if bytes.len() == RECORDS_BYTES {
        // A thread that ends has no stock any more.
        let _ = UNUSED.try_with(|unused| unused.give(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unused() -> usize {
        UNUSED.with(Stock::len)
    }

    #[test]
    fn memory_is_borrowed_for_what_is_in_it_and_given_back() {
        let mut records = Records::default();
        assert!(records.is_empty());
        let room = records.room(1);
        assert_eq!(room.len(), RECORDS_BYTES);
        room[..3].copy_from_slice(b"abc");
        records.fill(3);
        records.consume(1);
        assert_eq!(records.filled(), b"bc");
        records.shrink(false);
        assert_eq!((records.filled(), records.bytes.len(), unused()), (&b"bc"[..], 2, 1));
        records.extend(b"d");
        assert_eq!((records.filled(), unused()), (&b"bcd"[..], 0));
        records.consume(3);
        records.shrink(false);
        assert_eq!((records.bytes.len(), unused()), (0, 1));
    }

    #[test]
    fn what_is_left_is_moved_or_grows() {
        let mut records = Records::default();
        records.extend(&vec![1; RECORDS_BYTES - 1]);
        records.consume(RECORDS_BYTES - 11);
        assert_eq!(records.room(RECORD_MAX).len(), RECORDS_BYTES - 10);
        assert_eq!(records.filled(), [1; 10]);
        records.extend(&vec![2; 2 * RECORDS_BYTES]);
        assert_eq!(records.len(), 2 * RECORDS_BYTES + 10);
        assert_eq!(unused(), 1, "the smaller one was given back");
        records.shrink(false);
        assert_eq!(records.len(), 2 * RECORDS_BYTES + 10, "what is in it stays");
        drop(records);
        assert_eq!(unused(), 1, "one that was larger is not kept");
    }

    #[test]
    fn a_large_beginning_is_put_aside_only_when_asked_to() {
        let mut records = Records::default();
        records.extend(&vec![1; ASIDE_UP_TO + 1]);
        records.shrink(false);
        assert_eq!(unused(), 0);
        records.shrink(true);
        assert_eq!((records.len(), records.bytes.len(), unused()), (4097, 4097, 1));
    }
}
