//! Sockets: binding, connecting, what is said first on a connection that a proxy makes, splicing,
//! TLS, and the HTTP client for everything off the hot path.

pub mod bind;
pub mod dial;
pub mod half;
pub mod http;
pub mod options;
pub mod proxy_protocol;
pub mod splice;
pub mod stream;
pub mod tls;
pub mod unix;
