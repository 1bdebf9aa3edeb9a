//! The pages about addresses and plugins name a test for each thing that they promise, and each of these exists. Each
//! figure that a program of ours prints has its line in a page, and no page has one that there is not.

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
                let Some(rest) = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ") else {
                    continue;
                };
                let before = lines[..i]
                    .iter()
                    .rev()
                    .take_while(|l| l.starts_with('#') || l.starts_with("//"));
                if before
                    .into_iter()
                    .any(|l| *l == "#[test]" || l.starts_with("#[tokio::test"))
                {
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

/// How the names of our figures begin, Calico's among them.
const FIGURES: [&str; 8] = [
    "felix_",
    "caracal_",
    "process_",
    "cnx_policy_",
    "calico_denied_",
    "ipam_allocations_",
    "ipam_blocks",
    "ipam_ippool_",
];

fn is_figure(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    name.bytes().all(plain) && !name.ends_with('_') && FIGURES.iter().any(|f| name.starts_with(f))
}

/// The figures that the sources name, in text of their own.
fn of_sources(dir: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            of_sources(&path, into);
        } else if name.ends_with(".rs") && !name.contains("tests") {
            let text = fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            // A text, or a macro's; labels and the parts of a histogram come after the name.
            let names = product
                .split('"')
                .skip(1)
                .map(|t| t.split('{').next().unwrap_or_default());
            into.extend(names.filter(|n| is_figure(n)).map(str::to_owned));
        }
    }
}

/// The figures of a page: `a_{b,c}` is two of them, `…_d` begins like the one before it, and labels may follow.
fn of_page(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|l| !l.trim_start().starts_with("```")) {
        let mut before = String::new();
        for span in line.split('`').skip(1).step_by(2) {
            let span = match span.strip_prefix("…_") {
                Some(rest) => {
                    let begin: Vec<&str> = before.splitn(3, '_').take(2).collect();
                    format!("{}_{rest}", begin.join("_"))
                }
                None => span.to_owned(),
            };
            let (first, rest) = span.split_once('{').unwrap_or((&span, ""));
            let (list, last) = rest.split_once('}').unwrap_or_default();
            let names: Vec<String> = match first.ends_with('_') {
                true => list.split(',').map(|m| format!("{first}{m}{last}")).collect(),
                false => vec![first.to_owned()],
            };
            for name in names.into_iter().filter(|n| is_figure(n)) {
                before.clone_from(&name);
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn each_figure_of_the_programs_is_in_the_docs_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut printed = BTreeSet::new();
    for dir in ["crates", "bin"] {
        of_sources(&root.join(dir), &mut printed);
    }
    // A histogram's parts are written out where it is printed by hand.
    let parts = ["_bucket", "_sum", "_count"];
    let whole = |n: &String| {
        parts
            .iter()
            .any(|p| n.strip_suffix(p).is_some_and(|w| printed.contains(w)))
    };
    let printed: BTreeSet<String> = printed.iter().filter(|n| !whole(n)).cloned().collect();
    assert!(printed.len() > 60, "{printed:?}");
    let mut told = BTreeSet::new();
    for page in ["agent", "ipam", "cni", "store"] {
        let text = fs::read_to_string(root.join(format!("docs/{page}.md"))).unwrap();
        told.extend(of_page(&text));
    }
    let missing: Vec<_> = printed.difference(&told).collect();
    assert!(missing.is_empty(), "in no page: {missing:?}");
    let invented: Vec<_> = told.difference(&printed).collect();
    assert!(invented.is_empty(), "printed by nobody: {invented:?}");
    // The agent's page has all of the agent's.
    let agent = of_page(&fs::read_to_string(root.join("docs/agent.md")).unwrap());
    let others = ["caracal_store_", "caracal_ipam_", "ipam_"];
    let own = printed
        .iter()
        .filter(|n| !others.iter().any(|o| n.starts_with(o)));
    let missing: Vec<_> = own.filter(|n| !agent.contains(*n)).collect();
    assert!(missing.is_empty(), "not in docs/agent.md: {missing:?}");
}
