//! Rolling a pool over to another size or program: who is of which make, what the next batch is,
//! and when to give up.
//!
//! A batch first brings the new, waits until all of it serves, then drains as much of the old; so a
//! roll needs room for one batch above the size of the pool, and costs no capacity. If the new do not
//! come up, the roll is given up and what came of it is rolled back to the size that was before. (A
//! provider launches only the program that it is configured with: there the roll just stops.) What
//! was given up is not tried again until the config says something else, also not by a daemon that starts
//! anew: it goes on with what the one before it had come to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{InstanceId, ZoneId};
use crate::model::{Machine, Roll as Settings};
use crate::scaling::law::Moment;
use crate::scaling::plan::Refusal;
use crate::scaling::roster::{Count, Member, Stage};

/// A batch that does not serve after this long ends, and with it the wait of what it holds up.
const FILLED_WITHIN: Duration = Duration::from_secs(180);
/// After such a batch the next one waits this long.
const REST: Duration = Duration::from_secs(300);

/// What an instance is made of.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Make {
    /// Its size; `None` stands for any.
    pub(super) size: Option<String>,
    /// Its program or image; `None` stands for any.
    pub(super) model: Option<String>,
}

/// A roll, and what is remembered of the last one: beyond a restart, but for the batch, which is seen
/// from what exists.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Roll {
    /// What launches get.
    aim: Make,
    /// What was given up, and what it was rolled back to.
    given_up: Option<(Make, Make)>,
    /// The way back failed too: what is there stays as it is.
    stopped: bool,
    going: bool,
    #[serde(skip)]
    batch: Option<Batch>,
    /// Those of the new make that failed or never came.
    failed: BTreeSet<InstanceId>,
    /// By the wall clock, which goes on while no daemon runs.
    rests_until_s: i64,
}

#[derive(Clone, Debug)]
struct Batch {
    opened: Moment,
    /// Units above the size of the pool.
    surge: u32,
    /// The new serve, the old drain.
    drains: bool,
}

/// What a roll looks at.
#[derive(Debug)]
pub(super) struct Look<'a> {
    /// Now.
    pub(super) now: Moment,
    /// Who is there.
    pub(super) members: &'a [Member<'a>],
    /// In units.
    pub(super) count: &'a Count,
    /// How many units should serve, the batch aside.
    pub(super) desired: u32,
    /// Whether nothing shrinks now and no outage goes on.
    pub(super) calm: bool,
    /// What fails in these zones says nothing of the new make.
    pub(super) failing: &'a [ZoneId],
    /// As configured.
    pub(super) settings: Settings,
    /// The units of a new instance.
    pub(super) unit: u32,
}

/// What is to be done for the roll now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Step {
    /// Units to have above the size.
    pub(super) surge: u32,
    /// Units of the old that are to drain.
    pub(super) leave: u32,
    /// What has begun or ended, in words for an operator.
    pub(super) told: Vec<String>,
    /// What is not done, and why.
    pub(super) refusal: Option<Refusal>,
}

impl Make {
    /// Whether `machine` is of this make. One of an unknown program may be.
    pub(super) fn fits(&self, machine: &Machine) -> bool {
        let size = self.size.is_none() || self.size == machine.size;
        let model = match (&self.model, &machine.model) {
            (Some(wanted), Some(known)) => wanted == known,
            _ => true,
        };
        size && model
    }

    /// In words.
    fn word(&self) -> String {
        match &self.size {
            Some(size) => format!("size {size}"),
            None => "the configured program".into(),
        }
    }
}

impl Roll {
    /// What launches are to get, where `wanted` is what the config (or a better size) asks for.
    pub(super) fn aim(&mut self, wanted: &Make) -> Make {
        let aim = match &self.given_up {
            Some((given_up, back)) if given_up == wanted => back.clone(),
            _ => {
                self.given_up = None;
                wanted.clone()
            }
        };
        if self.aim != aim {
            *self = Self { aim, given_up: self.given_up.take(), ..Self::default() };
        }
        self.aim.clone()
    }

    /// Whether a batch is open: nothing shrinks meanwhile.
    pub(super) fn is_open(&self) -> bool {
        self.batch.is_some()
    }

    /// Whether there is something of the old left to roll.
    pub(super) fn is_going(&self) -> bool {
        self.going
    }

    /// One second.
    pub(super) fn step(&mut self, look: &Look<'_>) -> Step {
        let mut step = Step::default();
        let old = || look.members.iter().filter(|member| member.old && !member.machine.protected);
        let leaving =
            old().any(|m| matches!(m.stage, Stage::Draining { .. } | Stage::Leaving { .. }));
        let left = old()
            .filter(|m| matches!(m.stage, Stage::Healthy | Stage::Pending | Stage::Down { .. }))
            .count();
        if left == 0 {
            if !leaving && std::mem::take(&mut self.going) {
                step.told.push(format!("rolled: all instances are of {}", self.aim.word()));
            }
            if !leaving {
                self.batch = None;
                self.failed.clear();
            }
            return step;
        }
        if self.stopped {
            return step;
        }
        if !std::mem::replace(&mut self.going, true) {
            step.told.push(format!("{left} instances are to be of {}", self.aim.word()));
        }
        if let Some((bad, tried)) = self.fails(look) {
            step.told.push(self.give_up(look, bad, tried));
            return step;
        }
        self.advance(look, leaving, &mut step);
        step.surge = self.batch.as_ref().filter(|batch| !batch.drains).map_or(0, |b| b.surge);
        step
    }

