//! TLS of listeners and of pools. What is in the files is not looked at here.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::http::SubjectField;
use crate::config::raw::{self, File};
use crate::config::read::{Given, State};
use crate::model::{
    CertificateFiles, ClientAuth, HealthCheck, HealthSettings, Listener, ListenerTls, PoolTls,
    Protocol, TlsVersion,
};

use super::{Compiler, first_written};

impl Compiler<'_> {
    /// The TLS of a listener; `None` if it has none, or a fault was noted.
    pub(super) fn listener_tls(
        &mut self,
        raw: &raw::Listener,
        base: &raw::Listener,
        protocol: Protocol,
    ) -> Option<Arc<ListenerTls>> {
        let tls = &raw.tls;
        if [&raw.protocol, &base.protocol].iter().any(|it| matches!(it.state, State::Wrong)) {
            // Whether it has TLS cannot be told.
            return None;
        }
        if !protocol.has_tls() {
            if let Some((place, path)) = tls.table.written() {
                let problem = format!("{:?} has no TLS", protocol.word());
                self.fault(place, path, problem, "write protocol = \"https\" or \"tls\"");
            }
            return None;
        }
        let given = &tls.certificates;
        if given.items().is_empty() && !matches!(given.state, State::Wrong) {
            let (problem, hint) = match given.is_present() {
                true => ("is an empty list", ""),
                false => ("is missing", "write [{ cert = \"a.pem\", key = \"a.key\" }]"),
            };
            self.fault(given.place, &given.key, problem, hint);
        }
        let files = given.items().iter();
        let certificates: Vec<_> = files.filter_map(|raw| self.certificate(raw)).collect();
        let client_ca = self.choose(&tls.client_ca, None, None);
        let asks = tls.client_ca.is_present();
        let (client_auth, client_subject) = if asks {
            (
                self.own(&tls.client_auth, ClientAuth::Required),
                protocol.is_http().then(|| self.own(&tls.client_subject, subject_field())),
            )
        } else {
            for (place, key) in
                [tls.client_auth.written(), tls.client_subject.written()].into_iter().flatten()
            {
                let hint = "add client_ca = \"ca.pem\", with the authorities of clients";
                self.fault(place, key, "has no effect: clients are asked for nothing", hint);
            }
            (ClientAuth::Required, None)
        };
        let min_version = self.own(&tls.min_version, TlsVersion::Tls12);
        Some(Arc::new(ListenerTls {
            certificates,
            client_ca: client_ca.map(|path| self.folder.join(path.value)),
            client_auth,
            client_subject: client_subject.unwrap_or_else(subject_field).0,
            min_version,
        }))
    }

    fn certificate(&mut self, raw: &raw::Certificate) -> Option<CertificateFiles> {
        let hint = "a certificate and its key go together: { cert = \"a.pem\", key = \"a.key\" }";
        let cert = self.required(&raw.cert, None, hint);
        let key = self.required(&raw.key, None, hint);
        let ocsp = self.choose(&raw.ocsp, None, None);
        Some(CertificateFiles {
            cert: self.folder.join(cert?.value),
            key: self.folder.join(key?.value),
            ocsp: ocsp.map(|path| self.folder.join(path.value)),
        })
    }

    /// What one listener tells instances of verified clients, no client of any may tell them.
    pub(super) fn guard_subjects(&self, file: &File, listeners: &mut [Listener]) {
        let told = |listener: &Listener| {
            let tls = listener.tls.as_ref().filter(|_| listener.protocol.is_http())?;
            tls.subject_field().map(str::to_owned)
        };
        let subjects: BTreeSet<String> = listeners.iter().filter_map(told).collect();
        let subjects: Arc<[String]> = subjects.into_iter().collect();
        for listener in listeners {
            if let Some(field) = listener.request_id.as_ref().filter(|it| subjects.contains(it)) {
                let is_it = |raw: &&raw::Listener| {
                    raw.known_as().is_some_and(|name| name == listener.id.as_str())
                };
                if let Some(raw) = file.listeners.items().iter().find(is_it) {
                    let given = [&raw.request_id, &file.defaults.listener.request_id];
                    let (place, key) = first_written(&given)
                        .unwrap_or((raw.request_id.place, &raw.request_id.key));
                    let problem = format!("{field} tells of verified clients (tls.client_subject)");
                    self.fault(place, key, problem, "give one of the two another name");
                }
            }
            listener.client_subjects = Arc::clone(&subjects);
        }
    }

    /// The TLS of a pool: it has one if the table is written in the pool itself.
    pub(super) fn pool_tls(
        &mut self,
        raw: &raw::UpstreamTls,
        base: &raw::UpstreamTls,
    ) -> Option<Arc<PoolTls>> {
        if !raw.table.present {
            return None;
        }
        let ca = self.choose(&raw.ca, Some(&base.ca), None);
        let server_name = self.choose(&raw.server_name, Some(&base.server_name), None);
        let verify = self.pick(&raw.verify, &base.verify, true);
        let min_version = self.pick(&raw.min_version, &base.min_version, TlsVersion::Tls12);
        let cert = self.choose(&raw.cert, Some(&base.cert), None);
        let key = self.choose(&raw.key, Some(&base.key), None);
        let present = |own: &Given<_>, inherited: &Given<_>| -> bool {
            own.is_present() || inherited.is_present()
        };
        let (has_cert, has_key) = (present(&raw.cert, &base.cert), present(&raw.key, &base.key));
        if has_cert != has_key {
            let (missing, written) = if has_cert {
                (&raw.key, [&raw.cert, &base.cert])
            } else {
                (&raw.cert, [&raw.key, &base.key])
            };
            let (place, _) = first_written(&written).unwrap_or((missing.place, ""));
            self.fault(place, &missing.key, "is missing", "a certificate and its key go together");
        }
        if let Some((place, path)) = raw.ca.written().filter(|_| !verify) {
            self.fault(place, path, "has no effect unless verify is true", "");
        }
        let certificate = cert.zip(key).map(|(cert, key)| CertificateFiles {
            cert: self.folder.join(cert.value),
            key: self.folder.join(key.value),
            ocsp: None,
        });
        Some(Arc::new(PoolTls {
            ca: ca.map(|path| self.folder.join(path.value)),
            server_name: server_name.map(|name| name.value.0),
            certificate,
            verify,
            min_version,
        }))
    }

    /// Probes go where the traffic goes, and speak no TLS: one that asks for something would be answered
    /// by nobody.
    pub(super) fn no_plain_questions(
        &self,
        health: &HealthSettings,
        raw: &raw::Pool,
        base: &raw::Pool,
    ) {
        if let HealthCheck::Http(_) = health.check
            && let Some((place, key)) = first_written(&[&raw.health.kind, &base.health.kind])
        {
            let problem = "probes speak no TLS, and the instances of this pool do (upstream_tls)";
            let hint = "write \"tcp\", or health.port, where they answer without it";
            self.fault(place, key, problem, hint);
        }
    }
}

fn subject_field() -> SubjectField {
    SubjectField("x-client-subject".into())
}
