//! Asking a running daemon.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use tokio::runtime;

use crate::admin::problem::Details;
use crate::admin::{Token, read_token};
use crate::cli::args::AdminArgs;
use crate::cli::{Exit, Failure, config_file};
use crate::config::AdminSettings;
use crate::net::http::{HttpError, Peer, request};

/// Where the admin API is unless something else is said.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);

/// A little longer than the daemon gives itself, so that its own word on what takes so long arrives.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Enough for the status of tens of thousands of instances.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A daemon that can be asked.
#[derive(Debug)]
pub(super) struct Client {
    peer: Peer,
    token: Option<Token>,
}

impl Client {
    /// Finds the daemon by the arguments, else by its config, else at the default address.
    pub(super) fn find(args: &AdminArgs) -> Result<Self, Failure> {
        let settings = match (&args.config, &args.admin) {
            (Some(path), _) => Some(config_file::load(path)?.config.admin),
            (None, Some(_)) => None,
            (None, None) => usual_settings()?,
        };
        let token = match (&args.token_file, &settings) {
            (Some(path), _) => Token::read(path).map(Some),
            (None, Some(settings)) => read_token(settings),
            (None, None) => Ok(None),
        };
        Ok(Self {
            peer: match (&args.admin, &settings) {
                (Some(peer), _) => peer.clone(),
                (None, Some(settings)) => Peer::from(&settings.bind),
                (None, None) => Peer::Tcp(DEFAULT),
            },
            token: token.map_err(|why| Failure::new(Exit::Input, why))?,
        })
    }

    /// The body of a good answer.
    pub(super) fn get(&self, path: &str) -> Result<Bytes, Failure> {
        self.ask(Method::GET, path, Vec::new())
    }

    /// The body of a good answer.
    pub(super) fn post(&self, path: &str) -> Result<Bytes, Failure> {
        self.ask(Method::POST, path, Vec::new())
    }

    /// The body of a good answer to what `body` says in JSON.
    pub(super) fn post_json(&self, path: &str, body: Vec<u8>) -> Result<Bytes, Failure> {
        self.ask(Method::POST, path, body)
    }

    fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes, Failure> {
        let failed = |why: String| Failure::new(Exit::Failed, why);
        let has_body = !body.is_empty();
        let mut asked = Request::builder()
            .method(method)
            .uri(path)
            .body(Full::from(body))
            .map_err(|why| failed(format!("cannot ask for {path}: {why}")))?;
        if has_body {
            let json = HeaderValue::from_static("application/json");
            asked.headers_mut().insert(CONTENT_TYPE, json);
        }
        if let Some(token) = &self.token {
            asked.headers_mut().insert(AUTHORIZATION, token.authorization());
        }
        let answer = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| failed(format!("cannot start a runtime: {why}")))?
            .block_on(request(&self.peer, asked, TIMEOUT, MAX_ANSWER))
            .map_err(|why| unanswered(&why))?;
        if answer.status().is_success() { Ok(answer.into_body()) } else { Err(refused(&answer)) }
    }
}

/// What the daemon answered.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|why| {
        Failure::new(Exit::Failed, format!("the daemon's answer cannot be read: {why}"))
    })
}

/// The settings in the config that the daemon most likely runs on, if there is one.
fn usual_settings() -> Result<Option<AdminSettings>, Failure> {
    let Some(path) = config_file::usual() else { return Ok(None) };
    match config_file::load(&path) {
        Ok(loaded) => Ok(Some(loaded.config.admin)),
        Err(failure) => Err(Failure::new(
            failure.exit,
            format!(
                "{}\nso the config does not say where the daemon is; give --admin ADDR",
                failure.message
            ),
        )),
    }
}

fn unanswered(why: &HttpError) -> Failure {
    match why {
        HttpError::Connect { .. } => Failure::new(
            Exit::Unreachable,
            format!("{why}; is the daemon running? Its address is given with --admin or --config"),
        ),
        HttpError::Timeout { .. } | HttpError::Broken { .. } => {
            Failure::new(Exit::Unreachable, why.to_string())
        }
        HttpError::TooLarge { .. } => Failure::new(Exit::Failed, why.to_string()),
    }
}

