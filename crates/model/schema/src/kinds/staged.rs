use caracal_api::StagedKubernetesNetworkPolicySpec;

use crate::{schema::Schema, shape::object};

object! { StagedKubernetesNetworkPolicySpec {
    staged_action "stagedAction" .or("Set");
    pod_selector "podSelector";
    ingress "ingress" .whole();
    egress "egress" .whole();
    policy_types "policyTypes" .of(Schema::string()) .entries(1, 2) .set();
} }
