//! Floods of HTTP/2: frames that cost us more than they cost their sender.
//!
//! Pure. [`Frames`] walks the frame headers of a connection, however its bytes arrive; [`Flood`] counts
//! what it sees and says when it is too much. What a well-behaved client sends because of what we do is
//! earned and not counted: it acknowledges our data with WINDOW_UPDATEs, measures its path with PINGs
//! while data comes, and may lose interest in what we answer. The rest may come at a rate that no
//! such client reaches.

use std::time::Duration;

use crate::base::Ms;
use crate::observe::FloodKind;

/// Length of a frame header (RFC 9113 §4.1).
const HEADER_LEN: usize = 9;

/// Length of what a client begins with (RFC 9113 §3.4).
const PREFACE_LEN: u32 = 24;

/// Frames of a kind are counted for so long.
const WINDOW: Duration = Duration::from_secs(1);

/// Frames of most kinds that may come in a [`WINDOW`], beyond what is earned.
const PER_WINDOW: u32 = 100;

/// SETTINGS frames that may come in a [`WINDOW`].
const SETTINGS_PER_WINDOW: u32 = 50;

/// CONTINUATION frames that one head may have.
const CONTINUATIONS_MAX: u32 = 20;

/// Streams that a client may reset in all.
const RESETS_MAX: u32 = 10_000;

/// Streams that a client may reset before we have answered them, beyond those that it let us answer.
const ABUSIVE_RESETS_MAX: u32 = 50;

/// WINDOW_UPDATEs that a DATA frame earns, for its stream and for the connection each: a client may
/// take it in small bites.
const UPDATES_PER_DATA: u32 = 10;

/// WINDOW_UPDATEs and PRIORITYs that a head earns.
const PER_HEAD: u32 = 4;

/// No more is earned in advance than this.
const EARNED_MAX: u32 = 1 << 20;

/// The header of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// Length of what follows.
    pub len: u32,
}

/// Types of frames (RFC 9113 §6).
#[expect(missing_docs, reason = "named by the RFC")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// END_STREAM of DATA and HEADERS; ACK of SETTINGS and PING.
const FLAG_END_OR_ACK: u8 = 1;

/// Finds the frame headers in a connection's bytes.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    header: [u8; HEADER_LEN],
    /// How much of the header is here.
    have: usize,
    /// Bytes to pass before the next header.
    skip: u32,
}

impl Frames {
    /// What comes from a client, the preface included.
    pub fn of_client() -> Self {
        Self { skip: PREFACE_LEN, ..Self::default() }
    }

    /// Tells of every frame whose header ends in `bytes`, the next that the connection carries.
    ///
    /// # Errors
    /// What `each` says.
    pub fn walk<E>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Frame) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let passed = bytes.len().min(self.skip as usize);
            self.skip -= passed as u32;
            bytes = &bytes[passed..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = bytes.len().min(HEADER_LEN - self.have);
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < HEADER_LEN {
                return Ok(());
            }
            self.have = 0;
            let [a, b, c, kind, flags, stream @ ..] = self.header;
            let len = u32::from_be_bytes([0, a, b, c]);
            self.skip = len;
            // The first bit is reserved.
            let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
            each(Frame { kind, flags, stream, len })?;
        }
    }
}

/// What a client has sent of what costs more than it brings.
#[derive(Clone, Debug, Default)]
pub struct Flood {
    /// When the counts of the window began.
    began: Ms,
    resets: Count,
    pings: Count,
    connection_updates: Count,
    stream_updates: Count,
    glitches: Count,
    settings: u32,
    empty_data: u32,
    continuations: u32,
    resets_ever: u32,
    abusive_resets: u32,
}

/// Frames of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    in_window: u32,
    /// So many more are expected, and not counted.
    earned: u32,
}

impl Count {
    fn earn(&mut self, frames: u32) {
        self.earned = (self.earned + frames).min(EARNED_MAX);
    }

    fn take(&mut self, kind: FloodKind) -> Result<(), FloodKind> {
        match self.earned.checked_sub(1) {
            Some(rest) => {
                self.earned = rest;
                Ok(())
            }
            None => bounded(&mut self.in_window, PER_WINDOW, kind),
        }
    }
}

/// Counts one more, of at most `most`.
fn bounded(count: &mut u32, most: u32, kind: FloodKind) -> Result<(), FloodKind> {
    *count += 1;
    if *count > most { Err(kind) } else { Ok(()) }
}

impl Flood {
    /// A frame came from the client.
    ///
    /// # Errors
    /// What there is too much of.
    pub fn received(&mut self, frame: Frame, now: Ms) -> Result<(), FloodKind> {
        if now >= self.began + WINDOW {
            self.began = now;
            let Self { resets, pings, connection_updates, stream_updates, glitches, .. } = self;
            for count in [resets, pings, connection_updates, stream_updates, glitches] {
                count.in_window = 0;
            }
            (self.settings, self.empty_data) = (0, 0);
        }
        let flagged = frame.flags & FLAG_END_OR_ACK != 0;
        match frame.kind {
            // One that ends its stream has a use.
            kind::DATA if frame.len == 0 && !flagged => {
                bounded(&mut self.empty_data, PER_WINDOW, FloodKind::EmptyData)
            }
            kind::DATA | kind::GOAWAY => Ok(()),
            kind::HEADERS => {
                self.continuations = 0;
                self.stream_updates.earn(PER_HEAD);
                self.connection_updates.earn(PER_HEAD);
                self.glitches.earn(PER_HEAD);
                Ok(())
            }
            kind::CONTINUATION => {
                bounded(&mut self.continuations, CONTINUATIONS_MAX, FloodKind::Continuation)
            }
            kind::RST_STREAM => {
                bounded(&mut self.resets_ever, RESETS_MAX, FloodKind::Reset)?;
                self.resets.take(FloodKind::Reset)
            }
            kind::SETTINGS if !flagged => {
                bounded(&mut self.settings, SETTINGS_PER_WINDOW, FloodKind::Settings)
            }
            kind::PING if !flagged => self.pings.take(FloodKind::Ping),
            kind::WINDOW_UPDATE if frame.stream == 0 => {
                self.connection_updates.take(FloodKind::ConnectionWindow)
            }
            kind::WINDOW_UPDATE => self.stream_updates.take(FloodKind::StreamWindow),
            _ => self.glitches.take(FloodKind::Glitch),
        }
    }

    /// A frame goes to the client.
    pub fn sent(&mut self, frame: Frame) {
        match frame.kind {
            kind::DATA => {
                self.connection_updates.earn(UPDATES_PER_DATA);
                self.stream_updates.earn(UPDATES_PER_DATA);
                self.pings.earn(1);
            }
            kind::HEADERS => self.resets.earn(1),
            _ => {}
        }
    }

    /// The client has reset a stream of whose response it had not seen a byte.
    ///
    /// # Errors
    /// If it has done so too often.
    pub fn reset_unanswered(&mut self) -> Result<(), FloodKind> {
        bounded(&mut self.abusive_resets, ABUSIVE_RESETS_MAX, FloodKind::AbusiveReset)
    }

    /// The client has taken a response: whoever gives up now and then is no flood.
    pub fn answered(&mut self) {
        self.abusive_resets = self.abusive_resets.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests;
