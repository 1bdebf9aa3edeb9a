//! Questions to the owner of the tables.

use std::{net::IpAddr, sync::Arc};

use caracal_agent_api::v1::{self, DeniedPacket, JudgeReply, JudgeRequest, Judgement, decider};
use caracal_desired::WorkloadEndpoint;
use caracal_ids::WorkloadId;
use caracal_net::{Family, Proto};
use caracal_oracle::{self as oracle, Decision, Direction, ListKind, Reading, RuleSource, Verdict};
use caracal_rules::{
    Counting,
    ir::{CounterName, CtState, Hook, Statement, TableState},
    model::{self, Seen},
};

use super::Worker;
use crate::{
    agent::Order,
    counters::decider,
    denied::{Headers, Told, headers},
};

impl Worker {
    pub(super) fn answer(&mut self, order: Order) {
        // Who asked may have gone.
        match order {
            Order::Dump(order) => self.show(order),
            Order::Counted(reply) => {
                let _ = reply.send(self.counted());
            }
            Order::Judge(request, reply) => {
                let _ = reply.send(self.judge(&request));
            }
            Order::Denied(told, watchers) => {
                if let Some(packet) = self.denied(&told) {
                    let _ = watchers.send(Arc::new(packet));
                }
            }
        }
    }

    fn counted(&mut self) -> Arc<Counting> {
        let counting = || Arc::new(self.compiler.counting());
        Arc::clone(self.counted.get_or_insert_with(counting))
    }

    /// Whose packet was denied, and by whom.
    fn denied(&mut self, told: &Told) -> Option<DeniedPacket> {
        let headers = headers(&told.payload)?;
        let name_of = |index| self.interfaces.name_of(index).unwrap_or_default().to_owned();
        let (interface_in, interface_out) = (name_of(told.in_device), name_of(told.out_device));
        // Where rules were merged, the line names the first of them only.
        let (first, merged) = match told.prefix.split_once(" +") {
            Some((first, _)) => (first, true),
            None => (told.prefix.as_str(), false),
        };
        let mut counter = CounterName::from(first);
        if merged {
            let table = self.nft.desired(Family::of(headers.dst));
            let seen = seen(&headers, &interface_in, &interface_out);
            counter = denied_by(table, told.hook, &seen).unwrap_or(counter);
        }
        let who = self.counted().find(&counter)?;
        let (workload_at, host_at) = if who.ingress {
            (&interface_out, &interface_in)
        } else {
            (&interface_in, &interface_out)
        };
        let workload = self
            .network
            .workloads()
            .values()
            .find(|w| *w.interface == **workload_at);
        // Where IPVS sends a packet on, the interface that it came in by is not known any more.
        let by_address = |w: &&Arc<WorkloadEndpoint>| {
            let mut own = w.addresses.get(Family::of(headers.src)).iter();
            own.any(|a| a.contains(headers.src))
        };
        let workload = workload.or_else(|| {
            let mut all = self.network.workloads().values();
            all.find(|w| workload_at.is_empty() && !who.ingress && by_address(w))
        });
        let (namespace, name) = match workload {
            Some(w) => (w.id.namespace.to_string(), w.id.name.to_string()),
            None => {
                let host = self
                    .compiler
                    .host_endpoint_at(host_at)
                    .filter(|_| !host_at.is_empty());
                (
                    String::new(),
                    host.map(|h| h.name.to_string()).unwrap_or_default(),
                )
            }
        };
        let (icmp_type, icmp_code) = headers.icmp.unwrap_or_default();
        Some(DeniedPacket {
            at: told.at,
            decider: Some(decider(&who)),
            namespace,
            name,
            interface_in,
            interface_out,
            source: headers.src.to_string(),
            destination: headers.dst.to_string(),
            protocol: headers.proto.0.into(),
            source_port: headers.sport.into(),
            destination_port: headers.dport.into(),
            icmp_type: icmp_type.into(),
            icmp_code: icmp_code.into(),
            length: headers.length,
            lost: told.lost,
        })
    }

    /// What policy says of a packet: enforced, and as if staged policies were.
    fn judge(&self, request: &JudgeRequest) -> Result<JudgeReply, String> {
        let packet = packet_of(request)?;
        let direction = match request.direction.as_str() {
            "ingress" => Direction::Ingress,
            "egress" => Direction::Egress,
            other => return Err(format!("direction {other:?} is neither ingress nor egress")),
        };
        let between = [packet.src, packet.dst];
        let read: Box<dyn Fn(Reading) -> Option<Decision>> = if request.namespace.is_empty() {
            let host = self.compiler.host_endpoint(&request.name);
            let host = host.ok_or_else(|| format!("no host endpoint {:?} on this node", request.name))?;
            let ground = self.compiler.ground(&host.tiers, &host.profiles, between);
            let host = Arc::clone(host);
            let list = ListKind::Normal;
            Box::new(move |how| oracle::decide_host_as(&ground, how, &host, list, direction, &packet))
        } else {
            let id = WorkloadId::new(&request.namespace, &request.name);
            let workload = self.network.workloads().get(&id);
            let workload = workload.ok_or_else(|| format!("no endpoint {id} on this node"))?;
            let ground = self.compiler.ground(&workload.tiers, &workload.profiles, between);
            let workload = Arc::clone(workload);
            Box::new(move |how| Some(oracle::decide_as(&ground, how, &workload, direction, &packet)))
        };
        Ok(JudgeReply {
            enforced: read(Reading::Enforced).map(judgement),
            staged: read(Reading::Pending).map(judgement),
        })
    }
}

