//! `deploy/crds`: the CustomResourceDefinitions of both API groups, from the types.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use caracal_api::{Kind, value_to_yaml};
use caracal_config::Param;
use caracal_schema::{Group, crd};

use crate::Findings;

const FOLDER: &str = "deploy/crds";
const HEAD: &str = "# Made by `cargo xtask crds` from crates/model/schema. Do not edit.\n";

/// Writes all definitions; with `check` it only says which are not as they should be.
pub(crate) fn run(root: &Path, check: bool) -> Result<Findings> {
    let mut findings = Findings::default();
    let wanted = files(root)?;
    let mut there = present(root)?;
    for (path, text) in &wanted {
        let full = root.join(path);
        if there.remove(path).as_deref() == Some(text) {
            continue;
        }
        if check {
            findings
                .errors
                .push(format!("{} is stale: run `cargo xtask crds`", path.display()));
            continue;
        }
        if let Some(folder) = full.parent() {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        fs::write(&full, text).with_context(|| format!("writing {}", full.display()))?;
    }
    for path in there.keys() {
        if check {
            findings.errors.push(format!(
                "{} is of no kind: run `cargo xtask crds`",
                path.display()
            ));
        } else {
            fs::remove_file(root.join(path)).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(findings)
}

/// The definitions by file.
fn files(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let docs = docs(root)?;
    let describe = |type_name: &str, field: &str| describe(&docs, type_name, field);
    let mut files = BTreeMap::new();
    for group in Group::ALL {
        for kind in Kind::ALL {
            if let Some(definition) = crd(*kind, group, &describe) {
                let name = format!("{}_{}.yaml", group.name(), group.names(*kind).1);
                let path = Path::new(FOLDER).join(group.name()).join(name);
                files.insert(path, format!("{HEAD}{}", value_to_yaml(&definition)));
            }
        }
    }
    Ok(files)
}

/// The files that are there.
fn present(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    for group in Group::ALL {
        let folder = Path::new(FOLDER).join(group.name());
        let Ok(entries) = fs::read_dir(root.join(&folder)) else {
            continue;
        };
        for entry in entries {
            let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("reading {}", entry.path().display()))?;
            files.insert(folder.join(entry.file_name()), text);
        }
    }
    Ok(files)
}

type Docs = HashMap<(String, String), String>;

/// What is said of a type's field: by its documentation, or for a parameter by the table.
fn describe(docs: &Docs, type_name: &str, field: &str) -> Option<String> {
    let text = match (type_name, field) {
        ("", "apiVersion") => "Group and version of the object.".to_owned(),
        ("", "kind") => "The kind of the object.".to_owned(),
        ("", "spec") => "What is wanted.".to_owned(),
        ("", "status") => "What is; written by controllers only.".to_owned(),
        ("", "nodeSelector") => {
            "The nodes that the object is for; only where its name is neither default nor node.NAME."
                .to_owned()
        }
        ("Param", name) => parameter(name)?,
        (type_name, field) => {
            let of = |t: &str| docs.get(&(t.to_owned(), field.to_owned()));
            // Types that a macro makes have their fields' documentation there.
            of(type_name).or_else(|| of("$name"))?.clone()
        }
    };
    Some(text)
}

fn parameter(name: &str) -> Option<String> {
    let param = Param::by_name(name)?;
    let default = match param.default {
        "" => "nothing".to_owned(),
        text => text.to_owned(),
    };
    Some(format!(
        "The agent's parameter {name}, also {} in its environment. Default: {default}.",
        param.env()
    ))
}

/// The documentation of the fields of `caracal-api`'s types.
fn docs(root: &Path) -> Result<Docs> {
    let folder = root.join("crates/model/api/src");
    let mut docs = Docs::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            collect(&text, &mut docs);
        }
    }
    Ok(docs)
}

/// Takes the documented fields out of a source text, by the project's own formatting.
fn collect(source: &str, docs: &mut Docs) {
    let mut type_name = String::new();
    let mut doc: Vec<&str> = Vec::new();
    let mut in_attribute = false;
    for line in source.lines().map(str::trim) {
        if in_attribute {
            in_attribute = !line.ends_with(']');
            continue;
        }
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
            continue;
        }
        if line.starts_with("#[") {
            in_attribute = !line.ends_with(']');
            continue;
        }
        if let Some(name) = line.strip_prefix("pub struct ") {
            type_name = name.split([' ', '<', ';']).next().unwrap_or_default().to_owned();
        } else if line.starts_with("macro_rules!") {
            type_name = "$name".to_owned();
        }
        let field = line.strip_prefix("pub ").unwrap_or(line);
        if let Some((field, _)) = field.split_once(": ")
            && field
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && !doc.is_empty()
        {
            let key = (type_name.clone(), field.to_owned());
            docs.entry(key).or_insert_with(|| plain(&doc.join(" ")));
        }
        doc.clear();
    }
}

/// Documentation without the marks of links and code.
fn plain(doc: &str) -> String {
    doc.replace("[`", "").replace("`]", "").replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_definitions_are_current() {
        let root = crate::metadata::root().unwrap();
        let findings = run(&root, true).unwrap();
        assert!(findings.errors.is_empty(), "{}", findings.errors.join("\n"));
    }

    #[test]
    fn every_field_has_its_description() {
        let root = crate::metadata::root().unwrap();
        let docs = docs(&root).unwrap();
        let missing = std::cell::RefCell::new(Vec::new());
        let describe = |t: &str, f: &str| {
            let text = describe(&docs, t, f);
            // The counters of this report say by their names what they count.
            if text.is_none() && t != "BgpReport" {
                missing.borrow_mut().push(format!("{t}.{f}"));
            }
            text
        };
        for kind in Kind::ALL {
            let _ = crd(*kind, Group::V3, &describe);
        }
        let missing = missing.into_inner();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn documentation_is_found_and_belongs_to_its_field() {
        let mut docs = Docs::new();
        let source = "/// The type.\npub struct A {\n    /// First,\n    /// and [`B`].\n    #[serde(\n        rename = \"x\"\n    )]\n    pub one: u8,\n    pub two: u8,\n}";
        collect(source, &mut docs);
        assert_eq!(docs.len(), 1);
        assert_eq!(docs[&("A".to_owned(), "one".to_owned())], "First, and B.");
    }
}
