//! Chance, seeded. A pick can be reproduced from its snapshot and its seed.

/// A small, fast generator (xoshiro256++ seeded by splitmix64; Blackman and Vigna, 2018). Not for
/// secrets.
#[derive(Clone, Debug)]
pub struct Entropy {
    state: [u64; 4],
}

impl Entropy {
    /// A generator that gives the same sequence for the same `seed`.
    pub fn seeded(seed: u64) -> Self {
        let mut next = seed;
        let mut splitmix = || {
            next = next.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = next;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self { state: [splitmix(), splitmix(), splitmix(), splitmix()] }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0..bound`; 0 for a bound of 0. The bias is below `bound / 2^64` (Lemire's
    /// multiplication without the rejection step).
    pub fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.next_u64()) * bound as u128;
        (product >> 64) as usize
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A well mixed hash of `bytes` that is the same on every machine and run (FNV-1a with a splitmix
/// finish): for spreading phases, never against an adversary.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    Entropy::seeded(hash).next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        let mut a = Entropy::seeded(7);
        let mut b = Entropy::seeded(7);
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
        assert_ne!(Entropy::seeded(8).next_u64(), Entropy::seeded(7).next_u64());
    }

    #[test]
    fn draws_are_in_range_and_even() {
        let mut entropy = Entropy::seeded(1);
        let mut seen = [0u32; 5];
        for _ in 0..50_000 {
            seen[entropy.below(5)] += 1;
            let unit = entropy.unit();
            assert!((0.0..1.0).contains(&unit));
        }
        assert!(seen.iter().all(|count| (9_500..10_500).contains(count)), "{seen:?}");
        assert_eq!(entropy.below(0), 0);
    }
}
