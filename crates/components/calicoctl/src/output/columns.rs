//! The columns of each kind.

use std::{borrow::Cow, fmt::Display};

use caracal_api::{AsNumber, Kind, LabelSelector, Resource};
use serde_json::Value;

use super::{number::go_float, path::Path};

/// What a cell shows that is not in the object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings {
    /// The AS number of nodes that have none of their own.
    pub(crate) as_number: AsNumber,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            as_number: AsNumber(64_512),
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Column {
    /// One of the kind's own.
    Own(&'static str),
    /// A field that the user chose.
    Field { heading: String, path: Path },
}

impl Column {
    /// What stands above it.
    pub(crate) fn heading(&self) -> &str {
        match self {
            Self::Own(heading) => heading,
            Self::Field { heading, .. } => heading,
        }
    }

    /// What stands in it.
    pub(crate) fn cell<'a>(&self, resource: &'a Resource, around: &Surroundings) -> Cow<'a, str> {
        match self {
            Self::Own(heading) => match plain(resource, heading) {
                Some(text) => text.into(),
                None => special(resource, heading, around).unwrap_or_default().into(),
            },
            Self::Field { path, .. } => path.text(&resource.to_value()).into(),
        }
    }
}

/// The columns of a kind, and with all namespaces in one table, the namespace before them.
pub(crate) fn columns(kind: Kind, wide: bool, all_namespaces: bool) -> Vec<Column> {
    let namespace = (all_namespaces && kind.namespaced()).then_some("NAMESPACE");
    let own = headings(kind, wide).iter().copied();
    namespace.into_iter().chain(own).map(Column::Own).collect()
}

/// What a user asks for as a column: a heading of the kind's, or `HEADING:.path.to.field`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Heading(String),
    Field { heading: String, path: Path },
}

impl Wanted {
    /// Reads the list behind `custom-columns=`.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub(crate) fn parse(list: &str) -> Result<Vec<Self>, String> {
        list.split(',')
            .map(str::trim)
            .map(|one| match one.split_once(':') {
                Some((heading, path)) => Ok(Self::Field {
                    heading: heading.to_owned(),
                    path: Path::parse(path)?,
                }),
                None if one.is_empty() => Err(
                    "custom-columns= takes headings with commas between them, such as NAME,CIDR".to_owned(),
                ),
                None => Ok(Self::Heading(one.to_ascii_uppercase())),
            })
            .collect()
    }
}

/// The columns that were asked for.
///
/// # Errors
/// When the kind has no column of a heading.
pub(crate) fn chosen(kind: Kind, wanted: &[Wanted]) -> Result<Vec<Column>, String> {
    let namespace = kind.namespaced().then_some("NAMESPACE");
    let mut known: Vec<&'static str> = namespace.into_iter().chain(["NAME"]).collect();
    known.extend(headings(kind, true).iter().filter(|h| **h != "NAME"));
    wanted
        .iter()
        .map(|w| match w {
            Wanted::Field { heading, path } => Ok(Column::Field {
                heading: heading.clone(),
                path: path.clone(),
            }),
            Wanted::Heading(heading) => match known.iter().find(|k| *k == heading) {
                Some(own) => Ok(Column::Own(own)),
                None => Err(format!(
                    "{kind} has no column {heading:?}: it has {}; any field is shown by HEADING:.path.to.field",
                    known.join(", ")
                )),
            },
        })
        .collect()
}

