//! TLS as it is configured, and who spoke on a connection. Files are only named here: `net::tls` reads
//! them.

use std::path::PathBuf;
use std::sync::Arc;

/// A certificate and what belongs to it, all in PEM but the staple.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFiles {
    /// The certificate itself first, then those that lead to an authority that the other side knows.
    pub cert: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
    /// What its authority says of its revocation, in DER: stapled to handshakes as it is.
    pub ocsp: Option<PathBuf>,
}

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClientAuth {
    /// A handshake without a good one fails.
    #[default]
    Required,
    /// They may do without; a bad one fails nevertheless.
    Optional,
}

impl ClientAuth {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Optional => "optional",
        }
    }
}

/// The least version that is spoken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), with forward secrecy and AEAD only.
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// How a listener speaks TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerTls {
    /// At least one. The first is for clients that ask for no name, or for one that no other has.
    pub certificates: Vec<CertificateFiles>,
    /// The authorities that may have signed certificates of clients; `None` asks for none.
    pub client_ca: Option<PathBuf>,
    /// Whether clients have to have one; matters only with `client_ca`.
    pub client_auth: ClientAuth,
    /// The field (in lower case) by which instances are told the subject of a verified client.
    pub client_subject: String,
    /// The least version.
    pub min_version: TlsVersion,
}

impl ListenerTls {
    /// The field by which instances are told of verified clients, if clients are verified.
    pub fn subject_field(&self) -> Option<&str> {
        self.client_ca.as_ref().map(|_| self.client_subject.as_str())
    }
}

/// How instances are spoken to by TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolTls {
    /// The authorities that may have signed certificates of instances; `None` for those of the system.
    pub ca: Option<PathBuf>,
    /// Whom certificates have to be for, and what is asked for (SNI) unless it is an IP address;
    /// `None` for the address of each instance.
    pub server_name: Option<String>,
    /// What is shown to instances that ask for a certificate.
    pub certificate: Option<CertificateFiles>,
    /// Whether certificates of instances are looked at.
    pub verify: bool,
    /// The least version.
    pub min_version: TlsVersion,
}

/// Who is at the other end of a client's connection, as the handshake showed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsIdentity {
    /// The subject of its certificate, which was verified: RFC 4514, in printable ASCII.
    pub subject: Option<Arc<str>>,
    /// The name that it asked for (SNI), in lower case.
    pub sni: Option<Arc<str>>,
}
