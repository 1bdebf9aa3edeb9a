//! What the agent does at the beginning and at the end of a container, for the CNI plugin: the addresses, the endpoint, the
//! link. Those who ask at one moment are served together.
//!
//! **Invariant:** nobody depends on it. What is not done here, for whatever reason, is named in the answer, and the plugin
//! does it itself.
//! **Invariant:** addresses are given back only when the link is gone.
//! **Invariant:** when the end of a container is answered, nothing of its beginning is still under way, here or in the
//! datastore, or the answer says so.

mod arrivals;
mod attach;
mod calls;
mod links;
mod part;
mod together;

#[cfg(test)]
mod tests;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use caracal_agent_api::{
    STILL_ATTACHING,
    v1::{
        AttachReply, AttachRequest, AwaitEndpointReply, AwaitEndpointRequest, DetachReply, DetachRequest,
        refused::Code,
    },
};
use caracal_api::{Kind, ResourceKey};
use caracal_ids::{NodeName, WorkloadId};
use caracal_ipam::Ipam;
use caracal_net::IfAddr;
use caracal_runtime::{Shutdown, Supervisor};
use caracal_store::Store;
use metrics::{counter, histogram};
use tokio::time::{Instant, timeout};

use crate::{agent, status::Status};
use arrivals::Arrivals;
use attach::{Comer, Desk, Given};
use links::Doomed;
use part::{Goer, Parted};
use together::Together;

pub(crate) use calls::{Calls, Refusal};

/// How long the datastore may take; what is not done then is left to the plugin, which has its own patience.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How long the end of a container waits for its beginning.
const ARRIVED: Duration = Duration::from_millis(750);

/// How long is looked ahead.
const EARLY: Duration = Duration::from_millis(100);

type Done = Result<(), String>;

pub(crate) struct Service {
    node: NodeName,
    datastore: String,
    ipam: Ipam,
    status: Arc<Status>,
    shutdown: Shutdown,
    links: Together<Doomed, Done>,
    goers: Together<Goer, Parted>,
    comers: Together<Comer, Given>,
    arrivals: Arc<Arrivals>,
    /// How many are coming at this moment: until their policy is in force, or they are gone.
    coming: Arc<AtomicUsize>,
    /// How many are leaving at this moment.
    leaving: Arc<AtomicUsize>,
}

/// Starts the tasks; the service for plugins.
pub(crate) fn start(
    tasks: &mut Supervisor,
    store: &Arc<dyn Store>,
    node: &NodeName,
    status: &Arc<Status>,
    shutdown: &Shutdown,
) -> Service {
    let (links, serve_links) = Together::new(async |batch: Vec<Doomed>| {
        histogram!("caracal_cni_links_at_once").record(batch.len() as f64);
        links::delete(batch).await
    });
    let ipam = Ipam::new(store.clone());
    let desk = Arc::new(Desk::default());
    let (own, of, at) = (ipam.clone(), store.clone(), desk.clone());
    let (goers, serve_goers) = Together::new(async move |batch: Vec<Goer>| {
        histogram!("caracal_cni_releases_at_once").record(batch.len() as f64);
        let parted = part::serve(&own, &of, batch).await;
        at.freed();
        parted
    });
    let (own, name) = (ipam.clone(), node.clone());
    let coming = Arc::<AtomicUsize>::default();
    let here = coming.clone();
    let attach = async move |batch: Vec<Comer>| {
        histogram!("caracal_cni_attaches_at_once").record(batch.len() as f64);
        attach::serve(&own, &name, &desk, batch).await
    };
    let (comers, serve_comers) = Together::of_those_who_wait(attach, move || here.load(Ordering::Relaxed));
    let mut spawn = |name: &'static str, work: Pin<Box<dyn Future<Output = ()> + Send>>| {
        let stop = shutdown.clone();
        tasks.spawn(name, async move {
            tokio::select! {
                () = work => stop.wait().await,
                () = stop.wait() => {}
            }
            Ok::<(), String>(())
        });
    };
    spawn("links of pods", Box::pin(serve_links));
    spawn("ends of pods", Box::pin(serve_goers));
    spawn("new pods", Box::pin(serve_comers));
    Service {
        node: node.clone(),
        datastore: store.describe(),
        ipam,
        status: status.clone(),
        shutdown: shutdown.clone(),
        links,
        goers,
        comers,
        arrivals: Arc::default(),
        coming,
        leaving: Arc::default(),
    }
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
    fn same_store(&self, node: &str, datastore: &str) -> Done {
        if node != self.node.as_str() {
            return Err(format!("this is node {}", self.node));
        }
        if datastore == self.datastore {
            Ok(())
        } else {
            Err(format!("this agent uses {}", self.datastore))
        }
    }

    /// The link, then endpoint and addresses.
    async fn part(&self, r: &DetachRequest) -> (Done, Done, Done) {
        if let Err(why) = self.same_store(&r.node, &r.datastore) {
            let of = |there: bool| if there { Err(why.clone()) } else { Ok(()) };
            let link = self.link(r).await;
            return (link, of(!r.name.is_empty()), of(!r.handles.is_empty()));
        }
        // Killed before it was answered, ADD may not be at its end when DEL comes.
        if timeout(ARRIVED, self.arrivals.end(&r.container_id))
            .await
            .is_err()
        {
            let left = || Err(STILL_ATTACHING.to_owned());
            return (self.link(r).await, left(), left());
        }
        let endpoint = (!r.name.is_empty())
            .then(|| ResourceKey::namespaced(Kind::WorkloadEndpoint, &r.namespace, &r.name));
        let mut goer = Goer {
            endpoint,
            container: r.container_id.clone(),
            handles: r.handles.clone(),
            seen: None,
        };
        // One alone is looked at while the link goes; of several what was seen would be old at once.
        let alone = self.leaving.load(Ordering::Relaxed) <= 1 && self.ipam.writes_together() > 0;
        let look = async {
            match alone {
                // What does not come in time is asked for again, with all patience.
                true => timeout(EARLY, goer.look(&self.ipam)).await.unwrap_or_default(),
                false => None,
            }
        };
        let (link, seen) = tokio::join!(self.link(r), look);
        goer.seen = seen;
        if link.is_err() {
            goer.handles.clear();
            goer.seen = None;
        }
        let (endpoint, mut addresses) = match self.goers.ask(goer).await {
            Ok(parted) => parted,
            Err(why) => (Err(why.clone()), Err(why)),
        };
        if link.is_err() && !r.handles.is_empty() {
            addresses = Err("the link is still there".to_owned());
        }
        (link, endpoint, addresses)
    }
}

