//! A step as the objects of a datastore.

use std::collections::BTreeSet;
use std::sync::Arc;

use caracal_api::{
    Foreign, Kind, ManifestObject, Object, ObjectMeta, Resource, TierSpec, default_resource, parse_value,
    policy_tier, validate, validate_tier_exists,
};
use caracal_convert::{
    Container, ContainerPort, Namespace, Pod as KubePod, PodIp, PodSpec, PodStatus, ServiceAccount, WepName,
};
use caracal_ids::WorkloadId;
use caracal_net::Family;
use serde_json::Value;

use super::mapping;
use super::table::{Pod, Step};

/// The tiers that always exist.
const FIXED_TIERS: [&str; 3] = ["kube-admin", "default", "kube-baseline"];

/// The interface in every pod.
pub(super) const INTERFACE: &str = "eth0";

/// The kinds that `Policies` may hold, beside Kubernetes' NetworkPolicy.
const KINDS: &[Kind] = &[
    Kind::Tier,
    Kind::NetworkPolicy,
    Kind::GlobalNetworkPolicy,
    Kind::StagedNetworkPolicy,
    Kind::StagedGlobalNetworkPolicy,
    Kind::StagedKubernetesNetworkPolicy,
    Kind::NetworkSet,
    Kind::GlobalNetworkSet,
    Kind::Profile,
];

pub(super) use crate::cluster::follow::{Objects, changes};

/// Reads a step's `Policies`; and says what is wrong with them.
pub(super) fn read(list: &[Value]) -> (Vec<Resource>, Vec<String>) {
    let mut objects: Vec<Resource> = Vec::new();
    let mut problems = Vec::new();
    for (i, value) in list.iter().enumerate() {
        match object(value) {
            Ok(o) if objects.iter().any(|other| other.key() == o.key()) => {
                problems.push(format!("Policies[{i}]: there are two objects {}", o.key()));
            }
            Ok(o) => objects.push(o),
            Err(why) => problems.push(format!("Policies[{i}]: {why}")),
        }
    }
    (objects, problems)
}

fn object(value: &Value) -> Result<Resource, String> {
    let mut resource = match parse_value("", value) {
        Ok(ManifestObject::Calico(resource)) => resource,
        Ok(ManifestObject::Foreign(foreign)) => from_kubernetes(&foreign)?,
        Err(e) => {
            let kind = e.kind.as_deref().unwrap_or("an object");
            let name = e.name.map(|n| format!(" {n:?}")).unwrap_or_default();
            return Err(with_problems(&format!("{kind}{name}"), &e.problems));
        }
    };
    let kind = resource.kind();
    if !KINDS.contains(&kind) {
        let allowed: Vec<&str> = KINDS.iter().map(|k| k.as_str()).collect();
        return Err(format!(
            "{}: an object of this kind is not part of a table; allowed are {} and NetworkPolicy of \
             networking.k8s.io/v1",
            resource.key(),
            allowed.join(", ")
        ));
    }
    let meta = resource.metadata_mut();
    if kind.namespaced() && meta.namespace.as_deref().is_none_or(str::is_empty) {
        meta.namespace = Some("default".to_owned());
    }
    // What a server wrote when the object was exported says nothing about a new one.
    meta.uid = None;
    meta.resource_version = None;
    default_resource(&mut resource);
    refuse(&resource)?;
    Ok(resource)
}

fn from_kubernetes(foreign: &Foreign) -> Result<Resource, String> {
    if foreign.api_version != "networking.k8s.io/v1" {
        return Err(format!(
            "{} {:?}: only objects of networking.k8s.io/v1 and projectcalico.org/v3 are allowed here",
            foreign.kind, foreign.metadata.name
        ));
    }
    let mut converted = caracal_convert::foreign(foreign).map_err(|e| e.to_string())?;
    converted
        .pop()
        .ok_or_else(|| format!("{} {:?} means nothing", foreign.kind, foreign.metadata.name))
}

fn with_problems<P: ToString>(what: &str, problems: &[P]) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    format!("{what}: {}", problems.join("; "))
}

fn refuse(resource: &Resource) -> Result<(), String> {
    let problems = validate(resource);
    if problems.is_empty() {
        return Ok(());
    }
    Err(with_problems(&resource.key().to_string(), &problems))
}

