//! Handles against what blocks say, both ways.

use std::collections::{BTreeMap, BTreeSet};

use caracal_net::Cidr;

use super::Report;
use crate::{Fix, Problem, ProblemKind, RESERVED_HANDLE, View};

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    let mut held: BTreeSet<(&str, Cidr)> = BTreeSet::new();
    for b in &view.blocks {
        let handles = b.allocations().filter_map(|a| a.attribute.handle_id.as_deref());
        held.extend(handles.filter(|h| *h != RESERVED_HANDLE).map(|h| (h, b.cidr())));
    }
    let unreadable: BTreeSet<&str> = view
        .snapshot
        .malformed
        .iter()
        .filter(|(k, _)| k.kind == caracal_api::Kind::IpamHandle)
        .map(|(k, _)| &*k.name)
        .collect();
    let mut counted: BTreeMap<(&str, Cidr), u64> = BTreeMap::new();
    for h in &view.snapshot.handles {
        for (text, n) in &h.spec.block {
            match text.parse::<Cidr>() {
                Ok(c) if *n > 0 && c.to_string() == *text => {
                    counted.insert((&h.metadata.name, c), *n);
                }
                _ => {
                    let name = &h.metadata.name;
                    let message = format!("handle {name} counts {n} addresses in {text:?}");
                    let p = Problem::new(ProblemKind::Unreadable, name, message);
                    report.problems.push(p.fixed_by(Fix::Discard(h.key())));
                }
            }
        }
    }
    for (handle, block) in &held {
        if counted.contains_key(&(*handle, *block)) || unreadable.contains(handle) {
            continue;
        }
        let message = format!(
            "handle {handle} holds addresses in block {block} and does not say so: a release by handle would miss them"
        );
        let problem = Problem::new(ProblemKind::HandleMissing, handle, message);
        report.problems.push(problem.fixed_by(Fix::MakeHandle {
            handle: (*handle).to_owned(),
            block: *block,
        }));
    }
    // What is in a block that cannot be read is not known.
    let dark: Vec<Cidr> = view.bad_blocks.iter().filter_map(super::bad_range).collect();
    let missing: Vec<Cidr> = view
        .snapshot
        .malformed
        .iter()
        .filter_map(|(k, _)| crate::cidr_of_block_name(&k.name))
        .collect();
    for (handle, block) in counted.keys() {
        if held.contains(&(*handle, *block)) || dark.contains(block) || missing.contains(block) {
            continue;
        }
        let message = format!("handle {handle} counts addresses in block {block}, which has none of it");
        let problem = Problem::new(ProblemKind::HandleLeaked, handle, message);
        report.problems.push(problem.fixed_by(Fix::Count {
            handle: (*handle).to_owned(),
            block: *block,
        }));
    }
    for h in view
        .snapshot
        .handles
        .iter()
        .filter(|h| h.spec.block.is_empty() || h.spec.deleted)
    {
        let name = &h.metadata.name;
        let message = if h.spec.deleted {
            format!("handle {name} was marked for deletion and is still there")
        } else {
            format!("handle {name} counts nothing")
        };
        let kind = if h.spec.deleted {
            ProblemKind::HalfDeleted
        } else {
            ProblemKind::HandleLeaked
        };
        report
            .problems
            .push(Problem::new(kind, name, message).fixed_by(Fix::FinishDeletion(h.key())));
    }
}
