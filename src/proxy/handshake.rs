//! The TLS handshake with a client: within the time that a head may take, counted by how it ended. Those
//! that fail cost no more than that, and nothing is logged of them that strangers could fill a disk with.
//!
//! Where an instance makes the handshake, only its first message is read here, for the name in it.

use std::sync::Arc;

use crate::model::TlsIdentity;
use crate::net::half::halves;
use crate::net::stream::Stream;
use crate::net::tls::{HandshakeError, ServerTls, TlsStream};
use crate::observe::{Handshake, ListenerShard, RefuseReason};
use crate::proxy::admit::Visit;
use crate::proxy::buffer::Buffer;
use crate::proxy::wire::client_hello;

/// Makes the handshake of a connection on which nothing but its PROXY protocol header was read; `None` if
/// it is not to be served.
pub async fn shake(visit: &mut Visit, stream: Stream) -> Option<Stream> {
    // Whoever reloads a listener into one without TLS has accepted this before.
    let (Some(tls), Stream::Plain(socket)) = (visit.view.tls.clone(), stream) else {
        return None;
    };
    let timer = visit.worker.timers.timer();
    let limit = visit.view.listener.timeouts.head;
    let outcome = match timer.within(limit, agree(socket, &tls)).await {
        Ok(Ok(tls)) => {
            let session = tls.session();
            let identity = session.identity();
            let resumed = session.is_resumed();
            drop(session);
            let is_known = identity.subject.is_some() || identity.sni.is_some();
            visit.identity = is_known.then(|| Box::new(identity));
            let outcome = if resumed { Handshake::Resumed } else { Handshake::Full };
            visit.shard().count_handshake(outcome);
            return Some(tls.into());
        }
        Ok(Err(error)) => {
            tracing::debug!(peer = %visit.guest.peer, %error, "no TLS with a client");
            error.outcome()
        }
        Err(_) => Handshake::Timeout,
    };
    visit.shard().count_handshake(outcome);
    None
}

/// Reads the first message of a connection whose TLS ends at an instance, which is to get it as it is;
/// `None` if the connection is not to be served.
pub async fn overhear(visit: &mut Visit, stream: &mut Stream) -> Option<Buffer> {
    let timer = visit.worker.timers.timer();
    let limit = visit.view.listener.timeouts.head;
    let mut buffer = visit.worker.buffers.borrow();
    let (mut reading, _) = halves(stream);
    let read = async {
        loop {
            match client_hello::parse(buffer.filled()) {
                Ok(Some(hello)) => return Ok(hello.server_name),
                Ok(None) => {}
                Err(error) => return Err(Some(error)),
            }
            // As long as it may be longer there is room.
            match buffer.read_from(&mut reading).await {
                Ok(n) if n > 0 => {}
                _ => return Err(None),
            }
        }
    };
    let (reason, alert) = match timer.within(limit, read).await {
        Ok(Ok(name)) => {
            let sni = name.map(Arc::from);
            visit.identity = sni.map(|sni| Box::new(TlsIdentity { subject: None, sni: Some(sni) }));
            return Some(buffer);
        }
        // The client has left.
        Ok(Err(None)) => return None,
        Ok(Err(Some(error))) => {
            tracing::debug!(peer = %visit.guest.peer, %error, "no TLS from a client");
            (RefuseReason::Malformed, DECODE_ERROR)
        }
        Err(_) => (RefuseReason::HeadTimeout, USER_CANCELED),
    };
    refuse(visit.shard(), reason, alert, stream);
    None
}

/// The alerts of RFC 8446 §6.2.
const DECODE_ERROR: u8 = 50;
const USER_CANCELED: u8 = 90;
/// Nobody here has that name.
pub const UNRECOGNIZED_NAME: u8 = 112;

/// Tells a client whose handshake was not begun that it will not be, and why.
pub fn refuse(shard: &ListenerShard, reason: RefuseReason, alert: u8, stream: &mut Stream) {
    shard.count_refusal(reason);
    // A fatal one, in a record that every version understands. Who does not take it now gets none.
    let _ = halves(stream).1.try_write(&[21, 3, 3, 0, 2, 2, alert]);
}

async fn agree(
    socket: tokio::net::TcpStream,
    tls: &ServerTls,
) -> Result<TlsStream, HandshakeError> {
    let stream = TlsStream::from_client(socket, tls)?;
    stream.handshake().await?;
    Ok(stream)
}
