//! A cluster in one process: 250 nodes, 3 000 pods, 20 cycles of churn (by day fewer) with crashes, lost replies, cut-off
//! nodes, nodes lost and back, pools that change, clocks apart, collectors that work beside each other and beside the
//! churn. After each cycle the store alone proves that nothing is leaked, double or overlapping, and the collectors free
//! exactly what nobody holds, each address once.
//!
//! `CARACAL_SIM_SEED` repeats a run, `CARACAL_SIM_SEEDS` says how many small clusters there are; a failure is shrunk to
//! few events before it is reported.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
};

use caracal_api::{IpPoolSpec, Kind, NodeSpec, Object, ResourceKey};
use caracal_ipam::Memory;
use caracal_ipam_plan::{Collector, Holder, Life, ProblemKind};
use caracal_net::Family;
use caracal_store::{Preconditions, Store, StoreError};
use caracal_store_memory::Op;

use crate::{
    agent::{Agent, Comer, Counts, handle_of},
    chaos::{Dice, Fate, Process},
    world::{GRACE, World, run, want},
};

/// How long collectors wait.
const GC_GRACE: i64 = 60;

#[derive(Debug, Clone, Copy)]
struct Size {
    nodes: u64,
    slots: u64,
    cycles: u64,
    churn: u64,
}

impl Size {
    /// The ranges of three pools, of which the third overlaps with the first: roomy for many nodes, tight for few.
    fn ranges(&self) -> [&'static str; 3] {
        if self.nodes > 50 {
            ["10.0.0.0/17", "10.1.0.0/17", "10.0.64.0/18"]
        } else {
            ["10.0.0.0/24", "10.1.0.0/26", "10.0.0.128/25"]
        }
    }
}

#[derive(Debug, Clone)]
enum What {
    /// Starts a pod in a slot of a node, or stops the one that runs there.
    Toggle { slot: u64, six: bool },
    /// Starts pods in several empty slots at once, through the agent.
    Burst { slots: Vec<u64> },
    /// Gives unneeded blocks back.
    Tidy,
    /// A round of a collector, in the middle of all that.
    Collect,
    /// Some seconds pass.
    Time(i64),
    /// The node vanishes with its pods; nobody calls DEL.
    Lost,
    /// Pools change.
    Pool(u64),
    /// Configuration changes.
    Config(u64),
}

#[derive(Debug, Clone)]
struct Event {
    id: u64,
    cycle: u64,
    node: u64,
    what: What,
    fate: Fate,
    /// The runtime forgets the container as well when the plugin fails: only the collector can help.
    forgotten: bool,
}

fn plan(seed: u64, size: Size) -> Vec<Event> {
    let d = Dice::new(seed);
    let mut events = Vec::new();
    for cycle in 0..size.cycles {
        let mut add = |cycle, node, what, fate, forgotten| {
            let id = events.len() as u64;
            events.push(Event {
                id,
                cycle,
                node,
                what,
                fate,
                forgotten,
            });
        };
        for node in (0..size.nodes).filter(|_| cycle == 0) {
            let slots = (0..size.slots).collect();
            add(cycle, node, What::Burst { slots }, fate(&d), d.one_in(3));
        }
        for _ in 0..size.churn {
            let (node, slot, six) = (d.below(size.nodes), d.below(size.slots), d.one_in(4));
            add(cycle, node, What::Toggle { slot, six }, fate(&d), d.one_in(3));
        }
        for _ in 0..size.nodes / 50 + 1 {
            let slots = (0..4).map(|_| d.below(size.slots)).collect();
            add(
                cycle,
                d.below(size.nodes),
                What::Burst { slots },
                fate(&d),
                d.one_in(3),
            );
            add(cycle, d.below(size.nodes), What::Tidy, fate(&d), false);
            add(cycle, 0, What::Collect, fate(&d), false);
            add(cycle, d.below(size.nodes), What::Lost, Fate::default(), false);
        }
        add(cycle, 0, What::Collect, Fate::default(), false);
        // No ADD takes a minute: what is younger is not taken for a leak.
        add(
            cycle,
            0,
            What::Time(1 + d.below(20) as i64),
            Fate::default(),
            false,
        );
        add(cycle, 0, What::Pool(d.next()), Fate::default(), false);
        add(cycle, 0, What::Config(d.next()), Fate::default(), false);
        cut_off(&d, size, cycle, &mut events);
    }
    events
}

