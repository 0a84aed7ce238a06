//! Keys that must be the same after a restart, in `state_dir/keys/`. For the same key on several nodes
//! copy the file; for a new one, put it before the others.
//!
//! Losing or corrupting one is reported and never stops traffic: clients are bound anew.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use crate::proxy::balance::{KEY_LEN, Keys};

/// `keys/sticky.json`.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    version: u32,
    /// In hexadecimal digits, the newest first.
    keys: Vec<String>,
}

const VERSION: u32 = 1;

/// The keys of the cookies of sticky sessions; made if there are none.
pub fn sticky(state_dir: &Path) -> Keys {
    let path = state_dir.join("keys/sticky.json");
    match read(&path) {
        Ok(keys) => return Keys::new(keys),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            let kept = fs::rename(&path, path.with_extension("json.corrupt")).is_ok();
            tracing::error!(path = %path.display(), %error, kept_aside = kept,
                "cannot use the keys of sticky cookies: a new one is made, and clients are bound anew");
        }
    }
    let key = fresh();
    if let Err(error) = write(&path, &key) {
        tracing::error!(path = %path.display(), %error,
            "cannot keep the key of sticky cookies: clients are bound anew after the next start");
    }
    Keys::new(vec![key])
}

fn read(path: &Path) -> io::Result<Vec<[u8; KEY_LEN]>> {
    let makes_no_sense = |why: String| io::Error::new(ErrorKind::InvalidData, why);
    let text = fs::read_to_string(path)?;
    let file: KeyFile = serde_json::from_str(&text)?;
    if file.version != VERSION {
        return Err(makes_no_sense(format!("version {} is not {VERSION}", file.version)));
    }
    let keys: Option<Vec<_>> = file.keys.iter().map(|digits| from_digits(digits)).collect();
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{mode:o}"),
            "others may read the keys of sticky cookies: chmod 600 it");
    }
    keys.filter(|keys| !keys.is_empty())
        .ok_or_else(|| makes_no_sense(format!("keys are {} hexadecimal digits", 2 * KEY_LEN)))
}

/// Aside, synced, renamed, as all that is kept.
fn write(path: &Path, key: &[u8; KEY_LEN]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let digits = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = serde_json::to_vec_pretty(&KeyFile { version: VERSION, keys: vec![digits] })?;
    let aside = path.with_extension("json.new");
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&aside)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(folder)?.sync_all()
}

/// From the kernel, which has always enough by the time that a daemon runs.
fn fresh() -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    let mut filled = 0;
    while filled < KEY_LEN {
        match getrandom(&mut key[filled..], GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel has no random bytes for a key: {error}"),
        }
    }
    key
}

fn from_digits(digits: &str) -> Option<[u8; KEY_LEN]> {
    let mut key = [0; KEY_LEN];
    if digits.len() != 2 * KEY_LEN || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in key.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_others_may_not_read_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = sticky(dir.path());
        assert!(sticky(dir.path()) == made, "it is kept");
        let path = dir.path().join("keys/sticky.json");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&dir.path().join("keys")), 0o700);
        assert!(sticky(&dir.path().join("elsewhere")) != made, "no two are alike");
    }

    #[test]
    fn rubbish_is_put_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys/sticky.json");
        let made = sticky(dir.path());
        let key = "0a".repeat(KEY_LEN);
        for (text, good) in [
            ("{".to_owned(), false),
            (format!("{{\"version\":2,\"keys\":[\"{key}\"]}}"), false),
            ("{\"version\":1,\"keys\":[]}".to_owned(), false),
            (format!("{{\"version\":1,\"keys\":[\"{key}\",\"0\"]}}"), false),
            (format!("{{\"version\":1,\"keys\":[\"{}\"]}}", "+a".repeat(KEY_LEN)), false),
            (format!("{{\"version\":1,\"keys\":[\"{key}\",\"{key}\"]}}"), true),
        ] {
            fs::write(&path, &text).expect("written");
            let read = sticky(dir.path());
            assert_eq!(read == Keys::new(vec![[10; KEY_LEN]; 2]), good, "{text}");
            assert!(read != made);
            assert_eq!(path.with_extension("json.corrupt").exists(), !good, "{text}");
            let _ = fs::remove_file(path.with_extension("json.corrupt"));
        }
    }
}
