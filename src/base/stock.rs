//! Things that are kept to be used again: as many as were needed at a time lately, and not more.

use std::cell::{Cell, RefCell};

/// Unused things of one kind. What it holds grows to the most that were in use at once, and shrinks
/// with each [`Stock::sweep`] when fewer are.
#[derive(Debug)]
pub struct Stock<T> {
    /// The last used at the end: it is taken first, because it is in the processor's cache.
    unused: RefCell<Vec<T>>,
    /// The fewest that lay here since the last sweep: nobody needed these.
    fewest: Cell<usize>,
}

impl<T> Default for Stock<T> {
    fn default() -> Self {
        Self { unused: RefCell::default(), fewest: Cell::default() }
    }
}

impl<T> Stock<T> {
    /// One of them, if there is one.
    pub fn take(&self) -> Option<T> {
        let mut unused = self.unused.borrow_mut();
        let taken = unused.pop();
        self.fewest.set(self.fewest.get().min(unused.len()));
        taken
    }

    /// Puts one here.
    pub fn give(&self, thing: T) {
        self.unused.borrow_mut().push(thing);
    }

    /// Lets go of half of what was not needed since the last call. Called about once a second, so what
    /// a burst has left is gone after some seconds, and what a steady load needs stays.
    pub fn sweep(&self) {
        let mut unused = self.unused.borrow_mut();
        unused.drain(..self.fewest.get().div_ceil(2));
        self.fewest.set(unused.len());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.unused.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_stays_and_what_a_burst_left_goes() {
        let stock = Stock::default();
        assert_eq!(stock.take(), None);
        (0..100).for_each(|n| stock.give(n));
        stock.sweep();
        assert_eq!(stock.len(), 100, "they have just come");
        for left in [70, 55, 47, 43, 41, 40] {
            // Forty are in use at a time.
            let used: Vec<i32> = (0..40).filter_map(|_| stock.take()).collect();
            used.into_iter().for_each(|thing| stock.give(thing));
            stock.sweep();
            assert_eq!(stock.len(), left);
        }
        for _ in 0..7 {
            stock.sweep();
        }
        assert!(stock.is_empty(), "nobody needs any");
    }
}
