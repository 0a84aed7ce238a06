//! Accepting connections: one task per listening socket.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::base::ListenerId;
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

/// Accepts on `socket` for the listener `id` until retired.
pub fn spawn(worker: &Rc<Worker>, id: ListenerId, socket: TcpListener) -> Acceptor {
    let (stop, mut stopped) = oneshot::channel();
    let worker = Rc::clone(worker);
    let task = tokio::task::spawn_local(async move {
        loop {
            tokio::select! {
                biased;
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => start(&worker, &id, stream, peer),
                    Err(error) => pause_after(&error, &id).await,
                },
                _ = &mut stopped => break,
            }
        }
        empty_queue(&worker, &id, socket);
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

fn empty_queue(worker: &Rc<Worker>, id: &ListenerId, socket: TcpListener) {
    let Ok(socket) = socket.into_std() else { return };
    while let Ok((stream, peer)) = socket.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            start(worker, id, stream, peer);
        }
    }
}

/// A connection that was reset while it waited is nobody's trouble; anything else is a shortage.
async fn pause_after(error: &io::Error, id: &ListenerId) {
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    ) {
        tracing::warn!(listener = %id, %error, "cannot accept; trying again in 100 ms");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

fn start(worker: &Rc<Worker>, id: &ListenerId, stream: TcpStream, peer: SocketAddr) {
    let snapshot = worker.snapshot();
    let Some(view) = snapshot.listener(id).cloned() else { return };
    let shard = &view.meter.shards[worker.index];
    shard.accepted.add(1);
    shard.active.add(1);
    let protocol = view.listener.protocol;
    let connection = {
        let worker = Rc::clone(worker);
        async move {
            match protocol {
                Protocol::Http => http1::serve(&worker, &view, stream, peer).await,
                Protocol::Tcp => tcp::serve(&worker, &view, stream).await,
            }
            view.meter.shards[worker.index].active.sub(1);
        }
    };
    worker.spawn_connection(connection);
}
