//! The course of a run: scenario by scenario, round by round.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate::base::clock::wall_seconds;
use tidegate::proxy::wire::date::http_date;

use crate::load::Pace;
use crate::measure::{Place, Running};
use crate::net;
use crate::peer::Peer;
use crate::proc::cpu_model;
use crate::process::two_cpus;
use crate::sample::{Mode, Sample};
use crate::scenario::{Choice, Kind, SCENARIOS, Scenario};
use crate::table::Results;
use crate::tls;
use crate::zone_loss;

/// What to do.
pub struct Plan {
    /// What to measure.
    pub scenarios: Vec<Choice>,
    /// Whom.
    pub peers: Vec<Peer>,
    /// How often.
    pub rounds: usize,
    /// Counted time of a sample.
    pub window: Duration,
    /// Whether each peer is also loaded alone.
    pub alone: bool,
    /// Where the results go.
    pub out: PathBuf,
}

struct Run {
    plan: Plan,
    place: Place,
    programs: Vec<(Peer, PathBuf)>,
    results: Results,
}

/// Measures as planned and writes the results, again after each scenario.
///
/// # Errors
/// If nothing can be measured, or nothing be written.
pub fn run(plan: Plan) -> io::Result<()> {
    let unshared = net::unshare()?;
    // 5,000 connections are 10,000 files for a proxy.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let [proxy_cpu, load_cpu] = two_cpus()?;
    let ports = net::free_ports(Peer::ALL.len() + 3)?;
    let mut of_peers = [0; Peer::ALL.len()];
    of_peers.copy_from_slice(&ports[3..]);
    let place = Place {
        proxy_cpu,
        load_cpu,
        folder: folder.path().to_owned(),
        certificate: tls::certificate(folder.path())?,
        origin: ports[0],
        admin: ports[1],
        zones: ports[2],
        ports: of_peers,
    };
    let _origin = place.origin().map_err(io::Error::other)?;
    let results = Results { facts: facts(&plan, unshared), ..Results::default() };
    let mut run = Run { plan, place, programs: Vec::new(), results };
    run.find();
    for choice in run.plan.scenarios.clone() {
        match choice {
            Choice::Steady(scenario) => run.scenario(scenario),
            Choice::ZoneLoss => run.zone_loss(),
        }
        run.save()?;
    }
    eprintln!("written: {}", run.plan.out.display());
    Ok(())
}

fn facts(plan: &Plan, unshared: bool) -> Vec<String> {
    let namespace =
        if unshared { "in a network namespace of its own" } else { "on ports of the machine" };
    let date = http_date(wall_seconds() as u64);
    let date = String::from_utf8_lossy(&date).into_owned();
    let system = rustix::system::uname();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (rounds, seconds) = (plan.rounds, plan.window.as_secs_f64());
    let twice = 2.0 * seconds;
    vec![
        date,
        format!(
            "{cores} cores ({}), {} {}",
            cpu_model(),
            system.sysname().to_string_lossy(),
            system.release().to_string_lossy()
        ),
        format!(
            "rounds: {rounds}, of {twice} s with all peers together, and of {seconds} s with each alone"
        ),
        format!("loopback, {namespace}, congestion control {}", net::congestion()),
    ]
}

impl Run {
    fn find(&mut self) {
        for peer in self.plan.peers.clone() {
            match peer.find() {
                Ok(program) => {
                    self.results.versions.push((peer, peer.version(&program)));
                    self.programs.push((peer, program));
                }
                Err(why) => {
                    eprintln!("SKIPPED: {}: {why}", peer.name());
                    self.results.versions.push((peer, format!("skipped: {why}")));
                }
            }
        }
    }

    fn save(&self) -> io::Result<()> {
        let old = fs::read_to_string(&self.plan.out).unwrap_or_default();
        // Written aside, so that an interruption leaves the last whole page.
        let aside = self.plan.out.with_extension("new");
        fs::write(&aside, self.results.page(&old))?;
        fs::rename(&aside, &self.plan.out)
    }

    fn zone_loss(&mut self) {
        let mut seen = zone_loss::Results::default();
        let able = |(peer, _): &&(Peer, _)| zone_loss::PEERS.contains(peer);
        for round in 1..=self.plan.rounds {
            for (peer, program) in self.programs.iter().filter(able) {
                let (name, rounds) = (peer.name(), self.plan.rounds);
                eprintln!("{}, round {round} of {rounds}: {name}", zone_loss::NAME);
                seen.measure(&self.place, *peer, program, round);
            }
        }
        let [date, machine, _, network] = &self.results.facts[..] else { return };
        let versions =
            self.results.versions.iter().filter(|(peer, _)| zone_loss::PEERS.contains(peer));
        let versions = versions.map(|(peer, version)| format!("{} {version}", peer.name()));
        let versions = versions.collect::<Vec<_>>().join(", ");
        let rounds = format!("rounds: {}", self.plan.rounds);
        let facts = [date, machine, &rounds, network, &versions].map(String::as_str);
        self.results.zone_loss = Some(zone_loss::section(&seen, &facts));
    }

