//! What `ipam check` says to people: Calico's lines, and ours after them.

use std::{collections::BTreeMap, fmt::Write};

use caracal_ipam_plan::{Finding, Problem, ProblemKind, Report, Snapshot, User, View};

use super::Check;

/// How many nodes are listed.
const NODES: usize = 20;

pub(super) fn render(args: &Check, snapshot: &Snapshot, report: &Report) -> String {
    let mut out = String::from("Checking IPAM for inconsistencies...\n\n");
    // Writing to a string cannot fail.
    let _ = loaded(&mut out, args, snapshot, report)
        .and_then(|()| nodes(&mut out, report))
        .and_then(|()| scans(&mut out, args, report))
        .and_then(|()| ours(&mut out, report));
    out
}

fn loaded(out: &mut String, args: &Check, snapshot: &Snapshot, report: &Report) -> std::fmt::Result {
    let all = args.show_all_ips;
    writeln!(
        out,
        "Loading all IPAM blocks...\nFound {} IPAM blocks.",
        snapshot.blocks.len()
    )?;
    for b in &snapshot.blocks {
        let affinity = b.spec.affinity.as_deref().unwrap_or("<none>");
        writeln!(out, " IPAM block {} affinity={affinity}:", b.spec.cidr)?;
        let range = b.spec.cidr.parse().ok();
        for f in report
            .allocations
            .iter()
            .filter(|f| all && Some(f.block) == range)
        {
            writeln!(out, "  {} allocated; attrs {}", f.addr, attributes(f))?;
        }
    }
    writeln!(
        out,
        "IPAM blocks record {} allocations.\n",
        report.allocations.len()
    )?;
    writeln!(out, "Loading all IPAM pools...")?;
    let active: Vec<_> = snapshot.pools.iter().filter(|p| !p.spec.disabled).collect();
    for p in &active {
        writeln!(out, "  {}", p.spec.cidr)?;
    }
    writeln!(
        out,
        "Found {} active IP pools.\n\nLoading all nodes.",
        active.len()
    )?;
    let view = View::new(snapshot);
    let users: Vec<_> = view
        .users
        .iter()
        .flat_map(|(a, u)| u.iter().map(move |u| (a, u)))
        .collect();
    let of_nodes = |u: &&(&std::net::IpAddr, &User)| matches!(u.1, User::Node { .. });
    let (tunnels, workloads): (Vec<_>, Vec<_>) = users.iter().partition(|u| of_nodes(u));
    for (addr, user) in tunnels.iter().filter(|_| all) {
        writeln!(out, "  {addr} belongs to {user}")?;
    }
    writeln!(
        out,
        "Found {} node tunnel IPs.\n\nLoading all workload endpoints.",
        tunnels.len()
    )?;
    for (addr, user) in workloads.iter().filter(|_| all) {
        writeln!(out, "  {addr} belongs to {user}")?;
    }
    writeln!(out, "Found {} workload IPs.", workloads.len())?;
    writeln!(
        out,
        "Workloads and nodes are using {} IPs.\n\nLoading all handles",
        report.used
    )
}

fn attributes(f: &Finding) -> String {
    let extra: Vec<String> = f.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
    format!(
        "Main:{} Extra:{}",
        f.handle.as_deref().unwrap_or("<none>"),
        extra.join(",")
    )
}

fn nodes(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(out, "Looking for top (up to {NODES}) nodes by allocations...")?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for f in &report.allocations {
        *counts.entry(&f.node).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    for (node, n) in counts.iter().take(NODES) {
        writeln!(out, "  {node} has {n} allocations")?;
    }
    if let (Some((_, max)), Some((_, median))) = (counts.first(), counts.get(counts.len() / 2)) {
        writeln!(out, "Node with most allocations has {max}; median is {median}")?;
    }
    writeln!(out)
}

fn scans(out: &mut String, args: &Check, report: &Report) -> std::fmt::Result {
    let show = args.show_all_ips || args.show_problem_ips;
    let of = |kind| report.problems.iter().filter(move |p| p.kind == kind);
    let count = |kind| of(kind).count();
    writeln!(
        out,
        "Scanning for IPs that are allocated but not actually in use..."
    )?;
    for p in of(ProblemKind::Leaked).filter(|_| show) {
        let found = report
            .allocations
            .iter()
            .find(|f| f.addr.to_string() == p.subject);
        writeln!(
            out,
            "  {} leaked; attrs {}",
            p.subject,
            found.map(attributes).unwrap_or_default()
        )?;
    }
    let n = count(ProblemKind::Leaked);
    writeln!(
        out,
        "Found {n} IPs that are allocated in IPAM but not actually in use."
    )?;
    writeln!(
        out,
        "Scanning for IPs that are in use by a workload or node but not allocated in IPAM..."
    )?;
    for kind in [
        ProblemKind::NotInPool,
        ProblemKind::NotAllocated,
        ProblemKind::DoubleHolder,
    ] {
        for p in of(kind).filter(|_| show) {
            writeln!(out, "  {}", p.message)?;
        }
    }
    let n = count(ProblemKind::NotInPool);
    writeln!(out, "Found {n} in-use IPs that are not in active IP pools.")?;
    let n = count(ProblemKind::NotAllocated);
    writeln!(
        out,
        "Found {n} in-use IPs that are in active IP pools but have no corresponding IPAM allocation.\n"
    )?;
    writeln!(out, "Scanning for IPAM handles with no matching IPs...")?;
    let n = count(ProblemKind::HandleLeaked);
    let good = report.handles.saturating_sub(n);
    writeln!(
        out,
        "Found {n} handles with no matching IPs (and {good} handles with matches)."
    )?;
    writeln!(out, "Scanning for IPs with missing handle...")?;
    let n = count(ProblemKind::HandleMissing);
    writeln!(
        out,
        "Found {n} handles mentioned in blocks with no matching handle resource."
    )
}

fn ours(out: &mut String, report: &Report) -> std::fmt::Result {
    if !report.problems.is_empty() {
        writeln!(out, "\nProblems, and what repairs them:")?;
    }
    for p in &report.problems {
        writeln!(out, "  [{}] {}\n      {}", name(p), p.message, p.repair)?;
    }
    if !report.notes.is_empty() {
        writeln!(out, "\nNotes:")?;
    }
    for n in &report.notes {
        writeln!(out, "  {n}")?;
    }
    writeln!(out, "Check complete; found {} problems.", report.problems.len())
}

/// The kind as JSON has it.
pub(super) fn name(p: &Problem) -> String {
    serde_json::to_value(p.kind)
        .ok()
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_default()
}
