//! One end of a TLS connection, without a socket: bytes in, bytes out.
//!
//! It drives rustls' unbuffered interface, so that the memory for records is ours: records are decrypted
//! where they were received, as many as there is room for with the reader, and encrypted behind each
//! other to be sent with one call. What a reader has no room for is the rest of one record.

use std::io::IoSlice;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, HandshakeKind, ProtocolVersion, ServerConfig};

use crate::net::tls::records::{RECORD_MAX, RECORDS_BYTES, Records};

/// Plaintext in a record (RFC 8446 §5.1).
const RECORD_PLAIN: usize = 16 * 1024;

/// Plaintext in each of the first records of an answer: a client can use one as soon as it has all of
/// it, and the first that arrive are few packets.
const FIRST_PLAIN: usize = 4 * 1024 - 64;

/// So much of an answer goes out in small records.
const FIRST_UP_TO: usize = 16 * 1024;

/// Encrypted at a time at most, as long as the socket takes that much with one call; and at least.
const BATCH_MAX: usize = 64 * 1024;
const BATCH_MIN: usize = 16 * 1024;

/// What may be received of a message that is not complete: rustls allows handshake messages 64 KiB.
const INCOMING_MAX: usize = 2 * RECORDS_BYTES;

/// How the peer's side has ended.
#[derive(Clone, PartialEq, Debug)]
pub enum Ended {
    /// By its word (`close_notify`).
    Closed,
    /// Without it: what it has sent may not be all that it meant to send.
    Truncated,
    /// One of us has broken the protocol, or refused the other.
    Broken(Error),
}

/// An end of a connection.
pub struct Session {
    side: Side,
    /// Received, and not yet decrypted.
    incoming: Records,
    /// Decrypted, and not yet read.
    held: Records,
    /// Encrypted, and not yet sent.
    outgoing: Records,
    ended: Option<Ended>,
    /// A record of data waits in rustls.
    has_record: bool,
    /// Our own word that nothing more comes is given.
    closing: bool,
    /// Plaintext written since something was read last: an answer, mostly.
    answered: usize,
    batch: usize,
}

/// Which end.
enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What is to be done once what was received is dealt with.
enum Job<'a> {
    /// Nothing.
    Look,
    /// Data is to be put here.
    Read(&'a mut [u8]),
    /// This is to be encrypted.
    Write(&'a [IoSlice<'a>]),
    /// The end is to be told.
    Close,
}

/// What came of one step.
enum Step {
    /// There may be more to do.
    Again,
    /// A record of data is there.
    Record,
    /// So much data was put where it was to go.
    Read(usize),
    /// So much data was encrypted, or the end is told.
    Written(usize),
    /// Nothing goes on without more from the peer.
    Waits,
    /// The peer has said that nothing more comes.
    Closed,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Session {
    /// The server's end.
    ///
    /// # Errors
    /// If the config cannot serve.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self::new(Side::Server(UnbufferedServerConnection::new(config)?)))
    }

