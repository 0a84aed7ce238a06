//! What goes wrong in the world, at random and by seed.

use std::time::Duration;

use tidegate::base::InstanceId;
use tidegate::model::{Admin, Balance};

use crate::machine::State;
use crate::world::{Settings, World, ZONES};

const STATES: [State; 5] =
    [State::Dead, State::Frozen, State::Slow, State::Failing, State::Flapping];
const ZONE_MODES: [&str; 4] = [
    "mode = \"spread\"",
    "mode = \"local-first\"",
    "mode = \"priority\"\nlevels = [[\"a\"], [\"b\", \"c\"]]",
    "mode = \"priority\"\nlevels = [[\"c\"], [\"b\"]]\npanic_below = \"30%\"",
];

/// Something goes wrong, or is changed.
pub fn strike(world: &mut World) {
    world.tally.faults += 1;
    match world.entropy.below(14) {
        0..=2 => {
            let id = any(world);
            let state = STATES[world.entropy.below(STATES.len())];
            machine(world, &id).state = state;
        }
        3 => {
            let zone = ZONES[world.entropy.below(ZONES.len())];
            let state = STATES[world.entropy.below(2)];
            for id in world.ids(zone) {
                machine(world, &id).state = state;
            }
        }
        4 => {
            let (id, lie) = (any(world), world.entropy.below(2) == 0);
            machine(world, &id).lie = Some(lie);
        }
        5 => {
            // Whatever answers probes is broken, and it alone.
            for machine in world.machines.values_mut() {
                machine.lie = Some(false);
            }
        }
        6 | 7 => mend(world),
        8 => {
            let (id, on) = (any(world), world.entropy.below(2) == 0);
            world.set_admin(&id, if on { Admin::Draining } else { Admin::Enabled });
        }
        9 | 10 => reload(world),
        11 | 12 => {
            let zone = ZONES[world.entropy.below(ZONES.len())];
            let on = world.entropy.below(2) == 0;
            world.evacuate(zone, on);
        }
        _ => {
            let by = [1, 30, 600][world.entropy.below(3)];
            world.jump(Duration::from_secs(by));
        }
    }
}

fn any(world: &mut World) -> InstanceId {
    let nth = world.entropy.below(world.machines.len());
    world.machines.keys().nth(nth).expect("a machine").clone()
}

fn machine<'w>(world: &'w mut World, id: &InstanceId) -> &'w mut crate::machine::Machine {
    world.machines.get_mut(id).expect("a machine")
}

fn reload(world: &mut World) {
    let settings = Settings {
        balance: Balance::ALL[world.entropy.below(Balance::ALL.len())].word(),
        interval_s: [2, 5, 10][world.entropy.below(3)],
        zones: ZONE_MODES[world.entropy.below(ZONE_MODES.len())],
        per_zone: 3 + world.entropy.below(2) as u8,
    };
    world.reload(settings);
}

/// Everything is well again: machines, probes, operators.
pub fn mend(world: &mut World) {
    for machine in world.machines.values_mut() {
        machine.state = State::Well;
        machine.lie = None;
    }
    for zone in ZONES {
        world.evacuate(zone, false);
    }
    let ids: Vec<InstanceId> = world.machines.keys().cloned().collect();
    for id in ids {
        world.set_admin(&id, Admin::Enabled);
    }
}
