//! Certificates in files, from an authority that is made for one test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

/// Who signs.
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM files.
#[derive(Clone, Debug)]
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// An authority with this common name; its own certificate is in [`Authority::ca`].
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("written");
        fs::write(folder.path().join("ca.key"), issuer.key().serialize_pem()).expect("written");
        Self { folder, issuer }
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file with its own certificate; the key is `ca.key` beside it.
    pub fn ca(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// A certificate for these names and addresses, with `subject` as its common name, and its key.
    pub fn sign(&self, subject: &str, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, subject);
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// The same as `NAME.pem` and `NAME.key` in its folder; `name` is also the subject.
    pub fn issue(&self, name: &str, names: &[&str]) -> Files {
        let (cert, key) = self.sign(name, names);
        let files = Files {
            cert: self.folder.path().join(format!("{name}.pem")),
            key: self.folder.path().join(format!("{name}.key")),
        };
        fs::write(&files.cert, cert).expect("written");
        fs::write(&files.key, key).expect("written");
        files
    }

    /// A certificate for this machine, by name and by address.
    pub fn issue_local(&self) -> Files {
        self.issue("local", &["localhost", "127.0.0.1"])
    }
}

impl Files {
    /// The two as an inline table of a configuration.
    pub fn table(&self) -> String {
        let (cert, key) = (self.cert.display(), self.key.display());
        format!("{{ cert = \"{cert}\", key = \"{key}\" }}")
    }

    /// The keys of a listener that speaks HTTPS with this certificate.
    pub fn https(&self) -> String {
        format!("protocol = \"https\"\ntls.certificates = [{}]\n", self.table())
    }
}
