//! The access log: each request and each TCP connection has one line, wherever it goes.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, eventually, free_address};
use crate::http::{OK, exchange};
use crate::origin::Origin;
use crate::tcp::{connect, echo};
use crate::tunnel;

const SOON: Duration = Duration::from_secs(10);

/// A daemon with an HTTP and a TCP listener before one instance, and the lines' file.
fn logging(log: &str, instance: SocketAddr, more: &str) -> (Daemon, SocketAddr, SocketAddr) {
    let (web, raw) = (free_address(), free_address());
    let daemon = Daemon::start(&format!(
        "[log]\n{log}\n[[listener]]\nname = \"web\"\nbind = \"{web}\"\npool = \"web\"\n\
         [[listener]]\nname = \"raw\"\nbind = \"{raw}\"\nprotocol = \"tcp\"\npool = \"web\"\n\
         [pool.web]\ninstances = [{{ address = \"{instance}\", id = \"one\", zone = \"a\" }}]\n{more}\n\
         [pool.web.health]\ntype = \"none\"\n",
    ));
    (daemon, web, raw)
}

fn path(daemon: &Daemon, name: &str) -> PathBuf {
    daemon.dir.path().join(name)
}

pub fn lines(daemon: &Daemon, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(path(daemon, name)).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// The lines, once there are so many.
fn so_many(daemon: &Daemon, name: &str, count: usize) -> Vec<Value> {
    let found = eventually("the lines", SOON, || {
        Some(lines(daemon, name)).filter(|lines| lines.len() >= count)
    });
    assert_eq!(found.len(), count, "{found:#?}");
    found
}

#[test]
fn every_request_has_a_line_with_the_reason_of_its_pick() {
    let origin = Origin::answering(OK);
    let routes = "[[route]]\nlistener = \"web\"\npath_prefix = \"/old/\"\nredirect = { to = \"/new\" }\n\
                  [[route]]\nlistener = \"web\"\npath_prefix = \"/api/\"\npool = \"web\"\n";
    let (daemon, web, _) = logging("access = \"access.json\"", origin.address, routes);
    let ours = [
        "GET /a?b HTTP/1.1\r\nHost: shop.test:80\r\nUser-Agent: t\"\\\x01\r\nReferer: r\r\n\
         X-Request-Id: abc\r\n\r\n",
        "POST /api/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "GET /old/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ];
    // The first is refused for its control character, and ends its connection.
    let refused = exchange(web, ours[0]);
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    so_many(&daemon, "access.json", 1);
    let good = ours[0].replace('\x01', "");
    let request = [&good, ours[1], ours[2], ours[3]].concat();
    let answer = exchange(web, &request);
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 4, "{answer}");
    let told = so_many(&daemon, "access.json", 5);
    let of = |key: &str| -> Vec<Value> { told.iter().map(|line| line[key].clone()).collect() };
    let null = Value::Null;
    assert_eq!(of("status"), [400, 200, 200, 308, 200].map(Value::from));
    assert_eq!(
        of("pick"),
        ["none", "least-request", "least-request", "redirect", "least-request"].map(Value::from)
    );
    assert_eq!(of("failure")[0], "malformed");
    assert_eq!(of("failure")[1..], [const { Value::Null }; 4]);
    assert_eq!(
        of("path"),
        [null.clone(), "/a?b".into(), "/api/x".into(), "/old/x".into(), "/".into()]
    );
    assert_eq!(
        of("route"),
        [null.clone(), null.clone(), "/api/".into(), "/old/".into(), null.clone()]
    );
    assert_eq!(of("instance"), [null.clone(), "one".into(), "one".into(), null, "one".into()]);
    assert_eq!(of("reused")[1..3], [Value::from(false), Value::from(true)]);
    let first = &told[1];
    for (key, expected) in [
        ("listener", "web"),
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("host", "shop.test:80"),
        ("protocol", "HTTP/1.1"),
        ("pool", "web"),
        ("zone", "a"),
        ("user_agent", "t\"\\"),
        ("referer", "r"),
        ("request_id", "abc"),
    ] {
        assert_eq!(first[key], expected, "{key} of {first}");
    }
    assert_eq!((&first["attempts"], &first["wait_ms"]), (&1.into(), &0.into()));
    assert_eq!(first["bytes_in"], good.len());
    assert_eq!(told[2]["bytes_in"], ours[1].len(), "with its body");
    let sent: u64 = told[1..].iter().map(|line| line["bytes_out"].as_u64().expect("bytes")).sum();
    assert_eq!(sent, answer.len() as u64, "all that came is told");
    assert_eq!(daemon.metric("tidegate_access_log_dropped_total", ""), 0.0);
}

