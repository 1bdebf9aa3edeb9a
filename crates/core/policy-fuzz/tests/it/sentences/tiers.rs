//! §3.1 to §3.5: the order of tiers and policies, their ends, actions, types, staged policies.

use caracal_api::{Kind, Resource};
use serde_json::{Value, json};

use super::{World, allow, deny, tcp, through};

pub(super) fn tiers_go_by_order_then_by_name_and_those_without_order_come_last(w: &mut World<'_>) {
    w.put("Tier", "b-first", json!({"order": 1, "defaultAction": "Pass"}));
    w.put("Tier", "a-second", json!({"order": 2, "defaultAction": "Pass"}));
    w.rules("deny", json!({"tier": "b-first", "ingress": deny(80)}));
    w.rules("allow", json!({"tier": "a-second", "ingress": allow(80)}));
    assert!(!w.reached("192.0.2.9", 80), "order comes before the name");
    w.put("Tier", "b-first", json!({"order": 2, "defaultAction": "Pass"}));
    assert!(w.reached("192.0.2.9", 80), "one order: by name");
    w.put("Tier", "a-second", json!({"defaultAction": "Pass"}));
    assert!(!w.reached("192.0.2.9", 80), "without order: last");
    w.rules("late", json!({"ingress": allow(80)}));
    w.gone(Kind::GlobalNetworkPolicy, "deny");
    w.rules("allow", json!({"tier": "a-second", "ingress": deny(80)}));
    assert!(w.reached("192.0.2.9", 80), "last is behind the tier default, too");
}

pub(super) fn policy_of_a_tier_that_does_not_exist_is_enforced_behind_all_others_and_its_end_denies(
    w: &mut World<'_>,
) {
    w.rules("lost", json!({"tier": "nowhere", "ingress": deny(80)}));
    assert!(!w.reached("192.0.2.9", 80) && !w.reached("192.0.2.9", 81));
    w.rules("lost", json!({"tier": "nowhere", "ingress": allow(80)}));
    assert!(w.reached("192.0.2.9", 80) && !w.reached("192.0.2.9", 81));
    w.rules("known", json!({"ingress": deny(80)}));
    assert!(!w.reached("192.0.2.9", 80), "tiers that exist come first");
}

pub(super) fn policies_go_by_order_and_those_without_order_come_last(w: &mut World<'_>) {
    w.rules("a", json!({"order": 10, "ingress": deny(80)}));
    w.rules("b", json!({"order": -1.5, "ingress": allow(80)}));
    assert!(w.reached("192.0.2.9", 80));
    w.rules("b", json!({"ingress": allow(80)}));
    assert!(!w.reached("192.0.2.9", 80));
}

pub(super) fn ties_are_broken_by_name_namespace_and_kind_as_one_text(w: &mut World<'_>) {
    for before in ["a-b", "a.b"] {
        w.clear();
        w.rules("a", json!({"ingress": deny(80)}));
        w.rules(before, json!({"ingress": allow(80)}));
        assert!(
            w.reached("192.0.2.9", 80),
            "{before} sorts before a, for what follows a is a slash"
        );
    }
    w.clear();
    w.rules("a", json!({"ingress": deny(80)}));
    w.rules("red/a", json!({"ingress": allow(80)}));
    assert!(
        !w.reached("192.0.2.9", 80),
        "the global one has no namespace, and sorts first"
    );
}