/// A part of the nodes loses the datastore in the middle of what it does, for the rest of the cycle.
fn cut_off(d: &Dice, size: Size, cycle: u64, events: &mut [Event]) {
    let cut: BTreeSet<u64> = (0..size.nodes / 25 + 1).map(|_| d.below(size.nodes)).collect();
    let there = |e: &&mut Event| e.cycle == cycle && e.fate == Fate::default();
    for e in events.iter_mut().filter(there) {
        let of_node = matches!(e.what, What::Toggle { .. } | What::Burst { .. } | What::Tidy);
        if of_node && cut.contains(&e.node) {
            let from = u32::try_from(d.below(12)).unwrap_or(0);
            e.fate.cut_off = Some((from, 10_000));
        }
    }
}

fn fate(d: &Dice) -> Fate {
    let call = |n| u32::try_from(d.below(n)).unwrap_or(0);
    match d.below(12) {
        0 => Fate {
            dies_at: Some(call(25)),
            last_is_done: d.one_in(2),
            ..Fate::default()
        },
        1 => Fate {
            loses: Some(call(25)),
            ..Fate::default()
        },
        2 => Fate {
            cut_off: Some((call(25), 1 + call(10))),
            ..Fate::default()
        },
        _ => Fate::default(),
    }
}

/// What is really there, whatever the store says.
#[derive(Debug, Default)]
struct Truth {
    /// Addresses of containers that live, by container.
    living: BTreeMap<String, Vec<IpAddr>>,
    /// Which container is in which slot of which node.
    slots: BTreeMap<(u64, u64), String>,
    /// DELs that the runtime still owes.
    owed: BTreeSet<(u64, String)>,
    /// What the cycle before left for the collectors of this one, as far as they have not freed it.
    leaked: BTreeSet<IpAddr>,
    /// The first thing that went wrong.
    wrong: Option<String>,
}

#[derive(Clone)]
struct Cluster {
    world: World,
    truth: Rc<RefCell<Truth>>,
    /// The memory of a collector that works beside the churn; nobody's while one works with it.
    second: Rc<RefCell<Option<Collector>>>,
    /// What agents remember of their nodes' blocks.
    memories: Rc<RefCell<BTreeMap<u64, Memory>>>,
    counts: Rc<Counts>,
    seed: u64,
    size: Size,
}

fn node_name(n: u64) -> String {
    format!("n{n}")
}

/// Clocks are up to half a minute apart.
fn skew(node: u64) -> i64 {
    i64::try_from(node * 7 % 61).unwrap_or(0) - 30
}

impl Cluster {
    async fn new(seed: u64, kubernetes: bool, size: Size) -> Self {
        let world = World::new(kubernetes);
        let ranges = size.ranges();
        world.pool("a", ranges[0], 28).await;
        world.pool("b", ranges[1], 27).await;
        world.pool("six", "fd00::/112", 124).await;
        for n in 0..size.nodes {
            world.node(&node_name(n)).await;
        }
        Self {
            world,
            truth: Rc::default(),
            second: Rc::new(RefCell::new(Some(Collector::new(GC_GRACE)))),
            memories: Rc::default(),
            counts: Rc::default(),
            seed,
            size,
        }
    }

    fn process(&self, e: &Event, salt: u64) -> Arc<Process> {
        Arc::new(Process::new(
            self.world.store(),
            e.fate,
            self.seed ^ (e.id << 8) ^ salt,
        ))
    }

    async fn happen(self, e: Event) {
        match &e.what {
            What::Toggle { slot, six } => {
                let there = self.truth.borrow_mut().slots.remove(&(e.node, *slot));
                let families: &[Family] = if *six { &Family::BOTH } else { &[Family::V4] };
                match there {
                    Some(container) if self.by_agent(&e) => self.detach(&e, vec![container]).await,
                    None if self.by_agent(&e) => self.attach(&e, &[*slot], |_| families).await,
                    Some(container) => self.del(&e, container).await,
                    None => {
                        self.add(&e, *slot, families).await;
                    }
                }
            }
            What::Burst { slots } if self.by_agent(&e) => self.come_and_go(&e, slots).await,
            What::Burst { slots } => self.burst(&e, slots).await,
            What::Tidy => {
                let ipam = self.world.ipam(self.process(&e, 0), skew(e.node));
                // It may fail: it comes again.
                let _ = ipam.tidy(&node_name(e.node)).await;
            }
            What::Collect => self.collect(&e).await,
            What::Time(seconds) => self.world.pass(*seconds),
            What::Pool(n) => self.change_pools(*n).await,
            What::Config(n) => {
                self.world
                    .config(|c| {
                        c.ip_cooldown_seconds = (n % 3 == 0).then_some(100);
                        c.strict_affinity = n % 5 == 0;
                    })
                    .await;
            }
            // Nodes go and come between cycles.
            What::Lost => {}
        }
    }