    fn scenario(&mut self, scenario: &'static Scenario) {
        let pace = match scenario.kind {
            Kind::Requests | Kind::Bulk => Pace::Flood,
            Kind::Idle => Pace::Hold,
            Kind::Tail => match self.half_of_the_most() {
                Ok(rate) => Pace::Constant(rate),
                Err(why) => return eprintln!("SKIPPED: {}: {why}", scenario.name),
            },
        };
        let together = matches!(scenario.kind, Kind::Requests | Kind::Bulk);
        for round in 1..=self.plan.rounds {
            self.say(scenario, round, "starts");
            let mut peers = self.programs.clone();
            peers
                .retain(|(peer, _)| scenario.fits(*peer) && !self.results.skipped(scenario, *peer));
            // Each round begins with another peer.
            let first = (round - 1) % peers.len().max(1);
            peers.rotate_left(first);
            // Each round has fresh processes: how one lies in memory, and how its connections fell
            // out, can make it cheaper or dearer by some percent for as long as it lives.
            let mut running: Vec<Running> = Vec::new();
            for (peer, program) in &peers {
                match self.place.start(*peer, program.clone(), scenario) {
                    Ok(started) => running.push(started),
                    Err(why) => self.skip(scenario, *peer, why),
                }
                // What a process has in memory shows when it is the only one.
                if scenario.kind == Kind::Idle {
                    self.alone(scenario, round, *peer, pace, &mut running);
                    running.clear();
                }
            }
            if together {
                self.together(scenario, round, &mut running);
            }
            if self.plan.alone || !together {
                for (peer, _) in &peers {
                    self.alone(scenario, round, *peer, pace, &mut running);
                }
            }
        }
    }

    fn together(&mut self, scenario: &Scenario, round: usize, running: &mut Vec<Running>) {
        self.say(scenario, round, "all together");
        let (place, window) = (&self.place, 2 * self.plan.window);
        let samples: Vec<_> = std::thread::scope(|scope| {
            let load = |peer| {
                let how = (round, Mode::Together);
                scope.spawn(move || place.sample(peer, scenario, how, (window, Pace::Flood)))
            };
            let threads: Vec<_> = running.iter().map(load).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err("it panicked".to_owned()))
            };
            threads.into_iter().map(join).collect()
        });
        let peers: Vec<Peer> = running.iter().map(|running| running.peer).collect();
        for (peer, sample) in peers.into_iter().zip(samples) {
            self.keep(scenario, peer, sample, running);
        }
    }

    fn alone(
        &mut self,
        scenario: &Scenario,
        round: usize,
        peer: Peer,
        pace: Pace,
        running: &mut Vec<Running>,
    ) {
        let Some(this) = running.iter().find(|running| running.peer == peer) else { return };
        self.say(scenario, round, &format!("{} alone", peer.name()));
        let how = (round, Mode::Alone);
        let sample = self.place.sample(this, scenario, how, (self.plan.window, pace));
        self.keep(scenario, peer, sample, running);
    }

    fn keep(
        &mut self,
        scenario: &Scenario,
        peer: Peer,
        sample: Result<Sample, String>,
        running: &mut Vec<Running>,
    ) {
        match sample {
            Ok(sample) => {
                eprintln!("    {}", sample.line(scenario));
                self.results.samples.push(sample);
            }
            Err(why) => {
                running.retain(|running| running.peer != peer);
                self.skip(scenario, peer, why);
            }
        }
    }

    fn skip(&mut self, scenario: &Scenario, peer: Peer, why: String) {
        eprintln!("SKIPPED: {} in {}: {why}", peer.name(), scenario.name);
        self.results.skips.push((scenario.name, peer, why));
    }

    /// Half of what the reference (or else tidegate) can do at most of the first scenario.
    fn half_of_the_most(&mut self) -> Result<f64, String> {
        let small = &SCENARIOS[0];
        let has = |peer: &Peer| self.programs.iter().find(|(other, _)| other == peer);
        let chosen = has(&Peer::REFERENCE).or_else(|| has(&Peer::Tidegate)).cloned();
        let (peer, program) = chosen.ok_or("there is no peer to take the rate from")?;
        let known = self.results.samples.iter().filter(|sample| {
            let of_it = sample.scenario == small.name && sample.peer == peer;
            of_it && sample.mode == Mode::Alone
        });
        let most = match known.map(Sample::rate).reduce(f64::max) {
            Some(most) => most,
            None => {
                eprintln!("tail: what {} can do at most", peer.name());
                let running = self.place.start(peer, program, small)?;
                let how = (self.plan.window, Pace::Flood);
                self.place.sample(&running, small, (0, Mode::Alone), how)?.rate()
            }
        };
        // A round number, which is easier to say.
        let rate = (most / 200.0).floor() * 100.0;
        self.results.rate = Some(rate);
        Ok(rate)
    }

    fn say(&self, scenario: &Scenario, round: usize, what: &str) {
        eprintln!("{}, round {round} of {}: {what}", scenario.name, self.plan.rounds);
    }
}
