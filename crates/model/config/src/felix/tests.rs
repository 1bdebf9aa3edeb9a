use std::time::Duration;

use super::{
    DatastoreType, DenyAction, EndpointToHost, FelixConfig, LogFormat, LogSeverity, NatExclusions,
    ServiceLoop,
};
use crate::layers::{Sources, resolve};
use crate::table::{Kind, Param};

fn with(env: &[(&str, &str)]) -> FelixConfig {
    let env = env
        .iter()
        .map(|(k, v)| (format!("FELIX_{k}"), (*v).to_owned()))
        .collect();
    let resolved = resolve(&Sources {
        env,
        ..Sources::default()
    });
    assert_eq!(resolved.problems, []);
    FelixConfig::new(&resolved)
}

#[test]
fn defaults_are_calicos() {
    let c = with(&[]);
    assert_eq!((c.datastore_type, c.etcd_endpoints.len()), (None, 0));
    assert_eq!(
        (c.health_enabled, c.health_host.as_str(), c.health_port),
        (false, "localhost", 9099)
    );
    assert_eq!(
        (
            c.prometheus_metrics_enabled,
            c.prometheus_metrics_host,
            c.prometheus_metrics_port
        ),
        (false, None, 9091)
    );
    assert_eq!(
        (c.log_severity_screen, c.log_format),
        (Some(LogSeverity::Info), LogFormat::Text)
    );
    assert_eq!(
        (c.interface_prefixes, c.ipv6_support),
        (vec!["cali".to_owned()], true)
    );
    assert_eq!(c.default_endpoint_to_host_action, EndpointToHost::Drop);
    assert_eq!((c.failsafe_inbound.len(), c.failsafe_outbound.len()), (9, 9));
    assert_eq!(c.endpoint_status_path_prefix.as_deref(), Some("/var/run/calico"));
    assert_eq!(c.service_loop_prevention, ServiceLoop::Drop);
    assert_eq!(
        (c.vxlan_enabled, c.vxlan_mtu, c.vxlan_port, c.vxlan_vni),
        (None, None, 4789, 4096)
    );
    assert_eq!((c.device_route_protocol, c.remove_external_routes), (3, true));
    assert_eq!(c.route_refresh_interval, Some(Duration::from_secs(90)));
    assert_eq!(
        (c.nat_port_range, c.nat_outgoing_exclusions),
        (None, NatExclusions::IpPoolsOnly)
    );
    assert_eq!(
        (c.nft_filter_accept, c.nft_filter_deny_action),
        (true, DenyAction::Drop)
    );
    assert_eq!((c.nft_mark_mask, c.max_ipset_size), (0xffff_0000, 1_048_576));
}

#[test]
fn what_is_set_arrives() {
    let c = with(&[
        ("DatastoreType", "kubernetes"),
        ("EtcdAddr", "e:1"),
        ("EtcdScheme", "https"),
        ("LogSeverityScreen", "none"),
        ("InterfacePrefix", "cali,tap"),
        ("DefaultEndpointToHostAction", "return"),
        ("NftablesFilterAllowAction", "return"),
        ("NftablesFilterDenyAction", "reject"),
        ("RouteRefreshInterval", "0"),
        ("NATPortRange", "100:200"),
        ("VXLANMTU", "1400"),
        ("VXLANEnabled", "n"),
        ("EndpointStatusPathPrefix", "none"),
        ("FailsafeInboundHostPorts", "none"),
    ]);
    assert_eq!(c.datastore_type, Some(DatastoreType::Kubernetes));
    assert_eq!(c.etcd_endpoints, ["https://e:1"]);
    assert_eq!(c.log_severity_screen, None);
    assert_eq!(c.interface_prefixes, ["cali", "tap"]);
    assert_eq!(c.default_endpoint_to_host_action, EndpointToHost::Return);
    assert_eq!(
        (c.nft_filter_accept, c.nft_filter_deny_action),
        (false, DenyAction::Reject)
    );
    assert_eq!(c.route_refresh_interval, None);
    assert_eq!(
        c.nat_port_range.map(|r| r.to_string()).as_deref(),
        Some("100:200")
    );
    assert_eq!(
        (c.vxlan_mtu, c.vxlan_enabled, c.endpoint_status_path_prefix),
        (Some(1400), Some(false), None)
    );
    assert_eq!(c.failsafe_inbound, []);
}

#[test]
fn the_bounds_of_every_number_fit_its_field() {
    for param in Param::all() {
        if let Kind::Int((low, high)) = param.kind {
            for n in [low, high] {
                with(&[(param.name, &n.to_string())]);
            }
        }
    }
}

#[test]
fn every_word_has_its_variant() {
    for name in [
        "DatastoreType",
        "DefaultEndpointToHostAction",
        "NATOutgoingExclusions",
        "ServiceLoopPrevention",
        "NftablesFilterDenyAction",
        "LogSeverityScreen",
    ] {
        let Kind::OneOf(words) = Param::by_name(name).unwrap().kind else {
            panic!("{name} has no words")
        };
        let views: Vec<_> = words
            .iter()
            .map(|w| format!("{:?}", with(&[(name, w)])))
            .collect();
        for (i, view) in views.iter().enumerate() {
            assert!(
                !views[..i].contains(view),
                "{name}: {} is read as another word",
                words[i]
            );
        }
    }
}
