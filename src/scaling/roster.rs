//! Who is there: the provider's list, which alone says what exists, joined with the standings of
//! the pool's instances, which say what each is good for.
//!
//! A sight may be older than our last reports. What was asked for is therefore taken as done for a
//! few seconds, so that nothing is drained for a surplus that has left already.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::base::{InstanceId, Ms, ZoneId};
use crate::model::{Admin, FULL, Health, InstanceRow, Life, Machine, MachineState, PoolRow};
use crate::scaling::law::Presence;

/// How long an instance may take from its order to its first passed probe.
pub(super) const BOOT_ALLOWANCE: Duration = Duration::from_secs(120);
/// How long a drain or a revival that was asked for is taken as done before the sight shows it.
const ASKED_FOR: Duration = Duration::from_secs(5);
/// A termination whose effect the list does not show is asked for again after this long.
const TERMINATE_AGAIN: Duration = Duration::from_secs(10);

/// Where an instance is, as far as the size of the pool goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// It could not be created, or ended by itself.
    Failed,
    /// Not up yet, and within its boot allowance.
    Pending,
    /// Never up, and past its boot allowance.
    Overdue,
    /// Takes traffic.
    Healthy,
    /// Was up, and is not any more.
    Down {
        /// Since when.
        since: Ms,
    },
    /// An operator keeps it out of traffic; it is the operator's until that ends.
    Aside,
    /// Takes nothing new.
    Draining {
        /// Whether it could serve again at once.
        revivable: bool,
    },
    /// Nothing can start on it any more.
    Leaving {
        /// Whether the provider is to be told (again).
        terminable: bool,
    },
}

/// Something that happened to an instance for the first time, which speaks for or against its zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// It passed its probes.
    CameUp,
    /// It failed, or its allowance ended, before it ever was up.
    NeverCame,
}

/// One instance.
#[derive(Clone, Debug)]
pub(super) struct Member<'a> {
    /// As the provider knows it.
    pub(super) machine: &'a Machine,
    /// Where it is.
    pub(super) stage: Stage,
    /// What runs on it.
    pub(super) in_flight: u32,
    /// What it takes of its full share, of [`FULL`].
    pub(super) ramp: u32,
    /// Whether the steward knows it, and so could drain it.
    pub(super) known: bool,
    /// What happened for the first time.
    pub(super) news: Option<News>,
    /// Whether the provider was told before to take it away.
    pub(super) told_to_go: bool,
    /// How much it carries, by its size.
    pub(super) units: u32,
    /// Whether it is of another make than launches are.
    pub(super) old: bool,
}

impl Member<'_> {
    /// Its name.
    pub(super) fn id(&self) -> &InstanceId {
        &self.machine.id
    }

    /// Where it stands.
    pub(super) fn zone(&self) -> &ZoneId {
        &self.machine.zone
    }
}

/// What an agent may have asked of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// To drain.
    Drain,
    /// To serve again.
    Revive,
    /// To go.
    Terminate,
}

/// What is remembered of each instance.
#[derive(Clone, Debug)]
struct Track {
    first_seen: Ms,
    came_up: bool,
    adopted: bool,
    blamed: bool,
    down_since: Option<Ms>,
    asked: Option<(Asked, Ms)>,
    tick: u64,
}

/// The memory of who is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    tracks: BTreeMap<InstanceId, Track>,
    ticks: u64,
}

impl Roster {
    /// Everyone in `machines`, in its order.
    pub(super) fn observe<'a>(
        &mut self,
        now: Ms,
        pool: &PoolRow,
        machines: &'a [Machine],
    ) -> Vec<Member<'a>> {
        let rows: HashMap<&InstanceId, &InstanceRow> =
            pool.instances.iter().map(|row| (&row.instance.id, row)).collect();
        let adopting = self.ticks == 0;
        self.ticks += 1;
        let tick = self.ticks;
        let members = machines
            .iter()
            .map(|machine| {
                let track = self.tracks.entry(machine.id.clone()).or_insert_with(|| Track {
                    first_seen: now,
                    came_up: false,
                    // What ran before our time may have been up for long: it must never be taken
                    // for a launch that did not come.
                    adopted: adopting && machine.state == MachineState::Running,
                    blamed: false,
                    down_since: None,
                    asked: None,
                    tick,
                });
                track.tick = tick;
                let evacuated = pool.evacuated.contains(&machine.zone);
                track.member(now, machine, rows.get(&machine.id).copied(), evacuated)
            })
            .collect();
        self.tracks.retain(|_, track| track.tick == tick);
        members
    }

    /// Notes that `ids` are asked to drain, serve or go.
    pub(super) fn asked(&mut self, now: Ms, what: Asked, ids: &[InstanceId]) {
        for id in ids {
            if let Some(track) = self.tracks.get_mut(id) {
                track.asked = Some((what, now));
            }
        }
    }
}

