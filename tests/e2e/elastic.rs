//! Pools that come from nothing and go there again, and that get another size or program.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::daemon::{Daemon, eventually, free_address, free_port, signal_all};
use crate::load::Load;

/// A pool that may be empty, of instances that take 3 s to boot.
fn empty(bind: SocketAddr, protocol: &str) -> String {
    let port = free_port();
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"{bind}\"\npool = \"web\"\nprotocol = \"{protocol}\"\n\
         [pool.web]\nport = {port}\ndrain_timeout = \"5s\"\n\
         queue = {{ max = 100, timeout = \"20s\" }}\n\
         [pool.web.health]\ntype = \"tcp\"\ninterval = \"2s\"\ntimeout = \"1s\"\n\
         [pool.web.scaling]\nmin = 0\nmax = 6\ntarget_requests_per_second = 40\n\
         scale_in = {{ hold = \"3s\", rate = \"100%\" }}\n\
         [pool.web.provisioner]\nkind = \"process\"\nzones = [\"a\", \"b\", \"c\"]\nstop = \"terminate\"\n\
         command = [\"{{self}}\", \"whoami\", \"--listen\", \"{{address}}\", \"--boot\", \"3s\"]\n"
    )
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Sends `count` requests at once; how many were answered 200.
fn all_at_once(bind: SocketAddr, count: usize) -> usize {
    let ask = move || {
        let mut client = TcpStream::connect(bind).expect("it listens");
        // Longer than anybody waits in the queue.
        client.set_read_timeout(Some(Duration::from_secs(40))).expect("a time");
        client.write_all(REQUEST).expect("sent");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("an answer");
        answer
    };
    let clients: Vec<_> = (0..count).map(|_| std::thread::spawn(ask)).collect();
    let answers = clients.into_iter().map(|client| client.join().expect("a thread"));
    answers.filter(|answer| answer.starts_with(b"HTTP/1.1 200")).count()
}

#[test]
fn fifty_requests_to_an_empty_pool_wait_for_its_first_machine() {
    let bind = free_address();
    let daemon = Daemon::start(&empty(bind, "http"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(daemon.instances("web").len(), 0, "nobody has asked for anything");
    assert_eq!(daemon.metric("tidegate_scaling_desired", "pool=\"web\""), 0.0);
    assert_eq!(daemon.json("/api/v1/pools/web")["desired"], 0);

    assert_eq!(all_at_once(bind, 50), 50);
    assert!(daemon.eligible("web") >= 1);
    eventually("the pool is empty again", Duration::from_secs(40), || {
        daemon.instances("web").is_empty().then_some(())
    });
    assert_eq!(daemon.get("/readyz").expect("an answer").0, 200, "an empty pool is a pool");
    assert_eq!(daemon.metric("tidegate_instances", "pool=\"web\""), 0.0);
    assert_eq!(all_at_once(bind, 1), 1, "and one request is enough");
}

#[test]
fn a_connection_to_an_empty_pool_waits_and_keeps_its_machine() {
    let bind = free_address();
    let daemon = Daemon::start(&empty(bind, "tcp"));
    let began = Instant::now();
    let mut client = TcpStream::connect(bind).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(40))).expect("a time");
    client.write_all(b"GET /?delay=10s HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let mut answer = [0; 12];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    // A hold and a drain would have been over before that.
    assert!(began.elapsed() > Duration::from_secs(13) && daemon.eligible("web") == 1);
}

/// A pool of six small instances.
fn six(bind: SocketAddr) -> String {
    let port = free_port();
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"{bind}\"\npool = \"web\"\n\
         [pool.web]\nport = {port}\ndrain_timeout = \"5s\"\nslow_start = \"1s\"\n\
         [pool.web.health]\ntype = \"http\"\npath = \"/healthz\"\ninterval = \"2s\"\ntimeout = \"1s\"\n\
         [pool.web.scaling]\nmin = 6\nmax = 12\ntarget_requests_per_second = 40\n\
         scale_in = {{ hold = \"4s\", rate = \"100%\" }}\n\
         sizes = [{{ name = \"small\", units = 1 }}, {{ name = \"large\", units = 2 }}]\n\
         size = \"small\"\n\
         [pool.web.provisioner]\nkind = \"process\"\nzones = [\"a\", \"b\", \"c\"]\nstop = \"terminate\"\n\
         command = [\"{{self}}\", \"whoami\", \"--listen\", \"{{address}}\", \"--id\", \"{{size}}-{{id}}\"]\n"
    )
}

