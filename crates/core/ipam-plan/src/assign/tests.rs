use caracal_api::{BlockAffinitySpec, IpPoolAllowedUse, IpPoolSpec, IpamBlockSpec, IpamHandleSpec, Object};

use super::*;
use crate::{Holder, Owner, Stamp, plan_address};

/// A store of objects that does steps: what a real executor does, without revisions.
#[derive(Default)]
struct World {
    seen: Observed,
    handles: BTreeMap<String, Object<IpamHandleSpec>>,
}

fn replace<S: caracal_api::Spec>(list: &mut Vec<Object<S>>, o: &Object<S>, put: bool) {
    list.retain(|x| x.metadata.name != o.metadata.name);
    if put {
        list.push(o.clone());
    }
}

impl World {
    fn pool(mut self, name: &str, cidr: &str, block_len: u8) -> Self {
        let spec = IpPoolSpec {
            cidr: cidr.into(),
            block_size: Some(block_len),
            ..IpPoolSpec::default()
        };
        self.seen.pools.push(Object::new(name, spec));
        self
    }

    fn block(&mut self, cidr: &str, node: &str, state: Option<&str>) -> Block {
        let cidr: Cidr = cidr.parse().unwrap();
        let holder = Holder::Host(node.into());
        let mut block = Block::new(cidr, &holder, Stamp::default(), None);
        // One whose claim was confirmed has been settled.
        if !matches!(state, None | Some("" | "pending")) {
            block.seal();
        }
        self.seen.blocks.push(block.object().clone());
        if let Some(state) = state {
            self.seen.affinities.push(holder.claim(None, &cidr, state));
        }
        block
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::PutAffinity(o) => replace(&mut self.seen.affinities, o, true),
            Step::DeleteAffinity(o) => replace(&mut self.seen.affinities, o, false),
            Step::PutBlock(o) => replace(&mut self.seen.blocks, o, true),
            Step::DeleteBlock(o) => replace(&mut self.seen.blocks, o, false),
            Step::PutHandle(o) => _ = self.handles.insert(o.metadata.name.clone(), o.clone()),
            Step::DeleteHandle(o) => _ = self.handles.remove(&o.metadata.name),
        }
    }

    /// What one node sees: its own claims and their blocks; all when it asks.
    fn view(&self, node: &str, all: bool) -> Observed {
        let mut seen = self.seen.clone();
        seen.handles = self.handles.clone();
        seen.all = all;
        if !all {
            seen.affinities.retain(|a| a.spec.node == node);
            let own: Vec<&String> = seen.affinities.iter().map(|a| &a.spec.cidr).collect();
            seen.blocks.retain(|b| own.contains(&&b.spec.cidr));
        }
        seen
    }

    fn assign(
        &mut self,
        node: &str,
        wants: &[(usize, Want)],
    ) -> Result<BTreeMap<usize, Vec<IfAddr>>, PlanError> {
        let mut all = false;
        let mut got: BTreeMap<usize, Vec<IfAddr>> = BTreeMap::new();
        let mut open = wants.to_vec();
        for _ in 0..40 {
            let mut group = plan_group(&self.view(node, all), &asker(node), &open);
            if let Some((_, e)) = group.refused.pop() {
                return Err(e);
            }
            match group.plan {
                Some(Plan::NeedAll) => all = true,
                Some(Plan::Prepare(steps)) => steps.iter().for_each(|s| self.step(s)),
                Some(Plan::Write { handles, blocks }) => {
                    handles.iter().for_each(|s| self.step(s));
                    for b in blocks {
                        self.step(&b.step);
                        for (i, more) in b.assigned {
                            open.iter_mut()
                                .filter(|(j, _)| *j == i)
                                .for_each(|(_, w)| w.count -= more.len());
                            got.entry(i).or_default().extend(more);
                        }
                    }
                }
                other => panic!("{other:?}"),
            }
            open.retain(|(_, w)| w.count > 0);
            if open.is_empty() {
                return Ok(got);
            }
        }
        panic!("no end in sight");
    }

    fn one(&mut self, node: &str, handle: &str) -> Result<IfAddr, PlanError> {
        self.assign(node, &[(0, want(handle, 1))]).map(|g| g[&0][0])
    }
}

fn asker(node: &str) -> Asker {
    Asker {
        holder: Holder::Host(node.into()),
        max_blocks: None,
        host_reserved: None,
        now: Stamp::from_seconds(30),
    }
}

