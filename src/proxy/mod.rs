//! The data plane: from an accepted connection to the last byte of its last response.
//!
//! ```text
//! accept → wire → route → balance → forward → observe
//! ```
//!
//! N workers ([`worker`]), each a thread with a current-thread runtime ([`thread`]) and everything it
//! needs of its own. A connection is accepted ([`accept`]), counted ([`admit`]), and asked who it is for
//! if another proxy may say so ([`guest`]); where it is under TLS, that begins then ([`handshake`]). A request loads one immutable [`snapshot`], finds its pool ([`route`]), takes a slot
//! on an instance ([`balance`], or waits for one in [`hold`]; both behind [`lease`]), is forwarded
//! ([`forward`]) and counted. Nothing here waits for the control plane.
//!
//! Invariants: a request is routed by one snapshot, and picks again, after a wait or a failed try, by
//! the newest; whoever frees a slot hands it to whom waits in the hold queue; no ambiguous message passes [`wire`];
//! only [`forward::respond`] invents statuses.

pub mod accept;
pub mod admit;
pub mod balance;
pub mod budget;
pub mod buffer;
#[cfg(test)]
mod fixture;
pub mod forward;
pub mod guest;
pub mod handshake;
pub mod hold;
pub mod lease;
pub mod patience;
pub mod rewrite;
pub mod route;
pub mod scratch;
pub mod snapshot;
pub mod spread;
pub mod suspicion;
pub mod thread;
pub mod timer;
pub mod upstream;
pub mod wire;
pub mod worker;
