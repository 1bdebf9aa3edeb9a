use std::collections::BTreeSet;

use caracal_api::{BlockAffinitySpec, Object};
use caracal_ipam_plan::{
    Asker, Block, Candidate, Holder, Observed, Plan, PlanError, plan_claim_affinity, plan_release_affinity,
    spare_blocks,
};
use caracal_net::{Cidr, Family};

use crate::{
    assign::AssignOptions,
    error::{IpamError, doing},
    execute::{Outcome, execute},
    ipam::Ipam,
    observe::{block, get, list},
};

impl Ipam {
    /// Claims a block for `holder` without an address in it. Nothing happens when it is the holder's already.
    ///
    /// # Errors
    /// [`PlanError::Claimed`] when somebody else has it, [`PlanError::NotInPool`] when no pool has blocks like it.
    pub async fn claim_block(&self, holder: &Holder, cidr: &Cidr) -> Result<(), IpamError> {
        let families = BTreeSet::from([cidr.family()]);
        let mut tries = self.tries();
        loop {
            let asker = Asker {
                holder: holder.clone(),
                max_blocks: None,
                host_reserved: None,
                now: self.now(),
            };
            let nobody = BTreeSet::new();
            let seen = self.observe(holder, None, (&families, &nobody), true).await?;
            let pool = pool_of(&seen, cidr)?;
            let outcome = match plan_claim_affinity(&seen, &asker, &pool, cidr)? {
                Plan::Prepare(steps) if steps.is_empty() => return Ok(()),
                Plan::Prepare(steps) => execute(self.store(), steps).await?,
                _ => Outcome::Stale,
            };
            if outcome == Outcome::Stale {
                tries.again().await?;
            }
        }
    }

    /// Claims every block of `range` for `holder`; says which were claimed and which not.
    ///
    /// # Errors
    /// [`IpamError`] when the datastore fails or the range is in no pool.
    pub async fn claim_affinity(
        &self,
        holder: &Holder,
        range: &Cidr,
    ) -> Result<(Vec<Cidr>, Vec<(Cidr, PlanError)>), IpamError> {
        let seen = self.observe_settings(holder).await?;
        let pool = pool_of(&seen, range)?;
        let (mut claimed, mut refused) = (Vec::new(), Vec::new());
        for cidr in range.subnets(pool.block_len.max(range.len())) {
            match self.claim_block(holder, &cidr).await {
                Ok(()) => claimed.push(cidr),
                Err(IpamError::Plan(e)) => refused.push((cidr, e)),
                Err(e) => return Err(e),
            }
        }
        Ok((claimed, refused))
    }

    /// Gives `holder`'s claim on a block up. An empty block vanishes; one with addresses stays without an owner until its
    /// last address is given back. Nothing happens when there is no claim.
    ///
    /// # Errors
    /// [`PlanError::NotEmpty`] when `must_be_empty` and it is not.
    pub async fn release_affinity(
        &self,
        holder: &Holder,
        cidr: &Cidr,
        must_be_empty: bool,
    ) -> Result<(), IpamError> {
        let cooldown = caracal_ipam_plan::cooldown(&self.config().await?);
        let mut tries = self.tries();
        loop {
            let claim = get::<BlockAffinitySpec>(self.store(), &holder.affinity_name(cidr))
                .await
                .map_err(doing("reading a block affinity"))?;
            let stored = block(self.store(), cidr).await?;
            let mut read = stored.map(Block::read).transpose()?;
            if let Some(b) = &mut read {
                b.thaw(self.now(), cooldown);
            }
            let steps = plan_release_affinity(holder, cidr, claim.as_ref(), read.as_ref(), must_be_empty)?;
            if steps.is_empty() {
                return Ok(());
            }
            if execute(self.store(), steps).await? == Outcome::Stale {
                tries.again().await?;
            }
        }
    }

    /// Gives all claims of `holder` up; says which.
    ///
    /// # Errors
    /// The first [`IpamError`], after all were tried.
    pub async fn release_host_affinities(
        &self,
        holder: &Holder,
        must_be_empty: bool,
    ) -> Result<Vec<Cidr>, IpamError> {
        let claims = self.claims(|a| Holder::of_affinity(&a.spec) == *holder).await?;
        self.release_claims(claims, must_be_empty).await
    }

