//! The key test: random states and packets, through the tables and through the oracle.

use caracal_desired::Desired;
use caracal_net::Family;
use caracal_oracle::{Direction, Packet, Verdict, decide};
use caracal_rules::{
    Compiler, DenyAction, RulesConfig,
    ir::{Hook, TableState},
};
use proptest::{collection::vec, prelude::*};

use crate::{
    interpreter::{Seen, faults, pass},
    world::{WORKLOADS, deltas, interface, packet, world},
};

/// A configuration without walls that the oracle does not know.
pub(crate) fn open() -> RulesConfig {
    RulesConfig {
        allow_vxlan_from_workloads: true,
        allow_ipip_from_workloads: true,
        ..RulesConfig::default()
    }
}

/// What the oracle says of one side of a forwarded packet.
fn judge(d: &Desired, name: &str, direction: Direction, p: &Packet) -> (bool, String) {
    let holder = d.workloads.values().find(|w| &*w.interface == name);
    match holder {
        Some(w) if w.addresses.get(p.family()).is_empty() => (false, "no address of the family".into()),
        Some(w) => {
            let decision = decide(d, w, direction, p);
            (decision.verdict == Verdict::Allowed, format!("{:?}", decision.by))
        }
        None if name.starts_with("cali") => (false, "no endpoint".into()),
        None => (true, "no workload".into()),
    }
}

fn names() -> Vec<String> {
    (0..WORKLOADS)
        .map(interface)
        .chain(["cali-stranger".into(), "eth0".into()])
        .collect()
}

fn check(
    d: &Desired,
    tables: &caracal_net::PerFamily<TableState>,
    packets: &[Packet],
    exact: bool,
) -> Result<(), TestCaseError> {
    for p in packets {
        let table = tables.get(p.family());
        for from in names() {
            for to in names() {
                let (out, why_out) = judge(d, &from, Direction::Egress, p);
                let (into, why_into) = judge(d, &to, Direction::Ingress, p);
                let want = out && into;
                let seen = Seen::new(*p, Some(&from), Some(&to));
                let fate = pass(table, Hook::Forward, 0, &seen);
                let wrong = if exact {
                    fate.accepted != want
                } else {
                    fate.accepted && !want
                };
                prop_assert!(
                    !wrong,
                    "{p} from {from} ({why_out}) to {to} ({why_into}): oracle {want}, table {} by {:?}\n{}",
                    fate.accepted,
                    fate.by,
                    caracal_rules::ir::render(p.family(), "caracal", table)
                );
            }
        }
    }
    Ok(())
}

fn compile(d: &Desired, config: RulesConfig) -> caracal_net::PerFamily<TableState> {
    let mut compiler = Compiler::new(config);
    compiler.apply_all(&deltas(d));
    compiler.full_state()
}

proptest! {
    #![proptest_config(crate::world::cases(256))]

    #[test]
    fn tables_say_what_the_oracle_says(d in world(false), packets in vec(packet(), 16), reject: bool) {
        let deny = if reject { DenyAction::Reject } else { DenyAction::Drop };
        let tables = compile(&d, RulesConfig { deny, ..open() });
        for (family, table) in tables.iter() {
            prop_assert_eq!(faults(table), Vec::<String>::new(), "{}", family);
        }
        check(&d, &tables, &packets, true)?;
    }

    #[test]
    fn a_missing_set_never_lets_more_through(d in world(true), packets in vec(packet(), 16)) {
        let tables = compile(&d, open());
        check(&d, &tables, &packets, false)?;
    }
}

#[test]
fn an_empty_node_is_closed_for_workloads_and_open_for_others() {
    let tables = compile(&Desired::default(), open());
    for f in Family::BOTH {
        let a = crate::world::addr(f, 1);
        let p = Packet::with_ports(a, a, caracal_net::Proto::TCP, 1, 2);
        for (from, to, want) in [
            ("eth0", "eth1", true),
            ("cali1", "eth0", false),
            ("eth0", "cali1", false),
        ] {
            let fate = pass(
                tables.get(f),
                Hook::Forward,
                0,
                &Seen::new(p, Some(from), Some(to)),
            );
            assert_eq!(fate.accepted, want, "{from} to {to}: {fate:?}");
        }
    }
}
