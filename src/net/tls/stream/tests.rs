use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{ServerConnection, StreamOwned, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::net::half::halves;
use crate::net::stream::Stream;
use crate::net::tls::ends::{Material, VERSIONS, localhost, material};

/// Nothing here takes longer.
const LIMIT: Duration = Duration::from_secs(20);

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).await.expect("connected");
    let (server, _) = listener.accept().await.expect("accepted");
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("an option");
    }
    (client, server)
}

/// Both ends shake hands; the client's last word goes out without waiting for the first data.
async fn shake(
    client: &TlsStream,
    server: &TlsStream,
) -> (Result<(), HandshakeError>, Result<(), HandshakeError>) {
    let client = async {
        client.handshake().await?;
        poll_fn(|cx| client.poll_flush(cx)).await.map_err(HandshakeError::Socket)
    };
    let both = async { tokio::join!(client, server.handshake()) };
    timeout(LIMIT, both).await.expect("in time")
}

/// Both ends of a connection, after their handshake.
async fn pair(version: &'static SupportedProtocolVersion) -> (Stream, Stream) {
    let material = material();
    let (client, server) = sockets().await;
    let server = TlsStream::server(server, material.server(&[version])).expect("a server");
    let client =
        TlsStream::client(client, material.client(&[version]), localhost()).expect("a client");
    let (one, other) = shake(&client, &server).await;
    one.expect("a handshake");
    other.expect("a handshake");
    (client.into(), server.into())
}

fn pattern(len: u32) -> Vec<u8> {
    (0..len).map(|n| (n / 7 * 3) as u8).collect()
}

/// Writes `bytes`, and expects the same of the other, read in pieces of `step`.
async fn talk(stream: &mut Stream, bytes: &[u8], step: usize) {
    let (mut reads, mut writes) = halves(stream);
    let write = async {
        writes.write_all(&bytes[..10]).await.expect("written");
        let pieces = [IoSlice::new(&bytes[10..30]), IoSlice::new(&bytes[30..])];
        let moved = writes.write_vectored(&pieces).await.expect("written");
        writes.write_all(&bytes[10 + moved..]).await.expect("written");
        writes.shutdown().await.expect("ended");
    };
    let read = async {
        let (mut copy, mut space) = (Vec::new(), vec![0; step]);
        loop {
            match reads.read(&mut space).await.expect("read") {
                0 => return copy,
                n => copy.extend_from_slice(&space[..n]),
            }
        }
    };
    let ((), copy) = tokio::join!(write, read);
    assert!(copy == bytes, "{} of {} bytes came", copy.len(), bytes.len());
}

#[tokio::test]
async fn much_goes_both_ways_at_once() {
    for version in VERSIONS {
        let (mut client, mut server) = pair(version).await;
        let bytes = pattern(3_000_000);
        let both = async {
            tokio::join!(talk(&mut client, &bytes, 16_384), talk(&mut server, &bytes, 777))
        };
        timeout(LIMIT, both).await.expect("in time");
        assert!(client.has_ended() && server.has_ended());
    }
}

#[tokio::test]
async fn a_write_is_told_when_the_kernel_has_it_and_not_before() {
    let (mut client, server) = pair(&TLS13).await;
    let mut cx = Context::from_waker(Waker::noop());
    let Stream::Tls(tls) = &server else { unreachable!() };
    let bytes = pattern(60_000);
    let mut told = Vec::new();
    while let Poll::Ready(written) = tls.poll_write(&mut cx, &bytes) {
        told.extend_from_slice(&bytes[..written.expect("written")]);
        assert!(told.len() < 100_000_000, "no end to what the kernel takes");
    }
    let waiting = tls.session().outgoing().len();
    assert!(waiting > 0, "what was not taken waits");
    assert!(tls.poll_write(&mut cx, &bytes).is_pending());
    assert_eq!(tls.session().outgoing().len(), waiting, "and is not encrypted again");
    assert!(matches!(tls.try_write(b"x"), Err(error) if error.kind() == io::ErrorKind::WouldBlock));
    assert!(tls.poll_flush(&mut cx).is_pending());
    let mut got = vec![0; told.len()];
    let read = async { halves(&mut client).0.read_exact(&mut got).await.expect("read") };
    let write = poll_fn(|cx| tls.poll_write(cx, &bytes));
    let (_, written) = timeout(LIMIT, async { tokio::join!(read, write) }).await.expect("in time");
    let written = written.expect("written");
    assert!(got == told);
    let mut rest = vec![0; written];
    halves(&mut client).0.read_exact(&mut rest).await.expect("read");
    assert!(bytes.starts_with(&rest));
    assert!(client.is_quiet() && !client.has_ended());
}

