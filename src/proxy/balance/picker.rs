//! The pick: the tiers of the plan, and in each the pool's algorithm.

use std::sync::Arc;

use crate::base::{Entropy, Ms, Share, ZoneId};
use crate::model::{Balance, Instance, Limit, Pool, Tier, TrafficPlan};
use crate::proxy::balance::group::{Cursor, Group, Hand, Terms};
use crate::proxy::balance::key::nth;
use crate::proxy::balance::memory::Memory;
use crate::proxy::balance::sticky::Token;
use crate::proxy::balance::{Ask, Picked, Refusal, Why};

/// The hash of a key that says in which tier it begins.
const BY_TIER: u64 = 1 << 34;

/// Picks among the admitted instances of a pool.
#[derive(Debug)]
pub struct Picker {
    balance: Balance,
    /// The tiers in order, and then what is in none of them; at least one.
    groups: Vec<Group>,
    /// How many instances are admitted.
    count: usize,
    /// Everyone by serial, where clients may be bound.
    seats: Vec<Seat>,
    /// The serial of each cookie that names somebody, in order.
    tokens: Vec<(Token, u64)>,
}

/// Where an instance is.
#[derive(Debug)]
struct Seat {
    serial: u64,
    group: u32,
    index: u32,
    /// What its clients' cookies say.
    token: Token,
}

/// A tier as it is, for explanations.
#[derive(Debug)]
pub struct TierView<'a> {
    /// Its zones; none for instances that are in no tier, or where there are no tiers.
    pub zones: &'a [ZoneId],
    /// The share of requests that begins here.
    pub share: f64,
    /// The part of its limit from which an instance is passed over for one of the next tier.
    pub spill_at: Option<Share>,
    /// Its instances.
    pub members: Vec<MemberView<'a>>,
}

/// An instance as a pick sees it.
#[derive(Debug)]
pub struct MemberView<'a> {
    /// Which.
    pub instance: &'a Arc<Instance>,
    /// Its load with one more, by which least-request and peak-ewma compare; the latter in microseconds.
    pub load: f64,
    /// How far it has warmed up, of [`FULL`](crate::model::instance::FULL).
    pub ramp: u32,
    /// What it has in flight.
    pub in_flight: u32,
    /// What it may have.
    pub limit: Limit,
    /// Picked only where nothing else is left.
    pub is_suspect: bool,
}

impl Picker {
    /// A picker over the instances of a pool, of which those that are said so are admitted. The others
    /// count only in hash tables, so that none changes with the health of an instance.
    pub fn build(
        pool: &Pool,
        plan: &TrafficPlan,
        members: &[(Arc<Instance>, bool)],
        memory: &Memory,
    ) -> Self {
        let mut kept = memory.lock();
        let mut groups = Vec::with_capacity(plan.tiers.len() + 1);
        let mut rest: Vec<_> = members.iter().collect();
        for (number, tier) in plan.tiers.iter().enumerate() {
            let (inside, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|(member, _)| tier.zones.contains(&member.zone));
            groups.push(Group::build(number, tier, pool, &inside, &mut kept));
            rest = others;
        }
        if groups.is_empty() || rest.iter().any(|(_, admitted)| *admitted) {
            let share = if groups.is_empty() { 1.0 } else { 0.0 };
            let tier = Tier { zones: Vec::new(), share, spill_at: None };
            groups.push(Group::build(groups.len(), &tier, pool, &rest, &mut kept));
        }
        kept.end_round();
        let count = groups.iter().map(|group| group.members.len()).sum();
        let (seats, tokens) = if pool.affinity.sticky.is_some() {
            let mut seats = Vec::with_capacity(count);
            let mut tokens = Vec::new();
            for group in &groups {
                for (index, member) in (0..).zip(&group.members) {
                    let serial = member.vitals.serial;
                    let named = kept.tokens(memory, &pool.id, &member.id);
                    tokens.extend(named.iter().map(|token| (*token, serial)));
                    let token = named.first().copied().unwrap_or_default();
                    seats.push(Seat { serial, group: group.number as u32, index, token });
                }
            }
            kept.forget_tokens_but(members);
            seats.sort_unstable_by_key(|seat| seat.serial);
            tokens.sort_unstable();
            (seats, tokens)
        } else {
            Default::default()
        };
        Self { balance: pool.balance, groups, count, seats, tokens }
    }

