//! Which size instances should have: a larger one where the set stays large enough to lose some, a
//! smaller one where it has become too small for its zones; and only if it is cheaper by a tenth.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{Ms, SizeId};
use crate::model::{Machine, Resizing, Scaling, SizeClass};

/// Between two looks at what another size would cost.
const PERIOD: Duration = Duration::from_secs(6 * 3_600);
/// A larger size leaves at least this many instances in each zone…
const LEAST_PER_ZONE: u32 = 3;
/// …and where there are fewer than this, a smaller one is looked for.
const FEW_PER_ZONE: u32 = 2;
/// What another size may cost at most, as a share of what the present one does.
const CHEAPER: f64 = 0.9;

/// What is remembered of the demand since the last look; and beyond a restart, the size that was taken.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Resizer {
    #[serde(skip)]
    since: Option<Ms>,
    #[serde(skip)]
    least: u32,
    #[serde(skip)]
    sum: f64,
    #[serde(skip)]
    seconds: u32,
    /// The size that the config said when one was taken, and the one that was.
    taken: Option<(Option<SizeId>, SizeId)>,
}

/// Another size would be better.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Advice {
    /// Why, in words for an operator.
    pub(super) reason: String,
}

impl Resizer {
    /// The size that launches are to get. Where sizes are chosen here and nothing is remembered, what
    /// exists at the first look was chosen by a daemon before this one.
    pub(super) fn size(&mut self, scaling: &Scaling, machines: &[Machine]) -> Option<SizeClass> {
        let configured = scaling.size.as_ref().map(|size| size.name.clone());
        if scaling.resize != Resizing::Auto {
            self.taken = None;
            return scaling.size.clone();
        }
        if self.taken.as_ref().is_some_and(|(then, _)| *then != configured) {
            self.taken = configured.clone().map(|size| (Some(size.clone()), size));
        }
        if self.taken.is_none() {
            let found = most_common(scaling, machines).or_else(|| scaling.size.clone())?;
            self.taken = Some((configured, found.name));
        }
        let (_, taken) = self.taken.as_ref()?;
        scaling.sizes.iter().find(|size| size.name == *taken).or(scaling.size.as_ref()).cloned()
    }

    /// One second: `wanted` units in so many `zones`, on instances of the `present` size. Takes a
    /// better size where it may.
    pub(super) fn watch(
        &mut self,
        now: Ms,
        scaling: &Scaling,
        present: Option<&SizeClass>,
        wanted: u32,
        zones: u32,
    ) -> Option<Advice> {
        let present = present.filter(|_| scaling.resize != Resizing::Off)?;
        let since = *self.since.get_or_insert_with(|| {
            (self.least, self.sum, self.seconds) = (u32::MAX, 0.0, 0);
            now
        });
        self.least = self.least.min(wanted);
        self.sum += f64::from(wanted);
        self.seconds += 1;
        if now.since(since) < PERIOD {
            return None;
        }
        self.since = None;
        let mean = (self.sum / f64::from(self.seconds)).ceil() as u32;
        let (better, reason) = better(&scaling.sizes, present, self.least, mean, zones)?;
        if scaling.resize == Resizing::Auto {
            let configured = scaling.size.as_ref().map(|size| size.name.clone());
            self.taken = Some((configured, better.name.clone()));
        }
        Some(Advice { reason })
    }
}

