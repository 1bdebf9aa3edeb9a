//! What the agent knows about the state of its endpoints, shared between the dataplane's thread and those who ask.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use caracal_api::{Kind, ResourceKey};
use caracal_ids::WorkloadId;
use tokio::sync::{oneshot, watch};

use crate::stages::Stages;

/// How an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Policy and routes are in force.
    Up,
    /// Policy is in force; the interface is missing or down.
    Down(String),
    /// The kernel refused something that the endpoint needs.
    Error(String),
}

/// An endpoint of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointStatus {
    pub(crate) interface: String,
    pub(crate) container_id: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) state: State,
}

/// What an apply brought into force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Applied {
    /// Whether there is something that has not been told yet.
    pub(crate) dirty: bool,
    /// The highest revision of each kind, where the datastore counts revisions.
    pub(crate) revisions: BTreeMap<Kind, u64>,
}

/// How many endpoints are up, down, refused.
#[derive(Debug, Default)]
struct States([u32; 3]);

impl States {
    /// One endpoint has changed.
    fn count(&mut self, before: Option<&EndpointStatus>, now: Option<&EndpointStatus>) {
        let of = |s: &EndpointStatus| match s.state {
            State::Up => 0,
            State::Down(_) => 1,
            State::Error(_) => 2,
        };
        if let Some(before) = before {
            let n = &mut self.0[of(before)];
            *n = n.saturating_sub(1);
        }
        if let Some(now) = now {
            self.0[of(now)] += 1;
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    endpoints: BTreeMap<WorkloadId, EndpointStatus>,
    states: States,
    /// Host endpoints of this node, by name.
    hosts: BTreeMap<String, State>,
    revisions: BTreeMap<Kind, u64>,
    config: String,
    invalid: BTreeMap<ResourceKey, String>,
    in_sync: bool,
    /// Who waits for an endpoint. The others must not be woken for it.
    waiting: BTreeMap<WorkloadId, Vec<oneshot::Sender<()>>>,
}

/// So many who wait for different endpoints are a reason to look whether they still do.
const MANY_WAIT: usize = 1024;

impl Inner {
    /// Where to wait for the next news of an endpoint.
    fn wait_for(&mut self, id: &WorkloadId) -> oneshot::Receiver<()> {
        if self.waiting.len() >= MANY_WAIT {
            self.waiting.retain(|_, who| who.iter().any(|w| !w.is_closed()));
        }
        let (sender, news) = oneshot::channel();
        let who = self.waiting.entry(id.clone()).or_default();
        who.retain(|w| !w.is_closed());
        who.push(sender);
        news
    }

    /// Tells those who wait for an endpoint.
    fn wake(&mut self, id: &WorkloadId) {
        for who in self.waiting.remove(id).into_iter().flatten() {
            // It may have gone.
            let _ = who.send(());
        }
    }

    fn in_force(&self, id: &WorkloadId, container: &str) -> Result<(), String> {
        if !self.in_sync {
            return Err("the agent has not read the whole datastore yet".into());
        }
        match self.endpoints.get(id) {
            None => Err("the agent has not seen the endpoint yet".into()),
            Some(s) if s.container_id != container => Err(format!(
                "the agent still has the endpoint of container {}",
                s.container_id
            )),
            Some(s) => match &s.state {
                State::Up => Ok(()),
                State::Down(why) | State::Error(why) => Err(why.clone()),
            },
        }
    }
}

/// The shared state. Every change raises the generation, which can be waited for.
#[derive(Debug)]
pub(crate) struct Status {
    inner: Mutex<Inner>,
    generation: watch::Sender<u64>,
    /// Of the start.
    pub(crate) stages: Stages,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            generation: watch::channel(0).0,
            stages: Stages::default(),
        }
    }
}

