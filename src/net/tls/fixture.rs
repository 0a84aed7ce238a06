//! Authorities, certificates in files, and handshakes in memory, for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SignatureAlgorithm,
};
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, Error, ServerConfig, ServerConnection,
};

use crate::model::{CertificateFiles, ClientAuth, ListenerTls, TlsVersion};

/// Who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// For hosts, with an ECDSA key.
    pub(crate) fn host(&self, names: &[&str]) -> Issued {
        self.host_by(names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// For hosts, with a key of this kind.
    pub(crate) fn host_by(&self, names: &[&str], kind: &'static SignatureAlgorithm) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign(CertificateParams::new(names).expect("names"), kind)
    }

    /// For a client, with this common name.
    pub(crate) fn client(&self, name: &str) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        self.sign(params, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// A certificate with these parameters.
    pub(crate) fn sign(
        &self,
        params: CertificateParams,
        kind: &'static SignatureAlgorithm,
    ) -> Issued {
        let key = KeyPair::generate_for(kind).expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Issued { cert: cert.pem(), key: key.serialize_pem() }
    }
}

/// Writes a certificate and its key to files of this name.
pub(crate) fn write(dir: &Path, name: &str, issued: &Issued) -> CertificateFiles {
    let files = CertificateFiles {
        cert: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
        ocsp: None,
    };
    fs::write(&files.cert, &issued.cert).expect("written");
    fs::write(&files.key, &issued.key).expect("written");
    files
}

/// Writes a text to a file of this name.
pub(crate) fn file(dir: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).expect("written");
    path
}

/// A listener that shows these, and asks clients for nothing.
pub(crate) fn listener(certificates: Vec<CertificateFiles>) -> ListenerTls {
    ListenerTls {
        certificates,
        client_ca: None,
        client_auth: ClientAuth::Required,
        client_subject: "x-client-subject".into(),
        min_version: TlsVersion::Tls12,
    }
}

/// Which side gave up, and why.
#[derive(Debug)]
pub(crate) enum Failed {
    Server(Error),
    Client(Error),
}

/// Both ends of a connection whose handshake is over, tickets included.
pub(crate) fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), Failed> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::clone(client), name).map_err(Failed::Client)?;
    let mut server = ServerConnection::new(Arc::clone(server)).map_err(Failed::Server)?;
    for _ in 0..8 {
        carry(&mut client, &mut server).map_err(Failed::Server)?;
        carry(&mut server, &mut client).map_err(Failed::Client)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

/// Carries what `from` has to say to `to`, and lets it think about that.
fn carry<A, B>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) -> Result<(), Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).expect("to memory");
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("from memory");
        to.process_new_packets()?;
    }
    Ok(())
}