    /// The client's end of a connection to `name`.
    ///
    /// # Errors
    /// If the config cannot ask for that name.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        Ok(Self::new(Side::Client(UnbufferedClientConnection::new(config, name)?)))
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            incoming: Records::default(),
            held: Records::default(),
            outgoing: Records::default(),
            ended: None,
            has_record: false,
            closing: false,
            answered: 0,
            batch: BATCH_MIN,
        }
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Server(connection) => connection,
            Side::Client(connection) => connection,
        }
    }

    /// Whether data cannot be both sent and received yet.
    pub fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// Whether the last words of our handshake may wait for the first data: the peer goes on without
    /// (RFC 8446 §2). In TLS 1.2 it does not.
    pub fn may_hold_back(&self) -> bool {
        self.common().protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// The protocol that was agreed on, if both sides named any.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.common().alpn_protocol()
    }

    /// What the peer has shown of itself: its own certificate first.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.common().peer_certificates()
    }

    /// The version that was agreed on.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.common().protocol_version()
    }

    /// Whether the handshake went on from an earlier connection's.
    pub fn is_resumed(&self) -> bool {
        self.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// How the peer's side has ended, if it has. There may still be data to be read.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// Whether there is data to be read, as far as was looked.
    pub fn has_data(&self) -> bool {
        self.has_record || !self.held.is_empty()
    }

    /// What is received and makes no whole record yet.
    pub fn incoming(&self) -> &[u8] {
        self.incoming.filled()
    }

    /// Room for what is received next; `None` if that is too much already.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        (self.incoming.len() < INCOMING_MAX).then(|| self.incoming.room(RECORD_MAX))
    }

    /// So many bytes were received; none is the end of the connection.
    pub fn received(&mut self, bytes: usize) {
        self.incoming.fill(bytes);
        if bytes == 0 && self.ended.is_none() {
            self.ended = Some(Ended::Truncated);
        }
    }

    /// Gives back what memory it can before a wait for the peer.
    pub fn rest(&mut self) {
        let is_handshaking = self.is_handshaking();
        self.incoming.shrink(is_handshaking);
        self.held.shrink(false);
        self.outgoing.shrink(false);
    }

    /// What is to be sent.
    pub fn outgoing(&self) -> &[u8] {
        self.outgoing.filled()
    }

    /// So many bytes of it were sent. `gladly` if the socket would have taken more.
    pub fn sent(&mut self, bytes: usize, gladly: bool) {
        self.outgoing.consume(bytes);
        if self.outgoing.is_empty() {
            self.outgoing.shrink(true);
        }
        self.batch = if gladly { (2 * self.batch).min(BATCH_MAX) } else { BATCH_MIN };
    }

    /// Goes through what was received; whether data, or an end, is there to be read.
    pub fn look(&mut self) -> bool {
        loop {
            if self.has_data() || self.ended.is_some() {
                return true;
            }
            match self.step(Job::Look) {
                Step::Waits => return false,
                Step::Record => self.has_record = true,
                Step::Again | Step::Closed | Step::Read(_) | Step::Written(_) => {}
            }
        }
    }

    /// Reads what was received into `space`, decrypting no more than that; 0 if there is nothing.
    pub fn read(&mut self, space: &mut [u8]) -> usize {
        let mut filled = self.held.len().min(space.len());
        space[..filled].copy_from_slice(&self.held.filled()[..filled]);
        self.held.consume(filled);
        while filled < space.len() && self.ended.is_none() {
            match self.step(Job::Read(&mut space[filled..])) {
                Step::Read(bytes) => filled += bytes,
                Step::Waits => break,
                Step::Again | Step::Closed | Step::Record | Step::Written(_) => {}
            }
        }
        if filled > 0 {
            self.answered = 0;
        }
        if self.incoming.is_empty() {
            self.incoming.shrink(true);
        }
        filled
    }

    /// Encrypts the first bytes of `pieces`, as many as are sent at a time, behind what is to be sent;
    /// how many these were.
    ///
    /// # Errors
    /// If nothing can be encrypted, now or ever.
    pub fn write(&mut self, pieces: &[IoSlice<'_>]) -> Result<usize, Error> {
        self.put(|| Job::Write(pieces))
    }

    /// Tells the peer that nothing more comes, if a handshake has come so far that it can be told.
    pub fn close(&mut self) {
        if !self.closing && !self.is_handshaking() {
            self.closing = true;
            // Whoever has broken the protocol has been told that already.
            let _ = self.put(|| Job::Close);
        }
    }

    /// Deals with what was received until something can be encrypted.
    fn put<'a>(&mut self, job: impl Fn() -> Job<'a>) -> Result<usize, Error> {
        loop {
            if let Some(Ended::Broken(error)) = &self.ended {
                return Err(error.clone());
            }
            match self.step(job()) {
                Step::Written(bytes) => {
                    self.answered = self.answered.saturating_add(bytes);
                    return Ok(bytes);
                }
                Step::Waits => return Err(Error::HandshakeNotComplete),
                Step::Again | Step::Closed | Step::Record | Step::Read(_) => {}
            }
        }
    }

    fn step(&mut self, job: Job<'_>) -> Step {
        let Self { side, incoming, held, outgoing, answered, batch, .. } = self;
        let fresh = FIRST_UP_TO.saturating_sub(*answered);
        let mut to = Put { held, outgoing, fresh, batch: *batch };
        let (discard, stepped) = match side {
            Side::Server(connection) => {
                to.step(connection.process_tls_records(incoming.filled_mut()), job)
            }
            Side::Client(connection) => {
                to.step(connection.process_tls_records(incoming.filled_mut()), job)
            }
        };
        self.incoming.consume(discard);
        match stepped {
            Ok(step) => {
                match step {
                    Step::Closed => self.ended = Some(Ended::Closed),
                    Step::Record => {}
                    _ => self.has_record = false,
                }
                step
            }
            Err(error) => {
                self.ended = Some(Ended::Broken(error));
                // What the peer is told of it; nothing else is asked of a session that is broken.
                while self.common().wants_write() {
                    self.step(Job::Look);
                }
                Step::Closed
            }
        }
    }
}

