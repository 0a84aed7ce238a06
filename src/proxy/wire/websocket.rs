//! The two fields by which both sides of a WebSocket know that the other means it (RFC 6455 §4).
//!
//! Over HTTP/2 there are none (RFC 8441 §5): where a client's stream meets an instance's connection, the
//! handshake that the instance sees is ours.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::base::Entropy;

/// What every server puts behind a key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key: 16 random bytes, encoded. It proves nothing but that the server has read it, so it need not be
/// hard to guess.
pub fn key(entropy: &mut Entropy) -> [u8; 24] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&entropy.next_u64().to_be_bytes());
    bytes[8..].copy_from_slice(&entropy.next_u64().to_be_bytes());
    encoded(&bytes)
}

/// What a server that has read this key answers.
pub fn accept(key: &[u8]) -> [u8; 28] {
    encoded(&Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

fn encoded<const LEN: usize>(bytes: &[u8]) -> [u8; LEN] {
    let mut text = [0; LEN];
    let written = STANDARD.encode_slice(bytes, &mut text);
    debug_assert_eq!(written, Ok(LEN), "it fits exactly");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), *b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys_differ_and_decode_to_sixteen_bytes() {
        let mut entropy = Entropy::seeded(7);
        let (one, other) = (key(&mut entropy), key(&mut entropy));
        assert_ne!(one, other);
        assert_eq!(STANDARD.decode(one).expect("base64").len(), 16);
    }
}
