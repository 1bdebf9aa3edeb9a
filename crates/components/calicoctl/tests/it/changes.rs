use crate::rig::Rig;

const SET: &str = "\
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: s, namespace: shop, labels: {role: db}}
spec: {nets: [10.0.0.0/8]}
";

#[test]
fn labels_are_set_changed_and_removed() {
    let rig = Rig::new();
    rig.run_reading("apply -f -", SET).ok();
    let label = |rest: &str| rig.run(&format!("label netsets s -n shop {rest}"));
    assert_eq!(
        label("tier=gold").ok(),
        "Successfully set label tier on netsets s\n"
    );
    let e = label("tier=iron").failed();
    assert!(
        e.contains("NetworkSet(shop/s)") && e.contains("tier=gold") && e.contains("--overwrite"),
        "{e}"
    );
    assert_eq!(
        label("tier=iron --overwrite").ok(),
        "Successfully updated label tier on netsets s\n"
    );
    assert_eq!(
        label("role --remove").ok(),
        "Successfully removed label role from netsets s\n"
    );
    let stored = rig.run("get netsets s -n shop -o yaml").ok();
    assert!(stored.contains("  labels:\n    tier: iron\n"), "{stored}");
    let before = rig.all();
    for (rest, word) in [
        ("role --remove", "no label role"),
        ("role", "role=VALUE"),
        ("role=x --remove", "alone"),
        ("bad!key=x", "bad!key"),
    ] {
        let e = label(rest).failed();
        assert!(e.contains(word), "{rest}: {e}");
    }
    let e = rig.run("label netsets nope a=b").failed();
    assert!(
        e.starts_with("resource does not exist: NetworkSet(default/nope)"),
        "{e}"
    );
    assert_eq!(rig.all(), before);
}

#[test]
fn patches_of_every_type() {
    let rig = Rig::new();
    rig.run_reading("apply -f -", SET).ok();
    let patch = |how: &str, text: &str| {
        let mut words = vec!["patch", "networkset", "s", "-n", "shop", "-p", text];
        words.extend(how.split_whitespace());
        rig.run_words(&words, "")
    };
    let nets = || rig.run("get netsets -n shop -o wide").ok();
    let done = "Successfully patched 1 'NetworkSet' resource\n";
    assert_eq!(patch("", r#"{"spec": {"nets": ["10.1.0.0/16"]}}"#).ok(), done);
    assert!(nets().contains("10.1.0.0/16 "));
    assert_eq!(patch("--type merge", "spec: {nets: [10.2.0.0/16]}").ok(), done);
    assert!(nets().contains("10.2.0.0/16 "));
    let add = r#"[{"op": "add", "path": "/spec/nets/-", "value": "2001:db8::/32"}]"#;
    assert_eq!(patch("-t json", add).ok(), done);
    assert!(nets().contains("10.2.0.0/16,2001:db8::/32 "));

    let before = rig.all();
    for (how, text, word) in [
        ("", "{", "neither JSON nor YAML"),
        ("", "[]", "object"),
        ("-t json", "{}", "list of operations"),
        (
            "-t json",
            r#"[{"op": "remove", "path": "/spec/nope"}]"#,
            "/spec/nope",
        ),
        ("", r#"{"spec": {"nets": ["10.0.0.0/40"]}}"#, "spec.nets[0]"),
        ("", r#"{"spec": {"netz": []}}"#, "did you mean \"nets\"?"),
        ("", r#"{"metadata": {"name": "t"}}"#, "cannot be changed"),
        ("", r#"{"kind": "GlobalNetworkSet"}"#, "cannot be changed"),
        ("-t zap", "{}", "strategic"),
        (
            "",
            r#"{"metadata": {"resourceVersion": "1"}, "spec": {"nets": []}}"#,
            "update conflict",
        ),
    ] {
        let e = patch(how, text).failed();
        assert!(e.contains(word), "{text}: {e}");
    }
    assert_eq!(rig.all(), before);
    let e = rig.run_words(&["patch", "node", "nope", "-p", "{}"], "").failed();
    assert!(e.starts_with("resource does not exist: Node(nope)"), "{e}");
}

#[test]
fn manifests_are_judged_without_a_datastore() {
    let rig = Rig::new();
    let good = rig.file("good.yaml", SET);
    let bad = rig.file("bad.yaml", &SET.replace("10.0.0.0/8", "10.0.0.0/80"));
    let judge = |file: &str| {
        let args = ["calicoctl", "-c", "/nonexistent", "validate", "-f", file];
        crate::rig::run(&args, caracal_calicoctl::Io::process())
    };
    assert_eq!(
        judge(&good).ok(),
        "Successfully validated 1 'NetworkSet' resource(s)\n"
    );
    let e = judge(&bad).failed();
    assert!(
        e.contains(&bad) && e.contains("NetworkSet(shop/s)") && e.contains("spec.nets[0]"),
        "{e}"
    );
}

#[test]
fn columns_and_templates_of_the_users_own() {
    let rig = Rig::new();
    rig.run_reading(
        "apply -f -",
        &(SET.to_owned() + "---\n" + &SET.replace("name: s", "name: t")),
    )
    .ok();
    assert_eq!(
        rig.run(
            "get netsets -A -o custom-columns=name,NAMESPACE,ROLE:.metadata.labels.role,FIRST:.spec.nets[0]"
        )
        .ok(),
        "NAME   NAMESPACE   ROLE   FIRST        \n\
         s      shop        db     10.0.0.0/8   \n\
         t      shop        db     10.0.0.0/8   \n\n"
    );
    let e = rig.run("get netsets -A -o custom-columns=NOPE").failed();
    assert!(
        e.contains("NetworkSet has no column \"NOPE\"") && e.contains("NETS"),
        "{e}"
    );

    let template =
        "{{range .}}{{range .Items}}{{.ObjectMeta.Name}}={{join .Spec.Nets \",\"}}\n{{end}}{{end}}";
    let file = rig.file("t.tmpl", template);
    let made = rig
        .run(&format!("get netsets -A -o go-template-file={file}"))
        .ok();
    assert_eq!(made, "s=10.0.0.0/8\nt=10.0.0.0/8\n");
    // Objects by name are given as a list of objects.
    let line = "go-template={{range .}}{{.Kind}}/{{.ObjectMeta.Name}} {{end}}";
    let made = rig
        .run_words(&["get", "netsets", "t", "s", "-n", "shop", "-o", line], "")
        .ok();
    assert_eq!(made, "NetworkSet/t NetworkSet/s ");
    for (format, word) in [
        ("go-template={{range .}}", "no end"),
        ("go-template", "go-template=…"),
        ("go-template-file=/nonexistent", "/nonexistent"),
        ("custom-columns=A:", "path"),
        ("custom-columns=", "NAME,CIDR"),
        ("go-template={{.Nope.X}}", "Nope"),
    ] {
        let e = rig
            .run_words(&["get", "netsets", "-A", "-o", format], "")
            .failed();
        assert!(e.contains(word), "{format}: {e}");
    }
}
