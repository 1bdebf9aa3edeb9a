use caracal_api::{
    ClusterInformationSpec, Condition, GlobalNetworkPolicySpec, GlobalNetworkSetSpec, NetworkPolicySpec,
    NetworkSetSpec, PolicyType, StagedAction, StagedGlobalNetworkPolicySpec, StagedNetworkPolicySpec,
    TierDefaultAction, TierSpec, TierStatus,
};

use super::SELECTOR;
use crate::{
    Reason::{Forbidden, Invalid},
    schema::Schema,
    shape::{Shape, object, words},
};

words! {
    PolicyType { Ingress, Egress }
    TierDefaultAction { Pass, Deny }
    StagedAction { Set, Delete, Learn, Ignore }
}

/// A kind of policy: its own fields, then those that all have.
macro_rules! policy {
    ($ty:ident { $($fields:tt)* } [ $($whole:tt)* ]) => {
        object! { $ty {
            tier "tier" .or("default");
            order "order";
            ingress "ingress" .most(1024) .whole();
            egress "egress" .most(1024) .whole();
            selector "selector" .chars(SELECTOR);
            types "types" .entries(1, 2) .set();
            service_account_selector "serviceAccountSelector" .chars(SELECTOR);
            performance_hints "performanceHints" .of(Schema::string().words(&["AssumeNeededOnEveryNode"])) .set();
            $($fields)*
        } [
            .rule(Invalid,
                "!has(self.selector) || !self.selector.contains('global(')",
                "selector cannot use global(): only the namespaceSelector of a rule's source or destination can")
            .rule(Invalid,
                "!has(self.serviceAccountSelector) || !self.serviceAccountSelector.contains('global(')",
                "serviceAccountSelector cannot use global(): only the namespaceSelector of a rule's source or destination can")
            $($whole)*
        ] }
    };
}

macro_rules! global_policy {
    ($ty:ident { $($fields:tt)* }) => {
        policy! { $ty {
            do_not_track "doNotTrack";
            pre_dnat "preDNAT";
            apply_on_forward "applyOnForward";
            namespace_selector "namespaceSelector" .chars(SELECTOR);
            $($fields)*
        } [
            .rule(Invalid,
                "!has(self.namespaceSelector) || !self.namespaceSelector.contains('global(')",
                "namespaceSelector cannot use global() here: only that of a rule's source or destination can")
            .rule(Forbidden,
                "!((has(self.doNotTrack) && self.doNotTrack) && (has(self.preDNAT) && self.preDNAT))",
                "a policy is either preDNAT or doNotTrack, not both")
            .rule(Forbidden,
                "(!has(self.preDNAT) || !self.preDNAT) || !has(self.egress) || size(self.egress) == 0",
                "a preDNAT policy has no egress rules: packets that leave are past their translation")
            .rule(Forbidden,
                "(!has(self.preDNAT) || !self.preDNAT) || !has(self.types) || !self.types.exists(t, t == 'Egress')",
                "a preDNAT policy cannot have Egress among its types")
            .rule(Invalid,
                "(has(self.applyOnForward) && self.applyOnForward) || ((!has(self.doNotTrack) || !self.doNotTrack) && (!has(self.preDNAT) || !self.preDNAT))",
                "applyOnForward must be true with preDNAT or doNotTrack")
        ] }
    };
}

policy! { NetworkPolicySpec {} [] }
policy! { StagedNetworkPolicySpec { staged_action "stagedAction" .or("Set"); } [] }
global_policy! { GlobalNetworkPolicySpec {} }
global_policy! { StagedGlobalNetworkPolicySpec { staged_action "stagedAction" .or("Set"); } }

object! { TierSpec {
    order "order";
    default_action "defaultAction" .or("Deny");
} }

object! { TierStatus {
    conditions "conditions" .keyed("type");
} }

impl Shape for Condition {
    fn shape() -> Schema {
        super::condition()
    }
}

object! { NetworkSetSpec {
    nets "nets" .set();
} }

object! { GlobalNetworkSetSpec {
    nets "nets" .set();
} }

object! { ClusterInformationSpec {
    cluster_guid "clusterGUID";
    cluster_type "clusterType";
    calico_version "calicoVersion";
    datastore_ready "datastoreReady";
    variant "variant";
} }
