//! Child processes: each on a CPU of its own choice, none outlives this one, each is ended by its id.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group,
    set_parent_process_death_signal, setsid, waitid,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tidegate::base::Clock;

/// How long a process may take to end after each of the two signals.
const PATIENCE: Duration = Duration::from_secs(3);

/// A child, which ends with this value.
pub struct Process {
    child: Child,
}

/// The first two CPUs that this process may use: for the proxy, and for the load and the origin.
///
/// # Errors
/// If there is only one.
pub fn two_cpus() -> io::Result<[usize; 2]> {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    match (cpus.next(), cpus.next()) {
        (Some(first), Some(second)) => Ok([first, second]),
        _ => Err(io::Error::other("two CPUs are needed: one for the proxy, one for its load")),
    }
}

/// Becomes the program `command` on this CPU, and ends when the process that started this one does;
/// if it is to be `apart`, in a session of its own.
///
/// The kernel may divide a CPU by sessions first (`sched_autogroup_enabled`). So each proxy gets the
/// same part of its CPU, and the origin as much of the other as all load generators together: if it
/// had to share with each of them as one of many, all would wait for it.
///
/// # Errors
/// Always, since it returns only if that failed.
pub fn become_program(cpu: usize, apart: bool, command: &[String]) -> io::Result<()> {
    if apart {
        setsid()?;
    }
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus)?;
    let [program, arguments @ ..] = command else { return Err(io::ErrorKind::InvalidInput.into()) };
    Err(Command::new(program).args(arguments).exec())
}

impl Process {
    /// Starts `command` on this CPU in a session of its own, with what it says in the file `log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn logged(cpu: usize, command: &[String], log: &Path) -> io::Result<Self> {
        let log = File::create(log)?;
        let mut child = Self::prepare(cpu, "apart", command)?;
        child.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { child: child.spawn()? })
    }

    /// Starts `command` on this CPU, to be talked to.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn piped(cpu: usize, command: &[String]) -> io::Result<(Self, ChildStdin, ChildStdout)> {
        let mut child = Self::prepare(cpu, "beside", command)?;
        child.process_group(0);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        match (input, output) {
            (Some(input), Some(output)) => Ok((Self { child }, input, output)),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn prepare(cpu: usize, session: &str, command: &[String]) -> io::Result<Command> {
        let mut child = Command::new(std::env::current_exe()?);
        child.arg("become").arg(cpu.to_string()).arg(session).args(command);
        Ok(child)
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid()), options), Ok(None))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.pid(), signal)?)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its id names it, and its group, until it is waited for; so nobody else is ever hit.
        let clock = Clock::start();
        let _ = kill_process_group(self.pid(), Signal::TERM);
        while !self.ended() && clock.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }
}
