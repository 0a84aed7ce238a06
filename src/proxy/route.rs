//! What is done with a request. Compiled once per config, then only read.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{HostPattern, Priority, Redirect, Respond, Rewrite, Route};
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

/// What is done with the requests that a rule matches.
#[derive(Clone, Debug)]
pub enum Destination {
    /// They go to the pool of this index in the snapshot.
    Pool(usize),
    /// Their clients are sent elsewhere.
    Redirect(Arc<Redirect>),
    /// They are answered here.
    Respond(Arc<Respond>),
}

/// One route, compiled.
#[derive(Debug)]
pub struct Rule {
    /// What it is called where requests are told of: its host, if it is for one, and its path.
    pub name: String,
    path_prefix: Vec<u8>,
    methods: Vec<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    /// What is done with matching requests.
    pub destination: Destination,
    /// How much they matter where not all can be served.
    pub priority: Priority,
    /// What is changed in their heads.
    pub rewrite: Arc<Rewrite>,
}

impl RouteTable {
    /// Compiles routes, each with where it leads.
    pub fn build<'a>(routes: impl Iterator<Item = (&'a Route, Destination)>) -> Self {
        let mut table = Self::default();
        for (route, destination) in routes {
            let rule = Rule {
                name: name(route),
                path_prefix: route.path_prefix.clone().into_bytes(),
                methods: route.methods.iter().map(|m| m.clone().into_bytes()).collect(),
                headers: route
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
                    .collect(),
                destination,
                priority: route.priority,
                rewrite: Arc::clone(&route.rewrite),
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

    /// The rule for this request, if one matches.
    pub fn find(&self, head: &RequestHead) -> Option<&Rule> {
        let matches = |rule: &&Rule| rule.matches(head);
        if !(self.exact.is_empty() && self.suffixes.is_empty()) {
            let host = head.host().to_ascii_lowercase();
            let found = self.find_for(&String::from_utf8_lossy(&host), matches);
            if found.is_some() {
                return found;
            }
        }
        self.any.iter().find(matches)
    }

    /// The rule for a connection whose client asks for this name (in lower case), if one matches.
    pub fn find_by_name(&self, name: Option<&str>) -> Option<&Rule> {
        name.and_then(|name| self.find_for(name, |_| true)).or_else(|| self.any.first())
    }

    /// The rule for this host that matches.
    fn find_for(&self, host: &str, matches: impl Fn(&&Rule) -> bool) -> Option<&Rule> {
        let exact = self.exact.get(host).and_then(|rules| rules.iter().find(&matches));
        exact.or_else(|| {
            let mut wider = self
                .suffixes
                .iter()
                .filter(|(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix.as_str()));
            wider.find_map(|(_, rules)| rules.iter().find(&matches))
        })
    }
}

fn name(route: &Route) -> String {
    match &route.host {
        HostPattern::Any => route.path_prefix.clone(),
        HostPattern::Exact(host) => format!("{host}{}", route.path_prefix),
        HostPattern::Suffix(suffix) => format!("*{suffix}{}", route.path_prefix),
    }
}

impl Rule {
    fn matches(&self, head: &RequestHead) -> bool {
        // All paths begin with a slash; what has none (`OPTIONS *`, CONNECT) is below the root as well.
        (self.path_prefix == b"/" || head.path_only().starts_with(&self.path_prefix))
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
    use crate::model::Action;
    use crate::proxy::wire::http1::{HeadLimits, parse_request};

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
            action: Action::Pool("p".into()),
            priority: Priority::Normal,
            rewrite: Arc::default(),
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
        let table = RouteTable::build(routes.iter().zip((0..).map(Destination::Pool)));
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
            parse_request(text.as_bytes(), &HeadLimits::default(), &mut head).expect("a request");
            let found = table.find(&head).map(|rule| &rule.destination);
            assert!(
                matches!(found, Some(Destination::Pool(pool)) if *pool == expected),
                "{text:?}"
            );
        }
    }

    #[test]
    fn names_of_connections_are_hosts() {
        use HostPattern::{Any, Exact, Suffix};
        let routes = [
            route(Suffix(".example.com".into()), "/", "", ""),
            route(Exact("www.example.com".into()), "/", "", ""),
            route(Any, "/", "", ""),
        ];
        let table = RouteTable::build(routes.iter().zip((0..).map(Destination::Pool)));
        let narrow = RouteTable::build(routes[..2].iter().zip((0..).map(Destination::Pool)));
        for (name, expected) in [
            (Some("www.example.com"), Some(1)),
            (Some("x.example.com"), Some(0)),
            (Some("example.com"), None),
            (Some("other"), None),
            (None, None),
        ] {
            let pool = |table: &RouteTable| match table.find_by_name(name)?.destination {
                Destination::Pool(pool) => Some(pool),
                _ => None,
            };
            assert_eq!(pool(&narrow), expected, "{name:?}");
            assert_eq!(pool(&table), expected.or(Some(2)), "{name:?}");
        }
    }

    #[test]
    fn no_rule_no_pool() {
        let only = route(HostPattern::Any, "/a", "", "");
        let table = RouteTable::build([(&only, Destination::Pool(0))].into_iter());
        let mut head = RequestHead::default();
        parse_request(b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n", &HeadLimits::default(), &mut head)
            .expect("a request");
        assert!(table.find(&head).is_none());
    }
}
