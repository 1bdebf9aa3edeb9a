use caracal_api::{Foreign, Problem, Resource, decode};
use serde::de::DeserializeOwned;

use crate::{
    ConvertError, cluster_network_policy, namespace, network_policy, pod, service, service::slice,
    service_account,
};

/// Where objects are that name no namespace.
const DEFAULT_NAMESPACE: &str = "default";

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
        ("v1", "Service") => match service(object) {
            Ok(service) => Ok(vec![service.into()]),
            Err(why) => Err(ConvertError::new("Service", &object.metadata, vec![why])),
        },
        ("discovery.k8s.io/v1", "EndpointSlice") => match slice(object) {
            Ok(slice) => Ok(vec![slice.into()]),
            Err(problems) => Err(ConvertError::new("EndpointSlice", &object.metadata, problems)),
        },
        (version, kind) => Err(ConvertError::new(
            "object",
            &object.metadata,
            vec![Problem {
                path: caracal_api::FieldPath::of("kind"),
                line: None,
                message: format!(
                    "{kind} of {version} has no counterpart; NetworkPolicy of networking.k8s.io/v1, \
                     ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2, EndpointSlice of discovery.k8s.io/v1 \
                     and Namespace, ServiceAccount, Pod and Service of v1 have one"
                ),
            }],
        )),
    }
}

/// Puts an object that names no namespace into `default`, unless it is a namespace itself.
pub fn settle_namespace(object: &mut Foreign) {
    if object.kind != "Namespace" && object.metadata.namespace.is_none() {
        object.metadata.namespace = Some(DEFAULT_NAMESPACE.to_owned());
        object.value["metadata"]["namespace"] = DEFAULT_NAMESPACE.into();
    }
}

/// Reads an object of Kubernetes of which most fields are of no concern here: those that are unknown are passed over.
///
/// # Errors
/// With what stopped the reading.
pub fn read_loosely<T: DeserializeOwned>(object: &Foreign) -> Result<T, Problem> {
    let decoded = decode::<T>(&object.value);
    decoded.map(|(t, _)| t).map_err(|problems| {
        // The last one is what stopped the reading; those before it are unknown fields.
        problems.into_iter().next_back().unwrap_or_else(|| Problem {
            path: caracal_api::FieldPath::root(),
            line: None,
            message: "it cannot be read".to_owned(),
        })
    })
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
