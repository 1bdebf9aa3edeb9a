//! The datastore: a step's objects, and when they are in force.

use caracal_net::Family;

use super::network::{NODES, Network};
use super::pods::Pods;
use crate::cluster::follow::{Endpoints, Followed};
use crate::policy_check::objects;
use crate::policy_check::table::Step;

/// The datastore's state, and the agents that follow it.
pub(super) struct State(Followed);

impl State {
    /// A datastore with nothing but the nodes.
    pub(super) async fn new(network: &Network) -> anyhow::Result<Self> {
        let nodes = network.sites.iter().cloned().zip(network.agents.iter().copied());
        let nodes: Vec<_> = nodes.collect();
        Ok(Self(Followed::new(&network.datastore, &nodes).await?))
    }

    /// Writes what is different in this step and waits until it is in force on every node.
    pub(super) async fn become_that_of(
        &mut self,
        step: &Step,
        family: Family,
        pods: &Pods,
    ) -> anyhow::Result<()> {
        let new = objects::of_step(step, family, &|pod| pods.node_of(pod));
        self.0.write(new).await?;
        let mut endpoints = Endpoints::new();
        for pod in &step.pods {
            let node = pods.node_of(pod);
            let id = objects::endpoint(pod, node);
            let names = (id.namespace.to_string(), id.name.to_string());
            endpoints.entry(node.to_owned()).or_default().insert(names);
        }
        self.0.wait(endpoints).await
    }
}

const _: () = assert!(NODES.len() >= 2, "packets must cross a cable");