#[tokio::test]
async fn what_a_try_leaves_goes_first() {
    let (mut client, server) = pair(&TLS13).await;
    let Stream::Tls(tls) = &server else { unreachable!() };
    let bytes = pattern(64_000);
    let mut taken = 0;
    while let Ok(n) = tls.try_write(&bytes[..60_000]) {
        taken += n;
    }
    assert!(!tls.session().outgoing().is_empty());
    let last = async {
        let wrote = poll_fn(|cx| tls.poll_write(cx, b"last")).await.expect("written");
        assert_eq!(wrote, 4);
        poll_fn(|cx| tls.poll_shutdown(cx)).await.expect("ended");
    };
    let mut all = Vec::new();
    let mut reads = halves(&mut client).0;
    let both = async { tokio::join!(reads.read_to_end(&mut all), last) };
    timeout(LIMIT, both).await.expect("in time").0.expect("an end");
    assert_eq!(all.len(), taken + 4);
    assert!(all.ends_with(b"last"));
}

#[tokio::test]
async fn readiness_is_that_of_data() {
    for version in VERSIONS {
        let (mut client, mut server) = pair(version).await;
        // Tickets are on their way.
        assert!(client.is_quiet() && server.is_quiet());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(client.poll_read_ready(&mut cx).is_pending());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(client.is_quiet() && !client.has_ended(), "a ticket is not data");
        assert!(matches!(
            client.try_read(&mut [0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock
        ));
        halves(&mut server).1.write_all(b"hello").await.expect("written");
        let ready = poll_fn(|cx| client.poll_read_ready(cx));
        timeout(LIMIT, ready).await.expect("in time").expect("ready");
        assert!(!client.is_quiet() && !client.has_ended());
        let mut space = [0; 3];
        assert_eq!(client.try_read(&mut space).expect("read"), 3);
        assert!(client.poll_read_ready(&mut cx).is_ready(), "what is held is ready");
        assert_eq!(client.try_read(&mut space).expect("read"), 2);
        assert!(client.is_quiet());
        server.say_goodbye();
        drop(server);
        let mut reads = halves(&mut client).0;
        assert_eq!(reads.read(&mut space).await.expect("an end"), 0);
        assert!(client.has_ended() && !client.is_quiet());
    }
}

#[tokio::test]
async fn an_end_without_a_word_is_an_error() {
    for version in VERSIONS {
        let (mut client, mut server) = pair(version).await;
        halves(&mut server).1.write_all(b"abc").await.expect("written");
        drop(server);
        let mut all = Vec::new();
        let error = halves(&mut client).0.read_to_end(&mut all).await.expect_err("cut");
        assert_eq!((error.kind(), &all[..]), (io::ErrorKind::UnexpectedEof, &b"abc"[..]));
        assert!(client.has_ended());

        let (mut client, server) = pair(version).await;
        server.cut();
        server.say_goodbye();
        drop(server);
        let error = halves(&mut client).0.read_to_end(&mut all).await.expect_err("reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn handshakes_fail_with_a_word() {
    let material = material();
    for bytes in
        [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"]
    {
        let (mut client, server) = sockets().await;
        client.write_all(bytes).await.expect("sent");
        let server = TlsStream::server(server, material.server(&VERSIONS)).expect("a server");
        let shaken = timeout(LIMIT, server.handshake()).await.expect("in time");
        assert!(matches!(shaken, Err(HandshakeError::Broken(_))), "{shaken:?}");
        drop(server);
        let mut alert = Vec::new();
        client.read_to_end(&mut alert).await.expect("an end");
        assert_eq!((alert[0], alert.len()), (21, 7), "{alert:?}");
    }
    // Whoever leaves, or stays silent, is not waited for longer than its server waits.
    let (client, server) = sockets().await;
    let server = TlsStream::server(server, material.server(&VERSIONS)).expect("a server");
    timeout(Duration::from_millis(30), server.handshake()).await.expect_err("it waits");
    drop(client);
    let shaken = timeout(LIMIT, server.handshake()).await.expect("in time");
    assert!(matches!(shaken, Err(HandshakeError::Left)), "{shaken:?}");
    // Versions that have nothing in common; a name that is not the server's.
    for (version, name) in [(&TLS12, "localhost"), (&TLS13, "example.com")] {
        let (client, server) = sockets().await;
        let server = TlsStream::server(server, material.server(&[&TLS13])).expect("a server");
        let name = ServerName::try_from(name).expect("a name");
        let client =
            TlsStream::client(client, material.client(&[version]), name).expect("a client");
        let (one, other) = shake(&client, &server).await;
        assert!(matches!(one, Err(HandshakeError::Broken(_))), "{one:?}");
        assert!(matches!(other, Err(HandshakeError::Broken(_))), "{other:?}");
    }
}

/// Passes bytes on one at a time.
async fn trickle(from: &mut TcpStream, to: &mut TcpStream) {
    let ((mut from_reads, mut from_writes), (mut to_reads, mut to_writes)) =
        (from.split(), to.split());
    let there = async {
        while let Ok(byte) = from_reads.read_u8().await {
            to_writes.write_u8(byte).await.expect("passed on");
        }
        let _ = to_writes.shutdown().await;
    };
    let back = async {
        while let Ok(byte) = to_reads.read_u8().await {
            from_writes.write_u8(byte).await.expect("passed on");
        }
        let _ = from_writes.shutdown().await;
    };
    tokio::join!(there, back);
}

#[tokio::test]
async fn one_byte_at_a_time_is_enough() {
    let material = material();
    for version in VERSIONS {
        let ((client, mut near), (mut far, server)) = (sockets().await, sockets().await);
        let server = TlsStream::server(server, material.server(&[version])).expect("a server");
        let client =
            TlsStream::client(client, material.client(&[version]), localhost()).expect("a client");
        let talk = async {
            let (one, other) = shake(&client, &server).await;
            one.expect("a handshake");
            other.expect("a handshake");
            let (mut client, mut server) = (Stream::from(client), Stream::from(server));
            let bytes = pattern(20_000);
            let mut got = vec![0; bytes.len()];
            let (mut reads, mut writes) = (halves(&mut server).0, halves(&mut client).1);
            let (read, write) = tokio::join!(reads.read_exact(&mut got), writes.write_all(&bytes));
            read.expect("read");
            write.expect("written");
            assert!(got == bytes);
        };
        tokio::select! {
            talked = timeout(LIMIT, talk) => talked.expect("in time"),
            () = trickle(&mut near, &mut far) => panic!("it ended too soon"),
        }
    }
}

/// A server of another make, which answers each connection with what it reads until its end.
fn echo(
    material: &Material,
    version: &'static SupportedProtocolVersion,
) -> (std::net::SocketAddr, JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address");
    let config = material.server(&[version]);
    let thread = std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("accepted");
        socket.set_read_timeout(Some(LIMIT)).expect("an option");
        let connection = ServerConnection::new(config).expect("a server");
        let mut stream = StreamOwned::new(connection, socket);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("read to its end");
        stream.write_all(&all).expect("written");
        stream.conn.send_close_notify();
        stream.flush().expect("sent");
    });
    (address, thread)
}

#[tokio::test]
async fn rustls_own_sockets_understand_us() {
    let material = material();
    for version in VERSIONS {
        let (address, thread) = echo(&material, version);
        let socket = TcpStream::connect(address).await.expect("connected");
        let tls =
            TlsStream::client(socket, material.client(&[version]), localhost()).expect("a client");
        tls.handshake().await.expect("a handshake");
        let mut stream = Stream::from(tls);
        let bytes = pattern(1_000_000);
        let (mut reads, mut writes) = halves(&mut stream);
        let talk = async {
            writes.write_all(&bytes).await.expect("written");
            writes.shutdown().await.expect("ended");
            let mut all = Vec::new();
            reads.read_to_end(&mut all).await.expect("read");
            all
        };
        assert!(timeout(LIMIT, talk).await.expect("in time") == bytes);
        thread.join().expect("it ended well");
    }
}

/// A child process that does not outlive its test.
struct Openssl(Child);

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn openssl(arguments: &[&str]) -> Option<Openssl> {
    let child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    child.ok().map(Openssl)
}

#[tokio::test]
async fn openssl_is_served_and_resumes() {
    let material = material();
    let folder = tempfile::tempdir().expect("a folder");
    let session = folder.path().join("session").display().to_string();
    for (version, flag) in [(&TLS13, "-tls1_3"), (&TLS12, "-tls1_2")] {
        let config = material.server(&[version]);
        for resumed in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
            let address = listener.local_addr().expect("an address").to_string();
            let keep = if resumed { "-sess_in" } else { "-sess_out" };
            let arguments = [
                "s_client",
                "-connect",
                &address,
                "-servername",
                "localhost",
                flag,
                keep,
                &session,
                "-quiet",
            ];
            let Some(mut client) = openssl(&arguments) else { return };
            let (socket, _) =
                timeout(LIMIT, listener.accept()).await.expect("in time").expect("accepted");
            let tls = TlsStream::server(socket, Arc::clone(&config)).expect("a server");
            timeout(LIMIT, tls.handshake()).await.expect("in time").expect("a handshake");
            assert_eq!(tls.session().is_resumed(), resumed, "{flag}");
            let mut stream = Stream::from(tls);
            let mut input = client.0.stdin.take().expect("a pipe");
            let output = client.0.stdout.take().expect("a pipe");
            let (mut reads, mut writes) = halves(&mut stream);
            let talk = async {
                writes.write_all(b"hello\n").await.expect("written");
                let line = tokio::task::spawn_blocking(move || {
                    let mut line = String::new();
                    BufReader::new(output).read_line(&mut line).expect("read");
                    input.write_all(b"question\n").expect("written");
                    (line, input)
                });
                let (line, _input) = line.await.expect("a line");
                assert_eq!(line, "hello\n");
                let mut space = [0; 9];
                reads.read_exact(&mut space).await.expect("read");
                assert_eq!(&space, b"question\n");
                writes.shutdown().await.expect("ended");
                assert_eq!(reads.read(&mut space).await.expect("its end"), 0);
            };
            timeout(LIMIT, talk).await.expect("in time");
        }
    }
}

#[tokio::test]
async fn openssl_serves_us() {
    let material = material();
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let cert = write("cert.pem", &material.certificate_pem);
    let key = write("key.pem", &material.key_pem);
    for (version, flag) in [(&TLS13, "-tls1_3"), (&TLS12, "-tls1_2")] {
        let arguments =
            ["s_server", "-accept", "127.0.0.1:0", "-cert", &cert, "-key", &key, flag, "-rev"];
        let Some(mut server) = openssl(&arguments) else { return };
        let output = server.0.stdout.take().expect("a pipe");
        let address = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(output).lines();
            lines.find_map(|line| Some(line.ok()?.strip_prefix("ACCEPT ")?.to_owned()))
        });
        let address = timeout(LIMIT, address).await.expect("in time").expect("read");
        let socket = TcpStream::connect(address.expect("an address")).await.expect("connected");
        let tls =
            TlsStream::client(socket, material.client(&[version]), localhost()).expect("a client");
        timeout(LIMIT, tls.handshake()).await.expect("in time").expect("a handshake");
        let mut stream = Stream::from(tls);
        let (mut reads, mut writes) = halves(&mut stream);
        let talk = async {
            for (said, heard) in [(&b"hello\n"[..], &b"olleh\n"[..]), (b"abc\n", b"cba\n")] {
                writes.write_all(said).await.expect("written");
                let mut space = vec![0; heard.len()];
                reads.read_exact(&mut space).await.expect("read");
                assert_eq!(space, heard);
            }
        };
        timeout(LIMIT, talk).await.expect("in time");
    }
}
