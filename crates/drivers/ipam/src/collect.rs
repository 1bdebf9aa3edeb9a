use std::{net::IpAddr, time::Duration};

use caracal_ipam_plan::{Chore, Collector, PlanError, ReleaseRequest, Snapshot, View, plan_thaw};
use caracal_net::Cidr;
use caracal_store::Backoff;

use crate::{
    error::IpamError,
    execute::{Outcome, execute},
    ipam::Ipam,
    observe::block,
};

/// What one round of the garbage collector did.
#[derive(Debug, Default)]
pub struct Collected {
    /// Addresses that were given back.
    pub released: Vec<IpAddr>,
    /// Blocks whose claims were given up.
    pub blocks: Vec<Cidr>,
    /// Chores that could not be done; they come again in the next round.
    pub failed: Vec<(Chore, IpamError)>,
}

impl Ipam {
    /// One round of the garbage collector. A chore that fails does not keep the others from being done.
    ///
    /// # Errors
    /// [`IpamError`] when the database cannot be read; nothing is done then.
    pub async fn collect(&self, collector: &mut Collector) -> Result<Collected, IpamError> {
        let mut snapshot = self.load().await?;
        let mut chores = collector.round(&snapshot, self.now());
        if chores.iter().any(|c| matches!(c, Chore::Release { .. })) {
            // Reading took a while: whoever has begun to use an address since then keeps it.
            self.load_users(&mut snapshot).await?;
            chores.retain(|c| !lives(&snapshot, c));
        }
        let mut done = Collected::default();
        for chore in chores {
            if let Err(e) = self.chore(&chore, &mut done).await {
                tracing::warn!(?chore, error = %e, "IPAM garbage collection");
                done.failed.push((chore, e));
            }
        }
        Ok(done)
    }

    /// Collects every `every`, for ever; while the datastore is away it tries again after growing waits. Several may do so
    /// at once, on several machines: each chore is done by whoever comes first.
    pub async fn keep_collecting(&self, mut collector: Collector, every: Duration) {
        let mut away = Backoff::new(Duration::from_secs(1), every.max(Duration::from_secs(1)));
        loop {
            let wait = match self.collect(&mut collector).await {
                Ok(done) => {
                    if !done.released.is_empty() || !done.blocks.is_empty() {
                        tracing::info!(
                            addresses = done.released.len(),
                            blocks = done.blocks.len(),
                            "IPAM garbage collected"
                        );
                    }
                    away.reset();
                    every
                }
                Err(e) => {
                    tracing::warn!(error = %e, "IPAM garbage collection has to wait");
                    away.wait()
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn chore(&self, chore: &Chore, done: &mut Collected) -> Result<(), IpamError> {
        match chore {
            Chore::Release { handle, addresses } => {
                for (cidr, addr, sequence) in addresses {
                    let request = ReleaseRequest::Address {
                        addr: *addr,
                        handle: handle.clone(),
                        sequence: Some(*sequence),
                    };
                    let r = self.release_in(cidr, &[request]).await?;
                    tracing::info!(address = %addr, handle, "an address that nobody uses was given back");
                    done.released.extend(r.released);
                }
                Ok(())
            }
            Chore::Count { handle, block } => self
                .release_in(block, &[ReleaseRequest::Count(handle.clone())])
                .await
                .map(drop),
            Chore::ReleaseAffinity {
                holder,
                block,
                must_be_empty,
            } => match self.release_affinity(holder, block, *must_be_empty).await {
                Ok(()) => {
                    done.blocks.push(*block);
                    Ok(())
                }
                // Somebody took an address of it meanwhile.
                Err(IpamError::Plan(PlanError::NotEmpty { .. })) => Ok(()),
                Err(e) => Err(e),
            },
            Chore::Thaw(cidr) => self.thaw(cidr).await,
        }
    }

    /// Frees what has rested in a block.
    async fn thaw(&self, cidr: &Cidr) -> Result<(), IpamError> {
        let cooldown = caracal_ipam_plan::cooldown(&self.config().await?);
        let mut tries = self.tries();
        loop {
            let stored = block(self.store(), cidr).await?;
            let Some(step) = stored.and_then(|b| plan_thaw(&b, self.now(), cooldown)) else {
                return Ok(());
            };
            if execute(self.store(), vec![step]).await? == Outcome::Done {
                return Ok(());
            }
            tries.again().await?;
        }
    }
}

fn lives(snapshot: &Snapshot, chore: &Chore) -> bool {
    let Chore::Release { addresses, .. } = chore else {
        return false;
    };
    let view = View::new(snapshot);
    addresses.iter().any(|(_, addr, _)| view.users.contains_key(addr))
}