/// What is wrong with a step as a whole: with its namespaces and pods as objects, and with tiers that are missing.
pub(super) fn problems(step: &Step) -> Vec<String> {
    let made: BTreeSet<&str> = step
        .objects
        .iter()
        .filter(|o| o.kind() == Kind::Tier)
        .map(|o| o.metadata().name.as_str())
        .collect();
    let tiers = || FIXED_TIERS.into_iter().chain(made.iter().copied());
    let mut out = Vec::new();
    for o in step.objects.iter().filter(|o| policy_tier(o).is_some()) {
        let missing = validate_tier_exists(o, tiers());
        if !missing.is_empty() {
            out.push(with_problems(&o.key().to_string(), &missing));
        }
    }
    let given = |r: &Resource| step.objects.iter().any(|o| o.key() == r.key());
    for (name, made) in surroundings(step, Family::V4, &|_| "node") {
        match made {
            Ok(r) if given(&r) => out.push(format!(
                "Policies: {} is made for {name} already; use another name",
                r.key()
            )),
            Ok(r) => out.extend(refuse(&r).err().map(|e| format!("{name}: {e}"))),
            Err(why) => out.push(format!("{name}: {why}")),
        }
    }
    out
}

/// The name of a pod's endpoint.
pub(super) fn endpoint(pod: &Pod, node: &str) -> WorkloadId {
    let name = WepName::kubernetes(node, &pod.name, INTERFACE);
    WorkloadId::new(&pod.namespace, &name.to_string())
}

/// The objects of a step, with each pod on the node that `node_of` gives it.
pub(super) fn of_step<'a>(step: &'a Step, family: Family, node_of: &dyn Fn(&'a Pod) -> &'a str) -> Objects {
    let fixed = FIXED_TIERS.map(|name| {
        let mut tier: Resource = Object::new(name, TierSpec::default()).into();
        default_resource(&mut tier);
        tier
    });
    let around = surroundings(step, family, node_of).filter_map(|(_, made)| made.ok());
    let own = step.objects.iter().map(|o| mapping::object(o.clone(), family));
    // The table's own come last: they may say more about a tier.
    let all = fixed.into_iter().chain(around).chain(own);
    all.map(|r| (r.key(), Arc::new(r))).collect()
}

/// Profiles and endpoints, each with what it is made of.
fn surroundings<'a>(
    step: &'a Step,
    family: Family,
    node_of: &dyn Fn(&'a Pod) -> &'a str,
) -> impl Iterator<Item = (String, Result<Resource, String>)> {
    let namespaces = step.namespaces.iter().map(|(name, labels)| {
        let mut metadata = ObjectMeta::named(name);
        metadata.labels.clone_from(labels);
        let profile = caracal_convert::namespace(&Namespace { metadata });
        (format!("namespace {name}"), Ok(profile.into()))
    });
    let accounts: BTreeSet<_> = step
        .pods
        .iter()
        .map(|p| (p.namespace.as_str(), p.service_account.as_str()))
        .collect();
    let accounts = accounts.into_iter().map(|(namespace, name)| {
        let metadata = ObjectMeta::namespaced(namespace, name);
        let profile = caracal_convert::service_account(&ServiceAccount { metadata });
        (format!("service account {namespace}/{name}"), Ok(profile.into()))
    });
    let ports: Vec<ContainerPort> = step
        .ports()
        .into_iter()
        .map(|(name, port, protocol)| ContainerPort {
            name: name.to_owned(),
            protocol: protocol.to_string(),
            container_port: port.into(),
            ..ContainerPort::default()
        })
        .collect();
    let pods = step.pods.iter().map(|pod| {
        (
            format!("pod {}", pod.id()),
            workload(pod, &ports, family, node_of(pod)),
        )
    });
    let all: Vec<_> = namespaces.chain(accounts).chain(pods).collect();
    all.into_iter()
}

/// A pod as an endpoint, the way that Kubernetes' pods become one.
fn workload(pod: &Pod, ports: &[ContainerPort], family: Family, node: &str) -> Result<Resource, String> {
    let mut metadata = ObjectMeta::namespaced(&pod.namespace, &pod.name);
    metadata.labels.clone_from(&pod.labels);
    let container = Container {
        name: "responder".to_owned(),
        ports: ports.to_vec(),
    };
    let ip = mapping::address(pod.addr, family).to_string();
    let kube = KubePod {
        metadata,
        spec: PodSpec {
            node_name: node.to_owned(),
            service_account_name: pod.service_account.clone(),
            containers: vec![container],
            ..PodSpec::default()
        },
        status: PodStatus {
            phase: "Running".to_owned(),
            pod_ip: ip.clone(),
            pod_ips: vec![PodIp { ip }],
            ..PodStatus::default()
        },
    };
    let converted = caracal_convert::pod(&kube).ok_or("it is no endpoint")?;
    if converted.problems.is_empty() {
        Ok(converted.object.into())
    } else {
        Err(with_problems("ports", &converted.problems))
    }
}