#[rustfmt::skip]
fn headings(kind: Kind, wide: bool) -> &'static [&'static str] {
    let (narrow, broad): (&'static [&'static str], &'static [&'static str]) = match kind {
        Kind::NetworkPolicy | Kind::GlobalNetworkPolicy | Kind::StagedNetworkPolicy | Kind::StagedGlobalNetworkPolicy =>
            (&["NAME", "TIER"], &["NAME", "TIER", "ORDER", "SELECTOR"]),
        Kind::StagedKubernetesNetworkPolicy => (&["NAME"], &["NAME", "PODSELECTOR"]),
        Kind::Tier => (&["NAME", "ORDER"], &["NAME", "ORDER"]),
        Kind::NetworkSet | Kind::GlobalNetworkSet => (&["NAME"], &["NAME", "NETS"]),
        Kind::Profile => (&["NAME"], &["NAME", "LABELS"]),
        Kind::WorkloadEndpoint => (
            &["WORKLOAD", "NODE", "NETWORKS", "INTERFACE"],
            &["NAME", "WORKLOAD", "NODE", "NETWORKS", "INTERFACE", "PROFILES", "NATS"],
        ),
        Kind::HostEndpoint => (&["NAME", "NODE"], &["NAME", "NODE", "INTERFACE", "IPS", "PROFILES"]),
        Kind::Node => (&["NAME"], &["NAME", "ASN", "IPV4", "IPV6"]),
        Kind::IpPool => (
            &["NAME", "CIDR", "SELECTOR"],
            &["NAME", "CIDR", "NAT", "IPIPMODE", "VXLANMODE", "DISABLED", "DISABLEBGPEXPORT", "SELECTOR", "ASSIGNMENTMODE"],
        ),
        Kind::IpReservation => (&["NAME"], &["NAME", "CIDRS"]),
        Kind::IpamConfiguration => (
            &["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS"],
            &["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS", "MAXBLOCKSPERHOST"],
        ),
        Kind::ClusterInformation => {
            let all = &["NAME", "CLUSTERGUID", "CLUSTERTYPE", "CALICOVERSION", "DATASTOREREADY"];
            (all, all)
        }
        Kind::BgpConfiguration => {
            let all = &["NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER"];
            (all, all)
        }
        Kind::BgpPeer => {
            let all = &["NAME", "PEERIP", "NODE", "ASN"];
            (all, all)
        }
        Kind::BgpFilter => {
            let all = &["NAME", "NUMEXPORTV4", "NUMIMPORTV4", "NUMEXPORTV6", "NUMIMPORTV6"];
            (all, all)
        }
        Kind::CalicoNodeStatus => (&["NAME", "NODE"], &["NAME", "NODE", "CLASSES"]),
        Kind::KubeControllersConfiguration | Kind::FelixConfiguration => (&["NAME"], &["NAME"]),
        Kind::IpamBlock => (&["NAME"], &["NAME", "CIDR", "AFFINITY"]),
        Kind::IpamHandle => (&["NAME"], &["NAME", "HANDLE"]),
        Kind::BlockAffinity => (&["NAME"], &["NAME", "CIDR", "NODE", "STATE"]),
        Kind::KubernetesService | Kind::KubernetesEndpointSlice | Kind::LiveMigration => (&["NAME"], &["NAME"]),
    };
    if wide { broad } else { narrow }
}

/// A cell of a policy of any kind with a tier.
macro_rules! policy {
    ($object:expr, $heading:expr) => {
        match $heading {
            "TIER" => $object.spec.tier.clone(),
            "ORDER" => order($object.spec.order),
            "SELECTOR" => $object.spec.selector.clone(),
            _ => return None,
        }
    };
}

/// What stands in the object as the cell has it: of endpoints there are many, and no piece of one is copied twice.
fn plain<'a>(resource: &'a Resource, heading: &str) -> Option<&'a str> {
    match (heading, resource) {
        ("NAME", _) => Some(&resource.metadata().name),
        ("NAMESPACE", _) => Some(resource.metadata().namespace.as_deref().unwrap_or_default()),
        ("WORKLOAD", Resource::WorkloadEndpoint(o)) if o.spec.orchestrator == "k8s" => Some(&o.spec.pod),
        ("WORKLOAD", Resource::WorkloadEndpoint(o)) => Some(&o.spec.workload),
        ("NODE", Resource::WorkloadEndpoint(o)) => Some(&o.spec.node),
        ("INTERFACE", Resource::WorkloadEndpoint(o)) => Some(&o.spec.interface_name),
        _ => None,
    }
}

fn special(resource: &Resource, heading: &str, around: &Surroundings) -> Option<String> {
    Some(match resource {
        Resource::NetworkPolicy(o) => policy!(o, heading),
        Resource::GlobalNetworkPolicy(o) => policy!(o, heading),
        Resource::StagedNetworkPolicy(o) => policy!(o, heading),
        Resource::StagedGlobalNetworkPolicy(o) => policy!(o, heading),
        Resource::StagedKubernetesNetworkPolicy(o) => o.spec.pod_selector.as_ref().map(requirements)?,
        Resource::Tier(o) => order(o.spec.order),
        Resource::NetworkSet(o) => o.spec.nets.join(","),
        Resource::GlobalNetworkSet(o) => o.spec.nets.join(","),
        Resource::Profile(o) => {
            let labels = o.spec.labels_to_apply.iter();
            joined(labels.map(|(k, v)| format!("{k}={v}")))
        }
        Resource::WorkloadEndpoint(_) | Resource::HostEndpoint(_) | Resource::Node(_) => {
            return endpoint(resource, heading, around);
        }
        Resource::BgpConfiguration(_) | Resource::BgpPeer(_) | Resource::BgpFilter(_) => {
            return bgp(resource, heading);
        }
        Resource::ClusterInformation(o) => match heading {
            "CLUSTERGUID" => o.spec.cluster_guid.clone(),
            "CLUSTERTYPE" => o.spec.cluster_type.clone(),
            "CALICOVERSION" => o.spec.calico_version.clone(),
            _ => o.spec.datastore_ready?.to_string(),
        },
        Resource::CalicoNodeStatus(o) => match heading {
            "NODE" => o.spec.node.clone(),
            _ => joined(o.spec.classes.iter().map(named)),
        },
        _ => return addresses(resource, heading),
    })
}

