//! Documents in, objects and errors out.

use caracal_api::{
    Document, Kind, ManifestError, ManifestObject, Resource, ResourceKey, list_to_yaml, parse, to_yaml,
};
use proptest::prelude::*;

fn read(text: &str) -> Vec<Result<Document, ManifestError>> {
    parse("test.yaml", text)
}

fn calico(doc: &Result<Document, ManifestError>) -> &Resource {
    match &doc.as_ref().expect("reads").object {
        ManifestObject::Calico(r) => r,
        ManifestObject::Foreign(f) => panic!("{} is foreign", f.kind),
    }
}

fn refused(text: &str) -> String {
    let docs = read(text);
    assert_eq!(docs.len(), 1, "{docs:?}");
    docs[0].as_ref().expect_err("refused").to_string()
}

const POLICY: &str = "\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata:
  name: web
  namespace: prod
spec:
  selector: role == 'web'
  ingress:
  - action: Allow
    protocol: TCP
    source:
      nets: [10.0.0.0/8]
    destination:
      ports: [80, '443', 8000:8080, http]
";

#[test]
fn several_documents_of_several_groups() {
    let text = format!(
        "{POLICY}---\n# only a comment\n---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: prod, labels: {{a: }}}}\n---\napiVersion: projectcalico.org/v3\nkind: Tier\nmetadata:\n  name: t\nspec:\n  order: 5\n"
    );
    let docs = read(&text);
    assert_eq!(docs.len(), 3);
    assert_eq!(
        calico(&docs[0]).key(),
        ResourceKey::namespaced(Kind::NetworkPolicy, "prod", "web")
    );
    let second = docs[1].as_ref().expect("reads");
    let ManifestObject::Foreign(ns) = &second.object else {
        panic!("a Namespace is foreign")
    };
    assert_eq!(
        (ns.kind.as_str(), ns.metadata.labels["a"].as_str()),
        ("Namespace", "")
    );
    let third = docs[2].as_ref().expect("reads");
    assert_eq!((third.origin.document, third.origin.line), (4, 21));
    assert_eq!(third.describe(), "Tier t");
}

#[test]
fn one_bad_document_does_not_hide_the_others() {
    let docs = read(&format!("{POLICY}---\nkind: [\n---\n{POLICY}"));
    assert_eq!(
        docs.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true]
    );
    let e = docs[1].as_ref().expect_err("refused");
    assert_eq!((&*e.origin.source, e.origin.document), ("test.yaml", 2));
    assert!(e.problems[0].line.is_some());
}

#[test]
fn lists_of_both_shapes() {
    let typed = r#"{"apiVersion":"projectcalico.org/v3","kind":"TierList","metadata":{},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}"#;
    let plain = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: projectcalico.org/v3\n  kind: Tier\n  metadata: {name: a}\n- apiVersion: projectcalico.org/v3\n  kind: Tier\n  metadata: {name: b}\n";
    let array = r#"[{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"a"}},{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"b"}}]"#;
    for text in [typed, plain, array] {
        let docs = read(text);
        let names: Vec<&str> = docs.iter().map(|d| calico(d).metadata().name.as_str()).collect();
        assert_eq!(names, ["a", "b"], "{text}");
        assert_eq!(docs[1].as_ref().expect("reads").origin.item, Some(1));
    }
    assert_eq!(read("apiVersion: v1\nkind: List\nitems: []\n").len(), 0);
}

#[test]
fn errors_name_everything_a_user_needs() {
    let e = refused(&POLICY.replace("selector:", "seletcor:"));
    assert_eq!(
        e,
        "test.yaml, document 1, NetworkPolicy \"prod/web\": line 7: spec.seletcor: this field is not known; did you mean \"selector\"?"
    );
    let e = refused(&POLICY.replace("Allow", "Alow"));
    assert!(
        e.contains(
            "line 9: spec.ingress[0].action: \"Alow\" is not allowed here; allowed are Allow, Deny, Log, Pass"
        ),
        "{e}"
    );
    let e = refused(&POLICY.replace("8000:8080", "9000:8080"));
    assert!(e.contains("line 14: spec.ingress[0].destination.ports[2]"), "{e}");
    let e = refused(&POLICY.replace("kind: NetworkPolicy", "kind: NetworkPolcy"));
    assert!(
        e.contains("line 2: kind: ") && e.contains("\"NetworkPolicy\""),
        "{e}"
    );
    let e = refused(&POLICY.replace("projectcalico.org/v3", "crd.projectcalico.org/v1"));
    assert!(e.contains("projectcalico.org/v3 or networking.k8s.io/v1"), "{e}");
    let e = refused("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n");
    assert!(
        e.contains("not supported") && e.contains("networking.k8s.io/v1 NetworkPolicy"),
        "{e}"
    );
    let e = refused(&POLICY.replace("  name: web\n", ""));
    assert!(e.contains("without a name") && e.contains("metadata.name"), "{e}");
    let e = refused("metadata: {name: a}\n");
    assert!(
        e.contains("apiVersion is missing") && e.contains("kind is missing"),
        "{e}"
    );
    let e = refused(&POLICY.replace("  name: web\n", "  name: web\n  name: web2\n"));
    assert!(e.contains("name"), "{e}");
    let e = refused(&POLICY.replace("name: web", "name: 123"));
    assert!(e.contains("metadata.name: ") && e.contains("quotes"), "{e}");
    let e = refused("just text");
    assert!(e.contains("not an object"), "{e}");
    let e = refused(&format!("{POLICY}status: {{a: 1}}\n"));
    assert!(e.contains("status.a"), "{e}");
}

