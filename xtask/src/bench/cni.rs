//! The CNI plugin with its IPAM: pods one after another, at once, and as a kubelet starts them.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};

use super::{
    Bench,
    figures::*,
    harness, runtime,
    scenarios::{record, running},
    world::{NETNS, World},
};

/// All rows of the plugin, on a node with few objects.
pub(super) fn measure(bench: &mut Bench, world: &mut World) {
    bench.step("cni: 100 pods, one after another");
    let outcome = running(bench, world).and_then(|_| cni_in_turn(bench));
    record(bench, &CNI_SEQ, outcome);
    bench.step("cni: 100 pods at once");
    let outcome = running(bench, world).and_then(|_| cni_at_once(bench));
    record(bench, &CNI_PAR, outcome);
    bench.step("cni: what one pod costs");
    let outcome = running(bench, world).and_then(|_| cni_cost(bench, world));
    record(bench, &CNI_COST, outcome);
    for (count, rows) in &CNI_CURVE {
        bench.step(&format!("cni: {count} pods, as a kubelet starts them"));
        let outcome = running(bench, world).and_then(|_| {
            let phases = runtime::curve(bench, world, *count)?;
            Ok(phases.iter().map(|p| vec![*count as f64 / p.wall]).collect())
        });
        record(bench, rows, outcome);
    }
}

/// Start-up, memory, and the CPU time of all that take part.
fn cni_cost(bench: &Bench, world: &World) -> Result<Vec<Vec<f64>>> {
    let mut columns = vec![Vec::new(); CNI_COST.len()];
    for pass in 0..bench.options.runs {
        let start = runtime::versions(bench, world)?;
        let [add, del] = runtime::in_turn(bench, world, &format!("o{pass}-"), 100)?;
        let [a, d] = [add.cpu, del.cpu];
        let values = [
            Some(start.p50),
            add.peak,
            Some(a[0]),
            Some(a[1]),
            Some(a[2]),
            Some(a.iter().sum()),
            Some(d[0]),
            Some(d[1]),
            Some(d[2]),
        ];
        columns
            .iter_mut()
            .zip(values)
            .for_each(|(column, v)| column.extend(v));
    }
    Ok(columns)
}

/// Runs the plugin's harness; `tag` keeps the names of the passes apart.
fn cni(bench: &Bench, mode: &str, tag: &str) -> Result<String> {
    let mut cni = harness::script(&bench.root, "bench_cni.py");
    cni.args(["--netns", NETNS, "--count", "100", "--mode", mode, "--tag", tag])
        .arg("--path")
        .arg(World::plugins(bench)?)
        .arg("--conf")
        .arg(Path::new(&bench.root).join("bench/cni-etcd.conf.json"));
    let text = harness::output(cni, Duration::from_secs(240))?;
    ensure!(
        text.contains("failures 0 distinct addresses 100"),
        "{}",
        first_failure(&text)
    );
    Ok(text)
}

fn first_failure(text: &str) -> String {
    let failed = text
        .lines()
        .find(|l| l.starts_with("ADD ") || l.starts_with("DEL "));
    format!("the plugin failed: {}\n{text}", failed.unwrap_or_default())
}

fn cni_in_turn(bench: &Bench) -> Result<Vec<Vec<f64>>> {
    let mut columns = vec![Vec::new(); CNI_SEQ.len()];
    for pass in 0..bench.options.runs {
        let text = cni(bench, "seq", &format!("s{pass}"))?;
        let (add, del) = (
            harness::percentiles(&text, "seq ADD")?,
            harness::percentiles(&text, "seq DEL")?,
        );
        for (column, (figures, name)) in
            columns
                .iter_mut()
                .zip([(&add, "p50"), (&add, "p99"), (&del, "p50"), (&del, "p99")])
        {
            column.extend(figures.get(name));
        }
    }
    Ok(columns)
}

fn cni_at_once(bench: &Bench) -> Result<Vec<Vec<f64>>> {
    let mut columns = vec![Vec::new(); CNI_PAR.len()];
    for pass in 0..bench.options.runs {
        let text = cni(bench, "par", &format!("p{pass}"))?;
        for (column, label) in columns.iter_mut().zip(["par ADD", "par DEL"]) {
            column.extend(harness::percentiles(&text, label)?.get("wall"));
        }
    }
    Ok(columns)
}
