//! How many requests arrive in a second, if they do not know of each other.

use crate::base::Entropy;

/// Below this, counting draws is faster than rejecting them.
const FEW: f64 = 10.0;

/// A draw from the Poisson distribution with this mean.
pub fn poisson(mean: f64, entropy: &mut Entropy) -> f64 {
    if mean <= 0.0 {
        0.0
    } else if mean < FEW {
        counted(mean, entropy)
    } else {
        rejected(mean, entropy)
    }
}

/// Multiplies uniform draws until they fall below `e^-mean` (Knuth).
fn counted(mean: f64, entropy: &mut Entropy) -> f64 {
    let floor = (-mean).exp();
    let mut product = entropy.unit();
    let mut count = 0.0;
    while product > floor {
        product *= entropy.unit();
        count += 1.0;
    }
    count
}

/// Transformed rejection with a squeeze (Hörmann 1993, algorithm PTRS): about 1.2 tries at any mean.
fn rejected(mean: f64, entropy: &mut Entropy) -> f64 {
    let b = 0.931 + 2.53 * mean.sqrt();
    let a = -0.059 + 0.02483 * b;
    let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
    let v_r = 0.9277 - 3.6224 / (b - 2.0);
    loop {
        let u = entropy.unit() - 0.5;
        let v = entropy.unit();
        let us = 0.5 - u.abs();
        let k = ((2.0 * a / us + b) * u + mean + 0.43).floor();
        if us >= 0.07 && v <= v_r {
            return k;
        }
        if k < 0.0 || (us < 0.013 && v > us) {
            continue;
        }
        let bound = k * mean.ln() - mean - ln_factorial(k);
        if (v * inverse_alpha / (a / (us * us) + b)).ln() <= bound {
            return k;
        }
    }
}

/// The logarithm of `k!`: a product for few, Stirling's series for many (its error is below 1e-9).
fn ln_factorial(k: f64) -> f64 {
    if k < 16.0 {
        return (2..=k as u32).map(|factor| f64::from(factor).ln()).sum();
    }
    let series = 1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1_260.0 * k * k)) / (k * k);
    (k + 0.5) * k.ln() - k + 0.5 * std::f64::consts::TAU.ln() + series / k
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_variance_are_those_of_the_distribution() {
        let mut entropy = Entropy::seeded(3);
        for mean in [0.2, 3.0, 9.9, 10.1, 64.0, 5_000.0] {
            let draws: Vec<f64> = (0..40_000).map(|_| poisson(mean, &mut entropy)).collect();
            let count = draws.len() as f64;
            let average = draws.iter().sum::<f64>() / count;
            let variance = draws.iter().map(|x| (x - average).powi(2)).sum::<f64>() / count;
            assert!((average - mean).abs() < 4.0 * (mean / count).sqrt(), "{mean}: {average}");
            assert!((variance / mean - 1.0).abs() < 0.05, "{mean}: {variance}");
            assert!(draws.iter().all(|draw| *draw >= 0.0 && draw.fract() == 0.0));
        }
        assert_eq!(poisson(0.0, &mut entropy), 0.0);
    }

    #[test]
    fn both_ways_to_draw_agree() {
        let mut entropy = Entropy::seeded(4);
        let mut below = [0.0; 2];
        for _ in 0..40_000 {
            below[0] += f64::from(counted(10.0, &mut entropy) <= 8.0);
            below[1] += f64::from(rejected(10.0, &mut entropy) <= 8.0);
        }
        for share in below.map(|count| count / 40_000.0) {
            // The sum of e^-10 10^k / k! for k up to 8.
            assert!((share - 0.3328).abs() < 0.01, "{share}");
        }
    }

    #[test]
    fn factorials() {
        let mut sum = 0.0;
        for k in 1..100u32 {
            sum += f64::from(k).ln();
            assert!((ln_factorial(f64::from(k)) - sum).abs() < 1e-8, "{k}");
        }
        assert_eq!(ln_factorial(0.0), 0.0);
    }
}
