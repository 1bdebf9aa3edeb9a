use std::io::ErrorKind;

use caracal_inspect::{Io, policy_with};
use tempfile::tempdir;

use crate::rig::{Broken, example, file, line, run};

#[test]
fn what_cannot_be_read_is_named() {
    let dir = tempdir().unwrap();
    let lab = example("lab");
    let empty = dir.path().display().to_string();
    let bad = file(dir.path(), "bad.txt", "kind: [\n");
    let mistake = file(
        dir.path(),
        "m.txt",
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: m}\nspec: {selectr: all()}\n",
    );
    let no_tests = file(dir.path(), "t.txt", "tests: []\n");
    for (args, part) in [
        (vec!["diff", "/nonexistent", &lab], "cannot read /nonexistent"),
        (vec!["diff", &lab, &empty], "holds no .yaml"),
        (vec!["lint", &bad], "bad.txt"),
        (vec!["lint", &mistake], "spec.selectr"),
        (
            vec!["test", "/nonexistent", "-f", &lab],
            "cannot read /nonexistent",
        ),
        (vec!["test", &no_tests, "-f", &lab], "there is no assertion"),
        (vec!["test", &bad, "-f", &lab], "bad.txt"),
        (vec!["diff", "--nonsense"], "--nonsense"),
        (vec!["diff", &lab], "<NEW>"),
        (
            vec!["lint", "--config", "/nonexistent.cfg", "live"],
            "/nonexistent.cfg",
        ),
    ] {
        let ran = run(&args);
        assert_eq!(ran.code, 2, "{args:?}");
        assert!(
            ran.out.is_empty() && ran.err.contains(part),
            "{args:?}: {}",
            ran.err
        );
    }
}

#[test]
fn other_kinds_of_a_directory_are_left_out_and_told() {
    let dir = tempdir().unwrap();
    file(
        dir.path(),
        "a.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c}]}\n",
    );
    file(dir.path(), "README.md", "not a manifest");
    let ran = run(&["lint", &dir.path().display().to_string()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("left out") && ran.err.contains("Deployment d"),
        "{}",
        ran.err
    );
}

#[test]
fn a_full_disk_is_an_error_and_a_reader_that_went_away_is_quiet() {
    // A reader that has seen enough does not change the verdict.
    for (kind, code) in [(ErrorKind::StorageFull, 2), (ErrorKind::BrokenPipe, 0)] {
        let mut errors = Vec::new();
        let io = Io {
            input: &mut std::io::empty(),
            output: &mut Broken(kind),
            errors: &mut errors,
            store: None,
        };
        assert_eq!(policy_with(line(&["lint", &example("lab")]), io), code);
        assert_eq!(errors.is_empty(), code == 0);
    }
    let dir = tempdir().unwrap();
    let nowhere = dir.path().join("no/such/folder.xml").display().to_string();
    let ran = run(&[
        "test",
        &example("policy-tests/shop.yaml"),
        "-f",
        &example("lab"),
        "--junit",
        &nowhere,
    ]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("writing") && ran.err.contains("folder.xml"),
        "{}",
        ran.err
    );
}
