use std::collections::BTreeMap;

use crate::{
    Kind, Resource,
    validate::{check::Check, text},
};

/// As Kubernetes limits the annotations of an object.
const MAX_ANNOTATIONS: usize = 256 << 10;

const LABEL_NAMESPACE: &str = "projectcalico.org/namespace";

pub(super) fn metadata(c: &mut Check, resource: &Resource) {
    let (kind, meta) = (resource.kind(), resource.metadata());
    c.field("name", |c| name(c, kind, &meta.name));
    match &meta.namespace {
        Some(ns) if !kind.namespaced() => c.fail_at("namespace", ns, format!("a {kind} has no namespace")),
        Some(ns) if !text::is_label(ns) || ns.len() > 63 => {
            c.field("namespace", |c| {
                c.fail_allowed(
                    ns,
                    "is not the name of a namespace",
                    "1 to 63 of a-z, 0-9 and '-'",
                );
            });
        }
        None if kind.namespaced() => c.fail_at("namespace", "", format!("a {kind} needs a namespace")),
        _ => {}
    }
    labels(c, "labels", &meta.labels);
    annotations(c, &meta.annotations);
    if matches!(kind, Kind::NetworkSet | Kind::GlobalNetworkSet) && meta.labels.contains_key(LABEL_NAMESPACE)
    {
        c.field("labels", |c| {
            c.fail_at(
                LABEL_NAMESPACE,
                "",
                "is a label that only endpoints get, from their namespace",
            );
        });
    }
}

fn name(c: &mut Check, kind: Kind, name: &str) {
    if name.is_empty() {
        c.fail("", "an object needs a name");
        return;
    }
    let dotted = |name: &str| name.split('.').count() <= 2 && text::is_subdomain(name);
    match kind {
        Kind::Tier => {
            if !text::is_label(name) || name.len() > 63 {
                c.fail_allowed(name, "is not the name of a tier", "1 to 63 of a-z, 0-9 and '-'");
            }
        }
        Kind::NetworkPolicy | Kind::StagedNetworkPolicy => {
            let kubernetes = ["knp.default.", "ossg.default."]
                .iter()
                .find_map(|p| name.strip_prefix(p));
            if name.len() > 253 || !(dotted(name) || kubernetes.is_some_and(text::is_subdomain)) {
                policy_name(c, name);
            }
        }
        Kind::GlobalNetworkPolicy | Kind::StagedGlobalNetworkPolicy => {
            if name.len() > 253 || !dotted(name) {
                policy_name(c, name);
            }
        }
        Kind::ClusterInformation | Kind::IpamConfiguration | Kind::KubeControllersConfiguration => {
            if name != "default" {
                c.fail_allowed(name, format!("there is only one {kind}"), "default");
            }
        }
        // Their names come from programs, which may write upper-case letters.
        Kind::IpamBlock | Kind::IpamHandle | Kind::BlockAffinity => {
            if name.len() > 253 || name.contains(['/', ' ']) || name.chars().any(char::is_control) {
                c.fail_allowed(
                    name,
                    "is not a name",
                    "253 characters without white space and '/'",
                );
            }
        }
        _ => c.name(name),
    }
}

fn policy_name(c: &mut Check, name: &str) {
    c.fail_allowed(
        name,
        "is not the name of a policy",
        "up to 253 of a-z, 0-9 and '-', with at most one '.' inside",
    );
}

/// Labels as Kubernetes has them.
pub(super) fn labels(c: &mut Check, key: &str, labels: &BTreeMap<String, String>) {
    c.field(key, |c| {
        for (k, v) in labels {
            if !text::is_qualified_name(k) {
                label_name(c, k);
            }
            label_value(c, k, v);
        }
    });
}

/// Labels that endpoints inherit: a prefix may have made their names longer than Kubernetes would have them.
pub(super) fn inherited_labels(c: &mut Check, key: &str, labels: &BTreeMap<String, String>) {
    c.field(key, |c| {
        for (k, v) in labels {
            if !caracal_selector::is_label(k) {
                label_name(c, k);
            }
            label_value(c, k, v);
        }
    });
}

fn label_name(c: &mut Check, name: &str) {
    c.field(name, |c| {
        c.fail_allowed(
            name,
            "is not the name of a label",
            "[host.name/] and 1 to 63 of letters, digits, '-', '_', '.', a letter or digit at both ends",
        );
    });
}

fn label_value(c: &mut Check, key: &str, value: &str) {
    if !text::is_label_value(value) {
        c.field(key, |c| {
            c.fail_allowed(
                value,
                "is not the value of a label",
                "up to 63 of letters, digits, '-', '_', '.', a letter or digit at both ends",
            );
        });
    }
}

pub(super) fn annotations(c: &mut Check, annotations: &BTreeMap<String, String>) {
    c.field("annotations", |c| {
        for k in annotations.keys() {
            if !text::is_qualified_name(&k.to_ascii_lowercase()) {
                label_name(c, k);
            }
        }
        let size: usize = annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
        if size > MAX_ANNOTATIONS {
            c.fail_allowed(
                "",
                format!("are {size} bytes together"),
                format!("{MAX_ANNOTATIONS} bytes"),
            );
        }
    });
}
