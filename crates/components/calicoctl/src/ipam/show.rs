use std::collections::BTreeMap;

use caracal_api::Kind;
use caracal_ipam_plan::{Block, Snapshot, Usage, View, utilisation};

use super::{Show, address, engine, failed, table};
use crate::{failure::Failure, session::Session};

pub(super) async fn show(session: &mut Session, args: &Show) -> Result<(), Failure> {
    let ipam = engine(session)?;
    if let Some(text) = &args.ip {
        let addr = address(text)?;
        let found = ipam.attributes_of(addr).await.map_err(|e| failed(&e))?;
        let Some(a) = found else {
            return session.print(&format!("{addr} is not assigned\n"));
        };
        let mut out = format!("IP {addr} is in use\n");
        out += &format!("Handle ID: {}\n", a.handle_id.as_deref().unwrap_or("<none>"));
        out += match &*attributes("Active Owner Attributes", &a.secondary) {
            "" => "No Active Owner attributes defined\n",
            text => text,
        };
        out += &attributes("Alternate Owner Attributes", &a.alternate_owner_attrs);
        if let Some(at) = &a.released_at {
            out += &format!("Released at {at}; it rests\n");
        }
        return session.print(&out);
    }
    if !args.show_blocks && args.show_configuration && !args.show_borrowed {
        let snapshot = ipam.load().await.map_err(|e| failed(&e))?;
        return session.print(&configuration(&snapshot));
    }
    let snapshot = ipam.load().await.map_err(|e| failed(&e))?;
    if args.show_borrowed {
        session.print(&borrowed(&snapshot))?;
    } else {
        session.print(&usage(&utilisation(&snapshot), args.show_blocks))?;
    }
    session.print(&unread(&snapshot))?;
    if args.show_configuration {
        session.print(&configuration(&snapshot))?;
    }
    Ok(())
}

fn attributes(title: &str, attributes: &BTreeMap<String, String>) -> String {
    if attributes.is_empty() {
        return String::new();
    }
    let lines = attributes.iter().map(|(k, v)| format!("  {k}: {v}\n"));
    lines.fold(format!("{title}:\n"), |s, l| s + &l)
}

fn usage(pools: &[Usage], blocks: bool) -> String {
    let header = [
        "GROUPING",
        "CIDR",
        "IPS TOTAL",
        "IPS IN USE",
        "IPS RESERVED",
        "IPS FREE",
        "IPS COOLING",
    ];
    let row = |kind: &str, u: &Usage| {
        let of = |n: f64| format!("{} ({:.0}%)", table::short(n), 100.0 * n / u.capacity);
        vec![
            kind.to_owned(),
            u.cidr.to_string(),
            table::short(u.capacity),
            of(u.in_use as f64),
            of(u.reserved),
            of(u.free),
            of(u.cooling as f64),
        ]
    };
    let mut rows = Vec::new();
    for p in pools {
        // Blocks of no pool have no row above them.
        if p.pool.is_some() {
            rows.push(row("IP Pool", p));
        }
        rows.extend(p.blocks.iter().filter(|_| blocks).map(|b| row("Block", b)));
    }
    table::draw(&header, &rows, &[2, 3, 4, 5, 6])
}

fn borrowed(snapshot: &Snapshot) -> String {
    let mut rows = Vec::new();
    let mut unknown = 0;
    for b in &View::new(snapshot).blocks {
        let owner = b.holder().map_or(String::new(), |h| h.name().to_owned());
        for a in b.allocations() {
            let of = |name: &str| a.attribute.secondary.get(name).map_or("", String::as_str);
            match of("node") {
                "" => unknown += 1,
                node if node == owner => {}
                node => rows.push(vec![
                    a.addr.to_string(),
                    node.to_owned(),
                    Block::cidr(b).to_string(),
                    owner.clone(),
                    if of("pod").is_empty() { of("type") } else { "pod" }.to_owned(),
                    if of("pod").is_empty() {
                        String::new()
                    } else {
                        format!("{}/{}", of("namespace"), of("pod"))
                    },
                ]),
            }
        }
    }
    let header = [
        "IP",
        "BORROWING-NODE",
        "BLOCK",
        "BLOCK OWNER",
        "TYPE",
        "ALLOCATED-TO",
    ];
    let mut out = table::draw(&header, &rows, &[]);
    if unknown > 0 {
        out += &format!(
            "\nNote: {unknown} allocations do not say on which node they are; whether they are borrowed is not known.\n"
        );
    }
    out
}

/// Blocks that no row is about.
fn unread(snapshot: &Snapshot) -> String {
    let stored = snapshot
        .malformed
        .iter()
        .filter(|(k, _)| k.kind == Kind::IpamBlock);
    let stored = stored.map(|(key, why)| format!("{key}: {why}"));
    let lists = View::new(snapshot).bad_blocks;
    let all: Vec<String> = stored.chain(lists.iter().map(ToString::to_string)).collect();
    let lines = all
        .iter()
        .map(|why| format!("Note: not counted, for it cannot be read: {why}\n"));
    lines.collect()
}

fn configuration(snapshot: &Snapshot) -> String {
    let c = &snapshot.config;
    let rows = [
        ("StrictAffinity", c.strict_affinity.to_string()),
        ("AutoAllocateBlocks", c.auto_allocate_blocks.to_string()),
        ("MaxBlocksPerHost", c.max_blocks_per_host.to_string()),
        (
            "KubeVirtVMAddressPersistence",
            c.kube_virt_vm_address_persistence
                .clone()
                .unwrap_or_else(|| "<unset>".to_owned()),
        ),
        (
            "IPCooldownSeconds",
            c.ip_cooldown_seconds.unwrap_or(0).to_string(),
        ),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(k, v)| vec![k.to_owned(), v]).collect();
    table::draw(&["PROPERTY", "VALUE"], &rows, &[])
}
