//! What objects and hosts say of the network beside policy: addresses of services, OpenStack.

use std::net::Ipv4Addr;

use caracal_api::{BgpConfigurationSpec, Object, Resource, ServiceIpBlock};
use caracal_oracle::{Host, OpenStack};

use crate::{Case, NODE, rng::Rng};

/// Ranges that packets go to: strangers, pods of other nodes, pods of this one, the host.
const SERVICES: [&str; 10] = [
    "192.0.2.64/26",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "10.0.0.6/31",
    "172.16.1.0/24",
    "2001:db8::77/128",
    "2001:db8:1::/48",
    "2001:db8:2::/48",
    "fd00::6/127",
    "fd16:1::/64",
];

/// What a case says beside its policies. It draws from numbers of its own: what is random elsewhere stays as it is.
pub(super) fn complete(seed: u64, case: &mut Case) {
    let mut rng = Rng::new(seed ^ 0x5e41_1ce5);
    let rng = &mut rng;
    for (name, percent) in [
        ("default".to_owned(), 35),
        (format!("node.{NODE}"), 15),
        ("other".to_owned(), 5),
    ] {
        if rng.percent(percent) {
            case.objects.push(configuration(rng, &name));
        }
    }
    case.host = Host {
        bears_service_loops: rng.percent(20),
        openstack: rng.percent(25).then(|| OpenStack {
            metadata: rng.percent(60).then_some((Ipv4Addr::new(172, 16, 0, 1), 80)),
        }),
        ..case.host.clone()
    };
}

fn configuration(rng: &mut Rng, name: &str) -> Resource {
    let mut blocks = || {
        let block = |r: &mut Rng| ServiceIpBlock {
            cidr: if r.percent(10) { "" } else { r.pick(&SERVICES) }.to_owned(),
        };
        rng.some(1, block)
    };
    let spec = BgpConfigurationSpec {
        service_cluster_ips: blocks(),
        service_external_ips: blocks(),
        service_load_balancer_ips: blocks(),
        ..BgpConfigurationSpec::default()
    };
    Object::new(name, spec).into()
}
