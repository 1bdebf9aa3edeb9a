//! Parameters of the dataplanes other than eBPF.

use super::shapes::{
    BYTE, HOSTNAME, IFACE, IFACE_PREFIXES, MTU, NOT_NEGATIVE, PORT, PRIORITY, SET_SIZE, VNI,
};
use super::{Group, Kind, Param, SpecRule, p};

pub(super) const GROUPS: &[Group] = &[
    Group {
        title: "dataplane",
        params: COMMON,
    },
    Group {
        title: "iptables dataplane",
        params: IPTABLES,
    },
    Group {
        title: "nftables dataplane",
        params: NFTABLES,
    },
    Group {
        title: "Windows dataplane",
        params: WINDOWS,
    },
    Group {
        title: "OpenStack",
        params: OPENSTACK,
    },
    Group {
        title: "XDP",
        params: XDP,
    },
    Group {
        title: "VXLAN",
        params: VXLAN,
    },
    Group {
        title: "IP in IP",
        params: IPIP,
    },
    Group {
        title: "WireGuard",
        params: WIREGUARD,
    },
];

#[rustfmt::skip]
const COMMON: &[Param] = &[
    p("AllowIPIPPacketsFromWorkloads", "allowIPIPPacketsFromWorkloads", Kind::Bool, "false").supported(),
    p("AllowVXLANPacketsFromWorkloads", "allowVXLANPacketsFromWorkloads", Kind::Bool, "false").supported(),
    p("CgroupV2Path", "cgroupV2Path", Kind::Text, ""),
    p("ChainInsertMode", "chainInsertMode", Kind::OneOf(&["append", "insert"]), "insert").nonzero().exits(),
    p("DataplaneDriver", "dataplaneDriver", Kind::Executable, "calico-iptables-plugin").nonzero().exits(),
    p("DataplaneWatchdogTimeout", "dataplaneWatchdogTimeout", Kind::Seconds, "90"),
    p("DefaultEndpointToHostAction", "defaultEndpointToHostAction", Kind::OneOf(&["ACCEPT", "DROP", "RETURN"]), "DROP").nonzero().exits().supported(),
    p("DeviceRouteProtocol", "deviceRouteProtocol", Kind::Int(BYTE), "3").supported().anew(),
    p("DeviceRouteSourceAddress", "deviceRouteSourceAddress", Kind::Ipv4, "").supported(),
    p("DeviceRouteSourceAddressIPv6", "deviceRouteSourceAddressIPv6", Kind::Ipv6, "").supported(),
    p("DisableConntrackInvalidCheck", "disableConntrackInvalidCheck", Kind::Bool, "false").supported(),
    p("EndpointStatusPathPrefix", "endpointStatusPathPrefix", Kind::Path, "/var/run/calico").supported(),
    p("ExternalNodesCIDRList", "externalNodesList", Kind::Cidrs, "").exits(),
    p("FailsafeInboundHostPorts", "failsafeInboundHostPorts", Kind::ProtoPorts, "tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667").exits().supported(),
    p("FailsafeOutboundHostPorts", "failsafeOutboundHostPorts", Kind::ProtoPorts, "udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667").exits().supported(),
    p("FloatingIPs", "floatingIPs", Kind::OneOf(&["Disabled", "Enabled"]), "Disabled").spec(SpecRule::Exactly(&["Enabled", "Disabled"])),
    p("IPForwarding", "ipForwarding", Kind::OneOf(&["Disabled", "Enabled"]), "Enabled").spec(SpecRule::Exactly(&["Enabled", "Disabled"])),
    p("IPv4ElevatedRoutePriority", "ipv4ElevatedRoutePriority", Kind::Int(PRIORITY), "512"),
    p("IPv4NormalRoutePriority", "ipv4NormalRoutePriority", Kind::Int(PRIORITY), "1024"),
    p("IPv6ElevatedRoutePriority", "ipv6ElevatedRoutePriority", Kind::Int(PRIORITY), "512"),
    p("IPv6NormalRoutePriority", "ipv6NormalRoutePriority", Kind::Int(PRIORITY), "1024"),
    p("InterfaceExclude", "interfaceExclude", Kind::InterfacePatterns, "kube-ipvs0"),
    p("InterfacePrefix", "interfacePrefix", Kind::Matching(IFACE_PREFIXES), "cali").nonzero().exits().supported().anew(),
    p("InterfaceRefreshInterval", "interfaceRefreshInterval", Kind::Seconds, "90"),
    p("Ipv6Support", "ipv6Support", Kind::Bool, "true").supported(),
    p("IstioAmbientMode", "istioAmbientMode", Kind::OneOf(&["Disabled", "Enabled"]), "Disabled").spec(SpecRule::Exactly(&["Enabled", "Disabled"])),
    p("IstioDSCPMark", "istioDSCPMark", Kind::Dscp, "23"),
    p("LiveMigrationRouteConvergenceTime", "liveMigrationRouteConvergenceTime", Kind::Seconds, "30"),
    p("LocalSubnetL2Reachability", "localSubnetL2Reachability", Kind::OneOf(&["Disabled", "PodsAndLoadBalancers"]), "Disabled").spec(SpecRule::Exactly(&["Disabled", "PodsAndLoadBalancers"])),
    p("LocalSubnetL2ReachabilityRefreshInterval", "localSubnetL2ReachabilityRefreshInterval", Kind::Seconds, "120"),
    p("MTUIfacePattern", "mtuIfacePattern", Kind::Regex, "^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)"),
    p("NATOutgoingAddress", "natOutgoingAddress", Kind::Ipv4, "").supported(),
    p("NATOutgoingExclusions", "natOutgoingExclusions", Kind::OneOf(&["IPPoolsAndHostIPs", "IPPoolsOnly"]), "IPPoolsOnly").supported().spec(SpecRule::Exactly(&["IPPoolsOnly", "IPPoolsAndHostIPs"])),
    p("NATPortRange", "natPortRange", Kind::PortRange, "").supported(),
    p("NFTablesFlowTableDataIfacePattern", "nftablesFlowTableDataIfacePattern", Kind::Regex, ""),
    p("NFTablesFlowTableOffload", "nftablesFlowTableOffload", Kind::OneOf(&["All", "Disabled"]), "Disabled").spec(SpecRule::Exactly(&["All", "Disabled"])),
    p("NFTablesMode", "nftablesMode", Kind::OneOf(&["Auto", "Disabled", "Enabled"]), "Auto").spec(SpecRule::Exactly(&["Disabled", "Enabled", "Auto"])),
    p("NetlinkTimeoutSecs", "netlinkTimeout", Kind::Seconds, "10"),
    p("PolicySyncPathPrefix", "policySyncPathPrefix", Kind::Path, ""),
    p("ProgramClusterRoutes", "programClusterRoutes", Kind::OneOf(&["Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly", "Enabled"]), "EnabledIPIPOnly").spec(SpecRule::Exactly(&["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"])).supported(),
    p("RemoveExternalRoutes", "removeExternalRoutes", Kind::Bool, "true").supported().anew(),
    p("RequireMTUFile", "requireMTUFile", Kind::Bool, "false"),
    p("RouteRefreshInterval", "routeRefreshInterval", Kind::Seconds, "90").supported(),
    p("RouteSource", "routeSource", Kind::OneOf(&["CalicoIPAM", "WorkloadIPs"]), "CalicoIPAM"),
    p("RouteSyncDisabled", "routeSyncDisabled", Kind::Bool, "false"),
    p("RouteTableRange", "routeTableRange", Kind::TableRange, "").exits(),
    p("RouteTableRanges", "routeTableRanges", Kind::TableRanges, "").exits(),
    p("ServiceLoopPrevention", "serviceLoopPrevention", Kind::OneOf(&["Disabled", "Drop", "Reject"]), "Drop").supported(),
    p("SidecarAccelerationEnabled", "sidecarAccelerationEnabled", Kind::Bool, "false"),
    p("UseInternalDataplaneDriver", "useInternalDataplaneDriver", Kind::Bool, "true"),
    p("WorkloadSourceSpoofing", "workloadSourceSpoofing", Kind::OneOf(&["Any", "Disabled"]), "Disabled").supported(),
];

