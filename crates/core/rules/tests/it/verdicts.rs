//! The key test: random states and packets, through the tables and through the oracle.

use std::sync::Arc;

use caracal_api::{Action, TierDefaultAction};
use caracal_desired::{Delta, Desired, Policy, Profile, Rule, TierPolicies, WorkloadEndpoint};
use caracal_ids::{PolicyId, PolicyKind, ProfileName, TierName, WorkloadId};
use caracal_net::{Cidr, Family, PerFamily, PortRange, Proto};
use caracal_oracle::{Direction, Packet, Verdict, decide};
use caracal_rules::{
    Compiler, DenyAction, RulesConfig, ServiceLoops,
    ir::{Hook, TableState},
};
use proptest::{collection::vec, prelude::*};

use crate::{
    interpreter::{Seen, faults, pass},
    world::{WORKLOADS, addr, deltas, interface, packet, world},
};

/// A configuration without walls that the oracle does not know.
pub(crate) fn open() -> RulesConfig {
    RulesConfig {
        allow_vxlan_from_workloads: true,
        allow_ipip_from_workloads: true,
        service_loops: ServiceLoops::Disabled,
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
    tables: &PerFamily<TableState>,
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

pub(crate) fn compile(d: &Desired, config: RulesConfig) -> PerFamily<TableState> {
    let mut compiler = Compiler::new(config);
    compiler.apply_all(&deltas(d));
    compiler.full_state()
}

proptest! {
    #![proptest_config(crate::world::cases(256))]

    #[test]
    fn tables_say_what_the_oracle_says(d in world(false), packets in vec(packet(), 16), reject: bool) {
        let deny = if reject { DenyAction::Reject } else { DenyAction::Drop };
        let mut d = d;
        d.host_endpoints.clear();
        let tables = compile(&d, RulesConfig { deny, ..open() });
        for (family, table) in tables.iter() {
            prop_assert_eq!(faults(table), Vec::<String>::new(), "{}", family);
        }
        check(&d, &tables, &packets, true)?;
    }

    #[test]
    fn a_missing_set_never_lets_more_through(d in world(true), packets in vec(packet(), 16)) {
        let mut d = d;
        d.host_endpoints.clear();
        let tables = compile(&d, open());
        check(&d, &tables, &packets, false)?;
    }
}

#[test]
fn an_empty_node_is_closed_for_workloads_and_open_for_others() {
    let tables = compile(&Desired::default(), open());
    for f in Family::BOTH {
        let a = addr(f, 1);
        let p = Packet::with_ports(a, a, Proto::TCP, 1, 2);
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

/// In tier `k` port `k` is allowed, `100 + k` denied, `200 + k` passed on; the profile allows 200 and 300.
fn long_list(tiers: u16) -> Desired {
    let rule = |action, port| {
        let mut rule = Rule::new(action);
        rule.protocol = Some(Proto::TCP);
        rule.dst.ports = [PortRange::single(port)].into();
        rule
    };
    let id = |k| PolicyId::global(PolicyKind::GlobalNetworkPolicy, &format!("p{k}"));
    let mut d = Desired::default();
    let mut lists = vec![];
    for k in 0..tiers {
        let rules = vec![
            rule(Action::Allow, k),
            rule(Action::Deny, 100 + k),
            rule(Action::Pass, 200 + k),
            rule(Action::Allow, 200 + k),
        ];
        d.apply(Delta::Policy(Arc::new(Policy {
            id: id(k),
            tier: TierName::default_tier(),
            ingress: rules,
            egress: vec![],
            untracked: false,
            pre_dnat: false,
        })));
        lists.push(TierPolicies {
            name: TierName::new(format!("tier{k}")).unwrap(),
            default_action: TierDefaultAction::Pass,
            ingress: vec![id(k)],
            egress: vec![],
        });
    }
    let name = ProfileName::new("open-for-300").unwrap();
    d.apply(Delta::Profile(Arc::new(Profile {
        name: name.clone(),
        ingress: vec![rule(Action::Allow, 300), rule(Action::Allow, 200)],
        egress: vec![],
    })));
    d.apply(Delta::Workload(Arc::new(WorkloadEndpoint {
        id: WorkloadId::new("ns", "w"),
        interface: interface(0).into(),
        container_id: "".into(),
        mac: None,
        addresses: PerFamily::new(|f| vec![Cidr::host(addr(f, 1))]),
        nats: vec![],
        allowed_sources: vec![],
        tiers: lists,
        profiles: vec![name],
        qos: None,
    })));
    d
}

#[test]
fn a_list_may_have_any_number_of_tiers() {
    for tiers in [1, 8, 9, 16, 17, 40] {
        let d = long_list(tiers);
        let tables = compile(&d, open());
        let ports = (0..tiers).flat_map(|k| [k, 100 + k, 200 + k]).chain([99, 300]);
        for (f, table) in tables.iter() {
            assert_eq!(faults(table), Vec::<String>::new(), "{tiers} tiers");
            for port in ports.clone() {
                let p = Packet::with_ports(addr(f, 9), addr(f, 1), Proto::TCP, 5, port);
                let (want, why) = judge(&d, "cali0", Direction::Ingress, &p);
                let fate = pass(
                    table,
                    Hook::Forward,
                    0,
                    &Seen::new(p, Some("eth0"), Some("cali0")),
                );
                assert_eq!(fate.accepted, want, "{tiers} tiers, port {port}: {why}, {fate:?}");
            }
        }
    }
}
