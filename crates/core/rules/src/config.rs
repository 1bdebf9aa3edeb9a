use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use caracal_net::{Cidr, PerFamily, PortRange, Proto};

use crate::ir::Per;

/// What happens to traffic from a workload to its host once policy let it through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostAction {
    /// It is dropped.
    #[default]
    Drop,
    /// It is let in.
    Accept,
    /// The rules of others decide.
    Return,
}

/// How a denied packet is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DenyAction {
    /// Not at all.
    #[default]
    Drop,
    /// With "port unreachable".
    Reject,
}

/// What becomes of forwarded packets to addresses of services that nobody translated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServiceLoops {
    /// They are dropped.
    #[default]
    Drop,
    /// They are refused, and the sender is told.
    Reject,
    /// They go on.
    Disabled,
}

/// What workloads may always ask of a host of OpenStack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenStack {
    /// Where its metadata service listens, if it has one.
    pub metadata: Option<(Ipv4Addr, u16)>,
}

/// How often the log action may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRate {
    /// Lines …
    pub rate: u64,
    /// … in this time.
    pub per: Per,
    /// Lines that may come at once.
    pub burst: u32,
}

/// A port that stays open at host endpoints whatever policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Failsafe {
    /// A protocol with ports.
    pub proto: Proto,
    /// The destination port.
    pub port: u16,
    /// The only peers it is open for; absent means all.
    pub net: Option<Cidr>,
}

/// What the operator says about the rules. All of it may change at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesConfig {
    /// How the names of workload interfaces begin; a text that cannot begin an interface name is passed by.
    pub interface_prefixes: Vec<Arc<str>>,
    /// The end of traffic from workloads to the host.
    pub endpoint_to_host: HostAction,
    /// The answer to denied packets.
    pub deny: DenyAction,
    /// Whether VXLAN is used; absent means as soon as a pool of the family asks for it.
    pub vxlan: PerFamily<Option<bool>>,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// Whether IP-in-IP is used; absent means as soon as a pool asks for it. IPv4 only.
    pub ipip: Option<bool>,
    /// UDP ports of WireGuard, where it is used.
    pub wireguard: PerFamily<Option<u16>>,
    /// Bits of the mark, three at least, that remember where what IPVS forwards came from. They are used while there is
    /// the interface of kube-proxy's IPVS; absent means never.
    pub ipvs_mark: Option<u32>,
    /// Whether workloads may send VXLAN packets of their own.
    pub allow_vxlan_from_workloads: bool,
    /// Whether workloads may send IP-in-IP packets of their own.
    pub allow_ipip_from_workloads: bool,
    /// Whether workloads may send from the prefixes that their endpoints allow, besides their addresses.
    pub source_spoofing: bool,
    /// Whether packets that conntrack calls invalid are dropped to and from workloads.
    pub drop_invalid: bool,
    /// What becomes of packets to addresses of services that nobody translated.
    pub service_loops: ServiceLoops,
    /// What OpenStack's workloads may always ask of their host; absent where there is no OpenStack.
    pub openstack: Option<OpenStack>,
    /// Source ports for outgoing NAT.
    pub nat_ports: Option<PortRange>,
    /// Source address for outgoing NAT; absent means that of the outgoing interface.
    pub nat_address: PerFamily<Option<IpAddr>>,
    /// Whether the addresses of hosts are spared from outgoing NAT, as those of pools are.
    pub nat_spares_hosts: bool,
    /// Whether source ports of outgoing NAT are picked fully at random.
    pub nat_fully_random: bool,
    /// What a line of the log action begins with; `%t` is the tier, `%k` the kind, `%n` the name, `%p` the profile.
    pub log_prefix: Arc<str>,
    /// Bound on the lines of one rule.
    pub log_rate: Option<LogRate>,
    /// The netlink log group that is told of each denied packet; nobody need listen. Absent where the kernel has no such
    /// log.
    pub denied_group: Option<u16>,
    /// A bit of the packet mark that is ours while a packet is judged; only lists of many tiers and host endpoints
    /// use it.
    pub allowed_mark: u32,
    /// Ports of this host that its host endpoints never close.
    pub failsafe_in: Vec<Failsafe>,
    /// Ports of others that this host's host endpoints never close.
    pub failsafe_out: Vec<Failsafe>,
}

impl Default for RulesConfig {
    fn default() -> Self {
        Self {
            interface_prefixes: vec!["cali".into()],
            endpoint_to_host: HostAction::default(),
            deny: DenyAction::default(),
            vxlan: PerFamily::default(),
            vxlan_port: 4789,
            ipip: None,
            wireguard: PerFamily::default(),
            ipvs_mark: None,
            allow_vxlan_from_workloads: false,
            allow_ipip_from_workloads: false,
            source_spoofing: false,
            drop_invalid: true,
            service_loops: ServiceLoops::default(),
            openstack: None,
            nat_ports: None,
            nat_address: PerFamily::default(),
            nat_spares_hosts: false,
            nat_fully_random: true,
            log_prefix: "calico-packet".into(),
            log_rate: None,
            denied_group: None,
            allowed_mark: 0x0001_0000,
            failsafe_in: Vec::new(),
            failsafe_out: Vec::new(),
        }
    }
}
