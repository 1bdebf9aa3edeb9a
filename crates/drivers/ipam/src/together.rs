//! Addresses for many, and what is written because of them, in one transaction, on datastores that have such. Who finds
//! that it does not go so easily does it step by step ([`Ipam::assign_group`], [`Ipam::release_handles`]): what is written
//! is the same.

use std::collections::{BTreeMap, BTreeSet};

use caracal_api::{
    BlockAffinitySpec, IpPoolSpec, IpReservationSpec, IpamBlockSpec, IpamConfigurationSpec, IpamHandleSpec,
    Kind, Object, Resource, ResourceKey, Spec,
};
use caracal_ids::NodeName;
use caracal_ipam_plan::{
    Asker, Block, Holder, Observed, Plan, ReleaseRequest, Step, Want, cooldown, handles_of, plan_group,
    plan_release,
};
use caracal_net::{Cidr, IfAddr};
use caracal_store::{Found, ListOptions, Page, Reads, StoreError, Write};

use crate::{
    assign::{Assign, AssignOptions, to_want},
    error::{IpamError, doing},
    ipam::Ipam,
    observe::{Listed, listed},
};

const DEFAULT: &str = "default";

/// What is remembered of a node's blocks from round to round. It only saves reading: whatever it says, what is written
/// compares with what is stored.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Blocks to read at once with everything else.
    likely: BTreeSet<Cidr>,
    /// Blocks that had no free address.
    full: BTreeSet<Cidr>,
}

impl Memory {
    /// Addresses were given back: blocks that were full may not be.
    pub fn freed(&mut self) {
        self.full.clear();
    }
}

/// What is there at one moment, for [`Ipam::draw`].
#[derive(Debug)]
pub struct Sight {
    seen: Observed,
    /// The other objects that were asked for, in order.
    pub others: Vec<Result<Resource, StoreError>>,
}

impl Sight {
    /// Whether a handle is there, which holds addresses or did a moment ago.
    #[must_use]
    pub fn has_handle(&self, name: &str) -> bool {
        self.seen.handles.contains_key(name)
    }
}

/// Addresses that can be taken from blocks that are there: for each of those who want some, by their place; and what has to
/// be written for it. Who is not among them needs more than one write.
#[derive(Debug, Default)]
pub struct Drawn {
    /// The addresses.
    pub given: BTreeMap<usize, Vec<IfAddr>>,
    /// The writes.
    pub writes: Vec<Write>,
}

impl Ipam {
    /// Whether the datastore can write so much together.
    #[must_use]
    pub fn writes_together(&self) -> usize {
        self.store().writes_together()
    }

