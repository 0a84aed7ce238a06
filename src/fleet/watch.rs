//! What real traffic says of the instances of a pool: who is ejected, who comes back, who ramps.
//!
//! Looked at on every tick and whenever a worker rings. Invariants:
//!
//! 1. Only one that could take traffic is ejected: probes, operators and the agent have the first word.
//! 2. No more are ejected than [`Outlier::allowed`], counted with the one in question, and at least
//!    [`Outlier::min_healthy`] stay. Where these are lost later, ejections end early.
//! 3. One that warms up and is much slower than the warm ones, or fails, or has not been asked anything
//!    while they were, gets no larger share meanwhile; but slow start never takes longer than three times its window.
//! 4. A passed probe ends no ejection: it passed all the time that real requests failed. A failed one
//!    does, for it keeps the instance out as well.
//!
//! [`Outlier::allowed`]: crate::model::Outlier::allowed
//! [`Outlier::min_healthy`]: crate::model::Outlier::min_healthy

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{InstanceId, Ms};
use crate::fleet::member::{Books, Member};
use crate::fleet::outlier::{Fault, InARow, compare, is_shared, median};
use crate::fleet::warmth::share_of;
use crate::model::{Admin, Outlier, Pool};

/// How often those that warm up are compared with the warm ones.
const PACE: Duration = Duration::from_secs(1);

type Members = BTreeMap<InstanceId, Member>;

/// When the instances of a pool were looked at.
#[derive(Debug, Default)]
pub(super) struct Watch {
    looked: Option<Ms>,
    compared: Option<Ms>,
    paced: Option<Ms>,
}

impl Watch {
    /// Looks at all of them.
    pub fn look(&mut self, now: Ms, pool: &Pool, members: &mut Members, books: &mut Books) {
        let said = books.admin.get(&pool.id);
        for (id, member) in members.iter_mut() {
            let said = said.and_then(|said| said.get(id));
            member.note_enabled(said.is_none_or(|said| *said == Admin::Enabled));
        }
        reinstate(now, &pool.outlier, members, books);
        eject_failing(now, &pool.outlier, members, books);
        if is_time(now, pool.outlier.interval, &mut self.compared) {
            eject_outliers(now, &pool.outlier, members, books);
        }
        self.warm(now, pool, members, books);
    }

    fn warm(&mut self, now: Ms, pool: &Pool, members: &mut Members, books: &mut Books) {
        let passed = now.since(self.looked.replace(now).unwrap_or(now));
        let share = share_of(pool.slow_start, passed);
        if is_time(now, PACE, &mut self.paced) {
            hold_the_slow(members);
        }
        let mut warmest = 0.0f64;
        for member in members.values_mut() {
            if let Some(strength) = member.pass(share) {
                warmest = warmest.max(strength);
            }
        }
        for member in members.values_mut() {
            member.ramp(warmest, books);
        }
    }
}

/// Whether so much time has passed since the last time that this said so.
fn is_time(now: Ms, interval: Duration, last: &mut Option<Ms>) -> bool {
    let is_time = now.since(*last.get_or_insert(now)) >= interval;
    if is_time {
        *last = Some(now);
    }
    is_time
}

/// Tells those that ramp whether they are to stay at what they take now.
fn hold_the_slow(members: &mut Members) {
    let mut warm: Vec<f64> = Vec::new();
    let mut ramping = false;
    for member in members.values_mut() {
        let mean_ms = member.pace();
        ramping |= member.is_ramping();
        warm.extend(mean_ms.filter(|_| member.is_serving() && !member.is_ramping()));
    }
    if ramping {
        let usual_ms = median(&mut warm);
        members.values_mut().filter(|member| member.is_ramping()).for_each(|member| {
            member.compare_to_warm(usual_ms);
        });
    }
}

/// Ends ejections: when their time is over, and before it where too few are left.
fn reinstate(now: Ms, settings: &Outlier, members: &mut Members, books: &mut Books) {
    for member in members.values_mut() {
        match member.ejected_until() {
            Some(until) if until <= now => member.reinstate(now, "its time is over", books),
            Some(_) if settings.is_off() => {
                member.reinstate(now, "nobody is ejected any more", books);
            }
            _ => {}
        }
    }
    // Whoever was drained or down meanwhile, and comes back ejected, may be one too many.
    let (all, mut serving) = count(members);
    while serving < settings.min_healthy.max(1) || all - serving > settings.allowed(all) {
        let out = members.values_mut().filter(|it| it.is_sound() && it.is_ejected());
        let Some(first) = out.min_by_key(|member| member.ejected_until()) else { break };
        first.reinstate(now, "too few others are left", books);
        serving += 1;
    }
}

/// How many could take traffic if nobody were ejected, and how many do.
fn count(members: &Members) -> (u32, u32) {
    members
        .values()
        .filter(|member| member.is_sound())
        .fold((0, 0), |(all, serving), member| (all + 1, serving + u32::from(!member.is_ejected())))
}

fn has_room(settings: &Outlier, members: &Members) -> bool {
    let (all, serving) = count(members);
    all - serving < settings.allowed(all)
}

/// Ejects those who fail time after time, while others do not.
fn eject_failing(now: Ms, settings: &Outlier, members: &mut Members, books: &mut Books) {
    let failing = |member: &Member| {
        let fault = InARow::of(&member.instance.vitals).fault(settings)?;
        member.is_serving().then_some(fault)
    };
    let found: Vec<(InstanceId, Fault)> =
        members.iter().filter_map(|(id, member)| Some((id.clone(), failing(member)?))).collect();
    for (id, fault) in found {
        let peers = members.iter().filter(|(other, peer)| **other != id && peer.is_serving());
        let shared = is_shared(settings, peers.map(|(_, peer)| InARow::of(&peer.instance.vitals)));
        if !shared && has_room(settings, members) {
            eject(now, settings, members, &id, &fault, books);
        }
    }
}

/// Compares what all have answered since the last time, and ejects those who stand out.
fn eject_outliers(now: Ms, settings: &Outlier, members: &mut Members, books: &mut Books) {
    let (mut ids, mut tallies) = (Vec::new(), Vec::new());
    for (id, member) in members.iter_mut() {
        let tally = member.tally();
        if member.is_serving() {
            ids.push(id.clone());
            tallies.push(tally);
            member.forgive(now, settings);
        }
    }
    // One that warms up is slow, and cannot get warm without traffic.
    let is_warm =
        |index: usize| members.get(&ids[index]).is_some_and(|member| !member.is_ramping());
    for (index, fault) in compare(settings, &tallies, is_warm) {
        let id = &ids[index];
        if members.get(id).is_some_and(Member::is_serving) && has_room(settings, members) {
            eject(now, settings, members, id, &fault, books);
        }
    }
}

fn eject(
    now: Ms,
    settings: &Outlier,
    members: &mut Members,
    id: &InstanceId,
    fault: &Fault,
    books: &mut Books,
) {
    if let Some(member) = members.get_mut(id) {
        member.eject(now, settings, fault, books);
    }
}

#[cfg(test)]
mod tests;