    /// Another collector, on a machine of its own. If it dies, the next one remembers nothing.
    async fn collect(&self, e: &Event) {
        let known = self.second.borrow_mut().take();
        let mut collector = known.unwrap_or_else(|| Collector::new(GC_GRACE));
        let process = self.process(e, 4);
        let ipam = self.world.ipam(process.clone(), skew(e.id));
        let done = ipam.collect(&mut collector).await;
        let mut truth = self.truth.borrow_mut();
        for addr in done.map(|d| d.released).unwrap_or_default() {
            // Whoever has it by now got it afterwards, unless it was no leak.
            if !truth.leaked.remove(&addr) {
                let text = format!("a collector freed {addr}, which was not leaked");
                truth.wrong.get_or_insert(text);
            }
        }
        if !process.is_dead() {
            *self.second.borrow_mut() = Some(collector);
        }
    }

    /// Half of the pods come and go through agents that use transactions, where there are such.
    fn by_agent(&self, e: &Event) -> bool {
        !self.world.memory.plays_kubernetes() && e.id % 2 == 1
    }

    fn agent(&self, e: &Event, salt: u64) -> (Agent, Arc<Process>) {
        // They need few calls: what befalls them is to be at one of these.
        let early = |n: u32| n % 7;
        let fate = Fate {
            dies_at: e.fate.dies_at.map(early),
            loses: e.fate.loses.map(early),
            cut_off: e.fate.cut_off.map(|(from, n)| (early(from), n)),
            last_is_done: e.fate.last_is_done,
        };
        let seed = self.seed ^ (e.id << 8) ^ salt;
        let process = Arc::new(Process::new(self.world.store(), fate, seed));
        let memory = self.memories.borrow_mut().remove(&e.node);
        let agent = Agent {
            world: self.world.clone(),
            ipam: self.world.ipam(process.clone(), skew(e.node)),
            store: process.clone(),
            node: node_name(e.node),
            memory: memory.unwrap_or_default(),
            counts: self.counts.clone(),
        };
        (agent, process)
    }

    /// An agent that died has forgotten everything.
    fn rests(&self, e: &Event, agent: Agent, process: &Process) {
        if !process.is_dead() {
            self.memories.borrow_mut().insert(e.node, agent.memory);
        }
    }