impl Status {
    /// The state of an agent that has begun its start already.
    pub(crate) fn of_start(stages: Stages) -> Self {
        Self {
            stages,
            ..Self::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Plain data: a panic elsewhere leaves nothing half done that matters.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the changes of one apply: endpoints that are there now, those that are gone, and what is in force unless
    /// policy failed.
    pub(crate) fn applied(
        &self,
        set: Vec<(WorkloadId, EndpointStatus)>,
        gone: &[WorkloadId],
        in_force: Option<&Applied>,
    ) {
        {
            let mut inner = self.lock();
            for id in gone {
                let before = inner.endpoints.remove(id);
                inner.states.count(before.as_ref(), None);
                inner.wake(id);
            }
            for (id, status) in set {
                inner.wake(&id);
                let before = inner.endpoints.insert(id.clone(), status);
                let Inner {
                    endpoints, states, ..
                } = &mut *inner;
                states.count(before.as_ref(), endpoints.get(&id));
            }
            if let Some(applied) = in_force {
                inner.revisions.clone_from(&applied.revisions);
                if !std::mem::replace(&mut inner.in_sync, true) {
                    let all: Vec<WorkloadId> = inner.waiting.keys().cloned().collect();
                    all.iter().for_each(|id| inner.wake(id));
                }
            }
            for (name, n) in ["up", "down", "error"].into_iter().zip(inner.states.0) {
                metrics::gauge!("caracal_endpoints", "state" => name).set(n);
            }
        }
        self.generation.send_modify(|g| *g += 1);
    }

    /// Takes the state of all host endpoints of this node, for those who look at the next change.
    pub(crate) fn set_hosts(&self, hosts: BTreeMap<String, State>) {
        self.lock().hosts = hosts;
    }

    /// The host endpoints.
    pub(crate) fn hosts(&self) -> BTreeMap<String, State> {
        self.lock().hosts.clone()
    }

    /// Notes that an object cannot be used, or can again; whether that is news.
    pub(crate) fn set_invalid(&self, key: ResourceKey, reason: Option<String>) -> bool {
        let mut inner = self.lock();
        let before = match &reason {
            Some(r) => inner.invalid.insert(key, r.clone()),
            None => inner.invalid.remove(&key),
        };
        before != reason
    }

    /// Whether the first complete apply has been done.
    pub(crate) fn in_sync(&self) -> bool {
        self.lock().in_sync
    }

    /// The highest revision in force of each kind.
    pub(crate) fn revisions(&self) -> BTreeMap<Kind, u64> {
        self.lock().revisions.clone()
    }

    /// Keeps the parameters in force, as JSON.
    pub(crate) fn set_config(&self, json: String) {
        self.lock().config = json;
    }

    /// The parameters in force, as JSON.
    pub(crate) fn config(&self) -> String {
        self.lock().config.clone()
    }

    /// The number of applies.
    pub(crate) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Changes at every apply.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// The endpoints.
    pub(crate) fn endpoints(&self) -> Vec<(WorkloadId, EndpointStatus)> {
        self.lock()
            .endpoints
            .iter()
            .map(|(id, s)| (id.clone(), s.clone()))
            .collect()
    }

    /// The objects that cannot be used.
    pub(crate) fn invalid(&self) -> Vec<(ResourceKey, String)> {
        self.lock()
            .invalid
            .iter()
            .map(|(k, r)| (k.clone(), r.clone()))
            .collect()
    }

    /// Waits until the endpoint of that container is up.
    ///
    /// # Errors
    /// What is missing, when the time is up.
    pub(crate) async fn await_endpoint(
        &self,
        id: &WorkloadId,
        container: &str,
        timeout: Duration,
    ) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            let (why, news) = {
                let mut inner = self.lock();
                match inner.in_force(id, container) {
                    Ok(()) => return Ok(()),
                    Err(why) => (why, inner.wait_for(id)),
                }
            };
            match tokio::time::timeout_at(deadline, news).await {
                Ok(Ok(())) => {}
                _ => return Err(why),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn up(container: &str) -> EndpointStatus {
        EndpointStatus {
            interface: "cali1".into(),
            container_id: container.into(),
            addresses: vec![],
            state: State::Up,
        }
    }

    #[tokio::test]
    async fn waits_for_this_container_only() {
        let status = Arc::new(Status::default());
        let id = WorkloadId::new("ns", "w");
        status.applied(vec![(id.clone(), up("old"))], &[], Some(&Applied::default()));
        let short = Duration::from_millis(5);
        let e = status.await_endpoint(&id, "new", short).await.unwrap_err();
        assert!(e.contains("old"), "{e}");
        let waiting = {
            let (status, id) = (status.clone(), id.clone());
            tokio::spawn(async move { status.await_endpoint(&id, "new", Duration::from_secs(30)).await })
        };
        tokio::task::yield_now().await;
        status.applied(vec![(id.clone(), up("new"))], &[], Some(&Applied::default()));
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert!(status.lock().waiting.is_empty());
        // One who is gone, and one who waits from before the first apply.
        let early = Arc::new(Status::default());
        drop(early.lock().wait_for(&id));
        let waiting = {
            let (status, id) = (early.clone(), id.clone());
            tokio::spawn(async move { status.await_endpoint(&id, "new", Duration::from_secs(30)).await })
        };
        tokio::task::yield_now().await;
        early.applied(vec![(id.clone(), up("new"))], &[], None);
        tokio::task::yield_now().await;
        early.applied(vec![], &[], Some(&Applied::default()));
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert!(early.lock().waiting.is_empty());
        status.applied(vec![], std::slice::from_ref(&id), Some(&Applied::default()));
        assert!(status.await_endpoint(&id, "new", short).await.is_err());
    }
}
