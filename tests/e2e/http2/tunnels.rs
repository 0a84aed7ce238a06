//! Streams that become WebSockets (RFC 8441), and CONNECT.

use std::future::poll_fn;
use std::io::{Read, Write};

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::Request;

use crate::daemon::eventually;
use crate::http::{front, proxy};
use crate::http2::{Client, SOON, is_idle, noise, run, upload};
use crate::origin::Origin;
use crate::tunnel::agreeing;

/// Agrees to a WebSocket with this answer to the key, greets and sends everything back.
fn websocket(accept: impl Fn(&str) -> String + Send + Sync + 'static) -> Origin {
    Origin::start(move |peer| {
        let Some(request) = peer.request() else { return };
        let request = String::from_utf8_lossy(&request).into_owned();
        let key = request.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
        let accept = accept(key.unwrap_or_default().trim());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\nwelcome"
        );
        let _ = peer.stream.write_all(head.as_bytes());
        let mut piece = vec![0; 65_536];
        while let Ok(n) = peer.stream.read(&mut piece)
            && n > 0
            && peer.stream.write_all(&piece[..n]).is_ok()
        {}
        let _ = peer.stream.write_all(b" and goodbye");
    })
}

fn connect_request(client: &Client, protocol: &'static str) -> Request<()> {
    let mut request = client
        .request("CONNECT", "/chat")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .body(())
        .expect("a request");
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request
}

/// Waits until the other side has said that it knows extended CONNECT.
async fn knows_it(client: &mut Client) {
    client.requests = client.requests.clone().ready().await.expect("ready");
    crate::http2::eventually_async(|| client.requests.is_extended_connect_protocol_enabled()).await;
}

async fn read(stream: &mut RecvStream, len: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < len {
        let data = stream.data().await.expect("more").expect("data");
        stream.flow_control().release_capacity(data.len()).expect("released");
        got.extend_from_slice(&data);
    }
    got
}

/// Sends much and gets it back, then ends and gets the rest.
async fn talk(send: &mut SendStream<Bytes>, recv: &mut RecvStream) {
    assert_eq!(read(recv, 7).await, b"welcome");
    let body = noise(2_000_000);
    let up = upload(send, &body);
    let (uploaded, back) = tokio::join!(up, read(recv, body.len()));
    uploaded.expect("taken");
    assert!(back[..body.len()] == body);
    let mut rest = back[body.len()..].to_vec();
    while let Some(data) = recv.data().await {
        rest.extend_from_slice(&data.expect("ended in order"));
    }
    assert_eq!(rest, b" and goodbye", "the end of one direction is passed on");
}

#[test]
fn a_stream_becomes_a_websocket_of_an_http1_instance() {
    let origin = websocket(|key| {
        String::from_utf8(tidegate::proxy::wire::websocket::accept(key.as_bytes()).to_vec())
            .expect("text")
    });
    let (daemon, bind) = front(&[origin.address], "", "timeouts = { tunnel = \"5s\" }");
    run(async {
        let mut client = Client::connect(bind).await;
        knows_it(&mut client).await;
        let request = connect_request(&client, "websocket");
        let (response, mut send) = client.send(request, false);
        let response = response.await.expect("answered");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let mut recv = response.into_body();
        talk(&mut send, &mut recv).await;
        let other = connect_request(&client, "connect-udp");
        let (response, _send) = client.send(other, false);
        assert_eq!(response.await.expect("answered").status(), 501);
    });
    let seen = origin.text();
    assert!(
        seen.starts_with("GET /chat HTTP/1.1\r\n") && seen.contains("upgrade: websocket\r\n"),
        "{seen}"
    );
    eventually("the tunnel is over", SOON, || is_idle(&daemon).then_some(()));
}

#[test]
fn an_instance_that_has_not_read_the_key_is_not_believed() {
    let origin = websocket(|_| "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned());
    let (daemon, bind) = proxy(&[origin.address], "");
    run(async {
        let mut client = Client::connect(bind).await;
        knows_it(&mut client).await;
        let request = connect_request(&client, "websocket");
        let (response, _send) = client.send(request, false);
        assert_eq!(response.await.expect("answered").status(), 502);
    });
    assert_eq!(daemon.failures("bad_response"), 1.0);
}

#[test]
fn a_broken_tunnel_is_reset() {
    let origin = Origin::start(|peer| {
        peer.request();
        let _ = peer.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nwelcome");
        let _ = peer.stream.read(&mut [0; 5]);
        let socket = socket2::SockRef::from(&peer.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).expect("a reset");
    });
    let (daemon, bind) = front(&[origin.address], "connect = \"forward\"", "");
    run(async {
        let mut client = Client::connect(bind).await;
        let request =
            Request::builder().method("CONNECT").uri("db.test:5432").body(()).expect("a request");
        let (response, mut send) = client.send(request, false);
        let mut recv = response.await.expect("answered").into_body();
        assert_eq!(read(&mut recv, 7).await, b"welcome");
        send.send_data(Bytes::from_static(b"hello"), false).expect("sent");
        let reason = poll_fn(|cx| send.poll_reset(cx)).await.expect("reset");
        assert_eq!(reason, h2::Reason::CANCEL);
    });
    assert_eq!(daemon.failures("cut_tunnel"), 1.0);
}

#[test]
fn connect_opens_a_tunnel_where_it_is_forwarded() {
    let origin = agreeing("200 Connection established");
    let (_daemon, bind) = front(&[origin.address], "connect = \"forward\"", "");
    run(async {
        let mut client = Client::connect(bind).await;
        let request =
            Request::builder().method("CONNECT").uri("db.test:5432").body(()).expect("a request");
        let (response, mut send) = client.send(request, false);
        let response = response.await.expect("answered");
        assert_eq!(response.status(), 200);
        talk(&mut send, &mut response.into_body()).await;
    });
    assert!(origin.text().starts_with("CONNECT db.test:5432 HTTP/1.1\r\n"));
}
