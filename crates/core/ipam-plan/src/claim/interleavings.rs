//! Every order of the calls of a few processes on one datastore: a small model checker over the plan functions.
//!
//! A process is what an executor is: it reads claims, then blocks, plans, and does the steps one by one with compare and
//! swap. A call is atomic, nothing else is. All reachable states are visited; one in which live blocks overlap, or an
//! address has two holders, is a failure with the order of calls that led to it. A process that dies is one that is not
//! run any more, so deaths need no states of their own.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
};

use caracal_api::{BlockAffinitySpec, IpPoolAllowedUse, IpPoolSpec, IpamBlockSpec, Object, Spec};
use caracal_net::{Cidr, Family};

use crate::{
    Asker, Block, Holder, Observed, Owner, Plan, ReleaseRequest, Stamp, Step, Want, handle_with, plan_group,
    plan_release, plan_release_affinity,
};

/// Objects of a kind by name, with how often each was written: revisions are never used twice.
#[derive(Debug, Clone)]
struct Table<S: Spec> {
    objects: BTreeMap<String, Object<S>>,
    writes: BTreeMap<String, u32>,
}

impl<S: Spec> Default for Table<S> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            writes: BTreeMap::new(),
        }
    }
}

impl<S: Spec + Clone> Table<S> {
    fn current(&self, o: &Object<S>) -> bool {
        let stored = self.objects.get(&o.metadata.name);
        stored.and_then(|s| s.metadata.resource_version.as_ref()) == o.metadata.resource_version.as_ref()
    }

    fn put(&mut self, o: &Object<S>) -> bool {
        if !self.current(o) {
            return false;
        }
        let count = self.writes.entry(o.metadata.name.clone()).or_default();
        *count += 1;
        let mut o = o.clone();
        o.metadata.resource_version = Some(count.to_string());
        self.objects.insert(o.metadata.name.clone(), o);
        true
    }

    fn delete(&mut self, o: &Object<S>) -> bool {
        let gone = !self.objects.contains_key(&o.metadata.name);
        if !gone && !self.current(o) {
            return false;
        }
        self.objects.remove(&o.metadata.name);
        true
    }
}

#[derive(Debug, Clone, Default)]
struct Datastore {
    claims: Table<BlockAffinitySpec>,
    blocks: Table<IpamBlockSpec>,
}

impl Datastore {
    fn step(&mut self, step: &Step) -> bool {
        match step {
            Step::PutAffinity(o) => self.claims.put(o),
            Step::DeleteAffinity(o) => self.claims.delete(o),
            Step::PutBlock(o) => self.blocks.put(o),
            // One that is gone was deleted by somebody else: plan again.
            Step::DeleteBlock(o) => {
                self.blocks.objects.contains_key(&o.metadata.name) && self.blocks.delete(o)
            }
            // Each handle is one process's own.
            Step::PutHandle(_) | Step::DeleteHandle(_) => true,
        }
    }

    fn live(&self) -> Vec<Block> {
        let read = self
            .blocks
            .objects
            .values()
            .map(|b| Block::read(b.clone()).unwrap());
        read.filter(|b| !b.is_fresh()).collect()
    }
}

