use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($variant:ident, $name:literal, $plural:literal, $namespaced:literal, $public:literal, [$($alias:literal),*];)*) => {
        /// The name of a kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind {
            $(#[doc = concat!("`", $name, "`.")] #[serde(rename = $name)] $variant,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),*];

            /// The kind as `kind:` has it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Kind::$variant => $name),* }
            }

            /// The lower-case plural, as in URLs and etcd keys.
            #[must_use]
            pub fn plural(self) -> &'static str {
                match self { $(Kind::$variant => $plural),* }
            }

            /// Whether its objects live in a namespace.
            #[must_use]
            pub fn namespaced(self) -> bool {
                match self { $(Kind::$variant => $namespaced),* }
            }

            /// Whether users work with it by `calicoctl`; the others are internal: IPAM's, and what programs tell one another.
            #[must_use]
            pub fn public(self) -> bool {
                match self { $(Kind::$variant => $public),* }
            }

            /// The other names that `calicoctl` takes, in lower case, without the kind's own and the plural.
            #[must_use]
            pub fn aliases(self) -> &'static [&'static str] {
                match self { $(Kind::$variant => &[$($alias),*]),* }
            }
        }
    };
}

kinds! {
    NetworkPolicy, "NetworkPolicy", "networkpolicies", true, true, ["policy", "np", "policies", "pol", "pols"];
    GlobalNetworkPolicy, "GlobalNetworkPolicy", "globalnetworkpolicies", false, true, ["gnp", "gnps"];
    Tier, "Tier", "tiers", false, true, [];
    NetworkSet, "NetworkSet", "networksets", true, true, ["netsets"];
    GlobalNetworkSet, "GlobalNetworkSet", "globalnetworksets", false, true, ["gnetsets"];
    Profile, "Profile", "profiles", false, true, ["pro", "pros"];
    WorkloadEndpoint, "WorkloadEndpoint", "workloadendpoints", true, true, ["wep", "weps"];
    HostEndpoint, "HostEndpoint", "hostendpoints", false, true, ["hep", "heps"];
    Node, "Node", "nodes", false, true, ["no", "nos"];
    IpPool, "IPPool", "ippools", false, true, ["ipp", "ipps", "pool", "pools"];
    IpamBlock, "IPAMBlock", "ipamblocks", false, false, [];
    IpamHandle, "IPAMHandle", "ipamhandles", false, false, [];
    BlockAffinity, "BlockAffinity", "blockaffinities", false, false, ["affinity", "affinities"];
    IpamConfiguration, "IPAMConfiguration", "ipamconfigurations", false, true, ["ipamconfig", "ipamconfigs"];
    ClusterInformation, "ClusterInformation", "clusterinformations", false, true, ["clusterinfo", "clusterinfos"];
    StagedNetworkPolicy, "StagedNetworkPolicy", "stagednetworkpolicies", true, true, ["stagedpolicy", "snp", "stagedpolicies", "spol", "spols"];
    StagedGlobalNetworkPolicy, "StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies", false, true, ["sgnp", "sgnps"];
    StagedKubernetesNetworkPolicy, "StagedKubernetesNetworkPolicy", "stagedkubernetesnetworkpolicies", true, true, ["stagedkubernetespolicy", "sknp", "stagedkubernetespolicies", "skpol", "skpols"];
    BgpConfiguration, "BGPConfiguration", "bgpconfigurations", false, true, ["bgpconfig", "bgpconfigs"];
    BgpPeer, "BGPPeer", "bgppeers", false, true, ["bgpp", "bgpps", "bp", "bps"];
    BgpFilter, "BGPFilter", "bgpfilters", false, true, ["bgpf", "bgpfs", "bf", "bfs"];
    IpReservation, "IPReservation", "ipreservations", false, true, ["reservation", "reservations"];
    KubeControllersConfiguration, "KubeControllersConfiguration", "kubecontrollersconfigurations", false, true, ["kubecontrollersconfig", "kubecontrollersconfigs"];
    CalicoNodeStatus, "CalicoNodeStatus", "caliconodestatuses", false, true, ["nodestatus", "nodestatuses"];
    FelixConfiguration, "FelixConfiguration", "felixconfigurations", false, true, ["felixconfig", "felixconfigs"];
    KubernetesService, "KubernetesService", "kubernetesservice", true, false, [];
    KubernetesEndpointSlice, "KubernetesEndpointSlice", "kubernetesendpointslices", true, false, [];
    LiveMigration, "LiveMigration", "livemigrations", true, false, [];
}

impl Kind {
    /// The kind of a `kind:` field, exact.
    #[must_use]
    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|k| k.as_str() == name)
    }

    /// The kind of a name on a command line: kind, plural or alias, any case.
    #[must_use]
    pub fn from_cli(name: &str) -> Option<Kind> {
        let name = name.to_ascii_lowercase();
        Kind::ALL.iter().copied().find(|k| {
            k.as_str().to_ascii_lowercase() == name
                || k.plural() == name
                || k.aliases().contains(&name.as_str())
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The identity of an object: kind, namespace (empty where the kind has none) and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceKey {
    /// The kind.
    pub kind: Kind,
    /// The namespace, or empty.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ResourceKey {
    /// Wraps the three parts.
    #[must_use]
    pub fn of(kind: Kind, namespace: Option<&str>, name: &str) -> Self {
        Self {
            kind,
            namespace: Arc::from(namespace.unwrap_or_default()),
            name: Arc::from(name),
        }
    }

    /// The key of an object without a namespace.
    #[must_use]
    pub fn global(kind: Kind, name: &str) -> Self {
        Self::of(kind, None, name)
    }

    /// The key of an object in a namespace.
    #[must_use]
    pub fn namespaced(kind: Kind, namespace: &str, name: &str) -> Self {
        Self::of(kind, Some(namespace), name)
    }

    /// The namespace, if there is one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        if self.namespace.is_empty() {
            None
        } else {
            Some(&self.namespace)
        }
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}({})", self.kind, self.name)
        } else {
            write!(f, "{}({}/{})", self.kind, self.namespace, self.name)
        }
    }
}

impl fmt::Debug for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