    /// Pods that run in these slots end, others start in those that are empty.
    async fn come_and_go(&self, e: &Event, slots: &[u64]) {
        let slots: BTreeSet<u64> = slots.iter().copied().collect();
        let (mut gone, mut free) = (Vec::new(), Vec::new());
        for slot in slots {
            match self.truth.borrow_mut().slots.remove(&(e.node, slot)) {
                Some(container) => gone.push(container),
                None => free.push(slot),
            }
        }
        let both = |i: usize| -> &'static [Family] {
            if i.is_multiple_of(3) {
                &Family::BOTH
            } else {
                &[Family::V4]
            }
        };
        tokio::join!(self.detach(e, gone), self.attach(e, &free, both));
    }

    async fn attach(&self, e: &Event, slots: &[u64], families: impl Fn(usize) -> &'static [Family]) {
        let comers: Vec<Comer> = (0..slots.len())
            .map(|i| Comer {
                container: format!("{:012x}", e.id * 256 + 1 + i as u64),
                families: families(i),
            })
            .collect();
        let (mut agent, process) = self.agent(e, 5);
        let answers = agent.attach(&comers).await;
        self.rests(e, agent, &process);
        for ((slot, comer), answer) in slots.iter().zip(comers).zip(answers) {
            match answer {
                Ok(got) => self.start(e, *slot, comer.container, got, &process).await,
                Err(_) => self.failed(e, comer.container),
            }
        }
    }

    async fn detach(&self, e: &Event, containers: Vec<String>) {
        for c in &containers {
            self.truth.borrow_mut().living.remove(c);
        }
        let (mut agent, process) = self.agent(e, 6);
        let answers = agent.detach(&containers).await;
        agent.memory.freed();
        self.rests(e, agent, &process);
        for (container, gone) in containers.into_iter().zip(answers) {
            if !gone || process.is_dead() {
                self.failed(e, container);
            }
        }
    }

    async fn add(&self, e: &Event, slot: u64, families: &[Family]) {
        let node = node_name(e.node);
        let container = format!("{:012x}", e.id * 256);
        let process = self.process(e, 1);
        let ipam = self.world.ipam(process.clone(), skew(e.node));
        let mut got = Vec::new();
        for family in families {
            match ipam
                .assign(&want(&node, &container, *family, self.world.now()))
                .await
            {
                Ok(a) => got.extend(a.iter().map(|a| a.addr)),
                Err(_) => return self.failed(e, container),
            }
        }
        self.start(e, slot, container, got, &process).await;
    }

    async fn burst(&self, e: &Event, slots: &[u64]) {
        let node = node_name(e.node);
        let free: Vec<u64> = {
            let truth = self.truth.borrow();
            let mut free: Vec<u64> = slots
                .iter()
                .copied()
                .filter(|s| !truth.slots.contains_key(&(e.node, *s)))
                .collect();
            free.sort_unstable();
            free.dedup();
            free
        };
        let process = self.process(e, 2);
        let ipam = self.world.ipam(process.clone(), skew(e.node));
        let names: Vec<String> = (0..free.len())
            .map(|i| format!("{:012x}", e.id * 256 + 1 + i as u64))
            .collect();
        let wants: Vec<_> = names
            .iter()
            .map(|c| want(&node, c, Family::V4, self.world.now()))
            .collect();
        let answers = ipam.assign_group(&wants, &Default::default()).await;
        for ((slot, container), answer) in free.into_iter().zip(names).zip(answers) {
            match answer {
                Ok(got) => {
                    let got = got.iter().map(|a| a.addr).collect();
                    self.start(e, slot, container, got, &process).await;
                }
                Err(_) => self.failed(e, container),
            }
        }
    }

    /// ADD answers: the container lives if its endpoint can be written and its slot is still empty.
    async fn start(&self, e: &Event, slot: u64, container: String, got: Vec<IpAddr>, process: &Arc<Process>) {
        if process.is_dead() {
            return self.failed(e, container);
        }
        {
            let mut t = self.truth.borrow_mut();
            for (other, held) in &t.living {
                if let Some(a) = got.iter().find(|a| held.contains(a)) {
                    let text = format!("{a} was given to {container} while {other} has it");
                    t.wrong.get_or_insert(text);
                    return;
                }
            }
            if t.slots.contains_key(&(e.node, slot)) {
                t.owed.insert((e.node, container));
                return;
            }
            t.slots.insert((e.node, slot), container.clone());
            t.living.insert(container.clone(), got.clone());
        }
        self.world.runs(&node_name(e.node), &container, &got);
    }

    fn failed(&self, e: &Event, container: String) {
        if e.forgotten {
            // Its pod is deleted all the same.
            self.world.stops(&node_name(e.node), &container);
        } else {
            self.truth.borrow_mut().owed.insert((e.node, container));
        }
    }

    async fn del(&self, e: &Event, container: String) {
        self.truth.borrow_mut().living.remove(&container);
        self.world.stops(&node_name(e.node), &container);
        let process = self.process(e, 3);
        let ipam = self.world.ipam(process.clone(), skew(e.node));
        let result = ipam.release_handle(&format!("net.{container}")).await;
        if (result.is_err() || process.is_dead()) && !e.forgotten {
            self.truth.borrow_mut().owed.insert((e.node, container));
        }
    }

    /// Pools are made, closed, opened, and made anew with other block sizes over the blocks of the old ones.
    async fn change_pools(&self, n: u64) {
        let name = ["a", "b", "c"][(n % 3) as usize];
        let cidr = self.size.ranges()[(n % 3) as usize];
        let block = 26 + (n / 3 % 4) as u8;
        let key = ResourceKey::global(Kind::IpPool, name);
        let stored: Result<Object<IpPoolSpec>, _> = match self.world.memory.get(&key).await {
            Ok(r) => Object::try_from(r).map_err(|_| StoreError::NotFound(key.clone())),
            Err(e) => Err(e),
        };
        match (n / 12 % 4, stored) {
            (0, Ok(_)) => {
                let none = Preconditions::default();
                self.world.memory.delete(&key, &none).await.unwrap();
                tokio::task::yield_now().await;
                self.world.pool(name, cidr, block).await;
            }
            (1, Ok(mut p)) => {
                p.spec.disabled = !p.spec.disabled;
                self.world.put(p).await;
            }
            (_, Err(_)) => self.world.pool(name, cidr, block).await,
            _ => {}
        }
    }

    /// Nodes vanish; those that vanished in the cycle before are back.
    async fn nodes(&self, events: &[Event], cycle: u64) {
        let lost = |c: u64| {
            events
                .iter()
                .filter(move |e| e.cycle == c && matches!(e.what, What::Lost))
                .map(|e| e.node)
        };
        let now: BTreeSet<u64> = lost(cycle).collect();
        for n in &now {
            let node = node_name(*n);
            let mut t = self.truth.borrow_mut();
            let gone: Vec<_> = t
                .slots
                .extract_if((*n, 0)..=(*n, u64::MAX), |_, _| true)
                .collect();
            for (_, container) in gone {
                t.living.remove(&container);
                self.world.stops(&node, &container);
            }
            let owed: Vec<_> = t.owed.extract_if(.., |(of, _)| of == n).collect();
            for (_, container) in owed {
                self.world.stops(&node, &container);
            }
            self.world
                .memory
                .underive(&ResourceKey::global(Kind::Node, &node));
        }
        if let Some(before) = cycle.checked_sub(1) {
            for n in lost(before).filter(|n| !now.contains(n)) {
                self.world
                    .put(Object::new(node_name(n), NodeSpec::default()))
                    .await;
            }
        }
    }

    async fn settle(&self, collector: &mut Collector, cycle: u64) -> Result<(), String> {
        let ipam = self.world.sound();
        // The runtime calls DEL until it succeeds.
        let owed = std::mem::take(&mut self.truth.borrow_mut().owed);
        let mut of_node: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for (node, container) in owed {
            of_node.entry(node).or_default().push(container);
        }
        if !self.world.memory.plays_kubernetes() {
            for (node, containers) in std::mem::take(&mut of_node) {
                let agent = Agent {
                    world: self.world.clone(),
                    ipam: ipam.clone(),
                    store: self.world.store(),
                    node: node_name(node),
                    memory: Memory::default(),
                    counts: self.counts.clone(),
                };
                if agent.detach(&containers).await.contains(&false) {
                    return Err(format!(
                        "cycle {cycle}: DEL of {containers:?} on {} failed",
                        agent.node
                    ));
                }
            }
        }
        for container in of_node.into_values().flatten() {
            let handle = handle_of(&container);
            ipam.release_handle(&handle)
                .await
                .map_err(|e| format!("DEL {handle}: {e}"))?;
        }
        self.world.pass(1_000);
        let report = self.world.check().await;
        let living = self.addresses();
        let mut leaked: BTreeSet<IpAddr> = BTreeSet::new();
        for a in &report.allocations {
            match a.life {
                Life::Resting => {}
                _ if living.contains(&a.addr) => {}
                _ => _ = leaked.insert(a.addr),
            }
        }
        for p in &report.problems {
            let fine = match p.kind {
                ProblemKind::Leaked => p.subject.parse().is_ok_and(|a| leaked.contains(&a)),
                ProblemKind::HandleLeaked | ProblemKind::AffinityOrphan | ProblemKind::BlockOrphan => true,
                ProblemKind::OverlappingPools | ProblemKind::NotInPool => true,
                _ => false,
            };
            if !fine {
                return Err(format!("cycle {cycle}: {p:?}"));
            }
        }
        let told = report
            .problems
            .iter()
            .filter(|p| p.kind == ProblemKind::Leaked)
            .count();
        if told != leaked.len() {
            return Err(format!(
                "cycle {cycle}: {told} leaks are told, {} there are: {leaked:?}",
                leaked.len()
            ));
        }
        if cycle % 3 == 1 && cycle + 1 < self.size.cycles {
            // They are left for the collectors of the next cycle, which have seen them once.
            return self.leave(leaked).await;
        }
        self.truth.borrow_mut().leaked.clear();
        let mut freed = BTreeSet::new();
        let mut other = self
            .second
            .borrow_mut()
            .take()
            .unwrap_or_else(|| Collector::new(GC_GRACE));
        let salt = self.seed ^ (cycle << 20);
        let between = |n: u64| Arc::new(Process::new(self.world.store(), Fate::default(), salt + n));
        let (own, beside) = (self.world.ipam(between(1), 0), self.world.ipam(between(2), 7));
        for _ in 0..4 {
            // Two at once: each address is freed by one of them.
            let (one, two) = tokio::join!(own.collect(collector), beside.collect(&mut other));
            for done in [one, two] {
                let done = done.map_err(|e| e.to_string())?;
                if let Some((chore, e)) = done.failed.first() {
                    return Err(format!("cycle {cycle}: {chore:?}: {e}"));
                }
                if let Some(twice) = done.released.into_iter().find(|a| !freed.insert(*a)) {
                    return Err(format!("cycle {cycle}: {twice} was freed twice"));
                }
            }
            self.world.pass(GRACE + 100);
        }
        *self.second.borrow_mut() = Some(other);
        if freed != leaked {
            return Err(format!(
                "cycle {cycle}: leaked are {leaked:?}, freed were {freed:?}"
            ));
        }
        let report = self.world.check().await;
        let held: BTreeSet<IpAddr> = report
            .allocations
            .iter()
            .filter(|a| a.life != Life::Resting)
            .map(|a| a.addr)
            .collect();
        if held != living {
            return Err(format!("cycle {cycle}: held {held:?}, living {living:?}"));
        }
        let left = report
            .problems
            .iter()
            .find(|p| !matches!(p.kind, ProblemKind::OverlappingPools | ProblemKind::NotInPool));
        left.map_or(Ok(()), |p| Err(format!("cycle {cycle}, after collection: {p:?}")))
    }

    async fn leave(&self, leaked: BTreeSet<IpAddr>) -> Result<(), String> {
        let mut second = self
            .second
            .borrow_mut()
            .take()
            .unwrap_or_else(|| Collector::new(GC_GRACE));
        let done = self
            .world
            .sound()
            .collect(&mut second)
            .await
            .map_err(|e| e.to_string())?;
        *self.second.borrow_mut() = Some(second);
        if let Some(addr) = done.released.iter().find(|a| !leaked.contains(*a)) {
            return Err(format!("a collector freed {addr}, which was not leaked"));
        }
        self.world.pass(GRACE);
        self.truth.borrow_mut().leaked = leaked
            .into_iter()
            .filter(|a| !done.released.contains(a))
            .collect();
        Ok(())
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        self.truth.borrow().living.values().flatten().copied().collect()
    }
}

