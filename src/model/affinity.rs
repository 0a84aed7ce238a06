//! Which requests belong together and go to the same instance.

use std::time::Duration;

use crate::base::Share;

/// By what the hashing algorithms tell requests apart. A request that lacks it goes by its client's
/// address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HashKey {
    /// The client's address, without its port.
    ClientAddress,
    /// The value of the first field of this name (in lower case).
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// The path, without its query.
    Path,
    /// The name that the client asks for in its TLS handshake (SNI).
    Sni,
}

/// A cookie that ties a client to the instance that served it first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sticky {
    /// Its name.
    pub cookie: String,
    /// How long clients keep it from when it was given; `None` is until they are closed.
    pub ttl: Option<Duration>,
}

/// Which requests of a pool belong together.
#[derive(Clone, PartialEq, Debug)]
pub struct Affinity {
    /// By what the hashing algorithms tell requests apart.
    pub hash: HashKey,
    /// An instance of a ring takes at most this share of the mean load, above 1; what hashes to it
    /// beyond that goes to the next.
    pub max_load: Share,
    /// The cookie of sticky sessions.
    pub sticky: Option<Sticky>,
}

impl Default for Affinity {
    fn default() -> Self {
        Self { hash: HashKey::ClientAddress, max_load: Share(1.5), sticky: None }
    }
}
