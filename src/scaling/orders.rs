//! What was ordered, and who takes orders.
//!
//! An order counts from the moment it is given until its instances are in the provider's list, or
//! ten seconds after it was accepted: so nothing is ordered twice because its effect is not seen
//! yet. A zone that fails an order, or whose instances never come up, is left alone for longer and
//! longer; a failure that is not about a zone closes the whole pool for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::backoff::Backoff;
use crate::base::{Entropy, Ms, PoolId, ZoneId};
use crate::model::{Machine, Scaling};
use crate::provision::{Failure, LaunchOrder};
use crate::scaling::plan::Refusal;
use crate::scaling::roster::{Member, News};

/// How long an accepted order counts before its instances are in the list.
const CREDITED_FOR: Duration = Duration::from_secs(10);
/// Launches of this long are bounded together by `scale_out.rate`, as a share of the size before
/// them. Its default is generous (four times the size), for what instances are asked and cannot
/// serve is seen only in part while they are saturated. What brings the pool to its minimum comes on
/// top.
const LAUNCH_PERIOD: Duration = Duration::from_secs(15);
const BACKOFF_FIRST: Duration = Duration::from_secs(2);
const BACKOFF_LONGEST: Duration = Duration::from_secs(300);
/// How long a quota is believed.
const QUOTA_FOR: Duration = Duration::from_secs(300);

/// The memory of orders and their failures.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    prefix: String,
    given: u64,
    entropy: Entropy,
    recent: Vec<Order>,
    zones: BTreeMap<ZoneId, Closure>,
    pool: Closure,
    /// How many existed when the quota was met, and until when that is believed.
    quota: Option<(u32, Ms)>,
}

/// One order that still counts, for the size or for the launch rate.
#[derive(Clone, Debug)]
struct Order {
    token: String,
    zone: ZoneId,
    count: u32,
    /// The units of each.
    units: u32,
    /// How many of them the list has not shown.
    unseen: u32,
    given: Ms,
    answered: Option<Ms>,
}

/// When something takes orders again.
#[derive(Clone, Debug)]
struct Closure {
    backoff: Backoff,
    failed: Option<Ms>,
    until: Ms,
    why: &'static str,
}

impl Default for Closure {
    fn default() -> Self {
        let backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_LONGEST);
        Self { backoff, failed: None, until: Ms::ZERO, why: "" }
    }
}

impl Closure {
    /// Something that was `tried` then has failed now. What was tried before the last failure was
    /// known is the same failure, and does not double the wait.
    fn fail(&mut self, now: Ms, tried: Ms, why: &'static str, entropy: &mut Entropy) {
        if self.failed.is_none_or(|failed| failed < tried) {
            self.failed = Some(now);
            self.until = now + self.backoff.fail(entropy);
            self.why = why;
        }
    }
}

impl Orders {
    /// Tokens are `pool-nonce-counter`; `nonce` differs at each start of the daemon.
    pub(super) fn new(pool: &PoolId, nonce: u64) -> Self {
        Self {
            prefix: format!("{pool}-{nonce:x}"),
            given: 0,
            entropy: Entropy::seeded(nonce),
            recent: Vec::new(),
            zones: BTreeMap::new(),
            pool: Closure::default(),
            quota: None,
        }
    }

