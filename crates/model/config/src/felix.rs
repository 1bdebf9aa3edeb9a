//! What the agent reads of its parameters, as plain typed fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use caracal_net::{PerFamily, PortRange};

use crate::layers::{Resolved, Source};
use crate::value::{ProtoPort, Value};

/// A word parameter as an enum: each variant with its word in the table.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// Which datastore was asked for.
    DatastoreType {
        /// etcd's v3 API.
        Etcdv3 = "etcdv3",
        /// The Kubernetes API.
        Kubernetes = "kubernetes",
    }
}

words! {
    /// What happens to traffic from workloads to their host that policy did not decide.
    EndpointToHost {
        /// Dropped.
        Drop = "DROP",
        /// Handed to the host's own rules.
        Return = "RETURN",
        /// Let in.
        Accept = "ACCEPT",
    }
}

words! {
    /// How a denied packet is answered.
    DenyAction {
        /// Not at all.
        Drop = "DROP",
        /// With an ICMP error or a TCP reset.
        Reject = "REJECT",
    }
}

words! {
    /// What becomes of forwarded packets to addresses of services that nobody translated.
    ServiceLoopPrevention {
        /// Dropped.
        Drop = "Drop",
        /// Refused.
        Reject = "Reject",
        /// They go on.
        Disabled = "Disabled",
    }
}

words! {
    /// Which destinations are spared from outgoing NAT.
    NatExclusions {
        /// Addresses of IP pools.
        IpPoolsOnly = "IPPoolsOnly",
        /// Those and the addresses of hosts.
        IpPoolsAndHostIps = "IPPoolsAndHostIPs",
    }
}

words! {
    /// The least severe log line that is written.
    LogSeverity {
        /// Everything.
        Trace = "TRACE",
        /// What a developer wants.
        Debug = "DEBUG",
        /// What an operator wants.
        Info = "INFO",
        /// What may go wrong.
        Warning = "WARNING",
        /// What went wrong.
        Error = "ERROR",
        /// What ends the process.
        Fatal = "FATAL",
    }
}

words! {
    /// How log lines look.
    LogFormat {
        /// For people.
        Text = "text",
        /// For programs.
        Json = "json",
    }
}

/// How the agent reports to the datastore on itself and its endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reporting {
    /// OpenStack's region; empty where there are none.
    pub region: String,
    /// How long changes of endpoints are gathered.
    pub delay: Duration,
    /// How often the agent says that it lives; `None` for never.
    pub interval: Option<Duration>,
    /// How long that holds; `None` for ever.
    pub ttl: Option<Duration>,
}

/// The agent's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each field is the parameter of the same name; units and deviations are noted"
)]
pub struct FelixConfig {
    /// `None`: nobody asked for one, so it is found out.
    pub datastore_type: Option<DatastoreType>,
    /// The endpoints, or the one made of `EtcdScheme` and `EtcdAddr` where the address was set; empty if nobody named any.
    pub etcd_endpoints: Vec<String>,
    pub etcd_ca_file: Option<String>,
    pub etcd_cert_file: Option<String>,
    pub etcd_key_file: Option<String>,
    /// `None`: the host's own name.
    pub felix_hostname: Option<String>,

    pub health_enabled: bool,
    pub health_host: String,
    pub health_port: u16,
    pub prometheus_metrics_enabled: bool,
    /// `None`: every address.
    pub prometheus_metrics_host: Option<String>,
    pub prometheus_metrics_port: u16,
    /// `None`: nothing is written to the terminal (`none`).
    pub log_severity_screen: Option<LogSeverity>,
    pub log_prefix: String,
    /// Lines per time (`second`, `minute`, `hour`, `day`) of each Log rule; `None`: no bound.
    pub log_action_rate: Option<(u64, String)>,
    /// Lines of each Log rule that may come at once.
    pub log_action_burst: u64,
    /// Caracal's own.
    pub log_format: LogFormat,
    /// Caracal's own: the agent API's socket.
    pub agent_socket: String,
    /// Whether connections end that policy would not allow any more.
    pub cut_connections: bool,
    /// Whether what Calico left in the node's packet filters is taken out as soon as ours is in force.
    pub remove_calico: bool,

