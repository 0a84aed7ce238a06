//! Sockets: binding, splicing, and the HTTP client for everything off the hot path.

pub mod bind;
pub mod http;
pub mod splice;
pub mod unix;
