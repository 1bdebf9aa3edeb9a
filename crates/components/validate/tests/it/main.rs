//! The command, from its arguments to its exit code.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use serde_json::Value;

/// What the command printed, and its exit code.
struct Outcome {
    code: i32,
    out: String,
    err: String,
}

fn validate(args: &[&str], stdin: &str) -> Outcome {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = std::iter::once("caracal validate").chain(args.iter().copied());
    let code = caracal_validate::run_with(
        args.map(Into::into).collect(),
        &mut stdin.as_bytes(),
        &mut out,
        &mut err,
    );
    Outcome {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

fn json(stdin: &str) -> (i32, Vec<Value>) {
    let o = validate(&["-", "-o", "json"], stdin);
    (o.code, serde_json::from_str(&o.out).unwrap())
}

const GOOD: &str = "\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: good}
spec: {cidr: 10.0.0.0/16}
";

#[test]
fn a_verdict_names_file_document_kind_name_field_line_and_what_is_allowed() {
    let text = format!(
        "{GOOD}---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {{name: bad}}
spec:
  cidr: 10.0.0.1/16
  vxlanMode: always
  blocksize: 26
"
    );
    let o = validate(&["-"], &text);
    assert_eq!(o.code, 1, "{}", o.err);
    for part in [
        "stdin, document 2, IPPool \"bad\": refused",
        "line 11: spec.vxlanMode: \"always\" is not possible here; allowed: Always (is it that?), Never",
        "line 12: spec.blocksize: is not a field of this kind; allowed: did you mean \"blockSize\"?",
        "line 10: spec.cidr: cidr has bits set behind its prefix",
        "2 objects: 1 valid, 1 refused",
    ] {
        assert!(o.out.contains(part), "{part} is not in:\n{}", o.out);
    }
    let (code, all) = json(&text);
    assert_eq!((code, all.len()), (1, 2));
    assert_eq!(all[0]["valid"], true);
    assert_eq!(all[1]["name"], "bad");
    assert_eq!(all[1]["document"], 2);
    let rule = all[1]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f.get("rule").is_some());
    assert_eq!(
        rule.unwrap()["rule"],
        "cidr(self.cidr) == cidr(self.cidr).masked()"
    );
}

#[test]
fn what_only_the_agent_refuses_is_a_warning() {
    let text = "\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: p, namespace: ns}
spec:
  selector: a ==
  ingress:
  - action: Allow
    source: {nets: [10.0.0.0/8]}
    destination: {nets: ['fd00::/8']}
";
    let o = validate(&["-"], text);
    assert_eq!(o.code, 0, "{}", o.out);
    assert!(o.out.contains("taken, with warnings"), "{}", o.out);
    assert!(o.out.contains("line 5: warning: spec.selector:"), "{}", o.out);
    assert!(
        o.out.contains("warning: spec.ingress[0].destination.nets[0]:"),
        "{}",
        o.out
    );
    assert_eq!(validate(&["-", "--strict"], text).code, 1);
}

#[test]
fn one_mistake_is_told_once() {
    let (_, all) = json(
        "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: p}
spec: {preDNAT: true, ingress: [{action: Drop}], order: high}
",
    );
    let fields: Vec<&str> = all[0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["field"].as_str().unwrap())
        .collect();
    assert_eq!(
        fields,
        ["spec.ingress[0].action", "spec.order", "spec"],
        "{all:?}"
    );
}

#[test]
fn every_api_group_and_foreign_kinds() {
    let v1 = "{apiVersion: crd.projectcalico.org/v1, kind: IPAMConfig, metadata: {name: default}, spec: {strictAffinity: false, autoAllocateBlocks: true}}";
    let cluster = "{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: c}, spec: {tier: Admin, priority: 5, subject: {namespaces: {}}}}";
    let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: x}}";
    let profile = "{apiVersion: projectcalico.org/v3, kind: Profile, metadata: {name: p}, spec: {}}";
    for good in [v1, cluster, namespace, profile] {
        let o = validate(&["-"], good);
        assert_eq!(o.code, 0, "{good}: {}", o.out);
    }
    for (bad, part) in [
        (
            v1.replace("true", "5"),
            "spec.autoAllocateBlocks: 5 has the wrong type; allowed: true or false",
        ),
        (
            v1.replace("IPAMConfig,", "IPAMConfiguration,"),
            "did you mean \"IPAMConfig\"?",
        ),
        (
            cluster.replace('5', "1001"),
            "spec.priority: 1001 is out of bounds; allowed: 0 to 1000",
        ),
        (
            cluster.replace("namespaces: {}", ""),
            "spec.subject: is empty; allowed: one of namespaces, pods",
        ),
        (
            profile.replace("spec: {}", "spec: {ingress: [{action: Drop}]}"),
            "spec.ingress[0].action",
        ),
        (
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}}".to_owned(),
            "not supported",
        ),
        (
            "{kind: Tier, metadata: {name: x}}".to_owned(),
            "apiVersion is missing",
        ),
        ("a: [".to_owned(), "line 1"),
    ] {
        let o = validate(&["-"], &bad);
        assert_eq!(o.code, 1, "{bad}: {}", o.out);
        assert!(o.out.contains(part), "{part} is not in:\n{}", o.out);
    }
}

#[test]
fn lists_are_taken_apart() {
    let text = "\
apiVersion: projectcalico.org/v3
kind: TierList
items:
- metadata: {name: a}
  spec: {order: 5}
- metadata: {name: default}
  spec: {order: 5}
";
    let o = validate(&["-"], text);
    assert_eq!(o.code, 1);
    assert!(o.out.contains("item 1, Tier \"default\""), "{}", o.out);
    assert!(
        o.out.contains("the tier default always has order 1000000"),
        "{}",
        o.out
    );
}

#[test]
fn directories_files_and_what_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = |p: &str| dir.path().join(p).display().to_string();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(path("a.yaml"), GOOD).unwrap();
    std::fs::write(path("sub/b.yaml"), GOOD.replace("10.0.0.0/16", "x")).unwrap();
    let all = dir.path().display().to_string();
    assert_eq!(validate(&[&all], "").code, 0);
    assert_eq!(validate(&["-R", &all], "").code, 1);
    assert_eq!(validate(&["-f", &path("a.yaml")], "").code, 0);
    let o = validate(&[&path("a.yaml"), &path("none.yaml")], "");
    assert_eq!(o.code, 2);
    assert!(
        o.err.contains("none.yaml") && o.out.contains("1 object: 1 valid"),
        "{} {}",
        o.err,
        o.out
    );
    assert_eq!(validate(&[], "").code, 2);
    assert_eq!(validate(&["--nothing"], "").code, 2);
    assert_eq!(validate(&["--help"], "").code, 0);
}

#[test]
fn yaml_says_what_json_says() {
    let bad = GOOD.replace("10.0.0.0/16", "10.0.0.0/8\n# c\n");
    let o = validate(&["-", "-o", "yaml"], &bad);
    assert!(o.out.starts_with("- source: stdin\n"), "{}", o.out);
}

/// The examples are what a newcomer starts from.
#[test]
fn the_examples_are_valid() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples/lab");
    let o = validate(&["--strict", &examples.display().to_string()], "");
    assert_eq!(o.code, 0, "{}{}", o.out, o.err);
}
