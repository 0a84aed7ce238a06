//! Accepting connections: one task per listening socket.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::model::Protocol;
use crate::proxy::forward::{http1, tcp};
use crate::proxy::worker::Worker;

/// A running accept task.
#[derive(Debug)]
pub struct Acceptor {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Out of file descriptors or memory: connections wait in the kernel's queue meanwhile.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts on `socket`, which is bound to `address`, until retired.
pub fn spawn(worker: &Rc<Worker>, address: SocketAddr, socket: TcpListener) -> Acceptor {
    let (stop, mut stopped) = oneshot::channel();
    let worker = Rc::clone(worker);
    let task = tokio::task::spawn_local(async move {
        loop {
            tokio::select! {
                biased;
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => start(&worker, address, stream, peer),
                    Err(error) => pause_after(&error, address).await,
                },
                _ = &mut stopped => break,
            }
        }
        empty_queue(&worker, address, socket);
    });
    Acceptor { stop, task }
}

impl Acceptor {
    /// Serves what waits in the accept queue, then closes the socket: closing it first would reset
    /// connections that the kernel has completed already. One that arrives between the last look
    /// and the close is lost; no process can prevent that.
    pub async fn retire(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

fn empty_queue(worker: &Rc<Worker>, address: SocketAddr, socket: TcpListener) {
    let Ok(socket) = socket.into_std() else { return };
    while let Ok((stream, peer)) = socket.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            start(worker, address, stream, peer);
        }
    }
}

/// A connection that was reset while it waited is nobody's trouble; anything else is a shortage.
async fn pause_after(error: &io::Error, address: SocketAddr) {
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    ) {
        tracing::warn!(%address, %error, "cannot accept; trying again in 100 ms");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

fn start(worker: &Rc<Worker>, address: SocketAddr, stream: TcpStream, peer: SocketAddr) {
    let snapshot = worker.snapshot();
    let Some(view) = snapshot.listener_at(address).cloned() else { return };
    let shard = &view.meter.shards[worker.index];
    shard.accepted.add(1);
    shard.active.add(1);
    let protocol = view.listener.protocol;
    let connection = {
        let worker = Rc::clone(worker);
        async move {
            match protocol {
                Protocol::Http => http1::serve(&worker, &view, address, stream, peer).await,
                // Boxed, so that an idle HTTP connection is not as large as a busy tunnel.
                Protocol::Tcp => Box::pin(tcp::serve(&worker, &view, address, stream)).await,
            }
            view.meter.shards[worker.index].active.sub(1);
        }
    };
    worker.spawn_connection(connection);
}
