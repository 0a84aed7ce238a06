use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::model::{
    Admin, AgentCheck, HealthSettings, Instance, KeepAlive, Pool, ProxyVersion, UpstreamSettings,
};

mod calls;
mod tls;

const LONG: Duration = Duration::from_secs(10);

fn http() -> HealthCheck {
    HealthCheck::Http(HttpCheck::get("/healthz"))
}

fn order(address: SocketAddr, check: HealthCheck, timeout: Duration) -> ProbeOrder {
    let instance = Instance {
        id: "i".into(),
        pool: "p".into(),
        zone: "a".into(),
        address,
        weight: 1,
        vitals: Arc::default(),
    };
    let health = HealthSettings { check, ..HealthSettings::default() };
    let keep_alive = KeepAlive { max: 0, ..KeepAlive::default() };
    let upstream = UpstreamSettings { keep_alive, ..UpstreamSettings::default() };
    let pool = Arc::new(Pool { health, upstream, ..Pool::new("p".into()) });
    let instance = Arc::new(instance);
    let (asks, lane) = (Asks::Instance, Lane::Steady);
    ProbeOrder { instance, pool, asks, timeout, lane, number: 1 }
}

async fn probe(clock: Clock, order: &ProbeOrder) -> Result<Duration, ProbeError> {
    Prober::new(clock).probe(order, None).await
}

/// The same, of a pool whose instances are connected to so.
fn by(upstream: UpstreamSettings, order: ProbeOrder) -> ProbeOrder {
    let pool = Arc::new(Pool { upstream, ..Pool::clone(&order.pool) });
    ProbeOrder { pool, ..order }
}

async fn asked(
    address: SocketAddr,
    check: HealthCheck,
    timeout: Duration,
) -> Result<Duration, ProbeError> {
    probe(Clock::start(), &order(address, check, timeout)).await
}

/// The same of one that lets time run out. Where this machine is stalled just then, the probe says so,
/// and is made again.
async fn asked_in_vain(
    address: SocketAddr,
    check: HealthCheck,
    timeout: Duration,
) -> Result<Duration, ProbeError> {
    let mut outcome = asked(address, check.clone(), timeout).await;
    for _ in 0..9 {
        if !matches!(outcome, Err(ProbeError::Local(_))) {
            break;
        }
        outcome = asked(address, check.clone(), timeout).await;
    }
    outcome
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// Reads until the end of a request head.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request"));
    }
    String::from_utf8(head).expect("text")
}

/// Probes a server that answers the request with these pieces, each in a segment of its own, and
/// then closes. Returns the outcome and the request.
async fn answered(pieces: &[&[u8]], timeout: Duration) -> (Result<Duration, ProbeError>, String) {
    let (listener, address) = listener().await;
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let head = read_head(&mut stream).await;
        for piece in pieces {
            stream.write_all(piece).await.expect("a write");
            tokio::task::yield_now().await;
        }
        head
    };
    tokio::join!(asked(address, http(), timeout), server)
}

