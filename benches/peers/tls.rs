//! What TLS takes: a certificate for all peers, and clients that trust nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS13;
use rustls::{CipherSuite, ClientConfig, NamedGroup, RootCertStore};
use tidegate::net::tls::HTTP1;

/// Whom the certificate is for.
pub const NAME: &str = "bench.test";

/// Writes a certificate that signs itself (ECDSA P-256) and its key to one file, as all peers read it.
///
/// # Errors
/// If it cannot be made or written.
pub fn certificate(folder: &Path) -> io::Result<PathBuf> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(io::Error::other)?;
    let pem = folder.join("tls.pem");
    fs::write(&pem, made.cert.pem() + &made.signing_key.serialize_pem())?;
    Ok(pem)
}

/// How clients of HTTP/1.1 connect: TLS 1.3 with X25519 and AES-128-GCM, so that peers do not choose
/// dearer or cheaper cryptography than others; and each handshake is a full one.
///
/// # Errors
/// If the certificate cannot be read.
pub fn client(certificate: &Path) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_file(certificate).map_err(io::Error::other)?;
    roots.add(trusted).map_err(io::Error::other)?;
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![HTTP1.to_vec()];
    Ok(Arc::new(config))
}