/// What a process wants.
#[derive(Debug, Clone)]
enum Job {
    /// An address for a node that sees a pool with blocks of this length.
    Assign { node: &'static str, block_len: u8 },
    /// Gives the claim on a block up.
    GiveUp {
        node: &'static str,
        cidr: &'static str,
        must_be_empty: bool,
    },
    /// Puts right what a handle counts in a block.
    Count { cidr: &'static str },
}

#[derive(Debug, Clone)]
enum At {
    Claims,
    Blocks(Vec<Object<BlockAffinitySpec>>),
    Steps(VecDeque<Step>, Option<IpAddr>),
    Done(Option<IpAddr>),
}

#[derive(Debug, Clone)]
struct Process {
    job: Job,
    at: At,
    everything: bool,
    /// Whether it has planned before.
    again: bool,
}

impl Process {
    fn new(job: Job) -> Self {
        Self {
            job,
            at: At::Claims,
            everything: false,
            again: false,
        }
    }

    /// One call.
    fn call(&mut self, store: &mut Datastore, number: usize) {
        match std::mem::replace(&mut self.at, At::Claims) {
            At::Claims => {
                let claims = store.claims.objects.values().cloned().collect();
                self.at = At::Blocks(claims);
            }
            At::Blocks(claims) => {
                let blocks = store.blocks.objects.values().cloned().collect();
                self.at = self.plan(claims, blocks, number);
                self.again = matches!(self.job, Job::Count { .. });
            }
            At::Steps(mut steps, gets) => {
                let done = steps.pop_front().is_none_or(|s| store.step(&s));
                self.at = match (done, steps.is_empty()) {
                    (false, _) => At::Claims,
                    (true, false) => At::Steps(steps, gets),
                    (true, true) if gets.is_some() => At::Done(gets),
                    (true, true) => At::Claims,
                };
            }
            done @ At::Done(_) => self.at = done,
        }
    }

    fn plan(
        &mut self,
        claims: Vec<Object<BlockAffinitySpec>>,
        blocks: Vec<Object<IpamBlockSpec>>,
        number: usize,
    ) -> At {
        let find = |c: &Cidr| blocks.iter().find(|b| b.spec.cidr == c.to_string());
        match &self.job {
            Job::Assign { node, block_len } => {
                let observed = observed(node, *block_len, claims, blocks, self.everything);
                let group = plan_group(&observed, &asker(node), &[(0, want(number))]);
                match group.plan {
                    None => At::Done(None),
                    Some(Plan::NeedAll) => {
                        self.everything = true;
                        At::Claims
                    }
                    Some(Plan::Wait(_)) => At::Claims,
                    Some(Plan::Prepare(steps)) => At::Steps(steps.into(), None),
                    Some(Plan::Write { blocks, .. }) => {
                        let addr = blocks[0].assigned[0].1[0].addr;
                        At::Steps(blocks.into_iter().map(|b| b.step).collect(), Some(addr))
                    }
                }
            }
            Job::GiveUp {
                node,
                cidr,
                must_be_empty,
            } => {
                let cidr: Cidr = cidr.parse().unwrap();
                let holder = Holder::Host((*node).to_owned());
                let name = holder.affinity_name(&cidr);
                let claim = claims.iter().find(|a| a.metadata.name == name);
                let block = find(&cidr).map(|b| Block::read(b.clone()).unwrap());
                match plan_release_affinity(&holder, &cidr, claim, block.as_ref(), *must_be_empty) {
                    Ok(steps) if !steps.is_empty() => At::Steps(steps.into(), None),
                    _ => At::Done(None),
                }
            }
            Job::Count { cidr } => {
                let cidr: Cidr = cidr.parse().unwrap();
                let handles = BTreeMap::from([("h".to_owned(), handle_with(None, "h", &cidr, 1))]);
                let request = [ReleaseRequest::Count("h".to_owned())];
                let now = (Stamp::default(), 0);
                let plan = plan_release(find(&cidr).cloned(), &handles, &cidr, &request, now).unwrap();
                let writes = |s: &Step| matches!(s, Step::PutBlock(_) | Step::DeleteBlock(_));
                let steps: VecDeque<Step> = plan.steps.into_iter().filter(writes).collect();
                // Once is enough: it would write again and again.
                match steps.is_empty() || self.again {
                    true => At::Done(None),
                    false => At::Steps(steps, None),
                }
            }
        }
    }
}

fn observed(
    node: &str,
    block_len: u8,
    claims: Vec<Object<BlockAffinitySpec>>,
    blocks: Vec<Object<IpamBlockSpec>>,
    all: bool,
) -> Observed {
    let spec = IpPoolSpec {
        cidr: "10.0.0.0/29".into(),
        block_size: Some(block_len),
        ..IpPoolSpec::default()
    };
    let mut seen = Observed {
        pools: vec![Object::new("p", spec)],
        affinities: claims,
        blocks,
        all,
        ..Observed::default()
    };
    if !all {
        seen.affinities.retain(|a| a.spec.node == node);
        let own: HashSet<&String> = seen.affinities.iter().map(|a| &a.spec.cidr).collect();
        seen.blocks.retain(|b| own.contains(&b.spec.cidr));
    }
    seen
}

fn asker(node: &str) -> Asker {
    Asker {
        holder: Holder::Host(node.to_owned()),
        max_blocks: None,
        host_reserved: None,
        now: Stamp::default(),
    }
}

fn want(number: usize) -> Want {
    Want {
        family: Family::V4,
        count: 1,
        owner: Owner {
            handle: format!("h{number}"),
            attributes: BTreeMap::new(),
        },
        pools: Vec::new(),
        usage: IpPoolAllowedUse::Workload,
        namespace_labels: BTreeMap::new(),
        max_per_handle: None,
    }
}

#[derive(Debug, Clone)]
struct State {
    store: Datastore,
    processes: Vec<Process>,
}

/// The revision of an object, if it has one.
type Revision<'a> = (&'a str, Option<&'a String>);

fn revision<S: Spec>(o: &Object<S>) -> Revision<'_> {
    (&o.metadata.name, o.metadata.resource_version.as_ref())
}

fn revision_of_step(step: &Step) -> Revision<'_> {
    match step {
        Step::PutAffinity(o) | Step::DeleteAffinity(o) => revision(o),
        Step::PutBlock(o) | Step::DeleteBlock(o) => revision(o),
        Step::PutHandle(o) | Step::DeleteHandle(o) => revision(o),
    }
}

