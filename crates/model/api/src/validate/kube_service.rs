use crate::{
    KubernetesEndpointSliceSpec, KubernetesServiceSpec, LiveMigrationSpec, Protocol, validate::check::Check,
};

fn protocol(c: &mut Check, name: &str) {
    if Protocol::Name(name.to_owned())
        .proto()
        .is_none_or(|p| !p.has_ports())
    {
        c.field("protocol", |c| {
            c.fail_allowed(name, "is no protocol of services", "TCP, UDP, SCTP");
        });
    }
}

fn addresses<'a>(c: &mut Check, key: &str, texts: impl IntoIterator<Item = &'a String>) {
    for text in texts {
        if text.parse::<std::net::IpAddr>().is_err() {
            c.fail_at(key, text, "is not an address");
        }
    }
}

pub(super) fn service(c: &mut Check, spec: &KubernetesServiceSpec) {
    let own = |t: &&String| !t.is_empty() && *t != "None";
    addresses(c, "clusterIP", Some(&spec.cluster_ip).filter(own));
    addresses(c, "clusterIPs", spec.cluster_ips.iter().filter(own));
    addresses(c, "externalIPs", &spec.external_ips);
    c.each("ports", &spec.ports, |c, port| {
        if !port.protocol.is_empty() {
            protocol(c, &port.protocol);
        }
        c.bounds("port", i64::from(port.port), 1, 65_535);
        if let Some(crate::IntOrString::Int(n)) = port.target_port {
            // Kubernetes writes 0 for "the same".
            c.bounds("targetPort", n, 0, 65_535);
        }
    });
}

pub(super) fn slice(c: &mut Check, spec: &KubernetesEndpointSliceSpec) {
    if !spec.address_type.is_empty() {
        c.one_of("addressType", &spec.address_type, &["IPv4", "IPv6", "FQDN"]);
    }
    c.each("ports", &spec.ports, |c, port| {
        if let Some(name) = port.protocol.as_deref().filter(|n| !n.is_empty()) {
            protocol(c, name);
        }
        if let Some(n) = port.port {
            c.bounds("port", n, 1, 65_535);
        }
    });
}

pub(super) fn live_migration(c: &mut Check, spec: &LiveMigrationSpec) {
    if let Some(source) = &spec.source {
        one(
            c,
            "Source",
            "Workload",
            [source.workload.is_some(), source.workload_endpoint.is_some()],
        );
    }
    if let Some(target) = &spec.target {
        one(
            c,
            "Target",
            "Selector",
            [target.selector.is_some(), target.workload_endpoint.is_some()],
        );
        if let Some(selector) = &target.selector {
            c.field("Target", |c| c.plain_selector("Selector", selector));
        }
    }
}

fn one(c: &mut Check, key: &str, first: &str, given: [bool; 2]) {
    if given[0] == given[1] {
        c.fail_at(
            key,
            "",
            format!("exactly one of {first} and WorkloadEndpoint says who it is"),
        );
    }
}
