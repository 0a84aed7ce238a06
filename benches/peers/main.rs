//! tidegate beside others: HAProxy, nginx and Envoy, whichever the machine has, and a relay that
//! looks at nothing.
//!
//!     cargo bench --bench peers
//!     cargo bench --bench peers -- --scenarios h1_small,tcp_small --peers tidegate,haproxy --together
//!     cargo bench --bench peers -- --scenarios zone_loss --rounds 1
//!
//! This program is also the load generator, the origin and the relay: it starts itself again for
//! each, so nothing else has to be installed. `zone_loss` is measured where it is named. It has its own
//! times, whatever `--seconds` says: about three minutes for each peer and round. Its section of the
//! results stays as it is where the others are measured, and theirs where it alone is.

mod config;
mod events;
mod floor;
mod h2_load;
mod histogram;
mod load;
mod measure;
mod net;
mod origin;
mod peer;
mod proc;
mod process;
mod run;
mod sample;
mod scenario;
mod table;
mod tls;
mod wire;
mod zone_loss;

use std::error::Error;
use std::net::{AddrParseError, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::peer::Peer;
use crate::scenario::{Choice, SCENARIOS};

/// Measures tidegate beside HAProxy, nginx, Envoy and the relay floor.
#[derive(Parser)]
#[command(name = "cargo bench --bench peers --")]
struct Options {
    /// Which scenarios, separated by commas [default: all but zone_loss]
    #[arg(long, value_delimiter = ',', value_parser = scenario_named)]
    scenarios: Vec<Choice>,
    /// Which peers, separated by commas [default: all that are installed]
    #[arg(long, value_delimiter = ',', value_parser = peer_named)]
    peers: Vec<Peer>,
    /// How often each scenario is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Counted time of a sample in seconds; twice that with all peers together
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Only CPU ratios: leave out the half of each round in which each peer is loaded alone
    #[arg(long)]
    together: bool,
    /// Where the results go
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/RESULTS.md"))]
    out: PathBuf,
    /// What `cargo bench` passes on to all benches to choose between them
    #[arg(hide = true)]
    filter: Option<String>,
    /// What `cargo bench` says to all benches
    #[arg(long, hide = true)]
    bench: bool,
}

fn scenario_named(name: &str) -> Result<Choice, String> {
    Choice::all().find(|choice| choice.name() == name).ok_or_else(|| {
        let names: Vec<&str> = Choice::all().map(Choice::name).collect();
        format!("there are {}", names.join(", "))
    })
}

fn peer_named(name: &str) -> Result<Peer, String> {
    let names = Peer::ALL.map(Peer::name).join(", ");
    Peer::named(name).ok_or_else(|| format!("there are {names}"))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=600.0).contains(seconds));
    seconds.ok_or_else(|| "a number from 0.1 to 600".to_owned())
}

fn main() -> ExitCode {
    match act() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn act() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["become", cpu, how, ..] => {
            process::become_program(cpu.parse()?, how == "apart", &arguments[3..])?;
        }
        ["origin", port] => origin::run(port.parse()?)?,
        ["load", order] => load::run(serde_json::from_str(order)?)?,
        ["floor", how, listen, ..] => {
            floor::run(how == "splice", listen.parse()?, &addresses(&arguments[3..])?)?;
        }
        ["zone", ..] => zone_loss::instances::run(&addresses(&arguments[1..])?)?,
        ["clients", order] => zone_loss::clients::run(serde_json::from_str(order)?)?,
        // As a test there is nothing to do but to compile.
        _ if !arguments.iter().any(|argument| argument == "--bench") => {}
        _ => bench(Options::parse())?,
    }
    Ok(())
}

fn addresses(words: &[String]) -> Result<Vec<SocketAddr>, AddrParseError> {
    words.iter().map(|word| word.parse()).collect()
}

fn bench(options: Options) -> std::io::Result<()> {
    if options.filter.is_some_and(|filter| !"peers".contains(&filter)) {
        return Ok(());
    }
    let all_if_none = |peers: Vec<Peer>| if peers.is_empty() { Peer::ALL.into() } else { peers };
    let scenarios = match options.scenarios {
        none if none.is_empty() => SCENARIOS.iter().map(Choice::Steady).collect(),
        some => some,
    };
    run::run(run::Plan {
        scenarios,
        peers: all_if_none(options.peers),
        rounds: options.rounds as usize,
        window: Duration::from_secs_f64(options.seconds),
        alone: !options.together,
        out: options.out,
    })
}
