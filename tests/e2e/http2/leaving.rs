//! How connections end: idle, after so many requests, with the listener, with the daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use rustix::process::Signal;

use crate::daemon::eventually;
use crate::http::{OK, front, proxy};
use crate::http2::floods::Raw;
use crate::http2::{Client, SOON, eventually_async, is_idle, run, whole};
use crate::origin::Origin;

#[test]
fn a_connection_that_idles_is_told_to_go() {
    let origin = Origin::answering(OK);
    let (daemon, bind) = proxy(&[origin.address], "");
    run(async {
        let mut client = Client::connect(bind).await;
        client.get("/").await.expect("answered");
        let ended = client.ended.await.expect("no panic");
        assert!(ended.is_ok(), "GOAWAY without an error: {ended:?}");
    });
    eventually("it is closed", SOON, || is_idle(&daemon).then_some(()));
    // One that begins and never says anything, and one that never finishes its head.
    for bytes in [&b""[..], &[0, 0, 4, 1, 1, 0, 0, 0, 1, 0x82]] {
        let began = Instant::now();
        let mut raw = Raw::connect(bind);
        raw.write(bytes);
        while raw.read().is_some() {}
        // A second for a head, one for a word of goodbye, and one for the client to close.
        assert!(began.elapsed() < SOON, "{bytes:?}");
    }
}

#[test]
fn so_many_requests_and_no_more_but_none_is_lost() {
    let origin = Origin::answering(OK);
    let listener = "limits = { requests = 5 }";
    let (_daemon, bind) = front(&[origin.address], listener, "");
    run(async {
        let mut client = Client::connect(bind).await;
        for n in 0..5 {
            assert_eq!(client.get("/").await.expect("answered").0.status(), 200, "{n}");
        }
        let ended = client.ended.await.expect("no panic");
        assert!(ended.is_ok(), "GOAWAY without an error: {ended:?}");
    });
}

/// A client that goes on with a new connection wherever it is told to.
async fn go_on(bind: std::net::SocketAddr, stop: Arc<AtomicBool>) -> u32 {
    let mut done = 0;
    let mut client = Client::connect(bind).await;
    while !stop.load(Relaxed) {
        match client.get("/").await {
            Ok((head, _)) => {
                assert_eq!(head.status(), 200);
                done += 1;
            }
            // Not heard: RFC 9113 §6.8 and §8.7 let it be sent again.
            Err(error)
                if error.reason() == Some(Reason::REFUSED_STREAM)
                    || (error.is_go_away() && error.reason() == Some(Reason::NO_ERROR)) =>
            {
                client = Client::connect(bind).await;
            }
            Err(error) => panic!("after {done} requests: {error}"),
        }
    }
    done
}

#[test]
fn reloads_lose_no_request() {
    let origin = Origin::answering(OK);
    let (daemon, bind) = front(&[origin.address], "limits = { requests = 300 }", "");
    run(async {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> =
            (0..8).map(|_| tokio::task::spawn_local(go_on(bind, Arc::clone(&stop)))).collect();
        for n in 0..5 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            daemon.reload(|config| format!("{config}# {n}\n"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        stop.store(true, Relaxed);
        for client in clients {
            assert!(client.await.expect("no failed request") > 0);
        }
    });
}

#[test]
fn a_daemon_that_ends_says_so_and_lets_streams_finish() {
    let go = Arc::new(AtomicBool::new(false));
    let may = Arc::clone(&go);
    let origin = Origin::start(move |peer| {
        while peer.request().is_some() {
            while !may.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = std::io::Write::write_all(&mut peer.stream, OK);
        }
    });
    let (mut daemon, bind) = front(&[origin.address], "", "");
    run(async {
        let mut client = Client::connect(bind).await;
        let mut idle = Client::connect(bind).await;
        go.store(true, Relaxed);
        idle.get("/").await.expect("answered");
        go.store(false, Relaxed);
        let seen = origin.text().matches("GET /").count();
        let request = client.request("GET", "/").body(()).expect("a request");
        let (response, _) = client.send(request, true);
        eventually_async(|| origin.text().matches("GET /").count() > seen).await;
        daemon.signal(Signal::TERM);
        assert!(idle.ended.await.expect("no panic").is_ok(), "told to go");
        go.store(true, Relaxed);
        let (head, body, _) = whole(response.await.expect("answered")).await.expect("whole");
        assert_eq!((head.status().as_u16(), body), (200, Bytes::from_static(b"ok")));
        assert!(client.ended.await.expect("no panic").is_ok(), "told to go");
    });
    assert!(daemon.wait(SOON).success());
}