fn want(handle: &str, count: usize) -> Want {
    Want {
        family: Family::V4,
        count,
        owner: Owner {
            handle: handle.into(),
            attributes: BTreeMap::new(),
        },
        pools: vec![],
        usage: IpPoolAllowedUse::Workload,
        namespace_labels: BTreeMap::new(),
        max_per_handle: None,
    }
}

#[test]
fn a_group_shares_writes_and_spills_into_new_blocks() {
    let mut w = World::default().pool("p", "10.0.0.0/24", 30);
    let wants: Vec<_> = (0..5).map(|i| (i, want(&format!("h{i}"), 2))).collect();
    let got = w.assign("n1", &wants).unwrap();
    let mut all: Vec<_> = got.values().flatten().map(|a| a.addr).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!((got.len(), all.len(), w.seen.blocks.len()), (5, 10, 3));
    assert!(w.seen.affinities.iter().all(|a| a.spec.state == "confirmed"));
    for (name, handle) in &w.handles {
        let counts: u64 = handle.spec.block.values().sum();
        assert_eq!(counts, 2, "{name}");
    }
}

#[test]
fn a_claim_cut_off_anywhere_is_finished_later() {
    for state in ["", "pending", "pendingDeletion", "confirmed"] {
        for with_block in [false, true] {
            let mut w = World::default().pool("p", "10.0.0.0/24", 26);
            w.block("10.0.0.64/26", "n1", Some(state));
            if !with_block {
                w.seen.blocks.clear();
            }
            let got = w.one("n1", "h").unwrap();
            if with_block || state != "pendingDeletion" {
                assert_eq!(got.network().to_string(), "10.0.0.64/26", "{state}");
            }
            assert_eq!(w.seen.affinities.len(), 1);
            assert_eq!(w.seen.affinities[0].spec.state, "confirmed");
        }
    }
}

#[test]
fn a_block_that_another_node_got_first_is_given_up() {
    let mut w = World::default().pool("p", "10.0.0.0/24", 26);
    w.block("10.0.0.64/26", "n2", None);
    let cidr: Cidr = "10.0.0.64/26".parse().unwrap();
    let claim = Holder::Host("n1".into()).claim(None, &cidr, "pending");
    w.seen.affinities.push(claim);
    assert_ne!(w.one("n1", "h").unwrap().network(), cidr);
    assert!(w.seen.affinities.iter().all(|a| a.spec.cidr != cidr.to_string()));
}

#[test]
fn of_two_fresh_blocks_that_overlap_the_first_is_used() {
    let mut w = World::default().pool("p", "10.0.0.0/24", 26);
    w.block("10.0.0.0/26", "n1", Some("pending"));
    w.block("10.0.0.16/28", "n2", Some("pending"));
    let got = w.one("n1", "h").unwrap();
    assert_eq!(got.network().to_string(), "10.0.0.0/26");
    assert!(w.seen.blocks.iter().all(|b| b.spec.cidr != "10.0.0.16/28"));
    // The other node finds its block gone and looks elsewhere.
    let got = w.one("n2", "h2").unwrap();
    assert!(!got.network().overlaps(&"10.0.0.0/26".parse().unwrap()), "{got}");
}

#[test]
fn a_fresh_block_that_overlaps_with_a_live_one_is_given_up() {
    for live in [true, false] {
        let mut w = World::default().pool("p", "10.0.0.0/24", 26);
        w.block("10.0.0.0/26", "n1", Some("pending"));
        let cidr: Cidr = "10.0.0.16/28".parse().unwrap();
        if live {
            w.block("10.0.0.16/28", "n2", Some("confirmed"));
        } else {
            w.seen.unreadable.insert(cidr);
        }
        let got = w.one("n1", "h").unwrap();
        assert!(!got.network().overlaps(&cidr), "{got}");
        assert!(w.seen.blocks.iter().all(|b| b.spec.cidr != "10.0.0.0/26"));
    }
}

#[test]
fn a_fresh_block_without_a_claim_is_found_and_settled() {
    let mut w = World::default().pool("p", "10.0.0.0/24", 26);
    w.block("10.0.0.64/26", "n1", None);
    assert_eq!(w.one("n1", "h").unwrap().network().to_string(), "10.0.0.64/26");
    assert_eq!(w.seen.affinities[0].spec.state, "confirmed");
}

