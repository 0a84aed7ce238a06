//! Checks by gRPC against a server of HTTP/2.

use ::http::{HeaderMap, Response};
use bytes::Bytes;

use super::*;

/// What the server says to a call.
#[derive(Clone, Copy)]
enum Say {
    /// A message with this status of service, then OK.
    Serving(u8),
    /// Nothing but a head with this status of gRPC.
    Only(&'static str),
    /// A status of HTTP.
    Http(u16),
    /// The end of the connection.
    Leave,
}

/// Answers calls, and counts connections and calls.
async fn server(
    listener: TcpListener,
    counts: Arc<[AtomicUsize; 2]>,
    say: impl Fn(usize) -> Say + Copy + Send + 'static,
) {
    while let Ok((stream, _)) = listener.accept().await {
        counts[0].fetch_add(1, Ordering::SeqCst);
        let counts = Arc::clone(&counts);
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(stream).await?;
            while let Some(call) = connection.accept().await {
                let (request, mut respond) = call?;
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let kind = Response::builder().header("content-type", "application/grpc");
                match say(counts[1].fetch_add(1, Ordering::SeqCst)) {
                    Say::Serving(status) => {
                        let mut body = respond.send_response(kind.body(()).expect("one"), false)?;
                        let message = vec![0, 0, 0, 0, 2, 8, status];
                        body.send_data(Bytes::from(message), false)?;
                        let mut ends = HeaderMap::new();
                        ends.insert("grpc-status", "0".parse().expect("a value"));
                        body.send_trailers(ends)?;
                    }
                    Say::Only(status) => {
                        let head = kind.header("grpc-status", status).body(()).expect("one");
                        respond.send_response(head, true)?;
                    }
                    Say::Http(status) => {
                        let head = Response::builder().status(status).body(()).expect("one");
                        respond.send_response(head, true)?;
                    }
                    Say::Leave => return Ok(()),
                }
            }
            Ok::<_, h2::Error>(())
        });
    }
}

fn grpc() -> HealthCheck {
    HealthCheck::Grpc(GrpcCheck { service: "a.B".into(), host: None })
}

/// Probes that keep connections; connections and calls.
async fn in_a_row(
    say: impl Fn(usize) -> Say + Copy + Send + 'static,
    probes: usize,
) -> (Vec<Result<(), ProbeError>>, [usize; 2]) {
    let (listener, address) = listener().await;
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let serving = tokio::spawn(server(listener, Arc::clone(&counts), say));
    let (prober, mut outcomes) = (Prober::new(Clock::start()), Vec::new());
    let order = by(UpstreamSettings::default(), order(address, grpc(), LONG));
    for _ in 0..probes {
        outcomes.push(prober.probe(&order, None).await.map(|_| ()));
    }
    serving.abort();
    (outcomes, [0, 1].map(|n| counts[n].load(Ordering::SeqCst)))
}

#[tokio::test]
async fn only_who_says_that_it_serves_passes() {
    for (say, expected) in [
        (Say::Serving(1), Ok(())),
        (Say::Serving(2), Err(ProbeError::NotServing("NOT_SERVING"))),
        (Say::Serving(3), Err(ProbeError::NotServing("SERVICE_UNKNOWN"))),
        (Say::Only("12"), Err(ProbeError::Grpc(12))),
        (Say::Only("0"), Err(ProbeError::NotGrpc)),
        (Say::Http(503), Err(ProbeError::Status(503))),
        (Say::Http(200), Err(ProbeError::NotGrpc)),
    ] {
        let (outcomes, _) = in_a_row(move |_| say, 1).await;
        assert_eq!(outcomes, [expected]);
    }
}

#[tokio::test]
async fn ten_calls_share_a_connection_and_one_that_was_closed_is_no_failure() {
    let (outcomes, counts) = in_a_row(|_| Say::Serving(1), 25).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(counts, [3, 25]);
    // Every third call is met with the end of the connection.
    let (outcomes, counts) =
        in_a_row(|n| if n % 3 == 2 { Say::Leave } else { Say::Serving(1) }, 6).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(counts, [3, 8]);
    // On a new connection it is one.
    let (outcomes, _) = in_a_row(|_| Say::Leave, 1).await;
    assert!(outcomes[0].is_err(), "{outcomes:?}");
}

#[tokio::test]
async fn who_speaks_something_else_is_told_from_who_is_silent() {
    let (listener, address) = listener().await;
    let speaks = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let (outcome, ()) = tokio::join!(asked(address, grpc(), LONG), speaks);
    assert_eq!(outcome, Err(ProbeError::NotGrpc));
    let timeout = Duration::from_millis(80);
    let outcome = asked_in_vain(address, grpc(), timeout).await;
    assert_eq!(outcome, Err(ProbeError::Timeout(timeout)));
    drop(listener);
    assert_eq!(asked(address, grpc(), LONG).await, Err(ProbeError::Refused));
}