    /// Takes note of what exists now.
    pub(super) fn see(&mut self, now: Ms, machines: &[Machine], members: &[Member<'_>]) {
        for order in &mut self.recent {
            let token = Some(order.token.as_str());
            let seen = machines.iter().filter(|m| m.token.as_deref() == token).count() as u32;
            order.unseen = order.unseen.min(order.count.saturating_sub(seen));
            if order.answered.is_some_and(|at| now.since(at) >= CREDITED_FOR) {
                order.unseen = 0;
            }
        }
        self.recent.retain(|order| order.unseen > 0 || now.since(order.given) < LAUNCH_PERIOD);
        if self.quota.is_some_and(|(_, until)| until <= now) {
            self.quota = None;
        }
        for member in members {
            match member.news {
                Some(News::CameUp) => {
                    if let Some(zone) = self.zones.get_mut(member.zone()) {
                        zone.backoff.succeed();
                    }
                }
                Some(News::NeverCame) => {
                    let zone = self.zones.entry(member.zone().clone()).or_default();
                    let why = "its instances do not come up";
                    zone.fail(now, now, why, &mut self.entropy);
                }
                None => {}
            }
        }
    }

    /// The units that were ordered in `zone` and are not in the list yet.
    pub(super) fn unseen_in(&self, zone: &ZoneId) -> u32 {
        let here = self.recent.iter().filter(|order| order.zone == *zone);
        here.map(|order| order.unseen * order.units).sum()
    }

    /// The units that were ordered and are not in the list yet.
    pub(super) fn unseen_units(&self) -> u32 {
        self.recent.iter().map(|order| order.unseen * order.units).sum()
    }

    /// How many were ordered and are not in the list yet.
    pub(super) fn unseen(&self) -> u32 {
        self.recent.iter().map(|order| order.unseen).sum()
    }

    /// How many more units may be ordered now, for a pool of `size`.
    pub(super) fn allowed(&self, now: Ms, size: u32, scaling: &Scaling) -> u32 {
        let recent = self.recent.iter().filter(|order| now.since(order.given) < LAUNCH_PERIOD);
        let launched: u32 = recent.map(|order| order.count * order.units).sum();
        let before = size.saturating_sub(launched);
        let first = scaling.min.saturating_sub(before);
        let base = f64::from(before.max(scaling.min).max(1));
        let growth = (base * scaling.scale_out.rate.0) as u32;
        first.saturating_add(growth.max(1)).saturating_sub(launched)
    }

    /// How many may exist, as far as a quota is known.
    pub(super) fn quota(&self) -> Option<u32> {
        self.quota.map(|(count, _)| count)
    }

    /// Whether `zone` has not failed lately.
    pub(super) fn open(&self, now: Ms, zone: &ZoneId) -> bool {
        self.zones.get(zone).is_none_or(|closure| closure.until <= now)
    }

    /// Why the whole pool takes no orders now.
    pub(super) fn closed(&self, now: Ms) -> Option<Refusal> {
        (self.pool.until > now).then(|| Refusal {
            kind: "provider",
            reason: format!(
                "no launches for {} s: {}",
                self.pool.until.since(now).as_secs().max(1),
                self.pool.why
            ),
        })
    }

    /// An order for `count` instances in `zone`, of the provider's default size.
    #[cfg(test)]
    pub(super) fn give(&mut self, now: Ms, zone: &ZoneId, count: u32) -> LaunchOrder {
        self.give_sized(now, zone, count, (None, 1))
    }

    /// An order for `count` instances in `zone`, of a size with so many units.
    pub(super) fn give_sized(
        &mut self,
        now: Ms,
        zone: &ZoneId,
        count: u32,
        (size, units): (Option<&str>, u32),
    ) -> LaunchOrder {
        self.given += 1;
        let token = format!("{}-{}", self.prefix, self.given);
        self.recent.push(Order {
            token: token.clone(),
            zone: zone.clone(),
            count,
            units,
            unseen: count,
            given: now,
            answered: None,
        });
        LaunchOrder { token, zone: zone.clone(), count, size: size.map(str::to_owned) }
    }

    /// What became of an order, when `listed` instances were in the list. What is to be told to the
    /// operator, if it failed.
    pub(super) fn answer(
        &mut self,
        now: Ms,
        order: &LaunchOrder,
        result: &Result<(), Failure>,
        listed: u32,
    ) -> Option<Refusal> {
        let given = self.given_at(order).unwrap_or(now);
        let failure = match result {
            Ok(()) => {
                self.pool.backoff.succeed();
                self.answered(now, order);
                return None;
            }
            Err(failure) => failure,
        };
        if matches!(failure, Failure::Unreachable(_)) {
            // It may have happened: the list will tell, and until then it counts.
            self.answered(now, order);
        } else {
            self.recent.retain(|recent| recent.token != order.token);
        }
        let existing = listed + self.unseen();
        let pool = &mut self.pool;
        let zone = self.zones.entry(order.zone.clone()).or_default();
        let mut close = |closure: &mut Closure, why| {
            closure.fail(now, given, why, &mut self.entropy);
        };
        let advice = match failure {
            Failure::NoCapacity { .. } => {
                close(zone, "it has no capacity");
                "other zones are tried".into()
            }
            Failure::Unreachable(_) => {
                close(zone, "the provider did not answer");
                "the list will show whether it happened".into()
            }
            Failure::Conflict(_) => {
                close(zone, "the provider's state had moved on");
                "it is tried again from a new list".into()
            }
            Failure::Throttled { retry_after } => {
                close(pool, "the provider throttles");
                pool.until = pool.until.max(now + retry_after.unwrap_or_default());
                "nothing is asked for a while".into()
            }
            Failure::Quota(_) => {
                self.quota = Some((existing, now + QUOTA_FOR));
                let minutes = QUOTA_FOR.as_secs() / 60;
                let advice = "have the quota raised, or lower the pool's scaling.max";
                format!("{existing} is the maximum for {minutes} min; {advice}")
            }
            Failure::Denied(_) => {
                close(pool, "the provider denies launches");
                "give the daemon's credentials the right to launch instances".into()
            }
            Failure::Rejected(_) | Failure::Unsupported(_) => {
                close(pool, "the provider rejects the order");
                "correct the pool's provisioner section and reload".into()
            }
        };
        let kind = failure.word();
        let LaunchOrder { count, zone, .. } = order;
        Some(Refusal { kind, reason: format!("+{count} in {zone}: {failure}; {advice}") })
    }

    fn given_at(&self, order: &LaunchOrder) -> Option<Ms> {
        self.recent.iter().find(|recent| recent.token == order.token).map(|recent| recent.given)
    }

    fn answered(&mut self, now: Ms, order: &LaunchOrder) {
        if let Some(recent) = self.recent.iter_mut().find(|recent| recent.token == order.token) {
            recent.answered = Some(now);
        }
    }

    /// Why `zone` takes no orders, and for how long, in words.
    pub(super) fn why_closed(&self, now: Ms, zone: &ZoneId) -> Option<String> {
        let closure = self.zones.get(zone).filter(|closure| closure.until > now)?;
        Some(format!("{} ({} s)", closure.why, closure.until.since(now).as_secs().max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Share;
    use crate::model::{MachineState, ScaleOut};

    fn scaling(min: u32) -> Scaling {
        Scaling::new(min, 1_000, 70.0)
    }

    fn machine(id: &str, token: &str) -> Machine {
        Machine {
            id: id.into(),
            zone: "a".into(),
            address: None,
            state: MachineState::Creating,
            size: None,
            model: None,
            token: Some(token.into()),
            protected: false,
        }
    }

    fn orders() -> Orders {
        Orders::new(&"web".into(), 0xab)
    }

    #[test]
    fn an_order_counts_until_it_is_seen_or_ten_seconds_after_it_was_accepted() {
        let mut orders = orders();
        let order = orders.give(Ms(0), &"a".into(), 3);
        assert_eq!(order.token, "web-ab-1");
        orders.see(Ms(60_000), &[], &[]);
        assert_eq!(orders.unseen(), 3, "a slow call still counts");
        orders.answer(Ms(60_000), &order, &Ok(()), 0);
        orders.see(Ms(61_000), &[machine("1", "web-ab-1"), machine("x", "other")], &[]);
        assert_eq!(orders.unseen_in(&"a".into()), 2);
        orders.see(Ms(62_000), &[], &[]);
        assert_eq!(orders.unseen(), 2, "one that was seen and died does not count again");
        orders.see(Ms(70_000), &[], &[]);
        assert_eq!(orders.unseen(), 0);
    }

    #[test]
    fn a_failed_order_does_not_count_unless_it_may_have_happened() {
        let mut orders = orders();
        let full = Failure::NoCapacity { zone: "a".into(), why: "full".into() };
        let order = orders.give(Ms(0), &"a".into(), 3);
        assert!(orders.answer(Ms(0), &order, &Err(full), 0).is_some());
        assert_eq!((orders.unseen(), orders.allowed(Ms(0), 1, &scaling(1))), (0, 3));
        let order = orders.give(Ms(0), &"b".into(), 3);
        orders.answer(Ms(0), &order, &Err(Failure::Unreachable("lost".into())), 0);
        assert_eq!((orders.unseen(), orders.allowed(Ms(0), 4, &scaling(1))), (3, 0));
    }

    #[test]
    fn each_failure_has_its_answer() {
        let no_capacity = || Failure::NoCapacity { zone: "a".into(), why: "full".into() };
        let throttled = || Failure::Throttled { retry_after: Some(Duration::from_secs(60)) };
        // Which failure; is the zone open and the pool closed a second later; the quota.
        let cases: [(Failure, bool, bool, Option<u32>); 7] = [
            (no_capacity(), false, false, None),
            (Failure::Unreachable("x".into()), false, false, None),
            (Failure::Conflict("x".into()), false, false, None),
            (throttled(), true, true, None),
            (Failure::Denied("x".into()), true, true, None),
            (Failure::Rejected("x".into()), true, true, None),
            (Failure::Quota("x".into()), true, false, Some(7)),
        ];
        for (failure, open, closed, quota) in cases {
            let mut orders = orders();
            let order = orders.give(Ms(0), &"a".into(), 1);
            let sibling = orders.give(Ms(0), &"a".into(), 1);
            let told = orders.answer(Ms(0), &order, &Err(failure.clone()), 7);
            orders.answer(Ms(1), &sibling, &Err(failure.clone()), 7);
            assert!(told.is_some_and(|told| told.reason.contains(&failure.to_string())));
            let soon = Ms(990);
            assert_eq!(orders.open(soon, &"a".into()), open, "{failure}");
            assert!(orders.open(soon, &"b".into()), "{failure}");
            assert_eq!(orders.closed(soon).is_some(), closed, "{failure}");
            assert_eq!(orders.quota(), quota, "{failure}");
            // One failure, though two orders had it: the wait is that of the first step.
            let later = if matches!(failure, Failure::Throttled { .. }) { 60_001 } else { 2_001 };
            assert!(orders.open(Ms(later), &"a".into()) && orders.closed(Ms(later)).is_none());
            let much_later = Ms(300_001);
            orders.see(much_later, &[], &[]);
            assert_eq!(orders.quota(), None);
        }
    }

    #[test]
    fn a_throttled_pool_waits_as_long_as_it_was_told() {
        let mut orders = orders();
        let order = orders.give(Ms(0), &"a".into(), 1);
        let throttled = Failure::Throttled { retry_after: Some(Duration::from_secs(60)) };
        orders.answer(Ms(0), &order, &Err(throttled), 0);
        assert!(orders.closed(Ms(59_999)).is_some());
        assert!(orders.closed(Ms(60_000)).is_none());
    }

    #[test]
    fn the_launch_rate_follows_the_size_before_the_launches() {
        let mut orders = orders();
        let three = scaling(3);
        let slow = Scaling { scale_out: ScaleOut { rate: Share(0.5) }, ..scaling(0) };
        assert_eq!(orders.allowed(Ms(0), 0, &slow), 1, "one may always come");
        assert_eq!(orders.allowed(Ms(0), 9, &slow), 4);
        assert_eq!(orders.allowed(Ms(0), 3, &three), 9);
        let none = orders.allowed(Ms(0), 0, &three);
        assert_eq!(none, 12, "the minimum, and as if it were there already");
        assert_eq!(orders.allowed(Ms(0), 9, &three), 27);
        let order = orders.give(Ms(0), &"a".into(), 27);
        assert_eq!(orders.allowed(Ms(1_000), 36, &three), 0);
        orders.answer(Ms(0), &order, &Ok(()), 9);
        assert_eq!(orders.allowed(Ms(15_000), 36, &three), 108);
    }

    #[test]
    fn what_the_start_launched_does_not_hold_up_the_first_step() {
        let mut orders = orders();
        orders.give(Ms(0), &"a".into(), 3);
        assert_eq!(orders.allowed(Ms(3_000), 3, &scaling(3)), 9);
    }
}
