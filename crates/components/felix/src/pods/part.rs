//! Endpoints and addresses of containers that have ended: those who ask at one moment are written in one transaction, or
//! each by itself where it does not go so easily.

use std::{collections::BTreeSet, sync::Arc};

use caracal_api::{Object, Resource, ResourceKey, WorkloadEndpointSpec};
use caracal_ipam::{Ipam, IpamError, Parting};
use caracal_store::{Store, StoreError, Write, retire};
use tokio::time::timeout;

use super::{Done, PATIENCE};

/// How many are written in one transaction: a handle, an old handle, an endpoint each, and blocks.
const IN_ONE: usize = 30;

/// How often a transaction is tried against other writers.
const TRIES: usize = 3;

/// One that has ended.
#[derive(Debug, Default)]
pub(super) struct Goer {
    /// Its endpoint, if there may be one.
    pub(super) endpoint: Option<ResourceKey>,
    pub(super) container: String,
    /// Who holds its addresses.
    pub(super) handles: Vec<String>,
    /// What was looked at before.
    pub(super) seen: Option<Parting>,
}

impl Goer {
    fn owns(&self, found: &Resource) -> bool {
        let owner = Object::<WorkloadEndpointSpec>::try_from(found.clone()).map(|e| e.spec.container_id);
        // One that names no container was not made by a CNI plugin of today: the pod's is the only claim.
        owner.is_ok_and(|o| o.is_empty() || o == self.container)
    }

    /// Looks at what is there, to have seen it when its turn comes.
    pub(super) async fn look(&self, ipam: &Ipam) -> Option<Parting> {
        look(ipam, std::slice::from_ref(self)).await.ok()
    }
}

/// What became of endpoint and addresses.
pub(super) type Parted = (Done, Done);

async fn look(ipam: &Ipam, group: &[Goer]) -> Result<Parting, IpamError> {
    let keys = group.iter().filter_map(|g| g.endpoint.clone()).collect();
    ipam.look_back(&handles(group), keys).await
}

fn handles(group: &[Goer]) -> BTreeSet<String> {
    group.iter().flat_map(|g| g.handles.iter().cloned()).collect()
}

/// Serves all who wait at one moment. One answer for each, in order.
pub(super) async fn serve(ipam: &Ipam, store: &Arc<dyn Store>, batch: Vec<Goer>) -> Vec<Parted> {
    let mut answers = Vec::with_capacity(batch.len());
    let mut rest = batch;
    while !rest.is_empty() {
        let more = rest.split_off(rest.len().min(IN_ONE));
        let mut group = std::mem::replace(&mut rest, more);
        match timeout(PATIENCE, together(ipam, &mut group)).await {
            Ok(true) => answers.extend(group.iter().map(|_| (Ok(()), Ok(())))),
            Ok(false) => answers.extend(one_by_one(ipam, store, &group).await),
            // The plugin has its own patience, and writes down what is left.
            Err(_) => answers.extend(group.iter().map(|_| (late(), late()))),
        }
    }
    answers
}

fn late() -> Done {
    Err(format!("the datastore took more than {PATIENCE:?}"))
}

/// All in one transaction; whether it was done.
async fn together(ipam: &Ipam, group: &mut [Goer]) -> bool {
    let most = ipam.writes_together();
    for _ in 0..TRIES {
        if most == 0 {
            return false;
        }
        let before = match group {
            [one] => one.seen.take(),
            _ => None,
        };
        let seen = match before {
            Some(seen) => seen,
            None => match look(ipam, group).await {
                Ok(seen) => seen,
                Err(_) => return false,
            },
        };
        let Some((mut writes, emptied)) = ipam.give_back(&seen, &handles(group)) else {
            return false;
        };
        let with_endpoint = group.iter().filter(|g| g.endpoint.is_some());
        for (goer, found) in with_endpoint.zip(&seen.others) {
            match found {
                Ok(found) if goer.owns(found) => {
                    let Some(at) = found.metadata().resource_version.clone() else {
                        return false;
                    };
                    writes.push(Write::Delete(found.key(), at));
                }
                Ok(_) | Err(StoreError::NotFound(_)) => {}
                Err(_) => return false,
            }
        }
        if writes.len() > most {
            return false;
        }
        if writes.is_empty() {
            return true;
        }
        match ipam.write_together(writes).await {
            Ok(true) => {
                if !emptied.is_empty() {
                    let ipam = ipam.clone();
                    // Nobody waits for that.
                    tokio::spawn(async move { ipam.tidy_blocks(&emptied).await });
                }
                return true;
            }
            Ok(false) => {}
            Err(_) => return false,
        }
    }
    false
}

async fn one_by_one(ipam: &Ipam, store: &Arc<dyn Store>, group: &[Goer]) -> Vec<Parted> {
    let endpoints = async {
        let mut done = Vec::with_capacity(group.len());
        for goer in group {
            done.push(endpoint(store, goer).await);
        }
        done
    };
    let (endpoints, addresses) = tokio::join!(endpoints, release(ipam, group));
    endpoints.into_iter().zip(addresses).collect()
}

async fn endpoint(store: &Arc<dyn Store>, goer: &Goer) -> Done {
    let Some(key) = &goer.endpoint else {
        return Ok(());
    };
    match timeout(PATIENCE, retire(store.as_ref(), key, |found| goer.owns(found))).await {
        Err(_) => late(),
        Ok(done) => done.map(drop).map_err(|e| e.to_string()),
    }
}

/// Gives back the addresses of all of the group.
async fn release(ipam: &Ipam, group: &[Goer]) -> Vec<Done> {
    let handles: Vec<String> = group.iter().flat_map(|g| g.handles.iter().cloned()).collect();
    let Ok(results) = timeout(PATIENCE, ipam.release_handles(&handles)).await else {
        return group.iter().map(|_| late()).collect();
    };
    let mut results = results.into_iter();
    let of_one = |goer: &Goer| {
        let own: Vec<_> = results.by_ref().take(goer.handles.len()).collect();
        own.into_iter()
            .collect::<Result<(), _>>()
            .map_err(|e| e.to_string())
    };
    group.iter().map(of_one).collect()
}
