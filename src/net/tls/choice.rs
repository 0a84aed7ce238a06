//! Which certificate a client is shown: one for the name that it asks for, and of a kind that it can
//! verify.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates of a listener, by name.
#[derive(Debug)]
pub(super) struct Choice<K> {
    /// By whole name, in lower case.
    exact: HashMap<String, Vec<K>>,
    /// `*.NAME`, by NAME: one label more, and no other number (RFC 6125 §6.4.3).
    wild: HashMap<String, Vec<K>>,
    /// The first certificate, and the others that are for one of its names.
    default: Vec<K>,
}

impl<K: Clone> Choice<K> {
    /// Of these certificates with their names in lower case; the first is the default.
    pub(super) fn new(certificates: &[(K, Vec<String>)]) -> Self {
        let (mut exact, mut wild) = (HashMap::new(), HashMap::new());
        for (certificate, names) in certificates {
            for name in names {
                let (map, name): (&mut HashMap<String, Vec<K>>, _) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut wild, rest),
                    None => (&mut exact, name.as_str()),
                };
                map.entry(name.to_owned()).or_default().push(certificate.clone());
            }
        }
        let first = certificates.first().map_or(&[][..], |(_, names)| names);
        let is_default = |index: usize, names: &[String]| {
            index == 0 || names.iter().any(|name| first.contains(name))
        };
        let default = certificates.iter().enumerate();
        let default = default.filter(|(index, (_, names))| is_default(*index, names));
        Self { exact, wild, default: default.map(|(_, (key, _))| key.clone()).collect() }
    }

    /// Those that fit the name that a client asks for: never none.
    pub(super) fn for_name(&self, name: Option<&str>) -> &[K] {
        let Some(name) = name else { return &self.default };
        let lower;
        let mut name = name.strip_suffix('.').unwrap_or(name);
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            name = &lower;
        }
        let wild = || name.split_once('.').and_then(|(_, parent)| self.wild.get(parent));
        self.exact.get(name).or_else(wild).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Choice<Arc<CertifiedKey>> {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fitting = self.for_name(hello.server_name());
        // Schemes that no suite of the client goes with have been taken out already.
        let schemes = hello.signature_schemes();
        let verifiable = fitting.iter().find(|one| one.key.choose_scheme(schemes).is_some());
        // With none the handshake fails for lack of a scheme, and says so.
        verifiable.or(fitting.first()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_then_wildcard_then_the_first() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let choice = Choice::new(&[
            ("first", names(&["example.com", "www.example.com"])),
            ("wild", names(&["*.example.com"])),
            ("deep", names(&["*.a.example.com", "other.org"])),
            ("rsa", names(&["example.com"])),
            ("address", names(&[])),
        ]);
        for (asked, expected) in [
            (None, &["first", "rsa"][..]),
            (Some("example.com"), &["first", "rsa"]),
            (Some("EXAMPLE.com"), &["first", "rsa"]),
            (Some("example.com."), &["first", "rsa"]),
            (Some("www.example.com"), &["first"]),
            (Some("api.example.com"), &["wild"]),
            (Some("API.example.com"), &["wild"]),
            (Some("a.example.com"), &["wild"]),
            (Some("b.a.example.com"), &["deep"]),
            (Some("c.b.a.example.com"), &["first", "rsa"]),
            (Some("other.org"), &["deep"]),
            (Some("x.other.org"), &["first", "rsa"]),
            (Some(".example.com"), &["wild"]),
            (Some("nobody.net"), &["first", "rsa"]),
            (Some("com"), &["first", "rsa"]),
            (Some(""), &["first", "rsa"]),
        ] {
            assert_eq!(choice.for_name(asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn one_certificate_is_for_all() {
        let choice = Choice::new(&[(7, Vec::new())]);
        assert_eq!(choice.for_name(None), [7]);
        assert_eq!(choice.for_name(Some("a.b")), [7]);
    }
}
