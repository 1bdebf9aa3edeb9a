//! Connections that policy would not allow any more: where the operator asks for it, they end.

use std::{collections::BTreeMap, net::IpAddr};

use caracal_net::Family;
use caracal_rules::{
    ir::{CtState, Field, Rule, Statement},
    model::{self, Seen},
};
use caracal_sys::Sysctl;

use super::Worker;
use crate::dataplane::conntrack::{self, First};

/// Looks a packet's list up by an interface.
fn asks(field: Field, map: &str) -> Rule {
    let vmap = Statement::VerdictMap {
        fields: vec![field],
        map: map.into(),
    };
    Rule::new([], [vmap], "")
}

impl Worker {
    /// After a change of policy: ends the connections of workloads that it denies, if that is wanted.
    pub(super) fn cut_connections(&mut self) {
        let wanted = self.config.cut_connections && self.nft_started && self.policy_error.is_none();
        if !std::mem::take(&mut self.policy_changed) || !wanted {
            return;
        }
        if let Err(e) = no_guessing() {
            tracing::warn!("connections that are cut may come back by the other side's packets: {e}");
        }
        let at: BTreeMap<IpAddr, &str> = self
            .network
            .workloads()
            .values()
            .flat_map(|w| {
                let addresses = w.addresses.v4.iter().chain(&w.addresses.v6);
                addresses.map(|a| (a.addr(), &*w.interface))
            })
            .collect();
        let outcome = conntrack::cut(|first| self.is_denied(first, &at));
        match outcome {
            Ok(0) => {}
            Ok(n) => {
                metrics::counter!("caracal_connections_cut").increment(n as u64);
                tracing::info!(
                    connections = n,
                    "ended connections that policy does not allow any more"
                );
            }
            Err(e) => tracing::warn!("ending connections that policy does not allow any more: {e}"),
        }
    }

    fn is_denied(&self, first: &First, at: &BTreeMap<IpAddr, &str>) -> bool {
        let (from, to) = (at.get(&first.src), at.get(&first.dst));
        // The host reaches its own workloads unpoliced.
        let to = to.filter(|_| !self.interfaces.has(first.src));
        if from.is_none() && to.is_none() {
            return false;
        }
        let table = self.nft.desired(Family::of(first.dst));
        let packet = model::Packet {
            src: first.src,
            dst: first.dst,
            proto: first.proto,
            sport: first.sport,
            dport: first.dport,
            icmp: first.icmp,
        };
        let seen = Seen {
            state: CtState::NEW,
            ..Seen::new(packet, from.copied(), to.copied())
        };
        let denies = |field, map| !model::pass_rule(table, &asks(field, map), &seen).accepted;
        from.is_some() && denies(Field::Iif, "from-wl") || to.is_some() && denies(Field::Oif, "to-wl")
    }
}

/// A packet in the middle of a TCP connection that the kernel does not know opens none: else the other side's next
/// packet would bring a connection back that has been cut.
fn no_guessing() -> Result<(), caracal_sys::SysError> {
    let loose = Sysctl::new(&["net", "netfilter", "nf_conntrack_tcp_loose"])?;
    if loose.exists() {
        loose.ensure("0")?;
    }
    Ok(())
}
