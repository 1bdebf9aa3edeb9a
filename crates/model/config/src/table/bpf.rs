//! Parameters of the eBPF dataplane.

use super::shapes::{ANY, CONNTRACK_TIMEOUTS};
use super::{Group, Kind, PairsAs, Param, SpecRule, p};

pub(super) const GROUPS: &[Group] = &[Group {
    title: "eBPF dataplane",
    params: BPF,
}];

#[rustfmt::skip]
const BPF: &[Param] = &[
    p("BPFAttachType", "bpfAttachType", Kind::OneOf(&["Netkit", "TCX", "TC"]), "Netkit").nonzero().spec(SpecRule::Exactly(&["TC", "TCX", "Netkit"])),
    p("BPFCTLBLogFilter", "bpfCTLBLogFilter", Kind::OneOf(&["all"]), ""),
    p("BPFConnectTimeLoadBalancing", "bpfConnectTimeLoadBalancing", Kind::OneOf(&["Disabled", "Enabled", "TCP"]), "TCP").nonzero().spec(SpecRule::Exactly(&["TCP", "Enabled", "Disabled"])),
    p("BPFConnectTimeLoadBalancingEnabled", "bpfConnectTimeLoadBalancingEnabled", Kind::Bool, ""),
    p("BPFConntrackCleanupMode", "bpfConntrackMode", Kind::OneOf(&["Auto", "BPFProgram", "Userspace"]), "Auto").spec(SpecRule::Exactly(&["Auto", "Userspace", "BPFProgram"])),
    p("BPFConntrackLogLevel", "bpfConntrackLogLevel", Kind::OneOf(&["debug", "off"]), "off").nonzero().spec(SpecRule::Exactly(&["Off", "Debug"])),
    p("BPFConntrackTimeouts", "bpfConntrackTimeouts", Kind::Pairs(PairsAs::Fields(CONNTRACK_TIMEOUTS)), "CreationGracePeriod=10s,TCPSynSent=20s,TCPEstablished=1h,TCPFinsSeen=Auto,TCPResetSeen=40s,UDPTimeout=60s,GenericTimeout=10m,ICMPTimeout=5s"),
    p("BPFDSROptoutCIDRs", "bpfDSROptoutCIDRs", Kind::Cidrs, ""),
    p("BPFDataIfacePattern", "bpfDataIfacePattern", Kind::Regex, "^((en|wl|ww|sl|ib)[Popsx].*|(eth|wlan|wwan|bond).*)"),
    p("BPFDisableGROForIfaces", "bpfDisableGROForIfaces", Kind::Regex, ""),
    p("BPFDisableUnprivileged", "bpfDisableUnprivileged", Kind::Bool, "true"),
    p("BPFEnabled", "bpfEnabled", Kind::Bool, "false"),
    p("BPFEnforceRPF", "bpfEnforceRPF", Kind::OneOf(&["Disabled", "Loose", "Strict"]), "Loose").nonzero(),
    p("BPFExcludeCIDRsFromNAT", "bpfExcludeCIDRsFromNAT", Kind::Cidrs, ""),
    p("BPFExportBufferSizeMB", "bpfExportBufferSizeMB", Kind::Int(ANY), "1").nonzero(),
    p("BPFExtToServiceConnmark", "bpfExtToServiceConnmark", Kind::Int(ANY), "0"),
    p("BPFExternalServiceMode", "bpfExternalServiceMode", Kind::OneOf(&["dsr", "tunnel"]), "tunnel").nonzero(),
    p("BPFForceTrackPacketsFromIfaces", "bpfForceTrackPacketsFromIfaces", Kind::Interfaces, "docker+"),
    p("BPFHostConntrackBypass", "bpfHostConntrackBypass", Kind::Bool, "false"),
    p("BPFHostNetworkedNATWithoutCTLB", "bpfHostNetworkedNATWithoutCTLB", Kind::OneOf(&["Disabled", "Enabled"]), "Enabled").nonzero().spec(SpecRule::Exactly(&["Enabled", "Disabled"])),
    p("BPFIPFragTimeout", "bpfIPFragTimeout", Kind::Seconds, "0"),
    p("BPFIPFragmentReassemblyEnabled", "bpfIPFragmentReassemblyEnabled", Kind::Bool, "true"),
    p("BPFJITHardening", "bpfJITHardening", Kind::OneOf(&["Auto", "Strict"]), "Auto").nonzero().spec(SpecRule::Exactly(&["Auto", "Strict"])),
    p("BPFKubeProxyHealthzPort", "bpfKubeProxyHealthzPort", Kind::Int(ANY), "10256"),
    p("BPFKubeProxyIptablesCleanupEnabled", "bpfKubeProxyIptablesCleanupEnabled", Kind::Bool, "true"),
    p("BPFKubeProxyMinSyncPeriod", "bpfKubeProxyMinSyncPeriod", Kind::Seconds, "1"),
    p("BPFL3IfacePattern", "bpfL3IfacePattern", Kind::Regex, ""),
    p("BPFLogFilters", "bpfLogFilters", Kind::Pairs(PairsAs::Object), ""),
    p("BPFLogLevel", "bpfLogLevel", Kind::OneOf(&["debug", "info", "off"]), "off").nonzero(),
    p("BPFMaglevMaxEndpointsPerService", "bpfMaglevMaxEndpointsPerService", Kind::Int((1, 3000)), "100"),
    p("BPFMaglevMaxServices", "bpfMaglevMaxServices", Kind::Int((1, 3000)), "100"),
    p("BPFMapSizeConntrack", "bpfMapSizeConntrack", Kind::Int(ANY), "512000").nonzero(),
    p("BPFMapSizeConntrackCleanupQueue", "bpfMapSizeConntrackCleanupQueue", Kind::Int(ANY), "100000").nonzero().spec(SpecRule::Within(1, i64::MAX)),
    p("BPFMapSizeConntrackScaling", "bpfMapSizeConntrackScaling", Kind::OneOf(&["Disabled", "DoubleIfFull"]), "DoubleIfFull").nonzero(),
    p("BPFMapSizeIPSets", "bpfMapSizeIPSets", Kind::Int(ANY), "1048576").nonzero(),
    p("BPFMapSizeIfState", "bpfMapSizeIfState", Kind::Int(ANY), "1000").nonzero(),
    p("BPFMapSizeNATAffinity", "bpfMapSizeNATAffinity", Kind::Int(ANY), "65536").nonzero(),
    p("BPFMapSizeNATBackend", "bpfMapSizeNATBackend", Kind::Int(ANY), "262144").nonzero(),
    p("BPFMapSizeNATFrontend", "bpfMapSizeNATFrontend", Kind::Int(ANY), "65536").nonzero(),
    p("BPFMapSizePerCPUConntrack", "bpfMapSizePerCpuConntrack", Kind::Int(ANY), "0"),
    p("BPFMapSizeRoute", "bpfMapSizeRoute", Kind::Int(ANY), "262144").nonzero(),
    p("BPFOverlayHostSourceIP", "bpfOverlayHostSourceIP", Kind::OneOf(&["HostAddress", "TunnelAddress"]), "TunnelAddress").nonzero().spec(SpecRule::Exactly(&["TunnelAddress", "HostAddress"])),
    p("BPFPSNATPorts", "bpfPSNATPorts", Kind::PortRange, "20000:29999"),
    p("BPFPolicyDebugEnabled", "bpfPolicyDebugEnabled", Kind::Bool, "true"),
    p("BPFProfiling", "bpfProfiling", Kind::OneOf(&["Disabled", "Enabled"]), "Disabled").nonzero().spec(SpecRule::Exactly(&["Enabled", "Disabled"])),
    p("BPFRedirectToPeer", "bpfRedirectToPeer", Kind::OneOf(&["Disabled", "Enabled", "L2Only"]), "Enabled").nonzero().spec(SpecRule::Exactly(&["Enabled", "Disabled"])),
];
