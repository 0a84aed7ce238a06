//! The TLS handshake with a client: within the time that a head may take, counted by how it ended. Those
//! that fail cost no more than that, and nothing is logged of them that strangers could fill a disk with.

use crate::net::stream::Stream;
use crate::net::tls::{HandshakeError, ServerTls, TlsStream};
use crate::observe::Handshake;
use crate::proxy::admit::Visit;

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

async fn agree(
    socket: tokio::net::TcpStream,
    tls: &ServerTls,
) -> Result<TlsStream, HandshakeError> {
    let stream = TlsStream::from_client(socket, tls)?;
    stream.handshake().await?;
    Ok(stream)
}
