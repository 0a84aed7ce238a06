//! Sockets: binding, splicing, and the HTTP client for everything off the hot path.

pub mod bind;
pub mod splice;
