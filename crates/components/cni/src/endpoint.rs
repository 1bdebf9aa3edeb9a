//! The endpoint object of a workload.

use std::net::IpAddr;

use caracal_api::{Action, EntityRule, Object, ProfileSpec, Rule, WorkloadEndpointSpec};
use caracal_net::{Cidr, Family, IfAddr};

use crate::{annotations::Annotations, error::CniError, identity::Identity, netconf::NetConf};

/// The annotation with the name of the network that an endpoint was made for, by which GC knows its own.
pub(crate) const NETWORK: &str = "cni.caracal/network";

/// The endpoint that ADD writes; `revision` is that of the one it replaces.
pub(crate) fn endpoint(
    id: &Identity,
    conf: &NetConf,
    addresses: &[IfAddr],
    revision: Option<String>,
) -> Result<Object<WorkloadEndpointSpec>, CniError> {
    let plain: Vec<_> = addresses.iter().map(|a| a.addr).collect();
    let extras = Annotations::of(conf).extras(conf, &plain)?;
    let spec = WorkloadEndpointSpec {
        orchestrator: id.orchestrator().to_owned(),
        workload: if id.pod.is_none() {
            id.container_id.clone()
        } else {
            String::new()
        },
        node: id.node.to_string(),
        container_id: id.container_id.clone(),
        pod: id.pod.as_ref().map(|(_, name)| name.clone()).unwrap_or_default(),
        endpoint: id.ifname.clone(),
        service_account_name: id.service_account.clone(),
        ip_networks: addresses.iter().map(|a| Cidr::host(a.addr).to_string()).collect(),
        profiles: id.profiles(),
        interface_name: id.host_interface(),
        mac: id.mac().to_string(),
        ports: conf.args.cni.ports.clone(),
        ip_nats: extras.ip_nats,
        allow_spoofed_source_prefixes: extras.source_prefixes,
        qos_controls: extras.qos,
        ..WorkloadEndpointSpec::default()
    };
    let mut object = Object::namespaced(id.namespace(), id.endpoint_name(), spec);
    let own = conf
        .args
        .cni
        .labels
        .iter()
        .map(|l| (l.key.clone(), l.value.clone()));
    object.metadata.labels = own.collect();
    // After the workload's own, so that none can claim another namespace or account.
    if id.service_account.is_empty() {
        object
            .metadata
            .labels
            .remove(caracal_convert::LABEL_SERVICE_ACCOUNT);
    }
    object.metadata.labels.extend(id.labels());
    object
        .metadata
        .annotations
        .insert(NETWORK.to_owned(), id.network.clone());
    object.metadata.resource_version = revision;
    Ok(object)
}

/// Whether something in the endpoint beside its addresses follows from them.
pub(crate) fn needs_addresses(conf: &NetConf) -> Result<bool, CniError> {
    let some = [IpAddr::from([0, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    Ok(!Annotations::of(conf).extras(conf, &some)?.ip_nats.is_empty())
}

/// The profile of containers that are no pods: members of the network reach each other, and everything from inside.
pub(crate) fn network_profile(network: &str) -> Object<ProfileSpec> {
    let mut from_members = Rule::new(Action::Allow);
    from_members.source = EntityRule {
        selector: format!("has({network})"),
        ..EntityRule::default()
    };
    let spec = ProfileSpec {
        ingress: vec![from_members],
        egress: vec![Rule::new(Action::Allow)],
        labels_to_apply: std::iter::once((network.to_owned(), String::new())).collect(),
    };
    Object::new(network, spec)
}

/// Checks the annotations before anything is done for them.
pub(crate) fn check_annotations(conf: &NetConf) -> Result<(), CniError> {
    let annotations = Annotations::of(conf);
    // An address of each family, as none is known yet.
    let some = [IpAddr::from([0, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    annotations.extras(conf, &some)?;
    for family in [Family::V4, Family::V6] {
        annotations.pools(family)?;
    }
    Ok(())
}

/// Checks the ports and labels of `args.cni`.
pub(crate) fn check_args(conf: &NetConf) -> Result<(), CniError> {
    for (i, port) in conf.args.cni.ports.iter().enumerate() {
        let at = |field: &str| format!("args.cni.ports[{i}].{field}");
        let protocol = port.protocol.to_string().to_ascii_uppercase();
        if !matches!(protocol.as_str(), "TCP" | "UDP" | "SCTP" | "6" | "17" | "132") {
            let why = format!("{} is not allowed: TCP, UDP and SCTP are", port.protocol);
            return Err(CniError::config(&at("protocol"), why));
        }
        if port.port == 0 {
            return Err(CniError::config(&at("port"), "0 is not a port: 1 to 65535"));
        }
        if port.name.is_empty() && port.host_port == 0 {
            return Err(CniError::config(
                &at("name"),
                "it is missing: policy finds the port by its name",
            ));
        }
    }
    for (i, label) in conf.args.cni.labels.iter().enumerate() {
        if label.key.is_empty() {
            return Err(CniError::config(
                &format!("args.cni.labels[{i}].key"),
                "it is empty",
            ));
        }
    }
    Ok(())
}
