//! Who may depend on whom, and what a pure crate may touch.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::metadata::{load, packages, text};
use crate::{Findings, source};

mod uses;

/// The floor that each folder holds.
const FOLDERS: &[(&str, u64)] = &[
    ("crates/ground", 0),
    ("crates/model", 1),
    ("crates/core", 2),
    ("crates/drivers", 3),
    ("crates/components", 4),
    ("bin", 5),
];

const COMPONENTS: u64 = 4;
/// The highest floor that is pure.
const PURE: u64 = 2;

/// Crates outside the house: tools and tests, which may use anything and which only tests may use.
const ASIDE: &[&str] = &["caracal-testkit", "xtask"];

/// Libraries that touch the machine, the network or a clock.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio-stream",
    "nix",
    "libc",
    "kube",
    "tonic",
    "tonic-prost",
    "redb",
    "axum",
    "hyper",
    "hyper-util",
    "tower",
    "rand",
    "uuid",
    "jiff",
    "tempfile",
    "tracing-subscriber",
    "metrics-exporter-prometheus",
];

/// The generated protobuf code names tonic's types; nothing else in those crates may.
const PROTOBUF: &[&str] = &["caracal-wire", "caracal-agent-api"];

/// Names that say nothing about what is inside.
const NAMELESS: &[&str] = &["util", "utils", "common", "helpers", "helper", "misc", "shared"];

struct Crate<'a> {
    package: &'a Value,
    floor: u64,
    beside: Vec<&'a str>,
}

/// Checks the manifests and the source of the pure crates.
pub(crate) fn check(root: &Path) -> Result<Findings> {
    let metadata = load(root, false)?;
    let mut findings = Findings::default();
    let crates = house(&metadata, root, &mut findings.errors);
    for (name, this) in &crates {
        dependencies(name, this, &crates, &mut findings);
        if this.floor <= PURE {
            let dir = Path::new(text(this.package, "manifest_path"))
                .parent()
                .context("a manifest lies in a folder")?;
            for file in source::product(dir)? {
                let path = file.path.strip_prefix(root).unwrap_or(&file.path).display();
                for touch in uses::impure(&file.code) {
                    findings.errors.push(format!(
                        "{path}:{} uses {}; {name} is pure",
                        touch.line, touch.path
                    ));
                }
            }
        }
    }
    Ok(findings)
}

