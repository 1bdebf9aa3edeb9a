use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn policy<'a>(
    namespace: &'a str,
    selector: &'a str,
    namespaces: &'a str,
    accounts: &'a str,
) -> PolicyScope<'a> {
    PolicyScope {
        namespace,
        selector,
        namespace_selector: namespaces,
        service_account_selector: accounts,
    }
}

fn selects(policy: PolicyScope<'_>, labels: &[(&str, &str)]) -> bool {
    of_policy(policy).unwrap().matches_map(&map(labels))
}

fn map(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    owned.collect()
}

const POD: &[(&str, &str)] = &[
    (NAMESPACE, "ns"),
    (SERVICE_ACCOUNT, "robot"),
    ("app", "web"),
    ("pcns.env", "prod"),
    ("pcsa.role", "admin"),
];
const HOST: &[(&str, &str)] = &[("app", "web")];

#[test]
fn a_namespaced_policy_never_leaves_its_namespace() {
    assert!(selects(policy("ns", "", "", ""), POD));
    assert!(selects(policy("ns", "all() || app == 'x'", "", ""), POD));
    for namespace in ["other", "n"] {
        assert!(!selects(policy(namespace, "app == 'web' || all()", "", ""), POD));
    }
    assert!(!selects(policy("ns", "all()", "", ""), HOST));
}

#[test]
fn a_global_policy_reaches_everything_unless_it_says_otherwise() {
    assert!(selects(policy("", "", "", ""), POD));
    assert!(selects(policy("", "all()", "", ""), HOST));
    assert!(selects(policy("", "app == 'web'", "env == 'prod'", ""), POD));
    assert!(!selects(policy("", "app == 'web'", "env == 'test'", ""), POD));
    assert!(selects(policy("", "", "", "role == 'admin'"), POD));
    assert!(!selects(policy("", "", "", "role == 'admin'"), HOST));
    assert!(!selects(policy("", "", "", "all()"), HOST));
}

#[test]
fn all_beside_a_namespace_selector_means_in_some_namespace() {
    // `env != 'test'` alone is true of a host, which has no such label; all() next to it shuts the host out.
    assert!(selects(policy("", "", "env != 'test'", ""), HOST));
    assert!(!selects(policy("", "all()", "env != 'test'", ""), HOST));
    assert!(selects(policy("", "all()", "env != 'test'", ""), POD));
    assert!(!selects(policy("", "app == 'web'", "all()", ""), HOST));
    assert!(selects(policy("", "all()", "global()", ""), HOST));
    assert!(!selects(policy("", "all()", "global()", ""), POD));
}

#[test]
fn faults_name_the_field() {
    let fault = |p| of_policy(p).unwrap_err().to_string();
    assert!(fault(policy("ns", "a = 'b'", "", "")).starts_with("spec.selector: bad selector at byte 2"));
    assert!(fault(policy("", "", "x y", "")).starts_with("spec.namespaceSelector:"));
    assert!(fault(policy("", "", "", "((")).starts_with("spec.serviceAccountSelector:"));
    assert!(fault(policy("", "global()", "", "")).contains("global()"));
    assert!(fault(policy("", "", "global() || a == 'b'", "")).contains("global()"));
}

fn entity(
    selector: &str,
    not_selector: &str,
    namespaces: &str,
    accounts: Option<(&[&str], &str)>,
) -> EntityRule {
    EntityRule {
        selector: selector.into(),
        not_selector: not_selector.into(),
        namespace_selector: namespaces.into(),
        service_accounts: accounts.map(|(names, selector)| ServiceAccountMatch {
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            selector: selector.into(),
        }),
        ..EntityRule::default()
    }
}

fn canonical(entity: &EntityRule, namespace: &str) -> (String, String) {
    let scope = of_entity(entity, namespace).unwrap();
    let text = |s: Option<Selector>| s.map_or(String::new(), |s| s.canonical().to_owned());
    (text(scope.positive), text(scope.negative))
}

