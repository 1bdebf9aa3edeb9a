use std::{collections::BTreeMap, net::IpAddr};

use caracal_api::{AllocationAttribute, IpPoolSpec, IpamBlockSpec, IpamHandleSpec, Object};
use caracal_ipam_plan::{Block, ReleaseRequest, handles_of, plan_release};
use caracal_net::{Cidr, IfAddr};

use crate::{
    error::{IpamError, doing},
    execute::{Outcome, execute},
    ipam::Ipam,
    observe::{block, get, handles, list},
};

/// What became of addresses that were to be released.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Released {
    /// Free now, or resting.
    pub released: Vec<IpAddr>,
    /// Somebody else holds them by now.
    pub not_those: Vec<IpAddr>,
    /// Nobody held them.
    pub free: Vec<IpAddr>,
}

impl Ipam {
    /// The addresses that a handle holds.
    ///
    /// # Errors
    /// [`IpamError`] when the datastore fails or a block cannot be read.
    pub async fn addresses_of(&self, handle: &str) -> Result<Vec<IfAddr>, IpamError> {
        let mut found = Vec::new();
        for cidr in self.blocks_of(handle).await? {
            let stored = block(self.store(), &cidr).await?;
            if let Some(object) = stored.filter(|b| !b.spec.deleted) {
                let held = Block::read(object)?.held_by(handle);
                found.extend(held.into_iter().map(|addr| IfAddr {
                    addr,
                    len: cidr.len(),
                }));
            }
        }
        Ok(found)
    }

    pub(crate) async fn blocks_of(&self, handle: &str) -> Result<Vec<Cidr>, IpamError> {
        let stored: Option<Object<IpamHandleSpec>> = get(self.store(), handle)
            .await
            .map_err(doing("reading the IPAM handle"))?;
        Ok(stored
            .map(|h| h.spec.block.keys().filter_map(|c| c.parse().ok()).collect())
            .unwrap_or_default())
    }

    /// Gives back everything a handle holds. Releasing what is not there is no error.
    ///
    /// # Errors
    /// [`IpamError`] when the datastore fails. Blocks that cannot be read do not keep the others from being served.
    pub async fn release_handle(&self, handle: &str) -> Result<Vec<IpAddr>, IpamError> {
        let mut released = Vec::new();
        let mut first_error = None;
        for cidr in self.blocks_of(handle).await? {
            let request = [ReleaseRequest::Handle(handle.to_owned())];
            match self.release_in(&cidr, &request).await {
                Ok(r) => released.extend(r.released),
                Err(e) => first_error = first_error.or(Some(e)),
            }
        }
        first_error.map_or(Ok(released), Err)
    }

    /// Gives back one address: with `handle` only if that handle holds it, with `sequence` only if it was allocated
    /// under that number. Says whether it was.
    ///
    /// # Errors
    /// [`IpamError`] when the datastore fails.
    pub async fn release_address(
        &self,
        addr: IpAddr,
        handle: Option<&str>,
        sequence: Option<u64>,
    ) -> Result<bool, IpamError> {
        let request = ReleaseRequest::Address {
            addr,
            handle: handle.map(str::to_owned),
            sequence,
        };
        match self.block_of(addr).await? {
            Some(cidr) => Ok(!self.release_in(&cidr, &[request]).await?.released.is_empty()),
            None => Ok(false),
        }
    }

