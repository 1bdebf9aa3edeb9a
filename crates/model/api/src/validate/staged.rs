use crate::{
    GlobalNetworkPolicySpec, IntOrString, KubePeer, KubePolicyPort, LabelOperator, LabelSelector,
    NetworkPolicySpec, StagedAction, StagedGlobalNetworkPolicySpec, StagedKubernetesNetworkPolicySpec,
    StagedNetworkPolicySpec,
    validate::{
        check::{Check, Range},
        policy, text,
    },
};

const DELETE: &str = "must be empty when stagedAction is Delete, tier aside";

pub(super) fn network_policy(c: &mut Check, spec: &StagedNetworkPolicySpec) {
    let enforced = spec.enforced();
    if spec.staged_action == Some(StagedAction::Delete) {
        let empty = NetworkPolicySpec {
            tier: enforced.tier.clone(),
            ..NetworkPolicySpec::default()
        };
        if enforced != empty {
            c.fail("", DELETE);
        }
    } else {
        policy::network_policy(c, &enforced);
    }
}

pub(super) fn global_network_policy(c: &mut Check, spec: &StagedGlobalNetworkPolicySpec) {
    let enforced = spec.enforced();
    if spec.staged_action == Some(StagedAction::Delete) {
        let empty = GlobalNetworkPolicySpec {
            tier: enforced.tier.clone(),
            ..GlobalNetworkPolicySpec::default()
        };
        if enforced != empty {
            c.fail("", DELETE);
        }
    } else {
        policy::global_network_policy(c, &enforced);
    }
}

pub(super) fn kubernetes_network_policy(c: &mut Check, spec: &StagedKubernetesNetworkPolicySpec) {
    if spec.staged_action == Some(StagedAction::Delete) {
        let empty = StagedKubernetesNetworkPolicySpec {
            staged_action: spec.staged_action,
            ..StagedKubernetesNetworkPolicySpec::default()
        };
        if *spec != empty {
            c.fail("", "must be empty when stagedAction is Delete");
        }
        return;
    }
    if let Some(s) = &spec.pod_selector {
        label_selector(c, "podSelector", s);
    }
    c.each("ingress", &spec.ingress, |c, r| {
        c.each("from", &r.from, peer);
        c.each("ports", &r.ports, port);
    });
    c.each("egress", &spec.egress, |c, r| {
        c.each("to", &r.to, peer);
        c.each("ports", &r.ports, port);
    });
    c.count("policyTypes", spec.policy_types.len(), 2);
}

fn label_selector(c: &mut Check, key: &str, s: &LabelSelector) {
    c.field(key, |c| {
        c.field("matchLabels", |c| {
            for (k, v) in &s.match_labels {
                c.require(text::is_qualified_name(k), k, k, "is not the name of a label");
                c.require(text::is_label_value(v), k, v, "is not the value of a label");
            }
        });
        c.each("matchExpressions", &s.match_expressions, |c, r| {
            c.require(
                text::is_qualified_name(&r.key),
                "key",
                &r.key,
                "is not the name of a label",
            );
            let wants_values = matches!(r.operator, LabelOperator::In | LabelOperator::NotIn);
            c.require(
                wants_values != r.values.is_empty(),
                "values",
                "",
                "must be there with In and NotIn, and only with them",
            );
            c.each("values", &r.values, |c, v| {
                if !text::is_label_value(v) {
                    c.fail(v, "is not the value of a label");
                }
            });
        });
    });
}

fn peer(c: &mut Check, p: &KubePeer) {
    let selects = p.pod_selector.is_some() || p.namespace_selector.is_some();
    if selects == p.ip_block.is_some() {
        c.fail(
            "",
            "needs either ipBlock, or podSelector, namespaceSelector or both",
        );
    }
    if let Some(s) = &p.pod_selector {
        label_selector(c, "podSelector", s);
    }
    if let Some(s) = &p.namespace_selector {
        label_selector(c, "namespaceSelector", s);
    }
    if let Some(block) = &p.ip_block {
        c.field("ipBlock", |c| {
            let cidr = c.field("cidr", |c| c.cidr(&block.cidr, Range::Loose));
            c.each("except", &block.except, |c, hole| {
                let hole = c.cidr(hole, Range::Loose);
                if let (Some(cidr), Some(hole)) = (cidr, hole)
                    && !cidr.covers(&hole)
                {
                    c.fail(hole, format!("is not inside {cidr}"));
                }
            });
        });
    }
}

fn port(c: &mut Check, p: &KubePolicyPort) {
    if let Some(protocol) = &p.protocol {
        c.one_of("protocol", protocol, &["TCP", "UDP", "SCTP"]);
    }
    match &p.port {
        Some(IntOrString::Int(n)) => {
            c.bounds("port", *n, 1, 65535);
            if let Some(end) = p.end_port {
                c.bounds("endPort", end, *n, 65535);
            }
        }
        Some(IntOrString::String(name)) => {
            c.require(
                text::is_service_name(name),
                "port",
                name,
                "is not the name of a port",
            );
            c.require(p.end_port.is_none(), "endPort", "", "needs port to be a number");
        }
        None => c.require(p.end_port.is_none(), "endPort", "", "needs port to be a number"),
    }
}
