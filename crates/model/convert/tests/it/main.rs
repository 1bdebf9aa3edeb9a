//! Kubernetes objects in, Calico objects out.

mod cluster_network_policy;
mod network_policy;
mod objects;
mod selectors;
mod truth_tables;

use caracal_api::{Document, Foreign, ManifestObject, parse};

/// The one Kubernetes object of a manifest.
fn object(text: &str) -> Foreign {
    match parse("test", text).remove(0).expect("reads") {
        Document {
            object: ManifestObject::Foreign(f),
            ..
        } => *f,
        other => panic!("{} is Calico's", other.describe()),
    }
}
