use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use caracal_testkit::needs;
use serde_json::Value;
use tempfile::tempdir;

use crate::rig::{changed, example, file, run};

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

/// What Jenkins' schema of the format (junit-10.xsd) says of the elements used here, as a program for Python's reader of XML:
/// which attributes and children each may have, which it must have, and that the counts are those of the elements.
const CHECK: &str = r#"
import sys, xml.etree.ElementTree as tree
may = {
    "testsuites": ({"name", "time", "tests", "failures", "disabled", "errors"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id", "package"},
                  {"properties", "testcase", "system-out", "system-err"}),
    "testcase": ({"name", "assertions", "time", "classname", "status"}, {"skipped", "error", "failure", "system-out", "system-err"}),
    "failure": ({"type", "message"}, set()),
    "system-out": (set(), set()),
}
must = {"testsuite": {"name", "tests"}, "testcase": {"name", "classname"}}
root = tree.fromstring(sys.stdin.buffer.read())
assert root.tag == "testsuites", root.tag
for e in root.iter():
    attributes, children = may[e.tag]
    assert set(e.attrib) <= attributes, (e.tag, e.attrib)
    assert must.get(e.tag, set()) <= set(e.attrib), (e.tag, e.attrib)
    assert {c.tag for c in e} <= children, e.tag
for e in [root] + root.findall("testsuite"):
    assert int(e.get("tests")) == len(list(e.iter("testcase"))), "tests"
    assert int(e.get("failures")) == len(list(e.iter("failure"))), "failures"
for case in root.iter("testcase"):
    print(repr(case.get("name")), len(case.findall("failure")))
"#;

#[test]
fn junit_is_what_its_schema_says_whatever_the_names() {
    needs!("python3");
    let dir = tempdir().unwrap();
    let odd = file(
        dir.path(),
        "odd.yaml",
        "tests:\n- {name: \"a <b> & \\\"c\\\" 'd' ]]> \\e\\0 \\u00fc\", from: default/visitor, to: shop/frontend, port: http, expect: deny}\n\
         - {name: \"\", from: default/visitor, to: shop/frontend, port: http, expect: allow}\n\
         - {from: {selector: \"app != 'cart'\"}, to: shop/orders, port: 5432, expect: allow}\n",
    );
    let ran = run(&["test", &odd, &suite(), "-f", &example("lab"), "-o", "junit"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let mut python = Command::new("python3")
        .args(["-c", CHECK])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(ran.out.as_bytes())
        .unwrap();
    let read = python.wait_with_output().unwrap();
    assert!(read.status.success(), "{read:?}\n{}", ran.out);
    let names = String::from_utf8(read.stdout).unwrap();
    let lines: Vec<&str> = names.lines().collect();
    assert_eq!(lines.len(), 12, "{names}");
    assert!(
        lines[0].contains("a <b> & \"c\" \\'d\\' ]]> ") && lines[0].ends_with(" 1"),
        "{names}"
    );
    assert!(lines[1].ends_with(" 0") && lines[2].ends_with(" 1"), "{names}");
}
