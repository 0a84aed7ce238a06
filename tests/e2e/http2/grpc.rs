//! gRPC calls that we fail ourselves: their clients are told in a status of gRPC's.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;

use crate::daemon::{free_address, talk};
use crate::http::front;
use crate::http2::{Client, SOON, run, whole};
use crate::origin::Origin;

/// What the client of a call is told: the status of HTTP, that of gRPC, and why.
async fn call(client: &mut Client, path: &str, timeout: Option<&str>) -> (u16, String, String) {
    let request = client.request("POST", path).header("content-type", "application/grpc+proto");
    let request =
        timeout.into_iter().fold(request, |request, it| request.header("grpc-timeout", it));
    let request = request.header("te", "trailers").body(()).expect("a request");
    let (response, mut stream) = client.send(request, false);
    stream.send_data(Bytes::from_static(b"\0\0\0\0\0"), true).expect("sent");
    let response = response.await.expect("answered");
    let field = |name| {
        let value = response.headers().get(name).expect("a field");
        value.to_str().expect("text").to_owned()
    };
    assert_eq!(field("content-type"), "application/grpc");
    assert!(response.body().is_end_stream(), "trailers only");
    (response.status().as_u16(), field("grpc-status"), field("grpc-message"))
}

fn told(status: &str, message: &str) -> (u16, String, String) {
    (200, status.to_owned(), message.to_owned())
}

#[test]
fn failures_have_a_status_of_grpc() {
    let silent = Origin::start(|peer| while peer.request().is_some() {});
    let route = "timeouts = { response = \"1s\" }\n\
                 [[route]]\nlistener = \"web\"\npath_prefix = \"/dead\"\npool = \"dead\"\n\
                 [pool.dead]\ninstances = [{ address = \"DEAD\" }]\nhealth.type = \"none\"\n";
    let route = route.replace("DEAD", &free_address().to_string());
    let (_daemon, bind) = front(&[silent.address], "", &route);
    run(async {
        let mut client = Client::connect(bind).await;
        let unreachable = call(&mut client, "/dead", None).await;
        assert_eq!(unreachable, told("14", "no instance could be reached"));
        let late = call(&mut client, "/a.B/C", None).await;
        assert_eq!(late, told("4", "the instance did not answer in time"));
    });
    // As far as HTTP/1.1 can tell it.
    let request = "POST /dead HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n\
                   Content-Length: 0\r\nConnection: close\r\n\r\n";
    let answer = talk(bind, request.as_bytes()).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\ngrpc-status: 14\r\n"),
        "{answer}"
    );
}

#[test]
fn a_call_ends_when_its_deadline_is_over() {
    let silent = Origin::start(|peer| while peer.request().is_some() {});
    // Long enough for the instance to be told in time, and shorter than any other limit.
    let (daemon, bind) = front(&[silent.address], "", "");
    run(async {
        let mut client = Client::connect(bind).await;
        let began = Instant::now();
        let late = call(&mut client, "/a.B/C", Some("2000m")).await;
        assert_eq!(late, told("4", "the exchange took too long"));
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    });
    assert_eq!(daemon.failures("total_timeout"), 1.0);
    assert!(silent.text().contains("grpc-timeout: 2000m\r\n"), "the instance knows it too");
}

/// Says a message in chunks, and then what its path tells.
fn begins() -> Origin {
    Origin::start(|peer| {
        // The call is not ended: of its request there is no more than this.
        let mut request = Vec::new();
        while !request.windows(4).any(|four| four == b"\r\n\r\n") {
            let mut piece = [0; 1024];
            let Ok(n @ 1..) = peer.stream.read(&mut piece) else { return };
            request.extend_from_slice(&piece[..n]);
        }
        let length = request.starts_with(b"POST /length");
        let framing = if length { "Content-Length: 100" } else { "Transfer-Encoding: chunked" };
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n{framing}\r\n\r\n");
        let message: &[u8] = if length { b"\0\0\0\0\0" } else { b"5\r\n\0\0\0\0\0\r\n" };
        let _ = peer.stream.write_all(head.as_bytes());
        let _ = peer.stream.write_all(message);
        let again = request.starts_with(b"POST /on");
        let until = Instant::now() + SOON;
        while !request.starts_with(b"POST /cut") && !length && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
            if again && peer.stream.write_all(message).is_err() {
                return;
            }
        }
        // Its client is to have what was said before that ends.
        std::thread::sleep(Duration::from_millis(200));
    })
}

#[test]
fn a_call_that_breaks_off_ends_with_a_status_behind_what_has_come() {
    let origin = begins();
    let (daemon, bind) = front(&[origin.address], "", "timeouts = { body = \"1s\" }");
    run(async {
        let mut client = Client::connect(bind).await;
        for (path, status, message) in [
            ("/cut", "14", "the instance broke its response off"),
            ("/silent", "14", "the instance stopped in its response"),
            ("/on", "4", "the exchange took too long"),
        ] {
            let request = client.request("POST", path).header("content-type", "application/grpc");
            let request = request.header("te", "trailers").header("grpc-timeout", "3S");
            let (response, mut upload) = client.send(request.body(()).expect("a request"), false);
            let response = response.await.expect("begun");
            assert_eq!(response.status(), 200, "{path}");
            let (_, body, trailers) = whole(response).await.expect("no reset");
            assert!(body.starts_with(b"\0\0\0\0\0") && body.len() % 5 == 0, "{path}: {body:?}");
            let field = |name| trailers.get(name).map(|value| value.to_str().expect("text"));
            assert_eq!(
                (field("grpc-status"), field("grpc-message")),
                (Some(status), Some(message))
            );
            let reason = poll_fn(|cx| upload.poll_reset(cx)).await.expect("reset");
            assert_eq!(reason, Reason::NO_ERROR, "{path}: the upload is of no use any more");
        }
        // What is not as long as announced is no message, whatever is said behind it.
        let request = client.request("POST", "/length").header("content-type", "application/grpc");
        let (response, _upload) = client.send(request.body(()).expect("a request"), false);
        let error = whole(response.await.expect("begun")).await.expect_err("broken off");
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{error}");
    });
    let counted =
        ["cut_response", "stalled_response", "total_timeout"].map(|it| daemon.failures(it));
    assert_eq!(counted, [2.0, 1.0, 1.0]);
}
