use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use caracal_api::{BlockAffinitySpec, IpPoolAllowedUse, Resource, ResourceKey};
use caracal_ids::NodeName;
use caracal_ipam_plan::{
    Block, Fix, Holder, Owner, PlanError, ReleaseRequest, Step, handle_with, plan_merge,
    plan_release_affinity,
};
use caracal_net::{Cidr, Family};
use caracal_store::{Preconditions, StoreError};

use crate::{
    assign::Assign,
    error::{IpamError, doing},
    execute::{Outcome, execute},
    ipam::Ipam,
    observe::{block, get, handles},
};

impl Ipam {
    /// Does one repair: reads again, and compares and swaps. Nothing happens when it is right by now.
    ///
    /// # Errors
    /// [`IpamError`] when the datastore fails or the repair is not possible.
    pub async fn repair(&self, fix: &Fix) -> Result<(), IpamError> {
        match fix {
            Fix::Release {
                block,
                addr,
                handle,
                sequence,
            } => {
                let request = ReleaseRequest::Address {
                    addr: *addr,
                    handle: handle.clone(),
                    sequence: Some(*sequence),
                };
                self.release_in(block, &[request]).await.map(drop)
            }
            Fix::Count { handle, block } => {
                let request = ReleaseRequest::Count(handle.clone());
                self.release_in(block, &[request]).await.map(drop)
            }
            Fix::MakeHandle { handle, block } => self.make_handle(handle, block).await,
            Fix::MakeAffinity { holder, block } => self.make_affinity(holder, block).await,
            Fix::ReleaseAffinity { holder, block } => self.release_affinity(holder, block, false).await,
            Fix::DeleteBlock(cidr) => self.delete_block(cidr).await,
            Fix::Merge { from, into } => self.merge(from, into).await,
            Fix::Allocate {
                addr,
                node,
                owner,
                instead_of,
            } => self.allocate(*addr, node, owner, instead_of.as_ref()).await,
            Fix::FinishDeletion(key) => self.finish_deletion(key).await,
            Fix::Discard(key) => self.discard(key).await,
        }
    }

    async fn make_handle(&self, handle: &str, cidr: &Cidr) -> Result<(), IpamError> {
        let name = handle.to_owned();
        let mut tries = self.tries();
        loop {
            let mut found = handles(self.store(), [&name]).await?;
            let stored = found.remove(&name);
            let read = block(self.store(), cidr).await?.map(Block::read).transpose()?;
            let held = read.map_or(0, |b| b.held_by(handle).len() as u64);
            if held == 0
                || stored
                    .as_ref()
                    .is_some_and(|h| caracal_ipam_plan::counted(h, cidr) > 0)
            {
                return Ok(());
            }
            let step = Step::PutHandle(handle_with(stored, handle, cidr, held));
            if execute(self.store(), vec![step]).await? == Outcome::Done {
                // What was released since the block was read left the handle alone.
                let request = ReleaseRequest::Count(name);
                return self.release_in(cidr, &[request]).await.map(drop);
            }
            tries.again().await?;
        }
    }

    async fn make_affinity(&self, holder: &Holder, cidr: &Cidr) -> Result<(), IpamError> {
        let mut tries = self.tries();
        loop {
            let read = block(self.store(), cidr).await?.map(Block::read).transpose()?;
            let claim = get::<BlockAffinitySpec>(self.store(), &holder.affinity_name(cidr))
                .await
                .map_err(doing("reading a block affinity"))?;
            if claim.is_some() || !read.is_some_and(|b| b.belongs_to(holder)) {
                return Ok(());
            }
            let step = Step::PutAffinity(holder.claim(None, cidr, "confirmed"));
            if execute(self.store(), vec![step]).await? == Outcome::Done {
                return Ok(());
            }
            tries.again().await?;
        }
    }

    async fn delete_block(&self, cidr: &Cidr) -> Result<(), IpamError> {
        let Some(read) = block(self.store(), cidr).await?.map(Block::read).transpose()? else {
            return Ok(());
        };
        if !read.is_empty() || read.object().spec.affinity.is_some() {
            return Ok(());
        }
        // Whoever changed it meanwhile needs it.
        execute(self.store(), vec![Step::DeleteBlock(read.into_object())])
            .await
            .map(drop)
    }

    async fn merge(&self, from: &Cidr, into: &Cidr) -> Result<(), IpamError> {
        let mut tries = self.tries();
        loop {
            let narrow = block(self.store(), from).await?.map(Block::read).transpose()?;
            let wide = block(self.store(), into).await?.map(Block::read).transpose()?;
            let (Some(narrow), Some(wide)) = (narrow, wide) else {
                return Ok(());
            };
            let names: BTreeSet<String> = narrow
                .allocations()
                .chain(wide.allocations())
                .filter_map(|a| a.attribute.handle_id.clone())
                .collect();
            let found = handles(self.store(), &names).await?;
            let mut steps = plan_merge(&wide, &narrow, &found)?;
            if steps.is_empty() {
                // The narrow block has nothing any more.
                let Some(holder) = narrow.holder() else {
                    return self.delete_block(from).await;
                };
                let claim = get::<BlockAffinitySpec>(self.store(), &holder.affinity_name(from))
                    .await
                    .map_err(doing("reading a block affinity"))?;
                steps = plan_release_affinity(&holder, from, claim.as_ref(), Some(&narrow), true)?;
            }
            if execute(self.store(), steps).await? == Outcome::Stale {
                tries.again().await?;
            }
        }
    }

