//! Who a client is, once its handshake is over.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::subject;
use crate::model::TlsIdentity;

/// Who has shown these certificates and asked for this name. There is a subject exactly if a client has
/// shown a certificate: one that is not good ends the handshake, and a session that is resumed was begun
/// with one.
pub fn identity(certificates: Option<&[CertificateDer<'_>]>, sni: Option<&str>) -> TlsIdentity {
    let leaf = certificates.and_then(|chain| chain.first());
    let subject = leaf.and_then(|leaf| {
        let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
        Some(subject::line(certificate.subject()).into())
    });
    TlsIdentity { subject, sni: sni.map(Into::into) }
}
