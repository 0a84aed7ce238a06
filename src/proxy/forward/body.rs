//! Bodies in motion: the two traits that each codec fills.
//!
//! A source lends pieces, a sink takes them; whoever pumps from one to the other does not know what
//! they speak. Nothing is buffered whole: a sink that does not take stops the source.

use std::future::Future;
use std::io;

use tokio::net::TcpStream;

use crate::observe::FailReason;
use crate::proxy::patience::{GaveUp, Patience};
use crate::proxy::wire::chunked::ChunkError;

/// A piece of a body, lent by its source until the next is asked for.
#[derive(Debug)]
pub enum Piece<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// The next `len` bytes of this socket, unread: a sink that writes to a socket moves them by
    /// `splice` without seeing them.
    Splice {
        /// Where they are to be read.
        from: &'a TcpStream,
        /// How many.
        len: u64,
        /// How long they may take to come.
        patience: &'a Patience<'a>,
    },
    /// The trailer section, as `name: value CRLF` lines; the last piece if there is one.
    Trailers(&'a [u8]),
}

/// Why a body stopped moving.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The stream ended in the middle.
    #[error("the connection was closed in the middle of a body")]
    Cut,
    /// The source gave more than its head announced.
    #[error("more bytes than the head announced")]
    Surplus,
    /// It was not waited for any longer.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
    /// There is more than may be.
    #[error("larger than the limit")]
    TooLarge,
    /// The chunks make no sense.
    #[error("broken chunked coding: {0}")]
    Coding(#[from] ChunkError),
    /// What the socket says.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl BodyError {
    /// How it is counted when the client is the one that gave or took the body.
    pub fn of_client(&self) -> FailReason {
        match self {
            Self::GaveUp(GaveUp::Timeout) => FailReason::ClientTimeout,
            Self::GaveUp(GaveUp::TooSlow) => FailReason::ClientTooSlow,
            Self::GaveUp(GaveUp::Overdue) => FailReason::TotalTimeout,
            Self::TooLarge => FailReason::BodyTooLarge,
            Self::Coding(_) => FailReason::BadBody,
            Self::GaveUp(GaveUp::Unwanted) | Self::Cut | Self::Surplus | Self::Io(_) => {
                FailReason::ClientGone
            }
        }
    }

    /// How it is counted when an instance gave the body, part of which is with the client.
    pub fn of_instance(&self) -> FailReason {
        match self {
            Self::GaveUp(GaveUp::Unwanted) => FailReason::ClientGone,
            Self::GaveUp(GaveUp::Overdue) => FailReason::TotalTimeout,
            Self::GaveUp(GaveUp::Timeout) => FailReason::StalledResponse,
            _ => FailReason::CutResponse,
        }
    }
}

/// Lends the pieces of a body.
pub trait BodySource {
    /// Whether [`BodySource::next`] has something to say without waiting.
    fn is_ready(&self) -> bool;

    /// The whole body, if all of it is here already and nothing of it was taken: then it may be
    /// sent again. Nothing is consumed.
    fn whole(&self) -> Option<&[u8]>;

    /// Whether nothing was lent yet: all that came of the body is still here.
    fn is_untouched(&self) -> bool;

    /// Waits for all of a body whose length is known and small, so that it is [`BodySource::whole`] and
    /// can be sent more than once. Does nothing to any other, nor to one whose sender waits to be
    /// asked for it.
    fn gather(&mut self) -> impl Future<Output = Result<(), BodyError>>;

    /// Drops the whole body that [`BodySource::whole`] showed: it was sent, and is not needed again.
    fn discard_whole(&mut self);

    /// Whether whoever gave the body has left, although all of it is here, and does not want a
    /// response any more. Costs a system call only if something has happened on the connection.
    fn has_left(&self) -> bool;

    /// The next piece; `None` after the last. The one before is used up by then.
    fn next(&mut self) -> impl Future<Output = Result<Option<Piece<'_>>, BodyError>>;
}

/// Takes the pieces of a body.
pub trait BodySink {
    /// Takes a piece; may keep small ones back until [`BodySink::flush`]. It reads a spliced piece
    /// itself, so it also says which side gave up.
    fn write(&mut self, piece: Piece<'_>) -> impl Future<Output = Result<(), PumpError>>;

    /// Sends what was kept back.
    fn flush(&mut self) -> impl Future<Output = Result<(), BodyError>>;

    /// Marks the end and sends everything, unless the source gave less than its head announced.
    fn finish(&mut self) -> impl Future<Output = Result<(), PumpError>>;

    /// Ends a body whose source has broken off by these trailers, which say so; whether they went out.
    /// They do not where a receiver might take them for the end of a whole body, or never see them.
    fn end_with(&mut self, _trailers: &[u8]) -> bool {
        false
    }
}

/// Which side of a [`pump`] gave up.
#[derive(Debug)]
pub enum PumpError {
    /// The source.
    Source(BodyError),
    /// The sink.
    Sink(BodyError),
}

/// Moves a body from its source to its sink.
///
/// # Errors
/// Which side gave up, and why.
pub async fn pump(source: &mut impl BodySource, sink: &mut impl BodySink) -> Result<(), PumpError> {
    loop {
        if !source.is_ready() {
            // Whatever is slow to come must not hold up what is here.
            sink.flush().await.map_err(PumpError::Sink)?;
        }
        match source.next().await.map_err(PumpError::Source)? {
            Some(piece) => sink.write(piece).await?,
            None => return sink.finish().await,
        }
    }
}