    async fn allocate(
        &self,
        addr: IpAddr,
        node: &str,
        owner: &Owner,
        instead_of: Option<&(Option<String>, u64)>,
    ) -> Result<(), IpamError> {
        let mut tries = self.tries();
        loop {
            let Some(cidr) = self.block_of(addr).await? else {
                let want = Assign {
                    node: NodeName::new(node).map_err(|e| PlanError::Malformed {
                        object: format!("the endpoint that has {addr}"),
                        reason: format!("spec.node: {e}"),
                    })?,
                    family: Family::of(addr),
                    count: 1,
                    owner: owner.clone(),
                    pools: Vec::new(),
                    usage: IpPoolAllowedUse::Workload,
                    namespace_labels: BTreeMap::new(),
                };
                return self.assign_address(&want, addr).await.map(drop);
            };
            let Some(stored) = block(self.store(), &cidr).await? else {
                tries.again().await?;
                continue;
            };
            if stored.spec.deleted {
                // Whoever deletes it is cut off or not ready: it goes first.
                self.finish_deletion(&stored.key()).await?;
                continue;
            }
            let mut b = Block::read(stored)?;
            if b.attribute(addr).and_then(|a| a.handle_id.as_deref()) == Some(&owner.handle) {
                return Ok(());
            }
            if let Some((handle, sequence)) = instead_of {
                b.release(addr, handle.as_deref(), Some(*sequence), None);
            }
            b.assign_address(addr, owner)?;
            let mut found = handles(self.store(), [&owner.handle]).await?;
            let held = b.held_by(&owner.handle).len() as u64;
            let handle = handle_with(found.remove(&owner.handle), &owner.handle, &cidr, held);
            b.seal();
            let steps = vec![Step::PutHandle(handle), Step::PutBlock(b.into_object())];
            if execute(self.store(), steps).await? == Outcome::Done {
                let Some((Some(old), _)) = instead_of else {
                    return Ok(());
                };
                let request = ReleaseRequest::Count(old.clone());
                return self.release_in(&cidr, &[request]).await.map(drop);
            }
            tries.again().await?;
        }
    }

    async fn finish_deletion(&self, key: &ResourceKey) -> Result<(), IpamError> {
        let stored = match self.store().get(key).await {
            Ok(r) => r,
            Err(StoreError::NotFound(_)) => return Ok(()),
            Err(e) => return Err(doing("reading an object that is half deleted")(e)),
        };
        let due = match &stored {
            Resource::IpamBlock(o) => o.spec.deleted,
            Resource::IpamHandle(o) => o.spec.deleted || o.spec.block.is_empty(),
            Resource::BlockAffinity(o) => o.spec.deleted,
            _ => false,
        };
        if !due {
            return Ok(());
        }
        let expect = Preconditions {
            resource_version: stored.metadata().resource_version.clone(),
            uid: None,
        };
        match self.store().delete(key, &expect).await {
            // Whoever changed it meanwhile needs it.
            Ok(_) | Err(StoreError::NotFound(_) | StoreError::Conflict { .. }) => Ok(()),
            Err(e) => Err(doing("deleting an object that is half deleted")(e)),
        }
    }

    /// Deletes what still cannot be used: a handle or claim whose value or ranges cannot be read.
    async fn discard(&self, key: &ResourceKey) -> Result<(), IpamError> {
        let is_range = |text: &str| text.parse::<Cidr>().is_ok_and(|c| c.to_string() == text);
        let (bad, revision) = match self.store().get(key).await {
            Err(StoreError::Malformed { .. }) => (true, None),
            Err(StoreError::NotFound(_)) => (false, None),
            Err(e) => return Err(doing("reading an object that cannot be used")(e)),
            Ok(r) => {
                let bad = match &r {
                    Resource::IpamHandle(o) => o.spec.block.iter().any(|(c, n)| !is_range(c) || *n == 0),
                    Resource::BlockAffinity(o) => o.spec.cidr.parse::<Cidr>().map_or(true, |c| {
                        Holder::of_affinity(&o.spec).affinity_name(&c) != o.metadata.name
                    }),
                    _ => false,
                };
                (bad, r.metadata().resource_version.clone())
            }
        };
        if !bad {
            return Ok(());
        }
        let expect = Preconditions {
            resource_version: revision,
            uid: None,
        };
        match self.store().delete(key, &expect).await {
            Ok(_) | Err(StoreError::NotFound(_) | StoreError::Conflict { .. }) => Ok(()),
            Err(e) => Err(doing("deleting an object that cannot be used")(e)),
        }
    }
}
