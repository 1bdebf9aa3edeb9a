//! Metadata, whose form Kubernetes lays down for all kinds.

use caracal_api::FieldPath;
use serde_json::Value;

use super::{Finding, form, shown};

/// All annotations of an object together.
const MAX_ANNOTATIONS: usize = 256 * 1024;
const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const KEY: &str = r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$";
const LABEL_VALUE: &str = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";

/// Holds an object's metadata against Kubernetes' rules for names, labels and annotations.
pub(super) fn check(object: &Value, findings: &mut Vec<Finding>) {
    let none = serde_json::Map::new();
    let meta = match object.get("metadata") {
        Some(Value::Object(meta)) => meta,
        None | Some(Value::Null) => &none,
        // The schema says that it must be an object.
        Some(_) => return,
    };
    let at = FieldPath::of("metadata");
    let mut refuse = |path: FieldPath, value: &Value, message: &str, allowed: &str| {
        findings.push(Finding {
            path,
            value: shown(value),
            message: message.to_owned(),
            allowed: allowed.to_owned(),
            rule: None,
        });
    };
    let name = meta.get("name").filter(|n| !n.is_null() && **n != "");
    let generated = meta
        .get("generateName")
        .and_then(Value::as_str)
        .is_some_and(|n| !n.is_empty());
    match name {
        None if generated => {}
        None => refuse(at.key("name"), &"".into(), "is missing", "a name"),
        Some(Value::String(n)) if n.len() <= 253 && form::matches(SUBDOMAIN, n) => {}
        Some(other) => refuse(
            at.key("name"),
            other,
            "is no name",
            "up to 253 of a-z, 0-9, '-' and '.', each part beginning and ending with a letter or digit",
        ),
    }
    match meta.get("namespace") {
        None | Some(Value::Null) => {}
        Some(Value::String(n)) if n.is_empty() || (n.len() <= 63 && form::matches(LABEL, n)) => {}
        Some(other) => refuse(
            at.key("namespace"),
            other,
            "is no namespace",
            "up to 63 of a-z, 0-9 and '-'",
        ),
    }
    let mut size = 0;
    for field in ["labels", "annotations"] {
        match meta.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::Object(pairs)) => {
                for (key, value) in pairs {
                    size += key.len() + value.as_str().map_or(0, str::len);
                    let path = at.key(field).key(key);
                    // Annotations' keys are looked at in lower case.
                    let folded = if field == "labels" {
                        key.clone()
                    } else {
                        key.to_lowercase()
                    };
                    if !is_qualified(&folded) {
                        refuse(
                            path,
                            &key.as_str().into(),
                            "is no key",
                            "[DOMAIN/]NAME, NAME up to 63 characters",
                        );
                    } else if !value.is_string() {
                        refuse(path, value, "has the wrong type", "a text");
                    } else if field == "labels" && !is_label_value(value) {
                        refuse(
                            path,
                            value,
                            "is no value of a label",
                            "up to 63 of letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
                        );
                    }
                }
                if field == "annotations" && size > MAX_ANNOTATIONS {
                    refuse(at.key(field), &size.into(), "bytes are too many", "262144 in all");
                }
                size = 0;
            }
            Some(other) => refuse(at.key(field), other, "has the wrong type", "a map of texts"),
        }
    }
}

fn is_label_value(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|v| v.len() <= 63 && form::matches(LABEL_VALUE, v))
}

/// `[domain/]name`.
fn is_qualified(key: &str) -> bool {
    let (domain, name) = match key.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, key),
    };
    let domain = domain.is_none_or(|d| d.len() <= 253 && form::matches(SUBDOMAIN, d));
    domain && name.len() <= 63 && form::matches(KEY, name)
}
