//! §3.6: selectors, namespaces, service accounts, network sets.

use caracal_api::Kind;
use caracal_policy_fuzz::NODE;
use serde_json::{Value, json};

use super::{World, allow, deny};

/// Pods elsewhere: 10.0.0.5 in red and 10.0.0.6 in blue, both `app=a`, with the profiles of their namespaces.
fn neighbours(w: &mut World<'_>) {
    w.clear();
    for (namespace, team) in [("red", "x"), ("blue", "y")] {
        let spec = json!({"labelsToApply": {"pcns.team": team}});
        w.put("Profile", &format!("kns.{namespace}"), spec);
    }
    w.put(
        "Profile",
        "ksa.red.robot",
        json!({"labelsToApply": {"pcsa.job": "build"}}),
    );
    let of = |namespace: &str, account: &str| {
        json!({
            "profiles": [format!("kns.{namespace}"), format!("ksa.{namespace}.{account}")],
            "serviceAccountName": account,
        })
    };
    w.pod(4, "red", json!({"app": "a"}), of("red", "robot"));
    w.pod(5, "blue", json!({"app": "a"}), of("blue", "human"));
    w.put(
        "GlobalNetworkSet",
        "outside",
        json!({"nets": ["198.51.100.0/24"]}),
    );
}

const RED: &str = "10.0.0.5";
const BLUE: &str = "10.0.0.6";
const SET: &str = "198.51.100.9";
const STRANGER: &str = "192.0.2.9";

/// Who of red, blue, the global set and a stranger gets in by a rule about its source.
fn gets_in(w: &mut World<'_>, policy: &str, source: Value) -> [bool; 4] {
    w.rules(
        policy,
        json!({"ingress": [{"action": "Allow", "source": source}]}),
    );
    let entered = [RED, BLUE, SET, STRANGER].map(|from| w.reached(from, 80));
    let (kind, name) = match policy.split_once('/') {
        Some((_, name)) => (Kind::NetworkPolicy, name),
        None => (Kind::GlobalNetworkPolicy, policy),
    };
    w.gone(kind, name);
    entered
}

pub(super) fn each_operator_selects_what_it_says(w: &mut World<'_>) {
    w.pod(
        0,
        "red",
        json!({"app": "pod", "in": "x y", "empty": ""}),
        json!({}),
    );
    for (selector, selected) in [
        ("app == 'pod'", true),
        ("app == \"other\"", false),
        ("app != 'other'", true),
        ("gone != 'x'", true),
        ("app in {'other', 'pod'}", true),
        ("app in {}", false),
        ("app not in {'pod'}", false),
        ("app not in {}", true),
        ("gone not in {'x'}", true),
        ("has(empty)", true),
        ("has(gone)", false),
        ("!has(gone)", true),
        ("app contains 'o'", true),
        ("gone contains ''", false),
        ("app starts with 'po'", true),
        ("app ends with 'od'", true),
        ("!(app == 'pod')", false),
        ("in == 'x y'", true),
        ("app == 'other' || app == 'pod' && has(empty)", true),
        ("!has(app) && has(empty) || app == 'pod'", true),
        ("all()", true),
        ("", true),
    ] {
        w.rules("p", json!({"selector": selector, "ingress": deny(80)}));
        assert_eq!(!w.reached(STRANGER, 80), selected, "{selector}");
    }
}

pub(super) fn a_namespaced_policy_is_for_its_own_namespace(w: &mut World<'_>) {
    w.rules("blue/p", json!({"selector": "all()"}));
    assert!(w.reached(STRANGER, 80));
    w.rules("red/p", json!({"selector": "all()"}));
    assert!(!w.reached(STRANGER, 80));
}

pub(super) fn a_rule_of_a_namespaced_policy_is_scoped_only_if_it_selects(w: &mut World<'_>) {
    neighbours(w);
    assert_eq!(
        gets_in(w, "red/p", json!({"selector": "app == 'a'"})),
        [true, false, false, false]
    );
    assert_eq!(gets_in(w, "red/p", json!({})), [true; 4], "nothing is selected");
    assert_eq!(
        gets_in(w, "red/p", json!({"nets": ["10.0.0.0/8", "192.0.2.0/24"]})),
        [true, true, false, true]
    );
    assert_eq!(
        gets_in(w, "p", json!({"selector": "app == 'a'"})),
        [true, true, false, false]
    );
}

pub(super) fn a_negated_selector_alone_means_strangers_too_but_not_in_a_namespaced_policy(w: &mut World<'_>) {
    neighbours(w);
    assert_eq!(
        gets_in(w, "p", json!({"notSelector": "app == 'a'"})),
        [false, false, true, true]
    );
    assert_eq!(
        gets_in(w, "red/p", json!({"notSelector": "app == 'b'"})),
        [true, false, false, false]
    );
    assert_eq!(
        gets_in(w, "red/p", json!({"notSelector": "app == 'a'"})),
        [false; 4]
    );
}

