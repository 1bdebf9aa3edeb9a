//! Service-loop prevention (`calico-components.md` §3.10).

use super::Builder;
use crate::{
    config::ServiceLoops,
    ir::{Field, Key, KeyType, Match, RejectWith, Rule, SetDef, Statement},
    list::Direction,
};

const SERVICES: &str = "service-cidrs";

impl Builder<'_> {
    /// Stops what still has a service's address behind all translation: no endpoint of it is known here, and whoever
    /// sent the packet to this node because it announces the range would get it back, again and again.
    pub(super) fn service_loops(&mut self) -> Option<Rule> {
        let how = match self.config.service_loops {
            ServiceLoops::Drop => Statement::DROP,
            ServiceLoops::Reject => Statement::Reject(RejectWith::PortUnreachable),
            ServiceLoops::Disabled => return None,
        };
        if self.facts.services.is_empty() {
            return None;
        }
        let def = SetDef::new([KeyType::Addr])
            .intervals()
            .commented("addresses of services");
        let keys: Vec<Key> = self.facts.services.iter().map(|s| Key::One(*s)).collect();
        self.set(SERVICES, def, keys);
        let stop = self.wall("service-loop", Direction::To, how);
        let matches = [Match::in_set([Field::Daddr], SERVICES)];
        Some(Rule::new(matches, stop, "services that nobody translated"))
    }
}
