//! Forwarding: from an accepted connection to the last byte of its last response.
//!
//! [`http1`] and [`http2`] read requests off a client's connection, [`exchange`] takes each to an
//! instance and its response back (routing, waiting, retrying), [`upstream_http1`] or
//! [`upstream_http2`] speaks with the instance ([`attempt`] is what both share), and [`tcp`] takes a
//! whole connection there, by [`relay`], which moves bytes that nobody reads. Bodies move as [`body`]
//! pieces. [`respond`] is the one place that turns a failure into a status, and [`mod@tell`] the one that
//! writes the access log.

pub mod attempt;
pub mod body;
pub mod body_http1;
pub mod body_http2;
pub mod connection;
pub mod exchange;
pub mod http1;
pub mod http2;
pub mod relay;
pub mod respond;
pub mod tcp;
pub mod tell;
pub mod tunnel_http2;
pub mod upstream_http1;
pub mod upstream_http2;
