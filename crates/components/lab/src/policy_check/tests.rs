#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write;
use std::path::Path;

use caracal_net::Family;
use flate2::write::GzEncoder;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::model::{self, Model};
use super::objects;
use super::report::{Format, Report};
use super::table::{self, Case};

fn testdata(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../testdata/policy")
        .join(name)
}

/// What the model says about cases: checked, mismatched, skipped, and the mismatches as text.
fn judge(cases: &[Case], family: Family) -> ((u64, u64, u64), Vec<String>) {
    let mut report = Report::new(Format::Json, ProgressBar::hidden());
    for case in cases {
        model::check(case, family, &mut report).unwrap();
    }
    (report.counts(), report.findings())
}

fn read(value: &Value) -> Result<Vec<Case>, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(value.to_string().as_bytes()).unwrap();
    table::read(file.path()).map_err(|e| e.to_string())
}

/// A table with one step: two pods and what `step` says beside that.
fn table(step: Value) -> Value {
    let mut all = json!({
        "Namespaces": {"x": {"ns": "x"}},
        "Pods": [
            {"Namespace": "x", "Name": "a", "IP": "192.0.2.1", "Labels": {"pod": "a"}},
            {"Namespace": "x", "Name": "b", "IP": "192.0.2.2", "Labels": null},
        ],
        "Probes": [probe("blocked")],
    });
    for (field, value) in step.as_object().unwrap() {
        all[field] = value.clone();
    }
    json!([{"Description": "one", "Steps": [all]}])
}

fn probe(ingress: &str) -> Value {
    json!({
        "From": "x/b", "To": "x/a", "Proto": "TCP", "Port": 80, "PortName": "web",
        "Ingress": ingress, "Egress": "allowed", "Combined": ingress,
    })
}

fn deny() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": "x"},
        "spec": {"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Ingress"]},
    })
}

