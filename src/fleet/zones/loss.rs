//! When a zone is lost: most of its instances stop answering within a short time.
//!
//! What is watched is machines and not pools, so the instances of all pools in a zone speak
//! together. What follows for a single instance holds only until its own probes say otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::base::{Ms, ZoneId};

/// A zone is lost if this many were, at least, and more than half of those that were well.
const AT_LEAST: u32 = 2;
/// The others are well if no more than one in this many of theirs was lost in the same time.
const OTHERS: u32 = 4;
/// The shortest time within which losses count as one. It grows with the interval of the probes: of
/// instances without traffic each is asked only so often.
const WINDOW_MIN: Duration = Duration::from_secs(3);
/// The longest: what takes longer is not one event.
const WINDOW_MAX: Duration = Duration::from_secs(10);

/// What one instance says of its zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sign {
    /// It is up and nothing speaks against it; it was heard of last then.
    Well(Ms),
    /// It was well, and does not answer since then.
    Lost(Ms),
    /// It was not up before, or is not meant to be.
    Nothing,
}

/// How much of a zone was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loss {
    /// So many instances.
    pub lost: u32,
    /// Of so many that were well.
    pub of: u32,
    /// From the first to the last of them.
    pub within: Duration,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, of, within } = self;
        write!(f, "{lost} of {of} instances within {:.1} s", within.as_secs_f64())
    }
}

/// How long losses count as one event, with probes at this interval.
pub fn window(interval: Duration) -> Duration {
    interval.clamp(WINDOW_MIN, WINDOW_MAX)
}

/// The zones that are lost by these signs, each with how much of it is.
pub fn lost_zones<'a>(
    now: Ms,
    window: Duration,
    signs: impl Iterator<Item = (&'a ZoneId, Sign)>,
) -> Vec<(ZoneId, Loss)> {
    let mut zones: BTreeMap<&ZoneId, (Vec<Ms>, Vec<Ms>)> = BTreeMap::new();
    for (zone, sign) in signs {
        let (well, lost) = zones.entry(zone).or_default();
        match sign {
            Sign::Well(heard) => well.push(heard),
            Sign::Lost(at) if now.since(at) <= window => lost.push(at),
            Sign::Lost(_) | Sign::Nothing => {}
        }
    }
    let well: u32 = zones.values().map(|(well, _)| well.len() as u32).sum();
    let lost: u32 = zones.values().map(|(_, lost)| lost.len() as u32).sum();
    let is_lost = |(zone, (here, gone)): (&&ZoneId, &(Vec<Ms>, Vec<Ms>))| {
        let (gone_here, of) = (gone.len() as u32, (here.len() + gone.len()) as u32);
        let (well_elsewhere, lost_elsewhere) = (well - here.len() as u32, lost - gone_here);
        let first = gone.iter().min()?;
        let most = gone_here >= AT_LEAST && 2 * gone_here > of;
        // Whoever has not been heard of since may have the same trouble.
        let elsewhere = zones.iter().filter(|(other, _)| *other != zone);
        let heard = elsewhere.flat_map(|(_, (well, _))| well).any(|heard| heard >= first);
        let others = heard && OTHERS * lost_elsewhere <= well_elsewhere + lost_elsewhere;
        let within = gone.iter().max()?.since(*first);
        (most && others).then(|| ((*zone).clone(), Loss { lost: gone_here, of, within }))
    };
    zones.iter().filter_map(is_lost).collect()
}

/// Whether a lost zone is back: most of what is there is up again, or nothing is there.
pub fn is_back(up: u32, of: u32) -> bool {
    of == 0 || 2 * up > of
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// `"a+++- b++"`: the signs of each zone; `+` well, `?` well when it was last heard of, `-` lost just now, `o` lost long ago, `.`
    /// nothing.
    fn lost(text: &str) -> String {
        let now = Ms(100_000);
        let zones: Vec<(ZoneId, &str)> = text
            .split_whitespace()
            .map(|word| word.split_at(1))
            .map(|(zone, signs)| (zone.into(), signs))
            .collect();
        let signs = zones.iter().flat_map(|(zone, signs)| {
            signs.chars().enumerate().map(move |(n, sign)| {
                let sign = match sign {
                    '+' => Sign::Well(now),
                    '?' => Sign::Well(Ms(90_000)),
                    '-' => Sign::Lost(Ms(100_000 - 100 * n as u64)),
                    'o' => Sign::Lost(Ms(100_000 - 3_001)),
                    _ => Sign::Nothing,
                };
                (zone, sign)
            })
        });
        let lost = lost_zones(now, window(SECOND), signs);
        let words: Vec<String> =
            lost.iter().map(|(zone, loss)| format!("{zone}: {loss}")).collect();
        words.join("; ")
    }

    #[test]
    fn a_zone_is_lost_if_most_of_it_is_and_the_others_are_well() {
        for (text, expected) in [
            ("a---+ b++++ c++++", "a: 3 of 4 instances within 0.2 s"),
            ("a-- b++", "a: 2 of 2 instances within 0.1 s"),
            // Half is not most, and one is an accident.
            ("a--++ b++++", ""),
            ("a- b++", ""),
            // What was down before, or is not up yet, says nothing.
            ("a--oo. b++", "a: 2 of 2 instances within 0.1 s"),
            ("aooo+ b++", ""),
            // A trickle elsewhere is none of its business; a trouble that others have too is.
            ("a--- b+++-", "a: 3 of 3 instances within 0.2 s"),
            ("a--- b++-", ""),
            ("a--- b--- c+++", ""),
            (
                "a--- b--- c+++++++++",
                "a: 3 of 3 instances within 0.2 s; b: 3 of 3 instances within 0.2 s",
            ),
            ("a--- b???", ""),
            ("a--- b??+", "a: 3 of 3 instances within 0.2 s"),
            // There is nowhere else.
            ("a---", ""),
            ("a--- b..", ""),
            ("", ""),
        ] {
            assert_eq!(lost(text), expected, "{text}");
        }
    }

    #[test]
    fn the_window_follows_the_probes_within_bounds() {
        for (interval, expected) in [(1, 3), (5, 5), (60, 10)] {
            assert_eq!(window(SECOND * interval), SECOND * expected);
        }
    }

    #[test]
    fn a_zone_is_back_with_most_of_it() {
        for (up, of, back) in [(0, 0, true), (0, 1, false), (1, 2, false), (2, 3, true)] {
            assert_eq!(is_back(up, of), back, "{up} of {of}");
        }
    }
}
