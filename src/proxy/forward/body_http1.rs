//! Bodies on HTTP/1.1 connections, client and instance alike: a source that reads, a sink that
//! writes.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::model::Listener;
use crate::net::half::{Incoming, Outgoing};
use crate::net::splice::{Draught, Pipes};
use crate::net::tls::records::Records;
use crate::observe::meter::Odometer;
use crate::proxy::buffer::{BUFFER_BYTES, Buffer};
use crate::proxy::forward::body::{BodyError, BodySink, BodySource, Piece, PumpError};
use crate::proxy::patience::Patience;
use crate::proxy::rewrite;
use crate::proxy::wire::BodyLength;
use crate::proxy::wire::chunked::{Decoded, Decoder, LAST, write_chunk_line};
use crate::proxy::wire::head::Fields;

/// What is still to come of a body is spliced from this many bytes on; less is cheaper copied, because
/// a pipe costs two more system calls. A body of 64 KiB has 48 left when its first buffer has been
/// read: spliced it costs 0.6 of what it costs copied.
const SPLICE_FROM: u64 = 32 * 1024;

/// Pieces up to this size are gathered behind the head into one write; larger ones go out from
/// where they are.
const GATHER_UP_TO: usize = 4 * 1024;

/// The body of a message, being read.
#[derive(Debug)]
pub struct H1Source<'a, 's> {
    half: &'a mut Incoming<'s>,
    buffer: &'a mut Buffer,
    patience: Patience<'a>,
    left: Left,
    /// Bytes of the buffer that the last piece lent.
    lent: usize,
    /// Something was lent: the body is not whole any more.
    begun: bool,
    /// The sender waits for `100 Continue` before it sends the first byte.
    waits: bool,
    trailers: Vec<u8>,
    /// It is a client's: what only we say of clients goes no further, in trailers either.
    from_client_of: Option<&'a Listener>,
    /// What `Connection` names here goes no further, in trailers either.
    head: &'a Fields,
    bytes: u64,
    /// How much more data may come.
    data_left: u64,
}

#[derive(Debug)]
enum Left {
    Exactly(u64),
    Chunked(Decoder),
    UntilClose,
    Trailers,
    Nothing,
}

impl<'a, 's> H1Source<'a, 's> {
    /// The body of length `body`, behind `head`, whose first bytes may be in `buffer`.
    pub fn new(
        half: &'a mut Incoming<'s>,
        buffer: &'a mut Buffer,
        body: BodyLength,
        head: &'a Fields,
        patience: Patience<'a>,
    ) -> Self {
        let left = match body {
            BodyLength::None | BodyLength::Exactly(0) => Left::Nothing,
            BodyLength::Exactly(length) => Left::Exactly(length),
            BodyLength::Chunked => Left::Chunked(Decoder::default()),
            BodyLength::UntilClose => Left::UntilClose,
        };
        Self {
            half,
            buffer,
            patience,
            left,
            lent: 0,
            begun: false,
            waits: false,
            trailers: Vec::new(),
            from_client_of: None,
            head,
            bytes: 0,
            data_left: u64::MAX,
        }
    }