#[test]
fn nothing_is_borrowed_from_a_block_that_may_vanish() {
    for state in [None, Some("pending"), Some("pendingDeletion")] {
        let mut w = World::default().pool("p", "10.0.0.0/30", 30);
        w.block("10.0.0.0/30", "n2", state);
        let e = w.one("n1", "h").unwrap_err().to_string();
        assert!(e.contains("no block of another node"), "{state:?}: {e}");
    }
    // A claim that is confirmed does not make a fresh block one that lends.
    let mut w = World::default().pool("p", "10.0.0.0/30", 30);
    w.block("10.0.0.0/30", "n2", None);
    let cidr: Cidr = "10.0.0.0/30".parse().unwrap();
    let claim = Holder::Host("n2".into()).claim(None, &cidr, "confirmed");
    w.seen.affinities.push(claim);
    assert!(w.one("n1", "h").is_err());
    let mut w = World::default().pool("p", "10.0.0.0/30", 30);
    w.block("10.0.0.0/30", "n2", Some("confirmed"));
    assert!(w.one("n1", "h").is_ok());
}

#[test]
fn blocks_of_another_size_are_not_overlapped() {
    let mut w = World::default().pool("p", "10.0.0.0/24", 28);
    w.block("10.0.0.0/25", "old", Some("confirmed"));
    w.seen.config.strict_affinity = true;
    for i in 0..8 * 16 {
        w.one("n1", &format!("h{i}")).unwrap();
    }
    let cidrs: Vec<Cidr> = w
        .seen
        .blocks
        .iter()
        .map(|b| b.spec.cidr.parse().unwrap())
        .collect();
    for (i, a) in cidrs.iter().enumerate() {
        assert!(cidrs[i + 1..].iter().all(|b| !a.overlaps(b)), "{a} overlaps");
    }
    assert!(w.one("n1", "one more").is_err());
}

#[test]
fn bad_objects_stop_nothing() {
    let mut w = World::default()
        .pool("bad", "10.0.0.0/99", 26)
        .pool("p", "10.0.0.0/24", 26);
    let affinity = BlockAffinitySpec {
        node: "n1".into(),
        cidr: "nonsense".into(),
        ..BlockAffinitySpec::default()
    };
    w.seen.affinities.push(Object::new("a", affinity));
    let block = IpamBlockSpec {
        cidr: "10.0.0.0/26".into(),
        ..IpamBlockSpec::default()
    };
    w.seen.blocks.push(Object::new("b", block));
    w.seen.unreadable.insert("10.0.0.64/26".parse().unwrap());
    let free: Cidr = "10.0.0.128/25".parse().unwrap();
    for i in 0..128 {
        assert!(free.contains(w.one("n1", &format!("h{i}")).unwrap().addr));
    }
    assert!(w.one("n1", "more").is_err());
}

#[test]
fn a_given_address_is_assigned_or_its_holder_named() {
    let mut w = World::default().pool("p", "10.0.0.0/24", 26);
    let addr = "10.0.0.77".parse().unwrap();
    let mut done = false;
    for _ in 0..6 {
        match plan_address(&w.view("n1", true), &asker("n1"), &want("h", 1), addr).unwrap() {
            Plan::Prepare(steps) => steps.iter().for_each(|s| w.step(s)),
            Plan::Write { handles, blocks } => {
                assert_eq!(blocks[0].assigned[0].1[0].addr, addr);
                handles
                    .iter()
                    .chain(blocks.iter().map(|b| &b.step))
                    .for_each(|s| w.step(s));
                done = true;
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(done);
    let e = plan_address(&w.view("n1", true), &asker("n1"), &want("other", 1), addr).unwrap_err();
    assert!(
        matches!(&e, PlanError::InUse { holder, .. } if holder.contains("handle h")),
        "{e}"
    );
    let outside = plan_address(
        &w.view("n1", true),
        &asker("n1"),
        &want("h", 1),
        "192.168.0.1".parse().unwrap(),
    );
    assert!(matches!(outside, Err(PlanError::NotInPool(_))));
    w.seen.pools[0].spec.disabled = true;
    let closed = plan_address(&w.view("n1", true), &asker("n1"), &want("h", 1), addr)
        .unwrap_err()
        .to_string();
    assert!(closed.contains("pool p: it is disabled"), "{closed}");
}
