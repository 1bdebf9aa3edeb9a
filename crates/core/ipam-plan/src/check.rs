use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use caracal_api::Kind;
use caracal_net::Cidr;

use crate::{
    Allocation, Block, Fix, Holder, Life, Owner, Problem, ProblemKind, RESERVED_HANDLE, Snapshot, Stamp,
    User, View, pool, snapshot::attribute,
};

mod claims;
mod handles;
mod holders;

/// What a snapshot shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// What is wrong, by kind and subject.
    pub problems: Vec<Problem>,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
    /// Every allocation.
    pub allocations: Vec<Finding>,
    /// Handles that exist.
    pub handles: usize,
    /// How many addresses are used, whoever allocated them.
    pub used: usize,
}

/// One allocation and what it is to the living.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The address.
    pub addr: IpAddr,
    /// Its block.
    pub block: Cidr,
    /// Its handle.
    pub handle: Option<String>,
    /// The number it was allocated under.
    pub sequence: u64,
    /// What is kept beside it.
    pub attributes: BTreeMap<String, String>,
    /// The node it is on, or its block's.
    pub node: String,
    /// Whether that is not its block's.
    pub borrowed: bool,
    /// What it is to the living.
    pub life: Life,
    /// Who uses it.
    pub owners: Vec<String>,
}

/// Proves from the datastore alone that every address of every block is free or held by exactly one owner, or says where
/// not. An allocation younger than `grace` seconds may be of an ADD in flight; an owner of an unknown kind lives.
#[must_use]
pub fn check(snapshot: &Snapshot, now: Stamp, grace: i64) -> Report {
    let view = View::new(snapshot);
    let mut report = Report {
        handles: snapshot.handles.len(),
        used: view.users.len(),
        ..Report::default()
    };
    unreadable(&view, &mut report);
    pools(snapshot, &mut report);
    overlaps(&view, &mut report);
    for b in &view.blocks {
        for a in b.allocations() {
            allocation(&view, b, &a, (now, grace), &mut report);
        }
    }
    holders::check(&view, &mut report);
    not_allocated(&view, now, &mut report);
    handles::check(&view, &mut report);
    claims::check(&view, &mut report);
    report
        .problems
        .sort_by(|a, b| (a.kind, &a.subject, &a.message).cmp(&(b.kind, &b.subject, &b.message)));
    report.problems.dedup();
    report
}

fn unreadable(view: &View<'_>, report: &mut Report) {
    let block = "put the stored value right in the datastore itself; until then none of its addresses is given out or taken back";
    let objects = view.snapshot.malformed.iter().chain(&view.bad_fields);
    for (key, why) in objects {
        let p = Problem::new(
            ProblemKind::Unreadable,
            key,
            format!("{key} cannot be read: {why}"),
        );
        report.problems.push(match key.kind {
            Kind::IpamHandle | Kind::BlockAffinity => p.fixed_by(Fix::Discard(key.clone())),
            Kind::IpamBlock => p.by_hand(block),
            Kind::IpReservation => p.by_hand(
                "put it right with `calicoctl replace`; until then only the ranges in it that can be read stay reserved",
            ),
            kind => p.by_hand(format!(
                "put it right with `calicoctl replace`, or `calicoctl delete {kind} {}`",
                key.name
            )),
        });
    }
    for e in &view.bad_blocks {
        let subject = match e {
            crate::PlanError::Malformed { object, .. } => object.clone(),
            other => other.to_string(),
        };
        let p = Problem::new(ProblemKind::Unreadable, subject, e.to_string());
        report.problems.push(p.by_hand(block));
    }
}

