use std::net::IpAddr;

use caracal_api::{FieldPath, IpNat, Object, Problem, Protocol, WorkloadEndpointSpec, WorkloadPort};
use caracal_net::{Cidr, Family};

use crate::{
    Container, ContainerPort, Converted, LABEL_NAMESPACE, LABEL_ORCHESTRATOR, LABEL_SERVICE_ACCOUNT,
    ORCHESTRATOR_KUBERNETES, Pod, WepName,
    error::problem,
    name::{namespace_profile, service_account_profile, veth_name},
    qos,
};

/// The interface inside the pod.
const ENDPOINT: &str = "eth0";
/// What precedes the host's side of a pod's veth pair.
const VETH_PREFIX: &str = "cali";

const POD_IP: &str = "cni.projectcalico.org/podIP";
const POD_IPS: &str = "cni.projectcalico.org/podIPs";
const AWS_POD_IPS: &str = "vpc.amazonaws.com/pod-ips";
const CONTAINER_ID: &str = "cni.projectcalico.org/containerID";
const FLOATING_IPS: &str = "cni.projectcalico.org/floatingIPs";
const SOURCE_PREFIXES: &str = "cni.projectcalico.org/allowedSourcePrefixes";

/// A pod as an endpoint; none if it uses its node's network, is not scheduled, or has ended.
#[must_use]
pub fn pod(pod: &Pod) -> Option<Converted<Object<WorkloadEndpointSpec>>> {
    if pod.spec.host_network || pod.spec.node_name.is_empty() || has_ended(pod) {
        return None;
    }
    let meta = &pod.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or("default");
    let account = &pod.spec.service_account_name;
    let mut problems = Vec::new();
    let addresses = addresses(pod, &mut problems);

    let mut profiles = vec![namespace_profile(namespace)];
    if !account.is_empty() {
        profiles.push(service_account_profile(namespace, account));
    }
    let spec = WorkloadEndpointSpec {
        orchestrator: ORCHESTRATOR_KUBERNETES.to_owned(),
        node: pod.spec.node_name.clone(),
        container_id: meta.annotations.get(CONTAINER_ID).cloned().unwrap_or_default(),
        pod: meta.name.clone(),
        endpoint: ENDPOINT.to_owned(),
        service_account_name: account.clone(),
        ip_networks: addresses.iter().map(ToString::to_string).collect(),
        ip_nats: floating_ips(pod, &addresses, &mut problems),
        profiles,
        interface_name: veth_name(VETH_PREFIX, namespace, &meta.name),
        ports: ports(pod, &mut problems),
        allow_spoofed_source_prefixes: source_prefixes(pod, &mut problems),
        qos_controls: qos::controls(&meta.annotations, &mut problems),
        ..WorkloadEndpointSpec::default()
    };
    let name = WepName::kubernetes(&pod.spec.node_name, &meta.name, ENDPOINT);
    let mut object = Object::namespaced(namespace, name.to_string(), spec);
    let labels = &mut object.metadata.labels;
    labels.clone_from(&meta.labels);
    // After the pod's own, so that no pod can claim another namespace or account.
    labels.insert(LABEL_NAMESPACE.to_owned(), namespace.to_owned());
    labels.insert(LABEL_ORCHESTRATOR.to_owned(), ORCHESTRATOR_KUBERNETES.to_owned());
    if account.is_empty() {
        labels.remove(LABEL_SERVICE_ACCOUNT);
    } else {
        labels.insert(LABEL_SERVICE_ACCOUNT.to_owned(), account.clone());
    }
    object.metadata.generate_name.clone_from(&meta.generate_name);
    object.metadata.uid.clone_from(&meta.uid);
    object
        .metadata
        .resource_version
        .clone_from(&meta.resource_version);
    object
        .metadata
        .creation_timestamp
        .clone_from(&meta.creation_timestamp);
    Some(Converted { object, problems })
}

/// Whether the pod's addresses may already belong to another.
fn has_ended(pod: &Pod) -> bool {
    if matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") {
        return true;
    }
    let released = pod.metadata.annotations.get(POD_IP).is_some_and(String::is_empty);
    let states = &pod.status.container_statuses;
    let all_terminated = !states.is_empty() && states.iter().all(|c| c.state.terminated.is_some());
    pod.metadata.deletion_timestamp.is_some() && (released || all_terminated)
}