#[tokio::test]
async fn answers_are_judged_by_their_status() {
    type Row<'a> = (&'a [&'a [u8]], Result<(), ProbeError>);
    let table: [Row<'_>; 12] = [
        (&[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], Ok(())),
        (&[b"HTTP/1.0 204 No Content\r\n\r\n"], Ok(())),
        (&[b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"], Ok(())),
        (&[b"HTTP/1.1 200\r\n\r\n"], Ok(())),
        (&[b"HT", b"TP/1.1 2", b"00 O", b"K\r", b"\n\r\n"], Ok(())),
        (&[b"HTTP/1.1 503 Service Unavailable\r\n\r\n"], Err(ProbeError::Status(503))),
        (&[b"HTTP/1.1 404 Not Found\r\n\r\nwhat?"], Err(ProbeError::Status(404))),
        (&[], Err(ProbeError::Closed)),
        (&[b"HTTP/1.1 200 OK"], Err(ProbeError::NotHttp)),
        (&[b"SSH-2.0-OpenSSH_9.2\r\n"], Err(ProbeError::NotHttp)),
        (&[b"HTTP/1.1 2x0 OK\r\n\r\n"], Err(ProbeError::NotHttp)),
        (&[&[b'x'; 5_000]], Err(ProbeError::NotHttp)),
    ];
    for (pieces, expected) in table {
        let (outcome, request) = answered(pieces, LONG).await;
        assert_eq!(outcome.map(|_| ()), expected, "{pieces:?}");
        assert!(request.starts_with("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert!(request.contains("\r\nUser-Agent: tidegate-probe\r\n"), "{request}");
        assert!(request.contains("\r\nConnection: close\r\n"), "{request}");
    }
}

#[tokio::test]
async fn nobody_there_is_refused() {
    let (listener, address) = listener().await;
    drop(listener);
    for check in [HealthCheck::Tcp, http()] {
        let outcome = asked(address, check, LONG).await;
        assert_eq!(outcome, Err(ProbeError::Refused));
    }
    assert_eq!(ProbeError::Refused.to_string(), "connection refused");
}

#[tokio::test]
async fn one_that_accepts_and_says_nothing_is_out_of_time() {
    let (_listener, address) = listener().await;
    let timeout = Duration::from_millis(80);
    let clock = Clock::start();
    let outcome = asked_in_vain(address, http(), timeout).await;
    assert_eq!(outcome, Err(ProbeError::Timeout(timeout)));
    assert!(clock.elapsed() >= timeout);
    assert_eq!(ProbeError::Timeout(timeout).to_string(), "no answer within 80ms");
    assert!(probe(clock, &order(address, HealthCheck::Tcp, LONG)).await.is_ok(), "it does accept");
}

#[tokio::test]
async fn a_reset_is_told_as_such() {
    let (listener, address) = listener().await;
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        read_head(&mut stream).await;
        stream.set_zero_linger().expect("an option");
    };
    let (outcome, ()) = tokio::join!(asked(address, http(), LONG), server);
    assert_eq!(outcome, Err(ProbeError::Broken(io::ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn a_stall_of_this_node_is_not_blamed_on_the_instance() {
    let (_listener, address) = listener().await;
    let timeout = Duration::from_millis(50);
    let stall = async {
        tokio::task::yield_now().await;
        // Blocks the whole runtime on purpose, as an overloaded node would.
        std::thread::sleep(timeout + STALL + Duration::from_millis(100));
    };
    let (outcome, ()) = tokio::join!(asked(address, http(), timeout), stall);
    assert!(matches!(outcome, Err(ProbeError::Local(_))), "{outcome:?}");
}

#[tokio::test]
async fn the_whole_answer_is_read_and_the_end_is_clean() {
    let (listener, address) = listener().await;
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n";
        stream.write_all(head).await.expect("the head");
        tokio::task::yield_now().await;
        stream.write_all(&[b'x'; 30_000]).await.expect("the body is taken");
        stream.shutdown().await.expect("an end");
        stream.read(&mut [0; 8]).await
    };
    let (outcome, end) = tokio::join!(asked(address, http(), LONG), server);
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(end.expect("no reset"), 0, "the probe closed after the server");
}

#[tokio::test]
async fn a_connection_that_the_instance_keeps_open_ends_in_a_reset() {
    for check in [HealthCheck::Tcp, http()] {
        let (listener, address) = listener().await;
        let order = order(address, check, LONG);
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            if order.pool.health.check != HealthCheck::Tcp {
                read_head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("an answer");
            }
            stream.read(&mut [0; 8]).await
        };
        let (outcome, end) = tokio::join!(probe(Clock::start(), &order), server);
        assert!(outcome.is_ok(), "{outcome:?}");
        let end = end.expect_err("no orderly end, so no TIME_WAIT").kind();
        assert_eq!(end, io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn probes_come_as_the_traffic_of_the_pool_does() {
    const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (version, first) in
        [(ProxyVersion::V1, &b"PROXY UNKNOWN\r\n"[..]), (ProxyVersion::V2, LOCAL)]
    {
        for check in [HealthCheck::Tcp, http()] {
            let (listener, address) = listener().await;
            let order = by(
                UpstreamSettings {
                    source: Some([127, 0, 0, 9].into()),
                    proxy_protocol: Some(version),
                    ..UpstreamSettings::default()
                },
                order(address, check, LONG),
            );
            let server = async {
                let (mut stream, peer) = listener.accept().await.expect("a connection");
                let mut told = vec![0; first.len()];
                stream.read_exact(&mut told).await.expect("a header");
                if order.pool.health.check != HealthCheck::Tcp {
                    let head = read_head(&mut stream).await;
                    assert!(head.starts_with("GET /healthz HTTP/1.1\r\n"), "{head}");
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("an answer");
                }
                (peer.ip(), told)
            };
            let (outcome, (from, told)) = tokio::join!(probe(Clock::start(), &order), server);
            assert!(outcome.is_ok(), "{version:?}: {outcome:?}");
            assert_eq!((from, &told[..]), ([127, 0, 0, 9].into(), first), "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_source_that_is_not_ours_is_no_fault_of_the_instance() {
    let (_listener, address) = listener().await;
    let source = Some([192, 0, 2, 1].into());
    let upstream = UpstreamSettings { source, ..UpstreamSettings::default() };
    let order = by(upstream, order(address, HealthCheck::Tcp, LONG));
    let outcome = probe(Clock::start(), &order).await;
    assert!(matches!(outcome, Err(ProbeError::Local(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_lane_is_bounded_and_does_not_hold_up_the_others() {
    let (hanging, hangs) = listener().await;
    let (answering, answers) = listener().await;
    let held = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&held);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = hanging.accept().await {
            // Only a probe that runs sends a request.
            read_head(&mut stream).await;
            counted.fetch_add(1, Ordering::SeqCst);
            kept.push(stream);
        }
    });
    let prober = Prober::new(Clock::start());
    let (sender, mut results) = mpsc::channel(16);
    for _ in 0..Lane::Steady.width() + 50 {
        prober.start(order(hangs, http(), LONG), None, sender.clone());
    }
    let full = async {
        while held.load(Ordering::SeqCst) < Lane::Steady.width() {
            tokio::task::yield_now().await;
        }
    };
    time::timeout(LONG, full).await.expect("the lane fills up");
    let suspect = ProbeOrder { lane: Lane::Suspect, ..order(answers, http(), LONG) };
    prober.start(suspect, None, sender);
    let server = async {
        let (mut stream, _) = answering.accept().await.expect("a connection");
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("an answer");
    };
    let (result, ()) = tokio::join!(time::timeout(LONG / 2, results.recv()), server);
    let result = result.expect("in time").expect("a result");
    assert_eq!((result.order.lane, result.outcome.is_ok()), (Lane::Suspect, true));
    assert_eq!(held.load(Ordering::SeqCst), Lane::Steady.width(), "the rest waits its turn");
}

#[tokio::test]
async fn every_order_has_its_result_also_when_they_are_taken_slowly() {
    let (listener, address) = listener().await;
    drop(listener);
    let prober = Prober::new(Clock::start());
    let (sender, mut results) = mpsc::channel(1);
    for number in 0..200 {
        let order = ProbeOrder { number, ..order(address, http(), LONG) };
        prober.start(order, None, sender.clone());
    }
    drop(sender);
    let mut numbers = Vec::new();
    while let Some(result) = time::timeout(LONG, results.recv()).await.expect("in time") {
        assert_eq!(result.outcome, Err(ProbeError::Refused));
        numbers.push(result.order.number);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<u64>>());
}

/// A server that answers as `answer` says each request of each connection, until that is empty: then
/// it closes. Counts connections and requests.
async fn server(
    listener: TcpListener,
    counts: Arc<[AtomicUsize; 2]>,
    answer: impl Fn(usize) -> &'static [u8] + Copy + Send + 'static,
) {
    while let Ok((mut stream, _)) = listener.accept().await {
        counts[0].fetch_add(1, Ordering::SeqCst);
        let counts = Arc::clone(&counts);
        tokio::spawn(async move {
            loop {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                let text = answer(counts[1].fetch_add(1, Ordering::SeqCst));
                if text.is_empty() || stream.write_all(text).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Probes that keep connections, each with its outcome as `.` or `x`; and connections and requests.
async fn in_a_row(
    answer: impl Fn(usize) -> &'static [u8] + Copy + Send + 'static,
    orders: impl Fn(ProbeOrder, usize) -> ProbeOrder,
    probes: usize,
) -> (String, [usize; 2]) {
    let (listener, address) = listener().await;
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let serving = tokio::spawn(server(listener, Arc::clone(&counts), answer));
    let (prober, mut outcomes) = (Prober::new(Clock::start()), String::new());
    let order = by(UpstreamSettings::default(), order(address, http(), LONG));
    for n in 0..probes {
        let outcome = prober.probe(&orders(order.clone(), n), None).await;
        outcomes.push(if outcome.is_ok() { '.' } else { 'x' });
    }
    serving.abort();
    (outcomes, [0, 1].map(|n| counts[n].load(Ordering::SeqCst)))
}

const FINE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SICK: &[u8] = b"HTTP/1.1 500 Sick\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn ten_probes_share_a_connection() {
    let same = |order, _| order;
    let (outcomes, counts) = in_a_row(|_| FINE, same, 25).await;
    assert_eq!((outcomes.len(), counts), (25, [3, 25]));
    // One that says that it closes, or does not say where its answer ends, is believed.
    for unkept in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"[..],
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (outcomes, counts) = in_a_row(move |_| unkept, same, 3).await;
        assert_eq!((outcomes.as_str(), counts), ("...", [3, 3]));
    }
    let doubtful = |order, _| ProbeOrder { lane: Lane::Doubtful, ..order };
    let (outcomes, counts) = in_a_row(|_| FINE, doubtful, 3).await;
    assert_eq!((outcomes.as_str(), counts), ("...", [3, 3]), "only those that are up are kept");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_no_failure() {
    // Every third request is met with the end of the connection.
    let (outcomes, counts) =
        in_a_row(|n| if n % 3 == 2 { b"" } else { FINE }, |order, _| order, 6).await;
    assert_eq!((outcomes.as_str(), counts), ("......", [3, 8]));
    // On a new connection it is one.
    let (outcomes, counts) = in_a_row(|_| b"", |order, _| order, 2).await;
    assert_eq!((outcomes.as_str(), counts), ("xx", [2, 2]));
}

#[tokio::test]
async fn what_was_kept_for_another_check_is_not_used() {
    let changed = |order: ProbeOrder, n: usize| {
        let status = if n < 2 { vec![200..=399] } else { vec![500..=500] };
        let check = HealthCheck::Http(HttpCheck { status, ..HttpCheck::get("/") });
        let health = HealthSettings { check, ..order.pool.health.clone() };
        ProbeOrder { pool: Arc::new(Pool { health, ..Pool::clone(&order.pool) }), ..order }
    };
    let answer = |n| if n < 2 { FINE } else { SICK };
    let (outcomes, counts) = in_a_row(answer, changed, 4).await;
    assert_eq!((outcomes.as_str(), counts), ("....", [2, 4]));
}

#[tokio::test]
async fn a_check_has_its_own_port() {
    let (listener, address) = listener().await;
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let serving = tokio::spawn(server(listener, counts, |_| FINE));
    let elsewhere = SocketAddr::new(address.ip(), 1);
    let order = order(elsewhere, http(), LONG);
    let health = HealthSettings { port: Some(address.port()), ..order.pool.health.clone() };
    let pool = Arc::new(Pool { health, ..Pool::clone(&order.pool) });
    assert!(probe(Clock::start(), &ProbeOrder { pool, ..order }).await.is_ok());
    serving.abort();
}

#[tokio::test]
async fn agents_say_one_line() {
    for (pieces, expected) in [
        (&[&b"75% dr"[..], b"ain\r\nup"][..], "drain"),
        (&[b"maint"], "maint"),
        (&[b"\n"], ""),
        (&[], "no line"),
        (&[&[b'x'; 5_000]], ""),
    ] {
        let (listener, address) = listener().await;
        let elsewhere = SocketAddr::new(address.ip(), 1);
        let agent = AgentCheck { port: address.port(), interval: LONG };
        let order =
            ProbeOrder { asks: Asks::Agent(agent), ..order(elsewhere, HealthCheck::None, LONG) };
        let prober = Prober::new(Clock::start());
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            for piece in pieces {
                // The prober may have read enough.
                let _ = stream.write_all(piece).await;
                tokio::task::yield_now().await;
            }
        };
        let (sender, mut results) = mpsc::channel(1);
        prober.start(order, None, sender);
        let (result, ()) = tokio::join!(results.recv(), server);
        let said = result.expect("a result").said;
        let admin = said.map_or("no line", |line| match line.admin {
            Some(Admin::Draining) => "drain",
            Some(Admin::Maintenance) => "maint",
            _ => "",
        });
        assert_eq!(admin, expected, "{pieces:?}");
    }
}
