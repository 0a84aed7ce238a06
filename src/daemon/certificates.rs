//! Certificates, keys and authorities in force: read with the config, and again when their files
//! change.
//!
//! Invariant: what does not load changes nothing. A config whose files have faults is refused as a
//! whole; files that have faults when they change leave what was read before in force.

mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use self::watch::{Watch, stamps};
use crate::base::{ListenerId, PoolId};
use crate::config::{Config, Fault, Faults, Loaded};
use crate::model::{CertificateFiles, Listener, ListenerTls, Pool, PoolTls};
use crate::net::tls::{Certificate, ClientTls, ServerTls, TlsFault};
use crate::observe::Metrics;

/// With less time left than this the log is told of a certificate, once a day.
const SOON: Duration = Duration::from_secs(21 * DAY as u64);
/// With less than this it is an error.
const URGENT: Duration = Duration::from_secs(3 * DAY as u64);
/// In seconds.
const DAY: i64 = 86_400;

/// What was read, by whom it is for.
#[derive(Debug, Default)]
pub struct Certificates {
    listeners: BTreeMap<ListenerId, Kept<ServerTls>>,
    pools: BTreeMap<PoolId, Kept<ClientTls>>,
}

/// What was read, and from what files.
#[derive(Debug)]
struct Kept<T> {
    tls: Arc<T>,
    files: Vec<PathBuf>,
    watch: Watch,
    /// When the log was last told of certificates that end soon, in seconds since 1970.
    told: Option<i64>,
}

/// A certificate that ends soon, or has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ending {
    /// Whose it is.
    pub listener: ListenerId,
    /// Which.
    pub certificate: Certificate,
    /// How long it lasts; `None` if it has ended.
    pub left: Option<Duration>,
}

impl Ending {
    /// Whether it is too late, or nearly.
    pub fn is_urgent(&self) -> bool {
        self.left.is_none_or(|left| left < URGENT)
    }

    /// When it ends and how long that is, as a person says it.
    pub fn when(&self) -> String {
        let at = Timestamp::from_second(self.certificate.ends);
        let at = at.map_or_else(|_| String::new(), |at| format!(" ({at})"));
        match self.left.map(|left| left.as_secs() / DAY as u64) {
            None => format!("has ended{at}"),
            Some(0) => format!("ends within a day{at}"),
            Some(1) => format!("ends in 1 day{at}"),
            Some(days) => format!("ends in {days} days{at}"),
        }
    }
}

impl Certificates {
    /// Reads all files of a config, the content of `path`. Sessions of listeners that there were
    /// `before` go on.
    ///
    /// # Errors
    /// Every fault of a file, at the key that names it.
    pub fn read(path: &Path, loaded: &Loaded, before: &Self) -> Result<Self, Faults> {
        let config = &loaded.config;
        let (mut read, mut faults) = (Self::default(), Vec::new());
        for (index, listener) in config.listeners.iter().enumerate() {
            let Some(tls) = &listener.tls else { continue };
            match server(listener, tls, before.listeners.get(&listener.id)) {
                Ok(kept) => drop(read.listeners.insert(listener.id.clone(), kept)),
                Err(found) => {
                    let table = loaded.listener_key(index);
                    faults.extend(found.into_iter().map(|it| fault(path, loaded, &table, it)));
                }
            }
        }
        for pool in &config.pools {
            let Some(tls) = &pool.upstream.tls else { continue };
            if !tls.verify {
                tracing::warn!(pool = %pool.id, key = "upstream_tls.verify",
                    "instances are not verified: anybody on the way to them could stand in for them");
            }
            match client(pool, tls) {
                Ok(kept) => drop(read.pools.insert(pool.id.clone(), kept)),
                Err(found) => {
                    let table = format!("pool.{}", pool.id);
                    faults.extend(found.into_iter().map(|it| fault(path, loaded, &table, it)));
                }
            }
        }
        if faults.is_empty() { Ok(read) } else { Err(Faults(faults)) }
    }

    /// What a listener shows its clients.
    pub fn server(&self, listener: &ListenerId) -> Option<Arc<ServerTls>> {
        self.listeners.get(listener).map(|kept| Arc::clone(&kept.tls))
    }

    /// How the instances of a pool are spoken to.
    pub fn client(&self, pool: &PoolId) -> Option<Arc<ClientTls>> {
        self.pools.get(pool).map(|kept| Arc::clone(&kept.tls))
    }

