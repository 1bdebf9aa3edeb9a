//! Addresses and endpoints of new containers: those who ask at one moment are looked at in one request and written in one
//! transaction.
//!
//! **Invariant:** only what is new is done here. A container that has an endpoint or addresses already is refused, and the
//! plugin repairs it.
//! **Invariant:** nothing is taken back here. What was written for one who did not hear of it is under the container's
//! handle and name, where the plugin that goes on without the agent finds it, and DEL.

mod comer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use caracal_api::{
    ClusterInformationSpec, Kind, Object, ProfileSpec, Resource, ResourceKey, WorkloadEndpointSpec,
};
use caracal_convert::NAMESPACE_LABEL_PREFIX;
use caracal_ids::NodeName;
use caracal_ipam::{Assign, Ipam, IpamError, Memory};
use caracal_net::IfAddr;
use caracal_store::{StoreError, Write};
use tokio::time::{sleep, timeout};

use super::arrivals::Arrival;
pub(super) use comer::Comer;

/// How long one request to the datastore may take. The plugin waits longer, and then does it itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many are written in one transaction: a handle, an endpoint, a profile each, and blocks.
const IN_ONE: usize = 30;

/// How often a transaction is tried against other writers.
const TRIES: u32 = 5;

/// How long a transaction that was not answered may still be done: longer than etcd itself keeps one that it could not.
const UNSURE: Duration = Duration::from_secs(10);

/// The addresses, or why the plugin has to do it.
pub(super) type Given = Result<Vec<IfAddr>, String>;

/// What is kept from one group to the next.
#[derive(Debug, Default)]
pub(super) struct Desk {
    memory: Mutex<Memory>,
    freed: AtomicBool,
}

impl Desk {
    /// Addresses were given back: blocks that were full may not be.
    pub(super) fn freed(&self) {
        self.freed.store(true, Ordering::Relaxed);
    }

    fn begin(&self) -> Memory {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.freed.swap(false, Ordering::Relaxed) {
            memory.freed();
        }
        memory
    }

    fn end(&self, memory: Memory) {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
    }
}

/// One who still waits.
struct Open {
    comer: Comer,
    /// What was assigned step by step.
    got: Option<Vec<IfAddr>>,
}

/// What one look said of those who wait.
#[derive(Default)]
struct Judged {
    /// The revision of the endpoint that is replaced.
    revisions: BTreeMap<usize, Option<String>>,
    wants: BTreeMap<usize, Vec<Assign>>,
    profiles: BTreeMap<String, Resource>,
    refused: Vec<(usize, String)>,
}

/// Serves all who wait at one moment. One answer for each, in order.
pub(super) async fn serve(ipam: &Ipam, node: &NodeName, desk: &Arc<Desk>, batch: Vec<Comer>) -> Vec<Given> {
    let mut answers: BTreeMap<usize, Given> = BTreeMap::new();
    let count = batch.len();
    let mut open: BTreeMap<usize, Open> = batch
        .into_iter()
        .map(|comer| Open { comer, got: None })
        .enumerate()
        .collect();
    let mut memory = desk.begin();
    let (mut conflicts, mut most) = (0, IN_ONE);
    while !open.is_empty() {
        open.retain(|i, one| {
            let off = one.comer.arrival.is_off();
            if off {
                answers.insert(*i, Err("nobody waits for it any more".to_owned()));
            }
            !off
        });
        let round = members(&open, most);
        if round.is_empty() {
            break;
        }
        let outcome = one_round(ipam, node, &mut memory, (&round, &mut open), &mut answers).await;
        open.retain(|i, _| !answers.contains_key(i));
        match outcome {
            Ok(true) => most = (2 * most).min(IN_ONE),
            Ok(false) if conflicts < TRIES => {
                conflicts += 1;
                memory.freed();
                sleep(Duration::from_millis(u64::from(conflicts))).await;
            }
            Ok(false) => drop(refuse(
                &mut answers,
                &mut open,
                &round,
                "other writers were always faster",
            )),
            // Whose fault it is shows in smaller groups.
            Err(Trouble::OfSome(_)) if round.len() > 1 => most = round.len().div_ceil(2),
            Err(Trouble::OfSome(why) | Trouble::Away(why)) => {
                drop(refuse(&mut answers, &mut open, &round, &why));
            }
            Err(Trouble::Unsure(why)) => {
                let arrivals = refuse(&mut answers, &mut open, &round, &why);
                tokio::spawn(async move {
                    sleep(UNSURE).await;
                    drop(arrivals);
                });
            }
        }
    }
    desk.end(memory);
    let missing = || Err("it was not served".to_owned());
    (0..count)
        .map(|i| answers.remove(&i).unwrap_or_else(missing))
        .collect()
}

