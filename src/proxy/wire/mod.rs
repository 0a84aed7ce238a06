//! Codecs: bytes in, heads and body lengths out. Pure: no sockets, no clock.
//!
//! [`head`] and [`Piece`] are the seam between codecs and forwarding. Whatever routes, limits,
//! retries or logs sees a [`RequestHead`], a [`ResponseHead`] and a body of pieces, and cannot tell
//! which version of HTTP they came in.
//!
//! Strictness is decided here and nowhere else: what is ambiguous is an error, and framing fields
//! are rebuilt from what was understood, never copied.

pub mod chunked;
pub mod head;
pub mod http1;
pub mod proxy_protocol;

pub use head::{BodyLength, Field, Known, Method, RequestHead, ResponseHead, Version};

use tokio::net::TcpStream;

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
    },
    /// The trailer section, as `name: value CRLF` lines; the last piece if there is one.
    Trailers(&'a [u8]),
}
