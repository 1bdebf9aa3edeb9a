//! Random clusters: what `why` says of a packet between two workloads is what a reference says that reads the objects
//! alone.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use caracal_api::{Kind, Resource};
use caracal_net::Proto;
use caracal_oracle::{Trip, Way};
use caracal_policy_fuzz::{Case, Reference};
use caracal_query::why_with;
use caracal_store::Store;
use caracal_store_memory::MemoryStore;
use serde_json::json;

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

/// The endpoints of the services, as a datastore has them: a slice for each family.
fn slices(case: &Case) -> Vec<Resource> {
    let mut all = Vec::new();
    for update in &case.slices {
        let Some(value) = &update.value else {
            continue;
        };
        for (family, is_ipv4) in [("IPv4", true), ("IPv6", false)] {
            let own = value.addresses.iter().filter(|a| a.is_ipv4() == is_ipv4);
            let endpoints: Vec<_> = own.map(|a| json!({"addresses": [a.to_string()]})).collect();
            let ports = value.ports.iter();
            let ports: Vec<_> = ports
                .map(|p| json!({"protocol": p.proto.to_string(), "port": p.port}))
                .collect();
            let name = format!("{}-{}", update.key.name, family.to_lowercase());
            let object = json!({
                "metadata": {"namespace": update.key.namespace.to_string(), "name": name,
                             "labels": {"kubernetes.io/service-name": value.service.to_string()}},
                "spec": {"addressType": family, "endpoints": endpoints, "ports": ports},
            });
            all.push(Resource::from_value(Kind::KubernetesEndpointSlice, object).expect("a slice"));
        }
    }
    all
}

/// The first seed, and how many: by day the same, each night others and more of them, or as told.
fn seeds() -> (u64, u64) {
    let night = std::env::var_os("CARACAL_NIGHTLY").is_some();
    let told = std::env::var("CARACAL_SEED").ok().and_then(|t| t.parse().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let days = now.map_or(0, |t| t.as_secs() / 86_400);
    let first = told.unwrap_or(if night { days * 1000 } else { 1 });
    (first, if night { 600 } else { 120 })
}

#[test]
fn why_says_what_the_objects_say() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let (mut asked, mut allowed) = (0, 0);
    let (first, many) = seeds();
    println!("CARACAL_SEED={first}, {many} of them");
    for seed in first..first + many {
        let case = Case::random(seed, 60).in_force().into_owned();
        // Ports that hosts keep open, and what is before routing, are settings of the case's host.
        let is_global = |o: &Resource| matches!(o, Resource::HostEndpoint(h) if h.spec.interface_name == "*");
        if case.objects.iter().any(is_global) {
            continue;
        }
        let store = Arc::new(MemoryStore::etcd());
        for object in case.objects.iter().cloned().chain(slices(&case)) {
            runtime.block_on(store.create(object)).expect("a good object");
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