/// Those of the next transaction. Of several with one name, or one handle, the others come after the first.
fn members(open: &BTreeMap<usize, Open>, most: usize) -> Vec<usize> {
    let (mut names, mut handles) = (BTreeSet::new(), BTreeSet::new());
    let fits = |(i, one): (&usize, &Open)| {
        let first = !names.contains(&one.comer.key) && !handles.contains(&one.comer.handle);
        first.then(|| {
            names.insert(one.comer.key.clone());
            handles.insert(one.comer.handle.clone());
            *i
        })
    };
    open.iter().filter_map(fits).take(most).collect()
}

/// Why a round came to nothing.
enum Trouble {
    /// The datastore cannot be asked, which is so for all.
    Away(String),
    /// The same, but it was told to write, and may still do it.
    Unsure(String),
    /// Something is wrong with some of them.
    OfSome(String),
}

impl Trouble {
    fn after_a_write(self) -> Self {
        match self {
            Self::Away(why) => Self::Unsure(why),
            other => other,
        }
    }

    fn into_why(self) -> String {
        match self {
            Self::Away(why) | Self::Unsure(why) | Self::OfSome(why) => why,
        }
    }
}

/// They get no answer but why; what says that they are being attached.
fn refuse(
    answers: &mut BTreeMap<usize, Given>,
    open: &mut BTreeMap<usize, Open>,
    round: &[usize],
    why: &str,
) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    for i in round {
        if let Some(one) = open.remove(i) {
            answers.insert(*i, Err(why.to_owned()));
            arrivals.push(one.comer.arrival);
        }
    }
    arrivals
}

async fn in_time<T>(work: impl Future<Output = Result<T, IpamError>>) -> Result<T, Trouble> {
    let Ok(done) = timeout(PATIENCE, work).await else {
        return Err(Trouble::Away(format!(
            "the datastore took more than {PATIENCE:?}"
        )));
    };
    done.map_err(|e| match &e {
        IpamError::Store { source, .. } if source.is_transient() => Trouble::Away(e.to_string()),
        _ => Trouble::OfSome(e.to_string()),
    })
}