fn calico(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

#[test]
fn kubernetes_truth_tables_hold_in_both_families() {
    let cases = table::read(&testdata("kubernetes-truth-tables.json.gz")).unwrap();
    assert_eq!(cases.len(), 112);
    for family in Family::BOTH {
        let (counts, findings) = judge(&cases, family);
        // 59,646 probes, 6,606 of them of a pod to itself; three verdicts each.
        assert_eq!(counts, (159_120, 0, 0), "{family}: {findings:?}");
    }
}

#[test]
fn calicos_own_kinds_hold_in_both_families() {
    let cases = table::read(&testdata("calico-cases.json")).unwrap();
    for family in Family::BOTH {
        let ((checked, mismatched, skipped), findings) = judge(&cases, family);
        assert!(checked > 1_000);
        assert_eq!((mismatched, skipped), (0, 0), "{family}: {findings:?}");
    }
}

#[test]
fn the_last_step_means_the_same_whatever_was_before() {
    for file in ["kubernetes-truth-tables.json.gz", "calico-cases.json"] {
        let cases = table::read(&testdata(file)).unwrap();
        for case in cases.iter().filter(|c| c.steps.len() > 1) {
            let last = case.steps.last().unwrap();
            let mut through = Model::new(Family::V4).unwrap();
            for step in &case.steps {
                assert_eq!(through.step(step), [""; 0]);
            }
            let mut at_once = Model::new(Family::V4).unwrap();
            at_once.step(last);
            for probe in &last.probes {
                let (a, b) = (through.judge(last, probe), at_once.judge(last, probe));
                assert_eq!((a.ingress, a.egress), (b.ingress, b.egress), "{case}");
            }
        }
    }
}

#[test]
fn a_wrong_verdict_is_told_with_the_rule_that_decided() {
    let cases = read(&table(
        json!({"Policies": [deny()], "Probes": [probe("allowed")]}),
    ))
    .unwrap();
    let ((checked, mismatched, _), findings) = judge(&cases, Family::V6);
    assert_eq!((checked, mismatched), (3, 2));
    assert_eq!(
        findings,
        [
            "case 1 \"one\", step 1, IPv6: x/b -> x/a TCP 80: ingress should be allowed, is blocked (end of tier default)",
            "case 1 \"one\", step 1, IPv6: x/b -> x/a TCP 80: combined should be allowed, is blocked (ingress blocked \
             by end of tier default)",
        ]
    );
    // Without the policy it is the profile that allows.
    let cases = read(&table(json!({}))).unwrap();
    let (_, findings) = judge(&cases, Family::V4);
    assert!(
        findings[1].ends_with(
            "combined should be blocked, is allowed (egress allowed by profile kns.x, rule 0; ingress allowed by \
             profile kns.x, rule 0)"
        ),
        "{findings:?}"
    );
}

#[test]
fn a_pod_is_not_asked_about_itself_and_another_family_is_skipped() {
    let mut own = probe("blocked");
    own["From"] = json!("x/a");
    let cases = read(&table(
        json!({"Policies": [deny()], "Probes": [own, probe("blocked")]}),
    ))
    .unwrap();
    assert_eq!(judge(&cases, Family::V4).0, (3, 0, 0));
    let pods = json!([
        {"Namespace": "x", "Name": "a", "IP": "2001:db8::1", "Labels": {"pod": "a"}},
        {"Namespace": "x", "Name": "b", "IP": "192.0.2.2"},
    ]);
    let cases = read(&table(json!({"Policies": [deny()], "Pods": pods}))).unwrap();
    assert_eq!(judge(&cases, Family::V4).0, (0, 0, 3));
    assert_eq!(judge(&cases, Family::V6).0, (3, 0, 0));
}

#[test]
fn what_is_absent_or_null_is_empty_and_the_namespace_default() {
    for (field, value) in [
        ("Policies", json!(null)),
        ("Policies", json!([])),
        ("Probes", json!(null)),
    ] {
        let mut t = table(json!({"Probes": [probe("allowed")]}));
        t[0]["Steps"][0][field] = value;
        let cases = read(&t).unwrap();
        assert_eq!(judge(&cases, Family::V4).0.1, 0, "{field}");
    }
    let step = json!({
        "Namespaces": {"default": null},
        "Pods": [
            {"Namespace": "default", "Name": "a", "IP": "192.0.2.1"},
            {"Namespace": "default", "Name": "b", "IP": "192.0.2.2", "ServiceAccount": ""},
        ],
        "Policies": [calico("NetworkPolicy", "p", json!({
            "ingress": [{"action": "Deny", "source": {"serviceAccounts": {"names": ["default"]}}}, {"action": "Allow"}],
        }))],
        "Probes": [{
            "From": "default/b", "To": "default/a", "Proto": "sctp", "Port": 1, "Ingress": "blocked",
            "Egress": "allowed", "Combined": "blocked",
        }],
    });
    let cases = read(&json!([{"Steps": [step]}])).unwrap();
    assert_eq!(judge(&cases, Family::V4).0, (3, 0, 0));
}

#[test]
fn only_differences_are_changes() {
    let cases = read(&table(json!({"Policies": [deny()]}))).unwrap();
    let without = read(&table(json!({}))).unwrap();
    let of = |cases: &[Case]| objects::of_step(&cases[0].steps[0], Family::V4, &|_| "node");
    let (with, without) = (of(&cases), of(&without));
    assert_eq!(objects::changes(&with, &of(&cases)), []);
    let keys = |changes: Vec<caracal_update::Update>| -> Vec<(String, bool)> {
        let key = |u: caracal_update::Update| (u.key.to_string(), u.value.is_some());
        changes.into_iter().map(key).collect()
    };
    let policy = "NetworkPolicy(x/knp.default.deny)".to_owned();
    assert_eq!(keys(objects::changes(&without, &with)), [(policy.clone(), true)]);
    assert_eq!(keys(objects::changes(&with, &without)), [(policy, false)]);
}

#[test]
fn packed_and_plain_files_are_read() {
    let text = table(json!({})).to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut packed = GzEncoder::new(file.reopen().unwrap(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap();
    assert_eq!(table::read(file.path()).unwrap().len(), 1);
    // Half of it is no file.
    let bytes = std::fs::read(file.path()).unwrap();
    std::fs::write(file.path(), &bytes[..bytes.len() / 2]).unwrap();
    assert!(
        table::read(file.path())
            .unwrap_err()
            .to_string()
            .contains("reading")
    );
    std::fs::write(file.path(), "[{").unwrap();
    assert!(
        table::read(file.path())
            .unwrap_err()
            .to_string()
            .contains("not JSON")
    );
    let missing = table::read(Path::new("/nonexistent/table.json")).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/table.json"));
}

/// A table, and what its refusal must say.
fn refusals() -> Vec<(Value, Vec<&'static str>)> {
    let with = |field: &str, value: Value| {
        let mut p = probe("allowed");
        p[field] = value;
        table(json!({"Probes": [p]}))
    };
    let policies = |list: Value| table(json!({"Policies": list}));
    let pods = |list: Value| table(json!({"Pods": list, "Probes": []}));
    let gnp = |spec: Value| calico("GlobalNetworkPolicy", "p", spec);
    vec![
        (json!({"cases": []}), vec!["a list of cases"]),
        (
            json!([{"Description": "no steps"}]),
            vec!["case 1 \"no steps\"", "Steps"],
        ),
        (
            json!([{"Steps": [], "Stps": []}]),
            vec!["Stps", "not known", "Steps"],
        ),
        (
            with("Proto", json!("ICMP")),
            vec!["step 1, Probes[0]", "Proto", "TCP, UDP, SCTP"],
        ),
        (with("Port", json!(0)), vec!["Port", "1 to 65535"]),
        (with("Port", json!(70_000)), vec!["70000", "1 to 65535"]),
        (
            with("Ingress", json!("maybe")),
            vec!["Steps[0].Probes[0].Ingress", "maybe", "allowed"],
        ),
        (with("From", json!("x/c")), vec!["From", "x/c", "no pod"]),
        (with("To", json!("a")), vec!["To", "namespace/pod"]),
        (table(json!({"Namespaces": {}})), vec!["pod x/a", "Namespaces"]),
        (
            pods(json!([{"Namespace": "x", "Name": "a", "IP": "300.1.1.1"}])),
            vec!["pod x/a", "IP", "300.1.1.1"],
        ),
        (
            pods(json!([
                {"Namespace": "x", "Name": "a", "IP": "192.0.2.1"}, {"Namespace": "x", "Name": "b", "IP": "192.0.2.1"},
            ])),
            vec!["pod x/b", "192.0.2.1", "x/a"],
        ),
        (
            pods(json!([
                {"Namespace": "x", "Name": "a", "IP": "192.0.2.1"}, {"Namespace": "x", "Name": "a", "IP": "192.0.2.2"},
            ])),
            vec!["two pods x/a"],
        ),
        (
            pods(json!([{"Namespace": "x", "Name": "a", "IP": "192.0.2.1", "Labels": {"-": "v"}}])),
            vec!["pod x/a", "labels"],
        ),
        (
            policies(json!([deny(), deny()])),
            vec!["Policies[1]", "two objects", "knp.default.deny"],
        ),
        (
            policies(json!([{"kind": "Pod"}])),
            vec!["Policies[0]", "apiVersion"],
        ),
        (
            policies(json!([{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}])),
            vec!["Pod \"p\"", "networking.k8s.io/v1"],
        ),
        (
            policies(json!([calico("IPPool", "p", json!({"cidr": "192.0.2.0/24"}))])),
            vec!["IPPool(p)", "not part of a table"],
        ),
        (
            policies(json!([gnp(json!({"selector": "a = b"}))])),
            vec!["GlobalNetworkPolicy(p)", "spec.selector"],
        ),
        (
            policies(json!([gnp(json!({"selektor": "all()"}))])),
            vec!["selektor", "not known"],
        ),
        (
            policies(json!([gnp(json!({"tier": "none"}))])),
            vec!["spec.tier", "none", "does not exist"],
        ),
        (
            policies(json!([calico(
                "GlobalNetworkSet",
                "s",
                json!({"nets": ["192.0.2.0/33"]})
            )])),
            vec!["GlobalNetworkSet(s)", "192.0.2.0/33"],
        ),
        (
            policies(json!([calico("Profile", "kns.x", json!({}))])),
            vec!["Profile(kns.x)", "another name"],
        ),
        (
            policies(json!([{
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "n", "namespace": "x"},
                "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/40"}}]}]},
            }])),
            vec!["Policies[0]", "\"x/n\"", "10.0.0.0/40"],
        ),
    ]
}