    /// How many instances are admitted.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is admitted.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The algorithm.
    pub fn balance(&self) -> Balance {
        self.balance
    }

    /// The serial of the admitted instance that this cookie binds its client to; `None` if it is forged,
    /// another pool's, or of an instance that has left.
    pub fn bound(&self, cookie: &[u8]) -> Option<u64> {
        let token = Token::read(cookie)?;
        // Comparing takes a time that depends on the token. It opens nothing: at worst somebody chooses
        // an instance.
        let at = self.tokens.binary_search_by_key(&token, |(token, _)| *token).ok()?;
        Some(self.tokens[at].1)
    }

    /// What a cookie says that binds a client to this instance, if it is admitted and clients are bound.
    pub fn token(&self, instance: &Instance) -> Option<Token> {
        self.seat(instance.vitals.serial).map(|seat| seat.token)
    }

    fn seat(&self, serial: u64) -> Option<&Seat> {
        let at = self.seats.binary_search_by_key(&serial, |seat| seat.serial).ok()?;
        Some(&self.seats[at])
    }

    /// Takes a slot on an instance. `cursor` is where this worker stands with the pool.
    ///
    /// # Errors
    /// If there is none to take, and why.
    pub fn pick(
        &self,
        ask: &Ask<'_>,
        cursor: &mut Cursor,
        entropy: &mut Entropy,
    ) -> Result<Picked, Refusal> {
        if self.is_empty() {
            return Err(Refusal::Empty);
        }
        let hand = &mut Hand { cursor, entropy };
        if let Some(picked) = self.sticky(ask, hand) {
            return Ok(picked);
        }
        let first = self.draw_tier(ask, hand.entropy);
        let bound = self.groups[first].bound(hand.cursor);
        if let Some(picked) = self.begin(first, ask, bound, hand) {
            return Ok(picked);
        }
        self.search(first, ask, hand)
    }

    /// The instance that the client is bound to. While that is full, under suspicion or has failed this
    /// very request, another serves it and the client stays bound.
    fn sticky(&self, ask: &Ask<'_>, hand: &mut Hand<'_>) -> Option<Picked> {
        let seat = self.seat(ask.bound?)?;
        let (group, index) = (&self.groups[seat.group as usize], seat.index as usize);
        let anywhere = Ask { avoid: None, ..*ask };
        if !group.fits(index, &anywhere, Terms::Trusted, f64::INFINITY) {
            return None;
        }
        group.take(index, hand.cursor).map(|slot| Picked { slot, why: Why::Sticky })
    }

    /// The tier that a request begins in: by chance, or where keys count always the same for the same.
    fn draw_tier(&self, ask: &Ask<'_>, entropy: &mut Entropy) -> usize {
        if self.groups.len() == 1 {
            return 0;
        }
        let mut drawn = if self.balance.hashes() {
            (nth(ask.hash, BY_TIER) >> 11) as f64 / (1u64 << 53) as f64
        } else {
            entropy.unit()
        };
        let with_share = self.groups.iter().filter(|group| group.share > 0.0);
        let mut last = 0;
        for group in with_share {
            last = group.number;
            if drawn < group.share {
                break;
            }
            drawn -= group.share;
        }
        last
    }

    /// The algorithm's choices in the tier that the request begins in.
    fn begin(&self, tier: usize, ask: &Ask<'_>, bound: f64, hand: &mut Hand<'_>) -> Option<Picked> {
        let group = &self.groups[tier];
        let spill = group.spill_at.and_then(|at| Some((at, self.tier_after(tier)?)));
        group.choose(ask, bound, hand, |index, hand| {
            if !group.fits(index, ask, Terms::Strict, bound) {
                return None;
            }
            if let Some((at, next)) = spill
                && group.is_filled(index, at)
                && let Some(picked) = spilled(next, at, ask, hand)
            {
                return Some(picked);
            }
            let slot = group.take(index, hand.cursor)?;
            Some(Picked { slot, why: Why::Balanced })
        })
    }

    /// The next tier of the plan that has anyone.
    fn tier_after(&self, tier: usize) -> Option<&Group> {
        let mut after = self.groups[tier + 1..].iter();
        after.find(|group| !group.members.is_empty() && !group.zones.is_empty())
    }

