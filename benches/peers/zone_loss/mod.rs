//! A zone is lost: three zones of four instances each, at a constant load, and one of them is killed
//! (its connections are reset, new ones refused) or frozen (the kernel accepts, nobody answers). Later
//! it comes back. What did clients see of it, and how hard were the survivors pressed?
//!
//! It has its own way through, from the instances to the table, because nothing of it is about CPU
//! time: an instance's capacity is known ([`instances`]), clients come whether or not answers do
//! ([`clients`]), and the kernel's packets tell who still goes to the zone ([`watch`]). Each peer is
//! measured alone, with the same sequence of requests.

pub mod clients;
mod config;
pub mod instances;
mod table;
mod watch;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tidegate::base::Clock;

use crate::config::command;
use crate::measure::{Place, own, wait};
use crate::peer::Peer;
use crate::process::Process;
use crate::zone_loss::clients::{Fate, Order, Record};
use crate::zone_loss::instances::{SERVICE, THREADS};
use crate::zone_loss::watch::Watch;

pub use table::section;

/// As the command line and the results have it.
pub const NAME: &str = "zone_loss";

/// Who has health checks and a limit for each instance.
pub const PEERS: [Peer; 3] = [Peer::Tidegate, Peer::Haproxy, Peer::Envoy];

/// The zones, by their number.
const ZONES: RangeInclusive<u8> = 1..=3;
/// Which is lost.
const LOST: u8 = 3;
/// Instances in each.
const IN_ZONE: u8 = 4;
/// Requests that a peer may give to an instance at a time: what it serves, and half as many again, so
/// that no thread is idle while an answer and the next request are on their way.
const LIMIT: usize = THREADS * 3 / 2;
/// Shares of the capacity of all instances that are asked for. At the second, the survivors lack a
/// sixth of what they would need.
const LOADS: [f64; 2] = [0.6, 0.8];

/// Before anything is counted: probes have passed, connections are made.
const WARMUP: Duration = Duration::from_secs(3);
/// Counted time before the zone is stopped.
const BEFORE: Duration = Duration::from_secs(8);
/// How long it is gone.
const DOWN: Duration = Duration::from_secs(15);
/// From the stop on: what is compared with before and after.
const DURING: Duration = Duration::from_secs(10);
/// From its return until all is to be as before: what waits at the higher load is served by then.
const RECOVERY: Duration = Duration::from_secs(15);
/// Counted time from then on.
const AFTER: Duration = Duration::from_secs(8);

/// How a zone is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Its processes are gone: connections are reset, new ones refused.
    Killed,
    /// Its processes stand still: the kernel accepts connections and bytes, and nothing comes back.
    Frozen,
}

/// What was seen of a peer in one round.
pub struct Sighting {
    peer: Peer,
    load: f64,
    stop: Stop,
    /// Requests, from the end of the warmup on.
    requests: usize,
    /// Those that were neither answered nor shed.
    failed: Vec<Fate>,
    /// Those that were answered 503.
    shed: usize,
    /// Seconds from the stop until the last request went to the zone; nothing where packets cannot be
    /// seen.
    last: Option<f64>,
    /// The most requests that any survivor had at a time while the zone was gone.
    peak: usize,
    /// The longest that a client waited, in seconds, whatever for.
    slowest: f64,
    /// Milliseconds within which 99 % were answered: before, during and after.
    p99: [Option<f64>; 3],
}

/// Everything that was found out.
#[derive(Default)]
pub struct Results {
    /// What was seen.
    pub sightings: Vec<Sighting>,
    /// Who was not measured, and why.
    pub skips: Vec<(Peer, String)>,
}

impl Results {
    /// Measures a peer in one round, in all cases.
    pub fn measure(&mut self, place: &Place, peer: Peer, program: &Path, round: usize) {
        for (load, stop) in LOADS
            .into_iter()
            .flat_map(|load| [Stop::Killed, Stop::Frozen].into_iter().map(move |stop| (load, stop)))
        {
            match lose(place, (peer, program), (load, stop), round) {
                Ok(sighting) => {
                    eprintln!("    {}", sighting.line());
                    self.sightings.push(sighting);
                }
                Err(why) => {
                    eprintln!("SKIPPED: {} in {NAME}: {why}", peer.name());
                    self.skips.push((peer, why));
                }
            }
        }
    }
}

/// The addresses of a zone's instances.
fn addresses(zone: u8, port: u16) -> impl Iterator<Item = SocketAddr> {
    (1..=IN_ZONE).map(move |number| SocketAddr::from(([127, 0, zone, number], port)))
}

/// Requests a second that all instances together can serve.
fn capacity() -> f64 {
    let instances = ZONES.count() * usize::from(IN_ZONE);
    (instances * THREADS) as f64 / SERVICE.as_secs_f64()
}

