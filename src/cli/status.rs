//! `tidegate status`: the membership as a person reads it.

use std::time::Duration;

use serde::Deserialize;

use crate::admin::route::encode;
use crate::admin::view::{Instance, PoolDetail, Status, Tier};
use crate::base::clock::wall_seconds;
use crate::base::unit::print_duration;
use crate::cli::args::StatusArgs;
use crate::cli::client::{Client, read};
use crate::cli::table::{Cell, Column, Ink, plain, table, unless, wants_colour};
use crate::cli::{Exit, Failure, print};

pub(super) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let client = Client::find(&args.admin)?;
    let body = client.get("/api/v1/status")?;
    if args.json {
        return print(&format!("{}\n", String::from_utf8_lossy(&body)));
    }
    let status: Status = read(&body)?;
    let mut pools = Vec::with_capacity(status.pools.len());
    for pool in &status.pools {
        match client.get(&format!("/api/v1/pools/{}", encode(&pool.name))) {
            Ok(body) => {
                let detail: PoolDetail = read(&body)?;
                let last = match detail.scaling {
                    Some(_) => last_decision(&client, &pool.name)?,
                    None => None,
                };
                pools.push(Shown { detail, last });
            }
            // It left the config in the meantime.
            Err(failure) if failure.exit == Exit::Input => {}
            Err(failure) => return Err(failure),
        }
    }
    print(&page(&status, &pools, wall_seconds(), wants_colour()))
}

/// A pool as it is shown.
struct Shown {
    detail: PoolDetail,
    /// What its agent decided last.
    last: Option<Decision>,
}

#[derive(Deserialize)]
struct Decisions {
    decisions: Vec<Decision>,
}

/// A decision, as far as it is shown.
#[derive(Deserialize)]
struct Decision {
    t: f64,
    action: String,
    reason: String,
    outcome: String,
}

fn last_decision(client: &Client, pool: &str) -> Result<Option<Decision>, Failure> {
    match client.get(&format!("/api/v1/pools/{}/scaling?limit=1", encode(pool))) {
        Ok(body) => Ok(read::<Decisions>(&body)?.decisions.pop()),
        // As above.
        Err(failure) if failure.exit == Exit::Input => Ok(None),
        Err(failure) => Err(failure),
    }
}

const COLUMNS: [Column; 8] = [
    ("INSTANCE", false),
    ("ZONE", false),
    ("ADDRESS", false),
    ("HEALTH", false),
    ("ADMIN", false),
    ("LIFE", false),
    ("IN FLIGHT", true),
    ("WHY", false),
];

/// The whole page, read at `now` in seconds since 1970.
fn page(status: &Status, pools: &[Shown], now: f64, colour: bool) -> String {
    let mut name = status.node.clone();
    if !name.is_empty() {
        name.push_str("  ");
    }
    let mut text = format!("{name}tidegate {}  generation {}\n", status.version, status.generation);
    if !status.zones.is_empty() {
        text.push_str(&Ink::Strong.on("zones", colour));
        for zone in &status.zones {
            let ink = if zone.state == "up" { Ink::Good } else { Ink::Bad };
            let state = ink.on(&zone.state, colour);
            let more = zone.until.map_or_else(String::new, |until| more(until, now));
            text.push_str(&format!("  {} {state}{more} {:.0}%", zone.zone, zone.share * 100.0));
        }
        text.push('\n');
    }
    for Shown { detail, last } in pools {
        text.push('\n');
        text.push_str(&pool_line(detail, now, colour));
        let rows = rows(detail);
        match rows.is_empty() {
            true => text.push_str("  no instances\n"),
            false => text.push_str(&table(COLUMNS, rows, colour)),
        }
        if let Some(last) = last {
            text.push_str(&decision_line(last, now));
        }
    }
    text
}

fn pool_line(detail: &PoolDetail, now: f64, colour: bool) -> String {
    let pool = &detail.pool;
    let eligible = pool.instances.iter().filter(|instance| instance.eligible).count();
    let bounds = detail
        .scaling
        .as_ref()
        .map_or_else(String::new, |bounds| format!(" ({} to {})", bounds.min, bounds.max));
    let mode = detail.scaling.as_ref().map(|scaling| scaling.mode.as_str());
    let mode = match mode.filter(|mode| *mode != "enforce") {
        Some(mode) => format!("  {}", Ink::Odd.on(&format!("mode {mode}"), colour)),
        None => String::new(),
    };
    let by_hand = pool.size_override.map_or_else(String::new, |size| {
        let until = size.until.map_or_else(String::new, |until| more(until, now));
        format!("  {}", Ink::Odd.on(&format!("override {}{until}", size.desired), colour))
    });
    let panic = match pool.panic {
        true => format!("  {}", Ink::Bad.on("panic", colour)),
        false => String::new(),
    };
    let tier = |tier: &Tier| format!("{} {:.0}%", tier.zones.join(","), 100.0 * tier.share);
    let tiers = match detail.tiers.as_slice() {
        [] => String::new(),
        tiers => format!("  zones {}", tiers.iter().map(tier).collect::<Vec<_>>().join(" then ")),
    };
    format!(
        "{} {}  desired {}{bounds}{mode}{by_hand}{panic}{tiers}  eligible {eligible}  queue {}  demand {:.1} rps\n",
        Ink::Strong.on("pool", colour),
        Ink::Strong.on(&pool.name, colour),
        pool.desired,
        pool.queue_depth,
        detail.demand_rps
    )
}

