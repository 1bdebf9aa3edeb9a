use caracal_desired::{Delta, Desired};
use caracal_ids::NodeName;
use caracal_net::PerFamily;
use caracal_oracle::{FailsafePort, Host, ToHost, Trip, Way};
use caracal_policy::Engine;
use caracal_rules::{
    Compiler, Failsafe, HostAction, OpenStack, RulesConfig, ServiceLoops,
    ir::{TableState, render},
    model,
};
use caracal_update::Update;

use crate::{Case, NODE};

/// What packets go through.
pub trait Dataplane {
    /// Whether each packet of a case gets through, in order; `Err` says why it cannot be known.
    ///
    /// # Errors
    /// When the case cannot be brought into force, or a packet not be sent.
    fn verdicts(&mut self, case: &Case) -> Result<Vec<bool>, String>;

    /// Whether objects that break the rules of their kind are refused on the way ([`Case::in_force`]).
    fn refuses(&self) -> bool {
        false
    }

    /// What is in force, for people.
    fn show(&self) -> String;
}

/// What the engine makes of a case.
#[must_use]
pub fn desired(case: &Case) -> (Desired, Vec<Delta>) {
    // The name is a constant that is a node's name.
    let node = NodeName::new(NODE).expect("the name of the node is one");
    let mut engine = Engine::new(node);
    for object in &case.objects {
        engine.apply(&Update::set(object.clone()));
    }
    case.slices.iter().for_each(|s| engine.apply_slice(s));
    let deltas = engine.flush();
    let mut desired = Desired::default();
    desired.apply_all(deltas.clone());
    (desired, deltas)
}

/// The configuration of the rules for the host of a case; walls that policy knows nothing of are open.
#[must_use]
pub fn rules_config(host: &Host) -> RulesConfig {
    let ports = |of: &[FailsafePort]| {
        let one = |f: &FailsafePort| Failsafe {
            proto: f.proto,
            port: f.port,
            net: f.net,
        };
        of.iter().map(one).collect()
    };
    RulesConfig {
        interface_prefixes: host.workload_prefixes.iter().map(|p| p.as_str().into()).collect(),
        endpoint_to_host: match host.to_host {
            ToHost::Drop => HostAction::Drop,
            ToHost::Accept => HostAction::Accept,
            ToHost::Return => HostAction::Return,
        },
        failsafe_in: ports(&host.failsafe_in),
        failsafe_out: ports(&host.failsafe_out),
        allow_vxlan_from_workloads: true,
        allow_ipip_from_workloads: true,
        source_spoofing: host.source_spoofing,
        drop_invalid: !host.bears_invalid,
        service_loops: if host.bears_service_loops {
            ServiceLoops::Disabled
        } else {
            ServiceLoops::Drop
        },
        openstack: host.openstack.map(|o| OpenStack { metadata: o.metadata }),
        ..RulesConfig::default()
    }
}

/// The tables that a kernel would hold, read by a model of the kernel.
#[derive(Debug, Default)]
pub struct Model {
    tables: PerFamily<TableState>,
}

impl Dataplane for Model {
    fn verdicts(&mut self, case: &Case) -> Result<Vec<bool>, String> {
        let mut compiler = Compiler::new(rules_config(&case.host));
        for (name, addresses) in &case.host.interfaces {
            compiler.set_interface(name, Some(addresses.clone()));
        }
        compiler.apply_all(&desired(case).1);
        self.tables = compiler.full_state();
        for (family, table) in self.tables.iter() {
            let faults = model::faults(table);
            if !faults.is_empty() {
                return Err(format!(
                    "the table of {family} is not sound: {}",
                    faults.join("; ")
                ));
            }
        }
        case.trips.iter().map(|trip| self.verdict(trip)).collect()
    }

    fn show(&self) -> String {
        let text = |(family, table)| render(family, "caracal", table);
        self.tables.iter().map(text).collect::<Vec<_>>().join("\n")
    }
}

impl Model {
    fn verdict(&self, trip: &Trip) -> Result<bool, String> {
        let p = &trip.packet;
        let way = match &trip.way {
            Way::Forward { from, to } => model::Way::Forward(from, to),
            Way::In { from } => model::Way::In(from),
            Way::Out { to } => model::Way::Out(to),
        };
        let trip = model::Trip {
            packet: model::Packet {
                src: p.src,
                dst: p.dst,
                proto: p.proto,
                sport: p.sport,
                dport: p.dport,
                icmp: p.icmp,
            },
            original: trip.original,
            way,
            spoofed: trip.spoofed,
            mark: 0,
        };
        let fate = model::journey(self.tables.get(p.family()), &trip);
        match fate.faults.first() {
            Some(fault) => Err(format!("{p}: {fault}")),
            None => Ok(fate.accepted),
        }
    }
}
