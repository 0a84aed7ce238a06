//! What a listener shows its clients.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};

use super::choice::Choice;
use super::files::{self, Faults, TlsFault};
use super::{OFFERED, provider, versions};
use crate::model::{ClientAuth, ListenerTls, Protocol};

/// Tickets that a client gets with a full handshake of TLS 1.3, each good for one connection.
const TICKETS: usize = 2;

/// A certificate that is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// The file that it is in.
    pub file: PathBuf,
    /// The end of its time, in seconds since 1970.
    pub ends: i64,
}

impl Certificate {
    /// How much of its time is left at `now`, in seconds since 1970; `None` if it has ended.
    pub fn left(&self, now: i64) -> Option<Duration> {
        files::left(self.ends, now)
    }
}

/// How a listener speaks TLS: settings for handshakes, all that they need of files in them.
#[derive(Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    clients: Option<Clients>,
    certificates: Vec<Certificate>,
}

/// Who is let in by a certificate.
#[derive(PartialEq, Eq, Debug)]
struct Clients {
    auth: ClientAuth,
    authorities: Vec<CertificateDer<'static>>,
}

impl ServerTls {
    /// Reads the files of a listener. What was loaded `before` for the same listener goes on resuming
    /// sessions, unless something else is asked of clients now: a resumed session shows no certificate,
    /// so it must have been begun under the same terms.
    ///
    /// # Errors
    /// All that is wrong with the files.
    pub fn load(
        protocol: Protocol,
        tls: &ListenerTls,
        before: Option<&Self>,
    ) -> Result<Self, Vec<TlsFault>> {
        let mut faults = Faults::default();
        let mut shown = Vec::with_capacity(tls.certificates.len());
        let mut certificates = Vec::with_capacity(tls.certificates.len());
        for (number, files) in (1..).zip(&tls.certificates) {
            let at = format!("tls.certificates[{number}].");
            if let Some(one) = files::certificate(files, &at, &mut faults) {
                if !one.is_for_hosts {
                    let problem = "is for no host: it has no DNS name and no IP address among its \
                                   subject alternative names";
                    let hint = "clients look nowhere else: have one issued with them";
                    faults.add(&format!("{at}cert"), &files.cert, problem, hint);
                }
                certificates.push(Certificate { file: files.cert.clone(), ends: one.ends });
                shown.push((Arc::new(one.key), one.names));
            }
        }
        let verified = verifier(tls, &mut faults);
        let tickets = match (&verified, before) {
            (Some((_, clients)), Some(before)) if before.clients == *clients => {
                Ok(Arc::clone(&before.config.ticketer))
            }
            _ => Ticketer::new(),
        };
        let Some((verifier, clients)) = verified.filter(|_| faults.0.is_empty()) else {
            return Err(faults.0);
        };
        let config = tickets
            .and_then(|tickets| settings(protocol, tls, verifier, Choice::new(&shown), tickets));
        match config {
            Ok(config) => Ok(Self { config: Arc::new(config), clients, certificates }),
            Err(error) => Err(vec![TlsFault {
                key: "tls".into(),
                problem: error.to_string(),
                hint: String::new(),
            }]),
        }
    }

    /// The settings of the next handshake.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// What is shown, in the order of the config.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

fn settings(
    protocol: Protocol,
    tls: &ListenerTls,
    verifier: Arc<dyn ClientCertVerifier>,
    certificates: Choice<Arc<rustls::sign::CertifiedKey>>,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(tls.min_version))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(certificates));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    config.send_tls13_tickets = TICKETS;
    if protocol.is_http() {
        config.alpn_protocols = OFFERED.iter().map(|name| name.to_vec()).collect();
    }
    Ok(config)
}

/// What looks at certificates of clients, and by what.
fn verifier(
    tls: &ListenerTls,
    faults: &mut Faults,
) -> Option<(Arc<dyn ClientCertVerifier>, Option<Clients>)> {
    let Some(path) = &tls.client_ca else {
        return Some((Arc::new(NoClientAuth), None));
    };
    const KEY: &str = "tls.client_ca";
    let authorities = files::certificates(path, KEY, faults)?;
    let store = files::authorities(&authorities, path, KEY, faults)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider());
    let builder = match tls.client_auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    match builder.build() {
        Ok(verifier) => Some((verifier, Some(Clients { auth: tls.client_auth, authorities }))),
        Err(error) => {
            faults.add(KEY, path, &format!("cannot be used: {error}"), "");
            None
        }
    }
}
