//! The agent's parameters in the terms of the rules.

use std::net::IpAddr;

use caracal_config::{DenyAction, EndpointToHost, FelixConfig, NatExclusions};
use caracal_net::PerFamily;
use caracal_rules::{DenyAction as RuleDeny, HostAction, RulesConfig};

/// What the rules need of the parameters.
pub(crate) fn rules_config(config: &FelixConfig) -> RulesConfig {
    RulesConfig {
        interface_prefixes: config
            .interface_prefixes
            .iter()
            .map(|p| p.as_str().into())
            .collect(),
        endpoint_to_host: match config.default_endpoint_to_host_action {
            EndpointToHost::Drop => HostAction::Drop,
            EndpointToHost::Accept => HostAction::Accept,
            EndpointToHost::Return => HostAction::Return,
        },
        deny: match config.nft_filter_deny_action {
            DenyAction::Drop => RuleDeny::Drop,
            DenyAction::Reject => RuleDeny::Reject,
        },
        vxlan: PerFamily {
            v4: config.vxlan_enabled,
            v6: config.vxlan_enabled,
        },
        vxlan_port: config.vxlan_port,
        allow_vxlan_from_workloads: config.allow_vxlan_packets_from_workloads,
        allow_ipip_from_workloads: config.allow_ipip_packets_from_workloads,
        drop_invalid: !config.disable_conntrack_invalid_check,
        nat_ports: config.nat_port_range,
        nat_address: PerFamily {
            v4: config.nat_outgoing_address.map(IpAddr::V4),
            v6: None,
        },
        nat_spares_hosts: config.nat_outgoing_exclusions == NatExclusions::IpPoolsAndHostIps,
        log_prefix: config.log_prefix.as_str().into(),
        ..RulesConfig::default()
    }
}
