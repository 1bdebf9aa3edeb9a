//! Staged policies of every kind, about policies that exist and about others.

use caracal_api::{Object, Resource, StagedAction, StagedKubernetesNetworkPolicySpec};
use serde_json::{Value, json};

use super::{NAMESPACES, NETS, packets, policies};
use crate::{Case, rng::Rng};

/// Makes the cases of this kind others than those of the same seed without staged policies.
const SALT: u64 = 0x7374_6167_6564;

impl Case {
    /// The case of a seed with staged policies, most of them about policies that exist: changed, deleted, or as they are.
    #[must_use]
    pub fn random_staged(seed: u64, packets: usize) -> Self {
        let mut case = Self::random(seed, 0);
        let rng = &mut Rng::new(seed ^ SALT);
        let hosts = case
            .objects
            .iter()
            .any(|o| matches!(o, Resource::HostEndpoint(_)));
        let about: Vec<Resource> = case.objects.iter().filter(|_| rng.percent(60)).cloned().collect();
        let mut new: Vec<Resource> = about.iter().filter_map(|o| change(rng, hosts, o)).collect();
        if rng.percent(40) {
            new.extend(policies::staged(rng, hosts));
        }
        for name in ["k", "l"] {
            let namespace = rng.pick(&NAMESPACES);
            let staged = rng
                .percent(60)
                .then(|| kubernetes(rng, namespace, name))
                .flatten();
            let enforced = rng
                .percent(40)
                .then(|| kubernetes(rng, namespace, name))
                .flatten();
            // Enforced it is what the staged one would become.
            let enforced = enforced.map(|mut o| {
                o.spec.staged_action = None;
                Self {
                    objects: vec![o.into()],
                    ..case.clone()
                }
            });
            new.extend(enforced.into_iter().flat_map(|c| c.committed().objects));
            new.extend(staged.map(Resource::from));
        }
        for object in new {
            case.objects.retain(|o| o.key() != object.key());
            case.objects.push(object);
        }
        // Translation of what may be untracked is for nobody to judge, before and after.
        let before = packets::has_untracked(&case);
        let judged = if before { case.clone() } else { case.committed() };
        case.trips = (0..packets).map(|_| packets::trip(rng, &judged)).collect();
        case
    }
}

/// What is staged about a policy.
fn change(rng: &mut Rng, hosts: bool, object: &Resource) -> Option<Resource> {
    let key = object.key();
    let deletion = json!({"stagedAction": "Delete"});
    let delete = rng.percent(45);
    let action = rng.one(&[
        None,
        Some(StagedAction::Set),
        Some(StagedAction::Learn),
        Some(StagedAction::Ignore),
    ]);
    match object {
        Resource::NetworkPolicy(_) if delete => {
            let spec: caracal_api::StagedNetworkPolicySpec = serde_json::from_value(deletion).ok()?;
            Some(Object::namespaced(&*key.namespace, &*key.name, spec).into())
        }
        Resource::GlobalNetworkPolicy(_) if delete => {
            let spec: caracal_api::StagedGlobalNetworkPolicySpec = serde_json::from_value(deletion).ok()?;
            Some(Object::new(&*key.name, spec).into())
        }
        Resource::NetworkPolicy(p) => {
            let same = rng.percent(20);
            let spec = if same {
                p.spec.clone()
            } else {
                policies::namespaced(rng)
            };
            let spec: caracal_api::StagedNetworkPolicySpec = policies::stage(&spec, action)?;
            Some(Object::namespaced(&*key.namespace, &*key.name, spec).into())
        }
        Resource::GlobalNetworkPolicy(p) => {
            let same = rng.percent(20);
            let spec = if same {
                p.spec.clone()
            } else {
                policies::global(rng, hosts)
            };
            let spec: caracal_api::StagedGlobalNetworkPolicySpec = policies::stage(&spec, action)?;
            Some(Object::new(&*key.name, spec).into())
        }
        _ => None,
    }
}

/// A staged policy as Kubernetes writes them; often without its types.
fn kubernetes(
    rng: &mut Rng,
    namespace: &str,
    name: &str,
) -> Option<Object<StagedKubernetesNetworkPolicySpec>> {
    let mut spec = json!({"podSelector": labels(rng)});
    match rng.below(10) {
        0..2 => spec["stagedAction"] = json!("Delete"),
        2..5 => spec["stagedAction"] = json!("Set"),
        _ => {}
    }
    if spec["stagedAction"] == "Delete" {
        spec = json!({"stagedAction": "Delete"});
    } else {
        spec["ingress"] = rng.some(2, |r| rule(r, "from")).into();
        spec["egress"] = rng.some(2, |r| rule(r, "to")).into();
        let types = rng.one(&[
            json!([]),
            json!([]),
            json!(["Ingress"]),
            json!(["Egress"]),
            json!(["Ingress", "Egress"]),
        ]);
        spec["policyTypes"] = types;
    }
    let spec = serde_json::from_value(spec).ok()?;
    Some(Object::namespaced(namespace, name, spec))
}

fn labels(rng: &mut Rng) -> Value {
    rng.one(&[
        json!({}),
        json!({"matchLabels": {"app": "a"}}),
        json!({"matchLabels": {"app": "b"}}),
        json!({"matchExpressions": [{"key": "env", "operator": "Exists"}]}),
        json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a", "ab"]}]}),
    ])
}

fn rule(rng: &mut Rng, peers: &str) -> Value {
    let peer = |r: &mut Rng| match r.below(4) {
        0 => json!({"ipBlock": {"cidr": r.pick(&NETS)}}),
        1 => json!({"namespaceSelector": {"matchLabels": {"team": "x"}}, "podSelector": labels(r)}),
        2 => json!({"namespaceSelector": {}}),
        _ => json!({"podSelector": labels(r)}),
    };
    let port = |r: &mut Rng| {
        let port = r.one(&[json!(80), json!(53), json!("http"), Value::Null]);
        let mut value = json!({"protocol": r.pick(&["TCP", "UDP"])});
        if !port.is_null() {
            value["port"] = port;
        }
        value
    };
    json!({peers: rng.some(2, peer), "ports": rng.some(2, port)})
}
