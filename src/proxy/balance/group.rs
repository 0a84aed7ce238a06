//! Instances that a request may go to alike, and the algorithm that says to which first.

use std::sync::Arc;

use crate::base::{Entropy, InstanceId, Ms, ZoneId};
use crate::model::instance::FULL;
use crate::model::{Affinity, Balance, Instance, Limit, Pool, Slot, Tier};
use crate::proxy::balance::Ask;
use crate::proxy::balance::key::nth;
use crate::proxy::balance::maglev::Maglev;
use crate::proxy::balance::memory::Kept;
use crate::proxy::balance::ring::Ring;
use crate::proxy::balance::turn::{alternate_zones, smooth_turn};

/// A full scan is as cheap as two draws up to here, and never picks the busier of two.
pub const SCAN_UP_TO: usize = 4;

/// How often two are drawn until one of them is free, before all are looked at.
const DRAWS: usize = 4;

/// Draws that are thrown away at most because they fell on an instance that warms up.
const DRAWS_COLD: usize = 8;

/// How many of a turn, or of a key's candidates, are asked before all are looked at. Where all but few
/// warm up, most are passed over.
const TRIES: usize = 16;

/// How many points of a ring, or slots of a table, are looked at.
const WALK: usize = 128;

/// The index of who is not admitted.
const ABSENT: u32 = u32::MAX;

/// The hash of a key that says whether it is among the first to come to an instance that warms up.
const BY_RAMP: u64 = 1 << 32;

/// The hash of a key that says where the search for anyone free starts.
const BY_CHANCE: u64 = 1 << 33;

/// What a worker keeps for a pool from one pick to the next.
#[derive(Debug, Default)]
pub struct Cursor {
    start: usize,
    places: Vec<Place>,
}

/// The same for one tier.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Where its round robin stands.
    turn: usize,
    /// What is in flight in a ring: as counted last, and what this worker has added since.
    in_flight: u32,
    /// The weight of the ring as it was then, of [`FULL`] for each unit that is warm.
    weight: f64,
    /// Picks until it is counted again.
    left: usize,
}

impl Cursor {
    /// One that starts there: workers that start alike would all go round in step.
    pub fn starting_at(start: usize) -> Self {
        Self { start, places: Vec::new() }
    }

    /// Allocates only when a plan has more tiers than any before.
    fn place(&mut self, group: usize) -> &mut Place {
        if self.places.len() <= group {
            let fresh = Place { turn: self.start, in_flight: 0, weight: 1.0, left: 0 };
            self.places.resize(group + 1, fresh);
        }
        &mut self.places[group]
    }
}

/// Where a worker stands, and its chance.
#[derive(Debug)]
pub struct Hand<'a> {
    /// Where it stands.
    pub cursor: &'a mut Cursor,
    /// Its chance.
    pub entropy: &'a mut Entropy,
}

/// Where a request may go, from the best to the last resort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Terms {
    /// To whoever is not suspect, not in the zone to be avoided and not beyond a ring's bound.
    Strict,
    /// To no suspect.
    Trusted,
    /// To whoever is eligible.
    Anyone,
}

/// How the instances of a group are gone through. Cheap to clone: what takes time to build is shared
/// from one snapshot to the next.
#[derive(Clone, Debug)]
pub enum Way {
    /// In a turn that holds each as often as its weight says.
    RoundRobin(Arc<[u32]>),
    /// Drawn from such a turn.
    Random(Arc<[u32]>),
    /// The less busy of two.
    LeastRequest,
    /// The less busy and faster of two.
    PeakEwma,
    /// By a table of keys.
    Maglev(Arc<Maglev>),
    /// By a ring of keys, to at most so much of the mean load.
    Ring(Arc<Ring>, f64),
}

impl Way {
    /// The way of an algorithm through these seats.
    pub fn build(balance: Balance, affinity: &Affinity, seats: &[(InstanceId, u32)]) -> Self {
        let turn = || smooth_turn(&seats.iter().map(|(_, weight)| *weight).collect::<Vec<_>>());
        match balance {
            Balance::RoundRobin => Self::RoundRobin(turn().into()),
            Balance::Random => Self::Random(turn().into()),
            Balance::LeastRequest => Self::LeastRequest,
            Balance::PeakEwma => Self::PeakEwma,
            Balance::Maglev => Self::Maglev(Arc::new(Maglev::build(seats))),
            Balance::Ring => Self::Ring(Arc::new(Ring::build(seats)), affinity.max_load.0),
        }
    }