/// The crates of the five floors, with what their manifests say.
fn house<'a>(metadata: &'a Value, root: &Path, errors: &mut Vec<String>) -> BTreeMap<&'a str, Crate<'a>> {
    let mut crates = BTreeMap::new();
    for package in packages(metadata) {
        let name = text(package, "name");
        if ASIDE.contains(&name) {
            continue;
        }
        let short = name.strip_prefix("caracal-").unwrap_or(name);
        if short.split('-').any(|part| NAMELESS.contains(&part)) {
            errors.push(format!("{name}: name a crate for what it is"));
        }
        let own = &package["metadata"];
        let Some(floor) = own["floor"].as_u64() else {
            errors.push(format!("{name}: its Cargo.toml names no package.metadata.floor"));
            continue;
        };
        let path = Path::new(text(package, "manifest_path"));
        let folder = FOLDERS
            .iter()
            .find(|(folder, _)| path.starts_with(root.join(folder)));
        match folder {
            Some((_, of_folder)) if *of_folder == floor => {}
            Some((folder, of_folder)) => {
                errors.push(format!(
                    "{name} says floor {floor} and lies in {folder}, which is floor {of_folder}"
                ));
            }
            None => errors.push(format!("{name} lies in none of the floors' folders")),
        }
        let beside = own["beside"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        crates.insert(
            name,
            Crate {
                package,
                floor,
                beside,
            },
        );
    }
    crates
}

/// Whether a dependency is what generated protobuf code needs.
fn generated(name: &str, dependency: &str) -> bool {
    PROTOBUF.contains(&name) && dependency.starts_with("tonic")
}

fn dependencies(name: &str, this: &Crate<'_>, crates: &BTreeMap<&str, Crate<'_>>, findings: &mut Findings) {
    let mut used = Vec::new();
    for dependency in this.package["dependencies"].as_array().into_iter().flatten() {
        let other = text(dependency, "name");
        let for_tests = text(dependency, "kind") == "dev";
        if let Some(theirs) = crates.get(other) {
            if theirs.floor > this.floor {
                let (a, b) = (this.floor, theirs.floor);
                findings.errors.push(format!(
                    "{name} (floor {a}) depends upwards on {other} (floor {b})"
                ));
            } else if theirs.floor == this.floor && !for_tests {
                let short = other.strip_prefix("caracal-").unwrap_or(other);
                used.push(short);
                if this.floor == COMPONENTS {
                    findings.errors.push(format!(
                        "{name} depends on {other}: components never depend on one another"
                    ));
                } else if !this.beside.contains(&short) {
                    findings.errors.push(format!(
                        "{name} depends sideways on {other}, which its package.metadata.beside does not list"
                    ));
                }
            }
        } else if ASIDE.contains(&other) && !for_tests {
            findings
                .errors
                .push(format!("{name} depends on {other}, which is for tests only"));
        } else if this.floor <= PURE && !for_tests && IMPURE.contains(&other) && !generated(name, other) {
            findings.errors.push(format!(
                "{name} (floor {}) is pure and depends on {other}",
                this.floor
            ));
        }
    }
    for listed in this.beside.iter().filter(|b| !used.contains(b)) {
        findings
            .warnings
            .push(format!("{name} lists {listed} in beside and does not use it"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(
        folder: &str,
        name: &str,
        floor: u64,
        beside: &[&str],
        dependencies: &[(&str, Option<&str>)],
    ) -> Value {
        let dependencies: Vec<_> = dependencies
            .iter()
            .map(|(name, kind)| json!({"name": name, "kind": kind}))
            .collect();
        json!({
            "name": name,
            "manifest_path": format!("/w/{folder}/Cargo.toml"),
            "metadata": {"floor": floor, "beside": beside},
            "dependencies": dependencies,
        })
    }

    fn errors(packages: &[Value]) -> Vec<String> {
        let metadata = json!({"packages": packages});
        let mut findings = Findings::default();
        let crates = house(&metadata, Path::new("/w"), &mut findings.errors);
        for (name, this) in &crates {
            dependencies(name, this, &crates, &mut findings);
        }
        findings.errors
    }

    #[test]
    fn a_house_in_order_passes() {
        let packages = [
            package(
                "crates/ground/ids",
                "caracal-ids",
                0,
                &[],
                &[("serde", None), ("tokio", Some("dev"))],
            ),
            package(
                "crates/model/api",
                "caracal-api",
                1,
                &[],
                &[("caracal-ids", None), ("caracal-testkit", Some("dev"))],
            ),
            package(
                "crates/model/wire",
                "caracal-wire",
                1,
                &["api"],
                &[("tonic", None), ("caracal-api", None)],
            ),
            package(
                "bin/caracal",
                "caracal",
                5,
                &[],
                &[("caracal-api", None), ("tokio", None)],
            ),
        ];
        assert_eq!(errors(&packages), [""; 0]);
    }

    #[test]
    fn each_rule_has_its_error() {
        let ids = package("crates/ground/ids", "caracal-ids", 0, &[], &[]);
        let felix = package("crates/components/felix", "caracal-felix", 4, &[], &[]);
        for (wrong, words) in [
            (
                package("crates/ground/a", "caracal-a", 0, &[], &[("caracal-felix", None)]),
                "depends upwards",
            ),
            (
                package(
                    "crates/ground/a",
                    "caracal-a",
                    0,
                    &[],
                    &[("caracal-felix", Some("dev"))],
                ),
                "depends upwards",
            ),
            (
                package("crates/ground/a", "caracal-a", 0, &[], &[("caracal-ids", None)]),
                "does not list",
            ),
            (
                package(
                    "crates/components/a",
                    "caracal-a",
                    4,
                    &["felix"],
                    &[("caracal-felix", None)],
                ),
                "never depend",
            ),
            (
                package("crates/core/a", "caracal-a", 2, &[], &[("tokio", None)]),
                "is pure and depends on tokio",
            ),
            (
                package("crates/core/a", "caracal-a", 2, &[], &[("tonic", None)]),
                "is pure and depends on tonic",
            ),
            (
                package("crates/core/a", "caracal-a", 3, &[], &[]),
                "says floor 3 and lies in crates/core",
            ),
            (
                package("elsewhere/a", "caracal-a", 3, &[], &[]),
                "in none of the floors' folders",
            ),
            (
                package("crates/core/a", "caracal-net-util", 2, &[], &[]),
                "name a crate for what it is",
            ),
            (
                package("crates/core/a", "caracal-a", 2, &[], &[("caracal-testkit", None)]),
                "for tests only",
            ),
            (
                json!({"name": "caracal-a", "manifest_path": "/w/crates/core/a/Cargo.toml"}),
                "names no package.metadata.floor",
            ),
        ] {
            let found = errors(&[ids.clone(), felix.clone(), wrong]);
            assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
        }
    }
}
