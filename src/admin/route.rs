//! The table of paths: from a request's line to what is asked. Also how a name is written in a
//! path, for clients.

use std::net::IpAddr;

use http::Method;

use crate::base::{InstanceId, PoolId, ZoneId};

/// What a request asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// The metrics as Prometheus text.
    Metrics,
    /// Whether the daemon lives.
    Healthz,
    /// Whether it is ready for traffic.
    Readyz,
    /// All pools and zones.
    Status,
    /// One pool in detail.
    Pool(PoolId),
    /// Where new requests of a pool go, and why.
    Explain {
        /// Of this pool.
        pool: PoolId,
        /// Those of this client, if that is to matter.
        client: Option<IpAddr>,
    },
    /// The newest decisions of a pool's agent.
    Scaling {
        /// Of this pool.
        pool: PoolId,
        /// At most this many.
        limit: usize,
    },
    /// An operator's drain, or its end.
    Drain {
        /// In this pool.
        pool: PoolId,
        /// This instance.
        instance: InstanceId,
        /// False takes the drain back.
        on: bool,
    },
    /// An operator sets the size of a pool, or ends that; the body says which.
    Scale(PoolId),
    /// An operator protects an instance from scale-in, or takes that back.
    Protect {
        /// In this pool.
        pool: PoolId,
        /// This instance.
        instance: InstanceId,
        /// False takes it back.
        on: bool,
    },
    /// An operator moves the traffic of a zone elsewhere; the body says for how long.
    Evacuate(ZoneId),
    /// An operator ends that.
    Restore(ZoneId),
    /// Read the config again.
    Reload,
}

/// Why a request asks for nothing that there is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missed {
    /// No such path.
    Path,
    /// The path exists, for other methods.
    Method {
        /// Those methods, as in the `Allow` field.
        allow: &'static str,
    },
    /// The query is wrong; says what to write.
    Query(String),
}

/// How many decisions are shown unless the query says.
const LIMIT_DEFAULT: usize = 50;
/// The most that are shown.
const LIMIT_MAX: usize = 1_000;

/// What the request asks for.
///
/// # Errors
/// If there is no such thing.
pub fn route(method: &Method, path: &str, query: Option<&str>) -> Result<Action, Missed> {
    let segments = segments(path).ok_or(Missed::Path)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["metrics"] => get(method).map(|()| Action::Metrics),
        ["healthz"] => get(method).map(|()| Action::Healthz),
        ["readyz"] => get(method).map(|()| Action::Readyz),
        ["api", "v1", "status"] => get(method).map(|()| Action::Status),
        ["api", "v1", "reload"] => post(method).map(|()| Action::Reload),
        ["api", "v1", "pools", pool] => get(method).map(|()| Action::Pool(PoolId::new(pool))),
        ["api", "v1", "pools", pool, "explain"] => {
            get(method)?;
            Ok(Action::Explain { pool: PoolId::new(pool), client: client(query)? })
        }
        ["api", "v1", "pools", pool, "scaling"] => match *method {
            Method::GET | Method::HEAD => {
                Ok(Action::Scaling { pool: PoolId::new(pool), limit: limit(query)? })
            }
            Method::POST => Ok(Action::Scale(PoolId::new(pool))),
            _ => Err(Missed::Method { allow: "GET, HEAD, POST" }),
        },
        ["api", "v1", "pools", pool, "instances", id, verb @ ("drain" | "undrain")] => {
            post(method)?;
            Ok(Action::Drain {
                pool: PoolId::new(pool),
                instance: InstanceId::new(id),
                on: *verb == "drain",
            })
        }
        ["api", "v1", "pools", pool, "instances", id, verb @ ("protect" | "unprotect")] => {
            post(method)?;
            Ok(Action::Protect {
                pool: PoolId::new(pool),
                instance: InstanceId::new(id),
                on: *verb == "protect",
            })
        }
        ["api", "v1", "zones", zone, "evacuate"] => {
            post(method).map(|()| Action::Evacuate(ZoneId::new(zone)))
        }
        ["api", "v1", "zones", zone, "restore"] => {
            post(method).map(|()| Action::Restore(ZoneId::new(zone)))
        }
        _ => Err(Missed::Path),
    }
}

fn get(method: &Method) -> Result<(), Missed> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Missed::Method { allow: "GET, HEAD" }),
    }
}

fn post(method: &Method) -> Result<(), Missed> {
    match *method {
        Method::POST => Ok(()),
        _ => Err(Missed::Method { allow: "POST" }),
    }
}

fn client(query: Option<&str>) -> Result<Option<IpAddr>, Missed> {
    let mut client = None;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let value = pair.strip_prefix("client=").and_then(decode);
        client = value.and_then(|value| value.parse().ok());
        if client.is_none() {
            return Err(Missed::Query("the query may be client=IP".to_owned()));
        }
    }
    Ok(client)
}

fn limit(query: Option<&str>) -> Result<usize, Missed> {
    let mut limit = LIMIT_DEFAULT;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let value = pair.strip_prefix("limit=").and_then(|value| value.parse().ok());
        limit = value.filter(|value| (1..=LIMIT_MAX).contains(value)).ok_or_else(|| {
            Missed::Query(format!("the query may be limit=N with N from 1 to {LIMIT_MAX}"))
        })?;
    }
    Ok(limit)
}

/// The names between the slashes; `None` if one of them is not percent-encoded UTF-8.
fn segments(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/')?.split('/').map(decode).collect()
}

fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let [high, low, after @ ..] = after else { return None };
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A name as one segment of a path.
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_where_the_contract_says() {
        let pool = || PoolId::new("web");
        let drain = |id: &str, on| Action::Drain { pool: pool(), instance: id.into(), on };
        for (line, expected) in [
            ("GET /metrics", Action::Metrics),
            ("HEAD /metrics", Action::Metrics),
            ("GET /healthz", Action::Healthz),
            ("GET /readyz", Action::Readyz),
            ("GET /api/v1/status", Action::Status),
            ("GET /api/v1/pools/web", Action::Pool(pool())),
            ("GET /api/v1/pools/w%65b", Action::Pool(pool())),
            ("GET /api/v1/pools/a%2Fb", Action::Pool("a/b".into())),
            ("GET /api/v1/pools/web/scaling", Action::Scaling { pool: pool(), limit: 50 }),
            ("GET /api/v1/pools/web/scaling?", Action::Scaling { pool: pool(), limit: 50 }),
            ("GET /api/v1/pools/web/scaling?limit=1", Action::Scaling { pool: pool(), limit: 1 }),
            (
                "GET /api/v1/pools/web/scaling?limit=1000",
                Action::Scaling { pool: pool(), limit: 1_000 },
            ),
            ("GET /api/v1/pools/web/explain", Action::Explain { pool: pool(), client: None }),
            (
                "GET /api/v1/pools/web/explain?client=2001%3Adb8::1",
                Action::Explain { pool: pool(), client: "2001:db8::1".parse().ok() },
            ),
            ("POST /api/v1/pools/web/instances/i-1/drain", drain("i-1", true)),
            ("POST /api/v1/pools/web/instances/10.0.0.1:80/undrain", drain("10.0.0.1:80", false)),
            ("POST /api/v1/pools/web/instances/%5B%3A%3A1%5D%3A80/drain", drain("[::1]:80", true)),
            ("POST /api/v1/pools/web/scaling", Action::Scale(pool())),
            (
                "POST /api/v1/pools/web/instances/i-1/protect",
                Action::Protect { pool: pool(), instance: "i-1".into(), on: true },
            ),
            (
                "POST /api/v1/pools/web/instances/i-1/unprotect",
                Action::Protect { pool: pool(), instance: "i-1".into(), on: false },
            ),
            ("POST /api/v1/zones/eu-1a/evacuate", Action::Evacuate("eu-1a".into())),
            ("POST /api/v1/zones/a%2Fb/restore", Action::Restore("a/b".into())),
            ("POST /api/v1/reload", Action::Reload),
        ] {
            assert_eq!(ask(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_not_there_is_missed_for_its_own_reason() {
        let only = |allow| Missed::Method { allow };
        for (line, expected) in [
            ("GET /", Missed::Path),
            ("GET /metrics/", Missed::Path),
            ("GET //metrics", Missed::Path),
            ("GET /api/v1", Missed::Path),
            ("GET /api/v1/pools/web/instances", Missed::Path),
            ("GET /api/v1/pools/%zz", Missed::Path),
            ("GET /api/v1/pools/%f", Missed::Path),
            ("GET /api/v1/pools/%ff", Missed::Path),
            ("POST /api/v1/pools/web/instances/i/explode", Missed::Path),
            ("POST /metrics", only("GET, HEAD")),
            ("POST /api/v1/pools/web/explain", only("GET, HEAD")),
            ("DELETE /api/v1/pools/web", only("GET, HEAD")),
            ("GET /api/v1/reload", only("POST")),
            ("PUT /api/v1/pools/web/scaling", only("GET, HEAD, POST")),
            ("GET /api/v1/pools/web/instances/i/drain", only("POST")),
            ("OPTIONS /api/v1/status", only("GET, HEAD")),
            ("GET /api/v1/zones", Missed::Path),
            ("POST /api/v1/zones/a/explode", Missed::Path),
            ("GET /api/v1/zones/a/evacuate", only("POST")),
            ("DELETE /api/v1/zones/a/restore", only("POST")),
        ] {
            assert_eq!(ask(line), Err(expected), "{line}");
        }
        for query in ["limit=0", "limit=1001", "limit=-1", "limit=", "limit", "limt=5"] {
            let got = ask(&format!("GET /api/v1/pools/web/scaling?{query}"));
            assert!(matches!(got, Err(Missed::Query(_))), "{query}: {got:?}");
        }
    }

    #[test]
    fn a_client_is_an_address() {
        for query in ["client=", "client=me", "client", "clint=::1", "client=::1&limit=5"] {
            let got = ask(&format!("GET /api/v1/pools/web/explain?{query}"));
            assert!(matches!(got, Err(Missed::Query(_))), "{query}: {got:?}");
        }
    }

    fn ask(line: &str) -> Result<Action, Missed> {
        let (method, rest) = line.split_once(' ').expect("method and path");
        let method: Method = method.parse().expect("a method");
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        route(&method, path, query)
    }

    proptest::proptest! {
        #[test]
        fn an_encoded_name_is_one_segment_and_reads_back(name in ".{1,30}") {
            let encoded = encode(&name);
            proptest::prop_assert!(!encoded.contains(['/', '?', '#', ' ']));
            let path = ["/", &encoded].concat();
            proptest::prop_assert!(path.parse::<http::uri::PathAndQuery>().is_ok(), "{path}");
            proptest::prop_assert_eq!(decode(&encoded), Some(name));
        }

        #[test]
        fn no_path_panics(path in "[/a-z%0-9é]{0,40}") {
            let _ = route(&Method::GET, &path, Some(&path));
        }
    }
}
