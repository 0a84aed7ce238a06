//! What was typed → what is meant. Finds every fault of the file before it gives up.
//!
//! Every effective value passes [`Compiler::choose`], which is the only place that knows that a key
//! itself goes before `[defaults]`, and `[defaults]` before what is built in. A value with a fault
//! is replaced by the built-in one, so that the rest can be checked: a [`Config`] with such a value
//! is never handed out.
//!
//! How `[defaults]` works for tables: it never makes a table where that would change what a pool
//! is, with one exception that is meant so: a `[defaults.provisioner]` gives every pool one.
//! `[defaults.scaling]` applies to pools that have a provisioner.

mod action;
mod affinity;
mod health;
mod limits;
mod listener;
mod outlier;
mod page;
mod pool;
mod rewrite;
mod route;
mod rule;
mod scaling;
mod schedule;
mod tls;
mod upstream;
mod zones;

use std::io;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::base::ZoneId;
use crate::config::explain::{Origin, Setting};
use crate::config::fault::{Faults, Lines, Place, Sink, did_you_mean};
use crate::config::raw::{self, File};
use crate::config::read::{Given, Ledger, State, Table};
use crate::config::scalar::{MOST_WORKERS, Printed, Workers};
use crate::config::{AccessTo, AdminBind, AdminSettings, Config, LogFormat, LogSettings, Node};

/// A valid configuration and where each of its values comes from.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every effective value, in the order of the tables.
    pub explanation: Vec<Setting>,
}

impl Loaded {
    /// The path of the listener's table, as faults name it; `index` is its place in the configuration.
    pub fn listener_key(&self, index: usize) -> String {
        let tables =
            self.explanation.iter().filter_map(|setting| setting.key.strip_suffix(".name"));
        let mut listeners = tables.filter(|table| table.starts_with("listener"));
        listeners.nth(index).unwrap_or("listener").to_owned()
    }

    /// The line that sets this key, or the first of those in the table of that name.
    pub fn line_of(&self, key: &str) -> Option<usize> {
        let is_in = |setting: &&Setting| {
            setting
                .key
                .strip_prefix(key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.explanation.iter().filter(is_in).find_map(|setting| match setting.origin {
            Origin::File { line } | Origin::Defaults { line } => Some(line),
            Origin::BuiltIn => None,
        })
    }
}

/// Reads a file that the configuration names. It need not read more than a little over 64 KiB.
pub type ReadFile<'r> = dyn Fn(&Path) -> io::Result<Vec<u8>> + 'r;

/// Reads and compiles a file, and reads the files that it names.
///
/// # Errors
/// All faults of the file, or that it cannot be read.
pub fn load(path: &Path) -> Result<Loaded, Faults> {
    let bytes = std::fs::read(path).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "write one there, or name another with --config FILE",
            _ => "the daemon must be allowed to read it",
        };
        Faults::of_file(path, format!("cannot be read: {error}"), hint)
    })?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => compile(text, path, &read_page),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let (line, column) = Lines::of(&valid).position(valid.len());
            let mut faults =
                Faults::of_file(path, "is not UTF-8 here".into(), "save the file as UTF-8");
            for fault in &mut faults.0 {
                (fault.line, fault.column) = (line, column);
            }
            Err(faults)
        }
    }
}

/// Reads a file, or a byte more than it may have.
fn read_page(path: &Path) -> io::Result<Vec<u8>> {
    // Opening anything else, such as a pipe, could wait for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(page::PAGE_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Compiles `text`, the content of `path`; relative paths in it are relative to where that is. The
/// files that it names are read by `read`.
///
/// # Errors
/// All faults of the text.
pub fn compile(text: &str, path: &Path, read: &ReadFile<'_>) -> Result<Loaded, Faults> {
    let sink = Sink::new(text, path);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let problem = match error.span().and_then(|span| text.get(span)) {
            Some(key) if is_duplicate(error) => format!("{key:?} is there twice"),
            _ => error.message().to_owned(),
        };
        sink.add(place_of(error, text), "", problem, None);
    }
    if !is_contained(text, &errors)
        && let Some(faults) = sink.take_faults()
    {
        return Err(faults);
    }
    let ledger = Ledger::new(&sink);
    let file = File::read(&Table::root(root.get_ref(), &ledger));
    ledger.close();

    let folder = path.parent().unwrap_or(Path::new(""));
    let mut compiler = Compiler { sink: &sink, folder, read, settings: Vec::new() };
    let config = compiler.file(&file);
    let explanation = compiler.settings;
    match sink.take_faults() {
        Some(faults) => Err(faults),
        None => Ok(Loaded { config, explanation }),
    }
}

fn place_of(error: &toml::de::Error, text: &str) -> Place {
    error.span().map_or(text.len(), |span| span.start)
}

/// A key or table that is there twice: the one harmless error, as all that follows is where it was.
fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message() == "duplicate key"
}

/// Whether what the parser made of the text can be trusted but for the lines with errors: it can if
/// the text without them is right, and none of them is the header of a table. Otherwise a bracket
/// that is missing somewhere would let whole tables seem to be missing.
fn is_contained(text: &str, errors: &[toml::de::Error]) -> bool {
    let lines = Lines::of(text);
    let broken: Vec<usize> = errors
        .iter()
        .filter(|error| !is_duplicate(error))
        .map(|error| lines.position(place_of(error, text)).0)
        .collect();
    let mut rest = String::with_capacity(text.len());
    for (number, line) in (1..).zip(text.lines()) {
        if !broken.contains(&number) {
            rest.push_str(line);
        } else if line.trim_start().starts_with('[') {
            return false;
        }
        rest.push('\n');
    }
    DeTable::parse_recoverable(&rest).1.iter().all(is_duplicate)
}

