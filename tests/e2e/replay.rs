//! An hour of real traffic, live: real requests to real processes, and the pool follows.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, eventually, free_address, is_alive};
use crate::load::Load;
use crate::scaling;
use crate::tools::tell;

/// Requests in each minute of an hour of the evening of 19 May 1998, in which the web site of the football
/// World Cup had thirteen times its traffic within two minutes, and lost it again within six.
///
/// M. Arlitt and T. Jin, "1998 World Cup Web Site Access Logs", August 1998, Internet Traffic Archive
/// (<https://ita.ee.lbl.gov/html/contrib/WorldCup.html>; the notice is in replay/NOTICE.md), Copyright (C) 1997, 1998,
/// 1999 Hewlett-Packard Company; counted by the minute in github.com/nimamahmoudi/worldcup98-dataset.
const HOUR: &str = include_str!("replay/flash.csv");

/// A minute of the trace takes a second here, at the rate that it had. The hold of 4 s is one of 4 min.
const SPEED: u64 = 60;

/// The limits of [`scaling::pool`].
const SIZES: RangeInclusive<usize> = 3..=12;

/// The lives of instances that count no more.
const LEAVING: [&str; 3] = ["draining", "drained", "terminating"];

/// What was seen of a pool while it was replayed to.
struct Seen {
    /// The fewest and the most instances that were there and not leaving.
    fewest: usize,
    most: usize,
    /// All processes that ever were an instance.
    pids: BTreeSet<i32>,
}

/// Sends the traffic of each minute for a second, and watches the pool meanwhile.
fn replay(load: &Load, daemon: &Daemon, minutes: &[u64]) -> Seen {
    let mut seen = Seen { fewest: usize::MAX, most: 0, pids: BTreeSet::new() };
    let began = Instant::now();
    for (second, requests) in (1..).zip(minutes) {
        load.set_rate(requests / SPEED);
        while began.elapsed() < Duration::from_secs(second) {
            let instances = daemon.instances("web");
            let leaves = |i: &Value| LEAVING.iter().any(|life| i["life"] == *life);
            let size = instances.iter().filter(|i| !leaves(i)).count();
            // Whoami would finish what it has even so; not every program does.
            let ends = |i: &Value| i["life"] == "drained" || i["life"] == "terminating";
            let busy = instances.iter().find(|i| ends(i) && i["in_flight"] != 0);
            assert!(busy.is_none(), "ended with requests running: {busy:?}");
            seen.fewest = seen.fewest.min(size);
            seen.most = seen.most.max(size);
            seen.pids.extend(daemon.instance_pids("web", None));
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    seen
}

#[test]
fn an_hour_with_a_flash_crowd_is_followed_up_and_down_without_a_failed_request() {
    let counts = HOUR.lines().skip(1).map(|line| line.split_once(',').expect("two columns").1);
    let minutes: Vec<u64> = counts.map(|count| count.parse().expect("a count")).collect();
    assert_eq!(minutes.len(), 60);

    let bind = free_address();
    // They take a while, so that wherever an instance is drained some are running.
    let slow = |config: String| config.replace("\"60\"", "\"60\", \"--delay\", \"300ms\"");
    let mut daemon = scaling::ready(&slow(scaling::pool(bind, "")));
    let load = Load::start(bind, 600, minutes[0] / SPEED);
    let seen = replay(&load, &daemon, &minutes);
    let sent = load.so_far().sent;
    // Where one was down for a while in the rush, it takes a little longer.
    eventually("the pool is what it was", Duration::from_secs(60), || {
        (daemon.instances("web").len() == 3 && daemon.eligible("web") == 3).then_some(())
    });
    let journal = daemon.json("/api/v1/pools/web/scaling?limit=1000");
    let tally = load.finish();

    let ended = seen.pids.iter().filter(|pid| !is_alive(**pid)).count();
    let again = daemon.metric("tidegate_retries_total", "");
    tell(&format!(
        "an hour at {SPEED}x: {} requests, {} failed, {again} tried again, slowest {:.1?}, \
         99 % within {:.1?}; {} instances launched and {ended} ended, {} to {} at a time",
        tally.sent,
        tally.failed,
        tally.slowest,
        tally.within(0.99),
        seen.pids.len(),
        seen.fewest,
        seen.most,
    ));
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    assert_eq!(daemon.retries("reset"), 0.0, "and none because its instance was ended meanwhile");
    // What a busy machine is late with is left out, and what would have come from clients that wait while
    // more instances boot.
    let due = minutes.iter().sum::<u64>() / SPEED;
    assert!((due / 2..=due * 11 / 10).contains(&sent), "{sent} of {due}");

    assert!(SIZES.contains(&seen.fewest) && SIZES.contains(&seen.most), "within its limits");
    assert!(seen.most >= 9, "three times its size for thirteen times the traffic: {}", seen.most);
    let decisions = journal["decisions"].as_array().expect("decisions");
    let sizes = decisions.iter().map(|d| d["to"].as_u64().expect("a size") as usize);
    assert!(sizes.clone().all(|size| SIZES.contains(&size)), "{decisions:?}");
    // Newest first.
    let at = |action: &str| decisions.iter().position(|d| d["action"] == action);
    let (out, back) = (at("launch").expect("it grew"), at("drain").expect("and shrank"));
    assert!(back < out, "last it shrank, with requests running: {decisions:?}");
    assert_eq!(decisions[back]["to"], 3, "all of the way: {decisions:?}");

    daemon.signal(Signal::TERM);
    assert!(daemon.wait(Duration::from_secs(30)).success(), "{}", daemon.log());
    assert!(seen.pids.len() >= 9, "{:?}", seen.pids);
    assert!(!seen.pids.iter().any(|pid| is_alive(*pid)), "no process is left");
}
