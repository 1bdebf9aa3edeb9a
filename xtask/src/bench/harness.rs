//! Runs the programs of `bench/` and reads what they print.

use std::{
    collections::BTreeMap,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// What a command prints; it is killed when it takes longer than `bound`, and fails when it fails.
pub(super) fn output(mut command: Command, bound: Duration) -> Result<String> {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // A pipe that breaks ends the text; the exit status tells the rest.
            let _ = pipe.map(|mut p| p.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = reader(child.stdout.take().map(|p| Box::new(p) as _));
    let err = reader(child.stderr.take().map(|p| Box::new(p) as _));
    let end = Instant::now() + bound;
    let status = loop {
        if let Some(status) = child.try_wait().with_context(|| format!("waiting for {name}"))? {
            break status;
        }
        if Instant::now() > end {
            child
                .kill()
                .and_then(|()| child.wait())
                .with_context(|| format!("ending {name}"))?;
            bail!("{name} took more than {} s", bound.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = out.join().unwrap_or_default();
    let errors = err.join().unwrap_or_default();
    ensure!(status.success(), "{name}: {status}\n{text}{errors}");
    Ok(text + &errors)
}

/// A program of the harness.
pub(super) fn script(root: &Path, name: &str) -> Command {
    let path = root.join("bench").join(name);
    let mut command = Command::new(if name.ends_with(".sh") { "bash" } else { "python3" });
    // No folder of compiled modules in the source tree.
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(path);
    command
}

/// The runs that `bench_cold.py` prints as JSON, and the process that it left running.
pub(super) fn cold_runs(text: &str) -> Result<(Vec<Value>, Option<u32>)> {
    let json = text
        .lines()
        .rev()
        .find_map(|l| {
            serde_json::from_str::<Value>(l)
                .ok()
                .filter(|v| v["runs"].is_array())
        })
        .with_context(|| format!("no runs in:\n{text}"))?;
    let kept = text
        .lines()
        .find_map(|l| l.strip_prefix("kept pid ")?.trim().parse().ok());
    let runs = json["runs"].as_array().cloned().unwrap_or_default();
    ensure!(
        !runs.is_empty() && runs.iter().all(|r| r["timeout"].is_null()),
        "the agent did not get ready in time:\n{text}"
    );
    Ok((runs, kept))
}

/// One figure of each run.
pub(super) fn field(runs: &[Value], name: &str) -> Vec<f64> {
    runs.iter().filter_map(|r| r[name].as_f64()).collect()
}

/// The percentiles of the line that begins with `label`: `p50 1.2 ms  p90 …`.
pub(super) fn percentiles(text: &str, label: &str) -> Result<BTreeMap<String, f64>> {
    let line = text
        .lines()
        .find_map(|l| {
            l.strip_prefix(label)
                .filter(|rest| rest.trim_start().starts_with("n "))
        })
        .with_context(|| format!("no line {label:?} in:\n{text}"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    Ok(words
        .windows(2)
        .filter_map(|w| Some((w[0].to_owned(), w[1].parse().ok()?)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_harness_prints() {
        let text = "## x runs 2\nready_s median 1\nkept pid 77\n{\"label\": \"x\", \"runs\": [{\"ready_s\": 0.5}, {\"ready_s\": 0.6}]}\n";
        let (runs, kept) = cold_runs(text).unwrap();
        assert_eq!((field(&runs, "ready_s"), kept), (vec![0.5, 0.6], Some(77)));
        assert!(cold_runs("{\"runs\": []}").is_err());
        assert!(cold_runs("{\"runs\": [{\"timeout\": true}]}").is_err());
        assert!(cold_runs("agent exited 1").is_err());
        let text = "policy last event            n 60  p50 4.0 ms  p90 5.0  p99 6.0  min 1.0  max 7.0 x\n\
                    policy last event, from ack  n 60  p50 1.5 ms  p90 2.0  p99 3.0  min 1.0  max 9.5 \n";
        let p = percentiles(text, "policy last event, from ack").unwrap();
        assert_eq!((p["p50"], p["p99"], p["max"]), (1.5, 3.0, 9.5));
        assert_eq!(percentiles(text, "policy last event").unwrap()["p50"], 4.0);
        assert!(percentiles(text, "label").is_err());
    }

    #[test]
    fn a_command_is_bounded_and_its_failure_told() {
        let sh = |script: &str| {
            let mut c = Command::new("sh");
            c.args(["-c", script]);
            c
        };
        assert_eq!(output(sh("echo a"), Duration::from_secs(20)).unwrap(), "a\n");
        let failed = output(sh("echo why >&2; exit 3"), Duration::from_secs(20)).unwrap_err();
        assert!(failed.to_string().contains("why"), "{failed}");
        let late = output(sh("exec sleep 60"), Duration::from_millis(50)).unwrap_err();
        assert!(late.to_string().contains("took more than"), "{late}");
    }
}
