//! What a worker has for the access log: the lines that it has gathered.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use prometheus::IntCounter;

use crate::observe::access::line::{self, Line, Stamp, Style};
use crate::observe::access::queue::Queue;

/// Lines are passed on once they have so many bytes.
const GATHER_UP_TO: usize = 64 * 1024;

/// A worker's end of the access log. Dropped, it passes on what it has.
#[derive(Debug, Default)]
pub struct AccessSink(Option<Pen>);

#[derive(Debug)]
struct Pen {
    queue: Arc<Queue>,
    style: Style,
    dropped: IntCounter,
    gathered: RefCell<Vec<u8>>,
    lines: Cell<u64>,
    stamp: RefCell<Stamp>,
}

impl AccessSink {
    /// One that passes lines on to `queue`, and counts those for which it has no room.
    pub(super) fn new(queue: Arc<Queue>, style: Style, dropped: IntCounter) -> Self {
        let (gathered, lines, stamp) = Default::default();
        Self(Some(Pen { queue, style, dropped, gathered, lines, stamp }))
    }

    /// Whether there is an access log.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes a line, if there is an access log.
    pub fn write(&self, line: &Line<'_>) {
        if let Some(pen) = &self.0 {
            pen.write(line);
        }
    }

    /// Passes on what there is.
    pub fn flush(&self) {
        if let Some(pen) = &self.0 {
            pen.flush();
        }
    }
}

impl Pen {
    fn write(&self, line: &Line<'_>) {
        let mut gathered = self.gathered.borrow_mut();
        line::write(line, self.style, &mut self.stamp.borrow_mut(), &mut gathered);
        self.lines.set(self.lines.get() + 1);
        if gathered.len() >= GATHER_UP_TO {
            drop(gathered);
            self.flush();
        }
    }

    fn flush(&self) {
        let lines = self.lines.take();
        if lines == 0 {
            return;
        }
        let mut gathered = self.gathered.borrow_mut();
        if !self.queue.push(&gathered, lines) {
            self.dropped.inc_by(lines);
        }
        gathered.clear();
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        self.flush();
    }
}
