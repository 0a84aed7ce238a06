//! Processes as the kernel shows them: who lives, who bears our marks, signals and reaping.
//!
//! A number alone never identifies a process: it is compared with the start time, because numbers
//! are used again. "Gone" is only said when the kernel says so; any other failure to read is an
//! error, so that a daemon that is short of file descriptors does not take the living for dead.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process_group, pidfd_open, pidfd_send_signal,
    waitpid,
};

use super::records::Mark;

/// The variables that an instance finds in its environment, and by which it is found if its record
/// is lost.
pub(super) const ENV_ADDRESS: &str = "TIDEGATE_ADDRESS";
pub(super) const ENV_ID: &str = "TIDEGATE_INSTANCE_ID";
pub(super) const ENV_POOL: &str = "TIDEGATE_POOL";
pub(super) const ENV_SIZE: &str = "TIDEGATE_SIZE";
pub(super) const ENV_STATE_DIR: &str = "TIDEGATE_STATE_DIR";
pub(super) const ENV_ZONE: &str = "TIDEGATE_ZONE";

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stat {
    state: char,
    group: u32,
    threads: u32,
    start: u64,
}

impl Stat {
    /// It has ended, and only its status is kept for its parent. (A process whose first thread has
    /// ended looks so too, but has others.)
    fn is_zombie(self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

/// A process that bears the marks of a pool in its environment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bearer {
    pub(super) mark: Mark,
    /// It leads its process group, as every instance does.
    pub(super) leads: bool,
    pub(super) instance: Named,
}

/// The instance that an environment was made for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Named {
    pub(super) id: String,
    pub(super) zone: String,
    pub(super) address: SocketAddr,
    pub(super) size: Option<String>,
}

/// Whether `err` tells of a shortage that may pass: too many processes or files, no memory.
pub(super) fn is_shortage(err: &io::Error) -> bool {
    let errno = Errno::from_io_error(err);
    errno.is_some_and(|errno| {
        [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE].contains(&errno)
    })
}

/// Which start of the machine this is.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The marks of the process that has the number `pid` now; `None` if there is none.
pub(super) fn mark(pid: u32, boot: &str) -> io::Result<Option<Mark>> {
    Ok(stat(pid)?.map(|stat| Mark { pid, start: stat.start, boot: boot.to_owned() }))
}

/// How the process ended; `None` while it lives. A child of this process is reaped.
pub(super) fn fate(mark: &Mark, boot: &str) -> io::Result<Option<String>> {
    if mark.boot != boot {
        return Ok(Some("ended with the machine's last run".into()));
    }
    match stat(mark.pid)? {
        Some(stat) if stat.start == mark.start && !stat.is_zombie() => Ok(None),
        // The zombie holds the number, so no other child can be reaped in its place.
        Some(stat) if stat.start == mark.start => Ok(reap(mark.pid)),
        _ => Ok(Some("ended".into())),
    }
}

fn reap(pid: u32) -> Option<String> {
    let status = match waitpid(Some(pid_of(pid)?), WaitOptions::NOHANG) {
        Ok(Some((_, status))) => status,
        Ok(None) => return None,
        // Not a child of this process: its status is not ours to know.
        Err(_) => return Some("ended".into()),
    };
    Some(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".into(),
    })
}

/// Sends a signal to the process group that the process leads. A group that is gone is no error.
pub(super) fn signal_group(mark: &Mark, signal: Signal) -> io::Result<()> {
    let same =
        stat(mark.pid)?.is_some_and(|stat| stat.start == mark.start && stat.group == mark.pid);
    let Some(pid) = pid_of(mark.pid).filter(|_| same) else {
        return Ok(());
    };
    match kill_process_group(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Kills one process, if it is still the one that was seen.
pub(super) fn kill(bearer: &Bearer) -> io::Result<()> {
    let Some(pid) = pid_of(bearer.mark.pid) else {
        return Ok(());
    };
    // Held open before the comparison: whatever is signalled is what was compared.
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    if stat(bearer.mark.pid)?.is_none_or(|stat| stat.start != bearer.mark.start) {
        return Ok(());
    }
    match pidfd_send_signal(handle, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Every living process that was started for this pool by a daemon with this state directory, and
/// its descendants. Processes whose environment may not be read are not ours.
pub(super) fn bearers(pool: &str, state_dir: &Path, boot: &str) -> io::Result<Vec<Bearer>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let environ = match fs::read(format!("/proc/{pid}/environ")) {
            Ok(environ) => environ,
            Err(err) if is_shortage(&err) => return Err(err),
            Err(_) => continue,
        };
        let Some(instance) = parse_environ(&environ, pool, state_dir) else {
            continue;
        };
        let Some(stat) = stat(pid)?.filter(|stat| !stat.is_zombie()) else {
            continue;
        };
        let mark = Mark { pid, start: stat.start, boot: boot.to_owned() };
        found.push(Bearer { mark, leads: stat.group == pid, instance });
    }
    Ok(found)
}

/// By id, the first process of each instance.
pub(super) fn leaders(bearers: Vec<Bearer>) -> HashMap<String, Bearer> {
    let mut leaders: HashMap<String, Bearer> = HashMap::new();
    for bearer in bearers.into_iter().filter(|bearer| bearer.leads) {
        // A descendant may lead a group of its own; it is younger, or has the higher number.
        match leaders.get(&bearer.instance.id) {
            Some(seen)
                if (seen.mark.start, seen.mark.pid) <= (bearer.mark.start, bearer.mark.pid) => {}
            _ => {
                leaders.insert(bearer.instance.id.clone(), bearer);
            }
        }
    }
    leaders
}

/// What an environment says of the instance that it was made for, if that is one of this pool.
fn parse_environ(environ: &[u8], pool: &str, state_dir: &Path) -> Option<Named> {
    let find = |name: &str| {
        environ.split(|byte| *byte == 0).find_map(|line| {
            line.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
        })
    };
    let text = |name| find(name).and_then(|value| str::from_utf8(value).ok()).map(str::to_owned);
    if find(ENV_POOL)? != pool.as_bytes()
        || OsStr::from_bytes(find(ENV_STATE_DIR)?) != state_dir.as_os_str()
    {
        return None;
    }
    Some(Named {
        id: text(ENV_ID)?,
        zone: text(ENV_ZONE)?,
        address: text(ENV_ADDRESS)?.parse().ok()?,
        size: text(ENV_SIZE),
    })
}

fn stat(pid: u32) -> io::Result<Option<Stat>> {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(bytes) => parse_stat(&String::from_utf8_lossy(&bytes)).map(Some).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat makes no sense"))
        }),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        // The process ended between the opening and the reading.
        Err(err) if Errno::from_io_error(&err) == Some(Errno::SRCH) => Ok(None),
        Err(err) => Err(err),
    }
}

