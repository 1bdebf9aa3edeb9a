use std::fs;

use serde_json::Value;
use tempfile::tempdir;

use crate::rig::{changed, example, run};

fn suite() -> String {
    example("policy-tests/shop.yaml")
}

#[test]
fn the_example_keeps_its_promises() {
    let ran = run(&["test", &suite(), "-f", &example("lab")]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("9 of 9 assertions hold"), "{}", ran.out);
    assert!(
        ran.out
            .contains("not tested: GlobalNetworkPolicy/platform.metrics ingress[0]"),
        "{}",
        ran.out
    );
    let strict = run(&["test", &suite(), "-f", &example("lab"), "--min-coverage", "100"]);
    assert_eq!(strict.code, 1);
    assert!(strict.err.contains("wanted is 100 %"), "{}", strict.err);
}

#[test]
fn a_broken_promise_is_told_with_its_reason() {
    let dir = tempdir().unwrap();
    let broken = changed(dir.path(), &[("quarantine == 'yes'", "quarantine == 'no'")]);
    let junit = dir.path().join("out.xml");
    let ran = run(&[
        "test",
        &suite(),
        "-f",
        &broken,
        "--junit",
        &junit.display().to_string(),
    ]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("FAILED  default/intruder"), "{}", ran.out);
    assert!(ran.out.contains("8 of 9 assertions hold"), "{}", ran.out);
    let xml = fs::read_to_string(&junit).unwrap();
    assert!(xml.contains("<testsuites tests=\"9\" failures=\"1\">"), "{xml}");
    assert!(
        xml.contains("<failure message=\"expected deny: default/intruder -&gt; "),
        "{xml}"
    );
    let printed = run(&["test", &suite(), "-f", &broken, "-o", "junit"]);
    assert_eq!((printed.code, printed.out), (1, xml));
    let json = run(&["test", &suite(), "-f", &broken, "-o", "json"]);
    let value: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(value["outcomes"][8]["passed"], false);
    assert_eq!(value["outcomes"][0]["passed"], true);
}
