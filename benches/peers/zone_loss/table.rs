//! What was seen when a zone was lost, as a section for readers.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::peer::Peer;
use crate::table::median;
use crate::zone_loss::clients::{Fate, PATIENCE};
use crate::zone_loss::instances::{SERVICE, THREADS};
use crate::zone_loss::{
    DOWN, DURING, IN_ZONE, LIMIT, LOADS, NAME, Results, Sighting, Stop, capacity,
};

impl Stop {
    fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Frozen => "frozen",
        }
    }
}

impl Fate {
    fn name(self) -> String {
        match self {
            Self::Answered(status) => status.to_string(),
            Self::Broken => "broken".to_owned(),
            Self::Late => "late".to_owned(),
        }
    }
}

impl Sighting {
    /// The sighting in a few words.
    pub fn line(&self) -> String {
        let Self { requests, shed, peak, slowest, .. } = self;
        let (name, stop, load) = (self.peer.name(), self.stop.name(), self.load * 100.0);
        let [before, during, after] = self.p99.map(milliseconds);
        let (failed, last) = (kinds(&self.failed), seconds(self.last));
        format!(
            "{name}, {load:.0} %, {stop}: {requests} requests, failed {failed}, {shed} shed, \
             last after {last} s, peak {peak}, p99 {before} / {during} / {after} ms, slowest {slowest:.2} s"
        )
    }
}

/// The section, from its heading on; `facts` say when and where.
pub fn section(results: &Results, facts: &[&str]) -> String {
    let mut page = format!("\n## {NAME}\n\n");
    let _ = writeln!(
        page,
        "One of three zones of {IN_ZONE} instances is lost for {} s and comes back. Each instance serves {THREADS} \
         requests at a time in {} ms each, others wait in it: {:.0} requests a second in all. Clients come at random \
         (Poisson), whatever became of those before; each peer gets the same sequence, alone. *Killed*: connections \
         are reset, new ones refused. *Frozen* (SIGSTOP): the kernel accepts, nothing answers.\n",
        DOWN.as_secs(),
        SERVICE.as_millis(),
        capacity()
    );
    let _ = writeln!(
        page,
        "All are set up with {LIMIT} requests for an instance (what it serves, and half as many that wait in it), 1,000 that wait, for at most 5 s (Envoy: within \
         15 s in all), a probe a second that may take 500 ms. No instance is cold when it is back, so none has a slow start, which in tidegate is on \
         by default (30 s); it has its defaults otherwise. HAProxy has \
         `observe layer7`, `on-error mark-down`, fast probes, three retries elsewhere, and gives up a try after 1 s; \
         Envoy has outlier detection, fast probes, three retries elsewhere, 1 s for each try, and closes connections \
         of hosts that probes fail: these two know thereby that no answer is that slow.\n"
    );
    let _ = writeln!(
        page,
        "`shed` are answers of 503: at 80 % the survivors lack a sixth of what they would need, at 60 % nothing. \
         `failed` is everything else that is not a whole 200, an answer later than {} s included. For HAProxy, a 503 \
         may be a failure too. `last` is when the last request went to the zone, by the packets there: a request, \
         or a connect within 100 ms of another to the same instance (one alone may be a probe). `peak` is the most \
         requests that one survivor had at a time meanwhile, as it counts them. p99 is of requests answered 200, by \
         when they were due: before, in the first {} s, and after all is back. `slowest` is the longest that any client \
         waited, whatever came. Requests, failed and shed are sums of all rounds, p99 is their median, the others \
         their largest.\n",
        PATIENCE.as_secs(),
        DURING.as_secs()
    );
    for fact in facts {
        let _ = writeln!(page, "- {fact}");
    }
    for load in LOADS {
        for stop in [Stop::Killed, Stop::Frozen] {
            write_case(&mut page, results, load, stop);
        }
    }
    for (peer, why) in &results.skips {
        let _ = writeln!(page, "\nNot in all rounds: {} ({why}).", peer.name());
    }
    page
}

fn write_case(page: &mut String, results: &Results, load: f64, stop: Stop) {
    let rate = load * capacity();
    let (percent, stop_name) = (load * 100.0, stop.name());
    let _ = writeln!(page, "\n### {percent:.0} % ({rate:.0} requests a second), {stop_name}\n");
    let _ = writeln!(
        page,
        "| peer | requests | failed | shed | last s | peak | p99 before ms | during | after | slowest s |"
    );
    let _ = writeln!(page, "|---|{}", "--:|".repeat(9));
    for peer in Peer::ALL {
        let of_it = |seen: &&Sighting| (seen.peer, seen.load, seen.stop) == (peer, load, stop);
        let seen: Vec<&Sighting> = results.sightings.iter().filter(of_it).collect();
        if seen.is_empty() {
            continue;
        }
        let requests: usize = seen.iter().map(|seen| seen.requests).sum();
        let failed: Vec<Fate> = seen.iter().flat_map(|seen| seen.failed.clone()).collect();
        let shed: usize = seen.iter().map(|seen| seen.shed).sum();
        let last = seen.iter().filter_map(|seen| seen.last).reduce(f64::max);
        let peak = seen.iter().map(|seen| seen.peak).max().unwrap_or(0);
        let slowest = seen.iter().map(|seen| seen.slowest).fold(0.0, f64::max);
        let p99: Vec<String> = (0..3)
            .map(|phase| milliseconds(median(seen.iter().filter_map(|seen| seen.p99[phase]))))
            .collect();
        let (name, failed, last) = (peer.name(), kinds(&failed), seconds(last));
        let p99 = p99.join(" | ");
        let _ = writeln!(
            page,
            "| {name} | {requests} | {failed} | {shed} | {last} | {peak} | {p99} | {slowest:.2} |"
        );
    }
}

/// How many of each kind.
fn kinds(failed: &[Fate]) -> String {
    let mut counts: BTreeMap<Fate, usize> = BTreeMap::new();
    for fate in failed {
        *counts.entry(*fate).or_default() += 1;
    }
    let kinds: Vec<String> =
        counts.iter().map(|(fate, count)| format!("{count} × {}", fate.name())).collect();
    if kinds.is_empty() { "0".to_owned() } else { kinds.join(", ") }
}

fn seconds(last: Option<f64>) -> String {
    last.map_or_else(|| "–".to_owned(), |last| format!("{last:.2}"))
}

fn milliseconds(p99: Option<f64>) -> String {
    p99.map_or_else(|| "–".to_owned(), |p99| format!("{p99:.0}"))
}
