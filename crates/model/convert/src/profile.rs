use std::collections::BTreeMap;

use caracal_api::{Action, Object, ObjectMeta, ProfileSpec, Rule};

use crate::{
    LABEL_NAME, NAMESPACE_LABEL_PREFIX, Namespace, SERVICE_ACCOUNT_LABEL_PREFIX, ServiceAccount,
    name::{namespace_profile, service_account_profile},
};

/// The profile of a namespace: allows all, which is Kubernetes' default for pods without policy, and passes the
/// namespace's labels on.
#[must_use]
pub fn namespace(namespace: &Namespace) -> Object<ProfileSpec> {
    let meta = &namespace.metadata;
    let spec = ProfileSpec {
        ingress: vec![Rule::new(Action::Allow)],
        egress: vec![Rule::new(Action::Allow)],
        labels_to_apply: prefixed(NAMESPACE_LABEL_PREFIX, meta),
    };
    profile(namespace_profile(&meta.name), meta, spec)
}

/// The profile of a service account: no rules, only its labels.
#[must_use]
pub fn service_account(account: &ServiceAccount) -> Object<ProfileSpec> {
    let meta = &account.metadata;
    let spec = ProfileSpec {
        labels_to_apply: prefixed(SERVICE_ACCOUNT_LABEL_PREFIX, meta),
        ..ProfileSpec::default()
    };
    let namespace = meta.namespace.as_deref().unwrap_or("default");
    profile(service_account_profile(namespace, &meta.name), meta, spec)
}

fn profile(name: String, of: &ObjectMeta, spec: ProfileSpec) -> Object<ProfileSpec> {
    let mut profile = Object::new(name, spec);
    profile.metadata.uid.clone_from(&of.uid);
    profile.metadata.resource_version.clone_from(&of.resource_version);
    profile
        .metadata
        .creation_timestamp
        .clone_from(&of.creation_timestamp);
    profile
}

fn prefixed(prefix: &str, meta: &ObjectMeta) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = meta
        .labels
        .iter()
        .map(|(k, v)| (format!("{prefix}{k}"), v.clone()))
        .collect();
    // Last, so that no label of the object can pose as its name.
    labels.insert(format!("{prefix}{LABEL_NAME}"), meta.name.clone());
    labels
}
