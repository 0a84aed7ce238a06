//! Latencies, counted in buckets whose width is at most 1.6 % of what they hold.

/// Buckets per power of two.
const STEPS: usize = 64;

/// Counts of nanoseconds.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self { counts: vec![0; 64 * STEPS], total: 0 }
    }

    /// Counts one.
    pub fn record(&mut self, nanoseconds: u64) {
        // The highest seven bits choose the bucket: values below 128 have one each.
        let shift = (u64::BITS - nanoseconds.leading_zeros()).saturating_sub(7) as usize;
        self.counts[shift * STEPS + (nanoseconds >> shift) as usize] += 1;
        self.total += 1;
    }

    /// Microseconds within which this share of what was counted lies.
    pub fn within(&self, share: f64) -> f64 {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen > 0 && seen >= rank {
                let shift = (at / STEPS).saturating_sub(1);
                let middle = (at - shift * STEPS) as f64 + 0.5;
                return middle * (shift as f64).exp2() / 1_000.0;
            }
        }
        0.0
    }
}
