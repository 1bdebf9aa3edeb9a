use caracal_api::{Foreign, Problem, Resource, decode};
use serde::de::DeserializeOwned;

use crate::{ConvertError, cluster_network_policy, namespace, network_policy, pod, service_account};

/// An object of a manifest as Calico's objects: none for a pod that is no endpoint yet.
///
/// # Errors
/// With everything that is wrong with the object: what a person wrote is taken whole or not at all.
pub fn foreign(object: &Foreign) -> Result<Vec<Resource>, ConvertError> {
    match (object.api_version.as_str(), object.kind.as_str()) {
        ("networking.k8s.io/v1", "NetworkPolicy") => {
            let policy = read(object, "NetworkPolicy", |p| {
                // Every field of the spec is known here, so one that is not is a mistake. The status is the server's.
                p.path.to_string().starts_with("spec")
            })?;
            let converted = network_policy(&policy)?;
            whole("NetworkPolicy", object, converted.problems)?;
            Ok(vec![converted.object.into()])
        }
        ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy") => {
            let policy = read(object, "ClusterNetworkPolicy", |p| {
                p.path.to_string().starts_with("spec")
            })?;
            let converted = cluster_network_policy(&policy)?;
            whole("ClusterNetworkPolicy", object, converted.problems)?;
            Ok(vec![converted.object.into()])
        }
        ("v1", "Namespace") => Ok(vec![namespace(&read(object, "Namespace", |_| false)?).into()]),
        ("v1", "ServiceAccount") => Ok(vec![
            service_account(&read(object, "ServiceAccount", |_| false)?).into(),
        ]),
        ("v1", "Pod") => {
            let Some(converted) = pod(&read(object, "Pod", |_| false)?) else {
                return Ok(Vec::new());
            };
            whole("Pod", object, converted.problems)?;
            Ok(vec![converted.object.into()])
        }
        (version, kind) => Err(ConvertError::new(
            "object",
            &object.metadata,
            vec![Problem {
                path: caracal_api::FieldPath::of("kind"),
                line: None,
                message: format!(
                    "{kind} of {version} has no counterpart; NetworkPolicy of networking.k8s.io/v1, \
                     ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2 and Namespace, ServiceAccount and \
                     Pod of v1 have one"
                ),
            }],
        )),
    }
}

fn whole(kind: &'static str, object: &Foreign, problems: Vec<Problem>) -> Result<(), ConvertError> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ConvertError::new(kind, &object.metadata, problems))
    }
}

fn read<T: DeserializeOwned>(
    object: &Foreign,
    kind: &'static str,
    matters: impl Fn(&Problem) -> bool,
) -> Result<T, ConvertError> {
    let (t, unknown) = decode(&object.value).map_err(|mut problems| {
        // The last one is what stopped the reading; those before it are unknown fields.
        let fatal = problems.pop();
        let problems = problems.into_iter().filter(|p| matters(p)).chain(fatal).collect();
        ConvertError::new(kind, &object.metadata, problems)
    })?;
    whole(kind, object, unknown.into_iter().filter(|p| matters(p)).collect())?;
    Ok(t)
}