/// Runs the events; says how many calls of the store there were, and how many transactions were done and how many refused
/// at least, or what went wrong.
fn simulate(seed: u64, kubernetes: bool, size: Size, events: &[Event]) -> Result<(usize, usize), String> {
    run(async {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let cluster = Cluster::new(seed, kubernetes, size).await;
                let mut collector = Collector::new(GC_GRACE);
                for cycle in 0..size.cycles {
                    let mut tasks = tokio::task::JoinSet::new();
                    for e in events.iter().filter(|e| e.cycle == cycle) {
                        tasks.spawn_local(cluster.clone().happen(e.clone()));
                    }
                    while let Some(done) = tasks.join_next().await {
                        done.map_err(|e| e.to_string())?;
                    }
                    if let Some(wrong) = cluster.truth.borrow_mut().wrong.take() {
                        return Err(format!("cycle {cycle}: {wrong}"));
                    }
                    cluster.nodes(events, cycle).await;
                    cluster.settle(&mut collector, cycle).await?;
                }
                let calls = [Op::Get, Op::List, Op::Create, Op::Update, Op::Delete];
                let (living, counts) = (cluster.truth.borrow().living.len(), &cluster.counts);
                println!("{living} pods live at the end; transactions: {counts:?}");
                let calls = calls.iter().map(|c| cluster.world.memory.calls(*c)).sum();
                Ok((calls, counts.done.get().min(counts.refused.get())))
            })
            .await
    })
}

