//! Which pool a request goes to. Compiled once per config, then only read.

use std::collections::HashMap;

use crate::model::{HostPattern, Route};
use crate::proxy::wire::RequestHead;

/// The routes of one listener, by host. Most specific host first (exact, then the longest suffix,
/// then any), then the order of the file. A host whose rules all fail falls to the next wider one.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: HashMap<String, Vec<Rule>>,
    /// Longest first.
    suffixes: Vec<(String, Vec<Rule>)>,
    any: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    path_prefix: Vec<u8>,
    methods: Vec<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    /// Index of the pool in the snapshot.
    pool: usize,
}

impl RouteTable {
    /// Compiles routes, each with the index of its pool.
    pub fn build<'a>(routes: impl Iterator<Item = (&'a Route, usize)>) -> Self {
        let mut table = Self::default();
        for (route, pool) in routes {
            let rule = Rule {
                path_prefix: route.path_prefix.clone().into_bytes(),
                methods: route.methods.iter().map(|m| m.clone().into_bytes()).collect(),
                headers: route
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
                    .collect(),
                pool,
            };
            match &route.host {
                HostPattern::Any => table.any.push(rule),
                HostPattern::Exact(host) => table.exact.entry(host.clone()).or_default().push(rule),
                HostPattern::Suffix(suffix) => {
                    match table.suffixes.iter_mut().find(|(known, _)| known == suffix) {
                        Some((_, rules)) => rules.push(rule),
                        None => table.suffixes.push((suffix.clone(), vec![rule])),
                    }
                }
            }
        }
        table.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        table
    }

    /// The index of the pool for this request, if a rule matches.
    pub fn find(&self, head: &RequestHead) -> Option<usize> {
        let find = |rules: &[Rule]| rules.iter().find(|rule| rule.matches(head)).map(|r| r.pool);
        if !(self.exact.is_empty() && self.suffixes.is_empty()) {
            let host = head.host().to_ascii_lowercase();
            let host = String::from_utf8_lossy(&host);
            let exact = self.exact.get(host.as_ref()).and_then(|rules| find(rules));
            let found = exact.or_else(|| {
                let mut wider = self.suffixes.iter().filter(|(suffix, _)| {
                    host.len() > suffix.len() && host.ends_with(suffix.as_str())
                });
                wider.find_map(|(_, rules)| find(rules))
            });
            if found.is_some() {
                return found;
            }
        }
        find(&self.any)
    }
}

impl Rule {
    fn matches(&self, head: &RequestHead) -> bool {
        head.path_only().starts_with(&self.path_prefix)
            && (self.methods.is_empty()
                || self.methods.iter().any(|m| *m == head.fields.get(head.method_name)))
            && self.headers.iter().all(|(name, value)| {
                head.fields.value(name).is_some_and(|there| there == value.as_slice())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::wire::http1::parse_request;

    fn route(host: HostPattern, path_prefix: &str, method: &str, header: &str) -> Route {
        Route {
            listener: "l".into(),
            host,
            path_prefix: path_prefix.into(),
            methods: method.split_whitespace().map(str::to_owned).collect(),
            headers: header
                .split_once('=')
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .into_iter()
                .collect(),
            pool: "p".into(),
        }
    }

    #[test]
    fn the_most_specific_host_wins_then_the_first_rule() {
        use HostPattern::{Any, Exact, Suffix};
        let routes = [
            route(Any, "/static/", "", ""),
            route(Suffix(".example.com".into()), "/", "", ""),
            route(Suffix(".api.example.com".into()), "/", "", ""),
            route(Exact("www.example.com".into()), "/v1/", "GET HEAD", ""),
            route(Exact("www.example.com".into()), "/", "", "x-canary=1"),
            route(Any, "/", "", ""),
        ];
        let table = RouteTable::build(routes.iter().zip(0..));
        for (line, host, extra, expected) in [
            ("GET /v1/x", "www.example.com", "", 3),
            ("GET /v1/x", "WWW.Example.COM:80", "", 3),
            ("POST /v1/x", "www.example.com", "X-Canary: 1\r\n", 4),
            ("POST /v1/x", "www.example.com", "", 1),
            ("GET /", "a.api.example.com", "", 2),
            ("GET /", "example.com", "", 5),
            ("GET /static/x", "other", "", 0),
            ("GET /static", "other", "", 5),
            ("GET /?/static/", "other", "", 5),
            ("GET /", ".example.com", "", 5),
        ] {
            let text = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n");
            let mut head = RequestHead::default();
            parse_request(text.as_bytes(), &mut head).expect("a request");
            assert_eq!(table.find(&head), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn no_rule_no_pool() {
        let table = RouteTable::build([(&route(HostPattern::Any, "/a", "", ""), 0)].into_iter());
        let mut head = RequestHead::default();
        parse_request(b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n", &mut head).expect("a request");
        assert_eq!(table.find(&head), None);
    }
}
