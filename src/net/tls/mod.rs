//! TLS: the one room that knows rustls.
//!
//! [`stream`] is a connection under TLS, [`session`] the machine in it that knows no socket, and
//! [`records`] the memory that records pass through.

pub mod records;
pub mod session;
pub mod stream;

pub use stream::TlsStream;

#[cfg(test)]
mod fixture;
