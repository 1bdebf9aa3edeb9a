use crate::{
    GlobalNetworkPolicySpec, NetworkPolicySpec, Object, PolicyType, ProfileSpec, TierDefaultAction, TierSpec,
    fixed_tier,
    validate::{
        check::{Check, Range},
        meta,
        rule::{self, Place},
    },
};

const HINTS: &[&str] = &["AssumeNeededOnEveryNode"];

pub(super) fn network_policy(c: &mut Check, spec: &NetworkPolicySpec) {
    common(c, &spec.tier, spec.order, &spec.types, &spec.performance_hints);
    c.plain_selector("selector", &spec.selector);
    c.plain_selector("serviceAccountSelector", &spec.service_account_selector);
    rule::rules(
        c,
        "ingress",
        &spec.ingress,
        Place {
            ingress: true,
            global: false,
        },
    );
    rule::rules(
        c,
        "egress",
        &spec.egress,
        Place {
            ingress: false,
            global: false,
        },
    );
}

pub(super) fn global_network_policy(c: &mut Check, spec: &GlobalNetworkPolicySpec) {
    common(c, &spec.tier, spec.order, &spec.types, &spec.performance_hints);
    c.plain_selector("selector", &spec.selector);
    c.plain_selector("serviceAccountSelector", &spec.service_account_selector);
    c.plain_selector("namespaceSelector", &spec.namespace_selector);
    rule::rules(
        c,
        "ingress",
        &spec.ingress,
        Place {
            ingress: true,
            global: true,
        },
    );
    rule::rules(
        c,
        "egress",
        &spec.egress,
        Place {
            ingress: false,
            global: true,
        },
    );

    let early = spec.do_not_track || spec.pre_dnat;
    c.require(
        !(spec.do_not_track && spec.pre_dnat),
        "preDNAT",
        "",
        "cannot be with doNotTrack",
    );
    c.require(
        !early || spec.apply_on_forward,
        "applyOnForward",
        "",
        "must be true with preDNAT or doNotTrack",
    );
    if spec.pre_dnat {
        c.require(
            spec.egress.is_empty(),
            "egress",
            "",
            "cannot have rules with preDNAT",
        );
        let ingress_only = !spec.types.contains(&PolicyType::Egress);
        c.require(ingress_only, "types", "Egress", "is not possible with preDNAT");
    }
}

fn common(c: &mut Check, tier: &str, order: Option<f64>, types: &[PolicyType], hints: &[String]) {
    c.optional_name("tier", tier);
    // NaN has no place among orders; JSON cannot say it but a program can.
    if let Some(order) = order.filter(|o| o.is_nan()) {
        c.fail_at("order", order, "is not a number");
    }
    for t in [PolicyType::Ingress, PolicyType::Egress] {
        if types.iter().filter(|x| **x == t).count() > 1 {
            c.fail_at("types", format!("{t:?}"), "is there twice");
        }
    }
    c.unique("performanceHints", hints);
    for hint in hints {
        c.one_of("performanceHints", hint, HINTS);
    }
}

pub(super) fn profile(c: &mut Check, spec: &ProfileSpec) {
    rule::rules(
        c,
        "ingress",
        &spec.ingress,
        Place {
            ingress: true,
            global: true,
        },
    );
    rule::rules(
        c,
        "egress",
        &spec.egress,
        Place {
            ingress: false,
            global: true,
        },
    );
    meta::inherited_labels(c, "labelsToApply", &spec.labels_to_apply);
}

pub(super) fn nets(c: &mut Check, nets: &[String]) {
    c.unique("nets", nets);
    c.each("nets", nets, |c, net| {
        c.cidr(net, Range::Loose);
    });
}

pub(super) fn tier(c: &mut Check, tier: &Object<TierSpec>) {
    let action = tier.spec.default_action.unwrap_or_default();
    c.field("spec", |c| {
        if let Some((order, wanted)) = fixed_tier(&tier.metadata.name) {
            let name = &tier.metadata.name;
            let written = tier.spec.order.map_or_else(String::new, |o| o.to_string());
            if tier.spec.order != Some(order) {
                c.fail_at(
                    "order",
                    written,
                    format!("the tier {name} always has order {order}"),
                );
            }
            if action != wanted {
                let wanted = if wanted == TierDefaultAction::Pass {
                    "Pass"
                } else {
                    "Deny"
                };
                c.fail_at(
                    "defaultAction",
                    format!("{action:?}"),
                    format!("the tier {name} always has {wanted}"),
                );
            }
        } else if let Some(order) = tier.spec.order.filter(|o| o.is_nan()) {
            c.fail_at("order", order, "is not a number");
        }
    });
}
