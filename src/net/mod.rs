//! Sockets: binding, connecting, splicing, and the HTTP client for everything off the hot path.

pub mod bind;
pub mod dial;
pub mod half;
pub mod http;
pub mod options;
pub mod splice;
pub mod unix;
