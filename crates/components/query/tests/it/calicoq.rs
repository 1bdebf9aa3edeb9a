use caracal_query::calicoq_with;

use crate::rig::{Done, data, golden, run};

fn calicoq(args: &[&str]) -> Done {
    let shop = data("shop.yaml");
    let all: Vec<&str> = args.iter().copied().chain(["-f", &shop]).collect();
    run(calicoq_with, &all, "")
}

fn shows(name: &str, args: &[&str]) {
    let done = calicoq(args);
    assert_eq!((done.code, done.errors.as_str()), (0, ""), "{args:?}");
    golden(name, &done.output);
}

/// What is asked, and the file with the answer; the same of manifests and of each datastore.
pub(crate) const ASKED: &[(&str, &[&str])] = &[
    (
        "q-eval.txt",
        &["eval", "team == 'x' || app == 'cart' || has(role)"],
    ),
    ("q-eval.json", &["eval", "app == 'cart'", "-o", "json"]),
    ("q-eval.yaml", &["eval", "app == 'cart'", "-o", "yaml"]),
    ("q-policy.txt", &["policy", "shop/knp.default.cart"]),
    (
        "q-policy-bare.txt",
        &["policy", "shop/knp.default.cart", "-r", "-s"],
    ),
    (
        "q-policy-no-rules.yaml",
        &["policy", "shop/knp.default.cart", "-r", "-o", "yaml"],
    ),
    ("q-policy-global.txt", &["policy", "security.quarantine", "-s"]),
    ("q-policy.json", &["policy", "shop/web-closed", "-o", "json"]),
    ("q-endpoint.txt", &["endpoint", "shop.web"]),
    ("q-endpoint-bare.txt", &["endpoint", "shop.", "-r", "-s"]),
    ("q-endpoint.json", &["endpoint", "shop.cart", "-s", "-o", "json"]),
    ("q-host.txt", &["host", "n1", "-r"]),
    ("q-host.yaml", &["host", "n2", "-s", "-o", "yaml"]),
];

/// All of a command's questions.
fn asked(command: &str) {
    let mut any = false;
    for (name, args) in ASKED.iter().filter(|(_, args)| args[0] == command) {
        any = true;
        shows(name, args);
    }
    assert!(any, "{command}");
}

#[test]
fn eval_lists_endpoints_with_their_host() {
    asked("eval");
    let done = calicoq(&["eval", "pcns.team == 'shop'"]);
    assert_eq!(
        done.output.lines().count(),
        3,
        "labels of namespaces are inherited: {}",
        done.output
    );
    let none = calicoq(&["eval", "app == 'nobody'"]);
    assert_eq!(
        (none.code, none.output.as_str()),
        (0, "Endpoints matching selector app == 'nobody':\n")
    );
}

#[test]
fn policy_lists_who_it_applies_to_and_whom_its_rules_match() {
    asked("policy");
}

#[test]
fn endpoint_and_host_list_policies_profiles_and_matches() {
    asked("endpoint");
    asked("host");
    let none = calicoq(&["endpoint", "nowhere"]);
    let header = "Policies and profiles for endpoints matching \"nowhere\":\n";
    assert_eq!((none.code, none.output.as_str()), (0, header));
}

#[test]
fn untracked_policies_come_first() {
    let untracked = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: raw}\n\
                     spec: {order: 5000, doNotTrack: true, applyOnForward: true, selector: role == 'node', types: [Ingress]}\n";
    let shop = data("shop.yaml");
    let done = run(
        calicoq_with,
        &["endpoint", "n1-eth0", "-f", &shop, "-f", "-"],
        untracked,
    );
    let first = done.output.lines().nth(4).unwrap_or_default();
    assert_eq!(
        first, "    Policy \"raw\" (order 5000; selector \"role == 'node'\") [untracked]",
        "{}",
        done.output
    );
}

