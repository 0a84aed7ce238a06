//! Bodies that take their time, in both directions at once, and connections that end in the middle.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::http::{OK, proxy};
use crate::origin::Origin;

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    stream
}

/// Reads until `end` has come, or fails.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        let read = stream.read(&mut byte);
        let so_far = String::from_utf8_lossy(&text).into_owned();
        assert!(matches!(read, Ok(1)), "{read:?} before {end:?}, after {so_far:?}");
        text.push(byte[0]);
    }
    String::from_utf8(text).expect("text")
}

#[test]
fn a_chunk_goes_on_before_the_next_one_comes() {
    let origin = Origin::start(|peer| {
        while peer.request().is_some() {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
            let _ = peer.stream.write_all(head);
            // The rest is sent when the client has seen this much.
            let _ = peer.stream.read(&mut [0; 1]);
        }
    });
    let (_daemon, bind) = proxy(&[origin.address], "");
    let mut stream = connect(bind);
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    read_until(&mut stream, "5\r\nhello");
}