fn pools(snapshot: &Snapshot, report: &mut Report) {
    for r in &snapshot.reservations {
        for text in &r.spec.reserved_cidrs {
            if let Err(e) = text.parse::<Cidr>() {
                let name = &r.metadata.name;
                let message = format!("reservation {name}: {text:?} reserves nothing: {e}");
                let problem = Problem::new(ProblemKind::Unreadable, r.key(), message);
                report
                    .problems
                    .push(problem.by_hand("put it right with `calicoctl replace`"));
            }
        }
    }
    for p in &snapshot.pools {
        let c = match pool::candidate(p) {
            Ok(c) => c,
            Err(why) => {
                let message = format!("pool {}: {why}; no address is taken from it", p.metadata.name);
                let problem = Problem::new(ProblemKind::Unreadable, p.key(), message);
                report
                    .problems
                    .push(problem.by_hand("put it right with `calicoctl replace`"));
                continue;
            }
        };
        if let Some((other, range)) = pool::elder(p, c.cidr, &snapshot.pools) {
            let message = format!(
                "pool {} ({}) overlaps with {range} of the older pool {other}; no address is taken from it",
                c.name, c.cidr
            );
            let problem = Problem::new(ProblemKind::OverlappingPools, &c.name, message);
            let repair = format!("calicoctl delete ippool {}", c.name);
            report.problems.push(problem.by_hand(repair));
        }
    }
}

/// Blocks are sorted: one that overlaps with a later one covers it. Fresh blocks count for nothing yet.
fn overlaps(view: &View<'_>, report: &mut Report) {
    let live: Vec<&Block> = view.blocks.iter().filter(|b| !b.is_fresh()).collect();
    for (i, wide) in live.iter().enumerate() {
        let inside = live[i + 1..].iter().take_while(|b| wide.cidr().covers(&b.cidr()));
        for narrow in inside {
            let (w, n) = (wide.cidr(), narrow.cidr());
            let message = format!(
                "block {n} ({}) is inside block {w} ({})",
                owner_of(narrow),
                owner_of(wide)
            );
            let problem = Problem::new(ProblemKind::OverlappingBlocks, n, message);
            // An empty one simply goes; that keeps every address where it is.
            let fix = if let (true, false, Some(holder)) = (wide.is_empty(), narrow.is_empty(), wide.holder())
            {
                Fix::ReleaseAffinity { holder, block: w }
            } else {
                Fix::Merge { from: n, into: w }
            };
            report.problems.push(problem.fixed_by(fix));
        }
    }
}

fn owner_of(block: &Block) -> String {
    let affinity = block.object().spec.affinity.as_deref();
    affinity.unwrap_or("of nobody").to_owned()
}

fn allocation(
    view: &View<'_>,
    block: &Block,
    a: &Allocation<'_>,
    (now, grace): (Stamp, i64),
    report: &mut Report,
) {
    let life = view.life(a, now, grace);
    let users = view.users.get(&a.addr).map(Vec::as_slice).unwrap_or_default();
    let handle = a.attribute.handle_id.clone();
    let host = match block.holder() {
        Some(Holder::Host(n)) => n,
        _ => String::new(),
    };
    let node = attribute(a.attribute, "node").map_or_else(|| host.clone(), str::to_owned);
    if let Life::Leaked { why, .. } = &life {
        let message = format!("{} is allocated to {} and not used: {why}", a.addr, describe(a));
        let fix = Fix::Release {
            block: block.cidr(),
            addr: a.addr,
            handle: handle.clone(),
            sequence: a.sequence,
        };
        report
            .problems
            .push(Problem::new(ProblemKind::Leaked, a.addr, message).fixed_by(fix));
    }
    if let [user] = users {
        wrong_holder(view, a, user, now, report);
    }
    let mut owners: Vec<String> = users.iter().map(ToString::to_string).collect();
    if handle.as_deref() == Some(RESERVED_HANDLE) {
        owners.push("Reserved for Windows".to_owned());
    }
    report.allocations.push(Finding {
        addr: a.addr,
        block: block.cidr(),
        handle,
        sequence: a.sequence,
        attributes: a.attribute.secondary.clone(),
        borrowed: node != host,
        node,
        life,
        owners,
    });
}

