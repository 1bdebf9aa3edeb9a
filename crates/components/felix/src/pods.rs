//! What the agent does at the end of a container, for the CNI plugin that is told of it: the link, the endpoint, the
//! addresses. Those who ask at one moment are served together.
//!
//! **Invariant:** nobody depends on it. What is not done here, for whatever reason, is named in the answer, and the plugin
//! does it itself.
//! **Invariant:** addresses are given back only when the link is gone.

mod links;
mod together;

use std::{sync::Arc, time::Duration};

use caracal_agent_api::v1::{
    DetachReply, DetachRequest,
    pods_server::{Pods, PodsServer},
};
use caracal_api::{Kind, Object, ResourceKey, WorkloadEndpointSpec};
use caracal_ids::NodeName;
use caracal_ipam::Ipam;
use caracal_runtime::{Shutdown, Supervisor};
use caracal_store::{Store, retire};
use metrics::histogram;
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status as Code};

use links::Doomed;
use together::Together;

/// How long the datastore may take; what is not done then is left to the plugin, which has its own patience.
const PATIENCE: Duration = Duration::from_millis(1500);

type Done = Result<(), String>;

pub(crate) struct Service {
    node: NodeName,
    store: Arc<dyn Store>,
    links: Together<Doomed, Done>,
    releases: Together<Vec<String>, Done>,
}

/// Starts the tasks; the service that the agent's API serves.
pub(crate) fn start(
    tasks: &mut Supervisor,
    store: &Arc<dyn Store>,
    node: &NodeName,
    shutdown: &Shutdown,
) -> PodsServer<Service> {
    let (links, serve_links) = Together::new(async |batch: Vec<Doomed>| {
        histogram!("caracal_cni_links_at_once").record(batch.len() as f64);
        links::delete(batch).await
    });
    let ipam = Ipam::new(store.clone());
    let (releases, serve_releases) = Together::new(async move |batch: Vec<Vec<String>>| {
        histogram!("caracal_cni_releases_at_once").record(batch.len() as f64);
        release(&ipam, &batch).await
    });
    let stop = shutdown.clone();
    tasks.spawn("links of pods", async move {
        tokio::select! {
            () = serve_links => stop.wait().await,
            () = stop.wait() => {}
        }
        Ok::<(), String>(())
    });
    let stop = shutdown.clone();
    tasks.spawn("addresses of pods", async move {
        tokio::select! {
            () = serve_releases => stop.wait().await,
            () = stop.wait() => {}
        }
        Ok::<(), String>(())
    });
    PodsServer::new(Service {
        node: node.clone(),
        store: store.clone(),
        links,
        releases,
    })
}

/// Gives back the addresses of all who wait.
async fn release(ipam: &Ipam, batch: &[Vec<String>]) -> Vec<Done> {
    let handles = batch.concat();
    let Ok(results) = timeout(PATIENCE, ipam.release_handles(&handles)).await else {
        let late = || Err(format!("the datastore took more than {PATIENCE:?}"));
        return batch.iter().map(|_| late()).collect();
    };
    let mut results = results.into_iter();
    let of_one = |handles: &Vec<String>| {
        let own: Vec<_> = results.by_ref().take(handles.len()).collect();
        own.into_iter()
            .collect::<Result<(), _>>()
            .map_err(|e| e.to_string())
    };
    batch.iter().map(of_one).collect()
}

impl Service {
    async fn link(&self, r: &DetachRequest) -> Done {
        if r.link == 0 {
            return Ok(());
        }
        let doomed = Doomed {
            netns: (r.netns_device, r.netns_inode),
            index: r.link,
            name: r.link_name.clone(),
            alias: r.link_alias.clone(),
        };
        self.links.ask(doomed).await?
    }

    /// Whether what the client wants to have done in the datastore can be done here.
    fn same_store(&self, r: &DetachRequest) -> Done {
        if r.node != self.node.as_str() {
            return Err(format!("this is node {}", self.node));
        }
        let own = self.store.describe();
        if r.datastore == own {
            Ok(())
        } else {
            Err(format!("this agent uses {own}"))
        }
    }

    async fn endpoint(&self, r: &DetachRequest) -> Done {
        if r.name.is_empty() {
            return Ok(());
        }
        self.same_store(r)?;
        let key = ResourceKey::namespaced(Kind::WorkloadEndpoint, &r.namespace, &r.name);
        let own = |found: &caracal_api::Resource| {
            let owner = Object::<WorkloadEndpointSpec>::try_from(found.clone()).map(|e| e.spec.container_id);
            // One that names no container was not made by a CNI plugin of today: the pod's is the only claim.
            owner.is_ok_and(|o| o.is_empty() || o == r.container_id)
        };
        match timeout(PATIENCE, retire(self.store.as_ref(), &key, own)).await {
            Err(_) => Err(format!("the datastore took more than {PATIENCE:?}")),
            Ok(done) => done.map(drop).map_err(|e| e.to_string()),
        }
    }

    async fn addresses(&self, r: &DetachRequest) -> Done {
        if r.handles.is_empty() {
            return Ok(());
        }
        self.same_store(r)?;
        self.releases.ask(r.handles.clone()).await?
    }
}

#[tonic::async_trait]
impl Pods for Service {
    async fn detach(&self, request: Request<DetachRequest>) -> Result<Response<DetachReply>, Code> {
        let begun = Instant::now();
        let r = request.into_inner();
        let link_then_addresses = async {
            match self.link(&r).await {
                Ok(()) => (Ok(()), self.addresses(&r).await),
                Err(why) => (Err(why), Err("the link is still there".to_owned())),
            }
        };
        let (endpoint, (link, addresses)) = tokio::join!(self.endpoint(&r), link_then_addresses);
        histogram!("caracal_cni_detach_seconds").record(begun.elapsed());
        let told = |part: Done| part.err().unwrap_or_default();
        let reply = DetachReply {
            link_left: told(link),
            endpoint_left: told(endpoint),
            addresses_left: told(addresses),
        };
        for why in [&reply.link_left, &reply.endpoint_left, &reply.addresses_left] {
            if !why.is_empty() {
                tracing::debug!(container = r.container_id, why, "left to the CNI plugin");
            }
        }
        Ok(Response::new(reply))
    }
}
