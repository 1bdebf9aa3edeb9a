//! A directory of files of all sorts, good and bad, given to every command that reads files.

use std::fs;

use super::{Rig, told};

/// A command that reads files, and what it says of a directory with objects of several kinds and files of other things
/// beside them; then of one that has, among good objects, a file that is no YAML, a field that there is not, and an object
/// of a kind that nobody here knows. Each time: exit code, and a part of what it prints.
struct Mixed {
    line: &'static str,
    good: (i32, &'static str),
    bad: (i32, &'static [&'static str]),
}

const fn mixed(line: &'static str, good: (i32, &'static str), bad: (i32, &'static [&'static str])) -> Mixed {
    Mixed { line, good, bad }
}

/// What is said of what is wrong in a directory for `calicoctl`: everything, before anything is done.
const CTL: &[&str] = &[
    "2-broken.yaml",
    "3-typo.yaml",
    "nett",
    "4-foreign.json",
    "Deployment \"d\"",
];
/// The same where other kinds are left out.
const ASKING: &[&str] = &["2-broken.yaml", "3-typo.yaml", "nett"];

const MIXED: &[Mixed] = &[
    mixed(
        "ctl validate -f MIX",
        (0, "Successfully validated 4 resource(s)"),
        (1, CTL),
    ),
    mixed(
        "ctl create -f MIX",
        (0, "Successfully created 4 resource(s)"),
        (1, CTL),
    ),
    // What exists is named, one by one, with its file and document.
    mixed(
        "ctl create -f MIX",
        (1, "Failed to create any resources:"),
        (1, CTL),
    ),
    mixed(
        "ctl create --skip-exists -f MIX",
        (0, "Successfully created 0 resource(s)"),
        (1, CTL),
    ),
    mixed(
        "ctl apply -f MIX",
        (0, "Successfully applied 4 resource(s)"),
        (1, CTL),
    ),
    mixed(
        "ctl replace -f MIX",
        (0, "Successfully replaced 4 resource(s)"),
        (1, CTL),
    ),
    mixed("ctl get -f MIX -o yaml", (0, "kind: Tier"), (1, CTL)),
    mixed(
        "ctl apply --confirm-within 1h -f MIX",
        (1, "GlobalNetworkSet(set)"),
        (1, CTL),
    ),
    mixed("ctl confirm -f MIX", (1, "GlobalNetworkSet"), (1, CTL)),
    mixed(
        "ctl delete gnetsets set",
        (0, "Successfully deleted 1"),
        (1, &["resource does not exist"]),
    ),
    // A part fails and the others are done.
    mixed(
        "ctl replace -f MIX",
        (1, "Partial success: replaced 3 out of 4 resources"),
        (1, CTL),
    ),
    mixed(
        "ctl create -f MIX",
        (1, "Partial success: created 1 out of 4 resources"),
        (1, CTL),
    ),
    mixed(
        "ctl delete -f MIX",
        (0, "Successfully deleted 4 resource(s)"),
        (1, CTL),
    ),
    mixed(
        "ctl delete -f MIX",
        (1, "Failed to delete any resources:"),
        (1, CTL),
    ),
    mixed(
        "ctl delete -s -f MIX",
        (0, "Successfully deleted 0 resource(s)"),
        (1, CTL),
    ),
    mixed(
        "ctl datastore migrate import -f MIX",
        (1, "this is no export"),
        (1, CTL),
    ),
    mixed(
        "query -f MIX eval all()",
        (0, "Endpoints matching selector all():"),
        (1, ASKING),
    ),
    mixed(
        "query -f MIX policy t.p",
        (0, "Policy \"t.p\" applies to"),
        (1, ASKING),
    ),
    mixed(
        "query -f MIX endpoint x",
        (0, "Policies and profiles for"),
        (1, ASKING),
    ),
    mixed(
        "query -f MIX host n1",
        (0, "Policies and profiles for"),
        (1, ASKING),
    ),
    mixed(
        "policy diff MIX MIX",
        (0, "No connection is opened or closed."),
        (2, ASKING),
    ),
    mixed("policy lint MIX", (0, "Nothing was found."), (2, ASKING)),
    mixed(
        "policy test TESTS -f MIX",
        (1, "there is no default/visitor"),
        (2, ASKING),
    ),
    mixed("validate MIX", (0, "4 objects: 4 valid, 0 refused"), (1, CTL)),
    mixed(
        "why -f MIX 10.0.0.1 10.0.0.2 80",
        (2, "no policy is about them"),
        (2, ASKING),
    ),
    // These want tests, or a file.
    mixed(
        "policy test MIX -f SHOP",
        (2, "a map with the list `tests` is expected"),
        (2, &["0-set.yaml", "1-rest.yml"]),
    ),
    mixed("policy-check MIX", (2, "directory"), (2, &["directory"])),
    mixed("policy-fuzz --file MIX", (3, "0-set.yaml"), (3, &["0-set.yaml"])),
    mixed(
        "ctl get ippools -o go-template-file=MIX",
        (1, "directory"),
        (1, &["directory"]),
    ),
    mixed(
        "ctl ipam release --from-report MIX",
        (1, "directory"),
        (1, &["directory"]),
    ),
    mixed(
        "ctl node checksystem -f MIX",
        (1, "directory"),
        (1, &["directory"]),
    ),
    mixed("ctl get ippools -c MIX", (1, "directory"), (1, &["directory"])),
    mixed("query -c MIX eval all()", (1, "directory"), (1, &["directory"])),
    mixed("why -c MIX a b 80", (2, "directory"), (2, &["directory"])),
];

