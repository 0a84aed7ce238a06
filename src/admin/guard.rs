//! Who may ask: the checks before anything is looked up.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use crate::config::AdminSettings;

/// Where the API is at home, which says by what names it may be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home {
    /// An address: called by that address, by `localhost`, or by any loopback address, each with
    /// its port.
    Tcp(SocketAddr),
    /// A socket in the file system: called by any name, since no browser can reach it.
    Unix,
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It was meant for another host: a name that was rebound, or a proxy that was set up wrong.
    Host,
    /// A web page of another origin sent it.
    Origin,
    /// It bears no token, or a wrong one.
    Token,
}

/// Checks `request` against everything that is asked of it.
///
/// # Errors
/// The first reason to refuse it.
pub fn check(home: Home, token: Option<&Token>, request: &Parts) -> Result<(), Refusal> {
    let named = request.uri.authority().is_none_or(|host| home.is_called(host.as_str()))
        && only(&request.headers, HOST).is_some_and(|host| home.is_called(host));
    if !named {
        return Err(Refusal::Host);
    }
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    if !reads && request.headers.contains_key(ORIGIN) {
        let own = only(&request.headers, ORIGIN).is_some_and(|origin| home.is_origin(origin));
        if !own {
            return Err(Refusal::Origin);
        }
    }
    match token {
        Some(token) if request.uri.path() != "/healthz" => {
            let offered = only(&request.headers, AUTHORIZATION).and_then(bearer);
            if offered.is_some_and(|offered| token.matches(offered)) {
                Ok(())
            } else {
                Err(Refusal::Token)
            }
        }
        _ => Ok(()),
    }
}