    /// How many of the new failed of how many that were tried, if those are too many. One may
    /// always be an accident.
    fn fails(&mut self, look: &Look<'_>) -> Option<(u32, u32)> {
        let (mut up, mut down) = (0, 0);
        let new = look.members.iter().filter(|m| !m.old && !look.failing.contains(m.zone()));
        for member in new {
            match member.stage {
                Stage::Healthy => up += 1,
                Stage::Down { .. } => down += 1,
                Stage::Failed | Stage::Overdue => {
                    self.failed.insert(member.id().clone());
                }
                _ => {}
            }
        }
        let bad = self.failed.len() as u32 + down;
        let tried = bad + up;
        let allowed = (look.settings.max_unhealthy.0 * f64::from(tried)) as u32;
        (bad > allowed.max(1)).then_some((bad, tried))
    }

    /// Turns back, and says so.
    fn give_up(&mut self, look: &Look<'_>, bad: u32, tried: u32) -> String {
        self.batch = None;
        self.failed.clear();
        let what = format!("{bad} of {tried} new instances of {} do not serve", self.aim.word());
        if self.given_up.is_some() {
            self.stopped = true;
            return format!("{what}: the way back ends here, and what is there stays");
        }
        let mut sizes: BTreeMap<&String, u32> = BTreeMap::new();
        for member in look.members.iter().filter(|member| member.old) {
            let size = member.machine.size.as_ref();
            if let Some(size) = size.filter(|size| Some(*size) != self.aim.size.as_ref()) {
                *sizes.entry(size).or_default() += 1;
            }
        }
        let before = sizes.into_iter().max_by_key(|(_, count)| *count).map(|(size, _)| size);
        let (back, advice) = match before {
            Some(size) => (Some(size.clone()), format!("it is rolled back to size {size}")),
            None => (
                self.aim.size.clone(),
                "the roll stops; put the old program back, or a better one, and reload".into(),
            ),
        };
        self.given_up = Some((self.aim.clone(), Make { size: back, model: None }));
        format!("{what}: given up, {advice}")
    }

    /// Opens, fills and empties batches.
    fn advance(&mut self, look: &Look<'_>, leaving: bool, step: &mut Step) {
        let Look { now, count, desired, settings, .. } = look;
        let boots = count.pending + count.stranded > 0;
        let spare = count.healthy.saturating_sub(*desired);
        // A wall clock that was put back does not make a rest longer.
        let longest = whole_seconds(settings.pause.max(REST));
        let rests = (1..=longest).contains(&(self.rests_until_s - now.wall_s));
        match &mut self.batch {
            Some(batch) if batch.drains => {
                if !leaving {
                    self.batch = None;
                    self.rests_until_s = now.wall_s + whole_seconds(settings.pause);
                }
            }
            Some(batch) => {
                let late = now.now.since(batch.opened.now) >= FILLED_WITHIN;
                if !boots && (spare >= batch.surge || (late && spare > 0)) {
                    step.leave = spare.min(batch.surge);
                    batch.drains = true;
                } else if late {
                    self.batch = None;
                    self.rests_until_s = now.wall_s + whole_seconds(REST);
                    let reason = format!(
                        "the roll rests for {} s: its batch did not serve within {} s",
                        REST.as_secs(),
                        FILLED_WITHIN.as_secs()
                    );
                    step.refusal = Some(Refusal { kind: "roll rests", reason });
                }
            }
            None if rests || boots || leaving || !look.calm => {}
            None => {
                let least = (f64::from(*desired) * (1.0 - settings.max_unhealthy.0)).ceil();
                if f64::from(count.healthy) < least {
                    let reason = format!(
                        "the roll waits: {} of {desired} serve, and it goes on with {least}",
                        count.healthy
                    );
                    step.refusal = Some(Refusal { kind: "roll waits", reason });
                    return;
                }
                let surge = look.surge();
                if surge > 0 {
                    self.batch = Some(Batch { opened: *now, surge, drains: false });
                }
            }
        }
    }
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX)
}

impl Look<'_> {
    /// The units of the next batch, in whole new instances.
    fn surge(&self) -> u32 {
        let serving = || self.members.iter().filter(|member| member.stage == Stage::Healthy);
        let batch = (self.settings.batch.0 * serving().count() as f64) as usize;
        let old = serving().filter(|member| member.old && !member.machine.protected);
        let units: u32 = old.take(batch.max(1)).map(|member| member.units).sum();
        units.div_ceil(self.unit) * self.unit
    }
}
