//! What the daemon keeps in `state_dir`: a lock, and what operators said.
//!
//! Losing or corrupting any of it is reported and never stops traffic.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::base::{InstanceId, PoolId, ZoneId};
use crate::model::{self, Admin, Evacuation, SizeOverride};

/// The state directory, locked for as long as this lives: one daemon per state.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made or written.
    #[error(
        "cannot use state_dir {path}: {error}; set node.state_dir to a directory that this user may write"
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another daemon holds it.
    #[error(
        "another tidegate{holder} runs on state_dir {path}; stop it, or give this one another node.state_dir"
    )]
    Taken {
        /// The directory.
        path: PathBuf,
        /// ` (pid N)`, where known.
        holder: String,
    },
}

/// `overrides.json`.
#[derive(Serialize, Deserialize, Default)]
struct Overrides {
    version: u32,
    drains: Vec<Named>,
    #[serde(default)]
    protected: Vec<Named>,
    #[serde(default)]
    sizes: Vec<Size>,
    #[serde(default)]
    evacuations: Vec<Zone>,
}

/// What operators said, as it is kept.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Said {
    /// Of the traffic of instances.
    pub admin: Vec<(PoolId, InstanceId, Admin)>,
    /// Of the scaling of pools.
    pub scaling: BTreeMap<PoolId, model::Said>,
    /// Of zones.
    pub evacuations: BTreeMap<ZoneId, Evacuation>,
}

#[derive(Serialize, Deserialize)]
struct Named {
    pool: String,
    instance: String,
}

#[derive(Serialize, Deserialize)]
struct Size {
    pool: String,
    #[serde(flatten)]
    size: SizeOverride,
}

#[derive(Serialize, Deserialize)]
struct Zone {
    zone: String,
    #[serde(flatten)]
    evacuation: Evacuation,
}

const OVERRIDES_VERSION: u32 = 1;

impl StateDir {
    /// Makes the directory if need be and locks it.
    ///
    /// # Errors
    /// If it cannot be used, or another daemon uses it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let unusable = |error| StateError::Unusable { path: path.to_owned(), error };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(unusable)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let pid = fs::read_to_string(&lock_path).unwrap_or_default();
            let pid = pid.trim();
            let holder = if pid.is_empty() { String::new() } else { format!(" (pid {pid})") };
            return Err(StateError::Taken { path: path.to_owned(), holder });
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(unusable)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What operators said before; nothing if the file is lost or makes no sense, which is logged.
    pub fn read_overrides(&self) -> Said {
        let path = self.path.join("overrides.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Said::default(),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot read operators' overrides; going on without");
                return Said::default();
            }
        };
        match serde_json::from_str::<Overrides>(&text) {
            Ok(read) if read.version == OVERRIDES_VERSION => read.into(),
            other => {
                let why = other.err().map_or("another version wrote it".into(), |e| e.to_string());
                let aside = self.path.join("overrides.json.corrupt");
                let kept = fs::rename(&path, &aside).is_ok();
                tracing::error!(path = %path.display(), why, kept_aside = kept, "operators' overrides make no sense; going on without");
                Said::default()
            }
        }
    }

    /// Writes what operators said: aside, synced, renamed, so that a crash leaves the old or the
    /// new.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_overrides(&self, said: &Said) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&Overrides::from(said))?;
        let aside = self.path.join("overrides.json.new");
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&aside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&aside, self.path.join("overrides.json"))?;
        File::open(&self.path)?.sync_all()
    }
}

impl From<&Said> for Overrides {
    fn from(said: &Said) -> Self {
        let named = |pool: &PoolId, instance: &InstanceId| Named {
            pool: pool.to_string(),
            instance: instance.to_string(),
        };
        let drained = said.admin.iter().filter(|(_, _, admin)| *admin == Admin::Draining);
        let scaling = || said.scaling.iter();
        Self {
            version: OVERRIDES_VERSION,
            drains: drained.map(|(pool, instance, _)| named(pool, instance)).collect(),
            protected: scaling()
                .flat_map(|(pool, said)| said.protected.iter().map(|id| named(pool, id)))
                .collect(),
            sizes: scaling()
                .filter_map(|(pool, said)| Some(Size { pool: pool.to_string(), size: said.size? }))
                .collect(),
            evacuations: said
                .evacuations
                .iter()
                .map(|(zone, evacuation)| Zone { zone: zone.to_string(), evacuation: *evacuation })
                .collect(),
        }
    }
}

impl From<Overrides> for Said {
    fn from(read: Overrides) -> Self {
        let name = |named: Named| (PoolId::new(named.pool), InstanceId::new(named.instance));
        let mut scaling = BTreeMap::<PoolId, model::Said>::new();
        for (pool, instance) in read.protected.into_iter().map(name) {
            scaling.entry(pool).or_default().protected.insert(instance);
        }
        for Size { pool, size } in read.sizes {
            scaling.entry(PoolId::new(pool)).or_default().size = Some(size);
        }
        let drains = read.drains.into_iter().map(name);
        let evacuations = read.evacuations.into_iter();
        Self {
            admin: drains.map(|(pool, id)| (pool, id, Admin::Draining)).collect(),
            scaling,
            evacuations: evacuations.map(|it| (ZoneId::new(it.zone), it.evacuation)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_per_state() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(&dir.path().join("a/b")).expect("made");
        let error = StateDir::open(&dir.path().join("a/b")).expect_err("taken");
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        drop(state);
        StateDir::open(&dir.path().join("a/b")).expect("free again");
    }

    #[test]
    fn overrides_come_back_and_rubbish_is_put_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(dir.path()).expect("made");
        assert_eq!(state.read_overrides(), Said::default());
        let size = SizeOverride { desired: 5, until: Some(1_764_140_000) };
        let of_web = model::Said { size: Some(size), protected: ["i3".into()].into() };
        let mut said = Said {
            admin: vec![
                ("web".into(), "i1".into(), Admin::Draining),
                ("web".into(), "i2".into(), Admin::Enabled),
            ],
            scaling: [("web".into(), of_web)].into(),
            evacuations: [
                ("a".into(), Evacuation { until: None }),
                ("b".into(), Evacuation { until: Some(1_764_140_000) }),
            ]
            .into(),
        };
        state.write_overrides(&said).expect("written");
        said.admin.truncate(1);
        assert_eq!(state.read_overrides(), said);
        let older = r#"{"version":1,"drains":[{"pool":"web","instance":"i1"}]}"#;
        fs::write(dir.path().join("overrides.json"), older).expect("written");
        assert_eq!(state.read_overrides(), Said { admin: said.admin, ..Said::default() });
        fs::write(dir.path().join("overrides.json"), "{").expect("written");
        assert_eq!(state.read_overrides(), Said::default());
        assert!(dir.path().join("overrides.json.corrupt").exists());
    }
}
