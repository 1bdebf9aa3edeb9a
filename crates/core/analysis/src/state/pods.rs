//! Pods of manifests, which no cluster has touched: not scheduled, without addresses.

use caracal_api::{Foreign, Resource};
use caracal_convert::Pod;

use super::{DEFAULT, HostPod, State};

/// The node of pods that are on none yet.
const SOMEWHERE: &str = "any";

impl State {
    pub(super) fn take_pod(&mut self, foreign: &Foreign, origin: &str) -> Result<(), String> {
        let name = &foreign.metadata.name;
        let namespace = foreign.metadata.namespace.as_deref().unwrap_or(DEFAULT);
        let what = format!("Pod {namespace}/{name}");
        let mut pod: Pod = caracal_convert::read_loosely(foreign).map_err(|e| format!("{what}: {e}"))?;
        pod.metadata.namespace = Some(namespace.to_owned());
        if pod.spec.host_network {
            self.host_pods.push(HostPod {
                namespace: namespace.to_owned(),
                name: name.clone(),
                node: pod.spec.node_name,
            });
            return Ok(());
        }
        if pod.spec.node_name.is_empty() {
            SOMEWHERE.clone_into(&mut pod.spec.node_name);
        }
        if pod.spec.service_account_name.is_empty() {
            DEFAULT.clone_into(&mut pod.spec.service_account_name);
        }
        let Some(converted) = caracal_convert::pod(&pod) else {
            return Ok(());
        };
        if let Some(problem) = converted.problems.first() {
            return Err(format!("{what}: {problem}"));
        }
        let resource = Resource::from(converted.object);
        let key = resource.key();
        if let Some(first) = self.origins.get(&key) {
            return Err(format!("{what}: it is given twice; the first is in {first}"));
        }
        self.origins.insert(key, origin.to_owned());
        self.insert(resource);
        Ok(())
    }
}
