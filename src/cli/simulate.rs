//! `tidegate simulate`: what the scaling of a pool would do with a trace, without a daemon.

use std::fs;
use std::io::{self, BufReader, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::base::Share;
use crate::base::unit::parse_duration;
use crate::cli::args::ConfigArgs;
use crate::cli::{Exit, Failure, config_file, print};
use crate::model::Scaling;
use crate::scaling::STEADY;
use crate::scaling::simulate::drive::{DriveError, drive};
use crate::scaling::simulate::queue::Model;
use crate::scaling::simulate::rivals::TARGET;
use crate::scaling::simulate::trace::{self, Trace};
use crate::scaling::simulate::{Setting, simulate};

/// A run of fewer days is over before anybody wonders.
const LONG_DAYS: f64 = 1.5;

#[derive(PartialEq, Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["trace", "drive"]))]
pub(super) struct SimulateArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The pool whose scaling is simulated
    #[arg(long)]
    pub pool: String,
    /// Replay this trace: lines of timestamp_s,count in even steps. One of less than two hours is
    /// preceded by 15 minutes at its first level
    #[arg(long, value_name = "CSV")]
    pub trace: Option<PathBuf>,
    /// Answer an outside simulator: JSON lines on stdin and stdout, one each for a simulated second
    #[arg(long, conflicts_with_all = ["json", "out"])]
    pub drive: bool,
    /// Print the figures as JSON
    #[arg(long)]
    pub json: bool,
    /// Write report.json and report.svg there
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub replay: ReplayArgs,
}

/// What a replay rests on.
#[derive(PartialEq, Debug, Args)]
#[group(id = "replay", multiple = true, conflicts_with = "drive")]
pub(super) struct ReplayArgs {
    /// Requests a second that an instance (a unit of it, where sizes have units) takes at most [default:
    /// the pool's target / 0.82]
    #[arg(long, value_name = "RPS", value_parser = parse_positive, help_heading = INSTANCE)]
    pub capacity: Option<f64>,
    /// From the order of an instance to its first request
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "90s",
        help_heading = INSTANCE)]
    pub boot: Duration,
    /// A boot is up to this share longer or shorter
    #[arg(long, value_name = "SHARE", value_parser = parse_spread, default_value = "20%",
        help_heading = INSTANCE)]
    pub boot_spread: Share,
    /// How long it has half its capacity after that
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s",
        help_heading = INSTANCE)]
    pub warm_up: Duration,
    /// How long it is still paid for when it leaves
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s",
        help_heading = INSTANCE)]
    pub drain: Duration,
    /// A request that waits longer violates the objective
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "200ms",
        help_heading = INSTANCE)]
    pub slo_wait: Duration,
    /// A request that would wait longer is shed
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "2s",
        help_heading = INSTANCE)]
    pub shed_wait: Duration,
    /// Requests that an instance (or a unit of it) works on at a time (M/M/k)
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=10_000),
        default_value_t = 8, help_heading = INSTANCE)]
    pub workers: u32,
    /// Scale the trace so that its 99.9th-percentile minute needs N instances at 70 % of their capacity
    /// [default: as it is]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub peak: Option<u32>,
    /// Replay only the first N days
    #[arg(long, value_name = "N", value_parser = parse_positive)]
    pub days: Option<f64>,
    /// Of all chance: the same seed gives the same figures
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Begin the picture this long after the start
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s",
        requires = "out")]
    pub from: Duration,
    /// Show this many hours in the picture [default: all]
    #[arg(long, value_name = "N", value_parser = parse_positive, requires = "out")]
    pub hours: Option<f64>,
}

const INSTANCE: &str = "Instance model";

fn parse_positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number > 0.0)
        .ok_or_else(|| "expected a number above 0".into())
}

fn parse_spread(text: &str) -> Result<Share, String> {
    Share::parse(text)
        .and_then(|share| if share.0 <= 1.0 { Ok(share) } else { Err("at most 100%".into()) })
}

pub(super) fn run(args: &SimulateArgs) -> Result<(), Failure> {
    let scaling = scaling(args)?;
    match &args.trace {
        Some(path) => replay(args, path, scaling),
        None => driven(&scaling),
    }
}

/// The scaling section of the pool that was named.
fn scaling(args: &SimulateArgs) -> Result<Arc<Scaling>, Failure> {
    let path = config_file::find(args.config.config.as_deref())?;
    let config = config_file::load(&path)?.config;
    let input = |why: String| Failure::new(Exit::Input, format!("{}: {why}", path.display()));
    let pool = config.pools.iter().find(|pool| pool.id.as_str() == args.pool).ok_or_else(|| {
        let names: Vec<&str> = config.pools.iter().map(|pool| pool.id.as_str()).collect();
        input(format!("there is no pool \"{}\"; there is {}", args.pool, names.join(", ")))
    })?;
    pool.scaling.clone().ok_or_else(|| {
        input(format!("pool \"{0}\" does not scale: add [pool.{0}.scaling]", args.pool))
    })
}

