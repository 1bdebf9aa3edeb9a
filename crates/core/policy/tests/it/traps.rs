//! `calico-components.md` §3 by example, each trap once.

mod change;
mod faults;
mod lists;
mod members;
mod rules;
mod services;
mod staged;

use std::collections::BTreeSet;

use caracal_api::{Kind, Resource, ResourceKey};
use caracal_desired::{Delta, IpSetMember, Policy, TierPolicies, WorkloadEndpoint};
use caracal_ids::{IpSetId, PolicyId, WorkloadId};
use caracal_update::Update;
use serde_json::{Value, json};

use crate::{gen_objects::NODE, history::Node};

/// A node fed with JSON.
struct World {
    node: Node,
}

impl World {
    fn new() -> Self {
        Self { node: Node::new() }
    }

    /// A world with pod `red/web` here (10.0.0.1, fd00::1, `app=web`, TCP 80 as `http`, UDP 53 as `dns`).
    fn with_pod() -> Self {
        let mut world = Self::new();
        world.pod(
            "red",
            "web",
            &["10.0.0.1/32", "fd00::1/128"],
            json!({"app": "web"}),
            json!({}),
        );
        world
    }

    fn put(&mut self, kind: &str, namespace: &str, name: &str, spec: Value) {
        self.put_labelled(kind, namespace, name, json!({}), spec);
    }

    fn put_labelled(&mut self, kind: &str, namespace: &str, name: &str, labels: Value, spec: Value) {
        let mut metadata = json!({"name": name, "labels": labels});
        if !namespace.is_empty() {
            metadata["namespace"] = namespace.into();
        }
        let object = json!({"kind": kind, "metadata": metadata, "spec": spec});
        let resource: Resource = serde_json::from_value(object).unwrap();
        self.node.engine.apply(&Update::set(resource));
    }

    fn gone(&mut self, kind: &str, namespace: &str, name: &str) {
        let key = ResourceKey::of(Kind::parse(kind).unwrap(), Some(namespace), name);
        self.node.engine.apply(&Update::gone(key));
    }

    /// A pod on this node; `more` overrides fields of its spec.
    fn pod(&mut self, namespace: &str, name: &str, ips: &[&str], labels: Value, more: Value) {
        let mut spec = json!({
            "node": NODE, "interfaceName": format!("cali-{name}"), "ipNetworks": ips,
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 80},
                {"name": "dns", "protocol": "UDP", "port": 53},
            ],
        });
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        self.put_labelled("WorkloadEndpoint", namespace, name, labels, spec);
    }

    /// A global policy that selects everything, with ingress rules.
    fn rules(&mut self, name: &str, ingress: Value) {
        self.put(
            "GlobalNetworkPolicy",
            "",
            name,
            json!({"types": ["Ingress"], "ingress": ingress}),
        );
    }

    /// Folds a flush in, with all its checks.
    fn flush(&mut self) {
        self.node.flush();
    }

    /// The deltas of a flush, which are folded in too.
    fn deltas(&mut self) -> Vec<Delta> {
        let deltas = self.node.engine.flush();
        crate::check::fold(&mut self.node.desired, deltas.clone());
        deltas
    }

    fn policy(&mut self, id: &str) -> Policy {
        self.flush();
        let id: PolicyId = id.parse().unwrap();
        (*self.node.desired.policies[&id]).clone()
    }

    /// The first ingress rule of global policy `name`, which consists of the given rule.
    fn rule(&mut self, rule: Value) -> caracal_desired::Rule {
        self.rules("one", json!([rule]));
        self.policy("GlobalNetworkPolicy/one").ingress[0].clone()
    }

    fn workload(&mut self, namespace: &str, name: &str) -> WorkloadEndpoint {
        self.flush();
        (*self.node.desired.workloads[&WorkloadId::new(namespace, name)]).clone()
    }

    fn members(&self, id: &IpSetId) -> BTreeSet<String> {
        let members = self.node.desired.ip_sets[id].members.iter();
        let text = |m: &IpSetMember| match m {
            IpSetMember::Net(net) => net.to_string(),
            IpSetMember::IpPort(addr, proto, port) => format!("{addr} {proto} {port}"),
        };
        members.map(text).collect()
    }

    fn reason(&self, kind: &str, namespace: &str, name: &str) -> Option<&str> {
        let key = ResourceKey::of(Kind::parse(kind).unwrap(), Some(namespace), name);
        self.node.desired.invalid.get(&key).map(String::as_str)
    }
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

/// `tier:end ingress… / egress…` for each tier.
fn show(tiers: &[TierPolicies]) -> Vec<String> {
    let names = |ids: &[PolicyId]| {
        ids.iter()
            .map(|id| id.name.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let line = |t: &TierPolicies| {
        format!(
            "{}:{:?} {} / {}",
            t.name,
            t.default_action,
            names(&t.ingress),
            names(&t.egress)
        )
    };
    tiers.iter().map(line).collect()
}