/// What the daemon said instead of doing it.
fn refused(answer: &Response<Bytes>) -> Failure {
    if answer.status() == StatusCode::UNAUTHORIZED {
        let message = "the daemon wants its token: give the file of its admin.token_file with \
                       --token-file, or its config with --config";
        return Failure::new(Exit::Input, message);
    }
    let exit = if answer.status().is_client_error() { Exit::Input } else { Exit::Failed };
    let message = match serde_json::from_slice::<Details>(answer.body()) {
        Ok(details) => {
            let mut lines = details.faults;
            lines.push(details.detail);
            lines.join("\n")
        }
        Err(_) => format!("the daemon answered {}", answer.status()),
    };
    Failure::new(exit, message)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::PathBuf;
    use std::thread;

    use super::*;

    /// Answers one request with `answer`; gives what it was asked.
    fn daemon(answer: &str) -> (AdminArgs, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("bound");
        let answer = answer.to_owned();
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut asked = vec![0; 4096];
            let n = stream.read(&mut asked).expect("a request");
            stream.write_all(answer.as_bytes()).expect("written");
            String::from_utf8_lossy(&asked[..n]).into_owned()
        });
        (admin(Some(Peer::Tcp(address))), asked)
    }

    fn admin(peer: Option<Peer>) -> AdminArgs {
        AdminArgs { admin: peer, token_file: None, config: None }
    }

    fn problem(status: &str, faults: &[&str]) -> String {
        let body = serde_json::json!({
            "type": "about:blank", "title": "T", "status": 400, "detail": "what happened",
            "faults": faults,
        })
        .to_string();
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn answers_become_exit_codes() {
        let broken = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
        for (answer, exit, message) in [
            (problem("404 Not Found", &[]), Exit::Input, "what happened"),
            (problem("401 Unauthorized", &[]), Exit::Input, "the daemon wants its token"),
            (
                problem("422 No", &["f:1:1: a", "f:2:1: b"]),
                Exit::Input,
                "f:1:1: a\nf:2:1: b\nwhat happened",
            ),
            (problem("503 Not Now", &[]), Exit::Failed, "what happened"),
            ("HTTP/1.1 500 Oops\r\n\r\n".into(), Exit::Failed, "the daemon answered 500 Internal"),
            (broken.into(), Exit::Unreachable, "127.0.0.1:"),
        ] {
            let (args, asked) = daemon(&answer);
            let failure = Client::find(&args).and_then(|it| it.get("/x")).expect_err(&answer);
            assert_eq!(failure.exit, exit, "{answer}");
            assert!(failure.message.starts_with(message), "{answer}: {}", failure.message);
            asked.join().expect("asked");
        }
    }

    #[test]
    fn a_good_answer_is_its_body_and_a_token_is_borne() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "s3cret\n").expect("written");
        let (mut args, asked) = daemon("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        args.token_file = Some(file);
        let body = Client::find(&args).and_then(|it| it.post("/x")).expect("an answer");
        assert_eq!(body.as_ref(), b"ok");
        let asked = asked.join().expect("asked");
        assert!(asked.starts_with("POST /x HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("authorization: Bearer s3cret\r\n"), "{asked}");
    }

    #[test]
    fn nobody_there_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let peer = Peer::Tcp(listener.local_addr().expect("bound"));
        drop(listener);
        let failure = Client::find(&admin(Some(peer))).and_then(|it| it.get("/x")).expect_err("no");
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains("is the daemon running?"), "{}", failure.message);
    }

    #[test]
    fn the_config_says_where_the_daemon_is_unless_the_arguments_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| -> PathBuf {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        write("token", "s3cret");
        let config = write(
            "tidegate.toml",
            "[admin]\nbind = \"127.0.0.1:9901\"\ntoken_file = \"token\"\n\
             [[listener]]\nbind = \"127.0.0.1:8080\"\npool = \"a\"\n\
             [pool.a]\ninstances = [{ address = \"10.0.0.1:80\" }]\n",
        );
        let peer = |port| Peer::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
        for (given, expected) in [(None, peer(9901)), (Some(peer(1)), peer(1))] {
            let args = AdminArgs { admin: given, token_file: None, config: Some(config.clone()) };
            let client = Client::find(&args).expect("found");
            assert_eq!(client.peer, expected);
            assert!(client.token.is_some());
        }
        let client = Client::find(&admin(Some(peer(2)))).expect("found");
        assert_eq!((client.peer, client.token.is_none()), (peer(2), true));
        let bad = write("bad.toml", "[admin]\nbind = 5\n");
        let args = AdminArgs { admin: None, token_file: None, config: Some(bad) };
        assert_eq!(Client::find(&args).expect_err("faults").exit, Exit::Input);
    }
}
