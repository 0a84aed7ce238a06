//! What the daemon keeps in `state_dir`: a lock, and what operators said.
//!
//! Losing or corrupting any of it is reported and never stops traffic.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::base::{InstanceId, PoolId};
use crate::model::Admin;

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
    #[error("cannot use state_dir {path}: {error}; set node.state_dir to a directory that this user may write")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another daemon holds it.
    #[error("another tidegate{holder} runs on state_dir {path}; stop it, or give this one another node.state_dir")]
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
    drains: Vec<Drain>,
}

#[derive(Serialize, Deserialize)]
struct Drain {
    pool: String,
    instance: String,
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
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What operators said before; nothing if the file is lost or makes no sense, which is logged.
    pub fn read_overrides(&self) -> Vec<(PoolId, InstanceId, Admin)> {
        let path = self.path.join("overrides.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot read operators' overrides; going on without");
                return Vec::new();
            }
        };
        match serde_json::from_str::<Overrides>(&text) {
            Ok(read) if read.version == OVERRIDES_VERSION => read
                .drains
                .into_iter()
                .map(|d| (PoolId::new(d.pool), InstanceId::new(d.instance), Admin::Draining))
                .collect(),
            other => {
                let why = other.err().map_or("another version wrote it".into(), |e| e.to_string());
                let aside = self.path.join("overrides.json.corrupt");
                let kept = fs::rename(&path, &aside).is_ok();
                tracing::error!(path = %path.display(), why, kept_aside = kept, "operators' overrides make no sense; going on without");
                Vec::new()
            }
        }
    }

    /// Writes what operators said: aside, synced, renamed, so that a crash leaves the old or the
    /// new.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_overrides(&self, said: &[(PoolId, InstanceId, Admin)]) -> io::Result<()> {
        let drains = said
            .iter()
            .filter(|(_, _, admin)| *admin == Admin::Draining)
            .map(|(pool, instance, _)| Drain {
                pool: pool.to_string(),
                instance: instance.to_string(),
            })
            .collect();
        let text = serde_json::to_vec_pretty(&Overrides { version: OVERRIDES_VERSION, drains })?;
        let aside = self.path.join("overrides.json.new");
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&aside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&aside, self.path.join("overrides.json"))?;
        File::open(&self.path)?.sync_all()
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
        assert!(state.read_overrides().is_empty());
        let said = vec![
            ("web".into(), "i1".into(), Admin::Draining),
            ("web".into(), "i2".into(), Admin::Enabled),
        ];
        state.write_overrides(&said).expect("written");
        assert_eq!(state.read_overrides(), said[..1]);
        fs::write(dir.path().join("overrides.json"), "{").expect("written");
        assert!(state.read_overrides().is_empty());
        assert!(dir.path().join("overrides.json.corrupt").exists());
    }
}
