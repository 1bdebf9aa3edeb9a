//! Addresses and endpoints of new containers: those who ask at one moment are looked at in one request and written in one
//! transaction.
//!
//! **Invariant:** only what is new is done here. A container that has an endpoint or addresses already is refused, and the
//! plugin repairs it.
//! **Invariant:** nothing is taken back here. What was written for one who did not hear of it is under the container's
//! handle and name, where the plugin that goes on without the agent finds it, and DEL.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use caracal_agent_api::v1::AttachRequest;
use caracal_api::{
    ClusterInformationSpec, IpPoolAllowedUse, Kind, Object, ProfileSpec, Resource, ResourceKey,
    WorkloadEndpointSpec,
};
use caracal_convert::NAMESPACE_LABEL_PREFIX;
use caracal_ids::{NodeName, WorkloadId};
use caracal_ipam::{Assign, Ipam, IpamError, Memory};
use caracal_ipam_plan::Owner;
use caracal_net::{Cidr, Family, IfAddr};
use caracal_store::{StoreError, Write};
use tokio::time::{sleep, timeout};

use super::arrivals::{Arrival, Arrivals};

/// How long one request to the datastore may take. The plugin waits longer, and then does it itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many are written in one transaction: a handle, an endpoint, a profile each, and blocks.
const IN_ONE: usize = 30;

/// How often a transaction is tried against other writers.
const TRIES: u32 = 5;

/// The addresses, or why the plugin has to do it.
pub(super) type Given = Result<Vec<IfAddr>, String>;

/// A new container.
#[derive(Debug)]
pub(super) struct Comer {
    pub(super) arrival: Arrival,
    pub(super) id: WorkloadId,
    pub(super) container: String,
    key: ResourceKey,
    endpoint: Object<WorkloadEndpointSpec>,
    handle: String,
    wants: Vec<Assign>,
    profile: Option<ResourceKey>,
    new_profile: Option<Resource>,
}

impl Comer {
    /// Reads what the plugin says.
    pub(super) fn read(r: AttachRequest, node: &NodeName, arrivals: &Arc<Arrivals>) -> Result<Self, String> {
        let wrong = |what: &str, e: &dyn std::fmt::Display| format!("{what}: {e}");
        let parse = |kind: Kind, text: &[u8], what: &str| -> Result<Resource, String> {
            let value = serde_json::from_slice(text).map_err(|e| wrong(what, &e))?;
            Resource::from_value(kind, value).map_err(|e| wrong(what, &e))
        };
        let resource = parse(Kind::WorkloadEndpoint, &r.endpoint, "endpoint")?;
        let key = resource.key();
        let endpoint: Object<WorkloadEndpointSpec> = resource
            .try_into()
            .map_err(|_| "endpoint: it is none".to_owned())?;
        if endpoint.spec.node != node.as_str() || endpoint.spec.container_id.is_empty() {
            return Err("endpoint: it is not of this node or names no container".to_owned());
        }
        let new_profile = match r.new_profile.is_empty() {
            true => None,
            false => Some(parse(Kind::Profile, &r.new_profile, "new_profile")?),
        };
        let families = [
            (Family::V4, r.ipv4, r.ipv4_pools),
            (Family::V6, r.ipv6, r.ipv6_pools),
        ];
        let owner = Owner {
            handle: r.handle.clone(),
            attributes: r.attributes.into_iter().collect(),
        };
        let wants = families.into_iter().filter(|(_, wanted, _)| *wanted);
        let wants: Vec<Assign> = wants
            .map(|(family, _, pools)| Assign {
                node: node.clone(),
                family,
                count: 1,
                owner: owner.clone(),
                pools,
                usage: IpPoolAllowedUse::Workload,
                namespace_labels: BTreeMap::new(),
            })
            .collect();
        if wants.is_empty() == endpoint.spec.ip_networks.is_empty() {
            return Err("endpoint: it has addresses, or some are to be assigned".to_owned());
        }
        Ok(Self {
            arrival: arrivals.enter(&endpoint.spec.container_id),
            id: WorkloadId::new(&key.namespace, &key.name),
            container: endpoint.spec.container_id.clone(),
            key,
            endpoint,
            handle: r.handle,
            wants,
            profile: Some(r.profile)
                .filter(|p| !p.is_empty())
                .map(|p| ResourceKey::global(Kind::Profile, &p)),
            new_profile,
        })
    }

    fn endpoint(&self, addresses: &[IfAddr], revision: Option<String>) -> Write {
        let mut object = self.endpoint.clone();
        if !self.wants.is_empty() {
            let mut own = addresses.to_vec();
            own.sort_by_key(|a| a.addr.is_ipv6());
            object.spec.ip_networks = own.iter().map(|a| Cidr::host(a.addr).to_string()).collect();
        }
        object.metadata.resource_version = revision;
        Write::put(object.into())
    }
}

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
    let mut conflicts = 0;
    while !open.is_empty() {
        open.retain(|i, one| {
            let off = one.comer.arrival.is_off();
            if off {
                answers.insert(*i, Err("nobody waits for it any more".to_owned()));
            }
            !off
        });
        let round: Vec<usize> = open.keys().copied().take(IN_ONE).collect();
        if round.is_empty() {
            break;
        }
        let outcome = one_round(ipam, node, &mut memory, (&round, &mut open), &mut answers).await;
        open.retain(|i, _| !answers.contains_key(i));
        match outcome {
            Ok(true) => {}
            Ok(false) if conflicts < TRIES => {
                conflicts += 1;
                memory.freed();
                sleep(Duration::from_millis(u64::from(conflicts))).await;
            }
            Ok(false) => refuse(
                &mut answers,
                &mut open,
                &round,
                "other writers were always faster",
            ),
            Err(why) => refuse(&mut answers, &mut open, &round, &why),
        }
    }
    desk.end(memory);
    let missing = || Err("it was not served".to_owned());
    (0..count)
        .map(|i| answers.remove(&i).unwrap_or_else(missing))
        .collect()
}

fn refuse(
    answers: &mut BTreeMap<usize, Given>,
    open: &mut BTreeMap<usize, Open>,
    round: &[usize],
    why: &str,
) {
    for i in round {
        if open.remove(i).is_some() {
            answers.insert(*i, Err(why.to_owned()));
        }
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, IpamError>>) -> Result<T, String> {
    match timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(_) => Err(format!("the datastore took more than {PATIENCE:?}")),
    }
}

/// Looks, plans and writes for some of those who wait. False when somebody else was faster.
async fn one_round(
    ipam: &Ipam,
    node: &NodeName,
    memory: &mut Memory,
    (round, open): (&[usize], &mut BTreeMap<usize, Open>),
    answers: &mut BTreeMap<usize, Given>,
) -> Result<bool, String> {
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
        return Err("the datastore is not ready".to_owned());
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
        return Err("the addresses are in too many blocks for one transaction".to_owned());
    }
    if !in_time(ipam.write_together(writes)).await? {
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
        all.extend(in_time(ipam.assign(want)).await?);
    }
    Ok(all)
}