    /// Looks at what an assignment depends on, at these handles, and at `others`.
    ///
    /// # Errors
    /// When the datastore fails or something cannot be read.
    pub async fn look(
        &self,
        node: &NodeName,
        handles: &BTreeSet<String>,
        others: Vec<ResourceKey>,
        memory: &mut Memory,
    ) -> Result<Sight, IpamError> {
        let holder = Holder::Host(node.to_string());
        let likely: Vec<Cidr> = memory.likely.difference(&memory.full).copied().collect();
        let claims = ListOptions {
            name_prefix: Some(holder.affinity_prefix()),
            ..ListOptions::default()
        };
        let mut objects = vec![
            ResourceKey::global(Kind::IpamConfiguration, DEFAULT),
            ResourceKey::global(Kind::Node, node.as_str()),
        ];
        objects.extend(handles.iter().map(|h| ResourceKey::global(Kind::IpamHandle, h)));
        objects.extend(likely.iter().map(block_key));
        objects.extend(others);
        let reads = Reads {
            objects,
            lists: vec![
                (Kind::IpPool, ListOptions::default()),
                (Kind::IpReservation, ListOptions::default()),
                (Kind::BlockAffinity, claims),
            ],
        };
        let found = self.store().read_together(&reads).await;
        let Found { objects, lists } = found.map_err(doing("reading what an assignment depends on"))?;
        let mut objects = objects.into_iter();
        let mut lists = lists.into_iter();
        let mut seen = Observed::default();
        if let Some(config) = there::<IpamConfigurationSpec>(objects.next())? {
            seen.config = config.spec;
        }
        if let Some(Ok(node)) = objects.next() {
            seen.node_labels.clone_from(&node.metadata().labels);
        }
        for name in handles {
            if let Some(handle) = there::<IpamHandleSpec>(objects.next())? {
                seen.handles.insert(name.clone(), handle);
            }
        }
        for (cidr, found) in likely.iter().zip(objects.by_ref()) {
            take_block(&mut seen, cidr, found)?;
        }
        let others = objects.collect();
        seen.pools = typed::<IpPoolSpec>(lists.next()).items;
        seen.reserved = self.reserved(&typed::<IpReservationSpec>(lists.next()));
        seen.affinities = typed::<BlockAffinitySpec>(lists.next()).items;
        // The prefix also finds owners whose names begin alike.
        seen.affinities.retain(|a| Holder::of_affinity(&a.spec) == holder);
        let own: BTreeSet<Cidr> = seen
            .affinities
            .iter()
            .filter_map(|a| a.spec.cidr.parse().ok())
            .collect();
        let looked: BTreeSet<Cidr> = likely.into_iter().collect();
        let unknown: Vec<Cidr> = own
            .iter()
            .filter(|c| !looked.contains(c) && !memory.full.contains(c))
            .copied()
            .collect();
        if !unknown.is_empty() {
            let reads = Reads {
                objects: unknown.iter().map(block_key).collect(),
                lists: Vec::new(),
            };
            let found = self.store().read_together(&reads).await;
            let found = found.map_err(doing("reading IPAM blocks"))?;
            for (cidr, found) in unknown.iter().zip(found.objects) {
                take_block(&mut seen, cidr, found)?;
            }
        }
        memory.full.retain(|c| own.contains(c));
        memory.likely = own;
        // A claim whose block was not read would look like one without a block.
        let full =
            |a: &Object<BlockAffinitySpec>| a.spec.cidr.parse().is_ok_and(|c| memory.full.contains(&c));
        seen.affinities.retain(|a| !full(a));
        Ok(Sight { seen, others })
    }

    /// Plans what can be had from blocks that are there, in one go. Nobody's plan needs a block to be made or claimed.
    #[must_use]
    pub fn draw(&self, sight: &Sight, wants: &BTreeMap<usize, Vec<Assign>>, memory: &mut Memory) -> Drawn {
        let mut who: BTreeMap<usize, &Vec<Assign>> = wants.iter().map(|(i, w)| (*i, w)).collect();
        // Those who get only a part fall out; without them the plan is another one.
        while let Some(first) = who.values().flat_map(|w| w.iter()).next() {
            let asker = Asker {
                holder: Holder::Host(first.node.to_string()),
                max_blocks: None,
                host_reserved: None,
                now: self.now(),
            };
            let flat: Vec<(usize, &Assign)> = who
                .iter()
                .flat_map(|(i, w)| w.iter().map(move |one| (*i, one)))
                .collect();
            let options = AssignOptions::default();
            let numbered: Vec<(usize, Want)> = flat
                .iter()
                .enumerate()
                .map(|(n, (_, one))| (n, to_want(one, &options)))
                .collect();
            let group = plan_group(&sight.seen, &asker, &numbered);
            let Some(Plan::Write { handles, blocks }) = group.plan else {
                return Drawn::default();
            };
            let mut given: BTreeMap<usize, Vec<IfAddr>> = BTreeMap::new();
            for (n, got) in blocks.iter().flat_map(|b| &b.assigned) {
                if let Some((i, _)) = flat.get(*n) {
                    given.entry(*i).or_default().extend(got);
                }
            }
            let count = |wants: &[Assign]| wants.iter().map(|w| w.count).sum::<usize>();
            let before = who.len();
            who.retain(|i, wants| given.get(i).is_some_and(|got| got.len() == count(wants)));
            if who.len() < before {
                continue;
            }
            for b in &blocks {
                remember(&b.step, memory);
            }
            let steps = handles.into_iter().chain(blocks.into_iter().map(|b| b.step));
            return Drawn {
                given,
                writes: steps.filter_map(to_write).collect(),
            };
        }
        Drawn::default()
    }

