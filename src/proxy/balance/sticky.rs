//! Sticky sessions: a cookie that names an instance, and that only we can make.
//!
//! What it says is a MAC of the names of pool and instance under a key of this installation, so it
//! tells nobody an address, cannot be made up, and is the same for all clients of an instance. All that
//! there can be are known beforehand: a request costs a look-up, and no cryptography.

use std::io::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::base::{InstanceId, PoolId};
use crate::model::Sticky;
use crate::proxy::wire::head::Span;
use crate::proxy::wire::{Field, Known, ResponseHead};

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// What a value begins with; another way of making them would have another.
const VERSION: u8 = b'1';

/// Bytes of a token that are sent: enough that nobody finds one by trying.
const TOKEN_LEN: usize = 16;

/// Characters of a token: base64 without padding.
const TOKEN_CHARS: usize = 22;

/// The keys that cookies are made with: the first makes them, and the others are still known.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys(Vec<[u8; KEY_LEN]>);

/// What a cookie says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Token([u8; TOKEN_LEN]);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// These keys, the newest first.
    pub fn new(keys: Vec<[u8; KEY_LEN]>) -> Self {
        Self(keys)
    }

    /// What cookies may say of an instance, one for each key.
    pub(super) fn tokens(&self, pool: &PoolId, instance: &InstanceId) -> Arc<[Token]> {
        let token = |key: &[u8; KEY_LEN]| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length will do");
            mac.update(b"tidegate sticky 1\0");
            mac.update(pool.as_str().as_bytes());
            mac.update(b"\0");
            mac.update(instance.as_str().as_bytes());
            let mut token = Token::default();
            token.0.copy_from_slice(&mac.finalize().into_bytes()[..TOKEN_LEN]);
            token
        };
        self.0.iter().map(token).collect()
    }
}

impl Token {
    /// Reads the value of a cookie.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (version, text) = value.split_first()?;
        if *version != VERSION || text.len() != TOKEN_CHARS {
            return None;
        }
        let mut token = Self::default();
        let read = URL_SAFE_NO_PAD.decode_slice(text, &mut token.0).ok()?;
        (read == TOKEN_LEN).then_some(token)
    }

    /// Writes the value of a cookie.
    fn write(self, out: &mut Vec<u8>) {
        let mut text = [0; TOKEN_CHARS];
        // It is exactly as long as that.
        let _ = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text);
        out.push(VERSION);
        out.extend_from_slice(&text);
    }
}

/// Adds the cookie to a response that binds its client. `secure`: it came by TLS.
pub fn bind(response: &mut ResponseHead, sticky: &Sticky, token: Token, secure: bool) {
    const NAME: &[u8] = b"set-cookie";
    let fields = &mut response.fields;
    let bytes = &mut fields.bytes;
    let name = Span { start: bytes.len() as u32, len: NAME.len() as u32 };
    bytes.extend_from_slice(NAME);
    bytes.extend_from_slice(b": ");
    let start = bytes.len();
    bytes.extend_from_slice(sticky.cookie.as_bytes());
    bytes.push(b'=');
    token.write(bytes);
    bytes.extend_from_slice(b"; Path=/; HttpOnly; SameSite=Lax");
    if let Some(ttl) = sticky.ttl {
        // Writing to memory cannot fail.
        let _ = write!(bytes, "; Max-Age={}", ttl.as_secs());
    }
    if secure {
        bytes.extend_from_slice(b"; Secure");
    }
    let value = Span { start: start as u32, len: (bytes.len() - start) as u32 };
    bytes.extend_from_slice(b"\r\n");
    fields.lines.push(Field { name, value, known: Known::Other, nominated: false });
}