/// The pod's addresses: from the CNI plugin's annotations, which come first in time, else from the status.
fn addresses(pod: &Pod, problems: &mut Vec<Problem>) -> Vec<Cidr> {
    let annotation = [POD_IPS, POD_IP, AWS_POD_IPS]
        .into_iter()
        .find_map(|key| Some((key, pod.metadata.annotations.get(key).filter(|v| !v.is_empty())?)));
    let texts: Vec<(FieldPath, &str)> = if let Some((key, list)) = annotation {
        let at = FieldPath::of("metadata.annotations").key(key);
        list.split(',').map(|text| (at.clone(), text.trim())).collect()
    } else if pod.status.pod_ips.is_empty() {
        let ip = pod.status.pod_ip.as_str();
        if ip.is_empty() {
            Vec::new()
        } else {
            vec![(FieldPath::of("status.podIP"), ip)]
        }
    } else {
        let at = FieldPath::of("status.podIPs");
        let ips = pod.status.pod_ips.iter().enumerate();
        ips.map(|(i, ip)| (at.index(i).key("ip"), ip.ip.as_str()))
            .collect()
    };
    let mut out = Vec::new();
    for (at, text) in texts {
        match text.parse::<Cidr>() {
            Ok(cidr) if cidr.is_host() => out.push(cidr),
            Ok(cidr) => problems.push(problem(&at, format!("{cidr} is a range, not an address"))),
            Err(e) => problems.push(problem(&at, e.to_string())),
        }
    }
    out
}

/// A list of texts in an annotation, as JSON.
fn json_list(pod: &Pod, key: &str, example: &str, problems: &mut Vec<Problem>) -> (FieldPath, Vec<String>) {
    let at = FieldPath::of("metadata.annotations").key(key);
    let list = match pod.metadata.annotations.get(key).filter(|v| !v.trim().is_empty()) {
        None => Vec::new(),
        Some(text) => serde_json::from_str(text).unwrap_or_else(|e| {
            problems.push(problem(
                &at,
                format!("not a list of strings in JSON, for example {example}: {e}"),
            ));
            Vec::new()
        }),
    };
    (at, list)
}

fn floating_ips(pod: &Pod, addresses: &[Cidr], problems: &mut Vec<Problem>) -> Vec<IpNat> {
    let (at, list) = json_list(pod, FLOATING_IPS, "[\"192.0.2.1\"]", problems);
    let mut out = Vec::new();
    for text in list {
        let Ok(external) = text.parse::<IpAddr>() else {
            problems.push(problem(&at, format!("{text:?} is not an address")));
            continue;
        };
        match addresses.iter().find(|a| a.family() == Family::of(external)) {
            Some(internal) => out.push(IpNat {
                internal_ip: internal.addr().to_string(),
                external_ip: external.to_string(),
            }),
            None => problems.push(problem(
                &at,
                format!("the pod has no address of {external}'s family"),
            )),
        }
    }
    out
}

fn source_prefixes(pod: &Pod, problems: &mut Vec<Problem>) -> Vec<String> {
    let (at, list) = json_list(pod, SOURCE_PREFIXES, "[\"192.0.2.0/24\"]", problems);
    let mut out = Vec::new();
    for text in list {
        match text.parse::<Cidr>() {
            Ok(cidr) => out.push(cidr.to_string()),
            Err(e) => problems.push(problem(&at, e.to_string())),
        }
    }
    out
}

/// The ports that policy can name or that lead in from the host.
fn ports(pod: &Pod, problems: &mut Vec<Problem>) -> Vec<WorkloadPort> {
    let mut out = Vec::new();
    let mut add = |containers: &[Container], field: &str| {
        let at = FieldPath::of("spec").key(field);
        for (i, container) in containers.iter().enumerate() {
            for (n, port) in container.ports.iter().enumerate() {
                if port.name.is_empty() && port.host_port == 0 {
                    continue;
                }
                match workload_port(port, &at.index(i).key("ports").index(n)) {
                    Ok(port) => out.push(port),
                    Err(p) => problems.push(p),
                }
            }
        }
    };
    add(&pod.spec.containers, "containers");
    add(&pod.spec.init_containers, "initContainers");
    out
}

fn workload_port(port: &ContainerPort, at: &FieldPath) -> Result<WorkloadPort, Problem> {
    let protocol = match port.protocol.as_str() {
        "" => "TCP",
        known @ ("TCP" | "UDP" | "SCTP") => known,
        other => {
            let message = format!("{other:?} is not allowed here; allowed are TCP, UDP, SCTP");
            return Err(problem(&at.key("protocol"), message));
        }
    };
    let number = |n: i64, field: &str| {
        u16::try_from(n).map_err(|_| problem(&at.key(field), format!("{n} is not a port: 1 to 65535")))
    };
    let container_port = number(port.container_port, "containerPort")?;
    if container_port == 0 {
        return Err(problem(&at.key("containerPort"), "0 is not a port: 1 to 65535"));
    }
    Ok(WorkloadPort {
        name: port.name.clone(),
        protocol: Protocol::Name(protocol.to_owned()),
        port: container_port,
        host_port: number(port.host_port, "hostPort")?,
        host_ip: port.host_ip.clone(),
    })
}
