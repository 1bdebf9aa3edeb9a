//! CustomResourceDefinitions.

use std::{collections::BTreeMap, sync::OnceLock};

use caracal_api::Kind;
use serde_json::{Map, Value, json};

use crate::{kinds, schema::Schema};

/// Group and version of ClusterNetworkPolicy, the one kind of Kubernetes whose schema is known here.
pub const CLUSTER_NETWORK_POLICY: (&str, &str) =
    ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy");

/// An API group that serves the kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// `projectcalico.org/v3`, which users write.
    V3,
    /// `crd.projectcalico.org/v1`, where an API server of Calico's keeps them.
    V1,
}

impl Group {
    /// Both.
    pub const ALL: [Group; 2] = [Group::V3, Group::V1];

    /// The group's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V3 => "projectcalico.org",
            Self::V1 => "crd.projectcalico.org",
        }
    }

    /// Its one version.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::V3 => "v3",
            Self::V1 => "v1",
        }
    }

    /// As `apiVersion` has it.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V3 => "projectcalico.org/v3",
            Self::V1 => "crd.projectcalico.org/v1",
        }
    }

    /// What a kind is called in the group, and its plural.
    #[must_use]
    pub fn names(self, kind: Kind) -> (&'static str, &'static str) {
        match (self, kind) {
            (Self::V1, Kind::IpamConfiguration) => ("IPAMConfig", "ipamconfigs"),
            _ => (kind.as_str(), kind.plural()),
        }
    }

    /// The kind that is called so in the group.
    #[must_use]
    pub fn kind(self, name: &str) -> Option<Kind> {
        Kind::ALL
            .iter()
            .copied()
            .find(|k| self.names(*k).0 == name && schema_of(*k, self).is_some())
    }
}

/// The schema of a kind's objects; none for Node, Profile and WorkloadEndpoint, which are not stored as such.
#[must_use]
pub fn schema_of(kind: Kind, group: Group) -> Option<&'static Schema> {
    static ALL: OnceLock<BTreeMap<(Group, Kind), Schema>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let pairs = Group::ALL
            .into_iter()
            .flat_map(|g| Kind::ALL.iter().map(move |k| (g, *k)));
        pairs
            .filter_map(|(g, k)| Some(((g, k), kinds::object_schema(k, g)?)))
            .collect()
    });
    all.get(&(group, kind))
}

/// The schema of ClusterNetworkPolicy.
#[must_use]
pub fn cluster_network_policy() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(kinds::cluster_network_policy)
}

/// For [`crd`]: no descriptions.
pub fn describe_nothing(_: &str, _: &str) -> Option<String> {
    None
}

/// The definition of a kind in a group, with what `describe` says of each type's field; none for a kind without a schema.
#[must_use]
pub fn crd(kind: Kind, group: Group, describe: &dyn Fn(&str, &str) -> Option<String>) -> Option<Value> {
    let schema = schema_of(kind, group)?;
    let (name, plural) = group.names(kind);
    let mut names = Map::new();
    names.insert("kind".to_owned(), name.into());
    names.insert("listKind".to_owned(), format!("{name}List").into());
    names.insert("plural".to_owned(), plural.into());
    let short = short_names(kind);
    if group == Group::V3 && !short.is_empty() {
        names.insert("shortNames".to_owned(), short.into());
    }
    names.insert("singular".to_owned(), name.to_lowercase().into());

    let mut version = Map::new();
    let columns: Vec<Value> = columns(kind)
        .iter()
        .map(|(name, value_type, path)| json!({"jsonPath": path, "name": name, "type": value_type}))
        .collect();
    if group == Group::V3 && !columns.is_empty() {
        version.insert("additionalPrinterColumns".to_owned(), columns.into());
    }
    version.insert("name".to_owned(), group.version().into());
    version.insert(
        "schema".to_owned(),
        json!({"openAPIV3Schema": schema.to_json(describe)}),
    );
    if group == Group::V3 && has_tier(kind) {
        version.insert("selectableFields".to_owned(), json!([{"jsonPath": ".spec.tier"}]));
    }
    version.insert("served".to_owned(), true.into());
    version.insert("storage".to_owned(), true.into());
    if schema.properties.contains_key("status") {
        version.insert("subresources".to_owned(), json!({"status": {}}));
    }
    Some(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{}", group.name())},
        "spec": {
            "group": group.name(),
            "names": names,
            "scope": if kind.namespaced() { "Namespaced" } else { "Cluster" },
            "versions": [version],
        },
    }))
}

