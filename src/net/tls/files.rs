//! What is in files: certificates, keys, authorities, staples. Says what is wrong with one, and what to
//! do.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::provider;
use crate::model::CertificateFiles;

/// No file is read beyond this: thousands of authorities fit.
const FILE_MAX: u64 = 4 << 20;

/// What is wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFault {
    /// The key that names the file, below that of the listener or pool: `tls.certificates[1].cert`.
    pub key: String,
    /// What is wrong; names the file.
    pub problem: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, problem, hint } = self;
        write!(f, "{key}: {problem}")?;
        if hint.is_empty() { Ok(()) } else { write!(f, "; {hint}") }
    }
}

/// Where faults are dropped; each file is named by its key.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<TlsFault>);

impl Faults {
    pub(super) fn add(&mut self, key: &str, path: &Path, problem: &str, hint: &str) {
        self.0.push(TlsFault {
            key: key.to_owned(),
            problem: format!("{} {problem}", path.display()),
            hint: hint.to_owned(),
        });
    }
}

/// A certificate that can be shown, and what is known of it.
#[derive(Debug)]
pub(super) struct Shown {
    /// With its chain, key and staple.
    pub key: CertifiedKey,
    /// The DNS names that it is for, in lower case, as they are in it: some begin with `*.`.
    pub names: Vec<String>,
    /// Whether it is for any host, by name or address.
    pub is_for_hosts: bool,
    /// The end of its time, in seconds since 1970.
    pub ends: i64,
}

/// Reads a certificate with its key. The faults' keys begin with `at`, which ends where `cert` follows.
pub(super) fn certificate(
    files: &CertificateFiles,
    at: &str,
    faults: &mut Faults,
) -> Option<Shown> {
    let (cert_key, key_key, ocsp_key) =
        (format!("{at}cert"), format!("{at}key"), format!("{at}ocsp"));
    let chain = certificates(&files.cert, &cert_key, faults);
    let key = private_key(&files.key, &key_key, faults);
    let ocsp = match &files.ocsp {
        Some(path) => Some(staple(path, &ocsp_key, faults)?),
        None => None,
    };
    let (chain, key) = (chain?, key?);
    let leaf = leaf(&chain[0]);
    if let Err(problem) = leaf {
        faults.add(&cert_key, &files.cert, problem, "");
    }
    let (names, is_for_hosts, ends) = leaf.ok()?;
    match CertifiedKey::from_der(chain, key, &provider()) {
        Ok(mut key) => {
            key.ocsp = ocsp;
            Some(Shown { key, names, is_for_hosts, ends })
        }
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let problem = format!("is not the key of the certificate in {}", files.cert.display());
            let hint = "the first certificate in a file is the one that the key is of";
            faults.add(&key_key, &files.key, &problem, hint);
            None
        }
        Err(error) => {
            let hint = "keys are RSA (2048 to 8192 bits), ECDSA (P-256, P-384, P-521) or Ed25519";
            faults.add(&key_key, &files.key, &format!("cannot be used: {error}"), hint);
            None
        }
    }
}

/// The certificates of a file; at least one.
pub(super) fn certificates(
    path: &Path,
    key: &str,
    faults: &mut Faults,
) -> Option<Vec<CertificateDer<'static>>> {
    let bytes = read(path, key, faults)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let problem = match found {
        Ok(found) if !found.is_empty() => return Some(found),
        Ok(_) => "has no certificate in PEM in it".to_owned(),
        Err(error) => broken(error),
    };
    faults.add(key, path, &problem, "it has lines of -----BEGIN CERTIFICATE-----");
    None
}

/// Authorities, from a file.
pub(super) fn authorities(
    certificates: &[CertificateDer<'static>],
    path: &Path,
    key: &str,
    faults: &mut Faults,
) -> Option<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        if let Err(error) = store.add(certificate.clone()) {
            let problem = format!("has a certificate that cannot be used: {error}");
            faults.add(key, path, &problem, "");
            return None;
        }
    }
    Some(store)
}

fn private_key(path: &Path, key: &str, faults: &mut Faults) -> Option<PrivateKeyDer<'static>> {
    let bytes = read(path, key, faults)?;
    let (problem, hint) = match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => return Some(key),
        Err(pem::Error::NoItemsFound) if has(&bytes, b"ENCRYPTED PRIVATE KEY") => {
            ("is encrypted".to_owned(), "decrypt it: openssl pkey -in FILE -out FILE")
        }
        Err(pem::Error::NoItemsFound) => (
            "has no private key in PEM in it".to_owned(),
            "it has a line of -----BEGIN PRIVATE KEY-----",
        ),
        Err(error) => (broken(error), "it has a line of -----BEGIN PRIVATE KEY-----"),
    };
    faults.add(key, path, &problem, hint);
    None
}

fn staple(path: &Path, key: &str, faults: &mut Faults) -> Option<Vec<u8>> {
    let bytes = read(path, key, faults)?;
    // RFC 6960 §4.2.1: a SEQUENCE. What is in it is between the authority and the client.
    if bytes.first() == Some(&0x30) {
        return Some(bytes);
    }
    let hint = "openssl ocsp -respout FILE writes one";
    faults.add(key, path, "is no OCSP response in DER", hint);
    None
}

fn read(path: &Path, key: &str, faults: &mut Faults) -> Option<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        // Opening anything else, such as a pipe, could wait for ever.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(io::Error::other("it is larger than 4 MiB"));
        }
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "relative paths start where the config is",
                io::ErrorKind::PermissionDenied => "the daemon must be allowed to read it",
                _ => "",
            };
            faults.add(key, path, &format!("cannot be read: {error}"), hint);
            None
        }
    }
}

/// The DNS names of a certificate, whether it is for any host, and when it ends.
fn leaf(der: &CertificateDer<'_>) -> Result<(Vec<String>, bool, i64), &'static str> {
    let (_, it) = X509Certificate::from_der(der)
        .map_err(|_| "has a first certificate that makes no sense")?;
    let named = it
        .subject_alternative_name()
        .map_err(|_| "has a first certificate whose names make no sense")?;
    let all = named.map_or(&[][..], |extension| &extension.value.general_names);
    let names = all.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let names: Vec<String> = names.collect();
    let has_address = all.iter().any(|name| matches!(name, GeneralName::IPAddress(_)));
    let is_for_hosts = has_address || !names.is_empty();
    Ok((names, is_for_hosts, it.validity().not_after.timestamp()))
}

fn broken(error: pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "is cut off".to_owned(),
        error => format!("is no PEM: {error}"),
    }
}

fn has(bytes: &[u8], words: &[u8]) -> bool {
    memchr::memmem::find(bytes, words).is_some()
}

/// How long a certificate that ends at `ends` has left at `now`, both in seconds since 1970; `None` if
/// it has ended.
pub(super) fn left(ends: i64, now: i64) -> Option<Duration> {
    u64::try_from(ends - now).ok().filter(|left| *left > 0).map(Duration::from_secs)
}
