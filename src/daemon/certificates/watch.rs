//! Whether files have changed, and rest. Pure but for [`stamps`].

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// By what a file is known to have changed: where it is, how long, and when it was written or put there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let it = fs::metadata(path).ok()?;
        Some(Self {
            inode: it.ino(),
            len: it.len(),
            modified: (it.mtime(), it.mtime_nsec()),
            changed: (it.ctime(), it.ctime_nsec()),
        })
    }
}

/// The stamps of files, in their order; `None` for what is not there.
pub type Stamps = Vec<Option<Stamp>>;

/// Looks at files.
pub fn stamps(files: &[PathBuf]) -> Stamps {
    files.iter().map(|path| Stamp::of(path)).collect()
}

/// What was seen of files that belong together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watch {
    /// When they were read the last time.
    read: Stamps,
    /// When they were looked at the last time.
    seen: Stamps,
}

impl Watch {
    /// Of files that are read just after they looked like this.
    pub fn new(read: Stamps) -> Self {
        Self { seen: read.clone(), read }
    }

    /// Whether they are to be read again now that they look like this: they are not as they were when
    /// they were read, for good or ill, and as they were at the last look. So none is read while it is
    /// written, nor a certificate whose key is still on its way; and what is no good is read once.
    pub fn is_due(&mut self, now: Stamps) -> bool {
        if now == self.seen && now != self.read {
            self.read = now;
            return true;
        }
        self.seen = now;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_again_once_they_rest() {
        let stamp = |inode| Some(Stamp { inode, len: 1, modified: (1, 0), changed: (1, 0) });
        let (a, b, c) = (vec![stamp(1), stamp(2)], vec![stamp(3), stamp(2)], vec![stamp(3), None]);
        let mut watch = Watch::new(a.clone());
        for (number, (looks, due)) in [
            (&a, false),
            (&b, false), // changed
            (&c, false), // and again
            (&c, true),  // rests
            (&c, false), // was read
            (&b, false),
            (&c, false), // back before it rested
            (&c, false),
            (&a, false),
            (&a, true),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(watch.is_due(looks.clone()), due, "look {number}");
        }
    }

    #[test]
    fn what_is_put_in_the_place_of_a_file_is_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, aside) = (dir.path().join("a"), dir.path().join("b"));
        let files = [path.clone()];
        assert_eq!(stamps(&files), [None]);
        fs::write(&path, "one").expect("written");
        let first = stamps(&files);
        assert!(first[0].is_some() && first == stamps(&files));
        fs::write(&aside, "two").expect("written");
        fs::rename(&aside, &path).expect("renamed");
        assert_ne!(stamps(&files), first);
        // As a mounted secret is changed: the link leads elsewhere.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        let before = stamps(std::slice::from_ref(&link));
        fs::write(&aside, "three").expect("written");
        fs::remove_file(&link).expect("removed");
        std::os::unix::fs::symlink(&aside, &link).expect("linked");
        assert_ne!(stamps(&[link]), before);
    }
}