impl State {
    /// Every revision that somebody knows. Which number one has does not matter, only which are the same: they count by
    /// their rank, so that there are finitely many states.
    fn revisions(&self) -> BTreeMap<&str, BTreeSet<u32>> {
        let mut known: Vec<Revision<'_>> = Vec::new();
        known.extend(self.store.claims.objects.values().map(revision));
        known.extend(self.store.blocks.objects.values().map(revision));
        for p in &self.processes {
            match &p.at {
                At::Blocks(claims) => known.extend(claims.iter().map(revision)),
                At::Steps(steps, _) => known.extend(steps.iter().map(revision_of_step)),
                At::Claims | At::Done(_) => {}
            }
        }
        let mut ranks: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for (name, number) in known {
            let numbers = ranks.entry(name).or_default();
            numbers.extend(number.and_then(|n| n.parse::<u32>().ok()));
        }
        ranks
    }

    fn hash(&self) -> u64 {
        let ranks = self.revisions();
        let rank = |(name, number): Revision<'_>| {
            let number: Option<u32> = number.and_then(|n| n.parse().ok());
            number.map(|n| ranks[name].range(..n).count())
        };
        let mut h = DefaultHasher::new();
        let claim = |a: &Object<BlockAffinitySpec>, h: &mut DefaultHasher| {
            (rank(revision(a)), &a.metadata.name, &a.spec.state).hash(h);
        };
        for c in self.store.claims.objects.values() {
            claim(c, &mut h);
        }
        for b in self.store.blocks.objects.values() {
            (rank(revision(b)), format!("{:?}", b.spec)).hash(&mut h);
        }
        for p in &self.processes {
            (p.everything, p.again).hash(&mut h);
            match &p.at {
                At::Claims => 0.hash(&mut h),
                At::Blocks(claims) => claims.iter().for_each(|c| claim(c, &mut h)),
                At::Steps(steps, gets) => {
                    gets.hash(&mut h);
                    for s in steps {
                        rank(revision_of_step(s)).hash(&mut h);
                        match s {
                            Step::PutAffinity(o) => (1, &o.metadata.name, &o.spec.state).hash(&mut h),
                            Step::PutBlock(o) => (2, format!("{:?}", o.spec)).hash(&mut h),
                            other => (3, other.to_string()).hash(&mut h),
                        }
                    }
                }
                At::Done(gets) => (1, gets).hash(&mut h),
            }
        }
        h.finish()
    }

    fn wrong(&self) -> Option<String> {
        let live = self.store.live();
        for (i, a) in live.iter().enumerate() {
            if let Some(b) = live[i + 1..].iter().find(|b| a.cidr().overlaps(&b.cidr())) {
                return Some(format!("live blocks {} and {} overlap", a.cidr(), b.cidr()));
            }
        }
        for (i, p) in self.processes.iter().enumerate() {
            let At::Done(Some(addr)) = p.at else { continue };
            let holds = |b: &Block| b.held_by(&format!("h{i}")).contains(&addr);
            if !live.iter().any(holds) {
                return Some(format!("process {i} has {addr}, and no block says so"));
            }
        }
        for b in &live {
            let claim = b.holder().map(|h| h.affinity_name(&b.cidr()));
            if claim.is_some_and(|c| !self.store.claims.objects.contains_key(&c)) {
                return Some(format!("the live block {} has no claim", b.cidr()));
            }
        }
        // Nobody died: whoever made a block settled or deleted it.
        let all_done = self.processes.iter().all(|p| matches!(p.at, At::Done(_)));
        if all_done && live.len() < self.store.blocks.objects.len() {
            return Some("a fresh block is left over".to_owned());
        }
        None
    }
}