fn driven(scaling: &Arc<Scaling>) -> Result<(), Failure> {
    let input = BufReader::with_capacity(64 * 1_024, io::stdin().lock());
    let output = BufWriter::new(io::stdout().lock());
    match drive(input, output, scaling) {
        // A simulator that has seen enough is no failure.
        Err(DriveError::Output(why)) if why.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(why @ DriveError::Line { .. }) => Err(Failure::new(Exit::Input, why.to_string())),
        Err(why) => Err(Failure::new(Exit::Failed, why.to_string())),
        Ok(()) => Ok(()),
    }
}

fn replay(args: &SimulateArgs, path: &Path, scaling: Arc<Scaling>) -> Result<(), Failure> {
    let input = |why: String| Failure::new(Exit::Input, format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|why| input(why.to_string()))?;
    let model = args.replay.model(&scaling)?;
    let mut rates =
        Trace::parse(&text).and_then(|trace| trace.rates(args.replay.days)).map_err(input)?;
    if let Some(peak) = args.replay.peak {
        let full = model.capacity * TARGET;
        let most = f64::from(*scaling.instances().end());
        trace::scale(&mut rates, f64::from(peak) * full, most * full);
    }
    let (from, to) = trace::section(rates.len(), args.replay.from, args.replay.hours)
        .map_err(|why| Failure::new(Exit::Input, why))?;
    // Before the work, not after it.
    if let Some(dir) = &args.out {
        fs::create_dir_all(dir).map_err(|why| unwritten(dir, &why))?;
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let setting =
        Setting { scaling, model, seed: args.replay.seed, pool: args.pool.clone(), trace: name };
    let mut progress = Progress::new(rates.len() as f64 / 86_400.0);
    let (report, course) =
        simulate(&setting, rates, &mut |policy, days| progress.tell(policy, days))
            .map_err(|why| Failure::new(Exit::Input, why))?;
    progress.done();
    let json = report.json().map_err(|why| Failure::new(Exit::Failed, why.to_string()))?;
    if let Some(dir) = &args.out {
        let title = format!("{} on {}", setting.pool, setting.trace);
        for (name, text) in [("report.json", &json), ("report.svg", &course.svg(&title, from..to))]
        {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|why| unwritten(&path, &why))?;
        }
    }
    print(&if args.json { json } else { report.table() })
}

fn unwritten(path: &Path, why: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write {}: {why}", path.display()))
}

impl ReplayArgs {
    fn model(&self, scaling: &Scaling) -> Result<Model, Failure> {
        let whole = |duration: Duration| {
            u32::try_from(duration.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
        };
        let stated = scaling.stated_rate().map(|rate| rate / STEADY);
        let capacity = self.capacity.or(stated).ok_or_else(|| {
            let why = "the pool states no rate per instance: say what one takes with --capacity";
            Failure::new(Exit::Input, why)
        })?;
        let units = scaling.unit();
        Ok(Model {
            capacity: capacity * f64::from(units),
            workers: self.workers.saturating_mul(units),
            boot_s: self.boot.as_secs_f64(),
            boot_spread: self.boot_spread.0,
            warm_up_s: whole(self.warm_up),
            drain_s: whole(self.drain),
            slo_wait_s: self.slo_wait.as_secs_f64(),
            shed_wait_s: self.shed_wait.as_secs_f64(),
        })
    }
}

/// How far a long run is, on stderr: one line that changes on a terminal, else one for each policy.
struct Progress {
    days: f64,
    is_terminal: bool,
    policy: String,
}

impl Progress {
    fn new(days: f64) -> Self {
        Self { days, is_terminal: io::stderr().is_terminal(), policy: String::new() }
    }

    fn tell(&mut self, policy: &str, day: f64) {
        if self.days < LONG_DAYS || (!self.is_terminal && policy == self.policy) {
            return;
        }
        policy.clone_into(&mut self.policy);
        // Whether anybody reads it does not matter to the run.
        let _ = match self.is_terminal {
            true => write!(io::stderr(), "\r\x1b[K{policy}: day {day:.0} of {:.0}", self.days),
            false => writeln!(io::stderr(), "{policy}: {:.0} days", self.days),
        };
    }

    fn done(&self) {
        if self.is_terminal && self.days >= LONG_DAYS {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