/// A container of which addresses and endpoint are in the datastore.
struct Attached {
    addresses: Vec<IfAddr>,
    id: WorkloadId,
    container: String,
    /// How long the plugin wants to wait for policy.
    wait: Duration,
    _counted: Counted,
}

impl Service {
    async fn attach(&self, r: AttachRequest) -> Result<Attached, Refusal> {
        let begun = Instant::now();
        self.same_store(&r.node, &r.datastore)
            .map_err(|why| Refusal::new(Code::NotHere, why))?;
        if self.ipam.writes_together() == 0 {
            return Err(Refusal::new(Code::NotHere, "this datastore has no transactions"));
        }
        let counted = Counted::new(&self.coming);
        let wait = Duration::from_millis(r.timeout_ms.into());
        let comer = Comer::read(r, &self.node, &self.arrivals);
        let comer = comer.map_err(|why| Refusal::new(Code::Wrong, why))?;
        let _wish = comer.arrival.wish();
        let (id, container) = (comer.id.clone(), comer.container.clone());
        let given = self.comers.ask(comer).await.and_then(|given| given);
        histogram!("caracal_cni_attach_seconds").record(begun.elapsed());
        let addresses = given.map_err(|why| {
            tracing::debug!(container, why, "left to the CNI plugin");
            counter!("caracal_cni_attach_errors").increment(1);
            Refusal::new(Code::NotNow, why)
        })?;
        Ok(Attached {
            addresses,
            id,
            container,
            wait,
            _counted: counted,
        })
    }

    /// What is told of policy when it is in force or the time is up. Nothing when nobody wants to know, or when the agent
    /// ends: without an answer the plugin asks the next one.
    async fn told(&self, attached: Attached) -> Option<AttachReply> {
        if attached.wait.is_zero() {
            return None;
        }
        let (id, container) = (&attached.id, &attached.container);
        let outcome = self.in_force(id, container, attached.wait).await?;
        Some(AttachReply {
            in_force: outcome.is_ok(),
            reason: outcome.err().unwrap_or_default(),
            ..AttachReply::default()
        })
    }

    async fn await_endpoint(&self, r: AwaitEndpointRequest) -> Option<AwaitEndpointReply> {
        let id = WorkloadId::new(&r.namespace, &r.name);
        let wait = Duration::from_millis(r.timeout_ms.into());
        let outcome = self.in_force(&id, &r.container_id, wait).await?;
        Some(AwaitEndpointReply {
            in_force: outcome.is_ok(),
            reason: outcome.err().unwrap_or_default(),
        })
    }

    /// Nothing when the agent ends.
    async fn in_force(&self, id: &WorkloadId, container: &str, wait: Duration) -> Option<Done> {
        tokio::select! {
            outcome = agent::in_force(&self.status, id, container, wait) => Some(outcome),
            () = self.shutdown.wait() => None,
        }
    }

    async fn detach(&self, r: DetachRequest) -> DetachReply {
        let begun = Instant::now();
        let _counted = Counted::new(&self.leaving);
        let (link, endpoint, addresses) = self.part(&r).await;
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
        reply
    }
}

/// Counts those who are being served, however they end.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