/// How much longer something holds that ends at `until`.
fn more(until: u64, now: f64) -> String {
    format!(" for {} more", in_words((until as f64 - now).max(0.0)))
}

/// What the agent decided last, and what became of it.
fn decision_line(last: &Decision, now: f64) -> String {
    let Decision { t, action, reason, outcome } = last;
    let outcome = if outcome.is_empty() { String::new() } else { format!(" ({outcome})") };
    format!("  {} ago: {action} {reason}{outcome}\n", in_words((now - t).max(0.0)))
}

/// A time as a person says it: no finer than its largest unit needs.
fn in_words(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let coarse = match seconds {
        0..120 => seconds,
        120..7_200 => seconds / 60 * 60,
        7_200..172_800 => seconds / 3_600 * 3_600,
        _ => seconds / 86_400 * 86_400,
    };
    print_duration(Duration::from_secs(coarse))
}

/// Each instance, also those that are only ordered.
fn rows(detail: &PoolDetail) -> Vec<[Cell; 8]> {
    let mut rows: Vec<[Cell; 8]> = detail.pool.instances.iter().map(row).collect();
    rows.extend(detail.ordered.iter().map(|ordered| {
        [
            plain(&ordered.id),
            plain(&ordered.zone),
            plain("-"),
            plain("-"),
            plain("-"),
            ("ordered".to_owned(), Ink::Odd),
            plain("-"),
            plain("has no address yet"),
        ]
    }));
    rows
}

fn row(instance: &Instance) -> [Cell; 8] {
    let why = match instance.protected {
        true => format!("{}; protected from scale-in", instance.why),
        false => instance.why.clone(),
    };
    [
        plain(&instance.id),
        plain(&instance.zone),
        plain(&instance.address),
        (instance.health.clone(), Ink::of_health(&instance.health)),
        unless("enabled", &instance.admin),
        unless("serving", &instance.life),
        plain(instance.in_flight),
        plain(&why),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::view::{self, Bounds};
    use crate::model::{self, Health, Life, SizeOverride, ZoneRow, ZoneState};
    use crate::observe::metrics::fixture;

    const NOW: f64 = 1_764_140_000.0;

    fn sample() -> (Status, Vec<Shown>) {
        let up = fixture::instance("web", "10.0.0.1:80", "a", Health::Up, Life::Serving);
        let down = fixture::instance("web", "i-2", "zürich", Health::Down, Life::Serving);
        let mut census = fixture::census(fixture::pool("web"), vec![up, down]);
        census.pools[0].ordered.push(("i-3".into(), "a".into()));
        census.pools.push(fixture::census(fixture::pool("empty"), Vec::new()).pools.remove(0));
        census.pools[0].said.protected.insert("i-2".into());
        let until = Some(NOW as u64 + 1_799);
        census.zones = vec![ZoneRow { zone: "c".into(), state: ZoneState::Evacuated, until }];
        census.pools[1].plan.panic = true;
        let tier =
            |zone: &str, share| model::Tier { zones: vec![zone.into()], share, spill_at: None };
        census.pools[1].plan.tiers = vec![tier("a", 0.7), tier("b", 0.3)];
        let size = SizeOverride { desired: 3, until: Some(NOW as u64 + 1_799) };
        census.pools[0].said.size = Some(size);
        let mut status = view::status("lb-1", &census, &[("web".into(), 4)]);
        status.version = "1.2.3".into();
        let mut details: Vec<PoolDetail> =
            census.pools.iter().map(|row| view::pool_detail(row, &[("web".into(), 4)])).collect();
        details[0].scaling = Some(Bounds {
            min: 3,
            max: 12,
            target_requests_per_second: Some(70.0),
            mode: "recommend".into(),
        });
        let last = Decision {
            t: NOW - 90.0,
            action: "launch".into(),
            reason: "+1 (2→3): 150 rps".into(),
            outcome: "accepted".into(),
        };
        let mut last = Some(last);
        let shown = |detail| Shown { detail, last: last.take() };
        (status, details.into_iter().map(shown).collect())
    }

    #[test]
    fn columns_are_aligned() {
        let (status, pools) = sample();
        let expected = "\
lb-1  tidegate 1.2.3  generation 1
zones  a up 100%  c evacuated for 29m more 0%  zürich down 0%

pool web  desired 3 (3 to 12)  mode recommend  override 3 for 29m more  eligible 1  queue 4  demand 12.5 rps
  INSTANCE     ZONE    ADDRESS       HEALTH  ADMIN    LIFE     IN FLIGHT  WHY
  10.0.0.1:80  a       127.0.0.1:80  up      enabled  serving          0  up
  i-2          zürich  127.0.0.1:80  down    enabled  serving          0  fails its probes; protected from scale-in
  i-3          a       -             -       -        ordered          -  has no address yet
  90s ago: launch +1 (2→3): 150 rps (accepted)

pool empty  desired 3  panic  zones a 70% then b 30%  eligible 0  queue 0  demand 12.5 rps
  no instances
";
        assert_eq!(page(&status, &pools, NOW, false), expected);
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let (status, pools) = sample();
        let mut coloured = page(&status, &pools, NOW, true);
        assert!(coloured.contains("\x1b[31mdown\x1b[0m"), "{coloured}");
        for ink in [Ink::Strong, Ink::Good, Ink::Odd, Ink::Bad] {
            coloured = coloured.replace(ink.code(), "");
        }
        assert_eq!(coloured.replace("\x1b[0m", ""), page(&status, &pools, NOW, false));
    }
}
