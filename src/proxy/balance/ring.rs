//! A hash ring (Karger et al., 1997): each instance has points on it by weight, and a key belongs to the
//! first point at or after its hash. When an instance leaves, no key moves but its own.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::InstanceId;

/// Points of an instance of mean weight: shares differ by about a twelfth.
const POINTS: f64 = 160.0;

/// The most points of one instance.
const POINTS_MAX: f64 = 65_536.0;

/// The points in their order, and where to look for the first after a hash.
#[derive(Debug)]
pub struct Ring {
    /// The hash of each point and whose it is, as an index of the seats that it was built from.
    points: Box<[(u64, u32)]>,
    /// The first point of each of equally wide parts of the ring, of which there are about as many as
    /// points: a look-up takes the same time however many there are.
    parts: Box<[u32]>,
    /// How far to shift a hash to get its part.
    shift: u32,
}

impl Ring {
    /// A ring of these instances and their weights, which must be in the order of their names.
    pub fn build(seats: &[(InstanceId, u32)]) -> Self {
        let total: f64 = seats.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let mean = total / seats.len().max(1) as f64;
        let mut points = Vec::new();
        for (index, (id, weight)) in (0..).zip(seats) {
            let count = (POINTS * f64::from(*weight) / mean).round().clamp(1.0, POINTS_MAX);
            let hash = |number| xxh3_64_with_seed(id.as_str().as_bytes(), number);
            points.extend((0..count as u64).map(|number| (hash(number), index)));
        }
        points.sort_unstable();
        let bits = points.len().max(2).next_power_of_two().trailing_zeros();
        let shift = u64::BITS - bits;
        let starts = (0..1u64 << bits).map(|part| part << shift);
        let parts = starts.map(|start| points.partition_point(|(hash, _)| *hash < start) as u32);
        Self { parts: parts.collect(), points: points.into_boxed_slice(), shift }
    }

    /// Whose points come at and after `hash`, all the way round. There must be one.
    pub fn from(&self, hash: u64) -> impl Iterator<Item = usize> {
        let mut first = self.parts[(hash >> self.shift) as usize] as usize;
        while self.points.get(first).is_some_and(|(point, _)| *point < hash) {
            first += 1;
        }
        let (before, after) = self.points.split_at(first);
        after.iter().chain(before).map(|(_, index)| *index as usize)
    }
}