    /// Reads again what has changed and rests. Says whether there is anything new: connections that are
    /// made from now on are to get it.
    pub fn look(&mut self, config: &Config, metrics: &Metrics) -> bool {
        let mut is_new = false;
        for listener in &config.listeners {
            let (Some(tls), Some(kept)) = (&listener.tls, self.listeners.get_mut(&listener.id))
            else {
                continue;
            };
            if kept.watch.is_due(stamps(&kept.files)) {
                let read = server(listener, tls, Some(kept));
                is_new |= take("listener", listener.id.as_str(), kept, read, metrics);
            }
        }
        for pool in &config.pools {
            let (Some(tls), Some(kept)) = (&pool.upstream.tls, self.pools.get_mut(&pool.id)) else {
                continue;
            };
            if kept.watch.is_due(stamps(&kept.files)) {
                is_new |= take("pool", pool.id.as_str(), kept, client(pool, tls), metrics);
            }
        }
        is_new
    }

    /// Says in metrics when each certificate ends.
    pub fn show(&self, metrics: &Metrics) {
        metrics.show_certificates(self.listeners.iter().flat_map(|(listener, kept)| {
            let certificates = kept.tls.certificates().iter();
            certificates.map(move |it| (listener, it.file.as_path(), it.ends))
        }));
    }

    /// The certificates that end soon at `now`, in seconds since 1970.
    pub fn endings(&self, now: i64) -> Vec<Ending> {
        self.listeners.iter().flat_map(|(listener, kept)| kept.endings(listener, now)).collect()
    }

    /// Tells the log of certificates that end soon, of each once a day.
    pub fn tell_endings(&mut self, now: i64) {
        for (listener, kept) in &mut self.listeners {
            if kept.told.is_some_and(|told| now - told < DAY) {
                continue;
            }
            kept.told = Some(now);
            for ending in kept.endings(listener, now) {
                let (file, when) = (ending.certificate.file.display(), ending.when());
                if ending.is_urgent() {
                    tracing::error!(%listener, certificate = %file, "a certificate {when}");
                } else {
                    tracing::warn!(%listener, certificate = %file, "a certificate {when}");
                }
            }
        }
    }
}

impl Kept<ServerTls> {
    fn endings(&self, listener: &ListenerId, now: i64) -> impl Iterator<Item = Ending> {
        self.tls.certificates().iter().filter_map(move |certificate| {
            let left = certificate.left(now);
            left.is_none_or(|left| left < SOON).then(|| Ending {
                listener: listener.clone(),
                certificate: certificate.clone(),
                left,
            })
        })
    }
}

fn server(
    listener: &Listener,
    tls: &ListenerTls,
    before: Option<&Kept<ServerTls>>,
) -> Result<Kept<ServerTls>, Vec<TlsFault>> {
    let mut files: Vec<PathBuf> = tls.certificates.iter().flat_map(files_of).collect();
    files.extend(tls.client_ca.clone());
    // Looked at first: what is written while it is read is read again.
    let watch = Watch::new(stamps(&files));
    let read = ServerTls::load(listener.protocol, tls, before.map(|kept| &*kept.tls))?;
    let same = before.filter(|kept| kept.tls.certificates() == read.certificates());
    Ok(Kept { tls: Arc::new(read), files, watch, told: same.and_then(|kept| kept.told) })
}

fn client(pool: &Pool, tls: &PoolTls) -> Result<Kept<ClientTls>, Vec<TlsFault>> {
    let mut files: Vec<PathBuf> = tls.certificate.iter().flat_map(files_of).collect();
    files.extend(tls.ca.clone());
    let watch = Watch::new(stamps(&files));
    let read = ClientTls::load(tls, pool.upstream.version)?;
    Ok(Kept { tls: Arc::new(read), files, watch, told: None })
}

fn files_of(files: &CertificateFiles) -> impl Iterator<Item = PathBuf> {
    [&files.cert, &files.key].into_iter().chain(&files.ocsp).cloned()
}

/// Puts what was read in the place of what was there, if it is any good. Says whether it is.
fn take<T>(
    what: &str,
    name: &str,
    kept: &mut Kept<T>,
    read: Result<Kept<T>, Vec<TlsFault>>,
    metrics: &Metrics,
) -> bool {
    metrics.count_certificate_reload(read.is_ok());
    match read {
        Ok(read) => {
            tracing::info!("{what} {name}: certificates have changed, and were read again");
            *kept = read;
            true
        }
        Err(faults) => {
            for fault in faults {
                tracing::warn!(%fault, "{what} {name}: certificates have changed, and are not used; \
                                       those from before stay in force");
            }
            false
        }
    }
}

/// A fault of a file, at the key below `table` that names it.
fn fault(path: &Path, loaded: &Loaded, table: &str, fault: TlsFault) -> Fault {
    let key = format!("{table}.{}", fault.key);
    Fault {
        file: path.to_owned(),
        line: loaded.line_of(&key).unwrap_or(0),
        column: 0,
        key,
        problem: fault.problem,
        hint: Some(fault.hint).filter(|hint| !hint.is_empty()),
    }
}

#[cfg(test)]
mod tests;
