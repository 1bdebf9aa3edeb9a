use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use caracal_api::IpPoolAllowedUse;
use caracal_ids::NodeName;
use caracal_ipam_plan::{
    Asker, BlockWrite, Holder, HostReserved, Observed, Owner, Plan, PlanError, ReleaseRequest, Step, Want,
    plan_address, plan_group,
};
use caracal_net::{Cidr, Family, IfAddr};
use futures::future::join_all;

use crate::{
    error::IpamError,
    execute::{Outcome, all, execute, one},
    ipam::Ipam,
};

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

/// What most requests leave as it is.
#[derive(Debug, Clone, Default)]
pub struct AssignOptions {
    /// Whose blocks are used; the node's when absent.
    pub holder: Option<Holder>,
    /// The most blocks that the holder may have, if fewer than configured.
    pub max_blocks: Option<usize>,
    /// What the host keeps of each new block.
    pub host_reserved: Option<HostReserved>,
    /// The most addresses of the family that the handle may hold.
    pub max_per_handle: Option<u64>,
}

/// Which handle was to count addresses in which block.
type Lost = BTreeSet<(String, Cidr)>;

/// The result of each of a group.
pub(crate) type Answers = Vec<Result<Vec<IfAddr>, IpamError>>;

impl Ipam {
    /// Assigns `want.count` addresses, or none.
    ///
    /// # Errors
    /// [`IpamError`]; what was assigned before the error is given back.
    pub async fn assign(&self, want: &Assign) -> Result<Vec<IfAddr>, IpamError> {
        self.assign_with(want, &AssignOptions::default()).await
    }

    /// As [`Ipam::assign`], with options.
    ///
    /// # Errors
    /// [`IpamError`]; what was assigned before the error is given back.
    pub async fn assign_with(
        &self,
        want: &Assign,
        options: &AssignOptions,
    ) -> Result<Vec<IfAddr>, IpamError> {
        let mut answers = self.assign_group(std::slice::from_ref(want), options).await;
        answers.pop().unwrap_or(Err(IpamError::Contention(0)))
    }

    /// Assigns to all who wait at one moment: each block is written once for all of them. Each gets all that it wants or
    /// nothing. All must be of one node; those that are not of the first one's are served for their own afterwards.
    pub async fn assign_group(&self, wants: &[Assign], options: &AssignOptions) -> Answers {
        let mut answers: Answers = wants.iter().map(|_| Ok(Vec::new())).collect();
        let mut nodes: Vec<&NodeName> = wants.iter().map(|w| &w.node).collect();
        nodes.dedup();
        let mut done: BTreeSet<&NodeName> = BTreeSet::new();
        for node in nodes {
            if !done.insert(node) {
                continue;
            }
            let group: BTreeMap<usize, Want> = wants
                .iter()
                .enumerate()
                .filter(|(_, w)| w.node == *node)
                .map(|(i, w)| (i, to_want(w, options)))
                .collect();
            self.serve(node, options, group, &mut answers).await;
        }
        for (want, answer) in wants.iter().zip(&mut answers) {
            if let Ok(got) = answer
                && got.len() < want.count
            {
                *answer = Err(IpamError::Contention(0));
            }
        }
        answers
    }

    async fn serve(
        &self,
        node: &NodeName,
        options: &AssignOptions,
        group: BTreeMap<usize, Want>,
        answers: &mut Answers,
    ) {
        let wanted: BTreeMap<usize, String> =
            group.iter().map(|(i, w)| (*i, w.owner.handle.clone())).collect();
        let mut open = group;
        open.retain(|_, w| w.count > 0);
        let mut lost = Lost::new();
        if let Err(e) = self.rounds(node, options, &mut open, answers, &mut lost).await {
            for i in open.keys() {
                self.fail(&mut answers[*i], e.clone(), &wanted[i]).await;
            }
        }
        let got: BTreeSet<(&String, Cidr)> = wanted
            .iter()
            .flat_map(|(i, h)| answers[*i].iter().flatten().map(move |a| (h, a.network())))
            .collect();
        lost.retain(|(handle, cidr)| !got.contains(&(handle, *cidr)));
        self.settle(lost).await;
    }