#[rustfmt::skip]
const IPTABLES: &[Param] = &[
    p("IpsetsRefreshInterval", "ipsetsRefreshInterval", Kind::Seconds, "90"),
    p("IptablesBackend", "iptablesBackend", Kind::OneOf(&["auto", "legacy", "nft"]), "auto").spec(SpecRule::Exactly(&["Legacy", "NFT", "Auto"])),
    p("IptablesFilterAllowAction", "iptablesFilterAllowAction", Kind::OneOf(&["ACCEPT", "RETURN"]), "ACCEPT").nonzero().exits(),
    p("IptablesFilterDenyAction", "iptablesFilterDenyAction", Kind::OneOf(&["DROP", "REJECT"]), "DROP").nonzero().exits(),
    p("IptablesLockProbeIntervalMillis", "iptablesLockProbeInterval", Kind::Millis, "50"),
    p("IptablesMangleAllowAction", "iptablesMangleAllowAction", Kind::OneOf(&["ACCEPT", "RETURN"]), "ACCEPT").nonzero().exits(),
    p("IptablesMarkMask", "iptablesMarkMask", Kind::MarkMask, "0xffff0000").nonzero().exits(),
    p("IptablesNATOutgoingInterfaceFilter", "iptablesNATOutgoingInterfaceFilter", Kind::Matching(IFACE), ""),
    p("IptablesPostWriteCheckIntervalSecs", "iptablesPostWriteCheckInterval", Kind::Seconds, "5"),
    p("IptablesRefreshInterval", "iptablesRefreshInterval", Kind::Seconds, "180"),
    p("KubeNodePortRanges", "kubeNodePortRanges", Kind::PortRanges, "30000:32767").note("IPVS says itself which ports it forwards"),
    p("MaxIpsetSize", "maxIpsetSize", Kind::Int(SET_SIZE), "1048576").nonzero(),
];

