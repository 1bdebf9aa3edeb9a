//! Every command with input, a datastore or an output that is no good: the exit code is not 0 and the culprit is named.

use std::io::ErrorKind;

use caracal_calicoctl::{Io, run_with};

use crate::errors::Broken;
use crate::rig::{Rig, run};

const SET: &str = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: set}\nspec: {nets: [10.0.0.0/8]}\n";
const TIER: &str = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 5}\n";
const POLICY: &str = r#"{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":"t.p"},"spec":{"tier":"t"}}"#;
const FOREIGN: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
const HOST: &str = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: h}\nspec: {node: n1, interfaceName: eth0}\n";

/// Commands that read files.
const READERS: &[&str] = &[
    "create -f",
    "create --skip-exists -f",
    "apply -f",
    "apply --confirm-within 1m -f",
    "confirm -f",
    "replace -f",
    "delete -f",
    "get -f",
    "validate -f",
    "datastore migrate import -f",
];

#[test]
fn a_file_that_is_not_there() {
    let rig = Rig::new();
    let before = rig.all();
    let others = [
        "get ippool -o go-template-file=",
        "ipam release --from-report=",
        "node checksystem -f ",
        "-c ",
    ];
    let readers = READERS.iter().map(|r| format!("{r} /nonexistent/x"));
    for line in readers.chain(others[..3].iter().map(|o| format!("{o}/nonexistent/x"))) {
        let ran = rig.run(&line);
        assert_eq!(ran.code, 1, "{line}: {ran:?}");
        assert!(ran.err.contains("/nonexistent/x"), "{line}: {ran:?}");
    }
    let ran = run(
        &["calicoctl", "get", "ippool", "-c", "/nonexistent/x"],
        Io::process(),
    );
    assert!(ran.failed().contains("/nonexistent/x"));
    assert_eq!(rig.all(), before);
}

#[test]
fn a_directory_of_mixed_kinds() {
    let rig = Rig::new();
    for (name, text) in [
        ("d/1.yaml", SET),
        ("d/2.yml", TIER),
        ("d/3.json", POLICY),
        ("d/notes", "no: [manifest"),
    ] {
        rig.file(name, text);
    }
    let dir = rig.path("d").display().to_string();
    for (line, said) in [
        ("validate -f", "Successfully validated 3 resource(s)"),
        ("create -f", "Successfully created 3 resource(s)"),
        ("apply -f", "Successfully applied 3 resource(s)"),
        ("replace -f", "Successfully replaced 3 resource(s)"),
        ("get -f", "t.p    t"),
        ("get -o yaml -f", "kind: Tier"),
        ("create --skip-exists -f", "Successfully created 0 resource(s)"),
        ("delete -f", "Successfully deleted 3 resource(s)"),
    ] {
        let ran = rig.run(&format!("{line} {dir}"));
        assert!(ran.code == 0 && ran.out.contains(said), "{line}: {ran:?}");
    }
    // One that is of no kind of ours: it is named, and nothing is done with the others.
    rig.file("d/4.yaml", FOREIGN);
    let before = rig.all();
    for line in READERS {
        let ran = rig.run(&format!("{line} {dir}"));
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{line}: {ran:?}");
        assert!(
            ran.err.contains("4.yaml") && ran.err.contains("Namespace \"shop\""),
            "{line}: {ran:?}"
        );
    }
    assert_eq!(rig.all(), before);
}

/// A command of each kind, over a store that has what it is about.
const COMMANDS: &[&str] = &[
    "apply -f SET",
    "create --skip-exists -f SET",
    "replace -f SET",
    "get gnetsets",
    "get gnetsets set -o yaml",
    "get gnetsets -o json",
    "get gnetsets -o custom-columns=NAME",
    "get gnetsets -o go-template={{len}}",
    "get -f SET",
    "patch gnetsets set -p {}",
    "label gnetsets set a=b --overwrite",
    "ipam show",
    "ipam check",
    "datastore migrate lock",
    "datastore migrate export",
    "datastore migrate unlock",
    "datastore migrate-policy-names",
    "version",
    "confirm hep h",
    "delete gnetsets set",
];

