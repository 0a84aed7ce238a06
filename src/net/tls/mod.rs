//! TLS: the only room that knows `rustls`.
//!
//! [`ServerTls`] is what a listener shows its clients, [`ClientTls`] how a pool's instances are spoken
//! to. Both are made from files by a `load` that finds all faults, and never change: whoever reads the
//! files again makes new ones, and connections that stand keep the old. The control plane loads them;
//! workers only take the ready settings out. [`TlsStream`] is a connection: [`session`] is the machine
//! in it that knows no socket, [`records`] the memory that its records pass through, and [`client_hello`]
//! reads a client's first message without it.
//!
//! Invariants:
//! - A session is only resumed by a listener that asks of clients what the one asked that began it: a
//!   resumed session shows no certificate anew ([`ServerTls::load`]).
//! - Nothing is kept of a session here: what resumes is in tickets, sealed by keys that change by
//!   themselves and that all workers share.
//! - Secrets of sessions are never logged.

mod choice;
mod client;
pub mod client_hello;
mod files;
mod identity;
mod outcome;
pub mod records;
mod server;
pub mod session;
pub mod stream;
mod subject;

#[cfg(test)]
mod ends;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub use client::ClientTls;
pub use files::TlsFault;
pub use identity::identity;
pub use outcome::outcome;
pub use server::{Certificate, ServerTls};
pub use stream::{HandshakeError, TlsStream};

use std::sync::{Arc, OnceLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};

use crate::model::{TlsVersion, UpstreamVersion};

/// HTTP/1.1 in ALPN (RFC 7301).
pub const HTTP1: &[u8] = b"http/1.1";
/// HTTP/2 in ALPN.
pub const HTTP2: &[u8] = b"h2";

/// What https listeners offer, the first first.
const OFFERED: [&[u8]; 1] = [HTTP1];

/// What instances are asked for.
fn asked(version: UpstreamVersion) -> Vec<Vec<u8>> {
    match version {
        UpstreamVersion::Http1 => vec![HTTP1.to_vec()],
        UpstreamVersion::H2 => vec![HTTP2.to_vec()],
    }
}

/// The cryptography: suites with forward secrecy and AEAD only.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// The versions from this one on.
fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static ALL: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match least {
        TlsVersion::Tls12 => &ALL,
        TlsVersion::Tls13 => &ALL[..1],
    }
}