    /// Whether it is the way that [`Way::build`] would find for this algorithm.
    pub fn is_of(&self, balance: Balance, affinity: &Affinity) -> bool {
        match self {
            Self::RoundRobin(_) => balance == Balance::RoundRobin,
            Self::Random(_) => balance == Balance::Random,
            Self::LeastRequest => balance == Balance::LeastRequest,
            Self::PeakEwma => balance == Balance::PeakEwma,
            Self::Maglev(_) => balance == Balance::Maglev,
            Self::Ring(_, most) => balance == Balance::Ring && *most == affinity.max_load.0,
        }
    }
}

/// Instances that a request may go to alike: a tier of a plan.
#[derive(Debug)]
pub struct Group {
    /// Which tier, from 0: the key of [`Cursor`].
    pub number: usize,
    /// The zones of the tier.
    pub zones: Vec<ZoneId>,
    /// The share of requests that begins here.
    pub share: f64,
    /// The part of its limit from which an instance is passed over for one of the next tier.
    pub spill_at: Option<f64>,
    /// Who is admitted. In the order of the way's indices, if it has no table of keys.
    pub members: Vec<Arc<Instance>>,
    /// If it has one, the index in `members` of each seat of it; [`ABSENT`] for who is not admitted.
    present: Box<[u32]>,
    /// How they are gone through.
    pub way: Way,
    /// What each may have in flight when it is warm.
    pub limit: Limit,
}

impl Group {
    /// The tier of that number over `everyone` who belongs to it; only those that are said so are
    /// admitted.
    pub fn build(
        number: usize,
        tier: &Tier,
        pool: &Pool,
        everyone: &[&(Arc<Instance>, bool)],
        kept: &mut Kept,
    ) -> Self {
        let (mut members, mut present) = (Vec::new(), Vec::new());
        let way = if pool.balance.hashes() {
            let mut everyone = everyone.to_vec();
            // On this order all nodes agree.
            everyone.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
            for (member, admitted) in &everyone {
                present.push(if *admitted { members.len() as u32 } else { ABSENT });
                members.extend(admitted.then(|| Arc::clone(member)));
            }
            kept.way(pool, everyone.iter().map(|(member, _)| member))
        } else {
            members = alternate_zones(everyone.iter().filter(|it| it.1).map(|(member, _)| member));
            kept.way(pool, members.iter())
        };
        let present = present.into_boxed_slice();
        Self {
            number,
            zones: tier.zones.clone(),
            share: tier.share,
            spill_at: tier.spill_at.map(|share| share.0),
            members,
            present,
            way,
            limit: pool.max_in_flight,
        }
    }

    /// The index of who has that seat of a table, if it is admitted.
    fn present(&self, seat: usize) -> Option<usize> {
        let index = self.present[seat];
        (index != ABSENT).then_some(index as usize)
    }

