//! Who holds an address several times.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use caracal_net::Cidr;

use super::{Report, describe};
use crate::{Allocation, Block, Fix, Problem, ProblemKind, User, View, snapshot::attribute};

/// Several who use one address, and one address in several blocks under different handles.
pub(super) fn check(view: &View<'_>, report: &mut Report) {
    for (addr, users) in view.users.iter().filter(|(_, u)| u.len() > 1) {
        let names: Vec<String> = users.iter().map(ToString::to_string).collect();
        let message = format!("{addr} is used by {}", names.join(" and "));
        let problem = Problem::new(ProblemKind::DoubleHolder, addr, message);
        let all_but_one = names.get(1..).unwrap_or_default().join(", ");
        report.problems.push(problem.by_hand(format!(
            "restart the workloads of all but one of them ({all_but_one}), so that they get other addresses"
        )));
    }
    let mut holders: BTreeMap<IpAddr, Vec<(&Block, Allocation<'_>)>> = BTreeMap::new();
    for b in overlapping(view) {
        for a in b.allocations().filter(|a| !a.cools()) {
            holders.entry(a.addr).or_default().push((b, a));
        }
    }
    for (addr, held) in holders {
        let handles: BTreeSet<_> = held.iter().map(|(_, a)| &a.attribute.handle_id).collect();
        if handles.len() < 2 {
            continue;
        }
        let living = |a: &Allocation<'_>| {
            let users = view.users.get(&addr).into_iter().flatten();
            users.into_iter().any(|u| is_of(a, u))
        };
        let (right, wrong): (Vec<_>, Vec<_>) = held.iter().partition(|(_, a)| living(a));
        let texts: Vec<String> = held
            .iter()
            .map(|(b, a)| format!("{} in block {}", describe(a), b.cidr()))
            .collect();
        let message = format!("{addr} is allocated to {}", texts.join(" and "));
        for (b, a) in &wrong {
            let problem = Problem::new(ProblemKind::DoubleHolder, addr, message.clone());
            report.problems.push(if right.len() == 1 {
                let fix = Fix::Release {
                    block: b.cidr(),
                    addr,
                    handle: a.attribute.handle_id.clone(),
                    sequence: a.sequence,
                };
                let mut p = problem.fixed_by(fix);
                // By address alone the wrong one of the two could be given back.
                p.repair = format!("calicoctl ipam check --fix --apply --only={addr}");
                p
            } else {
                problem.by_hand("restart all but one of the workloads, so that they get other addresses")
            });
        }
    }
}

/// Blocks that overlap with another.
fn overlapping<'a>(view: &'a View<'_>) -> Vec<&'a Block> {
    let mut found: BTreeMap<Cidr, &Block> = BTreeMap::new();
    for (i, wide) in view.blocks.iter().enumerate() {
        for narrow in view.blocks[i + 1..]
            .iter()
            .take_while(|b| wide.cidr().covers(&b.cidr()))
        {
            found.insert(wide.cidr(), wide);
            found.insert(narrow.cidr(), narrow);
        }
    }
    found.into_values().collect()
}

/// Whether a handle is `<network>.<container>`, or that of another interface, `<network>.<container>.<interface>`. Names of
/// networks may have dots.
pub(super) fn is_of_container(handle: &str, container: &str) -> bool {
    let mut parts = handle.rsplit('.');
    let last = parts.next();
    last == Some(container) || parts.next() == Some(container)
}

/// Whether the allocation is the user's.
fn is_of(a: &Allocation<'_>, user: &User) -> bool {
    match user {
        User::Endpoint { container, .. } if !container.is_empty() => a
            .attribute
            .handle_id
            .as_deref()
            .is_some_and(|h| is_of_container(h, container)),
        User::Endpoint { namespace, pod, .. } => {
            attribute(a.attribute, "namespace") == Some(namespace)
                && attribute(a.attribute, "pod") == Some(pod)
        }
        User::Node { name, .. } => {
            attribute(a.attribute, "type").is_some() && attribute(a.attribute, "node") == Some(name)
        }
    }
}
