//! Certificates and configs for tests.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::net::tls::session::Session;

/// Both versions, the newer first.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// A certificate of `localhost` that signs itself, and its key.
pub struct Material {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
    /// Both as PEM.
    pub certificate_pem: String,
    pub key_pem: String,
}

pub fn material() -> Material {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    Material {
        certificate: made.cert.der().clone(),
        key: PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into(),
        certificate_pem: made.cert.pem(),
        key_pem: made.signing_key.serialize_pem(),
    }
}

impl Material {
    pub fn server(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .expect("a certificate");
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().expect("a ticketer");
        Arc::new(config)
    }

    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a root");
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }

    /// A client's and a server's end, before their handshake.
    pub fn sessions(&self, versions: &[&'static SupportedProtocolVersion]) -> (Session, Session) {
        let client = Session::client(self.client(versions), localhost()).expect("a client");
        (client, Session::server(self.server(versions)).expect("a server"))
    }
}

pub fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}