    /// The instances that the algorithm names for this request, one after the other, until `take` takes
    /// one. There may be others that it would take.
    pub fn choose<T>(
        &self,
        ask: &Ask<'_>,
        bound: f64,
        hand: &mut Hand<'_>,
        mut take: impl FnMut(usize, &mut Hand<'_>) -> Option<T>,
    ) -> Option<T> {
        let count = self.members.len();
        if count == 0 {
            return None;
        }
        // The first that was passed over only because it warms up: if all do, they are all alike.
        let mut cold = None;
        let mut offer = |index: usize, is_in: bool, hand: &mut Hand<'_>| {
            if is_in {
                return take(index, hand);
            }
            cold.get_or_insert(index);
            None
        };
        let found = match &self.way {
            Way::RoundRobin(turn) => {
                let first = (hand.cursor.place(self.number).turn + 1) % turn.len();
                let found = (0..TRIES.min(turn.len())).find_map(|step| {
                    let at = (first + step) % turn.len();
                    hand.cursor.place(self.number).turn = at;
                    let index = turn[at] as usize;
                    let is_in = self.is_in(index, || hand.entropy.below(FULL as usize) as u32);
                    offer(index, is_in, hand)
                });
                if found.is_none() {
                    hand.cursor.place(self.number).turn = first;
                }
                found
            }
            Way::Random(turn) => (0..TRIES).find_map(|_| {
                let index = turn[hand.entropy.below(turn.len())] as usize;
                let is_in = self.is_in(index, || hand.entropy.below(FULL as usize) as u32);
                offer(index, is_in, hand)
            }),
            Way::LeastRequest | Way::PeakEwma if count <= SCAN_UP_TO => {
                // Starting anywhere spreads ties evenly.
                let start = hand.entropy.below(count);
                let order = (0..count).map(|step| (start + step) % count);
                let best = self.best(order, ask, hand.entropy, |member| {
                    u64::from(member.weight) * u64::from(member.vitals.ramp())
                });
                offer(best.unwrap_or(start), true, hand)
            }
            // Of two distinct draws (Mitzenmacher, 2001).
            Way::LeastRequest | Way::PeakEwma => (0..DRAWS).find_map(|_| {
                let one = self.draw(hand.entropy, |chance| chance.below(count));
                let rest = |chance: &mut Entropy| (one + 1 + chance.below(count - 1)) % count;
                let other = self.draw(hand.entropy, rest);
                let weight = |member: &Instance| u64::from(member.weight);
                let best = self.best([one, other].into_iter(), ask, hand.entropy, weight);
                offer(best.unwrap_or(one), true, hand)
            }),
            Way::Maglev(table) => {
                let seats = (0..WALK as u64).map(|n| table.get(nth(ask.hash, n)));
                let present = seats.filter_map(|seat| self.present(seat));
                present.take(TRIES).find_map(|index| {
                    let is_in = self.is_in(index, || early(ask.hash));
                    offer(index, is_in, hand)
                })
            }
            Way::Ring(ring, _) => ring.from(ask.hash).take(WALK).find_map(|seat| {
                let index = self.present(seat)?;
                if self.is_beyond(index, bound) {
                    return None;
                }
                let is_in = self.is_in(index, || early(ask.hash));
                offer(index, is_in, hand)
            }),
        };
        if found.is_some() {
            return found;
        }
        cold.and_then(|index| take(index, hand))
    }

    /// A draw that falls on an instance that warms up counts as often as its part says: the better of
    /// two that are both cold is cold all the same, however little is in flight there.
    fn draw(&self, entropy: &mut Entropy, from: impl Fn(&mut Entropy) -> usize) -> usize {
        let mut index = from(entropy);
        for _ in 0..DRAWS_COLD {
            if self.is_in(index, || entropy.below(FULL as usize) as u32) {
                break;
            }
            index = from(entropy);
        }
        index
    }

    /// Where a look at everyone starts: anywhere, so that no neighbour of a full one takes all that was
    /// meant for it.
    pub fn start(&self, ask: &Ask<'_>, entropy: &mut Entropy) -> usize {
        let count = self.members.len();
        match self.way {
            Way::Maglev(_) | Way::Ring(..) => {
                (nth(ask.hash, BY_CHANCE) % count.max(1) as u64) as usize
            }
            _ => entropy.below(count),
        }
    }

    /// Whether the request may go there on these terms, if there is room.
    pub fn fits(&self, index: usize, ask: &Ask<'_>, terms: Terms, bound: f64) -> bool {
        let Instance { vitals, zone, .. } = &*self.members[index];
        let trusted = terms == Terms::Anyone || !vitals.is_suspect();
        let strict =
            terms != Terms::Strict || ask.avoid != Some(zone) && !self.is_beyond(index, bound);
        trusted && strict && !ask.tried.contains(&vitals.serial)
    }

    /// Takes a slot there, if one is free.
    pub fn take(&self, index: usize, cursor: &mut Cursor) -> Option<Slot> {
        let slot = self.members[index].take_slot(self.limit_of(index))?;
        if let Way::Ring(..) = self.way {
            cursor.place(self.number).in_flight += 1;
        }
        Some(slot)
    }

    /// What an instance may have in flight: while it warms up, the same part of the limit.
    pub fn limit_of(&self, index: usize) -> Limit {
        limit_of(&self.members[index], self.limit)
    }

    /// Whether it has that part of its limit in flight.
    pub fn is_filled(&self, index: usize, part: f64) -> bool {
        let Limit::AtMost(limit) = self.limit_of(index) else { return false };
        f64::from(self.members[index].vitals.in_flight()) >= part * f64::from(limit)
    }

