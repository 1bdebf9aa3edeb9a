//! The agent's parameters in the terms of the rules.

use std::net::IpAddr;

use caracal_config::{
    DenyAction, EndpointToHost, FelixConfig, NatExclusions, ProtoPort, ServiceLoopPrevention,
};
use caracal_net::PerFamily;
use caracal_rules::{
    DenyAction as RuleDeny, Failsafe, HostAction, LogRate, OpenStack, RulesConfig, ServiceLoops, ir::Per,
};

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
        ipip: config.ipip_enabled,
        allow_vxlan_from_workloads: config.allow_vxlan_packets_from_workloads,
        allow_ipip_from_workloads: config.allow_ipip_packets_from_workloads,
        source_spoofing: config.workload_source_spoofing,
        drop_invalid: !config.disable_conntrack_invalid_check,
        service_loops: match config.service_loop_prevention {
            ServiceLoopPrevention::Drop => ServiceLoops::Drop,
            ServiceLoopPrevention::Reject => ServiceLoops::Reject,
            ServiceLoopPrevention::Disabled => ServiceLoops::Disabled,
        },
        openstack: config.openstack.then_some(OpenStack {
            metadata: config.metadata,
        }),
        nat_ports: config.nat_port_range,
        nat_address: PerFamily {
            v4: config.nat_outgoing_address.map(IpAddr::V4),
            v6: None,
        },
        nat_spares_hosts: config.nat_outgoing_exclusions == NatExclusions::IpPoolsAndHostIps,
        log_prefix: config.log_prefix.as_str().into(),
        log_rate: log_rate(config),
        wireguard: PerFamily::new(|f| {
            let enabled = *config.wireguard_enabled.get(f);
            enabled.then(|| *config.wireguard_port.get(f))
        }),
        ipvs_mark: other_bits(config.nft_mark_mask),
        allowed_mark: lowest_bit(config.nft_mark_mask),
        failsafe_in: failsafe(&config.failsafe_inbound),
        failsafe_out: failsafe(&config.failsafe_outbound),
        ..RulesConfig::default()
    }
}

/// One of the bits that the agent may use.
fn lowest_bit(mask: u32) -> u32 {
    mask & mask.wrapping_neg()
}

/// The bits behind that one, eight at most; none where these are too few to tell interfaces apart.
fn other_bits(mask: u32) -> Option<u32> {
    let rest = mask & !lowest_bit(mask);
    let places = (0..32).map(|n| 1 << n).filter(|place| rest & place != 0);
    let places: Vec<u32> = places.take(8).collect();
    (places.len() > 2).then(|| places.into_iter().sum())
}

fn log_rate(config: &FelixConfig) -> Option<LogRate> {
    let (rate, time) = config.log_action_rate.as_ref()?;
    let per = match time.as_str() {
        "second" => Per::Second,
        "minute" => Per::Minute,
        "hour" => Per::Hour,
        _ => Per::Day,
    };
    Some(LogRate {
        rate: *rate,
        per,
        burst: u32::try_from(config.log_action_burst).unwrap_or(u32::MAX),
    })
}

fn failsafe(ports: &[ProtoPort]) -> Vec<Failsafe> {
    let one = |p: &ProtoPort| Failsafe {
        proto: p.protocol,
        port: p.port,
        net: p.net,
    };
    ports.iter().map(one).collect()
}
