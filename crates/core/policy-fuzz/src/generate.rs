//! Random cases of a small world, so that things meet: few names, labels, addresses and ports.

mod network;
mod packets;
mod policies;
mod staged;

use std::collections::BTreeMap;

use caracal_api::{
    EndpointPort, GlobalNetworkSetSpec, HostEndpointSpec, NetworkSetSpec, Object, ProfileSpec, Protocol,
    Resource, TierDefaultAction, TierSpec, WorkloadEndpointSpec, WorkloadPort,
};
use caracal_net::Proto;
use caracal_oracle::{FailsafePort, Host, ToHost};
use caracal_update::{EndpointSlice, SliceKey, SlicePort, SliceUpdate};

use crate::{Case, NODE, rng::Rng};

pub(crate) const NAMESPACES: [&str; 2] = ["red", "blue"];
const ACCOUNTS: [&str; 3] = ["robot", "human", ""];
/// Addresses beyond the cluster, of network sets and of nobody.
pub(crate) const OUTSIDE: [&str; 8] = [
    "192.0.2.1",
    "192.0.2.77",
    "198.51.100.9",
    "203.0.113.5",
    "2001:db8::1",
    "2001:db8::77",
    "2001:db8:1::9",
    "2001:db8:2::5",
];
const NETS: [&str; 12] = [
    "192.0.2.0/24",
    "192.0.2.0/26",
    "198.51.100.9/32",
    "10.0.0.0/29",
    "10.0.0.4/30",
    "0.0.0.0/0",
    "2001:db8::/48",
    "2001:db8::/122",
    "fd00::/125",
    "fd00::4/126",
    "::/0",
    "10.0.0.0/8",
];
/// Pods of this node and of others: address number, interface.
pub(crate) const LOCAL: usize = 4;
const REMOTE: usize = 4;

pub(crate) fn nets(rng: &mut Rng, most: usize) -> Vec<String> {
    let mut nets = rng.some(most, |r| r.pick(&NETS).to_owned());
    // Both families in one list are refused by the API, but data may have been written behind its back.
    if let Some(first) = nets.first().cloned().filter(|_| rng.percent(80)) {
        nets.retain(|n| n.contains(':') == first.contains(':'));
    }
    nets.sort();
    nets.dedup();
    nets
}

fn labels(rng: &mut Rng) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut put = |k: &str, v: &str| labels.insert(k.to_owned(), v.to_owned());
    if rng.percent(70) {
        put("app", rng.pick(&["a", "b", "ab"]));
    }
    if rng.percent(40) {
        put("env", rng.pick(&["prod", "test"]));
    }
    if rng.percent(15) {
        put("extra", "");
    }
    labels
}

fn named(object: &mut Resource, labels: BTreeMap<String, String>) {
    object.metadata_mut().labels = labels;
}

/// The address of the pod with a number, in both families.
pub(crate) fn pod_address(n: usize) -> [String; 2] {
    [format!("10.0.0.{}", n + 1), format!("fd00::{:x}", n + 1)]
}

fn workload(rng: &mut Rng, n: usize) -> Resource {
    let namespace = rng.pick(&NAMESPACES);
    let account = rng.pick(&ACCOUNTS);
    let mut profiles = vec![format!("kns.{namespace}")];
    if !account.is_empty() {
        profiles.push(format!("ksa.{namespace}.{account}"));
    }
    if rng.percent(10) {
        profiles.insert(0, rng.pick(&["missing", "extra"]).to_owned());
    }
    if rng.percent(10) {
        profiles.clear();
    }
    let families = if rng.percent(85) {
        vec![0, 1]
    } else {
        vec![rng.below(2)]
    };
    // Now and then two share an address for a moment.
    let whose = if n >= LOCAL && rng.percent(10) { 0 } else { n };
    let port = |rng: &mut Rng| WorkloadPort {
        name: rng.pick(&["http", "dns"]).to_owned(),
        protocol: Protocol::Name(rng.pick(&["TCP", "UDP"]).to_owned()),
        port: rng.one(&[80, 81, 53]),
        host_port: 0,
        host_ip: String::new(),
    };
    let spec = WorkloadEndpointSpec {
        orchestrator: "k8s".into(),
        node: if n < LOCAL { NODE } else { "elsewhere" }.into(),
        interface_name: format!("cali{n}"),
        ip_networks: families.iter().map(|f| pod_address(whose)[*f].clone()).collect(),
        profiles,
        service_account_name: account.to_owned(),
        ports: rng.some(2, port),
        allow_spoofed_source_prefixes: if rng.percent(25) {
            vec!["192.0.2.0/26".into(), "2001:db8::/122".into()]
        } else {
            vec![]
        },
        ..WorkloadEndpointSpec::default()
    };
    let mut object: Resource = Object::namespaced(namespace, format!("pod-{n}"), spec).into();
    let mut labels = labels(rng);
    if rng.percent(10) {
        labels.insert("projectcalico.org/namespace".into(), "blue".into());
    }
    named(&mut object, labels);
    object
}

