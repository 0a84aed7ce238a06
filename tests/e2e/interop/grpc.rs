//! gRPC with Python's grpcio on both sides.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::authority::{Authority, Files};
use crate::daemon::{Daemon, done, eventually, free_address};
use crate::interop::{Lines, client, listening, python, script};
use crate::tools::{Ended, tell};

const SOON: Duration = Duration::from_secs(20);

/// A server of Python's grpcio.
struct Server {
    name: &'static str,
    address: SocketAddr,
    _process: Ended,
}

/// The client's side of a daemon, or of a server itself.
struct Calls<'a> {
    python: &'a str,
    address: SocketAddr,
}

impl Calls<'_> {
    fn run(&self, what: &str, more: &[&str]) -> String {
        let address = self.address.to_string();
        client(self.python, &[&[&script("calls.py"), what, &address], more].concat()).0
    }

    /// The code of one call and what comes with it.
    fn call(&self, more: &[&str]) -> String {
        self.run("call", more).trim_end().to_owned()
    }

    /// How many of so many calls on one connection this server answered.
    fn share(&self, count: usize, name: &str) -> usize {
        let seen = self.run("spread", &[&count.to_string()]);
        let line = seen.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.map_or(0, |count| count.parse().expect("a number"))
    }

    /// A stream of numbers, one each 50 ms, and the name of who says them.
    fn stream(&self, count: usize) -> (Lines, String) {
        let mut command = Command::new(self.python);
        command.arg(script("calls.py")).arg("count").arg(self.address.to_string());
        let lines = Lines::of(command.args([&count.to_string(), "50"]));
        let name = lines.next();
        assert_eq!(lines.next(), "0");
        (lines, name)
    }
}

fn serve(python: &str, name: &'static str, files: Option<&Files>) -> Server {
    let address = free_address();
    let mut command = Command::new(python);
    command.arg(script("calls.py")).arg("serve").arg(address.to_string()).arg(name);
    if let Some(files) = files {
        command.arg("--cert").arg(&files.cert).arg("--key").arg(&files.key);
    }
    Server { name, address, _process: listening(address, &mut command) }
}

/// A daemon before these, with more keys of its listener, of its pool, and for checks of health.
fn before(servers: &[&Server], listener: &str, pool: &str, health: &str) -> (Daemon, SocketAddr) {
    let bind = free_address();
    let instance =
        |it: &&Server| format!("{{ id = \"{}\", address = \"{}\" }}", it.name, it.address);
    let instances: Vec<String> = servers.iter().map(instance).collect();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nname = \"calls\"\nbind = \"{bind}\"\npool = \"calls\"\n{listener}\n\
         [pool.calls]\nupstream = \"h2\"\ninstances = [{}]\n{pool}\n\
         [pool.calls.health]\n{health}\n",
        instances.join(", ")
    ));
    (daemon, bind)
}

/// All kinds of calls, through a listener and to a server that are within TLS or not.
fn all_kinds(secure_client: bool, secure_server: bool) {
    let Some(python) = python("grpc") else { return };
    let authority = Authority::new("tests");
    let (files, ca) = (authority.issue_local(), authority.ca());
    let server = serve(&python, "one", secure_server.then_some(&files));
    let tls = if secure_client { files.https() } else { String::new() };
    let upstream = match secure_server {
        true => format!("upstream_tls = {{ ca = \"{ca}\" }}"),
        false => String::new(),
    };
    let (daemon, bind) = before(&[&server], &tls, &upstream, "type = \"none\"");
    let direct = server.address.to_string();
    let mut more = vec!["--server", &direct];
    if secure_client {
        more.extend(["--ca", &ca]);
    }
    if secure_server {
        more.extend(["--server-ca", &ca]);
    }
    let told = Calls { python: &python, address: bind }.run("talk", &more);
    let parts: Vec<&str> = told.lines().collect();
    tell(&format!("gRPC, TLS from client {secure_client}, to server {secure_server}: {parts:?}"));
    assert_eq!(parts.len(), 10, "{told}");
    eventually("nothing is left of it", SOON, || {
        let connections = daemon.metric("tidegate_connections_active", "");
        let in_flight = daemon.metric("tidegate_instance_in_flight", "");
        (connections == 0.0 && in_flight == 0.0).then_some(())
    });
    // Calls were cancelled, or not waited for any longer: by their client, or by the daemon where that is
    // late. Nothing else went wrong.
    let failures = daemon.metric("tidegate_failures_total", "");
    let [left, overdue] = ["client_gone", "total_timeout"].map(|reason| daemon.failures(reason));
    assert!(failures == left + overdue && overdue <= 2.0, "{failures} {left} {overdue}: {told}");
}

#[test]
fn all_kinds_of_calls() {
    all_kinds(false, false);
}

#[test]
fn all_kinds_of_calls_from_tls() {
    all_kinds(true, false);
}

#[test]
fn all_kinds_of_calls_from_tls_to_tls() {
    all_kinds(true, true);
}