#[test]
fn failures_waits_and_tries_are_told() {
    let good = Origin::answering(OK);
    let (nobody, bind) = (free_address(), free_address());
    let daemon = Daemon::start(&format!(
        "[log]\naccess = \"access.json\"\n[[listener]]\nbind = \"{bind}\"\npool = \"gone\"\n\
         [[route]]\nlistener = \"{bind}\"\npath_prefix = \"/two\"\npool = \"two\"\n\
         [pool.gone]\ninstances = [{{ address = \"{nobody}\", id = \"g\" }}]\nqueue = {{ max = 0 }}\n\
         health = {{ type = \"none\" }}\n\
         [pool.two]\nbalance = \"round-robin\"\nhealth = {{ type = \"none\" }}\n\
         instances = [{{ address = \"{nobody}\", id = \"g\" }}, {{ address = \"{}\", id = \"ok\" }}]\n",
        good.address
    ));
    let answer = exchange(bind, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    let told = so_many(&daemon, "access.json", 1).remove(0);
    assert_eq!((&told["status"], &told["failure"]), (&502.into(), &"connect".into()));
    assert_eq!((&told["instance"], &told["pick"]), (&"g".into(), &"least-request".into()));
    // Of two in turn one goes to the dead one first; on one connection, for each worker takes turns
    // of its own.
    let both = "GET /two HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = exchange(bind, both);
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    let told = so_many(&daemon, "access.json", 3);
    let retried =
        told.iter().find(|line| line["pick"] == "retry").expect("one that was tried twice");
    assert_eq!((&retried["attempts"], &retried["instance"]), (&2.into(), &"ok".into()));
    assert!(retried.get("failure").is_none(), "{retried}");
}

#[test]
fn a_request_that_waited_says_so_and_for_how_long() {
    let (go, may_go) = mpsc::channel();
    let may_go = Mutex::new(may_go);
    let slow = Origin::start(move |peer| {
        while peer.request().is_some() {
            let _ = may_go.lock().expect("whole").recv_timeout(SOON);
            if peer.stream.write_all(OK).is_err() {
                return;
            }
        }
    });
    let (daemon, web, _) = logging("access = \"access.json\"", slow.address, "max_in_flight = 1");
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let ask = || std::thread::spawn(move || exchange(web, get));
    let first = ask();
    eventually("it is under way", SOON, || {
        (daemon.metric("tidegate_instance_in_flight", "") == 1.0).then_some(())
    });
    let second = ask();
    eventually("it waits", SOON, || {
        (daemon.metric("tidegate_queue_depth", "pool=\"web\"") == 1.0).then_some(())
    });
    // So long at least.
    std::thread::sleep(Duration::from_millis(50));
    for client in [first, second] {
        go.send(()).expect("the instance waits");
        assert!(client.join().expect("a thread").contains("200 OK"));
    }
    let told = so_many(&daemon, "access.json", 2);
    let waited = told.iter().find(|line| line["pick"] == "waited").expect("one waited");
    let ms = waited["wait_ms"].as_f64().expect("a time");
    assert!(ms > 10.0 && ms < waited["duration_ms"].as_f64().expect("a time"), "{waited}");
}

#[test]
fn a_tcp_connection_has_its_line_at_its_end() {
    let origin = echo();
    let (mut daemon, _, raw) = logging("access = \"access.json\"", origin.address, "");
    let mut client = connect(raw);
    client.write_all(b"hello").expect("sent");
    let mut back = [0; 5];
    client.read_exact(&mut back).expect("an echo");
    let still_open = connect(raw);
    assert!(lines(&daemon, "access.json").is_empty(), "not before");
    client.shutdown(std::net::Shutdown::Write).expect("ended");
    let mut rest = String::new();
    client.read_to_string(&mut rest).expect("the rest");
    let told = so_many(&daemon, "access.json", 1).remove(0);
    for (key, expected) in [
        ("listener", "raw"),
        ("protocol", "tcp"),
        ("pool", "web"),
        ("instance", "one"),
        ("zone", "a"),
        ("pick", "least-request"),
    ] {
        assert_eq!(told[key], expected, "{key} of {told}");
    }
    assert_eq!((&told["bytes_in"], &told["bytes_out"]), (&5.into(), &(5 + rest.len()).into()));
    assert!(told.get("status").is_none() && told.get("failure").is_none(), "{told}");
    // What is open when the daemon must end is told too.
    eventually("the other stands", SOON, || {
        (daemon.metric("tidegate_instance_in_flight", "") == 1.0).then_some(())
    });
    daemon.signal(Signal::TERM);
    eventually("it stops", SOON, || daemon.log().contains("stopping").then_some(()));
    daemon.signal(Signal::TERM);
    assert!(daemon.wait(SOON).success());
    drop(still_open);
    assert_eq!(so_many(&daemon, "access.json", 2)[1]["failure"], "stopped");
}

#[test]
fn a_tunnel_has_its_line_at_its_end() {
    let origin =
        tunnel::agreeing("101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo");
    let (daemon, web, _) = logging("access = \"access.json\"", origin.address, "");
    let sent = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello";
    let mut client = connect(web);
    client.write_all(sent.as_bytes()).expect("sent");
    client.shutdown(std::net::Shutdown::Write).expect("ended");
    let mut back = Vec::new();
    client.read_to_end(&mut back).expect("whole");
    let told = so_many(&daemon, "access.json", 1).remove(0);
    assert_eq!((&told["status"], &told["path"]), (&101.into(), &"/chat".into()));
    assert_eq!((&told["bytes_in"], &told["bytes_out"]), (&sent.len().into(), &back.len().into()));
    assert_eq!((&told["pick"], &told["instance"]), (&"least-request".into(), &"one".into()));
}

#[test]
fn a_file_that_was_moved_is_left_at_once_by_hup_and_soon_without() {
    let origin = Origin::answering(OK);
    let (daemon, web, _) = logging("access = \"access.json\"", origin.address, "");
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    exchange(web, get);
    so_many(&daemon, "access.json", 1);
    fs::rename(path(&daemon, "access.json"), path(&daemon, "access.1")).expect("moved");
    // Also if the config has faults by now.
    daemon.reload(|text| format!("{text}nonsense"));
    eventually("it is there again", SOON, || path(&daemon, "access.json").exists().then_some(()));
    exchange(web, get);
    so_many(&daemon, "access.json", 1);
    assert_eq!(lines(&daemon, "access.1").len(), 1);
    fs::rename(path(&daemon, "access.json"), path(&daemon, "access.2")).expect("moved");
    eventually("it is there again", SOON, || {
        exchange(web, get);
        path(&daemon, "access.json").exists().then_some(())
    });
}

#[test]
fn stdout_takes_it_too_in_the_combined_format() {
    let origin = Origin::answering(OK);
    let (mut daemon, web, raw) =
        logging("access = \"stdout\"\nformat = \"common\"", origin.address, "");
    exchange(web, "GET /\"x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUser-Agent: u a\r\n\r\n");
    eventually("the first line", SOON, || daemon.log().contains("GET /").then_some(()));
    drop(connect(raw));
    eventually("nothing is open", SOON, || {
        (daemon.metric("tidegate_connections_active", "") == 0.0).then_some(())
    });
    daemon.signal(Signal::TERM);
    assert!(daemon.wait(SOON).success());
    let log = daemon.log();
    let told: Vec<&str> = log.lines().filter(|line| line.starts_with("127.0.0.1 - - [")).collect();
    assert_eq!(told.len(), 2, "all is written at the end: {log}");
    assert!(told[0].ends_with("] \"GET /\\x22x HTTP/1.1\" 200 2 \"-\" \"u a\""), "{told:?}");
    assert!(told[1].contains("] \"CONNECT web TCP\" 200 0 \"-\" \"-\""), "{told:?}");
}