fn endpoint(resource: &Resource, heading: &str, around: &Surroundings) -> Option<String> {
    Some(match resource {
        Resource::WorkloadEndpoint(o) => match heading {
            "NETWORKS" => o.spec.ip_networks.join(","),
            "PROFILES" => o.spec.profiles.join(","),
            _ => {
                let nats = o.spec.ip_nats.iter();
                joined(nats.map(|n| format!("{}->{}", n.external_ip, n.internal_ip)))
            }
        },
        Resource::HostEndpoint(o) => match heading {
            "NODE" => o.spec.node.clone(),
            "INTERFACE" => o.spec.interface_name.clone(),
            "IPS" => o.spec.expected_ips.join(","),
            _ => o.spec.profiles.join(","),
        },
        Resource::Node(o) => {
            let bgp = o.spec.bgp.as_ref()?;
            match heading {
                // In brackets: the cluster's, not the node's own.
                "ASN" => bgp
                    .as_number
                    .map_or_else(|| format!("({})", around.as_number), |n| n.to_string()),
                "IPV4" => bgp.ipv4_address.clone(),
                _ => bgp.ipv6_address.clone(),
            }
        }
        _ => return None,
    })
}

fn bgp(resource: &Resource, heading: &str) -> Option<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    Some(match resource {
        Resource::BgpConfiguration(o) => match heading {
            "LOGSEVERITY" => o.spec.log_severity_screen.clone(),
            "MESHENABLED" => or_dash(o.spec.node_to_node_mesh_enabled.map(|b| b.to_string())),
            _ => or_dash(o.spec.as_number.map(|n| n.to_string())),
        },
        Resource::BgpPeer(o) => match heading {
            "PEERIP" => o.spec.peer_ip.clone(),
            "NODE" if !o.spec.node.is_empty() => o.spec.node.clone(),
            "NODE" if o.spec.node_selector.is_empty() => "(global)".to_owned(),
            "NODE" => o.spec.node_selector.clone(),
            _ => o.spec.as_number?.to_string(),
        },
        Resource::BgpFilter(o) => {
            let rules = match heading {
                "NUMEXPORTV4" => &o.spec.export_v4,
                "NUMIMPORTV4" => &o.spec.import_v4,
                "NUMEXPORTV6" => &o.spec.export_v6,
                _ => &o.spec.import_v6,
            };
            rules.len().to_string()
        }
        _ => return None,
    })
}

fn addresses(resource: &Resource, heading: &str) -> Option<String> {
    Some(match resource {
        Resource::IpPool(o) => match heading {
            "CIDR" => o.spec.cidr.clone(),
            "SELECTOR" => o.spec.node_selector.clone(),
            "NAT" => o.spec.nat_outgoing.to_string(),
            "IPIPMODE" => named(&o.spec.ipip_mode.unwrap_or_default()),
            "VXLANMODE" => named(&o.spec.vxlan_mode.unwrap_or_default()),
            "DISABLED" => o.spec.disabled.to_string(),
            "DISABLEBGPEXPORT" => o.spec.disable_bgp_export.to_string(),
            _ => named(&o.spec.assignment_mode.unwrap_or_default()),
        },
        Resource::IpReservation(o) => o.spec.reserved_cidrs.join(","),
        Resource::IpamConfiguration(o) => match heading {
            "STRICTAFFINITY" => o.spec.strict_affinity.to_string(),
            "AUTOALLOCATEBLOCKS" => o.spec.auto_allocate_blocks.to_string(),
            _ => o.spec.max_blocks_per_host.to_string(),
        },
        Resource::IpamBlock(o) => match heading {
            "CIDR" => o.spec.cidr.clone(),
            _ => o.spec.affinity.clone()?,
        },
        Resource::IpamHandle(o) => o.spec.handle_id.clone(),
        Resource::BlockAffinity(o) => match heading {
            "CIDR" => o.spec.cidr.clone(),
            "NODE" => o.spec.node.clone(),
            _ => o.spec.state.clone(),
        },
        _ => return None,
    })
}

/// An order; Calico's table prints Go's empty pointer for none.
fn order(order: Option<f64>) -> String {
    order.map_or_else(|| "<nil>".to_owned(), go_float)
}

fn joined<T: Display>(parts: impl Iterator<Item = T>) -> String {
    parts.map(|p| p.to_string()).collect::<Vec<_>>().join(",")
}

/// The name of a variant as it is written in an object.
fn named(variant: &impl serde::Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

/// A Kubernetes selector in one line.
fn requirements(selector: &LabelSelector) -> String {
    let equal = selector.match_labels.iter().map(|(k, v)| format!("{k}={v}"));
    let others = selector.match_expressions.iter().map(|e| {
        let values = e.values.join(",");
        let operator = named(&e.operator);
        match operator.as_str() {
            "Exists" => e.key.clone(),
            "DoesNotExist" => format!("!{}", e.key),
            "In" => format!("{} in ({values})", e.key),
            _ => format!("{} notin ({values})", e.key),
        }
    });
    joined(equal.chain(others))
}
