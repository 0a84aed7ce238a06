//! The cli room.

pub mod whoami;