    /// Handles counted addresses in blocks that others wrote first: they count them no more.
    async fn settle(&self, lost: Lost) {
        for (handle, cidr) in lost {
            let request = [ReleaseRequest::Count(handle.clone())];
            if let Err(e) = self.release_in(&cidr, &request).await {
                tracing::debug!(handle, block = %cidr, error = %e, "a handle counts too much until it is released");
            }
        }
    }

    /// Turns an answer into an error and gives back what it had got.
    async fn fail(&self, answer: &mut Result<Vec<IfAddr>, IpamError>, why: IpamError, handle: &str) {
        let Ok(got) = std::mem::replace(answer, Err(why)) else {
            return;
        };
        for a in got {
            if let Err(e) = self.release_address(a.addr, Some(handle), None).await {
                tracing::warn!(address = %a.addr, handle, error = %e, "an address of a request that failed was not given back");
            }
        }
    }

    /// Rounds of observing, planning and doing until nobody is left in `open`.
    async fn rounds(
        &self,
        node: &NodeName,
        options: &AssignOptions,
        open: &mut BTreeMap<usize, Want>,
        answers: &mut Answers,
        lost: &mut Lost,
    ) -> Result<(), IpamError> {
        let handles: BTreeMap<usize, String> =
            open.iter().map(|(i, w)| (*i, w.owner.handle.clone())).collect();
        let holder = holder_of(node, options);
        let mut tries = self.tries();
        let mut settings: Option<Observed> = None;
        let mut everything = false;
        while !open.is_empty() {
            let asker = self.asker(&holder, options);
            let families: BTreeSet<Family> = open.values().map(|w| w.family).collect();
            let names: BTreeSet<String> = open.values().map(|w| w.owner.handle.clone()).collect();
            let seen = self
                .observe(&holder, settings.take(), (&families, &names), everything)
                .await?;
            let wants: Vec<(usize, Want)> = open.iter().map(|(i, w)| (*i, w.clone())).collect();
            let group = plan_group(&seen, &asker, &wants);
            for (i, e) in group.refused {
                open.remove(&i);
                self.fail(&mut answers[i], e.into(), &handles[&i]).await;
            }
            let outcome = match group.plan {
                None => Outcome::Done,
                Some(Plan::NeedAll) => {
                    everything = true;
                    Outcome::Done
                }
                Some(Plan::Wait(_)) => Outcome::Stale,
                Some(Plan::Prepare(steps)) => execute(self.store(), steps).await?,
                Some(Plan::Write { handles: h, blocks }) => {
                    everything = false;
                    self.write((h, blocks), open, answers, &handles, lost).await?
                }
            };
            match outcome {
                Outcome::Done => settings = Some(seen),
                Outcome::Stale => tries.again().await?,
            }
        }
        Ok(())
    }

    fn asker(&self, holder: &Holder, options: &AssignOptions) -> Asker {
        Asker {
            holder: holder.clone(),
            max_blocks: options.max_blocks,
            host_reserved: options.host_reserved.clone(),
            now: self.now(),
        }
    }

    /// Writes handles, then blocks. A block that fails fails only those who were to get addresses of it.
    async fn write(
        &self,
        (handles, blocks): (Vec<Step>, Vec<BlockWrite>),
        open: &mut BTreeMap<usize, Want>,
        answers: &mut Answers,
        names: &BTreeMap<usize, String>,
        lost: &mut Lost,
    ) -> Result<Outcome, IpamError> {
        let store = self.store();
        let given = blocks.iter().flat_map(|b| &b.assigned);
        lost.extend(given.flat_map(|(i, more)| more.iter().map(|a| (names[i].clone(), a.network()))));
        if all(store, handles).await? == Outcome::Stale {
            return Ok(Outcome::Stale);
        }
        let (steps, assigned): (Vec<Step>, Vec<_>) = blocks.into_iter().map(|b| (b.step, b.assigned)).unzip();
        let results = join_all(steps.into_iter().map(|s| one(store, s))).await;
        let mut outcome = Outcome::Done;
        let mut failed = Vec::new();
        for (result, assigned) in results.into_iter().zip(assigned) {
            match result {
                Ok(Outcome::Stale) => outcome = Outcome::Stale,
                Ok(Outcome::Done) => {
                    for (i, more) in assigned {
                        if let (Some(want), Ok(got)) = (open.get_mut(&i), &mut answers[i]) {
                            want.count = want.count.saturating_sub(more.len());
                            got.extend(more);
                        }
                    }
                }
                Err(e) => failed.extend(assigned.into_iter().map(|(i, _)| (i, e.clone()))),
            }
        }
        for (i, e) in failed {
            open.remove(&i);
            self.fail(&mut answers[i], e, &names[&i]).await;
        }
        open.retain(|_, w| w.count > 0);
        Ok(outcome)
    }

