//! The verdict of `check` is that of an API server: its own code, in `tests/crd-schema`, judges the same objects by
//! Calico's own definitions and by those in `deploy/crds`.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use caracal_api::Kind;
use caracal_schema::{Group, check, check_value, cluster_network_policy, schema_of};
use caracal_testkit::{find_tool, needs};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    corpus,
    dice::{Dice, nightly, seed},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// A difference of verdicts that is meant.
#[derive(Debug, Deserialize)]
struct Explained {
    /// Part of what the side that refuses says.
    says: String,
    /// Which side refuses: `ours` or `theirs`.
    refuses: String,
    /// Why.
    why: String,
}

/// Builds the judge; none where its modules cannot be had.
fn judge() -> Option<PathBuf> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crd-schema");
    let status = Command::new(find_tool("go")?)
        .current_dir(root().join("tests/crd-schema"))
        .args(["build", "-mod=readonly", "-o"])
        .arg(&out)
        .arg(".")
        .status()
        .expect("go can be started");
    status.success().then_some(out)
}

/// The judge's answer to each object.
fn verdicts(judge: &Path, definitions: &[PathBuf], objects: &[Value]) -> Vec<Vec<String>> {
    let mut child = Command::new(judge)
        .args(definitions)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the judge was just built");
    let mut stdin = child.stdin.take().unwrap();
    let text: Vec<u8> = objects
        .iter()
        .flat_map(|o| format!("{o}\n").into_bytes())
        .collect();
    let writer = std::thread::spawn(move || stdin.write_all(&text).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "the judge failed");
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let (refused, answers): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|a| a.get("definition").is_some());
    for definition in refused {
        // Only the public copy of this definition lacks its annotations.
        assert!(
            definition["definition"]
                .as_str()
                .unwrap()
                .starts_with("clusternetworkpolicies"),
            "{definition}"
        );
    }
    assert_eq!(answers.len(), objects.len());
    let texts = |a: Value| {
        a["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e.as_str().unwrap().to_owned())
            .collect()
    };
    answers.into_iter().map(texts).collect()
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = root().join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == extension));
    files.sort();
    files
}

fn ours(group: Option<Group>, object: &Value) -> Vec<String> {
    let name = object["kind"].as_str().unwrap();
    let findings = match group {
        Some(group) => check(group.kind(name).unwrap(), group, object),
        None => check_value(cluster_network_policy(), object),
    };
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn verdicts_are_those_of_an_api_server() {
    if !nightly() {
        return;
    }
    needs!("go");
    let Some(judge) = judge() else {
        needs!(if false, "the Go modules of tests/crd-schema");
        return;
    };
    let mut dice = Dice::new(seed());
    let mut all: Vec<(Option<Group>, Value)> = Vec::new();
    for group in Group::ALL {
        for kind in Kind::ALL.iter().filter(|k| schema_of(**k, group).is_some()) {
            let objects = corpus::objects(*kind, group, &mut dice, 400);
            all.extend(objects.into_iter().map(|o| (Some(group), o)));
        }
    }
    all.extend(
        corpus::cluster_network_policies(&mut dice, 400)
            .into_iter()
            .map(|o| (None, o)),
    );
    let objects: Vec<Value> = all.iter().map(|(_, o)| o.clone()).collect();
    let theirs = verdicts(&judge, &files("testdata/crds", "jsonl"), &objects);
    compare(&all, &theirs);

    let mut deployed = files("deploy/crds/projectcalico.org", "yaml");
    deployed.extend(files("deploy/crds/crd.projectcalico.org", "yaml"));
    let calicos: Vec<Value> = objects
        .iter()
        .filter(|o| o["kind"] != "ClusterNetworkPolicy")
        .cloned()
        .collect();
    let by_deployed = verdicts(&judge, &deployed, &calicos);
    for ((object, a), b) in calicos.iter().zip(&theirs).zip(&by_deployed) {
        assert_eq!(
            a.is_empty(),
            b.is_empty(),
            "{object}\nCalico's: {a:?}\ndeploy/crds: {b:?}"
        );
    }
}

fn compare(all: &[(Option<Group>, Value)], theirs: &[Vec<String>]) {
    let explained: Vec<Explained> = serde_json::from_str(include_str!("verdicts.json")).unwrap();
    let mut needed = vec![0; explained.len()];
    let mut per_kind: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut different = Vec::new();
    for ((group, object), theirs) in all.iter().zip(theirs) {
        let ours = ours(*group, object);
        let kind = format!("{} {}", object["apiVersion"], object["kind"]);
        let count = per_kind.entry(kind).or_default();
        count.0 += usize::from(theirs.is_empty());
        count.1 += usize::from(!theirs.is_empty());
        if ours.is_empty() == theirs.is_empty() {
            continue;
        }
        let (side, says) = if ours.is_empty() {
            ("theirs", theirs)
        } else {
            ("ours", &ours)
        };
        let reason = explained
            .iter()
            .position(|e| e.refuses == side && says.iter().all(|s| s.contains(&e.says)));
        match reason {
            Some(i) => needed[i] += 1,
            None => different.push(format!("{object}\n    {side}: {says:?}")),
        }
    }
    for (kind, (valid, invalid)) in &per_kind {
        println!("{kind}: {valid} valid, {invalid} invalid");
        assert!(
            *valid >= 10 && *invalid >= 10 && valid + invalid >= 400,
            "{kind}: too few"
        );
    }
    println!("{} objects, {} kinds", all.len(), per_kind.len());
    assert!(
        different.is_empty(),
        "{} verdicts differ, the first of them:\n{}",
        different.len(),
        different.iter().take(60).cloned().collect::<Vec<_>>().join("\n")
    );
    for (e, n) in explained.iter().zip(needed) {
        println!("{n} times: {} ({})", e.says, e.why);
        assert!(n > 0, "no longer needed: {e:?}");
    }
}
