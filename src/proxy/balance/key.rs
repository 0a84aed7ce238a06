//! What requests are told apart by, as 64 bits that are the same on every node.

use std::net::IpAddr;

use xxhash_rust::xxh3::xxh3_64;

use crate::model::HashKey;
use crate::proxy::wire::RequestHead;

/// The hash of a client's address. IPv4 in IPv6 is the same client.
pub fn of_client(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(ip) => xxh3_64(&ip.octets()),
        IpAddr::V6(ip) => xxh3_64(&ip.octets()),
    }
}

/// The hash of what `key` says of a connection that nobody reads requests from: of the name that its
/// client asked for, or of the client.
pub fn of_connection(key: &HashKey, sni: Option<&str>, client: IpAddr) -> u64 {
    match (key, sni) {
        (HashKey::Sni, Some(name)) => xxh3_64(name.as_bytes()),
        _ => of_client(client),
    }
}

/// The hash of what `key` says of a request that came where its client asked for the name `sni`; of its
/// client where the request lacks that.
pub fn of_request(key: &HashKey, head: &RequestHead, sni: Option<&str>, client: IpAddr) -> u64 {
    let value = match key {
        HashKey::ClientAddress => None,
        HashKey::Sni => sni.map(str::as_bytes),
        HashKey::Header(name) => head.fields.value(name),
        HashKey::Cookie(name) => head.cookie(name),
        HashKey::Path => Some(head.path_only()),
    };
    value.map_or_else(|| of_client(client), xxh3_64)
}

/// The `nth` hash of a key after its own, which is that of 0 (splitmix64's finish).
pub(super) fn nth(hash: u64, nth: u64) -> u64 {
    if nth == 0 {
        return hash;
    }
    let mut z = hash.wrapping_add(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