fn host_endpoint(rng: &mut Rng, n: usize) -> Resource {
    let interface = rng.pick(&["eth0", "eth0", "eth1", "*", "*", ""]);
    let spec = HostEndpointSpec {
        node: if rng.percent(95) { NODE } else { "elsewhere" }.into(),
        interface_name: interface.to_owned(),
        expected_ips: match interface {
            "" => vec![
                rng.pick(&["172.16.0.1", "172.16.1.1", "fd16::1", "fd16:1::1"])
                    .to_owned(),
            ],
            _ => rng.some(1, |r| r.pick(&["172.16.0.1", "fd16:1::1"]).to_owned()),
        },
        profiles: rng.some(1, |r| {
            r.pick(&["projectcalico-default-allow", "kns.red", "missing"])
                .to_owned()
        }),
        ports: rng.some(1, |r| EndpointPort {
            name: "http".into(),
            protocol: Protocol::Name("TCP".into()),
            port: r.one(&[80, 81]),
        }),
    };
    let mut object: Resource = Object::new(format!("host-{n}"), spec).into();
    named(&mut object, labels(rng));
    object
}

fn network_set(rng: &mut Rng, n: usize) -> Resource {
    let nets = nets(rng, 4);
    let name = format!("set-{n}");
    let mut object: Resource = if rng.percent(50) {
        Object::new(name, GlobalNetworkSetSpec { nets }).into()
    } else {
        Object::namespaced(rng.pick(&NAMESPACES), name, NetworkSetSpec { nets }).into()
    };
    named(&mut object, labels(rng));
    object
}

fn profiles(rng: &mut Rng, out: &mut Vec<Resource>) {
    let handed = |rng: &mut Rng, prefix: &str| {
        let mut labels = BTreeMap::new();
        if rng.percent(60) {
            labels.insert(format!("{prefix}team"), rng.pick(&["x", "y"]).to_owned());
        }
        if rng.percent(20) {
            labels.insert("app".into(), rng.pick(&["a", "b"]).to_owned());
        }
        labels
    };
    for namespace in NAMESPACES {
        if rng.percent(90) {
            let spec = ProfileSpec {
                ingress: policies::profile_rules(rng, true),
                egress: policies::profile_rules(rng, false),
                labels_to_apply: handed(rng, "pcns."),
            };
            out.push(Object::new(format!("kns.{namespace}"), spec).into());
        }
        for account in ["robot", "human"] {
            let spec = ProfileSpec {
                labels_to_apply: handed(rng, "pcsa."),
                ..ProfileSpec::default()
            };
            out.push(Object::new(format!("ksa.{namespace}.{account}"), spec).into());
        }
    }
    if rng.percent(50) {
        let spec = ProfileSpec {
            ingress: policies::profile_rules(rng, true),
            egress: policies::profile_rules(rng, false),
            labels_to_apply: handed(rng, ""),
        };
        out.push(Object::new("extra", spec).into());
    }
}

fn tiers(rng: &mut Rng, out: &mut Vec<Resource>) {
    let mut tier = |name: &str, order, rng: &mut Rng| {
        let any = rng.one(&[None, Some(TierDefaultAction::Deny), Some(TierDefaultAction::Pass)]);
        let default_action = any.filter(|_| name != "default");
        out.push(
            Object::new(
                name,
                TierSpec {
                    order,
                    default_action,
                },
            )
            .into(),
        );
    };
    tier("default", Some(1e6), rng);
    if rng.percent(70) {
        let order = rng.one(&[Some(10.0), Some(1e6), Some(2e6), None]);
        tier("early", order, rng);
    }
    if rng.percent(30) {
        tier("a-late", Some(1e7), rng);
    }
}

