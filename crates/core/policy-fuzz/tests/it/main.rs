//! Reference, engine and dataplane agree on random cases; and a reference with a mistake is caught.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::{collections::BTreeSet, fs, path::Path};

mod agree;
mod mistakes;
mod sentences;

/// Each sentence by the model of the kernel; the lab's tests send the same packets through a kernel.
#[test]
fn every_sentence_holds_in_the_model() {
    use caracal_policy_fuzz::{Case, Model, Reference, check};
    for (name, sentence) in sentences::ALL {
        println!("-- {name}");
        let mut judge = |case: &Case| {
            let case = &*case.in_force();
            let (_, difference) = check(case, &mut Model::default()).unwrap();
            if let Some(difference) = difference {
                panic!("{name}: {difference}\n{}", case.to_yaml());
            }
            Reference::new(case, None).allows(&case.trips[0])
        };
        sentence(&mut sentences::World::new(&mut judge));
    }
}

/// The tests below a folder.
fn names(dir: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            names(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            // A test, not any function.
            for pair in lines.windows(2).filter(|pair| pair[0].trim() == "#[test]") {
                let name = pair[1]
                    .trim()
                    .strip_prefix("fn ")
                    .and_then(|rest| rest.split('(').next());
                into.extend(name.map(str::to_owned));
            }
        }
    }
}

/// `docs/policy-semantics.md` names tests that exist, and every sentence.
#[test]
fn the_page_of_sentences_and_the_tests_agree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let mut tests = BTreeSet::new();
    for folder in [
        "crates/components/felix/tests",
        "crates/components/lab/tests",
        "crates/drivers/nft/tests",
    ] {
        names(&root.join(folder), &mut tests);
    }
    names(&root.join("crates/core/policy-fuzz/tests"), &mut tests);
    let sentences: BTreeSet<&str> = sentences::ALL.iter().map(|(name, _)| *name).collect();
    let page = fs::read_to_string(root.join("docs/policy-semantics.md")).unwrap();
    let mut named = BTreeSet::new();
    for row in page.lines().filter(|l| l.starts_with("| 3.")) {
        let test = row
            .rsplit('`')
            .nth(1)
            .unwrap_or_else(|| panic!("no test in {row}"));
        assert!(
            sentences.contains(test) || tests.contains(test),
            "there is no test {test}"
        );
        named.insert(test);
    }
    let missing: Vec<&&str> = sentences.iter().filter(|s| !named.contains(*s)).collect();
    assert!(missing.is_empty(), "docs/policy-semantics.md lacks {missing:?}");
    assert!(named.len() >= 60);
}

/// So does the list of bad input in `docs/policy.md`.
#[test]
fn the_list_of_bad_input_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let mut tests = BTreeSet::new();
    for folder in ["components/felix", "core/analysis", "model/api", "model/schema"] {
        names(&root.join("crates").join(folder), &mut tests);
    }
    let page = fs::read_to_string(root.join("docs/policy.md")).unwrap();
    let (_, list) = page.split_once("## Bad input").unwrap();
    let rows: Vec<&str> = list.lines().filter(|l| l.starts_with("| ")).skip(1).collect();
    for row in &rows {
        let column = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let named: Vec<&str> = column.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test in {row}");
        for test in named {
            assert!(tests.contains(test), "there is no test {test}");
        }
    }
    assert!(rows.len() >= 10);
}
