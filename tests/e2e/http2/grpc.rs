//! gRPC calls that we fail ourselves: their clients are told in a status of gRPC's.

use std::time::Instant;

use bytes::Bytes;

use crate::daemon::{free_address, talk};
use crate::http::front;
use crate::http2::{Client, SOON, run};
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
