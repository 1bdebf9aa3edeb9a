use std::sync::Arc;

use caracal_api::{Kind, ResourceKey};
use caracal_calicoctl::Io;
use caracal_store_memory::MemoryStore;

use crate::rig::{Rig, run};

const GOOD: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: good}
spec: {nets: [10.0.0.0/8]}
---
";

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: bad}}\nspec: {spec}\n"
    )
}

/// Every one beside a good object, which must not be written either.
#[test]
fn bad_documents_are_named_and_nothing_is_written() {
    let rig = Rig::new();
    rig.run_reading("apply -f -", GOOD).ok();
    let before = rig.all();
    let cases: Vec<(&str, String, &[&str])> = vec![
        ("malformed YAML", "kind: [\n".into(), &["document 2", "line"]),
        (
            "unknown kind",
            "apiVersion: projectcalico.org/v3\nkind: NetworkPolcy\nmetadata: {name: a}\n".into(),
            &["kind", "NetworkPolcy", "did you mean \"NetworkPolicy\"?"],
        ),
        (
            "unknown field",
            policy("{seletcor: all()}"),
            &["GlobalNetworkPolicy \"bad\"", "spec.seletcor", "did you mean \"selector\"?"],
        ),
        (
            "bad selector",
            policy("{selector: 'a = b'}"),
            &["GlobalNetworkPolicy(bad)", "spec.selector", "a = b"],
        ),
        (
            "bad CIDR",
            policy("{ingress: [{action: Allow, source: {nets: [10.0.0.0/33]}}]}"),
            &["GlobalNetworkPolicy(bad)", "spec.ingress[0].source.nets[0]", "10.0.0.0/33"],
        ),
        (
            "port without protocol",
            policy("{ingress: [{action: Allow, destination: {ports: [80]}}]}"),
            &["spec.ingress[0]", "protocol", "TCP"],
        ),
        (
            "an object of Kubernetes",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n".into(),
            &["Namespace \"a\"", "kubectl"],
        ),
        (
            "a kind of IPAM's own",
            "apiVersion: projectcalico.org/v3\nkind: IPAMHandle\nmetadata: {name: h}\nspec: {handleID: h, block: {}}\n".into(),
            &["IPAMHandle(h)", "IPAM"],
        ),
        (
            "a parameter that there is not",
            "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: {bpfEnabeld: true}\n".into(),
            &["FelixConfiguration(default)", "bpfEnabeld"],
        ),
        (
            "a namespace where there is none",
            "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t, namespace: ns}\n".into(),
            &["Tier", "no namespace"],
        ),
    ];
    for verb in ["create", "apply", "replace"] {
        for (what, text, words) in &cases {
            let other = GOOD.replace("good", "other");
            let file = rig.file("bad.yaml", &format!("{other}{text}"));
            let ran = rig.run(&format!("{verb} -f {file}"));
            assert_eq!(ran.out, "", "{verb}, {what}");
            let e = ran.failed();
            assert!(
                e.contains(&file) && e.contains("document 2"),
                "{verb}, {what}: {e}"
            );
            for word in *words {
                assert!(e.contains(word), "{verb}, {what}: {word:?} is not in {e}");
            }
        }
    }
    assert_eq!(rig.all(), before);
}