/// Leaves events out as long as it still fails.
fn shrink(seed: u64, kubernetes: bool, size: Size, mut events: Vec<Event>, mut why: String) -> String {
    let mut part = events.len() / 2;
    let mut runs = 0;
    while part > 0 && runs < 200 {
        let mut at = 0;
        while at < events.len() && runs < 200 {
            let mut fewer = events.clone();
            fewer.drain(at..(at + part).min(events.len()));
            runs += 1;
            match simulate(seed, kubernetes, size, &fewer) {
                Err(e) => (events, why) = (fewer, e),
                Ok(_) => at += part,
            }
        }
        part /= 2;
    }
    let shown: Vec<String> = events.iter().take(40).map(|e| format!("{e:?}")).collect();
    format!("{why}\nwith {} events:\n{}", events.len(), shown.join("\n"))
}

fn simulate_or_shrink(seed: u64, kubernetes: bool, size: Size) -> usize {
    println!("CARACAL_SIM_SEED={seed} {size:?} kubernetes: {kubernetes}");
    let events = plan(seed, size);
    match simulate(seed, kubernetes, size, &events) {
        Ok((calls, transactions)) => {
            assert!((transactions == 0) == kubernetes, "{transactions} transactions");
            calls
        }
        Err(e) => {
            println!("{e}; leaving events out");
            panic!("seed {seed}: {}", shrink(seed, kubernetes, size, events, e));
        }
    }
}

