//! Claims against blocks, both ways, and blocks that nobody needs.

use std::collections::BTreeSet;

use caracal_api::{BlockAffinitySpec, Object};
use caracal_net::Cidr;

use super::{Report, in_any_pool};
use crate::{Block, Fix, Holder, Problem, ProblemKind, View};

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    if !view.knows_nodes() && !view.snapshot.affinities.is_empty() {
        report.notes.push(
            "there are no Node objects: claims of nodes that are gone cannot be told from others".to_owned(),
        );
    }
    for a in &view.snapshot.affinities {
        claim(view, a, report);
    }
    let claims: BTreeSet<(Cidr, Holder)> = view
        .snapshot
        .affinities
        .iter()
        .filter_map(|a| {
            Some((
                &a.metadata.name,
                a.spec.cidr.parse().ok()?,
                Holder::of_affinity(&a.spec),
            ))
        })
        .filter(|(name, cidr, holder)| holder.affinity_name(cidr) == **name)
        .map(|(_, cidr, holder)| (cidr, holder))
        .collect();
    for b in &view.blocks {
        block(view, b, &claims, report);
    }
    for b in view.snapshot.blocks.iter().filter(|b| b.spec.deleted) {
        let message = format!("block {} was marked for deletion and is still there", b.spec.cidr);
        let problem = Problem::new(ProblemKind::HalfDeleted, &b.spec.cidr, message);
        report
            .problems
            .push(problem.fixed_by(Fix::FinishDeletion(b.key())));
    }
}

fn claim(view: &View<'_>, a: &Object<BlockAffinitySpec>, report: &mut Report) {
    let name = &a.metadata.name;
    let Ok(cidr) = a.spec.cidr.parse::<Cidr>() else {
        let p = Problem::new(
            ProblemKind::Unreadable,
            name,
            format!("affinity {name}: its cidr {:?} is no CIDR", a.spec.cidr),
        );
        report.problems.push(p.fixed_by(Fix::Discard(a.key())));
        return;
    };
    if a.spec.deleted {
        let message = format!("affinity {name} was marked for deletion and is still there");
        let problem = Problem::new(ProblemKind::HalfDeleted, name, message);
        report
            .problems
            .push(problem.fixed_by(Fix::FinishDeletion(a.key())));
        return;
    }
    let holder = Holder::of_affinity(&a.spec);
    if holder.affinity_name(&cidr) != *name {
        let p = Problem::new(
            ProblemKind::Unreadable,
            name,
            format!(
                "affinity {name} says that it is of {holder} on {cidr}, and has another name: nobody finds it"
            ),
        );
        report.problems.push(p.fixed_by(Fix::Discard(a.key())));
        return;
    }
    let block = view.block(&cidr);
    let mut orphan = |why: String| {
        let message = format!("{holder} has a claim on block {cidr}, {why}");
        let problem = Problem::new(ProblemKind::AffinityOrphan, name, message);
        report.problems.push(problem.fixed_by(Fix::ReleaseAffinity {
            holder: holder.clone(),
            block: cidr,
        }));
    };
    if matches!(&holder, Holder::Host(n) if view.node_gone(n)) {
        return orphan("and the node is gone".to_owned());
    }
    match block {
        Some(b) if !b.belongs_to(&holder) => {
            let owner = b.holder().map_or_else(|| "nobody".to_owned(), |h| h.to_string());
            // A claim that was never confirmed lost a race and goes by itself.
            if a.spec.state == "confirmed" {
                return orphan(format!("which belongs to {owner}"));
            }
        }
        None if !in_any_pool(view.snapshot, &cidr) => {
            return orphan("which does not exist and is in no pool".to_owned());
        }
        _ => {}
    }
    if a.spec.state != "confirmed" {
        let state = if a.spec.state.is_empty() {
            "not confirmed"
        } else {
            &a.spec.state
        };
        report.notes.push(format!("the claim of {holder} on block {cidr} is {state}: it is finished with the next address that it asks for, or by the garbage collector"));
    }
}

fn block(view: &View<'_>, b: &Block, claims: &BTreeSet<(Cidr, Holder)>, report: &mut Report) {
    let cidr = b.cidr();
    let affinity = b.object().spec.affinity.as_deref();
    match (affinity, b.holder()) {
        (None, _) if b.is_empty() => {
            let problem = Problem::new(
                ProblemKind::BlockOrphan,
                cidr,
                format!("block {cidr} is empty and belongs to nobody"),
            );
            report.problems.push(problem.fixed_by(Fix::DeleteBlock(cidr)));
        }
        (Some(text), None) => {
            let problem = Problem::new(
                ProblemKind::Unreadable,
                cidr,
                format!("block {cidr} belongs to {text:?}, which is no owner"),
            );
            report
                .problems
                .push(problem.by_hand("write the affinity as host:<node> or virtual:<name>"));
        }
        (_, Some(holder)) => {
            if b.is_fresh() && !claims.contains(&(cidr, holder.clone())) {
                let message = format!("block {cidr} was begun by {holder} and given up");
                let problem = Problem::new(ProblemKind::BlockOrphan, cidr, message);
                report
                    .problems
                    .push(problem.fixed_by(Fix::ReleaseAffinity { holder, block: cidr }));
            } else if !claims.contains(&(cidr, holder.clone())) {
                let message = format!(
                    "block {cidr} belongs to {holder}, which has no claim on it: the owner does not find it"
                );
                let problem = Problem::new(ProblemKind::AffinityMissing, cidr, message);
                let gone = matches!(&holder, Holder::Host(n) if view.node_gone(n));
                let fix = if gone {
                    Fix::ReleaseAffinity { holder, block: cidr }
                } else {
                    Fix::MakeAffinity { holder, block: cidr }
                };
                report.problems.push(problem.fixed_by(fix));
            } else if !in_any_pool(view.snapshot, &cidr) && b.is_empty() {
                let message = format!("block {cidr} of {holder} is empty and in no pool");
                let problem = Problem::new(ProblemKind::BlockOrphan, cidr, message);
                report
                    .problems
                    .push(problem.fixed_by(Fix::ReleaseAffinity { holder, block: cidr }));
            }
        }
        (None, None) => {}
    }
}
