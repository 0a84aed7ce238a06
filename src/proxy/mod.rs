//! The data plane.
pub mod balance;
pub mod budget;
pub mod buffer;
pub mod hold;
pub mod route;
pub mod timer;
pub mod wire;
