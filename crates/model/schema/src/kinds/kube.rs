use caracal_api::{
    KubeEgressRule, KubeIngressRule, KubeIpBlock, KubePeer, KubePolicyPort, LabelOperator, LabelRequirement,
    LabelSelector,
};

use crate::shape::{object, words};

words! {
    LabelOperator { In, NotIn, Exists, DoesNotExist }
}

object! { LabelSelector {
    match_labels "matchLabels";
    match_expressions "matchExpressions" .whole();
} [ .atomic() ] }

// Kubernetes' own schema takes any operator here; its meaning is checked where the policy is read.
object! { LabelRequirement {
    key "key" .must();
    operator "operator" .any_word() .must();
    values "values" .whole();
} }

object! { KubeIngressRule {
    ports "ports" .whole();
    from "from" .whole();
} }

object! { KubeEgressRule {
    ports "ports" .whole();
    to "to" .whole();
} }

object! { KubePeer {
    pod_selector "podSelector";
    namespace_selector "namespaceSelector";
    ip_block "ipBlock";
} }

object! { KubeIpBlock {
    cidr "cidr" .must();
    except "except" .whole();
} }

object! { KubePolicyPort {
    protocol "protocol";
    port "port";
    end_port "endPort" .format("int32");
} }