fn has_tier(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NetworkPolicy
            | Kind::GlobalNetworkPolicy
            | Kind::StagedNetworkPolicy
            | Kind::StagedGlobalNetworkPolicy
    )
}

/// What `kubectl get` takes beside the plural.
fn short_names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::NetworkPolicy => &["cnp", "caliconetworkpolicy"],
        Kind::GlobalNetworkPolicy => &["gnp", "cgnp"],
        Kind::StagedNetworkPolicy => &["scnp", "snp"],
        Kind::StagedGlobalNetworkPolicy => &["sgnp"],
        Kind::StagedKubernetesNetworkPolicy => &["sknp"],
        Kind::GlobalNetworkSet => &["gns"],
        Kind::HostEndpoint => &["hep", "heps"],
        Kind::BgpConfiguration => &["bgpconfig", "bgpconfigs"],
        Kind::BlockAffinity => &["affinity", "affinities"],
        Kind::ClusterInformation => &["clusterinfo", "clusterinfos"],
        Kind::IpamConfiguration => &["ipamconfig", "ipamconfigs"],
        Kind::KubeControllersConfiguration => &["kcc", "kccs"],
        _ => &[],
    }
}

type Column = (&'static str, &'static str, &'static str);

const TIER: Column = ("Tier", "string", ".spec.tier");
const ORDER: Column = ("Order", "number", ".spec.order");
const AGE: Column = ("Age", "date", ".metadata.creationTimestamp");

/// What `kubectl get` prints of an object: heading, type and where it is.
fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::NetworkPolicy | Kind::StagedNetworkPolicy | Kind::StagedGlobalNetworkPolicy => &[TIER, ORDER],
        Kind::GlobalNetworkPolicy => &[TIER, ORDER, AGE],
        Kind::GlobalNetworkSet => &[AGE],
        Kind::Tier => &[
            ("Order", "integer", ".spec.order"),
            ("DefaultAction", "string", ".spec.defaultAction"),
            (
                "Status",
                "string",
                ".status.conditions[?(@.type=='Ready')].reason",
            ),
        ],
        Kind::HostEndpoint => &[
            ("Node", "string", ".spec.node"),
            ("Interface", "string", ".spec.interfaceName"),
        ],
        Kind::IpPool => &[
            ("CIDR", "string", ".spec.cidr"),
            ("VXLAN", "string", ".spec.vxlanMode"),
            ("IPIP", "string", ".spec.ipipMode"),
            ("NAT", "boolean", ".spec.natOutgoing"),
            (
                "Allocatable",
                "string",
                ".status.conditions[?(@.type=='Allocatable')].status",
            ),
            AGE,
        ],
        Kind::IpamBlock => &[
            ("CIDR", "string", ".spec.cidr"),
            ("Affinity", "string", ".spec.affinity"),
            ("ClaimTime", "date", ".spec.affinityClaimTime"),
        ],
        Kind::IpamHandle => &[("ID", "string", ".spec.handleID")],
        Kind::BlockAffinity => &[
            ("CIDR", "string", ".spec.cidr"),
            ("Node", "string", ".spec.node"),
            ("Type", "string", ".spec.type"),
        ],
        Kind::IpamConfiguration => &[
            ("StrictAffinity", "boolean", ".spec.strictAffinity"),
            ("MaxBlocksPerHost", "integer", ".spec.maxBlocksPerHost"),
            ("AutoAllocateBlocks", "boolean", ".spec.autoAllocateBlocks"),
        ],
        Kind::ClusterInformation => &[
            ("Version", "string", ".spec.calicoVersion"),
            ("Ready", "boolean", ".spec.datastoreReady"),
            ("Types", "string", ".spec.clusterType"),
        ],
        Kind::BgpPeer => &[
            ("Node Selector", "string", ".spec.nodeSelector"),
            ("Node", "string", ".spec.node"),
            ("Local ASN", "string", ".spec.localASNumber"),
            ("Peer Selector", "string", ".spec.peerSelector"),
            ("Peer IP", "string", ".spec.peerIP"),
            ("Peer ASN", "string", ".spec.asNumber"),
        ],
        Kind::CalicoNodeStatus => &[
            ("Node", "string", ".spec.node"),
            ("Classes", "string", ".spec.classes"),
        ],
        _ => &[],
    }
}
