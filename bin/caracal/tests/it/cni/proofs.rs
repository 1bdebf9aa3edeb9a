//! The pages about addresses and plugins name a test for each thing that they promise, and each of these exists.

use std::{collections::BTreeSet, fs, path::Path};

fn functions(dir: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            // A test is a function behind an attribute that says so, or inside a macro of property tests.
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            for (i, line) in lines.iter().enumerate() {
                let Some(rest) = line.strip_prefix("fn ") else {
                    continue;
                };
                let before = lines[..i]
                    .iter()
                    .rev()
                    .take_while(|l| l.starts_with('#') || l.starts_with("//"));
                if before.into_iter().any(|l| *l == "#[test]") {
                    into.extend(rest.split(['(', '<']).next().map(str::to_owned));
                }
            }
        }
    }
}

#[test]
fn each_promise_of_the_docs_has_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = BTreeSet::new();
    for dir in ["crates", "bin", "testkit"] {
        functions(&root.join(dir), &mut tests);
    }
    for (page, least) in [("docs/ipam.md", 15), ("docs/cni.md", 25)] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        let (_, shown) = text.split_once("\n## What shows it\n").expect(page);
        let rows: Vec<&str> = shown
            .lines()
            .take_while(|l| !l.starts_with("## "))
            .filter(|l| l.starts_with('|') && !l.starts_with("|-"))
            .skip(1)
            .collect();
        assert!(rows.len() >= least, "{page} has {} rows", rows.len());
        for row in rows {
            let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
            let named: Vec<&str> = cells[cells.len() - 1].split('`').skip(1).step_by(2).collect();
            assert!(!named.is_empty(), "{page}: no test: {row}");
            for test in named {
                assert!(tests.contains(test), "{page}: there is no test {test}: {row}");
            }
        }
    }
}