/// The value of a field that may be there once.
fn only(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl Home {
    /// Whether `host` (`name[:port]`) is a name of this place.
    fn is_called(self, host: &str) -> bool {
        let Self::Tcp(bind) = self else { return true };
        let has_port = host.rfind(':') > host.rfind(']');
        let host = if has_port { host.to_ascii_lowercase() } else { format!("{host}:80") };
        if let Some(port) = host.to_ascii_lowercase().strip_prefix("localhost:") {
            return port.parse() == Ok(bind.port());
        }
        host.parse::<SocketAddr>().is_ok_and(|address| {
            address == bind || (address.port() == bind.port() && address.ip().is_loopback())
        })
    }

    /// Whether a page of `origin` came from this place. Nothing that comes over a socket in the
    /// file system did.
    fn is_origin(self, origin: &str) -> bool {
        self != Self::Unix
            && origin.strip_prefix("http://").is_some_and(|host| self.is_called(host))
    }
}

/// The token that the settings ask for, if they do.
///
/// # Errors
/// If its file cannot be read, or holds nothing that fits in a header field.
pub fn read_token(settings: &AdminSettings) -> Result<Option<Token>, String> {
    settings.token_file.as_deref().map(Token::read).transpose()
}

/// The secret that each request must bear.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Reads it from a file, trimmed.
    ///
    /// # Errors
    /// If the file cannot be read, or holds nothing that fits in a header field.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|why| format!("cannot read the token file {}: {why}", path.display()))?;
        let token = text.trim();
        if token.is_empty() {
            return Err(format!("the token file {} is empty", path.display()));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "the token file {} must hold one word of printable ASCII",
                path.display()
            ));
        }
        Ok(Self(token.to_owned()))
    }

    /// The value of the `Authorization` field for a client.
    pub fn authorization(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0))
            .expect("a token is printable ASCII");
        value.set_sensitive(true);
        value
    }

    /// Takes as long for a near miss as for a far one of the same length.
    fn matches(&self, offered: &str) -> bool {
        let (own, offered) = (self.0.as_bytes(), offered.as_bytes());
        let differences =
            own.iter().zip(offered).fold(0u8, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
        own.len() == offered.len() && differences == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn home(address: &str) -> Home {
        Home::Tcp(address.parse().expect("an address"))
    }

    #[test]
    fn only_own_names_are_answered_to() {
        let loopback = home("127.0.0.1:9900");
        for (home, host, own) in [
            (loopback, "127.0.0.1:9900", true),
            (loopback, "localhost:9900", true),
            (loopback, "LOCALHOST:9900", true),
            (loopback, "[::1]:9900", true),
            (loopback, "127.0.0.1", false),
            (loopback, "127.0.0.1:80", false),
            (loopback, "localhost", false),
            (loopback, "localhost:9901", false),
            (loopback, "localhost:", false),
            (loopback, "localhost.evil.example:9900", false),
            (loopback, "evil.example:9900", false),
            (loopback, "10.0.0.1:9900", false),
            (loopback, "", false),
            (loopback, ":9900", false),
            (loopback, "[::1", false),
            (home("10.1.2.3:80"), "10.1.2.3:80", true),
            (home("10.1.2.3:80"), "10.1.2.3", true),
            (home("10.1.2.3:80"), "localhost", true),
            (home("10.1.2.3:80"), "10.1.2.4", false),
            (home("[::1]:80"), "[::1]", true),
            (home("[::1]:80"), "127.0.0.1", true),
            (home("[fd00::1]:80"), "[fd00::2]", false),
            (Home::Unix, "whatever", true),
        ] {
            assert_eq!(home.is_called(host), own, "{host} at {home:?}");
        }
    }

    fn verdict(home: Home, token: Option<&Token>, line: &str, fields: &[(&str, &str)]) -> String {
        let (method, uri) = line.split_once(' ').expect("method and path");
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        check(home, token, &parts).map_or_else(|why| format!("{why:?}"), |()| "passes".into())
    }

    #[test]
    fn refusals_have_their_reason() {
        let tcp = home("127.0.0.1:9900");
        let host = ("host", "127.0.0.1:9900");
        for (home, line, fields, expected) in [
            (tcp, "GET /metrics", vec![host], "passes"),
            (tcp, "GET /metrics", vec![], "Host"),
            (tcp, "GET /metrics", vec![("host", "evil.example")], "Host"),
            (tcp, "GET /metrics", vec![host, host], "Host"),
            (tcp, "GET http://evil.example/metrics", vec![host], "Host"),
            (tcp, "GET http://localhost:9900/metrics", vec![host], "passes"),
            (tcp, "POST /x", vec![host], "passes"),
            (tcp, "POST /x", vec![host, ("origin", "http://localhost:9900")], "passes"),
            (tcp, "POST /x", vec![host, ("origin", "http://evil.example")], "Origin"),
            (tcp, "POST /x", vec![host, ("origin", "https://localhost:9900")], "Origin"),
            (tcp, "POST /x", vec![host, ("origin", "null")], "Origin"),
            (tcp, "DELETE /x", vec![host, ("origin", "null")], "Origin"),
            (tcp, "GET /x", vec![host, ("origin", "http://evil.example")], "passes"),
            (Home::Unix, "POST /x", vec![("host", "any")], "passes"),
            (Home::Unix, "POST /x", vec![("host", "any"), ("origin", "http://any")], "Origin"),
        ] {
            assert_eq!(verdict(home, None, line, &fields), expected, "{line} {fields:?}");
        }
    }

    #[test]
    fn with_a_token_only_healthz_is_open() {
        let token = Token("s3cret".into());
        let host = ("host", "x");
        for (path, authorization, expected) in [
            ("/healthz", None, "passes"),
            ("/metrics", None, "Token"),
            ("/healthz/x", None, "Token"),
            ("/metrics", Some("Bearer s3cret"), "passes"),
            ("/metrics", Some("bearer  s3cret"), "passes"),
            ("/metrics", Some("Bearer s3cres"), "Token"),
            ("/metrics", Some("Bearer s3cre"), "Token"),
            ("/metrics", Some("Bearer s3crets"), "Token"),
            ("/metrics", Some("Bearer "), "Token"),
            ("/metrics", Some("Basic s3cret"), "Token"),
            ("/metrics", Some("s3cret"), "Token"),
        ] {
            let mut fields = vec![host];
            fields.extend(authorization.map(|value| ("authorization", value)));
            let line = format!("GET {path}");
            let got = verdict(Home::Unix, Some(&token), &line, &fields);
            assert_eq!(got, expected, "{path} {authorization:?}");
        }
    }

    #[test]
    fn a_token_is_read_trimmed_and_never_printed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        for (text, good) in
            [("s3cret\n", true), (" \n", false), ("two words", false), ("caf\u{e9}", false)]
        {
            std::fs::write(&path, text).expect("written");
            assert_eq!(Token::read(&path).is_ok(), good, "{text:?}");
        }
        std::fs::write(&path, "s3cret\n").expect("written");
        let token = Token::read(&path).expect("a token");
        assert_eq!(token.authorization().to_str().ok(), Some("Bearer s3cret"));
        assert!(!format!("{token:?} {:?}", token.authorization()).contains("s3cret"));
        assert!(Token::read(&folder.path().join("none")).is_err_and(|why| why.contains("none")));
    }
}
