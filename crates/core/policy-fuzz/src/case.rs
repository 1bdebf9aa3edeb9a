use std::borrow::Cow;

use caracal_api::{Resource, StandIn, refusals, stand_in, value_to_yaml};
use caracal_oracle::{Host, Trip};
use caracal_update::SliceUpdate;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The node whose packets are judged.
pub const NODE: &str = "here";

/// A cluster, a host, and packets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// What it was made of.
    pub seed: u64,
    /// The objects; each key once.
    pub objects: Vec<Resource>,
    /// Endpoints of services.
    pub slices: Vec<SliceUpdate>,
    /// The host with its interfaces and settings.
    pub host: Host,
    /// The packets.
    pub trips: Vec<Trip>,
}

impl Case {
    /// The case with what is in force of objects that break the rules of their kind in their place.
    #[must_use]
    pub fn in_force(&self) -> Cow<'_, Self> {
        if self.objects.iter().all(|o| refusals(o).is_empty()) {
            return Cow::Borrowed(self);
        }
        let mut case = self.clone();
        case.objects.retain_mut(|object| {
            if refusals(object).is_empty() {
                return true;
            }
            match stand_in(object) {
                StandIn::Itself => {}
                StandIn::Other(other) => *object = *other,
                StandIn::Nothing => return false,
            }
            true
        });
        Cow::Owned(case)
    }

    /// The case as manifests, followed by the host and the packets as comments, for people and for bug reports.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut out = format!("# seed {}\n", self.seed);
        for object in &self.objects {
            out.push_str("---\n");
            out.push_str(&value_to_yaml(&object.to_value()));
        }
        for slice in &self.slices {
            let Some(value) = &slice.value else { continue };
            let ports: Vec<_> = value
                .ports
                .iter()
                .map(|p| json!({"protocol": p.proto.to_string(), "port": p.port}))
                .collect();
            let addresses: Vec<_> = value.addresses.iter().map(ToString::to_string).collect();
            out.push_str("---\n");
            out.push_str(&value_to_yaml(&json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": &*slice.key.name, "namespace": &*slice.key.namespace,
                    "labels": {"kubernetes.io/service-name": &*value.service},
                },
                "endpoints": [{"addresses": addresses}], "ports": ports,
            })));
        }
        // The types hold nothing that JSON lacks.
        let line = |v: Result<String, serde_json::Error>| v.unwrap_or_default();
        out.push_str(&format!("# host {}\n", line(serde_json::to_string(&self.host))));
        for trip in &self.trips {
            out.push_str(&format!(
                "# packet {}: {}\n",
                trip.packet,
                line(serde_json::to_string(trip))
            ));
        }
        out
    }
}