/// The name (field 2) is in brackets and may itself hold brackets and blanks.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        group: fields.get(2)?.parse().ok()?,
        threads: fields.get(17)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

/// A number that a signal may go to: never 0 or 1, which mean "all of us" and "everyone".
fn pid_of(raw: u32) -> Option<Pid> {
    i32::try_from(raw).ok().filter(|raw| *raw > 1).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_odd_names() {
        let tail = "S 1 42 42 0 -1 4194304 99 0 0 0 0 0 0 0 20 0 1 0 170542 3133440 353";
        let expected = Some(Stat { state: 'S', group: 42, threads: 1, start: 170_542 });
        for name in ["(cat)", "(a b)", "(a) S 9 9)", "()", "(é)"] {
            assert_eq!(parse_stat(&format!("42 {name} {tail}")), expected, "{name}");
        }
        for line in ["", "42", "42 (cat)", "42 (cat) S 1 42", "42 (cat) S x y"] {
            assert_eq!(parse_stat(line), None, "{line:?}");
        }
    }

    #[test]
    fn environments_of_others_are_told_apart() {
        let dir = Path::new("/var/lib/tidegate");
        let ours = "HOME=/\0TIDEGATE_POOL=web\0TIDEGATE_STATE_DIR=/var/lib/tidegate\0\
                    TIDEGATE_INSTANCE_ID=web-a-1\0TIDEGATE_ZONE=a\0TIDEGATE_ADDRESS=127.0.1.1:80\0";
        let seen = parse_environ(ours.as_bytes(), "web", dir).expect("ours");
        assert_eq!((seen.id.as_str(), seen.zone.as_str()), ("web-a-1", "a"));
        assert_eq!((seen.address.to_string().as_str(), seen.size), ("127.0.1.1:80", None));
        for (from, to) in [
            ("POOL=web\0", "POOL=web2\0"),
            ("POOL=web\0", "POOL=we\0"),
            ("lib/tidegate\0", "lib/tidegate2\0"),
            ("TIDEGATE_STATE_DIR=", "STATE_DIR="),
            ("127.0.1.1:80", "nowhere"),
            ("TIDEGATE_INSTANCE_ID=", "XTIDEGATE_INSTANCE_ID="),
        ] {
            let other = ours.replace(from, to);
            assert_eq!(parse_environ(other.as_bytes(), "web", dir), None, "{from:?} → {to:?}");
        }
        assert_eq!(parse_environ(b"", "web", dir), None);
    }

    #[test]
    fn numbers_that_mean_everyone_are_never_signalled() {
        for raw in [0, 1, u32::MAX, 1 << 31] {
            assert_eq!(pid_of(raw), None);
        }
        assert!(pid_of(2).is_some());
    }

    #[test]
    fn the_first_process_of_a_group_of_its_own_is_the_instance() {
        let bearer = |id: &str, pid, start, leads| Bearer {
            mark: Mark { pid, start, boot: "b".into() },
            leads,
            instance: Named {
                id: id.into(),
                zone: "a".into(),
                address: "127.0.1.1:80".parse().expect("an address"),
                size: None,
            },
        };
        let leaders = leaders(vec![
            bearer("x", 12, 70, true),
            bearer("x", 10, 50, true),
            bearer("x", 15, 50, true),
            bearer("x", 11, 40, false),
            bearer("y", 13, 90, true),
            bearer("z", 14, 90, false),
        ]);
        let mut seen: Vec<_> = leaders.iter().map(|(id, b)| (id.as_str(), b.mark.pid)).collect();
        seen.sort_unstable();
        assert_eq!(seen, [("x", 10), ("y", 13)]);
    }
}
