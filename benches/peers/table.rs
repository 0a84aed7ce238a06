//! The results as a page for readers.

use std::fmt::Write;
use std::ops::Range;

use crate::peer::Peer;
use crate::sample::{Mode, Sample};
use crate::scenario::{Kind, SCENARIOS, Scenario};
use crate::zone_loss;

/// Everything that was found out.
#[derive(Default)]
pub struct Results {
    /// When, where and how, one fact a line.
    pub facts: Vec<String>,
    /// Who was measured, in which version.
    pub versions: Vec<(Peer, String)>,
    /// Who was not, in which scenario, and why.
    pub skips: Vec<(&'static str, Peer, String)>,
    /// What was seen.
    pub samples: Vec<Sample>,
    /// Requests a second of the scenario with a constant rate.
    pub rate: Option<f64>,
    /// The section about the zone that is lost.
    pub zone_loss: Option<String>,
}

const METHOD: &str = "\
Made by `cargo bench --bench peers`, which starts every peer in front of the same instances and checks each \
response (status 200, exact length).

**CPU time and its ratio to HAProxy are what to compare.** They are taken while all peers are loaded at the same \
time, so that all see the same machine; the ratio is taken within each round, and given as the median of the rounds \
with its range. Lower is better. Throughput, latency and memory are medians of rounds in which each peer was loaded \
alone, in turn; on a machine that is shared they say less. `core` is how much of its CPU the proxy used then, and \
`waited` how long it was ready to run while something else had that CPU, both in seconds a second: where `core` is \
below about 0.9 (and `waited` small), the load side was the limit and not the proxy. `errors` are wrong or broken \
responses and requests without an answer, in all rounds.

Every proxy has one worker, on a CPU of its own; the load generator and the origin share another. `floor` is a relay \
that pairs connections and looks at nothing: what a proxy in user space has to pay at least for what it does not \
decide. It copies bytes, or splices them where that is cheaper (h1_64k and the bulk scenarios); where each request \
has a connection (h1_close), it makes a second one to an instance, which proxies keep. It has no TLS, and no part in \
those scenarios; in them, all connections have the same suite in HTTP/1.1 (X25519, AES-128-GCM), and in HTTP/2 what \
peers choose.
";

impl Results {
    /// The page; what was not measured now stays as it is on the old one. The zone that is lost is the
    /// last section, and says itself when and where that was.
    pub fn page(&self, old: &str) -> String {
        let last = old.find(&format!("\n## {}\n", zone_loss::NAME)).unwrap_or(old.len());
        let (old_steady, old_loss) = old.split_at(last);
        let nothing_steady = self.samples.is_empty() && self.skips.is_empty();
        let steady = match old_steady {
            old if nothing_steady && !old.is_empty() => old.to_owned(),
            _ => self.steady(),
        };
        steady + self.zone_loss.as_deref().unwrap_or(old_loss)
    }

    /// All of the page but its last section.
    fn steady(&self) -> String {
        let mut page = format!("# tidegate beside others\n\n{METHOD}\n");
        for fact in &self.facts {
            let _ = writeln!(page, "- {fact}");
        }
        let _ = writeln!(page, "\n| peer | version |\n|---|---|");
        for (peer, version) in &self.versions {
            let _ = writeln!(page, "| {} | {version} |", peer.name());
        }
        self.write_overview(&mut page);
        for scenario in &SCENARIOS {
            self.write_scenario(&mut page, scenario);
        }
        page
    }

    /// Whether a peer could not be measured in a scenario.
    pub fn skipped(&self, scenario: &Scenario, peer: Peer) -> bool {
        self.skips.iter().any(|(name, other, _)| *name == scenario.name && *other == peer)
    }

    /// One line a scenario, one column a peer.
    fn write_overview(&self, page: &mut String) {
        let peers: Vec<Peer> = self.versions.iter().map(|(peer, _)| *peer).collect();
        if self.samples.iter().all(|sample| sample.peer != Peer::REFERENCE) {
            return;
        }
        let names: Vec<&str> = peers.iter().map(|peer| peer.name()).collect();
        let _ = writeln!(page, "\n## Ratios to {}\n", Peer::REFERENCE.name());
        let _ = writeln!(page, "| scenario | of | {} |", names.join(" | "));
        let _ = writeln!(page, "|---|---|{}", "--:|".repeat(peers.len()));
        for scenario in &SCENARIOS {
            if self.samples.iter().all(|sample| sample.scenario != scenario.name) {
                continue;
            }
            let cells = peers.iter().map(|peer| {
                let ratios = self.ratios(scenario, *peer);
                ratios.map_or_else(|| "–".to_owned(), |(median, _)| format!("{median:.2}"))
            });
            let cells: Vec<String> = cells.collect();
            let title = scenario.kind.title();
            let _ = writeln!(page, "| {} | {title} | {} |", scenario.name, cells.join(" | "));
        }
    }

