use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use caracal_api::{IpPoolAllowedUse, IpamBlockSpec, IpamHandleSpec, Object};
use caracal_ids::NodeName;
use caracal_ipam_plan::{
    AssignPlan, AssignRequest, Observed, Owner, PlanError, ReleaseRequest, plan_assign, plan_assign_address,
    plan_release,
};
use caracal_net::{Cidr, Family, IfAddr};
use caracal_store::{Backoff, Store};

use crate::{
    error::{IpamError, doing},
    execute::{Outcome, execute},
    observe::{Fixed, get},
};

/// How often an operation is tried against other writers (`calico-components.md` §4.6).
const MAX_TRIES: u32 = 100;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Assign {
    /// The node.
    pub node: NodeName,
    /// The family.
    pub family: Family,
    /// How many addresses.
    pub count: usize,
    /// For whom.
    pub owner: Owner,
    /// Pools by name or CIDR; empty means any.
    pub pools: Vec<String>,
    /// What the addresses are for.
    pub usage: IpPoolAllowedUse,
    /// Labels of the namespace, for pools that select by them.
    pub namespace_labels: BTreeMap<String, String>,
}

/// IPAM over a datastore.
#[derive(Debug, Clone)]
pub struct Ipam {
    store: Arc<dyn Store>,
}

impl Ipam {
    /// IPAM over `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Assigns `want.count` addresses, or none.
    ///
    /// # Errors
    /// [`IpamError`]; what was assigned before the error is given back.
    pub async fn assign(&self, want: &Assign) -> Result<Vec<IfAddr>, IpamError> {
        let mut got: Vec<IfAddr> = Vec::new();
        while got.len() < want.count {
            let mut rest = want.clone();
            rest.count = want.count - got.len();
            match self.run(&rest, plan_assign).await {
                Ok(more) => got.extend(more),
                Err(e) => {
                    for a in &got {
                        self.release_address(a.addr, Some(&want.owner.handle), None)
                            .await?;
                    }
                    return Err(e);
                }
            }
        }
        Ok(got)
    }

    /// Assigns one given address.
    ///
    /// # Errors
    /// [`IpamError`]; an address that somebody holds is named with its holder.
    pub async fn assign_address(&self, want: &Assign, addr: IpAddr) -> Result<IfAddr, IpamError> {
        let got = self
            .run(want, |seen, request| plan_assign_address(seen, request, addr))
            .await?;
        got.first()
            .copied()
            .ok_or(IpamError::Plan(PlanError::NotInPool(addr)))
    }

    async fn run(
        &self,
        want: &Assign,
        plan: impl Fn(&Observed, &AssignRequest) -> Result<AssignPlan, PlanError>,
    ) -> Result<Vec<IfAddr>, IpamError> {
        let store = self.store.as_ref();
        let fixed = Fixed::read(store, want).await?;
        let mut all = false;
        let mut conflicts = 0;
        let mut backoff = Backoff::new(
            std::time::Duration::from_millis(2),
            std::time::Duration::from_millis(100),
        );
        loop {
            let seen = fixed.observe(store, want, all).await?;
            let request = AssignRequest {
                node: want.node.clone(),
                family: want.family,
                count: want.count,
                owner: want.owner.clone(),
                pools: want.pools.clone(),
                usage: want.usage,
                now: jiff::Timestamp::now().to_string(),
            };
            let (steps, addresses) = match plan(&seen, &request)? {
                AssignPlan::NeedAllBlocks => {
                    all = true;
                    continue;
                }
                AssignPlan::Prepare(steps) => (steps, None),
                AssignPlan::Assign { steps, addresses } => (steps, Some(addresses)),
            };
            match (execute(store, steps).await?, addresses) {
                (Outcome::Done, Some(addresses)) => return Ok(addresses),
                (Outcome::Done, None) => {}
                (Outcome::Stale, _) => {
                    conflicts += 1;
                    if conflicts >= MAX_TRIES {
                        return Err(IpamError::Contention(conflicts));
                    }
                    tokio::time::sleep(backoff.wait()).await;
                }
            }
        }
    }