/// The bytes of `-` and `.` are less than that of the slash behind a name, those of digits and letters are more.
pub(super) fn in_a_tie_bytes_decide_and_behind_a_name_comes_a_slash(w: &mut World<'_>) {
    for (first, second) in [
        ("default.closed-too", "default.closed"),
        ("default.closed.too", "default.closed"),
        ("default.closed", "default.closed0"),
        ("default.closed", "default.closedtoo"),
        ("a-b", "a.b"),
        ("a-b", "a"),
        ("a.b", "a0"),
        ("a--", "a-"),
        ("a-9", "a-a"),
        ("a10", "a9"),
        ("10", "9"),
        ("9", "a"),
        ("Z", "a"),
        ("B-", "B"),
        ("A", "a"),
        ("a_b", "ab"),
    ] {
        for (order, kind) in [(json!(5), "GlobalNetworkPolicy"), (Value::Null, "NetworkPolicy")] {
            w.clear();
            let name = |name: &str| match kind {
                "NetworkPolicy" => format!("red/{name}"),
                _ => name.to_owned(),
            };
            w.rules(&name(second), json!({"order": order, "ingress": deny(80)}));
            w.rules(&name(first), json!({"order": order, "ingress": allow(80)}));
            assert!(w.reached("192.0.2.9", 80), "{kind} {first} comes before {second}");
            w.rules(&name(second), json!({"order": order, "ingress": allow(80)}));
            w.rules(&name(first), json!({"order": order, "ingress": deny(80)}));
            assert!(
                !w.reached("192.0.2.9", 80),
                "{kind} {first} comes before {second}"
            );
        }
    }
    // Names of different scope: what follows the shorter one is a slash, whatever the longer one's namespace.
    for (first, second) in [
        ("a-b", "red/a"),
        ("red/a-b", "a"),
        ("a", "red/a"),
        ("red/a", "a0"),
    ] {
        w.clear();
        w.rules(second, json!({"order": 5, "ingress": deny(80)}));
        w.rules(first, json!({"order": 5, "ingress": allow(80)}));
        assert!(w.reached("192.0.2.9", 80), "{first} comes before {second}");
    }
    // Tiers have no slash behind their names.
    for (first, second) in [("t", "t-b"), ("t-b", "t0"), ("9", "t"), ("t10", "t9")] {
        w.clear();
        w.put("Tier", second, json!({"order": 5, "defaultAction": "Pass"}));
        w.put("Tier", first, json!({"order": 5, "defaultAction": "Pass"}));
        w.rules("a", json!({"tier": second, "ingress": deny(80)}));
        w.rules("b", json!({"tier": first, "ingress": allow(80)}));
        assert!(w.reached("192.0.2.9", 80), "tier {first} comes before {second}");
    }
}

pub(super) fn kinds_and_namespaces_keep_policies_of_one_name_apart(w: &mut World<'_>) {
    w.rules("same", json!({"ingress": allow(80)}));
    w.rules("red/same", json!({"ingress": allow(81)}));
    w.rules("blue/same", json!({"ingress": allow(82)}));
    w.put(
        "StagedGlobalNetworkPolicy",
        "same",
        json!({"tier": "default", "types": ["Ingress"], "ingress": allow(83)}),
    );
    assert!(w.reached("192.0.2.9", 80) && w.reached("192.0.2.9", 81));
    assert!(!w.reached("192.0.2.9", 82) && !w.reached("192.0.2.9", 83));
}

pub(super) fn the_end_of_a_tier_acts_only_in_directions_that_an_enforced_policy_of_it_governs(
    w: &mut World<'_>,
) {
    assert!(w.reached("192.0.2.9", 80), "no policy: the profile decides");
    w.rules("p", json!({"ingress": allow(80)}));
    assert!(w.reached("192.0.2.9", 80) && !w.reached("192.0.2.9", 81));
    assert!(w.reaches("192.0.2.9", 81), "nothing governs egress");
    w.rules("p", json!({"selector": "app == 'other'", "ingress": allow(80)}));
    assert!(w.reached("192.0.2.9", 81), "it selects another one");
}

pub(super) fn a_tier_that_passes_at_its_end_leads_to_the_next_and_the_last_to_the_profiles(
    w: &mut World<'_>,
) {
    w.put("Tier", "first", json!({"order": 1, "defaultAction": "Pass"}));
    w.rules("a", json!({"tier": "first", "ingress": deny(80)}));
    assert!(!w.reached("192.0.2.9", 80) && w.reached("192.0.2.9", 81));
    w.rules("b", json!({"ingress": allow(82)}));
    assert!(!w.reached("192.0.2.9", 81) && w.reached("192.0.2.9", 82));
    w.put("Tier", "first", json!({"order": 1, "defaultAction": "Deny"}));
    assert!(
        !w.reached("192.0.2.9", 82),
        "what denies at its end leaves nothing to the next"
    );
    w.put("Tier", "first", json!({"order": 1}));
    assert!(
        !w.reached("192.0.2.9", 82),
        "and that is what a tier does that says nothing"
    );
}

pub(super) fn a_policy_governs_the_directions_of_its_types_whatever_rules_it_has(w: &mut World<'_>) {
    w.rules("p", json!({"types": ["Egress"]}));
    assert!(w.reached("192.0.2.9", 80) && !w.reaches("192.0.2.9", 80));
    w.rules(
        "p",
        json!({"types": ["Ingress"], "ingress": allow(80), "egress": deny(80)}),
    );
    assert!(w.reached("192.0.2.9", 80) && w.reaches("192.0.2.9", 80));
}

