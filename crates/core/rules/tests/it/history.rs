//! Whatever the way to a state, the tables are those of the state; and the deltas lead there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use caracal_desired::{Delta, Desired};
use caracal_net::{Family, PerFamily, Proto};
use caracal_rules::{
    Compiler, DenyAction, Failsafe, HostAction, RulesConfig,
    ir::{TableDelta, TableState},
};
use proptest::{collection::vec, prelude::*};

use crate::{
    interpreter::faults,
    world::{
        HOST_ENDPOINTS, NODES, POLICIES, POOLS, PROFILES, SETS, WORKLOADS, deltas, host_endpoint_name,
        interfaces, node, policy_id, pool_cidr, profile_name, set_id, workload_id, world,
    },
};

/// Something to change, and the world to take its new state from.
#[derive(Debug, Clone)]
enum Step {
    Set(usize, usize, bool),
    Policy(usize, usize),
    Profile(usize, usize),
    Workload(usize, usize),
    HostEndpoint(usize, usize),
    Interface(usize, BTreeMap<String, BTreeSet<IpAddr>>),
    Node(usize, usize),
    Pool(usize, usize),
    Config(usize),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let w = 0..WORLDS;
    prop_oneof![
        4 => (0..SETS, w.clone(), any::<bool>()).prop_map(|(n, w, whole)| Step::Set(n, w, whole)),
        4 => (0..POLICIES, w.clone()).prop_map(|(n, w)| Step::Policy(n, w)),
        2 => (0..PROFILES, w.clone()).prop_map(|(n, w)| Step::Profile(n, w)),
        4 => (0..WORKLOADS, w.clone()).prop_map(|(n, w)| Step::Workload(n, w)),
        2 => (0..HOST_ENDPOINTS, w.clone()).prop_map(|(n, w)| Step::HostEndpoint(n, w)),
        1 => (0..4usize, interfaces()).prop_map(|(n, i)| Step::Interface(n, i)),
        1 => (0..NODES, w.clone()).prop_map(|(n, w)| Step::Node(n, w)),
        1 => (0..POOLS, w).prop_map(|(n, w)| Step::Pool(n, w)),
        1 => (0..4usize).prop_map(Step::Config),
        4 => Just(Step::Flush),
    ]
}

const WORLDS: usize = 3;

fn config(n: usize) -> RulesConfig {
    let mut c = RulesConfig {
        ipvs_mark: (n != 1).then_some(0x00fe_0000),
        ..RulesConfig::default()
    };
    match n {
        1 => {
            c.deny = DenyAction::Reject;
            c.failsafe_out = failsafe();
        }
        2 => {
            c.endpoint_to_host = HostAction::Return;
            c.nat_spares_hosts = true;
            c.interface_prefixes = vec!["cali".into(), "tap".into(), "much-too-long-for-a-name".into()];
        }
        3 => {
            c.log_prefix = "%t %n".into();
            c.drop_invalid = false;
            c.failsafe_in = failsafe();
            c.vxlan = PerFamily {
                v4: Some(true),
                v6: Some(false),
            };
        }
        _ => {}
    }
    c
}

fn failsafe() -> Vec<Failsafe> {
    let of = |proto, port, net: Option<&str>| Failsafe {
        proto,
        port,
        net: net.map(|n| n.parse().unwrap()),
    };
    vec![
        of(Proto::TCP, 5, None),
        of(Proto::UDP, 6, Some("10.0.0.0/29")),
        of(Proto::TCP, 7, Some("fd00::/125")),
    ]
}

fn deltas_of(step: &Step, now: &Desired, worlds: &[Desired]) -> Vec<Delta> {
    match *step {
        Step::Set(n, w, whole) => {
            let id = set_id(n);
            match (now.ip_sets.get(&id), worlds[w].ip_sets.get(&id)) {
                (Some(old), Some(new)) if !whole => {
                    let added = new.members.difference(&old.members).copied().collect();
                    let removed = old.members.difference(&new.members).copied().collect();
                    vec![Delta::IpSetMembers { id, added, removed }]
                }
                (_, Some(new)) => vec![Delta::IpSet(id, new.clone())],
                (_, None) => vec![Delta::IpSetGone(id)],
            }
        }
        Step::Policy(n, w) => {
            let id = policy_id(n);
            let new = worlds[w].policies.get(&id).map(|p| Delta::Policy(Arc::clone(p)));
            vec![new.unwrap_or(Delta::PolicyGone(id))]
        }
        Step::Profile(n, w) => {
            let name = profile_name(n);
            let new = worlds[w]
                .profiles
                .get(&name)
                .map(|p| Delta::Profile(Arc::clone(p)));
            vec![new.unwrap_or(Delta::ProfileGone(name))]
        }
        Step::Workload(n, w) => {
            let id = workload_id(n);
            let new = worlds[w]
                .workloads
                .get(&id)
                .map(|p| Delta::Workload(Arc::clone(p)));
            vec![new.unwrap_or(Delta::WorkloadGone(id))]
        }
        Step::HostEndpoint(n, w) => {
            let name = host_endpoint_name(n);
            let new = worlds[w].host_endpoints.get(&name);
            let new = new.map(|p| Delta::HostEndpoint(Arc::clone(p)));
            vec![new.unwrap_or(Delta::HostEndpointGone(name))]
        }
        Step::Node(n, w) => {
            let node = node(n);
            let host = worlds[w].hosts.get(&node).map(|h| Delta::Host(h.clone()));
            let vtep = worlds[w].vteps.get(&node).map(|v| Delta::Vtep(v.clone()));
            vec![
                host.unwrap_or(Delta::HostGone(node.clone())),
                vtep.unwrap_or(Delta::VtepGone(node)),
            ]
        }
        Step::Pool(n, w) => {
            let cidr = pool_cidr(n);
            let new = worlds[w].pools.get(&cidr).map(|p| Delta::Pool(p.clone()));
            let services = Delta::ServiceCidrs(worlds[w].service_cidrs.clone());
            vec![new.unwrap_or(Delta::PoolGone(cidr)), services]
        }
        Step::Config(_) | Step::Flush | Step::Interface(..) => vec![],
    }
}

