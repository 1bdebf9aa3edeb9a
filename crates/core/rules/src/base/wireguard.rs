//! WireGuard's packets between nodes (`calico-components.md` §3.10).

use caracal_net::{PortRange, Proto};

use super::Builder;
use crate::ir::{Field, Match, Rule, Statement};

impl Builder<'_> {
    /// Lets them through, whatever policy says. Nobody needs be kept out: without a key nobody gets further.
    pub(super) fn wireguard(&self, local: Field) -> Option<Rule> {
        let port = (*self.config.wireguard.get(self.family))?;
        let matches = [
            Match::is(Field::Proto, Proto::UDP),
            Match::is(Field::Dport, PortRange::single(port)),
            Match::Local {
                field: local,
                not: false,
            },
        ];
        let what = if local == Field::Daddr {
            "WireGuard to this host"
        } else {
            "WireGuard from this host"
        };
        Some(Rule::new(matches, [Statement::ACCEPT], what))
    }
}