pub(super) fn a_stored_policy_without_types_governs_both_directions(w: &mut World<'_>) {
    w.rules("p", json!({"types": [], "ingress": allow(80)}));
    assert!(w.reached("192.0.2.9", 80) && !w.reached("192.0.2.9", 81));
    assert!(!w.reaches("192.0.2.9", 80));
}

pub(super) fn a_policy_that_is_written_without_types_is_given_those_of_its_rules(w: &mut World<'_>) {
    for (rules, ingress, egress) in [
        (json!({}), true, false),
        (json!({"ingress": allow(80)}), true, false),
        (json!({"egress": allow(80)}), false, true),
        (json!({"ingress": allow(80), "egress": allow(80)}), true, true),
    ] {
        for name in ["p", "red/p"] {
            w.clear();
            w.rules(name, rules.clone());
            w.written_anew(|object| match object {
                Resource::GlobalNetworkPolicy(p) => p.spec.types.clear(),
                Resource::NetworkPolicy(p) => p.spec.types.clear(),
                _ => {}
            });
            // What is governed is closed at its end.
            assert_eq!(!w.reached("192.0.2.9", 81), ingress, "{name}: {rules}");
            assert_eq!(!w.reaches("192.0.2.9", 81), egress, "{name}: {rules}");
        }
    }
}

pub(super) fn staged_policies_decide_nothing_and_count_for_no_end(w: &mut World<'_>) {
    let staged = json!({"tier": "default", "types": ["Ingress"], "ingress": deny(80)});
    w.put("StagedGlobalNetworkPolicy", "s", staged.clone());
    w.put("StagedNetworkPolicy", "red/s", staged);
    w.put(
        "StagedKubernetesNetworkPolicy",
        "red/k",
        json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
    );
    assert!(w.reached("192.0.2.9", 80) && w.reached("192.0.2.9", 81));
    w.rules("s", json!({"ingress": allow(80)}));
    w.put(
        "StagedGlobalNetworkPolicy",
        "s",
        json!({"tier": "default", "stagedAction": "Delete"}),
    );
    assert!(
        w.reached("192.0.2.9", 80) && !w.reached("192.0.2.9", 81),
        "what is to be deleted is enforced"
    );
}

/// TCP to the pod by both ports and from it: now, as foretold, and once all that is staged was done.
fn staged_is_done(w: &mut World<'_>, now: [bool; 3], then: [bool; 3]) {
    let all = |w: &mut World<'_>| {
        [
            w.reached("192.0.2.9", 80),
            w.reached("192.0.2.9", 81),
            w.reaches("192.0.2.9", 80),
        ]
    };
    assert_eq!(all(w), now, "what is staged is not enforced");
    let told = [
        w.foretold(through("eth0", "cali0"), tcp("192.0.2.9", "10.0.0.1", 80)),
        w.foretold(through("eth0", "cali0"), tcp("192.0.2.9", "10.0.0.1", 81)),
        w.foretold(through("cali0", "eth0"), tcp("10.0.0.1", "192.0.2.9", 80)),
    ];
    assert_eq!(told, then, "what is staged is told");
    w.commit();
    assert_eq!(all(w), then, "what was staged is done");
}

pub(super) fn staged_policies_do_what_was_foretold_in_the_place_of_those_of_their_names(w: &mut World<'_>) {
    let (global, namespaced) = ("StagedGlobalNetworkPolicy", "StagedNetworkPolicy");
    for (kind, name) in [(global, "p"), (namespaced, "red/p")] {
        w.clear();
        let spec = |port| json!({"tier": "default", "types": ["Ingress"], "ingress": allow(port)});
        w.put(kind, name, spec(80));
        staged_is_done(w, [true, true, true], [true, false, true]);
        // Beside the one that it replaces it would open another port.
        w.put(kind, name, spec(81));
        staged_is_done(w, [true, false, true], [false, true, true]);
        // It selects nothing here any more, and is all the same in the place of the other.
        let mut elsewhere = spec(80);
        elsewhere["selector"] = json!("app == 'nobody'");
        w.put(kind, name, elsewhere);
        staged_is_done(w, [false, true, true], [true, true, true]);
        w.put(kind, name, json!({"tier": "default", "types": ["Egress"]}));
        staged_is_done(w, [true, true, true], [true, true, false]);
        w.put(kind, name, json!({"stagedAction": "Delete"}));
        staged_is_done(w, [true, true, false], [true, true, true]);
        w.put(kind, name, json!({"stagedAction": "Delete"}));
        staged_is_done(w, [true, true, true], [true, true, true]);
    }
}

