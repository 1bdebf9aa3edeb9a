//! Tools whose output goes nowhere: a disk that is full is an error that is told, a reader that left is none.

use std::fs::OpenOptions;
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_caracal");

/// The tools that need no cluster, and their exit codes when the reader has left.
const TOOLS: &[(&str, i32)] = &[
    ("ctl version --client", 0),
    ("ctl validate -f SHOP/policies.yaml", 0),
    ("ctl completion bash", 0),
    ("query version", 0),
    ("query -f SHOP eval all()", 0),
    ("query -f SHOP endpoint shop -o json", 0),
    ("why -f SHOP shop/frontend shop/cart http/tcp", 0),
    ("why -f SHOP shop/frontend shop/cart http/tcp -o json", 0),
    ("why -f SHOP shop/cart shop/orders metrics/tcp -o yaml", 1),
    ("policy lint SHOP", 0),
    ("policy diff SHOP SHOP", 0),
];

fn shop() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/lab").to_owned()
}

fn command(line: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    let words = line.split(' ').map(|w| match w.strip_prefix("SHOP") {
        // A file with Calico's own objects alone, whatever it is called.
        Some("/policies.yaml") => calico_only(),
        Some(rest) => shop() + rest,
        None => w.to_owned(),
    });
    command.args(words).stdin(Stdio::null());
    command
}

/// A manifest of the examples that holds nothing of Kubernetes.
fn calico_only() -> String {
    let dir = std::fs::read_dir(shop()).expect("the examples are there");
    let mut files: Vec<_> = dir.filter_map(|e| Some(e.ok()?.path())).collect();
    files.sort();
    let pure = files.into_iter().find(|f| {
        let text = std::fs::read_to_string(f).unwrap_or_default();
        text.contains("projectcalico.org/v3")
            && !text.contains("apiVersion: v1")
            && !text.contains("networking.k8s.io")
    });
    pure.expect("one has Calico's objects alone")
        .display()
        .to_string()
}

fn told(line: &str, output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!errors.contains("panicked"), "{line}: {errors}");
    errors
}

#[test]
fn a_full_disk_is_an_error() {
    for (line, _) in TOOLS {
        let full = OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("Linux has it");
        let output = command(line).stdout(full).output().expect("the program starts");
        let errors = told(line, &output);
        assert!(
            !output.status.success() && output.status.code().is_some() && errors.contains("No space left"),
            "{line}: {:?} {errors}",
            output.status
        );
    }
}

#[test]
fn a_reader_that_left_is_none() {
    for (line, code) in TOOLS {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = command(line).stdout(writer).output().expect("the program starts");
        let errors = told(line, &output);
        assert!(!errors.contains("cannot write"), "{line}: {errors}");
        assert_eq!(output.status.code(), Some(*code), "{line}: {errors}");
    }
}