fn prepared() -> Rig {
    let rig = Rig::new();
    rig.file("set.yaml", SET);
    rig.run_reading("apply -f -", SET).ok();
    assert_eq!(rig.run_reading("apply --confirm-within 1h -f -", HOST).code, 0);
    rig.run_reading(
        "apply -f -",
        "apiVersion: projectcalico.org/v3\nkind: ClusterInformation\nmetadata: {name: default}\nspec: {datastoreReady: true}\n",
    )
    .ok();
    rig
}

fn words(rig: &Rig, line: &str) -> Vec<String> {
    let set = rig.path("set.yaml").display().to_string();
    let line = line.replace("SET", &set).replace("{{len}}", "{{len .Items}}");
    match line.split_once("go-template=") {
        Some((before, template)) => {
            let mut words: Vec<String> = before.split_whitespace().map(str::to_owned).collect();
            words.push(format!("go-template={template}"));
            words
        }
        None => line.split_whitespace().map(str::to_owned).collect(),
    }
}

#[test]
fn an_output_that_takes_nothing() {
    for (kind, code) in [(ErrorKind::StorageFull, 1), (ErrorKind::BrokenPipe, 0)] {
        let rig = prepared();
        let config = rig.path("calicoctl.cfg").display().to_string();
        let own = ["validate -f SET", "completion bash", "version --client", "--help"];
        for line in COMMANDS.iter().chain(&own) {
            let mut args = vec!["calicoctl".to_owned(), "-c".to_owned(), config.clone()];
            args.extend(words(&rig, line));
            let io = Io {
                output: Box::new(Broken(kind)),
                errors: Box::new(std::io::sink()),
                ..Io::process()
            };
            let ran = run_with(args.into_iter().map(Into::into).collect(), io);
            // Help that cannot be shown is an error, whoever left.
            let wanted = match *line {
                "--help" => 1,
                // What was found out is its exit code, and 2 that nothing could be.
                "ipam check" if code == 1 => 2,
                _ => code,
            };
            assert_eq!(ran, wanted, "{kind:?}: {line}");
        }
    }
}

#[test]
fn a_datastore_that_does_not_answer() {
    let rig = prepared();
    let gone = rig.file(
        "gone.cfg",
        "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: {datastoreType: etcdv3, etcdEndpoints: 'http://127.0.0.1:1'}\n",
    );
    for line in COMMANDS {
        let mut args = vec!["calicoctl".to_owned(), "-c".to_owned(), gone.clone()];
        args.extend(words(&rig, line));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ran = run(&args, Io::process());
        let wanted = if *line == "ipam check" { 2 } else { 1 };
        assert_eq!(ran.code, wanted, "{line}: {ran:?}");
        assert!(ran.err.contains("127.0.0.1:1"), "{line}: {ran:?}");
    }
}

#[test]
fn options_that_there_are_not() {
    let rig = Rig::new();
    for command in [
        "create",
        "apply",
        "replace",
        "delete",
        "get",
        "patch",
        "label",
        "validate",
        "confirm",
        "version",
        "completion",
        "ipam show",
        "ipam check",
        "ipam release",
        "ipam split",
        "ipam configure",
        "datastore migrate lock",
        "datastore migrate export",
        "datastore migrate import",
        "datastore migrate-policy-names",
        "node status",
        "node diags",
        "node checksystem",
    ] {
        let e = rig.run(&format!("{command} --no-such-option")).failed();
        assert!(e.contains("--no-such-option"), "{command}: {e}");
        let help = rig.run(&format!("{command} --help")).ok();
        assert!(help.contains("Usage"), "{command}: {help}");
    }
    // What Calico has and this version has not.
    for line in ["node run --node-image=x", "cluster diags --since 1h"] {
        let ran = rig.run(line);
        assert!(
            ran.code == 64 && ran.err.contains("is not in this version"),
            "{line}: {ran:?}"
        );
    }
}

#[test]
fn options_that_mean_nothing_here_are_taken() {
    let rig = prepared();
    let set = rig.path("set.yaml").display().to_string();
    for line in [
        format!("--context prod apply -f {set}"),
        format!("apply -f {set} --allow-version-mismatch"),
        "get gnetsets --context=prod --allow-version-mismatch".to_owned(),
        "-l error get gnetsets".to_owned(),
        "--log-level=Fatal version".to_owned(),
    ] {
        let ran = rig.run(&line);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
    }
}
