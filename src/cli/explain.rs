//! `tidegate explain`: where new requests of a pool go and why, as a person reads it.

use std::time::Duration;

use crate::admin::explain::{Chance, Explanation, Instance, Zone};
use crate::admin::route::encode;
use crate::base::unit::print_duration;
use crate::cli::args::ExplainArgs;
use crate::cli::client::{Client, read};
use crate::cli::table::{Cell, Column, Ink, plain, table, unless, wants_colour};
use crate::cli::{Failure, print};

pub(super) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let mut path = format!("/api/v1/pools/{}/explain", encode(&args.pool));
    if let Some(client) = args.client {
        path.push_str(&format!("?client={client}"));
    }
    let body = Client::find(&args.admin)?.get(&path)?;
    if args.json {
        return print(&format!("{}\n", String::from_utf8_lossy(&body)));
    }
    print(&page(&read(&body)?, wants_colour()))
}

const ZONES: [Column; 6] = [
    ("ZONE", false),
    ("STATE", false),
    ("SHARE OF NEW TRAFFIC", false),
    ("ELIGIBLE", true),
    ("CAPACITY", true),
    ("IN FLIGHT", true),
];

const INSTANCES: [Column; 12] = [
    ("INSTANCE", false),
    ("ZONE", false),
    ("WEIGHT", true),
    ("RAMP", true),
    ("IN FLIGHT", true),
    ("SCORE", true),
    ("SHARE", true),
    ("HEALTH", false),
    ("ADMIN", false),
    ("LIFE", false),
    ("CANDIDATE", false),
    ("WHY", false),
];

fn page(told: &Explanation, colour: bool) -> String {
    let strong = |text: &str| Ink::Strong.on(text, colour);
    let mut text = format!(
        "{} {}  balance {}  zones {}{}\n",
        strong("pool"),
        strong(&told.pool),
        told.balance,
        told.mode,
        if told.panic { format!("  {}", Ink::Bad.on("panic", colour)) } else { String::new() },
    );
    let timeout = print_duration(Duration::from_millis(told.queue.timeout_ms));
    text.push_str(&format!(
        "  queue {} of {}, for at most {timeout}; retries {} a request, within {} of all\n",
        told.queue.depth,
        told.queue.max,
        told.retry.attempts,
        percent(told.retry.budget),
    ));
    for (number, tier) in (1..).zip(&told.tiers) {
        let spill = tier.spill_at.map_or_else(String::new, |share| {
            format!(", up to {} of an instance's limit", percent(share))
        });
        let zones = tier.zones.join(", ");
        text.push_str(&format!("  tier {number}: {} in {zones}{spill}\n", percent(tier.share)));
    }
    if told.instances.is_empty() {
        text.push_str("  no instances\n");
    } else {
        text.push('\n');
        text.push_str(&table(ZONES, told.zones.iter().map(zone).collect(), colour));
        text.push('\n');
        text.push_str(&table(INSTANCES, told.instances.iter().map(instance).collect(), colour));
    }
    let whose = match &told.client {
        Some(client) => format!("the next request of {client}"),
        None => "the next request".to_owned(),
    };
    text.push_str(&format!("\n{} {}\n", strong(&whose), told.next));
    text
}

fn zone(zone: &Zone) -> [Cell; 6] {
    let state = if zone.state == "up" { Ink::Good } else { Ink::Bad };
    [
        plain(&zone.zone),
        (zone.state.clone(), state),
        plain(format!("{:>4} {}", percent(zone.share), bar(zone.share))),
        plain(format!("{} of {}", zone.eligible, zone.total)),
        plain(zone.capacity.map_or_else(|| "unlimited".to_owned(), |slots| format!("{slots:.0}"))),
        plain(zone.in_flight),
    ]
}

