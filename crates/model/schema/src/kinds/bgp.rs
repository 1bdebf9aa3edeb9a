use caracal_api::{
    BgpConfigurationSpec, BgpPassword, BgpPeerSpec, BindMode, Community, NextHopMode, PrefixAdvertisement,
    ProgramClusterRoutes, ReversePeering, SecretKeySelector, ServiceIpBlock, SourceAddress, Toggle,
};

use super::{NAME, SELECTOR};
use crate::{
    Reason::{Forbidden, Invalid},
    shape::{object, words},
};

/// The kernel's route metrics, short of the extremes.
pub(super) const PRIORITY: (i64, i64) = (1, 2_147_483_646);

words! {
    Toggle { Enabled, Disabled }
    BindMode { None, NodeIP }
    ProgramClusterRoutes { Enabled, Disabled, EnabledIPIPOnly, EnabledNoEncapOnly }
    NextHopMode { Auto, Own, Keep }
    SourceAddress { UseNodeIP, None }
    ReversePeering { Auto, Manual }
}

object! { BgpConfigurationSpec {
    log_severity_screen "logSeverityScreen" .or("Info") .pattern("^(?i)(Trace|Debug|Info|Warning|Error|Fatal)?$");
    node_to_node_mesh_enabled "nodeToNodeMeshEnabled";
    as_number "asNumber";
    service_load_balancer_ips "serviceLoadBalancerIPs" .whole();
    service_external_ips "serviceExternalIPs" .whole();
    service_cluster_ips "serviceClusterIPs" .whole();
    service_load_balancer_aggregation "serviceLoadBalancerAggregation" .or("Enabled");
    communities "communities" .most(500) .whole();
    prefix_advertisements "prefixAdvertisements" .most(500) .whole();
    listen_port "listenPort" .within(1, 65535);
    node_mesh_password "nodeMeshPassword";
    node_mesh_max_restart_time "nodeMeshMaxRestartTime";
    bind_mode "bindMode";
    ignored_interfaces "ignoredInterfaces" .set();
    local_workload_peering_ipv4 "localWorkloadPeeringIPV4";
    local_workload_peering_ipv6 "localWorkloadPeeringIPV6";
    program_cluster_routes "programClusterRoutes";
    ipv4_normal_route_priority "ipv4NormalRoutePriority" .within(PRIORITY.0, PRIORITY.1);
    ipv6_normal_route_priority "ipv6NormalRoutePriority" .within(PRIORITY.0, PRIORITY.1);
} [
    .rule(Forbidden,
        "!has(self.nodeMeshPassword) || !has(self.nodeToNodeMeshEnabled) || self.nodeToNodeMeshEnabled == true",
        "nodeMeshPassword has no use without the mesh: set nodeToNodeMeshEnabled to true, or leave it out")
    .rule(Forbidden,
        "!has(self.nodeMeshMaxRestartTime) || !has(self.nodeToNodeMeshEnabled) || self.nodeToNodeMeshEnabled == true",
        "nodeMeshMaxRestartTime has no use without the mesh: set nodeToNodeMeshEnabled to true, or leave it out")
    .rule(Invalid,
        "!has(self.communities) || size(self.communities) == 0 || (has(self.prefixAdvertisements) && size(self.prefixAdvertisements) > 0)",
        "communities are named here, but no prefixAdvertisements use them")
] }

object! { ServiceIpBlock {
    cidr "cidr" .format("cidr");
} [ .atomic() ] }

object! { Community {
    name "name" .chars(NAME);
    value "value" .chars(40) .pattern(r"^(\d+):(\d+)$|^(\d+):(\d+):(\d+)$");
} [ .atomic() ] }

object! { PrefixAdvertisement {
    cidr "cidr" .format("cidr");
    communities "communities" .most(50) .whole();
} [ .atomic() ] }

object! { BgpPassword {
    secret_key_ref "secretKeyRef";
} }

object! { SecretKeySelector {
    name "name" .or("");
    key "key" .must();
    optional "optional";
} [ .atomic() ] }

object! { BgpPeerSpec {
    node "node" .chars(NAME);
    node_selector "nodeSelector" .chars(SELECTOR);
    peer_ip "peerIP" .chars(64);
    as_number "asNumber";
    local_as_number "localASNumber";
    peer_selector "peerSelector" .chars(SELECTOR);
    local_workload_selector "localWorkloadSelector" .chars(SELECTOR);
    keep_original_next_hop "keepOriginalNextHop";
    next_hop_mode "nextHopMode";
    password "password";
    source_address "sourceAddress";
    max_restart_time "maxRestartTime";
    keepalive_time "keepaliveTime";
    num_allowed_local_as_numbers "numAllowedLocalASNumbers" .format("int32");
    ttl_security "ttlSecurity";
    reachable_by "reachableBy" .chars(64);
    filters "filters" .whole();
    reverse_peering "reversePeering";
} [
    .rule(Forbidden,
        "(!has(self.node) || size(self.node) == 0) || (!has(self.nodeSelector) || size(self.nodeSelector) == 0)",
        "node and nodeSelector exclude each other")
    .rule(Forbidden,
        "(!has(self.peerIP) || size(self.peerIP) == 0) || (!has(self.peerSelector) || size(self.peerSelector) == 0)",
        "peerIP and peerSelector exclude each other")
    .rule(Forbidden,
        "(!has(self.peerSelector) || size(self.peerSelector) == 0) || !has(self.asNumber) || self.asNumber == 0",
        "asNumber cannot be with peerSelector: the selected nodes say their own")
    .rule(Forbidden,
        "(!has(self.localWorkloadSelector) || size(self.localWorkloadSelector) == 0) || (!has(self.peerIP) || size(self.peerIP) == 0)",
        "peerIP cannot be with localWorkloadSelector: the selected workloads say their addresses")
    .rule(Forbidden,
        "(!has(self.localWorkloadSelector) || size(self.localWorkloadSelector) == 0) || (!has(self.peerSelector) || size(self.peerSelector) == 0)",
        "peerSelector and localWorkloadSelector exclude each other")
    .rule(Invalid,
        "(!has(self.localWorkloadSelector) || size(self.localWorkloadSelector) == 0) || (has(self.asNumber) && self.asNumber != 0)",
        "localWorkloadSelector needs asNumber")
    .rule(Forbidden,
        "!has(self.reachableBy) || size(self.reachableBy) == 0 || (has(self.peerIP) && size(self.peerIP) > 0)",
        "reachableBy needs peerIP")
    .rule(Forbidden,
        "!has(self.keepOriginalNextHop) || !self.keepOriginalNextHop || !has(self.nextHopMode)",
        "keepOriginalNextHop is the old form of nextHopMode: Keep; give only nextHopMode")
] }
