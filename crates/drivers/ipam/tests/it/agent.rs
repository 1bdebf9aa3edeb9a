//! A node's agent: addresses and endpoints of pods that come or go at one moment, in one transaction, as felix's
//! `Pods.Attach` and `Pods.Detach` have it.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
};

use caracal_api::ResourceKey;
use caracal_ids::NodeName;
use caracal_ipam::{Assign, Ipam, IpamError, Memory};
use caracal_net::{Family, IfAddr};
use caracal_store::{Store, StoreError, Write, retire};

use crate::world::{World, want};

/// How many are written in one transaction.
const IN_ONE: usize = 30;

/// How often a transaction is tried against other writers.
const TRIES: u32 = 5;

/// What transactions there were.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) done: Cell<usize>,
    pub(crate) refused: Cell<usize>,
    pub(crate) failed: Cell<usize>,
}

impl Counts {
    fn count(&self, outcome: &Result<bool, IpamError>) {
        let which = match outcome {
            Ok(true) => &self.done,
            Ok(false) => &self.refused,
            Err(_) => &self.failed,
        };
        which.set(which.get() + 1);
    }
}

/// A new container.
#[derive(Debug, Clone)]
pub(crate) struct Comer {
    pub(crate) container: String,
    pub(crate) families: &'static [Family],
}

pub(crate) struct Agent {
    pub(crate) world: World,
    pub(crate) ipam: Ipam,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) node: String,
    pub(crate) memory: Memory,
    pub(crate) counts: Rc<Counts>,
}

type Given = Result<Vec<IpAddr>, String>;

pub(crate) fn handle_of(container: &str) -> String {
    format!("net.{container}")
}

impl Agent {
    /// One answer for each, in order.
    pub(crate) async fn attach(&mut self, comers: &[Comer]) -> Vec<Given> {
        let mut answers: BTreeMap<usize, Given> = BTreeMap::new();
        let mut claimed: BTreeMap<usize, Vec<IfAddr>> = BTreeMap::new();
        let mut open: Vec<usize> = (0..comers.len()).collect();
        let mut conflicts = 0;
        while !open.is_empty() {
            let round: Vec<usize> = open.iter().copied().take(IN_ONE).collect();
            let refused = match self.round(&round, comers, &mut claimed, &mut answers).await {
                Ok(true) => None,
                Ok(false) if conflicts < TRIES => {
                    conflicts += 1;
                    self.memory.freed();
                    tokio::task::yield_now().await;
                    None
                }
                Ok(false) => Some("other writers were always faster".to_owned()),
                Err(why) => Some(why),
            };
            if let Some(why) = refused {
                for i in round {
                    answers.entry(i).or_insert_with(|| Err(why.clone()));
                }
            }
            open.retain(|i| !answers.contains_key(i));
        }
        answers.into_values().collect()
    }

    fn wants(&self, comer: &Comer) -> Vec<Assign> {
        let one = |f: &Family| want(&self.node, &comer.container, *f, self.world.now());
        comer.families.iter().map(one).collect()
    }

    fn key(&self, container: &str) -> ResourceKey {
        World::endpoint(&self.node, container, &[]).key()
    }