fn instance(one: &Instance) -> [Cell; 12] {
    let limit = one.limit.map_or_else(String::new, |limit| format!(" of {limit}"));
    let chance = match one.candidate {
        Chance::Yes => Ink::Good,
        Chance::LastResort => Ink::Odd,
        Chance::No => Ink::Bad,
    };
    [
        plain(&one.id),
        plain(&one.zone),
        plain(one.weight),
        unless("100%", &percent(one.ramp)),
        plain(format!("{}{limit}", one.in_flight)),
        plain(one.score.map_or_else(|| "-".to_owned(), |score| format!("{score:.3}"))),
        plain(percent(one.share)),
        (one.health.clone(), Ink::of_health(&one.health)),
        unless("enabled", &one.admin),
        unless("serving", &one.life),
        (one.candidate.word().to_owned(), chance),
        plain(&one.why),
    ]
}

/// Ten cells, filled as far as the share goes; what is not nothing has at least one.
fn bar(share: f64) -> String {
    let cells = (share * 10.0).round().clamp(f64::from(u8::from(share > 0.0)), 10.0) as usize;
    "█".repeat(cells) + &"░".repeat(10 - cells)
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::explain::explain;
    use crate::base::Share;
    use crate::model::{Health, Life, Tier};
    use crate::observe::metrics::fixture;

    fn sample() -> Explanation {
        let up = fixture::instance("web", "10.0.0.1:80", "a", Health::Up, Life::Serving);
        let down = fixture::instance("web", "i-2", "zürich", Health::Down, Life::Serving);
        let warm = fixture::instance("web", "i-3", "zürich", Health::Up, Life::Ramping);
        warm.instance.vitals.set_ramp(512);
        let mut row = fixture::census(fixture::pool("web"), vec![up, down, warm]).pools.remove(0);
        let tier = |zone: &str, share| Tier {
            zones: vec![zone.into()],
            share,
            spill_at: (share > 0.5).then_some(Share(0.8)),
        };
        row.plan.tiers = vec![tier("a", 0.97), tier("zürich", 0.03)];
        explain(&row, 4, Some(std::net::Ipv4Addr::new(192, 0, 2, 7).into()), None)
    }

    #[test]
    fn it_is_a_page_with_an_answer() {
        let expected = "\
pool web  balance least-request  zones spread
  queue 4 of 10, for at most 1s; retries 2 a request, within 20% of all
  tier 1: 97% in a, up to 80% of an instance's limit
  tier 2: 3% in zürich

  ZONE    STATE  SHARE OF NEW TRAFFIC  ELIGIBLE  CAPACITY  IN FLIGHT
  a       up      97% ██████████         1 of 1        10          0
  zürich  up       3% █░░░░░░░░░         1 of 2         5          0

  INSTANCE     ZONE    WEIGHT  RAMP  IN FLIGHT  SCORE  SHARE  HEALTH  ADMIN    LIFE     CANDIDATE  WHY
  10.0.0.1:80  a            1  100%    0 of 10  1.000    97%  up      enabled  serving  yes        up
  i-2          zürich       1  100%    0 of 10  1.000     0%  down    enabled  serving  no         fails its probes
  i-3          zürich       1   50%    0 of 10  2.000     3%  up      enabled  ramping  yes        up, warming

the next request of 192.0.2.7 goes to 97% in a: 10.0.0.1:80, the only candidate; 3% in zürich: i-3, the only candidate (least-request does not look at the client)
";
        let page = page(&sample(), false);
        assert_eq!(page, expected, "{page}");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let mut coloured = page(&sample(), true);
        assert!(coloured.contains("\x1b[31mno\x1b[0m"), "{coloured}");
        for ink in [Ink::Strong, Ink::Good, Ink::Odd, Ink::Bad] {
            coloured = coloured.replace(ink.code(), "");
        }
        assert_eq!(coloured.replace("\x1b[0m", ""), page(&sample(), false));
    }

    #[test]
    fn bars_show_what_there_is() {
        for (share, cells) in [(0.0, 0), (0.001, 1), (0.5, 5), (0.96, 10), (1.0, 10)] {
            let bar = bar(share);
            assert_eq!((bar.matches('█').count(), bar.chars().count()), (cells, 10), "{share}");
        }
    }
}