pub(super) fn a_staged_kubernetes_policy_governs_egress_only_if_it_has_rules_for_it_or_says_so(
    w: &mut World<'_>,
) {
    let from = |port: u16| json!([{"ports": [{"protocol": "TCP", "port": port}]}]);
    let (open, closed) = ([true, true, true], [false, false, true]);
    for (spec, then) in [
        (json!({"podSelector": {}}), closed),
        (
            json!({"podSelector": {}, "ingress": from(80)}),
            [true, false, true],
        ),
        (json!({"podSelector": {}, "egress": from(80)}), closed),
        (
            json!({"podSelector": {}, "egress": from(81)}),
            [false, false, false],
        ),
        (
            json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": from(81)}),
            closed,
        ),
        (
            json!({"podSelector": {}, "policyTypes": ["Egress"]}),
            [true, true, false],
        ),
        (
            json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": from(80)}),
            [true, true, false],
        ),
    ] {
        w.clear();
        w.put("StagedKubernetesNetworkPolicy", "red/k", spec);
        staged_is_done(w, open, then);
        // It is about Kubernetes' policy of its name.
        w.put(
            "StagedKubernetesNetworkPolicy",
            "red/k",
            json!({"stagedAction": "Delete"}),
        );
        staged_is_done(w, then, open);
    }
}

pub(super) fn allow_and_deny_are_the_last_word_and_log_goes_on(w: &mut World<'_>) {
    w.put("Tier", "first", json!({"order": 1, "defaultAction": "Pass"}));
    w.rules(
        "a",
        json!({"tier": "first", "ingress": [
            {"action": "Log"},
            {"action": "Allow", "protocol": "TCP", "destination": {"ports": [80]}},
            {"action": "Deny", "protocol": "TCP", "destination": {"ports": [80, 81]}},
        ]}),
    );
    w.rules("b", json!({"ingress": deny(80)}));
    assert!(w.reached("192.0.2.9", 80), "no later rule or tier is asked");
    w.rules("b", json!({"ingress": allow(81)}));
    assert!(!w.reached("192.0.2.9", 81));
}

pub(super) fn pass_skips_the_rest_of_its_tier_and_leads_from_the_last_one_to_the_profiles(w: &mut World<'_>) {
    w.put("Tier", "first", json!({"order": 1, "defaultAction": "Deny"}));
    w.rules(
        "a",
        json!({"tier": "first", "order": 1, "ingress": [{"action": "Pass"}]}),
    );
    w.rules("b", json!({"tier": "first", "order": 2, "ingress": deny(80)}));
    assert!(w.reached("192.0.2.9", 80), "neither the next policy nor the end");
    w.rules(
        "c",
        json!({"ingress": [{"action": "Pass", "protocol": "TCP"}, {"action": "Deny"}]}),
    );
    assert!(w.reached("192.0.2.9", 80), "the profile allows");
    w.put("Profile", "open", json!({"egress": [{"action": "Allow"}]}));
    assert!(!w.reached("192.0.2.9", 80), "the profile says nothing");
}

pub(super) fn a_policy_without_a_matching_rule_leaves_it_to_the_next_of_its_tier(w: &mut World<'_>) {
    w.rules("a", json!({"order": 1, "ingress": allow(80)}));
    w.rules("b", json!({"order": 2, "ingress": allow(81)}));
    assert!(w.reached("192.0.2.9", 80) && w.reached("192.0.2.9", 81) && !w.reached("192.0.2.9", 82));
}

pub(super) fn without_profiles_and_with_one_that_does_not_exist_everything_is_denied(w: &mut World<'_>) {
    w.pod(0, "red", json!({}), json!({"profiles": []}));
    assert!(!w.reached("192.0.2.9", 80) && !w.reaches("192.0.2.9", 80));
    w.pod(0, "red", json!({}), json!({"profiles": ["missing", "open"]}));
    assert!(!w.reached("192.0.2.9", 80));
}

pub(super) fn profiles_are_asked_in_their_order_and_pass_in_one_leads_to_the_next(w: &mut World<'_>) {
    w.put(
        "Profile",
        "closed",
        json!({"ingress": [
            {"action": "Pass", "protocol": "TCP", "destination": {"ports": [81]}},
            {"action": "Deny"},
        ]}),
    );
    w.pod(0, "red", json!({}), json!({"profiles": ["closed", "open"]}));
    assert!(!w.reached("192.0.2.9", 80) && w.reached("192.0.2.9", 81));
    w.pod(0, "red", json!({}), json!({"profiles": ["open", "closed"]}));
    assert!(w.reached("192.0.2.9", 80));
}