fn describe(a: &Allocation<'_>) -> String {
    let handle = a.attribute.handle_id.as_deref().unwrap_or("no handle");
    match (attribute(a.attribute, "namespace"), attribute(a.attribute, "pod")) {
        (Some(ns), Some(pod)) => format!("{handle} (pod {ns}/{pod})"),
        _ => handle.to_owned(),
    }
}

/// The allocation names a pod, and the endpoint that has the address is of another.
fn wrong_holder(view: &View<'_>, a: &Allocation<'_>, user: &User, now: Stamp, report: &mut Report) {
    let (namespace, pod, container) = match user {
        User::Endpoint {
            namespace,
            pod,
            container,
            ..
        } => (namespace, pod, container),
        User::Node { name, .. } => return wrong_tunnel(a, name, user, report),
    };
    let allocated = (attribute(a.attribute, "namespace"), attribute(a.attribute, "pod"));
    let (Some(ns), Some(p)) = allocated else { return };
    // Which of two allocations of the address is wrong is decided with both in view.
    if view
        .blocks_around(a.addr)
        .filter(|b| b.attribute(a.addr).is_some())
        .count()
        > 1
    {
        return;
    }
    // The pod's name is that of an older container, too, whose DEL would take the address away.
    let handle = a.attribute.handle_id.as_deref().unwrap_or_default();
    let older = handle
        .strip_prefix(&format!("{}.", network(view)))
        .is_some_and(|rest| is_container_id(rest) && is_container_id(container))
        && !holders::is_of_container(handle, container);
    if !a.cools() && !older && (ns == namespace && p == pod || pod.is_empty()) {
        return;
    }
    let message = format!("{} is used by {user} and allocated to {}", a.addr, describe(a));
    let problem = Problem::new(ProblemKind::WrongHolder, a.addr, message);
    report.problems.push(match owner_for(view, user, now) {
        Some((node, owner)) => problem.fixed_by(Fix::Allocate {
            addr: a.addr,
            node,
            owner,
            instead_of: Some((a.attribute.handle_id.clone(), a.sequence)),
        }),
        None => problem.by_hand(format!("restart the workload of {user}")),
    });
}

/// Ids that runtimes make; handles of virtual machines have names in their place.
fn is_container_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A node's tunnel has an address that is allocated to somebody else, who may give it back at any time.
fn wrong_tunnel(a: &Allocation<'_>, name: &str, user: &User, report: &mut Report) {
    let another_node = attribute(a.attribute, "node").is_some_and(|n| n != name);
    let of_tunnel = attribute(a.attribute, "type").is_some_and(|t| t.ends_with("TunnelAddress"));
    let of_pod = attribute(a.attribute, "pod").is_some();
    // Older tools kept nothing beside a tunnel's address.
    if !(a.cools() || of_pod || of_tunnel && another_node) {
        return;
    }
    let message = format!("{} is used by {user} and allocated to {}", a.addr, describe(a));
    let problem = Problem::new(ProblemKind::WrongHolder, a.addr, message);
    report.problems.push(problem.by_hand(format!(
        "run `caracal node startup` on node {name}: it takes another address for the tunnel"
    )));
}

/// The owner that an endpoint would have got from the plugin.
fn owner_for(view: &View<'_>, user: &User, now: Stamp) -> Option<(String, Owner)> {
    let User::Endpoint {
        namespace,
        pod,
        container,
        node,
        ..
    } = user
    else {
        return None;
    };
    if container.is_empty() || node.is_empty() {
        return None;
    }
    let mut attributes = BTreeMap::from([
        ("node".to_owned(), node.clone()),
        ("timestamp".to_owned(), now.to_string()),
    ]);
    if !pod.is_empty() {
        attributes.insert("namespace".to_owned(), namespace.clone());
        attributes.insert("pod".to_owned(), pod.clone());
    }
    let owner = Owner {
        handle: format!("{}.{container}", network(view)),
        attributes,
    };
    Some((node.clone(), owner))
}