    /// The prefixes of workload interfaces' names, at least one.
    pub interface_prefixes: Vec<String>,
    pub ipv6_support: bool,
    pub default_endpoint_to_host_action: EndpointToHost,
    pub failsafe_inbound: Vec<ProtoPort>,
    pub failsafe_outbound: Vec<ProtoPort>,
    pub disable_conntrack_invalid_check: bool,
    pub allow_vxlan_packets_from_workloads: bool,
    pub allow_ipip_packets_from_workloads: bool,
    /// Whether workloads may send from the prefixes that their annotations name.
    pub workload_source_spoofing: bool,
    pub service_loop_prevention: ServiceLoopPrevention,
    /// Whether the parameters say that this is a host of OpenStack; see [`FelixConfig::in_cluster`].
    pub openstack: bool,
    /// Where OpenStack's metadata service listens (`MetadataAddr`, `MetadataPort`); `None`: nowhere that is known.
    pub metadata: Option<(Ipv4Addr, u16)>,
    /// `None`: no status files.
    pub endpoint_status_path_prefix: Option<String>,
    /// How the agent reports to the datastore; `None` when it does not.
    pub reporting: Option<Reporting>,

    /// `None`: follow the pools.
    pub vxlan_enabled: Option<bool>,
    /// Bytes; `None`: found out.
    pub vxlan_mtu: Option<u16>,
    /// Bytes; `None`: found out.
    pub vxlan_mtu_v6: Option<u16>,
    pub vxlan_port: u16,
    pub vxlan_vni: u32,

    /// `WireguardEnabled`, `WireguardEnabledV6`.
    pub wireguard_enabled: PerFamily<bool>,
    /// `WireguardListeningPort`, `WireguardListeningPortV6`.
    pub wireguard_port: PerFamily<u16>,
    /// Whether there is IP-in-IP; `None`: follow the pools.
    pub ipip_enabled: Option<bool>,
    /// Bytes; `None`: found out.
    pub ipip_mtu: Option<u16>,

    pub device_route_protocol: u8,
    pub device_route_source: Option<Ipv4Addr>,
    pub device_route_source_v6: Option<Ipv6Addr>,
    pub remove_external_routes: bool,
    /// Whether routes of pools with IP-in-IP are the agent's to write (`ProgramClusterRoutes`).
    pub ipip_routes: bool,
    /// Whether routes of pools without encapsulation are the agent's to write (`ProgramClusterRoutes`).
    pub unencapsulated_routes: bool,
    /// `None`: no audit of routes.
    pub route_refresh_interval: Option<Duration>,

    pub nat_port_range: Option<PortRange>,
    pub nat_outgoing_address: Option<Ipv4Addr>,
    pub nat_outgoing_exclusions: NatExclusions,

    pub nft_filter_deny_action: DenyAction,
    pub nft_mark_mask: u32,
    /// `None`: no audit of the ruleset.
    pub nft_refresh_interval: Option<Duration>,
}

impl FelixConfig {
    /// Reads the resolved parameters.
    #[must_use]
    pub fn new(resolved: &Resolved) -> Self {
        Self::read(&Reader::new(resolved))
    }

    /// What also the type of the cluster says (`clusterType` of ClusterInformation, words with commas between them).
    #[must_use]
    pub fn in_cluster(mut self, cluster_type: &str) -> Self {
        self.openstack |= cluster_type.to_lowercase().contains("openstack");
        self
    }

