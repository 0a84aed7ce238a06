//! Bodies on HTTP/2 streams, client and instance alike: a source that reads, a sink that writes.
//!
//! Flow control goes from end to end. What came is given back to the sender's window only when the next
//! piece is asked for, because then it was passed on; what is to go is handed over only as far as the
//! receiver's windows and a small buffer take it. So whoever is slow stops its own stream.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::net::TcpStream;

use crate::model::Listener;
use crate::observe::meter::Odometer;
use crate::proxy::buffer::BUFFER_BYTES;
use crate::proxy::forward::body::{BodyError, BodySink, BodySource, Piece, PumpError};
use crate::proxy::patience::{HasLeft, Patience};
use crate::proxy::rewrite;
use crate::proxy::wire::BodyLength;
use crate::proxy::wire::chunked::ChunkError;
use crate::proxy::wire::http2::{field_map, trailer_lines};

/// The body of a message, being read.
#[derive(Debug)]
pub struct H2Source<'a> {
    stream: &'a mut RecvStream,
    patience: Patience<'a>,
    left: Left,
    /// What has come and was not lent yet.
    here: Bytes,
    /// How much of the sender's window the last piece takes up.
    lent: usize,
    /// The last piece.
    piece: Bytes,
    /// Something was lent: the body is not whole any more.
    begun: bool,
    /// The sender waits for `100 Continue` before it sends the first byte.
    waits: bool,
    trailers: Vec<u8>,
    /// It is a client's: what only we say of clients goes no further, in trailers either.
    from_client_of: Option<&'a Listener>,
    has_left: Sender<'a>,
    bytes: u64,
    /// How much more data may come.
    data_left: u64,
}

/// Tells whether the sender has left.
#[derive(Clone, Copy)]
struct Sender<'a>(HasLeft<'a>);

impl std::fmt::Debug for Sender<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    Exactly(u64),
    UntilEnd,
    Trailers,
    Nothing,
}

impl<'a> H2Source<'a> {
    /// The body of length `body` that comes on `stream`.
    pub fn new(stream: &'a mut RecvStream, body: BodyLength, patience: Patience<'a>) -> Self {
        let left = match body {
            BodyLength::None => Left::Nothing,
            BodyLength::Exactly(length) => Left::Exactly(length),
            BodyLength::Chunked | BodyLength::UntilClose => Left::UntilEnd,
        };
        let mut source = Self {
            stream,
            patience,
            left,
            here: Bytes::new(),
            lent: 0,
            piece: Bytes::new(),
            begun: false,
            waits: false,
            trailers: Vec::new(),
            from_client_of: None,
            has_left: Sender(&|| false),
            bytes: 0,
            data_left: u64::MAX,
        };
        source.look();
        source
    }

    /// Ends the body with an error once it gives more than `limit` bytes of data.
    pub fn at_most(mut self, limit: u64) -> Self {
        self.data_left = limit;
        self
    }

    /// How to find out that the sender has left when all of its body is here.
    pub fn unless(mut self, has_left: HasLeft<'a>) -> Self {
        self.has_left = Sender(has_left);
        self
    }

    /// The body comes from a client of this listener.
    pub fn from_client_of(mut self, listener: &'a Listener) -> Self {
        self.from_client_of = Some(listener);
        self
    }

    /// The sender may wait for `100 Continue`, which comes from whoever the body goes to.
    pub fn wait_for_invitation(&mut self, waits: bool) {
        self.waits = waits;
    }

    /// Whether the body was read to its end.
    pub fn is_done(&self) -> bool {
        self.left == Left::Nothing
    }

    /// How many bytes of data were read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes what is here already of a small body: mostly it comes right behind its head. Nobody waits
    /// for more at this time, so no waker is lost.
    fn look(&mut self) {
        let Left::Exactly(length) = self.left else { return };
        let mut cx = Context::from_waker(Waker::noop());
        while length <= BUFFER_BYTES as u64 && (self.here.len() as u64) < length {
            match self.stream.poll_data(&mut cx) {
                Poll::Ready(Some(Ok(data))) => self.gathered(data),
                _ => return,
            }
        }
    }

    fn gathered(&mut self, data: Bytes) {
        if self.here.is_empty() {
            self.here = data;
        } else {
            let mut both = BytesMut::from(std::mem::take(&mut self.here));
            both.extend_from_slice(&data);
            self.here = both.freeze();
        }
    }

    /// The next data; `None` at the end of the stream, or where trailers come.
    async fn data(&mut self) -> Result<Option<Bytes>, BodyError> {
        let stream = &mut *self.stream;
        let data = self.patience.wait(poll_fn(|cx| stream.poll_data(cx))).await?;
        let data = data.transpose().map_err(broke)?;
        if let Some(data) = &data {
            self.patience.moved(data.len());
        }
        Ok(data)
    }

