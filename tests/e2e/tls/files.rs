//! Certificates in files, and a client that knows them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use tempfile::TempDir;

use crate::authority::Authority;

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// An authority (`ca`) with a certificate for `web.test` and others (`server`) and one for a client
/// (`client`), and another authority (`other`) with a client of its own (`stranger`).
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        let (ours, other) = (Authority::new("ours"), Authority::new("another"));
        for (by, file) in [(&ours, "ca.pem"), (&other, "other.pem")] {
            fs::copy(by.ca(), files.path(file)).expect("copied");
        }
        let hosts = ["web.test", "*.wild.test", "127.0.0.1"];
        for (file, by, hosts, name) in [
            ("server", &ours, &hosts[..], "server"),
            ("client", &ours, &[], "alice"),
            ("stranger", &other, &[], "mallory"),
        ] {
            let (cert, key) = by.sign(name, hosts);
            files.write(&format!("{file}.pem"), &cert);
            files.write(&format!("{file}.key"), &key);
        }
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("written");
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// As the config names it.
    pub fn certificate(&self, name: &str) -> String {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        format!("{{ cert = \"{cert}\", key = \"{key}\" }}")
    }

    fn read(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let cert = CertificateDer::from_pem_file(self.path(&format!("{name}.pem")));
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key")));
        (vec![cert.expect("a certificate")], key.expect("a key"))
    }

    /// What a client is made of that trusts our authority, and shows this certificate.
    fn client(&self, shown: Option<&str>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(Path::new(&self.path("ca.pem")));
        roots.add(ca.expect("a certificate")).expect("an authority");
        let config = ClientConfig::builder().with_root_certificates(roots);
        Arc::new(match shown {
            None => config.with_no_client_auth(),
            Some(name) => {
                let (chain, key) = self.read(name);
                config.with_client_auth_cert(chain, key).expect("a certificate")
            }
        })
    }

    /// What a server is made of that shows this certificate.
    pub fn server(&self, shown: &str) -> Arc<ServerConfig> {
        let (chain, key) = self.read(shown);
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        Arc::new(config.expect("a certificate"))
    }

    /// The handshake of a client that asks for `web.test`.
    pub fn shake(&self, socket: TcpStream, shown: Option<&str>) -> io::Result<Tls> {
        self.shake_with(socket, "web.test", shown)
    }

    pub fn shake_with(
        &self,
        mut socket: TcpStream,
        name: &str,
        shown: Option<&str>,
    ) -> io::Result<Tls> {
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let name = name.to_owned().try_into().expect("a name");
        let mut connection =
            ClientConnection::new(self.client(shown), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(connection, socket))
    }

    pub fn connect(&self, address: SocketAddr, shown: Option<&str>) -> io::Result<Tls> {
        self.shake(TcpStream::connect(address)?, shown)
    }

    /// Sends a request and reads to the end.
    pub fn talk(
        &self,
        address: SocketAddr,
        shown: Option<&str>,
        request: &[u8],
    ) -> io::Result<String> {
        let mut stream = self.connect(address, shown)?;
        stream.write_all(request)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}