    /// What a unit of weight may have in flight now, if this is a ring. What is in flight in all of it
    /// is counted anew after each quarter as many picks as there are instances: that is four looks for
    /// each pick, and off by a quarter of a request for each instance at most.
    pub fn bound(&self, cursor: &mut Cursor) -> f64 {
        let Way::Ring(_, most) = self.way else { return f64::INFINITY };
        let place = cursor.place(self.number);
        if place.left == 0 {
            place.left = (self.members.len() / 4).max(1);
            (place.in_flight, place.weight) = (0, 0.0);
            for member in &self.members {
                place.in_flight += member.vitals.in_flight();
                place.weight += warm_weight(member);
            }
        }
        place.left -= 1;
        most * (f64::from(place.in_flight) + 1.0) / place.weight
    }

    /// Whether one more would be over the bound.
    fn is_beyond(&self, index: usize, bound: f64) -> bool {
        let member = &self.members[index];
        let in_flight = f64::from(member.vitals.in_flight());
        // One is always in bounds; and a rounding error is not a request.
        in_flight > 0.0 && in_flight + 1.0 > (bound * warm_weight(member) - 1e-9).ceil()
    }

    /// Whether an instance that may be warming up is open to this request, whose place among [`FULL`]
    /// others `place` tells.
    fn is_in(&self, index: usize, place: impl FnOnce() -> u32) -> bool {
        let ramp = self.members[index].vitals.ramp();
        ramp >= FULL || place() < ramp
    }

    /// The best of some: the one with the least load of those that the request may go to.
    ///
    /// For least-request, one that has nothing to do is as good as another, and each is taken as often
    /// as its part says. By load, the lighter and the colder would get nothing at all for as long as
    /// there is little to do, and nothing warms up that is asked nothing.
    fn best(
        &self,
        some: impl Iterator<Item = usize> + Clone,
        ask: &Ask<'_>,
        entropy: &mut Entropy,
        part: impl Fn(&Instance) -> u64,
    ) -> Option<usize> {
        let best = some.clone().reduce(|one, other| self.better(one, other, ask))?;
        let idle = |index: &usize| self.members[*index].vitals.in_flight() == 0;
        if !matches!(self.way, Way::LeastRequest) || !idle(&best) {
            return Some(best);
        }
        let best_is_open = self.is_open(best, ask);
        let (mut all, mut chosen) = (0, best);
        for index in some.filter(idle).filter(|index| self.is_open(*index, ask) == best_is_open) {
            let part = part(&self.members[index]);
            all += part;
            if (entropy.below(all as usize) as u64) < part {
                chosen = index;
            }
        }
        Some(chosen)
    }

    /// Whether nothing but a lack of room speaks against an instance, however much it has to do.
    fn is_open(&self, index: usize, ask: &Ask<'_>) -> bool {
        self.fits(index, ask, Terms::Strict, f64::INFINITY)
    }

    /// The better of two: one that the request may go to, and then the one with less load.
    fn better(&self, one: usize, other: usize, ask: &Ask<'_>) -> usize {
        match (self.is_open(one, ask), self.is_open(other, ask)) {
            (true, false) => one,
            (false, true) => other,
            _ if self.load(other, ask.now) < self.load(one, ask.now) => other,
            _ => one,
        }
    }

    /// How busy it would be with one more, for each unit of weight that is warm; and where that counts,
    /// times what it costs in microseconds.
    pub fn load(&self, index: usize, now: Ms) -> f64 {
        let member = &self.members[index];
        let busy = (f64::from(member.vitals.in_flight()) + 1.0) / warm_weight(member);
        match self.way {
            Way::PeakEwma => busy * member.vitals.cost.read(now),
            _ => busy,
        }
    }
}

/// What an instance may have in flight where `limit` is for one that is warm: while it warms up, the
/// same part of it.
pub fn limit_of(instance: &Instance, limit: Limit) -> Limit {
    let ramp = instance.vitals.ramp();
    match limit {
        Limit::AtMost(limit) if ramp < FULL => {
            let part = (u64::from(limit) * u64::from(ramp)).div_ceil(u64::from(FULL));
            Limit::AtMost((part as u32).max(1))
        }
        limit => limit,
    }
}

/// Its weight, as far as it has warmed up.
fn warm_weight(member: &Instance) -> f64 {
    f64::from(member.weight) * (f64::from(member.vitals.ramp()) / f64::from(FULL))
}

/// When a key comes to an instance that warms up, of [`FULL`]: always at the same time, so that each
/// moves once.
fn early(hash: u64) -> u32 {
    (nth(hash, BY_RAMP) % u64::from(FULL)) as u32
}