    /// Ends the body with an error once it gives more than `limit` bytes of data.
    pub fn at_most(mut self, limit: u64) -> Self {
        self.data_left = limit;
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

    /// Whether the body was read to its end, so that what follows on the connection is a head.
    pub fn is_done(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    /// Gives the last piece back to the buffer; says how many bytes were read, framing included.
    pub fn end(self) -> u64 {
        self.buffer.consume(self.lent);
        self.bytes
    }

    fn consume(&mut self, framing: usize) {
        self.buffer.consume(framing);
        self.bytes += framing as u64;
    }

    async fn fill(&mut self) -> Result<usize, BodyError> {
        let n = self.patience.wait(self.buffer.read_from(&mut *self.half)).await??;
        self.patience.moved(n);
        Ok(n)
    }

    /// How many bytes of the buffer are the next piece; `None` if there is none in it.
    fn next_in_buffer(&mut self) -> Result<Option<usize>, BodyError> {
        let here = self.buffer.filled().len();
        match &mut self.left {
            Left::Exactly(left) if here > 0 => {
                let len = (here as u64).min(*left);
                *left -= len;
                if *left == 0 {
                    self.left = Left::Nothing;
                }
                Ok(Some(len as usize))
            }
            Left::UntilClose if here > 0 => Ok(Some(here)),
            Left::Chunked(decoder) => match decoder.decode(self.buffer.filled())? {
                Decoded::Data { skip, len } => {
                    self.consume(skip);
                    Ok(Some(len))
                }
                Decoded::More { skip } => {
                    self.consume(skip);
                    Ok(None)
                }
                Decoded::End { skip } => {
                    self.trailers = std::mem::take(decoder).into_trailers(self.head);
                    if let Some(listener) = self.from_client_of {
                        rewrite::drop_poses(listener, &mut self.trailers);
                    }
                    let none = self.trailers.is_empty();
                    self.left = if none { Left::Nothing } else { Left::Trailers };
                    self.consume(skip);
                    Ok(None)
                }
            },
            _ => Ok(None),
        }
    }
}

impl BodySource for H1Source<'_, '_> {
    fn is_ready(&self) -> bool {
        let here = &self.buffer.filled()[self.lent..];
        match &self.left {
            Left::Nothing | Left::Trailers => true,
            // The end of a chunk comes with it, and is nothing to wait for the next one with.
            Left::Chunked(decoder) => decoder.has_more_than_framing(here),
            Left::Exactly(_) | Left::UntilClose => !here.is_empty(),
        }
    }

    fn whole(&self) -> Option<&[u8]> {
        match self.left {
            Left::Nothing if !self.begun => Some(&[]),
            Left::Exactly(length) if !self.begun => {
                self.buffer.filled().get(..usize::try_from(length).ok()?)
            }
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
        while (self.buffer.filled().len() as u64) < length {
            if self.fill().await? == 0 {
                return Err(BodyError::Cut);
            }
        }
        Ok(())
    }

    fn discard_whole(&mut self) {
        if let (Left::Exactly(length), false) = (&self.left, self.begun) {
            let length = *length;
            self.consume(usize::try_from(length).unwrap_or(usize::MAX));
            self.left = Left::Nothing;
        }
    }

    fn has_left(&self) -> bool {
        // Whoever has sent more is waiting for more than this response.
        if !self.buffer.is_empty() {
            return false;
        }
        self.half.stream().has_ended()
    }

    async fn next(&mut self) -> Result<Option<Piece<'_>>, BodyError> {
        self.buffer.consume(std::mem::take(&mut self.lent));
        self.begun = true;
        loop {
            if let Some(len) = self.next_in_buffer()? {
                self.lent = len;
                self.bytes += len as u64;
                self.data_left =
                    self.data_left.checked_sub(len as u64).ok_or(BodyError::TooLarge)?;
                return Ok(Some(Piece::Bytes(&self.buffer.filled()[..len])));
            }
            match self.left {
                Left::Nothing => return Ok(None),
                Left::Trailers => {
                    self.left = Left::Nothing;
                    return Ok(Some(Piece::Trailers(&self.trailers)));
                }
                Left::Exactly(len) if len >= SPLICE_FROM => {
                    if let Some(from) = self.half.stream().plain() {
                        self.left = Left::Nothing;
                        self.bytes += len;
                        return Ok(Some(Piece::Splice { from, len, patience: &self.patience }));
                    }
                }
                Left::Exactly(_) | Left::Chunked(_) | Left::UntilClose => {}
            }
            if self.fill().await? == 0 {
                if !matches!(self.left, Left::UntilClose) {
                    return Err(BodyError::Cut);
                }
                self.left = Left::Nothing;
            }
        }
    }
}

/// The body of a message, being written.
#[derive(Debug)]
pub struct H1Sink<'a, 's> {
    half: &'a mut Outgoing<'s>,
    /// The head, and what was gathered behind it.
    out: &'a mut Vec<u8>,
    body: BodyLength,
    patience: Patience<'a>,
    pipes: &'a Rc<Pipes>,
    counter: Option<Odometer<'a>>,
    /// The socket has taken a byte.
    begun: bool,
}

impl<'a, 's> H1Sink<'a, 's> {
    /// A body framed as `body`, behind the head that stands in `out`.
    pub fn new(
        half: &'a mut Outgoing<'s>,
        out: &'a mut Vec<u8>,
        body: BodyLength,
        patience: Patience<'a>,
        pipes: &'a Rc<Pipes>,
    ) -> Self {
        Self { half, out, body, patience, pipes, counter: None, begun: false }
    }

    /// Adds every byte that is written, head and framing included, to `counter`.
    pub fn counted(mut self, counter: Odometer<'a>) -> Self {
        self.counter = Some(counter);
        self
    }

    /// Whether the socket has taken a byte of the message.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    fn count(&mut self, bytes: usize) {
        self.begun = true;
        self.patience.moved(bytes);
        if let Some(counter) = self.counter {
            counter.add(bytes as u64);
        }
    }

    /// Sends what was gathered, and `data` behind it.
    async fn send(&mut self, mut data: &[u8]) -> Result<(), BodyError> {
        let mut sent = 0;
        while sent < self.out.len() || !data.is_empty() {
            let gathered = &self.out[sent..];
            let half = &mut *self.half;
            let write = poll_fn(|cx| {
                let half = Pin::new(&mut *half);
                if gathered.is_empty() {
                    half.poll_write(cx, data)
                } else if data.is_empty() {
                    half.poll_write(cx, gathered)
                } else {
                    half.poll_write_vectored(cx, &[IoSlice::new(gathered), IoSlice::new(data)])
                }
            });
            let n = self.patience.wait(write).await??;
            if n == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            let of_gathered = n.min(gathered.len());
            self.count(n);
            sent += of_gathered;
            data = &data[n - of_gathered..];
        }
        self.out.clear();
        Ok(())
    }

    /// Moves the next `len` bytes of `from` here, through user space.
    async fn copy(
        &mut self,
        from: &TcpStream,
        mut len: u64,
        patience: &Patience<'_>,
    ) -> Result<(), PumpError> {
        while len > 0 {
            let ready =
                patience.wait(from.readable()).await.map_err(|e| PumpError::Source(e.into()))?;
            ready.map_err(source_broke)?;
            let most = self.half.stream().batch().min(usize::try_from(len).unwrap_or(usize::MAX));
            // Whoever takes much at a time takes it soon.
            let mut piece = match most {
                ..=BUFFER_BYTES => Records::exactly(most),
                _ => Records::default(),
            };
            match from.try_read(&mut piece.room(most)[..most]) {
                Ok(0) => return Err(PumpError::Source(BodyError::Cut)),
                Ok(n) => {
                    len -= n as u64;
                    patience.moved(n);
                    piece.fill(n);
                    self.send(piece.filled()).await.map_err(PumpError::Sink)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(source_broke(error)),
            }
        }
        Ok(())
    }

    /// Takes `len` bytes off what the head announced.
    fn spend(&mut self, len: u64) -> Result<(), PumpError> {
        if let BodyLength::Exactly(left) = &mut self.body {
            *left = left.checked_sub(len).ok_or(PumpError::Source(BodyError::Surplus))?;
        }
        Ok(())
    }

    /// Moves the next `len` bytes of `from` here, through a pipe.
    async fn splice(
        &mut self,
        from: &TcpStream,
        mut len: u64,
        patience: &Patience<'_>,
    ) -> Result<(), PumpError> {
        self.flush().await.map_err(PumpError::Sink)?;
        let Some(to) = self.half.stream().plain() else {
            return Box::pin(self.copy(from, len, patience)).await;
        };
        let mut draught = Draught::default();
        while len > 0 {
            // A pipe is held only while bytes are on their way through it: whoever waits for a slow
            // source has none, and whoever waits for a slow sink one that was filled once.
            let ready =
                patience.wait(from.readable()).await.map_err(|e| PumpError::Source(e.into()))?;
            ready.map_err(source_broke)?;
            // None to be had: it is copied.
            let Ok(mut pipe) = self.pipes.borrow() else {
                return Box::pin(self.copy(from, len, patience)).await;
            };
            match pipe.fill(from, draught.most().min(usize::try_from(len).unwrap_or(usize::MAX))) {
                Ok(0) => return Err(PumpError::Source(BodyError::Cut)),
                Ok(n) => {
                    len -= n as u64;
                    patience.moved(n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(source_broke(error)),
            }
            let mut first = true;
            while pipe.held() > 0 {
                let passed = pipe.empty(to);
                if std::mem::take(&mut first) {
                    draught.passed(*passed.as_ref().unwrap_or(&0), pipe.held());
                }
                match passed {
                    Ok(n) => self.count(n),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        let writable = to.writable();
                        let ready = self.patience.wait(writable).await;
                        ready.map_err(|e| PumpError::Sink(e.into()))?.map_err(sink_broke)?;
                    }
                    Err(error) => return Err(sink_broke(error)),
                }
            }
        }
        Ok(())
    }
}

fn source_broke(error: io::Error) -> PumpError {
    PumpError::Source(error.into())
}

fn sink_broke(error: io::Error) -> PumpError {
    PumpError::Sink(error.into())
}

impl BodySink for H1Sink<'_, '_> {
    async fn write(&mut self, piece: Piece<'_>) -> Result<(), PumpError> {
        match piece {
            Piece::Bytes(data) => {
                let chunked = self.body == BodyLength::Chunked;
                self.spend(data.len() as u64)?;
                if chunked {
                    write_chunk_line(data.len(), self.out);
                }
                if data.len() <= GATHER_UP_TO && self.out.len() <= 4 * GATHER_UP_TO {
                    self.out.extend_from_slice(data);
                } else {
                    self.send(data).await.map_err(PumpError::Sink)?;
                }
                if chunked {
                    self.out.extend_from_slice(b"\r\n");
                }
            }
            Piece::Splice { from, len, patience } => {
                self.spend(len)?;
                Box::pin(self.splice(from, len, patience)).await?;
            }
            Piece::Trailers(lines) => {
                if self.body == BodyLength::Chunked {
                    self.out.extend_from_slice(LAST);
                    self.out.extend_from_slice(lines);
                    self.out.extend_from_slice(b"\r\n");
                    self.body = BodyLength::None;
                }
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), BodyError> {
        self.send(&[]).await
    }

    async fn finish(&mut self) -> Result<(), PumpError> {
        match self.body {
            BodyLength::Chunked => {
                self.out.extend_from_slice(LAST);
                self.out.extend_from_slice(b"\r\n");
            }
            BodyLength::Exactly(left) if left > 0 => {
                return Err(PumpError::Source(BodyError::Cut));
            }
            _ => {}
        }
        self.flush().await.map_err(PumpError::Sink)
    }
}
