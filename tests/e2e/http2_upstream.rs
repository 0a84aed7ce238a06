//! HTTP/2 to instances, from clients that speak HTTP/1.1.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, eventually, free_address, talk};
use crate::http::{exchange, front, status};
use crate::http2_origin::{Http2Origin, Setup, pattern, sum};
use crate::origin::Origin;
use crate::streaming::{connect, read_until};

const SOON: Duration = Duration::from_secs(10);

/// A daemon before instances that speak HTTP/2, with these further keys of the pool.
fn before(instances: &[SocketAddr], pool: &str) -> (Daemon, SocketAddr) {
    front(instances, "", &format!("upstream = \"h2\"\n{pool}"))
}

fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"))
}

/// The body of an answer whose length was announced.
fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head").1
}

/// The body of a chunked answer, and its trailers.
fn unchunk(answer: &[u8]) -> (Vec<u8>, String) {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let (mut rest, mut body) = (&answer[head..], Vec::new());
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").expect("a chunk line");
        let size = str::from_utf8(&rest[..end]).expect("text");
        let size = usize::from_str_radix(size, 16).expect("a size");
        rest = &rest[end + 2..];
        if size == 0 {
            return (body, String::from_utf8_lossy(rest).into_owned());
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

#[test]
fn heads_go_on_as_http2_has_them() {
    let origin = Http2Origin::start();
    let (daemon, bind) = before(&[origin.address], "");
    let answer = exchange(
        bind,
        "GET /head?q=<\"x\"> HTTP/1.1\r\nHost: a.test:81\r\nConnection: close, x-hop, te\r\n\
         X-Hop: 1\r\nTE: gzip;q=0.5, trailers\r\nUpgrade: foo\r\nKeep-Alive: 5\r\nAccept: */*\r\n\
         X-Forwarded-For: 6.6.6.6\r\nCookie: a=b; c=d\r\n\r\n",
    );
    assert_eq!(status(&answer), "200", "{answer}");
    let seen = body(&answer);
    assert!(seen.starts_with("GET http://a.test:81/head?q=%3C%22x%22%3E\n"), "{seen}");
    for line in ["te: trailers\n", "accept: */*\n", "x-forwarded-for: 127.0.0.1\n", "a=b; c=d\n"] {
        assert!(seen.contains(line), "{line:?} in {seen}");
    }
    for name in ["\nhost:", "connection:", "upgrade:", "keep-alive:", "x-hop:", "6.6.6.6"] {
        assert!(!seen.contains(name), "{name:?} in {seen}");
    }
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    let answer = get(bind, "/empty");
    assert!(answer.contains("content-length: 0\r\n"), "an h1 client is told the end: {answer}");
    for code in ["204", "304", "404", "503"] {
        let answer = get(bind, &format!("/status/{code}"));
        assert_eq!(status(&answer), code, "{answer}");
        assert_eq!(answer.contains("content-length: 0"), code >= "400", "{answer}");
    }
    let answer = exchange(bind, "HEAD /head HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.contains("content-length: ") && body(&answer).is_empty(), "{answer}");
    let answer = get(bind, "/interim");
    assert!(answer.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a.css>"), "{answer}");
    assert!(answer.contains("\r\n\r\nHTTP/1.1 200 OK\r\n") && answer.contains("after"), "{answer}");
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
    let workers = 2;
    assert!(origin.seen.connections.load(SeqCst) <= workers, "they are kept, one per worker");
}

#[test]
fn bodies_go_both_ways_whole_with_their_trailers() {
    let origin = Http2Origin::start();
    let (daemon, bind) = before(&[origin.address], "");
    for len in [1, 16_384, 65_536, 5_000_000] {
        let sent = pattern(len);
        let answer = talk(
            bind,
            format!("GET /big/{len} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        let (got, _) = unchunk(&answer.expect("an answer"));
        assert!(got == sent, "{} of {len} bytes came", got.len());
        let mut request = format!(
            "PUT /sum HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n"
        )
        .into_bytes();
        request.extend_from_slice(&sent);
        let (got, _) = unchunk(&talk(bind, &request).expect("an answer"));
        let expected = format!("{len} {:x} None", sum(&sent));
        assert_eq!(String::from_utf8_lossy(&got), expected);
    }
    let answer = exchange(
        bind,
        "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTE: trailers\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nyou\r\n0\r\nx-end: 7\r\n\r\n",
    );
    let (got, trailers) = unchunk(answer.as_bytes());
    assert_eq!(got, b"helloyou");
    assert!(trailers.contains("x-end: 7\r\n") && trailers.contains("x-echo: done\r\n"));
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn both_directions_go_on_at_once_for_as_long_as_they_like() {
    let origin = Http2Origin::start();
    // Longer than any pause that an upload may else make, and at a lower rate.
    let listener = "timeouts = { body = \"1s\" }\nlimits = { body_rate = \"1MiB\" }";
    let (daemon, bind) = front(&[origin.address], listener, "upstream = \"h2\"");
    let mut stream = connect(bind);
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    read_until(&mut stream, "\r\n\r\n");
    for pause in [0, 100, 3_000, 0] {
        thread::sleep(Duration::from_millis(pause));
        stream.write_all(b"4\r\nping\r\n").expect("sent");
        read_until(&mut stream, "4\r\nping\r\n");
    }
    stream.write_all(b"0\r\n\r\n").expect("sent");
    read_until(&mut stream, "0\r\nx-echo: done\r\n\r\n");
    // The response may be whole long before the upload, which goes on.
    let head = "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).expect("sent");
    read_until(&mut stream, "5\r\nfirst\r\n0\r\n\r\n");
    stream.write_all(b"half").expect("sent");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    read_until(&mut stream, "5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
    assert!(origin.seen.resets.lock().expect("whole").is_empty());
}

#[test]
fn many_requests_at_once_share_few_connections() {
    let origin = Http2Origin::start();
    let (daemon, bind) = before(&[origin.address], "max_in_flight = 300");
    let threads: Vec<_> = (0..200).map(|_| thread::spawn(move || get(bind, "/slow/500"))).collect();
    for thread in threads {
        let answer = thread.join().expect("an answer");
        assert_eq!(status(&answer), "200", "{answer}");
    }
    // Two workers; what is more than a hundred for one of them needs a second.
    let connections = origin.seen.connections.load(SeqCst);
    assert!(connections <= 4, "{connections} connections");
    assert!(origin.seen.peak.load(SeqCst) <= 100);
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
    assert_eq!(daemon.metric("tidegate_retries_total", ""), 0.0);
}

#[test]
fn an_instance_says_how_many_streams_it_takes() {
    let origin = Http2Origin::set_up(Setup { streams: 1, ..Setup::default() });
    let (daemon, bind) = before(&[origin.address], "keep_alive = { max = 2 }");
    let threads: Vec<_> = (0..24).map(|_| thread::spawn(move || get(bind, "/slow/50"))).collect();
    for thread in threads {
        let answer = thread.join().expect("an answer");
        assert_eq!(status(&answer), "200", "{answer}");
    }
    assert_eq!(origin.seen.peak.load(SeqCst), 1);
    assert!(origin.seen.connections.load(SeqCst) <= 4, "two for each worker");
    assert_eq!(daemon.metric("tidegate_retries_total", ""), 0.0, "none was refused");
}

#[test]
fn connections_end_when_they_have_served_their_time_or_number() {
    let origin = Http2Origin::start();
    let (daemon, bind) =
        before(&[origin.address], "keep_alive = { requests = 5 }\ntimeouts = { idle = \"1s\" }");
    let mut stream = connect(bind);
    for _ in 0..20 {
        stream.write_all(b"GET /empty HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
        read_until(&mut stream, "\r\n\r\n");
    }
    assert_eq!(origin.seen.connections.load(SeqCst), 4);
    eventually("the last one idles and is closed", SOON, || {
        (origin.seen.open.load(SeqCst) == 0).then_some(())
    });
    let (_second, alone) = before(&[origin.address], "keep_alive = { max = 0 }");
    for _ in 0..3 {
        assert_eq!(status(&get(alone, "/")), "200");
    }
    assert_eq!(origin.seen.connections.load(SeqCst), 7);
    eventually("none is kept", SOON, || (origin.seen.open.load(SeqCst) == 0).then_some(()));
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn what_an_instance_has_not_looked_at_is_sent_again_whatever_it_is() {
    let origin = Http2Origin::start();
    let (daemon, bind) = before(&[origin.address], "");
    let post = |path: &str| {
        let text = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
        );
        exchange(bind, &text)
    };
    assert_eq!(status(&post("/refuse/1")), "200");
    assert_eq!(origin.seen.count("/refuse/1"), 2);
    assert_eq!(daemon.retries("refused"), 1.0);
    let answer = post("/refuse/9");
    assert_eq!(status(&answer), "502", "once is enough where there is nobody else: {answer}");
    // What it has looked at and dropped is not, unless that does no harm.
    assert_eq!(status(&post("/drop")), "502");
    assert_eq!(origin.seen.count("/drop"), 1);
    assert_eq!(daemon.retries("reset"), 0.0);
}

#[test]
fn a_request_that_is_dropped_goes_elsewhere_if_that_does_no_harm() {
    let (one, other) = (Http2Origin::start(), Http2Origin::start());
    let (daemon, bind) = before(&[one.address, other.address], "");
    assert_eq!(status(&get(bind, "/drop")), "502");
    assert_eq!((one.seen.count("/drop"), other.seen.count("/drop")), (1, 1));
    assert_eq!(daemon.retries("reset"), 1.0);
    assert_eq!(daemon.failures("reset"), 1.0);
    assert_eq!(daemon.eligible("web"), 2, "one request says nothing of all others");
    let answer = get(bind, "/cut");
    assert!(answer.ends_with("4\r\nhalf\r\n"), "no end mark: {answer}");
    assert_eq!(daemon.failures("cut_response"), 1.0);
}

#[test]
fn an_instance_that_restarts_gracefully_under_load_fails_nothing() {
    let (one, other) = (Http2Origin::start(), Http2Origin::start());
    let (daemon, bind) = before(&[one.address, other.address], "");
    let before = one.seen.connections.load(SeqCst);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads: Vec<_> = (0..16)
        .map(|index| {
            let stop = std::sync::Arc::clone(&stop);
            thread::spawn(move || {
                let (mut stream, mut served) = (connect(bind), 0);
                while !stop.load(SeqCst) {
                    // Not to be repeated: only what was not looked at may be.
                    let method = if index % 2 == 0 { "POST" } else { "GET" };
                    let text =
                        format!("{method} /head HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
                    stream.write_all(text.as_bytes()).expect("sent");
                    let head = read_until(&mut stream, "\r\n\r\n");
                    assert_eq!(status(&head), "200", "{head}");
                    let length =
                        head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    let mut body = vec![0; length.expect("a length").parse().expect("a number")];
                    stream.read_exact(&mut body).expect("a body");
                    served += 1;
                }
                served
            })
        })
        .collect();
    let made = || one.seen.connections.load(SeqCst) - before;
    let mut restarts = 0;
    // On a busy machine a restart may come before anybody is back from the one before it.
    eventually("twenty restarts, and as many connections for them", 2 * SOON, || {
        thread::sleep(Duration::from_millis(30));
        one.leave();
        restarts += 1;
        (restarts >= 20 && made() >= 20).then_some(())
    });
    stop.store(true, SeqCst);
    let served: usize = threads.into_iter().map(|thread| thread.join().expect("all well")).sum();
    assert!(served > 20, "only {served} requests for {restarts} restarts");
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn an_instance_that_is_killed_under_load_fails_nothing_that_may_be_repeated() {
    let (mut one, other) = (Http2Origin::start(), Http2Origin::start());
    let (daemon, bind) = before(&[one.address, other.address], "");
    let load = thread::spawn(move || {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                thread::spawn(move || {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_secs(2) {
                        let answer = get(bind, "/slow/5");
                        assert_eq!(status(&answer), "200", "{answer}");
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("all well"));
    });
    eventually("both serve", SOON, || {
        let both = [&one, &other].iter().all(|it| it.seen.requests.load(SeqCst) > 20);
        both.then_some(())
    });
    one.kill();
    load.join().expect("all well");
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn an_instance_that_closes_after_each_request_fails_none_either() {
    let origin = Http2Origin::set_up(Setup { goaway_after: 1, ..Setup::default() });
    let (daemon, bind) = before(&[origin.address], "");
    let mut stream = connect(bind);
    for n in 0..50 {
        let text = format!("POST /empty?{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("sent");
        let head = read_until(&mut stream, "\r\n\r\n");
        assert_eq!(status(&head), "200", "{head}");
    }
    assert_eq!(origin.seen.connections.load(SeqCst), 50);
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn a_client_that_takes_nothing_stalls_its_own_stream_alone() {
    let origin = Http2Origin::start();
    let (daemon, bind) = before(&[origin.address], "");
    let slow: Vec<TcpStream> = (0..30)
        .map(|_| {
            let mut stream = connect(bind);
            stream.write_all(b"GET /flood/300 HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
            stream
        })
        .collect();
    eventually("all are being answered", SOON, || {
        (origin.seen.count("/flood/300") == 30).then_some(())
    });
    let took = eventually("what is on its way fills all windows", SOON, || {
        let began = Instant::now();
        let answer = get(bind, "/big/1000000");
        assert_eq!(status(&answer), "200");
        (daemon.metric("tidegate_instance_in_flight", "") >= 30.0).then(|| began.elapsed())
    });
    // Who stalls others does so for half a minute, until it is let go.
    assert!(took < SOON, "{took:?}");
    for _ in 0..20 {
        let text = "GET /big/300000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let (got, _) = unchunk(&talk(bind, text.as_bytes()).expect("an answer"));
        assert_eq!(got.len(), 300_000);
    }
    let workers = 2;
    assert!(origin.seen.connections.load(SeqCst) <= workers, "they share");
    // Whoever leaves has the instance stop.
    drop(slow);
    eventually("no stream goes on for a client that has left", SOON, || {
        (origin.seen.resets.lock().expect("whole").len() == 30).then_some(())
    });
}

#[test]
fn the_instance_is_told_when_a_client_has_left() {
    let origin = Http2Origin::start();
    let (daemon, bind) = before(&[origin.address], "");
    let mut stream = connect(bind);
    stream.write_all(b"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    eventually("it is asked", SOON, || (origin.seen.count("/silent") == 1).then_some(()));
    drop(stream);
    let reasons = eventually("it is told", SOON, || {
        Some(origin.seen.resets.lock().expect("whole").clone()).filter(|it| !it.is_empty())
    });
    assert_eq!(reasons, [h2::Reason::CANCEL]);
    assert_eq!(daemon.failures("client_gone"), 1.0);
    assert_eq!(status(&get(bind, "/")), "200");
}

#[test]
fn limits_of_time_hold_as_over_http1() {
    let origin = Http2Origin::start();
    let pool = "timeouts = { response = \"1s\" }\nretry = { per_try = \"300ms\", attempts = 1 }";
    let (daemon, bind) = before(&[origin.address], pool);
    let began = Instant::now();
    let answer = get(bind, "/silent");
    assert_eq!(status(&answer), "504", "{answer}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let text = "POST /silent HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(status(&exchange(bind, text)), "504");
    assert_eq!(daemon.failures("response_timeout"), 2.0);
}

#[test]
fn whoever_does_not_speak_http2_is_found_out_before_it_is_asked_anything() {
    let http1 = Origin::answering(crate::http::OK);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_at = silent.local_addr().expect("an address");
    let good = Http2Origin::start();
    let instances = [http1.address, silent_at, good.address];
    // In turns of three for each of two workers, so one of these comes to all of them.
    let pool = "balance = \"round-robin\"\ntimeouts = { connect = \"1s\" }";
    let (daemon, bind) = before(&instances, pool);
    for _ in 0..6 {
        let text = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(status(&exchange(bind, text)), "200");
    }
    assert!(!http1.text().contains("POST"), "{}", http1.text());
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
    assert!(daemon.log().contains("does not speak HTTP/2"), "{}", daemon.log());
}

#[test]
fn calls_that_fail_at_once_count_against_the_instance() {
    let bad = Http2Origin::set_up(Setup { unavailable: true, ..Setup::default() });
    let good = Http2Origin::start();
    let bind = free_address();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nbind = \"{bind}\"\npool = \"p\"\n[pool.p]\nupstream = \"h2\"\n\
         balance = \"round-robin\"\ninstances = [{{ address = \"{}\" }}, {{ address = \"{}\" }}]\n\
         [pool.p.outlier]\nfailures = 3\n",
        bad.address, good.address
    ));
    let mut failed = 0;
    eventually("it is ejected", SOON, || {
        let answer = get(bind, "/grpc");
        assert!(answer.contains("content-length: 0\r\n"), "{answer}");
        failed += usize::from(answer.contains("grpc-status: 14\r\n"));
        (daemon.eligible("p") == 1).then_some(())
    });
    assert!(failed >= 3, "{failed}");
    assert!(get(bind, "/grpc").contains("grpc-status: 0\r\n"));
}

/// A peer that is spoken to in frames.
struct Frames(TcpStream);

const SETTINGS: u8 = 4;
const PING: u8 = 6;

impl Frames {
    /// Takes the client's preface.
    fn greet(stream: &TcpStream) -> Self {
        let mut stream = stream.try_clone().expect("a socket");
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).expect("a preface");
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        Self(stream)
    }

    fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).expect("sent");
    }

    /// Says how many streams may be open.
    fn allow(&mut self, streams: u32) {
        let [a, b, c, d] = streams.to_be_bytes();
        self.write(SETTINGS, 0, 0, &[0, 3, a, b, c, d]);
    }

    /// The next frame: its type and its stream; `None` at the end.
    fn read(&mut self) -> Option<(u8, u32)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
    }

    /// The stream of the next request.
    fn request(&mut self) -> Option<u32> {
        loop {
            if let (1, stream) = self.read()? {
                return Some(stream);
            }
        }
    }

    /// Answers with `:status: 200` and nothing else.
    fn answer(&mut self, stream: u32) {
        self.write(1, 5, stream, &[0x88]);
    }
}

#[test]
fn a_connection_that_takes_no_stream_yet_is_waited_for() {
    let origin = Origin::start(|peer| {
        let mut frames = Frames::greet(&peer.stream);
        frames.allow(0);
        thread::sleep(Duration::from_millis(300));
        frames.allow(1);
        while let Some(stream) = frames.request() {
            frames.allow(0);
            frames.answer(stream);
            thread::sleep(Duration::from_millis(50));
            frames.allow(1);
        }
    });
    let (daemon, bind) = before(&[origin.address], "keep_alive = { max = 1 }");
    for _ in 0..6 {
        let answer = get(bind, "/");
        assert_eq!(status(&answer), "200", "{answer}");
    }
    assert!(*origin.connections.lock().expect("whole") <= 2, "one for each worker");
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn a_connection_that_is_silent_for_long_gets_no_more_streams_until_it_answers_a_ping() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let pinged = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let saw = std::sync::Arc::clone(&pinged);
    let origin = Origin::start(move |peer| {
        let mut frames = Frames::greet(&peer.stream);
        frames.allow(100);
        let first = count.fetch_add(1, SeqCst) == 0;
        let mut answered = 0;
        // The path of the first leads nowhere any more when it has answered once.
        while let Some((kind, stream)) = frames.read() {
            let silent = first && answered == 1;
            match kind {
                1 if !silent => {
                    frames.answer(stream);
                    answered += 1;
                }
                PING if silent => saw.store(true, SeqCst),
                _ => {}
            }
        }
    });
    let (daemon, bind) = before(&[origin.address], "");
    assert_eq!(status(&get(bind, "/")), "200");
    // Whoever is on it before that is known waits; it takes a few tries to be with the same worker.
    let waits: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = connect(bind);
            stream.write_all(b"POST /waits HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
            stream
        })
        .collect();
    eventually("it is asked for a sign of life", SOON, || pinged.load(SeqCst).then_some(()));
    for _ in 0..12 {
        let began = Instant::now();
        assert_eq!(status(&get(bind, "/")), "200");
        // Whoever is sent where it is silent waits for half a minute.
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
    let in_flight = daemon.metric("tidegate_instance_in_flight", "");
    assert!(in_flight >= 1.0, "those that wait go on: an instance may be busy");
    drop(waits);
    eventually("the last has left, and it is let go of", SOON, || {
        (daemon.metric("tidegate_instance_in_flight", "") == 0.0).then_some(())
    });
    assert_eq!(status(&get(bind, "/")), "200");
}