#[test]
fn rules_between_objects_are_kept() {
    let rig = Rig::new();
    let pool = |name: &str, spec: &str| {
        format!("apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    rig.run_reading("create -f -", &pool("a", "{cidr: 10.1.0.0/16}"))
        .ok();
    let before = rig.all();
    for (text, words) in [
        (
            policy("{tier: nope, selector: all()}"),
            ["GlobalNetworkPolicy(bad)", "spec.tier", "nope"],
        ),
        (
            pool("b", "{cidr: 10.1.2.0/24}"),
            ["IPPool(b)", "spec.cidr", "10.1.0.0/16"],
        ),
        (
            pool("a", "{cidr: 10.9.0.0/16}"),
            ["IPPool(a)", "spec.cidr", "cannot be changed"],
        ),
        (
            pool("a", "{cidr: 10.1.0.0/16, blockSize: 28}"),
            ["IPPool(a)", "spec.blockSize", "26"],
        ),
    ] {
        let e = rig.run_reading("apply -f -", &text).failed();
        assert!(e.contains("stdin, document 1"), "{e}");
        for word in words {
            assert!(e.contains(word), "{word:?} is not in {e}");
        }
    }
    assert_eq!(rig.all(), before);
}

#[test]
fn files_that_cannot_be_used() {
    let rig = Rig::new();
    let e = rig.run("apply -f /nonexistent/p.yaml").failed();
    assert!(
        e.starts_with("cannot read /nonexistent/p.yaml: No such file"),
        "{e}"
    );
    let empty = rig.file("empty.yaml", "# nothing here\n");
    let e = rig.run(&format!("apply -f {empty}")).failed();
    assert!(e.contains(&empty) && e.contains("--skip-empty"), "{e}");
    assert_eq!(
        rig.run(&format!("apply -f {empty} --skip-empty")).ok(),
        "No resources specified\n"
    );

    let deep = rig.file("tree/below/set.yaml", GOOD);
    let tree = rig.path("tree").display().to_string();
    let e = rig.run(&format!("apply -f {tree}")).failed();
    assert!(e.contains(&tree) && e.contains("-R"), "{e}");
    rig.file("tree/notes.txt", "not a manifest");
    assert_eq!(
        rig.run(&format!("apply -R -f {tree}")).ok(),
        "Successfully applied 1 'GlobalNetworkSet' resource(s)\n"
    );
    std::fs::write(rig.path("tree/below/latin.yml"), b"kind: \xe9").unwrap();
    let e = rig.run(&format!("apply -R -f {tree}")).failed();
    assert!(e.contains("latin.yml") && e.contains("UTF-8"), "{e}");
    assert!(rig.run(&format!("apply -f {deep} -f /nonexistent")).code == 1);
}

#[test]
fn command_lines_that_make_no_sense() {
    let rig = Rig::new();
    for (line, word) in [
        ("get", "KIND"),
        ("get ippool -o xml", "yaml"),
        ("get ippol", "did you mean \"ippool\"?"),
        ("delete ippool", "NAME"),
        ("apply", "--filename"),
        ("delete ipamblock x", "IPAM"),
        ("frobnicate", "frobnicate"),
        ("get ippool --bogus", "--bogus"),
        ("--log-level loud get ippool", "loud"),
        ("version --poll soon", "--poll=soon"),
        ("get -f x ippool", "--filename"),
        ("completion csh", "bash"),
    ] {
        let e = rig.run(line).failed();
        assert!(e.contains(word), "{line}: {word:?} is not in {e}");
    }
    assert!(rig.run("--help").ok().contains("apply"));
    for (shell, word) in [
        ("bash", "globalnetworkpolicies"),
        ("zsh", "globalnetworkpolicies"),
        ("fish", "skip-exists"),
    ] {
        let script = rig.run(&format!("completion {shell}")).ok();
        assert!(script.contains(word), "{shell}");
    }
}

#[test]
fn a_datastore_that_cannot_be_reached() {
    let rig = Rig::new();
    let file = rig.file(
        "gone.cfg",
        "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: {datastoreType: etcdv3, etcdEndpoints: 'http://127.0.0.1:1'}\n",
    );
    let many: String = (0..3).map(|i| GOOD.replace("good", &format!("g{i}"))).collect();
    let sets = rig.file("many.yaml", &many);
    let at = |words: &[&str]| {
        let mut args = vec!["calicoctl", "-c", &file];
        args.extend(words);
        run(&args, Io::process()).failed()
    };
    for words in [&["get", "ippool"][..], &["apply", "-f", &sets], &["version"]] {
        let e = at(words);
        assert!(e.contains("the datastore is not available"), "{e}");
        assert!(e.contains("127.0.0.1:1"), "{e}");
    }
    let bad = rig.file("bad.cfg", "kind: Other\n");
    let ran = run(&["calicoctl", "get", "ippool", "-c", &bad], Io::process());
    assert!(ran.failed().contains("bad.cfg"));
}

/// A disk that is full, or a reader that has gone.
pub(crate) struct Broken(pub(crate) std::io::ErrorKind);

impl std::io::Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn output_that_cannot_be_written() {
    let rig = Rig::new();
    let config = rig.path("calicoctl.cfg").display().to_string();
    let code = |kind| {
        let io = Io {
            output: Box::new(Broken(kind)),
            errors: Box::new(std::io::sink()),
            ..Io::process()
        };
        let args = ["calicoctl", "-c", &config, "get", "ippool"];
        caracal_calicoctl::run_with(args.map(Into::into).to_vec(), io)
    };
    assert_eq!(code(std::io::ErrorKind::StorageFull), 1);
    assert_eq!(code(std::io::ErrorKind::BrokenPipe), 0);
}

#[test]
fn what_is_stored_and_cannot_be_read_is_named() {
    let store = Arc::new(MemoryStore::etcd());
    let ctl = |line: &str, stdin: &str| {
        let mut args = vec!["calicoctl"];
        args.extend(line.split(' '));
        let io = Io {
            input: Box::new(std::io::Cursor::new(stdin.as_bytes().to_vec())),
            store: Some(store.clone()),
            ..Io::process()
        };
        run(&args, io)
    };
    ctl("apply -f -", GOOD).ok();
    ctl("apply -f -", &GOOD.replace("good", "broken")).ok();
    store.put_malformed(&ResourceKey::global(Kind::GlobalNetworkSet, "broken"), "not JSON");
    let ran = ctl("get gnetsets", "");
    assert!(ran.out.contains("good"), "{}", ran.out);
    let e = ran.failed();
    assert!(e.contains("GlobalNetworkSet(broken) cannot be read"), "{e}");
    // It can be repaired or deleted.
    ctl("apply -f -", &GOOD.replace("good", "broken")).ok();
    ctl("get gnetsets", "").ok();
}