#[rustfmt::skip]
const NFTABLES: &[Param] = &[
    p("NftablesFilterAllowAction", "nftablesFilterAllowAction", Kind::OneOf(&["ACCEPT", "RETURN"]), "ACCEPT").nonzero().exits(),
    p("NftablesFilterDenyAction", "nftablesFilterDenyAction", Kind::OneOf(&["DROP", "REJECT"]), "DROP").nonzero().exits().supported(),
    p("NftablesMangleAllowAction", "nftablesMangleAllowAction", Kind::OneOf(&["ACCEPT", "RETURN"]), "ACCEPT").nonzero().exits(),
    p("NftablesMarkMask", "nftablesMarkMask", Kind::MarkMask, "0xffff0000").nonzero().exits().supported(),
    p("NftablesRefreshInterval", "nftablesRefreshInterval", Kind::Seconds, "180").supported(),
];

#[rustfmt::skip]
const WINDOWS: &[Param] = &[
    p("WindowsManageFirewallRules", "windowsManageFirewallRules", Kind::OneOf(&["Disabled", "Enabled"]), "Disabled").spec(SpecRule::Exactly(&["Enabled", "Disabled"])),
];

#[rustfmt::skip]
const OPENSTACK: &[Param] = &[
    p("EndpointReportingDelaySecs", "endpointReportingDelay", Kind::Seconds, "1").supported().anew(),
    p("EndpointReportingEnabled", "endpointReportingEnabled", Kind::Bool, "false").supported().anew(),
    p("MetadataAddr", "metadataAddr", Kind::Matching(HOSTNAME), "127.0.0.1").exits().supported(),
    p("MetadataPort", "metadataPort", Kind::Int(PORT), "8775").exits().supported(),
    p("OpenstackRegion", "openstackRegion", Kind::Region, "").exits().supported().anew(),
    p("ReportingIntervalSecs", "reportingInterval", Kind::Seconds, "30").supported().anew(),
    p("ReportingTTLSecs", "reportingTTL", Kind::Seconds, "90").supported().anew(),
];

#[rustfmt::skip]
const XDP: &[Param] = &[
    p("GenericXDPEnabled", "genericXDPEnabled", Kind::Bool, "false"),
    p("XDPEnabled", "xdpEnabled", Kind::Bool, "true"),
    p("XDPRefreshInterval", "xdpRefreshInterval", Kind::Seconds, "90"),
];

#[rustfmt::skip]
const VXLAN: &[Param] = &[
    p("VXLANEnabled", "vxlanEnabled", Kind::OptionalBool, "").supported(),
    p("VXLANMTU", "vxlanMTU", Kind::Int(MTU), "0").supported(),
    p("VXLANMTUV6", "vxlanMTUV6", Kind::Int(MTU), "0").supported(),
    p("VXLANPort", "vxlanPort", Kind::Int(PORT), "4789").supported(),
    p("VXLANVNI", "vxlanVNI", Kind::Int(VNI), "4096").supported(),
];

#[rustfmt::skip]
const IPIP: &[Param] = &[
    p("IpInIpEnabled", "ipipEnabled", Kind::OptionalBool, "").supported(),
    p("IpInIpMtu", "ipipMTU", Kind::Int(MTU), "0").supported(),
];

/// What of WireGuard there is.
const WIREGUARD_NOTE: &str =
    "WireGuard's packets pass host endpoints whatever policy says; this version makes no tunnels";

#[rustfmt::skip]
const WIREGUARD: &[Param] = &[
    p("WireguardEnabled", "wireguardEnabled", Kind::Bool, "false").supported().note(WIREGUARD_NOTE),
    p("WireguardEnabledV6", "wireguardEnabledV6", Kind::Bool, "false").supported().note(WIREGUARD_NOTE),
    p("WireguardHostEncryptionEnabled", "wireguardHostEncryptionEnabled", Kind::Bool, "false"),
    p("WireguardInterfaceName", "wireguardInterfaceName", Kind::Matching(IFACE), "wireguard.cali").nonzero(),
    p("WireguardInterfaceNameV6", "wireguardInterfaceNameV6", Kind::Matching(IFACE), "wg-v6.cali").nonzero(),
    p("WireguardListeningPort", "wireguardListeningPort", Kind::Int(PORT), "51820").supported(),
    p("WireguardListeningPortV6", "wireguardListeningPortV6", Kind::Int(PORT), "51821").supported(),
    p("WireguardMTU", "wireguardMTU", Kind::Int(MTU), "0"),
    p("WireguardMTUV6", "wireguardMTUV6", Kind::Int(MTU), "0"),
    p("WireguardPersistentKeepAlive", "wireguardKeepAlive", Kind::Seconds, "0"),
    p("WireguardRoutingRulePriority", "wireguardRoutingRulePriority", Kind::Int(NOT_NEGATIVE), "99"),
    p("WireguardThreadingEnabled", "wireguardThreadingEnabled", Kind::Bool, "false"),
];