pub(super) fn a_selector_and_its_negation_are_both_needed(w: &mut World<'_>) {
    neighbours(w);
    let source = json!({"selector": "app == 'a'", "notSelector": "projectcalico.org/namespace == 'blue'"});
    assert_eq!(gets_in(w, "p", source), [true, false, false, false]);
}

pub(super) fn namespaces_are_selected_by_their_labels_and_all_means_those_in_one(w: &mut World<'_>) {
    neighbours(w);
    let by = |selector: &str| json!({"namespaceSelector": selector});
    assert_eq!(
        gets_in(w, "red/p", by("team == 'y'")),
        [false, true, false, false]
    );
    assert_eq!(
        gets_in(w, "red/p", by("team != 'y'")),
        [true, false, true, false],
        "the set has no such label"
    );
    assert_eq!(gets_in(w, "red/p", by("all()")), [true, true, false, false]);
    assert_eq!(gets_in(w, "red/p", by("global()")), [false, false, true, false]);
    let both = json!({"namespaceSelector": "has(team)", "selector": "app == 'b'"});
    assert_eq!(gets_in(w, "red/p", both), [false; 4]);
}

pub(super) fn service_accounts_are_matched_by_name_and_by_label(w: &mut World<'_>) {
    neighbours(w);
    let accounts = |value: Value| json!({"serviceAccounts": value});
    assert_eq!(
        gets_in(w, "p", accounts(json!({"names": ["robot"]}))),
        [true, false, false, false]
    );
    assert_eq!(
        gets_in(w, "p", accounts(json!({"names": ["robot", "human"]}))),
        [true, true, false, false]
    );
    assert_eq!(
        gets_in(w, "p", accounts(json!({"selector": "job == 'build'"}))),
        [true, false, false, false]
    );
    assert_eq!(
        gets_in(
            w,
            "p",
            accounts(json!({"names": ["human"], "selector": "job == 'build'"}))
        ),
        [false; 4]
    );
    assert_eq!(
        gets_in(w, "red/p", accounts(json!({"names": ["human"]}))),
        [false; 4],
        "of the own namespace"
    );
}

pub(super) fn service_accounts_and_a_negated_selector_must_both_hold_and_no_account_is_no_criterion(
    w: &mut World<'_>,
) {
    neighbours(w);
    let but = |accounts: Value, not: &str| json!({"serviceAccounts": accounts, "notSelector": not});
    let (both, blue) = (
        json!({"names": ["robot", "human"]}),
        "projectcalico.org/namespace == 'blue'",
    );
    assert_eq!(
        gets_in(w, "p", but(both.clone(), blue)),
        [true, false, false, false],
        "one set of both: neither the global set nor a stranger is in it"
    );
    assert_eq!(
        gets_in(w, "red/p", but(both.clone(), blue)),
        [true, false, false, false]
    );
    assert_eq!(
        gets_in(w, "blue/p2", json!({"serviceAccounts": both})),
        [true; 4],
        "it is of another namespace"
    );
    let building = json!({"selector": "job == 'build'"});
    assert_eq!(gets_in(w, "p", but(building.clone(), "has(app)")), [false; 4]);
    assert_eq!(gets_in(w, "p", but(building, blue)), [true, false, false, false]);
    let none = json!({});
    assert_eq!(gets_in(w, "p", json!({"serviceAccounts": none})), [true; 4]);
    assert_eq!(
        gets_in(w, "p", but(none.clone(), blue)),
        [true, false, true, true],
        "notSelector alone: strangers, too"
    );
    assert_eq!(
        gets_in(w, "red/p", json!({"serviceAccounts": none})),
        [true, false, false, false],
        "it is scoped all the same"
    );
}

pub(super) fn endpoints_have_the_labels_of_their_profiles_unless_their_own_say_otherwise(w: &mut World<'_>) {
    w.put(
        "Profile",
        "labels",
        json!({"labelsToApply": {"color": "green", "app": "profile"}}),
    );
    w.pod(
        0,
        "red",
        json!({"app": "pod"}),
        json!({"profiles": ["labels", "open"]}),
    );
    for (selector, selected) in [
        ("color == 'green'", true),
        ("app == 'profile'", false),
        ("app == 'pod'", true),
    ] {
        w.rules("p", json!({"selector": selector, "ingress": deny(80)}));
        assert_eq!(!w.reached(STRANGER, 80), selected, "{selector}");
    }
}

pub(super) fn a_pod_cannot_say_itself_in_which_namespace_or_account_it_is(w: &mut World<'_>) {
    let forged = json!({"projectcalico.org/namespace": "blue", "projectcalico.org/serviceaccount": "root"});
    w.pod(0, "red", forged, json!({"serviceAccountName": "robot"}));
    for (selector, selected) in [
        ("projectcalico.org/namespace == 'blue'", false),
        ("projectcalico.org/namespace == 'red'", true),
        ("projectcalico.org/serviceaccount == 'root'", false),
        ("projectcalico.org/serviceaccount == 'robot'", true),
    ] {
        w.rules("p", json!({"selector": selector, "ingress": deny(80)}));
        assert_eq!(!w.reached(STRANGER, 80), selected, "{selector}");
    }
}

