//! The answer for people.

use std::fmt::Write as _;

use caracal_oracle::Verdict;

use super::report::{Answer, Kernel, Place, Policy, Rule};

/// The answers as text; `all` shows rules that are far from matching too.
pub(super) fn text(answers: &[Answer], all: bool) -> String {
    let blocks: Vec<String> = answers.iter().map(|a| one(a, all)).collect();
    blocks.join("\n")
}

fn one(answer: &Answer, all: bool) -> String {
    let mut out = String::new();
    let verdict = answer.verdict.to_string().to_uppercase();
    let (from, to) = (&answer.source, &answer.destination);
    let end = |e: &super::report::End| match &e.node {
        // Pods of manifests that no cluster has touched are said to be on this one.
        Some(node) if e.kind == "pod" && node == "any" => format!("{} (pod, on no node yet)", e.name),
        Some(node) if e.kind == "pod" => format!("{} (pod on {node})", e.name),
        Some(node) => format!("{} (host {node})", e.name),
        None => format!("{} (outside)", e.name),
    };
    let _ = writeln!(out, "{verdict}: {} to {}", end(from), end(to));
    let _ = writeln!(out, "  {}", answer.packet);
    if let Some(pending) = answer.if_staged_were_enforced {
        let _ = writeln!(
            out,
            "  staged policies, if they were enforced, would make it {}",
            pending.to_string().to_uppercase()
        );
    }
    for place in &answer.places {
        out.push('\n');
        place_text(place, all, &mut out);
    }
    for place in &answer.not_reached {
        out.push_str("\nnot reached: ");
        place_text(place, all, &mut out);
    }
    if !answer.remarks.is_empty() {
        out.push('\n');
    }
    for remark in &answer.remarks {
        let _ = writeln!(out, "note: {remark}");
    }
    if answer.disagrees() {
        out += "\n!!! MODEL AND KERNEL DISAGREE: the verdict above is what the objects say, not what this node does\n";
        for kernel in answer.kernels() {
            for difference in &kernel.differences {
                let _ = writeln!(out, "!!! {}: {difference}", kernel.table);
            }
        }
    }
    out
}

fn place_text(place: &Place, all: bool, out: &mut String) {
    let verdict = match place.verdict {
        Some(Verdict::Allowed) => "allowed",
        Some(Verdict::Blocked) => "BLOCKED",
        None => "left to what comes after",
    };
    let list = place.list.map(|l| format!(" ({l})")).unwrap_or_default();
    let _ = writeln!(
        out,
        "{} of {}{list}: {verdict} by {}",
        place.direction, place.at, place.decided_by
    );
    if let Some(origin) = &place.read_from {
        let _ = writeln!(out, "  in {origin}");
    }
    for tier in &place.tiers {
        let _ = writeln!(out, "  tier {}: {}", tier.name, tier.outcome);
        tier.policies
            .iter()
            .for_each(|p| policy_text(p, "    ", all, out));
    }
    if !place.profiles.is_empty() && place.profiles.iter().any(|p| p.outcome != "not asked") {
        out.push_str("  profiles\n");
        place
            .profiles
            .iter()
            .for_each(|p| policy_text(p, "    ", all, out));
    }
    if let Some(kernel) = &place.kernel {
        kernel_text(kernel, out);
    }
}

fn policy_text(policy: &Policy, indent: &str, all: bool, out: &mut String) {
    let staged = if policy.staged { " (staged)" } else { "" };
    let _ = writeln!(out, "{indent}{}{staged}: {}", policy.name, policy.outcome);
    let shown = |r: &&Rule| all || r.matches || r.near_miss;
    for rule in policy.rules.iter().filter(shown) {
        let _ = writeln!(out, "{indent}  {} {} {}", rule.place, rule.action, rule.text);
        match (&rule.failed, &rule.because) {
            _ if rule.matches => {
                let _ = writeln!(out, "{indent}    matches");
            }
            (Some(failed), because) => {
                let near = if rule.near_miss {
                    "near miss, only"
                } else {
                    "first of what failed:"
                };
                let because = because.as_ref().map(|b| format!(": {b}")).unwrap_or_default();
                let _ = writeln!(out, "{indent}    {near} {failed}{because}");
            }
            _ => {}
        }
    }
    let hidden = policy.rules.iter().filter(|r| !shown(r)).count();
    if hidden > 0 {
        let plural = if hidden == 1 { "rule does" } else { "rules do" };
        let _ = writeln!(out, "{indent}  {hidden} more {plural} not match (--all shows)");
    }
}

fn kernel_text(kernel: &Kernel, out: &mut String) {
    let word = if kernel.differences.is_empty() {
        "kernel agrees"
    } else {
        "kernel DIFFERS"
    };
    let _ = write!(out, "  {word}: table {}", kernel.table);
    if let Some(entry) = &kernel.entry {
        let _ = write!(out, ", {entry}");
    }
    out.push('\n');
    if let Some(chain) = &kernel.chain {
        let handle = kernel.handle.map(|h| format!(" handle {h}")).unwrap_or_default();
        let rule = kernel.rule.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
        let _ = writeln!(out, "    chain {chain}{handle}{rule}");
    }
    for element in &kernel.elements {
        let _ = writeln!(out, "    {element}");
    }
    for difference in &kernel.differences {
        let _ = writeln!(out, "    !!! {difference}");
    }
}