    fn write_scenario(&self, page: &mut String, scenario: &Scenario) {
        let skips: Vec<_> = self.skips.iter().filter(|(name, ..)| *name == scenario.name).collect();
        let mut peers: Vec<(f64, Peer)> = Peer::ALL
            .into_iter()
            .filter_map(|peer| Some((self.figure(scenario, peer)?, peer)))
            .collect();
        if peers.is_empty() && skips.is_empty() {
            return;
        }
        peers.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let rate = self.rate.filter(|_| scenario.kind == Kind::Tail);
        let rate = rate.map_or_else(String::new, |rate| {
            format!(" of {rate:.0} requests a second; latency counts from when each was due")
        });
        let _ = writeln!(page, "\n## {}\n\n{}{rate}.\n", scenario.name, scenario.what);
        let alone =
            self.samples.iter().any(|s| s.scenario == scenario.name && s.mode == Mode::Alone);
        let columns = if alone { columns(scenario.kind) } else { &[] };
        let titles = columns.iter().map(|column| column.title);
        let titles = ["peer", scenario.kind.title(), "ratio (range)"].into_iter().chain(titles);
        let titles: Vec<&str> = titles.chain(["errors"]).collect();
        let _ = writeln!(page, "| {} |", titles.join(" | "));
        let _ = writeln!(page, "|---|{}", "--:|".repeat(titles.len() - 1));
        for (figure, peer) in peers {
            let ratio = self.ratios(scenario, peer).map_or_else(
                || "–".to_owned(),
                |(median, range)| format!("{median:.2} ({:.2}–{:.2})", range.start, range.end),
            );
            let own: Vec<&Sample> = self.of(scenario, peer).collect();
            let alone: Vec<&Sample> =
                own.iter().copied().filter(|sample| sample.mode == Mode::Alone).collect();
            let mut cells = vec![peer.name().to_owned(), digits(figure, 2), ratio];
            cells.extend(columns.iter().map(|column| {
                let median = median(alone.iter().filter_map(|sample| (column.value)(sample)));
                median.map_or_else(|| "–".to_owned(), |value| digits(value, column.digits))
            }));
            let errors: u64 = own.iter().map(|sample| sample.outcome.errors).sum();
            cells.push(errors.to_string());
            let _ = writeln!(page, "| {} |", cells.join(" | "));
        }
        for (_, peer, why) in skips {
            let _ = writeln!(page, "\nNot here: {} ({why}).", peer.name());
        }
    }

    fn of(&self, scenario: &Scenario, peer: Peer) -> impl Iterator<Item = &Sample> {
        let name = scenario.name;
        self.samples.iter().filter(move |sample| sample.scenario == name && sample.peer == peer)
    }

    /// The samples of a peer that can be compared: those of rounds with all together, where the
    /// scenario has such.
    fn fair(&self, scenario: &Scenario, peer: Peer) -> impl Iterator<Item = &Sample> {
        let together = |sample: &&Sample| sample.mode == Mode::Together;
        let any = self.samples.iter().filter(|s| s.scenario == scenario.name).any(|s| together(&s));
        self.of(scenario, peer).filter(move |sample| !any || together(sample))
    }

    fn figure(&self, scenario: &Scenario, peer: Peer) -> Option<f64> {
        median(self.fair(scenario, peer).map(|sample| sample.figure(scenario.kind)))
    }

    /// Median and range of the ratios to the reference in the same rounds.
    fn ratios(&self, scenario: &Scenario, peer: Peer) -> Option<(f64, Range<f64>)> {
        let ratios: Vec<f64> = self
            .fair(scenario, peer)
            .filter_map(|sample| {
                let mut references = self.fair(scenario, Peer::REFERENCE);
                let reference = references.find(|other| other.round == sample.round)?;
                Some(sample.figure(scenario.kind) / reference.figure(scenario.kind))
            })
            .collect();
        let least = ratios.iter().copied().reduce(f64::min)?;
        let most = ratios.iter().copied().reduce(f64::max)?;
        Some((median(ratios.into_iter())?, least..most))
    }
}

/// A column of what was seen of a peer alone.
#[derive(Clone, Copy)]
struct Column {
    title: &'static str,
    digits: usize,
    value: fn(&Sample) -> Option<f64>,
}

const fn column(title: &'static str, digits: usize, value: fn(&Sample) -> Option<f64>) -> Column {
    Column { title, digits, value }
}

const RATE: Column = column("req/s", 0, |s| Some(s.rate()));
const BYTES: Column = column("MB/s", 0, |s| Some(s.megabytes()));
const P50: Column = column("p50 µs", 0, |s| s.latency(2, s.outcome.p50));
const P99: Column = column("p99 µs", 0, |s| s.latency(100, s.outcome.p99));
const P999: Column = column("p99.9 µs", 0, |s| s.latency(1_000, s.outcome.p999));
const CPU: Column = column("CPU µs/request", 2, |s| Some(s.figure(Kind::Requests)));
const CORE: Column = column("core", 2, |s| Some(s.share(s.cpu.ran)));
const WAITED: Column = column("waited", 2, |s| Some(s.share(s.cpu.waited)));
const RSS: Column = column("RSS MiB", 1, |s| Some(s.memory.rss as f64 / 1024.0));
const HELD: Column = column("connections", 0, |s| Some(s.outcome.requests as f64));

fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Requests => &[RATE, P50, P99, P999, CORE, WAITED, RSS],
        Kind::Bulk => &[BYTES, P50, P99, P999, CORE, WAITED, RSS],
        Kind::Idle => &[HELD, RSS],
        Kind::Tail => &[RATE, P50, P99, CPU, CORE, WAITED, RSS],
    }
}

fn digits(value: f64, digits: usize) -> String {
    // Nobody compares hundredths of hundreds.
    let digits = if value >= 100.0 { 0 } else { digits };
    format!("{value:.digits$}")
}

/// The middle of the values; nothing, if there are none.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { (values[middle - 1] + upper) / 2.0 } else { upper })
}