    fn read(r: &Reader<'_>) -> Self {
        FelixConfig {
            datastore_type: r
                .word("DatastoreType", DatastoreType::from_word)
                .filter(|_| r.is_set("DatastoreType")),
            etcd_endpoints: r.etcd_endpoints(),
            etcd_ca_file: r.text_if_any("EtcdCaFile"),
            etcd_cert_file: r.text_if_any("EtcdCertFile"),
            etcd_key_file: r.text_if_any("EtcdKeyFile"),
            felix_hostname: r.text_if_any("FelixHostname"),
            health_enabled: r.flag("HealthEnabled"),
            health_host: r.text("HealthHost"),
            health_port: r.number("HealthPort"),
            prometheus_metrics_enabled: r.flag("PrometheusMetricsEnabled"),
            prometheus_metrics_host: r.text_if_any("PrometheusMetricsHost"),
            prometheus_metrics_port: r.number("PrometheusMetricsPort"),
            log_severity_screen: r.word("LogSeverityScreen", LogSeverity::from_word),
            log_prefix: r.text("LogPrefix"),
            log_action_rate: r.rate("LogActionRateLimit"),
            log_action_burst: r.number("LogActionRateLimitBurst"),
            log_format: r
                .word("LogFormat", LogFormat::from_word)
                .unwrap_or(LogFormat::Text),
            agent_socket: r.text("AgentSocket"),
            cut_connections: r.flag("CutConnections"),
            remove_calico: r.flag("RemoveCalico"),
            interface_prefixes: r.text("InterfacePrefix").split(',').map(str::to_owned).collect(),
            ipv6_support: r.flag("Ipv6Support"),
            default_endpoint_to_host_action: r
                .word("DefaultEndpointToHostAction", EndpointToHost::from_word)
                .unwrap_or(EndpointToHost::Drop),
            failsafe_inbound: r.proto_ports("FailsafeInboundHostPorts"),
            failsafe_outbound: r.proto_ports("FailsafeOutboundHostPorts"),
            disable_conntrack_invalid_check: r.flag("DisableConntrackInvalidCheck"),
            allow_vxlan_packets_from_workloads: r.flag("AllowVXLANPacketsFromWorkloads"),
            allow_ipip_packets_from_workloads: r.flag("AllowIPIPPacketsFromWorkloads"),
            workload_source_spoofing: r
                .word("WorkloadSourceSpoofing", |word| (word == "Any").then_some(()))
                .is_some(),
            service_loop_prevention: r
                .word("ServiceLoopPrevention", ServiceLoopPrevention::from_word)
                .unwrap_or(ServiceLoopPrevention::Drop),
            openstack: r.openstack(),
            metadata: r.metadata(),
            endpoint_status_path_prefix: r.text_if_any("EndpointStatusPathPrefix"),
            reporting: r.flag("EndpointReportingEnabled").then(|| Reporting {
                region: r.text("OpenstackRegion"),
                delay: r.interval("EndpointReportingDelaySecs").unwrap_or_default(),
                interval: r.interval("ReportingIntervalSecs"),
                ttl: r.interval("ReportingTTLSecs"),
            }),
            vxlan_enabled: r.optional_flag("VXLANEnabled"),
            vxlan_mtu: Some(r.number("VXLANMTU")).filter(|n| *n != 0),
            vxlan_mtu_v6: Some(r.number("VXLANMTUV6")).filter(|n| *n != 0),
            vxlan_port: r.number("VXLANPort"),
            vxlan_vni: r.number("VXLANVNI"),
            wireguard_enabled: PerFamily {
                v4: r.flag("WireguardEnabled"),
                v6: r.flag("WireguardEnabledV6"),
            },
            wireguard_port: PerFamily {
                v4: r.number("WireguardListeningPort"),
                v6: r.number("WireguardListeningPortV6"),
            },
            ipip_enabled: r.optional_flag("IpInIpEnabled"),
            ipip_mtu: Some(r.number("IpInIpMtu")).filter(|n| *n != 0),
            device_route_protocol: r.number("DeviceRouteProtocol"),
            device_route_source: r.ipv4("DeviceRouteSourceAddress"),
            device_route_source_v6: r.ipv6("DeviceRouteSourceAddressIPv6"),
            remove_external_routes: r.flag("RemoveExternalRoutes"),
            ipip_routes: matches!(
                r.text("ProgramClusterRoutes").as_str(),
                "Enabled" | "EnabledIPIPOnly"
            ),
            unencapsulated_routes: matches!(
                r.text("ProgramClusterRoutes").as_str(),
                "Enabled" | "EnabledNoEncapOnly"
            ),
            route_refresh_interval: r.interval("RouteRefreshInterval"),
            nat_port_range: r.port_range("NATPortRange"),
            nat_outgoing_address: r.ipv4("NATOutgoingAddress"),
            nat_outgoing_exclusions: r
                .word("NATOutgoingExclusions", NatExclusions::from_word)
                .unwrap_or(NatExclusions::IpPoolsOnly),
            nft_filter_deny_action: r
                .word("NftablesFilterDenyAction", DenyAction::from_word)
                .unwrap_or(DenyAction::Drop),
            nft_mark_mask: r.mask("NftablesMarkMask"),
            nft_refresh_interval: r.interval("NftablesRefreshInterval"),
        }
    }
}

/// Reads values by name. Which kind a row has is fixed in the table, so asking for another kind is a mistake in this
/// file, and the tests read every field.
struct Reader<'a> {
    resolved: &'a Resolved,
    /// The names that were asked for.
    #[cfg(test)]
    asked: std::cell::RefCell<std::collections::BTreeSet<&'static str>>,
}

