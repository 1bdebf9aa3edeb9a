use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use caracal_net::PerFamily;

use super::{
    DatastoreType, DenyAction, EndpointToHost, FelixConfig, LogFormat, LogSeverity, NatExclusions, Reader,
};
use crate::layers::{Resolved, Sources, resolve};
use crate::parse::parse;
use crate::table::{Applies, Kind, Param};

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
    assert_eq!(
        (c.vxlan_enabled, c.vxlan_mtu, c.vxlan_port, c.vxlan_vni),
        (None, None, 4789, 4096)
    );
    assert_eq!((c.ipip_enabled, c.ipip_mtu), (None, None));
    assert_eq!(c.wireguard_enabled, PerFamily { v4: false, v6: false });
    assert_eq!(c.wireguard_port, PerFamily { v4: 51820, v6: 51821 });
    assert_eq!((c.ipip_routes, c.unencapsulated_routes), (true, false));
    assert_eq!((c.device_route_protocol, c.remove_external_routes), (3, true));
    assert_eq!(c.route_refresh_interval, Some(Duration::from_secs(90)));
    assert_eq!(
        (c.nat_port_range, c.nat_outgoing_exclusions),
        (None, NatExclusions::IpPoolsOnly)
    );
    assert_eq!(
        (c.nft_filter_deny_action, c.nft_mark_mask),
        (DenyAction::Drop, 0xffff_0000)
    );
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
    assert_eq!(c.nft_filter_deny_action, DenyAction::Reject);
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

/// Without these some parameters mean nothing.
const SETTING: &[(&str, &str)] = &[
    ("FELIX_EndpointReportingEnabled", "true"),
    ("FELIX_EtcdAddr", "e:1"),
];

/// Parameters that this version acts on although nobody asks for them here, and who does.
const ELSEWHERE: &[(&str, &str)] = &[(
    "StoreSocket",
    "which datastore is used is decided from the environment alone, before there are parameters",
)];

fn of_env(more: &[(String, &str)]) -> Resolved {
    let set = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
    let more = more.iter().map(|(k, v)| set((k, v)));
    let (names, mut env): (BTreeSet<String>, Vec<_>) = (more.clone().map(|m| m.0).collect(), more.collect());
    env.extend(
        SETTING
            .iter()
            .map(|s| set(*s))
            .filter(|(k, _)| !names.contains(k)),
    );
    resolve(&Sources {
        env,
        ..Sources::default()
    })
}

fn supported() -> impl Iterator<Item = &'static Param> {
    Param::all().chain(Param::own()).filter(|p| p.supported)
}

#[test]
fn supported_is_what_the_agent_asks_for() {
    let resolved = of_env(&[]);
    let reader = Reader::new(&resolved);
    let _ = FelixConfig::read(&reader);
    let mut asked = reader.asked.take();
    asked.extend(ELSEWHERE.iter().map(|(name, _)| *name));
    let supported: BTreeSet<&str> = supported().map(|p| p.name).collect();
    assert_eq!(asked, supported, "asked for, and said to be supported");
}

/// Texts of which at least one is another value of any kind.
const TEXTS: &[&str] = &[
    "true",
    "false",
    "7",
    "1500",
    "0x00ff0000",
    "10.0.0.9",
    "fd00::9",
    "9:10",
    "tcp:9",
    "5/minute",
    "tap",
    "h:9",
    "http://e:9",
    "/some/file",
];

#[test]
fn each_supported_parameter_makes_a_difference() {
    let before = FelixConfig::new(&of_env(&[]));
    for param in supported().filter(|p| ELSEWHERE.iter().all(|(name, _)| *name != p.name)) {
        let words = match param.kind {
            Kind::OneOf(words) => words,
            _ => TEXTS,
        };
        let good = words.iter().filter(|text| parse(param.kind, text).is_ok());
        let mut read = good.map(|text| FelixConfig::new(&of_env(&[(param.env(), text)])));
        let differs = read.any(|config| config != before);
        assert!(differs, "{} changes nothing that the agent reads", param.name);
    }
}

#[test]
fn each_unsupported_parameter_is_named_when_it_is_set_and_changes_nothing() {
    let before = FelixConfig::new(&of_env(&[]));
    for param in Param::all().filter(|p| !p.supported) {
        let words = match param.kind {
            Kind::OneOf(words) => words,
            _ => TEXTS,
        };
        let default = parse(param.kind, param.default).ok();
        let mut texts = words
            .iter()
            .copied()
            .chain(["a=b", "a=5s", "1-5", "EF", "a/b", "eth0", "x.y"]);
        let other = texts.find(|t| parse(param.kind, t).is_ok_and(|v| Some(&v) != default.as_ref()));
        let Some(text) = other else {
            panic!("{}: no other value is tried", param.name)
        };
        let resolved = of_env(&[(param.env(), text)]);
        let named: Vec<&str> = resolved.unsupported().map(|p| p.param.name).collect();
        assert_eq!(named, [param.name], "{text}");
        assert_eq!(FelixConfig::new(&resolved), before, "{} = {text}", param.name);
    }
}

const BEGIN: &str = "<!-- parameters: made by caracal-config's tests; CARACAL_WRITE_DOCS=1 writes it -->\n";
const END: &str = "<!-- end of parameters -->";

fn table() -> String {
    let mut text = "| a change acts | parameters |\n|---|---|\n".to_owned();
    for (title, applies) in [
        ("at once", Applies::AtOnce),
        ("anew", Applies::Anew),
        ("start", Applies::AtStart),
    ] {
        let name = |p: &Param| if p.is_own() { p.env() } else { p.name.to_owned() };
        let mut names: Vec<String> = supported().filter(|p| p.applies == applies).map(name).collect();
        names.sort();
        let _ = writeln!(text, "| {title} | {} |", names.join(", "));
    }
    text
}

#[test]
fn the_table_in_the_docs_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/resources.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("the docs have a place for the table");
    let (now, after) = rest.split_once(END).expect("the table ends");
    let want = table();
    if now == want {
        return;
    }
    if std::env::var_os("CARACAL_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{want}{END}{after}")).unwrap();
        return;
    }
    panic!("docs/resources.md has another table: run the test with CARACAL_WRITE_DOCS=1 and commit");
}