#[test]
fn syntax_errors_say_the_line_of_the_file() {
    let docs = read("a: 1\n---\nb: 1\n c: 2\n");
    let e = docs[1].as_ref().expect_err("refused").to_string();
    assert!(
        e.starts_with("test.yaml, document 2: line 4: ") && e.matches("line").count() == 1,
        "{e}"
    );
    let docs = read("{\"apiVersion\": \"v1\"}\n{\"kind\": }\n");
    let e = docs[1].as_ref().expect_err("refused").to_string();
    assert!(
        e.starts_with("test.yaml, document 2: line 2: ") && e.matches("line").count() == 1,
        "{e}"
    );
    let e = refused(&POLICY.replace("selector:", "seletcor:").replace("Allow", "Alow"));
    assert!(
        e.contains("spec.seletcor") && e.contains("spec.ingress[0].action"),
        "{e}"
    );
}

#[test]
fn every_unknown_field_is_listed() {
    let e = refused(
        &POLICY
            .replace("protocol: TCP", "protcol: TCP\n    net: []")
            .replace("selector:", "foo: 1\n  selector:"),
    );
    assert_eq!(e.lines().count(), 4, "{e}");
    for field in ["spec.foo", "spec.ingress[0].protcol", "spec.ingress[0].net"] {
        assert!(e.contains(field), "{e}");
    }
}

#[test]
fn what_kubectl_adds_is_no_error() {
    let docs = read(&POLICY.replace(
        "  name: web\n",
        "  name: web\n  managedFields: [{manager: kubectl}]\n  selfLink: /x\n  creationTimestamp: null\n",
    ));
    assert!(docs[0].is_ok(), "{docs:?}");
}

#[test]
fn yaml_output_is_read_back() {
    let docs = read(POLICY);
    let mut r = calico(&docs[0]).clone();
    r.metadata_mut()
        .annotations
        .insert("long".into(), format!("{}: {}", "word ".repeat(40), "yes"));
    r.metadata_mut().labels.insert("on".into(), "0123".into());
    let text = to_yaml(&r);
    assert!(
        text.starts_with("apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\n"),
        "{text}"
    );
    assert_eq!(calico(&read(&text)[0]), &r, "{text}");
    let list = list_to_yaml(&[r.clone(), r.clone()]);
    assert!(list.contains("kind: NetworkPolicyList"), "{list}");
    assert_eq!(read(&list).iter().map(calico).collect::<Vec<_>>(), [&r, &r]);
}

#[test]
fn large_files_are_read() {
    let text = format!("{POLICY}---\n").repeat(1_100);
    assert_eq!(read(&text).iter().filter(|d| d.is_ok()).count(), 1_100);
    let nets: String = (0..260_000)
        .map(|i| format!("  - 10.{}.{}.{}/32\n", i >> 16, (i >> 8) & 255, i & 255))
        .collect();
    let set = format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {{name: a}}\nspec:\n  nets:\n{nets}"
    );
    assert!(read(&set)[0].is_ok());
}

#[test]
fn depth_and_alias_bombs_are_refused_without_harm() {
    for text in [
        "[".repeat(100_000),
        "a: ".repeat(10_000),
        "{\"a\":".repeat(100_000),
    ] {
        assert!(read(&text).iter().all(Result::is_err));
    }
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","));
    }
    assert!(read(&bomb).iter().all(Result::is_err));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn no_damaged_manifest_makes_the_reader_panic(at in 0..POLICY.len(), cut in 0..40usize, with in "[-:\\[\\]{}&*!|>'\"#\n a0]{0,6}") {
        let end = (at + cut).min(POLICY.len());
        let _ = read(&format!("{}{with}{}", &POLICY[..at], &POLICY[end..]));
    }
}