/// Reads the value of one kind, or says which row has another.
macro_rules! read {
    ($self:ident, $name:ident, $pattern:pat => $value:expr) => {
        match $self.value($name) {
            $pattern => $value,
            other => unreachable!("{} is of another kind in the table: {other:?}", $name),
        }
    };
}

impl<'a> Reader<'a> {
    fn new(resolved: &'a Resolved) -> Self {
        Self {
            resolved,
            #[cfg(test)]
            asked: std::cell::RefCell::default(),
        }
    }

    fn value(&self, name: &str) -> &Value {
        let found = self
            .resolved
            .get(name)
            .expect("every name asked for here is a row of the table");
        #[cfg(test)]
        self.asked.borrow_mut().insert(found.param.name);
        &found.value
    }

    fn is_set(&self, name: &str) -> bool {
        self.resolved
            .get(name)
            .is_some_and(|p| p.source != Source::Default)
    }

    fn flag(&self, name: &str) -> bool {
        read!(self, name, Value::Bool(b) => *b)
    }

    fn optional_flag(&self, name: &str) -> Option<bool> {
        read!(self, name, Value::OptionalBool(b) => *b)
    }

    fn text(&self, name: &str) -> String {
        read!(self, name, Value::Text(s) => s.clone())
    }

    fn text_if_any(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|s| !s.is_empty())
    }

    fn word<T>(&self, name: &str, from_word: fn(&str) -> Option<T>) -> Option<T> {
        from_word(&self.text(name))
    }

    /// The rows' bounds are those of the fields' types; `none` is zero.
    fn number<T: TryFrom<i64>>(&self, name: &str) -> T {
        let n = read!(self, name, Value::Int(n) => *n);
        T::try_from(n)
            .ok()
            .expect("the row's bounds are within the field's type")
    }

    fn mask(&self, name: &str) -> u32 {
        read!(self, name, Value::Mask(n) => *n)
    }

    fn interval(&self, name: &str) -> Option<Duration> {
        let nanos = read!(self, name, Value::Nanos(n) => *n);
        u64::try_from(nanos)
            .ok()
            .filter(|n| *n > 0)
            .map(Duration::from_nanos)
    }

    fn ipv4(&self, name: &str) -> Option<Ipv4Addr> {
        read!(self, name, Value::Ip(ip) => ip.and_then(|ip| match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        }))
    }

    fn ipv6(&self, name: &str) -> Option<Ipv6Addr> {
        read!(self, name, Value::Ip(ip) => ip.and_then(|ip| match ip {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        }))
    }

    fn port_range(&self, name: &str) -> Option<PortRange> {
        read!(self, name, Value::PortRange(r) => Some(*r).filter(|r| r.last > 0))
    }

    /// `5/minute` as its parts.
    fn rate(&self, name: &str) -> Option<(u64, String)> {
        let text = self.text_if_any(name)?;
        let (number, time) = text.split_once('/')?;
        Some((number.parse().ok()?, time.to_owned()))
    }

    fn proto_ports(&self, name: &str) -> Vec<ProtoPort> {
        read!(self, name, Value::ProtoPorts(l) => l.clone().unwrap_or_default())
    }

    /// As Calico tells: a metadata service elsewhere than by default, or interfaces of OpenStack's name.
    fn openstack(&self) -> bool {
        let addr = self.text("MetadataAddr");
        let port: u16 = self.number("MetadataPort");
        !matches!(addr.as_str(), "" | "127.0.0.1")
            || !matches!(port, 0 | 8775)
            || self.text("InterfacePrefix").split(',').any(|p| p == "tap")
    }

    /// A name in the place of the address, and port 0, lead nowhere.
    fn metadata(&self) -> Option<(Ipv4Addr, u16)> {
        let port: u16 = self.number("MetadataPort");
        let addr = self.text("MetadataAddr").parse().ok()?;
        Some((addr, port)).filter(|_| port != 0)
    }

    fn etcd_endpoints(&self) -> Vec<String> {
        let name = "EtcdEndpoints";
        let given = read!(self, name, Value::List(l) => l.clone().unwrap_or_default());
        if !given.is_empty() {
            return given;
        }
        match (self.text("EtcdScheme"), self.text_if_any("EtcdAddr")) {
            (scheme, Some(addr)) if !scheme.is_empty() && self.is_set("EtcdAddr") => {
                vec![format!("{scheme}://{addr}")]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
