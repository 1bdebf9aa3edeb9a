use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Condition, Kind, KubeEgressRule, KubeIngressRule, LabelSelector, NoStatus, Rule, Spec,
    meta::{null_is_default, whole_if_whole},
};

/// A direction that a policy governs, seen from the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyType {
    /// Traffic to the endpoint.
    Ingress,
    /// Traffic from the endpoint.
    Egress,
}

/// Makes the spec of a kind of policy: what is special to it first, what global ones have, what all have.
macro_rules! policy_spec {
    ($(#[$doc:meta])* $name:ident { $($(#[$lm:meta])* $lead:ident: $lt:ty,)* } { $($(#[$gm:meta])* $global:ident: $gt:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $($(#[$lm])* pub $lead: $lt,)*
            /// The tier; `default` when empty.
            #[serde(skip_serializing_if = "String::is_empty")]
            pub tier: String,
            /// Position in the tier, ascending; absent means last.
            #[serde(skip_serializing_if = "Option::is_none", serialize_with = "whole_if_whole")]
            pub order: Option<f64>,
            /// Rules for traffic to the endpoint.
            #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
            pub ingress: Vec<Rule>,
            /// Rules for traffic from the endpoint.
            #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
            pub egress: Vec<Rule>,
            /// The endpoints: of the policy's namespace if it has one.
            #[serde(skip_serializing_if = "String::is_empty")]
            pub selector: String,
            /// The directions governed; inferred from the rules when empty.
            #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
            pub types: Vec<PolicyType>,
            $($(#[$gm])* pub $global: $gt,)*
            /// The endpoints' service accounts.
            #[serde(skip_serializing_if = "String::is_empty")]
            pub service_account_selector: String,
            /// Hints such as `AssumeNeededOnEveryNode`.
            #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
            pub performance_hints: Vec<String>,
        }
    };
}

macro_rules! global_policy_spec {
    ($(#[$doc:meta])* $name:ident { $($lead:tt)* }) => {
        policy_spec! {
            $(#[$doc])* $name { $($lead)* } {
                /// Untracked policy of host endpoints, before connection tracking.
                #[serde(skip_serializing_if = "std::ops::Not::not")]
                do_not_track: bool,
                /// Policy of host endpoints before destination NAT.
                #[serde(skip_serializing_if = "std::ops::Not::not", rename = "preDNAT")]
                pre_dnat: bool,
                /// Whether a host endpoint's forwarded traffic is governed too.
                #[serde(skip_serializing_if = "std::ops::Not::not")]
                apply_on_forward: bool,
                /// The endpoints' namespaces.
                #[serde(skip_serializing_if = "String::is_empty")]
                namespace_selector: String,
            }
        }
    };
}

policy_spec! {
    /// A policy for the endpoints of its namespace.
    NetworkPolicySpec {} {}
}
global_policy_spec! {
    /// A policy without a namespace.
    GlobalNetworkPolicySpec {}
}
policy_spec! {
    /// A policy for the endpoints of its namespace that is calculated and not enforced.
    StagedNetworkPolicySpec {
        /// What would be done with the policy of this name; `Set` when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        staged_action: Option<StagedAction>,
    } {}
}
global_policy_spec! {
    /// A policy without a namespace that is calculated and not enforced.
    StagedGlobalNetworkPolicySpec {
        /// What would be done with the policy of this name; `Set` when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        staged_action: Option<StagedAction>,
    }
}

impl Spec for NetworkPolicySpec {
    const KIND: Kind = Kind::NetworkPolicy;
    type Status = NoStatus;
}

impl Spec for GlobalNetworkPolicySpec {
    const KIND: Kind = Kind::GlobalNetworkPolicy;
    type Status = NoStatus;
}

impl Spec for StagedNetworkPolicySpec {
    const KIND: Kind = Kind::StagedNetworkPolicy;
    type Status = NoStatus;
}

impl Spec for StagedGlobalNetworkPolicySpec {
    const KIND: Kind = Kind::StagedGlobalNetworkPolicy;
    type Status = NoStatus;
}

impl StagedNetworkPolicySpec {
    /// The policy as it would be enforced.
    #[must_use]
    pub fn enforced(&self) -> NetworkPolicySpec {
        let s = self.clone();
        NetworkPolicySpec {
            tier: s.tier,
            order: s.order,
            ingress: s.ingress,
            egress: s.egress,
            selector: s.selector,
            types: s.types,
            service_account_selector: s.service_account_selector,
            performance_hints: s.performance_hints,
        }
    }
}

impl StagedGlobalNetworkPolicySpec {
    /// The policy as it would be enforced.
    #[must_use]
    pub fn enforced(&self) -> GlobalNetworkPolicySpec {
        let s = self.clone();
        GlobalNetworkPolicySpec {
            tier: s.tier,
            order: s.order,
            ingress: s.ingress,
            egress: s.egress,
            selector: s.selector,
            types: s.types,
            do_not_track: s.do_not_track,
            pre_dnat: s.pre_dnat,
            apply_on_forward: s.apply_on_forward,
            namespace_selector: s.namespace_selector,
            service_account_selector: s.service_account_selector,
            performance_hints: s.performance_hints,
        }
    }
}

/// What a staged policy would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StagedAction {
    /// Make or replace the policy.
    #[default]
    Set,
    /// Delete the policy.
    Delete,
    /// As `Set`; made by a recommendation.
    Learn,
    /// As `Set`; a recommendation that was refused.
    Ignore,
}

/// A Kubernetes policy that is calculated and not enforced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StagedKubernetesNetworkPolicySpec {
    /// What would be done with the policy of this name; `Set` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_action: Option<StagedAction>,
    /// The pods of the policy's namespace; all when empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// What may come in.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ingress: Vec<KubeIngressRule>,
    /// What may go out.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub egress: Vec<KubeEgressRule>,
    /// The directions governed.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub policy_types: Vec<PolicyType>,
}

impl Spec for StagedKubernetesNetworkPolicySpec {
    const KIND: Kind = Kind::StagedKubernetesNetworkPolicy;
    type Status = NoStatus;
}

/// What happens at the end of a tier to a packet that no rule decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TierDefaultAction {
    /// It is dropped.
    #[default]
    Deny,
    /// The next tier is asked.
    Pass,
}

/// A tier of policies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TierSpec {
    /// Position among tiers, ascending; absent means last.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "whole_if_whole")]
    pub order: Option<f64>,
    /// The end-of-tier action; Deny when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<TierDefaultAction>,
}

impl Spec for TierSpec {
    const KIND: Kind = Kind::Tier;
    type Status = TierStatus;
}

/// Status of a tier.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TierStatus {
    /// Conditions.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,
}

/// Rules and labels that endpoints inherit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileSpec {
    /// Rules for traffic to the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub egress: Vec<Rule>,
    /// Labels that every endpoint with the profile inherits.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub labels_to_apply: BTreeMap<String, String>,
}

impl Spec for ProfileSpec {
    const KIND: Kind = Kind::Profile;
    type Status = NoStatus;
}

macro_rules! network_set {
    ($(#[$doc:meta])* $name:ident, $kind:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name {
            /// The CIDRs.
            #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
            pub nets: Vec<String>,
        }

        impl Spec for $name {
            const KIND: Kind = Kind::$kind;
            type Status = NoStatus;
        }
    };
}

network_set!(
    /// Addresses outside the cluster, by label, in a namespace.
    NetworkSetSpec,
    NetworkSet
);
network_set!(
    /// Addresses outside the cluster, by label, without a namespace.
    GlobalNetworkSetSpec,
    GlobalNetworkSet
);