    /// The addresses that a handle holds.
    ///
    /// # Errors
    /// [`IpamError`] when the datastore fails or a block cannot be read.
    pub async fn addresses_of(&self, handle: &str) -> Result<Vec<IfAddr>, IpamError> {
        let mut found = Vec::new();
        for cidr in self.blocks_of(handle).await? {
            let stored = self.block(&cidr).await?;
            if let Some(object) = stored {
                let block = caracal_ipam_plan::Block::read(object)?;
                found.extend(block.held_by(handle).into_iter().map(|addr| IfAddr {
                    addr,
                    len: cidr.len(),
                }));
            }
        }
        Ok(found)
    }

    async fn blocks_of(&self, handle: &str) -> Result<Vec<Cidr>, IpamError> {
        let stored: Option<Object<IpamHandleSpec>> = get(self.store.as_ref(), handle)
            .await
            .map_err(doing("reading the IPAM handle"))?;
        Ok(stored
            .map(|h| h.spec.block.keys().filter_map(|c| c.parse().ok()).collect())
            .unwrap_or_default())
    }

    async fn block(&self, cidr: &Cidr) -> Result<Option<Object<IpamBlockSpec>>, IpamError> {
        get(self.store.as_ref(), &IpamBlockSpec::object_name(cidr))
            .await
            .map_err(doing("reading an IPAM block"))
    }

    /// Gives back everything a handle holds. Releasing what is not there is no error.
    ///
    /// # Errors
    /// [`IpamError`] when the datastore fails.
    pub async fn release_handle(&self, handle: &str) -> Result<Vec<IpAddr>, IpamError> {
        let mut released = Vec::new();
        for cidr in self.blocks_of(handle).await? {
            let request = ReleaseRequest::Handle(handle.to_owned());
            released.extend(self.release_in(&cidr, Some(handle), &request).await?);
        }
        Ok(released)
    }

    /// Gives back one address: with `handle` only if that handle holds it, with `sequence` only if it was allocated
    /// under that number.
    ///
    /// # Errors
    /// [`IpamError`] when the datastore fails.
    pub async fn release_address(
        &self,
        addr: IpAddr,
        handle: Option<&str>,
        sequence: Option<u64>,
    ) -> Result<bool, IpamError> {
        let all = caracal_store::ListOptions::default();
        let candidates: Vec<Object<IpamBlockSpec>> = crate::observe::list(self.store.as_ref(), &all)
            .await
            .map_err(doing("reading all IPAM blocks"))?;
        let held = candidates
            .iter()
            .filter_map(|b| b.spec.cidr.parse::<Cidr>().ok())
            .find(|c| c.contains(addr));
        let Some(cidr) = held else { return Ok(false) };
        let owner = match handle {
            Some(h) => Some(h.to_owned()),
            None => self.holder(&cidr, addr).await?,
        };
        let request = ReleaseRequest::Address {
            addr,
            handle: owner.clone(),
            sequence,
        };
        Ok(!self
            .release_in(&cidr, owner.as_deref(), &request)
            .await?
            .is_empty())
    }

    async fn holder(&self, cidr: &Cidr, addr: IpAddr) -> Result<Option<String>, IpamError> {
        let Some(object) = self.block(cidr).await? else {
            return Ok(None);
        };
        let block = caracal_ipam_plan::Block::read(object)?;
        Ok(block.holder(addr).and_then(|a| a.handle_id.clone()))
    }

    async fn release_in(
        &self,
        cidr: &Cidr,
        handle: Option<&str>,
        request: &ReleaseRequest,
    ) -> Result<Vec<IpAddr>, IpamError> {
        let store = self.store.as_ref();
        let mut released = Vec::new();
        let mut backoff = Backoff::new(
            std::time::Duration::from_millis(2),
            std::time::Duration::from_millis(100),
        );
        for _ in 0..MAX_TRIES {
            let stored = match handle {
                Some(h) => get(store, h).await.map_err(doing("reading the IPAM handle"))?,
                None => None,
            };
            let plan = plan_release(self.block(cidr).await?, stored, cidr, request)?;
            released.extend(
                plan.released
                    .iter()
                    .filter(|a| !released.contains(*a))
                    .copied()
                    .collect::<Vec<_>>(),
            );
            if execute(store, plan.steps).await? == Outcome::Done {
                return Ok(released);
            }
            tokio::time::sleep(backoff.wait()).await;
        }
        Err(IpamError::Contention(MAX_TRIES))
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
