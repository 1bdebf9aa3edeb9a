//! Random clusters: what `why` says of a packet between two workloads is what a reference says that reads the objects
//! alone.

use std::net::IpAddr;
use std::sync::Arc;

use caracal_api::Resource;
use caracal_net::Proto;
use caracal_oracle::{Trip, Way};
use caracal_policy_fuzz::{Case, Reference};
use caracal_query::why_with;
use caracal_store::Store;
use caracal_store_memory::MemoryStore;

use crate::rig::run_over;

/// The only workload that has the address, by its interface.
fn owner(case: &Case, address: IpAddr) -> Option<&str> {
    let has = |nets: &[String]| {
        nets.iter()
            .any(|n| n.split('/').next() == Some(address.to_string().as_str()))
    };
    let mut owners = case.objects.iter().filter_map(|o| match o {
        Resource::WorkloadEndpoint(w) if has(&w.spec.ip_networks) => Some(w.spec.interface_name.as_str()),
        _ => None,
    });
    owners.next().filter(|_| owners.next().is_none())
}

/// The packet as a question, where it is one between two workloads.
fn question(case: &Case, trip: &Trip) -> Option<Vec<String>> {
    let Way::Forward { from, to } = &trip.way else {
        return None;
    };
    let p = &trip.packet;
    if trip.original.is_some() || trip.spoofed || from == to {
        return None;
    }
    if owner(case, p.src) != Some(from.as_str()) || owner(case, p.dst) != Some(to.as_str()) {
        return None;
    }
    let traffic = match (p.proto, p.icmp) {
        (Proto::ICMP | Proto::ICMPV6, Some((t, c))) => format!("icmp/{t}/{c}"),
        (Proto::ICMP | Proto::ICMPV6, None) => return None,
        (proto, _) if proto.has_ports() => format!("{}/{proto}", p.dport),
        (proto, _) => format!("proto/{}", proto.0),
    };
    let sport = p.sport.to_string();
    let words = [
        &p.src.to_string(),
        &p.dst.to_string(),
        &traffic,
        "--source-port",
        &sport,
        "--kernel",
        "never",
    ];
    Some(words.map(str::to_owned).to_vec())
}

#[test]
fn why_says_what_the_objects_say() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let (mut asked, mut allowed) = (0, 0);
    for seed in 1..=120 {
        let case = Case::random(seed, 60).in_force().into_owned();
        // Ports that hosts keep open, and what is before routing, are settings of the case's host.
        let is_global = |o: &Resource| matches!(o, Resource::HostEndpoint(h) if h.spec.interface_name == "*");
        if case.objects.iter().any(is_global) {
            continue;
        }
        let store = Arc::new(MemoryStore::etcd());
        for object in &case.objects {
            runtime
                .block_on(store.create(object.clone()))
                .expect("a good object");
        }
        let reference = Reference::new(&case, None);
        for trip in &case.trips {
            let Some(words) = question(&case, trip) else {
                continue;
            };
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let done = run_over(why_with, &words, "", Some(store.clone()));
            let wanted = i32::from(!reference.allows(trip));
            assert_eq!(
                done.code, wanted,
                "seed {seed}: {words:?}\n{}{}",
                done.errors, done.output
            );
            asked += 1;
            allowed += 1 - wanted;
        }
    }
    assert!(
        asked > 50 && allowed > 5 && asked - allowed > 5,
        "{asked} asked, {allowed} allowed"
    );
}