/// The size that most of `machines` have, of those that are known.
fn most_common(scaling: &Scaling, machines: &[Machine]) -> Option<SizeClass> {
    let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
    for machine in machines {
        let size = machine.size.as_deref();
        let known = scaling.sizes.iter().position(|known| size == Some(known.name.as_str()));
        known.into_iter().for_each(|known| *counts.entry(known).or_default() += 1);
    }
    let (index, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    scaling.sizes.get(index).cloned()
}

/// The cheapest size that is better than `present` for `mean` units, `least` at times, with the
/// reasoning.
fn better<'a>(
    sizes: &'a [SizeClass],
    present: &SizeClass,
    least: u32,
    mean: u32,
    zones: u32,
) -> Option<(&'a SizeClass, String)> {
    let of = |size: &SizeClass, units: u32| units.div_ceil(size.units).max(1);
    let cost = |size: &SizeClass| f64::from(of(size, mean)) * size.cost;
    let few = of(present, mean) < FEW_PER_ZONE * zones;
    let fits = |size: &&SizeClass| match size.units.cmp(&present.units) {
        std::cmp::Ordering::Greater => of(size, least) >= LEAST_PER_ZONE * zones,
        std::cmp::Ordering::Less => few,
        std::cmp::Ordering::Equal => size.name != present.name,
    };
    let best = sizes.iter().filter(fits).min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
    let (now, then) = (cost(present), cost(best));
    (then <= CHEAPER * now).then(|| {
        let hours = PERIOD.as_secs() / 3_600;
        let reason = format!(
            "{} of size {} would carry {mean} units for {then:.2} an hour, which {} of size {} do \
             for {now:.2}; {least} units were the least of the last {hours} h, {} per zone then",
            of(best, mean),
            best.name,
            of(present, mean),
            present.name,
            of(best, least) / zones.max(1),
        );
        (best, reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, units: u32, cost: f64) -> SizeClass {
        SizeClass { name: SizeId::new(name), units, cost }
    }

    fn scaling(resize: Resizing) -> Scaling {
        let sizes = vec![class("s", 1, 1.0), class("m", 2, 1.7), class("l", 8, 6.0)];
        Scaling { size: Some(sizes[0].clone()), sizes, resize, ..Scaling::new(3, 400, 70.0) }
    }

    #[test]
    fn larger_if_enough_stay_smaller_if_too_few_and_only_if_cheaper() {
        let sizes = scaling(Resizing::Auto).sizes;
        for (present, least, mean, expected) in [
            (0, 30, 40, Some("m")),
            (0, 72, 80, Some("l")),
            (0, 17, 40, Some("m")),
            (0, 16, 40, None),
            (1, 4, 5, None),
            (2, 3, 5, Some("s")),
            (2, 3, 9, Some("m")),
            (2, 100, 120, None),
        ] {
            let found = better(&sizes, &sizes[present], least, mean, 3);
            let found = found.map(|(size, _)| size.name.as_str());
            assert_eq!(found, expected, "{present} {least} {mean}");
        }
    }

    #[test]
    fn told_once_in_six_hours_and_taken_only_if_it_may() {
        for resize in [Resizing::Off, Resizing::Recommend, Resizing::Auto] {
            let (mut resizer, scaling) = (Resizer::default(), scaling(resize));
            let mut told = Vec::new();
            for second in 0..12 * 3_600 {
                let present = resizer.size(&scaling, &[]);
                let now = Ms(second * 1_000);
                told.extend(resizer.watch(now, &scaling, present.as_ref(), 40, 3));
            }
            let size = resizer.size(&scaling, &[]).expect("a size");
            let expected = match resize {
                Resizing::Off => (0, "s"),
                Resizing::Recommend => (1, "s"),
                Resizing::Auto => (1, "m"),
            };
            assert_eq!((told.len(), size.name.as_str()), expected, "{told:?}");
        }
    }

    #[test]
    fn a_size_that_was_taken_outlives_a_restart_and_ends_with_the_operators_word() {
        let mut scaling = scaling(Resizing::Auto);
        let machine = Machine {
            id: "a1".into(),
            zone: "a".into(),
            address: None,
            state: crate::model::MachineState::Running,
            size: Some("m".into()),
            model: None,
            token: None,
            protected: false,
        };
        let mut resizer = Resizer::default();
        let mut size = |scaling: &Scaling, machines: &[Machine]| {
            resizer.size(scaling, machines).map(|size| size.name.to_string())
        };
        assert_eq!(size(&scaling, &[machine]).as_deref(), Some("m"));
        assert_eq!(size(&scaling, &[]).as_deref(), Some("m"));
        scaling.size = Some(scaling.sizes[2].clone());
        assert_eq!(size(&scaling, &[]).as_deref(), Some("l"));
    }
}