pub(super) fn a_global_policy_may_be_for_some_namespaces_or_service_accounts(w: &mut World<'_>) {
    w.put("Profile", "kns.red", json!({"labelsToApply": {"pcns.team": "x"}}));
    w.put(
        "Profile",
        "ksa.red.robot",
        json!({"labelsToApply": {"pcsa.job": "build"}}),
    );
    let spec = json!({"profiles": ["kns.red", "ksa.red.robot", "open"], "serviceAccountName": "robot"});
    w.pod(0, "red", json!({"app": "pod"}), spec);
    for (field, selector, selected) in [
        ("namespaceSelector", "team == 'x'", true),
        ("namespaceSelector", "team == 'y'", false),
        ("namespaceSelector", "all()", true),
        ("serviceAccountSelector", "job == 'build'", true),
        ("serviceAccountSelector", "job == 'rest'", false),
    ] {
        w.rules("p", json!({field: selector, "ingress": deny(80)}));
        assert_eq!(!w.reached(STRANGER, 80), selected, "{field} {selector}");
    }
}

pub(super) fn all_beside_a_selector_of_namespaces_means_those_in_one_also_within_an_expression(
    w: &mut World<'_>,
) {
    neighbours(w);
    let by = |selector: &str| json!({"namespaceSelector": selector});
    assert_eq!(
        gets_in(w, "p", by("team == 'y' || all()")),
        [true, true, false, false]
    );
    assert_eq!(gets_in(w, "p", by("!all()")), [false, false, true, false]);
    // A host has no labels of namespaces, so that it is selected by their absence, unless all() keeps it out.
    w.clear();
    let spec = json!({"node": NODE, "interfaceName": "eth0", "profiles": ["open"]});
    w.put("HostEndpoint", "h", spec);
    for (selector, namespaces, selected) in [
        ("has(host)", "team != 'y'", true),
        ("all()", "team != 'y'", false),
        ("has(host) || all()", "team != 'y'", true),
        ("has(host)", "all()", false),
        ("has(host)", "global()", true),
        ("all()", "global()", true),
    ] {
        w.rules(
            "p",
            json!({"selector": selector, "namespaceSelector": namespaces, "ingress": deny(80)}),
        );
        assert_eq!(!w.enters("eth0", 80), selected, "{selector}, {namespaces}");
    }
}

pub(super) fn network_sets_are_selected_like_endpoints_also_those_of_everything(w: &mut World<'_>) {
    let set = |name: &str, nets: Value| {
        let metadata = json!({"name": name, "labels": {"set": "yes"}});
        json!({"kind": "GlobalNetworkSet", "metadata": metadata, "spec": {"nets": nets}})
    };
    let from_set = json!({"ingress": [{"action": "Allow", "source": {"selector": "set == 'yes'"}}]});
    w.rules("p", from_set);
    w.object(set(
        "a",
        json!(["192.0.2.0/25", "192.0.2.0/24", "192.0.2.9/32", "192.0.2.9/32"]),
    ));
    assert!(w.reached(STRANGER, 80) && w.reached("192.0.2.200", 80) && !w.reached(SET, 80));
    w.object(set("b", json!(["0.0.0.0/0"])));
    assert!(w.reached(SET, 80));
    w.object(set("b", json!([])));
    assert!(
        !w.reached(SET, 80) && w.reached(STRANGER, 80),
        "what overlapped is still there"
    );
}

pub(super) fn a_network_set_of_a_namespace_is_of_that_namespace(w: &mut World<'_>) {
    let metadata = json!({"name": "s", "namespace": "blue", "labels": {"set": "yes"}});
    w.object(json!({"kind": "NetworkSet", "metadata": metadata, "spec": {"nets": ["192.0.2.0/24"]}}));
    let from_set = json!({"ingress": [{"action": "Allow", "source": {"selector": "set == 'yes'"}}]});
    w.rules("red/p", from_set.clone());
    assert!(!w.reached(STRANGER, 80));
    w.rules("p", from_set);
    assert!(w.reached(STRANGER, 80));
}

pub(super) fn an_endpoint_whose_labels_change_is_selected_anew(w: &mut World<'_>) {
    neighbours(w);
    w.rules(
        "p",
        json!({"ingress": [{"action": "Allow", "source": {"selector": "app == 'a'"}}]}),
    );
    assert!(w.reached(RED, 80));
    w.pod(4, "red", json!({"app": "b"}), json!({}));
    assert!(!w.reached(RED, 80) && w.reached(BLUE, 80));
    w.rules("p", json!({"selector": "app == 'nobody'", "ingress": allow(81)}));
    assert!(w.reached(RED, 80));
}
