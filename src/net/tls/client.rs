//! How instances are spoken to.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;

use super::files::{self, Faults, TlsFault};
use super::stream::{HandshakeError, TlsStream};
use super::{asked, provider, versions};
use crate::model::{PoolTls, TlsVersion, UpstreamVersion};

/// Instances whose sessions are remembered.
const SESSIONS: usize = 1024;

/// How a pool's instances are spoken to by TLS.
#[derive(Debug)]
pub struct ClientTls {
    version: UpstreamVersion,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    bytes: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Reads the files of a pool.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn load(tls: &PoolTls, version: UpstreamVersion) -> Result<Self, Vec<TlsFault>> {
        let mut faults = Faults::default();
        let verifier = verifier(tls, &mut faults);
        let shown = match &tls.certificate {
            Some(files) => files::certificate(files, "upstream_tls.", &mut faults).map(Some),
            None => Some(None),
        };
        let (Some(verifier), Some(shown)) = (verifier, shown) else { return Err(faults.0) };
        let server_name = tls.server_name.clone().map(ServerName::try_from).transpose();
        let unfit = |problem: String| {
            let key = "upstream_tls".into();
            vec![TlsFault { key, problem, hint: String::new() }]
        };
        let server_name = server_name.map_err(|error| unfit(error.to_string()))?;
        let bytes = settings(tls, verifier, shown).map_err(|error| unfit(error.to_string()))?;
        let http = |version| {
            let mut http = bytes.clone();
            http.alpn_protocols = asked(version);
            Arc::new(http)
        };
        let (http1, http2) = (http(UpstreamVersion::Http1), http(UpstreamVersion::H2));
        Ok(Self { version, http1, http2, bytes: Arc::new(bytes), server_name })
    }

    /// For whoever asks whether somebody is there, and not who.
    pub fn unverified() -> Arc<Self> {
        static TO_ANYBODY: LazyLock<Arc<ClientTls>> = LazyLock::new(|| {
            let tls = PoolTls {
                ca: None,
                server_name: None,
                certificate: None,
                verify: false,
                min_version: TlsVersion::Tls12,
            };
            let loaded = ClientTls::load(&tls, UpstreamVersion::Http1);
            Arc::new(loaded.expect("no file can be wrong"))
        });
        Arc::clone(&TO_ANYBODY)
    }

    /// The settings of the next connection for requests: asks for the pool's version of HTTP by ALPN.
    pub fn config(&self) -> &Arc<ClientConfig> {
        self.http_config(self.version)
    }

    /// The same, for this version.
    pub fn http_config(&self, version: UpstreamVersion) -> &Arc<ClientConfig> {
        match version {
            UpstreamVersion::Http1 => &self.http1,
            UpstreamVersion::H2 => &self.http2,
        }
    }

    /// The settings of the next connection for bytes of clients: asks for no protocol.
    pub fn bytes_config(&self) -> &Arc<ClientConfig> {
        &self.bytes
    }

    /// The beginning of a connection to the instance at this address, whose handshake is still to be made.
    /// Asks for this version of HTTP, or for no protocol.
    ///
    /// # Errors
    /// If the settings cannot be used.
    pub fn begin(
        &self,
        socket: TcpStream,
        address: IpAddr,
        version: Option<UpstreamVersion>,
    ) -> Result<TlsStream, HandshakeError> {
        let config = version.map_or(&self.bytes, |version| self.http_config(version));
        let begun = TlsStream::client(socket, Arc::clone(config), self.name_for(address));
        begun.map_err(HandshakeError::Broken)
    }

    /// Whom the certificate of the instance at this address has to be for.
    pub fn name_for(&self, address: IpAddr) -> ServerName<'static> {
        self.server_name
            .clone()
            .unwrap_or_else(|| ServerName::IpAddress(address.to_canonical().into()))
    }
}

fn settings(
    tls: &PoolTls,
    verifier: Verifier,
    shown: Option<files::Shown>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(tls.min_version))?;
    let builder = match verifier {
        Verifier::Authorities(store) => builder.with_root_certificates(store),
        Verifier::Nobody => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Blind(provider())))
        }
    };
    let mut config = match shown {
        Some(shown) => builder
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown.key))),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

/// Who looks at certificates of instances.
enum Verifier {
    Authorities(RootCertStore),
    Nobody,
}

fn verifier(tls: &PoolTls, faults: &mut Faults) -> Option<Verifier> {
    if !tls.verify {
        return Some(Verifier::Nobody);
    }
    const KEY: &str = "upstream_tls.ca";
    if let Some(path) = &tls.ca {
        let authorities = files::certificates(path, KEY, faults)?;
        return files::authorities(&authorities, path, KEY, faults).map(Verifier::Authorities);
    }
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // Systems have some that are too old to make sense; the others do.
    store.add_parsable_certificates(found.certs);
    if !store.is_empty() {
        return Some(Verifier::Authorities(store));
    }
    let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
    faults.0.push(TlsFault {
        key: "upstream_tls".into(),
        problem: format!("this system trusts no authorities{why}"),
        hint: "install its ca-certificates, or name those that sign for instances: ca = \"ca.pem\""
            .into(),
    });
    None
}

/// Takes everybody for whom they say they are. Only that they have the key of the certificate that
/// they show is still looked at.
#[derive(Debug)]
pub(super) struct Blind(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