    /// False when somebody else was faster.
    async fn round(
        &mut self,
        round: &[usize],
        comers: &[Comer],
        claimed: &mut BTreeMap<usize, Vec<IfAddr>>,
        answers: &mut BTreeMap<usize, Given>,
    ) -> Result<bool, String> {
        let text = |e: IpamError| e.to_string();
        let unclaimed = round.iter().filter(|i| !claimed.contains_key(i));
        let handles: BTreeSet<String> = unclaimed.map(|i| handle_of(&comers[*i].container)).collect();
        let endpoints = round.iter().map(|i| self.key(&comers[*i].container)).collect();
        let node = NodeName::new(&self.node).unwrap();
        let looked = self.ipam.look(&node, &handles, endpoints, &mut self.memory);
        let sight = looked.await.map_err(text)?;
        let mut wants = BTreeMap::new();
        for (i, found) in round.iter().zip(&sight.others) {
            let comer = &comers[*i];
            match found {
                Err(StoreError::NotFound(_)) if sight.has_handle(&handle_of(&comer.container)) => {
                    answers.insert(*i, Err("the container has addresses already".to_owned()));
                }
                Err(StoreError::NotFound(_)) if claimed.contains_key(i) => {}
                Err(StoreError::NotFound(_)) => drop(wants.insert(*i, self.wants(comer))),
                _ => drop(answers.insert(*i, Err("the container has its endpoint already".to_owned()))),
            }
        }
        let drawn = self.ipam.draw(&sight, &wants, &mut self.memory);
        let (mut writes, mut done) = (drawn.writes, Vec::new());
        for i in round.iter().filter(|i| !answers.contains_key(i)) {
            let Some(got) = claimed.get(i).or_else(|| drawn.given.get(i)) else {
                continue;
            };
            let got: Vec<IpAddr> = got.iter().map(|a| a.addr).collect();
            let endpoint = World::endpoint(&self.node, &comers[*i].container, &got);
            writes.push(Write::Create(endpoint));
            done.push((*i, got));
        }
        if done.is_empty() {
            // A block has to be claimed or borrowed from; the others then find it there.
            if let Some((i, wants)) = wants.into_iter().next() {
                self.memory.freed();
                let mut all = Vec::new();
                for want in &wants {
                    match self.ipam.assign(want).await {
                        Ok(got) => all.extend(got),
                        Err(e) => {
                            answers.insert(i, Err(e.to_string()));
                            return Ok(true);
                        }
                    }
                }
                claimed.insert(i, all);
            }
            return Ok(true);
        }
        if writes.len() > self.ipam.writes_together() {
            return Err("the addresses are in too many blocks for one transaction".to_owned());
        }
        let outcome = self.ipam.write_together(writes).await;
        self.counts.count(&outcome);
        if !outcome.map_err(text)? {
            return Ok(false);
        }
        answers.extend(done.into_iter().map(|(i, got)| (i, Ok(got))));
        Ok(true)
    }

    /// Whether endpoints and addresses of these are gone, in order.
    pub(crate) async fn detach(&self, containers: &[String]) -> Vec<bool> {
        let mut answers = Vec::new();
        for group in containers.chunks(IN_ONE) {
            match self.part(group).await {
                true => answers.extend(group.iter().map(|_| true)),
                false => answers.extend(self.one_by_one(group).await),
            }
        }
        answers
    }

    async fn part(&self, group: &[String]) -> bool {
        let handles: BTreeSet<String> = group.iter().map(|c| handle_of(c)).collect();
        for _ in 0..3 {
            let endpoints = group.iter().map(|c| self.key(c)).collect();
            let Ok(seen) = self.ipam.look_back(&handles, endpoints).await else {
                return false;
            };
            let Some((mut writes, emptied)) = self.ipam.give_back(&seen, &handles) else {
                return false;
            };
            for found in &seen.others {
                match found {
                    Ok(r) => writes.push(Write::Delete(
                        r.key(),
                        r.metadata().resource_version.clone().unwrap(),
                    )),
                    Err(StoreError::NotFound(_)) => {}
                    Err(_) => return false,
                }
            }
            if writes.len() > self.ipam.writes_together() {
                return false;
            }
            if writes.is_empty() {
                return true;
            }
            let outcome = self.ipam.write_together(writes).await;
            self.counts.count(&outcome);
            match outcome {
                Ok(true) => {
                    self.ipam.tidy_blocks(&emptied).await;
                    return true;
                }
                Ok(false) => {}
                Err(_) => return false,
            }
        }
        false
    }

    async fn one_by_one(&self, group: &[String]) -> Vec<bool> {
        let mut gone = Vec::new();
        for c in group {
            let done = retire(self.store.as_ref(), &self.key(c), |_| true).await;
            gone.push(done.is_ok());
        }
        let handles: Vec<String> = group.iter().map(|c| handle_of(c)).collect();
        let released = self.ipam.release_handles(&handles).await;
        gone.iter().zip(released).map(|(e, r)| *e && r.is_ok()).collect()
    }
}
