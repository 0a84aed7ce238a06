//! The order of a round robin: zones alternate, and weights are spread as evenly as can be.

use std::sync::Arc;

use crate::base::ZoneId;
use crate::model::Instance;

/// Longest turn of the weighted round robin; weights are scaled down to fit.
const TURN_MAX: u64 = 16_384;

/// The first of each zone, then the second of each, and so on.
pub fn alternate_zones<'a>(
    eligible: impl Iterator<Item = &'a Arc<Instance>>,
) -> Vec<Arc<Instance>> {
    let mut zones: Vec<(&ZoneId, Vec<&Arc<Instance>>)> = Vec::new();
    for instance in eligible {
        match zones.iter_mut().find(|(zone, _)| **zone == instance.zone) {
            Some((_, members)) => members.push(instance),
            None => zones.push((&instance.zone, vec![instance])),
        }
    }
    zones.sort_by_key(|(zone, _)| *zone);
    let deepest = zones.iter().map(|(_, members)| members.len()).max().unwrap_or(0);
    (0..deepest)
        .flat_map(|row| zones.iter().filter_map(move |(_, members)| members.get(row)))
        .map(|instance| Arc::clone(instance))
        .collect()
}

/// One turn of nginx' smooth weighted round robin: each index as often as its weight says, spread
/// as evenly as can be. Equal weights give each index once.
pub fn smooth_turn(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
    let mut weights: Vec<u64> = weights.iter().map(|w| u64::from(w / divisor)).collect();
    let total: u64 = weights.iter().sum();
    if weights.iter().all(|weight| *weight == 1) {
        return (0..weights.len() as u32).collect();
    }
    if total > TURN_MAX {
        for weight in &mut weights {
            *weight = (*weight * TURN_MAX / total).max(1);
        }
    }
    let total: i64 = weights.iter().sum::<u64>() as i64;
    let mut current = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            for (current, weight) in current.iter_mut().zip(&weights) {
                *current += *weight as i64;
            }
            let best = (0..current.len()).max_by_key(|i| (current[*i], std::cmp::Reverse(*i)));
            let best = best.unwrap_or(0);
            current[best] -= total;
            best as u32
        })
        .collect()
}

pub(super) fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