/// The network's name, as the handles of others tell it. Asked for each allocation, found out once.
fn network<'a>(view: &'a View<'_>) -> &'a str {
    view.network.get_or_init(|| {
        let endpoints = view.snapshot.endpoints.iter();
        let containers: HashSet<&str> = endpoints.map(|e| e.spec.container_id.as_str()).collect();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for h in &view.snapshot.handles {
            if let Some((network, id)) = h.metadata.name.rsplit_once('.')
                && containers.contains(id)
            {
                *votes.entry(network).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .max_by_key(|(_, n)| *n)
            .map_or("k8s-pod-network", |(network, _)| network)
            .to_owned()
    })
}

fn not_allocated(view: &View<'_>, now: Stamp, report: &mut Report) {
    let active: Vec<Cidr> = view
        .snapshot
        .pools
        .iter()
        .filter(|p| !p.spec.disabled)
        .filter_map(|p| p.spec.cidr.parse().ok())
        .collect();
    let bad: Vec<Cidr> = view
        .snapshot
        .malformed
        .iter()
        .filter_map(|(k, _)| crate::cidr_of_block_name(&k.name))
        .chain(view.bad_blocks.iter().filter_map(bad_range))
        .collect();
    for (addr, users) in &view.users {
        if view.blocks_around(*addr).any(|b| b.attribute(*addr).is_some()) {
            continue;
        }
        // Whether it is allocated is not known: the block is named as one that cannot be read.
        if bad.iter().any(|c| c.contains(*addr)) {
            continue;
        }
        let Some(user) = users.first() else { continue };
        let in_pool = active.iter().any(|c| c.contains(*addr));
        if !in_pool {
            let message = format!("{addr} is used by {user} and in no active pool");
            let problem = Problem::new(ProblemKind::NotInPool, addr, message);
            report.problems.push(problem.by_hand(format!(
                "make or enable a pool around {addr}, or restart the workload so that it gets an address of a pool"
            )));
            continue;
        }
        let message = format!("{addr} is used by {user} and not allocated");
        let problem = Problem::new(ProblemKind::NotAllocated, addr, message);
        report.problems.push(match owner_for(view, user, now) {
            Some((node, owner)) if users.len() == 1 => problem.fixed_by(Fix::Allocate {
                addr: *addr,
                node,
                owner,
                instead_of: None,
            }),
            _ => problem.by_hand(match user {
                User::Node { name, .. } => {
                    format!("restart the agent of node {name}, which allocates it anew")
                }
                User::Endpoint { .. } => format!("restart the workload of {user}"),
            }),
        });
    }
}

fn bad_range(e: &crate::PlanError) -> Option<Cidr> {
    match e {
        crate::PlanError::Malformed { object, .. } => object.rsplit(' ').next()?.parse().ok(),
        _ => None,
    }
}

/// Problems that two reports share: what an operation under way looked like is not in both.
#[must_use]
pub fn confirmed(earlier: &Report, later: Report) -> Report {
    let mut later = later;
    later.problems.retain(|p| {
        !p.kind.passing()
            || earlier.problems.iter().any(|e| {
                e.kind == p.kind && e.subject == p.subject && same_fix(e.fix.as_ref(), p.fix.as_ref())
            })
    });
    later
}

/// Whether two repairs are of the same thing; the time in an owner's attributes does not matter.
fn same_fix(a: Option<&Fix>, b: Option<&Fix>) -> bool {
    match (a, b) {
        (
            Some(Fix::Allocate {
                addr,
                owner,
                instead_of,
                ..
            }),
            Some(Fix::Allocate {
                addr: addr2,
                owner: owner2,
                instead_of: instead2,
                ..
            }),
        ) => addr == addr2 && owner.handle == owner2.handle && instead_of == instead2,
        _ => a == b,
    }
}

/// Whether a pool covers the range.
fn in_any_pool(snapshot: &Snapshot, cidr: &Cidr) -> bool {
    snapshot
        .pools
        .iter()
        .filter_map(|p| p.spec.cidr.parse::<Cidr>().ok())
        .any(|c| c.covers(cidr))
}