impl Track {
    fn member<'a>(
        &mut self,
        now: Ms,
        machine: &'a Machine,
        row: Option<&InstanceRow>,
        evacuated: bool,
    ) -> Member<'a> {
        let stage = match self.stage(now, machine, row) {
            // What has no address yet has no standing: it was ordered just before.
            Stage::Pending | Stage::Overdue if evacuated => Stage::Aside,
            stage => stage,
        };
        let news = match stage {
            Stage::Healthy if !self.came_up => {
                self.came_up = true;
                Some(News::CameUp)
            }
            Stage::Failed | Stage::Overdue if !(self.came_up || self.adopted || self.blamed) => {
                self.blamed = true;
                Some(News::NeverCame)
            }
            _ => None,
        };
        Member {
            machine,
            stage,
            in_flight: row.map_or(0, |row| row.instance.vitals.in_flight()),
            ramp: row
                .filter(|row| row.standing.life == Life::Ramping)
                .map_or(FULL, |row| row.instance.vitals.ramp()),
            known: row.is_some(),
            news,
            told_to_go: self.asked.is_some_and(|(asked, _)| asked == Asked::Terminate),
            units: 1,
            old: false,
        }
    }

    fn was_asked(&self, now: Ms, what: Asked, within: Duration) -> bool {
        self.asked.is_some_and(|(asked, at)| asked == what && now.since(at) < within)
    }

    fn stage(&mut self, now: Ms, machine: &Machine, row: Option<&InstanceRow>) -> Stage {
        let told_to_go = self.was_asked(now, Asked::Terminate, TERMINATE_AGAIN);
        if told_to_go || machine.state == MachineState::Stopping {
            return Stage::Leaving { terminable: false };
        }
        if matches!(machine.state, MachineState::Failed(_)) {
            return Stage::Failed;
        }
        let Some(standing) = row.map(|row| row.standing) else { return self.waiting(now) };
        let could_serve = standing.health == Health::Up && standing.admin == Admin::Enabled;
        match standing.life {
            Life::Drained | Life::Terminating => return Stage::Leaving { terminable: true },
            Life::Draining { .. } if !self.was_asked(now, Asked::Revive, ASKED_FOR) => {
                return Stage::Draining { revivable: could_serve };
            }
            _ if self.was_asked(now, Asked::Drain, ASKED_FOR) => {
                return Stage::Draining { revivable: could_serve };
            }
            _ => {}
        }
        if standing.admin != Admin::Enabled {
            return Stage::Aside;
        }
        match standing.health {
            Health::Up => {
                self.down_since = None;
                Stage::Healthy
            }
            Health::Down | Health::Ejected if self.came_up => {
                Stage::Down { since: *self.down_since.get_or_insert(now) }
            }
            _ => self.waiting(now),
        }
    }

    /// Not seen up, and not seen down after it was up.
    fn waiting(&mut self, now: Ms) -> Stage {
        if now.since(self.first_seen) < BOOT_ALLOWANCE {
            Stage::Pending
        } else if self.came_up || self.adopted {
            Stage::Down { since: *self.down_since.get_or_insert(now) }
        } else {
            Stage::Overdue
        }
    }
}

/// How many units are at each stage (where sizes have none, each instance is one). What was ordered and is not in the list yet is pending.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Count {
    /// Take traffic.
    pub(super) healthy: u32,
    /// Of these, what does not take its full share yet…
    pub(super) warming: u32,
    /// …and what it takes, of [`FULL`] each.
    pub(super) warmed: u32,
    /// Take traffic and are not protected from scale-in.
    pub(super) removable: u32,
    /// Expected to take traffic soon, except the stranded ones.
    pub(super) pending: u32,
    /// Pending in a zone that is failing: nothing may shrink for them, and nothing counts on them.
    pub(super) stranded: u32,
    /// Down.
    pub(super) unhealthy: u32,
    /// Kept out by an operator.
    pub(super) aside: u32,
    /// Draining or leaving.
    pub(super) draining: u32,
}