fn slices(rng: &mut Rng) -> Vec<SliceUpdate> {
    let count = if rng.percent(40) { 0 } else { 1 + rng.below(3) };
    let slice = |n: usize, rng: &mut Rng| {
        let address = |r: &mut Rng| {
            let n = r.below(LOCAL + REMOTE);
            r.one(&pod_address(n)).parse().ok()
        };
        let port = |r: &mut Rng| SlicePort {
            proto: r.one(&[Proto::TCP, Proto::UDP]),
            port: r.one(&[80, 81, 53]),
        };
        let value = EndpointSlice {
            service: rng.pick(&["web", "db"]).into(),
            addresses: rng.some(4, address).into_iter().flatten().collect(),
            ports: rng.some(2, port),
        };
        SliceUpdate {
            key: SliceKey {
                namespace: rng.pick(&NAMESPACES).into(),
                name: format!("slice-{n}").into(),
            },
            value: Some(value.into()),
        }
    };
    (0..count).map(|n| slice(n, rng)).collect()
}

fn host(rng: &mut Rng) -> Host {
    let failsafe = |rng: &mut Rng| {
        rng.some(1, |r| FailsafePort {
            proto: r.one(&[Proto::TCP, Proto::UDP]),
            port: r.one(&[80, 53]),
            net: r.one(&["", "192.0.2.0/26", "2001:db8::/122"]).parse().ok(),
        })
    };
    let of = |texts: [&str; 2]| texts.into_iter().filter_map(|t| t.parse().ok()).collect();
    Host {
        interfaces: BTreeMap::from([
            ("eth0".to_owned(), of(["172.16.0.1", "fd16::1"])),
            ("eth1".to_owned(), of(["172.16.1.1", "fd16:1::1"])),
        ]),
        workload_prefixes: vec!["cali".into()],
        failsafe_in: failsafe(rng),
        failsafe_out: failsafe(rng),
        to_host: rng.one(&[ToHost::Drop, ToHost::Accept, ToHost::Return]),
        bears_invalid: false,
        source_spoofing: false,
        bears_service_loops: false,
        openstack: None,
    }
}

impl Case {
    /// The case of a seed, with so many packets.
    #[must_use]
    pub fn random(seed: u64, packets: usize) -> Self {
        let mut rng = Rng::new(seed);
        let rng = &mut rng;
        let mut objects = Vec::new();
        tiers(rng, &mut objects);
        profiles(rng, &mut objects);
        objects.extend((0..LOCAL + REMOTE).map(|n| workload(rng, n)));
        let sets = rng.below(4);
        objects.extend((0..sets).map(|n| network_set(rng, n)));
        let hosts = if rng.percent(60) { 1 + rng.below(3) } else { 0 };
        objects.extend((0..hosts).map(|n| host_endpoint(rng, n)));
        policies::policies(rng, hosts > 0, &mut objects);
        // A local pod whose interface is there before it is known.
        if rng.percent(20) {
            let gone = objects
                .iter()
                .position(|o| matches!(o, Resource::WorkloadEndpoint(_)));
            gone.map(|at| objects.remove(at));
        }
        let mut case = Self {
            seed,
            objects,
            slices: slices(rng),
            host: Host {
                bears_invalid: seed % 2 == 1,
                source_spoofing: seed / 2 % 2 == 1,
                ..host(rng)
            },
            trips: Vec::new(),
        };
        network::complete(seed, &mut case);
        case.trips = (0..packets).map(|_| packets::trip(rng, &case)).collect();
        case
    }

    /// The case a step later: the same host and packets, but one to three objects are gone, new or different; now and then
    /// none. Endpoints of services stay as they are.
    #[must_use]
    pub fn next(&self, seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ self.seed.rotate_left(32));
        let other = Self::random(rng.next(), 0);
        let mut case = self.clone();
        for _ in 0..rng.below(4) {
            let gone = rng.below(case.objects.len());
            let new = rng.one(&other.objects);
            if rng.percent(30) && case.objects.len() > 1 {
                case.objects.remove(gone);
            } else {
                let key = new.key();
                // No two endpoints have one interface.
                let interface = |r: &Resource| match r {
                    Resource::WorkloadEndpoint(w) => Some(w.spec.interface_name.clone()),
                    _ => None,
                };
                let taken = |o: &Resource| {
                    o.key() != key && interface(o).is_some() && interface(o) == interface(&new)
                };
                if case.objects.iter().any(taken) {
                    continue;
                }
                match case.objects.iter_mut().find(|o| o.key() == key) {
                    Some(old) => *old = new,
                    None => case.objects.push(new),
                }
            }
        }
        // Translation of what may be untracked is for nobody to judge.
        if packets::has_untracked(&case) && case.trips.iter().any(|t| t.original.is_some()) {
            return self.clone();
        }
        case
    }
}
