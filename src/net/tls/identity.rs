//! Who a client is, once its handshake is over.

use rustls::ServerConnection;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::subject;
use crate::model::TlsIdentity;

/// Who is at the other end of this connection. There is a subject exactly if the client has shown a
/// certificate: one that is not good ends the handshake, and a session that is resumed was begun with
/// one.
pub fn identity(connection: &ServerConnection) -> TlsIdentity {
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let subject = leaf.and_then(|leaf| {
        let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
        Some(subject::line(certificate.subject()).into())
    });
    TlsIdentity { subject, sni: connection.server_name().map(Into::into) }
}
