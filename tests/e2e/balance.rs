//! Which instance a client comes to, and whether it stays.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use rustix::process::Signal;

use crate::daemon::{Daemon, eventually, free_address};
use crate::http::{exchange, front, status};
use crate::origin::Origin;

const SOON: Duration = Duration::from_secs(20);

/// An instance that answers with its own address.
fn naming() -> Origin {
    Origin::start(|peer| {
        let Ok(address) = peer.stream.local_addr() else { return };
        let body = address.to_string();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        while peer.request().is_some() && peer.stream.write_all(answer.as_bytes()).is_ok() {}
    })
}

fn addresses(origins: &[Origin]) -> Vec<SocketAddr> {
    origins.iter().map(|origin| origin.address).collect()
}

/// One request with these further lines; the answer.
fn get(bind: SocketAddr, lines: &str) -> String {
    exchange(bind, &format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n"))
}

/// Who answered.
fn home(answer: &str) -> &str {
    assert_eq!(status(answer), "200", "{answer}");
    answer.rsplit("\r\n").next().expect("a body")
}

/// The cookie that an answer sets: what to send back, and its attributes.
fn cookie(answer: &str) -> Option<(&str, &str)> {
    let line = answer.lines().find_map(|line| line.strip_prefix("set-cookie: "))?;
    line.split_once("; ")
}

/// Takes an instance out of the pool, or back in.
fn drain(daemon: &Daemon, instance: &str, verb: &str, left: usize) {
    let path = format!("/api/v1/pools/web/instances/{instance}/{verb}");
    assert_eq!(daemon.post(&path).expect("an answer").0, 200, "{path}");
    let done = || (daemon.eligible("web") == left).then_some(());
    eventually("as many as are left", SOON, done);
}

#[test]
fn a_client_stays_with_its_instance_over_reload_and_restart_until_that_leaves() {
    let origins: Vec<Origin> = (0..4).map(|_| naming()).collect();
    let pool = "balance = \"random\"\nsticky = { cookie = \"home\", ttl = \"1h\" }";
    let (daemon, bind) = front(&addresses(&origins), "", pool);
    let first = get(bind, "");
    let own = home(&first).to_owned();
    let (value, attributes) = cookie(&first).expect("bound");
    let lines = format!("Cookie: theme=dark; {value}\r\n");
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=3600");
    assert!(!value.contains("127.0.0.1"), "it tells nobody an address: {value}");
    let stays = |bind: SocketAddr| {
        for _ in 0..12 {
            let answer = get(bind, &lines);
            assert_eq!((home(&answer), cookie(&answer)), (own.as_str(), None));
        }
    };
    stays(bind);
    // A forged one is as good as none.
    let forged = format!("Cookie: home={}\r\n", "1".repeat(23));
    assert!(cookie(&get(bind, &forged)).is_some());

    let was = daemon.json("/api/v1/status")["generation"].as_u64();
    daemon.reload(|text| text.replace("balance =", "retry.attempts = 1\nbalance ="));
    eventually("the reload", SOON, || {
        (daemon.json("/api/v1/status")["generation"].as_u64() > was).then_some(())
    });
    stays(bind);

    let text = std::fs::read_to_string(daemon.config_path()).expect("the config");
    let keys = daemon.dir.path().join("state/keys/sticky.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&keys).expect("kept").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let dir = daemon.crash();
    let after = text.split_once("[[listener]]").expect("the part of the test").1;
    let daemon = Daemon::start_in(dir, &format!("[[listener]]{after}"));
    stays(bind);

    drain(&daemon, &own, "drain", 3);
    let moved = get(bind, &lines);
    assert_ne!(home(&moved), own);
    let (value, _) = cookie(&moved).expect("bound anew");
    let lines = format!("Cookie: {value}\r\n");
    for _ in 0..12 {
        let answer = get(bind, &lines);
        assert_eq!((home(&answer), cookie(&answer)), (home(&moved), None));
    }
    daemon.signal(Signal::TERM);
}

#[test]
fn keys_keep_their_instance_when_another_leaves() {
    for balance in ["maglev", "ring"] {
        let origins: Vec<Origin> = (0..8).map(|_| naming()).collect();
        let pool = format!("balance = \"{balance}\"\nhash = \"header:x-user\"");
        let (daemon, bind) = front(&addresses(&origins), "", &pool);
        let homes = || -> Vec<String> {
            let user = |n| home(&get(bind, &format!("X-User: user-{n}\r\n"))).to_owned();
            (0..80).map(user).collect()
        };
        let before = homes();
        assert_eq!(homes(), before, "{balance}");
        let used: BTreeMap<&String, usize> =
            before.iter().fold(BTreeMap::new(), |mut seen, home| {
                *seen.entry(home).or_default() += 1;
                seen
            });
        assert!(used.len() >= 6, "{balance}: {used:?}");
        let gone = before[0].clone();
        drain(&daemon, &gone, "drain", 7);
        let after = homes();
        let disturbed = before.iter().zip(&after).filter(|(a, b)| a != b && **a != gone).count();
        assert!(after.iter().all(|home| *home != gone), "{balance}");
        assert!(
            disturbed <= if balance == "ring" { 0 } else { 12 },
            "{balance}: {disturbed} of 80"
        );
        drain(&daemon, &gone, "undrain", 8);
        assert_eq!(homes(), before, "{balance}: all are where they were");
    }
}

#[test]
fn peak_ewma_leaves_an_instance_alone_that_fails_at_once() {
    const REQUESTS: usize = 200;
    let failed_of = |balance: &str| {
        let failing = Origin::answering(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
        let fine: Vec<Origin> = (0..3)
            .map(|_| {
                Origin::start(|peer| {
                    while peer.request().is_some() {
                        // What it takes to answer is what is tested.
                        std::thread::sleep(Duration::from_millis(5));
                        if peer.stream.write_all(crate::http::OK).is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        let mut all = vec![failing.address];
        all.extend(addresses(&fine));
        let (_daemon, bind) = front(
            &all,
            "",
            &format!("balance = \"{balance}\"\noutlier = {{ max_ejected = \"0%\" }}"),
        );
        let mut stream = crate::streaming::connect(bind);
        let mut failed = 0;
        for _ in 0..REQUESTS {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
            let mut answer = [0; 4096];
            let len = stream.read(&mut answer).expect("an answer");
            failed += usize::from(answer[..len].starts_with(b"HTTP/1.1 500"));
        }
        failed
    };
    let (learns, does_not) = (failed_of("peak-ewma"), failed_of("least-request"));
    assert!(learns <= 2, "{learns} of {REQUESTS}");
    // Each draws one of four alike: a tenth is five deviations below a quarter.
    assert!(does_not >= REQUESTS / 10, "{does_not} of {REQUESTS}");
}

#[test]
fn weights_divide_requests_and_tcp_clients_keep_their_instance() {
    let origins = [naming(), naming()];
    let bind = free_address();
    let tcp = free_address();
    let config = format!(
        "[[listener]]\nbind = \"{bind}\"\npool = \"web\"\n\
         [[listener]]\nbind = \"{tcp}\"\nprotocol = \"tcp\"\npool = \"raw\"\n\
         [pool.web]\nbalance = \"round-robin\"\ninstances = [{{ address = \"{0}\", weight = 3 }}, {{ address = \"{1}\" }}]\n\
         [pool.web.health]\ntype = \"none\"\n\
         [pool.raw]\nbalance = \"maglev\"\ninstances = [{{ address = \"{0}\" }}, {{ address = \"{1}\" }}]\n\
         [pool.raw.health]\ntype = \"none\"\n",
        origins[0].address, origins[1].address
    );
    let _daemon = Daemon::start(&config);
    let heavy = origins[0].address.to_string();
    // Each worker has a turn of its own.
    let seen = (0..80).filter(|_| home(&get(bind, "")) == heavy).count();
    assert!((57..=63).contains(&seen), "three of four, not {seen} of 80");
    // The instance closes when the client has said all that it has to say.
    let raw = || {
        let mut stream = crate::streaming::connect(tcp);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
        stream.shutdown(Shutdown::Write).expect("open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        home(&answer).to_owned()
    };
    let first = raw();
    assert!((0..20).all(|_| raw() == first));
}
