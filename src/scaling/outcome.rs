//! What became of the instances that a record ordered: how many came up, and after how long.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{InstanceId, Ms};
use crate::model::{Health, InstanceRow, Machine, MachineState};
use crate::provision::LaunchOrder;
use crate::scaling::roster::BOOT_ALLOWANCE;

/// The records whose launches are watched.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    watched: Vec<Watch>,
}

/// One record.
#[derive(Debug)]
struct Watch {
    record: u64,
    since: Ms,
    /// How many were ordered with each token.
    tokens: BTreeMap<String, u32>,
    /// Who came up, and after how many seconds.
    up: BTreeMap<InstanceId, u64>,
    failed: BTreeSet<InstanceId>,
}

impl Outcomes {
    /// Begins to watch what `record` ordered.
    pub(super) fn watch(&mut self, now: Ms, record: u64, orders: &[LaunchOrder]) {
        let tokens = orders.iter().map(|order| (order.token.clone(), order.count)).collect();
        let (up, failed) = (BTreeMap::new(), BTreeSet::new());
        self.watched.push(Watch { record, since: now, tokens, up, failed });
    }

    /// The provider refused this order: nothing of it is waited for.
    pub(super) fn refused(&mut self, order: &LaunchOrder) {
        for watch in &mut self.watched {
            watch.tokens.remove(&order.token);
        }
        self.watched.retain(|watch| !watch.tokens.is_empty());
    }

    /// Who is there now. Each record of which all is known, or for which the time is over, with
    /// what was measured.
    pub(super) fn observe(
        &mut self,
        now: Ms,
        rows: &[InstanceRow],
        machines: &[Machine],
    ) -> Vec<(u64, String)> {
        if self.watched.is_empty() {
            return Vec::new();
        }
        let up: BTreeSet<&InstanceId> = rows
            .iter()
            .filter(|row| row.standing.health == Health::Up)
            .map(|row| &row.instance.id)
            .collect();
        let mut done = Vec::new();
        self.watched.retain_mut(|watch| {
            let its = |machine: &&Machine| {
                machine.token.as_ref().is_some_and(|token| watch.tokens.contains_key(token))
            };
            for machine in machines.iter().filter(its) {
                if up.contains(&machine.id) {
                    let after = now.since(watch.since).as_secs();
                    watch.up.entry(machine.id.clone()).or_insert(after);
                } else if matches!(machine.state, MachineState::Failed(_))
                    && !watch.up.contains_key(&machine.id)
                {
                    watch.failed.insert(machine.id.clone());
                }
            }
            let known = (watch.up.len() + watch.failed.len()) as u32;
            let over = known >= watch.ordered() || now.since(watch.since) >= BOOT_ALLOWANCE;
            if over {
                done.push((watch.record, watch.in_words()));
            }
            !over
        });
        done
    }
}

impl Watch {
    fn ordered(&self) -> u32 {
        self.tokens.values().sum()
    }

    fn in_words(&self) -> String {
        let mut text = format!("{} of {} up", self.up.len(), self.ordered());
        match (self.up.values().min(), self.up.values().max()) {
            (Some(first), Some(last)) if first == last => text += &format!(" after {last} s"),
            (Some(first), Some(last)) => text += &format!(" after {first} to {last} s"),
            _ => {}
        }
        if !self.failed.is_empty() {
            text += &format!(", {} failed", self.failed.len());
        }
        let known = (self.up.len() + self.failed.len()) as u32;
        match self.ordered().saturating_sub(known) {
            0 => text,
            missing => format!("{text}, {missing} not within {} s", BOOT_ALLOWANCE.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Life;
    use crate::observe::metrics::fixture;

    fn order(token: &str, count: u32) -> LaunchOrder {
        LaunchOrder { token: token.into(), zone: "a".into(), count, size: None }
    }

    fn machine(id: &str, token: &str, state: MachineState) -> Machine {
        Machine {
            id: id.into(),
            zone: "a".into(),
            address: None,
            state,
            size: None,
            model: None,
            token: Some(token.into()),
            protected: false,
        }
    }

    fn row(id: &str, health: Health) -> InstanceRow {
        fixture::instance("web", id, "a", health, Life::Serving)
    }

    #[test]
    fn all_came_up() {
        let mut outcomes = Outcomes::default();
        outcomes.watch(Ms(1_000), 7, &[order("t1", 1), order("t2", 1)]);
        let running = |id, token| machine(id, token, MachineState::Running);
        let machines = [running("i1", "t1"), running("i2", "t2")];
        assert!(outcomes.observe(Ms(2_000), &[], &[]).is_empty());
        let rows = [row("i1", Health::Up), row("i2", Health::Pending)];
        assert!(outcomes.observe(Ms(3_000), &rows, &machines).is_empty());
        let rows = [row("i1", Health::Down), row("i2", Health::Up)];
        let told = outcomes.observe(Ms(6_000), &rows, &machines);
        assert_eq!(told, [(7, "2 of 2 up after 2 to 5 s".to_owned())]);
        assert!(outcomes.observe(Ms(7_000), &rows, &machines).is_empty(), "once");
    }

    #[test]
    fn what_failed_or_never_came_is_told() {
        let mut outcomes = Outcomes::default();
        outcomes.watch(Ms(0), 1, &[order("t1", 3), order("t2", 9)]);
        outcomes.refused(&order("t2", 9));
        outcomes.watch(Ms(0), 2, &[order("t3", 1)]);
        outcomes.refused(&order("t3", 1));
        let machines = [
            machine("i1", "t1", MachineState::Running),
            machine("i2", "t1", MachineState::Failed("no".into())),
            machine("i3", "t1", MachineState::Creating),
            machine("i4", "other", MachineState::Running),
        ];
        let rows = [row("i1", Health::Up), row("i4", Health::Up)];
        assert!(outcomes.observe(Ms(3_000), &rows, &machines).is_empty());
        let told = outcomes.observe(Ms(120_000), &rows, &machines);
        let expected = "1 of 3 up after 3 s, 1 failed, 1 not within 120 s".to_owned();
        assert_eq!(told, [(1, expected)], "of what is refused, the call tells");
    }
}
