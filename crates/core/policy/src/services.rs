//! The ranges that services have their addresses of: packets that still have one behind translation lead nowhere
//! (`calico-components.md` §3.10).

use std::collections::BTreeSet;

use caracal_api::BgpConfigurationSpec;
use caracal_desired::Delta;
use caracal_net::Cidr;

use crate::faults::{Fault, Faults};

/// The BGPConfiguration that is for all nodes. Those of single nodes say nothing of services.
pub(crate) const GLOBAL: &str = "default";

/// What the global BGPConfiguration announces.
#[derive(Debug, Default)]
pub(crate) struct ServiceCidrs {
    now: BTreeSet<Cidr>,
    emitted: BTreeSet<Cidr>,
}

impl ServiceCidrs {
    /// Takes the object's ranges, or notes that it is gone. One that cannot be read is named, and the others hold.
    pub(crate) fn put(&mut self, spec: Option<&BgpConfigurationSpec>, faults: &mut Faults) {
        self.now.clear();
        let Some(spec) = spec else { return };
        for (field, blocks) in [
            ("serviceClusterIPs", &spec.service_cluster_ips),
            ("serviceExternalIPs", &spec.service_external_ips),
            ("serviceLoadBalancerIPs", &spec.service_load_balancer_ips),
        ] {
            // The field may be left out, for what may come to stand beside it.
            let written = blocks.iter().enumerate().filter(|(_, b)| !b.cidr.is_empty());
            for (n, block) in written {
                let read = block.cidr.parse::<Cidr>();
                let read = read.map_err(|e| Fault::new(format!("spec.{field}[{n}].cidr"), e.to_string()));
                self.now.extend(faults.take(read));
            }
        }
    }

    /// What changed since the last call.
    pub(crate) fn flush(&mut self) -> Option<Delta> {
        if self.now == self.emitted {
            return None;
        }
        self.emitted.clone_from(&self.now);
        Some(Delta::ServiceCidrs(self.now.clone()))
    }
}

#[cfg(test)]
mod tests {
    use caracal_api::{Kind, NodeSpec, Object, ResourceKey};
    use caracal_desired::Desired;
    use caracal_ids::NodeName;
    use caracal_update::Update;
    use serde_json::json;

    use super::*;
    use crate::Engine;

    fn object(name: &str, spec: serde_json::Value) -> Update {
        let spec: BgpConfigurationSpec = serde_json::from_value(spec).unwrap();
        Update::set(Object::new(name, spec).into())
    }

    #[test]
    fn ranges_of_the_global_object_come_and_go() {
        let mut engine = Engine::new(NodeName::new("here").unwrap());
        let mut desired = Desired::default();
        let mut after = |update: Update| {
            engine.apply(&update);
            let deltas = engine.flush();
            let n = deltas.len();
            desired.apply_all(deltas);
            let texts: Vec<String> = desired.service_cidrs.iter().map(ToString::to_string).collect();
            (n, texts, desired.invalid.values().next().cloned())
        };
        let own = object(
            "node.here",
            json!({"serviceClusterIPs": [{"cidr": "10.1.0.0/16"}]}),
        );
        assert_eq!(after(own), (0, vec![], None));
        let spec = json!({
            "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}, {"cidr": ""}, {}],
            "serviceExternalIPs": [{"cidr": "192.0.2.0/24"}, {"cidr": "10.96.0.0/12"}],
            "serviceLoadBalancerIPs": [{"cidr": "fd00:5::/112"}],
        });
        let all = vec!["10.96.0.0/12", "192.0.2.0/24", "fd00:5::/112"];
        let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
        assert_eq!(after(object("default", spec.clone())), (1, all.clone(), None));
        assert_eq!(after(object("default", spec)), (0, all, None));
        let bad = json!({
            "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}],
            "serviceExternalIPs": [{"cidr": "192.0.2.0/24"}, {"cidr": "192.0.2.0/33"}],
        });
        let (_, left, reason) = after(object("default", bad));
        assert_eq!(left, ["10.96.0.0/12", "192.0.2.0/24"]);
        let reason = reason.unwrap();
        assert!(reason.contains("spec.serviceExternalIPs[1].cidr"), "{reason}");
        let gone = Update::gone(ResourceKey::global(Kind::BgpConfiguration, "default"));
        assert_eq!(after(gone), (2, vec![], None));
        // Under a key that is not its own an object says nothing.
        let mut stray: Update = Update::set(Object::new("default", NodeSpec::default()).into());
        stray.key = ResourceKey::global(Kind::BgpConfiguration, "default");
        let (_, left, reason) = after(stray);
        assert!(left.is_empty() && reason.is_some());
    }
}
