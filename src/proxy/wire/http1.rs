//! HTTP/1.1 heads (RFC 9112): read strictly, written fresh.

mod framing;
mod read;
mod target;
mod write;

pub use framing::Framing;
pub use read::{FIELDS_MAX, HeadError, HeadLimits, is_target, parse_request, parse_response};
pub use target::check_authority;
pub use write::{
    Onward, write_authority, write_connection, write_edit, write_field, write_number,
    write_request, write_request_fields, write_response, write_response_fields,
};

#[cfg(test)]
mod tests;