/// Deltas must say something: nothing is put that is there already, nothing removed that is not.
fn fold(table: &mut TableState, deltas: Vec<TableDelta>) -> Result<(), TestCaseError> {
    for delta in deltas {
        match &delta {
            TableDelta::PutChain(name, chain) => {
                prop_assert!(table.chains.get(name) != Some(chain), "{name} is so already");
            }
            TableDelta::RemoveChain(name) => prop_assert!(table.chains.contains_key(name)),
            TableDelta::RemoveSet(name) => prop_assert!(table.sets.contains_key(name)),
            TableDelta::PutSet(name, def) => {
                prop_assert!(
                    table.sets.get(name).is_none_or(|s| s.def != *def),
                    "{name} is there"
                );
            }
            TableDelta::AddElements(name, elements) => {
                let set = &table.sets[name];
                for (key, element) in elements {
                    prop_assert!(
                        set.elements.get(key) != Some(element),
                        "{key} is in {name} already"
                    );
                }
            }
            TableDelta::DeleteElements(name, keys) => {
                let set = &table.sets[name];
                for key in keys {
                    prop_assert!(set.elements.contains_key(key), "{key} is not in {name}");
                }
            }
            TableDelta::ReplaceElements(..) => {}
            TableDelta::PutCounter(name) => prop_assert!(!table.counters.contains(name)),
            TableDelta::RemoveCounter(name) => prop_assert!(table.counters.contains(name)),
        }
        prop_assert_eq!(table.apply(delta), Ok(()));
    }
    prop_assert_eq!(faults(table), Vec::<String>::new());
    Ok(())
}

proptest! {
    #![proptest_config(crate::world::cases(200))]

    #[test]
    fn deltas_lead_to_what_scratch_makes(
        worlds in vec(world(true), WORLDS),
        steps in vec(step(), 1..60),
    ) {
        let (mut now, mut used) = (worlds[0].clone(), 0);
        let mut links = BTreeMap::new();
        let mut compiler = Compiler::new(config(0));
        compiler.apply_all(&deltas(&now));
        let mut folded = PerFamily::<TableState>::default();
        for step in steps.iter().chain([&Step::Flush]) {
            for delta in deltas_of(step, &now, &worlds) {
                compiler.apply(&delta);
                now.apply(delta);
            }
            match step {
                Step::Interface(n, all) => {
                    let name = ["eth0", "eth1", "cali1", "kube-ipvs0"][*n];
                    // An interface without an address has gone.
                    let now = all.get(name).or(all.get("eth0"));
                    let now = now.filter(|a| !a.is_empty()).cloned();
                    match &now {
                        Some(a) => links.insert(name, a.clone()),
                        None => links.remove(name),
                    };
                    compiler.set_interface(name, now);
                }
                Step::Config(n) => {
                    used = *n;
                    compiler.set_config(config(used));
                }
                Step::Flush => {
                    let changes = compiler.flush();
                    for (family, table) in folded.iter_mut() {
                        fold(table, changes.get(family).clone())?;
                    }
                }
                _ => {}
            }
        }
        let mut scratch = Compiler::new(config(used));
        let mut all = deltas(&now);
        all.reverse();
        scratch.apply_all(&all);
        for (name, addresses) in links {
            scratch.set_interface(name, Some(addresses));
        }
        let fresh = scratch.full_state();
        for family in Family::BOTH {
            prop_assert_eq!(folded.get(family), fresh.get(family), "{}", family);
        }
        prop_assert_eq!(compiler.full_state(), fresh);
        for (family, changes) in compiler.flush().iter() {
            prop_assert!(changes.is_empty(), "{family}: {changes:?}");
        }
    }
}
