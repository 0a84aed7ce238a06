//! The net room.

pub mod http;
