//! Codecs: bytes in, heads and body lengths out. Pure: no sockets, no clock.
//!
//! [`head`] is the seam between codecs and forwarding. Whatever routes, limits, retries or logs sees a
//! [`RequestHead`], a [`ResponseHead`] and a body of pieces
//! ([`Piece`](crate::proxy::forward::body::Piece)), and cannot tell which version of HTTP they came in.
//!
//! Strictness is decided here and nowhere else: what is ambiguous is an error, and framing fields
//! are rebuilt from what was understood, never copied.

pub mod chunked;
pub mod date;
pub mod flood;
pub mod head;
pub mod http1;
pub mod http2;
mod line;
pub mod websocket;

// Others read and write these too, and they know nothing of this room.
pub use crate::net::proxy_protocol;
pub use crate::net::tls::client_hello;
pub use head::{BodyLength, Field, Known, Method, RequestHead, ResponseHead, Version};