    /// Gives the last piece back to the sender's window: it was passed on.
    fn release(&mut self) {
        self.piece = Bytes::new();
        // An error tells that the stream is gone, and with it its window.
        let _ = self.stream.flow_control().release_capacity(std::mem::take(&mut self.lent));
    }

    /// Takes `len` bytes off what the head announced.
    fn spend(&mut self, len: usize) -> Result<(), BodyError> {
        self.bytes += len as u64;
        self.data_left = self.data_left.checked_sub(len as u64).ok_or(BodyError::TooLarge)?;
        if let Left::Exactly(left) = &mut self.left {
            *left = left.checked_sub(len as u64).ok_or(BodyError::Surplus)?;
        }
        Ok(())
    }

    /// What comes behind the data.
    async fn read_trailers(&mut self) -> Result<(), BodyError> {
        if matches!(self.left, Left::Exactly(left) if left > 0) {
            return Err(BodyError::Cut);
        }
        let stream = &mut *self.stream;
        let trailers = self.patience.wait(poll_fn(|cx| stream.poll_trailers(cx))).await?;
        if let Some(map) = trailers.map_err(broke)? {
            self.trailers = trailer_lines(&map)?;
            if let Some(listener) = self.from_client_of {
                rewrite::drop_poses(listener, &mut self.trailers);
            }
        }
        self.left = if self.trailers.is_empty() { Left::Nothing } else { Left::Trailers };
        Ok(())
    }
}

impl BodySource for H2Source<'_> {
    fn is_ready(&self) -> bool {
        !self.here.is_empty()
            || matches!(self.left, Left::Nothing | Left::Trailers)
            || self.stream.is_end_stream()
    }

    fn whole(&self) -> Option<&[u8]> {
        match self.left {
            _ if self.begun => None,
            Left::Nothing => Some(&[]),
            Left::Exactly(length) if self.here.len() as u64 == length => Some(&self.here),
            _ => None,
        }
    }

    fn is_untouched(&self) -> bool {
        !self.begun
    }

    async fn gather(&mut self) -> Result<(), BodyError> {
        let Left::Exactly(length) = self.left else { return Ok(()) };
        if self.begun || self.waits || length > BUFFER_BYTES as u64 {
            return Ok(());
        }
        while (self.here.len() as u64) < length {
            let data = self.data().await?.ok_or(BodyError::Cut)?;
            self.gathered(data);
        }
        Ok(())
    }

    fn discard_whole(&mut self) {
        if let (Left::Exactly(_), false) = (self.left, self.begun) {
            self.lent = self.here.len();
            self.bytes += self.here.len() as u64;
            self.here = Bytes::new();
            self.release();
            self.left = Left::Nothing;
        }
    }

    fn has_left(&self) -> bool {
        (self.has_left.0)()
    }

    async fn next(&mut self) -> Result<Option<Piece<'_>>, BodyError> {
        self.release();
        self.begun = true;
        loop {
            match self.left {
                Left::Nothing => return Ok(None),
                Left::Trailers => {
                    self.left = Left::Nothing;
                    return Ok(Some(Piece::Trailers(&self.trailers)));
                }
                Left::Exactly(_) | Left::UntilEnd => {}
            }
            let data = if self.here.is_empty() {
                self.data().await?
            } else {
                Some(std::mem::take(&mut self.here))
            };
            match data {
                Some(data) if data.is_empty() => {}
                Some(data) => {
                    self.lent = data.len();
                    self.piece = data;
                    self.spend(self.lent)?;
                    return Ok(Some(Piece::Bytes(&self.piece)));
                }
                None => self.read_trailers().await?,
            }
        }
    }
}

/// What broke on a stream that was read from: its sender, or its sender's HTTP.
fn broke(error: h2::Error) -> BodyError {
    if error.is_library() && !error.is_go_away() {
        return BodyError::Coding(ChunkError("the stream breaks HTTP/2"));
    }
    match error.into_io() {
        Some(error) => BodyError::Io(error),
        None => BodyError::Cut,
    }
}

/// The body of a message, being written.
#[derive(Debug)]
pub struct H2Sink<'a> {
    /// `None` if the receiver has reset it before there was a body.
    stream: Option<SendStream<Bytes>>,
    body: BodyLength,
    patience: Patience<'a>,
    counter: Option<Odometer<'a>>,
    /// The last frame was handed over.
    ended: bool,
}

impl<'a> H2Sink<'a> {
    /// A body of length `body` that goes out on `stream`, whose head was sent, and has ended the stream
    /// exactly if the length is [`BodyLength::None`] or 0.
    pub fn new(
        stream: Option<SendStream<Bytes>>,
        body: BodyLength,
        patience: Patience<'a>,
    ) -> Self {
        let ended = matches!(body, BodyLength::None | BodyLength::Exactly(0));
        Self { stream, body, patience, counter: None, ended }
    }

    /// Adds every byte of data that is handed over to `counter`.
    pub fn counted(mut self, counter: Odometer<'a>) -> Self {
        self.counter = Some(counter);
        self
    }

