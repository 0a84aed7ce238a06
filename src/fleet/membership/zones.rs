//! Zones over all pools: which are lost, and which operators have evacuated.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Membership;
use crate::base::{Ms, PoolId, ZoneId};
use crate::fleet::change::Change;
use crate::fleet::zones::headroom::shortage;
use crate::fleet::zones::loss::{is_back, lost_zones, window};
use crate::fleet::zones::{Loss, Shortage};
use crate::model::{Evacuation, ZoneRow, ZoneState};

/// Why a zone is not evacuated.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum NotEvacuated {
    /// There is none of that name.
    #[error("there is no zone \"{zone}\"; the zones are {}", list(.known))]
    Unknown {
        /// The name.
        zone: ZoneId,
        /// Those that there are.
        known: Vec<ZoneId>,
    },
    /// The rest of some pools could not carry what there is to carry.
    #[error(
        "zone \"{zone}\" is not evacuated: {}; add instances elsewhere first{}",
        in_words(.short), unless_forced(.short)
    )]
    Short {
        /// The zone.
        zone: ZoneId,
        /// Each pool that would be short, and of what.
        short: Vec<(PoolId, Shortage)>,
    },
}

/// Why a zone is not restored.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("zone \"{zone}\" is not evacuated; evacuated are: {}", list(.evacuated))]
pub struct NotRestored {
    /// The zone.
    pub zone: ZoneId,
    /// Those that are.
    pub evacuated: Vec<ZoneId>,
}

impl Membership {
    /// Moves the traffic of a zone elsewhere by an operator's order: new requests go there no
    /// longer, and what runs may finish. Said again, only the end is another. With `force` it may
    /// leave a pool short, but never with nothing.
    ///
    /// # Errors
    /// If there is no such zone, or the rest could not carry the traffic.
    pub fn evacuate(
        &mut self,
        zone: &ZoneId,
        evacuation: Evacuation,
        force: bool,
    ) -> Result<(), NotEvacuated> {
        if !self.books.evacuated.contains_key(zone) {
            let known = self.known_zones();
            if !known.contains(zone) {
                return Err(NotEvacuated::Unknown { zone: zone.clone(), known });
            }
            let rows = self.pools.values().map(|roster| roster.glance(&self.books));
            let mut short: Vec<(PoolId, Shortage)> =
                rows.filter_map(|row| Some((row.pool.id.clone(), shortage(&row, zone)?))).collect();
            if force {
                short.retain(|(_, shortage)| *shortage == Shortage::Nothing);
            }
            if !short.is_empty() {
                return Err(NotEvacuated::Short { zone: zone.clone(), short });
            }
            self.tell(zone, ZoneState::Evacuated, "an operator evacuates it".into());
        }
        self.books.evacuated.insert(zone.clone(), evacuation);
        self.books.changed = true;
        Ok(())
    }

    /// Ends the evacuation of a zone.
    ///
    /// # Errors
    /// If it is not evacuated.
    pub fn restore(&mut self, zone: &ZoneId) -> Result<(), NotRestored> {
        if self.books.evacuated.remove(zone).is_none() {
            let evacuated = self.books.evacuated.keys().cloned().collect();
            return Err(NotRestored { zone: zone.clone(), evacuated });
        }
        self.tell_restored(zone, "an operator restores it");
        Ok(())
    }

    /// Ends the evacuations whose time is over at `wall`, in seconds since 1970. Says whether any
    /// was.
    pub fn end_evacuations(&mut self, wall: u64) -> bool {
        let over: Vec<ZoneId> =
            self.books.evacuated.extract_if(.., |_, it| it.is_over(wall)).map(|it| it.0).collect();
        for zone in &over {
            self.tell_restored(zone, "the time of its evacuation is over");
        }
        !over.is_empty()
    }

    /// What was evacuated before the daemon was restarted.
    pub fn apply_evacuations(&mut self, evacuated: BTreeMap<ZoneId, Evacuation>) {
        self.books.evacuated = evacuated;
        self.books.changed = true;
    }