#[test]
fn bad_input_is_refused_by_name() {
    for (value, words) in refusals() {
        let Err(error) = read(&value) else {
            panic!("accepted: {value}");
        };
        for word in words {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
    }
}

#[test]
fn exit_codes() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(table(json!({"Policies": [deny()]})).to_string().as_bytes())
        .unwrap();
    let path = file.path().display().to_string();
    let run = |args: &[&str]| {
        let args = ["caracal policy-check"].iter().chain(args);
        super::run(args.map(std::ffi::OsString::from).collect())
    };
    assert_eq!(run(&[&path, "--family", "both"]), 0);
    assert_eq!(run(&[&path, "-o", "json", "--cases", "^one$"]), 0);
    file.as_file_mut().set_len(0).unwrap();
    assert_eq!(run(&[&path]), 2);
    assert_eq!(run(&[&path, "--family", "5"]), 2);
    assert_eq!(run(&[&path, "--cases", "("]), 2);
    assert_eq!(run(&["--help"]), 0);
    let wrong = table(json!({"Policies": [deny()], "Probes": [probe("allowed")]}));
    std::fs::write(file.path(), wrong.to_string()).unwrap();
    assert_eq!(run(&[&path]), 1);
    assert_eq!(run(&[&path, "--cases", "another"]), 0);
}