/// Starts a zone's instances.
fn start_zone(place: &Place, zone: u8) -> Result<Process, String> {
    let words = addresses(zone, place.zones).map(|address| address.to_string());
    let words: Vec<String> = std::iter::once("zone".to_owned()).chain(words).collect();
    let command = own(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
    let log = place.folder.join(format!("zone-{zone}.log"));
    let process = Process::logged(place.load_cpu, &command, &log).map_err(|e| e.to_string())?;
    for address in addresses(zone, place.zones) {
        wait(&process, address, None).map_err(|why| format!("zone {zone}: {why}"))?;
    }
    Ok(process)
}

/// One peer, one case, one round.
fn lose(
    place: &Place,
    (peer, program): (Peer, &Path),
    (load, stop): (f64, Stop),
    round: usize,
) -> Result<Sighting, String> {
    let words = |error: std::io::Error| error.to_string();
    let mut zones: Vec<Process> =
        ZONES.map(|zone| start_zone(place, zone)).collect::<Result<_, _>>()?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, place.ports[peer as usize]));
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, place.admin));
    let folder = place.folder.join(format!("{NAME}-{}", peer.name()));
    std::fs::create_dir_all(&folder).map_err(words)?;
    let config = config::of(peer, listen, admin, place.zones, &folder);
    let config = config.ok_or("it has no health checks, or no limit for an instance")?;
    let command = command(peer, program, &folder, &config).map_err(words)?;
    let proxy = Process::logged(place.proxy_cpu, &command, &folder.join("log")).map_err(words)?;
    wait(&proxy, listen, None)?;

    let order = Order {
        address: listen,
        rate: load * capacity(),
        seed: round as u64,
        length: WARMUP + BEFORE + DOWN + RECOVERY + AFTER,
    };
    let order = serde_json::to_string(&order).map_err(|error| error.to_string())?;
    let (_clients, _, output) =
        Process::piped(place.load_cpu, &own(&["clients", &order])?).map_err(words)?;
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    lines.next().ok_or("the clients failed")?;
    let clock = Clock::start();
    let lost = &mut zones[usize::from(LOST - ZONES.start())];
    let until = |at: Duration| std::thread::sleep(at.saturating_sub(clock.elapsed()));

    until(WARMUP + BEFORE);
    let watch = Watch::start(Ipv4Addr::new(127, 0, LOST, 0), clock);
    // What was before the stop is not asked for, but forgotten.
    peak(place.zones)?;
    let stopped = clock.elapsed();
    match stop {
        Stop::Killed => lost.signal(Signal::KILL),
        Stop::Frozen => lost.signal(Signal::STOP),
    }
    .map_err(words)?;
    until(stopped + DOWN);
    let peak = peak(place.zones)?;
    let back = clock.elapsed();
    let last = watch.map(|watch| watch.last(stopped.as_secs_f64(), back.as_secs_f64()));
    match stop {
        Stop::Killed => *lost = start_zone(place, LOST)?,
        Stop::Frozen => lost.signal(Signal::CONT).map_err(words)?,
    }

    let records = lines.next().ok_or("the clients failed")?;
    let records: Vec<Record> = serde_json::from_str(&records).map_err(|error| error.to_string())?;
    let counted: Vec<&Record> =
        records.iter().filter(|record| record.due >= WARMUP.as_secs_f64()).collect();
    let shed = |fate: Fate| fate == Fate::Answered(503);
    let failed = |fate: &Fate| *fate != Fate::Answered(200) && !shed(*fate);
    let recovered = WARMUP + BEFORE + DOWN + RECOVERY;
    Ok(Sighting {
        peer,
        load,
        stop,
        requests: counted.len(),
        failed: counted.iter().map(|record| record.fate).filter(failed).collect(),
        shed: counted.iter().filter(|record| shed(record.fate)).count(),
        last: last.ok(),
        peak,
        slowest: counted.iter().map(|record| record.took).fold(0.0, f64::max),
        p99: [WARMUP..stopped, stopped..stopped + DURING, recovered..recovered + AFTER]
            .map(|phase| p99(&counted, &phase)),
    })
}

/// Milliseconds within which 99 % of those were answered that were due in this time and answered;
/// nothing, if none was.
fn p99(records: &[&Record], due: &Range<Duration>) -> Option<f64> {
    let due = due.start.as_secs_f64()..due.end.as_secs_f64();
    let answered =
        |record: &&&Record| record.fate == Fate::Answered(200) && due.contains(&record.due);
    let mut took: Vec<f64> = records.iter().filter(answered).map(|record| record.took).collect();
    took.sort_by(f64::total_cmp);
    let rank = (took.len() as f64 * 0.99).ceil() as usize;
    took.get(rank.checked_sub(1)?).map(|took| took * 1e3)
}

/// The most requests that a survivor has had since this was last asked.
fn peak(port: u16) -> Result<usize, String> {
    let ask = |address: SocketAddr| -> std::io::Result<usize> {
        let mut socket = TcpStream::connect_timeout(&address, clients::PATIENCE)?;
        socket.set_read_timeout(Some(clients::PATIENCE))?;
        socket.write_all(b"GET /peak HTTP/1.1\r\nHost: bench.test\r\n\r\n")?;
        let mut response = [0; 256];
        let length = socket.read(&mut response)?;
        let text = String::from_utf8_lossy(&response[..length]);
        let body = text.rsplit("\r\n").next().and_then(|body| body.parse().ok());
        body.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
    };
    let survivors = ZONES.filter(|zone| *zone != LOST).flat_map(|zone| addresses(zone, port));
    let peaks: std::io::Result<Vec<usize>> = survivors.map(ask).collect();
    Ok(peaks.map_err(|error| format!("a survivor: {error}"))?.into_iter().max().unwrap_or(0))
}
