//! What is kept beyond the demand: for the loss of a zone, and standing by.

use crate::model::{Scaling, ZoneRedundancy};
use crate::scaling::want::{STEADY, Want};

/// Where a zone is lost, the others may for a while carry this share of what they can take.
const STRAINED: f64 = 0.84;

/// Raises what is wanted for `rps`, of which an instance carries `per_instance`, in so many `zones`;
/// never beyond the maximum.
pub(super) fn keep(
    want: &mut Want,
    rps: f64,
    per_instance: Option<f64>,
    scaling: &Scaling,
    zones: u32,
) {
    let redundant = match (scaling.zone_redundancy, per_instance) {
        (ZoneRedundancy::OneZone, Some(rate)) if zones > 1 => {
            without_one_zone(rps / (rate / STEADY * STRAINED), zones)
        }
        _ => 0,
    };
    if redundant > want.size && want.size < want.max {
        want.winner = "zones";
    }
    let wanted = want.size.max(redundant).min(want.max);
    want.standby = scaling.standby.beyond(wanted).min(want.max - wanted);
    want.size = wanted + want.standby;
    want.roomy = want.roomy.max(redundant).saturating_add(want.standby).min(want.max);
}

/// How many there must be so that `needed` are left when any one zone is lost, zones being even.
fn without_one_zone(needed: f64, zones: u32) -> u32 {
    let needed = (needed - 1e-9).ceil().max(0.0) as u32;
    needed.saturating_mul(zones).div_ceil(zones - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Share;
    use crate::model::Standby;
    use crate::scaling::demand::Estimate;
    use crate::scaling::want::{self, Known};

    fn kept(scaling: &Scaling, rps: f64) -> (u32, u32, &'static str) {
        let estimate = Estimate { rate_30s: rps, growth: 1.0, ..Estimate::default() };
        let mut want = want::want(&estimate, Known::default(), scaling, &[]);
        keep(&mut want, rps, scaling.stated_rate(), scaling, 3);
        assert!(want.size <= want.roomy && want.roomy <= want.max);
        (want.size, want.standby, want.winner)
    }

    #[test]
    fn standby_comes_on_top_and_stays_within_the_maximum() {
        for (standby, min, rps, expected) in [
            (Standby::Count(2), 3, 0.0, (5, 2, "min")),
            (Standby::Count(1), 0, 0.0, (1, 1, "rate")),
            (Standby::Share(Share(0.2)), 3, 700.0, (12, 2, "rate")),
            (Standby::Count(4), 3, 1_260.0, (20, 2, "rate")),
            (Standby::Count(4), 3, 9_000.0, (20, 0, "max")),
        ] {
            let scaling = Scaling { standby, ..Scaling::new(min, 20, 70.0) };
            assert_eq!(kept(&scaling, rps), expected, "{standby:?}");
        }
    }

    #[test]
    fn any_zone_can_be_lost() {
        let plain = Scaling::new(1, 100, 70.0);
        let scaling = Scaling { zone_redundancy: ZoneRedundancy::OneZone, ..plain };
        for rps in 1..3_000 {
            let rps = f64::from(rps);
            let (size, ..) = kept(&scaling, rps);
            // Zones differ by one at most, so the fullest has so many.
            let left = size - size.div_ceil(3);
            let strain = rps / (f64::from(left) * 70.0) * STEADY;
            assert!(strain <= STRAINED + 1e-9, "{rps}: {size} leave {left} at {strain}");
        }
        assert_eq!(kept(&scaling, 700.0), (15, 0, "zones"));
        assert_eq!(kept(&scaling, 60_000.0), (100, 0, "max"));
    }
}
