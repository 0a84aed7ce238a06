//! HTTP/1.1 heads (RFC 9112): read strictly, written fresh.

mod framing;
mod read;
mod target;
mod write;

pub use read::{FIELDS_MAX, HeadError, HeadLimits, parse_request, parse_response};
pub use write::{
    Onward, write_connection, write_edit, write_field, write_number, write_request, write_response,
};

#[cfg(test)]
mod tests;