/// Where the results of a step go.
struct Put<'a> {
    held: &'a mut Records,
    outgoing: &'a mut Records,
    /// So much more goes out in small records.
    fresh: usize,
    batch: usize,
}

impl Put<'_> {
    /// Does what the state asks for, or the job; how much of the incoming is used up.
    fn step<Data>(
        &mut self,
        status: UnbufferedStatus<'_, '_, Data>,
        job: Job<'_>,
    ) -> (usize, Result<Step, Error>) {
        let mut discard = status.discard;
        let stepped = status.state.and_then(|state| match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                let mut nowhere: [u8; 0] = [];
                let space = match job {
                    Job::Look => return Ok(Step::Record),
                    Job::Read(space) => space,
                    // Nothing is encrypted before what was received is dealt with.
                    Job::Write(_) | Job::Close => &mut nowhere,
                };
                let mut filled = 0;
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    let (fits, rest) =
                        record.payload.split_at(record.payload.len().min(space.len() - filled));
                    space[filled..filled + fits.len()].copy_from_slice(fits);
                    filled += fits.len();
                    if !rest.is_empty() {
                        self.held.extend(rest);
                    }
                }
                Ok(Step::Read(filled))
            }
            ConnectionState::EncodeTlsData(mut encoding) => loop {
                match encoding.encode(self.outgoing.room(0)) {
                    Ok(bytes) => {
                        self.outgoing.fill(bytes);
                        return Ok(Step::Again);
                    }
                    Err(EncodeError::InsufficientSize(error)) => {
                        self.outgoing.room(error.required_size);
                    }
                    Err(EncodeError::AlreadyEncoded) => return Ok(Step::Again),
                }
            },
            ConnectionState::TransmitTlsData(transmit) => {
                // It is ours to send now.
                transmit.done();
                Ok(Step::Again)
            }
            ConnectionState::WriteTraffic(mut traffic) => match job {
                Job::Write(pieces) => self.encrypt(&mut traffic, pieces).map(Step::Written),
                Job::Close => {
                    let room = self.outgoing.room(RECORD_MAX);
                    let bytes = traffic.queue_close_notify(room).map_err(unencrypted)?;
                    self.outgoing.fill(bytes);
                    Ok(Step::Written(0))
                }
                Job::Look | Job::Read(_) => Ok(Step::Waits),
            },
            ConnectionState::BlockedHandshake => Ok(Step::Waits),
            ConnectionState::PeerClosed => Ok(Step::Closed),
            ConnectionState::Closed => match job {
                Job::Write(_) => Err(Error::General("written to after its end".into())),
                _ => Ok(Step::Waits),
            },
            // No config of ours allows early data.
            _ => Err(Error::General("an unknown state".into())),
        });
        (discard, stepped)
    }

    /// Encrypts the first of `pieces`, into a batch of records; how many bytes that were.
    fn encrypt<Data>(
        &mut self,
        traffic: &mut WriteTraffic<'_, Data>,
        pieces: &[IoSlice<'_>],
    ) -> Result<usize, Error> {
        let mut written = 0;
        if pieces.len() > 1 && pieces[0].len() < FIRST_PLAIN {
            // A head shares its record with the beginning of its body.
            let mut first = [0; FIRST_PLAIN];
            for piece in pieces {
                let fits = piece.len().min(FIRST_PLAIN - written);
                first[written..written + fits].copy_from_slice(&piece[..fits]);
                written += fits;
            }
            self.encrypt_record(traffic, &first[..written])?;
        }
        let mut skip = written;
        for piece in pieces {
            let mut rest = &piece[skip.min(piece.len())..];
            skip -= piece.len() - rest.len();
            while !rest.is_empty() && written < self.batch {
                let most = if written < self.fresh { FIRST_PLAIN } else { RECORD_PLAIN };
                let record = &rest[..rest.len().min(most).min(self.batch - written)];
                self.encrypt_record(traffic, record)?;
                written += record.len();
                rest = &rest[record.len()..];
            }
        }
        Ok(written)
    }

    fn encrypt_record<Data>(
        &mut self,
        traffic: &mut WriteTraffic<'_, Data>,
        plain: &[u8],
    ) -> Result<(), Error> {
        let encrypted = match traffic.encrypt(plain, self.outgoing.room(0)) {
            Err(EncryptError::InsufficientSize(error)) => {
                traffic.encrypt(plain, self.outgoing.room(error.required_size))
            }
            done => done,
        };
        self.outgoing.fill(encrypted.map_err(unencrypted)?);
        Ok(())
    }
}

fn unencrypted(error: EncryptError) -> Error {
    Error::General(error.to_string())
}

#[cfg(test)]
mod tests;
