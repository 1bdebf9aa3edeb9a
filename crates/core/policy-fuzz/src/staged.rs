//! What is staged taken out of a case, and brought into force.

use caracal_api::{
    KubeNetworkPolicySpec, Object, PolicyType, Resource, StagedAction, StagedKubernetesNetworkPolicySpec,
};

use crate::Case;

/// What a staged policy would do.
enum Would {
    /// Make or replace this policy.
    Put(Resource),
    /// Delete the policy that this one stands for.
    Delete(Resource),
}

impl Case {
    /// The case without its staged policies.
    #[must_use]
    pub fn without_staged(&self) -> Self {
        let mut case = self.clone();
        case.objects.retain(|o| !is_staged(o));
        case
    }

    /// The case after all that is staged was done: each staged policy is enforced in the place of the one of its name,
    /// and what was to be deleted is gone.
    #[must_use]
    pub fn committed(&self) -> Self {
        let mut case = self.without_staged();
        for would in self.objects.iter().filter_map(would) {
            let (Would::Put(policy) | Would::Delete(policy)) = &would;
            let key = policy.key();
            case.objects.retain(|o| o.key() != key);
            if let Would::Put(policy) = would {
                case.objects.push(policy);
            }
        }
        case
    }
}

fn is_staged(object: &Resource) -> bool {
    matches!(
        object,
        Resource::StagedNetworkPolicy(_)
            | Resource::StagedGlobalNetworkPolicy(_)
            | Resource::StagedKubernetesNetworkPolicy(_)
    )
}

fn would(object: &Resource) -> Option<Would> {
    let (action, policy): (_, Resource) = match object {
        Resource::StagedNetworkPolicy(p) => {
            let key = object.key();
            let policy = Object::namespaced(&*key.namespace, &*key.name, p.spec.enforced());
            (p.spec.staged_action, policy.into())
        }
        Resource::StagedGlobalNetworkPolicy(p) => {
            let policy = Object::new(&*object.key().name, p.spec.enforced());
            (p.spec.staged_action, policy.into())
        }
        Resource::StagedKubernetesNetworkPolicy(p) => (p.spec.staged_action, of_kubernetes(p)?.into()),
        _ => return None,
    };
    Some(match action {
        Some(StagedAction::Delete) => Would::Delete(policy),
        None | Some(StagedAction::Set | StagedAction::Learn | StagedAction::Ignore) => Would::Put(policy),
    })
}

/// The policy as Kubernetes would have it, with the types that its API server fills in (`calico-components.md` §3.4).
fn of_kubernetes(
    staged: &Object<StagedKubernetesNetworkPolicySpec>,
) -> Option<Object<caracal_api::NetworkPolicySpec>> {
    let spec = staged.spec.clone();
    let types = match (spec.policy_types.is_empty(), spec.egress.is_empty()) {
        (false, _) => spec.policy_types,
        (true, true) => vec![PolicyType::Ingress],
        (true, false) => vec![PolicyType::Ingress, PolicyType::Egress],
    };
    let converted = caracal_convert::network_policy(&caracal_convert::KubeNetworkPolicy {
        metadata: staged.metadata.clone(),
        spec: KubeNetworkPolicySpec {
            pod_selector: spec.pod_selector.unwrap_or_default(),
            ingress: spec.ingress,
            egress: spec.egress,
            policy_types: types.clone(),
        },
    });
    let mut object = converted.ok()?.object;
    object.spec.types = types;
    Some(object)
}