/// A value that was chosen, with where it was written, for faults that are found later.
#[derive(Clone, Debug)]
struct Chosen<T> {
    value: T,
    key: String,
    place: Place,
}

/// Place and key of the first that the file says anything for.
fn first_written<'g, T>(given: &[&'g Given<T>]) -> Option<(Place, &'g str)> {
    given.iter().find(|it| it.is_present()).map(|it| (it.place, it.key.as_str()))
}

struct Compiler<'t> {
    sink: &'t Sink<'t>,
    /// Relative paths start here.
    folder: &'t Path,
    /// Reads the files that the file names.
    read: &'t ReadFile<'t>,
    settings: Vec<Setting>,
}

impl Compiler<'_> {
    /// Takes the value of the key itself, else that of `[defaults]`, else the built-in one, and
    /// records it. `None` if there is none of them, or a fault was noted for it.
    fn choose<T: Printed + Clone>(
        &mut self,
        own: &Given<T>,
        inherited: Option<&Given<T>>,
        built_in: Option<T>,
    ) -> Option<Chosen<T>> {
        let (from, is_own) = match inherited {
            Some(inherited) if !own.is_present() && inherited.is_present() => (inherited, false),
            _ => (own, true),
        };
        let (value, origin) = match &from.state {
            State::Wrong => return None,
            State::Absent => (built_in?, Origin::BuiltIn),
            State::Is(value) => {
                let line = self.sink.line(from.place);
                let origin = if is_own { Origin::File { line } } else { Origin::Defaults { line } };
                (value.clone(), origin)
            }
        };
        self.settings.push(Setting { key: own.key.clone(), value: value.print(), origin });
        Some(Chosen { value, key: from.key.clone(), place: from.place })
    }

    /// [`choose`](Self::choose) for a key that always has a value.
    fn pick<T: Printed + Clone>(&mut self, own: &Given<T>, inherited: &Given<T>, built_in: T) -> T {
        self.choose(own, Some(inherited), Some(built_in.clone())).map_or(built_in, |it| it.value)
    }

    /// [`pick`](Self::pick) for a key that is not inherited.
    fn own<T: Printed + Clone>(&mut self, own: &Given<T>, built_in: T) -> T {
        self.choose(own, None, Some(built_in.clone())).map_or(built_in, |it| it.value)
    }

    /// [`choose`](Self::choose) for a key that must be written.
    fn required<T: Printed + Clone>(
        &mut self,
        own: &Given<T>,
        inherited: Option<&Given<T>>,
        hint: &str,
    ) -> Option<Chosen<T>> {
        if !own.is_present() && !inherited.is_some_and(Given::is_present) {
            self.sink.add(own.place, &own.key, "is missing", Some(hint.into()));
        }
        self.choose(own, inherited, None)
    }

    /// Notes a fault.
    fn fault(&self, place: Place, key: &str, problem: impl Into<String>, hint: &str) {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.sink.add(place, key, problem, hint);
    }

    /// Checks that `name` is among `names`.
    fn exists<'n>(
        &self,
        name: &Chosen<String>,
        what: &str,
        names: impl Iterator<Item = &'n str> + Clone,
    ) -> bool {
        let exists = names.clone().any(|known| known == name.value);
        if !exists {
            let problem = format!("there is no {what} {:?}", name.value);
            self.sink.add(name.place, &name.key, problem, did_you_mean(&name.value, names));
        }
        exists
    }

    fn file(&mut self, file: &File) -> Config {
        let node = self.node(&file.node);
        let admin = self.admin(&file.admin);
        let log = LogSettings {
            level: self.own(&file.log.level, tracing::Level::INFO),
            access: match self.own(&file.log.access, AccessTo::Off) {
                AccessTo::File(path) => AccessTo::File(self.folder.join(path)),
                word => word,
            },
            format: self.own(&file.log.format, LogFormat::Text),
        };
        let listeners = self.listeners(file, &admin);
        let routes = self.routes(file);
        let pools = self.pools(file, &listeners);
        Config { node, admin, log, listeners, routes, pools }
    }

    fn node(&mut self, node: &raw::Node) -> Node {
        let zone = self.choose(&node.zone, None, None);
        let workers = match self.own(&node.workers, Workers::Auto) {
            Workers::Exactly(count) => count as usize,
            Workers::Auto => std::thread::available_parallelism()
                .map_or(1, std::num::NonZero::get)
                .min(MOST_WORKERS as usize),
        };
        let state_dir = self.own(&node.state_dir, PathBuf::from("/var/lib/tidegate"));
        Node {
            zone: zone.map(|zone| ZoneId::new(zone.value.0)),
            workers,
            state_dir: self.folder.join(state_dir),
        }
    }

    fn admin(&mut self, admin: &raw::Admin) -> AdminSettings {
        let bind = match self.own(&admin.bind, AdminBind::Tcp(([127, 0, 0, 1], 9900).into())) {
            AdminBind::Unix(path) => AdminBind::Unix(self.folder.join(path)),
            tcp @ AdminBind::Tcp(_) => tcp,
        };
        let token_file = self.choose(&admin.token_file, None, None);
        AdminSettings { bind, token_file: token_file.map(|file| self.folder.join(file.value)) }
    }
}
