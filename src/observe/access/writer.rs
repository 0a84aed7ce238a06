//! The thread that writes the access log.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;

use crate::base::{Clock, Ms};
use crate::config::{AccessTo, LogFormat, LogSettings};
use crate::observe::access::Style;
use crate::observe::access::queue::{Batch, Queue};
use crate::observe::access::sink::AccessSink;

/// How often it is looked at most whether the file was moved.
const LOOK: Duration = Duration::from_secs(1);

/// How often the daemon's own log is told at most of the same trouble.
const TROUBLE_PAUSE: Duration = Duration::from_secs(60);

/// How long the end of the process waits for what is still to be written.
const FAREWELL: Duration = Duration::from_secs(2);

/// The access log, or that there is none.
#[derive(Debug, Default)]
pub struct AccessLog {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    queue: Arc<Queue>,
    style: Style,
    dropped: IntCounter,
}

/// Why there can be no access log.
#[derive(Debug, thiserror::Error)]
#[error("the access log {path} cannot be written: {why}; check log.access")]
pub struct OpenError {
    path: String,
    why: io::Error,
}

impl AccessLog {
    /// Opens what the settings say and starts to write to it. Lines that are lost are counted as
    /// `dropped`.
    ///
    /// # Errors
    /// If the file cannot be opened, or the thread cannot be started.
    pub fn open(
        settings: &LogSettings,
        clock: Clock,
        dropped: IntCounter,
    ) -> Result<Self, OpenError> {
        let failed = |why| {
            let path = match &settings.access {
                AccessTo::File(path) => path.display().to_string(),
                _ => "to stdout".into(),
            };
            OpenError { path, why }
        };
        let target = match &settings.access {
            AccessTo::Off => return Ok(Self::default()),
            AccessTo::Stdout => Target::Stdout,
            AccessTo::File(path) => {
                Target::File { file: open(path).map_err(failed)?, path: path.clone() }
            }
        };
        let style = match settings.format {
            LogFormat::Text | LogFormat::Json => Style::Json,
            LogFormat::Common => Style::Combined,
        };
        let queue = Arc::new(Queue::default());
        let (looked, troubled) = (clock.now(), None);
        let dropping = dropped.clone();
        let mut writer = Writer { target, clock, looked, troubled, torn: false, dropped: dropping };
        let todo = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.run(&todo))
            .map_err(failed)?;
        Ok(Self { open: Some(Open { queue, style, dropped }) })
    }

    /// A worker's end of it.
    pub fn sink(&self) -> AccessSink {
        self.open.as_ref().map_or_else(AccessSink::default, |open| {
            AccessSink::new(Arc::clone(&open.queue), open.style, open.dropped.clone())
        })
    }

    /// Opens the file anew: somebody may have moved it.
    pub fn reopen(&self) {
        if let Some(open) = &self.open {
            open.queue.reopen();
        }
    }

    /// Writes what there is, and ends. Waits for that, but not for long: whoever should read the
    /// standard output may not.
    pub fn close(&self) {
        if let Some(open) = &self.open
            && !open.queue.close(FAREWELL)
        {
            tracing::warn!("the last lines of the access log could not be written in time");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

#[derive(Debug)]
enum Target {
    Stdout,
    File { file: File, path: PathBuf },
}

#[derive(Debug)]
struct Writer {
    target: Target,
    clock: Clock,
    /// When the file was last looked for.
    looked: Ms,
    /// When trouble was last told.
    troubled: Option<Ms>,
    /// What was written last is no whole line.
    torn: bool,
    dropped: IntCounter,
}

impl Writer {
    fn run(&mut self, queue: &Queue) {
        let mut batch = Batch::default();
        loop {
            let task = queue.next(&mut batch);
            self.look_after_file(task.reopen);
            if !batch.bytes.is_empty()
                && let Err(why) = self.write(&batch.bytes)
            {
                self.dropped.inc_by(batch.lines);
                self.tell("lines of the access log are lost", &why);
            }
            if task.end {
                return queue.end();
            }
        }
    }

    /// Writes whole lines. Behind one that was cut short the next begins on a line of its own.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let out: &mut dyn Write = match &mut self.target {
            Target::Stdout => &mut io::stdout(),
            Target::File { file, .. } => file,
        };
        if std::mem::replace(&mut self.torn, true) {
            out.write_all(b"\n")?;
        }
        out.write_all(bytes)?;
        out.flush()?;
        self.torn = false;
        Ok(())
    }

    /// Opens the file anew if that was asked for, or if it is no longer at its path.
    fn look_after_file(&mut self, asked: bool) {
        let now = self.clock.now();
        let Target::File { file, path } = &mut self.target else { return };
        if !asked && now.since(self.looked) < LOOK {
            return;
        }
        self.looked = now;
        if !asked && is_at(file, path) {
            return;
        }
        match open(path) {
            Ok(opened) => {
                *file = opened;
                self.torn = false;
            }
            Err(why) => {
                self.tell("the access log cannot be opened anew and goes on as it is", &why)
            }
        }
    }

    fn tell(&mut self, what: &str, why: &io::Error) {
        let now = self.clock.now();
        if self.troubled.is_none_or(|told| now.since(told) >= TROUBLE_PAUSE) {
            self.troubled = Some(now);
            tracing::error!(%why, "{what}");
        }
    }
}

/// Whether what is open is what the path leads to.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}