    /// Does all of the writes or none; false when something has changed since it was looked at.
    ///
    /// # Errors
    /// When the datastore fails: then it may have been done.
    pub async fn write_together(&self, writes: Vec<Write>) -> Result<bool, IpamError> {
        let done = self.store().write_together(writes).await;
        done.map_err(doing("writing addresses and what belongs to them"))
    }

    /// Looks at what a release of these handles depends on, and at `others`.
    ///
    /// # Errors
    /// When the datastore fails or something cannot be read.
    pub async fn look_back(
        &self,
        handles: &BTreeSet<String>,
        others: Vec<ResourceKey>,
    ) -> Result<Parting, IpamError> {
        let mut objects = vec![ResourceKey::global(Kind::IpamConfiguration, DEFAULT)];
        objects.extend(handles.iter().map(|h| ResourceKey::global(Kind::IpamHandle, h)));
        objects.extend(others);
        let reads = Reads {
            objects,
            lists: Vec::new(),
        };
        let found = self.store().read_together(&reads).await;
        let mut objects = found.map_err(doing("reading IPAM handles"))?.objects.into_iter();
        let config = there::<IpamConfigurationSpec>(objects.next())?
            .map(|c| c.spec)
            .unwrap_or_default();
        let mut held = BTreeMap::new();
        for name in handles {
            if let Some(handle) = there::<IpamHandleSpec>(objects.next())? {
                held.insert(name.clone(), handle);
            }
        }
        let others = objects.collect();
        let cidrs: BTreeSet<Cidr> = held
            .values()
            .flat_map(|h| h.spec.block.keys())
            .filter_map(|c| c.parse().ok())
            .collect();
        let mut blocks = BTreeMap::new();
        if !cidrs.is_empty() {
            let reads = Reads {
                objects: cidrs.iter().map(block_key).collect(),
                lists: Vec::new(),
            };
            let found = self.store().read_together(&reads).await;
            let found = found.map_err(doing("reading IPAM blocks"))?;
            for (cidr, found) in cidrs.into_iter().zip(found.objects) {
                blocks.insert(cidr, there::<IpamBlockSpec>(Some(found))?);
            }
        }
        Ok(Parting {
            config,
            handles: held,
            blocks,
            others,
        })
    }

    /// The writes that give back everything these handles hold, and the blocks that are empty then. Nothing where it takes
    /// more than one go.
    #[must_use]
    pub fn give_back(&self, seen: &Parting, handles: &BTreeSet<String>) -> Option<(Vec<Write>, Vec<Cidr>)> {
        let mut left = seen.handles.clone();
        // A handle of several blocks changes with each, and is written once.
        let mut last: BTreeMap<String, Step> = BTreeMap::new();
        let (mut writes, mut emptied) = (Vec::new(), Vec::new());
        for (cidr, block) in &seen.blocks {
            let text = cidr.to_string();
            let requests: Vec<ReleaseRequest> = handles
                .iter()
                .filter(|h| left.get(*h).is_some_and(|h| h.spec.block.contains_key(&text)))
                .map(|h| ReleaseRequest::Handle(h.clone()))
                .collect();
            let read = block.clone().and_then(|b| Block::read(b).ok());
            if !handles_of(read.as_ref(), &requests).is_subset(handles) {
                return None;
            }
            let at = (self.now(), cooldown(&seen.config));
            let plan = plan_release(block.clone(), &left, cidr, &requests, at).ok()?;
            if plan.emptied {
                emptied.push(*cidr);
            }
            for step in plan.steps {
                match step {
                    Step::PutHandle(h) => {
                        let name = h.metadata.name.clone();
                        left.insert(name.clone(), h.clone());
                        last.insert(name, Step::PutHandle(h));
                    }
                    Step::DeleteHandle(h) => {
                        let name = h.metadata.name.clone();
                        left.remove(&name);
                        last.insert(name, Step::DeleteHandle(h));
                    }
                    step => writes.push(to_write(step)?),
                }
            }
        }
        for step in last.into_values() {
            writes.push(to_write(step)?);
        }
        // A handle that counts nothing, or that counts in a block it could not be taken out of.
        let settled = left.values().all(|h| !handles.contains(&h.metadata.name));
        settled.then_some((writes, emptied))
    }

