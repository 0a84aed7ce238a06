//! WebSockets over HTTP/2 (RFC 8441) with Python's h2 and wsproto, and what long ones live through in
//! either version.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::authority::{Authority, Files};
use crate::daemon::{Daemon, done, eventually, free_address};
use crate::interop::{Lines, client, listener, listening, python, script};
use crate::tools::Ended;

const SOON: Duration = Duration::from_secs(20);

/// What is not for tunnels: each is shorter than they are silent here.
const IMPATIENT: &str = "timeouts = { head = \"2s\", idle = \"2s\", body = \"2s\" }\n";

const MODULES: &str = "h2, wsproto, websockets";

/// A server of WebSockets in HTTP/1.1, by Python's websockets.
fn serve_http1(python: &str) -> (SocketAddr, Ended) {
    let address = free_address();
    let mut command = Command::new(python);
    command.arg(script("websocket.py")).arg("serve").arg(address.port().to_string());
    (address, listening(address, command.stderr(Stdio::null())))
}

/// A server of WebSockets over HTTP/2, by Python's h2 and wsproto.
fn serve_http2(python: &str, files: Option<&Files>) -> (SocketAddr, Ended) {
    let address = free_address();
    let mut command = Command::new(python);
    command.arg(script("websocket_http2.py")).arg("serve").arg(address.port().to_string());
    if let Some(files) = files {
        command.arg(&files.cert).arg(&files.key);
    }
    (address, listening(address, &mut command))
}

fn with_pool_keys(text: &str, name: &str, keys: &str) -> String {
    let pool = format!("[pool.{name}]\n");
    text.replace(&pool, &format!("{pool}{keys}\n"))
}

/// A client over HTTP/2, in plain text and within TLS, to this server.
fn talks_over_http2(python: &str, server: SocketAddr, keys: &str, refuses: bool) {
    let authority = Authority::new("tests");
    let keys = keys.replace("CA", &authority.ca());
    let secure = format!("{IMPATIENT}{}", authority.issue_local().https());
    let mut config = String::new();
    let mut urls = Vec::new();
    for (scheme, more) in [("http", IMPATIENT), ("https", &secure)] {
        let bind = free_address();
        let text = listener(scheme, bind, server, more);
        config.push_str(&with_pool_keys(&text, scheme, &keys));
        urls.push(format!("{scheme}://{bind}"));
    }
    let daemon = Daemon::start(&config);
    for url in urls {
        let (websocket, refused) = (format!("{url}/websocket"), format!("{url}/refused"));
        let (script, ca) = (script("websocket_http2.py"), authority.ca());
        let mut all = vec![script.as_str(), "talk", "--ca", &ca, &websocket];
        if refuses {
            all.push(&refused);
        }
        client(python, &all);
    }
    eventually("nothing is left of it", SOON, || {
        let connections = daemon.metric("tidegate_connections_active", "");
        let in_flight = daemon.metric("tidegate_instance_in_flight", "");
        (connections == 0.0 && in_flight == 0.0).then_some(())
    });
    // The client resets one stream of each connection.
    let failures = daemon.metric("tidegate_failures_total", "");
    assert_eq!(failures, daemon.failures("client_gone"));
}

#[test]
fn websockets_over_http_2_to_an_instance_of_http_1_1() {
    let Some(python) = python(MODULES) else { return };
    let (server, _process) = serve_http1(&python);
    talks_over_http2(&python, server, "", false);
}

#[test]
fn websockets_over_http_2_to_an_instance_of_http_2() {
    let Some(python) = python(MODULES) else { return };
    let (server, _process) = serve_http2(&python, None);
    talks_over_http2(&python, server, "upstream = \"h2\"", true);
}

#[test]
fn websockets_over_http_1_1_to_an_instance_of_http_2() {
    let Some(python) = python(MODULES) else { return };
    let authority = Authority::new("tests");
    let files = authority.issue_local();
    let (plain, _one) = serve_http2(&python, None);
    let (secure, _two) = serve_http2(&python, Some(&files));
    let tls = format!("upstream = \"h2\"\nupstream_tls = {{ ca = \"{}\" }}", authority.ca());
    let binds = [free_address(), free_address()];
    let one = listener("plain", binds[0], plain, IMPATIENT);
    let two = listener("secure", binds[1], secure, IMPATIENT);
    let daemon = Daemon::start(
        &[with_pool_keys(&one, "plain", "upstream = \"h2\""), with_pool_keys(&two, "secure", &tls)]
            .concat(),
    );
    for bind in binds {
        let url = |path: &str| format!("ws://{bind}/{path}");
        let (websocket, refused) = (url("websocket"), url("refused"));
        client(&python, &[&script("websocket.py"), "talk", &websocket, &refused]);
    }
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

/// A WebSocket that talks all the time is counted, outlives a reload and a drain, and is cut when the
/// daemon ends.
fn lives_long(python: &str, script_name: &str, scheme: &str, secure: bool) {
    let (server, _process) = serve_http1(python);
    let authority = Authority::new("tests");
    let tls = if secure { authority.issue_local().https() } else { String::new() };
    let bind = free_address();
    let text = listener("web", bind, server, &format!("{IMPATIENT}{tls}"));
    let mut daemon = Daemon::start(&with_pool_keys(&text, "web", "drain_timeout = \"1s\""));
    let mut command = Command::new(python);
    command.env("SSL_CERT_FILE", authority.ca()).arg(script(script_name));
    command.arg("hold").arg(format!("{scheme}://{bind}/websocket")).arg("60");
    if script_name == "websocket_http2.py" {
        command.arg("--ca").arg(authority.ca());
    }
    let ticks = Lines::of(&mut command);
    let goes_on = |what: &str| {
        for _ in 0..15 {
            assert_eq!(ticks.next(), "tick", "{what}");
        }
    };
    goes_on("at first");
    assert_eq!(daemon.metric("tidegate_connections_active", "listener=\"web\""), 1.0);
    assert_eq!(daemon.instances("web")[0]["in_flight"], 1);
    daemon.reload(|text| text.replace("drain_timeout", "max_in_flight = 9\ndrain_timeout"));
    eventually("it is reloaded", SOON, || {
        (daemon.metric("tidegate_config_reloads_total", "success") == 1.0).then_some(())
    });
    goes_on("after a reload");
    done(&daemon, &["drain", "web", &server.to_string()]);
    goes_on("during a drain");
    daemon.signal(Signal::TERM);
    let last = ticks.last();
    assert!(last.starts_with("ended"), "{last}");
    assert!(daemon.wait(SOON).success());
}

#[test]
fn a_websocket_lives_long() {
    let Some(python) = python(MODULES) else { return };
    lives_long(&python, "websocket.py", "ws", false);
}

#[test]
fn a_websocket_within_tls_lives_long() {
    let Some(python) = python(MODULES) else { return };
    lives_long(&python, "websocket.py", "wss", true);
}

#[test]
fn a_websocket_over_http_2_lives_long() {
    let Some(python) = python(MODULES) else { return };
    lives_long(&python, "websocket_http2.py", "http", false);
}

#[test]
fn a_websocket_over_http_2_within_tls_lives_long() {
    let Some(python) = python(MODULES) else { return };
    lives_long(&python, "websocket_http2.py", "https", true);
}