#[test]
fn a_rule_is_scoped_only_when_it_selects() {
    let nothing = entity("", "", "", None);
    assert_eq!(canonical(&nothing, "ns"), (String::new(), String::new()));
    let own = r#"projectcalico.org/namespace == "ns""#;
    let cases = [
        (
            entity("a == 'b'", "", "", None),
            format!(r#"({own} && a == "b")"#),
        ),
        (
            entity("", "a == 'b'", "", None),
            format!(r#"({own} && !a == "b")"#),
        ),
        (entity("", "", "", Some((&[], ""))), own.to_owned()),
        (
            entity("", "", "", Some((&["x"], "r == '1'"))),
            format!(r#"({own} && projectcalico.org/serviceaccount in {{"x"}} && pcsa.r == "1")"#),
        ),
        (
            entity("", "", "all()", None),
            "has(projectcalico.org/namespace)".to_owned(),
        ),
        (
            entity("", "", "global()", None),
            "!has(projectcalico.org/namespace)".to_owned(),
        ),
        (
            entity("all()", "", "!all() || t == 'x'", None),
            r#"((!has(projectcalico.org/namespace) || pcns.t == "x") && all())"#.to_owned(),
        ),
    ];
    for (entity, expected) in cases {
        assert_eq!(canonical(&entity, "ns"), (expected, String::new()), "{entity:?}");
    }
}

#[test]
fn outside_a_namespace_a_negative_selector_alone_stays_negative() {
    let only = entity("", "a == 'b'", "", None);
    assert_eq!(canonical(&only, ""), (String::new(), r#"a == "b""#.to_owned()));
    let both = entity("all()", "a == 'b'", "", None);
    assert_eq!(
        canonical(&both, ""),
        (r#"(all() && !a == "b")"#.to_owned(), String::new())
    );
}

/// The law (§3.6) sentence by sentence, with text: what one side says positively, and what it excludes.
fn spliced(e: &EntityRule, namespace: &str) -> (Option<Selector>, Option<Selector>) {
    let prefix = |text: &str, prefix: &str| Selector::parse(text).unwrap().map_labels(prefix).to_string();
    let mut positive: Vec<String> = Vec::new();
    // "Scoped to own namespace when ANY of selector, notSelector, serviceAccounts, namespaceSelector set".
    let any = !e.selector.is_empty()
        || !e.not_selector.is_empty()
        || !e.namespace_selector.is_empty()
        || e.service_accounts.is_some();
    match e.namespace_selector.as_str() {
        "global()" => positive.push("!has(projectcalico.org/namespace)".into()),
        "" if any && !namespace.is_empty() => {
            positive.push(format!("projectcalico.org/namespace == '{namespace}'"));
        }
        "" => {}
        text => positive.push(prefix(text, "pcns.").replace("all()", "has(projectcalico.org/namespace)")),
    }
    // "Names OR-ed; selector prefixed `pcsa.`; names AND selector": of neither there is no criterion.
    if let Some(accounts) = &e.service_accounts {
        if !accounts.names.is_empty() {
            let names: Vec<String> = accounts.names.iter().map(|n| format!("'{n}'")).collect();
            positive.push(format!(
                "projectcalico.org/serviceaccount in {{{}}}",
                names.join(", ")
            ));
        }
        if !accounts.selector.is_empty() {
            positive.push(prefix(&accounts.selector, "pcsa."));
        }
    }
    if !e.selector.is_empty() {
        positive.push(e.selector.clone());
    }
    // "Positive + notSelector on same entity merged: `(pos) && (!(neg))`; otherwise neg only".
    let mut negative = (!e.not_selector.is_empty()).then(|| e.not_selector.clone());
    if !positive.is_empty() {
        positive.extend(negative.take().map(|n| format!("!({n})")));
    }
    let parse = |text: &str| Selector::parse(text).unwrap();
    let joined: Vec<String> = positive.iter().map(|p| format!("({p})")).collect();
    (
        (!joined.is_empty()).then(|| parse(&joined.join(" && "))),
        negative.map(|n| parse(&n)),
    )
}

proptest! {
    #[test]
    fn means_what_splicing_the_text_means(
        selector in prop::sample::select(vec!["", "all()", "app == 'web'", "!has(app)", "app != 'web' || all()"]),
        not_selector in prop::sample::select(vec!["", "app == 'db'", "has(app)"]),
        namespaces in prop::sample::select(vec!["", "all()", "global()", "env == 'prod'", "env != 'prod' || all()"]),
        accounts in prop::option::of(prop::sample::select(vec![
            (&["robot"][..], ""),
            (&["robot", "web"], "has(role)"),
            (&[], "role == 'prod'"),
            (&[], ""),
        ])),
        namespace in prop::sample::select(vec!["", "ns"]),
        labels in prop::collection::btree_map(
            prop::sample::select(vec!["app", NAMESPACE, SERVICE_ACCOUNT, "pcns.env", "pcsa.role"])
                .prop_map(str::to_owned),
            prop::sample::select(vec!["web", "db", "ns", "other", "robot", "prod"]).prop_map(str::to_owned),
            0..6,
        ),
    ) {
        let rule = entity(selector, not_selector, namespaces, accounts);
        let scope = of_entity(&rule, namespace).unwrap();
        let (positive, negative) = spliced(&rule, namespace);
        let holds = |s: Option<Selector>| s.map(|s| s.matches_map(&labels));
        prop_assert_eq!(holds(scope.positive), holds(positive));
        prop_assert_eq!(holds(scope.negative), holds(negative));
    }
}