impl Count {
    /// Counts `members`, and `ordered` that are not among them yet.
    pub(super) fn of(members: &[Member<'_>], ordered: u32, stranded: u32) -> Self {
        let mut count = Self { pending: ordered, stranded, ..Self::default() };
        for member in members {
            let units = member.units;
            match member.stage {
                Stage::Healthy => {
                    count.healthy += units;
                    if member.ramp < FULL {
                        count.warming += units;
                        count.warmed += units * member.ramp;
                    }
                    count.removable += if member.machine.protected { 0 } else { units };
                }
                Stage::Pending => count.pending += units,
                Stage::Down { .. } => count.unhealthy += units,
                Stage::Aside => count.aside += units,
                Stage::Draining { .. } | Stage::Leaving { .. } => count.draining += units,
                Stage::Failed | Stage::Overdue => {}
            }
        }
        count.pending = count.pending.saturating_sub(stranded);
        count
    }

    /// Who is there, as the control law counts.
    pub(super) fn presence(&self) -> Presence {
        Presence {
            pending: self.pending + self.stranded,
            warming: self.warming,
            warmed: Some(self.warmed),
            ready: self.healthy - self.warming,
            draining: self.draining,
            unhealthy: self.unhealthy,
            zones: 0,
        }
    }

    /// What serves, or will.
    pub(super) fn carrying(&self) -> u32 {
        self.healthy + self.pending
    }

    /// What exists and is not leaving.
    pub(super) fn size(&self) -> u32 {
        self.carrying() + self.stranded + self.unhealthy
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Instance, Pool, Standing};

    fn machine(state: MachineState) -> Machine {
        Machine {
            id: "i".into(),
            zone: "a".into(),
            address: None,
            state,
            size: None,
            model: None,
            token: None,
            protected: false,
        }
    }

    fn row(health: Health, life: Life) -> [InstanceRow; 1] {
        let instance = Instance {
            id: "i".into(),
            pool: "p".into(),
            zone: "a".into(),
            address: ([127, 0, 0, 1], 80).into(),
            weight: 1,
            vitals: Arc::default(),
        };
        let standing = Standing { health, admin: Admin::Enabled, life };
        [InstanceRow::new(Arc::new(instance), standing)]
    }

    fn pool(rows: &[InstanceRow]) -> PoolRow {
        PoolRow::new(Arc::new(Pool::new("p".into())), rows.to_vec())
    }

    /// A roster that has begun before the machine was there.
    fn roster() -> Roster {
        let mut roster = Roster::default();
        roster.observe(Ms(0), &pool(&[]), &[]);
        roster
    }

    fn stage(roster: &mut Roster, second: u64, rows: &[InstanceRow], machine: &Machine) -> Stage {
        roster.observe(Ms(second * 1000), &pool(rows), std::slice::from_ref(machine))[0].stage
    }

    #[test]
    fn what_boots_in_an_evacuated_zone_is_not_counted_on() {
        let mut roster = roster();
        let mut evacuated = pool(&[]);
        let creating = machine(MachineState::Creating);
        let mut stage = |second: u64, pool: &PoolRow| {
            roster.observe(Ms(second * 1000), pool, std::slice::from_ref(&creating))[0].stage
        };
        assert_eq!(stage(1, &evacuated), Stage::Pending);
        evacuated.evacuated.push("a".into());
        assert_eq!(stage(2, &evacuated), Stage::Aside);
        assert_eq!(stage(500, &evacuated), Stage::Aside, "nor blamed");
        evacuated.evacuated.clear();
        assert_eq!(stage(501, &evacuated), Stage::Overdue);
    }

    #[test]
    fn from_birth_to_death() {
        let mut roster = roster();
        let creating = machine(MachineState::Creating);
        let running = machine(MachineState::Running);
        let stopping = machine(MachineState::Stopping);
        let booting = row(Health::Down, Life::Booting);
        let up = row(Health::Up, Life::Serving);
        let down = row(Health::Down, Life::Serving);
        let drained = row(Health::Down, Life::Drained);
        let none: &[InstanceRow] = &[];
        let days: [(u64, &[InstanceRow], &Machine, Stage); 9] = [
            (1, none, &creating, Stage::Pending),
            (10, &booting, &running, Stage::Pending),
            (120, &booting, &running, Stage::Pending),
            (121, &booting, &running, Stage::Overdue),
            (122, &up, &running, Stage::Healthy),
            (130, &down, &running, Stage::Down { since: Ms(130_000) }),
            (140, &down, &running, Stage::Down { since: Ms(130_000) }),
            (150, &drained, &running, Stage::Leaving { terminable: true }),
            (151, &drained, &stopping, Stage::Leaving { terminable: false }),
        ];
        for (second, rows, machine, expected) in days {
            assert_eq!(stage(&mut roster, second, rows, machine), expected, "second {second}");
        }
    }

    #[test]
    fn who_ramps_is_there_and_counts_for_what_it_takes() {
        let running = machine(MachineState::Running);
        let ramping = row(Health::Up, Life::Ramping);
        ramping[0].instance.vitals.set_ramp(FULL / 4);
        let mut roster = roster();
        let mut members =
            roster.observe(Ms(1_000), &pool(&ramping), std::slice::from_ref(&running));
        members[0].units = 2;
        let count = Count::of(&members, 3, 0);
        assert_eq!((count.healthy, count.carrying(), count.size()), (2, 5, 5), "not ordered twice");
        let presence = count.presence();
        assert_eq!((presence.warming, presence.ready, presence.pending), (2, 0, 3));
        assert_eq!(presence.strength(), 0.5);
        // What the counters say counts only while it ramps: of one that is down it is what was.
        let serving = row(Health::Up, Life::Serving);
        serving[0].instance.vitals.set_ramp(FULL / 4);
        let members = roster.observe(Ms(2_000), &pool(&serving), std::slice::from_ref(&running));
        assert_eq!(Count::of(&members, 0, 0).presence().strength(), 1.0);
        let told = Presence { warming: 3, ready: 1, ..Presence::default() };
        assert_eq!(told.strength(), 2.5, "a half each where nobody knows");
    }

    #[test]
    fn what_ran_before_our_time_is_never_taken_for_a_failed_launch() {
        let running = machine(MachineState::Running);
        let down = row(Health::Down, Life::Booting);
        let mut roster = Roster::default();
        assert_eq!(stage(&mut roster, 0, &down, &running), Stage::Pending);
        let late = stage(&mut roster, 120, &down, &running);
        assert_eq!(late, Stage::Down { since: Ms(120_000) });
    }

    #[test]
    fn a_drain_counts_before_the_sight_shows_it_but_not_for_ever() {
        let mut roster = roster();
        let running = machine(MachineState::Running);
        let up = row(Health::Up, Life::Serving);
        assert_eq!(stage(&mut roster, 1, &up, &running), Stage::Healthy);
        roster.asked(Ms(1_000), Asked::Drain, &["i".into()]);
        let draining = Stage::Draining { revivable: true };
        assert_eq!(stage(&mut roster, 2, &up, &running), draining);
        assert_eq!(stage(&mut roster, 5, &up, &running), draining);
        assert_eq!(stage(&mut roster, 6, &up, &running), Stage::Healthy);
    }

    #[test]
    fn so_does_a_revival_unless_it_came_too_late() {
        let mut roster = roster();
        let running = machine(MachineState::Running);
        let draining = row(Health::Up, Life::Draining { deadline: Ms(60_000) });
        let drained = row(Health::Up, Life::Drained);
        stage(&mut roster, 1, &draining, &running);
        roster.asked(Ms(1_000), Asked::Revive, &["i".into()]);
        assert_eq!(stage(&mut roster, 2, &draining, &running), Stage::Healthy);
        let late = Stage::Leaving { terminable: true };
        assert_eq!(stage(&mut roster, 3, &drained, &running), late);
    }

    #[test]
    fn a_termination_without_effect_is_asked_for_again() {
        let mut roster = roster();
        let failed = machine(MachineState::Failed("x".into()));
        assert_eq!(stage(&mut roster, 1, &[], &failed), Stage::Failed);
        roster.asked(Ms(1_000), Asked::Terminate, &["i".into()]);
        let told = Stage::Leaving { terminable: false };
        assert_eq!(stage(&mut roster, 10, &[], &failed), told);
        assert_eq!(stage(&mut roster, 11, &[], &failed), Stage::Failed);
    }
}