/// By day the same one always, at night any; each run prints its own.
fn seed() -> u64 {
    if let Ok(given) = std::env::var("CARACAL_SIM_SEED") {
        return given.parse().expect("CARACAL_SIM_SEED is a number");
    }
    if std::env::var_os("CARACAL_NIGHTLY").is_none() {
        return 12_480;
    }
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    since.as_secs() ^ u64::from(since.subsec_nanos())
}

#[test]
fn a_cluster_for_many_cycles() {
    // Whole at night; a part of it, as many pods to a node, by day.
    let size = if std::env::var_os("CARACAL_NIGHTLY").is_some() {
        Size {
            nodes: 250,
            slots: 12,
            cycles: 20,
            churn: 360,
        }
    } else {
        Size {
            nodes: 60,
            slots: 12,
            cycles: 17,
            churn: 160,
        }
    };
    let mut calls = 0;
    for kubernetes in [false, true] {
        let begun = std::time::Instant::now();
        let more = simulate_or_shrink(seed(), kubernetes, size);
        println!("{more} calls of the store in {:?}", begun.elapsed());
        calls += more;
    }
    assert!(calls >= 100_000, "only {calls} calls of the store");
}

#[test]
fn small_clusters_with_much_contention() {
    let given = std::env::var("CARACAL_SIM_SEEDS").ok();
    let clusters = match given {
        Some(n) => n.parse().expect("CARACAL_SIM_SEEDS is a number"),
        None if std::env::var_os("CARACAL_NIGHTLY").is_some() => 150,
        None => 16,
    };
    let mut calls = 0;
    for i in 0..clusters {
        let size = Size {
            nodes: 3 + i % 5,
            slots: 30,
            cycles: 6,
            churn: 60,
        };
        calls += simulate_or_shrink(seed().wrapping_add(i), i % 2 == 1, size);
    }
    println!("{clusters} clusters, {calls} calls of the store");
    assert!(calls as u64 / clusters > 6_000, "only {calls} calls of the store");
}

#[test]
fn lost_nodes_keep_nothing() {
    run(async {
        let w = World::new(false);
        w.pool("p", "10.0.0.0/24", 28).await;
        for n in ["n1", "n2"] {
            w.node(n).await;
            let got = w
                .sound()
                .assign(&want(n, &format!("c-{n}"), Family::V4, w.now()))
                .await
                .unwrap();
            w.runs(n, &format!("c-{n}"), &[got[0].addr]);
        }
        w.stops("n1", "c-n1");
        w.memory.underive(&ResourceKey::global(Kind::Node, "n1"));
        let mut collector = Collector::new(3_600);
        let ipam = w.sound();
        let mut blocks = 0;
        for _ in 0..2 {
            // It might be about to come back.
            let done = ipam.collect(&mut collector).await.unwrap();
            assert!(done.released.is_empty(), "{done:?}");
            blocks += done.blocks.len();
        }
        w.pass(60);
        let done = ipam.collect(&mut collector).await.unwrap();
        assert_eq!((done.released.len(), blocks), (1, 1), "{done:?}");
        ipam.collect(&mut collector).await.unwrap();
        let snapshot = w.snapshot().await;
        let owners: Vec<Holder> = snapshot
            .affinities
            .iter()
            .map(|a| Holder::of_affinity(&a.spec))
            .collect();
        assert_eq!(owners, [Holder::Host("n2".into())]);
        assert_eq!((snapshot.blocks.len(), snapshot.handles.len()), (1, 1));
    });
}
