//! What the agent does for the addresses of its node: it serves plugins together, gives back blocks that the node does
//! not need, and finishes releases that plugins had to leave for later.
//!
//! **Invariant:** nobody depends on it. A plugin that gets no answer asks the datastore itself, with the same plan and
//! under the same handle.

use std::{
    collections::BTreeMap,
    sync::Arc,
    sync::OnceLock,
    time::{Duration, Instant},
};

use caracal_agent_api::v1::{AssignReply, AssignRequest, refused::Code};
use caracal_api::IpPoolAllowedUse;
use caracal_ids::NodeName;
use caracal_ipam::{Assign, AssignOptions, Grouped, Ipam};
use caracal_ipam_plan::Owner;
use caracal_net::Family;
use caracal_runtime::{Shutdown, Supervisor};
use caracal_store::Store;
use metrics::{counter, histogram};

use crate::pods::Refusal;

/// How often blocks that are not needed are looked for.
const TIDY: Duration = Duration::from_secs(300);

/// How often releases that were left are tried.
const RELEASES: Duration = Duration::from_secs(10);

/// How releases that plugins left are finished; the program sets it, for plugins are another component.
static FINISH: OnceLock<fn()> = OnceLock::new();

/// Says how releases that CNI plugins left for later are finished. The agent calls it from time to time.
pub fn finish_releases_by(finish: fn()) {
    // The first one stays.
    let _ = FINISH.set(finish);
}

pub(crate) struct Service {
    node: NodeName,
    datastore: String,
    grouped: Grouped,
}

/// Starts the tasks; the service for plugins.
pub(crate) fn start(
    tasks: &mut Supervisor,
    store: &Arc<dyn Store>,
    node: &NodeName,
    shutdown: &Shutdown,
) -> Service {
    let ipam = Ipam::new(store.clone());
    let (grouped, serve) = Grouped::telling(ipam.clone(), AssignOptions::default(), |at_once| {
        histogram!("caracal_cni_assigns_at_once").record(at_once as f64);
    });
    let stop = shutdown.clone();
    tasks.spawn("addresses", async move {
        tokio::select! {
            () = serve => stop.wait().await,
            () = stop.wait() => {}
        }
        Ok::<(), String>(())
    });
    let (stop, name) = (shutdown.clone(), node.clone());
    tasks.spawn("blocks", async move {
        tokio::select! {
            () = keep_tidy(&ipam, &name) => {}
            () = stop.wait() => {}
        }
        Ok::<(), String>(())
    });
    let stop = shutdown.clone();
    tasks.spawn("releases", async move {
        tokio::select! {
            () = finish_releases() => {}
            () = stop.wait() => {}
        }
        Ok::<(), String>(())
    });
    Service {
        node: node.clone(),
        datastore: store.describe(),
        grouped,
    }
}

async fn keep_tidy(ipam: &Ipam, node: &NodeName) {
    loop {
        tokio::time::sleep(TIDY).await;
        match ipam.tidy(node.as_str()).await {
            Ok(given) if given.is_empty() => {}
            Ok(given) => tracing::info!(?given, "blocks that this node does not need were given back"),
            Err(e) => tracing::debug!(error = %e, "blocks cannot be given back now"),
        }
    }
}

async fn finish_releases() {
    loop {
        if let Some(finish) = FINISH.get() {
            // It blocks: what plugins left is in files.
            if let Err(e) = tokio::task::spawn_blocking(finish).await {
                tracing::error!(error = %e, "finishing releases");
            }
        }
        tokio::time::sleep(RELEASES).await;
    }
}

impl Service {
    pub(crate) async fn assign(&self, r: AssignRequest) -> Result<AssignReply, Refusal> {
        if r.node != self.node.as_str() {
            return Err(Refusal::new(Code::NotHere, format!("this is node {}", self.node)));
        }
        if r.datastore != self.datastore {
            let why = format!("this agent uses {}", self.datastore);
            return Err(Refusal::new(Code::NotHere, why));
        }
        let want = Assign {
            node: self.node.clone(),
            family: if r.ipv6 { Family::V6 } else { Family::V4 },
            count: 1,
            owner: Owner {
                handle: r.handle,
                attributes: r.attributes.into_iter().collect::<BTreeMap<_, _>>(),
            },
            pools: r.pools,
            usage: IpPoolAllowedUse::Workload,
            namespace_labels: r.namespace_labels.into_iter().collect(),
        };
        let begun = Instant::now();
        let got = self.grouped.assign(want).await;
        histogram!("caracal_cni_assign_seconds").record(begun.elapsed());
        let got = got.map_err(|e| {
            counter!("caracal_cni_assign_errors").increment(1);
            Refusal::new(Code::NotNow, e.to_string())
        })?;
        let first = got
            .first()
            .ok_or_else(|| Refusal::new(Code::NotNow, "no address came"))?;
        Ok(AssignReply {
            address: first.to_string(),
        })
    }
}
