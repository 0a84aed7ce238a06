//! What the pool's algorithm makes of its candidates: the one place of this room that knows how
//! `proxy` picks.

use super::{Chance, Seen, part_of, parts, ramp};
use crate::base::InstanceId;
use crate::base::unit::print_duration;
use crate::model::{Balance, HashKey, InstanceRow, PoolRow};
use crate::observe::FailReason;
use crate::proxy::balance::SCAN_UP_TO;

/// The traffic that an instance draws beside the others of its tier.
pub(super) fn pull(row: &InstanceRow) -> f64 {
    f64::from(row.instance.weight) * ramp(row)
}

/// What the algorithm compares, if it compares: the least wins.
pub(super) fn score(balance: Balance, row: &InstanceRow) -> Option<f64> {
    match balance {
        Balance::LeastRequest => {
            let in_flight = row.instance.vitals.in_flight();
            Some((f64::from(in_flight) + 1.0) / pull(row))
        }
        Balance::PeakEwma => {
            let in_flight = row.instance.vitals.in_flight();
            Some((f64::from(in_flight) + 1.0) / pull(row) * row.instance.vitals.cost.last())
        }
        Balance::RoundRobin | Balance::Random | Balance::Maglev | Balance::Ring => None,
    }
}

/// What would become of the next request.
pub(super) fn next(row: &PoolRow, seen: &[Seen<'_>], depth: u32, for_client: bool) -> String {
    let admitted = seen.iter().filter(|seen| seen.row.admitted()).count();
    let Some(chance) = [Chance::Yes, Chance::LastResort]
        .into_iter()
        .find(|chance| seen.iter().any(|seen| seen.chance == *chance))
    else {
        return unserved(row, admitted, depth);
    };
    let shares = parts(row);
    let mut clauses = Vec::new();
    for (part, share) in shares.iter().enumerate() {
        let here: Vec<&Seen<'_>> = seen
            .iter()
            .filter(|seen| seen.chance == chance && part_of(row, seen.row) == part)
            .collect();
        let Some(tier) = row.plan.tiers.get(part) else {
            if !here.is_empty() && (clauses.is_empty() || *share > 0.0) {
                clauses.push(choice(row.pool.balance, &here));
            }
            continue;
        };
        if *share > 0.0 && !here.is_empty() {
            let zones: Vec<&str> = tier.zones.iter().map(|zone| zone.as_str()).collect();
            let choice = choice(row.pool.balance, &here);
            clauses.push(format!("{:.0}% in {}: {choice}", share * 100.0, zones.join(", ")));
        }
    }
    let mut text = format!("goes to {}", clauses.join("; "));
    if chance == Chance::LastResort {
        text.push_str(", as the last resort");
    }
    if for_client && !row.pool.balance.hashes() {
        text.push_str(&format!(" ({} does not look at the client)", row.pool.balance.word()));
    }
    text
}

/// What would become of the next request of a client whose address leads there.
pub(super) fn to_home(row: &PoolRow, home: &InstanceId) -> String {
    let balance = row.pool.balance.word();
    let key = match &row.pool.affinity.hash {
        HashKey::ClientAddress => {
            return format!("goes to {home}, where its address leads by {balance}");
        }
        HashKey::Header(name) => format!("its field {name}"),
        HashKey::Cookie(name) => format!("its cookie {name}"),
        HashKey::Path => "its path".to_owned(),
        HashKey::Sni => "the name that it asks for".to_owned(),
    };
    format!("goes where {key} leads by {balance}; without it to {home}, by its address")
}

/// Whom the algorithm takes among these.
fn choice(balance: Balance, here: &[&Seen<'_>]) -> String {
    if let [only] = here {
        return format!("{}, the only candidate", only.row.instance.id);
    }
    let count = here.len();
    match balance {
        Balance::RoundRobin => format!("the next in turn of {count}, by weight"),
        Balance::Random => format!("one of {count} drawn at random, by weight"),
        Balance::Maglev | Balance::Ring => {
            format!("the one of {count} that its key hashes to, by {}", balance.word())
        }
        Balance::LeastRequest | Balance::PeakEwma => by_score(balance, here),
    }
}

/// Whom an algorithm takes that compares.
fn by_score(balance: Balance, here: &[&Seen<'_>]) -> String {
    let score = |seen: &Seen<'_>| score(balance, seen.row).unwrap_or(f64::MAX);
    let least = here.iter().map(|seen| score(seen)).fold(f64::MAX, f64::min);
    let is_best = |seen: &Seen<'_>| score(seen) <= least;
    let is_idle = |seen: &Seen<'_>| seen.row.instance.vitals.in_flight() == 0;
    // Of those that have nothing to do none is better than another.
    let idle =
        balance == Balance::LeastRequest && here.iter().any(|seen| is_best(seen) && is_idle(seen));
    let best: Vec<&str> = here
        .iter()
        .filter(|seen| if idle { is_idle(seen) } else { is_best(seen) })
        .map(|seen| seen.row.instance.id.as_str())
        .collect();
    let count = here.len();
    let what = match best.len() {
        1 => format!("has the least score of {count}, {least:.3}"),
        _ if idle => "have nothing in flight, by weight".to_owned(),
        _ => format!("have the least score, {least:.3}"),
    };
    if count <= SCAN_UP_TO {
        return format!("{}, which {what}", either(&best));
    }
    let whom = match best.as_slice() {
        [one] => (*one).to_owned(),
        best => format!("{} of {count}", best.len()),
    };
    format!("the lesser score of two drawn among {count} ({whom} {what})")
}

fn either(ids: &[&str]) -> String {
    match ids {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => ids.concat(),
    }
}

/// What becomes of a request that nothing can take now.
fn unserved(row: &PoolRow, admitted: usize, depth: u32) -> String {
    let queue = row.pool.queue;
    let refused =
        |reason: FailReason, why: &str| format!("is answered 503 ({}): {why}", reason.word());
    let why = match admitted {
        0 if !row.is_hopeful() => {
            return refused(FailReason::NoInstance, "nothing is eligible, nor on its way");
        }
        0 => "nothing is eligible yet".to_owned(),
        1 => "the only eligible instance is full".to_owned(),
        count => format!("all {count} eligible instances are full"),
    };
    if depth >= queue.max {
        let taken = match queue.max {
            0 => "waiting is turned off".to_owned(),
            max => format!("all {max} places in the queue are taken"),
        };
        return refused(FailReason::QueueFull, &format!("{why}, and {taken}"));
    }
    format!("waits up to {}, behind {depth} others: {why}", print_duration(queue.timeout))
}
