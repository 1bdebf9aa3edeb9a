//! What must hold of every flush, whatever happened before.

use caracal_desired::{Delta, Desired, Rule};
use caracal_ids::IpSetId;

/// The place of a delta in the order of a flush.
fn stage(delta: &Delta) -> u8 {
    match delta {
        Delta::IpSet(..) | Delta::IpSetMembers { .. } => 0,
        Delta::Policy(_) => 1,
        Delta::Profile(_) => 2,
        Delta::Workload(_) | Delta::HostEndpoint(_) => 3,
        Delta::WorkloadGone(_) | Delta::HostEndpointGone(_) => 4,
        Delta::PolicyGone(_) => 5,
        Delta::ProfileGone(_) => 6,
        Delta::IpSetGone(_) => 7,
        Delta::Invalid(_) | Delta::Valid(_) => 8,
        other => panic!("the policy engine does not own {other:?}"),
    }
}

/// Every set that a rule names.
pub(crate) fn sets_of(rule: &Rule) -> impl Iterator<Item = &IpSetId> {
    [&rule.src, &rule.dst].into_iter().flat_map(|s| {
        let lists = [
            &s.ip_sets,
            &s.not_ip_sets,
            &s.named_ports,
            &s.not_named_ports,
            &s.ip_port_sets,
        ];
        lists.into_iter().flatten()
    })
}

fn all_rules(desired: &Desired) -> impl Iterator<Item = &Rule> {
    let policies = desired
        .policies
        .values()
        .flat_map(|p| p.ingress.iter().chain(&p.egress));
    let profiles = desired
        .profiles
        .values()
        .flat_map(|p| p.ingress.iter().chain(&p.egress));
    policies.chain(profiles)
}

/// Nothing refers to what is not there.
fn whole(desired: &Desired) {
    for set in all_rules(desired).flat_map(sets_of) {
        assert!(
            desired.ip_sets.contains_key(set),
            "a rule names {set}, which is not there"
        );
    }
    let workloads = desired.workloads.values().flat_map(|w| w.tiers.iter());
    let hosts = desired.host_endpoints.values().flat_map(|h| {
        [&h.tiers, &h.untracked, &h.pre_dnat, &h.forward]
            .into_iter()
            .flatten()
    });
    for id in workloads
        .chain(hosts)
        .flat_map(|t| t.ingress.iter().chain(&t.egress))
    {
        assert!(
            desired.policies.contains_key(id),
            "an endpoint names {id}, which is not there"
        );
    }
    let workloads = desired.workloads.values().flat_map(|w| &w.profiles);
    let hosts = desired.host_endpoints.values().flat_map(|h| &h.profiles);
    for name in workloads.chain(hosts) {
        assert!(
            desired.profiles.contains_key(name),
            "an endpoint names {name}, which is not there"
        );
    }
}

/// Folds the deltas of a flush into `desired`; after every single one, everything must be whole, and the delta must
/// have said something new.
pub(crate) fn fold(desired: &mut Desired, deltas: Vec<Delta>) {
    let mut last = 0;
    for delta in deltas {
        assert!(stage(&delta) >= last, "{delta:?} comes too late");
        last = stage(&delta);
        if let Delta::IpSetMembers { id, added, removed } = &delta {
            let members = &desired.ip_sets.get(id).expect("members of a known set").members;
            assert!(
                added.iter().all(|m| !members.contains(m)),
                "{id}: added what was there"
            );
            assert!(
                removed.iter().all(|m| members.contains(m)),
                "{id}: removed what was not there"
            );
            assert!(!added.is_empty() || !removed.is_empty());
        }
        let before = desired.clone();
        let text = format!("{delta:?}");
        desired.apply(delta);
        assert!(*desired != before, "{text} says nothing new");
        whole(desired);
    }
    let needed: std::collections::BTreeSet<&IpSetId> = all_rules(desired).flat_map(sets_of).collect();
    assert_eq!(
        needed.len(),
        desired.ip_sets.len(),
        "sets that no rule names are left"
    );
}
