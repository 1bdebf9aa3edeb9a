//! §3.13: what is in force of objects that break the rules of their kind.

use caracal_api::Kind;
use serde_json::json;

use super::{World, allow, deny};

pub(super) fn a_refused_policy_lets_nothing_through_and_denies_all_where_it_may_have_denied(
    w: &mut World<'_>,
) {
    // Twice the same direction: the schema refuses it.
    let twice = json!(["Ingress", "Ingress"]);
    w.rules("open", json!({"order": 20, "ingress": [{"action": "Allow"}]}));
    assert!(w.reached("192.0.2.9", 80));
    w.rules("p", json!({"order": 10, "types": twice, "ingress": deny(81)}));
    assert!(!w.reached("192.0.2.9", 80) && !w.reached("192.0.2.9", 81));
    assert!(
        w.reaches("192.0.2.9", 80),
        "the other direction is another matter"
    );
    w.rules(
        "p",
        json!({"order": 10, "types": twice, "selector": "app == 'other'", "ingress": deny(81)}),
    );
    assert!(w.reached("192.0.2.9", 80), "it is for others");
    w.rules(
        "p",
        json!({"order": 10, "types": twice, "ingress": [{"action": "Pass"}]}),
    );
    assert!(
        !w.reached("192.0.2.9", 80),
        "nobody knows what passing on would have spared"
    );
    w.rules("p", json!({"order": 10, "types": twice, "ingress": allow(80)}));
    assert!(w.reached("192.0.2.9", 80), "others still decide");
    w.gone(Kind::GlobalNetworkPolicy, "open");
    assert!(
        !w.reached("192.0.2.9", 80),
        "it lets nothing through by itself, and counts for the end of the tier"
    );
}

pub(super) fn a_refused_policy_of_hosts_is_refused_at_its_place_on_the_way(w: &mut World<'_>) {
    w.host("h", "eth0", &[]);
    w.policy(
        "open",
        json!({"ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}]}),
    );
    assert!(w.enters("eth0", 80) && w.leaves("eth0", 80));
    // Policy before NAT must say that it is for forwarded traffic, too.
    w.policy(
        "p",
        json!({"preDNAT": true, "types": ["Ingress"], "ingress": deny(81)}),
    );
    assert!(!w.enters("eth0", 80) && w.leaves("eth0", 80));
    w.policy(
        "p",
        json!({"preDNAT": true, "types": ["Ingress"], "ingress": allow(81)}),
    );
    assert!(w.enters("eth0", 80));
    w.policy(
        "p",
        json!({"doNotTrack": true, "types": ["Egress"], "egress": deny(81)}),
    );
    assert!(w.enters("eth0", 80) && !w.leaves("eth0", 80));
}

pub(super) fn a_refused_staged_policy_decides_nothing_and_a_refused_set_is_what_can_be_read(
    w: &mut World<'_>,
) {
    w.put(
        "StagedGlobalNetworkPolicy",
        "s",
        json!({"tier": "default", "types": ["Ingress", "Ingress"], "ingress": deny(80)}),
    );
    assert!(w.reached("192.0.2.9", 80));
    let set = json!({"kind": "GlobalNetworkSet", "metadata": {"name": "s", "labels": {"set": "yes"}},
        "spec": {"nets": ["192.0.2.0/26", "192.0.2.0/26"]}});
    w.object(set);
    w.rules(
        "p",
        json!({"ingress": [{"action": "Deny", "source": {"selector": "has(set)"}}, {"action": "Allow"}]}),
    );
    assert!(!w.reached("192.0.2.9", 80) && w.reached("192.0.2.99", 80));
}
