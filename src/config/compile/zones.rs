//! `[pool.NAME.zones]`: which zones get traffic first.

use std::collections::BTreeSet;

use crate::base::ZoneId;
use crate::config::fault::did_you_mean;
use crate::config::raw;
use crate::config::read::{Given, List, State};
use crate::config::scalar::Rate;
use crate::config::text::Name;
use crate::config::zones::Level;
use crate::model::{ZoneMode, Zones};

use super::{Chosen, Compiler, first_written};

impl Compiler<'_> {
    /// `home` is the zone of the node; `known` are the zones that the pool has, or may have,
    /// instances in.
    pub(super) fn zones(
        &mut self,
        (raw, base): (&raw::PoolZones, &raw::PoolZones),
        home: &Given<Name>,
        known: &BTreeSet<&ZoneId>,
    ) -> Zones {
        let built_in = Zones::default();
        let mode = self.choose(&raw.mode, Some(&base.mode), Some(built_in.mode));
        let spill_at = self.choose(&raw.spill_at, Some(&base.spill_at), Some(built_in.spill_at));
        let panic_below = self.pick(&raw.panic_below, &base.panic_below, built_in.panic_below);
        let factor = Rate(built_in.overprovisioning);
        let factor = self.choose(&raw.overprovisioning, Some(&base.overprovisioning), Some(factor));
        let levels = self.choose(&raw.levels, Some(&base.levels), None);

        if let Some(mode) = &mode {
            self.check_mode(mode, home, raw, base);
        }
        if let Some(spill_at) = spill_at.as_ref().filter(|it| it.value.0 <= 0.0) {
            let hint = "the own zone would get nothing; write at least \"1%\"";
            self.fault(spill_at.place, &spill_at.key, "must be more than \"0%\"", hint);
        }
        if let Some(factor) = factor.as_ref().filter(|it| it.value.0 < 1.0) {
            let hint = "with 1 a level is whole only as long as all of it is healthy";
            self.fault(factor.place, &factor.key, "must be at least 1", hint);
        }
        if let Some(levels) = &levels {
            // Those of [defaults], and those that another mode leaves unused, may name others.
            let in_use = mode.as_ref().is_some_and(|mode| mode.value == ZoneMode::Priority);
            self.check_levels(levels, in_use && raw.levels.is_present(), known);
        }
        let name = |name: Name| ZoneId::new(name.0);
        let level = |level: Level| level.0.into_iter().map(name).collect();
        let levels = levels.map_or_else(Vec::new, |levels| levels.value.0);
        Zones {
            mode: mode.map_or(built_in.mode, |mode| mode.value),
            home: home.value().map(|home| ZoneId::new(&home.0)),
            spill_at: spill_at.map_or(built_in.spill_at, |it| it.value),
            panic_below,
            levels: levels.into_iter().map(|it| level(it.value)).collect(),
            overprovisioning: factor.map_or(built_in.overprovisioning, |it| it.value.0),
        }
    }

    fn check_mode(
        &self,
        mode: &Chosen<ZoneMode>,
        home: &Given<Name>,
        raw: &raw::PoolZones,
        base: &raw::PoolZones,
    ) {
        let levels = first_written(&[&raw.levels, &base.levels]);
        match (mode.value, levels) {
            (ZoneMode::LocalFirst, _) if matches!(home.state, State::Absent) => {
                let problem = "\"local-first\" needs the zone that this node stands in";
                self.fault(mode.place, &mode.key, problem, "add zone = \"NAME\" to [node]");
            }
            (ZoneMode::Priority, None) => {
                let problem = "\"priority\" needs levels";
                let hint = "add levels = [[\"a\"], [\"b\", \"c\"]], the first one first";
                self.fault(mode.place, &mode.key, problem, hint);
            }
            _ => {}
        }
    }

    fn check_levels(&self, levels: &Chosen<List<Level>>, own: bool, known: &BTreeSet<&ZoneId>) {
        let mut named = BTreeSet::new();
        for level in &levels.value.0 {
            for name in &level.value.0 {
                if !named.insert(name) {
                    let problem = format!("the zone {:?} is there twice", name.0);
                    self.fault(level.place, &levels.key, problem, "");
                } else if own && !known.contains(&ZoneId::new(&name.0)) {
                    let problem = format!("the pool has no instances in a zone {:?}", name.0);
                    let hint = did_you_mean(&name.0, known.iter().map(|zone| zone.as_str()));
                    self.sink.add(level.place, &levels.key, problem, hint);
                }
            }
        }
    }
}