    /// Gives back many addresses, each block with one write.
    ///
    /// # Errors
    /// [`IpamError`] when the datastore fails; what was released before stays released.
    pub async fn release_addresses(
        &self,
        requests: &[(IpAddr, Option<String>, Option<u64>)],
    ) -> Result<Released, IpamError> {
        let all = list::<IpamBlockSpec>(self.store(), None)
            .await
            .map_err(doing("reading all IPAM blocks"))?;
        let cidrs: Vec<Cidr> = all
            .items
            .iter()
            .filter_map(|b| b.spec.cidr.parse().ok())
            .collect();
        let mut by_block: BTreeMap<Cidr, Vec<ReleaseRequest>> = BTreeMap::new();
        let mut report = Released::default();
        for (addr, handle, sequence) in requests {
            let Some(cidr) = cidrs.iter().find(|c| c.contains(*addr)) else {
                report.free.push(*addr);
                continue;
            };
            by_block.entry(*cidr).or_default().push(ReleaseRequest::Address {
                addr: *addr,
                handle: handle.clone(),
                sequence: *sequence,
            });
        }
        for (cidr, group) in by_block {
            let done = self.release_in(&cidr, &group).await?;
            report.released.extend(done.released);
            report.not_those.extend(done.not_those);
        }
        for (addr, ..) in requests {
            let known = [&report.released, &report.not_those, &report.free];
            if !known.iter().any(|l| l.contains(addr)) {
                report.free.push(*addr);
            }
        }
        Ok(report)
    }

    /// Who holds an address; `None` when nobody does.
    ///
    /// # Errors
    /// [`IpamError`] when the datastore fails or the block cannot be read.
    pub async fn attributes_of(&self, addr: IpAddr) -> Result<Option<AllocationAttribute>, IpamError> {
        let Some(cidr) = self.block_of(addr).await? else {
            return Ok(None);
        };
        match block(self.store(), &cidr).await? {
            Some(object) => Ok(Block::read(object)?.attribute(addr).cloned()),
            None => Ok(None),
        }
    }

    /// The block that an address is in. The pools tell where to look; when none of them has it, all blocks are read.
    pub(crate) async fn block_of(&self, addr: IpAddr) -> Result<Option<Cidr>, IpamError> {
        let pools = list::<IpPoolSpec>(self.store(), None)
            .await
            .map_err(doing("reading the IP pools"))?;
        for p in &pools.items {
            let Ok(range) = p.spec.cidr.parse::<Cidr>() else {
                continue;
            };
            if !range.contains(addr) {
                continue;
            }
            let len = p
                .spec
                .block_size
                .filter(|s| *s > 0 && *s <= range.family().bits())
                .unwrap_or(caracal_api::default_block_size(range.family()));
            let cidr = Cidr::new(addr, len);
            if block(self.store(), &cidr).await?.is_some() {
                return Ok(Some(cidr));
            }
        }
        let all = list::<IpamBlockSpec>(self.store(), None)
            .await
            .map_err(doing("reading all IPAM blocks"))?;
        let cidrs = all.items.iter().filter_map(|b| b.spec.cidr.parse::<Cidr>().ok());
        Ok(cidrs.into_iter().find(|c| c.contains(addr)))
    }

    /// Does releases in one block. When the steps are cut off after the block's, its handles are put right afterwards.
    pub(crate) async fn release_in(
        &self,
        cidr: &Cidr,
        requests: &[ReleaseRequest],
    ) -> Result<Released, IpamError> {
        let store = self.store();
        let mut requests = requests.to_vec();
        let mut report = Released::default();
        let mut tries = self.tries();
        loop {
            let known = handles_of(None, &requests);
            let (config, stored, found) =
                tokio::join!(self.config(), block(store, cidr), handles(store, &known));
            let (cooldown, stored, mut found) = (caracal_ipam_plan::cooldown(&config?), stored?, found?);
            let read = stored.clone().and_then(|b| Block::read(b).ok());
            let more = handles_of(read.as_ref(), &requests);
            found.extend(handles(store, more.difference(&known)).await?);
            let plan = plan_release(stored, &found, cidr, &requests, (self.now(), cooldown))?;
            let mut steps = plan.steps.into_iter();
            let first: Vec<_> = steps.by_ref().take(1).collect();
            if execute(store, first).await? == Outcome::Stale {
                tries.again().await?;
                continue;
            }
            report.not_those.extend(plan.not_those);
            report.released.extend(plan.released);
            if execute(store, steps.collect()).await? == Outcome::Done {
                if plan.emptied {
                    self.tidy_block(cidr).await;
                }
                return Ok(report);
            }
            // The addresses are free by now; what is left is what the handles count.
            requests = plan.handles.into_iter().map(ReleaseRequest::Count).collect();
            tries.again().await?;
        }
    }
}
