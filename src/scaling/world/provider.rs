//! The provider, with its moods.

use super::*;

impl World {
    /// The provider: what it does and what it says about it.
    pub(super) fn launch(&mut self, order: &LaunchOrder) {
        let mood = self.moods.get(&order.zone).copied().unwrap_or_default();
        let exist = self.bodies.len() as u32;
        let result = match mood {
            _ if self.denies => Err(Failure::Denied("no".into())),
            _ if exist + order.count > self.quota => Err(Failure::Quota("too many".into())),
            Mood::Full => Err(Failure::NoCapacity { zone: order.zone.clone(), why: "full".into() }),
            Mood::Throttles => Err(Failure::Throttled { retry_after: None }),
            Mood::Mute => Err(Failure::Unreachable("lost".into())),
            Mood::Broken => Err(Failure::Unreachable("500".into())),
            Mood::Fine | Mood::Barren | Mood::Deadly | Mood::Doubles | Mood::Stuck => Ok(()),
        };
        let happens = match &result {
            Err(Failure::Unreachable(_)) => mood == Mood::Mute,
            result => result.is_ok(),
        };
        if happens {
            self.doubled |= mood == Mood::Doubles;
            let fate = match mood {
                Mood::Barren => Fate::NeverBoots,
                Mood::Stuck => Fate::Stuck,
                _ => Fate::Works,
            };
            let times = if mood == Mood::Doubles { 2 } else { 1 };
            for _ in 0..order.count * times {
                self.bear(order, fate);
                if let (Mood::Deadly, Some(body)) = (mood, self.bodies.last_mut()) {
                    body.machine.state = MachineState::Failed("no such program".into());
                }
            }
        }
        let delay = Duration::from_millis(self.entropy.below(3_500) as u64);
        self.answers.push((self.now + delay, order.clone(), result));
    }

    fn bear(&mut self, order: &LaunchOrder, fate: Fate) {
        self.born += 1;
        let id = InstanceId::new(format!("{}{}", order.zone, self.born));
        let boot = self.boot.mul_f64(0.8 + 0.4 * self.entropy.unit());
        let unseen = Duration::from_millis(self.entropy.below(4_000) as u64);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let model = self.capabilities.model.clone();
        let bad = |make: &Option<String>| make.is_some() && *make == self.bad_make;
        let fate = if bad(&order.size) || bad(&model) { Fate::NeverBoots } else { fate };
        self.bodies.push(Body {
            machine: Machine {
                id: id.clone(),
                zone: order.zone.clone(),
                address: None,
                state: MachineState::Creating,
                size: order.size.clone(),
                model,
                token: Some(order.token.clone()),
                protected: false,
            },
            instance: Arc::new(Instance {
                id,
                pool: "web".into(),
                zone: order.zone.clone(),
                address,
                weight: 1,
                vitals: Arc::default(),
            }),
            standing: Standing {
                health: Health::Pending,
                admin: Admin::Enabled,
                life: Life::Booting,
            },
            slots: Vec::new(),
            fate,
            born: self.now,
            boots_at: self.now + boot,
            listed_at: self.now + unseen,
            was_up: false,
            drained_at: Ms::NEVER,
            gone_at: Ms::NEVER,
        });
    }

    pub(super) fn answer(&mut self) {
        let now = self.now;
        let (due, later) =
            std::mem::take(&mut self.answers).into_iter().partition(|(at, ..)| *at <= now);
        self.answers = later;
        for (_, order, result) in due as Vec<_> {
            let told = self.scaler.handle_launch_result(now, &order, &result);
            self.records.extend(told.map(|record| (now.0 / 1000 - 1_000, record)));
        }
    }
}
