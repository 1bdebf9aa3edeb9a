//! The pure cores alone: examples of their crates, run in release mode, their printed lines read.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{Bench, harness, rows::Row};

const BOUND: Duration = Duration::from_secs(300);

/// Builds the examples; outside the namespaces, where cargo finds its registry.
pub(super) fn build(root: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--quiet", "--release", "--locked"])
        .args(["-p", "caracal-policy", "--example", "engine_bench"])
        .args(["-p", "caracal-rules", "--example", "compile_bench"])
        .args(["-p", "caracal-analysis", "--example", "diff_bench"])
        .status()
        .context("starting cargo")?;
    ensure!(
        status.success(),
        "the examples engine_bench, compile_bench and diff_bench do not build"
    );
    Ok(())
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    if bench.options.wants("engine") {
        bench.step("the policy engine alone: 10 000 policies, 100 000 remote endpoints");
        engine(bench)?;
    }
    if bench.options.wants("compiler") {
        bench.step("the rules compiler alone: 10 000 policies, 10 000 remote endpoints");
        compiler(bench)?;
    }
    if bench.options.wants("diff") {
        bench.step("policy diff alone: 10 000 workloads, 1 000 policies");
        diff(bench)?;
    }
    Ok(())
}

fn example(bench: &Bench, name: &str) -> Result<Vec<String>> {
    (0..bench.options.runs)
        .map(|_| {
            let mut command = Command::new(bench.target.join("release/examples").join(name));
            command.args(match name {
                "engine_bench" => &["plain", "10000", "100000"][..],
                "diff_bench" => &["10000", "1000"],
                _ => &["10000", "10000"],
            });
            harness::output(command, BOUND)
        })
        .collect()
}

/// Adds a row from the number that follows `after` in the line that begins with `line`.
fn add(bench: &mut Bench, row: Row, texts: &[String], line: &str, after: &str) -> Result<()> {
    let values = texts
        .iter()
        .map(|t| pick(t, line, after).with_context(|| format!("no {after:?} in the line {line:?} of:\n{t}")))
        .collect::<Result<Vec<f64>>>()?;
    bench.rows.add(row, values);
    Ok(())
}

/// The figure in a line of an example; a duration with its unit comes as µs.
fn pick(text: &str, line: &str, after: &str) -> Option<f64> {
    let line = text.lines().find_map(|l| l.trim_start().strip_prefix(line))?;
    let rest = if after.is_empty() {
        line
    } else {
        line.split_once(after)?.1
    }
    .trim_start();
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (digits, unit) = rest.split_at(end);
    let value: f64 = digits.parse().ok()?;
    Some(match unit.split([' ', ',', ')']).next() {
        Some("ns") => value / 1000.0,
        Some("ms") => value * 1000.0,
        _ => value,
    })
}

fn engine(bench: &mut Bench) -> Result<()> {
    let texts = example(bench, "engine_bench")?;
    let label = "a remote endpoint's label";
    let rows = [
        (
            Row::new(
                "engine",
                "cold: 10 k policies, 100 k endpoints, CPU",
                "s",
                "-",
                1.0,
            ),
            "cold",
            "",
        ),
        (
            Row::new(
                "engine",
                "resident, with the first flush's deltas",
                "MiB",
                "-",
                71.5,
            ),
            "memory  ",
            "",
        ),
        (
            Row::new("engine", "a remote endpoint", "bytes", "-", 500.0),
            "per remote endpoint",
            "",
        ),
        (
            Row::new("engine", "one label change, p50", "µs", "-", 100.0),
            label,
            "p50",
        ),
        (
            Row::plain("engine", "one label change, p99", "µs", "-"),
            label,
            "p99",
        ),
        (
            Row::plain("engine", "one rule of a policy, p50", "µs", "-"),
            "a rule of a policy",
            "p50",
        ),
    ];
    rows.into_iter()
        .try_for_each(|(row, line, after)| add(bench, row, &texts, line, after))
}

fn compiler(bench: &mut Bench) -> Result<()> {
    let texts = example(bench, "compile_bench")?;
    let rows = [
        (
            Row::plain(
                "compiler",
                "cold: 10 k policies, 10 k remote endpoints",
                "µs",
                "-",
            ),
            "cold",
            "p50",
        ),
        (
            Row::plain("compiler", "one port range of one policy, p50", "µs", "-"),
            "one port range",
            "p50",
        ),
        (
            Row::plain("compiler", "one member of one set, p50", "µs", "-"),
            "one member",
            "p50",
        ),
        (
            Row::plain("compiler", "a new endpoint of a known list, p50", "µs", "-"),
            "a new endpoint",
            "p50",
        ),
        (
            Row::plain("compiler", "an endpoint gone, p50", "µs", "-"),
            "an endpoint gone",
            "p50",
        ),
    ];
    rows.into_iter()
        .try_for_each(|(row, line, after)| add(bench, row, &texts, line, after))
}

fn diff(bench: &mut Bench) -> Result<()> {
    let texts = example(bench, "diff_bench")?;
    let goal = |what| Row::new("diff", what, "ms", "-", 1000.0);
    let rows = [
        (goal("policy diff: nothing changes"), "nothing", ""),
        (
            goal("policy diff: a port of one policy"),
            "a port of one policy",
            "",
        ),
        (
            goal("policy diff: a port of each policy"),
            "a port of each policy",
            "",
        ),
        (
            goal("policy diff: another port of each policy"),
            "another port of each policy",
            "",
        ),
        (
            Row::plain(
                "diff",
                "policy diff: memory at most, objects included",
                "MiB",
                "-",
            ),
            "the platform's policy for everybody",
            "peak",
        ),
    ];
    rows.into_iter()
        .try_for_each(|(row, line, after)| add(bench, row, &texts, line, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_in_lines() {
        let text = "plain: 10 policies\n  cold     0.713 s (apply 0.6 s, flush 0.1 s)\n  memory          61.2 MiB with\n  \
                    memory with a replica   70.0 MiB\n  a label   p50     5.3µs  p99    1.2ms  worst 900ns  1.0 deltas\n\
                    cold start     p50   1234.5 µs  p99   9.0 µs";
        assert_eq!(pick(text, "cold", ""), Some(0.713));
        assert_eq!(pick(text, "memory  ", ""), Some(61.2));
        assert_eq!(pick(text, "a label", "p50"), Some(5.3));
        assert_eq!(pick(text, "a label", "p99"), Some(1200.0));
        assert_eq!(pick(text, "a label", "worst"), Some(0.9));
        assert_eq!(pick(text, "cold start", "p50"), Some(1234.5));
        assert_eq!(pick(text, "cold start", "p90"), None);
        assert_eq!(pick(text, "nothing", ""), None);
    }
}