#[test]
fn all_kinds_of_calls_to_tls() {
    all_kinds(false, true);
}

#[test]
fn calls_of_one_connection_are_balanced_one_by_one() {
    let Some(python) = python("grpc") else { return };
    let servers = [serve(&python, "one", None), serve(&python, "two", None)];
    let [one, two] = servers.each_ref();
    let (_daemon, bind) = before(&[one, two], "", "", "type = \"none\"");
    let share = Calls { python: &python, address: bind }.share(400, "one");
    assert!((120..=280).contains(&share), "{share} of 400");
}

#[test]
fn a_call_that_nobody_can_take_is_unavailable() {
    let Some(python) = python("grpc") else { return };
    let gone = serve(&python, "gone", None);
    let (daemon, bind) = before(&[&gone], "", "", "type = \"none\"");
    let calls = Calls { python: &python, address: bind };
    assert_eq!(calls.call(&["Echo", "there"]), "OK there");
    let address = gone.address;
    drop(gone);
    eventually("it has ended", SOON, || std::net::TcpStream::connect(address).err());
    for _ in 0..3 {
        let seen = calls.call(&["Echo", "anybody"]);
        assert!(seen.starts_with("UNAVAILABLE"), "{seen}");
    }
    assert!(daemon.metric("tidegate_failures_total", "") >= 3.0);
}

#[test]
fn calls_whose_server_dies_fail_and_no_stream_looks_whole() {
    let Some(python) = python("grpc") else { return };
    let server = serve(&python, "dies", None);
    let (daemon, bind) = before(&[&server], "", "", "type = \"none\"");
    let calls = Calls { python: &python, address: bind };
    let (stream, _) = calls.stream(10_000);
    let mut command = Command::new(&python);
    let address = bind.to_string();
    let waits = Lines::of(command.args([&script("calls.py"), "call", &address, "Wait", "15"]));
    eventually("both are under way", SOON, || {
        (daemon.metric("tidegate_instance_in_flight", "") == 2.0).then_some(())
    });
    drop(server);
    let unanswered = waits.last();
    assert!(unanswered.starts_with("UNAVAILABLE"), "{unanswered}");
    let cut = stream.last();
    assert!(cut.starts_with("UNAVAILABLE"), "{cut}");
}

#[test]
fn servers_that_say_so_get_no_calls() {
    let Some(python) = python("grpc") else { return };
    let servers = [serve(&python, "one", None), serve(&python, "two", None)];
    let [one, two] = servers.each_ref();
    let often =
        "type = \"grpc\"\ninterval = \"500ms\"\nserving_interval = \"500ms\"\ntimeout = \"500ms\"";
    let (daemon, bind) = before(&[one, two], "", "slow_start = \"off\"", often);
    let [calls, itself] = [bind, two.address].map(|address| Calls { python: &python, address });
    eventually("both are well", SOON, || (daemon.eligible("calls") == 2).then_some(()));
    let share = calls.share(200, "two");
    assert!((50..=150).contains(&share), "{share} of 200");
    assert_eq!(itself.call(&["SetHealth", "NOT_SERVING"]), "OK");
    eventually("one is out", SOON, || (daemon.eligible("calls") == 1).then_some(()));
    assert_eq!(calls.share(100, "two"), 0);
    assert_eq!(itself.call(&["SetHealth", "SERVING"]), "OK");
    eventually("it is back", SOON, || (daemon.eligible("calls") == 2).then_some(()));
    eventually("it is asked", SOON, || (calls.share(50, "two") > 0).then_some(()));
}

#[test]
fn a_stream_outlives_a_reload_and_a_drain_and_is_cut_by_the_end_at_its_deadline() {
    let Some(python) = python("grpc") else { return };
    let servers = [serve(&python, "one", None), serve(&python, "two", None)];
    let [one, two] = servers.each_ref();
    let (mut daemon, bind) = before(&[one, two], "", "drain_timeout = \"6s\"", "type = \"none\"");
    let calls = Calls { python: &python, address: bind };
    let (long, name) = calls.stream(10_000);
    daemon.reload(|text| text.replace("drain_timeout", "retry.attempts = 3\ndrain_timeout"));
    eventually("it is reloaded", SOON, || {
        (daemon.metric("tidegate_config_reloads_total", "success") == 1.0).then_some(())
    });
    for number in 1..30 {
        assert_eq!(long.next(), number.to_string(), "after the reload");
    }
    done(&daemon, &["drain", "calls", &name]);
    assert_eq!(calls.share(50, &name), 0, "a drained one is not asked");
    for number in 30..60 {
        assert_eq!(long.next(), number.to_string(), "during the drain");
    }
    // One that ends within the time that the daemon has, and one that does not.
    let (short, _) = calls.stream(30);
    daemon.signal(Signal::TERM);
    assert_eq!(short.last(), "OK");
    let end = long.last();
    assert!(end.starts_with("UNAVAILABLE") || end.starts_with("CANCELLED"), "{end}");
    assert!(daemon.wait(SOON).success());
}
