//! Host endpoints: the whole way of a packet through the tables, and through the oracle.

use std::net::Ipv4Addr;

use caracal_desired::Desired;
use caracal_net::{Cidr, PerFamily, Proto};
use caracal_oracle::{FailsafePort, Host, Journey, Packet, Reading, ToHost, Trip, Verdict, Way, travel};
use caracal_rules::{
    Compiler, DenyAction, Failsafe, HostAction, OpenStack, RulesConfig, ServiceLoops,
    ir::TableState,
    model::{self, Fate},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::{
    interpreter::{faults, headers},
    verdicts::open,
    world::{addr, deltas, interfaces, packet, world},
};

const NAMES: [&str; 6] = ["eth0", "eth1", "lo", "cali0", "cali1", "cali-stranger"];

/// Bits of the mark that are others'.
const OTHERS: u32 = 0x1234_5678 & !0x0001_0000;

pub(crate) fn config(host: &Host, deny: DenyAction) -> RulesConfig {
    let ports = |of: &[FailsafePort]| {
        let one = |f: &FailsafePort| Failsafe {
            proto: f.proto,
            port: f.port,
            net: f.net,
        };
        of.iter().map(one).collect()
    };
    RulesConfig {
        deny,
        failsafe_in: ports(&host.failsafe_in),
        source_spoofing: host.source_spoofing,
        service_loops: match (host.bears_service_loops, deny) {
            (true, _) => ServiceLoops::Disabled,
            (false, DenyAction::Drop) => ServiceLoops::Drop,
            (false, DenyAction::Reject) => ServiceLoops::Reject,
        },
        openstack: host.openstack.map(|o| OpenStack { metadata: o.metadata }),
        failsafe_out: ports(&host.failsafe_out),
        endpoint_to_host: match host.to_host {
            ToHost::Drop => HostAction::Drop,
            ToHost::Accept => HostAction::Accept,
            ToHost::Return => HostAction::Return,
        },
        ..open()
    }
}

pub(crate) fn compile(d: &Desired, host: &Host, deny: DenyAction) -> PerFamily<TableState> {
    let mut compiler = Compiler::new(config(host, deny));
    for (name, addresses) in &host.interfaces {
        compiler.set_interface(name, Some(addresses.clone()));
    }
    compiler.apply_all(&deltas(d));
    compiler.full_state()
}

/// The same trip through the model's tables.
pub(crate) fn through(tables: &PerFamily<TableState>, trip: &Trip) -> Fate {
    let way = match &trip.way {
        Way::Forward { from, to } => model::Way::Forward(from, to),
        Way::In { from } => model::Way::In(from),
        Way::Out { to } => model::Way::Out(to),
    };
    let table = tables.get(trip.packet.family());
    let trip = model::Trip {
        packet: headers(&trip.packet),
        original: trip.original,
        way,
        spoofed: trip.spoofed,
        mark: OTHERS,
    };
    let fate = model::journey(table, &trip);
    assert_eq!(fate.faults, Vec::<String>::new());
    assert_eq!(
        fate.mark & OTHERS,
        OTHERS,
        "others' bits of the mark were changed"
    );
    fate
}

fn failsafe() -> impl Strategy<Value = Vec<FailsafePort>> {
    let nets = select(vec!["10.0.0.0/29", "fd00::/125"]).prop_map(|n| n.parse::<Cidr>().unwrap());
    let port = (select(vec![Proto::TCP, Proto::UDP]), 0u16..8, option::of(nets));
    let port = port.prop_map(|(proto, port, net)| FailsafePort { proto, port, net });
    prop_oneof![2 => Just(vec![]), 1 => vec(port, 1..4)]
}

pub(crate) fn host() -> impl Strategy<Value = Host> {
    let to_host = select(vec![ToHost::Drop, ToHost::Accept, ToHost::Return]);
    let metadata = (Ipv4Addr::new(10, 0, 0, 1), 2);
    let openstack = option::of(Just(metadata)).prop_map(|metadata| caracal_oracle::OpenStack { metadata });
    let more = (
        any::<bool>(),
        prop::bool::weighted(0.2),
        option::weighted(0.3, openstack),
    );
    (interfaces(), failsafe(), failsafe(), to_host, more).prop_map(
        |(interfaces, failsafe_in, failsafe_out, to_host, more)| Host {
            interfaces,
            workload_prefixes: vec!["cali".into()],
            failsafe_in,
            failsafe_out,
            to_host,
            bears_invalid: false,
            source_spoofing: more.0,
            bears_service_loops: more.1,
            openstack: more.2,
        },
    )
}

/// Whether connections by this interface may be left untracked: nothing is translated then.
fn may_be_untracked(d: &Desired, interface: &str) -> bool {
    !interface.starts_with("cali") && d.host_endpoints.values().any(|h| !h.untracked.is_empty())
}

fn ways(d: &Desired, packet: Packet, nat: Option<u16>, spoofed: bool) -> Vec<Trip> {
    let mut trips = vec![];
    let mut trip = |way: Way, first: &str| {
        let original = nat.filter(|_| packet.proto.has_ports() && !may_be_untracked(d, first));
        trips.push(Trip {
            packet,
            original: original.map(|port| (addr(packet.family(), 17), port)),
            spoofed: spoofed && !matches!(way, Way::Out { .. }),
            way,
        });
    };
    for from in NAMES {
        trip(Way::In { from: from.into() }, from);
        trip(Way::Out { to: from.into() }, from);
        for to in NAMES {
            let (from, to) = (from.to_owned(), to.to_owned());
            trip(
                Way::Forward {
                    from: from.clone(),
                    to,
                },
                &from,
            );
        }
    }
    trips
}

fn compare(tables: &PerFamily<TableState>, trip: &Trip, want: &Journey) -> Result<(), TestCaseError> {
    let fate = through(tables, trip);
    prop_assert_eq!(
        fate.accepted,
        want.verdict == Verdict::Allowed,
        "{:?}\noracle {:?}\ntable by {:?}\n{}",
        trip,
        want,
        fate.by,
        caracal_rules::ir::render(trip.packet.family(), "caracal", tables.get(trip.packet.family()))
    );
    Ok(())
}

proptest! {
    #![proptest_config(crate::world::cases(192))]

    #[test]
    fn every_way_ends_as_the_oracle_says(
        d in world(false),
        host in host(),
        packets in vec((packet(), option::of(0u16..10), prop::bool::weighted(0.1)), 4),
        reject: bool,
    ) {
        let deny = if reject { DenyAction::Reject } else { DenyAction::Drop };
        let tables = compile(&d, &host, deny);
        for (family, table) in tables.iter() {
            prop_assert_eq!(faults(table), Vec::<String>::new(), "{}", family);
        }
        for (p, nat, spoofed) in packets {
            for trip in ways(&d, p, nat, spoofed) {
                compare(&tables, &trip, &travel(&d, &host, Reading::Enforced, &trip))?;
            }
        }
    }
}