fn weights(daemon: &Daemon) -> Vec<u64> {
    let weight = |i: &serde_json::Value| i["weight"].as_u64().expect("a weight");
    daemon.instances("web").iter().map(weight).collect()
}

/// Waits until the roll that was told of last is over.
fn rolled(daemon: &Daemon, rolls: usize) {
    eventually("the roll is over", Duration::from_secs(90), || {
        let journal = daemon.json("/api/v1/pools/web/scaling?limit=200");
        let decisions = journal["decisions"].as_array().expect("decisions");
        let over = |d: &&serde_json::Value| {
            d["reason"].as_str().is_some_and(|r| r.starts_with("rolled: all"))
        };
        (decisions.iter().filter(over).count() == rolls).then_some(())
    });
}

#[test]
fn a_pool_is_rolled_over_to_another_program_and_size_and_no_request_fails() {
    let bind = free_address();
    let daemon = Daemon::start(&six(bind));
    eventually("six serve", Duration::from_secs(15), || {
        (daemon.eligible("web") == 6).then_some(())
    });
    let load = Load::start(bind, 40, 200);
    std::thread::sleep(Duration::from_secs(2));

    let before = daemon.instance_pids("web", None);
    daemon.reload(|text| text.replace("{size}-{id}", "new-{size}-{id}"));
    rolled(&daemon, 1);
    let after = daemon.instance_pids("web", None);
    assert!(!after.iter().any(|pid| before.contains(pid)), "all are new");
    assert!(weights(&daemon).len() >= 6 && weights(&daemon).iter().all(|weight| *weight == 1));

    daemon.reload(|text| text.replace("size = \"small\"", "size = \"large\""));
    rolled(&daemon, 2);
    // What was taken away last may be listed for a moment still, and one more of the small or the
    // large kind may have been ordered for the load; what must hold is that large ones alone remain,
    // of half the number.
    eventually("half as many large ones serve", Duration::from_secs(15), || {
        let large = weights(&daemon);
        (large.len() <= 5 && large.iter().all(|weight| *weight == 2)).then_some(())
    });
    let so_far = load.so_far().ok;
    eventually("the large ones carry all", Duration::from_secs(10), || {
        (load.so_far().ok > so_far + 200).then_some(())
    });
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    let named = |prefix: &str| tally.instances.keys().filter(|id| id.starts_with(prefix)).count();
    let each = [named("small-"), named("new-small-"), named("new-large-")];
    // More than six units may have come for the load as it began, never more than `max`.
    assert!((6..=12).contains(&each[0]) && (6..=12).contains(&each[1]), "{:?}", tally.instances);
    assert!((3..=6).contains(&each[2]), "{:?}", tally.instances);
}

#[test]
fn a_faulty_command_is_given_up_once_also_if_the_daemon_starts_anew() {
    let config = six(free_address()).replace("stop = \"terminate\"", "stop = \"keep\"");
    let mut daemon = Daemon::start(&config);
    let serves = |daemon: &Daemon| {
        eventually("six serve", Duration::from_secs(15), || {
            (daemon.eligible("web") == 6).then_some(())
        });
    };
    serves(&daemon);
    let before = daemon.instance_pids("web", None);
    let faulty = config.replace("\"whoami\"", "\"whowasi\"");
    daemon.reload(|text| text.replace("\"whoami\"", "\"whowasi\""));
    let rolls = |daemon: &Daemon| {
        let journal = daemon.json("/api/v1/pools/web/scaling?limit=200");
        let decisions = journal["decisions"].as_array().expect("decisions").clone();
        let of_rolls = decisions.into_iter().filter(|decision| decision["winner"] == "roll");
        of_rolls.map(|d| d["reason"].as_str().expect("a reason").to_owned()).collect::<Vec<_>>()
    };
    eventually("it is given up", Duration::from_secs(60), || {
        rolls(&daemon).first()?.contains("the roll stops").then_some(())
    });
    let told = rolls(&daemon);
    daemon.signal(Signal::TERM);
    assert!(daemon.wait(Duration::from_secs(15)).success());

    let daemon = Daemon::start_in(daemon.crash(), &faulty);
    serves(&daemon);
    let ticks = || daemon.metric("tidegate_provisioner_operations_total", "operation=\"list\"");
    let began = ticks();
    eventually("it has decided ten times", Duration::from_secs(30), || {
        (ticks() >= began + 10.0).then_some(())
    });
    assert_eq!(rolls(&daemon), told, "nothing is rolled any more");
    assert_eq!(daemon.instance_pids("web", None), before);
    signal_all(&before, Signal::KILL);
}
