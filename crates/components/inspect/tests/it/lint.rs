use serde_json::Value;
use tempfile::tempdir;

use crate::rig::{changed, example, file, run};

#[test]
fn the_example_is_clean() {
    let ran = run(&["lint", &example("lab")]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "Nothing was found.\n"),
        "{}",
        ran.err
    );
}

#[test]
fn findings_say_where_and_what_to_do() {
    let dir = tempdir().unwrap();
    let new = changed(
        dir.path(),
        &[(
            "selector: app == 'orders'\n  types",
            "selector: app == 'order'\n  types",
        )],
    );
    let ran = run(&["lint", &new]);
    let expected =
        "warning[selects-nothing] NetworkPolicy/shop/orders: no workload or host endpoint is selected by it
  fix: correct the selectors (labels, namespace, service account), or delete the policy
1 finding.
";
    assert_eq!((ran.code, ran.out.as_str()), (1, expected));
    let ran = run(&["lint", &new, "-o", "json"]);
    let value: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(value["findings"][0]["id"], "selects-nothing");
    assert_eq!(ran.code, 1);
}

#[test]
fn several_paths_are_one_state() {
    let dir = tempdir().unwrap();
    let extra = file(
        dir.path(),
        "extra.yaml",
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: nowhere.p, namespace: shop}\nspec: {tier: nowhere, selector: app == 'cart', types: [Ingress], ingress: [{action: Log}]}\n",
    );
    let ran = run(&["lint", &example("lab"), &extra]);
    assert_eq!(ran.code, 1);
    for part in [
        "error[missing-tier] NetworkPolicy/shop/nowhere.p",
        "error[log-only-drops] NetworkPolicy/shop/nowhere.p ingress[0]",
    ] {
        assert!(ran.out.contains(part), "{}", ran.out);
    }
}
