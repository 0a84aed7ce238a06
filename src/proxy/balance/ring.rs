//! A hash ring (Karger et al., 1997): each instance has points on it by weight, and a key belongs to the
//! first point at or after its hash. When an instance leaves, no key moves but its own; only where that
//! moves the mean weight past the middle between two powers of two, all get more or fewer points.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::InstanceId;

/// Points of an instance of mean weight: shares differ by about a twelfth.
const POINTS: f64 = 160.0;

/// The most points of one instance.
const POINTS_MAX: f64 = 65_536.0;

/// About so many points are in a part of the ring that is looked up.
const PART: usize = 2;

/// The upper half of a hash: where on the ring it is. The lower half of a point says whose it is.
const PLACE: u64 = !0 << 32;

/// The points in their order, and where to look for the first after a hash.
#[derive(Debug)]
pub struct Ring {
    /// The place of each point, and whose it is as an index of the seats that it was built from.
    points: Box<[u64]>,
    /// The first point of each of equally wide parts of the ring. There are a few points in each, next
    /// to each other: a look-up looks at two places of memory, and little enough of it to stay in a
    /// cache.
    parts: Box<[u32]>,
    /// How far to shift a hash to get its part.
    shift: u32,
}

impl Ring {
    /// A ring of these instances and their weights, which must be in the order of their names.
    pub fn build(seats: &[(InstanceId, u32)]) -> Self {
        let total: f64 = seats.iter().map(|(_, weight)| f64::from(*weight)).sum();
        // Of the mean itself, all would get more or fewer points whenever anyone comes.
        let mean = (total / seats.len() as f64).log2().round().exp2();
        let mut points = Vec::new();
        for (index, (id, weight)) in (0..).zip(seats) {
            let count = (POINTS * f64::from(*weight) / mean).round().clamp(1.0, POINTS_MAX);
            let hash = |number| xxh3_64_with_seed(id.as_str().as_bytes(), number);
            points.extend((0..count as u64).map(|number| hash(number) & PLACE | index));
        }
        points.sort_unstable();
        let bits = (points.len() / PART).next_power_of_two().max(2).trailing_zeros();
        let shift = u64::BITS - bits;
        let starts = (0..1u64 << bits).map(|part| part << shift);
        let mut first = 0;
        let parts = starts.map(|start| {
            first += points[first..].iter().take_while(|point| **point < start).count();
            first as u32
        });
        Self { parts: parts.collect(), points: points.into_boxed_slice(), shift }
    }

    /// Whose points come at and after `hash`, all the way round. There must be one.
    pub fn from(&self, hash: u64) -> impl Iterator<Item = usize> {
        let mut first = self.parts[(hash >> self.shift) as usize] as usize;
        while self.points.get(first).is_some_and(|point| *point < hash & PLACE) {
            first += 1;
        }
        let (before, after) = self.points.split_at(first);
        after.iter().chain(before).map(|point| (point & !PLACE) as usize)
    }
}