    /// Assigns one given address.
    ///
    /// # Errors
    /// [`IpamError`]; an address that somebody holds is named with its holder.
    pub async fn assign_address(&self, want: &Assign, addr: IpAddr) -> Result<IfAddr, IpamError> {
        self.assign_address_with(want, addr, &AssignOptions::default())
            .await
    }

    /// As [`Ipam::assign_address`], with options.
    ///
    /// # Errors
    /// [`IpamError`]; an address that somebody holds is named with its holder.
    pub async fn assign_address_with(
        &self,
        want: &Assign,
        addr: IpAddr,
        options: &AssignOptions,
    ) -> Result<IfAddr, IpamError> {
        let mut lost = Lost::new();
        let result = self.assign_one(want, addr, options, &mut lost).await;
        if result.is_err() {
            self.settle(lost).await;
        }
        result
    }

    async fn assign_one(
        &self,
        want: &Assign,
        addr: IpAddr,
        options: &AssignOptions,
        lost: &mut Lost,
    ) -> Result<IfAddr, IpamError> {
        let holder = holder_of(&want.node, options);
        let one = Want {
            family: Family::of(addr),
            count: 1,
            ..to_want(want, options)
        };
        let names = BTreeSet::from([one.owner.handle.clone()]);
        let families = BTreeSet::from([one.family]);
        let mut tries = self.tries();
        loop {
            let asker = self.asker(&holder, options);
            // Whose block it is in is not known before all are read.
            let seen = self.observe(&holder, None, (&families, &names), true).await?;
            let outcome = match plan_address(&seen, &asker, &one, addr)? {
                // All was read.
                Plan::NeedAll => Outcome::Stale,
                Plan::Prepare(steps) => execute(self.store(), steps).await?,
                Plan::Wait(why) => {
                    if tries.again().await.is_err() {
                        return Err(PlanError::Unfinished(why).into());
                    }
                    continue;
                }
                Plan::Write { handles, blocks } => {
                    let mut open = BTreeMap::from([(0, one.clone())]);
                    let mut answers: Answers = vec![Ok(Vec::new())];
                    let owner = BTreeMap::from([(0, one.owner.handle.clone())]);
                    let outcome = self
                        .write((handles, blocks), &mut open, &mut answers, &owner, lost)
                        .await?;
                    match answers.pop() {
                        Some(Err(e)) => return Err(e),
                        Some(Ok(got)) if outcome == Outcome::Done => {
                            return got.first().copied().ok_or(PlanError::NotInPool(addr).into());
                        }
                        _ => outcome,
                    }
                }
            };
            if outcome == Outcome::Stale {
                tries.again().await?;
            }
        }
    }
}

fn holder_of(node: &NodeName, options: &AssignOptions) -> Holder {
    let own = || Holder::Host(node.to_string());
    options.holder.clone().unwrap_or_else(own)
}

pub(crate) fn to_want(want: &Assign, options: &AssignOptions) -> Want {
    Want {
        family: want.family,
        count: want.count,
        owner: want.owner.clone(),
        pools: want.pools.clone(),
        usage: want.usage,
        namespace_labels: want.namespace_labels.clone(),
        max_per_handle: options.max_per_handle,
    }
}