    /// What is evacuated, for the state file.
    pub fn evacuations(&self) -> &BTreeMap<ZoneId, Evacuation> {
        &self.books.evacuated
    }

    /// Looks whether the demand, or how warm instances are, have moved the plan of a pool.
    pub fn review_plans(&mut self) {
        for roster in self.pools.values_mut() {
            roster.review_plan(&mut self.books);
        }
    }

    /// Sees which zones are lost, and which of those are back. It is looked at only as long as there
    /// was a sign of a loss lately.
    pub(super) fn handle_signs(&mut self, now: Ms) {
        let back = |zone: &ZoneId| {
            let counts = self.pools.values().map(|roster| roster.up_in(zone));
            let (up, of) = counts.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            is_back(up, of).then(|| (zone.clone(), format!("{up} of {of} instances are up")))
        };
        let back: Vec<(ZoneId, String)> = self.books.lost.keys().filter_map(back).collect();
        for (zone, why) in back {
            self.books.lost.remove(&zone);
            self.tell(&zone, self.state_of(&zone), why);
        }
        let interval = self.pools.values().map(|roster| roster.pool.health.interval).max();
        let window = window(interval.unwrap_or_default());
        if self.books.sign_at.is_none_or(|at| now.since(at) > window) {
            return;
        }
        let signs = self.pools.values().flat_map(|roster| roster.signs(now));
        for (zone, loss) in lost_zones(now, window, signs) {
            if !self.books.lost.contains_key(&zone) {
                self.lose(now, &zone, loss);
            }
        }
    }

    fn lose(&mut self, now: Ms, zone: &ZoneId, loss: Loss) {
        self.books.lost.insert(zone.clone(), loss);
        self.tell(zone, ZoneState::Lost, loss.to_string());
        let why = format!("its zone is lost: {loss}");
        for roster in self.pools.values_mut() {
            roster.presume_down(now, zone, &why, &mut self.books);
        }
    }

    /// The zones of which there is something to say.
    pub(super) fn zone_rows(&self) -> Vec<ZoneRow> {
        let zones: BTreeSet<&ZoneId> =
            self.books.lost.keys().chain(self.books.evacuated.keys()).collect();
        let row = |zone: &ZoneId| ZoneRow {
            zone: zone.clone(),
            state: self.state_of(zone),
            until: self.books.evacuated.get(zone).and_then(|evacuation| evacuation.until),
        };
        zones.into_iter().map(row).collect()
    }

    fn state_of(&self, zone: &ZoneId) -> ZoneState {
        if self.books.evacuated.contains_key(zone) {
            ZoneState::Evacuated
        } else if self.books.lost.contains_key(zone) {
            ZoneState::Lost
        } else {
            ZoneState::Up
        }
    }

    fn known_zones(&self) -> Vec<ZoneId> {
        let zones: BTreeSet<&ZoneId> =
            self.pools.values().flat_map(|roster| roster.zones()).collect();
        zones.into_iter().cloned().collect()
    }

    fn tell_restored(&mut self, zone: &ZoneId, why: &str) {
        self.tell(zone, self.state_of(zone), why.to_owned());
    }

    fn tell(&mut self, zone: &ZoneId, state: ZoneState, why: String) {
        self.books.changed = true;
        self.books.changes.push(Change::Zone { zone: zone.clone(), state, why });
    }
}

fn list(zones: &[ZoneId]) -> String {
    match zones {
        [] => "none".into(),
        zones => zones.iter().map(ZoneId::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn in_words(short: &[(PoolId, Shortage)]) -> String {
    let word = |(pool, short): &(PoolId, Shortage)| format!("in pool \"{pool}\" {short}");
    short.iter().map(word).collect::<Vec<_>>().join("; ")
}

fn unless_forced(short: &[(PoolId, Shortage)]) -> impl fmt::Display + use<> {
    match short.iter().any(|(_, short)| *short == Shortage::Nothing) {
        true => "",
        false => ", or force it",
    }
}

#[cfg(test)]
mod tests;
