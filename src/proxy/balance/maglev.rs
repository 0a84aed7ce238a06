//! Maglev's table (Eisenbud et al., 2016): each instance in turn claims the next free slot of its own
//! permutation, by weight as in Katran's second version. All get the same number of slots to within one
//! round; when one leaves, its slots are shared out, and of the others few change hands.
//!
//! The table is of all instances of a pool. The paper takes out who is unhealthy; here a key whose slot
//! is of somebody that is not admitted goes by its next hash instead. So a health that flaps builds
//! nothing and moves no key but that instance's own, and nodes that see its health differently agree
//! about all others.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::InstanceId;

/// Slots of a table: a prime, and what everyone uses.
pub const SIZE: usize = 65_537;

/// Who has which slot, as an index of the seats that it was built from.
#[derive(Debug)]
pub struct Maglev(Box<[u32]>);

impl Maglev {
    /// A table of these instances and their weights, which must be in the order of their names.
    pub fn build(seats: &[(InstanceId, u32)]) -> Self {
        const FREE: u32 = u32::MAX;
        let heaviest = seats.iter().map(|(_, weight)| u64::from(*weight)).max().unwrap_or(1);
        let mut turns: Vec<Turn> =
            seats.iter().map(|(id, weight)| Turn::new(id, *weight)).collect();
        let mut slots = vec![FREE; if turns.is_empty() { 0 } else { SIZE }].into_boxed_slice();
        let mut free = slots.len();
        while free > 0 {
            for (index, turn) in (0..).zip(&mut turns) {
                turn.saved += turn.weight;
                if turn.saved < heaviest || free == 0 {
                    continue;
                }
                turn.saved -= heaviest;
                while slots[turn.at] != FREE {
                    turn.go_on();
                }
                slots[turn.at] = index;
                free -= 1;
            }
        }
        Self(slots)
    }

    /// Whose slot it is that `hash` falls on.
    pub fn get(&self, hash: u64) -> usize {
        let slot = (u128::from(hash) * self.0.len() as u128) >> 64;
        self.0[slot as usize] as usize
    }
}

/// Where an instance stands in its permutation, and what it has saved up towards its next slot.
struct Turn {
    at: usize,
    skip: usize,
    weight: u64,
    saved: u64,
}

impl Turn {
    fn new(id: &InstanceId, weight: u32) -> Self {
        let hash = |seed, below: usize| {
            (xxh3_64_with_seed(id.as_str().as_bytes(), seed) % below as u64) as usize
        };
        let (at, skip) = (hash(0, SIZE), hash(1, SIZE - 1) + 1);
        Self { at, skip, weight: u64::from(weight), saved: 0 }
    }

    fn go_on(&mut self) {
        self.at = (self.at + self.skip) % SIZE;
    }
}