/// Whatever each of them governs: those of one direction only stand among those of both as packets would meet them.
#[test]
fn policies_of_a_tier_are_in_order_whatever_their_direction() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: d}\n\
               spec: {nodeName: n1, containers: [{name: c}]}\nstatus: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}\n";
    // By order, then by name as bytes with what follows it: `-` is before the end of a name, `0` behind it.
    let wanted = [
        ("z-first", "order: -0.0"),
        ("z-second", "order: 0"),
        ("shut-x", "order: 5"),
        ("shut", "order: 5"),
        ("shut0", "order: 5"),
        ("a-last", "selector: all()"),
    ];
    let directions = ["Ingress", "Egress", "Ingress, Egress"];
    for case in 0..directions.len().pow(6) {
        let mut rest = case;
        let mut world = pod.to_owned();
        // Read in another order than the wanted one.
        for (name, order) in wanted.iter().rev() {
            let types = directions[rest % directions.len()];
            rest /= directions.len();
            world += &format!(
                "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: {name}}}\n\
                 spec: {{{order}, types: [{types}]}}\n"
            );
        }
        let done = run(calicoq_with, &["endpoint", "d.a", "-r", "-s", "-f", "-"], &world);
        assert_eq!((done.code, done.errors.as_str()), (0, ""), "{world}");
        let lines = done.output.lines();
        let names: Vec<&str> = lines
            .filter_map(|l| l.trim().strip_prefix("Policy \"")?.split('"').next())
            .collect();
        assert_eq!(names, wanted.map(|(name, _)| name), "{world}{}", done.output);
    }
}

#[test]
fn version_needs_no_datastore() {
    let done = run(calicoq_with, &["version"], "");
    let names: Vec<&str> = done
        .output
        .lines()
        .filter_map(|l| l.split_once(':'))
        .map(|l| l.0)
        .collect();
    assert_eq!(
        (done.code, names),
        (0, vec!["Version", "Build date", "Git tag ref", "Git commit"])
    );
}

/// That shells complete with them is seen where the program is (`completions_are_what_shells_complete`).
#[test]
fn completions_are_printed() {
    for (shell, part) in [
        ("bash", "_calicoq()"),
        ("zsh", "#compdef calicoq"),
        ("fish", "-c calicoq"),
    ] {
        let done = run(calicoq_with, &["completion", shell], "");
        assert_eq!((done.code, done.errors.as_str()), (0, ""), "{shell}");
        assert!(
            done.output.contains(part) && done.output.contains("hide-selectors"),
            "{shell}"
        );
    }
    let done = run(calicoq_with, &["completion", "csh"], "");
    assert!(done.code == 1 && done.errors.contains("bash"), "{done:?}");
}

#[test]
fn debug_goes_to_stderr_and_errors_are_code_1() {
    let done = calicoq(&["eval", "all()", "-d"]);
    assert!(done.code == 0 && done.errors.contains("4 endpoints"), "{done:?}");
    for (args, says) in [
        (&["eval", "a =="][..], "selector"),
        (
            &["policy", "shop/knp.default.carts"],
            "there is \"shop/knp.default.cart\"",
        ),
        (&["policy", "shop/cart"], "there is \"shop/knp.default.cart\""),
        (&["polcy", "x"], "Usage"),
        (&["eval", "all()", "-o", "xml"], "xml"),
        (&["eval", "all()", "-f", "/nonexistent"], "/nonexistent"),
    ] {
        let done = calicoq(args);
        assert_eq!((done.code, done.output.as_str()), (1, ""), "{args:?}");
        assert!(done.errors.contains(says), "{args:?}: {}", done.errors);
    }
}

#[test]
fn bad_input_is_code_1_and_named() {
    let gone = "/nonexistent/x";
    let none = tempfile::tempdir().unwrap();
    let config = none.path().join("gone.cfg");
    let text = "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: {datastoreType: etcdv3, etcdEndpoints: 'http://127.0.0.1:1'}\n";
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    for command in [
        &["eval", "all()"][..],
        &["policy", "p"],
        &["endpoint", "x"],
        &["host", "n1"],
    ] {
        let with = |more: &[&str]| {
            let words: Vec<&str> = command.iter().chain(more).copied().collect();
            let done = run(calicoq_with, &words, "");
            assert_eq!((done.code, done.output.as_str()), (1, ""), "{words:?}: {done:?}");
            done.errors
        };
        assert!(with(&["-f", gone]).contains(gone));
        assert!(with(&["-c", gone]).contains(gone));
        assert!(with(&["-c", &config]).contains("127.0.0.1:1"));
        assert!(with(&["--no-such-option"]).contains("--no-such-option"));
        assert!(with(&["-o", "xml"]).contains("xml"));
    }
}