/// Visits every state; says how many there were, and how many of them were ends.
fn explore(jobs: &[Job]) -> (usize, usize) {
    let first = State {
        store: Datastore::default(),
        processes: jobs.iter().cloned().map(Process::new).collect(),
    };
    let mut seen = HashSet::from([first.hash()]);
    let mut open = vec![(first, Vec::<usize>::new())];
    let mut ends = 0;
    while let Some((state, path)) = open.pop() {
        let mut end = true;
        for i in 0..state.processes.len() {
            if matches!(state.processes[i].at, At::Done(_)) {
                continue;
            }
            end = false;
            let mut next = state.clone();
            next.processes[i].call(&mut next.store, i);
            if !seen.insert(next.hash()) {
                continue;
            }
            let mut path = path.clone();
            path.push(i);
            if let Some(why) = next.wrong() {
                panic!("{jobs:?}: {why} after the calls {path:?}: {next:#?}");
            }
            open.push((next, path));
        }
        ends += usize::from(end);
    }
    (seen.len(), ends)
}

const WIDE: Job = Job::Assign {
    node: "n4",
    block_len: 30,
};
const NARROW: Job = Job::Assign {
    node: "n1",
    block_len: 31,
};

fn wide_range() -> &'static str {
    // Where n4 looks first.
    match claim_range("n4", 30).as_str() {
        "10.0.0.0/30" => "10.0.0.0/30",
        _ => "10.0.0.4/30",
    }
}

fn claim_range(node: &str, block_len: u8) -> String {
    let seen = observed(node, block_len, Vec::new(), Vec::new(), true);
    let group = plan_group(&seen, &asker(node), &[(0, want(0))]);
    match group.plan {
        Some(Plan::Prepare(steps)) => match &steps[..] {
            [Step::PutAffinity(a)] => a.spec.cidr.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_order_of_calls_makes_live_blocks_overlap() {
    // What the two nodes want first overlaps, or the test would show nothing.
    let (wide, narrow): (Cidr, Cidr) = (
        claim_range("n4", 30).parse().unwrap(),
        claim_range("n1", 31).parse().unwrap(),
    );
    assert!(wide.overlaps(&narrow), "{wide} {narrow}");
    let give_up = |must_be_empty| Job::GiveUp {
        node: "n4",
        cidr: wide_range(),
        must_be_empty,
    };
    let mut groups = vec![
        vec![WIDE, NARROW],
        vec![WIDE, WIDE],
        vec![WIDE, give_up(true)],
        vec![WIDE, give_up(false)],
        vec![WIDE, NARROW, Job::Count { cidr: wide_range() }],
    ];
    if std::env::var_os("CARACAL_NIGHTLY").is_some() {
        groups.extend([
            vec![WIDE, WIDE, NARROW],
            vec![WIDE, NARROW, give_up(true)],
            vec![WIDE, NARROW, give_up(false)],
        ]);
    }
    for jobs in groups {
        let began = std::time::Instant::now();
        let (states, ends) = explore(&jobs);
        println!("{jobs:?}: {states} states, {ends} ends, {:?}", began.elapsed());
        assert!(states > 50 && ends > 0, "{jobs:?}: {states} states, {ends} ends");
    }
}