    /// Gives back blocks that a release has left empty, if their nodes do not need them.
    pub async fn tidy_blocks(&self, emptied: &[Cidr]) {
        for cidr in emptied {
            self.tidy_block(cidr).await;
        }
    }
}

/// What a release depends on, at one moment.
#[derive(Debug)]
pub struct Parting {
    config: IpamConfigurationSpec,
    handles: BTreeMap<String, Object<IpamHandleSpec>>,
    blocks: BTreeMap<Cidr, Option<Object<IpamBlockSpec>>>,
    /// The other objects that were asked for, in order.
    pub others: Vec<Result<Resource, StoreError>>,
}

fn block_key(cidr: &Cidr) -> ResourceKey {
    ResourceKey::global(Kind::IpamBlock, &IpamBlockSpec::object_name(cidr))
}

/// An object that may be absent, but must be readable.
fn there<S: Spec>(found: Option<Result<Resource, StoreError>>) -> Result<Option<Object<S>>, IpamError>
where
    Object<S>: TryFrom<Resource>,
{
    match found {
        None | Some(Err(StoreError::NotFound(_))) => Ok(None),
        Some(Ok(r)) => Ok(Object::<S>::try_from(r).ok()),
        Some(Err(e)) => Err(doing("reading what an address depends on")(e)),
    }
}

/// A block that cannot be read is left alone.
fn take_block(
    seen: &mut Observed,
    cidr: &Cidr,
    found: Result<Resource, StoreError>,
) -> Result<(), IpamError> {
    match found {
        Err(StoreError::Malformed { reason, .. }) => {
            tracing::warn!(block = %cidr, %reason, "an IPAM block cannot be read; it is left alone");
            seen.unreadable.insert(*cidr);
        }
        found => seen.blocks.extend(there::<IpamBlockSpec>(Some(found))?),
    }
    Ok(())
}

fn typed<S: Spec>(page: Option<Page>) -> Listed<S>
where
    Object<S>: TryFrom<Resource>,
{
    page.map(listed).unwrap_or_default()
}

/// Notes a block that has no free address any more.
fn remember(step: &Step, memory: &mut Memory) {
    if let Step::PutBlock(b) = step
        && b.spec.unallocated.is_empty()
        && let Ok(cidr) = b.spec.cidr.parse()
    {
        memory.full.insert(cidr);
    }
}

fn to_write(step: Step) -> Option<Write> {
    fn delete<S: Spec>(o: &Object<S>) -> Option<Write> {
        Some(Write::Delete(o.key(), o.metadata.resource_version.clone()?))
    }
    match step {
        Step::PutAffinity(o) => Some(Write::put(o.into())),
        Step::PutBlock(o) => Some(Write::put(o.into())),
        Step::PutHandle(o) => Some(Write::put(o.into())),
        Step::DeleteAffinity(o) => delete(&o),
        Step::DeleteBlock(o) => delete(&o),
        Step::DeleteHandle(o) => delete(&o),
    }
}