fn packet_of(request: &JudgeRequest) -> Result<oracle::Packet, String> {
    let addr = |what: &str, text: &str| -> Result<IpAddr, String> {
        text.parse()
            .map_err(|_| format!("{what} {text:?} is not an IP address"))
    };
    let (src, dst) = (
        addr("source", &request.source)?,
        addr("destination", &request.destination)?,
    );
    if Family::of(src) != Family::of(dst) {
        return Err(format!("{src} and {dst} are not of one family"));
    }
    let byte = |what: &str, n: u32| u8::try_from(n).map_err(|_| format!("{what} {n} is above 255"));
    let port = |what: &str, n: u32| u16::try_from(n).map_err(|_| format!("{what} {n} is above 65535"));
    let proto = Proto(byte("protocol", request.protocol)?);
    let icmp = matches!(proto, Proto::ICMP | Proto::ICMPV6);
    let kind = (
        byte("icmp_type", request.icmp_type)?,
        byte("icmp_code", request.icmp_code)?,
    );
    Ok(oracle::Packet {
        src,
        dst,
        proto,
        sport: port("source_port", request.source_port)?,
        dport: port("destination_port", request.destination_port)?,
        icmp: icmp.then_some(kind),
    })
}

fn judgement(decision: Decision) -> Judgement {
    let allowed = decision.verdict == Verdict::Allowed;
    let direction = match decision.direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let mut d = v1::Decider {
        direction: direction.into(),
        action: if allowed { "allow" } else { "deny" }.into(),
        ..v1::Decider::default()
    };
    let place = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let what = match decision.by {
        oracle::Decider::Rule(RuleSource::Policy(tier, id), n) => {
            d.kind = id.kind.as_str().into();
            d.namespace = id.namespace.to_string();
            d.name = id.name.to_string();
            d.tier = tier.to_string();
            d.rule = place(n);
            decider::What::Policy
        }
        oracle::Decider::Rule(RuleSource::Profile(name), n) => {
            d.name = name.to_string();
            d.rule = place(n);
            decider::What::Profile
        }
        oracle::Decider::EndOfTier(tier) => {
            d.name = tier.to_string();
            d.tier = tier.to_string();
            decider::What::Tier
        }
        oracle::Decider::EndOfProfiles => decider::What::NoProfile,
        oracle::Decider::Missing(what) => {
            d.name = what;
            d.missing = true;
            decider::What::Policy
        }
        other => {
            d.name = other.to_string();
            decider::What::Wall
        }
    };
    d.set_what(what);
    Judgement {
        allowed,
        decider: Some(d),
    }
}

/// A denied packet as the tables saw it.
fn seen(headers: &Headers, iif: &str, oif: &str) -> Seen {
    let packet = model::Packet {
        src: headers.src,
        dst: headers.dst,
        proto: headers.proto,
        sport: headers.sport,
        dport: headers.dport,
        icmp: headers.icmp,
    };
    let name = |n: &'_ str| Some(n.to_owned()).filter(|n| !n.is_empty());
    Seen {
        state: CtState::NEW,
        ..Seen::new(packet, name(iif).as_deref(), name(oif).as_deref())
    }
}

/// The counter of the rule that denies a packet at a hook.
fn denied_by(table: &TableState, hook: u8, seen: &Seen) -> Option<CounterName> {
    let hooks = [
        Hook::Prerouting,
        Hook::Input,
        Hook::Forward,
        Hook::Output,
        Hook::Postrouting,
    ];
    let hook = *hooks.get(usize::from(hook))?;
    let bases = table.chains.values().filter_map(|c| c.base);
    let mut priorities: Vec<i32> = bases.filter(|b| b.hook == hook).map(|b| b.priority).collect();
    priorities.sort_unstable();
    let mut seen = seen.clone();
    let fates = priorities.into_iter().map(|p| {
        let fate = model::pass(table, hook, p, &seen);
        // What one chain marks, the next one reads.
        seen.mark = fate.mark;
        fate
    });
    let fate = { fates }.find(|f| !f.accepted)?;
    fate.effects.iter().rev().find_map(|s| match s {
        Statement::Count(name) => Some(name.clone()),
        _ => None,
    })
}