    /// Gives all claims on blocks of a pool's range up; says which.
    ///
    /// # Errors
    /// The first [`IpamError`], after all were tried.
    pub async fn release_pool_affinities(&self, pool: &Cidr) -> Result<Vec<Cidr>, IpamError> {
        let inside = |a: &Object<BlockAffinitySpec>| a.spec.cidr.parse().is_ok_and(|c| pool.covers(&c));
        let claims = self.claims(inside).await?;
        self.release_claims(claims, false).await
    }

    /// Forgets a host that is gone: its claims, but not the addresses of workloads that may still run.
    ///
    /// # Errors
    /// The first [`IpamError`], after all was tried.
    pub async fn remove_host(&self, node: &str) -> Result<Vec<Cidr>, IpamError> {
        self.release_host_affinities(&Holder::Host(node.to_owned()), false)
            .await
    }

    /// Makes sure that `holder` has a block of each family that has a pool for it.
    ///
    /// # Errors
    /// [`IpamError`] when no block can be had.
    pub async fn ensure_block(
        &self,
        node: &caracal_ids::NodeName,
        family: Family,
        options: &AssignOptions,
    ) -> Result<(), IpamError> {
        let owner = caracal_ipam_plan::Owner {
            handle: format!("ensure-block-{node}"),
            attributes: std::collections::BTreeMap::new(),
        };
        let want = crate::Assign {
            node: node.clone(),
            family,
            count: 1,
            owner: owner.clone(),
            pools: Vec::new(),
            usage: caracal_api::IpPoolAllowedUse::Workload,
            namespace_labels: std::collections::BTreeMap::new(),
        };
        // An assignment makes the block; what it took is given back.
        self.assign_with(&want, options).await?;
        self.release_handle(&owner.handle).await.map(drop)
    }

    /// Gives the blocks back that a host does not need; says which. For the agent to call from time to time.
    ///
    /// # Errors
    /// [`IpamError`] when the datastore fails.
    pub async fn tidy(&self, node: &str) -> Result<Vec<Cidr>, IpamError> {
        let holder = Holder::Host(node.to_owned());
        let families = Family::BOTH.into_iter().collect();
        let nobody = BTreeSet::new();
        let seen = self.observe(&holder, None, (&families, &nobody), false).await?;
        let mut given = Vec::new();
        for cidr in spare_blocks(&seen, &holder, self.now()) {
            match self.release_affinity(&holder, &cidr, true).await {
                Ok(()) => given.push(cidr),
                // Somebody took an address of it meanwhile.
                Err(IpamError::Plan(PlanError::NotEmpty { .. })) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(given)
    }

    /// After a release that emptied a block. The release is done whatever happens here.
    pub(crate) async fn tidy_block(&self, cidr: &Cidr) {
        let holder = match block(self.store(), cidr).await {
            Ok(Some(b)) => b.spec.affinity.as_deref().and_then(Holder::of_block),
            _ => None,
        };
        if let Some(Holder::Host(node)) = holder
            && let Err(e) = self.tidy(&node).await
        {
            tracing::debug!(node, error = %e, "an empty block was not given back");
        }
    }

    async fn claims(
        &self,
        wanted: impl Fn(&Object<BlockAffinitySpec>) -> bool,
    ) -> Result<Vec<(Holder, Cidr)>, IpamError> {
        let all = list::<BlockAffinitySpec>(self.store(), None)
            .await
            .map_err(doing("reading the block affinities"))?;
        Ok(all
            .items
            .iter()
            .filter(|a| wanted(a))
            .filter_map(|a| Some((Holder::of_affinity(&a.spec), a.spec.cidr.parse().ok()?)))
            .collect())
    }

    async fn release_claims(
        &self,
        claims: Vec<(Holder, Cidr)>,
        must_be_empty: bool,
    ) -> Result<Vec<Cidr>, IpamError> {
        let mut released = Vec::new();
        let mut first_error = None;
        for (holder, cidr) in claims {
            match self.release_affinity(&holder, &cidr, must_be_empty).await {
                Ok(()) => released.push(cidr),
                Err(e) => first_error = first_error.or(Some(e)),
            }
        }
        first_error.map_or(Ok(released), Err)
    }
}

fn pool_of(seen: &Observed, range: &Cidr) -> Result<Candidate, IpamError> {
    caracal_ipam_plan::pool_covering(&seen.pools, range).ok_or(PlanError::NotInPool(range.addr()).into())
}
