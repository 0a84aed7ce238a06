//! Clients that read or write a byte a second, and heads that never end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Slow clients that go on until they are told to stop.
pub struct Slow {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

/// Runs `work` on a thread of its own, with a runtime.
fn thread<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work)
    })
}

/// A connection through which little goes at a time, as over a long and thin line: the kernels' buffers
/// on loopback would take a mebibyte at once.
fn thin(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.set_tcp_mss(536)?;
    socket.connect(&address.into())?;
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket.into())
}

impl Slow {
    /// Starts `readers` that ask for a mebibyte and read a byte of it each second, and `writers` that
    /// send as much at the same pace, every other in chunks.
    pub fn start(address: SocketAddr, readers: usize, writers: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let all = {
            let stop = Arc::clone(&stop);
            async move {
                let mut clients = JoinSet::new();
                for n in 0..readers {
                    let stop = Arc::clone(&stop);
                    clients.spawn(async move {
                        read(address, &stop).await.map_err(|err| format!("reader {n}: {err}"))
                    });
                }
                for n in 0..writers {
                    let stop = Arc::clone(&stop);
                    clients.spawn(async move {
                        let chunked = n % 2 == 1;
                        let done = write(address, chunked, &stop).await;
                        done.map_err(|err| format!("writer {n}: {err}"))
                    });
                }
                clients.join_all().await.into_iter().filter_map(Result::err).collect()
            }
        };
        Self { stop, thread: thread(all) }
    }

    /// Stops them all; says who had come to an end before.
    pub fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("clients do not panic")
    }
}

/// Waits for the next second, in steps, so that all stop soon; false if it is over.
async fn next_second(stop: &AtomicBool) -> bool {
    for _ in 0..10 {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    true
}

async fn read(address: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
    let mut stream = thin(address)?;
    stream.write_all(b"GET /?bytes=1048576 HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    while next_second(stop).await {
        stream.read_u8().await?;
    }
    Ok(())
}

async fn write(address: SocketAddr, chunked: bool, stop: &AtomicBool) -> io::Result<()> {
    let mut stream = thin(address)?;
    let (field, piece) = match chunked {
        true => ("Transfer-Encoding: chunked", b"1\r\nx\r\n".as_slice()),
        false => ("Content-Length: 1048576", b"x".as_slice()),
    };
    stream.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").as_bytes()).await?;
    while next_second(stop).await {
        stream.write_all(piece).await?;
        if let Ok(read) = stream.try_read(&mut [0; 64]) {
            return Err(io::Error::other(format!("{read} bytes of an answer")));
        }
    }
    Ok(())
}

/// Heads that never end.
pub struct HalfHeads;

/// How one of them ended.
#[derive(Debug)]
pub struct HeadEnd {
    /// Since its first byte was sent.
    pub after: Duration,
    /// What came back.
    pub answer: String,
}

impl HalfHeads {
    /// Sends `count` half heads at once, and a byte more of each every 200 ms until it is closed
    /// (or for 15 seconds).
    pub fn run(address: SocketAddr, count: usize) -> Vec<HeadEnd> {
        let all = async move {
            let mut clients = JoinSet::new();
            for _ in 0..count {
                clients.spawn(dribble(address));
            }
            clients.join_all().await
        };
        thread(all).join().expect("clients do not panic")
    }
}

async fn dribble(address: SocketAddr) -> HeadEnd {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let began = Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await.expect("sent");
    let (mut reading, mut writing) = stream.split();
    let mut answer = Vec::new();
    let dribbling = async {
        for _ in 0..75 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let _ = writing.write_all(b"x").await;
        }
    };
    tokio::select! {
        _ = reading.read_to_end(&mut answer) => {}
        () = dribbling => {}
    }
    HeadEnd { after: began.elapsed(), answer: String::from_utf8_lossy(&answer).into_owned() }
}