#[test]
fn a_directory_of_mixed_files_is_read_alike_by_every_command() {
    let rig = Rig::new();
    let set = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: set}\nspec: {nets: [10.0.0.0/8]}\n";
    let rest = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 5}\n---\n\
                apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {name: s, namespace: shop}\nspec: {nets: ['fd00::/8']}\n";
    let policy = r#"{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":"t.p"},"spec":{"tier":"t"}}"#;
    for dir in ["good", "bad"] {
        fs::create_dir(rig.path(dir)).expect("a directory");
        rig.file(&format!("{dir}/0-set.yaml"), set);
        rig.file(&format!("{dir}/1-rest.yml"), rest);
        rig.file(&format!("{dir}/1-policy.json"), policy);
        rig.file(&format!("{dir}/README.md"), "kind: [ no manifest");
        fs::write(rig.path(dir).join("image.png"), [0, 159, 146, 150]).expect("a file");
    }
    rig.file("bad/2-broken.yaml", "kind: [\n");
    rig.file("bad/3-typo.yaml", &set.replace("nets:", "nett:"));
    rig.file(
        "bad/4-foreign.json",
        r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"}}"#,
    );
    let dir = |name: &str| rig.path(name).display().to_string();
    for row in MIXED {
        let run = |name: &str| {
            let line = row.line.replace("MIX", &dir(name));
            let output = rig.command(&line).output().expect("the program starts");
            let errors = told(&line, &output);
            let all = String::from_utf8_lossy(&output.stdout).into_owned() + &errors;
            (output.status.code(), all, output.stdout)
        };
        let (code, all, _) = run("good");
        assert_eq!(code, Some(row.good.0), "{}: {all}", row.line);
        assert!(all.contains(row.good.1), "{}: {all}", row.line);
        let (code, all, printed) = run("bad");
        assert_eq!(code, Some(row.bad.0), "{}: {all}", row.line);
        for part in row.bad.1 {
            assert!(all.contains(part), "{}: {part:?} is not in {all}", row.line);
        }
        let silent = printed.is_empty() || row.line.starts_with("validate");
        assert!(silent, "{}: {all}", row.line);
    }
}
