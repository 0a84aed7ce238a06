//! What becomes of an instance by what its agent says.

use std::sync::Arc;

use crate::base::Ms;
use crate::fleet::agent::{Agent, Line};
use crate::fleet::change::Change;
use crate::fleet::member::{Books, Member, Site};
use crate::fleet::order::{Asks, Lane, ProbeOrder};
use crate::model::{AgentCheck, Health, Pool};

impl Member {
    /// The question to its agent that is due now.
    pub fn ask_agent(&mut self, pool: &Arc<Pool>) -> Option<ProbeOrder> {
        self.agent_entered = None;
        let check = pool.health.agent?;
        Some(ProbeOrder {
            instance: Arc::clone(&self.instance),
            pool: Arc::clone(pool),
            asks: Asks::Agent(check),
            timeout: pool.health.timeout.min(check.interval),
            // Agents come and go, and nobody waits for them.
            lane: Lane::Doubtful,
            number: self.agent.start(),
        })
    }

    /// Its agent was asked, and said so, if anything.
    pub fn handle_agent(
        &mut self,
        now: Ms,
        order: &ProbeOrder,
        said: Option<Line>,
        books: &mut Books,
    ) {
        let Asks::Agent(check) = order.asks else { return };
        if self.instance.vitals.serial != order.instance.vitals.serial {
            return;
        }
        if self.agent.handle_line(now, check, order.number, said) {
            self.obey_agent(books);
        }
        self.enter(books);
    }

    /// The agents of the pool are asked otherwise, or no more. What was said holds as long as
    /// somebody is there who could take it back.
    pub fn set_agent(&mut self, now: Ms, check: Option<AgentCheck>, books: &mut Books) {
        match check {
            Some(_) => self.agent.restart(now),
            None => {
                self.agent = Agent::new(now, None);
                self.obey_agent(books);
            }
        }
        self.enter(books);
    }

    fn obey_agent(&mut self, books: &mut Books) {
        books.changed = true;
        books.changes.push(Change::Agent {
            pool: self.instance.pool.clone(),
            instance: self.instance.id.clone(),
            zone: self.instance.zone.clone(),
            says: self.agent.to_string(),
        });
        let vitals = &self.instance.vitals;
        vitals.set_own_limit(self.agent.max_in_flight());
        vitals.set_down(self.agent.is_down() || self.ward.health() == Health::Down);
        let instance = Arc::clone(&self.instance);
        let site = Site { zone: &instance.zone, address: instance.address, weight: self.weight };
        self.relocate(site, books);
    }
}