/// Looks, plans and writes for some of those who wait. False when somebody else was faster.
async fn one_round(
    ipam: &Ipam,
    node: &NodeName,
    memory: &mut Memory,
    (round, open): (&[usize], &mut BTreeMap<usize, Open>),
    answers: &mut BTreeMap<usize, Given>,
) -> Result<bool, Trouble> {
    let members: Vec<(usize, &Open)> = round
        .iter()
        .filter_map(|i| open.get(i).map(|o| (*i, o)))
        .collect();
    let handles: BTreeSet<String> = members
        .iter()
        .filter(|(_, o)| !o.comer.wants.is_empty() && o.got.is_none())
        .map(|(_, o)| o.comer.handle.clone())
        .collect();
    let mut others = vec![ResourceKey::global(Kind::ClusterInformation, "default")];
    others.extend(members.iter().map(|(_, o)| o.comer.key.clone()));
    let profiles: BTreeSet<&ResourceKey> = members
        .iter()
        .filter_map(|(_, o)| o.comer.profile.as_ref())
        .collect();
    let profiles: Vec<ResourceKey> = profiles.into_iter().cloned().collect();
    others.extend(profiles.iter().cloned());
    let mut sight = in_time(ipam.look(node, &handles, others, memory)).await?;
    let mut seen = std::mem::take(&mut sight.others).into_iter();
    if let Some(Ok(cluster)) = seen.next()
        && let Ok(cluster) = Object::<ClusterInformationSpec>::try_from(cluster)
        && cluster.spec.datastore_ready == Some(false)
    {
        return Err(Trouble::Away("the datastore is not ready".to_owned()));
    }
    let endpoints: Vec<_> = seen.by_ref().take(members.len()).collect();
    let profiles: BTreeMap<ResourceKey, _> = profiles.into_iter().zip(seen).collect();
    let mut judged = Judged::default();
    for ((i, one), endpoint) in members.iter().zip(endpoints) {
        let has_handle = sight.has_handle(&one.comer.handle);
        if let Err(why) = judge(*i, one, endpoint, &profiles, has_handle, &mut judged) {
            judged.refused.push((*i, why));
        }
    }
    let drawn = ipam.draw(&sight, &judged.wants, memory);
    let mut writes = drawn.writes;
    let mut done = Vec::new();
    for (i, one) in &members {
        let Some(revision) = judged.revisions.get(i) else {
            continue;
        };
        let addresses = match (&one.got, drawn.given.get(i)) {
            (Some(got), _) | (None, Some(got)) => got.clone(),
            (None, None) if one.comer.wants.is_empty() => Vec::new(),
            (None, None) => continue,
        };
        writes.push(one.comer.endpoint(&addresses, revision.clone()));
        done.push((*i, addresses));
    }
    writes.extend(judged.profiles.into_values().map(Write::Create));
    for (i, why) in judged.refused {
        answers.insert(i, Err(why));
    }
    // What is called off now must not be written; without it the plan is another one.
    if members.iter().any(|(_, one)| one.comer.arrival.is_off()) {
        return Ok(true);
    }
    if done.is_empty() {
        // A block has to be claimed or borrowed from; the others then find it there.
        if let Some((i, wants)) = judged.wants.into_iter().next() {
            memory.freed();
            let got = claim(ipam, &wants).await;
            match (got, open.get_mut(&i)) {
                (Ok(got), Some(one)) => one.got = Some(got),
                (Err(why), _) => drop(answers.insert(i, Err(why))),
                (Ok(_), None) => {}
            }
        }
        return Ok(true);
    }
    if writes.len() > ipam.writes_together() {
        let why = "the addresses are in too many blocks for one transaction";
        return Err(Trouble::OfSome(why.to_owned()));
    }
    let written = in_time(ipam.write_together(writes)).await;
    if !written.map_err(Trouble::after_a_write)? {
        return Ok(false);
    }
    for (i, addresses) in done {
        answers.insert(i, Ok(addresses));
    }
    Ok(true)
}

/// Whether one can be served here, and what it needs.
fn judge(
    i: usize,
    one: &Open,
    endpoint: Result<Resource, StoreError>,
    profiles: &BTreeMap<ResourceKey, Result<Resource, StoreError>>,
    has_handle: bool,
    judged: &mut Judged,
) -> Result<(), String> {
    let revision = match endpoint {
        Err(StoreError::NotFound(_)) => None,
        Err(e) => return Err(e.to_string()),
        Ok(found) => {
            let revision = found.metadata().resource_version.clone();
            let owner = Object::<WorkloadEndpointSpec>::try_from(found).map(|e| e.spec.container_id);
            if owner.is_ok_and(|o| o == one.comer.container) {
                return Err("the container has its endpoint already".to_owned());
            }
            revision
        }
    };
    if has_handle {
        return Err("the container has addresses already".to_owned());
    }
    let mut labels = BTreeMap::new();
    match one.comer.profile.as_ref().and_then(|p| profiles.get(p)) {
        None => {}
        Some(Ok(profile)) => {
            let profile = Object::<ProfileSpec>::try_from(profile.clone()).ok();
            let own = profile.into_iter().flat_map(|p| p.spec.labels_to_apply);
            labels.extend(
                own.filter_map(|(k, v)| Some((k.strip_prefix(NAMESPACE_LABEL_PREFIX)?.to_owned(), v))),
            );
        }
        Some(Err(StoreError::NotFound(_))) => {
            if let Some(new) = &one.comer.new_profile {
                judged.profiles.insert(new.metadata().name.clone(), new.clone());
            }
        }
        Some(Err(e)) => return Err(e.to_string()),
    }
    judged.revisions.insert(i, revision);
    if one.got.is_none() && !one.comer.wants.is_empty() {
        let labelled = one.comer.wants.iter().map(|w| Assign {
            namespace_labels: labels.clone(),
            ..w.clone()
        });
        judged.wants.insert(i, labelled.collect());
    }
    Ok(())
}

/// Assigns to one, step by step.
async fn claim(ipam: &Ipam, wants: &[Assign]) -> Given {
    let mut all = Vec::new();
    for want in wants {
        let got = in_time(ipam.assign(want)).await;
        all.extend(got.map_err(Trouble::into_why)?);
    }
    Ok(all)
}
