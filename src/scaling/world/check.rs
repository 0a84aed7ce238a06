//! What must hold at any time, whatever happens.

use super::*;

impl World {
    /// What holds at any time.
    pub(super) fn check(&self, plan: &Plan) {
        let second = self.second();
        let about = |id: &InstanceId| self.bodies.iter().find(|body| body.machine.id == *id);
        for id in &plan.terminations {
            let body = about(id).expect("only what exists is terminated");
            let drained = matches!(body.standing.life, Life::Drained | Life::Terminating);
            let dead = matches!(body.machine.state, MachineState::Failed(_));
            let never_came = !body.was_up && self.now.since(body.listed_at) >= SECOND * 119;
            let unused = self.retired && !body.was_up;
            assert!(drained || dead || never_came || unused, "{second}: {id} was not drained");
        }
        let unheard = |body: &&Body| {
            !self.reports.iter().any(|(_, plan)| plan.drains.contains(&body.machine.id))
        };
        let going = |body: &Body| plan.drains.contains(&body.machine.id);
        let serving: Vec<&Body> =
            self.bodies.iter().filter(|body| body.serves()).filter(unheard).collect();
        let young = |body: &&Body| body.boots() && self.now.since(body.listed_at) < SECOND * 119;
        let booting = self.bodies.iter().filter(young).count();
        if serving.iter().any(|body| going(body)) && !self.retired {
            let stay: u32 =
                serving.iter().filter(|body| !going(body)).map(|body| self.units(body)).sum();
            assert!(stay >= self.scaling.min, "{second}: {stay} stay");
            assert_eq!(booting, 0, "{second}: shrinks while something boots");
        }
        if plan.launches.is_empty() {
            return;
        }
        assert!(plan.launches.iter().all(|o| (1..=self.capabilities.max_batch).contains(&o.count)));
        let unit = self.scaling.units_of(plan.launches[0].size.as_deref());
        let ordered: u32 = plan.launches.iter().map(|order| order.count * unit).sum();
        let revived: u32 = plan.revives.iter().filter_map(about).map(|b| self.units(b)).sum();
        let lit = |body: &&Body| {
            let zone = &body.machine.zone;
            !self.dark.contains(zone) && !self.evacuated.contains(zone)
        };
        let booting: u32 =
            self.bodies.iter().filter(young).filter(lit).map(|body| self.units(body)).sum();
        let served: u32 = serving.iter().map(|body| self.units(body)).sum();
        let all = served + booting + ordered + revived;
        // A roll brings the new before the old leave.
        let rolls = self.mixed() || plan.records.iter().any(|record| record.winner == "roll");
        let surge = if rolls { served / 5 + 2 * unit } else { 0 };
        let max = self.scaling.max + surge;
        if self.doubled {
            // Nobody can know of those before they are listed.
            return;
        }
        assert!(all <= max, "{second}: {all} are more than {max}");
        // One more is only ever ordered to even out zones.
        let even_out = plan.records.iter().any(|record| record.winner == "zone");
        // Missing units are made up for by whole instances.
        let desired = plan.desired * unit + if even_out { unit } else { unit - 1 };
        assert!(all <= desired, "{second}: {all} of {desired} ordered twice: {plan:?}");
        if !self.troubled && !rolls && !even_out {
            assert!(self.apart() <= 1, "{second}: zones are {} apart", self.apart());
        }
    }
}