    /// Breaks the stream off: what was sent is not all of it.
    pub fn reset(&mut self, reason: Reason) {
        if let Some(stream) = &mut self.stream {
            stream.send_reset(reason);
        }
    }

    /// Whether less was handed over than the head announced.
    fn is_short(&self) -> bool {
        matches!(self.body, BodyLength::Exactly(left) if left > 0)
    }

    /// Takes `len` bytes off what the head announced; whether nothing is to come any more.
    fn spend(&mut self, len: usize) -> Result<bool, PumpError> {
        match &mut self.body {
            BodyLength::None => Err(PumpError::Source(BodyError::Surplus)),
            BodyLength::Exactly(left) => {
                let rest = left.checked_sub(len as u64);
                *left = rest.ok_or(PumpError::Source(BodyError::Surplus))?;
                Ok(*left == 0)
            }
            BodyLength::Chunked | BodyLength::UntilClose => Ok(false),
        }
    }

    /// Hands data over, as fast as the receiver takes it.
    async fn send(&mut self, mut data: Bytes) -> Result<(), PumpError> {
        let last = self.spend(data.len())?;
        while !data.is_empty() {
            let taken = self.capacity(data.len()).await.map_err(PumpError::Sink)?;
            let now = data.split_to(taken.min(data.len()));
            let len = now.len();
            let end = last && data.is_empty();
            self.hand_over(now, end).map_err(PumpError::Sink)?;
            self.patience.moved(len);
            if let Some(counter) = self.counter {
                counter.add(len as u64);
            }
        }
        Ok(())
    }

    /// How much of `wanted` bytes the receiver takes now: at least one. Asked for only when there is
    /// something to send, or a stream with nothing to say would hold what others need.
    async fn capacity(&mut self, wanted: usize) -> Result<usize, BodyError> {
        let Some(stream) = &mut self.stream else { return Err(BodyError::Cut) };
        stream.reserve_capacity(wanted);
        loop {
            let capacity = stream.capacity();
            if capacity > 0 {
                return Ok(capacity);
            }
            match self.patience.wait(poll_fn(|cx| stream.poll_capacity(cx))).await? {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(BodyError::Cut),
            }
        }
    }

    fn hand_over(&mut self, data: Bytes, end: bool) -> Result<(), BodyError> {
        self.ended |= end;
        let stream = self.stream.as_mut().ok_or(BodyError::Cut)?;
        stream.send_data(data, end).map_err(|_| BodyError::Cut)
    }

    fn send_trailers(&mut self, lines: &[u8]) -> Result<(), BodyError> {
        self.ended = true;
        let stream = self.stream.as_mut().ok_or(BodyError::Cut)?;
        stream.send_trailers(field_map(lines)).map_err(|_| BodyError::Cut)
    }

    /// Reads the next `len` bytes of `from`, and hands them over from where they were read to.
    async fn copy(
        &mut self,
        from: &TcpStream,
        mut len: u64,
        patience: &Patience<'_>,
    ) -> Result<(), PumpError> {
        while len > 0 {
            let ready = patience.wait(from.readable()).await;
            ready.map_err(|error| PumpError::Source(error.into()))?.map_err(source_broke)?;
            let most = usize::try_from(len).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            let mut data = BytesMut::with_capacity(most);
            match from.try_read_buf(&mut (&mut data).limit(most)) {
                Ok(0) => return Err(PumpError::Source(BodyError::Cut)),
                Ok(n) => {
                    patience.moved(n);
                    len -= n as u64;
                    self.send(data.freeze()).await?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(source_broke(error)),
            }
        }
        Ok(())
    }
}

fn source_broke(error: io::Error) -> PumpError {
    PumpError::Source(error.into())
}

impl BodySink for H2Sink<'_> {
    async fn write(&mut self, piece: Piece<'_>) -> Result<(), PumpError> {
        match piece {
            Piece::Bytes(data) => self.send(Bytes::copy_from_slice(data)).await,
            Piece::Splice { from, len, patience } => Box::pin(self.copy(from, len, patience)).await,
            Piece::Trailers(_) if self.ended => Ok(()),
            Piece::Trailers(_) if self.is_short() => Err(PumpError::Source(BodyError::Cut)),
            Piece::Trailers(lines) => self.send_trailers(lines).map_err(PumpError::Sink),
        }
    }

    async fn flush(&mut self) -> Result<(), BodyError> {
        // What was handed over goes out with the connection's next turn.
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), PumpError> {
        if self.is_short() {
            return Err(PumpError::Source(BodyError::Cut));
        }
        if self.ended {
            // Who has not taken the head has not taken the body either.
            return match self.stream {
                Some(_) => Ok(()),
                None => Err(PumpError::Sink(BodyError::Cut)),
            };
        }
        self.hand_over(Bytes::new(), true).map_err(PumpError::Sink)
    }

    fn end_with(&mut self, trailers: &[u8]) -> bool {
        !self.ended && !self.is_short() && self.send_trailers(trailers).is_ok()
    }
}