    /// No choice of the algorithm was any use: everyone else, tier by tier, the untroubled first.
    fn search(&self, first: usize, ask: &Ask<'_>, hand: &mut Hand<'_>) -> Result<Picked, Refusal> {
        let (mut untried, mut suspects) = (false, false);
        let others = (0..self.groups.len()).filter(|tier| *tier != first);
        for terms in [Terms::Strict, Terms::Trusted, Terms::Anyone] {
            let adds_any = match terms {
                Terms::Strict => true,
                Terms::Trusted => ask.avoid.is_some() || self.balance == Balance::Ring,
                Terms::Anyone => suspects,
            };
            if !adds_any {
                continue;
            }
            for tier in [first].into_iter().chain(others.clone()) {
                let group = &self.groups[tier];
                let bound = group.bound(hand.cursor);
                let why = if tier == first { Why::Balanced } else { Why::OtherTier };
                if tier != first && terms == Terms::Strict {
                    let chosen = group.choose(ask, bound, hand, |index, hand| {
                        let fits = group.fits(index, ask, terms, bound);
                        fits.then(|| group.take(index, hand.cursor)).flatten()
                    });
                    if let Some(slot) = chosen {
                        return Ok(Picked { slot, why });
                    }
                }
                let start = group.start(ask, hand.entropy);
                for index in (start..group.members.len()).chain(0..start) {
                    let vitals = &group.members[index].vitals;
                    if ask.tried.contains(&vitals.serial) {
                        continue;
                    }
                    untried = true;
                    suspects |= vitals.is_suspect();
                    if group.fits(index, ask, terms, bound)
                        && let Some(slot) = group.take(index, hand.cursor)
                    {
                        let why = if vitals.is_suspect() { Why::Suspect } else { why };
                        return Ok(Picked { slot, why });
                    }
                }
            }
        }
        Err(if untried { Refusal::Saturated } else { Refusal::AllTried })
    }

    /// The instance that a key leads to as things are, where keys count: for explanations, nothing is
    /// taken.
    pub fn home(&self, hash: u64, now: Ms) -> Option<&Arc<Instance>> {
        if !self.balance.hashes() {
            return None;
        }
        let ask = Ask { tried: &[], avoid: None, hash, bound: None, now };
        let hand =
            &mut Hand { cursor: &mut Cursor::starting_at(0), entropy: &mut Entropy::seeded(0) };
        let group = &self.groups[self.draw_tier(&ask, hand.entropy)];
        let bound = group.bound(hand.cursor);
        let fits = |index| group.fits(index, &ask, Terms::Strict, bound).then_some(index);
        let index = group.choose(&ask, bound, hand, |index, _| fits(index))?;
        Some(&group.members[index])
    }

    /// What a pick would look at now, tier by tier: for explanations.
    pub fn tiers(&self, now: Ms) -> Vec<TierView<'_>> {
        self.groups.iter().map(|group| TierView::of(group, now)).collect()
    }
}

impl<'a> TierView<'a> {
    fn of(group: &'a Group, now: Ms) -> Self {
        let member = |(index, instance): (usize, &'a Arc<Instance>)| {
            let Instance { vitals, .. } = &**instance;
            MemberView {
                instance,
                load: group.load(index, now),
                ramp: vitals.ramp(),
                in_flight: vitals.in_flight(),
                limit: group.limit_of(index),
                is_suspect: vitals.is_suspect(),
            }
        };
        Self {
            zones: &group.zones,
            share: group.share,
            spill_at: group.spill_at.map(Share),
            members: group.members.iter().enumerate().map(member).collect(),
        }
    }
}

/// A slot in the next tier, on an instance that is filled less than that.
fn spilled(next: &Group, at: f64, ask: &Ask<'_>, hand: &mut Hand<'_>) -> Option<Picked> {
    let bound = next.bound(hand.cursor);
    let slot = next.choose(ask, bound, hand, |index, hand| {
        let fits = next.fits(index, ask, Terms::Strict, bound) && !next.is_filled(index, at);
        fits.then(|| next.take(index, hand.cursor)).flatten()
    })?;
    Some(Picked { slot, why: Why::Spilled })
}
